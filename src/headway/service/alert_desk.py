"""Alerts on this program itself, and those of its streets, to people: the log, the live streams,
webhooks and e-mail, each once when it opens and once when it has passed.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway import telemetry
from headway.files import write_whole
from headway.runtime import Level, RealTimeMonitor
from headway.runtime.monitor import AlertUpdate
from headway.service.notification import Notify
from headway.settings import AlertSettings
from headway.street.alerts import system_rules
from headway.street.event_lines import FAULTS_OF_STEPS
from headway.telemetry import metrics
from headway.telemetry.plain import plain

SYSTEM = "system"  # stands for the street in alerts on the program itself
ERRORS_WITHIN_S = 60.0
STREET_ERRORS = (*FAULTS_OF_STEPS, "engine.given_up", "engine.restarted")

ENDS_OF_ALERTS = {
    "engine.started": "the street was started anew",
    "engine.restored": "the street was started anew",
    "engine.stopped": "the street was stopped by order",
}

Publish = Callable[[str, str, Any], None]


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


Key = tuple[str, str, str]  # street, rule and path of an alert


@dataclass(frozen=True, slots=True)
class Opened:
    """An alert that people were told of. id: the same when it has passed. sent: to webhooks and by
    e-mail, which learn then that it has passed, too. since_s: when it opened, seconds since 1970.
    """

    id: str
    data: Mapping[str, Any]
    level: Level
    sent: bool
    since_s: float = 0.0


class AlertDesk:
    """Checks the rules on the program (`street.alerts.system_rules`), and passes on its alerts and
    those of the streets. From any thread.

    publish: to the live streams. notify: to webhooks and e-mail, None for nobody. clock: seconds.
    book: file of the alerts that were sent and are open, so that recipients learn after a crash
    that they are not any more; None for none. speaks_for: of a street, whether people learn of it
    from this process; None for all.
    An alert below `alerts.notify_from` goes to the log and the live streams alone.
    """

    def __init__(
        self,
        alerts: AlertSettings,
        publish: Publish,
        notify: Notify | None = None,
        clock: Callable[[], float] = time.monotonic,
        book: Path | None = None,
        speaks_for: Callable[[str], bool] | None = None,
    ) -> None:
        self._speaks_for = speaks_for
        self._publish = publish
        self._notify = notify
        self._clock = clock
        self._book = book
        self._log = telemetry.log("engine")
        self._open: dict[Key, Opened] = {}
        self._closed = False
        self._guard = threading.Lock()  # of all of these, and of the book
        self._monitor = RealTimeMonitor(system_rules(alerts))
        self._notify_from = Level[alerts.notify_from.upper()]

    def use(self, alerts: AlertSettings) -> None:
        """Other rules from now on; alerts of rules that are gone or changed have passed."""
        monitor = RealTimeMonitor(system_rules(alerts))
        self._notify_from = Level[alerts.notify_from.upper()]
        before, self._monitor = self._monitor, monitor
        for update in monitor.continue_from(before, self._clock()):
            self._handle_update(update)

    def close_left_over(self) -> None:
        """Tell those who were told of alerts by a server that did not end in order."""
        for key, opened in self._left_over():
            self._tell("alert.closed", key, opened, {"why": "the server was started anew"})

    def close(self) -> None:
        """Close all that is open, since nobody will look any more; later reports are ignored."""
        with self._guard:
            self._closed = True
            keys = list(self._open)
        for key in keys:
            self._close(key, {"why": "the server ended"})

    def open_alerts(self) -> list[dict[str, Any]]:
        """Those on the program itself and on the streets, in the order in which they opened."""
        with self._guard:
            return [plain({"street": key[0], **opened.data}) for key, opened in self._open.items()]

    def opened(self) -> list[tuple[str, Opened]]:
        """The same, each with the street that it is of, or SYSTEM."""
        with self._guard:
            return [(key[0], opened) for key, opened in self._open.items()]

    def check(self, state: Mapping[str, Any]) -> None:
        """Check the rules on the program against a state, see `sample`."""
        for update in self._monitor.check(self._clock(), state):
            self._handle_update(update)

    def _handle_update(self, update: AlertUpdate) -> None:
        key, data = (SYSTEM, update.alert.rule, update.alert.path), update.figures()
        if update.change == "opened":
            self._open_alert(key, data, update.alert.level)
        elif update.change == "closed":
            self._close(key, _of_closing(data))

    def take(self, street: str, event: Mapping[str, Any]) -> None:
        """What a street reports: its alerts, and that it was given up or started anew; of one that
        is a process of its own, whether it is heard.
        """
        kind, data = event.get("kind"), event.get("data", {})
        if kind == "alert.opened":
            level = Level[str(data["level"]).upper()]
            self._open_alert((street, str(data["rule"]), str(data["path"])), dict(data), level)
        elif kind == "alert.closed":
            self._close((street, str(data["rule"]), str(data["path"])), _of_closing(data))
        elif kind == "engine.given_up":
            given_up = {"rule": "given up", "path": "", "error": event.get("error", "")}
            self._open_alert((street, "given up", ""), given_up, Level.CRITICAL)
        elif kind == "engine.away":
            away = {"rule": "away", "path": "", "error": data.get("why", "")}
            self._open_alert((street, "away", ""), away, Level.CRITICAL)
        elif kind == "engine.heard":
            self._close((street, "away", ""), {"why": "its process is heard again"})
        elif kind in ENDS_OF_ALERTS:
            with self._guard:
                keys = [key for key in self._open if key[0] == street]
            for key in keys:
                self._close(key, {"why": ENDS_OF_ALERTS[kind]})

    def take_upkeep(self, task: str, ok: bool, data: Mapping[str, Any]) -> None:
        """How the newest backup, retention or drill went, each time that somebody asked."""
        key = (SYSTEM, f"{task} failed", "")
        if ok:
            self._close(key, {"why": "it succeeded"})
            return
        failed = {"rule": key[1], "path": "", "error": data.get("error", "")}
        self._open_alert(key, failed, Level.CRITICAL)

    def _open_alert(self, key: Key, data: Mapping[str, Any], level: Level) -> None:
        with self._guard:
            if key in self._open or self._closed:
                return
            opened = Opened(
                id=uuid.uuid4().hex,
                data={**data, "level": level.name.lower()},
                level=level,
                sent=self._notify is not None
                and level >= self._notify_from
                and (self._speaks_for is None or self._speaks_for(key[0])),
                since_s=time.time(),
            )
            self._open[key] = opened
            self._write_book()
        self._tell("alert.opened", key, opened, {})

    def _close(self, key: Key, more: Mapping[str, Any]) -> None:
        with self._guard:
            opened = self._open.pop(key, None)
            if opened is not None:
                self._write_book()
        if opened is not None:
            self._tell("alert.closed", key, opened, more)

    def _tell(self, kind: str, key: Key, opened: Opened, more: Mapping[str, Any]) -> None:
        street, rule, path = key
        body = plain({"street": street, "id": opened.id, **opened.data, **more})
        metrics.open_alerts.labels(street, opened.level.name.lower()).set(self._count(opened, key))
        if street == SYSTEM:  # a street's own is on the streams already
            self._publish("alerts", SYSTEM, {"kind": kind, "data": body})
            self._publish("monitoring", SYSTEM, {"kind": kind, "data": body})
        write = self._log.warning if kind == "alert.opened" else self._log.info
        line = {name: value for name, value in body.items() if name not in ("event", "level")}
        write(kind, **line, severity=opened.level.name.lower())
        if self._notify is not None and opened.sent:
            number = f"{opened.id}-{kind.removeprefix('alert.')}"
            self._notify(kind, number, body, critical=True, about=f"{street} {rule} {path}")

    def _count(self, opened: Opened, key: Key) -> int:
        """How many of its street and level are open."""
        with self._guard:
            return sum(k[0] == key[0] and o.level == opened.level for k, o in self._open.items())

    def _write_book(self) -> None:
        """What was sent and is open; without it, only a crash of the server leaves some open."""
        if self._book is None:
            return
        rows = [
            {"id": o.id, "key": key, "data": plain(o.data)}
            for key, o in self._open.items()
            if o.sent
        ]
        try:
            write_whole(self._book, json.dumps(rows))
        except OSError as error:
            self._log.warning("open alerts not stored", error=str(error))

    def _left_over(self) -> list[tuple[Key, Opened]]:
        """Of the book, which is empty then; nothing where there is none, or it cannot be read."""
        if self._book is None or not self._book.exists():
            return []
        found = []
        try:
            for row in json.loads(self._book.read_text(encoding="utf-8")):
                street, rule, path = map(str, row["key"])
                data = {str(name): value for name, value in row["data"].items()}
                level = Level[str(data["level"]).upper()]
                found.append(((street, rule, path), Opened(str(row["id"]), data, level, sent=True)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._log.warning("open alerts of before cannot be read", error=repr(error))
        with self._guard:
            self._write_book()
        return found


def _of_closing(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in ("value", "why") if name in data}
