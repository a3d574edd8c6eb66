"""Signal performance measures from the engine's own record of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from headway.store import Database
from headway.values import FloatArray

YELLOW, PERMISSIVE = 2, 3  # of the colours as they are kept


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
    """Signals and detectors as Indiana event codes (1 begin of green, 8 of yellow, 10 of red; 82 detector on, 81 off; Indiana Traffic Signal Hi
    Resolution Data Logger Enumerations, Purdue University 2012): timestamp (the day of the run and the street's own clock), at_s, device,
    event, parameter (signal group of the junction, from 1 on; each has one detector, of the same number)."""
    return record.rows(
        """WITH c AS (
               SELECT at_s, junction, signal_group, CASE WHEN colour >= 3 THEN 1 WHEN colour = 2 THEN 8 ELSE 10 END AS event
               FROM signal_state WHERE run_id = :run),
           e AS (SELECT *, lag(event) OVER (PARTITION BY junction, signal_group ORDER BY at_s) AS before FROM c),
           a AS (
               SELECT at_s, junction, signal_group, event FROM e WHERE event IS DISTINCT FROM before
               UNION ALL SELECT at_s, junction, signal_group, CASE WHEN occupied THEN 82 ELSE 81 END FROM detector_state WHERE run_id = :run)
           SELECT (SELECT date_trunc('day', begun_at) FROM run WHERE id = :run) + make_interval(secs => at_s) AS timestamp, at_s,
                  junction AS device, event, signal_group + 1 AS parameter FROM a ORDER BY at_s, device, parameter, event LIMIT :limit""",
        run=run, limit=limit,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Arrivals:
    """At one signal group's stop line: n actuations, and how many of them on green, yellow and red. delay_s: mean wait of those on red
    for the next green; failures: of n greens those whose queue was not served (stop line occupied for more than 79 % of the green and of the
    first 5 s of red, as the Utah signal performance measures have it). health: ok; silent (no actuation); stuck (occupied for 15 minutes)."""

    junction: str
    signal_group: int
    n: int
    on_green: int
    on_yellow: int
    on_red: int
    green_share: float | None
    delay_s: float | None
    greens: int
    failures: int
    health: str


def arrivals(record: Database, run: int, junction: str | None = None, begin_s: float = 0.0, end_s: float = 1e18) -> list[Arrivals]:
    """Of each signal group that showed something in the window."""
    colours, detectors = _histories(record, run, junction, begin_s, end_s)
    return [_arrivals(*key, *colours[key], *detectors.get(key, (np.zeros(0), np.zeros(0)))) for key in sorted(colours)]


@dataclass(frozen=True, slots=True)
class Coordination:
    """Purdue coordination diagram of one signal group, a point an arrival: at_s, and seconds since the red before it began (into_cycle_s);
    beside it, for each cycle, when its green and yellow began (seconds into it)."""

    at_s: list[float]
    into_cycle_s: list[float]
    cycle_at_s: list[float]
    green_s: list[float]
    yellow_s: list[float]


def coordination(record: Database, run: int, junction: str, group: int, begin_s: float = 0.0, end_s: float = 1e18) -> Coordination:
    colours, detectors = _histories(record, run, junction, begin_s, end_s)
    at, level = colours.get((junction, group), (np.zeros(0), np.zeros(0)))
    on, there = detectors.get((junction, group), (np.zeros(0), np.zeros(0)))
    stage = _stage(level)
    red, green, yellow = (at[stage == k] for k in range(3))
    arrived = on[there > 0]
    arrived = arrived[arrived >= red[0]] if len(red) else arrived[:0]
    into = arrived - red[np.searchsorted(red, arrived, "right") - 1] if len(red) else arrived

    def after(begins: FloatArray) -> list[float]:
        place = np.searchsorted(begins, red)
        return [float(begins[p] - r) for p, r in zip(place.tolist(), red.tolist(), strict=True) if p < len(begins)]

    return Coordination(arrived.tolist(), into.tolist(), red.tolist(), after(green), after(yellow))


@dataclass(frozen=True, slots=True)
class Queues:
    """Standing vehicles near one junction, over n looks 5 s apart; longest wait in seconds."""

    junction: str
    n: int
    mean_veh: float
    p95_veh: float
    longest_veh: int
    longest_wait_s: float


def queues(record: Database, run: int, junction: str | None = None, begin_s: float = 0.0, end_s: float = 1e18) -> list[Queues]:
    rows = record.rows(
        """SELECT junction, count(*) AS n, avg(halted) AS mean_veh, percentile_cont(0.95) WITHIN GROUP (ORDER BY halted) AS p95_veh,
                  max(halted) AS longest_veh, max(longest_wait_s) AS longest_wait_s
           FROM observation WHERE run_id = :run AND (CAST(:junction AS text) IS NULL OR junction = :junction) AND at_s >= :begin AND at_s < :end
           GROUP BY junction ORDER BY junction""",
        run=run, junction=junction, begin=begin_s, end=end_s,
    )  # fmt: skip
    return [Queues(**{**row, "mean_veh": float(row["mean_veh"])}) for row in rows]


History = dict[tuple[str, int], tuple[FloatArray, FloatArray]]


def _histories(record: Database, run: int, junction: str | None, begin_s: float, end_s: float) -> tuple[History, History]:
    """(colours, detectors) of each signal group: times (s) and values, in order."""
    found: list[History] = []
    for table, column in (("signal_state", "colour"), ("detector_state", "CASE WHEN occupied THEN 1 ELSE 0 END")):
        rows = record.rows(
            f"""SELECT junction, signal_group, array_agg(at_s ORDER BY at_s) AS at_s, array_agg({column} ORDER BY at_s) AS value FROM {table}
                WHERE run_id = :run AND (CAST(:junction AS text) IS NULL OR junction = :junction) AND at_s >= :begin AND at_s < :end GROUP BY 1, 2""",
            run=run, junction=junction, begin=begin_s, end=end_s,
        )  # fmt: skip
        found.append({(r["junction"], r["signal_group"]): (np.array(r["at_s"], np.float64), np.array(r["value"], np.float64)) for r in rows})
    return found[0], found[1]


def _stage(colour: FloatArray) -> FloatArray:
    """0 red, 1 green, 2 yellow."""
    return np.where(colour >= PERMISSIVE, 1, np.where(colour == YELLOW, 2, 0)).astype(np.float64)


def _arrivals(junction: str, group: int, at: FloatArray, colour: FloatArray, on: FloatArray, there: FloatArray) -> Arrivals:
    stage = _stage(colour)
    first = np.concatenate([[True], stage[1:] != stage[:-1]])
    last, at, stage = at[-1], at[first], stage[first]
    arrived = on[there > 0]
    place = np.searchsorted(at, arrived, "right") - 1
    known = arrived[place >= 0]
    seen = stage[place[place >= 0]]
    green = at[stage == 1]
    after = np.searchsorted(green, known[seen == 0])
    waits = [float(green[p] - t) for p, t in zip(after.tolist(), known[seen == 0].tolist(), strict=True) if p < len(green)]
    failures = whole = 0
    for k in np.flatnonzero(stage == 1).tolist():
        if k + 2 < len(at) and at[k + 2] + 5.0 <= last:
            whole += 1
            red = at[k + 2] if stage[k + 1] == 2 else at[k + 1]
            failures += _share(on, there, at[k], at[k + 1]) > 0.79 and _share(on, there, red, red + 5.0) > 0.79
    n = len(known)
    longest = float(np.diff(np.concatenate([on, [max(last, on[-1])]]))[there > 0].max(initial=0.0)) if len(on) else 0.0
    health = "silent" if n == 0 else "stuck" if longest >= 900.0 else "ok"
    on_green, on_yellow, on_red = (int((seen == k).sum()) for k in (1, 2, 0))
    mean = sum(waits) / len(waits) if waits else None
    return Arrivals(junction, group, n, on_green, on_yellow, on_red, on_green / n if n else None, mean, whole, int(failures), health)


def _share(on: FloatArray, there: FloatArray, begin: float, end: float) -> float:
    """Part of the time that the detector is occupied."""
    if end <= begin:
        return 0.0
    inside = (on > begin) & (on < end)
    times = np.concatenate([[begin], on[inside], [end]])
    before = np.searchsorted(on, begin, "right") - 1
    values = np.concatenate([[there[before] if before >= 0 else 0.0], there[inside]])
    return float((np.diff(times) * values).sum() / (end - begin))
