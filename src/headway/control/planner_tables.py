"""The network and its timing as the flat tables that the planner's search reads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import sqrt

import numpy as np

from headway.control.planner_kernel import NO_COLUMN, NO_LANE, Tables, WordArray
from headway.control.stages import GO, StageTable
from headway.roads import Colour, Junction, Link, Network, Timing
from headway.values import BoolArray, ColourArray, FloatArray, IntArray

CROSSING_MPS2 = 2.0  # acceleration from standstill of a vehicle that crosses a junction
REAR_M = 5.0  # a vehicle's length: it has crossed when its rear has
INSIDE_SHARE = 0.5  # of the way over the junction is left to one that waits inside
WORD_BITS = 64
PEDESTRIAN_CROSSING = "c"  # the direction of its link


def planner_tables(
    network: Network,
    timing: Timing,
    stages: StageTable,
    holds_s: Sequence[float],
    lengths_s: Sequence[float],
) -> Tables:
    """The tables of a network. holds_s, lengths_s: see `planner_kernel.Tables`."""
    junctions = network.junctions
    inside = [groups_waiting_inside(network, junction) for junction in junctions]
    columns = [len(j.groups) + len(own) for j, own in zip(junctions, inside, strict=True)]
    stop_lanes = [lanes_under_signal(network, junction) for junction in junctions]
    lanes = [lane for own in stop_lanes for lane in own]
    colours = stage_colours(network, stages, inside, max(columns))
    column, inside_column = link_columns(network, inside)
    return Tables(
        first=starts([len(j.groups) for j in junctions]),
        col_ptr=starts(columns),
        stage_ptr=stages.ptr,
        own=np.array([len(j.stages) for j in junctions], np.int32),
        stages=colours,
        lit=as_bits(colours >= GO),
        green=as_bits(colours >= Colour.GREEN),
        intergreen=intergreens_s(network, timing, max(columns)),
        yields=column_yields(network, inside, max(columns)),
        least=timing.min_green_s,
        yellow=timing.yellow_s,
        lane_ptr=starts([len(own) for own in stop_lanes]),
        lane_limit=np.array([network.lanes[lane].speed_mps for lane in lanes]),
        lane_own=np.array([network.lanes[lane].length_m for lane in lanes]),
        lane_id=np.array(lanes, np.int32),
        lane_street=first_lanes_of_streets(network),
        approach=places_among(lanes, len(network.lanes)),
        link_group=np.array([link.group for link in network.links], np.int32),
        link_column=column,
        link_inside=inside_column,
        link_to=np.array([link.to_lane for link in network.links], np.int32),
        link_before=np.array([crossing_s(link) for link in network.links]),
        lane_length=np.array([lane.length_m for lane in network.lanes]),
        holds=np.array(holds_s, np.float64),
        lengths=np.array(lengths_s, np.float64),
    )


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


def intergreens_s(network: Network, timing: Timing, widest: int) -> FloatArray:
    """(groups, widest), from the end of the column's green to the start of the row's."""
    out = np.zeros((len(network.groups), widest))
    for i, junction in enumerate(network.junctions):
        rows = slice(junction.first, junction.end)
        out[rows, : len(junction.groups)] = timing.intergreen_s(network, i).T
    return out


def column_yields(network: Network, inside: list[list[int]], widest: int) -> BoolArray:
    """(columns, widest); who waits inside gives way as those of its group do."""
    blocks = []
    for junction, own in zip(network.junctions, inside, strict=True):
        of_inside = [group - junction.first for group in own]
        rows = np.concatenate([junction.yields, junction.yields[of_inside]])
        blocks.append(np.pad(rows, ((0, 0), (0, widest - rows.shape[1]))))
    return np.concatenate(blocks)


def first_lanes_of_streets(network: Network) -> IntArray:
    """(lanes,): the first lane of the same street."""
    first_of: dict[str, int] = {}
    return np.array(
        [first_of.setdefault(lane.edge, i) for i, lane in enumerate(network.lanes)], np.int32
    )


def places_among(stop_lanes: list[int], lanes: int) -> IntArray:
    """(lanes,): the place of each lane among `stop_lanes`, NO_LANE for the others."""
    place = np.full(lanes, NO_LANE, np.int32)
    place[stop_lanes] = np.arange(len(stop_lanes))
    return place


def link_columns(network: Network, inside: list[list[int]]) -> tuple[IntArray, IntArray]:
    """(links,) each: the column of a link, and that of those who wait inside; or NO_COLUMN."""
    column = np.full(len(network.links), NO_COLUMN, np.int32)
    inside_column = np.full(len(network.links), NO_COLUMN, np.int32)
    for junction, own in zip(network.junctions, inside, strict=True):
        for g in junction.groups:
            for k in network.groups[g].links:
                column[k] = g - junction.first
                if has_room_inside(network.links[k]):
                    inside_column[k] = len(junction.groups) + own.index(g)
    return column, inside_column


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
