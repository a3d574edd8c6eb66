"""The painter against a slow one that follows rays;
its street, noise, weather, lamps and ground truth by hand.
"""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from tests.rendered.rendered_street import (
    LANES,
    SIZES,
    SUN,
    Ray,
    block,
    look_of,
    met,
    scene,
    street,
)

from headway.rendered.painter import Painter, ground_truth_line
from headway.rendered.view import View
from headway.roads.network import Kind

NETWORK, SHAPES = street()
VIEW = View((-32.0, -30.0, 22.0), (-16.0, -3.0), 130.0, (200, 130))
NEAR = View((-27.0, -12.0, 9.0), (-20.0, -1.0), 130.0, (200, 130))
FRONT = View((-8.0, -8.0, 6.0), (-18.0, -2.0), 330.0, (200, 150))
REAR = View((-31.0, 3.0, 7.0), (-19.0, -1.0), 330.0, (200, 150))
OFF = np.zeros(4, np.int8)
GRASS, ASPHALT, PAVEMENT, PAINT = (70, 104, 84), (92, 94, 96), (128, 132, 136), (205, 208, 210)


def painter(view=VIEW, noise=0.0, **how):
    made = Painter(view, NETWORK, SHAPES, noise=noise, **how)
    made.lamps_px[:] = np.nan  # no lamps, unless a test wants them
    return made


def grid(view, off=(0.0, 0.0)):
    y, x = np.mgrid[0 : view.size[1], 0 : view.size[0]]
    return np.c_[x.ravel(), y.ravel()] + np.array(off)


AROUND = [
    (0.0, 0.0),
    (2.0, 0.0),
    (-2.0, 0.0),
    (0.0, 2.0),
    (0.0, -2.0),
    (1.5, 1.5),
    (-1.5, 1.5),
    (1.5, -1.5),
    (-1.5, -1.5),
]  # as far as edges are smoothed


def agreed(label):
    """What a pixel shows where it is the same two pixels to each side; -1 elsewhere.
    label(off): a code of each pixel.
    """
    first = label(AROUND[0])
    for off in AROUND[1:]:
        first = np.where(first == label(off), first, -1)
    return first


# -- vehicles: what a ray meets first


SUNNY, SHADED = 1000, 1001


def looks(view, vehicles, shaded):
    """By the rays: (code of each pixel, -1 where there is doubt; colours of the codes).
    Of the road: in the sun or not.
    """
    blocks = [block((x, y), a, length, *SIZES[kind]) for _, x, y, a, _, length, kind in vehicles]
    colours = {}

    def label(off):
        rays = Ray(view, grid(view, off))
        found = [met(*b, rays.began, rays.way) for b in blocks]
        nearest = np.array([f[0] for f in found])
        codes = np.full(len(rays.way), SUNNY)
        if shaded:
            road = np.c_[rays.ground(), np.zeros(len(rays.way))]
            for (
                basis,
                offset,
            ) in blocks:  # a place of the road is dark where its ray to the sun meets somebody
                b, w = road @ basis.T + offset, basis @ SUN
                low = (0.0 - b) / np.where(w == 0, 1e-12, w)
                high = (1.0 - b) / np.where(w == 0, 1e-12, w)
                enter, leave = np.minimum(low, high).max(1), np.maximum(low, high).min(1)
                codes[(enter <= leave) & (leave > 0)] = SHADED
        for k, (number, _, _, angle, _, _, kind) in enumerate(vehicles):
            here = np.isfinite(nearest[k]) & (nearest.argmin(0) == k)
            code, reported = look_of(kind, number, found[k][1][here], found[k][2][here], angle)
            codes[here] = 10 * k + code
            colours.update({10 * k + c: colour for c, colour in reported.items()})
        return codes

    return agreed(label), colours


def matches(got, names, wanted, least):
    """All codes whose pixels are not as wanted: a few pixels at corners may be smoothed."""
    found = {}
    for name in set(names.tolist()) - {-1}:
        here = names == name
        if here.sum() >= least:
            found[name] = float((got[here] == wanted(name, here)).all(1).mean())
    assert len(found) > 2
    return {name: share for name, share in found.items() if share < 0.95}


