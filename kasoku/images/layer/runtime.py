"""The layer that Kasoku lays on top of every image: virtual libraries and function runners."""

from __future__ import annotations

from pathlib import Path

from .bytecode import add_bytecode
from .scan import scan_directory
from .tree import Directory, File, Tree
from .writer import write_image

HOME = "/usr/lib/kasoku"
VENDORS = "/etc/OpenCL/vendors"
OPENCL_LIBRARY = "libkasoku_opencl.so"


#: The part of the Python package that a function file imports (`import kasoku`).
_SDK = ("__init__.py", "home.py", "sdk")


def write_runtime(target: Path, *, opencl_library: Path | None, runner: Path, package: Path) -> None:
    """Writes `runtime.erofs` from the virtual OpenCL, `guest/runner` and the folder of the package `kasoku`.

    It hides the OpenCL drivers of the layers below: they would find no device in a guest.
    """
    tree = Tree()
    tree.file(f"{VENDORS}/.wh..wh..opq", b"")
    if opencl_library is not None:
        tree.file(f"{VENDORS}/kasoku.icd", f"{HOME}/{OPENCL_LIBRARY}\n".encode())
        tree.file(f"{HOME}/{OPENCL_LIBRARY}", opencl_library, 0o755)
    if runner.is_dir():
        tree.directory(HOME).children[b"runner"] = _sources(runner)
    kasoku = tree.directory(f"{HOME}/sdk/python/kasoku")
    for name in _SDK:
        if (package / name).is_dir():
            kasoku.children[name.encode()] = _sources(package / name)
        else:
            tree.file(f"{HOME}/sdk/python/kasoku/{name}", package / name)
    tree.file(f"{HOME}/sdk/python/snapshot_restore_py.py", package / "sdk" / "snapshot_restore_py.py")
    add_bytecode(tree.directory(HOME), HOME.encode())
    write_image(tree, target)


def _sources(folder: Path) -> Directory:
    """Scans a folder of a checkout, without what an interpreter left in it."""
    sources = scan_directory(folder, skip=lambda path, _: path.endswith((b".pyc", b"__pycache__")))
    _publish(sources)
    return sources


def _publish(directory: Directory) -> None:
    """Makes all readable: the modes of a checkout are those of whoever made it."""
    directory.mode = 0o755
    for child in directory.children.values():
        if isinstance(child, Directory):
            _publish(child)
        elif isinstance(child, File):
            child.mode = 0o644
