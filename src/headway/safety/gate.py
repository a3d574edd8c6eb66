"""The safety gate: the only maker of Commands."""

from __future__ import annotations

import numpy as np

from headway.roads import Colour, Network, Timing
from headway.safety import kernel
from headway.safety.kernel import Rule
from headway.values import ColourArray, Command, Event, Proposal, claim_seal

_command = claim_seal("headway.safety.gate")


class SafetyGate:
    """Holds the rules of `timing` on `network`, whatever is proposed; starts all red."""

    def __init__(self, network: Network, timing: Timing, now: float) -> None:
        self._network, self._timing = network, timing
        n = len(network.groups)
        self.shown: ColourArray = np.full(n, Colour.RED, np.int8)
        self._out, self._rule = self.shown.copy(), np.zeros(n, np.int8)
        self._last_rule = self._rule.copy()
        self._since, self._green_start, self._green_end = np.full(n, now), np.full(n, -1e9), np.full(n, now)
        self._first = np.array([j.first for j in network.junctions] + [n], np.int32)
        ptr, foe, foe_yields, yields_foe = [0], list[int](), list[bool](), list[bool]()
        for j in network.junctions:
            for a in range(j.end - j.first):
                own = np.flatnonzero(j.conflicts[a]).tolist()
                foe += [j.first + b for b in own]
                foe_yields += [bool(j.yields[b, a]) for b in own]
                yields_foe += [bool(j.yields[a, b]) for b in own]
                ptr.append(len(foe))
        self._foes = (np.array(ptr, np.int32), np.array(foe, np.int32), np.array(foe_yields, np.bool_), np.array(yields_foe, np.bool_))

    def admit(self, proposal: Proposal, now: float) -> Command:
        """The colours for the tick that begins at `now`, as near to the proposal as the rules allow."""
        t = self._timing
        kernel.step(
            now, proposal.wanted, self.shown, self._since, self._green_start, self._green_end, self._first, *self._foes,
            t.yellow_s, t.clearance_s, t.min_green_s, t.max_green_s, t.profile.min_cycle_s, self._out, self._rule,
        )  # fmt: skip
        events = self._explain(now) if (self._rule != self._last_rule).any() else ()
        kernel.book(now, self._out, self.shown, self._since, self._green_start, self._green_end)
        return _command(now, self.shown.copy(), events)

    def _explain(self, now: float) -> tuple[Event, ...]:
        events = []
        for g in np.flatnonzero((self._rule != self._last_rule) & (self._rule != Rule.NONE)).tolist():
            group = self._network.groups[g]
            data = {"tl": group.tl_id, "link": group.index, "shown": int(self.shown[g]), "for_s": float(now - self._since[g])}
            events.append(Event(now, f"safety.{Rule(int(self._rule[g])).name.lower()}", self._network.junctions[group.junction].id, data))
        self._last_rule = self._rule.copy()
        return tuple(events)
