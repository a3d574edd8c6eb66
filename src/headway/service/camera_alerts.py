"""Alert rules on the figures of cameras and of the machine: those of the settings, and those that
users add by the API, which a file keeps.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from headway.files import write_whole
from headway.runtime.monitor import is_beyond
from headway.settings import CAMERA_METRICS, CameraRule, SettingsError

MOST_RULES = 200  # more are a mistake: every one is checked each second
MACHINE = ""  # stands for the camera in alerts on the machine

Figures = Mapping[str, float | None]


class RuleError(ValueError):
    """A rule cannot be added, changed or removed; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """camera: empty for the machine. since_s: when it opened, by the clock of `check`."""

    id: str
    rule: CameraRule
    camera: str
    value: float
    since_s: float


@dataclass(frozen=True, slots=True)
class AlertChange:
    """opened: whether it has opened, or closed."""

    opened: bool
    alert: OpenAlert


@dataclass(slots=True)
class _Condition:
    """A rule that holds, at one camera, or whose alert is still open. since_s: from when on;
    clear_since_s: since when it does not any more, None while it does.
    """

    since_s: float
    clear_since_s: float | None = None
    alert: OpenAlert | None = None


class RuleBook:
    """The rules in force, by name. path: file of those that were added by the API. fault: why it
    could not be read; then it is set aside, and the rules of the settings are in force alone.
    """

    def __init__(self, path: Path, of_settings: Iterable[CameraRule] = ()) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._fixed = {rule.name: rule for rule in of_settings}
        self._added: dict[str, CameraRule] = {}
        self.fault = ""
        if path.exists():
            try:
                self._added = {r.name: r for r in self._read() if r.name not in self._fixed}
            except RuleError as error:
                self.fault = str(error)
                path.replace(path.with_suffix(".refused"))

    def all(self) -> list[CameraRule]:
        """Those of the settings first."""
        return [*self._fixed.values(), *self._added.values()]

    def is_fixed(self, name: str) -> bool:
        """Whether it stands in the settings, and can be changed there alone."""
        return name in self._fixed

    def add(self, rule: CameraRule) -> None:
        """Raises RuleError where the name is taken, or there are too many; OSError."""
        with self._lock:
            if rule.name in self._fixed or rule.name in self._added:
                raise RuleError(f"there is a rule {rule.name!r} already. Take another name.")
            if len(self._fixed) + len(self._added) >= MOST_RULES:
                raise RuleError(f"there are {MOST_RULES} rules already. Remove one first.")
            self._write({**self._added, rule.name: rule})

    def put(self, rule: CameraRule) -> None:
        """Change a rule that was added. Raises KeyError for an unknown one, RuleError, OSError."""
        with self._lock:
            self._require_added(rule.name)
            self._write({**self._added, rule.name: rule})

    def remove(self, name: str) -> None:
        """Raises KeyError for an unknown one, RuleError, OSError."""
        with self._lock:
            self._require_added(name)
            self._write({n: rule for n, rule in self._added.items() if n != name})

    def _require_added(self, name: str) -> None:
        if name in self._fixed:
            raise RuleError(f"the rule {name!r} stands in the settings. Change it there.")
        if name not in self._added:
            raise KeyError(name)

    def _read(self) -> list[CameraRule]:
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
            return [CameraRule.model_validate(row) for row in rows]
        except (OSError, ValueError, TypeError, SettingsError) as error:
            raise RuleError(
                f"{self._path}: is no list of alert rules ({error}). It is set aside as "
                f"{self._path.with_suffix('.refused').name}: mend it and add its rules again."
            ) from error

    def _write(self, rules: dict[str, CameraRule]) -> None:
        """Completely or not at all; in force once it is written."""
        write_whole(
            self._path, json.dumps([rule.model_dump() for rule in rules.values()], indent=1)
        )
        self._added = rules


@dataclass
class CameraAlerts:
    """Checks the rules, and knows which alerts are open."""

    rules: RuleBook
    _conditions: dict[tuple[str, str], _Condition] = field(default_factory=dict)

    def check(
        self, at_s: float, cameras: Mapping[str, Figures], machine: Figures
    ) -> list[AlertChange]:
        """What has changed. A figure that is not known holds for nothing; an alert whose rule or
        camera is gone is closed.
        """
        changes, looked_at = list[AlertChange](), set[tuple[str, str]]()
        for rule in self.rules.all():
            places: Mapping[str, Figures] = {MACHINE: machine}
            if CAMERA_METRICS[rule.metric].of_camera:
                places = {c: f for c, f in cameras.items() if rule.camera in ("", c)}
            for camera, figures in places.items():
                looked_at.add((rule.name, camera))
                changes += self._check_value(at_s, rule, camera, figures.get(rule.metric))
        for key in self._conditions.keys() - looked_at:
            changes += self._drop(key)
        return changes

    def open_alerts(self) -> list[OpenAlert]:
        """In the order in which they opened."""
        found = [c.alert for c in self._conditions.values() if c.alert is not None]
        return sorted(found, key=lambda alert: alert.since_s)

    def close(self) -> list[OpenAlert]:
        """Close all; returns those that were open."""
        was_open = self.open_alerts()
        self._conditions.clear()
        return was_open

    def _check_value(
        self, at_s: float, rule: CameraRule, camera: str, value: float | None
    ) -> list[AlertChange]:
        condition = self._conditions.get((rule.name, camera))
        is_open = condition is not None and condition.alert is not None
        hysteresis = rule.hysteresis if is_open else 0.0
        if value is not None and is_beyond(value, rule.operator, rule.threshold, hysteresis):
            return self._hold(at_s, rule, camera, value)
        return self._clear(at_s, rule, camera)

    def _hold(self, at_s: float, rule: CameraRule, camera: str, value: float) -> list[AlertChange]:
        condition = self._conditions.setdefault((rule.name, camera), _Condition(at_s))
        condition.clear_since_s = None
        if condition.alert is not None:
            condition.alert = replace(condition.alert, value=value, rule=rule)
            return []
        if at_s - condition.since_s < rule.for_s:
            return []
        condition.alert = OpenAlert(str(uuid.uuid4()), rule, camera, value, at_s)
        return [AlertChange(True, condition.alert)]

    def _clear(self, at_s: float, rule: CameraRule, camera: str) -> list[AlertChange]:
        """Its figure has returned, or is not known: closed after `clear_s` of that; at once where
        the rule was changed.
        """
        condition = self._conditions.get((rule.name, camera))
        if condition is None:
            return []
        if condition.clear_since_s is None:
            condition.clear_since_s = at_s
        is_same = condition.alert is not None and condition.alert.rule == rule
        if is_same and at_s - condition.clear_since_s < rule.clear_s:
            return []
        return self._drop((rule.name, camera))

    def _drop(self, key: tuple[str, str]) -> list[AlertChange]:
        alert = self._conditions.pop(key).alert
        return [AlertChange(False, alert)] if alert is not None else []
