"""Values that must not lie readable on the disk: AES-256-GCM with a key of this state directory."""

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kasoku.sdk.errors import KasokuError

KEY_BYTES = 32
_NONCE_BYTES = 12


class SealError(KasokuError):
    """A sealed value cannot be opened: the key is another's, or the value was changed."""


class Sealer:
    """Seals and opens. What a value is for (`purpose`) is bound to it: one cannot be put in another's place."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def of_file(cls, path: Path) -> "Sealer":
        """The key that the file holds; it is made (mode 0600) where there is none. Raises SealError."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            key = path.read_bytes()
            if len(key) != KEY_BYTES:
                raise SealError(f"{path} is no key of {KEY_BYTES} bytes; put the right one back") from None
            return cls(key)
        key = AESGCM.generate_key(KEY_BYTES * 8)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        return cls(key)

    def seal(self, value: bytes, purpose: str) -> bytes:
        """The value as only this key opens it."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, value, purpose.encode())

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """The value. Raises SealError."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError):
            raise SealError(f"{purpose} cannot be decrypted: the state directory's key file is not the one") from None
