"""Priority for emergency vehicles: which group each junction has to serve now, and until when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from headway.values import EmergencyVehicle, Event, IntArray

LOOK_AHEAD_S = 30.0
SLOWEST_MPS = 8.0
LONGEST_HOLD_S = 120.0
# A vehicle that is being served goes before one that would arrive up to so much earlier.
SERVED_BONUS_S = 3.0


class Claim(NamedTuple):
    """A vehicle on its way to a signal group: seconds until it arrives, its name, the group."""

    eta_s: float
    vehicle: str
    group: int


@dataclass
class Priority:
    """The vehicles that claim priority, by junction. group_junction: int (groups,); names: of the
    junctions.
    """

    group_junction: IntArray
    names: tuple[str, ...]
    _serving: dict[int, tuple[str, float]] = field(default_factory=dict)

    @property
    def busy(self) -> bool:
        """A vehicle is being served."""
        return bool(self._serving)

    def claims(
        self, vehicles: Sequence[EmergencyVehicle], now_s: float
    ) -> tuple[dict[int, int], list[Event]]:
        """The group to be served at each junction, and what began or ended.

        A junction serves the vehicle that is there first (by its speed, at least SLOWEST_MPS), from
        LOOK_AHEAD_S before it comes until it has passed; a vehicle that stays longer than
        LONGEST_HOLD_S loses its claim.
        """
        first: dict[int, Claim] = {}
        for vehicle in vehicles:
            for claim in self._claims_of(vehicle):
                junction = int(self.group_junction[claim.group])
                held = first.get(junction)
                if held is None or self._rank(junction, claim) < self._rank(junction, held):
                    first[junction] = claim

        events = self._end_service(first, now_s) + self._begin_service(first, now_s)
        served = {
            junction: claim.group
            for junction, claim in first.items()
            if now_s - self._serving[junction][1] <= LONGEST_HOLD_S
        }
        return served, events

    def _claims_of(self, vehicle: EmergencyVehicle) -> Iterator[Claim]:
        """The claims of one vehicle on the groups that it reaches within LOOK_AHEAD_S."""
        speed_mps = SLOWEST_MPS
        if np.isfinite(vehicle.speed_mps):
            speed_mps = max(vehicle.speed_mps, SLOWEST_MPS)
        for group, distance_m in vehicle.ahead:
            eta_s = distance_m / speed_mps
            is_known = 0 <= group < len(self.group_junction)
            if is_known and np.isfinite(eta_s) and eta_s <= LOOK_AHEAD_S:
                yield Claim(eta_s, vehicle.id, group)

    def _end_service(self, first: dict[int, Claim], now_s: float) -> list[Event]:
        """End the service of vehicles that have passed or are not first any more."""
        events = []
        for junction, (vehicle, _) in list(self._serving.items()):
            if junction not in first or first[junction].vehicle != vehicle:
                data = {"vehicle": vehicle}
                events.append(Event(now_s, "safety.emergency_ended", self.names[junction], data))
                del self._serving[junction]
        return events

    def _begin_service(self, first: dict[int, Claim], now_s: float) -> list[Event]:
        events = []
        for junction, claim in first.items():
            if junction not in self._serving:
                data = {
                    "vehicle": claim.vehicle,
                    "group": claim.group,
                    "eta_s": round(claim.eta_s, 2),
                }
                events.append(Event(now_s, "safety.emergency", self.names[junction], data))
                self._serving[junction] = (claim.vehicle, now_s)
        return events

    def _rank(self, junction: int, claim: Claim) -> tuple[float, str]:
        """First come first; the one being served is not put back for another of nearly the same
        time.
        """
        serving = self._serving.get(junction)
        is_served = serving is not None and serving[0] == claim.vehicle
        return (claim.eta_s - SERVED_BONUS_S * is_served, claim.vehicle)
