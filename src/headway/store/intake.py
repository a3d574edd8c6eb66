"""Writing to the database: batches by COPY, duplicates left out by their keys, through an outage by
the spool.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from headway import telemetry
from headway.settings import SpoolSettings
from headway.store.database import Database
from headway.store.partitions import Partitions
from headway.store.refused import FILE as REFUSED
from headway.store.refused import RefusedRows
from headway.store.runs import RUN, Runs
from headway.store.spool import Spool
from headway.telemetry import metrics
from headway.telemetry.bursts import Burst

COLUMNS = {
    "run": ("id", "key", "scenario", "controller", "seed", "street", "scale", "begun_at"),
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
        "performance",
    ),
    "crossing": ("run_id", "junction", "signal_group"),
    "emission": ("run_id", "at_s", "vehicles", "fuel_mg_s", "co2_mg_s"),
    "camera_count": (
        "camera",
        "interval_begin",
        "part_at",
        "line",
        "direction",
        "kind",
        "n",
        "observed_s",
        "speeds",
        "total_mps",
    ),
    "violation": ("id", "at", "device", "rule", "confidence", "data", "seal"),
    "violation_picture": ("violation_id", "number", "at_s", "jpeg"),
}
RECORD_KEY = ("simulation_id", "intersection_id", "at")
# of a record: what it says; the other columns are its key, or follow from these
CONTENT = tuple(
    name
    for name in COLUMNS["simulation_record"]
    if name not in (*RECORD_KEY, "emergency", "vehicle_types")
)
KEY = ", ".join(RECORD_KEY)
# of the rows that were to be stored, the places of those whose key is there with other content; a
# version of before a correction is known, too
CONFLICTS = f"""
    SELECT place
    FROM new_simulation_record n JOIN simulation_record r USING ({KEY})
    WHERE ({", ".join(f"n.{c}" for c in CONTENT)})
            IS DISTINCT FROM ({", ".join(f"r.{c}" for c in CONTENT)})
        AND NOT EXISTS (
            SELECT 1 FROM record_version v
            WHERE (v.simulation_id, v.intersection_id, v.at)
                    = (n.simulation_id, n.intersection_id, n.at)
                AND ({", ".join(f"v.{c}" for c in CONTENT)})
                    IS NOT DISTINCT FROM ({", ".join(f"n.{c}" for c in CONTENT)})
        )
    ORDER BY place