TWO = [(8, -16.0, -2.0, 90.0, 5.0, 4.5, 0), (1, -22.0, 6.0, 270.0, 5.0, 9.0, 1)]
THREE = [
    (4, -20.0, -4.0, 200.0, 5.0, 1.8, 3),
    (5, -12.0, -2.0, 140.0, 5.0, 6.5, 5),
    (6, -25.0, 4.0, 30.0, 5.0, 4.0, 0),
]
STREETS = {
    "a car and a bus": (NEAR, TWO),
    "from the north": (replace(NEAR, at_m=(-12.0, 10.0, 8.0)), TWO),
    "a truck and a tram": (
        NEAR,
        [(2, -19.0, -3.0, 60.0, 5.0, 7.0, 2), (3, -12.0, 5.0, 10.0, 5.0, 9.0, 4)],
    ),
    "a bicycle, an ambulance, a car": (replace(VIEW, focal_px=260.0), THREE),
    "one behind another": (
        NEAR,
        [
            (7, -18.0, -3.0, 90.0, 5.0, 5.0, 0),
            (9, -18.0, 0.0, 90.0, 5.0, 5.0, 0),
            (10, -18.0, 3.0, 85.0, 5.0, 5.0, 2),
        ],
    ),
    "its front": (FRONT, [(7, -16.0, -2.0, 80.0, 5.0, 4.0, 0)]),
    "the front of a bus": (FRONT, [(7, -16.0, -2.0, 110.0, 5.0, 7.0, 1)]),
    "its rear": (REAR, [(7, -18.0, -1.0, 80.0, 5.0, 5.0, 5)]),
    "a bicycle": (replace(FRONT, focal_px=600.0), [(11, -17.5, -2.0, 45.0, 5.0, 1.8, 3)]),
}


@pytest.mark.parametrize(("view", "vehicles"), STREETS.values(), ids=STREETS)
def test_each_pixel_shows_what_its_ray_meets_first(view, vehicles):
    of = painter(view)
    empty, _ = of.render(scene(), OFF)
    image, truth = of.render(scene(*vehicles), OFF)
    names, colours = looks(view, vehicles, shaded=True)
    plain = empty.reshape(-1, 3)
    assert {v["number"] for v in truth} == {v[0] for v in vehicles}
    assert (names >= 0).mean() > 0.4

    def wanted(name, here):
        return (
            plain[here]
            if name == SUNNY
            else np.floor(plain[here] * 0.55)
            if name == SHADED
            else np.rint(colours[name])
        )

    assert matches(image.reshape(-1, 3), names, wanted, 12) == {}


def test_at_night_there_are_no_shadows_and_vehicles_have_headlights():
    of, day = painter(NEAR, night=True), painter(NEAR)
    image, _ = of.render(scene(*TWO), OFF)
    empty, _ = day.render(scene(), OFF)
    names, colours = looks(NEAR, TWO, shaded=False)
    # its lamps, 0.6 m above the two front corners: the first heads east, the second west
    lamps = np.array(
        [(-16.0, -2.9, 0.6), (-16.0, -1.1, 0.6), (-22.0, 7.25, 0.6), (-22.0, 4.75, 0.6)]
    )
    radius = np.maximum(
        np.rint(0.2 * 130.0 / np.linalg.norm(lamps - np.array(NEAR.at_m), axis=1)), 1
    )
    assert radius.tolist() == [2, 1, 1, 1]
    apart = np.linalg.norm(grid(NEAR)[:, None] - np.round(NEAR.project(lamps)), axis=2)
    lit, dark = (apart < radius - 0.9).any(1), (apart > radius + 2.0).all(1)
    got = image.reshape(-1, 3)
    assert (got[lit] == 115).all()  # 0.45 of white
    assert lit.sum() >= 4
    names[~dark] = -1
    plain = empty.reshape(-1, 3)
    assert (
        matches(
            got,
            names,
            lambda name, here: np.rint(
                0.45 * (plain[here] if name == SUNNY else np.rint(colours[name]))
            ),
            12,
        )
        == {}
    )


