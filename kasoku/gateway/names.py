"""The ways in which Lambda's clients name a function."""

import re
from functools import lru_cache

from kasoku.node.errors import PlatformError
from kasoku.registry.model import LATEST

_NAME = re.compile(
    r"(?:arn:[a-z-]+:lambda:[a-z0-9-]+:)?(?:\d{12}:)?(?:function:)?"
    r"(?P<name>[A-Za-z0-9_-]{1,64})(?::(?P<qualifier>\$LATEST|[A-Za-z0-9_-]{1,128}))?"
)


@lru_cache(maxsize=1024)
def parse_name(text: str, qualifier: str | None) -> tuple[str, str]:
    """Name and qualifier from a name, a partial or a full ARN. Raises PlatformError (400)."""
    match = _NAME.fullmatch(text)
    if not match:
        raise PlatformError("InvalidParameterValueException", f"{text[:200]!r} is not a function's name or ARN")
    inside = match["qualifier"]
    if inside and qualifier and inside != qualifier:
        message = f"the qualifier {qualifier[:128]!r} contradicts the one in the function's name, {inside!r}"
        raise PlatformError("InvalidParameterValueException", message)
    return match["name"], inside or qualifier or LATEST
