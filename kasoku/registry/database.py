"""One SQLite file: written ahead, synced at every commit, migrated by numbered scripts."""

import sqlite3
from pathlib import Path

from kasoku.sdk.errors import KasokuError


class RegistryError(KasokuError):
    """The database cannot be used; the message says why and what to do."""


class Database:
    """A connection. What a transaction has committed is on disk. One thread at a time."""

    def __init__(self, path: Path, migrations: Path) -> None:
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self.execute = self._connection.execute
            self.executemany = self._connection.executemany
            self.execute("PRAGMA journal_mode = WAL")
            self.execute("PRAGMA synchronous = FULL")
            self.execute("PRAGMA foreign_keys = ON")
            self._migrate(migrations)
        except sqlite3.DatabaseError as error:
            raise RegistryError(
                f"{path} cannot be used: {error}; move it away to start with an empty registry"
            ) from None
        path.chmod(0o600)

    def _migrate(self, migrations: Path) -> None:
        (current,) = self.execute("PRAGMA user_version").fetchone()
        scripts = sorted(migrations.glob("*.sql"))
        if current > len(scripts):
            raise RegistryError(
                f"the state was written by a newer Kasoku (format {current}, this one knows {len(scripts)})"
            )
        for number, script in enumerate(scripts[current:], current + 1):
            self._connection.executescript(
                f"BEGIN IMMEDIATE; {script.read_text()}; PRAGMA user_version = {number}; COMMIT;"
            )

    def transaction(self) -> "Transaction":
        """A `with` block that is done as a whole or not at all."""
        return Transaction(self._connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class Transaction:
    """See `Database.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if not kind:
                self._connection.execute("COMMIT")
        finally:
            # After a failure, a full disk at the commit included, the next transaction must find a clean slate.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
