"""The planner: each junction searches its next stages for the least delay of the traffic that it
sees.

Every second, for every junction: how long to hold the stage of the moment, which stage next, and
for how long, after which each stage is held until its queues and platoons have passed (a roll-out
of exhaustive service). What the plan costs is the delay of all vehicles in sight, each lane a queue
(`headway.control.queue_model`); the best plan's first step is proposed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from headway.control import planner_kernel as kernel
from headway.control.queue_model import Model
from headway.control.stages import GO, StageTable
from headway.roads import Colour, Link, Network, Timing
from headway.values import BoolArray, ColourArray, FloatArray, IntArray, Observation, Proposal

RED = int(Colour.RED)
HOLDS_S = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 26, 31, 37, 45)
LENGTHS_S = (8, 11, 15, 20, 27, 36)
MODEL = Model(
    horizon=60.0,
    headway=1.89,
    startup=1.38,
    late=0.34,
    stop=1.33,
    crawl=5.0,
    accel=3.54,
    after=0.67,
    gap=2.0,
    ahead=5.0,
    rest=0.0,
    room=15.0,
    short=60.0,
    stuck=7.0,
    give_up=32.0,
    spill=0.5,
    harm=1.0,
    person=1.0,
)


@dataclass(frozen=True, slots=True)
class PlannerState:
    """The stage aimed at (junctions,); the colours seen last; when each group's green began and
    ended last, seconds, and whether it is lit (groups,)."""

    target: IntArray
    shown: ColourArray
    began_s: FloatArray
    ended_s: FloatArray
    lit: BoolArray


class Planner:
    """See the module's text. One set of figures, `MODEL`, for all networks; how it was found stands
    in docs/decisions.
    """

    name = "planner"

    def __init__(self, network: Network, timing: Timing, model: Model = MODEL) -> None:
        self._network = network
        self._model = np.array(model)
        self._table = StageTable(network, timing, every=True)
        self._tables = tables(network, timing, self._table)
        self._sure, self._min_cycle_s = np.ones(len(network.junctions)), timing.profile.min_cycle_s

    def start(self, seen: Observation) -> PlannerState:
        before = np.full(len(seen.shown), seen.at_s - 1e3)
        return PlannerState(
            np.zeros(len(self._network.junctions), np.int32),
            seen.shown,
            before,
            before,
            seen.shown >= Colour.PERMISSIVE,
        )

    def step(self, seen: Observation, state: PlannerState) -> tuple[Proposal, PlannerState]:
        v = seen.vehicles
        lit = state.lit
        began = state.began_s
        ended = state.ended_s
        if seen.shown is not state.shown:
            lit, began, ended = kernel.note_changes(
                seen.at_s, seen.shown, seen.shown_for_s, lit, began, ended
            )
        target = kernel.plan(
            self._tables,
            self._model,
            seen.at_s,
            state.target,
            seen.shown,
            seen.shown_for_s,
            ended,
            v.lane,
            v.link,
            v.distance_m,
            v.speed_mps,
            v.waiting_s,
            seen.room_m,
            seen.waiting_persons,
            seen.links_known,
        )
        wanted = self._table.wanted_after_least(target, seen)
        # a group may not start again yet: known here, not in the search, where it did harm
        barred = ~lit & (seen.at_s - began < self._min_cycle_s - 1e-6)
        wanted[barred] = np.minimum(wanted[barred], RED)
        return Proposal(seen.at_s, self.name, wanted, self._sure), PlannerState(
            target, seen.shown, began, ended, lit
        )


def tables(network: Network, timing: Timing, stages: StageTable) -> kernel.Tables:
    """The flat tables of the search."""
    junctions = network.junctions
    groups = network.groups
    links = network.links
    inside = [
        sorted({links[k].group for g in j.groups for k in groups[g].links if len(links[k].via) > 1})
        for j in junctions
    ]
    col_ptr = np.cumsum(
        [0] + [j.end - j.first + len(x) for j, x in zip(junctions, inside, strict=True)]
    ).astype(np.int32)
    widest = int(np.diff(col_ptr).max())
    colours = np.full((len(stages.colours), widest), Colour.RED, np.int8)
    intergreen, yields = np.zeros((len(groups), widest)), np.zeros((col_ptr[-1], widest), np.bool_)
    column, inside_column = np.full(len(links), -1, np.int32), np.full(len(links), -1, np.int32)
    lanes, lane_ptr = list[int](), [0]
    for i, j in enumerate(junctions):
        rows = slice(stages.ptr[i], stages.ptr[i + 1])
        n = j.end - j.first
        c = col_ptr[i]
        colours[rows, :n] = stages.colours[rows, :n]
        intergreen[j.first : j.end, :n] = timing.intergreen_s(network, i).T
        yields[c : c + n, :n] = j.yields
        for place, group in enumerate(
            inside[i], n
        ):  # who waits inside goes when those go no more to whom it gives way
            yields[c + place, :n] = j.yields[group - j.first]
            free = (colours[rows, :n][:, j.yields[group - j.first]] < GO).all(axis=1)
            colours[rows, place] = np.where(free, Colour.GREEN, Colour.PERMISSIVE)
        for g in j.groups:
            for k in groups[g].links:
                column[k] = g - j.first
                inside_column[k] = n + inside[i].index(g) if len(links[k].via) > 1 else -1
        own = sorted(
            {
                links[k].from_lane
                for g in j.groups
                for k in groups[g].links
                if links[k].direction != "c"
            }
        )
        lanes += own
        lane_ptr.append(len(lanes))
    streets: dict[str, int] = {}
    approach = np.full(len(network.lanes), -1, np.int32)
    approach[lanes] = np.arange(len(lanes))
    return kernel.Tables(
        np.array([j.first for j in junctions] + [len(groups)], np.int32),
        col_ptr,
        stages.ptr,
        np.array([len(j.stages) for j in junctions], np.int32),
        colours,
        as_bits(colours >= GO),
        as_bits(colours >= Colour.GREEN),
        intergreen,
        yields,
        timing.min_green_s,
        timing.yellow_s,
        np.array(lane_ptr, np.int32),
        np.array([network.lanes[x].speed_mps for x in lanes]),
        np.array([network.lanes[x].length_m for x in lanes]),
        np.array(lanes, np.int32),
        np.array([streets.setdefault(x.edge, i) for i, x in enumerate(network.lanes)], np.int32),
        approach,
        np.array([x.group for x in links], np.int32),
        column,
        inside_column,
        np.array([x.to_lane for x in links], np.int32),
        np.array([crossing_s(x) for x in links]),
        np.array([x.length_m for x in network.lanes]),
        np.array(HOLDS_S, np.float64),
        np.array(LENGTHS_S, np.float64),
    )


def as_bits(rows: BoolArray) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Each row as 64-bit words, (rows, words)."""
    words = -(-rows.shape[1] // 64)
    padded = np.zeros((len(rows), words * 64), np.bool_)
    padded[:, : rows.shape[1]] = rows
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint64).reshape(len(rows), words)


def crossing_s(link: Link) -> float:
    """Seconds that a vehicle needs to cross a junction from standstill: from the stop line, or from
    where it waits inside.
    """
    path = link.length_m * (0.5 if len(link.via) > 1 else 1.0) + 5.0
    ramp = link.speed_mps**2 / 4.0
    return (
        float(np.sqrt(path))
        if path <= ramp
        else link.speed_mps / 2.0 + (path - ramp) / link.speed_mps
    )
