"""Error rates of the paired comparison, beside other tests, on series of known autocorrelation."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log10

import numpy as np
from scipy import signal, stats

from headway.analytics.comparison import paired

Floats = np.ndarray
Interval = tuple[float, float]
SERIES = 400  # of each kind
SEED = 17
DRAWS = 400  # of a bootstrap

# name, first-order autocorrelation, points, standard deviation of white noise beside it
KINDS = (
    ("AR(1) 0.98", 0.98, 720, 0.0),
    ("AR(1) 0.98", 0.98, 3600, 0.0),
    ("AR(1) 0.98 + noise", 0.98, 720, 1.0),
    ("AR(1) 0.98 + noise", 0.98, 3600, 1.0),
    ("AR(1) 0.9", 0.9, 720, 0.0),
    ("independent", 0.0, 720, 0.0),
    ("AR(1) 0.5", 0.5, 24, 0.0),
    ("independent", 0.0, 12, 0.0),
)


def autoregression(
    random: np.random.Generator, phi: float, shape: tuple[int, int], noise: float = 0.0
) -> Floats:
    """Stationary series of mean 0 and variance 1, one a row, and white noise beside it."""
    shocks = random.normal(size=shape)
    shocks[:, 0] /= (1.0 - phi**2) ** 0.5
    series = signal.lfilter([1.0], [1.0, -phi], shocks, axis=1) * (1.0 - phi**2) ** 0.5
    return series + noise * random.normal(size=shape)


def cosines(d: Floats) -> Interval | None:
    return paired(np.zeros(len(d)), d, np.arange(len(d))).interval_95


def independent(d: Floats) -> Interval:
    """Student's t, as if no value resembled the one before."""
    reach = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / len(d) ** 0.5
    return d.mean() - reach, d.mean() + reach


def autocovariances(d: Floats, most: int) -> Floats:
    x = d - d.mean()
    return np.array([(x[k:] * x[: len(x) - k]).sum() / len(x) for k in range(most + 1)])


def block_length(d: Floats) -> int:
    """Of a circular block bootstrap: D. N. Politis and H. White, Econometric Reviews 2004, with
    the correction by A. Patton, D. N. Politis and H. White of 2009.
    """
    n = len(d)
    calm = max(5, ceil(log10(n) ** 0.5))
    most = min(ceil(n**0.5) + calm, n - 1)
    covariances = autocovariances(d, most)
    if covariances[0] == 0.0:
        return 1
    small = np.abs(covariances[1:] / covariances[0]) < 2.0 * (log10(n) / n) ** 0.5
    runs = [k for k in range(len(small) - calm + 1) if small[k : k + calm].all()]
    last = runs[0] if runs else int(np.flatnonzero(~small)[-1]) + 1
    lags = np.arange(1, min(2 * max(last, 1), most) + 1)
    weights = np.clip(2.0 * (1.0 - lags / (2 * max(last, 1))), 0.0, 1.0)
    slope = 2.0 * (weights * lags * covariances[lags]).sum()
    level = covariances[0] + 2.0 * (weights * covariances[lags]).sum()
    if level <= 0.0:
        return 1
    length = (2.0 * slope**2 / (4.0 / 3.0 * level**2)) ** (1 / 3) * n ** (1 / 3)
    return int(min(max(ceil(length), 1), ceil(min(3 * n**0.5, n / 3))))


def block_bootstrap(d: Floats) -> Interval:
    """Percentiles of the means of resampled circular blocks of the length above."""
    n, length = len(d), block_length(d)
    random = np.random.default_rng(n)
    begins = random.integers(0, n, (DRAWS, ceil(n / length)))
    places = (begins[:, :, None] + np.arange(length)) % n
    means = d[places.reshape(DRAWS, -1)[:, :n]].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def bartlett(d: Floats) -> Interval:
    """Newey-West with Andrews' bandwidth, and critical values that know the bandwidth (N. Kiefer
    and T. Vogelsang, Econometric Theory 2005, table 1).
    """
    n = len(d)
    covariances = autocovariances(d, n - 1)
    phi = min(covariances[1] / covariances[0], 0.999)
    width = 1.1447 * (4.0 * phi**2 / ((1.0 - phi) ** 2 * (1.0 + phi) ** 2) * n) ** (1 / 3)
    width = min(max(width, 1.0), n)
    lags = np.arange(1, n)
    weights = np.clip(1.0 - lags / width, 0.0, None)
    variance = covariances[0] + 2.0 * (weights * covariances[1:]).sum()
    share = width / n
    critical = 1.9600 + 2.9694 * share + 0.4160 * share**2 - 0.5324 * share**3
    reach = critical * (max(variance, 0.0) / n) ** 0.5
    return d.mean() - reach, d.mean() + reach


TESTS: dict[str, Callable[[Floats], Interval | None]] = {
    "independent pairs": independent,
    "block bootstrap": block_bootstrap,
    "HAC, fixed b": bartlett,
    "cosines (ours)": cosines,
}


def rates(
    test: Callable[[Floats], Interval | None], series: Floats, shift: float
) -> tuple[float, float, float]:
    """Shares of the series that have an interval; that have one without 0, with `shift` added to
    each value; and of the intervals, those with the true mean.
    """
    found = [interval for row in series if (interval := test(row)) is not None]
    if not found:
        return 0.0, 0.0, 0.0
    low, high = np.array(found).T + shift
    given = len(found) / len(series)
    differs = float(((low > 0.0) | (high < 0.0)).sum()) / len(series)
    covers = float(((low <= shift) & (high >= shift)).mean())
    return given, differs, covers


def inference() -> None:
    """How often each test finds a difference where there is none, and where there is one."""
    print(f"{SERIES} series of each kind, seed {SEED}; per cent of the series, covered: of those")
    print("with an interval. A real difference is half a standard deviation of the series.\n")
    print("series                points  test               given   false   covered   real found")
    for name, phi, points, noise in KINDS:
        random = np.random.default_rng(SEED)
        series = autoregression(random, phi, (SERIES, points), noise)
        for test_name, test in TESTS.items():
            given, false, covers = rates(test, series, 0.0)
            power = rates(test, series, 0.5)[1]
            print(
                f"{name:20s}  {points:6d}  {test_name:17s}  {100 * given:5.1f}   {100 * false:5.1f}"
                f"   {100 * covers:7.1f}   {100 * power:10.1f}",
                flush=True,
            )
