"""Writing to the database: batches by COPY, duplicates left out by their keys, through an outage by
the spool.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from headway.store.database import Database
from headway.store.spool import Spool

COLUMNS = {
    "simulation_record": (
        "simulation_id",
        "at",
        "intersection_id",
        "signals",
        "vehicles",
        "wait_s",
        "throughput",
        "speed_kmh",
        "fuel_saved_l",
        "co2_saved_kg",
        "overrides",
        "emergency",
        "vehicle_types",
    ),
    "event": ("run_id", "number", "at_s", "kind", "junction", "data"),
    "signal_state": ("run_id", "at_s", "junction", "signal_group", "colour"),
    "detector_state": ("run_id", "at_s", "junction", "signal_group", "occupied"),
    "observation": (
        "run_id",
        "at_s",
        "junction",
        "vehicles",
        "halted",
        "longest_wait_s",
        "confidence",
        "at",
        "mean_wait_s",
        "speed_kmh",
        "passed",
        "throughput",
    ),
    "crossing": ("run_id", "junction", "signal_group"),
    "emission": ("run_id", "at_s", "vehicles", "fuel_mg_s", "co2_mg_s"),
    "violation": ("id", "at", "device", "rule", "confidence", "data", "seal"),
    "violation_picture": ("violation_id", "number", "at_s", "jpeg"),
}
OUTAGE = (
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    sa.exc.TimeoutError,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one batch: rows stored, rows that were there already; spooled: kept on disk until the
    database is back (then both are reported as 0).
    """

    stored: int
    duplicates: int
    spooled: int = 0


ROW_FAULTS = (
    psycopg.IntegrityError,
    psycopg.DataError,
)  # what a row says; the others of its batch may be sound
REFUSED = (*ROW_FAULTS, psycopg.ProgrammingError, KeyError)  # KeyError: a table that we do not know


class Intake:
    """Writes batches of rows. While the database is away they go to the spool, and after it, in
    order, before anything new.
    """

    def __init__(self, database: Database, folder: Path, most_spool_bytes: int = 1 << 30) -> None:
        self._database, self.spool = database, Spool(folder / "spool.jsonl", most_spool_bytes)
        self._refused, self.refused = folder / "refused.jsonl", 0
        self._months: set[str] = set()
        self._lock = threading.Lock()
        self.stored = self.duplicates = self.outages = 0

    def write(self, table: str, rows: Sequence[Sequence[Any]]) -> Outcome:
        """Store rows (in the order of COLUMNS[table]; a spool of before an update may hold the
        first of these columns alone). Raises SpoolFullError or OSError if neither database nor disk
        takes them.
        """
        if not rows:
            return Outcome(0, 0)
        if self.spool.waiting and not self.catch_up():
            self.spool.put(table, [list(r) for r in rows])
            return Outcome(0, 0, len(rows))
        try:
            stored = self._copy(table, rows)
        except OUTAGE:
            self.outages += 1
            self.spool.put(table, [list(r) for r in rows])
            return Outcome(0, 0, len(rows))
        return Outcome(stored, len(rows) - stored)

    def begin_run(
        self,
        key: str,
        scenario: str,
        controller: str,
        seed: int,
        street: str = "",
        scale: float = 1.0,
    ) -> int:
        """Number of a new run of the engine, under which its events, signal states and observations
        are kept. scenario, seed and scale are its demand.
        """
        row = (
            "INSERT INTO run (key, scenario, controller, seed, street, scale) VALUES (:key, "
            ":scenario, :controller, :seed, :street, :scale) RETURNING id"
        )
        values = {
            "key": key,
            "scenario": scenario,
            "controller": controller,
            "seed": seed,
            "street": street,
            "scale": scale,
        }
        with self._database.engine.begin() as held:
            return int(held.execute(sa.text(row), values).scalar_one())

    def catch_up(self) -> bool:
        """Replay the spool, if there is one; whether nothing waits any more."""
        if self.spool.waiting and self._lock.acquire(blocking=False):
            try:
                self.spool.replay(self._copy_or_put_aside)
            except OUTAGE:
                return False
            finally:
                self._lock.release()
        return self.spool.waiting == 0

    def _copy_or_put_aside(self, table: str, rows: list[Any]) -> None:
        """Copy a batch of the spool. One that the database rejects for its contents is put aside,
        with the reason, so that it does not block those behind it.
        """
        try:
            self._copy(table, rows)
        except REFUSED as error:
            self.put_aside(table, rows, error)

    def put_aside(self, table: str, rows: Sequence[Any], why: Exception) -> None:
        """Keep rows that the database refuses in a file beside the spool, with the reason;
        `refused` counts them. Raises OSError.
        """
        with self._refused.open("a", encoding="utf-8") as stream:
            stream.write(
                json.dumps(
                    {"why": str(why), "table": table, "rows": [list(r) for r in rows]}, default=str
                )
                + "\n"
            )
        self.refused += len(rows)

    def _copy(self, table: str, rows: Iterable[Sequence[Any]]) -> int:
        """By COPY; where a key is there already, once more through a temporary table without the
        duplicates. Returns the rows stored.
        """
        rows = list(rows)
        if not rows:
            return 0
        columns = ", ".join(COLUMNS[table][: len(rows[0])])
        if table == "simulation_record":
            self._make_partitions(rows)
        with self._database.connection() as held, held.cursor() as cursor:
            try:
                with (
                    held.transaction(),
                    cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy,
                ):
                    for row in rows:
                        copy.write_row(row)
                stored = len(rows)
            except (
                psycopg.errors.UniqueViolation
            ):  # something is there already: sort out which, at leisure
                cursor.execute(
                    f"CREATE TEMP TABLE IF NOT EXISTS new_{table} (LIKE {table} INCLUDING "
                    "DEFAULTS) ON COMMIT DELETE ROWS"
                )
                with cursor.copy(f"COPY new_{table} ({columns}) FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row(row)
                cursor.execute(
                    f"INSERT INTO {table} ({columns}) SELECT {columns} FROM new_{table} ON "
                    "CONFLICT DO NOTHING"
                )
                stored = cursor.rowcount
        self.stored += stored
        self.duplicates += len(rows) - stored
        return stored

    def _make_partitions(self, rows: Iterable[Sequence[Any]]) -> None:
        """A partition for each month that occurs, made when it occurs first."""
        months = {_month(r[1]) for r in rows} - self._months
        for month in sorted(months):
            year, number = int(month[:4]), int(month[5:7])
            after = f"{year + number // 12:04d}-{number % 12 + 1:02d}-01"
            name = f"simulation_record_{year:04d}_{number:02d}"
            span = f"FROM ('{month}-01 00:00+00') TO ('{after} 00:00+00')"
            query = (
                f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF simulation_record FOR VALUES "
                f"{span}"
            )
            with contextlib.suppress(
                sa.exc.ProgrammingError, sa.exc.IntegrityError
            ):  # another process made it, or the default partition holds rows of that month
                self._database.execute(query)
            self._months.add(month)


def _month(at: Any) -> str:
    """The month of the database, that is in UTC, of a time that may have another offset, or be the
    spool's text.
    """
    time = datetime.fromisoformat(str(at))
    with contextlib.suppress(OverflowError):  # the first and the last day that there are
        time = time.astimezone(UTC) if time.tzinfo else time
    return time.isoformat()[:7]
