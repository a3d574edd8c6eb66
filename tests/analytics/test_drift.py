"""Tests of drift against their definitions, ADWIN against one that keeps every value, and both bars
of false alarms and of shifts found.
"""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
from bench import drift as bench
from bench.inference import autoregression
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from headway.analytics.adwin import Adwin, bound
from headway.analytics.drift import (
    confirmed,
    correlation_length,
    drift_of_categories,
    drift_of_numbers,
    residual_drift,
)

near = pytest.approx


def normal(rows, seed=1):
    return np.random.default_rng(seed).normal(size=rows)


def distribution(values, x):
    return sum(v <= x for v in values) / len(values)


# the bars


@pytest.mark.parametrize(
    ("test", "rows", "phi", "checks"),
    [
        ("numbers", bench.FEW, 0.0, 200),
        ("numbers", bench.FEW, 0.5, 200),
        ("numbers", bench.MANY, 0.0, 60),
        ("numbers", bench.MANY, 0.8, 100),
        ("categories", bench.FEW, 0.5, 200),
        ("categories", bench.MANY, 0.5, 60),
        ("residuals", bench.FEW, 0.5, 60),
    ],
)
def test_few_false_alarms_and_shifts_of_half_a_deviation_are_found(test, rows, phi, checks):
    """The bars, by fewer checks where one takes long: `python -m bench drift` does 200 of each."""
    false, found = bench.rates(test, phi, rows, checks)
    assert false <= 0.05
    assert found >= 0.95


def test_a_test_that_takes_rows_for_independent_is_false_nearly_always():
    """What the correction is for: the same streams, by scipy's own test."""
    reference, current = bench.streams(0.9, bench.FEW, 100)
    pairs = list(zip(reference, current, strict=True))
    plain = [stats.ks_2samp(x, y).pvalue < 0.05 for x, y in pairs]
    ours = [drift_of_numbers(x, y).drifts for x, y in pairs]
    assert (sum(plain) > 0.6 * len(plain), sum(ours) <= 0.05 * len(ours)) == (True, True)


# numbers


def test_the_distance_of_kolmogorov_and_smirnov_is_by_its_definition():
    """The largest difference of the two distributions; p by Kolmogorov's series, which is its limit
    for many values.
    """
    x, y = normal(300), normal(200, 2) + 0.1
    found = drift_of_numbers(x, y)
    distance = max(abs(distribution(x, v) - distribution(y, v)) for v in [*x, *y])
    assert (found.test, found.distance) == ("ks", near(distance))
    r, c = found.effective_reference, found.effective_current
    assert (r / 300, c / 200) == (near(r / 300), near(r / 300))  # both by the reference
    t = distance * math.sqrt(r * c / (r + c))
    p = 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * t * t) for k in range(1, 50))
    assert found.p == near(p, abs=0.05)


def test_the_wasserstein_distance_is_by_its_definition():
    """The area between the two distributions, in standard deviations of the reference, whose
    farthest hundredths count as no farther.
    """
    x, y = normal(1000) * 3.0, normal(400, 2) * 3.0 + 1.0
    found = drift_of_numbers(x, y)
    low, high = np.quantile(x, (0.01, 0.99))
    x, y = ([min(max(v, low), high) for v in values] for values in (x.tolist(), y.tolist()))
    edges = sorted([*x, *y])
    area = sum(
        (b - a) * abs(distribution(x, a) - distribution(y, a)) for a, b in itertools.pairwise(edges)
    )
    assert (found.test, found.drifts) == ("wasserstein", True)
    assert found.distance == near(area / statistics.pstdev(x))


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_the_threshold_of_the_wasserstein_distance_is_what_independent_values_reach(draw):
    """One in a hundred pairs of samples is beyond it: by drawing them."""
    random = np.random.default_rng(5)
    x = getattr(random, draw)(size=2000)
    found = drift_of_numbers(x, getattr(random, draw)(size=300))
    n, m = round(found.effective_reference), round(found.effective_current)
    drawn = [
        stats.wasserstein_distance(random.choice(x, n), random.choice(x, m)) / x.std()
        for _ in range(800)
    ]
    share = np.mean(np.array(drawn) >= found.threshold)
    assert 0.002 <= share <= 0.03
    assert found.p == near(np.mean(np.array(drawn) >= found.distance), abs=0.06)


