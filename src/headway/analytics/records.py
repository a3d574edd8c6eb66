"""What ingested records and this server's own streets say of waits, speeds, emissions and
emergencies, and how two of either compare.

A simulation is named by the id that its records have, `street:NAME` is a street of this server over
all its runs, and `run:NUMBER` one run of a street.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from headway.analytics.comparison import Paired, paired
from headway.store import Database

FILTERS = (
    ("simulation_id", "simulation", "="),
    ("intersection_id", "junction", "="),
    ("at", "begin", ">="),
    ("at", "end", "<"),
)

# the records of two simulations, paired by junction and by time; b's clock is behind_s behind a's.
# Bytes (big-endian): to read 75,000 pairs as text took longer than to find them
PAIRS = """
    WITH
        x AS NOT MATERIALIZED (
            SELECT intersection_id AS j, at AS t, wait_s, speed_kmh, throughput
            FROM simulation_record
            WHERE simulation_id = :a AND {where}
        ),
        y AS NOT MATERIALIZED (
            SELECT
                intersection_id AS j,
                at + make_interval(secs => :behind_s) AS t,
                wait_s, speed_kmh, throughput
            FROM simulation_record
            WHERE simulation_id = :b AND {where}
        )
    SELECT
        (SELECT count(*) FROM x) AS of_a,
        (SELECT count(*) FROM y) AS of_b,
        string_agg(float8send(at_s), '') AS at_s,
        string_agg(float8send(wait_a), '') AS wait_a,
        string_agg(float8send(wait_b), '') AS wait_b,
        string_agg(float8send(speed_a), '') AS speed_a,
        string_agg(float8send(speed_b), '') AS speed_b,
        string_agg(float8send(flow_a), '') AS flow_a,
        string_agg(float8send(flow_b), '') AS flow_b
    FROM (
        SELECT
            CAST(extract(epoch FROM t) AS double precision) AS at_s,
            x.wait_s AS wait_a,
            y.wait_s AS wait_b,
            x.speed_kmh AS speed_a,
            y.speed_kmh AS speed_b,
            x.throughput AS flow_a,
            y.throughput AS flow_b
        FROM x JOIN y USING (j, t)
    ) p
"""

# how long a whole simulation is; its junctions are found one look into the key each
SPAN = """
    WITH RECURSIVE j AS (
        (SELECT intersection_id FROM simulation_record WHERE simulation_id = :name
            ORDER BY intersection_id LIMIT 1)
        UNION ALL
        SELECT next.intersection_id
        FROM j CROSS JOIN LATERAL (SELECT intersection_id FROM simulation_record
            WHERE simulation_id = :name AND intersection_id > j.intersection_id
            ORDER BY intersection_id LIMIT 1) next
    )
    SELECT min(ends.begun) AS begun, max(ends.ended) AS ended
    FROM j CROSS JOIN LATERAL (
        SELECT min(at) AS begun, max(at) AS ended
        FROM simulation_record
        WHERE simulation_id = :name AND intersection_id = j.intersection_id
    ) ends
"""

# how many records pair where b's clock is behind_s behind a's, and how many of these are alike
ALIGNED = """
    SELECT
        count(*) AS n,
        count(*) FILTER (WHERE x.wait_s = y.wait_s
            AND x.speed_kmh IS NOT DISTINCT FROM y.speed_kmh
            AND x.throughput IS NOT DISTINCT FROM y.throughput
            AND x.vehicles = y.vehicles) AS alike
    FROM simulation_record x
    JOIN simulation_record y
        ON y.intersection_id = x.intersection_id
            AND y.at + make_interval(secs => :behind_s) = x.at
    WHERE x.simulation_id = :a AND y.simulation_id = :b
