"""One street: its plant, its controller, its gate; the tick that ties them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headway.control import Controller
from headway.control.catalogue import controller
from headway.plants.sumo import SumoPlant, SumoSettings
from headway.roads import Network, Timing
from headway.safety import SafetyGate
from headway.values import Event


@dataclass
class Durations:
    """Wall time of the parts of each tick, seconds; one row a tick: observe, decide, gate, apply, advance."""

    rows: list[tuple[float, float, float, float, float]] = field(default_factory=list)

    def table(self) -> np.ndarray:
        return np.array(self.rows).reshape(-1, 5)


class Street:
    """The closed loop of one street. `record` takes every event, in order."""

    def __init__(self, network: Network, timing: Timing, plant: SumoPlant, by: Controller, record: Callable[[Event], None]) -> None:
        self.network, self.plant, self.controller, self._record = network, plant, by, record
        self.gate = SafetyGate(network, timing, plant.time_s)
        self.seen = plant.observe()
        self._state: Any = by.start(self.seen)
        self.durations = Durations()

    def tick(self, period_s: float = 1.0) -> None:
        """Observe, decide, gate, apply, advance: once."""
        clock = time.perf_counter
        t0 = clock()
        seen = self.seen = self.plant.observe()
        t1 = clock()
        proposal, self._state = self.controller.step(seen, self._state)
        t2 = clock()
        command = self.gate.admit(proposal, seen.at_s, seen)
        t3 = clock()
        for event in command.interventions:
            self._record(event)
        self.plant.apply(command)
        t4 = clock()
        self.plant.advance(period_s)
        t5 = clock()
        self.durations.rows.append((t1 - t0, t2 - t1, t3 - t2, t4 - t3, t5 - t4))


def open_street(network: Network, timing: Timing, sumo: SumoSettings, by: str, record: Callable[[Event], None]) -> Street:
    """Start SUMO and the controller called `by` on it."""
    return Street(network, timing, SumoPlant(sumo, network), controller(by, network, timing), record)
