"""Tabular Q-learning as a controller: it uses a table; `headway.learning.training` fills it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headway.control.confidence import Confidence, freshness, novelty, performance
from headway.control.qtable import QTable, StateKeys, mix
from headway.control.stages import EPS_S, StageTable, demand, may_change
from headway.roads import Colour, Network, Timing
from headway.settings import QLearningSettings
from headway.values import HALTING_MPS, BoolArray, FloatArray, IntArray, Observation, Proposal

TABLE = "HEADWAY_QTABLE"
DEFAULT_TABLE = Path("data/q.table")
STEPS = np.array([1, 2, 4, 7, 11])  # vehicles at which a stage's demand counts as one class more
AGES = np.array([10, 20, 40])  # seconds of green at which its age counts as one class more
FULL_EXIT_M = 15.0  # with less room, two vehicles, an exit counts as full
REGRET_VEHICLES = 5.0  # so many more stopped vehicles than at the last decision are a regret of 1
REGRET_SHARE = 0.1  # of a new figure in the exponential mean
FNV_OFFSET = 2166136261
FNV_PRIME = 16777619


@dataclass(frozen=True, slots=True)
class QState:
    """target: stage aimed at; since_s: when it was chosen; next_s: next decision. (junctions,)
    each.

    keys, chosen: state and action of the last decision; regret: exponential mean of what was
        missed, per junction.
    """

    target: IntArray
    since_s: FloatArray
    next_s: FloatArray
    keys: StateKeys
    chosen: NDArray[np.int64]
    visits: FloatArray
    agreement: FloatArray
    regret: FloatArray
    waiting: FloatArray


class Describer:
    """What the learner sees of each junction: stage, age of green, demand of each stage, room
    downstream; with `sees_neighbours` the mean demand of the neighbours' busiest stages.
    """

    def __init__(self, network: Network, timing: Timing, sees_neighbours: bool = False) -> None:
        self._neighbour_share = neighbours(network) if sees_neighbours else None
        self.network, self.table = network, StageTable(network, timing)
        self.most = int(self.table.count.max())
        self._first = [j.first for j in network.junctions]
        self._names = np.array([hash_of(j.id) for j in network.junctions])
        self._lit = self.table.colours >= Colour.PERMISSIVE
        self._to = np.array([network.links[g.links[0]].to_lane for g in network.groups])

    def stage_demand(self, observation: Observation) -> FloatArray:
        """Vehicles that each stage would serve, (junctions, most stages); nought beyond a
        junction's own.
        """
        worth = demand(self.network, observation)
        out = np.zeros((len(self._first), self.most))
        for j, junction in enumerate(self.network.junctions):
            rows = self._lit[
                self.table.ptr[j] : self.table.ptr[j + 1], : junction.end - junction.first
            ]
            out[j, : len(rows)] = rows @ worth[junction.first : junction.end]
        return out

    def keys(
        self, observation: Observation, target: IntArray, since_s: FloatArray, wanted: FloatArray
    ) -> StateKeys:
        """The key of each junction's state, (junctions,)."""
        full = np.logical_or.reduceat(observation.room_m[self._to] < FULL_EXIT_M, self._first)
        columns = [self._names, target, np.searchsorted(AGES, observation.at_s - since_s), full]
        if self._neighbour_share is not None:
            around = self._neighbour_share @ wanted.max(axis=1)
            columns.append(np.searchsorted(STEPS, around, side="right"))
        return mix(
            np.column_stack([*columns, np.searchsorted(STEPS, wanted, side="right")]).astype(
                np.int64
            )
        )


def table_path() -> Path:
    """The file of the Q-table: HEADWAY_QTABLE, or the default."""
    return Path(os.environ.get(TABLE, str(DEFAULT_TABLE)))


def require_table(network: Network) -> None:
    """Raises ValueError where the file of the Q-table has nothing for this network: figures of
    `QLearning` would be those of its fallback.
    """
    path = table_path()
    instead = "the figures of q-learning would be those of its fallback. Train one: headway train"
    if not path.exists():
        raise ValueError(f"no Q-table at {path}: {instead}")
    table = QTable.read(path)
    if table.network not in (0, network_stamp(network)):
        raise ValueError(f"{path}: was trained for another network than {network.path}: {instead}")
    if not len(table):
        raise ValueError(f"{path}: knows no state: {instead}")


