"""Upkeep of the database: retention, erasure, vacuum; backup and restore, encrypted with a key
file.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import glob
import json
import os
import secrets
import subprocess
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headway.store.database import Database, DatabaseError, schemas
from headway.store.embedded import package
from headway.store.intake import SPOOL
from headway.store.segments import first_waiting

MAGIC = b"HEADWAY-BACKUP-1\n"
CHUNK = 1 << 20
MORE, LAST, ROWS = b"more", b"last", b"rows"  # what a part is authenticated as
AFTER = {b"": (MORE, LAST), MORE: (MORE, LAST), LAST: (ROWS,), ROWS: ()}  # which may follow
# of what pg_restore writes: what is there already, and what PostgreSQL before 17 refuses
LEFT_OUT = (
    b"CREATE SCHEMA public;",
    b"SET transaction_timeout = 0;",
)
KNOWN_SCHEMA = """
DO $$ BEGIN
    IF (SELECT version_num FROM public.alembic_version) NOT IN ({known}) THEN
        RAISE EXCEPTION 'it is of a newer Headway (schema %), install that version',
            (SELECT version_num FROM public.alembic_version);
    END IF;
END $$;
"""
# runs that were still observed lately stay; of these, what is older than that goes
OLD_RUNS = """
    DELETE FROM run WHERE begun_at < {limit} AND id <> ALL(:under_way) AND NOT EXISTS (
        SELECT 1 FROM observation o WHERE o.run_id = run.id AND o.at >= {limit})
"""
OLD_ROWS = """
    DELETE FROM {table} t USING (
        SELECT run_id, max(at_s) AS at_s FROM observation WHERE at < {limit} GROUP BY 1) old
    WHERE t.run_id = old.run_id AND t.at_s <= old.at_s
"""
OF_DEVICE = (  # violations, in a time
    "device = :device AND (CAST(:begin AS timestamptz) IS NULL OR at >= :begin) "
    "AND (CAST(:end AS timestamptz) IS NULL OR at < :end)"
)
TABLES_OF_RUNS = (  # with the street's own seconds; by `observation` it is known when these were
    "event",
    "signal_state",
    "detector_state",
    "emission",
    "observation",
)
# begun and committed here: psql's own --single-transaction commits at the end of what it reads, and
# that comes when its writer is killed, too
BEGIN_RESTORE = b"""
BEGIN;
SET client_min_messages = error;
CREATE TEMP TABLE kept_key (id text, revoked_at timestamptz, expires_at timestamptz);
CREATE TEMP TABLE kept_token (id text, expires_at timestamptz);
CREATE TEMP TABLE kept_erased (
    id uuid, at timestamptz, simulation_id text, device text,
    begin_at timestamptz, end_at timestamptz
);
DO $$ BEGIN
    IF to_regclass('public.revoked_token') IS NOT NULL THEN
        INSERT INTO pg_temp.kept_key SELECT id, revoked_at, expires_at FROM public.api_key;
        INSERT INTO pg_temp.kept_token SELECT id, expires_at FROM public.revoked_token;
    END IF;
    IF to_regclass('public.erased') IS NOT NULL THEN
        INSERT INTO pg_temp.kept_erased
        SELECT id, at, simulation_id, device, begin_at, end_at FROM public.erased;
    END IF;
    IF to_regclass('public.ml_job') IS NOT NULL THEN
        CREATE TEMP TABLE kept_version AS SELECT * FROM public.model_version;
        CREATE TEMP TABLE kept_alias AS SELECT * FROM public.model_alias;
        CREATE TEMP TABLE kept_job AS SELECT * FROM public.ml_job;
    END IF;
