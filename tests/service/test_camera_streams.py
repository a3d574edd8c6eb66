"""Many cameras, step by step: with detectors, sources and clocks made by hand."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import supervision as sv
from tests.sensing.hand_made import SIZE, road_user, site, ten_px_a_metre
from tests.waiting import until

from headway.sensing import SensingError
from headway.sensing.output.overlay import drawn, jpeg
from headway.sensing.pipeline import FrameResult, Perception, track_to_json
from headway.sensing.traffic.evidence import Violation
from headway.sensing.traffic.signals import SignalHistory
from headway.sensing.traffic.site import Site
from headway.service import camera_streams
from headway.service.camera_streams import (
    FAULTS,
    Makers,
    Stream,
    StreamManager,
    StreamSettings,
)
from headway.vision.frames.sources import Frame, SourceHealth, SourceSettings


def violation(at_s, rule="speeding", track=3):
    return Violation(f"{rule}{at_s}", at_s, "a", rule, 0.9, {"track": track}, (), "")


LAST = violation(9.0, track=7)


class ASource:
    """Its frames are put in by the test."""

    def __init__(self, settings):
        self.settings = settings
        self.health = SourceHealth("running")
        self.on_change = None
        self.nominal_hz = 8.0
        self.frames, self.calls, self.asked = [], [], []

    @property
    def waiting(self):
        return len(self.frames)

    def start(self):
        self.calls.append("start")

    def stop(self):
        self.calls.append("stop")

    def take(self, timeout_s):
        self.asked.append(timeout_s)
        return self.frames.pop(0)


class AnEye:
    """Its answers are given by the test."""

    runs_on = "an eye"

    def __init__(self, threads=1):
        self.threads, self.asked, self.forgot = threads, [], []

    def begin(self, key, image):
        self.asked.append((key, int(image[0, 0, 0]), Future()))
        return self.asked[-1][2]

    def forget(self, key):
        self.forgot.append(key)


class APerception:
    def __init__(self, device, site, rate_hz, key, blur, signals, violations=True):
        self.words, self.site = (device, site, rate_hz, key, blur, signals), site
        self.finds_violations = violations
        self.measures = SimpleNamespace(figures=lambda: {"seconds": 3.0})
        left = [LAST]
        self.violation_detector = SimpleNamespace(
            reported=2, close=lambda: [left.pop()] if left else []
        )
        self.finds, self.looked = [], []

    def process(self, frame, found):
        self.looked.append((frame, found))
        return FrameResult(frame, 1, [], ["crossing"], list(self.finds), self)


@pytest.fixture
def world():
    """The clock `now`, the detectors by name, and `manager(...)`;
    `go()` lets the manager work until nothing moves.
    """
    at = SimpleNamespace(
        now=100.0, detectors={"motion": AnEye()}, published=[], models=[], drawn=drawn
    )

    def model(path, threads):
        at.models.append((path, threads))
        return at.detectors.setdefault(str(path), AnEye())

    at.make_model = model
    makers = Makers(
        source=ASource,
        perception=APerception,
        motion_detector=lambda: at.detectors["motion"],
        onnx_detector=lambda path, threads: at.make_model(path, threads),
        draw=lambda *what: at.drawn(*what),
        encode=lambda image: image.encode() if isinstance(image, str) else jpeg(image),
        clock=lambda: at.now,
        wall_clock=lambda: at.now + 1e9,
    )

    def manager(*words, **how):
        at.of = StreamManager(*words, **how, makers=makers, background=False)
        return at.of

    def go():
        while at.of.step():
            pass

    def camera(name, **how):
        stream = at.of.add(StreamSettings(name, SourceSettings(f"rtsp://{name}"), **how))
        at.of.start(name)
        return stream

    at.manager, at.go, at.camera = manager, go, camera
    return at


def frame(k=0, at_s=None, decoded_s=100.0, size=SIZE):
    return Frame(
        k / 8.0 if at_s is None else at_s, k, np.full((size[1], size[0], 3), k, np.uint8), decoded_s
    )


def answer(fake_detector, which=-1, value="found"):
    fake_detector.asked[which][2].set_result(value)


# -- adding, starting, stopping


@pytest.mark.parametrize(
    ("how", "policy"),
    [
        ({"url": "a.mp4"}, "auto"), ({"url": "a.mp4", "paced": True}, "latest"),
        ({"url": "rtsp://a"}, "latest"), ({"url": "rtsp://a", "policy": "queue"}, "queue"),
        ({"url": "a.mp4", "policy": "latest"}, "latest"),
        ({"url": "a.mp4", "paced": True, "policy": "queue"}, "queue"),
    ],
)  # fmt: skip
def test_of_a_live_or_paced_source_the_newest_frame_is_taken(world, how, policy):
    settings = StreamSettings("a", SourceSettings(**how))
    stream = world.manager().add(settings)
    assert (stream.source.settings.policy, stream.settings, stream.running) == (
        policy,
        settings,
        False,
    )
    assert world.of.streams == {"a": stream}


def test_an_id_that_is_taken_is_refused(world):
    world.manager().add(StreamSettings("a", SourceSettings("x.mp4")))
    with pytest.raises(
        SensingError, match=r"^stream 'a' is there already\. Delete it first, or take another id\.$"
    ):
        world.of.add(StreamSettings("a", SourceSettings("y.mp4")))


def test_a_model_is_loaded_once_and_a_stream_that_needs_none_is_not_kept_waiting(
    world,
):
    of = world.manager(threads=3)
    for name in ("a", "b"):
        of.add(StreamSettings(name, SourceSettings("x.mp4"), "m.onnx"))
    of.add(StreamSettings("c", SourceSettings("x.mp4")))
    assert world.models == [(Path("m.onnx"), 3)]
    assert [of.streams[name].state()["runs_on"] for name in "abc"] == ["an eye"] * 3

    def no_model(path, threads):
        raise SensingError("no such model")

    world.make_model = no_model
    with pytest.raises(SensingError, match="no such model"):
        of.add(StreamSettings("d", SourceSettings("x.mp4"), "n.onnx"))
    assert set(of.streams) == {"a", "b", "c"}


def test_a_model_may_use_all_processors_and_nothing_is_sealed_where_nothing_else_is_said(world):
    world.manager()
    stream = world.camera("a", detector="m.onnx", site=site())
    stream.source.frames = [frame()]
    world.go()
    answer(world.detectors["m.onnx"])
    world.go()
    assert world.models == [(Path("m.onnx"), 0)]
    assert stream.perception.words[3:5] == (b"", True)
    assert (stream.processed, world.published) == (1, [])


def test_a_stream_starts_anew(world):
    of = world.manager()
    stream = of.add(StreamSettings("a", SourceSettings("rtsp://a")))
    stream.perception = "p"
    stream.result = "s"
    stream.fault = "f"
    stream.faults = 3
    old = stream.signals
    of.start("a")
    assert (
        stream.perception,
        stream.result,
        stream.fault,
        stream.faults,
        stream.running,
        stream.started_at,
    ) == (
        None,
        None,
        "",
        0,
        True,
        1e9 + 100.0,
    )
    assert isinstance(stream.signals, SignalHistory)
    assert stream.signals is not old
    assert stream.source.calls == ["start"]
    of.start("a")
    assert stream.source.calls == ["start"]
    with pytest.raises(KeyError):
        of.start("b")


def test_a_stream_that_is_stopped_publishes_the_violations_that_still_waited(world):
    of = world.manager(lambda stream, observed: world.published.append((stream, observed)))
    stream = world.camera("a")
    stream.source.frames = [frame(3), frame(4)]
    world.go()
    answer(world.detectors["motion"])
    world.go()
    assert (len(world.published), len(stream.in_flight)) == (1, 1)
    of.stop("a")
    assert (
        stream.running,
        len(stream.in_flight),
        stream.source.calls,
        world.detectors["motion"].forgot,
    ) == (False, 0, ["start", "stop"], ["a"])
    (_, first), (_, last) = world.published
    assert (first.crossings, first.violations) == (["crossing"], [])
    assert (last.frame.number, last.crossings, last.violations) == (3, [], [LAST])
    assert list(stream.violations) == [(9.0, "speeding #7")]


def test_a_stream_without_results_publishes_nothing_when_it_stops(world):
    of = world.manager(lambda stream, observed: world.published.append(observed))
    world.camera("a")
    of.stop("a")
    assert world.published == []


def test_a_start_waits_for_a_stop_that_is_under_way(world):
    of = world.manager()
    stream, slow = world.camera("a"), threading.Event()
    ends = stream.source.stop
    stream.source.stop = lambda: (slow.wait(10.0), ends())
    stopping = threading.Thread(target=of.stop, args=("a",))
    stopping.start()
    until(lambda: not stream.running)
    starting = threading.Thread(target=of.start, args=("a",))
    starting.start()
    starting.join(0.1)
    assert stream.source.calls == ["start"]
    slow.set()
    stopping.join(10.0)
    starting.join(10.0)
    assert (stream.source.calls, stream.running) == (["start", "stop", "start"], True)


def test_a_camera_whose_source_does_not_end_is_not_called_running(world):
    of = world.manager()
    stream = of.add(StreamSettings("a", SourceSettings("rtsp://a")))

    def refuses():
        raise SensingError("it runs already")

    stream.source.start = refuses
    with pytest.raises(SensingError, match="it runs already"):
        of.start("a")
    assert not stream.running


@pytest.mark.parametrize("state", ["ended", "failed", "reconnecting"])
def test_what_waits_for_images_is_published_when_the_source_is_lost(world, state):
    world.manager(lambda stream, observed: world.published.append(observed))
    stream = world.camera("a")
    stream.source.frames = [frame(3)]
    world.go()
    stream.source.health = SourceHealth(state)
    world.go()
    assert not world.published  # a frame is still with the detector
    answer(world.detectors["motion"])
    world.go()
    world.go()
    assert [observed.violations for observed in world.published] == [[], [LAST]]


def test_what_waits_for_images_gets_those_that_a_lost_source_has_left(world):
    world.manager(lambda stream, observed: world.published.append(observed))
    stream = world.camera("a")
    stream.source.frames = [frame(3)]
    world.go()
    stream.source.frames, stream.source.health = [frame(4)], SourceHealth("ended")
    for _ in range(2):
        answer(world.detectors["motion"])
        world.go()
    found = [(observed.frame.number, observed.violations) for observed in world.published]
    assert found == [(3, []), (4, []), (4, [LAST])]


def test_a_camera_that_is_given_up_and_started_again_at_once_goes_on(world):
    of, before = world.manager(), set(threading.enumerate())
    stream = world.camera("a", site=site())
    stream.source.frames = [frame(4, size=(8, 6))]
    world.go()
    with stream.source_lock:  # its source is still busy
        answer(world.detectors["motion"])
        world.go()
        assert not stream.running
        of.start("a")
    for thread in set(threading.enumerate()) - before:
        thread.join(10.0)
    assert (stream.source.calls, stream.running) == (["start", "start"], True)


def test_what_waits_for_images_is_published_when_a_camera_is_given_up(world):
    world.manager(lambda stream, observed: world.published.append(observed))
    stream = world.camera("a", site=site())
    stream.source.frames = [frame(3)]
    world.go()
    answer(world.detectors["motion"])
    world.go()
    stream.source.frames = [frame(4, size=(8, 6))]
    world.go()
    answer(world.detectors["motion"])
    world.go()
    assert (stream.running, "its site is of" in stream.fault) == (False, True)
    assert [observed.violations for observed in world.published] == [[], [LAST]]


def test_where_the_clock_was_set_a_camera_begins_anew_and_forgets_the_signals(world):
    """Reports by the old time would show another colour for a frame of the new one."""
    world.manager(lambda stream, observed: world.published.append(observed))
    stream = world.camera("a")
    stream.signals.record(5.0, 3, 1)
    for k, epoch in enumerate((0, 1, 1)):
        stream.source.frames = [replace(frame(k), epoch=epoch)]
        world.go()
        answer(world.detectors["motion"])
        world.go()
        if k == 0:
            first, signals = stream.perception, stream.signals
    assert stream.perception is not first
    assert stream.signals is not signals
    assert stream.signals.state_at(3, 6.0) is None
    assert [observed.violations for observed in world.published] == [[], [LAST], []]


def test_a_live_view_that_cannot_be_drawn_ends_nothing(world):
    world.manager(lambda stream, observed: world.published.append(observed))

    def broken(*_):
        raise ValueError("cannot be drawn")

    world.drawn = broken
    stream = world.camera("a")
    stream.viewers = 1
    stream.source.frames = [frame()]
    world.go()
    answer(world.detectors["motion"])
    world.go()
    assert (len(world.published), stream.processed, stream.running) == (1, 1, True)


def test_another_site_begins_anew_where_it_ran(world):
    of, new = world.manager(), site()
    a, b = world.camera("a"), of.add(StreamSettings("b", SourceSettings("x.mp4"), blur=False))
    before = a.source
    of.set_site("a", new)
    of.set_site("b", new)
    assert (a.settings, a.running, before.calls, a.source.calls) == (
        StreamSettings("a", SourceSettings("rtsp://a"), site=new),
        True,
        ["start", "stop"],
        ["start"],
    )
    assert (b.settings, b.running, b.source.calls) == (
        StreamSettings("b", SourceSettings("x.mp4"), site=new, blur=False),
        False,
        [],
    )
    with pytest.raises(KeyError):
        of.set_site("c", new)


def test_another_site_does_not_wait_for_a_source_that_does_not_end(world):
    """As one that hangs in a read: it says that it runs already."""

    def start_again():
        raise SensingError("it runs already")

    of, new = world.manager(), site()
    camera = world.camera("a")
    camera.source.start = start_again
    of.set_site("a", new)
    assert (camera.settings.site, camera.running, camera.fault) == (new, True, "")


def test_a_stream_that_is_removed_is_stopped(world):
    of = world.manager()
    stream, other = world.camera("a"), world.camera("b")
    of.remove("a")
    assert (stream.running, stream.source.calls, of.streams) == (
        False,
        ["start", "stop"],
        {"b": other},
    )


def test_closing_stops_all_and_the_thread():
    before = set(threading.enumerate())
    of = StreamManager(makers=Makers(source=ASource, motion_detector=AnEye))
    (thread,) = set(threading.enumerate()) - before
    streams = [of.add(StreamSettings(name, SourceSettings(f"rtsp://{name}"))) for name in "ab"]
    for name in "ab":
        of.start(name)
    assert (thread.name, thread.daemon) == ("perception", True)
    of.close()
    assert [s.running for s in streams] == [False, False]
    assert [s.source.calls for s in streams] == [["start", "stop"]] * 2
    assert not thread.is_alive()


def test_a_frame_and_its_detections_wake_the_thread(monkeypatch):
    """Not only the next look, which would be 50 ms later: here it never comes."""
    monkeypatch.setattr(camera_streams, "IDLE_WAIT_S", 1e6)
    fake_detector, published = AnEye(), []
    of = StreamManager(
        lambda stream, observed: published.append(observed),
        makers=Makers(
            source=ASource, perception=APerception, motion_detector=lambda: fake_detector
        ),
    )
    stream = of.add(StreamSettings("a", SourceSettings("rtsp://a")))
    of.start("a")
    stream.source.frames = [frame()]
    stream.source.on_change()
    until(lambda: fake_detector.asked)
    answer(fake_detector)
    until(lambda: published)
    of.close()


# -- the work


def test_a_frame_goes_through_detector_and_perception_to_the_listener(world):
    known, key = site(), b"key"
    world.manager(
        lambda stream, observed: world.published.append((stream.settings.id, observed)), key
    )
    stream = world.camera("a", site=known, blur=False)
    stream.source.frames = [frame(5, decoded_s=99.2)]
    world.go()
    fake_detector = world.detectors["motion"]
    assert [(k, n) for k, n, _ in fake_detector.asked] == [("a", 5)]
    assert stream.source.asked == [0.0]
    assert (stream.served_at, stream.processed, len(stream.in_flight)) == (100.0, 0, 1)
    world.now = 101.0
    answer(fake_detector)
    world.go()
    assert (stream.processed, stream.faults, len(stream.in_flight)) == (1, 0, 0)
    assert stream.perception.words == ("a", known, 8.0, key, False, stream.signals)
    assert [(f.number, found) for f, found in stream.perception.looked] == [(5, "found")]
    assert (list(stream.latencies), list(stream.processed_at)) == ([pytest.approx(1.8)], [101.0])
    assert [(name, observed is stream.result) for name, observed in world.published] == [
        ("a", True)
    ]
    assert stream.view == (0, b"")


def test_without_a_site_the_first_frame_gives_the_size_and_15_hz_are_assumed(
    world,
):
    world.manager()
    stream = world.camera("a")
    stream.source.nominal_hz = 0.0
    stream.source.frames = [
        frame(0, size=(64, 48)),
        frame(1, size=(64, 48)),
        frame(2, size=(48, 64)),
    ]
    for _ in range(2):
        world.go()
        answer(world.detectors["motion"])
    world.go()
    first = stream.perception
    assert first.words[1:3] == (Site((64, 48)), 15.0)
    assert len(first.looked) == 2
    answer(world.detectors["motion"])
    world.go()
    assert stream.perception is not first  # the camera sends others now
    assert stream.perception.words[1] == Site((48, 64))


def test_frames_of_another_size_than_the_sites_end_the_stream(world):
    world.manager(lambda stream, observed: world.published.append(observed))
    stream = world.camera("a", site=site())
    stream.source.frames = [frame(0, size=(64, 48))]
    world.go()
    answer(world.detectors["motion"])
    world.go()
    assert (stream.fault, stream.faults, stream.running) == (
        "its frames are (64, 48), its site is of (320, 240)",
        1,
        False,
    )
    until(lambda: stream.source.calls == ["start", "stop"])
    assert (world.published, stream.processed) == ([], 0)


def test_a_stream_ends_after_twenty_faults_in_a_row_and_each_is_logged(world, logged):
    assert FAULTS == 20
    world.manager()
    stream = world.camera("a")

    def broken(count):
        for _ in range(count):
            stream.source.frames = [frame()]
            world.go()
            world.detectors["motion"].asked[-1][2].set_exception(ValueError("not this one"))
            world.go()

    broken(19)
    assert (stream.faults, stream.fault, stream.running) == (19, "not this one", True)
    assert (
        logged("sensing")
        == [
            {
                "event": "a frame could not be processed",
                "level": "error",
                "stream": "a",
                "error": "ValueError('not this one')",
            }
        ]
        * 19
    )
    stream.source.frames = [frame()]
    world.go()
    answer(world.detectors["motion"])
    world.go()
    assert (stream.faults, stream.running, stream.processed) == (0, True, 1)
    broken(19)
    assert stream.running
    broken(1)
    assert (stream.faults, stream.running) == (20, False)
    until(lambda: stream.source.calls == ["start", "stop"])


def test_a_listener_cannot_stop_a_camera(world):
    def listen(stream, observed):
        raise ValueError("not my day")

    world.manager(listen)
    stream = world.camera("a")
    for k in range(2):
        stream.source.frames = [frame(k)]
        world.go()
        answer(world.detectors["motion"])
        world.go()
    assert (stream.processed, stream.faults, stream.running) == (2, 0, True)


def test_a_stream_has_as_many_frames_in_flight_as_there_are_threads_and_all_together_one_more(
    world,
):
    world.detectors["motion"] = AnEye(2)
    world.manager()
    a, b = world.camera("a"), world.camera("b")
    for stream in (a, b):
        stream.source.frames = [frame(k) for k in range(5)]
    world.go()
    assert (len(a.in_flight), len(b.in_flight)) == (2, 1)  # three in flight, each in its turn
    assert [k for k, _, _ in world.detectors["motion"].asked] == ["a", "b", "a"]
    c = world.camera("c", detector="m.onnx")  # another detector has places of its own
    c.source.frames = [frame(k) for k in range(5)]
    world.go()
    assert (len(c.in_flight), len(a.in_flight), len(b.in_flight)) == (1, 2, 1)


def test_the_stream_served_longest_ago_is_next(world):
    world.detectors["motion"] = AnEye(1)
    world.manager()
    a, b, c = (world.camera(name) for name in "abc")
    for stream, served in ((a, 3.0), (b, 1.0), (c, 2.0)):
        stream.served_at = served
        stream.source.frames = [frame()]
    world.go()
    assert [k for k, _, _ in world.detectors["motion"].asked] == ["b", "c"]


def test_answers_are_taken_in_the_order_of_the_frames(world):
    world.detectors["motion"] = AnEye(2)
    world.manager()
    stream = world.camera("a")
    stream.source.frames = [frame(0), frame(1)]
    world.go()
    answer(world.detectors["motion"], 1, "second")
    world.go()
    assert stream.processed == 0
    answer(world.detectors["motion"], 0, "first")
    world.go()
    assert [(f.number, found) for f, found in stream.perception.looked] == [
        (0, "first"),
        (1, "second"),
    ]


def test_a_frame_that_is_gone_meanwhile_is_no_matter(world):
    world.manager()
    stream = world.camera("a")
    stream.source.frames = [None]
    world.go()
    assert (world.detectors["motion"].asked, stream.served_at) == ([], 0.0)


def test_a_stream_that_does_not_run_is_not_served(world):
    of = world.manager()
    stream = of.add(StreamSettings("a", SourceSettings("x.mp4")))
    stream.source.frames = [frame()]
    world.go()
    assert world.detectors["motion"].asked == []


def test_a_live_view_is_drawn_for_viewers_ten_times_a_second_at_most(world):
    """With the last four violations of the last four seconds."""
    drawn_ = []

    def noting(observed, site, measures, recent):
        drawn_.append((observed.frame.number, site, measures, recent))
        return "image"

    world.drawn = noting
    world.manager()
    stream = world.camera("a", site=site())

    def show(k, now, *found, viewers=1, at_s=10.0):
        world.now, stream.viewers = now, viewers
        stream.source.frames = [frame(k, at_s=at_s)]
        world.go()
        if stream.perception is not None:
            stream.perception.finds = found
        answer(world.detectors["motion"])
        world.go()

    show(0, 100.0, viewers=0)
    assert (stream.view, drawn_) == ((0, b""), [])
    show(1, 101.0)
    assert (stream.view, drawn_[-1]) == (
        (1, b"image"),
        (1, stream.settings.site, stream.perception.measures, []),
    )
    show(2, 101.09)
    assert stream.view[0] == 1
    show(3, 101.11)
    assert (stream.view[0], drawn_[-1][0]) == (2, 3)
    show(
        4, 102.0, violation(6.0, track=1), violation(6.01, track=2), violation(9.0, "red_light", 5)
    )
    assert drawn_[-1][3] == ["speeding #2", "red_light #5"]
    show(5, 103.0, violation(9.5, track=6), violation(9.6, track=7), violation(9.7, track=8))
    assert drawn_[-1][3] == ["red_light #5", "speeding #6", "speeding #7", "speeding #8"]
    show(6, 104.0)
    assert stream.view[0] == 5


def test_a_view_holds_what_the_overlay_draws(world):
    world.manager()
    stream = world.camera("a", site=site())
    stream.viewers = 1
    stream.source.frames = [frame(90)]
    world.go()
    answer(world.detectors["motion"])
    stream.perception = Perception("a", stream.settings.site, 8.0)
    observed = FrameResult(frame(90), 0, [], [], [], stream.perception)
    stream.perception.process = lambda f, found: observed
    world.go()
    assert stream.view == (
        1,
        jpeg(drawn(observed, stream.settings.site, stream.perception.measures, [])),
    )


# -- what is told of a stream


def test_the_state_of_a_stream_that_never_ran():
    stream = Stream(
        StreamSettings("a", SourceSettings("rtsp://me:secret@there/x"), "/models/m.onnx"),
        ASource(None),
    )
    stream.source.health = SourceHealth()
    assert stream.state() == {
        "id": "a", "source": "rtsp://***@there/x", "detector": "m.onnx", "running": False,
        "runs_on": "", "state": "stopped", "fault": "", "received": 0, "processed": 0,
        "dropped": 0, "skipped": 0, "broken": 0, "connections": 0, "source_rate_hz": 0.0,
        "rate_hz": 0.0, "latency_p50_ms": None, "latency_p95_ms": None,
        "size": [0, 0], "tracks": 0, "violations": 0, "calibration_error_m": None, "clock": "",
    }  # fmt: skip
    assert stream.figures() == {"tracks": [], "measures": None}
    other = Stream(stream.settings, stream.source)
    assert (
        stream.latencies.maxlen,
        stream.processed_at.maxlen,
        stream.violations.maxlen,
        stream.viewers,
        stream.view,
    ) == (300, 300, 4, 0, (0, b""))
    assert other.latencies is not stream.latencies
    assert (other.served_at, other.started_at, other.faults) == (0.0, 0.0, 0)


def test_the_state_of_a_stream_at_work():
    """Of 1 to 100 ms the median is 50.5 and 95 % are below 95.05;
    four frames of the last five seconds took 5 s: 0.6 a second.
    """
    known = site(ten_px_a_metre(0.25))
    stream = Stream(
        StreamSettings("a", SourceSettings("x.mp4"), site=known),
        ASource(None),
        clock=lambda: 8.0,
        running=True,
        processed=41,
        fault="own",
        runs_on="CUDAExecutionProvider",
    )
    stream.source.health = SourceHealth(
        "reconnecting", 50, 4, 3, 2, 7, 12.3456, (320, 240), "stream", "theirs", 9
    )
    stream.latencies.extend(np.arange(1, 101) / 1000.0)
    stream.processed_at.extend([1.0, 2.9, 3.0, 4.0, 7.0, 8.0])
    stream.perception = APerception("a", known, 8.0, b"", True, None)
    stream.result = FrameResult(
        frame(3), 2, [road_user(1), road_user(2)], [], [], stream.perception
    )
    assert stream.state() == {
        "id": "a", "source": "x.mp4", "detector": "motion", "running": True,
        "runs_on": "CUDAExecutionProvider",
        "state": "reconnecting", "fault": "own", "received": 50, "processed": 41,
        "dropped": 4, "skipped": 3, "broken": 2, "connections": 7, "source_rate_hz": 12.35,
        "rate_hz": 0.6, "latency_p50_ms": 50.5, "latency_p95_ms": 95.0,
        "size": [320, 240], "tracks": 2, "violations": 2, "calibration_error_m": 0.25,
        "clock": "stream",
    }  # fmt: skip
    stream.fault = ""
    assert stream.state()["fault"] == "theirs"
    assert stream.figures() == {
        "at_s": 0.375,
        "tracks": [track_to_json(t) for t in stream.result.tracks],
        "measures": {"seconds": 3.0},
    }


@pytest.mark.parametrize(
    ("times", "rate"),
    [([], 0.0), ([5.0], 0.0), ([5.0, 5.25], 4.0), ([5.0, 5.0], 1000.0), ([0.0, 5.0], 0.2),
        ([0.0, 5.1], 0.0), ([1.0, 2.0, 3.0], 1.0),
                       ([0.0, 3.0], 0.33)],
)  # fmt: skip
def test_the_rate_is_that_of_the_last_five_seconds(times, rate):
    stream = Stream(
        StreamSettings("a", SourceSettings("x.mp4")), ASource(None), lambda: max(times, default=0.0)
    )
    stream.processed_at.extend(times)
    assert stream.state()["rate_hz"] == rate


@pytest.mark.parametrize(
    ("now_s", "rate"),
    [(10.0, 10.0), (10.09, 10.0), (10.5, round(46 / 5.0, 2)), (14.0, round(11 / 5.0, 2)),
     (15.05, 0.0), (99.0, 0.0)],
)  # fmt: skip
def test_the_rate_of_a_camera_that_hangs_falls(now_s, rate):
    """Ten frames a second up to 10 s; then the detector takes no more."""
    stream = Stream(StreamSettings("a", SourceSettings("x.mp4")), ASource(None), lambda: now_s)
    stream.processed_at.extend(k / 10.0 for k in range(101))
    assert stream.state()["rate_hz"] == pytest.approx(rate, abs=0.21)


def test_a_camera_that_is_started_again_has_the_figures_of_now(world):
    stream = world.manager() and world.camera("a")
    stream.latencies.extend([9.0] * 100)
    stream.processed_at.extend([99.0, 99.5])
    world.of.stop("a")
    world.of.start("a")
    assert (stream.state()["rate_hz"], stream.state()["latency_p95_ms"]) == (0.0, None)


def test_figures_need_something_seen():
    stream = Stream(StreamSettings("a", SourceSettings("x.mp4")), ASource(None))
    stream.perception = APerception("a", None, 8.0, b"", True, None)
    assert stream.figures() == {"tracks": [], "measures": None}


# --- what is made of a camera's frames --------------------------------------------------------


def test_only_sure_enough_detections_are_taken(world):
    """Each of three confidences; 0.5 is the least that is allowed."""
    world.manager()
    stream = world.camera("a", confidence=0.5)
    found = sv.Detections(
        xyxy=np.array([[0, 0, 9, 9]] * 3, np.float32),
        confidence=np.array([0.49, 0.5, 0.9], np.float32),
        class_id=np.array([2, 2, 2]),
    )
    stream.source.frames = [frame(1), frame(2)]
    world.go()
    answer(world.detectors["motion"], value=found)
    world.go()
    answer(world.detectors["motion"], value=sv.Detections.empty())
    world.go()
    (_, looked), (_, empty) = stream.perception.looked
    assert looked.confidence.tolist() == pytest.approx([0.5, 0.9])
    assert (len(empty), stream.faults) == (0, 0)


@pytest.mark.parametrize("wanted", [True, False])
def test_speeds_and_violations_are_found_where_they_are_wanted(world, wanted):
    world.manager()
    known = site()
    calibrated = Site(known.size, object(), known.lines)
    stream = world.camera("a", site=calibrated, speed=wanted, violations=wanted)
    stream.source.frames = [frame(1)]
    world.go()
    answer(world.detectors["motion"])
    world.go()
    assert stream.perception.finds_violations is wanted
    assert (stream.perception.site.calibration is not None) is wanted
    assert stream.perception.site.lines == calibrated.lines
    if not wanted:
        assert (
            stream.perception.site.uncalibrated == "the analysis of speeds is off for this camera"
        )


def test_a_camera_is_configured_anew_and_goes_on_if_it_ran(world):
    manager = world.manager()
    ran, stood = world.camera("a"), manager.add(StreamSettings("b", SourceSettings("rtsp://b")))
    before = ran.source
    for name in "ab":
        manager.configure(StreamSettings(name, SourceSettings("rtsp://x", attempts=3), speed=False))
    assert (ran.running, stood.running) == (True, False)
    assert ran.source is not before
    assert (before.calls, ran.source.calls, stood.source.calls) == (
        ["start", "stop"],
        ["start"],
        [],
    )
    assert (ran.source.settings.attempts, ran.source.settings.policy) == (3, "latest")
    assert (ran.settings.speed, ran.processed) == (False, 0)
    world.detectors["n.onnx"] = AnEye()
    world.detectors["n.onnx"].runs_on = "another"
    manager.configure(StreamSettings("a", SourceSettings("rtsp://x"), "n.onnx"))
    assert [stream.state()["runs_on"] for stream in (ran, stood)] == ["another", "an eye"]
    with pytest.raises(KeyError):
        manager.configure(StreamSettings("c", SourceSettings("rtsp://x")))