def test_a_shift_that_does_not_matter_is_none_with_many_rows():
    """0.05 standard deviations are significant in 40,000 rows, and no drift."""
    x, y = normal(40_000), normal(40_000, 2) + 0.05
    found = drift_of_numbers(x, y)
    assert (found.p < 0.001, found.drifts, found.threshold) == (True, False, 0.1)


def test_the_more_a_distance_is_the_smaller_its_chance():
    """Also beyond the largest that was ever drawn."""
    x = normal(2000)
    chances = [drift_of_numbers(x, normal(500, 2) + by).p for by in (0.1, 0.2, 0.4, 0.8, 1.6)]
    assert chances == sorted(chances, reverse=True)
    assert (len(set(chances)), 0.0 < chances[-1] < 1e-9) == (5, True)


@pytest.mark.parametrize(("phi", "rows"), [(0.0, 4000), (0.5, 4000), (0.8, 8000), (0.9, 16_000)])
def test_the_correlation_length_is_that_of_the_autoregression(phi, rows):
    """(1 + phi) / (1 - phi) rows say as much as one independent value."""
    found = [
        correlation_length(row) for row in autoregression(np.random.default_rng(3), phi, (9, rows))
    ]
    assert np.median(found) == near((1 + phi) / (1 - phi), rel=0.15)


def test_a_series_that_goes_one_way_says_little():
    assert correlation_length(np.arange(100.0)) > 10.0
    assert correlation_length(np.zeros(50)) == correlation_length(np.zeros(0)) == 1.0


def days(levels, rows=100, seed=9):
    """Independent values of days with these levels, and which day each is of."""
    values = normal(rows * len(levels), seed) + np.repeat(levels, rows)
    return values, np.repeat(np.arange(len(levels)), rows)


def test_one_odd_day_keeps_nobody_from_telling_and_days_that_are_all_odd_do():
    """A jam on the third of eight days, or on the last; and days that each have their own level."""
    x, day = days([0, 0, 8, 0, 0, 0, 0, 0])
    y = normal(100, 10)
    assert "20 are needed" in drift_of_numbers(x, y).why
    calm, moved = (drift_of_numbers(x, v, piece=day) for v in (y, y + 1.0))
    assert (calm.why, calm.drifts, moved.drifts) == ("", False, True)
    assert residual_drift(x, y, piece=day).why == ""
    x, day = days([0, 0, 0, 0, 0, 0, 0, 8])  # the jam was yesterday
    assert not residual_drift(x, y, piece=day).drifts
    assert residual_drift(x, y + 2.0, piece=day).drifts
    x, day = days([0, 8, 0])
    assert "20 are needed" in drift_of_numbers(x, y, piece=day).why


def test_too_little_says_why_and_no_more():
    found = drift_of_numbers(normal(200), normal(5))
    assert (found.drifts, found.p, found.distance) == (False, None, None)
    assert "the newer values say as much as 5 independent values, 20 are needed" in found.why
    assert "the reference say" in drift_of_numbers(np.zeros(0), normal(50)).why
    calm = drift_of_numbers(np.arange(300.0), normal(300))
    assert (calm.p, "the reference" in calm.why) == (None, True)


def test_a_figure_that_never_changed_drifts_when_it_does():
    zero = np.zeros(300)
    assert not drift_of_numbers(zero, np.zeros(100)).drifts
    found = drift_of_numbers(zero, np.repeat([0.0, 1.0], 50))
    assert (found.drifts, found.distance, found.p < 1e-9) == (True, 0.5, True)
    assert not drift_of_numbers(zero, np.append(np.zeros(99), 1.0)).drifts


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match="not finite"):
        drift_of_numbers(normal(100), np.append(normal(99), bad))
    with pytest.raises(ValueError, match="not finite"):
        residual_drift(np.append(normal(99), bad), normal(100))


# streams of other kinds: a share of false alarms of at most 5 %, as the bars have it


def heavy_tailed(random, shape):
    return random.standard_cauchy(shape)


