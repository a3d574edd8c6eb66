"""Laws of the gate, for whatever is proposed; and stories of faults."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.plants.sumo import read_network
from headway.plants.sumo.scenarios import RESCO, scenario
from headway.roads import BENCHMARK, STREET, Colour, work_out
from headway.safety import ControlSource, Order, Override, SafetyGate
from headway.values import EmergencyVehicle
from tests.safety.builders import look, propose, stage
from tests.safety.networks import networks
from tests.safety.rules import broken_rules

GREENS = (Colour.PERMISSIVE, Colour.GREEN)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    networks(),
    st.sampled_from([BENCHMARK, STREET]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.02, 0.2, 0.9]),
)
@pytest.mark.slow
def test_no_sequence_of_proposals_breaks_a_rule_on_any_network(network, profile, seed, restless):
    play(network, profile, seed, restless, 150)


@pytest.mark.parametrize("profile", [BENCHMARK, STREET], ids=lambda p: p.name)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.slow if name not in ("cologne1", "cologne3", "ingolstadt1") else (),
        )
        for name in RESCO
    ],
)
def test_no_sequence_of_proposals_breaks_a_rule_on_the_real_networks(name, profile):
    play(read_network(scenario(name).net), profile, 7, 0.15, 400)


def play(network, profile, seed, restless, seconds):
    """Propose sense and nonsense for a while, and hold what is shown against the rules."""
    rng = np.random.default_rng(seed)
    timing = work_out(network, profile)
    gate = SafetyGate(network, timing, 0.0)
    wanted, history = stage(network, 0), []
    for second in range(seconds):
        now = float(second)
        if rng.random() < restless:
            kind = rng.integers(6)
            wanted = (
                stage(network, int(rng.integers(8)))
                if kind < 3
                else rng.integers(-3, 9, len(network.groups)).astype(np.int8)
            )
            if kind == 5:
                wanted = np.full(len(network.groups), Colour.GREEN, np.int8)
        proposal = propose(network, now if rng.random() < 0.9 else now - 9.0, wanted)
        odd = rng.random()
        if odd < 0.03:
            proposal = None
        elif odd < 0.05:
            proposal = propose(network, float("nan"), wanted)
        elif odd < 0.07:
            proposal = propose(network, now, wanted[:-1])
        links = tuple(int(i) for i in rng.integers(0, len(network.links), 5))
        observed = look(network, gate, now, links) if rng.random() < 0.9 else None
        if rng.random() < 0.01:
            gate.order(
                Override(
                    int(rng.integers(len(network.junctions))),
                    list(Order)[rng.integers(3)],
                    now + 20.0,
                    "test",
                    0,
                ),
                now,
            )
        history.append((now, gate.admit(proposal, now, observed).colours.tolist()))
    assert broken_rules(network, timing, history) == []


@pytest.fixture(scope="module")
def cologne1():
    network = read_network(scenario("cologne1").net)
    return network, work_out(network, BENCHMARK)


def run(gate, network, begin, seconds, wanted, **kwargs):
    shown, events = [], []
    for second in range(seconds):
        now = begin + second
        command = gate.admit(propose(network, now, wanted), now, look(network, gate, now, **kwargs))
        shown.append(command.colours)
        events += command.interventions
    return shown, events


def test_a_silent_controller_is_replaced_by_fixed_time_and_trusted_again_later(cologne1):
    network, timing = cologne1
    gate = SafetyGate(network, timing, 0.0)
    run(gate, network, 0.0, 10, stage(network, 0))
    last = propose(network, 9.0, stage(network, 0))
    kinds = [
        e.data["to"]
        for s in range(10, 16)
        for e in gate.admit(last, float(s)).interventions
        if e.kind == "safety.source"
    ]
    assert kinds == ["fixed_time"]
    assert gate.source is ControlSource.FIXED_TIME
    run(gate, network, 16.0, 7, stage(network, 0))
    assert gate.source is ControlSource.CONTROLLER


def test_the_fallback_takes_over_before_fixed_time(cologne1):
    network, timing = cologne1
    gate = SafetyGate(network, timing, 0.0)
    for second in range(5):
        gate.admit(
            None, float(second), None, fallback=propose(network, float(second), stage(network, 2))
        )
    assert gate.source is ControlSource.FALLBACK
    assert (gate.shown[network.junctions[0].stages[2] == Colour.GREEN] == Colour.GREEN).all()


def test_lamps_that_do_not_follow_commands_lead_to_red_for_all(cologne1):
    network, timing = cologne1
    gate = SafetyGate(network, timing, 0.0)
    run(gate, network, 0.0, 10, stage(network, 0))
    for second in range(10, 30):
        observed = look(network, gate, float(second))
        observed.shown[:] = Colour.GREEN
        gate.admit(propose(network, float(second), stage(network, 0)), float(second), observed)
    assert gate.source is ControlSource.ALL_RED
    assert (gate.shown == Colour.RED).all()


def test_a_starving_group_is_served(cologne1):
    network, timing = cologne1
    gate = SafetyGate(network, timing, 0.0)
    link = next(i for i, x in enumerate(network.links) if x.group == 0)
    shown, events = run(gate, network, 0.0, 200, stage(network, 0), links=(link,))
    assert any(c[0] >= Colour.PERMISSIVE for c in shown)
    assert {"safety.maximum_red", "safety.maximum_green"} & {e.kind for e in events}


def test_an_emergency_vehicle_gets_green_at_once_and_the_controller_gets_its_junction_back(
    cologne1,
):
    network, timing = cologne1
    gate = SafetyGate(network, timing, 0.0)
    run(gate, network, 0.0, 20, stage(network, 0))
    fire_engine = EmergencyVehicle("fire1", 14.0, ((0, 150.0),))
    shown, events = run(gate, network, 20.0, 12, stage(network, 0), emergencies=(fire_engine,))
    assert shown[0][0] == Colour.RED
    conflicting = network.junctions[0].conflicts[0]
    before = stage(network, 0) >= Colour.PERMISSIVE
    assert not (shown[0] >= Colour.PERMISSIVE)[conflicting & before].any(), (
        "the conflicting greens end in the same second"
    )
    assert (conflicting & before).any()
    assert shown[int(timing.yellow_s.max() + timing.clearance_s.max())][0] in GREENS
    assert [e.kind for e in events if "emergency" in e.kind] == ["safety.emergency"]
    shown, events = run(gate, network, 32.0, 20, stage(network, 0))
    assert "safety.emergency_ended" in {e.kind for e in events}
    assert (shown[-1] == stage(network, 0)).all()


def test_of_two_emergency_vehicles_the_nearer_is_served_first_then_the_other(cologne1):
    network, timing = cologne1
    gate = SafetyGate(network, timing, 0.0)
    other = int(np.flatnonzero(network.junctions[0].conflicts[0])[0])
    first = EmergencyVehicle("near", 14.0, ((0, 60.0),))
    second = EmergencyVehicle("far", 14.0, ((other, 200.0),))
    shown, _ = run(gate, network, 0.0, 15, stage(network, 3), emergencies=(first, second))
    assert shown[-1][0] in GREENS
    assert shown[-1][other] == Colour.RED
    shown, _ = run(gate, network, 15.0, 15, stage(network, 3), emergencies=(second,))
    assert shown[-1][other] in GREENS


def test_an_operator_forces_a_stage_until_it_expires(cologne1):
    network, timing = cologne1
    gate = SafetyGate(network, timing, 0.0)
    run(gate, network, 0.0, 20, stage(network, 0))
    gate.order(Override(0, Order.STAGE, 40.0, "op", 2), 20.0)
    shown, events = run(gate, network, 20.0, 40, stage(network, 0))
    assert (shown[15] == network.junctions[0].stages[2]).all()
    assert (shown[-1] == stage(network, 0)).all()
    assert [e.kind for e in events if "override" in e.kind] == [
        "safety.override",
        "safety.override_expired",
    ]


def test_a_clock_that_jumps_back_shortens_nothing(cologne1):
    network, timing = cologne1
    gate = SafetyGate(network, timing, 0.0)
    run(gate, network, 0.0, 20, stage(network, 0))
    gate.admit(propose(network, 20.0, stage(network, 2)), 20.0)
    before = gate.shown.copy()
    command = gate.admit(propose(network, 3.0, stage(network, 2)), 3.0)
    assert (command.colours == before).all()
    assert command.interventions[0].kind == "safety.clock"
