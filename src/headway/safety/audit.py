"""An audit of what was really shown, after the fact: SUMO's own record of its signals against the
rules.

Written apart from the gate, over whole time lines instead of seconds, so that an error in one is
not in the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from headway.roads import Network, SignalGroup, Timing
from headway.values import BoolArray, FloatArray

EPS_S = 1e-3
Line = list[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that was broken on the street: when (s), where, which, with the signal groups'
    places.
    """

    at_s: float
    tl_id: str
    rule: str
    groups: tuple[int, ...]


def audit(
    network: Network, timing: Timing, lines: Mapping[str, Line], grace_s: float
) -> list[Violation]:
    """Every violation in the time lines; the first `grace_s` seconds (before the gate's first
    command) are left out.

    Raises ValueError if there is no record of a programme: what was not recorded cannot be audited.
    """
    missing = [tl for junction in network.junctions for tl in junction.tl_ids if not lines.get(tl)]
    if missing:
        raise ValueError(
            f"there is no record of the signals of {', '.join(missing)}. List them under "
            "SaveTLSStates, and let the run begin."
        )
    found: list[Violation] = []
    for junction in network.junctions:
        rows = list(
            _joined(
                {tl: lines[tl] for tl in junction.tl_ids},
                [network.groups[g] for g in junction.groups],
            )
        )
        times = np.array([t for t, _ in rows])
        letters = np.array([list(s) for _, s in rows])
        green = np.isin(letters, ["g", "G"])
        permissive = np.isin(letters, ["g"])
        known = np.isin(letters, list("rsyYgG"))
        begin = float(times[0]) + grace_s
        for row in np.flatnonzero(times >= begin):
            for a, b in combinations(np.flatnonzero(green[row]).tolist(), 2):
                gives_way = (permissive[row, a] and junction.yields[a, b]) or (
                    permissive[row, b] and junction.yields[b, a]
                )
                if junction.conflicts[a, b] and not gives_way:
                    found.append(Violation(float(times[row]), junction.id, "conflict", (a, b)))
            found += [
                Violation(float(times[row]), junction.id, "colour", (g,))
                for g in np.flatnonzero(~known[row]).tolist()
            ]
        found += _clearances(
            junction.id, junction.first, junction.conflicts, timing, times, letters, green, begin
        )
    return found


def _clearances(
    name: str,
    first: int,
    conflicts: BoolArray,
    timing: Timing,
    times: FloatArray,
    letters: NDArray[np.str_],
    green: BoolArray,
    begin: float,
) -> list[Violation]:
    """Greens, yellows and clearances that were too short. A green that was on at the start of the
    record has no beginning.
    """
    found: list[Violation] = []
    yellow = np.isin(letters, ["y", "Y"])
    began, ended = np.zeros_like(green), np.zeros_like(green)
    began[1:], ended[1:] = green[1:] > green[:-1], green[1:] < green[:-1]
    for g, lit in enumerate(green.T):
        yellow_s = timing.yellow_s[first + g]
        clearance_s = timing.clearance_s[first + g]
        least_s = timing.min_green_s[first + g]
        for start in _from(begin, times, began[:, g]):
            end_s = next(iter(times[start:][~lit[start:]]), np.inf)
            if end_s - times[start] + EPS_S < least_s:
                found.append(Violation(float(end_s), name, "minimum_green", (g,)))
        for end in _from(begin, times, ended[:, g]):
            yellow_until = next(iter(times[end:][~yellow[end:, g]]), np.inf)
            if yellow_until - times[end] + EPS_S < yellow_s:
                found.append(Violation(float(times[end]), name, "yellow", (g,)))
            free = times[end] + yellow_s + clearance_s
            for other in np.flatnonzero(conflicts[g]).tolist():
                starts = [
                    row
                    for row in _from(times[end], times, began[:, other])
                    if times[row] + EPS_S < free and not lit[row]
                ]
                found += [
                    Violation(float(times[row]), name, "clearance", (g, other)) for row in starts
                ]
    return found


def _from(begin: float, times: FloatArray, changes: BoolArray) -> list[int]:
    """The rows of `changes` from the time `begin` on."""
    return [row for row in np.flatnonzero(changes).tolist() if times[row] >= begin]


def _joined(lines: Mapping[str, Line], groups: list[SignalGroup]) -> Iterator[tuple[float, str]]:
    """One time line over all groups of a junction, from those of its programmes."""
    states = {tl: line[0][1] for tl, line in lines.items()}
    changes = sorted(
        ((at_s, tl, state) for tl, line in lines.items() for at_s, state in line), key=itemgetter(0)
    )
    for at_s, together in groupby(changes, key=itemgetter(0)):
        states |= {tl: state for _, tl, state in together}
        yield at_s, "".join(states[g.tl_id][g.index] for g in groups)
