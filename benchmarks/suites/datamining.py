"""PolyBench: statistics, and the decomposition that goes with them."""

from __future__ import annotations

import numpy as np

from suites.workload import Arrays, Launch, Steps, Workload, number, uniform, zeros

SOURCE = """
__kernel void mean(__global const float *a, __global float *mean, int n) {
    int j = get_global_id(0);
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += a[i * n + j];
    mean[j] = sum / n;
}

__kernel void deviation(__global const float *a, __global const float *mean, __global float *deviation, int n) {
    int j = get_global_id(0);
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += (a[i * n + j] - mean[j]) * (a[i * n + j] - mean[j]);
    deviation[j] = sqrt(sum / n);
}

__kernel void centre(__global float *a, __global const float *mean, int n) {
    a[get_global_id(1) * n + get_global_id(0)] -= mean[get_global_id(0)];
}

__kernel void scale(__global float *a, __global const float *deviation, int n) {
    a[get_global_id(1) * n + get_global_id(0)] /= sqrt((float)n) * deviation[get_global_id(0)];
}

__kernel void square(__global const float *a, __global float *out, int n, int divisor) {
    int x = get_global_id(0), y = get_global_id(1);
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += a[i * n + x] * a[i * n + y];
    out[y * n + x] = sum / divisor;
}
"""

GRAM_SCHMIDT = """
__kernel void norm(__global const float *a, __global float *r, int n, int k) {
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += a[i * n + k] * a[i * n + k];
    r[k * n + k] = sqrt(sum);
}

__kernel void divide(__global const float *a, __global const float *r, __global float *q, int n, int k) {
    int i = get_global_id(0);
    q[i * n + k] = a[i * n + k] / r[k * n + k];
}

__kernel void remove(__global float *a, __global float *r, __global const float *q, int n, int k) {
    int j = get_global_id(0);
    if (j <= k)
        return;
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += q[i * n + k] * a[i * n + j];
    r[k * n + j] = sum;
    for (int i = 0; i < n; i++)
        a[i * n + j] -= q[i * n + k] * sum;
}
"""


def _statistics(n: int, random: np.random.Generator) -> Arrays:
    return {"a": uniform(random, n, n), "mean": zeros(n), "deviation": zeros(n), "out": zeros(n, n)}


def _covariance(n: int, _: Arrays) -> Steps:
    yield Launch("mean", (n,), ("a", "mean", number(n)))
    yield Launch("centre", (n, n), ("a", "mean", number(n)))
    yield Launch("square", (n, n), ("a", "out", number(n), number(n - 1)))


def _correlation(n: int, _: Arrays) -> Steps:
    yield Launch("mean", (n,), ("a", "mean", number(n)))
    yield Launch("deviation", (n,), ("a", "mean", "deviation", number(n)))
    yield Launch("centre", (n, n), ("a", "mean", number(n)))
    yield Launch("scale", (n, n), ("a", "deviation", number(n)))
    yield Launch("square", (n, n), ("a", "out", number(n), number(1)))


def _well_conditioned(n: int, random: np.random.Generator) -> Arrays:
    a = uniform(random, n, n) + n * np.eye(n, dtype=np.float32)
    return {"a": a, "r": zeros(n, n), "q": zeros(n, n)}


def _gram_schmidt(n: int, _: Arrays) -> Steps:
    for k in range(n):
        yield Launch("norm", (1,), ("a", "r", number(n), number(k)))
        yield Launch("divide", (n,), ("a", "r", "q", number(n), number(k)))
        yield Launch("remove", (n,), ("a", "r", "q", number(n), number(k)))


def _factors(_: int, d: Arrays) -> Arrays:
    q, r = np.linalg.qr(d["a"].astype(np.float64))
    signs = np.sign(np.diag(r))
    return {"q": q * signs, "r": r * signs[:, None]}


WORKLOADS = (
    Workload(
        "covariance", SOURCE, 3, _statistics, _covariance, ("out",), lambda _, d: {"out": np.cov(d["a"], rowvar=False)}
    ),
    Workload(
        "correlation",
        SOURCE,
        3,
        _statistics,
        _correlation,
        ("out",),
        lambda _, d: {"out": np.corrcoef(d["a"], rowvar=False)},
    ),
    Workload("gramschmidt", GRAM_SCHMIDT, 2.5, _well_conditioned, _gram_schmidt, ("q", "r"), _factors),
)
