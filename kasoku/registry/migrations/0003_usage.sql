CREATE TABLE usage (
    -- Hours since 1970.
    hour INTEGER NOT NULL,
    function TEXT NOT NULL,
    -- Empty: none.
    device TEXT NOT NULL,
    invocations INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    cold INTEGER NOT NULL,
    duration_ms REAL NOT NULL,
    billed_ms REAL NOT NULL,
    mib_ms REAL NOT NULL,
    device_ms REAL NOT NULL,
    lease_wait_ms REAL NOT NULL,
    PRIMARY KEY (hour, function, device)
) STRICT;
