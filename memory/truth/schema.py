"""The truth: tables of the memory service, as numbered migrations that are never edited once released.

`ops` is the history that recall indexes follow. It names tenant, user, agent and session itself, so that the removal of
something can be followed after the session is gone. `item_kind` is in it, and in `vectors` and `pending`, because spans
and facts will be recalled as turns are. `tail_from` is where a session's tail starts: what compaction folds lies before it.
"""

from sqlite_utils import Database, Migrations

migrations = Migrations("memory")


@migrations()
def m001_initial(db: Database) -> None:
    for statement in _INITIAL:
        db.execute(statement)


@migrations()
def m002_spans(db: Database) -> None:
    for statement in _SPANS:
        db.execute(statement)


@migrations()
def m003_facts(db: Database) -> None:
    for statement in _FACTS:
        db.execute(statement)


@migrations()
def m004_forgetting(db: Database) -> None:
    for statement in _FORGETTING:
        db.execute(statement)


@migrations()
def m005_spans_are_recalled(db: Database) -> None:
    for statement in _SPANS_ARE_RECALLED:
        db.execute(statement)


@migrations()
def m006_feedback(db: Database) -> None:
    for statement in _FEEDBACK:
        db.execute(statement)


@migrations()
def m007_overfull_sessions(db: Database) -> None:
    db.execute(_OVERFULL_SESSIONS)


@migrations()
def m008_lighter_appends(db: Database) -> None:
    for statement in _LIGHTER_APPENDS:
        db.execute(statement)


_INITIAL = (
    """
    CREATE TABLE sessions (
        id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, session_id TEXT NOT NULL,
        user_id TEXT, agent_id TEXT, title TEXT NOT NULL, policy TEXT NOT NULL, metadata TEXT NOT NULL,
        last_seq INTEGER NOT NULL DEFAULT 0, tail_from INTEGER NOT NULL DEFAULT 1,
        created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
        UNIQUE (tenant, session_id)
    )
    """,
    "CREATE INDEX sessions_by_user ON sessions (tenant, user_id, session_id)",
    "CREATE INDEX sessions_by_agent ON sessions (tenant, agent_id, session_id)",
    """
    CREATE TABLE turns (
        id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
        seq INTEGER NOT NULL, turn_id TEXT NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL, name TEXT,
        created_at TEXT NOT NULL, stored_at TEXT NOT NULL, metadata TEXT NOT NULL, content_hash BLOB NOT NULL,
        tokens INTEGER NOT NULL,
        UNIQUE (session, seq), UNIQUE (session, turn_id)
    )
    """,
    """
    CREATE TABLE vectors (
        item_kind TEXT NOT NULL, item_id INTEGER NOT NULL, model TEXT NOT NULL, vector BLOB NOT NULL,
        PRIMARY KEY (item_kind, item_id, model)
    )
    """,
    # Items that have no vector yet, in the order in which they came.
    """
    CREATE TABLE pending (
        id INTEGER PRIMARY KEY AUTOINCREMENT, item_kind TEXT NOT NULL, item_id INTEGER NOT NULL,
        UNIQUE (item_kind, item_id)
    )
    """,
    """
    CREATE TABLE ops (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL CHECK (kind IN ('add', 'remove', 'vector')),
        item_kind TEXT NOT NULL, item_id INTEGER NOT NULL,
        tenant TEXT NOT NULL, user_id TEXT, agent_id TEXT, session INTEGER
    )
    """,
    "CREATE INDEX ops_by_user ON ops (tenant, user_id, seq)",
    "CREATE INDEX ops_by_agent ON ops (tenant, agent_id, seq)",
    "CREATE INDEX ops_by_session ON ops (session, seq)",
    # What the service must remember of itself, such as the model that its vectors are of.
    "CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
)

