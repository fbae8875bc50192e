"""PolyBench: stencils and convolutions."""

from __future__ import annotations

import numpy as np

from suites.workload import Array, Arrays, Launch, Steps, Workload, number, real, uniform, zeros

STEPS = 10

JACOBI_1D = """
__kernel void smooth(__global const float *a, __global float *b, int n) {
    int i = get_global_id(0);
    if (i > 0 && i < n - 1)
        b[i] = (a[i - 1] + a[i] + a[i + 1]) / 3;
}
"""

JACOBI_2D = """
__kernel void smooth(__global const float *a, __global float *b, int n) {
    int x = get_global_id(0), y = get_global_id(1);
    if (x > 0 && x < n - 1 && y > 0 && y < n - 1)
        b[y * n + x] = 0.2f * (a[y * n + x] + a[y * n + x - 1] + a[y * n + x + 1]
                               + a[(y + 1) * n + x] + a[(y - 1) * n + x]);
}
"""

HEAT_3D = """
__kernel void spread(__global const float *a, __global float *b, int n) {
    int x = get_global_id(0), y = get_global_id(1), z = get_global_id(2);
    int i = (z * n + y) * n + x;
    if (x > 0 && x < n - 1 && y > 0 && y < n - 1 && z > 0 && z < n - 1)
        b[i] = a[i] + 0.125f * (a[i + n * n] - 2 * a[i] + a[i - n * n]) + 0.125f * (a[i + n] - 2 * a[i] + a[i - n])
               + 0.125f * (a[i + 1] - 2 * a[i] + a[i - 1]);
}
"""

FDTD = """
__kernel void ey_step(__global float *ey, __global const float *hz, int n, float source) {
    int x = get_global_id(0), y = get_global_id(1);
    ey[y * n + x] = y == 0 ? source : ey[y * n + x] - 0.5f * (hz[y * n + x] - hz[(y - 1) * n + x]);
}

__kernel void ex_step(__global float *ex, __global const float *hz, int n) {
    int x = get_global_id(0), y = get_global_id(1);
    if (x > 0)
        ex[y * n + x] -= 0.5f * (hz[y * n + x] - hz[y * n + x - 1]);
}

__kernel void hz_step(__global const float *ex, __global const float *ey, __global float *hz, int n) {
    int x = get_global_id(0), y = get_global_id(1);
    if (x < n - 1 && y < n - 1)
        hz[y * n + x] -= 0.7f * (ex[y * n + x + 1] - ex[y * n + x] + ey[(y + 1) * n + x] - ey[y * n + x]);
}
"""

CONVOLUTION_2D = """
__kernel void convolve(__global const float *a, __constant float *w, __global float *b, int n) {
    int x = get_global_id(0), y = get_global_id(1);
    if (x == 0 || x == n - 1 || y == 0 || y == n - 1)
        return;
    float sum = 0;
    for (int j = 0; j < 3; j++)
        for (int i = 0; i < 3; i++)
            sum += w[j * 3 + i] * a[(y + j - 1) * n + x + i - 1];
    b[y * n + x] = sum;
}
"""

CONVOLUTION_3D = """
__kernel void convolve(__global const float *a, __constant float *w, __global float *b, int n) {
    int x = get_global_id(0), y = get_global_id(1), z = get_global_id(2);
    if (x == 0 || x == n - 1 || y == 0 || y == n - 1 || z == 0 || z == n - 1)
        return;
    float sum = 0;
    for (int k = 0; k < 3; k++)
        for (int j = 0; j < 3; j++)
            for (int i = 0; i < 3; i++)
                sum += w[(k * 3 + j) * 3 + i] * a[((z + k - 1) * n + y + j - 1) * n + x + i - 1];
    b[(z * n + y) * n + x] = sum;
}
"""


def _two(n: int, random: np.random.Generator, dimensions: int) -> Arrays:
    a = uniform(random, *[n] * dimensions)
    return {"a": a, "b": a.copy()}


def _back_and_forth(kernel: str, dimensions: int, n: int) -> Steps:
    for _ in range(STEPS):
        yield Launch(kernel, (n,) * dimensions, ("a", "b", number(n)))
        yield Launch(kernel, (n,) * dimensions, ("b", "a", number(n)))


