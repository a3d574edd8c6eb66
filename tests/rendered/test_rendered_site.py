"""The site of a rendered camera over a street made by hand,
each place projected by a second camera.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.rendered.rendered_street import Ray, street

from headway.rendered import site
from headway.rendered.painter import Painter
from headway.rendered.site import clipped, last_metres, site_file
from headway.rendered.view import View
from headway.roads.network import Kind
from headway.sensing import Site

NETWORK, SHAPES = street()
HIGH = View((0.0, -20.0, 100.0), (0.0, 0.0), 200.0, (320, 240))


@pytest.fixture(scope="module")
def painter():
    return Painter(HIGH, NETWORK, SHAPES)


@pytest.fixture(scope="module")
def reported(painter):
    return site_file(painter, 0)


def px(*points, view=HIGH):
    """Similar triangles: away from the camera along its own axes."""
    forward = np.array([0.0, 20.0, -100.0]) / np.hypot(20.0, 100.0)
    down = np.array([0.0, -100.0, -20.0]) / np.hypot(20.0, 100.0)
    away = np.array([(*p, 0.0) for p in points]) - np.array(view.at_m)
    depth = away @ forward
    return np.c_[200.0 * away[:, 0] / depth + 160.0, 200.0 * (away @ down) / depth + 120.0]


def test_the_calibration_of_a_rendered_camera(reported):
    assert reported["size"] == [320, 240]
    assert reported["camera_m"] == [0.0, -20.0, 100.0]
    shares = [(0.15, 0.2), (0.85, 0.2), (0.85, 0.85), (0.15, 0.85), (0.5, 0.5), (0.3, 0.6)]
    assert [p["px"] for p in reported["points"]] == [
        [pytest.approx(320 * x), pytest.approx(240 * y)] for x, y in shares
    ]
    want = Ray(HIGH, np.array([p["px"] for p in reported["points"]])).ground()
    assert np.allclose([p["m"] for p in reported["points"]], want, atol=1e-9)
    assert np.allclose(reported["points"][4]["m"], (0.0, 0.0), atol=1e-9)
    assert Site.from_tree(reported).calibration.error_m < 1e-6


def test_each_approach_lane_has_a_stop_line_a_metre_beyond_its_end(reported):
    """From its left to its right as one drives,
    so that who drives on crosses it from right to left of it: `in`.
    """
    names = [line["name"] for line in reported["lines"]]
    assert names == ["stop w_1", "stop n_0"]
    west, north = reported["lines"]
    assert np.allclose(west["px"], px((-7.0, -0.4), (-7.0, -3.6)))
    assert np.allclose(north["px"], px((-0.5, 7.0), (-3.5, 7.0)))
    assert (west["stop"], west["group"], north["stop"], north["group"]) == (True, [0, 3], True, [1])
    assert set(west) == {"name", "px", "stop", "group"}


def test_each_approach_lane_has_a_zone_of_its_last_sixty_metres(reported):
    west, north = reported["zones"]
    assert (west["name"], west["kind"], west["lane"], west["limit_kmh"]) == (
        "lane w_1",
        "lane",
        "w_1",
        50.0,
    )
    assert (north["name"], north["kind"], north["lane"], north["limit_kmh"]) == (
        "lane n_0",
        "lane",
        "n_0",
        30.0,
    )
    assert np.allclose(west["heading"], px((-18.0, -2.0), (-8.0, -2.0)))
    assert np.allclose(north["heading"], px((-2.0, 18.0), (-2.0, 8.0)))
    ring = px(
        (-60.0, -0.4), (-20.0, -0.4), (-8.0, -0.4), (-8.0, -3.6), (-20.0, -3.6), (-60.0, -3.6)
    )
    assert np.allclose(west["px"], ring)
    assert set(west) == {"name", "kind", "px", "heading", "lane", "limit_kmh"}


def test_the_zone_of_a_longer_lane_begins_sixty_metres_before_its_end(painter):
    lanes = [
        (name, wide, [(-100.0, -2.0), (-8.0, -2.0)] if name == "w_1" else points)
        for name, wide, points in SHAPES.lanes
    ]
    zone = site_file(Painter(HIGH, NETWORK, replace(SHAPES, lanes=lanes)), 0)["zones"][0]
    assert np.allclose(zone["px"], px((-68.0, -0.4), (-8.0, -0.4), (-8.0, -3.6), (-68.0, -3.6)))


def test_each_lamp_within_the_image_is_a_square(painter, reported):
    assert [lamp["group"] for lamp in reported["lamps"]] == [0, 1, 2, 3]
    for g, lamp in enumerate(reported["lamps"]):
        (x, y), r = painter.lamps_px[g], painter.lamp_px[g]
        assert lamp["px"] == [pytest.approx(v) for v in (x - r, y - r, 2 * r, 2 * r)]


@pytest.mark.parametrize(("at", "told_of"),
    [((0.5, 0.5), True), ((319.5, 239.5), True), ((0.0, 9.0), False), ((9.0, 0.0), False),
        ((320.0, 9.0), False),
                                              ((9.0, 240.0), False), ((-1.0, 9.0), False),
                                              ((330.0, 9.0), False),
                                              ((np.nan, 9.0), False)])  # fmt: skip
def test_a_lamp_outside_the_image_is_left_out(at, told_of):
    of = Painter(HIGH, NETWORK, SHAPES)
    of.lamps_px[1] = at
    assert [lamp["group"] for lamp in site_file(of, 0)["lamps"]] == (
        [0, 1, 2, 3] if told_of else [0, 2, 3]
    )


def test_a_lane_that_only_touches_the_image_has_no_zone(painter, monkeypatch):
    """A zone without an area is refused, and the camera with it."""
    assert site_file(painter, 0)["zones"]
    edge = [[0.0, 3.0], [0.0, 5.0], [0.0, 9.0]]
    monkeypatch.setattr(site, "clipped", lambda *_: edge)
    assert site_file(painter, 0)["zones"] == []


@pytest.mark.parametrize(("limit", "rules"), [(None, {}), (30.0, {"limit_kmh": 30.0}), (0.0, {})])
def test_a_given_speed_limit_is_in_the_site(painter, limit, rules):
    assert site_file(painter, 0, limit)["rules"] == rules


def test_lanes_of_pedestrians_of_another_junction_or_without_a_shape_are_left_out(painter):
    shapes = replace(SHAPES, lanes=[x for x in SHAPES.lanes if x[0] != "n_0"])
    reported = site_file(Painter(HIGH, NETWORK, shapes), 0)
    assert ([x["lane"] for x in reported["zones"]], [x["name"] for x in reported["lines"]]) == (
        ["w_1"],
        ["stop w_1"],
    )
    first, second = (replace(NETWORK.junctions[0], first=a, end=b) for a, b in ((0, 1), (1, 3)))
    reported = site_file(Painter(HIGH, replace(NETWORK, junctions=(first, second)), SHAPES), 1)
    assert ([x["lane"] for x in reported["zones"]], [x["group"] for x in reported["lamps"]]) == (
        ["n_0"],
        [1, 2],
    )
    bicycles = replace(NETWORK, groups=tuple(replace(g, kind=Kind.BICYCLE) for g in NETWORK.groups))
    assert [x["lane"] for x in site_file(Painter(HIGH, bicycles, SHAPES), 0)["zones"]] == [
        "w_1",
        "n_0",
        "w_0",
    ]


@pytest.mark.parametrize(("more", "there"), [(0.01, True), (-0.01, False)])
@pytest.mark.parametrize(
    ("at", "axis"),
    [((15.0, -20.0, 100.0), 0), ((-20.0, -20.0, 100.0), 0), ((0.0, -30.0, 100.0), 1),
        ((0.0, 10.0, 100.0), 1)], ids=["left", "right", "above", "below"]
)  # fmt: skip
def test_a_stop_line_not_wholly_in_the_image_is_left_out(at, axis, more, there):
    """The view looks past the northern stop line; the image is so large that its edge is a
    hundredth of a pixel beyond the line's end, or within it.
    """
    view = View(at, (at[0], at[1] + 20.0), 200.0, (1000, 1000))
    far = np.abs(view.ground(np.array([(-0.5, 7.0), (-3.5, 7.0)])) - 500.0)[:, axis].max()
    size = [1000, 1000]
    size[axis] = 2.0 * (far + more)
    of = Painter(view, NETWORK, SHAPES)
    of.view = replace(view, size=tuple(size))
    assert ("stop n_0" in [line["name"] for line in site_file(of, 0)["lines"]]) == there


# -- the last metres of a line, and a polygon within a image


@pytest.mark.parametrize(
    ("length", "want"),
    [
        (4.0, [(6, 0), (10, 0)]), (10.0, [(0, 0), (10, 0)]), (12.0, [(0, 2), (0, 0), (10, 0)]),
        (15.0, [(0, 5), (0, 0), (10, 0)]),
        (25.0, [(-5, 10), (0, 10), (0, 0), (10, 0)]), (99.0, [(-20, 10), (0, 10), (0, 0), (10, 0)]),
    ],
)  # fmt: skip
def test_the_last_metres_of_a_line(length, want):
    assert np.allclose(
        last_metres(np.array([(-20.0, 10.0), (0.0, 10.0), (0.0, 0.0), (10.0, 0.0)]), length), want
    )


def test_a_segment_of_exactly_the_remaining_length_is_kept_whole():
    assert last_metres(np.array([(0.0, 10.0), (0.0, 0.0), (10.0, 0.0)]), 10.0).tolist() == [
        [0.0, 0.0],
        [10.0, 0.0],
    ]


def corners(ring):
    """A ring from its smallest corner on."""
    points = [(round(x, 9), round(y, 9)) for x, y in ring]
    k = points.index(min(points))
    return points[k:] + points[:k]


@pytest.mark.parametrize(
    ("ring", "want"),
    [
        ([(1, 1), (5, 1), (5, 5), (1, 5)], [(1, 1), (5, 1), (5, 5), (1, 5)]),  # within
        (
            [(-4, 2), (4, 2), (4, 6), (-4, 6)],
            [(0, 2), (4, 2), (4, 6), (0, 6)],
        ),  # over the left edge
        (
            [(6, 2), (14, 2), (14, 6), (6, 6)],
            [(6, 2), (10, 2), (10, 6), (6, 6)],
        ),  # over the right one, at 10
        ([(2, -4), (6, -4), (6, 4), (2, 4)], [(2, 0), (6, 0), (6, 4), (2, 4)]),
        (
            [(2, 4), (6, 4), (6, 12), (2, 12)],
            [(2, 4), (6, 4), (6, 8), (2, 8)],
        ),  # over the lower one, at 8
        (
            [(-2, -2), (12, -2), (12, 12), (-2, 12)],
            [(0, 0), (10, 0), (10, 8), (0, 8)],
        ),  # around all of it
        ([(-4, 4), (4, 0), (4, 8)], [(0, 2), (4, 0), (4, 8), (0, 6)]),  # a triangle
        (
            [(0, 0), (10, 0), (10, 8), (0, 8)],
            [(0, 0), (10, 0), (10, 8), (0, 8)],
        ),  # edges belong to it
        (
            [(-0.5, 2), (4, 2), (4, 6), (-0.5, 6)],
            [(0, 2), (4, 2), (4, 6), (0, 6)],
        ),  # by half a pixel
        ([(2, 2), (10.5, 2), (10.5, 8.5), (2, 8.5)], [(2, 2), (10, 2), (10, 8), (2, 8)]),
        ([(20, 1), (30, 1), (30, 5)], []),
        ([(1, 20), (3, 20), (3, 30)], []),
        (
            [(np.nan, 1), (5, 1), (5, 5), (1, 5)],
            [(1, 5), (5, 1), (5, 5)],
        ),  # a corner behind the camera is left out
        ([(5, np.nan), (5, 1), (5, 5), (1, 5)], [(1, 5), (5, 1), (5, 5)]),
    ],
)
def test_a_polygon_is_clipped_at_an_image_of_ten_by_eight(ring, want):
    found = clipped(np.array(ring, float), 10, 8)
    assert ([] if not found else corners(found)) == [(float(x), float(y)) for x, y in want]