# A span never changes: what is forgotten makes others in its place. `since` and `until` are the times of its earliest and
# latest turn, `parent` is the span of the next level that stands for it, and `source_hash` is of what it was made from.
_SPANS = (
    """
    CREATE TABLE spans (
        id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
        span_id TEXT NOT NULL UNIQUE, level INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
        parent INTEGER REFERENCES spans ON DELETE SET NULL, since TEXT NOT NULL, until TEXT NOT NULL,
        text TEXT NOT NULL, ledger TEXT NOT NULL, tokens INTEGER NOT NULL, source_tokens INTEGER NOT NULL,
        turns INTEGER NOT NULL, summarizer TEXT NOT NULL, source_hash BLOB NOT NULL, created_at TEXT NOT NULL,
        UNIQUE (session, level, first_seq)
    )
    """,
    "CREATE INDEX spans_by_parent ON spans (parent)",
    # Kept with each append and fold, because every append asks whether the tail is full.
    "ALTER TABLE sessions ADD COLUMN tail_tokens INTEGER NOT NULL DEFAULT 0",
    """
    UPDATE sessions SET tail_tokens = (
        SELECT coalesce(sum(t.tokens), 0) FROM turns t WHERE t.session = sessions.id AND t.seq >= sessions.tail_from
    )
    """,
)

