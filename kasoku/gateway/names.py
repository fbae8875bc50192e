"""The ways in which Lambda's clients name a function."""

import re
from functools import lru_cache

from starlette.requests import Request

from kasoku.node.errors import PlatformError
from kasoku.registry.model import LATEST
from kasoku.tenants.model import OPERATOR, qualify

_NAME = re.compile(
    r"(?:arn:[a-z-]+:lambda:[a-z0-9-]+:)?(?:\d{12}:)?(?:function:)?"
    r"(?:(?P<tenant>[a-z0-9-]{1,32})\.)?(?P<name>[A-Za-z0-9_-]{1,64})(?::(?P<qualifier>\$LATEST|[A-Za-z0-9_-]{1,128}))?"
)


@lru_cache(maxsize=1024)
def parse_name(text: str, qualifier: str | None, tenant: str) -> tuple[str, str]:
    """Whole name and qualifier from a name, a partial or a full ARN, as a caller of that tenant means them.

    Raises PlatformError (400, 403).
    """
    match = _NAME.fullmatch(text)
    if not match:
        raise PlatformError("InvalidParameterValueException", f"{text[:200]!r} is not a function's name or ARN")
    inside = match["qualifier"]
    if inside and qualifier and inside != qualifier:
        message = f"the qualifier {qualifier[:128]!r} contradicts the one in the function's name, {inside!r}"
        raise PlatformError("InvalidParameterValueException", message)
    if match["tenant"] and tenant:
        raise PlatformError("AccessDeniedException", "only the operator's keys can name what is of a tenant")
    return qualify(match["tenant"] or tenant, match["name"]), inside or qualifier or LATEST


def tenant_of(request: Request) -> str:
    """Whose key a request came with."""
    tenant: str = request.scope.get("tenant", OPERATOR)
    return tenant