def test_a_distant_vehicle_lamp_is_at_least_a_pixel():
    far = View((-60.0, -2.0, 40.0), (200.0, -2.0), 130.0, (200, 130))
    of = painter(far, night=True)
    image, _ = of.render(scene((1, 200.0, -2.0, 90.0, 5.0, 4.5, 0)), OFF)
    for at in far.project(np.array([(200.0, -2.9, 0.6), (200.0, -1.1, 0.6)])):
        assert (image[round(at[1]), round(at[0])] == 115).all()


# -- the empty street


def edges():
    """The lines that are painted along a lane, 5 cm within its edge and across its end:
    (m, 2, 2).
    """
    found = []
    for _, _, _, wide, points in LANES:
        p, half = np.array(points), (wide - 0.1) / 2.0
        ahead = (p[-1] - p[0]) / np.linalg.norm(p[-1] - p[0])
        left = np.array([-ahead[1], ahead[0]]) * half
        found += [
            (p[0] + left, p[-1] + left),
            (p[-1] + left, p[-1] - left),
            (p[-1] - left, p[0] - left),
        ]
    return np.array(found)


def rough(size, seed):
    """The road's own texture: noise of 9, smoothed over 1.5 pixels."""
    noise = np.random.default_rng(seed).normal(0.0, 9.0, (size[1], size[0], 3)).astype(np.float32)
    return gaussian_filter(noise, (1.5, 1.5, 0.0), mode="mirror").reshape(-1, 3)


def within(p, x0, x1, y0, y1):
    return (p[:, 0] > x0) & (p[:, 0] < x1) & (p[:, 1] > y0) & (p[:, 1] < y1)


PLACES = {
    "west": (VIEW, {0, 1}),
    "the path": (View((-16.0, -16.0, 8.0), (-12.0, -7.0), 180.0, (200, 130)), {0, 1, 2}),
    "its stop line": (View((-11.0, -9.0, 7.0), (-8.2, -2.5), 200.0, (200, 130)), {1, 3}),
    "the other": (View((-8.0, 3.0, 7.0), (-2.0, 8.0), 200.0, (200, 130)), {0, 1, 3}),
    "east": (View((20.0, -16.0, 9.0), (14.0, -2.0), 180.0, (200, 130)), {0, 1}),
    "north": (View((-14.0, 20.0, 9.0), (-2.0, 16.0), 180.0, (200, 130)), {0, 1}),
}


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize(("view", "shows"), PLACES.values(), ids=PLACES)
def test_grass_asphalt_pavement_and_stop_lines_lie_where_the_map_has_them(view, shows, seed):
    of = painter(view, seed=seed)
    image = of.render(scene(), OFF)[0].reshape(-1, 3).astype(float) - rough(view.size, seed)

    def label(off):
        p = Ray(view, grid(view, off)).ground()
        names = np.full(len(p), 0)
        names[
            within(p, -8, 8, -8, 8)
            | within(p, -60, -8, -3.6, -0.4)
            | within(p, 8, 60, -3.6, -0.4)
            | within(p, -3.5, -0.5, 8, 60)
        ] = 1
        names[within(p, -60, -8, -8, -6)] = 2
        names[within(p, -8.4, -8, -3.5, -0.5) | within(p, -3.5, -0.5, 8, 8.4)] = 3
        return names

    names = agreed(label)
    lines = np.zeros((130, 200), np.uint8)
    for a, b in edges():
        px = view.ground(a + (b - a) * np.linspace(0.0, 1.0, 300)[:, None])
        cv2.polylines(
            lines,
            [np.round(px[np.isfinite(px).all(1)].clip(-500, 700)).astype(np.int32)],
            False,
            255,
            6,
        )
    names[lines.ravel() > 0] = -1
    for code, colour in enumerate((GRASS, ASPHALT, PAVEMENT, PAINT)):
        here = names == code
        if here.sum() < 15:
            assert code not in shows
            continue
        off = image[here] - np.array(colour)  # what is left of a pixel is cut off
        assert ((off < 1e-3) & (off > -1.0 - 1e-3)).all(1).mean() > 0.98, colour


