"""A clock set by hand."""

from __future__ import annotations


class Clock:
    """Call it for the time. `sleep` turns it on; what was slept is noted in `slept`."""

    def __init__(self, now: float = 0.0) -> None:
        self.now, self.slept = now, list[float]()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
