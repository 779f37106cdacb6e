"""What somebody said of recalls, in SQL. Each method is one unit of work, and starts from the tenant.

A query is judged in the scope in which it was asked, and only what a recall there could give may be judged: what another user
has is as unknown as what does not exist. Spans are not judged: they are made anew, and their turns are what they stand for.
What goes with what was forgotten is in memory/forgetting/feedback_erasure.py.
"""

import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memory.feedback.rows import Judged, feedback_of, feedback_problems, judgments_of, write_judgments
from memory.truth.records import Scope
from memory.truth.scopes import scope_condition
from memory.truth.store import Store
from shared.database import Database
from shared.errors import FieldError, NotFound, invalid
from shared.feedback import (
    Remark,
    Verdict,
    answer,
    check_room,
    moment_of,
    now,
    question_hash,
    refuse,
    replacing,
    verdicts,
)
from shared.feedback_messages import (
    FeedbackAnswer,
    ItemJudgment,
    RecallFeedback,
    RecallFeedbackIn,
    RecallFeedbackQuery,
)
from shared.keys import Principal
from shared.paging import Page, number_of, numbered_page
from shared.sql_values import inserted_key, now_stored, stored_time

_SCOPE_NEEDED = "give user_id, session_id or agent_id: memory is judged for somebody, never for everybody"
_PLACE = "$.judgments"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Owner:
    """Whose memory was asked: of a session those that it belongs to, so that they are found with it."""

    user_id: str | None
    agent_id: str | None


class Feedbacks:
    def __init__(self, database: Database, store: Store, *, per_tenant_max: int) -> None:
        self._database = database
        self._store = store
        self._per_tenant_max = per_tenant_max

    async def add(self, principal: Principal, given: RecallFeedbackIn) -> FeedbackAnswer:
        """Raises NotFound for a session that is not the caller's, InvalidFields for items that are not in the scope, and
        Conflict where there is no room."""
        _check(given)
        moment = moment_of(given.judged_at, now())
        judged = verdicts(
            (((each.kind, each.session_id or given.session_id, each.id), each.relevance) for each in given.judgments),
            moment=moment,
            key_id=principal.key_id,
            place=_PLACE,
        )
        session = None
        if given.session_id is not None:
            session = (await self._store.session(principal.tenant, given.session_id, user_id=given.user_id)).id
        scope = Scope(tenant=principal.tenant, user_id=given.user_id, agent_id=given.agent_id, session=session)
        return await self._database.write(
            lambda connection: _add(connection, scope, given, list(judged.values()), moment, self._per_tenant_max)
        )

    async def page(self, principal: Principal, query: RecallFeedbackQuery) -> Page[RecallFeedback]:
        """In the order in which the queries were judged first. Raises NotFound, and InvalidFields for a cursor that no page
        gave."""
        is_narrow = not query.user_id is query.session_id is query.agent_id is None
        if is_narrow == query.everything:
            raise invalid("query.user_id", "give user_id, session_id or agent_id, or else everything=true")
        if query.everything:
            principal.require("admin")
        session = None
        if query.session_id is not None:
            session = (await self._store.session(principal.tenant, query.session_id, user_id=query.user_id)).id
        values: dict[str, Any] = {
            "tenant": principal.tenant,
            "after": 0 if query.cursor is None else number_of(query.cursor),
            "user_id": query.user_id,
            "agent_id": query.agent_id,
            "session": session,
            "since": stored_time(query.since),
            "until": stored_time(query.until),
            "limit": query.limit + 1,
        }
        wanted = [f"f.{name} = :{name}" for name in ("user_id", "agent_id", "session") if values[name] is not None]
        condition = " AND ".join(["f.tenant = :tenant", "f.id > :after", *wanted])

        def unit(connection: sqlite3.Connection) -> Page[RecallFeedback]:
            found = feedback_of(
                connection,
                f"{condition} AND (:since IS NULL OR f.judged_at >= :since) AND (:until IS NULL OR f.judged_at <= :until) "
                "ORDER BY f.id LIMIT :limit",
                values,
            )
            return numbered_page(found, query.limit)

        return await self._database.read(unit)

    async def key(self, tenant: str, feedback_id: str) -> int:
        """Raises NotFound."""

        def unit(connection: sqlite3.Connection) -> int:
            found = connection.execute(
                "SELECT id FROM feedback WHERE tenant = ? AND feedback_id = ?", (tenant, feedback_id)
            ).fetchone()
            if found is None:
                raise NotFound(f"there is no feedback {feedback_id!r}")
            return int(found[0])

        return await self._database.read(unit)

    async def problems(self) -> tuple[int, list[str]]:
        """How many there are, and what is wrong with any of them."""
        return await self._database.read(feedback_problems)