class QLearning:
    """Chooses the stage of greatest value every `interval_s`; how sure it is follows from visits,
    agreement and regret.
    """

    name = "q-learning"
    interval_s = QLearningSettings().interval_s

    def __init__(
        self,
        network: Network,
        timing: Timing,
        table: QTable | None = None,
        interval_s: float = interval_s,
        name: str = name,
    ) -> None:
        self.interval_s = interval_s
        self.name = name
        self._network = network
        self._timing = timing
        path = table_path()
        if table is None:
            most = max(len(j.stages) for j in network.junctions)
            table = QTable.read(path) if path.exists() else QTable(most, 1 << 12)
        self.table = table
        self._describer = Describer(network, timing, table.sees_neighbours)
        if self.table.actions < self._describer.most:
            raise ValueError(
                f"the Q-table has {self.table.actions} actions, this network needs "
                f"{self._describer.most}. Train one for it: headway train"
            )

    def start(self, observation: Observation) -> QState:
        n = len(self._network.junctions)
        zeros = np.zeros(n)
        return QState(
            target=np.zeros(n, np.int32),
            since_s=np.full(n, observation.at_s),
            next_s=np.full(n, observation.at_s),
            keys=np.zeros(n, np.uint64),
            chosen=np.zeros(n, np.int64),
            visits=zeros,
            agreement=np.ones(n),
            regret=zeros,
            waiting=zeros,
        )

    def due(self, observation: Observation, state: QState) -> BoolArray:
        """Junctions that may decide now, (junctions,)."""
        return np.asarray(
            may_change(
                self._network, self._timing, state.target, self._describer.table, observation
            )
            & (observation.at_s >= state.next_s - EPS_S)
        )

    def step(self, observation: Observation, state: QState) -> tuple[Proposal, QState]:
        due = self.due(observation, state)
        return (
            self.act(observation, state, due, None)
            if due.any()
            else (self._propose(observation, state), state)
        )

    def act(
        self,
        observation: Observation,
        state: QState,
        due: BoolArray,
        explore: NDArray[np.int64] | None,
    ) -> tuple[Proposal, QState]:
        """Decide where `due`; `explore` (junctions,) gives actions to be tried instead, -1 for
        none.
        """
        wanted = self._describer.stage_demand(observation)
        keys = self._describer.keys(observation, state.target, state.since_s, wanted)
        values, visits = self.table.get(keys)
        greedy = wanted.argmax(axis=1)
        untried = visits[np.arange(len(greedy)), greedy] == 0
        best = np.where(untried, greedy, np.where(visits > 0, values, -np.inf).argmax(axis=1))
        chosen = best if explore is None else np.where(explore >= 0, explore, best)
        # a file may hold visits of a stage that the junction has not
        chosen = np.minimum(chosen, self._describer.table.count - 1)
        target = np.where(due, chosen, state.target).astype(np.int32)
        fresh = target != state.target
        stopped = np.bincount(self._junctions_of_stopped(observation), minlength=len(due)).astype(
            float
        )
        missed = np.maximum(stopped - state.waiting, 0.0) / REGRET_VEHICLES
        new = QState(
            target=target,
            since_s=np.where(fresh, observation.at_s, state.since_s),
            next_s=np.where(due, observation.at_s + self.interval_s, state.next_s),
            keys=np.where(due, keys, state.keys),
            chosen=np.where(due, chosen, state.chosen),
            visits=np.where(due, visits.sum(axis=1), state.visits),
            agreement=np.where(due, np.where(best == greedy, 1.0, 0.5), state.agreement),
            regret=state.regret + due * REGRET_SHARE * (missed - state.regret),
            waiting=np.where(due, stopped, state.waiting),
        )
        return self._propose(observation, new), new

    def values(
        self, observation: Observation, state: QState
    ) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
        """What the table says of each stage: values and visits, (junctions, actions) each."""
        wanted = self._describer.stage_demand(observation)
        return self.table.get(
            self._describer.keys(observation, state.target, state.since_s, wanted)
        )

    def confidence(self, observation: Observation, state: QState, now: float) -> Confidence:
        """How sure it is of each junction's last decision, by factor."""
        n = len(state.target)
        return Confidence(
            np.full(n, freshness(now - observation.at_s)),
            observation.completeness,
            novelty(state.visits),
            state.agreement,
            performance(state.regret),
        )

    def _propose(self, observation: Observation, state: QState) -> Proposal:
        sure = self.confidence(observation, state, observation.at_s)
        return Proposal(
            observation.at_s,
            self.name,
            self._describer.table.wanted_after_min_green(state.target, observation),
            sure.score,
            sure.factors(),
        )

    def _junctions_of_stopped(self, observation: Observation) -> IntArray:
        """(n,): the junction that each stopped vehicle waits at."""
        v = observation.vehicles
        stopped = (v.speed_mps < HALTING_MPS) & (v.link >= 0)
        groups = self._network.link_group[v.link[stopped]]
        return np.asarray(self._network.group_junction[groups[groups >= 0]], np.int32)


def neighbours(network: Network) -> FloatArray:
    """Row-normalised adjacency (junctions, junctions): which sends traffic straight to which,
    either way.
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


def network_stamp(network: Network) -> int:
    """A number, not 0, for the junctions and stages that the keys and actions of a Q-table stand
    for.
    """
    digest = hashlib.sha256()
    for junction in network.junctions:
        stages = np.asarray(junction.stages, np.int8)
        digest.update(f"{junction.id}\0{stages.shape}\0".encode() + stages.tobytes())
    return int.from_bytes(digest.digest()[:8], "little") or 1


def hash_of(name: str) -> int:
    """A number that stays the same between processes, for a name: FNV-1a, in 31 bits."""
    value = FNV_OFFSET
    for byte in name.encode():
        value = (value ^ byte) * FNV_PRIME % (1 << 31)
    return value
