"""Which source of colours the gate follows: the best one that is healthy."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from headway.roads import Colour
from headway.safety.clock import seconds
from headway.safety.kernel import EPS_S
from headway.safety.memory import GateMemory
from headway.safety.reports import Reports
from headway.values import ColourArray, Proposal

NOT_A_COLOUR = np.int8(-128)
HIGHEST_COLOUR = int(Colour.GREEN)  # comparing an array with an enum member costs microseconds


class ControlSource(IntEnum):
    """Where the colours wanted in this second came from, best first."""

    CONTROLLER = 0
    FALLBACK = 1
    FIXED_TIME = 2
    ALL_RED = 3


class Offers(NamedTuple):
    """What was proposed for this second."""

    controller: Proposal | None
    fallback: Proposal | None


class SourceChoice:
    """Follows the best healthy source: down at once, up only after `resume_s` of health.

    stale_s: a proposal or observation older than this counts as missing.
    source, better_since_s: the one that is followed, and since when there has been a better one.
    """

    def __init__(
        self, memory: GateMemory, reports: Reports, stale_s: float, resume_s: float
    ) -> None:
        self.source = ControlSource.CONTROLLER
        self.better_since_s = memory.now_s
        self._memory = memory
        self._reports = reports
        self._stale_s = stale_s
        self._resume_s = resume_s

    def choose(self, offers: Offers, is_obeyed: bool) -> None:
        """is_obeyed: the lamps of some junction show what they are told."""
        healthy = self._best_healthy(offers) if is_obeyed else ControlSource.ALL_RED
        now_s = self._memory.now_s
        healthy_for_s = now_s - self.better_since_s
        if healthy > self.source or (healthy < self.source and healthy_for_s >= self._resume_s):
            self._switch_to(healthy)
        if healthy >= self.source:
            self.better_since_s = now_s
        elif self.source == ControlSource.FALLBACK and not self._is_usable(offers.fallback):
            # the controller is healthy but not trusted yet, and its fallback is gone
            self._switch_to(ControlSource.FIXED_TIME)

    def _switch_to(self, source: ControlSource) -> None:
        names = {"from": self.source.name.lower(), "to": source.name.lower()}
        self._reports.add("source", names)
        self.source = source

    def _best_healthy(self, offers: Offers) -> ControlSource:
        if self._is_usable(offers.controller):
            return ControlSource.CONTROLLER
        if self._is_usable(offers.fallback):
            return ControlSource.FALLBACK
        return ControlSource.FIXED_TIME

    def _is_usable(self, proposal: Proposal | None) -> bool:
        return self.is_sound(proposal, self._memory.clock.outside_s)

    def is_sound(self, candidate: Any, now_s: float) -> bool:
        """It is a proposal of this network, of whole numbers, and not stale."""
        if not isinstance(candidate, Proposal):
            return False
        wanted: Any = candidate.wanted
        return (
            isinstance(wanted, np.ndarray)
            and wanted.shape == self._memory.shown.shape
            and wanted.dtype.kind in "iu"
            and self.is_fresh(candidate.at_s, now_s)
        )

    def is_fresh(self, at_s: Any, now_s: float) -> bool:
        """The stamp is a time of the last `stale_s`."""
        stamp_s = seconds(at_s)
        return stamp_s is not None and -EPS_S <= now_s - stamp_s <= self._stale_s + EPS_S

    def wanted(self, offers: Offers) -> ColourArray:
        """int8 (groups,), what the source wants now; the caller may write to it."""
        if self.source == ControlSource.CONTROLLER and offers.controller is not None:
            return _as_colours(offers.controller.wanted)
        if self.source == ControlSource.FALLBACK and offers.fallback is not None:
            return _as_colours(offers.fallback.wanted)
        if self.source == ControlSource.ALL_RED:
            return np.full(len(self._memory.shown), Colour.RED, np.int8)
        programmes = [junction.programme for junction in self._memory.network.junctions]
        at_s = self._memory.clock.outside_s
        return np.concatenate([p.colours[p.phase_at(at_s)] for p in programmes])


def _as_colours(wanted: ColourArray) -> ColourArray:
    """A copy in eight bits; unknown values become NOT_A_COLOUR (a cast of 260 would give 4, green),
    or are left to the rules where they have eight bits already.
    """
    if wanted.dtype == np.int8:
        return np.array(wanted, np.int8)
    known = (wanted >= 0) & (wanted <= HIGHEST_COLOUR)
    return np.where(known, wanted.astype(np.int8), NOT_A_COLOUR)
