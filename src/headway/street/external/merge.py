"""Observations from outside, merged with what the street itself sees; who is believed, and how far.

- A vehicle that the street itself sees is never taken out. Where it does not see, one source of
  each lane counts: who sees somebody before who sees nobody, then the most trusted; of two that are
  nearly as much trusted, the one that sees more. How sure a source says it is, and how often it
  speaks, takes away nobody else's vehicles: at worst a queue is served that is not there.
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headway.plants.sumo.loops import SPACING_M
from headway.roads import GO, Network, likely_links
from headway.street.external.claims import Calls, ClaimedVehicle, Emergencies
from headway.street.external.judgement import Candidate, Road, judge
from headway.street.external.places import PlaceError, Places
from headway.street.external.rows import AgeLimits, ObservationRow, StreetClock, age_fault, fault_of
from headway.street.external.sources import USED_FROM, Source
from headway.street.external.views import LaneView, SeenVehicle, Signal, parts
from headway.values import Event, FloatArray, IntArray, Observation, Vehicles

MOST_SOURCES = 256  # of a street; of one holder:
MOST_OF_HOLDER = 64
FORGOTTEN_S = 3600.0  # wall seconds of silence
FULL_S = 2.0  # age up to which a row is fresh
NEARLY = 0.8  # trust within this factor count as equal
MATCH_M = 10.0  # a vehicle from outside within this of one's own is the same
DEFAULT_LIMITS = AgeLimits(oldest_s=10.0, ahead_s=2.0)


@dataclass(frozen=True, slots=True)
class SourceRows:
    """What one source sent.

    refused, cut: rows since its last message that had a fault, or were over the rate.
    weight:    that the settings declare.
    is_listed: the settings know it.
    """

    source: str
    rows: tuple[ObservationRow, ...] = ()
    refused: int = 0
    cut: int = 0
    weight: float = 1.0
    is_listed: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Reported:
    """An order to the street: what one holder of credentials sent for its sources.

    wall:    seconds since 1970 at arrival; received_ns: the same by the monotonic clock, which all
        processes share; 0 where there are no rows.
    """

    holder: str
    sources: tuple[SourceRows, ...]
    wall: float = 0.0
    received_ns: int = 0

    @property
    def row_count(self) -> int:
        return sum(len(own.rows) for own in self.sources)

    def __repr__(self) -> str:
        return f"Reported({self.row_count} rows of {self.holder!r})"


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
        self._calls = Calls()
        self._emergencies = Emergencies(network, record)
        self._link = likely_links(network)
        self._groups: dict[tuple[int, ...], tuple[int, ...]] = {}  # by lanes, as far as asked
        self._limit_mps = [lane.speed_mps for lane in network.lanes]
        self._group_of_lane = np.array(
            [network.links[link].group if link >= 0 else -1 for link in self._link.tolist()]
        )
        self._lanes = [
            len({x for own in roads.values() for x in own}) for roads in self.places.roads
        ]
        self._road_of: dict[int, Road] = {
            lane: (junction, road)
            for junction, roads in enumerate(self.places.roads)
            for road, lanes in roads.items()
            for lane in lanes
        }
        self._delivering: np.ndarray[Any, np.dtype[np.bool_]] | None = None
        self._merged_s = -np.inf
        self._granted = frozenset[str]()  # emergency vehicles from outside, at the last tick

    # --- what comes ---

    def take(self, message: Reported, now_s: float) -> bool:
        """A message of a holder, at the street's time `now_s`. True where it claims priority for an
        emergency vehicle that was not known. Raises ValueError where there are too many sources;
        the others are taken.
        """
        fault = None
        claims = self._emergencies.count
        for own in message.sources:
            try:
                self._take_source(own, message, now_s)
            except ValueError as error:
                fault = error
        if fault is not None:
            raise fault
        return self._emergencies.count > claims

    def _take_source(self, own: SourceRows, message: Reported, now_s: float) -> None:
        source = self._source(own, message)
        wrong = 0
        for row in own.rows:
            wrong += not self._take_row(source, row, message, now_s)
        taken, refused = len(own.rows) - wrong, own.refused + wrong
        source.taken += taken
        source.refused += refused
        source.cut += own.cut
        source.seen_wall = message.wall
        if taken + refused:
            source.validity.add(taken / (taken + refused), refused / (taken + refused))
        if taken + own.cut:
            source.rate.add(taken / (taken + own.cut), own.cut / (taken + own.cut))
        if message.received_ns and own.rows:
            source.latencies_ms.append((self._monotonic_ns() - message.received_ns) / 1e6)
            source.undecided_ns.append(message.received_ns)

    # --- checkpoints

    def state(self) -> dict[str, Any]:
        """How far each source is trusted, and the calls that wait."""
        sources = [source.memory() for source in self.sources.values()]
        used = self._emergencies.state()
        return {"sources": sources, "calls": self._calls.state(), "emergencies": used}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`. Raises ValueError for what is none."""
        groups = len(self.network.groups)
        try:
            found = [Source.of_memory(memory) for memory in state["sources"]]
            calls = {int(g): float(s) for g, s in state["calls"].items() if 0 <= g < groups}
            self._emergencies.resume(state["emergencies"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of sources from outside: {error!r}") from error
        self.sources = {source.name: source for source in found}
        self._calls.resume(calls)

    def _source(self, own: SourceRows, message: Reported) -> Source:
        found = self.sources.get(own.source)
        if found is None:
            self._forget_silent(message.wall)
            of_holder = sum(s.holder == message.holder for s in self.sources.values())
            if len(self.sources) >= MOST_SOURCES or of_holder >= MOST_OF_HOLDER:
                raise ValueError(
                    f"source {own.source!r} is one too many: a street takes {MOST_SOURCES}, "
                    f"{MOST_OF_HOLDER} of one holder"
                )
            found = self.sources[own.source] = Source(own.source, message.holder)
        found.declared, found.is_listed = own.weight, own.is_listed
        return found

    def _forget_silent(self, wall: float) -> None:
        """Names that are used no more make room for others."""
        self.sources = {
            name: source
            for name, source in self.sources.items()
            if wall - source.seen_wall <= FORGOTTEN_S
        }

    def _take_row(
        self, source: Source, row: ObservationRow, message: Reported, now_s: float
    ) -> bool:
        """False for one that this street cannot use: another scenario has been started, say."""
        if fault_of(row) or age_fault(row, self._clock_of(message, now_s), self.limits):
            return False
        try:
            junction = self.places.junction(row.junction)
            lanes = self.places.lanes(junction, row.approach) if row.approach else ()
            self.places.check_room(row, lanes)
            called = self.places.crossing_groups(row, junction) if row.pedestrian_call else ()
        except PlaceError:
            return False
        at_s = self._street_time(row, message, now_s)
        source.at_s = max(source.at_s, at_s)
        if source.own_weight * row.quality >= USED_FROM:
            for group in called:
                self._calls.add(group, at_s)
        if row.measures_traffic:
            for lane, part in zip(lanes, parts(row, len(lanes)), strict=True):
                if lane not in source.views:
                    most = self.places.most_queued(lane)
                    source.views[lane] = LaneView(self._limit_mps[lane], most)
                source.views[lane].take(part, at_s)
            source.approach(self._road_of[lanes[0]][1])
        if row.quality >= USED_FROM:  # who claims too much is found by claims that are not used
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
            own = lanes[place : place + 1] if 0 <= place < len(lanes) else lanes
            groups = self._groups_of(own)
            if groups:
                vehicle = f"{source.name}/{groups[0]}/{name}"
                claimed = ClaimedVehicle(vehicle, groups, at_s, distance_m, speed_mps)
                self._emergencies.take(source, claimed)

    def _groups_of(self, lanes: tuple[int, ...]) -> tuple[int, ...]:
        """Every signal group that these lanes lead to, the likeliest of the straight lane first."""
        if lanes not in self._groups:
            self._groups[lanes] = self._groups_from(lanes)
        return self._groups[lanes]

    def _groups_from(self, lanes: tuple[int, ...]) -> tuple[int, ...]:
        links = self.network.links
        likely = int(self._group_of_lane[self._straight(lanes)]) if lanes else -1
        found = {links[k].group for lane in lanes for k in self.network.links_from(lane)}
        rest = sorted(found - {-1, likely})
        return (likely, *rest) if likely >= 0 else tuple(rest)

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
        green_s = self._green_s(own)
        candidates = self._candidates(green_s, now_s)
        if period_s:
            judge(candidates, self._road_of, green_s, own, period_s)

        best = {lane: found for lane, all_ in candidates.items() if (found := _best(all_))}
        completeness = self._completeness(best)
        self._report_junctions(own, completeness)
        self._report_sources(now_s)
        granted = self._emergencies.at(self.sources.values(), now_s, period_s)
        self._granted = frozenset(vehicle.id for vehicle in granted)
        self._note_decision()
        return replace(
            self._with_vehicles(own, best),
            arrived=self._arrivals(own, candidates, best),
            waiting_persons=self._calls.with_calls(own),
            completeness=np.maximum(own.completeness, completeness),
            emergencies=own.emergencies + granted,
            source="plant and external" if own.completeness.any() else "external",
        )

    def with_claims(self, observation: Observation) -> Observation:
        """An observation that was merged before, with the emergency vehicles that are claimed from
        outside by now. Nothing is charged for them.
        """
        granted = self._emergencies.at(self.sources.values(), observation.at_s, 0.0)
        own = tuple(v for v in observation.emergencies if v.id not in self._granted)
        return replace(observation, emergencies=own + granted)

    def freshness(self, at_s: float, now_s: float) -> float:
        """1 up to FULL_S, 0 from the oldest that is taken on."""
        oldest_s = max(self.limits.oldest_s, FULL_S + 1e-9)
        return min(max((oldest_s - (now_s - at_s)) / (oldest_s - FULL_S), 0.0), 1.0)

    def _green_s(self, own: Observation) -> list[float]:
        """For how long the signal of each lane has been green; 0 where it is not."""
        green_s = np.where(own.shown >= GO, own.shown_for_s, 0.0)
        groups = self._group_of_lane
        found: list[float] = np.where(groups >= 0, green_s[groups], 0.0).tolist()
        return found

    def _candidates(self, green_s: list[float], now_s: float) -> dict[int, list[Candidate]]:
        """By lane, what the sources that are fresh say of it."""
        found = dict[int, list[Candidate]]()
        for source in self.sources.values():
            own_weight = source.own_weight
            for lane, view in source.views.items():
                fresh = self.freshness(view.at_s, now_s)
                if fresh <= 0.0:
                    continue
                trust = own_weight * source.approach(self._road_of[lane][1]).weight
                surety = view.quality * fresh
                vehicles = view.vehicles(now_s, Signal(green_s[lane]))
                candidate = Candidate(trust * surety, trust, surety, source, vehicles)
                found.setdefault(lane, []).append(candidate)
        return found

    def _completeness(self, best: Mapping[int, Candidate]) -> FloatArray:
        """Share of the lanes of each junction that are observed, times the weight."""
        found = np.zeros(len(self.network.junctions))
        for lane, candidate in best.items():
            junction = self._road_of[lane][0]
            found[junction] += candidate.weight / self._lanes[junction]
        return np.minimum(found, 1.0)

    def _with_vehicles(self, own: Observation, best: Mapping[int, Candidate]) -> Observation:
        """With the vehicles of the best sources that are not among one's own."""
        rows = list[tuple[int, float, float, float]]()
        for lane, candidate in best.items():
            vehicles = candidate.vehicles
            if own.completeness[self._road_of[lane][0]] > 0.0:
                vehicles = _unmatched(vehicles, own.vehicles, lane)
            rows += [(lane, *vehicle) for vehicle in vehicles]
        if not rows:
            return own
        table = np.array(rows, np.float64)
        lanes = table[:, 0].astype(np.int64)
        count = own.count + np.bincount(lanes, minlength=len(own.count))
        return replace(
            own,
            vehicles=_joined(own.vehicles, table, self._link),
            count=count.astype(np.int32),
            links_known=False,  # those of the sources are guessed from their lanes
            inside_seen=False,
        )

    def _arrivals(
        self,
        own: Observation,
        candidates: Mapping[int, list[Candidate]],
        best: Mapping[int, Candidate],
    ) -> IntArray:
        """(links,): vehicles that came, on lanes of which the street itself sees nothing as the
        best source says. What the others counted meanwhile are the same vehicles: it is dropped,
        so that nobody brings it along who becomes the best one later.
        """
        arrived = own.arrived.copy()
        for lane, found in candidates.items():
            is_seen = own.completeness[self._road_of[lane][0]] > 0.0
            for candidate in found:
                came = candidate.source.views[lane].arrived()
                if candidate is best.get(lane) and not is_seen:
                    arrived[self._link[lane]] += came  # a lane before a signal always has a link
        return arrived

    def _note_decision(self) -> None:
        """What has come by now is decided on."""
        for source in self.sources.values():
            if source.undecided_ns:
                now_ns = self._monotonic_ns()
                source.decided_ms.extend((now_ns - ns) / 1e6 for ns in source.undecided_ns)
                source.undecided_ns.clear()

    # --- what is recorded ---

    def _report_junctions(self, own: Observation, completeness: FloatArray) -> None:
        """Record junctions that nobody sees any more, and those that are seen again; once each."""
        delivering = (own.completeness > 0.0) | (completeness > 0.0)
        before = self._delivering if self._delivering is not None else np.ones_like(delivering)
        self._delivering = delivering
        for j in np.flatnonzero(delivering != before).tolist():
            kind = "sensing.restored" if delivering[j] else "sensing.lost"
            data = {"completeness": round(float(completeness[j]), 3)}
            self._record(Event(own.at_s, kind, self.network.junctions[j].id, data))

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


def _best(found: list[Candidate]) -> Candidate | None:
    """The one to be used: of those that see somebody, and are nearly as much trusted as the most
    trusted of them, who sees most.
    """
    used = [candidate for candidate in found if candidate.weight >= USED_FROM]
    seeing = [candidate for candidate in used if candidate.vehicles] or used
    if not seeing:
        return None
    most = max(candidate.trust for candidate in seeing)
    near = [candidate for candidate in seeing if candidate.trust >= NEARLY * most]
    return max(near, key=lambda c: (len(c.vehicles), c.weight))


def _unmatched(vehicles: list[SeenVehicle], own: Vehicles, lane: int) -> list[SeenVehicle]:
    """Those that are no vehicle of one's own on this lane; each of one's own stands for one."""
    free = sorted(own.distance_m[own.lane == lane].tolist())
    kept = []
    for vehicle in vehicles:
        near = next((d for d in free if abs(d - vehicle[0]) <= MATCH_M), None)
        if near is None:
            kept.append(vehicle)
        else:
            free.remove(near)
    return kept


def _joined(own: Vehicles, table: FloatArray, link: IntArray) -> Vehicles:
    """`own` and rows of (lane, metres, m/s, seconds stood)."""
    lane = table[:, 0].astype(np.int32)
    n = len(lane)
    return Vehicles(
        lane=np.concatenate([own.lane, lane]),
        link=np.concatenate([own.link, link[lane]]),
        distance_m=np.concatenate([own.distance_m, table[:, 1]]),
        speed_mps=np.concatenate([own.speed_mps, table[:, 2]]),
        waiting_s=np.concatenate([own.waiting_s, table[:, 3]]),
        length_m=np.concatenate([own.length_m, np.full(n, SPACING_M)]),
        emergency=np.concatenate([own.emergency, np.zeros(n, np.bool_)]),
    )
