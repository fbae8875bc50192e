"""What the registry keeps, across restarts, and what it refuses to open."""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from kasoku.registry.model import FunctionVersion
from kasoku.registry.sealing import SealError
from kasoku.registry.secrets import KeyStore, SecretStore
from kasoku.registry.store import MIGRATIONS, Registry, RegistryError
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


def latest(registry: Registry, name: str) -> FunctionVersion:
    record = registry.get(name)
    assert record
    return record.latest


def test_functions_survive_a_restart(tmp_path: Path) -> None:
    first = Registry(tmp_path / "state.db")
    first.put(version())
    first.put(version(memory=256))
    first.put(version("g"))
    first.close()
    second = Registry(tmp_path / "state.db")
    assert latest(second, "f") == version(memory=256)
    assert [record.name for record in second.list()] == ["f", "g"]
    assert second.remove("f") and not second.remove("f")
    assert second.get("f") is None


def test_deploying_an_older_version_again_makes_it_current(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state.db")
    for memory in (128, 256, 128):
        registry.put(version(memory=memory))
    assert latest(registry, "f") == version(memory=128)


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


def test_published_versions_and_aliases(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state.db")
    registry.put(version(memory=128), "first")
    assert registry.publish("f", "one") == registry.publish("f", "again") == 1, "nothing changed in between"
    registry.put(version(memory=256))
    assert registry.publish("f", "two") == 2
    registry.put(version(memory=512))
    registry.put_alias("f", "live", "1", (("2", 0.25),), "")
    record = registry.get("f")
    assert record and record.description == "first"

    def memory(qualifier: str, chance: float = 0.5) -> tuple[int, str] | None:
        found = record.resolve(qualifier, chance)
        return (found.function.options.memory, found.executed_version) if found else None

    assert memory("$LATEST") == (512, "$LATEST")
    assert memory("2") == (256, "2")
    assert memory("live", 0.24) == (256, "2") and memory("live", 0.25) == (128, "1")
    assert memory(version(memory=256).version) == (256, "2")
    assert memory("3") is memory("other") is memory("9" * 30) is memory("٣") is None
    assert list(record.users_of(2)) == ["live"]
    registry.unpublish("f", 2)
    registry.put(version(memory=64))
    assert registry.publish("f", "") == 3, "numbers are never used twice"
    assert registry.remove("f") and registry.db.execute("SELECT count(*) FROM versions").fetchone() == (0,)


def test_environments_and_secrets_are_not_readable_on_the_disk(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state.db")
    function = version()
    registry.put(replace(function, options=function.options._replace(env=(("K", "needle-in-env"),))))
    store = SecretStore(registry)
    store.set("PASSWORD", "needle-in-secret")
    id, secret = KeyStore(registry).create("laptop")
    registry.close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.name != "node.key")
    assert b"needle" not in content and secret.encode() not in content
    assert (tmp_path / "node.key").stat().st_mode & 0o777 == (tmp_path / "state.db").stat().st_mode & 0o777 == 0o600
    again = Registry(tmp_path / "state.db")
    assert latest(again, "f").options.env == (("K", "needle-in-env"),)
    assert SecretStore(again).get("PASSWORD") == "needle-in-secret"
    assert KeyStore(again).secrets() == {id: (secret, "")}
    again.db.execute("UPDATE secrets SET name = 'OTHER'")
    with pytest.raises(SealError, match="secret OTHER"):
        SecretStore(again).get("OTHER")


def test_a_key_file_that_is_not_the_one(tmp_path: Path) -> None:
    Registry(tmp_path / "state.db").put(version())
    (tmp_path / "node.key").write_bytes(bytes(32))
    with pytest.raises(SealError, match="not the one"):
        Registry(tmp_path / "state.db").list()
    (tmp_path / "node.key").write_bytes(b"short")
    with pytest.raises(SealError, match="no key of 32 bytes"):
        Registry(tmp_path / "state.db")


def test_a_database_of_the_first_format_is_migrated(tmp_path: Path) -> None:
    function = version()
    with sqlite3.connect(tmp_path / "state.db") as db:
        db.executescript((MIGRATIONS / "0001_functions.sql").read_text() + "PRAGMA user_version = 1;")
        options, lists = function.options.to_json(), (function.layers, function.package_paths, function.image_env)
        layers, paths, env = map(json.dumps, lists)
        row = ("digest", "f", "a.b", json.dumps(options), layers, function.python, paths, env, 1.0)
        db.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        db.execute("INSERT INTO functions VALUES ('f', 'digest', 1.0)")
    assert latest(Registry(tmp_path / "state.db"), "f") == function
