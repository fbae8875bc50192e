-- What a version's code was as an upload; environments are sealed from now on (older rows hold theirs in `options`).
ALTER TABLE versions ADD COLUMN code_sha256 TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN code_size INTEGER NOT NULL DEFAULT 0;
ALTER TABLE versions ADD COLUMN sealed_env BLOB;
ALTER TABLE functions ADD COLUMN description TEXT NOT NULL DEFAULT '';
-- NULL: no reserved concurrency.
ALTER TABLE functions ADD COLUMN concurrency INTEGER;
-- The number that the next published version gets: never one that was used before, even if its version was deleted.
ALTER TABLE functions ADD COLUMN next_number INTEGER NOT NULL DEFAULT 1;
CREATE TABLE published (
    name TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    version TEXT NOT NULL REFERENCES versions (version),
    description TEXT NOT NULL,
    published_at REAL NOT NULL,
    PRIMARY KEY (name, number)
) STRICT;
CREATE TABLE aliases (
    name TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
    alias TEXT NOT NULL,
    target TEXT NOT NULL,
    weights TEXT NOT NULL,
    description TEXT NOT NULL,
    revision TEXT NOT NULL,
    PRIMARY KEY (name, alias)
) STRICT;
CREATE TABLE event_invoke (
    name TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
    qualifier TEXT NOT NULL,
    config TEXT NOT NULL,
    modified_at REAL NOT NULL,
    PRIMARY KEY (name, qualifier)
) STRICT;
CREATE TABLE secrets (
    name TEXT PRIMARY KEY,
    sealed BLOB NOT NULL,
    updated_at REAL NOT NULL
) STRICT;
CREATE TABLE access_keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    sealed BLOB NOT NULL,
    created_at REAL NOT NULL
) STRICT;
