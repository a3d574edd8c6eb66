"""Rows on their way to the database, for threads that must not wait for it."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from headway.store.intake import ROW_FAULTS, Intake

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
        self._thread = threading.Thread(target=self._work, daemon=True, name="recorder")
        self._thread.start()

    def put(self, table: str, row: tuple[Any, ...]) -> None:
        with self._lock:
            if len(self._waiting) >= self._most:
                self._waiting.popleft()
                self.lost += 1
            self._waiting.append((table, row))

    def close(self) -> None:
        """Write what waits, and end."""
        self._stop.set()
        self._thread.join(10.0)

    def _work(self) -> None:
        while not self._stop.wait(FLUSH_S):
            self.flush()
        self.flush()

    def flush(self) -> None:
        with self._lock:
            taken, self._waiting = self._waiting, deque()
        batches: dict[str, list[tuple[Any, ...]]] = {}
        for table, row in taken:
            batches.setdefault(table, []).append(row)
        trouble = ""
        for table, rows in batches.items():
            try:
                self._write(table, rows)
            except (
                Exception
            ) as error:  # neither database nor disk: kept here, as long as there is room
                trouble = str(error)
                with self._lock:
                    self._waiting.extendleft((table, row) for row in reversed(rows))
        self.trouble = trouble
        if not taken:
            self._intake.catch_up()

    def _write(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        """A row that the database refuses for what it says is put aside: it holds up none of the
        others.
        """
        try:
            self._intake.write(table, rows)
        except ROW_FAULTS as error:
            if len(rows) == 1:
                self._intake.put_aside(table, rows, error)
                return
            self._write(table, rows[: len(rows) // 2])
            self._write(table, rows[len(rows) // 2 :])
