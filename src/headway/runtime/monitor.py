"""Alerts on any figure of a state: opened, updated, acknowledged, closed; each change is reported
once, and the number of alerts is limited.
"""

from __future__ import annotations

import math
import operator
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from headway.runtime.paths import Path, flatten

CONDITIONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


# "velocity: v_chain > 8 critical for 2 s"; the path, the condition and the threshold are required
RULE = re.compile(
    r"\s*((?P<name>[^:<>=!]+?)\s*:)?\s*(?P<path>[^\s:<>=!]+)\s*(?P<condition>[<>]=?|[=!]=)"
    r"\s*(?P<threshold>\S+)(\s+(?P<level>info|warning|error|critical))?"
    r"(\s+for\s+(?P<for_s>\S+)\s+s)?\s*",
    re.IGNORECASE,
)
BUDGET_WINDOW_S = 60.0  # of plant time
SMALLEST_EXCESS = 1e-9  # an alert exactly at its threshold is "worse" from twice this on


def is_beyond(value: float, condition: str, threshold: float, hysteresis: float) -> bool:
    """Whether `condition` holds. hysteresis: for > and <, how much earlier it does."""
    if condition in (">", ">="):
        threshold -= hysteresis
    elif condition in ("<", "<="):
        threshold += hysteresis
    return CONDITIONS[condition](value, threshold)


class Level(IntEnum):
    """How severe an alert is."""

    INFO = 0
    WARNING = 1
    ERROR = 2
    CRITICAL = 3


@dataclass(frozen=True, slots=True)
class AlertRule:
    """An alert opens when `path` `condition` `threshold` has held for `for_s`, and closes when it
    has not held for `clear_s`; plant seconds.

    hysteresis: for > and <, how far the figure must return beyond the threshold before the
        condition counts as not held.
    A figure that is not a number is beyond any threshold.

    >>> rule = AlertRule("fast", "v_chain", ">", 3.0, Level.WARNING, hysteresis=0.2)
    >>> rule.holds(2.9, already=True)
    True
    """

    name: str
    path: str
    condition: str
    threshold: float
    level: Level = Level.WARNING
    hysteresis: float = 0.0
    for_s: float = 0.0
    clear_s: float = 0.0

    def __post_init__(self) -> None:
        Path(self.path)
        if self.condition not in CONDITIONS:
            raise ValueError(
                f"rule {self.name!r}: no condition {self.condition!r}. There are: "
                f"{', '.join(CONDITIONS)}."
            )
        times = (self.hysteresis, self.for_s, self.clear_s)
        if not (math.isfinite(self.threshold) and all(0.0 <= t < math.inf for t in times)):
            raise ValueError(
                f"rule {self.name!r}: the threshold must be a finite number; hysteresis, "
                "for_s and clear_s finite and not below 0."
            )

    @classmethod
    def parse(cls, text: str) -> AlertRule:
        """A rule from words: `[NAME:] PATH CONDITION THRESHOLD [LEVEL] [for SECONDS s]`. Without a
        name it is called as it reads; the level is a warning unless given. Raises ValueError.

        >>> AlertRule.parse("velocity: v_chain > 6 critical for 2 s").for_s
        2.0
        """
        found = RULE.fullmatch(text)
        try:
            if found is None:
                raise ValueError
            threshold, for_s = float(found["threshold"]), float(found["for_s"] or 0.0)
        except ValueError:
            raise ValueError(
                f"alert {text!r} is not understood: [NAME:] PATH CONDITION THRESHOLD [LEVEL] "
                f"[for SECONDS s], such as 'v_chain > 8 error for 2 s'. Conditions: "
                f"{', '.join(CONDITIONS)}."
            ) from None
        name = found["name"] or " ".join(found.group("path", "condition", "threshold"))
        level = Level[(found["level"] or "warning").upper()]
        return cls(
            name=name,
            path=found["path"],
            condition=found["condition"],
            threshold=threshold,
            level=level,
            for_s=for_s,
        )

    def holds(self, value: float, already: bool) -> bool:
        """Whether the condition holds. already: an alert is open, so the hysteresis counts."""
        if isinstance(value, float) and math.isnan(value):
            return True
        return is_beyond(value, self.condition, self.threshold, self.hysteresis if already else 0.0)


@dataclass(frozen=True, slots=True)
class Alert:
    """value: of the moment; worst: farthest beyond the threshold. Times are the plant's, seconds;
    closed_s is nan while it is open.
    """

    number: int
    rule: str
    path: str
    level: Level
    opened_s: float
    value: float
    worst: float
    threshold: float
    acknowledged_by: str = ""
    closed_s: float = math.nan

    @property
    def is_open(self) -> bool:
        """It has not been closed."""
        return math.isnan(self.closed_s)


