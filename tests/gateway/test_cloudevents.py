"""CloudEvents over HTTP: the three modes, what comes twice, and what is no event."""

import base64
import json
from typing import Any

import pytest

from tests.conftest import Server
from tests.gateway.test_tenants import request

HEADERS = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/test%20bench", "ce-type": "test.made"}


@pytest.fixture(scope="module")
def target(twin: Server) -> Server:
    twin.deploy("take", "def handler(event, context):\n    return event\n")
    return twin


def send(server: Server, headers: dict[str, str], body: Any) -> tuple[int, dict[str, Any]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    code, text = request(server, "POST", "/v1/functions/take:event", headers, data)
    return code, json.loads(text)


def taken(server: Server, id: str) -> dict[str, Any]:
    found: dict[str, Any] = server.gateway.json("GET", f"/v1/calls/{id}?wait=60")["result"]
    return found


def test_binary_mode(target: Server) -> None:
    code, told = send(target, {**HEADERS, "content-type": "application/json"}, {"n": 1})
    assert code == 202
    common = {"specversion": "1.0", "id": "1", "source": "/test bench", "type": "test.made"}
    assert taken(target, told["ids"][0]) == {**common, "datacontenttype": "application/json", "data": {"n": 1}}
    assert send(target, {**HEADERS, "content-type": "application/json"}, {"n": 2})[1] == told, "the same event"
    raw = {**HEADERS, "ce-id": "2", "ce-trace": "x", "content-type": "application/octet-stream"}
    event = taken(target, send(target, raw, b"\xff\0")[1]["ids"][0])
    assert base64.b64decode(event["data_base64"]) == b"\xff\0" and event["trace"] == "x"
    text = {**HEADERS, "ce-id": "3", "content-type": "text/plain; charset=utf-8"}
    assert taken(target, send(target, text, "grün".encode())[1]["ids"][0])["data"] == "grün"


def test_structured_and_batched_mode(target: Server) -> None:
    events = [{"specversion": "1.0", "id": f"s{n}", "source": "a", "type": "t", "data": n} for n in range(3)]
    code, told = send(target, {"content-type": "application/cloudevents+json; charset=utf-8"}, events[0])
    assert code == 202 and taken(target, told["ids"][0]) == events[0]
    code, batch = send(target, {"content-type": "application/cloudevents-batch+json"}, events)
    assert code == 202 and batch["ids"][0] == told["ids"][0]
    assert [taken(target, id)["data"] for id in batch["ids"]] == [0, 1, 2]


GOOD = {"specversion": "1.0", "id": "x", "source": "a", "type": "t"}


@pytest.mark.parametrize(
    "event",
    [
        7,
        {},
        {**GOOD, "specversion": "0.3"},
        {**GOOD, "id": ""},
        {**GOOD, "type": 7},
        {**GOOD, "Upper": "x"},
        {**GOOD, "nested": {}},
        {**GOOD, "data": 1, "data_base64": "AA=="},
        {**GOOD, "data_base64": "*"},
    ],
)
def test_what_is_no_event(target: Server, event: Any) -> None:
    before = len(target.gateway.json("GET", "/v1/calls"))
    assert send(target, {"content-type": "application/cloudevents+json"}, event)[0] == 400
    batch = [GOOD, event]
    assert send(target, {"content-type": "application/cloudevents-batch+json"}, batch)[0] == 400
    assert len(target.gateway.json("GET", "/v1/calls")) == before, "a batch is accepted as a whole"


def test_requests_that_carry_none(target: Server) -> None:
    assert send(target, {"content-type": "application/json"}, {})[0] == 400
    assert send(target, {**HEADERS, "content-type": "application/json"}, b"{")[0] == 400
    assert send(target, {**HEADERS, "content-type": "text/plain"}, b"\xff")[0] == 400
    assert send(target, {"content-type": "application/cloudevents-batch+json"}, [])[0] == 400
    assert request(target, "POST", "/v1/functions/none:event", HEADERS, b"")[0] == 404
