"""Rodinia: graphs, clusters, neighbours, a neural network."""

from __future__ import annotations

import numpy as np

from suites.workload import Array, Arrays, Launch, Read, Steps, Workload, Write, number, real, uniform, zeros

BFS = """
__kernel void expand(__global const int *first, __global const int *edges, __global const uchar *frontier,
                     __global uchar *next, __global int *cost, int level) {
    int node = get_global_id(0);
    if (!frontier[node])
        return;
    for (int e = first[node]; e < first[node + 1]; e++)
        if (cost[edges[e]] < 0)
            next[edges[e]] = 1;
}

__kernel void settle(__global uchar *frontier, __global uchar *next, __global int *cost, __global int *going,
                     int level) {
    int node = get_global_id(0);
    frontier[node] = next[node] && cost[node] < 0;
    next[node] = 0;
    if (frontier[node]) {
        cost[node] = level;
        going[0] = 1;
    }
}
"""

KMEANS = """
__kernel void assign(__global const float *points, __global const float *centres, __global int *member, int clusters) {
    int p = get_global_id(0);
    float best = INFINITY;
    int nearest = 0;
    for (int c = 0; c < clusters; c++) {
        float distance = 0;
        for (int f = 0; f < 16; f++) {
            float d = points[p * 16 + f] - centres[c * 16 + f];
            distance += d * d;
        }
        if (distance < best) {
            best = distance;
            nearest = c;
        }
    }
    member[p] = nearest;
}
"""

NEAREST = """
__kernel void distance_to(__global const float2 *places, __global float *distances, float x, float y) {
    int i = get_global_id(0);
    distances[i] = hypot(places[i].x - x, places[i].y - y);
}
"""

BACKPROP = """
__kernel void forward(__global const float *in, __global const float *w, __global float *out, int inputs, int hidden) {
    int j = get_global_id(0);
    float sum = 0;
    for (int i = 0; i < inputs; i++)
        sum += in[i] * w[i * hidden + j];
    out[j] = 1 / (1 + exp(-sum));
}

__kernel void adjust(__global const float *in, __global float *w, __global const float *delta, __global float *moved,
                     int hidden) {
    int j = get_global_id(0), i = get_global_id(1);
    float change = 0.3f * delta[j] * in[i] + 0.3f * moved[i * hidden + j];
    w[i * hidden + j] += change;
    moved[i * hidden + j] = change;
}
"""

STREAM = """
__kernel void gain(__global const float *points, __global const float *weight, __global const float *cost,
                   __global float *saved, int candidate) {
    int p = get_global_id(0);
    float distance = 0;
    for (int f = 0; f < 16; f++) {
        float d = points[p * 16 + f] - points[candidate * 16 + f];
        distance += d * d;
    }
    saved[p] = fmax(cost[p] - distance * weight[p], 0.0f);
}
"""

DEGREE, CLUSTERS, ROUNDS, HIDDEN = 6, 8, 5, 16


def _graph(n: int, random: np.random.Generator) -> Arrays:
    edges = random.integers(0, n, (n, DEGREE), np.int32)
    # A chain with jumps, so that there are levels, and every node can be reached.
    edges[:, 0] = (np.arange(n) + 1) % n
    cost = np.full(n, -1, np.int32)
    cost[0] = 0
    frontier = np.zeros(n, np.uint8)
    frontier[0] = 1
    first = np.arange(0, n * DEGREE + 1, DEGREE, dtype=np.int32)
    still: Arrays = {"next": np.zeros(n, np.uint8), "going": np.zeros(1, np.int32)}
    return {**still, "first": first, "edges": edges, "frontier": frontier, "cost": cost}


def _bfs(n: int, _: Arrays) -> Steps:
    level = 0
    while True:
        level += 1
        yield Launch("expand", (n,), ("first", "edges", "frontier", "next", "cost", number(level)))
        yield Write("going", np.zeros(1, np.int32))
        yield Launch("settle", (n,), ("frontier", "next", "cost", "going", number(level)))
        if not (yield Read("going"))[0]:
            return


def _bfs_reference(_: int, d: Arrays) -> Arrays:
    cost, frontier, level = d["cost"].copy(), np.array([0]), 0
    while len(frontier):
        level += 1
        reached = np.unique(d["edges"][frontier])
        frontier = reached[cost[reached] < 0]
        cost[frontier] = level
    return {"cost": cost}


def _clusters(n: int, random: np.random.Generator) -> Arrays:
    # Apart from each other, so that rounding moves no point.
    middles = 4 * np.eye(CLUSTERS, 16, dtype=np.float32)
    points = middles[np.arange(n) % CLUSTERS] + uniform(random, n, 16)
    return {"points": points, "centres": points[:CLUSTERS].copy(), "member": np.zeros(n, np.int32)}


