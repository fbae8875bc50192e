"""The files of a node's snapshots: `KEY.snapshot`, and the node's key."""

import os
import secrets
import time
from pathlib import Path

from kasoku.node.snapshots.file import Manifest, SnapshotDamagedError, open_verified, read_manifest, write
from kasoku.node.snapshots.key import SnapshotKey
from kasoku.node.snapshots.saved import Saved

SUFFIX = ".snapshot"
KEY_BYTES = 32


class SnapshotStore:
    """Blocking; called in worker threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, key: SnapshotKey) -> Path:
        """Where the snapshot of that key is, if it is."""
        return self._folder / f"{key.digest}{SUFFIX}"

    def save(self, key: SnapshotKey, saved: Saved) -> Manifest:
        """Write a snapshot from its memory files."""
        return write(self.path(key), key, saved, self._node_key(), time.time())

    def open(self, key: SnapshotKey) -> Saved | None:
        """The sealed memory of a snapshot, all of it verified; None if there is none. Raises SnapshotDamagedError."""
        path = self.path(key)
        return open_verified(path, key, self._node_key()) if path.exists() else None

    def remove(self, key: SnapshotKey) -> None:
        """Delete a snapshot, if it is there."""
        self.path(key).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete what a writer that was killed has left."""
        for path in self._folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)

    def entries(self) -> list[tuple[str, int, Manifest | str]]:
        """Name, bytes on disk, and the manifest, unverified, or what is wrong with it."""
        found: list[tuple[str, int, Manifest | str]] = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            try:
                described: Manifest | str = read_manifest(path)
            except SnapshotDamagedError as error:
                described = str(error)
            found.append((path.name.removesuffix(SUFFIX), path.stat().st_size, described))
        return found

    def remove_named(self, prefix: str) -> list[str]:
        """Delete the snapshots whose name begins so, or that are of the function of that name; their names."""
        chosen = [
            name
            for name, _, described in self.entries()
            if name.startswith(prefix) or (isinstance(described, Manifest) and described.key.get("function") == prefix)
        ]
        for name in chosen:
            (self._folder / f"{name}{SUFFIX}").unlink(missing_ok=True)
        return chosen

    def _node_key(self) -> bytes:
        """The node's key: made once, readable by its user alone."""
        path = self._folder / "node.key"
        if not path.exists():
            temporary = self._folder / f".{secrets.token_hex(4)}.tmp"
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, secrets.token_bytes(KEY_BYTES))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            try:
                os.link(temporary, path)  # the first of two writers wins
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise SnapshotDamagedError(f"{path} is not a key of {KEY_BYTES} bytes; delete it to have a new one made")
        return key
