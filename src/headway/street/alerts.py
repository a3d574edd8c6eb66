"""The alert rules of the settings, and those that are ordered beside them, checked against what a
street and the program report.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from headway.files import write_whole
from headway.runtime import LOOP_FIGURES, AlertRule, Level, RealTimeMonitor
from headway.runtime.paths import ANY_PART
from headway.settings import AlertSettings, RuleSettings, Settings
from headway.street.messages import KnownRule

MOST_ORDERED = 100  # rules on one street; more are a mistake: each is checked at every tick

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
MODEL_FIGURES = (
    "drifting",
    "drift_share",
    "outcome_drift",
    "calibration_error",
    "confidence_excess",
    "completeness",
    "freshness_s",
    "silent_lanes",
    "decide_p99_ms",
)
ANY_NAME = "NAME"  # of a street or a process
PROGRAM: dict[str, object] = {
    "machine": dict.fromkeys(MACHINE_FIGURES),
    "processes": {ANY_NAME: dict.fromkeys(PROCESS_FIGURES)},
    "streets": {ANY_NAME: dict.fromkeys(PROGRAM_STREET_FIGURES)},
    "models": {ANY_NAME: dict.fromkeys(MODEL_FIGURES)},
    "database": {"alive": None, "spool": None},
    "errors_per_minute": None,
}  # what rules on the program may name, see `service.selfwatch`


def system_rules(alerts: AlertSettings) -> tuple[AlertRule, ...]:
    """The rules on the program itself. Raises ValueError for a path that it does not report, or a
    name that occurs twice.
    """
    rules = tuple(map(_rule, alerts.system))
    anywhere = (
        re.sub(rf"^(streets|processes|models)\.({ANY_PART})", rf"\1.{ANY_NAME}", rule.path)
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
    return _of_streets(settings.alerts.rules)


def _of_streets(given: Iterable[RuleSettings]) -> tuple[AlertRule, ...]:
    """Raises ValueError as `alert_rules`."""
    rules = tuple(map(_rule, given))
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
    kept, refused = list[AlertRule](), list[str]()
    for rule, given in zip(alert_rules(settings), settings.alerts.rules, strict=True):
        if fault := fault_of(given, junctions):
            refused.append(fault)
        else:
            kept.append(rule)
    return tuple(kept), tuple(refused)


class OrderedRules:
    """The alert rules that were ordered for a street, in a file of its folder: they outlive its
    process and its run. fault: why the file could not be read; then it is set aside.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "alert_rules.json"
        self._rules: dict[str, RuleSettings] = {}
        self.fault = ""
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
            rules = [RuleSettings.model_validate(row) for row in rows]
            _of_streets(rules)
            self._rules = {rule.name: rule for rule in rules}
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, RecursionError) as error:
            aside = self._path.with_suffix(".refused")
            self.fault = f"{self._path.name} is no list of alert rules ({error}); see {aside.name}"
            with contextlib.suppress(OSError):  # as on a disk that has become read-only
                self._path.replace(aside)

    def beside(self, settings: Settings) -> Settings:
        """The settings with these rules; where they have one of the same name, theirs counts."""
        names = {rule.name for rule in settings.alerts.rules}
        rules = (*settings.alerts.rules, *(r for r in self._rules.values() if r.name not in names))
        alerts = settings.alerts.model_copy(update={"rules": rules})
        return settings.model_copy(update={"alerts": alerts})

    def known(self, settings: Settings, junctions: Collection[str]) -> tuple[KnownRule, ...]:
        """Those of the settings first."""
        fixed = {rule.name for rule in settings.alerts.rules}
        return tuple(
            KnownRule(rule, rule.name not in fixed, fault_of(rule, junctions))
            for rule in self.beside(settings).alerts.rules
        )

    def put(self, rule: RuleSettings, junctions: Collection[str]) -> None:
        """Raises ValueError for one that can never hold on a street with these junctions, or that
        is one too many; OSError where it cannot be kept. Nothing has changed then.
        """
        if fault := fault_of(rule, junctions):
            raise ValueError(fault)
        if rule.name not in self._rules and len(self._rules) >= MOST_ORDERED:
            raise ValueError(f"there are {MOST_ORDERED} alert rules already. Remove one first.")
        self._write({**self._rules, rule.name: rule})

    def remove(self, name: str) -> None:
        """Raises ValueError for an unknown one, OSError; nothing has changed then."""
        if name not in self._rules:
            raise ValueError(f"no alert rule {name!r} was ordered here")
        self._write({n: rule for n, rule in self._rules.items() if n != name})

    def _write(self, rules: dict[str, RuleSettings]) -> None:
        """Completely or not at all; in force once it is written."""
        rows = [rule.model_dump(mode="json") for rule in rules.values()]
        write_whole(self._path, json.dumps(rows, indent=1))
        self._rules = rules


def fault_of(rule: RuleSettings, junctions: Collection[str]) -> str:
    """Why a rule can never hold on a street with these junctions; empty where it can."""
    try:
        RealTimeMonitor((_rule(rule),), _sample(junctions))
    except ValueError as error:
        return f"alert rule {rule.name!r}: {error}"
    return ""


def _sample(junctions: Collection[str] = (ANY_JUNCTION,)) -> dict[str, object]:
    """A state with all the paths of a street's state (see `StreetRun.state`) and of its loop's."""
    return {
        **dict.fromkeys(STREET_FIELDS),
        "junctions": {name: dict.fromkeys(JUNCTION_FIELDS) for name in junctions},
        "loop": dict.fromkeys(LOOP_FIGURES),
    }
