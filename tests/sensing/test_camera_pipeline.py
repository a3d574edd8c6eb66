"""From a frame to its result; and a source processed in order while its frames
are detected in parallel.
"""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
import supervision as sv
from tests.sensing.hand_made import GREY, SIZE, road_user, site

from headway.sensing import SensingError, pipeline
from headway.sensing.pipeline import AHEAD, Perception, frame_results, track_to_json, unknown_site
from headway.sensing.traffic.signals import SignalHistory
from headway.vision.detection.detectors import BUS, CAR
from headway.vision.frames.sources import Frame


def found(*boxes, kind=CAR):
    return sv.Detections(
        xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        confidence=np.full(len(boxes), 0.9, np.float32),
        class_id=np.full(len(boxes), kind),
    )


def looked(perception, *boxes, frames=4):
    """What the last of some frames tells that show the same."""
    for k in range(frames):
        observed = perception.process(Frame(k / 10.0, k, GREY), found(*boxes))
    return observed


LAMP = {"group": 0, "px": [100, 100, 10, 20]}  # its middle is at (105, 110)


@pytest.mark.parametrize(
    ("off", "size", "is_lamp"),
    [
        ((0, 0), (24, 40), True), ((9.5, 0), (24, 40), True), ((10, 0), (24, 40), False),
        ((-9.5, 0), (24, 40), True), ((-10, 0), (24, 40), False),
        ((0, 19.5), (24, 40), True), ((0, 20), (24, 40), False), ((0, -19.5), (24, 40), True),
        ((0, -20), (24, 40), False),
        ((0, 0), (24.5, 49.5), True), ((0, 0), (25, 40), False), ((0, 0), (24, 50), False),
        ((9, 19), (24, 49), True), ((40, 0), (24, 40), False),
    ],
)  # fmt: skip
def test_a_detection_on_a_lamp_smaller_than_two_and_a_half_lamps_is_no_road_user(
    off, size, is_lamp
):
    """Its middle is less than the lamp's width and height from the lamp's middle."""
    x, y = 105 + off[0], 110 + off[1]
    box = (x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)
    other = (200, 150, 240, 170)
    far = {"group": 1, "px": [20, 20, 10, 10]}
    for lamps in ([LAMP], [LAMP, far], [far, LAMP]):
        observed = looked(Perception("cam", site(lamps=lamps), 10.0), box, other)
        assert (len(observed.tracks), observed.detections) == (1 if is_lamp else 2, 2)
    observed = looked(Perception("cam", site(), 10.0), box, other)
    assert (len(observed.tracks), observed.detections) == (2, 2)


def test_an_empty_frame_gives_an_empty_result():
    perception = Perception("cam", site(lamps=[LAMP]), 10.0)
    observed = looked(perception)
    assert (
        observed.tracks,
        observed.detections,
        observed.crossings,
        observed.violations,
        observed.perception,
    ) == (
        [],
        0,
        [],
        [],
        perception,
    )
    assert observed.frame.at_s == 0.3


def test_a_perception_gives_its_parts_what_they_need(monkeypatch):
    asked = {}
    for name in ("Tracker", "Measures", "ViolationDetector"):
        monkeypatch.setattr(
            pipeline,
            name,
            lambda *words, name=name, **named: asked.update({name: named or words}) or name,
        )
    of, signals = site(), SignalHistory()
    perception = Perception("north", of, 12.5, b"key", False, signals)
    assert asked == {
        "Tracker": (of.calibration, 12.5, SIZE), "Measures": (of,),
        "ViolationDetector": {"device": "north", "site": of, "measures": "Measures",
            "signals": signals, "key": b"key", "blur": False},
    }  # fmt: skip
    assert (perception.site, perception.signals) == (of, signals)
    plain_one = Perception("north", of, 12.5)
    assert (asked["ViolationDetector"]["key"], asked["ViolationDetector"]["blur"]) == (b"", True)
    assert plain_one.signals is asked["ViolationDetector"]["signals"]
    assert isinstance(plain_one.signals, SignalHistory)


def test_a_frame_goes_from_tracks_over_crossings_to_violations():
    """Each part gets what the one before told, and the time of the frame."""
    perception, reported = Perception("cam", site(), 10.0), []
    perception.tracker = SimpleNamespace(update=lambda *w: reported.append(w) or ["track"])
    perception.measures = SimpleNamespace(update=lambda *w: reported.append(w) or ["crossing"])
    perception.violation_detector = SimpleNamespace(
        update=lambda *w: reported.append(w) or ["violation"]
    )
    frame, boxes = Frame(2.5, 7, GREY), found((0, 0, 9, 9), (20, 20, 29, 29))
    observed = perception.process(frame, boxes)
    assert reported == [(2.5, boxes), (2.5, ["track"]), (2.5, GREY, ["track"], ["crossing"])]
    assert (observed.frame, observed.detections, observed.tracks, observed.crossings,
        observed.violations, observed.perception) == (
        frame, 2, ["track"], ["crossing"], ["violation"], perception,
    )  # fmt: skip


