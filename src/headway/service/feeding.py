"""A second SUMO whose detectors are reported over HTTP to a street that has none of its own: the
same demand under the same signals, seen by somebody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol
from xml.etree import ElementTree as ET

import numpy as np

from headway.plants.sumo import Scenario, SumoPlant, SumoSettings, network_of
from headway.plants.sumo.observe import bare
from headway.roads import Network
from headway.roads.upstream import stop_lanes

Equipment = Literal["loops", "camera"]
STOP_LINE_M = 3.0  # of the detector at a stop line, to it: under the first vehicle that waits
ADVANCE_M = 50.0  # of the detector before it
OLDEST_S = 8.0  # behind the street's time; by default it takes 10 s, and the way lasts a while
RESTARTED_S = 60.0  # a street whose time is so far behind has begun anew
LEAST_APART_M = 10.0  # between the two: a shorter lane has the one at its stop line alone


class Service(Protocol):
    """What a feed needs of `headway.client.Headway`."""

    def observe(self, rows: Sequence[Mapping[str, Any]], street: str = ...) -> Any: ...

    def listen(self, topic: Literal["realtime"], **query: Any) -> Iterator[dict[str, Any]]: ...


class Detectors(Protocol):
    """Equipment that reports rows of observations."""

    def rows(self, at_s: float) -> list[dict[str, Any]]:
        """What was measured in the last second."""


def write_detectors(network: Network, path: Path) -> dict[str, tuple[int, float]]:
    """Write SUMO's additional file with an induction loop at each stop line, and one ADVANCE_M
    before it. Returns the lane of each, and its metres to the stop line.
    """
    root = ET.Element("additional")
    found = dict[str, tuple[int, float]]()
    for lane in stop_lanes(network):
        length_m = network.lanes[lane].length_m
        ways = [STOP_LINE_M]
        if length_m >= STOP_LINE_M + LEAST_APART_M:
            ways.append(min(ADVANCE_M, length_m - STOP_LINE_M))
        for to_stop_m in ways:
            name = f"{network.lanes[lane].id}@{to_stop_m:g}"
            place = max(length_m - to_stop_m, 0.0)
            what = {"id": name, "lane": network.lanes[lane].id, "pos": f"{place:.2f}"}
            ET.SubElement(
                root, "inductionLoop", what | {"period": "3600", "file": "NUL", "friendlyPos": "1"}
            )
            found[name] = (lane, to_stop_m)
    ET.ElementTree(root).write(path)
    return found


class InductionLoops:
    """SUMO's induction loops: a row a detector and second, of count and occupancy."""

    def __init__(self, sumo: Any, network: Network, places: Mapping[str, tuple[int, float]]):
        self._junction_of = junction_names(network)
        self._network = network
        self._places = places
        self._data = bare(sumo, "inductionloop", "getVehicleData")
        self._occupancy = bare(sumo, "inductionloop", "getLastStepOccupancy")

    def rows(self, at_s: float) -> list[dict[str, Any]]:
        return [self._row(name, lane, m, at_s) for name, (lane, m) in self._places.items()]

    def _row(self, name: str, lane: int, to_stop_m: float, at_s: float) -> dict[str, Any]:
        leaves = to_stop_m <= STOP_LINE_M
        # each is (vehicle, length, entry time, leave time, type)
        times = [float(v[3] if leaves else v[2]) for v in self._data(name)]
        return {
            "at_s": at_s,
            "junction": self._junction_of[lane],
            "approach": self._network.lanes[lane].id,
            "detector_m": to_stop_m,
            "count": sum(at_s - 1.0 < t <= at_s for t in times),
            "occupancy": min(max(float(self._occupancy(name)) / 100.0, 0.0), 1.0),
        }


class LaneCamera:
    """The sensing profile `camera`: a row a lane and second, of the vehicles in view."""

    def __init__(self, plant: SumoPlant, network: Network) -> None:
        self._plant = plant
        self._network = network
        self._junction_of = junction_names(network)
        self._lanes = stop_lanes(network)

    def rows(self, at_s: float) -> list[dict[str, Any]]:
        seen = self._plant.observe().vehicles
        return [
            {
                "at_s": at_s,
                "junction": self._junction_of[lane],
                "approach": self._network.lanes[lane].id,
                "vehicles": [
                    {"distance_m": float(seen.distance_m[i]), "speed_mps": float(seen.speed_mps[i])}
                    for i in np.flatnonzero(seen.lane == lane).tolist()
                ],
            }
            for lane in self._lanes
        ]


def junction_names(network: Network) -> dict[int, str]:
    """The junction at the end of each lane that ends at a signal."""
    return {
        network.links[link].from_lane: network.junctions[group.junction].id
        for group in network.groups
        for link in group.links
    }


class Feed:
    """A SUMO of the same scenario that follows the signals of a street and reports its detectors to
    it.

    taken, refused: rows so far. refusal: the first one, in words. time_s: of the simulation.
    """

    def __init__(
        self, scenario: Scenario, folder: Path, equipment: Equipment = "loops", seed: int = 1
    ) -> None:
        self.network = network_of(scenario)
        path = folder / "detectors.add.xml"
        places = write_detectors(self.network, path)
        sensing = "camera" if equipment == "camera" else "connected"
        settings = SumoSettings(scenario.sumocfg, seed, sensing=sensing, additional=(str(path),))
        self.plant = SumoPlant(settings, self.network)
        self._detectors: Detectors = LaneCamera(self.plant, self.network)
        if equipment == "loops":
            self._detectors = InductionLoops(self.plant.interface, self.network, places)
        self._since_s = np.full(len(self.network.groups), self.plant.time_s)
        self.taken = self.refused = 0
        self.refusal = ""
        self.time_s = self.plant.time_s

    def follow(self, service: Service, street: str, until_s: float) -> None:
        """Until that second of the street, or its end, or its start from the beginning."""
        for message in service.listen("realtime", street=street):
            state = message["data"]
            if not state.get("started"):
                continue
            if state["time_s"] < self.time_s - RESTARTED_S:
                return
            self.catch_up(service, street, float(state["time_s"]), state["colours"])
            if self.time_s >= until_s or state["finished"]:
                return

    def catch_up(self, service: Service, street: str, to_s: float, colours: list[int]) -> None:
        """Go on to the street's time with the colours that it showed, and report each second that
        is not too old for the street (as those before its present time, at the start).
        """
        rows = list[dict[str, Any]]()
        shown = np.array(colours, np.int8)
        while self.time_s < to_s - 0.5:
            self._since_s[shown != self.plant.shown] = self.time_s
            self.plant.show(shown, self._since_s)
            self.plant.advance(1.0)
            self.time_s = self.plant.time_s
            found = self._detectors.rows(self.time_s)
            rows += found if self.time_s > to_s - OLDEST_S else []
        for begin in range(0, len(rows), 1000):
            answer = service.observe(rows[begin : begin + 1000], street)
            self.taken += answer["taken"]
            self.refused += len(answer["refused"])
            if answer["refused"] and not self.refusal:
                first = answer["refused"][0]
                self.refusal = f"{first['pointer']}: {first['message']}"

    def close(self) -> None:
        self.plant.close()
