"""Rows on their way to the database, for threads that must not wait for it."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from headway import telemetry
from headway.store.intake import Intake
from headway.telemetry import metrics
from headway.telemetry.threads import keep_running

FLUSH_S = 1.0
MOST_WAITING = 200_000


class Recorder:
    """Writes what streets and cameras report to the database, a batch a second, in a thread of its
    own: they never wait for the database.

    most: rows that may wait here when neither database nor disk takes them; then the oldest go,
        counted in `lost`.
    """

    def __init__(self, intake: Intake, most: int = MOST_WAITING) -> None:
        self._most = most
        self._intake = intake
        self._waiting = deque[tuple[str, tuple[Any, ...]]]()
        self._lock = threading.Lock()
        self.lost = 0
        self.trouble = ""
        self._stop = threading.Event()
        self._log = telemetry.log("store")
        self._thread = keep_running("recorder", self._work, self._stop)

    def put(self, table: str, row: tuple[Any, ...]) -> None:
        with self._lock:
            is_full = len(self._waiting) >= self._most
            if is_full:
                self._waiting.popleft()
                self.lost += 1
            self._waiting.append((table, row))
        if is_full:
            self._tell_loss()

    def _tell_loss(self) -> None:
        metrics.rows_lost.inc()
        metrics.degraded.labels("lost_rows").set(1)
        if count := self._intake.losses.add():
            self._log.error("rows for the database were lost", rows=count, why=self.trouble)

    def close(self) -> None:
        """Write what waits, and end; what neither database nor disk takes now is lost."""
        self._stop.set()
        self._thread.join(10.0)
        with self._lock:
            left = len(self._waiting)
        if left:
            self.lost += left
            why = self.trouble or "the database does not answer"
            self._log.error("rows for the database were lost at the end", rows=left, why=why)

    def _work(self) -> None:
        while not self._stop.wait(FLUSH_S):
            self.flush_safely()
        self.flush_safely()

    def flush_safely(self) -> None:
        """As `flush`; what the spool's replay raises is trouble, and ends no thread."""
        try:
            self.flush()
        except Exception as error:
            self._use_trouble(str(error) or type(error).__name__)

    def flush(self) -> None:
        with self._lock:
            taken, self._waiting = self._waiting, deque()
        batches: dict[str, list[tuple[Any, ...]]] = {}
        for table, row in taken:
            batches.setdefault(table, []).append(row)
        trouble = ""
        for table, rows in batches.items():
            try:
                self._intake.write_sound(table, rows)
            except Exception as error:
                # neither database nor disk: kept here, as long as there is room
                trouble = str(error) or type(error).__name__
                with self._lock:
                    self._waiting.extendleft((table, row) for row in reversed(rows))
        if not trouble and not self._intake.hangs:
            self._intake.catch_up()
        self._use_trouble(trouble)

    def _use_trouble(self, trouble: str) -> None:
        """Into the log when it begins and when it ends."""
        before, self.trouble = self.trouble, trouble
        if trouble and not before:
            self._log.error("neither database nor disk takes rows; they wait", why=trouble[:300])
        elif before and not trouble:
            self._log.warning("rows are written again")
