"""Where a camera looks: its calibration to the road plane, the lines and zones drawn on its
picture, the rules in force there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from headway.values import FloatArray

CLICK_PX = 1.0  # what a careful hand misses a point by
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
Pixel = tuple[Finite, Finite]


class CalibrationError(ValueError):
    """The points do not fix the road plane; the message says which and why."""


@dataclass(frozen=True)
class Calibration:
    """From the picture to the road plane, metres.

    matrix:   (3, 3), picture (x right, y down, pixels) to road (x, y).
    error_m:  root mean square error on the road. With more than four points: each one found from
              the others. With four, which fit any homography without rest: what an error of one
              pixel in each of them means.
    camera_m: place of the camera (x, y, height), if it is known; then points above the road can be
        set right.
    """

    matrix: NDArray[np.float64]
    error_m: float
    camera_m: tuple[float, float, float] | None = None

    def to_road(self, pixels: FloatArray, height_m: FloatArray | float = 0.0) -> FloatArray:
        """(n, 2) metres of (n, 2) pixels that lie `height_m` above the road (0 where the camera's
        place is not known). Beyond the horizon: nan.
        """
        found = _mapped(self.matrix, pixels)
        if self.camera_m is not None:
            x, y, z = self.camera_m
            share = np.asarray(height_m, np.float64).reshape(-1, 1) / z  # one height, or one each
            found = found + (np.array([x, y]) - found) * share
        return found

    def to_image(self, metres: FloatArray) -> FloatArray:
        """(n, 2) pixels of (n, 2) points of the road."""
        return _mapped(self._back, metres)

    @cached_property
    def _back(self) -> NDArray[np.float64]:
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
        if len(pixels) < 4 or len(pixels) != len(metres):
            raise CalibrationError(
                f"points: {len(pixels)} pairs are given. Give four or more, on the road and "
                "not on one line."
            )
        matrix = _homography(pixels, metres)
        misses = []
        for k in range(len(pixels)) if len(pixels) > 4 else ():
            try:
                others = _homography(np.delete(pixels, k, 0), np.delete(metres, k, 0))
            except CalibrationError:  # without this one the others fix nothing
                continue
            miss = _mapped(others, pixels[k])[0] - metres[k]
            if np.isnan(miss).any():
                raise CalibrationError(
                    f"points: the others put pair {k + 1} beyond the horizon. Check that "
                    "pair, or give more points, no three nearly on one line."
                )
            misses.append(miss)
        if misses:
            error = float(np.sqrt(np.mean(np.sum(np.square(misses), 1))))
        else:
            steps = [
                CLICK_PX * np.eye(len(pixels))[k][:, None] * np.array(axis)
                for k in range(len(pixels))
                for axis in ((1.0, 0.0), (0.0, 1.0))
            ]
            moved = [_mapped(_homography(pixels + step, metres), pixels) - metres for step in steps]
            error = float(np.sqrt(np.mean(np.sum(np.sum(np.square(moved), 2), 0))))
        return cls(matrix, error, camera_m)

    @classmethod
    def from_lengths(
        cls, ends: FloatArray, lengths_m: FloatArray, size: tuple[int, int]
    ) -> Calibration:
        """From road markings of known length: ends (n, 2, 2) pixels, lengths (n,) metres, three or
        more, not all alike in place and direction.

        A camera without roll and distortion is fitted (focal length, tilt, height). Raises
        CalibrationError if none fits.
        """
        if len(ends) < 3 or len(ends) != len(lengths_m):
            raise CalibrationError(
                f"markings: {len(ends)} are given. Give three or more of known length, near "
                "and far."
            )

        def lengths(of: FloatArray) -> FloatArray:
            road = _mapped(_tilted(of, size), ends.reshape(-1, 2)).reshape(-1, 2, 2)
            return np.nan_to_num(
                np.linalg.norm(road[:, 0] - road[:, 1], axis=1), nan=1e6
            )  # beyond the horizon

        from scipy.optimize import least_squares  # here: few calibrate, all import

        begins = [np.array([np.log(size[0]), tilt, np.log(8.0)]) for tilt in (0.2, 0.5, 0.9)]
        best = min(
            (least_squares(lambda of: np.log(lengths(of) / lengths_m), begin) for begin in begins),
            key=lambda fit: float(fit.cost),
        )
        error = float(np.sqrt(np.mean(np.square(lengths(best.x) - lengths_m))))
        if not error < 0.2 * float(np.mean(lengths_m)) or np.linalg.cond(best.jac) > 1e4:
            raise CalibrationError(
                f"markings: no camera fits them (error {error:.2f} m). Check the lengths, and "
                "mark some in another direction or distance."
            )
        return cls(_tilted(best.x, size), error, (0.0, 0.0, float(np.exp(best.x[2]))))


def _tilted(of: FloatArray, size: tuple[int, int]) -> NDArray[np.float64]:
    """Picture to road of a camera at (0, 0, height) that looks along y, down by the tilt (radians).
    of: log focal length (px), tilt, log height.
    """
    focal = np.exp(of[0])
    tilt = of[1]
    height = np.exp(of[2])
    cx, cy = size[0] / 2, size[1] / 2
    rays = np.array(
        [[1.0 / focal, 0.0, -cx / focal], [0.0, 1.0 / focal, -cy / focal], [0.0, 0.0, 1.0]]
    )
    c, s = np.cos(tilt), np.sin(tilt)
    world = np.array(
        [[1.0, 0.0, 0.0], [0.0, -s, c], [0.0, -c, -s]]
    )  # rows: x, y, up; of right, down, forward
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
    if values[7] < 1e-4 * values[0]:
        raise CalibrationError(
            "points: three or more lie on one line, or two on one another. Spread them over "
            "the road."
        )
    normal = vectors[-1].reshape(3, 3)
    found = np.linalg.inv(b) @ normal @ a
    weights = np.c_[pixels, np.ones(len(pixels))] @ found[2]
    if abs(np.linalg.det(normal)) < 1e-6 or weights.min() * weights.max() <= 0.0:
        raise CalibrationError(
            "points: they fold the road over itself. Check that each pixel goes with its own "
            "point of the road."
        )
    return np.asarray(found / weights.mean())  # above nought where the road is seen


def _normalised(points: FloatArray) -> tuple[FloatArray, NDArray[np.float64]]:
    middle = points.mean(0)
    distance = float(np.linalg.norm(points - middle, axis=1).mean())
    if distance < 1e-9:
        raise CalibrationError("points: they are all the same point.")
    spread = float(np.sqrt(2.0)) / distance
    return (points - middle) * spread, np.array(
        [[spread, 0, -spread * middle[0]], [0, spread, -spread * middle[1]], [0, 0, 1.0]]
    )


def _mapped(matrix: NDArray[np.float64], points: FloatArray) -> FloatArray:
    of = np.asarray(points, np.float64).reshape(-1, 2) @ matrix[:, :2].T + matrix[:, 2]
    weight = np.where(of[:, 2:] > 1e-12, of[:, 2:], np.nan)
    return np.asarray(of[:, :2] / weight)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PointPair(_Part):
    px: Pixel
    m: Pixel


class Marking(_Part):
    px: tuple[Pixel, Pixel]
    m: Annotated[float, Field(gt=0.0, le=1000.0)]


class Line(_Part):
    """A line over the road; who crosses it is counted. Seen from its first point to its second,
    `in` is from right to left of it.

    stop: it is a stop line of the signal group `group`, or of several that serve its lane (red is
        when all are), crossed in its `in` direction.
    """

    name: Annotated[str, Field(min_length=1, max_length=64)]
    px: tuple[Pixel, Pixel]
    stop: bool = False
    group: (
        Annotated[int, Field(ge=0)]
        | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1, max_length=32)]
        | None
    ) = None

    @property
    def groups(self) -> tuple[int, ...]:
        return (
            ()
            if self.group is None
            else (self.group,)
            if isinstance(self.group, int)
            else self.group
        )


class Zone(_Part):
    """An area of the picture.

    kind: lane (queues, occupancy, flow; `heading` is its direction by two pixels, `limit_kmh` its
        own limit), box (not to be stood in),
    crossing (pedestrians have priority), forbidden (nobody may drive there).
    """

    name: Annotated[str, Field(min_length=1, max_length=64)]
    kind: Literal["lane", "box", "crossing", "forbidden"] = "lane"
    px: Annotated[tuple[Pixel, ...], Field(min_length=3, max_length=64)]
    heading: tuple[Pixel, Pixel] | None = None
    limit_kmh: Annotated[float, Field(gt=0.0, le=300.0)] | None = None
    lane: str = ""  # SUMO's name of the lane, where the picture is to steer a street


class Turn(_Part):
    """A way from one line to another that is not allowed."""

    from_line: str
    to_line: str


class Lamp(_Part):
    """The lamp of a signal group as the camera sees it: x, y, width, height in pixels."""

    group: Annotated[int, Field(ge=0)]
    px: tuple[Finite, Finite, Annotated[float, Field(gt=1)], Annotated[float, Field(gt=1)]]


class Rules(_Part):
    """What is a violation, always in the driver's favour: a speed counts above limit + margin + 3
    standard errors.

    The default margin is 3 km/h below 100 km/h and 3 % above, as most European forces grant.
    grace_s: after red began.
    """

    limit_kmh: Annotated[float, Field(gt=0.0, le=300.0)] | None = None
    margin_kmh: Annotated[float, Field(ge=0.0, le=50.0)] = 3.0
    margin_share: Annotated[float, Field(ge=0.0, le=0.5)] = 0.03
    grace_s: Annotated[float, Field(ge=0.0, le=5.0)] = 0.5
    blocked_s: Annotated[float, Field(gt=0.0, le=600.0)] = 5.0
    stop_m: Annotated[float, Field(gt=0.0, le=20.0)] = 1.0


class SiteFile(_Part):
    size: tuple[Annotated[int, Field(ge=16, le=16384)], Annotated[int, Field(ge=16, le=16384)]]
    points: Annotated[tuple[PointPair, ...], Field(max_length=500)] = ()
    markings: Annotated[tuple[Marking, ...], Field(max_length=500)] = ()
    camera_m: tuple[Finite, Finite, Annotated[float, Field(gt=0.0, le=5000.0)]] | None = None
    lines: Annotated[tuple[Line, ...], Field(max_length=100)] = ()
    zones: Annotated[tuple[Zone, ...], Field(max_length=100)] = ()
    lamps: Annotated[tuple[Lamp, ...], Field(max_length=100)] = ()
    forbidden_turns: Annotated[tuple[Turn, ...], Field(max_length=500)] = ()
    rules: Rules = Rules()

    @model_validator(mode="after")
    def _whole(self) -> SiteFile:
        names = [x.name for x in self.lines] + [x.name for x in self.zones]
        if twice := {n for n in names if names.count(n) > 1}:
            raise ValueError(
                f"{sorted(twice)} occurs twice among lines and zones; each needs a name of its own"
            )
        areas: tuple[Line | Zone, ...] = (*self.lines, *self.zones)
        for part in areas:
            for x, y in part.px:
                if not (0 <= x <= self.size[0] and 0 <= y <= self.size[1]):
                    raise ValueError(
                        f"{part.name}: the point ({x:g}, {y:g}) is outside the picture of "
                        f"{self.size[0]} x {self.size[1]}"
                    )
        lines = {x.name for x in self.lines}
        for turn in self.forbidden_turns:
            if turn.from_line == turn.to_line:
                raise ValueError(
                    f"forbidden_turns: from and to are the same line, {turn.to_line!r}; who "
                    "crosses it would be accused at once. Name two lines"
                )
            for name in (turn.from_line, turn.to_line):
                if name not in lines:
                    raise ValueError(
                        f"forbidden_turns: there is no line {name!r}. There are: "
                        f"{', '.join(sorted(lines)) or 'none'}"
                    )
        return self


@dataclass(frozen=True)
class Site:
    """A camera's place, ready for use. calibration: None where none is given; then there are
    counts, but no speeds, and `uncalibrated` says why.
    """

    size: tuple[int, int]
    calibration: Calibration | None = None
    lines: tuple[Line, ...] = ()
    zones: tuple[Zone, ...] = ()
    lamps: tuple[Lamp, ...] = ()
    forbidden_turns: tuple[Turn, ...] = ()
    rules: Rules = field(default_factory=Rules)
    uncalibrated: str = (
        "the camera is not calibrated: give four points of the road, or markings of known length"
    )

    @classmethod
    def of(cls, tree: Any, where: str = "site") -> Site:
        """Raises CalibrationError naming the place of each fault."""
        try:
            file = SiteFile.model_validate(tree)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors()
            )
            raise CalibrationError(f"{where}: {faults}") from error
        calibration = None
        try:
            if file.points:
                pixels = np.array([p.px for p in file.points])
                metres = np.array([p.m for p in file.points])
                calibration = Calibration.from_points(pixels, metres, file.camera_m)
            elif file.markings:
                calibration = Calibration.from_lengths(
                    np.array([m.px for m in file.markings]),
                    np.array([m.m for m in file.markings]),
                    file.size,
                )
        except CalibrationError as error:
            raise CalibrationError(f"{where}: {error}") from error
        return cls(
            file.size,
            calibration,
            file.lines,
            file.zones,
            file.lamps,
            file.forbidden_turns,
            file.rules,
        )


def read_site(path: Path) -> Site:
    """A site from a YAML (or JSON) file. Raises CalibrationError, OSError."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: this is no YAML: {error}") from error
    return Site.of(tree, str(path))
