"""The gate's own clock. Whatever the clock outside does, it never goes back, never runs ahead of
the ticks that were asked for, and never stands for longer than STANDS_TICKS of them.
"""

from __future__ import annotations

from enum import Enum
from math import inf, isfinite
from typing import Any

import numpy as np

from headway.safety.kernel import EPS_S

STANDS_TICKS = 3  # for which a clock that stands is waited for: then the ticks are counted instead
KEEPS_PACE = 0.5  # share of the ticks that a clock must make to count as running
LONGEST_TICK_S = 5.0  # a longer one is a break, not a tick
SHORTEST_TICK_S = 0.05  # in less a clock has stood: half of the shortest that settings allow
USUAL_TICK_S = 1.0
NUMBERS = (float, int, np.floating, np.integer)


class ClockFault(Enum):
    """Why a reading of the clock outside is not believed."""

    NO_NUMBER = "not a number"
    BACK = "goes back"
    LEAPS = "leaps"
    STANDS = "stands"


class GateClock:
    """Follows the readings of another clock as long as they can be believed: each moves on by no
    more than the ticks since the last good one, and by no less than half of them. One that has
    leapt or gone back is followed again as soon as it runs from there, without any age changing.

    now_s:   seconds; all ages count in it.
    ahead_s: by how much the clock outside is ahead of it: 0 until that has leapt, or gone back.
    tick_s:  of the tick under way, 0 to LONGEST_TICK_S; None until it is known. The first step
        between two readings then is the length of all.
    """

    def __init__(self, now_s: float, tick_s: float | None = None, ahead_s: float = 0.0) -> None:
        self.now_s = now_s
        self.ahead_s = ahead_s
        self.tick_s = tick_s
        self._has_begun = False
        self._good_s = now_s + ahead_s  # the last reading believed
        self._due_s = 0.0  # the ticks since then
        self._missed = 0  # their number, without the present one
        self._previous_s = self._good_s  # the last reading that was a number

    @property
    def outside_s(self) -> float:
        """What the clock outside should show."""
        return self.now_s + self.ahead_s

    def advance(self, reading: Any, first_s: float = inf) -> ClockFault | None:
        """Move on by the tick that has ended, by the reading of the clock outside if it can be
        believed. Returns what is wrong with it otherwise.

        first_s: what may have passed at most from the start to the first reading.
        """
        reading_s = seconds(reading)
        tick_s = self.tick_s or self._first_step(reading_s, first_s)
        self._due_s += tick_s
        if reading_s is None:
            return self._miss(ClockFault.NO_NUMBER, tick_s)
        step_s = reading_s - self._good_s
        since_previous_s = reading_s - self._previous_s
        self._previous_s = reading_s
        # what was lost while it stood is not made up for: what began meanwhile would age too fast
        followed_s = min(max(self.now_s, reading_s - self.ahead_s), self.now_s + tick_s)
        if KEEPS_PACE * self._due_s - EPS_S <= step_s <= self._due_s + EPS_S:
            self._believe(reading_s, followed_s)
        elif KEEPS_PACE * tick_s <= since_previous_s <= tick_s + EPS_S:
            self._believe(reading_s, self.now_s + since_previous_s)  # it runs again, elsewhere
        elif step_s > self._due_s:
            return self._miss(ClockFault.LEAPS, tick_s)
        elif step_s < 0.0:
            return self._miss(ClockFault.BACK, tick_s)
        elif self._missed >= STANDS_TICKS:
            return self._miss(ClockFault.STANDS, tick_s)
        else:
            self._missed += 1
            self.now_s = followed_s
        return None

    def _believe(self, reading_s: float, now_s: float) -> None:
        self._good_s = reading_s
        self._due_s = 0.0
        self._missed = 0
        if abs(reading_s - now_s - self.ahead_s) <= EPS_S:
            self.now_s = reading_s - self.ahead_s  # without what sums of ticks lose
        else:
            self.now_s = now_s
            self.ahead_s = reading_s - now_s

    def _first_step(self, reading_s: float | None, first_s: float) -> float:
        """The length of a tick that nobody has told: of the first step between two readings. What
        cannot have passed before the first reading has not passed.
        """
        begins, self._has_begun = not self._has_begun, True
        step_s = 0.0 if reading_s is None else reading_s - self._previous_s
        if begins:
            return step_s if 0.0 <= step_s <= first_s else 0.0
        if SHORTEST_TICK_S <= step_s <= LONGEST_TICK_S:
            self.tick_s = step_s
            return step_s
        return USUAL_TICK_S

    def _miss(self, fault: ClockFault, tick_s: float) -> ClockFault:
        """Count the tick instead."""
        self.now_s += tick_s
        self._missed += 1
        return fault


def seconds(reading: Any) -> float | None:
    """A finite number as a float; None for anything else."""
    if not isinstance(reading, NUMBERS):
        return None
    try:
        found = float(reading)
    except OverflowError:  # an int beyond all floats
        return None
    return found if isfinite(found) else None
