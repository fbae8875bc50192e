"""What functions do wrong, and what their callers are told; afterwards nothing is left and others go on."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from kasoku.sdk.errors import FunctionError, ServiceError
from tests.conftest import Server, eventually

FINE = "def handler(event, context):\n    return event\n"


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("import nothing_of_this_name", "Runtime.ImportModuleError", "No module named 'nothing_of_this_name'"),
        ("x = 1", "Runtime.HandlerNotFound", "'handler' missing"),
        ("handler = 3", "Runtime.HandlerNotFound", "is a int, not a function"),
        ("def handler(:", "Runtime.UserCodeSyntaxError", "invalid syntax"),
        ("1 / 0", "ZeroDivisionError", "division by zero"),
        ("import sys; sys.exit('stop')", "Runtime.ExitError", "exit status 1: stop"),
        ("import os; os._exit(3)", "Runtime.ExitError", "exit status 3"),
        ("import os; os.kill(os.getpid(), 11)", "Runtime.ExitError", "segmentation fault"),
    ],
)
def test_a_handler_that_cannot_be_had(server: Server, source: str, kind: str, message: str) -> None:
    server.deploy("broken", f"print('at import')\n{source}", accelerator=server.device)
    with pytest.raises(FunctionError, match=message) as caught:
        server.call("broken")
    assert caught.value.type == kind
    assert "at import" in caught.value.detail["log"] or kind == "Runtime.UserCodeSyntaxError"
    assert_gone(server, "broken")


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("raise ValueError('wrong')", "ValueError", "wrong"),
        ("class E(Exception):\n        def __str__(self): raise E\n    raise E", "E", "cannot be shown"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", "^KeyboardInterrupt: "),
        ("return {1, 2}", "Runtime.MarshalError", "set is not JSON serializable"),
        ("return float('nan')", "Runtime.MarshalError", "not JSON compliant"),
        ("x = []; x.append(x); return x", "Runtime.MarshalError", "Circular"),
        ("return b''", "Runtime.MarshalError", "bytes is not JSON"),
    ],
)
def test_a_handler_that_fails_keeps_its_instance(server: Server, body: str, kind: str, message: str) -> None:
    server.deploy("fails", f"def handler(event, context):\n    {body}\n")
    for _ in range(2):
        with pytest.raises(FunctionError, match=message) as caught:
            server.call("fails")
        assert caught.value.type == kind
    assert not caught.value.detail["cold"]


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("import sys; sys.exit(4)", "Runtime.ExitError", "exit status 4"),
        ("import sys; sys.exit(0)", "Runtime.ExitError", "exit status 0"),
        ("import os; os._exit(5)", "Runtime.ExitError", "exit status 5"),
        ("import ctypes; ctypes.string_at(1)", "Runtime.ExitError", "segmentation fault"),
        ("import os; os.abort()", "Runtime.ExitError", "aborted"),
        ("import os; os.kill(os.getpid(), 9)", "Runtime.OutOfMemory", "512 MiB"),
        ("while True: pass", "Sandbox.Timedout", "timed out after 1.00 seconds"),
        ("import time; time.sleep(1e9)", "Sandbox.Timedout", "timed out after 1.00 seconds"),
        (
            "import os\n    for n in range(3, 40):\n        try: os.close(n)\n        except OSError: pass",
            "Runtime",
            "Error: ",
        ),
    ],
)
def test_a_handler_that_ends_its_instance(server: Server, body: str, kind: str, message: str) -> None:
    server.deploy(
        "ends",
        f"def handler(event, context):\n    print('last words')\n    {body}\n",
        timeout=1,
        accelerator=server.device,
    )
    with pytest.raises(FunctionError, match=message) as caught:
        server.call("ends")
    assert caught.value.type.startswith(kind)
    assert "last words" in caught.value.detail["log"]
    assert_gone(server, "ends")


def test_more_memory_than_there_is(server: Server) -> None:
    server.deploy("hungry", "def handler(event, context):\n    return len(bytearray(event << 20))\n", memory=128)
    assert server.call("hungry", 16).result == 16 << 20
    with pytest.raises(FunctionError) as caught:
        server.call("hungry", 4096)
    assert caught.value.type in ("MemoryError", "Runtime.OutOfMemory")


def test_an_import_that_never_ends(server: Server) -> None:
    server.deploy("slow", "import time; time.sleep(1e9)", init_timeout=1)
    with pytest.raises(FunctionError, match=r"Init timed out after 1\.00 seconds") as caught:
        server.call("slow")
    assert caught.value.type == "Sandbox.Timedout"
    assert_gone(server, "slow")


HOSTILE = """
import os, struct

