"""What is to be forgotten, as conditions in SQL. Every further field narrows; nothing widens."""

from dataclasses import dataclass

import msgspec

from memory.truth.scopes import Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Within a tenant. `turn_ids` and `fact_ids` are the callers' names, `turns` and `feedback` are keys, `before` is a stored
    time."""

    tenant: str
    user_id: str | None = None
    session: int | None = None
    turn_ids: tuple[str, ...] | None = None
    fact_ids: tuple[str, ...] | None = None
    turns: tuple[int, ...] | None = None
    feedback: tuple[int, ...] | None = None
    before: str | None = None

    def __post_init__(self) -> None:
        named = (self.user_id, self.session, self.fact_ids, self.turns, self.feedback, self.before)
        if not any(value is not None for value in named):
            raise AssertionError("a selection names a user, a session, facts, turns, feedback or a time")
        if self.turn_ids is not None and self.session is None:
            raise AssertionError("turns have names within a session only")

    @property
    def is_whole(self) -> bool:
        """Whether sessions go altogether."""
        return not self.is_of_named and self.before is None

    @property
    def is_of_named(self) -> bool:
        """Whether items are named one by one, and nothing else is meant."""
        return any(each is not None for each in (self.fact_ids, self.turn_ids, self.turns, self.feedback))

    @property
    def is_user(self) -> bool:
        """Whether all of a user goes."""
        return self.is_whole and self.user_id is not None and self.session is None

    @property
    def drops_emptied(self) -> bool:
        """Whether sessions go that become empty: where sessions were not named, nobody expects them to stay."""
        return self.before is not None and self.session is None and not self.is_of_named

    def of_sessions(self) -> Condition:
        """Of sessions `s`."""
        return _all_of({"s.tenant = ?": self.tenant, "s.user_id = ?": self.user_id, "s.id = ?": self.session})

    def of_turns(self) -> Condition:
        """Of turns `t` of sessions `s`."""
        condition, values = self.of_sessions()
        narrowed, more = _all_of(
            {
                "t.turn_id IN (SELECT value FROM json_each(?))": _listed(self.turn_ids),
                "t.id IN (SELECT value FROM json_each(?))": _listed(self.turns),
                "t.created_at < ?": self.before,
            }
        )
        return f"{condition} AND {narrowed}" if narrowed else condition, [*values, *more]

    def of_facts(self) -> Condition | None:
        """Of facts `f` that are meant themselves, and not only because of where they came from; None for none."""
        if self.fact_ids is None and not self.is_user:
            return None
        return _all_of(
            {
                "f.tenant = ?": self.tenant,
                "f.user_id = ?": self.user_id,
                "f.fact_id IN (SELECT value FROM json_each(?))": _listed(self.fact_ids),
                "f.created_at < ?": self.before,
            }
        )

    def of_feedback(self) -> Condition | None:
        """Of feedback `f` that is meant itself, and not only because of what it judges; None for none."""
        if self.feedback is not None:
            return _all_of(
                {"f.tenant = ?": self.tenant, "f.id IN (SELECT value FROM json_each(?))": _listed(self.feedback)}
            )
        if self.is_of_named:
            return None
        return _all_of(
            {
                "f.tenant = ?": self.tenant,
                "f.user_id = ?": self.user_id,
                "f.session = ?": self.session,
                "f.judged_at < ?": self.before,
            }
        )


def _all_of(wanted: dict[str, str | int | None]) -> Condition:
    given: dict[str, str | int] = {condition: value for condition, value in wanted.items() if value is not None}
    return " AND ".join(given), list(given.values())


def _listed(values: tuple[object, ...] | None) -> str | None:
    return None if values is None else msgspec.json.encode(values).decode()
