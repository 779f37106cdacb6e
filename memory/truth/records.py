"""What moves between the memory service's modules: typed rows, never dicts."""

from dataclasses import dataclass
from datetime import datetime

from shared.fact_messages import Fact
from shared.memory_messages import Policy, RecallKind, Role, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """`last_seq` and `tail_tokens` are those of when it was read."""

    id: int
    tenant: str
    session_id: str
    user_id: str | None
    agent_id: str | None
    policy: Policy
    last_seq: int
    tail_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose memory is read. Never empty: everything read belongs to the tenant and to all that are given."""

    tenant: str
    user_id: str | None = None
    agent_id: str | None = None
    session: int | None = None

    def __post_init__(self) -> None:
        if self.user_id is None and self.agent_id is None and self.session is None:
            raise AssertionError("a scope names a user, an agent or a session")

    @property
    def label(self) -> str:
        given = (("user", self.user_id), ("agent", self.agent_id), ("session", self.session))
        return "+".join(name for name, value in given if value is not None)


# What names an item among all that can be recalled: ids are counted for each kind apart.
ItemKey = tuple[RecallKind, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedItem:
    """What a recall index and the model need to know of an item.

    `position` is its place among the items of its session that follow one another, None where it has no neighbours.
    `metadata` is JSON as it is stored. `vector` is None until it is known.
    """

    kind: RecallKind
    id: int
    session: int | None
    position: int | None
    role: str
    speaker: str
    text: str
    created_at: datetime
    metadata: str
    vector: bytes | None

    @property
    def key(self) -> ItemKey:
        return self.kind, self.id


@dataclass(frozen=True, slots=True)
class Changes:
    """The next changes of a scope, up to and with `sequence`: items as they are now, and those that are gone."""

    sequence: int
    items: list[IndexedItem]
    removed: list[ItemKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecalledTurn:
    """A turn with the session that it belongs to."""

    id: int
    session: int
    session_id: str
    turn_id: str
    seq: int
    role: Role
    name: str | None
    content: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RecalledSpan:
    """A span with its key, and that of its session."""

    id: int
    session: int
    span: Span

    @property
    def created_at(self) -> datetime:
        return self.span.until


@dataclass(frozen=True, slots=True)
class RecalledFact:
    """A fact with its key."""

    id: int
    fact: Fact

    @property
    def created_at(self) -> datetime:
        return self.fact.valid_from


# What recall finds, in one form for each kind.
RecalledItem = RecalledTurn | RecalledSpan | RecalledFact


def speaker_of(role: str, name: str | None) -> str:
    return name or role


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A turn as a summary reads it."""

    seq: int
    role: Role
    speaker: str
    created_at: datetime
    text: str
