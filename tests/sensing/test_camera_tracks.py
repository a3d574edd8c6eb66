"""Tracks: where road users meet the road, their length, class, speed,
and since when they are stopped; on boxes with known ground truth.
"""

from __future__ import annotations

import numpy as np
import pytest
import supervision as sv
from tests.sensing.hand_made import SIZE, ten_px_a_metre

from headway.sensing import Calibration
from headway.sensing.tracking.speed import motions
from headway.sensing.tracking.tracks import Track, Tracker
from headway.vision.detection.detectors import (
    BICYCLE,
    BUS,
    CAR,
    MOTORCYCLE,
    PERSON,
    TRUCK,
    VEHICLE,
)

HIGH = Calibration(
    np.diag([0.1, 0.1, 1.0]), 0.0, (16.0, 24.0, 7.5)
)  # 7.5 m above the road at pixel (160, 240)


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


def follow(tracker, box_of, times, kind=CAR, sure=0.75):
    """The one track after these frames; its first is before them,
    for a track is named at its second frame.
    """
    times = list(times)
    step = times[1] - times[0] if len(times) > 1 else 0.1
    tracker.update(times[0] - step, found((box_of(times[0] - step), sure, kind)))
    for t in times:
        tracker.update(t, found((box_of(t), sure, kind)))
    (track,) = tracker.tracks.values()
    return track


def at(*box):
    return lambda t: box


def every(step_s, count, begin_s=0.0):
    return [begin_s + k * step_s for k in range(count)]


# -- a track


def test_a_track_begins_with_nothing_known():
    track = Track(3, 1.5)
    assert (
        track.id,
        track.started_s,
        track.at_s,
        track.confidence,
        track.observations,
        track.coasting,
    ) == (
        3,
        1.5,
        0.0,
        0.0,
        0,
        False,
    )
    assert (track.box.tolist(), track.votes.tolist(), track.lines_crossed) == (
        [0.0] * 4,
        [0.0] * 7,
        {},
    )
    figures = [
        track.length_m,
        track.speed_mps,
        track.mean_mps,
        track.mean_se_mps,
        *track.velocity_mps,
        track.stopped_since_s,
    ]
    assert np.isnan(figures).all()
    assert track.stopped_s == 0.0
    assert [
        len(h)
        for h in (track.times, track.ground_px, track.road_m, track.fully_visible, track.boxes)
    ] == [0] * 5
    assert Track(3, 1.5) != Track(3, 1.5)  # two road users are never the same one
    track.votes[:] = (0.1, 0, 0.3, 0, 0, 0.7, 0.2)
    assert track.kind == TRUCK
    track.at_s, track.stopped_since_s = 12.5, 10.0
    assert track.stopped_s == 2.5


def test_index_before_finds_the_point_so_many_seconds_back():
    track = Track(1, 0.0, at_s=5.0)
    track.times.extend([1.0, 2.0, 3.5, 4.0, 5.0])
    assert [track.index_before(s) for s in (0.0, 0.5, 1.0, 1.1, 1.5, 3.0, 3.9, 4.0, 9.0)] == [
        4,
        3,
        3,
        2,
        2,
        1,
        0,
        0,
        0,
    ]


def test_a_track_is_reported_after_three_detections_and_then_as_it_was_detected():
    tracker = Tracker(ten_px_a_metre(), 10.0, SIZE)
    shown = [
        tracker.update(k / 10.0, found(((100 + k, 100, 140 + k, 120), 0.5 + k / 16.0, BUS)))
        for k in range(5)
    ]
    assert [len(s) for s in shown] == [0, 0, 0, 1, 1]  # named at the second frame
    (track,) = shown[-1]
    assert (
        track.id,
        track.started_s,
        track.at_s,
        track.observations,
        track.confidence,
        track.kind,
    ) == (
        0,
        0.1,
        0.4,
        4,
        0.75,
        BUS,
    )
    assert track.box.tolist() == [104, 100, 144, 120]
    assert list(track.times) == [0.1, 0.2, 0.3, 0.4]
    assert list(track.ground_px) == [
        (120.0 + k, 120.0) for k in range(1, 5)
    ]  # the middle of the lower edge
    assert [tuple(np.round(p, 9)) for p in track.road_m] == [
        (12.0 + k / 10.0, 12.0) for k in range(1, 5)
    ]
    assert [b.tolist() for b in track.boxes] == [[100 + k, 100, 140 + k, 120] for k in range(1, 5)]
    assert track.votes[BUS] == pytest.approx(0.5625 + 0.625 + 0.6875 + 0.75)


