"""Rodinia: grids, and tables that are filled in an order."""

from __future__ import annotations

import numpy as np

from suites.workload import Array, Arrays, Launch, Read, Steps, Workload, Write, number, real, uniform, zeros

STEPS = 10

HOTSPOT = """
__kernel void hotspot(__global const float *power, __global const float *before, __global float *after, int n) {
    int x = get_global_id(0), y = get_global_id(1), i = y * n + x;
    float here = before[i];
    float left = before[y * n + max(x - 1, 0)], right = before[y * n + min(x + 1, n - 1)];
    float up = before[max(y - 1, 0) * n + x], down = before[min(y + 1, n - 1) * n + x];
    after[i] = here + 0.1f * (power[i] + (left + right - 2 * here) + (up + down - 2 * here) + 0.05f * (0.8f - here));
}
"""

SRAD = """
__kernel void coefficients(__global const float *image, __global float *c, int n, float q0) {
    int x = get_global_id(0), y = get_global_id(1);
    float j = image[y * n + x];
    float north = image[max(y - 1, 0) * n + x] - j, south = image[min(y + 1, n - 1) * n + x] - j;
    float west = image[y * n + max(x - 1, 0)] - j, east = image[y * n + min(x + 1, n - 1)] - j;
    float g2 = (north * north + south * south + west * west + east * east) / (j * j);
    float l = (north + south + west + east) / j;
    float den = 1 + 0.25f * l;
    float q = (0.5f * g2 - l * l / 16) / (den * den);
    c[y * n + x] = clamp(1 / (1 + (q - q0) / (q0 * (1 + q0))), 0.0f, 1.0f);
}

__kernel void diffuse(__global const float *image, __global const float *c, __global float *out, int n) {
    int x = get_global_id(0), y = get_global_id(1);
    float j = image[y * n + x], here = c[y * n + x];
    int up = max(y - 1, 0) * n + x, down = min(y + 1, n - 1) * n + x;
    int left = y * n + max(x - 1, 0), right = y * n + min(x + 1, n - 1);
    float d = here * (image[up] - j) + c[down] * (image[down] - j)
            + here * (image[left] - j) + c[right] * (image[right] - j);
    out[y * n + x] = j + 0.125f * d;
}
"""

PATHFINDER = """
__kernel void row(__global const int *wall, __global const int *before, __global int *after, int n, int y) {
    int x = get_global_id(0);
    int best = min(before[x], min(before[max(x - 1, 0)], before[min(x + 1, n - 1)]));
    after[x] = wall[y * n + x] + best;
}
"""

NEEDLE = """
__kernel void block(__global const int *similar, __global int *score, int n, int penalty, int first_x, int last_y) {
    int width = n + 1, bx = first_x + get_global_id(0), by = last_y - get_global_id(0);
    for (int y = by * 16 + 1; y <= by * 16 + 16; y++)
        for (int x = bx * 16 + 1; x <= bx * 16 + 16; x++) {
            int diagonal = score[(y - 1) * width + x - 1] + similar[(y - 1) * n + x - 1];
            int gap = max(score[y * width + x - 1], score[(y - 1) * width + x]) - penalty;
            score[y * width + x] = max(diagonal, gap);
        }
}
"""

LUD = """
__kernel void column(__global float *a, int n, int k) {
    int i = k + 1 + get_global_id(0);
    a[i * n + k] /= a[k * n + k];
}

__kernel void rest(__global float *a, int n, int k) {
    int j = k + 1 + get_global_id(0), i = k + 1 + get_global_id(1);
    a[i * n + j] -= a[i * n + k] * a[k * n + j];
}
"""

GAUSSIAN = """
__kernel void multipliers(__global const float *a, __global float *m, int n, int k) {
    int i = k + 1 + get_global_id(0);
    m[i] = a[i * n + k] / a[k * n + k];
}

__kernel void eliminate(__global float *a, __global float *b, __global const float *m, int n, int k) {
    int j = k + get_global_id(0), i = k + 1 + get_global_id(1);
    a[i * n + j] -= m[i] * a[k * n + j];
    if (j == k)
        b[i] -= m[i] * b[k];
}
"""

PENALTY = 10


def _neighbours(a: Array) -> tuple[Array, Array, Array, Array]:
    """Those above, below, left and right; at the edge the element itself."""
    padded = np.pad(a, 1, mode="edge")
    return padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]


def _hotspot(n: int, _: Arrays) -> Steps:
    for _step in range(STEPS):
        yield Launch("hotspot", (n, n), ("power", "a", "b", number(n)))
        yield Launch("hotspot", (n, n), ("power", "b", "a", number(n)))


def _hotspot_reference(_: int, d: Arrays) -> Arrays:
    a = d["a"]
    for _step in range(2 * STEPS):
        a = a + 0.1 * (d["power"] + sum(_neighbours(a)) - 4 * a + 0.05 * (0.8 - a))
    return {"a": a}


def _srad(n: int, _: Arrays) -> Steps:
    source, target = "image", "other"
    for _step in range(STEPS):
        # The host looks at the image in each step.
        image = yield Read(source)
        q0 = float(image.var(dtype=np.float64) / image.mean(dtype=np.float64) ** 2)
        yield Launch("coefficients", (n, n), (source, "c", number(n), real(q0)))
        yield Launch("diffuse", (n, n), (source, "c", target, number(n)))
        source, target = target, source