"""
OF_RUNS = ("event", "signal_state", "detector_state", "observation", "crossing", "emission")
CONTROLLER = "run_controller"  # no table: (run, who decides from its begin on)
REWOUND = "run_rewound"  # no table: (run, second from which its street has gone on once more)
# of a run: by run and at_s. The changes of the tick that begins then were of before, too; figures
# of that second are those that it has gone on from.
REWIND = (
    *(
        f"""
        WITH RECURSIVE known AS (
            (SELECT junction, signal_group FROM {table} WHERE run_id = %(run)s
                ORDER BY junction, signal_group LIMIT 1)
            UNION ALL
            SELECT next.junction, next.signal_group
            FROM known CROSS JOIN LATERAL (SELECT junction, signal_group FROM {table}
                WHERE run_id = %(run)s
                    AND (junction, signal_group) > (known.junction, known.signal_group)
                ORDER BY junction, signal_group LIMIT 1) next
        )
        DELETE FROM {table} t USING known
        WHERE t.run_id = %(run)s AND t.junction = known.junction
            AND t.signal_group = known.signal_group AND t.at_s >= %(at_s)s
        """
        for table in ("signal_state", "detector_state")
    ),
    """
    WITH RECURSIVE known AS (
        (SELECT junction FROM observation WHERE run_id = %(run)s ORDER BY junction LIMIT 1)
        UNION ALL
        SELECT next.junction
        FROM known CROSS JOIN LATERAL (SELECT junction FROM observation
            WHERE run_id = %(run)s AND junction > known.junction
            ORDER BY junction LIMIT 1) next
    )
    DELETE FROM observation t USING known
    WHERE t.run_id = %(run)s AND t.junction = known.junction AND t.at_s > %(at_s)s
    """,
    "DELETE FROM emission WHERE run_id = %(run)s AND at_s > %(at_s)s",
)
SPOOL = "spool.jsonl"
# what may go where it cannot all wait on disk, the least important first: see docs/settings.md
SHEDS = (("detector_state", "emission"), ("observation", "signal_state", "camera_count"))
HANGS_AFTER_S = 1.0  # an attempt that fails later than so has kept somebody waiting
LONGEST_REASON = 300  # characters, in the log
# of whoever writes: a table that somebody locks, or a disk that hangs, is an outage like any other
WRITE_LIMITS = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '30s'"
MOST_CAUGHT_UP = 20  # batches; a request does not wait for more, threads with time do
# of SQLSTATE (PostgreSQL, appendix A): what a row is refused for. All other classes are outages, in
# which rows wait: of the connection (08), the transaction (25, 40), who asks and for what (28, 3D,
# 3F), what is short, locked, stopped or broken (53, 55, 57, 58, F0, XX), plans of before (0A)
ROW_FAULT_CLASSES = {
    "21": "cardinality",
    "22": "data",
    "23": "integrity",
    "42": "a type, a column or a function that does not fit",
    "44": "a view's own check",
    "54": "a program's limit, as an index row of 10 MB",
    "P0": "what a trigger raises",
}
OUTAGE_STATES = {  # of these classes, what is so for all rows, until somebody sees to it
    "42501": "a right is missing",
    "42703": "a column is missing: the schema is an older one, until it is brought up",
    "42P01": "a table is missing: the schema is another one's, or is being made",
}
DRIVER_FAULTS = (  # of a row that the driver cannot write, or of no table that we know
    psycopg.DataError,
    psycopg.ProgrammingError,
    psycopg.NotSupportedError,
    ValueError,
    TypeError,
    LookupError,
)
OUTAGE = (psycopg.Error, sa.exc.SQLAlchemyError)  # where the rows themselves have no fault


def is_row_fault(error: BaseException) -> bool:
    """Whether a row is refused for what it says, so that the others of its batch may be sound.
    Anything else (the database is away, full, locked, read-only; a right is missing) passes or is
    seen to: the rows wait for it.
    """
    if isinstance(error, sa.exc.DBAPIError) and error.orig is not None:
        error = error.orig
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    if state is not None:
        return state[:2] in ROW_FAULT_CLASSES and state not in OUTAGE_STATES
    return isinstance(error, DRIVER_FAULTS)


def _took_too_long(error: BaseException) -> bool:
    """Fewer rows at once may get through: a batch that never does would hold up all behind it."""
    return isinstance(getattr(error, "orig", error), psycopg.errors.QueryCanceled)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one batch: rows stored, rows that were there already; spooled: kept on disk until the
    database is back (then both are reported as 0); refused: put aside for what they say; conflicts:
    places of the rows whose key is there with other content, which are not stored.
    """

    stored: int
    duplicates: int
    spooled: int = 0
    refused: int = 0
    conflicts: tuple[int, ...] = ()

    def __add__(self, other: Outcome) -> Outcome:
        """Of both; the places are those of each."""
        return Outcome(
            stored=self.stored + other.stored,
            duplicates=self.duplicates + other.duplicates,
            spooled=self.spooled + other.spooled,
            refused=self.refused + other.refused,
            conflicts=self.conflicts + other.conflicts,
        )


class ConflictError(ValueError):
    """Why a row of the spool is put aside: its key is there with other content."""


