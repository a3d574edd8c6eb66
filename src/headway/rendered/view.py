"""Where a rendered camera stands, and what it sees of the road."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from headway.plants.sumo.network import Shapes
from headway.roads import Network
from headway.roads.network import Kind
from headway.values import FloatArray

NEAR_M = 1.0
SIZE = (1280, 720)


@dataclass(frozen=True)
class View:
    """A pinhole camera. at_m: its place (x, y, height); towards_m: what is in the middle of the
    picture; size: width, height.
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
        depth = np.where(depth > 0.1, depth, np.nan)
        return np.c_[
            self.focal_px * (away @ right) / depth + self.size[0] / 2,
            self.focal_px * (away @ down) / depth + self.size[1] / 2,
        ]

    def ground(self, points: FloatArray) -> FloatArray:
        return self.project(np.c_[points, np.zeros(len(points))])

    def area(self, ring: FloatArray) -> FloatArray:
        """(m, 2) pixels of an area of the road, (n, 2) metres: the part of it before the camera."""
        places = np.c_[ring, np.zeros(len(ring))]
        depth = (places - np.array(self.at_m)) @ self.axes[2] - NEAR_M
        kept: list[FloatArray] = []
        for k in range(len(places)):
            if (depth[k - 1] >= 0.0) != (depth[k] >= 0.0):
                kept.append(
                    places[k - 1]
                    + (places[k] - places[k - 1]) * depth[k - 1] / (depth[k - 1] - depth[k])
                )
            if depth[k] >= 0.0:
                kept.append(places[k])
        return self.project(np.array(kept)) if len(kept) >= 3 else np.zeros((0, 2))

    @cached_property
    def axes(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Unit vectors of the camera: to the right in its picture, downwards in it, and the way
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
    down, its roads along the picture's sides.
    """
    ends = np.array(
        [
            shapes.signals[g]
            for g in network.junctions[junction].groups
            if network.groups[g].kind != Kind.PEDESTRIAN
        ]
    )
    middle = ends[:, :2].mean(0)
    way = np.radians(90.0 - ends[:, 2])
    main = 0.25 * np.arctan2(
        np.sin(4.0 * way).sum(), np.cos(4.0 * way).sum()
    )  # the cross that most lanes lie along
    if np.abs(np.sin(way - main)).sum() > np.abs(np.cos(way - main)).sum():
        main += np.pi / 2.0
    back = (
        np.array([np.cos(main - np.pi / 2), np.sin(main - np.pi / 2)])
        * height_m
        * np.tan(np.radians(max(tilt_deg, 0.5)))
    )
    away = float(np.hypot(height_m, np.hypot(*back)))
    at = (float(middle[0] + back[0]), float(middle[1] + back[1]), height_m)
    towards = (float(middle[0]), float(middle[1]))
    return View(at, towards, size[0] / 2 * away / reach_m, size)


def ribbon(points: FloatArray, width_m: float) -> FloatArray:
    """The outline of a lane, from its middle line."""
    ahead = np.gradient(points, axis=0)
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    left = np.c_[-ahead[:, 1], ahead[:, 0]] * width_m / 2.0
    return np.r_[points + left, (points - left)[::-1]]
