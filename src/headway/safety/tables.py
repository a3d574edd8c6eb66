"""The network and its timing as the flat arrays that the compiled rules read."""

from __future__ import annotations

import numpy as np

from headway.roads import Colour, Network, Timing
from headway.safety.arrays import NO_STAGE, Conflicts, Junctions, Limits, Tables, Ways
from headway.values import FloatArray

ROUNDING_S = 2.0  # of an end and a start of green to whole ticks


def tables_of(network: Network, timing: Timing) -> Tables:
    return Tables(
        junctions=junction_table(network),
        conflicts=conflict_table(network),
        limits=limit_table(timing),
    )


def limit_table(timing: Timing) -> Limits:
    return Limits(
        yellow_s=timing.yellow_s,
        clearance_s=timing.clearance_s,
        min_green_s=timing.min_green_s,
        max_green_s=timing.max_green_s,
        min_cycle_s=timing.min_cycle_s,
        max_red_s=timing.max_red_s,
        max_cycle_s=timing.max_cycle_s,
    )


def way_table(network: Network) -> Ways:
    groups = [
        sorted({network.links[k].group for k in network.links_from(lane)} - {-1})
        for lane in range(len(network.lanes))
    ]
    return Ways(
        link_group=network.link_group,
        lane_start=np.cumsum([0] + [len(own) for own in groups]).astype(np.int32),
        lane_group=np.array([g for own in groups for g in own], np.int32),
    )


def service_times(junctions: Junctions, limits: Limits) -> FloatArray:
    """(junctions,) seconds in which all groups of a junction can be served in turn, whatever is
    shown, and more: the minimum greens, yellows and clearances of its stages, and of one before.
    """
    intergreen_s = limits.yellow_s + limits.clearance_s
    first = junctions.first_group
    found = np.zeros(len(first) - 1)
    for j in range(len(found)):
        own = slice(first[j], first[j + 1])
        longest_s = float((limits.min_green_s + intergreen_s)[own].max()) + ROUNDING_S
        stages = set(junctions.serving_stage[own].tolist()) - {NO_STAGE}
        found[j] = longest_s * (1 + len(stages))
    return found


def conflict_table(network: Network) -> Conflicts:
    start = [0]
    group = list[int]()
    it_gives_way = list[bool]()
    gives_way_to = list[bool]()
    for junction in network.junctions:
        for own in range(len(junction.groups)):
            others = np.flatnonzero(junction.conflicts[own])
            group += (junction.first + others).tolist()
            it_gives_way += junction.yields[others, own].tolist()
            gives_way_to += junction.yields[own, others].tolist()
            start.append(len(group))
    return Conflicts(
        start=np.array(start, np.int32),
        group=np.array(group, np.int32),
        it_gives_way=np.array(it_gives_way, np.bool_),
        gives_way_to=np.array(gives_way_to, np.bool_),
    )


def junction_table(network: Network) -> Junctions:
    junctions = network.junctions
    first_group = [j.first for j in junctions] + [len(network.groups)]
    first_stage = np.cumsum([0] + [len(j.stages) for j in junctions]).astype(np.int32)
    widest = max(len(j.groups) for j in junctions)
    stages = np.full((first_stage[-1], widest), Colour.RED, np.int8)
    serving_stage = np.full(len(network.groups), NO_STAGE, np.int32)
    for i, junction in enumerate(junctions):
        rows = slice(first_stage[i], first_stage[i + 1])
        stages[rows, : len(junction.groups)] = junction.stages
        best = np.argmax(junction.stages, axis=0)
        is_served = junction.stages.max(axis=0) >= Colour.PERMISSIVE
        serving_stage[junction.first : junction.end] = np.where(is_served, best, NO_STAGE)
    return Junctions(
        first_group=np.array(first_group, np.int32),
        first_stage=first_stage,
        stages=stages,
        serving_stage=serving_stage,
    )
