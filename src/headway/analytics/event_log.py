"""A run's signals and detectors as the log that a controller would have written, as a stream: what
is held of it does not grow with the run.

Codes: see `highres`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from heapq import heappop, heappush
from itertools import groupby, islice
from math import inf
from operator import itemgetter
from pathlib import Path
from typing import Any

from headway.analytics.highres import (
    BEGIN_GREEN,
    BEGIN_RED,
    BEGIN_YELLOW,
    CALL,
    DONT_WALK,
    EXTENSION_S,
    FORCE_OFF,
    GAP_OUT,
    LONGEST_GREEN_S,
    MAX_OUT,
    OFF,
    ON,
    PERMISSIVE,
    PHASES,
    SPLIT,
    WALK,
    YELLOW,
    Key,
    Lamp,
)
from headway.store import Database

# (s, whether of a signal, junction, group, value): a colour, or 1 and 0 of a detector
Change = tuple[float, bool, str, int, int]
Row = tuple[float, str, int, int]  # time s, device, code, parameter
MOST_READ = 10_000  # changes at a time
FIRST_PART_S = 60.0
SHORTEST_PART_S = 1e-3
LONGEST_YELLOW_S = 60.0  # one that lasts longer is counted with this, or all after it would wait

KEYS = """
    SELECT junction, signal_group, min(at_s) AS first_s, max(at_s) AS last_s
    FROM signal_state
    WHERE run_id = :run
    GROUP BY 1, 2
    ORDER BY 1, 2
"""
DETECTED = (
    "SELECT min(at_s) AS first_s, max(at_s) AS last_s FROM detector_state WHERE run_id = :run"
)
# by group, since the tables' keys are in this order
CHANGES = """
    WITH
        k AS (
            SELECT *
            FROM unnest(CAST(:junctions AS text[]), CAST(:groups AS integer[]))
                AS k (junction, signal_group)
        )
    SELECT at_s, TRUE AS is_signal, junction, signal_group, value
    FROM k
    CROSS JOIN LATERAL (
        SELECT at_s, CAST(colour AS integer) AS value
        FROM signal_state s
        WHERE s.run_id = :run
            AND s.junction = k.junction
            AND s.signal_group = k.signal_group
            AND at_s >= :from_s
            AND at_s < :to_s
    ) s
    UNION ALL
    SELECT at_s, FALSE, junction, signal_group, value
    FROM k
    CROSS JOIN LATERAL (
        SELECT at_s, CAST(occupied AS integer) AS value
        FROM detector_state d
        WHERE d.run_id = :run
            AND d.junction = k.junction
            AND d.signal_group = k.signal_group
            AND at_s >= :from_s
            AND at_s < :to_s
    ) d
    LIMIT :most
