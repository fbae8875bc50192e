CREATE TABLE calls (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    -- A function's name, or the URL of an HTTP destination.
    target TEXT NOT NULL,
    qualifier TEXT NOT NULL,
    payload BLOB NOT NULL,
    -- JSON, or NULL.
    client_context TEXT,
    -- queued, running, done, failed, cancelled
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    accepted_at REAL NOT NULL,
    due_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    idempotency_key TEXT,
    on_success TEXT,
    on_failure TEXT,
    result BLOB,
    -- JSON in Lambda's shape, or NULL.
    error TEXT,
    finished_at REAL
) STRICT;
CREATE UNIQUE INDEX calls_by_key ON calls (target, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX calls_due ON calls (due_at) WHERE state = 'queued';
CREATE INDEX calls_finished ON calls (finished_at) WHERE finished_at IS NOT NULL;
CREATE TABLE schedules (
    name TEXT PRIMARY KEY,
    target TEXT NOT NULL,
    qualifier TEXT NOT NULL,
    expression TEXT NOT NULL,
    timezone TEXT NOT NULL,
    payload BLOB NOT NULL,
    -- NULL: the expression has no further time.
    next_at REAL
) STRICT;
