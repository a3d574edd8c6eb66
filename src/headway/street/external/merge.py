"""Observations from outside, merged with what the street itself sees; who is believed, and how far.

- A vehicle that the street itself sees is never taken out. Where it does not see, the best source
  of each lane counts: by quality, freshness and weight; of two that are nearly as good, the one
  that sees more.
- A source is judged at each approach: against the street's own view where that is complete, else
  against the median of at least three holders. Two that contradict each other are no verdict: both
  are used as above.
- A detector that reports the same standing vehicles through long greens is stuck (NTCIP 1202,
  detector diagnostics, "max presence"), whoever else is there.
- What a source may cause is bounded: a call is held until it is served, claims of emergency
  vehicles are rationed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from headway.plants.sumo.profiles import likely_links
from headway.roads import Colour, Network
from headway.street.external.places import PlaceError, Places
from headway.street.external.rows import AgeLimits, ObservationRow, StreetClock, age_fault, fault_of
from headway.street.external.sources import (
    EMERGENCY_AGAIN_S,
    EMERGENCY_S,
    ApproachTrust,
    Claim,
    Source,
)
from headway.street.external.views import SPACING_M, LaneView, Signal, parts
from headway.values import EmergencyVehicle, Event, FloatArray, IntArray, Observation, Vehicles

MOST_SOURCES = 256  # of a street; of one holder:
MOST_OF_HOLDER = 64
FULL_S = 2.0  # age up to which a row is fresh
USED_FROM = 0.3  # least weight of what is used at all
NEARLY = 0.8  # weights within this factor count as equal
MATCH_M = 10.0  # a vehicle from outside within this of one's own is the same
COMMON_M = 50.0  # before the stop line, that every kind of equipment sees
TOLERATED_VEH = 2.0  # by which two numbers of vehicles may differ and still agree; or
TOLERATED_SHARE = 0.34  # this share of the larger
STUCK_GREEN_S = 25.0  # of green in which a standing queue did not change: none lasts so long
LEAST_REFERENCE = 3  # holders whose median is a reference
CALL_KEPT_S = 300.0  # a pedestrian's call that nobody served
CLAIM_KEPT_S = 5.0  # an emergency vehicle of which nothing more is heard
NO_SIGNAL = Signal()
DEFAULT_LIMITS = AgeLimits(oldest_s=10.0, ahead_s=2.0)


@dataclass(frozen=True, slots=True, repr=False)
class Reported:
    """An order to the street: what one source sent.

    holder:  of the credentials; one vote each.
    declared: weight by the settings.
    refused, cut: rows since its last message that had a fault, or were over its rate.
    wall:    seconds since 1970 at arrival; received_ns: the same by the monotonic clock, which all
        processes share.
    """

    source: str
    holder: str
    rows: tuple[ObservationRow, ...]
    refused: int = 0
    cut: int = 0
    declared: float = 1.0
    wall: float = 0.0
    received_ns: int = 0

    def __repr__(self) -> str:
        return f"Reported({len(self.rows)} rows of {self.source!r})"


class Candidate(NamedTuple):
    """What a source says of a lane now."""

    weight: float
    source: Source
    vehicles: FloatArray


class External:
    """The sources from outside of one street.

    record:       takes events.
    limits:       ages that are taken.
    speed_factor: the street's seconds per wall second, by which wall times are converted; 0 where
        there is no relation.
    monotonic_ns: given by tests.
    """

    def __init__(
        self,
        network: Network,
        record: Callable[[Event], None],
        limits: AgeLimits = DEFAULT_LIMITS,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.network = network
        self.places = Places(network)
        self.sources: dict[str, Source] = {}
        self.speed_factor = 0.0
        self._record = record
        self.limits = limits
        self._monotonic_ns = monotonic_ns
        self._calls: dict[int, float] = {}  # by signal group, since when
        self._link = likely_links(network)
        self._limit_mps = [lane.speed_mps for lane in network.lanes]
        self._group_of_lane = [
            network.links[link].group if link >= 0 else -1 for link in self._link.tolist()
        ]
        self._lanes = [
            sorted({x for own in roads.values() for x in own}) for roads in self.places.roads
        ]
        self._road_of = {
            lane: (junction, road)
            for junction, roads in enumerate(self.places.roads)
            for road, lanes in roads.items()
            for lane in lanes
        }
        self._delivering: np.ndarray[Any, np.dtype[np.bool_]] | None = None
        self._merged_s = -np.inf

    # --- what comes ---

    def take(self, message: Reported, now_s: float) -> None:
        """A message of a source, at the street's time `now_s`. Raises ValueError where there are
        too many sources.
        """
        source = self._source(message)
        wrong = 0
        for row in message.rows:
            wrong += not self._take_row(source, row, message, now_s)
        taken, refused = len(message.rows) - wrong, message.refused + wrong
        source.taken += taken
        source.refused += refused
        source.cut += message.cut
        source.seen_wall = message.wall
        if taken + refused:
            source.validity.add(taken / (taken + refused), refused / (taken + refused))
        if taken + message.cut:
            source.rate.add(taken / (taken + message.cut), message.cut / (taken + message.cut))
        if message.received_ns:
            source.latencies_ms.append((self._monotonic_ns() - message.received_ns) / 1e6)

    def _source(self, message: Reported) -> Source:
        found = self.sources.get(message.source)
        if found is None:
            of_holder = sum(s.holder == message.holder for s in self.sources.values())
            if len(self.sources) >= MOST_SOURCES or of_holder >= MOST_OF_HOLDER:
                raise ValueError(
                    f"source {message.source!r} is one too many: a street takes {MOST_SOURCES}, "
                    f"{MOST_OF_HOLDER} of one holder"
                )
            found = self.sources[message.source] = Source(message.source, message.holder)
        found.declared = message.declared
        return found

    def _take_row(
        self, source: Source, row: ObservationRow, message: Reported, now_s: float
    ) -> bool:
        """False for one that this street cannot use: another scenario has been started, say."""
        if fault_of(row) or age_fault(row, self._clock_of(message, now_s), self.limits):
            return False
        try:
            junction = self.places.junction(row.junction)
            lanes = self.places.lanes(junction, row.approach) if row.approach else ()
            called = self.places.crossing_groups(row, junction) if row.pedestrian_call else ()
        except PlaceError:
            return False
        at_s = self._street_time(row, message, now_s)
        source.at_s = max(source.at_s, at_s)
        for group in called:
            self._calls.setdefault(group, at_s)
        if row.measures_traffic:
            for lane, part in zip(lanes, parts(row, len(lanes)), strict=True):
                if lane not in source.views:
                    source.views[lane] = LaneView(self._limit_mps[lane])
                source.views[lane].take(part, at_s)
            source.approach(self._road_of[lanes[0]][1])
        self._take_emergencies(source, row, lanes, at_s)
        return True

    def _clock_of(self, message: Reported, now_s: float) -> StreetClock:
        return StreetClock(message.wall, now_s, self.speed_factor)

    def _street_time(self, row: ObservationRow, message: Reported, now_s: float) -> float:
        """When it was measured, in the street's seconds."""
        if row.at is None:
            return min(row.at_s if row.at_s is not None else now_s, now_s)
        return now_s - max(message.wall - row.at.timestamp(), 0.0) * self.speed_factor

    def _take_emergencies(
        self, source: Source, row: ObservationRow, lanes: tuple[int, ...], at_s: float
    ) -> None:
        found = [
            (v.id or "1", v.distance_m, v.speed_mps, v.lane)
            for v in row.vehicles or ()
            if v.kind == "emergency"
        ]
        if row.emergency is not None:
            e = row.emergency
            found.append((e.id or "1", e.distance_m, e.speed_mps, -1))
        for name, distance_m, speed_mps, place in found:
            lane = lanes[place] if 0 <= place < len(lanes) else self._straight(lanes)
            group = self._group_of_lane[lane]
            if group >= 0:
                key = f"{group}/{name}"
                source.emergencies[key] = Claim(group, at_s, distance_m, speed_mps)

    def _straight(self, lanes: tuple[int, ...]) -> int:
        """The lane from which traffic most likely goes straight on; else the first."""
        links = self.network.links
        straight = [x for x in lanes if links[self._link[x]].direction in "sRL"]
        return (straight or list(lanes))[0]

    # --- what is decided on ---

    def merged(self, own: Observation) -> Observation:
        """`own` with what is known from outside. own.completeness says how far the street itself
        sees each junction.
        """
        if not self.sources and own.completeness.any():
            return own
        now_s = own.at_s
        period_s = min(max(now_s - self._merged_s, 0.0), FULL_S)
        self._merged_s = now_s
        own_counts = self._own_counts(own)
        added, arrived, completeness = (
            list[FloatArray](),
            own.arrived,
            np.zeros(len(own.completeness)),
        )
        candidates = self._candidates(own, now_s)
        self._judge(candidates, own, own_counts, period_s)

        arrivals = dict[int, int]()
        for lane, found in candidates.items():
            junction, road = self._road_of[lane]
            best = self._best(found, road)
            if best is None:
                continue
            completeness[junction] += best.weight / len(self._lanes[junction])
            rows = best.vehicles
            if own.completeness[junction] > 0.0:
                rows = _unmatched(rows, own.vehicles, lane)
            else:
                arrivals[lane] = best.source.views[lane].arrived()
            if len(rows):
                added.append(np.column_stack([np.full(len(rows), lane), rows]))
        if arrivals:
            arrived = self._with_arrivals(arrived, arrivals)
        self._report_junctions(own, completeness, now_s)
        self._report_sources(now_s)
        vehicles = _joined(own.vehicles, added, self._link)
        return replace(
            own,
            vehicles=vehicles,
            count=self._with_counts(own, added),
            arrived=arrived,
            waiting_persons=self._with_calls(own, now_s),
            completeness=np.maximum(own.completeness, np.minimum(completeness, 1.0)),
            emergencies=own.emergencies + self._emergencies(now_s, period_s),
            source="plant and external" if own.completeness.any() else "external",
        )

    def freshness(self, at_s: float, now_s: float) -> float:
        """1 up to FULL_S, 0 from the oldest that is taken on."""
        oldest_s = max(self.limits.oldest_s, FULL_S + 1e-9)
        return float(np.clip((oldest_s - (now_s - at_s)) / (oldest_s - FULL_S), 0.0, 1.0))

    def _candidates(self, own: Observation, now_s: float) -> dict[int, list[Candidate]]:
        """By lane, what the sources that are fresh say of it; the weight is without the
        approach's.
        """
        found = dict[int, list[Candidate]]()
        for source in self.sources.values():
            weight = source.own_weight
            for lane, view in source.views.items():
                fresh = self.freshness(view.at_s, now_s)
                if fresh <= 0.0:
                    continue
                table = view.vehicles(now_s, self._signal(own, lane))
                found.setdefault(lane, []).append(
                    Candidate(weight * view.quality * fresh, source, table)
                )
        return found

    def _signal(self, own: Observation, lane: int) -> Signal:
        group = self._group_of_lane[lane]
        if group < 0 or own.shown[group] < Colour.PERMISSIVE:
            return NO_SIGNAL
        return Signal(float(own.shown_for_s[group]))

    def _best(self, found: list[Candidate], road: str) -> Candidate | None:
        """The one to be used, with its weight at this approach."""
        weighed = [c._replace(weight=c.weight * c.source.approach(road).weight) for c in found]
        usable = [c for c in weighed if c.weight >= USED_FROM]
        if not usable:
            return None
        best = max(c.weight for c in usable)
        return max(
            (c for c in usable if c.weight >= NEARLY * best),
            key=lambda c: (len(c.vehicles), c.weight),
        )

    # --- who is believed ---

    def _own_counts(self, own: Observation) -> IntArray:
        """Vehicles that the street itself sees within COMMON_M, by lane."""
        v = own.vehicles
        near = (v.lane >= 0) & (v.distance_m >= 0.0) & (v.distance_m <= COMMON_M)
        return np.bincount(v.lane[near], minlength=len(self.network.lanes)).astype(np.int32)

    def _judge(
        self,
        candidates: dict[int, list[Candidate]],
        own: Observation,
        own_counts: IntArray,
        period_s: float,
    ) -> None:
        """Every source at every approach that it speaks of: against the reference, and against its
        signal.
        """
        if not period_s:
            return
        counts = dict[tuple[int, str], dict[str, tuple[Source, set[int], int, bool]]]()
        for lane, found in candidates.items():
            green = self._signal(own, lane).green_s > 0.0
            for _, source, table in found:
                near = int((table[:, 0] <= COMMON_M).sum())
                stands = bool(len(table)) and table[0, 1] == 0.0 and table[0, 0] <= 2 * SPACING_M
                at = counts.setdefault(self._road_of[lane], {})
                _, lanes, n, stuck = at.get(source.name, (source, set[int](), 0, False))
                at[source.name] = (source, lanes | {lane}, n + near, stuck or (green and stands))
        for (junction, road), at in counts.items():
            is_reference = own.completeness[junction] > 0.5
            medians = _by_holder({name: (s.holder, n) for name, (s, _, n, _) in at.items()})
            for source, lanes, n, stands_on_green in at.values():
                trust = source.approach(road)
                _note_stuck(trust, n, stands_on_green, period_s)
                reference: float | None = None
                if is_reference:
                    reference = float(own_counts[sorted(lanes)].sum())
                elif len(medians) >= LEAST_REFERENCE:
                    reference = float(np.median(medians))
                if reference is not None:
                    good = period_s * _agree(n, reference)
                    trust.agreement.add(good, period_s - good)

    # --- what is heard beside vehicles ---

    def _with_calls(self, own: Observation, now_s: float) -> IntArray:
        """Pedestrians who wait, with those who called from outside and have not had a green
        since.
        """
        if not self._calls:
            return own.waiting_persons
        self._calls = {
            group: since_s
            for group, since_s in self._calls.items()
            if own.shown[group] < Colour.PERMISSIVE and now_s - since_s <= CALL_KEPT_S
        }
        persons = own.waiting_persons.copy()
        for group in self._calls:
            persons[group] = max(int(persons[group]), 1)
        return persons

    def _emergencies(self, now_s: float, period_s: float) -> tuple[EmergencyVehicle, ...]:
        """Those of sources that are trusted, and may still claim priority at their junction."""
        found = []
        for source in self.sources.values():
            claimed = self._live_claims(source, now_s)
            junctions = {self.network.groups[claim.group].junction for _, claim, _ in claimed}
            spent = {j for j in junctions if self._is_spent(source, j, now_s)}
            self._charge(source, junctions - spent, period_s)
            source.claims.add(0.0 if spent else period_s, period_s if spent else 0.0)
            if source.own_weight < USED_FROM:
                continue
            for name, claim, left_m in claimed:
                if self.network.groups[claim.group].junction not in spent:
                    ahead = ((claim.group, left_m),)
                    found.append(EmergencyVehicle(f"{source.name}/{name}", claim.speed_mps, ahead))
        return tuple(found)

    def _live_claims(self, source: Source, now_s: float) -> list[tuple[str, Claim, float]]:
        """(vehicle, claim, metres to the stop line now) of the vehicles that are still heard of."""
        live = []
        for name, claim in list(source.emergencies.items()):
            age_s = max(now_s - claim.at_s, 0.0)
            left_m = claim.distance_m - claim.speed_mps * age_s
            if age_s > CLAIM_KEPT_S or left_m < -MATCH_M:
                del source.emergencies[name]
            else:
                live.append((name, claim, max(left_m, 0.0)))
        return live

    def _is_spent(self, source: Source, junction: int, now_s: float) -> bool:
        """It has claimed priority there for too long; recorded once."""
        if junction in source.spent:
            return True
        if source.emergency_used_s.get(junction, 0.0) < EMERGENCY_S:
            return False
        source.spent.add(junction)
        data = {"source": source.name, "claimed_s": EMERGENCY_S}
        name = self.network.junctions[junction].id
        self._record(Event(now_s, "sensing.claims_refused", name, data))
        return True

    def _charge(self, source: Source, junctions: set[int], period_s: float) -> None:
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

    # --- what is made of it ---

    def _with_arrivals(self, arrived: IntArray, by_lane: dict[int, int]) -> IntArray:
        found = arrived.copy()
        for lane, n in by_lane.items():
            if self._link[lane] >= 0:
                found[self._link[lane]] += n
        return found

    def _with_counts(self, own: Observation, added: list[FloatArray]) -> IntArray:
        if not added:
            return own.count
        lanes = np.concatenate([rows[:, 0] for rows in added]).astype(np.int64)
        return (own.count + np.bincount(lanes, minlength=len(own.count))).astype(np.int32)

    def _report_junctions(self, own: Observation, completeness: FloatArray, now_s: float) -> None:
        """Record junctions that nobody sees any more, and those that are seen again; once each."""
        delivering = (own.completeness > 0.0) | (completeness > 0.0)
        before = self._delivering if self._delivering is not None else np.ones_like(delivering)
        self._delivering = delivering
        for j in np.flatnonzero(delivering != before).tolist():
            kind = "sensing.restored" if delivering[j] else "sensing.lost"
            data = {"completeness": round(float(completeness[j]), 3)}
            self._record(Event(now_s, kind, self.network.junctions[j].id, data))

    def _report_sources(self, now_s: float) -> None:
        """Record a source that starts, is not trusted any more, falls silent, or recovers."""
        for source in self.sources.values():
            fresh = self.freshness(source.at_s, now_s)
            condition = (
                "silent"
                if fresh <= 0.0
                else "trusted"
                if source.weight >= USED_FROM
                else "distrusted"
            )
            if condition != source.condition:
                before, source.condition = source.condition, condition
                state = source.state(fresh)
                data = {"source": source.name, "condition": condition, "before": before}
                data |= {"weight": state["weight"], "factors": state["factors"]}
                self._record(Event(now_s, "sensing.source", "", data))

    def states(self, now_s: float) -> tuple[dict[str, Any], ...]:
        """Plain figures of every source, as the API shows them."""
        return tuple(s.state(self.freshness(s.at_s, now_s)) for s in self.sources.values())


