"""Priority for emergency vehicles: what each junction has to show for them now.

A junction serves one vehicle at a time, the first to arrive, from early enough that its lane is
clear by then until it has passed. Nobody is trusted: each service is bounded, a vehicle that does
not come nearer though it has green loses its claim, and what cannot be is left out. Who claims, and
who is whom, is in `claimants`. Afterwards the group that has waited longest is served first, if it
has waited long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from math import inf
from typing import Any, NamedTuple

import numpy as np

from headway.roads import GO, Network
from headway.safety.arrays import NO_GROUP, NO_STAGE, Calls, Conflicts, Limits, Signals
from headway.safety.arrivals import Arrivals, Claim
from headway.safety.claimants import (
    PROGRESS_M,
    REST_S,
    Bar,
    Claimants,
    Claims,
    Exit,
    Memory,
    Service,
)
from headway.safety.clearing import Clearing
from headway.safety.kernel import CALL_MEMORY_S, EPS_S
from headway.values import ColourArray, Event, IntArray, Observation, Vehicles

# A junction is opened at least so long before the vehicle arrives, and never longer.
LOOK_AHEAD_S = 25.0
FARTHEST_S = 120.0
MARGIN_S = 5.0  # on the time that the lane needs to clear
LONGEST_SERVICE_S = 120.0
STALLED_S = 40.0  # with green, in which a vehicle comes nearer by PROGRESS_M or has stalled
# A vehicle that is being served goes before one that would arrive up to so much earlier.
SERVED_BONUS_S = 3.0
# After a service, a group that has waited so long is served first; otherwise the controller, which
# knows the queues, gives back better (decision 19).
EXIT_FROM_S = 45.0
LONGEST_EXIT_S = 30.0
UNSERVED_QUIET_S = 10.0  # between two events of one junction that serves nobody
NOWHERE: Mapping[int, str] = {}


class Traffic(NamedTuple):
    """What is known in this second; the values of `kernel` are those before its rules apply.

    closed: why, by junction that flashes or stays red: nobody is served there.
    """

    now_s: float
    observation: Observation
    signals: Signals
    calls: Calls
    closed: Mapping[int, str]


class Priority:
    """The emergency vehicles of one network."""

    def __init__(
        self, network: Network, limits: Limits, conflicts: Conflicts, clearing: Clearing
    ) -> None:
        self._network = network
        self._limits = limits
        self._clearing = clearing
        self._claimants = Claimants(network, Arrivals(network, limits, conflicts), clearing)
        self._link_group = network.link_group
        self._events: list[Event] = []
        # by junction: the vehicle that was last told to be unserved, and when
        self._unserved: dict[int, tuple[str, float]] = {}
        self._began_as: dict[int, str] = {}  # by junction: its name when its service was told

    @property
    def _memory(self) -> Memory:
        return self._claimants.memory

    @property
    def busy(self) -> bool:
        """A vehicle is being served, or was, and the junction has not returned to normal."""
        return bool(self.junctions)

    @property
    def junctions(self) -> frozenset[int]:
        """That serve a vehicle, or did and have not returned to normal."""
        return frozenset(self._memory.services) | frozenset(self._memory.exits)

    def state(self) -> Any:
        """What is remembered, for a checkpoint."""
        return deepcopy(self._memory)

    def resume(self, state: Any) -> None:
        """Go on from a `state`."""
        self._claimants.memory = deepcopy(state)
        self._began_as = {j: service.vehicle for j, service in self._memory.services.items()}

    def serve(
        self,
        observation: Observation,
        signals: Signals,
        calls: Calls,
        now_s: float,
        closed: Mapping[int, str] = NOWHERE,
    ) -> tuple[dict[int, ColourArray], dict[int, ColourArray], list[Event]]:
        """(colours wanted by junction for emergency vehicles, colours wanted by junction that
        return to normal, what began or ended).

        closed: why, by junction that flashes or stays red: nobody is served there.
        """
        traffic = Traffic(now_s, observation, signals, calls, closed)
        claims = self._claimants.claims(observation, signals, now_s)
        self._bar_stalled(claims, traffic)
        first = self._first_to_arrive(claims, traffic)
        self._end_services(first, traffic)
        self._begin_services(first, now_s)
        wanted = {
            junction: self._stage_for(claim, claims, traffic) for junction, claim in first.items()
        }
        events = self._events
        self._events = []
        return wanted, self._exits(traffic), events

    # who goes first

    def _first_to_arrive(self, claims: Claims, traffic: Traffic) -> dict[int, Claim]:
        """The claim to be served at each junction."""
        first: dict[int, Claim] = {}
        for claim in claims.values():
            if not self._is_due(claim) or self._memory.is_barred(claim, traffic.now_s):
                continue
            if claim.junction in traffic.closed:
                self._tell_unserved(claim, traffic)
                continue
            held = first.get(claim.junction)
            if held is None or self._rank(claim) < self._rank(held):
                first[claim.junction] = claim
        return first

    def _tell_unserved(self, claim: Claim, traffic: Traffic) -> None:
        """Once for a vehicle, and at most one in UNSERVED_QUIET_S at one junction."""
        now_s = traffic.now_s
        vehicle, told_s = self._unserved.get(claim.junction, ("", -inf))
        if claim.vehicle != vehicle and now_s - told_s >= UNSERVED_QUIET_S:
            self._unserved[claim.junction] = (claim.vehicle, now_s)
            data = {"vehicle": claim.vehicle, "reason": traffic.closed[claim.junction]}
            self._report("emergency_unserved", data, claim.junction, now_s)

    def _is_due(self, claim: Claim) -> bool:
        """It arrives so soon that its way must be cleared now; one that is served stays so."""
        if self._memory.is_serving(claim):
            return claim.eta_s <= FARTHEST_S
        soon_s = min(max(LOOK_AHEAD_S, claim.needed_s + MARGIN_S), FARTHEST_S)
        return claim.eta_s <= soon_s

    def _rank(self, claim: Claim) -> tuple[float, str]:
        """First come first; the one being served is not put back for another of nearly the same
        time.
        """
        return (claim.eta_s - SERVED_BONUS_S * self._memory.is_serving(claim), claim.vehicle)

    # services

    def _bar_stalled(self, claims: Claims, traffic: Traffic) -> None:
        """Bar the vehicles whose service lasts too long, or that do not move though they could."""
        now_s = traffic.now_s
        for junction, service in self._memory.services.items():
            claim = claims.get((junction, service.vehicle))
            if claim is None:
                continue
            is_green = any(traffic.signals.colour[g] >= GO for g in claim.groups)
            if not is_green or claim.distance_m <= service.nearest_m - PROGRESS_M:
                service.moved_s = now_s
                service.nearest_m = min(claim.distance_m, service.nearest_m)
            reason, rest_s = "", 0.0
            if now_s - service.began_s > LONGEST_SERVICE_S:
                reason, rest_s = "too_long", REST_S
            elif now_s - service.moved_s > STALLED_S:
                reason = "stalled"
            if reason:
                bar = Bar(now_s + rest_s, claim.distance_m - PROGRESS_M)
                if claim.distance_m <= PROGRESS_M:
                    bar = Bar(now_s + REST_S, inf)  # it stands at its line, and cannot come nearer
                self._memory.bars[junction, service.vehicle] = bar
                data = self._named(junction, service) | {"reason": reason}
                self._report("emergency_barred", data, junction, now_s)

    def _end_services(self, first: dict[int, Claim], traffic: Traffic) -> None:
        """End the service of vehicles that have passed or are not first any more."""
        for junction, service in list(self._memory.services.items()):
            if junction not in first or first[junction].vehicle != service.vehicle:
                del self._memory.services[junction]
                service.ended_s = traffic.now_s
                self._memory.past[junction, service.vehicle] = service
                self._memory.seen_s.setdefault((junction, service.vehicle), traffic.now_s)
                data = self._named(junction, service)
                if junction in traffic.closed:
                    data["reason"] = traffic.closed[junction]
                self._report("emergency_ended", data, junction, traffic.now_s)
                self._began_as.pop(junction, None)
                group = self._longest_waiting(junction, traffic)
                if group != NO_GROUP:
                    self._memory.exits[junction] = Exit(group, traffic.now_s + LONGEST_EXIT_S)

    def _begin_services(self, first: dict[int, Claim], now_s: float) -> None:
        for junction, claim in first.items():
            self._memory.exits.pop(junction, None)
            if junction not in self._memory.services:
                self._memory.services[junction] = self._service(claim, now_s)
                self._began_as[junction] = claim.vehicle
                data = {
                    "vehicle": claim.vehicle,
                    "group": claim.groups[0],
                    "eta_s": round(claim.eta_s, 2),
                    "needed_s": round(claim.needed_s, 2),
                    "vehicles_before": claim.vehicles_before,
                }
                self._report("emergency", data, junction, now_s)

    def _service(self, claim: Claim, now_s: float) -> Service:
        """A new one, or the one that was interrupted: its time counts on."""
        service = self._memory.past.pop((claim.junction, claim.vehicle), None)
        if service is None:
            service = Service(
                vehicle=claim.vehicle,
                began_s=now_s,
                nearest_m=claim.distance_m,
                moved_s=now_s,
            )
            service.see(claim)
            return service
        service.began_s += now_s - service.ended_s
        service.moved_s += now_s - service.ended_s
        return service

    def _named(self, junction: int, service: Service) -> dict[str, Any]:
        """Its name, and the one that it began as where its source calls it otherwise now."""
        began_as = self._began_as.get(junction, service.vehicle)
        renamed = {} if began_as == service.vehicle else {"began_as": began_as}
        return {"vehicle": service.vehicle} | renamed

    def _report(self, kind: str, data: dict[str, Any], junction: int, now_s: float) -> None:
        name = self._network.junctions[junction].id
        self._events.append(Event(now_s, f"safety.{kind}", name, data))

    # stages

    def _stage_for(self, claim: Claim, claims: Claims, traffic: Traffic) -> ColourArray:
        """The colours for the vehicle that is being served."""
        service = self._memory.services[claim.junction]
        also = [
            other.groups[0]
            for other in claims.values()
            if other.junction == claim.junction and self._is_due(other)
        ]
        service.stage = self._best(
            junction=claim.junction,
            queue=claim.queue,
            also=also,
            present=service.stage,
            traffic=traffic,
        )
        return self._clearing.colours(claim.junction, service.stage)

    def _best(
        self,
        junction: int,
        queue: Sequence[int],
        also: Sequence[int],
        present: int,
        traffic: Traffic,
    ) -> int:
        own = self._network.junctions[junction].groups
        return self._clearing.best(
            junction=junction,
            queue=queue,
            also=also,
            shown=traffic.signals.colour[own.start : own.stop],
            present=present,
            demand=self._demand(traffic.observation.vehicles)[own.start : own.stop],
        )

    def _demand(self, vehicles: Vehicles) -> IntArray:
        """Vehicles before each group, (groups,)."""
        links = vehicles.link[(vehicles.link >= 0) & (vehicles.link < len(self._link_group))]
        groups = self._link_group[links]
        counts = np.bincount(groups[groups >= 0], minlength=len(self._network.groups))
        return counts.astype(np.int32)

    # the return to normal

    def _longest_waiting(self, junction: int, traffic: Traffic) -> int:
        """The group of `junction` that has asked for green longest, at least EXIT_FROM_S; or
        NO_GROUP.
        """
        calls = traffic.calls
        waiting = [
            (calls.since_s[g], g)
            for g in self._network.junctions[junction].groups
            if traffic.signals.colour[g] < GO
            and traffic.now_s - calls.last_s[g] <= CALL_MEMORY_S
            and traffic.now_s - calls.since_s[g] >= EXIT_FROM_S
            and self._clearing.is_served(junction, [g])
        ]
        return min(waiting)[1] if waiting else NO_GROUP

    def _exits(self, traffic: Traffic) -> dict[int, ColourArray]:
        """The colours of the junctions that return to normal: the group that has waited longest has
        its minimum green first.
        """
        wanted = {}
        for junction, left in list(self._memory.exits.items()):
            if junction in traffic.closed or self._is_over(left, traffic):
                del self._memory.exits[junction]
                continue
            stage = self._best(
                junction=junction, queue=[left.group], also=[], present=NO_STAGE, traffic=traffic
            )
            wanted[junction] = self._clearing.colours(junction, stage)
        return wanted

    def _is_over(self, left: Exit, traffic: Traffic) -> bool:
        signals = traffic.signals
        shown_s = traffic.now_s - signals.since_s[left.group]
        has_had_green = (
            signals.colour[left.group] >= GO
            and shown_s + EPS_S >= self._limits.min_green_s[left.group]
        )
        return bool(has_had_green) or traffic.now_s >= left.until_s