def test_the_class_of_a_track_has_the_largest_sum_of_confidences():
    tracker = Tracker(None, 10.0, SIZE)
    for k, (kind, sure) in enumerate(
        [(CAR, 0.5), (CAR, 0.5), (CAR, 0.5), (TRUCK, 0.9), (TRUCK, 0.35)]
    ):
        tracker.update(k / 10.0, found(((100, 100, 140, 120), sure, kind)))
    (track,) = tracker.tracks.values()
    assert track.kind == TRUCK
    assert track.votes[[CAR, TRUCK]] == pytest.approx([1.0, 1.25])


def test_without_calibration_there_are_ground_points_in_pixels_and_no_road_coordinates():
    track = follow(Tracker(None, 10.0, SIZE), at(100, 100, 140, 120), every(0.1, 12))
    assert track.ground_px[-1] == (120.0, 120.0)
    assert np.isnan(track.road_m).all()
    assert np.isnan([track.length_m, track.speed_mps, track.mean_mps]).all()


def test_with_the_cameras_position_the_ground_point_is_below_the_middle_of_the_box():
    """A car is taken for 1.5 m high: its middle is 0.75 m up, a tenth of the camera's height,
    so a tenth of the way nearer to (16, 24).
    """
    track = follow(Tracker(HIGH, 10.0, SIZE), at(100, 100, 140, 120), every(0.1, 3))
    # the middle (12, 11) m
    assert track.road_m[-1] == pytest.approx((12.0 + 0.4, 11.0 + 1.3))
    assert track.ground_px[-1] == pytest.approx((124.0, 123.0))
    assert track.length_m == pytest.approx(
        0.9 * np.hypot(4.0, 2.0)
    )  # its corners are 0.75 m up too


@pytest.mark.parametrize(
    ("kind", "height_m"),
    [(PERSON, 1.7), (BICYCLE, 1.6), (CAR, 1.5), (MOTORCYCLE, 1.5), (BUS, 3.0), (TRUCK, 3.0)],
)
def test_each_class_has_its_height_once_it_is_known(kind, height_m):
    track = follow(Tracker(HIGH, 10.0, SIZE), at(100, 100, 140, 120), every(0.1, 3), kind)
    share = height_m / 2.0 / 7.5
    assert track.road_m[0] == pytest.approx((12.4, 12.3))  # at first it is taken for a car
    assert track.road_m[-1] == pytest.approx((12.0 + 4.0 * share, 11.0 + 13.0 * share))


def test_a_moving_object_of_unknown_class_is_as_high_as_a_car():
    """Its length is unknown where its upper edge is above the horizon, at y = 60;
    so it stays what only moves.
    """
    of = Calibration(
        np.array([[0.1, 0.0, 0.0], [0.0, 0.0, 10.0], [0.0, 0.01, -0.6]]), 0.0, (0.0, 0.0, 7.5)
    )
    track = follow(Tracker(of, 10.0, SIZE), at(100, 50, 140, 150), every(0.1, 3), VEHICLE)
    assert (track.kind, np.isnan(track.length_m)) == (VEHICLE, True)
    # its middle, (120, 100), is on the road at (12, 10) / 0.4; a tenth of the way from there to the
    # camera
    assert track.road_m[0] == track.road_m[-1] == pytest.approx((0.9 * 30.0, 0.9 * 25.0))


