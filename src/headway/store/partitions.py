"""Partitions of the records, a month each, made by the server's clock alone: what rows say makes
none. Rows of months without one are in the default partition.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import sqlalchemy as sa

from headway.store.database import Database

# a partition costs five locks in any question over all of them, of 6,400 that PostgreSQL has
MONTHS_BEFORE, MONTHS_AFTER = 12, 2
EVERY = timedelta(days=1)
AGAIN = timedelta(hours=1)  # where somebody reads all records now (a backup)
LOCK_LIMIT = "SET LOCAL lock_timeout = '1s'"  # it locks out readers while it waits for one
PARTITIONS = """
    SELECT inhrelid::regclass::text AS name FROM pg_inherits
    WHERE inhparent = 'simulation_record'::regclass
"""
PARTITION = """
    CREATE TABLE IF NOT EXISTS {name} PARTITION OF simulation_record
    FOR VALUES FROM ('{begin}-01 00:00+00') TO ('{end}-01 00:00+00')
"""


def month(now: datetime, after: int) -> str:
    """The month (2026-01) so many after the one of `now`, in UTC."""
    year, number = divmod(now.year * 12 + now.month - 1 + after, 12)
    return f"{year:04d}-{number + 1:02d}"


class Partitions:
    """Those from MONTHS_BEFORE to MONTHS_AFTER the present month. clock: given by tests."""

    def __init__(
        self, database: Database, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._clock = clock
        self._due: datetime | None = None
        self._lock = threading.Lock()

    def keep_up(self) -> None:
        """Make those that are missing, at most once a day. Raises SQLAlchemyError where the
        database does not answer.
        """
        now = self._clock()
        is_kept = self._due is not None and self._due - EVERY <= now < self._due  # else set back
        if is_kept or not self._lock.acquire(blocking=False):
            return
        try:
            self._due = now + (EVERY if self._make(now) else AGAIN)
        finally:
            self._lock.release()

    def _make(self, now: datetime) -> bool:
        """Whether all are there, as far as they can be."""
        known = {row["name"] for row in self._database.rows(PARTITIONS)}
        for after in range(MONTHS_AFTER, -MONTHS_BEFORE - 1, -1):
            begin, end = month(now, after), month(now, after + 1)
            name = f"simulation_record_{begin.replace('-', '_')}"
            if name not in known and not self._make_one(name, begin, end):
                return False
        return True

    def _make_one(self, name: str, begin: str, end: str) -> bool:
        """Whether nobody was in its way."""
        try:
            with self._database.engine.begin() as held:
                held.exec_driver_sql(LOCK_LIMIT)
                held.exec_driver_sql(PARTITION.format(name=name, begin=begin, end=end))
        except (sa.exc.ProgrammingError, sa.exc.IntegrityError):
            pass  # another process made it, or the default partition holds rows of that month
        except sa.exc.OperationalError as error:
            if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
                raise
            return False
        return True