"""
DAY_S = 86_400.0


OWN = ("street:", "run:")  # what names of this server's own streets and their runs begin with
MOST_RUNS = 2**62  # numbers of runs; a larger one is none
BASELINE = "street:baseline"  # what streets are compared with where nothing else is asked for
MOST_COMPARED = 20  # simulations of one answer


class MissingError(LookupError):
    """There is nothing of what was asked for; the message names it."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which records: one simulation, one junction, a window of time [begin, end); None for all.
    limit, offset: which part of a list. Where its rows are of moments, parts go back in time: the
    first has the newest.
    """

    simulation: str | None = None
    junction: str | None = None
    begin: datetime | None = None
    end: datetime | None = None
    limit: int = 1000
    offset: int = 0

    @property
    def run(self) -> int | None:
        """The run of a street that `run:NUMBER` names."""
        number = (self.simulation or "").removeprefix("run:")
        is_run = number != self.simulation and number.isascii() and number.isdigit()
        return min(int(number), MOST_RUNS) if is_run else None

    @property
    def is_of_street(self) -> bool:
        return (self.simulation or "").startswith(OWN)

    @property
    def table(self) -> str:
        """Where the rows are: the view has the streets' too, the table alone is quicker."""
        of_records = self.simulation is not None and not self.is_of_street
        return "simulation_record" if of_records else "traffic_record"

    def where(self) -> tuple[str, dict[str, Any]]:
        parts, values = ["TRUE"], dict[str, Any]()
        for column, name, sign in FILTERS:
            value = getattr(self, name)
            if name == "simulation" and self.run is not None:
                parts.append("run_id = :run")
                values["run"] = self.run
            elif value is not None:
                parts.append(f"{column} {sign} :{name}")
                values[name] = value
        return " AND ".join(parts), values


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one simulation. throughput is vehicles a second as reported, the mean; speed in km/h. A
    street's speed and throughput are None while no vehicle was measured. It reports no savings and
    counts no overrides (None); what it burns is at runs/{run}/environmental-impact.
    """

    simulation_id: str
    records: int
    junctions: int
    begin: datetime
    end: datetime
    vehicles: int
    mean_wait_s: float
    mean_speed_kmh: float | None
    mean_throughput: float | None
    fuel_saved_l: float | None
    co2_saved_kg: float | None
    emergency_overrides: int | None


@dataclass(frozen=True, slots=True)
class Waits:
    """Waits of one junction's records, seconds."""

    intersection_id: str
    n: int
    mean_s: float
    median_s: float
    p95_s: float


@dataclass(frozen=True, slots=True)
class Speeds:
    """Mean speeds of one junction's records, km/h."""

    intersection_id: str
    n: int
    mean_kmh: float
    median_kmh: float
    p15_kmh: float


