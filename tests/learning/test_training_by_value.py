"""Training, part by part, on networks and tables made by hand;
and a whole episode on the real SUMO, retold from what was seen and decided.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.control.builders import junction, network, observed, pair

from headway.control.qlearning import QLearning, QState
from headway.control.qtable import QTable
from headway.learning import training
from headway.learning.replay import Replay
from headway.learning.training import (
    Episode,
    Reward,
    TrainingSettings,
    exploration,
    learn,
    neighbours,
    remember,
    step_costs,
    train,
)
from headway.plants.sumo import SumoPlant, read_network
from headway.roads import BENCHMARK, work_out


def test_the_usual_settings_are_those_of_the_documents():
    assert TrainingSettings() == TrainingSettings(
        10, 0.3, 0.9, (0.3, 0.02), 256, 1 << 18, Reward(1.0, 2.0, 1.0, 0.3), 5.0, 1, 1.0, False
    )
    assert Reward() == Reward(stopped=1.0, longest=2.0, change=1.0, neighbours=0.3)


@pytest.mark.parametrize(
    ("episodes", "number", "share"),
    [(3, 0, 0.4), (3, 1, 0.2), (3, 2, 0.1), (5, 1, 0.4 * 0.25**0.25), (1, 0, 0.4), (2, 1, 0.1)],
)
def test_ever_less_is_tried_from_the_first_share_to_the_last(episodes, number, share):
    assert exploration(
        TrainingSettings(episodes=episodes, explore=(0.4, 0.1)), number
    ) == pytest.approx(share)


class TestNeighbours:
    def chain(self, links, lanes="abcdefgh", junctions=4):
        """Links (from, to, group): group k is the only one of junction k, -1 is under no signal."""
        made = [(x, y, g, "s", 10, 10, 1) for x, y, g in links]
        return neighbours(
            network(
                [(n, 100, 10) for n in lanes],
                made,
                [junction(f"J{j}", j, ["G"]) for j in range(junctions)],
            )
        ).tolist()

    def test_are_those_to_whom_traffic_goes_straight_or_from_whom_it_comes(self):
        # 0 sends to 1, and over an unsignalled node to 2; 3 stands alone
        found = self.chain(
            [("a", "b", 0), ("b", "c", 1), ("b", "d", -1), ("d", "e", 2), ("g", "h", 3)]
        )
        assert found == [[0, 0.5, 0.5, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]

    def test_not_those_behind_a_signal_between_nor_oneself(self):
        found = self.chain(
            [
                ("a", "b", 0),
                ("b", "c", 1),
                ("c", "d", 2),
                ("c", "a", -1),
                ("d", "c", -1),
                ("g", "h", 3),
            ]
        )
        # 0 to 1; 1 to 2 and, over an unsignalled node, back to 0; 2 over one to itself, and to 0
        assert found == [[0, 0.5, 0.5, 0], [0.5, 0, 0.5, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 0]]

    def test_a_ring_without_signals_comes_to_an_end(self):
        found = self.chain(
            [
                ("a", "b", 0),
                ("b", "c", -1),
                ("c", "d", -1),
                ("d", "b", -1),
                ("d", "e", 1),
                ("e", "f", 2),
                ("g", "h", 3),
            ]
        )
        assert found[0] == [0, 1, 0, 0]
        assert found[1] == [0.5, 0, 0.5, 0]

    @pytest.mark.parametrize(("between", "near"), [(199, 1.0), (200, 0.0)])
    def test_nobody_is_looked_for_beyond_two_hundred_lanes(self, between, near):
        lanes = [f"l{k}" for k in range(between + 3)]
        links = [
            ("l0", "l1", 0),
            *((f"l{k}", f"l{k + 1}", -1) for k in range(1, between + 1)),
            (f"l{between + 1}", f"l{between + 2}", 1),
        ]
        assert self.chain(links, lanes, 2)[0][1] == near


def test_a_junction_suffers_by_who_stands_and_by_the_longest_wait():
    net = pair()
    rows = [
        (0, 5, 0.0, 60.0), (2, 5, 0.09, 30.0), (3, 5, 0.1, 90.0), (3, 50, 9.0, 0.0),
        (5, 5, 0.0, 12.0),
        (6, 5, 0.0, 600.0), (-1, 5, 0.0, 600.0),  # under no signal, or unknown: no junction's
    ]  # fmt: skip
    seen = observed(net, 0.0, rows, "rrrrr")
    assert step_costs(net, seen, Reward()).tolist() == pytest.approx([2 + 2 * 1.5, 1 + 2 * 0.2])
    assert step_costs(net, seen, Reward(stopped=3.0, longest=1.0)).tolist() == pytest.approx(
        [6 + 1.5, 3 + 0.2]
    )
    assert step_costs(net, observed(net, 0.0, [], "rrrrr"), Reward()).tolist() == [0.0, 0.0]


class TestRemember:
    def state(self, keys, chosen):
        zeros = np.zeros(3)
        return QState(
            np.zeros(3, np.int32),
            zeros,
            zeros,
            np.array(keys, np.uint64),
            np.array(chosen),
            zeros,
            zeros,
            zeros,
            zeros,
        )

    def test_what_the_last_decision_has_brought_since(self):
        replay = Replay(8)
        before, after = self.state([11, 12, 13], [2, 1, 0]), self.state([21, 22, 23], [0, 0, 0])
        remember(
            replay,
            before,
            after,
            np.array([True, False, True]),
            np.array([-10.0, -99.0, -3.0]),
            np.array([5.0, 5.0, 0.5]),
        )
        assert len(replay) == 2
        assert replay.rows[0].tolist() == (11, 2, -2.0, 21, 1.0)
        assert replay.rows[1].tolist() == (13, 0, -3.0, 23, pytest.approx(0.1)), (
            "under a second counts as a second"
        )
        remember(
            replay,
            before,
            after,
            np.array([True, False, False]),
            np.array([-14.0, 0, 0]),
            np.array([7.0, 5.0, 5.0]),
        )
        assert replay.rows[2].tolist() == (11, 2, -2.0, 21, pytest.approx(1.4))

    def test_nothing_before_the_first_decision(self):
        replay = Replay(8)
        after = self.state([21, 22, 23], [0, 0, 0])
        remember(
            replay,
            self.state([0, 0, 0], [0, 0, 0]),
            after,
            np.array([True, True, True]),
            np.ones(3),
            np.ones(3),
        )
        assert len(replay) == 0
        remember(
            replay,
            self.state([0, 12, 0], [0, 1, 0]),
            after,
            np.array([True, True, True]),
            np.ones(3),
            np.ones(3),
        )
        assert (len(replay), int(replay.rows["key"][0])) == (1, 12)


class TestLearn:
    def rows(self, replay, *rows):
        """(key, action, reward, next, discount's power)"""
        replay.put(np.array(list(rows), replay.rows.dtype))

    def add(self, table, key, action, value):
        table.add(np.array([key], np.uint64), np.array([action]), np.array([value], np.float32))

    def values(self, table, *keys):
        return table.get(np.array(keys, np.uint64))[0].tolist()

    def test_a_value_goes_by_the_rate_towards_reward_and_the_best_that_follows(self):
        table, replay = QTable(2, 64), Replay(8)
        self.add(table, 1, 0, 2.0)
        self.add(table, 9, 0, -6.0)
        self.add(table, 9, 1, -4.0)
        self.rows(replay, (1, 0, -1.0, 9, 2.0))
        # goal -1 + 0.5^2 x -4 = -2, 4 less than 2; visited once: rate 0.3 / 1.05
        assert learn(
            table, replay, TrainingSettings(gamma=0.5, batch=3), np.random.default_rng(0)
        ) == pytest.approx(4.0)
        assert self.values(table, 1) == [[pytest.approx(2.0 - 0.3 / 1.05 * 4.0), 0.0]]
        assert table.get(np.array([1], np.uint64))[1].tolist() == [[2, 0]], (
            "one visit, however often it was drawn"
        )

    def test_what_was_never_tried_there_is_not_looked_at(self):
        table, replay = QTable(2, 64), Replay(8)
        self.add(table, 9, 1, -4.0)
        self.rows(replay, (1, 0, -1.0, 9, 1.0))
        assert learn(
            table, replay, TrainingSettings(gamma=0.5), np.random.default_rng(0)
        ) == pytest.approx(3.0)
        assert self.values(table, 1) == [
            [pytest.approx(-0.9), 0.0]
        ]  # -1 + 0.5 x -4 = -3, the first visit at a rate of 0.3

    def test_where_nothing_is_known_of_what_follows_its_own_value_goes_on(self):
        table, replay = QTable(2, 64), Replay(8)
        self.add(table, 1, 1, -8.0)
        self.rows(replay, (1, 1, -1.0, 9, 1.0))
        learn(table, replay, TrainingSettings(gamma=0.5, rate=0.1), np.random.default_rng(0))
        assert self.values(table, 1) == [
            [0.0, pytest.approx(-8 + 0.1 / 1.05 * 3)]
        ]  # goal -1 + 0.5 x -8 = -5

    def test_the_rate_falls_with_the_visits_but_not_under_a_fiftieth(self):
        table, replay = QTable(1, 64), Replay(8)
        for _ in range(40):
            self.add(table, 1, 0, 0.0)
        self.rows(replay, (1, 0, -9.0, 9, 1.0))
        learn(table, replay, TrainingSettings(gamma=0.0), np.random.default_rng(0))
        assert self.values(table, 1) == [[pytest.approx(-0.9)]]  # 0.3 / 3
        learn(table, replay, TrainingSettings(gamma=0.0, rate=0.03), np.random.default_rng(0))
        assert self.values(table, 1) == [
            [pytest.approx(-0.9 - 0.02 * 8.1)]
        ]  # 0.03 / 3.05 would be less

    def test_each_counts_by_its_weight_and_gets_its_priority(self):
        table, replay = QTable(1, 64), Replay(4)
        self.rows(replay, (1, 0, -1.0, 8, 1.0), (2, 0, -4.0, 9, 1.0))
        replay.learnt(np.array([0, 1]), np.array([1.0, 4.0]))
        p = (np.array([1.0, 4.0]) + 0.001) ** 0.6
        weight = (p / p[0]) ** -0.4
        places, _ = replay.draw(6, np.random.default_rng(5))
        assert set(places.tolist()) == {0, 1}
        assert learn(
            table, replay, TrainingSettings(gamma=0.9, batch=6), np.random.default_rng(5)
        ) == pytest.approx(2.5)
        assert self.values(table, 1, 2) == [
            [pytest.approx(-0.3 * weight[0])],
            [pytest.approx(-0.3 * weight[1] * 4)],
        ]
        # the surprises are told: 1 and 4 again; then, of 0.3 w less each, 0.9 to 1 of what they
        # were
        learn(table, replay, TrainingSettings(gamma=0.0, batch=6), np.random.default_rng(5))
        left = np.array([1.0 - 0.3 * weight[0], 4.0 - 1.2 * weight[1]])
        edge = (left[0] + 0.001) ** 0.6 / ((left + 0.001) ** 0.6).sum()
        for share, place in ((edge - 1e-4, 0), (edge + 1e-4, 1)):
            assert replay.draw(1, Always(share))[0].tolist() == [place]


class Always:
    def __init__(self, share):
        self.share = share

    def random(self, n):
        return np.full(n, self.share)


class Spies:
    """The real plant, controller and replay, which also write down what goes through them."""

    def __init__(self, monkeypatch):
        self.seeds = []
        self.seen = []
        self.decisions = []
        self.shares = []
        self.rows = []
        self.batches = []
        self.closed = 0
        spies = self

        class Plant(SumoPlant):
            def __init__(self, settings, network):
                spies.seeds.append(settings.seed)
                super().__init__(settings, network)

            def observe(self):
                spies.seen.append(super().observe())
                return spies.seen[-1]

            def close(self):
                spies.closed += 1
                super().close()

        class Agent(QLearning):
            def act(self, seen, state, due, explore):
                proposal, after = super().act(seen, state, due, explore)
                if explore is not None:
                    spies.decisions.append((seen.at_s, due, state, after, explore))
                return proposal, after

        class Memory(Replay):
            def put(self, rows):
                spies.rows.extend(rows.tolist())
                return super().put(rows)

            def draw(self, n, random):
                spies.batches.append((n, len(self)))
                return super().draw(n, random)

        monkeypatch.setattr(training, "SumoPlant", Plant)
        monkeypatch.setattr(training, "QLearning", Agent)
        monkeypatch.setattr(training, "Replay", Memory)


def retold(spies, net, near, reward):
    """(experiences, mean stopped, decisions) of one episode,
    from what was seen and decided alone.
    """
    moments = spies.seen[1:]  # the first look is the start's
    decisions = {at: (due, before, after) for at, due, before, after, _ in spies.decisions}
    owed, last, began = [0.0, 0.0], [None, None], [False, False]
    rows, stopped = [], 0
    for seen in moments:
        v = seen.vehicles
        stopped += sum(v.speed_mps < 0.1)
        pain = [0.0, 0.0]
        for j in (0, 1):
            mine = [
                k
                for k in range(len(v))
                if v.link[k] >= 0 and net.groups[net.links[v.link[k]].group].junction == j
            ]
            pain[j] = (
                reward.stopped * sum(v.speed_mps[k] < 0.1 for k in mine)
                + reward.longest * max([v.waiting_s[k] for k in mine], default=0.0) / 60
            )
        for j in (0, 1):
            owed[j] -= pain[j] + reward.neighbours * near[j][1 - j] * pain[1 - j]
        if seen.at_s not in decisions:
            continue
        due, before, after = decisions[seen.at_s]
        for j in (0, 1):
            if not due[j]:
                continue
            if last[j] is not None:
                lasted = seen.at_s - last[j]
                earned = (owed[j] - reward.change * began[j]) / lasted
                rows.append(
                    (
                        int(before.keys[j]),
                        int(before.chosen[j]),
                        earned,
                        int(after.keys[j]),
                        lasted / 5.0,
                    )
                )
            owed[j], last[j], began[j] = 0.0, seen.at_s, bool(after.target[j] != before.target[j])
    return rows, stopped / len(moments), sum(int(due.sum()) for due, _, _ in decisions.values())


@pytest.fixture(scope="module")
def street(two_crossings):
    net = read_network(two_crossings.net)
    return two_crossings, net, work_out(net, BENCHMARK)


class TestEpisode:
    @pytest.mark.parametrize(
        "reward", [Reward(), Reward(stopped=2.0, longest=5.0, change=7.0, neighbours=0.5)]
    )
    def test_is_what_was_seen_and_decided(self, street, monkeypatch, reward):
        of, net, timing = street
        spies, table = Spies(monkeypatch), QTable(8, 256)
        settings = TrainingSettings(episodes=1, explore=(0.5, 0.5), batch=10_000, reward=reward)
        (told,) = train(of, net, timing, table, settings, seed=7)
        near = neighbours(net)
        assert near.tolist() == [[0, 1], [1, 0]]
        rows, stopped, decisions = retold(spies, net, near, reward)
        assert [tuple(r) for r in spies.rows] == [pytest.approx(r, rel=1e-6) for r in rows]
        assert len(rows) > 10
        assert told == Episode(0, pytest.approx(stopped), decisions, 0, 0.0), (
            "nothing is learnt before there is a batch"
        )
        assert stopped > 0
        assert [s.at_s for s in spies.seen] == [0.0, *np.arange(0.0, 90.0)]
        assert (spies.seeds, spies.closed) == ([7], 1)
        tried = [explore[j] for _, _, _, _, explore in spies.decisions for j in (0, 1)]
        assert {-1, 0, 1} <= set(tried)
        assert all(-1 <= x < len(net.junctions[k % 2].stages) for k, x in enumerate(tried))
        changes = [(b.target != a.target).any() for _, _, b, a, _ in spies.decisions]
        assert any(changes)

    def test_a_decision_follows_the_one_before_where_it_was_not_tried(self, street, monkeypatch):
        of, net, timing = street
        spies = Spies(monkeypatch)
        links = []
        link = Replay.link
        monkeypatch.setattr(
            Replay, "link", lambda me, a, b: links.extend(zip(a, b, strict=True)) or link(me, a, b)
        )
        settings = TrainingSettings(episodes=2, explore=(0.4, 0.4), batch=10_000)
        list(train(of, net, timing, QTable(8, 256), settings, seed=7))

        # the experiences again, from what was decided: row k of a junction is its k-th decision,
        # put when the next one is due
        wanted, place, begun = [], 0, -1.0
        for at_s, due, _, _, explore in spies.decisions:
            if begun < 0 or at_s < begun:  # an episode begins
                last, was_tried = {}, {}
            begun = at_s
            for j in np.flatnonzero(due).tolist():
                if j in was_tried:
                    if j in last and not was_tried[j]:
                        wanted.append((last[j], place))
                    last[j] = place
                    place += 1
                was_tried[j] = explore[j] >= 0
        assert place == len(spies.rows)
        assert [(int(a), int(b)) for a, b in links if a >= 0] == wanted
        assert 10 < len(wanted) < place - 10

    def test_whose_states_are_not_the_tables_is_refused(self, street):
        of, net, timing = street
        for sees in (False, True):
            table = QTable(8, 256, sees_neighbours=not sees)
            settings = TrainingSettings(sees_neighbours=sees)
            with pytest.raises(ValueError, match="Change the setting, or train another table"):
                next(train(of, net, timing, table, settings))

    def test_takes_the_room_of_its_table_first(self, street, monkeypatch, tmp_path):
        of, net, timing = street
        table = QTable(8, 256, tmp_path / "q.table")

        def full():
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(table, "reserve", full)
        with pytest.raises(OSError, match="No space"):
            next(train(of, net, timing, table, TrainingSettings()))

    def test_what_is_tried_is_by_chance_from_the_seed(self, street, monkeypatch):
        of, net, timing = street
        spies = Spies(monkeypatch)
        list(
            train(
                of,
                net,
                timing,
                QTable(8, 256),
                TrainingSettings(episodes=2, explore=(0.6, 0.2), batch=10_000),
                seed=7,
            )
        )
        assert spies.seeds == [7, 8]
        starts = [
            k
            for k in range(1, len(spies.decisions))
            if spies.decisions[k][0] < spies.decisions[k - 1][0]
        ]
        assert len(starts) == 1
        random = np.random.default_rng(7)
        for k, (_, _, _, _, explore) in enumerate(spies.decisions):
            share = 0.6 if k < starts[0] else 0.2
            tries = random.random(2) < share
            stages = random.integers(0, [len(j.stages) for j in net.junctions])
            assert explore.tolist() == [
                int(s) if t else -1 for t, s in zip(tries, stages, strict=True)
            ]

    def test_a_batch_is_learnt_at_each_decision_once_there_are_enough(
        self, street, monkeypatch, tmp_path
    ):
        of, net, timing = street
        spies, path = Spies(monkeypatch), tmp_path / "q.table"
        table, flushed = QTable(8, 256, path), []
        surprises = []
        monkeypatch.setattr(table, "flush", lambda: flushed.append((len(table), len(surprises))))
        monkeypatch.setattr(
            training, "learn", lambda *given: surprises.append(learn(*given)) or surprises[-1]
        )
        remember, sizes = training.remember, []

        def remembered(*given):
            places = remember(*given)
            sizes.append(len(given[0]))
            return places

        monkeypatch.setattr(training, "remember", remembered)
        episodes = list(
            train(
                of,
                net,
                timing,
                table,
                TrainingSettings(episodes=2, explore=(0.2, 0.2), batch=6),
                seed=3,
            )
        )
        assert {n for n, _ in spies.batches} == {6}
        assert 6 in sizes
        assert len(surprises) == sum(size >= 6 for size in sizes)
        assert [e.number for e in episodes] == [0, 1]
        (states, first), (more, both) = flushed  # after each episode
        assert [e.states for e in episodes] == [states, more]
        assert len(table) == more >= states > 0
        assert [e.td_error for e in episodes] == pytest.approx(
            [np.mean(surprises[:first]), np.mean(surprises[first:both])]
        )
        assert both == len(surprises) > first > 10
        assert len(spies.batches) == len(surprises)

    def test_the_table_that_is_filled_decides_from_the_first_on(self, street, monkeypatch):
        of, net, timing = street
        spies, table, agents = Spies(monkeypatch), QTable(8, 256), []
        kind = training.QLearning
        monkeypatch.setattr(
            training, "QLearning", lambda *given: agents.append(kind(*given)) or agents[-1]
        )
        training.QLearning.interval_s = kind.interval_s
        next(iter(train(of, net, timing, table, TrainingSettings(episodes=1, batch=8))))
        assert [a.table is table for a in agents] == [True]
        assert spies.seeds == [1000]

    def test_ends_with_the_traffic_where_the_scenario_has_no_end(self, street, monkeypatch):
        of, net, timing = street
        spies = Spies(monkeypatch)
        list(
            train(
                replace(of, end_s=float("inf")),
                net,
                timing,
                QTable(8, 256),
                TrainingSettings(episodes=1, batch=10_000),
            )
        )
        assert 30 < spies.seen[-1].at_s < 600
        assert len(spies.seen[-3].vehicles) < 3

    def test_of_no_time_has_no_figures(self, street, monkeypatch):
        of, net, timing = street
        spies = Spies(monkeypatch)
        assert list(
            train(replace(of, end_s=0.0), net, timing, QTable(8, 256), TrainingSettings(episodes=1))
        ) == [Episode(0, 0.0, 0, 0, 0.0)]
        assert spies.closed == 1

    def test_that_fails_lets_sumo_go(self, street, monkeypatch):
        of, net, timing = street
        spies = Spies(monkeypatch)
        with pytest.raises(ValueError, match="needs"):
            list(train(of, net, timing, QTable(1, 8), TrainingSettings(episodes=1)))
        assert spies.closed == 1
