"""Fixed time, actuated, greedy and max-pressure on two junctions made by hand,
where each decision is known.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
from tests.control.builders import colours, junction, letters, network, observed, pair, timing

from headway.control.actuated import Actuated, ActuatedState
from headway.control.catalogue import CONTROLLERS, controller
from headway.control.fixed import FixedTime
from headway.control.pressure import Aim, Greedy, MaxPressure
from headway.control.stages import FlowMeter, StageTable, demand, may_change

STAGES = ["GrrGr", "rGrrG", "rrG"]


def aim(first, second=0, next_s=(100.0, 100.0)):
    return Aim(np.array([first, second], np.int32), np.array(next_s))


def since(first, second=0, began_s=(100.0, 100.0)):
    return ActuatedState(np.array([first, second], np.int32), np.array(began_s))


@pytest.mark.parametrize("name", list(CONTROLLERS))
def test_a_step_changes_nothing_that_it_was_given_and_repeats_itself(name):
    net = pair()
    one = controller(name, net, timing(net))
    seen = observed(
        net,
        130.0,
        [(2, 5.0, 0.0, 40.0), (3, 30.0, 8.0), (5, 8.0, 0.0, 9.0)],
        "GrrGr",
        arrived={2: 3, 5: 1},
        count={"x": 4},
        persons={1: 2},
    )
    _, state = one.step(seen, one.start(observed(net, 0.0, [], "GrrGr")))
    before, given = copy.deepcopy(state), copy.deepcopy(seen)
    first, _ = one.step(seen, state)
    again, _ = one.step(seen, state)
    assert repr(state) == repr(before)
    assert repr(seen) == repr(given)
    assert (first.wanted == again.wanted).all()
    assert first.wanted.shape == (5,)
    assert first.at_s == 130.0
    assert first.controller == one.name == name
    assert first.confidence.shape == (2,)
    assert ((first.confidence >= 0) & (first.confidence <= 1)).all()


def test_the_catalogue_makes_what_is_asked_for_and_refuses_a_name_that_it_does_not_know():
    net = pair()
    assert {name: type(controller(name, net, timing(net))).__name__ for name in CONTROLLERS} == {
        "fixed": "FixedTime", "webster": "Webster", "actuated": "Actuated", "greedy": "Greedy",
        "max-pressure": "MaxPressure", "planner": "Planner",
        "q-learning": "QLearning",
    }  # fmt: skip
    with pytest.raises(
        ValueError,
        match=r"^no controller 'magic'. There are: fixed, webster, actuated, greedy, "
        r"max-pressure, planner, q-learning.$",
    ):
        controller("magic", net, timing(net))


@pytest.mark.parametrize(
    ("at_s", "wanted"),
    [
        # the first cycle is 30 + 3 + 10 + 7 = 50 s; the second 25 + 15 = 40 s and begins 10 s late
        (0.0, "GrrrG"), (9.0, "GrrrG"), (10.0, "GrrGr"), (29.9, "GrrGr"), (30.0, "yrrGr"),
        (33.0, "rGrGr"), (34.9, "rGrGr"), (35.0, "rGrrG"),
        (43.0, "rrGrG"), (49.9, "rrGrG"), (50.0, "GrrGr"),
    ],
)  # fmt: skip
def test_fixed_time_shows_the_programmes_phase_of_the_clock(at_s, wanted):
    net = pair()
    one = FixedTime(net, timing(net))
    seen = observed(net, at_s, [], "rrrrr")
    assert one.start(seen) is None
    proposal, state = one.step(seen, None)
    assert letters(proposal.wanted) == wanted
    assert (proposal.at_s, proposal.controller, proposal.confidence.tolist(), state) == (
        at_s,
        "fixed",
        [1.0, 1.0],
        None,
    )


class TestStageTable:
    def test_holds_the_stages_of_all_junctions_padded_with_red(self):
        net = pair()
        table = StageTable(net, timing(net))
        assert table.ptr.tolist() == [0, 3, 5]
        assert table.count.tolist() == [3, 2]
        assert [letters(row) for row in table.colours] == ["Grr", "rGr", "rrG", "Grr", "rGr"]

    def test_with_every_it_holds_all_compatible_stages_those_of_the_programme_first(self):
        # 1 and 2 cross 0 but not each other; the programme never shows them together
        lanes = [(n, 100, 10) for n in "abcx"]
        net = network(
            lanes,
            [(a, "x", g, "s", 10, 10, 1) for g, a in enumerate("abc")],
            [junction("J", 0, ["rGr", "Grr", "rrG"], [(0, 1), (0, 2)])],
        )
        every = StageTable(net, timing(net), every=True)
        assert [letters(row) for row in every.colours[:3]] == ["rGr", "Grr", "rrG"]
        assert sorted(letters(row) for row in every.colours) == ["Grr", "rGG", "rGr", "rrG"]
        assert every.count.tolist() == [4]
        assert StageTable(net, timing(net)).count.tolist() == [3]

    @pytest.mark.parametrize(
        ("first", "second", "wanted"),
        [(0, 0, "GrrGr"), (1, 0, "rGrGr"), (2, 1, "rrGrG"), (0, 1, "GrrrG")],
    )
    def test_wanted_is_the_stage_of_each_junction(self, first, second, wanted):
        net = pair()
        assert (
            letters(StageTable(net, timing(net)).wanted(np.array([first, second], np.int32)))
            == wanted
        )

    @pytest.mark.parametrize(
        ("shown", "age", "wanted"),
        [
            ("GrrGr", 5.0, "rrGrG"),  # all have had their least of 5 s
            (
                "GrrGr",
                4.9,
                "GrrGr",
            ),  # none has: each green stays, and who conflicts with it stays red
            ("grrgr", 4.9, "grrgr"),  # so does a permissive one
            ("yrryr", 4.9, "rrGrG"),  # yellow is no green
            ("GrrGr", [4.9, 0, 0, 5.0, 0], "GrrrG"),
            ("GrrGr", [5.0, 0, 0, 4.9, 0], "rrGGr"),
            (
                "GrGGr",
                [4.9, 0, 4.9, 5.0, 0],
                "GrGrG",
            ),  # what is green already beside it is not ended by it
            ("rrGrG", 1.0, "rrGrG"),  # wanted and shown: nothing to do
        ],
    )
    def test_a_green_short_of_its_least_stays_and_who_conflicts_with_it_waits(
        self, shown, age, wanted
    ):
        net = pair()
        table = StageTable(net, timing(net))
        seen = observed(net, 100.0, [], shown, age)
        target = np.array([2, 1], np.int32)
        assert letters(table.wanted_after_min_green(target, seen)) == wanted
        assert target.tolist() == [2, 1]

    def test_a_millionth_of_a_second_short_is_long_enough(self):
        net = pair()
        table, target = StageTable(net, timing(net)), np.array([2, 1], np.int32)
        assert (
            letters(
                table.wanted_after_min_green(target, observed(net, 0.0, [], "GrrGr", 5.0 - 1e-6))
            )
            == "rrGrG"
        )
        assert (
            letters(
                table.wanted_after_min_green(target, observed(net, 0.0, [], "GrrGr", 5.0 - 2e-6))
            )
            == "GrrGr"
        )
        assert may_change(
            net, timing(net), target * 0, table, observed(net, 0.0, [], "GrrGr", 5.0 - 1e-6)
        ).all()
        assert not may_change(
            net, timing(net), target * 0, table, observed(net, 0.0, [], "GrrGr", 5.0 - 2e-6)
        ).any()

    def test_a_green_that_becomes_permissive_is_not_kept_and_one_beside_a_kept_one_does_not_rise(
        self,
    ):
        # 1 gives way to 0: both may be lit, 1 permissive
        net = self.left_turn()
        table = StageTable(net, timing(net, least=[5.0, 5.0, 5.0]))
        assert (
            letters(
                table.wanted_after_min_green(
                    np.array([1], np.int32), observed(net, 0.0, [], "rGr", 2.0)
                )
            )
            == "rgr"
        )
        assert (
            letters(
                table.wanted_after_min_green(
                    np.array([2], np.int32), observed(net, 0.0, [], "Ggr", [2.0, 9.0, 0.0])
                )
            )
            == "Ggr"
        )
        assert (
            letters(
                table.wanted_after_min_green(
                    np.array([2], np.int32), observed(net, 0.0, [], "Ggr", [5.0, 9.0, 0.0])
                )
            )
            == "rGr"
        )
        assert (
            letters(
                table.wanted_after_min_green(
                    np.array([2], np.int32), observed(net, 0.0, [], "GGr", [2.0, 9.0, 0.0])
                )
            )
            == "GGr"
        )

    def left_turn(self):
        lanes = [(n, 100, 10) for n in "abcx"]
        links = [(a, "x", g, "s", 10, 10, 1) for g, a in enumerate("abc")]
        return network(
            lanes,
            links,
            [junction("J", 0, ["Ggr", "rgr", "rGr", "rrG"], [(0, 1), (0, 2), (1, 2)], [(1, 0)])],
        )

    def test_a_permissive_green_that_is_aimed_at_must_be_shown_too(self):
        net = self.left_turn()
        table = StageTable(net, timing(net))
        for shown, free in (("Grr", False), ("Gyr", False), ("Ggr", True), ("GGr", True)):
            assert may_change(
                net, timing(net), np.array([0], np.int32), table, observed(net, 0.0, [], shown)
            ).tolist() == [free]

    def test_only_those_in_conflict_wait(self):
        # 0 crosses 1 alone; 2 crosses nobody
        lanes = [(n, 100, 10) for n in "abcx"]
        net = network(
            lanes,
            [(a, "x", g, "s", 10, 10, 1) for g, a in enumerate("abc")],
            [junction("J", 0, ["Grr", "rGG"], [(0, 1)])],
        )
        table = StageTable(net, timing(net, least=[5.0, 8.0, 5.0]))
        assert (
            letters(
                table.wanted_after_min_green(
                    np.array([1], np.int32), observed(net, 0.0, [], "Grr", 4.0)
                )
            )
            == "GrG"
        )
        assert (
            letters(
                table.wanted_after_min_green(
                    np.array([1], np.int32), observed(net, 0.0, [], "Grr", 5.0)
                )
            )
            == "rGG"
        )
        assert (
            letters(
                table.wanted_after_min_green(
                    np.array([0], np.int32), observed(net, 0.0, [], "rGr", 7.9)
                )
            )
            == "rGr"
        )
        assert (
            letters(
                table.wanted_after_min_green(
                    np.array([0], np.int32), observed(net, 0.0, [], "rGr", 8.0)
                )
            )
            == "Grr"
        )


@pytest.mark.parametrize(
    ("target", "shown", "age", "free"),
    [
        ((0, 0), "GrrGr", 5.0, [True, True]),
        ((0, 0), "GrrGr", 4.99, [False, False]),
        ((0, 0), "GrrGr", [5.0, 0, 0, 4.99, 0], [True, False]),
        ((0, 0), "GrrGr", [4.99, 9, 9, 5.0, 9], [False, True]),
        ((1, 0), "GrrGr", 60.0, [False, True]),  # what is aimed at is not shown yet
        ((1, 1), "GrrGr", 60.0, [False, False]),
        ((1, 0), "yrrgr", 60.0, [False, True]),  # yellow is no green, permissive is one
        ((0, 0), "GrGGr", [9, 0, 0, 9, 0], [True, True]),  # other greens are no matter
    ],
)
def test_a_junction_may_change_once_its_aim_is_shown_and_each_green_has_had_its_least(
    target, shown, age, free
):
    net = pair()
    table = StageTable(net, timing(net))
    assert (
        may_change(
            net, timing(net), np.array(target, np.int32), table, observed(net, 0.0, [], shown, age)
        ).tolist()
        == free
    )


def test_demand_counts_those_near_the_line_and_who_waits_on_foot():
    net = pair()
    rows = [
        (0, 0.0, 0),
        (1, 200.0, 9),
        (2, 200.1, 9),
        (2, -0.1, 0),
        (3, 50, 0),
        (3, 60, 0),
        (5, 10, 0),
        (6, 10, 0),
        (-1, 10, 0),
    ]
    seen = observed(net, 0.0, rows, "rrrrr", persons={1: 2, 3: 1, 4: 3})
    assert demand(net, seen).tolist() == [
        2,
        2,
        2,
        1,
        4,
    ]  # links 0 and 1 are group 0; under no signal, unknown, too far and inside count nowhere
    assert demand(net, seen, within_m=50.0).tolist() == [1, 2, 1, 1, 4]


def last_link_signalled():
    """Three stages on one group each; the last link has a signal, so that -1, for unknown,
    must not be taken for it.
    """
    lanes = [(n, 100, 10) for n in "abcdx"]
    stages = ["Grrr", "rGrr", "rrGr", "rrrG"]
    foes = [(a, b) for a in range(4) for b in range(a)]
    return network(
        lanes,
        [(a, "x", g, "s", 10, 10, 1) for g, a in enumerate("abcd")],
        [junction("J", 0, stages, foes)],
    )


def test_a_vehicle_whose_link_is_unknown_is_nobodys():
    net = last_link_signalled()
    seen = observed(net, 130.0, [(-1, 5, 0), (1, 50, 0)], "rrrG")
    assert demand(net, seen).tolist() == [0, 1, 0, 0]
    state = ActuatedState(np.array([3], np.int32), np.array([100.0]))
    assert Actuated(net, timing(net)).step(seen, state)[1].target.tolist() == [1]


class TestFlowMeter:
    def rates(self, memory_s, *steps, rates=(0.0, 0.0), learnt=0.0):
        found = np.array(rates)
        for arrived, period in steps:
            found, learnt = FlowMeter(memory_s).step(
                found, learnt, np.array(arrived, np.int32), period
            )
        return found.tolist(), learnt

    def test_in_the_first_minute_a_step_counts_by_its_share_of_a_minute(self):
        assert self.rates(900.0, ([6, 0], 12.0)) == (
            [pytest.approx(0.1), 0.0],
            12.0,
        )  # 6 / 12 s = 0.5, times 12 / 60

    def test_it_is_a_plain_mean_after_that(self):
        found, learnt = self.rates(900.0, *[([k % 3, 2], 10.0) for k in range(12)])
        assert learnt == 120.0
        assert found[1] == pytest.approx(
            0.2
            * (1 - (5 / 6) ** 6 * (6 / 7) * (7 / 8) * (8 / 9) * (9 / 10) * (10 / 11) * (11 / 12))
        )
        later, _ = self.rates(900.0, ([7, 1], 10.0), rates=(0.2, 0.4), learnt=190.0)
        assert later == pytest.approx([0.2 + (0.7 - 0.2) / 20, 0.4 + (0.1 - 0.4) / 20])

    def test_and_an_exponential_mean_once_its_memory_is_full(self):
        found, learnt = self.rates(900.0, ([9, 0], 9.0), rates=(0.5, 0.5), learnt=895.0)
        assert learnt == 900.0
        assert found == pytest.approx([0.5 + 0.5 * 9 / 900, 0.5 - 0.5 * 9 / 900])

    def test_one_step_never_counts_more_than_wholly(self):
        assert self.rates(50.0, ([30, 60], 120.0), rates=(9.0, 9.0)) == ([0.25, 0.5], 50.0)

    def test_a_step_may_be_shorter_than_a_second(self):
        assert self.rates(900.0, ([1, 0], 0.5)) == ([pytest.approx(2.0 / 120), 0.0], 0.5)

    @pytest.mark.parametrize("period", [0.0, -1.0])
    def test_no_time_no_news(self, period):
        assert self.rates(900.0, ([5, 5], period), rates=(0.3, 0.1), learnt=70.0) == (
            [0.3, 0.1],
            70.0,
        )


class TestActuated:
    def step(self, rows=(), shown="GrrGr", state=None, at_s=130.0, **more):
        net = pair()
        one = Actuated(net, timing(net))
        proposal, state = one.step(observed(net, at_s, rows, shown, **more), state or since(0))
        assert (proposal.at_s, proposal.controller, proposal.confidence.tolist()) == (
            at_s,
            "actuated",
            [1.0, 1.0],
        )
        return letters(proposal.wanted), state.target.tolist(), state.began_s.tolist()

    def test_it_starts_with_the_first_stage_of_each_junction_now(self):
        net = pair()
        state = Actuated(net, timing(net)).start(observed(net, 33.0, [], "rrrrr"))
        assert (state.target.tolist(), state.began_s.tolist()) == ([0, 0], [33.0, 33.0])

    def test_it_rests_in_green_while_nobody_asks_for_another(self):
        assert self.step([(0, 150.0, 10.0)]) == ("GrrGr", [0, 0], [100.0, 100.0])

    def test_it_goes_to_the_next_stage_in_turn_that_somebody_asks_for(self):
        assert self.step([(2, 50, 0), (3, 50, 0)]) == ("rGrGr", [1, 0], [130.0, 100.0])
        assert self.step([(3, 50, 0)]) == ("rrGGr", [2, 0], [130.0, 100.0])
        assert self.step([(5, 50, 0)]) == ("GrrrG", [0, 1], [100.0, 130.0])
        assert self.step(persons={2: 1}) == ("rrGGr", [2, 0], [130.0, 100.0])

    def test_the_turn_goes_on_from_the_present_stage_and_round(self):
        rows = [(0, 50, 0), (2, 50, 0), (3, 50, 0), (4, 50, 0)]
        assert self.step(rows, "rGrrG", since(1, 1)) == ("rrGGr", [2, 0], [130.0, 130.0])
        assert self.step(rows, "rrGrG", since(2, 1)) == ("GrrGr", [0, 0], [130.0, 130.0])

    def test_the_first_in_turn_that_somebody_asks_for_is_next_however_many_follow(self):
        net = last_link_signalled()
        seen = observed(net, 130.0, [(1, 50, 0), (2, 50, 0), (3, 50, 0)], "Grrr")
        state = ActuatedState(np.array([0], np.int32), np.array([100.0]))
        assert Actuated(net, timing(net)).step(seen, state)[1].target.tolist() == [1]

    def test_who_is_lit_already_asks_for_nothing(self):
        assert self.step([(2, 50, 0)], "GGrGr") == ("GrrGr", [0, 0], [100.0, 100.0])
        assert self.step([(2, 50, 0)], "GgrGr") == ("GrrGr", [0, 0], [100.0, 100.0])
        assert self.step([(2, 50, 0)], "GyrGr") == ("rGrGr", [1, 0], [130.0, 100.0])

    @pytest.mark.parametrize(
        ("distance", "speed", "holds"),
        [
            (30.0, 10.0, True),
            (30.1, 10.0, False),
            (6.0, 0.0, True),
            (6.1, 0.0, False),
            (6.0, 2.0, True),
            (7.5, 2.5, True),
            (7.6, 2.5, False),
        ],
    )
    def test_a_green_ends_when_nobody_is_within_three_seconds_of_the_line(
        self, distance, speed, holds
    ):
        # a standing vehicle is taken to go 2 m/s
        assert self.step([(1, distance, speed), (2, 50, 0)])[1] == ([0, 0] if holds else [1, 0])

    def test_each_junctions_own_traffic_extends_it(self):
        rows = [(0, 5, 10), (2, 50, 0), (5, 50, 0)]
        assert self.step(rows)[1] == [0, 1]
        assert self.step([(4, 5, 10), *rows[1:]])[1] == [1, 0]

    def test_traffic_on_red_or_without_a_known_link_extends_nothing(self):
        assert self.step([(2, 5, 0)])[1] == [1, 0]
        assert self.step([(-1, 5, 0), (2, 50, 0)])[1] == [1, 0]
        assert self.step([(6, 5, 0), (4, 50, 0)], "GrrrG", since(0, 1))[1] == [0, 0], (
            "a link under no signal is no traffic of the last group"
        )

    def test_only_a_protected_green_is_extended(self):
        lanes = [(n, 100, 10) for n in "abx"]
        net = network(
            lanes,
            [(a, "x", g, "s", 10, 10, 1) for g, a in enumerate("ab")],
            [junction("J", 0, ["gr", "rG"], [(0, 1)], [(0, 1)])],
        )
        one = Actuated(net, timing(net))
        state = ActuatedState(np.array([0], np.int32), np.array([100.0]))
        assert one.step(observed(net, 130.0, [(0, 5, 0), (1, 50, 0)], "gr"), state)[
            1
        ].target.tolist() == [1]

    def test_a_permissive_green_serves_who_asks(self):
        lanes = [(n, 100, 10) for n in "abx"]
        net = network(
            lanes,
            [(a, "x", g, "s", 10, 10, 1) for g, a in enumerate("ab")],
            [junction("J", 0, ["Gr", "rg"], [(0, 1)], [(1, 0)])],
        )
        state = ActuatedState(np.array([0], np.int32), np.array([100.0]))
        assert Actuated(net, timing(net)).step(observed(net, 130.0, [(1, 50, 0)], "Gr"), state)[
            1
        ].target.tolist() == [1]

    def test_it_ends_after_fifty_seconds_however_many_come(self):
        rows = [(0, 5, 10), (2, 50, 0)]
        assert self.step(rows, at_s=149.9)[1] == [0, 0]
        assert self.step(rows, at_s=150.0)[1] == [1, 0]
        assert self.step(rows, at_s=150.0, state=since(0, 0, (100.5, 100.0)))[1] == [0, 0]

    def test_it_waits_for_the_shortest_green(self):
        assert self.step([(2, 50, 0)], shown_for=4.9) == ("GrrGr", [0, 0], [100.0, 100.0])
        assert self.step([(2, 50, 0)], shown_for=5.0)[1] == [1, 0]


class TestGreedy:
    kind, name = Greedy, "greedy"

    def step(self, rows=(), shown="GrrGr", state=None, at_s=130.0, **more):
        net = pair()
        one = self.kind(net, timing(net))
        proposal, state = one.step(observed(net, at_s, rows, shown, **more), state or aim(0))
        assert (proposal.at_s, proposal.controller, proposal.confidence.tolist()) == (
            at_s,
            self.name,
            [1.0, 1.0],
        )
        return letters(proposal.wanted), state.target.tolist(), state.next_s.tolist()

    def test_it_starts_with_the_first_stage_of_each_junction_and_may_decide_at_once(self):
        net = pair()
        state = self.kind(net, timing(net)).start(observed(net, 33.0, [], "rrrrr"))
        assert (state.target.tolist(), state.next_s.tolist()) == ([0, 0], [33.0, 33.0])

    def test_most_vehicles_win_and_the_next_decision_is_five_seconds_later(self):
        rows = [(0, 50, 0), (2, 50, 0), (3, 50, 0), (3, 60, 0), (5, 60, 0)]
        assert self.step(rows) == ("rrGrG", [2, 1], [135.0, 135.0])

    def test_as_many_as_now_are_not_enough(self):
        assert self.step([(0, 50, 0), (2, 50, 0)]) == ("GrrGr", [0, 0], [135.0, 135.0])
        assert self.step([(0, 50, 0), (2, 50, 0)], "rGrGr", aim(1)) == (
            "rGrGr",
            [1, 0],
            [135.0, 135.0],
        )
        assert self.step([(2, 50, 0), (2, 60, 0), (3, 50, 0), (3, 60, 0)])[1] == [1, 0], (
            "of two that are better alike, the first"
        )

    def test_a_stage_with_less_than_none_is_left_for_one_with_none(self):
        assert self.step([], persons={0: 1, 1: 2})[1] == [1, 0]

    def test_it_decides_when_its_time_has_come_and_not_before(self):
        rows = [(2, 50, 0), (5, 50, 0)]
        assert self.step(rows, state=aim(0, 0, (130.0, 130.1))) == ("rGrGr", [1, 0], [135.0, 130.1])
        assert self.step(rows, at_s=130.0 - 1e-6, state=aim(0, 0, (130.0, 130.1)))[1] == [1, 0]
        assert self.step(rows, state=aim(0, 0, (130.0 + 5e-7, 130.0 + 5e-6)))[1] == [1, 0], (
            "a clock that adds up seconds is off by less than a millionth"
        )

    def test_it_waits_for_the_shortest_green(self):
        assert self.step([(2, 50, 0)], shown_for=4.9) == ("GrrGr", [0, 0], [100.0, 100.0])

    def test_a_stage_counts_all_that_it_lights(self):
        # stage 0 serves one protected and two permissive; stage 1 two
        lanes = [(n, 100, 10) for n in "abcx"]
        net = network(
            lanes,
            [(a, "x", g, "s", 10, 10, 1) for g, a in enumerate("abc")],
            [junction("J", 0, ["Grg", "rGr"], [(0, 1), (1, 2), (0, 2)], [(2, 0)])],
        )
        rows = [(0, 50, 0), (1, 50, 0), (1, 60, 0), (2, 50, 0), (2, 60, 0)]
        state = Aim(np.array([1], np.int32), np.array([0.0]))
        _, state = self.kind(net, timing(net)).step(observed(net, 130.0, rows, "rGr"), state)
        assert state.target.tolist() == [0]


class TestMaxPressure(TestGreedy):
    kind, name = MaxPressure, "max-pressure"

    def test_what_stands_behind_the_junction_counts_against(self):
        # group 1 leads to y, where 3 stand: 4 - 3 < 2; of group 0, its first link leads to x
        rows = [(0, 50, 0), (0, 60, 0), *[(2, 50 + k, 0) for k in range(4)]]
        assert self.step(rows, count={"y": 3})[1] == [0, 0]
        assert self.step(rows, count={"y": 1})[1] == [1, 0]
        assert self.step(rows, count={"y": 3, "x": 2})[1] == [1, 0], (
            "2 - 2 < 4 - 3; group 4 leads to x too: 0 - 2 is less than the 0 of group 3"
        )

    def test_the_worth_of_a_group_is_who_comes_less_who_stands_behind_its_first_link(self):
        net = pair()
        seen = observed(
            net,
            0.0,
            [(0, 5, 0), (1, 5, 0), (3, 5, 0)],
            "rrrrr",
            count={"x": 5, "y": 7, "z": 11, "o": 2, "a": 90},
        )
        assert MaxPressure(net, timing(net)).weights(seen).tolist() == [
            2 - 5,
            0 - 7,
            1 - 11,
            0 - 2,
            0 - 5,
        ]
        assert Greedy(net, timing(net)).weights(seen).tolist() == [2, 0, 1, 0, 0]


def test_letters_are_read_and_written_alike():
    assert letters(colours("rygG")) == "rygG"
