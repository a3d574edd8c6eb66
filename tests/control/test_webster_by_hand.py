"""Webster's fixed time: cycle, ratios, splits and plan,
each on figures that can be worked out on paper.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import junction, letters, network, observed, pair, timing

from headway.control.webster import (
    CycleBounds,
    Plan,
    Webster,
    WebsterState,
    critical_ratios,
    splits,
    stages_needed,
    webster_cycle,
)


class TestCycle:
    @pytest.mark.parametrize(
        ("ratios", "lost", "cycle"),
        [
            ([0.3, 0.3], 10.0, 50.0),  # (15 + 5) / 0.4
            ([0.2, 0.3], 12.0, 46.0),  # (18 + 5) / 0.5
            ([0.0], 0.0, 40.0),  # 5 s, but 40 at the shortest
            ([0.5, 0.45], 10.0, 120.0),  # 400 s, but 120 at the longest
            ([0.5, 0.5], 10.0, 120.0),  # saturated: no optimum
            ([0.9, 0.9], 10.0, 120.0),
        ],
    )
    def test_is_the_formula_within_the_bounds(self, ratios, lost, cycle):
        assert webster_cycle(np.array(ratios), lost, CycleBounds()) == pytest.approx(cycle)

    def test_the_bounds_are_those_given(self):
        assert CycleBounds() == CycleBounds(40.0, 120.0)
        assert webster_cycle(np.array([0.0]), 0.0, CycleBounds(10.0, 20.0)) == 10.0
        assert webster_cycle(np.array([0.8]), 0.0, CycleBounds(10.0, 20.0)) == 20.0
        assert webster_cycle(np.array([1.0]), 0.0, CycleBounds(10.0, 20.0)) == 20.0
        assert webster_cycle(np.array([0.6]), 0.0, CycleBounds(10.0, 20.0)) == pytest.approx(12.5)

    @pytest.mark.parametrize(
        ("ratios", "lost"),
        [
            ([-0.1, 0.5], 10.0),
            ([np.nan], 10.0),
            ([np.inf], 10.0),
            ([0.1], -1.0),
            ([0.1], np.nan),
            ([0.1], np.inf),
        ],
    )
    def test_what_is_no_ratio_or_no_time_is_refused(self, ratios, lost):
        with pytest.raises(
            ValueError, match=r"^flow ratios and lost time must be finite and not negative, are \["
        ):
            webster_cycle(np.array(ratios), lost, CycleBounds())


class TestSplits:
    @pytest.mark.parametrize(
        ("ratios", "cycle", "lost", "least", "greens"),
        [
            ([0.3, 0.1], 50.0, 10.0, [5, 5], [30, 10]),
            ([0.3, 0.1, 0.2], 75.0, 15.0, [5, 5, 5], [30, 10, 20]),
            ([0.3, 0.01], 50.0, 10.0, [5, 5], [35, 5]),  # 1.3 s would be too short
            ([0.38, 0.01, 0.01], 50.0, 10.0, [5, 6, 7], [27, 6, 7]),
            (
                [0.36, 0.02, 0.02],
                50.0,
                10.0,
                [30, 20, 4],
                [30, 20, 4],
            ),  # the least of all together are more than there is
            ([0.3, 0.1], 20.0, 15.0, [5, 5], [5, 5]),
            ([0.0, 0.0], 50.0, 10.0, [5, 5], [20, 20]),
            ([0.4], 50.0, 10.0, [5], [40]),
            (
                [0.24, 0.08, 0.08],
                50.0,
                10.0,
                [5, 12, 5],
                [21, 12, 7],
            ),  # 24, 8, 8; then 28 s in the ratio of 3 to 1
            ([0.25, 0.1, 0.05], 50.0, 10.0, [5, 5, 18], [22 * 5 / 7, 22 * 2 / 7, 18]),
            (
                [0.2, 0.1, 0.1],
                50.0,
                10.0,
                [5, 9.6, 12],
                [18.4, 9.6, 12],
            ),  # 12 takes so much that 9.33 is too short for the second, at the second look
        ],
    )
    def test_share_out_what_is_left_of_the_cycle_and_keep_the_least(
        self, ratios, cycle, lost, least, greens
    ):
        found = splits(np.array(ratios), cycle, lost, np.array(least, float))
        assert found == pytest.approx(greens, abs=2e-3)

    @given(
        st.lists(st.tuples(st.floats(0, 1), st.floats(0, 20)), min_size=1, max_size=5),
        st.floats(40, 120),
        st.floats(0, 20),
    )
    def test_fill_the_cycle_keep_the_least_and_those_above_it_are_in_proportion(
        self, rows, cycle, lost
    ):
        y, least = (np.array(x) for x in zip(*rows, strict=True))
        greens = splits(y, cycle, lost, least)
        assert (greens >= least - 1e-9).all()
        assert greens.sum() == pytest.approx(max(cycle - lost, least.sum()))
        above = [k for k in range(len(y)) if greens[k] > least[k] + 1e-6]
        for a, b in itertools.pairwise(above):
            assert greens[a] * (y[b] + 1e-6) == pytest.approx(greens[b] * (y[a] + 1e-6))


class TestRatios:
    @pytest.mark.parametrize(
        ("lanes", "serves", "ratios"),
        [
            ([0.3, 0.2], [[1, 0], [0, 1]], [0.3, 0.2]),
            ([0.3, 0.2], [[1, 1], [0, 0]], [0.3, 0]),  # the greater of two lanes of one stage
            ([0.2, 0.3], [[1, 1], [0, 0]], [0.3, 0]),
            (
                [0.3, 0.2, 0.4],
                [[1, 0, 1], [0, 1, 1]],
                [0.3, 0.2],
            ),  # the third is served by both, 0.5 in all
            (
                [0.3, 0.2, 0.6],
                [[1, 0, 1], [0, 1, 1]],
                [0.4, 0.2],
            ),  # 0.1 is missing: to the first of those who serve it alike
            (
                [0.3, 0.2, 0.6],
                [[1, 0, 0.4], [0, 1, 1]],
                [0.3, 0.48],
            ),  # 0.6 - 0.12 - 0.2 = 0.28 missing, to the one that serves it best
            ([0.2], [[0.4], [0]], [0.5, 0]),  # permissive: 0.2 / 0.4
            (
                [0.3, 0.2],
                [[1, 0.4], [0, 0]],
                [0.5, 0],
            ),  # 0.3 serves 0.12 of it, 0.08 missing: 0.2 more
            (
                [0.2, 0.3],
                [[0.4, 1], [0, 0]],
                [0.5, 0],
            ),  # the greater first, in whatever order they stand
            (
                [0.4, 0.2],
                [[1, 0.4], [0.4, 1]],
                [0.4, 0.04],
            ),  # both by both: the greater first, then 0.2 - 0.16 are missing
            ([0.2, 0.4], [[0.4, 1], [1, 0.4]], [0.4, 0.04]),
            ([0.5], [[0], [0]], [0, 0]),  # nobody serves it
            ([0.0], [[1], [0]], [0, 0]),
            (
                [0.5, 0.1],
                [[1, 0], [1, 1]],
                [0.4, 0.1],
            ),  # who has one stage alone comes first, though smaller
        ],
    )
    def test_are_what_each_stages_lanes_need(self, lanes, serves, ratios):
        assert critical_ratios(np.array(lanes), np.array(serves, float)) == pytest.approx(
            np.array(ratios)
        )


@pytest.mark.parametrize(
    ("ratios", "lit", "needed"),
    [
        ([0.3, 0.2], ["10", "01"], [1, 1]),
        ([0.3, 0.0], ["10", "10"], [1, 0]),
        ([0.3, 0.0], ["10", "01"], [1, 1]),  # alone lights the second group
        ([0.0, 0.0], ["10", "01"], [1, 1]),
        ([0.0, 0.0], ["10", "11"], [1, 1]),  # at the first's turn nobody is used
        ([0.0, 0.0], ["11", "10"], [1, 0]),
        ([0.0, 0.3], ["10", "11"], [0, 1]),
        ([0.0, 0.3, 0.0], ["100", "010", "001"], [1, 1, 1]),
        ([0.0, 0.3, 0.0], ["100", "110", "011"], [0, 1, 1]),
        ([0.0], ["00"], [1]),  # the only stage there is
        ([0.0, 0.2], ["00", "11"], [0, 1]),  # lights nothing
    ],
)
def test_a_stage_is_needed_that_has_traffic_or_alone_lights_a_group(ratios, lit, needed):
    assert stages_needed(
        np.array(ratios), np.array([[x == "1" for x in row] for row in lit])
    ).tolist() == [bool(x) for x in needed]


def shared():
    """Lanes a (to groups 0 straight and 1 left), b (group 2) and c (group 3, at right angles);
    lost time and least differ.
    """
    lanes = [(n, 100, 10) for n in "abcx"]
    links = [
        ("a", "x", 0, "s", 10, 10, 1),
        ("a", "x", 1, "l", 10, 10, 1),
        ("b", "x", 2, "s", 10, 10, 1),
        ("c", "x", 3, "s", 10, 10, 1),
    ]
    return lanes, links


class TestPlan:
    def test_of_two_stages_is_worked_out_from_the_rates(self):
        # 540 and 360 veh/h: ratios 0.3 and 0.2; yellow and clearance 3 + 1 s, 2 s start-up lost, 2
        # s gained: 4 s lost a stage
        # cycle (12 + 5) / 0.5 = 34 s, but 40 at the shortest; 32 s in the ratio of 3 to 2, and 4 s
        # behind each
        net = pair()
        one = Webster(net, timing(net, clearance=1.0))
        rates = np.zeros(7)
        rates[4], rates[5] = 540 / 3600, 360 / 3600
        assert one.plan(1, rates).ends_s == pytest.approx([23.2, 40.0], abs=1e-3)

    def test_links_of_one_lane_are_added_and_each_junction_has_its_own(self):
        # lane a: 360 + 180 veh/h = 0.3; b 0.1; c 0.2. Lost 3 x 3.5 s: cycle (15.75 + 5) / 0.4 =
        # 51.875, 41.375 s of green
        net = pair()
        one = Webster(net, timing(net, yellow=3.5))
        rates = np.array([360, 180, 180, 360, 900, 900, 900]) / 3600
        assert one.plan(0, rates).ends_s == pytest.approx(
            np.cumsum([41.375 / 2 + 3.5, 41.375 / 6 + 3.5, 41.375 / 3 + 3.5]), abs=1e-3
        )

    def test_lost_time_is_the_intergreen_to_the_next_stage_and_least_green_of_the_slowest_group(
        self,
    ):
        # no traffic: 40 s; of 5 + 3 + 4 s lost, 28 s are left; 12 s is the least of the first, 8 s
        # each for the others
        net = pair()
        one = Webster(
            net,
            timing(
                net,
                yellow=[4.0, 3.0, 3.5, 3, 3],
                clearance=[1.0, 0.0, 0.5, 0, 0],
                least=[12.0, 5, 5, 5, 5],
            ),
        )
        assert one.plan(0, np.zeros(7)).ends_s == pytest.approx([17.0, 28.0, 40.0])

    def test_groups_that_go_on_lose_nothing(self):
        # group 0 is lit in both stages: only 1 to 2 and back takes an intergreen, 3 s and 5 s
        lanes = [(n, 100, 10) for n in "abcx"]
        net = network(
            lanes,
            [(a, "x", g, "s", 10, 10, 1) for g, a in enumerate("abc")],
            [junction("J", 0, ["GGr", "GrG"], [(1, 2)])],
        )
        one = Webster(net, timing(net, yellow=[9.0, 3.0, 5.0]))
        rates = (
            np.array([900, 360, 360]) / 3600
        )  # lane a needs 0.5, which 0.2 and 0.2 do not serve in full
        # ratios: 0.2, 0.2, then 0.1 missing to the first: 0.3 and 0.2; cycle (12 + 5) / 0.5 = 34 to
        # 40; 32 s
        assert one.plan(0, rates).ends_s == pytest.approx([19.2 + 3.0, 40.0], abs=1e-3)

    def test_a_lane_goes_at_the_pace_of_its_slowest_link(self):
        # lane a: straight protected, left permissive in the first stage: 0.4 of the saturation
        # flow. 180 + 108 = 288 veh/h: 0.16 / 0.4 = 0.4
        lanes, links = shared()
        net = network(
            lanes,
            links,
            [junction("J", 0, ["GgGr", "rrrG"], [(0, 3), (1, 3), (1, 2), (2, 3)], [(1, 2)])],
        )
        one = Webster(net, timing(net))
        rates = (
            np.array([180, 108, 360, 360]) / 3600
            # b 0.2 in the same stage; c 0.2. cycle (9 + 5) / 0.4 = 35 to 40; 34 s in the ratio of 2
            # to 1
        )
        assert one.plan(0, rates).ends_s == pytest.approx([34 * 2 / 3 + 3, 40.0], abs=1e-3)

    def test_a_lane_whose_links_never_run_together_is_served_by_whichever_runs(self):
        # straight in the first stage, left in the second: 0.3 of the lane go to the first, which
        # has it alone at the first look
        lanes, links = shared()
        net = network(
            lanes,
            links,
            [junction("J", 0, ["GrGr", "rGrr", "rrrG"], [(0, 1), (0, 3), (1, 3), (1, 2), (2, 3)])],
        )
        one = Webster(net, timing(net, least=2.0))
        rates = np.array([360, 180, 180, 360]) / 3600
        # c 0.2 and b 0.1 first; a misses 0.3 - 0.1 = 0.2 and the first stage gets it: 0.3, 0, 0.2;
        # the second alone lights group 1 and gets its least lost 9 s; cycle (13.5 + 5) / 0.5 = 37
        # to 40; 31 s less the least of 2 s
        assert one.plan(0, rates).ends_s == pytest.approx(
            np.cumsum([29 * 0.6 + 3, 2 + 3, 29 * 0.4 + 3]), abs=1e-3
        )

    def test_so_it_is_at_a_second_junction(self):
        lanes, links = shared()
        links = [("q", "x", 0, "s", 10, 10, 1)] + [(a, b, g + 1, *more) for a, b, g, *more in links]
        junctions = [
            junction("I", 0, ["G"]),
            junction("J", 1, ["GrGr", "rGrr", "rrrG"], [(0, 1), (0, 3), (1, 3), (1, 2), (2, 3)]),
        ]
        net = network([("q", 100, 10), *lanes], links, junctions)
        rates = np.array([0, 360, 180, 180, 360]) / 3600
        assert Webster(net, timing(net, least=2.0)).plan(1, rates).ends_s == pytest.approx(
            np.cumsum([29 * 0.6 + 3, 2 + 3, 29 * 0.4 + 3]), abs=1e-3
        )

    def test_a_stage_without_traffic_that_lights_nothing_of_its_own_is_left_out(self):
        lanes, links = shared()
        net = network(
            lanes, links, [junction("J", 0, ["GGGr", "GGrr", "rrrG"], [(0, 3), (1, 3), (2, 3)])]
        )
        one = Webster(net, timing(net))
        rates = (
            np.array([0, 0, 540, 540]) / 3600
            # lost: 0 from the first to the second (3 s of group 2 do not conflict with what begins:
            # 0), 3, 3
        )
        # used are the first and the third: 0 s and 3 s lost; cycle (4.5 + 5) / 0.4 = 23.75 to 40;
        # 37 s by halves
        assert one.plan(0, rates).ends_s == pytest.approx([18.5, 18.5, 40.0], abs=1e-3)

    def test_saturated_traffic_gets_the_longest_cycle_and_bounds_may_be_given(self):
        net = pair()
        rates = np.array([0, 0, 0, 0, 900, 900, 0]) / 3600
        assert Webster(net, timing(net)).plan(1, rates).ends_s == pytest.approx([60.0, 120.0])
        assert Webster(net, timing(net), CycleBounds(30.0, 90.0)).plan(
            1, rates
        ).ends_s == pytest.approx([45.0, 90.0])
        assert Webster(net, timing(net), CycleBounds(30.0, 90.0)).plan(
            1, rates * 0
        ).ends_s == pytest.approx([15.0, 30.0])


class TestSteps:
    def start(self, at_s=100.0):
        net = pair()
        one = Webster(net, timing(net))
        return net, one, one.start(observed(net, at_s, [], "GrrGr"))

    def test_it_starts_with_a_plan_without_traffic_that_begins_now(self):
        _, _, state = self.start()
        # 3 x 3 s lost of 40: 31 s by thirds; 2 x 3 s lost: 34 s by halves
        assert state.plans[0].ends_s == pytest.approx([31 / 3 + 3, 62 / 3 + 6, 40.0])
        assert state.plans[1].ends_s == pytest.approx([20.0, 40.0])
        assert (state.rates.tolist(), state.learnt_s, state.at_s, state.began_s.tolist()) == (
            [0.0] * 7,
            0.0,
            100.0,
            [100.0, 100.0],
        )

    @pytest.mark.parametrize(
        ("into", "wanted"),
        [
            (0.0, "GrrGr"),
            (13.3, "GrrGr"),
            (13.4, "rGrGr"),
            (19.9, "rGrGr"),
            (20.0, "rGrrG"),
            (26.6, "rGrrG"),
            (26.7, "rrGrG"),
            (39.9, "rrGrG"),
        ],
    )
    def test_the_stage_is_that_of_the_place_in_the_cycle(self, into, wanted):
        net, one, state = self.start()
        proposal, after = one.step(observed(net, 100.0 + into, [], "rrrrr"), state)
        assert letters(proposal.wanted) == wanted
        assert (proposal.at_s, proposal.controller, proposal.confidence.tolist()) == (
            100.0 + into,
            "webster",
            [1.0, 1.0],
        )
        assert after.began_s.tolist() == [100.0, 100.0]
        assert after.at_s == 100.0 + into

    def test_a_stage_whose_end_is_reached_within_a_millionth_is_over(self):
        net, one, state = self.start()
        assert (
            letters(one.step(observed(net, 120.0 - 5e-7, [], "rrrrr"), state)[0].wanted) == "rGrrG"
        )
        assert (
            letters(one.step(observed(net, 120.0 - 5e-6, [], "rrrrr"), state)[0].wanted) == "rGrGr"
        )

    def test_at_the_end_of_a_cycle_the_plan_is_worked_out_anew_from_what_came(self):
        net, one, state = self.start()
        arrived = {4: 6, 5: 3}  # in 20 s, a third of a minute: 0.1 and 0.05 veh/s
        _, state = one.step(observed(net, 120.0, [], "rrrrr", arrived=arrived), state)
        assert state.rates == pytest.approx([0, 0, 0, 0, 0.1, 0.05, 0])
        assert (state.learnt_s, state.at_s) == (20.0, 120.0)
        assert state.plans[1].ends_s == pytest.approx([20.0, 40.0]), "not within a cycle"
        proposal, state = one.step(observed(net, 140.0 - 5e-7, [], "rrrrr", arrived=arrived), state)
        assert letters(proposal.wanted) == "GrrGr"
        # 0.1 + (0.3 - 0.1) / 3 and 0.05 + (0.15 - 0.05) / 3 veh/s: ratios 1/3 and 1/6; cycle (9 +
        # 5) / 0.5 = 28 to 40; 34 s in the ratio of 2 to 1
        assert state.rates == pytest.approx([0, 0, 0, 0, 1 / 6, 1 / 12, 0])
        assert state.plans[1].ends_s == pytest.approx([34 * 2 / 3 + 3, 40.0], abs=1e-3)
        assert state.began_s == pytest.approx([140.0, 140.0])

    def test_each_junction_ends_its_own_cycle(self):
        net, one, _ = self.start()
        state = WebsterState(
            np.zeros(7),
            0.0,
            0.0,
            (Plan(np.array([10.0, 20.0, 30.0])), Plan(np.array([25.0, 50.0]))),
            np.array([0.0, 5.0]),
        )
        proposal, after = one.step(observed(net, 30.0, [], "rrrrr"), state)
        assert letters(proposal.wanted) == "GrrrG"  # 25 s into the second's cycle, of 50
        assert after.began_s.tolist() == [30.0, 5.0]
        assert after.plans[0].ends_s[-1] == pytest.approx(40.0)
        assert after.plans[1] is state.plans[1]

    def test_a_green_short_of_its_least_is_kept(self):
        net, one, state = self.start()
        assert letters(one.step(observed(net, 120.0, [], "rrrGr", 4.0), state)[0].wanted) == "rGrGr"

    def test_its_memory_is_a_quarter_of_an_hour(self):
        net, one, state = self.start()
        state = WebsterState(np.full(7, 0.5), 890.0, 100.0, state.plans, state.began_s)
        _, after = one.step(observed(net, 109.0, [], "rrrrr"), state)
        assert after.rates == pytest.approx(np.full(7, 0.5 - 0.5 * 9 / 899))
        state = WebsterState(np.full(7, 0.5), 899.0, 100.0, state.plans, state.began_s)
        _, after = one.step(observed(net, 109.0, [], "rrrrr"), state)
        assert after.rates == pytest.approx(np.full(7, 0.5 - 0.5 * 9 / 900))
        assert after.learnt_s == 900.0
