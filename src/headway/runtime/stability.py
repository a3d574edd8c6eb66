"""Whether the numbers of a plant can be trusted: finite, within bounds, without jumps, energy
conserved, no ringing at the step's frequency.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

RING = 8  # changes in a row of alternating sign that count as ringing

# what each fault takes from the score; 1 is all of it
LOST = 1.0
OUT_OF_BOUNDS = 0.7
JUMP = 0.5
DRIFT = 0.5
RINGING = 0.3


@dataclass(frozen=True, slots=True)
class FigureLimits:
    """Of one figure. lowest, highest: bounds; per_s: fastest plausible change; noise: smaller
    changes do not count as ringing.
    """

    lowest: float = -math.inf
    highest: float = math.inf
    per_s: float = math.inf
    noise: float = math.inf

    def __post_init__(self) -> None:
        if not self.lowest <= self.highest or not self.per_s > 0.0 or not self.noise >= 0.0:
            raise ValueError(
                f"{self}: lowest must not be above highest, per_s must be above 0, noise not below."
            )


@dataclass(frozen=True, slots=True)
class Stability:
    """score: 1 is stable, 0 is lost. reasons: what is wrong now, with the figures."""

    score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Fault:
    """What one figure does wrong, and what that takes from the score."""

    weight: float
    reason: str


class NumericalStabilityMonitor:
    """Checks the figures of a plant after each step. A fault lowers the score, which recovers over
    `memory` checks.

    drift: name of the figure that holds the share of energy unaccounted for, and its limit.

    >>> monitor = NumericalStabilityMonitor({"v": FigureLimits(highest=10.0)})
    >>> monitor.check(0.0, {"v": float("nan")}).score
    0.0
    """

    def __init__(
        self,
        limits: Mapping[str, FigureLimits],
        drift: tuple[str, float] | None = None,
        memory: int = 50,
    ) -> None:
        self._limits = dict(limits)
        self._drift = drift
        self._recovery = 1.0 / memory  # of the score, per check
        self._past: dict[str, deque[float]] = {
            name: deque(maxlen=RING + 1) for name in self._limits
        }
        self.reset()

    def reset(self) -> None:
        """After a restore: the values before it do not count as a jump."""
        for past in self._past.values():
            past.clear()
        self._last_s = math.nan
        self._penalty = 0.0

    def check(self, at_s: float, figures: Mapping[str, float], enhanced: bool = True) -> Stability:
        """Check the figures of plant time `at_s`. Without `enhanced` only whether they are finite
        and within bounds.
        """
        faults = [_Fault(LOST, f"{n} is {v}") for n, v in figures.items() if not math.isfinite(v)]
        for name, limits in self._limits.items():
            value = figures[name]
            if math.isfinite(value):
                faults += _out_of_bounds(name, value, limits)
                if enhanced:
                    faults += self._jump(name, value, at_s, limits)
                    faults += self._ringing(name, value, limits)
        if enhanced:
            faults += self._energy_drift(figures)

        self._last_s = at_s
        worst = max((f.weight for f in faults), default=0.0)
        self._penalty = max(worst, self._penalty - self._recovery)
        return Stability(1.0 - self._penalty, tuple(f.reason for f in faults))

    def _jump(self, name: str, value: float, at_s: float, limits: FigureLimits) -> list[_Fault]:
        """A change faster than is plausible, since the last check."""
        past, passed_s = self._past[name], at_s - self._last_s
        if not past or not passed_s > 0.0 or abs(value - past[-1]) <= limits.per_s * passed_s:
            return []
        reason = f"{name} jumped from {past[-1]:.6g} to {value:.6g} in {passed_s:.3g} s"
        return [_Fault(JUMP, reason)]

    def _ringing(self, name: str, value: float, limits: FigureLimits) -> list[_Fault]:
        """The last RING changes alternate in sign, each larger than the noise."""
        past = self._past[name]
        past.append(value)
        if len(past) <= RING:
            return []
        changes = [b - a for a, b in pairwise(past)]
        if not all(a * b < 0.0 and abs(b) > limits.noise for a, b in pairwise(changes)):
            return []
        return [_Fault(RINGING, f"{name} rings from step to step by {abs(changes[-1]):.3g}")]

    def _energy_drift(self, figures: Mapping[str, float]) -> list[_Fault]:
        if self._drift is None:
            return []
        name, limit = self._drift
        share = figures[name]
        if not share > limit:
            return []
        return [_Fault(DRIFT, f"{name} {share:.3g} is above {limit:g}: energy is not kept")]


def _out_of_bounds(name: str, value: float, limits: FigureLimits) -> list[_Fault]:
    if limits.lowest <= value <= limits.highest:
        return []
    reason = f"{name} {value:.6g} is outside {limits.lowest:g} to {limits.highest:g}"
    return [_Fault(OUT_OF_BOUNDS, reason)]