def test_above_the_horizon_the_ground_point_is_the_lower_edge_and_there_is_no_speed():
    """The horizon is at y = 60; what is above it has no place."""
    of = Calibration(
        np.array([[0.1, 0.0, 0.0], [0.0, 0.0, 10.0], [0.0, 0.01, -0.6]]), 0.0, (0.0, 0.0, 8.0)
    )
    track = follow(
        Tracker(of, 20.0, SIZE), lambda t: (100 + 40 * t, 20, 140 + 40 * t, 40), every(0.05, 30)
    )
    assert track.ground_px[-1] == pytest.approx((120 + 40 * 1.45, 40.0))
    assert np.isnan(track.road_m).all()
    assert np.isnan([track.speed_mps, track.length_m]).all()


def test_the_length_is_smoothed():
    """Diagonals of 5 m, then of 10 m, each new one for a twentieth."""
    tracker = Tracker(ten_px_a_metre(), 10.0, SIZE)
    boxes = [(100, 100, 140, 130), (100, 100, 140, 130), (90, 90, 170, 150), (90, 90, 170, 150)]
    lengths = []
    for k, box in enumerate(boxes):
        tracker.update(k / 10.0, found((box, 0.8, CAR)))
        lengths += [t.length_m for t in tracker.tracks.values()]
    assert lengths == pytest.approx([5.0, 0.95 * 5.0 + 0.05 * 10.0, 0.95 * 5.25 + 0.05 * 10.0])


@pytest.mark.parametrize(
    ("length_m", "kind"),
    [
        (1.2, PERSON),
        (1.29, PERSON),
        (1.31, MOTORCYCLE),
        (2.99, MOTORCYCLE),
        (3.01, CAR),
        (8.49, CAR),
        (8.51, TRUCK),
        (20.0, TRUCK),
    ],
)
def test_a_moving_object_gets_its_class_from_its_length(length_m, kind):
    """Boxes 3 to 4: the diagonal is 5 parts."""
    box = (100, 20, 100 + 8.0 * length_m, 20 + 6.0 * length_m)
    assert (
        follow(Tracker(ten_px_a_metre(), 10.0, SIZE), at(*box), every(0.1, 3), VEHICLE).kind == kind
    )
    assert (
        follow(Tracker(None, 10.0, SIZE), at(*box), every(0.1, 3), VEHICLE).kind == VEHICLE
    )  # no lengths are known
    assert (
        follow(Tracker(ten_px_a_metre(), 10.0, SIZE), at(*box), every(0.1, 3), BICYCLE).kind
        == BICYCLE
    )  # its class was told


# -- speeds


def moving(t):
    """8 m/s to the right and 1.5 m/s down, 10 px a metre."""
    return (20 + 80 * t, 60 + 15 * t, 60 + 80 * t, 80 + 15 * t)


def test_a_steady_vehicle_has_its_speed():
    track = follow(Tracker(ten_px_a_metre(), 20.0, SIZE), moving, every(0.0625, 30))
    assert track.velocity_mps == pytest.approx((8.0, 1.5), abs=1e-4)
    assert track.speed_mps == pytest.approx(np.hypot(8.0, 1.5), abs=1e-4)
    assert track.mean_mps == pytest.approx(np.hypot(8.0, 1.5), abs=1e-4)
    assert track.mean_se_mps == pytest.approx(0.0, abs=1e-5)


def test_a_track_that_leaps_to_another_vehicle_has_no_speed_until_the_leap_is_a_second_ago():
    """A lorry of 10 m that stands, and from 2 s on one that stands 3 m farther on."""
    tracker = Tracker(ten_px_a_metre(), 10.0, SIZE)
    track = follow(tracker, lambda t: (50.0, 50.0, 150.0, 80.0), every(0.1, 20))
    assert track.speed_mps == pytest.approx(0.0, abs=1e-6)
    known = {}
    for t in every(0.1, 20, 2.0):
        tracker.update(t, found(((80.0, 50.0, 180.0, 80.0), 0.75, CAR)))
        known[round(t, 1)] = np.isfinite((track.speed_mps, track.mean_mps, track.mean_se_mps)).all()
    assert len(tracker.tracks) == 1
    assert not any(known[t] for t in known if t < 2.9)
    assert all(known[t] for t in known if t > 3.0)


