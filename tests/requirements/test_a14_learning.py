"""Row A14: an agent learns on the real plant, and what its parts do."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from headway.control.qlearning import neighbours
from headway.learning.replay import Replay
from headway.learning.training import Reward, step_costs
from headway.plants.sumo import SumoPlant, SumoSettings, network_of
from headway.plants.sumo.scenarios import scenario

EPISODES, SECONDS = 6, 900
# the first episode decides at random, the last ones by what was learnt
AGENT = f"""
q_learning:
  episodes: {EPISODES}
  explore: [1.0, 0.02]
  reward: {{stopped: 1.0, longest: 2.0, change: 1.0, neighbours: 0.3}}
"""


@pytest.mark.row("A14")
def test_a14_an_agent_gets_better_than_chance(headway, shortened, tmp_path, figures):
    """`headway train --scenario FILE --config FILE` with a section `q_learning`; then
    `headway bench --controller fixed,q-learning,planner` judges it. `python -m bench ablation` says
    what each part is worth ([tuning](tuning.md#q-learning)).
    """
    street, table = shortened("cologne3", SECONDS), tmp_path / "q.table"
    (tmp_path / "agent.yaml").write_text(AGENT)
    done = headway(
        "train", "--scenario", str(street), "--out", str(table), "--config",
        str(tmp_path / "agent.yaml"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stopped = [float(x) for x in re.findall(r"mean stopped ([\d.]+)", done.stdout)]
    assert len(stopped) == EPISODES
    states = [int(x) for x in re.findall(r"episode \d+: .*states (\d+)", done.stdout)]
    assert states == sorted(states)
    learnt = float(np.median(stopped[-3:]))
    assert learnt < stopped[0]
    figures.add("vehicles stopped, first episode, at random", stopped[0], "")
    figures.add("the last three, by what was learnt, median", learnt, "")

    (tmp_path / "alone.yaml").write_text("control: {confidence: 0}\n")
    found = tmp_path / "bench.json"
    done = headway(
        "bench", "--sumocfg", str(street), "--controller", "fixed,q-learning,planner", "--seeds",
        "1", "--config", str(tmp_path / "alone.yaml"), "--json", str(found),
        HEADWAY_QTABLE=str(table),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for run in json.loads(found.read_text()):
        assert run["safety_violations"] == 0
        figures.add(f"delay on a seed that is new, {run['controller']}", run["delay_s"], "s")


@pytest.mark.row("A14")
def test_a14_the_coordinator_the_terms_of_the_reward_and_the_replay():
    """Settings `q_learning: {reward: {stopped, longest, change, neighbours}}`: each term counts as
    it is weighed, and `neighbours` the mean of those whose traffic a junction has. What was a
    surprise is replayed more often, with less weight each time.
    """
    site = scenario("cologne3")
    network = network_of(site)
    share = neighbours(network)
    assert share.sum(axis=1) == pytest.approx(np.ones(3))
    assert not share.diagonal().any()
    plant = SumoPlant(SumoSettings(site.sumocfg, 1), network)
    try:
        plant.advance(120.0)  # under the network's own programme
        seen = plant.observe()
    finally:
        plant.close()
    whole, stopped, longest = (
        step_costs(network, seen, reward)
        for reward in (Reward(), Reward(longest=0.0), Reward(stopped=0.0))
    )
    assert whole == pytest.approx(stopped + longest)
    assert stopped.sum() > 0.0
    assert longest.sum() > 0.0

    replay, random = Replay(1 << 10), np.random.default_rng(1)
    places = replay.put(np.zeros(1000, replay.rows.dtype))
    surprises = np.full(1000, 0.01)
    surprises[7] = 10.0
    replay.learnt(places, surprises)
    drawn, weights = replay.draw(20_000, random)
    # in proportion to priority ** 0.6 (Schaul and others, 2016), less by its weight
    priority = (surprises + 1e-3) ** 0.6
    assert (drawn == 7).mean() == pytest.approx(priority[7] / priority.sum(), rel=0.1)
    assert weights[drawn == 7].max() < weights[drawn != 7].min()
    before = weights.min()
    for _ in range(300):
        replay.learnt(places, np.full(1000, 1e-4))
    replay.learnt(places, surprises)
    assert replay.draw(20_000, random)[1].min() < before, "corrected the more for it"
