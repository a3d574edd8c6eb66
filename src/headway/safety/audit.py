"""An audit of what was really shown, after the fact: SUMO's own record of its signals against the
rules.

Written apart from the gate, over whole time lines instead of seconds, so that an error in one is
not in the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, pairwise
from operator import itemgetter

import numpy as np

from headway.roads import Junction, Network, SignalGroup, Timing
from headway.values import BoolArray, Event, FloatArray

EPS_S = 1e-3
FLASH_ENTRY_RED_S = 2.0
FLASH_EXIT_RED_S = 6.0
SignalTimeline = list[tuple[float, str]]
# by junction: from when to when (s) it served an emergency vehicle
Services = Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """A rule that was broken on the street: when (s), where, which, with the signal groups'
    places.
    """

    at_s: float
    tl_id: str
    rule: str
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """The time line of one junction: a row for each instant at which a signal changed.

    times_s: float (rows,). The others: bool (rows, groups), what each group shows from then on.
    begin_s: the audit starts here.
    """

    junction: Junction
    times_s: FloatArray
    green: BoolArray
    permissive: BoolArray
    yellow: BoolArray
    flashing: BoolArray
    known: BoolArray
    begin_s: float

    def rows_from(self, time_s: float, changes: BoolArray) -> list[int]:
        """The rows of `changes`, bool (rows,), from `time_s` on."""
        return [row for row in np.flatnonzero(changes).tolist() if self.times_s[row] >= time_s]

    def end_s(self, row: int, shown: BoolArray) -> float:
        """When `shown`, bool (rows,), ends that is true in `row`; infinite if it does not."""
        return float(next(iter(self.times_s[row:][~shown[row:]]), np.inf))


def services(events: Iterable[Event]) -> Services:
    """When the junctions served emergency vehicles, from the events of a gate, oldest first. What
    has not ended ends never.
    """
    spans: dict[str, list[tuple[float, float]]] = {}
    for event in events:
        if event.kind == "safety.emergency":
            spans.setdefault(event.junction, []).append((event.at_s, np.inf))
        elif event.kind == "safety.emergency_ended" and event.junction in spans:
            own = spans[event.junction]
            own[-1] = (own[-1][0], event.at_s)
    return spans


def audit(
    network: Network,
    timing: Timing,
    lines: Mapping[str, SignalTimeline],
    grace_s: float,
    served: Services | None = None,
) -> list[AuditFinding]:
    """Every violation in the time lines; the first `grace_s` seconds (before the gate's first
    command) are left out.

    served: while a junction serves an emergency vehicle, it keeps no minimum cycle. Without it,
        none is served.

    Raises ValueError if there is no record of a programme: what was not recorded cannot be audited.
    """
    missing = [tl for junction in network.junctions for tl in junction.tl_ids if not lines.get(tl)]
    if missing:
        raise ValueError(
            f"there is no record of the signals of {', '.join(missing)}. List them under "
            "SaveTLSStates, and let the run begin."
        )
    found: list[AuditFinding] = []
    for junction in network.junctions:
        recording = _recording(network, junction, lines, grace_s)
        found += _wrong_colours(recording)
        found += _wrong_times(recording, timing, (served or {}).get(junction.id, ()))
        found += _early_starts(recording, timing)
        found += _wrong_flashes(recording)
    return found


def _recording(
    network: Network, junction: Junction, lines: Mapping[str, SignalTimeline], grace_s: float
) -> Recording:
    own = {tl: lines[tl] for tl in junction.tl_ids}
    rows = list(_joined(own, [network.groups[g] for g in junction.groups]))
    times_s = np.array([time_s for time_s, _ in rows])
    letters = np.array([list(letters) for _, letters in rows])
    return Recording(
        junction=junction,
        times_s=times_s,
        green=np.isin(letters, ["g", "G"]),
        permissive=np.isin(letters, ["g"]),
        yellow=np.isin(letters, ["y", "Y"]),
        flashing=np.isin(letters, ["o"]),
        known=np.isin(letters, list("rsyYgGo")),
        begin_s=float(times_s[0]) + grace_s,
    )


def _wrong_colours(recording: Recording) -> Iterator[AuditFinding]:
    """Conflicting greens of which none gives way, and unknown colours."""
    junction = recording.junction
    for row in np.flatnonzero(recording.times_s >= recording.begin_s):
        at_s = float(recording.times_s[row])
        permissive = recording.permissive[row]
        for a, b in combinations(np.flatnonzero(recording.green[row]).tolist(), 2):
            gives_way = (permissive[a] and junction.yields[a, b]) or (
                permissive[b] and junction.yields[b, a]
            )
            if junction.conflicts[a, b] and not gives_way:
                yield AuditFinding(at_s, junction.id, "conflict", (a, b))
        for g in np.flatnonzero(~recording.known[row]).tolist():
            yield AuditFinding(at_s, junction.id, "colour", (g,))


def _wrong_times(
    recording: Recording, timing: Timing, served: Sequence[tuple[float, float]]
) -> Iterator[AuditFinding]:
    """Greens and yellows that were too short, or in a wrong order. A green that was on at the start
    of the record has no beginning.
    """
    green = recording.green
    began = np.zeros_like(green)
    ended = np.zeros_like(green)
    began[1:] = green[1:] > green[:-1]
    ended[1:] = green[1:] < green[:-1]
    for g in range(green.shape[1]):
        yield from _short_greens(recording, timing, g, began[:, g])
        yield from _short_cycles(recording, timing, g, began[:, g], served)
        yield from _wrong_order(recording, g)
        for end in recording.rows_from(recording.begin_s, ended[:, g]):
            yield from _short_yellow(recording, timing, g, end)


def _short_greens(
    recording: Recording, timing: Timing, g: int, began: BoolArray
) -> Iterator[AuditFinding]:
    junction = recording.junction
    min_green_s = timing.min_green_s[junction.first + g]
    for start in recording.rows_from(recording.begin_s, began):
        end_s = recording.end_s(start, recording.green[:, g])
        if end_s - recording.times_s[start] + EPS_S < min_green_s:
            yield AuditFinding(end_s, junction.id, "minimum_green", (g,))


def _short_cycles(
    recording: Recording,
    timing: Timing,
    g: int,
    began: BoolArray,
    served: Sequence[tuple[float, float]],
) -> Iterator[AuditFinding]:
    """Starts of green too soon after the one before, for no emergency vehicle."""
    junction = recording.junction
    min_cycle_s = timing.min_cycle_s[junction.first + g]
    starts = recording.rows_from(recording.begin_s, began)
    for before, row in pairwise(starts):
        at_s = float(recording.times_s[row])
        # the end counts: the record of the signals is a step later than the gate
        is_served = any(begin_s - EPS_S <= at_s <= end_s + EPS_S for begin_s, end_s in served)
        if at_s - recording.times_s[before] + EPS_S < min_cycle_s and not is_served:
            yield AuditFinding(at_s, junction.id, "minimum_cycle", (g,))


def _wrong_order(recording: Recording, g: int) -> Iterator[AuditFinding]:
    """Yellow that follows red, or green that follows yellow."""
    green, yellow = recording.green[:, g], recording.yellow[:, g]
    red = recording.known[:, g] & ~green & ~yellow
    wrong = np.zeros_like(green)
    wrong[1:] = (red[:-1] & yellow[1:]) | (yellow[:-1] & green[1:])
    for row in recording.rows_from(recording.begin_s, wrong):
        yield AuditFinding(float(recording.times_s[row]), recording.junction.id, "order", (g,))


def _short_yellow(recording: Recording, timing: Timing, g: int, end: int) -> Iterator[AuditFinding]:
    junction = recording.junction
    end_s = float(recording.times_s[end])
    yellow_s = recording.end_s(end, recording.yellow[:, g]) - end_s
    if yellow_s + EPS_S < timing.yellow_s[junction.first + g]:
        yield AuditFinding(end_s, junction.id, "yellow", (g,))


def _early_starts(recording: Recording, timing: Timing) -> Iterator[AuditFinding]:
    """For each pair of conflicting groups: from the last instant at which one was not red to the
    first green of the other, the clearance of the one.
    """
    junction, times_s = recording.junction, recording.times_s[:, None]
    red = recording.known & ~recording.green & ~recording.yellow & ~recording.flashing
    turned_red = np.zeros_like(red)
    turned_red[1:] = red[1:] & ~red[:-1]
    turned_red &= times_s >= recording.begin_s
    red_since_s = np.maximum.accumulate(np.where(turned_red, times_s, -np.inf), axis=0)
    red_since_s[~red] = np.inf
    for a, b in np.argwhere(junction.conflicts).tolist():
        first_green = np.zeros(len(red), np.bool_)
        first_green[1:] = recording.green[1:, b] & ~recording.green[:-1, b]
        clear_s = red_since_s[:, a] + timing.clearance_s[junction.first + a]
        is_early = recording.times_s + EPS_S < clear_s
        # both green is a matter of right of way, see _wrong_colours
        for row in recording.rows_from(
            recording.begin_s, first_green & is_early & ~recording.green[:, a]
        ):
            yield AuditFinding(float(times_s[row, 0]), junction.id, "clearance", (a, b))


def _wrong_flashes(recording: Recording) -> Iterator[AuditFinding]:
    """A flash of yellow beside green or yellow, or without red to all before it and after it."""
    times_s, name = recording.times_s, recording.junction.id
    steady = np.asarray((recording.green | recording.yellow).any(axis=1))
    flashes = np.asarray(recording.flashing.any(axis=1))
    for row in recording.rows_from(recording.begin_s, flashes):
        at_s = float(times_s[row])
        if steady[row]:
            yield AuditFinding(at_s, name, "flash", ())
        before = np.flatnonzero(steady[:row])
        after = row + 1 + np.flatnonzero(steady[row + 1 :])
        begins = row > 0 and not flashes[row - 1]
        ends = row + 1 < len(flashes) and not flashes[row + 1]
        if begins and len(before) and at_s - times_s[before[-1] + 1] + EPS_S < FLASH_ENTRY_RED_S:
            yield AuditFinding(at_s, name, "flash_entry", ())
        if ends and len(after) and times_s[after[0]] - times_s[row + 1] + EPS_S < FLASH_EXIT_RED_S:
            yield AuditFinding(float(times_s[after[0]]), name, "flash_exit", ())


def _joined(
    lines: Mapping[str, SignalTimeline], groups: list[SignalGroup]
) -> Iterator[tuple[float, str]]:
    """One time line over all groups of a junction, from those of its programmes."""
    states = {tl: line[0][1] for tl, line in lines.items()}
    changes = sorted(
        ((at_s, tl, state) for tl, line in lines.items() for at_s, state in line), key=itemgetter(0)
    )
    for at_s, together in groupby(changes, key=itemgetter(0)):
        states |= {tl: state for _, tl, state in together}
        yield at_s, "".join(states[g.tl_id][g.index] for g in groups)
