"""One test for each mutant that survived the other tests (docs/decisions/0005)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headway.roads import BENCHMARK, work_out
from headway.safety import ControlSource, Fault, Order, Override, SafetyGate, arrays, kernel
from headway.safety.kernel import Rule
from tests.safety.builders import NETWORK, STAGES, G, P, R, Street, Y, look, propose, stage
from tests.safety.networks import pair
from tests.safety.one_second import conflicts, junctions, orders, signals, step

TIMING = work_out(NETWORK, BENCHMARK)


def test_a_calm_second_has_no_events_at_all():
    assert Street().play(STAGES[0], 30).events == []


def test_a_finding_of_the_final_check_ends_every_green_by_yellow(monkeypatch):
    street = Street().play(STAGES[0], 20)
    shown = street.gate.shown.copy()
    monkeypatch.setattr(kernel, "is_safe", lambda *a: False)
    street.play(STAGES[0], 1)
    assert street.shown[-1] == np.where(shown >= P, Y, R).tolist()
    assert len(street.of("monitor")) == 1


@pytest.mark.parametrize(
    ("ahead", "sound"), [(0.0, True), (5e-7, True), (0.5, False), (-2.0, True), (-2.1, False)]
)
def test_a_proposal_from_the_future_is_no_proposal(ahead, sound):
    gate = SafetyGate(NETWORK, TIMING, 0.0)
    assert gate.is_sound(propose(NETWORK, 100.0 + ahead, STAGES[0]), 100.0) is sound


def sources(gate, begin, healthy, fallback=None):
    """The source in each second; healthy: whether there is a proposal."""
    found = []
    for k, well in enumerate(healthy):
        now = begin + k
        proposal = propose(NETWORK, now, STAGES[0]) if well else None
        spare = propose(NETWORK, now, STAGES[1]) if fallback and fallback[k] else None
        gate.admit(proposal, now, look(NETWORK, gate, now, ()), spare)
        found.append(gate.source)
    return found


def test_a_better_source_is_trusted_after_five_seconds_without_a_break():
    gate = SafetyGate(NETWORK, TIMING, 1000.0)
    healthy = [True] * 3 + [False] + [True] * 3 + [False] + [True] * 10
    found = sources(gate, 1000.0, healthy)
    assert found[3] is ControlSource.FIXED_TIME
    assert all(s is ControlSource.FIXED_TIME for s in found[3:12])
    assert found[12] is ControlSource.CONTROLLER


def test_during_fixed_time_a_new_fallback_is_not_trusted_at_once():
    gate = SafetyGate(NETWORK, TIMING, 1000.0)
    found = sources(gate, 1000.0, [True] + [False] * 12, [False] * 3 + [True] * 10)
    assert found[2] is ControlSource.FIXED_TIME
    assert ControlSource.FALLBACK not in found[3:7]
    assert found[-1] is ControlSource.FALLBACK


def test_until_the_fallback_is_trusted_the_programme_is_shown_as_if_there_were_none():
    gates = [SafetyGate(NETWORK, TIMING, 1000.0) for _ in range(2)]
    for gate, fallback in zip(gates, ([False] * 3 + [True] * 3, None), strict=True):
        assert (
            sources(gate, 1000.0, [True] + [False] * 5, fallback)[1:]
            == [ControlSource.FIXED_TIME] * 5
        )
    assert gates[0].shown.tolist() == gates[1].shown.tolist()
    assert gates[0].shown.tolist() != STAGES[1].tolist()


@pytest.mark.parametrize(("order", "overruled"), [(Order.HOLD, True), (Order.STAGE, False)])
def test_a_starving_group_overrules_a_hold_but_no_forced_stage(order, overruled):
    profile = replace(BENCHMARK, max_red_s=30.0)
    street = Street(profile).play(STAGES[0], 10)
    street.gate.order(Override(0, order, 1e6, "ann", 0 if order is Order.STAGE else -1), street.now)
    street.play(STAGES[0], 45, links=(1,))
    assert bool(street.of("maximum_red")) is overruled


def test_a_rule_of_lower_number_is_recorded_as_well():
    street = Street().play(STAGES[0], 6)
    memory = street.gate.state()
    memory["_last_rule"][:] = Rule.MAXIMUM_GREEN
    street.gate.resume(memory)
    street.play(STAGES[1], 1)
    ends = [g for g in range(4) if STAGES[0][g] >= P > STAGES[1][g]]
    assert [(e.kind, e.data["link"]) for e in street.events] == [
        ("safety.minimum_green", g) for g in ends
    ]
    assert len(ends) == 2


def note(shown, present, since, last, now):
    n = len(shown)
    calls = arrays.Calls(
        np.array(present), np.array(since, float), np.array(last, float), np.full(n, now)
    )
    kernel.update_call_times(now, calls, signals(shown, [0.0] * n), conflicts(n))
    return calls.since_s


@pytest.mark.parametrize("colour", [P, G])
def test_a_group_with_either_kind_of_green_does_not_wait(colour):
    assert note([colour, R], [True, True], [0.0, 0.0], [50.0, 50.0], 50.0).tolist() == [50.0, 0.0]


def starve(**changes):
    """Two junctions of two groups each; the stages of each: first group, second group.
    Returns (wanted, forced, rule).
    """
    at = {
        "now": 100.0, "wanted": [G, R, G, R], "shown": [G, R, G, R], "since": [0.0] * 4,
        "min_green": [5.0] * 4, "serving_stage": [0, 1, 0, 1],
        "call_since": [100.0] * 4, "max_red": 60.0, "exempt": [False, False], "forced": [-1, -1],
    } | changes  # fmt: skip
    wanted = np.array(at["wanted"], np.int8)
    decision = arrays.Decision(np.zeros(4, np.int8), np.zeros(4, np.int8))
    none = np.zeros(4)
    state = arrays.State(
        signals(at["shown"], at["since"]),
        arrays.Calls(np.zeros(4, bool), np.array(at["call_since"]), none, none),
        orders(at["exempt"], at["forced"]),
    )
    limits = arrays.Limits(
        none, none, np.array(at["min_green"]), none, none, none + at["max_red"], none + np.inf
    )
    stages = [[G, R], [R, G], [G, R], [R, G]]
    tables = arrays.Tables(
        junctions([0, 2, 4], [0, 2, 4], stages, at["serving_stage"]), conflicts(4), limits
    )
    kernel.serve_starving(at["now"], wanted, state, tables, decision)
    return wanted.tolist(), state.orders.forced.tolist(), decision.rule.tolist()


def test_an_exempt_junction_does_not_exempt_later_ones():
    wanted, forced, rule = starve(exempt=[True, False], call_since=[100.0, 0.0, 100.0, 0.0])
    assert forced == [-1, 3]
    assert wanted == [G, R, R, G]
    assert rule == [0, 0, 0, 6]


def test_service_of_a_starving_group_begins_in_the_second_it_is_due():
    assert starve(call_since=[100.0, 40.0, 100.0, 40.5])[1] == [1, -1]


def test_a_group_that_shows_either_kind_of_green_does_not_starve():
    for colour in (P, G):
        assert starve(shown=[colour, R, G, R], call_since=[0.0, 100.0, 100.0, 100.0])[1] == [-1, -1]


def test_service_of_a_starving_group_ends_with_its_minimum_green():
    assert starve(shown=[R, G, G, R], since=[0.0, 96.0, 0.0, 0.0], forced=[1, -1])[1] == [1, -1]
    assert starve(shown=[R, G, G, R], since=[0.0, 95.0, 0.0, 0.0], forced=[1, -1])[1] == [-1, -1]
    assert starve(shown=[R, G, G, R], since=[0.0, 90.0, 0.0, 0.0], forced=[1, -1])[1] == [-1, -1]
    assert starve(shown=[R, R, G, R], since=[0.0, 0.0, 0.0, 0.0], forced=[1, -1])[1] == [1, -1]


def test_the_starving_group_being_served_stays_although_another_waits_longer():
    wanted, forced, _ = starve(
        shown=[R, R, G, R],
        wanted=[R, G, G, R],
        since=[0.0] * 4,
        forced=[0, -1],
        call_since=[30.0, 0.0, 100.0, 100.0],
    )
    assert forced[0] == 0
    assert wanted[:2] == [G, R]


def safe(colours, yields=()):
    """Groups 0 and 1 conflict; (a, b) in yields: a gives way to b."""
    return kernel.is_safe(np.array(colours, np.int8), conflicts(2, (0, 1), yields=yields))


def test_of_two_conflicting_groups_only_the_one_that_gives_way_may_be_permissive():
    assert not safe([G, G])
    assert not safe([G, G], yields=[(1, 0)])
    assert safe([G, P], yields=[(1, 0)])
    assert not safe([P, G], yields=[(1, 0)])
    assert safe([G, Y])


def test_a_yellow_is_not_prolonged_by_a_proposed_green():
    street = Street().play(STAGES[0], 20).play([R, R, R, R], 1)
    assert street.shown[-1][0] == Y
    street.play(STAGES[0], 3)
    assert street.shown[-1][0] != Y


def test_two_protected_greens_are_never_safe_whichever_yields():
    assert not safe([G, G], yields=[(0, 1), (1, 0)])


def test_the_sources_are_four_in_their_order():
    assert [s.name for s in ControlSource] == ["CONTROLLER", "FALLBACK", "FIXED_TIME", "ALL_RED"]


def test_of_two_starving_groups_the_longer_wait_is_served_and_then_kept():
    at = {"shown": [R, R, G, R], "wanted": [R, R, G, R]}
    assert starve(**at, call_since=[30.0, 0.0, 100.0, 100.0])[1] == [1, -1]
    assert starve(**at, since=[0.0] * 4, forced=[1, -1], call_since=[0.0, 30.0, 100.0, 100.0])[
        1
    ] == [1, -1]


@pytest.mark.parametrize(("junction", "stage"), [(1, 0), (5, 0), (0, 99)])
def test_orders_for_unknown_junctions_or_stages_are_refused(junction, stage):
    gate = SafetyGate(NETWORK, TIMING, 0.0)
    with pytest.raises(ValueError, match=r"no junction|no stage"):
        gate.order(Override(junction, Order.STAGE, 10.0, "ann", stage), 0.0)


@pytest.mark.parametrize("groups", [1, 9])
def test_the_state_of_another_network_is_refused(groups):
    gate = SafetyGate(NETWORK, TIMING, 0.0)
    with pytest.raises(ValueError, match=r"another|groups"):
        gate.resume(gate.state() | {"shown": np.zeros(groups, np.int8)})


@pytest.mark.parametrize("colour", [P, G])
def test_a_conflicting_group_that_shows_either_kind_of_green_is_not_blocked(colour):
    calls = arrays.Calls(np.array([True, True]), np.zeros(2), np.full(2, 50.0), np.zeros(2))
    kernel.update_call_times(50.0, calls, signals([P, colour], [0.0, 0.0]), conflicts(2, (0, 1)))
    assert calls.conflicting_since_s.tolist() == [50.0, 50.0]


def test_a_group_that_may_not_start_yet_does_not_block_the_next():
    assert step([R, R], [G, G], green_start=[90.0, 0.0], min_cycle=40.0) == ([R, G], [5, 0])


def test_a_fault_that_is_taken_over_has_its_health_before_it():
    """The gate that takes over was made long before the time at which it goes on."""
    street = Street().play(STAGES[0], 400, shown=np.full(4, G, np.int8))
    heir = SafetyGate(NETWORK, TIMING, 0.0)
    heir.resume(street.gate.state())
    heir.admit(propose(NETWORK, 400.0, STAGES[0]), 400.0, look(NETWORK, heir, 400.0))
    assert heir.faults == {0: Fault.LAMPS}


def test_what_two_readers_of_the_lamps_find_wrong_is_wrong():
    """One of them the first junction, the other one the second."""
    network = pair()
    gate = SafetyGate(network, work_out(network, BENCHMARK), 0.0)
    for k in range(13):
        lamps = [gate.shown.copy(), gate.shown.copy()]
        if k >= 10:
            lamps[0][1] = lamps[1][5] = G
        gate.look(lamps[0])
        gate.admit(
            propose(network, float(k), stage(network, 0)),
            float(k),
            replace(look(network, gate, float(k)), shown=lamps[1]),
        )
    assert gate.faults == {0: Fault.LAMPS, 1: Fault.LAMPS}


def test_after_a_forced_stage_the_maximum_green_counts_anew():
    """Group 1 asks from 12 s on (it did not at 11 s); the stage is forced until 142 s, longer than
    the maximum green of 120 s, which then counts from its end: the maximum red of 150 s is earlier.
    """
    street = Street().play(STAGES[0], 12)
    street.gate.order(Override(0, Order.STAGE, 142.0, "op", 0), street.now)
    street.play(STAGES[0], 160, links=(1,))
    assert street.lit(0)[3:].index(False) + 3 == 161


def test_under_a_hold_the_one_who_has_waited_longest_goes_first():
    """Group 1 is held. Group 3 asks from 20 s on, group 0 from 40 s on; after the maximum green of
    120 s the stage of group 3 is shown, in which group 0 is red.
    """
    street = Street().play(STAGES[1], 15)
    street.gate.order(Override(0, Order.HOLD, 1000.0, "op"), street.now)
    street.play(STAGES[1], 5).play(STAGES[1], 20, links=(3,)).play(STAGES[1], 110, links=(0, 3))
    starts = [k for k, colours in enumerate(street.shown) if k > 15 and colours[3] >= P]
    assert starts[0] == 139 + 3
    assert street.shown[142] == [R, R, G, G]
