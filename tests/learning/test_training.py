"""Training on the real plant: it learns, and what it learnt is used, kept and told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headway.control.qlearning import QLearning
from headway.control.qtable import QTable
from headway.learning.training import TrainingSettings, train
from headway.plants.sumo import SumoPlant, SumoSettings, read_network
from headway.plants.sumo.scenarios import scenario
from headway.roads import BENCHMARK, work_out
from headway.safety import SafetyGate

pytestmark = pytest.mark.slow


def test_episodes_shorten_queues_and_the_table_outlives_the_process(tmp_path):
    of = scenario("cologne1")
    of = replace(of, end_s=of.begin_s + 1200)
    network = read_network(of.net)
    timing = work_out(network, BENCHMARK)
    path = tmp_path / "q.table"
    table = QTable(len(network.junctions[0].stages), 1 << 14, path)
    episodes = list(train(of, network, timing, table, TrainingSettings(episodes=6, rows=1 << 14)))
    # the median: SUMO's own run depends on where the heap lies, and an episode that explores into a
    # lock-up may be the last
    assert np.median([e.stopped for e in episodes[-3:]]) < np.mean(
        [e.stopped for e in episodes[:2]]
    )
    assert [e.states for e in episodes] == sorted(e.states for e in episodes)
    kept = QTable.read(path)
    assert len(kept) == episodes[-1].states

    plant = SumoPlant(SumoSettings(of.sumocfg, 5), network)
    try:
        agent = QLearning(network, timing, kept)
        state, gate = agent.start(plant.observe()), SafetyGate(network, timing, plant.time_s)
        known = []  # states that were learnt about are met, in whichever second
        for _ in range(300):
            seen = plant.observe()
            proposal, state = agent.step(seen, state)
            known.append(proposal.why["novelty"][0])
            plant.apply(gate.admit(proposal, seen.at_s, seen))
            plant.advance(1.0)
        assert set(proposal.why) == {
            "freshness",
            "completeness",
            "novelty",
            "agreement",
            "performance",
        }
        product = np.prod([proposal.why[k] for k in proposal.why], axis=0) ** 0.2
        assert np.allclose(product, proposal.confidence)
        assert max(known) > 0.0
    finally:
        plant.close()
