"""Fixed time: the network's own programmes."""

from __future__ import annotations

import numpy as np

from headway.roads import Network, Timing
from headway.values import ColourArray, Observation, Proposal


class FixedTime:
    """Shows each junction's own programme by the clock."""

    name = "fixed"

    def __init__(self, network: Network, timing: Timing) -> None:
        self._network = network
        self._sure = np.ones(len(network.junctions))

    def start(self, observation: Observation) -> None:
        return None

    def step(self, observation: Observation, state: None) -> tuple[Proposal, None]:
        wanted = programme_colours(self._network, observation.at_s)
        return Proposal(observation.at_s, self.name, wanted, self._sure), None


def programme_colours(network: Network, at_s: float) -> ColourArray:
    """(groups,), what each junction's own programme shows at `at_s`."""
    programmes = [junction.programme for junction in network.junctions]
    return np.concatenate([p.colours[p.phase_at(at_s)] for p in programmes])
