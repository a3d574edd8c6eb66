"""Histories of signals and detectors, from the engine's record or a controller's high-resolution
log.

Codes: Indiana Traffic Signal Hi Resolution Data Logger Enumerations (Purdue University, 2012); the
    splits' 300 + phase - 1 are MAXTIME's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf

import numpy as np

from headway.roads import Colour
from headway.store import Database
from headway.values import BoolArray, FloatArray

# plain numbers, as the database has them
RED = int(Colour.RED)
YELLOW = int(Colour.YELLOW)
PERMISSIVE = int(Colour.PERMISSIVE)
GREEN = int(Colour.GREEN)
BEGIN_GREEN = 1
BEGIN_YELLOW = 8
BEGIN_RED = 10
GAP_OUT = 4
MAX_OUT = 5
FORCE_OFF = 6
WALK = 21
DONT_WALK = 23
CALL = 45
OFF = 81
ON = 82
SPLIT = 300
EXTENSION_S = 3.0
LONGEST_GREEN_S = 90.0
PHASES = 16
CONTEXT_S = 3600.0  # before and after a window
COLOUR_OF_CODE = {BEGIN_GREEN: GREEN, BEGIN_YELLOW: YELLOW, BEGIN_RED: RED}


class Lamp(IntEnum):
    """What a signal shows, where permissive and protected green are one."""

    RED = 0
    GREEN = 1
    YELLOW = 2


Key = tuple[str, int]
Series = tuple[FloatArray, FloatArray]
Rows = Iterable[tuple[float, str, int, int]]
NOTHING: Series = (np.zeros(0), np.zeros(0))


@dataclass(frozen=True, slots=True)
class History:
    """What signal groups showed and their detectors reported, by (junction, group): times (s,
    ascending) and values.

    colours: `RED` to `GREEN`, from each time on. detectors: 1 occupied, 0 free; of a crossing,
        whether a pedestrian waits. crossings: pedestrian groups.
    ended: what a controller tells of its terminations, `GAP_OUT` to `FORCE_OFF` at the end of a
        green; empty where the controller reports none.
    begin_s, end_s: the window [begin, end) that is asked for. What is known of before and after it
        is here, too, so that its measures know what its begin found and what became of its end.
    first_s, last_s: of all that was recorded of the run; what was shown last counts until then.
    """

    colours: Mapping[Key, Series]
    detectors: Mapping[Key, Series]
    crossings: frozenset[Key] = frozenset()
    ended: Mapping[Key, Series] = field(default_factory=dict)
    begin_s: float = -inf
    end_s: float = inf
    first_s: float = inf
    last_s: float = -inf

    def shown(self) -> list[Key]:
        """The groups that showed anything in the window; in one of no length none did."""
        if self.begin_s >= self.end_s:
            return []
        return [
            key
            for key, (at, _) in sorted(self.colours.items())
            if at[0] < self.end_s and self.begin_s <= self.until(key)
        ]

    def until(self, key: Key) -> float:
        """How long it is known what a group showed, s."""
        return max(float(self.colours[key][0][-1]), self.last_s)

    def within(self, at_s: FloatArray) -> BoolArray:
        """Which of these times are in the window."""
        return (at_s >= self.begin_s) & (at_s < self.end_s)

    def detector(self, key: Key) -> Series:
        """When the group's detector changed, and whether it was occupied from then on (1 or 0)."""
        return self.detectors.get(key, NOTHING)


