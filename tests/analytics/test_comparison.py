"""Paired statistics against hand calculation, all 2^n signs, all n^n resamplings, and SciPy."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from headway.analytics.comparison import Paired, paired


def compared(*differences, a=None):
    d = np.array(differences, np.float64)
    a = np.zeros(len(d)) if a is None else np.array(a, np.float64)
    return paired(a, a + d)


def p_of_all_signs(differences):
    """Share of all ways to set the signs whose rank sum is as far from the middle as this one's.
    For differences of unequal, nonzero size.
    """
    sizes = sorted(abs(d) for d in differences)
    ranks = [sizes.index(abs(d)) + 1 for d in differences]
    middle = sum(ranks) / 2
    distance = abs(sum(r for r, d in zip(ranks, differences, strict=True) if d > 0) - middle)
    ways = list(itertools.product((0, 1), repeat=len(ranks)))
    return sum(
        abs(sum(r for r, s in zip(ranks, way, strict=True) if s) - middle) >= distance
        for way in ways
    ) / len(ways)


def percentile(values, q):
    """By linear interpolation between order statistics."""
    values, place = sorted(values), (len(values) - 1) * q
    low = math.floor(place)
    return values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def test_three_pairs_by_hand():
    """-2, -3, -1: mean -2 of 11, p = 2 of the 8 ways to set the signs, each of them against b."""
    found = paired(np.array([10.0, 12.0, 11.0]), np.array([8.0, 9.0, 10.0]))
    assert (found.n, found.mean_a, found.mean_b, found.mean_difference) == (3, 11.0, 9.0, -2.0)
    assert found.change_percent == pytest.approx(-200 / 11)
    assert (found.p, found.effect_size) == (0.25, -1.0)
    assert -3.0 <= found.interval_95[0] < -2.0 < found.interval_95[1] <= -1.0


@pytest.mark.parametrize(
    ("differences", "effect"),
    [
        ((1, -2, 3, 4), (1 - 2 + 3 + 4) / 10),
        ((-1, 2, -3, -4), -(1 - 2 + 3 + 4) / 10),
        ((5, 1, -4, -2, 3), (5 + 1 - 4 - 2 + 3) / 15),
        ((-0.5, 0.25), (-2 + 1) / 3),
        ((10, 20, 30, 40, 50, -60), (15 - 6) / 21),
    ],
)
def test_p_and_effect_by_all_signs(differences, effect):
    found = compared(*differences)
    assert found.p == pytest.approx(p_of_all_signs(differences))
    assert found.effect_size == pytest.approx(effect)
    assert found.mean_difference == pytest.approx(sum(differences) / len(differences))


def test_equal_sizes_share_their_rank():
    assert compared(1, -1, 2).effect_size == pytest.approx((1.5 - 1.5 + 3) / 6)
    assert compared(-2, 2, 2, 1).effect_size == pytest.approx((-3 + 3 + 3 + 1) / 10)


def test_pairs_without_a_difference_count_in_the_mean_alone():
    found, without = compared(0, 0, 1, -2, 4), compared(1, -2, 4)
    assert (found.n, found.mean_difference) == (5, pytest.approx(0.6))
    assert (
        (found.p, found.effect_size)
        == (without.p, without.effect_size)
        == (p_of_all_signs((1, -2, 4)), pytest.approx(1 / 3))
    )


def test_no_difference_at_all():
    assert compared(0, 0, 0, a=(1, 2, 3)) == Paired(3, 2.0, 2.0, 0.0, 0.0, (0.0, 0.0), 1.0, 0.0)
    assert compared(0, 0) == Paired(2, 0.0, 0.0, 0.0, None, (0.0, 0.0), 1.0, 0.0)


def test_one_pair_has_neither_interval_nor_p_and_two_have():
    assert compared(-1, a=(4,)) == Paired(1, 4.0, 3.0, -1.0, -25.0, None, None, None)
    two = compared(
        1, 3, a=(2, 2)
    )  # of the 4 resamplings one has the mean 1, two 2, one 3: the ends lie there
    assert two == Paired(2, 2.0, 4.0, 2.0, 100.0, (1.0, 3.0), 0.5, 1.0)


def test_nothing_is_a_percentage_of_nought():
    assert compared(1, a=(0,)).change_percent is None
    assert compared(1, 2, a=(-1, 1)).change_percent is None
    assert compared(1, 2, a=(-1, -1)).change_percent == pytest.approx(-150.0)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (1, 0), (0, 1), (2, 1), (1, 2)])
def test_what_has_no_partner_is_refused(n, m):
    with pytest.raises(ValueError, match=f"^pairs are needed: got {n} and {m} values$"):
        paired(np.zeros(n), np.zeros(m))


def test_the_interval_is_that_of_two_thousand_resamplings_seeded_by_their_number():
    d = np.sqrt([2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0])
    chosen = np.random.default_rng(7).integers(0, 7, (2000, 7)).tolist()
    means = [sum(d[k] for k in row) / 7 for row in chosen]
    assert compared(*d).interval_95 == pytest.approx(
        (percentile(means, 0.025), percentile(means, 0.975)), rel=1e-12
    )


def test_the_interval_is_near_that_of_all_resamplings():
    """All 4^4 equally likely samples; their 2.5th and 97.5th percentiles."""
    d = (-1.0, 0.5, 2.0, 7.0)
    means = [sum(s) / 4 for s in itertools.product(d, repeat=4)]
    assert compared(*d).interval_95 == pytest.approx(
        (percentile(means, 0.025), percentile(means, 0.975)), abs=0.3
    )


@pytest.mark.slow
def test_above_five_thousand_pairs_the_means_are_drawn_from_their_normal_distribution():
    d = np.linspace(-1.0, 2.0, 5001) ** 3
    drawn = d.mean() + np.random.default_rng(5001).normal(
        0.0, np.sqrt(((d - d.mean()) ** 2).mean() / 5001), 2000
    )
    low, high = compared(*d).interval_95
    assert (low, high) == pytest.approx(
        (percentile(drawn, 0.025), percentile(drawn, 0.975)), rel=1e-9
    )
    assert (low, high) == pytest.approx(
        d.mean() + np.array([-1.96, 1.96]) * d.std() / 5001**0.5, rel=0.02
    )
    d = d[:5000]
    chosen = np.random.default_rng(5000).integers(0, 5000, (2000, 5000))
    assert compared(*d).interval_95 == pytest.approx(
        tuple(np.percentile(d[chosen].mean(axis=1), (2.5, 97.5))), rel=1e-9
    )


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.floats(0.125, 100, width=16), min_size=6, max_size=60, unique=True),
    st.integers(0, 2**32),
)
def test_paired_statistics_agree_with_scipy_and_turn_round_with_the_pairs(sizes, signs):
    d = np.array([s if signs >> k & 1 else -s for k, s in enumerate(sizes)])
    a = np.arange(len(d), dtype=np.float64)
    found, back = paired(a, a + d), paired(a + d, a)
    assert found.p == pytest.approx(stats.wilcoxon(d).pvalue)
    assert found.mean_difference == pytest.approx(d.mean())
    assert found.interval_95[0] <= found.interval_95[1]
    assert (back.effect_size, back.p, back.mean_difference) == pytest.approx(
        (-found.effect_size, found.p, -found.mean_difference)
    )
    assert back.interval_95 == pytest.approx((-found.interval_95[1], -found.interval_95[0]))


def test_an_answer_is_not_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        compared(1, 2).p = 0.0
