"""Native routes: deployment, listings, logs, and who may talk to the gateway."""

import http.client
import io
import json
import socket
import time
import zipfile
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kasoku.sdk.errors import FunctionError, ServiceError
from tests.conftest import Server, deployment, start_twin

ECHO = "def handler(event, context):\n    return event\n"


def zipped(fill: Callable[[zipfile.ZipFile], None]) -> str:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        fill(archive)
    return b64encode(buffer.getvalue()).decode()


def link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    archive.writestr(info, "/etc/passwd")


def twice(archive: zipfile.ZipFile) -> None:
    for _ in range(2):
        archive.writestr("a", "b")


def raw(
    twin: Server, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    parts = urlsplit(twin.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=30)
    headers = dict(headers or {})
    connection.putrequest(method, path, skip_host="Host" in headers)
    if body is not None:
        headers["Content-Length"] = str(len(body))
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    return response.status, response.read()


def test_deploy_list_invoke_logs_remove(twin: Server) -> None:
    deployed = twin.deploy("life", "def handler(event, context):\n    print('hey')\n    return event\n", memory=128)
    assert twin.call("life", [1]).result == [1]
    listed = twin.gateway.json("GET", "/v1/functions")
    assert deployed["version"] in [f["version"] for f in listed]
    assert [i["function"] for i in twin.instances() if i["function"] == "life"] == ["life"]
    assert b"\nhey\n" in twin.gateway.request("GET", "/v1/functions/life/logs")[2]
    assert twin.gateway.request("DELETE", "/v1/functions/life")[0] == 204
    with pytest.raises(ServiceError, match="Function not found: life") as caught:
        twin.call("life")
    assert caught.value.status == 404
    assert not (twin.home / "logs" / "life.log").exists()


def test_equal_content_has_an_equal_version_and_a_change_replaces_instances(twin: Server) -> None:
    first = twin.deploy("change", "def handler(event, context):\n    return 1\n")
    assert twin.call("change").result == 1
    assert twin.deploy("change", "def handler(event, context):\n    return 1\n")["version"] == first["version"]
    assert not twin.call("change").detail["cold"], "an unchanged deployment keeps its instances"
    second = twin.deploy("change", "def handler(event, context):\n    return 2\n")
    assert second["version"] != first["version"]
    assert twin.call("change").result == 2


def test_the_envelope_tells_where_and_how_long(twin: Server) -> None:
    twin.deploy("where", ECHO, accelerator="opencl:gpu")
    detail = twin.call("where", {"a": 1}).detail
    assert detail["cold"] and detail["accelerator"] == "opencl:twin:0"
    assert {"wait", "lease", "broker", "vm", "interpreter", "imports", "handler", "duration"} <= detail[
        "timings_ms"
    ].keys()
    assert detail["instance"]["vmm_pid"] in twin.children()
    assert detail["instance"]["broker_pid"] in twin.children()
    devices = {d["id"]: d["held_by"] for d in twin.gateway.json("GET", "/v1/devices")["devices"]}
    assert devices["twin:0"] == detail["instance"]["id"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"handler": "nodot"}, "module.function"),
        ({"handler": 3}, "module.function"),
        ({"options": {"memory": 1}}, "between 64"),
        ({"options": {"colour": 1}}, "unknown"),
        ({"options": []}, "must be an object"),
        ({"options": {"accelerator": "opencl:fpga"}}, "there is: opencl:intel:0, opencl:twin:0"),
        ({"options": {"image": "missing"}}, "no image"),
        ({"code": {}}, "BASE64"),
        ({"code": {"zip": "%"}}, "not base64"),
        ({"code": {"zip": b64encode(b"PK").decode()}}, "not a usable zip"),
        ({"code": {"zip": zipped(lambda z: z.writestr("../../escape", "x"))}}, "not a relative path"),
        ({"code": {"zip": zipped(lambda z: z.writestr("/etc/x", "x"))}}, "not a relative path"),
        ({"code": {"zip": zipped(lambda z: z.writestr("a/.wh.b", "x"))}}, "no file may be called"),
        ({"code": {"zip": zipped(link)}}, "not a plain file"),
        ({"code": {"zip": zipped(lambda z: z.writestr("bomb", bytes(300 << 20)))}}, "unpacks to more than"),
        ({"unknown": 1}, "keys handler, code and options"),
    ],
)
def test_bad_deployments(twin: Server, change: dict[str, Any], reason: str) -> None:
    body = {**deployment({"function.py": ECHO}, "function.handler"), **change}
    with pytest.raises(ServiceError, match=reason) as caught:
        twin.gateway.json("PUT", "/v1/functions/bad", body)
    assert caught.value.status == 400
    assert "bad" not in [f["name"] for f in twin.gateway.json("GET", "/v1/functions")]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_a_name_twice(twin: Server) -> None:
    with pytest.raises(ServiceError, match="twice"):
        twin.gateway.json("PUT", "/v1/functions/bad", {"handler": "a.b", "code": {"zip": zipped(twice)}})


