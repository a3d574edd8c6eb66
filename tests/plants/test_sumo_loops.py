"""Where vehicles are between two detectors, by what these counted of vehicles known exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plants.street_by_hand import IN0, IN1, SHORT, network

from headway.plants.sumo.loops import Loops
from headway.values import Vehicles

STREET = network()
WAY_S = (5.0, 6.25)  # of in_0 and in_1, 50 m at 10 m/s and at the limit of 8 m/s

Seen = list[tuple[int, int, float, float, float]]


def loops_see(loops: Loops, at_s: float, *rows: tuple[int, int, float]) -> Seen:
    """rows: (number, lane, metres). What is seen: (lane, link, metres, speed, wait) of each."""
    n = len(rows)
    seen = loops.see(
        at_s,
        Vehicles(
            np.array([lane for _, lane, _ in rows], np.int32),
            np.full(n, -1, np.int32),
            np.array([metres for _, _, metres in rows], float),
            np.full(n, 3.0),
            np.full(n, 10.0),
            np.full(n, 5.0),
            np.zeros(n, np.bool_),
        ),
        np.array([number for number, _, _ in rows], np.int32),
    )
    assert seen.length_m.tolist() == [7.5] * len(seen)
    assert seen.emergency.tolist() == [False] * len(seen)
    assert (seen.lane.dtype, seen.link.dtype, seen.emergency.dtype) == (
        np.int32,
        np.int32,
        np.bool_,
    )
    columns = (seen.lane, seen.link, seen.distance_m, seen.speed_mps, seen.waiting_s)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def lanes_of(seen: Seen) -> list[int]:
    return [row[0] for row in seen]


def test_a_vehicle_over_the_advance_loop_is_taken_to_drive_on_and_to_queue_at_the_line():
    loops = Loops(STREET)
    assert loops_see(loops, 0.0, (1, IN0, 51.0)) == []
    assert loops_see(loops, 1.0, (1, IN0, 50.0)) == [(IN0, 2, 50.0, 10.0, 0.0)]  # counted at 50 m
    assert loops_see(loops, 3.0, (1, IN0, 30.0)) == [(IN0, 2, 30.0, 10.0, 0.0)]  # 10 m/s since
    assert loops_see(loops, 5.8, (1, IN0, 20.0)) == [(IN0, 2, pytest.approx(2.0), 10.0, 0.0)]
    # it would be 7 m past its place in the queue, 1 m before the line: it has stood there for 0.7 s
    assert loops_see(loops, 6.6, (1, IN0, 5.0)) == [(IN0, 2, 1.0, 0.0, pytest.approx(0.7))]


def test_who_comes_to_the_queue_stands():
    loops = Loops(STREET)
    loops_see(loops, 0.0, (1, IN0, 50.0))
    assert loops_see(loops, 4.9, (1, IN0, 4.0)) == [(IN0, 2, 1.0, 0.0, 0.0)]  # 49 m at 10 m/s


def test_the_next_one_queues_seven_and_a_half_metres_behind():
    loops = Loops(STREET)
    loops_see(loops, 0.0, (1, IN0, 40.0))
    loops_see(loops, 2.0, (1, IN0, 20.0), (2, IN0, 45.0))
    seen = loops_see(loops, 7.0, (2, IN0, 12.0), (1, IN0, 4.0), (3, IN1, 30.0))
    assert seen == [
        (IN0, 2, 1.0, 0.0, pytest.approx(2.1)),
        (IN0, 2, 8.5, 0.0, pytest.approx(0.85)),
        (IN1, 4, 50.0, 8.0, 0.0),
    ]


def test_a_slow_street_is_driven_at_its_limit():
    loops = Loops(STREET)
    loops_see(loops, 0.0, (1, IN1, 50.0))
    assert loops_see(loops, 2.0, (1, IN1, 40.0)) == [(IN1, 4, 50.0 - 2 * 8.0, 8.0, 0.0)]


def test_who_leaves_takes_the_first_place_in_the_queue_away():
    loops = Loops(STREET)
    loops_see(loops, 0.0, (1, IN0, 40.0))
    loops_see(loops, 3.0, (1, IN0, 20.0), (2, IN0, 45.0))
    assert loops_see(loops, 4.0, (2, IN0, 40.0)) == [
        (IN0, 2, 40.0, 10.0, 0.0)
    ]  # 1 is over the line; 2 is a second from the loop
    assert loops_see(loops, 5.0) == []
    assert loops_see(loops, 6.0) == []


def test_who_is_inside_the_junction_or_of_no_lane_or_far_has_left():
    loops = Loops(STREET)
    for second, away in enumerate([(1, IN0, -0.5), (1, -1, 20.0), (1, IN0, 50.5)]):
        assert lanes_of(loops_see(loops, 10.0 * second, (1, IN0, 0.0))) == [IN0]
        assert loops_see(loops, 10.0 * second + 1, away) == []


class TestChangesOfLane:
    """Detectors do not see them: where somebody is missing or too many is told at the stop line."""

    def test_who_leaves_by_the_lane_beside_is_taken_away_where_it_came(self):
        loops = Loops(STREET)
        loops_see(loops, 0.0, (1, IN0, 45.0))
        assert loops_see(loops, 1.0, (1, IN1, 35.0)) == [(IN0, 2, 40.0, 10.0, 0.0)]
        loops_see(loops, 3.0, (1, IN1, 15.0))
        assert loops_see(loops, 3.1) == []

    @pytest.mark.parametrize(("at_s", "stays"), [(2.9, True), (3.0, False)])
    def test_only_who_may_have_come_so_far(self, at_s, stays):
        """1 is due at the line of in_0 at 5 s; 2, whom the first loop missed, leaves by in_1."""
        loops = Loops(STREET)
        loops_see(loops, 0.0, (1, IN0, 45.0), (2, IN1, 10.0))
        loops_see(loops, 1.0, (1, IN0, 35.0))  # 2 has left, and its count with it
        loops_see(loops, 2.0, (1, IN0, 30.0), (3, IN1, 45.0))
        loops_see(loops, 2.5, (1, IN0, 25.0))  # 3 too
        loops_see(loops, 2.6, (1, IN1, 25.0))
        assert lanes_of(loops_see(loops, at_s)) == ([IN0] if stays else [])

    def test_who_stands_at_a_line_where_nobody_came_is_missing_beside(self):
        loops = Loops(STREET)
        loops_see(loops, 0.0, (1, IN0, 45.0))
        loops_see(loops, 5.0, (1, IN1, 8.0))
        # counted at 0 s, and 49 m of in_1 take 6.125 s
        assert loops_see(loops, 10.0, (1, IN1, 2.0)) == [(IN1, 4, 1.0, 0.0, pytest.approx(3.875))]

    def test_who_stands_at_a_line_without_having_been_counted_is_there(self):
        """A loop before it that lost a count, or a vehicle that was parked between the two."""
        loops = Loops(STREET)
        assert loops_see(loops, 10.0, (1, IN0, 2.0)) == [(IN0, 2, 1.0, 0.0, pytest.approx(0.1))]

    @pytest.mark.parametrize(
        ("at_line", "stays", "wait_s"),
        [(IN0, IN0, 2.6), (IN1, IN1, 0.5 + 1.0 / 8.0), (SHORT, IN1, 7.5 - 1.0 - 49.0 / 8.0)],
        ids=["at the first line", "at the second", "at neither"],
    )
    def test_the_lane_whose_line_is_empty_gives_or_who_is_due_for_longest(
        self, at_line, stays, wait_s
    ):
        """A road of three lanes: 1 is counted on the first at 0 s and due at 5 s, 2 on the second
        at 1 s and due at 7.25 s, who may be there at 7 s; 3 leaves by the third, where nobody was
        counted.
        """
        lanes = list(STREET.lanes)
        lanes[SHORT] = replace(lanes[SHORT], edge=lanes[IN0].edge)
        loops = Loops(replace(STREET, lanes=tuple(lanes)))
        loops_see(loops, 0.0, (1, IN0, 45.0))
        loops_see(loops, 1.0, (1, IN0, 35.0), (2, IN1, 45.0))
        stands = () if at_line == SHORT else ((1, at_line, 2.0),)
        away = ((1, IN0, 5.0),) if at_line == SHORT else ()
        loops_see(loops, 7.0, *stands, *away, (2, SHORT, 5.0))
        seen = loops_see(loops, 7.5, *stands, *away)
        assert lanes_of(seen) == [stays]
        assert seen[0][4] == pytest.approx(wait_s)

    def test_the_first_of_the_lane_beside_is_taken_away(self):
        loops = Loops(STREET)
        loops_see(loops, 0.0, (1, IN0, 45.0))
        loops_see(loops, 3.0, (1, IN0, 15.0), (2, IN0, 45.0))
        loops_see(loops, 7.0, (1, IN1, 5.0), (2, IN0, 10.0))
        assert loops_see(loops, 8.0, (2, IN0, 5.0)) == [
            (IN0, 2, 1.0, 0.0, pytest.approx(8.0 - 3.0 - 4.9))
        ]

    def test_who_came_from_beside_early_has_come(self):
        """Counted on in_0 at 0 s, it stands at in_1's line at 4 s, before it is due there."""
        loops = Loops(STREET)
        loops_see(loops, 0.0, (1, IN0, 45.0))
        assert loops_see(loops, 4.0, (1, IN1, 2.0)) == [(IN1, 4, 1.0, 0.0, pytest.approx(0.125))]

    def test_who_is_first_at_the_line_has_come_however_late_it_was_counted(self):
        loops = Loops(STREET)
        loops_see(loops, 0.0, (1, IN0, 45.0))
        # 50 m in a second: it is taken for one that has just arrived
        assert loops_see(loops, 1.0, (1, IN0, 2.0)) == [(IN0, 2, 1.0, 0.0, pytest.approx(0.1))]
        assert loops_see(loops, 21.0, (1, IN0, 2.0)) == [(IN0, 2, 1.0, 0.0, pytest.approx(20.1))]


