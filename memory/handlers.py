"""The routes of the memory service. A handler passes a call on to one method of the service, and nothing else."""

from typing import Any

from memory import VERSION
from memory.ownership import (
    exporting_own,
    forgetting_own,
    of_own_fact,
    of_own_feedback,
    of_own_session,
    of_own_sources,
    of_own_span,
    with_own_body,
    with_own_query,
)
from memory.service import MemoryService
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
    RecallRequest,
    Retention,
    Session,
    SessionPage,
    SessionSpec,
    SessionsQuery,
    SpanPage,
    SpansQuery,
    TurnPage,
    TurnsQuery,
)
from shared.memory_records import MEMORY_RECORDS, ExportQuery, ImportReport
from shared.messages import Info
from shared.operating import OPERATING_ROUTES
from shared.routes import Call, ForUser, Incoming, Records, Route
from shared.users import not_for_users, of_the_tenant

_SESSION = "/v1/sessions/{session}"
_FACT = "/v1/facts/{fact}"


async def info(service: MemoryService, _call: Call[None, None]) -> Info:
    details: dict[str, Any] = {
        "model": service.embeddings.model or None,
        "turn_characters_max": service.settings.turn_characters_max,
        "body_bytes_max": service.settings.body_bytes_max,
    }
    return Info(service="memory", version=VERSION, protocol="v1", details=details)


async def put_session(service: MemoryService, call: Call[SessionSpec, None]) -> Session:
    who = call.principal
    return await service.put_session(who.tenant, call.path["session"], call.body, only_of=who.user_id)


async def list_sessions(service: MemoryService, call: Call[None, SessionsQuery]) -> SessionPage:
    page = await service.session_page(call.principal.tenant, call.query)
    return SessionPage(items=page.items, next_cursor=page.next_cursor)


async def get_session(service: MemoryService, call: Call[None, None]) -> Session:
    return await service.session(call.principal.tenant, call.path["session"])


async def delete_session(service: MemoryService, call: Call[None, None]) -> EraseReport:
    return await service.erasing.erase_session(call.principal, call.path["session"])


async def append_turns(service: MemoryService, call: Call[AppendRequest, None]) -> AppendAnswer:
    who = call.principal
    return await service.append(who.tenant, call.path["session"], call.body, only_of=who.user_id)


async def list_turns(service: MemoryService, call: Call[None, TurnsQuery]) -> TurnPage:
    page = await service.turn_page(call.principal.tenant, call.path["session"], call.query)
    return TurnPage(items=page.items, next_cursor=page.next_cursor)


async def list_spans(service: MemoryService, call: Call[None, SpansQuery]) -> SpanPage:
    page = await service.span_page(call.principal.tenant, call.path["session"], call.query)
    return SpanPage(items=page.items, next_cursor=page.next_cursor)


async def list_span_turns(service: MemoryService, call: Call[None, TurnsQuery]) -> TurnPage:
    page = await service.span_turns(call.principal.tenant, call.path["span"], call.query)
    return TurnPage(items=page.items, next_cursor=page.next_cursor)


async def compact(service: MemoryService, call: Call[CompactRequest, None]) -> CompactAnswer:
    return await service.compact(call.principal.tenant, call.path["session"], call.body)


async def recall(service: MemoryService, call: Call[RecallRequest, None]) -> RecallAnswer:
    return await service.recall(call.principal.tenant, call.body)


async def context(service: MemoryService, call: Call[ContextRequest, None]) -> ContextAnswer:
    return await service.context(call.principal.tenant, call.body, call.bearer)


async def export_memory(service: MemoryService, call: Call[None, ExportQuery]) -> Records:
    if call.query.everything:
        call.principal.require("admin")
    return service.export(call.principal.tenant, call.query)


async def import_memory(service: MemoryService, call: Call[Incoming, None]) -> ImportReport:
    return await service.import_memory(call.principal.tenant, call.body)


async def forget(service: MemoryService, call: Call[ForgetRequest, None]) -> EraseReport:
    return await service.erasing.forget(call.principal, call.body)