@pytest.mark.parametrize("body", [b"{", b"[]", b"1", b"[" * 100000])
def test_a_deployment_that_is_no_object(twin: Server, body: bytes) -> None:
    assert raw(twin, "PUT", "/v1/functions/bad", body)[0] == 400


@pytest.mark.parametrize("name", ["a%20b", "a%2Fb", "x" * 65])
def test_bad_names(twin: Server, name: str) -> None:
    status, _ = raw(twin, "PUT", f"/v1/functions/{name}", json.dumps(deployment({}, "a.b")).encode())
    assert status in (400, 404)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:80"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "[bad"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
    ],
)
def test_host_and_origin(twin: Server, headers: dict[str, str], status: int) -> None:
    assert raw(twin, "GET", "/v1/health", headers=headers)[0] == status


def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(twin: Server) -> None:
    assert raw(twin, "GET", "/v1/functions")[0] == 200
    parts = urlsplit(twin.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=30)
    connection.putrequest("POST", "/v1/functions/x:invoke")
    connection.putheader("Content-Length", str(10 << 30))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_the_function_error_of_the_native_route(twin: Server) -> None:
    twin.deploy("raise", "def handler(event, context):\n    print('before')\n    raise ValueError('no')\n")
    with pytest.raises(FunctionError, match="ValueError: no") as caught:
        twin.call("raise")
    assert "function.py" in caught.value.stack_trace[-1]
    assert "before" in caught.value.detail["log"]


def test_a_machine_without_accelerators_serves_other_functions(twin_binaries: Path, tmp_path: Path) -> None:
    native = tmp_path / "native"
    native.mkdir()
    for name in ("kasoku-vmm", "runtime.erofs"):
        (native / name).symlink_to(twin_binaries / name)
    server = start_twin(tmp_path / "home", native)
    try:
        with pytest.raises(ServiceError, match=r"no accelerator at all\. kasoku-broker is not installed") as caught:
            server.deploy("f", ECHO, accelerator="opencl")
        assert caught.value.status == 400
        server.deploy("f", ECHO)
        assert server.call("f", 1).result == 1
        assert "not installed" in server.gateway.json("GET", "/v1/devices")["error"]
    finally:
        server.stop()


def test_functions_are_there_after_a_restart(twin_binaries: Path, tmp_path: Path) -> None:
    first = start_twin(tmp_path / "home", twin_binaries)
    first.deploy("kept", ECHO)
    first.kill()
    second = start_twin(tmp_path / "home", twin_binaries)
    try:
        assert second.call("kept", [2]).result == [2]
    finally:
        second.stop()


def test_a_request_that_comes_too_slowly_is_cut_off(twin: Server) -> None:
    parts = urlsplit(twin.url)
    with (
        socket.create_connection((parts.hostname, parts.port), timeout=60) as silent,
        socket.create_connection((parts.hostname, parts.port), timeout=60) as slow,
    ):
        slow.sendall(b"GET /v1/health HTTP/1.1\r\nHost:")
        assert raw(twin, "GET", "/v1/health")[0] == 200, "others are served meanwhile"
        assert slow.recv(1) == silent.recv(1) == b""


def test_requests_that_are_sent_ahead_are_answered_in_order(twin: Server) -> None:
    twin.deploy("order", "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event\n")
    parts = urlsplit(twin.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
        for body in (b"0.2", b"0.1", b"0"):
            head = "POST /2015-03-31/functions/order/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
            connection.sendall(f"{head}{len(body)}\r\n\r\n".encode() + body)
        connection.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answers.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [b"0.2", b"0.1", b"0", b'{"status":"ok"}']


def test_a_head_that_is_known_means_the_same_again(twin: Server) -> None:
    twin.deploy("again", "def handler(event, context):\n    return event\n")
    parts = urlsplit(twin.url)
    head = (
        f"POST /2015-03-31/functions/again/invocations HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: %d\r\n%s\r\n"
    )

    def whole(body: bytes, more: str = "") -> bytes:
        return (head % (len(body), more)).encode() + body

    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        answers = connection.makefile("rb")

        def ask(data: bytes) -> tuple[int, bytes]:
            connection.sendall(data)
            return answer()

        def answer() -> tuple[int, bytes]:
            status = int(answers.readline().split()[1])
            length = 0
            while (line := answers.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            return status, answers.read(length)

        for number in range(3):
            assert ask(whole(b"%d" % number)) == (200, b"%d" % number)
        for size in (1, 40):  # in pieces, then as a whole
            data = whole(b'"x"')
            connection.sendall(data[:-size])
            time.sleep(0.05)
            assert ask(data[-size:]) == (200, b'"x"')
        assert ask(whole(b"nope"))[0] == 400, "the body is looked at each time"
        connection.sendall(whole(b"7") * 3 + whole(b"8"))
        assert [answer() for _ in range(4)] == [(200, b"7")] * 3 + [(200, b"8")], "pipelined"
        inner = whole(b"5")
        assert ask(whole(b'"%s"' % inner.hex().encode()))[0] == 200
        assert ask(whole(b"3", "Connection: close\r\n")) == (200, b"3")
        assert connection.recv(1) == b""
