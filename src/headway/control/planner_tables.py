"""The network and its timing as the flat tables that the planner's search reads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import sqrt
from typing import NamedTuple

import numpy as np

from headway.control.queue_model import Records, record_type
from headway.control.stages import EPS_S, GREEN, StageTable
from headway.roads import GO, Colour, Junction, Link, Network, Timing, likely_links
from headway.values import BoolArray, ColourArray, FloatArray, IntArray

CROSSING_MPS2 = 2.0  # acceleration from standstill of a vehicle that crosses a junction
REAR_M = 5.0  # a vehicle's length: it has crossed when its rear has
SHORT_EXIT_M = 60.0  # as `short_lane_m` of the planner's settings, by default
INSIDE_SHARE = 0.5  # of the way over the junction is left to one that waits inside
WORD_BITS = 64
PEDESTRIAN_CROSSING = "c"  # the direction of its link
TURN_ROUND = "t"
NO_GROUP = -1
NO_COLUMN = -1
NO_LANE = -1

WordArray = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]

# Where the parts of junction j are: from record j to record j + 1. Columns are the groups of a
# junction, then one for each group whose traffic may wait inside; lanes are stop lanes; own_stages:
# how many stages, the first ones, are the programme's.
JUNCTION = record_type(
    first_group=np.int64,
    first_column=np.int64,
    first_stage=np.int64,
    first_lane=np.int64,
    own_stages=np.int64,
)
# min_cycle_s, max_cycle_s: see `headway.control.cycles`.
GROUP = record_type(
    min_green_s=np.float64, yellow_s=np.float64, min_cycle_s=np.float64, max_cycle_s=np.float64
)
# A lane that ends at a signal; lane: its index among all lanes; junction: of that signal;
# has_road_in: a queue that fills it reaches a junction: other roads than the lane's own, turned
# round, lead into it.
STOP_LANE = record_type(
    lane=np.int64,
    junction=np.int64,
    limit_mps=np.float64,
    length_m=np.float64,
    has_road_in=np.bool_,
)
# Any lane; stop_lane: its place among those, or NO_LANE; street: the first lane of the same street.
LANE = record_type(stop_lane=np.int64, street=np.int64, length_m=np.float64)
# group, junction: NO_GROUP without a signal; column: of its group; inside_column: of those who wait
# inside, NO_COLUMN where there is no place to wait; crossing_s: from standstill.
LINK = record_type(
    group=np.int64,
    junction=np.int64,
    column=np.int64,
    inside_column=np.int64,
    to_lane=np.int64,
    crossing_s=np.float64,
)


class Tables(NamedTuple):
    """What does not change: the network and its timing, flat.

    junctions:    JUNCTION (junctions + 1,).
    groups:       GROUP (groups,).
    stop_lanes:   STOP_LANE (stop lanes,).
    lanes:        LANE (lanes,).
    links:        LINK (links,).
    stages:       int8 (rows, widest), colours of the stages of all junctions.
    lit, green:   uint64 (rows, words), the columns that may go, and those that are protected.
    whole:        bool (rows,), may be tried where links are guessed: see `serves_whole_lanes`.
    intergreen_s: float (groups, widest), from the end of the column's green to the row's start.
    yields:       bool (columns, widest), the row gives way to the column.
    holds_s:      float, for how long the stage of now may be held; the first is 0.
    lengths_s:    float, how long the next stage may last, beside the time that clears its queues.
    has_max_cycle: some group has a longest cycle.

    Yellows and intergreens are in whole ticks, as the gate shows them.
    """

    junctions: Records
    groups: Records
    stop_lanes: Records
    lanes: Records
    links: Records
    stages: ColourArray
    lit: WordArray
    green: WordArray
    whole: BoolArray
    intergreen_s: FloatArray
    yields: BoolArray
    holds_s: FloatArray
    lengths_s: FloatArray
    has_max_cycle: bool


def planner_tables(
    network: Network,
    timing: Timing,
    stages: StageTable,
    holds_s: Sequence[float],
    lengths_s: Sequence[float],
    tick_s: float,
) -> Tables:
    """The tables of a network. holds_s, lengths_s: see `Tables`. tick_s: of the street's loop."""
    junctions = network.junctions
    inside = [groups_waiting_inside(network, junction) for junction in junctions]
    columns = [len(j.groups) + len(own) for j, own in zip(junctions, inside, strict=True)]
    stop_lanes = [lanes_under_signal(network, junction) for junction in junctions]
    lanes = [lane for own in stop_lanes for lane in own]
    colours = stage_colours(network, stages, inside, max(columns))
    roads_in = {network.lanes[x.to_lane].edge for x in network.links if x.direction != TURN_ROUND}
    return Tables(
        junctions=records(
            JUNCTION,
            first_group=starts([len(j.groups) for j in junctions]),
            first_column=starts(columns),
            first_stage=stages.ptr,
            first_lane=starts([len(own) for own in stop_lanes]),
            own_stages=[*stages.own, 0],
        ),
        groups=records(
            GROUP,
            min_green_s=timing.min_green_s,
            yellow_s=whole_ticks(timing.yellow_s, tick_s),
            min_cycle_s=timing.min_cycle_s,
            max_cycle_s=timing.max_cycle_s,
        ),
        stop_lanes=records(
            STOP_LANE,
            lane=lanes,
            junction=[j for j, own in enumerate(stop_lanes) for _ in own],
            limit_mps=[network.lanes[lane].speed_mps for lane in lanes],
            length_m=[network.lanes[lane].length_m for lane in lanes],
            has_road_in=[network.lanes[lane].edge in roads_in for lane in lanes],
        ),
        lanes=lane_records(network, lanes),
        links=link_records(network, inside),
        stages=colours,
        lit=as_bits(colours >= GO),
        green=as_bits(colours >= GREEN),
        whole=serves_whole_lanes(network, stages, stop_lanes),
        intergreen_s=intergreens_s(network, timing, tick_s, max(columns)),
        yields=column_yields(network, inside, max(columns)),
        holds_s=np.array(holds_s, np.float64),
        lengths_s=np.array(lengths_s, np.float64),
        has_max_cycle=bool(np.isfinite(timing.max_cycle_s).any()),
    )


