"""Rows on their way to the database, for threads that must not wait for it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from headway import telemetry
from headway.store.intake import REWOUND, Intake
from headway.store.spool import SpoolFullError
from headway.telemetry import metrics
from headway.telemetry.threads import keep_running

FLUSH_S = 1.0
TO_DISK_AFTER_S = 2.0  # without an answer of the database: a process that is killed loses no more
LOOK_EVERY_S = 0.25
MOST_WAITING = 200_000


_Row = tuple[str, tuple[Any, ...]]
"""A table, and a row of it."""


def _batches(rows: Iterable[_Row]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """By table, each in the order of its rows; what comes after a rewind is in none before it."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for table, row in rows:
        if table == REWOUND:
            yield from found.items()
            found = {}
            yield table, [row]
        else:
            found.setdefault(table, []).append(row)
    yield from found.items()


class Recorder:
    """Writes what streets and cameras report to the database, a batch a second, in a thread of its
    own: they never wait for the database. Where that does not answer for TO_DISK_AFTER_S, another
    thread writes all rows to the spool, also those under way, whose keys drop what is stored twice.

    most: rows that may wait here when neither database nor disk takes them; then the oldest go,
        counted in `lost`.
    """

    def __init__(self, intake: Intake, most: int = MOST_WAITING) -> None:
        self._most = most
        self._intake = intake
        self._waiting = deque[_Row]()
        self._under_way: Iterable[_Row] = ()  # which are in memory alone
        self._flushing_from_s: float | None = None  # monotonic
        self._lock = threading.Lock()
        self.lost = 0
        self.trouble = ""
        self._stop = threading.Event()
        self._log = telemetry.log("store")
        self._thread = keep_running("recorder", self._work, self._stop)
        self._has_ended = threading.Event()
        self._watcher = keep_running("recorder to disk", self._watch, self._has_ended)

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
        self._has_ended.set()
        self._watcher.join(10.0)
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
            self._under_way, self._flushing_from_s = taken, time.monotonic()
        trouble = ""
        try:
            for table, rows in _batches(taken):
                try:
                    self._intake.write_sound(table, rows)
                except Exception as error:
                    # neither database nor disk: kept here, as long as there is room
                    trouble = str(error) or type(error).__name__
                    with self._lock:
                        self._waiting.extendleft((table, row) for row in reversed(rows))
            self._under_way = ()
            if not trouble and not self._intake.hangs:
                self._intake.catch_up()
        finally:
            self._flushing_from_s = None
        self._use_trouble(trouble)

    def _watch(self) -> None:
        while not self._has_ended.wait(LOOK_EVERY_S):
            begun_s = self._flushing_from_s
            if begun_s is not None and time.monotonic() - begun_s > TO_DISK_AFTER_S:
                self._write_to_disk()

    def _write_to_disk(self) -> None:
        """What the disk does not take stays where it is."""
        with self._lock:
            taken, self._waiting = self._waiting, deque()
            under_way, self._under_way = self._under_way, ()
        for table, rows in _batches(under_way):
            with contextlib.suppress(SpoolFullError, OSError):
                self._intake.put_on_disk(table, rows)
        for table, rows in _batches(taken):
            try:
                self._intake.put_on_disk(table, rows)
            except (SpoolFullError, OSError):
                with self._lock:
                    self._waiting.extendleft((table, row) for row in reversed(rows))

    def _use_trouble(self, trouble: str) -> None:
        """Into the log when it begins and when it ends."""
        before, self.trouble = self.trouble, trouble
        if trouble and not before:
            self._log.error("neither database nor disk takes rows; they wait", why=trouble[:300])
        elif before and not trouble:
            self._log.warning("rows are written again")
