"""Who claims priority now, and who of them is whom: emergency vehicles from second to second.

Names are those of sources, which lose a vehicle for a while or call it otherwise. A vehicle that
nobody knew, where one is missing that was served, is the same; unless that one moved on and has
passed its stop line meanwhile: then it is the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

import numpy as np

from headway.roads import Network
from headway.safety.arrays import NO_GROUP, NO_STAGE, Signals
from headway.safety.arrivals import Arrivals, Claim
from headway.safety.clearing import Clearing
from headway.values import EmergencyVehicle, Observation

PROGRESS_M = 5.0  # a vehicle that has come nearer by so much has moved
SAME_PLACE_M = 1.0  # inside the junction, of one that stands there
REST_S = 60.0  # until a vehicle whose service lasted too long may claim again, or is forgotten
MOST_CLAIMS = 8  # vehicles looked at for one junction, the nearest: a flood of claims costs no time

AWAY_S = 5.0  # a name that comes back sooner is that of the same vehicle

Key = tuple[int, str]
"""A junction, and a vehicle."""
Claims = dict[Key, Claim]


@dataclass
class Service:
    """A junction serves a vehicle, or has served it.

    nearest_m: the least distance, at `moved_s`. stage: wanted.
    group, last_m, speed_mps: where it was last, and its speed; ended_s: when the service was over,
        shifted out of the others when it goes on.
    inside_m: distances of other emergency vehicles, inside the junction before it was.
    """

    vehicle: str
    began_s: float
    nearest_m: float
    moved_s: float
    stage: int = NO_STAGE
    group: int = NO_GROUP
    last_m: float = inf
    speed_mps: float = 0.0
    ended_s: float = inf
    inside_m: tuple[float, ...] = ()

    def see(self, claim: Claim) -> None:
        """Note where it is now."""
        if claim.distance_m > self.last_m + PROGRESS_M:
            self.nearest_m = claim.distance_m  # it comes once more
        self.group = claim.groups[0]
        self.last_m = claim.distance_m
        self.speed_mps = claim.speed_mps

    def has_passed(self, missing_s: float) -> bool:
        """It was near its stop line when it was seen last, `missing_s` ago, and is beyond it by the
        speed that it had.
        """
        way_m = max(self.last_m, 0.0) + PROGRESS_M
        return self.last_m <= PROGRESS_M and self.speed_mps * missing_s > way_m


class Bar(NamedTuple):
    """A vehicle may not claim a junction before `until_s`, nor before it is nearer."""

    until_s: float
    nearer_than_m: float


class Exit(NamedTuple):
    """After a service, `group` is served first; given up at `until_s`."""

    group: int
    until_s: float


@dataclass
class Memory:
    """What is remembered from second to second. By junction, or by (junction, vehicle).

    past: services that are over. seen_s: when a claim was there last; of those of the second
        before, and of those with a bar or a past service.
    """

    services: dict[int, Service] = field(default_factory=dict)
    bars: dict[Key, Bar] = field(default_factory=dict)
    exits: dict[int, Exit] = field(default_factory=dict)
    past: dict[Key, Service] = field(default_factory=dict)
    seen_s: dict[Key, float] = field(default_factory=dict)

    def is_serving(self, claim: Claim) -> bool:
        service = self.services.get(claim.junction)
        return service is not None and service.vehicle == claim.vehicle

    def is_barred(self, claim: Claim, now_s: float) -> bool:
        bar = self.bars.get((claim.junction, claim.vehicle))
        if bar is None:
            return False
        return now_s < bar.until_s or claim.distance_m >= bar.nearer_than_m

    def known(self) -> dict[Key, Service]:
        """Who is served, or was."""
        return self.past | {(j, one.vehicle): one for j, one in self.services.items()}

    def forget(self, key: Key) -> None:
        """It may claim as if it had never been there."""
        self.seen_s.pop(key, None)
        self.bars.pop(key, None)
        self.past.pop(key, None)

    def rename(self, before: Key, key: Key) -> None:
        """The vehicle `before` is called otherwise now."""
        of_vehicles: tuple[dict[Key, Any], ...] = (self.past, self.bars, self.seen_s)
        for own in of_vehicles:
            if before in own:
                own[key] = own.pop(before)
        for service in (self.services.get(key[0]), self.past.get(key)):
            if service is not None and service.vehicle == before[1]:
                service.vehicle = key[1]


class Claimants:
    """The emergency vehicles of one network that claim priority.

    memory: of what each was given; changed in place.
    """

    def __init__(self, network: Network, arrivals: Arrivals, clearing: Clearing) -> None:
        self.memory = Memory()
        self._network = network
        self._arrivals = arrivals
        self._clearing = clearing
        self._link_group = network.link_group

    def claims(self, observation: Observation, signals: Signals, now_s: float) -> Claims:
        """The claims that can be served, by junction and vehicle."""
        found = {}
        for vehicle in self._nearest(observation.emergencies):
            for claim in self._arrivals.claims(vehicle, observation, signals, now_s):
                if self._clearing.is_served(claim.junction, claim.groups):
                    found[claim.junction, claim.vehicle] = claim
        found |= self._inside(found, observation)
        self._recognise(found, now_s)
        self._forget(found, now_s)
        for key, service in self.memory.known().items():
            if key in found:
                service.see(found[key])
        return found

    def _nearest(self, vehicles: Sequence[EmergencyVehicle]) -> Sequence[EmergencyVehicle]:
        """Those that are among the MOST_CLAIMS nearest of a junction, or barred or served there."""
        if len(vehicles) <= MOST_CLAIMS:
            return vehicles
        places: dict[int, list[tuple[float, int]]] = {}
        chosen = set[int]()
        for i, vehicle in enumerate(vehicles):
            for stop in self._arrivals.stops(vehicle):
                served = self.memory.services.get(stop.junction)
                is_barred = (stop.junction, vehicle.id) in self.memory.bars
                if is_barred or (served is not None and served.vehicle == vehicle.id):
                    chosen.add(i)
                if not is_barred:
                    places.setdefault(stop.junction, []).append((stop.distance_m, i))
        chosen |= {i for own in places.values() for _, i in sorted(own)[:MOST_CLAIMS]}
        return [vehicles[i] for i in sorted(chosen)]

    def _inside(self, found: Claims, observation: Observation) -> Claims:
        """The claims of vehicles that have passed the stop line and wait inside the junction. One
        that stood there before is another one.
        """
        places = self._places_inside(observation)
        inside = {}
        for junction, service in self.memory.services.items():
            if (junction, service.vehicle) in found:
                service.inside_m = tuple(distance_m for distance_m, _, _ in places[junction])
                continue
            for distance_m, speed_mps, group in places[junction]:
                if all(abs(distance_m - other) > SAME_PLACE_M for other in service.inside_m):
                    inside[junction, service.vehicle] = Claim(
                        vehicle=service.vehicle,
                        junction=junction,
                        groups=(group,),
                        distance_m=distance_m,
                        speed_mps=speed_mps,
                        eta_s=0.0,
                        needed_s=0.0,
                        vehicles_before=0,
                        queue=(group,),
                    )
        return inside

    def _places_inside(self, observation: Observation) -> dict[int, list[tuple[float, float, int]]]:
        """(metres, m/s, group) of emergency vehicles inside, by junction that serves somebody."""
        vehicles = observation.vehicles
        rows = np.flatnonzero(
            np.asarray(vehicles.emergency, np.bool_) & (vehicles.distance_m < 0.0)
        )
        places: dict[int, list[tuple[float, float, int]]] = {j: [] for j in self.memory.services}
        for row in rows.tolist():
            link = int(vehicles.link[row])
            group = int(self._link_group[link]) if 0 <= link < len(self._link_group) else NO_GROUP
            if group != NO_GROUP and self._network.groups[group].junction in places:
                place = (float(vehicles.distance_m[row]), float(vehicles.speed_mps[row]), group)
                places[self._network.groups[group].junction].append(place)
        return places

    # who is whom

    def _recognise(self, found: Claims, now_s: float) -> None:
        """A vehicle that nobody knew, where one is missing that was known: the same, renamed."""
        memory = self.memory
        missing: dict[int, dict[Key, Service]] = {}
        for key, service in memory.known().items():
            missing_s = now_s - memory.seen_s.get(key, now_s)
            if key not in found and not service.has_passed(missing_s):
                missing.setdefault(key[0], {})[key] = service
        for key, claim in found.items():
            own = missing.get(claim.junction, {})
            if key in memory.seen_s:
                continue
            far_m = {
                before: abs(service.last_m - claim.distance_m)
                for before, service in own.items()
                if service.group in claim.groups
            }
            before = min(far_m, key=lambda one: far_m[one], default=key)
            if before != key and far_m[before] <= PROGRESS_M:
                memory.rename(before, key)
                del own[before]

    def _forget(self, found: Claims, now_s: float) -> None:
        """Lift the bars that are over; forget who has passed, or has been out of sight for
        REST_S.
        """
        memory = self.memory
        for key, claim in found.items():
            if self._is_another(key, now_s):
                memory.forget(key)
            memory.seen_s[key] = now_s
            if key in memory.bars and not memory.is_barred(claim, now_s):
                del memory.bars[key]
                memory.past.pop(key, None)
        for key, seen_s in list(memory.seen_s.items()):
            is_of_use = key in memory.bars or key in memory.past
            if key not in found and not (is_of_use and now_s - seen_s <= REST_S):
                memory.forget(key)

    def _is_another(self, key: Key, now_s: float) -> bool:
        """One that is called as somebody was who has gone."""
        memory = self.memory
        missing_s = now_s - memory.seen_s.get(key, now_s)
        before = memory.past.get(key)
        has_passed = before is not None and before.has_passed(missing_s)
        return missing_s > REST_S or (missing_s > AWAY_S and has_passed)