def records(kind: np.dtype[np.record], **columns: Sequence[float] | np.ndarray) -> Records:
    """Records of `kind` from the values of each field."""
    out = np.zeros(len(next(iter(columns.values()))), kind)
    for name, values in columns.items():
        out[name] = values
    return out


def starts(counts: Sequence[int]) -> IntArray:
    """(n + 1,) where each of n parts begins, one after the other, and where the last one ends."""
    return np.array([0, *accumulate(counts)], np.int32)


def has_room_inside(link: Link) -> bool:
    """A path in several lanes has a place inside the junction to wait for a gap."""
    return len(link.via) > 1


def groups_waiting_inside(network: Network, junction: Junction) -> list[int]:
    """The groups of a junction whose traffic may wait inside, one more column each."""
    links = [network.links[k] for g in junction.groups for k in network.groups[g].links]
    return sorted({link.group for link in links if has_room_inside(link)})


def lanes_under_signal(network: Network, junction: Junction) -> list[int]:
    """The lanes that end at the junction, without the pavements before a crossing."""
    links = [network.links[k] for g in junction.groups for k in network.groups[g].links]
    return sorted({x.from_lane for x in links if x.direction != PEDESTRIAN_CROSSING})


def stage_colours(
    network: Network, stages: StageTable, inside: list[list[int]], widest: int
) -> ColourArray:
    """(rows, widest): the stages of all junctions; red beyond a junction's own columns."""
    colours: ColourArray = np.full((len(stages.colours), widest), Colour.RED, np.int8)
    for i, junction in enumerate(network.junctions):
        rows = slice(stages.ptr[i], stages.ptr[i + 1])
        groups = len(junction.groups)
        own = stages.colours[rows, :groups]
        colours[rows, :groups] = own
        for column, group in enumerate(inside[i], groups):
            # who waits inside goes when the traffic stops to which it gives way
            gives_way_to = junction.yields[group - junction.first]
            is_free = (own[:, gives_way_to] < GO).all(axis=1)
            colours[rows, column] = np.where(is_free, Colour.GREEN, Colour.PERMISSIVE)
    return colours


