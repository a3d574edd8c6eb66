"""A hold: the stage of the moment, or the one that follows, bounded by the rules."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.roads import BENCHMARK, STREET, Programme, work_out
from headway.safety import Order, Override, SafetyGate
from headway.safety.clearing import Clearing
from headway.safety.holding import Holding, Scene
from tests.safety.builders import NETWORK, STAGES, G, P, R, Street, Y, look, propose, stage
from tests.safety.networks import networks, pair
from tests.safety.rules import broken_rules

HOUR_S = 3600.0
HOLD_ALL = (0, 1, 2, 3)  # links, one a group: everybody waits


def hold(street, lasts_s=HOUR_S):
    street.gate.order(Override(0, Order.HOLD, street.now + lasts_s, "ann"), street.now)
    return street.gate.take_events()[-1].data


def longest(flags):
    """The most that follow one another."""
    most = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        most = max(most, run)
    return most


@pytest.mark.parametrize("profile", [BENCHMARK, STREET], ids=lambda p: p.name)
@pytest.mark.parametrize("second", range(12))
def test_given_in_any_second_of_a_changeover_it_holds_one_of_the_two_stages(profile, second):
    """Once a green has ended it is the stage that is being changed to. Without it both roads were
    left red for as long as the order lasted.
    """
    street = Street(profile).play(STAGES[0], 60).play(STAGES[1], second)
    named = hold(street)
    ended = second > 0
    assert named["stage"] == (1 if ended else 0)
    assert named["green"] == np.flatnonzero(STAGES[named["stage"]] >= P).tolist()
    street.play(STAGES[2], 60)
    assert street.shown[-1] == STAGES[named["stage"]].tolist()


@pytest.mark.parametrize("second", range(40))
def test_under_a_programme_with_yellow_and_red_of_its_own_it_holds_the_stage_that_follows(second):
    rows = [[G, R, G, P], [Y, R, G, Y], [R, R, G, R], [R, G, G, R], [R, Y, G, R], [R, R, G, R]]
    plan = Programme(np.array(rows, np.int8), np.array([14.0, 3.0, 3.0, 14.0, 3.0, 3.0]), 0.0)
    junction = replace(NETWORK.junctions[0], programme=plan)
    network = replace(NETWORK, junctions=(junction,))
    gate = SafetyGate(network, work_out(network, BENCHMARK), 0.0)
    for now in range(80 + second):
        gate.admit(None, float(now))
    gate.order(Override(0, Order.HOLD, 1e4, "ann"), 80.0 + second)
    held = gate.take_events()[-1].data["stage"]
    for now in range(80 + second, 120 + second):
        gate.admit(None, float(now), look(network, gate, float(now)))
    # the second before the order is the last that the gate has answered
    since_s = (79 + second) % 40
    expected = 0 if since_s < 14 or since_s >= 34 else 1
    assert held == expected
    assert gate.shown.tolist() == STAGES[expected].tolist()


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        ([R, R, G, R], STAGES[1].tolist()),  # clearance: what is left green is a stage as well
        ([Y, R, G, Y], STAGES[1].tolist()),
        ([Y, R, G, Y], [Y, R, G, Y]),  # the programme's own yellow
    ],
)
def test_what_stays_green_in_a_changeover_is_not_the_stage_to_hold(shown, wanted):
    rows = [STAGES[0].tolist(), [Y, R, G, Y], STAGES[1].tolist(), [R, R, G, R]]
    plan = Programme(np.array(rows, np.int8), np.array([20.0, 3.0, 20.0, 5.0]), 0.0)
    stages = np.array([*STAGES.tolist(), [R, R, G, R]], np.int8)
    junction = replace(NETWORK.junctions[0], programme=plan, stages=stages)
    network = replace(NETWORK, junctions=(junction,))
    scene = Scene(np.array(shown, np.int8), np.array(wanted, np.int8), np.zeros(4, bool))
    held = Holding(network, Clearing(network)).stage(0, scene, 21.0)
    assert held.tolist() == STAGES[1].tolist()


@pytest.mark.parametrize(
    ("shown", "wanted", "held"),
    [
        (
            STAGES[0],
            STAGES[1],
            STAGES[0],
        ),  # 1 waits for the minimum green of 0: nothing changes yet
        (STAGES[0], [R, R, G, R], STAGES[0]),
        ([G, R, R, R], [G, R, G, R], [G, R, G, R]),  # 2 starts now, beside the green of 0
        ([R, R, G, R], STAGES[1], STAGES[1]),  # 1 waits for clearance alone
        ([R, R, G, G], [R, R, G, R], STAGES[2]),  # nobody waits
    ],
)
def test_the_stage_that_is_wanted_is_held_once_it_waits_for_no_green_to_end(shown, wanted, held):
    scene = Scene(np.array(shown, np.int8), np.array(wanted, np.int8), np.zeros(4, bool))
    assert Holding(NETWORK, Clearing(NETWORK)).stage(0, scene, 0.0).tolist() == list(held)


@pytest.mark.parametrize(
    ("now_s", "follows"), [(10.0, 1), (12.0, 1), (13.0, 1), (23.0, 0), (25.0, 0), (26.0, 0)]
)
def test_of_two_changeovers_alike_the_present_one_or_that_of_the_second_before_counts(
    now_s, follows
):
    """Red to all at 10 to 13 s, before the second stage, and at 23 to 26 s, before the first."""
    rows = np.array([STAGES[0], [R] * 4, STAGES[1], [R] * 4], np.int8)
    plan = Programme(rows, np.array([10.0, 3.0, 10.0, 3.0]), 0.0)
    network = replace(NETWORK, junctions=(replace(NETWORK.junctions[0], programme=plan),))
    scene = Scene(rows[1], rows[1], np.zeros(4, bool))
    held = Holding(network, Clearing(network)).stage(0, scene, now_s)
    assert held.tolist() == STAGES[follows].tolist()


def test_past_the_maximum_green_it_leaves_nobody_in_the_dark():
    """The maximum green has just ended the green, though the controller wants to keep it."""
    street = Street().play(STAGES[0], 124, links=(1,))
    assert street.shown[-1][0] == Y
    assert hold(street)["stage"] == 0
    street.play(STAGES[0], 1000, links=(1,))
    assert longest(max(shown[:2]) < P for shown in street.shown[5:]) <= 4, "a yellow, no more"
    assert longest(not lit for lit in street.lit(1)[124:]) <= 120 + 3 + 3 + 1


def test_before_anything_was_green_it_holds_a_stage_for_those_that_call():
    gate = SafetyGate(NETWORK, work_out(NETWORK, BENCHMARK), 0.0)
    nothing = np.full(4, R, np.int8)
    for now in range(5):
        seen = look(NETWORK, gate, float(now), (1, 1))
        gate.admit(propose(NETWORK, float(now), nothing), float(now), seen)
    gate.order(Override(0, Order.HOLD, 1e4, "ann"), 5.0)
    assert gate.take_events()[-1].data["green"] == [1, 2]


def test_a_stage_of_the_programme_without_any_green_is_not_held():
    """K has one; group 5 calls."""
    dark = np.full(2, R, np.int8)
    scene = Scene(dark, dark, np.array([False, True]))
    network = pair()
    assert Holding(network, Clearing(network)).stage(1, scene, 0.0).tolist() == [R, G]


def test_in_a_changeover_to_a_permissive_green_it_holds_that_one():
    """Nobody is yellow any more, and group 3 alone is to start; the others call, too."""
    shown, wanted = np.array([R, R, G, R], np.int8), np.array([R, R, G, P], np.int8)
    called = np.array([True, True, True, False])
    held = Holding(NETWORK, Clearing(NETWORK)).stage(0, Scene(shown, wanted, called), 0.0)
    assert np.flatnonzero(held >= P).tolist() == [2, 3]


def test_a_held_green_that_gives_way_keeps_nobody_longer_than_the_maximum_green():
    """Group 1 calls all the time, and is served long before its maximum red."""
    rows = np.array([[G, R, G, R], [R, G, G, R], [R, R, G, P]], np.int8)
    junction = replace(
        NETWORK.junctions[0], stages=rows, programme=Programme(rows, np.full(3, 12.0), 0.0)
    )
    network = replace(NETWORK, junctions=(junction,))
    timing = work_out(network, replace(BENCHMARK, max_green_s=20.0, max_red_s=300.0))
    gate, begun = SafetyGate(network, timing, 0.0), []
    for now in range(120):
        if now == 30:
            gate.order(Override(0, Order.HOLD, 1e4, "ann"), float(now))
        seen = look(network, gate, float(now), (1,) if now >= 30 else ())
        colours = gate.admit(propose(network, float(now), rows[2]), float(now), seen).colours
        begun += [now] if colours[1] >= P else []
    assert 50 <= begun[0] <= 60, "20 s from the call, yellow and clearance"


def test_the_held_stage_survives_a_restart():
    street = Street().play(STAGES[0], 20).play(STAGES[1], 2)
    hold(street)
    heir = Street()
    heir.gate.resume(pickle.loads(pickle.dumps(street.gate.state())))
    heir.now = street.now
    assert heir.play(STAGES[0], 20).shown[-1] == STAGES[1].tolist()


def test_signals_that_do_not_obey_get_no_green_by_an_order():
    for order in (Order.HOLD, Order.STAGE):
        street = Street().play(STAGES[0], 20)
        street.gate.order(Override(0, order, 1e4, "ann", 0), street.now)
        street.play(STAGES[0], 20, shown=np.full(4, G, np.int8))
        assert street.shown[-1] == [R] * 4


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    network=networks(),
    profile=st.sampled_from([BENCHMARK, STREET]),
    before=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30)), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_hold_at_any_time_on_any_network_keeps_the_rules_and_serves_everybody(
    network, profile, before, seed
):
    """Whatever the controller wants meanwhile. Bound: the maximum red, and the turns of the others
    that have waited for it too.
    """
    rng = np.random.default_rng(seed)
    timing = work_out(network, profile)
    gate, now, history = SafetyGate(network, timing, 0.0), 0.0, []
    links = tuple(range(len(network.links)))

    def play(wanted, seconds):
        nonlocal now
        for _ in range(seconds):
            seen = look(network, gate, now, links)
            history.append((now, gate.admit(propose(network, now, wanted), now, seen).colours))
            now += 1.0

    for which, seconds in before:
        play(stage(network, which), seconds)
    for junction in range(len(network.junctions)):
        gate.order(Override(junction, Order.HOLD, now + 700.0, "ann"), now)
    for _ in range(7):
        play(stage(network, int(rng.integers(9))), 100)
    rounded_s = timing.min_green_s + timing.yellow_s + timing.clearance_s + 3.0
    for junction in network.junctions:
        turns_s = rounded_s[junction.first : junction.end].sum()
        for g in junction.groups:
            dark_s = longest(shown[g] < P for _, shown in history)
            assert dark_s <= timing.max_red_s[g] + turns_s
    assert broken_rules(network, timing, [(t, shown.tolist()) for t, shown in history]) == []
