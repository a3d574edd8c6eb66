"""Parts of a junction: signal groups that share no conflict, right of way or lane with its others.

netconvert joins the signals of nodes that lie close to each other into one programme, which is one
junction here. The planner searches each part by itself: sequences of stages of the whole would have
one node wait for the other. Where traffic of one group meets the signal of another before there is
room for it to wait, both are of one part, and green together.
docs/decisions/0040-parts-of-a-junction.md
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import prod

import numpy as np

from headway.roads import GO, Colour, Junction, Network, Programme, compatible_stages
from headway.values import BoolArray, ColourArray, IntArray

ROOM_M = 10.0  # a shorter lane between two signals has room for one vehicle, if any


@dataclass(frozen=True, slots=True)
class Parts:
    """network: each part is a junction of its own; groups, links and lanes are as they were.
    first: int (junctions + 1,), part `first[j]` is the first one of junction j.
    """

    network: Network
    first: IntArray

    def of(self, junction: int) -> range:
        return range(self.first[junction], self.first[junction + 1])


def parts_of(network: Network) -> Parts:
    """The junctions of a network cut into their parts, where the groups of each follow each other.
    Groups among which none is in conflict need no decision: they stay with their neighbours.
    """
    parts = [_cut(network, junction) for junction in network.junctions]
    first = np.cumsum([0, *(len(own) for own in parts)]).astype(np.int32)
    if first[-1] == len(network.junctions):
        return Parts(network, first)
    junctions = tuple(part for own in parts for part in own)
    number = np.repeat(np.arange(len(junctions)), [len(part.groups) for part in junctions])
    groups = tuple(
        replace(group, junction=int(k)) for group, k in zip(network.groups, number, strict=True)
    )
    return Parts(replace(network, groups=groups, junctions=junctions), first)


def _cut(network: Network, junction: Junction) -> list[Junction]:
    way_on = _way_on(network, junction)
    together = _bound_together(network, junction) | way_on | way_on.T
    cuts = [0]
    for k in range(1, len(together)):
        if not together[:k, k:].any() and junction.conflicts[cuts[-1] : k, cuts[-1] : k].any():
            cuts.append(k)
    if len(cuts) > 1 and not junction.conflicts[cuts[-1] :, cuts[-1] :].any():
        cuts.pop()
    if len(cuts) == 1:
        return [junction]
    return [_part(junction, a, b) for a, b in pairwise([*cuts, len(together)])]


def _bound_together(network: Network, junction: Junction) -> BoolArray:
    """bool (n, n): two groups are in conflict, one gives way to the other, or a lane has both."""
    n = len(junction.groups)
    uses = np.zeros((n, len(network.lanes)), np.bool_)
    for group in junction.groups:
        from_lanes = [network.links[k].from_lane for k in network.groups[group].links]
        uses[group - junction.first, from_lanes] = True
    used = uses[:, uses.any(axis=0)].astype(np.int32)
    bound = junction.conflicts | junction.yields | (used @ used.T > 0)
    return np.asarray(bound | bound.T)


def _way_on(network: Network, junction: Junction) -> BoolArray:
    """bool (n, n): traffic of the row's group meets the signal of the column's one behind a lane
    where it has no room to wait.
    """
    n = len(junction.groups)
    found = np.zeros((n, n), np.bool_)
    for group in junction.groups:
        behind = {network.links[k].to_lane for k in network.groups[group].links}
        for lane in behind:
            if network.lanes[lane].length_m < ROOM_M:
                then = {network.links[k].group for k in network.links_from(lane)}
                own = [g - junction.first for g in then if g in junction.groups]
                found[group - junction.first, own] = True
    np.fill_diagonal(found, False)
    return found


def every_stage(network: Network, junction: Junction) -> tuple[ColourArray, int]:
    """(`compatible_stages` of a junction, int8 (stages, groups), how many of them, the first ones,
    are the programme's). Each is without the greens that lead to a signal before which there is no
    room, and which is red or permissive. For groups that the programme's do not serve then, others
    are counted among them.
    """
    stages = compatible_stages(junction.stages, junction.conflicts, junction.yields)
    stages = _that_lead_on(stages, _way_on(network, junction))
    own = list(stages[: len(_each_once(junction.stages))])
    unserved = _lit(junction.stages).any(axis=0) & ~_lit(np.array(own)).any(axis=0)
    while (served := (_lit(stages) & unserved).sum(axis=1)).any():
        own.append(stages[served.argmax()])
        unserved &= ~_lit(own[-1])
    of_programme = _each_once(np.array(own))
    return _each_once(np.concatenate([of_programme, stages])), len(of_programme)


def _that_lead_on(stages: ColourArray, way_on: BoolArray) -> ColourArray:
    """Each stage without the groups whose way on is no protected green, but for those that would
    never be green so.
    """
    found = stages.copy()
    while True:
        lit = _lit(found)
        protected = (found == Colour.GREEN).astype(np.int32)
        leads_on = ~way_on.any(axis=1) | (protected @ way_on.T > 0)
        served = (lit & leads_on).any(axis=0)
        stopped = lit & ~leads_on & served
        if not stopped.any():
            return found
        found[stopped] = Colour.RED


def _lit(colours: ColourArray) -> BoolArray:
    return np.asarray(colours >= GO)


def _each_once(stages: ColourArray) -> ColourArray:
    """Without doubles, in order."""
    return np.array(list({stage.tobytes(): stage for stage in stages}.values()), np.int8)


def _part(junction: Junction, a: int, b: int) -> Junction:
    """The groups from the a-th to the one before the b-th, as a junction."""
    own = slice(a, b)
    stages = _each_once(junction.stages[:, own])
    is_lit = _lit(stages).any(axis=1)
    programme = junction.programme
    return replace(
        junction,
        id=f"{junction.id}/{a}",
        first=junction.first + a,
        end=junction.first + b,
        conflicts=junction.conflicts[own, own],
        yields=junction.yields[own, own],
        stages=stages[is_lit] if is_lit.any() else stages,
        programme=Programme(programme.colours[:, own], programme.duration_s, programme.offset_s),
    )


@dataclass(frozen=True)
class NumberedStages:
    """The stages of a junction by number: a stage of each part beside one of each other part. The
    number counts on through the stages of the first part first.

    parts: of each part its stages, int8 (stages, groups of the part).
    """

    parts: tuple[ColourArray, ...]

    @property
    def count(self) -> int:
        return prod(len(part) for part in self.parts)

    @cached_property
    def columns(self) -> tuple[slice, ...]:
        """Of each part, its groups among those of the junction."""
        ends = np.cumsum([0, *(part.shape[1] for part in self.parts)]).tolist()
        return tuple(slice(a, b) for a, b in pairwise(ends))

    def number(self, of_parts: Sequence[int]) -> int:
        """of_parts: the number of the stage of each part."""
        found = 0
        for part, stage in zip(reversed(self.parts), reversed(of_parts), strict=True):
            found = found * len(part) + int(stage)
        return found

    def of_parts(self, number: int) -> list[int]:
        """The number of the stage of each part."""
        found = []
        for part in self.parts:
            number, stage = divmod(number, len(part))
            found.append(stage)
        return found

    def colours(self, number: int) -> ColourArray:
        """int8 (groups of the junction,)."""
        stages = zip(self.parts, self.of_parts(number), strict=True)
        return np.concatenate([part[stage] for part, stage in stages])
