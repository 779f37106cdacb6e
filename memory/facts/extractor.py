"""Facts from turns, by a language model, when somebody asks for it.

Never in the background: what a model takes from a conversation costs money, and waits for approval unless the tenant's rule
says otherwise. Nothing that is known already is shown to the model, so nothing that was recalled can come back from it.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from memory.facts.extraction import Piece, Refused, Statement, pieces_of, read_answer
from memory.facts.service import FactService
from memory.models.chat_answers import ChatFailed
from memory.models.chat_model import ChatModel, Message
from memory.models.prompts import Prompt
from memory.text.languages import language_of
from memory.truth.records import SessionRow
from memory.truth.store import Store
from shared.errors import Conflict, Unavailable
from shared.fact_messages import ExtractAnswer, ExtractedFact, ExtractRequest, FactIn, FactTurn, RefusedFact
from shared.memory_messages import Turn, TurnsQuery
from shared.tokens import estimate_tokens

# A window counts the model's own tokens: of code and ids it makes a third more of them than the estimate does.
_WINDOW_SHARE: Final = 0.75
# What it may take to answer: some thirty facts of a window of 8,192 tokens.
_WINDOW_TO_ANSWER: Final = 8
_RETRY_S: Final = 5.0


class FactExtractor:
    def __init__(
        self,
        chat: ChatModel,
        prompt: Prompt,
        store: Store,
        facts: FactService,
        *,
        window_tokens: int,
        thinking_tokens: int,
    ) -> None:
        self._chat = chat
        self._prompt = prompt
        self._store = store
        self._facts = facts
        self._answer_tokens = window_tokens // _WINDOW_TO_ANSWER
        self._thinking_tokens = thinking_tokens
        prompt_tokens = sum(estimate_tokens(part.template) for part in (prompt.system, prompt.user))
        left = window_tokens - self._answer_tokens - thinking_tokens - prompt_tokens
        self._piece_tokens = max(256, int(_WINDOW_SHARE * left))
        self._origin = f"llm:{chat.model}@{prompt.name}"

    async def extract(self, row: SessionRow, request: ExtractRequest) -> ExtractAnswer:
        """Raises Conflict for a session of nobody, and Unavailable where the model does not answer. What was stored until
        then stays, and is found unchanged when the call is repeated."""
        if row.user_id is None:
            raise Conflict(
                f"session {row.session_id!r} belongs to no user, and facts are somebody's; give it a user_id"
            )
        page = await self._store.turn_page(row, TurnsQuery(after=request.after, limit=request.limit))
        facts: list[ExtractedFact] = []
        refused: list[Refused] = []
        for piece in await asyncio.to_thread(pieces_of, page.items, self._piece_tokens):
            statements, wrong = await self._asked(piece)
            refused += wrong
            for statement in statements:
                if await self._facts.is_rejected(row.tenant, row.user_id, statement.text):
                    refused.append(Refused(statement.text, "rejected"))
                else:
                    facts.append(await self._stored(row, row.user_id, statement, page.items))
        for each in refused:
            self._facts.refused.labels(each.reason).inc()
        return ExtractAnswer(
            facts=facts,
            refused=[RefusedFact(text=each.text, reason=each.reason) for each in refused],
            last_seq=page.items[-1].seq if page.items else request.after,
            has_more=page.next_cursor is not None,
        )

    async def _asked(self, piece: Piece) -> tuple[list[Statement], list[Refused]]:
        language = await asyncio.to_thread(language_of, "\n".join(piece.said.values()))
        system, user = self._prompt.fill(piece.text, tokens_max=self._answer_tokens, language=language)
        try:
            completion = await self._chat.complete(
                [Message("system", system), Message("user", user)],
                tokens_max=self._answer_tokens + self._thinking_tokens,
            )
        except ChatFailed as error:
            raise Unavailable(
                f"the language model gave no answer: {error}", retry_after_s=max(_RETRY_S, error.retry_after_s)
            ) from error
        return await asyncio.to_thread(read_answer, completion.text, piece)

    async def _stored(
        self, row: SessionRow, user_id: str, statement: Statement, turns: Sequence[Turn]
    ) -> ExtractedFact:
        """It holds from when it was said last."""
        sources = [turn for turn in turns if turn.seq in statement.turns]
        given = FactIn(
            id=statement.id_in(row.session_id),
            user_id=user_id,
            text=statement.text,
            kind=statement.kind,
            key=statement.key,
            valid_from=max(turn.created_at for turn in sources),
            sources=[FactTurn(session_id=row.session_id, turn_id=turn.id) for turn in sources],
        )
        answer = await self._facts.put(row.tenant, given, origin=self._origin)
        return ExtractedFact(
            id=answer.id, status=answer.status, replaced=answer.replaced, similar=answer.similar, text=statement.text
        )
