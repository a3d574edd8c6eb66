"""Training the Q-table: episodes on the real plant, through the real gate, with prioritised replay
and coordination.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from headway.control.qlearning import QLearning, QState, neighbours
from headway.control.qtable import QTable
from headway.learning.replay import Replay
from headway.plants.sumo import SumoPlant, SumoSettings
from headway.plants.sumo.scenarios import Scenario
from headway.roads import Network, Timing
from headway.safety import SafetyGate
from headway.settings import QLearningSettings
from headway.values import BoolArray, FloatArray, Observation, Proposal


@dataclass(frozen=True, slots=True)
class Reward:
    """Terms of the reward of a junction, per second of the interval: all but the last count against
    it.

    stopped, longest wait (minutes), change of stage, neighbours' mean reward (the coordinator's
    share).
    """

    stopped: float = 1.0
    longest: float = 2.0
    change: float = 1.0
    neighbours: float = 0.3


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """rate: learning rate, falling with visits; gamma: discount of an interval; explore: share of
    tries, first and last; interval_s: between two decisions of a junction.

    steps, trace_decay: of the returns, see `returns`. sees_neighbours: whether the demand at the
    neighbours is part of a junction's state; of a table, for good.
    """

    episodes: int = 10
    rate: float = 0.3
    gamma: float = 0.9
    explore: tuple[float, float] = (0.3, 0.02)
    batch: int = 256
    rows: int = 1 << 18
    reward: Reward = Reward()
    interval_s: float = QLearning.interval_s
    steps: int = 1
    trace_decay: float = 1.0
    sees_neighbours: bool = False

    @classmethod
    def from_settings(cls, agent: QLearningSettings, episodes: int | None = None) -> Self:
        """episodes: in place of those of the settings."""
        figures = agent.model_dump() | {"reward": Reward(**agent.reward.model_dump())}
        return cls(**figures | ({} if episodes is None else {"episodes": episodes}))


@dataclass(frozen=True, slots=True)
class Episode:
    """Result of one episode: mean number of stopped vehicles, decisions, known states, mean
    absolute temporal-difference error.
    """

    number: int
    stopped: float
    decisions: int
    states: int
    td_error: float


@dataclass(slots=True)
class Memory:
    """What goes from one episode to the next, beside the table. done: episodes so far."""

    replay: Replay
    random: np.random.Generator
    done: int = 0

    @classmethod
    def fresh(cls, seed: int) -> Self:
        return cls(Replay(), np.random.default_rng(seed))

    def save(self, folder: Path) -> None:
        """For `load`, in files of `folder`."""
        self.replay.save(folder / "replay.npz")
        about = {"done": self.done, "random": self.random.bit_generator.state}
        (folder / "memory.json").write_text(json.dumps(about))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises OSError, ValueError."""
        path = folder / "memory.json"
        random = np.random.default_rng()
        try:
            about = json.loads(path.read_text())
            random.bit_generator.state = about["random"]
            done = int(about["done"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: is no memory of a training ({error}).") from error
        return cls(Replay.load(folder / "replay.npz"), random, done)


def made_from(
    scenario: str, timing: str, settings: TrainingSettings, seed: int = 1000
) -> dict[str, Any]:
    """What a table that was trained so is made from, for the registry."""
    seeds = list(range(seed, seed + settings.episodes))
    return {"scenario": scenario, "timing": timing, "seeds": seeds} | asdict(settings)


def metrics(last: Episode) -> dict[str, Any]:
    """Of a table, after its last episode, for the registry."""
    return {
        "episodes": last.number + 1,
        "stopped": last.stopped,
        "states": last.states,
        "td_error": last.td_error,
    }


def exploration(settings: TrainingSettings, number: int) -> float:
    """Share of tries in episode `number`, from the first figure to the last by equal ratios."""
    first, last = settings.explore
    return float(first * (last / first) ** (number / max(settings.episodes - 1, 1)))


def train(
    scenario: Scenario,
    network: Network,
    timing: Timing,
    table: QTable,
    settings: TrainingSettings,
    seed: int = 1000,
    memory: Memory | None = None,
) -> Iterator[Episode]:
    """Fill `table` by episodes over the whole of the scenario, each with a seed of its own from
    `seed` on. memory: of the episodes that are done, where the table is that of then; after each
    episode it is as far as the table. None to begin with the first.
    """
    if table.sees_neighbours != settings.sees_neighbours:
        raise ValueError(
            f"{table.path or 'the Q-table'}: its states are "
            f"{'with' if table.sees_neighbours else 'without'} the neighbours' demand, and "
            f"q_learning.sees_neighbours is {str(settings.sees_neighbours).lower()}. Change the "
            "setting, or train another table."
        )
    table.reserve()
    memory = Memory.fresh(seed) if memory is None else memory
    neighbour_share = neighbours(network)
    for number in range(memory.done, settings.episodes):
        with contextlib.closing(
            SumoPlant(SumoSettings(scenario.sumocfg, seed + number), network)
        ) as plant:
            episode = _TrainingEpisode(
                plant=plant,
                network=network,
                agent=QLearning(network, timing, table, settings.interval_s),
                gate=SafetyGate(network, timing, plant.time_s),
                settings=settings,
                replay=memory.replay,
                random=memory.random,
                neighbour_share=neighbour_share,
                explore=exploration(settings, number),
            )
            while plant.time_s < scenario.end_s and (np.isfinite(scenario.end_s) or plant.running):
                episode.tick()
        table.flush()
        memory.done = number + 1
        yield episode.result(number)


class _TrainingEpisode:
    """One episode under way. explore: share of decisions that are tried at random."""

    def __init__(
        self,
        *,
        plant: SumoPlant,
        network: Network,
        agent: QLearning,
        gate: SafetyGate,
        settings: TrainingSettings,
        replay: Replay,
        random: np.random.Generator,
        neighbour_share: FloatArray,
        explore: float,
    ) -> None:
        self._plant = plant
        self._network = network
        self._agent = agent
        self._gate = gate
        self._settings = settings
        self._replay = replay
        self._random = random
        self._neighbour_share = neighbour_share
        self._explore = explore
        self._stages = np.array([len(j.stages) for j in network.junctions])
        self._state = agent.start(plant.observe())

        # of each junction: the reward since its last decision, and when that was
        self._reward = np.zeros(len(network.junctions))
        self._decided_s = np.full(len(network.junctions), plant.time_s)

        # of each junction: the place of its last experience, and whether its last decision was
        # tried at random
        self._last = np.full(len(network.junctions), -1, np.int64)
        self._tried = np.zeros(len(network.junctions), np.bool_)

        self._stopped = 0.0
        self._seconds = 0
        self._decisions = 0
        self._td_errors: list[float] = []

    def tick(self) -> None:
        """A second: reward, decisions that are due, the gate, the plant."""
        observation = self._plant.observe()
        self._count_reward(observation)
        due = self._agent.due(observation, self._state)
        if due.any():
            proposal = self._decide(observation, due)
        else:
            proposal, self._state = self._agent.step(observation, self._state)
        self._plant.apply(self._gate.admit(proposal, self._plant.time_s, observation))
        self._plant.advance(1.0)

    def result(self, number: int) -> Episode:
        return Episode(
            number=number,
            stopped=self._stopped / max(self._seconds, 1),
            decisions=self._decisions,
            states=len(self._agent.table),
            td_error=float(np.mean(self._td_errors)) if self._td_errors else 0.0,
        )

    def _count_reward(self, observation: Observation) -> None:
        terms = self._settings.reward
        cost = step_costs(self._network, observation, terms)
        self._reward -= cost + terms.neighbours * (self._neighbour_share @ cost)
        self._stopped += float((observation.vehicles.speed_mps < 0.1).sum())
        self._seconds += 1

    def _decide(self, observation: Observation, due: BoolArray) -> Proposal:
        """Decide where it is due, and remember what the decision before has brought there."""
        n = len(due)
        tried = self._random.random(n) < self._explore
        tries = np.where(tried, self._random.integers(0, self._stages), -1)
        before = self._state
        proposal, self._state = self._agent.act(observation, before, due, tries)
        self._decisions += int(due.sum())

        # the decision that is judged now began another stage
        changed = before.since_s == self._decided_s
        places = remember(
            self._replay,
            before,
            self._state,
            due,
            self._reward - self._settings.reward.change * changed,
            observation.at_s - self._decided_s,
            self._settings.interval_s,
        )
        # what a try brought says nothing about the value of the decision before it
        followed = (places >= 0) & ~self._tried
        self._replay.link(self._last[followed], places[followed])
        self._last = np.where(places >= 0, places, self._last)
        self._tried = np.where(due, tried, self._tried)

        self._reward = np.where(due, 0.0, self._reward)
        self._decided_s = np.where(due, observation.at_s, self._decided_s)
        if len(self._replay) >= self._settings.batch:
            td_error = learn(self._agent.table, self._replay, self._settings, self._random)
            self._td_errors.append(td_error)
        return proposal


def step_costs(network: Network, observation: Observation, reward: Reward) -> FloatArray:
    """The cost of this second at each junction, (junctions,)."""
    v = observation.vehicles
    group = np.where(v.link >= 0, np.array([x.group for x in network.links])[v.link], -1)
    known = group >= 0
    junction = network.group_junction[group[known]]
    stopped = np.bincount(
        junction[v.speed_mps[known] < 0.1], minlength=len(network.junctions)
    ).astype(float)
    longest = np.zeros(len(network.junctions))
    np.maximum.at(longest, junction, v.waiting_s[known])
    return np.asarray(reward.stopped * stopped + reward.longest * longest / 60.0)


def remember(
    replay: Replay,
    before: QState,
    after: QState,
    due: BoolArray,
    owed: FloatArray,
    lasted_s: FloatArray,
    interval_s: float = QLearning.interval_s,
) -> NDArray[np.int64]:
    """Put what the last decision of the junctions that are `due` has brought into `replay`. Returns
    its place there, (junctions,); -1 for none.

    before, after: the states that it and this decision left. owed: the reward since then; lasted_s:
        how long ago it was, (junctions,) each. interval_s: by which rewards are discounted.
    """
    rows = np.zeros(len(due), replay.rows.dtype)
    rows["key"] = before.keys
    rows["action"] = before.chosen
    rows["reward"] = owed / np.maximum(lasted_s, 1.0)
    rows["next"] = after.keys
    rows["gamma"] = lasted_s / interval_s
    known = due & (before.keys != 0)
    places = np.full(len(due), -1, np.int64)
    if known.any():
        places[known] = replay.put(rows[known])
    return places


def learn(
    table: QTable, replay: Replay, settings: TrainingSettings, random: np.random.Generator
) -> float:
    """One batch of updates towards the `returns`; gives the mean |TD error|."""
    places, weight = replay.draw(settings.batch, random)
    places, index = np.unique(places, return_index=True)
    rows = replay.rows[places]
    values, visits = table.get(rows["key"])
    picked = np.arange(len(rows)), rows["action"]
    td_error = (returns(table, replay, places, settings) - values[picked]).astype(np.float64)
    rate = np.maximum(settings.rate / (1.0 + 0.05 * visits[picked]), 0.02)
    table.add(rows["key"], rows["action"], (rate * weight[index] * td_error).astype(np.float32))
    replay.learnt(places, td_error)
    return float(np.abs(td_error).mean())


def returns(
    table: QTable, replay: Replay, places: NDArray[np.int64], settings: TrainingSettings
) -> FloatArray:
    """What the experiences at `places` (n,) and those that followed them were worth, (n,).

    The lambda-return over at most `steps` experiences (Sutton, Barto, Reinforcement Learning,
    2nd edition, 12.3), by what the table holds now (Daley, Amato, NeurIPS 2019):

        G(k) = reward(k) + gamma(k) * ((1 - decay) * max Q(k + 1) + decay * G(k + 1)),

    with max Q alone behind the last. It ends before a decision that was tried at random, as in
    Watkins's Q(lambda), where eligibility traces compute the same. One step is plain Q-learning,
    a decay of 1 the n-step return.

    Where nothing was learnt of the state k + 1, G(k + 1) counts alone, and behind the last the
    value of the experience itself.
    """
    chain = replay.chains(places, settings.steps)
    goal = np.zeros(len(places))
    goes_on = np.zeros(len(places), np.bool_)
    for at in chain[::-1]:
        rows = replay.rows[at]
        ahead, visits = table.get(rows["next"])
        is_known = (visits > 0).any(axis=1)
        best = np.where(
            is_known,
            np.where(visits > 0, ahead, -np.inf).max(axis=1),
            table.get(rows["key"])[0][np.arange(len(rows)), rows["action"]],
        )
        share = goes_on * np.where(is_known, settings.trace_decay, 1.0)
        onward = (1.0 - share) * best + share * goal
        there = at >= 0
        goal = np.where(there, rows["reward"] + settings.gamma ** rows["gamma"] * onward, goal)
        goes_on = there
    return goal
