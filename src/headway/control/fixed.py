"""Fixed time: the network's own programmes."""

from __future__ import annotations

import numpy as np

from headway.roads import Network, Timing
from headway.values import Observation, Proposal


class FixedTime:
    """Shows each junction's own programme by the clock."""

    name = "fixed"

    def __init__(self, network: Network, timing: Timing) -> None:
        self._network = network
        self._sure = np.ones(len(network.junctions))

    def start(self, observation: Observation) -> None:
        return None

    def step(self, observation: Observation, state: None) -> tuple[Proposal, None]:
        wanted = np.concatenate(
            [
                j.programme.colours[j.programme.phase_at(observation.at_s)]
                for j in self._network.junctions
            ]
        )
        return Proposal(observation.at_s, self.name, wanted, self._sure), None
