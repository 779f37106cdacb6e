"""The bases of every message, the scalar types they share, and the messages both services answer.

A `Request` refuses unknown fields, because a misspelt option that is silently ignored is a wrong answer.
An `Answer` tolerates them, because the contract may grow and old clients must go on working.
Fields that are `None` are left out on the wire.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from shared.errors import FieldError

# JSON Schema's `$` means the very end; Python's also matches before a last newline. `(?!\n)` makes them agree.
ID_PATTERN = r"^[^\x00-\x1f\x7f]+$(?!\n)"
TEXT_PATTERN = r"^[^\x00]*$(?!\n)"

Id = Annotated[
    str,
    Meta(min_length=1, max_length=256, pattern=ID_PATTERN, description="1 to 256 characters, no control characters"),
]
Text = Annotated[str, Meta(pattern=TEXT_PATTERN, description="any text without NUL characters")]
FilledText = Annotated[str, Meta(min_length=1, pattern=TEXT_PATTERN, description="text, not empty, no NUL characters")]
Title = Annotated[str, Meta(max_length=1024, pattern=TEXT_PATTERN)]
Timestamp = Annotated[datetime, Meta(tz=True, description="RFC 3339 with a zone; stored in UTC")]
Metadata = Annotated[dict[str, Any], Meta(description="a JSON object")]
FilterObject = Annotated[dict[str, Any], Meta(description="conditions on metadata; docs/PROTOCOL.md has the language")]
PageLimit = Annotated[int, Meta(ge=1, le=1000)]
Cursor = Annotated[str, Meta(max_length=512, description="the previous page's next_cursor, unchanged")]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a caller sends."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a service answers."""


class NoQuery(Request, frozen=True, kw_only=True):
    """For routes without parameters."""


class PageQuery(Request, frozen=True, kw_only=True):
    cursor: Cursor | None = None
    limit: PageLimit = 100


class Problem(Answer, frozen=True, kw_only=True):
    """An error on the wire (RFC 9457, application/problem+json or +msgpack)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldError] | None = None
    retry_after_s: float | None = None


class Health(Answer, frozen=True, kw_only=True):
    status: Literal["alive", "ready"]


class Info(Answer, frozen=True, kw_only=True):
    service: str
    version: str
    protocol: str
    details: dict[str, Any]


class Finding(Answer, frozen=True, kw_only=True):
    """One way in which a store or projection differs from the truth."""

    where: str
    problem: str


class CheckReport(Answer, frozen=True, kw_only=True):
    """`clean` says that every projection agrees with SQLite; `checked` counts what was compared."""

    clean: bool
    checked: dict[str, int]
    findings: list[Finding]


class Snapshot(Answer, frozen=True, kw_only=True):
    """A copy of the service's truth. `path` is on the service's machine; `diptych restore` takes it."""

    name: str
    service: str
    version: str
    path: str
    bytes: int
    sha256: str
    created_at: datetime


class SnapshotList(Answer, frozen=True, kw_only=True):
    items: list[Snapshot]


class Deleted(Answer, frozen=True, kw_only=True):
    deleted: int
