"""One run of a street for agents that learn: SUMO, the gate, and the stage that each junction aims
at.
"""

from __future__ import annotations

import math
import threading
from typing import ClassVar

import numpy as np

from headway.control import Controller
from headway.control.stages import StageTable, may_change
from headway.plants.sumo import SumoPlant, SumoSettings
from headway.roads import Network, Timing
from headway.safety import SafetyGate
from headway.values import BoolArray, Event, FloatArray, IntArray, Observation, Proposal

TICK_S = 1.0


class Episode:
    """One run, second by second, through the gate that every street has.

    target:      int (junctions,), the stage that each aims at.
    since_s:     float (junctions,), the simulated second in which it was chosen.
    free:        bool (junctions,), may choose a stage now: the one that it aims at is shown, and
        each of its greens has lasted its minimum.
    observation: of now.

    SUMO runs in this process, which has room for one: an Episode that begins while another is open
    raises RuntimeError. end_s: the simulated second in which it is over; inf for when the last
    vehicle has left.
    """

    _open: ClassVar[Episode | None] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self,
        network: Network,
        timing: Timing,
        *,
        settings: SumoSettings,
        end_s: float = math.inf,
        others: Controller | None = None,
        learns: BoolArray | None = None,
    ) -> None:
        self.network, self.timing = network, timing
        self._end_s = end_s
        self._begin()
        try:
            self.plant = SumoPlant(settings, network)
        except BaseException:
            self._end()
            raise
        try:
            self.plant.steps_in(TICK_S)
            self.table = StageTable(network, timing)
            self._gate = SafetyGate(network, timing, self.plant.time_s)
            self._sure = np.ones(len(network.junctions))
            self._learns = np.ones(len(network.junctions), np.bool_) if learns is None else learns
            self._learns_group = self._learns[network.group_junction]
            self.observation: Observation = self.plant.observe()
            self._others = None if self._learns.all() else others
            self._others_state = self._others and self._others.start(self.observation)
            n = len(network.junctions)
            self.target: IntArray = np.zeros(n, np.int32)
            self.since_s: FloatArray = np.full(n, self.plant.time_s)
            self.events: list[Event] = []
            self.free: BoolArray = np.zeros(n, np.bool_)
            self._advance()  # the first stage begins
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        with Episode._lock:
            if Episode._open is not None:
                raise RuntimeError(
                    "SUMO runs in this process already, for another environment. Close that one "
                    "first, or give each a new process "
                    '(gymnasium.vector.AsyncVectorEnv(..., context="spawn")).'
                )
            Episode._open = self

    def _end(self) -> None:
        with Episode._lock:
            if Episode._open is self:
                Episode._open = None

    @property
    def is_over(self) -> bool:
        if self.plant.time_s >= self._end_s:
            return True
        return math.isinf(self._end_s) and not self.plant.running

    def choose(self, junction: int, stage: int) -> str:
        """Aim at another stage; why that is refused, empty where it is not."""
        if not 0 <= stage < int(self.table.count[junction]):
            return f"there is no stage {stage}, only 0 to {int(self.table.count[junction]) - 1}"
        if stage == self.target[junction]:
            return ""
        if not self.free[junction]:
            return "the stage aimed at is not shown yet, or has not lasted its minimum green"
        self.target[junction] = stage
        self.since_s[junction] = self.plant.time_s
        return ""

    def mask(self, junction: int) -> BoolArray:
        """(stages,): those that `choose` would take now."""
        allowed = np.full(int(self.table.count[junction]), bool(self.free[junction]))
        allowed[self.target[junction]] = True
        return allowed

    def run(self, seconds: int) -> None:
        """That many seconds, or fewer where the run is over before. `events` are the gate's since
        then.
        """
        self.events = []
        for _ in range(seconds):
            if self.is_over:
                return
            self._advance()

    def _advance(self) -> None:
        seen = self.observation
        wanted = self.table.wanted_after_min_green(self.target, seen)
        if self._others is not None:
            proposal, self._others_state = self._others.step(seen, self._others_state)
            wanted = np.where(self._learns_group, wanted, proposal.wanted)
        proposal = Proposal(seen.at_s, "agents", wanted, self._sure)
        command = self._gate.admit(proposal, self.plant.time_s, seen)
        self.events.extend(command.interventions)
        self.plant.apply(command)
        self.plant.advance(TICK_S)
        self.observation = self.plant.observe()
        self.free = may_change(self.network, self.timing, self.target, self.table, self.observation)

    def close(self) -> None:
        """End SUMO; a second time does nothing."""
        if Episode._open is self:
            try:
                self.plant.close()
            finally:
                self._end()
