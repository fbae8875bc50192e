"""Matrix products with the protocol of loop.h, by as many threads as NumPy's BLAS finds processors."""

import sys
import time

import numpy as np

SIZE = 768
#: Small whole numbers: sums are exact, in whatever order threads add them up.
LEFT, RIGHT = (np.random.default_rng(seed).integers(-9, 9, (SIZE, SIZE)).astype(np.float64) for seed in (1, 2))


def work(repetitions):
    return sum(int((LEFT @ RIGHT).trace()) for _ in range(repetitions))


for line in sys.stdin:
    begin = time.perf_counter_ns()
    result = work(int(line))
    print(time.perf_counter_ns() - begin, result, flush=True)
