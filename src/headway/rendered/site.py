"""The site of a rendered camera: calibration, stop lines, lanes and lamps of its junction, as
`headway watch --calibration` takes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headway.rendered.painter import Painter
from headway.rendered.view import View, ribbon
from headway.roads.network import Kind
from headway.values import FloatArray


def site_file(painter: Painter, junction: int, limit_kmh: float | None = None) -> dict[str, Any]:
    """The camera's site: calibration, a stop line and a zone for each approach lane of the
    junction, the lamps.
    """
    view = painter.view
    network = painter.network
    shapes = painter.shapes
    width, height = view.size
    corners = np.array(
        [[0.15, 0.2], [0.85, 0.2], [0.85, 0.85], [0.15, 0.85], [0.5, 0.5], [0.3, 0.6]]
    ) * [width, height]
    flat = np.linalg.inv(_ground_matrix(view))
    on_road = np.c_[corners, np.ones(len(corners))] @ flat.T
    points = [
        {"px": [float(x), float(y)], "m": [float(a), float(b)]}
        for (x, y), (a, b) in zip(corners, on_road[:, :2] / on_road[:, 2:], strict=True)
    ]
    lanes = {name: (wide, np.array(shape)) for name, wide, shape in shapes.lanes}
    lines = []
    zones = []
    seen = set()
    for group in network.junctions[junction].groups:
        for link in network.groups[group].links:
            lane = network.lanes[network.links[link].from_lane]
            if (
                lane.id in seen
                or network.groups[group].kind == Kind.PEDESTRIAN
                or lane.id not in lanes
            ):
                continue
            seen.add(lane.id)
            wide, shape = lanes[lane.id]
            ahead = shape[-1] - shape[-2]
            ahead /= np.linalg.norm(ahead)
            left = np.array([-ahead[1], ahead[0]])
            # where a vehicle's middle is when its front has passed the line by a metre: a little
            # beyond, so that who stops at it does not cross
            at = shape[-1] + ahead * 1.0
            ends = view.ground(np.array([at + left * wide / 2, at - left * wide / 2]))
            if np.isfinite(ends).all() and (ends >= 0).all() and (ends <= [width, height]).all():
                own = sorted(
                    {
                        network.links[k].group
                        for k in network.links_from(network.links[link].from_lane)
                    }
                    - {-1}
                )
                lines.append(
                    {"name": f"stop {lane.id}", "px": ends.tolist(), "stop": True, "group": own}
                )
            ring = _clipped(view.ground(ribbon(_last(shape, 60.0), wide)), width, height)
            if len(ring) >= 3:
                way = view.ground(np.array([shape[-1] - ahead * 10.0, shape[-1]]))
                zones.append(
                    {
                        "name": f"lane {lane.id}",
                        "kind": "lane",
                        "px": ring,
                        "heading": way.tolist(),
                        "lane": lane.id,
                        "limit_kmh": round(lane.speed_mps * 3.6, 1),
                    }
                )
    lamps = [
        {
            "group": g,
            "px": [
                *(painter.lamps_px[g] - painter.lamp_px[g]).tolist(),
                2 * float(painter.lamp_px[g]),
                2 * float(painter.lamp_px[g]),
            ],
        }
        for g in network.junctions[junction].groups
        if np.isfinite(painter.lamps_px[g]).all()
        and (painter.lamps_px[g] > 0).all()
        and (painter.lamps_px[g] < [width, height]).all()
    ]
    rules = {"limit_kmh": limit_kmh} if limit_kmh else {}
    return {
        "size": [width, height],
        "points": points,
        "camera_m": list(view.at_m),
        "lines": lines,
        "zones": zones,
        "lamps": lamps,
        "rules": rules,
    }


def _ground_matrix(view: View) -> FloatArray:
    """(3, 3), road to picture."""
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


def _last(shape: FloatArray, length_m: float) -> FloatArray:
    """The last metres of a line."""
    kept, left = [shape[-1]], length_m
    for k in range(len(shape) - 1, 0, -1):
        step = float(np.linalg.norm(shape[k] - shape[k - 1]))
        if step >= left:
            kept.append(shape[k] + (shape[k - 1] - shape[k]) * left / step)
            break
        kept.append(shape[k - 1])
        left -= step
    return np.array(kept[::-1])


def _clipped(ring: FloatArray, width: int, height: int) -> list[list[float]]:
    """The part of a polygon within the picture (Sutherland and Hodgman, 1974)."""
    points = [tuple(p) for p in ring if np.isfinite(p).all()]
    for axis, limit, sign in (
        (0, 0.0, 1.0),
        (0, float(width), -1.0),
        (1, 0.0, 1.0),
        (1, float(height), -1.0),
    ):
        out: list[tuple[float, ...]] = []
        for k, b in enumerate(points):
            a = points[k - 1]
            ina, inb = sign * (a[axis] - limit) >= 0, sign * (b[axis] - limit) >= 0
            if ina != inb:
                t = (limit - a[axis]) / (b[axis] - a[axis])
                out.append((a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])))
            if inb:
                out.append(b)
        points = out
    return [[float(np.clip(x, 0, width)), float(np.clip(y, 0, height))] for x, y in points]