class Plan:
    """Straight down, 10 pixels a metre, north above: for lines whose pixels can be told by hand."""

    size, at_m, focal_px = (200, 200), (10.0, 10.0, 1000.0), 10.0

    def ground(self, points):
        return np.c_[points[:, 0] * 10.0, 200.0 - points[:, 1] * 10.0]

    def area(self, ring):
        return self.ground(ring)

    def project(self, points):
        return self.ground(points)


def test_lanes_have_a_line_along_both_sides_and_across_their_end():
    """A lane of 3.1 m from (2, 10) to (12, 10): its lines 15 pixels from its middle;
    lanes inside a junction have none.
    """
    shapes = replace(
        SHAPES,
        lanes=[
            ("w_1", 3.1, [(2.0, 10.0), (12.0, 10.0)]),
            (":j_0", 3.1, [(2.0, 16.0), (12.0, 16.0)]),
        ],
        junctions=[],
        signals=[],
    )
    of = Painter(
        Plan(),
        replace(NETWORK, groups=(NETWORK.groups[0],)),
        replace(shapes, signals=[(19.0, 19.0, 90.0)]),
        noise=0.0,
    )
    of.lamps_px[:] = np.nan
    image = of.render(scene(), np.zeros(1, np.int8))[0].astype(float) - rough(
        (200, 200), 0
    ).reshape(200, 200, 3)
    line, asphalt = np.array((150, 152, 154)), np.array(ASPHALT)
    flat = np.full((200, 200, 3), ASPHALT, np.uint8)
    cv2.line(
        flat, (20, 85), (120, 85), line.tolist(), 1, cv2.LINE_AA
    )  # as strong as a smoothed line of one pixel is
    cv2.line(flat, (120, 85), (120, 115), line.tolist(), 1, cv2.LINE_AA)
    for row in (85, 115):
        assert np.abs(image[row, 22:118] - flat[85, 50] + 0.5).max() < 0.51
    assert np.abs(image[88:113, 120] - flat[100, 120] + 0.5).max() < 0.51  # across its end
    assert np.abs(image[87:113, 20] - asphalt + 0.5).max() < 0.51  # not across its begin
    for row in (
        86,
        84,
        114,
        116,
    ):  # one pixel wide; between it and the edge there is asphalt of half a pixel
        assert np.abs(image[row, 22:119] - line).min(1).max() > 10
    assert np.abs(image[88:113, 25:118] - asphalt + 0.5).max() < 0.51
    for row in (25, 55):
        assert np.abs(image[row, 22:119] - line).min(1).min() > 10


def test_a_stop_line_lies_across_its_lane_four_tenths_of_a_metre_before_its_end():
    """A lane that goes to 60 degrees from north, 30 from east:
    on the line at 1.4 m to either side and 0.1 or 0.3 m back, not beyond.
    """
    shapes = replace(SHAPES, lanes=[], junctions=[], signals=[(10.0, 10.0, 60.0)])
    of = Painter(Plan(), replace(NETWORK, groups=(NETWORK.groups[0],)), shapes, noise=0.0)
    of.lamps_px[:] = np.nan
    image = of.render(scene(), np.zeros(1, np.int8))[0].astype(float) - rough(
        (200, 200), 0
    ).reshape(200, 200, 3)
    ahead, left = np.array([np.sqrt(0.75), 0.5]), np.array([-0.5, np.sqrt(0.75)])
    for along, aside, colour in ((-0.2, 1.3, PAINT), (-0.2, -1.3, PAINT), (-0.2, 0.0, PAINT),
        (0.3, 0.0, GRASS), (-0.7, 0.0, GRASS), (-0.2, 1.9, GRASS),
                                 (-0.2, -1.9, GRASS)):  # fmt: skip
        x, y = np.array([10.0, 10.0]) + ahead * along + left * aside
        assert (
            np.abs(image[round(200 - 10 * y), round(10 * x)] - np.array(colour) + 0.5).max() < 0.51
        ), (along, aside)


