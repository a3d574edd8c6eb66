"""Lines of a street's events in the logs of its components: what a person wants to read at level
info. The event log has every event.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from headway import telemetry
from headway.street.guard import ROLES
from headway.values import Event

SAFETY = "safety."
CYCLE = "engine.cycle"
WINDOW_S = 60.0  # wall seconds: a line of cycles in so long, and the window of MOST_LINES
MOST_LINES = 30  # of one kind of event in a window; more go to level debug, and are counted
# what a person has to look after
FAULTS_OF_STEPS = tuple(
    f"engine.{role}_{fault}" for role in ROLES for fault in ("failed", "slow", "hung")
)
ERRORS = (
    *FAULTS_OF_STEPS,
    "runtime.fault",
    "runtime.stopped",
    "safety.lamps",
    "safety.monitor",
)
WARNINGS = (
    "engine.canary_withdrawn",
    "engine.order_refused",
    "engine.orders_left",
    "engine.orders_unreadable",
    "engine.settings_refused",
    "engine.checkpoint_refused",
    "engine.order_not_stored",
    "runtime.checkpoint_failed",
    "engine.not_controlled",
    "engine.observation_refused",
    "safety.clock",
    "safety.observation",
)


class EventLines:
    """Writes the lines. clock: wall seconds, given by tests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun_s = -WINDOW_S
        self._at_s = -WINDOW_S  # simulated time of the newest event of a group
        self._said: set[tuple[str, str]] = set()  # kind and junction, of that time
        self._counts: dict[str, int] = {}
        self._cycles: list[Mapping[str, Any]] = []
        self._cycles_since_s = -WINDOW_S

    def write(self, event: Event) -> None:
        log = telemetry.log("safety" if event.kind.startswith(SAFETY) else "street")
        about = {**event.data, "at_s": event.at_s, "junction": event.junction}
        for own in ("event", "self"):  # of the line
            about.pop(own, None)
        if event.kind == CYCLE:
            log.debug(event.kind, **about)
            self._write_cycles(event)
            return
        if self._is_said(event):
            log.debug(event.kind, **about)
            return
        level, held_back = self._level(event)
        if held_back:
            about["held_back"] = held_back
        getattr(log, level)(event.kind, **about)

    def _is_said(self, event: Event) -> bool:
        """A rule that applies to several groups of a junction at once is one line at level info."""
        if not event.kind.startswith(SAFETY) or "link" not in event.data:
            return False
        if event.at_s != self._at_s:
            self._at_s = event.at_s
            self._said.clear()
        place = (event.kind, event.junction)
        is_said = place in self._said
        self._said.add(place)
        return is_said

    def _level(self, event: Event) -> tuple[str, int]:
        """(level, lines of the kind that were held back in the window before)."""
        now = self._clock()
        held_back = 0
        if now - self._begun_s >= WINDOW_S:
            held_back = max(self._counts.get(event.kind, 0) - MOST_LINES, 0)
            self._begun_s, self._counts = now, {}
        count = self._counts[event.kind] = self._counts.get(event.kind, 0) + 1
        if event.kind in ERRORS:
            return "error", held_back
        if count > MOST_LINES:
            return "debug", held_back
        if event.kind in WARNINGS:
            return "warning", held_back
        if event.kind == "alert.opened":
            return str(event.data.get("level", "warning")), held_back
        return "info", held_back

    def _write_cycles(self, event: Event) -> None:
        """One line for all cycles since the last one."""
        self._cycles.append(event.data)
        now = self._clock()
        if now - self._cycles_since_s < WINDOW_S:
            return
        cycles, self._cycles, self._cycles_since_s = self._cycles, [], now
        spent = [float(c.get("processing_ms", 0.0)) for c in cycles]
        telemetry.log("street").info(
            "optimisation cycles",
            at_s=event.at_s,
            cycles=len(cycles),
            succeeded=sum(bool(c.get("ok")) for c in cycles),
            processing_ms_mean=round(sum(spent) / len(spent), 3),
            processing_ms_max=max(spent),
            vehicles=event.data.get("vehicles"),
            stopped=event.data.get("stopped"),
            source=event.data.get("source"),
        )
