"""Webster's fixed time, from measured flows: critical flow ratios, lost time, cycle, splits.

F. V. Webster, "Traffic signal settings", Road Research Technical Paper 39, HMSO 1958.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from headway.control.stages import EPS_S, FlowMeter, StageTable
from headway.roads import Colour, Junction, Network, Timing
from headway.values import BoolArray, FloatArray, IntArray, Observation, Proposal

SATURATION_VEH_S = 1800.0 / 3600.0
PERMISSIVE_FLOW_SHARE = 0.4  # of the saturation flow, through gaps
STARTUP_LOST_S = 2.0
END_GAIN_S = 2.0
EPS_RATIO = 1e-6
FLOW_MEMORY_S = 900.0  # of the measured flows: long enough to smooth single cycles


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
    # so that stages without traffic share what is left, where no other does
    share = flow_ratios + EPS_RATIO
    greens = least_s.copy()
    loose = np.ones(len(greens), np.bool_)
    while loose.any():
        left = total - greens[~loose].sum()
        shares_s = left * share / share[loose].sum()
        tight = loose & (shares_s < least_s)
        if not tight.any():
            greens[loose] = shares_s[loose]
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
    """rates: float (links,), arrivals, veh/s; learnt_s: how long they have been measured; at_s: of
    the last observation; plans: of each junction; began_s: float (junctions,), start of its cycle.
    """

    rates: FloatArray
    learnt_s: float
    at_s: float
    plans: tuple[Plan, ...]
    began_s: FloatArray


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the stages of one junction discharge, and what a change to the next one costs.

    serves:      float (stages, lanes), rate at which a stage discharges a lane (0..1).
    lost_s:      float (stages,), lost time at the end of each stage.
    min_green_s: float (stages,), of the group that needs most.
    lit:         bool (stages, groups), green of either kind.
    links:       int (links,), lane by lane; lane_start: int (lanes,), where those of each begin.
    """

    serves: FloatArray
    lost_s: FloatArray
    min_green_s: FloatArray
    lit: BoolArray
    links: IntArray
    lane_start: IntArray


def capacity_of(network: Network, timing: Timing, j: int) -> Capacity:
    """The capacity of junction `j`."""
    junction = network.junctions[j]
    lit = junction.stages >= Colour.PERMISSIVE
    min_green_s = timing.min_green_s[junction.first : junction.end]
    lanes = links_by_lane(network, junction)
    return Capacity(
        serves=service_rates(network, junction, lanes),
        lost_s=lost_times_s(lit, timing.intergreen_s(network, j)),
        min_green_s=np.array([min_green_s[groups].max(initial=0.0) for groups in lit]),
        lit=lit,
        links=np.array([link for own in lanes for link in own], np.int32),
        lane_start=np.cumsum([0] + [len(own) for own in lanes[:-1]]).astype(np.int32),
    )


def links_by_lane(network: Network, junction: Junction) -> list[list[int]]:
    """The links of a junction by the lane that they come from."""
    lanes: dict[int, list[int]] = {}
    for g in junction.groups:
        for link in network.groups[g].links:
            lanes.setdefault(network.links[link].from_lane, []).append(link)
    return [lanes[lane] for lane in sorted(lanes)]


def service_rates(network: Network, junction: Junction, lanes: list[list[int]]) -> FloatArray:
    """(stages, lanes): a lane goes as fast as the slowest of its links lets it.

    A lane whose links never run together is served by whichever of them runs.
    """
    rate = {Colour.GREEN: 1.0, Colour.PERMISSIVE: PERMISSIVE_FLOW_SHARE}
    serves = np.zeros((len(junction.stages), len(lanes)))
    for lane, links in enumerate(lanes):
        groups = [network.links[link].group - junction.first for link in links]
        rates = [[rate.get(stage[g], 0.0) for g in groups] for stage in junction.stages]
        serves[:, lane] = [min(own) for own in rates]
        if not serves[:, lane].any():
            serves[:, lane] = [max(own) for own in rates]
    return serves


def lost_times_s(lit: BoolArray, intergreen_s: FloatArray) -> FloatArray:
    """(stages,): from the end of each stage to the next one, with what is lost at the start of a
    queue and gained at the end of green.
    """
    following = np.roll(lit, -1, axis=0)
    gaps_s = [
        intergreen_s[now & ~after][:, after & ~now].max(initial=0.0)
        for now, after in zip(lit, following, strict=True)
    ]
    return np.maximum(np.array(gaps_s) + STARTUP_LOST_S - END_GAIN_S, 0.0)


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
        self._meter = FlowMeter(FLOW_MEMORY_S)
        self._sure = np.ones(len(network.junctions))
        self._capacities = [capacity_of(network, timing, j) for j in range(len(network.junctions))]

    def plan(self, j: int, rates: FloatArray) -> Plan:
        """The plan of junction `j` for arrival rates (links,), veh/s."""
        capacity = self._capacities[j]
        flows = np.add.reduceat(rates[capacity.links], capacity.lane_start)
        ratios = critical_ratios(flows / SATURATION_VEH_S, capacity.serves)

        used = stages_needed(ratios, capacity.lit)
        lost_s = float(capacity.lost_s[used].sum())
        cycle_s = webster_cycle(ratios[used], lost_s, self._bounds)
        greens_s = splits(ratios[used], cycle_s, lost_s, capacity.min_green_s[used])

        lengths_s = np.zeros(len(ratios))
        lengths_s[used] = greens_s + capacity.lost_s[used]
        return Plan(np.cumsum(lengths_s))

    def start(self, observation: Observation) -> WebsterState:
        rates = np.zeros(len(self._network.links))
        n = len(self._network.junctions)
        plans = tuple(self.plan(j, rates) for j in range(n))
        return WebsterState(
            rates=rates,
            learnt_s=0.0,
            at_s=observation.at_s,
            plans=plans,
            began_s=np.full(n, observation.at_s),
        )

    def step(self, observation: Observation, state: WebsterState) -> tuple[Proposal, WebsterState]:
        rates, learnt = self._meter.step(
            state.rates, state.learnt_s, observation.arrived, observation.at_s - state.at_s
        )
        plans = list(state.plans)
        began = state.began_s.copy()
        target = np.zeros(len(state.plans), np.int32)
        for j, plan in enumerate(plans):
            if observation.at_s - began[j] >= plan.ends_s[-1] - EPS_S:
                began[j] = observation.at_s
                plan = plans[j] = self.plan(j, rates)
            target[j] = self._stage(plan, observation.at_s - began[j])
        wanted = self._table.wanted_after_min_green(target, observation)
        proposal = Proposal(observation.at_s, self.name, wanted, self._sure)
        after = WebsterState(
            rates=rates, learnt_s=learnt, at_s=observation.at_s, plans=tuple(plans), began_s=began
        )
        return proposal, after

    @staticmethod
    def _stage(plan: Plan, into_s: float) -> int:
        """The stage shown `into_s` seconds after the start of the plan; the last one lasts until
        the next plan.
        """
        return int(plan.ends_s[:-1].searchsorted(into_s + EPS_S, side="right"))
