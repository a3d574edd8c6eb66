"""Motion detection: blobs and objects made by hand, so that each position,
size and count can be worked out.
"""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from headway.vision.boxes import Box
from headway.vision.detection import blobs as blob_module
from headway.vision.detection import motion, templates
from headway.vision.detection.background import Background
from headway.vision.detection.blobs import blob_within
from headway.vision.detection.detectors import VEHICLE
from headway.vision.detection.motion import FoundObject, MotionDetector, MovingObject, StreamState
from headway.vision.detection.templates import Match

GREY = np.full((60, 90, 3), 100, np.uint8)


def noise(seed=0, high=60, wide=90):
    return np.random.default_rng(seed).integers(0, 256, (high, wide, 3)).astype(np.uint8)


def outlined(*corners):
    return blob_within(np.array(corners, np.int32)[:, None])


def blob(x, y, w, h):
    """A rectangle of w by h pixels; its outline goes through the middles
    of the pixels at its rim.
    """
    return outlined((x, y), (x, y + h - 1), (x + w - 1, y + h - 1), (x + w - 1, y))


def one(*box, first_xy=(-100.0, -100.0), frames_alone=9, **more):
    return MovingObject(
        Box(*(float(v) for v in box)),
        np.zeros((1, 1, 3), np.uint8),
        first_xy,
        frames_alone=frames_alone,
        **more,
    )


def with_block(image, x, y, w, h, level=200):
    out = image.copy()
    out[y : y + h, x : x + w] = level
    return out


# -- a road user


def test_a_new_object_has_no_movement():
    new = MovingObject(Box(1.0, 2.0, 3.0, 4.0), GREY, (1.0, 2.0))
    assert (
        new.movement,
        new.heading,
        new.heading_from,
        new.frames_alone,
        new.frames_lost,
        new.frames_still,
    ) == (
        (0.0, 0.0),
        None,
        None,
        0,
        0,
        0,
    )
    assert new != MovingObject(Box(1.0, 2.0, 3.0, 4.0), GREY, (1.0, 2.0))


@pytest.mark.parametrize(
    ("box", "born", "alone", "known"),
    [
        # 5 pixels; half of the shorter side
        ((14, 13, 20, 9.9), (10.0, 10.0), 5, True), ((14, 13, 20, 10), (10.0, 10.0), 5, False),
        ((14, 13, 9.9, 20), (10.0, 10.0), 5, True), ((14, 13, 20, 9.9), (10.0, 10.0), 4, False),
        ((14, 7, 20, 9.9), (10.0, 10.0), 6, True), ((14, 13, 20, 9.9), None, 5, True),
        ((4, 3, 20, 20), (0.0, 0.0), 5, False),  # where it is says nothing
    ],
)  # fmt: skip
def test_an_object_alone_for_five_frames_that_moved_by_half_its_size_is_known(
    box, born, alone, known
):
    assert one(*box, first_xy=born, frames_alone=alone).known is known


def test_the_predicted_box_is_moved_by_the_mean_movement():
    assert one(10, 20, 30, 40, movement=(3.0, -4.0)).predicted == (13.0, 16.0, 30.0, 40.0)


def test_the_newest_movement_has_a_weight_of_two_fifths():
    car = one(10, 20, 30, 20, movement=(1.0, 2.0))
    car.move_to(Box(14.0, 17.0, 34.0, 24.0))  # from (25, 30) to (31, 29)
    assert car.movement == pytest.approx((0.6 * 1 + 0.4 * 6, 0.6 * 2 - 0.4 * 1))
    assert car.box == (14.0, 17.0, 34.0, 24.0)
    assert (car.heading_from, car.heading) == ((31.0, 29.0), None)
    car.move_to(Box(14.0, 17.0, 34.0, 24.0), 1.0)
    assert car.movement == (0.0, 0.0)


@pytest.mark.parametrize(
    ("dx", "dy", "still"),
    [(0.79, 0.0, 4), (0.8, 0.0, 0), (0.0, 0.8, 0), (0.6, 0.6, 0), (0.5, 0.6, 4), (-0.5, -0.6, 4)],
)
def test_an_object_is_still_below_four_fifths_of_a_pixel_a_frame(dx, dy, still):
    car = one(0, 0, 1, 1, frames_still=3)
    car.move_to(Box(dx, dy, 1.0, 1.0))
    assert car.frames_still == still


@pytest.mark.parametrize(
    ("to", "heading", "was"),
    [
        ((43, 38, 5, 6), (0.6, 0.8), (45.5, 41.0)),  # 25.5 and 34 pixels from (20, 7)
        ((17.5, 8, 8, 6), None, (20.0, 7.0)),  # by 1.5 and 4 pixels
        ((20.5, 10, 5, 6), (0.5, 1.0), (23.0, 13.0)),  # 3 and 6
        ((17.5, 9, 5, 6), None, (20.0, 7.0)),  # 5 pixels are its shorter side
        ((17.5, 9.1, 5, 6), (0.0, 1.0), (20.0, 12.1)),
    ],
)  # fmt: skip
def test_the_heading_is_updated_after_a_movement_farther_than_the_shorter_side(to, heading, was):
    car = one(17.5, 4, 5, 6, heading_from=(20.0, 7.0))
    car.move_to(Box(*(float(v) for v in to)))
    if heading is None:
        assert car.heading is None
    else:
        assert car.heading == pytest.approx(np.array(heading) / np.hypot(*heading))
    assert car.heading_from == pytest.approx(was)


@pytest.mark.parametrize(
    ("width", "same"), [(17, False), (16.9, True), (5.88, False), (5.89, True), (10, True)]
)
def test_a_changed_outline_gives_no_heading(width, same):
    """Between 1 / 1.7 and 1.7 times its area it is the same."""
    car = one(0, 0, 10, 10, heading_from=(5.0, 5.0), heading=(1.0, 0.0))
    car.move_to(Box(0.0, 40.0, float(width), 10.0))
    assert car.heading_from == (width / 2, 45.0)
    assert (car.heading == (1.0, 0.0)) is not same


# -- which blob it is in


