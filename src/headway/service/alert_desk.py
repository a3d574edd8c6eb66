"""Alerts on this program itself, and those of its streets, to people: the log, the live streams,
webhooks and e-mail, each once when it opens and once when it has passed.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from headway import telemetry
from headway.runtime import Level, RealTimeMonitor
from headway.runtime.monitor import AlertUpdate
from headway.settings import AlertSettings
from headway.street.alerts import system_rules
from headway.street.event_lines import FAULTS_OF_STEPS
from headway.telemetry import metrics
from headway.telemetry.plain import plain

SYSTEM = "system"  # stands for the street in alerts on the program itself
ERRORS_WITHIN_S = 60.0
STREET_ERRORS = (*FAULTS_OF_STEPS, "engine.given_up", "engine.restarted")

Publish = Callable[[str, str, Any], None]


class Notify(Protocol):
    """Sends to webhooks, and by e-mail what is critical; see `service.notification`."""

    def __call__(
        self, kind: str, number: str, body: dict[str, Any], critical: bool = ..., about: str = ...
    ) -> None: ...


class ErrorCount(logging.Handler):
    """Counts lines of level error and above of the last minute, of all components."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.ERROR)
        self._clock = clock
        self._at_s: deque[float] = deque(maxlen=10_000)
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        metrics.errors.labels(record.name.removeprefix("headway.")).inc()
        self.add()

    def add(self) -> None:
        """One more error."""
        with self._guard:
            self._at_s.append(self._clock())

    def in_last_minute(self) -> int:
        with self._guard:
            while self._at_s and self._clock() - self._at_s[0] > ERRORS_WITHIN_S:
                self._at_s.popleft()
            return len(self._at_s)


@dataclass(frozen=True, slots=True)
class Opened:
    """An alert that people were told of. id: the same when it has passed."""

    id: str
    data: Mapping[str, Any]
    level: Level


class AlertDesk:
    """Checks the rules on the program (`street.alerts.system_rules`), and passes on its alerts and
    those of the streets.

    publish: to the live streams. notify: to webhooks and e-mail, None for nobody. clock: seconds.
    An alert below `alerts.notify_from` goes to the log and the live streams alone.
    """

    def __init__(
        self,
        alerts: AlertSettings,
        publish: Publish,
        notify: Notify | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publish = publish
        self._notify = notify
        self._clock = clock
        self._log = telemetry.log("engine")
        self._open: dict[tuple[str, str, str], Opened] = {}  # by street, rule and path
        self._guard = threading.Lock()
        self.use(alerts)

    def use(self, alerts: AlertSettings) -> None:
        """Other rules from now on; alerts of rules that are gone or changed have passed."""
        rules = system_rules(alerts)
        with self._guard:
            gone = [key for key in self._open if key[0] == SYSTEM]
            self._monitor = RealTimeMonitor(rules)
            self._notify_from = Level[alerts.notify_from.upper()]
        for key in gone:
            self._close(key, {"why": "the rules were changed"})

    def open_alerts(self) -> list[dict[str, Any]]:
        """Those on the program itself and on the streets, in the order in which they opened."""
        with self._guard:
            return [plain({"street": key[0], **opened.data}) for key, opened in self._open.items()]

    def check(self, state: Mapping[str, Any]) -> None:
        """Check the rules on the program against a state, see `sample`."""
        for update in self._monitor.check(self._clock(), state):
            self._handle_update(update)

    def _handle_update(self, update: AlertUpdate) -> None:
        key, data = (SYSTEM, update.alert.rule, update.alert.path), update.figures()
        if update.change == "opened":
            self._tell_open(key, data, update.alert.level)
        elif update.change == "closed":
            self._close(key, {"value": data["value"]})

    def take(self, street: str, event: Mapping[str, Any]) -> None:
        """What a street reports: its alerts, and that it was given up or started anew."""
        kind, data = event.get("kind"), event.get("data", {})
        if kind == "alert.opened":
            level = Level[str(data["level"]).upper()]
            self._tell_open((street, str(data["rule"]), str(data["path"])), dict(data), level)
        elif kind == "alert.closed":
            self._close((street, str(data["rule"]), str(data["path"])), {"value": data["value"]})
        elif kind == "engine.given_up":
            given_up = {"rule": "given up", "path": "", "error": event.get("error", "")}
            self._tell_open((street, "given up", ""), given_up, Level.CRITICAL)
        elif kind in ("engine.started", "engine.restored"):
            for key in [k for k in self._open if k[0] == street]:
                self._close(key, {"why": "the street was started anew"})

    def _tell_open(self, key: tuple[str, str, str], data: Mapping[str, Any], level: Level) -> None:
        with self._guard:
            if key in self._open:
                return
            opened = Opened(uuid.uuid4().hex, {**data, "level": level.name.lower()}, level)
            self._open[key] = opened
        self._send("alert.opened", key, opened, {})

    def _close(self, key: tuple[str, str, str], more: Mapping[str, Any]) -> None:
        with self._guard:
            opened = self._open.pop(key, None)
        if opened is not None:
            self._send("alert.closed", key, opened, more)

    def _send(
        self, kind: str, key: tuple[str, str, str], opened: Opened, more: Mapping[str, Any]
    ) -> None:
        street, rule, path = key
        body = plain({"street": street, **opened.data, **more})
        metrics.open_alerts.labels(street, opened.level.name.lower()).set(self._count(opened, key))
        if street == SYSTEM:  # a street's own is on the streams already
            self._publish("alerts", SYSTEM, {"kind": kind, "data": body})
            self._publish("monitoring", SYSTEM, {"kind": kind, "data": body})
        write = self._log.warning if kind == "alert.opened" else self._log.info
        line = {name: value for name, value in body.items() if name not in ("event", "level")}
        write(kind, **line, severity=opened.level.name.lower())
        if self._notify is not None and opened.level >= self._notify_from:
            number = f"{opened.id}-{kind.removeprefix('alert.')}"
            self._notify(kind, number, body, critical=True, about=f"{street} {rule} {path}")

    def _count(self, opened: Opened, key: tuple[str, str, str]) -> int:
        """How many of its street and level are open."""
        with self._guard:
            return sum(k[0] == key[0] and o.level == opened.level for k, o in self._open.items())
