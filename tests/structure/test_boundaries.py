"""Who may touch what. Each rule is one that the design leans on."""

from __future__ import annotations

import ast
import re

from .repository import sources, text

#: Where Rust may be unsafe, and why. A folder ends with "/".
UNSAFE = {
    "guest/libos/src/arch/": "the processor: descriptors, entry, exceptions, context switches",
    "guest/libos/src/mm/": "page tables and frames",
    "guest/libos/src/boot.rs": "takes over what the VMM left in memory",
    "guest/libos/src/config.rs": "reads the configuration that the VMM left in memory",
    "guest/libos/src/user.rs": "the one place that copies from and to the program's memory",
    "guest/libos/src/dump.rs": "reads a crashed program's stack",
    "guest/libos/src/ipc/accel.rs": "words of a session that the broker shares",
    "guest/libos/src/ipc/pipe/ring.rs": "bytes of a pipe, filled where they lie",
    "guest/libos/src/ipc/socket/bytes.rs": "bytes of a socket, filled where they lie",
    "guest/libos/src/fs/data.rs": "pages of files as slices",
    "guest/libos/src/fs/host/": "the window that is shared with the file-system proxy",
    "guest/libos/src/fs/setup.rs": "layers as slices",
    "guest/libos/src/fs/erofs/tests.rs": "layers that a test makes and spoils",
    "guest/libos/src/fs/testing.rs": "layers that a test makes",
    "guest/libos/src/process/": "segments and stacks of programs",
    "guest/libos/src/sched/": "switching between threads",
    "guest/libos/src/syscall/thread.rs": "a thread's pointers",
    "guest/accel_client/": "shared memory, in a library without a standard library",
    "guest/opencl/": "the C ABI of OpenCL",
    "host/vmm/src/kvm/": "KVM's ioctls",
    "host/vmm/src/memory/": "guest memory, which the guest changes at any time",
    "host/vmm/src/sys.rs": "system calls that no crate wraps",
    "host/vmm/src/hypercall/tests.rs": "calls with every argument wrong",
    "host/vmm/tests/": "builds guests",
    "host/fsproxy/": "the window that is shared with the guest; inherited descriptors",
    "host/broker/": "shared memory, inherited descriptors, forked children",
    "host/backends/": "the C ABI of a vendor's library",
}
#: Packages that decide: the view, the time and chance are arguments.
PURE = ("balancer", "scheduler", "autoscaler", "leases", "tenants")
PURE_IMPORTS = {"bisect", "collections", "dataclasses", "enum", "functools", "heapq", "itertools", "math", "typing"}


def imports(name: str) -> set[str]:
    """The modules that a Python file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text(name))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return found


def code(name: str) -> str:
    """A Rust file without its comments."""
    return re.sub(r"//[^\n]*", "", text(name))


def test_only_the_kvm_tender_speaks_kvm() -> None:
    users = [name for name in sources(".rs") if re.search(r"\bkvm_(ioctls|bindings)\b", code(name))]
    assert users
    assert [name for name in users if not name.startswith("host/vmm/src/kvm/")] == []


def test_only_cluster_imports_ray() -> None:
    users = [name for name in sources(".py") if any(module.split(".")[0] == "ray" for module in imports(name))]
    assert [name for name in users if not name.startswith("kasoku/cluster/")] == []


def test_only_backends_load_libraries_of_vendors() -> None:
    pattern = r"\blibloading\b|\bdlopen\b"
    users = [name for name in sources(".rs") if re.search(pattern, code(name))]
    assert [name for name in users if not name.startswith("host/backends/")] == []


def test_unsafe_is_where_it_is_allowed() -> None:
    pattern = r"\bunsafe\s*(\{|fn\b|impl\b|extern\b|trait\b)"
    users = [name for name in sources(".rs") if re.search(pattern, code(name))]
    assert [name for name in users if not name.startswith(tuple(UNSAFE))] == []


def test_allowances_are_used() -> None:
    names = sources(".rs")
    assert [place for place in UNSAFE if not any(name.startswith(place) for name in names)] == []


def test_deciding_is_pure() -> None:
    for package in PURE:
        for name in sources(".py", under=f"kasoku/{package}/"):
            used = imports(name) - {"__future__"}
            foreign = {
                m for m in used if m.split(".")[0] not in PURE_IMPORTS and m.split(".")[:2] != ["kasoku", package]
            }
            assert not foreign, f"{name} imports {foreign}"


def test_agent_and_gateway_never_load_code_of_tenants() -> None:
    forbidden = {"pickle", "cloudpickle", "dill", "runpy", "marshal", "shelve"}
    for name in sources(".py", under="kasoku/"):
        if name.startswith(("kasoku/gateway/", "kasoku/node/", "kasoku/controller/", "kasoku/registry/")):
            assert not imports(name) & forbidden, name
            assert not re.search(r"\b(eval|exec|__import__|import_module)\(", text(name)), name


def test_abi_has_no_pointers_and_no_platform_sizes() -> None:
    for name in sources(".rs", under="abi/src/"):
        for struct in re.findall(r"#\[repr\(C[^)]*\)\]\s*pub struct \w+\s*\{(.*?)\n\}", code(name), re.S):
            assert not re.search(r":\s*(&|\*const|\*mut|usize|isize|bool|char)\b", struct), name
