"""Statistics of a comparison, against the tables of the text books and SciPy's own paired test."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
from scipy import stats

from headway.experiments.statistics import Interval, interval, paired_p
from headway.learning.training import Episode, Reward, TrainingSettings


def test_an_interval_is_students_of_95_per_cent():
    # s = 1, n = 3, t(0.975; 2) = 4.302653
    assert interval([1.0, 2.0, 3.0]) == Interval(
        2.0, pytest.approx(4.302653 / math.sqrt(3), rel=1e-6), 3
    )
    # differences from 5: -3, -1, 1, 3; s2 = 20 / 3; t(0.975; 3) = 3.182446
    assert interval([2, 4, 6, 8]) == Interval(
        5.0, pytest.approx(3.182446 * math.sqrt(20 / 3) / 2, rel=1e-6), 4
    )
    assert interval([7.0, 7.0]) == Interval(7.0, 0.0, 2)


def test_one_value_has_a_mean_and_no_width():
    one = interval([4.5])
    assert (one.mean, one.n) == (4.5, 1)
    assert math.isnan(one.half_width)


def test_of_no_values_there_is_no_mean():
    with pytest.raises(ValueError, match=r"^a mean of no values was asked for$"):
        interval([])


def test_pairs_are_compared_by_their_ratios():
    a, b = [10.0, 12.0, 9.0, 30.0], [11.0, 15.0, 9.5, 36.0]
    assert paired_p(a, b) == pytest.approx(float(stats.ttest_rel(np.log(a), np.log(b)).pvalue))
    assert paired_p(a, b) == pytest.approx(paired_p(b, a))
    # logarithms of the ratios: ln 2 and ln 8, mean 2 ln 2, s / sqrt(2) = ln 2: t = 2 with one
    # degree of freedom, p = 1 - 2/pi atan 2
    assert paired_p([2.0, 8.0], [1.0, 1.0]) == pytest.approx(1 - 2 / math.pi * math.atan(2))


def test_the_same_ratio_everywhere_is_certain_and_none_at_all_is_chance():
    assert paired_p([2.0, 4.0], [1.0, 2.0]) == 0.0
    assert paired_p([3.0, 4.0], [3.0, 4.0]) == 1.0
    assert math.isnan(paired_p([3.0], [4.0]))
    assert math.isnan(paired_p([], []))


def test_what_is_no_pair_is_refused():
    with pytest.raises(ValueError, match=r"^pairs are wanted, but there are 2 and 1 values$"):
        paired_p([1.0, 2.0], [1.0])


@pytest.mark.parametrize("kind", [Interval, Episode, Reward, TrainingSettings])
def test_figures_and_settings_cannot_be_changed(kind):
    names = [f.name for f in fields(kind)]
    value = kind(*(0 for _ in names))
    for name in names:
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, 1)