def test_a_speed_is_of_the_points_of_the_last_second():
    def speeds_up(t):
        x = 20 + 40 * t + 15 * t * t
        return (x, 60, x + 40, 80)

    track = follow(Tracker(ten_px_a_metre(), 20.0, SIZE), speeds_up, every(0.0625, 33))
    t = np.arange(16, 33) * 0.0625  # to 2 s, from 1 s on
    x = (40 + 40 * t + 15 * t * t) / 10.0
    want = motions((t - 2.0)[None], np.stack([x, np.full(17, 8.0)], 1)[None], np.array([17]))
    assert track.velocity_mps == pytest.approx(want.velocity_mps[0], rel=1e-6, abs=1e-6)
    assert (track.mean_mps, track.mean_se_mps) == (
        pytest.approx(want.mean_mps[0]),
        pytest.approx(want.mean_se_mps[0], abs=1e-6),
    )
    assert track.mean_mps == pytest.approx(
        4.0 + 3.0 * 1.5, abs=1e-3
    )  # 4 m/s and 3 m/s each second, in the middle of it


@pytest.mark.parametrize(("step_s", "points"), [(0.125, 5), (0.0875, 5), (0.0625, 7), (0.5, 5)])
def test_a_speed_needs_five_points_and_35_hundredths_of_a_second(step_s, points):
    """Five at 0.0875 s are 0.35 s; at 0.0625 s it takes seven (0.375 s).
    At half a second there are never five within one.
    """

    def creeps(t):
        return (20 + 10 * t, 60, 60 + 10 * t, 80)

    few = follow(Tracker(ten_px_a_metre(), 1.0 / step_s, SIZE), creeps, every(step_s, points - 1))
    assert np.isnan([few.speed_mps, few.mean_mps, few.mean_se_mps]).all()
    enough = follow(Tracker(ten_px_a_metre(), 1.0 / step_s, SIZE), creeps, every(step_s, points))
    assert np.isnan(enough.speed_mps) == (step_s == 0.5)


def test_speeds_are_measured_every_six_hundredths_of_a_second():
    tracker = Tracker(ten_px_a_metre(), 30.0, SIZE)
    track = follow(tracker, moving, every(0.03, 20))
    # measured at -0.03, 0.03, 0.09, ... s (the first frame, and each second one from there), so
    # last at 0.57 s
    assert track.speed_mps == pytest.approx(np.hypot(8.0, 1.5), abs=1e-3)
    track.speed_mps = 99.0
    tracker.update(0.60, found((moving(0.60), 0.75, CAR)))
    assert track.speed_mps == 99.0
    tracker.update(0.635, found((moving(0.635), 0.75, CAR)))
    assert track.speed_mps == pytest.approx(np.hypot(8.0, 1.5), abs=1e-2)
    track.speed_mps = 99.0
    tracker.update(0.70, found((moving(0.70), 0.75, CAR)))
    assert track.speed_mps != 99.0


def test_a_clock_that_goes_back_does_not_stop_the_measuring():
    tracker = Tracker(ten_px_a_metre(), 10.0, SIZE)
    follow(tracker, at(100, 100, 140, 120), every(0.1, 9, begin_s=50.0))
    again = [tracker.update(t, found(((100, 100, 140, 120), 0.8, CAR))) for t in every(0.1, 9)]
    assert (
        again[-1][0].speed_mps != again[-1][0].speed_mps
    )  # the way makes no sense, and so there is none


