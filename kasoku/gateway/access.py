"""Whether a request may come in: keys, and when they are asked for.

Keys are asked for as soon as one exists, and always where the gateway listens beyond the loopback interface. A client
signs with its key (SigV4, what boto3 and the AWS CLI do) or sends it as a bearer token, `ID.SECRET`. The command line
of the same user on the same machine has a token of this run, from a file that only that user can read.
"""

import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable

from starlette.types import Scope

from kasoku.gateway.sigv4 import ALGORITHM, MAX_SKEW_SECONDS, SignatureError, Signed, verify
from kasoku.node.errors import PlatformError
from kasoku.tenants.model import OPERATOR

LOOK_SECONDS = 0.005
"""So soon a key that was made or removed counts: before the command that did it has ended (Python takes longer)."""
REPEAT_SECONDS = 5.0
"""A signature may come again for so long: equal requests of one second have equal signatures, and retries repeat them.
Later it is a replay."""
MAX_REMEMBERED = 1_000_000


class Access:
    """See the module.

    `load` reads secret and tenant of the keys by id; `edition` is a number that changes when they may have; `admit`
    raises PlatformError (429) for a tenant that sends too much.
    """

    def __init__(
        self,
        load: Callable[[], dict[str, tuple[str, str]]],
        edition: Callable[[], int],
        *,
        admit: Callable[[str], None],
        always: bool,
        region: str | None = None,
    ) -> None:
        self._load = load
        self._admit = admit
        self._edition = edition
        self._always = always
        self._region = region
        self._secrets: dict[str, str] = {}
        self._tenants: dict[str, str] = {}
        self._loaded: int | None = None
        self._looked_at = float("-inf")
        self._seen = _Seen()
        self.local_token = secrets.token_urlsafe(32)

    @property
    def demanded(self) -> bool:
        """Whether requests must prove who sends them."""
        now = time.monotonic()
        if now - self._looked_at > LOOK_SECONDS:
            self._looked_at = now
            # Asked before the keys are read: what changes meanwhile is seen the next time.
            if (edition := self._edition()) != self._loaded:
                keys, self._loaded = self._load(), edition
                self._secrets = {id: secret for id, (secret, _) in keys.items()}
                self._tenants = {id: tenant for id, (_, tenant) in keys.items()}
        return self._always or bool(self._secrets)

    def needs_body(self, scope: Scope) -> bool:
        """Whether `check` wants the request's body: signatures cover it."""
        return _authorization(scope).startswith(ALGORITHM)

    def check(self, scope: Scope, body: bytes) -> str:
        """The tenant of the key that the request proves to have. Raises PlatformError (400, 403, 429)."""
        tenant = self._identify(scope, body)
        self._admit(tenant)
        return tenant

    def _identify(self, scope: Scope, body: bytes) -> str:
        text = _authorization(scope)
        if text.startswith("Bearer "):
            return self._bearer(text[7:].strip())
        if not text.startswith(ALGORITHM):
            how = (
                "sign it with a key (SigV4), or send `Authorization: Bearer ID.SECRET`; `kasoku keys create` makes one"
            )
            raise PlatformError("MissingAuthenticationTokenException", f"this request needs a key: {how}")
        request = Signed(scope["method"], scope.get("raw_path") or b"/", scope["query_string"], scope["headers"], body)
        now = time.time()
        try:
            verified = verify(request, text, self._secrets, now, self._region)
        except SignatureError as error:
            raise PlatformError(error.code, str(error)) from None
        if not self._seen.add(verified.signature, now):
            message = "Signature was used before: this request is a replay"
            raise PlatformError("InvalidSignatureException", message)
        return self._tenants[verified.key_id]

    def _bearer(self, token: str) -> str:
        if hmac.compare_digest(token.encode(), self.local_token.encode()):
            return OPERATOR
        id, _, secret = token.partition(".")
        known = self._secrets.get(id)
        if not hmac.compare_digest(secret.encode(), (known or "").encode()) or not known:
            raise PlatformError("UnrecognizedClientException", "the bearer token is no key of this gateway")
        return self._tenants[id]


def _authorization(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            text: str = value.decode("latin-1")
            return text
    return ""


class _Seen:
    """Signatures until they are too old to be accepted anyway."""

    def __init__(self) -> None:
        self._first: dict[str, float] = {}
        self._order: deque[tuple[float, str]] = deque()

    def add(self, signature: str, now: float) -> bool:
        """Whether it may be accepted: it is new, or came moments ago."""
        while self._order and self._order[0][0] < now:
            self._first.pop(self._order.popleft()[1], None)
        if (first := self._first.get(signature)) is not None:
            return now - first <= REPEAT_SECONDS
        if len(self._first) >= MAX_REMEMBERED:
            raise PlatformError("TooManyRequestsException", "too many signatures are being remembered; try again later")
        self._first[signature] = now
        # Until the end of the latest moment at which it could be accepted, whichever clock is ahead.
        self._order.append((now + 2 * MAX_SKEW_SECONDS, signature))
        return True
