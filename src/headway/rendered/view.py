"""Where a rendered camera stands, and what it sees of the road."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from headway.plants.sumo.network import Shapes
from headway.roads import Network
from headway.roads.network import Kind
from headway.values import FloatArray

NEAR_M = 1.0  # m before the camera; what is nearer is not drawn
LEAST_DEPTH_M = 0.1  # m before the camera from which a point can be projected
LEAST_TILT_DEG = 0.5  # straight down, the way upwards in the image would not be defined
SIZE = (1280, 720)


@dataclass(frozen=True)
class View:
    """A pinhole camera. at_m: its place (x, y, height); towards_m: the point of the road in the
    middle of its image; size: width, height, pixels.
    """

    at_m: tuple[float, float, float]
    towards_m: tuple[float, float]
    focal_px: float
    size: tuple[int, int] = SIZE

    def project(self, points: FloatArray) -> FloatArray:
        """(n, 2) pixels of (n, 3) metres; nan behind the camera."""
        away = np.asarray(points, np.float64) - np.array(self.at_m)
        right, down, forward = self.axes
        depth = away @ forward
        depth = np.where(depth > LEAST_DEPTH_M, depth, np.nan)
        return np.c_[
            self.focal_px * (away @ right) / depth + self.size[0] / 2,
            self.focal_px * (away @ down) / depth + self.size[1] / 2,
        ]

    def ground(self, points: FloatArray) -> FloatArray:
        """(n, 2) pixels of (n, 2) metres on the road; nan behind the camera."""
        return self.project(np.c_[points, np.zeros(len(points))])

    def area(self, ring: FloatArray) -> FloatArray:
        """(m, 2) pixels of an area of the road, (n, 2) metres: the part of it before the camera."""
        places = np.c_[ring, np.zeros(len(ring))]
        depth = (places - np.array(self.at_m)) @ self.axes[2] - NEAR_M
        kept: list[FloatArray] = []
        for k in range(len(places)):
            before, at = depth[k - 1], depth[k]
            if (before >= 0.0) != (at >= 0.0):  # the edge to it passes the near plane
                edge = places[k] - places[k - 1]
                kept.append(places[k - 1] + edge * before / (before - at))
            if at >= 0.0:
                kept.append(places[k])
        return self.project(np.array(kept)) if len(kept) >= 3 else np.zeros((0, 2))

    @cached_property
    def axes(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Unit vectors of the camera: to the right in its image, downwards in it, and the way
        that it looks.
        """
        forward = np.array([*self.towards_m, 0.0]) - np.array(self.at_m)
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        return right, np.cross(forward, right), forward


def view_of(
    network: Network,
    shapes: Shapes,
    junction: int,
    height_m: float = 90.0,
    tilt_deg: float = 10.0,
    reach_m: float = 60.0,
    size: tuple[int, int] = SIZE,
) -> View:
    """A view of a junction with `reach_m` to either side, from `height_m`, tilted from straight
    down, its roads along the image's sides.
    """
    stop_lines = np.array(
        [
            shapes.signals[group]
            for group in network.junctions[junction].groups
            if network.groups[group].kind != Kind.PEDESTRIAN
        ]
    )
    middle = stop_lines[:, :2].mean(0)
    main = _main_direction(np.radians(90.0 - stop_lines[:, 2]))
    away = np.array([np.cos(main - np.pi / 2), np.sin(main - np.pi / 2)])
    back = away * height_m * np.tan(np.radians(max(tilt_deg, LEAST_TILT_DEG)))
    away_m = float(np.hypot(height_m, np.hypot(*back)))
    return View(
        at_m=(float(middle[0] + back[0]), float(middle[1] + back[1]), height_m),
        towards_m=(float(middle[0]), float(middle[1])),
        focal_px=size[0] / 2 * away_m / reach_m,
        size=size,
    )


def _main_direction(ways: FloatArray) -> float:
    """Direction of the main road, radians: of the two that are at right angles to each other and
    fit the lanes best, the one that more lanes follow. ways: of the lanes, radians.
    """
    main = float(0.25 * np.arctan2(np.sin(4.0 * ways).sum(), np.cos(4.0 * ways).sum()))
    if np.abs(np.sin(ways - main)).sum() > np.abs(np.cos(ways - main)).sum():
        main += np.pi / 2.0
    return main


def ribbon(points: FloatArray, width_m: float) -> FloatArray:
    """The outline of a lane, from its middle line."""
    ahead = np.gradient(points, axis=0)
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    left = np.c_[-ahead[:, 1], ahead[:, 0]] * width_m / 2.0
    return np.r_[points + left, (points - left)[::-1]]
