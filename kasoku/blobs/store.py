"""Blobs on disk: data beyond a payload's limit, named by their SHA-256, each tenant's apart from all others'.

A blob is a copy of what its sender has: it is forgotten when nobody has used it for a while, when its tenant's room is
needed for another, and when the machine has been started anew (blobs are not synced to the disk, so what a crash of the
machine left of them is not to be trusted). One that an invocation uses stays. One event loop; files are written and
hashed in worker threads.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kasoku.node.errors import PlatformError
from kasoku.node.outcome import Lent

MAX_LENT = 64
"""Blobs of one invocation."""
MAX_LENT_BYTES = 32 << 30
"""Bytes of them together: half of what a guest can address."""
SETTLE_SECONDS = 60.0
"""So long after its last use a blob is not given up for another: whoever sent it is about to call with it."""
PART = 1 << 20
"""Bytes that are collected before a worker thread hashes and writes them."""
_ID = re.compile(r"[0-9a-f]{64}")
_OPERATOR = "_"
"""Folder of what has no tenant; no tenant can be called so."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(slots=True)
class Entry:
    """One blob. `used_at` is of the monotonic clock."""

    size: int
    used_at: float
    pins: int = 0


@dataclass(slots=True)
class _Shelf:
    """The blobs of one tenant."""

    folder: Path
    entries: dict[str, Entry] = field(default_factory=dict)
    incoming: int = 0
    """Bytes of those that are being written."""

    @property
    def bytes(self) -> int:
        return sum(entry.size for entry in self.entries.values()) + self.incoming


class BlobStore:
    """See the module. `quota` is bytes for each tenant, `keep_s` how long an unused blob is kept."""

    def __init__(self, folder: Path, quota: int, keep_s: float) -> None:
        self._folder = folder
        self._quota = quota
        self._keep_s = keep_s
        self._shelves: dict[str, _Shelf] = {}
        self._begin()

    def get(self, tenant: str, id: str) -> Entry:
        """One blob, which counts as used now. Raises PlatformError (400, 404)."""
        check_id(id)
        entry = self._shelf(tenant).entries.get(id)
        if entry is None:
            raise PlatformError("ResourceNotFoundException", f"there is no blob {id}; it may have to be sent again")
        entry.used_at = time.monotonic()
        return entry

    def path(self, tenant: str, id: str) -> Path:
        """The file of a blob that there is."""
        return self._shelf(tenant).folder / id

    def of(self, tenant: str) -> dict[str, Entry]:
        """A tenant's blobs by id."""
        return dict(self._shelf(tenant).entries)

    @contextlib.contextmanager
    def pin(self, tenant: str, ids: Sequence[str]) -> Iterator[list[Lent]]:
        """Blobs that stay as long as the context. Raises PlatformError (400, 404, 413)."""
        if len(ids) > MAX_LENT:
            raise PlatformError("InvalidParameterValueException", f"an invocation has at most {MAX_LENT} blobs")
        entries = [self.get(tenant, id) for id in ids]
        if sum(entry.size for entry in entries) > MAX_LENT_BYTES:
            message = f"the blobs of an invocation are at most {MAX_LENT_BYTES >> 30} GiB together"
            raise PlatformError("RequestTooLargeException", message)
        for entry in entries:
            entry.pins += 1
        try:
            yield [Lent(id, self.path(tenant, id), entry.size) for id, entry in zip(ids, entries, strict=True)]
        finally:
            now = time.monotonic()
            for entry in entries:
                entry.pins -= 1
                entry.used_at = now

    def writer(self, tenant: str) -> "BlobWriter":
        """Begin a new blob."""
        return BlobWriter(self, tenant)

    def remove(self, tenant: str, id: str) -> None:
        """Forget a blob; instances that have it mapped keep their view. Raises PlatformError (400, 404)."""
        self.get(tenant, id)
        self._drop(self._shelf(tenant), id)

    def collect(self) -> None:
        """Forget what nobody has used for long."""
        oldest = time.monotonic() - self._keep_s
        for shelf in self._shelves.values():
            for id in [id for id, e in shelf.entries.items() if not e.pins and e.used_at < oldest]:
                self._drop(shelf, id)

    def reserve(self, tenant: str, written: int, more: int) -> None:
        """Room for `more` bytes of a blob of which `written` are there. Raises PlatformError (413, 429)."""
        shelf = self._shelf(tenant)
        if written + more > self._quota:
            limit = f"{self._quota >> 20} MiB of blobs"
            raise PlatformError("RequestTooLargeException", f"the blob is larger than what may be kept: {limit}")
        now = time.monotonic()
        excess = shelf.bytes + more - self._quota
        if excess > 0:
            for id, entry in sorted(shelf.entries.items(), key=lambda item: item[1].used_at):
                if excess > 0 and not entry.pins and now - entry.used_at >= SETTLE_SECONDS:
                    excess -= entry.size
                    self._drop(shelf, id)
        if excess > 0:
            message = f"{self._quota >> 20} MiB of blobs are in use; remove some, or try again later"
            raise PlatformError("TooManyRequestsException", message, retry_after_s=SETTLE_SECONDS)
        shelf.incoming += more

    def give_up(self, tenant: str, size: int) -> None:
        """What was reserved is not needed."""
        self._shelf(tenant).incoming -= size

    def add(self, tenant: str, id: str, size: int) -> None:
        """A blob is there whose room was reserved."""
        shelf = self._shelf(tenant)
        shelf.incoming -= size
        pins = shelf.entries[id].pins if id in shelf.entries else 0
        shelf.entries[id] = Entry(size, time.monotonic(), pins)

    def temporary(self, tenant: str) -> Path:
        """A new name for a file that is being written."""
        return self._shelf(tenant).folder / f".{secrets.token_hex(8)}"

    def _shelf(self, tenant: str) -> _Shelf:
        name = tenant or _OPERATOR
        shelf = self._shelves.get(name)
        if shelf is None:
            shelf = self._shelves[name] = _Shelf(self._folder / name)
            shelf.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return shelf

    def _drop(self, shelf: _Shelf, id: str) -> None:
        shelf.entries.pop(id, None)
        (shelf.folder / id).unlink(missing_ok=True)

    def _begin(self) -> None:
        """Find what is there, unless the machine has been started since."""
        boot = _BOOT_ID.read_text().strip()
        marker = self._folder / "boot-id"
        if not marker.exists() or marker.read_text() != boot:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(mode=0o700, parents=True)
            marker.write_text(boot)
        now = time.monotonic()
        for folder in self._folder.iterdir():
            if not folder.is_dir():
                continue
            shelf = self._shelves[folder.name] = _Shelf(folder)
            for path in folder.iterdir():
                if _ID.fullmatch(path.name):
                    shelf.entries[path.name] = Entry(path.stat().st_size, now)
                else:
                    path.unlink(missing_ok=True)  # a gateway that was killed left it half written