# the groups of a table, one look into its key each; a scan of a long run takes seconds
GROUPS = """
    WITH RECURSIVE g AS (
        (SELECT junction, signal_group FROM {table}
            WHERE run_id = :run AND (CAST(:junction AS text) IS NULL OR junction = :junction)
            ORDER BY junction, signal_group LIMIT 1)
        UNION ALL
        SELECT next.junction, next.signal_group
        FROM g CROSS JOIN LATERAL (SELECT junction, signal_group FROM {table}
            WHERE run_id = :run AND (CAST(:junction AS text) IS NULL OR junction = :junction)
                AND (junction, signal_group) > (g.junction, g.signal_group)
            ORDER BY junction, signal_group LIMIT 1) next
    )
"""
# of each group the rows of the window and of the context around it, and the last one before these
RECORDED = (
    GROUPS
    + """
    SELECT g.junction, g.signal_group, of_group.at_s, of_group.value
    FROM g CROSS JOIN LATERAL (
        SELECT
            array_agg(r.at_s ORDER BY r.at_s) AS at_s,
            array_agg(r.value ORDER BY r.at_s) AS value
        FROM (
            SELECT at_s, {column} AS value
            FROM {table}
            WHERE run_id = :run AND junction = g.junction AND signal_group = g.signal_group
                AND at_s >= :from_s AND at_s < :to_s
            UNION ALL
            (
                SELECT at_s, {column}
                FROM {table}
                WHERE run_id = :run AND junction = g.junction AND signal_group = g.signal_group
                    AND at_s < :from_s
                ORDER BY at_s DESC
                LIMIT 1
            )
        ) r
    ) of_group
    WHERE of_group.at_s IS NOT NULL
"""
)
# of all that was recorded of the groups
ENDS = (
    GROUPS
    + """
    SELECT min(ends.first_s) AS first_s, max(ends.last_s) AS last_s
    FROM g CROSS JOIN LATERAL (
        SELECT min(at_s) AS first_s, max(at_s) AS last_s
        FROM {table}
        WHERE run_id = :run AND junction = g.junction AND signal_group = g.signal_group
    ) ends
"""
)
OBSERVED = """
    WITH RECURSIVE j AS (
        (SELECT junction FROM observation WHERE run_id = :run ORDER BY junction LIMIT 1)
        UNION ALL
        SELECT next.junction
        FROM j CROSS JOIN LATERAL (SELECT junction FROM observation
            WHERE run_id = :run AND junction > j.junction ORDER BY junction LIMIT 1) next
    )
    SELECT min(ends.first_s) AS first_s, max(ends.last_s) AS last_s
    FROM j CROSS JOIN LATERAL (
        SELECT min(at_s) AS first_s, max(at_s) AS last_s
        FROM observation
        WHERE run_id = :run AND junction = j.junction
    ) ends
"""


def recorded(
    database: Database,
    run: int,
    junction: str | None = None,
    begin_s: float = -inf,
    end_s: float = inf,
) -> History:
    """The history of run number `run` of the engine: of the window [begin_s, end_s), of an hour
    before and after it, and what was shown as that began.
    """
    found: list[dict[Key, Series]] = []
    for table, column in (
        ("signal_state", "colour"),
        ("detector_state", "CASE WHEN occupied THEN 1 ELSE 0 END"),
    ):
        rows = database.rows(
            RECORDED.format(table=table, column=column),
            run=run,
            junction=junction,
            from_s=begin_s - CONTEXT_S,
            to_s=end_s + CONTEXT_S,
        )
        found.append(
            {
                (r["junction"], r["signal_group"]): (
                    np.array(r["at_s"], np.float64),
                    np.array(r["value"], np.float64),
                )
                for r in rows
            }
        )
    crossings = database.rows(
        "SELECT junction, signal_group FROM crossing WHERE run_id = :run", run=run
    )
    ends = [
        *(
            database.rows(ENDS.format(table=table), run=run, junction=None)[0]
            for table in ("signal_state", "detector_state")
        ),
        *database.rows(OBSERVED, run=run),
    ]
    return History(
        colours=found[0],
        detectors=found[1],
        crossings=frozenset((r["junction"], r["signal_group"]) for r in crossings),
        begin_s=begin_s,
        end_s=end_s,
        first_s=min((e["first_s"] for e in ends if e["first_s"] is not None), default=inf),
        last_s=max((e["last_s"] for e in ends if e["last_s"] is not None), default=-inf),
    )