@pytest.mark.parametrize(
    ("box", "whole"),
    [
        ((4, 100, 44, 120), True), ((3, 100, 43, 120), False), ((100, 4, 140, 24), True),
        ((100, 3, 140, 23), False), ((276, 100, 316, 120), True),
        ((277, 100, 317, 120), False), ((100, 216, 140, 236), True), ((100, 217, 140, 237), False),
    ],
)  # fmt: skip
def test_a_box_cut_off_by_the_edge_of_the_frame_has_no_speed(box, whole):
    """Within three pixels of it."""
    track = follow(Tracker(ten_px_a_metre(), 10.0, SIZE), at(*box), every(0.1, 12))
    assert set(track.fully_visible) == {whole}
    assert np.isfinite(track.speed_mps) == whole
    assert np.isfinite(track.mean_mps) == whole


def test_speed_ends_when_a_box_leaves_the_frame_and_begins_when_it_is_fully_inside():
    tracker = Tracker(ten_px_a_metre(), 16.0, SIZE)

    def enters(t):  # its left end is at the edge until 0.5 s: as if it grew
        x = -20 + 64 * t
        return (max(x, 0), 100, x + 40, 120)

    track = follow(tracker, enters, every(0.0625, 12))
    # whole from x > 3 px on: 0.375 s (4 px); 0.6875 s is the last, six points in 0.3125 s
    assert list(track.fully_visible) == [False] * 6 + [True] * 6
    assert np.isnan(track.speed_mps)
    tracker.update(0.75, found((enters(0.75), 0.8, CAR)))
    assert track.mean_mps == pytest.approx(6.4, abs=1e-3)
    tracker.update(0.8125, found(((290, 100, 330, 120), 0.8, CAR), (enters(0.8125), 0.8, CAR)))
    assert track.mean_mps == pytest.approx(6.4, abs=1e-3)
    tracker.update(0.875, found(((1, 100, 72, 120), 0.8, CAR)))  # cut again
    assert np.isnan([track.speed_mps, track.mean_mps, track.mean_se_mps]).all()


def test_each_of_several_has_its_own_speed():
    tracker = Tracker(ten_px_a_metre(), 16.0, SIZE)
    for k in range(24):
        t = k * 0.0625
        rows = [
            ((20 + 40 * t, 20, 60 + 40 * t, 40), 0.8, CAR),
            ((250 - 80 * t, 100, 290 - 80 * t, 120), 0.8, CAR),
        ]
        rows += [((100, 180, 140, 200), 0.8, CAR)] if k > 8 else []
        rows += [((200, 180, 240, 200), 0.8, CAR)] if k > 20 else []
        shown = tracker.update(t, found(*(rows if k % 2 else rows[::-1])))
    speeds = {
        (*np.sign(np.round(t.velocity_mps, 2)), round(t.mean_mps, 2))
        for t in shown
        if np.isfinite(t.mean_mps)
    }
    assert speeds == {(1.0, 0.0, 4.0), (-1.0, 0.0, 8.0), (0.0, 0.0, 0.0)}
    assert sum(np.isnan(t.speed_mps) for t in tracker.tracks.values()) == 1  # it has only just come


# -- standing


def stood(x_of, seconds, calibration):
    """Since when it stands, at each eighth of a second; x_of(t): pixels, of a box 20 px high."""
    tracker, since = Tracker(calibration, 8.0, SIZE), {}
    for k in range(-1, round(8 * seconds) + 1):
        x = x_of(max(k, 0) / 8.0)
        tracker.update(k / 8.0, found(((x, 100, x + 40, 120), 0.8, CAR)))
        for track in tracker.tracks.values():
            since[k / 8.0] = track.stopped_since_s
    return since


def test_a_vehicle_that_starts_is_stopped_until_it_is_faster_than_a_metre_a_second():
    """A quarter of a metre a second faster each second;
    the speed is of a tenth of a second before: 0.975 at 4 s, 1.006 at 4.125 s.
    """
    since = stood(lambda t: 20 + 1.25 * t * t, 6.0, ten_px_a_metre())
    assert since[0.5] == since[4.0] == 0.375  # at first by its pixels
    assert np.isnan([since[t] for t in (4.125, 4.25, 6.0)]).all()