class BlobWriter:
    """A blob that comes in pieces. `finish` or `abort` ends it."""

    def __init__(self, store: BlobStore, tenant: str) -> None:
        self._store = store
        self._tenant = tenant
        self._path = store.temporary(tenant)
        self._hash = hashlib.sha256()
        self._file: int | None = None
        self._parts: list[bytes] = []
        self._held = 0
        self._size = 0

    async def write(self, data: bytes) -> None:
        """More bytes. Raises PlatformError when there is no room for them."""
        if data:
            self._store.reserve(self._tenant, self._size, len(data))
            self._size += len(data)
            self._parts.append(data)
            self._held += len(data)
        if self._held >= PART:
            await self._flush()

    async def finish(self, expected: str | None = None) -> str:
        """The blob's id; it is there. Raises PlatformError if it is empty or not the expected one."""
        await self._flush()
        id = self._hash.hexdigest()
        if not self._size:
            raise PlatformError("InvalidParameterValueException", "a blob has at least one byte")
        if expected is not None and id != expected:
            message = f"the bytes that came are those of blob {id}, not of {expected}"
            raise PlatformError("InvalidParameterValueException", message)
        target = self._store.path(self._tenant, id)
        with _told():
            self._path.replace(target)
        self._close()
        self._store.add(self._tenant, id, self._size)
        self._size = 0
        return id

    def abort(self) -> None:
        """Leave nothing of what was not finished."""
        self._close()
        self._path.unlink(missing_ok=True)
        self._store.give_up(self._tenant, self._size)
        self._size = 0

    async def _flush(self) -> None:
        parts, self._parts, self._held = self._parts, [], 0
        if not parts:
            return
        work = asyncio.ensure_future(asyncio.to_thread(self._put, parts))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])  # the file must not be closed under the thread that writes it
            raise

    def _put(self, parts: Sequence[bytes]) -> None:
        with _told():
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
            for part in parts:
                self._hash.update(part)
                view = memoryview(part)
                while view:
                    view = view[os.write(self._file, view) :]

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def check_id(id: str) -> str:
    """A blob's name, checked. Raises PlatformError (400)."""
    if not _ID.fullmatch(id):
        message = f"{id[:80]!r} is no blob's name: the SHA-256 of its bytes, 64 of 0-9 and a-f"
        raise PlatformError("InvalidParameterValueException", message)
    return id


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What the disk says is wrong, for whoever asked."""
    try:
        yield
    except OSError as error:
        raise PlatformError("ServiceException", f"the blob cannot be kept: {error.strerror or error}") from None
