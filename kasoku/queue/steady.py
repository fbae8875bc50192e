"""Time for the queue: the wall clock's when it was made, and from then on as time goes by.

What was acknowledged must not wait for an hour because somebody set the clock back by one, nor be too old because
somebody set it forward: whoever counts delays and ages counts on a clock that is never set.
"""

import time


class SteadyClock:
    """See the module. Seconds since 1970; it goes on while the machine sleeps."""

    def __init__(self) -> None:
        self._begin = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def __call__(self) -> float:
        return self._begin + time.clock_gettime(time.CLOCK_BOOTTIME)
