"""What the record says of who decides on a street: drift of what it is given and of what comes of
it, calibration of its confidence, quality of its data, and how long decisions take.

The newest hours of the street's newest run are compared with the same time of day before: earlier
days of this run, and earlier runs of the same street, scenario and controller. Where there are
enough of them, what each quarter of an hour had on the other days is taken off first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from headway.analytics.calibration import Calibration, reliability
from headway.analytics.drift import (
    Drift,
    ResidualDrift,
    confirmed,
    drift_of_categories,
    drift_of_numbers,
    residual_drift,
)
from headway.analytics.records import MissingError
from headway.roads import GO
from headway.store import Database
from headway.values import CountArray, FloatArray

WINDOW_S = 6 * 3600.0  # simulated, as all times here but `at`
BIN_S = 60.0  # rows of a minute are one value: about a signal cycle, whose queues go up and down
DAY_S = 86_400.0
PIECES = 14  # of reference, the newest; each is the same time of day as the window
LEAST_OF_WINDOW = (
    0.5  # that a piece lasts; shorter ones, of runs that failed, would crowd others out
)
EARLIER = 100  # runs that are looked at for them
PROFILE_S = 900.0
LEAST_PROFILE_PIECES = 4
DIGITS = 9  # that count of a figure less the usual one
LEAD_S = 600.0  # by then 95 % of `performance` is of predictions after the confidence
CAME_TRUE = 0.999  # performance, rounded: vehicles were late by no more than is tolerated
CALIBRATION_BLOCK_S = 600.0
FIGURES = ("vehicles", "stopped", "wait_s", "flow")
SIGNALS = "green"  # which signal group begins its green

JUNCTIONS = """
    WITH RECURSIVE j AS (
        (SELECT junction FROM observation WHERE run_id = :run ORDER BY junction LIMIT 1)
        UNION ALL
        SELECT next.junction
        FROM j CROSS JOIN LATERAL (SELECT junction FROM observation
            WHERE run_id = :run AND junction > j.junction ORDER BY junction LIMIT 1) next
    )
    SELECT
        j.junction,
        (SELECT min(at_s) FROM observation WHERE run_id = :run AND junction = j.junction)
            AS first_s,
        (SELECT max(at_s) FROM observation WHERE run_id = :run AND junction = j.junction)
            AS last_s
    FROM j
"""
EARLIER_RUNS = """
    SELECT id FROM run
    WHERE street = :street AND scenario = :scenario AND controller = :controller AND id < :run
    ORDER BY id DESC
    LIMIT :most
"""
BINS = """
    SELECT
        j.junction,
        CAST(floor(o.at_s / :bin_s) AS bigint) AS bin,
        CAST(avg(o.vehicles) AS double precision) AS vehicles,
        CAST(avg(o.halted) AS double precision) AS stopped,
        avg(o.mean_wait_s) AS wait_s,
        avg(o.throughput) AS flow,
        avg(o.performance) AS performance,
        max(o.at) AS at
    FROM unnest(CAST(:junctions AS text[])) AS j (junction)
    JOIN observation o ON o.run_id = :run AND o.junction = j.junction
        AND o.at_s >= :begin AND o.at_s < :end
    GROUP BY 1, 2
    ORDER BY 1, 2
"""
# the first row of each minute
PREDICTIONS = """
    SELECT DISTINCT ON (j.junction, floor(o.at_s / :bin_s))
        j.junction, o.at_s, o.confidence, o.performance
    FROM unnest(CAST(:junctions AS text[])) AS j (junction)
    JOIN observation o ON o.run_id = :run AND o.junction = j.junction
        AND o.at_s >= :begin AND o.at_s < :end
    WHERE o.performance IS NOT NULL
    ORDER BY j.junction, floor(o.at_s / :bin_s), o.at_s
