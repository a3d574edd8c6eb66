"""Q-learning as a controller: what it takes for a state, what it chooses,
and how sure it says it is; confidence by factor.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.control.builders import junction, letters, network, observed, pair, timing

from headway.control import qlearning
from headway.control.confidence import Confidence, freshness, novelty, performance
from headway.control.qlearning import Describer, QLearning, QState, hash_of
from headway.control.qtable import QTable, mix


@pytest.mark.parametrize(
    ("age", "worth"),
    [
        (0.0, 1.0),
        (1.0, 0.8),
        (2.5, 0.5),
        (5.0, 0.0),
        (6.0, 0.0),
        (-1.0, 1.0),
        (math.nan, 0.0),
        (math.inf, 0.0),
    ],
)
def test_freshness_falls_to_nought_in_five_seconds(age, worth):
    assert freshness(age) == pytest.approx(worth)


def test_novelty_is_a_half_at_twenty_visits():
    assert novelty(np.array([0.0, 5.0, 20.0, 60.0])).tolist() == [0.0, 0.2, 0.5, 0.75]


def test_performance_is_a_half_at_a_regret_of_one():
    assert performance(np.array([0.0, 1.0, 3.0, -7.0])).tolist() == [1.0, 0.5, 0.25, 1.0]


class TestConfidence:
    def test_is_the_geometric_mean_of_its_factors(self):
        c = Confidence(
            *(np.array(x) for x in ([1.0, 0.5], [0.5, 0.5], [0.25, 0.5], [0.5, 0.5], [0.5, 0.5]))
        )
        assert c.score == pytest.approx([(1 / 32) ** 0.2, 0.5])
        assert list(c.factors()) == [
            "freshness",
            "completeness",
            "novelty",
            "agreement",
            "performance",
        ]
        assert [float(x[0]) for x in c.factors().values()] == [1.0, 0.5, 0.25, 0.5, 0.5]

    @pytest.mark.parametrize("place", range(5))
    def test_one_that_is_nought_leaves_nothing_and_none_counts_for_more_than_one(self, place):
        factors = [np.ones(1)] * 5
        factors[place] = np.array([0.0])
        assert Confidence(*factors).score.tolist() == [0.0]
        factors[place] = np.array([32.0])
        assert Confidence(*factors).score.tolist() == [1.0]
        factors[place] = np.array([-1.0])
        assert Confidence(*factors).score.tolist() == [0.0]


@pytest.mark.parametrize(
    ("name", "number"),
    [("", 2166136261), ("a", (2166136261 ^ 97) * 16777619 % 2**31), ("ä", None), ("J12", None)],
)
def test_a_name_has_the_same_number_in_every_process(name, number):
    expected = 2166136261
    for byte in name.encode():  # Fowler, Noll and Vo's FNV-1a, to 31 bits
        expected = ((expected ^ byte) * 16777619) % 2147483648
    assert hash_of(name) == expected == (number or expected)


class TestDescriber:
    def test_demand_of_each_stage_padded_with_nought(self):
        net = pair()
        see = Describer(net, timing(net))
        seen = observed(
            net,
            0.0,
            [(0, 5, 0), (1, 5, 0), (2, 5, 0), (4, 5, 0), (5, 5, 0)],
            "rrrrr",
            persons={2: 4, 4: 1},
        )
        assert see.most == 3
        assert see.stage_demand(seen).tolist() == [[2, 1, 4], [1, 2, 0]]

    def test_a_stage_counts_all_that_it_lights(self):
        lanes = [(n, 100, 10) for n in "abcx"]
        net = network(
            lanes,
            [(a, "x", g, "s", 10, 10, 1) for g, a in enumerate("abc")],
            [junction("J", 0, ["Grg", "rGr"], [(0, 1), (1, 2), (0, 2)])],
        )
        seen = observed(net, 0.0, [(0, 5, 0), (1, 5, 0), (2, 5, 0)], "rrr")
        assert Describer(net, timing(net)).stage_demand(seen).tolist() == [[2, 1]]

    @pytest.mark.parametrize(
        ("target", "since", "room", "wanted", "columns"),
        [
            ([0, 0], 100.0, {}, [[0, 0, 0], [0, 0, 0]], [[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]),
            ([2, 1], 100.0, {}, [[1, 2, 3], [4, 6, 7]], [[2, 0, 0, 1, 2, 2], [1, 0, 0, 3, 3, 4]]),
            (
                [2, 1],
                100.0,
                {},
                [[10, 11, 99], [0.5, 0, 0]],
                [[2, 0, 0, 4, 5, 5], [1, 0, 0, 0, 0, 0]],
            ),
            (
                [0, 0],
                90.0,
                {},
                [[0, 0, 0], [0, 0, 0]],
                [[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]],
            ),  # ten seconds
            ([0, 0], 89.9, {}, [[0, 0, 0], [0, 0, 0]], [[0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]]),
            ([0, 0], 79.9, {}, [[0, 0, 0], [0, 0, 0]], [[0, 2, 0, 0, 0, 0], [0, 2, 0, 0, 0, 0]]),
            ([0, 0], 59.9, {}, [[0, 0, 0], [0, 0, 0]], [[0, 3, 0, 0, 0, 0], [0, 3, 0, 0, 0, 0]]),
            (
                [0, 0],
                100.0,
                {"y": 14.9},
                [[0, 0, 0], [0, 0, 0]],
                [[0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]],
            ),
            (
                [0, 0],
                100.0,
                {"z": 15.0, "o": 0.0},
                [[0, 0, 0], [0, 0, 0]],
                [[0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]],
            ),
            (
                [0, 0],
                100.0,
                {"x": 3.0},
                [[0, 0, 0], [0, 0, 0]],
                [[0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0]],
            ),  # both lead to x
        ],
    )
    def test_a_state_is_stage_age_room_and_demand_in_classes(
        self, target, since, room, wanted, columns
    ):
        net = pair()
        seen = observed(net, 100.0, [], "rrrrr", room=room)
        found = Describer(net, timing(net)).keys(
            seen, np.array(target, np.int32), np.full(2, since), np.array(wanted, float)
        )
        assert (
            found.tolist()
            == mix(
                np.array([[hash_of("one"), *columns[0]], [hash_of("two"), *columns[1]]])
            ).tolist()
        )


def test_with_a_table_that_sees_neighbours_their_mean_demand_is_part_of_the_state():
    """J1 sends to J2 and J3; each has one neighbour but J1. Classes: 1, 2, 4, 7, 11 vehicles."""
    lanes = [(n, 100, 10) for n in "abcdefg"]
    links = [("a", "b", 0), ("a", "c", 0), ("d", "e", 1), ("b", "f", 2), ("c", "g", 3)]
    net = network(
        lanes,
        [(x, y, g, "s", 10, 10, 1) for x, y, g in links],
        [
            junction("J1", 0, ["Gr", "rG"], [(0, 1)]),
            junction("J2", 2, ["G"]),
            junction("J3", 3, ["G"]),
        ],
    )
    seen = observed(net, 0.0, [], "rrrr")
    wanted = np.array([[2.0, 7.0], [8.0, 0.0], [3.0, 0.0]])
    plain = [
        [hash_of("J1"), 0, 0, 0, 2, 4],
        [hash_of("J2"), 0, 0, 0, 4, 0],
        [hash_of("J3"), 0, 0, 0, 2, 0],
    ]
    nothing = np.zeros(3, np.int32), np.zeros(3)
    for sees, around in ((False, [[], [], []]), (True, [[3], [4], [4]])):  # (8 + 3) / 2; 7; 7
        table = QTable(2, 64, sees_neighbours=sees)
        agent = QLearning(net, timing(net), table)
        found = agent._describer.keys(seen, *nothing, wanted)
        columns = [r[:4] + more + r[4:] for r, more in zip(plain, around, strict=True)]
        assert found.tolist() == mix(np.array(columns)).tolist()


class TestQLearning:
    rows = (
        (2, 50, 0.0),
        (2, 60, 0.09),
        (3, 50, 0.1),
        (5, 50, 0.0),
        (6, 5, 0.0),
        (-1, 5, 0.0),
    )  # demand by stage: 0, 2, 1 and 0, 1, 0

    def agent(self, *learnt):
        """learnt: (junction, action, value) added, each one visit, to the state that `rows` are."""
        net = pair()
        one = QLearning(net, timing(net), QTable(3, 64))
        keys = self.keys(net)
        for j, action, value in learnt:
            one.table.add(keys[j : j + 1], np.array([action]), np.array([value], np.float32))
        return net, one, self.seen(net)

    def seen(self, net, at_s=100.0, **more):
        return observed(net, at_s, self.rows, "GrrGr", **more)

    def keys(self, net):
        columns = [[hash_of("one"), 0, 1, 0, 0, 2, 1], [hash_of("two"), 0, 1, 0, 0, 1, 0]]
        return mix(np.array(columns))

    def state(self, **more):
        fields = {
            "target": np.zeros(2, np.int32), "since_s": np.array([81.0, 82.0]),
            "next_s": np.array([100.0, 100.0]), "keys": np.array([5, 6], np.uint64),
            "chosen": np.array([7, 8]), "visits": np.array([1.0, 2.0]),
            "agreement": np.array([0.5, 1.0]), "regret": np.array([1.0, 2.0]),
            "waiting": np.array([1.0, 9.0]),
        }  # fmt: skip
        return QState(**(fields | more))

    def test_it_starts_with_the_first_stages_sure_of_nothing_but_itself(self):
        net, one, _ = self.agent()
        state = one.start(observed(net, 33.0, [], "rrrrr"))
        assert [getattr(state, f).tolist() for f in QState.__slots__] == [
            [0, 0], [33.0, 33.0], [33.0, 33.0], [0, 0], [0, 0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0],
            [0.0, 0.0],
        ]  # fmt: skip

    def test_in_an_unknown_state_it_serves_most(self):
        net, one, seen = self.agent()
        proposal, state = one.step(seen, self.state())
        assert letters(proposal.wanted) == "rGrrG"
        assert [getattr(state, f).tolist()
            for f in ("target", "since_s", "next_s", "keys", "chosen", "visits", "agreement",
                "waiting")] == [
            [1, 1], [100.0, 100.0], [105.0, 105.0], self.keys(net).tolist(), [1, 1], [0.0, 0.0],
            [1.0, 1.0], [2.0, 1.0],
        ]  # fmt: skip
        # halted are 2 and 1 (those under 0.1 m/s on a signal's link): 1 more than at the last
        # decision, and 8 less
        assert state.regret == pytest.approx([1 + 0.1 * (1 / 5 - 1), 2 - 0.1 * 2])
        assert (proposal.at_s, proposal.controller) == (100.0, "q-learning")

    def test_in_a_known_state_it_takes_what_is_worth_most_of_what_was_tried(self):
        _, one, seen = self.agent(
            (0, 1, -5.0), (0, 2, -3.0), (1, 0, -1.0), (1, 1, -1.5), (1, 1, 1.0)
        )
        _, state = one.step(seen, self.state())
        assert state.target.tolist() == [
            2,
            1,
        ]  # an untried action is worth nothing, though nought is more; -0.5 is more than -1
        assert state.chosen.tolist() == [2, 1]
        assert state.visits.tolist() == [2.0, 3.0]
        assert state.agreement.tolist() == [0.5, 1.0]

    def test_what_serves_most_is_tried_first(self):
        _, one, seen = self.agent((0, 0, 9.0), (0, 2, 8.0))
        assert one.step(seen, self.state())[1].target.tolist() == [1, 1]

    def test_one_may_have_it_try_something_else(self):
        _net, one, seen = self.agent((0, 1, 5.0))
        proposal, state = one.act(seen, self.state(), np.array([True, True]), np.array([2, -1]))
        assert letters(proposal.wanted) == "rrGrG"
        assert state.chosen.tolist() == [2, 1]
        assert state.agreement.tolist() == [1.0, 1.0], "what it holds for best is what serves most"
        assert one.act(seen, self.state(), np.array([True, True]), np.array([0, 0]))[
            1
        ].chosen.tolist() == [0, 0]

    @pytest.mark.parametrize("late", [0, 1])
    def test_a_junction_that_may_not_decide_yet_stays_as_it_is(self, late):
        _net, one, seen = self.agent((0, 1, 5.0), (1, 1, 5.0))
        waits, before = np.array([100.0, 100.0]), self.state()
        waits[late] = 100.1
        _, after = one.step(seen, self.state(next_s=waits))
        for f in QState.__slots__:
            was = waits[late] if f == "next_s" else getattr(before, f)[late]
            assert getattr(after, f)[late] == was, f
            assert (
                getattr(after, f)[1 - late] != getattr(before, f)[1 - late]
                or (f == "agreement" and late == 0)
                or (f == "visits" and late == 1)
            ), f

    def test_who_stands_before_the_first_signal_is_counted_too(self):
        net, one, _ = self.agent()
        seen = observed(net, 100.0, [(0, 50, 0.0), (1, 60, 0.0), (5, 50, 0.0)], "GrrGr")
        assert one.step(seen, self.state())[1].waiting.tolist() == [2.0, 1.0]

    def test_a_stage_that_goes_on_keeps_its_age(self):
        _net, one, seen = self.agent((0, 1, -5.0), (0, 0, 3.0))
        _, state = one.step(seen, self.state())
        assert state.target.tolist() == [0, 1]
        assert state.since_s.tolist() == [81.0, 100.0]

    def test_nothing_changes_while_no_junction_may_decide(self):
        _net, one, seen = self.agent()
        state = self.state(next_s=np.array([100.1, 101.0]))
        proposal, after = one.step(seen, state)
        assert after is state
        assert letters(proposal.wanted) == "GrrGr"

    @pytest.mark.parametrize(
        ("next_s", "age", "shown", "due"),
        [
            ([100.0, 100.0], 60.0, "GrrGr", [True, True]),
            ([100.0 + 5e-7, 100.0 + 5e-6], 60.0, "GrrGr", [True, False]),
            ([0.0, 0.0], [5.0, 0, 0, 4.9, 0], "GrrGr", [True, False]),
            ([0.0, 0.0], 60.0, "yrrGr", [False, True]),
        ],
    )
    def test_a_junction_decides_when_its_time_has_come_and_its_stage_has_had_its_least(
        self, next_s, age, shown, due
    ):
        net, one, _ = self.agent()
        assert (
            one.due(
                observed(net, 100.0, [], shown, age), self.state(next_s=np.array(next_s))
            ).tolist()
            == due
        )

    def test_it_says_how_sure_it_is_and_why(self):
        net, one, _ = self.agent()
        seen = self.seen(net, completeness=[0.5, 1.0])
        state = self.state(
            next_s=np.array([200.0, 200.0]),
            visits=np.array([20.0, 60.0]),
            regret=np.array([1.0, 3.0]),
        )
        proposal, _ = one.step(seen, state)
        assert {k: x.tolist() for k, x in proposal.why.items()} == {
            "freshness": [1.0, 1.0], "completeness": [0.5, 1.0], "novelty": [0.5, 0.75],
            "agreement": [0.5, 1.0], "performance": [0.5, 0.25],
        }  # fmt: skip
        assert proposal.confidence == pytest.approx([0.5**0.8, (0.75 / 4) ** 0.2])
        assert one.confidence(seen, state, 101.0).freshness == pytest.approx([0.8, 0.8])

    def test_a_green_short_of_its_least_is_kept(self):
        net, one, _ = self.agent()
        state = self.state(target=np.array([1, 1], np.int32), next_s=np.array([200.0, 200.0]))
        assert (
            letters(
                one.step(observed(net, 100.0, [], "GrrGr", [4.9, 0, 0, 5.0, 0]), state)[0].wanted
            )
            == "GrrrG"
        )


class TestItsTable:
    def test_is_the_one_that_it_is_given_though_nothing_is_learnt_yet(self):
        net = pair()
        table = QTable(3, 64)
        assert QLearning(net, timing(net), table).table is table

    def test_is_else_the_file_that_the_environment_names(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HEADWAY_QTABLE", str(tmp_path / "mine.table"))
        kept = QTable(4, 32, tmp_path / "mine.table")
        kept.add(np.array([9], np.uint64), np.array([3]), np.array([2.5], np.float32))
        net = pair()
        table = QLearning(net, timing(net)).table
        assert (table.actions, table.rows, len(table)) == (4, 32, 1)

    def test_is_else_the_file_in_the_data_folder_or_else_empty(self, tmp_path, monkeypatch):
        monkeypatch.delenv("HEADWAY_QTABLE", raising=False)
        monkeypatch.chdir(tmp_path)
        net = pair()
        table = QLearning(net, timing(net)).table
        assert (table.actions, table.rows, table.path, len(table)) == (3, 4096, None, 0)
        QTable(5, 16, tmp_path / "data" / "q.table").flush()
        assert QLearning(net, timing(net)).table.actions == 5
        assert qlearning.TABLE == "HEADWAY_QTABLE"

    def test_must_have_an_action_for_each_stage(self):
        net = pair()
        with pytest.raises(
            ValueError,
            match=r"^the Q-table has 2 actions, this network needs 3\. Train one for it: "
            r"headway train$",
        ):
            QLearning(net, timing(net), QTable(2, 64))
