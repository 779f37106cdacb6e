"""What the memory service does, once for every way in: HTTP and agents' tools. Each method takes the caller's tenant and
answers a message, or raises a ServiceError."""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

import structlog
from prometheus_client import CollectorRegistry, Counter

from memory.compaction.compactor import Compactor
from memory.compaction.spans import Spans
from memory.context import Candidate, Found, assemble, document_room
from memory.embeddings import Embeddings
from memory.facts.extractor import FactExtractor
from memory.facts.parts import held_candidates
from memory.facts.reading import HeldFact
from memory.facts.service import FactService
from memory.feedback.store import Feedbacks
from memory.forgetting.erasing import Erasing
from memory.recall.indexes import ScopeIndexes
from memory.recall.parts import RecalledParts, said, span_candidate
from memory.recall.recall import Recall
from memory.settings import MemorySettings
from memory.transfer.exports import Exports
from memory.transfer.imports import Imports
from memory.truth.history import History
from memory.truth.records import ItemKey, RecalledFact, Scope, SessionRow
from memory.truth.store import Store
from shared.errors import Conflict, FieldError, InvalidFields, NotFound, Unavailable, invalid
from shared.fact_messages import ExtractAnswer, ExtractRequest
from shared.forgetting_messages import ForgetRequest
from shared.keys import Principal
from shared.memory_messages import (
    AppendAnswer,
    AppendRequest,
    CompactAnswer,
    CompactRequest,
    ContextAnswer,
    ContextRequest,
    DocumentSource,
    EraseReport,
    RecallAnswer,
    RecallRequest,
    Session,
    SessionSpec,
    SessionsQuery,
    Span,
    SpansQuery,
    Turn,
    TurnIn,
    TurnSource,
    TurnsQuery,
)
from shared.memory_records import ExportQuery, ImportReport
from shared.messages import CheckReport, Finding
from shared.metadata import check_metadata
from shared.paging import Page
from shared.retrieval_client import RetrievalClient
from shared.retrieval_messages import QUERY_LENGTH_MAX, Hit
from shared.routes import Incoming, Records
from shared.snapshots import Snapshots

log = structlog.get_logger()

# More never fit a context together with the rest; omitted ones are counted among these.
_DOCUMENTS_MAX = 20
# What a passage takes, a paragraph or two, and what stands around it of that: its place and its title. Where passages are
# shorter or titles longer than that, the last ones are left out.
_PASSAGE_TOKENS = 160
_FENCE_TOKENS = 40
# Less is not worth a fence.
_PASSAGE_TOKENS_MIN = 32


