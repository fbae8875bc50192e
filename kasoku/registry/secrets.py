"""Secrets that functions get as environment variables, and the keys with which clients prove who they are. Sealed."""

import secrets
import string
import time
from dataclasses import dataclass

from kasoku.registry.store import Registry

ID_PREFIX = "KASOKU"
_ID_LETTERS = string.ascii_uppercase + "234567"


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key as listings show it."""

    id: str
    name: str
    created_at: float
    tenant: str
    """Empty: the operator's."""


class SecretStore:
    """Values by name. What a method has returned is on disk."""

    def __init__(self, registry: Registry) -> None:
        self._db, self._sealer = registry.db, registry.sealer

    def set(self, name: str, value: str) -> None:
        """Keep a value; instances that start from now on get it."""
        row = (name, self._sealer.seal(value.encode(), _secret(name)), time.time())
        self._db.execute("INSERT OR REPLACE INTO secrets VALUES (?, ?, ?)", row)

    def get(self, name: str) -> str | None:
        """The value."""
        row = self._db.execute("SELECT sealed FROM secrets WHERE name = ?", (name,)).fetchone()
        return self._sealer.open(row[0], _secret(name)).decode() if row else None

    def list(self) -> list[tuple[str, float]]:
        """Names, and when each was set."""
        return list(self._db.execute("SELECT name, updated_at FROM secrets ORDER BY name"))

    def remove(self, name: str) -> bool:
        """Forget it; False if there is none."""
        return self._db.execute("DELETE FROM secrets WHERE name = ?", (name,)).rowcount > 0


class KeyStore:
    """Access keys. The secret half is kept sealed and not hashed: a SigV4 signature is checked by making it again."""

    def __init__(self, registry: Registry) -> None:
        self._db, self._sealer = registry.db, registry.sealer

    def create(self, name: str, tenant: str = "") -> tuple[str, str]:
        """A new key: its id and its secret, which is shown this once."""
        id = ID_PREFIX + "".join(secrets.choice(_ID_LETTERS) for _ in range(14))
        secret = secrets.token_urlsafe(30)
        row = (id, name, self._sealer.seal(secret.encode(), _key(id)), time.time(), tenant)
        self._db.execute("INSERT INTO access_keys (id, name, sealed, created_at, tenant) VALUES (?, ?, ?, ?, ?)", row)
        return id, secret

    def has_tenant(self, name: str) -> bool:
        """Whether there is a tenant of that name."""
        return bool(self._db.execute("SELECT count(*) FROM tenants WHERE name = ?", (name,)).fetchone()[0])

    def list(self) -> list[AccessKey]:
        """All keys, oldest first."""
        rows = self._db.execute("SELECT id, name, created_at, tenant FROM access_keys ORDER BY created_at")
        return [AccessKey(*row) for row in rows]

    def remove(self, id: str) -> bool:
        """From now on the key opens nothing; False if there is none."""
        return self._db.execute("DELETE FROM access_keys WHERE id = ?", (id,)).rowcount > 0

    @property
    def edition(self) -> int:
        """Changes when another connection, such as `kasoku keys`, has written to the database. Costs 4 us."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        return int(version)

    def secrets(self) -> dict[str, tuple[str, str]]:
        """Secret and tenant of all keys by id."""
        rows = self._db.execute("SELECT id, sealed, tenant FROM access_keys").fetchall()
        return {id: (self._sealer.open(sealed, _key(id)).decode(), tenant) for id, sealed, tenant in rows}


def _secret(name: str) -> str:
    return f"secret {name}"


def _key(id: str) -> str:
    return f"access key {id}"
