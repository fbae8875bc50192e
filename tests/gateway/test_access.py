"""Keys: when they are asked for, and everything that is no proof of having one."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from kasoku.gateway.sigv4 import SignatureError, Signed, verify
from kasoku.sdk.errors import ServiceError
from kasoku.sdk.remote import Gateway
from tests.conftest import Server, eventually, start_twin
from tests.gateway.lambda_client import code, make_client

PATH = "/2015-03-31/functions/a%3Ab/invocations?Qualifier=x%20y&empty="
NOW = 1_800_000_000.0


def signed(secret: str = "secret", region: str = "local", service: str = "lambda", at: float = NOW) -> Signed:
    """A request signed by botocore at a moment."""
    request = AWSRequest("POST", f"http://127.0.0.1:1{PATH}", data=b'{"a": 1}', headers={"X-Odd": " a   b "})
    signer = SigV4Auth(Credentials("KEYID", secret), service, region)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    request.context["timestamp"] = stamp
    request.headers["X-Amz-Date"] = stamp
    request.headers["Host"] = "127.0.0.1:1"
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    signer._inject_signature_to_request(request, signature)
    headers = [(name.lower().encode(), str(value).encode()) for name, value in request.headers.items()]
    path, _, query = PATH.partition("?")
    return Signed("POST", path.encode(), query.encode(), headers, b'{"a": 1}')


def authorization(request: Signed) -> str:
    return dict(request.headers)[b"authorization"].decode()


def test_what_botocore_signs_is_accepted() -> None:
    request = signed()
    assert verify(request, authorization(request), {"KEYID": "secret"}, NOW + 299, "local").key_id == "KEYID"


@pytest.mark.parametrize(
    ("request_", "now", "error"),
    [
        (signed(secret="other"), NOW, "InvalidSignatureException: .*does not match"),
        (signed(region="elsewhere"), NOW, "InvalidSignatureException: .*valid region: 'local'"),
        (signed(service="s3"), NOW, "InvalidSignatureException: .*correct service: 'lambda'"),
        (signed(), NOW + 301, "InvalidSignatureException: Signature expired"),
        (signed(), NOW - 301, "InvalidSignatureException: Signature not yet current"),
    ],
)
def test_what_is_refused(request_: Signed, now: float, error: str) -> None:
    kind, _, message = error.partition(": ")
    with pytest.raises(SignatureError, match=message) as caught:
        verify(request_, authorization(request_), {"KEYID": "secret"}, now, "local")
    assert caught.value.code == kind


@pytest.mark.parametrize("field", ["method", "raw_path", "query", "body", "headers"])
def test_a_changed_request_is_refused(field: str) -> None:
    request = signed()
    headers = [(n, b"changed" if n == b"x-odd" else v) for n, v in request.headers]
    changes: dict[str, Any] = {
        "method": "PUT",
        "raw_path": b"/2015-03-31/functions/a:c/invocations",
        "query": b"Qualifier=x%20z&empty=",
        "body": b'{"a": 2}',
        "headers": headers,
    }
    parts = {name: getattr(request, name) for name in ("method", "raw_path", "query", "headers", "body")}
    changed = Signed(**{**parts, field: changes[field]})
    with pytest.raises(SignatureError, match="does not match"):
        verify(changed, authorization(request), {"KEYID": "secret"}, NOW, "local")


@pytest.mark.parametrize(
    "text",
    [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=K/20270115/local/lambda/aws4_request, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=K/20270115/local/lambda/aws4_request, SignedHeaders=host;y, Signature=\xff",
    ],
)
def test_headers_that_make_no_sense(text: str) -> None:
    with pytest.raises(SignatureError):
        verify(signed(), text, {"KEYID": "secret"}, NOW, "local")


@pytest.fixture(scope="module")
def guarded(twin_binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one function; its tests make keys."""
    server = start_twin(tmp_path_factory.mktemp("guarded"), twin_binaries)
    server.deploy("echo", "def handler(event, context):\n    return event\n")
    yield server
    server.stop()


def make_key(server: Server) -> tuple[str, str]:
    done = kasoku_keys(server, "create", "test")
    lines = dict(line.split("=", 1) for line in done.splitlines())
    return lines["AWS_ACCESS_KEY_ID"], lines["AWS_SECRET_ACCESS_KEY"]


def kasoku_keys(server: Server, *arguments: str) -> str:
    command = [sys.executable, "-m", "kasoku.cli", "keys", *arguments, "--home", str(server.home)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def status(server: Server, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> int:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=30)
    connection.request(method, path, body, headers)
    return connection.getresponse().status


def test_keys_are_demanded_once_there_is_one(guarded: Server) -> None:
    path = "/v1/functions"
    assert status(guarded, "GET", path, {}) == 200, "the quick start needs none"
    key = make_key(guarded)
    assert status(guarded, "GET", path, {}) == 403, "keys are demanded as soon as the command has ended"
    assert status(guarded, "GET", "/v1/health", {}) == 200
    client = make_client(guarded.url, key)
    assert json.load(client.invoke(FunctionName="echo", Payload=b"[1]")["Payload"]) == [1]
    assert [f["FunctionName"] for f in client.list_functions()["Functions"]] == ["echo"]
    assert Gateway(guarded.url, key=".".join(key)).invoke("echo", 2).result == 2
    assert Gateway.find(guarded.home).invoke("echo", 3).result == 3, "this user's own commands need no key"
    for wrong in (("KASOKUAAAAAAAAAAAAAA", key[1]), (key[0], "wrong")):
        with pytest.raises(ClientError) as caught:
            make_client(guarded.url, wrong).invoke(FunctionName="echo")
        assert code(caught)[1] == 403
        with pytest.raises(ServiceError, match="no key"):
            Gateway(guarded.url, key=".".join(wrong)).invoke("echo", 1)
    everything = [
        ("POST", "/2015-03-31/functions/echo/invocations"),
        ("GET", "/2015-03-31/functions/"),
        ("DELETE", "/v1/functions/echo"),
        ("GET", "/v1/functions/echo/logs"),
        ("PUT", "/v1/secrets/A"),
        ("GET", "/no/such/route"),
    ]
    for method, path in everything:
        assert status(guarded, method, path, {}) == 403, path
    kasoku_keys(guarded, "rm", key[0])
    with pytest.raises(ServiceError, match="no key"):
        Gateway(guarded.url, key=f"{make_key(guarded)[0]}.x").invoke("echo", 1)
    assert refused(client.list_functions), "a removed key opens nothing"


def refused(call: Any) -> bool:
    try:
        call()
    except ClientError:
        return True
    return False


def test_a_replay_is_refused(guarded: Server) -> None:
    key = make_key(guarded)
    request = AWSRequest("POST", f"{guarded.url}/2015-03-31/functions/echo/invocations", data=b"7")
    SigV4Auth(Credentials(*key), "lambda", "local").add_auth(request)
    headers = dict(request.headers.items())

    def again() -> int:
        return status(guarded, "POST", "/2015-03-31/functions/echo/invocations", headers, b"7")

    assert again() == 200 and again() == 200, "a retry within moments is none"
    eventually(lambda: again() == 403, "later it is a replay")


def test_beyond_the_loopback_interface_keys_are_always_demanded(twin_binaries: Path, tmp_path: Path) -> None:
    server = start_twin(tmp_path / "home", twin_binaries, "0.0.0.0")
    try:
        assert status(server, "GET", "/v1/functions", {}) == 403
        assert status(server, "GET", "/v1/functions", {"Host": "evil.example"}) == 403
        assert Gateway.find(server.home).json("GET", "/v1/functions") == []
    finally:
        server.stop()
