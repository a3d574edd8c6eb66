"""A pinhole camera by hand: 50 m from the middle of its image, 30 m south of it and 40 m high,
so that all its axes are tenths.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rendered.rendered_street import street

from headway.rendered.view import View, ribbon, view_of
from headway.roads.network import Kind

VIEW = View((0.0, -30.0, 40.0), (0.0, 0.0), 100.0, (200, 120))


def near(found, want):
    assert np.asarray(found).shape == np.asarray(want).shape
    assert np.allclose(found, want, rtol=1e-9, atol=1e-9, equal_nan=True), found


def test_the_axes_of_a_camera():
    right, down, forward = VIEW.axes
    near(right, [1.0, 0.0, 0.0])
    near(down, [0.0, -0.8, -0.6])
    near(forward, [0.0, 0.6, -0.8])
    assert View((0.0, 0.0, 1.0), (1.0, 0.0), 1.0).size == (1280, 720)


@pytest.mark.parametrize(
    ("at", "px"),
    [
        ((0, 0, 0), (100, 60)),  # the middle
        ((10, 0, 0), (120, 60)),  # 10 m to the right at 50 m: 20 px
        ((0, 10, 0), (100, 60 - 800 / 56)),  # 56 m away, 8 m above the middle
        ((0, 0, 10), (100, 60 - 600 / 42)),  # 42 m away, 6 m above
        ((-21, 0, 10), (50, 60 - 600 / 42)),
        ((0, -30, 38.625), (100, 60 + 75)),  # 1.1 m before it, 0.825 m below
        ((0, -30, 39.85), (100, 60 + 75)),  # 0.12 m before it
        ((0, -30, 39.89), (np.nan, np.nan)),  # 0.088 m before it: too near
        ((0, -30, 41), (np.nan, np.nan)),
        ((0, -100, 0), (np.nan, np.nan)),  # 10 m behind it
    ],
)
def test_a_point_lies_in_the_image_where_similar_triangles_put_it(at, px):
    near(VIEW.project(np.array([at])), [px])


def test_points_within_a_tenth_of_a_metre_of_the_camera_are_not_projected():
    """A camera on the road that looks north: depth is y."""
    low = View((0.0, 0.0, 0.0), (0.0, 10.0), 10.0, (200, 120))
    near(low.ground(np.array([(0.1, 0.1), (0.1, 0.125)])), [(np.nan, np.nan), (108, 60)])


def test_points_of_the_road_have_no_height():
    near(VIEW.ground(np.array([[10, 0], [0, 10]])), [(120, 60), (100, 60 - 800 / 56)])


def test_an_area_that_reaches_behind_the_camera_is_cut_a_metre_before_it():
    """Depth of (x, y, 0) is 50 + 0.6 y: of the corners 56 and -10 m, so 5/6 of the way remain:
    to y = 10 - 110 x 5/6.
    """
    cut = 10 - 110 * 5 / 6
    want = [(-5, cut), (0, 10), (5, cut)]
    near(
        VIEW.area(np.array([(0.0, 10.0), (6.0, -100.0), (-6.0, -100.0)])),
        VIEW.ground(np.array(want)),
    )
    near(
        np.diff(VIEW.area(np.array([(0.0, 10.0), (6.0, -100.0), (-6.0, -100.0)]))[[0, 2], 0]),
        [1000.0],
    )  # 10 m at 1 m of depth
    whole = np.array([(0.0, 10.0), (6.0, 0.0), (-6.0, 0.0)])
    near(VIEW.area(whole), VIEW.ground(whole))


def test_an_area_behind_the_camera_or_a_mere_line_is_empty():
    for ring in ([(0.0, -90.0), (6.0, -100.0), (-6.0, -100.0)], [(0.0, 10.0), (6.0, 0.0)]):
        assert VIEW.area(np.array(ring)).shape == (0, 2)


def test_a_corner_exactly_a_metre_before_the_camera_is_whole():
    """A camera on the road that looks north: depth is y."""
    low = View((0.0, 0.0, 0.0), (0.0, 10.0), 10.0, (200, 120))
    near(
        low.area(np.array([(-1.0, 3.0), (1.0, 3.0), (1.0, 1.0), (-1.0, 1.0)])),
        [(100 - 10 / 3, 60), (100 + 10 / 3, 60), (110, 60), (90, 60)],
    )
    near(
        low.area(np.array([(-1.0, 1.0), (1.0, 1.0), (0.0, 0.0)])),
        [(90, 60), (90, 60), (110, 60), (110, 60)],
    )


# -- the view of a junction


def turned(*degrees, kinds=None):
    """The network with signals at (10, 20) and (30, 40), ..., whose lanes come in these directions
    (clockwise from north).
    """
    network, shapes = street()
    kinds = kinds or [Kind.VEHICLE] * len(degrees)
    groups = tuple(dataclasses.replace(network.groups[0], kind=kind) for kind in kinds)
    junction = dataclasses.replace(network.junctions[0], first=0, end=len(groups))
    shapes.signals[:] = [(10.0 + 20.0 * k, 20.0 + 20.0 * k, d) for k, d in enumerate(degrees)]
    return dataclasses.replace(network, groups=groups, junctions=(junction,)), shapes


@pytest.mark.parametrize(
    ("degrees", "side"),
    [
        ((90.0, 90.0), -90.0),  # lanes to the east: the camera stands in the south
        ((0.0, 0.0), 0.0),  # to the north: in the east
        ((60.0, 60.0), -60.0),  # to the east, turned by 30 degrees to the left: so is the camera
        ((60.0, 240.0), -60.0),
        ((120.0, 120.0), -120.0),
        ((330.0, 330.0), 30.0),
        ((10.0, -10.0), 0.0),
        ((80.0, 100.0), -90.0),
        ((0.0, 90.0, 180.0), 0.0),  # two of three lie along the north
        ((90.0, 0.0, 270.0), -90.0),
        ((0.0, 90.0), -90.0),  # as many each way: as it lies
    ],
)
def test_a_camera_is_beside_the_road_that_most_lanes_follow(degrees, side):
    """side: where it stands, seen from the middle, degrees from the east against the clock; 30
    degrees from straight down, so 0.5774 of its height away.
    """
    network, shapes = turned(*degrees)
    view = view_of(network, shapes, 0, 60.0, 30.0, 40.0)
    middle = 10.0 * len(degrees), 10.0 + 10.0 * len(degrees)
    away = 60.0 / math.sqrt(3.0)
    near(
        view.at_m,
        (
            middle[0] + away * math.cos(math.radians(side)),
            middle[1] + away * math.sin(math.radians(side)),
            60.0,
        ),
    )
    near(view.towards_m, middle)
    assert view.focal_px == pytest.approx(640.0 * math.hypot(60.0, away) / 40.0)
    assert view.size == (1280, 720)


def test_pedestrian_signals_do_not_change_the_cameras_direction():
    network, shapes = turned(90.0, 0.0, 0.0, kinds=[Kind.VEHICLE, Kind.PEDESTRIAN, Kind.PEDESTRIAN])
    near(view_of(network, shapes, 0).towards_m, (10.0, 20.0))
    network, shapes = turned(90.0, 0.0, kinds=[Kind.VEHICLE, Kind.BICYCLE])
    near(view_of(network, shapes, 0).towards_m, (20.0, 30.0))


def test_only_the_signals_of_its_junction_count():
    network, shapes = turned(90.0, 90.0, 90.0)
    first, second = (
        dataclasses.replace(network.junctions[0], first=a, end=b) for a, b in ((0, 1), (1, 3))
    )
    network = dataclasses.replace(network, junctions=(first, second))
    near(view_of(network, shapes, 0).towards_m, (10.0, 20.0))
    near(view_of(network, shapes, 1).towards_m, (40.0, 50.0))


def test_default_view_is_never_straight_down():
    network, shapes = turned(90.0, 90.0)
    tan = math.tan(math.radians(10.0))
    view = view_of(network, shapes, 0)
    near(view.at_m, (20.0, 30.0 - 90.0 * tan, 90.0))
    assert view.focal_px == pytest.approx(640.0 * 90.0 * math.hypot(1.0, tan) / 60.0)
    assert view_of(network, shapes, 0, 90.0, 10.0, 60.0, (640, 360)) == dataclasses.replace(
        view, focal_px=view.focal_px / 2.0, size=(640, 360)
    )
    near(
        view_of(network, shapes, 0, 90.0, 0.0).at_m,
        (20.0, 30.0 - 90.0 * math.tan(math.radians(0.5)), 90.0),
    )
    near(
        view_of(network, shapes, 0, 90.0, 0.6).at_m,
        (20.0, 30.0 - 90.0 * math.tan(math.radians(0.6)), 90.0),
    )


@given(st.floats(20.0, 200.0), st.floats(0.0, 60.0), st.floats(20.0, 100.0), st.floats(0.0, 360.0))
def test_the_reach_of_a_view_is_the_edge_of_its_image(height, tilt, reach, degrees):
    network, shapes = turned(degrees, degrees)
    view = view_of(network, shapes, 0, height, tilt, reach, (320, 200))
    right = view.axes[0][:2]
    middle = np.array(view.towards_m)
    near(
        view.ground(np.array([middle, middle + reach * right, middle - reach * right])),
        [(160, 100), (320, 100), (0, 100)],
    )


# -- the outline of a lane


def test_the_outline_of_a_lane_goes_up_its_left_side_and_back_on_its_right():
    near(
        ribbon(np.array([(0.0, 0.0), (10.0, 0.0)]), 3.0),
        [(0, 1.5), (10, 1.5), (10, -1.5), (0, -1.5)],
    )
    half = math.sqrt(0.5)
    near(
        ribbon(np.array([(0.0, 0.0), (10.0, 0.0), (10.0, 10.0)]), 2.0),
        [(0, 1), (10 - half, half), (9, 10), (11, 10), (10 + half, -half), (0, -1)],
    )
    near(ribbon(np.array([(1.0, 2.0), (1.0, 2.0)]), 2.0), [(1, 2)] * 4)  # a lane without length