END $$;
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
"""
# of a key, the earlier end of the two
KEEP_REVOKED = b"""
DO $$ BEGIN
    IF to_regclass('public.revoked_token') IS NOT NULL THEN
        UPDATE public.api_key k SET revoked_at = least(k.revoked_at, kept.revoked_at),
            expires_at = least(k.expires_at, kept.expires_at)
        FROM pg_temp.kept_key kept
        WHERE kept.id = k.id AND (kept.revoked_at IS NOT NULL OR kept.expires_at IS NOT NULL);
        INSERT INTO public.revoked_token (id, expires_at)
        SELECT id, expires_at FROM pg_temp.kept_token ON CONFLICT DO NOTHING;
    END IF;
END $$;
"""
# a backup that knows of it was made afterwards: what it has under that name came later
KEEP_ERASED = b"""
SET search_path = public;  -- pg_restore has set none, and the triggers of `violation` need it
DO $$ BEGIN
    IF to_regclass('public.erased') IS NOT NULL THEN
        DELETE FROM pg_temp.kept_erased k USING public.erased e WHERE e.id = k.id;
        INSERT INTO public.erased (id, at, simulation_id, device, begin_at, end_at)
        SELECT id, at, simulation_id, device, begin_at, end_at FROM pg_temp.kept_erased;
    END IF;
    IF to_regclass('public.record_version') IS NOT NULL THEN
        DELETE FROM public.record_version r
        USING pg_temp.kept_erased k WHERE r.simulation_id = k.simulation_id;
    END IF;
    DELETE FROM public.simulation_record r
    USING pg_temp.kept_erased k WHERE r.simulation_id = k.simulation_id;
    DELETE FROM public.violation v USING pg_temp.kept_erased k
    WHERE v.device = k.device AND (k.begin_at IS NULL OR v.at >= k.begin_at)
        AND (k.end_at IS NULL OR v.at < k.end_at);
END $$;
"""
# versions since then run on streets, under names and numbers that no other may get; jobs that have
# ended since are not done again. Nothing of it where the backup is of another registry
KEEP_MODELS = b"""
DO $$ DECLARE is_running boolean; BEGIN
    IF to_regclass('pg_temp.kept_job') IS NULL OR to_regclass('public.ml_job') IS NULL THEN
        RETURN;
    END IF;
    IF EXISTS (
            SELECT 1 FROM public.model_version r LEFT JOIN pg_temp.kept_version k USING (id)
            WHERE k.signature IS DISTINCT FROM r.signature)
        OR EXISTS (
            SELECT 1 FROM public.model_alias r LEFT JOIN pg_temp.kept_alias k USING (number)
            WHERE k.signature IS DISTINCT FROM r.signature)
        OR EXISTS (
            SELECT 1 FROM public.ml_job r LEFT JOIN pg_temp.kept_job k USING (id)
            WHERE k.asked_at IS DISTINCT FROM r.asked_at)
    THEN
        RETURN;
    END IF;
    INSERT INTO public.model_version (id, name, version, kind, sha256, size, code_version,
        made_from, metrics, parent, created_by, created_at, key, signature)
    SELECT id, name, version, kind, sha256, size, code_version,
        made_from, metrics, parent, created_by, created_at, key, signature
    FROM pg_temp.kept_version k
    WHERE NOT EXISTS (SELECT 1 FROM public.model_version r WHERE r.id = k.id);
    INSERT INTO public.model_alias (number, at, street, junction, alias, version_id, set_by, key,
        signature)
    SELECT number, at, street, junction, alias, version_id, set_by, key, signature
    FROM pg_temp.kept_alias k
    WHERE NOT EXISTS (SELECT 1 FROM public.model_alias r WHERE r.number = k.number);
    FOREACH is_running IN ARRAY ARRAY[false, true] LOOP  -- one of a street runs at a time
        UPDATE public.ml_job j SET (state, attempt, deaths, worker, begun_at, heartbeat_at,
                ended_at, progress, note, cancel_by, result, version_id, error)
            = (k.state, k.attempt, k.deaths, k.worker, k.begun_at, k.heartbeat_at,
                k.ended_at, k.progress, k.note, k.cancel_by, k.result, k.version_id, k.error)
        FROM pg_temp.kept_job k
        WHERE k.id = j.id AND (k.state = 'running') = is_running;
    END LOOP;
    PERFORM setval('public.ml_job_id_seq', greatest(
        (SELECT max(id) FROM pg_temp.kept_job), (SELECT last_value FROM public.ml_job_id_seq)));
