"""`add_memory` and `update_memory`: what is known of the user, statement by statement."""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, field

from memory.agents.fitting import clipped, quoted
from memory.agents.handles import FactHandle, fact_name, parse_handle
from memory.agents.identity import user_of
from memory.agents.moments import NEVER, When, moment_of, written
from memory.service import MemoryService
from shared.errors import Conflict, NotFound, invalid
from shared.fact_messages import Fact, FactIn, FactPatch, FactRecord, FactStatus
from shared.mcp.catalogue import Caller, Told
from shared.memory_messages import FactKind
from shared.messages import ID_PATTERN, TEXT_PATTERN, Answer, Request

# A statement. What is longer is a document, or several statements.
_TEXT_CHARACTERS_MAX: Final = 2000
# Beside the memory itself others are only told of.
_OTHERS_CHARACTERS_MAX: Final = 200
_SIMILAR_MAX: Final = 3

Statement = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=_TEXT_CHARACTERS_MAX,
        pattern=TEXT_PATTERN,
        description="One self-contained statement with names and absolute dates",
    ),
]
Expiry = Annotated[str, Meta(description="Time after which it no longer holds")]


class AddMemory(Request, frozen=True, kw_only=True):
    text: Statement
    kind: Annotated[FactKind, Meta(description="instruction: a standing order of the user")] = "fact"
    key: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=256,
                pattern=ID_PATTERN,
                description="What has one value at a time, e.g. home_city: replaces its last value",
            ),
        ]
        | None
    ) = None
    occurred_at: When | None = None
    expires_at: Expiry | None = None
    pinned: Annotated[bool, Meta(description="In every context")] = False


class UpdateMemory(Request, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=300, description="Of the memory")]
    text: Statement | None = None
    expires_at: Annotated[str, Meta(description=f"Or '{NEVER}'")] | None = None
    pinned: Annotated[bool, Meta(description="Keep it in every context")] | None = None


class Memory(Answer, frozen=True, kw_only=True):
    """`status` is there where it is not active: then no search finds it."""

    id: str
    text: str
    kind: FactKind
    since: str
    key: str | None = None
    until: str | None = None
    expires_at: str | None = None
    pinned: bool = False
    status: FactStatus | None = None


class OtherMemory(Answer, frozen=True, kw_only=True):
    id: str
    text: str


class Added(Answer, frozen=True, kw_only=True):
    status: Literal["created", "unchanged", "superseded", "pending"]
    memory: Memory
    replaced: OtherMemory | None = None
    similar: list[OtherMemory] = field(default_factory=list)
    hint: str | None = None


class Updated(Answer, frozen=True, kw_only=True):
    """`replaced` is the text that it had, still in its history; `versions` counts all that were ever said in its place."""

    memory: Memory
    versions: int
    replaced: OtherMemory | None = None
    hint: str | None = None


_SAID: Final = {
    "created": "Added",
    "unchanged": "Known already",
    "superseded": "Added, in the place of an older value",
    "pending": "Added, to be approved",
}


async def add_memory(service: MemoryService, caller: Caller, arguments: AddMemory) -> Told:
    user_id, tenant = user_of(caller, service.settings.mcp_user), caller.principal.tenant
    given = FactIn(
        user_id=user_id,
        text=arguments.text,
        kind=arguments.kind,
        key=arguments.key,
        valid_from=moment_of(arguments.occurred_at, "occurred_at"),
        expires_at=moment_of(arguments.expires_at, "expires_at", at_end=True),
        pinned=arguments.pinned,
    )
    answer = await service.facts.put(tenant, given)
    record = await service.facts.record(tenant, answer.id)
    # A key that may only write learns nothing of what is there.
    may_read = caller.principal.may("memory:read")
    names = [*([answer.replaced] if answer.replaced else []), *(answer.similar or [])[:_SIMILAR_MAX]]
    others = [_other(await service.facts.record(tenant, name)) for name in names] if may_read else []
    replaced = others.pop(0) if others and answer.replaced else None
    hints = _not_found_now(record, datetime.now(UTC))
    if others:
        hints.append("Others say nearly the same: update or delete one if they should be one memory.")
    facts = Added(
        status=answer.status,
        memory=memory_of(record),
        replaced=replaced,
        similar=others,
        hint=" ".join(hints) or None,
    )
    lines = [f"{_SAID[answer.status]}: {told_memory(facts.memory)}"]
    if replaced:
        lines.append(f"Replaced: [{replaced.id}] {quoted(replaced.text)}")
    lines += [f"Similar: [{each.id}] {quoted(each.text)}" for each in others]
    return Told("\n".join([*lines, *hints]), facts)


