"""The memory service's messages about facts. The contract is in docs/PROTOCOL.md; here are its types."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from shared.memory_messages import SEQ_MAX, FactKind, TurnSource
from shared.messages import TEXT_PATTERN, Answer, Id, PageQuery, Request, Timestamp

FactStatus = Literal["active", "pending", "rejected"]

# A statement, at most a few paragraphs: it stands in contexts whole. What is longer belongs into a document.
FACT_LENGTH_MAX = 4096
FACT_SOURCES_MAX = 100
# The newest of a key's history that come with a fact; the list pages through all of them.
FACT_HISTORY_MAX = 100

FactText = Annotated[
    str, Meta(min_length=1, max_length=FACT_LENGTH_MAX, pattern=TEXT_PATTERN, description="text without NUL characters")
]


class FactTurn(Request, frozen=True, kw_only=True):
    """A turn that a fact came from."""

    session_id: Id
    turn_id: Id


class FactIn(Request, frozen=True, kw_only=True):
    """Without an id it gets a new one. Without `valid_from` it holds from now on.

    With sources it is derived: it is forgotten when the last of these turns is.
    """

    id: Id | None = None
    user_id: Id
    text: FactText
    kind: FactKind = "fact"
    key: Id | None = None
    valid_from: Timestamp | None = None
    expires_at: Timestamp | None = None
    sources: Annotated[list[FactTurn], Meta(max_length=FACT_SOURCES_MAX)] | None = None
    pinned: bool = False


class FactAnswer(Answer, frozen=True, kw_only=True):
    """`id` is of the fact that stands for it: an older one where it is `unchanged`. `replaced` is the one whose validity
    it ended. `similar` are others of the user that say nearly the same, the most similar first; nothing was done to them."""

    id: str
    status: Literal["created", "unchanged", "superseded", "pending"]
    replaced: str | None = None
    similar: list[str] | None = None


class Fact(Answer, frozen=True, kw_only=True):
    """It holds from `valid_from` until `valid_to`, which is not part of it any more, and no longer than `expires_at`.

    `origin` is `caller`, or who extracted it from turns: `llm:MODEL@PROMPT`.
    """

    id: str
    user_id: str
    kind: FactKind
    key: str | None = None
    text: str
    status: FactStatus
    pinned: bool
    valid_from: datetime
    valid_to: datetime | None = None
    expires_at: datetime | None = None
    replaced_by: str | None = None
    origin: str
    sources: list[TurnSource]
    tokens: int
    created_at: datetime
    updated_at: datetime


class FactRecord(Fact, frozen=True, kw_only=True):
    """`history` is all that was ever said under its key, by `valid_from`, itself included."""

    history: list[Fact]


class FactPage(Answer, frozen=True, kw_only=True):
    items: list[Fact]
    next_cursor: str | None = None


class FactsQuery(PageQuery, frozen=True, kw_only=True):
    """What holds now, or at `as_of`, unless more is asked for."""

    user_id: Id | None = None
    kind: FactKind | None = None
    key: Id | None = None
    status: FactStatus = "active"
    include_superseded: bool = False
    include_expired: bool = False
    as_of: Timestamp | None = None


class FactPatch(Request, frozen=True, kw_only=True):
    """What is left out stays. `expires_at` may be null: then it does not expire."""

    text: FactText | None = None
    pinned: bool | None = None
    expires_at: Timestamp | UnsetType | None = UNSET
    status: Literal["active", "rejected"] | None = None


class ExtractRequest(Request, frozen=True, kw_only=True):
    """Turns behind the sequence number `after`, no more than `limit` of them."""

    after: Annotated[int, Meta(ge=0, le=SEQ_MAX)] = 0
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class ExtractedFact(FactAnswer, frozen=True, kw_only=True):
    text: str


class RefusedFact(Answer, frozen=True, kw_only=True):
    """What the model said, and why it was not stored."""

    text: str
    reason: Literal["malformed", "kind", "key", "too_long", "no_source", "unsupported", "rejected"]


class ExtractAnswer(Answer, frozen=True, kw_only=True):
    """`last_seq` is the last turn that was looked at: `after` of the next request. `has_more` says that there are others."""

    facts: list[ExtractedFact]
    refused: list[RefusedFact]
    last_seq: int
    has_more: bool
