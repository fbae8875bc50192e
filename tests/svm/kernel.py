"""Debian's kernel for the machine that QEMU emulates: unpacked from its package, never installed.

`python -m tests.svm.kernel` (as `make test-svm` does) fetches and unpacks it below `build/svm/`.
"""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent.parent / "build" / "svm" / "kernel"
#: Always depends on the newest kernel of its kind: `linux-image-VERSION-cloud-amd64`.
META_PACKAGE = "linux-image-cloud-amd64"
MODULES = ("irqbypass", "kvm", "kvm-amd")


class NoKernel(Exception):
    """There is no kernel, and why."""


@dataclass(frozen=True)
class Kernel:
    """A bootable image, and KVM's modules in the order in which they are loaded."""

    image: Path
    modules: tuple[tuple[str, bytes], ...]


def find() -> Kernel:
    """Returns the kernel that was unpacked. Raises NoKernel."""
    images = sorted(FOLDER.glob("boot/vmlinuz-*"))
    if not images:
        raise NoKernel("no kernel is unpacked below build/svm: `make test-svm` fetches Debian's")
    return Kernel(images[-1], tuple((name, _module(name)) for name in MODULES))


def _module(name: str) -> bytes:
    """A module's file, without the compression that newer packages have."""
    found = sorted(FOLDER.rglob(f"{name}.ko*"))
    if not found:
        raise NoKernel(f"the kernel below {FOLDER} has no module {name}: remove the folder and try again")
    data = found[-1].read_bytes()
    match found[-1].suffix:
        case ".ko":
            return data
        case ".xz":
            return lzma.decompress(data)
        case ".gz":
            return gzip.decompress(data)
        case suffix:
            raise NoKernel(f"modules packed as {suffix} cannot be read: {found[-1]}")


def fetch() -> None:
    """Downloads and unpacks the package with apt's own settings. Raises NoKernel."""
    for tool in ("apt-cache", "apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise NoKernel(f"{tool} was not found: the kernel is a Debian package")
    package = re.search(r"Depends: (linux-image-[\w.+-]+)", _run(["apt-cache", "depends", META_PACKAGE]))
    if package is None:
        raise NoKernel(f"{META_PACKAGE} is unknown here: run `apt-get update`, or use Debian")
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as temporary:
        # Root's apt downloads as another user.
        Path(temporary).chmod(0o755)
        _run(["apt-get", "-o", "APT::Sandbox::User=root", "download", package[1]], cwd=temporary)
        archive = next(Path(temporary).glob("*.deb"))
        _run(["dpkg-deb", "-x", str(archive), f"{temporary}/kernel"])
        shutil.rmtree(FOLDER, ignore_errors=True)
        Path(temporary, "kernel").rename(FOLDER)


def _run(command: list[str], cwd: str | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoKernel(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    try:
        if not FOLDER.is_dir():
            fetch()
        find()
    except NoKernel as error:
        sys.exit(f"error: {error}")
