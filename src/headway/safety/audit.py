"""An audit of what was really shown, after the fact: SUMO's own record of its signals against the rules.

Written apart from the gate, over whole time lines instead of seconds, so that an error in one is not in the other.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headway.roads import Network, SignalGroup, Timing
from headway.values import BoolArray, FloatArray

GREENS = "gG"


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that was broken on the street: when (s), where, which, with the signal groups' places."""

    at_s: float
    tl_id: str
    rule: str
    groups: tuple[int, ...]


def read_states(path: Path) -> dict[str, list[tuple[float, str]]]:
    """For each programme the (time, state) at which its state changed, from SUMO's `SaveTLSStates` output."""
    lines: dict[str, list[tuple[float, str]]] = {}
    for _, item in ET.iterparse(path):
        if item.tag == "tlsState":
            line = lines.setdefault(item.get("id", ""), [])
            if not line or line[-1][1] != item.get("state", ""):
                line.append((float(item.get("time", "0")), item.get("state", "")))
        item.clear()
    return lines


def audit(network: Network, timing: Timing, lines: dict[str, list[tuple[float, str]]], grace_s: float = 0.0) -> list[Violation]:
    """Every violation in the time lines; the first `grace_s` seconds (before the gate's first command) are left out."""
    found: list[Violation] = []
    for junction in network.junctions:
        groups = [network.groups[g] for g in junction.groups]
        rows = list(_joined([lines.get(tl, []) for tl in junction.tl_ids], junction.tl_ids, groups))
        if not rows:
            continue
        begin = rows[0][0] + grace_s
        times = np.array([t for t, _ in rows])
        letters = np.array([list(s) for _, s in rows])
        green = np.isin(letters, list(GREENS))
        for row in np.flatnonzero(times >= begin):
            lit = np.flatnonzero(green[row])
            for i, a in enumerate(lit):
                for b in lit[i + 1 :]:
                    if (
                        junction.conflicts[a, b]
                        and not _gives_way(letters[row, a], junction.yields[a, b])
                        and not _gives_way(letters[row, b], junction.yields[b, a])
                    ):
                        found.append(Violation(float(times[row]), junction.id, "conflict", (int(a), int(b))))
            odd = np.flatnonzero(~np.isin(letters[row], list("rsyYgG")))
            found += [Violation(float(times[row]), junction.id, "colour", (int(g),)) for g in odd]
        found += _clearances(junction.id, junction.first, junction.conflicts, timing, times, letters, green, begin)
    return found


def _gives_way(letter: str, yields: bool) -> bool:
    return letter == "g" and bool(yields)


def _clearances(
    name: str, first: int, conflicts: BoolArray, timing: Timing, times: FloatArray, letters: NDArray[np.str_], green: BoolArray, begin: float
) -> list[Violation]:
    found: list[Violation] = []
    eps = 1e-3
    for g in range(letters.shape[1]):
        lit = green[:, g]
        ends = [r for r in range(1, len(times)) if lit[r - 1] and not lit[r]]
        starts = [r for r in range(1, len(times)) if lit[r] and not lit[r - 1]]
        for start in starts:
            end = next((r for r in ends if r > start), None)
            if end is not None and times[start] >= begin and times[end] - times[start] + eps < timing.min_green_s[first + g]:
                found.append(Violation(float(times[end]), name, "minimum_green", (g,)))
        for end in ends:
            if times[end] < begin:
                continue
            yellow_until = next((times[r] for r in range(end, len(times)) if letters[r, g] not in "yY"), np.inf)
            if yellow_until - times[end] + eps < timing.yellow_s[first + g]:
                found.append(Violation(float(times[end]), name, "yellow", (g,)))
            free = times[end] + timing.yellow_s[first + g] + timing.clearance_s[first + g]
            for other in np.flatnonzero(conflicts[g]):
                for r in range(end, len(times)):
                    if times[r] + eps >= free:
                        break
                    if green[r, other] and not green[r - 1, other] and not green[r, g]:
                        found.append(Violation(float(times[r]), name, "clearance", (g, int(other))))
    return found


def _joined(lines: list[list[tuple[float, str]]], tls: tuple[str, ...], groups: list[SignalGroup]) -> Iterator[tuple[float, str]]:
    """One time line over all groups of a junction, from those of its programmes."""
    moments = sorted({t for line in lines for t, _ in line})
    cursors = [0] * len(lines)
    for moment in moments:
        for i, line in enumerate(lines):
            while cursors[i] + 1 < len(line) and line[cursors[i] + 1][0] <= moment:
                cursors[i] += 1
        states = {tl: line[c][1] if line else "" for tl, line, c in zip(tls, lines, cursors, strict=True)}
        yield moment, "".join(states[g.tl_id][g.index] for g in groups)