def logged(rows: Rows, phase_of: Mapping[tuple[str, int], int], each: bool = False) -> History:
    """The history that a controller's log tells: rows of (time s, device, event code, parameter).

    phase_of: phase of each (device, detector channel) that is to be heard. A phase's detectors
        count as one, occupied while any is; with `each`,
    every actuation of any of them counts by itself (to count arrivals). Signal group k is phase k +
    1.
    """
    colours: dict[Key, list[tuple[float, float]]] = {}
    detectors: dict[Key, list[tuple[float, float]]] = {}
    ended: dict[Key, list[tuple[float, float]]] = {}
    occupied: dict[Key, set[int]] = {}
    for at, device, code, parameter in sorted(rows, key=lambda r: r[0]):
        if code in COLOUR_OF_CODE:
            colours.setdefault((device, parameter - 1), []).append((at, COLOUR_OF_CODE[code]))
        elif code in (GAP_OUT, MAX_OUT, FORCE_OFF):
            ended.setdefault((device, parameter - 1), []).append((at, code))
        elif code in (ON, OFF) and (device, parameter) in phase_of:
            key = (device, phase_of[device, parameter] - 1)
            channels = occupied.setdefault(key, set())
            before = bool(channels)
            (channels.add if code == ON else channels.discard)(parameter)
            if each and code == ON:
                detectors.setdefault(key, []).extend(((at, 1.0), (at, 0.0)))
            elif not each and bool(channels) != before:
                detectors.setdefault(key, []).append((at, float(bool(channels))))
    return History(_series(colours), _series(detectors), ended=_series(ended))


def _series(rows: Mapping[Key, list[tuple[float, float]]]) -> dict[Key, Series]:
    tables = {key: np.array(rows[key], np.float64) for key in sorted(rows)}
    return {key: (table[:, 0], table[:, 1]) for key, table in tables.items()}


@dataclass(frozen=True, slots=True)
class Greens:
    """Whole greens of one group, n of them; seconds. yellow_s: of the yellow after it, 0 without
    one. why: GAP_OUT, MAX_OUT or FORCE_OFF.
    """

    begin_s: FloatArray
    end_s: FloatArray
    yellow_s: FloatArray
    why: FloatArray


def greens(history: History, key: Key, longest_s: float = LONGEST_GREEN_S) -> Greens:
    """Greens that began and ended in the window, and what ended each: what the controller reported
    (0 where it reported nothing of this one), if it reports any; otherwise its longest length, else
    no call for `EXTENSION_S` (gap-out), else others' turn (force-off).
    """
    at, lamp = lamps(history.colours[key])
    on, occupied = history.detector(key)
    reported_at, reported = history.ended.get(key, NOTHING)
    found = []
    for k in np.flatnonzero(lamp == Lamp.GREEN).tolist():
        if k == 0 or k + 1 >= len(at):
            continue
        begin, end = float(at[k]), float(at[k + 1])
        if begin < history.begin_s or end >= history.end_s:
            continue
        yellow = float(at[k + 2] - end) if lamp[k + 1] == Lamp.YELLOW and k + 2 < len(at) else 0.0
        if history.ended:
            last = int(np.searchsorted(reported_at, end, "right")) - 1
            why = float(reported[last]) if last >= 0 and reported_at[last] > begin else 0.0
        else:
            last = int(np.searchsorted(on, end, "right")) - 1
            calm = last < 0 or (occupied[last] == 0 and end - on[last] >= EXTENSION_S)
            why = MAX_OUT if end - begin >= longest_s else GAP_OUT if calm else FORCE_OFF
        found.append((begin, end, yellow, why))
    table = np.array(found, np.float64).reshape(len(found), 4)
    return Greens(*table.T)


def lamps(colour: Series) -> Series:
    """The times at which a signal changed, and the `Lamp` that it showed from then on."""
    at, value = colour
    dark = np.where(value == YELLOW, Lamp.YELLOW, Lamp.RED)
    lamp = np.where(value >= PERMISSIVE, Lamp.GREEN, dark).astype(np.float64)
    first = np.concatenate([[True], lamp[1:] != lamp[:-1]])[: len(lamp)]
    return at[first], lamp[first]
