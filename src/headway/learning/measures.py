"""What agents observe of a junction and what they are rewarded for: sets by name, sumo-rl's and
RESCO's own among them.

Sources of the formulas: `sumo-rl` 1.4.5 (L. Alegre, TrafficSignal and DefaultObservationFunction);
RESCO (J. Ault and G. Sharon, NeurIPS Datasets and Benchmarks, 2021, states.py, rewards.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from headway.control.features import Features, QueueFeatures
from headway.learning.episode import Episode
from headway.learning.training import Reward, step_costs
from headway.roads import Kind, Network, SignalGroup
from headway.values import FloatArray

MIN_GAP_M = 2.5  # as sumo-rl has it, whatever the vehicles' own is
WAITING_TIME_MEMORY_S = 1000  # of SUMO, as sumo-rl sets it
WAIT_SCALE = 100.0  # of diff-waiting-time
RESCO_RANGE_M = 200.0
RESCO_VEHICLES = 28.0
RESCO_SPEED_MPS = 20.0
RESCO_WAIT = 224.0
RESCO_MOST = 4.0


class ObservationSet(Protocol):
    """What is observed of each junction."""

    def __init__(self, episode: Episode) -> None: ...

    @staticmethod
    def bounds(network: Network, junction: int) -> tuple[Features, Features]:
        """Least and greatest values, of the shape of what `of` returns."""

    def look(self) -> None:
        """Take note of now, once a step of the environment, before `of`."""

    def of(self, junction: int) -> Features:
        """What is observed now."""


class RewardSet(Protocol):
    """What a step of the environment was worth to each junction."""

    def __init__(self, episode: Episode) -> None: ...

    def step(self) -> FloatArray:
        """(junctions,), for the time since the last call; called once a step."""


def controlled_lanes(network: Network, junction: int) -> tuple[str, ...]:
    """Those that the junction's programmes control, each once, in the order of SUMO's
    `getControlledLanes`.
    """
    return tuple(
        dict.fromkeys(
            network.lanes[network.links[link].from_lane].id
            for group in _groups_by_place(network, junction)
            for link in group.links
        )
    )


def lanes_behind(network: Network, junction: int) -> tuple[str, ...]:
    """Those that the first link of each place of the programmes leads to, each once."""
    groups = _groups_by_place(network, junction)
    behind = (network.links[group.links[0]].to_lane for group in groups)
    return tuple(dict.fromkeys(network.lanes[i].id for i in behind))


def _groups_by_place(network: Network, junction: int) -> list[SignalGroup]:
    of = network.junctions[junction]
    groups = network.groups[of.first : of.end]
    return sorted(groups, key=lambda g: (of.tl_ids.index(g.tl_id), g.index))


class Lanes:
    """What SUMO knows of the lanes of each junction. inbound, outbound: `controlled_lanes` and
    `lanes_behind`.
    """

    def __init__(self, episode: Episode) -> None:
        network, junctions = episode.network, range(len(episode.network.junctions))
        self.sumo = episode.plant.interface
        self.inbound = [controlled_lanes(network, j) for j in junctions]
        self.outbound = [lanes_behind(network, j) for j in junctions]
        self._length_m = {x.id: x.length_m for x in network.lanes}
        self.vehicles: Callable[[str], int] = self.sumo.lane.getLastStepVehicleNumber
        self.stopped: Callable[[str], int] = self.sumo.lane.getLastStepHaltingNumber

    def room(self, lane: str) -> float:
        """Vehicles that it holds, of the mean length of those on it."""
        return self._length_m[lane] / (MIN_GAP_M + float(self.sumo.lane.getLastStepLength(lane)))


class Queues:
    """`headway.control.features.QueueFeatures`: what any sensing profile gives, so that what learns
    on it can run on a street.
    """

    def __init__(self, episode: Episode) -> None:
        self._episode = episode
        self._features = QueueFeatures(episode.network)

    @staticmethod
    def bounds(network: Network, junction: int) -> tuple[Features, Features]:
        size = QueueFeatures.size(network, junction)
        return np.zeros(size, np.float32), np.ones(size, np.float32)

    def look(self) -> None:
        self._features.look(self._episode.observation)

    def of(self, junction: int) -> Features:
        episode = self._episode
        age_s = episode.plant.time_s - float(episode.since_s[junction])
        return self._features.of(
            junction, int(episode.target[junction]), bool(episode.free[junction]), age_s
        )


class SumoRl:
    """sumo-rl's default: float32 (stages + 1 + 2 lanes,), 0..1.

    The stage one-hot, whether its minimum green is over, the density of each controlled lane, the
    share of each that stopped vehicles take.
    """

    def __init__(self, episode: Episode) -> None:
        self._episode, self._lanes = episode, Lanes(episode)

    @staticmethod
    def bounds(network: Network, junction: int) -> tuple[Features, Features]:
        stages = len(network.junctions[junction].stages)
        size = stages + 1 + 2 * len(controlled_lanes(network, junction))
        return np.zeros(size, np.float32), np.ones(size, np.float32)

    def look(self) -> None:
        pass

    def of(self, junction: int) -> Features:
        episode, lanes = self._episode, self._lanes
        stage = np.zeros(int(episode.table.count[junction]) + 1)
        stage[episode.target[junction]] = 1.0
        stage[-1] = episode.free[junction]
        own = lanes.inbound[junction]
        room = np.array([lanes.room(x) for x in own])
        density = np.array([lanes.vehicles(x) for x in own]) / room
        queue = np.array([lanes.stopped(x) for x in own]) / room
        return np.concatenate([stage, np.minimum(density, 1), np.minimum(queue, 1)]).astype("f4")


class _RescoWaits:
    """RESCO's measures of each lane: float (5,), vehicles that have not stopped yet, the sum of
    the waits, vehicles that have stopped, the longest wait, the sum of their speeds.

    Within 200 m of the signal, by the way ahead. A wait goes on from a vehicle's first stop until
    it has left the junction's lanes, as there.
    """

    def __init__(self, episode: Episode) -> None:
        self._episode, self.lanes = episode, Lanes(episode)
        self._waits: list[dict[str, float]] = [{} for _ in episode.network.junctions]
        self._looked_s = episode.plant.time_s
        self.of: dict[str, FloatArray] = {}

    def look(self) -> None:
        now_s = self._episode.plant.time_s
        passed_s, self._looked_s = now_s - self._looked_s, now_s
        for own, waits in zip(self.lanes.inbound, self._waits, strict=True):
            there = set[str]()
            for lane in own:
                self.of[lane] = self._measure(lane, waits, passed_s, there)
            for gone in waits.keys() - there:
                del waits[gone]

    def _measure(
        self, lane: str, waits: dict[str, float], passed_s: float, there: set[str]
    ) -> FloatArray:
        sumo = self.lanes.sumo
        found = np.zeros(5)
        for name in sumo.lane.getLastStepVehicleIDs(lane):
            ahead = sumo.vehicle.getNextTLS(name)
            if not ahead or ahead[0][2] > RESCO_RANGE_M:
                continue
            there.add(name)
            if name in waits:
                waits[name] += passed_s
            elif (wait := sumo.vehicle.getWaitingTime(name)) > 0:
                waits[name] = wait
            wait = waits.get(name, 0.0)
            found += (wait <= 0, wait, wait > 0, 0.0, sumo.vehicle.getSpeed(name))
            found[3] = max(found[3], wait)
        return found


class RescoDrq:
    """RESCO's IDQN and IPPO (`drq_norm`): float32 (1, lanes, 5).

    For each controlled lane: 1 in the row of the stage's number; vehicles that have not stopped,
    the sum of waits and vehicles that have, each / 28; the sum of speeds / 20 / 28.
    """

    def __init__(self, episode: Episode) -> None:
        self._episode, self._waits = episode, _RescoWaits(episode)

    @staticmethod
    def bounds(network: Network, junction: int) -> tuple[Features, Features]:
        shape = (1, len(controlled_lanes(network, junction)), 5)
        return np.zeros(shape, np.float32), np.full(shape, np.inf, np.float32)

    def look(self) -> None:
        self._waits.look()

    def of(self, junction: int) -> Features:
        rows = np.array([self._waits.of[x] for x in self._waits.lanes.inbound[junction]])
        found = np.zeros((1, len(rows), 5), np.float32)
        stage = int(self._episode.target[junction])
        if stage < len(rows):
            found[0, stage, 0] = 1.0
        found[0, :, 1:4] = rows[:, :3] / RESCO_VEHICLES
        found[0, :, 4] = rows[:, 4] / RESCO_SPEED_MPS / RESCO_VEHICLES
        return found


class RescoPressure:
    """RESCO's MPLight: float32 (1 + groups,), the stage's number, then for each signal group (which
    here stands for a movement) the vehicles that have stopped before it, without those on the lanes
    behind it before the next signal.
    """

    def __init__(self, episode: Episode) -> None:
        self._episode, self._waits = episode, _RescoWaits(episode)
        network = episode.network
        ids = [x.id for x in network.lanes]
        links = [[network.links[k] for k in g.links] for g in network.groups]
        self._before = [sorted({ids[x.from_lane] for x in of}) for of in links]
        self._behind = [sorted({ids[x.to_lane] for x in of}) for of in links]
        self._drives = [g.kind is not Kind.PEDESTRIAN for g in network.groups]

    @staticmethod
    def bounds(network: Network, junction: int) -> tuple[Features, Features]:
        size = 1 + len(network.junctions[junction].groups)
        low = np.full(size, -np.inf, np.float32)
        low[0] = 0.0
        return low, np.full(size, np.inf, np.float32)

    def look(self) -> None:
        self._waits.look()

    def of(self, junction: int) -> Features:
        def stopped(lanes: Iterable[str]) -> float:
            return float(sum(self._waits.of[x][2] for x in lanes if x in self._waits.of))

        groups = self._episode.network.junctions[junction].groups
        pressure = [
            stopped(self._before[g]) - stopped(self._behind[g]) if self._drives[g] else 0.0
            for g in groups
        ]
        return np.array([float(self._episode.target[junction]), *pressure], np.float32)


class Waiting:
    """Ours: per second, the vehicles stopped and two for each minute of the longest wait, from what
    the sensing profile gives; negative.
    """

    def __init__(self, episode: Episode) -> None:
        self._episode = episode
        self._since_s = episode.plant.time_s
        self._terms = Reward()

    def step(self) -> FloatArray:
        now_s = self._episode.plant.time_s
        passed_s, self._since_s = now_s - self._since_s, now_s
        cost = step_costs(self._episode.network, self._episode.observation, self._terms)
        return -cost * passed_s


class DiffWaitingTime:
    """sumo-rl's default: by how much the waits of the vehicles on the controlled lanes, s / 100,
    are less than at the step before. A wait counts on each lane by itself.
    """

    def __init__(self, episode: Episode) -> None:
        self._lanes = Lanes(episode)
        self._before = np.zeros(len(episode.network.junctions))
        self._vehicles: dict[str, dict[str, float]] = {}

    def step(self) -> FloatArray:
        sumo = self._lanes.sumo
        now = np.zeros(len(self._before))
        for i, lanes in enumerate(self._lanes.inbound):
            for lane in lanes:
                for name in sumo.lane.getLastStepVehicleIDs(lane):
                    of = self._vehicles.setdefault(name, {})
                    elsewhere = sum(wait for at, wait in of.items() if at != lane)
                    of[lane] = sumo.vehicle.getAccumulatedWaitingTime(name) - elsewhere
                    now[i] += of[lane]
        now /= WAIT_SCALE
        reward, self._before = self._before - now, now
        return np.asarray(reward)


class AverageSpeed:
    """sumo-rl's: the mean of speed / speed allowed on the controlled lanes; 1 where nobody is."""

    def __init__(self, episode: Episode) -> None:
        self._lanes = Lanes(episode)

    def step(self) -> FloatArray:
        vehicle, lane = self._lanes.sumo.vehicle, self._lanes.sumo.lane
        found = np.ones(len(self._lanes.inbound))
        for i, lanes in enumerate(self._lanes.inbound):
            names = [v for x in lanes for v in lane.getLastStepVehicleIDs(x)]
            if names:
                shares = [vehicle.getSpeed(v) / vehicle.getAllowedSpeed(v) for v in names]
                found[i] = np.mean(shares)
        return found