@pytest.mark.parametrize(
    ("blobs", "k"),
    [
        ([], None),
        ([(20, 20, 20, 10)], 0), ([(0, 0, 5, 5), (20, 20, 20, 10)], 1),
        ([(20, 20, 20, 10), (21, 20, 20, 10)], 0), ([(21, 20, 20, 10), (20, 20, 20, 10)], 1),
        ([(20, 20, 20, 10), (20, 20, 20, 10)], 0),
        # 2.5 pixels of its middle at (30, 25)
        ([(20, 20, 5, 10)], None), ([(10, 20, 17, 10)], None), ([(10, 20, 18, 10)], None),
        ([(10, 20, 19, 10)], 0),
        ([(33, 20, 20, 10)], None), ([(32, 20, 20, 10)], 0), ([(20, 28, 20, 10)], None),
        ([(20, 27, 20, 10)], 0), ([(20, 12, 20, 11)], None), ([(20, 12, 20, 12)], 0),
        ([(27, 15, 5, 10)], None), ([(27, 15, 6, 14)], 0),  # a quarter of its 200 pixels: 25 and 54
        # 50 are not more than a quarter; 60
        ([(28, 20, 5, 10)], None), ([(28, 18, 6, 20)], 0), ([(10, 22, 50, 2)], None),
        ([(10, 24, 50, 3)], 0),
    ],
)  # fmt: skip
def test_an_object_belongs_to_the_blob_that_covers_most_of_it(blobs, k):
    assert (
        motion.blob_index(one(17, 24, 20, 10, movement=(3.0, -4.0)), [blob(*b) for b in blobs]) == k
    )


@pytest.mark.parametrize(
    ("box", "edge"),
    [
        ((2, 2, 85, 55), False), ((1, 2, 85, 55), True), ((2, 1, 85, 55), True),
        ((2, 2, 87, 55), True), ((2, 2, 86, 55), False), ((2, 2, 85, 57), True),
        ((2, 2, 85, 56), False), ((0, 30, 4, 4), True), ((70, 30, 4, 4), False),
    ],
)  # fmt: skip
def test_a_blob_within_a_pixel_of_the_rim_touches_the_edge(box, edge):
    assert blob_module.touches_edge(blob(*box), GREY) is edge


# -- parts of one vehicle

ALL_CHANGED = np.full((200, 200), 255, np.uint8)
# 19 by 15 pixels from middle to middle, and 7 by 15; 6 pixels lie between
A = (60, 60, 20, 16)
SHORT = (85, 60, 8, 16)


def of_one(a, b, heading=(1.0, 0.0), changed=ALL_CHANGED):
    """The same, however it is turned."""
    answers = set()
    for first, second in ((a, b), (b, a)):
        for sign in (1, -1):
            answers.add(
                blob_module.are_parts_of_one(
                    blob(*first), blob(*second), (sign * heading[0], sign * heading[1]), changed
                )
            )
            turned = [(y, x, h, w) for x, y, w, h in (first, second)]
            answers.add(
                blob_module.are_parts_of_one(
                    *(blob(*b) for b in turned), (sign * heading[1], sign * heading[0]), changed.T
                )
            )
    (answer,) = answers
    return answer


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (A, SHORT, True),
        (A, (86, 60, 8, 16), False),  # 7 pixels between: more than 0.45 * 15
        # 9 pixels are 0.45 * 20
        ((60, 60, 20, 21), (88, 60, 8, 21), True), ((60, 60, 20, 21), (89, 60, 8, 21), False),
        # 3 and 4 pixels one over the other; a half of 7 is 3.5
        (A, (76, 60, 8, 16), True), (A, (75, 60, 8, 16), False), (A, (75, 60, 9, 16), True),
        # 9 of 15 face one another
        (A, (85, 66, 8, 16), True), (A, (85, 67, 8, 16), False), (A, (85, 54, 8, 16), True),
        (A, (85, 53, 8, 16), False),
        (A, (82, 60, 8, 10), True), (A, (82, 60, 8, 9), False),  # 9 and 8 of the larger one's 15
        # the narrower one's width says how wide a window is: 4.05
        ((60, 60, 20, 10), (85, 60, 8, 16), False), ((60, 60, 20, 10), (83, 60, 8, 16), True),
        # 19 and 18 long, 15 wide: both, or one of them, may be whole
        (A, (85, 60, 20, 16), False), (A, (85, 60, 19, 16), True),
        ((61, 60, 19, 16), (85, 60, 19, 16), True),
        # two narrow ones: 2 and 3 pixels; 0.45 * 5 = 2.25
        ((75, 60, 5, 16), (82, 60, 5, 16), True), ((75, 60, 5, 16), (83, 60, 5, 16), False),
        # 4.05 of the wider one
        ((75, 3, 5, 16), (84, 3, 9, 16), True), ((75, 60, 5, 16), (85, 60, 9, 16), False),
        ((75, 60, 5, 16), (84, 60, 9, 16), True),
        (A, (60, 85, 16, 8), False), (A, (60, 150, 8, 16), False), (A, (150, 60, 8, 16), False),
    ],
)  # fmt: skip
def test_two_blobs_are_parts_of_one_vehicle_when_they_face_one_another_along_its_heading(
    a, b, expected
):
    assert of_one(a, b) is expected


def test_the_gap_between_blobs_is_measured_along_the_heading():
    """4.2 and 9.9 pixels between their corners; they are 21.2 wide, and 0.45 of that is 9.5."""
    heading = (np.sqrt(0.5), np.sqrt(0.5))
    assert blob_module.are_parts_of_one(
        blob(60, 60, 16, 16), blob(78, 78, 16, 16), heading, ALL_CHANGED
    )
    assert not blob_module.are_parts_of_one(
        blob(60, 60, 16, 16), blob(82, 82, 16, 16), heading, ALL_CHANGED
    )


def test_a_short_blob_at_the_edge_may_be_a_whole_vehicle():
    """The image ends one pixel after it."""
    assert not blob_module.are_parts_of_one(blob(*A), blob(*SHORT), (1.0, 0.0), ALL_CHANGED[:, :94])
    assert blob_module.are_parts_of_one(blob(*A), blob(*SHORT), (1.0, 0.0), ALL_CHANGED[:, :95])
    assert blob_module.are_parts_of_one(
        blob(60, 60, 8, 16), blob(70, 60, 8, 16), (1.0, 0.0), ALL_CHANGED[:, :79]
    )  # one of two


@pytest.mark.parametrize(
    ("columns", "row", "expected"),
    [
        ((79, 80, 81), 68, True),
        ((79, 80), 68, False),
        ((83, 84, 85), 68, True),
        ((79, 81, 85), 68, True),
        ((79, 80, 81), 67, False),
        ((82, 86, 78, 80), 68, False),
    ],
)
def test_half_of_the_gap_between_parts_must_differ_from_the_background(columns, row, expected):
    """Six places from 79 to 85: 79, 80.2, 81.4, 82.6, 83.8, 85;
    in the middle of rows 60 to 75, which is 67.5 and becomes 68.
    """
    changed = np.zeros((200, 200), np.uint8)
    changed[row, list(columns)] = 255
    assert blob_module.are_parts_of_one(blob(*A), blob(*SHORT), (1.0, 0.0), changed) is expected
    assert blob_module.are_parts_of_one(blob(*SHORT), blob(*A), (1.0, 0.0), changed) is expected


