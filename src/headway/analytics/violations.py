"""Violations in the database: trends by hour, hotspots by device, a summary, and each one with its
evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from headway.store import Database

HOUR = timedelta(hours=1)
SHORTEST_WINDOW_H = 1.0 / 60.0  # a rate over less says nothing
HIGHEST_CONFIDENCE = 0.9  # of a candidate; rows of before this rule may hold more
# beyond these, a time has no hour before or after it
EARLIEST = datetime(1000, 1, 1, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)
ReviewState = Literal["open", "confirmed", "dismissed"]


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
    """Exactly the window; an hour at its edges counts as far as it is within."""
    window = _parts(span)
    hours: dict[datetime, dict[str, int]] = {}
    if window.hours is not None:
        where, values = window.hours.where("hour")
        table = "violation_rule_hour" if span.device is None else "violation_hour"
        found = database.rows(
            (
                f"SELECT hour, json_object_agg(rule, n ORDER BY rule) AS rules FROM {table} WHERE "
                f"{where} GROUP BY 1"
            ),
            **values,
        )
        hours = {row["hour"]: row["rules"] for row in found}
    for edge in window.edges:
        where, values = edge.where("at")
        found = database.rows(
            (
                "SELECT date_trunc('hour', at, 'UTC') AS hour, rule, count(*) AS n FROM violation "
                f"WHERE {where} GROUP BY 1, 2 ORDER BY 1, 2"
            ),
            **values,
        )
        for row in found:
            hours.setdefault(row["hour"], {})[row["rule"]] = row["n"]
    listed = [
        {"hour": hour, "n": sum(rules.values()), "rules": rules}
        for hour, rules in sorted(hours.items())
    ]
    by_hour = [0] * 24
    for hour, rules in hours.items():
        by_hour[hour.astimezone(UTC).hour] += sum(rules.values())
    return Trend(sum(by_hour), listed, by_hour)


@dataclass(frozen=True, slots=True)
class _Parts:
    """A window in the parts that it is counted in. hours: its whole hours, of which there are sums;
    None for none. edges: what is before and after them, counted from the violations themselves.
    """

    hours: Span | None
    edges: tuple[Span, ...]


def _parts(span: Span) -> _Parts:
    begin, end = _clipped(span.begin), _clipped(span.end)
    first = begin if begin is None or _hour(begin) == begin else _hour(begin) + HOUR
    last = None if end is None else _hour(end)
    if begin is not None and end is not None and begin >= end:
        return _Parts(None, ())
    if first is not None and last is not None and first > last:
        return _Parts(None, (replace(span, begin=begin, end=end),))
    edges = [(begin, first)] if begin != first else []
    edges += [(last, end)] if last != end else []
    return _Parts(
        hours=replace(span, begin=first, end=last),
        edges=tuple(replace(span, begin=b, end=e) for b, e in edges),
    )


def _clipped(at: datetime | None) -> datetime | None:
    return None if at is None else min(max(at, EARLIEST), LATEST)


def _hour(at: datetime) -> datetime:
    """The begin of its hour (UTC)."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _counted(database: Database, span: Span) -> list[dict[str, Any]]:
    """(device, rule, n) over the window: whole days and hours from their sums, what is left at its
    edges from the violations themselves.
    """
    window = _parts(span)
    rows = _counted_hours(database, window.hours) if window.hours is not None else []
    for edge in window.edges:
        where, values = edge.where("at")
        rows += database.rows(
            f"SELECT device, rule, count(*) AS n FROM violation WHERE {where} GROUP BY 1, 2",
            **values,
        )
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        key = (row["device"], row["rule"])
        counts[key] = counts.get(key, 0) + row["n"]
    return [{"device": d, "rule": r, "n": n} for (d, r), n in sorted(counts.items())]