class TestOverdue:
    """1 is counted on in_0 at 0 s, due at the line at 5 s, and never comes there."""

    def ghost(self) -> Loops:
        loops = Loops(STREET)
        loops_see(loops, 0.0, (1, IN0, 45.0))
        loops_see(loops, 1.0, (1, IN1, 35.0))
        loops_see(loops, 2.0)  # at in_1 a queue was counted by nobody, and 1 is not due yet
        return loops

    def test_it_is_gone_after_six_seconds(self):
        loops = self.ghost()
        assert lanes_of(loops_see(loops, 11.0)) == [IN0]
        assert loops_see(loops, 11.1) == []

    @pytest.mark.parametrize(
        ("metres", "stays"), [(3.0, True), (0.0, True), (3.1, False), (-0.1, False)]
    )
    def test_not_while_somebody_stands_at_the_line(self, metres, stays):
        loops = self.ghost()
        loops_see(loops, 10.0, (2, IN0, 30.0))  # counted, so that one more is there
        seen = loops_see(loops, 16.0, (2, IN0, metres))
        assert lanes_of(seen) == [IN0] * (2 if stays else 1)

    def test_nor_within_six_seconds_of_one_that_left(self):
        """The queue moves on: 2 leaves at 9 s, and the first count goes with it."""
        loops = self.ghost()
        loops_see(loops, 3.0, (2, IN0, 45.0))
        loops_see(loops, 9.0)
        assert lanes_of(loops_see(loops, 15.0)) == [IN0]
        assert loops_see(loops, 15.1) == []

    def test_they_go_one_by_one_the_first_first(self):
        loops = Loops(STREET)
        loops_see(loops, 0.0, (1, IN0, 45.0), (2, IN0, 50.0))
        loops_see(loops, 2.0, (1, IN0, 45.0), (2, IN0, 50.0), (3, IN0, 50.0))
        still = ((1, IN0, 45.0), (2, IN0, 49.0), (3, IN0, 50.0))
        left = [[row[4] for row in loops_see(loops, at_s, *still)] for at_s in (11.0, 12.0, 13.0)]
        assert [len(waits) for waits in left] == [3, 2, 1]
        assert left[2] == [pytest.approx(13.0 - 2.0 - 4.9)]  # of 3, that came at 2 s


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "change", "leave"]), st.integers(0, 20), st.integers(0, 1)),
    max_size=40,
)


