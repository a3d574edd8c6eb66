"""What `/health` says: what was looked at, when, and what was found. A thread looks every few
seconds, so that an answer never waits for a part that hangs.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa
from pydantic import BaseModel, Field

from headway import __version__, telemetry
from headway.learning.jobs import Jobs
from headway.telemetry import metrics, threads

if TYPE_CHECKING:
    from headway.api.services import Services

LOOK_EVERY_S = 5.0
THREAD_ENDS_WITHIN_S = 5.0
STALE_AFTER_S = 30.0  # a look that takes so long says by itself that something hangs
LEAST_FREE_BYTES = 1_000_000_000  # of the disk, as the alert DiskFull has it
TRIED = "written.tmp"  # in the data folder
TRIED_BYTES = 64 << 10  # more than an entry on disk has
THREAD_FAILURE_TOLD_S = 600.0
CAMERA_WELL = ("running", "starting", "ended", "stopped")


@dataclass(frozen=True, slots=True)
class Finding:
    """Of one part: whether it is well, in words, and how long the look took."""

    part: str
    ok: bool
    found: str
    took_ms: float


class Health(BaseModel):
    """status: ok, or degraded where a part is not; `looked_at` is as old as `at` says."""

    status: Literal["ok", "degraded"] = Field(examples=["ok"])
    version: str
    at: datetime
    looked_at: list[Finding]


@dataclass(frozen=True)
class Look:
    """One look at everything."""

    at: datetime
    findings: tuple[Finding, ...]

    def health(self, ok: bool) -> Health:
        return Health(
            status="ok" if ok else "degraded",
            version=__version__,
            at=self.at,
            looked_at=list(self.findings),
        )

    @cached_property
    def answer(self) -> bytes:
        """The answer of `/health`, made once a look."""
        return self.health(all(f.ok for f in self.findings)).model_dump_json().encode()

    @property
    def is_stale(self) -> bool:
        return (datetime.now(UTC) - self.at).total_seconds() > STALE_AFTER_S


class Lookout:
    """Looks at the parts of an application every LOOK_EVERY_S seconds; `newest` is what it saw.
    disk_takes_writes: the data folder did then.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stop = threading.Event()
        self._thread = threads.keep_running("lookout", self._work, self._stop, start=False)
        self.newest = Look(datetime.now(UTC), ())
        self.disk_takes_writes = True

    def begin(self) -> None:
        """Look once, and go on in a thread."""
        self.look()
        self._thread.start()

    def close(self) -> None:
        """Wait for the last look, so that it holds no connection of a database that is closed."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(THREAD_ENDS_WITHIN_S)

    def look(self) -> Look:
        looks = (
            ("database", self._database),
            ("spool", self._spool),
            ("record", self._record),
            ("threads", _threads),
            ("streets", self._streets),
            ("cameras", self._cameras),
            ("shared state", self._shared),
            ("disk", self._disk),
        )
        self.newest = Look(datetime.now(UTC), tuple(_found(part, look) for part, look in looks))
        self._count_jobs()
        return self.newest

    def _count_jobs(self) -> None:
        """Into the metrics, by which others begin more workers."""
        try:
            backlog = Jobs(self._services.database).backlog()
            found: tuple[float, ...] = (backlog.waiting, backlog.running, backlog.silent)
        except sa.exc.SQLAlchemyError:
            found = (math.nan,) * 3
        for state, count in zip(("waiting", "running", "silent"), found, strict=True):
            metrics.jobs.labels(state).set(count)

    def _work(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self.look()
            except Exception as error:  # the next look may succeed; this one grows stale
                telemetry.log("api").error("health not looked at", error=str(error))

    def _database(self) -> tuple[bool, str]:
        alive = self._services.database.alive()
        return alive, "answers" if alive else "cannot be reached"

    def _spool(self) -> tuple[bool, str]:
        services = self._services
        waiting, entries = services.intake.spool.waiting, services.recorder.spool.waiting
        found = f"{waiting} batches wait for the database"
        if entries:
            found += f", and {entries} entries of the audit trail"
        return waiting + entries == 0, found

    def _record(self) -> tuple[bool, str]:
        """Rows that are missing in the database, for as long as somebody may not have seen it."""
        intake = self._services.intake
        refused, lost = intake.refusals, intake.losses
        metrics.degraded.labels("refused_rows").set(float(refused.is_recent))
        metrics.degraded.labels("lost_rows").set(float(lost.is_recent))
        found = f"since the start {refused.count} rows refused, {lost.count} lost"
        return not (refused.is_recent or lost.is_recent), found

    def _streets(self) -> tuple[bool, str]:
        service = self._services.street_service
        streets = list(service.streets.values()) if service is not None else []
        running = sum(not street.finished for street in streets)
        given_up = sum(bool(street.fault) for street in streets)
        troubled = sum(bool(s.trouble or (s.snapshot and s.snapshot.trouble)) for s in streets)
        stopped = sum(street.stop is not None for street in streets)
        away = sum(street.is_missed for street in streets)
        found = f"{running} of {len(streets)} run, {given_up} given up"
        if away:
            found += f", {away} away"
        if stopped:
            found += f", {stopped} stopped by order"
        if troubled:
            found += f", {troubled} cannot write or deliver events"
        return not (given_up or troubled or away), found

    def _cameras(self) -> tuple[bool, str]:
        service = self._services.camera_service
        states = [s.state() for s in list(service.manager.streams.values())] if service else []
        well = sum(state["state"] in CAMERA_WELL for state in states)
        return well == len(states), f"{well} of {len(states)} are well"

    def _shared(self) -> tuple[bool, str]:
        """Limits, cache and streams over several processes."""
        if not self._services.settings.redis_url:
            return True, "none is set: this process works alone"
        degraded = {
            s.labels["part"]: s.value for m in metrics.degraded.collect() for s in m.samples
        }
        away = [part for part in ("limits", "cache", "relay", "streets") if degraded.get(part)]
        return not away, f"away for {', '.join(away)}" if away else "answers"

    def _disk(self) -> tuple[bool, str]:
        fault = _fault_of_writing(self._services.folder / TRIED)
        self.disk_takes_writes = not fault
        if fault:
            return False, f"the data folder takes nothing: {fault}"
        free = shutil.disk_usage(self._services.folder).free
        return free >= LEAST_FREE_BYTES, f"{free / 1e9:.1f} GB free for the data folder"


def _fault_of_writing(path: Path) -> str:
    """In the system's words; empty where it succeeds. A full disk may have room for a name, or less
    than its free bytes say (quotas), or be mounted to be read alone.
    """
    try:
        try:
            with path.open("wb", buffering=0) as stream:
                written = stream.write(bytes(TRIED_BYTES))
        finally:
            path.unlink(missing_ok=True)
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "" if written == TRIED_BYTES else os.strerror(errno.ENOSPC)


def _threads() -> tuple[bool, str]:
    failed = threads.failed_within(THREAD_FAILURE_TOLD_S)
    if not failed:
        return True, "none has failed lately"
    return False, f"failed lately, and started anew: {', '.join(failed)}"


def _found(part: str, look: Callable[[], tuple[bool, str]]) -> Finding:
    """What fails to be looked at is not well. Everybody may read this: no names, no paths."""
    begun = time.perf_counter()
    try:
        ok, found = look()
    except Exception as error:  # of whatever class: /health must answer
        ok, found = False, f"could not be looked at ({type(error).__name__})"
    return Finding(part, ok, found, round((time.perf_counter() - begun) * 1e3, 2))
