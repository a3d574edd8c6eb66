"""Association of boxes with tracks: lasting ids, parts of a whole, faint detections,
on boxes made by hand.
"""

from __future__ import annotations

import numpy as np
import pytest
import supervision as sv
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from headway.sensing.tracking.association import Association, TrackedDetection
from headway.vision.detection.detectors import BUS, CAR, PERSON, TRUCK, VEHICLE

A = (100, 100, 200, 200)
FAR = (600, 100, 700, 200)


def found(*rows):
    """Detections of (box, confidence, class)."""
    if not rows:
        return sv.Detections(
            np.zeros((0, 4)), confidence=np.zeros(0, np.float32), class_id=np.zeros(0, int)
        )
    boxes, sure, kinds = zip(*rows, strict=True)
    return sv.Detections(
        np.array(boxes, np.float64), confidence=np.array(sure, np.float32), class_id=np.array(kinds)
    )


def car(*box, sure=0.8, kind=CAR):
    return (box, sure, kind)


class Stream:
    """Frames every twentieth of a second, one after another."""

    def __init__(self, rate_hz=20.0, step_s=0.05):
        self.names, self.step_s, self.k = Association(rate_hz), step_s, -1

    @property
    def at_s(self):
        return self.k * self.step_s

    def show(self, *rows, times=1):
        """The names of the last of `times` frames with these detections: {name: box}."""
        for _ in range(times):
            self.k += 1
            sights = self.names.match(self.at_s, found(*rows))
        assert len({s.track for s in sights}) == len(sights)
        return {s.track: tuple(s.box.tolist()) for s in sights}

    def lost(self, frames):
        for _ in range(frames):
            assert self.show() == {}


def test_a_detection_is_reported_from_the_second_frame_on_as_it_was_detected():
    names = Association(20.0)
    assert names.match(0.0, found(car(*A), (FAR, 0.5, BUS))) == []
    one, other = sorted(
        names.match(0.05, found((FAR, 0.6, BUS), car(*A, sure=0.9))), key=lambda s: s.box[0]
    )
    assert (one.box.tolist(), one.confidence, one.kind, one.earlier) == (
        list(A),
        pytest.approx(0.9),
        CAR,
        (),
    )
    assert (other.box.tolist(), other.confidence, other.kind) == (
        list(FAR),
        pytest.approx(0.6),
        BUS,
    )
    assert {one.track, other.track} == {0, 1}
    (moved, _) = names.match(0.1, found(car(105, 100, 205, 200), (FAR, 0.6, BUS)))
    assert (moved.track, moved.box.tolist()) == (one.track, [105, 100, 205, 200])
    with pytest.raises(AttributeError):
        moved.track = 3
    assert TrackedDetection(1, moved.box, 0.5, CAR).earlier == ()


def test_detections_without_confidence_or_class_count_as_certain_and_of_unknown_class():
    names, plain = Association(20.0), sv.Detections(np.array([A, FAR], np.float64))
    assert names.match(0.0, plain) == []
    assert [(s.confidence, s.kind) for s in names.match(0.05, plain)] == [(1.0, VEHICLE)] * 2


@pytest.mark.parametrize(
    ("sure", "begins"), [(0.33, True), (0.321, True), (0.319, False), (0.16, False)]
)
def test_a_confident_detection_starts_a_track_at_once(sure, begins):
    stream = Stream()
    stream.show(car(*A, sure=sure))
    assert bool(stream.show(car(*A, sure=sure))) == begins


def test_a_track_continues_with_faint_detections():
    stream = Stream()
    stream.show(car(*A), times=3)
    assert stream.show(car(*A, sure=0.05)) == {0: A}


@pytest.mark.parametrize(("shift", "same"), [(59, True), (61, False)])
def test_boxes_that_overlap_by_a_quarter_are_one_track(shift, same):
    """Boxes of 100 px: shifted by 60, 40 of 160 px are common, a quarter.
    (Confidence 0.2: it cannot begin by itself.)
    """
    stream = Stream()
    stream.show(car(*A), times=3)
    assert stream.show(car(100 + shift, 100, 200 + shift, 200, sure=0.2)) == (
        {0: (100 + shift, 100, 200 + shift, 200)} if same else {}
    )


