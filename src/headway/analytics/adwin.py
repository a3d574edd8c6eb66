"""Changes of a mean on line: a window of the newest values that have one mean."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, log, sqrt


@dataclass(slots=True)
class _Bucket:
    """Of so many values: their mean, and the sum of squares about it."""

    n: int
    mean: float
    squares: float

    def with_newer(self, other: _Bucket) -> _Bucket:
        n, d = self.n + other.n, other.mean - self.mean
        return _Bucket(
            n,
            self.mean + d * other.n / n,
            self.squares + other.squares + d * d * self.n * other.n / n,
        )


BUCKETS_A_ROW = 5
LEAST_SIDE = 5  # values on either side of a cut
LEAST_WINDOW = 10
CUT_EVERY = 4  # values between two looks for a cut


class Adwin:
    """A window of the newest values that is cut where its older part has another mean (ADWIN2,
    A. Bifet and R. Gavalda, Learning from Time-Varying Data with Adaptive Windowing, SDM 2007).

    Values are of 0 to 1 and independent (of those that are not, give means of blocks). delta, 0 to
    1, bounds the chance of a false cut at each value. Memory grows with the window's logarithm.
    """

    def __init__(self, delta: float = 0.002) -> None:
        if not 0.0 < delta < 1.0:
            raise ValueError(f"delta is {delta}: it is a chance, between 0 and 1")
        self.delta = delta
        self.changes = 0
        self._added = 0
        self._rows: list[list[_Bucket]] = [[]]  # of 1, 2, 4, ... values; the newest last

    @property
    def n(self) -> int:
        """Values in the window."""
        return sum(bucket.n for row in self._rows for bucket in row)

    @property
    def mean(self) -> float:
        """Of the window; nan where it is empty."""
        return self._total(self._oldest_first()).mean if self.n else float("nan")

    def add(self, value: float) -> bool:
        """Take a value in; whether the mean has changed, and older values went. Raises ValueError
        for one that is not within 0 to 1.
        """
        if not (isfinite(value) and 0.0 <= value <= 1.0):
            raise ValueError(f"{value} is not within 0 to 1: scale what is measured")
        self._rows[0].append(_Bucket(1, value, 0.0))
        self._compress()
        self._added += 1
        has_changed = False
        while self._added % CUT_EVERY == 0 and self._cut_once():
            has_changed = True
        self.changes += has_changed
        return has_changed

    def _compress(self) -> None:
        """Where a row is full its two oldest become one of the next row."""
        for k, row in enumerate(self._rows):
            if len(row) <= BUCKETS_A_ROW:
                return
            merged = row.pop(0).with_newer(row.pop(0))
            if k + 1 == len(self._rows):
                self._rows.append([])
            self._rows[k + 1].append(merged)

    def _cut_once(self) -> bool:
        """Drop the oldest bucket where any cut shows two different means."""
        buckets = self._oldest_first()
        total = self._total(buckets)
        if total.n < LEAST_WINDOW:
            return False
        whole, variance = total.n * total.mean, total.squares / total.n
        older_n, older = 0, 0.0
        for bucket in buckets[:-1]:
            older_n += bucket.n
            older += bucket.n * bucket.mean
            newer_n = total.n - older_n
            if older_n < LEAST_SIDE or newer_n < LEAST_SIDE:
                continue
            gap = abs((whole - older) / newer_n - older / older_n)
            if gap > bound(older_n, newer_n, variance, self.delta):
                next(row for row in reversed(self._rows) if row).pop(0)
                while len(self._rows) > 1 and not self._rows[-1]:
                    self._rows.pop()
                return True
        return False

    def _oldest_first(self) -> list[_Bucket]:
        return [bucket for row in reversed(self._rows) for bucket in row]

    def _total(self, buckets: list[_Bucket]) -> _Bucket:
        n = sum(bucket.n for bucket in buckets)
        mean = sum(bucket.n * bucket.mean for bucket in buckets) / max(n, 1)
        squares = sum(b.squares + b.n * (b.mean - mean) ** 2 for b in buckets)
        return _Bucket(n, mean, squares)


def bound(older: int, newer: int, variance: float, delta: float) -> float:
    """How far the means of two parts of a window may lie apart without a change (their equation
    3.1): m is half the harmonic mean of the parts, ln(2 ln(n) / delta) stands for all cuts.
    """
    m = 1.0 / (1.0 / older + 1.0 / newer)
    chance = log(2.0 * log(older + newer) / delta)
    return sqrt(2.0 / m * variance * chance) + 2.0 / (3.0 * m) * chance