def test_touching_blobs_are_sampled_at_two_places():
    changed = np.zeros((200, 200), np.uint8)
    changed[68, 79] = 255
    assert blob_module.are_parts_of_one(blob(*A), blob(80, 60, 8, 16), (1.0, 0.0), changed)
    changed[68, 79], changed[68, [77, 78]] = 0, 1
    assert blob_module.are_parts_of_one(
        blob(*A), blob(77, 60, 8, 16), (1.0, 0.0), changed
    )  # 77 and 79, two pixels one over the other
    changed[:] = 0
    assert not blob_module.are_parts_of_one(blob(*A), blob(77, 60, 8, 16), (1.0, 0.0), changed)


def test_the_gap_is_sampled_along_a_slanting_heading():
    """Along (0.6, 0.8) from 20 to 25, across in the middle of 0 and 15: five places."""

    def turned(low, high):
        u, v = np.array([3, 4]), np.array([-4, 3])
        return outlined(
            *(
                (40, 10) + along // 5 * u + across // 5 * v
                for along, across in ((low, 0), (low, 15), (high, 15), (high, 0))
            )
        )

    a, b = turned(0, 20), turned(25, 30)
    changed = np.zeros((90, 90), np.uint8)
    places = [(46, 30), (46, 31), (47, 31), (47, 32), (48, 32), (47, 33), (48, 33)]
    for x, y in places:
        changed[y, x] = 255
    assert blob_module.are_parts_of_one(a, b, (0.6, 0.8), changed)
    assert not blob_module.are_parts_of_one(a, b, (0.6, 0.8), 255 - changed)
    for x, y in places[2:]:
        changed[y, x] = 0
    assert not blob_module.are_parts_of_one(a, b, (0.6, 0.8), changed)
    assert not blob_module.are_parts_of_one(a, b, (-0.8, 0.6), ALL_CHANGED)  # one beside the other


@pytest.mark.parametrize(
    ("a", "b", "column"),
    [
        ((72, 60, 8, 16), (83, 60, 8, 16), 81),
        ((-9, 60, 8, 16), (2, 60, 8, 16), 0),
    ],  # places 79, 80, 82, 83 and -2, -1, 1, 2
)
def test_places_beyond_the_image_count_as_its_nearest_pixel(a, b, column):
    changed = np.zeros((90, 82), np.uint8)
    changed[68, column] = 255
    assert of_one(a, b, changed=changed) is True
    assert of_one(a, b, changed=np.roll(changed, 1, 1)) is False


# -- put together


def put(blobs, owners, changed=ALL_CHANGED):
    blobs = [blob(*b) for b in blobs]
    owners = [list(o) for o in owners]
    motion.merge_parts(blobs, owners, changed)
    return [b[1] for b in blobs], owners, blobs


def test_parts_become_one_blob_with_the_owner_that_was_alone_for_longest():
    car = one(58, 60, 20, 16, heading=(1.0, 0.0), frames_alone=9, movement=(2.0, -1.0))
    new, other = one(85, 60, 8, 16, frames_alone=3), one(5, 5, 10, 10, frames_alone=50)
    boxes, owners, blobs = put([(5, 5, 10, 10), A, SHORT], [[other], [car], [new]])
    assert boxes == [(5, 5, 10, 10), (60, 60, 33, 16)]
    assert owners == [[other], [car]]
    assert blobs[1][2] == 32 * 15
    assert sorted(blobs[1][0][:, 0].tolist()) == [[60, 60], [60, 75], [92, 60], [92, 75]]
    assert car.box == (58.0, 60.0, 20.0, 16.0)  # 33 * 16 is less than 1.7 times that
    boxes, owners, _ = put([SHORT, A, (5, 5, 10, 10)], [[new], [car], [other]])
    assert (boxes, owners) == ([(60, 60, 33, 16), (5, 5, 10, 10)], [[car], [other]])
    long = one(85, 60, 8, 16, frames_alone=12)
    assert put([A, SHORT], [[car], [long]])[1] == [[long]]
    assert long.box == (60.0, 60.0, 33.0, 16.0)  # more than 1.7 times 8 * 16: it did not leap there


@pytest.mark.parametrize(
    ("width", "box"),
    [
        (19.42, (58.0, 61.0, 33.0, 16.0)),
        (19.41, (58.0, 61.0, 33.0, 16.0)),
        (19.5, (1.0, 2.0, 19.5, 16.0)),
    ],
)
def test_an_object_that_grows_by_merging_counts_as_having_been_as_large(width, box):
    """33 * 16 = 528 pixels; 1.7 times 19.41 * 16 is 527.95, 1.7 times 19.42 * 16 is 528.2."""
    car = one(1, 2, width, 16, heading=(1.0, 0.0), movement=(2.0, -1.0))
    put([A, SHORT], [[car], []])
    assert car.box == (box if width != 19.42 else (1.0, 2.0, 19.42, 16.0))


def test_only_known_objects_with_a_heading_are_merged():
    for owner in (
        one(60, 60, 20, 16),
        one(60, 60, 20, 16, heading=(1.0, 0.0), frames_alone=4),
        one(60, 60, 20, 16, heading=(0.0, 1.0)),
    ):
        assert put([A, SHORT], [[owner], []])[0] == [A, SHORT]
    assert put([A, SHORT], [[], []])[0] == [A, SHORT]
    assert put([A, SHORT], [[one(0, 0, 9, 9), one(0, 0, 9, 9, heading=(1.0, 0.0))], []])[0] == [
        (60, 60, 33, 16)
    ]
    assert put(
        [A, SHORT], [[one(60, 60, 20, 16, heading=(1.0, 0.0))], []], np.zeros((200, 200), np.uint8)
    )[0] == [A, SHORT]
    assert put([], [])[0] == []


def test_after_a_merge_all_blobs_are_tested_again():
    """The first two do not face one another widely enough until
    the second is one with the third.
    """
    front, middle, back = (60, 60, 8, 14), (70, 64, 4, 6), (75, 62, 6, 9)
    first = one(*front, heading=(1.0, 0.0), frames_alone=7)
    second = one(*middle, heading=(1.0, 0.0), frames_alone=8)
    third = one(*back, frames_alone=40)
    assert put([front, middle], [[first], [second]])[0] == [front, middle]
    boxes, owners, _ = put([front, middle, back], [[first], [second], [third]])
    assert boxes == [(60, 60, 21, 14)]
    assert owners == [[third]]


# -- a blob that is one road user


def stream(street=GREY, **known):
    return StreamState(Background(street.astype(np.float32), street.copy(), **known))


