"""The planner: each junction searches its next stages for the least delay of the traffic that it sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headway.control import planner_kernel as kernel
from headway.control.stages import StageTable
from headway.roads import Colour, Link, Network, Timing
from headway.roads.upstream import feeders
from headway.values import BoolArray, FloatArray, IntArray, Observation, Proposal


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    headway_s: float = 2.0
    startup_s: float = 1.0
    permissive: float = 0.4
    stop_s: float = 3.0
    late_s: float = 0.7
    rest_s: float = 0.0
    accel_mps2: float = 2.0
    still_mps: float = 5.0
    room_m: float = 15.0
    gap_s: float = 2.0
    virtual: float = 0.0
    horizon_s: float = 60.0
    recheck_s: float = 100.0
    across_s: float = 5.0
    before_s: float = 1.0
    after_s: float = 1.0
    window_s: float = 20.0
    over_s: float = 0.0
    lock_s: float = 0.0
    breadth: float = 0.0
    change_s: float = 0.0
    fair: float = 0.0
    patience_s: float = 40.0
    stuck_s: float = 5.0
    short_m: float = 60.0
    spill: float = 1.0
    giveup_s: float = 30.0
    memory_s: float = 600.0
    holds_s: tuple[float, ...] = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 26, 31, 37, 45)
    lengths_s: tuple[float, ...] = (8, 11, 15, 20, 27, 36)


@dataclass(frozen=True, slots=True)
class PlannerState:
    target: IntArray
    hold_s: FloatArray
    ended_s: FloatArray
    lit: BoolArray
    rates: FloatArray
    learnt_s: float


class Planner:
    name = "planner"

    def __init__(self, network: Network, timing: Timing, settings: PlannerSettings | None = None) -> None:
        self._network = network
        self.settings = s = settings or PlannerSettings()
        junctions = network.junctions
        widest, deepest = max(j.end - j.first for j in junctions), max(len(j.stages) for j in junctions)
        self._first = np.array([j.first for j in junctions] + [len(network.groups)], np.int32)
        self._table = StageTable(network, timing)
        self._stage_ptr, self._stages = self._table.ptr, self._table.colours
        self._trans = np.full((self._stage_ptr[-1], deepest, widest), -1.0)
        self._intergreen = np.zeros((len(network.groups), widest))
        self._yields = np.zeros((len(network.groups), widest), np.bool_)
        self._yellow = timing.yellow_s
        self._least = timing.min_green_s
        for i, j in enumerate(junctions):
            width = j.end - j.first
            self._yields[j.first : j.end, :width] = j.yields
            matrix = timing.intergreen_s(network, i)
            self._intergreen[j.first : j.end, :width] = matrix.T
            lit = j.stages >= Colour.PERMISSIVE
            for x in range(len(j.stages)):
                for y in range(len(j.stages)):
                    ending = lit[x] & ~lit[y]
                    wait = np.where(ending[:, None], matrix, 0.0).max(axis=0)
                    self._trans[self._stage_ptr[i] + x, y, :width] = np.where(lit[y] & ~lit[x], wait, -1.0)
        self._lanes(network)
        self._holds, self._lengths = np.array(s.holds_s, float), np.array(s.lengths_s, float)
        self._par = np.array([
            s.headway_s, s.startup_s, s.permissive, s.stop_s, s.late_s, s.rest_s, s.accel_mps2, s.still_mps, s.room_m, s.gap_s,
            s.virtual, s.horizon_s, s.recheck_s, s.across_s, s.before_s, s.after_s, s.window_s, s.over_s, s.lock_s, s.breadth, s.change_s, s.fair, s.patience_s, s.stuck_s, s.short_m, s.spill, s.giveup_s,
        ])  # fmt: skip
        self._sure = np.ones(len(junctions))

    def _lanes(self, network: Network) -> None:
        lanes, ptr = list[int](), [0]
        for j in network.junctions:
            lanes += sorted({network.links[k].from_lane for g in j.groups for k in network.groups[g].links if network.links[k].direction != "c"})
            ptr.append(len(lanes))
        self._lane_ptr = np.array(ptr, np.int32)
        self._limit = np.array([network.lanes[x].speed_mps for x in lanes])
        self._visible = np.array([min(200.0, max(f.to_stop_m for f in feeders(network, x, 200.0))) for x in lanes])
        self._own = np.array([network.lanes[x].length_m for x in lanes])
        own = [[i for i in network.links_from(x) if network.links[i].group >= 0 and network.links[i].direction != "c"] for x in lanes]
        self._links_ptr = np.concatenate([[0], np.cumsum([len(x) for x in own])]).astype(np.int32)
        self._links = np.array([i for x in own for i in x], np.int32)
        self._approach = np.full(len(network.lanes), -1, np.int32)
        self._approach[lanes] = np.arange(len(lanes))
        self._link_group = np.array([x.group for x in network.links], np.int32)
        self._link_to = np.array([x.to_lane for x in network.links], np.int32)
        self._pocket = np.array([len(x.via) > 1 for x in network.links])
        self._before = np.array([self.settings.before_s * crossing_s(x) for x in network.links])
        self._lane_length = np.array([x.length_m for x in network.lanes])

    def start(self, seen: Observation) -> PlannerState:
        n = len(self._network.junctions)
        lit = seen.shown >= Colour.PERMISSIVE
        return PlannerState(np.zeros(n, np.int32), np.zeros(n), np.full(len(lit), seen.at_s - 100.0), lit, np.zeros(len(self._network.links)), 0.0)

    def step(self, seen: Observation, state: PlannerState) -> tuple[Proposal, PlannerState]:
        now, v, s = seen.at_s, seen.vehicles, self.settings
        lit = seen.shown >= Colour.PERMISSIVE
        ended = np.where(lit, now, np.where(state.lit, now - seen.shown_for_s, state.ended_s))
        learnt = min(state.learnt_s + 1.0, s.memory_s)
        rates = state.rates + (seen.arrived - state.rates) / max(learnt, 60.0)
        target, hold = np.empty_like(state.target), np.empty(len(state.target))
        kernel.plan(
            state.target, state.hold_s, seen.shown, seen.shown_for_s, now - ended, self._first, self._lane_ptr, self._limit, self._visible, self._own,
            self._links_ptr, self._links, self._approach,
            self._stage_ptr, self._stages, self._trans, self._intergreen, self._least, self._link_group, self._link_to, self._pocket, self._before, self._yields, self._yellow,
            v.lane, v.link, v.distance_m, v.speed_mps, v.waiting_s, seen.room_m, self._lane_length, rates, self._holds, self._lengths, self._par,
            target, hold,
        )  # fmt: skip
        target = np.where(hold <= 0.5, target, state.target).astype(np.int32)
        wanted = self._table.wanted_after_least(target, seen)
        return Proposal(now, self.name, wanted, self._sure), PlannerState(target, hold, ended, lit, rates, learnt)


def crossing_s(link: Link) -> float:
    """Seconds that a vehicle needs to cross a junction from standstill: from the stop line, or from where it waits inside."""
    path = link.length_m * (0.5 if len(link.via) > 1 else 1.0) + 5.0
    ramp = link.speed_mps**2 / 4.0
    return float(np.sqrt(path)) if path <= ramp else link.speed_mps / 2.0 + (path - ramp) / link.speed_mps
