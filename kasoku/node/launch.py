"""A function's VM with its channels: what an instance and the maker of a snapshot have in common."""

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Any

from kasoku.node.process import Sink, close_all
from kasoku.node.runner import RunnerProtocol
from kasoku.node.shells import Shells, spawn
from kasoku.node.site import Site
from kasoku.node.snapshots.saved import Saved
from kasoku.node.vm import Vm, VmPlan
from kasoku.registry.model import FunctionVersion

RUNNER = "/usr/lib/kasoku/runner/python/main.py"
SDK = "/usr/lib/kasoku/sdk/python"
CHANNEL = "/dev/kasoku/invoke"
INVOKE = 3
"""Number of that channel."""
TASK_ROOT = "/var/task"
GUEST_ENV = (("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/tmp"), ("LANG", "C.UTF-8"), ("TZ", "UTC"))


async def channel() -> tuple[RunnerProtocol, socket.socket]:
    """A new invocation channel: the agent's end, and the VM's, which the caller closes."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    _, runner = await asyncio.get_running_loop().create_unix_connection(RunnerProtocol, sock=ours)
    return runner, theirs


async def launch(
    site: Site,
    function: FunctionVersion,
    hostname: str,
    output: int,
    console: Sink,
    accelerator: Sequence[int] = (),
    snapshot: Saved | None = None,
    shells: Shells | None = None,
) -> tuple[Vm, RunnerProtocol]:
    """Boot the function's VM, or let it go on from a snapshot. `output` gets what it prints; all descriptors stay the
    caller's. Raises PlatformError or OSError."""
    runner, theirs = await channel()
    stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    layers: list[tuple[int, int]] = []
    volumes: list[tuple[int, int, str]] = []
    try:
        for path in site.layer_files(function):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            layers.append((descriptor, os.fstat(descriptor).st_size))
        for path, place in snapshot.volumes if snapshot else site.volume_files(function):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            volumes.append((descriptor, os.fstat(descriptor).st_size, place))
        plan = VmPlan(
            memory_mib=function.options.memory,
            vcpus=function.options.vcpus,
            layers=layers,
            channels={0: stdin, 1: output, 2: output, INVOKE: theirs.fileno()},
            args=[function.python, "-B", RUNNER, CHANNEL],
            env=list({**dict(GUEST_ENV), **dict(function.image_env), "LAMBDA_TASK_ROOT": TASK_ROOT}.items()),
            hostname=hostname,
            volumes=volumes,
            snapshot=snapshot.memory if snapshot else None,
            resettable=function.options.isolation == "invocation",
            accelerator=list(accelerator),
        )
        return await Vm.boot(shells.take() if shells else spawn(site.native), plan, console), runner
    except BaseException:
        runner.close()
        raise
    finally:
        theirs.close()
        close_all([stdin, *(layer[0] for layer in layers), *(volume[0] for volume in volumes)])


def environment(function: FunctionVersion, python: str) -> dict[str, str]:
    """Variables that say what the function is: no secrets, the same in all of its instances. `python` is a version."""
    return {
        "AWS_EXECUTION_ENV": f"Kasoku_python{'.'.join(python.split('.')[:2])}",
        "AWS_LAMBDA_FUNCTION_NAME": function.local_name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.options.memory),
        "_HANDLER": function.handler,
    }


def description(function: FunctionVersion, instance: str, accelerator: str | None) -> dict[str, Any]:
    """What the runner tells a handler of its function and instance, by the handler's `context`."""
    return {
        "name": function.local_name,
        "version": "$LATEST",
        "arn": function.arn,
        "memory_mib": function.options.memory,
        "concurrency": function.options.concurrency,
        "instance": instance,
        "accelerator": accelerator,
    }
