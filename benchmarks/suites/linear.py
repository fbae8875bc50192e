"""PolyBench: linear algebra."""

from __future__ import annotations

import numpy as np

from suites.workload import Arrays, Launch, Steps, Workload, number, real, uniform, zeros

ALPHA, BETA = 1.5, 0.5

PRODUCT = """
__kernel void product(__global const float *a, __global const float *b, __global float *c, int n, float alpha,
                      float beta) {
    int x = get_global_id(0), y = get_global_id(1);
    float sum = 0;
    for (int k = 0; k < n; k++)
        sum += a[y * n + k] * b[k * n + x];
    c[y * n + x] = alpha * sum + beta * c[y * n + x];
}
"""

VECTORS = """
__kernel void rows(__global const float *a, __global const float *x, __global float *y, int n, float alpha,
                      float beta) {
    int i = get_global_id(0);
    float sum = 0;
    for (int j = 0; j < n; j++)
        sum += a[i * n + j] * x[j];
    y[i] = alpha * sum + beta * y[i];
}

__kernel void columns(__global const float *a, __global const float *x, __global float *y, int n, float alpha,
                      float beta) {
    int j = get_global_id(0);
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += a[i * n + j] * x[i];
    y[j] = alpha * sum + beta * y[j];
}

__kernel void rank_two(__global float *a, __global const float *u1, __global const float *v1,
                       __global const float *u2, __global const float *v2, int n) {
    int j = get_global_id(0), i = get_global_id(1);
    a[i * n + j] += u1[i] * v1[j] + u2[i] * v2[j];
}

__kernel void add(__global float *x, __global const float *z) { x[get_global_id(0)] += z[get_global_id(0)]; }
"""

SYMMETRIC = """
__kernel void syrk(__global const float *a, __global float *c, int n, float alpha,
                      float beta) {
    int j = get_global_id(0), i = get_global_id(1);
    float sum = 0;
    for (int k = 0; k < n; k++)
        sum += a[i * n + k] * a[j * n + k];
    c[i * n + j] = alpha * sum + beta * c[i * n + j];
}

__kernel void syr2k(__global const float *a, __global const float *b, __global float *c, int n, float alpha,
                      float beta) {
    int j = get_global_id(0), i = get_global_id(1);
    float sum = 0;
    for (int k = 0; k < n; k++)
        sum += a[i * n + k] * b[j * n + k] + b[i * n + k] * a[j * n + k];
    c[i * n + j] = alpha * sum + beta * c[i * n + j];
}
"""

DOITGEN = """
__kernel void doitgen(__global const float *a, __global const float *c4, __global float *out, int n) {
    int p = get_global_id(0), q = get_global_id(1), r = get_global_id(2);
    float sum = 0;
    for (int s = 0; s < n; s++)
        sum += a[(r * n + q) * n + s] * c4[s * n + p];
    out[(r * n + q) * n + p] = sum;
}
"""


def _product(a: str, b: str, c: str, n: int, alpha: float = 1, beta: float = 0) -> Launch:
    return Launch("product", (n, n), (a, b, c, number(n), real(alpha), real(beta)))


def _gemm(n: int, _: Arrays) -> Steps:
    yield _product("a", "b", "c", n, ALPHA, BETA)


def _two(n: int, _: Arrays) -> Steps:
    yield _product("a", "b", "t", n, ALPHA)
    yield _product("t", "c", "d", n, 1, BETA)


def _three(n: int, _: Arrays) -> Steps:
    yield _product("a", "b", "e", n)
    yield _product("c", "d", "f", n)
    yield _product("e", "f", "g", n)


def _vectors(n: int, random: np.random.Generator, *names: str) -> Arrays:
    return {"a": uniform(random, n, n)} | {name: uniform(random, n) for name in names}


def _along(kernel: str, x: str, y: str, n: int, alpha: float = 1, beta: float = 0, a: str = "a") -> Launch:
    return Launch(kernel, (n,), (a, x, y, number(n), real(alpha), real(beta)))


def _atax(n: int, _: Arrays) -> Steps:
    yield _along("rows", "x", "t", n)
    yield _along("columns", "t", "y", n)


def _bicg(n: int, _: Arrays) -> Steps:
    yield _along("columns", "r", "s", n)
    yield _along("rows", "p", "q", n)


def _mvt(n: int, _: Arrays) -> Steps:
    yield _along("rows", "y1", "x1", n, 1, 1)
    yield _along("columns", "y2", "x2", n, 1, 1)


def _gesummv(n: int, _: Arrays) -> Steps:
    yield _along("rows", "x", "y", n, ALPHA)
    yield _along("rows", "x", "y", n, BETA, 1, a="b")