END $$;
"""
COMMIT = b"COMMIT;\n"
DRILL_PREFIX = "headway_drill_"  # of databases that exist for the time of a drill
LONGEST_DRILL_S = 86_400.0  # older ones are of a drill that was killed
DRILLS_LEFT = """
    SELECT datname AS name FROM pg_database
    WHERE datname ~ '^headway_drill_[0-9]{1,12}_'
        AND CAST(split_part(datname, '_', 3) AS bigint) < :before
"""
TABLES = """
    SELECT relname FROM pg_class
    WHERE relkind IN ('r', 'p') AND NOT relispartition
        AND relnamespace = 'public'::regnamespace
    ORDER BY relname
"""
# of users: autovacuum and the like have no usesysid
CONNECTED = """
    SELECT pid, application_name AS name FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND usesysid IS NOT NULL
"""
TIMES = (  # tables with the time of day of their rows
    ("run", "begun_at"),
    ("observation", "at"),
    ("simulation_record", "at"),
    ("violation", "at"),
    ("audit", "at"),
    ("upkeep_run", "begun_at"),
)
ALWAYS_TOLD = ("simulation_record", "run", "violation")  # also where nothing of it was old
MOST_DAYS = 100_000  # the calendar of PostgreSQL begins in 4713 BC


@dataclass(frozen=True, slots=True)
class Swept:
    """Rows that retention took away, by table."""

    rows: dict[str, int]


def retain(
    database: Database,
    days: float,
    under_way: Collection[int] = (),
    now: datetime | None = None,
) -> Swept:
    """Take away what is older than `days`, by the clock of the database and by the caller's (`now`;
    this machine's where None): where one is ahead, by the other. The audit trail stays, and a run
    that still goes on (observed lately, or one of those `under_way`, by number), of which the old
    rows go. Raises ValueError if days is not above 0, or above MOST_DAYS.
    """
    if not 0.0 < days <= MOST_DAYS:
        raise ValueError(f"days: {days!r} is not allowed: above 0, at most {MOST_DAYS}.")
    limit = "least(now(), :now) - make_interval(secs => :seconds)"
    values = {"now": now or datetime.now(UTC), "seconds": days * 86_400.0}
    statements = {
        "run": OLD_RUNS.format(limit=limit),
        "violation": f"DELETE FROM violation WHERE at < {limit}",
        "camera_count": f"DELETE FROM camera_count WHERE interval_begin < {limit}",
        **{table: OLD_ROWS.format(table=table, limit=limit) for table in TABLES_OF_RUNS},
    }
    with database.unhurried.engine.begin() as held:
        rows = {"simulation_record": _delete_records(held, f"at < {limit}", **values)}
    for table, statement in statements.items():
        asked = {"under_way": list(under_way)} if table == "run" else {}
        rows[table] = database.unhurried.execute(statement, **values, **asked)
    vacuum(database)
    return Swept({t: n for t, n in rows.items() if n or t in ALWAYS_TOLD})


def erase(database: Database, simulation_id: str) -> int:
    """Take away all records of one simulation, with their versions; how many records. A restore
    does not bring them back.
    """
    with database.unhurried.engine.begin() as held:
        note = "INSERT INTO erased (simulation_id) VALUES (:id)"
        held.execute(sa.text(note), {"id": simulation_id})
        return _delete_records(held, "simulation_id = :id", id=simulation_id)


def _delete_records(held: sa.Connection, where: str, **values: Any) -> int:
    """Records with their versions; how many records. The versions come second: a correction that is
    under way holds the record until it has made its version.
    """
    gone = held.execute(sa.text(f"DELETE FROM simulation_record WHERE {where}"), values)
    held.execute(sa.text(f"DELETE FROM record_version WHERE {where}"), values)
    return int(gone.rowcount)


def runs_perhaps_under_way(database: Database) -> set[int]:
    """For who does not know which runs go on: the newest of each street, where others (a service)
    are connected to the database; none where nobody is.
    """
    if not database.rows(CONNECTED):
        return set()
    newest = "SELECT max(id) AS id FROM run WHERE street <> '' GROUP BY street"
    return {int(row["id"]) for row in database.rows(newest)}


def erase_violations(
    database: Database, device: str, begin: datetime | None = None, end: datetime | None = None
) -> int:
    """Take away the violations of one device in [begin, end), with their images; how many. A
    restore does not bring them back.
    """
    note = "INSERT INTO erased (device, begin_at, end_at) VALUES (:device, :begin, :end)"
    values = {"device": device, "begin": begin, "end": end}
    with database.unhurried.engine.begin() as held:
        held.execute(sa.text(note), values)
        gone = f"DELETE FROM violation WHERE {OF_DEVICE}"
        return int(held.execute(sa.text(gone), values).rowcount)


def violations_of(
    database: Database, device: str, begin: datetime | None = None, end: datetime | None = None
) -> list[str]:
    """Numbers of the violations of one device in [begin, end)."""
    asked = f"SELECT CAST(id AS text) AS id FROM violation WHERE {OF_DEVICE}"
    found = database.unhurried.rows(asked, device=device, begin=begin, end=end)
    return [row["id"] for row in found]


def vacuum(database: Database) -> None:
    engine = database.unhurried.engine
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as held:
        held.exec_driver_sql("VACUUM ANALYZE")


def new_key(path: Path) -> None:
    """Make a key file, readable by this user alone; none where the disk does not take it. Raises
    FileExistsError rather than write over one, OSError.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(base64.b64encode(secrets.token_bytes(32)) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:  # an empty one would end all backups to come
        path.unlink()
        raise


def read_key(path: Path) -> bytes:
    """Raises ValueError if the file holds no key."""
    try:
        key = base64.b64decode(path.read_bytes().strip(), validate=True)
    except ValueError as error:
        raise ValueError(f"{path}: is no key file. Make one: headway db key {path}") from error
    if len(key) != 32:
        raise ValueError(
            f"{path}: holds {len(key)} bytes, a key has 32. Make one: headway db key {path}"
        )
    return key


def backup(database: Database, path: Path, key: bytes) -> int:
    """Dump the whole database into `path`, encrypted and authenticated (AES-256-GCM, chunk by
    chunk); bytes written. Written whole or not at all. Its last part says how many rows each table
    has, counted in the same snapshot, so that a drill can tell whether all came back. What a
    backup into `path` left that was killed is removed.
    """
    _remove_drafts(path)
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    try:
        with _snapshot(database) as (snapshot, rows), draft.open("wb") as out:
            fcntl.flock(out, fcntl.LOCK_EX)  # it is being written
            out.write(MAGIC)
            _write_sealed(out, key, _dumped(database, snapshot), rows)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path.stat().st_size


def _remove_drafts(path: Path) -> None:
    """Those of backups into `path` that no process writes any more."""
    for draft in path.parent.glob(f"{glob.escape(path.name)}.*.draft"):
        with contextlib.suppress(OSError), draft.open("rb") as found:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink()


def row_counts(database: Database) -> dict[str, int]:
    """Rows of each table, with its partitions; all of one moment."""
    with _snapshot(database) as (_, rows):
        return rows


@contextlib.contextmanager
def _snapshot(database: Database) -> Iterator[tuple[str, dict[str, int]]]:
    """Id of a snapshot that pg_dump can use until the end of the block, and the rows of each table
    in it.
    """
    engine = database.unhurried.engine
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as held:
        snapshot = str(held.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one())
        names = held.exec_driver_sql(TABLES).scalars().all()
        counts = {
            name: held.exec_driver_sql(f'SELECT count(*) FROM "{name}"').scalar_one()
            for name in names
        }
        yield snapshot, counts


def _dumped(database: Database, snapshot: str) -> Iterator[bytes]:
    """What pg_dump writes, in chunks. Raises DatabaseError where it fails."""
    words = [
        _tool("pg_dump"),
        "--format=custom",
        "--no-owner",
        f"--snapshot={snapshot}",
        _address(database),
    ]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=said, env=_secret(database)) as dump,
    ):
        assert dump.stdout is not None
        while part := dump.stdout.read(CHUNK):
            yield part
        if dump.wait():
            said.seek(0)
            reason = said.read().decode(errors="replace").strip() or "pg_dump gave no reason"
            raise DatabaseError(f"the backup failed: {reason}")