class MemoryService:
    def __init__(
        self,
        settings: MemorySettings,
        *,
        store: Store,
        snapshots: Snapshots,
        history: History,
        indexes: ScopeIndexes,
        embeddings: Embeddings,
        recall: Recall,
        recalled: RecalledParts,
        spans: Spans,
        compactor: Compactor,
        exports: Exports,
        imports: Imports,
        erasing: Erasing,
        facts: FactService,
        feedback: Feedbacks,
        extractor: FactExtractor | None,
        documents: RetrievalClient,
        registry: CollectorRegistry,
    ) -> None:
        """`documents` is a client without a key of its own: it asks with the caller's. Without a language model there is no
        `extractor`."""
        self.settings = settings
        self.store = store
        self.snapshots = snapshots
        self._history = history
        self.embeddings = embeddings
        self._indexes = indexes
        self._recall = recall
        self._recalled = recalled
        self._spans = spans
        self._compactor = compactor
        self.facts = facts
        self.feedback = feedback
        self._extractor = extractor
        self._exports = exports
        self._imports = imports
        self._documents = documents
        self.erasing = erasing
        turns = Counter("diptych_turns", "Turns appended.", ["status"], registry=registry)
        self._turns = {status: turns.labels(status) for status in ("stored", "duplicate")}

    async def put_session(
        self, tenant: str, session_id: str, spec: SessionSpec, *, only_of: str | None = None
    ) -> Session:
        self._check_metadata(spec.metadata, "$.metadata")
        policy = spec.policy
        if policy and policy.tail_tokens_keep > policy.tail_tokens_max:
            raise invalid("$.policy.tail_tokens_keep", "must not be larger than tail_tokens_max")
        if policy and policy.summarizer == "llm" and self.settings.llm_url is None:
            raise invalid("$.policy.summarizer", "no language model is configured here (llm_url); use extractive")
        session = await self.store.put_session(tenant, session_id, spec, only_of=only_of)
        if spec.retention is not None:
            self.erasing.wake()
        return session

    async def session(self, tenant: str, session_id: str) -> Session:
        return await self.store.describe(await self.store.session(tenant, session_id))

    async def session_page(self, tenant: str, query: SessionsQuery) -> Page[Session]:
        if query.user_id is None and query.agent_id is None:
            raise invalid(
                "query.user_id", "give user_id or agent_id: sessions are listed for somebody, never for everybody"
            )
        return await self.store.session_page(
            tenant, user_id=query.user_id, agent_id=query.agent_id, cursor=query.cursor, limit=query.limit
        )

    async def erase_fact(self, principal: Principal, fact_id: str) -> EraseReport:
        """As forgetting erases. Raises NotFound."""
        await self.facts.record(principal.tenant, fact_id)
        return await self.erasing.forget(principal, ForgetRequest(ids=[fact_id], dry_run=False))

    async def erase_feedback(self, principal: Principal, feedback_id: str) -> EraseReport:
        """As forgetting erases. Raises NotFound."""
        return await self.erasing.erase_feedback(principal, await self.feedback.key(principal.tenant, feedback_id))

    async def append(
        self, tenant: str, session_id: str, request: AppendRequest, *, only_of: str | None = None
    ) -> AppendAnswer:
        """Returns once the turns are durable; they can be recalled from then on, by meaning a moment later."""
        self._check_turns(request.turns)
        answer = await self.store.append(tenant, session_id, request, only_of=only_of)
        self.embeddings.wake()
        if answer.compaction == "queued":
            self._compactor.wake()
        for turn in answer.turns:
            self._turns[turn.status].inc()
        return answer

    async def turn_page(self, tenant: str, session_id: str, query: TurnsQuery) -> Page[Turn]:
        return await self.store.turn_page(await self.store.session(tenant, session_id), query)

    async def turns_before(self, tenant: str, session_id: str, *, before: int | None, limit: int) -> list[Turn]:
        """The newest turns in front of a number, or of all, in order. Raises NotFound."""
        return await self.store.turns_before(await self.store.session(tenant, session_id), before=before, limit=limit)

    async def span_page(self, tenant: str, session_id: str, query: SpansQuery) -> Page[Span]:
        return await self._spans.page(await self.store.session(tenant, session_id), query)

    async def span_turns(self, tenant: str, span_id: str, query: TurnsQuery) -> Page[Turn]:
        return await self._spans.turn_page(tenant, span_id, query)

    async def compact(self, tenant: str, session_id: str, request: CompactRequest) -> CompactAnswer:
        """Returns when all that is to be folded is."""
        row = await self.store.session(tenant, session_id)
        keep = row.policy.tail_tokens_keep if request.tail_tokens_keep is None else request.tail_tokens_keep
        created, folded = await self._compactor.compact(row, tokens_max=keep, tokens_keep=keep)
        now = await self.store.describe(row)
        return CompactAnswer(spans_created=created, turns_folded=folded, tail_tokens=now.tail_tokens)

    async def extract(self, tenant: str, session_id: str, request: ExtractRequest) -> ExtractAnswer:
        """Raises Conflict where no language model is configured."""
        row = await self.store.session(tenant, session_id)
        if self._extractor is None:
            raise Conflict("no language model is configured; set llm_url and llm_model")
        return await self._extractor.extract(row, request)

    async def recall(self, tenant: str, request: RecallRequest) -> RecallAnswer:
        return await self._recall.recall(tenant, request)

    async def context(self, tenant: str, request: ContextRequest, bearer: str | None) -> ContextAnswer:
        """Raises what retrieval raises for the caller's own mistakes, such as a collection that does not exist."""
        if request.session_id is None and request.user_id is None:
            raise invalid(
                "$.session_id", "give session_id or user_id: memory is read for somebody, never for everybody"
            )
        session = await self._session_for_context(tenant, request)
        tail = await self._tail(session, request)
        query = request.query or _last_question(tail)
        scope = Scope(tenant=tenant, user_id=request.user_id) if request.user_id else _session_scope(tenant, session)
        standing, known = await self._held_facts(tenant, request, session)
        recalled, about, is_lexical = list[Candidate](), list[RecalledFact](), False
        if scope is not None and query is not None:
            in_tail = {(session.id, turn.seq) for turn in tail} if session else set()
            recalled, about, is_lexical = await self._recalled.candidates(
                scope, request, query, known=in_tail, with_facts=bool(known)
            )
        spans = await self._spans.outermost(session.id, as_of=request.as_of) if session else []
        instructions, facts = held_candidates(standing, known, about)
        found = Found(
            tail=[_tail_candidate(request.session_id or "", turn) for turn in reversed(tail)],
            recalled=recalled,
            spans=[span_candidate(span, (span.first_seq,)) for span in reversed(spans)],
            instructions=instructions,
            facts=facts,
        )
        # Documents last, because they are packed to the room that the others leave.
        room = document_room(found, max_tokens=request.max_tokens)
        hits, is_missing = await self._hits(request, query, bearer, room)
        return assemble(
            found,
            documents=[_document_candidate(rank, hit) for rank, hit in enumerate(hits)],
            max_tokens=request.max_tokens,
            degraded=is_lexical or is_missing,
        )

    def export(self, tenant: str, query: ExportQuery) -> Records:
        """Raises InvalidFields."""
        if (query.user_id is None) != query.everything:
            raise invalid("query.user_id", "give either user_id or everything=true: whose memory it is")
        return Records(lambda media: self._exports.parts(tenant, query, media))

    async def import_memory(self, tenant: str, incoming: Incoming) -> ImportReport:
        report = await self._imports.run(tenant, incoming)
        self._compactor.wake()
        return report

    async def check(self) -> CheckReport:
        """Of all tenants, so only for who may administer the server."""
        counts, problems = await self._history.problems()
        problems += await self._spans.problems()
        counts["facts"], wrong = await self.facts.reading.problems()
        problems += wrong
        counts["feedback"], wrong = await self.feedback.problems()
        problems += wrong
        findings = [Finding(where="sqlite", problem=problem) for problem in problems]
        for scope in self._indexes.scopes:
            # The index first: what is appended in between is in the truth alone, and would be no difference.
            indexed = await self._indexes.use(scope, self.embeddings.model, lambda index: index.keys())
            truth = await self._history.item_keys(scope)
            if surplus := indexed - truth:
                text = f"the recall index has {len(surplus)} items that are gone, such as {_named(min(surplus))}"
                findings.append(Finding(where=f"{scope.tenant}/{scope.label}", problem=text))
            newest = dict(sorted(indexed))
            if missing := {key for key in truth - indexed if key[1] <= newest.get(key[0], 0)}:
                text = f"the recall index misses {len(missing)} items, such as {_named(min(missing))}"
                findings.append(Finding(where=f"{scope.tenant}/{scope.label}", problem=text))
        return CheckReport(
            clean=not findings, checked={**counts, "scopes": len(self._indexes.scopes)}, findings=findings
        )

    async def _session_for_context(self, tenant: str, request: ContextRequest) -> SessionRow | None:
        """None for a session that has not begun: its first context is asked before its first turn is stored."""
        if request.session_id is None:
            return None
        try:
            return await self.store.session(tenant, request.session_id, user_id=request.user_id)
        except NotFound:
            if request.user_id is None:
                raise
            await self._refuse_foreign(tenant, request.session_id)
            return None

    async def _refuse_foreign(self, tenant: str, session_id: str) -> None:
        """Raises NotFound for a session that exists but is another user's."""
        try:
            await self.store.session(tenant, session_id)
        except NotFound:
            return
        raise NotFound(f"there is no session {session_id!r}")

    async def _tail(self, session: SessionRow | None, request: ContextRequest) -> list[Turn]:
        if session is None:
            return []
        return await self.store.tail(session, tokens_max=request.max_tokens, as_of=request.as_of)

    async def _held_facts(
        self, tenant: str, request: ContextRequest, session: SessionRow | None
    ) -> tuple[list[HeldFact], list[HeldFact]]:
        """Of the user who is named, or whose session it is."""
        user_id = request.user_id or (session.user_id if session else None)
        if user_id is None:
            return [], []
        return await self.facts.reading.held(tenant, user_id, request.as_of or datetime.now(UTC))

    async def _hits(
        self, request: ContextRequest, query: str | None, bearer: str | None, room: int
    ) -> tuple[list[Hit], bool]:
        """Passages from retrieval for so many tokens, fences included, and whether it could not be asked."""
        if not request.collections or query is None:
            return [], False
        fences = min(_DOCUMENTS_MAX, max(1, room // _PASSAGE_TOKENS))
        try:
            answer = await self._documents.search(
                query,
                collections=request.collections,
                # Hits that touch become one passage.
                limit=min(_DOCUMENTS_MAX, 2 * fences),
                max_tokens=max(_PASSAGE_TOKENS_MIN, room - fences * _FENCE_TOKENS),
                bearer=bearer,
                timeout_s=self.settings.documents_timeout_s,
            )
        except Unavailable as error:
            log.warning("context_without_documents", error=error.detail)
            return [], True
        return answer.hits, False

    def _check_turns(self, turns: Sequence[TurnIn]) -> None:
        limit = self.settings.turn_characters_max
        errors: list[FieldError] = []
        for index, turn in enumerate(turns):
            if len(turn.content) > limit:
                message = f"{len(turn.content)} characters; at most {limit} are accepted (turn_characters_max)"
                errors.append(FieldError(f"$.turns[{index}].content", message))
        if errors:
            raise InvalidFields(f"{errors[0].path}: {errors[0].message}", errors=errors)
        for index, turn in enumerate(turns):
            self._check_metadata(turn.metadata, f"$.turns[{index}].metadata")

    def _check_metadata(self, metadata: dict[str, object] | None, path: str) -> None:
        check_metadata(metadata or {}, path=path, bytes_max=self.settings.metadata_bytes_max)


def _named(key: ItemKey) -> str:
    return f"{key[0]} {key[1]}"


def _session_scope(tenant: str, session: SessionRow | None) -> Scope | None:
    return Scope(tenant=tenant, session=session.id) if session else None


def _last_question(tail: Sequence[Turn]) -> str | None:
    """What the user said last, as far as a query may be long."""
    said = next((turn.content for turn in reversed(tail) if turn.role == "user"), "")
    return said.strip()[:QUERY_LENGTH_MAX] or None


def _tail_candidate(session_id: str, turn: Turn) -> Candidate:
    source = TurnSource(session_id=session_id, turn_id=turn.id, seq=turn.seq)
    return Candidate(said(turn.created_at, turn.role, turn.name, turn.content), source, (turn.seq,))


def _document_candidate(rank: int, hit: Hit) -> Candidate:
    """Fenced; a closing fence inside the text is defused, so that a document cannot end its own."""
    source = DocumentSource(
        collection=hit.collection, document_id=hit.document_id, chunk_id=hit.chunk_id, start=hit.start, end=hit.end
    )
    name = escape(" > ".join(dict.fromkeys(part for part in (hit.title, *hit.headings) if part)) or hit.document_id)
    # A part of a table is read under the table's header.
    text = "\n".join(part for part in (hit.context, hit.text) if part).replace("</document", "&lt;/document")
    fence = f'<document source="{escape(f"{hit.collection}/{hit.document_id}")}" title="{name}">'
    return Candidate(f"{fence}\n{text}\n</document>", source, (rank,))
