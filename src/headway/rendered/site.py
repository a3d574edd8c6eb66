"""The site of a rendered camera: calibration, stop lines, lanes and lamps of its junction, as
`headway watch --calibration` takes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from headway.rendered.painter import Painter
from headway.rendered.view import View, ribbon
from headway.roads import Network
from headway.roads.network import Kind, Lane
from headway.sensing.traffic.site import has_area
from headway.values import FloatArray

# Pixels whose places on the road calibrate the camera, as shares of width and height
CALIBRATION_POINTS = [[0.15, 0.2], [0.85, 0.2], [0.85, 0.85], [0.15, 0.85], [0.5, 0.5], [0.3, 0.6]]
ZONE_M = 60.0  # m of a lane before its stop line
HEADING_M = 10.0  # m of it that state its direction

# m beyond the stop line where its crossing is counted: where a vehicle's middle is when its front
# has passed by a metre or two, so that one which stops at the line does not cross
BEYOND_M = 1.0


@dataclass(frozen=True)
class _Approach:
    """A lane that leads to a stop line. shape: (n, 2), metres; ahead: its direction at the end."""

    lane: Lane
    index: int
    width_m: float
    shape: FloatArray
    ahead: FloatArray


def site_file(painter: Painter, junction: int, limit_kmh: float | None = None) -> dict[str, Any]:
    """The camera's site in the form of a site file: calibration, a stop line and a zone for each
    approach lane of the junction, the lamps.
    """
    approaches = list(_approaches(painter, junction))
    lines = [_stop_line(painter.view, painter.network, one) for one in approaches]
    zones = [_zone(painter.view, one) for one in approaches]
    return {
        "size": list(painter.view.size),
        "points": _calibration_points(painter.view),
        "camera_m": list(painter.view.at_m),
        "lines": [line for line in lines if line is not None],
        "zones": [zone for zone in zones if zone is not None],
        "lamps": _lamps(painter, junction),
        "rules": {"limit_kmh": limit_kmh} if limit_kmh else {},
    }


def _calibration_points(view: View) -> list[dict[str, Any]]:
    """Pixels, and where they are on the road."""
    pixels = np.array(CALIBRATION_POINTS) * list(view.size)
    to_road = np.linalg.inv(_ground_matrix(view))
    on_road = np.c_[pixels, np.ones(len(pixels))] @ to_road.T
    metres = on_road[:, :2] / on_road[:, 2:]
    return [
        {"px": [float(x), float(y)], "m": [float(a), float(b)]}
        for (x, y), (a, b) in zip(pixels, metres, strict=True)
    ]


def _approaches(painter: Painter, junction: int) -> Iterator[_Approach]:
    """The junction's approach lanes that have a shape, each once, without those of pedestrians."""
    network = painter.network
    shapes = {name: (width, np.array(shape)) for name, width, shape in painter.shapes.lanes}
    done = set()
    for group in network.junctions[junction].groups:
        if network.groups[group].kind == Kind.PEDESTRIAN:
            continue
        for link in network.groups[group].links:
            index = network.links[link].from_lane
            lane = network.lanes[index]
            if lane.id in done or lane.id not in shapes:
                continue
            done.add(lane.id)
            width_m, shape = shapes[lane.id]
            ahead = shape[-1] - shape[-2]
            ahead /= np.linalg.norm(ahead)
            yield _Approach(lane=lane, index=index, width_m=width_m, shape=shape, ahead=ahead)


def _stop_line(view: View, network: Network, approach: _Approach) -> dict[str, Any] | None:
    """None where it is not wholly in the image."""
    left = np.array([-approach.ahead[1], approach.ahead[0]])
    at = approach.shape[-1] + approach.ahead * BEYOND_M
    width_m = approach.width_m
    ends = view.ground(np.array([at + left * width_m / 2, at - left * width_m / 2]))
    if not (np.isfinite(ends).all() and (ends >= 0).all() and (ends <= view.size).all()):
        return None
    groups = {network.links[link].group for link in network.links_from(approach.index)}
    return {
        "name": f"stop {approach.lane.id}",
        "px": ends.tolist(),
        "stop": True,
        "group": sorted(groups - {-1}),
    }


def _zone(view: View, approach: _Approach) -> dict[str, Any] | None:
    """The lane before its stop line; None where it is not in the image."""
    area = ribbon(last_metres(approach.shape, ZONE_M), approach.width_m)
    ring = clipped(view.ground(area), *view.size)
    if len(ring) < 3 or not has_area(ring):
        return None
    end = approach.shape[-1]
    heading = view.ground(np.array([end - approach.ahead * HEADING_M, end]))
    return {
        "name": f"lane {approach.lane.id}",
        "kind": "lane",
        "px": ring,
        "heading": heading.tolist(),
        "lane": approach.lane.id,
        "limit_kmh": round(approach.lane.speed_mps * 3.6, 1),
    }


def _lamps(painter: Painter, junction: int) -> list[dict[str, Any]]:
    """Those in the image, each in a square as wide as it is."""
    lamps = []
    for group in painter.network.junctions[junction].groups:
        at, radius = painter.lamps_px[group], painter.lamp_px[group]
        if np.isfinite(at).all() and (at > 0).all() and (at < painter.view.size).all():
            side = 2 * float(radius)
            lamps.append({"group": group, "px": [*(at - radius).tolist(), side, side]})
    return lamps


def _ground_matrix(view: View) -> FloatArray:
    """(3, 3), road to image."""
    right, down, forward = view.axes
    at, (width, height) = np.array(view.at_m), view.size
    rows = np.array(
        [
            view.focal_px * right + forward * width / 2,
            view.focal_px * down + forward * height / 2,
            forward,
        ]
    )
    return np.c_[rows[:, :2], -rows @ at]


def last_metres(line: FloatArray, length_m: float) -> FloatArray:
    """The end of a line (n, 2) of that length; the whole line where it is shorter."""
    kept, left_m = [line[-1]], length_m
    for k in range(len(line) - 1, 0, -1):
        step_m = float(np.linalg.norm(line[k] - line[k - 1]))
        if step_m >= left_m:
            kept.append(line[k] + (line[k - 1] - line[k]) * left_m / step_m)
            break
        kept.append(line[k - 1])
        left_m -= step_m
    return np.array(kept[::-1])


def clipped(ring: FloatArray, width: int, height: int) -> list[list[float]]:
    """The part of a polygon, (n, 2) pixels, within the image (Sutherland and Hodgman, 1974).
    Points that are not finite are left out.
    """
    points = [tuple(p) for p in ring if np.isfinite(p).all()]
    for axis, limit in enumerate((float(width), float(height))):
        points = _clipped_at(points, axis, 0.0, sign=1.0)
        points = _clipped_at(points, axis, limit, sign=-1.0)
    return [[float(np.clip(x, 0, width)), float(np.clip(y, 0, height))] for x, y in points]


def _clipped_at(
    points: list[tuple[float, ...]], axis: int, limit: float, sign: float
) -> list[tuple[float, ...]]:
    """The part where the coordinate is at least the limit (sign 1), or at most (sign -1)."""
    kept: list[tuple[float, ...]] = []
    for k, b in enumerate(points):
        a = points[k - 1]
        a_inside, b_inside = sign * (a[axis] - limit) >= 0, sign * (b[axis] - limit) >= 0
        if a_inside != b_inside:
            t = (limit - a[axis]) / (b[axis] - a[axis])
            kept.append((a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])))
        if b_inside:
            kept.append(b)
    return kept