async def list_audit(service: MemoryService, call: Call[None, AuditQuery]) -> AuditPage:
    page = await service.erasing.audit_page(call.principal.tenant, call.query)
    return AuditPage(items=page.items, next_cursor=page.next_cursor)


async def get_retention(service: MemoryService, call: Call[None, None]) -> TenantRetention:
    return await service.erasing.retention(call.principal.tenant)


async def put_retention(service: MemoryService, call: Call[Retention, None]) -> TenantRetention:
    return await service.erasing.put_retention(call.principal.tenant, call.body)


async def put_fact(service: MemoryService, call: Call[FactIn, None]) -> FactAnswer:
    return await service.facts.put(call.principal.tenant, call.body)


async def list_facts(service: MemoryService, call: Call[None, FactsQuery]) -> FactPage:
    page = await service.facts.page(call.principal, call.query)
    return FactPage(items=page.items, next_cursor=page.next_cursor)


async def get_fact(service: MemoryService, call: Call[None, None]) -> FactRecord:
    return await service.facts.record(call.principal.tenant, call.path["fact"])


async def change_fact(service: MemoryService, call: Call[FactPatch, None]) -> FactRecord:
    return await service.facts.change(call.principal, call.path["fact"], call.body)


async def delete_fact(service: MemoryService, call: Call[None, None]) -> EraseReport:
    return await service.erase_fact(call.principal, call.path["fact"])


async def extract_facts(service: MemoryService, call: Call[ExtractRequest, None]) -> ExtractAnswer:
    return await service.extract(call.principal.tenant, call.path["session"], call.body)


async def add_feedback(service: MemoryService, call: Call[RecallFeedbackIn, None]) -> FeedbackAnswer:
    return await service.feedback.add(call.principal, call.body)


async def list_feedback(service: MemoryService, call: Call[None, RecallFeedbackQuery]) -> RecallFeedbackPage:
    page = await service.feedback.page(call.principal, call.query)
    return RecallFeedbackPage(items=page.items, next_cursor=page.next_cursor)


async def delete_feedback(service: MemoryService, call: Call[None, None]) -> EraseReport:
    return await service.erase_feedback(call.principal, call.path["feedback"])


def _read(method: str, path: str, summary: str, handler: Any, answer: type, *, for_user: ForUser, **more: Any) -> Route:
    return Route(
        method=method,
        path=path,
        summary=summary,
        handler=handler,
        scope="memory:read",
        for_user=for_user,
        answers={200: answer},
        **more,
    )


def _write(
    method: str, path: str, summary: str, handler: Any, answer: type, *, for_user: ForUser, **more: Any
) -> Route:
    return Route(
        method=method,
        path=path,
        summary=summary,
        handler=handler,
        scope="memory:write",
        for_user=for_user,
        answers={200: answer},
        **more,
    )