def test_a_vehicle_that_brakes_is_stopped_below_half_a_metre_a_second():
    """2 m/s, a quarter less each second: 0.525 at 6 s, 0.494 at 6.125 s."""
    since = stood(lambda t: 20 + 20 * t - 1.25 * t * t, 8.0, ten_px_a_metre())
    assert np.isnan([since[t] for t in since if t < 6.1]).all()
    assert since[6.125] == since[8.0] == 6.125


def test_half_a_metre_a_second_is_not_stopped_and_one_does_not_end_a_stop():
    """Without calibration a pixel a second of a box 20 px high is half a metre a second."""
    assert np.isnan(list(stood(lambda t: 100 + t, 4.0, None).values())).all()
    since = stood(lambda t: 100 if t <= 2.0 else 102 if t <= 2.125 else 102.25, 2.25, None)
    assert (
        since[2.0] == since[2.125] == 0.375
    )  # 2 px within the last second: one metre a second sharp
    assert np.isnan(since[2.25])


def test_a_track_is_stopped_while_it_stops_and_no_longer():
    def stops(t):
        x = 20 + 80 * min(t, 1.0) + 80 * max(t - 4.0, 0.0)
        return (x, 100, x + 40, 120)

    tracker = Tracker(ten_px_a_metre(), 16.0, SIZE)
    track = follow(tracker, stops, every(0.0625, 64))
    assert track.stopped_s == pytest.approx(
        3.9375 - 1.5, abs=0.5
    )  # its speed is of the last second
    since = track.stopped_since_s
    for t in every(0.0625, 2, begin_s=4.0):
        tracker.update(t, found((stops(t), 0.8, CAR)))
    assert track.stopped_since_s == since
    for t in every(0.0625, 10, begin_s=4.125):
        tracker.update(t, found((stops(t), 0.8, CAR)))
    assert track.stopped_s == 0.0


@pytest.mark.parametrize(
    ("px_s", "height", "stands"),
    [
        (0.0, 20, True),
        (0.98, 20, True),
        (1.02, 20, False),
        (1.96, 40, True),
        (2.04, 40, False),
        (8.0, 20, False),
    ],
)
def test_without_calibration_a_tenth_of_its_height_a_second_is_a_metre_a_second(
    px_s, height, stands
):
    """Slower than half of that it stands; it is known after 0.35 s."""
    track = follow(
        Tracker(None, 8.0, SIZE),
        lambda t: (100 + px_s * t, 100, 160 + px_s * t, 100 + height),
        every(0.125, 17),
    )
    assert (
        track.stopped_since_s == pytest.approx(0.375) if stands else np.isnan(track.stopped_since_s)
    )
    assert track.stopped_s == (1.625 if stands else 0.0)


def test_without_calibration_movement_may_be_up_or_down_and_a_new_track_counts_as_moving():
    def place(t):
        y = 60 + max(t - 2.0, 0.0) * 40
        return (100, y, 140, y + 20)

    tracker = Tracker(None, 8.0, SIZE)
    track = follow(tracker, place, every(0.125, 17))
    assert track.stopped_s == 1.625
    tracker.update(2.125, found((place(2.125), 0.8, CAR)))  # 5 px in a second, of 20: 2.5 m/s
    assert track.stopped_s == 0.0


