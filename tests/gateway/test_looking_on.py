"""Metrics, events, usage, logs that are followed, the dashboard's files, the OpenAPI document; and the commands."""

import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest

from kasoku.gateway import openapi
from kasoku.gateway.app import all_routes
from kasoku.gateway.platform import Platform
from kasoku.sdk.errors import FunctionError, ServiceError
from kasoku.telemetry.metrics import BOUNDS_MS, RECENT, Distribution, Metrics, exposition
from tests.conftest import Server, eventually

SOURCE = """
def handler(event, context):
    print("<b>said</b>", event)
    if event == "fail": raise ValueError("wrong")
    return event
"""


@pytest.fixture(scope="module")
def watched(twin: Server) -> Server:
    twin.deploy("seen", SOURCE, accelerator="opencl:gpu")
    for event in (1, 2):
        twin.call("seen", event)
    with pytest.raises(FunctionError):
        twin.call("seen", "fail")
    return twin


def kasoku(server: Server, *arguments: str) -> str:
    command = [sys.executable, "-m", "kasoku.cli", *arguments, "--home", str(server.home)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_metrics(watched: Server) -> None:
    text = watched.gateway.request("GET", "/metrics")[2].decode()
    assert 'kasoku_invocations_total{function="seen",outcome="ok"} 2' in text
    assert 'kasoku_invocations_total{function="seen",outcome="error"} 1' in text
    assert 'kasoku_invocation_seconds_count{function="seen",cold="true"} 1' in text
    assert 'kasoku_invocation_seconds_bucket{function="seen",cold="false",le="+Inf"} 2' in text
    assert 'kasoku_instances{function="seen",state="idle"} 1' in text
    assert 'kasoku_device_held{device="twin:0"} 1' in text
    sample = re.compile(r'[a-z_]+(\{([a-z]+="[^"]*",?)+\})? [0-9.e+-]+')
    assert all(line.startswith("# ") or sample.fullmatch(line) for line in text.splitlines())


def test_the_histogram_s_text_is_cumulative_and_escaped() -> None:
    metrics = Metrics()
    for value in (0.5, 3.0, 1e9):
        metrics.served('a"b\n', {"wait_ms": value}, total_ms=value, cold=False, failed=False)
    lines = [line for line in exposition(metrics, []).splitlines() if line.startswith("kasoku_wait_seconds_bucket")]
    assert [int(line.split()[-1]) for line in lines] == [1, 1, 2] + [2] * (len(BOUNDS_MS) - 3) + [3]
    assert all(r'function="a\"b\n"' in line for line in lines)


def test_percentiles_are_of_the_latest() -> None:
    distribution = Distribution()
    assert distribution.percentiles() == {}
    for _ in range(RECENT):
        distribution.add(1000)
    for value in range(RECENT):
        distribution.add(value)
    assert distribution.percentiles()["p50"] == RECENT // 2 and distribution.count == 2 * RECENT


def test_events_explain_decisions(watched: Server) -> None:
    told = watched.gateway.json("GET", "/v1/events")
    kinds = {event["kind"] for event in told}
    assert {"scale", "started", "lease"} <= kinds
    assert any("1 waiting" in event["text"] for event in told if event["kind"] == "scale")
    last = told[-1]["number"]
    assert watched.gateway.json("GET", f"/v1/events?after={last}") == []
    watched.deploy("other", SOURCE)
    watched.call("other", 1)
    assert watched.gateway.json("GET", f"/v1/events?after={last}&wait=10")
    assert "seen" in kasoku(watched, "events")


def test_usage_is_kept(watched: Server) -> None:
    def line() -> dict[str, Any]:
        lines = watched.gateway.json("GET", "/v1/usage")["lines"]
        found = [used for used in lines if used["function"] == "seen"]
        assert len(found) == 1
        return dict(found[0])

    used = line()
    assert (used["device"], used["errors"], used["cold"]) == ("opencl:twin:0", 1, 1)
    assert used["invocations"] == 3 and used["device_s"] > 0
    assert used["device_cost"] < used["rented_cost"] == 1.0
    assert "seen" in kasoku(watched, "usage") and "seen" in kasoku(watched, "top", "--once")


def test_a_log_is_followed(watched: Server) -> None:
    _, headers, _ = watched.gateway.request("GET", "/v1/functions/seen/logs")
    position = headers["x-kasoku-position"]
    watched.call("seen", "new line")
    _, headers, data = watched.gateway.request("GET", f"/v1/functions/seen/logs?after={position}")
    assert b"new line" in data and data.count(b"START") == 1
    assert watched.gateway.request("GET", f"/v1/functions/seen/logs?after={headers['x-kasoku-position']}")[2] == b""
    assert b"START" in watched.gateway.request("GET", "/v1/functions/seen/logs?after=x:y")[2]
    command = [sys.executable, "-m", "kasoku.cli", "logs", "-f", "seen", "--bytes", "0", "--home", str(watched.home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        time.sleep(1)
        eventually(lambda: watched.call("seen", "live").result == "live", "it is called")
        seen = ""
        while "live" not in seen:
            seen = following.stdout.readline()
        following.terminate()


@pytest.mark.parametrize(
    "path", ["/v1/events?after=x", "/v1/events?wait=1e9", "/v1/usage?since=-1", "/v1/usage?since=nan"]
)
def test_bad_questions(watched: Server, path: str) -> None:
    with pytest.raises(ServiceError):
        watched.gateway.json("GET", path)


def test_the_dashboard_s_files_start_nothing_foreign(watched: Server) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/dashboard/app.js", "text/javascript"),
        ("/dashboard/style.css", "text/css"),
    ):
        status, headers, data = watched.gateway.request("GET", path)
        assert status == 200 and headers["content-type"].startswith(kind)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        for forbidden in (b"innerHTML", b"insertAdjacentHTML", b"document.write", b"eval(", b" onclick=", b"://cdn"):
            assert forbidden not in data
    page = watched.gateway.request("GET", "/")[2].decode()
    script = watched.gateway.request("GET", "/dashboard/app.js")[2].decode()
    for id in re.findall(r'(?:byId|fill)\("([a-z-]+)"', script):
        assert f'id="{id}"' in page


def test_the_status_tells_no_environment(watched: Server) -> None:
    watched.deploy("private", SOURCE, env={"PASSWORD": "needle"})
    assert b"needle" not in watched.gateway.request("GET", "/v1/status")[2]


def test_every_native_route_is_in_the_document(watched: Server) -> None:
    served: set[tuple[str, str]] = set()
    for route in all_routes(cast(Platform, None)):
        served |= {(m, route.path) for m in (route.methods or ()) if m != "HEAD" and route.path.startswith("/v1/")}
    assert served == set(openapi.ROUTES)
    told = watched.gateway.json("GET", "/v1/openapi.json")
    assert told["openapi"].startswith("3.1") and len(told["paths"]) == len({path for _, path in served})
    json.dumps(told)


def test_configuration(tmp_path: Path) -> None:
    def show(**environment: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "kasoku.cli", "config", "show", "--home", str(tmp_path)]
        environment["PATH"] = "/usr/bin"
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    assert "8765" in show().stdout
    (tmp_path / "config.toml").write_text('port = 9000\nallow_hosts = ["a.example"]\n')
    told = show(KASOKU_DRAIN_SECONDS="2.5").stdout
    assert re.search(r"port +9000 +\S*config\.toml", told) and re.search(r"drain_seconds +2\.5 +KASOKU_DRAIN", told)
    for variable, text, allowed in (
        ("KASOKU_PORT", "70000", "between 0 and 65535"),
        ("KASOKU_PORT", "x", "whole number"),
        ("KASOKU_REQUIRE_KEYS", "maybe", "true or false"),
    ):
        failed = show(**{variable: text})
        assert (
            failed.returncode == 1 and variable in failed.stderr and allowed in failed.stderr and text in failed.stderr
        )
    (tmp_path / "config.toml").write_text("prot = 9000\n")
    failed = show()
    assert failed.returncode == 1 and "'prot' is unknown; known are host, port" in failed.stderr
    (tmp_path / "config.toml").write_text("memory_mib = true\n")
    assert "memory_mib = True is not a whole number" in show().stderr
    (tmp_path / "config.toml").write_text("= nonsense")
    assert "cannot be read" in show().stderr
    assert "does not exist" in show(KASOKU_CONFIG=str(tmp_path / "absent.toml")).stderr


def test_the_doctor_names_what_is_wrong_and_how_to_mend_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (tmp_path / "config.toml").write_text(f"port = {taken.getsockname()[1]}\n")
        command = [sys.executable, "-m", "kasoku.cli", "doctor", "--home", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    lines = {line[5:].partition(":")[0]: line for line in done.stdout.splitlines()}
    assert lines["port"].startswith("BAD") and "choose another with --port" in lines["port"]
    assert lines["kernel"].startswith("ok") and lines["configuration"].startswith("ok")
    assert {"/dev/kvm", "huge pages", "binaries", "accelerators", "state directory", "open files"} <= lines.keys()


LOGGED = """
import asyncio, logging, sys
from kasoku.telemetry.events import Events
from kasoku.telemetry.log import set_up

async def main():
    set_up(json=sys.argv[1] == "json")
    Events().add("scale", "1 more: 1 waiting", function="fn")
    log = logging.getLogger("kasoku.part")
    log.info("not for anybody")
    log.error("%s is wrong", "it\\nall", extra={"requestId": "r-1"})
    try:
        raise ValueError("deep")
    except ValueError:
        log.exception("met")

asyncio.run(main())
"""


def test_the_server_s_own_log_is_text_or_json() -> None:
    def lines(form: str) -> list[str]:
        done = subprocess.run([sys.executable, "-c", LOGGED, form], check=True, capture_output=True, text=True)
        return done.stderr.splitlines()

    decided, wrong, met = (json.loads(line) for line in lines("json"))
    assert decided.pop("time").endswith("Z")
    assert decided == {
        "level": "INFO",
        "logger": "kasoku.events",
        "message": "1 more: 1 waiting",
        "function": "fn",
        "event": "scale",
    }
    assert (wrong["message"], wrong["level"], wrong["requestId"]) == ("it\nall is wrong", "ERROR", "r-1")
    assert met["message"] == "met" and met["traceback"].endswith("ValueError: deep")
    assert [line.endswith("ERROR kasoku.part: met") for line in lines("text")].count(True) == 1