def iou(a, b):
    both = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.tuples(st.integers(-30, 30), st.integers(-30, 30)), min_size=4, max_size=4),
    st.permutations(range(4)),
)
def test_boxes_are_assigned_to_tracks_by_the_best_total_overlap(shifts, order):
    """Four who stood side by side, and then are a little elsewhere:
    the assignment of the greatest sum of overlaps.
    """
    stream, before = Stream(), [(100 + 70 * k, 100, 160 + 70 * k, 160) for k in range(4)]
    named = stream.show(*[car(*b) for b in before], times=4)
    after = [
        tuple(c + d for c, d in zip(b, (dx, dy, dx, dy), strict=True))
        for b, (dx, dy) in zip(before, shifts, strict=True)
    ]
    names = sorted(named)
    overlaps = np.array([[iou(named[n], after[k]) for k in range(4)] for n in names])
    rows, columns = linear_sum_assignment(overlaps, maximize=True)
    want = {
        names[r]: tuple(map(float, after[c]))
        for r, c in zip(rows, columns, strict=True)
        if overlaps[r, c] >= 0.25
    }
    got = stream.show(*[car(*after[k], sure=0.31) for k in order])
    assert got == want


# -- who comes back


@pytest.mark.parametrize(
    ("box", "same"),
    [
        (
            (100, 100, 148, 148),
            True,
        ),  # a part of what was there (less than a quarter of its area: too little for the tracker)
        ((185, 100, 235, 150), False),  # 30 % of it lies within
        ((165, 100, 215, 150), True),  # exactly seven tenths
        ((166, 100, 216, 150), False),
        ((164, 100, 214, 150), True),
        ((0, 0, 250, 250), True),  # what was there was a part of it
        ((130, 0, 380, 250), True),  # seven tenths of it
        ((131, 0, 381, 250), False),
    ],
)
def test_a_new_track_resumes_a_lost_id_if_seven_tenths_of_the_smaller_box_are_inside(box, same):
    stream = Stream()
    stream.show(car(*A), times=6)
    stream.lost(2)
    stream.show(car(*box, kind=TRUCK))
    assert stream.show(car(*box, kind=TRUCK)) == {0 if same else 1: box}
    assert stream.show(car(*box)) == {0 if same else 1: box}  # and keeps it


@pytest.mark.parametrize(("shift", "same"), [(53, True), (55, False)])
def test_a_new_track_resumes_a_lost_id_if_three_tenths_are_common(shift, same):
    """It drove 12 px a frame and is expected further on; it has stopped near where it was seen
    last. 47 of 153 px are 0.307, 45 of 155 are 0.29.
    """
    stream = Stream()
    for k in range(12):
        stream.show(car(100 + 12 * k, 100, 200 + 12 * k, 200))
    stream.lost(8)
    x = 232 - shift  # behind where it was last; it is expected 96 px before
    stream.show(car(x, 100, x + 100, 200))
    assert list(stream.show(car(x, 100, x + 100, 200))) == [0 if same else 1]


@pytest.mark.parametrize(("gap_s", "name"), [(0.9, 0), (1.0, 0), (1.0625, 1)])
def test_a_lost_id_can_be_resumed_for_a_second(gap_s, name):
    names, part = Association(20.0), (100, 100, 148, 148)
    for k in range(6):
        names.match(k / 16.0, found(car(*A)))
    last = 5 / 16.0
    names.match(last + gap_s - 1 / 16.0, found(car(*part)))
    assert [s.track for s in names.match(last + gap_s, found(car(*part)))] == [name]


def test_people_and_vehicles_do_not_resume_each_others_ids():
    for before, after, name in (
        (CAR, PERSON, 1),
        (PERSON, CAR, 1),
        (PERSON, PERSON, 0),
        (CAR, BUS, 0),
    ):
        stream = Stream()
        stream.show(car(*A, kind=before), times=6)
        stream.lost(2)
        stream.show(car(100, 100, 148, 148, kind=after))
        assert list(stream.show(car(100, 100, 148, 148, kind=after))) == [name]


def test_a_detection_of_unknown_class_resumes_no_id():
    stream = Stream()
    stream.show(car(*A, kind=VEHICLE), times=6)
    stream.lost(2)
    stream.show(car(100, 100, 148, 148, kind=VEHICLE))
    assert list(stream.show(car(100, 100, 148, 148, kind=VEHICLE))) == [1]


def test_of_two_lost_tracks_the_one_that_overlaps_more_is_resumed():
    stream, small = Stream(), (140, 100, 190, 150)
    for _ in range(6):
        named = stream.show(car(*A), car(150, 50, 260, 160))
    by_box = {box: name for name, box in named.items()}
    stream.lost(1)
    # within the first wholly, within the second by four fifths
    stream.show(car(*small))
    assert stream.show(car(*small)) == {by_box[A]: small}


