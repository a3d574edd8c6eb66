"""The two courses that are compared for the maximum cycle, worked out by hand at the crossroads:
groups 0, 1 and 3 cross each other, 2 crosses nobody; stages 0+2+3, 1+2, 3+2.

Yellow 3.3 s, which lasts 4 ticks of one second; clearance 1 s; minimum green 5 s; cycles 60 s.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headway.roads import BENCHMARK, work_out
from headway.safety import cycle
from headway.safety.arrays import NO_GROUP, NO_STAGE
from headway.safety.kernel import CALL_MEMORY_S
from headway.safety.memory import GateMemory
from headway.safety.tables import service_times
from tests.safety.builders import NETWORK, STAGES, G, P, R, Y
from tests.safety.networks import pair

NOW_S = 100.0
LONG_AGO_S = 10.0


def memory_of(network):
    """All is red and cleared long ago, and nobody is called."""
    made = GateMemory(network, work_out(network, replace(BENCHMARK, max_cycle_s=60.0)), 0.0)
    limits, signals = made.tables.limits, made.state.signals
    limits.yellow_s[:] = 3.3
    limits.clearance_s[:] = 1.0
    limits.min_green_s[:] = 5.0
    limits.min_cycle_s[:] = 0.0
    limits.max_cycle_s[:] = 60.0
    for times in (signals.since_s, signals.green_start_s, signals.green_end_s):
        times[:] = LONG_AGO_S
    made.state.calls.last_s[:] = 0.0
    return made


@pytest.fixture
def memory():
    """0 and 2 are green since 90 s; 1 and 3 are called."""
    made = memory_of(NETWORK)
    signals = made.state.signals
    signals.colour[:] = [G, R, G, R]
    signals.since_s[:] = signals.green_start_s[:] = [90.0, LONG_AGO_S, 90.0, LONG_AGO_S]
    made.state.calls.last_s[:] = [0.0, NOW_S, 0.0, NOW_S]
    made.cycles.since_s[:] = [90.0, 42.0, 90.0, 45.0]  # those of 1 and 3 end at 102 and 105 s
    return made


@pytest.fixture
def beside():
    """The crossroads, all red, and junction 1 beside it: 4 is green since 90 s, 5 is called, its
    cycle ends at 102 s.
    """
    made = memory_of(pair())
    signals = made.state.signals
    signals.colour[4] = G
    signals.since_s[4] = signals.green_start_s[4] = 90.0
    made.state.calls.last_s[5] = NOW_S
    made.cycles.since_s[:] = [NOW_S] * 4 + [90.0, 42.0]
    return made


def begun(memory, period_s=1.0, junction=0):
    cycle.begin_course(NOW_S, period_s, junction, memory.state, memory.tables, memory.course)
    return memory.course


def lateness_s(memory, at_s=NOW_S, period_s=1.0, junction=0):
    tables, signals = memory.tables, memory.state.signals
    return cycle.lateness_s(at_s, period_s, junction, signals, tables, memory.cycles, memory.course)


def first(memory):
    tables, course = memory.tables, memory.course
    return cycle.next_in_turn(0, tables.junctions, tables.limits, memory.cycles, course)


def let(memory, wanted, period_s=1.0):
    wanted = np.array(wanted, np.int8)
    signals, tables = memory.state.signals, memory.tables
    cycle.let_controller(NOW_S, period_s, 0, wanted, signals, tables, memory.course)
    return memory.course


def serve_due(memory, wanted):
    """The group to be served next, of each junction."""
    wanted = np.array(wanted, np.int8)
    cycle.serve_due(NOW_S, 1.0, wanted, memory.state, memory.tables, memory.cycles, memory.course)
    return memory.state.orders.forced.tolist()


@pytest.mark.parametrize(
    ("duration_s", "period_s", "whole_s"),
    [(3.3, 1.0, 4.0), (3.0, 1.0, 3.0), (3.3, 0.5, 3.5), (3.3, 5.0, 5.0), (0.0, 1.0, 0.0)],
)
def test_a_duration_lasts_whole_ticks(duration_s, period_s, whole_s):
    assert cycle.whole_ticks(duration_s, period_s) == whole_s


def test_a_course_begins_with_what_is_shown_and_called(memory):
    signals = memory.state.signals
    signals.colour[3], signals.since_s[3], signals.green_end_s[3] = Y, 99.0, 99.0
    memory.state.calls.last_s[0] = NOW_S - CALL_MEMORY_S
    memory.state.calls.last_s[2] = NOW_S - CALL_MEMORY_S - 0.5
    course = begun(memory)
    assert course.left.tolist() == [True, True, False, True], "a call is remembered"
    assert course.lit.tolist() == [True, False, True, False]
    assert course.end_s[[0, 2]].tolist() == [95.0, 95.0]
    assert course.clear_s[1] == pytest.approx(LONG_AGO_S + 3.3 + 1.0)
    assert course.clear_s[3] == 99.0 + 4.0 + 1.0, "its yellow lasts whole ticks"


def test_a_group_that_no_stage_serves_is_not_waited_for(memory):
    memory.tables.junctions.serving_stage[1] = -1
    assert begun(memory).left.tolist() == [False, False, False, True]


def test_next_is_the_group_whose_cycle_ends_first_of_those_left_and_not_green(memory):
    course = begun(memory)
    assert first(memory) == 1
    memory.cycles.since_s[3] = 41.0
    assert first(memory) == 3
    course.lit[3] = True
    assert first(memory) == 1
    memory.tables.limits.max_cycle_s[1] = 90.0
    course.lit[3] = False
    memory.cycles.since_s[3] = 71.0  # 131 s; that of 1 ends at 132 s
    assert first(memory) == 3
    course.left[:] = False
    assert first(memory) == NO_GROUP


def test_the_controller_ends_what_has_had_its_minimum_green_and_starts_what_is_cleared(memory):
    begun(memory)
    course = let(memory, STAGES[1])  # 1 and 2
    assert course.lit.tolist() == [False, False, True, False], "1 waits for 0 to be cleared"
    assert course.clear_s[0] == 100.0 + 4.0 + 1.0

    for since_s, stays in ((96.0, True), (95.0, False)):  # its minimum green ends now at 100 s
        memory.state.signals.since_s[0] = since_s
        begun(memory)
        assert let(memory, STAGES[1]).lit.tolist() == [stays, False, True, False]

    memory.state.signals.colour[0] = R
    begun(memory)
    course = let(memory, STAGES[1])
    assert course.lit.tolist() == [False, True, True, False]
    assert course.end_s[1] == 105.0
    assert course.left.tolist() == [False, False, False, True], "1 has been served"

    memory.state.signals.green_end_s[0] = 96.0  # cleared at 100.3 s
    begun(memory)
    assert let(memory, STAGES[1]).lit.tolist() == [False, False, True, False]


def test_the_controller_starts_no_cycle_that_would_be_too_short(memory):
    memory.state.signals.colour[0] = R
    for min_cycle_s, starts in ((91.0, False), (90.0, True)):
        memory.tables.limits.min_cycle_s[1] = min_cycle_s
        begun(memory)
        assert bool(let(memory, STAGES[1]).lit[1]) is starts


def test_lateness_in_turn_at_ticks_of_a_second(memory):
    """0 ends at 100 and is cleared at 105: 1 starts 3 s late, and has had its minimum at 110; 3
    starts at 115, 10 s late.
    """
    begun(memory)
    assert lateness_s(memory) == 3.0 + 10.0


def test_lateness_in_turn_at_ticks_of_two_seconds(memory):
    """Starts at whole ticks: 1 at 106, 4 s late, until 112; cleared at 117, 3 at 118, 13 s late."""
    begun(memory, 2.0)
    assert lateness_s(memory, period_s=2.0) == 4.0 + 13.0


def test_lateness_waits_for_minimum_greens_and_minimum_cycles(memory):
    memory.state.signals.since_s[0] = 98.0  # green until 103: all starts are 3 s later
    begun(memory)
    assert lateness_s(memory) == 6.0 + 13.0
    memory.tables.limits.min_cycle_s[1] = 110.0  # not before 120; then 3 at 130
    begun(memory)
    assert lateness_s(memory) == 18.0 + 25.0


def test_who_is_in_time_makes_up_for_nobody(memory):
    memory.cycles.since_s[1] = 80.0  # until 140: 3 goes first, and no one is late but it not either
    memory.cycles.since_s[3] = 46.0
    begun(memory)
    assert lateness_s(memory) == 0.0
    memory.cycles.since_s[3] = 44.0  # until 104; 1 at 115, 25 s before its end
    begun(memory)
    assert lateness_s(memory) == 1.0


def test_who_is_not_called_is_not_late_and_who_shares_the_stage_is_not_waited_for(memory):
    memory.state.signals.colour[2] = R  # it starts beside 1; its cycle ended at 70 s
    memory.cycles.since_s[2] = 10.0
    begun(memory)
    assert lateness_s(memory) == 3.0 + 10.0

    signals, calls = memory.state.signals, memory.state.calls
    signals.colour[:] = [R, R, R, Y]  # 3 gives way to 0 in stage 0, and is cleared at 104
    signals.green_end_s[3] = signals.since_s[3] = 99.0
    calls.last_s[:] = [NOW_S, 0.0, 0.0, 0.0]
    memory.cycles.since_s[0] = 40.0
    begun(memory)
    assert lateness_s(memory) == 0.0


def test_a_tick_for_the_controller_is_given_only_where_it_makes_nobody_later(memory):
    """At 100 s 1 would start at 105. It wants 0 to stay: all is one second later."""

    def forced(wanted, since_s):
        memory.cycles.since_s[[1, 3]] = since_s
        memory.state.orders.forced[:] = NO_GROUP
        return serve_due(memory, wanted)[0]

    stays = [G, R, G, R]
    assert forced(stays, [45.0, 90.0]) == 1, "its cycle ends at 105, when it can start"
    assert forced(stays, [46.0, 90.0]) == NO_GROUP, "a second is left"
    assert forced(STAGES[0], [46.0, 90.0]) == 1, "3 would start now, and be green until 105"
    assert forced(STAGES[1], [45.0, 90.0]) == NO_GROUP, "that is what the controller wants"
    assert forced(STAGES[2], [90.0, 45.0]) == NO_GROUP
    assert forced(STAGES[1], [90.0, 45.0]) == NO_GROUP, "0 ends, and 3 can still go first"
    assert forced(stays, [90.0, 45.0]) == 3


def test_a_round_has_each_stage_that_serves_somebody_and_the_one_before(beside):
    """5 s of green, 3.3 and 1 s until the next, 2 s of rounding: 11.3 s, of the slowest."""
    junctions, limits = beside.tables.junctions, beside.tables.limits
    assert service_times(junctions, limits).tolist() == pytest.approx([4 * 11.3, 3 * 11.3])
    junctions.serving_stage[5] = NO_STAGE
    limits.min_green_s[2] = 7.0
    assert service_times(junctions, limits).tolist() == pytest.approx([4 * 13.3, 2 * 11.3])


# two junctions


def test_the_course_of_the_second_junction_is_of_its_own_groups(beside):
    beside.course.left[:] = beside.course.lit[:] = True
    course = begun(beside, junction=1)
    assert course.left.tolist() == [True] * 4 + [False, True]
    assert course.lit.tolist() == [True] * 4 + [True, False]
    assert lateness_s(beside, junction=1) == 3.0, "4 is cleared at 105 s, 5 had to start at 102 s"
    assert course.lit.tolist() == [True] * 4 + [False, True]


@pytest.mark.parametrize("reason", ["time is left", "an order", "being served", "nobody waits"])
def test_a_junction_where_nothing_is_due_keeps_no_other_from_its_service(beside, reason):
    stays = [R] * 4 + [G, R]
    if reason != "time is left":
        beside.cycles.since_s[:4] = LONG_AGO_S
    if reason in ("an order", "being served"):
        beside.state.calls.last_s[:4] = NOW_S
    if reason == "an order":
        beside.state.orders.off_cycle[0] = True
    if reason == "being served":
        beside.state.orders.forced[0] = 1
    before = int(beside.state.orders.forced[0])
    assert serve_due(beside, stays) == [before, 5]
    assert beside.cycles.serving.tolist() == [NO_GROUP, 5]


def test_a_service_is_followed_by_the_next_once_its_minimum_green_is_over(memory):
    """1 is served; the cycle of 3 has ended."""
    signals, forced = memory.state.signals, memory.state.orders.forced
    signals.colour[:] = [R, G, G, R]
    memory.cycles.since_s[3] = LONG_AGO_S
    for since_s, served in ((95.001, 1), (95.0, 3)):
        forced[0], signals.since_s[1] = 1, since_s
        assert serve_due(memory, STAGES[1]) == [served]


def test_a_cycle_is_late_beyond_its_maximum_and_told_once(memory):
    """Of those that are red: 1 is called, 3 is not, so that half of its cycle is left to it."""
    memory.state.calls.last_s[3] = 0.0
    memory.state.calls.conflicting_since_s[:] = [97.0, 0.0, 95.0, 0.0]

    def late(since_s):
        memory.cycles.since_s[:] = [10.0, since_s, 10.0, 10.0]
        calls, limits = memory.state.calls, memory.tables.limits
        signals = memory.state.signals
        is_new = cycle.update_cycles(NOW_S, memory.cycles, signals, calls, limits)
        assert memory.cycles.since_s.tolist() == [97.0, since_s, 95.0, 70.0], "half of it is left"
        is_late, late_now = memory.cycles.is_late, memory.cycles.late_now
        assert bool(is_new) == late_now.any()
        return np.flatnonzero(is_late).tolist(), np.flatnonzero(late_now).tolist()

    assert late(40.0) == ([], [])
    assert late(39.999) == ([1], [1])
    assert late(39.0) == ([1], [])
    memory.tables.limits.max_cycle_s[0] = 2.0
    assert late(40.0) == ([], []), "who is green is not late"
    assert late(39.0) == ([1], [1])


def test_who_is_not_called_has_more_than_half_of_its_cycle_left_where_it_was_green_lately(memory):
    memory.state.calls.last_s[3] = 0.0
    memory.cycles.since_s[3] = 85.0
    calls, limits = memory.state.calls, memory.tables.limits
    cycle.update_cycles(NOW_S, memory.cycles, memory.state.signals, calls, limits)
    assert memory.cycles.since_s[3] == 85.0


@pytest.mark.parametrize(
    ("group", "wanted", "lit", "is_free"),
    [
        (3, [G, R, R, P], 0, True),  # 3 gives way to 0
        (3, [G, R, R, G], 0, False),
        (0, [G, R, R, P], 3, True),
        (0, [P, R, R, P], 3, True),
        (0, [G, R, R, G], 3, False),
        (0, [G, R, R, R], 3, False),
        (0, [P, R, R, G], 3, False),  # 0 gives way to nobody
        (1, [P, P, R, R], 0, False),
        (2, [G, R, G, R], 0, True),  # they do not cross
    ],
)
def test_a_start_is_free_beside_a_green_only_where_one_of_the_two_gives_way(
    memory, group, wanted, lit, is_free
):
    memory.course.lit[:] = False
    memory.course.lit[lit] = True
    memory.course.clear_s[:] = LONG_AGO_S
    wanted = np.array(wanted, np.int8)
    conflicts = memory.tables.conflicts
    assert cycle.is_free(group, NOW_S, wanted, conflicts, memory.course) is is_free


@pytest.mark.parametrize(("clear_s", "is_free"), [(100.0, True), (100.001, False)])
def test_a_start_is_free_when_what_crosses_it_is_cleared(memory, clear_s, is_free):
    memory.course.lit[:] = False
    memory.course.clear_s[:] = LONG_AGO_S
    memory.course.clear_s[1] = clear_s
    wanted = np.array([G, R, R, P], np.int8)
    assert cycle.is_free(0, NOW_S, wanted, memory.tables.conflicts, memory.course) is is_free
