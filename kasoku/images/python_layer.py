"""The bottom layer of a Python image: this machine's own interpreter, moved to /usr/local, and what it needs to run.

The interpreter is the one that runs Kasoku, so wheels that `pip` picks here fit there. Left out: the packages installed
for it (a function names its own), its test suite, what needs a screen, and what only compilers use. The rest of a
system is reduced to what programs open without being asked: the C library's parts, `/bin/sh`, certificates, time zones,
`/etc`.
"""

from __future__ import annotations

import os
import ssl
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from kasoku.images.elf import read_elf
from kasoku.images.errors import ImageError
from kasoku.images.layer import Directory, File, Tree, add_bytecode, scan_directory
from kasoku.images.libraries import closure

PREFIX = "/usr/local"
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
#: The interpreter's path in every guest whose image has this layer.
PYTHON_EXECUTABLE = f"{PREFIX}/bin/python3"
STDLIB = f"{PREFIX}/{sys.platlibdir}/{VERSION}"
SITE_PACKAGES = f"{STDLIB}/site-packages"

_LEFT_OUT_FOLDERS = frozenset(
    [b"__pycache__", b"site-packages", b"dist-packages", b"test", b"tests", b"idlelib", b"tkinter", b"turtledemo"]
)
_LEFT_OUT_FILES = (b".a", b".exe", b".pyc", b".orig")
_LEFT_OUT_NAMES = (b"config-", b"_tkinter.", b"_test", b"turtle.py", b"EXTERNALLY-MANAGED")
#: Libraries that wheels may expect of any system (PEP 600), and those that the C library loads by name.
_EXPECTED_LIBRARIES = (
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libstdc++.so.6",
    "libutil.so.1",
    "libz.so.1",
)
#: Programs that Python's own library starts (`shell=True`, scripts with `#!/usr/bin/env`), and the few that scripts
#: expect.
_PROGRAMS = ("sh", "env", "cat", "echo", "ls", "mkdir", "rm", "sleep", "true", "false", "uname")
_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "shells": "/bin/sh\n",
}


def python_tree() -> Tree:
    """Collects the layer, byte code not yet included. Raises ImageError where this interpreter cannot be moved."""
    if sys.implementation.name != "cpython":
        raise ImageError(f"an image is made from CPython; this is {sys.implementation.name}")
    tree = Tree()
    _system_folders(tree)
    executable = Path(sys.executable).resolve()
    programs = [executable, *_interpreter(tree, executable)]
    for name in _PROGRAMS:
        program = next((path for folder in ("/usr/bin", "/bin") if (path := Path(folder) / name).is_file()), None)
        if program is not None:
            tree.file(f"/usr/bin/{name}", program.resolve(), 0o755)
            programs.append(program.resolve())
    _libraries(tree, executable, programs)
    _certificates(tree)
    for folder in ("/usr/share/zoneinfo", "/usr/lib/locale/C.utf8"):
        if Path(folder).is_dir():
            _graft(tree, folder, scan_directory(Path(folder), skip=_is_zone_duplicate))
    for name, text in _ETC.items():
        tree.file(f"/etc/{name}", text.encode())
    return tree


def compile_python_tree(tree: Tree) -> None:
    """Adds the byte code of the standard library."""
    add_bytecode(tree.directory(STDLIB), STDLIB.encode())


