"""The alert rules of the settings, checked against what a street reports."""

from __future__ import annotations

import re
from dataclasses import replace

from headway.runtime import LOOP_FIGURES, AlertRule, Level, RealTimeMonitor
from headway.settings import Settings

STREET_FIELDS = ("time_s", "vehicles", "stopped", "halted")  # halted: old name of stopped
JUNCTION_FIELDS = ("vehicles", "queue", "longest_wait_s", "confidence")
ANY_JUNCTION = "NAME"  # stands for every junction's name when a path is checked


def alert_rules(settings: Settings) -> tuple[AlertRule, ...]:
    """The rules of the settings. Raises ValueError for a path that no street reports, or a name
    that occurs twice.
    """
    rules = tuple(
        AlertRule(
            name=r.name,
            path=r.path,
            condition=r.condition,
            threshold=r.threshold,
            level=Level[r.level.upper()],
            hysteresis=r.hysteresis,
            for_s=r.for_s,
            clear_s=r.clear_s,
        )
        for r in settings.alerts.rules
    )
    # junctions are known only once the network is read: any name will do
    anywhere = (re.sub(r"^junctions\.[^.]+", f"junctions.{ANY_JUNCTION}", r.path) for r in rules)
    checked = tuple(replace(r, path=path) for r, path in zip(rules, anywhere, strict=True))
    RealTimeMonitor(checked, _sample())
    return rules


def _sample() -> dict[str, object]:
    """A state with all the paths of a street's state (see `StreetRun.state`) and of its loop's."""
    return {
        **dict.fromkeys(STREET_FIELDS),
        "junctions": {ANY_JUNCTION: dict.fromkeys(JUNCTION_FIELDS)},
        "loop": dict.fromkeys(LOOP_FIGURES),
    }
