"""Violations in the record: trends by hour, hotspots by device, a summary, and each one with its evidence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
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
        for name, sql in (("device", "device = :device"), ("rule", "rule = :rule"), ("begin", f"{column} >= :begin"), ("end", f"{column} < :end")):
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
    """One device: its violations, their share of all, by rule, and its busiest hour of the day (UTC)."""

    device: str
    n: int
    share: float
    rules: dict[str, int]
    busiest_hour: int


@dataclass(frozen=True, slots=True)
class ViolationSummary:
    """In all and by rule; devices: how many told of any; first, last: hours (UTC)."""

    n: int
    devices: int
    rules: dict[str, int]
    first: datetime | None
    last: datetime | None
    per_hour: float | None


def trends(record: Database, span: Span) -> Trend:
    """Whole hours: a window is taken at its hours."""
    where, values = span.where("hour")
    rows = record.rows(f"SELECT hour, rule, sum(n)::bigint AS n FROM violation_hour WHERE {where} GROUP BY 1, 2 ORDER BY 1, 2", **values)
    hours: dict[datetime, dict[str, Any]] = {}
    by_hour = [0] * 24
    for row in rows:
        of = hours.setdefault(row["hour"], {"hour": row["hour"], "n": 0, "rules": {}})
        of["n"] += row["n"]
        of["rules"][row["rule"]] = row["n"]
        by_hour[row["hour"].hour] += row["n"]
    return Trend(sum(by_hour), list(hours.values()), by_hour)


def hotspots(record: Database, span: Span, limit: int = 20) -> list[Hotspot]:
    """Devices, most violations first."""
    where, values = span.where("hour")
    rows = record.rows(
        f"""SELECT device, rule, extract(hour FROM hour AT TIME ZONE 'UTC')::integer AS hour, sum(n)::bigint AS n
            FROM violation_hour WHERE {where} GROUP BY 1, 2, 3""",
        **values,
    )
    found: dict[str, tuple[dict[str, int], dict[int, int]]] = {}
    for row in rows:
        rules, hours = found.setdefault(row["device"], ({}, {}))
        rules[row["rule"]] = rules.get(row["rule"], 0) + row["n"]
        hours[row["hour"]] = hours.get(row["hour"], 0) + row["n"]
    total = sum(row["n"] for row in rows)
    spots = [
        Hotspot(device, sum(rules.values()), sum(rules.values()) / total, dict(sorted(rules.items())), max(sorted(hours), key=lambda h: hours[h]))
        for device, (rules, hours) in found.items()
    ]
    return sorted(spots, key=lambda s: (-s.n, s.device))[:limit]


def summary(record: Database, span: Span) -> ViolationSummary:
    where, values = span.where("hour")
    rows = record.rows(
        f"SELECT rule, sum(n)::bigint AS n, min(hour) AS first, max(hour) AS last FROM violation_hour WHERE {where} GROUP BY 1 ORDER BY 1", **values
    )
    devices = record.rows(f"SELECT count(DISTINCT device) AS n FROM violation_hour WHERE {where}", **values)[0]["n"]
    total = sum(r["n"] for r in rows)
    first, last = min((r["first"] for r in rows), default=None), max((r["last"] for r in rows), default=None)
    hours = (last - first).total_seconds() / 3600.0 + 1.0 if first is not None and last is not None else None
    return ViolationSummary(total, devices, {r["rule"]: r["n"] for r in rows}, first, last, total / hours if hours else None)


def newest(record: Database, span: Span, limit: int = 100, offset: int = 0) -> list[dict[str, Any]]:
    """Newest first; without their pictures, but with the numbers of those (`pictures`)."""
    where, values = span.where("at")
    return record.rows(
        f"""SELECT v.id::text AS id, v.at, v.device, v.rule, v.confidence, v.data, v.seal,
                   ARRAY(SELECT p.at_s FROM violation_picture p WHERE p.violation_id = v.id ORDER BY p.number) AS pictures
            FROM violation v WHERE {where} ORDER BY v.at DESC, v.id LIMIT :limit OFFSET :offset""",
        limit=limit, offset=offset, **values,
    )  # fmt: skip


def picture(record: Database, violation: str, number: int) -> bytes | None:
    rows = record.rows("SELECT jpeg FROM violation_picture WHERE violation_id = CAST(:id AS uuid) AND number = :number", id=violation, number=number)
    return bytes(rows[0]["jpeg"]) if rows else None
