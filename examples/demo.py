"""`make demo`: everything once. Starts the platform on a free port, deploys both examples, invokes them over HTTP with
fresh random parameters, checks the answers against numpy, and shows where they ran and where the time went.
"""

import argparse
import base64
import hashlib
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kasoku.sdk.remote import Answer, Gateway

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run the demo; exit status 0 if both answers are right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=HERE.parent / ".kasoku", help="state directory [default: .kasoku]")
    parser.add_argument("--picture", type=Path, default=Path("mandelbrot.png"), help="where to write the picture")
    options = parser.parse_args()
    with server(options.home) as gateway:
        for example in ("matmul.py", "mandelbrot.py"):
            start = time.perf_counter()
            kasoku("deploy", str(HERE / example), "--home", str(options.home))
            print(f"deployed examples/{example} in {time.perf_counter() - start:.1f} s")
        good = matrix_product(gateway)
        good &= mandelbrot_picture(gateway, options.picture)
    print("all answers are right" if good else "AN ANSWER IS WRONG")
    return 0 if good else 1


@contextmanager
def server(home: Path) -> Iterator[Gateway]:
    """`kasoku up` on a free port; ended with everything that it started."""
    command = [sys.executable, "-m", "kasoku.cli", "up", "--port", "0", "--home", str(home)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip(), process.stdout.readline().strip()]
        if not lines[0]:
            sys.exit("kasoku up did not start")
        print("\n".join(lines))
        yield Gateway.find(home, timeout=300)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        print("the platform has shut down")


def kasoku(*arguments: str) -> None:
    """Run a command of the CLI."""
    subprocess.run([sys.executable, "-m", "kasoku.cli", *arguments], check=True)


def matrix_product(gateway: Gateway) -> bool:
    """Two products, the second by the warm instance, compared with numpy's bit by bit."""
    good = True
    for name in ("cold", "warm"):
        size, seed = random.randint(300, 1100), secrets.randbits(32)
        answer = gateway.invoke("matmul", {"size": size, "seed": seed})
        generator = np.random.default_rng(seed)
        a = generator.integers(-8, 8, (size, size)).astype(np.float32)
        b = generator.integers(-8, 8, (size, size)).astype(np.float32)
        expected = a @ b
        told = answer.result
        right = (
            told["sha256"] == hashlib.sha256(expected.tobytes()).hexdigest()
            and told["trace"] == float(np.trace(expected))
            and told["corner"] == expected[:2, :2].tolist()
        )
        print(f"\nmatmul ({name}): {size} x {size}, seed {seed}")
        print(f"  sha256 {told['sha256'][:16]}..., trace {told['trace']:.0f}, corner {told['corner']}")
        print(f"  numpy computes {'the same bits' if right else 'SOMETHING ELSE'}")
        explain(gateway, answer)
        good &= right
    return good


def mandelbrot_picture(gateway: Gateway, picture: Path) -> bool:
    """A picture of a random place on the edge of the set; counts compared with numpy's."""
    angle, span = random.uniform(0, 2 * np.pi), random.uniform(0.005, 0.5)
    # The edge of the main cardioid: there is something to see everywhere along it.
    edge = np.exp(1j * angle) / 2 - np.exp(2j * angle) / 4
    region = {"x": float(edge.real), "y": float(edge.imag), "span": span}
    width, height, limit = random.randint(400, 700), random.randint(300, 500), random.randint(150, 300)
    answer = gateway.invoke("mandelbrot", {**region, "width": width, "height": height, "limit": limit})
    data = base64.b64decode(answer.result["png"])
    picture.write_bytes(data)
    counts = iterate(region, width, height, limit)
    sums = counts.sum(axis=1)
    exact = int((sums == np.array(answer.result["row_sums"])).sum())
    inside = int((counts == limit).sum())
    # A compiler may fuse a multiplication and an addition, which moves single pixels at the edge of the set.
    off = float(np.abs(sums - np.array(answer.result["row_sums"])).sum() / sums.sum())
    right = off < 0.001 and abs(inside - answer.result["inside"]) <= 0.001 * width * height
    right &= data.startswith(b"\x89PNG") and data[16:24] == width.to_bytes(4, "big") + height.to_bytes(4, "big")
    print(f"\nmandelbrot: {width} x {height} pixels around {edge:.5f}, {span:.4f} wide, {inside} pixels in the set")
    print(f"  {exact} of {height} rows equal numpy's: {'right' if right else 'WRONG'}; picture in {picture}")
    explain(gateway, answer)
    return right


def iterate(region: dict[str, float], width: int, height: int, limit: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The same counts with numpy."""
    step = region["span"] / width
    cx = (region["x"] - step * (width - 1) / 2 + np.arange(width) * step)[None, :].repeat(height, 0)
    cy = (region["y"] + step * (height - 1) / 2 - np.arange(height) * step)[:, None].repeat(width, 1)
    x, y, counts = np.zeros_like(cx), np.zeros_like(cx), np.zeros((height, width), np.int64)
    for _ in range(limit):
        going = x * x + y * y <= 4.0
        if not going.any():
            break
        counts += going
        x, y = np.where(going, x * x - y * y + cx, x), np.where(going, 2.0 * x * y + cy, y)
    return counts


def explain(gateway: Gateway, answer: Answer) -> None:
    """Where it ran and where the time went."""
    detail = answer.detail
    instance = detail["instance"]
    print(f"  in a VM: {machine(instance['vmm_pid'])}; its /proc/version says {instance['guest']!r}")
    device = next(d for d in gateway.json("GET", "/v1/devices")["devices"] if d["held_by"] == instance["id"])
    seen = f"the function saw {answer.result['platform']!r} with {answer.result['device']!r}"
    print(
        f"  on {detail['accelerator']} ({device['name']}), leased to it alone, broker {instance['broker_pid']}; {seen}"
    )
    shown = [("start", detail["timings_ms"]), ("function", detail["phases_ms"])]
    for title, times in shown:
        print(f"  {title} (ms): " + ", ".join(f"{name} {value:.1f}" for name, value in times.items()))


def machine(pid: int) -> str:
    """What the kernel says about a process: that it has a virtual machine open."""
    try:
        files = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except PermissionError:
        files = []
    except FileNotFoundError:
        return f"process {pid} (gone)"
    kvm = sorted({name.removeprefix("anon_inode:") for name in files if "kvm" in name})
    name = Path(f"/proc/{pid}/comm").read_text().strip()
    return f"process {pid} ({name}) holds {', '.join(kvm)}" if kvm else f"process {pid} ({name})"


if __name__ == "__main__":
    sys.exit(main())