def _note_stuck(trust: ApproachTrust, n: int, stands_on_green: bool, period_s: float) -> None:
    """Evidence of one period: a number of vehicles that stand on green and does not change is a
    stuck detector's.
    """
    if n != trust.stood_veh or not n:
        trust.stood_green_s = 0.0
    elif stands_on_green:
        trust.stood_green_s += period_s
    trust.stood_veh = n
    stuck = trust.stood_green_s > STUCK_GREEN_S
    trust.steadiness.add(0.0 if stuck else period_s, period_s if stuck else 0.0)


def _agree(n: int, reference: float) -> bool:
    tolerated = max(TOLERATED_VEH, TOLERATED_SHARE * max(n, reference))
    return abs(n - reference) <= tolerated


def _by_holder(counts: dict[str, tuple[str, int]]) -> list[float]:
    """One number a holder, the mean over its sources: nobody gets a majority by many names."""
    found = dict[str, list[int]]()
    for holder, n in counts.values():
        found.setdefault(holder, []).append(n)
    return [sum(own) / len(own) for own in found.values()]


def _unmatched(rows: FloatArray, own: Vehicles, lane: int) -> FloatArray:
    """The rows that are no vehicle of one's own on this lane; each of those stands for one."""
    free = sorted(own.distance_m[own.lane == lane].tolist())
    kept = []
    for row in rows:
        near = next((d for d in free if abs(d - row[0]) <= MATCH_M), None)
        if near is None:
            kept.append(row)
        else:
            free.remove(near)
    return np.array(kept).reshape(-1, 3)


def _joined(own: Vehicles, added: Iterable[FloatArray], link: IntArray) -> Vehicles:
    """`own` and rows of (lane, metres, m/s, seconds stood)."""
    blocks = list(added)
    if not blocks:
        return own
    table = np.concatenate(blocks)
    lane = table[:, 0].astype(np.int32)
    n = len(lane)
    return Vehicles(
        lane=np.concatenate([own.lane, lane]).astype(np.int32),
        link=np.concatenate([own.link, link[lane]]).astype(np.int32),
        distance_m=np.concatenate([own.distance_m, table[:, 1]]),
        speed_mps=np.concatenate([own.speed_mps, table[:, 2]]),
        waiting_s=np.concatenate([own.waiting_s, table[:, 3]]),
        length_m=np.concatenate([own.length_m, np.full(n, SPACING_M)]),
        emergency=np.concatenate([own.emergency, np.zeros(n, np.bool_)]),
    )
