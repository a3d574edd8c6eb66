"""Looks at what the record says of each street's decisions, every few minutes: drift, calibration,
data, latency. The program's own watch checks alert rules on the figures.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import sqlalchemy as sa

from headway import telemetry
from headway.analytics import MissingError
from headway.analytics.model_monitoring import Monitoring, monitor
from headway.service.running_street import RunningStreet
from headway.service.streets import StreetService
from headway.settings import ModelWatchSettings
from headway.store import Database
from headway.telemetry.threads import keep_running

ANSWER_WITHIN_S = 10.0  # of one question to the database; a look asks some forty of a street
THREAD_ENDS_WITHIN_S = 5.0


class ModelWatch:
    """Looks every `settings.every_s` seconds in a thread of its own, at one street after the other.

    streets: asked each time, since they come after the start.
    newest:  what was found last, by street; of those that run, and have something in the record.
        It stays while a street cannot be looked at, so that its alerts do.
    """

    def __init__(
        self,
        database: Database,
        streets: Callable[[], StreetService | None],
        settings: ModelWatchSettings,
    ) -> None:
        within_s = min(ANSWER_WITHIN_S, database.pool_settings.answer_within_s)
        limits = database.pool_settings.model_copy(update={"answer_within_s": within_s})
        self._database = replace(database, pool_settings=limits)
        self._streets = streets
        self._settings = settings
        self._log = telemetry.log("engine")
        self._stop = threading.Event()
        self._thread = keep_running("model-watch", self._work, self._stop, start=False)
        self.newest: dict[str, Monitoring] = {}

    def begin(self) -> None:
        if self._settings.every_s:
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(THREAD_ENDS_WITHIN_S)

    def figures(self) -> dict[str, dict[str, float | None]]:
        """By street, as `Monitoring.figures`; of those that run. Data grow older since they should
        have been looked at again: until then nobody knows. Of a street that stands by order nothing
        is stale.
        """
        found, now = {}, datetime.now(UTC)
        for street in self._running():
            if (monitoring := self.newest.get(street.name)) is not None:
                figures = monitoring.figures()
                if figures["freshness_s"] is not None:
                    since_s = (now - monitoring.looked_at).total_seconds()
                    figures["freshness_s"] += max(since_s - self._settings.every_s, 0.0)
                if street.snapshot is not None and street.snapshot.paused_by:
                    figures["freshness_s"] = None
                found[street.name] = figures
        return found

    def of_junction(self, junction: str, street: str = "") -> Monitoring:
        """The newest of one junction, of `street` alone where it is given. Raises MissingError
        where no street that is watched has it.
        """
        for name, monitoring in list(self.newest.items()):
            if street in ("", name) and junction in monitoring.calibration_of:
                return monitoring.of_junction(junction)
        where = f"street {street!r}" if street else "any street"
        when = f"every {self._settings.every_s:g} s"
        if not self._settings.every_s:
            when = "never: model_watch.every_s is 0 in the settings"
        raise MissingError(
            f"nothing is known yet of a junction {junction!r} of {where}. Streets are looked at "
            f"{when}"
        )

    def look(self) -> None:
        """At each street that runs; of one that cannot be looked at now the last look counts."""
        found: dict[str, Monitoring] = {}
        for street in self._running():
            if self._stop.is_set():
                return
            try:
                window_s = self._settings.window_h * 3600.0
                found[street.name] = monitor(self._database, street.name, window_s)
            except MissingError:
                continue  # nothing of it is in the record yet
            except (sa.exc.SQLAlchemyError, ValueError, ArithmeticError) as error:
                self._log.warning("not monitored", street=street.name, error=str(error))
                if (last := self.newest.get(street.name)) is not None:
                    found[street.name] = last
        self.newest = found

    def _running(self) -> list[RunningStreet]:
        service = self._streets()
        streets = list(service.streets.values()) if service is not None else []
        return [s for s in streets if not s.finished and not s.fault and s.stop is None]

    def _work(self) -> None:
        while not self._stop.wait(self._settings.every_s):
            self.look()