def test_a_track_as_json():
    """10.123 m/s are 36.4428 km/h, 0.0567 m/s 0.20412 km/h."""
    track = road_user(
        7,
        BUS,
        at_s=9.0,
        stopped_since_s=7.749,
        confidence=0.87654,
        speed_mps=10.123,
        mean_se_mps=0.0567,
        coasting=True,
    )
    track.box = np.array([1.04, 2.06, 3.0, 4.96])
    assert track_to_json(track) == {
        "id": 7, "class": "bus", "confidence": 0.877, "box": [1.0, 2.1, 3.0, 5.0],
        "speed_kmh": 36.44, "stopped_s": 1.3, "standing_s": 1.3, "standard_error_kmh": 0.2,
        "coasting": True,
    }  # fmt: skip
    unknown = track_to_json(road_user(7, CAR))
    assert (
        unknown["speed_kmh"],
        unknown["standard_error_kmh"],
        unknown["stopped_s"],
        unknown["standing_s"],
        unknown["coasting"],
    ) == (None, None, 0.0, 0.0, False)


def test_an_unknown_site_has_only_its_size():
    of = unknown_site((64, 48))
    assert (of.size, of.calibration, of.lines, of.zones, of.lamps) == ((64, 48), None, (), (), ())


# -- watching a source


class FakeDetector:
    """A detector that is asked: `begun` what, `forgot` whom. Its answers are there at once."""

    runs_on = ""

    def __init__(self, threads=1):
        self.threads, self.begun, self.forgot = threads, [], []

    def begin(self, key, image):
        self.begun.append((key, int(image[0, 0, 0])))
        answer = Future()
        answer.set_result(found((10, 10, 40, 30)))
        return answer

    def forget(self, key):
        self.forgot.append(key)


class FakeSource:
    def __init__(self, count, fault=None, nominal_hz=8.0):
        self.count, self.fault, self.nominal_hz = count, fault, nominal_hz

    def frames(self):
        for k in range(self.count):
            yield Frame(k / 8.0, k, np.full((48, 64, 3), k, np.uint8))
        if self.fault:
            raise self.fault


@pytest.mark.parametrize("threads", [1, 3])
def test_a_source_is_watched_in_order_with_two_frames_more_in_flight_than_there_are_threads(
    threads,
):
    assert AHEAD == 2
    detector = FakeDetector(threads)
    ahead = []
    for k, observed in enumerate(frame_results(FakeSource(9), detector)):
        assert (observed.frame.number, observed.detections) == (k, 1)
        ahead.append(len(detector.begun) - k)
    assert ahead == [min(threads + 2, 9 - k) for k in range(9)]
    assert detector.begun == [("camera", k) for k in range(9)]
    assert detector.forgot == ["camera"]


@pytest.mark.parametrize(("nominal", "rate"), [(8.0, 8.0), (0.0, 15.0)])
def test_without_a_perception_one_is_made_from_the_first_frame(monkeypatch, nominal, rate):
    asked = []

    class Made:
        def __init__(self, *words):
            asked.append(words)

        def process(self, frame, boxes):
            return frame.number

    monkeypatch.setattr(pipeline, "Perception", Made)
    detector = FakeDetector()
    assert list(frame_results(FakeSource(3, nominal_hz=nominal), detector, device="north")) == [
        0,
        1,
        2,
    ]
    assert asked == [("north", unknown_site((64, 48)), rate)]
    assert (detector.begun[0][0], detector.forgot) == ("north", ["north"])


def test_a_given_perception_is_used():
    perception = Perception("cam", site(size=(64, 48)), 8.0)
    assert [
        observed.perception for observed in frame_results(FakeSource(2), FakeDetector(), perception)
    ] == [perception] * 2


def test_requests_to_the_detector_are_forgotten_when_the_source_fails():
    detector = FakeDetector()
    with pytest.raises(SensingError, match="broken"):
        list(frame_results(FakeSource(2, SensingError("broken")), detector))
    assert detector.forgot == ["camera"]


def test_an_empty_source_gives_no_results():
    detector = FakeDetector()
    assert list(frame_results(FakeSource(0), detector)) == []
    assert (detector.begun, detector.forgot) == ([], ["camera"])
