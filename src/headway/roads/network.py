"""The static street: lanes, links, signal groups, junctions, and their conflicts.

Everything here is fixed once a network is read. Indices are positions in the tuples and arrays of
one `Network`: a *lane* is any lane of a road, a *link* one way over a junction (from a lane to a
lane), a *group* one signal group (all links that share one lamp), a *junction* all groups that must
be decided together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]
BoolArray = NDArray[np.bool_]
ColourArray = NDArray[np.int8]


class RoadsError(ValueError):
    """The static world cannot be used as it is; the message names the place and the remedy."""


class Colour(IntEnum):
    """What one signal group shows. Everything from PERMISSIVE up is a green; below zero it flashes:
    yellow to be driven past with care, red to stop at first.
    """

    FLASHING_YELLOW = -2
    FLASHING_RED = -1
    DARK = 0
    RED = 1
    YELLOW = 2
    PERMISSIVE = 3
    GREEN = 4


GO = int(Colour.PERMISSIVE)  # traffic may go; an int, as the members of an enum are slow to look up


class Kind(IntEnum):
    """The road users that a signal group serves."""

    VEHICLE = 0
    BICYCLE = 1
    TRAM = 2
    PEDESTRIAN = 3


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane. `length_m` in metres, `speed_mps` the limit; `kind` the narrowest class that may
    use it.
    """

    id: str
    edge: str
    length_m: float
    speed_mps: float
    kind: Kind
    end_xy: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Link:
    """One way over a junction.

    group:     signal group that controls it, or -1 where no signal does.
    length_m:  length of the path inside the junction.
    via:       names of the lanes inside the junction, in driving order.
    direction: SUMO's letter: s, l, r, t (turn), L, R (partly left, right); "c" for a pedestrian
        crossing.
    left_alone: a signal holds it that Headway does not control (`Network.not_controlled`).
    """

    node: str
    request: int
    from_lane: int
    to_lane: int
    group: int
    direction: str
    length_m: float
    speed_mps: float
    kind: Kind
    via: tuple[str, ...] = ()
    left_alone: bool = False


@dataclass(frozen=True, slots=True)
class SignalGroup:
    """One lamp: position `index` in the state of programme `tl_id`.

    turn_on_red: the programme lets these links turn on red after a stop (SUMO's 's').
    """

    tl_id: str
    index: int
    junction: int
    kind: Kind
    links: tuple[int, ...]
    turn_on_red: bool


@dataclass(frozen=True, slots=True)
class Programme:
    """The junction's own fixed-time plan, over all its groups.

    colours:    int8 (phases, groups of the junction).
    duration_s: float (phases,).
    offset_s:   seconds by which the plan starts late.
    """

    colours: ColourArray
    duration_s: FloatArray
    offset_s: float

    @property
    def cycle_s(self) -> float:
        return float(self.duration_s.sum())

    def phase_at(self, time_s: float) -> int:
        """Index of the phase in force at `time_s` (simulated seconds since midnight or scenario
        start).
        """
        into = (time_s - self.offset_s) % self.cycle_s
        return min(
            int(np.searchsorted(np.cumsum(self.duration_s), into, side="right")),
            len(self.duration_s) - 1,
        )


@dataclass(frozen=True, slots=True)
class Junction:
    """Groups that are decided together: those of one programme, or of several that meet at one
    node.

    first, end: its groups are `network.groups[first:end]`.
    conflicts:  bool (n, n), paths of the two groups cross or merge (foes of SUMO's right of way).
    yields:     bool (n, n), [a, b]: traffic of a gives way to that of b, so that a may be
        permissive while b is green.
    stages:     int8 (stages, n), each a compatible set of greens.
    """

    id: str
    tl_ids: tuple[str, ...]
    first: int
    end: int
    conflicts: BoolArray
    yields: BoolArray
    stages: ColourArray
    programme: Programme

    @property
    def groups(self) -> range:
        return range(self.first, self.end)


@dataclass(frozen=True, slots=True)
class NotControlled:
    """Signals of the network that Headway leaves alone.

    tl_ids: their programmes, which go on as the network has them; with `place` the one that it is
        in.
    place:  of the one link in the programme that is left alone, -1 for all of them.
    shows:  what that link always shows, SUMO's letter; empty where the programme decides.
    reason: why, and what to do about it.
    """

    tl_ids: tuple[str, ...]
    reason: str
    place: int = -1
    shows: str = ""


@dataclass(frozen=True)
class Network:
    """A street network as read from a file; see the module's text for the meaning of indices.

    warnings:       what was read otherwise than it stands in the file.
    not_controlled: signals that keep what the network has for them.
    """

    path: str
    lanes: tuple[Lane, ...]
    links: tuple[Link, ...]
    groups: tuple[SignalGroup, ...]
    junctions: tuple[Junction, ...]
    lane_index: dict[str, int] = field(repr=False)
    warnings: tuple[str, ...] = ()
    not_controlled: tuple[NotControlled, ...] = ()

    @property
    def group_junction(self) -> IntArray:
        return np.array([g.junction for g in self.groups], np.int32)

    @cached_property
    def link_group(self) -> IntArray:
        """(links,), -1 without a signal."""
        return np.array([link.group for link in self.links], np.int32)

    @cached_property
    def link_junction(self) -> IntArray:
        """(links,), -1 without a signal."""
        group = self.link_group
        return np.where(group >= 0, self.group_junction[group], np.int32(-1))

    @cached_property
    def lane_junction(self) -> IntArray:
        """(lanes,), to whose signals each leads, -1 where to none."""
        found = np.full(len(self.lanes), -1, np.int32)
        for link in self.links:
            if link.group >= 0:
                found[link.from_lane] = self.groups[link.group].junction
        return found

    def links_from(self, lane: int) -> list[int]:
        return self._from.get(lane, [])

    def links_to(self, lane: int) -> list[int]:
        return self._to.get(lane, [])

    @cached_property
    def _from(self) -> dict[int, list[int]]:
        return _grouped(link.from_lane for link in self.links)

    @cached_property
    def _to(self) -> dict[int, list[int]]:
        return _grouped(link.to_lane for link in self.links)

    def junction(self, name: str) -> int:
        """Index of the junction called `name`, or that holds the programme called `name`. Raises
        RoadsError.
        """
        for i, junction in enumerate(self.junctions):
            if name == junction.id or name in junction.tl_ids:
                return i
        known = ", ".join(j.id for j in self.junctions[:8])
        raise RoadsError(
            f"{self.path}: no junction {name!r}. Known: "
            f"{known}{', ...' if len(self.junctions) > 8 else ''}"
        )


def _grouped(lanes: Iterable[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for i, lane in enumerate(lanes):
        found.setdefault(lane, []).append(i)
    return found


def is_green(colours: NDArray[np.int8]) -> BoolArray:
    """True where a colour lets traffic go (protected or permissive)."""
    return np.asarray(colours >= Colour.PERMISSIVE)


def likely_links(network: Network) -> IntArray:
    """For each lane the link most likely taken from it, straight on before the turns; int (lanes,),
    -1 without signal.
    """
    rank = {"s": 0, "R": 1, "L": 1, "r": 2, "l": 3, "t": 4}
    found = np.full(len(network.lanes), -1, np.int32)
    for lane in range(len(network.lanes)):
        own = [i for i in network.links_from(lane) if network.links[i].group >= 0]
        if own:
            found[lane] = min(own, key=lambda i: rank.get(network.links[i].direction, 5))
    return found