class Intake:
    """Writes batches of rows. While the database is away they go to the spool, and after it, in
    order, before anything new.

    refusals: rows put aside for what they say, into the file `refused`; losses: rows that neither
        database nor disk took.
    trouble:  why the database takes nothing now; empty where it does.
    hangs:    it does not even refuse: who must not wait does not ask before `catch_up` has.
    settings: of the spool; the defaults where None.
    """

    def __init__(
        self, database: Database, folder: Path, settings: SpoolSettings | None = None
    ) -> None:
        settings = settings or SpoolSettings()
        self._database = database
        self.spool = Spool(
            folder / SPOOL,
            round(settings.most_gb * 1e9),
            SHEDS,
            round(settings.least_free_gb * 1e9),
            settings.most_days,
        )
        self._runs = Runs(database, folder, self.spool.waiting > 0)
        self.refused = RefusedRows(folder / REFUSED)
        self.refusals, self.losses = Burst(), Burst()
        self._partitions = Partitions(database)
        self._lock = threading.Lock()
        self._log = telemetry.log("store")
        self.stored = self.duplicates = self.outages = 0
        self.trouble = ""
        self.hangs = False
        self._tell_damaged()

    def write(self, table: str, rows: Sequence[Sequence[Any]]) -> Outcome:
        """Store rows (in the order of COLUMNS[table]; a spool of before an update may hold the
        first of these columns alone). Raises SpoolFullError or OSError if neither database nor disk
        takes them.
        """
        if not rows:
            return Outcome(0, 0)
        waiting = self.spool.waiting
        if self.hangs or (waiting and (waiting > MOST_CAUGHT_UP or not self.catch_up())):
            return self.put_on_disk(table, rows)
        begun_s = time.monotonic()
        try:
            outcome = self._copy(table, rows)
        except OUTAGE as error:
            if is_row_fault(error):
                raise
            self.outages += 1
            self._tell_trouble(error, begun_s)
            return self.put_on_disk(table, rows)
        self._tell_trouble(None)
        return outcome

    def put_on_disk(self, table: str, rows: Sequence[Sequence[Any]]) -> Outcome:
        """Where they wait for the database. Raises SpoolFullError, OSError."""
        self.spool.put(table, [list(r) for r in rows])
        self._tell_shed()
        return Outcome(0, 0, len(rows))

    def _tell_shed(self) -> None:
        shed = self.spool.take_shed()
        if not shed:
            return
        rows = shed.total()
        metrics.rows_lost.inc(rows)
        metrics.degraded.labels("lost_rows").set(1)
        if count := self.losses.add(rows):
            self._log.error(
                "rows that waited on disk for the database were dropped, to make room",
                rows=count,
                kinds=", ".join(sorted(shed)),
            )

    def write_sound(self, table: str, rows: Sequence[Sequence[Any]]) -> Outcome:
        """Store rows as `write` does, but for those that the database refuses for what they say:
        they are put aside, and hold up none of the others. Raises SpoolFullError or OSError.
        """
        return self._each(self.write, table, rows)

    def _each(
        self,
        write: Callable[[str, Sequence[Sequence[Any]]], Outcome],
        table: str,
        rows: Sequence[Sequence[Any]],
    ) -> Outcome:
        """All rows at once; where that is refused, or takes too long, each half by itself."""
        try:
            return write(table, rows)
        except Exception as error:
            if not is_row_fault(error) and (len(rows) == 1 or not _took_too_long(error)):
                raise
            if len(rows) == 1:
                self.put_aside(table, rows, error)
                return Outcome(0, 0, refused=1)
        middle = len(rows) // 2
        return self._each(write, table, rows[:middle]) + self._each(write, table, rows[middle:])

    def _tell_trouble(self, error: Exception | None, begun_s: float = math.inf) -> None:
        """Into the log when it begins and when it ends. begun_s: of the attempt, monotonic."""
        self.hangs = error is not None and time.monotonic() - begun_s > HANGS_AFTER_S
        before, self.trouble = self.trouble, "" if error is None else _in_a_line(error)
        if self.trouble and not before:
            self._log.error("the database takes no rows; they wait on disk", why=self.trouble)
        elif before and not self.trouble:
            self._log.warning("the database takes rows again", waiting=self.spool.waiting)

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
        are kept. scenario, seed and scale are its demand. While the database is away it is one of
        this machine, and negative; rows that are given under it are stored under that of the
        database, once there is one. Raises DBAPIError for a fault of the row.
        """
        begun_at = datetime.now(UTC).isoformat()
        row = (key, scenario, controller, seed, street, scale, begun_at)
        is_away = self.hangs or bool(self.trouble and self.spool.waiting)
        number, why = self._runs.begin(dict(zip(RUN, row, strict=True)), is_away)
        if why is not None and is_row_fault(why):
            raise why
        if why is not None and not is_away:
            self._tell_trouble(why)
        return number

    def run_number(self, number: int) -> int:
        """Of the database, where it is known by now."""
        return self._runs.number(number)

    def newest_event(self, run: int) -> int:
        """The highest number of an event of a run; 0 where it has none, or nobody knows it now."""
        return self._runs.newest_event(run)

    def catch_up(self) -> bool:
        """Replay the spool, if there is one; whether nothing waits any more."""
        self.refused.write()
        if not self.spool.waiting:
            self.hangs = False  # whoever comes next finds out
        elif self._lock.acquire(blocking=False):
            begun_s = time.monotonic()
            try:
                self.spool.replay(lambda table, rows: self._each(self._stored, table, rows))
                self._tell_trouble(None)
            except (*OUTAGE, OSError) as error:  # of the disk: what waits stays where it is
                self._tell_trouble(error, begun_s)
                return False
            finally:
                self._lock.release()
                self._tell_damaged()
        return self.spool.waiting == 0

    def _tell_damaged(self) -> None:
        """Lines of the spool that were put aside, each once."""
        count, self.spool.damaged = self.spool.damaged, 0
        if count:
            self._log.error(
                "damaged lines of the spool were put aside",
                lines=count,
                file=self.spool.aside.name,
            )

    def _stored(self, table: str, rows: Sequence[Sequence[Any]]) -> Outcome:
        """Of the spool: those who sent them wait for no answer any more."""
        outcome = self._copy(table, rows)
        if outcome.conflicts:
            why = ConflictError("the key is there with other content; correct that record instead")
            self.put_aside(table, [rows[place] for place in outcome.conflicts], why)
        return outcome

    def put_aside(self, table: str, rows: Sequence[Any], why: Exception) -> None:
        """Keep rows that the database refuses in a file beside the spool, with the reason;
        `refusals` counts them, and the log says so once a burst.
        """
        self.refused.add(table, rows, why)
        metrics.rows_refused.inc(len(rows))
        metrics.degraded.labels("refused_rows").set(1)
        if count := self.refusals.add(len(rows)):
            self._log.error(
                "rows were refused by the database and put aside",
                rows=count,
                table=table,
                why=_in_a_line(why),
                file=self.refused.path.name,
            )

    def _copy(self, table: str, rows: Iterable[Sequence[Any]]) -> Outcome:
        """By COPY; where a key is there already, once more through a temporary table without the
        duplicates, of which the first in their order is stored.
        """
        rows = list(rows)
        if not rows:
            return Outcome(0, 0)
        if table == CONTROLLER:
            return self._correct_runs(rows)
        if table == REWOUND:
            return self._rewind_runs(rows)
        if table in OF_RUNS and any(_is_of_this_machine(row) for row in rows):
            rows = [(self._runs.stored(row[0]), *row[1:]) for row in rows]
        conflicts = tuple[int, ...]()
        columns = ", ".join(COLUMNS[table][: len(rows[0])])
        if table == "simulation_record":
            self._partitions.keep_up()
        with self._database.connection() as held, held.cursor() as cursor:
            cursor.execute(WRITE_LIMITS)
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
                    "DEFAULTS, place integer) ON COMMIT DELETE ROWS"
                )
                with cursor.copy(f"COPY new_{table} ({columns}, place) FROM STDIN") as copy:
                    for place, row in enumerate(rows):
                        copy.write_row((*row, place))
                cursor.execute(
                    f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE "
                    f"SELECT {columns} FROM new_{table} ORDER BY place ON CONFLICT DO NOTHING"
                )
                stored = cursor.rowcount
                if table == "simulation_record":
                    cursor.execute(CONFLICTS)
                    conflicts = tuple(place for (place,) in cursor.fetchall())
        duplicates = len(rows) - stored - len(conflicts)
        self.stored += stored
        self.duplicates += duplicates
        return Outcome(stored, duplicates, conflicts=conflicts)

    def _correct_runs(self, rows: Sequence[Sequence[Any]]) -> Outcome:
        """Who decides from the begin of a run on."""
        for run, controller in rows:
            self._database.execute(
                "UPDATE run SET controller = :controller WHERE id = :number",
                controller=controller,
                number=self._runs.stored(run),
            )
        self.stored += len(rows)
        return Outcome(len(rows), 0)

    def _rewind_runs(self, rows: Sequence[Sequence[Any]]) -> Outcome:
        """What was recorded of a run from a second on is not what has happened: its street went on
        from a checkpoint of that second.
        """
        for run, at_s in rows:
            of = {"run": self._runs.stored(run), "at_s": at_s}
            with self._database.connection() as held:
                held.execute(WRITE_LIMITS)
                for statement in REWIND:
                    held.execute(statement, of)
        self.stored += len(rows)
        return Outcome(len(rows), 0)


def _is_of_this_machine(row: Sequence[Any]) -> bool:
    return isinstance(row[0], int) and row[0] < 0


def _in_a_line(error: Exception) -> str:
    """For the log: what a row holds may be of any length."""
    return " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
