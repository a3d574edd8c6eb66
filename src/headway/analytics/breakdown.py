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

# the records asked for; then an entry a direction of each, and an entry a vehicle type of these.
# Less than 1e-100 counts as nought: PostgreSQL refuses a quotient that is too small for it, so that
# one such record would end the answer for all
QUERY = """
    WITH
        r AS (
            SELECT
                row_number() OVER () AS record,
                at,
                CASE WHEN throughput > 1e-100 THEN throughput ELSE 0.0 END AS throughput,
                signals
            FROM simulation_record
            WHERE {where}
        ),
        d AS (
            SELECT
                record,
                at,
                s ->> 'direction' AS direction,
                CASE
                    WHEN CAST(s ->> 'avg_wait_time' AS double precision) > 1e-100
                        THEN CAST(s ->> 'avg_wait_time' AS double precision)
                    ELSE 0.0
                END AS wait_s,
                CAST(s ->> 'vehicles_crossed' AS double precision) AS crossed,
                throughput * CAST(s ->> 'vehicles_crossed' AS double precision) / nullif(
                    sum(CAST(s ->> 'vehicles_crossed' AS double precision))
                        OVER (PARTITION BY record), 0) AS flow,
                s -> 'vehicle_counts' AS counts,
                (SELECT coalesce(sum(CAST(c.value AS double precision)), 0)
                    FROM jsonb_each_text(s -> 'vehicle_counts') c) AS vehicles
            FROM r, jsonb_array_elements(signals) s
        ),
        e AS ({entries})
    SELECT
        {bucket} AS bucket,
        direction,
        vehicle_type,
        count(DISTINCT record) AS n,
        sum(vehicles) AS vehicles,
        sum(vehicles) / count(DISTINCT record) AS mean_vehicles,
        sum(wait_s * weight) / nullif(sum(weight), 0) AS mean_wait_s,
        max(wait_s) FILTER (WHERE weight > 0) AS longest_wait_s,
        sum(crossed) AS crossed,
        coalesce(sum(flow), 0) / count(DISTINCT record) AS throughput
    FROM e
    WHERE TRUE{narrower}
    GROUP BY 1, 2, 3
    ORDER BY {order}
    LIMIT :limit OFFSET :offset
"""
DIRECTIONS = """
    SELECT record, at, direction, direction AS came_from, NULL AS vehicle_type, wait_s, crossed,
        flow, vehicles, 1.0 AS weight
    FROM d
"""
VEHICLE_TYPES = """
    SELECT
        record,
        at,
        {direction} AS direction,
        direction AS came_from,
        c.key AS vehicle_type,
        wait_s,
        crossed * CAST(c.value AS double precision) / nullif(vehicles, 0) AS crossed,
        flow * CAST(c.value AS double precision) / nullif(vehicles, 0) AS flow,
        CAST(c.value AS double precision) AS vehicles,
        CAST(c.value AS double precision) AS weight
    FROM d, jsonb_each_text(counts) c
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
    narrower = " AND vehicles > 0" if by != "direction" else ""
    if vehicle_type is not None:
        where += f" AND {TYPES} @> CAST(:types AS jsonb)"
        values["types"] = json.dumps([vehicle_type])
        if by != "direction":
            narrower += " AND vehicle_type = :vehicle_type"
            values["vehicle_type"] = vehicle_type
    if direction is not None:
        narrower += " AND came_from = :direction"
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
        DIRECTIONS
        if by == "direction"
        else VEHICLE_TYPES.format(direction="direction" if by == "both" else "NULL")
    )
    order = "1 DESC, 2 DESC, 3 DESC" if bucket in OF_MOMENTS else "1, 2, 3"
    return QUERY.format(
        where=where,
        entries=entries,
        bucket=BUCKETS[bucket],
        narrower=narrower,
        order=order,
    )


def _row(row: dict[str, Any], bucket: Bucket) -> Breakdown:
    when = row.pop("bucket")
    is_hour = bucket == "hour_of_day"
    return Breakdown(None if is_hour else when, when if is_hour else None, **row)
