"""What was ingested, to read back: simulations, junctions and records, by id and as lists; and what
cameras have counted.

A list is read in pages by keyset: a page begins after the key of the last item before it, so that
no item is passed over or comes twice when others are added meanwhile. Streets of this server are
not among them (`headway.analytics.signals` lists their runs).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from headway.analytics.records import MissingError
from headway.store import Database

Item = dict[str, Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PART = 1000  # rows that are read at once of a whole list
METRICS = {  # as records name them: the columns
    "total_vehicles_passed": "vehicles",
    "avg_wait_time_all_sides": "wait_s",
    "throughput": "throughput",
    "avg_speed": "speed_kmh",
    "fuel_saved": "fuel_saved_l",
    "co2_saved": "co2_saved_kg",
    "emergency_overrides": "overrides",
}
CONTENT = ", ".join(["signals", *METRICS.values()])
KEYS = "simulation_id, intersection_id, at"
KEY = "simulation_id = :simulation AND intersection_id = :junction AND at = :at"

# the different values of a column that is the first one of an index: each is looked up after the
# one before, since to read all rows for them takes long
NAMES = """
    WITH RECURSIVE names AS (
        (
            SELECT {column} AS name
            FROM simulation_record
            WHERE {column} > :after AND {where}
            ORDER BY {column}
            LIMIT 1
        )
        UNION ALL
        SELECT (
            SELECT {column}
            FROM simulation_record
            WHERE {column} > names.name AND {where}
            ORDER BY {column}
            LIMIT 1
        )
        FROM names
        WHERE name IS NOT NULL
    )
"""
# the same of simulations that are named: their rows are few, and the junctions of others many
NAMES_AMONG = """
    WITH names AS MATERIALIZED (
        SELECT DISTINCT {column} AS name
        FROM simulation_record
        WHERE {column} > :after AND {where}
        ORDER BY name
    )
"""
MOST_LOOKED_UP = 10_000  # of more, to read all rows is quicker
COUNT_NAMES = """
    SELECT count(*) AS n
    FROM (SELECT name FROM names WHERE name IS NOT NULL LIMIT :most) AS first
"""
COUNT_ALL = """
    SELECT count(*) AS n
    FROM (SELECT {column} FROM simulation_record WHERE {where} GROUP BY {column}) AS names
"""
# what is known of each of them
NAMED = """
    SELECT name AS {column}, found.*
    FROM (SELECT name FROM names WHERE name IS NOT NULL LIMIT :limit) AS page,
        LATERAL (
            SELECT
                count(*) AS records,
                count(DISTINCT {other}) AS {others},
                min(at) AS begin,
                max(at) AS "end"
            FROM simulation_record
            WHERE {column} = name AND {where}
        ) AS found
    ORDER BY name
"""
RECORDS = f"""
    SELECT
        simulation_id,
        at,
        intersection_id,
        {CONTENT},
        1 + (
            SELECT count(*)
            FROM record_version v
            WHERE (v.simulation_id, v.intersection_id, v.at)
                = (r.simulation_id, r.intersection_id, r.at)
        ) AS version
    FROM simulation_record r
"""
# what comes after a key, in its order. Each part by itself: of `(a, b, c) > (...)` PostgreSQL looks
# at `a > ...` alone, expects next to nothing of the last simulation, and sorts all that is left
LATER = (
    "simulation_id = :last_simulation AND intersection_id = :last_junction AND at > :last_at",
    "simulation_id = :last_simulation AND intersection_id > :last_junction",
    "simulation_id > :last_simulation",
)
VERSIONS = f"""
    SELECT simulation_id, at, intersection_id, {CONTENT}, version, replaced_at, replaced_by, reason
    FROM record_version
    WHERE {KEY}
    ORDER BY version DESC
"""


# a column that names, and the other one, of which different values are counted
OF_SIMULATIONS = {
    "column": "simulation_id",
    "other": "intersection_id",
    "others": "junctions",
}
OF_JUNCTIONS = {
    "column": "intersection_id",
    "other": "simulation_id",
    "others": "simulations",
}

Key = tuple[Any, ...]  # of an item: the values by which the list is sorted

COUNT_KEY = ("begin", "camera", "line", "direction", "kind")
# sums of intervals of five minutes, and of their parts; the rows without a class say how long a
# line was observed, also where nothing crossed it
COUNTS = """
    WITH summed AS (
        SELECT
            to_timestamp(floor(extract(epoch FROM interval_begin) / {seconds}) * {seconds})
                AS begin,
            camera,
            line,
            direction,
            {kind} AS kind,
            sum(n) AS n,
            sum(sum(observed_s)) OVER (
                PARTITION BY
                    floor(extract(epoch FROM interval_begin) / {seconds}),
                    camera,
                    line,
                    direction
            ) AS observed_s,
            sum(total_mps) / nullif(sum(speeds), 0) AS mean_speed_mps
        FROM camera_count
        WHERE {where}
        GROUP BY floor(extract(epoch FROM interval_begin) / {seconds}), camera, line, direction,
            {group}
    ),
    counted AS (
        SELECT
            begin,
            camera,
            line,
            direction,
            kind,
            CAST(n AS integer) AS n,
            observed_s,
            CASE WHEN observed_s >= 1.0 THEN n * 3600.0 / observed_s END AS flow_veh_h,
            mean_speed_mps
        FROM summed
        WHERE {kept}
    )