@dataclass(frozen=True, slots=True)
class ReportedSavings:
    """Savings as reported, and what they are worth at the stated price and emission factor."""

    n: int
    fuel_saved_l: float
    co2_saved_kg: float
    fuel_price_per_l: float
    money_saved: float
    co2_kg_per_l: float
    co2_from_fuel_kg: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Paired by junction and by time in the simulation; unpaired: records without a partner.
    offset_s: what was added to the baseline's times to have the ai's, seconds.
    """

    baseline: str
    ai: str
    unpaired: int
    offset_s: float
    wait_s: Paired
    speed_kmh: Paired
    throughput: Paired


@dataclass(frozen=True, slots=True)
class Emergencies:
    """n: records; with_vehicle: those that saw an emergency vehicle. Waits are the means of records
    with one and without.
    """

    n: int
    with_vehicle: int
    overrides: int
    mean_wait_with_s: float | None
    mean_wait_without_s: float | None
    by_junction: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Series:
    """Means over `bucket_s` seconds, oldest first. n: records in these points. next_offset: where
    the next, older part begins; None where there is none.
    """

    simulation_id: str | None
    bucket_s: int
    n: int
    points: list[dict[str, Any]]
    next_offset: int | None


def need_run(database: Database, run: int | None) -> None:
    """Raises MissingError if there is no such run; None is none that is asked for."""
    if run is not None and not database.rows("SELECT id FROM run WHERE id = :run", run=run):
        raise MissingError(f"there is no run {run} in the database; GET /api/v1/runs lists them")


def summary(database: Database, simulation: str) -> Summary:
    """Raises MissingError if there is no such simulation."""
    scope = Scope(simulation)
    where, values = scope.where()
    (row,) = database.rows(
        f"""
        SELECT
            count(*) AS records,
            count(DISTINCT intersection_id) AS junctions,
            min(at) AS begin,
            max(at) AS "end",
            coalesce(sum(vehicles), 0) AS vehicles,
            avg(wait_s) AS mean_wait_s,
            avg(speed_kmh) AS mean_speed_kmh,
            avg(throughput) AS mean_throughput,
            sum(fuel_saved_l) AS fuel_saved_l,
            sum(co2_saved_kg) AS co2_saved_kg,
            sum(overrides) AS emergency_overrides
        FROM {scope.table}
        WHERE {where}
        """,
        **values,
    )
    if not row["records"]:
        raise MissingError(f"there is no simulation {simulation!r} in the database")
    if scope.is_of_street:
        row = {**row, "fuel_saved_l": None, "co2_saved_kg": None, "emergency_overrides": None}
    return Summary(simulation, **row)


def waits(database: Database, scope: Scope) -> list[Waits]:
    need_run(database, scope.run)
    where, values = scope.where()
    # by themselves first: in the order of the key of junctions, each row is read from another page
    rows = database.rows(
        f"""
        WITH r AS MATERIALIZED (SELECT intersection_id, wait_s FROM {scope.table} WHERE {where})
        SELECT
            intersection_id,
            count(*) AS n,
            avg(wait_s) AS mean_s,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY wait_s) AS median_s,
            percentile_cont(0.95) WITHIN GROUP (ORDER BY wait_s) AS p95_s
        FROM r
        GROUP BY intersection_id
        ORDER BY intersection_id
        LIMIT :limit OFFSET :offset
        """,
        limit=scope.limit,
        offset=scope.offset,
        **values,
    )
    return [Waits(**row) for row in rows]


def speeds(database: Database, scope: Scope) -> list[Speeds]:
    need_run(database, scope.run)
    where, values = scope.where()
    # as in `waits`
    rows = database.rows(
        f"""
        WITH r AS MATERIALIZED (
            SELECT intersection_id, speed_kmh FROM {scope.table}
            WHERE {where} AND speed_kmh IS NOT NULL
        )
        SELECT
            intersection_id,
            count(*) AS n,
            avg(speed_kmh) AS mean_kmh,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY speed_kmh) AS median_kmh,
            percentile_cont(0.15) WITHIN GROUP (ORDER BY speed_kmh) AS p15_kmh
        FROM r
        GROUP BY intersection_id
        ORDER BY intersection_id
        LIMIT :limit OFFSET :offset
        """,
        limit=scope.limit,
        offset=scope.offset,
        **values,
    )
    return [Speeds(**row) for row in rows]


def need_ingested(scope: Scope, remedy: str) -> None:
    """Raises MissingError for a street of this server, of which records say nothing; `remedy` says
    who does.
    """
    if scope.is_of_street:
        raise MissingError(f"{scope.simulation!r} is a street of this server: {remedy}")


def impact(
    database: Database, scope: Scope, fuel_price_per_l: float = 1.70, co2_kg_per_l: float = 2.31
) -> ReportedSavings:
    """co2_kg_per_l: burning petrol (2.31; diesel 2.68), as the UK's conversion factors for company
    reporting have them, rounded.
    """
    need_ingested(scope, "runs/{run}/environmental-impact says what a run burns and saves")
    where, values = scope.where()
    (row,) = database.rows(
        f"""
        SELECT
            count(*) AS n,
            coalesce(sum(fuel_saved_l), 0) AS fuel,
            coalesce(sum(co2_saved_kg), 0) AS co2
        FROM simulation_record
        WHERE {where}
        """,
        **values,
    )
    fuel = float(row["fuel"])
    return ReportedSavings(
        row["n"],
        fuel,
        float(row["co2"]),
        fuel_price_per_l,
        fuel * fuel_price_per_l,
        co2_kg_per_l,
        fuel * co2_kg_per_l,
    )


def compare(database: Database, baseline: str, ai: str, scope: Scope) -> Comparison:
    """Raises MissingError if one of them is not there, or nothing pairs. What pairs follows from
    both whole simulations: neither a window nor a record that is missing moves it.
    """
    where, values = Scope(junction=scope.junction, begin=scope.begin, end=scope.end).where()
    offset_s = _offset_s(database, baseline, ai)
    (row,) = database.rows(
        PAIRS.format(where=where),
        a=baseline,
        b=ai,
        behind_s=-offset_s,
        **values,
    )
    for name, count in ((baseline, row["of_a"]), (ai, row["of_b"])):
        if not count:
            raise MissingError(f"there is no simulation {name!r} in the database, in this window")
    if row["wait_a"] is None:
        raise MissingError(
            f"no record of {baseline!r} and of {ai!r} is of the same junction at the same "
            "second since its begin"
        )
    names = ("at_s", "wait_a", "wait_b", "speed_a", "speed_b", "flow_a", "flow_b")
    columns = np.array([np.frombuffer(row[name], ">f8") for name in names], np.float64)
    # in one order whichever the database has, so that sums are rounded alike
    at_s, *pairs = columns[:, np.lexsort(columns[2::-1])]
    wait, speed, flow = (paired(pairs[k], pairs[k + 1], at_s) for k in (0, 2, 4))
    unpaired = row["of_a"] + row["of_b"] - 2 * len(at_s)
    return Comparison(baseline, ai, unpaired, offset_s, wait, speed, flow)


def _offset_s(database: Database, baseline: str, ai: str) -> float:
    """Seconds from the baseline's clock to the ai's: the one that pairs the most records, of whole
    days (simulations of one demand on one clock), of the first records and of the last ones. Of
    equal ones the first, unless another makes more than half of the pairs exactly alike: then a
    simulation is beside itself, and its first record is missing.
    """
    one, two = (database.rows(SPAN, name=name)[0] for name in (baseline, ai))
    if one["begun"] is None or two["begun"] is None:
        return 0.0
    begun_s, ended_s = (float((two[end] - one[end]).total_seconds()) for end in ("begun", "ended"))
    offsets = dict.fromkeys((round(begun_s / DAY_S) * DAY_S, begun_s, ended_s))
    if len(offsets) == 1:
        return begun_s
    found = list[tuple[bool, int, int, float]]()
    for place, offset_s in enumerate(offsets):
        (row,) = database.rows(ALIGNED, a=baseline, b=ai, behind_s=-offset_s)
        is_itself = 2 * row["alike"] > row["n"]
        found.append((is_itself, row["n"], -place, offset_s))
    return max(found)[-1]


def emergencies(database: Database, scope: Scope) -> Emergencies:
    need_ingested(scope, "runs/{run}/events?kind=safety.emergency tells them")
    where, values = scope.where()
    (row,) = database.rows(
        f"""
        SELECT
            count(*) AS n,
            count(*) FILTER (WHERE emergency) AS seen,
            coalesce(sum(overrides), 0) AS overrides,
            avg(wait_s) FILTER (WHERE emergency) AS wait_with,
            avg(wait_s) FILTER (WHERE NOT emergency) AS wait_without
        FROM simulation_record
        WHERE {where}
        """,
        **values,
    )
    by = database.rows(
        f"""
        SELECT
            intersection_id,
            count(*) FILTER (WHERE emergency) AS with_vehicle,
            sum(overrides) AS overrides
        FROM simulation_record
        WHERE {where}
        GROUP BY intersection_id
        HAVING sum(overrides) > 0 OR bool_or(emergency)
        ORDER BY 3 DESC, 1
        LIMIT :limit OFFSET :offset
        """,
        limit=scope.limit,
        offset=scope.offset,
        **values,
    )
    return Emergencies(
        row["n"], row["seen"], row["overrides"], row["wait_with"], row["wait_without"], by
    )


def series(database: Database, scope: Scope, bucket_s: int = 60) -> Series:
    """The newest `limit` buckets that are not empty."""
    need_run(database, scope.run)
    where, values = scope.where()
    newest_first = database.rows(
        f"""
        SELECT
            date_bin(make_interval(secs => :bucket), at, 'epoch'::timestamptz) AS at,
            count(*) AS n,
            avg(wait_s) AS wait_s,
            avg(speed_kmh) AS speed_kmh,
            avg(throughput) AS throughput,
            sum(vehicles) AS vehicles
        FROM {scope.table}
        WHERE {where}
        GROUP BY 1
        ORDER BY 1 DESC
        LIMIT :limit OFFSET :offset
        """,
        bucket=bucket_s,
        limit=scope.limit + 1,
        offset=scope.offset,
        **values,
    )
    points = newest_first[: scope.limit][::-1]
    is_cut = len(newest_first) > scope.limit
    return Series(
        simulation_id=scope.simulation,
        bucket_s=bucket_s,
        n=sum(p["n"] for p in points),
        points=points,
        next_offset=scope.offset + scope.limit if is_cut else None,
    )


def newest(database: Database) -> list[dict[str, Any]]:
    """The newest record of each junction of each simulation, of the last hour there is. A time that
    has not come yet counts only where there is no other: one clock that is wrong must not hide
    everybody else.
    """
    return database.rows(
        """
        WITH RECURSIVE
            junction AS (
                SELECT min(intersection_id) AS name FROM simulation_record
                UNION ALL
                SELECT (SELECT min(intersection_id) FROM simulation_record
                    WHERE intersection_id > name)
                FROM junction
                WHERE name IS NOT NULL
            ),
            newest AS (  -- a look into the key for each junction, however many records there are
                SELECT coalesce(max(last.at), (SELECT max(at) FROM simulation_record)) AS n
                FROM junction CROSS JOIN LATERAL (SELECT max(at) AS at FROM simulation_record
                    WHERE intersection_id = name AND at < now() + interval '1 hour') last
            )
        SELECT
            DISTINCT ON (intersection_id, simulation_id) intersection_id,
            simulation_id,
            at,
            wait_s,
            speed_kmh,
            throughput,
            vehicles,
            emergency
        FROM simulation_record
        WHERE at > (SELECT n FROM newest) - interval '1 hour' AND at <= (SELECT n FROM newest)
        ORDER BY intersection_id, simulation_id, at DESC
        """
    )


def totals(newest: list[dict[str, Any]]) -> dict[str, Any]:
    """Over rows of `newest`: how many, the newest time, means of what was measured, sums."""
    return {
        "n": len(newest),
        "at": max((r["at"] for r in newest), default=None),
        "mean_wait_s": _mean(r["wait_s"] for r in newest),
        "mean_speed_kmh": _mean(r["speed_kmh"] for r in newest),
        "vehicles": sum(r["vehicles"] for r in newest),
        "emergencies": sum(r["emergency"] for r in newest),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    found = [v for v in values if v is not None]
    return sum(found) / len(found) if found else None


def live(database: Database) -> dict[str, Any]:
    """The newest record of each junction of the last hour, and totals over these."""
    found = newest(database)
    return totals(found) | {"junctions": found}


def performance(database: Database, scope: Scope) -> list[dict[str, Any]]:
    """Each simulation's means, best wait first."""
    need_run(database, scope.run)
    where, values = scope.where()
    return database.rows(
        f"""
        SELECT
            simulation_id,
            count(*) AS n,
            avg(wait_s) AS mean_wait_s,
            avg(speed_kmh) AS mean_speed_kmh,
            avg(throughput) AS mean_throughput
        FROM {scope.table}
        WHERE {where}
        GROUP BY 1
        ORDER BY 3, 1
        LIMIT :limit OFFSET :offset
        """,
        limit=scope.limit,
        offset=scope.offset,
        **values,
    )


def scatter(database: Database, scope: Scope) -> list[dict[str, Any]]:
    """Throughput beside wait, a point a record: the newest `limit`, oldest first."""
    need_run(database, scope.run)
    where, values = scope.where()
    newest_first = database.rows(
        f"""
        SELECT simulation_id, intersection_id, at, throughput, wait_s, speed_kmh
        FROM {scope.table}
        WHERE {where}
        ORDER BY at DESC, intersection_id DESC, simulation_id DESC
        LIMIT :limit OFFSET :offset
        """,
        limit=scope.limit,
        offset=scope.offset,
        **values,
    )
    return newest_first[::-1]
