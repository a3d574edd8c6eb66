"""The set of observations "queues": what any sensing profile gives of a junction, as numbers that
agents learn on, and decide on when they run on a street.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headway.control.stages import NEAR_M
from headway.roads import Network
from headway.values import HALTING_MPS, Observation

Features = NDArray[np.float32]

# a value is 1 from here on
MANY_VEHICLES = 20.0
LONG_WAIT_S = 120.0
LONG_GREEN_S = 60.0
FULL_EXIT_M = 15.0
OF_GROUP = 4  # values of each signal group


class QueueFeatures:
    """float32 (stages + 2 + 4 groups,), 0..1, of each junction: the stage aimed at, one-hot;
    whether another may be chosen; its age; then for each signal group: vehicles within 200 m of the
    stop line (pedestrians who wait at a crossing) and those stopped, the longest wait, whether the
    exit is full.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._to = np.array([network.links[g.links[0]].to_lane for g in network.groups])
        self._of_groups: Features = np.zeros((len(network.groups), OF_GROUP), np.float32)

    @staticmethod
    def size(network: Network, junction: int) -> int:
        of = network.junctions[junction]
        return len(of.stages) + 2 + OF_GROUP * (of.end - of.first)

    def look(self, observation: Observation) -> None:
        """Take note of an observation, before `of`."""
        v, groups = observation.vehicles, len(self._network.groups)
        near = (v.link >= 0) & (v.distance_m <= NEAR_M)
        group = self._network.link_group[v.link[near]]
        known = group >= 0
        group, speed, wait = group[known], v.speed_mps[near][known], v.waiting_s[near][known]
        longest = np.zeros(groups)
        np.maximum.at(longest, group, wait)
        there = np.bincount(group, minlength=groups) + observation.waiting_persons
        stopped = np.bincount(group[speed < HALTING_MPS], minlength=groups)
        self._of_groups[:, 0] = np.minimum(there / MANY_VEHICLES, 1.0)
        self._of_groups[:, 1] = np.minimum(
            (stopped + observation.waiting_persons) / MANY_VEHICLES, 1.0
        )
        self._of_groups[:, 2] = np.minimum(longest / LONG_WAIT_S, 1.0)
        self._of_groups[:, 3] = observation.room_m[self._to] < FULL_EXIT_M

    def of(self, junction: int, stage: int, free: bool, age_s: float) -> Features:
        """Of one junction. stage: that it aims at; free: another may be chosen; age_s: since it was
        chosen.
        """
        at = self._network.junctions[junction]
        found = np.zeros(len(at.stages) + 2, np.float32)
        found[stage] = 1.0
        found[-2] = free
        found[-1] = min(age_s / LONG_GREEN_S, 1.0)
        return np.concatenate([found, self._of_groups[at.first : at.end].ravel()])
