"""The database: opened, migrated, pooled."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.pool import QueuePool

from headway.settings import DatabaseSettings
from headway.store import connections, embedded

VARIABLE = "HEADWAY_DATABASE_URL"
MIGRATIONS = Path(__file__).parent / "migrations"
# of questions: behind a table that somebody rewrites, all threads of the service would wait
READ_LIMIT = "SET LOCAL lock_timeout = '10s'"
WRITE_LIMIT_S = 30.0  # as the intake has it; nothing else that hurries takes longer
# whatever a server or a database has for its users: times are read as ISO 8601, and a day is UTC's
SESSION = "SET TIME ZONE 'UTC'; SET datestyle = ISO; SET intervalstyle = postgres"


def in_utc(at: datetime) -> datetime:
    """The same moment in UTC: PostgreSQL refuses offsets of 16 hours and more. Raises ValueError
    for one that is not in the calendar there (years 1 to 9999).
    """
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{at.isoformat()} is beyond the calendar in UTC") from error


class DatabaseError(RuntimeError):
    """The database cannot be opened; the message says why, and what to do."""


@dataclass
class Database:
    """An open record. engine: SQLAlchemy's, with a pool whose connections are checked before use;
    embedded: we run the server ourselves. pool_settings: what the pool was made with.
    """

    engine: sa.Engine
    url: str
    embedded: Any = None
    pool_settings: DatabaseSettings = field(default_factory=DatabaseSettings)

    @contextlib.contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """A bare psycopg connection of the pool, for COPY; committed at the end, rolled back on an
        error.
        """
        with self.engine.begin() as held:
            found: Any = held.connection.driver_connection
            yield found

    def rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        """The rows of a query with named :values. It waits READ_LIMIT for a lock of others, and the
        whole takes `answer_within_s` of the settings at most.
        """
        with self.engine.connect() as held:
            held.exec_driver_sql(READ_LIMIT)
            if not self.is_unhurried:
                milliseconds = round(1e3 * self.pool_settings.answer_within_s)
                held.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
            return [dict(row) for row in held.execute(sa.text(query), values).mappings()]

    @property
    def unhurried(self) -> Database:
        """The same, for upkeep: what it asks may take as long as it takes."""
        engine = self.engine.execution_options(**{connections.UNHURRIED: True})
        return replace(self, engine=engine)

    @property
    def is_unhurried(self) -> bool:
        return bool(self.engine.get_execution_options().get(connections.UNHURRIED))

    def execute(self, query: str, **values: Any) -> int:
        """Run one statement in a transaction of its own; rows touched."""
        with self.engine.begin() as held:
            return int(held.execute(sa.text(query), values).rowcount)

    def alive(self) -> bool:
        try:
            return bool(self.rows("SELECT 1 AS one"))
        except sa.exc.SQLAlchemyError:
            return False

    def revive(self) -> bool:
        """Start an embedded server anew that does not answer, since it has died; whether it had.
        Raises DatabaseError. A given server is others' to start.
        """
        if self.embedded is None or self.alive():
            return False
        try:
            return embedded.revive(self.embedded)
        except (OSError, subprocess.SubprocessError, RuntimeError, AssertionError) as error:
            raise DatabaseError(
                f"the embedded PostgreSQL does not start ({error or type(error).__name__})"
            ) from error

    def close(self) -> None:
        """Give the connections back; an embedded server ends with the last process that uses it."""
        self.engine.dispose()
        if self.embedded is not None:
            embedded.leave(self.embedded)


def _address(url: str) -> sa.URL:
    """Raises DatabaseError, which does not repeat it: parts of a password may stand anywhere."""
    try:
        return sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise DatabaseError(
            f"{VARIABLE}: is no address. Give postgresql://USER:PASSWORD@HOST:5432/NAME; in a "
            "password @ is %40, and / is %2F."
        ) from None


def open_database(
    folder: Path,
    url: str = "",
    create: bool = True,
    pool: DatabaseSettings | None = None,
    migrated: bool = True,
    needed: bool = True,
) -> Database:
    """The database at `url`, else at HEADWAY_DATABASE_URL, else an embedded server in `folder`;
    brought to the newest schema.

    create: make an embedded one where there is none. pool: sizes of the connection pool, the
    defaults where None. migrated: else its schema is left as it is. needed: else one that is given
    by its address is asked for nothing, and may be away. Raises DatabaseError.
    """
    pool = pool or DatabaseSettings()
    wanted, server = url or os.environ.get(VARIABLE, ""), None
    if not wanted:
        if not create and not (folder / "postgres").exists():
            raise DatabaseError(
                f"{folder}: no database here. Give the data folder of the server by --data."
            )
        wanted, server = _embedded(folder)
    address = _address(wanted)
    if address.get_backend_name() != "postgresql":
        raise DatabaseError(
            f"{VARIABLE}: {address.get_backend_name()} is not supported. Give a postgresql:// "
            "address."
        )
    engine = sa.create_engine(
        address.set(drivername="postgresql+psycopg"),
        poolclass=QueuePool,
        pool_size=pool.pool_size,
        max_overflow=pool.max_overflow,
        pool_timeout=pool.pool_wait_s,
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args={
            "connect_timeout": 5,
            "application_name": f"headway {os.getpid()}",
            **connections.TCP,
        },
    )
    connections.limit_waiting(engine, max(pool.answer_within_s, WRITE_LIMIT_S))
    connections.close_on_return(engine)
    sa.event.listen(engine, "connect", _set_up_session)
    found = Database(engine, wanted, server, pool)
    if not needed and server is None:
        return found
    with contextlib.ExitStack() as on_error:
        on_error.callback(found.close)
        try:
            migrate(found) if migrated else found.rows("SELECT 1 AS one")
        except sa.exc.OperationalError as error:
            raise DatabaseError(
                f"{address.render_as_string(hide_password=True)}: cannot be reached "
                f"({' '.join(str(error.orig).split())})."
            ) from error
        except sa.exc.DBAPIError as error:
            raise DatabaseError(
                f"{address.render_as_string(hide_password=True)}: the tables cannot be made "
                f"({' '.join(str(error.orig).split())}). Give a database of Headway's own, whose "
                "user may make tables there (GRANT CREATE ON SCHEMA public)."
            ) from error
        on_error.pop_all()
    return found


def _set_up_session(connection: Any, _record: Any) -> None:
    with contextlib.ExitStack() as on_error:
        on_error.callback(connection.close)  # SQLAlchemy leaves it open
        with connection.cursor() as cursor:
            cursor.execute(SESSION)
        connection.commit()
        on_error.pop_all()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def schemas() -> list[str]:
    """The versions of the schema that this program knows, the newest last."""
    return sorted(s.revision for s in ScriptDirectory.from_config(_config()).walk_revisions())


def schema(database: Database) -> str:
    """The version of the schema that is there; empty where there are no tables yet."""
    with database.engine.connect() as held:
        return MigrationContext.configure(held).get_current_revision() or ""


def migrate(database: Database) -> None:
    """Bring the schema to the newest version; two processes at once do it one after the other.
    Raises DatabaseError for a schema of a newer Headway, SQLAlchemyError.
    """
    config = _config()
    with database.unhurried.engine.begin() as held:
        held.execute(sa.text("SELECT pg_advisory_xact_lock(4845)"))
        found = MigrationContext.configure(held).get_current_revision()
        if found is not None:
            _require_known(found)
        config.attributes["connection"] = held
        command.upgrade(config, "head")


def _require_known(found: str) -> None:
    """Raises DatabaseError for a schema of a newer Headway."""
    if found not in schemas():
        raise DatabaseError(
            f"the database is of a newer Headway (schema {found}); this one knows up to "
            f"{schemas()[-1]}. Use that version (headway db migrate --back-to, too), or restore a "
            "backup of this one into an empty database."
        )


def take_back(database: Database, to: str) -> None:
    """Bring the schema back to an earlier version, `to`; what only newer ones hold is dropped.
    Raises DatabaseError for a version that is none, or newer than the present one, and for a schema
    of a newer Headway, SQLAlchemyError.
    """
    config = _config()
    with database.unhurried.engine.begin() as held:
        held.execute(sa.text("SELECT pg_advisory_xact_lock(4845)"))
        found = MigrationContext.configure(held).get_current_revision() or ""
        if found:
            _require_known(found)
        if to not in schemas() or to > found:
            raise DatabaseError(
                f"schema {to!r}: is none before the present one ({found or 'none'}). There are: "
                f"{', '.join(number for number in schemas() if number <= found)}."
            )
        config.attributes["connection"] = held
        command.downgrade(config, to)


def _embedded(folder: Path) -> tuple[str, Any]:
    try:
        return embedded.start(folder)
    except Exception as error:  # whatever the wheel raises: the reason is given, with the remedy
        raise DatabaseError(
            f"{folder / 'postgres'}: the embedded PostgreSQL does not start ({error}). Set "
            f"{VARIABLE} to a server of your own."
        ) from error
