"""The safety gate: the only maker of Commands.

Where a wish comes from, best first: the controller's proposal, the fallback's, the junction's own
fixed-time programme, red to all. Over it stand, in this order: an operator's flash, an emergency
vehicle, an operator's hold or forced stage, a group that has been red for too long. Whatever is
wished, the rules of `headway.safety.kernel` decide what is shown.
"""

from __future__ import annotations

from enum import IntEnum
from math import isfinite
from typing import Any

import numpy as np

from headway.roads import Colour, Network, Timing
from headway.safety import kernel
from headway.safety.command import Command, sealed
from headway.safety.kernel import Rule
from headway.safety.override import Order, Override
from headway.safety.priority import Priority
from headway.values import ColourArray, Event, FloatArray, Observation, Proposal

_MEMORY = (
    "shown",
    "_since",
    "_green_start",
    "_green_end",
    "_call_since",
    "_call_last",
    "_foe_since",
    "_forced",
    "_last_rule",
)


class Source(IntEnum):
    """Where the wish of this second came from."""

    CONTROLLER = 0
    FALLBACK = 1
    FIXED_TIME = 2
    ALL_RED = 3


class SafetyGate:
    """Holds the rules of `timing` on `network`, whatever is proposed. Starts all red, with every
    conflict just cleared.

    stale_s:   a proposal or observation older than this counts as missing (two ticks).
    resume_s:  how long things must have been well before a better source is trusted again.
    """

    def __init__(
        self,
        network: Network,
        timing: Timing,
        now: float,
        stale_s: float = 2.0,
        resume_s: float = 5.0,
    ) -> None:
        self._network = network
        self.timing = timing
        self._stale_s = stale_s
        self._resume_s = resume_s
        n, m = len(network.groups), len(network.junctions)
        self.shown: ColourArray = np.full(n, Colour.RED, np.int8)
        self.source = Source.CONTROLLER
        self._out, self._rule, self._last_rule = (
            self.shown.copy(),
            np.zeros(n, np.int8),
            np.zeros(n, np.int8),
        )
        self._since = np.full(n, now)
        self._green_start = np.full(n, -np.inf)
        self._green_end = np.full(n, now)
        self._call_since = np.full(n, now)
        self._call_last = np.full(n, -np.inf)
        self._foe_since = np.full(n, now)
        self._calls = np.zeros(n, np.bool_)
        self._forced = np.full(m, -1, np.int32)
        self._exempt = np.zeros(m, np.bool_)
        self._now = now
        self._better_since = now
        self._obeyed_s = now
        self._overrides: dict[int, Override] = {}
        self._pending: list[Event] = []
        self._tables()
        self._priority = Priority(network.group_junction, tuple(j.id for j in network.junctions))

    def _tables(self) -> None:
        junctions = self._network.junctions
        self._first = np.array([j.first for j in junctions] + [len(self._network.groups)], np.int32)
        self._link_group = np.array([x.group for x in self._network.links], np.int32)
        ptr = [0]
        foe = list[int]()
        foe_yields = list[bool]()
        yields_foe = list[bool]()
        for j in junctions:
            for a in range(len(j.groups)):
                own = np.flatnonzero(j.conflicts[a]).tolist()
                foe += [j.first + b for b in own]
                foe_yields += [bool(j.yields[b, a]) for b in own]
                yields_foe += [bool(j.yields[a, b]) for b in own]
                ptr.append(len(foe))
        self._foes = (
            np.array(ptr, np.int32),
            np.array(foe, np.int32),
            np.array(foe_yields, np.bool_),
            np.array(yields_foe, np.bool_),
        )
        self._stage_ptr = np.concatenate(
            [[0], np.cumsum([len(j.stages) for j in junctions])]
        ).astype(np.int32)
        self._stages = np.full(
            (self._stage_ptr[-1], max(len(j.groups) for j in junctions)), Colour.RED, np.int8
        )
        self._stage_of = np.full(len(self._network.groups), -1, np.int32)
        for i, j in enumerate(junctions):
            self._stages[self._stage_ptr[i] : self._stage_ptr[i + 1], : len(j.groups)] = j.stages
            for g, stage in enumerate(np.argmax(j.stages, axis=0).tolist()):
                if j.stages[stage, g] >= Colour.PERMISSIVE:
                    self._stage_of[j.first + g] = stage

    @property
    def shown_since(self) -> FloatArray:
        """When each group's colour began, (groups,) seconds; all greens count as one colour."""
        return self._since.copy()

    def state(self) -> dict[str, Any]:
        """All that the gate remembers, to be given to `resume` of a gate of the same network and
        timing.
        """
        arrays = {k: getattr(self, k).copy() for k in _MEMORY}
        return arrays | {
            "source": int(self.source),
            "now": self._now,
            "better": self._better_since,
            "obeyed": self._obeyed_s,
            "overrides": dict(self._overrides),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Take up what another gate remembered. Raises ValueError if it was of another network."""
        if state["shown"].shape != self.shown.shape:
            raise ValueError(
                f"the state is of a network with {len(state['shown'])} signal groups; this "
                f"one has {len(self.shown)}"
            )
        for name in _MEMORY:
            getattr(self, name)[:] = state[name]
        self.source, self._now = Source(state["source"]), state["now"]
        self._better_since = state["better"]
        self._obeyed_s = state["obeyed"]
        self._overrides = dict(state["overrides"])

    def order(self, override: Override, now: float) -> None:
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
        self._pending.append(Event(now, "safety.override", junction.id, data))

    def release(self, junction: int, by: str, now: float) -> None:
        """End an operator's order, if there is one."""
        if self._overrides.pop(junction, None) is not None:
            self._pending.append(
                Event(
                    now,
                    "safety.override_released",
                    self._network.junctions[junction].id,
                    {"by": by},
                )
            )

    def admit(
        self,
        proposal: Proposal | None,
        now: float,
        seen: Observation | None = None,
        fallback: Proposal | None = None,
    ) -> Command:
        """The colours for the tick that begins at `now`, as near to what is wished as the rules
        allow.

        A clock that goes back or stands still does not shorten any time: the gate's own clock never
        goes back.
        """
        events, self._pending = self._pending, []
        if not isfinite(now) or now < self._now:
            events.append(Event(self._now, "safety.clock", "", {"now": repr(now)}))
            now = self._now
        self._now = now
        fresh = seen is not None and self._is_fresh(seen.at_s, now)
        wanted = self._wish(proposal, fallback, now, seen if fresh else None, events)
        self._exempt[:] = False
        self._overrule(wanted, now, seen if fresh else None, events)
        self._rule[:] = 0
        t = self.timing
        self._note_calls(seen if fresh else None, now)
        kernel.serve_starving(
            now,
            wanted,
            self.shown,
            self._since,
            t.min_green_s,
            self._first,
            self._stage_ptr,
            self._stages,
            self._stage_of,
            self._call_since,
            t.profile.max_red_s,
            self._exempt,
            self._forced,
            self._rule,
        )
        kernel.step(
            now,
            wanted,
            self.shown,
            self._since,
            self._green_start,
            self._green_end,
            self._foe_since,
            self._first,
            *self._foes,
            t.yellow_s,
            t.clearance_s,
            t.min_green_s,
            t.max_green_s,
            t.profile.min_cycle_s,
            self._out,
            self._rule,
        )
        if not kernel.is_safe(self._out, *self._foes):
            events.append(Event(now, "safety.monitor", "", {"colours": self._out.tolist()}))
            self._out[:] = np.where(self.shown >= Colour.PERMISSIVE, Colour.YELLOW, Colour.RED)
        if not kernel.same(self._rule, self._last_rule):
            self._explain(now, events)
        kernel.book(now, self._out, self.shown, self._since, self._green_start, self._green_end)
        return sealed(now, self.shown.copy(), tuple(events))

    def _is_fresh(self, at_s: float, now: float) -> bool:
        return isfinite(at_s) and -1e-6 <= now - at_s <= self._stale_s + 1e-6

    def _note_calls(self, seen: Observation | None, now: float) -> None:
        if seen is None:  # everybody may be there
            self._calls[:] = True
        else:
            kernel.count_calls(
                seen.vehicles.link,
                self._link_group,
                seen.waiting_persons,
                seen.completeness,
                self._first,
                self._calls,
            )
        kernel.note_calls(
            now,
            self._calls,
            self.shown,
            self._first,
            self._foes[0],
            self._foes[1],
            self._call_since,
            self._call_last,
            self._foe_since,
        )

    def _wish(
        self,
        proposal: Proposal | None,
        fallback: Proposal | None,
        now: float,
        seen: Observation | None,
        events: list[Event],
    ) -> ColourArray:
        """The colours wished by the best source that is well; worse at once, better again only
        after `resume_s` of health.
        """
        well = self._well(proposal, fallback, now, seen)
        if well > self.source or (
            well < self.source and now - self._better_since >= self._resume_s
        ):
            events.append(
                Event(
                    now,
                    "safety.source",
                    "",
                    {"from": self.source.name.lower(), "to": well.name.lower()},
                )
            )
            self.source = well
        if well >= self.source:
            self._better_since = now
        elif self.source == Source.FALLBACK and (
            fallback is None or not self.is_sound(fallback, now)
        ):  # well again before what stands in for it
            events.append(Event(now, "safety.source", "", {"from": "fallback", "to": "fixed_time"}))
            self.source = Source.FIXED_TIME
        if self.source == Source.CONTROLLER and proposal is not None:
            return _narrow(proposal.wanted)
        if self.source == Source.FALLBACK and fallback is not None:
            return _narrow(fallback.wanted)
        if self.source == Source.ALL_RED:
            return np.full(len(self.shown), Colour.RED, np.int8)
        return np.concatenate(
            [j.programme.colours[j.programme.phase_at(now)] for j in self._network.junctions]
        )

    def _well(
        self,
        proposal: Proposal | None,
        fallback: Proposal | None,
        now: float,
        seen: Observation | None,
    ) -> Source:
        """The best source that can be used now. Lamps that do not show what was commanded leave red
        to all.
        """
        if (
            seen is None
            or _kind(seen.shown) != _kind(self.shown)
            or kernel.same(seen.shown, self.shown)
        ):
            self._obeyed_s = now
        if now - self._obeyed_s > self._stale_s:
            return Source.ALL_RED
        if proposal is not None and self.is_sound(proposal, now):
            return Source.CONTROLLER
        if fallback is not None and self.is_sound(fallback, now):
            return Source.FALLBACK
        return Source.FIXED_TIME

    def is_sound(self, candidate: Proposal, now: float) -> bool:
        """The proposal is of this network, of whole numbers, and not stale."""
        wanted = candidate.wanted
        return (
            isinstance(wanted, np.ndarray)
            and wanted.shape == self.shown.shape
            and wanted.dtype.kind in "iu"
            and isinstance(candidate.at_s, (int, float, np.floating))
            and self._is_fresh(float(candidate.at_s), now)
        )

    def _overrule(
        self, wanted: ColourArray, now: float, seen: Observation | None, events: list[Event]
    ) -> None:
        """Write the wishes of operators and emergency vehicles over those of the controller."""
        for junction, override in list(self._overrides.items()):
            if now >= override.until_s:
                del self._overrides[junction]
                events.append(
                    Event(
                        now,
                        "safety.override_expired",
                        self._network.junctions[junction].id,
                        {"by": override.by},
                    )
                )
                continue
            own = slice(self._first[junction], self._first[junction + 1])
            self._exempt[junction] = True
            if override.order is Order.STAGE:
                wanted[own] = self._network.junctions[junction].stages[override.stage]
            elif override.order is Order.HOLD:
                wanted[own] = self.shown[own]
            else:
                wanted[own] = Colour.RED
        if seen is None or not (seen.emergencies or self._priority.busy):
            return
        claims, news = self._priority.claims(seen.emergencies, now)
        events += news
        for junction, group in claims.items():
            flashing = (
                junction in self._overrides and self._overrides[junction].order is Order.FLASH
            )
            if not flashing and self._stage_of[group] >= 0:
                own = slice(self._first[junction], self._first[junction + 1])
                wanted[own] = self._best_stage(junction, group)
                self._exempt[junction] = True

    def _best_stage(self, junction: int, group: int) -> ColourArray:
        """The stage that serves `group` with protected green if there is one, and changes least of
        what is shown.
        """
        j = self._network.junctions[junction]
        own = self.shown[j.first : j.end] >= Colour.PERMISSIVE
        level = j.stages[:, group - j.first]
        same = ((j.stages >= Colour.PERMISSIVE) == own).sum(axis=1)
        return np.asarray(j.stages[max(range(len(j.stages)), key=lambda s: (level[s], same[s]))])

    def _explain(self, now: float, events: list[Event]) -> None:
        """An event for each group at which a rule came to bear that did not bear the second
        before.
        """
        for g in np.flatnonzero(
            (self._rule != self._last_rule) & (self._rule != Rule.NONE)
        ).tolist():
            group, rule = self._network.groups[g], Rule(int(self._rule[g]))
            data = {
                "tl": group.tl_id,
                "link": group.index,
                "shown": int(self.shown[g]),
                "for_s": float(now - self._since[g]),
            }
            limit = {
                Rule.MINIMUM_GREEN: self.timing.min_green_s[g],
                Rule.MAXIMUM_GREEN: self.timing.max_green_s[g],
            }.get(rule)
            if limit is not None:
                data["limit_s"] = float(limit)
            events.append(
                Event(
                    now,
                    f"safety.{rule.name.lower()}",
                    self._network.junctions[group.junction].id,
                    data,
                )
            )
        self._last_rule = self._rule.copy()


def _narrow(wanted: ColourArray) -> ColourArray:
    """In eight bits, with -1 for what is no colour: a plain cast makes green of 260."""
    return np.where((wanted < 0) | (wanted > Colour.GREEN), -1, wanted).astype(np.int8)


def _kind(colours: ColourArray) -> object:
    return getattr(colours, "shape", None), getattr(colours, "dtype", None)