def test_each_group_needs_its_signal():
    with pytest.raises(ValueError, match="zip"):
        Painter(VIEW, NETWORK, replace(SHAPES, signals=SHAPES.signals[:3]))


# -- noise and weather


def test_the_noise_is_one_of_five_images_in_turn():
    random = np.random.default_rng(0)
    grains = [random.normal(0.0, 4.0, (130, 200, 3)).astype(np.int16) for _ in range(5)]
    plain = painter().render(scene(), OFF)[0].astype(int)
    of = Painter(VIEW, NETWORK, SHAPES)
    of.lamps_px[:] = np.nan
    for k in (1, 2, 3, 4, 0, 1):
        assert (of.render(scene(), OFF)[0] == np.clip(plain + grains[k], 0, 255)).all()
    assert painter(noise=7.0).render(scene(), OFF)[0].std() > of.render(scene(), OFF)[0].std()


def test_rain_greys_the_image_and_adds_short_streaks():
    """A quarter of it is a grey of 120; 150 strokes of 9 pixels down and 2 across,
    others in each image and for each seed.
    """
    of, plain = painter(rain=True, seed=3), painter(seed=3).render(scene(), OFF)[0]
    images = [of.render(scene(), OFF)[0] for _ in range(2)]
    for k, image in enumerate(images):
        want = np.rint(0.75 * plain + 0.25 * 120).astype(np.uint8)
        for x, y in np.random.default_rng((3, k + 1)).integers(0, (200, 130), (150, 2)).tolist():
            cv2.line(want, (x, y), (x + 2, y + 9), (170, 170, 170), 1, cv2.LINE_AA)
        assert (np.abs(image.astype(int) - want) <= 1).all()
        assert (image == want).mean() > 0.99
    assert (images[0] != images[1]).any()


def test_night_is_applied_before_rain():
    plain = painter().render(scene(), OFF)[0]
    image = painter(rain=True, night=True).render(scene(), OFF)[0]
    want = np.rint(0.75 * np.rint(0.45 * plain) + 30.0)
    assert (image == want).all(2).mean() > 0.8  # all but the strokes


# -- the signals' lamps


def test_a_lamp_stands_behind_its_stop_line_on_the_right_five_and_a_half_metres_high():
    """1.5 m on and 1.9 m to the right; of pedestrians 2.5 m high."""
    of = Painter(VIEW, NETWORK, SHAPES)
    places = np.array([(-6.5, -3.9, 5.5), (-3.9, 6.5, 5.5), (-6.5, -8.9, 2.5), (-6.5, -3.9, 5.5)])
    assert np.allclose(of.lamps_px, VIEW.project(places), atol=1e-9)
    apart = [np.sqrt(sum((a - b) ** 2 for a, b in zip(p, VIEW.at_m, strict=True))) for p in places]
    assert np.allclose(of.lamp_px, [max(0.35 * 130.0 / d, 1.5) for d in apart])
    near = Painter(replace(VIEW, focal_px=600.0), NETWORK, SHAPES)
    assert np.allclose(near.lamp_px, [0.35 * 600.0 / d for d in apart])
    assert near.lamp_px.min() > 4.0


COLOUR_OF_LAMP = [(30, 30, 30), (40, 40, 255), (40, 200, 255), (90, 220, 60), (90, 220, 60)]


