"""Pacing: ticks that fall due at fixed multiples of a period from one start, so that lateness never
adds up.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

OVERRUN = ("degrade", "skip", "slow")


@dataclass(frozen=True, slots=True)
class Pacing:
    """How well ticks were kept. jitter: how late each tick began, seconds; overruns: ticks that
    began a whole period late; skipped: ticks left out; drift_s: of the schedule against the clock
    since the start."""

    ticks: int
    overruns: int
    jitter_p50_s: float
    jitter_p99_s: float
    skipped: int = 0
    drift_s: float = 0.0


class Pacer:
    """Waits for the ticks of `period_s` plant seconds at `realtime` times real time; 0 never waits.

    overrun: what happens to ticks that could not be kept. "degrade": they follow at once, until the
        schedule is reached again; "skip": those
    missed are left out, the rest stay on the grid; "slow": the whole schedule moves, time runs
    slower than wished. A clock that jumps (suspended machine, set clock) restarts the schedule
    instead of being chased.
    clock, sleep: seconds, monotonic; given by tests.
    """

    def __init__(
        self,
        period_s: float,
        realtime: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        longest_lag: int = 20,
        overrun: str = "degrade",
    ) -> None:
        if period_s <= 0 or realtime < 0:
            raise ValueError(
                f"period_s must be above 0 and realtime not below, are {period_s} and {realtime}"
            )
        if overrun not in OVERRUN:
            raise ValueError(
                f"overrun {overrun!r} is not allowed. There are: {', '.join(OVERRUN)}."
            )
        self.period_s, self._overrun = period_s, overrun
        self._wall_s = period_s / realtime if realtime else 0.0
        self._clock = clock
        self._sleep = sleep
        self._longest_lag = longest_lag
        self._start, self._count = clock(), 0
        self._late: deque[float] = deque(maxlen=4096)
        self.ticks = self.overruns = self.skipped = 0
        self._given_up_s = 0.0

    @property
    def granted_s(self) -> float:
        """Wall time of one tick; 0 where it does not wait."""
        return self._wall_s

    def wait(self) -> int:
        """Return when the next tick is due: how many periods it stands for, 1 but where ticks were
        skipped.
        """
        self.ticks += 1
        if not self._wall_s:
            return 1
        self._count += 1
        due = self._start + self._count * self._wall_s
        now = self._clock()
        while now < due:
            self._sleep(due - now)
            now = self._clock()
        late = now - due
        self._late.append(late)
        stands_for = 1
        if late >= self._wall_s:
            self.overruns += 1
            if late > self._longest_lag * self._wall_s:
                self._given_up_s += late
                self._start, self._count = now, 0
            elif self._overrun == "skip":
                missed = int(divmod(late, self._wall_s)[0])
                self.skipped += missed
                self._count += missed
                stands_for += missed
            elif self._overrun == "slow":
                self._given_up_s += late
                self._start += late
        return stands_for

    def report(self) -> Pacing:
        p50, p99 = np.percentile(self._late or [0.0], (50, 99)).tolist()
        return Pacing(self.ticks, self.overruns, p50, p99, self.skipped, self._given_up_s)
