"""Agents' networks on a street: what they choose, when, and files that are refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from tests.control.builders import letters, observed, pair, timing
from tests.onnx_files import linear

from headway.control.features import QueueFeatures
from headway.control.models import ModelFile, model_controller
from headway.control.onnx_policy import OnnxPolicy
from headway.settings import Settings

SAID = {"headway_observation": "queues", "headway_interval_s": "5"}
NET = pair()
SIZE = QueueFeatures.size(NET, 0)
STAGES = len(NET.junctions[0].stages)


def policy(data, net=NET):
    return OnnxPolicy(net, timing(net), data, "model a@1: a.onnx", "a@1")


def constant(values, **more):
    """A network that gives these, whatever is seen."""
    return linear(np.zeros((SIZE, len(values))), values, SAID | more.pop("said", {}), **more)


NOW = "".join(letters(junction.stages[0]) for junction in NET.junctions)  # all show their first
OLD = [60.0] * len(NOW)


def test_the_stage_of_greatest_value_is_wanted_once_a_change_is_possible():
    values = [0.0] * STAGES
    values[-1] = 2.0
    agent = policy(constant(values))
    young, old = (observed(NET, 100.0, [], NOW, [age] * len(NOW)) for age in (1.0, 60.0))
    _, state = agent.step(young, agent.start(young))
    assert state.target[0] == 0, "the minimum green of the stage of now is not over"
    proposal, state = agent.step(old, agent.start(old))
    assert state.target[0] == STAGES - 1
    assert proposal.controller == "a@1"
    assert state.next_s == 105.0
    _, after = agent.step(replace(old, at_s=104.0), state)
    assert after is state, "it decides every five seconds"


def test_what_it_sees_is_the_set_queues():
    """Weights of one value alone: the share of stopped vehicles of group 2, in twentieths."""
    stopped = STAGES + 2 + 4 * 2 + 1
    weights = np.zeros((SIZE, STAGES))
    weights[stopped, 1] = 20.0
    agent = policy(linear(weights, [0.5] + [0.0] * (STAGES - 1), SAID))
    link = NET.groups[2].links[0]
    for stopped_vehicles, stage in ((0, 0), (1, 1), (3, 1)):
        rows = [(link, 5.0 + 7.5 * k, 0.0, 9.0) for k in range(stopped_vehicles)]
        seen = observed(NET, 100.0, rows, NOW, OLD)
        values, known = agent.values(seen, agent.start(seen))
        assert values[0, 1] == pytest.approx(stopped_vehicles)
        assert known.all()
        assert agent.step(seen, agent.start(seen))[1].target[0] == stage


def test_a_junction_that_it_is_not_for_is_left_to_the_fallback():
    said = {"headway_junction": NET.junctions[0].id}
    agent = policy(constant([0.0] * STAGES, said=said))
    seen = observed(NET, 100.0, [], NOW, OLD)
    proposal, _ = agent.step(seen, agent.start(seen))
    assert proposal.confidence[0] > 0.9
    assert set(proposal.why["learned"][1:].tolist()) <= {0.0}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is no ONNX network"),
        (b"\x08\x08garbage", "is no ONNX network"),
        (constant([0.0] * STAGES)[:-30], "is no ONNX network|its metadata must say"),
        (linear(np.zeros((SIZE, STAGES)), [0.0] * STAGES, {}), "say headway_observation: queues"),
        (constant([0.0] * STAGES, said={"headway_observation": "sumo-rl"}), "observation: queues"),
        (constant([0.0] * STAGES, said={"headway_interval_s": "5.5"}), "whole seconds, 1 to 3600"),
        (constant([0.0] * STAGES, said={"headway_interval_s": "0"}), "whole seconds, 1 to 3600"),
        (constant([0.0] * STAGES, said={"headway_junction": "elsewhere"}), "junction 'elsewhere'"),
        (constant([0.0] * STAGES, said={"headway_network": "7"}), "is of another network"),
        (constant([0.0] * (STAGES - 1)), rf"with at least {STAGES} stages"),
        (constant([np.nan] * STAGES), "no finite numbers"),
        (constant([0.0] * STAGES, rows=7), "takes 7 observations at a time, not 2"),
        (constant([0.0] * STAGES, inputs=2), "must have one input"),
        (
            linear(np.zeros((SIZE + 1, STAGES)), [0.0] * STAGES, SAID),
            f"takes observations of {SIZE + 1} values; here they have {SIZE}",
        ),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_with_its_place(data, says):
    with pytest.raises(ValueError, match=rf"^model a@1: a\.onnx: .*({says})"):
        policy(data)


def test_weights_in_another_file_which_anybody_may_change_are_refused(tmp_path, monkeypatch):
    """Whose checksum is in the registry is the model's file alone."""
    weights = np.ones((SIZE, STAGES), np.float32)
    (tmp_path / "weights.bin").write_bytes(weights.tobytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^model a@1: a\.onnx: is no ONNX network .*weights\.bin"):
        policy(linear(weights, [0.0] * STAGES, SAID, beside="weights.bin"))


def test_values_that_become_no_numbers_on_the_street_are_a_fault_of_the_step():
    weights = np.zeros((SIZE, STAGES))
    weights[STAGES + 2 : STAGES + 4, 0] = 3e38  # group 0: too much where many are there and stand
    agent = policy(linear(weights, [0.0] * STAGES, SAID))
    rows = [(NET.groups[0].links[0], 5.0 + 7.5 * k, 0.0, 9.0) for k in range(20)]
    seen = observed(NET, 100.0, rows, NOW, OLD)
    with pytest.raises(ValueError, match="no finite numbers"):
        agent.step(seen, agent.start(seen))


def test_it_is_a_kind_of_model(tmp_path):
    path = tmp_path / "agent.onnx"
    path.write_bytes(constant([0.0] * STAGES))
    of = ModelFile("a", 2, "onnx-policy", hashlib.sha256(path.read_bytes()).hexdigest(), str(path))
    found = model_controller(of, NET, timing(NET), Settings())
    assert isinstance(found, OnnxPolicy)
    assert found.name == "a@2"
