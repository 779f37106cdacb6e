"""The messages of forgetting: what is to be erased, what was, and what is not kept for ever. docs/PROTOCOL.md has the contract."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from shared.memory_messages import EraseReport
from shared.messages import Answer, Id, PageQuery, Request, Timestamp

# One transaction and one list of keys in memory; for more, name a session, a user or a time.
FORGET_IDS_MAX = 10_000


class ForgetRequest(Request, frozen=True, kw_only=True):
    """At least one of user_id, session_id, ids and before; each further one narrows.

    `ids` are of turns where a session is named, else of facts. Nothing is erased unless `dry_run` is false.
    """

    user_id: Id | None = None
    session_id: Id | None = None
    ids: Annotated[list[Id], Meta(min_length=1, max_length=FORGET_IDS_MAX)] | None = None
    before: Timestamp | None = None
    dry_run: bool = True


class AuditScope(Answer, frozen=True, kw_only=True):
    """What an erase was to reach. `user` and `session` are digests, `ids` is how many."""

    user: str | None = None
    session: str | None = None
    ids: int | None = None
    before: datetime | None = None


class AuditEntry(Answer, frozen=True, kw_only=True):
    """`action` is `retain` where a limit of retention did it. `key_id` is the key that asked, if one did."""

    id: int
    at: datetime
    action: Literal["forget", "retain"]
    key_id: str | None = None
    scope: AuditScope
    report: EraseReport


class AuditPage(Answer, frozen=True, kw_only=True):
    items: list[AuditEntry]
    next_cursor: str | None = None


class AuditQuery(PageQuery, frozen=True, kw_only=True):
    user_id: Id | None = None
    session_id: Id | None = None


class TenantRetention(Answer, frozen=True, kw_only=True):
    """What is kept at most of every session, where the session itself does not keep less."""

    days_max: int | None = None
    turns_max: int | None = None