@dataclass(frozen=True, slots=True)
class AlertUpdate:
    """A change of one alert.

    change:    opened, worse (twice as far beyond the threshold as last reported), acknowledged or
        closed.
    held_back: alerts of the same rule that its budget has kept from opening before this one.
    why: it was closed though its figure did not return; else empty.
    """

    change: str
    alert: Alert
    held_back: int = 0
    why: str = ""

    @property
    def event_kind(self) -> str:
        """Of the event that records it."""
        return f"alert.{self.change}"

    def figures(self) -> dict[str, Any]:
        """As plain values."""
        a = self.alert
        data = {
            "rule": a.rule,
            "path": a.path,
            "level": a.level.name.lower(),
            "value": a.value,
            "threshold": a.threshold,
            "number": a.number,
        }
        more = {"held_back": self.held_back, "why": self.why}
        return data | {name: value for name, value in more.items() if value}


@dataclass(slots=True)
class _Condition:
    """A rule's condition at one path, from when it first holds until its alert is closed.

    since_s, clear_since_s: since when it holds, and since when it does not any more (nan while it
        does). reported_excess: distance from the threshold that was last reported.
    """

    since_s: float
    clear_since_s: float = math.nan
    alert: Alert | None = None
    reported_excess: float = math.nan


@dataclass(slots=True)
class _Budget:
    """When the alerts of one rule opened within BUDGET_WINDOW_S, and how many were held back."""

    opened_s: deque[float] = field(default_factory=deque)
    held_back: int = 0

    def spent(self, at_s: float) -> int:
        while self.opened_s and at_s - self.opened_s[0] > BUDGET_WINDOW_S:
            self.opened_s.popleft()
        return len(self.opened_s)


