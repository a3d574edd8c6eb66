"""A worker: takes jobs out of the database, one after the other, and does each in a process of its
own, so that nothing of a job (SUMO, memory, a crash) stays here.

While the database is away the job goes on, and what came of it is written once it is back. A worker
that was killed leaves its job to the next one that looks, which goes on where that one was.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from headway import telemetry
from headway.learning.jobs import Jobs, LearningJob, LostJobError, UnknownJobError
from headway.learning.process import MODELS, Child, Do, Done, Failed, Told, do_job
from headway.learning.registry import Registry
from headway.learning.shared_files import StorageAwayError
from headway.store import Database, DatabaseError
from headway.telemetry.life import SignsOfLife

T = TypeVar("T")
BEAT_S = 1.0  # between two signs of life, which also hear of a cancellation
STALE_S = 60.0  # a worker that was silent for so long is dead
IDLE_S = 1.0  # between two looks for a job
STORAGE_EVERY_S = 10.0  # how often a shared storage that is away is asked again
ROOM_BYTES = 256 << 20  # on the disk of the data folder: with less no job is begun


class Worker:
    """folder: the data folder, which all workers share; key: of the registry.

    stale_s: after how long a silent worker is taken for dead; do: what a job does, a function that
    other processes can import; signs: given while it looks for a job or does one.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        key: bytes,
        *,
        stale_s: float = STALE_S,
        do: Do = do_job,
        clock: Callable[[], float] = time.monotonic,
        signs: SignsOfLife | None = None,
    ) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._database = database
        self._jobs = Jobs(database)
        self._registry = Registry(database, folder, key)
        self._folder = folder.resolve() / "jobs"  # SUMO takes other paths from where its files are
        self._stale_s = stale_s
        self._do = do
        self._clock = clock
        self._signs = signs or SignsOfLife()
        self._has_room = True
        self._reached_since: float | None = None  # the database, by `clock`; None while it is away
        self._stop = threading.Event()
        self._log = telemetry.log("training")

    def stop(self) -> None:
        """From any thread or signal: a job under way is left to another worker."""
        self._stop.set()

    def run(self, until_idle: bool = False) -> None:
        """Until `stop`; with until_idle also when there is nothing to do."""
        is_tidy = False
        while not self._stop.is_set():
            self._signs.give()
            if not self._finds_room():
                self._stop.wait(IDLE_S)
                continue
            job = self._reached(self._next)
            if job is not None:
                self._work_on(job)
                is_tidy = False
            elif not is_tidy:
                try:
                    self._reached(self._clear_ended)
                except OSError as error:  # short of handles, as below
                    self._log.warning("folders of jobs cannot be read", error=str(error))
                    self._stop.wait(IDLE_S)
                    continue
                is_tidy = True
            elif until_idle and self._reached_since is not None:
                return
            else:
                self._stop.wait(IDLE_S)

    def _finds_room(self) -> bool:
        """Whether there is room for files of a job; said once where there is none."""
        place = next(p for p in (self._folder, *self._folder.parents) if p.exists())
        has_room = shutil.disk_usage(place).free >= ROOM_BYTES
        if self._has_room and not has_room:
            self._log.error(
                "jobs wait: the disk is full", folder=str(self._folder), needed_bytes=ROOM_BYTES
            )
        self._has_room = has_room
        return has_room

    def _next(self) -> LearningJob | None:
        """Nobody could give a sign of life while the database was away: who is dead is known after
        it was there for as long as a worker may be silent.
        """
        begun = self._reached_since
        is_known = begun is not None and self._clock() - begun >= self._stale_s
        if is_known and (found := self._jobs.sweep(self._stale_s)):
            self._log.warning("jobs of dead workers go on", jobs=found)
        return self._jobs.take(self.name)

    def _reached(self, ask: Callable[[], T]) -> T | None:
        """What `ask` returns; None where the database is away."""
        try:
            found = ask()
        except sa.exc.SQLAlchemyError as error:
            if self._reached_since is not None:
                self._log.warning("the database is away", error=" ".join(str(error).split())[:500])
            self._reached_since = None
            with contextlib.suppress(DatabaseError):
                self._database.revive()
            return None
        if self._reached_since is None:
            self._reached_since = self._clock()
        return found

    def _work_on(self, job: LearningJob) -> None:
        self._log.info("job begun", job=job.id, kind=job.kind, attempt=job.attempt)
        try:
            arguments = self._arguments(job)
            if arguments is None:
                return
            attempt = self._place(job) / str(job.attempt)
            try:
                child = Child(self._do, job.kind, arguments, attempt)
            except OSError as error:  # this machine is short of handles, processes or memory
                self._log.error("no process for a job", job=job.id, error=str(error))
                self._insist(lambda: self._jobs.give_back(job))
                self._stop.wait(IDLE_S)
                return
            with contextlib.closing(child):
                self._attend(job, child)
        except LostJobError as error:
            self._log.warning("job lost", job=job.id, why=str(error))

    def _arguments(self, job: LearningJob) -> dict[str, Any] | None:
        """With the files of the models that are named; None where there is nothing more to do.
        Raises LostJobError.
        """
        named = [c for c in job.arguments.get("controllers", ()) if "@" in c]

        def found() -> dict[str, Any]:
            models = {c: self._registry.file(self._registry.find(c)) for c in named}
            return job.arguments | ({MODELS: models} if models else {})

        try:
            return self._with_storage(job, lambda: self._until_reached(found))
        except (ValueError, OSError) as error:
            why = str(error)
            self._insist(lambda: self._jobs.end(job, "failed", why))
            return None

    def _attend(self, job: LearningJob, child: Child) -> None:
        """Until it has ended, and that is written. Raises LostJobError."""
        beat = self._clock()
        while not child.listen(BEAT_S):
            self._signs.give()
            if self._stop.is_set():
                child.close()
                self._reached(lambda: self._jobs.give_back(job))
                return
            if self._clock() - beat < BEAT_S:
                continue
            beat = self._clock()
            if self._reached(lambda: self._beat(job, child)):
                child.close()
                self._insist(lambda: self._jobs.end(job, "cancelled"))
                self._clear(job)
                return
        self._conclude(job, child)

    def _beat(self, job: LearningJob, child: Child) -> bool:
        told = child.told or Told(job.progress, job.note)
        return self._jobs.beat(job, told.progress, told.note)

    def _conclude(self, job: LearningJob, child: Child) -> None:
        outcome = child.outcome
        if isinstance(outcome, Done):
            done = outcome
            try:
                if self._with_storage(job, lambda: self._finish_once(job, done)) is None:
                    return
            except OSError as error:
                outcome = Failed(f"{type(error).__name__}: {error}", is_short=True)
        if isinstance(outcome, Failed):
            failed = outcome
            if failed.is_short or not self._finds_room():
                self._leave(job, failed.error)
                return
            self._insist(lambda: self._jobs.end(job, "failed", failed.error))
        elif outcome is None:
            self._leave(job, child.ending())
            return
        self._log.info("job ended", job=job.id, failed=isinstance(outcome, Failed))
        self._clear(job)

    def _finish_once(self, job: LearningJob, done: Done) -> bool | None:
        """Once the database takes it; None where this worker is stopped."""

        def finish() -> bool:
            self._finish(job, done)
            return True

        return self._until_reached(finish)

    def _with_storage(self, job: LearningJob, work: Callable[[], T | None]) -> T | None:
        """What `work` returns, which may have to do with a shared storage: once that is there,
        however long it takes. None where the job is not this worker's to go on with any more: it
        was cancelled, or this worker is stopped. Raises LostJobError, and what `work` raises.
        """
        is_said = False
        while True:
            try:
                return self._beside(job, work)
            except StorageAwayError as error:
                why = str(error)
            if not is_said:
                self._log.warning("the shared storage is away", job=job.id, error=why)
                is_said = True
            if self._waits_cancelled(job, why):
                return None

    def _beside(self, job: LearningJob, work: Callable[[], T]) -> T:
        """Do it in a thread; meanwhile this loop says that the job goes on. Where it does not any
        more, `work` has just ended it, or raises that it is lost.
        """
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            doing = thread.submit(work)
            while not concurrent.futures.wait([doing], BEAT_S).done:
                self._signs.give()
                with contextlib.suppress(LostJobError):
                    self._say(job)
            return doing.result()

    def _waits_cancelled(self, job: LearningJob, why: str) -> bool:
        """Waits until the storage is asked again; whether the job ends instead."""
        ends_s = self._clock() + STORAGE_EVERY_S
        while self._clock() < ends_s:
            self._signs.give()
            if self._say(job, f"waits: {why}"):
                self._insist(lambda: self._jobs.end(job, "cancelled"))
                self._clear(job)
                return True
            if self._stop.wait(BEAT_S):
                self._reached(lambda: self._jobs.give_back(job))
                return True
        return False

    def _say(self, job: LearningJob, note: str = "") -> bool | None:
        """That it goes on; whether somebody wants it to end, None while the database is away."""

        def beat() -> bool:
            now = self._jobs.job(job.id)
            return self._jobs.beat(job, now.progress, note or now.note)

        return self._reached(beat)

    def _leave(self, job: LearningJob, why: str) -> None:
        """To be begun anew, with what it has. A full disk does not count against it."""
        against = why if self._finds_room() else ""

        def give_back() -> None:
            now = self._jobs.job(job.id)
            self._jobs.beat(job, now.progress, f"is begun again: {why}")
            self._jobs.give_back(job, against)

        self._insist(give_back)
        self._log.warning("job ended by its process", job=job.id, why=why)

    def _finish(self, job: LearningJob, done: Done) -> None:
        """The job's end and its model, in one transaction. Raises OSError where its file cannot be
        stored.
        """
        if not done.file:
            self._jobs.finish(job, done.result)
            return
        try:
            self._registry.add(
                Path(done.file),
                name=done.name,
                kind=done.kind,
                made_from=done.made_from | {"job": job.id},
                metrics=done.result,
                by=job.asked_by,
                within=lambda held, id_: self._jobs.finish_within(held, job, done.result, id_),
            )
        except ValueError as error:
            self._jobs.end(job, "failed", f"{type(error).__name__}: {error}")

    def _insist(self, write: Callable[[], object]) -> None:
        """Once the database takes it, unless this worker is stopped. Raises LostJobError, also
        where it was taken and the answer got lost.
        """
        self._until_reached(lambda: (write(),))

    def _until_reached(self, ask: Callable[[], T]) -> T | None:
        """What `ask` returns, once the database is there; None where this worker is stopped."""
        while (found := self._reached(ask)) is None:
            self._signs.give()
            if self._stop.wait(IDLE_S):
                return None
        return found

    def _clear_ended(self) -> None:
        """Folders of jobs that ended while no worker had them."""
        for folder in self._folder.glob("*-*"):
            number = folder.name.partition("-")[0]
            with contextlib.suppress(UnknownJobError, ValueError):
                job = self._jobs.job(int(number))
                if job.ended_at is not None and folder == self._place(job):
                    self._clear(job)

    def _clear(self, job: LearningJob) -> None:
        shutil.rmtree(self._place(job), ignore_errors=True)

    def _place(self, job: LearningJob) -> Path:
        """Of its files. A number may come again, after a restore or in another database: with the
        time at which it was asked for no job goes on with what another one has left.
        """
        asked_at = job.asked_at.astimezone(UTC)
        return self._folder / f"{job.id}-{asked_at:%Y%m%dT%H%M%S%f}"
