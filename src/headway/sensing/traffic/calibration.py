"""Calibration of a camera: from its image to the road plane, in metres."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from headway.values import FloatArray

LEAST_POINTS = 4  # that fix a homography
LEAST_MARKINGS = 3  # that fix focal length, tilt and height
CLICK_PX = 1.0  # what a careful hand misses a point by

# When points do not fix a plane
LEAST_SINGULAR = 1e-4  # of the eighth singular value to the first: three points on one line
LEAST_DETERMINANT = 1e-6  # of the normalised homography
LEAST_DISTANCE = 1e-9  # px or m, mean, from the middle of the points
LEAST_WEIGHT = 1e-12  # of a homogeneous point; below, it is beyond the horizon

# When no camera fits the markings
LARGEST_ERROR_SHARE = 0.2  # of their mean length
LARGEST_CONDITION = 1e4  # of the fit's Jacobian: all markings are alike
BEYOND_HORIZON_M = 1e6  # m, a length that no fit chooses
FIRST_TILTS = (0.2, 0.5, 0.9)  # radians that the fit starts from, in turn
FIRST_HEIGHT_M = 8.0


class CalibrationError(ValueError):
    """The points do not fix the road plane, or a site is faulty; the message says which and why.

    faults: place (its parts) and message of each fault, where the places are known.
    """

    def __init__(
        self, message: str, faults: Sequence[tuple[tuple[str | int, ...], str]] = ()
    ) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


@dataclass(frozen=True)
class Calibration:
    """From the image to the road plane, metres.

    matrix:   (3, 3), image (x right, y down, pixels) to road (x, y).
    error_m:  root mean square error on the road. With more than four points: each one found from
              the others. With four, which fit any homography exactly: what an error of one pixel
              in each of them means.
    camera_m: place of the camera (x, y, height), if it is known; then points above the road can be
              projected onto it.
    """

    matrix: NDArray[np.float64]
    error_m: float
    camera_m: tuple[float, float, float] | None = None

    def to_road(self, pixels: FloatArray, height_m: FloatArray | float = 0.0) -> FloatArray:
        """(n, 2) metres of (n, 2) pixels `height_m` above the road, one height or one each
        (0 where the camera's place is not known). Beyond the horizon: nan.
        """
        found = _mapped(self.matrix, pixels)
        if self.camera_m is not None:
            x, y, camera_height_m = self.camera_m
            share = np.asarray(height_m, np.float64).reshape(-1, 1) / camera_height_m
            found = found + (np.array([x, y]) - found) * share
        return found

    def to_image(self, metres: FloatArray) -> FloatArray:
        """(n, 2) pixels of (n, 2) points of the road."""
        return _mapped(self._inverse, metres)

    @cached_property
    def _inverse(self) -> NDArray[np.float64]:
        return np.asarray(np.linalg.inv(self.matrix), np.float64)

    @classmethod
    def from_points(
        cls,
        pixels: FloatArray,
        metres: FloatArray,
        camera_m: tuple[float, float, float] | None = None,
    ) -> Calibration:
        """From four or more pairs, (n, 2) each. Raises CalibrationError if they do not fix a plane:
        fewer than four, or three of four on one line.
        """
        if len(pixels) < LEAST_POINTS or len(pixels) != len(metres):
            raise CalibrationError(
                f"points: {len(pixels)} pairs are given. Give four or more, on the road and "
                "not on one line."
            )
        matrix = _homography(pixels, metres)
        misses = list(_misses(pixels, metres)) if len(pixels) > LEAST_POINTS else []
        if misses:
            error_m = float(np.sqrt(np.mean(np.sum(np.square(misses), 1))))
        else:
            error_m = _click_error_m(pixels, metres)
        return cls(matrix, error_m, camera_m)

    @classmethod
    def from_lengths(
        cls, ends: FloatArray, lengths_m: FloatArray, size: tuple[int, int]
    ) -> Calibration:
        """From road markings of known length: ends (n, 2, 2) pixels, lengths (n,) metres, three or
        more, not all alike in place and direction. size: of the image, pixels.

        A camera without roll and distortion is fitted (focal length, tilt, height). Raises
        CalibrationError if none fits.
        """
        if len(ends) < LEAST_MARKINGS or len(ends) != len(lengths_m):
            raise CalibrationError(
                f"markings: {len(ends)} are given. Give three or more of known length, near "
                "and far."
            )

        def lengths(camera: FloatArray) -> FloatArray:
            road = _mapped(_tilted(camera, size), ends.reshape(-1, 2)).reshape(-1, 2, 2)
            apart = np.linalg.norm(road[:, 0] - road[:, 1], axis=1)
            return np.nan_to_num(apart, nan=BEYOND_HORIZON_M)

        from scipy.optimize import least_squares  # here: few calibrate, all import

        begins = [np.array([np.log(size[0]), tilt, np.log(FIRST_HEIGHT_M)]) for tilt in FIRST_TILTS]
        fits = [least_squares(lambda c: np.log(lengths(c) / lengths_m), begin) for begin in begins]
        best = min(fits, key=lambda fit: float(fit.cost))
        error_m = float(np.sqrt(np.mean(np.square(lengths(best.x) - lengths_m))))
        fits_well = error_m < LARGEST_ERROR_SHARE * float(np.mean(lengths_m))
        if not fits_well or np.linalg.cond(best.jac) > LARGEST_CONDITION:
            raise CalibrationError(
                f"markings: no camera fits them (error {error_m:.2f} m). Check the lengths, and "
                "mark some in another direction or distance."
            )
        height_m = float(np.exp(best.x[2]))
        return cls(_tilted(best.x, size), error_m, (0.0, 0.0, height_m))


def _misses(pixels: FloatArray, metres: FloatArray) -> Iterator[FloatArray]:
    """(2,) metres from each point to where the others put it; not of a point without which the
    others fix nothing. Raises CalibrationError where they put it beyond the horizon.
    """
    for k in range(len(pixels)):
        try:
            others = _homography(np.delete(pixels, k, 0), np.delete(metres, k, 0))
        except CalibrationError:
            continue
        miss = _mapped(others, pixels[k])[0] - metres[k]
        if np.isnan(miss).any():
            raise CalibrationError(
                f"points: the others put pair {k + 1} beyond the horizon. Check that "
                "pair, or give more points, no three nearly on one line."
            )
        yield miss


def _click_error_m(pixels: FloatArray, metres: FloatArray) -> float:
    """Root mean square error on the road if each point is off by `CLICK_PX` in x and in y."""
    moved = []
    for k in range(len(pixels)):
        for axis in ((1.0, 0.0), (0.0, 1.0)):
            step = CLICK_PX * np.eye(len(pixels))[k][:, None] * np.array(axis)
            moved.append(_mapped(_homography(pixels + step, metres), pixels) - metres)
    return float(np.sqrt(np.mean(np.sum(np.sum(np.square(moved), 2), 0))))


def _tilted(camera: FloatArray, size: tuple[int, int]) -> NDArray[np.float64]:
    """Image to road of a camera at (0, 0, height) that looks along y, down by the tilt (radians).
    camera: log focal length (px), tilt, log height (m).
    """
    log_focal, tilt, log_height = camera
    focal = np.exp(log_focal)
    height = np.exp(log_height)
    cx, cy = size[0] / 2, size[1] / 2
    rays = np.array(
        [[1.0 / focal, 0.0, -cx / focal], [0.0, 1.0 / focal, -cy / focal], [0.0, 0.0, 1.0]]
    )
    c, s = np.cos(tilt), np.sin(tilt)
    # rows: x, y, up; columns: right, down, forward
    world = np.array([[1.0, 0.0, 0.0], [0.0, -s, c], [0.0, -c, -s]])
    towards = world @ rays
    return np.array([height * towards[0], height * towards[1], -towards[2]])


def _homography(pixels: FloatArray, metres: FloatArray) -> NDArray[np.float64]:
    """Least squares by the normalised direct linear transform (Hartley, Zisserman: Multiple View
    Geometry, 2003, algorithm 4.2).
    """
    (p, a), (m, b) = _normalised(pixels), _normalised(metres)
    rows = []
    for (x, y), (u, v) in zip(p, m, strict=True):
        rows += [[-x, -y, -1, 0, 0, 0, u * x, u * y, u], [0, 0, 0, -x, -y, -1, v * x, v * y, v]]
    _, values, vectors = np.linalg.svd(np.array(rows))
    if values[7] < LEAST_SINGULAR * values[0]:
        raise CalibrationError(
            "points: three or more lie on one line, or two on one another. Spread them over "
            "the road."
        )
    normal = vectors[-1].reshape(3, 3)
    found = np.linalg.inv(b) @ normal @ a
    weights = np.c_[pixels, np.ones(len(pixels))] @ found[2]
    if abs(np.linalg.det(normal)) < LEAST_DETERMINANT or weights.min() * weights.max() <= 0.0:
        raise CalibrationError(
            "points: they fold the road over itself. Check that each pixel goes with its own "
            "point of the road."
        )
    return np.asarray(found / weights.mean())  # weights above 0 where the road is visible


def _normalised(points: FloatArray) -> tuple[FloatArray, NDArray[np.float64]]:
    """Points (n, 2) about 0 at a mean distance of the root of 2, and the matrix that does it."""
    middle = points.mean(0)
    distance = float(np.linalg.norm(points - middle, axis=1).mean())
    if distance < LEAST_DISTANCE:
        raise CalibrationError("points: they are all the same point.")
    spread = float(np.sqrt(2.0)) / distance
    return (points - middle) * spread, np.array(
        [[spread, 0, -spread * middle[0]], [0, spread, -spread * middle[1]], [0, 0, 1.0]]
    )


def _mapped(matrix: NDArray[np.float64], points: FloatArray) -> FloatArray:
    """(n, 2) points through a homography; nan beyond the horizon."""
    mapped = np.asarray(points, np.float64).reshape(-1, 2) @ matrix[:, :2].T + matrix[:, 2]
    weight = np.where(mapped[:, 2:] > LEAST_WEIGHT, mapped[:, 2:], np.nan)
    return np.asarray(mapped[:, :2] / weight)
