"""A trace that a caller begins goes on inside the guest and comes back as spans; collectors get them too."""

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kasoku.config import Config
from kasoku.telemetry.traces import parse
from tests.conftest import Server, eventually
from tests.gateway.test_tenants import request

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SOURCE = """
import os
import time
import kasoku

def handler(event, context):
    with kasoku.phase("load"):
        time.sleep(0.02)
    if event == "fail":
        raise ValueError("wrong")
    return [context.trace_parent, os.environ.get("TRACEPARENT")]
"""


def call(server: Server, event: Any, header: str | None) -> Any:
    headers = {"traceparent": header} if header else {}
    body = json.dumps(event).encode()
    return json.loads(request(server, "POST", "/2015-03-31/functions/traced/invocations", headers, body)[1])


def spans(server: Server, trace: str) -> dict[str, dict[str, Any]]:
    told = server.gateway.json("GET", f"/v1/traces?trace={trace}")
    return {span["name"]: span for span in told["resourceSpans"][0]["scopeSpans"][0]["spans"]}


def test_a_trace_goes_through_the_guest(server: Server) -> None:
    server.deploy("traced", SOURCE)
    inside, variable = call(server, 1, f"00-{TRACE}-{PARENT}-01")
    assert inside == variable and inside.startswith(f"00-{TRACE}-") and inside.endswith("-01")
    found = spans(server, TRACE)
    invoke, handler, load = found["invoke"], found["handler"], found["load"]
    assert invoke["parentSpanId"] == PARENT and handler["parentSpanId"] == invoke["spanId"]
    assert handler["spanId"] == inside.split("-")[2] == load["parentSpanId"]
    assert "imports" in found, "the first call was a cold one"
    order = [int(span["startTimeUnixNano"]) for span in (invoke, handler, load)]
    assert order == sorted(order) and int(load["endTimeUnixNano"]) <= int(handler["endTimeUnixNano"])
    assert int(load["endTimeUnixNano"]) - int(load["startTimeUnixNano"]) >= 15e6
    assert call(server, 1, None) == [None, None], "the variable does not outlive its invocation"
    assert call(server, 1, f"00-{TRACE}-{PARENT}-00") == [None, None], "nobody records this one"
    call(server, "fail", f"00-{'a' * 32}-{PARENT}-01")
    assert spans(server, "a" * 32)["invoke"]["status"] == {"code": 2, "message": "ValueError: wrong"}


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        f"00-{TRACE}-{PARENT}",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-0x",
    ],
)
def test_what_is_no_trace_is_ignored(header: str | None) -> None:
    assert parse(header) is None


def test_versions_to_come_are_read() -> None:
    assert parse(f"42-{TRACE}-{PARENT}-03-more") == (TRACE, PARENT, True)
    assert Config().otlp_endpoint == ""


@pytest.fixture
def collector() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    got: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append({"path": self.path, **json.loads(self.rfile.read(int(self.headers["content-length"])))})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}/otlp", got
        served.shutdown()


def test_a_collector_gets_the_spans(collector: tuple[str, list[dict[str, Any]]]) -> None:
    import asyncio

    from kasoku.telemetry.traces import Traces

    async def trace() -> None:
        traces = Traces(collector[0])
        begun = traces.begin(f"00-{TRACE}-{PARENT}-01")
        assert begun
        guest = [("far", 1e9, 1e9), ("early", -5.0, 1.0)]
        traces.end(begun, "fn", "id", {"duration_ms": 5.0, "handler_ms": 4.0}, guest, error=None, attributes={})
        await traces.close()

    asyncio.run(trace())
    eventually(lambda: bool(collector[1]), "they were posted")
    told = collector[1][0]
    assert told["path"] == "/otlp/v1/traces"
    sent = {span["name"]: span for span in told["resourceSpans"][0]["scopeSpans"][0]["spans"]}
    whole = [int(sent["invoke"][at]) for at in ("startTimeUnixNano", "endTimeUnixNano")]
    for name in ("far", "early"):
        assert int(sent[name]["endTimeUnixNano"]) <= whole[1], "no guest's span leaves its invocation"
