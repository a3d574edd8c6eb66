"""Speeds of many at once are those of each alone, by NumPy's polyfit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.sensing.tracking.speed import has_leap, motions


def alone(t, xy):
    """(velocity a tenth of a second before the last point, mean speed, its standard error)
    of one road user.

    A cubic from eight points on, else a parabola, fitted three times; between, who lies off by more
    than 2.2 times the usual (the median, and a millimetre) weighs less. The speed now is the slope
    of a parabola of the same weights; the mean is the length of the cubic by four nodes.
    """
    n, half = len(t), (t[-1] - t[0]) / 2.0
    u, degree = t - (t[0] + t[-1]) / 2.0, 3 if len(t) >= 8 else 2
    after = np.ones(n)
    for _ in range(3):
        weights = after
        fits = [np.polyfit(u, xy[:, c], degree, w=np.sqrt(weights)) for c in (0, 1)]
        rest = np.stack([xy[:, c] - np.polyval(fits[c], u) for c in (0, 1)], 1)
        off = np.hypot(*rest.T)
        usual = sorted(off)[n // 2] + 0.001
        after = np.array([min(1.0, 2.2 * usual / max(o, 1e-12)) for o in off])
    parabola = [np.polyfit(u, xy[:, c], 2, w=np.sqrt(weights)) for c in (0, 1)]
    velocity = [2.0 * a * (half - 0.1) + b for a, b, _ in parabola]
    slopes = [np.polyder(f) for f in fits]
    nodes = [(-0.8611363115940526, 0.34785484513745385), (-0.33998104358485626, 0.6521451548625461)]
    nodes += [(-x, w) for x, w in nodes]
    mean = sum(w * math.hypot(*(np.polyval(s, half * x) for s in slopes)) for x, w in nodes) / 2.0
    moved = np.array([np.polyval(f, half) - np.polyval(f, -half) for f in fits])
    along = rest @ (moved / max(np.hypot(*moved), 1e-6))
    powers = np.vander(u, degree + 1)
    ends = powers[-1] - powers[0]
    share = ends @ np.linalg.inv((powers * weights[:, None]).T @ powers) @ ends
    return velocity, mean, math.sqrt(along @ along / (n - degree - 1) * share) / (2.0 * half)


def together(users):
    """The same of several; rows are filled up with what must not matter."""
    longest = max(len(t) for t, _ in users) + 2
    times, places = np.full((len(users), longest), 77.0), np.full((len(users), longest, 2), -55.0)
    for k, (t, xy) in enumerate(users):
        times[k, : len(t)], places[k, : len(t)] = t, xy
    return motions(times, places, np.array([len(t) for t, _ in users]))


def way(n, seed, noise, wild=0, speed=12.0):
    """n places in about a second on a bend, with noise and some far off."""
    random = np.random.default_rng(seed)
    t = np.sort(random.uniform(-1.0, 0.0, n))
    t[0], t[-1] = -1.0 + 0.02 * seed % 0.1, 0.0
    xy = np.stack(
        [
            3.0 + speed * t + 2.0 * t**2 - 3.0 * t**3,
            -7.0 + 0.5 * speed * t - 5.0 * t**2 + 4.0 * t**3,
        ],
        1,
    ) + random.normal(0.0, noise, (n, 2))
    xy[random.permutation(n)[:wild]] += random.uniform(-2.0, 2.0, (wild, 2))
    return t, xy


USERS = [
    way(5, 1, 0.03), way(7, 2, 0.03), way(8, 3, 0.03), way(9, 4, 0.1, wild=2),
    way(16, 5, 0.05, wild=3), way(30, 6, 0.2), way(6, 7, 0.05, wild=1),
    way(12, 8, 0.0), way(20, 9, 0.02, wild=5, speed=-4.0),
]  # fmt: skip


def test_each_of_many_moves_as_it_would_alone():
    of = together(USERS)
    for k, user in enumerate(USERS):
        velocity, mean, error = alone(*user)
        assert of.velocity_mps[k] == pytest.approx(velocity, rel=1e-5, abs=1e-5)
        assert of.mean_mps[k] == pytest.approx(mean, rel=1e-6)
        assert of.mean_se_mps[k] == pytest.approx(error, rel=1e-4, abs=1e-7)
    assert (of.velocity_mps.shape, of.mean_mps.shape, of.mean_se_mps.shape) == ((9, 2), (9,), (9,))


@pytest.mark.parametrize(("n", "mean"), [(5, 12.0), (7, 12.0), (8, 12.0), (15, 12.0)])
def test_constant_speed_on_a_straight_path_is_measured_exactly(n, mean):
    t = np.linspace(2.0, 3.0, n)
    of = together([(t, np.stack([5.0 + 0.6 * mean * t, 9.0 - 0.8 * mean * t], 1))])
    assert of.velocity_mps[0] == pytest.approx([7.2, -9.6], abs=1e-5)
    assert of.mean_mps[0] == pytest.approx(12.0, abs=1e-5)
    assert of.mean_se_mps[0] == pytest.approx(0.0, abs=1e-6)


def test_a_braking_vehicle_is_slower_now_than_on_average():
    """20 m/s less 4 m/s each second, for a second:
    18 on average, 16.4 a tenth of a second before the end; the same for 5 points and for 12.
    """
    for n in (5, 12):
        t = np.linspace(-1.0, 0.0, n)
        of = together([(t, np.stack([20.0 * (t + 1.0) - 2.0 * (t + 1.0) ** 2, 0.0 * t], 1))])
        assert of.velocity_mps[0] == pytest.approx([16.4, 0.0], abs=1e-4)
        assert of.mean_mps[0] == pytest.approx(18.0, abs=1e-4)


def test_a_stopped_vehicle_has_no_speed_and_no_error():
    of = together([(np.linspace(0.0, 1.0, n), np.full((n, 2), 40.0)) for n in (5, 9)])
    assert of.velocity_mps == pytest.approx(np.zeros((2, 2)), abs=1e-5)
    assert of.mean_mps == pytest.approx([0.0, 0.0], abs=1e-5)
    assert of.mean_se_mps == pytest.approx([0.0, 0.0], abs=1e-6)


def test_one_outlier_changes_little():
    t = np.linspace(-1.0, 0.0, 16)
    xy = np.stack([10.0 * t, 0.0 * t], 1) + np.random.default_rng(3).normal(0.0, 0.02, (16, 2))
    clean = together([(t, xy)]).mean_mps[0]
    xy[5] += 3.0
    assert together([(t, xy)]).mean_mps[0] == pytest.approx(clean, abs=0.5)
    plain = [np.polyfit(t, xy[:, c], 3) for c in (0, 1)]  # without weights
    length = np.hypot(*(np.diff(np.polyval(f, np.linspace(-1.0, 0.0, 500))) for f in plain)).sum()
    assert abs(together([(t, xy)]).mean_mps[0] - 10.0) < 0.5 * abs(length - 10.0)


@settings(deadline=None, max_examples=25)
@given(st.integers(5, 20), st.integers(0, 999), st.floats(0.0, 6.3), st.floats(-1e4, 1e4))
def test_a_speed_does_not_depend_on_where_and_in_which_direction(n, seed, angle, far):
    t, xy = way(n, seed, 0.05)
    c, s = math.cos(angle), math.sin(angle)
    one, other = together([(t, xy)]), together([(t + 5.0, xy @ np.array([[c, s], [-s, c]]) + far)])
    assert np.hypot(*one.velocity_mps[0]) == pytest.approx(
        np.hypot(*other.velocity_mps[0]), rel=1e-3, abs=1e-3
    )
    assert one.mean_mps[0] == pytest.approx(other.mean_mps[0], rel=1e-3)
    assert one.mean_se_mps[0] == pytest.approx(other.mean_se_mps[0], rel=0.02, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(2.0, 20.0),
    st.floats(8.0, 60.0),
    st.floats(0.0, 6.3),
    st.integers(8, 30),
    st.integers(0, 9),
)
def test_the_path_round_a_bend_is_measured_along_the_curve(speed, radius, heading, points, seed):
    t = np.linspace(-1.0, 0.0, points)
    angle = heading + speed * t / radius
    xy = radius * np.c_[np.sin(angle), np.cos(angle)] + np.random.default_rng(seed).normal(
        0.0, 0.005, (points, 2)
    )
    of = motions(t[None], xy[None], np.array([points]))
    assert of.mean_mps[0] == pytest.approx(speed, rel=0.02, abs=0.03)


def test_the_standard_error_of_a_speed_matches_its_actual_error():
    t, random = np.linspace(-1.0, 0.0, 16), np.random.default_rng(1)
    xy = np.zeros((2000, 16, 2))
    xy[:, :, 0] = 12.0 * t
    of = motions(np.tile(t, (2000, 1)), xy + random.normal(0.0, 0.08, xy.shape), np.full(2000, 16))
    off = (of.mean_mps - 12.0) / of.mean_se_mps
    assert 0.8 < off.std() < 1.25
    assert abs(of.mean_mps.mean() - 12.0) < 0.05


HIDDEN = np.r_[np.arange(4) / 10.0, 0.9 + np.arange(4) / 10.0]  # not seen for 0.6 s


@pytest.mark.parametrize(
    ("times_s", "x_m", "leaps"),
    [
        (HIDDEN, 13.0 * HIDDEN, False),  # it drove on at its pace
        (HIDDEN, 13.0 * HIDDEN + (HIDDEN > 0.5) * 26.0, True),  # another one, 26 m ahead
        (HIDDEN, 13.0 * HIDDEN - (HIDDEN > 0.5) * 26.0, True),
        (HIDDEN, (HIDDEN > 0.5) * 1.9, False),  # it stood, and started behind a lorry
        (HIDDEN, (HIDDEN > 0.5) * 2.1, True),
        (np.arange(8) / 10.0, np.arange(8) + (np.arange(8) > 3) * 3.0, False),  # 4 m in 0.1 s ...
        (np.arange(8) / 10.0, np.arange(8) + (np.arange(8) > 3) * 3.1, True),  # ... at 10 m/s
        (np.arange(8) / 10.0, np.arange(8) + (np.arange(8) == 3) * 3.1, True),  # there and back
        (np.repeat(np.arange(4) / 10.0, 2), np.repeat(np.arange(4), 2), False),  # doubled frames
        (np.arange(8) / 10.0 + 0.04 * (np.arange(8) % 2), np.arange(8), False),  # stamps tremble
    ],
)
def test_no_road_user_goes_two_metres_beyond_twice_its_usual_way_in_a_step(times_s, x_m, leaps):
    n = len(times_s)
    road_m = np.stack([np.asarray(x_m, float), np.full(n, 5.0)], 1)
    times, places = np.full((2, n + 3), 77.0), np.full((2, n + 3, 2), -55.0)
    times[0, :n], places[0, :n] = times_s, road_m
    times[1, :n], places[1, :n] = np.arange(n) / 10.0, 0.0  # one beside it that stands
    assert has_leap(times, places, np.array([n, n])).tolist() == [leaps, False]


def test_over_a_gap_a_curve_follows_a_leap_as_if_it_were_a_way():
    """Why a leap must be looked for: the standard error alone does not show it."""
    x_m = 13.0 * HIDDEN + (HIDDEN > 0.5) * 26.0
    found = motions(HIDDEN[None], np.stack([x_m, 0.0 * x_m], 1)[None], np.array([8]))
    assert found.mean_mps[0] > 30.0
    assert found.mean_se_mps[0] < 3.0
