"""The one exception of `kasoku.images`."""

from __future__ import annotations


class ImageError(Exception):
    """Something about an image is wrong; the text says what, and what to do, to whoever asked for the image."""
