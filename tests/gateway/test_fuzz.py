"""Requests that no client means: whatever comes, the answer is an error of the client's, and the next one is served."""

import http.client
import json
import socket
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Server
from tests.gateway.test_tenants import asked

EXAMPLES = 150
NAMES = ["X-Amz-Invocation-Type", "X-Amz-Log-Type", "X-Amz-Client-Context", "Idempotency-Key", "Content-Type", "Expect"]
NAMES += [
    "Authorization",
    "X-Amz-Date",
    "traceparent",
    "ce-id",
    "ce-specversion",
    "Accept",
    "Content-Encoding",
    "Cookie",
]
VALUES = ["RequestResponse", "Event", "DryRun", "Tail", "application/json", "application/cloudevents+json", "1.0"]
# What the client library itself would refuse to send never reaches the gateway.
LATIN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60)
HEADERS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES) | LATIN, max_size=5)
BODIES = st.one_of(
    st.none(),
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)
POST = b"POST /2015-03-31/functions/echo/invocations HTTP/1.1\r\nHost: localhost\r\n"
ROUTES = [route for route in asked() if "events" not in route[1]]
SEGMENT = st.sampled_from(["echo", "echo:1", "$LATEST", "arn:aws:lambda:local:000000000000:function:echo"]) | LATIN
QUERY = st.dictionaries(
    st.sampled_from(
        ["Qualifier", "qualifier", "Marker", "MaxItems", "delay", "bytes", "after", "limit", "state", "since"]
    ),
    LATIN,
    max_size=2,
)


@pytest.fixture(scope="module")
def target(twin: Server) -> Server:
    twin.deploy("echo", "def handler(event, context):\n    return event\n")
    return twin


def test_odd_requests(target: Server) -> None:
    parts = urlsplit(target.url)

    @settings(max_examples=EXAMPLES)
    @given(st.sampled_from(ROUTES), SEGMENT, QUERY, HEADERS, BODIES)
    def ask(
        route: tuple[str, str], segment: str, query: dict[str, str], headers: dict[str, str], body: bytes | None
    ) -> None:
        method, path = route
        for name in ("name", "alias", "id"):
            path = path.replace(f"{{{name}}}", quote(segment, safe="$:"))
        path += "?" + "&".join(f"{key}={quote(value)}" for key, value in query.items()) if query else ""
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=30)
        try:
            connection.request(method, path, body, {k: v.strip().encode("latin-1") for k, v in headers.items()})
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
        assert answer.status < 500, (method, path, headers, body)

    ask()
    target.deploy("echo", "def handler(event, context):\n    return event\n")
    assert target.call("echo", 7).result == 7


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 100,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20000,
        b"GET /" + b"a" * 200000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v1/functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http(target: Server, data: bytes) -> None:
    parts = urlsplit(target.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            told = connection.recv(65536)
        except ConnectionError:
            told = b""
    assert not told or told.startswith((b"HTTP/1.1 4", b"HTTP/1.1 2"))
    assert target.call("echo", 7).result == 7
