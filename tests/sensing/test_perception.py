"""From pictures to tracks, speeds, counts and violations, on scenes whose truth is known by construction."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import supervision as sv
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sensing.scenes import SITE, along, pictures

from headway.sensing import Calibration, CalibrationError, SensingError, Site
from headway.sensing.association import Association
from headway.sensing.detect import CAR, PERSON, TRUCK, OnnxDetector, single
from headway.sensing.measures import predicted
from headway.sensing.motion import MotionDetector
from headway.sensing.pipeline import Perception
from headway.sensing.speed import motions
from headway.sensing.violations import Signals, blurred, lamp_colour, sealed

STOP = {"name": "stop", "px": [[160, 80], [160, 140]], "stop": True, "group": 0}


def site(**more):
    return Site.of(SITE | more)


def look(boxes_at, of=None, seconds=7.0, signals=None, told=(), **how):
    """(perception, all that was seen)."""
    perception, eye = Perception("cam", of or site(), 15.0, signals=signals, **how), MotionDetector(least_px=30)
    for at_s, group, colour in told:
        perception.signals.put(at_s, group, colour)
    seen = []
    for frame in pictures(boxes_at, seconds):
        one = perception.look(frame, eye.begin("cam", frame.image).result())
        seen.append(replace(one, tracks=[copy.copy(t) for t in one.tracks]))  # as they were then
    return perception, seen


def violations(perception, seen):
    return [v for s in seen for v in s.violations] + perception.judge.close()


def test_a_vehicle_is_one_track_with_its_class_and_its_speed():
    _, seen = look(along(speed_px=60.0))
    assert {t.id for s in seen for t in s.tracks} == {0}
    middle = next(t for s in seen for t in s.tracks if s.frame.at_s > 4.4)
    speeds = [t.speed_mps for s in seen[70:85] for t in s.tracks]
    assert np.nanmedian(speeds) == pytest.approx(6.0, abs=0.2)  # 60 px/s at 10 px a metre
    assert middle.kind == CAR
    assert 0.0 < middle.mean_se_mps < 0.3


def test_without_calibration_there_are_counts_and_no_speeds():
    of = Site((320, 240), lines=site(lines=[STOP]).lines)
    perception, seen = look(along(), of)
    assert all(np.isnan(t.speed_mps) for s in seen for t in s.tracks)
    assert sum(perception.measures.counts.values()) == 1
    assert "not calibrated" in of.uncalibrated


def test_who_crosses_a_line_is_counted_once_in_its_direction_and_turns_are_known():
    lines = [STOP, {"name": "end", "px": [[250, 80], [250, 140]]}]
    perception, _ = look(along(), site(lines=lines))
    assert dict(perception.measures.counts) == {("stop", "in", "car"): 1, ("end", "in", "car"): 1}
    assert perception.measures.turns["stop", "end"] == 1
    first = perception.measures.crossings[0]
    assert first.at_s == pytest.approx(1.0 + (160 + 22.5) / 60.0, abs=0.1)  # its middle is at the line
    other, _ = look(lambda t: [(320 - 60 * t, 100, 45, 20, (40, 60, 200))], site(lines=[STOP]))
    assert dict(other.measures.counts) == {("stop", "out", "car"): 1}


def test_queue_occupancy_and_congestion_of_a_lane():
    lane = {"name": "lane", "kind": "lane", "px": [[0, 90], [200, 90], [200, 130], [0, 130]], "heading": [[0, 110], [200, 110]]}
    perception, _ = look(lambda t: along(stop_at=120)(t) + along(stop_at=60, start=-150)(t), site(zones=[lane]), 11.0)
    figures = perception.measures.figures()["lanes"]["lane"]
    assert figures["queue_veh"] == figures["vehicles"] == 2
    assert figures["queue_m"] == pytest.approx(6.0 + 4.5, abs=1.0)
    assert figures["congestion"] == "jam"
    assert 0.5 < figures["occupancy"] < 0.95
    assert perception.measures.heat.sum() > 5.0


def test_flow_is_predicted_from_the_minutes_before():
    assert predicted([10, 10]) is None
    assert predicted([10] * 10) == pytest.approx(600.0)
    rising = predicted([4, 6, 8, 10, 12, 14, 16, 18])
    assert 600.0 < rising < 1500.0
    assert predicted([9, 5, 1, 0, 0, 0, 0]) >= 0.0


def test_an_occlusion_does_not_change_the_id():
    def hidden_for_a_moment(t):
        return [] if 2.4 < t < 3.2 else along()(t)

    _, seen = look(hidden_for_a_moment)
    late = {t.id for s in seen if s.frame.at_s > 5.2 for t in s.tracks if t.box[0] > 200}
    early = {t.id for s in seen if s.frame.at_s < 3.2 for t in s.tracks}
    assert late == early


def test_red_light_with_the_signal_of_that_instant_and_its_evidence():
    told = [(0.0, 0, 4), (2.0, 0, 1)]
    perception, seen = look(along(), site(lines=[STOP]), told=told, key=b"k")
    found = violations(perception, seen)
    assert [v.rule for v in found] == ["red_light"]
    one = found[0]
    assert one.data["red_for_s"] == pytest.approx(one.at_s - 2.0, abs=0.05)
    assert one.confidence > 0.8
    assert [round(at - one.at_s, 1) for at, _ in one.pictures] == pytest.approx([-1.0, 0.0, 1.0], abs=0.2)
    assert all(cv2.imdecode(np.frombuffer(p, np.uint8), cv2.IMREAD_COLOR).shape == (240, 320, 3) for _, p in one.pictures)
    assert one.seal == sealed(one, b"k") != sealed(one, b"another key")
    assert sealed(replace(one, data=one.data | {"red_for_s": 9.0}), b"k") != one.seal
    json.dumps(one.data)


@pytest.mark.parametrize(
    ("told", "boxes", "rules"),
    [
        ([(0.0, 0, 4)], along(), []),
        ([(0.0, 0, 1)], along(stop_at=100), []),  # stops before the line
        ([(0.0, 0, 1), (2.0, 0, 4)], along(), []),  # green when it gets there
        ([(0.0, 0, 4), (3.9, 0, 1)], along(), []),  # red for less than the time of grace
        ([(0.0, 0, 1)], along(stop_at=155), ["stop_line"]),
        ([], along(), []),  # nobody knows the signal
    ],
)
def test_doubt_is_the_drivers(told, boxes, rules):
    perception, seen = look(boxes, site(lines=[STOP]), told=told, seconds=9.0)
    assert [v.rule for v in violations(perception, seen)] == rules


def test_speeding_counts_above_limit_margin_and_error():
    fast = look(along(speed_px=140.0, start=-200), site(rules={"limit_kmh": 40.0}))
    assert [v.rule for v in violations(*fast)] == ["speeding"]
    data = violations(*look(along(speed_px=140.0, start=-200), site(rules={"limit_kmh": 40.0})))[0].data
    assert data["speed_kmh"] == pytest.approx(50.4, abs=1.5)
    assert data["allowed_kmh"] == pytest.approx(43.0)
    assert violations(*look(along(speed_px=118.0, start=-200), site(rules={"limit_kmh": 40.0}))) == []  # 42.5 km/h


def test_wrong_way_blocked_box_illegal_turn_and_forbidden_zone():
    lane = {"name": "lane", "kind": "lane", "px": [[0, 90], [319, 90], [319, 130], [0, 130]], "heading": [[300, 110], [0, 110]]}
    assert [v.rule for v in violations(*look(along(), site(zones=[lane])))] == ["wrong_way"]
    box = {"name": "box", "kind": "box", "px": [[100, 80], [250, 80], [250, 140], [100, 140]]}
    found = violations(*look(along(stop_at=130), site(zones=[box], rules={"blocked_s": 3.0}), 12.0))
    assert [v.rule for v in found] == ["blocked_box"]
    lines = [STOP, {"name": "end", "px": [[250, 80], [250, 140]]}]
    assert [v.rule for v in violations(*look(along(), site(lines=lines, forbidden_turns=[{"from_line": "stop", "to_line": "end"}])))] == [
        "illegal_turn"
    ]
    zone = {"name": "no", "kind": "forbidden", "px": [[100, 80], [250, 80], [250, 140], [100, 140]]}
    assert [v.rule for v in violations(*look(along(), site(zones=[zone])))] == ["forbidden_zone"]


def test_who_drives_on_while_somebody_crosses():
    def both(t):
        return [*along(y=110)(t), (150, 70 + 4 * t, 6, 8, (200, 60, 60))]

    zone = {"name": "zebra", "kind": "crossing", "px": [[120, 60], [210, 60], [210, 150], [120, 150]]}
    perception, seen = look(both, site(zones=[zone]), 8.0)
    assert PERSON in {t.kind for s in seen for t in s.tracks}
    assert "pedestrian_crossing" in {v.rule for v in violations(perception, seen)}


def test_a_lamp_is_read_by_its_hue_and_believed_when_it_stays():
    image = np.full((40, 40, 3), 20, np.uint8)
    for colour, bgr in ((1, (40, 40, 255)), (2, (30, 200, 255)), (4, (90, 220, 60))):
        cv2.circle(image, (20, 20), 8, bgr, -1)
        assert lamp_colour(image, (10, 10, 20, 20)) == colour
    assert lamp_colour(np.full((40, 40, 3), 90, np.uint8), (10, 10, 20, 20)) == 0
    signals = Signals()
    for at, colour in ((0.0, 1), (0.1, 4), (0.2, 1), (0.3, 1), (0.4, 1)):
        signals.look(at, 0, colour)
    assert signals.at(0, 0.45) == (1, pytest.approx(0.25))
    signals.put(0.5, 0, 4)
    for at in (0.6, 0.7, 0.8, 0.9):
        signals.look(at, 0, 1)
    assert signals.at(0, 1.0)[0] == 4  # what is told counts


def test_plates_and_faces_are_not_readable():
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (120, 160, 3)).astype(np.uint8)
    out = blurred(image, [np.array([20, 20, 120, 60])])
    assert (out[:40] == image[:40]).all()
    assert np.abs(np.diff(out[40:60, 20:120].astype(int), axis=1)).mean() < 0.3 * np.abs(np.diff(image[40:60, 20:120].astype(int), axis=1)).mean()


@settings(deadline=None, max_examples=60)
@given(st.floats(5.0, 40.0), st.floats(0.15, 1.2), st.floats(600.0, 2000.0), st.integers(0, 1000))
def test_four_or_more_points_give_the_road_back(height, tilt, focal, seed):
    from headway.sensing.site import _mapped, _tilted

    plane = _tilted(np.array([np.log(focal), tilt, np.log(height)]), (1280, 720))
    random = np.random.default_rng(seed)
    pixels = np.array([[200, 400], [1100, 420], [1000, 690], [150, 650], [640, 560]], np.float64) + random.uniform(-40, 40, (5, 2))
    metres = _mapped(plane, pixels)
    if np.isnan(metres).any():
        return
    found = Calibration.from_points(pixels, metres)
    size = float(np.ptp(metres))
    assert found.error_m < 1e-6 * size
    assert np.abs(found.road(pixels) - metres).max() < 1e-6 * size
    assert np.abs(found.picture(metres) - pixels).max() < 1e-4
    origin = np.array([4_450_000.0, 5_400_000.0])  # as in the grids of surveyors
    assert np.abs(Calibration.from_points(pixels, metres + origin).road(pixels) - metres - origin).max() < 1e-3 * size
    assert Calibration.from_points(pixels[:4], metres[:4]).error_m > 0.0  # what a click that misses by a pixel means


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"points": SITE["points"][:3]}, "four or more"),
        ({"points": [{"px": [k * 10, k * 10], "m": [k, k]} for k in range(5)]}, "one line"),
        ({"points": [{"px": [1, 1], "m": [1, 1]}] * 4}, "same point"),
        ({"lines": [{"name": "a", "px": [[0, 0], [400, 10]]}]}, "outside the picture"),
        ({"lines": [STOP, STOP]}, "occurs twice"),
        ({"forbidden_turns": [{"from_line": "a", "to_line": "b"}]}, "no line 'a'"),
        ({"zones": [{"name": "z", "px": [[0, 0], [1, 1]]}]}, "zones.0.px"),
        ({"rules": {"limit_kmh": -5}}, "limit_kmh"),
        ({"hoogte": 1}, "hoogte"),
    ],
)
def test_a_wrong_site_is_refused_with_the_place(change, says):
    with pytest.raises(CalibrationError, match=says):
        Site.of(SITE | change)


def test_models_that_are_none_are_refused(tmp_path):
    for name, content, says in (("no.onnx", None, "no such model"), ("empty.onnx", b"", "empty"), ("text.onnx", b"hello" * 99, "no ONNX model")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(SensingError, match=says):
            OnnxDetector(tmp_path / name)


def test_what_was_there_at_first_leaves_no_ghost():
    def drives_off(t):
        return [(100 if t < 1.5 else 100 + 60 * (t - 1.5), 100, 45, 20, (40, 60, 200))]

    eye, perception = MotionDetector(least_px=30), Perception("cam", site(), 15.0)
    seen = [perception.look(f, eye.begin("c", f.image).result()) for f in list(pictures(drives_off, 7.0))[15:]]
    assert [len(s.tracks) for s in seen[-5:]] == [0] * 5


def test_long_things_are_trucks():
    _, seen = look(along(w=120, h=26, start=-120))
    assert {t.kind for s in seen[60:75] for t in s.tracks} == {TRUCK}


def test_late_news_of_a_signal_go_where_they_belong_and_stale_ones_accuse_nobody():
    signals = Signals()
    signals.put(10.0, 0, 1)
    signals.put(5.0, 0, 4)
    assert signals.at(0, 7.0) == (4, 2.0)
    assert signals.at(0, 12.0) == (1, 2.0)
    assert signals.at(0, 4.0) is None
    assert signals.at(0, 10.0 + 181.0) is None  # nobody has told anything for minutes
    signals.put(150.0, 0, 1)
    assert signals.at(0, 200.0) == (1, 190.0)


def test_what_flies_above_the_horizon_harms_nothing():
    plane = {"size": [320, 240], "camera_m": [0, 0, 8], "points": [
        {"px": [60, 200], "m": [-5, 12]}, {"px": [260, 200], "m": [5, 12]}, {"px": [200, 120], "m": [8, 40]}, {"px": [120, 120], "m": [-8, 40]},
    ]}  # fmt: skip
    perception, seen = look(along(y=20.0), Site.of(plane))
    assert any(s.tracks for s in seen)
    assert np.isfinite(perception.measures.heat).all()


def crossing_ways(t):
    """Two that meet, one above the other, touch for a second, and part."""
    return [(-60 + 70 * t, 100, 45, 20, (40, 60, 200)), (325 - 70 * t, 118, 45, 20, (200, 160, 60))]


def test_two_who_melt_together_stay_two():
    _, seen = look(crossing_ways, seconds=7.0)
    both = [s for s in seen if 2.2 < s.frame.at_s - 1.0 < 3.4]
    assert [len(s.tracks) for s in both] == [2] * len(both)
    assert {t.id for s in seen for t in s.tracks} == {0, 1}
    for s in both:
        true = sorted(x + w / 2 for x, _, w, _, _ in crossing_ways(s.frame.at_s - 1.0))
        assert sorted((t.box[0] + t.box[2]) / 2 for t in s.tracks) == pytest.approx(true, abs=5.0)
    first, last = ({t.id: t.box[0] for t in s.tracks} for s in (both[0], both[-1]))
    assert sorted(np.sign(last[k] - first[k]) for k in first) == [-1.0, 1.0]  # nobody has turned round


def test_what_lights_up_on_the_spot_is_nobody_to_be_told_apart_and_is_the_street_after_a_while():
    def lamp_and_car(t):
        return [(150, 102, 12, 12, (40, 220, 40)), *along(y=100)(t - 2.0)] if t > 0.5 else []

    _, seen = look(lamp_and_car, seconds=9.0)
    passing = [t for s in seen if 5.3 < s.frame.at_s < 6.6 for t in s.tracks if t.box[2] - t.box[0] > 30]
    assert len({t.id for t in passing}) == 1
    eye = MotionDetector(least_px=30)
    found = [eye.begin("c", f.image).result() for f in pictures(lambda t: [(150, 100, 12, 12, (40, 220, 40))] if t > 0.5 else [], 50.0)]
    assert len(found[60]) == 1
    assert len(found[-1]) == 0


def test_another_light_begins_the_background_anew():
    eye, dark = MotionDetector(least_px=30), list(pictures(lambda t: [], 3.0))
    found = [eye.begin("c", f.image).result() for f in dark] + [eye.begin("c", cv2.add(f.image, (70, 70, 70, 0))).result() for f in dark]
    assert len(found[len(dark) - 1]) == 0
    assert [len(f) for f in found[-10:]] == [0] * 10


@settings(max_examples=40, deadline=None)
@given(st.floats(2.0, 20.0), st.floats(8.0, 60.0), st.floats(0.0, 6.3), st.integers(8, 30), st.integers(0, 9))
def test_the_way_round_a_bend_is_measured_in_full(speed, radius, heading, points, seed):
    t = np.linspace(-1.0, 0.0, points)
    angle = heading + speed * t / radius
    xy = radius * np.c_[np.sin(angle), np.cos(angle)] + np.random.default_rng(seed).normal(0.0, 0.005, (points, 2))
    of = motions(t[None], xy[None], np.array([points]))
    assert of.mean_mps[0] == pytest.approx(speed, rel=0.02, abs=0.03)


def test_the_standard_error_of_a_speed_tells_how_far_off_it_is():
    t, random = np.linspace(-1.0, 0.0, 16), np.random.default_rng(1)
    xy = np.zeros((2000, 16, 2))
    xy[:, :, 0] = 12.0 * t
    of = motions(np.tile(t, (2000, 1)), xy + random.normal(0.0, 0.08, xy.shape), np.full(2000, 16))
    off = (of.mean_mps - 12.0) / of.mean_se_mps
    assert 0.8 < off.std() < 1.25
    assert abs(of.mean_mps.mean() - 12.0) < 0.05


def detections(*rows):
    table = np.array(rows, np.float64).reshape(-1, 6)
    return sv.Detections(xyxy=table[:, :4], confidence=table[:, 4].astype(np.float32), class_id=table[:, 5].astype(int))


def test_who_is_faint_but_steady_is_followed_from_the_first_sight():
    names, told = Association(20.0), []
    for k in range(9):
        told += names.match(k / 20.0, detections((100 + k, 100, 150 + k, 130, 0.2, CAR)))
    assert {s.track for s in told} == {told[0].track}
    assert [round(at_s * 20) for at_s, _ in told[0].before] == list(range(len(told[0].before)))
    assert len(told[0].before) + len(told) == 9
    assert not any(Association(20.0).match(k / 20.0, detections((100 + 90 * k, 100, 150 + 90 * k, 130, 0.2, CAR))) for k in range(9))


def test_a_name_outlives_a_track_that_breaks():
    names = Association(20.0)
    for k in range(10):
        first = [s.track for s in names.match(k / 20.0, detections((100, 100, 200, 180, 0.8, TRUCK)))]
    assert names.match(0.5, detections()) == []
    assert [s.track for s in names.match(0.55, detections((152, 105, 200, 178, 0.8, CAR)))] == first  # only its cab is seen
    assert [s.track for s in names.match(0.6, detections((100, 100, 200, 180, 0.8, TRUCK)))] == first


def test_of_a_whole_and_its_parts_the_whole_is_kept_unless_it_is_far_less_sure():
    boxes, groups = np.array([[0, 0, 100, 50], [50, 0, 100, 50], [300, 0, 340, 30.0]]), np.zeros(3, int)
    assert single(boxes, np.array([0.5, 0.8, 0.3]), groups, 0.45).tolist() == [0, 2]
    assert single(boxes, np.array([0.2, 0.8, 0.3]), groups, 0.45).tolist() == [1, 2]
    assert single(boxes, np.array([0.5, 0.8, 0.3]), np.array([0, 1, 0]), 0.45).tolist() == [0, 1, 2]


def test_a_background_from_all_over_a_clip_shows_who_stands_there_at_first():
    frames = list(pictures(lambda t: [(100 if t < 1.5 else 100 + 60 * (t - 1.5), 100, 45, 20, (40, 60, 200))], 8.0))[15:]
    eye = MotionDetector(least_px=30)
    eye.learn("c", [f.image for f in frames[::8]])
    assert eye.begin("c", frames[0].image).result().xyxy[0] == pytest.approx([100, 100, 145, 120], abs=4.0)
    assert len(eye.begin("c", frames[-1].image).result()) == 0


def test_a_window_as_dark_as_a_shadow_does_not_cut_a_vehicle_in_two():
    def car(x, y, colour):
        shadow = (52, 52, 52)
        return [(x, y + 20, 42, 10, shadow), (x, y, 21, 20, colour), (x + 21, y, 7, 20, shadow), (x + 28, y, 14, 20, colour)]

    def two_behind_one_another_and_one_beside(t):
        x = -45 + 60 * t
        return car(x, 100, (60, 190, 200)) + car(x - 60, 100, (190, 60, 40)) + car(x, 130, (40, 60, 200))

    _, seen = look(two_behind_one_another_and_one_beside, seconds=7.0)
    widths = [[round(float(t.box[2] - t.box[0])) for t in s.tracks] for s in seen if 4.4 < s.frame.at_s < 5.2]
    assert [len(w) for w in widths] == [3] * len(widths)
    assert all(w == pytest.approx(42, abs=4) for at in widths for w in at)
    assert len({t.id for s in seen if 4.4 < s.frame.at_s < 5.2 for t in s.tracks}) == 3
