"""The one exception of `kasoku.images`."""

from __future__ import annotations

from kasoku.sdk.errors import KasokuError


class ImageError(KasokuError):
    """Something about an image is wrong; the text says what, and what to do, to whoever asked for the image."""
