"""What somebody said of searches, in SQL. Each method is one unit of work, and starts from the tenant.

A judgment lasts as long as its document is in the collection: replaced documents are judged still, deleted ones no more, and
a query without any judgment left goes with the last. A chunk that was judged may be another one after a replacement; the
judgment then counts for its document.
"""

import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from retrieval.truth.collection_rows import current_row
from retrieval.truth.feedback_rows import Judged, feedback_of, feedback_problems, judgments_of
from retrieval.truth.records import CollectionRow
from retrieval.truth.store import Store
from shared.errors import FieldError, NotFound
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
from shared.feedback_messages import FeedbackAnswer, SearchFeedback, SearchFeedbackIn, SearchFeedbackQuery
from shared.filters import parse_filter
from shared.keys import Principal
from shared.messages import Deleted
from shared.paging import Page, number_of, numbered_page
from shared.sql_values import inserted_key, listed, now_stored, stored_time

_PLACE = "$.judgments"


class Feedbacks:
    def __init__(self, store: Store, *, per_tenant_max: int) -> None:
        self._store = store
        self._database = store.database
        self._per_tenant_max = per_tenant_max

    async def add(self, principal: Principal, given: SearchFeedbackIn) -> FeedbackAnswer:
        """Raises NotFound for a collection that is not the tenant's, InvalidFields for documents that are not in it, and
        Conflict where there is no room."""
        if given.filter is not None:
            parse_filter(given.filter)
        moment = moment_of(given.judged_at, now())
        judged = verdicts(
            (((each.document_id, each.chunk_id or 0), each.relevance) for each in given.judgments),
            moment=moment,
            key_id=principal.key_id,
            place=_PLACE,
        )
        row = await self._store.collection(principal.tenant, given.collection)
        return await self._database.write(
            lambda connection: _add(connection, row, given, judged, moment, self._per_tenant_max)
        )

    async def page(self, tenant: str, query: SearchFeedbackQuery) -> Page[SearchFeedback]:
        """In the order in which the queries were judged first. Raises NotFound, and InvalidFields for a cursor that no page
        gave."""
        collection = None
        if query.collection is not None:
            collection = (await self._store.collection(tenant, query.collection)).id
        values: dict[str, Any] = {
            "tenant": tenant,
            "after": 0 if query.cursor is None else number_of(query.cursor),
            "collection": collection,
            "since": stored_time(query.since),
            "until": stored_time(query.until),
            "limit": query.limit + 1,
        }

        def unit(connection: sqlite3.Connection) -> Page[SearchFeedback]:
            found = feedback_of(
                connection,
                "f.tenant = :tenant AND f.id > :after AND (:collection IS NULL OR f.collection_id = :collection) "
                "AND (:since IS NULL OR f.judged_at >= :since) AND (:until IS NULL OR f.judged_at <= :until) "
                "ORDER BY f.id LIMIT :limit",
                values,
            )
            return numbered_page(found, query.limit)

        return await self._database.read(unit)

    async def delete(self, tenant: str, feedback_id: str) -> Deleted:
        """Raises NotFound."""

        def unit(connection: sqlite3.Connection) -> int:
            return connection.execute(
                "DELETE FROM feedback WHERE tenant = ? AND feedback_id = ?", (tenant, feedback_id)
            ).rowcount

        deleted = await self._database.write(unit)
        if deleted == 0:
            raise NotFound(f"there is no feedback {feedback_id!r}")
        return Deleted(deleted=deleted)

    async def problems(self) -> tuple[int, list[str]]:
        """How many there are, and what is wrong with any of them."""
        return await self._database.read(feedback_problems)


def _add(
    connection: sqlite3.Connection,
    row: CollectionRow,
    given: SearchFeedbackIn,
    judged: Mapping[Judged, Verdict],
    moment: str,
    per_tenant_max: int,
) -> FeedbackAnswer:
    current_row(connection, row)
    refuse(_missing(connection, row, list(judged)))
    digest = question_hash(given.query, given.filter or None)
    found = connection.execute(
        "SELECT id, feedback_id, comment, commented_at FROM feedback WHERE collection_id = ? AND question_hash = ?",
        (row.id, digest),
    ).fetchone()
    if found is None:
        stored = connection.execute("SELECT count(*) FROM feedback WHERE tenant = ?", (row.tenant,)).fetchone()[0]
        check_room(stored, per_tenant_max)
        key, feedback_id, remark = _insert(connection, row, given, digest, moment)
    else:
        key, feedback_id, remark = found[0], found[1], Remark(text=found[2], made_at=found[3])
    known = {} if found is None else judgments_of(connection, [key])[key]
    new = replacing(known, judged)
    connection.executemany(
        "INSERT OR REPLACE INTO judgments (feedback, document_id, chunk_id, relevance, judged_at, key_id) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        [(key, *item, verdict.relevance, verdict.judged_at, verdict.key_id) for item, verdict in new.items()],
    )
    comment = remark.or_newer(given.comment, moment)
    connection.execute(
        "UPDATE feedback SET comment = ?, commented_at = ?, judged_at = max(judged_at, ?) WHERE id = ?",
        (comment.text, comment.made_at, moment, key),
    )
    return answer(feedback_id, known, new, is_new=found is None, has_new_comment=comment.text != remark.text)


def _insert(
    connection: sqlite3.Connection, row: CollectionRow, given: SearchFeedbackIn, digest: bytes, moment: str
) -> tuple[int, str, Remark]:
    feedback_id = uuid.uuid4().hex
    conditions = None if not given.filter else msgspec.json.encode(given.filter, order="sorted").decode()
    cursor = connection.execute(
        "INSERT INTO feedback (tenant, feedback_id, collection_id, question_hash, query, filter, comment, commented_at, "
        "created_at, judged_at) VALUES (?, ?, ?, ?, ?, ?, '', '', ?, ?)",
        (row.tenant, feedback_id, row.id, digest, given.query, conditions, now_stored(), moment),
    )
    return inserted_key(cursor), feedback_id, Remark()


def _missing(connection: sqlite3.Connection, row: CollectionRow, judged: Sequence[Judged]) -> list[FieldError]:
    """Judgments of what is not in the collection, in their order."""
    documents = dict(
        connection.execute(
            "SELECT document_id, id FROM documents WHERE collection_id = ? "
            "AND document_id IN (SELECT value FROM json_each(?))",
            (row.id, listed({document_id for document_id, _ in judged})),
        ).fetchall()
    )
    chunks = dict(
        connection.execute(
            "SELECT id, document FROM chunks WHERE collection_id = ? AND id IN (SELECT value FROM json_each(?))",
            (row.id, listed([chunk_id for _, chunk_id in judged if chunk_id])),
        ).fetchall()
    )
    errors: list[FieldError] = []
    for index, (document_id, chunk_id) in enumerate(judged):
        if document_id not in documents:
            message = f"there is no document {document_id!r} in collection {row.name!r}"
            errors.append(FieldError(f"{_PLACE}[{index}].document_id", message))
        elif chunk_id and chunks.get(chunk_id) != documents[document_id]:
            message = f"document {document_id!r} has no chunk {chunk_id}"
            errors.append(FieldError(f"{_PLACE}[{index}].chunk_id", message))
    return errors
