"""Priority for emergency vehicles: which group each junction has to serve now, and until when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from headway.values import EmergencyVehicle, Event

LOOK_AHEAD_S = 30.0
SLOWEST_MPS = 8.0
LONGEST_HOLD_S = 120.0


@dataclass
class Priority:
    """Keeps the vehicles that claim priority, by junction. group_junction: int (groups,); names: of
    the junctions.
    """

    group_junction: np.ndarray
    names: tuple[str, ...]
    _serving: dict[int, tuple[str, float]] = field(default_factory=dict)

    @property
    def busy(self) -> bool:
        return bool(self._serving)

    def claims(
        self, vehicles: Sequence[EmergencyVehicle], now: float
    ) -> tuple[dict[int, int], list[Event]]:
        """The group to be served at each junction, and what began or ended.

        A junction serves the vehicle that is there first (by its speed, at least SLOWEST_MPS), from
        LOOK_AHEAD_S before it comes until it has passed; a vehicle that stays longer than
        LONGEST_HOLD_S loses its claim.
        """
        wanted: dict[int, tuple[float, str, int]] = {}
        for vehicle in vehicles:
            speed = (
                max(vehicle.speed_mps, SLOWEST_MPS)
                if np.isfinite(vehicle.speed_mps)
                else SLOWEST_MPS
            )
            for group, distance in vehicle.ahead:
                eta = distance / speed
                if (
                    not (0 <= group < len(self.group_junction))
                    or not np.isfinite(eta)
                    or eta > LOOK_AHEAD_S
                ):
                    continue
                junction = int(self.group_junction[group])
                if junction not in wanted or self._rank(junction, eta, vehicle.id) < self._rank(
                    junction, *wanted[junction][:2]
                ):
                    wanted[junction] = (eta, vehicle.id, group)
        events = []
        for junction, (name, _) in list(self._serving.items()):
            if junction not in wanted or wanted[junction][1] != name:
                events.append(
                    Event(now, "safety.emergency_ended", self.names[junction], {"vehicle": name})
                )
                del self._serving[junction]
        claims = {}
        for junction, (eta, name, group) in wanted.items():
            if junction not in self._serving:
                self._serving[junction] = (name, now)
                events.append(
                    Event(
                        now,
                        "safety.emergency",
                        self.names[junction],
                        {"vehicle": name, "group": group, "eta_s": round(eta, 2)},
                    )
                )
            if now - self._serving[junction][1] <= LONGEST_HOLD_S:
                claims[junction] = group
        return claims, events

    def _rank(self, junction: int, eta: float, name: str) -> tuple[float, str]:
        """First come first; the one being served is not put back for another of nearly the same
        time.
        """
        return (
            eta - 3.0 * (junction in self._serving and self._serving[junction][0] == name),
            name,
        )
