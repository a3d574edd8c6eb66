"""What the tests of the gate share: proposals, observations, and a street to run them on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headway.roads import BENCHMARK, Colour, Network, work_out
from headway.safety import SafetyGate
from headway.values import EmergencyVehicle, Observation, Proposal, Vehicles
from tests.safety.networks import crossroads

R, Y, P, G = int(Colour.RED), int(Colour.YELLOW), int(Colour.PERMISSIVE), int(Colour.GREEN)
FR, FY = int(Colour.FLASHING_RED), int(Colour.FLASHING_YELLOW)
NETWORK = crossroads()
STAGES = NETWORK.junctions[0].stages


def propose(network: Network, now: float, wanted: np.ndarray) -> Proposal:
    return Proposal(now, "test", wanted, np.ones(len(network.junctions)))


def stage(network: Network, which: int) -> np.ndarray:
    return np.concatenate([j.stages[which % len(j.stages)] for j in network.junctions])


def look(
    network: Network,
    gate: SafetyGate,
    now: float,
    links: tuple[int, ...] = (),
    emergencies: tuple[EmergencyVehicle, ...] = (),
) -> Observation:
    n = len(links)
    vehicles = Vehicles(
        np.array([network.links[i].from_lane for i in links], np.int32), np.array(links, np.int32),
        np.full(n, 5.0), np.zeros(n),
        np.zeros(n), np.full(n, 7.5), np.zeros(n, bool),
    )  # fmt: skip
    lanes, groups = len(network.lanes), len(network.groups)
    return Observation(
        now, vehicles, gate.shown.copy(), np.zeros(groups), np.full(lanes, np.inf),
        np.zeros(lanes, np.int32), np.zeros(len(network.links), np.int32),
        np.zeros(groups, np.int32), np.ones(len(network.junctions)), emergencies,
    )  # fmt: skip


class Street:
    """A gate, a clock, and what was shown and said so far."""

    def __init__(self, profile=BENCHMARK):
        self.timing = work_out(NETWORK, profile)
        self.gate = SafetyGate(NETWORK, self.timing, 0.0)
        self.now = 0.0
        self.shown = []
        self.events = []

    def play(self, wanted, seconds, links=(), **changes):
        """`seconds` of the same wish; changes: to the observation."""
        for _ in range(seconds):
            observed = replace(look(NETWORK, self.gate, self.now, links), **changes)
            command = self.gate.admit(
                propose(NETWORK, self.now, np.array(wanted, np.int8)), self.now, observed
            )
            self.shown.append(command.colours.tolist())
            self.events += command.interventions
            self.now += 1.0
        return self

    def lit(self, group):
        return [s[group] >= P for s in self.shown]

    def of(self, kind):
        return [e for e in self.events if e.kind == f"safety.{kind}"]
