"""Webster's fixed time, from measured flows: critical flow ratios, lost time, cycle, splits.

F. V. Webster, "Traffic signal settings", Road Research Technical Paper 39, HMSO 1958.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from headway.control.stages import FlowMeter, StageTable
from headway.roads import Colour, Network, Timing
from headway.values import FloatArray, IntArray, Observation, Proposal

SATURATION_VEH_S = 1800.0 / 3600.0
PERMISSIVE_SHARE = 0.4
STARTUP_LOST_S = 2.0
END_GAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class CycleBounds:
    """Permitted cycle lengths, seconds."""

    shortest_s: float = 40.0
    longest_s: float = 120.0

    def clip(self, cycle_s: float) -> float:
        return min(max(cycle_s, self.shortest_s), self.longest_s)


def webster_cycle(flow_ratios: FloatArray, lost_s: float, bounds: CycleBounds) -> float:
    """Cycle length of least delay for isolated fixed time, C = (1.5 L + 5) / (1 - Y), seconds.

    flow_ratios: (stages,), critical flow / saturation flow of each stage, dimensionless. lost_s:
        lost time a cycle.
    At or above saturation (Y >= 1) the optimum does not exist; the longest permitted cycle is
    returned, which is the practice. Raises ValueError if a ratio or the lost time is negative or
    not finite.

    >>> webster_cycle(np.array([0.3, 0.3]), 10.0, CycleBounds())
    50.0
    """
    if not (
        np.isfinite(flow_ratios).all()
        and (flow_ratios >= 0).all()
        and np.isfinite(lost_s)
        and lost_s >= 0
    ):
        raise ValueError(
            f"flow ratios and lost time must be finite and not negative, are {flow_ratios} "
            f"and {lost_s}"
        )
    y = float(flow_ratios.sum())
    return bounds.longest_s if y >= 1.0 else bounds.clip((1.5 * lost_s + 5.0) / (1.0 - y))


@njit(cache=True)
def splits(flow_ratios, cycle_s, lost_s, least_s):  # type: ignore[no-untyped-def]
    """Effective green of each stage, in proportion to its critical ratio and at least `least_s`;
    (stages,) seconds.

    flow_ratios: (stages,). cycle_s, lost_s: seconds. least_s: (stages,) seconds.

    The sum is cycle_s - lost_s, or the sum of `least_s` where that is more.
    """
    total = max(cycle_s - lost_s, least_s.sum())
    share = (
        flow_ratios + 1e-6
    )  # so that stages without traffic share what is left, where no other does
    greens = least_s.copy()
    loose = np.ones(len(greens), np.bool_)
    while loose.any():
        left = total - greens[~loose].sum()
        wish = left * share / share[loose].sum()
        tight = loose & (wish < least_s)
        if not tight.any():
            greens[loose] = wish[loose]
            break
        loose &= ~tight
    return greens


def critical_ratios(lane_ratio: FloatArray, serves: FloatArray) -> FloatArray:
    """Critical flow ratio of each stage, when a lane may be served by several stages; (stages,).

    lane_ratio: (lanes,) flow / saturation flow. serves: (stages, lanes), rate at which a stage
        discharges a lane (0..1).
    Lanes that one stage alone serves come first; what is then still missing goes to the stage that
    serves the lane best.
    """
    return np.asarray(
        fill_ratios(lane_ratio, serves, np.lexsort((-lane_ratio, (serves > 0).sum(axis=0))))
    )


@njit(cache=True)
def fill_ratios(lane_ratio, serves, order):  # type: ignore[no-untyped-def]
    """`critical_ratios` with the lanes taken in `order`."""
    y = np.zeros(len(serves))
    for lane in order:
        missing, best = lane_ratio[lane], 0
        for s in range(len(serves)):
            missing -= serves[s, lane] * y[s]
            if serves[s, lane] > serves[best, lane]:
                best = s
        if missing > 0.0 and serves[best, lane] > 0.0:
            y[best] += missing / serves[best, lane]
    return y


@njit(cache=True)
def stages_needed(y, lit):  # type: ignore[no-untyped-def]
    """(stages,) those with traffic, and those that alone serve some group: lit (stages, groups)."""
    used = (y > 0.0) | (len(y) == 1)
    for s in range(len(y)):
        for g in range(lit.shape[1]):
            if lit[s, g] and not used[s]:
                alone = True
                for other in range(len(y)):
                    alone &= not (used[other] and lit[other, g])
                if alone:
                    used[s] = True
    return used


@dataclass(frozen=True, slots=True)
class Plan:
    """One junction's plan: end of each stage within the cycle (stages,), seconds; the last is the
    cycle length.
    """

    ends_s: FloatArray


@dataclass(frozen=True, slots=True)
class WebsterState:
    rates: FloatArray
    learnt_s: float
    at_s: float
    plans: tuple[Plan, ...]
    began_s: FloatArray


class Webster:
    """Fixed time that is computed anew from the measured flows, at each junction when its cycle
    ends.
    """

    name = "webster"

    def __init__(self, network: Network, timing: Timing, bounds: CycleBounds | None = None) -> None:
        self._network = network
        self._timing = timing
        self._table = StageTable(network, timing)
        self._bounds = bounds or CycleBounds()
        self._meter = FlowMeter(900.0)
        self._sure = np.ones(len(network.junctions))
        self._parts = [self._junction(j) for j in range(len(network.junctions))]
        self._lit = [j.stages >= Colour.PERMISSIVE for j in network.junctions]

    def _junction(self, j: int) -> tuple[FloatArray, FloatArray, FloatArray, IntArray, IntArray]:
        """(stages, lanes) service, lost time of each stage, shortest green of each; links lane by
        lane, and where those of each begin.
        """
        junction = self._network.junctions[j]
        links = [k for g in junction.groups for k in self._network.groups[g].links]
        lanes = sorted({self._network.links[k].from_lane for k in links})
        of_lane = [[k for k in links if self._network.links[k].from_lane == lane] for lane in lanes]
        level = {Colour.GREEN: 1.0, Colour.PERMISSIVE: PERMISSIVE_SHARE}
        serves = np.array(
            [
                [
                    min(
                        level.get(s[self._network.links[k].group - junction.first], 0.0)
                        for k in own
                    )
                    for own in of_lane
                ]
                for s in junction.stages
            ]
        )
        for lane, own in enumerate(
            of_lane
        ):  # a lane whose links never run together is served by whichever runs
            if not serves[:, lane].any():
                serves[:, lane] = [
                    max(
                        level.get(s[self._network.links[k].group - junction.first], 0.0)
                        for k in own
                    )
                    for s in junction.stages
                ]
        matrix = self._timing.intergreen_s(self._network, j)
        lit = junction.stages >= Colour.PERMISSIVE
        following = np.roll(lit, -1, axis=0)
        gap = np.array(
            [
                matrix[a & ~b][:, b & ~a].max(initial=0.0)
                for a, b in zip(lit, following, strict=True)
            ]
        )
        least = np.array(
            [
                self._timing.min_green_s[junction.first : junction.end][s].max(initial=0.0)
                for s in lit
            ]
        )
        by_lane = np.array([k for own in of_lane for k in own], np.int32)
        starts = np.cumsum([0] + [len(own) for own in of_lane[:-1]]).astype(np.int32)
        return serves, np.maximum(gap + STARTUP_LOST_S - END_GAIN_S, 0.0), least, by_lane, starts

    def plan(self, j: int, rates: FloatArray) -> Plan:
        """The plan of junction `j` for arrival rates (links,), veh/s."""
        serves, lost, least, links, starts = self._parts[j]
        ratio = np.add.reduceat(rates[links], starts) / SATURATION_VEH_S
        y = critical_ratios(ratio, serves)
        used = stages_needed(y, self._lit[j])
        cycle = webster_cycle(y[used], float(lost[used].sum()), self._bounds)
        lengths = np.zeros(len(y))
        lengths[used] = splits(y[used], cycle, float(lost[used].sum()), least[used]) + lost[used]
        return Plan(np.cumsum(lengths))

    def start(self, seen: Observation) -> WebsterState:
        rates = np.zeros(len(self._network.links))
        n = len(self._network.junctions)
        plans = tuple(self.plan(j, rates) for j in range(n))
        return WebsterState(rates, 0.0, seen.at_s, plans, np.full(n, seen.at_s))

    def step(self, seen: Observation, state: WebsterState) -> tuple[Proposal, WebsterState]:
        rates, learnt = self._meter.step(
            state.rates, state.learnt_s, seen.arrived, seen.at_s - state.at_s
        )
        plans = list(state.plans)
        began = state.began_s.copy()
        target = np.zeros(len(state.plans), np.int32)
        for j, plan in enumerate(plans):
            if seen.at_s - began[j] >= plan.ends_s[-1] - 1e-6:
                began[j] = seen.at_s
                plan = plans[j] = self.plan(j, rates)
            target[j] = self._stage(plan, seen.at_s - began[j])
        wanted = self._table.wanted_after_min_green(target, seen)
        return Proposal(seen.at_s, self.name, wanted, self._sure), WebsterState(
            rates, learnt, seen.at_s, tuple(plans), began
        )

    @staticmethod
    def _stage(plan: Plan, into_s: float) -> int:
        return int(
            plan.ends_s[:-1].searchsorted(into_s + 1e-6, side="right")
        )  # the last one lasts until the next plan