def say(header, body=b"", lengths=None):
    os.write(3, struct.pack("<II", *(lengths or (len(header), len(body)))) + header + body)

def handler(event, context):
    id = context.aws_request_id.encode()
    if event == "huge": say(b"", lengths=(0xFFFFFFFF, 0xFFFFFFFF))
    if event == "header": say(b"not json")
    if event == "type": say(b'{"type": "boot"}')
    if event == "id": say(b'{"type": "result", "request_id": "another"}', b"1")
    if event == "body": say(b'{"type": "result", "request_id": "' + id + b'"}', b"}, {")
    if event == "number": say(b'{"type": "result", "request_id": "' + id + b'", "timings": {"x": 1e999}}', b"1")
    if event == "error": say(b'{"type": "error", "request_id": "' + id + b'"}', b"{}")
    if event == "deep": say(b"[" * 60000)
    import time; time.sleep(1e9)
"""


@pytest.mark.parametrize("event", ["huge", "header", "type", "id", "error", "deep", "body", "number"])
def test_a_hostile_runner_hurts_itself_alone(server: Server, event: str) -> None:
    server.deploy("hostile", HOSTILE)
    server.deploy("fine", FINE)
    with pytest.raises(FunctionError) as caught:
        server.call("hostile", event)
    assert caught.value.type == "Runtime.InvalidResponse"
    assert server.call("fine", 1).result == 1
    server.gateway.json("DELETE", "/v1/functions/hostile")


@pytest.mark.parametrize("kind", ["guest", "boot", "vmm"])
def test_a_fault_of_the_vm(twin: Server, kind: str) -> None:
    twin.deploy("fault", FINE, image=f"fault-{kind}")
    with pytest.raises((FunctionError, ServiceError), match=f"told to fail with {kind}") as caught:
        twin.call("fault")
    error = caught.value
    if isinstance(error, FunctionError):
        assert kind == "guest" and error.type == "Sandbox.GuestFault"
        assert "line two" in error.stack_trace[1]
    else:
        assert isinstance(error, ServiceError) and error.status == 500
    assert_gone(twin, "fault")


def test_a_vmm_that_is_killed_during_an_invocation(server: Server) -> None:
    server.deploy("victim", "import time\ndef handler(event, context):\n    time.sleep(event)\n", timeout=60)
    pid = server.call("victim", 0).detail["instance"]["vmm_pid"]
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(server.call, "victim", 50)
        eventually(lambda: any(i["vmm_pid"] == pid and i["state"] == "busy" for i in server.instances()), "busy")
        os.kill(pid, 9)
        with pytest.raises(ServiceError, match="signal 9") as caught:
            waiting.result()
    assert caught.value.code == "ServiceException"
    assert server.call("victim", 0).detail["cold"]


def test_a_vmm_that_is_killed_while_idle_is_not_used_again(server: Server) -> None:
    server.deploy("idle", FINE, accelerator=server.device)
    detail = server.call("idle").detail
    os.kill(detail["instance"]["broker_pid"], 9)
    eventually(lambda: all(i["id"] != detail["instance"]["id"] for i in server.instances()), "gone")
    assert server.call("idle").detail["cold"]


def assert_gone(server: Server, name: str) -> None:
    """No instance of the function, no lease of anybody's but other functions'."""
    eventually(lambda: all(i["function"] != name for i in server.instances()), f"{name} is gone")
    held = {d["held_by"] for d in server.gateway.json("GET", "/v1/devices")["devices"]} - {None}
    assert held <= {i["id"] for i in server.instances()}
