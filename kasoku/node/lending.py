"""Blobs that an instance has been lent: each is mapped into its guest once, and stays there."""

import asyncio
import os
from collections.abc import Sequence

from kasoku.node.errors import PlatformError
from kasoku.node.outcome import Lent
from kasoku.node.vm import Vm

MAX_LENT = 192
MAX_LENT_BYTES = 16 << 30
"""With so many blobs, or so many bytes of them, an instance takes no further invocation. Those of one invocation fit
beside them, in the slots and addresses of a guest."""


class Lending:
    """What one guest has been lent."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, int]] = {}
        self._one = asyncio.Lock()

    async def lend(self, vm: Vm, blobs: Sequence[Lent]) -> list[tuple[int, int]]:
        """Offset and size of each in the guest's `/dev/kasoku/blobs`. Raises ConnectionEnded, PlatformError."""
        async with self._one:
            for blob in blobs:
                if blob.id not in self._places:
                    try:
                        descriptor = os.open(blob.path, os.O_RDONLY | os.O_CLOEXEC)
                    except OSError as error:
                        raise PlatformError("ServiceException", f"blob {blob.id} cannot be opened: {error}") from None
                    try:
                        self._places[blob.id] = await vm.lend(descriptor, blob.size), blob.size
                    finally:
                        os.close(descriptor)
        return [self._places[blob.id] for blob in blobs]

    @property
    def is_full(self) -> bool:
        """Whether the guest should be lent no more."""
        return len(self._places) > MAX_LENT or sum(size for _, size in self._places.values()) > MAX_LENT_BYTES

    def forget(self) -> None:
        """The guest was put back to its snapshot, which has none."""
        self._places.clear()
