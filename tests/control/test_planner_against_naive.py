"""The planner's model, its search and its decisions against a naive second statement,
on small random traffic.
"""

from __future__ import annotations

import numpy as np
import pytest
from tests.control import naive_planner as naive
from tests.control.builders import (
    cycle_times,
    flat_tables,
    junction,
    limits,
    network,
    observed,
    progress,
    queues,
    timing,
)
from tests.control.naive_planner import Car, Scene

from headway.control import candidates, lane_queues, planner_kernel, search
from headway.control import queue_model as queue
from headway.control.alternatives import plan_costs
from headway.control.planner import MODEL, signals_of, traffic_of
from headway.control.queue_model import HELD, ROLLOUT_A, StagePeriod, as_record, no_progress

pytestmark = pytest.mark.slow

FIGURES = as_record(MODEL)


def random_scene(random, columns=4, lanes=4, most=5):
    """Lanes of up to `most` vehicles, most of them ready to go;
    some stand, some are closed, some may wait inside for a gap.
    """
    made = []
    for _ in range(random.integers(1, lanes + 1)):
        eta = np.sort(random.uniform(0, 40, random.integers(0, most + 1)))
        eta[: random.integers(0, 3)] *= 0.02
        if random.random() < 0.2:
            random.shuffle(eta)
        own = random.integers(0, columns, 2)
        made.append(
            [
                Car(
                    float(x),
                    int(random.choice(own)),
                    bool(x < 1.0),
                    float(random.uniform(0.5, 3.0)),
                    int(random.choice([0, 1, 2, 3], p=[0.82, 0.06, 0.06, 0.06])),
                    bool(random.random() < 0.5),
                    float(random.uniform(2, 6)),
                )
                for x in eta
            ]
        )
    yields = {
        (a, b) for a in range(columns) for b in range(columns) if a != b and random.random() < 0.4
    }
    return Scene(made, yields, MODEL)


def arrays(scene, columns=4):
    """(queues, yields) as the compiled code takes them."""
    rows = [
        [(c.eta, c.weight, c.before, c.column, c.closed, c.still, c.inside) for c in lane]
        for lane in scene.lanes
    ]
    yields = np.zeros((columns, columns + 1), bool)[
        :, :columns
    ]  # a part of a larger table, as the planner has it: else all is compiled once more
    for a, b in scene.yields:
        yields[a, b] = True
    return queues(rows), yields


def random_state(random, scene):
    return [
        (int(random.integers(0, len(lane) + 1)), float(random.uniform(-10, 5)))
        for lane in scene.lanes
    ]


def rows_of(state):
    """Progress with `state` in row HELD and nonsense in the others."""
    return progress(len(state), HELD, [g for g, _ in state], [t for _, t in state])


def is_kept(held, state):
    """Row HELD is still `state`."""
    gone_s = list(zip(held.gone[HELD].tolist(), held.last_s[HELD].tolist(), strict=True))
    return gone_s == state


def random_opens(random, columns=4, latest=6.0):
    return {
        c: float(random.choice([0.0, random.uniform(0, latest)])) if random.random() < 0.5 else None
        for c in range(columns)
    }


def as_row(opens):
    return np.array([-np.inf if t is None else t for t in opens.values()])


def as_lights(row):
    return dict(enumerate(row.tolist()))


def random_lights(random, columns=4):
    return random.choice([1, 3, 4], columns, p=[0.2, 0.4, 0.4]).astype(np.int8)


