"""Requirements become layers of wheels; whatever a wheel says, nothing of it runs here and nothing of it lands here."""

from __future__ import annotations

import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from kasoku.images.errors import ImageError
from kasoku.images.python_layer import PREFIX, SITE_PACKAGES, VERSION
from kasoku.images.requirements import normalise, read_requirements
from kasoku.images.store import ImageStore

from .extract import extract, needs_fsck
from .wheelhouse import make_wheel


@needs_fsck
def test_wheels_are_laid_out_as_an_installer_does(store: ImageStore, index: Path, tmp_path: Path) -> None:
    make_wheel(
        index,
        "top",
        {
            "top/__init__.py": "VALUE = 1\n",
            "top-1.0.data/purelib/pure.py": "",
            "top-1.0.data/platlib/native.so": b"\x7fELF",
            "top-1.0.data/scripts/tool": "#!python\nprint('tool')\n",
            "top-1.0.data/scripts/binary": b"\x7fELF binary",
            "top-1.0.data/data/share/top/data.txt": "data",
            "top-1.0.data/headers/top.h": "int x;",
        },
        requires=("below>=1",),
        entry_points="[console_scripts]\nrun-top = top.cli:main.start\n\n[other]\nx = y\n",
    )
    make_wheel(index, "below", {"below.py": "import top\n", "templates/bad.py": "{{ not python }}"})
    make_wheel(index, "unrelated", {"unrelated.py": ""})
    layer = store.ensure_requirements_layer(["top"])
    root = extract(store.layer_path(layer.digest), tmp_path / "out")
    site, prefix = root / SITE_PACKAGES[1:], root / PREFIX[1:]
    assert (site / "top/__init__.py").read_text() == "VALUE = 1\n"
    assert (site / "pure.py").is_file() and (site / "native.so").is_file() and (site / "below.py").is_file()
    assert not (site / "unrelated.py").exists()
    assert (prefix / "bin/tool").read_text() == f"#!{PREFIX}/bin/python3\nprint('tool')\n"
    assert (prefix / "bin/tool").stat().st_mode & 0o111
    assert (prefix / "bin/binary").read_bytes() == b"\x7fELF binary"
    assert (prefix / "share/top/data.txt").read_text() == "data"
    assert (prefix / f"include/{VERSION}/top/top.h").is_file()
    assert "from top.cli import main\nsys.exit(main.start())" in (prefix / "bin/run-top").read_text()
    assert (site / f"top/__pycache__/__init__.{sys.implementation.cache_tag}.pyc").is_file()
    assert (site / "templates/bad.py").is_file()


def test_same_requirements_same_layer_and_refresh_resolves_again(
    store: ImageStore, index: Path, tmp_path: Path
) -> None:
    make_wheel(index, "thing", {"thing.py": "VERSION = 1\n"})
    first = store.ensure_requirements_layer(["thing"])
    make_wheel(index, "thing", {"thing.py": "VERSION = 2\n"}, version="2.0")
    assert store.ensure_requirements_layer(["thing"]) == first
    second = store.ensure_requirements_layer(["thing"], refresh=True)
    assert second.digest != first.digest
    assert store.ensure_requirements_layer(["thing"]) == second
    assert ImageStore(tmp_path / "other").ensure_requirements_layer(["thing==1.0"]).digest == first.digest


@pytest.mark.parametrize(
    "member",
    ["../outside.py", "a/../../outside.py", "/etc/passwd", "a\\..\\b.py", "x-1.0.data/nowhere/file", ".wh.os.py"],
)
def test_members_that_lead_elsewhere_are_refused(store: ImageStore, index: Path, member: str) -> None:
    make_wheel(index, "x", {member: "evil"})
    with pytest.raises(ImageError, match=r"x-1\.0-py3-none-any\.whl"):
        store.ensure_requirements_layer(["x"])


def test_file_and_directory_in_one_place_are_refused(store: ImageStore, index: Path) -> None:
    make_wheel(index, "x", {"same": "file", "same/below.py": ""})
    with pytest.raises(ImageError, match="not a directory"):
        store.ensure_requirements_layer(["x"])


