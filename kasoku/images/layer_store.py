"""The folder of layers: content-addressed files that are written once and never changed.

    layers/HEX.erofs     a layer, mode 0444; HEX is the SHA-256 of its bytes
    layers/keys/KEY      what was built from what: KEY names the inputs, the file (JSON) the layer
    layers/.lock         held while a layer is built, so that two builders of one thing do the work once

A layer appears under its name only when it is whole and on the disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from kasoku.images.errors import ImageError
from kasoku.images.layer import Tree, TreeError, settle, write_image
from kasoku.images.model import Layer


class LayerStore:
    """Keeps layers below one folder. Safe to use from several threads and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, layer: Layer) -> Path:
        """Returns the layer's file. Raises ImageError where it is missing or has another size."""
        path = self.folder / f"{layer.hex}.erofs"
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise ImageError(f"layer {layer.digest} is missing from {self.folder}: build the image again") from None
        except OSError as error:
            raise ImageError(f"layer {layer.digest} cannot be read: {error.strerror}") from None
        if size != layer.size:
            raise ImageError(
                f"layer {layer.digest} is corrupt: it has {size} bytes, not {layer.size}; build the image again"
            )
        return path

    def verify(self, layer: Layer) -> None:
        """Reads the whole layer. Raises ImageError where its contents are not those of its digest."""
        path = self.path(layer)
        if _digest(path) != layer.digest:
            raise ImageError(f"layer {layer.digest} is corrupt: its bytes have changed; remove {path} and build again")

    def recorded(self, key: str) -> Layer | None:
        """Returns the layer that was built from the inputs that `key` names, if it is still there."""
        try:
            layer = msgspec.json.decode((self.folder / "keys" / key).read_bytes(), type=Layer)
            self.path(layer)
        except (OSError, msgspec.MsgspecError, ImageError):
            return None
        return layer

    def record(self, key: str, layer: Layer) -> None:
        """Remembers what the inputs that `key` names became."""
        keys = self.folder / "keys"
        keys.mkdir(mode=0o700, exist_ok=True)
        replace_file(keys / key, msgspec.json.encode(layer))

    def ensure(self, key: str, build: Callable[[], Layer], *, refresh: bool = False) -> Layer:
        """Returns the layer for `key`, building it where there is none yet or `refresh` asks for it."""
        layer = None if refresh else self.recorded(key)
        if layer is None:
            with self._building():
                layer = None if refresh else self.recorded(key)
                if layer is None:
                    layer = build()
                    self.record(key, layer)
        self._touch(layer)
        return layer

    def add(self, tree: Tree, kind: str) -> Layer:
        """Writes the tree as a layer. Raises ImageError."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".new-", dir=self.folder)
        except OSError as error:
            raise ImageError(f"no layer can be written to {self.folder}: {error.strerror}") from None
        os.close(descriptor)
        temporary = Path(name)
        try:
            write_image(tree, temporary)
            layer = Layer(_digest(temporary), temporary.stat().st_size, kind)
            final = self.folder / f"{layer.hex}.erofs"
            if not final.exists() or final.stat().st_size != layer.size:
                temporary.chmod(0o444)
                settle(temporary)
                temporary.replace(final)
                _sync_folder(self.folder)
            self._touch(layer)
        except (OSError, TreeError) as error:
            raise ImageError(f"the {kind} layer cannot be written: {error}") from None
        finally:
            temporary.unlink(missing_ok=True)
        return layer

    def all(self) -> Iterator[tuple[str, int, float]]:
        """Yields (digest, size in bytes, time it was last asked for) of every layer that is there."""
        for path in sorted(self.folder.glob("*.erofs")):
            status = path.stat()
            yield f"sha256:{path.stem}", status.st_size, status.st_mtime

    def remove(self, digest: str) -> None:
        """Deletes a layer; guests that have it mapped keep it until they end."""
        (self.folder / f"{digest.removeprefix('sha256:')}.erofs").unlink(missing_ok=True)

    def _touch(self, layer: Layer) -> None:
        """Notes that the layer was asked for: whoever asked will name it somewhere soon, and `prune` waits for that."""
        os.utime(self.path(layer))

    @contextmanager
    def _building(self) -> Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def replace_file(path: Path, data: bytes) -> None:
    """Writes a small file so that readers see the old one or the new one, also after a loss of power."""
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
