"""Functions, versions and aliases in the state's database. What a method has returned is on disk."""

import json
import secrets
import time
from pathlib import Path
from typing import Any

from kasoku.registry.database import Database, RegistryError
from kasoku.registry.model import Alias, FunctionVersion, Published, Record
from kasoku.registry.sealing import Sealer
from kasoku.sdk.options import parse_options

__all__ = ["MIGRATIONS", "Registry", "RegistryError"]
MIGRATIONS = Path(__file__).parent / "migrations"
KEY_FILE = "node.key"
_ENV = "the environment of {}"


class Registry:
    """See the module. One thread at a time."""

    def __init__(self, path: Path) -> None:
        self.db = Database(path, MIGRATIONS)
        self.sealer = Sealer.of_file(path.with_name(KEY_FILE))

    def next_generation(self) -> int:
        """A number that no earlier caller got."""
        (value,) = self.db.execute("UPDATE generation SET value = value + 1 RETURNING value").fetchone()
        return int(value)

    def put(self, function: FunctionVersion, description: str | None = None) -> None:
        """Make a version the current one of its function. `description` None: as it was."""
        now = time.time()
        options = function.options.to_json()
        environment = json.dumps(options.pop("env")).encode()
        row = (
            function.version,
            function.name,
            function.handler,
            json.dumps(options),
            json.dumps(function.layers),
            function.python,
            json.dumps(function.package_paths),
            json.dumps(function.image_env),
            now,
            function.code_sha256,
            function.code_size,
            self.sealer.seal(environment, _ENV.format(function.version)),
        )
        with self.db.transaction():
            self.db.execute(
                f"INSERT INTO versions VALUES ({', '.join('?' * len(row))}) ON CONFLICT (version) DO UPDATE "
                "SET code_sha256 = excluded.code_sha256, code_size = excluded.code_size",
                row,
            )
            self.db.execute(
                "INSERT INTO functions (name, version, deployed_at, description) VALUES (?1, ?2, ?3, coalesce(?4, '')) "
                "ON CONFLICT (name) DO UPDATE SET version = ?2, deployed_at = ?3, "
                "description = coalesce(?4, description)",
                (function.name, function.version, now, description),
            )
            self._drop_unused(function.name)

    def get(self, name: str) -> Record | None:
        """All that is known of a function."""
        row = self.db.execute(f"{_SELECT} WHERE functions.name = ?", (name,)).fetchone()
        return self._record(row) if row else None

    def list(self) -> list[Record]:
        """All functions by name."""
        return [self._record(row) for row in self.db.execute(f"{_SELECT} ORDER BY functions.name").fetchall()]

    def remove(self, name: str) -> bool:
        """Forget a function and its versions; False if there is none."""
        with self.db.transaction():
            known = self.db.execute("DELETE FROM functions WHERE name = ?", (name,)).rowcount > 0
            self.db.execute("DELETE FROM versions WHERE name = ?", (name,))
        return known

    def publish(self, name: str, description: str) -> int:
        """Number the current version. The last number again, if nothing changed since it was given."""
        with self.db.transaction():
            version, number = self.db.execute(
                "SELECT version, next_number FROM functions WHERE name = ?", (name,)
            ).fetchone()
            last = self.db.execute(
                "SELECT number, version FROM published WHERE name = ? ORDER BY number DESC LIMIT 1", (name,)
            ).fetchone()
            if last and last[1] == version:
                return int(last[0])
            self.db.execute(
                "INSERT INTO published VALUES (?, ?, ?, ?, ?)", (name, number, version, description, time.time())
            )
            self.db.execute("UPDATE functions SET next_number = ? WHERE name = ?", (number + 1, name))
            return int(number)

    def unpublish(self, name: str, number: int) -> None:
        """Forget a numbered version."""
        with self.db.transaction():
            self.db.execute("DELETE FROM published WHERE name = ? AND number = ?", (name, number))
            self._drop_unused(name)

    def put_alias(
        self, name: str, alias: str, target: str, weights: tuple[tuple[str, float], ...], description: str
    ) -> None:
        """Make an alias, or move it."""
        row = (name, alias, target, json.dumps(weights), description, secrets.token_hex(16))
        self.db.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?, ?, ?, ?, ?)", row)

    def remove_alias(self, name: str, alias: str) -> None:
        """Forget an alias and what was configured for it."""
        with self.db.transaction():
            self.db.execute("DELETE FROM aliases WHERE name = ? AND alias = ?", (name, alias))
            self.db.execute("DELETE FROM event_invoke WHERE name = ? AND qualifier = ?", (name, alias))

    def set_concurrency(self, name: str, limit: int | None) -> None:
        """Reserve concurrency, or no longer."""
        self.db.execute("UPDATE functions SET concurrency = ? WHERE name = ?", (limit, name))

    def set_event_invoke(self, name: str, qualifier: str, config: dict[str, Any] | None) -> None:
        """How asynchronous invocations of a qualifier are treated; None: as by default."""
        if config is None:
            self.db.execute("DELETE FROM event_invoke WHERE name = ? AND qualifier = ?", (name, qualifier))
            return
        row = (name, qualifier, json.dumps(config), time.time())
        self.db.execute("INSERT OR REPLACE INTO event_invoke VALUES (?, ?, ?, ?)", row)

    def close(self) -> None:
        """Close the database."""
        self.db.close()

    def _drop_unused(self, name: str) -> None:
        self.db.execute(
            "DELETE FROM versions WHERE name = ?1 AND version NOT IN (SELECT version FROM published WHERE name = ?1 "
            "UNION SELECT version FROM functions WHERE name = ?1)",
            (name,),
        )

    def _record(self, row: tuple[Any, ...]) -> Record:
        deployed_at, description, concurrency, *version = row
        latest = self._function(tuple(version))
        name = latest.name
        published = self.db.execute(
            f"SELECT number, description, published_at, {_VERSION} FROM published JOIN versions USING (version) "
            "WHERE published.name = ? ORDER BY number",
            (name,),
        ).fetchall()
        aliases = self.db.execute(
            "SELECT alias, target, weights, description, revision FROM aliases WHERE name = ? ORDER BY alias", (name,)
        ).fetchall()
        configs = self.db.execute("SELECT qualifier, config, modified_at FROM event_invoke WHERE name = ?", (name,))
        return Record(
            latest=latest,
            description=description,
            deployed_at=deployed_at,
            concurrency=concurrency,
            published={n: Published(n, self._function(tuple(v)), text, at) for n, text, at, *v in published},
            aliases={a: Alias(a, t, tuple((k, v) for k, v in json.loads(w)), d, r) for a, t, w, d, r in aliases},
            event_invoke={qualifier: (json.loads(config), at) for qualifier, config, at in configs},
        )

    def _function(self, row: tuple[Any, ...]) -> FunctionVersion:
        version, name, handler, text, layers, python, package_paths, image_env, code_sha256, code_size, sealed = row
        options = json.loads(text)
        if sealed is not None:
            options["env"] = json.loads(self.sealer.open(sealed, _ENV.format(version)))
        return FunctionVersion(
            name=name,
            handler=handler,
            options=parse_options(options),
            layers=tuple(json.loads(layers)),
            python=python,
            package_paths=tuple(json.loads(package_paths)),
            image_env=tuple((key, value) for key, value in json.loads(image_env)),
            code_sha256=code_sha256,
            code_size=code_size,
        )


_VERSION = (
    "versions.version, versions.name, handler, options, layers, python, package_paths, image_env, code_sha256, "
    "code_size, sealed_env"
)
_SELECT = f"SELECT deployed_at, description, concurrency, {_VERSION} FROM functions JOIN versions USING (version)"
