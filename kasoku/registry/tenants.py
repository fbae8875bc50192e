"""Tenants in the state's database. What a method has returned is on disk."""

import re
from dataclasses import astuple, fields

from kasoku.registry.store import Registry
from kasoku.sdk.errors import KasokuError
from kasoku.tenants.model import MAX_NAME, Tenant

_NAME = re.compile(rf"[a-z0-9](?:[a-z0-9-]{{0,{MAX_NAME - 2}}}[a-z0-9])?")
_COLUMNS = ", ".join(field.name for field in fields(Tenant))
_PLACES = ", ".join("?" * len(fields(Tenant)))


class TenantStore:
    """See the module."""

    def __init__(self, registry: Registry) -> None:
        self._db = registry.db

    def put(self, tenant: Tenant) -> None:
        """Make a tenant, or change its limits."""
        check_tenant(tenant.name)
        self._db.execute(f"INSERT OR REPLACE INTO tenants ({_COLUMNS}) VALUES ({_PLACES})", astuple(tenant))

    def list(self) -> list[Tenant]:
        """All tenants by name."""
        return [Tenant(*row) for row in self._db.execute(f"SELECT {_COLUMNS} FROM tenants ORDER BY name")]

    def get(self, name: str) -> Tenant | None:
        """One tenant."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM tenants WHERE name = ?", (name,)).fetchone()
        return Tenant(*row) if row else None

    def remove(self, name: str) -> bool:
        """Forget a tenant and its keys; False if there is none. Raises KasokuError while it has functions."""
        (functions,) = self._db.execute("SELECT count(*) FROM functions WHERE name GLOB ?", (f"{name}.*",)).fetchone()
        if functions:
            raise KasokuError(f"tenant {name} has {functions} functions; remove them first")
        self._db.execute("DELETE FROM access_keys WHERE tenant = ?", (name,))
        return self._db.execute("DELETE FROM tenants WHERE name = ?", (name,)).rowcount > 0


def check_tenant(name: str) -> str:
    """A tenant's name, checked. Raises KasokuError."""
    if not _NAME.fullmatch(name):
        raise KasokuError(f"{name!r} is not a tenant's name: 1 to {MAX_NAME} of a-z, 0-9 and '-' between them")
    return name