@pytest.mark.parametrize("seed", range(12))
def test_a_stage_lets_those_go_who_may_and_costs_what_they_waited(seed):
    random = np.random.default_rng(seed)
    for _ in range(60):
        scene = random_scene(random)
        waiting, yields = arrays(scene)
        state = random_state(random, scene)
        lights = random_lights(random)
        opens = random_opens(random)
        begin = float(random.choice([0.0, random.uniform(0, 10)]))
        end = begin + float(random.choice([0.0, random.uniform(0, 30)]))
        cost, after = naive.run(scene, state, as_lights(lights), begin, end, opens)
        held = rows_of(state)
        period = StagePeriod(lights, as_row(opens) - begin, begin, end)
        found = queue.stage_cost(waiting, yields, period, held, HELD, ROLLOUT_A, FIGURES)
        assert found == pytest.approx(cost, abs=1e-9)
        assert held.gone[ROLLOUT_A].tolist() == [g for g, _ in after]
        assert held.last_s[ROLLOUT_A] == pytest.approx([t for _, t in after])
        assert is_kept(held, state), "where it began is as it was"


@pytest.mark.parametrize("seed", range(4))
def test_what_is_left_its_clearing_time_and_what_follows(seed):
    random = np.random.default_rng(100 + seed)
    for _ in range(60):
        scene = random_scene(random)
        waiting, _ = arrays(scene)
        state = random_state(random, scene)
        held = rows_of(state)
        at = float(random.uniform(0, 40))
        assert queue.cost_so_far(waiting, held, HELD, at) == pytest.approx(
            naive.waited(scene, state, at)
        )
        scene.m = MODEL._replace(horizon_s=30.0, leftover_cost_s=2.5)
        near = as_record(scene.m)
        assert queue.cost_left(waiting, held, HELD, near) == pytest.approx(naive.rest(scene, state))
        lights, opens, least = random_lights(random), random_opens(random), random.uniform(0, 8, 4)
        begin = float(random.choice([0.0, random.uniform(0, 10)]))
        period = StagePeriod(lights, as_row(opens) - begin, begin, begin)
        until = queue.clear_time_s(waiting, held, HELD, period, least, near)
        assert until == pytest.approx(
            naive.passed(scene, state, as_lights(lights), begin, opens, dict(enumerate(least)))
        )
        stages = np.array([random_lights(random) for _ in range(4)])
        for stage in range(4):
            assert queue.best_next(waiting, held, HELD, stage, stages, at, near) == naive.follower(
                scene, state, stage, [as_lights(x) for x in stages], at
            )


def random_search(random, columns=4, model=MODEL):
    """A scene with stages and the times between them, for the search."""
    scene = random_scene(random, columns, most=4)
    scene.m = model
    count = int(random.integers(2, 5))
    stages = np.array([random_lights(random, columns) for _ in range(count)])
    trans = np.where(
        random.random((count, count, columns)) < 0.4,
        random.uniform(-1, 6, (count, count, columns)).clip(0),
        -np.inf,
    )
    soon = np.where(
        random.random((count, columns)) < 0.4,
        random.uniform(-1, 6, (count, columns)).clip(0),
        -np.inf,
    )
    earliest = random.choice([0.0, 0.0, 3.0, 9.0], count)
    harm = random.choice([0.0, 0.0, 1.0], count)
    least = random.choice([0.0, 1.0, 5.0], columns)
    return scene, stages, trans, soon, earliest, harm, least


def stages_of(scene, stages, yields, trans, soon, least, earliest=(), harm=()):
    """The candidates of the search."""
    columns = range(stages.shape[1])
    return candidates.Candidates(
        stages, yields, soon, trans, np.asarray(earliest), np.asarray(harm),
        limits(
            least,
            [scene.barred.get(c, -np.inf) for c in columns],
            [scene.due.get(c, np.inf) for c in columns],
            [c in scene.lit for c in columns],
        ),
        any(t > 0.0 for t in scene.barred.values()),
        bool(scene.due),
    )  # fmt: skip


def limit_cycles(random, scene, columns=4):
    """Some columns may not begin yet, some have to, or should have; some are green."""
    for c in range(columns):
        if random.random() < 0.5:
            scene.barred[c] = float(random.uniform(-10, 35))
        if random.random() < 0.5:
            scene.due[c] = float(random.uniform(-20, 70))
        if random.random() < 0.3:
            scene.lit.add(c)


def opens_of(row):
    return {c: None if t < 0.0 else t for c, t in enumerate(row.tolist())}