def skewed(random, shape):
    return np.exp(2.0 * random.normal(size=shape))


def rare(random, shape):
    """Three minutes in a thousand have a vehicle."""
    return random.poisson(0.003, shape).astype(float)


def full(random, shape):
    """At the most it can be, but for one minute in ten, which resembles those before."""
    z = autoregression(random, 0.8, shape)
    return -np.maximum(z - 1.28, 0.0)


@pytest.mark.parametrize("stream", [heavy_tailed, skewed, rare, full])
def test_streams_of_other_kinds_have_as_few_false_alarms(stream):
    found = []
    for row in stream(np.random.default_rng(31), (100, 3360)):
        found.append(drift_of_numbers(row[:3000], row[3000:]))
    assert sum(drift.drifts for drift in found) <= 5
    assert all(0.0 <= drift.p <= 1.0 for drift in found)


def test_what_hardly_ever_was_and_now_always_is_is_found():
    """All but three of 1,440 rows are nought: there is no deviation to measure a distance by."""
    usual = np.zeros(1440)
    usual[[10, 500, 900]] = 1.0
    found = drift_of_numbers(usual, np.full(360, 5.0))
    assert (found.test, found.drifts, found.distance) == ("ks", True, near(1.0))
    calm = np.zeros(360)
    calm[7] = 1.0
    assert not drift_of_numbers(usual, calm).drifts


def weeks(random, deviation, n=25, rows=240):
    """(n, 8, rows): a week and a day, each day with a level of its own."""
    values = autoregression(random, 0.5, (8 * n, rows)).reshape(n, 8, rows)
    return values + random.normal(size=(n, 8, 1)) * deviation


@pytest.mark.parametrize("deviation", [0.0, 0.2, 0.5])
def test_one_more_day_is_no_drift_where_days_differ(deviation):
    """By a fifth of what minutes differ, or a half: a test that knows minutes alone finds a drift
    in one day of three. A day that differs by eight times as much is one.
    """
    random, day = np.random.default_rng(32), np.repeat(np.arange(7), 240)
    false, found, false_mean, found_mean = 0, 0, 0, 0
    for week in weeks(random, deviation):
        x, y = week[:-1].ravel(), week[-1]
        far = y + 8.0 * max(deviation, 0.25)
        false += drift_of_numbers(x, y, piece=day).drifts
        found += drift_of_numbers(x, far, piece=day).drifts
        false_mean += residual_drift(x, y, piece=day).drifts
        found_mean += residual_drift(x, far, piece=day).drifts
    assert false <= 2
    assert false_mean <= 2
    assert found >= 22
    assert found_mean >= 22


def test_a_day_of_which_little_is_known_keeps_the_others_from_telling_nothing():
    """The service was away for most of the second day: six days tell how far they lie apart."""
    random, day = np.random.default_rng(34), np.repeat(np.arange(7), 240)
    known, false = (day != 1) | (np.arange(7 * 240) % 12 == 0), 0
    for week in weeks(random, 0.5):
        x = week[:-1].ravel()[known]
        false += drift_of_numbers(x, week[-1], piece=day[known]).drifts
    assert false <= 2


def test_the_chance_of_a_day_is_that_of_students_t_by_hand():
    """Seven days with the means -3, -2, ... 3 and no noise; the farthest does not count (-3, the
    first of two). Of -2 ... 3 each lies 1.2 times its distance from 0.5 from the mean of the other
    five; the farthest counts twice: sqrt(1.44 (17.5 + 6.25) / 7) = 2.21. A gap of 9.5 is 4.30 times
    as much, for which t with six degrees of freedom has a chance of 0.0051.
    """
    levels = np.arange(-3.0, 4.0)
    noise = np.tile([-0.001, 0.001], 50)
    x, day = np.repeat(levels, 100) + np.tile(noise, 7), np.repeat(np.arange(7), 100)
    far, near_by = (residual_drift(x, np.full(100, v), piece=day) for v in (10.0, 6.0))
    assert (far.before, far.drifts, near_by.drifts) == (near(0.5), True, False)
    bound = 0.5 + math.sqrt(1.44 * 23.75 / 7) * 3.7074  # t beyond which 1 in 200 lies, by table
    assert residual_drift(x, np.full(100, bound + 0.01), piece=day).drifts
    assert not residual_drift(x, np.full(100, bound - 0.01), piece=day).drifts


