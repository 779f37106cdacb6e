"""The truth: tables of the retrieval service, as numbered migrations that are never edited once released.

`ops` is the history that projections follow: one row for each chunk that came or went, in the transaction that moved it.
Ids of chunks are never used twice (AUTOINCREMENT), so a projection can apply a history again without harm.
"""

import msgspec
from sqlite_utils import Database, Migrations

from retrieval.truth.fields import field_rows

migrations = Migrations("retrieval")


@migrations()
def m001_initial(db: Database) -> None:
    for statement in _INITIAL:
        db.execute(statement)


@migrations()
def m002_fields(db: Database) -> None:
    for statement in _FIELDS:
        db.execute(statement)
    documents = db.execute(
        "SELECT d.collection_id, d.metadata, d.id, coalesce(min(c.id), 0), count(c.id) "
        "FROM documents d LEFT JOIN chunks c ON c.document = d.id GROUP BY d.id"
    )
    for collection_id, metadata, *document in documents:
        db.conn.executemany(
            "INSERT OR IGNORE INTO fields VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(collection_id, *row, *document) for row in field_rows(msgspec.json.decode(metadata))],
        )


@migrations()
def m003_leases_and_retries(db: Database) -> None:
    for statement in _LEASES_AND_RETRIES:
        db.execute(statement)


@migrations()
def m004_model_beside(db: Database) -> None:
    for statement in _MODEL_BESIDE:
        db.execute(statement)


@migrations()
def m005_language(db: Database) -> None:
    """What collections were analysed as before they could say."""
    db.execute("ALTER TABLE collections ADD COLUMN language TEXT NOT NULL DEFAULT 'en'")


@migrations()
def m006_pruned_history(db: Database) -> None:
    """Up to which sequence number a collection's `ops` are pruned, and the last chunk whose coming was among them."""
    db.execute("ALTER TABLE collections ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE collections ADD COLUMN pruned_chunk INTEGER NOT NULL DEFAULT 0")
    db.execute("CREATE INDEX chunks_by_collection ON chunks (collection_id)")


@migrations()
def m008_chunk_context(db: Database) -> None:
    """What a chunk's text continues, such as a table's header row, and is read and indexed with; and the page it is on."""
    db.execute("ALTER TABLE chunks ADD COLUMN context TEXT NOT NULL DEFAULT ''")
    db.execute("ALTER TABLE chunks ADD COLUMN page INTEGER")


@migrations()
def m009_feedback(db: Database) -> None:
    for statement in _FEEDBACK:
        db.execute(statement)


@migrations()
def m010_counts(db: Database) -> None:
    """How much a collection holds, kept by whoever stores and removes: counting 100,000 chunks took milliseconds."""
    db.execute("ALTER TABLE collections ADD COLUMN documents INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE collections ADD COLUMN chunks INTEGER NOT NULL DEFAULT 0")
    db.execute(
        "UPDATE collections SET documents = (SELECT count(*) FROM documents WHERE collection_id = collections.id), "
        "chunks = (SELECT count(*) FROM chunks WHERE collection_id = collections.id)"
    )


