"""The safety gate: the only maker of Commands.

Every signal change passes it. What is wanted comes from the best source that is healthy: the
controller's proposal, the fallback's, the junction's own fixed-time programme, red to all. Over it
stand, in this order: an operator's flash, an emergency vehicle, an operator's hold or forced stage,
a group whose cycle would grow too long, or that has been red for too long. Whatever is wanted, the
rules of `headway.safety.kernel` decide what is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum
from typing import Any

import numpy as np

from headway.roads import Colour, Network, Timing
from headway.safety import cycle, kernel
from headway.safety.clearing import Clearing
from headway.safety.clock import LONGEST_TICK_S, USUAL_TICK_S, ClockFault, GateClock, seconds
from headway.safety.command import Command, sealed
from headway.safety.cycle import Course, Cycles
from headway.safety.door import ObservationCheck
from headway.safety.flashing import ENTRY_RED_S, EXIT_RED_S, flash_colours
from headway.safety.holding import Holding, Scene
from headway.safety.kernel import EPS_S, NO_GROUP, NO_STAGE, Calls, Decision, Rule, Signals
from headway.safety.monitor import NOTHING, ConflictMonitor, Fault, Verdict
from headway.safety.override import Order, Override
from headway.safety.priority import LONGEST_SERVICE_S, Priority
from headway.safety.tables import (
    conflict_table,
    junction_table,
    limit_table,
    service_times,
    way_table,
)
from headway.values import ColourArray, Event, FloatArray, IntArray, Observation, Proposal

NOT_A_COLOUR = -128
MOST_32_BITS = 2**31 - 1
HIGHEST_COLOUR = int(Colour.GREEN)  # comparing an array with an enum member costs microseconds


class ControlSource(IntEnum):
    """Where the colours wanted in this second came from, best first."""

    CONTROLLER = 0
    FALLBACK = 1
    FIXED_TIME = 2
    ALL_RED = 3


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
        self.timing = timing
        self.source = ControlSource.CONTROLLER
        self._network = network
        self._stale_s = stale_s
        self._resume_s = resume_s

        # tables of the rules
        self._limits = limit_table(timing)
        self._conflicts = conflict_table(network)
        self._junctions = junction_table(network)
        self._ways = way_table(network)

        # what is remembered of each group
        groups = len(network.groups)
        self._signals = Signals(
            colour=np.full(groups, Colour.RED, np.int8),
            since_s=np.full(groups, now_s),
            green_start_s=np.full(groups, -np.inf),
            green_end_s=np.full(groups, now_s),
        )
        self._calls = Calls(
            present=np.zeros(groups, np.bool_),
            since_s=np.full(groups, now_s),
            last_s=np.full(groups, -np.inf),
            conflicting_since_s=np.full(groups, now_s),
        )
        self._shown = _unchangeable(self._signals.colour)
        self._decision = Decision(
            colours=np.full(groups, Colour.RED, np.int8),
            rule=np.full(groups, Rule.NONE, np.int8),
        )
        self._last_rule = self._decision.rule.copy()
        self._cycles = Cycles(
            since_s=np.full(groups, now_s),
            is_late=np.zeros(groups, np.bool_),
            late_now=np.zeros(groups, np.bool_),
            serving=np.full(len(network.junctions), NO_GROUP, np.int32),
            service_s=service_times(self._junctions, self._limits),
        )
        self._course = Course(
            left=np.zeros(groups, np.bool_),
            lit=np.zeros(groups, np.bool_),
            end_s=np.zeros(groups),
            clear_s=np.zeros(groups),
        )
        self._has_max_cycle = bool(np.isfinite(self._limits.max_cycle_s).any())

        # what is remembered of each junction
        self._forced = np.full(len(network.junctions), NO_GROUP, np.int32)
        self._exempt = np.zeros(len(network.junctions), np.bool_)
        self._off_cycle = np.zeros(len(network.junctions), np.bool_)
        self._overrides: dict[int, Override] = {}
        self._flash_ordered = np.zeros(len(network.junctions), np.bool_)
        self._red_until_s = np.full(len(network.junctions), -np.inf)
        self._flash_colours = [flash_colours(junction) for junction in network.junctions]
        self._is_held = np.zeros(len(network.junctions), np.bool_)
        self._held = np.full(groups, Colour.RED, np.int8)
        self._wanted = self._held.copy()
        clearing = Clearing(network)
        self._holding = Holding(network, clearing)
        self._priority = Priority(network, self._limits, self._conflicts, clearing)

        self._clock = GateClock(now_s)
        self._clock_fault: ClockFault | None = None  # at the last tick
        self._tick_s: float | None = None  # until it is set
        self._now_s = now_s  # of the gate's own clock
        self._better_since_s = now_s
        self._observation_check = ObservationCheck(network)
        self._observation_fault = ""  # the field of the last one that cannot be used
        self._monitor = ConflictMonitor(network, now_s)
        self._lamps: Any = None  # what was read back in this tick
        self._events: list[Event] = []

    @property
    def shown(self) -> ColourArray:
        """The colours in force, int8 (groups,); nobody can write to it."""
        return self._shown

    @property
    def shown_since(self) -> FloatArray:
        """When each group's colour began, (groups,) seconds of the clock that `admit` is given; all
        greens count as one colour.
        """
        return self._signals.since_s + self._clock.ahead_s

    @property
    def tick_s(self) -> float:
        """Length of the tick that begins with the next command, at most LONGEST_TICK_S: the gate's
        own clock moves on by no more. Where it is not set, it is that of the first tick. Raises
        ValueError where it is set to zero or below.
        """
        return self._tick_s or self._clock.tick_s or USUAL_TICK_S

    @tick_s.setter
    def tick_s(self, tick_s: float) -> None:
        if not tick_s > 0.0:  # nor for what is not a number
            raise ValueError(f"a tick of {tick_s!r} s; give seconds, more than 0")
        self._tick_s = min(tick_s, LONGEST_TICK_S)

    @property
    def overrides(self) -> Mapping[int, Override]:
        """The operators' orders in force, by junction; not to be changed."""
        return self._overrides

    # checkpoints

    def state(self) -> dict[str, Any]:
        """All that the gate remembers, to be given to `resume` of a gate of the same network and
        timing.
        """
        arrays = {name: array.copy() for name, array in self._arrays_kept().items()}
        return arrays | {
            "source": int(self.source),
            "now": self._now_s,
            "ahead": self._clock.ahead_s,
            "tick": self.tick_s,
            "better": self._better_since_s,
            "faults": self._monitor.state(),
            "overrides": dict(self._overrides),
            "priority": self._priority.state(),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from the `state` of another gate. Raises ValueError if it is of another network."""
        if state["shown"].shape != self.shown.shape:
            raise ValueError(
                f"the state is of a network with {len(state['shown'])} signal groups; this "
                f"one has {len(self.shown)}"
            )
        for name, array in self._arrays_kept().items():
            array[:] = state.get(name, array)  # some are not in older checkpoints
        self._shown = _unchangeable(self._signals.colour)
        self.source = ControlSource(state["source"])
        self._now_s = state["now"]
        self._tick_s = state.get("tick", self._tick_s)  # not in checkpoints before 0.3
        self._clock = GateClock(self._now_s, self._tick_s, state.get("ahead", 0.0))
        self._better_since_s = state["better"]
        self._monitor.resume(state.get("faults", {}), self._now_s)
        self._overrides = dict(state["overrides"])
        if "priority" in state:  # not in checkpoints of 0.1
            self._priority.resume(state["priority"])

    def _arrays_kept(self) -> dict[str, np.ndarray]:
        """The arrays of a checkpoint by their names in it, which are those of its first version."""
        return {
            "shown": self._signals.colour,
            "_since": self._signals.since_s,
            "_green_start": self._signals.green_start_s,
            "_green_end": self._signals.green_end_s,
            "_call_since": self._calls.since_s,
            "_call_last": self._calls.last_s,
            "_foe_since": self._calls.conflicting_since_s,
            "_forced": self._forced,
            "_last_rule": self._last_rule,
            "cycle_since": self._cycles.since_s,
            "cycle_late": self._cycles.is_late,
            "cycle_serving": self._cycles.serving,
            "red_until": self._red_until_s,
            "held": self._held,
            "wanted": self._wanted,
        }

    # operator orders

    def order(self, override: Override, now_s: float) -> None:
        """Put an operator's order in force. Raises ValueError if the junction or stage does not
        exist.
        """
        if not 0 <= override.junction < len(self._network.junctions):
            raise ValueError(
                f"no junction {override.junction}; there are {len(self._network.junctions)}"
            )
        junction = self._network.junctions[override.junction]
        if override.stage >= len(junction.stages):
            raise ValueError(
                f"junction {junction.id!r} has {len(junction.stages)} stages; there is no "
                f"stage {override.stage}"
            )
        self._overrides[override.junction] = override
        data = {
            "order": override.order.value,
            "stage": override.stage,
            "until_s": override.until_s,
            "by": override.by,
        }
        if override.order is Order.HOLD:
            data |= self._hold(override.junction, now_s)
        self._report("override", data, override.junction, now_s)

    def _hold(self, junction: int, now_s: float) -> dict[str, Any]:
        """Decide which stage is held from now on, and name it: its number among the junction's
        stages (-1 for another one), and the places of its greens.
        """
        own = self._groups_of(junction)
        scene = Scene(
            shown=self.shown[own], wanted=self._wanted[own], called=self._calls.present[own]
        )
        held = self._holding.stage(junction, scene, now_s)
        self._held[own] = held
        same = (self._network.junctions[junction].stages == held).all(axis=1)
        stage = int(np.argmax(same)) if same.any() else NO_STAGE
        return {"stage": stage, "green": np.flatnonzero(held >= Colour.PERMISSIVE).tolist()}

    def release(self, junction: int, by: str, now_s: float) -> None:
        """End an operator's order, if there is one."""
        if self._overrides.pop(junction, None) is not None:
            self._report("override_released", {"by": by}, junction, now_s)

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
        self._advance_clock(now_s)
        if observation is not None and not self._is_usable_observation(observation):
            observation = None
        self._check_lamps(observation)
        self._choose_source(proposal, fallback)
        wanted = self._wanted_by_source(proposal, fallback)

        self._exempt[:] = self._off_cycle[:] = self.source == ControlSource.ALL_RED
        self._is_held[:] = self._flash_ordered[:] = False
        self._apply_overrides(wanted)
        self._apply_priority(wanted, observation)
        self._surround_flashes(wanted)
        self._apply_faults(wanted)

        self._update_calls(observation)
        self._keep_max_cycle(wanted)
        self._apply_rules(wanted)
        self._flash(self._decision.colours)
        self._wanted = wanted
        self._report_rules()
        kernel.put_in_force(self._now_s, self._decision.colours, self._signals)
        self._shown = _unchangeable(self._signals.colour)
        return sealed(self._clock.outside_s, self._shown, self.take_events())

    def begin_services(self, observation: Observation) -> None:
        """Decide now, between two ticks, which junctions serve the emergency vehicles of
        `observation`: the next command has their colours, and `take_events` what began.
        """
        if self.source != ControlSource.ALL_RED:
            self._serve(observation)

    def _serve(
        self, observation: Observation
    ) -> tuple[dict[int, ColourArray], dict[int, ColourArray]]:
        """What `Priority.serve` wants; its events go out with the next command."""
        served, returning, events = self._priority.serve(
            observation, self._signals, self._calls, self._now_s
        )
        ahead_s = self._clock.ahead_s
        self._events += [replace(e, at_s=e.at_s + ahead_s) for e in events] if ahead_s else events
        return served, returning

    def take_events(self) -> tuple[Event, ...]:
        """What would go out with the next command, such as the event of an order; taken once."""
        events = tuple(self._events)
        self._events.clear()
        return events

    def is_sound(self, candidate: Proposal, now_s: float) -> bool:
        """The proposal is of this network, of whole numbers, and not stale."""
        wanted = candidate.wanted
        return (
            isinstance(wanted, np.ndarray)
            and wanted.shape == self.shown.shape
            and wanted.dtype.kind in "iu"
            and self._is_fresh(candidate.at_s, now_s)
        )

    def _advance_clock(self, now_s: float) -> None:
        """The gate's own clock; an event where that of the caller fails, and where it is back."""
        clock = self._clock
        fault = clock.advance(now_s)
        clock.tick_s = self._tick_s or clock.tick_s
        self._now_s = clock.now_s
        if fault is not self._clock_fault:
            if fault is not None:
                self._report("clock", {"now": repr(now_s), "fault": fault.value})
            else:
                self._report("clock_back", {"now": repr(now_s)})
            self._clock_fault = fault

    def _is_usable_observation(self, observation: Observation) -> bool:
        """It is whole, and of now; an event names the first field that is not, once."""
        fault = self._observation_check.fault(observation)
        field = fault.partition(":")[0]
        if field != self._observation_fault:
            self._observation_fault = field
            if fault:
                self._report("observation", {"fault": fault})
        return not fault and self._is_fresh(observation.at_s, self._clock.outside_s)

    def _is_fresh(self, at_s: Any, now_s: float) -> bool:
        stamp_s = seconds(at_s)
        return stamp_s is not None and -EPS_S <= now_s - stamp_s <= self._stale_s + EPS_S

    def _report(
        self,
        kind: str,
        data: Mapping[str, Any],
        junction: int | None = None,
        at_s: float | None = None,
    ) -> None:
        """Note an event, of now unless `at_s` is given, to go out with the next command."""
        name = "" if junction is None else self._network.junctions[junction].id
        at_s = self._clock.outside_s if at_s is None else at_s
        self._events.append(Event(at_s, f"safety.{kind}", name, data))

    # what is wanted, and by whom

    def _choose_source(self, proposal: Proposal | None, fallback: Proposal | None) -> None:
        """Follow the best healthy source: down at once, up only after `resume_s` of health."""
        healthy = self._best_healthy_source(proposal, fallback)
        healthy_for_s = self._now_s - self._better_since_s
        if healthy > self.source or (healthy < self.source and healthy_for_s >= self._resume_s):
            self._switch_source(healthy)
        if healthy >= self.source:
            self._better_since_s = self._now_s
        elif self.source == ControlSource.FALLBACK and not self._is_usable(fallback):
            # the controller is healthy but not trusted yet, and its fallback is gone
            self._switch_source(ControlSource.FIXED_TIME)

    def _switch_source(self, source: ControlSource) -> None:
        names = {"from": self.source.name.lower(), "to": source.name.lower()}
        self._report("source", names)
        self.source = source

    def _best_healthy_source(
        self, proposal: Proposal | None, fallback: Proposal | None
    ) -> ControlSource:
        """The best source that can be used now; red to all where every junction has a fault."""
        if len(self._monitor.faults) == len(self._network.junctions):
            return ControlSource.ALL_RED
        if self._is_usable(proposal):
            return ControlSource.CONTROLLER
        if self._is_usable(fallback):
            return ControlSource.FALLBACK
        return ControlSource.FIXED_TIME

    def _is_usable(self, proposal: Proposal | None) -> bool:
        return proposal is not None and self.is_sound(proposal, self._clock.outside_s)

    def _wanted_by_source(
        self, proposal: Proposal | None, fallback: Proposal | None
    ) -> ColourArray:
        if self.source == ControlSource.CONTROLLER and proposal is not None:
            return _as_colours(proposal.wanted)
        if self.source == ControlSource.FALLBACK and fallback is not None:
            return _as_colours(fallback.wanted)
        if self.source == ControlSource.ALL_RED:
            return np.full(len(self.shown), Colour.RED, np.int8)
        programmes = [j.programme for j in self._network.junctions]
        return np.concatenate([p.colours[p.phase_at(self._clock.outside_s)] for p in programmes])

    # operators and emergency vehicles

    def _apply_overrides(self, wanted: ColourArray) -> None:
        """Write what operators want over what the source wants; expired orders end."""
        for junction, override in list(self._overrides.items()):
            if self._clock.outside_s >= override.until_s:
                del self._overrides[junction]
                self._report("override_expired", {"by": override.by}, junction)
                continue
            if junction in self._monitor.faults:
                continue  # its lamps do not obey: a green for one may not be red for the others
            groups = self._groups_of(junction)
            self._off_cycle[junction] = True
            self._is_held[junction] = override.order is Order.HOLD
            self._exempt[junction] = override.order is not Order.HOLD
            match override.order:
                case Order.STAGE:
                    wanted[groups] = self._network.junctions[junction].stages[override.stage]
                case Order.HOLD:
                    wanted[groups] = self._held[groups]
                case Order.FLASH:
                    self._flash_ordered[junction] = True

    def _surround_flashes(self, wanted: ColourArray) -> None:
        """Red to all before a junction flashes and after it, whatever is wanted; nobody counts as
        waiting meanwhile. The rules leave what flashes red, for `_flash` to show.
        """
        if not self._overrides and not (self._now_s < self._red_until_s).any():
            return
        is_flashing = np.minimum.reduceat(self.shown, self._junctions.first_group[:-1]) < Colour.RED
        self._red_until_s[is_flashing] = self._now_s + EXIT_RED_S
        ended = self._red_until_s > self._now_s
        for junction in np.flatnonzero(self._flash_ordered | ended).tolist():
            own = self._groups_of(junction)
            wanted[own] = Colour.RED
            self._exempt[junction] = self._off_cycle[junction] = True
            self._is_held[junction] = False
            if is_flashing[junction]:
                self._calls.since_s[own] = self._now_s
                if not self._flash_ordered[junction]:
                    self._report("flash_ended", {"red_s": EXIT_RED_S}, junction)

    def _flash(self, colours: ColourArray) -> None:
        """Let the junctions flash that are ordered to, once all that conflicts has been cleared.
        colours: (groups,), of this second, changed in place.
        """
        for junction in np.flatnonzero(self._flash_ordered).tolist():
            own = range(
                self._network.junctions[junction].first, self._network.junctions[junction].end
            )
            groups = self._groups_of(junction)
            if (self.shown[groups] < Colour.RED).any():
                colours[groups] = self._flash_colours[junction]
            elif all(self._has_been_red(g) for g in own):
                colours[groups] = found = self._flash_colours[junction]
                self._red_until_s[junction] = self._now_s + EXIT_RED_S  # the order may end at once
                yellow = np.flatnonzero(found == Colour.FLASHING_YELLOW).tolist()
                self._report("flash", {"yellow": yellow}, junction)

    def _has_been_red(self, g: int) -> bool:
        red_s = self._now_s - self._signals.since_s[g] + EPS_S
        cleared_s = kernel.cleared_s(g, self._signals, self._limits)
        return bool(
            self.shown[g] == Colour.RED
            and red_s >= ENTRY_RED_S
            and self._now_s + EPS_S >= cleared_s
        )

    def _apply_priority(self, wanted: ColourArray, observation: Observation | None) -> None:
        """Want what serves the emergency vehicles, and returns the junctions to normal after."""
        if observation is None or not (observation.emergencies or self._priority.busy):
            return
        if self.source == ControlSource.ALL_RED:
            return  # the signals do not obey: a green for one may not be red for the others
        served, returning = self._serve(observation)
        for junction, colours in served.items():
            if not self._is_flashing(junction):
                wanted[self._groups_of(junction)] = colours
                self._exempt[junction] = not self._has_starved(junction)
                self._off_cycle[junction] |= self._exempt[junction]
        for junction, colours in returning.items():
            if junction not in self._overrides:
                wanted[self._groups_of(junction)] = colours

    def _has_starved(self, junction: int) -> bool:
        """Some group has waited so long that not even emergency vehicles stand over it."""
        own = self._groups_of(junction)
        waited_s = self._now_s - self._calls.since_s[own]
        is_red = self.shown[own] < Colour.PERMISSIVE
        longest_s = self._limits.max_red_s[own] + LONGEST_SERVICE_S
        return bool((is_red & (waited_s >= longest_s)).any())

    def _is_flashing(self, junction: int) -> bool:
        override = self._overrides.get(junction)
        return override is not None and override.order is Order.FLASH

    def _groups_of(self, junction: int) -> slice:
        first = self._junctions.first_group
        return slice(first[junction], first[junction + 1])

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
        verdict = self._monitor.settle(self._now_s)
        if verdict is not NOTHING:
            self._carry_out(verdict)
        self._lamps = None

    def _carry_out(self, verdict: Verdict) -> None:
        if verdict.wrong is not None:
            # what may be green is cleared from now on, before anything that it conflicts with
            self._signals.green_end_s[verdict.wrong & (self.shown < Colour.PERMISSIVE)] = (
                self._now_s
            )
        for junction in verdict.latched:
            own = self._groups_of(junction)
            data = {
                "commanded": self.shown[own].tolist(),
                "read": _own_colours(self._lamps, len(self.shown), own),
            }
            self._report("lamps", data, junction)
        for ended in verdict.ended:
            data = {"fault": ended.fault.value, "healthy_s": ended.healthy_s}
            self._report("fault_ended", data, ended.junction)

    def reset(self, junction: int, by: str, now_s: float) -> None:
        """An operator releases a junction whose fault was latched. Raises ValueError if it has
        none, or its lamps still do not obey.
        """
        if type(junction) is not int or not 0 <= junction < len(self._network.junctions):
            raise ValueError(f"no junction {junction!r}; there are {len(self._network.junctions)}")
        try:
            fault = self._monitor.reset(junction)
        except ValueError as error:
            name = self._network.junctions[junction].id
            raise ValueError(f"junction {name!r} is not reset: {error}") from error
        self._report("fault_reset", {"fault": fault.value, "by": by}, junction, now_s)

    @property
    def faults(self) -> Mapping[int, Fault]:
        """By junction: why it shows red to all until it is reset."""
        return self._monitor.faults

    def _apply_faults(self, wanted: ColourArray) -> None:
        """Red where a fault is latched, over everybody's orders."""
        for junction in self._monitor.faults:
            wanted[self._groups_of(junction)] = Colour.RED
            self._exempt[junction] = self._off_cycle[junction] = True
            self._is_held[junction] = False

    # the rules

    def _update_calls(self, observation: Observation | None) -> None:
        if observation is None:
            self._calls.present[:] = True  # traffic may be there for any group
        else:
            kernel.detect_calls(
                vehicle_lanes=_in_32_bits(observation.vehicles.lane),
                vehicle_links=_in_32_bits(observation.vehicles.link),
                links_known=bool(observation.links_known),
                ways=self._ways,
                waiting_persons=_in_32_bits(observation.waiting_persons),
                completeness=np.ascontiguousarray(observation.completeness, np.float64),
                junctions=self._junctions,
                calls=self._calls,
            )
        kernel.update_call_times(self._now_s, self._calls, self._signals, self._conflicts)

    def _keep_max_cycle(self, wanted: ColourArray) -> None:
        """See `headway.safety.cycle`; an event for each group that is late all the same."""
        if not self._has_max_cycle:
            return
        state = (self._signals, self._calls)
        if cycle.update_cycles(self._now_s, self._cycles, *state, self._limits):
            for g in np.flatnonzero(self._cycles.late_now).tolist():
                self._report_late(g)
        cycle.serve_due(
            now_s=self._now_s,
            period_s=self.tick_s,
            wanted=wanted,
            signals=self._signals,
            calls=self._calls,
            junctions=self._junctions,
            conflicts=self._conflicts,
            limits=self._limits,
            exempt=self._off_cycle,
            forced=self._forced,
            cycles=self._cycles,
            course=self._course,
        )

    def _report_late(self, g: int) -> None:
        """The group was not started within its maximum cycle, and why."""
        group = self._network.groups[g]
        reason = "others are served first"
        if group.junction in self._overrides:
            reason = "order"
        elif self._exempt[group.junction]:
            reason = "emergency" if self.source != ControlSource.ALL_RED else "all red"
        data = {
            "tl": group.tl_id,
            "link": group.index,
            "limit_s": float(self.timing.max_cycle_s[g]),
            "reason": reason,
        }
        self._report("cycle_exceeded", data, group.junction)

    def _apply_rules(self, wanted: ColourArray) -> None:
        """Fill `self._decision` with the colours of this second."""
        kernel.apply_rules(
            now_s=self._now_s,
            wanted=wanted,
            signals=self._signals,
            calls=self._calls,
            junctions=self._junctions,
            conflicts=self._conflicts,
            limits=self._limits,
            exempt=self._exempt,
            held=self._is_held,
            forced=self._forced,
            decision=self._decision,
        )
        colours = self._decision.colours
        if not kernel.is_safe(colours, self._conflicts):
            self._latch_unsafe(colours)

    def _latch_unsafe(self, colours: ColourArray) -> None:
        """The rules have let a conflict through: the junctions where it is end their greens and
        show red until an operator resets them. colours: (groups,), changed in place.
        """
        unsafe = [j for j in range(len(self._network.junctions)) if not self._is_safe(j, colours)]
        ending = self._ending_colours()
        for junction in unsafe or range(len(self._network.junctions)):
            own = self._groups_of(junction)
            self._report("monitor", {"colours": colours[own].tolist()}, junction)
            self._monitor.latch(junction, Fault.RULES)
            colours[own] = ending[own]

    def _is_safe(self, junction: int, colours: ColourArray) -> bool:
        alone = np.full_like(colours, Colour.RED)
        alone[self._groups_of(junction)] = colours[self._groups_of(junction)]
        return bool(kernel.is_safe(alone, self._conflicts))

    def _ending_colours(self) -> ColourArray:
        """(groups,): yellow for what is green or not yet yellow for its time, red for the rest."""
        shown, yellow_s = self.shown, self._limits.yellow_s
        lasts = self._now_s - self._signals.since_s + EPS_S < yellow_s
        ends = (shown >= Colour.PERMISSIVE) & (yellow_s > 0.0)
        yellow = ends | ((shown == Colour.YELLOW) & lasts)
        return np.where(yellow, Colour.YELLOW, Colour.RED).astype(np.int8)

    def _report_rules(self) -> None:
        """An event for each group at which a rule applied that did not apply the second before."""
        rule = self._decision.rule
        if kernel.is_equal(rule, self._last_rule):
            return
        changed = (rule != self._last_rule) & (rule != Rule.NONE)
        for g in np.flatnonzero(changed).tolist():
            self._report_rule(g, Rule(rule[g]))
        self._last_rule[:] = rule

    def _report_rule(self, g: int, rule: Rule) -> None:
        group = self._network.groups[g]
        if rule is Rule.MAXIMUM_RED and self._cycles.serving[group.junction] == g:
            rule = Rule.MAXIMUM_CYCLE
        data = {
            "tl": group.tl_id,
            "link": group.index,
            "shown": int(self.shown[g]),
            "for_s": float(self._now_s - self._signals.since_s[g]),
        }
        if rule == Rule.MINIMUM_GREEN:
            data["limit_s"] = float(self.timing.min_green_s[g])
        elif rule == Rule.MAXIMUM_GREEN:
            data["limit_s"] = float(self.timing.max_green_s[g])
        elif rule == Rule.MAXIMUM_CYCLE:
            data["limit_s"] = float(self.timing.max_cycle_s[g])
            data["cycle_s"] = float(self._now_s - self._cycles.since_s[g])
        self._report(rule.name.lower(), data, group.junction)


def _as_colours(wanted: ColourArray) -> ColourArray:
    """A copy in eight bits; unknown values become NOT_A_COLOUR (a cast of 260 would give 4, green),
    or are left to the rules where they have eight bits already.
    """
    if wanted.dtype == np.int8:
        return np.array(wanted, np.int8)
    unknown = (wanted < 0) | (wanted > HIGHEST_COLOUR)
    return np.where(unknown, NOT_A_COLOUR, wanted).astype(np.int8)


def _in_32_bits(values: IntArray) -> IntArray:
    """As the compiled rules take it: another type would be compiled within the tick. What has more
    bits is cut to their range, not cast (2**32 would become 0).
    """
    if values.dtype != np.int32:
        values = np.clip(values, -MOST_32_BITS, MOST_32_BITS).astype(np.int32)
    return np.ascontiguousarray(values)


def _own_colours(lamps: Any, groups: int, own: slice) -> list[Any] | str:
    """What was read of the groups `own`, for an event; a description of what is no such array."""
    if isinstance(lamps, np.ndarray) and lamps.shape == (groups,):
        return [int(x) if lamps.dtype.kind in "iu" else str(x) for x in lamps[own]]
    return f"{type(lamps).__name__} {getattr(lamps, 'shape', '')}".strip()


def _unchangeable(colours: ColourArray) -> ColourArray:
    """A copy that nobody can write to, not even by its flags."""
    return np.frombuffer(colours.tobytes(), np.int8)
