"""Pacing: ticks that fall due at fixed multiples of a period from one start, so that lateness never
adds up.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

OVERRUN = ("degrade", "skip", "slow")
LATENESS_KEPT = 4096  # ticks over which jitter is reported
RATE_OVER_S = 2.0  # long enough to be steady, short enough for an alert
# how early something may be done, so that the jitter of ticks costs it no turn
EARLY_SHARE, EARLY_S = 0.1, 0.005  # of its period, and wall time; the lesser of both
LONGEST_LAG_S = 1.0  # beyond it turns are left out, so that a pause does not end in a burst


@dataclass(frozen=True, slots=True)
class Pacing:
    """How well the ticks were kept.

    overruns: ticks that began at least a whole period late. jitter: how late ticks began, wall
        seconds. skipped: ticks left out. drift_s: of the schedule against the clock since the
        start.
    """

    ticks: int
    overruns: int
    jitter_p50_s: float
    jitter_p99_s: float
    skipped: int = 0
    drift_s: float = 0.0


class Pacer:
    """Waits for the ticks of `period_s` plant seconds. speed_factor: plant seconds per wall second;
    0 never waits.

    overrun: what happens to late ticks. "degrade": they follow at once, until the schedule is
        reached again; "skip": missed ones are left out, the others stay on the grid; "slow": the
        whole schedule moves, so that time runs slower than requested.
    longest_lag: ticks. Beyond it (suspended machine, set clock) the schedule restarts.
    clock, sleep: wall seconds, monotonic; given by tests.
    """

    def __init__(
        self,
        period_s: float,
        speed_factor: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        longest_lag: int = 20,
        overrun: str = "degrade",
    ) -> None:
        if not (0.0 < period_s < math.inf and 0.0 <= speed_factor < math.inf):
            raise ValueError(
                f"period_s must be above 0 and speed_factor not below, both finite; are {period_s} "
                f"and {speed_factor}"
            )
        if overrun not in OVERRUN:
            raise ValueError(
                f"overrun {overrun!r} is not allowed. There are: {', '.join(OVERRUN)}."
            )
        self.period_s = period_s
        self._speed_factor = speed_factor
        self._overrun = overrun
        self._wall_s = period_s / speed_factor if speed_factor else 0.0
        self._clock = clock
        self._sleep = sleep
        self._longest_lag = longest_lag
        # tick k is due at start + k x wall_s: never at the last tick plus a period, which drifts
        self._start = clock()
        self._count = 0
        self._lateness: deque[float] = deque(maxlen=LATENESS_KEPT)
        self.late_s = 0.0  # of the last tick
        self.ticks = 0
        self.overruns = 0
        self.skipped = 0
        self._drift_s = 0.0

    @property
    def granted_s(self) -> float:
        """Wall time of one tick; 0 where it does not wait."""
        return self._wall_s

    @property
    def due_in_s(self) -> float:
        """Wall time until the next tick is due; 0 where it is late, or does not wait."""
        if not self._wall_s:
            return 0.0
        return max(self._start + (self._count + 1) * self._wall_s - self._clock(), 0.0)

    def continue_from(self, before: Pacer) -> None:
        """The next tick is due no later than that of the pacer before this one: settings that
        change again and again do not put it off.
        """
        if self._wall_s and before.granted_s:
            self._start -= max(self.due_in_s - before.due_in_s, 0.0)

    def change_period(self, period_s: float) -> None:
        """From now on a tick stands for `period_s`; the next one is due that long after the last
        one was.
        """
        self._start += self._count * self._wall_s
        self._count = 0
        self.period_s = period_s
        self._wall_s = period_s / self._speed_factor if self._speed_factor else 0.0

    def wait(self) -> int:
        """Return when the next tick is due: how many periods it stands for, more than 1 where ticks
        were skipped.
        """
        self.ticks += 1
        if not self._wall_s:
            return 1
        self._count += 1
        now = self._sleep_until(self._start + self._count * self._wall_s)
        late_s = now - (self._start + self._count * self._wall_s)
        self._lateness.append(late_s)
        self.late_s = late_s
        if late_s < self._wall_s:
            return 1
        self.overruns += 1
        return 1 + self._reschedule(now, late_s)

    def _sleep_until(self, due: float) -> float:
        """Returns the wall time afterwards."""
        now = self._clock()
        while now < due:
            self._sleep(due - now)
            now = self._clock()
        return now

    def _reschedule(self, now: float, late_s: float) -> int:
        """After an overrun. Returns how many ticks are skipped."""
        if late_s > self._longest_lag * self._wall_s:
            self._drift_s += late_s
            self._start, self._count = now, 0
        elif self._overrun == "skip":
            missed = int(divmod(late_s, self._wall_s)[0])
            self.skipped += missed
            self._count += missed
            return missed
        elif self._overrun == "slow":
            self._drift_s += late_s
            self._start += late_s
        return 0

    def report(self) -> Pacing:
        """Since the start; jitter over the last LATENESS_KEPT ticks."""
        p50, p99 = np.percentile(list(self._lateness) or [0.0], (50, 99)).tolist()
        return Pacing(
            ticks=self.ticks,
            overruns=self.overruns,
            jitter_p50_s=p50,
            jitter_p99_s=p99,
            skipped=self.skipped,
            drift_s=self._drift_s,
        )


class RateMeter:
    """How often something happens a second, over the last RATE_OVER_S of wall time."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=LATENESS_KEPT)

    def note(self, now: float) -> None:
        """It happened now."""
        self._times.append(now)
        while len(self._times) > 2 and now - self._times[0] > RATE_OVER_S:
            self._times.popleft()

    @property
    def per_s(self) -> float | None:
        """None until it has happened twice."""
        times = list(self._times)
        span_s = times[-1] - times[0] if times else 0.0
        return (len(times) - 1) / span_s if span_s > 0.0 else None


class Schedule:
    """When something that a loop does at a rate of its own is due: on a grid from its first time,
    so that the rate holds in the long run although no tick falls on it. Wall seconds.
    """

    __slots__ = ("_due", "_early_s")

    def __init__(self) -> None:
        self._due = -math.inf
        self._early_s = 0.0

    def is_due(self, now: float) -> bool:
        """Now, or so soon that this tick is taken."""
        return self._due - self._early_s <= now

    def advance(self, now: float, period_s: float) -> None:
        """It has been done: the next time is a period later. What lags more than LONGEST_LAG_S, or
        a period, behind is left out.
        """
        earliest = now - max(period_s, LONGEST_LAG_S)
        self._due = (
            max(self._due + period_s, earliest) if math.isfinite(self._due) else now + period_s
        )
        self._early_s = min(EARLY_SHARE * period_s, EARLY_S)
