"""Lanes between two signals that a few vehicles fill (docs/decisions/0004-short-links.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headway.roads import Colour, Network
from headway.values import ColourArray, IntArray

SHORT_M = 60.0  # of a shorter lane, vehicles that stop inside the junction take a good part
TIGHT_M = 20.0  # on a shorter one, vehicles both ways at once block each other for good
VEHICLE_M = 7.5  # a stopped vehicle with the gap to the next one
GREEN = int(Colour.GREEN)
STRAIGHT = "s"  # the direction of a link


@dataclass(frozen=True, slots=True)
class ShortLane:
    """A lane behind a signal that a few vehicles fill. Lanes are indices of the network.

    length_m: of the lane.
    beside:   the lanes of its street that lie behind signals, itself among them.
    exits:    the signal groups at their ends.
    before, after: lanes inside the junctions at its start and its end, where vehicles stop.
    against:  the lanes of the other direction whose traffic turns at its start: across those who
              reach back from this lane.
    entering: the lanes inside the junctions that lead to those, and where their traffic waits.
    near:     names of all these lanes.

    On some 15 m, vehicles that stop in both directions at once reach back into both junctions, and
    those who turn there cannot leave. Who drives straight on is in nobody's way.
    """

    lane: int
    length_m: float
    beside: tuple[int, ...]
    exits: tuple[int, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    against: tuple[int, ...]
    entering: tuple[str, ...]
    near: frozenset[str]

    def room_m(
        self,
        measured_m: float,
        count: IntArray,
        present: Mapping[str, int],
        shown: ColourArray,
        stopped_before: int,
    ) -> float:
        """Free length at its start, metres.

        measured_m:     by the place and the speed of its last vehicle.
        count:          (lanes,) vehicles on each lane.
        present:        vehicles by name of the lane, where there are any.
        shown:          (groups,) colours.
        stopped_before: vehicles that stop inside the junction at its start.
        """
        room_m = measured_m
        if any(shown[g] < GREEN for g in self.exits):
            # they may have to stop: no room is gained by their speed
            used_m = VEHICLE_M * max(int(count[self.lane]), self._share(count, present))
            room_m = min(room_m, self.length_m - self._spare_m(count, present) - used_m)
        if stopped_before:
            room_m = min(room_m, self.length_m) - VEHICLE_M * stopped_before
        return room_m

    def _share(self, count: IntArray, present: Mapping[str, int]) -> int:
        """Vehicles a lane if those of the street and inside its end spread evenly, rounded up."""
        inside = sum(present.get(via, 0) for via in self.after)
        vehicles = sum(int(count[i]) for i in self.beside) + inside
        return -(-vehicles // len(self.beside))

    def _spare_m(self, count: IntArray, present: Mapping[str, int]) -> float:
        """Kept free on a tight lane while the other direction is taken, or about to be."""
        taken = any(count[i] for i in self.against)
        entered = not present.keys().isdisjoint(self.entering)
        return VEHICLE_M if self.length_m < TIGHT_M and (taken or entered) else 0.0


def short_lanes(network: Network, behind: list[int]) -> list[ShortLane]:
    """Those of the lanes `behind` signals that are shorter than `SHORT_M`."""
    return [
        _short_lane(network, lane, behind)
        for lane in behind
        if network.lanes[lane].length_m < SHORT_M
    ]


def _short_lane(network: Network, lane: int, behind: list[int]) -> ShortLane:
    beside = [i for i in behind if network.lanes[i].edge == network.lanes[lane].edge]
    out = [network.links[k] for i in beside for k in network.links_from(i)]
    signalled = [link for link in out if link.group >= 0]
    before = [via for k in network.links_to(lane) for via in network.links[k].via]
    after = _waiting_places(network, beside)

    # the other direction: lanes that lead from its end to its start, and turn there
    start = {network.links[k].node for k in network.links_to(lane)}
    end = {link.node for link in out}
    against = [
        i
        for i in behind
        if start & {network.links[k].node for k in network.links_from(i)}
        and end & {network.links[k].node for k in network.links_to(i)}
        and any(network.links[k].direction != STRAIGHT for k in network.links_from(i))
    ]
    entering = [via for i in against for k in network.links_to(i) for via in network.links[k].via]
    entering += _waiting_places(network, against)

    roads = [network.lanes[i].id for i in (*beside, *against)]
    return ShortLane(
        lane=lane,
        length_m=network.lanes[lane].length_m,
        beside=tuple(beside),
        exits=tuple(sorted({link.group for link in signalled})),
        before=tuple(before),
        after=tuple(after),
        against=tuple(against),
        entering=tuple(entering),
        near=frozenset([*roads, *before, *after, *entering]),
    )


def _waiting_places(network: Network, lanes: list[int]) -> list[str]:
    """The lanes inside the junction on which traffic of `lanes` waits for a gap at a signal."""
    links = [network.links[k] for i in lanes for k in network.links_from(i)]
    return [link.via[0] for link in links if link.group >= 0 and len(link.via) > 1]
