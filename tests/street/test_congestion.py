"""Congestion: queues that fill their approach, from when to when, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from tests.street.builders import (
    A_FIRST,
    A_SECOND,
    B_FIRST,
    B_SECOND,
    MadePlant,
    Says,
    street_of,
    two_junctions,
    vehicles,
)

from headway.street.congestion import APPROACH, Change, CongestionDetector, CongestionLimits
from headway.street.junction_states import junction_states

LIMITS = CongestionLimits(begin=0.9, end=0.6, for_s=3.0, clear_s=4.0)
# lanes of 100 m; link k comes from lane in<k>
FULL = [(0, 3.0 + 10.0 * k, 0.0, 9.0) for k in range(9)]  # back at 83 + 7.5 + 2.5 = 93 m


def look(at_s, *rows):
    plant = MadePlant(two_junctions(), at_s)
    plant.vehicles = vehicles(*rows)
    return plant.observe()


def play(*seconds, limits=LIMITS):
    """What began and ended, with the second."""
    detector = CongestionDetector(two_junctions(), limits)
    return [
        (at_s, change) for at_s, rows in enumerate(seconds) for change in
        detector.update(look(float(at_s), *rows))
    ], detector  # fmt: skip


def test_an_approach_whose_queue_fills_it_is_congested_after_the_time_and_not_before():
    changes, detector = play(*[FULL] * 8)
    assert changes == [(3, Change(0, "in0", True, pytest.approx(0.93), 3.0))]
    assert (detector.of_junction(0), detector.of_junction(1)) == (("in0",), ())


def test_it_ends_below_the_lower_limit_after_the_time_and_says_how_long_it_lasted():
    between, short = FULL[:7], FULL[:4]  # 73 m and 43 m
    changes, detector = play(*[FULL] * 5, *[between] * 20, *[short] * 5)
    assert changes[1:] == [(29, Change(0, "in0", False, pytest.approx(0.43), 26.0))]
    assert detector.of_junction(0) == ()


def test_a_queue_that_fills_it_for_a_moment_again_and_again_is_none():
    assert play(*[FULL, FULL, FULL, FULL[:5]] * 10)[0] == []


@pytest.mark.parametrize(
    "rows",
    [
        [(0, d, 2.2, 0.0) for _, d, *_ in FULL],  # they move
        [(6, d, 0.0, 9.0) for _, d, *_ in FULL],  # no signal there
        [(0, np.nan, 0.0, 9.0)],
        [(-1, d, 0.0, 9.0) for _, d, *_ in FULL],
    ],
)
def test_what_moves_has_no_signal_or_no_place_is_no_queue(rows):
    plant = MadePlant(two_junctions(), 0.0)
    detector = CongestionDetector(two_junctions(), LIMITS)
    for at_s in range(9):
        plant.time_s, plant.vehicles = float(at_s), vehicles(*rows)
        assert detector.update(plant.observe()) == []


def test_a_single_vehicle_far_back_is_as_long_a_queue_and_a_ratio_is_at_most_one():
    changes, _ = play(*[[(3, 99.0, 0.0, 1.0)]] * 5)
    assert changes == [(3, Change(1, "in3", True, 1.0, 3.0))]


def test_a_detector_goes_on_from_the_state_of_another_and_not_from_that_of_another_network():
    _, first = play(*[FULL] * 3)
    heir = CongestionDetector(two_junctions(), LIMITS)
    heir.resume(first.state())
    assert [c.began for c in heir.update(look(3.0, *FULL))] == [True]
    heir.resume(np.zeros(99, APPROACH))
    assert heir.of_junction(0) == ("in0",)


class Relief(Says):
    """As the planner does, for a test."""


def relieved(controller_name, relief=True):
    """What is shown at both junctions after a while of congestion at A; the relief wants the other
    stages."""
    wants = Relief("relief", (*A_SECOND, *B_SECOND)) if relief else None
    street, events = street_of(MadePlant(two_junctions()), Says(controller_name), relief=wants)
    street.congestion.limits = LIMITS
    street.plant.vehicles = vehicles(*FULL)
    for _ in range(20):
        street.tick()
    decided = [e.data.get("decides") for e in events if e.kind == "traffic.congestion"]
    return street.gate.shown.tolist(), decided, street


def test_a_congested_junction_is_left_to_the_relief_and_the_others_are_not():
    shown, decided, street = relieved("says")
    assert (shown, decided) == ([*A_SECOND, *B_FIRST], ["relief"])
    assert street.relief.started, "from the time of the congestion"
    street.plant.vehicles = vehicles()
    for _ in range(20):
        street.tick()
    assert street.gate.shown.tolist() == [*A_FIRST, *B_FIRST]


@pytest.mark.parametrize(("name", "relief"), [("planner", True), ("fixed", True), ("says", False)])
def test_planner_fixed_time_and_a_street_without_relief_decide_themselves(name, relief):
    shown, decided, _ = relieved(name, relief)
    assert (shown, decided) == ([*A_FIRST, *B_FIRST], [None])


def test_a_relief_that_fails_leaves_the_congested_junction_to_the_controller():
    class Broken(Relief):
        def step(self, observation, state):
            raise ZeroDivisionError

    street, events = street_of(MadePlant(two_junctions()), Says("says"), relief=Broken("relief"))
    street.congestion.limits = LIMITS
    street.plant.vehicles = vehicles(*FULL)
    for _ in range(20):
        street.tick()
    failed = [e.data["relief"] for e in events if e.kind == "engine.relief_failed"]
    assert failed == ["relief"], "once"
    assert street.gate.shown.tolist() == [*A_FIRST, *B_FIRST], "the controller decides"


def test_the_loop_records_congestion_and_shows_it_in_the_state_of_the_junction():
    street, events = street_of(MadePlant(two_junctions()))
    street.congestion.limits = LIMITS
    street.plant.vehicles = vehicles(*FULL)
    for _ in range(5):
        street.tick()
    (event,) = [e for e in events if e.kind.startswith("traffic.")]
    assert (event.kind, event.junction) == ("traffic.congestion", "A")
    assert dict(event.data) == {"approach": "in0", "storage": 0.93}
    assert [j.congested for j in junction_states(street)] == [("in0",), ()]
    street.plant.vehicles = vehicles()
    for _ in range(6):
        street.tick()
    last = [e for e in events if e.kind.startswith("traffic.")][-1]
    assert last.kind == "traffic.congestion_ended"
    assert dict(last.data) == {"approach": "in0", "storage": 0.0, "lasted_s": 6.0}
