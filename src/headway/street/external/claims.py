"""What sources may cause beside vehicles: calls of pedestrians, and priority of emergency vehicles.
Both are bounded, for each holder of credentials: names of sources and of vehicles cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from headway.roads import GO, Network
from headway.street.external.sources import USED_FROM, Source
from headway.values import EmergencyVehicle, Event, IntArray, Observation

CALL_KEPT_S = 300.0  # a pedestrian's call that nobody served
CLAIM_KEPT_S = 5.0  # an emergency vehicle of which nothing more is heard
PASSED_M = 10.0  # beyond the stop line
MOST_CLAIMED = 8  # vehicles of one holder at a junction at once, as many as the gate looks at
# Of claims at a junction: by one holder, and by all sources together that the settings do not list.
EMERGENCY_S = 120.0
UNLISTED_EMERGENCY_S = 240.0
EMERGENCY_AGAIN_S = 900.0  # in which what was used is earned again


@dataclass(frozen=True, slots=True)
class ClaimedVehicle:
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

    def state(self) -> dict[int, float]:
        """Since when each group is called, for a checkpoint."""
        return dict(self._since_s)

    def resume(self, state: dict[int, float]) -> None:
        """Go on from a `state`."""
        self._since_s = dict(state)

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


Key = tuple[str, int]
"""A holder, and a junction."""


class Ration:
    """Seconds that claims may last, by key: `most_s` at once, earned again in EMERGENCY_AGAIN_S.
    Who has used them up claims nothing until all are earned again.
    """

    def __init__(self, most_s: float) -> None:
        self.most_s = most_s
        self._used_s: dict[Key, float] = {}
        self._exhausted: set[Key] = set()

    def state(self) -> list[tuple[Key, float, bool]]:
        """What each has used, seconds, and whether that was all; for a checkpoint."""
        return [(key, used_s, key in self._exhausted) for key, used_s in self._used_s.items()]

    def resume(self, state: Iterable[tuple[Key, float, bool]]) -> None:
        """Go on from a `state`."""
        rows = list(state)
        self._used_s = {key: float(used_s) for key, used_s, _ in rows}
        self._exhausted = {key for key, _, is_exhausted in rows if is_exhausted}

    def earn(self, period_s: float) -> None:
        earned_s = period_s * self.most_s / EMERGENCY_AGAIN_S
        self._used_s = {key: s - earned_s for key, s in self._used_s.items() if s > earned_s}
        self._exhausted &= self._used_s.keys()

    def use(self, key: Key, period_s: float) -> None:
        self._used_s[key] = self._used_s.get(key, 0.0) + period_s

    def is_exhausted(self, key: Key) -> bool:
        return key in self._exhausted

    def becomes_exhausted(self, key: Key) -> bool:
        """True once, when nothing is left."""
        if key in self._exhausted or self._used_s.get(key, 0.0) < self.most_s:
            return False
        self._exhausted.add(key)
        return True


class Emergencies:
    """The emergency vehicles of all sources.

    count: vehicles that were not known when they were claimed, since the start.
    """

    def __init__(self, network: Network, record: Callable[[Event], None]) -> None:
        self._network = network
        self._record = record
        self._claimed: dict[Key, dict[str, tuple[Source, ClaimedVehicle]]] = {}
        self._of_holders = Ration(EMERGENCY_S)
        self._of_unlisted = Ration(UNLISTED_EMERGENCY_S)
        self.count = 0

    def state(self) -> list[list[tuple[Key, float, bool]]]:
        """What holders have used, for a checkpoint; the vehicles are claimed anew."""
        return [self._of_holders.state(), self._of_unlisted.state()]

    def resume(self, state: Iterable[Iterable[tuple[Key, float, bool]]]) -> None:
        """Go on from a `state`. Raises ValueError or TypeError for what is none."""
        of_holders, of_unlisted = state
        self._of_holders.resume(of_holders)
        self._of_unlisted.resume(of_unlisted)

    def take(self, source: Source, claimed: ClaimedVehicle) -> None:
        """A vehicle that is new or known; one beyond MOST_CLAIMED is left out until the next tick
        has dropped those that are gone.
        """
        key = (source.holder, self._network.groups[claimed.groups[0]].junction)
        own = self._claimed.setdefault(key, {})
        is_new = claimed.vehicle not in own
        if is_new and len(own) >= MOST_CLAIMED:
            return
        own[claimed.vehicle] = (source, claimed)
        self.count += is_new

    def at(
        self, sources: Iterable[Source], now_s: float, period_s: float
    ) -> tuple[EmergencyVehicle, ...]:
        """Those of sources that are trusted, and whose holder may still claim priority at their
        junction; `period_s` of it is charged.
        """
        self._claimed = {
            key: live for key, own in self._claimed.items() if (live := _live(own, now_s))
        }
        self._note_exhausted(now_s)
        self._of_holders.earn(period_s)
        self._of_unlisted.earn(period_s)
        found = list[EmergencyVehicle]()
        claim_too_much, unlisted = set[str](), set[int]()
        for key, own in self._claimed.items():
            if self._of_holders.is_exhausted(key):
                claim_too_much |= {source.name for source, _ in own.values()}
                continue
            self._of_holders.use(key, period_s)
            granted = [one for one in own.values() if self._is_granted(one[0], key[1])]
            found += [_vehicle(claimed, now_s) for _, claimed in granted]
            unlisted |= {key[1] for source, _ in granted if not source.is_listed}
        for junction in unlisted:
            self._of_unlisted.use(("", junction), period_s)
        for source in sources:
            is_right = source.name not in claim_too_much
            source.claims.add(period_s * is_right, period_s * (not is_right))
        return tuple(found)

    def _is_granted(self, source: Source, junction: int) -> bool:
        """It is trusted, and listed where those that are not have claimed too much."""
        is_open = source.is_listed or not self._of_unlisted.is_exhausted(("", junction))
        return is_open and source.own_weight >= USED_FROM

    def _note_exhausted(self, now_s: float) -> None:
        """Record, once each, who may claim nothing more."""
        for key, own in self._claimed.items():
            holder, junction = key
            if self._of_holders.becomes_exhausted(key):
                names = sorted({source.name for source, _ in own.values()})
                self._report(junction, names, holder, self._of_holders.most_s, now_s)
            if self._of_unlisted.becomes_exhausted(("", junction)):
                self._report(junction, [], "", self._of_unlisted.most_s, now_s)

    def _report(
        self, junction: int, names: list[str], holder: str, most_s: float, now_s: float
    ) -> None:
        data = {"source": ", ".join(names), "holder": holder, "claimed_s": most_s}
        name = self._network.junctions[junction].id
        self._record(Event(now_s, "sensing.claims_refused", name, data))


def _live(
    own: dict[str, tuple[Source, ClaimedVehicle]], now_s: float
) -> dict[str, tuple[Source, ClaimedVehicle]]:
    return {name: one for name, one in own.items() if one[1].is_live(now_s)}


def _vehicle(claimed: ClaimedVehicle, now_s: float) -> EmergencyVehicle:
    ahead = tuple((group, max(claimed.left_m(now_s), 0.0)) for group in claimed.groups)
    return EmergencyVehicle(claimed.vehicle, claimed.speed_mps, ahead)
