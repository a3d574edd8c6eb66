"""What every stage-based controller needs: the stages of all junctions in one table, and who they
serve.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from headway.control.parts import every_stage
from headway.roads import GO, Colour, Network, Timing
from headway.values import BoolArray, ColourArray, FloatArray, IntArray, Observation

# plain numbers: comparing an array with an enum member costs microseconds
GREEN = int(Colour.GREEN)
RED = int(Colour.RED)
NEAR_M = 200.0  # from the stop line: the vehicles that count as demand
SHORTEST_LEARNT_S = 60.0  # a shorter time would make a rate of the first few vehicles
EPS_S = 1e-6  # times that differ by less are equal: sums of float seconds are not exact


class StageTable:
    """The stages of all junctions, one after the other.

    ptr:     int (junctions + 1,), the stages of junction j are rows ptr[j]..ptr[j + 1] - 1.
    colours: int8 (rows, widest junction), padded with red.
    count:   int (junctions,).
    own:     int (junctions,), how many of them, the first ones, are the programme's, and serve all
        whom it serves.

    With `every`, all compatible stages of a junction follow the green phases of its programme: see
    `every_stage`.
    """

    def __init__(self, network: Network, timing: Timing, every: bool = False) -> None:
        junctions = network.junctions
        self._width = [j.end - j.first for j in junctions]
        found = [every_stage(network, j) if every else (j.stages, len(j.stages)) for j in junctions]
        stages = [of_junction for of_junction, _ in found]
        self.own = np.array([own for _, own in found], np.int32)
        self.count = np.array([len(s) for s in stages], np.int32)
        self.ptr = np.concatenate([[0], np.cumsum(self.count)]).astype(np.int32)
        self.colours: ColourArray = np.full((self.ptr[-1], max(self._width)), Colour.RED, np.int8)
        for i, own in enumerate(stages):
            self.colours[self.ptr[i] : self.ptr[i + 1], : self._width[i]] = own
        self._junction = network.group_junction
        self._first = np.array([j.first for j in junctions], np.int32)
        self._least = timing.min_green_s - EPS_S
        self._conflicts = np.zeros((len(network.groups), max(self._width)), np.bool_)
        for j in junctions:
            self._conflicts[j.first : j.end, : j.end - j.first] = j.conflicts

    def of_junction(self, junction: int) -> ColourArray:
        """int8 (stages, groups), those of one junction."""
        rows = slice(self.ptr[junction], self.ptr[junction + 1])
        return self.colours[rows, : self._width[junction]]

    def wanted(self, target: IntArray) -> ColourArray:
        """Colours (groups,) of the stage `target` (junctions,) of each junction."""
        return np.asarray(colours_of(target, self.ptr, self.colours, self._junction, self._first))

    def wanted_after_min_green(self, target: IntArray, observation: Observation) -> ColourArray:
        """The same, but a group that has not had its shortest green keeps it, and those in conflict
        with it wait.
        """
        wanted = self.wanted(target)
        keep_least(
            wanted,
            observation.shown,
            observation.shown_for_s,
            self._least,
            self._conflicts,
            self._junction,
            self._first,
        )
        return wanted


@njit(cache=True)
def colours_of(target, ptr, colours, junction, first):  # type: ignore[no-untyped-def]
    """See `StageTable.wanted`."""
    out = np.empty(len(junction), np.int8)
    for g in range(len(out)):
        j = junction[g]
        out[g] = colours[ptr[j] + target[j], g - first[j]]
    return out


@njit(cache=True)
def keep_least(wanted, shown, shown_for, least, conflicts, junction, first):  # type: ignore[no-untyped-def]
    """See `StageTable.wanted_after_min_green`; changes `wanted`."""
    for g in range(len(wanted)):
        if wanted[g] < GO and shown[g] >= GO and shown_for[g] < least[g]:
            wanted[g] = shown[g]
            a = first[junction[g]]
            for h in range(conflicts.shape[1]):
                if conflicts[g, h]:  # it stays red; a permissive one stays permissive
                    wanted[a + h] = min(wanted[a + h], shown[a + h]) if shown[a + h] >= GO else RED


def may_change(
    network: Network, timing: Timing, target: IntArray, table: StageTable, observation: Observation
) -> BoolArray:
    """(junctions,): the stage aimed at is shown in full, and each of its greens has lasted its
    shortest time.
    """
    wanted = table.wanted(target) >= Colour.PERMISSIVE
    ready = ~wanted | (
        (observation.shown >= Colour.PERMISSIVE)
        & (observation.shown_for_s >= timing.min_green_s - EPS_S)
    )
    return np.asarray(np.logical_and.reduceat(ready, [j.first for j in network.junctions]))


def demand(network: Network, observation: Observation, within_m: float = NEAR_M) -> FloatArray:
    """Vehicles within `within_m` of the stop line, and pedestrians who wait, by signal group:
    (groups,).
    """
    v = observation.vehicles
    near = (v.link >= 0) & (v.distance_m >= 0.0) & (v.distance_m <= within_m)
    groups = network.link_group[v.link[near]]
    return np.asarray(
        np.bincount(groups[groups >= 0], minlength=len(network.groups))
        + observation.waiting_persons,
        np.float64,
    )


class FlowMeter:
    """Arrival rates by link, an exponential mean over `memory_s` that starts as a plain mean. A
    pure step.
    """

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s

    def step(
        self, rates: FloatArray, learnt_s: float, arrived: IntArray, period_s: float
    ) -> tuple[FloatArray, float]:
        """New (rates (links,) veh/s, seconds learnt so far) after `arrived` (links,) vehicles in
        `period_s`.
        """
        learnt = min(learnt_s + period_s, self._memory_s)
        if period_s <= 0.0:
            return rates, learnt_s
        share = min(1.0, period_s / max(learnt, SHORTEST_LEARNT_S))
        return rates + (arrived / period_s - rates) * share, learnt
