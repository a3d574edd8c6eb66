"""Controllers: pure steps; Webster against the text book; the planner's model against itself; confidence by factor."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plants.test_sumo import street

from headway.control.catalogue import CONTROLLERS, controller
from headway.control.confidence import Confidence, freshness, novelty, performance
from headway.control.planner import MODEL
from headway.control.queue_model import Model, eta_s
from headway.control.webster import CycleBounds, critical_ratios, splits, webster_cycle
from headway.roads import BENCHMARK, read_network, work_out
from headway.roads.catalogue import scenario


@pytest.mark.parametrize("name", list(CONTROLLERS))
def test_a_step_changes_nothing_that_it_was_given_and_repeats_itself(name):
    s = street("cologne3", by="fixed")
    try:
        for _ in range(200):
            s.tick()
        one = controller(name, s.network, work_out(s.network, BENCHMARK))
        state = one.start(s.seen)
        for _ in range(3):
            _, state = one.step(s.seen, state)
        before, seen = copy.deepcopy(state), copy.deepcopy(s.seen)
        first, _ = one.step(s.seen, state)
        again, _ = one.step(s.seen, state)
        assert repr(state) == repr(before)
        assert repr(s.seen) == repr(seen)
        assert (first.wanted == again.wanted).all()
        assert first.wanted.shape == s.seen.shown.shape
        assert ((first.confidence >= 0) & (first.confidence <= 1)).all()
    finally:
        s.plant.close()


def test_an_unknown_controller_is_refused_with_the_known_names():
    network = read_network(scenario("cologne1").net)
    with pytest.raises(ValueError, match="There are: fixed, webster"):
        controller("magic", network, work_out(network, BENCHMARK))


@given(st.lists(st.floats(0, 0.4), min_size=1, max_size=6), st.floats(0, 30))
def test_websters_cycle_is_his_formula_within_the_bounds(ratios, lost):
    y, bounds = np.array(ratios), CycleBounds(40, 120)
    cycle = webster_cycle(y, lost, bounds)
    if y.sum() >= 1:
        assert cycle == 120
    else:
        assert cycle == pytest.approx(min(max((1.5 * lost + 5) / (1 - y.sum()), 40), 120))


@pytest.mark.parametrize("bad", [np.array([-0.1]), np.array([np.nan]), np.array([np.inf])])
def test_a_ratio_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match="finite and not negative"):
        webster_cycle(bad, 10, CycleBounds())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(40, 120))
def test_splits_fill_the_cycle_and_keep_the_shortest_green(ratios, cycle):
    y = np.array(ratios)
    least = np.full(len(y), 5.0)
    greens = splits(y, cycle, 3.0 * len(y), least)
    assert (greens >= least - 1e-9).all()
    assert greens.sum() == pytest.approx(max(cycle - 3.0 * len(y), least.sum()))


def test_a_lane_of_two_stages_adds_only_what_is_missing():
    serves = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    assert critical_ratios(np.array([0.3, 0.2, 0.4]), serves).tolist() == [0.3, 0.2]
    assert critical_ratios(np.array([0.3, 0.2, 0.6]), serves).sum() == pytest.approx(0.6)


@given(st.floats(0, 300), st.floats(0, 30), st.floats(5, 30))
def test_the_time_to_the_stop_line_is_between_the_bounds_of_physics(distance, speed, limit):
    eta = eta_s(distance, speed, limit, MODEL.accel)
    assert eta >= distance / max(limit, 1e-9) - 1e-6
    assert eta <= distance / limit + limit / MODEL.accel + 1e-6


def test_the_models_figures_are_positive_and_in_the_order_of_their_names():
    assert all(x >= 0 for x in MODEL)
    assert Model._fields[0] == "horizon"


def test_confidence_is_nought_where_a_factor_is_and_tells_each():
    one = np.ones(2)
    c = Confidence(one * freshness(1.0), np.array([1.0, 0.0]), novelty(np.array([20.0, 20.0])), one, performance(np.zeros(2)))
    assert c.score[1] == 0
    assert {name: float(factor[0]) for name, factor in c.factors().items()} == {
        "freshness": pytest.approx(0.8),
        "completeness": 1.0,
        "novelty": 0.5,
        "agreement": 1.0,
        "performance": 1.0,
    }
    assert c.score[0] == pytest.approx(0.833, abs=1e-3)
    assert freshness(float("nan")) == 0
