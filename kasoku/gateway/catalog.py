"""The functions as invocations see them: in memory, always as the registry has them on disk."""

import random

from kasoku.node.errors import PlatformError
from kasoku.registry.model import LATEST, FunctionVersion, Record, Resolved
from kasoku.registry.store import Registry
from kasoku.tenants.model import OPERATOR, local, reaches


class Catalog:
    """Records by name. Who changes the registry calls `refresh`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._records = {record.name: record for record in registry.list()}

    def find(self, name: str) -> Record | None:
        """A function's record."""
        return self._records.get(name)

    def record(self, name: str) -> Record:
        """A function's record. Raises PlatformError (404)."""
        record = self._records.get(name)
        if record is None:
            raise not_found(name)
        return record

    def records(self, tenant: str = OPERATOR) -> list[Record]:
        """All that a caller of a tenant may see, by name."""
        return [self._records[name] for name in sorted(self._records) if reaches(tenant, name)]

    def resolve(self, name: str, qualifier: str = LATEST) -> Resolved:
        """The version to call. Raises PlatformError (404)."""
        resolved = self.record(name).resolve(qualifier, random.random())
        if resolved is None:
            raise not_found(f"{name}:{qualifier}")
        return resolved

    def version(self, name: str, qualifier: str = LATEST) -> FunctionVersion:
        """The version behind a qualifier. Raises PlatformError (404)."""
        return self.resolve(name, qualifier).function

    def refresh(self, name: str) -> Record | None:
        """Read a function anew; None: it is gone."""
        record = self._registry.get(name)
        if record is None:
            self._records.pop(name, None)
        else:
            self._records[name] = record
        return record


def not_found(what: str) -> PlatformError:
    """Lambda's answer to a name that leads nowhere."""
    return PlatformError("ResourceNotFoundException", f"Function not found: {local(what)}")
