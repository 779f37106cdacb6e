"""`delete_memories`: memories erased for good, as forgetting erases, and only those of the caller's user."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from memory.agents.handles import FactHandle, TurnsHandle, fact_name, parse_handle
from memory.agents.identity import user_of
from memory.agents.sessions import own_session
from memory.service import MemoryService
from shared.errors import NotFound, invalid
from shared.forgetting_messages import ForgetRequest
from shared.mcp.catalogue import Caller, Told
from shared.memory_messages import EraseReport, TurnsQuery
from shared.messages import Answer, Request

# A summary stands for hundreds of messages at most; for more than these a person should be asked.
_TURNS_MAX: Final = 1000
_NAMED_MAX: Final = 20

Handle = Annotated[str, Meta(min_length=1, max_length=300)]


class DeleteMemories(Request, frozen=True, kw_only=True):
    ids: Annotated[list[Handle], Meta(min_length=1, max_length=100, description="Of memories or messages")]


class Deleted(Answer, frozen=True, kw_only=True):
    """`deleted` counts the ids that are gone, `facts` and `messages` what went with them. `verified`: nothing of it was found
    afterwards in any table or file. `earlier_versions` are ids that stay, of what the deleted ones had replaced."""

    deleted: int
    missing: list[str]
    facts: int
    messages: int
    verified: bool
    earlier_versions: list[str] = msgspec.field(default_factory=list)
    hint: str | None = None


@dataclass(slots=True)
class _Chosen:
    """What the ids name, of the user's own."""

    facts: dict[str, str] = field(default_factory=dict)
    turns: dict[str, dict[str, None]] = field(default_factory=dict)
    found: int = 0
    missing: list[str] = field(default_factory=list)
    earlier: dict[str, None] = field(default_factory=dict)


async def delete_memories(service: MemoryService, caller: Caller, arguments: DeleteMemories) -> Told:
    user_id = user_of(caller, service.settings.mcp_user)
    chosen = await _chosen(service, caller.principal.tenant, user_id, list(dict.fromkeys(arguments.ids)))
    requests = [
        ForgetRequest(user_id=user_id, session_id=session_id, ids=list(turns), dry_run=False)
        for session_id, turns in chosen.turns.items()
    ]
    if chosen.facts:
        requests.append(ForgetRequest(user_id=user_id, ids=list(chosen.facts), dry_run=False))
    reports = [await service.erasing.forget(caller.principal, request) for request in requests]
    return _told(chosen, reports)


async def _chosen(service: MemoryService, tenant: str, user_id: str, names: Sequence[str]) -> _Chosen:
    chosen = _Chosen()
    for name in names:
        match parse_handle(name):
            case FactHandle(fact_id=fact_id):
                is_there = await _choose_fact(service, tenant, user_id, fact_id, chosen)
            case TurnsHandle() as handle:
                is_there = await _choose_turns(service, tenant, user_id, handle, chosen)
        chosen.found += is_there
        if not is_there:
            chosen.missing.append(name)
    return chosen


async def _choose_fact(service: MemoryService, tenant: str, user_id: str, fact_id: str, chosen: _Chosen) -> bool:
    try:
        record = await service.facts.record(tenant, fact_id)
    except NotFound:
        return False
    if record.user_id != user_id:
        return False
    chosen.facts[fact_id] = record.text
    chosen.earlier |= {each.id: None for each in record.history}
    return True


async def _choose_turns(
    service: MemoryService, tenant: str, user_id: str, handle: TurnsHandle, chosen: _Chosen
) -> bool:
    try:
        await own_session(service, tenant, user_id, handle.session_id)
    except NotFound:
        return False
    query = TurnsQuery(after=handle.first_seq - 1, before=handle.last_seq + 1, limit=_TURNS_MAX)
    page = await service.turn_page(tenant, handle.session_id, query)
    turns = chosen.turns.setdefault(handle.session_id, {}) if page.items else {}
    turns |= {turn.id: None for turn in page.items}
    if page.next_cursor or sum(map(len, chosen.turns.values())) > _TURNS_MAX:
        raise invalid("ids", f"stand for more than {_TURNS_MAX} messages; delete fewer at once")
    return bool(page.items)


def _told(chosen: _Chosen, reports: Sequence[EraseReport]) -> Told:
    earlier = [fact_name(each) for each in chosen.earlier if each not in chosen.facts]
    hints = []
    if len(chosen.missing) > _NAMED_MAX:
        hints.append(f"{len(chosen.missing) - _NAMED_MAX} more are missing.")
    if earlier:
        hints.append("Earlier versions stay in the history; delete their ids too if all of it should go.")
    if not all(report.verified for report in reports):
        hints.append(
            "The rows are gone, but traces may be left in the file; an operator finds them with diptych check."
        )
    facts = Deleted(
        deleted=chosen.found,
        missing=chosen.missing[:_NAMED_MAX],
        facts=sum(report.facts for report in reports),
        messages=sum(report.turns for report in reports),
        verified=all(report.verified for report in reports),
        earlier_versions=earlier[:_NAMED_MAX],
        hint=" ".join(hints) or None,
    )
    lines = [f"Deleted {facts.deleted} of {chosen.found + len(chosen.missing)} ids: "]
    lines[0] += f"{facts.facts} statements and {facts.messages} messages are gone, with all that was made of them."
    lines.append(f"Verified: {'yes' if facts.verified else 'no'}.")
    if facts.missing:
        lines.append(f"Missing, or not this user's: {', '.join(facts.missing)}")
    if facts.earlier_versions:
        lines.append(f"Earlier versions: {', '.join(facts.earlier_versions)}")
    return Told("\n".join([*lines, *hints]), facts)
