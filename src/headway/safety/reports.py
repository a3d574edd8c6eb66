"""What the gate tells of what it did: events, kept until they go out with a command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np

from headway.safety import kernel
from headway.safety.kernel import Rule
from headway.safety.memory import GateMemory
from headway.values import Event

QUIET_S = 10.0  # between two events of one fault, which may come and go at every tick


class FaultChanges:
    """What is to be told of something that is well (""), or has one of several faults: each change
    once, each fault at most once in QUIET_S. What is still so after that is told then.
    """

    def __init__(self) -> None:
        self._present = self._told = ""
        self._told_s: dict[str, float] = {}  # by fault
        self._changes = 0  # since the last one told

    def update(self, fault: str, now_s: float) -> dict[str, int] | None:
        """What to add to the event of `fault`, if one is due: how many changes were left out, if
        any.
        """
        if fault != self._present:
            self._present = fault
            self._changes += 1
        if fault == self._told or 0.0 <= now_s - self._told_s.get(fault, -inf) < QUIET_S:
            return None
        left_out, self._changes = self._changes - 1, 0
        self._told = fault
        self._told_s[fault] = now_s
        return {"left_out": left_out} if left_out > 0 else {}


class Reports:
    """The events of one gate."""

    def __init__(self, memory: GateMemory) -> None:
        self._memory = memory
        self._events: list[Event] = []

    def add(
        self,
        kind: str,
        data: Mapping[str, Any],
        junction: int | None = None,
        at_s: float | None = None,
    ) -> None:
        """Note an event, of now unless `at_s` is given, by the clock outside."""
        name = "" if junction is None else self._memory.network.junctions[junction].id
        at_s = self._memory.clock.outside_s if at_s is None else at_s
        self._events.append(Event(at_s, f"safety.{kind}", name, data))

    def add_own(self, events: Iterable[Event]) -> None:
        """Note events with times of the gate's own clock."""
        ahead_s = self._memory.clock.ahead_s
        self._events += [replace(e, at_s=e.at_s + ahead_s) for e in events] if ahead_s else events

    def take(self) -> tuple[Event, ...]:
        """The events noted so far; taken once."""
        events = tuple(self._events)
        self._events.clear()
        return events

    def add_rules(self) -> None:
        """An event for each group at which a rule applied that did not apply the second before."""
        rule, last = self._memory.decision.rule, self._memory.last_rule
        if kernel.is_equal(rule, last):
            return
        for g in np.flatnonzero((rule != last) & (rule != Rule.NONE)).tolist():
            self._add_rule(g, Rule(rule[g]))
        last[:] = rule

    def _add_rule(self, g: int, rule: Rule) -> None:
        memory = self._memory
        group, limits = memory.network.groups[g], memory.tables.limits
        if rule is Rule.MAXIMUM_RED and memory.cycles.serving[group.junction] == g:
            rule = Rule.MAXIMUM_CYCLE
        data = {
            "tl": group.tl_id,
            "link": group.index,
            "shown": int(memory.shown[g]),
            "for_s": float(memory.now_s - memory.state.signals.since_s[g]),
        }
        if rule is Rule.MINIMUM_GREEN:
            data["limit_s"] = float(limits.min_green_s[g])
        elif rule is Rule.MAXIMUM_GREEN:
            data["limit_s"] = float(limits.max_green_s[g])
        elif rule is Rule.MAXIMUM_CYCLE:
            data["limit_s"] = float(limits.max_cycle_s[g])
            data["cycle_s"] = float(memory.now_s - memory.cycles.since_s[g])
        self.add(rule.name.lower(), data, group.junction)

    def add_late(self, g: int, reason: str) -> None:
        """The group was not started within its maximum cycle, and why."""
        group = self._memory.network.groups[g]
        data = {
            "tl": group.tl_id,
            "link": group.index,
            "limit_s": float(self._memory.tables.limits.max_cycle_s[g]),
            "reason": reason,
        }
        self.add("cycle_exceeded", data, group.junction)
