"""Volumes of one state directory: `volumes/NAME.json` names a layer, which the guest has mapped and never copies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from kasoku.images.errors import ImageError
from kasoku.images.layer import TreeError, scan_directory
from kasoku.images.layer.tree import Tree
from kasoku.images.layer_store import LayerStore, replace_file
from kasoku.images.model import Layer

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,126}")
#: `kind` of a volume's layer.
KIND = "volume"


class VolumeError(ImageError):
    """A volume cannot be used, and why."""


class VolumeStore:
    """The volumes of one state directory. Its methods read and write whole directories: not for an event loop."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "volumes"
        self.layers = LayerStore(home / "layers")

    def create(self, name: str, directory: Path) -> Layer:
        """Makes a volume of a directory's files, in place of one that had the name. Raises VolumeError.

        Guests that run keep what they have. Names `.wh.*` are refused: layers give them a meaning.
        """
        file = self._file(name)
        try:
            tree = Tree()
            tree.root = scan_directory(directory, skip=_refuse_whiteout)
        except (OSError, TreeError) as error:
            raise VolumeError(f"{directory} cannot be made into a volume: {error}") from None
        layer = self.layers.add(tree, KIND)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(file, msgspec.json.format(msgspec.json.encode(layer)) + b"\n")
        except OSError as error:
            raise VolumeError(f"volume {name} cannot be saved: {error.strerror}") from None
        return layer

    def load(self, name: str) -> Layer:
        """Returns a volume's layer, which is there with the right size. Raises VolumeError."""
        layer = self.description(name)
        try:
            self.layers.path(layer)
        except ImageError as error:
            raise VolumeError(f"volume {name} cannot be used: {error}") from None
        return layer

    def path(self, name: str) -> Path:
        """Returns the file of a volume's layer. Raises VolumeError."""
        return self.layers.path(self.load(name))

    def verify(self, layer: Layer) -> None:
        """Reads all of it. Raises ImageError where its contents are not those of its digest."""
        self.layers.verify(layer)

    def names(self) -> list[str]:
        """Returns the names of all volumes."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def digests(self) -> Iterator[str]:
        """Yields the digests of all volumes' layers."""
        for name in self.names():
            yield self.description(name).digest

    def remove(self, name: str) -> None:
        """Forgets a volume. Its layer stays until `kasoku image prune`, for guests that have it."""
        self.description(name)
        try:
            self._file(name).unlink()
        except OSError as error:
            raise VolumeError(f"volume {name} cannot be removed: {error.strerror}") from None

    def description(self, name: str) -> Layer:
        """Returns what is written about a volume, its layer unseen. Raises VolumeError."""
        file = self._file(name)
        try:
            return msgspec.json.decode(file.read_bytes(), type=Layer)
        except FileNotFoundError:
            known = ", ".join(self.names()) or "there is none yet"
            raise VolumeError(
                f"there is no volume {name!r} (known: {known}); `kasoku volume create` makes one"
            ) from None
        except OSError as error:
            raise VolumeError(f"volume {name} cannot be read: {error.strerror}") from None
        except (msgspec.MsgspecError, ValueError) as error:
            raise VolumeError(f"{file} is not the description of a volume: {error}") from None

    def _file(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise VolumeError(
                f"{name!r} cannot name a volume: use lower-case letters, digits, '.', '_' and '-', at most 127"
            )
        return self.folder / f"{name}.json"


def _refuse_whiteout(path: bytes, entry: object) -> bool:
    if path.rpartition(b"/")[2].startswith(b".wh."):
        raise TreeError(f"{path.decode(errors='replace')} begins with .wh., which hides files in layers")
    return False
