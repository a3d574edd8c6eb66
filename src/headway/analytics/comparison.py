"""Paired comparison of two series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headway.values import FloatArray

MOST_RESAMPLED = 5000  # pairs; the mean of more is normally distributed
DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Paired:
    """b - a over n pairs: mean, its 95 % interval (bootstrap percentiles), two-sided p (Wilcoxon
    signed rank), effect size (matched-pairs rank biserial, -1 to 1). p, interval and effect are
    None where n is too small to have them."""

    n: int
    mean_a: float
    mean_b: float
    mean_difference: float
    change_percent: float | None
    interval_95: tuple[float, float] | None
    p: float | None
    effect_size: float | None


def paired(a: FloatArray, b: FloatArray) -> Paired:
    """Compare b with a, pair by pair. Raises ValueError if they differ in length or are empty.

    >>> paired(np.array([10.0, 12.0, 11.0]), np.array([8.0, 9.0, 10.0])).mean_difference
    -2.0
    """
    if len(a) != len(b) or len(a) == 0:
        raise ValueError(f"pairs are needed: got {len(a)} and {len(b)} values")
    d = b - a
    mean_a, mean_b = float(a.mean()), float(b.mean())
    change = 100.0 * (mean_b - mean_a) / mean_a if mean_a else None
    if len(d) < 2:
        return Paired(len(d), mean_a, mean_b, float(d.mean()), change, None, None, None)
    random = np.random.default_rng(len(d))
    draws = (
        d[random.integers(0, len(d), (DRAWS, len(d)))].mean(axis=1)
        if len(d) <= MOST_RESAMPLED
        else d.mean() + random.normal(0, d.std() / len(d) ** 0.5, DRAWS)
    )
    low, high = np.percentile(draws, (2.5, 97.5))
    nonzero = d[d != 0.0]
    if len(nonzero) == 0:
        return Paired(len(d), mean_a, mean_b, 0.0, change, (0.0, 0.0), 1.0, 0.0)
    from scipy import stats  # here: half a second that only those who compare need wait for

    ranks = stats.rankdata(np.abs(nonzero))
    effect = float((ranks * np.sign(nonzero)).sum() / ranks.sum())
    p = float(stats.wilcoxon(nonzero).pvalue)
    return Paired(
        len(d), mean_a, mean_b, float(d.mean()), change, (float(low), float(high)), p, effect
    )
