"""A controller of your own: a pure step from an observation to the wanted colours. The safety gate
does the rest.

python examples/own_controller.py [SCENARIO or FILE.sumocfg] [SECONDS]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from headway.control.stages import StageTable
from headway.control.webster import Webster
from headway.plants.sumo import SumoPlant, SumoSettings, read_network
from headway.plants.sumo.scenarios import scenario
from headway.roads import BENCHMARK, Network, Timing, work_out
from headway.street.closed_loop import Street, stopped_vehicles
from headway.values import Event, Observation, Proposal


@dataclass(frozen=True)
class LongestWait:
    """Each junction shows the stage of the vehicle that has waited longest. Its state: the stages
    aimed at, (junctions,).
    """

    network: Network
    timing: Timing
    name: str = "longest-wait"

    def start(self, observation: Observation) -> np.ndarray:
        return np.zeros(len(self.network.junctions), np.int32)

    def step(self, observation: Observation, state: np.ndarray) -> tuple[Proposal, np.ndarray]:
        target, v = state.copy(), observation.vehicles
        for j, junction in enumerate(self.network.junctions):
            waits = {
                self.network.links[k].group: w
                for k, w in sorted(zip(v.link, v.waiting_s, strict=True), key=lambda x: x[1])
                if k >= 0 and w > 5.0
            }
            own = [g for g in waits if g in junction.groups]
            if own:
                target[j] = int(np.argmax(junction.stages[:, own[-1] - junction.first]))
        wanted = StageTable(self.network, self.timing).wanted_after_min_green(target, observation)
        return Proposal(observation.at_s, self.name, wanted, np.ones(len(target))), target


def main(name: str = "cologne1", seconds: int = 600) -> None:
    chosen, events = scenario(name), list[Event]()
    network = read_network(chosen.net)
    timing = work_out(network, BENCHMARK)
    plant = SumoPlant(SumoSettings(chosen.sumocfg), network)
    street = Street(
        network,
        timing,
        plant,
        LongestWait(network, timing),
        Webster(network, timing),
        events.append,
    )
    stopped = 0
    for _ in range(seconds):
        street.tick()
        stopped += stopped_vehicles(street.observation.vehicles)
    plant.close()
    gate = sum(e.kind.startswith("safety.") for e in events)
    print(
        f"{name}: {stopped / seconds:.1f} stopped vehicles on average, "
        f"{gate} interventions of the gate"
    )


if __name__ == "__main__":
    main(
        name=sys.argv[1] if len(sys.argv) > 1 else "cologne1",
        seconds=int(sys.argv[2]) if len(sys.argv) > 2 else 600,
    )
