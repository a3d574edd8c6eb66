"""Each rule of the gate by itself, to the second, on one crossroads of four groups
(see `crossroads`).
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from headway.roads import BENCHMARK, STREET, Kind, work_out
from headway.safety import ControlSource, Fault, Order, Override, SafetyGate, arrays, kernel
from headway.safety.monitor import ConflictMonitor
from headway.safety.tables import conflict_table, junction_table, tables_of, way_table
from headway.values import EmergencyVehicle
from tests.safety.builders import FR, FY, NETWORK, STAGES, G, P, R, Street, Y, look, propose


def test_a_green_is_unlimited_without_a_conflicting_call_and_limited_with_one():
    assert all(Street().play(STAGES[0], 400).lit(0)[4:])
    asked = Street().play(STAGES[0], 400, links=(1,))
    began = asked.lit(0).index(True)
    length = asked.lit(0)[began:].index(False)
    assert length == asked.timing.max_green_s[0]
    event = asked.of("maximum_green")[0]
    assert event.data["limit_s"] == asked.timing.max_green_s[0]
    assert event.data["link"] == 0
    assert event.junction == "J"


@pytest.mark.parametrize(("stage", "green", "asks"), [(0, 3, 1), (1, 1, 0), (1, 1, 3), (2, 3, 0)])
def test_every_green_permissive_or_not_has_its_maximum(stage, green, asks):
    street = Street().play(STAGES[stage], 160, links=(asks,))
    began = street.lit(green).index(True)
    assert street.lit(green)[began:].index(False) == street.timing.max_green_s[green]


def test_a_group_without_conflicts_has_no_maximum_green():
    assert all(Street().play(STAGES[0], 400, links=(1,)).lit(2)[4:])


def test_a_call_is_remembered_for_ten_seconds_and_then_forgotten():
    street = Street().play(STAGES[0], 5).play(STAGES[0], 1, links=(1,)).play(STAGES[0], 10)
    assert street.gate.state()["_call_since"][1] == 4.0  # the last second in which nobody asked
    assert street.play(STAGES[0], 1).gate.state()["_call_since"][1] == street.now - 1.0
    assert all(street.play(STAGES[0], 300).lit(0)[4:])


def test_a_starving_group_is_served_after_the_maximum_red_for_its_minimum_green():
    street = Street().play(STAGES[1], 400, links=(0,))
    began = street.lit(0).index(True)
    assert street.timing.profile.max_green_s <= began <= street.timing.profile.max_red_s + 10
    lasted = street.lit(0)[began:].index(False)
    assert lasted == street.timing.min_green_s[0]


def test_two_starving_groups_are_served_in_turn():
    street = Street().play(STAGES[1], 500, links=(0, 3))
    assert any(street.lit(0))
    assert any(street.lit(3))


@pytest.mark.parametrize(
    ("completeness", "served"), [(1.0, False), (0.5, False), (0.49, True), (float("nan"), True)]
)
def test_a_junction_without_observation_serves_all_groups(completeness, served):
    street = Street().play(STAGES[1], 400, completeness=np.array([completeness]))
    assert any(street.lit(0)) is served


@pytest.mark.parametrize(("persons", "served"), [(0, False), (1, True)])
def test_a_pedestrian_is_a_call(persons, served):
    street = Street().play(STAGES[1], 400, waiting_persons=np.array([persons, 0, 0, 0], np.int32))
    assert any(street.lit(0)) is served


def called(links, link_group, present):
    """The groups called by vehicles of these links; present: as it was before."""
    calls = arrays.Calls(present, np.zeros(4), np.zeros(4), np.zeros(4))
    nowhere = np.zeros(0, np.int32)
    kernel.detect_calls(
        np.full(len(links), -1, np.int32),
        np.array(links, np.int32),
        True,
        arrays.Ways(link_group, np.zeros(1, np.int32), nowhere),
        np.zeros(4, np.int32),
        np.ones(1),
        junction_table(NETWORK),
        calls,
    )
    return present


@pytest.mark.parametrize("link", [-1, 4, 7, -5])
def test_a_vehicle_of_an_unknown_link_and_lane_calls_no_group(link):
    assert not called([link], np.arange(4, dtype=np.int32), np.ones(4, bool)).any()


@pytest.mark.parametrize("link", [0, 3])
def test_the_first_and_the_last_link_call_their_groups_and_one_without_signal_none(link):
    present = called([link, 2], np.array([0, 1, -1, 3], np.int32), np.zeros(4, bool))
    assert np.flatnonzero(present).tolist() == [link]


def test_a_green_ended_too_soon_is_kept_and_the_event_states_the_figures():
    street = Street().play(STAGES[0], 6).play(STAGES[1], 10)
    began = street.lit(0).index(True)
    assert street.lit(0)[began:].index(False) == street.timing.min_green_s[0]
    event = street.of("minimum_green")[0]
    assert event.data == {
        "tl": "J",
        "link": 0,
        "shown": G,
        "for_s": event.at_s - began,
        "limit_s": street.timing.min_green_s[0],
    }


def test_a_rule_is_recorded_once_while_it_applies_and_again_when_it_applies_anew():
    street = Street().play(STAGES[0], 5).play(STAGES[1], 3)
    assert len([e for e in street.of("minimum_green") if e.data["link"] == 0]) == 1
    street.play(STAGES[0], 1).play(STAGES[1], 1)
    assert len([e for e in street.of("minimum_green") if e.data["link"] == 0]) == 1 + (
        street.shown[-1][0] >= P
    )


def test_yellow_is_shown_to_its_end_and_may_be_proposed_for_six_seconds():
    plain = Street().play(STAGES[0], 12).play(STAGES[1], 10)
    assert [s[0] for s in plain.shown].count(Y) == plain.timing.yellow_s[0]
    long = Street().play(STAGES[0], 12).play([Y, R, R, R], 12)
    assert [s[0] for s in long.shown].count(Y) == 6


def test_the_next_starts_when_yellow_and_clearance_are_over_and_not_later():
    for profile in (BENCHMARK, STREET):
        street = Street(profile).play(STAGES[0], 60).play(STAGES[1], 20)
        ended = len(street.lit(0)) - street.lit(0)[::-1].index(True)
        began = street.lit(1).index(True)
        need = street.timing.yellow_s[0] + street.timing.clearance_s[0]
        assert need - 1e-6 <= began - ended < need + 1.0


def test_a_group_does_not_start_again_within_the_minimum_cycle():
    street = Street(STREET).play(STAGES[0], 12).play(STAGES[1], 16).play(STAGES[0], 60)
    starts = [
        t
        for t, (a, b) in enumerate(zip([False, *street.lit(0)], street.lit(0), strict=False))
        if b and not a
    ]
    assert len(starts) == 2
    assert starts[1] - starts[0] == STREET.min_cycle_s
    assert street.of("minimum_cycle")


def test_of_two_conflicting_greens_one_is_shown_and_the_other_named():
    street = Street().play([G, G, G, R], 20)
    assert sum(street.shown[-1][g] >= P for g in (0, 1)) == 1
    assert {e.data["link"] for e in street.of("conflict")} <= {0, 1}
    assert street.of("conflict")


def test_a_left_turn_may_join_those_it_yields_to_but_only_permissively():
    assert Street().play(STAGES[0], 9).shown[-1] == [G, R, G, P]
    both = Street().play([G, R, G, G], 9).shown[-1]
    assert not (both[0] >= P and both[3] == G)
    assert Street().play(STAGES[2], 9).play([G, R, G, P], 30).shown[-1] == [G, R, G, P]


@pytest.mark.parametrize("colour", [-128, -1, 0, 5, 127])
def test_an_invalid_colour_becomes_red(colour):
    street = Street().play(STAGES[0], 12).play([colour, R, G, R], 9)
    assert street.shown[-1] == [R, R, G, R]
    assert street.of("colour")


@pytest.mark.parametrize(
    ("colours", "safe"),
    [
        ([R, R, R, R], True), ([G, R, G, P], True), ([G, R, G, G], False), ([G, G, R, R], False),
        ([P, G, R, R], False), ([P, P, R, R], False),
        ([P, R, R, P], True), ([P, R, R, G], False), ([Y, G, R, R], True), ([R, G, G, P], False),
        ([0, R, R, R], False), ([5, R, R, R], False),
    ],
)  # fmt: skip
def test_the_final_check_by_itself(colours, safe):
    assert kernel.is_safe(np.array(colours, np.int8), conflict_table(NETWORK)) is safe


@pytest.mark.parametrize(
    ("age", "source"), [(2.0, ControlSource.CONTROLLER), (2.1, ControlSource.FIXED_TIME)]
)
def test_a_proposal_may_be_two_seconds_old(age, source):
    gate = SafetyGate(NETWORK, work_out(NETWORK, BENCHMARK), 0.0)
    gate.admit(propose(NETWORK, 10.0, STAGES[0]), 10.0)
    gate.admit(propose(NETWORK, 12.0 - age, STAGES[0]), 12.0)
    assert gate.source is source


def test_a_better_source_is_trusted_again_after_five_valid_seconds():
    gate = SafetyGate(NETWORK, work_out(NETWORK, BENCHMARK), 0.0)
    gate.admit(None, 0.0)
    sources = []
    for second in range(1, 9):
        gate.admit(propose(NETWORK, float(second), STAGES[0]), float(second))
        sources.append(gate.source)
    assert sources.index(ControlSource.CONTROLLER) == 4


def test_lamps_may_disagree_for_two_seconds_and_no_longer():
    street = Street().play(STAGES[0], 10)
    wrong = np.array([R, G, R, R], np.int8)
    street.play(STAGES[0], 2, shown=wrong)
    assert street.gate.source is ControlSource.CONTROLLER
    street.play(STAGES[0], 1, shown=wrong)
    assert street.gate.source is ControlSource.ALL_RED


@pytest.mark.parametrize(
    "wanted",
    [
        np.ones(5, np.int8),
        np.ones((4, 1), np.int8),
        np.ones(4),
        np.ones(4, bool),
        [4, 1, 4, 1],
        None,
    ],
)
def test_a_proposal_of_another_shape_is_no_proposal(wanted):
    gate = SafetyGate(NETWORK, work_out(NETWORK, BENCHMARK), 0.0)
    assert not gate.is_sound(propose(NETWORK, 0.0, wanted), 0.0)
    assert gate.is_sound(propose(NETWORK, 0.0, np.ones(4, np.int64)), 0.0)


def test_an_order_ends_in_the_second_of_its_end_and_can_be_released_before():
    street = Street().play(STAGES[0], 10)
    street.gate.order(Override(0, Order.STAGE, 30.5, "op", 1), 10.0)
    street.play(STAGES[0], 40)
    assert [e.at_s for e in street.of("override_expired")] == [31.0]
    street.gate.order(Override(0, Order.FLASH, 1000.0, "op"), street.now)
    street.play(STAGES[0], 20)
    assert street.shown[-1] == [FY, FR, FY, FY]
    street.gate.release(0, "op", street.now)
    assert street.play(STAGES[0], 20).shown[-1] == [G, R, G, P]
    assert len(street.of("override_released")) == 1


def test_a_hold_keeps_the_shown_colours_whatever_is_proposed_up_to_the_maximum_green():
    street = Street().play(STAGES[0], 10)
    street.gate.order(Override(0, Order.HOLD, 300.0, "op"), 10.0)
    street.play(STAGES[1], 290, links=(1,))
    kept = [k for k, lit in enumerate(street.lit(0)) if k > 4 and not lit]
    # no call before the tick of 9 s: 120 s later it has 3 s of yellow, the other 5 s of green and
    # 3 s of yellow; then the hold goes on for as long again
    assert kept[:11] == list(range(129, 140))
    assert [k for k, lit in enumerate(street.lit(1)) if lit] == [*range(132, 137), *range(263, 268)]
    street.play(STAGES[1], 10, links=(1,))
    assert street.shown[-1] == list(STAGES[1])


def test_a_hold_during_a_stage_change_keeps_the_stage_that_comes_and_not_the_darkness():
    street = Street().play(STAGES[0], 10)
    street.play(STAGES[1], 1)
    assert street.shown[-1][0] == Y
    street.gate.order(Override(0, Order.HOLD, 300.0, "op"), street.now)
    street.play(STAGES[1], 30)
    assert street.shown[-1] == list(STAGES[1])
    street.play(STAGES[0], 30)
    assert street.shown[-1] == list(STAGES[1])


def test_invalid_orders_are_refused():
    gate = SafetyGate(NETWORK, work_out(NETWORK, BENCHMARK), 0.0)
    for wrong in (
        Override(1, Order.HOLD, 9.0, "op"),
        Override(-1, Order.HOLD, 9.0, "op"),
        Override(0, Order.STAGE, 9.0, "op", 3),
    ):
        with pytest.raises(ValueError, match="no"):
            gate.order(wrong, 0.0)
    gate.order(Override(0, Order.STAGE, 9.0, "op", 2), 0.0)
    with pytest.raises(ValueError, match="index"):
        Override(0, Order.STAGE, 9.0, "op")
    with pytest.raises(ValueError, match="finite"):
        Override(0, Order.HOLD, float("inf"), "op")


def test_a_flash_takes_precedence_over_an_emergency_and_an_emergency_over_a_hold():
    fleet = (EmergencyVehicle("e", 14.0, ((1, 50.0),)),)
    held = Street().play(STAGES[0], 10)
    held.gate.order(Override(0, Order.HOLD, 300.0, "op"), 10.0)
    assert held.play(STAGES[0], 12, emergencies=fleet).shown[-1][1] == G
    flashing = Street().play(STAGES[0], 10)
    flashing.gate.order(Override(0, Order.FLASH, 300.0, "op"), 10.0)
    assert flashing.play(STAGES[0], 12, emergencies=fleet).shown[-1] == [FY, FR, FY, FY]


def test_an_emergency_vehicle_gets_the_protected_green_if_there_is_one():
    fleet = (EmergencyVehicle("e", 14.0, ((3, 50.0),)),)
    assert (
        Street().play(STAGES[0], 10).play(STAGES[0], 12, emergencies=fleet).shown[-1]
        == STAGES[2].tolist()
    )


def test_a_state_of_another_network_is_refused():
    gate = SafetyGate(NETWORK, work_out(NETWORK, BENCHMARK), 0.0)
    with pytest.raises(ValueError, match="4"):
        gate.resume(gate.state() | {"shown": np.ones(3, np.int8)})


def test_without_any_controller_the_junction_runs_its_own_programme():
    gate = SafetyGate(NETWORK, work_out(NETWORK, BENCHMARK), 0.0)
    shown = [
        gate.admit(None, float(second), look(NETWORK, gate, float(second))).colours.tolist()
        for second in range(72)
    ]
    assert gate.source is ControlSource.FIXED_TIME
    for begin in (0.0, 36.0):
        for phase in range(3):
            assert shown[int(begin) + 12 * phase + 8] == STAGES[phase].tolist()


def test_a_walk_that_has_lasted_too_long_does_not_start_again_in_the_same_second():
    groups = (replace(NETWORK.groups[0], kind=Kind.PEDESTRIAN), *NETWORK.groups[1:])
    network = replace(NETWORK, groups=groups)
    timing = work_out(network, BENCHMARK)
    assert timing.yellow_s[0] == 0.0
    gate, shown = SafetyGate(network, timing, 0.0), []
    for second in range(300):
        now = float(second)
        shown.append(
            gate.admit(
                propose(network, now, STAGES[0]), now, look(network, gate, now, (1,))
            ).colours[0]
            >= P
        )
    began = shown.index(True)
    assert shown[began:].index(False) == timing.max_green_s[0]


def test_a_conflict_is_reported_for_permissive_greens_too():
    street = Street().play([P, R, R, R], 10).play([P, G, R, R], 10)
    assert street.shown[-1][:2] == [P, R]
    assert {e.data["link"] for e in street.of("conflict")} == {1}


@pytest.mark.parametrize(
    "read",
    [
        np.ones(3, np.int8),
        np.ones(5, np.int8),
        np.ones((4, 1), np.int8),
        np.zeros(0, np.int8),
        np.full(4, np.nan),
        np.full(4, 77, np.int8),
        np.full(4, 260),
        np.array(["green"] * 4),
        "GrGr",
        [4, 1, 4, 1],
        None,
    ],
)
def test_a_read_back_of_another_shape_type_or_value_is_a_disagreement(read):
    street = Street().play(STAGES[0], 10)
    street.play(STAGES[0], 2, shown=read)
    assert street.gate.source is ControlSource.CONTROLLER
    street.play(STAGES[0], 12, shown=read)
    assert street.gate.source is ControlSource.ALL_RED
    assert street.shown[-1] == [R] * 4
    assert len(street.of("lamps")) == 1


def test_the_right_colours_in_another_shape_are_a_disagreement():
    street = Street().play(STAGES[0], 10)
    for _ in range(3):
        street.gate.look(street.gate.shown.reshape(2, 2))
        street.play(STAGES[0], 1)
    assert street.gate.faults == {0: Fault.LAMPS}


def test_lamps_that_are_read_wide_are_compared_by_value():
    street = Street().play(STAGES[0], 10)
    for _ in range(10):
        street.gate.look(street.gate.shown.astype(np.int64))
        street.play(STAGES[0], 1)
    assert street.gate.faults == {}


def test_the_lamps_are_looked_at_beside_what_the_observation_says():
    street = Street().play(STAGES[0], 10)
    for _ in range(3):
        street.gate.look(np.array([R, G, R, R], np.int8))
        street.play(STAGES[0], 1)
    assert street.gate.faults == {0: Fault.LAMPS}


@pytest.mark.parametrize("times", [1, 20])
def test_a_tick_with_wrong_lamps_is_forgotten_five_seconds_after_the_intergreen(times):
    wrong = np.array([R, G, R, R], np.int8)
    street = Street().play(STAGES[0], 10)
    for _ in range(times):
        street.play(STAGES[0], 1, shown=wrong).play(STAGES[0], 3 + 5)  # yellow, no clearance
    assert street.gate.faults == {}
    for _ in range(3):
        street.play(STAGES[0], 1, shown=wrong).play(STAGES[0], 3 + 4)
    assert street.gate.faults == {0: Fault.LAMPS}


@pytest.mark.parametrize(("pause", "faults"), [(11, {0: Fault.LAMPS}), (12, {})])
def test_a_tick_with_wrong_lamps_is_forgotten_by_the_longest_intergreen_of_its_junction(
    pause, faults
):
    """Group 2 has 6 s of yellow and 1 s of clearance: 5 s beyond them."""
    limits = tables_of(NETWORK, work_out(NETWORK, BENCHMARK)).limits._replace(
        yellow_s=np.array([3.0, 3.0, 6.0, 0.0]), clearance_s=np.array([0.0, 2.0, 1.0, 0.0])
    )
    monitor = ConflictMonitor(NETWORK, limits, 0.0)
    commanded = np.full(4, R, np.int8)
    for k in range(3 * (pause + 1)):
        is_wrong = k % (pause + 1) == 0
        monitor.look(np.array([G, R, R, R], np.int8) if is_wrong else commanded, commanded)
        monitor.settle(float(k))
    assert monitor.faults == faults


@pytest.mark.parametrize("profile", [BENCHMARK, STREET], ids=lambda p: p.name)
@pytest.mark.parametrize("every_s", [4, 6, 8, 10, 11, 12, 20, 60])
def test_a_lamp_that_is_wrong_now_and_then_is_latched_or_keeps_nobody_red(profile, every_s):
    """Group 0 lights up for a tick, again and again; its conflicts have to wait until that has been
    cleared.
    """
    street = Street(profile)
    for second in range(600):
        lamps = street.gate.shown.copy()
        if second >= 60 and second % every_s == 0:
            lamps[0] = G
        street.play(STAGES[second // 15 % 3], 1, links=(0, 1, 2, 3), shown=lamps)
    if street.gate.faults:
        assert [e.kind for e in street.events].count("safety.lamps") == 1
    else:
        longest_s = profile.max_red_s + 3 * (profile.min_green_s + 6.0)
        for g in range(4):
            lit = np.flatnonzero([True, *street.lit(g), True])
            assert np.diff(lit).max() <= longest_s


def test_nothing_starts_against_a_lamp_that_is_green_though_it_should_not_be():
    street = Street().play(STAGES[0], 30)
    crossing = NETWORK.junctions[0].conflicts
    stuck = int(np.flatnonzero(STAGES[0] >= P)[0])
    foes = [g for g in range(4) if crossing[stuck, g] and STAGES[1][g] >= P]
    assert foes
    lamps = street.gate.shown.copy()
    for _ in range(60):
        lamps[:] = street.gate.shown
        lamps[stuck] = G
        street.play(STAGES[1], 1, shown=lamps.copy())
    assert not any(street.lit(g)[30:].count(True) for g in foes)


def test_nothing_starts_at_the_end_of_a_yellow_whose_lamp_is_green():
    """Without red clearance, group 1 starts where the yellow of group 0 ends; but that lamp was
    green in the last two ticks of it, one too few to be latched.
    """
    street = Street().play(STAGES[0], 30, links=(0, 1)).play(STAGES[1], 2, links=(0, 1))
    assert street.shown[-1][0] == Y
    for _ in range(2):
        lamps = street.gate.shown.copy()
        lamps[0] = G
        street.play(STAGES[1], 1, links=(0, 1), shown=lamps)
    assert [colours[:2] for colours in street.shown[-3:]] == [[Y, R], [Y, R], [R, R]]
    street.play(STAGES[1], 4, links=(0, 1))
    assert street.lit(1)[-4:] == [False, False, True, True], "its yellow counts from then"


@pytest.mark.parametrize("order", list(Order))
def test_no_order_and_no_emergency_stands_over_a_fault(order):
    street = Street().play(STAGES[0], 12, shown=np.full(4, G, np.int8))
    street.gate.order(Override(0, order, 1000.0, "op", 1), street.now)
    fleet = (EmergencyVehicle("e", 14.0, ((2, 50.0),)),)
    street.play(STAGES[0], 30, emergencies=fleet)
    assert street.shown[-1] == [R] * 4


def test_a_fault_is_reset_by_an_operator_once_the_lamps_obey():
    street = Street().play(STAGES[0], 10)
    with pytest.raises(ValueError, match="is not reset: it has no fault that is latched"):
        street.gate.reset(0, "op", street.now)
    with pytest.raises(ValueError, match="no junction 1; there are 1"):
        street.gate.reset(1, "op", street.now)
    street.play(STAGES[0], 20, shown=np.full(4, G, np.int8))
    with pytest.raises(ValueError, match="its lamps still do not show what is commanded"):
        street.gate.reset(0, "op", street.now)
    street.play(STAGES[0], 1)
    street.gate.reset(0, "op", street.now)
    street.play(STAGES[0], 12)
    assert street.shown[-1] == STAGES[0].tolist()


def test_no_fault_ends_while_nobody_reads_the_lamps():
    street = Street().play(STAGES[0], 12, shown=np.full(4, G, np.int8))
    for second in range(12, 412):
        street.gate.admit(None, float(second))
    assert street.gate.faults == {0: Fault.LAMPS}


def test_what_is_latched_stays_so_in_the_gate_that_takes_over():
    street = Street().play(STAGES[0], 12, shown=np.full(4, G, np.int8))
    heir = SafetyGate(NETWORK, street.timing, 0.0)
    heir.resume(street.gate.state())
    assert heir.faults == {0: Fault.LAMPS}
    street.gate = heir
    assert street.play(STAGES[0], 30).shown[-1] == [R] * 4


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_an_emergency_vehicle_that_has_its_green_changes_nothing(stage):
    fleet = (EmergencyVehicle("e", 14.0, ((2, 50.0),)),)
    street = Street().play(STAGES[stage], 10).play(STAGES[(stage + 1) % 3], 12, emergencies=fleet)
    assert street.shown[-1] == STAGES[stage].tolist()


def test_an_emergency_vehicle_whose_group_no_stage_serves_changes_nothing():
    junction = NETWORK.junctions[0]
    stages = junction.stages.copy()
    stages[:, 3] = R
    network = replace(NETWORK, junctions=(replace(junction, stages=stages),))
    gate = SafetyGate(network, work_out(network, BENCHMARK), 0.0)
    fleet = (EmergencyVehicle("e", 14.0, ((3, 50.0),)),)
    for second in range(30):
        now = float(second)
        shown = gate.admit(
            propose(network, now, stages[0]), now, look(network, gate, now, (), fleet)
        ).colours
    assert shown.tolist() == stages[0].tolist()


def test_orders_are_immutable():
    with pytest.raises(FrozenInstanceError):
        Override(0, Order.HOLD, 9.0, "op").until_s = 99.0  # type: ignore[misc]


def test_a_lane_calls_the_groups_of_its_links_but_those_without_a_signal():
    """Lane 0 leads to groups 0 and 1, and straight on without a signal; lane 2 to group 1."""
    more = [replace(NETWORK.links[0], group=-1), replace(NETWORK.links[0], group=1)]
    ways = way_table(replace(NETWORK, links=(*NETWORK.links, *more)))
    assert ways.lane_start.tolist() == [0, 2, 2, 3, 3, 4, 4, 5, 5]
    assert ways.lane_group.tolist() == [0, 1, 1, 2, 3]
    assert ways.link_group.tolist() == [0, 1, 2, 3, -1, 1]
