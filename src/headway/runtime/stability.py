"""Whether the numbers of a plant can be believed: finite, within bounds, without jumps, energy
kept, no ringing at the step's frequency.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

RING = 8  # samples of which each change goes the other way than the one before


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one figure: lowest, highest; per_s: fastest believable change; noise: changes smaller than
    this do not ring.
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
    """score: 1 is sound, 0 is lost. reasons: what is wrong now, with the figures."""

    score: float
    reasons: tuple[str, ...]


class NumericalStabilityMonitor:
    """Looks at the figures of a plant after each step. A fault weighs on the score and fades over
    `memory` looks.

    drift: the figure that holds the share of energy unaccounted for, and its limit.

    >>> monitor = NumericalStabilityMonitor({"v": Limits(highest=10.0)})
    >>> monitor.look(0.0, {"v": float("nan")}).score
    0.0
    """

    def __init__(
        self, limits: Mapping[str, Limits], drift: tuple[str, float] | None = None, memory: int = 50
    ) -> None:
        self._limits = dict(limits)
        self._drift = drift
        self._fade = 1.0 / memory
        self._past: dict[str, deque[float]] = {
            name: deque(maxlen=RING + 1) for name in self._limits
        }
        self.forget()

    def forget(self) -> None:
        """After a restore: what was before does not count as a jump."""
        for past in self._past.values():
            past.clear()
        self._last_s, self._penalty = math.nan, 0.0

    def look(self, at_s: float, figures: Mapping[str, float], enhanced: bool = True) -> Stability:
        """Judge the figures of plant time `at_s`. Not `enhanced`: only whether they are numbers
        within bounds.
        """
        reasons, worst = list[str](), 0.0
        for name, value in figures.items():
            if not math.isfinite(value):
                reasons.append(f"{name} is {value}")
                worst = 1.0
        for name, limits in self._limits.items():
            value = figures[name]
            if not math.isfinite(value):
                continue
            if not limits.lowest <= value <= limits.highest:
                reasons.append(
                    f"{name} {value:.6g} is outside {limits.lowest:g} to {limits.highest:g}"
                )
                worst = max(worst, 0.7)
            if enhanced:
                worst = max([worst, *self._changes(name, value, at_s, limits, reasons)])
        if self._drift is not None and enhanced:
            share = figures[self._drift[0]]
            if share > self._drift[1]:
                reasons.append(
                    f"{self._drift[0]} {share:.3g} is above {self._drift[1]:g}: energy is not kept"
                )
                worst = max(worst, 0.5)
        self._last_s = at_s
        self._penalty = max(worst, self._penalty - self._fade)
        return Stability(1.0 - self._penalty, tuple(reasons))

    def _changes(
        self, name: str, value: float, at_s: float, limits: Limits, reasons: list[str]
    ) -> list[float]:
        """What jumps and ringing weigh."""
        past, weights = self._past[name], list[float]()
        if (
            past
            and at_s > self._last_s
            and abs(value - past[-1]) > limits.per_s * (at_s - self._last_s)
        ):
            reasons.append(
                f"{name} jumped from {past[-1]:.6g} to {value:.6g} in {at_s - self._last_s:.3g} s"
            )
            weights.append(0.5)
        past.append(value)
        if len(past) > RING:
            steps = [b - a for a, b in pairwise(past)]
            if all(a * b < 0.0 and abs(b) > limits.noise for a, b in pairwise(steps)):
                reasons.append(f"{name} rings from step to step by {abs(steps[-1]):.3g}")
                weights.append(0.3)
        return weights
