"""From frames to tracks, speeds, counts and violations,
on scenes whose ground truth is known by construction.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from tests.sensing.scenes import SITE, along, scene_frames

from headway.sensing import SensingError, Site
from headway.sensing.pipeline import Perception
from headway.sensing.traffic.evidence import seal_of
from headway.vision.detection.detectors import CAR, PERSON, TRUCK, OnnxDetector, one_box_each
from headway.vision.detection.motion import MotionDetector

pytestmark = pytest.mark.slow

STOP = {"name": "stop", "px": [[160, 80], [160, 140]], "stop": True, "group": 0}


def site(**more):
    return Site.from_tree(SITE | more)


def look(boxes_at, of=None, seconds=7.0, signals=None, reported=(), **how):
    """(perception, all that was seen)."""
    perception = Perception("cam", of or site(), 15.0, signals=signals, **how)
    detector = MotionDetector(least_px=30)
    for at_s, group, colour in reported:
        perception.signals.record(at_s, group, colour)
    observed = []
    for frame in scene_frames(boxes_at, seconds):
        one = perception.process(frame, detector.begin("cam", frame.image).result())
        observed.append(
            replace(one, tracks=[copy.copy(t) for t in one.tracks])
        )  # as they were then
    return perception, observed


def violations(perception, observed):
    return [v for s in observed for v in s.violations] + perception.violation_detector.close()


def test_a_vehicle_is_one_track_with_its_class_and_its_speed():
    _, observed = look(along(speed_px=60.0))
    assert {t.id for s in observed for t in s.tracks} == {0}
    middle = next(t for s in observed for t in s.tracks if s.frame.at_s > 4.4)
    speeds = [t.speed_mps for s in observed[70:85] for t in s.tracks]
    assert np.nanmedian(speeds) == pytest.approx(6.0, abs=0.2)  # 60 px/s at 10 px a metre
    assert middle.kind == CAR
    assert 0.0 < middle.mean_se_mps < 0.3


def test_without_calibration_there_are_counts_and_no_speeds():
    of = Site((320, 240), lines=site(lines=[STOP]).lines)
    perception, observed = look(along(), of)
    assert all(np.isnan(t.speed_mps) for s in observed for t in s.tracks)
    assert sum(perception.measures.counts.values()) == 1
    assert "not calibrated" in of.uncalibrated


def test_a_crossing_is_counted_once_in_its_direction_and_turns_are_counted():
    lines = [STOP, {"name": "end", "px": [[250, 80], [250, 140]]}]
    perception, _ = look(along(), site(lines=lines))
    assert dict(perception.measures.counts) == {("stop", "in", "car"): 1, ("end", "in", "car"): 1}
    assert perception.measures.turns["stop", "end"] == 1
    first = perception.measures.crossings[0]
    assert first.at_s == pytest.approx(
        1.0 + (160 + 22.5) / 60.0, abs=0.1
    )  # its middle is at the line
    other, _ = look(lambda t: [(320 - 60 * t, 100, 45, 20, (40, 60, 200))], site(lines=[STOP]))
    assert dict(other.measures.counts) == {("stop", "out", "car"): 1}


def test_queue_occupancy_and_congestion_of_a_lane():
    lane = {
        "name": "lane",
        "kind": "lane",
        "px": [[0, 90], [200, 90], [200, 130], [0, 130]],
        "heading": [[0, 110], [200, 110]],
    }
    perception, _ = look(
        lambda t: along(stop_at=120)(t) + along(stop_at=60, start=-150)(t), site(zones=[lane]), 11.0
    )
    figures = perception.measures.figures()["lanes"]["lane"]
    assert figures["queue_veh"] == figures["vehicles"] == 2
    assert figures["queue_m"] == pytest.approx(6.0 + 4.5, abs=1.0)
    assert figures["congestion"] == "jam"
    assert 0.5 < figures["occupancy"] < 0.95
    assert perception.measures.heat.sum() > 5.0


def test_an_occlusion_does_not_change_the_id():
    def hidden_for_a_moment(t):
        return [] if 2.4 < t < 3.2 else along()(t)

    _, observed = look(hidden_for_a_moment)
    late = {t.id for s in observed if s.frame.at_s > 5.2 for t in s.tracks if t.box[0] > 200}
    early = {t.id for s in observed if s.frame.at_s < 3.2 for t in s.tracks}
    assert late == early


def test_red_light_with_the_signal_of_that_instant_and_its_evidence():
    reported = [(0.0, 0, 4), (2.0, 0, 1)]
    perception, observed = look(along(), site(lines=[STOP]), reported=reported, key=b"k")
    found = violations(perception, observed)
    assert [v.rule for v in found] == ["red_light"]
    one = found[0]
    assert one.data["red_for_s"] == pytest.approx(one.data["front_over_line_s"] - 2.0, abs=0.05)
    # its middle follows its front by 22.5 px at 60 px/s
    assert one.at_s - one.data["front_over_line_s"] == pytest.approx(0.375, abs=0.1)
    assert 0.7 < one.confidence <= 0.9
    assert [round(at - one.at_s, 1) for at, _ in one.images] == pytest.approx(
        [-1.0, 0.0, 1.0], abs=0.2
    )
    assert all(
        cv2.imdecode(np.frombuffer(p, np.uint8), cv2.IMREAD_COLOR).shape == (240, 320, 3)
        for _, p in one.images
    )
    assert one.seal == seal_of(one, b"k") != seal_of(one, b"another key")
    assert seal_of(replace(one, data=one.data | {"red_for_s": 9.0}), b"k") != one.seal
    json.dumps(one.data)


@pytest.mark.parametrize(
    ("reported", "boxes", "rules"),
    [
        ([(0.0, 0, 4)], along(), []),
        ([(0.0, 0, 1)], along(stop_at=100), []),  # stops before the line
        ([(0.0, 0, 1), (2.0, 0, 4)], along(), []),  # green when it gets there
        ([(0.0, 0, 4), (3.9, 0, 1)], along(), []),  # red for less than the time of grace
        ([(0.0, 0, 1)], along(stop_at=155), ["stop_line"]),
        ([], along(), []),  # nobody knows the signal
    ],
)
def test_in_doubt_no_red_light_violation_is_reported(reported, boxes, rules):
    perception, observed = look(boxes, site(lines=[STOP]), reported=reported, seconds=9.0)
    assert [v.rule for v in violations(perception, observed)] == rules


def test_speeding_is_reported_above_limit_margin_and_error():
    fast = look(along(speed_px=140.0, start=-200), site(rules={"limit_kmh": 40.0}))
    assert [v.rule for v in violations(*fast)] == ["speeding"]
    data = violations(*look(along(speed_px=140.0, start=-200), site(rules={"limit_kmh": 40.0})))[
        0
    ].data
    assert data["speed_kmh"] == pytest.approx(50.4, abs=1.5)
    assert data["allowed_kmh"] == pytest.approx(43.0)
    assert (
        violations(*look(along(speed_px=118.0, start=-200), site(rules={"limit_kmh": 40.0}))) == []
    )  # 42.5 km/h


def test_wrong_way_blocked_box_illegal_turn_and_forbidden_zone():
    lane = {
        "name": "lane",
        "kind": "lane",
        "px": [[0, 90], [319, 90], [319, 130], [0, 130]],
        "heading": [[300, 110], [0, 110]],
    }
    assert [v.rule for v in violations(*look(along(), site(zones=[lane])))] == ["wrong_way"]
    box = {"name": "box", "kind": "box", "px": [[100, 80], [250, 80], [250, 140], [100, 140]]}
    found = violations(*look(along(stop_at=130), site(zones=[box], rules={"blocked_s": 3.0}), 12.0))
    assert [v.rule for v in found] == ["blocked_box"]
    lines = [STOP, {"name": "end", "px": [[250, 80], [250, 140]]}]
    assert [
        v.rule
        for v in violations(
            *look(
                along(),
                site(lines=lines, forbidden_turns=[{"from_line": "stop", "to_line": "end"}]),
            )
        )
    ] == ["illegal_turn"]
    zone = {"name": "no", "kind": "forbidden", "px": [[100, 80], [250, 80], [250, 140], [100, 140]]}
    assert [v.rule for v in violations(*look(along(), site(zones=[zone])))] == ["forbidden_zone"]


def test_driving_over_a_crossing_while_a_pedestrian_is_on_it_is_reported():
    def both(t):
        return [*along(y=110)(t), (150, 70 + 4 * t, 6, 8, (200, 60, 60))]

    zone = {
        "name": "zebra",
        "kind": "crossing",
        "px": [[120, 60], [210, 60], [210, 150], [120, 150]],
    }
    perception, observed = look(both, site(zones=[zone]), 8.0)
    assert PERSON in {t.kind for s in observed for t in s.tracks}
    assert "pedestrian_crossing" in {v.rule for v in violations(perception, observed)}


def test_files_that_are_no_models_are_refused(tmp_path):
    for name, content, says in (
        ("no.onnx", None, "no such model"),
        ("empty.onnx", b"", "empty"),
        ("text.onnx", b"hello" * 99, "no ONNX model"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(SensingError, match=says):
            OnnxDetector(tmp_path / name)


def test_a_vehicle_there_from_the_start_leaves_no_ghost():
    def drives_off(t):
        return [(100 if t < 1.5 else 100 + 60 * (t - 1.5), 100, 45, 20, (40, 60, 200))]

    detector, perception = MotionDetector(least_px=30), Perception("cam", site(), 15.0)
    observed = [
        perception.process(f, detector.begin("c", f.image).result())
        for f in list(scene_frames(drives_off, 7.0))[15:]
    ]
    assert [len(s.tracks) for s in observed[-5:]] == [0] * 5


def test_long_objects_are_trucks():
    _, observed = look(along(w=120, h=26, start=-120))
    assert {t.kind for s in observed[60:75] for t in s.tracks} == {TRUCK}


def test_detections_above_the_horizon_break_nothing():
    plane = {"size": [320, 240], "camera_m": [0, 0, 8], "points": [
        {"px": [60, 200], "m": [-5, 12]}, {"px": [260, 200], "m": [5, 12]},
        {"px": [200, 120], "m": [8, 40]}, {"px": [120, 120], "m": [-8, 40]},
    ]}  # fmt: skip
    perception, observed = look(along(y=20.0), Site.from_tree(plane))
    assert any(s.tracks for s in observed)
    assert np.isfinite(perception.measures.heat).all()


def crossing_ways(t):
    """Two that meet, one above the other, touch for a second, and part."""
    return [(-60 + 70 * t, 100, 45, 20, (40, 60, 200)), (325 - 70 * t, 118, 45, 20, (200, 160, 60))]


def test_merged_blobs_of_two_vehicles_stay_two_tracks():
    _, observed = look(crossing_ways, seconds=7.0)
    both = [s for s in observed if 2.2 < s.frame.at_s - 1.0 < 3.4]
    assert [len(s.tracks) for s in both] == [2] * len(both)
    assert {t.id for s in observed for t in s.tracks} == {0, 1}
    for s in both:
        true = sorted(x + w / 2 for x, _, w, _, _ in crossing_ways(s.frame.at_s - 1.0))
        assert sorted((t.box[0] + t.box[2]) / 2 for t in s.tracks) == pytest.approx(true, abs=5.0)
    first, last = ({t.id: t.box[0] for t in s.tracks} for s in (both[0], both[-1]))
    assert sorted(np.sign(last[k] - first[k]) for k in first) == [
        -1.0,
        1.0,
    ]  # nobody has turned round


def test_a_light_that_appears_on_the_spot_is_not_separated_and_becomes_background():
    def lamp_and_car(t):
        return [(150, 102, 12, 12, (40, 220, 40)), *along(y=100)(t - 2.0)] if t > 0.5 else []

    _, observed = look(lamp_and_car, seconds=9.0)
    passing = [
        t
        for s in observed
        if 5.3 < s.frame.at_s < 6.6
        for t in s.tracks
        if t.box[2] - t.box[0] > 30
    ]
    assert len({t.id for t in passing}) == 1
    detector = MotionDetector(least_px=30)
    found = [
        detector.begin("c", f.image).result()
        for f in scene_frames(
            lambda t: [(150, 100, 12, 12, (40, 220, 40))] if t > 0.5 else [], 50.0
        )
    ]
    assert len(found[60]) == 1
    assert len(found[-1]) == 0


def test_a_change_of_light_restarts_the_background():
    detector, dark = MotionDetector(least_px=30), list(scene_frames(lambda t: [], 3.0))
    found = [detector.begin("c", f.image).result() for f in dark] + [
        detector.begin("c", cv2.add(f.image, (70, 70, 70, 0))).result() for f in dark
    ]
    assert len(found[len(dark) - 1]) == 0
    assert [len(f) for f in found[-10:]] == [0] * 10


def test_of_a_whole_and_its_parts_the_whole_is_kept_unless_it_is_far_less_confident():
    boxes = np.array([[0, 0, 100, 50], [50, 0, 100, 50], [300, 0, 340, 30.0]])
    groups = np.zeros(3, int)
    assert one_box_each(boxes, np.array([0.5, 0.8, 0.3]), groups, 0.45).tolist() == [0, 2]
    assert one_box_each(boxes, np.array([0.2, 0.8, 0.3]), groups, 0.45).tolist() == [1, 2]
    assert one_box_each(boxes, np.array([0.5, 0.8, 0.3]), np.array([0, 1, 0]), 0.45).tolist() == [
        0,
        1,
        2,
    ]


def test_with_a_background_from_a_whole_clip_vehicles_stopped_at_its_start_are_detected():
    frames = list(
        scene_frames(
            lambda t: [(100 if t < 1.5 else 100 + 60 * (t - 1.5), 100, 45, 20, (40, 60, 200))], 8.0
        )
    )[15:]
    detector = MotionDetector(least_px=30)
    detector.learn("c", [f.image for f in frames[::8]])
    assert detector.begin("c", frames[0].image).result().xyxy[0] == pytest.approx(
        [100, 100, 145, 120], abs=4.0
    )
    assert len(detector.begin("c", frames[-1].image).result()) == 0


def test_a_window_as_dark_as_a_shadow_does_not_split_a_vehicle():
    def car(x, y, colour):
        shadow = (52, 52, 52)
        return [
            (x, y + 20, 42, 10, shadow),
            (x, y, 21, 20, colour),
            (x + 21, y, 7, 20, shadow),
            (x + 28, y, 14, 20, colour),
        ]

    def two_behind_one_another_and_one_beside(t):
        x = -45 + 60 * t
        return (
            car(x, 100, (60, 190, 200))
            + car(x - 60, 100, (190, 60, 40))
            + car(x, 130, (40, 60, 200))
        )

    _, observed = look(two_behind_one_another_and_one_beside, seconds=7.0)
    widths = [
        [round(float(t.box[2] - t.box[0])) for t in s.tracks]
        for s in observed
        if 4.4 < s.frame.at_s < 5.2
    ]
    assert [len(w) for w in widths] == [3] * len(widths)
    assert all(w == pytest.approx(42, abs=4) for at in widths for w in at)
    assert len({t.id for s in observed if 4.4 < s.frame.at_s < 5.2 for t in s.tracks}) == 3
