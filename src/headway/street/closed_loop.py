"""One street: its plant, its controller, its gate; the tick that ties them, and the slower
optimisation cycle.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from headway.control import Controller
from headway.control.catalogue import controller
from headway.control.confidence import freshness
from headway.control.stages import GO
from headway.plants.sumo import SumoPlant, SumoSettings
from headway.roads import Network, Timing
from headway.safety import SafetyGate, Source
from headway.street.board import JunctionState
from headway.values import ColourArray, Event, Observation, Proposal, Vehicles

MOST_CHANGES = 100_000
DETECTOR_M = 6.0


@dataclass
class Durations:
    """Wall time of the parts of the last 7,200 ticks, seconds; one row a tick: observe, decide,
    gate, apply, advance.
    """

    rows: deque[tuple[float, float, float, float, float]] = field(
        default_factory=lambda: deque(maxlen=7200)
    )

    def table(self) -> np.ndarray[Any, Any]:
        return np.array(self.rows).reshape(-1, 5)


@dataclass
class Outlook:
    """What the street keeps from second to second, besides plant and gate; all of it goes into a
    checkpoint.
    """

    controller: Any
    fallback: Any
    arrived: np.ndarray[Any, Any]
    next_cycle_s: float
    cycles: int = 0
    low: np.ndarray[Any, Any] | None = None


class Street:
    """The closed loop of one street. `record` takes every event, in order."""

    def __init__(
        self,
        network: Network,
        timing: Timing,
        plant: SumoPlant,
        by: Controller,
        fallback: Controller,
        record: Callable[[Event], None],
        cycle_s: float = 30.0,
        confidence: float = 0.4,
    ) -> None:
        self.network = network
        self.plant = plant
        self.controller = by
        self.fallback = fallback
        self._record = record
        self.cycle_s, self.confidence = cycle_s, confidence
        self.gate = SafetyGate(network, timing, plant.time_s)
        self.seen = plant.observe()
        self.outlook = Outlook(
            by.start(self.seen),
            fallback.start(self.seen),
            np.zeros(len(network.links), np.int64),
            plant.time_s + cycle_s,
        )
        self._junction = network.group_junction
        self._link_group = np.array([x.group for x in network.links], np.int32)
        self._failing = ""
        self.confident: np.ndarray[Any, Any] | None = None
        self.durations = Durations()
        self.recording = False  # whether somebody takes these, both since they were taken last:
        self.changes: list[tuple[float, int, int]] = []  # (time s, signal group, colour)
        self.actuations: list[
            tuple[float, int, bool]
        ] = []  # (time s, signal group, somebody is at its stop line, or waits to cross)
        self._occupied = np.zeros(len(network.groups), np.bool_)

    def tick(self, period_s: float = 1.0) -> None:
        """Observe, decide, gate, apply, advance: once."""
        clock = time.perf_counter
        t0 = clock()
        seen = self.seen = sound(self.plant.observe(), self.network)
        t1 = clock()
        proposal, fallback = self._decide(seen)
        t2 = clock()
        command = self.gate.admit(proposal, seen.at_s, seen, fallback)
        t3 = clock()
        for event in command.interventions:
            self._record(event)
        if self.recording:
            self._note(command.colours, seen)
        self.plant.apply(command)
        t4 = clock()
        self.plant.advance(period_s)
        t5 = clock()
        self.durations.rows.append((t1 - t0, t2 - t1, t3 - t2, t4 - t3, t5 - t4))

    def _note(self, colours: ColourArray, seen: Observation) -> None:
        """Keep, for the record, which groups change their colour, and when the last metres before a
        stop line are reached and left.
        """
        now = occupied(
            seen.vehicles.link, seen.vehicles.distance_m, self._link_group, len(self._occupied)
        ) | (seen.waiting_persons > 0)
        if (
            len(self.changes) + len(self.actuations) < MOST_CHANGES
        ):  # no more of them where nobody takes them after all
            self.changes += [
                (seen.at_s, g, int(colours[g]))
                for g in np.flatnonzero(colours != self.plant.shown).tolist()
            ]
            self.actuations += [
                (seen.at_s, g, bool(now[g])) for g in np.flatnonzero(now != self._occupied).tolist()
            ]
        self._occupied = now

    def _decide(self, seen: Observation) -> tuple[Proposal | None, Proposal | None]:
        """The controller's proposal, with the junctions that it is not sure of left to the
        fallback, and the fallback's.
        """
        self.outlook.arrived += seen.arrived
        proposal = self._propose(seen)
        self.confident = proposal.confidence if proposal is not None else None
        fresh, doubt = freshness(self.plant.time_s - seen.at_s), False
        if proposal is not None:
            doubt = doubtful(proposal.confidence, seen.completeness, fresh, self.confidence)
        if seen.at_s >= self.outlook.next_cycle_s - 1e-6:
            self._cycle(seen, proposal)
        if (
            proposal is not None
            and not doubt
            and self.outlook.low is None
            and self.gate.source is Source.CONTROLLER
        ):
            return proposal, None
        fallback = self._fall_back(seen)
        if proposal is not None:
            score = proposal.confidence * seen.completeness * fresh
            low = ~(score >= self.confidence)
            self._tell_low(seen, low, score, proposal)
            proposal = replace(
                proposal, wanted=np.where(low[self._junction], fallback.wanted, proposal.wanted)
            )
        return proposal, fallback

    def _propose(self, seen: Observation) -> Proposal | None:
        """The controller is not trusted: one that raises or talks nonsense counts as silent; what
        it raised is recorded.
        """
        try:
            proposal, self.outlook.controller = self.controller.step(seen, self.outlook.controller)
        except Exception as error:
            if self._failing != repr(error):
                self._failing = repr(error)
                where = traceback.extract_tb(error.__traceback__)[-1]
                data = {
                    "controller": self.controller.name,
                    "error": repr(error),
                    "at": f"{Path(where.filename).name}:{where.lineno}",
                }
                self._record(Event(seen.at_s, "engine.controller_failed", "", data))
            return None
        if not self.gate.is_sound(proposal, seen.at_s):
            return None
        if self._failing:
            self._failing = ""
            self._record(
                Event(
                    seen.at_s,
                    "engine.controller_recovered",
                    "",
                    {"controller": self.controller.name},
                )
            )
        return proposal

    def _fall_back(self, seen: Observation) -> Proposal:
        """The fallback is asked only when it is needed; it is told all arrivals since it was asked
        last.
        """
        told = replace(seen, arrived=self.outlook.arrived)
        proposal, self.outlook.fallback = self.fallback.step(told, self.outlook.fallback)
        self.outlook.arrived = np.zeros_like(self.outlook.arrived)
        return proposal

    def _cycle(self, seen: Observation, proposal: Proposal | None) -> None:
        """The optimisation cycle: flows and splits of the fallback anew, and a line in the
        record.
        """
        begun = time.perf_counter()
        self._fall_back(seen)
        ticks = np.array(list(islice(reversed(self.durations.rows), int(self.cycle_s)))).reshape(
            -1, 5
        )
        halted = int((seen.vehicles.speed_mps < 0.1).sum())
        self.outlook.cycles += 1
        self.outlook.next_cycle_s += self.cycle_s
        data = {
            "cycle": self.outlook.cycles,
            "vehicles": len(seen.vehicles),
            "halted": halted,
            "source": self.gate.source.name.lower(),
            "decide_ms": round(float(ticks[:, 1].mean() * 1e3), 3) if len(ticks) else 0.0,
            "processing_ms": round((time.perf_counter() - begun) * 1e3, 3),
        }
        if proposal is not None:  # of the least sure junction, with each factor
            least = int(np.argmin(proposal.confidence))
            data["confidence"] = round(float(proposal.confidence[least]), 3)
            if proposal.why:
                data["least_sure"] = self.network.junctions[least].id
                data |= {
                    name: round(float(factor[least]), 3) for name, factor in proposal.why.items()
                }
        self._record(Event(seen.at_s, "engine.cycle", "", data))

    def _tell_low(
        self, seen: Observation, low: np.ndarray[Any, Any], score: Any, proposal: Proposal
    ) -> None:
        before = self.outlook.low if self.outlook.low is not None else np.zeros_like(low)
        for j in np.flatnonzero(low != before).tolist():
            kind = "engine.fallback" if low[j] else "engine.fallback_ended"
            data = {
                "confidence": round(float(score[j]), 3),
                "threshold": self.confidence,
                "fallback": self.fallback.name,
            }
            data |= {name: round(float(factor[j]), 3) for name, factor in proposal.why.items()}
            self._record(Event(seen.at_s, kind, self.network.junctions[j].id, data))
        self.outlook.low = low if low.any() else None

    def junctions(self) -> tuple[JunctionState, ...]:
        """Each junction as it was at the last tick."""
        v, junctions = self.seen.vehicles, self.network.junctions
        known = v.link >= 0
        group = self._link_group[v.link[known]]
        where = self._junction[group[group >= 0]]
        halted = (v.speed_mps[known] < 0.1)[group >= 0]
        longest, n = np.zeros(len(junctions)), len(junctions)
        np.maximum.at(longest, where, v.waiting_s[known][group >= 0])
        count, standing = np.bincount(where, minlength=n), np.bincount(where[halted], minlength=n)
        lit = self.gate.shown >= GO
        return tuple(
            JunctionState(
                j.id,
                self.seen.at_s,
                int(count[i]),
                int(standing[i]),
                float(longest[i]),
                tuple(np.flatnonzero(lit[j.first : j.end]).tolist()),
                float(self.confident[i]) if self.confident is not None else 0.0,
            )
            for i, j in enumerate(junctions)
        )

    def put_in_charge(self, by: Controller) -> None:
        """Another controller, from its start, from the next tick on."""
        self.controller, self.outlook.controller = by, by.start(self.seen)

    def stand_in(self, fallback: Controller) -> None:
        """Another fallback, from its start."""
        self.fallback, self.outlook.fallback = fallback, fallback.start(self.seen)

    def state(self) -> dict[str, Any]:
        """All that a restart needs besides the plant's own state."""
        return {
            "gate": self.gate.state(),
            "outlook": self.outlook,
            "controller": self.controller.name,
            "fallback": self.fallback.name,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Take up a state from `state`; the plant must have been restored before. The signals are
        shown anew.

        The state of a controller that is not in charge any more is left aside; the new one starts
        afresh.
        """
        self.gate.resume(state["gate"])
        self.plant.show(self.gate.shown, self.gate.shown_since)
        self.seen = self.plant.observe()
        self.outlook = state["outlook"]
        if state["controller"] != self.controller.name:
            self.put_in_charge(self.controller)
        if state["fallback"] != self.fallback.name:
            self.stand_in(self.fallback)


def sound(seen: Observation, network: Network) -> Observation:
    """The observation without what cannot be: numbers that are none, places that do not exist,
    speeds beyond reason.

    Each rejected row lowers the completeness of all junctions by its share.
    """
    v = seen.vehicles
    if all_sound(
        v.lane,
        v.link,
        v.distance_m,
        v.speed_mps,
        v.waiting_s,
        len(network.lanes),
        len(network.links),
    ):
        return seen
    good = (
        (v.distance_m > -20.0)
        & (v.distance_m < 5000.0)
        & (v.speed_mps >= 0.0)
        & (v.speed_mps < 100.0)
        & (v.waiting_s >= 0.0)
    )
    good &= (
        (v.lane < len(network.lanes))
        & (v.lane >= -1)
        & (v.link < len(network.links))
        & (v.link >= -1)
    )
    share = float(good.mean())
    kept = Vehicles(
        *(
            getattr(v, name)[good]
            for name in (
                "lane",
                "link",
                "distance_m",
                "speed_mps",
                "waiting_s",
                "length_m",
                "emergency",
            )
        )
    )
    return replace(seen, vehicles=kept, completeness=seen.completeness * share)


@njit(cache=True)
def occupied(link, distance, link_group, groups):  # type: ignore[no-untyped-def]
    """(groups,): a vehicle of the group is within DETECTOR_M of its stop line."""
    out = np.zeros(groups, np.bool_)
    for i in range(len(link)):
        if link[i] >= 0 and 0.0 <= distance[i] <= DETECTOR_M and link_group[link[i]] >= 0:
            out[link_group[link[i]]] = True
    return out


@njit(cache=True)
def doubtful(confidence, completeness, fresh, threshold):  # type: ignore[no-untyped-def]
    """Whether some junction's confidence, with what is known of the observation, is below the
    threshold, or no number.
    """
    sure = True
    for j in range(len(confidence)):
        sure &= confidence[j] * completeness[j] * fresh >= threshold
    return not sure


@njit(cache=True)
def all_sound(lane, link, distance, speed, wait, lanes, links):  # type: ignore[no-untyped-def]
    """Whether every row is within what `sound` keeps."""
    for i in range(len(lane)):
        good = -20.0 < distance[i] < 5000.0 and 0.0 <= speed[i] < 100.0 and wait[i] >= 0.0
        if not (good and -1 <= lane[i] < lanes and -1 <= link[i] < links):
            return False
    return True


def open_street(
    network: Network,
    timing: Timing,
    sumo: SumoSettings,
    by: str,
    record: Callable[[Event], None],
    fallback: str = "webster",
    cycle_s: float = 30.0,
    confidence: float = 0.4,
) -> Street:
    """Start SUMO and the controller called `by` on it; the compiled parts are made ready before the
    first tick.
    """
    if sumo.sensing == "pictures":
        from headway.rendered.plant import SeeingPlant

        plant: SumoPlant = SeeingPlant(sumo, network)
    else:
        plant = SumoPlant(sumo, network)
    try:
        deciding = controller(by, network, timing)
        street = Street(
            network,
            timing,
            plant,
            deciding,
            controller(fallback, network, timing),
            record,
            cycle_s,
            confidence,
        )
        rehearsal = SafetyGate(network, timing, plant.time_s)
        rehearsal.admit(
            deciding.step(street.seen, street.outlook.controller)[0], street.seen.at_s, street.seen
        )
    except BaseException:
        plant.close()
        raise
    return street
