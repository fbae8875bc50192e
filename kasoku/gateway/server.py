"""`kasoku up`: gateway and node agent in one process, one per state directory."""

import asyncio
import contextlib
import fcntl
import gc
import ipaddress
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import uvicorn

from kasoku.gateway.access import Access
from kasoku.gateway.app import make_app
from kasoku.gateway.platform import Platform, Settings, secret_values
from kasoku.gateway.protocol import make_protocol
from kasoku.home import Home
from kasoku.node.agent import NodeAgent
from kasoku.node.layers import LayerSource
from kasoku.node.native import Native
from kasoku.node.site import Site
from kasoku.registry.secrets import SecretStore
from kasoku.registry.store import Registry
from kasoku.sdk.errors import KasokuError

GC_THRESHOLD = 20_000
"""Objects made before the collector looks at the young ones: some hundred requests' worth."""


SWITCH_SECONDS = 0.001
"""So long a thread that wants the interpreter waits for the event loop: the queue's writer does at every statement."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How to serve."""

    home: Home
    host: str = "127.0.0.1"
    port: int = 0
    """0: any free port."""
    allow_hosts: Sequence[str] = ()
    native: Native = field(default_factory=Native)
    memory_mib: int | None = None
    snapshots: bool = True
    drain_seconds: float = 5.0
    """How long running requests and calls may take to finish once the server has been told to stop."""
    device_hour_price: float = 1.0
    keep_results_hours: float = 24.0
    max_async_running: int = 128
    blob_mib: int = 4096
    keep_blobs_hours: float = 24.0
    otlp_endpoint: str | None = None
    json_logs: bool = False
    """Functions' logs as a JSON object for each line."""
    require_keys: bool = False
    """Ask for keys even on the loopback interface and while none was made."""
    region: str | None = None
    """The region that signatures must name; None: any."""

    @property
    def settings(self) -> Settings:
        """What the platform itself wants to know."""
        return Settings(
            device_hour_price=self.device_hour_price,
            keep_results_s=self.keep_results_hours * 3600,
            max_async_running=self.max_async_running,
            blob_bytes=self.blob_mib << 20,
            keep_blobs_s=self.keep_blobs_hours * 3600,
            otlp_endpoint=self.otlp_endpoint,
        )


async def serve(options: ServerOptions, layers: LayerSource, ready: Callable[[str, Platform], None]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is told the address. Raises KasokuError if it cannot start."""
    home = options.home.make()
    _allow_descriptors()
    with _lock(home), _listen(options.host, options.port) as listener:
        registry = Registry(home.state_db)
        secrets = SecretStore(registry)
        site = Site(home, options.native, layers.path, layers.volume, partial(secret_values, secrets))
        platform = await Platform.start(
            NodeAgent(site, options.memory_mib, options.snapshots, json_logs=options.json_logs),
            registry,
            secrets,
            layers,
            options.settings,
        )
        try:
            await _run(platform, options, listener, ready)
        finally:
            with contextlib.suppress(FileNotFoundError):
                home.gateway_file.unlink()
            await platform.close()


class _Server(uvicorn.Server):
    """Uvicorn, but for its end: it raises a signal again once it has stopped serving, which would end the process with
    instances running; and it cancels requests that take too long, whose callers would not be told why."""

    def __init__(self, config: uvicorn.Config, platform: Platform, drain_seconds: float) -> None:
        super().__init__(config)
        self._platform = platform
        self._drain_seconds = drain_seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        deadline = time.monotonic() + self._drain_seconds
        while self.server_state.tasks and not self.force_exit and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        await self._platform.calls.dispatcher.drain(0.0 if self.force_exit else deadline)
        # What still runs ends with its instance; its caller gets an error that says so.
        await self._platform.controller.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        """The first signal lets requests finish, a second one does not."""
        self.force_exit = self.should_exit
        self.should_exit = True


async def _run(
    platform: Platform, options: ServerOptions, listener: socket.socket, ready: Callable[[str, Platform], None]
) -> None:
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host)
    always = options.require_keys or not address.is_loopback
    access = Access(
        platform.keys.secrets,
        lambda: platform.keys.edition,
        admit=platform.quotas.request,
        always=always,
        region=options.region,
    )
    app, way = make_app(platform, access, (*options.allow_hosts, host))
    config = uvicorn.Config(
        app,
        http=make_protocol(way),
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config, platform, options.drain_seconds)
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    # What exists by now stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    sys.setswitchinterval(SWITCH_SECONDS)
    if not serving.done():
        if address.is_unspecified:  # all of them: this machine's own commands take the nearest
            host = "127.0.0.1" if address.version == 4 else "::1"
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        _write_address(options.home, url, access.local_token)
        ready(url, platform)
    await serving


def _allow_descriptors() -> None:
    """As many open files as this user may have: an instance takes seven, and the usual limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def _lock(home: Home) -> Iterator[None]:
    """One server per state directory; the lock goes with the process, however it ends."""
    with (home.run / "server.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KasokuError(f"a server runs on {home.path} already; stop it or use another --home") from None
        yield


def _listen(host: str, port: int) -> socket.socket:
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # With the protocol named: the event loop turns Nagle's algorithm off only where it sees TCP. Without, an answer
        # in two writes waits 40 ms for the client's acknowledgement of the first.
        listener = socket.socket(info[0], info[1], socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(info[4])
        listener.listen(1024)
        return listener
    except OSError as error:
        raise KasokuError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose another --port"
        ) from None


def _write_address(home: Home, url: str, token: str) -> None:
    temporary = home.gateway_file.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"url": url, "pid": os.getpid(), "token": token}, file)
    temporary.replace(home.gateway_file)
