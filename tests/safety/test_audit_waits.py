"""The audit of cycles and waits, by hand: group 0 crosses group 1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headway.safety.audit import audit, services
from headway.safety.audit_demand import Demand, audit_waits
from headway.values import Event
from tests.safety.audited import NETWORK, TIMING

CYCLES = replace(
    TIMING,
    min_cycle_s=np.full(6, 30.0),
    max_cycle_s=np.full(6, 60.0),
    max_green_s=np.full(6, 40.0),
    max_red_s=np.full(6, 50.0),
)


def lines(*rows):
    """Of junction A; B is red."""
    return {"A": list(rows), "B1": [(0.0, "rrr")], "B2": [(0.0, "rr")]}


def waits(rows, calls, seconds=200, excused=False, timing=CYCLES):
    """(time, rule, group) of what is found; calls: by group, the seconds from and to which traffic
    is there."""
    at_s = np.arange(float(seconds))
    present = np.zeros((seconds, len(NETWORK.groups)), bool)
    for group, begin, end in calls:
        present[begin:end, group] = True
    demand = Demand(at_s, present, np.full((seconds, 2), excused))
    found = audit_waits(NETWORK, timing, lines(*rows), demand)
    return [(x.at_s, x.rule, x.groups[0]) for x in found]


def test_a_start_sooner_than_the_minimum_cycle_is_found():
    rows = [(0.0, "rr"), (10.0, "Gr"), (20.0, "yr"), (23.0, "rr")]
    for again, found in ((39.0, [(39.0, "minimum_cycle")]), (40.0, [])):
        made = audit(NETWORK, CYCLES, lines(*rows, (again, "Gr")), 0.0)
        assert [(x.at_s, x.rule) for x in made] == found


@pytest.mark.parametrize(
    ("served", "is_wrong"),
    [
        ({}, True), ({"A": [(25.0, 60.0)]}, False), ({"A": [(35.0, 60.0)]}, False),
        ({"A": [(36.0, 60.0)]}, True), ({"A": [(25.0, 35.0)]}, False),
        ({"A": [(0.0, 5.0), (25.0, 60.0)]}, False), ({"A": [(25.0, 34.0)]}, True),
        ({"B": [(25.0, 60.0)]}, True), ({"A": [(25.0, np.inf)]}, False),
        ({"A": [(35.0009, 60.0)]}, False), ({"A": [(35.002, 60.0)]}, True),
        ({"A": [(25.0, 34.9991)]}, False), ({"A": [(25.0, 34.998)]}, True),
    ],
)  # fmt: skip
def test_a_start_for_an_emergency_vehicle_may_come_sooner_than_the_minimum_cycle(served, is_wrong):
    """The record of the signals may be a step of 1 s later than the decision."""
    rows = [(0.0, "rr"), (10.0, "Gr"), (20.0, "yr"), (23.0, "rr"), (35.0, "Gr")]
    made = audit(NETWORK, CYCLES, lines(*rows), 0.0, served)
    assert [(x.at_s, x.rule) for x in made] == [(35.0, "minimum_cycle")] * is_wrong


def test_a_service_excuses_nothing_but_the_minimum_cycle():
    """A green of 4 s, a yellow of 2 s, and a clearance that is missing."""
    rows = [(0.0, "rr"), (10.0, "Gr"), (14.0, "yr"), (16.0, "rr"), (17.0, "Gr"), (18.0, "GG")]
    made = audit(NETWORK, CYCLES, lines(*rows), 0.0, {"A": [(0.0, 100.0)]})
    assert sorted({x.rule for x in made}) == ["conflict", "minimum_green", "yellow"]


def test_the_services_of_a_run_are_read_from_its_events():
    events = [
        Event(9.0, "safety.emergency_ended", "A", {}),  # begun before the events
        Event(12.0, "safety.emergency", "A", {}),
        Event(13.0, "safety.emergency", "B", {}),
        Event(14.0, "safety.emergency_barred", "A", {}),
        Event(20.0, "safety.emergency_ended", "A", {}),
        Event(20.0, "safety.emergency", "A", {}),
        Event(31.0, "safety.emergency_ended", "A", {}),
        Event(32.0, "safety.minimum_green", "B", {}),
    ]
    assert services(events) == {"A": [(12.0, 20.0), (20.0, 31.0)], "B": [(13.0, np.inf)]}


@pytest.mark.parametrize(
    ("before", "after", "is_wrong"),
    [("r", "y", True), ("y", "G", True), ("y", "g", True), ("g", "G", False), ("r", "G", False)],
)
def test_colours_follow_each_other_in_their_order(before, after, is_wrong):
    made = audit(NETWORK, TIMING, lines((0.0, f"r{before}"), (50.0, f"r{after}")), 0.0)
    assert [x.rule for x in made if x.rule == "order"] == ["order"] * is_wrong


SECOND_AT_100 = [(0.0, "Gr"), (97.0, "yr"), (100.0, "rG"), (120.0, "ry"), (123.0, "Gr")]


def test_a_green_that_keeps_another_waiting_is_too_long_after_its_maximum():
    assert waits(SECOND_AT_100, [(1, 60, 120)]) == []  # 37 s
    assert (96.0, "maximum_green", 0) in waits(SECOND_AT_100, [(1, 40, 120)])
    assert waits(SECOND_AT_100, [(1, 40, 120)], excused=True) == []


@pytest.mark.parametrize(("until", "found"), [(94, []), (95, [(94.0, "maximum_green", 0)])])
def test_a_wait_begins_an_instant_after_the_green_that_it_follows(until, found):
    """Group 1 is permissive beside group 0 up to 50 s and waits from then on: 42 s are allowed, the
    tolerance among them. At 50 s itself the gate, which decides on what was shown up to then,
    cannot know of a wait.
    """
    rows = [(0.0, "Gg"), (50.0, "Gy"), (53.0, "Gr"), (float(until), "yr")]
    quick = replace(CYCLES, max_red_s=np.full(6, 900.0), max_cycle_s=np.full(6, np.inf))
    assert waits(rows, [(1, 0, 120)], timing=quick) == found


def test_a_red_is_too_long_after_its_maximum_and_the_turns_of_the_others():
    # minimum green 5 s, yellow 3 s and clearance of group 0
    slack_s = 50 + 5 + 3 + 0 + 2
    quick = replace(CYCLES, max_green_s=np.full(6, 900.0), max_cycle_s=np.full(6, np.inf))
    assert waits(SECOND_AT_100, [(1, 99 - slack_s, 120)], timing=quick) == []
    assert waits(SECOND_AT_100, [(1, 98 - slack_s, 120)], timing=quick) == [
        (99.0, "maximum_red", 1)
    ]
    # a call is remembered for ten seconds, the tenth as well
    assert waits(SECOND_AT_100, [(1, 90 - slack_s, 81)], timing=quick) == []
    assert waits(SECOND_AT_100, [(1, 89 - slack_s, 81)], timing=quick) == [(90.0, "maximum_red", 1)]


def test_a_start_is_late_after_the_maximum_cycle_and_half_of_it_after_the_call():
    """Group 1: green from 0 to 20 s, and again at 100 s."""
    rows = [(0.0, "rr"), (1.0, "rG"), (20.0, "ry"), (23.0, "Gr"), (97.0, "yr"), (100.0, "rG")]
    quick = replace(CYCLES, max_green_s=np.full(6, 900.0), max_red_s=np.full(6, 900.0))
    waiting = (0, 0, 23)  # or group 1 would be at ease

    def late(*calls):
        return waits(rows, [waiting, *calls], timing=quick)

    assert late((1, 30, 100)) == [(100.0, "maximum_cycle", 1)]
    assert late((1, 67, 100)) == [(100.0, "maximum_cycle", 1)]
    assert late((1, 69, 100)) == [], "a late call, within half of the cycle"
    assert late((1, 85, 100)) == []
    assert waits(rows, [waiting, (1, 30, 100)], timing=quick, excused=True) == []
    for at_s, is_excused in ((0, False), (1, True), (60, True), (100, True), (101, False)):
        excused = np.arange(200)[:, None] == at_s
        found = waits(rows, [waiting, (1, 30, 100)], timing=quick, excused=excused)
        assert found == [(100.0, "maximum_cycle", 1)] * (not is_excused)


@pytest.mark.parametrize(("again_s", "found"), [(63, []), (64, [(64.0, "maximum_cycle", 1)])])
def test_a_cycle_may_be_two_seconds_longer_in_the_record(again_s, found):
    """That of group 1 begins at 1 s."""
    rows = [(0.0, "rr"), (1.0, "rG"), (20.0, "ry"), (23.0, "Gr"), (55.0, "yr")]
    rows.append((float(again_s), "rG"))
    assert waits(rows, [(0, 0, 23), (1, 20, again_s)]) == found


def test_after_a_cycle_that_is_excused_the_next_one_counts():
    rows = [(0.0, "rr"), (1.0, "rG"), (20.0, "ry"), (23.0, "Gr"), (97.0, "yr"), (100.0, "rG")]
    rows += [(at_s + 100.0, state) for at_s, state in rows[2:]]
    quick = replace(CYCLES, max_green_s=np.full(6, 900.0), max_red_s=np.full(6, 900.0))
    calls = [(0, 0, 23), (1, 30, 100), (0, 100, 123), (1, 130, 200)]
    excused = np.arange(300)[:, None] == 50
    found = waits(rows, calls, seconds=300, excused=excused, timing=quick)
    assert found == [(200.0, "maximum_cycle", 1)]


def test_a_green_at_ease_counts_from_when_another_waits():
    rows = [(0.0, "rr"), (1.0, "rG"), (100.0, "ry"), (103.0, "Gr"), (110.0, "yr"), (113.0, "rG")]
    quick = replace(CYCLES, max_green_s=np.full(6, 900.0), max_red_s=np.full(6, 900.0))
    assert waits(rows, [(1, 0, 200), (0, 60, 110)], timing=quick) == []
    assert waits(rows, [(1, 0, 200), (0, 40, 110)], timing=quick) == [(113.0, "maximum_cycle", 1)]


def test_nothing_is_found_where_nothing_was_recorded():
    nothing = Demand(np.zeros(0), np.zeros((0, 6), bool), np.zeros((0, 2), bool))
    assert audit_waits(NETWORK, CYCLES, lines((0.0, "rr")), nothing) == []
