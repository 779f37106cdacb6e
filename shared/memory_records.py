"""The records of a memory's export, as they travel and are imported again. docs/PROTOCOL.md has the format.

A stream is one header, then the sessions by id, each followed by its turns and its spans in order, then the facts, then what
was judged, then the end. Every record refuses unknown fields: what an import does not understand it must not lose in silence.
"""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from shared.fact_messages import FactStatus, FactText, FactTurn
from shared.feedback_messages import JUDGMENTS_MAX, Comment, Grade, JudgedKind
from shared.memory_messages import SEQ_MAX, FactKind, LedgerItem, Name, Policy, Retention, Role
from shared.messages import Answer, Id, Metadata, Request, Text, Timestamp, Title
from shared.retrieval_messages import Query
from shared.vectors import Vector

FORMAT: Final = "diptych.memory"
FORMAT_VERSION: Final = 1
CONFLICTS_SHOWN_MAX: Final = 100

DIGEST_PATTERN: Final = r"^[0-9a-f]{64}$(?!\n)"
Digest = Annotated[str, Meta(pattern=DIGEST_PATTERN, description="SHA-256 in hexadecimal digits")]
Seq = Annotated[int, Meta(ge=1, le=SEQ_MAX)]
Count = Annotated[int, Meta(ge=0, le=SEQ_MAX)]


class ExportHeader(Request, frozen=True, kw_only=True, tag=FORMAT, tag_field="type"):
    """`user_id` says whose memory it is; without it, the whole tenant's. Vectors are of `model`, which read the texts in the
    version `embed_text`; there are none where the header names no model. No time is in it: the same memory is exported as
    the same bytes."""

    version: int
    user_id: Id | None = None
    model: Text | None = None
    embed_text: Text | None = None


class ExportedSession(Request, frozen=True, kw_only=True, tag="session", tag_field="type"):
    """`last_seq` is the number given out last, `tail_from` the first turn that no span stands for."""

    id: Id
    user_id: Id | None = None
    agent_id: Id | None = None
    title: Title = ""
    policy: Policy
    retention: Retention | None = None
    metadata: Metadata
    last_seq: Count
    tail_from: Seq
    created_at: Timestamp
    updated_at: Timestamp


class ExportedTurn(Request, frozen=True, kw_only=True, tag="turn", tag_field="type"):
    session_id: Id
    id: Id
    seq: Seq
    role: Role
    content: Text
    name: Name | None = None
    created_at: Timestamp
    stored_at: Timestamp
    metadata: Metadata
    vector: Vector | None = None


class ExportedSpan(Request, frozen=True, kw_only=True, tag="span", tag_field="type"):
    """`turns` is how many it stands for, `source_hash` is of what it was made from."""

    session_id: Id
    id: Id
    level: Annotated[int, Meta(ge=0, le=64)]
    first_seq: Seq
    last_seq: Seq
    parent_id: Id | None = None
    since: Timestamp
    until: Timestamp
    text: Text
    ledger: list[LedgerItem]
    tokens: Count
    source_tokens: Count
    turns: Count
    summarizer: Name
    source_hash: Digest
    created_at: Timestamp
    vector: Vector | None = None


class ExportedFact(Request, frozen=True, kw_only=True, tag="fact", tag_field="type"):
    """`replaced_by` is the fact that took its place; those without a key that replace each other have one `line`. `sources`
    are in the order of their sessions and turns."""

    id: Id
    user_id: Id
    kind: FactKind
    key: Id | None = None
    text: FactText
    status: FactStatus
    pinned: bool = False
    valid_from: Timestamp
    valid_to: Timestamp | None = None
    expires_at: Timestamp | None = None
    replaced_by: Id | None = None
    origin: Text
    derived: bool = False
    content_hash: Digest
    line: Text | None = None
    sources: list[FactTurn]
    created_at: Timestamp
    updated_at: Timestamp
    vector: Vector | None = None


class ExportedJudgment(Request, frozen=True, kw_only=True):
    """Without the key that judged: it means nothing elsewhere."""

    kind: JudgedKind
    id: Id
    session_id: Id | None = None
    relevance: Grade
    judged_at: Timestamp


class ExportedFeedback(Request, frozen=True, kw_only=True, tag="feedback", tag_field="type"):
    """`user_id` and `agent_id` of a session that was asked are those that it belongs to."""

    id: Id
    user_id: Id | None = None
    session_id: Id | None = None
    agent_id: Id | None = None
    query: Query
    as_of: Timestamp | None = None
    judgments: Annotated[list[ExportedJudgment], Meta(min_length=1, max_length=JUDGMENTS_MAX)]
    comment: Comment = ""
    created_at: Timestamp
    judged_at: Timestamp


class ExportEnd(Request, frozen=True, kw_only=True, tag="end", tag_field="type"):
    """How many records of each kind there were, so that a stream that was cut off is told from a whole one. `feedback` is left
    out where there is none: older streams have no such field."""

    sessions: Count
    turns: Count
    spans: Count
    facts: Count
    feedback: Count = 0


MemoryRecord = (
    ExportHeader | ExportedSession | ExportedTurn | ExportedSpan | ExportedFact | ExportedFeedback | ExportEnd
)
MEMORY_RECORDS: Final[tuple[type[Any], ...]] = (
    ExportHeader,
    ExportedSession,
    ExportedTurn,
    ExportedSpan,
    ExportedFact,
    ExportedFeedback,
    ExportEnd,
)


class ExportQuery(Request, frozen=True, kw_only=True):
    """One of `user_id` and `everything`. `vectors` come along where they are asked for."""

    user_id: Id | None = None
    everything: bool = False
    vectors: bool = False


class ImportCounts(Answer, frozen=True, kw_only=True):
    """`unchanged` were there already, just so. `refused` are there already, and different."""

    created: int
    unchanged: int
    refused: int


class ImportConflict(Answer, frozen=True, kw_only=True):
    """Records are counted from 1, as the lines of NDJSON are. `id` is that of what was refused."""

    record: int
    type: Literal["session", "fact", "feedback"]
    id: str
    message: str


class ImportReport(Answer, frozen=True, kw_only=True, omit_defaults=False):
    """`vectors` are those that came along and are used; of what else was created they are made in the background.
    `conflicts` are the first hundred."""

    records: int
    sessions: ImportCounts
    turns: ImportCounts
    spans: ImportCounts
    facts: ImportCounts
    feedback: ImportCounts = ImportCounts(created=0, unchanged=0, refused=0)
    vectors: int
    conflicts: list[ImportConflict]