def _gemver(n: int, _: Arrays) -> Steps:
    yield Launch("rank_two", (n, n), ("a", "u1", "v1", "u2", "v2", number(n)))
    yield _along("columns", "y", "x", n, BETA, 1)
    yield Launch("add", (n,), ("x", "z"))
    yield _along("rows", "x", "w", n, ALPHA)


def _gemver_reference(_: int, d: Arrays) -> Arrays:
    a = d["a"] + np.outer(d["u1"], d["v1"]) + np.outer(d["u2"], d["v2"])
    x = BETA * a.T @ d["y"] + d["x"] + d["z"]
    return {"a": a, "x": x, "w": ALPHA * a @ x}


def _syrk(n: int, _: Arrays) -> Steps:
    yield Launch("syrk", (n, n), ("a", "c", number(n), real(ALPHA), real(BETA)))


def _syr2k(n: int, _: Arrays) -> Steps:
    yield Launch("syr2k", (n, n), ("a", "b", "c", number(n), real(ALPHA), real(BETA)))


def _doitgen(n: int, _: Arrays) -> Steps:
    yield Launch("doitgen", (n, n, n), ("a", "c4", "out", number(n)))


WORKLOADS = (
    Workload(
        "gemm",
        PRODUCT,
        3,
        lambda n, r: {name: uniform(r, n, n) for name in "abc"},
        _gemm,
        ("c",),
        lambda _, d: {"c": ALPHA * d["a"] @ d["b"] + BETA * d["c"]},
    ),
    Workload(
        "2mm",
        PRODUCT,
        3,
        lambda n, r: {name: uniform(r, n, n) for name in "abcd"} | {"t": zeros(n, n)},
        _two,
        ("d",),
        lambda _, d: {"d": ALPHA * d["a"] @ d["b"] @ d["c"] + BETA * d["d"]},
    ),
    Workload(
        "3mm",
        PRODUCT,
        3,
        lambda n, r: {name: uniform(r, n, n) for name in "abcd"} | {name: zeros(n, n) for name in "efg"},
        _three,
        ("g",),
        lambda _, d: {"g": (d["a"] @ d["b"]) @ (d["c"] @ d["d"])},
    ),
    Workload(
        "atax",
        VECTORS,
        2,
        lambda n, r: _vectors(n, r, "x") | {"t": zeros(n), "y": zeros(n)},
        _atax,
        ("y",),
        lambda _, d: {"y": d["a"].T @ (d["a"] @ d["x"])},
    ),
    Workload(
        "bicg",
        VECTORS,
        2,
        lambda n, r: _vectors(n, r, "p", "r") | {"q": zeros(n), "s": zeros(n)},
        _bicg,
        ("q", "s"),
        lambda _, d: {"q": d["a"] @ d["p"], "s": d["a"].T @ d["r"]},
    ),
    Workload(
        "mvt",
        VECTORS,
        2,
        lambda n, r: _vectors(n, r, "x1", "x2", "y1", "y2"),
        _mvt,
        ("x1", "x2"),
        lambda _, d: {"x1": d["x1"] + d["a"] @ d["y1"], "x2": d["x2"] + d["a"].T @ d["y2"]},
    ),
    Workload(
        "gesummv",
        VECTORS,
        2,
        lambda n, r: _vectors(n, r, "x") | {"b": uniform(r, n, n), "y": zeros(n)},
        _gesummv,
        ("y",),
        lambda _, d: {"y": ALPHA * d["a"] @ d["x"] + BETA * d["b"] @ d["x"]},
    ),
    Workload(
        "gemver",
        VECTORS,
        2,
        lambda n, r: _vectors(n, r, "u1", "v1", "u2", "v2", "x", "y", "z") | {"w": zeros(n)},
        _gemver,
        ("a", "x", "w"),
        _gemver_reference,
    ),
    Workload(
        "syrk",
        SYMMETRIC,
        3,
        lambda n, r: {name: uniform(r, n, n) for name in "ac"},
        _syrk,
        ("c",),
        lambda _, d: {"c": ALPHA * d["a"] @ d["a"].T + BETA * d["c"]},
    ),
    Workload(
        "syr2k",
        SYMMETRIC,
        3,
        lambda n, r: {name: uniform(r, n, n) for name in "abc"},
        _syr2k,
        ("c",),
        lambda _, d: {"c": ALPHA * (d["a"] @ d["b"].T + d["b"] @ d["a"].T) + BETA * d["c"]},
    ),
    Workload(
        "doitgen",
        DOITGEN,
        4,
        lambda n, r: {"a": uniform(r, n, n, n), "c4": uniform(r, n, n), "out": zeros(n, n, n)},
        _doitgen,
        ("out",),
        lambda _, d: {"out": d["a"] @ d["c4"]},
        granule=8,
    ),
)
