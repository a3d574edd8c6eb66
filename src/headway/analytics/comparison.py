"""Paired comparison of two time series whose neighbours resemble each other.

The mean difference is tested with a t statistic whose long-run variance is the mean of squares of
the first few cosine transforms of the differences, with as many degrees of freedom (E. Lazarus,
D. J. Lewis, J. H. Stock and M. W. Watson, HAR Inference: Recommendations for Practice, JBES 2018).
How many, and the bias that is left, follow from the correlation time of the differences. Why this
test: docs/decisions/0028-autocorrelated-differences.md; its error rates: python -m bench inference.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import frexp, inf, isfinite

import numpy as np

from headway.values import FloatArray

METHOD = "equal-weighted cosine t-test"
LEAST_TIMES = 12  # fewer say nothing of how long a difference lasts
PARTS = 32  # the series is looked at in 32 to 63; faster changes do not matter for its mean
LEAST_COSINES = 4
COSINES_A_SPAN = 0.3  # cosines for each correlation time that the series lasts
# a series has a p where its parts, times what their autocorrelation is below 1, are so many: else a
# difference that lasts as long as the series is not ruled out. Single values need more than sums of
# several, which are smoother; by simulation, so that 7 % of series without a difference have one
LEAST_DECAY = 3.0
MORE_OF_SINGLE_VALUES = 7.0
ROUNDING = 1e-12  # of a value; differences that vary by less do not vary


@dataclass(frozen=True, slots=True)
class Paired:
    """b - a over n pairs: mean, its 95 % interval and two-sided p, effect size (matched-pairs rank
    biserial, -1 to 1; the sign says who is larger).

    method:              of the interval and p; it respects autocorrelation.
    times:               different times that the pairs are of; those of one time count together.
    correlation_s:       how long a difference lasts, seconds (its autocorrelation falls to 1/e);
                         0 where none is found. None with fewer than 12 times.
    effective_n:         independent pairs that would give the same standard error, n at most.
    degrees_of_freedom:  of t: cosine transforms that the variance is estimated from.
    why:                 why there are neither interval nor p; "" where there are.
    """

    n: int
    mean_a: float
    mean_b: float
    mean_difference: float
    change_percent: float | None
    interval_95: tuple[float, float] | None
    p: float | None
    effect_size: float | None
    method: str
    times: int
    correlation_s: float | None
    effective_n: float | None
    degrees_of_freedom: int | None
    why: str


def paired(a: FloatArray, b: FloatArray, at_s: FloatArray) -> Paired:
    """Compare b with a, pair by pair; at_s: time of each pair, seconds, in any order. Raises
    ValueError if they differ in length or are empty.

    >>> a, t = np.arange(20.0), np.arange(20.0)
    >>> found = paired(a, a + np.tile([2.0, 3.0, 1.0, 4.0], 5), t)
    >>> found.mean_difference, found.p < 0.01
    (2.5, True)
    """
    if not len(a) == len(b) == len(at_s) or len(a) == 0:
        raise ValueError(f"pairs are needed: got {len(a)} and {len(b)} values at {len(at_s)} times")
    d = b - a
    mean_a, mean_b = float(a.mean()), float(b.mean())
    rounding = ROUNDING * float(np.abs([a, b]).max())
    if np.ptp(d) <= rounding:
        d = np.full(len(d), d.mean() if abs(d.mean()) > rounding else 0.0)
    # squares of differences of 1e-160 would be nought; a power of two changes nothing else
    scale = 2.0 ** frexp(float(np.abs(d).max()))[1]
    test = _tested(d / scale, at_s)
    change_percent = 100.0 * (mean_b - mean_a) / mean_a if mean_a else inf
    return Paired(
        n=len(d),
        mean_a=mean_a,
        mean_b=mean_b,
        mean_difference=float(d.mean()),
        change_percent=change_percent if isfinite(change_percent) else None,
        interval_95=test.interval_95 and (scale * test.interval_95[0], scale * test.interval_95[1]),
        p=test.p,
        effect_size=_rank_biserial(d),
        method=METHOD,
        times=test.times,
        correlation_s=test.correlation_s,
        effective_n=test.effective_n,
        degrees_of_freedom=test.degrees_of_freedom,
        why=test.why,
    )


@dataclass(frozen=True, slots=True)
class _Test:
    """As in `Paired`."""

    times: int
    why: str = ""
    interval_95: tuple[float, float] | None = None
    p: float | None = None
    correlation_s: float | None = None
    effective_n: float | None = None
    degrees_of_freedom: int | None = None


def _tested(d: FloatArray, at_s: FloatArray) -> _Test:
    """Whether the mean of d is nought."""
    times, place = np.unique(at_s, return_inverse=True)
    if len(times) < LEAST_TIMES:
        return _Test(
            len(times),
            f"{len(times)} different times are too few to tell a difference from chance: at least "
            f"{LEAST_TIMES} are needed",
        )
    mean = float(d.mean()) if np.ptp(d) else float(d[0])  # a sum of equal values is rounded
    # what each time adds to the sum; gaps are closed, so that a time that is missing moves nothing
    added = np.bincount(place, weights=d - mean)
    width = max(len(times) // PARTS, 1)
    parts = np.array_split(added, len(times) // width)
    sums = np.array([part.sum() for part in parts])
    first = _autocorrelation(sums)
    spans = _spans(first, len(sums))
    lasted_s = float(times[-1] - times[0]) * len(times) / (len(times) - 1)
    correlation_s = lasted_s / spans
    if len(sums) * (1.0 - first) < LEAST_DECAY + MORE_OF_SINGLE_VALUES / width**0.75:
        return _Test(
            len(times),
            f"a difference lasts some {correlation_s:.0f} s, and perhaps as long as the "
            f"{lasted_s:.0f} s compared: compare longer runs, or several pairs of runs",
            correlation_s=correlation_s,
        )
    from scipy import stats  # here: half a second that only those who compare need wait for

    cosines = _cosines(len(sums), spans)
    error = _standard_error(sums, cosines, spans) / len(d)
    if error == 0.0:
        return _Test(
            len(times), "", (mean, mean), float(mean == 0.0), correlation_s, float(len(d)), cosines
        )
    reach = float(stats.t.ppf(0.975, cosines)) * error
    return _Test(
        len(times),
        "",
        (mean - reach, mean + reach),
        float(2.0 * stats.t.sf(abs(mean) / error, cosines)),
        correlation_s,
        min(float(len(d)), float(d.var()) / error**2),
        cosines,
    )


def _autocorrelation(sums: FloatArray) -> float:
    """Of neighbours, less the bias of its estimate (F. H. C. Marriott and J. A. Pope, Biometrika
    1954); 0 where nothing varies.
    """
    n, power = len(sums), float((sums**2).sum())
    if power == 0.0:
        return 0.0
    first = float((sums[1:] * sums[:-1]).sum()) / power
    return first + (1.0 + 4.0 * first) / n


def _spans(first: float, n: int) -> float:
    """Correlation times that a series of n lasts, as a first-order autoregression. inf where
    neighbours do not resemble each other, 1 at least: a longer one cannot be told.
    """
    if first <= 0.0:
        return inf
    return max(-n * float(np.log(min(first, 1.0))), 1.0)


def _cosines(n: int, spans: float) -> int:
    """How many cosine transforms of n sums are near enough to frequency nought."""
    most = max(n // 2, LEAST_COSINES)
    return int(min(max(COSINES_A_SPAN * spans, LEAST_COSINES), most))


def _standard_error(sums: FloatArray, cosines: int, spans: float) -> float:
    """Of their total. The spectrum at the frequencies looked at is lower than at nought, by what it
    is for a first-order autoregression of this correlation time.
    """
    n = len(sums)
    order = np.arange(1, cosines + 1)
    waves = np.sqrt(2.0 / n) * np.cos(np.pi * np.outer(order, np.arange(n) + 0.5) / n)
    power = float(((waves @ sums) ** 2).mean())
    seen = float((1.0 / (1.0 + (np.pi * order / spans) ** 2)).mean())
    return float((n * power / seen) ** 0.5)


def _rank_biserial(d: FloatArray) -> float | None:
    """Pairs without a difference do not count; 0 where none has one, None for a single pair."""
    if len(d) < 2:
        return None
    nonzero = d[d != 0.0]
    if len(nonzero) == 0:
        return 0.0
    from scipy import stats

    ranks = stats.rankdata(np.abs(nonzero))
    return float((ranks * np.sign(nonzero)).sum() / ranks.sum())
