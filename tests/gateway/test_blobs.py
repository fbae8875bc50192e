"""Data beyond a payload: sent once, mapped into guests, and back."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kasoku.sdk.blob import Blob
from kasoku.sdk.errors import FunctionError, ServiceError
from kasoku.sdk.remote import BLOBS_HEADER
from tests.conftest import Server, share_layers, start_real

MIB = 1 << 20
SOURCE = """
import os, sys
import kasoku

def handler(event, context):
    match event["do"]:
        case "sum":
            array = event["array"]
            try:
                array[0] = 1
                return "it could be written"
            except ValueError:
                return {"sum": int(array.sum()), "shape": list(array.shape), "lent": len(context.blobs)}
        case "negate":
            return {"array": -event["array"], "n": 1}
        case "make":
            import numpy
            return numpy.full(event["n"], 7, "u1")
        case "bytes":
            blob = event["blob"]
            return {"blob": kasoku.Blob(bytes(blob)[::-1])} if event["back"] else len(blob)
        case "context":
            return [bytes(blob[:3]).decode() for blob in context.blobs]
        case "too many":
            return [kasoku.Blob(b"%d" % n) for n in range(65)]
"""
OPTIONS: dict[str, Any] = {"requirements": ["numpy"], "memory": 384}


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Real virtual machines, restored from snapshots."""
    server = start_real(tmp_path_factory.mktemp("home") / "home", snapshots=True)
    server.deploy("fn", SOURCE, **OPTIONS)
    yield server
    server.stop()


def blobs(server: Server) -> dict[str, int]:
    return {one["id"]: one["bytes"] for one in server.gateway.json("GET", "/v1/blobs")}


def test_arrays_beyond_a_payload_are_mapped(guests: Server) -> None:
    array = np.arange(3 * MIB, dtype="<i8").reshape(3, -1)
    told = guests.call("fn", {"do": "sum", "array": array}).result
    assert told == {"sum": int(array.sum()), "shape": [3, MIB], "lent": 1}
    id = hashlib.sha256(array.tobytes()).hexdigest()
    assert blobs(guests)[id] == array.nbytes
    before = guests.descriptors()
    for other in (array, array + 1, array):
        assert guests.call("fn", {"do": "sum", "array": other}).result["sum"] == int(other.sum())
    assert guests.descriptors() <= before, "the agent keeps no file of a blob open"


def test_results_beyond_a_payload(guests: Server) -> None:
    array = np.arange(2 * MIB, dtype="<i8")
    back = guests.call("fn", {"do": "negate", "array": array}).result
    assert back["n"] == 1 and np.array_equal(back["array"], -array)
    made = guests.call("fn", {"do": "make", "n": 9 * MIB + 1}).result
    assert made.shape == (9 * MIB + 1,) and (made == 7).all()
    data = np.random.default_rng(1).bytes(7 * MIB)
    assert guests.call("fn", {"do": "bytes", "blob": Blob(data), "back": False}).result == len(data)
    assert bytes(guests.call("fn", {"do": "bytes", "blob": Blob(data), "back": True}).result["blob"]) == data[::-1]
    with pytest.raises((ServiceError, FunctionError), match="more than 64"):
        guests.call("fn", {"do": "too many"})
    assert guests.call("fn", {"do": "make", "n": 3}).result.tolist() == [7, 7, 7]


def test_a_plain_client_names_blobs_in_a_header(guests: Server) -> None:
    ids = [guests.gateway.send_blob(data) for data in (b"one", b"two" * MIB)]
    headers = {BLOBS_HEADER: ", ".join(ids)}
    body = json.dumps({"do": "context"}).encode()
    status, _, answer = guests.gateway.request("POST", "/v1/functions/fn:invoke", body, headers=headers)
    assert (status, json.loads(answer)["result"]) == (200, ["one", "two"])


def test_a_guest_that_is_put_back_has_them_no_more(guests: Server) -> None:
    guests.deploy("clean", SOURCE, isolation="invocation", **OPTIONS)
    for n in range(3):
        array = np.full(MIB, n, "<i8")
        told = guests.call("clean", {"do": "sum", "array": array}).result
        assert told["sum"] == n * MIB


def test_sent_wrong(twin: Server) -> None:
    send = twin.gateway.request
    id = hashlib.sha256(b"data").hexdigest()

    def refused(method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
        status, told, _ = send(method, path, body, headers={k.replace("_", "-"): v for k, v in headers.items()})
        return status, told.get("x-amzn-errortype", "")

    assert refused("PUT", f"/v1/blobs/{id}", b"other") == (400, "InvalidParameterValueException")
    assert refused("PUT", f"/v1/blobs/{id}", b"") == (400, "InvalidParameterValueException")
    assert refused("PUT", "/v1/blobs/name", b"data") == (400, "InvalidParameterValueException")
    for method in ("GET", "DELETE"):
        assert refused(method, f"/v1/blobs/{id}") == (404, "ResourceNotFoundException")
        assert refused(method, "/v1/blobs/..%2fstate.db") in [
            (400, "InvalidParameterValueException"),
            (404, ""),
        ]
    twin.deploy("plain", "def handler(event, context):\n    return event\n")
    invoke = "/v1/functions/plain:invoke"
    assert refused("POST", invoke, b"1", x_kasoku_blobs=id) == (404, "ResourceNotFoundException")
    assert refused("POST", invoke, b"1", x_kasoku_blobs="x") == (400, "InvalidParameterValueException")
    many = ",".join([id] * 65)
    assert refused("POST", invoke, b"1", x_kasoku_blobs=many) == (400, "InvalidParameterValueException")
    assert blobs(twin) == {}


def test_sent_once_fetched_and_forgotten(twin: Server) -> None:
    data = np.random.default_rng(2).bytes(3 * MIB + 17)
    id = twin.gateway.send_blob(data)
    sent = twin.home / "blobs" / "_" / id
    first = sent.stat().st_mtime_ns
    assert twin.gateway.send_blob(memoryview(data)) == id and sent.stat().st_mtime_ns == first
    assert twin.gateway.get_blob(id) == data and blobs(twin) == {id: len(data)}
    assert twin.gateway.request("DELETE", f"/v1/blobs/{id}")[0] == 204
    assert blobs(twin) == {} and not sent.exists()


def test_more_than_may_be_kept(tmp_path: Path) -> None:
    home = share_layers(tmp_path / "home")
    (home / "config.toml").write_text("blob_mib = 1\n")
    server = start_real(home)
    try:
        with pytest.raises(ServiceError) as refused:
            server.gateway.send_blob(bytes(2 * MIB))
        assert (refused.value.code, refused.value.status) == ("RequestTooLargeException", 413)
        server.gateway.send_blob(bytes(MIB // 2))
        with pytest.raises(ServiceError) as refused:
            server.gateway.send_blob(bytes(MIB - 1))
        assert (refused.value.code, refused.value.status) == ("TooManyRequestsException", 429)
    finally:
        server.stop()