def _srad_reference(_: int, d: Arrays) -> Arrays:
    j = d["image"].astype(np.float64)
    for _step in range(STEPS):
        q0 = j.var() / j.mean() ** 2
        north, south, west, east = (side - j for side in _neighbours(j))
        g2, total = (north**2 + south**2 + west**2 + east**2) / j**2, (north + south + west + east) / j
        q = (0.5 * g2 - total**2 / 16) / (1 + 0.25 * total) ** 2
        c = np.clip(1 / (1 + (q - q0) / (q0 * (1 + q0))), 0, 1)
        below, right = _neighbours(c)[1::2]
        j = j + 0.125 * (c * north + below * south + c * west + right * east)
    return {"image": j}


def _pathfinder(n: int, _: Arrays) -> Steps:
    for y in range(1, n):
        before, after = ("a", "b") if y % 2 else ("b", "a")
        yield Launch("row", (n,), ("wall", before, after, number(n), number(y)))


def _pathfinder_data(n: int, random: np.random.Generator) -> Arrays:
    wall = random.integers(0, 10, (n, n), np.int32)
    return {"wall": wall, "a": wall[0].copy(), "b": np.zeros(n, np.int32)}


def _pathfinder_reference(n: int, d: Arrays) -> Arrays:
    best = d["wall"][0]
    for y in range(1, n):
        padded = np.pad(best, 1, mode="edge")
        best = d["wall"][y] + np.minimum(np.minimum(padded[:-2], padded[2:]), best)
    return {"b": best}


def _needle_data(n: int, random: np.random.Generator) -> Arrays:
    score = np.zeros((n + 1, n + 1), np.int32)
    score[0] = score[:, 0] = -PENALTY * np.arange(n + 1)
    return {"similar": random.integers(-10, 11, (n, n), np.int32), "score": score}


def _needle(n: int, _: Arrays) -> Steps:
    blocks = n // 16
    for diagonal in range(2 * blocks - 1):
        first_x, last_y = max(0, diagonal - blocks + 1), min(diagonal, blocks - 1)
        arguments = ("similar", "score", number(n), number(PENALTY), number(first_x), number(last_y))
        yield Launch("block", (last_y - first_x + 1,), arguments)


def _needle_reference(n: int, d: Arrays) -> Arrays:
    score = d["score"].copy()
    for diagonal in range(2, 2 * n + 1):
        y = np.arange(max(1, diagonal - n), min(n, diagonal - 1) + 1)
        x = diagonal - y
        straight = score[y - 1, x - 1] + d["similar"][y - 1, x - 1]
        score[y, x] = np.maximum(straight, np.maximum(score[y, x - 1], score[y - 1, x]) - PENALTY)
    return {"score": score}


def _dominant(n: int, random: np.random.Generator) -> Array:
    a = uniform(random, n, n)
    a[np.arange(n), np.arange(n)] += n
    return a


def _lud(n: int, _: Arrays) -> Steps:
    for k in range(n - 1):
        yield Launch("column", (n - 1 - k,), ("a", number(n), number(k)))
        yield Launch("rest", (n - 1 - k, n - 1 - k), ("a", number(n), number(k)))


def _lud_reference(n: int, d: Arrays) -> Arrays:
    a = d["a"].astype(np.float64)
    for k in range(n - 1):
        a[k + 1 :, k] /= a[k, k]
        a[k + 1 :, k + 1 :] -= np.outer(a[k + 1 :, k], a[k, k + 1 :])
    return {"a": a}


def _gaussian(n: int, _: Arrays) -> Steps:
    for k in range(n - 1):
        yield Launch("multipliers", (n - 1 - k,), ("a", "m", number(n), number(k)))
        yield Launch("eliminate", (n - k, n - 1 - k), ("a", "b", "m", number(n), number(k)))
    # The host substitutes back.
    a, b = (yield Read("a")), (yield Read("b"))
    yield Write("x", np.linalg.solve(np.triu(a), b))


WORKLOADS = (
    Workload(
        "hotspot",
        HOTSPOT,
        2,
        lambda n, r: {"power": uniform(r, n, n), "a": uniform(r, n, n), "b": zeros(n, n)},
        _hotspot,
        ("a",),
        _hotspot_reference,
    ),
    Workload(
        "srad",
        SRAD,
        2,
        lambda n, r: {"image": np.exp(uniform(r, n, n)), "other": zeros(n, n), "c": zeros(n, n)},
        _srad,
        ("image",),
        _srad_reference,
    ),
    # With an even number of rows the last one lies in `b`.
    Workload("pathfinder", PATHFINDER, 1.7, _pathfinder_data, _pathfinder, ("b",), _pathfinder_reference),
    Workload("nw", NEEDLE, 1.7, _needle_data, _needle, ("score",), _needle_reference),
    Workload("lud", LUD, 2, lambda n, r: {"a": _dominant(n, r)}, _lud, ("a",), _lud_reference),
    Workload(
        "gaussian",
        GAUSSIAN,
        2,
        lambda n, r: {"a": _dominant(n, r), "b": uniform(r, n), "m": zeros(n), "x": zeros(n)},
        _gaussian,
        ("x",),
        lambda _, d: {"x": np.linalg.solve(d["a"].astype(np.float64), d["b"])},
    ),
)