"""
GREENS = """
    WITH RECURSIVE g AS (
        (SELECT junction, signal_group FROM signal_state WHERE run_id = :run
            ORDER BY junction, signal_group LIMIT 1)
        UNION ALL
        SELECT next.junction, next.signal_group
        FROM g CROSS JOIN LATERAL (SELECT junction, signal_group FROM signal_state
            WHERE run_id = :run AND (junction, signal_group) > (g.junction, g.signal_group)
            ORDER BY junction, signal_group LIMIT 1) next
    ),
    s AS (
        SELECT g.junction, g.signal_group, c.at_s, c.colour >= :go AS is_green,
            lag(c.colour >= :go) OVER (PARTITION BY g.junction, g.signal_group ORDER BY c.at_s)
                AS was_green
        FROM g CROSS JOIN LATERAL (SELECT at_s, colour FROM signal_state
            WHERE run_id = :run AND junction = g.junction AND signal_group = g.signal_group
                AND at_s >= :begin AND at_s < :end) c
    )
    SELECT junction, array_agg(signal_group ORDER BY at_s, signal_group) AS groups FROM s
    WHERE is_green AND was_green IS DISTINCT FROM TRUE
    GROUP BY junction
"""
SILENT = """
    SELECT junction, lane FROM (
        SELECT DISTINCT ON (junction, data ->> 'lane')
            junction, data ->> 'lane' AS lane, kind
        FROM event
        WHERE run_id = :run AND kind IN ('traffic.silent', 'traffic.silent_ended')
        ORDER BY junction, data ->> 'lane', number DESC
    ) newest
    WHERE kind = 'traffic.silent'
    ORDER BY junction, lane
"""
CYCLES = """
    SELECT
        CAST(data ->> 'decide_ms' AS double precision) AS decide_ms,
        CAST(data ->> 'processing_ms' AS double precision) AS processing_ms,
        CAST(data ->> 'ok' AS boolean) AS ok
    FROM event
    WHERE run_id = :run AND kind = 'engine.cycle' AND at_s >= :begin AND at_s < :end
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One figure of one junction. figure: one of FIGURES, means of minutes, or SIGNALS. mean,
    reference_mean: of the rows, before anything is taken off; None for SIGNALS.
    """

    junction: str
    figure: str
    mean: float | None
    reference_mean: float | None
    drift: Drift


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the decisions on the whole street, as means of minutes: wait_s less the usual
    one of this time of day, or how much `performance` fell short of it.
    """

    figure: str
    drift: ResidualDrift


@dataclass(frozen=True, slots=True)
class Quality:
    """Data of one junction. completeness: share of the minutes of the window that have a row.
    freshness_s: since its newest row when it was looked at, by the wall clock; None where rows
        have no time of day.
    silent_lanes: whose detection is silent now.
    """

    junction: str
    completeness: float
    freshness_s: float | None
    silent_lanes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of n values, milliseconds."""

    n: int
    p50: float
    p95: float
    p99: float
    largest: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Of the n optimisation cycles of the window. decide_ms: of a decision, the mean of each cycle;
    processing_ms: all work of a cycle; succeeded: share of the cycles. None where there are none.
    """

    n: int
    decide_ms: Quantiles | None
    processing_ms: Quantiles | None
    succeeded: float | None


