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


def write_runtime(target: Path, *, opencl_library: Path | None, runner: Path) -> None:
    """Writes `runtime.erofs`. It hides the OpenCL drivers of the layers below: they would find no device in a guest."""
    tree = Tree()
    tree.file(f"{VENDORS}/.wh..wh..opq", b"")
    if opencl_library is not None:
        tree.file(f"{VENDORS}/kasoku.icd", f"{HOME}/{OPENCL_LIBRARY}\n".encode())
        tree.file(f"{HOME}/{OPENCL_LIBRARY}", opencl_library, 0o755)
    if runner.is_dir():
        sources = scan_directory(runner, skip=lambda path, _: path.endswith((b".pyc", b"__pycache__")))
        _publish(sources)
        tree.directory(HOME).children[b"runner"] = sources
        add_bytecode(sources, f"{HOME}/runner".encode())
    write_image(tree, target)


def _publish(directory: Directory) -> None:
    """Makes all readable: the modes of a checkout are those of whoever made it."""
    directory.mode = 0o755
    for child in directory.children.values():
        if isinstance(child, Directory):
            _publish(child)
        elif isinstance(child, File):
            child.mode = 0o644
