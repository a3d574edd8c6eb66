"""Whether newer values are of the same distribution as those of a reference.

Traffic resembles what it was a moment ago, so that a test which takes rows for independent finds a
drift nearly always. Each test here counts a series as so many independent values as would say as
much (its effective size), found by the autocorrelation of the reference. Numbers: Kolmogorov and
Smirnov's test below MANY rows of reference, above it the Wasserstein distance, in standard
deviations. Categories: chi-squared, above it the Jensen-Shannon distance. Both distances have a
threshold that follows from the reference, and a least one: with many rows the smallest change is
significant, and does not matter. No two days are alike either: where the reference is of several
(`piece`), nothing is a drift that lies within what its own days lie apart. Changes on line:
`adwin.Adwin`.

Why so: docs/decisions/0031-drift.md; error rates: python -m bench drift.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log, sqrt
from typing import Any

import numpy as np

from headway.analytics.adwin import Adwin
from headway.values import CountArray, FloatArray

MANY = 1000  # rows of reference from which on distances are used
ALARM = 0.01  # chance that a check of one figure finds a drift where there is none
LEAST_EFFECTIVE = 20.0  # independent values on either side; fewer say nothing of a distribution
LEAST_DISTANCE = 0.1  # standard deviations, or Jensen-Shannon: below it a drift does not matter
LAGS_A_LENGTH = 5.0  # lags that are summed, in correlation lengths (A. Sokal, 1997, chapter 3)
BRIDGES = 4000  # draws of the limit of the Wasserstein distance
BRIDGE_POINTS = 200  # of each
QUARTILES = (0.25, 0.5, 0.75)
LEAST_PIECES = 4  # of reference, for one of them to be odd
FENCE = 0.01  # of the reference lie below, and above, what counts as the farthest for Wasserstein
TAIL = 0.01  # chance below which that of a Wasserstein distance is extrapolated
LEAST_EXPECTED = 5.0  # of a category, by effective size; rarer ones count as one
SEED = 29


@dataclass(frozen=True, slots=True)
class Drift:
    """What a check found.

    test:      ks, wasserstein, chi-squared or jensen-shannon.
    distance:  ks: largest difference of the two distributions, 0 to 1; wasserstein: in standard
        deviations of the reference, the farthest hundredth of which on either side counts as if it
        were no farther; chi-squared: Cramer's V, 0 to 1; jensen-shannon: square root of the
        divergence in bits, 0 to 1. None where there is nothing to compare.
    threshold: the distance from which on it is a drift, as a check of its own.
    p:         chance of such a distance without drift.
    n_reference, n_current: rows; effective_reference, effective_current: independent values that
        would say as much.
    drifts:    whether it is a drift. why: why that cannot be said; "" where it can.
    """

    test: str
    distance: float | None
    threshold: float | None
    p: float | None
    n_reference: int
    n_current: int
    effective_reference: float
    effective_current: float
    drifts: bool
    why: str = ""


def drift_of_numbers(
    reference: FloatArray,
    current: FloatArray,
    alarm: float = ALARM,
    piece: CountArray | None = None,
) -> Drift:
    """Compare two series of numbers, (rows,) each in order of time. Raises ValueError where one is
    not finite.

    piece: (rows,) of the reference, which stretch of time each is of, such as a day; the newer
        values are another one. Of four or more, the one that is least like the others does not
        count, and how far the others lie apart is no drift.

    >>> calm = np.random.default_rng(1).normal(size=400)
    >>> drift_of_numbers(calm[:200], calm[200:]).drifts
    False
    >>> drift_of_numbers(calm[:200], calm[200:] + 1.0).drifts
    True
    """
    x, y = (_finite(np.asarray(v, np.float64)) for v in (reference, current))
    x, days = _days(x, piece, len(y))
    test = "wasserstein" if len(x) >= MANY else "ks"
    sizes = _sizes(len(x), len(y), _length_of_distribution(x, days))
    if why := _too_few(sizes):
        return _unknown(test, len(x), len(y), sizes, why)
    harmonic = sizes[0] * sizes[1] / (sizes[0] + sizes[1])
    from scipy import stats  # here: half a second that only those who ask need wait for

    low, high = np.quantile(x, (FENCE, 1.0 - FENCE))
    deviation = float(np.clip(x, low, high).std())
    if test == "ks" or deviation == 0.0:  # no unit for a distance: all but a few are one value

        def distance_of(a: FloatArray, b: FloatArray) -> float:
            return float(stats.ks_2samp(a, b, method="asymp").statistic)

        distance, n = distance_of(x, y), max(round(harmonic), 1)
        p, threshold = float(stats.kstwo.sf(distance, n)), float(stats.kstwo.isf(alarm, n))
        least = LEAST_DISTANCE if test == "wasserstein" else 0.0
        test = "ks"
    else:

        def distance_of(a: FloatArray, b: FloatArray) -> float:
            fenced = (np.clip(v, low, high) / deviation for v in (a, b))
            return float(stats.wasserstein_distance(*fenced))

        distance = distance_of(x, y)
        null = _wasserstein_without_drift(np.clip(x, low, high) / deviation) / sqrt(harmonic)
        p, threshold = _tail(null, distance), float(np.quantile(null, 1.0 - alarm))
        least = LEAST_DISTANCE
    if days is not None:
        among = _among_days(x, days, len(y), distance_of, distance, alarm)
        p, least = max(p, among[0]), max(least, among[1])
    threshold = max(threshold, least)
    return Drift(test, distance, threshold, p, len(x), len(y), *sizes, distance >= threshold)


def drift_of_categories(
    reference: Sequence[str | int],
    current: Sequence[str | int],
    alarm: float = ALARM,
    piece: CountArray | None = None,
) -> Drift:
    """Compare how often each category occurs in two series, each in order of time. piece: as in
    `drift_of_numbers`, but that none is left out.

    Chi-squared is divided by the design effect (J. Rao and A. Scott, Journal of the American
    Statistical Association 1981): rows for each independent value.

    >>> drift_of_categories(["N", "S"] * 100, ["N", "S"] * 50).drifts
    False
    >>> drift_of_categories(["N", "S"] * 100, ["N", "N", "N", "S"] * 25).drifts
    True
    """
    names = sorted({*map(str, reference), *map(str, current)})
    place = {name: k for k, name in enumerate(names)}
    x, y = (np.array([place[str(v)] for v in values], np.int64) for values in (reference, current))
    test = "jensen-shannon" if len(x) >= MANY else "chi-squared"
    days = _whole_days(x, piece, len(y))
    sizes = _sizes(len(x), len(y), _length_of_categories(x, len(names), days))
    if why := _too_few(sizes):
        return _unknown(test, len(x), len(y), sizes, why)
    if len(names) == 1:
        return Drift(test, 0.0, None, 1.0, len(x), len(y), *sizes, False)
    from scipy import stats
    from scipy.spatial.distance import jensenshannon

    def distance_of(a: CountArray, b: CountArray) -> float:
        shares = (np.bincount(v, minlength=len(names)) for v in (a, b))
        return float(jensenshannon(*shares, base=2.0))

    harmonic = sizes[0] * sizes[1] / (sizes[0] + sizes[1])
    # near nought the divergence is an eighth of the chi-squared distance, in nats
    in_bits = 8.0 * harmonic * log(2.0)
    among = (0.0, 0.0)
    if days is not None:
        among = _among_days(x, days, len(y), distance_of, distance_of(x, y), alarm)
    counts = np.array([np.bincount(v, minlength=len(names)) for v in (x, y)], np.float64)
    counts = _without_rare(counts / counts.sum(axis=1, keepdims=True) * np.array(sizes)[:, None])
    freedom = max(counts.shape[1] - 1, 1)
    critical = float(stats.chi2.isf(alarm, freedom))
    if test == "chi-squared":
        found = stats.chi2_contingency(counts, correction=False)
        n = float(counts.sum())
        p, distance = float(found.pvalue), sqrt(found.statistic / n)
        threshold = max(sqrt(critical / n), among[1] * sqrt(in_bits / n))
    else:
        distance = float(jensenshannon(counts[0], counts[1], base=2.0))
        p = float(stats.chi2.sf(in_bits * distance**2, freedom))
        threshold = max(sqrt(critical / in_bits), LEAST_DISTANCE, among[1])
    drifts, p = distance >= threshold, max(p, among[0])
    return Drift(test, distance, threshold, p, len(x), len(y), *sizes, drifts)


def confirmed(found: Iterable[Drift], share: float = ALARM) -> list[Drift]:
    """Several checks that are read together: a drift is one only where, of all that are found, a
    share of `share` is false at most (Y. Benjamini and Y. Hochberg, JRSS B 1995).
    """
    checks = list(found)
    p = np.sort([c.p for c in checks if c.p is not None])
    below = np.flatnonzero(p <= share * np.arange(1, len(p) + 1) / max(len(p), 1))
    most = float(p[below[-1]]) if len(below) else -1.0
    return [replace(c, drifts=c.drifts and c.p is not None and c.p <= most) for c in checks]


def correlation_length(series: FloatArray) -> float:
    """Rows for each independent value, at least 1: 1 + 2 (r1 + r2 + ...), the autocorrelations r
    summed over five times what that gives. len(series) where it does not end before.
    """
    n = len(series)
    x = series - series.mean() if n else series
    power = float((x**2).sum())
    if n < 4 or power == 0.0:
        return 1.0
    spectrum = np.abs(np.fft.rfft(x, 2 * n)) ** 2
    found = np.fft.irfft(spectrum)[:n] / power
    lengths = 2.0 * np.cumsum(found) - 1.0
    ends = np.flatnonzero(np.arange(n) >= LAGS_A_LENGTH * lengths)
    if not len(ends):
        return float(n)
    return float(min(max(lengths[ends[0]], 1.0), n))


def _finite(values: FloatArray) -> FloatArray:
    if not np.isfinite(values).all():
        raise ValueError("a value is not finite: leave out what was not measured")
    return values


def _sizes(reference: int, current: int, length: float) -> tuple[float, float]:
    """Effective sizes. Both by the reference: a drift that has begun within the newer values looks
    like autocorrelation of them.
    """
    return reference / length, current / length


def _too_few(sizes: tuple[float, float]) -> str:
    which = "reference" if sizes[0] <= sizes[1] else "newer values"
    if min(sizes) >= LEAST_EFFECTIVE:
        return ""
    return (
        f"the {which} say as much as {min(sizes):.0f} independent values, {LEAST_EFFECTIVE:.0f} "
        "are needed: compare longer spans"
    )


def _unknown(test: str, n: int, m: int, sizes: tuple[float, float], why: str) -> Drift:
    return Drift(test, None, None, None, n, m, *sizes, False, why)


def _among_days(
    x: FloatArray | CountArray,
    days: CountArray,
    rows: int,
    distance_of: Callable[[Any, Any], float],
    distance: float,
    alarm: float,
) -> tuple[float, float]:
    """Chance that one more day lies as far from the others as `distance`, and the distance that has
    the chance `alarm`: by Student's t of the root mean square of what each of the days lies from
    the others. The farthest counts twice: once for the one that was left out.
    """
    from scipy import stats

    whole = _whole(days, rows)
    apart = np.array([distance_of(x[days != one], x[days == one]) for one in whole])
    usual = float(np.sqrt(np.append(apart**2, apart.max() ** 2).mean()))
    freedom = len(apart)
    chance = 2.0 * float(stats.t.sf(distance / usual, freedom)) if usual > 0.0 else 0.0
    return chance, usual * float(stats.t.isf(alarm / 2.0, freedom))


def _wasserstein_without_drift(x: FloatArray) -> FloatArray:
    """(BRIDGES,): sqrt(n) times the Wasserstein distance of n independent values to their
    distribution, in the limit: the integral of |B(F(x))| over x, B a Brownian bridge (E. del
    Barrio, E. Gine and C. Matran, Annals of Probability 1999).
    """
    quantiles = np.quantile(x, (np.arange(BRIDGE_POINTS) + 0.5) / BRIDGE_POINTS)
    found: FloatArray = _bridges() @ np.diff(quantiles)
    return found


def _tail(draws: FloatArray, value: float) -> float:
    """Chance of `value` or more: the share of the draws; beyond TAIL, where these are few, as far
    as they fall between a chance of ten times TAIL and TAIL (norms of Gaussian processes fall as
    exp(-c x^2)).
    """
    begins, ends = np.quantile(draws, (1.0 - 10.0 * TAIL, 1.0 - TAIL))
    if value <= ends:
        return float((draws >= value).mean())
    return float(TAIL * 10.0 ** (-(value**2 - ends**2) / (ends**2 - begins**2)))


@lru_cache(maxsize=1)
def _bridges() -> FloatArray:
    """(BRIDGES, BRIDGE_POINTS - 1): |B| at 1, 2, ... steps of 1 / BRIDGE_POINTS."""
    steps = np.random.default_rng(SEED).normal(size=(BRIDGES, BRIDGE_POINTS))
    walks = np.cumsum(steps, axis=1) / sqrt(BRIDGE_POINTS)
    at = np.arange(1, BRIDGE_POINTS + 1) / BRIDGE_POINTS
    found: FloatArray = np.abs(walks - at * walks[:, -1:])[:, :-1]
    return found


def _without_rare(counts: FloatArray) -> FloatArray:
    """(2, categories): those that are expected too seldom for chi-squared become one, the last."""
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    is_rare = expected.min(axis=0) < LEAST_EXPECTED
    if is_rare.sum() < 2:
        return counts
    rare = counts[:, is_rare].sum(axis=1, keepdims=True)
    return np.hstack([counts[:, ~is_rare], rare])


def _days(
    x: FloatArray, piece: CountArray | None, rows: int
) -> tuple[FloatArray, CountArray | None]:
    """x without the piece that is farthest from the median of all, x itself where they are few. A
    single day with a jam would make all others seem to resemble each other, and a day without one
    a drift. And which piece each row is of, as `_whole_days`.
    """
    if piece is None or not len(x):
        return x, None
    numbers, place, counts = np.unique(piece, return_inverse=True, return_counts=True)
    if len(numbers) < LEAST_PIECES:
        return x, None
    squares = np.bincount(place, (x - np.median(x)) ** 2) / counts
    is_kept = place != int(np.argmax(squares))
    return x[is_kept], _whole_days(x[is_kept], piece[is_kept], rows)


def _whole_days(
    x: FloatArray | CountArray, piece: CountArray | None, rows: int
) -> CountArray | None:
    """`piece`, where enough of them are whole to tell how far days lie apart; None where not."""
    if piece is None or not len(x):
        return None
    return piece if len(_whole(piece, rows)) >= LEAST_PIECES - 1 else None


def _whole(days: CountArray, rows: int) -> CountArray:
    """Those with at least half as many rows as the newer values have: of others the mean varies
    for other reasons.
    """
    names, counts = np.unique(days, return_counts=True)
    found: CountArray = names[2 * counts >= rows]
    return found


def _length_of_distribution(x: FloatArray, days: CountArray | None = None) -> float:
    """Largest correlation length of being below a quartile, or not above it (where many values are
    the same, the one or the other never changes): that of its distribution function. Within days,
    where these are known.
    """
    if not len(x):
        return 1.0
    quartiles = np.quantile(x, QUARTILES)
    sides = [side for q in quartiles for side in (x < q, x <= q)]
    return max(correlation_length(_within(side.astype(np.float64), days)) for side in sides)


def _length_of_categories(x: CountArray, categories: int, days: CountArray | None = None) -> float:
    """Mean correlation length of the indicators of each category, weighed by 1 - its share."""
    if not len(x):
        return 1.0
    weights = 1.0 - np.bincount(x, minlength=categories) / len(x)
    if weights.sum() == 0.0:
        return 1.0
    lengths = [
        correlation_length(_within((x == k).astype(np.float64), days)) for k in range(categories)
    ]
    return float(np.average(lengths, weights=weights))


def _within(x: FloatArray, days: CountArray | None) -> FloatArray:
    """x less the mean of its day."""
    if days is None:
        return x
    _, place, counts = np.unique(days, return_inverse=True, return_counts=True)
    found: FloatArray = x - (np.bincount(place, x) / counts)[place]
    return found


RANGE = 3.0  # standard deviations of block means; what is further from the mean counts as there
DELTA = 0.05  # of `residual_drift`: its cuts are few, and Bernstein's bound is wide


@dataclass(frozen=True, slots=True)
class ResidualDrift:
    """Whether the mean of residuals has changed. block: rows that one value of ADWIN is the mean
    of; since: row of the newer residuals by which it was found; before, now: mean of the reference,
    and of ADWIN's window at the end, in the residuals' unit.
    """

    drifts: bool
    since: int | None
    block: int
    n_reference: int
    n_current: int
    before: float | None
    now: float | None
    why: str = ""


def residual_drift(
    reference: FloatArray,
    current: FloatArray,
    delta: float = DELTA,
    piece: CountArray | None = None,
) -> ResidualDrift:
    """ADWIN over residuals (predicted less realised), (rows,) each in order of time: over the
    reference first, whose own changes do not count, then over the newer ones. piece: as in
    `drift_of_numbers`.
    """
    x, y = (_finite(np.asarray(v, np.float64)) for v in (reference, current))
    x, days = _days(x, piece, len(y))
    length = correlation_length(_within(x, days))
    if why := _too_few(_sizes(len(x), len(y), length)):
        return ResidualDrift(False, None, 1, len(x), len(y), None, None, why)
    block = round(length)
    before, after = _block_means(x, block), _block_means(y, block)
    centre, deviation = float(x.mean()), float(before.std())
    scale = RANGE * deviation if deviation > 0.0 else max(abs(centre), 1.0)
    before, after = (0.5 + 0.5 * np.clip((v - centre) / scale, -1.0, 1.0) for v in (before, after))
    window, since = Adwin(delta), None
    for value in before.tolist():
        window.add(value)
    for k, value in enumerate(after.tolist()):
        if window.add(value) and since is None:
            since = (k + 1) * block - 1
    now = centre + scale * (2.0 * window.mean - 1.0)
    if since is not None and days is not None:
        gap = abs(float(y.mean()) - centre)
        chance, _ = _among_days(x, days, len(y), _gap, gap, ALARM)
        since = since if chance <= ALARM else None
    return ResidualDrift(since is not None, since, block, len(x), len(y), centre, now)


def _gap(a: FloatArray, b: FloatArray) -> float:
    return abs(float(a.mean()) - float(b.mean()))


def _block_means(x: FloatArray, block: int) -> FloatArray:
    whole = len(x) // block
    found: FloatArray = x[: whole * block].reshape(whole, block).mean(axis=1)
    return found
