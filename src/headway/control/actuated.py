"""Vehicle actuation: stages in turn, each extended while vehicles keep coming (gap-out), up to a
longest green (max-out).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headway.control.stages import StageTable, demand, may_change
from headway.roads import Colour, Network, Timing
from headway.values import FloatArray, IntArray, Observation, Proposal


@dataclass(frozen=True, slots=True)
class ActuatedState:
    """The stage aimed at (junctions,), and since when, seconds."""

    target: IntArray
    began_s: FloatArray


class Actuated:
    """A stage without calls is skipped; the last one rests in green while there are no calls for
    another.

    gap_s: a green ends when no vehicle is closer to the stop line than this, seconds. longest_s:
        max-out.
    """

    name = "actuated"
    gap_s, longest_s = 3.0, 50.0

    def __init__(self, network: Network, timing: Timing) -> None:
        self._network = network
        self._timing = timing
        self._table = StageTable(network, timing)
        self._sure = np.ones(len(network.junctions))
        self._group = network.link_group

    def start(self, observation: Observation) -> ActuatedState:
        n = len(self._network.junctions)
        return ActuatedState(np.zeros(n, np.int32), np.full(n, observation.at_s))

    def step(
        self, observation: Observation, state: ActuatedState
    ) -> tuple[Proposal, ActuatedState]:
        v = observation.vehicles
        coming = (v.link >= 0) & (v.distance_m <= self.gap_s * np.maximum(v.speed_mps, 2.0))
        extends = np.zeros(len(observation.shown), np.bool_)
        groups = self._group[v.link[coming]]
        extends[groups[groups >= 0]] = True
        calls = demand(self._network, observation) > 0
        target, began = state.target.copy(), state.began_s.copy()
        for j in np.flatnonzero(
            may_change(self._network, self._timing, target, self._table, observation)
        ).tolist():
            junction = self._network.junctions[j]
            own = slice(junction.first, junction.end)
            lit = junction.stages >= Colour.PERMISSIVE
            protected = junction.stages[target[j]] == Colour.GREEN
            if (extends[own] & protected).any() and observation.at_s - began[j] < self.longest_s:
                continue
            waiting = calls[own] & (observation.shown[own] < Colour.PERMISSIVE)
            for ahead in range(len(junction.stages)):
                candidate = (target[j] + ahead) % len(junction.stages)
                if (lit[candidate] & waiting).any():
                    target[j], began[j] = candidate, observation.at_s
                    break
        return Proposal(
            observation.at_s,
            self.name,
            self._table.wanted_after_min_green(target, observation),
            self._sure,
        ), ActuatedState(target, began)
