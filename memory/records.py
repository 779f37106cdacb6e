"""What moves between the memory service's modules: typed rows, never dicts."""

from dataclasses import dataclass
from datetime import datetime

from shared.memory_messages import Policy, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    id: int
    tenant: str
    session_id: str
    user_id: str | None
    agent_id: str | None
    policy: Policy


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


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedTurn:
    """What a recall index needs to know of a turn. `vector` is None until it is known."""

    id: int
    session: int
    speaker: str
    text: str
    created_at: datetime
    vector: bytes | None


@dataclass(frozen=True, slots=True)
class Changes:
    """The next changes of a scope, up to and with `sequence`: items as they are now, and those that are gone."""

    sequence: int
    items: list[IndexedTurn]
    removed_ids: list[int]


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


def speaker_of(role: str, name: str | None) -> str:
    return name or role


def embed_text(turn: IndexedTurn) -> str:
    """What the model reads of a turn."""
    return f"{turn.speaker}: {turn.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A turn as a summary reads it."""

    seq: int
    role: Role
    speaker: str
    created_at: datetime
    text: str
