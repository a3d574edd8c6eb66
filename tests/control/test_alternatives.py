"""What the planner tells of its alternatives is what it decides by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.control.builders import observed, pair, scenes, timing

from headway.control import Predicts
from headway.control.planner import MODEL, Planner
from headway.control.webster import Webster


@pytest.mark.parametrize("seed", range(3))
def test_the_chosen_alternative_is_what_the_step_aims_at(seed):
    net = pair()
    times = timing(net, max_cycle_s=90.0) if seed == 2 else timing(net)
    planner = Planner(net, times)
    changes = 0
    for seen in scenes(net, seed):
        state = planner.start(seen)
        target = np.array([seen.shown[:3].argmax(), seen.shown[3:].argmax()], np.int32)
        state = replace(state, target=target)
        _, after = planner.step(seen, state)
        for j in range(2):
            found = planner.alternatives(seen, state, j)
            assert found.stages[0] == target[j]
            assert found.stages[found.chosen] == after.target[j]
            assert np.isfinite(found.delay_s).all()
            if not found.is_bound:
                assert found.delay_s[found.chosen] == found.delay_s.min()
            changes += after.target[j] != target[j]
            told = planner.predicted_delay_s(seen, state, j)
            assert told == found.delay_s[found.chosen]
    assert changes > 5


def test_nobody_is_no_delay_and_one_who_waits_costs_until_he_has_left():
    net = pair()
    planner = Planner(net, timing(net))
    empty = observed(net, 500.0, [], "GrrGr")
    assert planner.predicted_delay_s(empty, planner.start(empty), 0) == 0.0
    seen = observed(net, 500.0, [(2, 2.0, 0.0, 10.0)], "GrrGr")
    found = planner.alternatives(seen, planner.start(seen), 0)
    of = dict(zip(found.stages.tolist(), found.delay_s.tolist(), strict=True))
    # he stands at red of group 1: after 3 s of yellow its green begins, and he drives off
    stage = planner.stages(0).colours(int(found.stages[found.chosen]))
    assert stage[1] == 4
    eta_s = np.sqrt(2 * 2.0 / MODEL.acceleration_mps2)
    assert min(of.values()) == pytest.approx(3.0 + MODEL.startup_loss_s - eta_s)
    assert of[0] > min(of.values()), "to hold first costs more"


def test_the_planner_alone_predicts():
    net = pair()
    assert isinstance(Planner(net, timing(net)), Predicts)
    assert not isinstance(Webster(net, timing(net)), Predicts)
