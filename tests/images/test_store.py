"""Images and layers in their folder: what is there, what is missing, what has changed."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from kasoku.images.errors import ImageError
from kasoku.images.store import ImageStore

from .extract import extract, needs_fsck


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "function"
    folder.mkdir()
    (folder / "main.py").write_text("def handler(event, context):\n    return event\n")
    (folder / "data").write_bytes(os.urandom(5000))
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/main.cpython-311.pyc").write_bytes(b"stale")
    return folder


@needs_fsck
@pytest.mark.parametrize("at", ["/var/task", "/", "/deep/er/"])
def test_tree_appears_where_it_was_asked_for(store: ImageStore, tree: Path, tmp_path: Path, at: str) -> None:
    layer = store.build_tree_layer(tree, at)
    root = extract(store.layer_path(layer.digest), tmp_path / "out") / at.strip("/")
    assert (root / "main.py").read_text() == (tree / "main.py").read_text()
    assert (root / "data").read_bytes() == (tree / "data").read_bytes()
    assert b"stale" not in [path.read_bytes() for path in (root / "__pycache__").iterdir()]


def test_same_tree_same_digest_whatever_the_times(store: ImageStore, tree: Path) -> None:
    first = store.build_tree_layer(tree)
    os.utime(tree / "main.py", (1, 1))
    assert store.build_tree_layer(tree) == first
    (tree / "main.py").write_text("changed = True\n")
    assert store.build_tree_layer(tree).digest != first.digest


@pytest.mark.parametrize("at", ["var/task", "/a/../b", ""])
def test_place_must_be_absolute_and_straight(store: ImageStore, tree: Path, at: str) -> None:
    with pytest.raises(ImageError):
        store.build_tree_layer(tree, at)


def test_tree_must_be_a_directory_of_files(store: ImageStore, tree: Path) -> None:
    with pytest.raises(ImageError, match="not a directory"):
        store.build_tree_layer(tree / "main.py")
    with pytest.raises(ImageError, match="not a directory"):
        store.build_tree_layer(tree / "missing")
    (tree / ".wh.main.py").touch()
    with pytest.raises(ImageError, match=r"\.wh\."):
        store.build_tree_layer(tree)


def test_image_is_saved_loaded_and_removed(store: ImageStore, tree: Path) -> None:
    layer = store.build_tree_layer(tree)
    image = store.save("name", [layer], env={"A": "B"}, cwd="/var/task", args=["prog"])
    assert store.load("name") == image
    assert store.names() == ["name"]
    store.verify(image)
    assert not list(store.prune(set(), age_s=0))
    store.remove("name")
    with pytest.raises(ImageError, match="no image"):
        store.load("name")
    assert not list(store.prune({layer.digest}, age_s=0))
    assert not list(store.prune(set()))
    assert [digest for digest, _ in store.prune(set(), age_s=0)] == [layer.digest]
    with pytest.raises(ImageError, match="missing"):
        store.layer_path(layer.digest)


def test_changed_byte_is_found(store: ImageStore, tree: Path) -> None:
    layer = store.build_tree_layer(tree)
    image = store.save("name", [layer])
    path = store.layer_path(layer.digest)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(layer.size // 2)
        file.write(b"\x01")
    with pytest.raises(ImageError, match="corrupt"):
        store.verify(image)


def test_cut_layer_and_missing_layer_are_found_at_once(store: ImageStore, tree: Path) -> None:
    layer = store.build_tree_layer(tree)
    store.save("name", [layer])
    path = store.layer_path(layer.digest)
    path.chmod(0o644)
    os.truncate(path, 4096)
    with pytest.raises(ImageError, match="corrupt"):
        store.load("name")
    # Building again repairs it.
    assert store.build_tree_layer(tree) == layer
    store.verify(store.load("name"))
    path.unlink()
    with pytest.raises(ImageError, match="missing"):
        store.load("name")
    with pytest.raises(ImageError, match="missing"):
        store.layer_path(layer.digest)


@pytest.mark.parametrize("name", ["../name", "", "A", "a/b", ".hidden", "a" * 200, "a\n"])
def test_names_that_are_no_names(store: ImageStore, name: str) -> None:
    for act in (store.load, store.remove, lambda name: store.save(name, [])):
        with pytest.raises(ImageError):
            act(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{}",
        '{"name": "other", "layers": []}',
        '{"name": "bad", "layers": [{"digest": "sha256:../../x", "size": 1, "kind": "tree"}]}',
        '{"name": "bad", "layers": [{"digest": 5, "size": 1, "kind": "tree"}]}',
    ],
)
def test_description_that_is_none_is_an_error_that_names_the_file(store: ImageStore, text: str) -> None:
    store.images.mkdir(parents=True)
    (store.images / "bad.json").write_text(text)
    with pytest.raises(ImageError, match=r"bad\.json"):
        store.load("bad")


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../etc/passwd", "md5:" + "a" * 64, "sha256:" + "A" * 64])
def test_digests_that_are_no_digests(store: ImageStore, digest: str) -> None:
    with pytest.raises(ImageError, match="not a digest"):
        store.layer_path(digest)


def _build(arguments: tuple[Path, Path]) -> str:
    home, tree = arguments
    return ImageStore(home).build_tree_layer(tree).digest


def test_many_builders_at_once(tmp_path: Path, tree: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        digests = pool.map(_build, [(tmp_path / "home", tree)] * 8)
    assert len(set(digests)) == 1
    assert [path.name for path in (tmp_path / "home/layers").glob(".new-*")] == []
