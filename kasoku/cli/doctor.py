"""`kasoku doctor`: whether this machine can run Kasoku, and how to mend what is wrong."""

import asyncio
import os
import sys
from collections.abc import Callable

import click

from kasoku.cli.terminal import home_option
from kasoku.home import Home
from kasoku.node.broker import list_devices
from kasoku.node.errors import PlatformError
from kasoku.node.native import Native

MIN_KERNEL = (5, 10)
Finding = tuple[bool, str]


@click.command()
@home_option
def doctor(home: str | None) -> None:
    """Check this machine. Exit status 1 if something that Kasoku needs is missing."""
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("kernel", _kernel),
        ("/dev/kvm", _kvm),
        ("binaries", _binaries),
        ("accelerators", _devices),
        ("state directory", lambda: _home(Home.resolve(home))),
    ]
    good = True
    for name, check in checks:
        ok, text = check()
        good &= ok
        click.echo(f"{'ok ' if ok else 'BAD'}  {name}: {text}")
    sys.exit(0 if good else 1)


def _kernel() -> Finding:
    release = os.uname().release
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    return numbers >= MIN_KERNEL, f"{release} (needed: {'.'.join(map(str, MIN_KERNEL))})"


def _kvm() -> Finding:
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return (
            False,
            "does not exist: enable virtualisation, load kvm_intel or kvm_amd, or pass it into the container",
        )
    except PermissionError:
        return False, "no permission: add yourself to the group kvm, then log in again"
    except OSError as error:
        return False, f"cannot be opened: {error.strerror}"
    return True, "can be opened"


def _binaries() -> Finding:
    native = Native()
    try:
        for name in ("kasoku-vmm", "kasoku-broker", "kasoku-libos", "runtime.erofs"):
            native.find(name)
    except PlatformError as error:
        return False, error.message
    return True, "all there"


def _devices() -> Finding:
    try:
        listed = asyncio.run(list_devices(Native()))
    except PlatformError as error:
        return False, error.message
    if not listed:
        return False, "none: install an OpenCL runtime, for instance `pip install 'kasoku[cpu]'` (Intel's, for the CPU)"
    return True, ", ".join(f"opencl:{d['id']} ({d['name']})" for d in listed)


def _home(home: Home) -> Finding:
    try:
        probe = home.make().run / f"probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        return False, f"{home.path} cannot be written: {error.strerror}; choose another with --home"
    stat = os.statvfs(home.path)
    free_gib = stat.f_bavail * stat.f_frsize / 2**30
    return free_gib >= 1, f"{home.path}, {free_gib:.1f} GiB free" + (
        "" if free_gib >= 1 else " (1 GiB is needed for images)"
    )