ROUTES = (
    Route(
        method="GET",
        path="/v1/info",
        summary="Version and limits",
        handler=info,
        scope=None,
        for_user=of_the_tenant,
        answers={200: Info},
    ),
    *OPERATING_ROUTES,
    _write(
        "PUT",
        _SESSION,
        "Make a session, or change it",
        put_session,
        Session,
        for_user=with_own_body,
        body=SessionSpec,
        body_optional=True,
    ),
    _read(
        "GET",
        "/v1/sessions",
        "List the sessions of a user or agent",
        list_sessions,
        SessionPage,
        for_user=with_own_query,
        query=SessionsQuery,
    ),
    _read("GET", _SESSION, "One session", get_session, Session, for_user=of_own_session),
    _write(
        "DELETE",
        _SESSION,
        "Erase a session and everything derived from it",
        delete_session,
        EraseReport,
        for_user=of_own_session,
        takes_long=True,
    ),
    _write(
        "POST",
        "/v1/forget",
        "Erase by user, session, ids or time, and verify it",
        forget,
        EraseReport,
        for_user=forgetting_own,
        body=ForgetRequest,
        takes_long=True,
    ),
    Route(
        method="GET",
        path="/v1/audit",
        summary="Who erased how much of what, and when",
        handler=list_audit,
        scope="admin",
        for_user=not_for_users,
        answers={200: AuditPage},
        query=AuditQuery,
    ),
    Route(
        method="GET",
        path="/v1/retention",
        summary="What the tenant keeps at most",
        handler=get_retention,
        scope="admin",
        for_user=not_for_users,
        answers={200: TenantRetention},
    ),
    Route(
        method="PUT",
        path="/v1/retention",
        summary="Say what the tenant keeps at most",
        handler=put_retention,
        scope="admin",
        for_user=not_for_users,
        answers={200: TenantRetention},
        body=Retention,
    ),
    _write(
        "POST",
        _SESSION + "/turns",
        "Append turns, once",
        append_turns,
        AppendAnswer,
        for_user=with_own_body,
        body=AppendRequest,
    ),
    _read(
        "GET",
        _SESSION + "/turns",
        "Read turns in order",
        list_turns,
        TurnPage,
        for_user=of_own_session,
        query=TurnsQuery,
    ),
    _read(
        "GET",
        _SESSION + "/spans",
        "List the spans of a session",
        list_spans,
        SpanPage,
        for_user=of_own_session,
        query=SpansQuery,
    ),
    _read(
        "GET",
        "/v1/spans/{span}/turns",
        "The turns that a span stands for",
        list_span_turns,
        TurnPage,
        for_user=of_own_span,
        query=TurnsQuery,
    ),
    _write(
        "POST",
        _SESSION + "/compact",
        "Fold the older turns of a session's tail into spans",
        compact,
        CompactAnswer,
        for_user=of_own_session,
        body=CompactRequest,
        body_optional=True,
        takes_long=True,
    ),
    _write("POST", "/v1/facts", "Write a fact, once", put_fact, FactAnswer, for_user=of_own_sources, body=FactIn),
    _read(
        "GET", "/v1/facts", "List the facts of a user", list_facts, FactPage, for_user=with_own_query, query=FactsQuery
    ),
    _read("GET", _FACT, "One fact, with its history", get_fact, FactRecord, for_user=of_own_fact),
    _write(
        "PATCH",
        _FACT,
        "Pin, correct, expire, approve or reject a fact",
        change_fact,
        FactRecord,
        for_user=of_own_fact,
        body=FactPatch,
    ),
    _write(
        "DELETE", _FACT, "Erase a fact and everything derived from it", delete_fact, EraseReport, for_user=of_own_fact
    ),
    _write(
        "POST",
        _SESSION + "/facts",
        "Note facts that a session's turns state, by the configured language model",
        extract_facts,
        ExtractAnswer,
        for_user=of_own_session,
        body=ExtractRequest,
        body_optional=True,
        takes_long=True,
    ),
    _read(
        "POST",
        "/v1/recall",
        "Find turns by meaning, words and time",
        recall,
        RecallAnswer,
        for_user=with_own_body,
        body=RecallRequest,
    ),
    _read(
        "POST",
        "/v1/context",
        "Assemble a context within a token budget",
        context,
        ContextAnswer,
        for_user=with_own_body,
        body=ContextRequest,
    ),
    Route(
        method="GET",
        path="/v1/export",
        summary="The memory of a user or of the whole tenant, as a stream of records",
        handler=export_memory,
        scope="memory:read",
        for_user=exporting_own,
        answers={},
        query=ExportQuery,
        gives_records=MEMORY_RECORDS,
    ),
    _write(
        "POST",
        "/v1/import",
        "Take in what was exported, once",
        import_memory,
        ImportReport,
        for_user=not_for_users,
        takes_records=MEMORY_RECORDS,
        takes_long=True,
    ),
    _read(
        "POST",
        "/v1/feedback",
        "Judge what a recall found",
        add_feedback,
        FeedbackAnswer,
        body=RecallFeedbackIn,
        for_user=with_own_body,
    ),
    _read(
        "GET",
        "/v1/feedback",
        "List what was judged",
        list_feedback,
        RecallFeedbackPage,
        query=RecallFeedbackQuery,
        for_user=with_own_query,
    ),
    _write(
        "DELETE",
        "/v1/feedback/{feedback}",
        "Erase a query's judgments",
        delete_feedback,
        EraseReport,
        for_user=of_own_feedback,
    ),
)
