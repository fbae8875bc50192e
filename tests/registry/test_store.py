"""What the registry keeps, across restarts, and what it refuses to open."""

import sqlite3
from pathlib import Path

import pytest

from kasoku.registry.model import FunctionVersion
from kasoku.registry.store import Registry, RegistryError
from kasoku.sdk.options import parse_options


def version(name: str = "f", memory: int = 128) -> FunctionVersion:
    return FunctionVersion(
        name=name,
        handler="a.b",
        options=parse_options({"memory": memory, "env": {"K": "v"}, "accelerator": "opencl"}),
        layers=("sha256:00", "sha256:11"),
        python="/usr/local/bin/python3",
        package_paths=("/opt",),
        image_env=(("A", "B"),),
    )


def test_functions_survive_a_restart(tmp_path: Path) -> None:
    first = Registry(tmp_path / "state.db")
    first.put(version())
    first.put(version(memory=256))
    first.put(version("g"))
    first.close()
    second = Registry(tmp_path / "state.db")
    assert second.get("f") == version(memory=256)
    assert [d.function.name for d in second.list()] == ["f", "g"]
    assert second.remove("f") and not second.remove("f")
    assert second.get("f") is None


def test_deploying_an_older_version_again_makes_it_current(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state.db")
    for memory in (128, 256, 128):
        registry.put(version(memory=memory))
    assert registry.get("f") == version(memory=128)


def test_equal_content_has_an_equal_version() -> None:
    assert version().version == version().version != version(memory=256).version


def test_generations_never_repeat(tmp_path: Path) -> None:
    first = Registry(tmp_path / "state.db")
    seen = [first.next_generation(), first.next_generation()]
    first.close()
    assert Registry(tmp_path / "state.db").next_generation() > seen[1] > seen[0]


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(RegistryError, match="move it away"):
        Registry(tmp_path / "state.db")


def test_a_database_of_a_newer_version(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "state.db") as db:
        db.execute("PRAGMA user_version = 999")
    with pytest.raises(RegistryError, match="newer Kasoku"):
        Registry(tmp_path / "state.db")
