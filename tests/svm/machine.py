"""An emulated machine with AMD SVM in which Kasoku runs its guests on `kvm_amd`.

QEMU's software emulation needs no `/dev/kvm` and no rights. Results leave by the second serial port, one line of
words each, so that no message of the kernel can get between them; the first is the kernel's console.
"""

from __future__ import annotations

import base64
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .initramfs import Initramfs
from .kernel import Kernel

ROOT = Path(__file__).resolve().parent.parent.parent
NATIVE = ROOT / "kasoku" / "_native"
LAUNCHER = Path(sys.prefix) / "bin" / "kasoku"
QEMU = "qemu-system-x86_64"
BOOT_LIMIT_S = 280
#: The state directory of `kasoku exec` in the emulated machine.
HOME = "/var/lib/kasoku"

_INIT = """\
#!/bin/busybox sh
export PATH=/bin:/usr/bin
busybox mount -t devtmpfs dev /dev
busybox mkdir -p /dev/pts
busybox mount -t devpts devpts /dev/pts
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t tmpfs tmp /tmp
exec 3>/dev/ttyS1
{modules}
text() {{
    busybox head -c 65536 "$1" | busybox base64 -w 0
}}
job() {{
    busybox timeout "$2" busybox sh -c "$3" </dev/null >/tmp/.out 2>/tmp/.err
    code=$?
    echo "$1 $code o$(text /tmp/.out) e$(text /tmp/.err)" >&3
}}
{jobs}
echo end >&3
busybox poweroff -f
"""


@dataclass(frozen=True)
class Job:
    """A command of the emulated machine's shell."""

    name: str
    command: str
    limit_s: int = 60


@dataclass(frozen=True)
class Result:
    """What a job said and returned; exit code 143 after its time limit."""

    code: int
    out: str
    err: str


class Failed(Exception):
    """The emulated machine did not come to its end; the message has what its console showed last."""


def root_files(kernel: Kernel) -> Initramfs:
    """A file system with busybox, KVM's modules and Kasoku."""
    root = Initramfs()
    busybox = shutil.which("busybox")
    assert busybox, "busybox is not installed"
    root.program(Path(busybox), "bin/busybox")
    for applet in ("cat", "echo", "ls", "sh", "sort", "wc"):
        root.link(f"bin/{applet}", "busybox")
    for name, data in kernel.modules:
        root.write(f"lib/modules/{name}.ko", data)
    root.program(LAUNCHER, "opt/kasoku/bin/kasoku")
    for name in ("kasoku-vmm", "kasoku-fsproxy"):
        root.program(NATIVE / name, f"opt/kasoku/native/{name}")
    for name in ("kasoku-libos", "runtime.erofs"):
        root.copy(NATIVE / name, f"opt/kasoku/native/{name}")
    for folder in ("dev", "proc", "sys", "tmp", "root", "var/tmp", "run"):
        root.write(f"{folder}/.keep", b"")
    root.write("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    return root


def guest(*program: str, options: tuple[str, ...] = ()) -> str:
    """The command that runs a program in a guest of the emulated machine."""
    command = ["/opt/kasoku/bin/kasoku", "exec", "--native-dir", "/opt/kasoku/native", "--home", HOME, "--mem", "256"]
    return shlex.join([*command, *options, "--", *program])


def run(kernel: Kernel, root: Initramfs, jobs: list[Job], folder: Path) -> dict[str, Result]:
    """Boots, runs the jobs one after the other, and returns their results. Raises Failed."""
    lines = "\n".join(f"job {job.name} {job.limit_s} {shlex.quote(job.command)}" for job in jobs)
    modules = "\n".join(f"busybox insmod /lib/modules/{name}.ko" for name, _ in kernel.modules)
    root.write("init", _INIT.format(modules=modules, jobs=lines).encode(), 0o755)
    archive, console, results = folder / "initramfs", folder / "console", folder / "results"
    root.save(archive)
    command = [QEMU, "-accel", "tcg,thread=multi", "-cpu", "max,+svm", "-machine", "q35", "-smp", "2", "-m", "2048"]
    command += ["-nodefaults", "-display", "none", "-no-reboot"]
    command += ["-serial", f"file:{console}", "-serial", f"file:{results}"]
    command += ["-kernel", str(kernel.image), "-initrd", str(archive)]
    command += ["-append", "console=ttyS0 panic=-1 oops=panic loglevel=5 mitigations=off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BOOT_LIMIT_S, check=False)
        trouble = done.stderr
    except subprocess.TimeoutExpired:
        trouble = f"not finished after {BOOT_LIMIT_S} s"
    finally:
        archive.unlink()
    found = _results(results.read_text(errors="replace") if results.exists() else "")
    if found is None:
        shown = console.read_text(errors="replace")[-4000:] if console.exists() else ""
        said = results.read_text(errors="replace")[-1000:] if results.exists() else ""
        raise Failed(f"the emulated machine failed: {trouble}\n{shown}\nresults so far: {said}")
    return found


def _results(text: str) -> dict[str, Result] | None:
    """The results that the machine sent; none where they do not reach the end."""
    lines = text.split("\n")
    if "end" not in [line.strip() for line in lines]:
        return None
    found = {}
    for line in lines:
        words = line.split()
        if len(words) == 4:
            name, code, out, err = words
            found[name] = Result(int(code), _decode(out), _decode(err))
    return found


def _decode(word: str) -> str:
    return base64.b64decode(word[1:]).decode(errors="replace")
