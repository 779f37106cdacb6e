"""What a key that belongs to a user reaches: that user's memory and nothing else, on every route.

Such a key is as if its `user_id` stood in every request. What a request names by id must be the user's; what is others', and
what is nobody's, does not exist, in the same words as what really does not.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

import msgspec

from memory.service import MemoryService
from shared.errors import Forbidden, NotFound
from shared.fact_messages import FactIn
from shared.forgetting_messages import ForgetRequest
from shared.memory_records import ExportQuery
from shared.routes import Call

Kind = Literal["session", "span", "fact", "feedback"]

_OWN: Final[Mapping[Kind, str]] = {
    "session": "SELECT 1 FROM sessions WHERE tenant = ? AND session_id = ? AND user_id = ?",
    "span": "SELECT 1 FROM sessions s JOIN spans p ON p.session = s.id WHERE s.tenant = ? AND p.span_id = ? AND s.user_id = ?",
    "fact": "SELECT 1 FROM facts WHERE tenant = ? AND fact_id = ? AND user_id = ?",
    "feedback": "SELECT 1 FROM feedback WHERE tenant = ? AND feedback_id = ? AND user_id = ?",
}


async def require_own(service: MemoryService, tenant: str, user_id: str, kind: Kind, name: str) -> None:
    """Raises NotFound where it is not this user's, or is not there."""

    def unit(connection: sqlite3.Connection) -> bool:
        return connection.execute(_OWN[kind], (tenant, name, user_id)).fetchone() is not None

    if not await service.store.database.read(unit):
        raise NotFound(f"there is no {kind} {name!r}")


async def with_own_body(_service: MemoryService, call: Call[Any, Any]) -> Call[Any, Any]:
    """The body names the user. Raises Forbidden where it names another one. That a session which is written to is the user's
    is seen to in the transaction itself (`only_of`)."""
    return replace(call, body=_named(call, call.body))


async def with_own_query(_service: MemoryService, call: Call[Any, Any]) -> Call[Any, Any]:
    """The query names the user. Raises Forbidden where it names another one."""
    return replace(call, query=_named(call, call.query))


async def of_own_session(service: MemoryService, call: Call[Any, Any]) -> Call[Any, Any]:
    return await _of_own(service, call, "session")


async def of_own_span(service: MemoryService, call: Call[Any, Any]) -> Call[Any, Any]:
    return await _of_own(service, call, "span")


async def of_own_fact(service: MemoryService, call: Call[Any, Any]) -> Call[Any, Any]:
    return await _of_own(service, call, "fact")


async def of_own_feedback(service: MemoryService, call: Call[Any, Any]) -> Call[Any, Any]:
    return await _of_own(service, call, "feedback")


async def of_own_sources(service: MemoryService, call: Call[FactIn, Any]) -> Call[FactIn, Any]:
    """A fact of the user, from sessions of the user."""
    named = await with_own_body(service, call)
    tenant, user_id = call.principal.tenant, _user(call)
    for session_id in sorted({source.session_id for source in call.body.sources or ()}):
        await require_own(service, tenant, user_id, "session", session_id)
    return named


async def forgetting_own(service: MemoryService, call: Call[ForgetRequest, Any]) -> Call[ForgetRequest, Any]:
    """What names nothing is left to be refused: with the user filled in it would mean everything that the user has."""
    if msgspec.structs.replace(call.body, dry_run=True) == ForgetRequest():
        return call
    return await with_own_body(service, call)


async def exporting_own(service: MemoryService, call: Call[Any, ExportQuery]) -> Call[Any, ExportQuery]:
    if call.query.everything:
        raise Forbidden(f"this key belongs to the user {_user(call)!r}; leave everything out")
    return await with_own_query(service, call)


async def _of_own(service: MemoryService, call: Call[Any, Any], kind: Kind) -> Call[Any, Any]:
    await require_own(service, call.principal.tenant, _user(call), kind, call.path[kind])
    return call


def _user(call: Call[Any, Any]) -> str:
    if call.principal.user_id is None:
        raise AssertionError("asked only for keys that belong to a user")
    return call.principal.user_id


def _named(call: Call[Any, Any], message: Any) -> Any:
    user_id = _user(call)
    if message.user_id not in {None, user_id}:
        raise Forbidden(f"this key belongs to the user {user_id!r}, not {message.user_id!r}; leave user_id out")
    return msgspec.structs.replace(message, user_id=user_id)