# categories


def shuffled(**counts):
    names = [name for name, n in counts.items() for _ in range(n)]
    return np.random.default_rng(7).permutation(names).tolist()


def test_chi_squared_by_hand():
    """Of 200: 100 N, 100 S; of 100: 70 N, 30 S. Expected 170/3 and 130/3 of the newer ones, so that
    chi-squared is 10.86 where rows are independent.
    """
    found = drift_of_categories(shuffled(N=100, S=100), shuffled(N=70, S=30))
    deflated = found.effective_reference / 200
    expected = [(200, 170 / 300), (200, 130 / 300), (100, 170 / 300), (100, 130 / 300)]
    chi2 = sum(
        (o - n * s) ** 2 / (n * s) for o, (n, s) in zip((100, 100, 70, 30), expected, strict=True)
    )
    assert chi2 == near(10.860, abs=0.001)
    assert (found.test, found.drifts) == ("chi-squared", True)
    assert found.p == near(math.erfc(math.sqrt(deflated * chi2 / 2)))  # one degree of freedom
    assert found.distance == near(math.sqrt(chi2 / 300))


def test_jensen_and_shannon_by_hand():
    """Halves beside three quarters and one: the middle is 5/8 and 3/8."""
    found = drift_of_categories(shuffled(N=600, S=600), shuffled(N=300, S=100))

    def divergence(p, q):
        return sum(a * math.log2(a / b) for a, b in zip(p, q, strict=True))

    bits = (divergence((0.5, 0.5), (0.625, 0.375)) + divergence((0.75, 0.25), (0.625, 0.375))) / 2
    assert (found.test, found.drifts) == ("jensen-shannon", True)
    assert found.distance == near(math.sqrt(bits))


def test_the_chance_of_a_jensen_shannon_distance_is_that_of_chi_squared():
    """Where two distributions are near each other the one is the other, but for its unit."""
    found = drift_of_categories(shuffled(N=600, S=600), shuffled(N=210, S=190))
    deflated = found.effective_reference / 1200
    table = np.array([[600, 600], [210, 190]]) * deflated
    assert found.test == "jensen-shannon"
    assert found.p == near(stats.chi2_contingency(table, correction=False).pvalue, rel=0.01)


def test_a_category_that_is_new_is_a_drift_and_one_that_is_rare_is_none():
    usual = shuffled(N=150, S=150)
    assert drift_of_categories(usual, shuffled(N=40, S=40, E=40)).drifts
    assert not drift_of_categories(usual, shuffled(N=40, S=40, E=1)).drifts
    alone = drift_of_categories(["N"] * 100, ["N"] * 100)
    assert (alone.drifts, alone.p, alone.distance) == (False, 1.0, 0.0)


def test_a_cycle_that_goes_round_is_no_drift():
    """Signal groups in their order, each time: the counts are all but equal."""
    assert not drift_of_categories([1, 2, 3, 4] * 100, [1, 2, 3, 4] * 60).drifts
    assert drift_of_categories([1, 2, 3, 4] * 100, [1, 2, 3, 2] * 60).drifts


def test_what_shares_of_categories_differ_by_from_day_to_day_is_no_drift():
    """Half of them are 1, give or take a twentieth; then nearly all."""
    random, false = np.random.default_rng(33), 0
    day = np.repeat(np.arange(8), 150)

    def of_share(share, n=150):
        return (random.uniform(size=n) < share).astype(int).tolist()

    for _ in range(40):
        usual = [v for share in random.normal(0.5, 0.05, 8) for v in of_share(share)]
        false += drift_of_categories(usual, of_share(random.normal(0.5, 0.05)), piece=day).drifts
        assert drift_of_categories(usual, of_share(0.97), piece=day).drifts
    assert false <= 2


# read together


