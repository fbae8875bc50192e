"""Asynchronous calls: kept, retried, given up, delivered, deduplicated, cancelled, scheduled; across kill -9."""

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from kasoku.sdk.errors import ServiceError
from tests.conftest import Server, eventually, start_twin
from tests.gateway.lambda_client import make_client

APPEND = """
import os, time
def handler(event, context):
    if event.get("sleep"): time.sleep(event["sleep"])
    with open(event["file"], "a") as file: file.write(event["line"] + "\\n")
    if event.get("fail"): raise ValueError(event["line"])
    return event["line"].upper()
"""


def spawn(server: Server, name: str, event: Any, query: str = "", **headers: str) -> str:
    request = urllib.request.Request(
        f"{server.url}/v1/functions/{name}:spawn{query}", json.dumps(event).encode(), headers, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 202
        return str(json.load(response)["id"])


def result(server: Server, id: str) -> dict[str, Any]:
    answer = server.gateway.json("GET", f"/v1/calls/{id}?wait=30")
    assert isinstance(answer, dict)
    return answer


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


@pytest.fixture(scope="module")
def queued(twin: Server) -> Server:
    twin.deploy("append", APPEND)
    return twin


def test_an_event_is_accepted_and_run(queued: Server, tmp_path: Path) -> None:
    client = make_client(queued.url)
    event = json.dumps({"file": str(tmp_path / "out"), "line": "once"})
    answer = client.invoke(FunctionName="append", InvocationType="Event", Payload=event)
    assert answer["StatusCode"] == 202 and answer["Payload"].read() == b""
    told = result(queued, answer["ResponseMetadata"]["RequestId"])
    assert (told["state"], told["result"], told["attempts"]) == ("done", "ONCE", 1)
    assert lines(tmp_path / "out") == ["once"]
    with pytest.raises(client.exceptions.RequestTooLargeException):
        client.invoke(FunctionName="append", InvocationType="Event", Payload=json.dumps("x" * (1 << 20)))
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke(FunctionName="absent", InvocationType="Event")


def test_a_failure_is_tried_again_and_told_to_the_destination(queued: Server, tmp_path: Path) -> None:
    client = make_client(queued.url)
    queued.deploy("sad", APPEND)
    queued.deploy(
        "sink",
        "import json\ndef handler(event, context):\n    open({!r}, 'w').write(json.dumps(event))\n".format(
            str(tmp_path / "told")
        ),
    )
    client.put_function_event_invoke_config(
        FunctionName="sad", MaximumRetryAttempts=1, DestinationConfig={"OnFailure": {"Destination": "sink"}}
    )
    id = spawn(queued, "sad", {"file": str(tmp_path / "out"), "line": "again", "fail": True})
    told = result(queued, id)
    assert (told["state"], told["attempts"], told["error"]["errorType"]) == ("failed", 2, "ValueError")
    assert lines(tmp_path / "out") == ["again", "again"]
    eventually((tmp_path / "told").exists, "the destination is told")
    eventually(lambda: (tmp_path / "told").read_text() != "", "the destination has written")
    record = json.loads((tmp_path / "told").read_text())
    assert record["requestContext"]["requestId"] == id
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 2
    assert record["requestPayload"]["line"] == "again"
    assert record["responsePayload"]["errorMessage"] == "again"


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[Any]]]:
    """An HTTP endpoint that fails once, then takes what is sent."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(json.loads(body))
            self.send_response(503 if len(received) == 1 else 204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook?x=1", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_http_destination_is_tried_until_it_takes_it(
    queued: Server, tmp_path: Path, endpoint: tuple[str, list[Any]]
) -> None:
    url, received = endpoint
    queued.deploy("happy", APPEND)
    make_client(queued.url).put_function_event_invoke_config(
        FunctionName="happy", DestinationConfig={"OnSuccess": {"Destination": url}}
    )
    spawn(queued, "happy", {"file": str(tmp_path / "out"), "line": "hook"})
    eventually(lambda: len(received) == 2, "the endpoint was called twice")
    assert received[0] == received[1]
    assert received[0]["responsePayload"] == "HOOK" and received[0]["requestContext"]["condition"] == "Success"


def test_an_idempotency_key_accepts_once(queued: Server, tmp_path: Path) -> None:
    event = {"file": str(tmp_path / "out"), "line": "key"}
    key = {"Idempotency-Key": f"order {tmp_path.name}"}
    ids = {spawn(queued, "append", event, **key) for _ in range(3)}
    assert len(ids) == 1
    assert result(queued, ids.pop())["state"] == "done"
    assert lines(tmp_path / "out") == ["key"]


def test_a_call_waits_and_can_be_cancelled(queued: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    late = spawn(queued, "append", {"file": str(out), "line": "late"}, "?delay=3600")
    assert queued.gateway.json("GET", f"/v1/calls/{late}")["state"] == "queued"
    assert queued.gateway.json("DELETE", f"/v1/calls/{late}") == {"cancelled": True}
    assert result(queued, late)["state"] == "cancelled"
    running = spawn(queued, "append", {"file": str(out), "line": "running", "sleep": 20})
    eventually(lambda: queued.gateway.json("GET", f"/v1/calls/{running}")["state"] == "running", "it runs")
    assert queued.gateway.json("DELETE", f"/v1/calls/{running}") == {"cancelled": True}
    assert queued.gateway.json("DELETE", f"/v1/calls/{running}") == {"cancelled": False}
    assert lines(out) == []
    listed = queued.gateway.json("GET", "/v1/calls?function=append&state=cancelled")
    assert {late, running} <= {call["id"] for call in listed}


def test_schedules(queued: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    body = {"function": "append", "schedule": "rate(1 second)", "payload": {"file": str(out), "line": "tick"}}
    queued.gateway.json("PUT", "/v1/schedules/ticks", body)
    eventually(lambda: len(lines(out)) >= 2, "the schedule fired twice")
    assert "ticks" in [s["name"] for s in queued.gateway.json("GET", "/v1/schedules")]
    queued.gateway.json("DELETE", "/v1/schedules/ticks")
    for change, reason in (
        ({"schedule": "61 * * * *"}, "five fields"),
        ({"schedule": "rate(0 minutes)"}, "five fields"),
        ({"timezone": "Mars/Olympus"}, "no time zone"),
        ({"function": "absent"}, "not found"),
        ({"colour": 1}, "not supported"),
    ):
        with pytest.raises(ServiceError, match=reason):
            queued.gateway.json("PUT", "/v1/schedules/bad", {**body, "schedule": "* * * * *", **change})


@pytest.mark.parametrize(
    "path", ["/v1/calls/none", "/v1/calls/none?wait=x", "/v1/calls?state=odd", "/v1/calls?limit=x"]
)
def test_bad_questions(queued: Server, path: str) -> None:
    with pytest.raises(ServiceError):
        queued.gateway.json("GET", path)


def test_what_was_accepted_survives_kill_9(twin_binaries: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    server = start_twin(tmp_path / "home", twin_binaries)
    server.deploy("append", APPEND, max_instances=2)
    ids = [spawn(server, "append", {"file": str(out), "line": f"n{n}", "sleep": 0.2}) for n in range(12)]
    later = spawn(server, "append", {"file": str(out), "line": "later"}, "?delay=1")
    eventually(lambda: len(lines(out)) >= 2, "some have run")
    server.kill()
    done_before = lines(out)
    assert len(done_before) < 12
    time.sleep(1)
    server = start_twin(tmp_path / "home", twin_binaries)
    try:
        told = [result(server, id) for id in [*ids, later]]
        assert [t["state"] for t in told] == ["done"] * 13
        assert [t["result"] for t in told] == [*(f"N{n}" for n in range(12)), "LATER"]
        assert set(lines(out)) == {*(f"n{n}" for n in range(12)), "later"}
    finally:
        server.stop()
