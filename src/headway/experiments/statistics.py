"""Statistics of a comparison: paired by seed, with intervals and significance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and half the width of its 95 % confidence interval (Student's t); nan with a single
    value.
    """

    mean: float
    half_width: float
    n: int


def interval(values: Sequence[float]) -> Interval:
    """Mean of `values` with its 95 % confidence interval. Raises ValueError if there is none."""
    x = np.asarray(values, np.float64)
    if not len(x):
        raise ValueError("a mean of no values was asked for")
    if len(x) == 1:
        return Interval(float(x[0]), float("nan"), 1)
    from scipy import stats  # here and below: half a second that no other command need wait for

    half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return Interval(float(x.mean()), float(half), len(x))


def paired_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of a paired t-test of the logarithms (delays differ by ratios, not by seconds);
    nan under two pairs.
    """
    if len(a) != len(b):
        raise ValueError(f"pairs are wanted, but there are {len(a)} and {len(b)} values")
    if len(a) < 2:
        return float("nan")
    d = np.log(np.asarray(a, np.float64)) - np.log(np.asarray(b, np.float64))
    if np.ptp(d) == 0.0:
        return 1.0 if d[0] == 0.0 else 0.0
    from scipy import stats

    return float(stats.ttest_1samp(d, 0.0).pvalue)
