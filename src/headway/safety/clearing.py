"""Which stage of a junction serves best: an emergency vehicle and all that stands before it on its
lane, or what an operator holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from headway.roads import GO, Colour, Junction, Network
from headway.roads.stages import compatible_stages
from headway.values import ColourArray, IntArray


class Clearing:
    """The stages of each junction: those of its programme, then all compatible sets of greens."""

    def __init__(self, network: Network) -> None:
        self._first = [junction.first for junction in network.junctions]
        self._stages = [_stages_of(junction) for junction in network.junctions]

    def colours(self, junction: int, stage: int) -> ColourArray:
        """int8 (groups of the junction,) of a stage."""
        return np.asarray(self._stages[junction][stage])

    def stages(self, junction: int) -> ColourArray:
        """int8 (stages, groups of the junction); those of the programme come first."""
        return self._stages[junction]

    def is_served(self, junction: int, groups: Iterable[int]) -> bool:
        """Some stage serves one of `groups`."""
        own = [group - self._first[junction] for group in groups]
        return bool((self._stages[junction][:, own] >= GO).any())

    def best(
        self,
        junction: int,
        queue: Sequence[int],
        also: Sequence[int],
        shown: ColourArray,
        present: int,
        demand: IntArray,
    ) -> int:
        """The stage that lets most of `queue` go in its order; of those the one that protects most
        of these from crossing traffic, serves most of `also`, is `present`, keeps the most greens
        that are `shown`, serves most of `demand`, and changes least.

        queue, also: groups; those of the queue from the stop line.
        shown: int8 (groups of the junction,). present: a stage, or NO_STAGE. demand: int (groups of
        the junction,), vehicles that wait for each.
        """
        stages = self._stages[junction]
        first = self._first[junction]
        level = stages[:, [group - first for group in queue]]
        goes = np.logical_and.accumulate(level >= GO, axis=1)
        green = stages >= GO
        scores = (
            goes.sum(axis=1),
            ((level > GO) & goes).sum(axis=1),
            green[:, [g - first for g in also]].sum(axis=1),
            np.arange(len(stages)) == present,
            (green & (shown >= GO)).sum(axis=1),
            (green * demand).sum(axis=1),
            (stages == shown).sum(axis=1),
        )
        return max(range(len(stages)), key=lambda stage: tuple(score[stage] for score in scores))


def _stages_of(junction: Junction) -> ColourArray:
    """int8 (stages, groups of the junction). A group that no stage of the programme serves stays
    red: its lamp may not be in use.
    """
    stages = compatible_stages(junction.stages, junction.conflicts, junction.yields)
    is_used = (junction.stages >= GO).any(axis=0)
    return np.where(is_used, stages, np.int8(Colour.RED))
