"""Three ways to run: how often to tell, how closely to look; chosen by hand, and under pressure by
itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mode:
    """stream_hz: highest rate of the streams. look_hz: of validation; enhanced: with jumps, ringing
    and energy.
    """

    name: str
    stream_hz: float
    look_hz: float
    enhanced: bool


PERFORMANCE = Mode("performance", 5.0, 5.0, False)
BALANCED = Mode("balanced", 10.0, 15.0, True)
ACCURACY = Mode("accuracy", 20.0, math.inf, True)
MODES = {m.name: m for m in (PERFORMANCE, BALANCED, ACCURACY)}
_ORDER = (PERFORMANCE, BALANCED, ACCURACY)


class RealTimeOptimizer:
    """The mode in force. Wall time used above `high` for `down_s` seconds takes one step towards
    performance; below `low` for `up_s` one step back, never beyond what was chosen. The two times
    and marks apart keep it from swinging.
    """

    def __init__(
        self,
        mode: str = "balanced",
        high: float = 0.9,
        low: float = 0.5,
        down_s: float = 1.0,
        up_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0.0 < low < high:
            raise ValueError(f"low {low} and high {high}: low must be above 0 and below high.")
        self._high = high
        self._low = low
        self._down_s = down_s
        self._up_s = up_s
        self._clock = clock
        self.chosen = self.mode = mode_of(mode)
        self._since_high = self._since_low = math.nan
        self.switches = 0

    def choose(self, name: str) -> None:
        """By hand, at once. Raises ValueError for an unknown mode."""
        self.chosen = self.mode = mode_of(name)
        self._since_high = self._since_low = math.nan

    def press(self, pressure: float) -> bool:
        """Tell the share of the granted wall time that was used; whether the mode changed."""
        now, place = self._clock(), _ORDER.index(self.mode)
        self._since_high = (
            (now if math.isnan(self._since_high) else self._since_high)
            if pressure > self._high
            else math.nan
        )
        self._since_low = (
            (now if math.isnan(self._since_low) else self._since_low)
            if pressure < self._low
            else math.nan
        )
        if now - self._since_high >= self._down_s and place > 0:
            self.mode, self._since_high = _ORDER[place - 1], now
        elif now - self._since_low >= self._up_s and place < _ORDER.index(self.chosen):
            self.mode, self._since_low = _ORDER[place + 1], now
        else:
            return False
        self.switches += 1
        return True


def mode_of(name: str) -> Mode:
    """Raises ValueError for an unknown name."""
    if name not in MODES:
        raise ValueError(f"no mode {name!r}. There are: {', '.join(MODES)}.")
    return MODES[name]
