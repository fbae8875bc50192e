"""A snapshot on disk: a manifest that can be read, and the memory of guest and session encrypted for their tenant.

```
magic "KASOKUSN", u32 length of the manifest, the manifest (JSON)
chunks: u32 length, AES-256-GCM of at most 1 MiB of the guest's, then of the session's data (holes are left out)
```
Each file has a key of its own, derived from the node's key, the tenant and a random salt, so a counter is nonce enough.
The hash of the manifest, the chunk's number and whether it is the last are authenticated with each chunk: nothing can
be flipped, cut off, exchanged or taken from another file without being noticed.
"""

import fcntl
import hashlib
import json
import os
import secrets
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kasoku.node.snapshots.key import SnapshotKey
from kasoku.node.snapshots.saved import Saved

MAGIC = b"KASOKUSN"
CHUNK = 1 << 20
MAX_MANIFEST = 4 << 20
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_LENGTH = struct.Struct("<I")


class SnapshotDamagedError(Exception):
    """A file is not what it must be; the message says in what way."""


@dataclass(frozen=True, slots=True)
class Part:
    """One memory file of a snapshot."""

    size: int
    """Bytes."""
    extents: list[list[int]]
    """Offset and length of each run of data in it."""

    @classmethod
    def of(cls, descriptor: int) -> "Part":
        """As a file is."""
        return cls(os.fstat(descriptor).st_size, _extents_of(descriptor))

    @property
    def sound(self) -> bool:
        """Whether a file can be like this."""
        return isinstance(self.size, int) and all(
            isinstance(o, int) and isinstance(n, int) and o >= 0 and n > 0 and o + n <= self.size
            for o, n in self.extents
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the outside of a snapshot says."""

    key: dict[str, Any]
    created_at: float
    memory: Part
    """The guest."""
    session: Part | None
    """Its accelerator session."""
    device: str
    """Kind of device and driver that the session needs."""
    salt: str

    @property
    def parts(self) -> list[Part]:
        """In the order of their chunks."""
        return [self.memory] if self.session is None else [self.memory, self.session]

    @property
    def data_bytes(self) -> int:
        """Bytes that are not holes."""
        return sum(length for part in self.parts for _, length in part.extents)


def _extents_of(descriptor: int) -> list[list[int]]:
    size = os.fstat(descriptor).st_size
    found: list[list[int]] = []
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            break
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        found.append([start, end - start])
    return found


def write(target: Path, key: SnapshotKey, saved: Saved, node_key: bytes, created_at: float) -> Manifest:
    """Write a snapshot. It is there in full under its name, or not at all, whatever ends this process meanwhile."""
    salt = secrets.token_bytes(32)
    session = None if saved.session is None else Part.of(saved.session)
    manifest = Manifest(asdict(key), created_at, Part.of(saved.memory), session, saved.device, salt.hex())
    head = json.dumps(asdict(manifest)).encode()
    cipher, bound = _cipher(node_key, key.tenant, salt), hashlib.sha256(head).digest()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(MAGIC + _LENGTH.pack(len(head)) + head)
            pieces = list(_pieces(manifest, saved))
            for number, (source, offset, length) in enumerate(pieces):
                sealed = cipher.encrypt(
                    _nonce(number), os.pread(source, length, offset), _context(bound, number, len(pieces))
                )
                file.write(_LENGTH.pack(len(sealed)) + sealed)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, target)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return manifest


def read_manifest(path: Path) -> Manifest:
    """What a file says of itself, unverified. Raises SnapshotDamagedError."""
    try:
        with path.open("rb") as file:
            return _head(file)[0]
    except OSError as error:
        raise SnapshotDamagedError(f"it cannot be read: {error.strerror}") from None


def open_verified(path: Path, key: SnapshotKey, node_key: bytes) -> Saved:
    """Read and verify all of a snapshot; sealed memory files. Raises SnapshotDamagedError."""
    try:
        with path.open("rb") as file:
            manifest, head = _head(file)
            if manifest.key != json.loads(json.dumps(asdict(key))):
                wrong = [name for name, value in asdict(key).items() if _plain(manifest.key.get(name)) != _plain(value)]
                raise SnapshotDamagedError(f"it was made for another {', '.join(wrong) or 'key'}")
            return _load(file, manifest, head, key.tenant, node_key)
    except OSError as error:
        raise SnapshotDamagedError(f"it cannot be read: {error.strerror}") from None


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _head(file: BinaryIO) -> tuple[Manifest, bytes]:
    start = file.read(len(MAGIC) + _LENGTH.size)
    if len(start) < len(MAGIC) + _LENGTH.size or not start.startswith(MAGIC):
        raise SnapshotDamagedError("its first bytes are not those of a snapshot")
    (length,) = _LENGTH.unpack_from(start, len(MAGIC))
    if length > MAX_MANIFEST:
        raise SnapshotDamagedError("its manifest is too long")
    head = file.read(length)
    if len(head) < length:
        raise SnapshotDamagedError("it ends inside its manifest")
    try:
        told = json.loads(head)
        parts = [told[name] and Part(**told[name]) for name in ("memory", "session")]
        manifest = Manifest(**{**told, "memory": parts[0], "session": parts[1]})
        salt_bytes = len(bytes.fromhex(manifest.salt))
        sound = (
            salt_bytes == 32
            and isinstance(manifest.key, dict)
            and isinstance(manifest.device, str)
            and isinstance(manifest.memory, Part)
            and all(part.sound for part in manifest.parts)
        )
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise SnapshotDamagedError(f"its manifest cannot be read: {error}") from None
    if not sound:
        raise SnapshotDamagedError("its manifest says what no snapshot says")
    return manifest, head


def _load(file: BinaryIO, manifest: Manifest, head: bytes, tenant: str, node_key: bytes) -> Saved:
    cipher = _cipher(node_key, tenant, bytes.fromhex(manifest.salt))
    bound = hashlib.sha256(head).digest()
    saved = Saved(_memory_file(manifest.memory.size), device=manifest.device)
    try:
        if manifest.session:
            saved.session = _memory_file(manifest.session.size)
        pieces = list(_pieces(manifest, saved))
        for number, (target, offset, length) in enumerate(pieces):
            start = file.read(_LENGTH.size)
            sealed = file.read(length + 16) if len(start) == _LENGTH.size else b""
            if len(sealed) != length + 16 or _LENGTH.unpack(start)[0] != length + 16:
                raise SnapshotDamagedError(f"chunk {number} of {len(pieces)} is cut short or of a wrong length")
            try:
                data = cipher.decrypt(_nonce(number), sealed, _context(bound, number, len(pieces)))
            except InvalidTag:
                raise SnapshotDamagedError(
                    f"chunk {number} of {len(pieces)} is not what was written, or for another tenant"
                ) from None
            os.pwrite(target, data, offset)
        if file.read(1):
            raise SnapshotDamagedError("something follows its last chunk")
        seal(saved.memory)
        if saved.session is not None:
            seal(saved.session)
    except BaseException:
        saved.close()
        raise
    return saved


def _memory_file(size: int) -> int:
    memory = os.memfd_create("kasoku-snapshot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(memory, size)
    except BaseException:
        os.close(memory)
        raise
    return memory


def seal(memory: int) -> None:
    """Make a memory file final: VMM and broker take no other."""
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)


def _pieces(manifest: Manifest, saved: Saved) -> Iterator[tuple[int, int, int]]:
    """Memory file, offset and length of each chunk."""
    for part, file in zip(manifest.parts, (saved.memory, saved.session), strict=False):
        assert file is not None
        for start, length in part.extents:
            for offset in range(start, start + length, CHUNK):
                yield file, offset, min(CHUNK, start + length - offset)


def _cipher(node_key: bytes, tenant: str, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, salt, b"kasoku snapshot of " + tenant.encode()).derive(node_key))


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "little")


def _context(bound: bytes, number: int, count: int) -> bytes:
    return bound + struct.pack("<QQ", number, count)