def _line(a: Array) -> Array:
    b = a.copy()
    b[1:-1] = (a[:-2] + a[1:-1] + a[2:]) / 3
    return b


def _plane(a: Array) -> Array:
    b = a.copy()
    b[1:-1, 1:-1] = 0.2 * (a[1:-1, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:] + a[2:, 1:-1] + a[:-2, 1:-1])
    return b


def _cube(a: Array) -> Array:
    b, inner = a.copy(), (slice(1, -1),) * 3
    change = np.zeros_like(a[inner])
    for axis in range(3):
        ahead, behind = (
            tuple(slice(s, e) if d == axis else slice(1, -1) for d in range(3)) for s, e in ((2, None), (0, -2))
        )
        change += 0.125 * (a[ahead] - 2 * a[inner] + a[behind])
    b[inner] += change
    return b


def _repeated(step: object, a: Array) -> Array:
    assert callable(step)
    for _ in range(2 * STEPS):
        a = step(a)
    return a


def _fdtd(n: int, _: Arrays) -> Steps:
    for t in range(STEPS):
        yield Launch("ey_step", (n, n), ("ey", "hz", number(n), real(t)))
        yield Launch("ex_step", (n, n), ("ex", "hz", number(n)))
        yield Launch("hz_step", (n, n), ("ex", "ey", "hz", number(n)))


def _fdtd_reference(_: int, d: Arrays) -> Arrays:
    ex, ey, hz = (d[name].copy() for name in ("ex", "ey", "hz"))
    for t in range(STEPS):
        ey[0] = t
        ey[1:] -= 0.5 * (hz[1:] - hz[:-1])
        ex[:, 1:] -= 0.5 * (hz[:, 1:] - hz[:, :-1])
        hz[:-1, :-1] -= 0.7 * (ex[:-1, 1:] - ex[:-1, :-1] + ey[1:, :-1] - ey[:-1, :-1])
    return {"ex": ex, "ey": ey, "hz": hz}


def _convolve(dimensions: int, n: int) -> Steps:
    yield Launch("convolve", (n,) * dimensions, ("a", "w", "b", number(n)))


def _convolution(n: int, d: Arrays) -> Arrays:
    a, w = d["a"], d["w"]
    b = np.zeros_like(a)
    inner = b[(slice(1, -1),) * a.ndim]
    for at in np.ndindex(w.shape):
        inner += w[at] * a[tuple(slice(start, n - 2 + start) for start in at)]
    return {"b": b}


WORKLOADS = (
    Workload(
        "jacobi-1d",
        JACOBI_1D,
        1,
        lambda n, r: _two(n, r, 1),
        lambda n, _: _back_and_forth("smooth", 1, n),
        ("a",),
        lambda _, d: {"a": _repeated(_line, d["a"])},
        granule=1024,
    ),
    Workload(
        "jacobi-2d",
        JACOBI_2D,
        2,
        lambda n, r: _two(n, r, 2),
        lambda n, _: _back_and_forth("smooth", 2, n),
        ("a",),
        lambda _, d: {"a": _repeated(_plane, d["a"])},
    ),
    Workload(
        "heat-3d",
        HEAT_3D,
        3,
        lambda n, r: _two(n, r, 3),
        lambda n, _: _back_and_forth("spread", 3, n),
        ("a",),
        lambda _, d: {"a": _repeated(_cube, d["a"])},
        granule=8,
    ),
    Workload(
        "fdtd-2d",
        FDTD,
        2,
        lambda n, r: {name: uniform(r, n, n) for name in ("ex", "ey", "hz")},
        _fdtd,
        ("ex", "ey", "hz"),
        _fdtd_reference,
    ),
    Workload(
        "convolution-2d",
        CONVOLUTION_2D,
        2,
        lambda n, r: {"a": uniform(r, n, n), "w": uniform(r, 3, 3), "b": zeros(n, n)},
        lambda n, _: _convolve(2, n),
        ("b",),
        _convolution,
    ),
    Workload(
        "convolution-3d",
        CONVOLUTION_3D,
        3,
        lambda n, r: {"a": uniform(r, n, n, n), "w": uniform(r, 3, 3, 3), "b": zeros(n, n, n)},
        lambda n, _: _convolve(3, n),
        ("b",),
        _convolution,
        granule=8,
    ),
)
