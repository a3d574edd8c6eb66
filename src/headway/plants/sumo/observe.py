"""Cheap columnar observation of a SUMO street.

Each vehicle is asked for its lane; only those on lanes near a signal are asked for more. What does not change while a vehicle
stays on a lane (its next link, length, class) is asked once, when it comes onto the lane, and kept in columns by slot. What
remains each second is one call a vehicle, and two more a vehicle near a signal: `python -m bench observe` measures it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from headway.roads import Network
from headway.roads.upstream import feeders, stop_lanes
from headway.values import EmergencyVehicle, FloatArray, IntArray, Vehicles

HALTING_MPS, AHEAD_M = 0.1, 600.0


@dataclass(frozen=True, slots=True)
class Watch:
    """The lanes that are looked at; (n,) each.

    name:   SUMO's lane name (roads, lanes inside unsignalised junctions between them, and where one waits inside a junction).
    lane:   stop-line lane that traffic of this lane comes to, -1 where several are possible.
    to_end_m: metres from the start of this lane to the stop line, along the shortest way; inf for a lane that leads away,
              nought for a place inside the junction.
    """

    name: tuple[str, ...]
    lane: IntArray
    to_end_m: FloatArray
    only_link: IntArray
    is_stop_lane: np.ndarray[Any, np.dtype[np.bool_]]


def watch_lanes(network: Network, range_m: float) -> Watch:
    """All lanes within `range_m` upstream of a stop line, up to the signal before; where vehicles wait inside a junction for a gap;
    and those that lead away from signals."""
    best: dict[str, tuple[float, set[int], bool]] = {}
    for stop in stop_lanes(network):
        for feeder in feeders(network, stop, range_m):
            to_stop, served, own = best.get(feeder.name, (np.inf, set[int](), False))
            best[feeder.name] = (min(to_stop, feeder.to_stop_m), served | {stop}, own or feeder.is_stop_lane)
    for link in network.links:
        if link.group >= 0:
            best.setdefault(network.lanes[link.to_lane].id, (np.inf, set(), False))
    names = tuple(best)
    lane = np.array([next(iter(best[n][1])) if len(best[n][1]) == 1 else -1 for n in names], np.int32)
    only = np.full(len(names), -1, np.int32)
    for k, n in enumerate(names):
        if best[n][2]:
            links = network.links_from(network.lane_index[n])
            if len(links) == 1:
                only[k] = links[0]
    to_end = np.array([best[n][0] for n in names])
    waiting = [(link.via[0], link.from_lane, i) for i, link in enumerate(network.links) if link.group >= 0 and len(link.via) > 1]
    return Watch(
        (*names, *(w[0] for w in waiting)),
        np.array([*lane, *(w[1] for w in waiting)], np.int32),
        np.array([*to_end, *np.zeros(len(waiting))]),
        np.array([*only, *(w[2] for w in waiting)], np.int32),
        np.array([*(best[n][2] for n in names), *np.ones(len(waiting), np.bool_)]),
    )


def bare(sumo: Any, domain: str, name: str) -> Callable[[str], Any]:
    """A getter without the wrapper in Python that libsumo puts around it, which costs as much as the getter itself."""
    compiled = getattr(getattr(sumo, "libsumo", None), "_libsumo", None)
    return getattr(compiled, f"{domain}_{name}", None) or getattr(getattr(sumo, domain), name)


class Watcher:
    """Reads the vehicles of the watched lanes from `sumo` (the libsumo or traci module or connection)."""

    def __init__(self, sumo: Any, network: Network, range_m: float) -> None:
        self._vehicle, self._network, self._range_m = sumo.vehicle, network, range_m
        self._lane_of, self._position_of, self._speed_of = (bare(sumo, "vehicle", name) for name in ("getLaneID", "getLanePosition", "getSpeed"))
        self.watch = watch_lanes(network, range_m)
        self._place_of = {name: i for i, name in enumerate(self.watch.name)}
        self.count, self.room_m = np.zeros(len(self.watch.name), np.int32), np.full(len(self.watch.name), np.inf)
        self._link_at = {(g.tl_id, g.index): g.links for g in network.groups}
        self._group_at = {(g.tl_id, g.index): i for i, g in enumerate(network.groups)}
        self._capacity = 1024
        self._slot_of: dict[str, int] = {}
        self._free = list(range(self._capacity))
        self._on = np.full(self._capacity, -1, np.int32)
        self._link = np.full(self._capacity, -1, np.int32)
        self._lane = np.full(self._capacity, -1, np.int32)
        self._length, self._bare = np.zeros(self._capacity), np.zeros(self._capacity)
        self._wait, self._detour = np.zeros(self._capacity), np.zeros(self._capacity)
        self._emergency = np.zeros(self._capacity, np.bool_)
        self._seen = np.zeros(self._capacity)
        self.arrived = np.zeros(len(network.links), np.int32)
        self.urgent: set[str] = set()
        self._last_s = 0.0

    def read(self, at_s: float, period_s: float) -> tuple[Vehicles, IntArray]:
        """The vehicles within range, and the number of each. `period_s`: seconds since the read before."""
        everyone = self._vehicle.getIDList()
        places = list(map(self._place_of.get, map(self._lane_of, everyone)))
        ids = [v for v, place in zip(everyone, places, strict=True) if place is not None]
        n = len(ids)
        on = np.array([place for place in places if place is not None], np.int32)
        slots = self._slots(ids)
        for i in np.flatnonzero(self._on[slots] != on).tolist():
            self._moved(ids[i], int(slots[i]), int(on[i]))
        position = np.fromiter(map(self._position_of, ids), np.float64, n)
        speed = np.fromiter(map(self._speed_of, ids), np.float64, n)
        self._last_s = at_s
        lane, link, s, distance, speed, wait, length, emergency = digest(
            at_s, period_s, self._range_m, on, slots, position, speed, self.watch.to_end_m, self._lane, self._link, self._length, self._bare,
            self._detour, self._emergency, self._wait, self._seen, self.count, self.room_m,
        )  # fmt: skip
        if len(self._slot_of) > 64 + 3 * n:
            self._forget(at_s)
        return Vehicles(lane, link, distance, speed, wait, length, emergency), s

    def take_arrived(self) -> IntArray:
        """Vehicles first seen for each link since the last call, (links,)."""
        taken, self.arrived = self.arrived, np.zeros_like(self.arrived)
        return taken

    def emergencies(self) -> tuple[EmergencyVehicle, ...]:
        """The emergency vehicles that are near, with the signals on their way within `AHEAD_M`."""
        self.urgent = {n for n in self.urgent if n in self._slot_of and self._seen[self._slot_of[n]] >= self._last_s}
        found = []
        for name in sorted(self.urgent):
            ahead = tuple(
                (group, float(s[2]))
                for s in self._vehicle.getNextTLS(name)
                if s[2] <= AHEAD_M and (group := self._group_at.get((s[0], s[1]), -1)) >= 0
            )
            found.append(EmergencyVehicle(name, float(self._vehicle.getSpeed(name)), ahead))
        return tuple(found)

    def _slots(self, ids: list[str]) -> IntArray:
        slots = list(map(self._slot_of.get, ids))
        if None in slots:
            for i, slot in enumerate(slots):
                if slot is None:
                    slots[i] = self._new(ids[i])
        return np.array(slots, np.int32)

    def _new(self, name: str) -> int:
        if not self._free:
            self._grow()
        slot = self._free.pop(0)
        self._slot_of[name] = slot
        self._on[slot], self._link[slot], self._wait[slot] = -1, -1, 0.0
        self._bare[slot] = self._vehicle.getLength(name)
        self._length[slot] = self._bare[slot] + self._vehicle.getMinGap(name)
        self._emergency[slot] = self._vehicle.getVehicleClass(name) == "emergency"
        if self._emergency[slot]:
            self.urgent.add(name)
        return slot

    def _moved(self, name: str, slot: int, on: int) -> None:
        self._on[slot] = on
        link = int(self.watch.only_link[on])
        known, network = int(self._link[slot]), self._network
        if not np.isfinite(self.watch.to_end_m[on]):
            self._link[slot] = -1
            return
        detour = 0.0
        if link < 0 or network.links[link].group < 0:
            own = int(self.watch.lane[on])
            if known >= 0 and self.watch.is_stop_lane[on] and network.lanes[network.links[known].from_lane].edge == network.lanes[own].edge:
                link = self._from_own_lane(own, (known,))
            else:
                ahead = self._vehicle.getNextTLS(name)
                links = self._link_at.get((ahead[0][0], ahead[0][1]), ()) if ahead else ()
                link = self._from_own_lane(own, links)
                if link >= 0 and not self.watch.is_stop_lane[on]:  # its way may be longer than the shortest
                    detour = ahead[0][2] + self._vehicle.getLanePosition(name) - self.watch.to_end_m[on]
        self._detour[slot] = detour
        if link >= 0 and link != self._link[slot]:
            self.arrived[link] += 1
        self._link[slot] = link
        self._lane[slot] = self.watch.lane[on] if self.watch.is_stop_lane[on] or link < 0 else network.links[link].from_lane

    def _from_own_lane(self, lane: int, links: tuple[int, ...]) -> int:
        """The one of `links` that leaves `lane`, or one that leaves it for the same street; failing that the first: it must change lanes."""
        of, ways = self._network.links, self._network.links_from(lane)
        streets = {self._network.lanes[of[i].to_lane].edge for i in links}
        return next(
            (i for i in ways if i in links), next((i for i in ways if self._network.lanes[of[i].to_lane].edge in streets), links[0] if links else -1)
        )

    def _forget(self, at_s: float) -> None:
        for name in [n for n, slot in self._slot_of.items() if self._seen[slot] < at_s - 10.0]:
            self._free.append(self._slot_of.pop(name))

    def _grow(self) -> None:
        more = self._capacity
        self._free = list(range(self._capacity, self._capacity + more))
        self._capacity += more
        for name in ("_on", "_link", "_lane", "_length", "_bare", "_wait", "_detour", "_emergency", "_seen"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros(more, old.dtype)]))


@njit(cache=True)
def digest(at_s, period_s, range_m, on, slots, position, speed, to_end_m, lane, link, length, bare, detour, emergency, wait, seen, count, room):  # type: ignore[no-untyped-def]
    """Columns of the vehicles in range; brings their waits up to date, and the count and the room at the start of each watched lane.

    The room is what the last vehicle leaves, with the way that it makes in 4 s; inf where there is none.
    """
    n = len(on)
    count[:], room[:] = 0, np.inf
    near = 0
    for i in range(n):
        s, k = slots[i], on[i]
        wait[s] = wait[s] + period_s if speed[i] < HALTING_MPS else 0.0
        seen[s] = at_s
        count[k] += 1
        room[k] = min(room[k], position[i] - bare[s] + 4.0 * speed[i])
        near += to_end_m[k] + detour[s] - position[i] <= range_m and link[s] >= 0
    lanes, links, places = np.empty(near, np.int32), np.empty(near, np.int32), np.empty(near, np.int32)
    distances, speeds, waits, lengths, urgent = np.empty(near), np.empty(near), np.empty(near), np.empty(near), np.empty(near, np.bool_)
    at = 0
    for i in range(n):
        s = slots[i]
        distance = to_end_m[on[i]] + detour[s] - position[i]
        if distance <= range_m and link[s] >= 0:
            lanes[at], links[at], places[at] = lane[s], link[s], s
            distances[at], speeds[at], waits[at], lengths[at], urgent[at] = distance, speed[i], wait[s], length[s], emergency[s]
            at += 1
    return lanes, links, places, distances, speeds, waits, lengths, urgent
