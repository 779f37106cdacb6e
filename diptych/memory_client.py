"""The memory service's client."""

import uuid
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import msgspec

from shared.client import MSGPACK, ServiceClient, build, quoted
from shared.fact_messages import (
    ExtractAnswer,
    ExtractRequest,
    FactAnswer,
    FactIn,
    FactPage,
    FactPatch,
    FactRecord,
    FactsQuery,
)
from shared.feedback_messages import (
    FeedbackAnswer,
    ItemJudgment,
    RecallFeedbackIn,
    RecallFeedbackPage,
    RecallFeedbackQuery,
)
from shared.forgetting_messages import AuditPage, AuditQuery, ForgetRequest, TenantRetention
from shared.memory_messages import (
    AppendAnswer,
    AppendRequest,
    CompactAnswer,
    CompactRequest,
    ContextAnswer,
    ContextRequest,
    EraseReport,
    RecallAnswer,
    RecallKind,
    RecallRequest,
    Retention,
    Session,
    SessionPage,
    SessionSpec,
    SessionsQuery,
    SpanPage,
    SpansQuery,
    TurnIn,
    TurnPage,
    TurnsQuery,
)
from shared.memory_records import ExportQuery, ImportReport, MemoryRecord
from shared.memory_stream import NDJSON, MemoryStreamReader
from shared.retrieval_messages import SearchMode

URL_DEFAULT = "http://127.0.0.1:7802"


