"""The safety gate: the only maker of Commands.

Every signal change passes it. What is wanted comes from the best source that is healthy: the
controller's proposal, the fallback's, the junction's own fixed-time programme, red to all. Over it
stand, in this order: an operator's flash, an emergency vehicle, an operator's hold or forced stage,
a group whose cycle would grow too long, or that has been red for too long. Whatever is wanted, the
rules of `headway.safety.kernel` decide what is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

import numpy as np

from headway.roads import Colour, Network, Timing
from headway.safety import cycle, kernel
from headway.safety.arrays import NO_STAGE
from headway.safety.clearing import Clearing
from headway.safety.clock import LONGEST_TICK_S, USUAL_TICK_S, GateClock
from headway.safety.command import Command, sealed
from headway.safety.door import ObservationCheck, field_of
from headway.safety.holding import Holding
from headway.safety.kernel import EPS_S
from headway.safety.memory import GateMemory
from headway.safety.monitor import NOTHING, ConflictMonitor, Fault, Verdict
from headway.safety.operators import Operators
from headway.safety.override import Override
from headway.safety.priority import LONGEST_SERVICE_S, Priority
from headway.safety.reports import FaultChanges, Reports
from headway.safety.sources import ControlSource, Offers, SourceChoice
from headway.values import (
    ColourArray,
    Event,
    FloatArray,
    IntArray,
    Observation,
    Proposal,
    described,
)

MOST_32_BITS = 2**31 - 1


class SafetyGate:
    """Holds the rules of `timing` on `network`, whatever is proposed.

    Starts all red, with every conflict just cleared.

    now_s:     seconds, of the clock whose times `admit` is given.
    stale_s:   a proposal or observation older than this counts as missing (two ticks).
    resume_s:  a better source is trusted again after it has been healthy for so long.
    """

    def __init__(
        self,
        network: Network,
        timing: Timing,
        now_s: float,
        stale_s: float = 2.0,
        resume_s: float = 5.0,
    ) -> None:
        self._network = network
        self._memory = memory = GateMemory(network, timing, now_s)
        self._has_max_cycle = bool(np.isfinite(timing.max_cycle_s).any())
        self._reports = Reports(memory)
        self._choice = SourceChoice(memory, self._reports, stale_s, resume_s)
        clearing = Clearing(network)
        self._operators = Operators(memory, self._reports, Holding(network, clearing))
        limits, conflicts = memory.tables.limits, memory.tables.conflicts
        self._priority = Priority(network, limits, conflicts, clearing)
        self._monitor = ConflictMonitor(network, limits, now_s)
        self._lamps: Any = None  # what was read back in this tick
        self._observation_check = ObservationCheck(network)
        self._observation_faults, self._clock_faults = FaultChanges(), FaultChanges()
        self._tick_s: float | None = None  # until it is set

    @property
    def timing(self) -> Timing:
        """The limits that it holds."""
        return self._memory.timing

    @property
    def source(self) -> ControlSource:
        """The source that is followed."""
        return self._choice.source

    @property
    def shown(self) -> ColourArray:
        """The colours in force, int8 (groups,); nobody can write to it."""
        return self._memory.shown

    @property
    def shown_since(self) -> FloatArray:
        """When each group's colour began, (groups,) seconds of the clock that `admit` is given; all
        greens count as one colour.
        """
        return self._memory.state.signals.since_s + self._memory.clock.ahead_s

    @property
    def tick_s(self) -> float:
        """Length of the tick that begins with the next command, at most LONGEST_TICK_S: the gate's
        own clock moves on by no more. Where it is not set, it is that of the first tick. Raises
        ValueError where it is set to zero or below.
        """
        return self._tick_s or self._memory.clock.tick_s or USUAL_TICK_S

    @tick_s.setter
    def tick_s(self, tick_s: float) -> None:
        if not tick_s > 0.0:  # nor for what is not a number
            raise ValueError(f"a tick of {described(tick_s)} s; give seconds, more than 0")
        self._tick_s = min(tick_s, LONGEST_TICK_S)

    @property
    def overrides(self) -> Mapping[int, Override]:
        """The operators' orders in force, by junction; not to be changed."""
        return self._operators.overrides

    # checkpoints

    def state(self) -> dict[str, Any]:
        """All that the gate remembers, to be given to `resume` of a gate of the same network and
        timing.
        """
        memory = self._memory
        arrays = {name: array.copy() for name, array in memory.kept().items()}
        return arrays | {
            "source": int(self.source),
            "now": memory.now_s,
            "ahead": memory.clock.ahead_s,
            "tick": self.tick_s,
            "better": self._choice.better_since_s,
            "priority": self._priority.state(),
            **self._operators.state(),
            **self._monitor.state(),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from the `state` of another gate. Raises ValueError if it is of another network."""
        self._memory.resume(state)
        self._tick_s = state.get("tick", self._tick_s)  # not in checkpoints before 0.3
        self._memory.clock = GateClock(state["now"], self._tick_s, state.get("ahead", 0.0))
        self._choice.source = ControlSource(state["source"])
        self._choice.better_since_s = state["better"]
        self._monitor.resume(state)
        self._operators.resume(state)
        if "priority" in state:  # not in checkpoints of 0.1
            self._priority.resume(state["priority"])

    # operator orders

    def order(self, override: Override, now_s: float) -> None:
        """Put an operator's order in force. Raises ValueError if the junction or stage does not
        exist.
        """
        self._operators.order(override, now_s)

    def release(self, junction: int, by: str, now_s: float) -> None:
        """End an operator's order, if there is one."""
        self._operators.release(junction, by, now_s)

    # the second

    def admit(
        self,
        proposal: Proposal | None,
        now_s: float,
        observation: Observation | None = None,
        fallback: Proposal | None = None,
    ) -> Command:
        """The colours for the tick that begins at `now_s`, as near to what is wanted as the rules
        allow.

        now_s: of the plant's clock, or the wall's, never the stamp of what was observed. Whatever
            it does, no time is shortened, and none lasts for ever: see `headway.safety.clock`.
        """
        memory = self._memory
        self._advance_clock(now_s)
        if observation is not None and not self._is_usable_observation(observation):
            observation = None
        self._check_lamps(observation)
        offers = Offers(proposal, fallback)
        self._choice.choose(offers, len(self.faults) < len(self._network.junctions))
        wanted = self._choice.wanted(offers)

        orders = memory.state.orders
        orders.exempt[:] = orders.off_cycle[:] = self.source == ControlSource.ALL_RED
        orders.held[:] = orders.preempted[:] = False
        self._operators.apply(wanted, self.faults)
        self._apply_priority(wanted, observation)
        self._operators.surround_flashes(wanted)
        self._apply_faults(wanted)

        self._update_calls(observation)
        self._keep_max_cycle(wanted)
        self._apply_rules(wanted)
        self._operators.flash(memory.decision.colours)
        memory.wanted = wanted
        self._reports.add_rules()
        memory.put_in_force()
        return sealed(memory.clock.outside_s, memory.shown, self.take_events())

    def begin_services(self, observation: Observation) -> None:
        """Decide now, between two ticks, which junctions serve the emergency vehicles of
        `observation`: the next command has their colours, and `take_events` what began.
        """
        if self._is_usable_observation(observation):
            self._serve(observation)

    def take_events(self) -> tuple[Event, ...]:
        """What would go out with the next command, such as the event of an order; taken once."""
        return self._reports.take()

    def is_sound(self, candidate: Proposal, now_s: float) -> bool:
        """The proposal is of this network, of whole numbers, and not stale."""
        return self._choice.is_sound(candidate, now_s)

    def _advance_clock(self, now_s: float) -> None:
        """The gate's own clock; an event where that of the caller fails, and where it is back."""
        clock = self._memory.clock
        fault = clock.advance(now_s, first_s=self._tick_s or inf)
        clock.tick_s = self._tick_s or clock.tick_s
        more = self._clock_faults.update("" if fault is None else fault.value, clock.now_s)
        if more is not None:
            data = {"now": described(now_s)} | ({} if fault is None else {"fault": fault.value})
            self._reports.add("clock_back" if fault is None else "clock", data | more)

    def _is_usable_observation(self, observation: Observation) -> bool:
        """It is whole, and of now; an event names the first field that is not."""
        fault = self._observation_check.fault(observation)
        more = self._observation_faults.update(field_of(fault), self._memory.now_s)
        if fault and more is not None:
            self._reports.add("observation", {"fault": fault} | more)
        return not fault and self._choice.is_fresh(observation.at_s, self._memory.clock.outside_s)

    # emergency vehicles

    @property
    def preempted(self) -> frozenset[int]:
        """Junctions that serve an emergency vehicle, or did and have not returned to normal."""
        return self._priority.junctions

    def _apply_priority(self, wanted: ColourArray, observation: Observation | None) -> None:
        """Want what serves the emergency vehicles, and returns the junctions to normal after."""
        if observation is None or not (observation.emergencies or self._priority.busy):
            return
        served, returning = self._serve(observation)
        orders = self._memory.state.orders
        for junction, colours in served.items():
            wanted[self._memory.groups_of(junction)] = colours
            orders.preempted[junction] = True
            orders.exempt[junction] = not self._has_starved(junction)
            orders.off_cycle[junction] |= orders.exempt[junction]
        for junction, colours in returning.items():
            if junction not in self.overrides:
                wanted[self._memory.groups_of(junction)] = colours

    def _serve(
        self, observation: Observation
    ) -> tuple[dict[int, ColourArray], dict[int, ColourArray]]:
        """What `Priority.serve` wants; its events go out with the next command."""
        signals, calls, _ = self._memory.state
        served, returning, events = self._priority.serve(
            observation, signals, calls, self._memory.now_s, self._closed()
        )
        self._reports.add_own(events)
        return served, returning

    def _closed(self) -> dict[int, str]:
        """The junctions that cannot serve anybody, and why."""
        if self.source == ControlSource.ALL_RED:  # a green for one may not be red for the others
            return dict.fromkeys(range(len(self._network.junctions)), "all red")
        flashing = {j: "flash" for j in self.overrides if self._operators.is_flashing(j)}
        return flashing | {j: fault.value for j, fault in self.faults.items()}

    def _has_starved(self, junction: int) -> bool:
        """Some group that can be served has waited so long that not even emergency vehicles stand
        over it.
        """
        memory, own = self._memory, self._memory.groups_of(junction)
        is_served = memory.tables.junctions.serving_stage[own] != NO_STAGE
        waited_s = memory.now_s - memory.state.calls.since_s[own]
        is_red = memory.shown[own] < Colour.PERMISSIVE
        longest_s = memory.tables.limits.max_red_s[own] + LONGEST_SERVICE_S
        return bool((is_served & is_red & (waited_s >= longest_s)).any())

    # faults

    def look(self, lamps: Any) -> None:
        """Take in what was read back from the lamps, after the last command and before the next;
        beside what the observation says of them. See `headway.safety.monitor`.

        lamps: int8 (groups,), colours; anything else counts as lamps that do not obey.
        """
        self._monitor.look(lamps, self.shown)
        self._lamps = lamps

    def _check_lamps(self, observation: Observation | None) -> None:
        """Latch the junctions whose lamps do not show what was commanded."""
        if observation is not None:
            self._monitor.look(observation.shown, self.shown)
            if self._lamps is None:
                self._lamps = observation.shown
        verdict = self._monitor.settle(self._memory.now_s)
        if verdict is not NOTHING:
            self._carry_out(verdict)
        self._lamps = None

    def _carry_out(self, verdict: Verdict) -> None:
        memory = self._memory
        if verdict.wrong is not None:
            # what may be green is cleared from now on, before anything that it conflicts with
            unproven = verdict.wrong & (self.shown < Colour.PERMISSIVE)
            memory.state.signals.green_end_s[unproven] = memory.now_s
        for junction in verdict.latched:
            own = self._memory.groups_of(junction)
            data = {
                "commanded": self.shown[own].tolist(),
                "read": _own_colours(self._lamps, len(self.shown), own),
            }
            self._reports.add("lamps", data, junction)
        for ended in verdict.ended:
            data = {"fault": ended.fault.value, "healthy_s": ended.healthy_s}
            self._reports.add("fault_ended", data, ended.junction)

    def reset(self, junction: int, by: str, now_s: float) -> None:
        """An operator releases a junction whose fault was latched. Raises ValueError if it has
        none, or its lamps still do not obey.
        """
        if type(junction) is not int or not 0 <= junction < len(self._network.junctions):
            count = len(self._network.junctions)
            raise ValueError(f"no junction {described(junction)}; there are {count}")
        try:
            fault = self._monitor.reset(junction)
        except ValueError as error:
            name = self._network.junctions[junction].id
            raise ValueError(f"junction {name!r} is not reset: {error}") from error
        self._reports.add("fault_reset", {"fault": fault.value, "by": by}, junction, now_s)

    @property
    def faults(self) -> Mapping[int, Fault]:
        """By junction: why it shows red to all until it is reset."""
        return self._monitor.faults

    def _apply_faults(self, wanted: ColourArray) -> None:
        """Red where a fault is latched, over everybody's orders."""
        orders = self._memory.state.orders
        for junction in self._monitor.faults:
            wanted[self._memory.groups_of(junction)] = Colour.RED
            orders.exempt[junction] = orders.off_cycle[junction] = True

    # the rules

    def _update_calls(self, observation: Observation | None) -> None:
        signals, calls, _ = self._memory.state
        tables = self._memory.tables
        if observation is None:
            calls.present[:] = True  # traffic may be there for any group
        else:
            kernel.detect_calls(
                vehicle_lanes=_in_32_bits(observation.vehicles.lane),
                vehicle_links=_in_32_bits(observation.vehicles.link),
                links_known=bool(observation.links_known),
                ways=self._memory.ways,
                waiting_persons=_in_32_bits(observation.waiting_persons),
                completeness=np.array(observation.completeness, np.float64, order="C"),
                junctions=tables.junctions,
                calls=calls,
            )
        kernel.update_call_times(self._memory.now_s, calls, signals, tables.conflicts)

    def _keep_max_cycle(self, wanted: ColourArray) -> None:
        """See `headway.safety.cycle`; an event for each group that is late all the same."""
        if not self._has_max_cycle:
            return
        memory = self._memory
        now_s, state, tables, cycles = memory.now_s, memory.state, memory.tables, memory.cycles
        if cycle.update_cycles(now_s, cycles, state.signals, state.calls, tables.limits):
            for g in np.flatnonzero(cycles.late_now).tolist():
                self._reports.add_late(g, self._reason_of_lateness(g))
        cycle.serve_due(now_s, self.tick_s, wanted, state, tables, cycles, memory.course)

    def _reason_of_lateness(self, g: int) -> str:
        junction = self._network.groups[g].junction
        if junction in self.overrides:
            return "order"
        if self._memory.state.orders.exempt[junction]:
            return "emergency" if self.source != ControlSource.ALL_RED else "all red"
        return "others are served first"

    def _apply_rules(self, wanted: ColourArray) -> None:
        """Decide the colours of this second."""
        memory = self._memory
        kernel.apply_rules(memory.now_s, wanted, memory.state, memory.tables, memory.decision)
        if not kernel.is_safe(memory.decision.colours, memory.tables.conflicts):
            self._latch_unsafe(memory.decision.colours)

    def _latch_unsafe(self, colours: ColourArray) -> None:
        """The rules have let a conflict through: the junctions where it is end their greens and
        show red until an operator resets them. colours: (groups,), changed in place.
        """
        unsafe = [j for j in range(len(self._network.junctions)) if not self._is_safe(j, colours)]
        ending = self._ending_colours()
        for junction in unsafe or range(len(self._network.junctions)):
            own = self._memory.groups_of(junction)
            self._reports.add("monitor", {"colours": colours[own].tolist()}, junction)
            self._monitor.latch(junction, Fault.RULES)
            colours[own] = ending[own]

    def _is_safe(self, junction: int, colours: ColourArray) -> bool:
        alone = np.full_like(colours, Colour.RED)
        own = self._memory.groups_of(junction)
        alone[own] = colours[own]
        return bool(kernel.is_safe(alone, self._memory.tables.conflicts))

    def _ending_colours(self) -> ColourArray:
        """(groups,): yellow for what is green or not yet yellow for its time, red for the rest."""
        shown, yellow_s = self.shown, self._memory.tables.limits.yellow_s
        lasts = self._memory.now_s - self._memory.state.signals.since_s + EPS_S < yellow_s
        ends = (shown >= Colour.PERMISSIVE) & (yellow_s > 0.0)
        yellow = ends | ((shown == Colour.YELLOW) & lasts)
        return np.where(yellow, Colour.YELLOW, Colour.RED).astype(np.int8)


def _in_32_bits(values: IntArray) -> IntArray:
    """As the compiled rules take it: what has another type, cannot be written to or is not aligned
    would be compiled for within the tick. What has more bits is cut to their range, not cast (2**32
    would become 0).
    """
    if values.dtype != np.int32:
        values = np.clip(values, -MOST_32_BITS, MOST_32_BITS)
    return np.array(values, np.int32, order="C")


def _own_colours(lamps: Any, groups: int, own: slice) -> list[Any] | str:
    """What was read of the groups `own`, for an event; a description of what is no such array."""
    if isinstance(lamps, np.ndarray) and lamps.shape == (groups,):
        return [int(x) if lamps.dtype.kind in "iu" else described(x) for x in lamps[own]]
    shape = described(lamps.shape) if isinstance(lamps, np.ndarray) else ""
    return f"{type(lamps).__name__} {shape}".strip()
