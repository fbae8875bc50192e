"""Counters and latency distributions of invocations, and their text for Prometheus. Pure: values go in, text comes out.

Own lines of code instead of a client library: a labelled counter and a histogram are all there is, and this is on the
path of every invocation (0.5 us each).
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

BOUNDS_MS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 30000.0)
RECENT = 512
"""Latencies that percentiles are taken from."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Distribution:
    """A histogram in milliseconds, and the latest values."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))
    total_ms: float = 0.0
    count: int = 0
    recent: list[float] = field(default_factory=list)

    def add(self, value_ms: float) -> None:
        """Count a value."""
        self.buckets[bisect_left(BOUNDS_MS, value_ms)] += 1
        self.total_ms += value_ms
        if len(self.recent) < RECENT:
            self.recent.append(value_ms)
        else:
            self.recent[self.count % RECENT] = value_ms
        self.count += 1

    def percentiles(self) -> dict[str, float]:
        """p50, p90 and p99 of the latest values; empty without any."""
        if not self.recent:
            return {}
        ordered = sorted(self.recent)
        last = len(ordered) - 1
        return {f"p{p}": round(ordered[min(last, len(ordered) * p // 100)], 3) for p in (50, 90, 99)}


@dataclass(slots=True)
class FunctionMetrics:
    """Of one function since the server began."""

    outcomes: dict[str, int] = field(default_factory=dict)
    """`ok`, `error` (the function's) or an error's name (the platform's)."""
    warm: Distribution = field(default_factory=Distribution)
    cold: Distribution = field(default_factory=Distribution)
    wait: Distribution = field(default_factory=Distribution)
    """Time that invocations waited for an instance."""
    lease: Distribution = field(default_factory=Distribution)
    """Time that instances waited for a device."""


class Metrics:
    """All functions."""

    def __init__(self) -> None:
        self.functions: dict[str, FunctionMetrics] = {}

    def served(self, name: str, timings: Mapping[str, float], *, total_ms: float, cold: bool, failed: bool) -> None:
        """An invocation ended with an outcome."""
        metrics = self._of(name)
        outcome = "error" if failed else "ok"
        metrics.outcomes[outcome] = metrics.outcomes.get(outcome, 0) + 1
        (metrics.cold if cold else metrics.warm).add(total_ms)
        metrics.wait.add(timings.get("wait_ms", 0.0))
        if "lease_ms" in timings:
            metrics.lease.add(timings["lease_ms"])

    def refused(self, name: str, code: str) -> None:
        """An invocation was refused by the platform, or it failed."""
        outcomes = self._of(name).outcomes
        outcomes[code] = outcomes.get(code, 0) + 1

    def forget(self, name: str) -> None:
        """A function is gone."""
        self.functions.pop(name, None)

    def _of(self, name: str) -> FunctionMetrics:
        metrics = self.functions.get(name)
        if metrics is None:
            metrics = self.functions[name] = FunctionMetrics()
        return metrics


Gauge = tuple[str, str, Iterable[tuple[Mapping[str, str], float]]]
"""Name, help text, and samples with their labels."""


def exposition(metrics: Metrics, gauges: Iterable[Gauge]) -> str:
    """The text that Prometheus reads."""
    lines = ["# HELP kasoku_invocations_total Invocations by outcome.", "# TYPE kasoku_invocations_total counter"]
    for name, found in sorted(metrics.functions.items()):
        for outcome, count in sorted(found.outcomes.items()):
            lines.append(f"kasoku_invocations_total{_labels({'function': name, 'outcome': outcome})} {count}")
    help_text = "Time from the request to its answer."
    lines += _histograms(metrics, "kasoku_invocation_seconds", help_text, {"cold": "true", "warm": "false"})
    lines += _histograms(metrics, "kasoku_wait_seconds", "Time that invocations waited for an instance.", {"wait": ""})
    lines += _histograms(
        metrics, "kasoku_lease_wait_seconds", "Time that instances waited for a device.", {"lease": ""}
    )
    for name, text, samples in gauges:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_labels(labels)} {value:g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _histograms(metrics: Metrics, name: str, text: str, parts: Mapping[str, str]) -> list[str]:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} histogram"]
    for function, found in sorted(metrics.functions.items()):
        for part, cold in parts.items():
            distribution: Distribution = getattr(found, part)
            labels = {"function": function, **({"cold": cold} if cold else {})}
            total = 0
            for bound, count in zip(BOUNDS_MS, distribution.buckets, strict=False):
                total += count
                lines.append(f"{name}_bucket{_labels({**labels, 'le': f'{bound / 1000:g}'})} {total}")
            lines.append(f"{name}_bucket{_labels({**labels, 'le': '+Inf'})} {distribution.count}")
            lines.append(f"{name}_sum{_labels(labels)} {distribution.total_ms / 1000:.6f}")
            lines.append(f"{name}_count{_labels(labels)} {distribution.count}")
    return lines


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    escaped = {k: v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for k, v in labels.items()}
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"
