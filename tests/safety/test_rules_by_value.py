"""The rules of one second by value: kernels on arrays small enough to check by hand,
each bound to its microsecond.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from headway.safety import Rule, arrays, kernel
from tests.safety.builders import G, P, R, Y
from tests.safety.one_second import calls, conflicts, junctions, orders, signals, step

US = kernel.EPS_S  # a microsecond: times within it count as equal


def test_rules_have_these_numbers():
    assert [(r.name, int(r)) for r in Rule] == [
        ("NONE", 0), ("COLOUR", 1), ("CONFLICT", 2), ("MINIMUM_GREEN", 3), ("MAXIMUM_GREEN", 4),
        ("MINIMUM_CYCLE", 5), ("MAXIMUM_RED", 6), ("MAXIMUM_CYCLE", 7),
    ]  # fmt: skip
    assert (R, Y, P, G) == (1, 2, 3, 4)


# one group


@pytest.mark.parametrize(
    ("shown", "wanted", "out"),
    [(R, R, R), (R, Y, R), (R, P, P), (R, G, G), (P, P, P), (P, G, G), (G, P, P), (G, G, G),
        (G, R, Y), (P, R, Y), (G, Y, Y), (P, Y, Y), (Y, R, R), (Y, G, R), (Y, P, R)],
)  # fmt: skip
def test_permitted_changes_happen_as_proposed(shown, wanted, out):
    assert step([shown], [wanted]) == ([out], [0])


@pytest.mark.parametrize("wanted", [-128, -1, 0, 5, 127])
@pytest.mark.parametrize(("shown", "out"), [(R, R), (G, Y), (P, Y), (Y, R)])
def test_an_invalid_colour_counts_as_red_and_is_recorded(wanted, shown, out):
    assert step([shown], [wanted]) == ([out], [1])


def test_a_group_without_yellow_ends_red_and_one_with_any_ends_yellow():
    assert step([G, G, G], [R, R, R], yellow=[0.0, 0.5, 3.0]) == ([R, Y, Y], [0, 0, 0])


@pytest.mark.parametrize(
    ("age", "out"), [(4.0, G), (5.0 - 2 * US, G), (5.0 - US, Y), (5.0, Y), (80.0, Y)]
)
def test_a_green_no_longer_proposed_is_kept_for_its_minimum_green(age, out):
    min_green = 5.0 if age != 5.0 - US else 5.0 + US
    begun = 100.0 - (5.0 if age == 5.0 - US else age)
    assert step([G], [R], since=begun, min_green=min_green) == ([out], [3 if out == G else 0])


def test_a_kept_green_keeps_its_level_and_a_proposed_one_may_change_it():
    assert step([P, G, P], [R, R, G], since=98.0) == ([P, G, G], [3, 3, 0])
    assert step([G], [P], since=98.0) == ([P], [0])


@pytest.mark.parametrize(
    ("waited", "max_green", "ends"),
    [
        (29.0, 30.0, False),
        (30.0, 30.0 + 2 * US, False),
        (30.0, 30.0 + US, True),
        (30.0, 30.0, True),
        (31.0, 30.0, True),
    ],
)
@pytest.mark.parametrize("level", [P, G])
def test_a_proposed_green_ends_at_maximum_green(waited, max_green, ends, level):
    assert step([level], [level], conflicting_since=100.0 - waited, max_green=max_green) == (
        ([Y], [4]) if ends else ([level], [0])
    )


def test_maximum_green_does_not_affect_a_green_that_ends_anyway():
    assert step([G], [R], conflicting_since=0.0) == ([Y], [0])
    assert step([G], [R], conflicting_since=0.0, since=98.0) == ([G], [3])


@pytest.mark.parametrize("wanted", [R, Y, P, G])
@pytest.mark.parametrize(
    ("lasted", "yellow", "over"),
    [
        (1.0, 3.0, False),
        (3.0, 3.0 + 2 * US, False),
        (3.0, 3.0 + US, True),
        (3.0, 3.0, True),
        (4.0, 3.0, True),
    ],
)
def test_yellow_lasts_its_time_and_longer_only_where_proposed(lasted, yellow, over, wanted):
    assert step([Y], [wanted], since=100.0 - lasted, yellow=yellow) == (
        [R if over and wanted != Y else Y],
        [0],
    )


@pytest.mark.parametrize(
    ("lasted", "out"), [(5.0, Y), (5.999, Y), (6.0 - 2 * US, Y), (6.0, R), (7.0, R)]
)
def test_a_proposed_yellow_lasts_six_seconds_at_most(lasted, out):
    assert step([Y], [Y], since=100.0 - lasted) == ([out], [0])
    assert step([Y], [Y], since=100.0 - lasted, yellow=0.5) == ([out], [0])


def test_six_seconds_of_yellow_are_over_within_a_microsecond():
    now = 6.0 - US
    assert now + US == 6.0
    assert step([Y], [Y], now=now, since=0.0)[0] == [R]


@pytest.mark.parametrize(
    ("ago", "cycle", "starts"),
    [
        (39.0, 40.0, False),
        (40.0, 40.0 + 2 * US, False),
        (40.0, 40.0 + US, True),
        (40.0, 40.0, True),
        (50.0, 40.0, True),
    ],
)
def test_a_green_starts_again_after_the_minimum_cycle(ago, cycle, starts):
    assert step([R], [G], green_start=100.0 - ago, min_cycle=cycle) == (
        ([G], [0]) if starts else ([R], [5])
    )


def test_the_minimum_cycle_applies_to_starts_alone():
    assert step([P, G], [G, P], green_start=99.0, min_cycle=40.0) == ([G, P], [0, 0])


@pytest.mark.parametrize("ago", [0.5, 39.9, 40.0])
def test_a_green_for_an_emergency_vehicle_does_not_wait_for_the_minimum_cycle(ago):
    times = {"green_start": 100.0 - ago, "min_cycle": 40.0, "preempted": True}
    assert step([R], [G], **times) == ([G], [0])


def test_a_green_for_an_emergency_vehicle_waits_for_all_else():
    times = {"green_start": 90.0, "min_cycle": 40.0, "preempted": True, "clearance": 2.0}
    # the other's minimum green of 5 s, its yellow of 3 s, its clearance of 2 s
    assert step([G, R], [R, G], (0, 1), since=[95.1, 0.0], **times) == ([G, R], [3, 0])
    assert step([G, R], [R, G], (0, 1), since=[95.0, 0.0], **times) == ([Y, R], [0, 0])
    ended = times | {"green_end": [97.1, 0.0], "since": [97.1, 0.0]}
    assert step([Y, R], [R, G], (0, 1), **ended) == ([Y, R], [0, 0])
    cleared = times | {"green_end": [95.1, 0.0], "since": [98.1, 0.0]}
    assert step([R, R], [R, G], (0, 1), **cleared) == ([R, R], [0, 0])
    cleared = times | {"green_end": [95.0, 0.0], "since": [98.0, 0.0]}
    assert step([R, R], [R, G], (0, 1), **cleared) == ([R, G], [0, 0])


# groups that cross


@pytest.mark.parametrize("shown", [P, G])
@pytest.mark.parametrize("wanted", [P, G])
def test_a_green_waits_for_its_conflict_and_the_rule_is_recorded_where_both_are_proposed(
    shown, wanted
):
    assert step([shown, R], [shown, wanted], (0, 1)) == ([shown, R], [0, 2])
    assert step([R, shown], [wanted, shown], (0, 1)) == ([R, shown], [2, 0])
    assert step([shown, R], [R, wanted], (0, 1), since=98.0) == (
        [shown, R],
        [3, 0],
    )  # kept against its wish: no conflict of wishes
    assert step([shown, R], [R, wanted], (0, 1)) == ([Y, R], [0, 0])


def test_of_two_that_start_together_the_first_does():
    assert step([R, R], [G, G], (0, 1)) == ([G, R], [0, 2])
    assert step([R, R, R], [R, P, G], (0, 1), (1, 2)) == ([R, P, R], [0, 0, 2])


def test_a_group_in_yellow_or_just_ended_is_still_being_cleared():
    assert step([Y, R], [R, G], (0, 1), since=99.0) == ([Y, R], [0, 0])
    over = {"since": [97.0, 0.0], "green_end": [97.0, 0.0]}  # the yellow ends now
    assert step([Y, R], [R, G], (0, 1), **over) == ([R, R], [0, 0]), "its clearance begins"
    assert step([Y, R], [R, G], (0, 1), **over, clearance=0.0) == ([R, G], [0, 0])
    lit_meanwhile = over | {"green_end": [97.5, 0.0]}
    assert step([Y, R], [R, G], (0, 1), **lit_meanwhile, clearance=0.0) == ([R, R], [0, 0])
    assert step([G, R], [R, G], (0, 1), yellow=0.0) == ([R, R], [0, 0])
    assert step([P, R], [R, G], (0, 1), yellow=0.0) == ([R, R], [0, 0])


@pytest.mark.parametrize(
    ("ago", "more", "free"),
    [(4.0, 0.0, False), (5.0, 2 * US, False), (5.0, US, True), (5.0, 0.0, True), (9.0, 0.0, True)],
)
def test_yellow_and_clearance_of_the_one_that_ended_are_waited_for(ago, more, free):
    ended = [100.0 - ago, 0.0]
    assert step(
        [R, R], [R, G], (0, 1), green_end=ended, yellow=[3.0, 9.0], clearance=[2.0 + more, 9.0]
    )[0] == [R, G if free else R]
    assert step([R, R], [R, G], green_end=[99.0, 99.0]) == (
        [R, G],
        [0, 0],
    )  # who crosses nobody waits for nobody


@pytest.mark.parametrize(("clearance", "free"), [(3.0, True), (3.001, False)])
def test_clearance_counts_from_the_end_of_a_yellow_that_was_lengthened(clearance, free):
    """Green until 91 s, yellow of 3 s that was shown until 97 s."""
    times = {"since": [97.0, 0.0], "green_end": [91.0, 0.0], "clearance": clearance}
    assert step([R, R], [R, G], (0, 1), **times) == ([R, G if free else R], [0, 0])


def test_a_change_to_protected_green_is_a_start_against_conflicting_groups():
    assert step([G, P], [G, G], (0, 1), yields=[(1, 0)]) == ([G, P], [0, 2])
    assert step([R, P], [R, G], (0, 1), yields=[(1, 0)], green_end=[99.0, 0.0]) == ([R, P], [0, 0])
    assert step([R, P], [R, G], (0, 1), yields=[(1, 0)], green_end=[90.0, 0.0]) == ([R, G], [0, 0])


@pytest.mark.parametrize(
    ("yields", "shown", "wanted", "starts"),
    [
        ([(1, 0)], G, P, True), ([(1, 0)], G, G, False), ([(1, 0)], P, G, False),
        ([(1, 0)], P, P, True),
        ([(0, 1)], G, P, False), ([(0, 1)], G, G, False), ([(0, 1)], P, G, True),
        ([(0, 1)], P, P, True),
        ([], G, P, False), ([], P, P, False),
    ],
)  # fmt: skip
def test_a_permissive_group_may_join_the_one_it_yields_to(yields, shown, wanted, starts):
    assert step([shown, R], [shown, wanted], (0, 1), yields=yields) == (
        [shown, wanted if starts else R],
        [0, 0 if starts else 2],
    )
    turned = [(1 - a, 1 - b) for a, b in yields]
    assert step([R, shown], [wanted, shown], (0, 1), yields=turned) == (
        [wanted if starts else R, shown],
        [0 if starts else 2, 0],
    )


def test_a_group_that_yields_to_the_first_is_still_blocked_by_the_second():
    assert step([G, G, R], [G, G, P], (0, 2), (1, 2), yields=[(2, 0)]) == ([G, G, R], [0, 0, 2])
    assert step(
        [G, R, R], [G, R, P], (0, 2), (1, 2), yields=[(2, 0)], green_end=[0.0, 99.0, 0.0]
    ) == ([G, R, R], [0, 0, 0])
    assert step(
        [G, R, R], [G, R, P], (0, 2), (1, 2), yields=[(2, 0)], green_end=[0.0, 90.0, 0.0]
    ) == ([G, R, P], [0, 0, 0])


def test_a_blocked_start_does_not_block_later_groups():
    assert step([R, R], [R, G]) == ([R, G], [0, 0])
    assert step([G, R], [G, G], conflicting_since=[0.0, 100.0], yellow=0.0) == (
        [R, G],
        [4, 0],
    )  # the first has just ended, and wants to start again
    assert step([R, R], [G, G], green_start=[99.0, 0.0], min_cycle=40.0) == ([R, G], [5, 0])
    assert step([Y, R], [G, G], since=99.0) == ([Y, G], [0, 0])
    assert step([R, G, R], [G, G, G], (0, 1)) == ([R, G, G], [2, 0, 0])


# clocks


def test_the_clocks_of_a_group_are_set_when_it_begins_and_ends():
    now = signals([R, R, G, P, G, G, Y, R], 1.0, 2.0, 3.0)
    colours = np.array([G, P, Y, R, P, G, R, R], np.int8)
    kernel.put_in_force(9.0, colours, now)
    assert now.colour.tolist() == colours.tolist()
    assert now.since_s.tolist() == [
        9.0,
        9.0,
        9.0,
        9.0,
        1.0,
        1.0,
        9.0,
        1.0,
    ]  # levels of green are one colour
    assert now.green_start_s.tolist() == [9.0, 9.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert now.green_end_s.tolist() == [3.0, 3.0, 9.0, 9.0, 3.0, 3.0, 3.0, 3.0]
    now = signals([P], 1.0)
    kernel.put_in_force(9.0, np.array([G], np.int8), now)
    assert (now.colour[0], now.since_s[0]) == (G, 1.0)


def noted(shown, present, since, last, conflicting_since, *pairs, now=50.0):
    """(since, last, conflicting_since) after the update."""
    kept = calls(
        len(shown),
        present=np.array(present, bool),
        since_s=np.array(since, float),
        last_s=np.array(last, float),
        conflicting_since_s=np.array(conflicting_since, float),
    )
    kernel.update_call_times(now, kept, signals(shown, 0.0), conflicts(len(shown), *pairs))
    return kept.since_s.tolist(), kept.last_s.tolist(), kept.conflicting_since_s.tolist()


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize(
    ("last", "since", "remembered"),
    [
        (49.0, 20.0, True),
        (40.0, 20.0, True),
        (39.9, 20.0, False),
        (49.0, 60.0, False),
        (-np.inf, 20.0, False),
    ],
)
def test_a_red_group_has_a_call_until_ten_seconds_after_its_last_one(asks, last, since, remembered):
    kept = since if (remembered or asks) and since < 50.0 else 50.0
    assert noted([R], [asks], [since], [last], [50.0]) == ([kept], [50.0 if asks else last], [50.0])
    assert noted([Y], [asks], [since], [last], [50.0])[0] == [kept]
    for green in (P, G):
        assert noted([green], [asks], [since], [last], [50.0])[0] == [50.0]


@pytest.mark.parametrize("green", [P, G])
@pytest.mark.parametrize(
    ("other", "last", "waits"),
    [
        (R, 49.0, True),
        (Y, 49.0, True),
        (R, 40.0, True),
        (R, 39.9, False),
        (P, 49.0, False),
        (G, 49.0, False),
    ],
)
def test_a_green_blocks_a_conflicting_group_with_a_call(green, other, last, waits):
    assert noted([green, other], [False, False], [0.0, 0.0], [-np.inf, last], [20.0, 20.0], (0, 1))[
        2
    ][0] == (20.0 if waits else 50.0)
    assert (
        noted([green, other], [False, False], [0.0, 0.0], [-np.inf, last], [60.0, 20.0], (0, 1))[2][
            0
        ]
        == 50.0
    )
    assert noted([green, other], [False, False], [0.0, 0.0], [-np.inf, last], [20.0, 20.0])[2] == [
        50.0,
        50.0,
    ]  # they do not conflict
    assert noted([other, green], [False, False], [0.0, 0.0], [last, -np.inf], [20.0, 20.0], (0, 1))[
        2
    ][1] == (20.0 if waits else 50.0)


def test_a_red_group_blocks_no_group_and_one_blocked_group_of_many_is_enough():
    assert noted([R, R], [True, True], [0.0, 0.0], [0.0, 0.0], [20.0, 20.0], (0, 1))[2] == [
        50.0,
        50.0,
    ]
    for asking in ([False, True, False, False], [False, False, False, True]):
        assert (
            noted(
                [G, R, R, R], asking, [0.0] * 4, [-np.inf] * 4, [20.0] * 4, (0, 1), (0, 2), (0, 3)
            )[2][0]
            == 20.0
        )


WAYS = arrays.Ways(
    link_group=np.array([0, 1, 2, -1], np.int32),
    # lane 0 leads to groups 0 and 2, lane 1 to none, lane 2 to group 1
    lane_start=np.array([0, 2, 2, 3], np.int32),
    lane_group=np.array([0, 2, 1], np.int32),
)


def counted(links, persons=(0, 0, 0), known=(1.0, 1.0), lanes=None, links_known=True):
    found = calls(3, present=np.array([True, False, True]))
    kernel.detect_calls(
        np.full(len(links), -1, np.int32) if lanes is None else np.array(lanes, np.int32),
        np.array(links, np.int32),
        links_known,
        WAYS,
        np.array(persons, np.int32),
        np.array(known),
        junctions([0, 2, 3]),
        found,
    )
    return found.present.tolist()


def test_calls_come_from_vehicles_pedestrians_and_missing_observation():
    assert counted([]) == [False] * 3
    assert counted([0]) == [True, False, False]
    assert counted([2, 1]) == [False, True, True]
    assert counted([3, -1, 4, -2, 1]) == [
        False,
        True,
        False,
    ]  # without a signal, unknown, not there
    assert counted([], persons=(0, 1, 0)) == [False, True, False]
    assert counted([], persons=(2, 0, 5)) == [True, False, True]
    assert counted([], known=(0.5, 0.49)) == [False, False, True]
    assert counted([], known=(0.49, 1.0)) == [True, True, False]
    assert counted([], known=(np.nan, 0.0)) == [True, True, True]


def test_a_vehicle_whose_way_is_not_known_calls_every_group_of_its_lane():
    assert counted([0], lanes=[0]) == [True, False, False]
    assert counted([0], lanes=[0], links_known=False) == [True, False, True]
    assert counted([1], lanes=[0], links_known=False) == [True, True, True]
    for link in (-1, -9, 4):
        assert counted([link], lanes=[0]) == [True, False, True]
        assert counted([link], lanes=[2]) == [False, True, False]
        for lane in (1, 3, -1, -9, 10**6):
            assert counted([link], lanes=[lane], links_known=False) == [False] * 3
    assert counted([3], lanes=[0]) == [False] * 3, "it is known to go where there is no signal"


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [([], [], True), ([1], [1], True), ([1], [2], False), ([1, 2], [1, 2], True),
        ([1, 2], [3, 2], False), ([1, 2], [1, 3], False), ([1], [1, 2], False),
        ([1, 2], [1], False)],
)  # fmt: skip
def test_two_arrays_are_the_same_if_all_is(a, b, equal):
    assert bool(kernel.is_equal(np.array(a, np.int8), np.array(b, np.int8))) is equal


@pytest.mark.parametrize(
    ("colours", "yields", "safe"),
    [
        ([R, R, R], [], True), ([G, R, G], [], True), ([G, G, R], [], False),
        ([P, P, R], [], False), ([G, P, R], [], False), ([P, G, R], [], False),
        ([G, P, R], [(1, 0)], True), ([P, G, R], [(1, 0)], False), ([P, P, R], [(1, 0)], True),
        ([G, G, R], [(1, 0)], False),
        ([P, G, R], [(0, 1)], True), ([G, P, R], [(0, 1)], False), ([Y, G, R], [], True),
        ([G, Y, R], [], True),
        ([R, P, G], [(1, 0)], False), ([G, P, G], [(1, 0)], False),
        ([G, P, G], [(1, 0), (1, 2)], True), ([R, R, 0], [], False), ([R, R, 5], [], False),
        ([-1, R, R], [], False),
    ],
)  # fmt: skip
def test_the_final_check_finds_invalid_colours_and_conflicting_greens(colours, yields, safe):
    crossing = conflicts(3, (0, 1), (1, 2), yields=yields)
    assert kernel.is_safe(np.array(colours, np.int8), crossing) is safe


# service by force


def force(**changes):
    """Junctions of groups 0 to 2 and 3 to 4, all red at 100 s;
    stages serve one group each, the last none. (wanted, forced, rule).
    """
    at = {
        "wanted": [R] * 5, "shown": [R] * 5, "since": [0.0] * 5, "min_green": [5.0] * 5,
        "serving_stage": [0, 1, 2, 0, 1], "call_since": [100.0] * 5,
        "exempt": [False, False], "forced": [-1, -1], "max_red": 60.0,
    } | changes  # fmt: skip
    stages = np.array([[G, R, R], [R, P, R], [R, R, G], [R, R, R], [G, R, R], [R, G, R]], np.int8)
    wanted = np.array(at["wanted"], np.int8)
    decision = arrays.Decision(np.zeros(5, np.int8), np.zeros(5, np.int8))
    none = np.zeros(5)
    state = arrays.State(
        signals(at["shown"], at["since"]),
        calls(5, since_s=np.array(at["call_since"])),
        orders(at["exempt"], at["forced"]),
    )
    limits = arrays.Limits(
        none, none, np.array(at["min_green"]), none, none, none + at["max_red"], none + np.inf
    )
    stops = junctions([0, 3, 5], [0, 4, 6], stages, at["serving_stage"])
    tables = arrays.Tables(stops, conflicts(5), limits)
    kernel.serve_starving(100.0, wanted, state, tables, decision)
    return wanted.tolist(), state.orders.forced.tolist(), decision.rule.tolist()


def test_a_group_that_waited_for_the_maximum_red_gets_its_stage_and_is_reported_once():
    assert force() == ([R] * 5, [-1, -1], [0] * 5)
    assert force(call_since=[100.0, 40.0, 100.0, 100.0, 39.0], wanted=[G, R, G, G, R]) == (
        [R, P, R, R, G],
        [1, 4],
        [0, 6, 0, 0, 6],
    )
    assert force(call_since=[100.0, 40.0, 100.0, 100.0, 100.0], wanted=[R, P, R, G, R]) == (
        [R, P, R, G, R],
        [1, -1],
        [0] * 5,
    )  # it was wanted anyway
    assert force(call_since=[100.0, 41.0, 100.0, 100.0, 100.0])[1] == [-1, -1]
    assert force(call_since=[100.0, 100.0, 40.0 + US, 40.0 + 3 * US, 100.0])[1] == [2, -1]


def test_the_longest_wait_is_served_first_and_of_equal_ones_the_last():
    assert force(call_since=[30.0, 20.0, 25.0, 0.0, 0.0])[1] == [1, 4]
    assert force(call_since=[10.0, 20.0, 25.0, 0.0, 1.0])[1] == [0, 3]
    assert force(call_since=[30.0, 20.0, 20.0, 30.0, 30.0])[1] == [2, 4]


def test_green_groups_those_without_a_stage_and_exempt_junctions_are_not_starving():
    waits = [0.0] * 5
    assert force(call_since=waits, shown=[G, P, Y, G, P], since=[99.0] * 5)[1] == [2, -1]
    assert force(call_since=waits, serving_stage=[0, -1, -1, -1, -1])[1] == [0, -1]
    assert force(call_since=waits, exempt=[True, False], forced=[1, -1]) == (
        [R, R, R, R, G],
        [-1, 4],
        [0, 0, 0, 0, 6],
    )
    assert force(call_since=waits, exempt=[False, True], forced=[-1, 3]) == (
        [R, R, G, R, R],
        [2, -1],
        [0, 0, 6, 0, 0],
    )


@pytest.mark.parametrize("green", [P, G])
def test_service_of_a_starving_group_lasts_until_its_minimum_green_is_over(green):
    for age, min_green, over in (
        (4.0, 5.0, False),
        (5.0, 5.0 + 2 * US, False),
        (5.0, 5.0 + US, True),
        (5.0, 5.0, True),
        (50.0, 5.0, True),
    ):
        forced = force(
            forced=[0, -1],
            shown=[green, R, R, R, R],
            since=[100.0 - age] * 5,
            min_green=[min_green] * 5,
        )[1]
        assert forced == [-1 if over else 0, -1]
    assert force(
        forced=[0, -1], shown=[green, R, R, R, R], call_since=[0.0, 30.0, 100.0, 100.0, 100.0]
    )[1] == [1, -1]  # and then the next
    assert force(
        forced=[2, -1], shown=[green, R, R, R, green], call_since=[0.0, 30.0, 100.0, 100.0, 100.0]
    )[1] == [2, -1]
    assert force(forced=[0, 3], call_since=[90.0, 0.0, 0.0, 90.0, 0.0]) == (
        [G, R, R, G, R],
        [0, 3],
        [6, 0, 0, 6, 0],
    )


def kept_waiting(**changes):
    """Who is served by force under a hold. Junction 1, of groups 1 to 3: 1 is held green and keeps
    2 and 3 waiting, for 30 s by now.
    """
    at = {
        "wanted": [R, G, R, R], "shown": [R, G, R, R], "serving_stage": [0, 0, 1, 2],
        "call_since": [0.0, 100.0, 80.0, 70.0], "last": [100.0, 100.0, 100.0, 100.0],
        "conflicting_since": [0.0, 70.0, 100.0, 100.0], "max_green": 30.0,
        "forced": arrays.NO_GROUP,
    } | changes  # fmt: skip
    none = np.zeros(4)
    state = arrays.State(
        signals(at["shown"], 0.0),
        calls(
            4,
            since_s=np.array(at["call_since"]),
            last_s=np.array(at["last"]),
            conflicting_since_s=np.array(at["conflicting_since"]),
        ),
        orders([False, False], [arrays.NO_GROUP, at["forced"]]),
    )
    tables = arrays.Tables(
        junctions([0, 1, 4], serving_stage=at["serving_stage"]),
        conflicts(4, (1, 2), (1, 3)),
        arrays.Limits(none, none, none, none + at["max_green"], none, none, none),
    )
    kernel.serve_kept_waiting(1, 100.0, np.array(at["wanted"], np.int8), state, tables)
    assert state.orders.forced[0] == arrays.NO_GROUP
    return int(state.orders.forced[1])


@pytest.mark.parametrize(
    ("changes", "served"),
    [
        ({}, 3),  # it has waited longest
        ({"call_since": [0.0, 100.0, 70.0, 80.0]}, 2),
        ({"call_since": [0.0, 100.0, 100.0, 100.0]}, 2),  # of equals the first
        ({"max_green": 30.0 + US}, 3),
        ({"max_green": 30.0 + 2 * US}, -1),
        ({"conflicting_since": [0.0, 70.5, 0.0, 0.0]}, -1),
        ({"shown": [R, P, R, R], "wanted": [R, P, R, R]}, 3),
        ({"shown": [R, Y, R, R]}, -1),
        ({"wanted": [R, R, R, R]}, -1),
        ({"last": [100.0, 100.0, 100.0, 90.0]}, 3),
        ({"last": [100.0, 100.0, 100.0, 89.9]}, 2),
        ({"last": [100.0, 100.0, 0.0, 0.0]}, -1),
        ({"serving_stage": [0, 0, 1, arrays.NO_STAGE]}, 2),
        ({"serving_stage": [0, 0, arrays.NO_STAGE, arrays.NO_STAGE]}, -1),
        ({"shown": [R, G, R, P]}, 2),
        ({"forced": 2}, 2),  # its service is not over
    ],
)
def test_a_held_green_at_its_maximum_is_followed_by_who_has_waited_longest_for_it(changes, served):
    assert kept_waiting(**changes) == served


@pytest.mark.slow
def test_the_kernels_are_compiled_and_kept_on_disk():
    say = (
        "from headway.safety import kernel; from numba.core.dispatcher import Dispatcher; "
        "print(*sorted(k for k, v in vars(kernel).items() if isinstance(v, "
        "Dispatcher) and v.stats.cache_path))"
    )
    env = os.environ | {"NUMBA_DISABLE_JIT": "0"}
    said = subprocess.run(
        [sys.executable, "-c", say],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    names = """apply_rules cleared_s count_max_green_anew detect_calls end_green
        has_had_min_green is_asking is_being_cleared
        is_clear_of_conflicting_groups is_equal is_kept_waiting is_safe longest_starving
        put_in_force reject_unknown_colours serve_kept_waiting serve_starving start_green
        stays_green
        stays_yellow update_call_times want_stage_of"""
    assert said.stdout.split() == names.split()
