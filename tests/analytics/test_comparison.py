"""Paired statistics against hand calculation, a second formula, and series of known
autocorrelation.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from bench.inference import autoregression
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from headway.analytics.comparison import METHOD, paired


def compared(*differences, a=None, at_s=None):
    d = np.array(differences, np.float64)
    a = np.zeros(len(d)) if a is None else np.array(a, np.float64)
    return paired(a, a + d, np.arange(len(d)) if at_s is None else np.array(at_s))


def t_tail(t, freedom):
    """Two-sided p of Student's t, by integrating its density."""
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    within, _ = integrate.quad(lambda x: (1 + x * x / freedom) ** (-(freedom + 1) / 2), 0, abs(t))
    return 1 - 2 * scale * within


def by_definition(d):
    """Correlation length, terms, standard error of the mean, p, and whether a difference as long as
    the series is ruled out, of a series of fewer than 64 values.
    """
    n, mean = len(d), sum(d) / len(d)
    x = [v - mean for v in d]
    first = sum(x[k] * x[k + 1] for k in range(n - 1)) / sum(v * v for v in x)
    phi = first + (1 + 4 * first) / n
    length = -1 / math.log(min(phi, math.exp(-1 / n))) if phi > 0 else 0.0
    terms = n // 2 if length == 0 else min(max(int(0.3 * n / length), 4), n // 2)
    spectrum, seen = 0.0, 0.0
    for k in range(1, terms + 1):
        wave = sum(v * math.cos(math.pi * k * (i + 0.5) / n) for i, v in enumerate(x))
        spectrum += 2 / n * wave**2 / terms
        seen += 1 / (1 + (math.pi * k * length / n) ** 2) / terms
    error = math.sqrt(spectrum / seen / n)
    return length, terms, error, t_tail(mean / error, terms), phi <= 1 - 10 / n


@pytest.mark.parametrize(("n", "sevenths"), [(14, 27), (12, 3), (49, 6)])
def test_a_difference_that_is_the_same_each_time_is_sure(n, sevenths):
    """Also where the mean of equal values is not quite their value: it was rounded."""
    found = compared(*[sevenths / 7.0] * n)
    assert found.interval_95 == (pytest.approx(sevenths / 7), pytest.approx(sevenths / 7))
    assert (found.p, found.why) == (0.0, "")


def test_three_pairs_by_hand():
    """-2, -3, -1: mean -2 of 11, each of them against b; too few to say more."""
    found = compared(-2, -3, -1, a=(10, 12, 11))
    assert (found.n, found.mean_a, found.mean_b, found.mean_difference) == (3, 11.0, 9.0, -2.0)
    assert found.change_percent == pytest.approx(-200 / 11)
    assert (found.p, found.interval_95, found.effect_size) == (None, None, -1.0)
    assert found.why == (
        "3 different times are too few to tell a difference from chance: at least 12 are needed"
    )


@pytest.mark.parametrize(
    ("differences", "effect"),
    [
        ((1, -2, 3, 4), (1 - 2 + 3 + 4) / 10),
        ((-1, 2, -3, -4), -(1 - 2 + 3 + 4) / 10),
        ((5, 1, -4, -2, 3), (5 + 1 - 4 - 2 + 3) / 15),
        ((-0.5, 0.25), (-2 + 1) / 3),
        ((10, 20, 30, 40, 50, -60), (15 - 6) / 21),
        ((1, -1, 2), (1.5 - 1.5 + 3) / 6),
        ((-2, 2, 2, 1), (-3 + 3 + 3 + 1) / 10),
        ((0, 0, 1, -2, 4), 1 / 3),
        ((0, 0), 0.0),
        ((7,), None),
    ],
)
def test_effect_size_by_ranks(differences, effect):
    found = compared(*differences)
    assert found.effect_size == pytest.approx(effect)
    assert found.mean_difference == pytest.approx(sum(differences) / len(differences))


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("n", [12, 31, 63])
def test_p_and_interval_by_a_second_formula(phi, n):
    d = (autoregression(np.random.default_rng(n), phi, (1, n))[0] + 0.3).tolist()
    found = compared(*d, at_s=5.0 * np.arange(n))
    length, terms, error, p, is_ruled_out = by_definition(d)
    assert found.correlation_s == pytest.approx(5.0 * length)
    assert (found.why == "") == is_ruled_out
    if found.why:
        return
    low, high = found.interval_95
    assert (found.degrees_of_freedom, found.times, found.method) == (terms, n, METHOD)
    assert found.p == pytest.approx(p, abs=1e-9)
    assert (low + high) / 2 == pytest.approx(found.mean_difference)
    assert t_tail((high - low) / 2 / error, terms) == pytest.approx(0.05)
    assert found.effective_n == pytest.approx(min(n, np.var(d) / error**2))


