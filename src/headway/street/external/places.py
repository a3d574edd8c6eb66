"""What rows may speak of: the approaches and crossings of a network, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

from headway.plants.sumo import read_shapes
from headway.plants.sumo.loops import SPACING_M
from headway.roads import Colour, Network
from headway.roads.network import Kind
from headway.roads.upstream import feeders
from headway.street.external.rows import FARTHEST_M, MOST_VEHICLES, ObservationRow

DIRECTIONS = (
    "east",
    "northeast",
    "north",
    "northwest",
    "west",
    "southwest",
    "south",
    "southeast",
)
TURNS = {"s": "straight", "l": "left", "r": "right", "t": "U-turn", "L": "left", "R": "right"}
TIGHTEST_M = 5.0  # of road that a vehicle in a queue takes at the least
FASTEST_PER_S = 1.0  # twice saturation flow: a platoon of vehicles bumper to bumper
SLACK_M = 50.0  # by which the way of vehicles may be longer than the shortest
MOST_LISTED = 12  # names in a fault


class PlaceError(ValueError):
    """A place that is not there. place: of the row, as a JSON pointer."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message)
        self.place = place


class Places:
    """The places of one network.

    roads: for each junction, by road: the lanes that end at a signal for vehicles, the rightmost
        first.
    crossings: for each junction: the signal groups of its pedestrian crossings.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.roads: list[dict[str, tuple[int, ...]]] = [
            _roads_of(network, j) for j in range(len(network.junctions))
        ]
        self.crossings = [
            tuple(g for g in j.groups if network.groups[g].kind == Kind.PEDESTRIAN)
            for j in network.junctions
        ]
        self._reach: dict[int, float] = {}
        self._junctions = {
            name: number for number, j in enumerate(network.junctions) for name in (*j.tl_ids, j.id)
        }

    def junction(self, name: str) -> int:
        """Its number. Raises PlaceError."""
        found = self._junctions.get(name)
        if found is None:
            raise PlaceError(
                "/junction",
                f"no junction {name!r}. There are: {_listed(j.id for j in self.network.junctions)}",
            )
        return found

    def lanes(self, junction: int, approach: str) -> tuple[int, ...]:
        """The lanes of an approach: of a road, or one lane. Raises PlaceError."""
        roads = self.roads[junction]
        if approach in roads:
            return roads[approach]
        lane = self.network.lane_index.get(approach, -1)
        if any(lane in lanes for lanes in roads.values()):
            return (lane,)
        raise PlaceError(
            "/approach",
            f"no approach {approach!r} at junction {self.network.junctions[junction].id!r}. There "
            f"are the roads: {_listed(roads)}; their lanes; and directions",
        )

    def check_room(self, row: ObservationRow, lanes: tuple[int, ...]) -> None:
        """Raises PlaceError for more vehicles than stand bumper to bumper before the stop lines, up
        to the signals before; for a detector beyond those, and more vehicles than can pass it.
        """
        room_m = SLACK_M + sum(self._reach_m(lane) for lane in lanes)
        queue_m = (row.queue_m or 0.0) * len(lanes)
        claimed = {
            "/vehicles": len(row.vehicles or ()) * TIGHTEST_M,
            "/queue": (row.queue or 0) * TIGHTEST_M,
            "/queue_m": queue_m,
        }
        for place, length_m in claimed.items():
            if length_m > room_m:
                raise PlaceError(
                    place,
                    f"does not fit: {length_m:.0f} m of vehicles on {room_m:.0f} m of lanes before "
                    f"{row.approach!r}",
                )
        farthest_m = SLACK_M + max((self._reach_m(lane) for lane in lanes), default=0.0)
        if row.detector_m > farthest_m:
            message = f"the lanes before {row.approach!r} are {farthest_m:.0f} m long"
            raise PlaceError("/detector_m", message)
        most = len(lanes) * (1.0 + FASTEST_PER_S * row.interval_s)
        if (row.count or 0) > most:
            raise PlaceError(
                "/count",
                f"{row.count} vehicles in {row.interval_s:g} s on {len(lanes)} lanes: at most "
                f"{FASTEST_PER_S:g} a second and lane can pass",
            )

    def most_queued(self, lane: int) -> int:
        """Vehicles that a queue on this lane may hold by detectors."""
        return min(int((SLACK_M + self._reach_m(lane)) / SPACING_M), MOST_VEHICLES)

    def _reach_m(self, lane: int) -> float:
        """From the stop line to the signals before, or where the network begins."""
        if lane not in self._reach:
            found = feeders(self.network, lane, FARTHEST_M)
            self._reach[lane] = max(feeder.to_stop_m for feeder in found)
        return self._reach[lane]

    def crossing_groups(self, row: ObservationRow, junction: int) -> tuple[int, ...]:
        """The signal groups that a pedestrian call is for. Raises PlaceError."""
        known = self.crossings[junction]
        name = self.network.junctions[junction].id
        if not known:
            raise PlaceError("/pedestrian_call", f"junction {name!r} has no pedestrian crossing")
        if row.crossing is None:
            return known
        group = self.network.junctions[junction].first + row.crossing
        if group not in known:
            first = self.network.junctions[junction].first
            raise PlaceError(
                "/crossing",
                f"group {row.crossing} of junction {name!r} is no pedestrian crossing. There are: "
                f"{_listed(str(g - first) for g in known)}",
            )
        return (group,)

    @cached_property
    def directions(self) -> list[dict[str, str]]:
        """For each junction, by road: where it comes from."""
        points = {name: shape for name, _, shape in read_shapes(self.network).lanes}
        return [
            {
                road: _comes_from(points[self.network.lanes[lanes[0]].id])
                for road, lanes in roads.items()
                if self.network.lanes[lanes[0]].id in points
            }
            for roads in self.roads
        ]

    def served(self, junction: int) -> list[str]:
        """For each stage of a junction, who has green: by direction of the approach, its turns; a
        road whose direction is not known by its name.
        """
        network, found = self.network, self.network.junctions[junction]
        served = []
        for stage in found.stages:
            ways = dict[str, dict[str, None]]()
            for group, colour in zip(found.groups, stage, strict=True):
                for link in network.groups[group].links if colour >= Colour.PERMISSIVE else ():
                    road = network.lanes[network.links[link].from_lane].edge
                    way = self.directions[junction].get(road, road)
                    if network.groups[group].kind == Kind.PEDESTRIAN:
                        way = "pedestrians"
                    ways.setdefault(way, {})[TURNS.get(network.links[link].direction, "")] = None
            said = (f"{way} {', '.join(filter(None, turns))}" for way, turns in ways.items())
            served.append("; ".join(text.strip() for text in said))
        return served

    def road_from(self, junction: int, approach: str) -> str:
        """The name of an approach in the network: of a direction the road that comes from there;
        others as they are. Raises PlaceError where several roads come from there, or none.
        """
        if approach not in DIRECTIONS or approach in self.roads[junction]:
            return approach
        found = [road for road, way in self.directions[junction].items() if way == approach]
        if len(found) == 1:
            return found[0]
        name = self.network.junctions[junction].id
        ways: Mapping[str, str] = self.directions[junction]
        known = _listed(f"{road} ({way})" for road, way in ways.items())
        raise PlaceError(
            "/approach",
            f"{len(found) or 'no'} roads come from the {approach} at junction {name!r}. "
            f"Name one of: {known}",
        )


def _roads_of(network: Network, junction: int) -> dict[str, tuple[int, ...]]:
    lanes = {
        network.links[link].from_lane
        for group in network.junctions[junction].groups
        if network.groups[group].kind != Kind.PEDESTRIAN
        for link in network.groups[group].links
    }
    roads = dict[str, list[int]]()
    for lane in sorted(lanes, key=lambda lane: network.lanes[lane].id):
        roads.setdefault(network.lanes[lane].edge, []).append(lane)
    return {road: tuple(own) for road, own in roads.items()}


def _comes_from(points: list[tuple[float, float]]) -> str:
    """The direction that lies behind a driver at the end of a lane."""
    (x0, y0), (x1, y1) = points[-2:]
    back_deg = math.degrees(math.atan2(y0 - y1, x0 - x1))
    return DIRECTIONS[round(back_deg / 45.0) % len(DIRECTIONS)]


def _listed(names: object) -> str:
    found = [str(name) for name in names]  # type: ignore[attr-defined]
    return ", ".join(found[:MOST_LISTED]) + (", ..." if len(found) > MOST_LISTED else "")
