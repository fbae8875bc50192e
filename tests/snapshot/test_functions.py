"""Functions that start from snapshots, over HTTP, in real virtual machines."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kasoku.node.snapshots.file import Manifest, read_manifest
from kasoku.node.snapshots.store import SnapshotStore
from tests.conftest import Server, eventually, start_real


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_real(tmp_path_factory.mktemp("home") / "home", snapshots=True)
    yield running
    running.stop()


def manifest(server: Server, name: str) -> Manifest:
    return read_manifest(files(server, name)[0])


def files(server: Server, name: str) -> list[Path]:
    folder = server.home / "snapshots"
    found = SnapshotStore(folder).entries()
    return [folder / f"{id}.snapshot" for id, _, m in found if isinstance(m, Manifest) and m.key["function"] == name]


def deploy(server: Server, name: str, source: str, **options: Any) -> None:
    """Deploy and wait for the snapshot."""
    server.deploy(name, source, idle_timeout=0, **options)

    def made() -> bool:
        assert "instances boot" not in log(server, name), log(server, name)
        return bool(files(server, name))

    eventually(made, f"a snapshot of {name}")


def log(server: Server, name: str) -> str:
    return server.gateway.request("GET", f"/v1/functions/{name}/logs")[2].decode()


def was_restored(answer: Any) -> bool:
    return "restore" in answer.detail["timings_ms"]


STATE = """
import json, os, sys, time
import snapshot_restore_py as hooks
order = []
hooks.register_before_snapshot(order.append, "before 1")
hooks.register_before_snapshot(order.append, "before 2")
hooks.register_after_restore(order.append, "after 1")
@hooks.register_after_restore
def last():
    order.append("after 2")
opened = open("/tmp/kept", "w+")
opened.write("kept")
opened.flush()
begun = time.monotonic()
imported = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
calls = 0
def handler(event, context):
    global calls
    calls += 1
    with open("/dev/kasoku/generation", "rb") as file:
        generation = int.from_bytes(file.read(), "little")
    opened.seek(0)
    return {"order": order, "calls": calls, "file": opened.read(), "env": os.environ.get("SECRET"), "now": time.time(),
            "age": time.monotonic() - begun, "name": imported, "generation": generation, "log": context.log_stream_name}
"""


def test_an_instance_goes_on_where_the_function_was_ready(server: Server) -> None:
    import time

    deploy(server, "state", STATE, env={"SECRET": "s3cret"}, memory=128)
    answers = [server.call("state") for _ in range(2)]
    assert all(map(was_restored, answers)), (answers[0].detail, log(server, "state"))
    first, second = (answer.result for answer in answers)
    assert first["order"] == ["before 2", "before 1", "after 1", "after 2"]
    assert (first["calls"], second["calls"]) == (1, 1)
    assert (first["file"], first["env"], first["name"]) == ("kept", "s3cret", "state")
    assert abs(first["now"] - time.time()) < 60
    assert 0 < first["age"] < 60
    assert 0 != first["generation"] != second["generation"] != 0
    assert first["log"] != second["log"]
    assert "Restore Duration" in log(server, "state")
    assert all(b"s3cret" not in path.read_bytes() for path in files(server, "state"))


RANDOM = """
import ctypes, os, random, secrets, ssl, tempfile, uuid
import numpy, numpy.random
mine, seeded = random.Random(), random.Random(5)
generator, state = numpy.random.default_rng(), numpy.random.RandomState(3)
other, kept = numpy.random.RandomState(numpy.random.PCG64(4)), numpy.random.RandomState(5)
kept.standard_normal()  # it draws two and keeps one
random.random(); ssl.RAND_bytes(1); numpy.random.bytes(1); next(tempfile._get_candidate_names())
def handler(event, context):
    sources = {
        "getrandom": os.getrandom(32), "urandom": os.urandom(32), "device": open("/dev/urandom", "rb").read(32),
        "random": random.randbytes(32), "instance": mine.randbytes(32), "seeded": seeded.randbytes(32),
        "secrets": secrets.token_bytes(32), "uuid": uuid.uuid4().bytes, "ssl": ssl.RAND_bytes(32),
        "numpy": numpy.random.bytes(32), "generator": generator.bytes(32), "state": state.bytes(32),
        "other": other.bytes(32), "kept": kept.standard_normal().hex().encode(),
        "tempfile": next(tempfile._get_candidate_names()).encode(),
    }
    return {name: value.hex() for name, value in sources.items()}
