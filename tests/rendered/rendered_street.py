"""A street made by hand for rendered cameras: a road from the west (a path beside it), one from the
north, one out to the east; and a slow painter.

The slow painter follows the ray of each pixel to what it meets first. It shares no line with the
real one.
"""

from __future__ import annotations

import numpy as np

from headway.plants.sumo import Scene
from headway.plants.sumo.network import Shapes
from headway.roads.network import Junction, Kind, Lane, Link, Network, Programme, SignalGroup

LANES = (
    ("w_0", 13.9, Kind.PEDESTRIAN, 2.0, ((-60.0, -7.0), (-8.0, -7.0))),
    ("w_1", 13.9, Kind.VEHICLE, 3.2, ((-60.0, -2.0), (-20.0, -2.0), (-8.0, -2.0))),
    ("n_0", 8.33, Kind.VEHICLE, 3.0, ((-2.0, 60.0), (-2.0, 8.0))),
    ("e_0", 13.9, Kind.VEHICLE, 3.2, ((8.0, -2.0), (60.0, -2.0))),
)
LINKS = ((1, 3, 0), (2, 3, 1), (0, 0, 2), (1, 3, 3), (3, 3, -1), (1, 3, -1))  # from, to, group
KINDS = (Kind.VEHICLE, Kind.VEHICLE, Kind.PEDESTRIAN, Kind.VEHICLE)


def street():
    """Groups: 0 and 3 from the west, 1 from the north, 2 over the path."""
    lanes = tuple(
        Lane(name, name[:-2], 52.0, speed, kind, points[-1])
        for name, speed, kind, _, points in LANES
    )
    links = tuple(
        Link("j", k, a, b, group, "s", 16.0, 13.9, Kind.VEHICLE)
        for k, (a, b, group) in enumerate(LINKS)
    )
    groups = tuple(
        SignalGroup(
            "j", g, 0, kind, tuple(k for k, link in enumerate(LINKS) if link[2] == g), False
        )
        for g, kind in enumerate(KINDS)
    )
    none, stages = np.zeros((4, 4), np.bool_), np.full((1, 4), 4, np.int8)
    junction = Junction(
        "j", ("j",), 0, 4, none, none, stages, Programme(stages, np.array([30.0]), 0.0)
    )
    network = Network(
        "hand-made", lanes, links, groups, (junction,), {x.id: i for i, x in enumerate(lanes)}
    )
    shapes = Shapes(
        [(name, wide, list(points)) for name, _, _, wide, points in LANES]
        + [(":j_0", 3.2, [(-8.0, -2.0), (8.0, -2.0)])],
        [[(-8.0, -8.0), (8.0, -8.0), (8.0, 8.0), (-8.0, 8.0)]],
        [(-8.0, -2.0, 90.0), (-2.0, 8.0, 180.0), (-8.0, -7.0, 90.0), (-8.0, -2.0, 90.0)],
    )
    return network, shapes


def scene(*vehicles):
    """vehicles: (number, front x, y, angle, speed, length, kind)."""
    rows = np.array(vehicles, np.float64).reshape(-1, 7)
    return Scene(
        rows[:, 0].astype(np.uint32), rows[:, 1:3].astype(np.float32),
        rows[:, 3].astype(np.float32), rows[:, 4].astype(np.float32),
        rows[:, 5].astype(np.float32), rows[:, 6].astype(np.uint8),
    )  # fmt: skip


SIZES = (
    (1.8, 1.5),
    (2.5, 3.2),
    (2.4, 3.2),
    (0.7, 1.7),
    (2.6, 3.4),
    (2.2, 2.4),
)  # width and height by kind, m
COLOURS = (
    (235, 235, 235),
    (190, 192, 195),
    (60, 58, 56),
    (45, 45, 170),
    (150, 70, 35),
    (120, 125, 130),
    (40, 90, 40),
    (60, 150, 200),
)
SUN = np.array([0.45, 0.3, 0.84])


