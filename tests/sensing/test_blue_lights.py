"""Blue lights, frame by frame, on images made by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from headway.sensing.traffic.blue_lights import BlueLights, shows_blue

LIGHT, PAINT, ROAD = (255, 40, 0), (150, 70, 35), (92, 94, 96)
BOX = np.array([10.0, 10.0, 30.0, 20.0])


def picture(colour=ROAD, pixels=12):
    image = np.full((60, 80, 3), ROAD, np.uint8)
    image[12, 12 : 12 + pixels] = colour
    return image


def track(number=1, box=BOX, coasting=False):
    return SimpleNamespace(id=number, box=box, coasting=coasting)


@pytest.mark.parametrize(
    ("colour", "pixels", "blue"),
    [
        (LIGHT, 3, True),
        (LIGHT, 2, False),
        (PAINT, 12, False),
        (tuple(v // 2 for v in LIGHT), 12, True),  # at night
        ((60, 0, 0), 12, True),
        ((59, 0, 0), 12, False),
        ((200, 70, 20), 12, True),
        ((200, 71, 20), 12, False),
        ((255, 255, 255), 12, False),
        ((0, 0, 255), 12, False),
    ],
)
def test_a_light_is_a_few_pixels_of_saturated_blue(colour, pixels, blue):
    assert shows_blue(picture(colour, pixels), BOX) is blue


def test_only_what_is_in_the_box_and_in_the_image_counts():
    image = picture(LIGHT)
    assert not shows_blue(image, BOX + 12.0)
    assert shows_blue(image, np.array([-50.0, -50.0, 500.0, 500.0]))
    for outside in ([-20.0, 5.0, -1.0, 9.0], [90.0, 5.0, 99.0, 9.0], [20.0, 20.0, 20.0, 20.0]):
        assert not shows_blue(image, np.array(outside))


def flash(pattern, step_s=0.2, tracks=None):
    """What is recognised at each frame of a pattern of lit (1) and dark (0)."""
    lights = BlueLights()
    tracks = tracks or [track()]
    return [
        lights.update(k * step_s, picture(LIGHT if lit == "1" else ROAD), tracks)
        for k, lit in enumerate(pattern)
    ]


def test_it_must_go_on_and_off_and_on():
    assert flash("0101") == [set(), set(), set(), {1}]
    assert flash("1111111111")[-1] == set(), "blue without a break is no light"
    assert flash("0000011111")[-1] == set()
    assert flash("0111110")[-1] == set(), "two changes: something blue came by"


def test_changes_count_within_two_seconds():
    assert flash("0101", step_s=0.6)[-1] == {1}
    assert flash("0101", step_s=0.7)[-1] == set()


def test_it_stays_recognised_for_five_seconds_after_the_light_was_seen_last():
    seen = flash("0101" + "0" * 40)
    last = max(k for k, found in enumerate(seen) if found)
    # three changes are within two seconds until frame 11
    assert last == 11 + 25


def test_each_vehicle_has_lights_of_its_own_and_a_predicted_one_is_not_looked_at():
    other = track(2, BOX + np.array([0.0, 20.0, 0.0, 20.0]))
    assert flash("0101", tracks=[track(), other])[-1] == {1}
    assert flash("0101", tracks=[track(coasting=True)])[-1] == set()


def test_a_track_that_has_ended_is_forgotten():
    lights = BlueLights()
    for k, lit in enumerate("0101"):
        lights.update(0.2 * k, picture(LIGHT if lit == "1" else ROAD), [track()])
    assert lights.update(0.8, picture(), []) == set()
    assert lights.update(1.0, picture(), [track()]) == set()
