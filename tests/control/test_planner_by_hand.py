"""The planner's parts on a few vehicles, worked out by hand:
its model of a queue, its tables, and what it decides for people and full exits.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import (
    colours,
    flat_tables,
    junction,
    letters,
    limits,
    network,
    observed,
    pair,
    progress,
    queues,
    timing,
)

from headway.control import candidates, lane_queues, planner_kernel, search
from headway.control import queue_model as queue
from headway.control.cycles import no_cycles
from headway.control.model_check import no_check
from headway.control.planner import (
    HOLDS_S,
    LENGTHS_S,
    MODEL,
    Planner,
    PlannerState,
    signals_of,
    traffic_of,
)
from headway.control.planner_tables import as_bits, crossing_s
from headway.control.queue_model import (
    HELD,
    NOW,
    VEHICLE,
    Closed,
    Model,
    StagePeriod,
    as_record,
    eta_s,
)
from headway.roads import Kind, Link

# a vehicle every 2 s, the first 1 s after green, one more up to 0.5 s after its end; a stop costs 3
# s; 1 s behind those who have right of way
PLAIN = Model(
    horizon_s=50.0,
    headway_s=2.0,
    startup_loss_s=1.0,
    end_gain_s=0.5,
    stop_cost_s=3.0,
    crawl_mps=5.0,
    acceleration_mps2=2.0,
    follow_up_s=1.0,
    platoon_gap_s=2.0,
    look_ahead_s=5.0,
    leftover_cost_s=0.0,
    min_room_m=15.0,
    short_lane_m=60.0,
    blocked_after_s=7.0,
    patience_s=32.0,
    spillback_weight=0.5,
    blocking_cost=1.0,
    person_weight=1.0,
)
FIGURES = as_record(PLAIN)

CLOSED = {"gives up": Closed.NO_GAP, "blocked": Closed.BLOCKED, "shut": Closed.BLOCKING}
BEFORE = -math.inf  # it was green before


def test_its_figures_are_those_that_were_found():
    """By random search over eight scenarios, docs/decisions/0002:
    another figure is another planner, to be measured anew.
    """
    assert MODEL._asdict() == {
        "horizon_s": 60.0,
        "headway_s": 1.89,
        "startup_loss_s": 1.38,
        "end_gain_s": 0.34,
        "stop_cost_s": 1.33,
        "crawl_mps": 5.0,
        "acceleration_mps2": 3.54,
        "follow_up_s": 0.67,
        "platoon_gap_s": 2.0,
        "look_ahead_s": 5.0,
        "leftover_cost_s": 0.0,
        "min_room_m": 15.0,
        "short_lane_m": 60.0,
        "blocked_after_s": 7.0,
        "patience_s": 32.0,
        "spillback_weight": 0.5,
        "blocking_cost": 1.0,
        "person_weight": 1.0,
    }
    assert HOLDS_S == (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 26, 31, 37, 45)
    assert LENGTHS_S == (8, 11, 15, 20, 27, 36)
    assert candidates.INSIDE_CLEARS_S == 1.0


@pytest.mark.parametrize(
    ("distance", "speed", "seconds"),
    [  # limit 10 m/s, 2 m/s2
        (0.0, 5.0, 0.0), (-0.5, 0.0, 0.0), (-3.0, 0.0, 0.0), (100.0, 10.0, 10.0),
        (100.0, 20.0, 10.0),
        (16.0, 0.0, 4.0),  # d = t2
        (25.0, 0.0, 5.0), (100.0, 0.0, 12.5),  # 25 m in 5 s, then 75 m
        (7.0, 6.0, 1.0), (16.0, 6.0, 2.0), (36.0, 6.0, 4.0),  # 6 t + t2; 16 m in 2 s, then 20 m
        (0.25, 0.0, 0.5),
    ],
)  # fmt: skip
def test_the_time_to_the_stop_line(distance, speed, seconds):
    assert eta_s(distance, speed, 10.0, 2.0) == pytest.approx(seconds)


@given(st.floats(0, 300), st.floats(0, 30), st.floats(5, 30))
def test_the_time_to_the_stop_line_is_between_the_bounds_of_physics(distance, speed, limit):
    eta = eta_s(distance, speed, limit, MODEL.acceleration_mps2)
    assert eta >= distance / limit - 1e-6
    assert eta <= distance / limit + limit / MODEL.acceleration_mps2 + 1e-6


class TestQueue:
    """Columns: 0 main, 1 left across it (gives way to 0), 2 a side street.
    Vehicles: (eta, column), more by name.
    """

    def vehicle(self, eta, column, kind=""):
        """It needs a gap of 4 s."""
        closed = CLOSED.get(kind, Closed.OPEN)
        return eta, 1.0, 4.0, column, closed, eta == 0.0, kind == "inside"

    def run(self, lanes, lights, end, begin=0.0, opens=(BEFORE, BEFORE, BEFORE)):
        waiting = queues([[self.vehicle(*car) for car in lane] for lane in lanes])
        yields = np.zeros((3, 4), bool)[:, :3]  # a part of a larger table, as the planner has it
        yields[1, 0] = True
        begun = progress(len(lanes), gone=0, last_s=-100.0)
        period = StagePeriod(colours(lights), np.array(opens) - begin, begin, end)
        cost = queue.stage_cost(waiting, yields, period, begun, NOW, HELD, FIGURES)
        return float(cost), begun.gone[HELD].tolist(), begun.last_s[HELD].tolist()

    def test_those_who_stand_leave_one_after_the_other(self):
        assert self.run([[(0, 0)] * 4], "Grr", 5.0) == (0 + 2 + 4, [3], [4.0])

    def test_from_the_start_of_green_and_the_start_up(self):
        assert self.run([[(0, 0)] * 4], "Grr", 6.0, opens=(2.0, BEFORE, BEFORE)) == (
            3 + 5,
            [2],
            [5.0],
        )
        assert self.run([[(0, 0)] * 4], "Grr", 6.0, begin=1.0) == (1 + 3 + 5, [3], [5.0])
        assert self.run([[(0, 0)] * 4], "Grr", 6.0, opens=(0.0, BEFORE, BEFORE)) == (
            1 + 3 + 5,
            [3],
            [5.0],
        )

    def test_up_to_a_little_after_its_end(self):
        assert self.run([[(0, 0)] * 4], "Grr", 3.5)[1:] == ([3], [4.0])
        assert self.run([[(0, 0)] * 4], "Grr", 3.4)[1:] == ([2], [2.0])

    def test_so_does_a_permissive_one(self):
        assert self.run([[(0, 1)] * 4], "rgr", 3.5) == (0 + 2 + 4, [3], [4.0])
        assert self.run([[(0, 1)] * 4], "rgr", 3.4)[1:] == ([2], [2.0])
        assert self.run([[(0, 1)] * 4], "rgr", 6.0, opens=(BEFORE, 2.0, BEFORE))[1:] == ([2], [5.0])

    def test_who_is_on_the_way_pays_for_a_stop_too(self):
        assert self.run([[(3, 0)]], "Grr", 20.0) == (0.0, [1], [3.0])
        assert self.run([[(3, 0)]], "Grr", 20.0, begin=5.0) == (2 + 2, [1], [5.0]), (
            "no more than it waits"
        )
        assert self.run([[(3, 0)]], "Grr", 20.0, begin=9.0) == (6 + 3, [1], [9.0])

    def test_nobody_passes_who_is_on_red_or_blocked_nor_those_behind(self):
        assert self.run([[(0, 2), (0, 0)]], "Grr", 20.0) == (0.0, [0], [-100.0])
        assert self.run([[(0, 0, "blocked"), (0, 0)]], "Grr", 20.0)[1] == [0]
        assert self.run([[(0, 0), (0, 0, "shut"), (0, 0)]], "Grr", 20.0)[1] == [1]
        assert self.run([[(0, 0, "gives up"), (0, 0)]], "Grr", 20.0)[1] == [2], (
            "who finds no gap is helped by a protected green"
        )
        assert self.run([[(0, 1, "gives up"), (0, 1)]], "rgr", 20.0)[1] == [0], (
            "but not by another permissive one"
        )

    def test_a_permissive_green_waits_for_a_gap(self):
        # the left turn needs 4 s; the main road passes at 3 and 5; a second behind the last of them
        # it goes, 6 s late
        assert self.run([[(3, 0), (5, 0)], [(0, 1)]], "Ggr", 20.0) == (6.0, [2, 1], [5.0, 6.0])
        # nobody within 4 s: it goes at once
        assert self.run([[(4, 0), (5, 0)], [(0, 1)]], "Ggr", 20.0) == (
            0 + (6 - 5) * 2,
            [2, 1],
            [6.0, 0.0],
        )
        # the main road is on red
        assert self.run([[(0, 0), (0, 0)], [(0, 1)]], "rgr", 20.0) == (0.0, [0, 1], [-100.0, 0.0])

    def test_also_behind_one_who_may_go(self):
        assert self.run([[(3, 0), (5, 0)], [(0, 2), (0, 1)]], "GgG", 20.0) == (
            0 + 6.0,
            [2, 2],
            [5.0, 6.0],
        )
        assert self.run([[(1, 0)], [(0, 2)], [(0, 1)]], "Ggr", 20.0) == (
            2.0,
            [1, 0, 1],
            [1.0, -100.0, 2.0],
        ), "one on red is no matter"

    def test_who_finds_no_gap_holds_up_those_behind(self):
        main = [(k, 0) for k in (1, 3, 5, 7, 9)]
        assert self.run([main, [(0, 1), (0, 2)]], "GgG", 7.0) == (0.0, [4, 0], [7.0, -100.0])

    def test_unless_it_may_wait_inside_and_leave_at_the_end(self):
        main = [(k, 0) for k in (1, 3, 5, 7, 9)]
        # the left turn moves up at 0 and leaves 2 s after the end of green; the one behind it
        # follows at 2
        assert self.run([main, [(0, 1, "inside"), (0, 2)]], "GgG", 7.0) == (
            9 + 2,
            [4, 2],
            [7.0, 2.0],
        )
        assert self.run([[(0, 1, "inside"), (0, 2)], main], "GgG", 7.0) == (
            9 + 2,
            [2, 4],
            [2.0, 7.0],
        ), "in whichever lane"
        # there is room for one
        assert self.run([main, [(0, 1, "inside"), (0, 1, "inside"), (0, 2)]], "GgG", 7.0) == (
            9.0,
            [4, 1],
            [7.0, 0.0],
        )

    def test_or_goes_from_there_when_the_gap_comes(self):
        assert self.run([[(1, 0)], [(0, 1, "inside"), (0, 1, "inside")]], "Ggr", 20.0) == (
            2 + 2,
            [1, 2],
            [1.0, 2.0],
        )

    def test_who_is_blocked_on_green_has_right_of_way_all_the_same(self):
        assert self.run([[(0, 0, "blocked")], [(0, 1)]], "Ggr", 20.0)[1] == [0, 0]
        assert self.run([[(0, 0, "blocked")], [(0, 1)]], "rgr", 20.0)[1] == [0, 1]
        assert self.run([[(0, 0, "gives up")], [(0, 1)]], "Ggr", 20.0) == (
            1.0,
            [1, 1],
            [0.0, 1.0],
        ), "who only found no gap goes on protected green"
        assert self.run([[(3, 0, "gives up")], [(0, 1)]], "Ggr", 20.0) == (4.0, [1, 1], [3.0, 4.0])

    def test_those_who_went_just_now_are_let_by(self):
        # the last of the main road leaves at 4 (it is no more in sight then); the left turn, there
        # at 4.5, follows at 5
        assert self.run([[(4, 0)], [(4.5, 1)]], "Ggr", 20.0) == (0.5 + 0.5, [1, 1], [4.0, 5.0])


class TestBounds:
    """Two vehicles of one lane at 5 s and, on a shorter way, 3 s;
    and one of another lane at 50 s, the horizon.
    """

    def setup_method(self):
        rest = (0.0, 0, Closed.OPEN, False, False)
        self.queues = queues([[(5.0, 2.0, *rest), (3.0, 3.0, *rest)], [(50.0, 1.0, *rest)]])
        self.begun = progress(2, NOW, gone=0, last_s=-math.inf)

    def test_who_comes_just_now_has_not_waited_nor_those_behind(self):
        cost = [queue.cost_so_far(self.queues, self.begun, NOW, at) for at in (5.0, 6.0, 50.0)]
        assert cost == [0.0, 2 * 1 + 3 * 3, 2 * 45 + 3 * 47]

    def test_who_comes_at_the_horizon_is_not_left_over(self):
        def left(horizon_s):
            model = PLAIN._replace(horizon_s=horizon_s, leftover_cost_s=7.0)
            return queue.cost_left(self.queues, self.begun, NOW, as_record(model))

        assert left(50.0) == 2 * (45 + 3) + 3 * (47 + 3) + 7 * (2 + 3)
        assert left(50.1) == pytest.approx(
            2 * (45.1 + 3) + 3 * (47.1 + 3) + 7 * (2 + 3) + 0.1 + 0.1 + 7
        )

    def test_a_stage_is_cleared_a_moment_behind_the_last_of_its_platoon(self):
        def cleared(begin, opens=BEFORE, least=5.0, horizon=50.0, lights="G"):
            period = StagePeriod(colours(lights), np.array([opens]) - begin, begin, begin)
            model = as_record(PLAIN._replace(horizon_s=horizon))
            return float(
                queue.clear_time_s(self.queues, self.begun, NOW, period, np.array([least]), model)
            )

        assert cleared(0.0) == 0.0, "nobody comes within 2 s"
        assert cleared(3.0) == pytest.approx(7.1)  # at 5 and 7
        assert cleared(2.9) == 2.9
        assert cleared(0.0, opens=0.0) == pytest.approx(7.1), "its least of 5 s reaches so far"
        assert cleared(0.0, opens=0.0, least=2.9) == 2.9
        assert cleared(0.0, opens=4.0) == pytest.approx(9.0), (
            "at 5 and 7, but the least of 5 s from 4"
        )
        assert cleared(0.0, opens=0.0, lights="g") == 5.0
        assert cleared(0.0, opens=0.0, lights="r") == 0.0
        assert cleared(50.0) == pytest.approx(50.1), "at the horizon"
        assert cleared(50.0, horizon=49.9) == 50.0


def shared_lane(stages):
    """From the west straight on (0) and left (1) from one lane; from the east (2), which the left
    turn crosses; from the south (3), which crosses all; from the north (4) to the right, which
    meets 0 and 2.
    """
    lanes = [(name, 150, 13) for name in ("w_0", "e_0", "s_0", "n_0")]
    lanes += [(name, 150, 13) for name in ("x_0", "y_0")]
    links = [
        ("w_0", "x_0", 0, "s", 20, 13, 1),
        ("w_0", "y_0", 1, "l", 20, 13, 1),
        ("e_0", "y_0", 2, "s", 20, 13, 1),
        ("s_0", "y_0", 3, "s", 20, 13, 1),
        ("n_0", "x_0", 4, "r", 20, 13, 1),
    ]
    foes = [(1, 2), (0, 3), (1, 3), (2, 3), (4, 3), (0, 4), (2, 4)]
    return network(lanes, links, [junction("J", 0, stages, foes)])


class TestTables:
    def net(self):
        """West (0) with a left turn (1) from a lane of its own, a crossing (2), south (3); then,
        beyond a short lane, a signal for it (4) alone.
        """
        lanes = [
            ("w_0", 200, 13),
            ("w_1", 150, 12),
            ("walk", 8, 2),
            ("walked", 8, 2),
            ("s_0", 60, 10),
            ("mid_0", 59, 11),
            ("out_0", 60, 14),
        ]
        links = [
            ("w_0", "mid_0", 0, "s", 20, 13, 1), ("w_1", "out_0", 1, "l", 20, 8, 2),
            ("walk", "walked", 2, "c", 8, 1, 0),
            ("s_0", "mid_0", 3, "r", 31, 10, 1), ("mid_0", "out_0", 4, "s", 4, 10, 1),
            ("out_0", "w_0", -1, "s", 4, 10, 1), ("out_0", "s_0", -1, "t", 4, 10, 1),
        ]  # fmt: skip
        one = junction("one", 0, ["Ggrr", "rrGG"], [(0, 2), (0, 3), (1, 3)], [(1, 3)])
        return network(lanes, links, [one, junction("two", 4, ["G"])])

    def test_hold_the_network_and_its_times(self):
        net = self.net()
        times = timing(
            net,
            least=[5, 6, 7, 8, 9],
            yellow=[3, 3.5, 0, 4, 3],
            clearance=[0.5, 1, 5, 0, 1],
            min_cycle_s=40.0,
            max_cycle_s=120.0,
        )
        t = flat_tables(net, times)
        plain = {
            name: getattr(t, name).tolist()
            for name in t._fields
            if name not in ("stages", "lit", "green", "has_max_cycle")
        }
        rows = len(t.stages)
        crossing = [5.0, math.sqrt(15), 0.5 + 12.75, 6.1, 3.0, 3.0, 3.0]
        assert [link[-1] for link in plain["links"]] == pytest.approx(crossing)
        plain["links"] = [link[:-1] for link in plain["links"]]
        assert plain == {
            # first group, column, stage and stop lane; stages of the programme
            "junctions": [(0, 0, 0, 0, 2), (4, 5, rows - 1, 3, 1), (5, 6, rows, 4, 0)],
            # in whole ticks: a yellow of 3.5 s is shown for 4 s, and a clearance of 0.5 s ends at
            # the next tick
            "intergreen_s": [[0, 0, 5.0, 4.0, 0], [0, 0, 0, 4.0, 0], [4.0, 0, 0, 0, 0],
                [4.0, 5.0, 0, 0, 0], [0, 0, 0, 0, 0]],
            "yields": [
                [False] * 5, [False, False, False, True, False], [False] * 5, [False] * 5,
                [False, False, False, True, False],
                [False] * 5,
            ],
            # minimum green, yellow in whole ticks, shortest and longest cycle
            "groups": [(5, 3, 40, 120), (6, 4, 40, 120), (7, 0, 40, 120), (8, 4, 40, 120),
                (9, 3, 40, 120)],
            # lane, junction, speed and length; into the road of the third one can only turn round
            "stop_lanes": [
                (0, 0, 13, 200, True), (1, 0, 12, 150, True), (4, 0, 10, 60, False),
                (5, 1, 11, 59, True),
            ],
            # place among the stop lanes, first lane of the street, length
            "lanes": [(0, 0, 200), (1, 0, 150), (-1, 2, 8), (-1, 3, 8), (2, 4, 60), (3, 5, 59),
                (-1, 6, 60)],
            # group, junction, column, column inside, lane behind
            "links": [(0, 0, 0, -1, 5), (1, 0, 1, 4, 6), (2, 0, 2, -1, 3), (3, 0, 3, -1, 5),
                (4, 1, 0, -1, 6), (-1, -1, -1, -1, 0), (-1, -1, -1, -1, 4)],
            # from the first junction 59 m lead to the next signal
            "whole": [False] * 4 + [True],
            "holds_s": list(HOLDS_S),
            "lengths_s": list(LENGTHS_S),
        }  # fmt: skip

    @pytest.mark.parametrize(("tick_s", "yellow_s", "intergreen_s"), [(1.0, 4, 5), (0.5, 3.5, 4)])
    def test_signals_change_at_whole_ticks(self, tick_s, yellow_s, intergreen_s):
        # a yellow of 3.2 s, then a clearance of 0.5 s
        net = self.net()
        t = flat_tables(net, timing(net, yellow=3.2, clearance=0.5), tick_s)
        assert set(t.groups["yellow_s"].tolist()) == {yellow_s}
        assert set(t.intergreen_s.ravel().tolist()) == {0, intergreen_s}

    def test_a_stage_that_a_programme_has_twice_stands_once(self):
        lanes = [(name, 100, 10) for name in "abx"]
        links = [(name, "x", g, "s", 9, 9, 1) for g, name in enumerate("ab")]
        net = network(lanes, links, [junction("J", 0, ["Gr", "rG", "Gr"], [(0, 1)])])
        t = flat_tables(net, timing(net))
        assert [letters(row) for row in t.stages] == ["Gr", "rG"]
        assert t.junctions["own_stages"].tolist() == [2, 0]

    def test_a_stage_that_lights_the_likely_way_of_a_lane_serves_all_of_it_or_a_part(self):
        """By hand: from the first lane straight on (0) is likely, and its left turn (1) has to be
        lit with it; the left turn alone stops nobody who counts on it.
        """
        net = shared_lane(["GGrrr", "rrGrr", "rrrGr"])
        t = flat_tables(net, timing(net))
        found = {letters(row): bool(whole) for row, whole in zip(t.stages, t.whole, strict=True)}
        assert found == {
            "GGrrr": True,
            "rrGrr": True,
            "rrrGr": True,
            "GrGrr": False,
            "rGrrG": True,
        }

    def test_who_waits_inside_goes_when_those_stop_to_whom_he_gives_way(self):
        net = self.net()
        t = flat_tables(net, timing(net))
        assert [letters(row) for row in t.stages[:2]] == ["GgrrG", "rrGGg"]
        assert letters(t.stages[-1]) == "Grrrr"


@pytest.mark.parametrize(
    ("length", "speed", "places", "seconds"),
    [
        (20, 13, 1, 5.0),
        (20, 13, 0, 5.0),
        (22, 8, 2, 4.0),
        (22, 8, 3, 4.0),
        (31, 10, 1, 6.1),
        (62, 10, 2, 6.1),
        (75, 10, 1, 10.5),
        (4, 13, 1, 3.0),
    ],
)
def test_the_time_to_cross_from_standstill_at_two_metres_a_second_squared(
    length, speed, places, seconds
):
    # up to 10 m/s it takes 5 s and 25 m; who waits inside has half of the way behind him; 5 m until
    # the rear is clear
    link = Link(
        "J", 0, 0, 1, 0, "s", float(length), float(speed), Kind.VEHICLE, tuple("abc"[:places])
    )
    assert crossing_s(link) == pytest.approx(seconds)


def test_rows_become_words_of_bits():
    rows = np.zeros((3, 66), bool)
    rows[0, [0, 3]] = rows[1, [63, 64]] = rows[2, 65] = True
    assert as_bits(rows).tolist() == [[9, 0], [1 << 63, 1], [0, 2]]
    assert as_bits(np.ones((1, 64), bool)).tolist() == [[(1 << 64) - 1]]
    assert as_bits(np.ones((2, 1), bool)).tolist() == [[1], [1]]


def test_a_column_is_marked_by_its_bit():
    words = np.zeros(2, np.uint64)
    for column in (0, 5, 63, 64, 66):
        candidates.mark(words, column)
    candidates.mark(words, 5)
    assert words.tolist() == [1 + 32 + (1 << 63), 1 + 4]
    assert candidates.overlap(words, np.array([33 + 2, 5 + 8], np.uint64)) == 4


def test_vehicles_are_sorted_lane_by_lane_nearest_first():
    net = pair()
    t = flat_tables(net, timing(net))
    # lanes a, b, c, d, e are places 0 to 4; o leads to no signal; link 6 is under none; -1 is
    # unknown
    rows = [
        (3, 9.0, 0),
        (0, 8.0, 0),
        (1, 2.0, 0),
        (6, 1.0, 0),
        (-1, 1.0, 0),
        (0, 5.0, 0),
        (5, 7.0, 0),
        (3, 9.0, 0),
        (0, 9.0, 0),
        (3, -1.0, 0),
    ]
    traffic = traffic_of(observed(net, 0.0, rows, "rrrrr"))
    ptr, order = lane_queues.sort_by_lane(t, traffic)
    assert ptr.tolist() == [0, 4, 4, 7, 7, 8]
    assert order[:8].tolist() == [2, 5, 1, 8, 9, 0, 7, 6]
    lane = traffic.lane.copy()
    # a link, but no lane, or one that ends at no stop line
    lane[2] = -1
    lane[9] = net.lane_index["x"]
    ptr, order = lane_queues.sort_by_lane(t, traffic._replace(lane=lane))
    assert ptr.tolist() == [0, 3, 3, 5, 5, 6]
    assert order[:6].tolist() == [5, 1, 8, 0, 7, 6]
    none = traffic_of(observed(net, 0.0, [], "rrrrr"))
    assert lane_queues.sort_by_lane(t, none)[0].tolist() == [0] * 6


def test_a_vehicle_with_a_link_of_another_junction_than_its_lane_s_is_left_out():
    """The columns of a junction are read without a check: those of another may not be there."""
    net = pair()
    t = flat_tables(net, timing(net))
    traffic = traffic_of(observed(net, 0.0, [(0, 8.0, 0), (4, 9.0, 0), (0, 5.0, 0)], "rrrrr"))
    link = traffic.link.copy()
    link[0], link[1] = 4, 2
    ptr, order = lane_queues.sort_by_lane(t, traffic._replace(link=link))
    assert ptr.tolist() == [0, 1, 1, 1, 1, 1]
    assert order[:1].tolist() == [2]


def test_those_on_their_way_are_counted_by_lane_and_by_street():
    lanes = [("a", 100, 10), ("out_0", 100, 10), ("out_1", 100, 10), ("b", 100, 10), ("c", 100, 10)]
    links = [
        ("a", "out_1", 0, "s", 9, 9, 1),
        ("b", "out_0", 1, "s", 9, 9, 1),
        ("b", "c", -1, "s", 9, 9, 1),
        ("a", "c", 0, "s", 9, 9, 1),
    ]
    net = network(lanes, links, [junction("J", 0, ["GG"])])
    t = flat_tables(net, timing(net))
    behind, street = lane_queues.count_arriving(t, np.array([0, 0, 1, -1, 2, 3, -1], np.int32))
    assert behind.tolist() == [0, 1, 2, 0, 2]
    assert street.tolist() == [0, 3, 0, 0, 2]


class TestLookAhead:
    """A junction of one group, and one of three, the second of which crosses the third;
    each with its own times.
    """

    def ahead(
        self,
        shown,
        shown_for,
        ended_for=100.0,
        picks=(0, 1, 2),
        conflicts=((1, 2),),
        barred=(-math.inf,) * 3,
    ):
        lanes = [(n, 100, 10) for n in "abcdx"]
        links = [(a, "x", g, "s", 9, 9, 1) for g, a in enumerate("abcd")]
        net = network(
            lanes,
            links,
            [junction("J", 0, ["G"]), junction("K", 1, ["GGr", "GrG", "rrG"], conflicts)],
        )
        times = timing(
            net,
            least=[9.0, 5.0, 6.0, 7.0],
            yellow=[9.0, 3.0, 4.0, 5.0],
            clearance=[9.0, 0.0, 1.0, 2.0],
        )
        t = flat_tables(net, times)
        signals = lane_queues.SignalTimes(
            colour=colours("G" + shown),
            shown_for_s=np.array([0.0, *shown_for]),
            ended_for_s=np.broadcast_to(np.asarray(ended_for, float), 4).copy(),
        )
        soon, earliest, bound = candidates.look_ahead(
            t, 1, np.array(picks), signals, np.array([-math.inf, *barred])
        )
        return (
            [[None if x < 0 else float(x) for x in row] for row in soon.tolist()],
            [float(x) for x in earliest],
            bool(bound),
        )

    def test_a_green_that_goes_on_is_not_begun_and_a_new_one_waits_for_the_intergreen(self):
        # the second has its yellow of 4 s and a second of clearance; the third 5 and 2
        assert self.ahead("GGr", (60, 60, 60)) == (
            [[None, None, None], [None, None, 5.0], [None, None, 5.0]],
            [0, 0, 0],
            False,
        )
        assert self.ahead("GrG", (60, 60, 60), picks=(1, 0, 2)) == (
            [[None] * 3, [None, 7.0, None], [None] * 3],
            [0, 0, 0],
            False,
        )

    def test_a_green_must_have_its_least(self):
        # of 6 s it has had 2: 4 s more, and then 5 s; the first has had 1 of 5
        assert self.ahead("GGr", (1, 2, 60)) == (
            [[None] * 3, [None, None, 9.0], [None, None, 9.0]],
            [0, 4.0, 4.0],
            True,
        )
        assert self.ahead("GGr", (2, 7, 60)) == (
            [[None] * 3, [None, None, 5.0], [None, None, 5.0]],
            [0, 0, 3.0],
            False,
        )
        assert self.ahead("GGr", (60, 6, 60))[1:] == ([0, 0, 0], False)

    def test_what_has_ended_is_cleared_from_then_on(self):
        assert self.ahead("Grr", (60, 60, 60), (0, 9, 2, 6)) == (
            [[None, 1.0, None], [None, None, 3.0], [None, None, 3.0]], [0, 1.0 + 6.0, 1.0 + 6.0],
            False,
        )  # fmt: skip
        assert self.ahead("Grr", (60, 60, 60), (0, 0, 9, 9))[0][0] == [None, 0.0, None]

    def test_a_green_that_its_shortest_cycle_keeps_from_coming_keeps_no_stage(self):
        # the second comes after 1 s, and has 6 s then; barred for longer, it is not waited for
        def leaves(barred_s):
            barred = (-math.inf, barred_s, -math.inf)
            return self.ahead("Grr", (60, 60, 60), (0, 9, 2, 6), barred=barred)[1]

        assert leaves(1.0) == [0, 7.0, 7.0]
        assert leaves(1.1) == [0, 0, 0]

    def test_a_yellow_is_shown_to_its_end_before_green_comes_again(self):
        soon, earliest, _ = self.ahead("yyy", (1.0, 1.5, 3.5), conflicts=())
        assert soon == [[2.0, 2.5, None], [2.0, None, 1.5], [None, None, 1.5]]
        assert earliest == [0.0, 2.5 + 6.0, 2.5 + 6.0], (
            "the greens of the present stage that are still to come have their least, too"
        )
        assert self.ahead("yrr", (3.5, 0, 0), conflicts=())[0][0] == [0.0, 0.0, None]
        assert self.ahead("rrr", (1.0, 1.0, 1.0), conflicts=())[0][0] == [0.0, 0.0, None]


class TestRollout:
    """One vehicle that stands in column 0; stage 0 is red for it, stage 1 green."""

    def cost(self, bound, end=10.0, stages=("rG", "Gr"), begin=0.0, trans=BEFORE):
        waiting = queues([[(0.0, 1.0, 0.0, 0, Closed.OPEN, True, False)]])
        begun = progress(1, HELD, gone=0, last_s=-math.inf)
        tried = self.tried(stages, np.zeros((2, 2), bool), np.full((2, 2, 2), trans), np.zeros(2))
        first = StagePeriod(tried.colours[0], tried.opens_now_s[0] - begin, begin, end)
        return self.rollout(waiting, tried, begun, first, bound)

    def rollout(self, waiting, tried, begun, first, bound):
        starts = search.no_starts(len(tried.limits))
        nought = np.zeros(0)
        problem = search.SearchProblem(waiting, tried, begun, starts, nought, nought, FIGURES)
        return search.rollout(problem, 0, first, 0.0, bound)

    def tried(self, stages, yields, changes, min_green):
        """Two stages that are green at once."""
        return candidates.Candidates(
            colours=np.array([colours(s) for s in stages]),
            yields=yields,
            opens_now_s=np.full((2, len(min_green)), BEFORE),
            opens_after_s=changes,
            leaves_s=np.zeros(2),
            blocking_cost=np.zeros(2),
            limits=limits(min_green),
            is_any_barred=False,
            is_any_due=False,
        )

    def test_is_given_up_once_those_who_still_wait_cost_as_much_as_the_best_so_far(self):
        assert self.cost(10.0) == math.inf
        assert self.cost(10.1) == 10.0
        assert self.cost(math.inf) == 10.0
        assert self.cost(math.inf, trans=3.0) == 14.0, (
            "the stage that follows opens 3 s later, and a second is lost at its start"
        )

    def test_those_who_went_just_now_are_let_by_in_each_stage(self):
        # red to all for 10 s; then the main road, there at 10.5, starts at 11, and the left turn,
        # there at 11.2, goes a second behind it
        rest = (Closed.OPEN, False, False)
        waiting = queues([[(10.5, 1.0, 0.1, 0, *rest)], [(11.2, 1.0, 0.1, 1, *rest)]])
        begun = progress(2, HELD, gone=0, last_s=-math.inf)
        yields = np.zeros((3, 3), bool)
        yields[1, 0] = True
        tried = self.tried(("rrG", "Ggr"), yields, np.zeros((2, 2, 3)), np.full(3, 5.0))
        first = StagePeriod(tried.colours[0], tried.opens_now_s[0], 0.0, 10.0)
        cost = self.rollout(waiting, tried, begun, first, math.inf)
        assert cost == pytest.approx(2 * 0.5 + 2 * 0.8)

    def test_ends_at_the_horizon(self):
        assert self.cost(math.inf, end=50.0) == 50.0
        assert self.cost(math.inf, end=70.0) == 50.0
        assert self.cost(20.0, end=50.0) == 50.0, "nothing is looked at any more"

    def test_takes_twelve_turns_at_most(self):
        # nobody is served: each stage ends at once, and what waits is left over
        assert self.cost(math.inf, stages=("rG", "rg")) == 50.0


class TestCyclesInPlans:
    """Stage 0 is green for column 0, stage 1 for column 1; a green that begins has 5 s at least.

    In lane 0 nobody is, in lane 1 somebody stands.
    """

    def problem(self, barred=(-math.inf, -math.inf), due=(math.inf, math.inf), lit=(True, False)):
        waiting = queues([[], [(0.0, 1.0, 0.0, 1, Closed.OPEN, True, False)]])
        begun = progress(2, NOW, gone=0, last_s=-math.inf)
        tried = candidates.Candidates(
            colours=np.array([colours("Gr"), colours("rG")]),
            yields=np.zeros((2, 2), bool),
            opens_now_s=np.array([[BEFORE, BEFORE], [BEFORE, 4.0]]),
            opens_after_s=np.array([[[BEFORE] * 2, [BEFORE, 4.0]], [[4.0, BEFORE], [BEFORE] * 2]]),
            leaves_s=np.zeros(2),
            blocking_cost=np.zeros(2),
            limits=limits(np.full(2, 5.0), barred, due, lit),
            is_any_barred=max(barred) > 0.0,
            is_any_due=min(due) < math.inf,
        )
        nought = np.zeros(0)
        starts = search.no_starts(2)
        return search.SearchProblem(waiting, tried, begun, starts, nought, nought, FIGURES)

    def leaving(self, **limits):
        problem = self.problem(**limits)
        cost = search.hold_cost(problem, 0.0)
        soon = problem.candidates.opens_now_s[1]
        return search.least_plan_cost(problem, 1, soon, 0.0, cost, math.inf, False)

    def test_who_is_barred_leaves_when_the_shortest_cycle_is_over(self):
        # a second is lost at the start of green
        assert self.leaving() == pytest.approx(4 + 1)
        assert self.leaving(barred=(-math.inf, 4.0)) == pytest.approx(4 + 1)
        assert self.leaving(barred=(-math.inf, 12.0)) == pytest.approx(12 + 1)

    def test_a_stage_waits_for_the_least_of_a_green_that_begins_but_not_for_one_that_is_barred(
        self,
    ):
        def cleared(barred, begin=10.0):
            problem = self.problem(barred=(-math.inf, barred), lit=(True, False))
            problem.progress.gone[NOW, 1] = 1  # nobody is left
            soon = problem.candidates.opens_now_s[1]
            search.fill_starts(problem, soon, begin, search.FIRST)
            opens = problem.starts.times_s[search.FIRST]
            period = StagePeriod(colours("rG"), opens, begin, begin)
            return float(search.clears_s(problem, NOW, period))

        assert cleared(14.0) == 10 + 4 + 5
        assert cleared(14.1) == 10.0, "nobody else is there to wait for"

    def test_one_that_is_green_is_barred_from_its_next_start_on(self):
        def opens(row, lit):
            problem = self.problem(barred=(20.0, 20.0), lit=(lit, False))
            search.fill_starts(problem, np.array(row), 5.0, search.FIRST)
            return problem.starts.times_s[search.FIRST].tolist()

        assert opens([BEFORE, 4.0], lit=True) == [BEFORE, 15.0]
        assert opens([4.0, 16.0], lit=True) == [15.0, 16.0]
        assert opens([BEFORE, BEFORE], lit=False) == [15.0, 15.0]

    def test_each_second_that_a_group_begins_late_costs_as_if_two_vehicles_waited(self):
        assert self.leaving(due=(math.inf, 4.0)) == pytest.approx(5)
        assert self.leaving(due=(math.inf, 10.0)) == pytest.approx(5), "who is early gains nothing"
        assert self.leaving(due=(math.inf, 1.0)) == pytest.approx(5 + 2 * 3)
        assert self.leaving(due=(math.inf, -2.0)) == pytest.approx(5 + 2 * 6)

    def test_so_does_each_second_up_to_the_horizon_of_one_that_does_not_begin(self):
        def held(due):
            problem = self.problem(due=(math.inf, due))
            return search.hold_cost(problem, 50.0) + search.left_cost(problem, HELD)

        assert FIGURES.horizon_s == 50.0
        assert held(50.0) == held(math.inf) == pytest.approx(50)
        assert held(20.0) == pytest.approx(50 + 2 * 30)


class TestFill:
    """Lane in (40 m) and far (200 m) before a junction with exits of 20, 60 and 100 m; links 0 to 2
    from in to tiny, edge, long; 3 from far to long,
    4 from far to the left, where one waits inside; 5 from in to the left."""

    UNTOUCHED = (99.0, 99.0, 99.0, 99, 99, True, True)

    def setup_method(self):
        lanes = [
            ("in", 40, 10),
            ("far", 200, 10),
            ("tiny", 20, 10),
            ("edge", 60, 10),
            ("long", 100, 10),
        ]
        links = [
            ("in", "tiny", 0, "s", 20, 10, 1), ("in", "edge", 0, "s", 20, 10, 1),
            ("in", "long", 0, "s", 20, 10, 1), ("far", "long", 1, "s", 20, 10, 1),
            ("far", "long", 2, "l", 30, 10, 2), ("in", "long", 3, "l", 30, 10, 2),
        ]  # fmt: skip
        self.network = network(lanes, links, [junction("J", 0, ["GrrG", "rGGr"], [(0, 1)])])
        self.flat = flat_tables(self.network, timing(self.network))

    def fill(
        self,
        rows,
        shown="GGGG",
        shown_for=60.0,
        room=None,
        behind=0.0,
        street=0.0,
        lane=None,
        has_road_in=True,
    ):
        net = self.network
        self.flat.stop_lanes["has_road_in"] = has_road_in
        seen = observed(net, 0.0, rows, shown, shown_for, room=room)
        memory = np.array([self.UNTOUCHED] * (len(rows) + 1), VEHICLE)
        place = (0 if net.links[rows[0][0]].from_lane == 0 else 1) if lane is None else lane
        downstream = lane_queues.Downstream(
            room_m=seen.room_m,
            arriving=np.full(len(net.lanes), behind),
            to_street=np.broadcast_to(np.asarray(street, float), len(net.lanes)).copy(),
        )
        observed_now = lane_queues.Observed(
            signals_of(seen, seen.at_s - seen.shown_for_s),
            traffic_of(seen),
            downstream,
            start=np.array([0, len(rows)] if place == 0 else [0, 0, len(rows)]),
            order=np.arange(len(rows)),
        )
        end = lane_queues.fill_lane(memory, np.int64(0), self.flat, FIGURES, place, observed_now)
        assert set(memory[end:].tolist()) == {self.UNTOUCHED}
        self.room = seen.room_m
        return memory[:end]

    def test_each_vehicle_with_its_time_its_column_and_the_gap_that_it_needs(self):
        found = self.fill([(3, 16.0, 0.0), (4, 36.0, 6.0), (3, 100.0, 10.0)])
        assert found["eta_s"].tolist() == pytest.approx([4.0, 4.0, 10.0])
        assert found["column"].tolist() == [1, 2, 1]
        assert found["stopped"].tolist() == [True, False, False]
        assert found["weight"].tolist() == [1, 1, 1]
        assert found["closed"].tolist() == [0, 0, 0]
        assert found["may_wait_inside"].tolist() == [False, True, False]
        assert found["gap_s"].tolist() == pytest.approx([5.0, math.sqrt(20), 5.0])

    @pytest.mark.parametrize(("speed", "still"), [(4.9, True), (5.0, False)])
    def test_who_crawls_has_stopped_already(self, speed, still):
        assert self.fill([(3, 50.0, speed)])["stopped"].tolist() == [still]

    @pytest.mark.parametrize(
        ("last", "speed", "weight"),
        [
            # the tail is 7.5 m behind the last who stands; half the lane counts as nothing, all of
            # it as full; 4 are kept out behind 2
            (92.5, 0.0, 1.0), (142.5, 0.0, 1 + 0.5 * 0.5 * (1 + 4 / 2)),
            (192.5, 0.0, 1 + 0.5 * (1 + 4 / 2)), (199.0, 0.0, 1 + 0.5 * (1 + 4 / 2)),
            (142.5, 1.9, 1 + 0.5 * 0.5 * (1 + 4 / 2)), (142.5, 2.0, 1.0),
        ],
    )  # fmt: skip
    def test_a_queue_that_fills_its_lane_weighs_the_more_the_more_are_kept_out(
        self, last, speed, weight
    ):
        found = self.fill([(3, 20.0, 0.0), (3, last, speed)], behind=4.0)
        assert found["weight"].tolist() == pytest.approx([weight, weight])

    def test_a_full_lane_into_the_network_weighs_as_any_other(self):
        found = self.fill([(3, 20.0, 0.0), (3, 192.5, 0.0)], behind=4.0, has_road_in=False)
        assert found["weight"].tolist() == [1.0, 1.0]

    @pytest.mark.parametrize(
        ("row", "shown", "shown_for", "closed"),
        [
            ((3, 14.9, 0.0, 7.1), "rGrr", 10.1, 2), ((3, 14.9, 0.0, 7.0), "rGrr", 10.1, 0),
            ((3, 14.9, 0.0, 7.1), "rGrr", 10.0, 0),
            ((3, 14.9, 0.0, 7.1), "rgrr", 10.1, 0), ((3, 15.0, 0.0, 7.1), "rGrr", 10.1, 0),
            ((3, 14.9, 0.0, 7.1), "Gr" + "rr", 10.1, 0),
            ((3, 14.9, 0.0, 32.1), "rrrr", 60.0, 1), ((3, 14.9, 0.0, 32.0), "rrrr", 60.0, 0),
            ((3, 15.0, 0.0, 32.1), "rrrr", 60.0, 0),
            ((3, 14.9, 0.0, 32.1), "rgrr", 60.0, 1), ((3, 14.9, 0.0, 32.1), "rGrr", 5.0, 1),
            ((3, 14.9, 0.0, 32.1), "rGrr", 60.0, 2),
        ],
    )  # fmt: skip
    def test_the_first_that_stands_too_long_on_green_is_blocked_and_on_any_other_light_finds_no_gap(
        self, row, shown, shown_for, closed
    ):
        assert self.fill([row], shown, shown_for)["closed"].tolist() == [closed]
        assert self.fill([(3, 1.0, 0.0, 0.0), row], shown, shown_for)["closed"].tolist() == [
            0,
            0,
        ], "only the first is looked at"

    @pytest.mark.parametrize(
        ("link", "room", "closed"),
        [
            (2, {"long": 14.9}, 2), (2, {"long": 15.0}, 0), (1, {"edge": 14.9}, 2),
            (1, {"edge": 15.0}, 0), (0, {"tiny": 11.9}, 3), (0, {"tiny": 12.0}, 0),
            (0, {"long": 0.0, "edge": 0.0}, 0),
        ],
    )  # fmt: skip
    def test_a_link_into_a_lane_without_room_is_closed_and_does_harm_where_that_is_short(
        self, link, room, closed
    ):
        # 15 m, or six tenths of a lane of 20 m
        assert self.fill([(link, 5.0, 0.0)], room=room)["closed"].tolist() == [closed]

    def test_each_takes_its_part_of_the_room_of_a_short_lane(self):
        found = self.fill(
            [(0, 5.0, 0.0), (1, 10.0, 0.0), (0, 15.0, 0.0), (0, 20.0, 0.0)],
            room={"tiny": 19.6, "edge": 40.0, "long": 40.0},
        )
        assert found["closed"].tolist() == [0, 0, 0, 3]  # 19.6, 12.1 and 4.6 m
        assert self.room.tolist() == pytest.approx([math.inf, math.inf, 19.6 - 22.5, 40.0, 40.0])
        self.fill([(0, 5.0, 0.0)], room={"tiny": 20.0})
        assert self.room[2] == 20.0, "the whole of it is free: nobody is near"
        self.fill([(0, 5.0, 0.0)])
        assert self.room[2] == math.inf

    @pytest.mark.parametrize(
        ("row", "weight", "closed"),
        [
            ((4, -1.0, 0.0, 5.0), 1.0, 0), ((4, -1.0, 0.0, 7.0), 1.0, 0),
            ((4, -1.0, 0.0, 7.1), 1.0, 1),
            # behind it is a lane of 40 m, with 6 on their way to its street
            ((5, -1.0, 0.0, 16.0), 1 + 0.5 * (1 + 6) + 0.5, 1),
        ],
    )  # fmt: skip
    def test_who_waits_inside_is_in_the_column_for_it(self, row, weight, closed):
        (found,) = self.fill([row], behind=3.0, street=6.0).tolist()
        column = {4: 4, 5: 5}[row[0]]
        assert found == (
            0.0,
            pytest.approx(weight),
            pytest.approx(math.sqrt(20)),
            column,
            closed,
            True,
            False,
        )

    def test_vehicles_on_their_way_are_counted_at_the_first_lane_of_the_street(self):
        self.flat.lanes[0].street = 4
        found = self.fill([(5, -1.0, 0.0, 16.0)], street=[99.0, 99.0, 99.0, 99.0, 6.0])
        assert found["weight"].tolist() == [1 + 0.5 * (1 + 6) + 0.5]

    def test_a_lane_of_sixty_metres_is_not_short(self):
        self.flat.stop_lanes[0].length_m = 60.0
        assert self.fill([(5, -1.0, 0.0, 16.0)], street=6.0)["weight"].tolist() == [1.0]

    def test_who_is_inside_but_does_not_wait_for_a_gap_is_gone(self):
        assert len(self.fill([(4, -1.0, 5.0)])) == 0, "it moves"
        assert len(self.fill([(3, -1.0, 0.0)])) == 0, "there is no place to wait"
        assert self.fill([(4, -1.0, 4.9), (3, 5.0, 0.0)])["column"].tolist() == [4, 1]


def test_the_last_changes_of_each_group_are_noted():
    lit = np.array([True, False, True, False])
    began = np.array([1.0, 2.0, 3.0, 4.0])
    ended = np.array([5.0, 6.0, 7.0, 8.0])
    given = [x.copy() for x in (lit, began, ended)]
    now = planner_kernel.note_changes(
        100.0, colours("ygGr"), np.array([9.0, 8.0, 7.0, 6.0]), lit, began, ended
    )
    assert [x.tolist() for x in now] == [
        [False, True, True, False],
        [1.0, 92.0, 3.0, 4.0],
        [91.0, 6.0, 7.0, 8.0],
    ]
    assert [x.tolist() for x in (lit, began, ended)] == [x.tolist() for x in given]


def state_of(net, target, shown, began_s, ended_s, at_s=500.0):
    """A state of the planner whose signals show `shown`."""
    lanes = len(flat_tables(net, timing(net)).stop_lanes)
    return PlannerState(
        target=np.array(target, np.int32),
        shown=colours(shown),
        began_s=began_s,
        ended_s=ended_s,
        lit=colours(shown) >= 3,
        cycles=no_cycles(len(net.groups), at_s),
        check=no_check(len(net.junctions), lanes, colours(shown), at_s),
    )


class TestDecisions:
    def step(
        self,
        rows=(),
        shown="GrrGr",
        target=(0, 0),
        net=None,
        state=None,
        at_s=500.0,
        times=None,
        **more,
    ):
        net = net or pair()
        one = Planner(net, times or timing(net))
        seen = observed(net, at_s, rows, shown, **more)
        if state is None:
            past = np.full(len(net.groups), at_s - 100.0)
            state = state_of(net, target, shown, past, past, at_s)
        proposal, after = one.step(seen, state)
        assert (proposal.at_s, proposal.controller) == (at_s, "planner")
        assert after.shown is seen.shown
        self.after = after
        return letters(proposal.wanted)

    def test_it_starts_as_if_nothing_had_changed_for_long(self):
        net = pair()
        seen = observed(net, 50.0, [], "GgryG")
        state = Planner(net, timing(net)).start(seen)
        assert state.target.tolist() == [0, 0]
        assert state.shown is seen.shown
        assert state.began_s.tolist() == state.ended_s.tolist() == [-950.0] * 5
        assert state.lit.tolist() == [True, True, False, False, True]

    def test_nobody_there_nothing_changes(self):
        assert self.step() == "GrrGr"
        assert self.step(shown="rrGrG", target=(2, 1)) == "rrGrG"

    def test_who_waits_is_served_and_who_has_green_already_is_no_reason_to_change(self):
        assert self.step([(2, 5.0, 0.0, 10.0)]) == "rGrGr"
        assert self.step([(3, 5.0, 0.0, 10.0), (5, 5.0, 0.0, 10.0)]) == "rrGrG"
        assert self.step([(0, 5.0, 0.0, 1.0), (4, 5.0, 0.0, 1.0)]) == "GrrGr"

    def test_vehicles_on_unknown_links_and_lanes_change_nothing_whatever_their_type(self):
        net = pair()
        seen = observed(net, 500.0, [(2, 5.0, 0.0, 10.0)] * 4, "GrrGr")
        for kind in (np.int64, np.uint32, np.dtype(">i4"), np.int16):
            link, lane = np.array([-1, 5000, 2, 2]), np.array([-1, 2, 5000, -1])
            vehicles = replace(seen.vehicles, link=link.astype(kind), lane=lane.astype(kind))
            one = Planner(net, timing(net))
            odd = replace(seen, vehicles=vehicles)
            assert letters(one.step(odd, one.start(odd))[0].wanted) == "GrrGr", kind
        assert self.step([(2, 5.0, 0.0, 10.0)] * 4) == "rGrGr", "known, they are served"

    @pytest.mark.parametrize(
        ("programme", "waiting", "known", "guessed"),
        [
            # both straight ways wait: one on the first lane may have to turn left, which a stage of
            # the two stops
            (["rrrGr", "GGrrr", "rrGrr"], (0, 2), {"GrGrr"}, {"GGrrr", "rrGrr"}),
            # but what the programme has is tried all the same
            (["rrrGr", "GrGrr", "rrGrr"], (0, 2), {"GrGrr"}, {"GrGrr"}),
            # and so is what it lacks, if it serves the whole lane
            (["rrrGr", "rrGrr", "rGrrG"], (0,), {"GGrrr", "GrGrr"}, {"GGrrr"}),
        ],
    )
    def test_where_links_are_guessed_no_stage_serves_a_part_of_a_lane(
        self, programme, waiting, known, guessed
    ):
        net = shared_lane(programme)
        seen = observed(net, 500.0, [(link, 5.0, 0.0, 10.0) for link in waiting], "rrrGr")
        past = np.full(5, 400.0)
        for is_known, wanted in ((True, known), (False, guessed)):
            one = Planner(net, timing(net))
            state = state_of(net, (0,), "rrrGr", past, past, 500.0)
            proposal, _ = one.step(replace(seen, links_known=is_known), state)
            assert letters(proposal.wanted) in wanted, is_known

    def test_where_those_inside_are_not_seen_only_the_programmes_stages_are_tried(self):
        net = shared_lane(["rrrGr", "rrGrr", "rGrrG"])
        seen = observed(net, 500.0, [(0, 5.0, 0.0, 10.0)], "rrrGr")
        past = np.full(5, 400.0)
        one = Planner(net, timing(net))
        state = state_of(net, (0,), "rrrGr", past, past, 500.0)
        for sees, wanted, why in (
            (True, "GGrrr", "it serves the whole lane"),
            (False, "rrrGr", "no stage of the programme serves the one that waits"),
        ):
            proposal, _ = one.step(replace(seen, links_known=False, inside_seen=sees), state)
            assert letters(proposal.wanted) == wanted, why

    def test_who_waits_on_foot_is_served(self):
        assert self.step(persons={1: 1}) == "rGrGr"
        assert self.step(persons={2: 1, 4: 2}) == "rrGrG"
        assert self.step(persons={0: 5, 3: 1}) == "GrrGr"
        assert self.step([(0, 30.0, 10.0)], persons={1: 9}) == "rGrGr", (
            "nine on foot outweigh one that must stop"
        )
        assert self.step([(0, d, 10.0) for d in (5.0, 25.0, 45.0)], persons={1: 1}) == "GrrGr", (
            "one waits until three are through"
        )

    def test_who_is_expected_to_wait_unseen_is_served_when_he_outweighs_those_seen(self):
        """As one on foot: what counts is how many are expected, parts of one too."""
        assert self.step(unseen={1: 0.01}) == "rGrGr"
        assert self.step(unseen={2: 0.01, 4: 0.02}) == "rrGrG"
        assert self.step(unseen={0: 5.0, 3: 1.0}) == "GrrGr", "green already"
        assert self.step([(0, 30.0, 10.0)], unseen={1: 9.0}) == "rGrGr"
        assert self.step([(0, 30.0, 10.0)], unseen={1: 0.1}) == "GrrGr"

    def test_a_green_does_not_help_who_finds_the_exit_full(self):
        rows = [(2, 5.0, 0.0, 5.0), (2, 12.5, 0.0, 5.0), (2, 20.0, 0.0, 5.0), (3, 5.0, 0.0, 5.0)]
        assert self.step(rows) == "rGrGr"
        assert self.step(rows, room={"y": 14.0}) == "rrGGr", "y is 120 m long: 15 m are needed"
        assert self.step(rows, room={"y": 15.0}) == "rGrGr"

    @pytest.mark.parametrize(
        ("rows", "shown", "room_m", "wanted"),
        [
            # six tenths of the link's 15 m are needed
            ([], "Grr", 8.9, "Grr"),
            ([], "Grr", 9.0, "GGr"),
            ([], "Grr", math.inf, "GGr"),
            ([], "Gyr", 8.9, "Grr"),
            ([], "GGr", 8.9, "GGr"),  # no green is cut short for it
            # beside it a lane of the same lamp whose first may go
            ([(3, 5.0, 0.0, 20.0)], "Grr", 8.9, "GGr"),
            # but nobody passes who is behind it
            ([(4, 20.0, 0.0, 20.0)], "Grr", 8.9, "Grr"),
            ([(4, 2.0, 0.0, 20.0)], "Grr", 8.9, "GGr"),
        ],
    )
    def test_a_stage_is_shown_without_the_green_that_would_let_traffic_stop_inside(
        self, rows, shown, room_m, wanted
    ):
        """Seed 227 of ingolstadt21 locked up on such a green: decision 25."""
        rows = [(0, 5.0, 0.0, 20.0), (1, 5.0, 0.0, 20.0), *rows]
        more = {"net": self.short_link(), "room": {"link": room_m}, "shown_for": 1.0}
        assert self.step(rows, shown, (0,), **more) == wanted
        guessed = self.step(rows, shown, (0,), **more, known=False)
        assert guessed == "GGr", "a guess would keep the wrong traffic waiting"

    @pytest.mark.parametrize(
        ("inside", "shown", "wanted"),
        [
            ((0, -5.0, 0.9, 3.0), "rrrrr", "rrrrG"),  # of group 0, in the way of 1
            ((0, -5.0, 0.9, 3.0), "yrrrr", "rrrrG"),
            ((0, -5.0, 1.0, 3.0), "rrrrr", "rGrrG"),  # it moves: it is through
            ((0, -5.0, 0.9, 20.0), "rrrrr", "rGrrG"),  # it does not go with more time
            ((4, -5.0, 0.0, 3.0), "rrrrr", "rGrrr"),  # of group 3, at the other junction
            ((5, -5.0, 0.0, 3.0), "rrrrr", "rGrrG"),  # of group 4, whose own turn it is
            ((0, -5.0, 0.9, 3.0), "Grrrr", "rGrrG"),  # its own green is not over
            ((0, -5.0, 0.9, 3.0), "rGrrr", "rGrrG"),  # no green is cut short for it
        ],
    )
    def test_nobody_begins_while_one_stands_inside_in_the_way_whose_own_green_is_over(
        self, inside, shown, wanted
    ):
        """Seed 18 of cologne3 locked up so: decision 34."""
        rows = [(2, 5.0, 0.0, 10.0), (5, 5.0, 0.0, 10.0), inside]
        for known in (True, False):
            assert self.step(rows, shown, (1, 1), known=known) == wanted

    def short_link(self):
        """Groups 0 and 1, shown together, and 2; group 1 leads from lane b_0 onto a short link."""
        lanes = [("a", 200, 10), ("b_0", 200, 10), ("b_1", 200, 10), ("c", 200, 10)]
        links = [
            ("a", "x", 0, "s", 20, 10, 1), ("b_0", "link", 1, "l", 20, 8, 1),
            ("c", "x", 2, "s", 20, 10, 1),
            ("b_1", "x", 1, "s", 20, 10, 1), ("b_0", "x", 1, "s", 20, 10, 1),
        ]  # fmt: skip
        one = junction("J", 0, ["GGr", "rrG"], [(0, 2), (1, 2)])
        return network([*lanes, ("x", 200, 10), ("link", 15, 10)], links, [one])

    def test_who_waits_inside_goes_before_those_start_again_to_whom_it_gives_way(self):
        lanes = [("a", 200, 10), ("b", 200, 10), ("c", 200, 10), ("x", 200, 10)]
        links = [
            ("a", "x", 0, "s", 20, 10, 1),
            ("b", "x", 1, "l", 20, 8, 2),
            ("c", "x", 2, "s", 20, 10, 1),
        ]
        net = network(
            lanes, links, [junction("J", 0, ["Ggr", "rrG"], [(0, 1), (0, 2), (1, 2)], [(1, 0)])]
        )
        opposite = [(0, 5.0 + 20 * k, 10.0) for k in range(2)]
        waits = (1, -2.0, 0.0, 30.0)
        assert self.step([*opposite], "Ggr", (0,), net) == "Ggr"
        assert self.step([*opposite, (1, -2.0, 6.0)], "Ggr", (0,), net) == "Ggr", (
            "it moves: it is through"
        )
        assert self.step([waits], "Ggr", (0,), net) != "Ggr", (
            "on permissive green it stands since 30 s: it finds no gap"
        )
        assert self.step([(1, -2.0, 0.0, 3.0)], "Ggr", (0,), net) == "Ggr", (
            "nobody comes: it goes by itself"
        )

    def test_a_green_short_of_its_least_is_kept_but_the_aim_is_another(self):
        assert self.step([(2, 5.0, 0.0, 10.0)], shown_for=4.0) == "GrrGr"
        assert self.after.target.tolist() == [0, 0], "it is not even looked at: nothing can end yet"

    def test_it_knows_when_each_green_began_and_ended(self):
        before = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
        state = state_of(pair(), [1, 0], "GrrGr", before, before + 10.0)
        self.step(shown="rGrGr", state=state, shown_for=[30.0, 20.0, 9.0, 9.0, 9.0])
        assert self.after.began_s.tolist() == [1.0, 480.0, 3.0, 4.0, 5.0]
        assert self.after.ended_s.tolist() == [470.0, 12.0, 13.0, 14.0, 15.0]
        assert self.after.lit.tolist() == [False, True, False, True, False]

    def test_the_same_signals_as_before_are_not_looked_at_again(self):
        net = pair()
        one = Planner(net, timing(net))
        seen = observed(net, 500.0, [], "GrrGr")
        state = one.start(seen)
        after = one.step(seen, state)[1]
        assert after.began_s is state.began_s
        assert after.ended_s is state.ended_s
        assert after.lit is state.lit

    @pytest.mark.parametrize(
        ("began", "wanted"),
        [(460.0, "rGrGr"), (460.0 + 5e-7, "rGrGr"), (460.1, "rrrGr"), (499.0, "rrrGr")],
    )
    def test_a_group_is_not_begun_again_within_the_shortest_cycle(self, began, wanted):
        net = pair()
        past = np.array([470.0, began, 300.0, 490.0, 300.0])
        state = state_of(net, [1, 0], "GrrGr", past, past)
        assert (
            self.step([(2, 5.0, 0.0, 10.0)], state=state, times=timing(net, min_cycle_s=40.0))
            == wanted
        )
        assert self.step([(2, 5.0, 0.0, 10.0)], state=state, times=timing(net)) == "rGrGr", (
            "where there is a shortest cycle"
        )

    def test_of_stages_that_serve_alike_it_takes_the_one_that_ends_fewest_greens(self):
        # either serves the second group; the third, permissive now, is lit in the last alone
        lanes = [(n, 200, 10) for n in "abcdx"]
        links = [(n, "x", g, "s", 20, 10, 1) for g, n in enumerate("abcd")]
        net = network(
            lanes, links, [junction("J", 0, ["Grgr", "rGrG", "rGgr"], [(0, 1), (0, 2)], [(2, 0)])]
        )
        assert self.step([(1, 5.0, 0.0, 10.0)], "Grgr", (0,), net) == "rGgr"
        assert self.step([(1, 5.0, 0.0, 10.0)], "Grrr", (0,), net) != "rGgr"

    def test_with_guessed_links_it_takes_its_own_stages_where_each_lane_has_one_way(self):
        lanes = [("a", 200, 10), ("b", 200, 10), ("c", 200, 10), ("x", 200, 10)]
        net = network(
            lanes,
            [(n, "x", g, "s", 20, 10, 1) for g, n in enumerate("abc")],
            [junction("J", 0, ["Grr", "rGr", "rrG"], [(0, 1), (0, 2)])],
        )
        rows = [(1, 5.0, 0.0, 9.0), (2, 5.0, 0.0, 9.0)]
        assert self.step(rows, "Grr", (0,), net) == "rGG"
        assert self.step(rows, "Grr", (0,), net, known=False) == "rGG"