def test_the_box_is_centred_on_the_centroid_of_the_outline():
    """A triangle from (30, 20) by 12 to each side: its middle is a third in, at (34, 24);
    its pixels reach from 30 to 42.
    """
    of, small = stream(), noise()
    reported = motion.single_object(of, small, outlined((30, 20), (30, 32), (42, 20)), None)
    assert (*reported.box, reported.fill) == pytest.approx((34 - 6.5, 24 - 6.5, 13, 13, 72 / 169))
    (new,) = of.objects
    assert (new.box, new.first_xy) == (
        pytest.approx((27.5, 17.5, 13, 13)),
        pytest.approx((27.5, 17.5)),
    )
    assert (new.frames_alone, new.frames_lost, new.frames_still, new.movement) == (
        1,
        0,
        0,
        (0.0, 0.0),
    )
    assert new.patch.tolist() == small[18:31, 28:41].tolist()  # 27.5 and 17.5 become 28 and 18
    reported = motion.single_object(of, small, outlined((30, 1), (30, 13), (42, 1)), None)
    assert reported == FoundObject(
        Box(30.0, 1.0, 13.0, 13.0), 72 / 169
    )  # cut by the edge: nobody knows its middle
    assert [o.box[1] for o in of.objects] == [17.5, 1.0]


@pytest.mark.parametrize(
    ("learned", "observed", "drove"),
    [(True, 35, True), (True, 36, False), (False, 3, False), (True, 30, True)],
)
def test_an_object_before_a_learned_background_counts_as_having_come_driving(
    learned, observed, drove
):
    of = stream(learned=learned, images=observed)
    motion.single_object(of, GREY, blob(30, 20, 11, 11), None)
    assert of.objects[0].first_xy == (None if drove else (29.5, 19.5))


def test_a_tracked_object_continues():
    of, small = stream(), noise()
    car = one(26.5, 19.5, 11, 11, frames_alone=6, frames_lost=3, frames_still=2)
    reported = motion.single_object(of, small, blob(30, 20, 11, 11), car)
    assert reported == FoundObject(Box(29.5, 19.5, 11.0, 11.0), 100 / 121)
    assert of.objects == [car]
    assert (car.box, car.movement, car.frames_alone, car.frames_lost, car.frames_still) == (
        (29.5, 19.5, 11.0, 11.0),
        (pytest.approx(1.2), 0.0),
        7,
        0,
        0,
    )
    assert car.patch.tolist() == small[20:31, 30:41].tolist()  # 29.5 and 19.5 become 30 and 20


@pytest.mark.parametrize(("side", "alone"), [(8.43, 1), (8.44, 7)])
def test_an_object_that_grew_much_has_merged_and_is_not_alone_any_more(side, alone):
    """121 pixels; 1.7 times 8.43 squared is 120.8, of 8.44 squared 121.1."""
    of, car = stream(), one(30, 20, 2 * side, side / 2, frames_alone=6)
    motion.single_object(of, GREY, blob(30, 20, 11, 11), car)
    assert (car.frames_alone, car.box[2], of.objects) == (alone, 11.0, [car])
    new = one(30, 20, side, side, first_xy=(30.0, 20.0), frames_alone=6)  # not known
    motion.single_object(of, GREY, blob(30, 20, 11, 11), new)
    assert new.frames_alone == 7


@pytest.mark.parametrize(
    ("still", "known", "heading", "absorbed"),
    [
        (10, False, None, True), (5, False, None, False), (11, False, None, False),
        (15, False, None, True), (14, False, None, False),
        (10, True, None, True), (10, False, (1.0, 0.0), True), (10, True, (1.0, 0.0), False),
        (25, True, (1.0, 0.0), False), (30, True, (1.0, 0.0), True),
        (31, True, (1.0, 0.0), False),
    ],
)  # fmt: skip
def test_the_hole_that_a_vehicle_left_becomes_background(still, known, heading, absorbed):
    """The street shows a block, the image none. Asked for at every fifth image, from 8 on;
    from 30 on of who is known to have come driving.
    """
    of = stream(with_block(GREY, 30, 20, 11, 11))
    ghost = one(
        29.5,
        19.5,
        11,
        11,
        first_xy=(-100.0, 0.0) if known else (29.5, 19.5),
        frames_still=still,
        heading=heading,
    )
    reported = motion.single_object(of, GREY, blob(30, 20, 11, 11), ghost)
    assert reported == (None if absorbed else FoundObject(Box(29.5, 19.5, 11.0, 11.0), 100 / 121))
    assert of.objects == ([] if absorbed else [ghost])
    assert (of.background.shown == 100).all() == absorbed
    if not absorbed:
        assert ghost.frames_still == still + 1


def test_a_stopped_vehicle_is_no_hole():
    of = stream()
    car = one(29.5, 19.5, 11, 11, frames_still=30)
    assert motion.single_object(of, with_block(GREY, 30, 20, 11, 11), blob(30, 20, 11, 11), car)
    assert of.objects == [car]


@pytest.mark.parametrize(
    ("still", "known", "absorbed"), [(600, False, False), (601, False, True), (601, True, False)]
)
def test_an_object_that_appeared_on_the_spot_is_background_after_600_frames(still, known, absorbed):
    of, small = stream(), with_block(GREY, 30, 20, 11, 11)
    lamp = one(
        29.5, 19.5, 11, 11, first_xy=(-100.0, 0.0) if known else (29.5, 19.5), frames_still=still
    )
    assert (motion.single_object(of, small, blob(30, 20, 11, 11), lamp) is None) is absorbed
    assert (of.background.shown.tolist() == small.tolist()) is absorbed


# -- who melt together


@pytest.mark.parametrize(
    ("move", "size", "reach"),
    [
        ((0.0, 0.0), (10, 10), 3), ((0.0, 0.0), (12, 20), 4), ((0.0, 0.0), (12, 37), 4),
        ((0.0, 0.0), (12, 38), 5), ((3.0, 4.0), (10, 10), 6),
        ((-3.0, 4.0), (24, 10), 6), ((-3.0, 4.0), (26, 10), 7), ((12.0, 16.0), (10, 10), 13),
        ((18.0, 0.0), (60, 30), 14),
    ],
)  # fmt: skip
def test_the_search_reach_grows_with_speed_and_size(monkeypatch, move, size, reach):
    """3 pixels, half of what it moves and 0.04 of its size, 14 at most."""
    asked = []
    monkeypatch.setattr(
        motion,
        "best_match",
        lambda where, patch, image, of, far: asked.append((where.width / size[0], far)),
    )
    car = one(20, 20, *size, movement=move)
    motion.follow_in_blob(car, GREY, blob(20, 20, 40, 20))
    assert asked == [
        (pytest.approx(s), reach)
        for s in ((1.0, 1 / 1.04, 1.04) if np.hypot(*move) > 0.5 else (1.0,))
    ]