def _check(given: RecallFeedbackIn) -> None:
    if given.user_id is given.session_id is given.agent_id is None:
        raise invalid("$.user_id", _SCOPE_NEEDED)
    errors: list[FieldError] = []
    for index, judgment in enumerate(given.judgments):
        path = f"{_PLACE}[{index}].session_id"
        if judgment.kind == "turn" and judgment.session_id is None and given.session_id is None:
            errors.append(FieldError(path, "is needed: turns have their names within a session"))
        if judgment.kind == "fact" and judgment.session_id is not None:
            errors.append(FieldError(path, "facts belong to a user and not to a session; leave it out"))
    refuse(errors)


def _add(
    connection: sqlite3.Connection,
    scope: Scope,
    given: RecallFeedbackIn,
    judged: Sequence[Verdict],
    moment: str,
    per_tenant_max: int,
) -> FeedbackAnswer:
    """`judged` are the verdicts of the request's judgments, in their order."""
    owner = _owner(connection, scope, given.session_id)
    items = dict(zip(_items(connection, scope, given), judged, strict=True))
    as_of = stored_time(given.as_of)
    digest = question_hash(owner.user_id, owner.agent_id, scope.session, given.query, as_of)
    found = connection.execute(
        "SELECT id, feedback_id, comment, commented_at FROM feedback WHERE tenant = ? AND question_hash = ?",
        (scope.tenant, digest),
    ).fetchone()
    known: Mapping[Judged, Verdict] = {}
    if found is None:
        stored = connection.execute("SELECT count(*) FROM feedback WHERE tenant = ?", (scope.tenant,)).fetchone()[0]
        check_room(stored, per_tenant_max)
        feedback_id, remark = uuid.uuid4().hex, Remark()
        cursor = connection.execute(
            "INSERT INTO feedback (tenant, feedback_id, user_id, agent_id, query, comment, commented_at, as_of, session, "
            "question_hash, created_at, judged_at) VALUES (?, ?, ?, ?, ?, '', '', ?, ?, ?, ?, ?)",
            (
                *(scope.tenant, feedback_id, owner.user_id, owner.agent_id, given.query, as_of),
                *(scope.session, digest, now_stored(), moment),
            ),
        )
        key = inserted_key(cursor)
    else:
        key, feedback_id, remark = found[0], found[1], Remark(text=found[2], made_at=found[3])
        known = judgments_of(connection, [key])[key]
    new = replacing(known, items)
    write_judgments(connection, key, new)
    comment = remark.or_newer(given.comment, moment)
    connection.execute(
        "UPDATE feedback SET comment = ?, commented_at = ?, judged_at = max(judged_at, ?) WHERE id = ?",
        (comment.text, comment.made_at, moment, key),
    )
    return answer(feedback_id, known, new, is_new=found is None, has_new_comment=comment.text != remark.text)


def _owner(connection: sqlite3.Connection, scope: Scope, session_id: str | None) -> _Owner:
    if scope.session is None:
        return _Owner(user_id=scope.user_id, agent_id=scope.agent_id)
    found = connection.execute("SELECT user_id, agent_id FROM sessions WHERE id = ?", (scope.session,)).fetchone()
    if found is None:  # forgotten since it was looked up
        raise NotFound(f"there is no session {session_id!r}")
    return _Owner(user_id=found[0], agent_id=found[1])


def _items(connection: sqlite3.Connection, scope: Scope, given: RecallFeedbackIn) -> list[Judged]:
    """Keys of what is judged, in order. Raises InvalidFields for all that a recall in this scope could not give."""
    as_of = stored_time(given.as_of)
    items: list[Judged] = []
    errors: list[FieldError] = []
    for index, judgment in enumerate(given.judgments):
        found = _item(connection, scope, judgment, judgment.session_id or given.session_id)
        if found is None:
            message = f"there is no {judgment.kind} {judgment.id!r} within what was asked"
            errors.append(FieldError(f"{_PLACE}[{index}].id", message))
        elif as_of is not None and found[1] > as_of:
            errors.append(
                FieldError(f"{_PLACE}[{index}].id", "is later than as_of, when nobody could have recalled it")
            )
        else:
            items.append((judgment.kind, found[0]))
    refuse(errors)
    return items


def _item(
    connection: sqlite3.Connection, scope: Scope, judgment: ItemJudgment, session_id: str | None
) -> tuple[int, str] | None:
    """Its key, and since when it can be recalled."""
    if judgment.kind == "turn":
        condition, values = scope_condition(scope, "s.")
        found = connection.execute(
            "SELECT t.id, t.created_at FROM turns t JOIN sessions s ON s.id = t.session "
            f"WHERE s.session_id = ? AND t.turn_id = ? AND {condition}",
            (session_id, judgment.id, *values),
        ).fetchone()
    elif scope.user_id is None or scope.agent_id is not None or scope.session is not None:
        return None  # facts are a user's, whatever the session, and a narrower recall has none
    else:
        found = connection.execute(
            "SELECT id, valid_from FROM facts WHERE tenant = ? AND user_id = ? AND fact_id = ? AND status = 'active'",
            (scope.tenant, scope.user_id, judgment.id),
        ).fetchone()
    return None if found is None else (found[0], found[1])
