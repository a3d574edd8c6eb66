"""Runs of streets, each with a number of the database; one that begins while the database is away
has a number of this machine until then.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from headway import telemetry
from headway.files import write_whole
from headway.store.database import Database

RUN = ("key", "scenario", "controller", "seed", "street", "scale", "begun_at")
BEGIN_WITHIN_S = 2.0  # a street does not start before it has a number, of whichever kind
# above `known`: a database that was restored has given fewer, and a new one none at all
TAKE_NUMBER = """
    SELECT min(number)
    FROM (
        SELECT nextval(pg_get_serial_sequence('run', 'id')) AS number
        FROM run_id_seq,
            generate_series(1, greatest(:known - last_value + (NOT is_called)::int, 0) + 1)
    ) AS taken
    WHERE number > :known
"""
INSERT = f"""
    INSERT INTO run (id, {", ".join(RUN)}) OVERRIDING SYSTEM VALUE
    VALUES (:id, {", ".join(f":{name}" for name in RUN)})
    ON CONFLICT (key) DO UPDATE SET key = excluded.key
    RETURNING id
"""
T = TypeVar("T")
NEWEST_EVENT = "SELECT coalesce(max(number), 0) AS number FROM event WHERE run_id = :run"


class AwayError(RuntimeError):
    """Why a run begins without the database."""


class Runs:
    """Numbers of runs. A number of this machine is negative; `runs.jsonl` says of which run it is,
    as long as rows may wait under it. The key of a run makes it one row, however often it is
    stored.
    """

    def __init__(self, database: Database, folder: Path, rows_wait: bool) -> None:
        self._database = database
        self._newest = folder / "newest_run"  # its number: rows of it may wait on disk
        self._path = folder / "runs.jsonl"
        self._lock = threading.Lock()
        self._rows = dict[int, dict[str, Any]]()  # of each number of this machine
        self._known = dict[int, int]()
        self._log = telemetry.log("store")
        if rows_wait:
            self._rows = _read(self._path)
        else:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def begin(self, row: Mapping[str, Any], is_away: bool) -> tuple[int, Exception | None]:
        """The number of a new run, and why it is one of this machine: the database is away, or does
        not answer within BEGIN_WITHIN_S. Raises DBAPIError for a fault of the row.
        """
        why: Exception | None = AwayError("it was away when the run began")
        if not is_away:
            try:
                return _within(BEGIN_WITHIN_S, partial(self._store, row)), None
            except TimeoutError:
                why = AwayError(f"it has not answered within {BEGIN_WITHIN_S:g} s")
            except sa.exc.SQLAlchemyError as error:
                why = error
        return self._begin_here(row), why

    def number(self, number: int) -> int:
        """The one of the database, where it is known by now."""
        return self._known.get(number, number)

    def newest_event(self, number: int) -> int:
        """The highest number of an event of a run; 0 where it has none, or the database does not
        know the run, or does not answer within BEGIN_WITHIN_S.
        """
        if number < 0:
            return 0
        ask = partial(self._database.rows, NEWEST_EVENT, run=number)
        try:
            return int(_within(BEGIN_WITHIN_S, ask)[0]["number"])
        except (TimeoutError, sa.exc.SQLAlchemyError):
            return 0

    def stored(self, number: int) -> int:
        """The one of the database, which is given the run if it has not got it. Raises
        SQLAlchemyError; LookupError where nobody knows of which run a number of this machine is.
        """
        if number >= 0 or number in self._known:
            return self.number(number)
        if number not in self._rows:
            raise LookupError(f"no run of this machine has the number {number}")
        self._known[number] = self._store(self._rows[number])
        return self._known[number]

    def _store(self, row: Mapping[str, Any]) -> int:
        known = 0
        with contextlib.suppress(OSError, ValueError):  # there was none
            known = int(self._newest.read_text())
        with self._database.engine.begin() as held:
            is_there = sa.text("SELECT id FROM run WHERE key = :key")
            found = held.execute(is_there, {"key": row["key"]}).scalar()
            if found is None:
                taken = held.execute(sa.text(TAKE_NUMBER), {"known": known}).scalar()
                found = held.execute(sa.text(INSERT), {"id": taken, **row}).scalar()
        number = int(found or 0)
        with self._lock, contextlib.suppress(OSError):  # needed after a restore alone
            write_whole(self._newest, f"{max(number, known)}\n")
        return number

    def _begin_here(self, row: Mapping[str, Any]) -> int:
        with self._lock:
            number = min(-time.time_ns(), min(self._rows, default=0) - 1)
            self._rows[number] = dict(row)
            line = json.dumps({"number": number, "run": dict(row)}) + "\n"
            try:
                with self._path.open("a", encoding="utf-8") as stream:
                    stream.write(line)
                    stream.flush()
                    os.fsync(stream.fileno())
            except OSError as error:  # the street does not wait for the disk, either
                self._log.error("a run is not on disk before it ends", error=str(error))
        return number


def _within(seconds: float, ask: Callable[[], T]) -> T:
    """What `ask` returns, or raises. Raises TimeoutError where it takes longer."""
    found = Future[T]()

    def work() -> None:
        try:
            found.set_result(ask())
        except Exception as error:  # of whichever class: whoever waits gets it
            found.set_exception(error)

    threading.Thread(target=work, daemon=True, name="begin run").start()
    return found.result(seconds)


def _read(path: Path) -> dict[int, dict[str, Any]]:
    """What was begun on this machine; a line that was cut off is none."""
    found = dict[int, dict[str, Any]]()
    text = ""
    with contextlib.suppress(OSError):  # there is none
        text = path.read_text(encoding="utf-8", errors="replace")
    for line in text.splitlines():
        with contextlib.suppress(ValueError, LookupError, TypeError):
            one = json.loads(line)
            found[int(one["number"])] = {name: one["run"][name] for name in RUN}
    return found
