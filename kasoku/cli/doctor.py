"""`kasoku doctor`: whether this machine can run Kasoku, and how to mend what is wrong."""

import asyncio
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import click

from kasoku.cli.terminal import home_option
from kasoku.config import ConfigError, load
from kasoku.home import Home
from kasoku.node.broker import list_devices
from kasoku.node.errors import PlatformError
from kasoku.node.native import Native

MIN_KERNEL = (5, 10)
MIN_OPEN_FILES = 1024
Finding = tuple[bool, str]


@click.command()
@home_option
def doctor(home: str | None) -> None:
    """Check this machine. Exit status 1 if something that Kasoku needs is missing."""
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("kernel", _kernel),
        ("/dev/kvm", _kvm),
        ("huge pages", _huge_pages),
        ("binaries", _binaries),
        ("accelerators", _devices),
        ("state directory", lambda: _home(Home.resolve(home))),
        ("configuration", lambda: _configuration(Home.resolve(home))),
        ("port", lambda: _port(Home.resolve(home))),
        ("open files", _open_files),
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


def _huge_pages() -> Finding:
    """Without them a start takes several times as long; it works all the same, so this is never BAD."""
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    try:
        chosen = path.read_text()
    except OSError:
        return True, "this kernel has no transparent huge pages: starts will be slow"
    if "[never]" in chosen:
        return True, f"off, so starts will be slow; mend it with: echo madvise | sudo tee {path}"
    return True, chosen[chosen.index("[") + 1 : chosen.index("]")]


def _configuration(home: Home) -> Finding:
    try:
        sources = load(home).sources
    except ConfigError as error:
        return False, str(error)
    return True, ", ".join(f"{name} from {where}" for name, where in sources.items()) or "defaults"


def _port(home: Home) -> Finding:
    try:
        config = load(home).config
    except ConfigError:
        return True, "not looked at: the configuration is wrong"
    running = home.gateway_file
    if running.exists():
        return True, f"a server runs here: {running}"
    try:
        with socket.create_server((config.host, config.port)):
            return True, f"{config.host}:{config.port} is free"
    except OSError as error:
        reason = error.strerror or str(error)
        return False, f"{config.host}:{config.port}: {reason}; choose another with --port or in config.toml"


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # An instance takes about ten descriptors of the agent, a client one.
    if soft >= MIN_OPEN_FILES:
        return True, f"{soft} allowed"
    more = f"ulimit -n {MIN_OPEN_FILES}" if hard >= MIN_OPEN_FILES else "LimitNOFILE= of the service, or limits.conf"
    return False, f"only {soft} allowed: enough for {soft // 16} instances; raise it with {more}"


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