def _write_sealed(
    out: IO[bytes], key: bytes, dump: Iterator[bytes], rows: Mapping[str, int]
) -> None:
    """4 bytes of nonce; then parts, each as its length and what AES-GCM makes of it, numbered from
    0, with a mark: MORE, LAST for the end of the dump, ROWS for the counts.
    """
    cipher, start, number = AESGCM(key), secrets.token_bytes(4), 0
    out.write(start)

    def write(part: bytes, mark: bytes) -> None:
        nonlocal number
        sealed = cipher.encrypt(start + number.to_bytes(8, "big"), part, mark)
        out.write(len(sealed).to_bytes(4, "big") + sealed)
        number += 1

    part = next(dump, b"")
    for following in dump:
        write(part, MORE)
        part = following
    write(part, LAST)
    write(json.dumps({"rows": rows}, sort_keys=True).encode(), ROWS)


@dataclass(frozen=True, slots=True)
class Drill:
    """Of a backup that was restored into a database of its own. rows: found there; expected: as
    counted when it was made, None for a backup of an earlier version, which does not say.
    """

    path: str
    rows: dict[str, int]
    expected: dict[str, int] | None

    @property
    def differences(self) -> dict[str, tuple[int | None, int | None]]:
        """Tables whose number of rows is not the expected one: (expected, found)."""
        if self.expected is None:
            return {}
        tables = sorted(self.expected.keys() | self.rows.keys())
        pairs = {t: (self.expected.get(t), self.rows.get(t)) for t in tables}
        return {t: pair for t, pair in pairs.items() if pair[0] != pair[1]}

    @property
    def fault(self) -> str:
        """Why it does not show that all rows came back; empty where it does."""
        if self.expected is None:
            return (
                "it does not say how many rows it has: it was cut off there, or made by an earlier "
                "version. Make a new one"
            )
        if self.differences:
            return f"rows do not match (table: expected, found): {self.differences}"
        return ""


