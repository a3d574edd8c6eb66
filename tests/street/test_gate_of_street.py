"""What feeds the gate of a street: the plant's clock, SUMO's own signals; on a real street."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.safety.rules import broken_rules

from headway.plants.sumo import SumoSettings, read_network
from headway.plants.sumo.scenarios import scenario
from headway.roads import STREET, work_out
from headway.safety import ControlSource, Fault
from headway.street.opening import open_street

BEGUN = 40  # ticks until something fails


@pytest.fixture(scope="module")
def cologne1():
    network = read_network(scenario("cologne1").net)
    return network, work_out(network, STREET)


@pytest.fixture
def street(cologne1):
    events = []
    made = open_street(
        *cologne1,
        SumoSettings(scenario("cologne1").sumocfg),
        "planner",
        events.append,
        step_within_s=math.inf,  # these tests are not about a busy machine
    )
    made.events = events
    made.begun = played(made, BEGUN)
    yield made
    made.plant.close()


def sources(street):
    return [e.data["to"] for e in street.events if e.kind == "safety.source"]


def played(street, ticks):
    """What was commanded in each tick."""
    history = []
    for _ in range(ticks):
        street.tick()
        history.append(street.gate.shown.tolist())
    return history


def test_a_frozen_observation_leaves_the_junctions_to_their_programmes(street, cologne1):
    frozen = street.plant.observe()
    real = street.plant.observe
    street.plant.observe = lambda: frozen
    history = played(street, 157)
    assert sources(street) == ["fixed_time"]
    assert len({tuple(c) for c in history}) >= 6, "the signals go on"
    street.plant.observe = real
    history += played(street, 20)
    assert sources(street) == ["fixed_time", "controller"]
    whole = [(float(k), c) for k, c in enumerate(street.begun + history)]
    assert broken_rules(*cologne1, whole) == []


@pytest.mark.parametrize(
    "broken",
    [
        lambda o: replace(o, completeness=np.zeros(0)),
        lambda o: replace(o, waiting_persons=np.zeros(0, np.int32)),
        lambda o: replace(o, arrived=o.arrived[:-1]),
        lambda o: replace(o, room_m=o.room_m.reshape(1, -1)),
        lambda o: replace(o, count=o.count.astype(float)),
        lambda o: replace(o, shown_for_s=o.shown_for_s.astype(str)),
        lambda o: replace(o, vehicles=replace(o.vehicles, speed_mps=np.zeros(1))),
        lambda o: replace(o, vehicles=replace(o.vehicles, lane=np.float64(1.0))),
        lambda o: replace(o, vehicles=None),
        lambda o: replace(o, emergencies=[("fire", 1)]),
        lambda o: replace(o, emergencies=("fire",)),
        lambda o: None,
    ],
)
def test_an_observation_of_other_shapes_or_types_reaches_no_compiled_code(street, broken):
    real = street.plant.observe
    assert len(real().vehicles) not in (0, 1)
    street.plant.observe = lambda: broken(real())
    played(street, 5)
    street.plant.observe = real
    played(street, 8)
    assert sources(street) == ["fixed_time", "controller"]
    found = [e.kind for e in street.events if e.kind.startswith("engine.observation")]
    assert found == ["engine.observation_refused", "engine.observation_back"]
    assert street.gate.faults == {}


@pytest.mark.parametrize("stamp", [1e9, -1e9, float("nan"), float("inf"), None, "noon"])
def test_one_observation_of_a_wrong_time_costs_five_seconds_and_nothing_else(street, stamp):
    real = street.plant.observe
    street.plant.observe = lambda: replace(real(), at_s=stamp)
    street.tick()
    street.plant.observe = real
    played(street, 8)
    assert sources(street) == ["fixed_time", "controller"]
    assert all(0.0 <= e.at_s < 1e6 for e in street.events)


def test_lamps_that_are_stuck_are_seen_in_sumo_itself_and_latched_until_a_reset(street):
    class Stuck(type(street.plant)):
        def apply(self, command):
            super().apply(command)
            for name, _, red in self._tls:
                self.interface.trafficlight.setRedYellowGreenState(name, "G" * len(red))

    plain = type(street.plant)
    street.plant.__class__ = Stuck
    history = played(street, 60)
    assert (street.plant.shown == 4).all()
    found = [e for e in street.events if e.kind == "safety.lamps"]
    assert [e.data["read"] for e in found] == [[4] * len(street.gate.shown)]
    assert street.plant.time_s - found[0].at_s > 55.0, "within a few ticks"
    assert street.gate.source is ControlSource.ALL_RED
    assert set(history[-1]) == {1}

    street.plant.__class__ = plain
    played(street, 5)
    assert (street.plant.shown == 1).all(), "the command is sent again to lamps that are astray"
    assert street.gate.faults == {0: Fault.LAMPS}
    street.gate.reset(0, "op", street.plant.time_s)
    assert 4 in np.unique(played(street, 15))
    assert street.gate.source is ControlSource.CONTROLLER


def test_lamps_that_are_switched_to_a_programme_of_their_own_are_commanded_again(street):
    lights = street.plant.interface.trafficlight
    for name in street.network.junctions[0].tl_ids:
        lights.setProgram(name, "off")
    street.tick()
    assert (street.plant.shown == street.gate.shown).all()
    played(street, 10)
    assert street.gate.faults == {}
