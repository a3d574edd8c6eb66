"""Calibration against known cameras and homographies, its error worked out a second way,
and every bound of a site file.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headway.sensing import Calibration, CalibrationError, Site, read_site
from headway.sensing.traffic.site import Lamp, Line, Marking, PointPair, Rules, SiteFile, Turn, Zone

SQUARE = np.array([[100.0, 200.0], [500.0, 220.0], [560.0, 420.0], [60.0, 400.0]])
ROAD = np.array([[-4.0, 30.0], [4.0, 28.0], [3.5, 10.0], [-3.0, 11.0]])
PAIRS = [{"px": p.tolist(), "m": m.tolist()} for p, m in zip(SQUARE, ROAD, strict=True)]


# -- a calibration in use


def test_pixels_become_metres_and_metres_pixels():
    """(x, y) -> (2 x + 1, 4 y - 6) / (0.5 y + 1): worked out by hand."""
    of = Calibration(np.array([[2.0, 0.0, 1.0], [0.0, 4.0, -6.0], [0.0, 0.5, 1.0]]), 0.25)
    pixels = [[0.0, 0.0], [3.0, 2.0], [-1.0, 4.0]]
    metres = [[1.0, -6.0], [3.5, 1.0], [-1.0 / 3.0, 10.0 / 3.0]]
    assert of.to_road(np.array(pixels)).tolist() == [pytest.approx(m) for m in metres]
    assert of.to_image(np.array(metres)).tolist() == [pytest.approx(p, abs=1e-9) for p in pixels]
    assert np.isnan(
        of.to_road(np.array([[0.0, -2.0], [5.0, -3.0]]))
    ).all()  # the horizon, and beyond
    assert np.isfinite(of.to_road(np.array([[0.0, -1.99]]))).all()
    assert (of.error_m, of.camera_m) == (0.25, None)


def test_points_above_the_road_are_corrected_where_the_cameras_position_is_known():
    """Seen from 10 m above (3, 4), what is 2 m high stands a fifth of
    the way nearer to that point.
    """
    matrix, pixels = np.diag([0.1, 0.1, 1.0]), np.array([[130.0, 140.0], [30.0, 40.0]])
    of = Calibration(matrix, 0.0, (3.0, 4.0, 10.0))
    assert of.to_road(pixels).tolist() == [pytest.approx([13.0, 14.0]), pytest.approx([3.0, 4.0])]
    assert of.to_road(pixels, 2.0).tolist() == [
        pytest.approx([11.0, 12.0]),
        pytest.approx([3.0, 4.0]),
    ]
    assert of.to_road(pixels[[0, 0]], np.array([5.0, 10.0])).tolist() == [
        pytest.approx([8.0, 9.0]),
        pytest.approx([3.0, 4.0]),
    ]
    assert Calibration(matrix, 0.0).to_road(pixels, 2.0).tolist() == [
        pytest.approx([13.0, 14.0]),
        pytest.approx([3.0, 4.0]),
    ]


# -- from points: a second way is a linear system of eight equations


def solved(pixels, metres):
    """The homography of four pairs with a last entry of 1, by eight linear equations."""
    rows, right = [], []
    for (x, y), (u, v) in zip(pixels, metres, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    return np.append(np.linalg.solve(np.array(rows), np.array(right)), 1.0).reshape(3, 3)


def mapped(matrix, points):
    out = np.array([matrix @ (x, y, 1.0) for x, y in points])
    return out[:, :2] / out[:, 2:]


def test_four_points_give_the_homography_that_goes_through_them():
    found = Calibration.from_points(SQUARE, ROAD, (1.0, 2.0, 3.0))
    want = solved(SQUARE, ROAD)
    assert np.allclose(found.matrix / found.matrix[2, 2], want, rtol=1e-9)
    assert np.mean([found.matrix[2] @ (*p, 1.0) for p in SQUARE]) == pytest.approx(
        1.0
    )  # points of the road lie before the camera
    assert found.camera_m == (1.0, 2.0, 3.0)
    assert Calibration.from_points(SQUARE, ROAD).camera_m is None


def test_the_error_of_four_points_is_what_a_pixel_means():
    """Each of the four moved by a pixel across and down, alone:
    the squares of what the road of the four then is off, summed, mean of the four.
    """
    squares = np.zeros(4)
    for k in range(4):
        for axis in range(2):
            moved = SQUARE.copy()
            moved[k, axis] += 1.0
            squares += np.sum((mapped(solved(moved, ROAD), SQUARE) - ROAD) ** 2, 1)
    assert Calibration.from_points(SQUARE, ROAD).error_m == pytest.approx(
        math.sqrt(squares.mean()), rel=1e-6
    )


def test_the_error_of_more_points_is_how_well_each_is_found_from_the_others():
    pixels, metres = np.vstack([SQUARE, [[250.0, 330.0]]]), np.vstack([ROAD, [[-0.7, 16.0]]])
    offs = []
    for k in range(5):
        others = [j for j in range(5) if j != k]
        offs.append(
            mapped(solved(pixels[others], metres[others]), pixels[k : k + 1])[0] - metres[k]
        )
    want = math.sqrt(np.mean([x * x + y * y for x, y in offs]))
    assert Calibration.from_points(pixels, metres).error_m == pytest.approx(want, rel=1e-6)
    assert 0.1 < want < 10.0


def test_a_point_that_the_others_need_does_not_count_for_the_error():
    """Without the fourth, three of the others are on one line."""
    pixels = np.array(
        [[100.0, 100.0], [200.0, 100.0], [300.0, 100.0], [300.0, 300.0], [100.0, 310.0]]
    )
    metres = pixels / 10.0 + np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.1, 0.0], [0.0, 0.0]])
    offs = []
    for k in (0, 1, 2):  # without the fourth or the fifth three of four are on one line
        others = [j for j in range(5) if j != k]
        offs.append(
            mapped(solved(pixels[others], metres[others]), pixels[k : k + 1])[0] - metres[k]
        )
    assert Calibration.from_points(pixels, metres).error_m == pytest.approx(
        math.sqrt(np.mean([x * x + y * y for x, y in offs])), rel=1e-6
    )


def test_more_points_than_needed_are_fitted_by_least_squares():
    """The smallest eigenvector of the normal equations of points moved to their middle and scaled
    to a mean distance of the root of 2.
    """
    random = np.random.default_rng(4)
    pixels = random.uniform(0.0, 600.0, (9, 2))
    metres = mapped(solved(SQUARE, ROAD), pixels) + random.normal(0.0, 0.1, (9, 2))

    def normal(points):
        scale = math.sqrt(2.0) / np.mean(np.hypot(*(points - points.mean(0)).T))
        return np.array(
            [
                [scale, 0.0, -scale * points[:, 0].mean()],
                [0.0, scale, -scale * points[:, 1].mean()],
                [0.0, 0.0, 1.0],
            ]
        )

    a, b, squares = normal(pixels), normal(metres), np.zeros((9, 9))
    for p, m in zip(pixels, metres, strict=True):
        x, (u, v, _) = a @ (*p, 1.0), b @ (*m, 1.0)
        for row in (
            np.concatenate([x, np.zeros(3), -u * x]),
            np.concatenate([np.zeros(3), x, -v * x]),
        ):
            squares += np.outer(row, row)
    want = np.linalg.inv(b) @ np.linalg.eigh(squares)[1][:, 0].reshape(3, 3) @ a
    found = Calibration.from_points(pixels, metres).matrix
    assert np.allclose(found / found[2, 2], want / want[2, 2], rtol=1e-6, atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-60.0, 60.0), min_size=10, max_size=10), st.integers(0, 10_000))
def test_points_of_a_plane_are_fitted_exactly_wherever_they_are(shifts, seed):
    pixels = np.array(
        [[100, 100], [500, 100], [500, 400], [100, 400], [300, 250]], np.float64
    ) + np.reshape(shifts, (5, 2))
    plane = np.eye(3) + np.random.default_rng(seed).uniform(-1.0, 1.0, (3, 3)) * [
        [0.3, 0.3, 30.0],
        [0.3, 0.3, 30.0],
        [4e-4, 4e-4, 0.0],
    ]
    metres = mapped(plane, pixels)
    assume((np.c_[pixels, np.ones(5)] @ plane[2] > 0.1).all())
    found = Calibration.from_points(pixels, metres)
    size = np.ptp(metres)
    assert np.abs(found.to_road(pixels) - metres).max() < 1e-6 * size
    assert np.abs(found.to_image(metres) - pixels).max() < 1e-3
    assert found.error_m < 1e-6 * size
    origin = np.array([4_450_000.0, 5_400_000.0])  # as in the grids of surveyors
    assert (
        np.abs(
            Calibration.from_points(pixels, metres + origin).to_road(pixels) - metres - origin
        ).max()
        < 1e-3 * size
    )


@pytest.mark.parametrize(
    ("pixels", "metres", "says"),
    [
        (SQUARE[:3], ROAD[:3],
            "points: 3 pairs are given. Give four or more, on the road and not on one line."),
        (SQUARE, ROAD[:3],
            "points: 4 pairs are given. Give four or more, on the road and not on one line."),
        (SQUARE * [1.0, 0.0] + [0.0, 5.0], ROAD,
            (
                "points: three or more lie on one line, or two on one another. "
                "Spread them over the road."
            )),
        (SQUARE[[0, 0, 1, 2]], ROAD[[0, 0, 1, 2]],
            (
                "points: three or more lie on one line, or two on one another. "
                "Spread them over the road."
            )),
        (SQUARE[[0, 0, 0, 0]], ROAD, "points: they are all the same point."),
        (SQUARE, ROAD[[1, 1, 1, 1]], "points: they are all the same point."),
        (
            np.vstack([SQUARE, [[310.0, 300.0]]]), np.vstack([ROAD, [[0.5, 21.0]]]),
            (
                "points: the others put pair 2 beyond the horizon. Check that pair, "
                "or give more points, no three nearly on one line."
            ),
        ),
        (SQUARE, ROAD[[0, 2, 1, 3]],
            (
                "points: they fold the road over itself. Check that each pixel goes with its "
                "own point of the road."
            )),
        (SQUARE, np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 5.0]]),
            (
                "points: they fold the road over itself. Check that each pixel goes with its "
                "own point of the road."
            )),
    ],
)  # fmt: skip
def test_points_that_determine_no_plane_are_refused(pixels, metres, says):
    with pytest.raises(CalibrationError) as caught:
        Calibration.from_points(pixels, metres)
    assert str(caught.value) == says


def test_three_places_of_the_road_on_one_line_fold_it_wherever_they_are():
    """All the frame would be that line; what rounding makes of it must not decide."""
    for along in range(6):
        for off in range(3, 8):
            road = np.array(
                [[0.0, 0.0], [1.0 + along / 4.0, 0.0], [2.5 + along, 0.0], [0.0, float(off)]]
            )
            with pytest.raises(CalibrationError, match="they fold the road over itself"):
                Calibration.from_points(SQUARE, road)


def test_points_nearly_on_one_line_are_accepted():
    """Three of four that miss a line by a hundredth of a pixel fix nothing;
    by some pixels they do.
    """
    for off, fixes in ((0.01, False), (10.0, True)):
        pixels = np.array([[100.0, 100.0], [300.0, 100.0 + off], [500.0, 100.0], [300.0, 400.0]])
        if fixes:
            assert np.allclose(
                Calibration.from_points(pixels, pixels / 20.0).to_road(pixels), pixels / 20.0
            )
        else:
            with pytest.raises(CalibrationError, match="on one line"):
                Calibration.from_points(pixels, pixels / 20.0)


# -- from markings: a pinhole camera that is known


def pinhole(metres, focal, tilt, height, size):
    """Pixels of points of the road, for a camera above (0, 0) that looks along y,
    down by `tilt`.
    """
    pixels = []
    for x, y in metres:
        forward = y * math.cos(tilt) + height * math.sin(tilt)
        down = height * math.cos(tilt) - y * math.sin(tilt)
        pixels.append((size[0] / 2 + focal * x / forward, size[1] / 2 + focal * down / forward))
    return np.array(pixels)


MARKS = np.array([
    [[-2.0, 9.0], [-2.0, 12.0]], [[1.5, 12.0], [1.5, 16.0]], [[-3.5, 20.0], [0.0, 20.0]],
    [[0.0, 30.0], [3.5, 30.0]], [[2.0, 24.0], [2.0, 36.0]],
])  # fmt: skip
LENGTHS = np.array([3.0, 4.0, 3.5, 3.5, 12.0])


@pytest.mark.parametrize(
    ("focal", "tilt", "height", "size"),
    [
        (900.0, 0.35, 6.0, (1280, 720)),
        (500.0, 0.6, 11.0, (640, 480)),
        (1500.0, 0.25, 15.0, (1920, 1080)),
    ],
)
def test_markings_of_known_length_determine_the_camera(focal, tilt, height, size):
    ends = pinhole(MARKS.reshape(-1, 2), focal, tilt, height, size).reshape(-1, 2, 2)
    found = Calibration.from_lengths(ends, LENGTHS, size)
    assert found.error_m < 1e-5
    assert found.camera_m == (0.0, 0.0, pytest.approx(height, rel=1e-4))
    assert np.allclose(found.to_road(ends.reshape(-1, 2)), MARKS.reshape(-1, 2), atol=2e-3)
    places = np.array([[0.0, 50.0], [-6.0, 8.0], [4.0, 18.0]])
    assert np.allclose(found.to_image(places), pinhole(places, focal, tilt, height, size), atol=0.1)
    above = found.to_road(
        ends.reshape(-1, 2), found.camera_m[2] / 2.0
    )  # half as high as the camera: half as far
    assert np.allclose(above, MARKS.reshape(-1, 2) / 2.0, atol=2e-3)


def test_the_error_of_markings_is_by_how_much_their_lengths_are_missed():
    ends = pinhole(MARKS.reshape(-1, 2), 900.0, 0.35, 6.0, (1280, 720)).reshape(-1, 2, 2)
    lengths = LENGTHS + np.array([0.2, -0.1, 0.1, 0.0, 0.3])
    found = Calibration.from_lengths(ends, lengths, (1280, 720))
    offs = [
        math.dist(*found.to_road(pair)) - length for pair, length in zip(ends, lengths, strict=True)
    ]
    assert found.error_m == pytest.approx(math.sqrt(sum(d * d for d in offs) / 5.0))
    assert 0.01 < found.error_m < 0.3
    three = Calibration.from_lengths(ends[[0, 2, 4]], LENGTHS[[0, 2, 4]], (1280, 720))
    assert three.error_m < 1e-4


def test_markings_that_fit_no_camera_are_refused():
    size = (1280, 720)
    ends = pinhole(MARKS.reshape(-1, 2), 900.0, 0.35, 6.0, size).reshape(-1, 2, 2)
    few = "markings: {} are given. Give three or more of known length, near and far."
    for some, lengths, n in ((ends[:2], LENGTHS[:2], 2), (ends, LENGTHS[:4], 5)):
        with pytest.raises(CalibrationError) as caught:
            Calibration.from_lengths(some, lengths, size)
        assert str(caught.value) == few.format(n)
    # each of three markings given twice, as 3 m and as 6 m: the best is 3 m times the root of 2,
    # 1.52 m off on average, a third of the mean length
    twice = np.concatenate([ends[[0, 2, 3]]] * 2)
    with pytest.raises(CalibrationError) as caught:
        Calibration.from_lengths(twice, np.array([3.0, 3.0, 3.0, 6.0, 6.0, 6.0]), size)
    off = math.sqrt(((3.0 * math.sqrt(2.0) - 3.0) ** 2 + (6.0 - 3.0 * math.sqrt(2.0)) ** 2) / 2.0)
    assert str(caught.value) == (
        f"markings: no camera fits them (error {off:.2f} m). Check the lengths, "
        "and mark some in another direction or distance."
    )
    alike = np.concatenate([ends[[2]]] * 3)  # one marking three times fits many cameras
    with pytest.raises(CalibrationError, match="mark some in another direction or distance"):
        Calibration.from_lengths(alike, np.array([3.5, 3.5, 3.5]), size)


# -- a site's file

SMALL = {"size": [320, 240]}


def zone(**more):
    return {"name": "z", "px": [[0, 0], [10, 0], [0, 10]]} | more


def line(**more):
    return {"name": "l", "px": [[0, 0], [10, 0]]} | more


def test_the_site_holds_what_the_file_states():
    tree = SMALL | {
        "points": PAIRS, "camera_m": [1, 2, 6.5], "lamps": [{"group": 3, "px": [1, 2, 3, 4]}],
        "rules": {"limit_kmh": 50},
        "lines": [line(stop=True, group=2), line(name="k", group=[4, 5]), line(name="m")],
        "zones": [zone(kind="box"),
            zone(name="y", heading=[[1, 2], [3, 4]], limit_kmh=30, lane="a_0")],
        "forbidden_turns": [{"from_line": "l", "to_line": "k"}],
    }  # fmt: skip
    found = Site.from_tree(tree)
    assert found.size == (320, 240)
    assert found.calibration.camera_m == (1.0, 2.0, 6.5)
    assert np.allclose(found.calibration.to_road(SQUARE), ROAD)
    assert found.lamps == (Lamp(group=3, px=(1, 2, 3, 4)),)
    assert found.lines == (
        Line(name="l", px=((0, 0), (10, 0)), stop=True, group=2),
        Line(name="k", px=((0, 0), (10, 0)), group=(4, 5)),
        Line(name="m", px=((0, 0), (10, 0))),
    )
    assert [x.groups for x in found.lines] == [(2,), (4, 5), ()]
    assert [x.stop for x in found.lines] == [True, False, False]
    assert [(z.name, z.kind, z.heading, z.limit_kmh, z.lane) for z in found.zones] == [
        ("z", "box", None, None, ""),
        ("y", "lane", ((1, 2), (3, 4)), 30.0, "a_0"),
    ]
    assert found.forbidden_turns == (Turn(from_line="l", to_line="k"),)
    assert found.rules == Rules(limit_kmh=50.0)
    assert (
        found.uncalibrated
        == "the camera is not calibrated: give four points of the road, or markings of known length"
    )


def test_defaults_of_rules_are_the_mildest():
    found = Site.from_tree(SMALL)
    assert (found.calibration, found.lines, found.zones, found.lamps, found.forbidden_turns) == (
        None,
        (),
        (),
        (),
        (),
    )
    assert found.rules.model_dump() == {
        "limit_kmh": None, "margin_kmh": 3.0, "margin_share": 0.03, "grace_s": 0.5,
        "blocked_s": 5.0, "stop_m": 1.0,
    }  # fmt: skip
    assert Site((320, 240)) == found
    assert line(stop=False) == line() | Line(**line()).model_dump(include={"stop"})


def test_points_come_before_markings_and_markings_calibrate_too():
    ends = pinhole(MARKS.reshape(-1, 2), 300.0, 0.5, 6.0, (320, 240)).reshape(-1, 2, 2)
    markings = [{"px": px.tolist(), "m": m} for px, m in zip(ends, LENGTHS, strict=True)]
    found = Site.from_tree(SMALL | {"markings": markings}).calibration
    assert found.camera_m[2] == pytest.approx(6.0, rel=1e-4)
    assert np.allclose(found.to_road(ends.reshape(-1, 2)), MARKS.reshape(-1, 2), atol=2e-3)
    assert (
        Site.from_tree(SMALL | {"markings": markings, "points": PAIRS}).calibration.camera_m is None
    )
    with pytest.raises(CalibrationError) as caught:
        Site.from_tree(SMALL | {"markings": markings[:2]}, "cam.yaml")
    assert (
        str(caught.value)
        == "cam.yaml: markings: 2 are given. Give three or more of known length, near and far."
    )


BIG = 1e6


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("size", [[16, 16], [16384, 16384]], [[15, 16], [16, 15], [16385, 16], [16, 16385], [16]]),
        ("rules.limit_kmh", [0.5, 300.0], [0.0, -0.5, 300.5]),
        ("rules.margin_kmh", [0.0, 50.0], [-0.5, 50.5]),
        ("rules.margin_share", [0.0, 0.5], [-0.1, 0.6]),
        ("rules.grace_s", [0.0, 5.0], [-0.1, 5.1]),
        ("rules.blocked_s", [0.5, 600.0], [0.0, 600.5]),
        ("rules.stop_m", [0.5, 20.0], [0.0, 20.5]),
        ("zones", [[zone(limit_kmh=0.5)], [zone(limit_kmh=300.0)]],
            [[zone(limit_kmh=0.0)], [zone(limit_kmh=300.5)]]),
        ("zones", [[zone(name="n")], [zone(name="n" * 64)]],
            [[zone(name="")], [zone(name="n" * 65)]]),
        ("zones", [[zone(px=[[k % 2, k] for k in range(n)])] for n in (3, 64)],
            [[zone(px=[[k % 2, k] for k in range(n)])] for n in (2, 65)]),
        ("zones", [[zone(kind=k)] for k in ("lane", "box", "crossing", "forbidden")],
            [[zone(kind="area")]]),
        ("zones", [[zone(heading=[[BIG, 0], [-BIG, 0]])]],
            [[zone(heading=[[BIG + 1, 0], [0, 0]])], [zone(heading=[[0, -BIG - 1], [0, 0]])],
                [zone(heading=[[math.nan, 0], [0, 0]])], [zone(heading=[[math.inf, 0], [0, 0]])]]),
        ("zones", [[zone(name=f"z{k}") for k in range(100)]],
            [[zone(name=f"z{k}") for k in range(101)]]),
        ("zones", [[zone(px=[[0, 0], [320, 240], [0, 240]])]],
            [[zone(px=[[-0.5, 0], [9, 9], [0, 9]])], [zone(px=[[0, -0.5], [9, 9], [0, 9]])],
                [zone(px=[[320.5, 0], [9, 9], [0, 9]])], [zone(px=[[0, 240.5], [9, 9], [0, 9]])]]),
        ("lines", [[line(name="n")], [line(name="n" * 64)]],
            [[line(name="")], [line(name="n" * 65)]]),
        ("lines", [[line(name=f"l{k}") for k in range(100)]],
            [[line(name=f"l{k}") for k in range(101)]]),
        ("lines", [[line(group=0)], [line(group=[0])], [line(group=list(range(32)))]],
            [[line(group=-1)], [line(group=[])], [line(group=[-1])], [line(group=[0, -1])],
                [line(group=list(range(33)))]]),
        ("lines", [[line(px=[[0, 0], [320, 240]])]],
            [[line(px=[[0, 0], [320.5, 240]])], [line(px=[[0, 0], [0, 0], [0, 0]])]]),
        ("lamps", [[{"group": 0, "px": [-0.5, -0.5, 1.5, 1.5]}]],
            [[{"group": -1, "px": [0, 0, 2, 2]}], [{"group": 0, "px": [0, 0, 1, 2]}],
                [{"group": 0, "px": [0, 0, 2, 1]}]]),
        ("lamps", [[{"group": k, "px": [0, 0, 2, 2]} for k in range(100)]],
            [[{"group": k, "px": [0, 0, 2, 2]} for k in range(101)]]),
        ("camera_m", [[0, 0, 0.5], [-BIG, BIG, 5000.0]], [[0, 0, 0], [0, 0, 5000.5], [0, 0]]),
        ("forbidden_turns", [[{"from_line": "a", "to_line": "b"}] * 500],
            [[{"from_line": "a", "to_line": "b"}] * 501]),
    ],
)  # fmt: skip
def test_every_bound_of_a_file(field, good, bad):
    parts = field.split(".")

    def tree(value):
        lines = {"lines": [line(name="a"), line(name="b")]} if field == "forbidden_turns" else {}
        return (
            SMALL | lines | ({parts[0]: {parts[1]: value}} if len(parts) > 1 else {parts[0]: value})
        )

    for value in good:
        Site.from_tree(tree(value))
    for value in bad:
        with pytest.raises(CalibrationError, match=r"^site: "):
            Site.from_tree(tree(value))


@pytest.mark.parametrize(("part", "good", "bad"), [
    (Marking, [{"px": [[0, 0], [1, 1]], "m": 0.5}, {"px": [[0, 0], [1, 1]], "m": 1000.0}],
        [{"px": [[0, 0], [1, 1]], "m": 0.0}, {"px": [[0, 0], [1, 1]], "m": 1000.5}]),
    (PointPair, [{"px": [BIG, -BIG], "m": [-BIG, BIG]}],
        [{"px": [BIG + 1, 0], "m": [0, 0]}, {"px": [0, 0], "m": [0, -BIG - 1]}]),
])  # fmt: skip
def test_every_bound_of_a_point_and_a_marking(part, good, bad):
    for tree in good:
        part.model_validate(tree)
    for tree in bad:
        with pytest.raises(ValueError, match="validation error"):
            part.model_validate(tree)


def test_there_may_be_five_hundred_points_and_markings_and_no_more():
    for key, one in (("points", PAIRS[0]), ("markings", {"px": [[0, 0], [1, 1]], "m": 1.0})):
        assert len(getattr(SiteFile.model_validate(SMALL | {key: [one] * 500}), key)) == 500
        with pytest.raises(ValueError, match="at most 500"):
            SiteFile.model_validate(SMALL | {key: [one] * 501})


def test_parts_of_a_site_cannot_be_changed_or_misspelt():
    for made in (Rules(), Line(**line()), Zone(**zone()), Turn(from_line="a", to_line="b")):
        with pytest.raises(ValueError, match="frozen"):
            made.name = "x"
        with pytest.raises(ValueError, match="Extra inputs"):
            type(made)(**made.model_dump(), hoogte=1)
    with pytest.raises(AttributeError):
        Site((16, 16)).size = (1, 1)
    with pytest.raises(AttributeError):
        Calibration(np.eye(3), 0.0).error_m = 1.0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lines": [line(), line()]},
            (
                "the whole: ['l'] occurs twice among lines and zones; "
                "each needs a name of its own"
            )),
        ({"lines": [line(name="z"), line()], "zones": [zone(), zone(name="l")]},
            (
                "the whole: ['l', 'z'] occurs twice among lines and zones; "
                "each needs a name of its own"
            )),
        ({"lines": [line(px=[[0, 0], [400, 10.5]])]},
            "lines.0.px.1: l: the point (400, 10.5) is outside the image of 320 x 240"),
        ({"zones": [zone(px=[[0, 0], [9, 9], [0, 241]])]},
            "zones.0.px.2: z: the point (0, 241) is outside the image of 320 x 240"),
        ({"forbidden_turns": [{"from_line": "a", "to_line": "b"}]},
            "forbidden_turns.0: forbidden_turns: there is no line 'a'. There are: none"),
        ({"lines": [line(), line(name="k")],
            "forbidden_turns": [{"from_line": "l", "to_line": "b"}]},
            "forbidden_turns.0: forbidden_turns: there is no line 'b'. There are: k, l"),
        ({"lines": [line()], "forbidden_turns": [{"from_line": "l", "to_line": "l"}]},
            (
                "forbidden_turns.0: forbidden_turns: from and to are the same line, 'l'; "
                "a vehicle that crosses it would be reported at once. Name two lines"
            )),
        ({"lines": [line(px=[[5, 5], [5, 5]])]}, "lines.0.px: l: its two points are one"),
        ({"zones": [zone(heading=[[5, 5], [5, 5]])]},
            "zones.0.heading: z: its two points are one"),
        ({"zones": [zone(px=[[0, 0], [10, 10], [20, 20], [5, 5]])]},
            "zones.0.px: z: its points lie on one line"),
        ({"lamps": [{"group": 3, "px": [-10, 5, 9, 9]}]},
            "lamps.0.px: the lamp of group 3 is outside the image of 320 x 240"),
        ({"lamps": [{"group": 3, "px": [316, 5, 9, 9]}]},
            "lamps.0.px: the lamp of group 3 is outside the image of 320 x 240"),
        ({"lamps": [{"group": 3, "px": [5, 5, math.inf, 9]}]},
            "lamps.0.px.2: Input should be a finite number"),
        ({"hoogte": 1}, "hoogte: Extra inputs are not permitted"),
        ({"zones": [zone(limit_kmh=0), zone(name="y", kind="lake")]},
            (
                "zones.0.limit_kmh: Input should be greater than 0; zones.1.kind: "
                "Input should be 'lane', 'box', 'crossing' or 'forbidden'"
            )),
        ({"points": PAIRS[:3]},
            "points: 3 pairs are given. Give four or more, on the road and not on one line."),
    ],
)  # fmt: skip
def test_an_error_names_its_place_in_the_file(change, says):
    with pytest.raises(CalibrationError) as caught:
        Site.from_tree(SMALL | change, "north.yaml")
    assert str(caught.value) == f"north.yaml: {says}"


def test_a_site_is_read_from_yaml_or_json(tmp_path):
    path = tmp_path / "north.yaml"
    path.write_text("size: [320, 240]\nrules: {limit_kmh: 30}  # a school\n")
    assert read_site(path) == Site.from_tree(SMALL | {"rules": {"limit_kmh": 30}})
    path.write_text(
        json.dumps(SMALL | {"zones": [zone(name="Käfertal")]}, ensure_ascii=False), encoding="utf-8"
    )
    assert read_site(path).zones[0].name == "Käfertal"
    path.write_text("size: [320")
    with pytest.raises(CalibrationError, match=r"north\.yaml: this is no YAML: "):
        read_site(path)
    path.write_bytes(b"size: [320, 240]\n# \xff\xfe\n")
    with pytest.raises(CalibrationError, match=r"north\.yaml: this is no YAML: .*utf-8"):
        read_site(path)
    path.write_text("size: [8, 8]")
    with pytest.raises(CalibrationError) as caught:
        read_site(path)
    assert str(caught.value).startswith(
        f"{path}: size.0: Input should be greater than or equal to 16"
    )
    with pytest.raises(OSError, match="north"):
        read_site(tmp_path / "north.txt")


@pytest.mark.parametrize("part", ["lines", "zones"])
@pytest.mark.parametrize("name", ["a\x00b", "a\nb", ""])
def test_a_name_that_no_database_takes_is_refused(part, name):
    px = [[0, 0], [10, 10], [0, 10]]
    given = {"lines": {"px": px[:2]}, "zones": {"px": px, "kind": "box"}}[part]
    with pytest.raises(ValueError, match=f"{part}.0.name"):
        Site.from_tree({"size": [64, 48], part: [{"name": name, **given}]}, "site")


@pytest.mark.parametrize(
    "part",
    [
        {"zones": [{"name": "z", "px": [[0, 0], [9, 0], [0, 9]], "lane": "\ud800"}]},
        {"zones": [{"name": "z", "px": [[0, 0], [9, 0], [0, 9]], "lane": "a" * 257}]},
        {"forbidden_turns": [{"from_line": "\udfff", "to_line": "b"}]},
    ],
)
def test_names_that_no_answer_can_hold_are_refused(part):
    """Half of a surrogate pair was kept; from then on nobody could read the site (500)."""
    with pytest.raises(CalibrationError) as told:
        Site.from_tree({"size": [100, 100], **part}, "site")
    str(told.value).encode()
