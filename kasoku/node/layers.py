"""What deployment and instances need of an image store, and the adapter to Kasoku's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Base:
    """What lies below a function's own code."""

    layers: tuple[str, ...]
    """Digests `sha256:HEX`, bottom first."""
    python: str
    package_paths: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    """Environment that the image asks for."""


class LayerSource(Protocol):
    """Blocking; called in a worker thread. Raises PlatformError with a message for the user."""

    def base(self, image: str | None, requirements: Sequence[str]) -> Base:
        """The layers of an image (None: the machine's own Python), with requirements on top."""
        ...

    def code(self, tree: Path, at: str) -> str:
        """The digest of a layer that shows the tree at a path of the guest."""
        ...

    def path(self, digest: str) -> Path:
        """The file of a layer."""
        ...

    def volume(self, name: str) -> Path:
        """The file of a volume's layer."""
        ...
