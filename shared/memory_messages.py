"""The memory service's messages. The contract is in docs/PROTOCOL.md; here are its types."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from shared.messages import Answer, FilterObject, Id, Metadata, PageQuery, Request, Text, Timestamp, Title
from shared.retrieval_messages import Query, SearchMode

Role = Literal["user", "assistant", "system", "tool"]
PartKind = Literal["instruction", "fact", "summary", "turn", "recalled", "document"]
RecallKind = Literal["turn", "span", "fact"]
FactKind = Literal["fact", "preference", "instruction", "event"]
Summarizer = Literal["extractive", "llm"]
Name = Annotated[Text, Meta(max_length=256)]

# A batch is one transaction and one lock of the session.
TURNS_PER_REQUEST_MAX = 1000
# What every JSON library can hold.
SEQ_MAX = 2**53
# More is a dump, not a context; the largest windows of today's models.
CONTEXT_TOKENS_MAX = 1_000_000


class Policy(Request, frozen=True, kw_only=True, omit_defaults=False):
    """When a session is compacted: once its tail passes `tail_tokens_max`, down to `tail_tokens_keep`."""

    tail_tokens_max: Annotated[int, Meta(ge=256, le=10_000_000)] = 8000
    tail_tokens_keep: Annotated[int, Meta(ge=0, le=10_000_000)] = 4000
    summarizer: Summarizer = "extractive"


class Retention(Request, frozen=True, kw_only=True):
    """What is kept at most: turns of the last `days_max` days, and the newest `turns_max` of a session. Without, for ever."""

    days_max: Annotated[int, Meta(ge=1, le=36_500)] | None = None
    turns_max: Annotated[int, Meta(ge=1, le=SEQ_MAX)] | None = None


class SessionSpec(Request, frozen=True, kw_only=True):
    """What is left out keeps its value. Whose session it is cannot change once it has turns."""

    user_id: Id | None = None
    agent_id: Id | None = None
    title: Title | None = None
    policy: Policy | None = None
    retention: Retention | None = None
    metadata: Metadata | None = None


class Session(Answer, frozen=True, kw_only=True):
    id: str
    user_id: str | None = None
    agent_id: str | None = None
    title: str
    policy: Policy
    retention: Retention | None = None
    metadata: dict[str, Any]
    turns: int
    tail_tokens: int
    created_at: datetime
    updated_at: datetime


class SessionPage(Answer, frozen=True, kw_only=True):
    items: list[Session]
    next_cursor: str | None = None


class SessionsQuery(PageQuery, frozen=True, kw_only=True):
    user_id: Id | None = None
    agent_id: Id | None = None


class TurnIn(Request, frozen=True, kw_only=True):
    """Without an id it gets a new one, so a retry would store it again: send ids."""

    id: Id | None = None
    role: Role
    content: Text
    name: Name | None = None
    created_at: Timestamp | None = None
    metadata: Metadata | None = None


class AppendRequest(Request, frozen=True, kw_only=True):
    """`user_id` and `agent_id` say whose session it is, if it is made by this call; later they must agree."""

    user_id: Id | None = None
    agent_id: Id | None = None
    turns: Annotated[list[TurnIn], Meta(min_length=1, max_length=TURNS_PER_REQUEST_MAX)]


class AppendedTurn(Answer, frozen=True, kw_only=True):
    id: str
    seq: int
    status: Literal["stored", "duplicate"]


class AppendAnswer(Answer, frozen=True, kw_only=True):
    turns: list[AppendedTurn]
    tail_tokens: int
    compaction: Literal["none", "queued"]


class Turn(Answer, frozen=True, kw_only=True):
    """`seq` counts from 1 within the session. Only what was forgotten leaves a gap."""

    id: str
    seq: int
    role: Role
    content: str
    name: str | None = None
    created_at: datetime
    metadata: dict[str, Any]
    tokens: int


class TurnPage(Answer, frozen=True, kw_only=True):
    items: list[Turn]
    next_cursor: str | None = None


class TurnsQuery(PageQuery, frozen=True, kw_only=True):
    """`after` and `before` are sequence numbers, both exclusive."""

    after: Annotated[int, Meta(ge=0, le=SEQ_MAX)] | None = None
    before: Annotated[int, Meta(ge=0, le=SEQ_MAX)] | None = None


LedgerKind = Literal[
    "path", "url", "email", "id", "number", "money", "date", "version", "quote", "command", "error", "name"
]


class LedgerItem(Answer, frozen=True, kw_only=True):
    """Said in turn `seq`, first, in exactly these words."""

    kind: LedgerKind
    text: str
    seq: int


class Span(Answer, frozen=True, kw_only=True):
    """A summary that stands for the turns from `first_seq` to `last_seq`, said between `since` and `until`. It opens to them.

    On level 0 it was made from turns, above from the spans of the level below. `tokens` are those of text and ledger as a
    context shows them, `source_tokens` those of the turns. `parent_id` names the span that stands for this one, if one does.
    """

    id: str
    session_id: str
    level: int
    first_seq: int
    last_seq: int
    since: datetime
    until: datetime
    text: str
    ledger: list[LedgerItem]
    tokens: int
    source_tokens: int
    summarizer: str
    created_at: datetime
    parent_id: str | None = None


class SpanPage(Answer, frozen=True, kw_only=True):
    items: list[Span]
    next_cursor: str | None = None


class SpansQuery(PageQuery, frozen=True, kw_only=True):
    level: Annotated[int, Meta(ge=0, le=64)] | None = None


class CompactRequest(Request, frozen=True, kw_only=True):
    """Without `tail_tokens_keep`, the session's policy says how much stays."""

    tail_tokens_keep: Annotated[int, Meta(ge=0, le=10_000_000)] | None = None


