"""Pacing: ticks that fall due at fixed multiples of a period from one start, so that lateness never adds up."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Pacing:
    """How well ticks were kept. jitter: how late each tick began, seconds; overruns: ticks that began a whole period late."""

    ticks: int
    overruns: int
    jitter_p50_s: float
    jitter_p99_s: float


class Pacer:
    """Waits for the ticks of `period_s` plant seconds at `realtime` times real time; 0 never waits.

    A clock that jumps (suspended machine, set clock) restarts the schedule instead of being chased.
    clock, sleep: seconds, monotonic; given by tests.
    """

    def __init__(
        self,
        period_s: float,
        realtime: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        longest_lag: int = 20,
    ) -> None:
        if period_s <= 0 or realtime < 0:
            raise ValueError(f"period_s must be above 0 and realtime not below, are {period_s} and {realtime}")
        self._wall_s = period_s / realtime if realtime else 0.0
        self._clock, self._sleep, self._longest_lag = clock, sleep, longest_lag
        self._start, self._count = clock(), 0
        self._late: deque[float] = deque(maxlen=4096)
        self.ticks = self.overruns = 0

    def wait(self) -> None:
        """Return when the next tick is due."""
        self.ticks += 1
        if not self._wall_s:
            return
        self._count += 1
        due = self._start + self._count * self._wall_s
        now = self._clock()
        while now < due:
            self._sleep(due - now)
            now = self._clock()
        late = now - due
        self._late.append(late)
        if late >= self._wall_s:
            self.overruns += 1
        if late > self._longest_lag * self._wall_s:
            self._start, self._count = now, 0

    def report(self) -> Pacing:
        late = np.array(self._late) if self._late else np.zeros(1)
        return Pacing(self.ticks, self.overruns, float(np.percentile(late, 50)), float(np.percentile(late, 99)))
