"""Waits, throughput and counts of ingested records by direction and by vehicle type, by hour and by
day.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from headway.analytics.records import Scope, need_ingested
from headway.store import Database

By = Literal["direction", "vehicle_type", "both"]
Bucket = Literal["hour", "day", "hour_of_day", "none"]

# vehicle types that a record counted at least once; the index simulation_record_types (migration
# 0007) is over this very expression. Records of before that version do not say it themselves
TYPES = (
    "coalesce(vehicle_types, "
    "jsonb_path_query_array(signals, '$[*].vehicle_counts.keyvalue() ? (@.value > 0).key'))"
)
BUCKETS: dict[Bucket, str] = {
    "hour": "date_trunc('hour', at, 'UTC')",
    "day": "date_trunc('day', at, 'UTC')",
    "hour_of_day": "CAST(extract(hour FROM at AT TIME ZONE 'UTC') AS integer)",
    "none": "NULL",
}

OF_MOMENTS: tuple[Bucket, ...] = ("hour", "day")  # of these the newest come first, if not all fit

# The records asked for, each with an entry a direction, vehicle type or both, made of that record
# alone: nothing has to be sorted, and PostgreSQL's workers share the records. Less than 1e-100
# counts as nought: PostgreSQL refuses a quotient that is too small for it, so that one such record
# would end the answer for all
QUERY = """
    WITH r AS (
        SELECT
            at,
            CASE WHEN throughput > 1e-100 THEN throughput ELSE 0.0 END AS throughput,
            signals
        FROM simulation_record
        WHERE {where}
    )
    SELECT
        {bucket} AS bucket,
        direction,
        vehicle_type,
        count(*) AS n,
        sum(vehicles) AS vehicles,
        sum(vehicles) / count(*) AS mean_vehicles,
        sum(waited_s) / nullif(sum(weight), 0) AS mean_wait_s,
        max(longest_wait_s) AS longest_wait_s,
        sum(crossed) AS crossed,
        coalesce(sum(flow), 0) / count(*) AS throughput
    FROM r CROSS JOIN LATERAL ({entries}) e
    GROUP BY 1, 2, 3
    ORDER BY {order}
    LIMIT :limit OFFSET :offset
"""
SIGNALS = """
    SELECT
        s ->> 'direction' AS direction,
        CASE
            WHEN CAST(s ->> 'avg_wait_time' AS double precision) > 1e-100
                THEN CAST(s ->> 'avg_wait_time' AS double precision)
            ELSE 0.0
        END AS wait_s,
        CAST(s ->> 'vehicles_crossed' AS double precision) AS crossed,
        r.throughput * CAST(s ->> 'vehicles_crossed' AS double precision) / total AS flow,
        s -> 'vehicle_counts' AS counts,
        (SELECT coalesce(sum(CAST(c.value AS double precision)), 0)
            FROM jsonb_each_text(s -> 'vehicle_counts') c) AS vehicles
    FROM
        jsonb_array_elements(r.signals) s,
        (SELECT nullif(sum(CAST(x ->> 'vehicles_crossed' AS double precision)), 0) AS total
            FROM jsonb_array_elements(r.signals) x) of_record
    OFFSET 0  -- or each column is worked out again wherever it is used
"""
DIRECTIONS = f"""
    SELECT
        direction,
        NULL AS vehicle_type,
        sum(vehicles) AS vehicles,
        sum(wait_s) AS waited_s,
        count(*) AS weight,
        max(wait_s) AS longest_wait_s,
        sum(crossed) AS crossed,
        sum(flow) AS flow
    FROM ({SIGNALS}) d
    WHERE TRUE{{narrower}}
    GROUP BY direction
"""
VEHICLE_TYPES = f"""
    SELECT
        {{direction}} AS direction,
        c.key AS vehicle_type,
        sum(counted) AS vehicles,
        sum(wait_s * counted) AS waited_s,
        sum(counted) AS weight,
        max(wait_s) AS longest_wait_s,
        sum(crossed * counted / nullif(vehicles, 0)) AS crossed,
        sum(flow * counted / nullif(vehicles, 0)) AS flow
    FROM
        ({SIGNALS}) d,
        jsonb_each_text(counts) c,
        CAST(c.value AS double precision) counted
    WHERE counted > 0{{narrower}}
    GROUP BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Of the n records of one bucket that have this direction, or count this vehicle type.

    at, hour:      begin of the hour or day (UTC), or the hour of the day; None where it is not
        asked for, as with direction and vehicle_type.
    vehicles:      sum of the counts; mean_vehicles: a record.
    mean_wait_s:   mean of the records' waits by direction; by vehicle type each direction weighs
        as many vehicles of the type as it counts.
    crossed:       vehicles that crossed; by vehicle type in proportion to the counts.
    throughput:    vehicles a second, mean of the records: what each reports for its junction, in
        proportion to what crossed from each direction.
    """

    at: datetime | None
    hour: int | None
    direction: str | None
    vehicle_type: str | None
    n: int
    vehicles: float
    mean_vehicles: float
    mean_wait_s: float | None
    longest_wait_s: float | None
    crossed: float
    throughput: float


def breakdown(
    database: Database,
    scope: Scope,
    by: By = "direction",
    bucket: Bucket = "hour",
    direction: str | None = None,
    vehicle_type: str | None = None,
) -> list[Breakdown]:
    """In order of time; of hours and days the newest `limit` rows.

    direction, vehicle_type: these alone; of the records the index finds those that counted the
    vehicle type.
    """
    need_ingested(scope, "its vehicles are not counted by direction or type")
    where, values = scope.where()
    narrower = ""
    if vehicle_type is not None:
        where += f" AND {TYPES} @> CAST(:types AS jsonb)"
        values["types"] = json.dumps([vehicle_type])
        if by != "direction":
            narrower += " AND c.key = :vehicle_type"
            values["vehicle_type"] = vehicle_type
    if direction is not None:
        narrower += " AND d.direction = :direction"
        values["direction"] = direction
    rows = database.rows(
        _query(where, by, bucket, narrower),
        limit=scope.limit,
        offset=scope.offset,
        **values,
    )
    in_order = rows[::-1] if bucket in OF_MOMENTS else rows
    return [_row(row, bucket) for row in in_order]


def _query(where: str, by: By, bucket: Bucket, narrower: str) -> str:
    entries = (
        DIRECTIONS.format(narrower=narrower)
        if by == "direction"
        else VEHICLE_TYPES.format(
            direction="d.direction" if by == "both" else "NULL", narrower=narrower
        )
    )
    order = "1 DESC, 2 DESC, 3 DESC" if bucket in OF_MOMENTS else "1, 2, 3"
    return QUERY.format(where=where, entries=entries, bucket=BUCKETS[bucket], order=order)


def _row(row: dict[str, Any], bucket: Bucket) -> Breakdown:
    when = row.pop("bucket")
    is_hour = bucket == "hour_of_day"
    return Breakdown(None if is_hour else when, when if is_hour else None, **row)
