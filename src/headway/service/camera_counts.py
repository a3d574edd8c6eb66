"""Crossings of cameras' lines, counted by intervals of the clock: rows of the record."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

INTERVAL_S = 300.0  # longer intervals are sums of these
LATE_S = 10.0  # a crossing lies between two frames of its track: it may come after the interval
LONGEST_STEP_S = 5.0  # between two frames; over a longer one the camera saw nothing
DIRECTIONS = ("in", "out")
OBSERVED = ""  # the class of the row that says how long a line was observed

Row = tuple[str, str, str, str, str, str, int, float, int, float]


class CountedCrossing(NamedTuple):
    """A vehicle or person has crossed a line. at_s: seconds since 1970; speed_mps: NaN where it is
    not known.
    """

    at_s: float
    line: str
    direction: str
    kind: str
    speed_mps: float


@dataclass
class _Tally:
    n: int = 0
    speeds: int = 0
    total_mps: float = 0.0


@dataclass
class _Interval:
    """since_s: when its counting began; of several parts of one interval each has another time."""

    since_s: float
    lines: set[str] = field(default_factory=set)
    observed_s: float = 0.0
    tallies: dict[tuple[str, str, str], _Tally] = field(default_factory=dict)


@dataclass
class _Camera:
    at_s: float = -math.inf  # of its last frame
    intervals: dict[float, _Interval] = field(default_factory=dict)  # by begin


class CameraCounts:
    """Counts of several cameras; may be called from any thread.

    put: takes each row of the table `camera_count`, in the order of its columns, once its interval
        has ended (and LATE_S have passed), or its camera has. An interval that is counted in
        several parts, as after a new start, has rows of each; their sum is the interval.
    """

    def __init__(self, put: Callable[[Row], None]) -> None:
        self._put = put
        self._cameras: dict[str, _Camera] = {}
        self._lock = threading.Lock()

    def add(
        self,
        camera: str,
        at_s: float,
        lines: Sequence[str],
        crossings: Sequence[CountedCrossing],
    ) -> None:
        """One frame, at a time in seconds since 1970, of a camera with these lines."""
        with self._lock:
            known = self._cameras.setdefault(camera, _Camera())
            if at_s < known.at_s:  # its clock was set back
                self._end(camera, known, math.inf)
                known.at_s = -math.inf
            self._observe(known, at_s, lines)
            for crossing in crossings:
                interval = self._interval(known, crossing.at_s, at_s, lines)
                key = crossing.line, crossing.direction, crossing.kind
                tally = interval.tallies.setdefault(key, _Tally())
                tally.n += 1
                if math.isfinite(crossing.speed_mps):
                    tally.speeds += 1
                    tally.total_mps += crossing.speed_mps
            self._end(camera, known, at_s - LATE_S)

    def flush(self, camera: str) -> None:
        """The camera has stopped: what it has counted."""
        with self._lock:
            if known := self._cameras.pop(camera, None):
                self._end(camera, known, math.inf)

    def flush_all(self) -> None:
        for camera in list(self._cameras):
            self.flush(camera)

    def _observe(self, known: _Camera, at_s: float, lines: Sequence[str]) -> None:
        """The time since the last frame, in the intervals that it is of."""
        since, known.at_s = known.at_s, at_s
        self._interval(known, at_s, at_s, lines)
        if at_s - since > LONGEST_STEP_S:
            return
        while since < at_s:
            until = min(at_s, _begin(since) + INTERVAL_S)
            self._interval(known, since, at_s, lines).observed_s += until - since
            since = until

    def _interval(
        self, known: _Camera, of_s: float, now_s: float, lines: Sequence[str]
    ) -> _Interval:
        found = known.intervals.setdefault(_begin(of_s), _Interval(now_s))
        found.lines.update(lines)
        return found

    def _end(self, camera: str, known: _Camera, before_s: float) -> None:
        """Rows of the intervals that ended before."""
        for begin in sorted(known.intervals):
            if begin + INTERVAL_S <= before_s:
                for row in _rows(camera, begin, known.intervals.pop(begin)):
                    self._put(row)


def _begin(at_s: float) -> float:
    """Of the interval that a moment is of."""
    return math.floor(at_s / INTERVAL_S) * INTERVAL_S


def _rows(camera: str, begin: float, interval: _Interval) -> list[Row]:
    """A row for each line, direction and class, and one of each line and direction for how long it
    was observed, also where nothing crossed.
    """
    when, since = _text(begin), _text(interval.since_s)
    observed: list[Row] = [
        (camera, when, since, line, direction, OBSERVED, 0, interval.observed_s, 0, 0.0)
        for line in sorted(interval.lines)
        for direction in DIRECTIONS
    ]
    counted: list[Row] = [
        (camera, when, since, *key, tally.n, 0.0, tally.speeds, tally.total_mps)
        for key, tally in sorted(interval.tallies.items())
    ]
    return observed + counted


def _text(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()
