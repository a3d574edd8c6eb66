"""How long a step may be: by the error that it makes, within bounds, and by what the wall clock
leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from numba import njit

SAFETY = 0.9
SMALLEST = 0.2
LARGEST = 5.0


@njit(cache=True)
def pi_factor(error: float, before: float, order: float) -> float:
    """By what to multiply a step that made `error` times the tolerance, the one before `before`
    times; PI control of step size.

    0.9 error^(-0.7/order) before^(0.4/order), within 0.2 to 5 (K. Gustafsson, ACM TOMS 17, 1991;
    the exponents of Hairer and Wanner).
    """
    error = max(error, 1e-10)
    factor = (
        SAFETY * error ** (-0.7 / order) * max(before, 1e-4) ** (0.4 / order)
        if error <= 1.0
        else SAFETY * error ** (-1.0 / order)
    )
    return float(max(SMALLEST, min(factor, LARGEST)))


@dataclass(frozen=True, slots=True)
class StepBounds:
    """shortest_s, longest_s: bounds of a step; rtol, atol: tolerances of its local error."""

    shortest_s: float = 0.05
    longest_s: float = 0.2
    rtol: float = 1e-4
    atol: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("shortest_s", "longest_s", "rtol", "atol"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name}: {value!r} is not allowed: a finite number above 0.")
        if self.shortest_s > self.longest_s:
            raise ValueError(
                f"shortest_s: {self.shortest_s} is above longest_s: {self.longest_s}. The "
                "shortest step must not be the longer one."
            )


class AdaptiveTimestepper:
    """Proposes steps. With an error estimate: PI control (`judge`). Under a budget of wall time
    (`spent`): steps grow where time is short.

    A plant of fixed step has no error to tell; for it `batch` adapts, the number of its steps
    between two looks at the world.

    >>> stepper = AdaptiveTimestepper(StepBounds(0.01, 1.0, 1e-4, 1e-6))
    >>> stepper.judge(0.5)
    True
    >>> stepper.step_s > 0.01
    True
    """

    def __init__(self, bounds: StepBounds, order: float = 5.0, most_batch: int = 1_000_000) -> None:
        self.bounds = bounds
        self._order = order
        self._most = most_batch
        self.step_s = bounds.shortest_s
        self._before = 1.0
        self._floor_s = bounds.shortest_s
        self.batch = 1
        self.accepted = 0
        self.rejected = 0
        self.forced = 0

    @property
    def floor_s(self) -> float:
        """The shortest step of the moment: the bound, or more where wall time is short."""
        return self._floor_s

    def refine(self) -> None:
        """Steps may be a quarter as short for a while: after a fault, work is done again with
        care.
        """
        self._floor_s = self.step_s = self._floor_s / 4.0
        self.batch = 1

    def judge(self, error: float) -> bool:
        """Whether the step just tried, with `error` times its tolerance, stands; `step_s` is then
        the next, else the one to try again.

        At the lower bound every finite error stands (`forced` counts those above tolerance). Raises
        ArithmeticError if it is no number.
        """
        if not math.isfinite(error):
            raise ArithmeticError(
                f"the error of a step of {self.step_s} s is {error}: the state is lost; "
                "restore it, and go on with a shorter step"
            )
        stands = error <= 1.0 or self.step_s <= self._floor_s * (1.0 + 1e-9)
        factor = pi_factor(error, self._before, self._order)
        if stands:
            self.accepted += 1
            self.forced += error > 1.0
            self._before = error
        else:
            self.rejected += 1
        self.step_s = min(max(self.step_s * factor, self._floor_s), self.bounds.longest_s)
        return stands

    def spent(self, used_s: float, granted_s: float, on_time: bool = True) -> float:
        """Tell the wall time that a look's work took, and what was granted; returns the pressure, 1
        being all of it.

        Above 0.9 the floor rises towards the upper bound, where time has to be kept; below 0.6 it
        sinks back; the batch fills half of what is granted.
        """
        pressure = used_s / granted_s if granted_s > 0.0 else math.inf
        if self._floor_s < self.bounds.shortest_s:
            self._floor_s = min(self._floor_s * 1.1, self.bounds.shortest_s)
        elif pressure > 0.9 and on_time:
            self._floor_s = min(self._floor_s * 1.25, self.bounds.longest_s)
        elif pressure < 0.6:
            self._floor_s = max(self._floor_s / 1.1, self.bounds.shortest_s)
        wish = self.batch * min(max(0.5 / max(pressure, 1e-6), 0.25), 2.0)
        self.batch = int(min(max(wish, 1.0), self._most))
        return pressure
