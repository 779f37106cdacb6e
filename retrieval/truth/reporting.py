"""What is told of a reindex, with the collection and with the job."""

import sqlite3

from retrieval.truth.records import CollectionRow
from shared.retrieval_messages import Reindex, ReindexJob


def reindex_of_collection(connection: sqlite3.Connection, row: CollectionRow, chunks: int) -> Reindex | None:
    """`chunks` are all that the collection holds."""
    beside = row.beside
    if beside is None:
        return None
    if beside.status == "ready":
        return Reindex(
            model=beside.model, status="ready", done=chunks, total=chunks, overlap_at_10=beside.overlap_at_10
        )
    found = connection.execute(
        "SELECT r.done, j.total, r.error FROM reindexes r JOIN jobs j ON j.accepted = r.job "
        "WHERE r.collection_id = ? AND r.model = ? ORDER BY r.job DESC LIMIT 1",
        (row.id, beside.model),
    ).fetchone()
    done, total, error = found or (0, chunks, None)  # ended jobs are forgotten after a while
    status = "building" if beside.status == "filled" else beside.status
    return Reindex(model=beside.model, status=status, done=done, total=total, error=error)


def reindex_of_job(connection: sqlite3.Connection, accepted: int) -> tuple[ReindexJob, int]:
    """And how many chunks are done."""
    model, flip, done, overlap, error = connection.execute(
        "SELECT model, flip, done, overlap, error FROM reindexes WHERE job = ?", (accepted,)
    ).fetchone()
    return ReindexJob(model=model, flip=bool(flip), overlap_at_10=overlap, error=error), done
