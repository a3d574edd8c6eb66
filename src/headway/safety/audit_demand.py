"""The rest of the audit, for which it has to be known who waited: maximum green, maximum red and
maximum cycle, from SUMO's own record of its signals and a record of the traffic.

Written from the definitions in docs/glossary.md, over whole columns of time, apart from the gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from headway.roads import Junction, Network, Timing
from headway.safety.audit import AuditFinding, SignalTimeline
from headway.values import BoolArray, FloatArray

REMEMBERED_S = 10.0  # a waiting vehicle that is not seen for so long still waits
LATE_CALL_SHARE = 0.5  # of its maximum cycle is left to every call
TOLERANCE_S = 2.0  # the record of the signals is a step later than that of the traffic


@dataclass(frozen=True, slots=True)
class Demand:
    """Who was there.

    at_s:    float (ticks,), ascending.
    present: bool (ticks, groups), traffic that the group serves.
    excused: bool (ticks, junctions), an order or an emergency vehicle stood over the rules.
    """

    at_s: FloatArray
    present: BoolArray
    excused: BoolArray


def audit_waits(
    network: Network, timing: Timing, lines: Mapping[str, SignalTimeline], demand: Demand
) -> list[AuditFinding]:
    """Every green, red and cycle that was too long, at the time of its end. Excused ones are left
    out.
    """
    if not len(demand.at_s):
        return []
    green = np.column_stack(
        [_green_at(lines[g.tl_id], g.index, demand.at_s) for g in network.groups]
    )
    waiting = _remembered(demand) & ~green
    found: list[AuditFinding] = []
    for j, junction in enumerate(network.junctions):
        for g in range(len(junction.groups)):
            of_group = _Group(junction, g, demand, green, waiting, demand.excused[:, j])
            found += of_group.findings(timing)
    return found


def _green_at(line: SignalTimeline, place: int, at_s: FloatArray) -> BoolArray:
    """(ticks,): the signal is green then."""
    times_s = np.array([time_s for time_s, _ in line])
    lit = np.array([state[place] in "gG" for _, state in line])
    return np.asarray(lit[np.maximum(np.searchsorted(times_s, at_s, side="right") - 1, 0)])


def _remembered(demand: Demand) -> BoolArray:
    """(ticks, groups): traffic was there at most REMEMBERED_S ago."""
    at_s = demand.at_s[:, None]
    last_s = np.maximum.accumulate(np.where(demand.present, at_s, -np.inf), axis=0)
    return np.asarray(at_s - last_s <= REMEMBERED_S)


def _runs(held: BoolArray) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of each unbroken run."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], held, [False]]).astype(np.int8)))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


@dataclass(frozen=True, slots=True)
class _Group:
    """One signal group over time. group: its place in the junction; the arrays are of all groups,
    but `excused`, which is of the junction.
    """

    junction: Junction
    group: int
    demand: Demand
    green: BoolArray
    waiting: BoolArray
    excused: BoolArray

    def findings(self, timing: Timing) -> Iterator[AuditFinding]:
        own = self.junction.first + self.group
        foes = self.junction.first + np.flatnonzero(self.junction.conflicts[self.group])
        # who was green until an instant is not kept waiting at it
        until_then = np.concatenate([self.green[:1, foes], self.green[:-1, foes]])
        kept = (self.waiting[:, foes] & ~until_then).any(axis=1)
        keeps_waiting = self.green[:, own] & kept

        longest_s = float(timing.max_green_s[own])
        yield from self._too_long("maximum_green", keeps_waiting, longest_s)
        # several that wait are served in turn, each for its minimum green
        turns_s = (timing.min_green_s + timing.yellow_s + timing.clearance_s)[foes].sum()
        longest_s = float(timing.max_red_s[own] + turns_s)
        yield from self._too_long("maximum_red", self.waiting[:, own], longest_s)
        yield from self._long_cycles(keeps_waiting, float(timing.max_cycle_s[own]))

    def _too_long(self, rule: str, held: BoolArray, longest_s: float) -> Iterator[AuditFinding]:
        for first, end in _runs(held & ~self.excused):
            if self._lasts_s(first, end - 1) > longest_s + TOLERANCE_S:
                yield self._finding(rule, end - 1)

    def _long_cycles(self, keeps_waiting: BoolArray, longest_s: float) -> Iterator[AuditFinding]:
        greens = list(_runs(self.green[:, self.junction.first + self.group]))
        for (start, end), (again, _) in pairwise(greens):
            if self.excused[start : again + 1].any():
                continue
            at_ease = start + np.flatnonzero(~keeps_waiting[start:end])
            begin = max([start, *at_ease.tolist()])
            silent = end + np.flatnonzero(
                ~self.waiting[end:again, self.junction.first + self.group]
            )
            called = max([begin, *silent.tolist()])
            is_long = self._lasts_s(begin, again) > longest_s + TOLERANCE_S
            is_kept = self._lasts_s(called, again) > LATE_CALL_SHARE * longest_s + TOLERANCE_S
            if is_long and is_kept:
                yield self._finding("maximum_cycle", again)

    def _lasts_s(self, first: int, last: int) -> float:
        return float(self.demand.at_s[last] - self.demand.at_s[first])

    def _finding(self, rule: str, tick: int) -> AuditFinding:
        return AuditFinding(float(self.demand.at_s[tick]), self.junction.id, rule, (self.group,))