def rates(series):
    found = [compared(*d) for d in series]
    given = [f for f in found if f.p is not None]
    covered = sum(f.interval_95[0] <= 0 <= f.interval_95[1] for f in given)
    return sum(f.p < 0.05 for f in given) / len(found), covered / len(given), len(given)


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize(("points", "given"), [(720, 160), (3600, 199)])
def test_series_without_a_difference_seldom_have_one_and_intervals_cover(points, noise, given):
    """200 pairs of AR(1) series of 0.98, alone and beneath white noise: 12 minutes and an hour of
    seconds.
    """
    random = np.random.default_rng(17)
    a, b = (autoregression(random, 0.98, (200, points), noise) for _ in range(2))
    false, covered, n = rates(b - a)
    assert false <= 0.07
    assert covered >= 0.93
    assert n >= given


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.7, 0.98])
@pytest.mark.parametrize("points", [8, 12, 16, 24, 96])
def test_short_series_without_a_difference_seldom_have_one_however_long_it_lasts(points, phi):
    """1,000 of each: 7 % and two standard errors, of all and of independent ones with a p."""
    series = autoregression(
        np.random.default_rng(round(1000 * points + 100 * phi)), phi, (1000, points)
    )
    found = [compared(*d).p for d in series]
    given = [p for p in found if p is not None]
    false = sum(p < 0.05 for p in given)
    assert false <= 0.086 * len(found)
    if points < 12:
        assert not given
    elif phi == 0.0:
        assert len(given) > 0.65 * len(found)
        assert false <= 0.086 * len(given)


def test_a_real_difference_is_found():
    """Of a standard deviation of the series: over an hour in 95 of 100, over 12 minutes, of which
    some seven values are independent, in a third.
    """
    random = np.random.default_rng(3)
    for points, least in ((3600, 0.95), (720, 0.33)):
        found, covered, _ = rates(autoregression(random, 0.98, (200, points)) + 1.0)
        assert found >= least
        assert covered < 0.7


def test_where_a_difference_lasts_as_long_as_the_run_nothing_is_claimed():
    walk = np.random.default_rng(1).normal(size=720).cumsum() + 100.0
    found = compared(*walk, at_s=5.0 * np.arange(720))
    assert (found.p, found.interval_95, found.effective_n) == (None, None, None)
    assert 1200.0 < found.correlation_s <= 3600.0
    assert found.why == (
        f"a difference lasts some {found.correlation_s:.0f} s, and perhaps as long as the 3600 s "
        "compared: compare longer runs, or several pairs of runs"
    )


def test_what_is_reported_of_autocorrelation_is_right():
    """AR(1) of 0.9 a second: e-folding after 9.5 s; of 20,000 values 1 / 19 are independent."""
    series = autoregression(np.random.default_rng(2), 0.9, (1, 20_000))[0]
    found = compared(*series)
    assert found.times == found.n == 20_000
    assert 0.3 * 20_000 / 19 < found.effective_n < 3.0 * 20_000 / 19
    assert found.degrees_of_freedom < 32


def test_a_difference_that_does_not_vary_is_certain():
    """A constant difference leaves no doubt; none at all leaves no difference."""
    same = compared(*[0.0] * 20, a=range(20))
    assert (same.p, same.interval_95, same.mean_difference) == (1.0, (0.0, 0.0), 0.0)
    assert (same.effect_size, same.correlation_s, same.effective_n) == (0.0, 0.0, 20.0)
    noise = np.linspace(0.1, 0.7, 20)  # 0.1 + 0.2 is not 0.3: rounding is no difference
    rounded = paired(noise + 0.2 - 0.2, noise, np.arange(20))
    assert (rounded.p, rounded.interval_95, rounded.effect_size) == (1.0, (0.0, 0.0), 0.0)
    moved = compared(*[-2.0] * 20, a=range(20))
    assert (moved.p, moved.interval_95, moved.effect_size) == (0.0, (-2.0, -2.0), -1.0)


