"""What recall gives to a context: turns with those beside them, and for a turn that may be too large, the span that stands for it.

Measured in docs/ARCHITECTURE.md: as many turns as may fit beat fewer with everything around them, so the turns beside a hit come
only with the best ones, where they are small: they say what "yes" was an answer to.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

import msgspec

from memory.compaction.span_text import render
from memory.compaction.spans import Spans
from memory.context import Candidate
from memory.recall.recall import Recall
from memory.truth.records import RecalledFact, RecalledTurn, Scope, speaker_of
from memory.truth.turns import Turns
from shared.memory_messages import ContextRequest, RecallRequest, Span, SpanSource, Turn, TurnSource
from shared.tokens import estimate_tokens

# A turn takes 20 tokens or more with its date and speaker. Not fewer than an agent may want to be told of, not more than it reads.
_TURN_TOKENS: Final = 20
_TURNS_MIN: Final = 30
_TURNS_MAX: Final = 500
# Three times what a tenth of 2,000 tokens holds.
_FACTS_MAX: Final = 30
# Of so many of the best, the turns beside them come along if they take no more than this part of the budget.
_WITH_NEIGHBOURS: Final = 3
_NEIGHBOUR_PART: Final = 32
# What takes more than this part of the budget may have to give way to its span.
_LARGE_PART: Final = 8

# What names a turn among all: session and number.
Place = tuple[int, int]


class RecalledParts:
    def __init__(self, recall: Recall, turns: Turns, spans: Spans) -> None:
        self._recall = recall
        self._turns = turns
        self._spans = spans

    async def candidates(
        self, scope: Scope, request: ContextRequest, query: str, *, known: Collection[Place], with_facts: bool
    ) -> tuple[list[Candidate], list[RecalledFact], bool]:
        """Best first: what was said, without the turns that are `known`, and facts if wanted, each among their own. And whether
        only words were compared."""
        limit = min(_TURNS_MAX, max(_TURNS_MIN, request.max_tokens // _TURN_TOKENS))
        wanted = RecallRequest(user_id=request.user_id, as_of=request.as_of, kinds=("turn",), limit=limit)
        about = [msgspec.structs.replace(wanted, kinds=("fact",), limit=_FACTS_MAX)] if with_facts else []
        found, *others = await self._recall.find_each(scope, [wanted, *about], query)
        turns = [hit.item for hit in found.hits if isinstance(hit.item, RecalledTurn)]
        given = {place_of(turn): turn_candidate(turn) for turn in turns if place_of(turn) not in known}
        stand_ins = await self._stand_ins(given, request)
        beside = await self._beside(turns[:_WITH_NEIGHBOURS], request)
        candidates: dict[Place, Candidate] = {}
        for turn in turns:
            for place, each in ((place_of(turn), given.get(place_of(turn))), *beside.get(place_of(turn), ())):
                if each is not None and place not in known:
                    candidates.setdefault(place, each.with_stand_in(stand_ins.get(place)))
        facts = [hit.item for other in others for hit in other.hits if isinstance(hit.item, RecalledFact)]
        return list(candidates.values()), facts, found.degraded

    async def _beside(
        self, turns: Sequence[RecalledTurn], request: ContextRequest
    ) -> dict[Place, list[tuple[Place, Candidate]]]:
        tokens_max = request.max_tokens // _NEIGHBOUR_PART
        found: dict[Place, list[tuple[Place, Candidate]]] = {}
        for turn in turns:
            before, after = await self._turns.around(turn, 1, until=request.as_of)
            found[place_of(turn)] = [
                ((turn.session, each.seq), _neighbour_candidate(turn.session_id, each))
                for each in (*before, *after)
                if each.tokens <= tokens_max
            ]
        return found

    async def _stand_ins(self, given: dict[Place, Candidate], request: ContextRequest) -> dict[Place, Candidate]:
        large = [
            place for place, each in given.items() if estimate_tokens(each.text) > request.max_tokens // _LARGE_PART
        ]
        spans = await self._spans.over(large, as_of=request.as_of) if large else {}
        return {
            place: span_candidate(span, (span.since.isoformat(), span.session_id, span.first_seq))
            for place, span in spans.items()
        }


def place_of(turn: RecalledTurn) -> Place:
    return turn.session, turn.seq


def said(moment: datetime, role: str, name: str | None, content: str) -> str:
    return f"[{moment:%Y-%m-%d %H:%M}] {speaker_of(role, name)}: {content}"


def turn_candidate(turn: RecalledTurn) -> Candidate:
    source = TurnSource(session_id=turn.session_id, turn_id=turn.turn_id, seq=turn.seq)
    return _quoted(source, turn.created_at, said(turn.created_at, turn.role, turn.name, turn.content))


def _neighbour_candidate(session_id: str, turn: Turn) -> Candidate:
    source = TurnSource(session_id=session_id, turn_id=turn.id, seq=turn.seq)
    return _quoted(source, turn.created_at, said(turn.created_at, turn.role, turn.name, turn.content))


def _quoted(source: TurnSource, moment: datetime, text: str) -> Candidate:
    """Read in the order in which they were said. Every line is quoted, so that none can pose as the context's own."""
    return Candidate("> " + text.replace("\n", "\n> "), source, (moment.isoformat(), source.session_id, source.seq))


def span_candidate(span: Span, order: tuple[str | int, ...]) -> Candidate:
    """Quoted as recalled turns are. The first line says what it stands for, and by which name it opens."""
    source = SpanSource(session_id=span.session_id, span_id=span.id, first_seq=span.first_seq, last_seq=span.last_seq)
    text = render(span.text, span.ledger).replace("\n", "\n> ")
    place = f"turns {span.first_seq} to {span.last_seq}, {span.since:%Y-%m-%d} to {span.until:%Y-%m-%d}, span {span.id}"
    return Candidate(f"[{place}]\n> {text}", source, order)