async def update_memory(service: MemoryService, caller: Caller, arguments: UpdateMemory) -> Told:
    before = await own_fact(service, caller, arguments.id)
    if arguments.text is None and arguments.expires_at is None and arguments.pinned is None:
        raise invalid("text", "nothing is to be changed; give text, expires_at or pinned")
    is_endless = arguments.expires_at == NEVER
    expires_at = None if is_endless else moment_of(arguments.expires_at, "expires_at", at_end=True)
    patch = FactPatch(
        text=arguments.text,
        pinned=arguments.pinned,
        expires_at=UNSET if arguments.expires_at is None else expires_at,
    )
    after = await _changed(service, caller, before, patch)
    waits = after.status == "pending"
    hints = _not_found_now(after, datetime.now(UTC))
    if waits:
        hints.append("Until then the old text holds.")
    facts = Updated(
        memory=memory_of(after),
        versions=len(after.history),
        replaced=_other(before) if after.id != before.id and not waits else None,
        hint=" ".join(hints) or None,
    )
    lines = [f"Updated: {told_memory(facts.memory)}", f"Versions in its history: {facts.versions}."]
    if facts.replaced:
        lines.append(f"Replaced: [{facts.replaced.id}] {quoted(facts.replaced.text)}")
    return Told("\n".join([*lines, *([facts.hint] if facts.hint else [])]), facts)


def _not_found_now(fact: Fact, now: datetime) -> list[str]:
    """Why no search has it at this moment, where none does."""
    if fact.status == "pending":
        return ["It waits for approval by a person, and is not found until then."]
    if fact.valid_from > now:
        return [f"It is found from {written(fact.valid_from)} on."]
    ends = min((end for end in (fact.valid_to, fact.expires_at) if end is not None), default=None)
    if ends is not None and ends <= now:
        return ["It does not hold any more: search_memories finds it with as_of."]
    return []


async def _changed(service: MemoryService, caller: Caller, before: FactRecord, patch: FactPatch) -> FactRecord:
    """Raises Conflict in words for an agent, who approves nothing."""
    try:
        return await service.facts.change(caller.principal, before.id, patch)
    except Conflict as error:
        if before.status == "pending":
            raise Conflict("this memory waits for approval; add_memory says something else beside it") from error
        if before.status == "rejected":
            raise Conflict("this memory was rejected by a person; it cannot be changed") from error
        if before.replaced_by:
            newest = fact_name(before.replaced_by)
            raise Conflict(f"this memory was corrected already; update {newest!r} instead") from error
        raise


async def own_fact(service: MemoryService, caller: Caller, name: str) -> FactRecord:
    """Raises NotFound for what is not the user's, as for what does not exist."""
    user_id = user_of(caller, service.settings.mcp_user)
    handle = parse_handle(name)
    if not isinstance(handle, FactHandle):
        raise invalid(
            "id", "names messages, which are not changed; delete_memories deletes them, add_memory adds a statement"
        )
    try:
        record = await service.facts.record(caller.principal.tenant, handle.fact_id)
    except NotFound:
        record = None
    if record is None or record.user_id != user_id:
        raise NotFound(f"there is no memory {clipped(name, 80)!r}; search_memories gives ids")
    return record


def memory_of(fact: Fact) -> Memory:
    return Memory(
        id=fact_name(fact.id),
        text=fact.text,
        kind=fact.kind,
        since=written(fact.valid_from),
        key=fact.key,
        until=written(fact.valid_to) if fact.valid_to else None,
        expires_at=written(fact.expires_at) if fact.expires_at else None,
        pinned=fact.pinned,
        status=None if fact.status == "active" else fact.status,
    )


def told_memory(memory: Memory) -> str:
    notes = [memory.kind, f"since {memory.since}"]
    notes += [f"until {memory.until}"] if memory.until else []
    notes += [f"expires {memory.expires_at}"] if memory.expires_at else []
    notes += [f"key {memory.key}"] if memory.key else []
    notes += ["pinned"] if memory.pinned else []
    notes += [memory.status] if memory.status else []
    return f"[{memory.id}] ({', '.join(notes)})\n{quoted(memory.text)}"


def _other(fact: Fact) -> OtherMemory:
    return OtherMemory(id=fact_name(fact.id), text=clipped(fact.text, _OTHERS_CHARACTERS_MAX))