"""
# rows that are looked at for each item of a page, at first: of classes, parts and three intervals
ROWS_AHEAD = 20
COUNTED_UNTIL = """
    SELECT
        to_timestamp(floor(extract(epoch FROM interval_begin) / {seconds}) * {seconds}) AS until
    FROM camera_count
    WHERE {where}
    ORDER BY interval_begin
    LIMIT 1 OFFSET :ahead
"""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list. total: items of the whole list; after: key of the last item here, to go on
    from; None at the end.
    """

    items: list[Item]
    total: int
    after: Key | None


@dataclass(frozen=True, slots=True)
class Listing:
    """A list that can be read in parts.

    key: fields of an item that are its key; count: items of the whole; fetch: up to so many items
        after a key, () for the first ones.
    """

    key: tuple[str, ...]
    count: Callable[[], int]
    fetch: Callable[[Key, int], list[Item]]

    def page(self, after: Key, limit: int) -> Page:
        items = self.fetch(after, limit + 1)
        kept = items[:limit]
        return Page(kept, self.count(), self._key_of(kept[-1]) if len(items) > limit else None)

    def parts(self) -> Iterator[list[Item]]:
        """All of it, PART items at a time."""
        after: Key = ()
        while items := self.fetch(after, PART):
            yield items
            after = self._key_of(items[-1])

    def _key_of(self, item: Item) -> Key:
        return tuple(item[name] for name in self.key)


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records: of one simulation, of one junction, in [begin, end), of simulations among
    those; None for all.
    """

    simulation: str | None = None
    junction: str | None = None
    begin: datetime | None = None
    end: datetime | None = None
    among: Sequence[str] | None = None

    def where(self) -> tuple[str, dict[str, Any]]:
        parts = {
            "simulation_id = :simulation": ("simulation", self.simulation),
            "intersection_id = :junction": ("junction", self.junction),
            "at >= :begin": ("begin", self.begin),
            "at < :end": ("end", self.end),
            "simulation_id = ANY(:among)": ("among", self.among),
        }
        given = {sql: pair for sql, pair in parts.items() if pair[1] is not None}
        return " AND ".join(given) or "TRUE", dict(given.values())


def simulations(database: Database, among: Sequence[str] | None = None) -> Listing:
    """Those among some, or all."""
    return _named(database, OF_SIMULATIONS, RecordFilter(among=among))


def junctions(
    database: Database, simulation: str | None = None, among: Sequence[str] | None = None
) -> Listing:
    """Of one simulation, of those among some, or of all."""
    return _named(database, OF_JUNCTIONS, RecordFilter(simulation, among=among))


def records(database: Database, only: RecordFilter) -> Listing:
    """By simulation, junction and time; each as it was sent or corrected, with its `version`."""
    where, values = only.where()

    def count() -> int:
        query = f"SELECT count(*) AS n FROM simulation_record WHERE {where}"
        return int(database.rows(query, **values)[0]["n"])

    def fetch(after: Key, limit: int) -> list[Item]:
        known = dict(
            zip(("last_simulation", "last_junction", "last_at"), after, strict=bool(after))
        )
        found = list[Item]()
        for later in LATER if after else ("TRUE",):
            query = f"{RECORDS} WHERE {where} AND {later} ORDER BY {KEYS} LIMIT :limit"
            rows = database.rows(query, limit=limit - len(found), **values, **known)
            found += map(_as_sent, rows)
            if len(found) == limit:
                break
        return found

    return Listing(("simulation_id", "intersection_id", "timestamp"), count, fetch)


@dataclass(frozen=True, slots=True)
class CountFilter:
    """Which counts of cameras: of one camera, one line, intervals that begin in [begin, end), of
    cameras among those; None for all. interval_s: a multiple of 300. by_class: of each class by
    itself.
    """

    interval_s: int = 300
    by_class: bool = False
    camera: str | None = None
    line: str | None = None
    begin: datetime | None = None
    end: datetime | None = None
    among: Sequence[str] | None = None


def counts(database: Database, only: CountFilter) -> Listing:
    """Crossings of cameras' lines, by begin of the interval, camera, line, direction and class.

    Each has n, observed_s (how long the camera saw the line in the interval), flow_veh_h (n by that
    time; None below a second), and mean_speed_mps (None where no speed is known). Of all classes
    together there is a row also where nothing crossed; then `kind` is empty.
    """
    parts = {
        "camera = :camera": only.camera,
        "line = :line": only.line,
        "camera = ANY(:among)": only.among,
        "interval_begin >= :begin": _up(only.begin, only.interval_s),
        "interval_begin < :end": _up(only.end, only.interval_s),
    }
    given = {sql: value for sql, value in parts.items() if value is not None}
    where = " AND ".join(given) or "TRUE"
    values = {sql.rpartition(":")[2].rstrip(")"): value for sql, value in given.items()}
    order = ", ".join(COUNT_KEY)

    def counted(within: str = "TRUE") -> str:
        return COUNTS.format(
            seconds=int(only.interval_s),
            where=f"{where} AND {within}",
            kind="kind" if only.by_class else "''",
            group="kind" if only.by_class else "()",
            kept="kind <> ''" if only.by_class else "TRUE",
        )

    def count() -> int:
        query = f"{counted()} SELECT count(*) AS n FROM counted"
        return int(database.rows(query, **values)[0]["n"])

    def fetch(after: Key, limit: int) -> list[Item]:
        later, since, known = "TRUE", "TRUE", dict[str, Any]()
        if after:
            known = {f"last_{name}": value for name, value in zip(COUNT_KEY, after, strict=True)}
            later = f"({order}) > ({', '.join(f':{name}' for name in known)})"
            since = "interval_begin >= :last_begin"
        ahead = ROWS_AHEAD * limit
        while True:  # what is far ahead is not summed for this page
            asked = COUNTED_UNTIL.format(seconds=int(only.interval_s), where=f"{where} AND {since}")
            ends = database.rows(asked, ahead=ahead, **values, **known)
            until = {"until": ends[0]["until"]} if ends else {}
            within = f"{since} AND interval_begin < :until" if ends else since
            query = f"{counted(within)} SELECT * FROM counted WHERE {later} ORDER BY {order}"
            found = database.rows(f"{query} LIMIT :limit", limit=limit, **values, **known, **until)
            if len(found) == limit or not ends:
                return found
            ahead *= 4

    return Listing(COUNT_KEY, count, fetch)


def _up(at: datetime | None, interval_s: int) -> datetime | None:
    """The begin of the first interval that begins at a moment or after it."""
    if at is None:
        return None
    over_s = (at - EPOCH) % timedelta(seconds=interval_s)
    with contextlib.suppress(OverflowError):  # the last day that there is
        return at + (timedelta(seconds=interval_s) - over_s if over_s else timedelta())
    return at


def simulation(database: Database, name: str) -> Item:
    """Raises MissingError."""
    return _one(database, OF_SIMULATIONS, name, "no simulation {!r}")


def junction(database: Database, name: str) -> Item:
    """Over all simulations. Raises MissingError."""
    return _one(database, OF_JUNCTIONS, name, "no record of a junction {!r}")


def record(database: Database, simulation: str, junction: str, at: datetime) -> Item:
    """Raises MissingError."""
    key = {"simulation": simulation, "junction": junction, "at": at}
    found = database.rows(f"{RECORDS} WHERE {KEY}", **key)
    if not found:
        what = f"no record of simulation {simulation!r}, junction {junction!r}, {at.isoformat()}"
        raise MissingError(f"there is {what} in the database")
    return _as_sent(found[0])


def versions(database: Database, simulation: str, junction: str, at: datetime) -> list[Item]:
    """All versions of a record, the newest first; of each but that one, when, by whom and why it
    was replaced. Raises MissingError.
    """
    newest = record(database, simulation, junction, at)
    rows = database.rows(VERSIONS, simulation=simulation, junction=junction, at=at)
    # what was replaced between the two questions is in both answers
    old = [_as_sent(row) for row in rows if row["version"] < newest["version"]]
    return [newest | {"replaced_at": None, "replaced_by": None, "reason": None}, *old]


def _named(database: Database, of: Mapping[str, str], only: RecordFilter) -> Listing:
    """A list of what a column names."""
    where, values = only.where()
    is_named = only.among is not None and of is OF_JUNCTIONS
    names = (NAMES_AMONG if is_named else NAMES).format(where=where, **of)

    def count() -> int:
        query = f"{names} {COUNT_NAMES}"
        found = int(database.rows(query, after="", most=MOST_LOOKED_UP, **values)[0]["n"])
        if found < MOST_LOOKED_UP:
            return found
        query = COUNT_ALL.format(where=where, **of)
        return int(database.rows(query, **values)[0]["n"])

    def fetch(after: Key, limit: int) -> list[Item]:
        asked = f"{names} {NAMED.format(where=where, **of)}"
        last = after[0] if after else ""
        return database.rows(asked, after=last, limit=limit, **values)

    return Listing((of["column"],), count, fetch)


def _one(database: Database, of: Mapping[str, str], name: str, missing: str) -> Item:
    known = f"""
        WITH names AS (SELECT CAST(:name AS text) AS name WHERE EXISTS (
            SELECT 1 FROM simulation_record WHERE {of["column"]} = :name))
    """
    found = database.rows(f"{known} {NAMED.format(where='TRUE', **of)}", name=name, limit=1)
    if not found:
        raise MissingError(f"there is {missing.format(name)} in the database")
    return found[0]


def _as_sent(row: dict[str, Any]) -> Item:
    """A row in the form in which records are sent."""
    kept = {name: value for name, value in row.items() if name not in METRICS.values()}
    at = kept.pop("at")
    metrics = {name: row[column] for name, column in METRICS.items()}
    first = {"simulation_id": kept.pop("simulation_id"), "timestamp": at}
    return first | kept | {"metrics": metrics}