"""


@dataclass(slots=True)
class _Group:
    """One signal group as of now. since_s: its lamp shows this; is_first: from the begin of the
    record on. green: begin and end of the green whose yellow is shown.
    """

    lamp: Lamp | None = None
    since_s: float = -inf
    is_first: bool = True
    occupied: bool = False
    reported_s: float = -inf
    green: tuple[float, float] | None = None


def log_of(
    changes: Iterable[Change], crossings: frozenset[Key], longest_s: float = LONGEST_GREEN_S
) -> Iterator[Row]:
    """The log of changes in order of time, in order of its rows.

    Parameter is the signal group of the junction, from 1 on; each has one detector, of the same
    number. Splits (green and yellow, whole seconds) are given at the end of the green, for the
    first `PHASES` groups, as the codes have room for no more.
    """
    groups: dict[Key, _Group] = {}
    in_yellow: dict[Key, float] = {}  # when its row is due
    waiting: list[Row] = []  # until the splits before them are known
    for at, of_one_time in groupby(changes, key=itemgetter(0)):
        for key in [k for k, due in in_yellow.items() if at - due > LONGEST_YELLOW_S]:
            heappush(waiting, _split(key, groups[key], in_yellow.pop(key) + LONGEST_YELLOW_S))
        for _, is_signal, junction, number, value in sorted(of_one_time, key=itemgetter(1)):
            key = (junction, number)
            group = groups.setdefault(key, _Group())
            if not is_signal:
                rows = _reported(key, group, at, bool(value), key in crossings)
            elif (lamp := _lamp(value)) == group.lamp:
                continue
            else:
                if in_yellow.pop(key, None) is not None:
                    heappush(waiting, _split(key, group, at))
                rows = _shown(key, group, at, lamp, key in crossings, longest_s)
                if group.green is not None and lamp == Lamp.YELLOW and number < PHASES:
                    in_yellow[key] = at
                elif group.green is not None and number < PHASES:
                    rows.append(_split(key, group, at))
                group.lamp, group.since_s, group.is_first = lamp, at, group.lamp is None
            for row in rows:
                heappush(waiting, row)
        known_s = min(in_yellow.values(), default=at)
        while waiting and waiting[0][0] < known_s:
            yield heappop(waiting)
    for key, end_s in in_yellow.items():
        heappush(waiting, _split(key, groups[key], end_s))
    while waiting:
        yield heappop(waiting)


def _lamp(colour: int) -> Lamp:
    if colour >= PERMISSIVE:
        return Lamp.GREEN
    return Lamp.YELLOW if colour == YELLOW else Lamp.RED


def _reported(key: Key, group: _Group, at: float, is_on: bool, is_crossing: bool) -> list[Row]:
    group.occupied, group.reported_s = is_on, at
    device, phase = key[0], key[1] + 1
    if is_crossing:
        return [(at, device, CALL, phase)] if is_on else []
    return [(at, device, ON if is_on else OFF, phase)]


def _shown(
    key: Key, group: _Group, at: float, lamp: Lamp, is_crossing: bool, longest_s: float
) -> list[Row]:
    """Rows of another lamp, and of the green that it ends; `group.green` is that one."""
    device, phase = key[0], key[1] + 1
    group.green = None
    if is_crossing:
        walk = WALK if lamp == Lamp.GREEN else DONT_WALK
        return [] if lamp == Lamp.YELLOW else [(at, device, walk, phase)]
    rows = [(at, device, (BEGIN_RED, BEGIN_GREEN, BEGIN_YELLOW)[lamp], phase)]
    if group.lamp == Lamp.GREEN and not group.is_first:
        group.green = (group.since_s, at)
        is_calm = not group.occupied and at - group.reported_s >= EXTENSION_S
        is_longest = at - group.since_s >= longest_s
        why = MAX_OUT if is_longest else GAP_OUT if is_calm else FORCE_OFF
        rows.append((at, device, why, phase))
    return rows


def _split(key: Key, group: _Group, dark_s: float) -> Row:
    """Of the green of a group, whose yellow ended at dark_s."""
    begin_s, end_s = group.green or (dark_s, dark_s)
    return end_s, key[0], SPLIT + key[1], round(end_s + (dark_s - end_s) - begin_s)


def changes_of(database: Database, run: int) -> Iterator[Change]:
    """All changes of a run's signals, and of the detectors that belong to one, in order of time;
    at most `MOST_READ` are held at a time, or those of one instant.
    """
    keys = database.rows(KEYS, run=run)
    (detected,) = database.rows(DETECTED, run=run)
    ends = [*keys, detected] if detected["first_s"] is not None else keys
    if not keys:
        return
    at, last_s = min(k["first_s"] for k in ends), max(k["last_s"] for k in ends)
    length_s = FIRST_PART_S
    while at <= last_s:
        is_shortest = length_s <= SHORTEST_PART_S
        rows = database.rows(
            CHANGES,
            run=run,
            junctions=[k["junction"] for k in keys],
            groups=[k["signal_group"] for k in keys],
            from_s=at,
            to_s=at + length_s,
            most=None if is_shortest else MOST_READ,
        )
        if len(rows) >= MOST_READ and not is_shortest:
            length_s /= 4.0
            continue
        yield from sorted(tuple(row.values()) for row in rows)
        at += length_s
        if len(rows) < MOST_READ // 8:
            length_s *= 2.0


def high_resolution(database: Database, run: int, offset: int = 0) -> Iterator[dict[str, Any]]:
    """Events of a run as such a log, after the first `offset`; timestamp is the day of the run and
    the street's own clock (at_s). Nothing of a run that is not there.
    """
    crossings = database.rows(
        "SELECT junction, signal_group FROM crossing WHERE run_id = :run", run=run
    )
    walks = frozenset((row["junction"], row["signal_group"]) for row in crossings)
    for begun in database.rows(
        "SELECT date_trunc('day', begun_at) AS day FROM run WHERE id = :run", run=run
    ):
        rows = log_of(changes_of(database, run), walks)
        for at, device, code, parameter in islice(rows, offset, None):
            yield {
                "timestamp": begun["day"] + timedelta(seconds=at),
                "at_s": at,
                "device": device,
                "event": code,
                "parameter": parameter,
            }


def export(database: Database, run: int, events: Path, detectors: Path) -> int:
    """Write a run's log, and its detectors' configuration, as CSV in the columns that the PyPI
    package atspm takes; how many events.
    """
    count, pairs = 0, set[tuple[str, int]]()
    with events.open("w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream)
        out.writerow(("TimeStamp", "DeviceId", "EventId", "Parameter"))
        for r in high_resolution(database, run):
            at = f"{r['timestamp']:%Y-%m-%d %H:%M:%S.%f}"[:-3]
            out.writerow((at, r["device"], r["event"], r["parameter"]))
            count += 1
            if r["event"] in (ON, OFF):
                pairs.add((r["device"], r["parameter"]))
    with detectors.open("w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream)
        out.writerow(("DeviceId", "Phase", "Parameter", "Function"))
        out.writerows(
            (device, phase, phase, use)
            for device, phase in sorted(pairs)
            for use in ("Presence", "Advance", "Yellow_Red")
        )
    return count
