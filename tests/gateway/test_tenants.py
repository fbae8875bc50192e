"""Two tenants and an operator: what is whose, whatever is asked, and how much each may have."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from kasoku.gateway.app import all_routes
from kasoku.gateway.platform import Platform
from kasoku.sdk.errors import ServiceError
from kasoku.sdk.remote import Gateway
from tests.conftest import Server, deployment, eventually, start_twin
from tests.gateway.lambda_client import make_client
from tests.gateway.test_access import status

MARK = "of-alice-alone"
SOURCE = f"""
import os
def handler(event, context):
    print("{MARK}")
    return {{"secret": os.environ["TOKEN"], "name": context.function_name, "mark": "{MARK}"}}
"""
PLAIN = "import time\ndef handler(event, context):\n    time.sleep(event or 0)\n    return context.function_name\n"


def command(server: Server, *arguments: str) -> str:
    line = [sys.executable, "-m", "kasoku.cli", *arguments, "--home", str(server.home)]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout


def make_tenant(server: Server, name: str, *limits: str) -> tuple[str, str]:
    """A tenant and a key of it, as id and secret."""
    command(server, "tenants", "set", name, *limits)
    told = dict(line.split("=", 1) for line in command(server, "keys", "create", "test", "--tenant", name).splitlines())
    return told["AWS_ACCESS_KEY_ID"], told["AWS_SECRET_ACCESS_KEY"]


def of(server: Server, key: tuple[str, str]) -> Gateway:
    return Gateway(server.url, key=".".join(key), timeout=60)


@pytest.fixture(scope="module")
def shared(twin_binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start_twin(tmp_path_factory.mktemp("shared"), twin_binaries)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def alice(shared: Server) -> tuple[str, str]:
    """A tenant with one of everything that there can be."""
    key = make_tenant(shared, "alice")
    own = of(shared, key)
    own.json("PUT", "/v1/secrets/TOKEN", {"value": MARK})
    own.json("PUT", "/v1/functions/fn", deployment({"function.py": SOURCE}, "function.handler", secrets=["TOKEN"]))
    own.json("POST", "/v1/functions/fn/versions", {"description": MARK})
    own.json("PUT", "/v1/functions/fn/aliases/live", {"version": "1", "description": MARK})
    own.json("PUT", "/v1/schedules/later", {"function": "fn", "schedule": "0 0 1 1 *", "payload": MARK})
    client = make_client(shared.url, key)
    client.put_function_concurrency(FunctionName="fn", ReservedConcurrentExecutions=7)
    client.put_function_event_invoke_config(FunctionName="fn", MaximumRetryAttempts=1)
    return key


def everything(gateway: Gateway) -> dict[str, Any]:
    """What a tenant sees of its own."""
    paths = ("/v1/functions", "/v1/secrets", "/v1/schedules", "/v1/calls")
    return {path: gateway.json("GET", path) for path in paths}


def asked() -> list[tuple[str, str]]:
    """Every method and path of the gateway."""
    found = [("POST", "/2015-03-31/functions/{name}/invocations")]
    for route in all_routes(cast(Platform, None)):
        found += [(method, route.path) for method in sorted((route.methods or {"GET"}) - {"HEAD"})]
    return found


def test_each_has_names_of_its_own(shared: Server, alice: tuple[str, str]) -> None:
    bob = of(shared, make_tenant(shared, "bob"))
    bob.json("PUT", "/v1/functions/fn", deployment({"function.py": PLAIN}, "function.handler"))
    own = of(shared, alice)
    assert own.invoke("fn", {}).result == {"secret": MARK, "name": "fn", "mark": MARK}
    assert bob.invoke("fn", 0).result == "fn"
    assert [f["name"] for f in bob.json("GET", "/v1/functions")] == ["fn"]
    assert [i["function"] for i in bob.json("GET", "/v1/instances")] == ["fn"]
    eventually(lambda: bool(own.json("GET", "/v1/usage")["lines"]), "usage is told")
    operator = shared.gateway
    assert [f["name"] for f in operator.json("GET", "/v1/functions")] == ["alice.fn", "bob.fn"]
    assert operator.invoke("alice.fn", {}).result["mark"] == MARK
    with pytest.raises(ServiceError, match="no secret"):
        files = {"function.py": SOURCE}
        bob.json("PUT", "/v1/functions/thief", deployment(files, "function.handler", secrets=["TOKEN"]))
    bob.json("DELETE", "/v1/functions/fn")


@pytest.mark.parametrize("name", ["fn", "alice.fn"])
def test_no_route_reaches_another_tenant(shared: Server, alice: tuple[str, str], name: str) -> None:
    own = of(shared, alice)
    own.invoke("fn", {})
    call = own.json("GET", f"/v1/calls/{own.spawn('fn', {})}?wait=60")
    assert call["state"] == "done"
    before = everything(own)
    hidden = {MARK, before["/v1/functions"][0]["version"], *(i["id"] for i in own.json("GET", "/v1/instances"))}
    eve = make_tenant(shared, f"eve-{len(name)}")
    places = {"name": name, "alias": "live", "id": call["id"]}
    headers = {"Authorization": f"Bearer {'.'.join(eve)}", "Content-Type": "application/json"}
    for method, path in asked():
        if "events" in path:
            continue  # waits; asked below
        filled = re.sub(r"\{(\w+)\}", lambda m: places[m[1]], path)
        if "schedules" in path:
            filled = filled.replace(name, "later")
        if "secrets" in path:
            filled = filled.replace(name, "TOKEN")
        code, body = request(shared, method, filled, headers, bodies(method, path, name))
        assert not any(mark in body for mark in hidden), (method, filled, body)
        if "{" in path and path != "/v1/secrets/{name}":  # that one is of eve herself, made and removed
            assert code in (400, 403, 404), (method, filled, code, body)
        if name != "fn" and "/functions/{name}" in path:
            assert code == 403, (method, filled, code, body)
    events = of(shared, eve).json("GET", "/v1/events")
    assert not any(mark in json.dumps(events) for mark in hidden)
    assert everything(own) == before
    assert request(shared, "GET", "/metrics", headers, None)[0] == 403


def bodies(method: str, path: str, name: str) -> bytes | None:
    """A body that the route takes, as far as it takes one."""
    if method not in ("POST", "PUT"):
        return None
    if path.startswith("/v1/schedules"):
        return json.dumps({"function": name, "schedule": "0 0 1 1 *"}).encode()
    if path.startswith("/v1/secrets"):
        return b'{"value": "eve"}'
    if "alias" in path:
        return b'{"version": "1", "Name": "live", "FunctionVersion": "1"}'
    if path.endswith("/concurrency"):
        return b'{"ReservedConcurrentExecutions": 0}'
    return b"{}"


def request(server: Server, method: str, path: str, headers: dict[str, str], body: bytes | None) -> tuple[int, str]:
    import http.client

    host = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


def test_a_tenant_has_its_rate(shared: Server) -> None:
    key = make_tenant(shared, "quick", "--rate", "0.05", "--burst", "3")
    headers = {"Authorization": f"Bearer {'.'.join(key)}"}
    codes = [status(shared, "GET", "/v1/functions", headers) for _ in range(5)]
    assert codes[:3] == [200, 200, 200] and 429 in codes
    command(shared, "tenants", "set", "other")
    assert status(shared, "GET", "/v1/functions", headers) == 429, "what concerns others changes nothing"
    command(shared, "tenants", "set", "quick")
    assert status(shared, "GET", "/v1/functions", headers) == 200, "new limits count at once"


def test_a_tenant_has_its_concurrency_and_memory(shared: Server) -> None:
    own = of(shared, make_tenant(shared, "small", "--concurrency", "2", "--memory", "300"))
    own.json("PUT", "/v1/functions/slow", deployment({"function.py": PLAIN}, "function.handler", memory=256))
    with pytest.raises(ServiceError, match="small may have 300 MiB"):
        own.json("PUT", "/v1/functions/big", deployment({"function.py": PLAIN}, "function.handler", memory=512))
        own.invoke("big", 0)
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(own.invoke("slow", 3).result)) for _ in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: own.json("GET", "/v1/status")["waiting"] == {"slow": 1}, "one runs and one waits")
    assert refused(own), "a third is refused"
    assert len([i for i in own.json("GET", "/v1/instances") if i["function"] == "slow"]) == 1, "there is memory for one"
    for thread in threads:
        thread.join()
    assert answers == ["slow", "slow"]


def refused(gateway: Gateway) -> bool:
    try:
        gateway.invoke("slow", 0)
    except ServiceError as error:
        return error.status == 429 and "2 invocations at a time" in str(error)
    return False


def test_a_tenant_has_its_device_seconds(shared: Server) -> None:
    own = of(shared, make_tenant(shared, "wise", "--device-seconds", "0.2"))
    options = {"accelerator": "opencl:gpu", "idle_timeout": 0.1}
    own.json("PUT", "/v1/functions/compute", deployment({"function.py": PLAIN}, "function.handler", **options))
    assert own.invoke("compute", 0.3).result == "compute"
    with pytest.raises(ServiceError, match=r"used up its 0\.2 device-seconds"):
        own.invoke("compute", 0)


def test_a_tenant_goes_with_its_keys(shared: Server) -> None:
    key = make_tenant(shared, "gone")
    own = of(shared, key)
    own.json("PUT", "/v1/functions/fn", deployment({"function.py": PLAIN}, "function.handler"))
    with pytest.raises(subprocess.CalledProcessError):
        command(shared, "tenants", "rm", "gone")
    own.json("DELETE", "/v1/functions/fn")
    command(shared, "tenants", "rm", "gone")
    with pytest.raises(ServiceError, match="no key"):
        own.json("GET", "/v1/functions")
    with pytest.raises(subprocess.CalledProcessError):
        command(shared, "keys", "create", "x", "--tenant", "gone")
