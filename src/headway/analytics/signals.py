"""Signal performance measures from the engine's own record of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headway.store import Database


@dataclass(frozen=True, slots=True)
class Split:
    """Of one signal group: its greens, their lengths (s), and the share of the time that it was green."""

    junction: str
    signal_group: int
    n: int
    mean_green_s: float
    p85_green_s: float
    longest_green_s: float
    green_share: float


def splits(record: Database, run: int, junction: str | None = None, begin_s: float = 0.0, end_s: float = 1e18) -> list[Split]:
    """Greens that began and ended in the window, of run number `run`."""
    rows = record.rows(
        """WITH c AS (
               SELECT junction, signal_group, at_s, colour >= 3 AS lit, lag(colour >= 3) OVER w AS was,
                      max(at_s) OVER () - min(at_s) OVER () AS whole_s
               FROM signal_state WHERE run_id = :run AND (CAST(:junction AS text) IS NULL OR junction = :junction) AND at_s >= :begin AND at_s < :end
               WINDOW w AS (PARTITION BY junction, signal_group ORDER BY at_s)),
           s AS (
               SELECT junction, signal_group, lit, whole_s, lead(at_s) OVER (PARTITION BY junction, signal_group ORDER BY at_s) - at_s AS lasted_s
               FROM c WHERE lit IS DISTINCT FROM was)
           SELECT junction, signal_group, count(*) AS n, avg(lasted_s) AS mean_green_s, max(lasted_s) AS longest_green_s,
                  percentile_cont(0.85) WITHIN GROUP (ORDER BY lasted_s) AS p85_green_s, sum(lasted_s) / nullif(max(whole_s), 0) AS green_share
           FROM s WHERE lit AND lasted_s IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2""",
        run=run, junction=junction, begin=begin_s, end=end_s,
    )  # fmt: skip
    return [Split(**row) for row in rows]


def runs(record: Database, limit: int = 100) -> list[dict[str, Any]]:
    """The engine's runs, newest first."""
    return record.rows("SELECT id, key, scenario, controller, seed, begun_at FROM run ORDER BY id DESC LIMIT :limit", limit=limit)


def events(record: Database, run: int, kind: str = "", limit: int = 1000, offset: int = 0) -> list[dict[str, Any]]:
    """Events of a run whose kind begins with `kind`, in order."""
    return record.rows(
        "SELECT number, at_s, kind, junction, data FROM event WHERE run_id = :run AND kind LIKE :kind ORDER BY number LIMIT :limit OFFSET :offset",
        run=run, kind=kind.replace("%", "").replace("_", r"\_") + "%", limit=limit, offset=offset,
    )  # fmt: skip


def high_resolution(record: Database, run: int, limit: int = 1_000_000) -> list[dict[str, Any]]:
    """Signal changes as Indiana event codes (1 begin of green, 8 of yellow, 10 of red; Indiana Traffic Signal Hi Resolution Data Logger
    Enumerations, Purdue University 2012): (timestamp: the day of the run and the street's own clock, at_s, device, event,
    parameter); the parameter is the signal group of its junction, from 1 on."""
    return record.rows(
        """WITH c AS (
               SELECT at_s, junction, signal_group, CASE WHEN colour >= 3 THEN 1 WHEN colour = 2 THEN 8 ELSE 10 END AS event
               FROM signal_state WHERE run_id = :run),
           e AS (SELECT *, lag(event) OVER (PARTITION BY junction, signal_group ORDER BY at_s) AS before FROM c)
           SELECT (SELECT date_trunc('day', begun_at) FROM run WHERE id = :run) + make_interval(secs => at_s) AS timestamp, at_s,
                  junction AS device, event, signal_group + 1 AS parameter FROM e WHERE event IS DISTINCT FROM before
           ORDER BY at_s, junction, signal_group LIMIT :limit""",
        run=run, limit=limit,
    )  # fmt: skip