def _centres(points: Array, member: Array) -> Array:
    sums = np.stack([np.bincount(member, points[:, f], CLUSTERS) for f in range(16)], axis=1)
    return np.asarray(sums / np.bincount(member, minlength=CLUSTERS)[:, None], np.float32)


def _kmeans(n: int, d: Arrays) -> Steps:
    for _round in range(ROUNDS):
        yield Launch("assign", (n,), ("points", "centres", "member", number(CLUSTERS)))
        yield Write("centres", _centres(d["points"], (yield Read("member"))))


def _kmeans_reference(_: int, d: Arrays) -> Arrays:
    centres, points = d["centres"], d["points"]
    for _round in range(ROUNDS):
        distances = np.stack([((points - centre) ** 2).sum(axis=1) for centre in centres])
        member = distances.argmin(axis=0)
        centres = _centres(points, member)
    return {"centres": centres, "member": member}


def _nearest(n: int, _: Arrays) -> Steps:
    yield Launch("distance_to", (n,), ("places", "distances", real(0.3), real(0.7)))
    distances = yield Read("distances")
    yield Write("best", np.sort(np.partition(distances, 10)[:10]))


def _nearest_reference(_: int, d: Arrays) -> Arrays:
    distances = np.hypot(d["places"][:, 0] - 0.3, d["places"][:, 1] - 0.7)
    return {"best": np.sort(distances)[:10]}


def _network(n: int, random: np.random.Generator) -> Arrays:
    layers = {"in": uniform(random, n) / n, "w": uniform(random, n, HIDDEN), "moved": zeros(n, HIDDEN)}
    return layers | {"hidden": zeros(HIDDEN), "delta": zeros(HIDDEN)}


def _delta(hidden: Array) -> Array:
    return np.asarray(hidden * (1 - hidden) * (0.5 - hidden), np.float32)


def _backprop(n: int, _: Arrays) -> Steps:
    for _round in range(ROUNDS):
        yield Launch("forward", (HIDDEN,), ("in", "w", "hidden", number(n), number(HIDDEN)))
        yield Write("delta", _delta((yield Read("hidden"))))
        yield Launch("adjust", (HIDDEN, n), ("in", "w", "delta", "moved", number(HIDDEN)))


def _backprop_reference(_: int, d: Arrays) -> Arrays:
    w, moved = d["w"].astype(np.float64), d["moved"].astype(np.float64)
    for _round in range(ROUNDS):
        hidden = 1 / (1 + np.exp(-d["in"] @ w))
        moved = 0.3 * np.outer(d["in"], hidden * (1 - hidden) * (0.5 - hidden)) + 0.3 * moved
        w = w + moved
    return {"w": w, "hidden": hidden}


def _stream(n: int, random: np.random.Generator) -> Arrays:
    arrays = {"points": uniform(random, n, 16), "weight": uniform(random, n), "cost": 4 * uniform(random, n)}
    return arrays | {"saved": zeros(n), "gains": zeros(CLUSTERS)}


def _streamcluster(n: int, _: Arrays) -> Steps:
    gains = []
    for candidate in range(CLUSTERS):
        yield Launch("gain", (n,), ("points", "weight", "cost", "saved", number(candidate)))
        gains.append((yield Read("saved")).sum(dtype=np.float64))
    yield Write("gains", np.array(gains, np.float32))


def _streamcluster_reference(_: int, d: Arrays) -> Arrays:
    distances = np.stack([((d["points"] - d["points"][c]) ** 2).sum(axis=1) for c in range(CLUSTERS)])
    return {"gains": np.maximum(d["cost"] - distances * d["weight"], 0).sum(axis=1, dtype=np.float64)}


WORKLOADS = (
    Workload("bfs", BFS, 1, _graph, _bfs, ("cost",), _bfs_reference, granule=1024),
    Workload("kmeans", KMEANS, 1, _clusters, _kmeans, ("centres", "member"), _kmeans_reference, granule=1024),
    Workload(
        "nn",
        NEAREST,
        1,
        lambda n, r: {"places": uniform(r, n, 2), "distances": zeros(n), "best": zeros(10)},
        _nearest,
        ("best",),
        _nearest_reference,
        granule=1024,
    ),
    Workload("backprop", BACKPROP, 1, _network, _backprop, ("w", "hidden"), _backprop_reference, granule=256),
    Workload("streamcluster", STREAM, 1, _stream, _streamcluster, ("gains",), _streamcluster_reference, granule=1024),
)