@pytest.mark.parametrize(
    ("scores", "move", "chosen"),
    [
        ((0.5, 0.4, 0.4), (3.0, 4.0), 1.0), ((0.5, 0.509, 0.5), (3.0, 4.0), 1.0),
        ((0.5, 0.511, 0.5), (3.0, 4.0), 1 / 1.04), ((0.5, 0.5, 0.511), (3.0, 4.0), 1.04),
        ((0.5, 0.6, 0.59), (3.0, 4.0), 1 / 1.04), ((0.5, 0.59, 0.6), (3.0, 4.0), 1.04),
        ((0.1, 0.9, 0.9), (0.3, 0.4), None), ((0.3, 0.3, 0.3), (3.0, 4.0), None),
        ((0.301, 0.3, 0.3), (3.0, 4.0), 1.0), ((0.2, 0.309, 0.309), (3.0, 4.0), None),
        ((0.2, 0.311, 0.2), (3.0, 4.0), 1 / 1.04), ((0.4, 0.9, 0.9), (0.3, 0.41), 1 / 1.04),
    ],
)  # fmt: skip
def test_another_scale_is_taken_when_it_correlates_clearly_better(
    monkeypatch, scores, move, chosen
):
    sizes = (1.0, 1 / 1.04, 1.04)
    scale_of = dict(zip((25, 24, 26), sizes, strict=True))  # by the rows of the patch
    places = {s: Box(20.0 + k, 21.0, 50.0 * s, 25.0 * s) for k, s in enumerate(sizes, 1)}
    reported = dict(zip(sizes, scores, strict=True))
    given = {}
    monkeypatch.setattr(
        motion,
        "best_match",
        lambda where, patch, *_: (
            given.update({scale_of[len(patch)]: patch})
            or Match(reported[scale_of[len(patch)]], places[scale_of[len(patch)]])
        ),
    )
    car = one(20, 20, 50, 25, movement=move, frames_lost=2)
    car.patch = before = noise(1, 25, 50)
    motion.follow_in_blob(car, GREY, blob(20, 20, 60, 30))
    assert car.frames_lost == (3 if chosen is None else 0)
    assert car.box == (places[chosen] if chosen else (20 + move[0], 20 + move[1], 50.0, 25.0))
    assert car.patch.tolist() == (given[chosen] if chosen else before).tolist()
    assert given[1.0] is before
    if len(given) > 1:
        assert [given[s].shape for s in sizes] == [(25, 50, 3), (24, 48, 3), (26, 52, 3)]


