"""Devices for the making of snapshots: lent while nobody else wants them, and taken back as soon as somebody does."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from kasoku.leases.model import Lease
from kasoku.registry.model import FunctionVersion


class Recalled(Exception):
    """The device is wanted elsewhere: what was done with it is given up."""


Lender = Callable[[FunctionVersion], AbstractAsyncContextManager[Lease]]
"""Enters with a device for the function. When it is wanted back the body is cancelled, and Recalled raised."""