@pytest.mark.parametrize("seed", range(6))
def test_a_roll_out_serves_each_stage_until_its_queues_have_passed(seed):
    random = np.random.default_rng(200 + seed)
    for _ in range(12):
        model = MODEL._replace(horizon_s=float(random.choice([25.0, 60.0])))
        scene, stages, trans, soon, _, _, least = random_search(random, model=model)
        waiting, yields = arrays(scene)
        if random.random() < 0.7:
            limit_cycles(random, scene)
        nought = np.zeros(len(stages))
        tried = stages_of(scene, stages, yields, trans, soon, least, nought, nought)
        state = random_state(random, scene)
        stage = int(random.integers(0, len(stages)))
        begin = float(random.uniform(0, 10))
        end = begin + float(random.choice([2.0, 10.0, 70.0]))
        levels = [as_lights(x) for x in stages]
        cost = naive.unroll(
            scene,
            state,
            stage,
            begin,
            end,
            levels,
            lambda x, y, trans=trans: opens_of(trans[x, y]),
            opens_of(soon[stage]),
            dict(enumerate(least)),
        )
        for bound, expected in ((np.inf, 3.0 + cost), (3.0 + cost + 1e-6, 3.0 + cost)):
            held = rows_of(state)
            starts = search.no_starts(4)
            problem = search.SearchProblem(
                waiting, tried, held, starts, np.zeros(0), np.zeros(0), as_record(model)
            )
            search.fill_starts(problem, soon[stage] - begin, begin, search.FIRST)
            first = StagePeriod(stages[stage], starts.times_s[search.FIRST], begin, end)
            found = search.rollout(problem, stage, first, 3.0, bound)
            assert found == pytest.approx(expected, abs=1e-9)
            assert is_kept(held, state), "it can be rolled out again from the same place"


@pytest.mark.parametrize("seed", range(12))
def test_the_search_finds_what_brute_force_finds(seed):
    random = np.random.default_rng(300 + seed)
    holds, lengths = np.array([0.0, 1.0, 4.0, 10.0, 22.0]), np.array([5.0, 9.0, 16.0])
    for _ in range(16):
        scene, stages, trans, soon, earliest, harm, least = random_search(random)
        waiting, yields = arrays(scene)
        if random.random() < 0.7:
            limit_cycles(random, scene)
        tried = stages_of(scene, stages, yields, trans, soon, least, earliest, harm)
        levels = [as_lights(x) for x in stages]
        expected = naive.brute_force(
            scene, levels, lambda x, y, trans=trans: opens_of(trans[x, y]),
            [opens_of(x) for x in soon], earliest, harm, holds, lengths,
            dict(enumerate(least)),
        )  # fmt: skip
        assert search.search(waiting, tried, holds, lengths, FIGURES) == expected


@pytest.mark.parametrize("seed", range(4))
def test_each_alternative_costs_what_its_best_plan_does_and_the_least_is_chosen(seed):
    random = np.random.default_rng(1300 + seed)
    holds, lengths = np.array([0.0, 1.0, 4.0, 10.0, 22.0]), np.array([5.0, 9.0, 16.0])
    for _ in range(16):
        scene, stages, trans, soon, earliest, harm, least = random_search(random)
        waiting, yields = arrays(scene)
        if random.random() < 0.7:
            limit_cycles(random, scene)
        tried = stages_of(scene, stages, yields, trans, soon, least, earliest, harm)
        stay, now, later = naive.every_plan(
            scene, [as_lights(x) for x in stages], lambda x, y, trans=trans: opens_of(trans[x, y]),
            [opens_of(x) for x in soon], earliest, harm, holds, lengths,
            dict(enumerate(least)),
        )  # fmt: skip
        problem = search.SearchProblem(
            waiting,
            tried,
            no_progress(len(waiting.start) - 1),
            search.no_starts(4),
            holds,
            lengths,
            FIGURES,
        )
        delay_s, lasts_s, chosen = plan_costs(problem)
        assert delay_s[1:] == pytest.approx([now[s] for s in range(1, len(stages))], abs=1e-6)
        plans = [stay, *later]
        assert min(abs(delay_s[0] - cost) for cost in plans if cost > 0) < 1e-6 or delay_s[0] == 0
        assert min(plans) - 1e-6 <= delay_s[0] <= stay + 1e-6
        assert delay_s[chosen] <= delay_s.min() + 1e-9
        assert ((lasts_s >= 0) & (lasts_s <= 2 * FIGURES.horizon_s)).all()
        assert chosen == search.search(waiting, tried, holds, lengths, FIGURES)