class RealTimeMonitor:
    """Checks rules against states.

    sample:          a state that holds every path of the rules; None to accept any path.
    most_per_minute: alerts that one rule may open in a minute of plant time; more are held back and
        counted.
    history:         the last `keep` alerts that were closed.
    """

    def __init__(
        self,
        rules: tuple[AlertRule, ...] = (),
        sample: Mapping[str, Any] | None = None,
        most_per_minute: int = 10,
        keep: int = 1000,
    ) -> None:
        self._rules: dict[str, tuple[AlertRule, Path]] = {}
        self._conditions: dict[tuple[str, str], _Condition] = {}  # by rule and path
        self._budgets: dict[str, _Budget] = {}
        self._most_per_minute = most_per_minute
        self._last_number = 0
        self.history: deque[Alert] = deque(maxlen=keep)
        for rule in rules:
            self.add(rule, sample)

    @property
    def rules(self) -> tuple[AlertRule, ...]:
        """All that are checked, in the order in which they were added."""
        return tuple(rule for rule, _ in list(self._rules.values()))

    def add(self, rule: AlertRule, sample: Mapping[str, Any] | None = None) -> None:
        """Raises ValueError if its path is not in `sample`, or its name is taken."""
        path = Path(rule.path)
        path.check(sample)
        if rule.name in self._rules:
            raise ValueError(f"there is a rule {rule.name!r} already.")
        self._budgets[rule.name] = _Budget()
        self._rules[rule.name] = (rule, path)

    def remove(self, name: str) -> None:
        """Its alerts are gone with it; an unknown name is ignored."""
        self._rules.pop(name, None)
        for key in [k for k in list(self._conditions) if k[0] == name]:
            self._conditions.pop(key, None)

    def continue_from(self, before: RealTimeMonitor, at_s: float) -> list[AlertUpdate]:
        """Continue the work of a monitor with other rules: numbers, budgets, history, and the
        alerts and conditions of the rules that are the same. Returns the alerts of the others,
        closed; one whose figure is beyond a changed rule opens anew at the next check.
        """
        same = {rule.name for rule in set(before.rules) & set(self.rules)}
        self._last_number = before._last_number
        self.history.extend(before.history)
        self._conditions = dict(before._conditions)
        self._budgets |= {name: before._budgets[name] for name in same}
        changed = [key for key in self._conditions if key[0] not in same]
        updates = [self._drop(key, at_s, "the rules were changed") for key in changed]
        return [update for update in updates if update is not None]

    def _drop(self, key: tuple[str, str], at_s: float, why: str) -> AlertUpdate | None:
        """Forget a condition; its alert, if there is one, is closed."""
        condition = self._conditions.pop(key, None)
        if condition is None or condition.alert is None:
            return None
        closed = replace(condition.alert, closed_s=at_s)
        self.history.append(closed)
        return AlertUpdate("closed", closed, why=why)

    def check(self, at_s: float, state: Mapping[str, Any]) -> list[AlertUpdate]:
        """Check all rules against the state of plant time `at_s`; returns what changed. An alert
        whose figure is not there any more (of a junction, a street), or not known any more (None),
        is closed.
        """
        flat = flatten(state)
        updates, gone = list[AlertUpdate | None](), set(self._conditions)
        for rule, path in list(self._rules.values()):  # others may add some meanwhile
            found = path.find(flat)
            if not found and "*" not in rule.path:
                found = [(rule.path, math.nan)]  # a missing figure counts as not a number
            if gone:
                gone.difference_update(
                    (rule.name, where) for where, value in found if value is not None
                )
            for where, value in found:
                if isinstance(value, int | float):
                    updates.append(self._check_value(rule, where, float(value), at_s))
        updates += [self._drop(key, at_s, "the figure is gone") for key in sorted(gone)]
        return [update for update in updates if update is not None]

    def open_alerts(self) -> list[Alert]:
        """Most severe first, then oldest first."""
        alerts = [c.alert for c in list(self._conditions.values()) if c.alert is not None]
        return sorted(alerts, key=lambda a: (-a.level, a.opened_s))

    def acknowledge(self, number: int, by: str) -> AlertUpdate:
        """Raises KeyError if no open alert has the number."""
        for condition in self._conditions.values():
            if condition.alert is not None and condition.alert.number == number:
                condition.alert = replace(condition.alert, acknowledged_by=by)
                return AlertUpdate("acknowledged", condition.alert)
        raise KeyError(f"no open alert has the number {number}")

    def _check_value(
        self, rule: AlertRule, where: str, value: float, at_s: float
    ) -> AlertUpdate | None:
        condition = self._conditions.get((rule.name, where))
        holds = rule.holds(value, already=condition is not None and condition.alert is not None)
        if holds:
            if condition is None:
                condition = self._conditions[rule.name, where] = _Condition(at_s)
            return self._check_holding(rule, where, value, at_s, condition)
        if condition is not None:
            return self._check_clear(rule, where, value, at_s, condition)
        return None

    def _check_holding(
        self, rule: AlertRule, where: str, value: float, at_s: float, condition: _Condition
    ) -> AlertUpdate | None:
        condition.clear_since_s = math.nan
        if condition.alert is not None:
            return self._update(rule, value, condition, condition.alert)
        if at_s - condition.since_s < rule.for_s:
            return None
        return self._open(rule, where, value, at_s, condition)

    def _check_clear(
        self, rule: AlertRule, where: str, value: float, at_s: float, condition: _Condition
    ) -> AlertUpdate | None:
        if condition.alert is None:
            self._conditions.pop((rule.name, where), None)
            return None
        if math.isnan(condition.clear_since_s):
            condition.clear_since_s = at_s
        if at_s - condition.clear_since_s < rule.clear_s:
            return None
        closed = replace(condition.alert, value=value, closed_s=at_s)
        self.history.append(closed)
        self._conditions.pop((rule.name, where), None)
        return AlertUpdate("closed", closed)

    def _open(
        self, rule: AlertRule, where: str, value: float, at_s: float, condition: _Condition
    ) -> AlertUpdate | None:
        budget = self._budgets[rule.name]
        if budget.spent(at_s) >= self._most_per_minute:
            budget.held_back += 1
            condition.since_s = at_s  # it may open later, when there is budget again
            return None
        budget.opened_s.append(at_s)
        held_back, budget.held_back = budget.held_back, 0
        self._last_number += 1
        condition.reported_excess = abs(value - rule.threshold)
        condition.alert = Alert(
            number=self._last_number,
            rule=rule.name,
            path=where,
            level=rule.level,
            opened_s=at_s,
            value=value,
            worst=value,
            threshold=rule.threshold,
        )
        return AlertUpdate("opened", condition.alert, held_back)

    def _update(
        self, rule: AlertRule, value: float, condition: _Condition, alert: Alert
    ) -> AlertUpdate | None:
        """A figure within the hysteresis is the value of the moment, but neither the worst nor
        worse.
        """
        condition.alert = replace(alert, value=value)
        if not rule.holds(value, already=False):
            return None
        excess = abs(value - rule.threshold)
        if math.isnan(value) or excess > abs(alert.worst - rule.threshold):
            condition.alert = replace(condition.alert, worst=value)
        if not excess > 2.0 * max(condition.reported_excess, SMALLEST_EXCESS):
            return None
        condition.reported_excess = excess
        return AlertUpdate("worse", condition.alert)