@pytest.mark.parametrize("colour", range(5))
def test_a_lamp_is_a_disc_with_a_dark_rim(colour):
    of = painter()
    of.lamps_px[1], of.lamp_px[1] = (60.25, 50.5), 16.0
    shown = np.array([1, colour, 2, 3], np.int8)
    plain = painter().render(scene(), shown)[0]
    image = of.render(scene(), shown)[0].reshape(-1, 3)
    apart = np.linalg.norm(grid(VIEW) - np.array((60.25, 50.5)), axis=1)
    assert (image[apart < 14.0] == COLOUR_OF_LAMP[colour]).all()
    assert (image[(apart > 18.0) & (apart < 20.4)] == 25).all()
    assert (image[apart > 24.4] == plain.reshape(-1, 3)[apart > 24.4]).all()
    assert 0 < (image[apart > 14.0] == COLOUR_OF_LAMP[colour]).all(1).sum() < 200  # up to its edge


@pytest.mark.parametrize(
    ("at", "drawn"),
    [
        ((-49.0, 60.0), True), ((-50.0, 60.0), False), ((249.0, 60.0), True),
        ((250.0, 60.0), False), ((100.0, -49.0), True), ((100.0, -50.0), False),
        ((100.0, 179.0), True), ((100.0, 180.0), False), ((np.nan, 60.0), False),
        ((-60.0, 60.0), False), ((100.0, -60.0), False),
        ((100.0, 190.0), False), ((260.0, 60.0), False),
    ],
)  # fmt: skip
def test_a_lamp_is_drawn_up_to_fifty_pixels_beyond_the_image(at, drawn):
    of, plain = painter(), painter().render(scene(), OFF)[0]
    of.lamps_px[3], of.lamp_px[3] = at, 80.0
    assert (of.render(scene(), OFF)[0] != plain).any() == drawn


# -- the truth


def test_the_ground_truth_of_a_vehicle():
    """(x, y) is the middle of it on the road; its box holds all that is seen of it."""
    of = painter(NEAR)
    (v,) = of.render(scene((4_000_000_000, -16.0, -2.0, 90.0, 5.12345, 4.5, 0)), OFF)[1]
    assert (v["number"], v["class"], v["visible_share"], v["x"], v["y"], v["speed_mps"]) == (
        4_000_000_000,
        "car",
        1.0,
        -18.25,
        -2.0,
        5.123,
    )
    corners = np.array(
        [(x, y, z) for x in (-16.0, -20.5) for y in (-2.9, -1.1) for z in (0.0, 1.5)]
    )
    px = NEAR.project(corners)
    assert v["box"] == [pytest.approx(c, abs=0.006) for c in (*px.min(0), *px.max(0))]
    assert list(v) == ["number", "class", "box", "visible_share", "x", "y", "speed_mps"]
    assert [round(c, 2) for c in v["box"]] == v["box"]


def test_ground_truth_positions_are_in_millimetres():
    (v,) = painter(NEAR).render(scene((1, -16.0, -2.0, 100.0, 0.0, 4.5, 0)), OFF)[1]
    a = np.radians(100.0)
    assert (v["x"], v["y"]) == (
        round(-16.0 - 2.25 * np.sin(a), 3),
        round(-2.0 - 2.25 * np.cos(a), 3),
    )


@pytest.mark.parametrize(
    ("kind", "name"), list(enumerate(["car", "bus", "truck", "bicycle", "bus", "truck"]))
)
def test_the_class_and_the_size_of_each_kind(kind, name):
    (v,) = painter(NEAR).render(scene((3, -16.0, -2.0, 90.0, 5.0, 4.0, kind)), OFF)[1]
    wide, high = SIZES[kind]
    px = NEAR.project(
        np.array(
            [
                (x, -2.0 + s * wide / 2, z)
                for x in (-16.0, -20.0)
                for s in (-1, 1)
                for z in (0.0, high)
            ]
        )
    )
    assert (v["class"], v["box"]) == (
        name,
        [pytest.approx(c, abs=0.006) for c in (*px.min(0), *px.max(0))],
    )


