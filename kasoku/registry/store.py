"""The registry's database: one SQLite file, written ahead, migrated by numbered files."""

import json
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kasoku.registry.model import FunctionVersion
from kasoku.sdk.errors import KasokuError
from kasoku.sdk.options import parse_options

MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Deployed:
    """A function and when its current version was deployed (seconds since 1970)."""

    function: FunctionVersion
    deployed_at: float


class RegistryError(KasokuError):
    """The database cannot be used; the message says why and what to do."""


class Registry:
    """Functions and versions. What a method has returned is on disk. One thread at a time."""

    def __init__(self, path: Path) -> None:
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._migrate()
        except sqlite3.DatabaseError as error:
            raise RegistryError(
                f"{path} cannot be used: {error}; move it away to start with an empty registry"
            ) from None

    def _migrate(self) -> None:
        (current,) = self._db.execute("PRAGMA user_version").fetchone()
        scripts = sorted(MIGRATIONS.glob("*.sql"))
        if current > len(scripts):
            raise RegistryError(
                f"the state was written by a newer Kasoku (format {current}, this one knows {len(scripts)})"
            )
        for number, script in enumerate(scripts[current:], current + 1):
            self._db.executescript(f"BEGIN IMMEDIATE; {script.read_text()}; PRAGMA user_version = {number}; COMMIT;")

    def next_generation(self) -> int:
        """A number that no earlier caller got."""
        (value,) = self._db.execute("UPDATE generation SET value = value + 1 RETURNING value").fetchone()
        return int(value)

    def put(self, function: FunctionVersion) -> None:
        """Make a version the current one of its function."""
        now = time.time()
        row = (
            function.version,
            function.name,
            function.handler,
            json.dumps(function.options.to_json()),
            json.dumps(function.layers),
            function.python,
            json.dumps(function.package_paths),
            json.dumps(function.image_env),
            now,
        )
        with self._transaction():
            self._db.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)
            self._db.execute(
                "INSERT INTO functions VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET version = excluded.version, "
                "deployed_at = excluded.deployed_at",
                (function.name, function.version, now),
            )

    def get(self, name: str) -> FunctionVersion | None:
        """The current version of a function."""
        row = self._db.execute(f"{_SELECT} WHERE functions.name = ?", (name,)).fetchone()
        return _function(row).function if row else None

    def list(self) -> list[Deployed]:
        """All functions by name."""
        return [_function(row) for row in self._db.execute(f"{_SELECT} ORDER BY functions.name")]

    def remove(self, name: str) -> bool:
        """Forget a function and its versions; False if there is none."""
        with self._transaction():
            known = self._db.execute("DELETE FROM functions WHERE name = ?", (name,)).rowcount > 0
            self._db.execute("DELETE FROM versions WHERE name = ?", (name,))
        return known

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)


_SELECT = (
    "SELECT versions.name, handler, options, layers, python, package_paths, image_env, deployed_at "
    "FROM functions JOIN versions USING (version)"
)


def _function(row: tuple[Any, ...]) -> Deployed:
    name, handler, options, layers, python, package_paths, image_env, deployed_at = row
    function = FunctionVersion(
        name=name,
        handler=handler,
        options=parse_options(json.loads(options)),
        layers=tuple(json.loads(layers)),
        python=python,
        package_paths=tuple(json.loads(package_paths)),
        image_env=tuple((key, value) for key, value in json.loads(image_env)),
    )
    return Deployed(function, deployed_at)


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("ROLLBACK" if kind else "COMMIT")
