"""Speeds of road users from where they were: all of one frame at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headway.values import FloatArray

LAG_S = 0.1  # s before the last point for which the velocity is stated: at the very end it trembles
CUBIC_POINTS = 8  # points from which the path is a cubic; with fewer a parabola
ROUNDS = 3  # fits, each with weights by the residuals of the one before
TERMS = 4  # of a cubic
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(4)  # of the path's length
HUBER = 2.2  # times the median residual: points farther off weigh less
LEAST_RESIDUAL_M = 1e-3  # m, added to the median: a perfect fit has none
RIDGE = 1e-9  # keeps the normal equations solvable where the cubic is left out
LEAP_M = 2.0  # m beyond twice its usual way that a road user moves from one point to the next
LEAP_RATIO = 2.0  # then the track has changed to another road user
LEAST_STEP_S = 1e-3  # s; of a shorter step the speed says nothing
LEAST_MOVED_M = 1e-6  # m; a road user that moved less has no direction


@dataclass(frozen=True, slots=True)
class Motions:
    """Of m road users.

    velocity_mps: (m, 2), `LAG_S` before the last point.
    mean_mps:     (m,), length of the path over the time of all points.
    mean_se_mps:  (m,), its standard error.
    """

    velocity_mps: FloatArray
    mean_mps: FloatArray
    mean_se_mps: FloatArray


@dataclass(frozen=True, slots=True)
class _Fit:
    """Weighted least squares of m paths, by powers of the time from the middle of each.

    powers:    (m, n, TERMS). normal: (m, TERMS, TERMS), right: (m, TERMS, 2), the equations.
    curve:     (m, TERMS, 2), the coefficients. residuals: (m, n, 2).
    """

    powers: FloatArray
    normal: FloatArray
    right: FloatArray
    curve: FloatArray
    residuals: FloatArray


def motions(times_s: FloatArray, road_m: FloatArray, count: NDArray[np.int64]) -> Motions:
    """Of m road users, n points each at most.

    times_s: (m, n), ascending. road_m: (m, n, 2). count: (m,), how many points there are, 5 or
        more; behind them any finite figures.

    Polynomials by least squares, outliers weighing less (Huber, Annals of Mathematical
    Statistics 35, 1964). A parabola gives the velocity now, where a cubic trembles; a cubic gives
    the path, where a parabola cuts turns short (docs/decisions/0009-speed.md).
    """
    rows = np.arange(len(times_s))
    there = np.arange(times_s.shape[1]) < count[:, None]
    half_s = (times_s[rows, count - 1] - times_s[:, 0]) / 2.0
    fit = _robust_fit(times_s - times_s[:, :1] - half_s[:, None], road_m, there, count)
    return Motions(
        velocity_mps=_velocity(fit, half_s),
        mean_mps=_mean_speed(fit, half_s),
        mean_se_mps=_standard_error(fit, half_s, there, count),
    )


def has_leap(
    times_s: FloatArray, road_m: FloatArray, count: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(m,), whether a road user goes farther in one step than any can, by its other steps; over a
    gap a curve follows a leap as if it were a way. Arguments as for `motions`.
    """
    steps_m = np.hypot(*np.moveaxis(np.diff(road_m, axis=1), 2, 0))
    lasted_s = np.diff(times_s, axis=1)
    there = np.arange(steps_m.shape[1]) < count[:, None] - 1
    speeds_mps = np.where(there, steps_m / np.maximum(lasted_s, LEAST_STEP_S), np.inf)
    usual_mps = np.sort(speeds_mps, 1)[np.arange(len(count)), (count - 1) // 2]
    allowed_m = LEAP_RATIO * usual_mps[:, None] * lasted_s + LEAP_M
    return np.asarray((there & (steps_m > allowed_m)).any(1))


def _robust_fit(
    middle_s: FloatArray, road_m: FloatArray, there: NDArray[np.bool_], count: NDArray[np.int64]
) -> _Fit:
    """Cubics, and parabolas where the points are few."""
    rows = np.arange(len(count))
    powers = middle_s[:, :, None] ** np.arange(TERMS)
    powers[:, :, 3] *= (count >= CUBIC_POINTS)[:, None]
    weights = there.astype(np.float64)
    for _ in range(ROUNDS):
        weighted = (powers * weights[:, :, None]).transpose(0, 2, 1)
        normal, right = weighted @ powers + RIDGE * np.eye(TERMS), weighted @ road_m
        curve = np.linalg.solve(normal, right)
        residuals = road_m - powers @ curve
        off_m = np.where(there, np.sqrt(np.square(residuals).sum(2)), np.inf)
        median_m = np.sort(off_m, 1)[rows, count // 2] + LEAST_RESIDUAL_M
        huber = np.minimum(1.0, HUBER * median_m[:, None] / np.maximum(off_m, 1e-9))
        weights = np.where(there, huber, 0.0)
    return _Fit(powers, normal, right, curve, residuals)


def _velocity(fit: _Fit, half_s: FloatArray) -> FloatArray:
    """(m, 2), the slope of a parabola of the same weights."""
    parabola = np.linalg.solve(fit.normal[:, :3, :3], fit.right[:, :3])
    return np.asarray(parabola[:, 1] + 2.0 * (half_s - LAG_S)[:, None] * parabola[:, 2])


def _mean_speed(fit: _Fit, half_s: FloatArray) -> FloatArray:
    """(m,), the length of the path by Gauss and Legendre, over its time."""
    at_s = half_s[:, None] * NODES
    slopes = (at_s[:, :, None] ** np.arange(TERMS - 1) * np.arange(1, TERMS)) @ fit.curve[:, 1:]
    return np.asarray(np.linalg.norm(slopes, axis=2) @ NODE_WEIGHTS / 2.0)


def _standard_error(
    fit: _Fit, half_s: FloatArray, there: NDArray[np.bool_], count: NDArray[np.int64]
) -> FloatArray:
    """(m,), of the mean speed: by the residuals along the way from the first point to the last."""
    rows = np.arange(len(count))
    ends = fit.powers[rows, count - 1] - fit.powers[:, 0]
    moved_m = np.einsum("mk,mki->mi", ends, fit.curve)
    along = moved_m / np.maximum(np.linalg.norm(moved_m, axis=1), LEAST_MOVED_M)[:, None]
    residuals = np.einsum("mni,mi->mn", np.where(there[:, :, None], fit.residuals, 0.0), along)
    freedom = count - np.where(count >= CUBIC_POINTS, 4, 3)
    variance = np.square(residuals).sum(1) / freedom
    share = np.einsum("mk,mk->m", ends, np.linalg.solve(fit.normal, ends[:, :, None])[:, :, 0])
    return np.asarray(np.sqrt(variance * share) / (2.0 * half_s))