_INITIAL = (
    """
    CREATE TABLE collections (
        id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, name TEXT NOT NULL, model TEXT NOT NULL,
        chunking TEXT NOT NULL, fusion TEXT NOT NULL, description TEXT NOT NULL, created_at TEXT NOT NULL,
        UNIQUE (tenant, name)
    )
    """,
    # `accepted` is the order in which writes were accepted (jobs.accepted): an older write never replaces a newer one.
    """
    CREATE TABLE documents (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        collection_id INTEGER NOT NULL REFERENCES collections ON DELETE CASCADE,
        document_id TEXT NOT NULL, title TEXT NOT NULL, uri TEXT NOT NULL, content_type TEXT NOT NULL,
        text TEXT NOT NULL, metadata TEXT NOT NULL, content_hash BLOB NOT NULL, accepted INTEGER NOT NULL,
        created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
        UNIQUE (collection_id, document_id)
    )
    """,
    # `start` and `stop` are character offsets into documents.text. `embed_hash` is of what the model reads.
    """
    CREATE TABLE chunks (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        collection_id INTEGER NOT NULL REFERENCES collections ON DELETE CASCADE,
        document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
        ordinal INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
        headings TEXT NOT NULL, text TEXT NOT NULL, embed_hash BLOB NOT NULL,
        UNIQUE (document, ordinal)
    )
    """,
    "CREATE INDEX chunks_by_embed_hash ON chunks (collection_id, embed_hash)",
    # A chunk may have vectors of two models while one replaces the other.
    """
    CREATE TABLE vectors (
        chunk_id INTEGER NOT NULL REFERENCES chunks ON DELETE CASCADE, model TEXT NOT NULL, vector BLOB NOT NULL,
        PRIMARY KEY (chunk_id, model)
    )
    """,
    """
    CREATE TABLE ops (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, collection_id INTEGER NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('add', 'remove')), chunk_id INTEGER NOT NULL
    )
    """,
    "CREATE INDEX ops_by_collection ON ops (collection_id, seq)",
    """
    CREATE TABLE jobs (
        accepted INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL,
        collection_id INTEGER NOT NULL, collection TEXT NOT NULL, kind TEXT NOT NULL, status TEXT NOT NULL,
        total INTEGER NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL
    )
    """,
    "CREATE INDEX jobs_by_status ON jobs (status, accepted)",
    "CREATE INDEX jobs_by_tenant ON jobs (tenant, accepted)",
    # `payload` is the document as it was sent, kept until the item has ended.
    """
    CREATE TABLE job_items (
        job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE, ordinal INTEGER NOT NULL, document_id TEXT NOT NULL,
        payload BLOB, status TEXT NOT NULL, chunks INTEGER NOT NULL DEFAULT 0, error TEXT,
        PRIMARY KEY (job, ordinal)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX job_items_pending ON job_items (job, ordinal) WHERE status = 'pending'",
    "CREATE INDEX job_items_pending_document ON job_items (document_id) WHERE status = 'pending'",
)

_FIELDS = (
    # Metadata, flattened (retrieval/truth/fields.py). `value` has no affinity: text stays text, 1 and 1.0 are equal and exact.
    # The key is the order in which filters look: every condition on one field is one range of it. The document's chunks,
    # whose ids are consecutive, stand beside it, because looking each up took ten times as long as the range itself.
    """
    CREATE TABLE fields (
        collection_id INTEGER NOT NULL, path TEXT NOT NULL, kind INTEGER NOT NULL, is_element INTEGER NOT NULL,
        value NOT NULL, document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
        first_chunk INTEGER NOT NULL, chunks INTEGER NOT NULL,
        PRIMARY KEY (collection_id, path, kind, is_element, value, document)
    ) WITHOUT ROWID
    """,
    # For the cascade, and for looking at one document.
    "CREATE INDEX fields_by_document ON fields (document, path, kind)",
)

_LEASES_AND_RETRIES = (
    # Who works on the job, and until when that holds without being renewed (seconds since 1970).
    "ALTER TABLE jobs ADD COLUMN lease_owner TEXT",
    "ALTER TABLE jobs ADD COLUMN lease_expires REAL NOT NULL DEFAULT 0",
    # Grows with each item that ends; job_items.ended is its value then. Listeners resume from it.
    "ALTER TABLE jobs ADD COLUMN changes INTEGER NOT NULL DEFAULT 0",
    # `attempts` are counted before the work starts, so that they survive a document that takes the process with it.
    # `retry_at`: not before (seconds since 1970), after a failure that may pass; 0 while somebody works on it or nobody
    # has yet. `payload` comes last: SQLite reads its way through a large value to what stands behind it.
    """
    CREATE TABLE job_items_next (
        job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE, ordinal INTEGER NOT NULL, document_id TEXT NOT NULL,
        status TEXT NOT NULL, chunks INTEGER NOT NULL DEFAULT 0, error TEXT,
        attempts INTEGER NOT NULL DEFAULT 0, retry_at REAL NOT NULL DEFAULT 0, ended INTEGER,
        payload_bytes INTEGER NOT NULL DEFAULT 0, payload BLOB,
        PRIMARY KEY (job, ordinal)
    ) WITHOUT ROWID
    """,
    # Pending without a payload: left by collections that were deleted, places in the queue that nobody would ever free.
    """
    INSERT INTO job_items_next (job, ordinal, document_id, status, chunks, error, payload_bytes, payload)
    SELECT job, ordinal, document_id,
        CASE WHEN status = 'pending' AND payload IS NULL THEN 'cancelled' ELSE status END,
        chunks, error, coalesce(length(payload), 0), payload
    FROM job_items
    """,
    "DROP TABLE job_items",
    "ALTER TABLE job_items_next RENAME TO job_items",
    "CREATE INDEX job_items_pending ON job_items (job, ordinal) WHERE status = 'pending'",
    "CREATE INDEX job_items_by_status ON job_items (job, status, chunks)",
    # A failed item may keep its payload, to be tried again: deleting its document must find it.
    "CREATE INDEX job_items_kept_document ON job_items (document_id) WHERE payload IS NOT NULL",
    # What waits, and what was given up but is kept: counted from the index alone.
    "CREATE INDEX job_items_waiting ON job_items (payload_bytes) WHERE status = 'pending'",
    "CREATE INDEX job_items_dead ON job_items (job, payload_bytes) WHERE status = 'failed' AND payload IS NOT NULL",
    # Vectors of documents that are still being embedded: one row for each step that was made durable, `hashes` of 32
    # bytes each and `vectors` in the same order.
    """
    CREATE TABLE embedded (
        id INTEGER PRIMARY KEY, job INTEGER NOT NULL, ordinal INTEGER NOT NULL, model TEXT NOT NULL,
        hashes BLOB NOT NULL, vectors BLOB NOT NULL,
        FOREIGN KEY (job, ordinal) REFERENCES job_items ON DELETE CASCADE
    )
    """,
    "CREATE INDEX embedded_by_item ON embedded (job, ordinal)",
)

_MODEL_BESIDE = (
    # One model serves (`model`), at most one stands beside it (records.py, Beside).
    "ALTER TABLE collections ADD COLUMN beside_model TEXT",
    "ALTER TABLE collections ADD COLUMN beside_status TEXT",
    "ALTER TABLE collections ADD COLUMN beside_overlap REAL",
    # What a job of kind `reindex` is for, how many chunks it has done, and what came of it.
    """
    CREATE TABLE reindexes (
        job INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE, collection_id INTEGER NOT NULL, model TEXT NOT NULL,
        flip INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0, overlap REAL, error TEXT
    )
    """,
    "CREATE INDEX reindexes_by_collection ON reindexes (collection_id, job)",
    # Models that were let go and whose vectors are still being deleted.
    """
    CREATE TABLE discarded (
        collection_id INTEGER NOT NULL REFERENCES collections ON DELETE CASCADE, model TEXT NOT NULL,
        PRIMARY KEY (collection_id, model)
    ) WITHOUT ROWID
    """,
)

# What somebody said of searches. A judgment names its document as callers do, because one that is replaced gets another row and
# is judged still; `chunk_id` is 0 for a whole document, and may be of a chunk that was there then. `question_hash` is of the
# query and its filter.
_FEEDBACK = (
    """
    CREATE TABLE feedback (
        id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, feedback_id TEXT NOT NULL UNIQUE,
        collection_id INTEGER NOT NULL REFERENCES collections ON DELETE CASCADE, question_hash BLOB NOT NULL,
        query TEXT NOT NULL, filter TEXT, comment TEXT NOT NULL, commented_at TEXT NOT NULL,
        created_at TEXT NOT NULL, judged_at TEXT NOT NULL,
        UNIQUE (collection_id, question_hash)
    )
    """,
    "CREATE INDEX feedback_by_tenant ON feedback (tenant, id)",
    """
    CREATE TABLE judgments (
        feedback INTEGER NOT NULL REFERENCES feedback ON DELETE CASCADE, document_id TEXT NOT NULL,
        chunk_id INTEGER NOT NULL, relevance INTEGER NOT NULL, judged_at TEXT NOT NULL, key_id TEXT NOT NULL,
        PRIMARY KEY (feedback, document_id, chunk_id)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX judgments_by_document ON judgments (document_id, feedback)",
)
