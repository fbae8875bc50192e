"""What an image is, in memory and in `images/NAME.json`."""

from __future__ import annotations

import re

import msgspec

from kasoku.images.errors import ImageError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,126}")


class Layer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One EROFS file of the store. `size` is in bytes; `kind` is python, requirements or tree."""

    digest: str
    size: int
    kind: str

    def __post_init__(self) -> None:
        check_digest(self.digest)

    @property
    def hex(self) -> str:
        """The digest without its algorithm: the name of the file."""
        return self.digest.removeprefix("sha256:")


class Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named stack of layers, bottom first, and how a program is started in it where nothing else is said."""

    name: str
    layers: tuple[Layer, ...]
    env: dict[str, str] = {}
    cwd: str = "/"
    args: tuple[str, ...] = ()


def check_name(name: str) -> str:
    """Returns the name. Raises ImageError unless it is one that an image can have."""
    if not _NAME.fullmatch(name):
        raise ImageError(
            f"{name!r} cannot name an image: use lower-case letters, digits, '.', '_' and '-', at most 127"
        )
    return name


def check_digest(digest: str) -> str:
    """Returns the digest. Raises ValueError unless it has the form sha256:HEX."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is not a digest of the form sha256:HEX")
    return digest
