"""A flash: red to all, flashing yellow and red as right of way is, red to all."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.plants.sumo import read_network
from headway.plants.sumo.scenarios import RESCO, scenario
from headway.roads import BENCHMARK, STREET, Programme, work_out
from headway.safety import Order, Override, SafetyGate
from headway.safety.flashing import flash_colours
from headway.values import EmergencyVehicle
from tests.safety.builders import FR, FY, NETWORK, STAGES, G, R, Street, Y, look, propose, stage
from tests.safety.networks import networks
from tests.safety.rules import broken_rules

STEADY = [R] * 4
FLASHING = [FY, FR, FY, FY]


def crossroads_with(rows, seconds, gives_way=((3, 0),), stages=STAGES):
    """The crossroads with another programme, where the first of each pair gives way to the second.

    0 and 1 cross; 3 turns left against both, with 0 in the first stage; 2 crosses nobody.
    """
    junction = NETWORK.junctions[0]
    yields = np.zeros_like(junction.yields)
    for a, b in gives_way:
        yields[a, b] = True
    plan = Programme(np.array(rows, np.int8), np.array(seconds, float), 0.0)
    stages = np.array(stages, np.int8)
    return replace(junction, yields=yields, programme=plan, stages=stages)


def flash(street, lasts_s=60.0):
    street.gate.order(Override(0, Order.FLASH, street.now + lasts_s, "ann"), street.now)
    return street


FIRST, SECOND, THIRD = STAGES.tolist()
CHANGE = [Y, R, G, Y]


@pytest.mark.parametrize(
    ("rows", "seconds", "colours"),
    [
        ([FIRST, SECOND, THIRD], [20, 19, 19], [FY, FR, FY, FY]),
        ([FIRST, SECOND, THIRD], [19, 20, 19], [FR, FY, FY, FR]),
        ([FIRST, SECOND, FIRST], [11, 20, 11], [FY, FR, FY, FY]),  # in all
        ([FIRST, SECOND, THIRD], [19, 19, 19], [FY, FR, FY, FY]),  # the first of equals
        ([FIRST, CHANGE, SECOND], [10, 90, 11], [FR, FY, FY, FR]),  # no yellow, no stage
        ([FIRST, [R] * 4, SECOND], [10, 90, 11], [FR, FY, FY, FR]),
        ([CHANGE, [R] * 4], [10, 10], [FR, FR, FR, FR]),  # no stage at all
    ],
)
def test_yellow_flashes_for_the_stage_with_most_green_and_red_for_the_others(
    rows, seconds, colours
):
    assert flash_colours(crossroads_with(rows, seconds)).tolist() == colours


@pytest.mark.parametrize("gives_way", [(), ((3, 0), (0, 3))])
def test_two_that_cross_flash_red_where_it_is_not_clear_who_gives_way(gives_way):
    junction = crossroads_with([FIRST, SECOND], [20, 10], gives_way)
    assert flash_colours(junction).tolist() == [FR, FR, FY, FR]


def test_a_group_that_no_stage_serves_stays_red():
    junction = crossroads_with([FIRST, SECOND], [20, 10], stages=[[G, R, G, R], SECOND])
    assert flash_colours(junction).tolist() == [FY, FR, FY, R]


@pytest.mark.parametrize("name", ["cologne1", "cologne3", "cologne8", "ingolstadt1"])
def test_on_real_streets_a_road_flashes_yellow_and_one_of_two_that_cross_gives_way(name):
    assert name in RESCO
    for junction in read_network(scenario(name).net).junctions:
        yellow = np.flatnonzero(flash_colours(junction) == FY)
        assert len(yellow)
        for a in yellow:
            for b in yellow[junction.conflicts[a, yellow]]:
                assert junction.yields[a, b] != junction.yields[b, a]


def test_it_begins_after_two_seconds_of_red_and_ends_with_six():
    """Yellow 3 s, no clearance: red from 13 s on; the order ends at 70 s."""
    street = flash(Street().play(STAGES[0], 10)).play(STAGES[1], 90)
    assert street.shown[12][0] != R
    assert street.shown[13:15] == [STEADY, STEADY]
    assert street.shown[15:70] == [FLASHING] * 55
    assert street.shown[70:76] == [STEADY] * 6
    assert street.shown[76] == STAGES[1].tolist()
    events = [(e.at_s, e.kind, dict(e.data)) for e in street.events if "flash" in e.kind]
    assert events == [
        (15.0, "safety.flash", {"yellow": [0, 2, 3]}),
        (70.0, "safety.flash_ended", {"red_s": 6.0}),
    ]


@pytest.mark.parametrize("lasts_s", range(1, 15))
def test_red_to_all_follows_however_soon_the_order_ends_after_the_first_flash(lasts_s):
    street = flash(Street().play(STAGES[0], 10), float(lasts_s)).play(STAGES[1], 30)
    flashed = [k for k, shown in enumerate(street.shown) if shown == FLASHING]
    assert flashed == list(range(15, 10 + lasts_s))
    if flashed:
        assert street.shown[10 + lasts_s : 16 + lasts_s] == [STEADY] * 6


def test_a_long_clearance_is_over_before_it_flashes():
    slow = replace(STREET, red_clearance_s=4.0)
    street = flash(Street(slow).play(STAGES[0], 60)).play(STAGES[0], 30)
    begun = next(k for k, shown in enumerate(street.shown) if FR in shown)
    last = max(k for k, shown in enumerate(street.shown[:begun]) if shown != STEADY)
    assert begun - last - 1 == 4


def test_neither_a_stage_nor_an_emergency_cuts_the_red_after_a_flash():
    street = flash(Street().play(STAGES[0], 10)).play(STAGES[0], 30)
    street.gate.order(Override(0, Order.STAGE, 1e4, "ann", 1), street.now)
    fleet = (EmergencyVehicle("e", 14.0, ((1, 30.0),)),)
    street.play(STAGES[0], 8, emergencies=fleet)
    assert street.shown[40:46] == [STEADY] * 6
    assert street.shown[46][1] == G


def test_whoever_could_drive_during_a_flash_has_not_waited_since_before():
    profile = replace(BENCHMARK, max_red_s=30.0)
    street = flash(Street(profile).play(STAGES[0], 10), 600.0).play(STAGES[0], 620, links=(1,))
    assert (
        street.of("maximum_red")[-1].at_s >= 610.0 + 30.0 - 1.0
        if street.of("maximum_red")
        else True
    )
    street.play(STAGES[0], 40, links=(1,))
    assert street.of("maximum_red")[0].at_s == pytest.approx(639.0, abs=1.0)


def test_signals_that_do_not_obey_do_not_flash():
    street = flash(Street().play(STAGES[0], 10), 1e4)
    street.play(STAGES[0], 40, shown=np.full(4, G, np.int8))
    assert street.shown[-1] == STEADY


@pytest.mark.parametrize("seconds", [2, 8, 30, 62])
def test_a_restored_gate_goes_on_with_the_flash_and_the_red_after_it(seconds):
    street = flash(Street().play(STAGES[0], 10)).play(STAGES[0], seconds)
    heir = Street()
    heir.gate.resume(pickle.loads(pickle.dumps(street.gate.state())))
    heir.now = street.now
    street.play(STAGES[1], 90)
    assert heir.play(STAGES[1], 90).shown == street.shown[10 + seconds :]


def test_a_proposal_cannot_ask_for_a_flash():
    for colour in (FR, FY):
        assert Street().play([colour] * 4, 10).shown[-1] == STEADY


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    network=networks(),
    profile=st.sampled_from([BENCHMARK, STREET]),
    orders=st.lists(
        st.tuples(st.sampled_from([*Order, Order.FLASH, None]), st.integers(0, 40)), min_size=3
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_flashes_between_other_orders_break_no_rule(network, profile, orders, seed):
    rng = np.random.default_rng(seed)
    timing = work_out(network, profile)
    gate, now, history = SafetyGate(network, timing, 0.0), 0.0, []
    for order, seconds in orders[:12]:
        junction = int(rng.integers(len(network.junctions)))
        if order is None:
            gate.release(junction, "ann", now)
        else:
            gate.order(Override(junction, order, now + 25.0, "ann", 0), now)
        for _ in range(seconds):
            wanted = stage(network, int(rng.integers(9)))
            seen = look(network, gate, now, tuple(range(len(network.links))))
            shown = gate.admit(propose(network, now, wanted), now, seen).colours
            history.append((now, shown.tolist()))
            now += 1.0
    assert broken_rules(network, timing, history) == []
