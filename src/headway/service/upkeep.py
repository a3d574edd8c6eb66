"""Backups and retention on a schedule. Each run is recorded in the database (`upkeep_run`), logged
and published; one that failed is an alert.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import sqlalchemy as sa

from headway import telemetry
from headway.settings import UpkeepSettings
from headway.store import Database, DatabaseError
from headway.store.refused import FILE as REFUSED
from headway.store.refused import RefusedRows
from headway.store.upkeep import backup, drill, new_key, read_key, retain
from headway.telemetry import metrics
from headway.telemetry.threads import keep_running

UpkeepTask = Literal["backup", "retention", "drill"]
TASKS: tuple[UpkeepTask, ...] = get_args(UpkeepTask)
SCHEDULED: tuple[UpkeepTask, ...] = ("backup", "retention")  # a backup comes first
LOOK_EVERY_S = 5.0
TELL_EVERY = 12  # looks
THREAD_ENDS_WITHIN_S = 5.0
RETRY_AFTER_S = 900.0  # after a run that failed
RETENTION_EVERY_H = 24.0
# A clock that is ahead makes everything old. The schedule deletes by it only where the record has
# retentions by it over so many days (or over those of the retention), none longer apart than that
PROVEN = timedelta(days=7)
APART = timedelta(days=4)
RETENTIONS_READ = 1000  # of the record, the newest
DRAFT_KEPT_S = 86_400.0  # longer than any backup takes
RUN_LOCK = 4847  # any number that no other lock of the database has: one process at a time
FILE = re.compile(r"headway-\d{8}T\d{6}Z\.backup")
DRAFT = re.compile(rf"{FILE.pattern}\.\d+\.draft")

Publish = Callable[[str, str, Any], None]
NewestRun = Callable[[str, bool, Mapping[str, Any]], None]
"""Takes a task, whether it succeeded, and the data of the run."""


class UpkeepError(RuntimeError):
    """A run that failed; the message says why. It is recorded already."""


@dataclass(frozen=True, slots=True)
class UpkeepRun:
    """One run. data: of a backup its file and bytes, of retention the rows deleted by table, of a
    drill the rows found by table; error where it failed, waits where it deleted nothing since the
    clock may have leapt.
    """

    task: str
    begun_at: datetime
    took_s: float
    ok: bool
    data: dict[str, Any]


def _to_nobody(task: str, ok: bool, data: Mapping[str, Any]) -> None:
    pass


class UpkeepService:
    """Keeps the schedule of `settings` for a database, and runs what an administrator asks for.

    folder:  data folder.
    publish: takes (topic, street, message); street is empty.
    clock:   seconds since 1970.
    under_way: numbers of the runs that go on now; retention leaves them.
    newest_run: who alerts people where one failed, and again where one succeeded.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        settings: UpkeepSettings,
        publish: Publish,
        clock: Callable[[], float] = time.time,
        under_way: Callable[[], Collection[int]] = tuple,
    ) -> None:
        self._database = database
        self.settings = settings
        self.backups = Path(settings.folder) if settings.folder else folder / "backups"
        self.key = Path(settings.key) if settings.key else folder / "backup.key"
        self._aside = RefusedRows(folder / REFUSED)
        self._aside_retained_at: datetime | None = None
        self._publish = publish
        self._clock = clock
        self._under_way = under_way
        self._begun_at = self._now()
        self._stop = threading.Event()
        self._thread = keep_running("upkeep", self._work, self._stop, start=False)
        self._busy = threading.Lock()
        self._is_away = False
        self.newest_run: NewestRun = _to_nobody
        self._log = telemetry.log("store")

    def begin(self) -> None:
        """Keep the schedule, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Wait for a task that is under way, but not long: what it writes is whole or not there."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(THREAD_ENDS_WITHIN_S)

    # --- when ---

    def every_h(self, task: UpkeepTask) -> float:
        """Hours between two runs; 0 where the task is not scheduled."""
        if task == "backup":
            return self.settings.backup_every_h
        return RETENTION_EVERY_H if task == "retention" and self.settings.retention_days else 0.0

    def last_due(self, task: UpkeepTask) -> datetime | None:
        """The newest time, now or before, at which the task was to run."""
        period_s = self.every_h(task) * 3600.0
        if not period_s:
            return None
        hour, minute = map(int, self.settings.at.split(":"))
        first_s = hour * 3600.0 + minute * 60.0
        periods = (self._clock() - first_s) // period_s
        return datetime.fromtimestamp(first_s + periods * period_s, UTC)

    def next_due(self, task: UpkeepTask) -> datetime | None:
        last = self.last_due(task)
        return last + timedelta(hours=self.every_h(task)) if last else None

    def is_due(self, task: UpkeepTask) -> bool:
        """Whether it was to run since its last success (before the first: since this service
        began), and did not fail just now.
        """
        due = self.last_due(task)
        if due is None:
            return False
        runs = self.runs(task, 1)
        done = self._newest_success(task) or self._begun_at
        if runs and not runs[0].ok:
            since_s = (self._now() - runs[0].begun_at).total_seconds()
            if 0 <= since_s < RETRY_AFTER_S:
                return False
        return done < due

    def _why_unproven(self) -> str:
        """Why the clock may have leapt, and nothing is deleted by it yet; empty where the record
        has retentions by it for long enough, in the order in which they were made.
        """
        now = since = self._now()
        needed = min(PROVEN, timedelta(days=self.settings.retention_days))
        rows = self._database.rows(
            "SELECT begun_at FROM upkeep_run WHERE task = 'retention' AND ok AND begun_at <= :now "
            "ORDER BY id DESC LIMIT :most",
            now=now,
            most=RETENTIONS_READ,
        )
        for at in (row["begun_at"] for row in rows):
            if since - at > APART:
                break
            since = min(since, at)  # a later one is of a clock that was ahead then
            if now - since >= needed:
                return ""
        return (
            f"nothing is deleted before retentions of {needed / timedelta(days=1):g} days, at most "
            f"{APART.days} apart, are in the record: the clock may have leapt"
        )

    def runs(self, task: str = "", limit: int = 50) -> list[UpkeepRun]:
        """The newest runs first, of one task or of all."""
        rows = self._database.rows(
            "SELECT task, begun_at, took_s, ok, data FROM upkeep_run WHERE :task IN ('', task) "
            "ORDER BY begun_at DESC, id DESC LIMIT :limit",
            task=task,
            limit=limit,
        )
        return [UpkeepRun(**row) for row in rows]

    def _newest_success(self, task: str, is_done: bool = False) -> datetime | None:
        """Of now or before: one of a clock that was ahead must not put off all others. is_done: of
        those that deleted by the clock, and did not wait.
        """
        rows = self._database.rows(
            "SELECT max(begun_at) AS at FROM upkeep_run WHERE task = :task AND ok "
            "AND begun_at <= :now AND (NOT :is_done OR data -> 'waits' IS NULL)",
            is_done=is_done,
            task=task,
            now=self._now(),
        )
        return rows[0]["at"] if rows else None

    # --- what ---

    def why_not(self, task: UpkeepTask) -> str:
        """Why the task cannot be run as things stand; empty where it can."""
        if self._busy.locked():
            return "another run of the upkeep is under way. Try again later"
        if task == "drill" and not self.files():
            return f"{self.backups}: holds no backup yet. Make one first"
        if task == "retention" and not self.settings.retention_days:
            return "upkeep.retention_days is 0: nothing is ever deleted"
        return ""

    def run(self, task: UpkeepTask, is_scheduled: bool = False) -> UpkeepRun:
        """Run a task now, and record it. A retention that nobody asked for waits where the clock
        may have leapt. Raises UpkeepError where it failed, or another one is running.
        """
        if not self._busy.acquire(blocking=False):
            raise UpkeepError("another run of the upkeep is under way. Try again later")
        try:
            return self._recorded(task, is_scheduled)
        finally:
            self._busy.release()

    def _recorded(self, task: UpkeepTask, is_scheduled: bool) -> UpkeepRun:
        works: dict[UpkeepTask, Callable[[], dict[str, Any]]] = {
            "backup": self._backup,
            "retention": partial(self._retain, is_scheduled),
            "drill": self._drill,
        }
        at, begun_s = self._now(), time.perf_counter()
        try:
            ok, data = True, works[task]()
        except Exception as error:  # of whatever class: it is recorded, and an alert
            ok, data = False, {"error": " ".join(str(error).split()) or type(error).__name__}
        run = UpkeepRun(task, at, round(time.perf_counter() - begun_s, 3), ok, data)
        self._report(run)
        if not ok:
            raise UpkeepError(f"the {task} failed: {data['error']}")
        return run

    def _backup(self) -> dict[str, Any]:
        key = self._key()
        self.backups.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remove_drafts()
        size = int(self._database.rows("SELECT pg_database_size(current_database()) AS n")[0]["n"])
        free = shutil.disk_usage(self.backups).free
        if free < size:
            raise DatabaseError(
                f"{self.backups}: {free} bytes are free, the database has {size}. Make room, or "
                "give another upkeep.folder"
            )
        path = self.backups / self._name()
        written = backup(self._database, path, key)
        gone = [old for old in self.files()[: -self.settings.keep] if old != path]
        for old in gone:
            old.unlink(missing_ok=True)
        return {"file": path.name, "bytes": written, "removed": [old.name for old in gone]}

    def _remove_drafts(self) -> None:
        """What backups that were killed a day ago or earlier have left: each as large as one."""
        for path in self.backups.iterdir():
            if DRAFT.fullmatch(path.name) and self._clock() - path.stat().st_mtime > DRAFT_KEPT_S:
                path.unlink(missing_ok=True)

    def _retain(self, is_scheduled: bool) -> dict[str, Any]:
        days = self.settings.retention_days
        if not days:
            raise ValueError("upkeep.retention_days is 0: nothing is ever deleted")
        if is_scheduled and (why := self._why_unproven()):
            return {"deleted": {}, "waits": why}
        return {"deleted": retain(self._database, days, self._under_way(), self._now()).rows}

    def _retain_aside(self, done: datetime) -> None:
        """Of what was put aside in the data folder, after each retention of the database, whichever
        process made it.
        """
        if self._aside_retained_at == done or not self.settings.retention_days:
            return
        try:
            gone = self._aside.retain(self.settings.retention_days)
        except OSError as error:
            self._log.error("upkeep: old lines that were put aside stay", error=str(error))
            return
        self._aside_retained_at = done
        if gone:
            self._log.info("upkeep: old lines that were put aside are deleted", lines=gone)

    def _drill(self) -> dict[str, Any]:
        found = drill(self._database, self.newest(), read_key(self.key))
        if found.fault:
            raise DatabaseError(f"{found.path}: {found.fault}")
        return {"file": Path(found.path).name, "rows": found.rows, "expected": found.expected}

    def _key(self) -> bytes:
        """The key of the backups, made where there is none."""
        if not self.key.exists():
            self.key.parent.mkdir(parents=True, exist_ok=True)
            new_key(self.key)
            self._log.warning(
                "a key for backups was made: copy it to a safe place, without it no backup "
                "can be read",
                file=str(self.key),
            )
        return read_key(self.key)

    def files(self) -> list[Path]:
        """The backups that there are, oldest first; before them those of a clock that was ahead:
        what is made now must not be the oldest.
        """
        if not self.backups.is_dir():
            return []
        found = (path for path in self.backups.iterdir() if FILE.fullmatch(path.name))
        now = self._name()
        return sorted(found, key=lambda path: (path.name <= now, path.name))

    def _name(self) -> str:
        """Of a backup that is made now."""
        return f"headway-{self._now():%Y%m%dT%H%M%SZ}.backup"

    def newest(self) -> Path:
        """The newest backup. Raises DatabaseError where there is none."""
        files = self.files()
        if not files:
            raise DatabaseError(f"{self.backups}: holds no backup yet. Make one first")
        return files[-1]

    # --- what is told ---

    def _report(self, run: UpkeepRun) -> None:
        """To the database, the log, the metrics and the live streams."""
        metrics.upkeep_failed.labels(run.task).set(0.0 if run.ok else 1.0)
        if run.ok:
            metrics.upkeep_done_at.labels(run.task).set(run.begun_at.timestamp())
        say = self._log.info if run.ok else self._log.error
        say(f"upkeep: {run.task}", ok=run.ok, took_s=run.took_s, **run.data)
        try:
            self._database.execute(
                "INSERT INTO upkeep_run (task, begun_at, took_s, ok, data) VALUES "
                "(:task, :begun_at, :took_s, :ok, CAST(:data AS jsonb))",
                **(asdict(run) | {"data": json.dumps(run.data)}),
            )
        except sa.exc.SQLAlchemyError as error:
            self._log.error("upkeep: run not recorded", task=run.task, error=str(error))
        level = "info" if run.ok else "critical"
        kind = f"upkeep.{run.task}" if run.ok else f"upkeep.{run.task}_failed"
        data = {"level": level, "took_s": run.took_s, **run.data}
        event = {"kind": kind, "at_s": None, "junction": "", "data": data}
        self._publish("monitoring", "", event)
        if not run.ok:
            self._publish("alerts", "", event)
        self.newest_run(run.task, run.ok, run.data)

    def tell(self) -> None:
        """Into the metrics and alerts, how the newest run of each task went: another process may
        have made it, or this one before it was started anew.
        """
        try:
            for task in TASKS:
                for run in self.runs(task, 1):
                    metrics.upkeep_failed.labels(task).set(0.0 if run.ok else 1.0)
                    self.newest_run(task, run.ok, run.data)
                if (done := self._newest_success(task)) is not None:
                    metrics.upkeep_done_at.labels(task).set(done.timestamp())
                if task == "retention" and (done := self._newest_success(task, is_done=True)):
                    self._retain_aside(done)
            self._note_away(None)
        except sa.exc.SQLAlchemyError as error:
            self._note_away(error)

    def _work(self) -> None:
        looks = 0
        while not self._stop.wait(LOOK_EVERY_S):
            self.run_due()
            if looks % TELL_EVERY == 0:
                self.tell()
            looks += 1

    def run_due(self) -> list[UpkeepRun]:
        """Run what is due, unless another process of the same database does; the runs that
        succeeded.
        """
        done = []
        for task in SCHEDULED:
            try:
                with self._database.engine.connect() as held:
                    lock = sa.text("SELECT pg_try_advisory_xact_lock(:lock)")
                    if held.execute(lock, {"lock": RUN_LOCK}).scalar_one() and self.is_due(task):
                        done.append(self.run(task, is_scheduled=True))
            except UpkeepError:
                pass  # is recorded
            except sa.exc.SQLAlchemyError as error:
                self._note_away(error)
        return done

    def _note_away(self, error: Exception | None) -> None:
        """Into the log when it begins, not at each look: a link may be down for days."""
        if error is not None and not self._is_away:
            self._log.error("upkeep: the database is away", error=str(error))
        self._is_away = error is not None

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)