class MemoryClient(ServiceClient):
    """Every method raises ServiceError (shared/errors.py): NotFound, Conflict, InvalidFields, Unavailable and so on."""

    def __init__(self, url: str = URL_DEFAULT, **options: Any) -> None:
        super().__init__(url, **options)

    async def put_session(self, session_id: str, spec: SessionSpec | None = None) -> Session:
        return await self._call("PUT", _session(session_id), Session, body=spec or SessionSpec())

    async def session(self, session_id: str) -> Session:
        return await self._call("GET", _session(session_id), Session)

    async def sessions(
        self, *, user_id: str | None = None, agent_id: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> SessionPage:
        query = SessionsQuery(user_id=user_id, agent_id=agent_id, cursor=cursor, limit=limit)
        return await self._call("GET", "/v1/sessions", SessionPage, query=query)

    async def erase_session(self, session_id: str) -> EraseReport:
        return await self._call("DELETE", _session(session_id), EraseReport)

    async def append(
        self,
        session_id: str,
        turns: Iterable[TurnIn | Mapping[str, Any]],
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
    ) -> AppendAnswer:
        """Turns without an id get one here, so that a retry stores nothing twice."""
        request = AppendRequest(turns=[_with_id(turn) for turn in turns], user_id=user_id, agent_id=agent_id)
        return await self._call("POST", f"{_session(session_id)}/turns", AppendAnswer, body=request)

    async def turns(
        self,
        session_id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> TurnPage:
        query = TurnsQuery(after=after, before=before, cursor=cursor, limit=limit)
        return await self._call("GET", f"{_session(session_id)}/turns", TurnPage, query=query)

    async def spans(
        self, session_id: str, *, level: int | None = None, cursor: str | None = None, limit: int = 100
    ) -> SpanPage:
        query = SpansQuery(level=level, cursor=cursor, limit=limit)
        return await self._call("GET", f"{_session(session_id)}/spans", SpanPage, query=query)

    async def span_turns(
        self,
        span_id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> TurnPage:
        query = TurnsQuery(after=after, before=before, cursor=cursor, limit=limit)
        return await self._call("GET", f"/v1/spans/{quoted(span_id)}/turns", TurnPage, query=query)

    async def compact(self, session_id: str, *, tail_tokens_keep: int | None = None) -> CompactAnswer:
        """Folds what the session's policy would fold, or more, now; returns when it is done."""
        request = CompactRequest(tail_tokens_keep=tail_tokens_keep)
        return await self._call("POST", f"{_session(session_id)}/compact", CompactAnswer, body=request)

    async def put_fact(self, fact: FactIn | None = None, **fields: Any) -> FactAnswer:
        """A fact, or its fields. Without an id it gets one here, so that a retry writes nothing twice."""
        given = fact or build(FactIn, **fields)
        body = given if given.id else msgspec.structs.replace(given, id=uuid.uuid4().hex)
        return await self._call("POST", "/v1/facts", FactAnswer, body=body)

    async def facts(self, user_id: str | None = None, **query: Any) -> FactPage:
        """What holds now, unless `query` (the fields of FactsQuery) asks for more. Only what waits for approval may be listed
        without a user, by who may approve it."""
        return await self._call("GET", "/v1/facts", FactPage, query=build(FactsQuery, user_id=user_id, **query))

    async def fact(self, fact_id: str) -> FactRecord:
        return await self._call("GET", _fact(fact_id), FactRecord)

    async def change_fact(self, fact_id: str, patch: FactPatch | None = None, **fields: Any) -> FactRecord:
        """The fact as it is now: another than `fact_id` where its text was corrected. `expires_at=None` ends its expiry."""
        body = patch or build(FactPatch, **fields)
        if "expires_at" in fields and fields["expires_at"] is None:
            body = msgspec.structs.replace(body, expires_at=None)
        return await self._call("PATCH", _fact(fact_id), FactRecord, body=body)

    async def erase_fact(self, fact_id: str) -> EraseReport:
        return await self._call("DELETE", _fact(fact_id), EraseReport)

    async def extract_facts(self, session_id: str, *, after: int = 0, limit: int = 50) -> ExtractAnswer:
        """Facts that turns behind `after` state, by the service's language model. Repeating it writes nothing twice."""
        request = ExtractRequest(after=after, limit=limit)
        return await self._call("POST", f"{_session(session_id)}/facts", ExtractAnswer, body=request)

    async def export_bytes(
        self,
        *,
        user_id: str | None = None,
        everything: bool = False,
        vectors: bool = False,
        media: str = NDJSON,
    ) -> AsyncGenerator[bytes, None]:
        """A memory as it is kept in a file: of a user, or with the scope admin of the whole tenant.

        Only the last record says that it is whole: `import_bytes`, or a `MemoryStreamReader`, tells one that was cut off.
        """
        query = ExportQuery(user_id=user_id, everything=everything, vectors=vectors)
        async with aclosing(self._download("/v1/export", query, media)) as parts:
            async for part in parts:
                yield part

    async def export_records(self, **options: Any) -> AsyncGenerator[MemoryRecord, None]:
        """As `export_bytes`, record by record. Raises Malformed at the end where it was cut off."""
        reader = MemoryStreamReader(options.setdefault("media", MSGPACK))
        async with aclosing(self.export_bytes(**options)) as parts:
            async for part in parts:
                for _, record in reader.feed(part):
                    yield record
        reader.close()

    async def import_bytes(self, parts: AsyncIterable[bytes], *, media: str = NDJSON) -> ImportReport:
        """Takes in what was exported, once. Never retried here, but safe to repeat."""
        return await self._upload("/v1/import", parts, media, ImportReport)

    async def recall(
        self,
        query: str | None = None,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        agent_id: str | None = None,
        kinds: Sequence[RecallKind] = ("turn", "fact"),
        since: datetime | None = None,
        until: datetime | None = None,
        as_of: datetime | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the wire's name
        mode: SearchMode = "hybrid",
        limit: int = 10,
        neighbours: int = 0,
        explain: bool = False,
    ) -> RecallAnswer:
        request = RecallRequest(
            query=query,
            user_id=user_id,
            session_id=session_id,
            agent_id=agent_id,
            kinds=tuple(kinds),
            since=since,
            until=until,
            as_of=as_of,
            filter=None if filter is None else dict(filter),
            mode=mode,
            limit=limit,
            neighbours=neighbours,
            explain=explain,
        )
        return await self._call("POST", "/v1/recall", RecallAnswer, body=request)

    async def context(
        self,
        query: str | None = None,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        max_tokens: int = 2000,
        collections: list[str] | None = None,
        as_of: datetime | None = None,
    ) -> ContextAnswer:
        request = ContextRequest(
            query=query,
            session_id=session_id,
            user_id=user_id,
            max_tokens=max_tokens,
            collections=collections,
            as_of=as_of,
        )
        return await self._call("POST", "/v1/context", ContextAnswer, body=request)

    async def forget(
        self,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        ids: Iterable[str] | None = None,
        before: datetime | None = None,
        dry_run: bool = True,
    ) -> EraseReport:
        """Counts what would go; with `dry_run=False` it goes. `ids` are of turns where a session is named, else of facts."""
        request = ForgetRequest(
            user_id=user_id,
            session_id=session_id,
            ids=None if ids is None else list(ids),
            before=before,
            dry_run=dry_run,
        )
        return await self._call("POST", "/v1/forget", EraseReport, body=request)

    async def audit(
        self,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> AuditPage:
        query = AuditQuery(user_id=user_id, session_id=session_id, cursor=cursor, limit=limit)
        return await self._call("GET", "/v1/audit", AuditPage, query=query)

    async def retention(self) -> TenantRetention:
        return await self._call("GET", "/v1/retention", TenantRetention)

    async def put_retention(self, *, days_max: int | None = None, turns_max: int | None = None) -> TenantRetention:
        """Of the key's tenant. What is left out is kept for ever."""
        request = Retention(days_max=days_max, turns_max=turns_max)
        return await self._call("PUT", "/v1/retention", TenantRetention, body=request)

    async def add_feedback(
        self,
        query: str,
        judgments: Iterable[ItemJudgment | Mapping[str, Any]],
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        agent_id: str | None = None,
        as_of: datetime | None = None,
        comment: str | None = None,
        judged_at: datetime | None = None,
    ) -> FeedbackAnswer:
        """What somebody says of turns and facts that a recall found, or should have. Judged now unless said otherwise, so
        that a retry replaces nothing that was said meanwhile."""
        request = RecallFeedbackIn(
            user_id=user_id,
            session_id=session_id,
            agent_id=agent_id,
            query=query,
            as_of=as_of,
            judgments=[each if isinstance(each, ItemJudgment) else build(ItemJudgment, **each) for each in judgments],
            comment=comment,
            judged_at=judged_at or datetime.now(UTC),
        )
        return await self._call("POST", "/v1/feedback", FeedbackAnswer, body=request)

    async def feedback(self, **query: Any) -> RecallFeedbackPage:
        """`query` are the fields of RecallFeedbackQuery: whose, since when, and the page."""
        return await self._call("GET", "/v1/feedback", RecallFeedbackPage, query=build(RecallFeedbackQuery, **query))

    async def erase_feedback(self, feedback_id: str) -> EraseReport:
        return await self._call("DELETE", f"/v1/feedback/{quoted(feedback_id)}", EraseReport)


def _session(session_id: str) -> str:
    return f"/v1/sessions/{quoted(session_id)}"


def _fact(fact_id: str) -> str:
    return f"/v1/facts/{quoted(fact_id)}"


def _with_id(turn: TurnIn | Mapping[str, Any]) -> TurnIn:
    if not isinstance(turn, TurnIn):
        turn = build(TurnIn, **turn)
    return turn if turn.id else msgspec.structs.replace(turn, id=uuid.uuid4().hex)
