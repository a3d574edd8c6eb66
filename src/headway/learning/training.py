"""Training the Q-table: episodes on the real plant, through the real gate, with prioritised replay
and coordination.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from headway.control.qlearning import QLearning, QState
from headway.control.qtable import QTable
from headway.learning.replay import Replay
from headway.plants.sumo import SumoPlant, SumoSettings
from headway.plants.sumo.scenarios import Scenario
from headway.roads import Network, Timing
from headway.safety import SafetyGate
from headway.values import BoolArray, FloatArray, Observation


@dataclass(frozen=True, slots=True)
class Reward:
    """Terms of the reward of a junction, per second of the interval: all but the last count against
    it.

    halted, longest wait (minutes), change of stage, neighbours' mean reward (the coordinator's
    share).
    """

    halted: float = 1.0
    longest: float = 2.0
    change: float = 1.0
    neighbours: float = 0.3


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """rate: learning rate, falling with visits; gamma: discount of an interval; explore: share of
    tries, first and last.
    """

    episodes: int = 10
    rate: float = 0.3
    gamma: float = 0.9
    explore: tuple[float, float] = (0.3, 0.02)
    batch: int = 256
    rows: int = 1 << 18
    reward: Reward = Reward()


@dataclass(frozen=True, slots=True)
class Episode:
    """What one episode came to: mean number of halted vehicles, decisions, states known, mean
    surprise.
    """

    number: int
    halted: float
    decisions: int
    states: int
    surprise: float


def neighbours(network: Network) -> FloatArray:
    """Row-normalised adjacency (junctions, junctions): who sends traffic straight to whom, either
    way.
    """
    near = np.zeros((len(network.junctions), len(network.junctions)))
    for link in network.links:
        if link.group < 0:
            continue
        front, passed = [link.to_lane], {link.to_lane}
        while front:
            for i in network.links_from(front.pop()):
                onward = network.links[i]
                if onward.group >= 0:
                    a = network.groups[link.group].junction
                    b = network.groups[onward.group].junction
                    if a != b:
                        near[a, b] = near[b, a] = 1.0
                elif onward.to_lane not in passed and len(passed) < 200:
                    passed.add(onward.to_lane)
                    front.append(onward.to_lane)
    return np.asarray(near / np.maximum(near.sum(axis=1, keepdims=True), 1.0))


def exploration(settings: TrainingSettings, number: int) -> float:
    """Share of tries in episode `number`, from the first figure to the last by equal ratios."""
    first, last = settings.explore
    return float(first * (last / first) ** (number / max(settings.episodes - 1, 1)))


def train(
    of: Scenario,
    network: Network,
    timing: Timing,
    table: QTable,
    settings: TrainingSettings,
    seed: int = 1000,
) -> Iterator[Episode]:
    """Fill `table` by episodes over the whole of the scenario, each with a seed of its own from
    `seed` on.
    """
    replay = Replay()
    random = np.random.default_rng(seed)
    near = neighbours(network)
    for number in range(settings.episodes):
        explore = exploration(settings, number)
        yield _episode(
            of,
            network,
            timing,
            table,
            settings,
            replay,
            random,
            near,
            seed + number,
            explore,
            number,
        )
        table.flush()


def _episode(
    of: Scenario,
    network: Network,
    timing: Timing,
    table: QTable,
    settings: TrainingSettings,
    replay: Replay,
    random: np.random.Generator,
    near: FloatArray,
    seed: int,
    explore: float,
    number: int,
) -> Episode:
    plant = SumoPlant(SumoSettings(of.sumocfg, seed), network)
    try:
        agent, gate = QLearning(network, timing, table), SafetyGate(network, timing, plant.time_s)
        state, n = agent.start(plant.observe()), len(network.junctions)
        owed = np.zeros(n)
        since = np.full(n, plant.time_s)
        halted = 0.0
        surprises = list[float]()
        decisions = 0
        seconds = 0
        while plant.time_s < of.end_s and (np.isfinite(of.end_s) or plant.running):
            seen = plant.observe()
            pain = suffering(network, seen, settings.reward)
            owed -= pain + settings.reward.neighbours * (near @ pain)
            halted += float((seen.vehicles.speed_mps < 0.1).sum())
            seconds += 1
            due = agent.due(seen, state)
            if due.any():
                tries = np.where(
                    random.random(n) < explore,
                    random.integers(0, np.array([len(j.stages) for j in network.junctions])),
                    -1,
                )
                before = state
                proposal, state = agent.act(seen, state, due, tries)
                decisions += int(due.sum())
                changed = (
                    before.since_s == since
                )  # the decision that is judged now began another stage
                remember(
                    replay,
                    before,
                    state,
                    due,
                    owed - settings.reward.change * changed,
                    seen.at_s - since,
                )
                owed, since = np.where(due, 0.0, owed), np.where(due, seen.at_s, since)
                if len(replay) >= settings.batch:
                    surprises.append(learn(table, replay, settings, random))
            else:
                proposal, state = agent.step(seen, state)
            plant.apply(gate.admit(proposal, seen.at_s, seen))
            plant.advance(1.0)
        return Episode(
            number,
            halted / max(seconds, 1),
            decisions,
            len(table),
            float(np.mean(surprises)) if surprises else 0.0,
        )
    finally:
        plant.close()


def suffering(network: Network, seen: Observation, reward: Reward) -> FloatArray:
    """What each junction suffers in this second, (junctions,)."""
    v = seen.vehicles
    group = np.where(v.link >= 0, np.array([x.group for x in network.links])[v.link], -1)
    known = group >= 0
    junction = network.group_junction[group[known]]
    halted = np.bincount(
        junction[v.speed_mps[known] < 0.1], minlength=len(network.junctions)
    ).astype(float)
    longest = np.zeros(len(network.junctions))
    np.maximum.at(longest, junction, v.waiting_s[known])
    return np.asarray(reward.halted * halted + reward.longest * longest / 60.0)


def remember(
    replay: Replay,
    before: QState,
    after: QState,
    due: BoolArray,
    owed: FloatArray,
    lasted_s: FloatArray,
) -> None:
    """Put what the last decision of the junctions that are `due` has brought into `replay`.

    before, after: the states that it and this decision left. owed: the reward since then; lasted_s:
        how long ago it was, (junctions,) each.
    """
    rows = np.zeros(len(due), replay.rows.dtype)
    rows["key"] = before.keys
    rows["action"] = before.chosen
    rows["reward"] = owed / np.maximum(lasted_s, 1.0)
    rows["next"] = after.keys
    rows["gamma"] = lasted_s / QLearning.interval_s
    told = due & (before.keys != 0)
    if told.any():
        replay.put(rows[told])


def learn(
    table: QTable, replay: Replay, settings: TrainingSettings, random: np.random.Generator
) -> float:
    """One batch of updates towards reward + gamma * max Q(next); returns the mean surprise."""
    places, weight = replay.draw(settings.batch, random)
    places, index = np.unique(places, return_index=True)
    rows = replay.rows[places]
    values, visits = table.get(rows["key"])
    ahead, tried = table.get(rows["next"])
    picked = np.arange(len(rows)), rows["action"]
    onward = np.where(
        (tried > 0).any(axis=1), np.where(tried > 0, ahead, -np.inf).max(axis=1), values[picked]
    )
    goal = rows["reward"] + settings.gamma ** rows["gamma"] * onward
    surprise = (goal - values[picked]).astype(np.float64)
    rate = np.maximum(settings.rate / (1.0 + 0.05 * visits[picked]), 0.02)
    table.add(rows["key"], rows["action"], (rate * weight[index] * surprise).astype(np.float32))
    replay.learnt(places, surprise)
    return float(np.abs(surprise).mean())
