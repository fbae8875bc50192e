CREATE TABLE tenants (
    name TEXT PRIMARY KEY,
    -- NULL: no limit of its own.
    concurrency INTEGER,
    memory_mib INTEGER,
    device_seconds REAL,
    rate REAL,
    burst INTEGER
) STRICT;
-- Empty: the operator's.
ALTER TABLE access_keys ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
