"""Environments for agents that learn: one junction for Gymnasium, a street for PettingZoo, over the
real plant and the real gate. Needs the extra `learning`.

An action is the number of a stage. Between two actions the street runs `interval_s` seconds, in
which the gate has the last word. An action that cannot be taken is refused, and `info` says so.
What happens while a junction has no choice counts for the decision before: its reward is paid, as a
sum, with the next observation that leaves a choice, or the last one. So no reward is booked for a
decision that could not be taken.

`info` of each junction:

- `action_mask`: int8 (stages,), the actions that would be taken now;
- `refused`: why the last action was not taken; empty if it was;
- `decided`: the last action chose a stage: there was a choice, and it was not refused;
- `time_s`: the simulated second; `pending`: vehicles that wait to enter the street;
- `gate`: what the gate did otherwise than asked since the last action, as kinds of events.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
from gymnasium import Env, spaces
from gymnasium.utils import seeding
from pettingzoo import ParallelEnv

from headway.control.catalogue import controller
from headway.control.features import Features
from headway.control.qlearning import network_stamp
from headway.learning.episode import Episode
from headway.learning.measures import (
    OBSERVATIONS,
    REWARDS,
    WAITING_TIME_MEMORY_S,
    ObservationSet,
    RewardSet,
    chosen,
)
from headway.plants.sumo import Scenario, SumoSettings, network_of, scenario
from headway.roads import PROFILES, Network, work_out
from headway.values import BoolArray, described

SENSING = ("connected", "camera", "loops")
LAST_SEED = 2**31 - 1  # of SUMO
Info = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EnvSettings:
    """What an environment is made of.

    scenario:    name of one, or path of a .sumocfg.
    observation: a set of `headway.learning.measures.OBSERVATIONS`.
    reward:      a set of `REWARDS`.
    interval_s:  whole seconds between two actions.
    timing:      profile of the signals' times.
    sensing:     profile of what is observed; the sets of sumo-rl and RESCO ask SUMO itself.
    scale:       of the demand.
    duration_s:  length of an episode; None for the scenario's own, or until the last vehicle has
        left where it has none.
    padded:      all junctions have the shapes of the largest; what is beyond a junction's own is 0,
        and its actions are refused.
    """

    scenario: str = "cologne1"
    observation: str = "queues"
    reward: str = "waiting"
    interval_s: int = 5
    timing: str = "benchmark"
    sensing: str = "connected"
    scale: float = 1.0
    duration_s: float | None = None
    padded: bool = False

    def __post_init__(self) -> None:
        chosen(OBSERVATIONS, self.observation, "observation")
        chosen(REWARDS, self.reward, "reward")
        if self.timing not in PROFILES:
            raise ValueError(
                f"timing {self.timing!r} is not known. There are: {', '.join(PROFILES)}."
            )
        if not (isinstance(self.interval_s, int) and 1 <= self.interval_s <= 3600):
            raise ValueError(
                f"interval_s must be whole seconds, 1 to 3600, not {self.interval_s!r}."
            )
        if self.sensing not in SENSING:
            raise ValueError(
                f"sensing {self.sensing!r} is none for agents. There are: {', '.join(SENSING)}."
            )
        if not (math.isfinite(self.scale) and self.scale > 0.0):
            raise ValueError(f"scale must be a number above 0, not {self.scale!r}.")
        if self.duration_s is not None and not self.duration_s > 0.0:
            raise ValueError(f"duration_s must be above 0, not {self.duration_s!r}.")


class _Core:
    """What both environments have in common: episodes, spaces, rewards that are owed.

    junction: the one that actions are for, empty for the first; None for all.
    """

    def __init__(
        self, settings: EnvSettings, junction: str | None = None, others: str = "webster"
    ) -> None:
        self.settings = settings
        self.scenario: Scenario = scenario(settings.scenario)
        self.network: Network = network_of(self.scenario)
        self.network_stamp = network_stamp(self.network)
        self.timing = work_out(self.network, PROFILES[settings.timing])
        names = [j.id for j in self.network.junctions]
        self.own: Sequence[int] = range(len(names))
        if junction is not None:
            self.own = [self.network.junction(junction or names[0])]
        self.names = [names[j] for j in self.own]
        self._learns: BoolArray = np.isin(np.arange(len(names)), list(self.own))
        self._others = None if self._learns.all() else controller(others, self.network, self.timing)
        bounds = [OBSERVATIONS[settings.observation].bounds(self.network, j) for j in self.own]
        self._stages = [len(self.network.junctions[j].stages) for j in self.own]
        actions = list(self._stages)
        if settings.padded:
            bounds, actions = _padded(bounds), [max(actions)] * len(actions)
        self.observation_spaces = [spaces.Box(low, high, dtype=np.float32) for low, high in bounds]
        self.action_spaces = [spaces.Discrete(n) for n in actions]
        self._episode: Episode | None = None
        self._owed = np.zeros(len(self.own))

    def reset(self, seed: int) -> tuple[list[Features], list[Info]]:
        self.close()
        settings = self.settings
        sumo = SumoSettings(
            self.scenario.sumocfg,
            seed=seed,
            scale=settings.scale,
            sensing=settings.sensing,
            extra=("--waiting-time-memory", str(WAITING_TIME_MEMORY_S)),
        )
        begin_s, end_s = self.scenario.begin_s, self.scenario.end_s
        if settings.duration_s is not None:
            end_s = min(end_s, begin_s + settings.duration_s)
        episode = self._episode = Episode(
            self.network,
            self.timing,
            settings=sumo,
            end_s=end_s,
            others=self._others,
            learns=self._learns,
        )
        # an environment that is dropped without `close` ends its SUMO all the same
        self._end_of_episode = weakref.finalize(self, episode.close)
        self._observed: ObservationSet = OBSERVATIONS[settings.observation](episode)
        self._reward: RewardSet = REWARDS[settings.reward](episode)
        self._owed[:] = 0.0
        return self._observations(), self._infos([""] * len(self.own), [False] * len(self.own))

    def step(self, actions: Sequence[int]) -> tuple[list[Features], list[float], bool, list[Info]]:
        """(observations, rewards, over, infos), for each own junction but `over`."""
        episode = self._running()
        had_choice = [bool(episode.free[j]) for j in self.own]
        refused = [
            episode.choose(j, whole(action)) for j, action in zip(self.own, actions, strict=True)
        ]
        episode.run(self.settings.interval_s)
        over = episode.is_over
        self._owed += self._reward.step()[list(self.own)]
        pays = episode.free[list(self.own)] | over
        rewards = np.where(pays, self._owed, 0.0)
        self._owed[pays] = 0.0
        decided = [had and not why for had, why in zip(had_choice, refused, strict=True)]
        return self._observations(), rewards.tolist(), over, self._infos(refused, decided)

    def close(self) -> None:
        if self._episode is not None:
            self._end_of_episode()
            self._episode = None

    def _running(self) -> Episode:
        if self._episode is None:
            raise RuntimeError("no episode is under way: call reset() first")
        return self._episode

    def mask(self, i: int) -> BoolArray:
        return self._running().mask(self.own[i])

    def _observations(self) -> list[Features]:
        self._observed.look()
        return [
            padded_to(space.shape, self._observed.of(j), space.low, space.high)
            for j, space in zip(self.own, self.observation_spaces, strict=True)
        ]

    def _infos(self, refused: Sequence[str], decided: Sequence[bool]) -> list[Info]:
        episode = self._running()
        time_s, pending = episode.plant.time_s, len(episode.plant.pending())
        infos = []
        for i, junction in enumerate(self.own):
            mask = np.zeros(int(self.action_spaces[i].n), np.int8)
            mask[: self._stages[i]] = episode.mask(junction)
            info = {
                "action_mask": mask,
                "refused": refused[i],
                "decided": decided[i],
                "time_s": time_s,
                "pending": pending,
                "gate": tuple(e.kind for e in episode.events if e.junction == self.names[i]),
            }
            infos.append(info)
        return infos


def whole(action: Any) -> int:
    """The number of an action, as agents give it. Raises ValueError for what is none."""
    number = np.asarray(action)
    if number.size != 1 or not np.issubdtype(number.dtype, np.integer):
        raise ValueError(f"an action is the number of a stage, not {described(action)}.")
    return int(number.reshape(()))


def padded_to(shape: tuple[int, ...], found: Features, low: Features, high: Features) -> Features:
    """`found` within the bounds, followed by noughts up to `shape`."""
    if found.shape != shape:
        larger = np.zeros(shape, np.float32)
        larger[tuple(slice(n) for n in found.shape)] = found
        found = larger
    return np.asarray(np.clip(found, low, high), np.float32)


def _padded(bounds: list[tuple[Features, Features]]) -> list[tuple[Features, Features]]:
    """The widest bounds, for all."""
    shape = tuple(np.max([low.shape for low, _ in bounds], axis=0).tolist())
    least, most = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for low, high in bounds:
        own = tuple(slice(n) for n in low.shape)
        least[own] = np.minimum(least[own], low)
        most[own] = np.maximum(most[own], high)
    return [(least, most)] * len(bounds)


class JunctionEnv(Env[Features, np.int64]):
    """One junction of a street. junction: its name; the first where it is empty. others: the
    controller of all the other junctions.

    `reset(seed=...)` seeds SUMO's traffic too: equal seeds and actions give equal runs. An episode
    is truncated at its end and never terminated. Raises ValueError and RoadsError for settings that
    cannot be; RuntimeError where an environment is open in this process already.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 -- as Gymnasium declares it

    def __init__(
        self,
        settings: EnvSettings | None = None,
        *,
        junction: str = "",
        others: str = "webster",
        render_mode: None = None,
        **named: Any,
    ) -> None:
        self._core = _Core(_settings(settings, named), junction, others)
        self.render_mode = None
        self.observation_space = self._core.observation_spaces[0]
        self.action_space = self._core.action_spaces[0]

    @property
    def junction(self) -> str:
        """Its name."""
        return self._core.names[0]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Features, Info]:
        super().reset(seed=seed)
        observed, infos = self._core.reset(drawn_seed(self.np_random))
        return observed[0], infos[0]

    def step(self, action: Any) -> tuple[Features, float, bool, bool, Info]:
        observed, rewards, over, infos = self._core.step([action])
        return observed[0], rewards[0], False, over, infos[0]

    @property
    def network_stamp(self) -> int:
        """A number for the network: its junctions and their stages."""
        return self._core.network_stamp

    def action_masks(self) -> BoolArray:
        """bool (stages,), as sb3-contrib's MaskablePPO asks for it."""
        return self._core.mask(0)

    def close(self) -> None:
        self._core.close()