def serves_whole_lanes(
    network: Network, stages: StageTable, stop_lanes: list[list[int]]
) -> BoolArray:
    """(rows,): of no lane the likely way is lit, and not all the others: whom such a stage stops
    would keep all those waiting that it is for. And behind the junction is no short lane before
    another signal, which those would fill whose way was not known.
    """
    likely = likely_links(network)
    all_stop_lanes = {lane for own in stop_lanes for lane in own}
    whole = np.ones(stages.ptr[-1], np.bool_)
    for i, junction in enumerate(network.junctions):
        rows = slice(stages.ptr[i], stages.ptr[i + 1])
        exits = {x.to_lane for x in network.links if junction.first <= x.group < junction.end}
        whole[rows] = all(network.lanes[x].length_m >= SHORT_EXIT_M for x in exits & all_stop_lanes)
        for lane in stop_lanes[i]:
            groups = {network.links[k].group for k in network.links_from(lane)}
            own = [g - junction.first for g in groups if junction.first <= g < junction.end]
            lit = stages.colours[rows][:, own] >= GO
            main = network.links[likely[lane]].group - junction.first
            whole[rows] &= lit.all(axis=1) | (stages.colours[rows, main] < GO)
    return whole


def intergreens_s(network: Network, timing: Timing, tick_s: float, widest: int) -> FloatArray:
    """(groups, widest), from the end of the column's green to the start of the row's: the clearance
    begins with the red, after a yellow of whole ticks, and a green begins at a tick.
    """
    change_s = whole_ticks(whole_ticks(timing.yellow_s, tick_s) + timing.clearance_s, tick_s)
    out = np.zeros((len(network.groups), widest))
    for junction in network.junctions:
        rows = slice(junction.first, junction.end)
        out[rows, : len(junction.groups)] = (change_s[rows, None] * junction.conflicts).T
    return out


def whole_ticks(duration_s: FloatArray, tick_s: float) -> FloatArray:
    """Durations, rounded up to whole ticks."""
    return np.asarray(np.ceil((duration_s - EPS_S) / tick_s) * tick_s, np.float64)


def column_yields(network: Network, inside: list[list[int]], widest: int) -> BoolArray:
    """(columns, widest); who waits inside gives way as those of its group do."""
    blocks = []
    for junction, own in zip(network.junctions, inside, strict=True):
        of_inside = [group - junction.first for group in own]
        rows = np.concatenate([junction.yields, junction.yields[of_inside]])
        blocks.append(np.pad(rows, ((0, 0), (0, widest - rows.shape[1]))))
    return np.concatenate(blocks)


def lane_records(network: Network, stop_lanes: list[int]) -> Records:
    place = np.full(len(network.lanes), NO_LANE)
    place[stop_lanes] = np.arange(len(stop_lanes))
    first_of: dict[str, int] = {}
    return records(
        LANE,
        stop_lane=place,
        street=[first_of.setdefault(lane.edge, i) for i, lane in enumerate(network.lanes)],
        length_m=[lane.length_m for lane in network.lanes],
    )


def link_records(network: Network, inside: list[list[int]]) -> Records:
    column = np.full(len(network.links), NO_COLUMN)
    inside_column = np.full(len(network.links), NO_COLUMN)
    for junction, own in zip(network.junctions, inside, strict=True):
        for g in junction.groups:
            for k in network.groups[g].links:
                column[k] = g - junction.first
                if has_room_inside(network.links[k]):
                    inside_column[k] = len(junction.groups) + own.index(g)
    return records(
        LINK,
        group=network.link_group,
        junction=network.link_junction,
        column=column,
        inside_column=inside_column,
        to_lane=[link.to_lane for link in network.links],
        crossing_s=[crossing_s(link) for link in network.links],
    )


def as_bits(rows: BoolArray) -> WordArray:
    """Each row as 64-bit words, (rows, words)."""
    words = -(-rows.shape[1] // WORD_BITS)
    padded = np.zeros((len(rows), words * WORD_BITS), np.bool_)
    padded[:, : rows.shape[1]] = rows
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint64).reshape(len(rows), words)


def crossing_s(link: Link) -> float:
    """Seconds that a vehicle needs to cross a junction from standstill: from the stop line, or from
    where it waits inside.
    """
    path_m = link.length_m * (INSIDE_SHARE if has_room_inside(link) else 1.0) + REAR_M
    accelerating_m = link.speed_mps**2 / (2.0 * CROSSING_MPS2)
    if path_m <= accelerating_m:
        return sqrt(2.0 * path_m / CROSSING_MPS2)
    return link.speed_mps / CROSSING_MPS2 + (path_m - accelerating_m) / link.speed_mps