def test_junctions_that_say_the_same_count_once():
    """Twelve junctions of one street that rise and fall together are no more than one."""
    d = autoregression(np.random.default_rng(4), 0.5, (1, 200))[0] + 0.2
    one, twelve = compared(*d), compared(*np.tile(d, 12), at_s=np.tile(np.arange(200), 12))
    assert (twelve.n, twelve.times) == (2400, 200)
    for name in ("p", "interval_95", "correlation_s", "effective_n", "mean_difference"):
        assert getattr(twelve, name) == pytest.approx(getattr(one, name))


def test_junctions_that_are_independent_count_each():
    random = np.random.default_rng(8)
    d = random.normal(size=(200, 16))
    one = compared(*d[:, 0])
    all_of_them = compared(*d.ravel(), at_s=np.repeat(np.arange(200), 16))
    ratio = np.diff(one.interval_95)[0] / np.diff(all_of_them.interval_95)[0]
    assert 2.5 < ratio < 6.0  # about the root of 16


def test_times_that_are_missing_move_little():
    d = autoregression(np.random.default_rng(6), 0.95, (1, 900))[0]
    whole = compared(*d)
    holes = np.random.default_rng(7).random(900) > 0.02
    found = compared(*d[holes], at_s=np.flatnonzero(holes))
    assert found.interval_95 == pytest.approx(whole.interval_95, abs=0.1)
    assert found.correlation_s == pytest.approx(whole.correlation_s, rel=0.2)


def test_nothing_is_a_percentage_of_nought():
    assert compared(1, a=(0,)).change_percent is None
    assert compared(1, 2, a=(-1, 1)).change_percent is None
    assert compared(1, 2, a=(-1, -1)).change_percent == pytest.approx(-150.0)


@pytest.mark.parametrize("unit", [1e-300, 1e-160, 1e-9, 1e9])
def test_p_does_not_depend_on_the_unit_however_small_the_values_are(unit):
    d = np.random.default_rng(3).uniform(-1, 2, 64)
    plain, found = compared(*d), compared(*(unit * d))
    assert (found.p, found.effective_n) == pytest.approx((plain.p, plain.effective_n))
    assert found.interval_95 == pytest.approx([unit * x for x in plain.interval_95], 1e-9, 0.0)
    assert found.correlation_s == plain.correlation_s


def test_a_percentage_beyond_all_numbers_is_none():
    assert compared(1, a=(5e-324,)).change_percent is None


@pytest.mark.parametrize(
    ("n", "m", "times"), [(0, 0, 0), (1, 0, 1), (0, 1, 1), (2, 1, 2), (1, 1, 2)]
)
def test_what_has_no_partner_is_refused(n, m, times):
    refusal = f"^pairs are needed: got {n} and {m} values at {times} times$"
    with pytest.raises(ValueError, match=refusal):
        paired(np.zeros(n), np.zeros(m), np.zeros(times))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(-100, 100, width=16), min_size=1, max_size=90),
    st.randoms(use_true_random=False),
)
def test_the_answer_turns_round_with_the_pairs_and_knows_no_order(differences, random):
    d = np.array(differences, np.float64)
    a, t = np.arange(len(d), dtype=np.float64), 3.0 * np.arange(len(d))
    found, back = paired(a, a + d, t), paired(a + d, a, t)
    assert (found.p is None) == (found.interval_95 is None) == (found.why != "")
    order = np.array(random.sample(range(len(d)), len(d)))
    mixed = paired(a[order], (a + d)[order], t[order])
    for name in ("n", "times", "correlation_s", "p", "effective_n", "degrees_of_freedom"):
        expected = getattr(found, name)
        for other in (back, mixed):
            if expected is None:
                assert getattr(other, name) is None
            else:
                assert getattr(other, name) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    if found.interval_95 is not None:
        assert 0.0 <= found.p <= 1.0
        assert found.interval_95[0] <= found.mean_difference <= found.interval_95[1]
        assert back.interval_95 == pytest.approx([-x for x in found.interval_95[::-1]], abs=1e-9)


def test_an_answer_is_not_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        compared(1, 2).p = 0.0
