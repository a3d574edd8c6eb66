"""What the gate knows of its network and remembers from second to second; its parts share it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headway.roads import Colour, Network, Timing
from headway.safety import kernel
from headway.safety.arrays import NO_GROUP, Calls, Decision, Orders, Signals, State
from headway.safety.clock import GateClock
from headway.safety.cycle import Course, Cycles
from headway.safety.kernel import Rule
from headway.safety.tables import service_times, tables_of, way_table
from headway.values import ColourArray


class GateMemory:
    """All is red at `now_s`, and nobody has called.

    network, timing, tables, ways: what the rules are about.
    clock:       the gate's own; all times are of it.
    state, cycles, course, decision: of the compiled rules.
    last_rule:   int8 (groups,), the rules that applied in the second before.
    held:        int8 (groups,), the stages that operators hold.
    wanted:      int8 (groups,), in the second before.
    red_until_s: (junctions,), red to all after flashing.
    """

    def __init__(self, network: Network, timing: Timing, now_s: float) -> None:
        self.network = network
        self.timing = timing
        self.tables = tables_of(network, timing)
        self.ways = way_table(network)
        self.clock = GateClock(now_s)
        groups, junctions = len(network.groups), len(network.junctions)
        self.state = _state(groups, junctions, now_s)
        self.cycles = Cycles(
            since_s=np.full(groups, now_s),
            is_late=np.zeros(groups, np.bool_),
            late_now=np.zeros(groups, np.bool_),
            serving=np.full(junctions, NO_GROUP, np.int32),
            service_s=service_times(self.tables.junctions, self.tables.limits),
        )
        self.course = Course(
            left=np.zeros(groups, np.bool_),
            lit=np.zeros(groups, np.bool_),
            end_s=np.zeros(groups),
            clear_s=np.zeros(groups),
        )
        self.decision = Decision(
            colours=np.full(groups, Colour.RED, np.int8),
            rule=np.full(groups, Rule.NONE, np.int8),
        )
        self.last_rule = self.decision.rule.copy()
        self.held = np.full(groups, Colour.RED, np.int8)
        self.wanted = self.held.copy()
        self.red_until_s = np.full(junctions, -np.inf)
        self._shown = _unchangeable(self.state.signals.colour)

    @property
    def now_s(self) -> float:
        """Seconds, of the gate's own clock."""
        return self.clock.now_s

    @property
    def shown(self) -> ColourArray:
        """The colours in force, int8 (groups,); nobody can write to it."""
        return self._shown

    def groups_of(self, junction: int) -> slice:
        first = self.tables.junctions.first_group
        return slice(first[junction], first[junction + 1])

    def put_in_force(self) -> None:
        """Show what was decided from now on."""
        kernel.put_in_force(self.now_s, self.decision.colours, self.state.signals)
        self._shown = _unchangeable(self.state.signals.colour)

    def kept(self) -> dict[str, np.ndarray]:
        """The arrays of a checkpoint by their names in it, which are those of its first version."""
        signals, calls, _ = self.state
        return {
            "shown": signals.colour,
            "_since": signals.since_s,
            "_green_start": signals.green_start_s,
            "_green_end": signals.green_end_s,
            "_call_since": calls.since_s,
            "_call_last": calls.last_s,
            "_foe_since": calls.conflicting_since_s,
            "_forced": self.state.orders.forced,
            "_last_rule": self.last_rule,
            "cycle_since": self.cycles.since_s,
            "cycle_late": self.cycles.is_late,
            "cycle_serving": self.cycles.serving,
            "red_until": self.red_until_s,
            "held": self.held,
            "wanted": self.wanted,
        }

    def resume(self, arrays: Mapping[str, Any]) -> None:
        """Go on from what another one kept; some arrays are not in older checkpoints. Raises
        ValueError if they are of another network.
        """
        if arrays["shown"].shape != self.shown.shape:
            raise ValueError(
                f"the state is of a network with {len(arrays['shown'])} signal groups; this "
                f"one has {len(self.shown)}"
            )
        for name, array in self.kept().items():
            array[:] = arrays.get(name, array)
        self._shown = _unchangeable(self.state.signals.colour)


def _state(groups: int, junctions: int, now_s: float) -> State:
    """Red with every conflict just cleared, and nobody calls."""
    return State(
        signals=Signals(
            colour=np.full(groups, Colour.RED, np.int8),
            since_s=np.full(groups, now_s),
            green_start_s=np.full(groups, -np.inf),
            green_end_s=np.full(groups, now_s),
        ),
        calls=Calls(
            present=np.zeros(groups, np.bool_),
            since_s=np.full(groups, now_s),
            last_s=np.full(groups, -np.inf),
            conflicting_since_s=np.full(groups, now_s),
        ),
        orders=Orders(
            exempt=np.zeros(junctions, np.bool_),
            held=np.zeros(junctions, np.bool_),
            off_cycle=np.zeros(junctions, np.bool_),
            preempted=np.zeros(junctions, np.bool_),
            forced=np.full(junctions, NO_GROUP, np.int32),
        ),
    )


def _unchangeable(colours: ColourArray) -> ColourArray:
    """A copy that nobody can write to, not even by its flags."""
    return np.frombuffer(colours.tobytes(), np.int8)
