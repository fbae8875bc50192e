"""Rates: a bucket that fills steadily, and from which each request takes one."""


class Bucket:
    """At most `burst` at once and `rate` a second in the long run. Times are seconds of any one clock."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = max(1.0, burst)
        self._level = self.burst
        self._at = now

    def take(self, now: float) -> float:
        """0 if the request may pass (it is counted then), else seconds until one may."""
        self._level = min(self.burst, self._level + max(0.0, now - self._at) * self.rate)
        self._at = now
        if self._level >= 1.0:
            self._level -= 1.0
            return 0.0
        return (1.0 - self._level) / self.rate
