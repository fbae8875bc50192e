"""Blobs on disk: whose they are, how long they stay, and what is left of those that were not finished."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from kasoku.blobs import store as module
from kasoku.blobs.store import MAX_LENT, BlobStore
from kasoku.node.errors import PlatformError

MIB = 1 << 20


def name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def keep(store: BlobStore, data: bytes, tenant: str = "") -> str:
    writer = store.writer(tenant)
    try:
        for start in range(0, len(data), MIB // 2):
            await writer.write(data[start : start + MIB // 2])
        return await writer.finish(name(data))
    finally:
        writer.abort()


def put(store: BlobStore, data: bytes, tenant: str = "") -> str:
    return asyncio.run(keep(store, data, tenant))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()} - {"boot-id"}


def test_each_tenant_has_its_own(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 10 * MIB, 60)
    data = bytes(range(256)) * 8192
    id = put(store, data, "alice")
    assert store.path("alice", id).read_bytes() == data and store.get("alice", id).size == len(data)
    for tenant in ("", "bob"):
        with pytest.raises(PlatformError, match="there is no blob"):
            store.get(tenant, id)
        assert store.of(tenant) == {}
    assert put(store, data, "bob") == id
    store.remove("bob", id)
    assert list(store.of("alice")) == [id] and store.of("bob") == {}


@pytest.mark.parametrize("id", ["", "x", "0" * 63, "0" * 65, "A" * 64, "../" + "0" * 61, "0" * 63 + "\n"])
def test_names_that_are_none(tmp_path: Path, id: str) -> None:
    with pytest.raises(PlatformError, match="is no blob's name"):
        BlobStore(tmp_path, MIB, 60).get("", id)


def test_what_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    async def begun(store: BlobStore) -> None:
        writer = store.writer("")
        await writer.write(bytes(2 * MIB))
        assert len(files(tmp_path)) == 1
        with pytest.raises(PlatformError, match="are those of blob"):
            await writer.finish(name(b"other"))
        writer.abort()
        empty = store.writer("")
        with pytest.raises(PlatformError, match="at least one byte"):
            await empty.finish()
        empty.abort()

    store = BlobStore(tmp_path, 4 * MIB, 60)
    asyncio.run(begun(store))
    assert files(tmp_path) == set()
    put(store, b"1" * (4 * MIB))  # what was reserved is free again


def test_the_one_unused_longest_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BlobStore(tmp_path, 4 * MIB, 60)
    ids = [put(store, bytes([n]) * MIB) for n in range(4)]
    with pytest.raises(PlatformError, match="are in use") as refused:
        put(store, b"settled?" * (MIB // 8))
    assert refused.value.code == "TooManyRequestsException"
    monkeypatch.setattr(module, "SETTLE_SECONDS", -1.0)
    with store.pin("", [ids[0]]):
        put(store, b"new" * (MIB // 3))
        assert set(store.of("")) & set(ids) == {ids[0], ids[2], ids[3]}
    with pytest.raises(PlatformError, match="larger than what may be kept") as refused:
        put(store, bytes(5 * MIB))
    assert refused.value.code == "RequestTooLargeException"
    put(store, b"other tenants have room of their own" * 1000, "alice")


def test_what_nobody_uses_is_collected(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 4 * MIB, -1.0)
    id = put(store, b"data")
    with store.pin("", [id, id]) as lent:
        store.collect()
        assert [one.path.read_bytes() for one in lent] == [b"data"] * 2
    store.collect()
    assert store.of("") == {} and files(tmp_path) == set()


def test_limits_of_an_invocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BlobStore(tmp_path, 4 * MIB, 60)
    id = put(store, b"data")
    with pytest.raises(PlatformError, match=f"at most {MAX_LENT}"), store.pin("", [id] * (MAX_LENT + 1)):
        pass
    monkeypatch.setattr(module, "MAX_LENT_BYTES", 7)
    with pytest.raises(PlatformError, match="together"), store.pin("", [id] * 2):
        pass
    assert store.get("", id).pins == 0


def test_a_new_server_finds_them_and_a_new_machine_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "blobs"
    id = put(BlobStore(folder, 4 * MIB, 60), b"data", "alice")
    (folder / "alice" / ".half").write_bytes(b"da")
    again = BlobStore(folder, 4 * MIB, 60)
    assert again.get("alice", id).size == 4 and files(folder) == {id}
    other = tmp_path / "boot"
    other.write_text("another start of the machine\n")
    monkeypatch.setattr(module, "_BOOT_ID", other)
    assert BlobStore(folder, 4 * MIB, 60).of("alice") == {} and files(folder) == set()
