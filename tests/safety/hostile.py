"""A gate among liars: clocks, read-backs of the lamps, observations, proposals, orders and claims
that nobody should trust; and what it showed meanwhile, second by second of the true time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from headway.roads import Colour, Network, Timing, work_out
from headway.safety import Order, Override, SafetyGate
from headway.safety.audit import SignalTimeline
from headway.values import EmergencyVehicle, Event, Observation, Proposal, Vehicles
from tests.safety.builders import look, propose, stage

LETTERS = {
    Colour.FLASHING_YELLOW: "o", Colour.FLASHING_RED: "s", Colour.DARK: "O", Colour.RED: "r",
    Colour.YELLOW: "y", Colour.PERMISSIVE: "g", Colour.GREEN: "G",
}  # fmt: skip
ODD = (np.nan, np.inf, -np.inf, -1e300, 1e300, -5.0, 0.0, 1e-9)
ODD_INDICES = (-1, -(2**31), 2**31 - 1, 10_000)
History = list[tuple[float, list[int]]]


class Liars:
    """One network, one gate, and whoever lies to it; all drawn from `seed`.

    restless: share of the seconds in which something new is wanted. lies: share of the seconds in
    which each of the others lies.
    said: the gate's events, for each second played.
    """

    def __init__(
        self, network: Network, profile: Any, seed: int, restless: float, lies: float = 0.05
    ) -> None:
        self.network = network
        self.timing: Timing = work_out(network, profile)
        self.gate = SafetyGate(network, self.timing, 0.0)
        self.gate.tick_s = 1.0  # as the street sets it: the first reading may be a lie
        self._random = np.random.default_rng(seed)
        self._restless = restless
        self._lies = lies
        self.said: list[tuple[Event, ...]] = []
        self._wanted = stage(network, 0)
        self._astray_until_s = 0.0  # the clock, and by how much
        self._astray_s = 0.0

    def play(self, seconds: int) -> History:
        """(true time, colours) of each second."""
        history: History = []
        for second in range(seconds):
            true_s = float(second)
            self._order(true_s)
            self._reset(true_s)
            now_s = self._clock(true_s)
            command = self.gate.admit(self._proposal(now_s), now_s, self._observation(now_s))
            self.said.append(command.interventions)
            history.append((true_s, command.colours.tolist()))
        return history

    def _happens(self, share: float) -> bool:
        return bool(self._random.random() < share)

    def _one_of(self, things: Sequence[Any]) -> Any:
        return things[int(self._random.integers(len(things)))]

    def _clock(self, true_s: float) -> float:
        """The true time; or for a while ahead or behind, standing still, or no time at all."""
        if self._happens(self._lies / 5.0):
            self._astray_until_s = true_s + float(self._random.integers(1, 20))
            self._astray_s = float(self._one_of((-1e6, -30.0, -1.0, 0.5, 3.0, 60.0, 1e6)))
        if true_s < self._astray_until_s:
            return true_s + self._astray_s
        return float(self._one_of(ODD)) if self._happens(self._lies / 5.0) else true_s

    def _order(self, true_s: float) -> None:
        if not self._happens(0.01):
            return
        junction = int(self._random.integers(len(self.network.junctions)))
        if self._happens(0.2):
            self.gate.release(junction, "somebody", true_s)
            return
        which = int(self._random.integers(len(self.network.junctions[junction].stages)))
        until_s = true_s + float(self._one_of((-1.0, 5.0, 40.0, 300.0, 1e300)))
        order = Override(junction, self._one_of(list(Order)), until_s, "somebody", which)
        self.gate.order(order, true_s)

    def _reset(self, true_s: float) -> None:
        """Latched junctions are released again, else they would soon all be red."""
        for junction in list(self.gate.faults):
            if self._happens(0.1):
                with suppress(ValueError):  # its lamps still do not obey
                    self.gate.reset(junction, "somebody", true_s)

    def _proposal(self, now_s: float) -> Proposal | None:
        groups = len(self.network.groups)
        if self._happens(self._restless):
            nonsense = self._random.integers(-130, 130, groups).astype(np.int8)
            everything = np.full(groups, Colour.GREEN, np.int8)
            yellow = np.where(self._happens(0.5), Colour.YELLOW, self._wanted).astype(np.int8)
            some_stage = stage(self.network, int(self._random.integers(8)))
            self._wanted = self._one_of((some_stage, some_stage, nonsense, everything, yellow))
        lies: tuple[Proposal | None, ...] = (
            None,
            propose(self.network, float(self._one_of(ODD)), self._wanted),
            propose(self.network, now_s, self._wanted[:-1]),
            propose(self.network, now_s, self._wanted.astype(np.float64)),
        )
        if self._happens(self._lies):
            return self._one_of(lies)  # type: ignore[no-any-return]
        return propose(self.network, now_s, self._wanted)

    def _observation(self, now_s: float) -> Observation | None:
        if self._happens(self._lies):
            return None
        links = tuple(int(k) for k in self._random.integers(0, len(self.network.links), 5))
        seen = look(self.network, self.gate, now_s, links)
        if self._happens(self._lies):
            seen = replace(seen, vehicles=self._odd_vehicles(seen.vehicles))
        if self._happens(self._lies):
            seen = replace(seen, shown=self._odd_lamps(), at_s=float(self._one_of((now_s, *ODD))))
        if self._happens(self._lies):
            share = float(self._one_of((np.nan, -1.0, 0.4, 7.0)))
            seen = replace(seen, completeness=np.full(len(self.network.junctions), share))
        if self._happens(0.2):
            seen = replace(seen, emergencies=self._claims(), links_known=self._happens(0.5))
        return seen

    def _odd_vehicles(self, vehicles: Vehicles) -> Vehicles:
        def odd(column: Any, values: Sequence[float]) -> Any:
            lie = self._random.choice(np.array(values), len(column))
            chosen = np.where(self._random.random(len(column)) < 0.5, lie, column)
            return chosen.astype(column.dtype)

        return Vehicles(
            lane=odd(vehicles.lane, ODD_INDICES),
            link=odd(vehicles.link, ODD_INDICES),
            distance_m=odd(vehicles.distance_m, ODD),
            speed_mps=odd(vehicles.speed_mps, ODD),
            waiting_s=odd(vehicles.waiting_s, ODD),
            length_m=odd(vehicles.length_m, ODD),
            emergency=self._random.random(len(vehicles)) < 0.5,
        )

    def _odd_lamps(self) -> Any:
        groups = len(self.network.groups)
        anything = self._random.integers(-3, 7, groups).astype(np.int8)
        return self._one_of(
            (
                anything,
                np.full(groups, Colour.GREEN, np.int8),
                anything[:-1],
                anything.astype(float),
            )
        )

    def _claims(self) -> tuple[EmergencyVehicle, ...]:
        groups = (*range(len(self.network.groups)), *ODD_INDICES)
        return tuple(
            EmergencyVehicle(
                id=f"claim {self._random.integers(4)}",
                speed_mps=float(self._one_of((0.0, 14.0, *ODD))),
                ahead=((self._one_of(groups), float(self._one_of((1.0, 30.0, 200.0, *ODD)))),),
            )
            for _ in range(int(self._random.integers(1, 4)))
        )


def lines_of(network: Network, history: History) -> dict[str, SignalTimeline]:
    """The same as a record of SUMO would have it, by programme; places without a group are red."""
    found: dict[str, SignalTimeline] = {}
    for tl in {group.tl_id for group in network.groups}:
        places = [(x.index, g) for g, x in enumerate(network.groups) if x.tl_id == tl]
        width = max(place for place, _ in places) + 1
        line: SignalTimeline = []
        for time_s, colours in history:
            letters = ["r"] * width
            for place, g in places:
                letters[place] = LETTERS.get(Colour(colours[g]), "?")
            line.append((time_s, "".join(letters)))
        found[tl] = line
    return found


def spans_of(served: Sequence[set[str]]) -> dict[str, list[tuple[float, float]]]:
    """By junction, from when to when (s) it serves an emergency vehicle; served: by second."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for second, junctions in enumerate(served):
        for junction in junctions:
            own = spans.setdefault(junction, [])
            begin_s = own.pop()[0] if own and own[-1][1] == second else float(second)
            own.append((begin_s, second + 1.0))
    return spans
