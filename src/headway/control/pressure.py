"""Greedy and max-pressure: the stage with most traffic, or with most traffic less what stands
behind the junction.

Max pressure: P. Varaiya, "Max pressure control of a network of signalized intersections",
Transportation Research C 36 (2013).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headway.control.stages import StageTable, demand, may_change
from headway.roads import Colour, Network, Timing
from headway.values import FloatArray, IntArray, Observation, Proposal


@dataclass(frozen=True, slots=True)
class Aim:
    """The stage aimed at (junctions,), and when each junction decides next, seconds."""

    target: IntArray
    next_s: FloatArray


class Greedy:
    """Every `interval_s` the stage that serves most vehicles near the junction."""

    name = "greedy"
    interval_s = 5.0

    def __init__(self, network: Network, timing: Timing) -> None:
        self._network = network
        self._timing = timing
        self._table = StageTable(network, timing)
        self._sure = np.ones(len(network.junctions))
        self._to = np.array([network.links[g.links[0]].to_lane for g in network.groups])

    def start(self, observation: Observation) -> Aim:
        n = len(self._network.junctions)
        return Aim(np.zeros(n, np.int32), np.full(n, observation.at_s))

    def weights(self, observation: Observation) -> FloatArray:
        """What a green of each group is worth, (groups,)."""
        return demand(self._network, observation)

    def step(self, observation: Observation, state: Aim) -> tuple[Proposal, Aim]:
        free = may_change(self._network, self._timing, state.target, self._table, observation) & (
            observation.at_s >= state.next_s - 1e-6
        )
        target = state.target.copy()
        if free.any():
            worth = self.weights(observation)
            for j in np.flatnonzero(free).tolist():
                junction = self._network.junctions[j]
                lit = junction.stages >= Colour.PERMISSIVE
                score = lit @ worth[junction.first : junction.end]
                if score.max() > score[target[j]]:
                    target[j] = int(np.argmax(score))
        due = np.where(free, observation.at_s + self.interval_s, state.next_s)
        return Proposal(
            observation.at_s,
            self.name,
            self._table.wanted_after_min_green(target, observation),
            self._sure,
        ), Aim(target, due)


class MaxPressure(Greedy):
    """Every `interval_s` the stage with the greatest sum of vehicles before less vehicles behind
    its links.
    """

    name = "max-pressure"

    def weights(self, observation: Observation) -> FloatArray:
        return np.asarray(demand(self._network, observation) - observation.count[self._to])
