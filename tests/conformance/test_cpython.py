"""The part of CPython's test suite that says most about an operating system; `make conformance` runs all of it."""

from pathlib import Path

import pytest

from . import suite

LIMIT_S = 280

#: Each module, or the test cases of it whose names match.
MODULES = [
    *(f"test.test_asyncio.test_{part}" for part in ("events", "sendfile", "sock_lowlevel", "streams", "subprocess")),
    *(f"test.test_asyncio.test_{part}" for part in ("tasks", "unix_events")),
    "test_concurrent_futures:*ProcessPoolFork*shutdown*",
    "test_epoll",
    "test_faulthandler",
    "test_fcntl",
    "test_fork1",
    "test_hashlib",
    "test_io",
    "test_mmap",
    "test_multiprocessing_fork:*WithProcessesTestConnection*",
    "test_multiprocessing_forkserver:*WithProcessesTestConnection*",
    "test_multiprocessing_spawn:*WithProcessesTestConnection*",
    "test_openpty",
    "test_os",
    "test_pathlib",
    "test_poll",
    "test_posix",
    "test_pty",
    "test_queue",
    "test_resource",
    "test_select",
    "test_selectors",
    "test_shutil",
    "test_signal",
    "test_socket",
    "test_struct",
    "test_subprocess",
    "test_tempfile",
    "test_termios",
    "test_thread",
    "test_threading",
    "test_threadsignals",
    "test_time",
    "test_wait3",
    "test_wait4",
]


@pytest.fixture(scope="module")
def modules() -> dict[str, Path]:
    return suite.all_modules()


@pytest.mark.parametrize("case", MODULES)
def test_module(case: str, modules: dict[str, Path]) -> None:
    module, _, match = case.partition(":")
    if module not in modules:
        pytest.skip("this machine's Python comes without the module")
    guest = suite.run(module, modules[module], guest=True, limit_s=LIMIT_S, match=match)
    if guest.verdict != "passed":
        # What fails on the machine, too, tells nothing.
        native = suite.run(module, modules[module], guest=False, limit_s=LIMIT_S, match=match)
        assert guest.failures == native.failures
