"""How fast road users are, from where they were: all of one picture at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headway.values import FloatArray

LAG_S = 0.1
CUBIC_POINTS = 8
ROUNDS = 3
TERMS = 4
NODES, SHARES = np.polynomial.legendre.leggauss(4)
HUBER = 2.2
LEAST_OFF_M = 1e-3
RIDGE = 1e-9


@dataclass(frozen=True, slots=True)
class Motions:
    """velocity: (m, 2), m/s, `LAG_S` before the last point. mean_mps: (m,), length of the way over
    the time of all points, and its standard error.
    """

    velocity: FloatArray
    mean_mps: FloatArray
    mean_se_mps: FloatArray


def motions(t: FloatArray, xy: FloatArray, count: NDArray[np.int64]) -> Motions:
    """Of m road users, n points each at most: times (m, n), s, ascending; places (m, n, 2), metres;
    count (m,), how many there are, 5 or more; behind them any finite figures.

    Polynomials by least squares, points that lie off weighing less (Huber, Annals of Mathematical
    Statistics 35, 1964). A parabola tells the velocity now, where a cubic trembles; a cubic tells
    the way, where a parabola cuts turns short (docs/decisions/0009-speed.md).
    """
    rows, there = np.arange(len(t)), np.arange(t.shape[1]) < count[:, None]
    half = (t[rows, count - 1] - t[:, 0]) / 2.0
    middle = t - t[:, :1] - half[:, None]
    powers = middle[:, :, None] ** np.arange(TERMS)
    powers[:, :, 3] *= (count >= CUBIC_POINTS)[:, None]
    weights = there.astype(np.float64)
    for _ in range(ROUNDS):
        by = (powers * weights[:, :, None]).transpose(0, 2, 1)
        normal, right = by @ powers + RIDGE * np.eye(TERMS), by @ xy
        curve = np.linalg.solve(normal, right)
        rest = xy - powers @ curve
        off = np.where(there, np.sqrt(np.square(rest).sum(2)), np.inf)
        usual = np.sort(off, 1)[rows, count // 2] + LEAST_OFF_M
        weights = np.where(
            there, np.minimum(1.0, HUBER * usual[:, None] / np.maximum(off, 1e-9)), 0.0
        )
    bend = np.linalg.solve(normal[:, :3, :3], right[:, :3])
    at = half[:, None] * NODES
    speeds = np.linalg.norm(
        (at[:, :, None] ** np.arange(TERMS - 1) * np.arange(1, TERMS)) @ curve[:, 1:], axis=2
    )
    ends = powers[rows, count - 1] - powers[:, 0]
    moved = np.einsum("mk,mki->mi", ends, curve)
    along = moved / np.maximum(np.linalg.norm(moved, axis=1), 1e-6)[:, None]
    spread = np.square(np.einsum("mni,mi->mn", np.where(there[:, :, None], rest, 0.0), along)).sum(
        1
    )
    freedom = count - np.where(count >= CUBIC_POINTS, 4, 3)
    share = np.einsum("mk,mk->m", ends, np.linalg.solve(normal, ends[:, :, None])[:, :, 0])
    error = np.sqrt(spread / freedom * share) / (2.0 * half)
    return Motions(
        bend[:, 1] + 2.0 * (half - LAG_S)[:, None] * bend[:, 2], speeds @ SHARES / 2.0, error
    )