def _counted_hours(database: Database, span: Span) -> list[dict[str, Any]]:
    """(device, rule, n) over whole hours: whole days from their sums, the hours before and after
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
        if row["device"] in busiest:  # else its first one has come since
            found.setdefault(row["device"], {})[row["rule"]] = row["n"]
    total = sum(sum(rules.values()) for rules in found.values())
    spots = [
        Hotspot(device, sum(rules.values()), sum(rules.values()) / total, rules, busiest[device])
        for device, rules in found.items()
    ]
    return sorted(spots, key=lambda s: (-s.n, s.device))[:limit]


def summary(database: Database, span: Span) -> ViolationSummary:
    """Exactly the window. per_hour: over the window; where it is open, to its first or last hour
    with a violation (None without one).
    """
    rows = _counted(database, span)
    rules: dict[str, int] = {}
    for row in rows:
        rules[row["rule"]] = rules.get(row["rule"], 0) + row["n"]
    first, last = _first_and_last_hour(database, span)
    total = sum(rules.values())
    begin, end = span.begin or first, span.end or (last and last + HOUR)
    per_hour = None
    if begin is not None and end is not None:
        per_hour = total / max((end - begin) / HOUR, SHORTEST_WINDOW_H)
    return ViolationSummary(
        total,
        len({row["device"] for row in rows}),
        dict(sorted(rules.items())),
        first,
        last,
        per_hour,
    )


def _first_and_last_hour(database: Database, span: Span) -> tuple[datetime | None, datetime | None]:
    """The hours (UTC) of the first and the last violation of the window."""
    window = _parts(span)
    table = "violation_rule_hour" if span.device is None else "violation_hour"
    parts = [(edge, "violation", "at") for edge in window.edges]
    if window.hours is not None:
        parts.append((window.hours, table, "hour"))
    found = list[datetime]()
    for part, source, column in parts:
        where, values = part.where(column)
        ends = f"SELECT min({column}) AS first, max({column}) AS last FROM {source} WHERE {where}"
        (row,) = database.rows(ends, **values)
        found += [_hour(at) for at in (row["first"], row["last"]) if at is not None]
    return min(found, default=None), max(found, default=None)


def newest(
    database: Database,
    span: Span,
    limit: int = 100,
    offset: int = 0,
    state: ReviewState | None = None,
) -> list[dict[str, Any]]:
    """Those of a state (None for all), newest first; without their images, but with the times of
    those (`images`: s, by their numbers; `pictures` is its old name).
    """
    where, values = span.where("at")
    if state is not None:
        where, values = f"{where} AND state = :state", values | {"state": state}
    rows = database.rows(
        f"""
        SELECT
            v.id::text AS id,
            v.at,
            v.device,
            v.rule,
            least(v.confidence, :highest) AS confidence,
            v.state,
            v.reviewed_by,
            v.reviewed_at,
            v.note,
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
        highest=HIGHEST_CONFIDENCE,
        limit=limit,
        offset=offset,
        **values,
    )
    return [row | {"pictures": row["images"]} for row in rows]


@dataclass(frozen=True, slots=True)
class Review:
    """What a person found of a candidate. note: why, in words."""

    id: str
    state: ReviewState
    reviewed_by: str
    reviewed_at: datetime
    note: str


def review(
    database: Database, violation: str, state: ReviewState, by: str, note: str = ""
) -> Review | None:
    """Put down what a person found of a candidate; `open` takes it back. None for an unknown id."""
    done = database.execute(
        "UPDATE violation SET state = :state, reviewed_by = :by, reviewed_at = now(), note = :note "
        "WHERE id = CAST(:id AS uuid)",
        id=violation,
        state=state,
        by=by,
        note=note,
    )
    if not done:
        return None
    rows = database.rows(
        "SELECT id::text AS id, state, reviewed_by, reviewed_at, note FROM violation "
        "WHERE id = CAST(:id AS uuid)",
        id=violation,
    )
    return next((Review(**row) for row in rows), None)


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
