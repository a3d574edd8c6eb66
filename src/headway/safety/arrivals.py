"""When emergency vehicles arrive at the signals on their way, and what stands before them.

A signal must turn green before the vehicle arrives by the time that its lane needs to clear: the
change interval of what is green now, the lost time at the start of green, and the vehicles before
it at saturation flow (FHWA, Traffic Signal Timing Manual, FHWA-HOP-08-024, chapter 9, on the timing
of pre-emption; the figures of the queue are those of the Highway Capacity Manual).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import NamedTuple

import numpy as np

from headway.roads import GO, Network
from headway.safety import kernel
from headway.safety.arrays import NO_GROUP, Conflicts, Limits, Signals
from headway.values import EmergencyVehicle, IntArray, Observation, Vehicles

# Speeds at which a vehicle may come: an implausible one counts as the nearest of them.
SLOWEST_MPS = 8.0
FASTEST_MPS = 40.0
STARTUP_S = 2.0  # lost at the start of green
HEADWAY_S = 2.0  # of vehicles that leave a queue: 1800 an hour and lane
SAME_PLACE_M = 1.0  # distances that differ by less are of one vehicle, or of one stop line
INSIDE_M = 20.0  # a vehicle that waits inside the junction is at most so far beyond its stop line
# Places on the way of one vehicle that are looked at: no more can be reached within two minutes.
MOST_PLACES = 32
MOST_BEFORE = 50  # vehicles before it that are looked at: more than stand in sight


class Claim(NamedTuple):
    """A vehicle on its way to a junction.

    groups:     the signal groups that it may take there: several where its source knows the lane
        alone.
    distance_m: to the stop line.
    speed_mps:  that its source tells, or the limit of the street where that is no number.
    eta_s:      seconds until it arrives there if nothing stops it at this junction.
    needed_s:   seconds from a request until it could pass: change interval and queue.
    vehicles_before: between it and the stop line, on its lane.
    queue:      signal groups that must be green for it to pass, from the stop line: those of the
        vehicles before it, then its own.
    """

    vehicle: str
    junction: int
    groups: tuple[int, ...]
    distance_m: float
    speed_mps: float
    eta_s: float
    needed_s: float
    vehicles_before: int
    queue: tuple[int, ...]


class Stop(NamedTuple):
    """One junction on the way of a vehicle: the groups that it may take, metres to the line."""

    junction: int
    groups: tuple[int, ...]
    distance_m: float


class Arrivals:
    """Foresees arrivals on one network."""

    def __init__(self, network: Network, limits: Limits, conflicts: Conflicts) -> None:
        self._limits = limits
        self._conflicts = conflicts
        self._link_group = network.link_group
        self._junction = network.group_junction
        self._lanes = [
            np.array(sorted({network.links[k].from_lane for k in group.links}), np.int32)
            for group in network.groups
        ]
        lane_mps = [lane.speed_mps for lane in network.lanes]
        self._lane_groups: dict[int, set[int]] = {}
        for g, lanes in enumerate(self._lanes):
            for lane in lanes.tolist():
                self._lane_groups.setdefault(lane, set()).add(g)
        self._limit_mps = [
            max((lane_mps[lane] for lane in lanes.tolist()), default=SLOWEST_MPS)
            for lanes in self._lanes
        ]

    def stops(self, vehicle: EmergencyVehicle) -> list[Stop]:
        """The junctions on its way, nearest first; what cannot be is left out, and what comes after
        MOST_PLACES.
        """
        found: dict[int, Stop] = {}
        known = [
            (float(distance_m), int(group))
            for group, distance_m in vehicle.ahead[:MOST_PLACES]
            if 0 <= group < len(self._junction) and isfinite(distance_m)
        ]
        for distance_m, group in sorted(known, key=lambda one: one[0]):
            junction = int(self._junction[group])
            first = found.setdefault(junction, Stop(junction, (), distance_m))
            if distance_m - first.distance_m <= SAME_PLACE_M and group not in first.groups:
                found[junction] = first._replace(groups=(*first.groups, group))
        return list(found.values())

    def claims(
        self, vehicle: EmergencyVehicle, observation: Observation, signals: Signals, now_s: float
    ) -> Iterator[Claim]:
        """A claim for each junction on the way of a vehicle, nearest first.

        It arrives at the first by its speed, at least the limit of the street; at each later one
        after the one before, where it may have had to wait.
        """
        at_m = leaves_s = 0.0
        for stop in self.stops(vehicle):
            limit_mps = self._limit_mps[stop.groups[0]]
            eta_s = leaves_s + (stop.distance_m - at_m) / _speed_mps(vehicle.speed_mps, limit_mps)
            rows = self._rows_before(stop, observation.vehicles)
            before = self._groups_before(stop, rows, observation)
            change_s = max(self._change_s(g, signals, now_s) for g in stop.groups)
            queue_s = STARTUP_S + HEADWAY_S * len(rows) if len(rows) else 0.0
            yield Claim(
                vehicle=vehicle.id,
                junction=stop.junction,
                groups=stop.groups,
                distance_m=stop.distance_m,
                speed_mps=vehicle.speed_mps if isfinite(vehicle.speed_mps) else limit_mps,
                eta_s=eta_s,
                needed_s=change_s + queue_s,
                vehicles_before=len(rows),
                queue=(*before, *stop.groups),
            )
            at_m = stop.distance_m
            leaves_s = max(eta_s, change_s + queue_s)

    def _rows_before(self, stop: Stop, vehicles: Vehicles) -> IntArray:
        """The vehicles between it and the stop line on its lane, from there."""
        distance_m = vehicles.distance_m
        is_before = (distance_m < stop.distance_m - SAME_PLACE_M) & (distance_m > -INSIDE_M)
        rows = np.flatnonzero(is_before & np.isin(vehicles.lane, self._lanes_of(stop, vehicles)))
        rows = rows[np.argsort(distance_m[rows], kind="stable")][:MOST_BEFORE]
        return rows.astype(np.int32)

    def _groups_before(self, stop: Stop, rows: IntArray, observation: Observation) -> list[int]:
        """Signal groups of the vehicles before it. Where only their lanes are known, each may take
        any way that its lane leads to.
        """
        vehicles = observation.vehicles
        groups = self._groups_of(vehicles.link[rows])
        if not observation.links_known:
            lanes = sorted(set(vehicles.lane[rows].tolist()))
            groups += [g for lane in lanes for g in sorted(self._lane_groups.get(lane, ()))]
        return [g for g in groups if g != NO_GROUP and self._junction[g] == stop.junction]

    def _lanes_of(self, stop: Stop, vehicles: Vehicles) -> IntArray:
        """The lane that it is on, where it is seen among the vehicles, or else all that lead to its
        groups.
        """
        rows = np.flatnonzero(
            np.asarray(vehicles.emergency, np.bool_)
            & (np.abs(vehicles.distance_m - stop.distance_m) <= SAME_PLACE_M)
        )
        lanes = np.concatenate([self._lanes[g] for g in stop.groups])
        own = [lane for lane in vehicles.lane[rows].tolist() if lane in lanes]
        return np.array(own, np.int32) if own else lanes

    def _groups_of(self, links: IntArray) -> list[int]:
        known = (links >= 0) & (links < len(self._link_group))
        groups: list[int] = np.where(known, self._link_group[links * known], NO_GROUP).tolist()
        return groups

    def _change_s(self, group: int, signals: Signals, now_s: float) -> float:
        """Seconds until `group` can be green, if all that is in conflict with it ends now; no
        minimum cycle counts.
        """
        limits = self._limits
        if signals.colour[group] >= GO:
            return 0.0
        longest_s = 0.0
        first, end = self._conflicts.start[group : group + 2]
        for other in self._conflicts.group[first:end].tolist():
            intergreen_s = limits.yellow_s[other] + limits.clearance_s[other]
            if signals.colour[other] >= GO:
                age_s = now_s - signals.since_s[other]
                cleared_s = max(limits.min_green_s[other] - age_s, 0.0) + intergreen_s
            else:
                cleared_s = kernel.cleared_s(other, signals, limits) - now_s
            longest_s = max(longest_s, cleared_s)
        return float(longest_s)


def _speed_mps(speed_mps: float, limit_mps: float) -> float:
    """The speed at which it may come, whatever is said."""
    fastest = max(speed_mps, limit_mps) if isfinite(speed_mps) else limit_mps
    return min(max(fastest, SLOWEST_MPS), FASTEST_MPS)
