"""What sources may cause beside vehicles: calls of pedestrians, and priority of emergency vehicles.
Both are bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from headway.roads import Colour, Network
from headway.street.external.sources import USED_FROM, Source
from headway.values import EmergencyVehicle, Event, IntArray, Observation

CALL_KEPT_S = 300.0  # a pedestrian's call that nobody served
CLAIM_KEPT_S = 5.0  # an emergency vehicle of which nothing more is heard
PASSED_M = 10.0  # beyond the stop line
EMERGENCY_S = 120.0  # of claims that a source may make at a junction at once
EMERGENCY_AGAIN_S = 900.0  # in which spent claims are earned again
GO = int(Colour.PERMISSIVE)  # an enum's own are slow to look up


@dataclass(frozen=True, slots=True)
class Claim:
    """An emergency vehicle as a source reported it last. groups: it will take one of them."""

    vehicle: str
    groups: tuple[int, ...]
    at_s: float
    distance_m: float
    speed_mps: float

    def left_m(self, now_s: float) -> float:
        """Metres to the stop line by now."""
        return self.distance_m - self.speed_mps * max(now_s - self.at_s, 0.0)

    def is_live(self, now_s: float) -> bool:
        return now_s - self.at_s <= CLAIM_KEPT_S and self.left_m(now_s) >= -PASSED_M


class Calls:
    """Pedestrians' calls: each waits until its crossing has been green."""

    def __init__(self) -> None:
        self._since_s: dict[int, float] = {}  # by signal group

    def add(self, group: int, at_s: float) -> None:
        self._since_s.setdefault(group, at_s)

    def with_calls(self, own: Observation) -> IntArray:
        """Pedestrians who wait, with those who called from outside, (groups,)."""
        if not self._since_s:
            return own.waiting_persons
        self._since_s = {
            group: since_s
            for group, since_s in self._since_s.items()
            if own.shown[group] < GO and own.at_s - since_s <= CALL_KEPT_S
        }
        persons = own.waiting_persons.copy()
        for group in self._since_s:
            persons[group] = max(int(persons[group]), 1)
        return persons


class Emergencies:
    """The emergency vehicles of all sources. Each source may claim priority at a junction for
    EMERGENCY_S, and earns it again in EMERGENCY_AGAIN_S.
    """

    def __init__(self, network: Network, record: Callable[[Event], None]) -> None:
        self._network = network
        self._record = record

    def of(
        self, sources: Iterable[Source], now_s: float, period_s: float
    ) -> tuple[EmergencyVehicle, ...]:
        """Those of sources that are trusted, and may still claim priority at their junction."""
        found = []
        for source in sources:
            if source.emergencies or source.emergency_used_s:
                found += self._of_source(source, now_s, period_s)
            else:
                source.claims.add(period_s, 0.0)
        return tuple(found)

    def _of_source(self, source: Source, now_s: float, period_s: float) -> list[EmergencyVehicle]:
        source.emergencies = {n: c for n, c in source.emergencies.items() if c.is_live(now_s)}
        claims = source.emergencies.values()
        junctions = {self._network.groups[claim.groups[0]].junction for claim in claims}
        spent = {j for j in junctions if self._is_spent(source, j, now_s)}
        _charge(source, junctions - spent, period_s)
        source.claims.add(0.0 if spent else period_s, period_s if spent else 0.0)
        if source.own_weight < USED_FROM:
            return []
        return [
            EmergencyVehicle(
                f"{source.name}/{claim.vehicle}",
                claim.speed_mps,
                tuple((group, max(claim.left_m(now_s), 0.0)) for group in claim.groups),
            )
            for claim in claims
            if self._network.groups[claim.groups[0]].junction not in spent
        ]

    def _is_spent(self, source: Source, junction: int, now_s: float) -> bool:
        """It has claimed priority there for too long; recorded once."""
        if junction in source.spent:
            return True
        if source.emergency_used_s.get(junction, 0.0) < EMERGENCY_S:
            return False
        source.spent.add(junction)
        data = {"source": source.name, "claimed_s": EMERGENCY_S}
        name = self._network.junctions[junction].id
        self._record(Event(now_s, "sensing.claims_refused", name, data))
        return True


def _charge(source: Source, junctions: set[int], period_s: float) -> None:
    """Claims cost what they last; they are earned again in EMERGENCY_AGAIN_S."""
    earned_s = period_s * EMERGENCY_S / EMERGENCY_AGAIN_S
    for junction, used_s in list(source.emergency_used_s.items()):
        source.emergency_used_s[junction] = used_s - earned_s
        if used_s <= earned_s:
            del source.emergency_used_s[junction]
            source.spent.discard(junction)
    for junction in junctions:
        used_s = source.emergency_used_s.get(junction, 0.0)
        source.emergency_used_s[junction] = used_s + period_s