class CompactAnswer(Answer, frozen=True, kw_only=True):
    """`spans_created` counts those of all levels, `turns_folded` the turns that left the tail."""

    spans_created: int
    turns_folded: int
    tail_tokens: int


class EraseReport(Answer, frozen=True, kw_only=True, omit_defaults=False):
    """Of a dry run, what would go. Else counted after the fact: `verified` says that a second look found nothing left of it
    in any table, in the unused space of the file, or in its log. `sessions` are those that went altogether. `feedback` has a
    default for reports from before there was any."""

    turns: int
    spans_remade: int
    facts: int
    vectors: int
    sessions: int
    feedback: int = 0
    verified: bool
    dry_run: bool


class RecallRequest(Request, frozen=True, kw_only=True):
    """At least one of user_id, session_id and agent_id; with several, what belongs to all of them.

    Without a query, newest first. `as_of` looks from an earlier moment: nothing later is seen, and "yesterday" is its
    yesterday. `filter` is over an item's metadata.
    """

    query: Query | None = None
    user_id: Id | None = None
    session_id: Id | None = None
    agent_id: Id | None = None
    kinds: Annotated[tuple[RecallKind, ...], Meta(min_length=1, max_length=3)] = ("turn", "fact")
    since: Timestamp | None = None
    until: Timestamp | None = None
    as_of: Timestamp | None = None
    filter: FilterObject | None = None
    mode: SearchMode = "hybrid"
    limit: Annotated[int, Meta(ge=1, le=1000)] = 10
    neighbours: Annotated[int, Meta(ge=0, le=20)] = 0
    explain: bool = False


class RecallScores(Answer, frozen=True, kw_only=True):
    dense: float | None = None
    dense_rank: int | None = None
    lexical: float | None = None
    lexical_rank: int | None = None


class Recalled(Answer, frozen=True, kw_only=True):
    """A turn has `seq` and `role`; `before` and `after` are the turns around it, in order, when neighbours were asked for.

    A span has `level`, `first_seq`, `last_seq` and `since`, and opens to its turns by its id. Its `created_at` is when the
    latest of them was said. A fact has `fact_kind`, `key`, `pinned`, `valid_from` and `valid_to`, and no session; its `created_at` is
    when it came true.
    """

    kind: RecallKind
    id: str
    session_id: str | None = None
    seq: int | None = None
    role: Role | None = None
    name: str | None = None
    level: int | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    since: datetime | None = None
    fact_kind: FactKind | None = None
    key: str | None = None
    pinned: bool | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    text: str
    created_at: datetime
    score: float
    scores: RecallScores
    before: list[Turn] | None = None
    after: list[Turn] | None = None


class UnderstoodTime(Answer, frozen=True, kw_only=True):
    """A time that the query speaks of: from `since` on, and before `until`."""

    text: str
    since: datetime | None = None
    until: datetime | None = None


class RecallPlan(Answer, frozen=True, kw_only=True):
    """`without_vector` counts items that only the lexical leg could find yet. `times` and `speakers` are what was understood
    of the query: items of theirs count more, and nothing is left out for it."""

    scope: str
    items: int
    without_vector: int
    times: list[UnderstoodTime]
    speakers: list[str]
    stages_ms: dict[str, float]


class RecallAnswer(Answer, frozen=True, kw_only=True):
    """`degraded`: retrieval could not be asked for the query's vector, so only words were compared."""

    items: list[Recalled]
    degraded: bool
    plan: RecallPlan | None = None


class ContextRequest(Request, frozen=True, kw_only=True):
    """At least one of session_id and user_id. Without a query, the session's last user turn is taken for one.

    The session gives its tail. Recalled turns come from the user's sessions when user_id is given, else from the session.
    """

    session_id: Id | None = None
    user_id: Id | None = None
    query: Query | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=CONTEXT_TOKENS_MAX)] = 2000
    collections: Annotated[list[Id], Meta(min_length=1, max_length=32)] | None = None
    as_of: Timestamp | None = None


class TurnSource(Answer, frozen=True, kw_only=True, tag="turn", tag_field="type"):
    session_id: str
    turn_id: str
    seq: int


class SpanSource(Answer, frozen=True, kw_only=True, tag="span", tag_field="type"):
    """`GET /v1/spans/{span_id}/turns` opens it."""

    session_id: str
    span_id: str
    first_seq: int
    last_seq: int


class FactSource(Answer, frozen=True, kw_only=True, tag="fact", tag_field="type"):
    """`GET /v1/facts/{fact_id}` has it with its history."""

    fact_id: str


class DocumentSource(Answer, frozen=True, kw_only=True, tag="document", tag_field="type"):
    collection: str
    document_id: str
    chunk_id: int
    start: int
    end: int


class Part(Answer, frozen=True, kw_only=True):
    kind: PartKind
    text: str
    tokens: int
    sources: list[TurnSource | SpanSource | FactSource | DocumentSource]


class ContextAnswer(Answer, frozen=True, kw_only=True):
    """`text` is the parts as one text, ready for a prompt; `tokens` are its own and never above max_tokens.
    `omitted` counts, for each kind, what was found and did not fit."""

    text: str
    parts: list[Part]
    tokens: int
    omitted: dict[str, int]
    degraded: bool
