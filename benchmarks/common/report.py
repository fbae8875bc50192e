"""What a benchmark prints, and what it writes with --json."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from common.sampling import median, percentile, ratio

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Result:
    """One line of a report. Fields that do not apply are None and left out of the JSON.

    `ratio` is the median of the ratios within rounds, `interval` its 95 % confidence interval. `ok` says whether the
    target holds: for ratios with the whole interval.
    """

    name: str
    unit: str
    kasoku: float | None = None
    native: float | None = None
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    target: str | None = None
    ok: bool | None = None
    n: int | None = None
    p50: float | None = None
    p99: float | None = None
    peers: dict[str, float] = field(default_factory=dict)


class Report:
    """Collects results; prints each as it comes."""

    def __init__(self, benchmark: str) -> None:
        self.benchmark = benchmark
        self.results: list[Result] = []
        print(f"{benchmark}: {_describe(machine())}", flush=True)
        print(_line("", "kasoku", "native", "ratio (95 %)", "p99", "n", "target"), flush=True)

    def add(self, result: Result) -> None:
        """Takes a result and prints its line."""
        self.results.append(result)
        interval = f" ({result.interval[0]:.3f}..{result.interval[1]:.3f})" if result.interval else ""
        shown = f"{result.ratio:.3f}{interval}" if result.ratio is not None else ""
        verdict = "" if result.target is None else f"{result.target} {'ok' if result.ok else 'MISSED'}"
        peers = "".join(f"  {name} {_number(value)}" for name, value in result.peers.items())
        print(
            _line(
                f"{result.name} [{result.unit}]",
                _number(result.kasoku),
                _number(result.native),
                shown,
                _number(result.p99),
                "" if result.n is None else str(result.n),
                verdict + peers,
            ),
            flush=True,
        )

    def compare(
        self,
        name: str,
        unit: str,
        samples: dict[str, list[float]],
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        inverse: bool = False,
    ) -> None:
        """Adds a comparison of `samples["kasoku"]` with `samples["native"]`; other samples are peers.

        The ratio is kasoku over native, or native over kasoku with `inverse`.
        """
        ours, native = samples["kasoku"], samples["native"]
        relation = ratio(native, ours) if inverse else ratio(ours, native)
        ok = None
        target = None
        if at_most is not None:
            ok, target = relation.high <= at_most, f"<= {at_most}"
        if at_least is not None:
            ok, target = relation.low >= at_least, f">= {at_least}"
        self.add(
            Result(
                name,
                unit,
                kasoku=median(ours).value,
                native=median(native).value,
                ratio=relation.value,
                interval=(relation.low, relation.high),
                target=target,
                ok=ok,
                n=len(ours),
                p50=median(ours).value,
                p99=percentile(ours, 99),
                peers=_peers(samples),
            )
        )

    def absolute(
        self, name: str, unit: str, samples: dict[str, list[float]], *, p50_at_most: float | None = None
    ) -> None:
        """Adds a measurement whose target is a number; native and peers beside it where they were measured."""
        ours = samples["kasoku"]
        half = median(ours).value
        self.add(
            Result(
                name,
                unit,
                kasoku=median(ours).value,
                native=median(samples["native"]).value if "native" in samples else None,
                target=None if p50_at_most is None else f"p50 <= {p50_at_most}",
                ok=None if p50_at_most is None else half <= p50_at_most,
                n=len(ours),
                p50=half,
                p99=percentile(ours, 99),
                peers=_peers(samples),
            )
        )

    def finish(self, path: Path | None, *, add: bool = False) -> int:
        """Writes the JSON where it is wanted. Returns the exit status: 1 where a target was missed.

        With `add` the file keeps what it has of other names, if that was measured on the same machine and commit.
        """
        missed = [result.name for result in self.results if result.ok is False]
        if path is not None:
            results = [{k: v for k, v in asdict(result).items() if v not in (None, {})} for result in self.results]
            document = {"benchmark": self.benchmark, "machine": machine(), "results": results}
            if add and path.exists():
                before = json.loads(path.read_text())
                names = {result.name for result in self.results}
                if before["machine"] == document["machine"]:
                    results[:0] = [result for result in before["results"] if result["name"] not in names]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(document, indent=2) + "\n")
        if missed:
            print(f"{self.benchmark}: missed: {', '.join(missed)}", file=sys.stderr)
        return 1 if missed else 0


def arguments(
    description: str | None, rounds: int, more: Callable[[argparse.ArgumentParser], None] = lambda _: None
) -> argparse.Namespace:
    """Reads the options that every benchmark has, and `more`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds of interleaved measurements [{rounds}]")
    parser.add_argument("--add", action="store_true", help="keep what FILE has of the same commit and other names")
    more(parser)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds is at least 1")
    return options


def machine() -> dict[str, str | int]:
    """Says what the figures were measured on."""
    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    kvm = [name for name in ("kvm_intel", "kvm_amd", "kvm_pvm") if Path("/sys/module", name).exists()]
    return {
        "cpu": model,
        "cores": os.cpu_count() or 0,
        "memory_mib": memory // 1024,
        "kernel": platform.release(),
        "kvm": "+".join(kvm) or "unknown",
        "python": platform.python_version(),
        "commit": _commit(),
    }


def _commit() -> str:
    """The commit of this tree, or the one that a bundle was made of."""
    if (brought := ROOT / "commit").is_file():
        return brought.read_text().strip()
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    return commit.stdout.strip() or "unknown"


def _peers(samples: dict[str, list[float]]) -> dict[str, float]:
    return {name: median(values).value for name, values in samples.items() if name not in ("kasoku", "native")}


def _describe(what: dict[str, str | int]) -> str:
    return f"{what['cpu']}, {what['cores']} cores, Linux {what['kernel']}, {what['kvm']}, commit {what['commit']}"


def _lines(path: str) -> Sequence[str]:
    return Path(path).read_text().splitlines()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _line(*cells: str) -> str:
    widths = (44, 10, 10, 24, 10, 5, 0)
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
