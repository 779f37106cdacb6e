"""A route is a value: where it is, who may call it, what comes in, what goes out, and the function in between.

The server dispatches by these values, `/openapi.json` is generated from them, and tests walk over them, so that a route
cannot exist without being typed, guarded and documented.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from shared.keys import Principal, Scope
from shared.messages import Id

BodyT = TypeVar("BodyT")
QueryT = TypeVar("QueryT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[BodyT, QueryT]):
    """One authenticated, decoded request."""

    principal: Principal
    path: Mapping[str, str]
    body: BodyT
    query: QueryT
    # The caller's own key, so that memory asks retrieval with the caller's rights and no others.
    bearer: str | None = field(repr=False)
    # What a caller of a stream heard last, when it comes back for the rest.
    last_event_id: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """For handlers whose status is not always 200."""

    status: int
    message: msgspec.Struct


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream. A caller that comes back names the last `id` that it heard."""

    name: str
    data: msgspec.Struct
    id: str


@dataclass(frozen=True, slots=True)
class Stream:
    """For handlers whose answer goes on. What can be refused is refused before it is returned."""

    events: AsyncIterator[Event]


@dataclass(frozen=True, slots=True)
class Incoming:
    """The body of a route that takes records: their encoding, and their bytes as they come."""

    media: str
    parts: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Records:
    """For handlers whose answer is records, given their encoding. What `parts` raises before the first is a problem."""

    parts: Callable[[str], AsyncGenerator[bytes, None]]


# What a call becomes when its key belongs to a user: kept to that user's own, or refused (shared/users.py).
ForUser = Callable[[Any, Call[Any, Any]], Awaitable[Call[Any, Any]]]
Handler = Callable[[Any, Call[Any, Any]], Awaitable["msgspec.Struct | Reply | Stream | Records"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    method: str
    path: str
    summary: str
    handler: Handler
    scope: Scope | None
    answers: Mapping[int, type[msgspec.Struct]]
    # Without a rule, keys that belong to a user are refused.
    for_user: ForUser | None = None
    body: type[msgspec.Struct] | None = None
    # The body comes as a form with files (shared/forms.py), not as JSON or MessagePack.
    is_form: bool = False
    # A body that may be left out altogether, when every field has a default.
    body_optional: bool = False
    query: type[msgspec.Struct] | None = None
    # Not bound by request_timeout_s: work that an operator asked for and waits for.
    takes_long: bool = False
    # Answers server-sent events (text/event-stream), their data JSON of the type of the 200 answer.
    streams: bool = False
    # The body, or the 200 answer, is a stream of records of these types (shared/record_streams.py). Such a body has no limit
    # but that of a record, so the route also `takes_long`.
    takes_records: tuple[type[msgspec.Struct], ...] = ()
    gives_records: tuple[type[msgspec.Struct], ...] = ()

    @property
    def operation_id(self) -> str:
        return self.handler.__name__

    @property
    def path_names(self) -> tuple[str, ...]:
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))


PathId = Id
