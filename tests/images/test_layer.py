"""Layers, checked by programs that are not ours: erofs-utils, and the kernel where it can mount."""

from __future__ import annotations

import os
import random
import stat
import subprocess
from pathlib import Path

import pytest

from kasoku.images.layer import Symlink, Tree, TreeError, add_bytecode, scan_directory, write_image

from .extract import extract, needs_fsck


def varied_tree(seed: int) -> Tree:
    """A tree with everything a layer can hold, its contents drawn at random."""
    draw = random.Random(seed)
    tree = Tree()
    for index in range(300):
        size = draw.choice([0, 1, 4095, 4096, 4097, draw.randrange(20_000)])
        tree.file(f"/files/d{index % 7}/f{index}", draw.randbytes(size), draw.choice([0o644, 0o755, 0o600]))
    for index in range(1500):
        tree.file(f"/many/entry-{index}", b"%d" % index)
    for index in range(40):
        tree.file(f"/long/{index:03}{'x' * (200 + index)}", b"long")
    tree.file("/" + "n" * 255, b"the longest name")
    tree.file(b"/not-utf8-\xff", b"a name is bytes")
    large = tree.file("/large", draw.randbytes((2 << 20) + 1), 0o755)
    tree.add("/files/hard", large)
    tree.symlink("/link", "files/d0")
    tree.symlink("/dangling", "/nowhere")
    tree.symlink("/longest", b"a/" * 2047 + b"b")
    tree.directory("/void", 0o700)
    return tree


@needs_fsck
@pytest.mark.parametrize("seed", range(3))
def test_extracted_tree_is_the_tree_that_was_written(tmp_path: Path, seed: int) -> None:
    tree = varied_tree(seed)
    image, out = tmp_path / "image", tmp_path / "out"
    write_image(tree, image)
    extract(image, out)
    expected = dict(tree.walk())
    seen = set()
    for directory, folders, files in os.walk(os.fsencode(out)):
        for name in folders + files:
            full = os.path.join(directory, name)
            path = full[len(os.fsencode(out)) + 1 :]
            seen.add(path)
            node, status = expected[path], os.lstat(full)
            if isinstance(node, Symlink):
                assert os.readlink(full) == node.target
            else:
                assert stat.S_IMODE(status.st_mode) & 0o777 == node.mode
            if stat.S_ISREG(status.st_mode):
                assert Path(os.fsdecode(full)).read_bytes() == getattr(node, "source", None)
    assert seen == expected.keys()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_kernel_mounts_it(tmp_path: Path) -> None:
    if "erofs" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no EROFS")
    image, point = tmp_path / "image", tmp_path / "mnt"
    write_image(varied_tree(7), image)
    point.mkdir()
    mount = subprocess.run(["mount", "-t", "erofs", "-o", "ro,loop", image, point], capture_output=True, check=False)
    if mount.returncode != 0:
        pytest.skip(f"no loop device here: {mount.stderr.decode().strip()}")
    try:
        assert len(list((point / "many").iterdir())) == 1500
        assert (point / "many/entry-1499").read_text() == "1499"
        assert not (point / "many/entry-1500").exists()
        assert (point / "large").stat().st_nlink == 2
        assert (point / "files").stat().st_nlink == 2 + 7
    finally:
        subprocess.run(["umount", point], check=True)


def test_same_tree_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_image(varied_tree(1), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_order_of_insertion_does_not_matter(tmp_path: Path) -> None:
    forward, backward = Tree(), Tree()
    names = [f"/d{index % 3}/f{index}" for index in range(50)]
    for name in names:
        forward.file(name, name.encode())
    for name in reversed(names):
        backward.file(name, name.encode())
    write_image(forward, tmp_path / "a")
    write_image(backward, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_large_files_begin_at_large_pages_and_contents_at_blocks(tmp_path: Path) -> None:
    tree = Tree()
    draw = random.Random(3)
    contents = {f"/f{index}": draw.randbytes(draw.choice([5000, 3 << 20])) for index in range(12)}
    for name, data in contents.items():
        tree.file(name, data)
    write_image(tree, tmp_path / "image")
    image = (tmp_path / "image").read_bytes()
    assert len(image) % (2 << 20) == 0
    for data in contents.values():
        assert image.index(data[:4096]) % ((2 << 20) if len(data) >= 2 << 20 else 4096) == 0
        assert data in image


@pytest.mark.parametrize("path", ["/a/../b", "/" + "n" * 256, "/a\0b", "/", ""])
def test_impossible_names_are_refused(path: str) -> None:
    with pytest.raises(TreeError):
        Tree().file(path, b"")


def test_a_place_is_taken_once() -> None:
    tree = Tree()
    tree.file("/a", b"")
    with pytest.raises(TreeError, match="twice"):
        tree.file("/a", b"")
    with pytest.raises(TreeError, match="not a directory"):
        tree.file("/a/b", b"")


def test_scan_refuses_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TreeError, match="pipe"):
        scan_directory(tmp_path)


def test_scan_never_follows_links(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "tree/link").symlink_to("../secret")
    (tmp_path / "tree/folder").symlink_to("/")
    children = scan_directory(tmp_path / "tree").children
    assert all(isinstance(child, Symlink) for child in children.values())


def test_file_that_changes_meanwhile_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"before")
    tree = Tree()
    tree.file("/f", source)
    source.write_bytes(b"and after")
    with pytest.raises(OSError, match="changed"):
        write_image(tree, tmp_path / "image")


def test_bytecode_is_reproducible_and_survives_bad_sources() -> None:
    def build() -> dict[bytes, object]:
        tree = Tree()
        tree.file("/lib/good.py", b"NAMES = {'a', 'b', 'c'}\ndef f(x): return x in {'p', 'q', 'r'}\n")
        tree.file("/lib/bad.py", b"def (:\n")
        tree.file("/lib/nul.py", b"a\0b")
        tree.file("/lib/deep.py", b"(" * 5000 + b")" * 5000)
        add_bytecode(tree.root, b"/")
        return {path: getattr(node, "source", None) for path, node in tree.walk() if path.endswith(b".pyc")}

    first, second = build(), build()
    assert first == second
    assert [path.split(b"/")[-1].split(b".")[0] for path in first] == [b"good"]
