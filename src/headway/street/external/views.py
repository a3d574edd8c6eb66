"""What one source knows of one lane, and the vehicles that follow from it.

Positions are used as they were sent, each moved on by its speed since. A queue is a row of vehicles
from the stop line. From detectors a queue is kept that vehicles enter behind and leave in front
(input-output: A. Sharma, D. Bullock and J. Bonneson, Transportation Research Record 2035, 2007); an
occupancy alone gives a density (P. Athol, Highway Research Record 72, 1965).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from headway.plants.sumo.loops import SPACING_M
from headway.street.external.rows import (
    AT_STOP_LINE_M,
    MOST_VEHICLES,
    ObservationRow,
    ObservedVehicle,
)
from headway.values import HALTING_MPS

FIRST_M = 1.0  # of the first standing vehicle to the stop line
APPROACH_MPS = 10.0  # of vehicles between detectors, whose speed nobody measures
ZONE_M = 50.0  # before the stop line, of a detector whose place is not given
VEHICLE_M = 4.5  # mean length of a vehicle
DETECTOR_M = 2.0  # length of a detector: an inductive loop's usual 6 feet
OCCUPIED_FROM = 0.5  # share of the time
HEADWAY_S = 2.0  # between vehicles that leave at saturation flow: 1,800 an hour
START_LOST_S = 2.0  # from the start of green to the first that leaves
STANDS_FROM = 0.9  # occupancy of a detector on which a vehicle stands
CLEAR_S = 4.0  # an empty stop line for so long: who should be there was counted in error
SILENT_S = 20.0  # without a word of the detector at the stop line, its part is modelled

NAME_KEPT_S = 5.0  # of a vehicle that a source loses for a moment
RENAMED_M = 5.0  # one that is no farther from where a lost one should be is the same

SeenVehicle = tuple[float, float, float]
"""A vehicle: metres to the stop line, m/s, seconds stood."""


class Signal(NamedTuple):
    """What the signal of a lane shows. green_s: for how long it has been green; 0 where it is
    not.
    """

    green_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LanePart:
    """What a row says of one lane. vehicles: (metres to the stop line, m/s, id), None where it
    lists none; other fields as in `ObservationRow`.
    """

    quality: float
    vehicles: tuple[tuple[float, float, str], ...] | None
    queue: int | None
    count: int | None
    occupancy: float | None
    interval_s: float
    detector_m: float


class LastPlace(NamedTuple):
    """Where a vehicle was when its source saw it last."""

    at_s: float
    distance_m: float
    speed_mps: float

    def due_m(self, at_s: float) -> float:
        """Where it should be by now; below 0 it has passed the stop line."""
        return self.distance_m - self.speed_mps * max(at_s - self.at_s, 0.0)

    def may_be_at(self, distance_m: float, speed_mps: float, at_s: float) -> bool:
        """It has become slower, or faster, all the time since."""
        least_m = min(self.speed_mps, speed_mps) * max(at_s - self.at_s, 0.0)
        return distance_m <= self.distance_m - least_m + RENAMED_M


class Names:
    """The vehicles of a lane that their source names: which of them are new. Trackers lose a
    vehicle for a moment, and find it under another name.
    """

    def __init__(self) -> None:
        self._known: dict[str, LastPlace] = {}  # in the order in which they were seen last

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._known)

    def count_new(self, named: dict[str, tuple[float, float]], at_s: float) -> int:
        """How many of `named`, (metres, m/s) by name, were never there before."""
        known = self._known
        missing = (known[name].due_m(at_s) for name in known.keys() - named.keys())
        lost = deque(sorted(due_m for due_m in missing if due_m >= 0.0))
        count = 0
        for distance_m, _ in sorted(own for name, own in named.items() if name not in known):
            while lost and lost[0] < distance_m - RENAMED_M:
                lost.popleft()
            if lost and lost[0] <= distance_m + RENAMED_M:
                lost.popleft()
            else:
                count += 1
        self._remember(named, at_s)
        return count

    def _remember(self, named: dict[str, tuple[float, float]], at_s: float) -> None:
        """Forget who has been lost for NAME_KEPT_S, or is one too many."""
        for name, (distance_m, speed_mps) in named.items():
            self._known.pop(name, None)
            self._known[name] = LastPlace(at_s, distance_m, speed_mps)
        most = len(named) + MOST_VEHICLES
        for name, vehicle in list(self._known.items()):
            if at_s - vehicle.at_s <= NAME_KEPT_S and len(self._known) <= most:
                return
            del self._known[name]


class Unnamed:
    """The vehicles of a lane that their source does not name: how many are new, by conservation
    (those that are more, and those that have passed the stop line meanwhile). A source that loses
    all of them for a moment, and finds them again, has not seen new ones.
    """

    def __init__(self) -> None:
        self._count = 0
        self._newest: list[LastPlace] = []  # those of the newest row
        self._lost: list[LastPlace] = []  # and those that it had lost

    def forget_count(self) -> None:
        """What comes next is counted from none: detectors have spoken meanwhile."""
        self._count = 0
        self._newest = []

    def count_new(self, places: list[tuple[float, float]], at_s: float) -> int:
        """How many of `places`, (metres, m/s), have come, and are where no known one should be by
        now.
        """
        known = (*self._newest, *self._lost)
        lost = deque(sorted((v for v in known if v.due_m(at_s) >= 0.0), key=_due_at(at_s)))
        left = list[LastPlace]()
        elsewhere = list[tuple[float, float]]()
        for place in sorted(places):
            while lost and lost[0].due_m(at_s) < place[0] - RENAMED_M:
                left.append(lost.popleft())
            if lost and lost[0].due_m(at_s) <= place[0] + RENAMED_M:
                lost.popleft()
            else:
                elsewhere.append(place)
        passed = self._take_passed(elsewhere, at_s)
        came = max(len(places) - self._count + passed, 0)
        self._lost = [v for v in (*left, *lost) if at_s - v.at_s <= NAME_KEPT_S][:MOST_VEHICLES]
        self._count = len(places)
        self._newest = [LastPlace(at_s, *place) for place in places]
        return min(came, len(elsewhere))

    def _take_passed(self, elsewhere: list[tuple[float, float]], at_s: float) -> int:
        """How many of the newest row have passed the stop line by now. One that braked has not: it
        is the nearest of `elsewhere`, and taken out there.
        """
        passed = 0
        due = [vehicle for vehicle in self._newest if vehicle.due_m(at_s) < 0.0]
        for vehicle in sorted(due, key=lambda v: v.distance_m):
            if elsewhere and vehicle.may_be_at(*elsewhere[0], at_s):
                elsewhere.pop(0)
            else:
                passed += 1
        return passed


def _due_at(at_s: float) -> Callable[[LastPlace], float]:
    return lambda vehicle: vehicle.due_m(at_s)


def parts(row: ObservationRow, lanes: int) -> list[LanePart]:
    """A row on each of the `lanes` of its approach: vehicles by their lane, what is without one
    evenly.
    """
    queue = row.queue
    if queue is None and row.queue_m is not None:
        queue = min(round(row.queue_m / SPACING_M), MOST_VEHICLES)
    vehicles = _by_lane(row.vehicles, lanes) if row.vehicles is not None else None
    return [
        LanePart(
            quality=row.quality,
            vehicles=None if vehicles is None else tuple(vehicles[k]),
            queue=None if queue is None else (queue + lanes - 1 - k) // lanes,
            count=None if row.count is None else (row.count + lanes - 1 - k) // lanes,
            occupancy=row.occupancy,
            interval_s=row.interval_s,
            detector_m=row.detector_m,
        )
        for k in range(lanes)
    ]


def _by_lane(vehicles: list[ObservedVehicle], lanes: int) -> list[list[tuple[float, float, str]]]:
    """Those of no known lane in turn, nearest first."""
    found: list[list[tuple[float, float, str]]] = [[] for _ in range(lanes)]
    turn = 0
    for vehicle in sorted(vehicles, key=lambda v: v.distance_m):
        lane = vehicle.lane
        if not 0 <= lane < lanes:
            lane, turn = turn % lanes, turn + 1
        found[lane].append((vehicle.distance_m, vehicle.speed_mps, vehicle.id))
    return found


class LaneView:
    """What a source knows of a lane.

    most:    vehicles that detectors may put into its queue.
    at_s:    time of the newest row, in the street's seconds; -inf before the first.
    quality: that the source gave to it.
    """

    def __init__(self, limit_mps: float, most: int = MOST_VEHICLES) -> None:
        self._most = most
        self.at_s = -math.inf
        self.quality = 0.0
        self._free_mps = min(APPROACH_MPS, limit_mps)
        # (metres, m/s), nearest first; None where detectors speak
        self._placed: list[tuple[float, float]] | None = None
        self._names = Names()
        self._unnamed = Unnamed()
        self._standing = deque[float]()  # since when each has stood, front first
        self._entered = deque[float]()  # when each passed ZONE_M, front first
        self._zone_m = ZONE_M
        self._density_veh = 0.0
        self._counts_entering = False
        self._stop_line_at_s = -math.inf  # of the newest row of a detector at the stop line
        self._occupied = False
        self._left_at_s = -math.inf
        self._clear_since_s = math.inf  # the stop line has been empty
        self._arrived = 0

    def take(self, part: LanePart, at_s: float) -> None:
        """A newer row; one older than the newest is left out."""
        if at_s < self.at_s:
            return
        if part.vehicles is not None:
            self._take_places(part.vehicles, at_s)
        elif part.queue is not None:
            places = [(FIRST_M + k * SPACING_M, 0.0, "") for k in range(part.queue)]
            self._take_places(tuple(places), at_s)
        elif part.detector_m <= AT_STOP_LINE_M:
            self._take_stop_line(part, at_s)
        else:
            self._take_advance(part, at_s)
        self.at_s, self.quality = at_s, part.quality

    def _take_places(self, vehicles: tuple[tuple[float, float, str], ...], at_s: float) -> None:
        named = {name: (metres, mps) for metres, mps, name in vehicles if name}
        unnamed = [(metres, mps) for metres, mps, name in vehicles if not name]
        if self._placed is None:
            self._unnamed.forget_count()
        self._arrived += self._names.count_new(named, at_s)
        self._arrived += self._unnamed.count_new(unnamed, at_s)
        self._placed = [(distance_m, speed_mps) for distance_m, speed_mps, _ in sorted(vehicles)]
        standing = sum(speed_mps < HALTING_MPS for _, speed_mps in self._placed)
        while len(self._standing) > standing:
            self._standing.popleft()
        self._standing.extend([at_s] * (standing - len(self._standing)))

    def _take_advance(self, part: LanePart, at_s: float) -> None:
        self._placed = None
        self._zone_m = part.detector_m
        if part.count is not None:
            self._counts_entering, self._density_veh = True, 0.0
            self._enter(part.count, at_s, part.interval_s)
            if part.occupancy is not None and part.occupancy >= STANDS_FROM:
                self._fill(at_s)
        elif part.occupancy is not None and not self._counts_entering:
            self._density_veh = part.occupancy * part.detector_m / (VEHICLE_M + DETECTOR_M)

    def _take_stop_line(self, part: LanePart, at_s: float) -> None:
        self._placed = None
        self._stop_line_at_s = at_s
        if part.count:
            for _ in range(min(part.count, len(self._entered))):
                self._entered.popleft()
            self._left_at_s = at_s
            self._arrived += 0 if self._counts_entering else part.count
        if part.occupancy is not None:
            self._occupied = part.occupancy >= OCCUPIED_FROM
            is_clear = not part.occupancy and not part.count
            self._clear_since_s = min(self._clear_since_s, at_s) if is_clear else math.inf
        if self._occupied and not self._entered:
            self._entered.append(at_s - self._zone_m / self._free_mps)

    def _enter(self, count: int, at_s: float, interval_s: float) -> None:
        """`count` vehicles passed the advance detector, evenly over the interval."""
        room = max(self._most - len(self._entered), 0)
        step_s = interval_s / max(count, 1)
        times = [at_s - interval_s + (k + 0.5) * step_s for k in range(min(count, room))]
        self._entered.extend(times)
        self._arrived += count

    def _fill(self, at_s: float) -> None:
        """The queue reaches back to the advance detector, whatever was counted."""
        standing = min(int((self._zone_m - FIRST_M) / SPACING_M) + 1, self._most)
        came_s = at_s - self._zone_m / self._free_mps
        while len(self._entered) < standing:
            self._entered.append(came_s)

    def arrived(self) -> int:
        """Vehicles that came since the last call."""
        taken, self._arrived = self._arrived, 0
        return taken

    def vehicles(self, now_s: float, signal: Signal) -> list[SeenVehicle]:
        """Those that are there now, nearest first."""
        if self._placed is not None:
            return self._moved_on(self._placed, now_s)
        if self._counts_entering or self._entered:
            self._discharge(now_s, signal)
            return self._between(now_s)
        return self._by_density(signal)

    def _moved_on(self, placed: list[tuple[float, float]], now_s: float) -> list[SeenVehicle]:
        """The positions, each moved on by its speed, but not past its place in the queue."""
        age_s = max(now_s - self.at_s, 0.0)
        since = iter(self._standing)
        found = list[SeenVehicle]()
        in_queue_m = FIRST_M
        for distance_m, speed_mps in placed:
            left_m = max(distance_m - speed_mps * age_s, min(distance_m, in_queue_m))
            stood_s = 0.0
            if speed_mps < HALTING_MPS:
                stood_s = max(now_s - next(since, now_s), 0.0)
            found.append((left_m, speed_mps, stood_s))
            in_queue_m += SPACING_M
        return found

    def _discharge(self, now_s: float, signal: Signal) -> None:
        """Take out those that have left: as the detector at the stop line said, else at saturation
        flow on green.
        """
        entered = self._entered
        if now_s - self._stop_line_at_s <= SILENT_S:
            if now_s - self._clear_since_s >= CLEAR_S:
                self._drop_until(self._clear_since_s - self._zone_m / self._free_mps)
            return
        if signal.green_s <= START_LOST_S:
            return
        begun_s = now_s - signal.green_s + START_LOST_S
        while entered:
            leaves_s = max(
                self._left_at_s + HEADWAY_S, begun_s, entered[0] + self._zone_m / self._free_mps
            )
            if leaves_s > now_s:
                return
            entered.popleft()
            self._left_at_s = leaves_s

    def _drop_until(self, entered_s: float) -> None:
        """Those that entered by then, and whom nobody has seen at the stop line: lane changes."""
        while self._entered and self._entered[0] <= entered_s:
            self._entered.popleft()

    def _between(self, now_s: float) -> list[SeenVehicle]:
        """Between the detectors: on the way at free speed, or in the queue."""
        found = list[SeenVehicle]()
        queued_m = FIRST_M
        for entered_s in self._entered:
            free_m = self._zone_m - self._free_mps * (now_s - entered_s)
            if free_m > queued_m:
                found.append((free_m, self._free_mps, 0.0))
            else:
                found.append((queued_m, 0.0, (queued_m - free_m) / self._free_mps))
            queued_m += SPACING_M
        return found

    def _by_density(self, signal: Signal) -> list[SeenVehicle]:
        """Evenly between detector and stop line; before a red signal they stand."""
        n = min(round(self._density_veh), self._most)
        if signal.green_s > 0.0:
            return [(self._zone_m * (k + 0.5) / n, self._free_mps, 0.0) for k in range(n)]
        return [(FIRST_M + SPACING_M * k, 0.0, 0.0) for k in range(n)]