"""


def test_clones_share_no_randomness(server: Server, request: pytest.FixtureRequest) -> None:
    deploy(server, "random", RANDOM, requirements=["numpy"], memory=256)
    count = request.config.getoption("--clones")
    answers = [server.call("random") for _ in range(count)]
    assert all(map(was_restored, answers)), log(server, "random")
    for source in answers[0].result:
        drawn = [answer.result[source] for answer in answers]
        assert len(set(drawn)) == count, source


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(path.read_bytes()[:-5])])
def test_a_damaged_snapshot_is_made_anew(damage: Callable[[Path], None], tmp_path: Path) -> None:
    home = tmp_path / "home"
    server = start_real(home, snapshots=True)
    deploy(server, "hello", "def handler(event, context):\n    return 1\n", memory=64)
    (path,) = files(server, "hello")
    server.stop()
    damage(path)
    before = path.read_bytes()
    server = start_real(home, snapshots=True)
    eventually(lambda: path.read_bytes() != before, "another snapshot")
    eventually(lambda: was_restored(server.call("hello")), "a restored instance")
    assert "made anew: chunk" in log(server, "hello")
    server.stop()


WARM = """
import ctypes, os
calls = []
def handler(event, context):
    calls.append((event, context.aws_request_id == "warm-up"))
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    key = getenv(b"KEY")
    return {"calls": list(calls), "key": key and key.decode()}
"""


def test_a_warm_up_event_is_in_every_clone(server: Server) -> None:
    deploy(server, "warm", WARM, memory=64, warmup={"n": 7}, env={"KEY": "k"})
    for number in range(2):
        answer = server.call("warm", number)
        # What C code asks for in the environment is the clone's, too; while the function initialised, it was not there.
        assert answer.result == {"calls": [[{"n": 7}, True], [number, False]], "key": "k"}
        assert was_restored(answer), log(server, "warm")


UNSNAPSHOTABLE = {
    "reads_secret": ("import os\nkey = os.environ['KEY']\ndef handler(e, c): return key", "reads KEY"),
    "fails": ("import nothing_like_it\ndef handler(e, c): return 1", "its initialisation fails"),
    "hangs": ("import time\ntime.sleep(100)\ndef handler(e, c): return 1", "its initialisation took more than 2 s"),
    "exits": ("import os\nos._exit(3)", "it ended while it was initialised"),
    "warm_fails": ("def handler(e, c): return 1 // e['n']", "the warm-up event fails: integer division"),
    "warm_secret": ("import os\ndef handler(e, c): return os.environ['KEY']", "reads KEY"),
}


@pytest.mark.parametrize("name", UNSNAPSHOTABLE)
def test_what_cannot_be_saved_boots_and_says_why(name: str, server: Server) -> None:
    source, reason = UNSNAPSHOTABLE[name]
    warmup = {"n": 0} if name.startswith("warm") else None
    server.deploy(name, source, env={"KEY": "k"}, memory=64, idle_timeout=0, init_timeout=2, warmup=warmup)
    eventually(lambda: "no snapshot, instances boot" in log(server, name), "a warning")
    assert reason in log(server, name)
    if name in ("reads_secret", "warm_secret"):
        answer = server.call(name)
        assert answer.result == "k" and not was_restored(answer)


ACCELERATOR = """
import pyopencl as cl
def handler(event, context):
    context = cl.create_some_context(interactive=False)
    return context.devices[0].name
