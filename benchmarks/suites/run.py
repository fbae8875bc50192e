"""Runs kernels of the suites as an ordinary pyopencl program does: one JSON object a line in, one a line out.

It runs unmodified on both sides. Data come from seeds, so that both sides compute the same; every result is compared
with NumPy's when a workload is prepared, and its digest is part of each later answer. With `--check` it compares a
small size of each workload and ends.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import warnings
from typing import Any

import numpy as np
import pyopencl as cl

from suites import datamining, grids, linear, mining, stencils
from suites.workload import Arrays, Launch, Read, Workload

WORKLOADS = {
    workload.name: workload for module in (linear, stencils, datamining, grids, mining) for workload in module.WORKLOADS
}


class Runner:
    """One context, and the workload that was prepared last."""

    def __init__(self) -> None:
        self.context: Any = cl.Context([cl.get_platforms()[0].get_devices()[0]])
        self.queue: Any = cl.CommandQueue(self.context)
        self.built: dict[str, Any] = {}

    def names(self) -> dict[str, Any]:
        """The workloads: by how much a size grows, and which power of it the time grows with."""
        return {"workloads": [[w.name, w.granule, w.power] for w in WORKLOADS.values()]}

    def prepare(self, name: str, size: int, check: bool) -> dict[str, Any]:
        """Makes data and buffers for `run`, and compares a first run's results with NumPy's."""
        self.workload: Workload = WORKLOADS[name]
        self.size = size
        self.data: Arrays = self.workload.data(size, np.random.default_rng(size))
        if self.workload.source not in self.built:
            self.built[self.workload.source] = cl.Program(self.context, self.workload.source).build()
        program = self.built[self.workload.source]
        self.kernels = {kernel.function_name: kernel for kernel in program.all_kernels()}
        flags = cl.mem_flags.READ_WRITE
        self.buffers = {key: cl.Buffer(self.context, flags, value.nbytes) for key, value in self.data.items()}
        if check:
            found = self._compute()
            for key, want in self.workload.reference(size, self.data).items():
                atol = self.workload.tolerance * float(np.abs(want).max())
                if not np.allclose(found[key], want, rtol=self.workload.tolerance, atol=atol):
                    return {"wrong": f"{name} of size {size}: {key} differs from NumPy's"}
        return {}

    def run(self) -> dict[str, Any]:
        """Data in, kernels, results out."""
        begin = time.perf_counter_ns()
        found = self._compute()
        ns = time.perf_counter_ns() - begin
        digest = hashlib.sha256()
        for key in self.workload.results:
            digest.update(found[key].tobytes())
        return {"ns": ns, "digest": digest.hexdigest()}

    def _compute(self) -> Arrays:
        for key, value in self.data.items():
            cl.enqueue_copy(self.queue, self.buffers[key], value, is_blocking=False)
        steps = self.workload.steps(self.size, self.data)
        answer = None
        try:
            while True:
                step = next(steps) if answer is None else steps.send(answer)
                answer = None
                if isinstance(step, Launch):
                    kernel = self.kernels[step.kernel]
                    kernel.set_args(*(self.buffers[a] if isinstance(a, str) else a for a in step.arguments))
                    cl.enqueue_nd_range_kernel(self.queue, kernel, step.size, step.group)
                elif isinstance(step, Read):
                    answer = self._read(step.name)
                else:
                    value = np.ascontiguousarray(step.value, self.data[step.name].dtype)
                    cl.enqueue_copy(self.queue, self.buffers[step.name], value, is_blocking=True)
        except StopIteration:
            return {key: self._read(key) for key in self.workload.results}

    def _read(self, name: str) -> Any:
        value = np.empty_like(self.data[name])
        cl.enqueue_copy(self.queue, value, self.buffers[name], is_blocking=True)
        return value


def main() -> None:
    """Answers until the input ends."""
    # Setting arguments anew for each launch is what these programs do.
    warnings.simplefilter("ignore")
    runner = Runner()
    if sys.argv[1:] == ["--check"]:
        wrong = [runner.prepare(w.name, 2 * w.granule, True).get("wrong") for w in WORKLOADS.values()]
        print(json.dumps({"checked": len(wrong), "wrong": [text for text in wrong if text]}))
        return
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(runner, request.pop("op"))(**request)), flush=True)


if __name__ == "__main__":
    main()
