"""Snapshots on disk: whole or not there, for one key and one tenant, and damage never goes unnoticed."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kasoku.node.snapshots.file import SEALS, Manifest, SnapshotDamagedError
from kasoku.node.snapshots.key import SnapshotKey
from kasoku.node.snapshots.saved import Saved
from kasoku.node.snapshots.store import SnapshotStore
from tests.conftest import ROOT

KEY = SnapshotKey("tenant", "f", "v", ("sha256:1",), 64, 1, "kvm", "libos", "vmm", "runtime", "broker", "host")
SIZE = 16 << 20
DATA = {0: b"header" * 700, 2 << 20: os.urandom(3 << 20), (9 << 20) + 4096: b"end" * 4096}


SESSION = {4096: b"session" * 300000}


def saved(data: dict[int, bytes] = DATA) -> Saved:
    return Saved(memory(data), memory(SESSION), "intel|a device|1")


def memory(data: dict[int, bytes] = DATA) -> int:
    file = os.memfd_create("memory", os.MFD_ALLOW_SEALING)
    os.ftruncate(file, SIZE)
    for offset, bytes_ in data.items():
        os.pwrite(file, bytes_, offset)
    return file


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    store = SnapshotStore(tmp_path)
    kept = saved()
    store.save(KEY, kept)
    kept.close()
    return store


def contents(file: Saved) -> tuple[bytes, bytes, str]:
    assert file.session is not None
    data = os.pread(file.memory, SIZE + 1, 0), os.pread(file.session, SIZE + 1, 0), file.device
    file.close()
    return data


def test_comes_back_sealed_and_with_its_holes(store: SnapshotStore) -> None:
    import fcntl

    opened, expected = store.open(KEY), saved()
    assert opened is not None and opened.session is not None
    assert fcntl.fcntl(opened.memory, fcntl.F_GET_SEALS) == fcntl.fcntl(opened.session, fcntl.F_GET_SEALS) == SEALS
    assert opened.held_bytes < 7 << 20
    assert contents(opened) == contents(expected)


def test_a_guest_without_a_session_comes_back_alone(store: SnapshotStore) -> None:
    key, file = replace(KEY, function="g"), memory()
    store.save(key, Saved(file))
    opened = store.open(key)
    assert opened is not None and (opened.session, opened.device) == (None, "")
    assert os.pread(opened.memory, SIZE, 0) == os.pread(file, SIZE, 0)
    opened.close()
    os.close(file)


def test_files_are_the_users_own_and_hold_no_plain_text(store: SnapshotStore, tmp_path: Path) -> None:
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert b"headerheader" not in store.path(KEY).read_bytes()


def test_every_damage_is_refused_with_a_reason(store: SnapshotStore) -> None:
    path = store.path(KEY)
    whole, chance = path.read_bytes(), random.Random(6)
    damaged = []
    for _ in range(200):
        at = chance.randrange(len(whole))
        damaged.append(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
    damaged += [whole[: chance.randrange(len(whole))] for _ in range(50)]
    damaged += [whole + b"x", b""]
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(SnapshotDamagedError, match=r"\w+ \w+"):
            store.open(KEY)


def test_another_tenant_build_or_node_cannot_open_it(store: SnapshotStore, tmp_path: Path) -> None:
    for other in (replace(KEY, tenant="other"), replace(KEY, libos="other"), replace(KEY, host="other")):
        assert store.open(other) is None
        os.link(store.path(KEY), store.path(other))
        with pytest.raises(SnapshotDamagedError, match=r"another (tenant|libos|host)"):
            store.open(other)
    # A forged manifest does not help: the contents are bound to it.
    path = store.path(replace(KEY, libos="forge"))
    path.write_bytes(store.path(KEY).read_bytes().replace(b'"libos": "libos"', b'"libos": "forge"'))
    with pytest.raises(SnapshotDamagedError, match="chunk 0"):
        store.open(replace(KEY, libos="forge"))
    (tmp_path / "node.key").write_bytes(bytes(32))
    with pytest.raises(SnapshotDamagedError, match="chunk 0"):
        store.open(KEY)


def test_removal_by_name(store: SnapshotStore) -> None:
    (name, size, described) = store.entries()[0]
    assert isinstance(described, Manifest) and described.key["function"] == "f" and size > 3 << 20
    assert store.remove_named("nothing") == []
    assert store.remove_named(name[:8]) == [name]
    assert store.entries() == [] and store.open(KEY) is None


WRITER = """
import os, sys
from tests.snapshot.test_store import KEY, saved
from kasoku.node.snapshots.store import SnapshotStore
from pathlib import Path
store, new = SnapshotStore(Path(sys.argv[1])), saved({0: b"new" * 1000000})
print("begin", flush=True)
while True:
    store.save(KEY, new)
"""


def test_a_killed_writer_leaves_the_old_or_the_new_state(store: SnapshotStore, tmp_path: Path) -> None:
    old, new = contents(saved()), contents(saved({0: b"new" * 1000000}))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for moment in range(30):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], env=env, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None and writer.stdout.readline() == "begin\n"
        time.sleep(0.001 * moment)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        opened = store.open(KEY)
        assert opened is not None
        assert contents(opened) in (old, new)
    store.sweep()
    assert not list(tmp_path.glob(".*.tmp"))
