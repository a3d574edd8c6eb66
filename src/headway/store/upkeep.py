"""Upkeep of the database: retention, erasure, vacuum; backup and restore, encrypted with a key
file.
"""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headway.store.database import Database, DatabaseError
from headway.store.embedded import package

MAGIC = b"HEADWAY-BACKUP-1\n"
CHUNK = 1 << 20
MOST_DAYS = 100_000  # the calendar of PostgreSQL begins in 4713 BC


@dataclass(frozen=True, slots=True)
class Swept:
    """Rows that retention took away, by table."""

    rows: dict[str, int]


def retain(database: Database, days: float) -> Swept:
    """Take away what is older than `days`. The audit trail stays. Raises ValueError if days is not
    above 0, or above MOST_DAYS.
    """
    if not 0.0 < days <= MOST_DAYS:
        raise ValueError(f"days: {days!r} is not allowed: above 0, at most {MOST_DAYS}.")
    limit = "now() - make_interval(secs => :seconds)"
    rows = {
        table: database.execute(
            f"DELETE FROM {table} WHERE {column} < {limit}", seconds=days * 86_400.0
        )
        for table, column in (("simulation_record", "at"), ("run", "begun_at"), ("violation", "at"))
    }
    vacuum(database)
    return Swept(rows)


def erase(database: Database, simulation_id: str) -> int:
    """Take away all records of one simulation; how many."""
    return database.execute(
        "DELETE FROM simulation_record WHERE simulation_id = :id", id=simulation_id
    )


def erase_violations(
    database: Database, device: str, begin: datetime | None = None, end: datetime | None = None
) -> int:
    """Take away the violations of one device in [begin, end), with their images; how many."""
    within = (
        "(CAST(:begin AS timestamptz) IS NULL OR at >= :begin) AND (CAST(:end AS timestamptz) IS "
        "NULL OR at < :end)"
    )
    return database.execute(
        f"DELETE FROM violation WHERE device = :device AND {within}",
        device=device,
        begin=begin,
        end=end,
    )


def vacuum(database: Database) -> None:
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as held:
        held.exec_driver_sql("VACUUM ANALYZE")


def new_key(path: Path) -> None:
    """Make a key file, readable by this user alone. Raises FileExistsError rather than write over
    one.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(base64.b64encode(secrets.token_bytes(32)) + b"\n")


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
    chunk); bytes written. Written whole or not at all.
    """
    draft = path.with_suffix(path.suffix + ".draft")
    cipher = AESGCM(key)
    start = secrets.token_bytes(4)
    words = [_tool("pg_dump"), "--format=custom", "--no-owner", _address(database)]
    try:
        with (
            draft.open("wb") as out,
            tempfile.TemporaryFile() as said,
            subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=said, env=_secret(database)
            ) as dump,
        ):
            assert dump.stdout is not None
            out.write(MAGIC + start)
            number = 0
            part = dump.stdout.read(CHUNK)
            last = False
            while not last:
                following = dump.stdout.read(CHUNK)
                last = not following
                sealed = cipher.encrypt(
                    start + number.to_bytes(8, "big"), part, b"last" if last else b"more"
                )
                out.write(len(sealed).to_bytes(4, "big") + sealed)
                number, part = number + 1, following
            out.flush()
            os.fsync(out.fileno())
            if dump.wait():
                said.seek(0)
                reason = said.read().decode(errors="replace").strip() or "pg_dump gave no reason"
                raise DatabaseError(f"the backup failed: {reason}")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path.stat().st_size


def restore(database: Database, path: Path, key: bytes) -> None:
    """Restore the database from a backup. It is read and checked to its end before anything is
    changed. Raises ValueError, DatabaseError.
    """
    whole = b"".join(_opened(path, key))
    script = subprocess.run(
        [_tool("pg_restore"), "--no-owner", "--file=-"],
        input=whole,
        capture_output=True,
        check=False,
    )
    if script.returncode:
        raise DatabaseError(
            f"{path}: cannot be read: {script.stderr.decode(errors='replace').strip()}"
        )
    begin = b"DROP SCHEMA public CASCADE;\nCREATE SCHEMA public;\n"
    words = [
        _tool("psql"),
        "--single-transaction",
        "--quiet",
        "--no-psqlrc",
        "--set=ON_ERROR_STOP=1",
        _address(database),
    ]
    sql = begin + script.stdout.replace(
        b"\nCREATE SCHEMA public;\n", b"\n"
    )  # a line by itself is no row: those have several columns
    done = subprocess.run(words, input=sql, capture_output=True, check=False, env=_secret(database))
    if done.returncode:
        raise DatabaseError(
            f"{path}: was not restored, nothing was changed: "
            f"{done.stderr.decode(errors='replace').strip()}"
        )
    database.engine.dispose()


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


def _opened(path: Path, key: bytes) -> Any:
    cipher = AESGCM(key)
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{path}: is no backup of Headway's.")
        start = stream.read(4)
        number = 0
        ended = False
        while size := stream.read(4):
            sealed = stream.read(int.from_bytes(size, "big"))
            for mark in (b"more", b"last"):
                try:
                    part = cipher.decrypt(start + number.to_bytes(8, "big"), sealed, mark)
                except InvalidTag:
                    continue
                ended = mark == b"last"
                yield part
                break
            else:
                raise ValueError(f"{path}: the key does not fit, or the file was changed.")
            number += 1
        if not ended:
            raise ValueError(f"{path}: is cut off.")


def _tool(name: str) -> str:
    own = Path(package().__file__).parent / "pginstall" / "bin" / name
    return str(own) if own.exists() else name