class Queue:
    """sumo-rl's: vehicles that stand on the controlled lanes; negative."""

    def __init__(self, episode: Episode) -> None:
        self._lanes = Lanes(episode)

    def step(self) -> FloatArray:
        stopped = self._lanes.stopped
        return np.array([-float(sum(map(stopped, x))) for x in self._lanes.inbound])


class Pressure:
    """sumo-rl's: vehicles on the lanes behind the junction, without those before it."""

    def __init__(self, episode: Episode) -> None:
        self._lanes = Lanes(episode)

    def step(self) -> FloatArray:
        count = self._lanes.vehicles
        pairs = zip(self._lanes.outbound, self._lanes.inbound, strict=True)
        return np.array(
            [float(sum(map(count, out)) - sum(map(count, into))) for out, into in pairs]
        )


class RescoWait:
    """RESCO's IDQN and IPPO (`wait_norm`): the sum of waits / 224; negative, not below -4."""

    def __init__(self, episode: Episode) -> None:
        self._waits = _RescoWaits(episode)

    def step(self) -> FloatArray:
        self._waits.look()
        total = [sum(self._waits.of[x][1] for x in lanes) for lanes in self._waits.lanes.inbound]
        return np.asarray(np.clip(-np.array(total) / RESCO_WAIT, -RESCO_MOST, RESCO_MOST))


OBSERVATIONS: Mapping[str, type[ObservationSet]] = MappingProxyType(
    {"queues": Queues, "sumo-rl": SumoRl, "resco-drq": RescoDrq, "resco-pressure": RescoPressure}
)
REWARDS: Mapping[str, type[RewardSet]] = MappingProxyType(
    {
        "waiting": Waiting,
        "diff-waiting-time": DiffWaitingTime,
        "average-speed": AverageSpeed,
        "queue": Queue,
        "pressure": Pressure,
        "resco-wait": RescoWait,
    }
)


def chosen(sets: Mapping[str, type[Any]], name: str, what: str) -> type[Any]:
    """The set of that name. Raises ValueError for an unknown one."""
    if name not in sets:
        raise ValueError(f"{what} {name!r} is not known. There are: {', '.join(sets)}.")
    return sets[name]
