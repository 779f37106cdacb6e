"""The truth: tables of the retrieval service, as numbered migrations that are never edited once released.

`ops` is the history that projections follow: one row for each chunk that came or went, in the transaction that moved it.
Ids of chunks are never used twice (AUTOINCREMENT), so a projection can apply a history again without harm.
"""

from sqlite_utils import Database, Migrations

migrations = Migrations("retrieval")


@migrations()
def m001_initial(db: Database) -> None:
    for statement in _INITIAL:
        db.execute(statement)


@migrations()
def m008_chunk_context(db: Database) -> None:
    """What a chunk's text continues, such as a table's header row, and is read and indexed with."""
    db.execute("ALTER TABLE chunks ADD COLUMN context TEXT NOT NULL DEFAULT ''")


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