class Ray:
    """Rays through points of a image, (n, 2) px: `began` (3,), `way` (n, 3)."""

    def __init__(self, view, px):
        at = np.array(view.at_m, float)
        forward = np.array([view.towards_m[0], view.towards_m[1], 0.0]) - at
        forward /= np.sqrt((forward**2).sum())
        right = np.array([forward[1], -forward[0], 0.0])
        right /= np.sqrt((right**2).sum())
        up = np.array([
            right[1] * forward[2] - right[2] * forward[1],
            right[2] * forward[0] - right[0] * forward[2],
            right[0] * forward[1] - right[1] * forward[0],
        ])  # fmt: skip
        x = (px[:, 0] - view.size[0] / 2) / view.focal_px
        y = (px[:, 1] - view.size[1] / 2) / view.focal_px
        self.began, self.way = at, forward + x[:, None] * right - y[:, None] * up

    def ground(self):
        """(n, 2), where it meets the road; nan where it does not."""
        t = np.where(self.way[:, 2] < 0, -self.began[2] / self.way[:, 2], np.nan)
        return (self.began + t[:, None] * self.way)[:, :2]


def block(front, angle, length, wide, high):
    """Turns points of the world (n, 3) into shares of a vehicle:
    0..1 from front to back, from right to left, from below to above.
    """
    a = np.radians(angle)
    ahead, left = np.array([np.sin(a), np.cos(a), 0.0]), np.array([-np.cos(a), np.sin(a), 0.0])
    basis = np.array([-ahead / length, left / wide, [0.0, 0.0, 1.0 / high]])
    return basis, -basis @ np.array([*front, 0.0]) + np.array([0.0, 0.5, 0.0])


def met(basis, offset, began, way):
    """Of rays and a block: how far until it is met (inf:
    it is not), by which axis, and the shares there.
    """
    b, w = basis @ began + offset, way @ basis.T
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = (0.0 - b) / w, (1.0 - b) / w
    enter, leave = np.minimum(low, high), np.maximum(low, high)
    t, axis = enter.max(1), enter.argmax(1)
    hit = (t <= leave.min(1)) & (leave.min(1) > 0)
    return np.where(hit, t, np.inf), axis, b + np.where(hit, t, 0.0)[:, None] * w


def look_of(kind, number, axis, share, angle):
    """What one sees of a vehicle at places on it, (n,) and (n, 3):
    a code for each, and the colours BGR of the codes before rounding.
    """
    base = np.array(COLOURS[number % 8] if kind != 1 else (40, 60, 200), float)
    u, v, z = share.T
    a = np.radians(angle)
    ahead, left = np.array([np.sin(a), np.cos(a), 0.0]), np.array([-np.cos(a), np.sin(a), 0.0])
    face = np.select([axis == 2, (axis == 0) & (u < 0.5), axis == 0, v > 0.5], [0, 1, 2, 3], 4)
    normals = (None, ahead, -ahead, left, -left)
    colours = {
        k: tuple(base * (0.45 + 0.35 * max(n @ SUN, 0.0)))
        for k, n in enumerate(normals)
        if n is not None
    } | {0: tuple(base)}
    code, along, upright = face.copy(), np.where(axis == 0, v, u), (face > 0) & (kind != 3)
    code[upright & (along >= 0.1) & (along <= 0.9) & (z >= 0.58) & (z <= 0.9)] = 5
    code[
        (face == 0) & (kind in (0, 5)) & (((u >= 0.22) & (u <= 0.38)) | ((u >= 0.82) & (u <= 0.92)))
    ] = 6
    code[upright & (z <= 0.18)] = 7
    lamp = (
        upright
        & (axis == 0)
        & (z >= 0.36)
        & (z <= 0.52)
        & (((v >= 0.03) & (v <= 0.25)) | ((v >= 0.75) & (v <= 0.97)))
    )
    code[lamp & (face == 1)], code[lamp & (face == 2)] = 8, 9
    return code, colours | {
        5: (60, 50, 45),
        6: (60, 50, 45),
        7: (28, 28, 28),
        8: (235, 245, 245),
        9: (60, 60, 215),
    }
