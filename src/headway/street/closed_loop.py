"""One street: its plant, its controller, its gate; the tick that ties them, and the slower
optimisation cycle.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, MutableSequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headway.control import Controller
from headway.control.fixed import programme_colours
from headway.control.planner import Planner
from headway.plants.sumo import SumoPlant
from headway.roads import Network, Timing
from headway.safety import ControlSource, ObservationCheck, SafetyGate
from headway.safety.door import field_of
from headway.safety.reports import FaultChanges
from headway.street.congestion import CongestionDetector
from headway.street.durations import ADVANCE, Durations
from headway.street.external.merge import External
from headway.street.guard import (
    CONTROLLER,
    FALLBACK,
    HUNG,
    RELIEF,
    ROLES,
    STEP_WITHIN_S,
    Guard,
    name_of,
)
from headway.street.plausibility import drop_implausible
from headway.street.recall import Recall
from headway.street.rollout import Rollout, shared
from headway.street.signal_log import SignalLog
from headway.street.silence import SilenceDetector
from headway.street.state_file import PLAIN, StateError, require_like
from headway.street.trust import Trust
from headway.values import (
    HALTING_MPS,
    BoolArray,
    ColourArray,
    Event,
    Observation,
    Proposal,
    Vehicles,
)

NEVER_RELIEVED = ("planner", "fixed")
FIXED_TIME = "fixed_time"  # who decides where neither controller nor fallback can
OLDEST_S = 60.0  # observations of which nobody learns anything any more
TIME_TOLERANCE_S = 1e-6  # of simulated times that are sums of ticks


def stopped_vehicles(vehicles: Vehicles) -> int:
    """How many of `vehicles` are stopped."""
    return int((vehicles.speed_mps < HALTING_MPS).sum())


@dataclass
class LoopState:
    """What the loop carries from tick to tick besides plant and gate; all of it goes into a
    checkpoint.

    controller, fallback:   the state that each last returned.
    arrived_since_fallback: int (links,), vehicles that arrived since the fallback was last asked.
    next_cycle_s:           simulated second of the next optimisation cycle.
    cycles:                 optimisation cycles so far; cycles_ok: those that succeeded.
    low_confidence:         bool (junctions,), left to the fallback at the last tick; None if no
        junction was.
    """

    controller: Any
    fallback: Any
    arrived_since_fallback: np.ndarray[Any, Any]
    next_cycle_s: float
    cycles: int = 0
    low_confidence: BoolArray | None = None
    cycles_ok: int = 0


class Street:
    """The closed loop of one street.

    record:               takes every event, in order.
    cycle_s:              seconds between optimisation cycles.
    confidence_threshold: below it a junction is left to the fallback, 0..1.
    observation:          of the last tick.
    trust:                how far the controller's last proposal is trusted.
    external:             what sources from outside report.
    arrived:              int (links,), vehicles first detected, each once a junction, since this
        start.
    congestion:           which approaches are congested.
    silence:              which lanes have no detection any more; controllers and gate are given the
        traffic that is presumed there.
    recall:               calls signals that are red for long, though nobody is seen there.
    relief:               decides on junctions that are, in place of the controller; None for none.
    rollout:              models that decide in turn with the controller, or beside it.
    signal_log:           changes of colour and actuations, where it is enabled.
    durations:            wall time of each part of the tick, read from `clock`.
    guards:               by role, they ask controller, fallback and relief, none of which is
        trusted. step_within_s: wall time that a step of theirs may take. mark: see `Guard`. hung:
        roles whose step ended the process before this one; they are not asked.
    """

    def __init__(
        self,
        network: Network,
        timing: Timing,
        plant: SumoPlant,
        controller: Controller,
        fallback: Controller,
        record: Callable[[Event], None],
        cycle_s: float = 30.0,
        confidence_threshold: float = 0.4,
        clock: Callable[[], float] = time.perf_counter,
        relief: Controller | None = None,
        step_within_s: float = STEP_WITHIN_S,
        mark: MutableSequence[int] | None = None,
        hung: Collection[str] = (),
    ) -> None:
        self.network = network
        self.plant = plant
        self.controller = controller
        self.fallback = fallback
        self._record = record
        self.cycle_s = cycle_s
        self._clock = clock
        self.gate = SafetyGate(network, timing, plant.time_s)
        self.observation = plant.observe()
        mark = bytearray(1) if mark is None else mark
        groups, junctions = len(network.groups), len(network.junctions)
        self.guards = {
            role: Guard(role, groups, junctions, record, step_within_s, mark=mark) for role in ROLES
        }
        for role, of in ((CONTROLLER, controller), (FALLBACK, fallback), (RELIEF, relief)):
            if role in hung and of is not None:
                self.guards[role].put_down(of, plant.time_s, HUNG)
        self.loop_state = LoopState(
            controller=self.guards[CONTROLLER].start(controller, self.observation),
            fallback=self.guards[FALLBACK].start(fallback, self.observation),
            arrived_since_fallback=np.zeros(len(network.links), np.int64),
            next_cycle_s=plant.time_s + cycle_s,
        )
        self.trust = Trust(network, record, confidence_threshold)
        self.external = External(network, record)
        self.congestion = CongestionDetector(network)
        self.silence = SilenceDetector(network, plant.time_s)
        self.recall = Recall(network)
        self.relief = relief
        self._relief_state: Any = None  # None while it does not decide anywhere
        self.rollout = Rollout(network, self.guards, record, clock)
        self.signal_log = SignalLog(network)
        self.durations = Durations()
        self.arrived = np.zeros(len(network.links), np.int64)
        self._ticks_in_cycle = 0
        self._champions: Proposal | None = None  # of this tick, before anybody else's
        self._observation_check = ObservationCheck(network)
        self._observation_faults = FaultChanges()

    def tick(self, period_s: float = 1.0) -> None:
        """Observe, decide, gate, apply, advance: once."""
        clock = self._clock
        t0 = clock()
        now_s = self.plant.time_s  # not the observation's stamp, which is as good as its source
        observation = self._observe(now_s)
        t1 = clock()
        proposal, fallback = None, None
        self._champions = None
        if observation is not None:
            proposal, fallback = self._decide(observation)
        t2 = clock()
        self.gate.look(self.plant.shown)
        before = self.gate.shown
        self.gate.tick_s = period_s
        command = self.gate.admit(proposal, now_s, observation, fallback)
        t3 = clock()
        for event in command.interventions:
            self._record(event)
        self.signal_log.add(self.observation, before, command.colours)
        self.plant.apply(command)
        if self.rollout.shadow is not None and observation is not None:
            self.rollout.decide_beside(
                self._champions, self.controller, self.loop_state.controller, observation
            )
        t4 = clock()
        self.plant.advance(period_s)
        t5 = clock()
        self.durations.rows.append((t1 - t0, t2 - t1, t3 - t2, t4 - t3, t5 - t4))
        self._ticks_in_cycle += 1

    def _observe(self, now_s: float) -> Observation | None:
        """What is observed now, without what cannot be true; None, which is recorded, where nobody
        can use it: the gate then leaves the junctions to their programmes.
        """
        observed = self.plant.observe()
        fault = self._observation_check.fault(observed)
        if not fault and not -TIME_TOLERANCE_S <= now_s - observed.at_s <= OLDEST_S:
            fault = f"at_s: {observed.at_s!r:.40} is not of now, {now_s!r}"
        self._record_observation_fault(fault, now_s)
        if fault:
            self.trust.nothing()
            return None
        merged = self.external.merged(observed)
        self.observation = drop_implausible(merged, self.network)
        self._find_congestion(self.observation)
        if observed.links_known:  # also where sources from outside add vehicles whose links are not
            return self.observation
        self._find_silence(self.observation)
        return self.recall.with_calls(
            self.silence.filled(self.observation), self.silence.flow_veh_per_s()
        )

    def _record_observation_fault(self, fault: str, now_s: float) -> None:
        """Once for each field, however long it lasts; and when it is over."""
        more = self._observation_faults.update(field_of(fault), now_s)
        if more is None:
            return
        if fault:
            data = {"fault": fault} | more
            self._record(Event(now_s, "engine.observation_refused", "", data))
        else:
            self._record(Event(now_s, "engine.observation_back", "", more))

    def _find_congestion(self, observation: Observation) -> None:
        """An event for each approach on which congestion begins or ends."""
        for change in self.congestion.update(observation):
            kind = "traffic.congestion" if change.began else "traffic.congestion_ended"
            data: dict[str, Any] = {
                "approach": change.approach,
                "storage": round(change.storage, 3),
            }
            if not change.began:
                data["lasted_s"] = change.lasted_s
            elif self.relieves and self.relief is not None:
                data["decides"] = name_of(self.relief)
            junction = self.network.junctions[change.junction].id
            self._record(Event(observation.at_s, kind, junction, data))

    def _find_silence(self, observation: Observation) -> None:
        """An event for each lane whose detection falls silent, or is heard again."""
        for change in self.silence.update(observation):
            kind = "traffic.silent" if change.silent else "traffic.silent_ended"
            data = {"lane": change.lane, "silent_s": change.silent_s}
            if change.silent:
                data["flow_per_h"] = change.flow_per_h
            junction = self.network.junctions[change.junction].id
            self._record(Event(observation.at_s, kind, junction, data))

    def serve_claims(self) -> None:
        """Serve the emergency vehicles that were claimed from outside since the tick: what begins
        is recorded now, and the next tick shows it.
        """
        known = self.external.with_claims(self.observation)
        self.gate.begin_services(known)
        self.record_gate_events()

    def record_gate_events(self) -> None:
        """Record now what the gate has to report, such as an operator's order, instead of with the
        next command.
        """
        for event in self.gate.take_events():
            self._record(event)

    def _decide(self, observation: Observation) -> tuple[Proposal | None, Proposal | None]:
        """The controller's proposal, in which junctions of low confidence show what the fallback
        wants; and the fallback's proposal, None where it is not needed.
        """
        state = self.loop_state
        state.arrived_since_fallback += observation.arrived
        self.arrived += self.observation.arrived
        self.arrived -= self.plant.take_rerouted()
        proposal = self._propose(observation)
        if proposal is None:
            self.trust.nothing()
        else:
            self.trust.judge(proposal, observation, self.plant.time_s)

        if observation.at_s >= state.next_cycle_s - TIME_TOLERANCE_S:
            self._run_cycle(observation, proposal)
        if proposal is None:
            return None, self._ask_fallback(observation)
        before = state.low_confidence
        low = self.trust.low(before)
        if before is None and not low.any() and self.gate.source is ControlSource.CONTROLLER:
            return proposal, None

        fallback = self._ask_fallback(observation)
        decides = FIXED_TIME if fallback is None else name_of(self.fallback)
        self.trust.record_changes(observation.at_s, before, low, decides)
        state.low_confidence = low if low.any() else None
        if low.any():
            low_group = low[self.network.group_junction]
            instead = self._instead(fallback, observation)
            proposal = replace(proposal, wanted=np.where(low_group, instead, proposal.wanted))
        return proposal, fallback

    def _instead(self, fallback: Proposal | None, observation: Observation) -> ColourArray:
        """What junctions show that the controller is not trusted with: the fallback's colours, or
        else those of their own programmes.
        """
        if fallback is not None:
            return fallback.wanted
        return programme_colours(self.network, observation.at_s)

    @property
    def relieves(self) -> bool:
        """Congested junctions are left to `relief`. The planner needs none, and a fixed programme
        is to stay what it is.
        """
        return self.relief is not None and _is_relieved(self.controller)

    def _relieved(self, proposal: Proposal, observation: Observation) -> Proposal:
        """The proposal, in which congested junctions show what `relief` wants; as it is where that
        proposes nothing.
        """
        canary = self.rollout.canary
        is_shared = canary is not None and canary.decides  # it may be another who is relieved
        if self.relief is None or not (self.relieves or is_shared):
            self._relief_state = None
            return proposal
        congested = self.congestion.junctions()
        if canary is not None and is_shared:
            relieved = _is_relieved(canary.controller)
            congested &= np.where(canary.of_junction, relieved, self.relieves)
        if not congested.any():
            self._relief_state = None
            return proposal
        guard = self.guards[RELIEF]
        relief, self._relief_state = guard.step(self.relief, observation, self._relief_state)
        if relief is None or not self._is_fresh(relief, self.relief, guard, observation):
            return proposal
        return shared(proposal, relief, congested, congested[self.network.group_junction])

    def _propose(self, observation: Observation) -> Proposal | None:
        """The controller's proposal; None if there is none that can be used, which is recorded."""
        state, guard = self.loop_state, self.guards[CONTROLLER]
        proposal, after = guard.step(self.controller, observation, state.controller)
        if proposal is None or not self._is_fresh(proposal, self.controller, guard, observation):
            return None
        state.controller = after
        self._champions = proposal
        proposal = self.rollout.decide(proposal, observation, self.gate)
        return self._relieved(proposal, observation)

    def _is_fresh(
        self, proposal: Proposal, of: Controller, guard: Guard, observation: Observation
    ) -> bool:
        """The gate takes it; if not, that is recorded."""
        if self.gate.is_sound(proposal, observation.at_s):
            guard.note_health(of, observation.at_s)
            return True
        age_s = observation.at_s - proposal.at_s
        guard.report(of, observation.at_s, f"its proposal is {age_s:g} s old")
        return False

    def _ask_fallback(self, observation: Observation) -> Proposal | None:
        """The fallback's proposal; None if there is none that can be used. It is asked only when
        needed, so it is given all arrivals since it was last asked.
        """
        state, guard = self.loop_state, self.guards[FALLBACK]
        observation = replace(observation, arrived=state.arrived_since_fallback)
        proposal, after = guard.step(self.fallback, observation, state.fallback)
        if proposal is None or not self._is_fresh(proposal, self.fallback, guard, observation):
            return None
        state.fallback = after
        state.arrived_since_fallback = np.zeros_like(state.arrived_since_fallback)
        return proposal

    def _run_cycle(self, observation: Observation, proposal: Proposal | None) -> None:
        """The optimisation cycle: the fallback estimates flows and splits anew; recorded with its
        figures. It succeeds if the controller proposes, is followed, and the work of the cycle, all
        but the plant's own, fits into it.
        """
        begun_s = self._clock()
        state = self.loop_state
        self._ask_fallback(observation)
        durations = self.durations.last(self._ticks_in_cycle)
        self._ticks_in_cycle = 0
        state.cycles += 1
        state.next_cycle_s += self.cycle_s
        measured = self.observation.vehicles
        stopped = stopped_vehicles(measured)
        spent_s = self._clock() - begun_s + float(durations[:, :ADVANCE].sum())
        is_followed = proposal is not None and self.gate.source is ControlSource.CONTROLLER
        ok = is_followed and spent_s <= self.cycle_s
        state.cycles_ok += ok
        data = {
            "cycle": state.cycles,
            "ok": ok,
            "vehicles": len(measured),
            "stopped": stopped,
            "halted": stopped,  # its old name, until 0.2 (docs/deprecated.md)
            "source": self.gate.source.name.lower(),
            "decide_ms": round(float(durations[:, 1].mean() * 1e3), 3) if len(durations) else 0.0,
            "processing_ms": round(spent_s * 1e3, 3),
        }
        if proposal is not None:
            data |= self.trust.least()
        self._record(Event(observation.at_s, "engine.cycle", "", data))

    def controller_share(self) -> float:
        """Share of the junctions for which the controller itself decided in the last tick."""
        if self.gate.source is not ControlSource.CONTROLLER:
            return 0.0
        others = np.zeros(len(self.network.junctions), np.bool_)
        if self.loop_state.low_confidence is not None:
            others |= self.loop_state.low_confidence
        if self._relief_state is not None:
            others |= self.congestion.junctions()
        return float(1.0 - others.mean())

    def rehearse(
        self,
        controller: Controller,
        role: str = CONTROLLER,
        mark: MutableSequence[int] | None = None,
    ) -> Proposal | None:
        """What a controller proposes now, from its start; it is compiled afterwards. None if it
        cannot, which its first tick will record.
        """
        return self._rehearsed(controller, role, mark)[0]

    def fault_of(self, controller: Controller, role: str) -> str:
        """Why a controller cannot decide now; empty where it can. It is compiled afterwards. Where
        this ends the process, nobody who decides is to blame.
        """
        proposal, guard = self._rehearsed(controller, role, None)
        if proposal is not None and not self.gate.is_sound(proposal, self.observation.at_s):
            return "its proposal is not of now"
        return "" if proposal is not None else guard.fault or "it proposes nothing"

    def _rehearsed(
        self, controller: Controller, role: str, mark: MutableSequence[int] | None
    ) -> tuple[Proposal | None, Guard]:
        groups, junctions = len(self.network.groups), len(self.network.junctions)
        guard = Guard(role, groups, junctions, record=_ignore, within_s=math.inf, mark=mark)
        return guard.step(controller, self.observation, None)[0], guard

    def set_controller(self, controller: Controller) -> None:
        """Another controller, from its start, from the next tick on."""
        self.controller = controller
        self.guards[CONTROLLER].stand_up()
        self.loop_state.controller = self.guards[CONTROLLER].start(controller, self.observation)

    def set_fallback(self, fallback: Controller) -> None:
        """Another fallback, from its start, from the next tick on."""
        self.fallback = fallback
        self.guards[FALLBACK].stand_up()
        self.loop_state.fallback = self.guards[FALLBACK].start(fallback, self.observation)

    def set_relief(self, relief: Controller | None) -> None:
        """Another controller for congested junctions; None for none."""
        self.relief = relief
        self.guards[RELIEF].stand_up()
        self._relief_state = None

    def state(self) -> dict[str, Any]:
        """All that a restart needs besides the plant's own state."""
        return {
            "gate": self.gate.state(),
            "loop": self.loop_state,
            "congestion": self.congestion.state(),
            "silence": self.silence.state(),
            "relief": self._relief_state,
            "rollout": self.rollout.state(),
            "down_until_s": {role: guard.resting_until_s for role, guard in self.guards.items()},
            "external": self.external.state(),
            "controllers": self._names(),
        }

    def _names(self) -> dict[str, str]:
        """Who has each role; empty for nobody."""
        return {
            CONTROLLER: name_of(self.controller),
            FALLBACK: name_of(self.fallback),
            RELIEF: "" if self.relief is None else name_of(self.relief),
            **self.rollout.names(),
        }

    def state_classes(self) -> tuple[type, ...]:
        """Those that stand in `state`, beside the ones that every state may hold."""
        loop = self.loop_state
        own = (type(x) for x in (loop, loop.controller, loop.fallback, self._relief_state))
        return (*(kind for kind in own if kind not in PLAIN), *self.rollout.state_classes())

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned; the plant must have been restored before. Its
        signals are set anew. Raises StateError, with nothing changed, for a state that does not fit
        this street.

        The state of another controller or fallback than this street's is not used: the present one
        starts afresh.
        """
        state = self._of_present_controllers(state)
        require_like(state, self.state())
        self.gate.resume(state["gate"])
        self.plant.show(self.gate.shown, self.gate.shown_since)
        self.observation = self.plant.observe()
        self.congestion.resume(state["congestion"])
        self.silence.resume(state["silence"], self.observation.at_s)
        self.external.resume(state["external"])
        self._relief_state = state["relief"]
        self.rollout.resume(state["rollout"], self.gate.faults)
        for role, until_s in state["down_until_s"].items():
            guard = self.guards[role]
            guard.down_until_s = max(guard.down_until_s, until_s)
        loop = self.loop_state = state["loop"]
        if loop.controller is None:
            loop.controller = self.guards[CONTROLLER].start(self.controller, self.observation)
        if loop.fallback is None:
            loop.fallback = self.guards[FALLBACK].start(self.fallback, self.observation)

    def _of_present_controllers(self, state: dict[str, Any]) -> dict[str, Any]:
        """Without what others than the present controllers remembered. Raises StateError."""
        before, loop = state.get("controllers"), state.get("loop")
        if not isinstance(before, dict) or not isinstance(loop, LoopState):
            raise StateError("the state is not of a street")
        now = self._names()
        is_same = {role: before.get(role) == name for role, name in now.items()}
        loop = replace(
            loop,
            controller=loop.controller if is_same[CONTROLLER] else None,
            fallback=loop.fallback if is_same[FALLBACK] else None,
        )
        relief = state.get("relief") if is_same[RELIEF] else None
        rollout = self.rollout.of_present_models(state.get("rollout"), is_same)
        present = {"loop": loop, "relief": relief, "rollout": rollout, "controllers": now}
        return {**state, **present}


def _is_relieved(controller: Controller) -> bool:
    """Of a model the label says nothing."""
    return not isinstance(controller, Planner) and name_of(controller) not in NEVER_RELIEVED


def _ignore(event: Event) -> None:
    pass
