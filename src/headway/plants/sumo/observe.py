"""Cheap columnar observation of a SUMO street.

Each vehicle is asked for its lane; only those on lanes near a signal are asked for more. What does
not change while a vehicle stays on a lane (its next link, length, class) is asked once, when it
comes onto the lane, and kept in columns by slot. What remains each second is one call a vehicle,
and two more a vehicle near a signal: `python -m bench speed` measures the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit

from headway.roads import Network
from headway.roads.upstream import feeders, stop_lanes
from headway.values import HALTING_MPS, EmergencyVehicle, FloatArray, IntArray, Vehicles

AHEAD_M = 600.0
PASSED_M = 30.0
# One row a vehicle, so that it is one line of the processor's cache: SUMO's step has emptied that
# each second.
SLOT = np.dtype(
    [
        ("wait", "f8"),
        ("detour", "f8"),
        ("length", "f8"),
        ("bare", "f8"),
        ("seen", "f8"),
        ("on", "i4"),
        ("link", "i4"),
        ("lane", "i4"),
        ("urgent", "i4"),
    ]
)
WATCHED = np.dtype([("to_end", "f8"), ("room", "f8"), ("passed", "f8"), ("count", "i8")])


@dataclass(frozen=True, slots=True)
class Watch:
    """The lanes that are looked at; (n,) each.

    name:   SUMO's lane name (roads, lanes inside unsignalised junctions between them, and where one
        waits inside a junction).
    lane:   stop-line lane that traffic of this lane comes to, -1 where several are possible.
    to_end_m: metres from the start of this lane to the stop line, along the shortest way; inf for a
              lane that leads away, zero for a place inside the junction.
    """

    name: tuple[str, ...]
    lane: IntArray
    to_end_m: FloatArray
    only_link: IntArray
    is_stop_lane: np.ndarray[Any, np.dtype[np.bool_]]


def watch_lanes(network: Network, range_m: float) -> Watch:
    """All lanes within `range_m` upstream of a stop line, up to the signal before; where vehicles
    wait inside a junction for a gap; and those that lead away from signals."""
    best: dict[str, tuple[float, set[int], bool]] = {}
    for stop in stop_lanes(network):
        for feeder in feeders(network, stop, range_m):
            to_stop, served, own = best.get(feeder.name, (np.inf, set[int](), False))
            best[feeder.name] = (
                min(to_stop, feeder.to_stop_m),
                served | {stop},
                own or feeder.is_stop_lane,
            )
    for link in network.links:
        if link.group >= 0:
            best.setdefault(network.lanes[link.to_lane].id, (np.inf, set(), False))
    names = tuple(best)
    # traffic before a signal stands there, also where an unsignalised turn leads to another
    comes_to = [{network.lane_index[n]} if best[n][2] else best[n][1] for n in names]
    lane = np.array([next(iter(s)) if len(s) == 1 else -1 for s in comes_to], np.int32)
    only = np.full(len(names), -1, np.int32)
    for k, n in enumerate(names):
        if best[n][2]:
            links = network.links_from(network.lane_index[n])
            if len(links) == 1:
                only[k] = links[0]
    to_end = np.array([best[n][0] for n in names])
    waiting = [
        (link.via[0], link.from_lane, i)
        for i, link in enumerate(network.links)
        if link.group >= 0 and len(link.via) > 1
    ]
    return Watch(
        (*names, *(w[0] for w in waiting)),
        np.array([*lane, *(w[1] for w in waiting)], np.int32),
        np.array([*to_end, *np.zeros(len(waiting))]),
        np.array([*only, *(w[2] for w in waiting)], np.int32),
        np.array([*(best[n][2] for n in names), *np.ones(len(waiting), np.bool_)]),
    )


def bare(sumo: Any, domain: str, name: str) -> Callable[[str], Any]:
    """A getter without the wrapper in Python that libsumo puts around it, which costs as much as
    the getter itself.
    """
    compiled = getattr(getattr(sumo, "libsumo", None), "_libsumo", None)
    found: Callable[[str], Any] = getattr(compiled, f"{domain}_{name}", None) or getattr(
        getattr(sumo, domain), name
    )
    return found


class Watcher:
    """Reads the vehicles of the watched lanes from `sumo` (the libsumo or traci module or
    connection).
    """

    def __init__(self, sumo: Any, network: Network, range_m: float) -> None:
        self._vehicle = sumo.vehicle
        self._network = network
        self._range_m = range_m
        self._lane_of, self._position_of, self._speed_of = (
            bare(sumo, "vehicle", name) for name in ("getLaneID", "getLanePosition", "getSpeed")
        )
        self.watch = watch_lanes(network, range_m)
        self._place_of = {name: i for i, name in enumerate(self.watch.name)}
        self.lanes = np.zeros(len(self.watch.name), WATCHED)
        self.lanes["to_end"] = self.watch.to_end_m
        long = {lane.id for lane in network.lanes if lane.length_m > 2 * PASSED_M}
        self.lanes["passed"] = [
            PASSED_M if name in long else 2 * PASSED_M for name in self.watch.name
        ]
        self._link_at = {(g.tl_id, g.index): g.links for g in network.groups}
        self._known = {g.tl_id for g in network.groups}
        self._group_at = {(g.tl_id, g.index): i for i, g in enumerate(network.groups)}
        self._capacity = 1024
        self._slot_of: dict[str, int] = {}
        self._tidy_at = 256
        self._free = list(range(self._capacity))
        self._slot = np.zeros(self._capacity, SLOT)
        self._link: dict[int, int] = {}  # by slot, -1 while it is not known
        self._link_from: dict[tuple[int, str, int, str], int] = {}
        watch = self.watch  # as plain lists: one number out of an array costs ten times as much
        self._own = watch.lane.tolist()
        self._only = watch.only_link.tolist()
        self._stop = watch.is_stop_lane.tolist()
        self._away, self._to_end = np.isinf(watch.to_end_m).tolist(), watch.to_end_m.tolist()
        self._edge = [x.edge for x in network.lanes]
        self._forks = {
            place
            for place, links in self._link_at.items()
            if len({self._edge[network.links[i].to_lane] for i in links}) > 1
        }
        self._lane_before: dict[str, str] = {}
        self.present: dict[str, int] = {}  # vehicles on each lane of the network that has any
        self._asked: dict[str, int] = {}  # slot of each that is asked where it is and how fast
        self._slots = np.zeros(0, np.int32)
        self.arrived, self._any_arrived = np.zeros(len(network.links), np.int32), False
        self._none_arrived = np.zeros(len(network.links), np.int32)
        self._none_arrived.setflags(write=False)
        self.rerouted = np.zeros(len(network.links), np.int32)
        self._junction: list[int] = network.link_junction.tolist()
        self._lane_junction: list[int] = network.lane_junction.tolist()
        self.urgent: set[str] = set()
        self._has_read = False

    def read(self, at_s: float, period_s: float) -> tuple[Vehicles, IntArray]:
        """The vehicles within range, and the number of each. `period_s`: seconds since the read
        before.
        """
        everyone = self._vehicle.getIDList()
        lane_of = dict(zip(everyone, map(self._lane_of, everyone), strict=True))
        if lane_of != self._lane_before:
            self._follow(lane_of, self._lane_before)
            self._lane_before = lane_of
            self._slots = np.fromiter(self._asked.values(), np.int32, len(self._asked))
        self._has_read = True
        n = len(self._slots)
        position = np.fromiter(map(self._position_of, self._asked), np.float64, n)
        speed = np.fromiter(map(self._speed_of, self._asked), np.float64, n)
        which, how, passed = digest(
            at_s, period_s, self._range_m, self._slots, position, speed, self._slot, self.lanes
        )
        if len(passed):
            names = list(self._asked)
            for i in passed.tolist():
                del self._asked[names[i]]
            self._slots = np.fromiter(self._asked.values(), np.int32, len(self._asked))
        if len(self._slot_of) > self._tidy_at:
            self._forget(at_s)
        return Vehicles(which[0], which[1], how[0], how[1], how[2], how[3], which[3] > 0), which[2]

    def _follow(self, now: dict[str, str], before: dict[str, str]) -> None:
        """Take note of the vehicles that are on another lane than the second before."""
        moves, fresh = list[tuple[float, ...]](), len(now)
        for name, lane in now.items():
            was = before.get(name)
            if was == lane:
                fresh -= 1
                continue
            if was is not None:
                fresh -= 1
                self._leave(name, was, moves)
            self.present[lane] = self.present.get(lane, 0) + 1
            on = self._place_of.get(lane)
            if on is not None:
                slot = self._slot_of.get(name)
                self._asked[name] = slot = self._new(name) if slot is None else slot
                moves.append((slot, on, *self._way(name, slot, on)))
        if len(before) + fresh > len(now):
            for name in [n for n in before if n not in now]:
                self._leave(name, before[name], moves)
        if moves:
            note_moves(self._slot, self.lanes, np.array(moves, np.float64))

    def _leave(self, name: str, lane: str, moves: list[tuple[float, ...]]) -> None:
        self.present[lane] -= 1
        if not self.present[lane]:
            del self.present[lane]
        if lane in self._place_of:
            moves.append((-1, self._place_of[lane], 0, 0, 0))
            self._asked.pop(name, None)

    def take_arrived(self) -> IntArray:
        """Vehicles first seen for each link since the last call, (links,)."""
        if not self._any_arrived:
            return self._none_arrived
        taken = self.arrived
        self.arrived = np.zeros(len(self.arrived), np.int32)
        self._any_arrived = False
        return taken

    def take_rerouted(self) -> IntArray:
        """Vehicles that were counted as arrived for each link since the last call or before, and
        then for another one of the same junction, since they changed lanes; (links,).
        """
        taken = self.rerouted
        if taken.any():
            self.rerouted = np.zeros(len(taken), np.int32)
        return taken

    def emergencies(self) -> tuple[EmergencyVehicle, ...]:
        """The emergency vehicles that have signals on their way within `AHEAD_M`: from the first
        watched lane until they leave the street.
        """
        self.urgent = {n for n in self.urgent if n in self._lane_before}
        found = []
        for name in sorted(self.urgent):
            ahead = tuple(
                (group, float(s[2]))
                for s in self._vehicle.getNextTLS(name)
                if s[2] <= AHEAD_M and (group := self._group_at.get((s[0], s[1]), -1)) >= 0
            )
            if ahead:
                found.append(EmergencyVehicle(name, float(self._vehicle.getSpeed(name)), ahead))
        return tuple(found)

    def _new(self, name: str) -> int:
        if not self._free:
            self._grow()
        slot = self._free.pop(0)
        self._slot_of[name] = slot
        bare = self._vehicle.getLength(name)
        urgent = self._vehicle.getVehicleClass(name) == "emergency"
        self._link[slot] = -1
        s = self._slot[slot]
        # one that is there at once may come from a state that was loaded
        s["wait"] = 0.0 if self._has_read else self._vehicle.getWaitingTime(name)
        s["length"] = bare + self._vehicle.getMinGap(name)
        s["bare"] = bare
        s["urgent"] = urgent
        if urgent:
            self.urgent.add(name)
        return slot

    def _way(self, name: str, slot: int, on: int) -> tuple[int, int, float]:
        """(link, stop lane, detour) of a vehicle that came onto the watched lane `on`; -1 where
        there is none.
        """
        own = self._own[on]
        link = self._only[on]
        known = self._link[slot]
        detour = 0.0
        if link < 0 and not self._away[on]:
            # on each lane again: the route that SUMO reports may depend on it
            ahead = self._vehicle.getNextTLS(name)
            if ahead and ahead[0][0] not in self._known:  # rail signals
                ahead = [x for x in ahead if x[0] in self._known]
            if ahead:
                link = self._from_own_lane(own, ahead[0][0], ahead[0][1], name)
            if link >= 0 and not self._stands_before(on, link):
                # its way may be longer than the shortest
                detour = ahead[0][2] + self._position_of(name) - self._to_end[on]
        if link >= 0 and link != known:
            if known >= 0 and self._junction[known] == self._junction[link]:
                self.rerouted[known] += 1
            self.arrived[link] += 1
            self._any_arrived = True
        self._link[slot] = link
        stands = link < 0 or self._stands_before(on, link)
        return link, own if stands else self._network.links[link].from_lane, detour

    def _stands_before(self, on: int, link: int) -> bool:
        """The watched lane `on` ends at the signal of `link`. One that takes an unsignalised turn
        there is on its way to the next signal.
        """
        is_there: bool = (
            self._stop[on] and self._lane_junction[self._own[on]] == self._junction[link]
        )
        return is_there

    def _from_own_lane(self, lane: int, tl: str, index: int, name: str) -> int:
        """The link of place `index` of programme `tl` that leaves `lane`, or one that leaves it for
        the same street; failing that the first: it must change lanes. Where that place has links
        to several streets, those for the next street of the vehicle's route.
        """
        street = self._next_street(name, tl, index) if (tl, index) in self._forks else ""
        found = self._link_from.get((lane, tl, index, street))
        if found is None:
            of = self._network.links
            edge = self._edge
            links = self._link_at.get((tl, index), ())
            links = tuple(i for i in links if edge[of[i].to_lane] == street) or links
            ways, streets = self._network.links_from(lane), {edge[of[i].to_lane] for i in links}
            found = next(
                (i for i in ways if i in links),
                next(
                    (i for i in ways if edge[of[i].to_lane] in streets), links[0] if links else -1
                ),
            )
            self._link_from[lane, tl, index, street] = found
        return found

    def _next_street(self, name: str, tl: str, index: int) -> str:
        """The street that the vehicle's route takes behind the links of that place; empty where it
        takes none of them.
        """
        of = self._network.links
        links = self._link_at[tl, index]
        ways = {(self._edge[of[i].from_lane], self._edge[of[i].to_lane]) for i in links}
        route = self._vehicle.getRoute(name)[max(self._vehicle.getRouteIndex(name), 0) :]
        return next((way[1] for way in pairwise(route) if way in ways), "")

    def _forget(self, at_s: float) -> None:
        for name in [
            n for n, slot in self._slot_of.items() if self._slot["seen"][slot] < at_s - 10.0
        ]:
            self._free.append(self._slot_of.pop(name))
        self._tidy_at = 256 + 2 * len(self._slot_of)

    def _grow(self) -> None:
        more = self._capacity
        self._free = list(range(self._capacity, self._capacity + more))
        self._capacity += more
        self._slot = np.concatenate([self._slot, np.zeros(more, SLOT)])


@njit(cache=True)
def note_moves(slot, lanes, moves):  # type: ignore[no-untyped-def]
    """moves: (n, 5), vehicles that came onto a watched lane: slot, lane, link, stop lane, detour;
    or left it:
    -1, lane.
    """
    for i in range(len(moves)):
        on = int(moves[i, 1])
        if moves[i, 0] < 0.0:
            lanes[on]["count"] -= 1
            continue
        s = slot[int(moves[i, 0])]
        s["on"] = on
        s["link"] = int(moves[i, 2])
        s["lane"] = int(moves[i, 3])
        s["detour"] = moves[i, 4]
        lanes[on]["count"] += 1


@njit(cache=True)
def digest(at_s, period_s, range_m, slots, position, speed, slot, lanes):  # type: ignore[no-untyped-def]
    """Those in range: int (4, n) stop lane, link, slot, urgency; float (4, n) metres to the stop
    line, speed, wait, length; and the places in `slots` of those who need not be asked again on
    their lane: it leads away, and they are well down it.

    Brings the waits up to date, and the room at the start of each watched lane: what the last
    vehicle leaves, with the way that it makes in 4 s; inf where there is none, or none near it.
    """
    n = len(slots)
    near = 0
    far = 0
    for k in range(len(lanes)):
        lanes[k]["room"] = np.inf
    for i in range(n):
        s = slot[slots[i]]
        k = lanes[s["on"]]
        s["wait"] = s["wait"] + period_s if speed[i] < HALTING_MPS else 0.0
        s["seen"] = at_s
        k["room"] = min(k["room"], position[i] - s["bare"] + 4.0 * speed[i])
        near += k["to_end"] + s["detour"] - position[i] <= range_m and s["link"] >= 0
        far += k["to_end"] == np.inf and position[i] - s["bare"] > k["passed"]
    which = np.empty((4, near), np.int32)
    how = np.empty((4, near))
    passed = np.empty(far, np.int32)
    at = gone = 0
    for i in range(n):
        s = slot[slots[i]]
        k = lanes[s["on"]]
        distance = k["to_end"] + s["detour"] - position[i]
        if distance <= range_m and s["link"] >= 0:
            which[0, at] = s["lane"]
            which[1, at] = s["link"]
            which[2, at] = slots[i]
            which[3, at] = s["urgent"]
            how[0, at] = distance
            how[1, at] = speed[i]
            how[2, at] = s["wait"]
            how[3, at] = s["length"]
            at += 1
        if k["to_end"] == np.inf and position[i] - s["bare"] > k["passed"]:
            passed[gone] = i
            gone += 1
    return which, how, passed


@njit(cache=True)
def behind(lanes, exits, places, count):  # type: ignore[no-untyped-def]
    """(room_m, count) of all `count` lanes of the network from the watched lanes `places`, which
    are its lanes `exits`.
    """
    room, vehicles = np.full(count, np.inf), np.zeros(count, np.int32)
    for i in range(len(exits)):
        room[exits[i]], vehicles[exits[i]] = lanes[places[i]]["room"], lanes[places[i]]["count"]
    return room, vehicles