class StreetEnv(ParallelEnv[str, Features, int]):
    """All junctions of a street, each an agent by its name, acting together. See `JunctionEnv`."""

    metadata: ClassVar[dict[str, Any]] = {
        "name": "headway_street_v0",
        "render_modes": [],
        "is_parallelizable": True,
    }

    def __init__(
        self, settings: EnvSettings | None = None, *, render_mode: None = None, **named: Any
    ) -> None:
        self._core = _Core(_settings(settings, named))
        self.render_mode = None
        self.possible_agents = list(self._core.names)
        self.agents: list[str] = []
        self._numbers = {name: i for i, name in enumerate(self.possible_agents)}
        self._random: np.random.Generator | None = None
        self.observation_spaces = self._by_name(self._core.observation_spaces)
        self.action_spaces = self._by_name(self._core.action_spaces)

    @property
    def network_stamp(self) -> int:
        """A number for the network: its junctions and their stages."""
        return self._core.network_stamp

    def observation_space(self, agent: str) -> spaces.Box:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Features], dict[str, Info]]:
        if seed is not None or self._random is None:
            self._random, _ = seeding.np_random(seed)
        observed, infos = self._core.reset(drawn_seed(self._random))
        self.agents = list(self.possible_agents)
        return self._by_name(observed), self._by_name(infos)

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[
        dict[str, Features], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Info]
    ]:
        """Raises ValueError where an agent's action is missing, or one is not of an agent."""
        if not self.agents:
            raise RuntimeError("no episode is under way: call reset() first")
        if actions.keys() != self._numbers.keys():
            wrong = sorted(actions.keys() ^ self._numbers.keys())
            raise ValueError(f"each agent gives one action; missing or not known: {wrong[:5]}")
        ordered = [actions[name] for name in self.possible_agents]
        observed, rewards, over, infos = self._core.step(ordered)
        if over:
            self.agents = []
        every = dict.fromkeys
        names = self.possible_agents
        return (
            self._by_name(observed),
            self._by_name(rewards),
            every(names, False),
            every(names, over),
            self._by_name(infos),
        )

    def close(self) -> None:
        self._core.close()
        self.agents = []

    def _by_name(self, values: Sequence[T]) -> dict[str, T]:
        return dict(zip(self.possible_agents, values, strict=True))


def drawn_seed(random: np.random.Generator) -> int:
    """A seed for SUMO, the next of `random`."""
    return int(random.integers(LAST_SEED))


def _settings(settings: EnvSettings | None, named: Mapping[str, Any]) -> EnvSettings:
    return replace(EnvSettings() if settings is None else settings, **named)