def drill(database: Database, path: Path, key: bytes) -> Drill:
    """Restore a backup into a new database beside this one, count its rows, and drop it again.
    Raises ValueError for a file that is no backup, or does not fit the key; DatabaseError where it
    cannot be restored, or this user may not make databases.
    """
    expected = rows_in(path, key)
    now_s = int(time.time())
    _drop_left_over(database, now_s - LONGEST_DRILL_S)
    name = f"{DRILL_PREFIX}{now_s}_{secrets.token_hex(4)}"
    address = sa.make_url(database.url).set(database=name)
    try:
        _beside(database, f"CREATE DATABASE {name} TEMPLATE template0")
    except sa.exc.ProgrammingError as error:
        raise DatabaseError(
            f"the drill needs a database of its own, which this user may not make ({error.orig}). "
            "Let it: ALTER ROLE ... CREATEDB"
        ) from error
    scratch = Database(
        sa.create_engine(address.set(drivername="postgresql+psycopg")),
        address.render_as_string(hide_password=False),
    )
    try:
        restore(scratch, path, key)
        return Drill(str(path), row_counts(scratch), expected)
    finally:
        scratch.engine.dispose()
        _beside(database, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _drop_left_over(database: Database, before_s: float) -> None:
    """What drills that began before (seconds since 1970) and were killed have left."""
    for row in database.rows(DRILLS_LEFT, before=before_s):
        _beside(database, f"DROP DATABASE IF EXISTS {row['name']} WITH (FORCE)")


def _beside(database: Database, statement: str) -> None:
    """A statement that may not run within a transaction."""
    engine = database.unhurried.engine
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as held:
        held.exec_driver_sql(statement)


@dataclass(frozen=True, slots=True)
class Contents:
    """Of a database: rows in all tables, runs of streets, entries of the audit trail, the newest
    time that any row is of.
    """

    rows: int
    runs: int
    audited: int
    newest: datetime | None

    def __str__(self) -> str:
        until = f", until {self.newest.isoformat(timespec='seconds')}" if self.newest else ""
        return (
            f"{self.rows:,} rows, {self.runs:,} runs, {self.audited:,} entries in the audit trail"
            f"{until}"
        )


def contents(database: Database) -> Contents:
    """What a database holds now."""
    rows = row_counts(database)
    times = " UNION ALL ".join(f"SELECT max({column}) AS at FROM {t}" for t, column in TIMES)
    newest = database.unhurried.rows(f"SELECT max(at) AS at FROM ({times}) AS each")[0]["at"]
    count = sum(rows.values()) - rows["alembic_version"]
    return Contents(rows=count, runs=rows["run"], audited=rows["audit"], newest=newest)


def refuse_connected(database: Database) -> None:
    """Raises DatabaseError, with who it is, where others are connected to the database."""
    found = database.rows(CONNECTED)
    if found:
        names = ", ".join(sorted({f"{r['name'] or 'unknown'} (process {r['pid']})" for r in found}))
        raise DatabaseError(
            f"{len(found)} connections of others to the database: {names}. Stop the service first; "
            "--force restores all the same."
        )


def refuse_waiting(folder: Path) -> None:
    """Raises DatabaseError where rows of the service wait on disk: they come after all that is
    deleted now.
    """
    if spool := first_waiting(folder / SPOOL):
        raise DatabaseError(
            f"{spool}: rows wait there for the database, and nothing is deleted before they are in "
            "it. Start the service, and try again."
        )


def rows_in(path: Path, key: bytes) -> dict[str, int] | None:
    """Rows of each table that a backup says to hold; None where it does not say. Raises
    ValueError.
    """
    told = [part for mark, part in _parts(path, key) if mark == ROWS]
    return dict(json.loads(told[0])["rows"]) if told else None


def restore(database: Database, path: Path, key: bytes, with_erased: bool = False) -> None:
    """Restore the database from a backup. It is read and checked to its end before anything is
    changed, and never held in memory. What was revoked stays revoked, what was given an end keeps
    it; versions of models stay, with their aliases, and jobs that have ended since; what was erased
    since stays so, unless it is wanted back (`with_erased`). Raises ValueError,
    DatabaseError.
    """
    rows_in(path, key)
    reader = [_tool("pg_restore"), "--no-owner", "--file=-"]
    writer = [
        _tool("psql"),
        "--quiet",
        "--no-psqlrc",
        "--set=ON_ERROR_STOP=1",
        _address(database),
    ]
    has_psql_ended = False
    with tempfile.TemporaryFile() as read_said, tempfile.TemporaryFile() as write_said:
        with (
            contextlib.suppress(BrokenPipeError),  # who has ended says why
            subprocess.Popen(
                reader, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=read_said
            ) as dump,
            subprocess.Popen(
                writer,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # of each question of the dump a table
                stderr=write_said,
                env=_secret(database),
            ) as done,
        ):
            try:
                _carry(dump, done, path, key, b"" if with_erased else KEEP_ERASED)
            except BrokenPipeError:
                has_psql_ended = True
                dump.kill()
            except BaseException:
                done.kill()
                dump.kill()
                raise
        if not has_psql_ended and done.returncode <= 0 and dump.returncode:
            why = _said(read_said) or _ended("pg_restore", dump.returncode)
            raise DatabaseError(f"{path}: cannot be read: {why}")
        if has_psql_ended or done.returncode:
            why = _said(write_said) or _ended("psql", done.returncode)
            raise DatabaseError(f"{path}: was not restored, nothing was changed: {why}")
    database.engine.dispose()


def _carry(
    dump: subprocess.Popen[bytes],
    done: subprocess.Popen[bytes],
    path: Path,
    key: bytes,
    then: bytes,
) -> None:
    """From the backup through pg_restore to psql, without the lines that are LEFT_OUT; these are no
    rows: those have several columns. then: statements for what has been restored.
    """
    assert dump.stdout is not None
    assert done.stdin is not None
    feeder = threading.Thread(target=_feed, args=(dump, path, key), daemon=True)
    feeder.start()
    done.stdin.write(BEGIN_RESTORE)
    done.stdin.writelines(line for line in dump.stdout if line.rstrip(b"\n") not in LEFT_OUT)
    feeder.join()
    if dump.wait():
        done.kill()
        return
    done.stdin.write(b"\n" + KEEP_REVOKED + KEEP_MODELS + then + _known_schema() + COMMIT)
    done.stdin.close()


def _said(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace").strip()


def _ended(tool: str, status: int) -> str:
    return f"{tool} was killed (signal {-status})" if status < 0 else f"{tool} gave no reason"


def _feed(dump: subprocess.Popen[bytes], path: Path, key: bytes) -> None:
    """The dump of a backup to pg_restore, as fast as it reads."""
    assert dump.stdin is not None
    try:
        for mark, part in _parts(path, key):
            if mark != ROWS:
                dump.stdin.write(part)
    except BrokenPipeError:  # it has ended, and says why
        pass
    except (ValueError, OSError):  # changed or gone since it was checked
        dump.kill()
    finally:
        with contextlib.suppress(BrokenPipeError):
            dump.stdin.close()


def _known_schema() -> bytes:
    """The end of a restore: what this program could not open afterwards is not restored at all."""
    return KNOWN_SCHEMA.format(known=", ".join(f"'{name}'" for name in schemas())).encode()


def _address(database: Database) -> str:
    """For PostgreSQL's own tools, without the password: a list of processes must not show it."""
    return (
        sa.make_url(database.url)
        ._replace(drivername="postgresql", password=None)
        .render_as_string()
    )


def _secret(database: Database) -> dict[str, str]:
    password = sa.make_url(database.url).password
    return os.environ | ({"PGPASSWORD": str(password)} if password else {})


def _parts(path: Path, key: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(mark, part) of a backup, in order. Raises ValueError for anything but a whole backup."""
    cipher = AESGCM(key)
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{path}: is no backup of Headway's.")
        start = stream.read(4)
        number, seen = 0, b""
        while size := stream.read(4):
            sealed = stream.read(int.from_bytes(size, "big"))
            nonce = start + number.to_bytes(8, "big")
            seen, part = _unsealed(cipher, nonce, sealed, AFTER[seen], path)
            yield seen, part
            number += 1
        if seen not in (LAST, ROWS):
            raise ValueError(f"{path}: is cut off.")


def _unsealed(
    cipher: AESGCM, nonce: bytes, sealed: bytes, marks: tuple[bytes, ...], path: Path
) -> tuple[bytes, bytes]:
    for mark in marks:
        with contextlib.suppress(InvalidTag):
            return mark, cipher.decrypt(nonce, sealed, mark)
    raise ValueError(f"{path}: the key does not fit, or the file was changed.")


def _tool(name: str) -> str:
    own = Path(package().__file__).parent / "pginstall" / "bin" / name
    return str(own) if own.exists() else name
