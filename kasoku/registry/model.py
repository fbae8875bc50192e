"""What the registry keeps."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kasoku.sdk.options import FunctionOptions
from kasoku.tenants.model import local, owner

LATEST = "$LATEST"
ARN = "arn:aws:lambda:local:000000000000:function:"
"""Region and account mean nothing here; Lambda's clients want to see some."""


@dataclass(frozen=True)
class FunctionVersion:
    """One immutable version of a function. Equal content has an equal `version`."""

    name: str
    handler: str
    options: FunctionOptions
    layers: tuple[str, ...]
    """Digests `sha256:HEX`, bottom first, the function's own code last."""
    python: str
    """The interpreter, as a path in the guest."""
    package_paths: tuple[str, ...]
    """Import paths of the image's packages in the guest."""
    image_env: tuple[tuple[str, str], ...] = ()
    """Environment that the image asks for; the function's own options come on top."""
    code_sha256: str = field(default="", compare=False)
    """Of the upload, base64 as Lambda has it. The content is what `layers` say: two uploads may unpack to the same."""
    code_size: int = field(default=0, compare=False)

    @cached_property
    def version(self) -> str:
        """The content's address, 64 hex digits."""
        program = [self.layers, self.python, self.package_paths, self.image_env]
        content = [self.name, self.handler, self.options.to_json(), *program]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @cached_property
    def tenant(self) -> str:
        """Whose it is."""
        return owner(self.name)

    @cached_property
    def local_name(self) -> str:
        """What its tenant calls it."""
        return local(self.name)

    @cached_property
    def arn(self) -> str:
        """The name by which Lambda's clients know the function."""
        return ARN + self.local_name


@dataclass(frozen=True, slots=True)
class Published:
    """A version that was given a number and stays callable by it."""

    number: int
    function: FunctionVersion
    description: str
    published_at: float


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for a version, that can be moved. `weights`: the share of calls that other versions get instead."""

    alias: str
    target: str
    """A number, or `$LATEST`."""
    weights: tuple[tuple[str, float], ...]
    description: str
    revision: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name and a qualifier lead to."""

    function: FunctionVersion
    executed_version: str
    """`$LATEST` or a number."""
    arn: str


@dataclass(frozen=True)
class Record:
    """All that is known of one function."""

    latest: FunctionVersion
    description: str
    deployed_at: float
    concurrency: int | None
    published: Mapping[int, Published]
    aliases: Mapping[str, Alias]
    event_invoke: Mapping[str, tuple[dict[str, Any], float]]
    """By qualifier: the configuration as Lambda words it, and when it was changed."""

    @property
    def name(self) -> str:
        return self.latest.name

    @cached_property
    def _latest(self) -> Resolved:
        return Resolved(self.latest, LATEST, self.latest.arn)

    def resolve(self, qualifier: str, chance: float) -> Resolved | None:
        """The version behind a qualifier: `$LATEST`, a number, an alias, or a content address. None: no such one.

        `chance` in [0, 1) decides where an alias has weights.
        """
        if qualifier == LATEST:
            return self._latest
        arn = f"{self.latest.arn}:{qualifier}"
        if alias := self.aliases.get(qualifier):
            label = _choose(alias, chance)
            found = self._labelled(label)
            return Resolved(found, label, arn) if found else None
        if found := self._labelled(qualifier):
            return Resolved(found, qualifier, arn)
        if qualifier == self.latest.version:
            return Resolved(self.latest, LATEST, arn)
        for published in self.published.values():
            if qualifier == published.function.version:
                return Resolved(published.function, str(published.number), arn)
        return None

    @property
    def functions(self) -> list[FunctionVersion]:
        """The versions that can be called."""
        return [self.latest, *(p.function for p in self.published.values())]

    @property
    def live(self) -> list[FunctionVersion]:
        """The current version and those that aliases lead to."""
        labels = {label for alias in self.aliases.values() for label in (alias.target, *dict(alias.weights))}
        return [self.latest, *(p.function for p in self.published.values() if str(p.number) in labels)]

    @property
    def versions(self) -> frozenset[str]:
        """Their content addresses."""
        return frozenset(function.version for function in self.functions)

    def users_of(self, number: int) -> Iterable[str]:
        """The aliases that need a numbered version."""
        label = str(number)
        return [a.alias for a in self.aliases.values() if a.target == label or label in dict(a.weights)]

    def _labelled(self, label: str) -> FunctionVersion | None:
        if label == LATEST:
            return self.latest
        published = self.published.get(int(label)) if label.isdecimal() and len(label) < 10 else None
        return published.function if published else None


def _choose(alias: Alias, chance: float) -> str:
    for label, weight in alias.weights:
        if chance < weight:
            return label
        chance -= weight
    return alias.target
