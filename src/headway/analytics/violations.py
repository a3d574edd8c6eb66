"""Violations in the database: trends by hour, hotspots by device, a summary, and each one with its
evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headway.store import Database


@dataclass(frozen=True, slots=True)
class Span:
    """Which violations: of one device or rule (None for all), in [begin, end)."""

    device: str | None = None
    rule: str | None = None
    begin: datetime | None = None
    end: datetime | None = None

    def where(self, column: str) -> tuple[str, dict[str, Any]]:
        parts, values = ["TRUE"], dict[str, Any]()
        for name, sql in (
            ("device", "device = :device"),
            ("rule", "rule = :rule"),
            ("begin", f"{column} >= :begin"),
            ("end", f"{column} < :end"),
        ):
            if getattr(self, name) is not None:
                parts.append(sql)
                values[name] = getattr(self, name)
        return " AND ".join(parts), values


@dataclass(frozen=True, slots=True)
class Trend:
    """n: violations in all; hours: by hour (UTC), oldest first; by_hour_of_day: 24 sums."""

    n: int
    hours: list[dict[str, Any]]
    by_hour_of_day: list[int]


@dataclass(frozen=True, slots=True)
class Hotspot:
    """One device: its violations, their share of all, by rule, and its busiest hour of the day
    (UTC), of all time.
    """

    device: str
    n: int
    share: float
    rules: dict[str, int]
    busiest_hour: int


@dataclass(frozen=True, slots=True)
class ViolationSummary:
    """In all and by rule; devices: how many reported any; first, last: hours (UTC)."""

    n: int
    devices: int
    rules: dict[str, int]
    first: datetime | None
    last: datetime | None
    per_hour: float | None


def trends(database: Database, span: Span) -> Trend:
    """Whole hours: a window is taken at its hours."""
    where, values = span.where("hour")
    table = "violation_rule_hour" if span.device is None else "violation_hour"
    found = database.rows(
        (
            f"SELECT hour, json_object_agg(rule, n ORDER BY rule) AS rules FROM {table} WHERE "
            f"{where} GROUP BY 1 ORDER BY 1"
        ),
        **values,
    )
    hours = [
        {"hour": row["hour"], "n": sum(row["rules"].values()), "rules": row["rules"]}
        for row in found
    ]
    by_hour = [0] * 24
    for row in hours:
        by_hour[row["hour"].astimezone(UTC).hour] += row["n"]
    return Trend(sum(by_hour), hours, by_hour)


def _counted(database: Database, span: Span) -> list[dict[str, Any]]:
    """(device, rule, n) over the window: whole days from their sums, the hours before and after
    from theirs.
    """
    where, values = Span(span.device, span.rule).where("hour")
    day, hour = ["TRUE"], []
    if span.begin is not None:
        day.append("day >= :begin AND date_trunc('day', day, 'UTC') = day")
        hour.append(
            "hour >= :begin AND hour < date_trunc('day', CAST(:begin AS timestamptz) + "
            "interval '1 day' - interval '1 microsecond', 'UTC')"
        )
        values["begin"] = span.begin
    if span.end is not None:
        day.append("day < date_trunc('day', CAST(:end AS timestamptz), 'UTC')")
        hour.append("hour >= date_trunc('day', CAST(:end AS timestamptz), 'UTC') AND hour < :end")
        values["end"] = span.end
    within = " AND ".join(
        (["hour >= :begin"] if span.begin is not None else [])
        + (["hour < :end"] if span.end is not None else [])
    )
    edges = (
        (
            f"UNION ALL SELECT device, rule, n FROM violation_hour WHERE {where} AND {within} AND "
            f"(({') OR ('.join(hour)}))"
        )
        if hour
        else ""
    )
    return database.rows(
        f"""
        SELECT device, rule, sum(n)::bigint AS n
        FROM (
            SELECT device, rule, n
            FROM violation_day
            WHERE {where} AND {" AND ".join(day)} {edges}
        ) t
        GROUP BY 1, 2
        ORDER BY 1, 2
        """,
        **values,
    )


def hotspots(database: Database, span: Span, limit: int = 20) -> list[Hotspot]:
    """Devices, most violations first."""
    where, values = Span(span.device, span.rule).where("hour")
    hours = database.rows(
        (
            "SELECT device, hour_of_day, sum(n)::bigint AS n FROM violation_device_hour WHERE "
            f"{where} GROUP BY 1, 2 ORDER BY 3 DESC, 2"
        ),
        **values,
    )
    busiest: dict[str, int] = {}
    for row in hours:
        busiest.setdefault(row["device"], row["hour_of_day"])
    found: dict[str, dict[str, int]] = {}
    for row in _counted(database, span):
        found.setdefault(row["device"], {})[row["rule"]] = row["n"]
    total = sum(sum(rules.values()) for rules in found.values())
    spots = [
        Hotspot(device, sum(rules.values()), sum(rules.values()) / total, rules, busiest[device])
        for device, rules in found.items()
    ]
    return sorted(spots, key=lambda s: (-s.n, s.device))[:limit]


def summary(database: Database, span: Span) -> ViolationSummary:
    rows = _counted(database, span)
    rules: dict[str, int] = {}
    for row in rows:
        rules[row["rule"]] = rules.get(row["rule"], 0) + row["n"]
    where, values = span.where("hour")
    ends = (
        "SELECT min(hour) AS first, max(hour) AS last FROM "
        f"violation_{'rule_hour' if span.device is None else 'hour'} WHERE {where}"
    )
    ((first, last),) = (row.values() for row in database.rows(ends, **values))
    hours = (last - first).total_seconds() / 3600.0 + 1.0 if first is not None else None
    total = sum(rules.values())
    return ViolationSummary(
        total,
        len({row["device"] for row in rows}),
        dict(sorted(rules.items())),
        first,
        last,
        total / hours if hours else None,
    )


def newest(
    database: Database, span: Span, limit: int = 100, offset: int = 0
) -> list[dict[str, Any]]:
    """Newest first; without their images, but with the times of those (`images`: s, by their
    numbers; `pictures` is its old name).
    """
    where, values = span.where("at")
    rows = database.rows(
        f"""
        SELECT
            v.id::text AS id,
            v.at,
            v.device,
            v.rule,
            v.confidence,
            v.data,
            v.seal,
            ARRAY(
                SELECT p.at_s
                FROM violation_picture p
                WHERE p.violation_id = v.id
                ORDER BY p.number
            ) AS images
        FROM violation v
        WHERE {where}
        ORDER BY v.at DESC, v.id
        LIMIT :limit OFFSET :offset
        """,
        limit=limit,
        offset=offset,
        **values,
    )
    return [row | {"pictures": row["images"]} for row in rows]


def image(database: Database, violation: str, number: int) -> bytes | None:
    rows = database.rows(
        (
            "SELECT jpeg FROM violation_picture WHERE violation_id = CAST(:id AS uuid) AND number "
            "= :number"
        ),
        id=violation,
        number=number,
    )
    return next((bytes(row["jpeg"]) for row in rows), None)
