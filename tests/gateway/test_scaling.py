"""Instances without work: a minimum that is kept, a buffer, and starts that fail."""

import os
import time
from typing import Any

from tests.conftest import Server, eventually

FINE = "def handler(event, context):\n    return event\n"


def of(server: Server, name: str, *states: str) -> list[dict[str, Any]]:
    return [i for i in server.instances() if i["function"] == name and (not states or i["state"] in states)]


def test_a_minimum_is_kept(twin: Server) -> None:
    first = twin.deploy("kept", FINE, min_instances=2, idle_timeout=0.1)
    eventually(lambda: len(of(twin, "kept", "idle")) == 2, "two run without a call")
    assert not twin.call("kept").detail["cold"]
    time.sleep(0.5)
    assert len(of(twin, "kept", "idle")) == 2, "idle_timeout leaves the minimum"
    killed = of(twin, "kept")[0]
    os.kill(killed["vmm_pid"], 9)
    eventually(lambda: killed["id"] not in [i["id"] for i in of(twin, "kept")], "it is gone")
    eventually(lambda: len(of(twin, "kept", "idle")) == 2, "another takes its place")
    second = twin.deploy("kept", FINE + "\n", min_instances=1, idle_timeout=60)
    assert first["version"] != second["version"]
    eventually(lambda: [i["version"] for i in of(twin, "kept", "idle")] == [second["version"]], "only the new version")
    twin.gateway.json("DELETE", "/v1/functions/kept")
    eventually(lambda: not of(twin, "kept"), "all are gone")


def test_what_cannot_start_is_not_started_in_a_circle(twin: Server) -> None:
    twin.deploy("broken", "1 / 0", min_instances=1)
    time.sleep(2)
    events = [e for e in twin.gateway.json("GET", "/v1/events") if e.get("function") == "broken"]
    failed = [e for e in events if e["kind"] == "failed"]
    assert 1 <= len(failed) <= 4 and "division by zero" in failed[0]["text"]
    twin.gateway.json("DELETE", "/v1/functions/broken")


def test_a_kept_instance_takes_no_device_from_others(twin: Server) -> None:
    twin.deploy("holder", FINE, accelerator="opencl:gpu")
    assert twin.call("holder", 1).result == 1
    twin.deploy("wisher", FINE, accelerator="opencl:gpu", min_instances=1)
    time.sleep(0.5)
    assert of(twin, "holder", "idle") and not of(twin, "wisher")
    twin.gateway.json("DELETE", "/v1/functions/holder")
    eventually(lambda: len(of(twin, "wisher", "idle")) == 1, "it starts once the device is free")
    twin.gateway.json("DELETE", "/v1/functions/wisher")
