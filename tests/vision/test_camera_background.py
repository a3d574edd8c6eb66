"""The learned background: learning, differences, shadows and holes;
on images of even colours, so that each level can be worked out by hand.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from headway.vision.detection.background import LEARNED, Background, edge_slope, surroundings


def even(level, high=40, wide=40):
    return np.full((high, wide, 3), level, np.uint8)


def with_block(image, x, y, w, h, level):
    out = image.copy()
    out[y : y + h, x : x + w] = level
    return out


def region(mask):
    """(x, y, width, height) of the one rectangle that is set, which is filled;
    None if nothing is.
    """
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return None
    x, y, w, h = columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1
    assert set(np.unique(mask)) <= {0, 255}
    assert np.count_nonzero(mask) == w * h
    return int(x), int(y), int(w), int(h)


def outline(x, y, w, h):
    return np.array(
        [[[x, y]], [[x, y + h - 1]], [[x + w - 1, y + h - 1]], [[x + w - 1, y]]], np.int32
    )


# -- where a image differs


def test_a_background_starts_as_the_first_image():
    image = even(90)
    street = Background.from_first_image(image)
    assert (street.mean.dtype, street.mean.tolist(), street.shown.tolist()) == (
        np.float32,
        image.tolist(),
        image.tolist(),
    )
    assert (street.noise, street.images, street.upset, street.learned, street.shade) == (
        6.0,
        0,
        0,
        False,
        0.55,
    )
    assert street.shades.tolist() == [0.0] * 64
    image[:] = 1
    assert street.shown.tolist() == even(90).tolist()  # a copy
    assert Background.from_first_image(image).shades is not street.shades


@pytest.mark.parametrize(
    ("noise", "least"), [(6.0, 25), (3.5, 15), (3.0, 13), (2.0, 13), (0.0, 13)]
)
@pytest.mark.parametrize("colour", [0, 1, 2])
def test_a_pixel_differs_by_more_than_four_times_the_noise_and_twelve_levels(noise, least, colour):
    for by, region_of in ((least - 1, None), (least, (10, 12, 8, 9))):
        level = np.full(3, 100)
        level[colour] += by
        street = Background.from_first_image(even(100))
        street.noise = noise
        mask, changed = street.compare(with_block(even(100), 10, 12, 8, 9, level))
        assert region(changed) == region(mask) == region_of


@pytest.mark.parametrize(
    ("block", "stands"),
    [
        ((10, 10, 5, 5), True), ((10, 10, 4, 9), False), ((10, 10, 9, 4), False),
        ((10, 10, 6, 5), True), ((10, 10, 5, 6), True), ((10, 10, 1, 1), False),
    ],
)  # fmt: skip
def test_changes_narrower_than_five_pixels_are_not_foreground(block, stands):
    mask, changed = Background.from_first_image(even(100)).compare(
        with_block(even(100), *block, 160)
    )
    assert region(changed) == block
    assert region(mask) == (block if stands else None)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("slit", "closed"), [(2, True), (3, False)])
def test_a_slit_of_two_pixels_is_closed(turned, slit, closed):
    image = with_block(even(100), 8, 10, 20 + slit, 12, 160)
    image[10:22, 18 : 18 + slit] = 100
    street = Background.from_first_image(even(100))
    image = image.transpose(1, 0, 2).copy() if turned else image
    mask, changed = (m.T if turned else m for m in street.compare(image))
    assert np.count_nonzero(changed) == 20 * 12
    assert np.count_nonzero(mask) == (20 + slit if closed else 20) * 12
    assert mask[15, 18] == (255 if closed else 0)


@pytest.mark.parametrize(
    ("observed", "rows", "upset"),
    [(LEARNED + 1, 25, 4), (LEARNED + 1, 24, 0), (LEARNED, 25, 0), (LEARNED + 500, 40, 4)],
)
def test_images_in_a_row_that_differ_over_three_fifths_count_as_an_upset_once_it_has_learned(
    observed, rows, upset
):
    street = Background(even(100).astype(np.float32), even(100), images=observed, upset=3)
    street.compare(with_block(even(100), 0, 0, 40, rows, 200))  # 24 rows of 40 are three fifths
    assert street.upset == upset


# -- shadows: before a street of level 192 a level is the share of the light in 192 parts


def test_pixels_darker_by_the_usual_share_are_a_shadow_and_not_foreground():
    """106 is in class 35 of 64 (of 3 levels each), whose middle is 106.5;
    0.045 * 192 = 8.64 to each side are shadow: 98 to 115.
    """
    image = with_block(even(192, 60, 60), 5, 5, 20, 20, 106)
    for k, level in enumerate((97, 98, 115, 116)):
        image = with_block(image, 5 + 12 * k, 40, 8, 8, level)
    street = Background.from_first_image(even(192, 60, 60))
    mask, changed = street.compare(image)
    assert np.count_nonzero(changed) == 400 + 4 * 64
    assert [bool(mask[44, 9 + 12 * k]) for k in range(4)] == [True, False, False, True]
    assert np.count_nonzero(mask) == 2 * 64
    assert street.shade == 35.5 / 64
    assert {k: v for k, v in enumerate(street.shades) if v} == {
        35: 400,
        32: 128,
        38: 128,
    }  # 97 / 3 and 98 / 3, 115 / 3 and 116 / 3


def test_the_share_of_a_shadow_is_remembered_by_a_twentieth_less_each_time():
    street = Background.from_first_image(even(192))
    street.compare(with_block(even(192), 5, 5, 20, 20, 106))
    street.compare(
        with_block(even(192), 5, 5, 20, 19, 80)
    )  # 380 against 0.95 * 400 = 380: the darker one comes first
    assert (street.shades[35], street.shades[26]) == (pytest.approx(380.0), 380.0)
    assert street.shade == 26.5 / 64
    street.compare(even(192))
    assert (street.shades[35], street.shades[26]) == (pytest.approx(361.0), pytest.approx(361.0))


@pytest.mark.parametrize(
    ("shades", "best"),
    [
        ({20: 10}, 20),
        ({16: 5}, 16), ({15: 20, 40: 9}, 40),  # 15 is beyond the shares that are looked at
        ({53: 5}, 53), ({54: 20, 40: 9}, 40),
        ({20: 10, 30: 7, 31: 7}, 30),  # 2 * 10 against 2 * 7 + 7; of equals the darkest
        ({20: 11, 30: 7, 31: 7}, 20),
        ({30: 7, 31: 8}, 31), ({30: 8, 31: 7}, 30),
        # 20 against 18 + 1 + 1, and 18 + 2 + 1
        ({20: 10, 30: 9, 31: 1, 29: 1}, 20), ({20: 10, 30: 9, 29: 2, 31: 1}, 30),
        ({17: 6, 40: 10}, 40), ({17: 9, 18: 3, 40: 10}, 17),
    ],
)  # fmt: skip
def test_the_usual_share_is_where_most_shadows_are_with_a_half_of_their_neighbours(shades, best):
    street = Background.from_first_image(even(192))
    for k, count in shades.items():
        street.shades[k] = count
    street.compare(even(192))
    assert street.shade == (best + 0.5) / 64


@pytest.mark.parametrize(
    ("colour", "counted"),
    [
        ((100, 100, 117), True), ((100, 100, 118), False),  # 0.09 * 192 = 17.28 levels apart
        ((117, 100, 100), True), ((118, 100, 100), False),
        ((100, 117, 100), True), ((100, 118, 100), False),
        ((100, 109, 118), False), ((118, 109, 100), False), ((109, 100, 118), False),
        ((109, 118, 100), False),
        ((172, 172, 172), False),  # differs by 20 levels only
        ((160, 160, 160), True),
    ],
)  # fmt: skip
def test_a_shadow_darkens_all_colours_alike(colour, counted):
    street = Background.from_first_image(even(192))
    street.compare(with_block(even(192), 10, 10, 8, 8, colour))
    assert street.shades.sum() == (64 if counted else 0)


@pytest.mark.parametrize(("level", "counted"), [(172, True), (173, False), (205, False)])
def test_pixels_with_nine_tenths_of_the_light_are_no_shadow(level, counted):
    street = Background.from_first_image(even(192))
    street.noise = 0.0  # 13 levels differ
    street.compare(with_block(even(192), 10, 10, 8, 8, level))
    assert street.shades.sum() == (64 if counted else 0)


@pytest.mark.parametrize(
    ("colour", "share"),
    [
        ((110, 100, 96), 102),
        ((100, 110, 96), 102),
        ((96, 100, 110), 102),
        ((100, 103, 112), 105),
        ((114, 114, 102), 110),
    ],
)
def test_the_share_is_that_of_all_three_colours_together(colour, share):
    street = Background.from_first_image(even(192))
    street.compare(with_block(even(192), 10, 10, 8, 8, colour))
    assert {k: v for k, v in enumerate(street.shades) if v} == {share // 3: 64}


def test_the_share_is_of_what_the_street_shows():
    street = Background.from_first_image(even((80, 120, 200)))
    street.compare(
        with_block(even((80, 120, 200)), 10, 10, 8, 8, (40, 60, 100))
    )  # a half: 96 of 192
    assert {k: v for k, v in enumerate(street.shades) if v} == {32: 64}


def test_the_background_counts_as_no_darker_than_level_twelve():
    """The light itself comes as noise there: 6 of 12 are a half in each colour."""
    for level in (0, 11, 12):
        street = Background.from_first_image(even((level, level, level)))
        light, alike = street.light(even((6, 6, 6)))
        street.learn_shade(light, alike)
        assert {k: v for k, v in enumerate(street.shades) if v} == {32: 1600}
    street = Background.from_first_image(even(16))
    light, alike = street.light(even(8))
    street.learn_shade(light, alike)
    assert {k: v for k, v in enumerate(street.shades) if v} == {32: 1600}


# -- what it learns


@pytest.mark.slow
def test_the_first_thirty_images_count_alike_and_of_later_ones_every_fourth_an_eighth():
    street, nothing, level = (
        Background.from_first_image(even(100)),
        np.zeros((40, 40), np.uint8),
        0.0,
    )
    for observed in range(1, 49):
        value = (observed * 37) % 100 + 50
        street.learn(even(value), nothing)
        if observed <= 30:
            level += (value - level) / observed
        elif observed % 4 == 0:
            level += 0.12 * (value - level)
        assert street.images == observed
        assert street.mean == pytest.approx(np.full((40, 40, 3), level), abs=1e-3)
        assert np.abs(street.shown - level).max() <= 0.51  # rounded


def test_hardly_anything_is_learned_at_the_foreground_and_two_pixels_around():
    street, changed = Background.from_first_image(even(100)), np.zeros((40, 40), np.uint8)
    changed[10:18, 12:17] = 255
    street.learn(even(200), changed)
    expected = np.full((40, 40), 200.0)
    expected[8:20, 10:19] = 100.0 + 100.0 * 0.00002
    assert street.mean == pytest.approx(np.repeat(expected[:, :, None], 3, 2), abs=2e-5)
    assert street.shown[8, 10].tolist() == [100] * 3
    assert street.shown[7, 10].tolist() == street.shown[8, 9].tolist() == [200] * 3


@pytest.mark.parametrize(
    ("observed", "learns"),
    [
        (0, True),
        (29, True),
        (30, False),
        (31, False),
        (35, False),
        (39, True),
        (79, True),
        (83, False),
    ],
)
def test_the_noise_is_the_median_of_what_differs_on_every_seventh_pixel(observed, learns):
    """A tenth of 1.48 times the median (for a normal distribution its standard deviation),
    nine tenths of what it was.
    """
    image = even(100)
    image[::7, ::7] = 110  # nothing else differs
    street = Background(even(100).astype(np.float32), even(100), images=observed)
    street.learn(image, np.zeros((40, 40), np.uint8))
    assert street.noise == pytest.approx(0.9 * 6.0 + 0.1 * 10.0 * 1.48 if learns else 6.0)


def test_the_noise_is_that_of_free_places_alone():
    image, changed = even(100), np.zeros((40, 40), np.uint8)
    image[:20], image[20:] = 130, 104
    changed[:20] = 255
    street = Background.from_first_image(even(100))
    street.learn(image, changed)
    assert street.noise == pytest.approx(0.9 * 6.0 + 0.1 * 4.0 * 1.48)
    street.learn(image, np.full((40, 40), 255, np.uint8))  # nothing is free
    assert street.noise == pytest.approx(0.9 * 6.0 + 0.1 * 4.0 * 1.48)


# -- from images all over a clip


def test_at_each_place_it_is_what_most_images_show_alike():
    """Left 100, 104 and 108 are alike (at most 14 apart), their mean is 104;
    right 200 and 214 are, and 215 is not like 200.
    """
    images = [even(0, 6, 8) for _ in range(5)]
    for image, left, right in zip(
        images, (100, 30, 104, 250, 108), (200, 10, 50, 214, 120), strict=True
    ):
        image[:, :4], image[:, 4:] = left, right
    street = Background.from_images(images)
    assert street.mean[:, :4] == pytest.approx(104.0)
    assert street.mean[:, 4:] == pytest.approx(207.0)
    assert ((street.shown[:, :4] == 104) & (street.shown[:, 4:] == 207)).all()
    assert (street.images, street.learned, street.noise, street.upset) == (30, True, 6.0, 0)
    images[2][:, :4] = 105
    assert Background.from_images(images).mean[:, :4] == pytest.approx(313 / 3)
    images[3][:, 4:] = 215
    assert Background.from_images(images).mean[:, 4:] == pytest.approx(
        200.0
    )  # all alone: the first


@pytest.mark.parametrize("colour", [0, 1, 2])
def test_two_images_are_alike_where_all_their_colours_are(colour):
    for by, expected in ((14, 121.0), (15, 200.0)):
        images = [even(100, 4, 4), even(100, 4, 4), even(100, 4, 4)]
        images[0][..., colour] = 200
        images[1][..., colour] = 100 + by
        images[2][..., colour] = 100 + 2 * by
        street = Background.from_images(
            images
        )  # the second is like the third, or nobody like anybody and the first is taken
        assert street.mean[0, 0, colour] == expected


def test_support_is_of_each_image_by_all_the_others():
    """Of 100, 114, 128 and 142 the two in the middle are like two others, the outer ones like one:
    114 is chosen, and 100, 114, 128 have a mean of 114.
    """
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2), (2, 3, 0, 1)):
        images = [even(100 + 14 * k, 4, 4) for k in order]
        assert (
            Background.from_images(images).mean
            == (114.0 if order.index(1) < order.index(2) else 128.0)
        ).all()


@pytest.mark.parametrize("turned", [False, True])
def test_similarity_is_determined_at_half_the_size(turned):
    """Stripes of one pixel, 80 and 120, are 100 there."""
    stripes = even(80, 6, 6)
    stripes[:, 1::2] = 120
    mean = Background.from_images(
        [even(100, 6, 6), stripes.transpose(1, 0, 2).copy() if turned else stripes]
    ).mean
    assert (mean.transpose(1, 0, 2) if turned else mean)[0, :, 0].tolist() == [90.0, 110.0] * 3


def test_images_of_odd_sizes_and_one_image_alone():
    street = Background.from_images([even(70, 7, 5)])
    assert (street.mean.shape, street.shown.tolist()) == ((7, 5, 3), even(70, 7, 5).tolist())


# -- holes, and what becomes the street


def test_the_slope_is_that_along_the_outline():
    """A step of 50 levels across it: Sobel's sum gives 4 * 50 on the two columns beside the step,
    0 elsewhere.
    """
    image = even(100, 40, 40)
    image[:, 20:] = 150
    line = np.array([[[8, 20]], [[32, 20]]], np.int32)
    rim = 25 + 27 + 29 + 27 + 25  # an outline of no height, and two pixels around it
    assert edge_slope(image, line) == pytest.approx(4 * 50 * (2 * 5) / rim)
    assert edge_slope(image.transpose(1, 0, 2).copy(), line[..., ::-1].copy()) == pytest.approx(
        edge_slope(image, line)
    )
    ramp = np.arange(40)[:, None] * 2 + np.arange(40)[None] * 3
    assert edge_slope(np.repeat(ramp.astype(np.uint8)[:, :, None], 3, 2), line) == pytest.approx(
        8 * np.hypot(2, 3)
    )  # both directions
    assert edge_slope(even(100), line) == 0.0


def test_a_hole_is_where_the_background_has_an_edge_that_the_image_has_not():
    box = outline(10, 10, 12, 8)
    for contrast, hole in ((64, False), (66, True)):  # 1.3 times 50 are 65
        street = Background.from_first_image(with_block(even(100), 10, 10, 12, 8, 100 + contrast))
        assert street.is_hole(with_block(even(100), 10, 10, 12, 8, 150), box) is hole
    assert Background.from_first_image(even(100)).is_hole(even(90), box)  # no edge at all


def test_absorbing_an_outline_includes_three_pixels_around_it():
    street, image = Background.from_first_image(even(100)), even(180)
    image[:20, :, 0] = 170  # not even: each pixel comes to its own place
    street.absorb(image, outline(10, 12, 16, 13))
    for known in (street.mean, street.shown):
        assert region(np.uint8(255) * (known[..., 1] == 180)) == (7, 9, 22, 19)
        assert known[9:28, 7:29].tolist() == image[9:28, 7:29].tolist()
        assert np.count_nonzero(known == 100) == 3 * (1600 - 22 * 19)
    image[:] = 7
    assert street.shown.max() == 180
    slanting = Background.from_first_image(even(100))
    slanting.absorb(even(180), np.array([[[8, 8]], [[8, 28]], [[28, 28]]], np.int32))
    assert [int(slanting.shown[8, x, 0]) for x in (4, 5, 14, 15)] == [100, 180, 180, 100]
    assert [int(slanting.shown[20, x, 0]) for x in (4, 5, 26, 27)] == [100, 180, 180, 100]
    inside = cv2.fillPoly(
        np.zeros((40, 40), np.uint8), [np.array([[8, 8], [8, 28], [28, 28]], np.int32)], 1
    )
    near = np.array(
        [
            [inside[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4].any() for x in range(40)]
            for y in range(40)
        ]
    )
    assert (
        slanting.shown[..., 0] == np.where(near, 180, 100)
    ).all()  # three pixels more to each side
    edge = Background.from_first_image(even(100))
    edge.absorb(even(180), outline(0, 0, 40, 4))
    assert region(np.uint8(255) * (edge.shown[..., 1] == 180)) == (0, 0, 40, 7)


@pytest.mark.parametrize(
    ("box", "around"),
    [
        ((10, 12, 6, 9), (7, 9, 19, 24)),
        ((3, 3, 30, 24), (0, 0, 36, 30)),
        ((2, 1, 36, 29), (0, 0, 40, 30)),
        ((4, 5, 32, 21), (1, 2, 39, 29)),
    ],
)
def test_the_window_around_an_outline_ends_at_the_image(box, around):
    assert surroundings(outline(*box), even(0, 30, 40)) == around
