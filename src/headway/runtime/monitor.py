"""Alerts on any figure of the state: opened, brought up to date, acknowledged, closed; each told
once, and never in storms.
"""

from __future__ import annotations

import math
import operator
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


class Level(IntEnum):
    """How grave an alert is."""

    INFO = 0
    WARNING = 1
    ERROR = 2
    CRITICAL = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """An alert is open from when `path` `condition` `threshold` has held for `for_s` until it has
    not for `clear_s`.

    hysteresis: for > and <, how far the figure must come back over the threshold before it counts
        as well.
    A figure that is no number is worse than any threshold.

    >>> Rule("fast", "v_chain", ">", 3.0, Level.WARNING, hysteresis=0.2).holds(2.9, already=True)
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
        if (
            not math.isfinite(self.threshold)
            or min(self.hysteresis, self.for_s, self.clear_s) < 0.0
        ):
            raise ValueError(
                f"rule {self.name!r}: the threshold must be a finite number; hysteresis, "
                "for_s and clear_s not below 0."
            )

    def holds(self, value: float, already: bool) -> bool:
        if isinstance(value, float) and math.isnan(value):
            return True
        back = self.hysteresis if already else 0.0
        threshold = (
            self.threshold - back
            if self.condition in (">", ">=")
            else self.threshold + back
            if self.condition in ("<", "<=")
            else self.threshold
        )
        return CONDITIONS[self.condition](value, threshold)


@dataclass(frozen=True, slots=True)
class Alert:
    """number: its own. value: of the moment; worst: farthest beyond the threshold. Times are the
    plant's, seconds; closed_s nan while open.
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
        return math.isnan(self.closed_s)


@dataclass(frozen=True, slots=True)
class News:
    """what: opened, worse (twice as far beyond as when last told), acknowledged, closed, or held
    back (so many, of a rule that storms).
    """

    what: str
    alert: Alert
    held_back: int = 0


@dataclass(slots=True)
class _Watch:
    since_s: float
    clear_since_s: float = math.nan
    alert: Alert | None = None
    told: float = math.nan


@dataclass(slots=True)
class _Budget:
    opened: deque[float] = field(default_factory=deque)
    held_back: int = 0


class RealTimeMonitor:
    """Holds rules against a state. most_per_minute: alerts that one rule may open in a minute of
    plant time; more are held back and counted.
    """

    def __init__(
        self,
        rules: tuple[Rule, ...] = (),
        sample: Mapping[str, Any] | None = None,
        most_per_minute: int = 10,
        keep: int = 1000,
    ) -> None:
        self._rules: dict[str, tuple[Rule, Path]] = {}
        self._watches: dict[tuple[str, str], _Watch] = {}
        self._budgets: dict[str, _Budget] = {}
        self._most, self._number = most_per_minute, 0
        self.history: deque[Alert] = deque(maxlen=keep)
        for rule in rules:
            self.add(rule, sample)

    def add(self, rule: Rule, sample: Mapping[str, Any] | None = None) -> None:
        """Raises ValueError if its path is not in `sample`, or its name is taken."""
        path = Path(rule.path)
        path.check(sample)
        if rule.name in self._rules:
            raise ValueError(f"there is a rule {rule.name!r} already.")
        self._rules[rule.name], self._budgets[rule.name] = (rule, path), _Budget()

    def remove(self, name: str) -> None:
        self._rules.pop(name, None)
        for key in [k for k in self._watches if k[0] == name]:
            del self._watches[key]

    def check(self, at_s: float, state: Mapping[str, Any]) -> list[News]:
        """Hold all rules against the state of plant time `at_s`."""
        news, flat = list[News](), flatten(state)
        for rule, path in self._rules.values():
            found = path.find(flat)
            for where, value in found:
                if isinstance(value, int | float):
                    self._judge(rule, where, float(value), at_s, news)
            if (
                len(found) == 0 and "*" not in rule.path
            ):  # a figure that vanished is told as one that is no number
                self._judge(rule, rule.path, math.nan, at_s, news)
        return news

    def open_alerts(self) -> list[Alert]:
        """Gravest first."""
        alerts = [w.alert for w in self._watches.values() if w.alert is not None]
        return sorted(alerts, key=lambda a: (-a.level, a.opened_s))

    def acknowledge(self, number: int, by: str) -> News:
        """Raises KeyError if no open alert has the number."""
        for watch in self._watches.values():
            if watch.alert is not None and watch.alert.number == number:
                watch.alert = replace(watch.alert, acknowledged_by=by)
                return News("acknowledged", watch.alert)
        raise KeyError(f"no open alert has the number {number}")

    def _judge(self, rule: Rule, where: str, value: float, at_s: float, news: list[News]) -> None:
        watch = self._watches.get((rule.name, where))
        bad = rule.holds(value, watch is not None and watch.alert is not None)
        if watch is None:
            if not bad:
                return
            watch = self._watches[rule.name, where] = _Watch(at_s)
        if bad:
            watch.clear_since_s = math.nan
            if watch.alert is not None:
                self._worsen(rule, value, watch, watch.alert, news)
            elif at_s - watch.since_s >= rule.for_s:
                self._open(rule, where, value, at_s, watch, news)
            return
        if watch.alert is None:
            del self._watches[rule.name, where]
            return
        watch.clear_since_s = at_s if math.isnan(watch.clear_since_s) else watch.clear_since_s
        if at_s - watch.clear_since_s >= rule.clear_s:
            closed = replace(watch.alert, value=value, closed_s=at_s)
            self.history.append(closed)
            del self._watches[rule.name, where]
            news.append(News("closed", closed))

    def _open(
        self, rule: Rule, where: str, value: float, at_s: float, watch: _Watch, news: list[News]
    ) -> None:
        budget = self._budgets[rule.name]
        while budget.opened and at_s - budget.opened[0] > 60.0:
            budget.opened.popleft()
        if len(budget.opened) >= self._most:
            budget.held_back += 1
            watch.since_s = at_s  # it may open later, when the storm is over
            return
        held, budget.held_back = budget.held_back, 0
        budget.opened.append(at_s)
        self._number += 1
        watch.alert = Alert(
            self._number, rule.name, where, rule.level, at_s, value, value, rule.threshold
        )
        watch.told = abs(value - rule.threshold)
        news.append(News("opened", watch.alert, held))

    def _worsen(
        self, rule: Rule, value: float, watch: _Watch, alert: Alert, news: list[News]
    ) -> None:
        """Within the hysteresis a figure is on the good side: it is the value of the moment, but
        neither the worst nor worse.
        """
        watch.alert = replace(alert, value=value)
        if not rule.holds(value, already=False):
            return
        beyond = abs(value - rule.threshold)
        if math.isnan(value) or beyond > abs(alert.worst - rule.threshold):
            watch.alert = replace(watch.alert, worst=value)
        if beyond > 2.0 * max(watch.told, 1e-9):
            watch.told = beyond
            news.append(News("worse", watch.alert))