def test_of_checks_that_are_read_together_chance_finds_none():
    """p of 0.004, 0.008 and 0.9: beside two others 0.004 > 0.01 / 3, but 0.008 > 0.02 / 3 as well;
    0.003 and 0.006 are both below.
    """
    base = drift_of_numbers(normal(100), normal(100, 2) + 2.0)

    def drifting(*chances):
        return [c.drifts for c in confirmed([replace(base, p=p) for p in chances])]

    assert drifting(0.004, 0.008, 0.9) == [False, False, False]
    assert drifting(0.003, 0.006, 0.9) == [True, True, False]
    assert drifting(0.006, 0.9, 0.003) == [True, False, True]
    assert drifting(0.004) == [True]
    assert confirmed([]) == []


# ADWIN


@given(
    st.integers(5, 5000),
    st.integers(5, 5000),
    st.floats(0.0, 0.25),
    st.sampled_from([0.002, 0.05, 0.3]),
)
@settings(max_examples=200, deadline=None)
def test_the_bound_keeps_the_chance_of_each_cut_by_bernsteins_inequality(
    older, newer, variance, delta
):
    """A mean of m values, each within 1 of its own mean, is off by e with a chance of at most
    2 exp(-m e^2 / (2 (variance + e / 3))): ADWIN may cut falsely with delta / ln n.
    """
    m = older * newer / (older + newer)
    e = bound(older, newer, variance, delta)
    chance = 2 * math.exp(-m * e * e / (2 * (variance + e / 3)))
    assert chance <= delta / math.log(older + newer) * (1 + 1e-9)


def naive(values, delta):
    """ADWIN that keeps every value and looks at every cut: after which values it was cut first."""
    window = []
    for k, value in enumerate(values):
        window.append(value)
        for cut in range(5, len(window) - 4):
            a, b = window[:cut], window[cut:]
            gap = abs(statistics.fmean(a) - statistics.fmean(b))
            if len(window) >= 10 and gap > bound(len(a), len(b), np.var(window), delta):
                return k
    return None


@pytest.mark.parametrize("seed", range(3))
def test_adwin_cuts_where_one_that_keeps_every_value_does_or_a_little_later(seed):
    random = np.random.default_rng(seed)
    values = np.clip(np.append(random.normal(0.4, 0.1, 100), random.normal(0.6, 0.1, 60)), 0, 1)
    adwin = Adwin(0.05)
    first = next(k for k, v in enumerate(values.tolist()) if adwin.add(v))
    exact = naive(values.tolist(), 0.05)
    assert 100 <= exact <= first <= exact + 10


def test_the_window_is_of_the_newest_values_and_its_memory_grows_with_its_logarithm():
    random = np.random.default_rng(4)
    values = np.append(random.uniform(0.0, 0.4, 3000), random.uniform(0.6, 1.0, 1000)).tolist()
    adwin = Adwin()
    for value in values:
        adwin.add(value)
    assert adwin.changes >= 1
    assert 900 <= adwin.n <= 1050
    assert adwin.mean == near(statistics.fmean(values[-adwin.n :]))
    assert sum(len(row) for row in adwin._rows) <= 5 * math.ceil(math.log2(4000))


def test_adwin_refuses_what_is_not_scaled():
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="within 0 to 1"):
            Adwin().add(bad)
    with pytest.raises(ValueError, match="delta"):
        Adwin(1.0)
    assert math.isnan(Adwin().mean)


def test_residuals_that_change_are_told_with_when_and_how_far():
    """3 s late from the 200th row on."""
    x = autoregression(np.random.default_rng(6), 0.5, (1, 1400))[0]
    y = x[800:] + np.where(np.arange(600) < 200, 0.0, 3.0)
    found = residual_drift(x[:800], y)
    assert (found.drifts, found.why) == (True, "")
    assert 200 <= found.since <= 300
    assert (found.before, found.now) == (near(0.0, abs=0.2), near(2.7, abs=0.5))
    assert residual_drift(x[:800], x[800:]).drifts is False
    assert "20 are needed" in residual_drift(x[:800], x[:10]).why


def test_residuals_that_were_always_nought_and_are_not_any_more():
    found = residual_drift(np.zeros(500), np.append(np.zeros(50), np.ones(200)))
    assert (found.drifts, found.before) == (True, 0.0)
    assert not residual_drift(np.zeros(500), np.zeros(200)).drifts