@dataclass(frozen=True, slots=True)
class Monitoring:
    """Of the window [begin_s, end_s) of run number `run`, as it was looked at `looked_at` (UTC).

    pieces: how many times the same time of day is in the reference; profile: whether the usual of
        the time of day was taken off.
    checks: of inputs; a drift is one only if it stands beside all others (`drift.confirmed`).
    why: why nothing was compared; "" where something was.
    """

    run: int
    street: str
    scenario: str
    controller: str
    begin_s: float
    end_s: float
    pieces: int
    profile: bool
    checks: tuple[Check, ...]
    outcomes: tuple[Outcome, ...]
    calibration: Calibration
    calibration_of: dict[str, Calibration]
    quality: tuple[Quality, ...]
    latency: Latency
    looked_at: datetime
    why: str = ""

    def figures(self) -> dict[str, float | None]:
        """For alert rules; None where a figure is not known, as those of a calibration that is too
        small for an interval.

        drifting: inputs that drift; drift_share: of those that can be judged; outcome_drift: 1
        where an outcome drifts, else 0; calibration_error: 0 to 1; confidence_excess: mean
        confidence less the share that came true; completeness: of the worst junction, 0 to 1;
        freshness_s: of the worst; silent_lanes: of all; decide_p99_ms.
        """
        judged = [c.drift for c in self.checks if c.drift.p is not None]
        outcomes = [o.drift for o in self.outcomes if not o.drift.why]
        fresh = [q.freshness_s for q in self.quality if q.freshness_s is not None]
        decide, c = self.latency.decide_ms, self.calibration
        drifting = float(sum(d.drifts for d in judged))
        is_known = c.interval_95 is not None
        return {
            "drifting": drifting if judged else None,
            "drift_share": drifting / len(judged) if judged else None,
            "outcome_drift": float(any(d.drifts for d in outcomes)) if outcomes else None,
            "calibration_error": c.error if is_known else None,
            "confidence_excess": c.excess if is_known else None,
            "completeness": min((q.completeness for q in self.quality), default=None),
            "freshness_s": max(fresh, default=None),
            "silent_lanes": float(sum(len(q.silent_lanes) for q in self.quality)),
            "decide_p99_ms": decide.p99 if decide is not None else None,
        }

    def of_junction(self, junction: str) -> Monitoring:
        """The same of one junction alone; outcomes and latency are of the whole street. Raises
        MissingError for an unknown one.
        """
        quality = tuple(q for q in self.quality if q.junction == junction)
        if not quality:
            raise MissingError(f"junction {junction!r} of {self.street!r} has no observations")
        return replace(
            self,
            checks=tuple(c for c in self.checks if c.junction == junction),
            calibration=self.calibration_of[junction],
            calibration_of={junction: self.calibration_of[junction]},
            quality=quality,
        )


@dataclass(frozen=True, slots=True)
class _Piece:
    """A span of one run; of the reference, whole days before the window, or another run's same."""

    run: int
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class _Series:
    """Minutes of one figure, a piece after the other. values: float (rows,); slot: int (rows,),
    which quarter of an hour of the window; piece: int (rows,), which piece.
    """

    values: FloatArray
    slot: CountArray
    piece: CountArray


_STREET = ""  # stands for the junction where all of them are meant
_NONE = _Series(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))


def monitor(database: Database, street: str, window_s: float = WINDOW_S) -> Monitoring:
    """Of the newest run of `street`. Raises MissingError where nothing of it is in the record."""
    now = datetime.now(UTC)
    runs = database.rows(
        "SELECT id, scenario, controller FROM run WHERE street = :street ORDER BY id DESC LIMIT 1",
        street=street,
    )
    spans = database.rows(JUNCTIONS, run=runs[0]["id"]) if runs else []
    if not spans:
        raise MissingError(f"nothing of street {street!r} was observed yet")
    run, names = runs[0]["id"], [row["junction"] for row in spans]
    first_s, end_s = _span(spans)
    window = _Piece(run, max(end_s - window_s, first_s), end_s)
    pieces = _reference(database, street, runs[0], window, first_s)
    bins = _bins(database, window, names)
    current = _series([bins], [window])
    reference = _series([_bins(database, piece, names) for piece in pieces], pieces)
    profile = len(pieces) >= LEAST_PROFILE_PIECES
    checks = [
        *_checks(reference, current, names, profile),
        *_signal_checks(database, pieces, window),
    ]
    of_all, of_each = _calibrations(database, _newest([*pieces, window], window_s), names)
    found = confirmed(check.drift for check in checks)
    return Monitoring(
        run=run,
        street=street,
        scenario=runs[0]["scenario"],
        controller=runs[0]["controller"],
        begin_s=window.begin_s,
        end_s=window.end_s,
        pieces=len(pieces),
        profile=profile,
        checks=tuple(replace(c, drift=d) for c, d in zip(checks, found, strict=True)),
        outcomes=_outcomes(reference, current, profile),
        calibration=of_all,
        calibration_of=of_each,
        quality=_quality(database, window, names, bins, now),
        latency=_latency(database, window),
        looked_at=now,
        why=""
        if pieces
        else f"neither an earlier day of run {run} is in the record, nor an earlier run of "
        f"{street!r} with the same scenario and controller: there is no reference yet",
    )


