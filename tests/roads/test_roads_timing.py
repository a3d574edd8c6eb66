"""Timing: the formulas and their bounds by value, the two profiles,
and what a profile may not be.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.roads import (
    BENCHMARK,
    PROFILES,
    STREET,
    Kind,
    Lane,
    Link,
    Network,
    SignalGroup,
    Timing,
    TimingProfile,
    work_out,
)
from headway.roads.timing import red_clearance_s, yellow_s


def test_the_two_profiles_have_their_values():
    fields = (
        "name",
        "min_green_s",
        "max_green_s",
        "max_red_s",
        "min_cycle_s",
        "yellow_s",
        "red_clearance_s",
        "walk_s",
        "pedestrian_s",
        "max_cycle_s",
        "least_yellow_s",
        "least_red_clearance_s",
    )
    assert tuple(f.name for f in dataclasses.fields(TimingProfile)) == fields
    assert dataclasses.astuple(BENCHMARK) == (
        "benchmark",
        5.0,
        120.0,
        150.0,
        0.0,
        3.0,
        0.0,
        7.0,
        7.0,
        math.inf,
        0.0,
        0.0,
    )
    street = (10.0, 90.0, 110.0, 40.0, None, None, 7.0, 20.0, 120.0, 0.0, 0.0)
    assert dataclasses.astuple(STREET) == ("street", *street)
    assert PROFILES == {"benchmark": BENCHMARK, "street": STREET}


@pytest.mark.parametrize(
    ("speed_mps", "grade", "seconds"),
    [
        (12.2, 0.0, 3.0),  # 1 + 12.2 / 6.1
        (12.21, 0.0, 1 + 12.21 / 6.1),
        (13.89, 0.0, 3.2770491803),
        (30.5, 0.0, 6.0),
        (30.4, 0.0, 1 + 30.4 / 6.1),
        (60.0, 0.0, 6.0),
        (0.0, 0.0, 3.0),
        (20.0, 0.05, 1 + 20 / 7.081),  # uphill: 2 x 3.05 + 2 x 9.81 x 0.05
        (20.0, -0.05, 1 + 20 / 5.119),
    ],
)
def test_yellow_is_reaction_and_braking_between_three_and_six_seconds(speed_mps, grade, seconds):
    assert yellow_s(speed_mps, grade) == pytest.approx(seconds, rel=1e-9)
    if grade == 0.0:
        assert yellow_s(speed_mps) == yellow_s(speed_mps, 0.0)


@pytest.mark.parametrize(
    ("width_m", "speed_mps", "seconds"),
    [
        (20.0, 13.0, 2.0),  # (20 + 6) / 13
        (0.0, 12.0, 0.5),
        (34.0, 10.0, 4.0),
        (33.9, 10.0, 3.99),
        (34.1, 10.0, 4.0),
        (-5.0, 1.0, 1.0),
        (-5.0, 0.5, 1.0),  # never slower than 1 m/s
        (-5.0, 1.6, 0.625),
    ],
)
def test_red_clearance_is_the_way_of_a_whole_vehicle_at_the_limit_four_seconds_at_most(
    width_m, speed_mps, seconds
):
    assert red_clearance_s(width_m, speed_mps) == pytest.approx(seconds, rel=1e-12)


GOOD = {
    "name": "x",
    "min_green_s": 5.0,
    "max_green_s": 60.0,
    "max_red_s": 90.0,
    "min_cycle_s": 0.0,
    "yellow_s": 3.0,
    "red_clearance_s": 1.0,
}


@pytest.mark.parametrize(
    "change",
    [
        {"min_green_s": 0.001},
        {"max_green_s": 5.0},
        {"max_red_s": 5.001},
        {"min_cycle_s": 0.0},
        {"yellow_s": 2.7},
        {"yellow_s": None},
        {"walk_s": 4.0},
        {"max_cycle_s": 40.001, "min_cycle_s": 40.0},
    ],
)
def test_a_profile_is_taken_at_its_bounds(change):
    assert (
        dataclasses.asdict(TimingProfile(**GOOD | change))
        == {
            "walk_s": 7.0,
            "pedestrian_s": 20.0,
            "max_cycle_s": math.inf,
            "least_yellow_s": 0.0,
            "least_red_clearance_s": 0.0,
        }
        | GOOD
        | change
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"min_green_s": 0.0}, "min_green_s 0 must be above 0"),
        ({"min_green_s": -1.0}, "min_green_s -1 must be above 0"),
        ({"min_cycle_s": -0.001}, "min_green_s 5 must be above 0, min_cycle_s -0.001 not below"),
        ({"max_green_s": 4.5}, "min_green_s (5 s) is above max_green_s (4.5 s). Change one of"),
        ({"max_red_s": 5.0}, "min_green_s (5 s) is not below max_red_s (5 s). Change one of"),
        ({"max_cycle_s": 5.0}, "min_green_s (5 s) is not below max_cycle_s (5 s). Change one of"),
        (
            {"max_cycle_s": 40.0, "min_cycle_s": 40.0},
            "min_cycle_s (40 s) is not below max_cycle_s (40 s). Change one of the two",
        ),
        ({"yellow_s": 2.699}, "yellow_s 2.699 is under the 2.7 s of NEMA TS 2"),
        ({"walk_s": 3.999}, "walk_s 3.999 is under 4 s"),
    ],
)
def test_a_profile_beyond_its_bounds_is_refused(change, said):
    with pytest.raises(ValueError, match="timing 'x': ") as refused:
        TimingProfile(**GOOD | change)
    assert str(refused.value).startswith(f"timing 'x': {said}")


def one_group(length_m: float, speed_mps: float, kind: Kind = Kind.VEHICLE) -> Network:
    lane = Lane("a_0", "a", 50.0, speed_mps, kind, (0.0, 0.0))
    link = Link("C", 0, 0, 0, 0, "s", length_m, speed_mps, kind)
    return Network(
        "none", (lane,), (link,), (SignalGroup("T", 0, 0, kind, (0,), False),), (), {"a_0": 0}
    )


@pytest.mark.parametrize(
    ("length_m", "clearance_s"),
    [
        (6.0, 1.2),  # 12 / 10: a whole tenth stays
        (6.001, 1.3),
        (6.0000001, 1.2),  # less than a millionth of a tenth is rounding
        (6.00001, 1.3),
        (6.000002, 1.3),
        (6.5, 1.3),
    ],
)
def test_times_are_rounded_up_to_whole_tenths(length_m, clearance_s):
    assert work_out(one_group(length_m, 10.0), STREET).clearance_s.tolist() == [clearance_s]


def test_a_profile_may_fix_yellow_and_leave_clearance_to_the_geometry_or_the_other_way_round():
    network = one_group(24.0, 20.0)
    fixed_yellow = work_out(network, TimingProfile("a", 5.0, 60.0, 90.0, 0.0, 3.33, None))
    assert (fixed_yellow.yellow_s.tolist(), fixed_yellow.clearance_s.tolist()) == ([3.33], [1.5])
    fixed_clearance = work_out(network, TimingProfile("b", 5.0, 60.0, 90.0, 0.0, None, 0.77))
    assert (fixed_clearance.yellow_s.tolist(), fixed_clearance.clearance_s.tolist()) == (
        [4.3],
        [0.77],
    )
    assert (fixed_clearance.min_green_s.tolist(), fixed_clearance.max_green_s.tolist()) == (
        [5.0],
        [60.0],
    )


@pytest.mark.parametrize("kind", [Kind.BICYCLE, Kind.TRAM])
def test_all_but_those_on_foot_have_yellow(kind):
    timing = work_out(one_group(24.0, 20.0, kind), STREET)
    assert (timing.yellow_s.tolist(), timing.clearance_s.tolist()) == ([4.3], [1.5])


@given(st.floats(0.0, 80.0), st.floats(0.0, 40.0))
def test_intervals_never_leave_their_bounds_and_are_no_shorter_than_the_formulas(
    length_m, speed_mps
):
    timing = work_out(one_group(length_m, speed_mps), STREET)
    exact_yellow = min(max(1.0 + speed_mps / 6.1, 3.0), 6.0)
    exact_clearance = min((length_m + 6.0) / max(speed_mps, 1.0), 4.0)
    for value, exact in (
        (timing.yellow_s[0], exact_yellow),
        (timing.clearance_s[0], exact_clearance),
    ):
        assert exact - 1e-6 <= value < exact + 0.1 + 1e-6
        assert math.isclose(value * 10, round(value * 10), abs_tol=1e-9)


def test_an_intergreen_stands_at_the_place_of_its_junction(crossroads_network):
    """Figures of its own for each group, so that none can stand for another."""
    yellow, clearance = np.arange(8) * 1.0 + 3.0, np.arange(8) * 0.1
    timing = Timing(STREET, yellow, clearance, *[yellow] * 5)
    for j, junction in enumerate(crossroads_network.junctions):
        matrix = timing.intergreen_s(crossroads_network, j)
        n = junction.end - junction.first
        assert matrix.shape == (n, n)
        for a in range(n):
            for b in range(n):
                own = junction.first + a
                assert matrix[a, b] == (
                    yellow[own] + clearance[own] if junction.conflicts[a, b] else 0.0
                )