def most_like(who, patch, scale, small, of, reach):
    """The same once more, place by place: how alike (by its definition),
    how much of it the blob covers, how far it is from where it must be.
    """
    x, y, w, h = *np.add(who.box[:2], who.movement).tolist(), *who.box[2:]
    middle = x + w / 2, y + h / 2
    w, h = w * scale, h * scale
    x, y = middle[0] - w / 2, middle[1] - h / 2
    high, wide = patch.shape[:2]
    covered = cv2.drawContours(np.zeros(small.shape[:2]), [of.outline], -1, 1.0, -1)
    step = 2 if high * wide >= 6000 else 1

    def halved(image):
        if step == 1:
            return image.astype(float)
        a = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2].astype(int)
        return ((a[::2, ::2] + a[1::2, ::2] + a[::2, 1::2] + a[1::2, 1::2] + 2) // 4).astype(float)

    known = halved(patch)
    known -= known.mean((0, 1))
    x0, y0 = max(round(x) - reach, 0), max(round(y) - reach, 0)
    x1 = min(round(x) + reach + wide, small.shape[1])
    y1 = min(round(y) + reach + high, small.shape[0])
    rows, columns = (
        ((s1 - s0) // step - side // step + 1) for s0, s1, side in ((y0, y1, high), (x0, x1, wide))
    )
    if x1 - x0 - wide < 2 or y1 - y0 - high < 2 or wide < 4 or high < 4:
        return None
    observed = halved(small[y0:y1, x0:x1])
    like = np.zeros((rows, columns))
    inside = np.zeros((rows, columns))
    good = np.zeros((rows, columns))
    for r in range(rows):
        for c in range(columns):
            part = observed[r : r + known.shape[0], c : c + known.shape[1]]
            part = part - part.mean((0, 1))
            like[r, c] = (part * known).sum() / np.sqrt((part**2).sum() * (known**2).sum())
            top, left = y0 + step * r, x0 + step * c
            inside[r, c] = covered[top : top + high, left : left + wide].mean()
            good[r, c] = like[r, c] + 0.7 * inside[r, c] - 0.1 * np.hypot(left - x, top - y) / reach
    r, c = np.unravel_index(good.argmax(), good.shape)
    if inside[r, c] < 0.4:
        return None

    def between(a, b, c):
        return 0.5 * (a - c) / (a - 2 * b + c)

    dx = between(*good[r, c - 1 : c + 2]) if 0 < c < columns - 1 else 0.0
    dy = between(*good[r - 1 : r + 2, c]) if 0 < r < rows - 1 else 0.0
    return like[r, c], (x0 + step * (c + dx), y0 + step * (r + dy), w, h)


CASES = {
    "small in noise": {"box": (30.3, 20.6, 9, 7), "patch": (7, 9), "of": (26, 15, 20, 20)},
    "moving": {
        "box": (30.3, 20.6, 9, 7),
        "patch": (7, 9),
        "of": (26, 15, 20, 20),
        "move": (4.2, -3.1),
        "reach": 6,
    },
    "at the left": {"box": (-2.2, 20.6, 9, 7), "patch": (7, 9), "of": (0, 15, 20, 20)},
    "at the right": {"box": (84.2, 20.6, 9, 7), "patch": (7, 9), "of": (70, 15, 20, 20)},
    "at the top": {"box": (30.2, -2.6, 9, 7), "patch": (7, 9), "of": (26, 0, 20, 20)},
    "at the bottom": {"box": (30.2, 55.3, 9, 7), "patch": (7, 9), "of": (26, 40, 20, 20)},
    "larger": {"box": (30.2, 20.3, 9, 7), "patch": (8, 10), "of": (26, 15, 30, 20), "scale": 1.2},
    "least": {"box": (30.2, 20.3, 4, 4), "patch": (4, 4), "of": (26, 15, 8, 9)},
    "too narrow": {"box": (30.2, 20.3, 3, 9), "patch": (9, 3), "of": (26, 15, 20, 20)},
    "too low": {"box": (30.2, 20.3, 9, 3), "patch": (3, 9), "of": (26, 15, 20, 20)},
    "out to the right": {
        "box": (85, 20.3, 9, 7),
        "patch": (7, 9),
        "of": (60, 15, 30, 20),
        "reach": 5,
    },
    "two pixels of room": {
        "box": (83, 20.3, 9, 7),
        "patch": (7, 9),
        "of": (60, 15, 30, 20),
        "reach": 4,
    },
    "one pixel of room": {
        "box": (84, 20.3, 9, 7),
        "patch": (7, 9),
        "of": (60, 15, 30, 20),
        "reach": 4,
    },
    "two pixels of room below": {
        "box": (30, 55, 9, 7),
        "patch": (7, 9),
        "of": (20, 40, 30, 20),
        "reach": 4,
    },
    "one pixel of room below": {
        "box": (30, 56, 9, 7),
        "patch": (7, 9),
        "of": (20, 40, 30, 20),
        "reach": 4,
    },
    "covered by a part": {
        "box": (30.2, 20.3, 10, 10),
        "patch": (10, 10),
        "of": (30, 20, 10, 5),
        "reach": 2,
    },
    "hardly covered": {
        "box": (30.2, 20.3, 10, 10),
        "patch": (10, 10),
        "of": (30, 20, 10, 4),
        "reach": 2,
    },
    "not covered": {
        "box": (30.2, 20.3, 10, 10),
        "patch": (10, 10),
        "of": (30, 20, 9, 3),
        "reach": 2,
    },
    "every pixel": {
        "box": (8.4, 7.2, 79, 75),
        "patch": (75, 79),
        "of": (5, 5, 90, 80),
        "size": (100, 120),
    },
    "every second pixel": {
        "box": (8.4, 7.2, 80, 75),
        "patch": (75, 80),
        "of": (5, 5, 90, 80),
        "size": (100, 120),
    },
    "every second pixel, moving": {
        "box": (11.4, 9.2, 101, 61),
        "patch": (61, 101),
        "of": (9, 5, 100, 70),
        "size": (91, 131),
        "move": (2.0, 1.0),
        "reach": 7,
    },
}


@pytest.mark.parametrize("name", CASES)
def test_a_match_weighs_correlation_coverage_and_distance_from_the_prediction(name):
    case = {"move": (0.0, 0.0), "reach": 5, "scale": 1.0, "size": (60, 90)} | CASES[name]
    for seed in range(3 if case["size"][0] > 60 else 12):
        small, who = noise(seed, *case["size"]), one(*case["box"], movement=case["move"])
        patch = noise(seed + 100, *case["patch"])
        if seed % 2:  # it is there, somewhere, under some noise
            y = round(case["box"][1] + case["move"][1]) + seed % 5 - 2
            x = round(case["box"][0] + case["move"][0]) + seed % 3 - 1
            part = small[max(y, 0) : y + patch.shape[0], max(x, 0) : x + patch.shape[1]]
            part[:] = (
                part // 3
                + patch[max(-y, 0) :, max(-x, 0) :][: part.shape[0], : part.shape[1]] // 3 * 2
            )
        where = who.predicted.scaled(case["scale"])
        match = templates.best_match(where, patch, small, blob(*case["of"]), case["reach"])
        expected = most_like(who, patch, case["scale"], small, blob(*case["of"]), case["reach"])
        assert (match is None) == (expected is None)
        if match is not None:
            assert match.score == pytest.approx(expected[0], abs=1e-4)
            assert match.box == pytest.approx(expected[1], abs=2e-3)


@pytest.mark.parametrize(
    ("scores", "k", "between"),
    [
        ([1, 3, 2], 1, 1 / 6), ([2, 3, 1], 1, -1 / 6), ([0, 1, 3, 2], 2, 1 / 6),
        ([1, 3, 2, 0], 1, 1 / 6), ([3, 1, 0], 0, 0.0), ([0, 1, 3], 2, 0.0),
        ([1, 1, 1], 1, 0.0), ([1.0, 1.2, 1.1], 1, 1 / 6), ([0, 1, 2], 1, 0.0), ([2, 1, 2], 1, 0.0),
        ([3], 0, 0.0),
    ],
)  # fmt: skip
def test_the_top_of_a_parabola_through_three_scores(scores, k, between):
    assert templates.subpixel_peak(np.array(scores, float), k) == pytest.approx(between)


def test_every_second_pixel_is_a_mean_of_four():
    image = np.zeros((5, 7, 3), np.uint8)
    image[0, 0], image[0, 1], image[1, 0], image[1, 1] = 10, 20, 30, 60
    image[4:], image[:, 6:] = 255, 255  # what is left over
    assert templates.subsampled(image, 1) is image
    half = templates.subsampled(image, 2)
    assert half[..., 0].tolist() == [[30, 0, 0], [0, 0, 0]]


# -- boxes and blobs


@pytest.mark.parametrize(
    ("box", "share"),
    [
        ((10, 12, 20, 10), 1.0), ((20, 12, 20, 10), 0.5), ((10, 17, 20, 10), 0.5),
        ((5, 12, 10, 10), 0.5), ((10, 2, 20, 10), 0.0), ((0, 0, 40, 40), 200 / 1600),
        ((12.4, 13.4, 0.2, 0.3), 1.0), ((29.4, 12, 2, 10), 0.5), ((29.6, 12, 2, 10), 0.0),
        ((10, 20.6, 4, 2.2), 0.5), ((-5, -6, 16, 19), 1 / 304),
    ],
)  # fmt: skip
def test_the_share_of_a_box_that_a_blob_covers(box, share):
    assert blob_module.covered_share(Box(*box), blob(10, 12, 20, 10)) == pytest.approx(share)


@pytest.mark.parametrize(
    ("known", "least", "rest"),
    [
        # its right edge is at 25; two pixels, and the pixel of the edge itself
        ([(10, 12, 15, 14)], 0, [(28.0, 12.0, 22.0, 14.0)]),
        ([(10, 12, 15, 14)], 308, [(28.0, 12.0, 22.0, 14.0)]), ([(10, 12, 15, 14)], 309, []),
        ([(35, 12, 15, 14)], 0, [(10.0, 12.0, 23.0, 14.0)]),
        # two pixels at its rim are nobody
        ([(10, 12, 40, 6)], 0, [(10.0, 21.0, 40.0, 5.0)]),
        ([(10, 12, 40, 8)], 0, [(10.0, 23.0, 40.0, 3.0)]), ([(10, 12, 40, 9)], 0, []),
        ([(10, 20, 40, 6)], 0, [(10.0, 12.0, 40.0, 6.0)]),
        ([(10, 12, 32, 14)], 0, [(45.0, 12.0, 5.0, 14.0)]),
        ([(10, 12, 34, 14)], 0, [(47.0, 12.0, 3.0, 14.0)]), ([(10, 12, 35, 14)], 0, []),
        # four between two are
        ([(10, 12, 15, 14), (35, 12, 15, 14)], 0, [(28.0, 12.0, 5.0, 14.0)]),
        ([(10, 12, 15, 14), (34, 12, 16, 14)], 0, []),
        ([(25, 12, 10, 14)], 0, [(10.0, 12.0, 13.0, 14.0), (38.0, 12.0, 12.0, 14.0)]),
        ([(25, 12, 10, 14)], 182, [(10.0, 12.0, 13.0, 14.0)]),
        ([(10, 12, 10, 14), (40, 12, 10, 14)], 0, [(23.0, 12.0, 15.0, 14.0)]),
    ],
)  # fmt: skip
def test_the_rest_of_a_blob_outside_known_boxes(known, least, rest):
    assert blob_module.rest_boxes(blob(10, 12, 40, 14), [Box(*b) for b in known], least) == rest


def test_boxes_are_rounded_and_an_l_shaped_rest_is_one_box():
    """25.7 becomes 26 and 17.7 becomes 18: ten rows and columns go with the angle
    of 26 to 28 and 18 to 20.
    """
    assert blob_module.rest_boxes(
        blob(10, 12, 40, 14), [Box(10.4, 12.4, 15.3, 5.3)], 40 * 14 - 19 * 9
    ) == [(10.0, 12.0, 40.0, 14.0)]
    assert (
        blob_module.rest_boxes(
            blob(10, 12, 40, 14), [Box(10.4, 12.4, 15.3, 5.3)], 40 * 14 - 19 * 9 + 1
        )
        == []
    )


def test_a_crop_is_a_copy():
    small = noise()
    for box, rows, columns in (
        ((10.4, 20.6, 5.4, 6.6), (21, 28), (10, 15)), ((-3, -4, 8, 9), (0, 9), (0, 8)),
        ((85, 55, 9, 9), (55, 60), (85, 90)), ((10, 20, 0.2, 0.3), (20, 21), (10, 11)),
    ):  # fmt: skip
        cut = templates.crop(small, Box(*box))
        assert cut.tolist() == small[slice(*rows), slice(*columns)].tolist()
        assert not np.shares_memory(cut, small)


# -- told apart


def apart(of, small, blobs, least=30.0, changed=ALL_CHANGED):
    return [
        (*(float(v) for v in one.box), float(one.fill))
        for one in motion.find_objects(of, small, [blob(*b) for b in blobs], changed, least)
    ]


def test_a_blob_is_a_new_object_or_the_one_that_was_alone_for_longest():
    of = stream()
    first = one(28, 20, 11, 11, frames_alone=3)
    second = one(31, 20, 11, 11, frames_alone=4, first_xy=(31.0, 20.0))
    gone = one(70, 50, 8, 8)
    of.objects = [first, second, gone]
    found = apart(of, GREY, [(30, 20, 11, 11), (60, 10, 9, 11)])
    assert found == [
        (29.5, 19.5, 11.0, 11.0, pytest.approx(100 / 121)),
        (59.5, 9.5, 9.0, 11.0, pytest.approx(80 / 99)),
    ]
    assert of.objects[0] is second
    assert (second.frames_alone, len(of.objects), of.objects[1].frames_alone) == (5, 2, 1)
    assert apart(of, GREY, []) == []
    assert of.objects == []


def test_absorbed_blobs_are_not_detected():
    of = stream(with_block(GREY, 30, 20, 11, 11))
    of.objects = [one(29.5, 19.5, 11, 11, first_xy=(29.5, 19.5), frames_still=10)]
    assert apart(of, GREY, [(30, 20, 11, 11), (60, 10, 9, 11)]) == [
        (59.5, 9.5, 9.0, 11.0, pytest.approx(80 / 99))
    ]


def merged(monkeypatch, left, right, **lost):
    """Two who are known, side by side in one blob of 40 by 12 from (20, 20),
    who are found where they are; nobody else is looked for.
    """
    looked = []
    monkeypatch.setattr(
        motion, "follow_in_blob", lambda who, small, of: looked.append((who, of[1]))
    )
    of = stream()
    of.objects = [left, right]
    return of, looked


def test_two_known_objects_are_searched_in_their_merged_blob(monkeypatch):
    left, right = one(20, 20, 18, 12), one(41, 20, 18, 12)
    of, looked = merged(monkeypatch, left, right)
    extra = one(30, 20, 18, 12, frames_alone=2)  # not known
    of.objects.append(extra)
    assert apart(of, GREY, [(20, 20, 40, 12)]) == [
        (20.0, 20.0, 18.0, 12.0, 0.6),
        (41.0, 20.0, 18.0, 12.0, 0.6),
    ]
    assert of.objects == [left, right]
    assert looked == [(left, (20, 20, 40, 12)), (right, (20, 20, 40, 12))]


@pytest.mark.parametrize(("lost", "stays"), [(8, True), (9, False)])
def test_an_object_without_a_match_for_more_than_eight_frames_is_dropped(monkeypatch, lost, stays):
    left, right = one(20, 20, 18, 12, frames_lost=lost), one(41, 20, 18, 12)
    of, _ = merged(monkeypatch, left, right)
    assert [row[0] for row in apart(of, GREY, [(20, 20, 40, 12)])] == [20.0, 41.0][
        0 if stays else 1 :
    ]
    assert of.objects == [left, right][0 if stays else 1 :]


@pytest.mark.parametrize(("height", "stays"), [(25, True), (26, False)])
def test_an_object_covered_by_less_than_two_fifths_is_dropped(monkeypatch, height, stays):
    """10 of 25 rows, and of 26."""
    left, right = one(20, 20, 18, 12), one(41, 20, 18, 10)
    of, _ = merged(monkeypatch, left, right)
    monkeypatch.setattr(
        motion,
        "follow_in_blob",
        lambda who, *_: who is left and setattr(left, "box", Box(20.0, 20.0, 18.0, float(height))),
    )
    assert len(apart(of, GREY, [(20, 20, 40, 10)])) == (2 if stays else 1)
    assert of.objects == ([left, right] if stays else [right])


@pytest.mark.parametrize(
    ("low", "least", "new"),
    [(12, 30.0, True), (12, 156.0, True), (12, 157.0, False), (32, 30.0, True), (33, 30.0, False)],
)
def test_the_rest_of_a_merged_blob_is_a_new_object_if_large_enough(monkeypatch, low, least, new):
    """70 pixels wide, 12 high: from 20 to 38 and 41 to 59 they are known; from 62 to 74 is left: 13
    * 12 = 156 pixels. Two fifths of the smaller of
    them, 12 * 32 = 384 pixels, are 153.6; of 12 * 33, 158.4."""
    left, right = one(20, 20, 18, 12), one(41, 20, 18, 12)
    if low != 12:
        left, right = one(20, 20, 39, 12), one(47, 20, 12, 12)
    of, _ = merged(monkeypatch, left, right)
    if low != 12:
        monkeypatch.setattr(
            motion,
            "follow_in_blob",
            lambda who, *_: (
                who is right and setattr(right, "box", Box(47.0, 10.0, 12.0, float(low)))
            ),
        )
        monkeypatch.setattr(motion, "covered_share", lambda *_: 1.0)
    small = noise()
    found = apart(of, small, [(20, 20, 55, 12)], least)
    assert found[2:] == ([(62.0, 20.0, 13.0, 12.0, 0.5)] if new else [])
    if new:
        other = of.objects[2]
        assert (other.box, other.first_xy, other.frames_alone, other.patch.tolist()) == (
            (62.0, 20.0, 13.0, 12.0),
            None,
            0,
            small[20:32, 62:75].tolist(),
        )


def test_parts_of_one_vehicle_are_merged_before_merged_vehicles_are_separated():
    of, small = stream(np.full((120, 160, 3), 100, np.uint8)), np.full((120, 160, 3), 100, np.uint8)
    car = one(60, 60, 20, 16, heading=(1.0, 0.0), frames_alone=9)
    of.objects = [car]
    assert [row[2:4] for row in apart(of, small, [A, SHORT])] == [(33.0, 16.0)]
    assert apart(of, small, [A, SHORT], changed=np.zeros((120, 160), np.uint8)) != []


# -- the detector


def looks(detector, *images, key="cam"):
    return [detector.begin(key, image).result() for image in images]


def test_foreground_is_detected_with_its_box_and_fill():
    """The block is 20 by 12 pixels; made soft over 3 pixels it is one pixel larger to each side,
    without the corners: 21 * 13 - 4 / 2 = 271 between the
    middles of its pixels, in a box of 22 by 14 about its middle (the outline's,
    which is half a pixel to the left and above).
    """
    detector = MotionDetector()
    assert (detector.least_px, detector.work_width, detector.threads) == (60, 1280, 1)
    empty, found = looks(detector, GREY, with_block(GREY, 30, 20, 20, 12))
    assert len(empty) == 0
    assert found.xyxy.tolist() == [[28.5, 18.5, 50.5, 32.5]]
    assert found.confidence.tolist() == pytest.approx([0.5 + 0.5 * 271 / 308])
    assert found.class_id.tolist() == [VEHICLE]


@pytest.mark.parametrize(("least", "count"), [(271, 1), (272, 0)])
def test_blobs_below_the_least_area_are_ignored(least, count):
    assert len(looks(MotionDetector(least), GREY, with_block(GREY, 30, 20, 20, 12))[1]) == count


@pytest.mark.parametrize(("least", "count"), [(1084, 1), (1085, 0)])
def test_larger_images_are_scaled_down_and_boxes_are_in_original_pixels(least, count):
    large = np.full((120, 180, 3), 100, np.uint8)
    found = looks(MotionDetector(least, work_width=90), large, with_block(large, 60, 40, 40, 24))[1]
    assert found.xyxy.tolist() == [[57.0, 37.0, 101.0, 65.0]] * count


def test_an_image_of_the_working_width_is_not_scaled():
    for width in (90, 91, 5000):
        assert looks(MotionDetector(work_width=width), GREY, with_block(GREY, 30, 20, 20, 12))[
            1
        ].xyxy.tolist() == [[28.5, 18.5, 50.5, 32.5]]


@pytest.mark.parametrize(("half", "count"), [(4, 0), (8, 1)])
def test_blobs_that_fill_less_than_a_fifth_of_their_box_are_ignored(half, count):
    """A slanting stripe: of a box of 60 by 60 it fills about 2 * 4 / 60, or 2 * 8 / 60."""
    street = np.full((80, 80, 3), 100, np.uint8)
    rows, columns = np.ogrid[:80, :80]
    stripe = (
        (np.abs(rows - columns) <= half) & (rows > 9) & (rows < 70) & (columns > 9) & (columns < 70)
    )
    assert (
        len(
            looks(
                MotionDetector(), street, np.where(stripe[..., None], 200, street).astype(np.uint8)
            )[1]
        )
        == count
    )


def test_each_stream_has_its_own_background_until_it_ends_or_changes_its_size():
    detector, car = MotionDetector(), with_block(GREY, 30, 20, 20, 12)
    assert [len(f) for f in looks(detector, GREY, car)] == [0, 1]
    assert [len(f) for f in looks(detector, car, car, key="other")] == [0, 0]
    assert len(looks(detector, car)[0]) == 1
    detector.forget("cam")
    detector.forget("nobody")
    assert len(looks(detector, car)[0]) == 0
    assert [len(f) for f in looks(detector, GREY[:50], GREY, car)] == [
        0,
        0,
        1,
    ]  # another size, and back


def test_images_are_processed_in_order(monkeypatch):
    gate, begun, blur = threading.Event(), [], cv2.blur
    monkeypatch.setattr(
        motion.cv2,
        "blur",
        lambda image, size: (
            begun.append(int(image[0, 0, 0])) or (gate.wait(10.0) and blur(image, size))
        ),
    )
    detector = MotionDetector()
    both = [detector.begin("cam", GREY + k) for k in range(2)]
    assert not gate.wait(0.05)
    assert begun == [100]
    gate.set()
    assert [len(one.result(20.0)) for one in both] == [0, 0]
    assert begun == [100, 101]


def test_a_background_can_be_learned_in_advance():
    detector, car = MotionDetector(work_width=45), with_block(GREY, 30, 20, 20, 12)
    detector.learn("cam", [detector.reduced(image) for image in (GREY, car, GREY)])
    found = looks(detector, car)[0]
    assert len(found) == 1
    assert found.xyxy[0] == pytest.approx([30, 20, 50, 32], abs=4.0)


def test_detection_restarts_when_most_of_the_image_differed_for_twenty_frames():
    street = (np.arange(90)[None, :, None] + np.zeros((60, 1, 3))).astype(
        np.uint8
    )  # no flat one, which would be a hole
    found = looks(MotionDetector(), *[street] * 31, *[street + 90] * 21)
    assert [len(f) for f in found] == [0] * 31 + [1] * 20 + [0]


def test_the_background_learns_from_each_image():
    """Twenty levels less are no difference and the street by and by; thirty more than that differ
    then, though they are ten more than what was.
    """
    detector, street = MotionDetector(), GREY + 20
    assert [len(f) for f in looks(detector, street, with_block(street, 30, 20, 20, 12, 130))] == [
        0,
        0,
    ]
    looks(detector, *[GREY] * 60)
    assert [len(f) for f in looks(detector, with_block(GREY, 30, 20, 20, 12, 130))] == [1]
