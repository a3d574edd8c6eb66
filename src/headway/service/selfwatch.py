"""The program watches itself: machine, processes, streets, who decides there, database and errors,
checked against the alert rules; and it follows its settings file.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from headway import telemetry
from headway.service.alert_desk import (
    STREET_ERRORS,
    SYSTEM,
    AlertDesk,
    ErrorCount,
    Publish,
)
from headway.service.model_watch import ModelWatch
from headway.service.notification import Notify
from headway.service.running_street import RunningStreet
from headway.service.streets import StreetService
from headway.settings import AlertSettings, ModelWatchSettings, Settings, Watched, log_level
from headway.store import Database, Intake
from headway.street.alerts import MACHINE_FIGURES, PROCESS_FIGURES
from headway.telemetry import metrics
from headway.telemetry.machine import Machine
from headway.telemetry.processes import Processes
from headway.telemetry.threads import keep_running

EVERY_S = 2.0
RATE_WITHIN_S = 60.0
THREAD_ENDS_WITHIN_S = 5.0
# events of a street that its process does not report: they are of the topic alerts alone
SAID_HERE = ("engine.given_up", "engine.restarted", "engine.not_followed")


class Rate:
    """How much a count that only grows has grown within a minute; a smaller one began anew."""

    def __init__(self) -> None:
        self._rows: deque[tuple[float, float]] = deque(maxlen=1000)

    def per_minute(self, at_s: float, count: float) -> float:
        if self._rows and count < self._rows[-1][1]:
            self._rows.clear()
        self._rows.append((at_s, count))
        while at_s - self._rows[0][0] > RATE_WITHIN_S:
            self._rows.popleft()
        return count - self._rows[0][1]


class SelfWatch:
    """Looks every EVERY_S seconds in a thread of its own; `newest` is what it saw.

    streets: asked each time, since they come after the start. model_watch: how who decides on them
        is watched. watched: the settings file, None for none. clock: given by tests.
    speaks_for: of a street, whether people learn of it from this process; None for all.
    models: what was seen of who decides on each street.
    """

    def __init__(
        self,
        folder: Path,
        database: Database,
        intake: Intake,
        streets: Callable[[], StreetService | None],
        alerts: AlertSettings,
        publish: Publish,
        notify: Notify | None = None,
        model_watch: ModelWatchSettings | None = None,
        watched: Watched | None = None,
        speaks_for: Callable[[str], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._speaks_for = speaks_for or bool  # SYSTEM and each street has a name
        self._folder = folder
        self._database = database
        self._intake = intake
        self._streets = streets
        self._publish = publish
        self.models = ModelWatch(database, streets, model_watch or ModelWatchSettings())
        self._watched = watched
        self._clock = clock
        self._log = telemetry.log("engine")
        self._machine = Machine(folder)
        self._processes = Processes(self._pids)
        self._rates: dict[tuple[str, str], Rate] = {}
        self._restarts: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = keep_running("self-watch", self._work, self._stop, start=False)
        self.errors = ErrorCount(clock)
        book = folder / "open_alerts.json"
        self.desk = AlertDesk(alerts, publish, notify, clock, book, speaks_for)
        self.newest: dict[str, Any] = {}

    def begin(self) -> None:
        logging.getLogger("headway").addHandler(self.errors)
        self._thread.start()
        self.models.begin()

    def close(self) -> None:
        """Wait for the last look, so that it holds no connection of a database that is closed;
        close all alerts.
        """
        logging.getLogger("headway").removeHandler(self.errors)
        self._stop.set()
        self.models.close()
        if self._thread.is_alive():
            self._thread.join(THREAD_ENDS_WITHIN_S)
        self.desk.close()

    def take(self, topic: str, street: str, event: Mapping[str, Any]) -> bool:
        """What the streets report, each event once, whether this is that once: all of it is of the
        topic monitoring, but for what is said of them here.
        """
        kind = str(event.get("kind", ""))
        if street == SYSTEM or (topic != "monitoring" and kind not in SAID_HERE):
            return False
        if kind == "engine.restarted":
            self._restarts[street] = self._restarts.get(street, 0) + 1
        if kind in STREET_ERRORS:
            metrics.errors.labels("street").inc()
            self.errors.add()
        self.desk.take(street, event)
        return True

    def figures(self) -> dict[str, Any]:
        """What was seen last of processes, streets, models, database and errors; open alerts."""
        names = ("processes", "streets", "models", "database", "errors_per_minute")
        return {**{name: self.newest.get(name) for name in names}, "open": self.desk.open_alerts()}

    def look(self) -> dict[str, Any]:
        """Measure all, check the rules; returns the state, as `street.alerts.PROGRAM` has it."""
        machine = self._machine.figures()
        processes = self._processes.figures()
        service = self._streets()
        streets = list(service.streets.values()) if service is not None else []
        live = [s for s in streets if self._speaks_for(s.name)]
        models = self.models.figures()
        state = {
            "machine": {name: machine.get(name) for name in MACHINE_FIGURES},
            "processes": {p.name: asdict(p) for p in processes},
            "streets": {street.name: self._street(street) for street in live},
            "models": {name: of for name, of in models.items() if self._speaks_for(name)},
            "database": {
                "alive": float(self._database.alive()),
                "spool": float(self._intake.spool.waiting),
            },
            "errors_per_minute": float(self.errors.in_last_minute()),
        }
        _measure(state)
        self.desk.check(state)
        self.newest = state
        return state

    def _work(self) -> None:
        while True:
            try:
                self._follow_settings()
                self.look()
            except Exception as error:  # whatever it is: the next look may succeed
                self._log.error("not looked at itself", error=repr(error))
            if self._stop.wait(EVERY_S):
                return

    def _street(self, street: RunningStreet) -> dict[str, float | None]:
        restarts = self._restarts.get(street.name, 0)
        rates = {
            "overruns_per_minute": street.snapshot.overruns if street.snapshot else 0,
            "restarts_per_minute": restarts,
        }
        found: dict[str, float | None] = {
            name: self._rates.setdefault((street.name, name), Rate()).per_minute(
                self._clock(), count
            )
            for name, count in rates.items()
        }
        is_ordered = street.stop is not None  # an order is no fault, whatever a rule says
        is_changing = street.status == "away" and not street.is_missed
        is_running = not (street.finished or street.fault or street.is_missed)
        found["running"] = None if is_ordered or is_changing else float(is_running)
        if (s := street.snapshot) is not None:
            found["tick_ms"] = s.tick_ms
            found["tick_share"] = s.tick_ms / s.budget_ms if s.budget_ms else 0.0
            found["jitter_p99_s"] = s.jitter_p99_s
            found["cycle_success_rate"] = s.cycles_ok / s.cycles if s.cycles else None
        return found

    def _pids(self) -> dict[str, int]:
        """The server, its streets, its own database."""
        found = {"server": os.getpid()}
        service = self._streets()
        for street in list(service.streets.values()) if service is not None else []:
            if street.engine.pid is not None:
                found[street.name] = street.engine.pid
        if self._database.embedded is not None:
            try:
                text = (self._folder / "postgres" / "postmaster.pid").read_text(encoding="utf-8")
                found["database"] = int(text.splitlines()[0])
            except (OSError, ValueError, IndexError):  # it is starting, or another user's
                pass
        return found

    def _follow_settings(self) -> None:
        """Logs and alert rules of this process; the streets follow the file themselves. A fault is
        reported once, and so are sections that wait for the next start.
        """
        if self._watched is None:
            return
        known, waited = self._watched.fault, self._watched.waiting
        changed = self._watched.refresh()
        fault = self._watched.fault
        metrics.degraded.labels("settings").set(float(bool(fault) or self._is_refused()))
        if fault and fault != known:
            self._log.warning("settings refused", fault=fault)
            event = {"kind": "settings.refused", "data": {"fault": fault}}
            self._publish("alerts", SYSTEM, event)
        if (waiting := self._watched.waiting) != waited:
            self._log.info("settings wait for the next start", sections=list(waiting))
            event = {"kind": "settings.waiting", "data": {"sections": list(waiting)}}
            self._publish("monitoring", SYSTEM, event)
        if changed:
            new = self._watched.current
            self._log.info("settings changed", changed=list(changed))
            if "log" in changed:
                self._set_up_logs(new)
            if "alerts" in changed:
                self.desk.use(new.alerts)

    def _is_refused(self) -> bool:
        """A street does not use the file, which may fit this process alone."""
        service = self._streets()
        streets = list(service.streets.values()) if service is not None else []
        return any(s.snapshot.settings_fault for s in streets if s.snapshot is not None)

    def _set_up_logs(self, new: Settings) -> None:
        level, folder = log_level(new), new.log.folder
        try:
            telemetry.set_up(level, new.log.json_lines, folder)
        except OSError as error:
            telemetry.set_up(level, new.log.json_lines)
            self._log.error("no log files", folder=folder, error=str(error))
        logging.getLogger("headway").addHandler(self.errors)  # set_up has taken it out


def _measure(state: Mapping[str, Any]) -> None:
    """Into the metrics for Prometheus."""
    for figure, value in state["machine"].items():
        if value is not None:
            metrics.machine.labels(figure).set(value)
    for name, process in state["processes"].items():
        for figure in (*PROCESS_FIGURES, "cpu_seconds"):
            if process[figure] is not None:
                metrics.process.labels(name, figure).set(process[figure])
    for name, street in state["streets"].items():
        if street.get("cycle_success_rate") is not None:
            metrics.cycle_success.labels(name).set(street["cycle_success_rate"])
    for name, figures in state["models"].items():
        for figure, value in figures.items():
            metrics.models.labels(name, figure).set(math.nan if value is None else value)
