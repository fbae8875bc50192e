CREATE TABLE versions (
    version TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    handler TEXT NOT NULL,
    options TEXT NOT NULL,
    layers TEXT NOT NULL,
    python TEXT NOT NULL,
    package_paths TEXT NOT NULL,
    image_env TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT;
CREATE INDEX versions_of_function ON versions (name, created_at);
CREATE TABLE functions (
    name TEXT PRIMARY KEY,
    version TEXT NOT NULL REFERENCES versions (version),
    deployed_at REAL NOT NULL
) STRICT;
-- Grows at every start of an agent, so that lease epochs never repeat.
CREATE TABLE generation (value INTEGER NOT NULL) STRICT;
INSERT INTO generation VALUES (0);