def test_a_box_ends_at_the_image():
    of = painter(NEAR)
    found = of.render(
        scene((1, *Ray(NEAR, np.array([[20.0, 60.0]])).ground()[0], 90.0, 0.0, 4.5, 0)), OFF
    )[1]
    assert found[0]["box"][0] == 0.0
    assert found[0]["box"][2] > 15.0
    assert 0.3 < found[0]["visible_share"] < 0.9
    x, y = Ray(NEAR, np.array([[100.0, 128.0]])).ground()[0]
    (v,) = of.render(scene((1, x, y, 0.0, 0.0, 4.5, 0)), OFF)[1]
    assert (v["box"][3], v["box"][1] > 100.0) == (130.0, True)


def share_seen(view, vehicles, which):
    """By the rays: of what would be seen of one alone, within the image and without,
    how much is not hidden.
    """
    y, x = np.mgrid[-20 : view.size[1] + 20, -20 : view.size[0] + 20]
    px = np.c_[x.ravel(), y.ravel()]
    rays = Ray(view, px)
    t = np.array(
        [
            met(*block((v[1], v[2]), v[3], v[5], *SIZES[v[6]]), rays.began, rays.way)[0]
            for v in vehicles
        ]
    )
    own = np.isfinite(t[which])
    inside = (px > -0.5).all(1) & (px < np.array(view.size) - 0.5).all(1)
    return (own & inside & (t.argmin(0) == which)).sum() / own.sum()


@pytest.mark.parametrize(
    "vehicles",
    [
        [
            (7, -18.0, -3.0, 90.0, 5.0, 5.0, 0),
            (9, -18.0, -0.5, 90.0, 5.0, 5.0, 0),
            (10, -18.0, 3.0, 85.0, 5.0, 5.0, 2),
        ],
        [(9, -18.0, -0.5, 90.0, 5.0, 5.0, 0), (7, -17.0, -3.0, 90.0, 5.0, 4.0, 1)],
    ],
)
def test_ground_truth_states_the_visible_share_of_a_partly_hidden_vehicle(vehicles):
    """A pixel on the outline counts as its own: some per cent of a small one."""
    low = replace(NEAR, at_m=(-24.0, -15.0, 5.0), focal_px=160.0)
    found = {v["number"]: v["visible_share"] for v in painter(low).render(scene(*vehicles), OFF)[1]}
    want = [share_seen(low, vehicles, k) for k in range(len(vehicles))]
    assert min(want) < 0.6 < max(want)
    for v, share in zip(vehicles, want, strict=True):
        assert found[v[0]] == pytest.approx(share, abs=0.06), (found, want)
        assert found[v[0]] == round(found[v[0]], 3)


LOW = replace(NEAR, at_m=(-24.0, -15.0, 5.0), focal_px=160.0)


@pytest.mark.parametrize(
    "front", [(-17.0, -3.0), (-16.0, -2.8), (-19.5, -3.0), (-18.2, -2.5), (-21.0, -3.5)]
)
@pytest.mark.parametrize("kind", [0, 2, 3])
def test_the_visible_share_is_counted_in_pixels(front, kind):
    """All pixels of its outline that nobody nearer covers, by the area of its outline."""
    vehicles = [
        (9, -18.0, -0.5, 90.0, 5.0, 5.0, 2),
        (7, *front, 90.0, 5.0, 4.0, kind),
        (8, -27.0, -0.5, 80.0, 5.0, 5.0, 0),
    ]

    def outline(v):
        basis, offset = block((v[1], v[2]), v[3], v[5], *SIZES[v[6]])
        shares = np.array([(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)])
        return cv2.convexHull(
            LOW.project((shares - offset) @ np.linalg.inv(basis).T).astype(np.float32)
        )

    masks = []
    for v in vehicles:
        mask = np.zeros((130, 200), np.uint8)
        cv2.fillConvexPoly(mask, np.round(outline(v) * 16).astype(np.int32), 1, cv2.LINE_8, 4)
        masks.append(mask.astype(bool))
    found = painter(LOW).render(scene(*vehicles), OFF)[1]
    for k, visible in (
        (0, masks[0] & ~masks[1]),
        (1, masks[1]),
        (2, masks[2]),
    ):  # the second is nearest, the third is cut off by the image's edge
        assert found[k]["visible_share"] == pytest.approx(
            min(visible.sum() / cv2.contourArea(outline(vehicles[k])), 1.0), abs=0.00051
        )
    assert found[0]["visible_share"] < 1.0
    assert found[2]["visible_share"] < 0.95


