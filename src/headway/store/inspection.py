"""What there is to see of the database: its version, its connections, the pool, the tables."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.pool import QueuePool

from headway.store.database import Database

SERVER = """
    SELECT
        current_setting('server_version') AS version,
        (SELECT version_num FROM alembic_version) AS schema,
        current_setting('max_connections')::integer AS most,
        (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS here,
        (SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND state = 'active') AS active,
        pg_database_size(current_database()) AS bytes
"""
TABLES = """
    SELECT
        coalesce(whole.relname, part.relname) AS "table",
        CAST(sum(greatest(part.reltuples, 0)) AS bigint) AS rows_estimated,
        CAST(sum(pg_total_relation_size(part.oid)) AS bigint) AS bytes,
        CAST(sum(pg_indexes_size(part.oid)) AS bigint) AS index_bytes,
        count(*) FILTER (WHERE part.relispartition) AS partitions
    FROM pg_class part
    LEFT JOIN pg_inherits i ON i.inhrelid = part.oid
    LEFT JOIN pg_class whole ON whole.oid = i.inhparent
    WHERE part.relkind = 'r' AND part.relnamespace = 'public'::regnamespace
    GROUP BY 1
    ORDER BY 3 DESC, 1
"""


@dataclass(frozen=True, slots=True)
class PoolState:
    """This process's connections. open: of them in_use and idle; most: that may be open at once,
    of which `size` stay.
    """

    size: int
    most: int
    open: int
    in_use: int
    idle: int


@dataclass(frozen=True, slots=True)
class Connections:
    """All connections to this database, whoever has them; active: those that run a statement now.
    most: that the server takes for all databases.
    """

    here: int
    active: int
    most: int


@dataclass(frozen=True, slots=True)
class TableState:
    """A table with all its partitions. rows_estimated: as of PostgreSQL's last look (ANALYZE);
    bytes: with its indexes.
    """

    table: str
    rows_estimated: int
    bytes: int
    index_bytes: int
    partitions: int


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """version: of PostgreSQL; schema: number of the newest migration."""

    version: str
    schema: str
    embedded: bool
    bytes: int
    connections: Connections
    pool: PoolState
    tables: list[TableState]


def pool_state(database: Database, size: int, overflow: int) -> PoolState:
    """size, overflow: as in the settings."""
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    in_use, idle = pool.checkedout(), pool.checkedin()
    return PoolState(size, size + overflow, in_use + idle, in_use, idle)


def inspect(database: Database) -> DatabaseState:
    """Raises SQLAlchemyError while the database is away."""
    (server,) = database.rows(SERVER)
    tables = [TableState(**row) for row in database.rows(TABLES)]
    sizes = database.pool_settings
    return DatabaseState(
        server["version"],
        server["schema"],
        database.embedded is not None,
        server["bytes"],
        Connections(server["here"], server["active"], server["most"]),
        pool_state(database, sizes.pool_size, sizes.max_overflow),
        tables,
    )