@given(STEPS)
def test_nobody_is_there_who_was_not_counted_and_none_stays_for_ever(steps):
    """Vehicles that enter, change lanes and leave at random. Those that are seen are at most those
    that entered and have not left, plus one a line where somebody stands.
    """
    loops, there, at_s, entered, left = Loops(STREET), dict[int, tuple[int, float]](), 0.0, 0, 0
    for what, which, lane in steps:
        at_s += 1.0
        there = {n: (at, max(metres - 8.0, 1.0)) for n, (at, metres) in there.items()}
        names = sorted(there)
        if what == "add":
            entered += 1
            there[entered] = ((IN0, IN1)[lane], 45.0)
        elif names and what == "change":
            chosen = names[which % len(names)]
            there[chosen] = ((IN0, IN1)[lane], there[chosen][1])
        elif names:
            del there[names[which % len(names)]]
            left += 1
        seen = loops_see(loops, at_s, *((n, at, metres) for n, (at, metres) in there.items()))
        at_line = {at for at, metres in there.values() if metres <= 3.0}
        assert at_line <= set(lanes_of(seen))
        assert len(seen) <= entered
    for _ in range(6 + max(WAY_S).__ceil__() + entered + 1):
        at_s += 1.0
        seen = loops_see(loops, at_s)
    assert seen == []