def test_a_vehicle_outside_the_image_has_no_ground_truth():
    of = painter(NEAR)
    at = lambda x, y: Ray(NEAR, np.array([[x, y]])).ground()[0]  # noqa: E731
    for x, y in ((260.0, 60.0), (-60.0, 60.0), (100.0, 190.0)):
        assert of.render(scene((1, *at(x, y), 90.0, 0.0, 1.0, 0)), OFF)[1] == []
    assert of.render(scene((1, -40.0, -100.0, 0.0, 0.0, 4.5, 0)), OFF)[1] == []  # behind the camera
    assert [
        v["number"]
        for v in of.render(
            scene((1, *at(260.0, 60.0), 90.0, 0.0, 1.0, 0), (2, -18.0, -2.0, 90.0, 0.0, 4.5, 0)),
            OFF,
        )[1]
    ] == [2]


@pytest.mark.parametrize(("front_px", "reported"),
    [((394.0, 60.0), True), ((406.0, 60.0), False), ((-194.0, 60.0), True), ((-206.0, 60.0), False),
                                                 ((100.0, 256.0), True),
                                                 ((100.0, 264.0), False)])  # fmt: skip
def test_a_long_vehicle_has_ground_truth_while_its_front_is_within_three_half_images_of_the_middle(
    front_px, reported
):
    """The image is 200 x 130 pixels: 300 to either side of 100, 195 of 65."""
    x, y = Ray(NEAR, np.array([front_px])).ground()[0]
    middle = np.array(NEAR.towards_m)
    way = np.array([x, y]) - middle
    angle, length = np.degrees(np.arctan2(way[0], way[1])), float(np.hypot(*way))
    assert (of_numbers(painter(NEAR), (5, x, y, angle, 0.0, length, 3)) == [5]) == reported


def of_numbers(of, *vehicles):
    return [v["number"] for v in of.render(scene(*vehicles), OFF)[1]]


def test_a_vehicle_that_reaches_behind_the_camera_is_left_out():
    low = View((0.0, 0.0, 3.0), (10.0, 0.0), 100.0, (200, 130))
    assert of_numbers(painter(low), (5, 8.0, 0.0, 90.0, 0.0, 4.0, 0)) == [5]
    assert of_numbers(painter(low), (5, 8.0, 0.0, 90.0, 0.0, 12.0, 0)) == []


def test_a_line_of_ground_truth():
    assert (
        ground_truth_line(1.23456, [{"number": 3, "x": 1.5}], np.array([1, 4], np.int8))
        == '{"at_s":1.235,"colours":[1,4],"vehicles":[{"number":3,"x":1.5}]}'
    )
    assert json.loads(ground_truth_line(2.0, [], np.zeros(0, np.int8))) == {
        "at_s": 2.0,
        "colours": [],
        "vehicles": [],
    }


def test_each_painter_has_its_seed_and_pedestrians_their_height():
    assert (
        painter(seed=1).render(scene(), OFF)[0] != painter(seed=2).render(scene(), OFF)[0]
    ).any()
    assert (Painter(VIEW, NETWORK, SHAPES).seed, Painter(VIEW, NETWORK, SHAPES).noise) == (0, 4.0)
    assert (painter().night, painter().rain) == (False, False)
    bicycles = replace(NETWORK, groups=tuple(replace(g, kind=Kind.BICYCLE) for g in NETWORK.groups))
    assert np.allclose(
        Painter(VIEW, bicycles, SHAPES).lamps_px[2], VIEW.project(np.array([(-6.5, -8.9, 5.5)]))[0]
    )
