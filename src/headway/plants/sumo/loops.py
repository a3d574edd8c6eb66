"""Loops: a detector at each stop line and one ADVANCE_M before it, and where vehicles are in
between by what both counted.

A detector tells that somebody passed, not who. Between the two vehicles change lanes, so that the
counts of one lane do not add up, but those of all lanes of a road do: who leaves a lane in which
nobody is left, or stands at its stop line, has come from the lane beside whose first vehicle is due
there for longest; and a vehicle that is long due, at a line where nobody stands or passes, is gone.
"""

from __future__ import annotations

import numpy as np

from headway.roads import Network, likely_links
from headway.values import EmergencyVehicle, IntArray, Vehicles

ADVANCE_M = 50.0
AT_LINE_M = 3.0  # up to where the detector at the stop line reaches
APPROACH_MPS = 10.0
SPACING_M = 7.5  # from one standing vehicle to the next
FIRST_M = 1.0  # where the first of a queue stands
EARLY_S = 2.0  # so long before it is due at the line a vehicle may be in the lane beside
OVERDUE_S = 6.0  # a vehicle so late, where nobody passes the line or stands there, is gone


class Loops:
    """The sensing profile: the vehicles of each lane are kept as a queue that one enters behind and
    leaves in front.
    """

    missed_share = 0.0

    def __init__(self, network: Network) -> None:
        self._link = likely_links(network)
        # from the advance detector to the stop line
        self._way_s = ADVANCE_M / np.array(
            [min(APPROACH_MPS, lane.speed_mps) for lane in network.lanes]
        )
        roads: dict[str, list[int]] = {}
        for k, lane in enumerate(network.lanes):
            roads.setdefault(lane.edge, []).append(k)
        self._road = [roads[lane.edge] for lane in network.lanes]  # all lanes of each one's road
        self._near: dict[int, int] = {}  # the lane of each vehicle between the detectors
        self._entered: dict[int, list[float]] = {}  # by lane, when each passed the first, in order
        self._used_s: dict[int, float] = {}  # by lane, when somebody last stood at its line or left

    def see(self, at_s: float, there: Vehicles, number: IntArray) -> Vehicles:
        """Those between the detectors by what these told up to `at_s`. number: int (n,), the same
        for one vehicle as long as it is near.
        """
        is_before = (there.distance_m >= 0.0) & (there.lane >= 0)
        near = np.flatnonzero(is_before & (there.distance_m <= ADVANCE_M))
        now = dict(zip(number[near].tolist(), there.lane[near].tolist(), strict=True))
        occupied = set(there.lane[is_before & (there.distance_m <= AT_LINE_M)].tolist())
        for one, lane in now.items():
            if one not in self._near:
                self._entered.setdefault(lane, []).append(at_s)
        for one, lane in self._near.items():
            if one not in now:
                self._leave(lane, at_s, occupied)
        self._near = now
        for lane in sorted(occupied):
            self._stand_at_line(lane, at_s, occupied)
        self._forget_overdue(at_s)
        return self._between(at_s)

    def emergencies(self, reported: tuple[EmergencyVehicle, ...]) -> tuple[EmergencyVehicle, ...]:
        return ()

    def _leave(self, lane: int, at_s: float, occupied: set[int]) -> None:
        self._used_s[lane] = at_s
        if self._entered.get(lane):
            self._entered[lane].pop(0)
        else:
            self._take_from_beside(lane, at_s, occupied)

    def _stand_at_line(self, lane: int, at_s: float, occupied: set[int]) -> None:
        self._used_s[lane] = at_s
        entered = self._entered.setdefault(lane, [])
        latest_s = at_s - float(self._way_s[lane])
        if entered:
            entered[0] = min(entered[0], latest_s)
        else:
            came_s = self._take_from_beside(lane, at_s, occupied)
            entered.append(latest_s if came_s is None else min(came_s, latest_s))

    def _take_from_beside(self, lane: int, at_s: float, occupied: set[int]) -> float | None:
        """When the vehicle came that must have changed from a lane beside; None where none can
        have. One at whose stop line nobody stands rather than others.
        """
        due_s = {
            other: at_s - self._entered[other][0] - float(self._way_s[other])
            for other in self._road[lane]
            if self._entered.get(other)
        }
        possible = [other for other in due_s if due_s[other] >= -EARLY_S]
        if not possible:
            return None
        chosen = max(possible, key=lambda other: (other not in occupied, due_s[other]))
        return self._entered[chosen].pop(0)

    def _forget_overdue(self, at_s: float) -> None:
        for lane, entered in self._entered.items():
            if entered:
                due_s = entered[0] + float(self._way_s[lane])
                if at_s - max(due_s, self._used_s.get(lane, due_s)) > OVERDUE_S:
                    entered.pop(0)

    def _between(self, at_s: float) -> Vehicles:
        rows = [
            (lane, place, since)
            for lane, entered in self._entered.items()
            for place, since in enumerate(entered)
        ]
        lane = np.array([row[0] for row in rows], np.int32)
        queued_m = FIRST_M + SPACING_M * np.array([row[1] for row in rows], np.float64)
        since_s = at_s - np.array([row[2] for row in rows], np.float64)
        speed_mps = ADVANCE_M / self._way_s[lane]
        free_m = ADVANCE_M - since_s * speed_mps
        drives = free_m > queued_m
        return Vehicles(
            lane,
            self._link[lane],
            np.where(drives, free_m, queued_m),
            np.where(drives, speed_mps, 0.0),
            np.where(drives, 0.0, (queued_m - free_m) / speed_mps),
            np.full(len(rows), SPACING_M),
            np.zeros(len(rows), np.bool_),
        )
