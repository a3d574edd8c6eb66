"""The orders of operators, carried out: a stage forced or held, a junction that flashes."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from headway.roads import Colour
from headway.safety import kernel
from headway.safety.arrays import NO_STAGE
from headway.safety.flashing import ENTRY_RED_S, EXIT_RED_S, flash_colours
from headway.safety.holding import Holding, Scene
from headway.safety.kernel import EPS_S
from headway.safety.memory import GateMemory
from headway.safety.override import Order, Override
from headway.safety.reports import Reports
from headway.values import ColourArray, described


class Operators:
    """Holds the orders in force, and writes what they want over what the source wants.

    overrides: by junction.
    """

    def __init__(self, memory: GateMemory, reports: Reports, holding: Holding) -> None:
        self.overrides: dict[int, Override] = {}
        self._ends_s: dict[int, float] = {}  # by junction, of the gate's own clock
        self._memory = memory
        self._reports = reports
        self._holding = holding
        junctions = memory.network.junctions
        self._flash_ordered = np.zeros(len(junctions), np.bool_)
        self._flash_colours = [flash_colours(junction) for junction in junctions]

    def order(self, override: Override, now_s: float) -> None:
        """Put an order in force. Raises ValueError if the junction or stage does not exist."""
        junctions = self._memory.network.junctions
        if not 0 <= override.junction < len(junctions):
            found = described(override.junction)
            raise ValueError(f"no junction {found}; there are {len(junctions)}")
        junction = junctions[override.junction]
        if override.stage >= len(junction.stages):
            raise ValueError(
                f"junction {junction.id!r} has {len(junction.stages)} stages; there is no "
                f"stage {described(override.stage)}"
            )
        self._put_in_force(override)
        data = {
            "order": override.order.value,
            "stage": override.stage,
            "until_s": override.until_s,
            "by": override.by,
        }
        if override.order is Order.HOLD:
            data |= self._hold(override.junction, now_s)
        self._reports.add("override", data, override.junction, now_s)

    def _put_in_force(self, override: Override) -> None:
        """For as long as it is ordered now, whatever the clock outside does afterwards."""
        self.overrides[override.junction] = override
        self._ends_s[override.junction] = override.until_s - self._memory.clock.ahead_s

    def _hold(self, junction: int, now_s: float) -> dict[str, Any]:
        """Decide which stage is held from now on, and name it: its number among the junction's
        stages (-1 for another one), and the places of its greens.
        """
        memory = self._memory
        own = memory.groups_of(junction)
        scene = Scene(
            shown=memory.shown[own],
            wanted=memory.wanted[own],
            called=memory.state.calls.present[own],
        )
        held = self._holding.stage(junction, scene, now_s)
        memory.held[own] = held
        same = (memory.network.junctions[junction].stages == held).all(axis=1)
        stage = int(np.argmax(same)) if same.any() else NO_STAGE
        return {"stage": stage, "green": np.flatnonzero(held >= Colour.PERMISSIVE).tolist()}

    def release(self, junction: int, by: str, now_s: float) -> None:
        """End an order, if there is one."""
        if self.overrides.pop(junction, None) is not None:
            self._reports.add("override_released", {"by": by}, junction, now_s)

    def is_flashing(self, junction: int) -> bool:
        """It is ordered to flash."""
        override = self.overrides.get(junction)
        return override is not None and override.order is Order.FLASH

    def apply(self, wanted: ColourArray, faults: Container[int]) -> None:
        """Write what is ordered into `wanted`, (groups,), but where there are faults: the lamps do
        not obey, so a green for one may not be red for the others. Expired orders end.
        """
        memory, orders = self._memory, self._memory.state.orders
        self._flash_ordered[:] = False
        for junction, override in list(self.overrides.items()):
            if memory.now_s >= self._ends_s[junction]:
                del self.overrides[junction]
                self._reports.add("override_expired", {"by": override.by}, junction)
                continue
            if junction in faults:
                continue
            groups = memory.groups_of(junction)
            orders.off_cycle[junction] = True
            orders.held[junction] = override.order is Order.HOLD
            orders.exempt[junction] = override.order is not Order.HOLD
            match override.order:
                case Order.STAGE:
                    wanted[groups] = memory.network.junctions[junction].stages[override.stage]
                case Order.HOLD:
                    wanted[groups] = memory.held[groups]
                case Order.FLASH:
                    self._flash_ordered[junction] = True

    # flashing

    def surround_flashes(self, wanted: ColourArray) -> None:
        """Red to all before a junction flashes and after it, whatever is wanted; nobody counts as
        waiting meanwhile. The rules leave what flashes red, for `flash` to show.
        """
        memory, orders = self._memory, self._memory.state.orders
        now_s = memory.now_s
        if not self.overrides and not (now_s < memory.red_until_s).any():
            return
        first_group = memory.tables.junctions.first_group
        is_flashing = np.minimum.reduceat(memory.shown, first_group[:-1]) < Colour.RED
        memory.red_until_s[is_flashing] = now_s + EXIT_RED_S
        ended = memory.red_until_s > now_s
        for junction in np.flatnonzero(self._flash_ordered | ended).tolist():
            own = memory.groups_of(junction)
            wanted[own] = Colour.RED
            orders.exempt[junction] = orders.off_cycle[junction] = True
            if is_flashing[junction]:
                memory.state.calls.since_s[own] = now_s
                if not self._flash_ordered[junction]:
                    self._reports.add("flash_ended", {"red_s": EXIT_RED_S}, junction)

    def flash(self, colours: ColourArray) -> None:
        """Let the junctions flash that are ordered to, once all that conflicts has been cleared.
        colours: (groups,), of this second, changed in place.
        """
        if not self.overrides:  # as in most seconds
            return
        memory = self._memory
        for junction in np.flatnonzero(self._flash_ordered).tolist():
            own = memory.groups_of(junction)
            if (memory.shown[own] < Colour.RED).any():
                colours[own] = self._flash_colours[junction]
            elif all(self._has_been_red(g) for g in range(own.start, own.stop)):
                colours[own] = found = self._flash_colours[junction]
                # the order may end at once
                memory.red_until_s[junction] = memory.now_s + EXIT_RED_S
                yellow = np.flatnonzero(found == Colour.FLASHING_YELLOW).tolist()
                self._reports.add("flash", {"yellow": yellow}, junction)

    def _has_been_red(self, g: int) -> bool:
        memory = self._memory
        signals = memory.state.signals
        red_s = memory.now_s - signals.since_s[g] + EPS_S
        cleared_s = kernel.cleared_s(g, signals, memory.tables.limits)
        return bool(
            memory.shown[g] == Colour.RED
            and red_s >= ENTRY_RED_S
            and memory.now_s + EPS_S >= cleared_s
        )

    # checkpoints

    def state(self) -> dict[str, Any]:
        """The orders in force, by junction, and when they end by the gate's own clock."""
        ends_s = {junction: self._ends_s[junction] for junction in self.overrides}
        return {"overrides": dict(self.overrides), "override_ends": ends_s}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on with the orders of another gate."""
        self.overrides.clear()
        self.overrides.update(state["overrides"])
        self._ends_s.update(state["override_ends"])
