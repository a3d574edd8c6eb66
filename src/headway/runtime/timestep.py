"""How long an integration step may be: by its error, within bounds, and by the wall time that is
left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SAFETY = 0.9  # of the step that would just meet the tolerance
SMALLEST = 0.2  # factors from one step to the next
LARGEST = 5.0
HIGH_LOAD = 0.9  # above it the shortest step grows
LOW_LOAD = 0.6  # below it the shortest step shrinks again
ALLOWED = {  # of StepBounds
    "shortest_s": (1e-6, 3600.0),
    "longest_s": (1e-6, 3600.0),
    "rtol": (1e-14, 1.0),
    "atol": (1e-16, 1.0),
}
BATCH_LOAD = 0.5  # the share of the granted wall time that a batch is to take


def pi_factor(error: float, before: float, order: float) -> float:
    """The factor from one step to the next; PI control of the step size. error, before: of this
    step and the one before, in multiples of the tolerance.

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
    """shortest_s, longest_s: bounds of a step; rtol, atol: tolerances of its local error. Raises
    ValueError for what is beyond ALLOWED: time would stand, or no step be good enough.
    """

    shortest_s: float = 0.05
    longest_s: float = 0.2
    rtol: float = 1e-4
    atol: float = 1e-6

    def __post_init__(self) -> None:
        for name, (least, most) in ALLOWED.items():
            value = getattr(self, name)
            if not (isinstance(value, int | float) and least <= value <= most):
                raise ValueError(
                    f"{name}: {value!r} is not allowed: a number from {least:g} to {most:g}."
                )
        if self.shortest_s > self.longest_s:
            raise ValueError(
                f"shortest_s: {self.shortest_s} is above longest_s: {self.longest_s}. The "
                "shortest step must not be the longer one."
            )


class AdaptiveTimestepper:
    """Proposes steps: by the error of the last one (`accept`), with PI control; and by the wall
    time that was used (`adapt_to_load`), as steps grow where time is short.

    A plant of fixed step has no error estimate; for it `batch` adapts, the number of its steps
    between two checks.

    >>> stepper = AdaptiveTimestepper(StepBounds(0.01, 1.0, 1e-4, 1e-6))
    >>> stepper.accept(0.1)
    True
    >>> stepper.step_s > 0.01
    True
    """

    def __init__(
        self, bounds: StepBounds, order: float = 5.0, largest_batch: int = 1_000_000
    ) -> None:
        self.bounds = bounds
        self._order = order
        self._largest_batch = largest_batch
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
        """After a fault: steps may be a quarter as short for a while, and nothing is gathered."""
        self._floor_s = self.step_s = self._floor_s / 4.0
        self.batch = 1

    def accept(self, error: float) -> bool:
        """Whether the step just tried is accepted; `step_s` is then the next one, else the one to
        try again. error: in multiples of the tolerance.

        At the lower bound every finite error is accepted; `forced` counts those above tolerance.
        Raises ArithmeticError if the error is not finite.
        """
        if not math.isfinite(error):
            raise ArithmeticError(
                f"the error of a step of {self.step_s} s is {error}: the state is lost; "
                "restore it, and go on with a shorter step"
            )
        accepted = error <= 1.0 or self.step_s <= self._floor_s * (1.0 + 1e-9)
        factor = pi_factor(error, self._before, self._order)
        if accepted:
            self.accepted += 1
            self.forced += error > 1.0
            self._before = error
        else:
            self.rejected += 1
        self.step_s = min(max(self.step_s * factor, self._floor_s), self.bounds.longest_s)
        return accepted

    def adapt_to_load(self, used_s: float, granted_s: float, on_time: bool = True) -> float:
        """Take the wall time that a tick used, and what it was granted; returns the load, 1 being
        all of it. on_time: ticks have to be kept.

        The shortest step grows above HIGH_LOAD towards the longest, if `on_time`, and shrinks back
        below LOW_LOAD; the batch grows or shrinks until it takes BATCH_LOAD.
        """
        load = used_s / granted_s if granted_s > 0.0 else math.inf
        if self._floor_s < self.bounds.shortest_s:
            self._floor_s = min(self._floor_s * 1.1, self.bounds.shortest_s)
        elif load > HIGH_LOAD and on_time:
            self._floor_s = min(self._floor_s * 1.25, self.bounds.longest_s)
        elif load < LOW_LOAD:
            self._floor_s = max(self._floor_s / 1.1, self.bounds.shortest_s)
        batch = self.batch * min(max(BATCH_LOAD / max(load, 1e-6), 0.25), 2.0)
        self.batch = int(min(max(batch, 1.0), self._largest_batch))
        return load