# A fact never changes either: a new value of its key stands beside it, and `valid_to` and `replaced_by` say since when. One
# that came with sources is `derived`: it goes when the last turn that it came from is forgotten. `content_hash` is of the
# request, for retries under its id, and `text_hash` of the words alone, for duplicates. Facts without a key that
# replace each other, as a correction does, share a `line`.
_FACTS = (
    """
    CREATE TABLE facts (
        id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, user_id TEXT NOT NULL, fact_id TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('fact', 'preference', 'instruction', 'event')), key TEXT, text TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('active', 'pending', 'rejected')), pinned INTEGER NOT NULL DEFAULT 0,
        valid_from TEXT NOT NULL, valid_to TEXT, expires_at TEXT, replaced_by INTEGER REFERENCES facts ON DELETE SET NULL,
        origin TEXT NOT NULL, derived INTEGER NOT NULL, content_hash BLOB NOT NULL, text_hash BLOB, line TEXT,
        tokens INTEGER NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
        UNIQUE (tenant, fact_id)
    )
    """,
    "CREATE INDEX facts_by_user ON facts (tenant, user_id, key, valid_from)",
    "CREATE INDEX facts_by_text ON facts (tenant, user_id, text_hash)",
    "CREATE INDEX facts_by_line ON facts (line, valid_from)",
    "CREATE INDEX facts_by_replacement ON facts (replaced_by)",
    """
    CREATE TABLE fact_sources (
        fact INTEGER NOT NULL REFERENCES facts ON DELETE CASCADE,
        turn INTEGER NOT NULL REFERENCES turns ON DELETE CASCADE,
        PRIMARY KEY (fact, turn)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX ops_of_facts ON ops (item_id, seq) WHERE item_kind = 'fact'",
    "CREATE INDEX fact_sources_by_turn ON fact_sources (turn)",
)

# `erased` names the numbers of a session's turns that are gone, so that `check` tells what was forgotten from what was lost.
# `audit` says who erased how much of what and when, and nothing of what it was: ids in it are digests. It is `settled` once
# nothing of the erase is left in the file and its log. `retention` is what a tenant keeps at most, and a session may keep less.
_FORGETTING = (
    """
    CREATE TABLE erased (
        session INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
        first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, PRIMARY KEY (session, first_seq)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, tenant TEXT NOT NULL, key_id TEXT,
        action TEXT NOT NULL, scope TEXT NOT NULL, report TEXT NOT NULL, settled INTEGER NOT NULL DEFAULT 0
    )
    """,
    "CREATE INDEX audit_by_tenant ON audit (tenant, id)",
    "CREATE INDEX audit_unsettled ON audit (id) WHERE NOT settled",
    "CREATE TABLE retention (tenant TEXT PRIMARY KEY, days_max INTEGER, turns_max INTEGER) WITHOUT ROWID",
    "ALTER TABLE sessions ADD COLUMN retain_days_max INTEGER",
    "ALTER TABLE sessions ADD COLUMN retain_turns_max INTEGER",
)

# Spans that were made before they could be recalled are entered as new ones are.
_SPANS_ARE_RECALLED = (
    """
    INSERT INTO ops (kind, item_kind, item_id, tenant, user_id, agent_id, session)
    SELECT 'add', 'span', p.id, s.tenant, s.user_id, s.agent_id, s.id FROM spans p JOIN sessions s ON s.id = p.session
    ORDER BY p.id
    """,
    "INSERT INTO pending (item_kind, item_id) SELECT 'span', id FROM spans ORDER BY id",
)

# What somebody said of recalls, for as long as what they judged is there. Where a session was asked, `user_id` and `agent_id` are
# those that it belongs to. `question_hash` is of the query and all that it was asked of.
_FEEDBACK = (
    """
    CREATE TABLE feedback (
        id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, feedback_id TEXT NOT NULL, user_id TEXT, agent_id TEXT,
        query TEXT NOT NULL, comment TEXT NOT NULL, commented_at TEXT NOT NULL, as_of TEXT,
        session INTEGER REFERENCES sessions ON DELETE CASCADE, question_hash BLOB NOT NULL,
        created_at TEXT NOT NULL, judged_at TEXT NOT NULL,
        UNIQUE (tenant, feedback_id), UNIQUE (tenant, question_hash)
    )
    """,
    "CREATE INDEX feedback_by_tenant ON feedback (tenant, id)",
    "CREATE INDEX feedback_by_user ON feedback (tenant, user_id, id)",
    "CREATE INDEX feedback_by_session ON feedback (session)",
    "CREATE INDEX feedback_by_time ON feedback (tenant, judged_at)",
    """
    CREATE TABLE judgments (
        feedback INTEGER NOT NULL REFERENCES feedback ON DELETE CASCADE,
        turn INTEGER REFERENCES turns ON DELETE CASCADE, fact INTEGER REFERENCES facts ON DELETE CASCADE,
        relevance INTEGER NOT NULL, judged_at TEXT NOT NULL, key_id TEXT NOT NULL,
        CHECK ((turn IS NULL) <> (fact IS NULL)), UNIQUE (feedback, turn), UNIQUE (feedback, fact)
    )
    """,
    "CREATE INDEX judgments_by_turn ON judgments (turn)",
    "CREATE INDEX judgments_by_fact ON judgments (fact)",
)

# The compactor looks for these after every append beyond a policy, among all sessions there are. Its query says it in the
# same words, which is how SQLite knows that the index answers it.
_OVERFULL_SESSIONS = """
    CREATE INDEX sessions_overfull ON sessions (json_extract(policy, '$.summarizer'), id)
    WHERE tail_tokens > json_extract(policy, '$.tail_tokens_max')
"""

# Every append writes a page of each tree that it adds to. What waits for a vector needs one tree, not a table and an index of the
# same two columns; and what belongs to no agent, as most turns, need not stand in the index by agent.
_LIGHTER_APPENDS = (
    """
    CREATE TABLE waiting (item_kind TEXT NOT NULL, item_id INTEGER NOT NULL, PRIMARY KEY (item_kind, item_id)) WITHOUT ROWID
    """,
    "INSERT INTO waiting (item_kind, item_id) SELECT item_kind, item_id FROM pending",
    "DROP TABLE pending",
    "ALTER TABLE waiting RENAME TO pending",
    "DROP INDEX ops_by_agent",
    "CREATE INDEX ops_by_agent ON ops (tenant, agent_id, seq) WHERE agent_id IS NOT NULL",
    "DROP INDEX ops_by_user",
    "CREATE INDEX ops_by_user ON ops (tenant, user_id, seq) WHERE user_id IS NOT NULL",
)