@pytest.mark.parametrize(("rows", "rate_hz"), [(45, 30.0), (30, 20.0), (2, 0.5)])
def test_the_tracker_waits_for_one_and_a_half_seconds_of_frames(rows, rate_hz):
    """At 20 a second 30 frames; a camera slower than one a second counts as one of that (1.5,
    rounded up).
    """
    for lost, same in ((rows, True), (rows + 1, False)):
        stream = Stream(
            rate_hz, step_s=2.0
        )  # by the clock it is long gone: the name is the tracker's alone
        stream.show(car(*A), times=6)
        stream.lost(lost)
        stream.show(car(*A))
        assert list(stream.show(car(*A))) == [0 if same else 1]


# -- two boxes on one


@pytest.mark.parametrize(
    ("box", "alone"),
    [
        ((137, 100, 237, 200), False),  # 63 of 137 px: 0.46
        ((139, 100, 239, 200), True),  # 61 of 139 px: 0.44
        ((160, 100, 210, 150), False),  # four fifths of it lie within
        ((161, 100, 211, 150), True),
        ((120, 50, 320, 250), False),  # four fifths of the first lie within it
        ((121, 50, 321, 250), True),
        (FAR, True),
    ],
)
def test_a_second_box_on_a_tracked_object_is_left_out_unless_it_is_far_enough_off(box, alone):
    stream = Stream()
    stream.show(car(*A), times=6)
    stream.show(car(*A), car(*box))
    for _ in range(3):
        assert stream.show(car(*A), car(*box)) == ({0: A, 1: box} if alone else {0: A})
    # of what only moves, one in another's box is somebody else
    moving = Stream()
    moving.show(car(*A, kind=VEHICLE), times=6)
    moving.show(car(*A, kind=VEHICLE), car(*box, kind=VEHICLE))
    assert set(moving.show(car(*A, kind=VEHICLE), car(*box, kind=VEHICLE)).values()) == {A, box}


@pytest.mark.parametrize("first", [0, 1])
def test_when_two_tracks_share_an_id_the_box_that_overlaps_more_has_it(first):
    """The whole is lost, a part of it takes its name, and then the whole is there again,
    as the tracker remembers it.
    """
    part = (100, 100, 148, 148)
    for last in (part, A):
        stream = Stream()
        stream.show(car(*A), times=6)
        stream.show(car(*part), times=3)
        if last == A:
            stream.show(car(*A))
        rows = [car(*A), car(*part)]
        assert stream.show(*(rows if first == 0 else rows[::-1])) == {0: last}


# -- the faint


def faint(*box, sure=0.2, kind=CAR):
    return (box, sure, kind)


def frames_until_named(rows_of, most=14):
    """(number of frames shown when it gets its name, its sight), or None."""
    names = Association(20.0)
    for k in range(most):
        sights = names.match(k / 20.0, found(*rows_of(k)))
        if sights:
            return k + 1, sights[0]
    return None


def test_five_faint_detections_in_one_place_start_a_track_with_their_path():
    """Sure enough at the fifth frame, named at the sixth."""
    number, sight = frames_until_named(lambda k: [faint(100 + k, 100, 200 + k, 200)])
    assert (number, sight.confidence) == (6, pytest.approx(0.33))
    assert [at_s for at_s, _ in sight.earlier] == [k / 20.0 for k in range(5)]
    assert [box.tolist() for _, box in sight.earlier] == [
        [100 + k, 100, 200 + k, 200] for k in range(5)
    ]


@pytest.mark.parametrize(("sure", "named"), [(0.15, True), (0.149, False), (0.31, True)])
def test_detections_below_a_confidence_of_fifteen_hundredths_are_ignored(sure, named):
    assert (frames_until_named(lambda k: [faint(*A, sure=sure)]) is not None) == named


def test_a_track_that_becomes_confident_has_its_whole_faint_path():
    number, sight = frames_until_named(lambda k: [faint(*A) if k < 3 else car(*A)])
    assert (number, [at_s for at_s, _ in sight.earlier]) == (
        5,
        [0.0, 0.05, 0.1],
    )  # begun at the fourth frame, named at the fifth
    number, sight = frames_until_named(lambda k: [car(*A)] if k < 1 else [faint(*A)])
    assert (number, sight.earlier) == (2, ())  # this is the sight itself


@pytest.mark.parametrize(("step", "named"), [(33, True), (34, False)])
def test_one_place_means_an_overlap_of_more_than_a_half(step, named):
    """100 px wide, a step of 33: 67 of 133 px (0.504); of 34: 66 of 134 (0.493)."""
    assert (
        frames_until_named(lambda k: [faint(100 + step * k, 100, 200 + step * k, 200)]) is not None
    ) == named


