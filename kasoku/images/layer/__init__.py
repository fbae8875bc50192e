"""What a layer is made from and how it is written: a tree of files, byte code for its Python sources, an EROFS image.

Only the standard library is used and only relative imports, because the wheel's build hook loads this package by its
folder to write `runtime.erofs`. The format is described in `docs/protocols/image.md`.
"""

from .bytecode import add_bytecode
from .runtime import write_runtime
from .scan import scan_directory
from .tree import Content, Directory, File, Node, Symlink, Tree, TreeError, fingerprint
from .writer import WriteError, settle, write_image

__all__ = [
    "Content",
    "Directory",
    "File",
    "Node",
    "Symlink",
    "Tree",
    "TreeError",
    "WriteError",
    "add_bytecode",
    "fingerprint",
    "scan_directory",
    "settle",
    "write_image",
    "write_runtime",
]