def _reference(
    database: Database, street: str, run: dict[str, Any], window: _Piece, first_s: float
) -> list[_Piece]:
    """The newest PIECES of which enough was recorded, the oldest first."""
    found = list(_days_before(window, window.run, first_s, window.begin_s))
    earlier = database.rows(
        EARLIER_RUNS,
        street=street,
        scenario=run["scenario"],
        controller=run["controller"],
        run=window.run,
        most=EARLIER,
    )
    for row in earlier:
        if len(found) >= PIECES:
            break
        if spans := database.rows(JUNCTIONS, run=row["id"]):
            found += _days_before(window, row["id"], *_span(spans))
    return found[:PIECES][::-1]


def _span(spans: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """[begin, end) of the minutes of a run. spans: rows of JUNCTIONS."""
    first_s, last_s = min(r["first_s"] for r in spans), max(r["last_s"] for r in spans)
    return first_s // BIN_S * BIN_S, (last_s // BIN_S + 1.0) * BIN_S


def _days_before(window: _Piece, run: int, first_s: float, last_s: float) -> Iterator[_Piece]:
    """Parts of [first_s, last_s) of a run that are of the window's time of day and not much
    shorter, the newest first. Of the window's own run they end where it begins.
    """
    least_s = LEAST_OF_WINDOW * (window.end_s - window.begin_s)
    newest = int((last_s - window.begin_s) // DAY_S) + 1
    for day in range(newest, newest - PIECES - 1, -1):
        begin_s = window.begin_s + day * DAY_S
        end_s = min(window.end_s + day * DAY_S, last_s)
        lasted_s = end_s - max(begin_s, first_s)
        if lasted_s > 0.0 and lasted_s >= least_s and (run, day) != (window.run, 0):
            yield _Piece(run, begin_s, end_s)


def _bins(database: Database, piece: _Piece, names: Sequence[str]) -> list[dict[str, Any]]:
    return database.rows(
        BINS,
        run=piece.run,
        junctions=list(names),
        begin=piece.begin_s,
        end=piece.end_s,
        bin_s=BIN_S,
    )


def _series(
    bins: Sequence[Sequence[dict[str, Any]]], pieces: Sequence[_Piece]
) -> dict[tuple[str, str], _Series]:
    """By junction and figure, and of the mean over the junctions by _STREET."""
    found: dict[tuple[str, str], list[tuple[float, int, int]]] = {}
    for number, (rows, piece) in enumerate(zip(bins, pieces, strict=True)):
        of_street: dict[tuple[str, int], list[float]] = {}
        for row in rows:
            for figure in (*FIGURES, "performance"):
                if row[figure] is not None:
                    entry = (row[figure], _slot(row["bin"], piece), number)
                    found.setdefault((row["junction"], figure), []).append(entry)
                    of_street.setdefault((figure, row["bin"]), []).append(row[figure])
        for (figure, at), values in sorted(of_street.items()):
            entry = (sum(values) / len(values), _slot(at, piece), number)
            found.setdefault((_STREET, figure), []).append(entry)
    return {key: _Series(*_columns(rows)) for key, rows in found.items()}


def _slot(at: int, piece: _Piece) -> int:
    return int((at * BIN_S - piece.begin_s) // PROFILE_S)


def _columns(rows: list[tuple[float, int, int]]) -> tuple[FloatArray, CountArray, CountArray]:
    values, slot, piece = zip(*rows, strict=True)
    return np.array(values, np.float64), np.array(slot, np.int64), np.array(piece, np.int64)


def _without_usual(
    reference: _Series, current: _Series, profile: bool
) -> tuple[FloatArray, FloatArray, CountArray]:
    """Values of the reference and the current ones, both less what their quarter of an hour usually
    has, and the piece of each row of the reference. Usual is the median of the means that the
    (other) pieces have; rows that no other piece has are left out. As they are without a profile.
    Rounded: what is always 0.1 is that less a mean of so many, but for the last digit.
    """
    if not profile or not len(reference.values):
        return reference.values, current.values, reference.piece
    pieces = int(reference.piece.max()) + 1
    slots = int(max(reference.slot.max(), current.slot.max(initial=0))) + 1
    sums, counts = np.zeros((pieces, slots)), np.zeros((pieces, slots))
    np.add.at(sums, (reference.piece, reference.slot), reference.values)
    np.add.at(counts, (reference.piece, reference.slot), 1.0)
    means = np.where(counts > 0.0, sums / np.maximum(counts, 1.0), np.nan)
    others = [_median_of_known(np.delete(means, one, axis=0)) for one in range(pieces)]
    usual = np.stack(others)[reference.piece, reference.slot]
    usual_now = _median_of_known(means)[current.slot]
    is_known, is_known_now = np.isfinite(usual), np.isfinite(usual_now)
    return (
        (reference.values - usual)[is_known].round(DIGITS),
        (current.values - usual_now)[is_known_now].round(DIGITS),
        reference.piece[is_known],
    )


def _median_of_known(means: FloatArray) -> FloatArray:
    """Of each column, of what is not nan; nan where all is."""
    known = np.isfinite(means).any(axis=0)
    found = np.full(means.shape[1], np.nan)
    found[known] = np.nanmedian(means[:, known], axis=0)
    return found


def _checks(
    reference: dict[tuple[str, str], _Series],
    current: dict[tuple[str, str], _Series],
    names: Sequence[str],
    profile: bool,
) -> Iterator[Check]:
    for junction in names:
        for figure in FIGURES:
            before = reference.get((junction, figure), _NONE)
            now = current.get((junction, figure), _NONE)
            then, newer, piece = _without_usual(before, now, profile)
            drift = drift_of_numbers(then, newer, piece=piece)
            yield Check(junction, figure, _mean(now.values), _mean(before.values), drift)


def _mean(values: FloatArray) -> float | None:
    return float(values.mean()) if len(values) else None


def _signal_checks(database: Database, pieces: Sequence[_Piece], window: _Piece) -> Iterator[Check]:
    """Which signal group begins its green, one after the other, at each junction."""
    now = _greens(database, window)
    before: dict[str, list[int]] = {}
    numbers: dict[str, list[int]] = {}
    for number, piece in enumerate(pieces):
        for junction, groups in _greens(database, piece).items():
            before.setdefault(junction, []).extend(groups)
            numbers.setdefault(junction, []).extend([number] * len(groups))
    for junction in sorted({*now, *before}):
        of_piece = np.array(numbers.get(junction, []), np.int64)
        drift = drift_of_categories(before.get(junction, []), now.get(junction, []), piece=of_piece)
        yield Check(junction, SIGNALS, None, None, drift)


def _greens(database: Database, piece: _Piece) -> dict[str, list[int]]:
    rows = database.rows(GREENS, run=piece.run, begin=piece.begin_s, end=piece.end_s, go=GO)
    return {row["junction"]: row["groups"] for row in rows}


def _outcomes(
    reference: dict[tuple[str, str], _Series],
    current: dict[tuple[str, str], _Series],
    profile: bool,
) -> tuple[Outcome, ...]:
    found = []
    for figure, sign in (("wait_s", 1.0), ("performance", -1.0)):
        before = reference.get((_STREET, figure), _NONE)
        now = current.get((_STREET, figure), _NONE)
        then, newer, piece = _without_usual(before, now, profile)
        drift = residual_drift(sign * then, sign * newer, piece=piece)
        found.append(Outcome(figure, drift))
    return tuple(found)


def _newest(pieces: Sequence[_Piece], window_s: float) -> list[_Piece]:
    """The last of them that together last for window_s, or all: one run may be a short one."""
    found, lasted_s = list[_Piece](), 0.0
    for piece in reversed(pieces):
        if lasted_s >= window_s:
            break
        found.append(piece)
        lasted_s += piece.end_s - piece.begin_s
    return found


def _calibrations(
    database: Database, pieces: Sequence[_Piece], names: Sequence[str]
) -> tuple[Calibration, dict[str, Calibration]]:
    """Of all junctions together, and of each: confidences, each with what its junction's
    `performance` was LEAD_S later.
    """
    found: dict[str, list[tuple[float, bool, int]]] = {name: [] for name in names}
    for number, piece in enumerate(pieces):
        rows = database.rows(
            PREDICTIONS,
            run=piece.run,
            junctions=list(names),
            begin=piece.begin_s,
            end=piece.end_s,
            bin_s=BIN_S,
        )
        later = {(r["junction"], r["at_s"] // BIN_S): r["performance"] for r in rows}
        first_block = number * round(DAY_S / CALIBRATION_BLOCK_S)
        for row in rows:
            performance = later.get((row["junction"], (row["at_s"] + LEAD_S) // BIN_S))
            if performance is not None:
                block = int((row["at_s"] - piece.begin_s) // CALIBRATION_BLOCK_S)
                confidence = min(max(row["confidence"], 0.0), 1.0)
                is_true = performance >= CAME_TRUE
                found[row["junction"]].append((confidence, is_true, first_block + block))
    of_all = [entry for entries in found.values() for entry in entries]
    return _calibration(of_all), {name: _calibration(found[name]) for name in names}


def _calibration(rows: list[tuple[float, bool, int]]) -> Calibration:
    if not rows:
        return reliability(np.zeros(0), np.zeros(0, bool), np.zeros(0, np.int64))
    confidence, true, block = zip(*rows, strict=True)
    return reliability(np.array(confidence), np.array(true), np.array(block))


def _quality(
    database: Database,
    window: _Piece,
    names: Sequence[str],
    bins: list[dict[str, Any]],
    now: datetime,
) -> tuple[Quality, ...]:
    silent: dict[str, list[str]] = {}
    for row in database.rows(SILENT, run=window.run):
        silent.setdefault(row["junction"], []).append(row["lane"])
    minutes = max(round((window.end_s - window.begin_s) / BIN_S), 1)
    found = []
    for name in names:
        own = [row for row in bins if row["junction"] == name]
        # of the last minute, not the largest: the clock may have been set back since
        newest = next((row["at"] for row in reversed(own) if row["at"] is not None), None)
        found.append(
            Quality(
                junction=name,
                completeness=len(own) / minutes,
                freshness_s=max((now - newest).total_seconds(), 0.0) if newest else None,
                silent_lanes=tuple(silent.get(name, ())),
            )
        )
    return tuple(found)


def _latency(database: Database, window: _Piece) -> Latency:
    rows = database.rows(CYCLES, run=window.run, begin=window.begin_s, end=window.end_s)
    ended = [row["ok"] for row in rows if row["ok"] is not None]
    return Latency(
        n=len(rows),
        decide_ms=_quantiles([r["decide_ms"] for r in rows if r["decide_ms"] is not None]),
        processing_ms=_quantiles(
            [r["processing_ms"] for r in rows if r["processing_ms"] is not None]
        ),
        succeeded=sum(ended) / len(ended) if ended else None,
    )


def _quantiles(values: Sequence[float]) -> Quantiles | None:
    if not values:
        return None
    p50, p95, p99 = np.percentile(np.array(values), (50, 95, 99))
    return Quantiles(len(values), float(p50), float(p95), float(p99), float(max(values)))