@pytest.mark.parametrize(("empty", "named"), [(2, True), (3, False)])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_faint_candidate_is_dropped_after_three_frames_without_it(empty, named, elsewhere):
    """Two sights, a gap, two sights, a gap, ...: five sights only if it is remembered;
    whether anybody else is on the frame or not.
    """
    other = [car(*FAR)] if elsewhere else []

    def rows(k):
        return other + ([faint(*A)] if k % (2 + empty) < 2 else [])

    names = Association(20.0)
    observed = [
        {tuple(s.box.tolist()) for s in names.match(k / 20.0, found(*rows(k)))} for k in range(20)
    ]
    assert any(A in boxes for boxes in observed) == named


def test_two_faint_boxes_in_one_place_are_one_detection():
    number, _ = frames_until_named(lambda k: [faint(*A), faint(102, 100, 202, 200)])
    assert number == 6


def test_faint_boxes_near_a_track_start_no_other_track():
    """Common by three tenths or more with somebody who is followed: 53 px off are 0.307;
    55 are 0.29 and somebody else.
    """
    for shift, names in ((53, {0}), (55, {0, 1})):
        stream = Stream()
        stream.show(car(*A), times=4)
        for _ in range(10):
            reported = stream.show(car(*A), faint(100 + shift, 100, 200 + shift, 200))
        assert set(reported) == names


def test_a_faint_box_continues_the_longer_of_two_paths():
    """Two who overlap by a fifth; one seen twice, the other three times.
    A box between them is the fourth of the second's way: 5 at the next.
    """
    left, right, between = (100, 100, 200, 200), (165, 100, 265, 200), (132, 100, 232, 200)
    plan = [[left], [left, right], [right], [right], [between], [between], [between], [between]]
    number, sight = frames_until_named(lambda k: [faint(*box) for box in plan[k]], len(plan))
    assert (number, [at_s for at_s, _ in sight.earlier]) == (7, [k / 20.0 for k in range(1, 6)])


# -- where the lost should be


def test_a_lost_track_is_predicted_along_its_path():
    stream = Stream()
    for k in range(30):
        stream.show(car(100 + 6 * k, 100, 200 + 6 * k, 200), car(*FAR))
    assert stream.names.predicted(stream.at_s, 0.4) == {}  # seen a moment ago
    for k in range(30, 33):
        stream.show(car(*FAR))
        expected = stream.names.predicted(stream.at_s, 0.4)
        assert list(expected) == [0]
        assert expected[0] == pytest.approx([100 + 6 * k, 100, 200 + 6 * k, 200], abs=1.5)


@pytest.mark.parametrize(("longest_s", "names"), [(0.25, [0]), (0.2499, [])])
def test_a_lost_track_is_predicted_for_a_limited_time_only(longest_s, names):
    one = Association(20.0)
    for k in range(6):
        one.match(k / 8.0, found(car(*A)))
    one.match(7 / 8.0, found())
    assert list(one.predicted(7 / 8.0, longest_s)) == names


def test_a_detection_that_returns_is_compared_with_the_predicted_box():
    """It drove on unseen: 8 frames later a part of it is not where it was seen last,
    but where it should be.
    """
    stream = Stream()
    for k in range(20):
        stream.show(car(100 + 12 * k, 100, 200 + 12 * k, 200))
    for _ in range(8):
        stream.show()
        stream.names.predicted(stream.at_s, 1.0)
    x = 100 + 12 * 28
    stream.show(car(x + 20, 100, x + 70, 150))
    assert list(stream.show(car(x + 20, 100, x + 70, 150))) == [0]


def test_a_track_without_an_id_is_not_predicted():
    names = Association(20.0)
    names.match(0.0, found(car(*A)))  # not named yet
    assert names.predicted(0.05, 1.0) == {}


def test_a_resumed_id_lasts_as_long_as_its_track():
    """A part has taken the name of the whole;
    lost for 1.2 s it is still the tracker's, and so has its name.
    """
    stream, part = Stream(), (100, 100, 148, 148)
    stream.show(car(*A), times=6)
    assert list(stream.show(car(*part), times=3)) == [0]
    stream.lost(24)
    assert stream.show(car(*part)) == {0: part}
    stream.k += 100  # the clock has leapt: who was here is forgotten, the track is not
    stream.lost(1)
    assert stream.show(car(*part)) == {0: part}


def test_a_track_detected_three_seconds_ago_is_still_known():
    """Expected at 3 s, not later."""
    for gap_s, names in ((3.0, [0]), (3.0625, [])):
        one = Association(20.0)
        for k in range(6):
            one.match(k / 16.0, found(car(*A)))
        one.match(5 / 16.0 + gap_s, found())
        assert list(one.predicted(5 / 16.0 + gap_s, 9.0)) == names
