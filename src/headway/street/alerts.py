"""The alert rules of the settings, checked against what a street and the program report."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from headway.runtime import LOOP_FIGURES, AlertRule, Level, RealTimeMonitor
from headway.runtime.paths import ANY_PART
from headway.settings import AlertSettings, RuleSettings, Settings

STREET_FIELDS = ("time_s", "vehicles", "stopped", "halted")  # halted: old name of stopped
JUNCTION_FIELDS = ("vehicles", "queue", "longest_wait_s", "confidence", "congested")
ANY_JUNCTION = "NAME"  # stands for every junction's name when a path is checked


MACHINE_FIGURES = ("cpu_share", "memory_share", "disk_share", "disk_free_bytes", "load_1m")
PROCESS_FIGURES = ("cpu_share", "memory_bytes", "processes", "threads")
PROGRAM_STREET_FIGURES = (
    "running",
    "tick_ms",
    "tick_share",
    "jitter_p99_s",
    "overruns_per_minute",
    "cycle_success_rate",
    "restarts_per_minute",
)
ANY_NAME = "NAME"  # of a street or a process
PROGRAM: dict[str, object] = {
    "machine": dict.fromkeys(MACHINE_FIGURES),
    "processes": {ANY_NAME: dict.fromkeys(PROCESS_FIGURES)},
    "streets": {ANY_NAME: dict.fromkeys(PROGRAM_STREET_FIGURES)},
    "database": {"alive": None, "spool": None},
    "errors_per_minute": None,
}  # what rules on the program may name, see `service.selfwatch`


def system_rules(alerts: AlertSettings) -> tuple[AlertRule, ...]:
    """The rules on the program itself. Raises ValueError for a path that it does not report, or a
    name that occurs twice.
    """
    rules = tuple(map(_rule, alerts.system))
    anywhere = (
        re.sub(rf"^(streets|processes)\.({ANY_PART})", rf"\1.{ANY_NAME}", rule.path)
        for rule in rules
    )
    _check(rules, anywhere, PROGRAM)
    return rules


def _check(
    rules: tuple[AlertRule, ...], anywhere: Iterable[str], state: Mapping[str, object]
) -> None:
    """anywhere: the path of each rule, with names that are known only later replaced. Raises
    ValueError.
    """
    for rule, path in zip(rules, anywhere, strict=True):
        try:
            RealTimeMonitor((replace(rule, path=path),), state)
        except ValueError as error:
            why = str(error).replace(repr(path), repr(rule.path))
            raise ValueError(f"alert rule {rule.name!r}: {why}") from error
    RealTimeMonitor(rules)  # each name once


def _rule(rule: RuleSettings) -> AlertRule:
    return AlertRule(
        name=rule.name,
        path=rule.path,
        condition=rule.condition,
        threshold=rule.threshold,
        level=Level[rule.level.upper()],
        hysteresis=rule.hysteresis,
        for_s=rule.for_s,
        clear_s=rule.clear_s,
    )


def alert_rules(settings: Settings) -> tuple[AlertRule, ...]:
    """The rules on a street; those on the program are checked too. Raises ValueError for a path
    that is not reported, or a name that occurs twice.
    """
    system_rules(settings.alerts)
    rules = tuple(map(_rule, settings.alerts.rules))
    # junctions are known only once the network is read: any name will do
    anywhere = (
        re.sub(rf"^junctions\.{ANY_PART}", f"junctions.{ANY_JUNCTION}", r.path) for r in rules
    )
    _check(rules, anywhere, _sample())
    return rules


def rules_on(
    settings: Settings, junctions: Collection[str]
) -> tuple[tuple[AlertRule, ...], tuple[str, ...]]:
    """The rules on a street with these junctions, and why each of the others can never hold there.
    Raises ValueError as `alert_rules`.
    """
    sample = _sample(junctions)
    kept, refused = list[AlertRule](), list[str]()
    for rule in alert_rules(settings):
        try:
            RealTimeMonitor((rule,), sample)
            kept.append(rule)
        except ValueError as error:
            refused.append(f"alert rule {rule.name!r}: {error}")
    return tuple(kept), tuple(refused)


def _sample(junctions: Collection[str] = (ANY_JUNCTION,)) -> dict[str, object]:
    """A state with all the paths of a street's state (see `StreetRun.state`) and of its loop's."""
    return {
        **dict.fromkeys(STREET_FIELDS),
        "junctions": {name: dict.fromkeys(JUNCTION_FIELDS) for name in junctions},
        "loop": dict.fromkeys(LOOP_FIGURES),
    }
