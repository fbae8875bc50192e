"""AWS Signature Version 4, the checking side: pure, with the time and the keys passed in.

The canonical request is made again from what arrived, and signed with the secret that belongs to the key's id. Lambda's
clients sign the body's digest, so the body must be complete first.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "lambda"
MAX_SKEW_SECONDS = 300
_CREDENTIAL = re.compile(
    r"(?P<id>[A-Za-z0-9]{1,128})/(?P<date>\d{8})/(?P<region>[a-z0-9-]{1,64})/(?P<service>[a-z0-9-]+)/aws4_request"
)
_PART = re.compile(r"(Credential|SignedHeaders|Signature)=([^,\s]+)")
_UNRESERVED = "-_.~"


class SignatureError(Exception):
    """The signature is refused; `code` is AWS's name for why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Signed:
    """A request as it arrived."""

    method: str
    raw_path: bytes
    """Still percent-encoded."""
    query: bytes
    headers: Iterable[tuple[bytes, bytes]]
    """Names in lower case."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Verified:
    """A good signature, and by whose key."""

    key_id: str
    signature: str


def verify(request: Signed, authorization: str, secrets: Mapping[str, str], now: float, region: str | None) -> Verified:
    """Who signed it. Raises SignatureError. `region` None: any, as the client is configured."""
    parts = dict(_PART.findall(authorization.removeprefix(ALGORITHM)))
    missing = {"Credential", "SignedHeaders", "Signature"} - parts.keys()
    if missing:
        raise SignatureError(
            "IncompleteSignatureException", f"Authorization header requires {', '.join(sorted(missing))}"
        )
    scope = _CREDENTIAL.fullmatch(parts["Credential"])
    if not scope:
        raise SignatureError("IncompleteSignatureException", "Credential must be ID/DATE/REGION/SERVICE/aws4_request")
    if scope["service"] != SERVICE:
        raise SignatureError(
            "InvalidSignatureException", f"Credential should be scoped to correct service: '{SERVICE}'"
        )
    if region is not None and scope["region"] != region:
        raise SignatureError("InvalidSignatureException", f"Credential should be scoped to a valid region: '{region}'")
    headers = _joined(request.headers)
    stamp = headers.get("x-amz-date", "")
    _check_time(stamp, scope["date"], now)
    names = parts["SignedHeaders"].split(";")
    if "host" not in names or "x-amz-date" not in names:
        raise SignatureError("IncompleteSignatureException", "the headers Host and X-Amz-Date must be signed")
    secret = secrets.get(scope["id"])
    canonical = _canonical(request, names, headers)
    string = "\n".join(
        [ALGORITHM, stamp, parts["Credential"].partition("/")[2], hashlib.sha256(canonical.encode()).hexdigest()]
    )
    key = _signing_key(secret or "", scope["date"], scope["region"])
    expected = hmac.new(key, string.encode(), hashlib.sha256).hexdigest()
    # Compared for an unknown key too: how long it takes does not tell which ids there are.
    good = hmac.compare_digest(expected.encode(), parts["Signature"].encode("utf-8", "replace"))
    if secret is None:
        raise SignatureError("UnrecognizedClientException", "The security token included in the request is invalid.")
    if not good:
        raise SignatureError(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your secret key.",
        )
    return Verified(scope["id"], parts["Signature"])


def _check_time(stamp: str, date: str, now: float) -> None:
    try:
        signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise SignatureError(
            "IncompleteSignatureException", "X-Amz-Date must be of the form 20260131T235959Z"
        ) from None
    if not stamp.startswith(date):
        raise SignatureError("InvalidSignatureException", "Date in Credential scope does not match X-Amz-Date")
    if abs(now - signed_at) > MAX_SKEW_SECONDS:
        here = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        side = "expired" if signed_at < now else "not yet current"
        raise SignatureError(
            "InvalidSignatureException", f"Signature {side}: {stamp} is more than {MAX_SKEW_SECONDS} s from {here}"
        )


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw, value in headers:
        name, text = raw.decode("latin-1"), " ".join(value.decode("latin-1").split())
        found[name] = f"{found[name]},{text}" if name in found else text
    return found


def _canonical(request: Signed, names: list[str], headers: Mapping[str, str]) -> str:
    lines = [f"{name}:{headers[name]}\n" for name in names if name in headers]
    if len(lines) != len(names):
        raise SignatureError("InvalidSignatureException", "a header that was signed did not arrive")
    return "\n".join(
        [
            request.method,
            # Every service but S3 encodes the path once more.
            quote(request.raw_path, safe="/" + _UNRESERVED) or "/",
            _canonical_query(request.query),
            "".join(lines),
            ";".join(names),
            hashlib.sha256(request.body).hexdigest(),
        ]
    )


def _canonical_query(query: bytes) -> str:
    if not query:
        return ""
    pairs: list[tuple[str, str]] = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        pairs.append((_encode(name), _encode(value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _encode(text: bytes) -> str:
    return quote(unquote_to_bytes(text.replace(b"+", b" ")), safe=_UNRESERVED)


@lru_cache(maxsize=256)
def _signing_key(secret: str, date: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, SERVICE, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