def arms():
    """A junction of four arms with a left turn that waits inside for a gap, a crossing for people,
    a lane of two movements, and a short lane behind.

    0 west straight; 1 west left (gives way to east, waits inside); 2 east straight; 3 south
    straight and, from the same lane, 4 south left; 5 people over the east arm (6 and they give way
    to nobody); 6 north right. The second junction, 30 m on: 7 from the short lane, 8 across.
    """
    lanes = [
        ("w_0", 200, 13), ("w_1", 150, 13), ("e_0", 180, 13), ("s_0", 60, 10), ("n_0", 90, 10),
        ("walk", 8, 2), ("walked", 8, 2),
        ("short_0", 30, 10), ("out_0", 200, 13), ("up_0", 120, 13), ("cross_0", 100, 13),
        ("short_1", 40, 10),
    ]  # fmt: skip
    links = [
        ("w_0", "short_0", 0, "s", 20, 13, 1), ("w_1", "up_0", 1, "l", 24, 8, 2),
        ("e_0", "out_0", 2, "s", 20, 13, 1),
        ("s_0", "up_0", 3, "s", 22, 10, 1), ("s_0", "out_0", 4, "l", 26, 7, 2),
        ("walk", "walked", 5, "c", 8, 1, 0), ("n_0", "short_1", 6, "r", 12, 6, 1),
        ("short_0", "out_0", 7, "s", 15, 10, 1), ("short_1", "up_0", 7, "s", 15, 10, 1),
        ("cross_0", "out_0", 8, "s", 15, 13, 1),
        ("out_0", "up_0", -1, "s", 5, 10, 1), ("w_0", "up_0", 0, "r", 12, 7, 1),
        ("n_0", "out_0", 6, "s", 20, 10, 1),
    ]  # fmt: skip
    one = junction(
        "one", 0, ["GgGrrrr", "rrrGgrr", "rGrrrGG"],
        [(0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (2, 5), (0, 6), (4, 5), (3, 6)],
        [(1, 2), (4, 2), (6, 0)],
    )  # fmt: skip
    two = junction("two", 7, ["Gr", "rG"], [(0, 1)])
    return network(lanes, links, [one, two])


def wide():
    """Seventy groups, more than fit in one word of bits: 0, 3, 64, 66 and 69 cross each other in
    part, and 66 gives way to 3 and waits inside.
    """
    lanes = [(f"in{g}_0", 120, 13) for g in range(70)] + [("out_0", 200, 13), ("short_0", 30, 13)]
    links = [
        (
            f"in{g}_0",
            "short_0" if g == 69 else "out_0",
            g,
            "l" if g == 66 else "s",
            20,
            10,
            2 if g == 66 else 1,
        )
        for g in range(70)
    ]
    stages = []
    for lit in ({0: "G", 3: "G", 66: "g"}, {64: "G", 69: "G"}, {66: "G"}):
        stages.append(
            "".join(lit.get(g, "r" if g in (0, 3, 64, 66, 69) else "G") for g in range(70))
        )
    return network(
        lanes,
        links,
        [
            junction(
                "wide",
                0,
                stages,
                [(0, 64), (3, 69), (3, 66), (64, 66), (0, 69), (66, 69)],
                [(66, 3)],
            )
        ],
    )


class Case:
    """Random traffic before random signals on a network;
    the plain tables and the naive planner of it.
    """

    holds, lengths = (0.0, 1.0, 3.0, 6.0, 12.0, 22.0), (8.0, 15.0, 27.0)

    def __init__(self, net, seed, times):
        self.net, self.random, self.times = net, np.random.default_rng(seed), times
        self.flat = flat_tables(net, times)._replace(
            holds_s=np.array(self.holds), lengths_s=np.array(self.lengths)
        )
        self.naive = naive.Naive(net, times, MODEL, self.holds, self.lengths)
        self.stages = [self.naive.stages(j) for j in range(len(net.junctions))]
        self.barred, self.due = {}, {}
        self.limits_random = np.random.default_rng(10_000 + seed)

    def draw(self, links=None):
        random, n = self.random, len(self.net.groups)
        self.target = np.array(
            [random.integers(0, len(s) + 1) for s in self.stages], np.int32
        )  # one more than there are, too
        lit = [s[t] if t < len(s) else s[0] for t, s in zip(self.target, self.stages, strict=True)]
        shown = "".join(
            "?ryGG"[level] if level != 3 else "g"
            for s in lit
            for c, level in s.items()
            if c[0] == "group"
        )
        if random.random() < 0.4:
            shown = "".join(
                random.choice(list("ry")) if random.random() < 0.4 else c for c in shown
            )
        shown_for = random.choice([0.0, 1.0, 2.0, 4.5, 12.0, 40.0], n) + random.random(n)
        self.ended = 500.0 - random.choice([0.5, 2.0, 6.0, 50.0], n) - random.random(n)
        rows = []
        for link in range(len(self.net.links)) if links is None else links:
            if self.net.links[link].direction == "c":
                continue
            for _ in range(random.integers(0, 4)):
                standing = random.random() < 0.5
                distance = float(random.uniform(0, 25 if standing else 150))
                if (
                    len(self.net.links[link].via) > 1 and random.random() < 0.25
                ) or random.random() < 0.03:
                    distance = -1.0 - float(random.random())
                speed = float(random.uniform(0, 1.5) if standing else random.uniform(2, 14))
                rows.append(
                    (
                        link if random.random() < 0.97 else -1,
                        distance,
                        speed,
                        float(random.uniform(0, 50)) if standing else 0.0,
                    )
                )
        room = {
            x.id: float(random.uniform(0, 45)) for x in self.net.lanes if random.random() < 0.35
        }
        self.draw_limits(shown)
        persons = {5: int(random.integers(1, 4))} if random.random() < 0.4 else {}
        unseen = {
            g: float(self.limits_random.uniform(0.0, 3.0))
            for g in range(len(shown))
            if self.limits_random.random() < 0.3
        }
        self.seen = observed(
            self.net,
            500.0,
            rows,
            shown,
            shown_for,
            room=room,
            persons=persons,
            unseen=unseen or None,
            known=bool(random.random() < 0.85),
            inside=bool(random.random() < 0.5),
        )
        return self.seen

    def draw_limits(self, shown):
        """For some groups, until when they may not begin again; for those of them that are not
        green, when they have to.
        """
        random, self.barred, self.due = self.limits_random, {}, {}
        if random.random() < 0.6:
            some = random.choice(len(shown), len(shown) // 2, replace=False).tolist()
            self.barred = {g: float(random.uniform(-10, 35)) for g in some}
            self.due = {g: float(random.uniform(-10, 70)) for g in some if shown[g] in "ry"}

    def plan(self):
        signals, traffic = signals_of(self.seen, self.ended), traffic_of(self.seen)
        observed = lane_queues.observe(self.flat, signals, traffic)
        return planner_kernel.plan(
            self.flat,
            FIGURES,
            self.target,
            observed,
            self.limits(),
            self.seen.links_known,
            self.seen.inside_seen,
        )

    def limits(self):
        groups = range(len(self.net.groups))
        return cycle_times(
            len(groups),
            [self.barred.get(g, -np.inf) for g in groups],
            [self.due.get(g, np.inf) for g in groups],
        )

    def decided(self):
        return self.naive.targets(self.seen, self.target, self.ended, self.barred, self.due)


def arms_case(seed):
    net = arms()
    return Case(
        net,
        seed,
        timing(
            net,
            least=[5, 4, 5, 6, 5, 7, 5, 5, 5],
            yellow=[3, 3, 3.5, 3, 3, 0, 3, 3, 4],
            clearance=[0.5, 1, 0, 1, 1, 5, 0, 1, 1],
        ),
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_junctions_decision_is_the_naive_one(seed):
    case = arms_case(400 + seed)
    for _ in range(9):
        case.draw()
        assert case.plan().tolist() == case.decided()


@pytest.mark.parametrize("seed", range(3))
def test_so_is_that_of_a_junction_with_more_groups_than_bits_in_a_word(seed):
    net = wide()
    case = Case(net, 500 + seed, timing(net, least=np.where(np.arange(70) % 3, 5.0, 7.0)))
    assert len(case.stages[0]) > 4
    for _ in range(8):
        case.draw([0, 3, 64, 66, 69, int(case.random.integers(70))])
        assert case.plan().tolist() == case.decided()


@pytest.mark.parametrize("net", [arms(), wide()], ids=["arms", "wide"])
def test_the_table_of_stages_holds_the_lights_of_each(net):
    case = Case(net, 0, timing(net))
    t = case.flat
    for j, one in enumerate(net.junctions):
        columns = [
            *(("group", g) for g in one.groups),
            *(("inside", g) for g in case.naive.waiting_groups(one)),
        ]
        here, after = t.junctions[j], t.junctions[j + 1]
        assert after.first_column - here.first_column == len(columns)
        rows = range(here.first_stage, after.first_stage)
        assert [
            dict(zip(columns, t.stages[r].tolist(), strict=False)) for r in rows
        ] == case.stages[j]
        for r, lights in zip(rows, case.stages[j], strict=True):
            assert {
                columns[b] for b in range(len(columns)) if int(t.lit[r, b // 64]) >> b % 64 & 1
            } == {c for c, x in lights.items() if x >= 3}
            assert {
                columns[b] for b in range(len(columns)) if int(t.green[r, b // 64]) >> b % 64 & 1
            } == {c for c, x in lights.items() if x == 4}
            assert (t.stages[r, len(columns) :] == 1).all(), (
                "beyond the junction's own columns it is red"
            )
        block = t.yields[here.first_column : after.first_column]
        assert {
            (columns[a], columns[b]) for a, b in np.argwhere(block).tolist()
        } == case.naive.yields(one)
        for g in one.groups:
            own = [case.naive.intergreen(one, h, g) for h in one.groups]
            assert t.intergreen_s[g].tolist() == own + [0.0] * (t.intergreen_s.shape[1] - len(own))


@pytest.mark.parametrize("seed", range(6))
def test_the_queues_of_a_junction_are_the_naive_ones(seed):
    case = arms_case(600 + seed)
    t, net = case.flat, case.net
    for _ in range(8):
        seen = case.draw()
        traffic, naive_room = traffic_of(seen), seen.room_m.copy()
        behind, streets = lane_queues.count_arriving(t, traffic.link)
        observed = lane_queues.observe(t, signals_of(seen, case.ended), traffic)
        assert behind.tolist() == [
            sum(k >= 0 and net.links[k].to_lane == i for k in traffic.link)
            for i in range(len(net.lanes))
        ]
        for j, one in enumerate(net.junctions):
            columns = [
                *(("group", g) for g in one.groups),
                *(("inside", g) for g in case.naive.waiting_groups(one)),
            ]
            expected = case.naive.queues(seen, j, naive_room, behind)
            stop_lanes = range(t.junctions[j].first_lane, t.junctions[j + 1].first_lane)
            for place, a in enumerate(stop_lanes):
                lane = t.stop_lanes[a].lane
                street = sum(
                    behind[i] for i, x in enumerate(net.lanes) if x.edge == net.lanes[lane].edge
                )
                assert streets[t.lanes[lane].street] == street
                memory = np.zeros(30, queue.VEHICLE)
                end = lane_queues.fill_lane(memory, np.int64(2), t, FIGURES, a, observed)
                cars = [
                    (
                        x.eta,
                        x.weight,
                        x.before,
                        columns.index(x.column),
                        x.closed,
                        x.still,
                        x.inside,
                    )
                    for x in expected[place]
                ]
                found = np.array(memory[2:end].tolist(), float).reshape(-1, 7)
                assert found == pytest.approx(np.array(cars, float).reshape(-1, 7))
                assert end == 2 + len(cars)
        assert observed.downstream.room_m == pytest.approx(naive_room)


@pytest.mark.parametrize("seed", range(3))
def test_the_groups_that_are_withheld_are_the_naive_ones(seed):
    case, found = arms_case(650 + seed), []
    for _ in range(40):
        seen = case.draw()
        observed = lane_queues.observe(case.flat, signals_of(seen, case.ended), traffic_of(seen))
        withheld = lane_queues.would_block(case.flat, FIGURES, observed)
        assert np.flatnonzero(withheld).tolist() == case.naive.withheld(seen)
        found += case.naive.withheld(seen)
    assert {0, 6} <= set(found), "both that lead into short lanes"


@pytest.mark.parametrize("seed", range(4))
def test_the_look_ahead_from_the_signals_as_they_stand_is_the_naive_one(seed):
    case = arms_case(700 + seed)
    for _ in range(16):
        seen = case.draw()
        for j, one in enumerate(case.net.junctions):
            picks = case.random.permutation(len(case.stages[j]))[: case.random.integers(1, 5)]
            stages = [case.stages[j][s] for s in picks]
            soon, earliest, bound = candidates.look_ahead(
                case.flat, j, picks, signals_of(seen, case.ended), case.limits().barred_s
            )
            case.decided()  # takes over who is barred
            naive_soon, possible = case.naive.ahead(seen, one, stages, case.ended)
            assert soon == pytest.approx(
                np.array([[-np.inf if t is None else t for t in x.values()] for x in naive_soon])
            )
            assert bool(bound) == all(x > 0.0 for x in possible[1:])
            assert earliest == pytest.approx(
                np.array(case.naive.after_greens_to_come(one, stages, naive_soon, possible))
            )


@pytest.mark.parametrize("net", [arms(), wide()], ids=["arms", "wide"])
def test_the_times_of_a_change_are_the_naive_ones(net):
    case = Case(net, 0, timing(net, yellow=np.arange(len(net.groups)) % 7 + 3.0))
    t = case.flat
    for j, one in enumerate(net.junctions):
        here, after = t.junctions[j], t.junctions[j + 1]
        columns, width = after.first_column - here.first_column, one.end - one.first
        picks = slice(here.first_stage, min(after.first_stage, here.first_stage + 6))
        found = candidates.change_times(
            t.stages[picks, :columns].copy(), width, t.intergreen_s[one.first : one.end]
        )
        stages = case.stages[j][:6]
        for x, before in enumerate(stages):
            for y, after in enumerate(stages):
                expected = case.naive.change(one, before, after)
                assert found[x, y].tolist() == [
                    -np.inf if s is None else s for s in expected.values()
                ]


def words(columns, count):
    out = np.zeros(count, np.uint64)
    for c in columns:
        out[c // 64] |= np.uint64(1) << np.uint64(c % 64)
    return out


@pytest.mark.parametrize("columns", [5, 70])
def test_the_stages_worth_trying_are_the_naive_ones(columns):
    random = np.random.default_rng(columns)
    for _ in range(150):
        some = random.choice(columns, 5, replace=False).tolist()
        stages = [
            {c: int(random.choice([1, 3, 4])) if c in some else 1 for c in range(columns)}
            for _ in range(random.integers(1, 8))
        ]
        need = {c for c in some if random.random() < 0.5}
        shut = {c for c in some if c not in need and random.random() < 0.5}
        shown = {c for c in some if random.random() < 0.5}
        count = -(-columns // 64)
        lit = np.array([words([c for c, x in s.items() if x >= 3], count) for s in stages])
        green = np.array([words([c for c, x in s.items() if x == 4], count) for s in stages])
        first = int(random.integers(0, len(stages)))
        demand = candidates.Demand(words(need, count), words(shut, count), words(shown, count))
        usable = random.random(len(stages)) < random.choice([0.5, 1.0])
        found = candidates.worth_trying(lit, green, usable, first, demand)
        tried = [k for k in range(len(stages)) if usable[k] or k == first]
        expected = naive.pick_stages(
            [stages[k] for k in tried], tried.index(first), need, shut, shown
        )
        assert found.tolist() == [tried[k] for k in expected]
        assert candidates.overlap(words(need, count), lit[first]) == sum(
            stages[first][c] >= 3 for c in need
        )


@pytest.mark.parametrize("columns", [5, 70])
def test_of_too_many_stages_those_are_tried_that_serve_most_and_one_for_each_who_needs_it(
    columns,
):
    random = np.random.default_rng(columns)
    most = candidates.MOST_TRIED
    count = -(-columns // 64)
    for number in (2 * most, most + 1):
        sets = [
            {c for c in range(columns) if random.random() < 0.3} | {columns - 2}
            for _ in range(number)
        ]
        rare = number // 2
        sets[rare] = {columns - 1}  # the only one that serves the last column
        for other in {*range(number)} - {rare}:
            sets[other].discard(columns - 1)
        protected = [{c for c in own if random.random() < 0.5} for own in sets]
        served_s = random.uniform(1.0, 2.0, number)
        served_s[rare] = 0.1
        lit = np.array([words(own, count) for own in sets])
        green = np.array([words(own, count) for own in protected])
        need = words(range(columns), count)
        picks = np.arange(number)[::-1].copy()
        found = candidates.most_useful(picks, served_s[picks], lit, green, need).tolist()

        assert len(found) == most
        assert found[0] == picks[0], "that of now"
        assert rare in found
        assert set().union(*(sets[k] for k in found)) == set().union(*sets)
        assert set().union(*(protected[k] for k in found)) == set().union(*protected)
        # a second way: first those that add to what is served, then those that serve most
        order = sorted(range(number), key=lambda k: -served_s[k])
        alone, reached = (
            {number - 1},
            {("lit", c) for c in sets[number - 1]} | {("green", c) for c in protected[number - 1]},
        )
        for k in order:
            adds = {("lit", c) for c in sets[k]} | {("green", c) for c in protected[k]}
            if not adds <= reached:
                alone.add(k)
                reached |= adds
        rest = [k for k in order if k not in alone][: most - len(alone)]
        assert set(found) == alone | set(rest)


@pytest.mark.parametrize("net", [arms(), wide()], ids=["arms", "wide"])
def test_a_junction_is_settled_while_every_other_stage_would_end_a_green_short_of_its_least(net):
    case = Case(net, 800, timing(net, least=5.0))
    t, found = case.flat, []
    for _ in range(25):
        seen = case.draw([])
        for j, one in enumerate(net.junctions):
            stage = int(case.target[j]) % len(case.stages[j])
            young = {
                ("group", g) for g in one.groups if seen.shown[g] >= 3 and seen.shown_for_s[g] < 5.0
            }
            others = [s for k, s in enumerate(case.stages[j]) if k != stage]
            expected = all(any(s[c] < 3 for c in young) for s in others)
            assert (
                bool(
                    candidates.is_settled(
                        t, j, len(case.stages[j]), stage, signals_of(seen, case.ended)
                    )
                )
                == expected
            )
            found.append(expected)
    assert {True, False} <= set(found)
