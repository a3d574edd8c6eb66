"""Three modes: how often to publish, how closely to check; chosen by hand, and lowered by itself
under load.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mode:
    """Rates are per wall second.

    stream_hz: highest rate of streams and alerts. check_hz: of stability checks; inf for every
        tick. enhanced: these include jumps, ringing and energy.
    """

    name: str
    stream_hz: float
    check_hz: float
    enhanced: bool


PERFORMANCE = Mode("performance", 5.0, 5.0, False)
BALANCED = Mode("balanced", 10.0, 15.0, True)
ACCURACY = Mode("accuracy", 20.0, math.inf, True)
TARGET_HZ = 15.0
LOWEST_HZ, HIGHEST_HZ = 0.1, 1000.0  # above it a tick is no longer than what a sleep is late
MODES = {m.name: m for m in (PERFORMANCE, BALANCED, ACCURACY)}
_BY_ACCURACY = (PERFORMANCE, BALANCED, ACCURACY)


class RealTimeOptimizer:
    """The mode in force, and the rate of ticks that it asks for.

    target_hz: ticks per wall second of a plant that can be advanced by any period.

    A load above `high` for `down_s` wall seconds lowers the mode by one step towards performance; a
    load below `low` for `up_s` raises it by one, never beyond the mode that was chosen. The gaps
    between both loads and both times prevent oscillation.
    """

    def __init__(
        self,
        mode: str = "balanced",
        high: float = 0.9,
        low: float = 0.5,
        down_s: float = 1.0,
        up_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        target_hz: float = TARGET_HZ,
    ) -> None:
        self.target_hz = checked_target(target_hz)
        if not 0.0 < low < high:
            raise ValueError(f"low {low} and high {high}: low must be above 0 and below high.")
        self._high = high
        self._low = low
        self._down_s = down_s
        self._up_s = up_s
        self._clock = clock
        self.chosen = self.mode = mode_by_name(mode)
        self._high_since = self._low_since = math.nan  # wall time; nan while it is not so
        self.switches = 0

    @property
    def tick_hz(self) -> float:
        """Ticks per wall second: the target, or the mode's stream rate where that is higher, since
        a stream shows no state that was not computed.
        """
        return max(self.target_hz, self.mode.stream_hz)

    def choose(self, name: str) -> None:
        """By hand, at once. Raises ValueError for an unknown mode."""
        self.chosen = self.mode = mode_by_name(name)
        self._high_since = self._low_since = math.nan

    def adapt_to_load(self, load: float) -> bool:
        """Take the share of the granted wall time that was used. Returns whether the mode
        changed.
        """
        now = self._clock()
        self._high_since = _since(self._high_since, load > self._high, now)
        self._low_since = _since(self._low_since, load < self._low, now)
        step = _BY_ACCURACY.index(self.mode)
        if now - self._high_since >= self._down_s and step > 0:
            self.mode, self._high_since = _BY_ACCURACY[step - 1], now
        elif now - self._low_since >= self._up_s and step < _BY_ACCURACY.index(self.chosen):
            self.mode, self._low_since = _BY_ACCURACY[step + 1], now
        else:
            return False
        self.switches += 1
        return True


def _since(since: float, holds: bool, now: float) -> float:
    """Since when a condition holds; nan if it does not."""
    if not holds:
        return math.nan
    return now if math.isnan(since) else since


def mode_by_name(name: str) -> Mode:
    """Raises ValueError for an unknown name."""
    if name not in MODES:
        raise ValueError(f"no mode {name!r}. There are: {', '.join(MODES)}.")
    return MODES[name]


def checked_target(target_hz: float) -> float:
    """Raises ValueError for a rate that no loop can keep."""
    if not LOWEST_HZ <= target_hz <= HIGHEST_HZ:
        raise ValueError(
            f"target_hz: {target_hz!r} is not allowed: ticks per second, {LOWEST_HZ:g} to "
            f"{HIGHEST_HZ:g}."
        )
    return target_hz
