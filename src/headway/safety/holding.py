"""Which stage a junction keeps while an operator holds it.

A hold is decided once, when it is ordered: on the stage that is shown, or, where the junction is in
between, on the one that it is changing to. So it is always a stage, never the red of a changeover.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headway.roads import GO, Colour, Network
from headway.safety.arrays import NO_STAGE
from headway.safety.clearing import Clearing
from headway.values import BoolArray, ColourArray


class Scene(NamedTuple):
    """A junction at the time of the order, (groups of the junction,) each: the colours shown, those
    wanted in the second before, and which groups are called.
    """

    shown: ColourArray
    wanted: ColourArray
    called: BoolArray


class Holding:
    """The stages of one network that can be held."""

    def __init__(self, network: Network, clearing: Clearing) -> None:
        self._network = network
        self._clearing = clearing

    def stage(self, junction: int, scene: Scene, now_s: float) -> ColourArray:
        """int8 (groups of the junction,), red or green, at least one of them green if any can be:
        the stage to hold.
        """
        changing = self._is_changing(junction, scene)
        target = scene.wanted if changing else scene.shown
        if not (changing and (target == Colour.YELLOW).any()):
            found = self._stage_like(junction, target)
            if found is not None:
                return found
        found = self._next_of_programme(junction, scene.wanted, now_s)
        return self._nearest(junction, scene, target) if found is None else found

    def _is_changing(self, junction: int, scene: Scene) -> bool:
        """Some signal is yellow, or something that is wanted green waits for no green to end, only
        for clearance.
        """
        green = scene.shown >= GO
        blocked = (self._network.junctions[junction].conflicts & green[None, :]).any(axis=1)
        coming = (scene.wanted >= GO) & ~green & ~blocked
        return bool((scene.shown == Colour.YELLOW).any() or coming.any())

    def _stage_like(self, junction: int, colours: ColourArray) -> ColourArray | None:
        """The stage with just these greens, if there is one; `colours` itself where it is one."""
        stages = self._clearing.stages(junction)
        green = colours >= GO
        alike = ((stages >= GO) == green).all(axis=1)
        if not green.any() or not alike.any():
            return None
        return np.asarray(stages[np.argmax(alike + (alike & (stages == colours).all(axis=1)))])

    def _next_of_programme(
        self, junction: int, wanted: ColourArray, now_s: float
    ) -> ColourArray | None:
        """If what is wanted is a changeover of the programme: the stage to which it leads."""
        programme = self._network.junctions[junction].programme
        # a phase may have begun since: of phases that are alike, the one before counts first
        phases = np.roll(programme.colours, 1 - programme.phase_at(now_s), axis=0)
        same = np.flatnonzero((phases == wanted).all(axis=1))
        if not len(same):
            return None
        for colours in np.roll(phases, -int(same[0]), axis=0):
            found = self._stage_like(junction, colours)
            if found is not None and not (colours == Colour.YELLOW).any():
                return found
        return None

    def _nearest(self, junction: int, scene: Scene, target: ColourArray) -> ColourArray:
        """The stage with most of the greens of `target`, for most that are called."""
        stage = self._clearing.best(
            junction=junction,
            queue=(),
            also=(),
            shown=target,
            present=NO_STAGE,
            demand=1 + scene.called.astype(np.int32),
        )
        return self._clearing.colours(junction, stage)
