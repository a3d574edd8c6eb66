"""A decision for an observation that somebody gives: what it says, and what it refuses."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from statistics import NormalDist

import msgspec
import numpy as np
import pytest
from msgspec import structs
from tests.control.builders import junction, network, pair, timing

from headway.control.catalogue import CONTROLLERS
from headway.control.fixed import FixedTime
from headway.control.planner import Planner
from headway.control.predict import (
    CHANGE_UNKNOWN,
    MOST_IN_BATCH,
    MOST_VEHICLES,
    PREDICTION_ERROR,
    Prediction,
    Predictor,
    SeenExit,
    SeenJunction,
    SeenPersons,
    SeenVehicle,
    predict,
    read_many,
    read_one,
)
from headway.control.qlearning import QLearning
from headway.control.qtable import QTable
from headway.roads import GO

NET = pair()
TIMES = timing(NET)


@pytest.fixture(scope="module")
def planner():
    return Predictor(Planner(NET, TIMES, name="fast@3"), NET, TIMES)


def seen(*vehicles, **more):
    """Junction `one` of three groups, all of which cross; its first shows green. vehicles: (lane,
    metres[, seconds waited]), of which those that have waited stand.
    """
    found = [
        SeenVehicle(v[0], v[1], 0.0 if len(v) > 2 else 8.0, v[2] if len(v) > 2 else 0.0)
        for v in vehicles
    ]
    return SeenJunction("one", found, "Grr", **more)


def test_who_waits_at_red_while_nobody_comes_on_green_is_served(planner):
    found = planner.predict(seen(("b", 2.0, 10.0), ("b", 9.5, 8.0)))
    assert (found.junction, found.controller, found.stage, found.green) == (
        "one",
        "fast@3",
        1,
        (1,),
    )
    assert [a.stage for a in found.alternatives][:2] == [1, 0]
    delays = [a.expected_delay_s for a in found.alternatives]
    assert delays == sorted(delays)
    assert found.seconds == found.alternatives[0].seconds >= 3.0 + 5.0, "yellow and least green"
    assert found.why == (
        f"stage 1 begins for 2 vehicles, 2 of them stopped, the longest for 10 s: {delays[0]:.0f} "
        f"vehicle seconds of delay expected, {delays[1] - delays[0]:.0f} less than with stage 0, "
        "the next best."
    )


def test_a_platoon_on_green_is_let_through_first(planner):
    platoon = [("a", 8.0 * k + 5.0) for k in range(6)]
    found = planner.predict(seen(*platoon, ("b", 2.0, 1.0)))
    assert (found.stage, found.green) == (0, (0,))
    assert found.why.startswith("stage 0 is kept for 6 vehicles: ")


def test_a_green_that_is_too_young_is_kept_and_there_is_no_alternative(planner):
    found = planner.predict(seen(("b", 2.0, 10.0), shown_for_s=1.0))
    assert (found.stage, len(found.alternatives)) == (0, 1)
    assert found.factors["margin"] == 1.0
    assert found.why.endswith("no other can begin now, or nobody asks for it.")
    young = [1.0, 60.0, 60.0]
    assert planner.predict(seen(("b", 2.0, 10.0), shown_for_s=young)).stage == 0


def test_the_confidence_is_the_product_of_its_factors(planner):
    whole = planner.predict(seen(("b", 2.0, 10.0), ("b", 9.5, 8.0)))
    best, second = (a.expected_delay_s for a in whole.alternatives[:2])
    spread = PREDICTION_ERROR * math.hypot(best, second)
    margin = NormalDist(0.0, spread).cdf(second - best)
    assert whole.factors == pytest.approx(
        {"freshness": 1.0, "completeness": 1.0, "novelty": 1.0, "margin": margin}, abs=1e-3
    )
    less = planner.predict(seen(("b", 2.0, 10.0), ("b", 9.5, 8.0), age_s=2.5, completeness=0.6))
    assert less.factors == whole.factors | {"freshness": 0.5, "completeness": 0.6}
    assert less.confidence == pytest.approx(0.3 * whole.confidence, abs=1e-3)
    assert 0.5 < whole.confidence < 1.0, "1.00 everywhere would say nothing"


def test_equal_alternatives_are_no_confidence(planner):
    alike = planner.predict(seen(("b", 2.0, 10.0), ("c", 2.0, 10.0)))
    first, second = alike.alternatives[:2]
    assert {first.stage, second.stage} == {1, 2}
    assert alike.factors["margin"] == pytest.approx(0.5, abs=0.05)


def test_a_lane_with_more_than_the_model_was_checked_with_is_novel(planner):
    found = planner.predict(seen(*(("b", 5.0 + 7.0 * k, 5.0) for k in range(48))))
    assert found.factors["novelty"] == 0.5


def test_a_vehicle_whose_turn_is_not_known_counts_half():
    """Lane a of this network leads to both groups."""
    lanes = [("a_0", 100, 10), ("y_0", 100, 10), ("z_0", 100, 10)]
    links = [("a_0", "y_0", 0, "s", 10, 10, 0), ("a_0", "z_0", 1, "l", 10, 10, 0)]
    net = network(lanes, links, [junction("one", 0, ["Gr", "rG"], [(0, 1)])])
    predictor = Predictor(Planner(net, timing(net)), net, timing(net))
    for groups, share in (((0, 1), 1.0), ((-1, 1), 0.75), ((-1, -1), 0.5)):
        given = [SeenVehicle("a_0", 5.0 + 10.0 * k, group=g) for k, g in enumerate(groups)]
        assert predictor.predict(SeenJunction("one", given)).factors["novelty"] == share


def test_persons_and_full_exits_count(planner):
    nobody = planner.predict(seen())
    assert nobody.stage == 0
    assert nobody.why.startswith("stage 0 is kept for nobody in view")
    called = planner.predict(seen(persons=[SeenPersons(2, 3)]))
    assert called.green == (2,)
    blocked = planner.predict(seen(("b", 2.0, 10.0), ("c", 2.0, 10.0), exits=[SeenExit("y", 1.0)]))
    assert blocked.stage == 2, "who goes to y has no room there"


def test_nothing_is_remembered_and_the_order_of_vehicles_does_not_count(planner):
    rows = [("b", 2.0, 10.0), ("a", 40.0), ("c", 9.5, 8.0), ("a", 12.0)]
    first = planner.predict(seen(*rows))
    planner.predict(seen(*[("c", 5.0 + 7.0 * k, 60.0) for k in range(20)]))
    assert planner.predict(seen(*rows)) == first
    assert planner.predict(seen(*reversed(rows))) == first
    assert predict(Planner(NET, TIMES, name="fast@3"), NET, TIMES, seen(*rows)) == first


@pytest.mark.parametrize("name", [n for n in CONTROLLERS if n != "planner"])
def test_any_controller_tells_what_it_would_show(name):
    controller = CONTROLLERS[name](NET, TIMES)
    found = Predictor(controller, NET, TIMES).predict(seen(("b", 2.0, 10.0), age_s=2.5))
    assert (found.controller, found.junction) == (name, "one")
    assert found.green
    assert 0.0 <= found.confidence <= 0.5, "an old observation"
    assert found.why.startswith(f"{name} ")
    assert json.loads(msgspec.json.encode(found))["stage"] == found.stage


# what it says beside what it does on a street, second by second


def played(controller, seconds=120):
    """Colours that follow what is wanted after two seconds of yellow; (what is seen of junction
    `one`, as JSON has it; stage aimed at before; greens that are wanted) at each second.
    """
    rng = np.random.default_rng(3)
    state, at_s = None, 500.0
    shown, since_s = np.ones(len(NET.groups), np.int8), np.full(len(NET.groups), at_s - 60.0)
    for second in range(seconds):
        rows = [(lane, float(rng.uniform(1, 80)), 8.0 if rng.random() < 0.5 else 0.0)
                for lane in "abc" for _ in range(rng.integers(0, 3))]  # fmt: skip
        given = SeenJunction(
            "one",
            [SeenVehicle(lane, d, speed, 0.0 if speed else 9.0) for lane, d, speed in rows],
            "".join("ryyGG"[max(c, 0)] if c != 1 else "r" for c in shown[:3].tolist()),
            np.minimum(at_s - since_s[:3], 1000.0).tolist(),
            at_s=at_s,
        )
        predictor = Predictor(controller, NET, TIMES)
        seen, _ = predictor._observed(given, predictor._places["one"])
        seen = replace(seen, at_s=at_s)
        state = controller.start(seen) if second == 0 else state
        before = None if state is None else int(state.target[0])
        proposal, state = controller.step(seen, state)
        yield given, before, tuple(np.flatnonzero(proposal.wanted[:3] >= GO).tolist())

        at_s += 1.0
        is_wanted, is_green = proposal.wanted >= GO, shown >= GO
        ends, ended = is_green & ~is_wanted, (shown == 2) & (at_s - since_s >= 2.0)
        begins = is_wanted & ~is_green & ~(is_green | (shown == 2))[:3].any()
        for change, colour in ((ends, 2), (ended, 1), (begins, 4)):
            shown[change], since_s[change] = colour, at_s


@pytest.mark.parametrize("name", ["fixed", "actuated", "greedy", "q-learning"])
def test_it_says_what_the_controller_does_on_a_street(name, monkeypatch):
    """The interval between two decisions aside: what is told is the next one."""
    controller = CONTROLLERS[name](NET, TIMES)
    controller.interval_s = 0.0
    predictor = Predictor(CONTROLLERS[name](NET, TIMES), NET, TIMES)
    answers = []
    for given, before, wanted in played(controller):
        found = predictor.predict(structs.replace(given, stage=-1 if before is None else before))
        answers.append((found.green, wanted))
    assert len({wanted for _, wanted in answers}) > 2, "it does change"
    assert [ours for ours, _ in answers] == [theirs for _, theirs in answers]


@pytest.mark.parametrize("name", ["planner", "greedy", "actuated"])
def test_while_signals_change_the_stage_aimed_at_is_told_or_it_is_less_sure(name):
    predictor = Predictor(CONTROLLERS[name](NET, TIMES), NET, TIMES)
    changing = structs.replace(seen(("c", 2.0, 10.0)), shown="yrr", shown_for_s=1.0)
    guessed = predictor.predict(changing)
    told = predictor.predict(structs.replace(changing, stage=2))
    assert guessed.factors["change"] == CHANGE_UNKNOWN
    assert guessed.confidence <= CHANGE_UNKNOWN
    assert "change" not in told.factors
    assert (told.stage, told.green) == (2, (2,))
    assert "change" not in predictor.predict(seen(("c", 2.0, 10.0))).factors


def test_without_a_clock_a_programme_is_as_sure_as_its_longest_phase_is_long():
    of, predictor = NET.junctions[0], Predictor(FixedTime(NET, TIMES), NET, TIMES)
    greens = [tuple(np.flatnonzero(row >= GO).tolist()) for row in of.programme.colours]
    cycle_s = float(sum(of.programme.duration_s))
    longest_s = max(
        sum(float(s) for g, s in zip(greens, of.programme.duration_s, strict=True) if g == own)
        for own in greens
    )
    found = predictor.predict(SeenJunction("one"))
    assert found.confidence == found.factors["clock"] == round(longest_s / cycle_s, 4)
    begin_s = of.programme.offset_s
    for phase, own in enumerate(greens):
        at_s = begin_s + float(sum(of.programme.duration_s[:phase])) + 10 * cycle_s
        found = predictor.predict(SeenJunction("one", at_s=at_s))
        assert (found.green, found.confidence) == (own, 1.0)


def test_what_one_observation_cannot_say_counts_against_the_confidence():
    assert (
        Predictor(CONTROLLERS["webster"](NET, TIMES), NET, TIMES).predict(seen()).confidence == 0.0
    ), "it goes by flows that it measures, and by its own cycle"
    assert (
        Predictor(CONTROLLERS["max-pressure"](NET, TIMES), NET, TIMES).predict(seen()).confidence
        == 0.5
    ), "how many stand behind is not given"


def test_persons_of_a_group_are_added_up(planner):
    twice = seen(("b", 9.5, 8.0), persons=[SeenPersons(2, 3), SeenPersons(2, 4)])
    once = seen(("b", 9.5, 8.0), persons=[SeenPersons(2, 7)])
    assert planner.predict(twice) == planner.predict(once)
    assert planner.predict(once) != planner.predict(seen(("b", 9.5, 8.0)))


def test_a_q_table_tells_the_values_of_the_stages_that_it_has_tried():
    table = QTable(3, 64)
    agent = QLearning(NET, TIMES, table, 7.0)
    predictor = Predictor(agent, NET, TIMES)
    given = seen(("b", 2.0, 10.0))
    keys = []
    get = table.get
    table.get = lambda k: (keys.append(k.copy()), get(k))[1]
    assert predictor.predict(given).alternatives == ()
    table.add(keys[0][:1].repeat(2), np.array([0, 2]), np.array([-3.0, 4.0], np.float32))
    found = predictor.predict(given)
    assert [(a.stage, a.value, a.expected_delay_s) for a in found.alternatives] == [
        (2, 4.0, None),
        (0, -3.0, None),
    ]
    assert found.seconds == 7.0
    assert "performance" not in found.factors, "one observation says nothing of it"
    assert "neighbours" not in found.factors
    seeing = QLearning(NET, TIMES, QTable(3, 64, sees_neighbours=True), 7.0)
    found = Predictor(seeing, NET, TIMES).predict(given)
    assert found.factors["neighbours"] == 0.5, "nor of their demand, which its states have"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (SeenJunction("none"), r"^junction: no 'none' here\. There are: one, two\."),
        (seen(("q", 2.0)), r"^vehicles\[0\]\.lane: no lane 'q' before .*There are: a, b, c\."),
        (seen(("b", 1.0), ("x", 2.0)), r"^vehicles\[1\]\.lane: no lane 'x'"),
        (seen(("b", 1.0), ("d", 2.0)), r"^vehicles\[1\]\.lane: no lane 'd'"),
        (
            SeenJunction("one", [SeenVehicle("b", 2.0, group=2)]),
            r"^vehicles\[0\]\.group: lane 'b' has no group 2",
        ),
        (SeenJunction("one", [], "Gr"), "^shown: 2 letters, the junction has 3"),
        (SeenJunction("one", shown_for_s=[1.0]), "^shown_for_s: 1 numbers"),
        (SeenJunction("one", persons=[SeenPersons(3)]), r"^persons\[0\]\.group: "),
        (SeenJunction("one", stage=4000), r"^stage: 4000, the junction has \d+, from 0 on"),
        (SeenJunction("one", exits=[SeenExit("q", 1.0)]), r"^exits\[0\]\.lane: no lane 'q'"),
    ],
)
def test_what_the_network_has_not_is_refused_with_its_place(planner, given, says):
    with pytest.raises(ValueError, match=says):
        planner.predict(given)
    good = seen(("b", 2.0, 10.0))
    answers = planner.batch([good, given, good])
    assert isinstance(answers[1], str)
    assert answers[0] == answers[2] == planner.predict(good)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '{"junction": ""}',
        '{"junction": "one", "speed": 1}',
        '{"junction": "one", "vehicles": [{"lane": "b"}]}',
        '{"junction": "one", "vehicles": [{"lane": "b", "distance_m": NaN}]}',
        '{"junction": "one", "vehicles": [{"lane": "b", "distance_m": 1e999}]}',
        '{"junction": "one", "vehicles": [{"lane": "b", "distance_m": 2001}]}',
        '{"junction": "one", "vehicles": [{"lane": "b", "distance_m": 2, "speed_mps": -1}]}',
        '{"junction": "one", "vehicles": [{"lane": "b", "distance_m": 2, "waited_s": -1}]}',
        '{"junction": "one", "vehicles": [{"lane": "b", "distance_m": "2"}]}',
        '{"junction": "one", "shown": "GGX"}',
        '{"junction": "one", "completeness": 1.1}',
        '{"junction": "one", "age_s": -1}',
        '{"junction": "one", "stage": -2}',
        '{"junction": "one", "at_s": 1e11}',
        '{"junction": "one", "shown_for_s": [-1]}',
        '{"junction": "one", "persons": [{"group": -1}]}',
        '{"junction": "one", "vehicles": ['
        + ", ".join(['{"lane": "b", "distance_m": 2}'] * (MOST_VEHICLES + 1))
        + "]}",
    ],
)
def test_what_is_no_observation_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        read_one(text)


def test_a_batch_is_bounded():
    one = '{"junction": "one"}'
    assert len(read_many(f"[{', '.join([one] * 1000)}]")) == 1000
    for text in ("[]", f"[{', '.join([one] * 1001)}]", one):
        with pytest.raises(ValueError, match=r"."):
            read_many(text)
    vehicle = '{"lane": "b", "distance_m": 2}'
    full = f'{{"junction": "one", "vehicles": [{", ".join([vehicle] * MOST_VEHICLES)}]}}'
    most = MOST_IN_BATCH // MOST_VEHICLES
    assert len(read_many(f"[{', '.join([full] * most)}]")) == most
    with pytest.raises(ValueError, match="Send fewer observations at once"):
        read_many(f"[{', '.join([full] * (most + 1))}]")


def test_a_programme_without_such_a_stage_has_the_number_minus_one():
    found = Predictor(FixedTime(NET, TIMES), NET, TIMES).predict(SeenJunction("one"))
    assert isinstance(found, Prediction)
    assert found.stage in (-1, 0, 1, 2)