def test_without_calibration_speed_is_the_path_of_the_last_second_over_its_time():
    """At 0.45 s the way so far is 0.45 s long:
    0.5 px of 20 in that are 0.56 m/s, and 0.4 px 0.44.
    """
    for px, stands in ((0.5, False), (0.4, True)):
        track = follow(
            Tracker(None, 8.0, SIZE),
            lambda t, px=px: (100 + px * t / 0.45, 100, 140 + px * t / 0.45, 120),
            [0.0, 0.15, 0.3, 0.45],
        )
        assert (track.stopped_since_s == 0.45) == stands
    flat = follow(
        Tracker(None, 8.0, SIZE),
        lambda t: (100 + t / 4, 100, 140 + t / 4, 100.25),
        every(0.125, 5),
    )
    assert np.isnan(
        flat.stopped_since_s
    )  # a box lower than a pixel counts as one: 0.25 px a second are 2.5 m/s


# -- the lost


def test_a_lost_track_is_predicted_for_four_tenths_of_a_second_and_ended_after_three_seconds():
    tracker = Tracker(ten_px_a_metre(), 10.0, SIZE)
    track = follow(tracker, lambda t: (20 + 40 * t, 60, 60 + 40 * t, 80), every(0.1, 30))
    last = 2.9
    assert not track.coasting
    for gap_s, shown, kept in (
        (0.1, True, 1),
        (0.39, True, 1),
        (0.41, False, 1),
        (2.9, False, 1),
        (3.01, False, 0),
    ):
        assert tracker.update(last + gap_s, found()) == ([track] if shown else [])
        assert len(tracker.tracks) == kept
        assert tracker.ended == 1 - kept
        if gap_s == 0.1:
            assert track.coasting
            assert track.box == pytest.approx([20 + 40 * 3.0, 60, 60 + 40 * 3.0, 80], abs=1.0)
    assert (track.at_s, len(track.times)) == (pytest.approx(2.9), 30)


def test_a_track_of_two_detections_is_not_reported_even_when_predicted():
    tracker = Tracker(None, 10.0, SIZE)
    follow(tracker, at(100, 100, 140, 120), every(0.1, 2))
    assert tracker.update(0.2, found()) == []


def test_a_track_that_returns_is_not_predicted_any_more():
    tracker = Tracker(None, 10.0, SIZE)
    track = follow(tracker, at(100, 100, 140, 120), every(0.1, 5))
    tracker.update(0.5, found())
    assert track.coasting
    assert tracker.update(0.6, found(((100, 100, 140, 120), 0.8, CAR))) == [track]
    assert not track.coasting


def test_the_last_twenty_seconds_are_kept():
    tracker = Tracker(None, 2.0, SIZE)
    track = follow(tracker, at(100, 100, 140, 120), every(0.5, 50))
    assert (track.times[0], track.times[-1], track.observations) == (4.5, 24.5, 50)
    assert [
        len(h)
        for h in (track.times, track.ground_px, track.road_m, track.fully_visible, track.boxes)
    ] == [41] * 5


def test_a_track_includes_its_faint_path():
    """Five faint sights come before the first that is named."""
    tracker = Tracker(HIGH, 10.0, SIZE)
    for k in range(6):
        tracker.update(k / 10.0, found(((100 + k, 100, 140 + k, 120), 0.2, BUS)))
    (track,) = tracker.tracks.values()
    assert (track.started_s, track.at_s, track.observations) == (0.0, 0.5, 6)
    assert list(track.times) == [k / 10.0 for k in range(6)]
    assert [b.tolist() for b in track.boxes] == [[100 + k, 100, 140 + k, 120] for k in range(6)]
    for k, (foot, road) in enumerate(zip(track.ground_px, track.road_m, strict=True)):
        x = 12.0 + k / 10.0
        assert road == pytest.approx(
            (x + 0.1 * (16.0 - x), 12.3)
        )  # as high as a car until it has a class
        assert foot == pytest.approx((road[0] * 10.0, road[1] * 10.0))
    assert track.votes[BUS] == pytest.approx(0.33)  # faint sights have no voice
    tracker.update(0.6, found(((106, 100, 146, 120), 0.2, BUS)))
    assert track.road_m[-1] == pytest.approx((12.6 + 0.2 * 3.4, 11.0 + 0.2 * 13.0))
