"""Whose memory is read, as a condition in SQL."""

from memory.truth.records import Scope

# A condition with a place for each of the values.
Condition = tuple[str, list[str | int]]


def scope_condition(scope: Scope, prefix: str) -> Condition:
    """`prefix` is "s." where the sessions table is asked, and empty for `ops`, which has the same columns."""
    session = "s.id" if prefix else "session"
    wanted = {
        f"{prefix}tenant": scope.tenant,
        f"{prefix}user_id": scope.user_id,
        f"{prefix}agent_id": scope.agent_id,
        session: scope.session,
    }
    given = {column: value for column, value in wanted.items() if value is not None}
    return " AND ".join(f"{column} = ?" for column in given), list(given.values())