@pytest.mark.parametrize(
    "line", ["run = os:system('x')", "run = a;import os:b", "../run = a:b", "run = a", "/bin/sh = a:b"]
)
def test_malformed_entry_points_are_refused(store: ImageStore, index: Path, line: str) -> None:
    make_wheel(index, "x", {"x.py": ""}, entry_points=f"[console_scripts]\n{line}\n")
    with pytest.raises(ImageError, match=r"entry_points\.txt"):
        store.ensure_requirements_layer(["x"])


def test_member_longer_than_it_says_is_refused(store: ImageStore, index: Path) -> None:
    wheel = make_wheel(index, "x", {"x.bin": bytes(1000)})
    data = bytearray(wheel.read_bytes())
    central = data.rindex(b"PK\x01\x02", 0, data.rindex(b"x.bin"))
    struct.pack_into("<I", data, central + 24, 500)
    wheel.write_bytes(data)
    with pytest.raises(ImageError):
        store.ensure_requirements_layer(["x"])


def test_member_with_a_wrong_sum_is_refused(store: ImageStore, index: Path) -> None:
    wheel = make_wheel(index, "x", {"x.bin": bytes(1000)})
    data = bytearray(wheel.read_bytes())
    central = data.rindex(b"PK\x01\x02", 0, data.rindex(b"x.bin"))
    struct.pack_into("<I", data, central + 16, 0xBAD)
    wheel.write_bytes(data)
    with pytest.raises(ImageError):
        store.ensure_requirements_layer(["x"])


def test_nothing_that_a_wheel_depends_on_is_built(store: ImageStore, index: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    source = tmp_path / "evil-1.0"
    source.mkdir()
    (source / "backend.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (source / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: evil\nVersion: 1.0\n")
    archive = tmp_path / "evil-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, "evil-1.0")
    for name, url in [
        ("archive", archive.as_uri()),
        ("folder", source.as_uri()),
        ("repository", f"git+{source.as_uri()}"),
    ]:
        make_wheel(index, name, {f"{name}.py": ""}, requires=(f"evil @ {url}",))
        with pytest.raises(ImageError):
            store.ensure_requirements_layer([name])
        assert not marker.exists(), name
    # The trap is real: pip by itself does build it.
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "archive",
        "--only-binary=:all:",
        "-d",
        str(tmp_path / "out"),
    ]
    subprocess.run(command, capture_output=True, check=False)
    assert marker.exists()


@pytest.mark.parametrize(
    "line",
    [
        "-e .",
        "--index-url=http://127.0.0.1/",
        "-r /etc/passwd",
        "./local",
        "/etc/passwd",
        "x @ file:///etc/passwd",
        "x @ git+https://127.0.0.1/x",
        "https://127.0.0.1/x.tar.gz",
        "x; import os",
        "",
    ],
)
def test_only_names_and_versions_are_requirements(line: str) -> None:
    with pytest.raises(ImageError):
        normalise(line)


def test_requirements_file(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    digest = "a" * 64
    file.write_text(
        "# comment\n\nnumpy >= 2 , < 3 # why\nuvicorn[standard]==0.30 ; python_version > '3'\n"
        f"thing==1 \\\n    --hash=sha256:{digest}\n"
    )
    assert read_requirements(file) == [
        "numpy<3,>=2",
        'uvicorn[standard]==0.30; python_version > "3"',
        f"thing==1 --hash=sha256:{digest}",
    ]
    file.write_text("numpy\n-r other.txt\n")
    with pytest.raises(ImageError, match="line 2"):
        read_requirements(file)
    with pytest.raises(ImageError, match="cannot be read"):
        read_requirements(tmp_path / "missing")


def test_what_pip_cannot_find_is_named(store: ImageStore, index: Path) -> None:
    with pytest.raises(ImageError, match="no-such-package"):
        store.ensure_requirements_layer(["no-such-package"])
    assert not [path for path in store.layers.folder.iterdir() if path.name.startswith(".wheels")]