"""


OPENCL: dict[str, Any] = {"requirements": ["numpy", "pyopencl"], "memory": 384, "arena": 64}


def test_an_accelerator_that_is_only_imported_is_not_in_the_snapshot(server: Server) -> None:
    if server.device == "none":
        pytest.skip("no accelerator here")
    deploy(server, "lazy", ACCELERATOR, accelerator=server.device, **OPENCL)
    answer = server.call("lazy")
    assert was_restored(answer) and answer.result
    assert manifest(server, "lazy").session is None


RESIDENT = '''
import numpy as np
import pyopencl as cl
print("initialised once more")
context = cl.create_some_context(interactive=False)
queue = cl.CommandQueue(context)
program = cl.Program(context, """
__kernel void scale(__global const int *weights, __global int *out, int factor) {
    int i = get_global_id(0);
    out[i] = weights[i] * factor + 1;
}""").build()
weights = np.arange(1 << 18, dtype=np.int32)
flags = cl.mem_flags
loaded = cl.Buffer(context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=weights)
made = cl.Buffer(context, flags.READ_WRITE, weights.nbytes)
scale = cl.Kernel(program, "scale")
scale(queue, weights.shape, None, loaded, made, np.int32(2))
queue.finish()
def handler(event, _):
    before = np.empty_like(weights)
    cl.enqueue_copy(queue, before, made)
    scale(queue, weights.shape, None, loaded, made, np.int32(event))
    after = np.empty_like(weights)
    cl.enqueue_copy(queue, after, made)
    return [bool((before == weights * 2 + 1).all()), bool((after == weights * event + 1).all())]
'''


def test_a_session_goes_on_in_every_clone(server: Server) -> None:
    if server.device == "none":
        pytest.skip("no accelerator here")
    deploy(server, "resident", RESIDENT, accelerator=server.device, **OPENCL)
    described = manifest(server, "resident")
    assert described.session is not None and described.device
    for factor in (3, 5, 7):
        answer = server.call("resident", factor)
        assert answer.result == [True, True], "another clone's work shows, or none"
        assert was_restored(answer), log(server, "resident")
    assert log(server, "resident").count("initialised once more") == 1


def stands_by(server: Server) -> bool:
    listed = server.gateway.json("GET", "/v1/devices")["devices"]
    return any(device["standby"] for device in listed if f"opencl:{device['id']}" == server.device)


def command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def test_a_broker_that_stands_by_takes_the_session_over(server: Server) -> None:
    if server.device == "none":
        pytest.skip("no accelerator here")
    for source in (RESIDENT, ACCELERATOR):  # a session that goes on, and a new one
        server.deploy("standing", source, accelerator=server.device, idle_timeout=60, **OPENCL)
        # The device is free while a broker stands by, and others of them follow the one that was taken.
        eventually(lambda: bool(files(server, "standing")) and stands_by(server), "a snapshot, and a broker")
        answer = server.call("standing", 3)
        assert answer.result and was_restored(answer), log(server, "standing")
        assert command(answer.detail["instance"]["broker_pid"])[1] == "standby"
        eventually(lambda: stands_by(server), "another one")
        assert 'kasoku_device_standby{device="' in server.gateway.request("GET", "/metrics")[2].decode()
        server.gateway.json("DELETE", "/v1/functions/standing")
    for name in ("lazy", "resident", "slow"):
        server.gateway.request("DELETE", f"/v1/functions/{name}")
    eventually(lambda: not stands_by(server), "none: no function wants the device")


def test_a_device_that_is_wanted_is_not_kept_from_anybody(server: Server) -> None:
    """The making of a snapshot gives its device up, and is done again."""
    if server.device == "none":
        pytest.skip("no accelerator here")
    slow = "import time\nimport pyopencl as cl\ncl.create_some_context(interactive=False)\ntime.sleep(3)\n"
    server.deploy("slow", slow + "def handler(e, c): return 1", accelerator=server.device, idle_timeout=0, **OPENCL)
    deploy(server, "lazy", ACCELERATOR, accelerator=server.device, **OPENCL)
    assert server.call("lazy").result
    eventually(lambda: bool(files(server, "slow")), "a snapshot after all", 120)


def test_a_session_of_another_kind_of_device_is_not_used() -> None:
    from kasoku.leases.model import Device
    from kasoku.node.snapshots.saved import Saved

    saved = Saved(-1, -1, "intel|A processor|2026.1|OpenCL 3.0")
    assert saved.fits(Device("intel:0.1", "opencl", "cpu", "A processor"))
    assert not saved.fits(Device("intel:0", "opencl", "cpu", "Another processor"))
    assert not saved.fits(Device("pocl:0", "opencl", "cpu", "A processor"))


def test_a_volume_that_is_replaced_is_not_the_snapshots(server: Server, tmp_path: Path) -> None:
    source = 'loaded = open("/models/word").read()\ndef handler(e, c): return [loaded, open("/models/word").read()]\n'

    def fill(word: str) -> None:
        (tmp_path / word).mkdir()
        (tmp_path / word / "word").write_text(word)
        command = ["volume", "create", "model", str(tmp_path / word), "--home", str(server.home)]
        subprocess.run([sys.executable, "-m", "kasoku.cli", *command], check=True, capture_output=True)

    fill("first")
    deploy(server, "reader", source, memory=64, volumes={"/models": "model"})
    answer = server.call("reader")
    assert was_restored(answer) and answer.result == ["first"] * 2
    fill("second")
    for _ in range(2):
        assert server.call("reader").result == ["second"] * 2
        eventually(lambda: was_restored(server.call("reader")), "a snapshot with the new volume")
    assert "a volume was replaced" in log(server, "reader")


def test_what_an_instance_shares_is_told(server: Server) -> None:
    server.deploy("kept", "def handler(event, context):\n    return 2\n", memory=64, idle_timeout=60)
    assert server.call("kept").result == 2
    (one,) = [one for one in server.instances() if one["function"] == "kept"]
    assert 0 < one["private_mib"] < 64 and one["shared_mib"] > 1, one


HOARD = """
import os
{first}
def handler(event, context):
    kept = os.urandom(1 << 20)
    hoard = b"x" * (96 << 20)
    return hoard.count(b"x") >> 20
"""


@pytest.mark.parametrize("first", ["", "os.environ['KEY']"])
def test_idle_instances_give_back_what_they_have_freed(server: Server, first: str) -> None:
    """A clone, and one that has booted because its initialisation must not be saved."""
    name = "hoard-booted" if first else "hoard"
    server.deploy(name, HOARD.replace("{first}", first), env={"KEY": "k"}, memory=256, idle_timeout=120)
    ready = "instances boot" if first else "snapshot"
    eventually(lambda: ready in log(server, name) or bool(files(server, name)), "a snapshot, or none")
    for _ in range(2):
        assert server.call(name).result == 96

        def own() -> float:
            (one,) = [one for one in server.instances() if one["function"] == name]
            assert isinstance(one["private_mib"], float)
            return one["private_mib"]

        eventually(lambda: own() < 60, "memory given back")


def test_a_removed_function_leaves_no_snapshot(server: Server) -> None:
    deploy(server, "gone", "def handler(event, context):\n    return 1\n", memory=64)
    server.gateway.json("DELETE", "/v1/functions/gone")
    assert files(server, "gone") == []
