"""Volumes: made here, seen by real guests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kasoku.cli.main import cli
from kasoku.sdk.errors import KasokuError
from kasoku.volumes.store import VolumeStore
from tests.conftest import Server

KASOKU = Path(sys.prefix) / "bin" / "kasoku"


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["volume", *arguments, "--home", str(home)])


def exec_guest(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(KASOKU), "exec", "--home", str(home), *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/model.bin").write_bytes(os.urandom(3 << 20) + b"end")
    (folder / "link").symlink_to("deep/model.bin")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/kept").write_text("kept")
    return folder


def test_a_guest_sees_the_directory_as_it_was(weights: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    VolumeStore(home).create("weights", weights)
    expected = subprocess.run(["sha256sum", weights / "link"], capture_output=True, text=True, check=True).stdout[:64]
    (weights / "deep/model.bin").write_text("changed")
    script = (
        "sha256sum /models/v1/link; ls -a /models/v1; cat /models/v1/__pycache__/kept; "
        "grep ' /models/v1 ' /proc/mounts; "
        "echo x > /models/v1/new; rm /models/v1/link; touch /models/beside && echo beside"
    )
    done = exec_guest(home, "--volume", "weights:/models/v1", "--", "sh", "-c", script)
    lines = done.stdout.splitlines()
    assert lines[0].split()[0] == expected, done
    assert lines[1:6] == [".", "..", "__pycache__", "deep", "link"]
    assert lines[6] == "keptvolume0 /models/v1 erofs ro,noatime 0 0"
    assert lines[7] == "beside"
    assert done.stderr.count("Read-only file system") == 2


def test_two_volumes_and_an_image(weights: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    other = tmp_path / "other"
    other.mkdir()
    (other / "name").write_text("other\n")
    VolumeStore(home).create("one", weights)
    VolumeStore(home).create("two", other)
    options = ["--volume", "one:/a", "--volume", "two:/a b/c"]
    done = exec_guest(home, *options, "--", "sh", "-c", "ls /a; cat '/a b/c/name'")
    assert (done.returncode, done.stdout) == (0, "__pycache__\ndeep\nlink\nother\n"), done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--volume", "missing:/x"], "kasoku volume ls"),
        (["--volume", "../x:/x"], "not the name of a volume"),
        (["--volume", "weights:/"], "no place for a volume"),
        (["--volume", "weights:/a/../b"], "no place for a volume"),
        (["--volume", "weights:/x", "--volume", "weights:/x/"], "the same place"),
        (["--volume", "weights:/x", "--mount", "/usr:/x:ro"], "the same place"),
    ],
)
def test_what_cannot_be_mounted(weights: Path, tmp_path: Path, options: list[str], words: str) -> None:
    home = tmp_path / "home"
    VolumeStore(home).create("weights", weights)
    done = exec_guest(home, *options, "--", "true")
    assert done.returncode == 125
    assert words in done.stderr


def test_damage_is_found(weights: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    store = VolumeStore(home)
    path = store.layers.path(store.create("weights", weights))
    assert "verified" in run(home, "inspect", "weights").output
    path.chmod(0o600)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(KasokuError, match="its bytes have changed"):
        raise run(home, "inspect", "weights").exception or AssertionError
    path.write_bytes(b"\0" * len(whole))
    done = exec_guest(home, "--volume", "weights:/x", "--", "true")
    assert done.returncode == 125 and "volume" in done.stderr
    path.write_bytes(whole[:-4096])
    done = exec_guest(home, "--volume", "weights:/x", "--", "true")
    assert done.returncode == 125 and "create the volume again" in done.stderr
    path.unlink()
    done = exec_guest(home, "--volume", "weights:/x", "--", "true")
    assert done.returncode == 125 and "create the volume again" in done.stderr


def test_create_list_replace_remove(weights: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert run(home, "create", "weights", str(weights)).exit_code == 0
    first = json.loads(run(home, "ls", "--json").output)
    assert [row["name"] for row in first] == ["weights"] and first[0]["kind"] == "volume"
    (weights / "more").write_text("more")
    assert run(home, "create", "weights", str(weights)).exit_code == 0
    assert json.loads(run(home, "ls", "--json").output)[0]["digest"] != first[0]["digest"]
    assert run(home, "rm", "weights").exit_code == 0
    assert json.loads(run(home, "ls", "--json").output) == []
    for arguments, words in [
        (["rm", "weights"], "no volume 'weights'"),
        (["create", "Weights", str(weights)], "cannot name a volume"),
        (["create", "x", str(weights / "missing")], "not a directory"),
        (["create", "x", "/dev/shm/../null"], "not a directory"),
    ]:
        with pytest.raises(KasokuError, match=words):
            raise run(home, *arguments).exception or AssertionError


def test_a_function_has_its_volumes(real: Server, weights: Path) -> None:
    source = """
        import os
        def handler(event, context):
            return [os.path.getsize("/models/link"), os.access("/models", os.W_OK)]
    """
    with pytest.raises(KasokuError, match="no volume 'weights'"):
        real.deploy("with-volume", source, volumes={"/models": "weights"})
    VolumeStore(real.home).create("weights", weights)
    real.deploy("with-volume", source, volumes={"/models": "weights"})
    assert real.call("with-volume").result == [(3 << 20) + 3, False]
    with pytest.raises(KasokuError, match="used by with-volume"):
        raise run(real.home, "rm", "weights").exception or AssertionError
    real.gateway.json("DELETE", "/v1/functions/with-volume")
    assert run(real.home, "rm", "weights").exit_code == 0
