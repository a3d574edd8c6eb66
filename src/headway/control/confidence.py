"""How far a decision can be trusted, from several factors, each told by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from headway.values import FloatArray

ENOUGH_VISITS = 20.0
STALE_S = 5.0
REGRET_SCALE = 1.0


@dataclass(frozen=True, slots=True)
class Confidence:
    """Confidence of each junction (junctions,) in 0..1, and the factors that it is made of, each in
    0..1.

    freshness:    1 for an observation of this instant, 0 at STALE_S or older.
    completeness: share of the sources that delivered.
    novelty:      visits of this state in learning, n / (n + ENOUGH_VISITS); 1 where nothing is
        learnt.
    agreement:    share of the advisers that would do the same.
    performance:  1 without recent regret, falling as the outcome stays behind what was expected.
    """

    freshness: FloatArray
    completeness: FloatArray
    novelty: FloatArray
    agreement: FloatArray
    performance: FloatArray

    @property
    def score(self) -> FloatArray:
        """Geometric mean of the factors: one that is nought leaves nothing."""
        parts = np.stack(list(self.factors().values()))
        return np.asarray(np.prod(np.clip(parts, 0.0, 1.0), axis=0) ** (1.0 / len(parts)))

    def factors(self) -> dict[str, FloatArray]:
        """The factors by name, (junctions,) each."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def freshness(age_s: float) -> float:
    """1 at no age, 0 at STALE_S seconds; 0 for an age that is no number."""
    return min(1.0, max(0.0, 1.0 - age_s / STALE_S)) if math.isfinite(age_s) else 0.0


def novelty(visits: FloatArray) -> FloatArray:
    """How well a state is known after `visits` visits: 0 at none, 1/2 at ENOUGH_VISITS."""
    return np.asarray(visits / (visits + ENOUGH_VISITS))


def performance(regret: FloatArray) -> FloatArray:
    """1 without regret, 1/2 at REGRET_SCALE, (junctions,)."""
    return np.asarray(1.0 / (1.0 + np.maximum(regret, 0.0) / REGRET_SCALE))
