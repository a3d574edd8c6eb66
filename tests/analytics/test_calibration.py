"""Reliability tables by hand, and whether their intervals cover."""

from __future__ import annotations

import numpy as np
import pytest

from headway.analytics.calibration import NORMAL_95, reliability, wilson

near = pytest.approx


def of(*rows, block=None):
    """rows: (confidence, came true)."""
    p, t = zip(*rows, strict=True)
    return reliability(np.array(p), np.array(t), np.arange(len(p)) if block is None else block)


def test_a_table_by_hand():
    """0.95 and 0.85, of which half and all come true: 2/4 |0.95 - 0.5| + 2/4 |0.85 - 1| = 0.3."""
    found = of((0.95, True), (0.95, False), (0.85, True), (0.85, True))
    assert found.error == near(0.3)
    assert (found.n, found.confidence, found.true, found.excess) == (
        4, near(0.9), 0.75, near(0.15),
    )  # fmt: skip
    assert found.resolution == near(0.05)
    ninth, last = found.bins[8:]
    assert (ninth.low, ninth.high, ninth.n, ninth.confidence, ninth.true) == (
        0.8, 0.9, 2, near(0.85), 1.0,
    )  # fmt: skip
    assert (last.n, last.true) == (2, 0.5)
    assert [b.n for b in found.bins[:8]] == [0] * 8
    assert found.bins[0].true is None
    assert (found.interval_95, "4 blocks of time are too few" in found.why) == (None, True)


def test_a_confidence_of_1_everywhere_says_nothing():
    """Seven in ten come true: it is wrong by 0.3, and has no resolution."""
    found = of(*[(1.0, k % 10 < 7) for k in range(200)])
    assert (found.error, found.resolution, found.bins[9].n) == (near(0.3), 0.0, 200)
    assert 0.2 < found.interval_95[0] < 0.3 < found.interval_95[1] < 0.4


@pytest.mark.parametrize("confidence", [0.0, 0.1, 0.9, 1.0])
def test_equal_confidences_have_no_resolution_at_all(confidence):
    """The standard deviation of 0.9, two hundred times, is 1.1e-16."""
    assert of(*[(confidence, k % 10 < 7) for k in range(200)]).resolution == 0.0


def test_a_table_is_that_of_a_second_way():
    """Random ones, bin by bin in plain Python; in tenths, so that bounds of bins are met."""
    random = np.random.default_rng(7)
    p = random.integers(0, 41, 500) / 40
    t = random.uniform(size=500) < p**2
    found, error = of(*zip(p, t, strict=True)), 0.0
    for k, one in enumerate(found.bins):
        inside = [
            (c, o)
            for c, o in zip(p.tolist(), t.tolist(), strict=True)
            if k / 10 <= c < (k + 1) / 10 or (k == 9 and c == 1.0)
        ]
        assert one.n == len(inside)
        mean, share = (sum(column) / one.n for column in zip(*inside, strict=True))
        assert (one.confidence, one.true) == (near(mean), near(share))
        error += len(inside) / 500 * abs(mean - share)
    assert found.error == near(error)


def test_what_comes_true_as_often_as_it_says_is_calibrated():
    random = np.random.default_rng(1)
    p = random.uniform(0.2, 1.0, 5000)
    found = reliability(p, random.uniform(size=5000) < p, np.arange(5000))
    assert found.error < 0.03
    assert all(
        b.interval_95[0] - 0.03 <= b.confidence <= b.interval_95[1] + 0.03
        for b in found.bins
        if b.n
    )


def test_the_interval_covers_the_error_of_as_many_tables_as_it_says():
    """Confidence 0.9, of which 0.7 come true: 0.2. Blocks of ten share what becomes of them, so
    that an interval of independent predictions would be three times too narrow.
    """
    random, covered, widths = np.random.default_rng(2), 0, []
    for _ in range(100):
        true = np.repeat(random.uniform(size=60) < 0.7, 10)
        found = reliability(np.full(600, 0.9), true, np.repeat(np.arange(60), 10))
        low, high = found.interval_95
        covered += low <= 0.2 <= high
        widths.append(high - low)
    assert covered >= 88
    assert 0.2 < np.mean(widths) < 0.26  # 2 x 1.96 x sqrt(0.7 x 0.3 / 60) = 0.232


@pytest.mark.parametrize(("share", "n"), [(0.0, 10.0), (0.3, 20.0), (1.0, 7.0)])
def test_wilsons_bounds_are_the_shares_from_which_what_was_seen_is_just_so_far(share, n):
    """By definition: |seen - p| = 1.96 sqrt(p (1 - p) / n)."""
    for p in wilson(share, n):
        if 0.0 < p < 1.0:
            assert abs(share - p) == near(NORMAL_95 * (p * (1 - p) / n) ** 0.5)


def test_nothing_predicted_says_so():
    found = reliability(np.zeros(0), np.zeros(0, bool), np.zeros(0, np.int64))
    assert (found.n, found.error, found.why != "") == (0, None, True)


def test_bad_input_is_refused():
    for p in (1.1, -0.1, np.nan):
        with pytest.raises(ValueError, match="within 0 to 1"):
            of((p, True))
    with pytest.raises(ValueError, match="1 confidences, 2 outcomes"):
        reliability(np.ones(1), np.ones(2, bool), np.zeros(1, np.int64))
