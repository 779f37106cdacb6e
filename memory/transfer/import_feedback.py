"""Feedback of an import as rows of the truth, each by itself. Blocking: for the thread that writes.

It goes in only where all that it judges is, in the scope that was asked. What is there already is compared and never changed.
"""

import sqlite3
from typing import Final

from memory.feedback.rows import Judged, judgments_of, write_judgments
from memory.transfer.import_records import Refused, Tally
from memory.truth.records import Scope
from memory.truth.scopes import scope_condition
from shared.errors import Conflict
from shared.feedback import Verdict, check_room, question_hash
from shared.memory_records import ExportedFeedback, ExportedJudgment
from shared.sql_values import inserted_key, stored_time

_KIND: Final = "feedback"


class ImportFeedback:
    """Feedback into one tenant, of which so much is kept."""

    def __init__(self, tenant: str, *, per_tenant_max: int, tally: Tally) -> None:
        self._tenant = tenant
        self._per_tenant_max = per_tenant_max
        self._tally = tally

    def put(self, connection: sqlite3.Connection, number: int, feedback: ExportedFeedback) -> None:
        try:
            is_new = self._put(connection, feedback)
        except Refused as error:
            self._tally.refuse(number, feedback, error)
            self._tally.refused[_KIND] += 1
        else:
            (self._tally.created if is_new else self._tally.unchanged)[_KIND] += 1

    def _put(self, connection: sqlite3.Connection, feedback: ExportedFeedback) -> bool:
        """Whether it is new. Raises Refused."""
        scope = self._scope(connection, feedback)
        judged = {
            self._item(connection, scope, each): Verdict(stored_time(each.judged_at) or "", each.relevance)
            for each in feedback.judgments
        }
        as_of = stored_time(feedback.as_of)
        digest = question_hash(feedback.user_id, feedback.agent_id, scope.session, feedback.query, as_of)
        found = connection.execute(
            "SELECT id, feedback_id, question_hash FROM feedback WHERE tenant = ? AND (feedback_id = ? OR question_hash = ?)",
            (self._tenant, feedback.id, digest),
        ).fetchall()
        if found:
            _compare(connection, found, feedback, digest, judged)
            return False
        stored = connection.execute("SELECT count(*) FROM feedback WHERE tenant = ?", (self._tenant,)).fetchone()[0]
        try:
            check_room(stored, self._per_tenant_max)
        except Conflict as error:
            raise Refused(error.detail) from error
        self._insert(connection, scope, feedback, digest, judged)
        return True

    def _scope(self, connection: sqlite3.Connection, feedback: ExportedFeedback) -> Scope:
        """Raises Refused."""
        if feedback.session_id is None:
            if feedback.user_id is feedback.agent_id is None:
                raise Refused("it says of nobody's memory what was judged")
            return Scope(tenant=self._tenant, user_id=feedback.user_id, agent_id=feedback.agent_id)
        found = connection.execute(
            "SELECT id, user_id, agent_id FROM sessions WHERE tenant = ? AND session_id = ?",
            (self._tenant, feedback.session_id),
        ).fetchone()
        if found is None or found[1:] != (feedback.user_id, feedback.agent_id):
            raise Refused(f"it is of the session {feedback.session_id!r}, which is not here, or is somebody else's")
        return Scope(tenant=self._tenant, user_id=feedback.user_id, agent_id=feedback.agent_id, session=found[0])

    def _item(self, connection: sqlite3.Connection, scope: Scope, judgment: ExportedJudgment) -> Judged:
        """Raises Refused."""
        if judgment.kind == "turn":
            condition, values = scope_condition(scope, "s.")
            found = connection.execute(
                "SELECT t.id FROM turns t JOIN sessions s ON s.id = t.session "
                f"WHERE s.session_id = ? AND t.turn_id = ? AND {condition}",
                (judgment.session_id, judgment.id, *values),
            ).fetchone()
        else:
            found = connection.execute(
                "SELECT id FROM facts WHERE tenant = ? AND user_id = ? AND fact_id = ?",
                (self._tenant, scope.user_id, judgment.id),
            ).fetchone()
        if found is None:
            raise Refused(f"it judges the {judgment.kind} {judgment.id!r}, which is not here")
        return judgment.kind, found[0]

    def _insert(
        self,
        connection: sqlite3.Connection,
        scope: Scope,
        feedback: ExportedFeedback,
        digest: bytes,
        judged: dict[Judged, Verdict],
    ) -> None:
        judged_at = stored_time(feedback.judged_at)
        cursor = connection.execute(
            "INSERT INTO feedback (tenant, feedback_id, user_id, agent_id, query, comment, commented_at, as_of, session, "
            "question_hash, created_at, judged_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(self._tenant, feedback.id, feedback.user_id, feedback.agent_id, feedback.query, feedback.comment),
                *(judged_at if feedback.comment else "", stored_time(feedback.as_of), scope.session, digest),
                *(stored_time(feedback.created_at), judged_at),
            ),
        )
        write_judgments(connection, inserted_key(cursor), judged)


def _compare(
    connection: sqlite3.Connection,
    found: list[tuple[int, str, bytes]],
    feedback: ExportedFeedback,
    digest: bytes,
    judged: dict[Judged, Verdict],
) -> None:
    """Raises Refused where what is there differs."""
    if len(found) > 1 or found[0][2] != digest:
        raise Refused("its id is that of other feedback")
    if found[0][1] != feedback.id:
        raise Refused(f"the same query was judged here already, as {found[0][1]!r}")
    there = judgments_of(connection, [found[0][0]])[found[0][0]]
    if {key: (each.relevance, each.judged_at) for key, each in there.items()} != {
        key: (each.relevance, each.judged_at) for key, each in judged.items()
    }:
        raise Refused("it is judged otherwise here")