def _system_folders(tree: Tree) -> None:
    for name in ("dev", "proc", "sys", "run", "var/task", "home", "mnt", "opt", "srv", "usr/sbin"):
        tree.directory(f"/{name}")
    tree.directory("/root", 0o700)
    tree.directory("/tmp", 0o1777)
    tree.directory("/var/tmp", 0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        tree.directory(f"/usr/{name}")
        tree.symlink(f"/{name}", f"usr/{name}")


def _interpreter(tree: Tree, executable: Path) -> Iterator[Path]:
    """Adds the interpreter and its library; yields the extension modules."""
    tree.file(f"{PREFIX}/bin/{VERSION}", executable, 0o755)
    tree.symlink(PYTHON_EXECUTABLE, VERSION)
    tree.symlink(f"{PREFIX}/bin/python", VERSION)
    standard = Path(sysconfig.get_path("stdlib"))
    platform = Path(sysconfig.get_path("platstdlib"))
    for source in dict.fromkeys(path.resolve() for path in (standard, _base(platform))):
        if not (source / "os.py").is_file() and not (source / "lib-dynload").is_dir():
            raise ImageError(f"{source} is not the library of {executable}: is this Python installed completely?")
        _graft(tree, STDLIB, scan_directory(source, skip=_is_left_out))
    tree.directory(SITE_PACKAGES)
    if "deb_system" in sysconfig.get_scheme_names():
        # Debian's interpreter looks for packages under another name.
        tree.symlink(f"{STDLIB}/dist-packages", "site-packages")
    for _, node in tree.walk():
        if isinstance(node, File) and isinstance(node.source, Path) and node.source.suffix == ".so":
            yield node.source


def _base(path: Path) -> Path:
    """Maps a path in a virtual environment to that of the interpreter it was made from."""
    if path.is_relative_to(sys.prefix) and sys.prefix != sys.base_prefix:
        return Path(sys.base_prefix) / path.relative_to(sys.prefix)
    return path


def _is_left_out(path: bytes, entry: os.DirEntry[bytes]) -> bool:
    name = entry.name
    if entry.is_dir(follow_symlinks=False):
        return name in _LEFT_OUT_FOLDERS or name.startswith(_LEFT_OUT_NAMES)
    return name.endswith(_LEFT_OUT_FILES) or name.startswith(_LEFT_OUT_NAMES)


def _is_zone_duplicate(path: bytes, _entry: object) -> bool:
    return path in (b"posix", b"right") or path.endswith(b"localtime")


def _libraries(tree: Tree, executable: Path, programs: list[Path]) -> None:
    """Puts all libraries into the folder that the loader searches without being told: that of the C library."""
    loader = read_elf(executable).interpreter
    if loader is None:
        raise ImageError(f"{executable} is linked statically: it could not load extension modules in an image either")
    found, missing = closure(programs, _EXPECTED_LIBRARIES)
    if missing:
        raise ImageError(f"{executable} needs libraries that are not installed: {', '.join(sorted(missing))}")
    libc = next((path for name, path in found.items() if name.startswith(("libc.so", "libc.musl"))), Path(loader))
    home = "/" + str(libc.resolve().parent).strip("/")
    home = home if home.startswith("/usr/") else f"/usr{home}"
    for name, path in sorted(found.items()):
        tree.file(f"{home}/{name}", path.resolve(), 0o755)
    place = loader if loader.startswith("/usr/") else f"/usr{loader}"
    if tree.get(place) is None:
        tree.file(place, Path(loader).resolve(), 0o755)


def _certificates(tree: Tree) -> None:
    bundle = next((path for name in _CERTIFICATES if (path := Path(name)).is_file()), None)
    if bundle is None:
        return
    tree.file(_CERTIFICATES[0], bundle.resolve())
    compiled_in = ssl.get_default_verify_paths().openssl_cafile
    if compiled_in.startswith("/") and tree.get(compiled_in) is None:
        tree.symlink(compiled_in, _CERTIFICATES[0])


def _graft(tree: Tree, path: str, source: Directory) -> None:
    """Merges a scanned directory into the tree, links into the host's file system left out: they would lead nowhere."""
    target = tree.directory(path)
    for name, node in source.children.items():
        below = f"{path}/{os.fsdecode(name)}"
        if isinstance(node, Directory):
            _graft(tree, below, node)
        elif isinstance(node, File):
            if name not in target.children:
                node.mode = 0o755 if node.mode & 0o111 else 0o644
                target.children[name] = node
        elif not node.target.startswith(b"/"):
            target.children.setdefault(name, node)
