"""How far each junction's proposal is trusted, and which are left to the fallback for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from headway.control.confidence import freshness
from headway.roads import Network
from headway.values import BoolArray, Event, FloatArray, Observation, Proposal

CONFIDENCE_HYSTERESIS = 0.1  # above the threshold, for a junction that was left to the fallback


class Trust:
    """The controller's confidence, times how fresh and complete the observation is that it rests
    on.

    threshold:   below it a junction is left to the fallback, 0..1.
    of_junction: float (junctions,), of the last proposal; None without one.
    """

    def __init__(self, network: Network, record: Callable[[Event], None], threshold: float) -> None:
        self._network = network
        self._record = record
        self.threshold = threshold
        self.of_junction: FloatArray | None = None
        self._factors: Mapping[str, FloatArray] = {}  # by name; times `_fresh`
        self._fresh = 1.0

    def judge(self, proposal: Proposal, observation: Observation, now_s: float) -> None:
        """A proposal that was made at `now_s` of this observation."""
        self._fresh = freshness(now_s - observation.at_s)
        self.of_junction = proposal.confidence * observation.completeness * self._fresh
        self._factors = {"completeness": observation.completeness, **proposal.why}

    def nothing(self) -> None:
        """There is no proposal."""
        self.of_junction, self._factors = None, {}

    def low(self, before: BoolArray | None) -> BoolArray:
        """(junctions,), to be left to the fallback; also where the confidence is not a number. One
        that was left, which `before` tells, is taken back a little above the threshold.
        """
        assert self.of_junction is not None
        bound: float | FloatArray = self.threshold
        if before is not None:
            bound = np.where(before, min(bound + CONFIDENCE_HYSTERESIS, 1.0), bound)
        return ~(self.of_junction >= bound)

    def record_changes(
        self, at_s: float, before: BoolArray | None, low: BoolArray, fallback: str
    ) -> None:
        """Record which junctions are left to the fallback from now on, and which are not any more.
        low: (junctions,). fallback: who decides there.
        """
        assert self.of_junction is not None
        changed = low != before if before is not None else low
        for j in np.flatnonzero(changed).tolist():
            kind = "engine.fallback" if low[j] else "engine.fallback_ended"
            data = {
                "confidence": round(float(self.of_junction[j]), 3),
                "threshold": self.threshold,
                "fallback": fallback,
                **self.factors_of(j),
            }
            self._record(Event(at_s, kind, self._network.junctions[j].id, data))

    def least(self) -> dict[str, Any]:
        """The junction that is trusted least: its confidence, name and factors."""
        assert self.of_junction is not None
        least = int(np.argmin(self.of_junction))
        confidence = round(float(self.of_junction[least]), 3)
        name = self._network.junctions[least].id
        return {"confidence": confidence, "least_sure": name, **self.factors_of(least)}

    def factors_of(self, junction: int) -> dict[str, float]:
        """The factors of a junction's confidence, by name."""
        if not self._factors:
            return {}
        found = {name: float(factor[junction]) for name, factor in self._factors.items()}
        found["freshness"] = found.get("freshness", 1.0) * self._fresh
        return {name: round(factor, 3) for name, factor in found.items()}
