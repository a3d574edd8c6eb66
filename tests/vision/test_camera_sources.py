"""Sources second by second: clocks, waits and videos are set by hand,
and the decoding thread runs to its end before a frame is taken.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from headway.sensing import SensingError
from headway.vision.frames import images, sources
from headway.vision.frames.sources import Frame, FrameSource, Platform, SourceHealth, SourceSettings
from headway.vision.frames.timing import Arrivals, WallSteps

CAMERA = "rtsp://user:secret@north:554/one"


class DecodedFrame:
    """A decoded frame of the video: grey of one level."""

    def __init__(self, time, level=100, width=8, height=6, name="gray"):
        self.time = time
        self.level = level
        self.width = width
        self.height = height
        self.format = SimpleNamespace(name=name)

    def to_ndarray(self, format=None):
        assert format == "bgr24"
        return np.full((self.height, self.width, 3), self.level, np.uint8)


class Streams(SimpleNamespace):
    def __len__(self):
        return len(self.video)


class Video:
    """An opened video. came: what the clock shows when each frame comes (now, if None);
    a frame that is an error is raised.
    """

    def __init__(
        self,
        decoded,
        came=None,
        frames=0,
        rate=10,
        guessed=None,
        streams=2,
        duration=None,
        begin=None,
        keys=(),
        kind="rtsp",
    ):
        self.format = SimpleNamespace(name=kind)
        self.stream = SimpleNamespace(
            average_rate=rate,
            guessed_rate=guessed,
            frames=frames,
            thread_type="",
            width=0,
            height=0,
            codec_context=SimpleNamespace(),
        )
        self.streams = Streams(video=[self.stream, SimpleNamespace()][:streams])
        self.decoded = decoded
        self.came = came or [None] * len(decoded)
        self.duration = duration
        self.start_time = begin
        self.keys = keys
        self.asked, self.place, self.sought, self.clock = 0, 0, [], None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def demux(self, stream):
        assert stream is self.stream
        for frame, came in zip(self.decoded, self.came, strict=True):
            self.asked += 1
            if came is not None:
                self.clock.now = came

            def decode(frame=frame):
                if isinstance(frame, Exception):
                    raise frame
                return [] if frame is None else [frame]

            yield SimpleNamespace(decode=decode)

    def seek(self, to):
        self.sought.append(to)
        times = [p.time for p in self.decoded]
        self.place = times.index(max([k for k in self.keys if k * 1e6 <= to], default=times[0]))

    def decode(self, stream):
        assert stream is self.stream
        while self.place < len(self.decoded):
            self.place += 1
            yield self.decoded[self.place - 1]


class World:
    """The clock, the waits and the videos there are, in their order; what is an error is raised."""

    def __init__(self):
        self.now = 1000.0
        self.waits = []
        self.videos = []
        self.opened = []
        self.joins = []
        self.threads = []

    def source(self, settings):
        return FrameSource(settings, platform=self.platform)

    def open(self, url, **how):
        self.opened.append((url, how))
        video = self.videos.pop(0) if self.videos else ConnectionRefusedError("no")
        if isinstance(video, Exception):
            raise video
        video.clock = self
        return video


@pytest.fixture
def world(monkeypatch):
    made = World()

    class Waits(threading.Event):
        def wait(self, timeout=None):
            made.waits.append(timeout)
            made.now += timeout
            return self.is_set()

    class AtOnce:
        def __init__(self, target, daemon, name):
            self.target = target
            made.threads.append((daemon, name))

        def start(self):
            self.target()

        def join(self, timeout):
            made.joins.append(timeout)

        def is_alive(self):
            return False

    made.platform = Platform(
        monotonic_s=lambda: made.now - 900.0,
        wall_s=lambda: made.now,
        make_event=Waits,
        make_thread=AtOnce,
    )
    monkeypatch.setattr(sources.av, "open", made.open)
    return made


def play(source, most=0):
    """All frames, each taken when it is told of; stopped after `most` of them."""
    frames, healths = [], []

    def reported():
        frame = source.take(0.0)
        if frame is not None:
            frames.append(frame)
            healths.append(source.health)
        if most and len(frames) >= most:
            source.stop()

    source.on_change = reported
    source.start()
    return frames, healths


def times(frames):
    return [round(f.at_s, 6) for f in frames]


def decoded_frames(*at):
    return [DecodedFrame(t) for t in at]


# -- settings


def test_default_settings_of_a_source():
    s = SourceSettings("x")
    assert (s.policy, s.buffer, s.rate_hz, s.paced, s.repeat, s.attempts, s.delay_s,
        s.longest_delay_s, s.silent_s, s.hardware) == (
        "auto", 4, 0.0, False, False, 0, 0.5, 30.0, 5.0, True,
    )  # fmt: skip
    assert SourceHealth() == SourceHealth("idle", 0, 0, 0, 0, 0, 0.0, (0, 0), "", "", 0)
    assert Frame(1.0, 2, np.zeros((1, 1, 3), np.uint8)).decoded_s == 0.0
    assert (sources.RATE_SPAN_S, sources.FAR_S, images.MOST_PIXELS) == (5.0, 10.0, 35_389_440)
    for frozen, name in (
        (s, "url"),
        (SourceHealth(), "state"),
        (Frame(1.0, 2, np.zeros((1, 1, 3), np.uint8)), "number"),
    ):
        with pytest.raises(AttributeError):
            setattr(frozen, name, 1)


@pytest.mark.parametrize(
    ("url", "live"),
    [
        ("rtsp://a/b", True), ("rtsps://a/b", True), ("http://a/b", True), ("https://a/b", True),
        ("rtmp://a/b", True), ("udp://1.2.3.4:5", True),
        ("file:///a/b.mp4", False), ("/a/b.mp4", False), ("b.mp4", False), ("http", False),
    ],
)  # fmt: skip
def test_a_live_source_has_the_address_of_a_server(url, live):
    assert SourceSettings(url).live is live


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://user:secret@north:554/one?a=b", "rtsp://***@north:554/one?***"),
        ("rtsp://user@north/one", "rtsp://***@north/one"),
        ("rtsp://:secret@north/one", "rtsp://***@north/one"), ("rtsp://us@er:se@cret@north/one", "rtsp://***@north/one"),
        ("http://north/snap.cgi?user=admin&password=x#y", "http://north/snap.cgi?***"),
        # a password with a character that ends the host too early
        ("rtsp://user:sec/ret@north/one", "rtsp://***@north/one"),
        ("rtsp://user:sec?ret@north/one?a=b", "rtsp://***@north/one?***"),
        ("rtsp://user:sec#ret@north/one#c", "rtsp://***@north/one"),
        ("rtsp://user:12/[ret@north/one", "rtsp://***@north/one"),
        ("rtsp://north/user=admin&password=secret&channel=1.sdp",
            "rtsp://north/user=admin&password=***&channel=1.sdp"),
        ("/films/a?b.mp4", "/films/a?b.mp4"),
        ("rtsp://north/one", "rtsp://north/one"), ("/films/a@b.mp4", "/films/a@b.mp4"),
    ],
)  # fmt: skip
def test_an_address_is_shown_without_user_and_password(url, shown):
    assert SourceSettings(url).display_url == shown


@pytest.mark.parametrize(
    ("how", "lossy"),
    [
        ({"policy": "latest"}, True), ({"policy": "queue", "paced": True}, False), ({}, False),
        ({"paced": True}, True), ({"url": CAMERA}, True),
        ({"url": CAMERA, "policy": "queue"}, False),
    ],
)  # fmt: skip
def test_frames_are_dropped_where_the_source_does_not_wait(how, lossy):
    source = FrameSource(SourceSettings(**{"url": "a.mp4"} | how))
    assert source.lossy is lossy
    assert (source.on_change, source.nominal_hz, source.waiting, source.over, source.health) == (
        None,
        0.0,
        0,
        True,
        SourceHealth(),
    )
    assert FrameSource(SourceSettings("a", rate_hz=4.0)).nominal_hz == 4.0


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (av.error.InvalidDataError(1, "x"),
            "this is no video that can be decoded (empty, cut short, or another kind of file)"),
        (FileNotFoundError("x"), "there is no such file"),
        (ConnectionRefusedError("x"), "no server answers there"),
        (av.error.HTTPUnauthorizedError(1, "x"), "the user name or the password is wrong"),
        (av.error.HTTPNotFoundError(1, "x"), "there is no such stream"),
        (TimeoutError("x"), "it does not answer in time"),
        (av.error.ExitError(1, "x"), "it does not answer in time"),
        (ValueError("as it was said"), "as it was said"),
    ],
)  # fmt: skip
def test_errors_are_explained_in_plain_words(world, error, says):
    world.videos = [error]
    source = world.source(SourceSettings("a.mp4"))
    with pytest.raises(SensingError) as failed:
        list(source.frames())
    assert str(failed.value) == f"a.mp4: {says}"
    assert (source.health.state, source.health.received, source.over) == ("failed", 0, True)


# -- a file


def test_a_file_from_its_first_frame_to_its_last(world):
    world.videos = [
        Video([DecodedFrame(3.0, 10), None, DecodedFrame(3.1, 20), DecodedFrame(3.3, 30)], frames=3)
    ]
    source = world.source(SourceSettings("a.mp4", hardware=False))
    frames, healths = play(source)
    assert times(frames) == [0.0, 0.1, 0.3]
    assert [(f.number, f.decoded_s, f.image.shape, int(f.image[0, 0, 0])) for f in frames] == [
        (k, 100.0, (6, 8, 3), 10 * k + 10) for k in range(3)
    ]
    assert healths[0] == SourceHealth(
        "running", 1, connections=1, size=(8, 6), clock="stream", length=3
    )
    assert source.health == SourceHealth(
        "ended", 3, connections=1, size=(8, 6), clock="stream", length=3
    )
    assert world.opened == [("a.mp4", {"options": {}, "timeout": None, "hwaccel": None})]
    assert world.threads == [(True, "source a.mp4")]
    assert (source.nominal_hz, world.waits, source.over, source.take()) == (10.0, [], True, None)
    source.stop()
    assert (source.health.state, world.joins) == (
        "ended",
        [10.0],
    )  # as long as it may be silent, and five seconds
    world.videos = [Video(decoded_frames(7.0))]
    assert times(play(source)[0]) == [0.0]  # begun again
    assert source.health.connections == source.health.received == 1


@pytest.mark.parametrize(("rate", "guessed", "hz"), [(8, 5, 8.0), (None, 5, 5.0), (0, None, 25.0)])
def test_a_video_without_time_stamps_gets_them_from_its_rate(world, rate, guessed, hz):
    world.videos = [Video(decoded_frames(None, None, None), rate=rate, guessed=guessed)]
    source = world.source(SourceSettings("a.mp4"))
    frames, _ = play(source)
    assert times(frames) == pytest.approx([0.0, 1 / hz, 2 / hz], abs=1e-6)
    assert (source.health.clock, source.nominal_hz) == ("rate", hz)
    assert world.videos == []


def test_slices_are_decoded_in_parallel_and_never_frames(world):
    video = Video(decoded_frames(0.0))
    world.videos = [video]
    play(world.source(SourceSettings("a.mp4")))
    assert video.stream.thread_type == "SLICE"
    assert video.closed


def test_the_time_of_a_repeated_file_continues(world):
    world.videos = [
        Video(decoded_frames(3.0, 3.1, 3.2)),
        Video(decoded_frames(3.0, 3.1, 3.2)),
        Video(decoded_frames(3.0, 3.1)),
    ]
    source = world.source(SourceSettings("a.mp4", repeat=True))
    frames, _ = play(source)
    assert times(frames) == [round(k / 10, 1) for k in range(8)]
    assert [f.number for f in frames] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert (source.health.state, source.health.fault, source.health.connections) == (
        "failed",
        "a.mp4: no server answers there",
        3,
    )


@pytest.mark.parametrize(("count", "state"), [(98, "ended"), (97, "failed")])
def test_a_file_of_which_more_than_a_fiftieth_is_missing_is_cut_short(world, count, state):
    world.videos = [Video(decoded_frames(*(k / 10 for k in range(count))), frames=100)]
    source = world.source(SourceSettings("a.mp4"))
    assert len(play(source)[0]) == count
    assert source.health.state == state
    assert source.health.fault == (
        "" if state == "ended" else "a.mp4: it is cut short: 97 of 100 frames could be read"
    )


@pytest.mark.parametrize(
    ("last_s", "more", "fault"),
    [
        (8.0, {}, ""),  # nine tenths of ten seconds, less a second
        (7.9, {}, "a.mkv: it is cut short: 7.9 of 10.0 s could be read"),
        (7.9, {"streams": 2}, ""),  # what goes on may be the sound
        (7.9, {"frames": 2}, ""),
        (7.9, {"duration": None}, ""),
    ],
)
def test_a_file_without_a_number_of_frames_is_cut_short_by_its_length(world, last_s, more, fault):
    world.videos = [
        Video(
            decoded_frames(100.0, 100.0 + last_s), **({"duration": 10_000_000, "streams": 1} | more)
        )
    ]
    source = world.source(SourceSettings("a.mkv"))
    assert len(play(source)[0]) == 2
    assert source.health.fault == fault
    assert source.health.state == ("failed" if fault else "ended")


@pytest.mark.parametrize(
    ("video", "says"),
    [
        (Video([], streams=0), "there is no video in it"),
        (Video([None]), "there is not one frame in it"),
        (Video([DecodedFrame(0.0, width=81)]), None),
    ],
)
def test_a_file_without_a_frame_is_refused(world, monkeypatch, video, says):
    monkeypatch.setattr(images, "MOST_PIXELS", 480)
    world.videos = [video]
    source = world.source(SourceSettings("a.mp4"))
    assert play(source)[0] == []
    too_large = "its frames are 81 x 6; at most 0 million pixels are taken: have smaller ones sent."
    assert source.health.fault == f"a.mp4: {says or too_large}"


def test_frames_of_as_many_pixels_as_are_allowed_are_taken(world, monkeypatch):
    monkeypatch.setattr(images, "MOST_PIXELS", 3_000_000)
    world.videos = [
        Video(
            [
                DecodedFrame(0.0, width=2000, height=1500),
                DecodedFrame(0.1, width=3_000_001, height=1),
            ]
        )
    ]
    source = world.source(SourceSettings("a.mp4"))
    assert len(play(source)[0]) == 1
    assert source.health.fault == (
        "a.mp4: its frames are 3000001 x 1; at most 3 million pixels are taken: "
        "have smaller ones sent."
    )


def test_a_stream_that_says_it_is_too_large_is_not_decoded(world, monkeypatch):
    monkeypatch.setattr(images, "MOST_PIXELS", 3_000_000)
    video = Video([DecodedFrame(0.0)])
    video.stream.width, video.stream.height = 3_000_001, 1
    world.videos = [video]
    source = world.source(SourceSettings("a.mp4"))
    assert (play(source)[0], video.asked) == ([], 0)
    assert source.health.fault.startswith("a.mp4: its frames are 3000001 x 1; at most 3 million")


def test_packets_that_cannot_be_decoded_are_counted_and_skipped(world):
    broken = av.error.InvalidDataError(1, "x")
    world.videos = [Video([DecodedFrame(0.0), broken, broken, DecodedFrame(0.3)])]
    source = world.source(SourceSettings("a.mp4"))
    frames, healths = play(source)
    assert (times(frames), [h.broken for h in healths], source.health.state) == (
        [0.0, 0.3],
        [0, 2],
        "ended",
    )
    assert (
        source.health.fault
        == "a.mp4: this is no video that can be decoded (empty, cut short, or another kind of file)"
    )


def test_a_paced_file_is_played_in_real_time(world):
    world.videos = [
        Video(decoded_frames(3.0, 3.5, 4.5, 4.6), [None, None, 1004.0, None])
    ]  # the third is late
    source = world.source(SourceSettings("a.mp4", paced=True))
    frames, _ = play(source)
    assert world.waits == pytest.approx([0.0, 0.5, 0.0, 0.0])
    assert [f.decoded_s for f in frames] == [100.0, 100.5, 104.0, 104.0]
    assert times(frames) == [0.0, 0.5, 1.5, 1.6]


def test_frames_beyond_the_requested_rate_are_skipped(world):
    """Five a second: due at 0.2, 0.4, ...; 0.01 s (a twentieth of the time between)
    too early will do.
    """
    world.videos = [
        Video(decoded_frames(0.0, 0.1, 0.189, 0.191, 0.3, 0.389, 0.5, 1.7, 1.75, 1.8, 1.889, 1.891))
    ]
    source = world.source(SourceSettings("a.mp4", rate_hz=5.0))
    frames, _ = play(source)
    assert times(frames) == [0.0, 0.191, 0.5, 1.7, 1.75, 1.891]
    assert (source.health.received, source.health.skipped, source.health.dropped) == (12, 6, 0)
    assert [f.number for f in frames] == [0, 3, 6, 7, 8, 11]


def test_on_change_is_called_for_each_frame_and_the_end_and_a_start_clears_the_buffer(
    world,
):
    world.videos = [Video(decoded_frames(0.0, 0.1)), Video(decoded_frames(5.0))]
    source, heard = world.source(SourceSettings("a.mp4")), []
    source.on_change = lambda: heard.append((source.waiting, source.health.state))
    source.start()
    assert heard == [(1, "running"), (2, "running"), (2, "ended")]
    source.start()
    assert heard[3:] == [(1, "running"), (1, "ended")]
    source.start()
    assert heard[5:] == [(0, "failed")]


def test_a_source_that_is_stopped_decodes_no_more(world):
    video = Video(decoded_frames(0.0, 0.1, 0.2, 0.3))
    world.videos = [video]
    source = world.source(SourceSettings("a.mp4", repeat=True))
    frames, _ = play(source, most=2)
    assert (times(frames), video.asked, len(world.opened)) == ([0.0, 0.1], 3, 1)
    assert (source.health.received, source.health.state, source.waiting, source.over) == (
        2,
        "idle",
        0,
        True,
    )


def test_a_frame_decoded_during_a_stop_is_discarded(world):
    video = Video([DecodedFrame(0.0), DecodedFrame(0.1)])
    world.videos = [video]
    source = world.source(SourceSettings("a.mp4", rate_hz=1.0))

    class Late(DecodedFrame):
        def to_ndarray(self, format=None):
            source.stop()
            return super().to_ndarray(format)

    video.decoded[1] = Late(2.0)
    frames, _ = play(source)
    assert times(frames) == [0.0]
    assert (source.health.received, source.health.skipped) == (1, 0)


def test_the_time_of_a_file_of_two_recordings_goes_on_where_they_are_joined(world):
    """The second begins at its own zero; a broken stamp leaps by ten hours, and back."""
    joined = decoded_frames(5.0, 5.1, 5.2, 0.0, 0.1, 36000.0, 0.3, 0.4)
    world.videos = [Video(joined, rate=10)]
    source = world.source(SourceSettings("a.ts", paced=True, rate_hz=5.0))
    frames, _ = play(source)
    assert times(frames) == [0.0, 0.2, 0.4, 0.6]
    assert world.now == pytest.approx(1000.7)  # it was not waited for ten hours
    assert (source.health.received, source.health.state) == (8, "ended")


def test_the_gaps_of_a_file_up_to_a_minute_are_its_own(world):
    world.videos = [Video(decoded_frames(0.0, 60.0, 60.0, 121.0), rate=10)]
    assert times(play(world.source(SourceSettings("a.mp4")))[0]) == [0.0, 60.0, 60.0, 60.1]


def test_an_unforeseen_error_ends_a_source_and_is_told(world):
    world.videos = [Video([DecodedFrame(0.0), MemoryError("too much")])]
    source = world.source(SourceSettings("a.mp4"))
    assert len(play(source)[0]) == 1
    assert (source.health.state, source.health.fault) == ("failed", "a.mp4: too much")


def test_an_image_that_is_too_large_for_opencv_is_counted_as_broken(world, tmp_path, monkeypatch):
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((6, 8, 3), np.uint8))
    read = cv2.imread

    def refuses_a(path):
        if path.endswith("a.png"):
            raise cv2.error("pixels <= CV_IO_MAX_IMAGE_PIXELS")
        return read(path)

    monkeypatch.setattr(images.cv2, "imread", refuses_a)
    source = world.source(SourceSettings(str(tmp_path)))
    assert len(play(source)[0]) == 1
    assert (source.health.broken, source.health.state) == (1, "ended")


# -- live


@pytest.mark.parametrize("step_s", [60.0, -60.0, 0.3, -0.3])
def test_where_the_wall_clock_is_set_a_live_stream_follows_at_once(world, step_s):
    """By the old time, a frame would meet the colour of a signal of another minute."""
    world.videos = [
        Video(decoded_frames(100.0, 100.1, 100.2, 100.3), [1000.0, 1000.1, 1000.2, 1000.3])
    ]
    world.platform = replace(
        world.platform, wall_s=lambda: world.now + (step_s if world.now > 1000.15 else 0.0)
    )
    frames, _ = play(world.source(SourceSettings(CAMERA, attempts=1)))
    assert times(frames) == pytest.approx([1000.0, 1000.1, 1000.2 + step_s, 1000.3 + step_s])
    assert [f.epoch for f in frames] == [0, 0, 1, 1]


def test_a_server_that_accepts_and_says_nothing_does_not_answer_in_time(world, monkeypatch):
    """For RTSP, FFmpeg gives up after `silent_s` with invalid data."""

    def opens(*_, **how):
        world.now += 5.0
        raise av.error.InvalidDataError(1, "x")

    monkeypatch.setattr(sources.av, "open", opens)
    source = world.source(SourceSettings(CAMERA, attempts=1))
    play(source)
    assert source.health.fault == (
        "rtsp://***@north:554/one: it does not answer in time (1 attempts)"
    )


def test_the_time_of_a_live_stream_does_not_go_back_where_it_is_connected_anew(world):
    """A burst of late frames has times ahead of the clock (the offset falls by 5 ms a second): the
    next connection begins at 1001.1 s, when the last frame had 1001.995 s.
    """
    world.videos = [
        Video(decoded_frames(100.0, 101.0), [1001.0, 1001.0]),
        Video(decoded_frames(5.0, 6.0), [1001.1, 1002.1]),
    ]
    frames, _ = play(world.source(SourceSettings(CAMERA, attempts=1)))
    assert times(frames) == pytest.approx([1001.0, 1001.995, 1001.995, 1002.1])
    assert {f.epoch for f in frames} == {0}


def test_a_thread_that_had_to_wait_between_two_clocks_takes_none_for_set():
    steps = WallSteps()
    assert not steps.found(0.0, 1000.0, 0.001)
    assert not steps.found(1.0, 1001.0, 1.5)  # half a second passed between
    assert not steps.found(2.0, 1002.0, 2.001)
    assert steps.found(3.0, 1003.5, 3.001)
    assert steps.epoch == 1


def test_a_live_stream_follows_the_wall_clock_slowly(world):
    told_and_came = [
        (100.0, 1000.0, 1000.0),  # first: 900 s apart
        (
            101.0,
            1002.0,
            1001.0002,
            # late by a second: the least delay of late may grow by 0.0002 a second, and the time
            # follows it
        ),
        (102.0, 1002.0, 1002.0),  # in time again
        (103.0, 1002.5, 1002.995),  # early by half a second: it goes back by 0.005 a second
        (105.0, 1004.5, 1004.985),
        (105.0, 1010.0, 1010.0),  # the stream's time stands: begun anew, 905 s apart
        (164.0, 1100.0, 1069.0118),  # 59 s later
        (224.0, 1101.0, 1101.0),  # 60 s later: begun anew
        (223.0, 1102.0, 1102.0),  # and back
        (223.5, 1102.5, 1102.5),
    ]
    world.videos = [
        Video(decoded_frames(*(t for t, _, _ in told_and_came)), [c for _, c, _ in told_and_came])
    ]
    source = world.source(SourceSettings(CAMERA, attempts=1))
    frames, _ = play(source)
    assert times(frames) == pytest.approx([at for _, _, at in told_and_came], abs=1e-6)
    assert [f.number for f in frames] == list(range(10))


def test_a_lost_camera_is_retried_with_growing_delays_and_its_clock_is_reset(world, monkeypatch):
    monkeypatch.setattr(sources, "hardware_decoder", lambda: "the card")
    gone = ConnectionResetError(f"{CAMERA} reset")
    world.videos = [
        Video(decoded_frames(5.0, 5.1), [1000.0, 1000.1]),
        Video([*decoded_frames(7.0, 7.1), gone], [1005.0, 1005.1, None]),
    ]
    source = world.source(
        SourceSettings(CAMERA, attempts=6, delay_s=0.5, longest_delay_s=3.0, silent_s=2.0)
    )
    states = []
    open_ = world.open
    monkeypatch.setattr(
        sources.av,
        "open",
        lambda *a, **k: states.append((source.health.state, source.health.fault)) or open_(*a, **k),
    )
    frames, healths = play(source)
    assert times(frames) == [1000.0, 1000.1, 1005.0, 1005.1]
    assert [(h.connections, h.fault, h.state) for h in healths] == [(1, "", "running")] * 2 + [
        (2, "", "running")
    ] * 2
    assert world.waits == [0.5, 0.5, 0.5, 1.0, 2.0, 3.0, 3.0]
    shown = "rtsp://***@north:554/one"
    assert states == [
        ("starting", ""), ("reconnecting", "the stream ended"),
        ("reconnecting", f"{shown}: {shown} reset"),
        *[("reconnecting", f"{shown}: no server answers there")] * 5,
    ]  # fmt: skip
    assert (source.health.state, source.health.fault) == (
        "failed",
        f"{shown}: no server answers there (6 attempts)",
    )
    options = {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"}
    assert (
        world.opened
        == [(CAMERA, {"options": options, "timeout": (2.0, 2.0), "hwaccel": "the card"})] * 8
    )
    assert world.threads == [(True, f"source {shown}")]
    source.stop()
    assert (source.health.state, world.joins) == ("failed", [7.0])


def test_a_camera_may_fail_any_number_of_times(world, monkeypatch):
    source = world.source(SourceSettings(CAMERA, delay_s=1.0))
    refuse = world.open

    def counted(*args, **how):
        if len(world.opened) == 8:
            assert source.health.state == "reconnecting"
            source.stop()
        return refuse(*args, **how)

    monkeypatch.setattr(sources.av, "open", counted)
    play(source)
    assert world.waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert source.health.state == "idle"


def test_a_live_stream_that_runs_ahead_of_the_clock_is_held_back(world):
    """A film by HTTP, or stamps that are no time: counts and violations would be of the future."""
    world.videos = [Video(decoded_frames(*range(0, 3000, 30)))]  # all of them at 1000 s
    source = world.source(SourceSettings(CAMERA, policy="queue", buffer=999, attempts=1))
    ahead_s = []
    source.on_change = lambda: ahead_s.append(source.health.received and source._last_s - world.now)
    source.start()
    assert len(ahead_s) == 101, "and one for its end"
    assert 59.0 < max(ahead_s) <= 60.0
    assert world.now > 3700.0


def test_a_live_stream_is_neither_paced_nor_cut_short(world):
    world.videos = [Video(decoded_frames(5.0, 5.1), frames=100)]
    source = world.source(SourceSettings(CAMERA, paced=True, attempts=1))
    assert len(play(source)[0]) == 2
    assert world.waits == [0.5]  # for the next connection alone
    assert source.health.fault.endswith("no server answers there (1 attempts)")


@pytest.mark.parametrize(("kind", "has_stamps"), [("rtsp", False), ("mpjpeg", True)])
def test_a_live_stream_without_times_of_its_own_gets_those_of_arrival(world, kind, has_stamps):
    """FFmpeg makes up stamps for formats that have none, such as MJPEG over HTTP: 25 frames a
    second, whatever comes. Speeds by them would be wrong by as much. The first second may have been
    kept by the server.
    """
    came = [1000.0 + k / 10.0 for k in range(20)]
    stamps = [k / 25.0 if has_stamps else None for k in range(20)]
    world.videos = [Video(decoded_frames(*stamps), came, rate=25, kind=kind)]
    source = world.source(SourceSettings(CAMERA, policy="queue", buffer=99, attempts=1))
    assert times(play(source)[0]) == pytest.approx(came[10:])
    assert (source.health.clock, source.health.received, source.health.skipped) == (
        "arrival",
        20,
        10,
    )
    assert source.nominal_hz == (0.0 if kind == "mpjpeg" else 25.0)  # nor do they tell a rate


def test_stamps_that_pass_more_slowly_than_time_does_are_not_followed_any_more(world):
    step_s = 0.06  # at 10 frames/s
    stamps, came = [k * step_s for k in range(320)], [1000.0 + k / 10.0 for k in range(320)]
    world.videos = [
        Video(decoded_frames(*stamps), came),
        Video(decoded_frames(*stamps[:12]), [1040.0 + k / 10.0 for k in range(12)]),
    ]
    source = world.source(SourceSettings(CAMERA, attempts=1))
    frames, healths = play(source)
    assert [h.clock for h in healths] == ["stream"] * 300 + ["arrival"] * 12
    assert {f.epoch for f in frames[:300]} == {0}
    assert {f.epoch for f in frames[300:]} == {1}  # not to be compared with those before
    assert times(frames[300:]) == pytest.approx([*came[310:], 1041.0, 1041.1])


@pytest.mark.parametrize(
    ("step_s", "how", "policy"),
    [
        (0.2, {}, "auto"),  # quicker: a recording, or one that accuses nobody
        (0.06, {"duration": 60_000_000}, "auto"),  # a recording over a slow network
        (0.06, {"kind": "hls"}, "auto"),
        (0.06, {}, "queue"),  # its reader is slow, and it waits
    ],
)
def test_stamps_are_followed_where_frames_need_not_come_in_their_own_time(
    world, step_s, how, policy
):
    stamps, came = [k * step_s for k in range(320)], [1000.0 + k / 10.0 for k in range(320)]
    world.videos = [Video(decoded_frames(*stamps), came, **how)]
    source = world.source(SourceSettings(CAMERA, policy=policy, buffer=999, attempts=1))
    frames, healths = play(source)
    assert {h.clock for h in healths} == {"stream"}
    assert {f.epoch for f in frames} == {0}
    assert np.diff(times(frames)) == pytest.approx(step_s, abs=2e-3)


@pytest.mark.parametrize("step_s", [0.04, 0.1, 0.5])
@pytest.mark.parametrize("stall_s", [0.0, 0.4, 1.0, 2.0])
def test_frames_without_times_that_were_held_back_are_not_taken(step_s, stall_s):
    """Every ten seconds the line stalls; then what was held back comes at once, or slowly. Of what
    is taken nothing is later than the longest time between two frames that is no stall.
    """
    taken = np.arange(0.0, 60.0, step_s)
    into = taken % 10.0
    for drain in (0.0, 0.7):  # s that each second of what was held back takes
        stalled = (into < stall_s / (1.0 - drain)) & (taken > 9.0)
        came = np.where(stalled, taken - into + stall_s + drain * into, taken)
        arrivals = Arrivals()
        in_time = np.array([not arrivals.is_late(at) for at in came.tolist()])
        assert not in_time[taken < 0.9].any()
        late_s = (came - taken)[in_time]
        assert late_s.max() <= 1.5 * step_s + 0.1 + 1e-9
        assert in_time[(taken > 1.0) & ~stalled].mean() > 0.9
        if not stall_s:
            assert in_time[taken > 1.001].all()


@pytest.mark.parametrize("steps_s", [(0.04, 0.5), (0.5, 0.04), (0.1, 1.0), (1.0, 0.1)])
def test_a_camera_without_times_that_changes_its_pace_is_followed(steps_s):
    first, second = (np.arange(0.0, 30.0, step_s) for step_s in steps_s)
    arrivals = Arrivals()
    came = [*first.tolist(), *(30.0 + second).tolist()]
    in_time = np.array([not arrivals.is_late(at) for at in came])
    assert in_time[(np.array(came) > 1.1) & (np.array(came) < 29.9)].all()
    assert in_time[np.array(came) > 39.0].all()


def test_frames_without_times_that_always_come_in_pairs_are_taken():
    arrivals = Arrivals()
    in_time = [not arrivals.is_late(float(2 * (k // 2))) for k in range(60)]
    assert sum(in_time) >= 50


def test_stamps_that_come_in_a_burst_or_held_back_are_followed(world):
    """Four seconds at once at the begin, and none for three seconds later on."""
    came = [max(1000.0 + k / 10.0 - 4.0, 1000.0) for k in range(700)]
    came = [1033.0 if 1030.0 < at < 1033.0 else at for at in came]
    world.videos = [Video(decoded_frames(*(k / 10.0 for k in range(700))), came)]
    source = world.source(SourceSettings(CAMERA, attempts=1))
    frames, _ = play(source)
    assert source.health.clock == "stream"
    assert {f.epoch for f in frames} == {0}
    assert np.diff(times(frames[-100:])) == pytest.approx(0.1, abs=1e-3)


def test_the_requested_rate_applies_to_the_corrected_time(world):
    world.videos = [
        Video(decoded_frames(5.0, 5.1, 5.2), [1000.0, 1000.1, 1000.2]),
        Video(decoded_frames(1.0, 1.1, 1.2), [1100.0, 1100.1, 1100.2]),
    ]
    source = world.source(SourceSettings(CAMERA, attempts=1, rate_hz=5.0))
    frames, _ = play(source)
    assert times(frames) == [1000.0, 1000.2, 1100.0, 1100.2]  # anew with each connection


# -- who takes them


@pytest.mark.parametrize(
    ("policy", "kept"), [("auto", [6, 7, 8, 9]), ("recent", [6, 7, 8, 9]), ("latest", [9])]
)
def test_of_a_live_stream_the_newest_frames_are_kept_and_dropped_ones_counted(world, policy, kept):
    world.videos = [Video(decoded_frames(*range(10)))]
    source = world.source(SourceSettings(CAMERA, policy, attempts=1))
    source.start()
    assert (source.waiting, source.health.dropped, source.health.received) == (
        len(kept),
        10 - len(kept),
        10,
    )
    assert [source.take().number for _ in kept] == kept
    assert source.take() is None


def test_rate_is_that_of_the_last_five_seconds(world):
    came = [1000.0, 1000.0, 1001.0, 1005.0, 1006.5]
    world.videos = [Video(decoded_frames(*(c - 1000 for c in came)), came)]
    _, healths = play(world.source(SourceSettings("a.mp4")))
    assert [h.rate_hz for h in healths] == pytest.approx([0.0, 0.0, 2.0, 3 / 5, 1 / 1.5])


def test_rate_is_that_of_256_frames_at_most(world):
    came = [1000.0 + (k / 128 if k < 44 else 44 / 128 + (k - 44) / 512) for k in range(300)]
    world.videos = [Video(decoded_frames(*(c - 1000 for c in came)), came)]
    _, healths = play(world.source(SourceSettings("a.mp4")))
    assert healths[-1].rate_hz == pytest.approx(512.0)
    assert healths[43].rate_hz == pytest.approx(128.0)
    assert healths[298].rate_hz == pytest.approx(255 / (254 / 512 + 1 / 128))


def test_frames_waits_through_gaps_in_the_stream(world, monkeypatch):
    world.videos = [Video(decoded_frames(0.0, 0.1))]
    source = world.source(SourceSettings("a.mp4"))
    taken, answers = source.take, [None, 1, 1, None, None]
    monkeypatch.setattr(FrameSource, "over", property(lambda self: len(answers) == 0))
    asked = []
    monkeypatch.setattr(
        source,
        "take",
        lambda timeout: asked.append(timeout) or (taken(0.0) if answers.pop(0) else None),
    )
    assert times(source.frames()) == [0.0, 0.1]
    assert asked == [1.0] * 5
    assert world.joins == [10.0]


def test_a_source_that_runs_cannot_be_started_and_waits_for_room():
    """A real thread: four frames wait, the fifth is decoded, the sixth is not asked for."""
    video, world = Video(decoded_frames(*range(9))), World()
    world.videos = [video]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources.av, "open", world.open)
        video.clock = world
        source = FrameSource(SourceSettings("a.mp4"))
        heard = []
        source.on_change = lambda: heard.append(source.health.state)
        source.start()
        with pytest.raises(SensingError) as refused:
            source.start()
        assert str(refused.value) == "a.mp4: it runs already"
        while source.waiting < 4 or video.asked < 5:
            assert not source.over
        assert source.take(5.0).number == 0
        while video.asked < 6:
            assert not source.over
        threading.Event().wait(0.05)
        assert (source.waiting, video.asked, source.health.received) == (4, 6, 5)
        source.stop()
        assert (source.waiting, source.take(0.0), source.health.state, source.over) == (
            0,
            None,
            "idle",
            True,
        )
        assert heard == ["running"] * 5
        assert not [t for t in threading.enumerate() if t.name == "source a.mp4"]


def test_a_waiting_reader_is_woken_by_a_frame_and_by_the_end():
    with pytest.MonkeyPatch.context() as patch:
        world = World()
        gate = threading.Event()

        class Slow(DecodedFrame):
            def to_ndarray(self, format=None):
                gate.wait(10.0)
                return super().to_ndarray(format)

        world.videos = [Video([Slow(0.0)])]
        patch.setattr(sources.av, "open", world.open)
        source = FrameSource(SourceSettings("a.mp4"))
        source.start()
        assert source.take(0.01) is None
        assert not source.over
        threading.Timer(0.05, gate.set).start()
        assert source.take(20.0).number == 0
        assert source.take(20.0) is None
        assert source.health.state == "ended"


# -- a folder of images


def folder(path, *levels):
    for k, level in enumerate(levels):
        if level is None:
            (path / f"{k}.png").write_bytes(b"no image")
        else:
            cv2.imwrite(str(path / f"{k}.png"), np.full((4, 6, 3), level, np.uint8))
    return path


def test_a_folder_in_the_order_of_its_names(world, tmp_path):
    for name in ("b.JPG", "a.png", "c.jpeg", "d.bmp", "e.webp"):
        cv2.imwrite(str(tmp_path / name), np.full((4, 6, 3), ord(name[0]), np.uint8))
    (tmp_path / "aa.txt").write_text("no image")
    source = world.source(SourceSettings(str(tmp_path)))
    frames, healths = play(source)
    assert [
        (f.number, int(f.image[0, 0, 0]), f.image.shape, f.image.dtype, f.decoded_s) for f in frames
    ] == [(k, level, (4, 6, 3), np.uint8, 100.0) for k, level in enumerate((97, 98, 99, 100, 101))]
    assert times(frames) == [0.0, 0.1, 0.2, 0.3, 0.4]  # ten a second where no rate is given
    assert healths[0] == SourceHealth(
        "running", 1, connections=1, size=(6, 4), clock="rate", length=5
    )
    assert (source.health, world.opened, world.waits) == (
        replace(healths[-1], state="ended"),
        [],
        [],
    )


def test_a_paced_folder_waits_and_a_broken_image_leaves_a_gap(world, tmp_path):
    source = world.source(
        SourceSettings(str(folder(tmp_path, 10, None, 30, 40)), rate_hz=4.0, paced=True)
    )
    frames, _ = play(source)
    assert (times(frames), [f.number for f in frames]) == ([0.0, 0.5, 0.75], [0, 2, 3])
    assert world.waits == pytest.approx([0.0, 0.5, 0.25])
    assert [f.decoded_s for f in frames] == [100.0, 100.5, 100.75]
    assert (
        source.health.broken,
        source.health.fault,
        source.health.state,
        source.health.received,
    ) == (1, "1.png is no image", "ended", 3)


def test_a_folder_that_is_stopped_waits_for_no_further_image(world, tmp_path):
    source = world.source(
        SourceSettings(str(folder(tmp_path, 10, 20, 30, 40)), rate_hz=4.0, paced=True)
    )
    assert times(play(source, most=2)[0]) == [0.0, 0.25]
    assert world.waits == [0.0, 0.25]
    assert source.health.state == "idle"
    never = world.source(SourceSettings("a.mp4"))
    never.stop()
    assert (never.health, world.joins) == (SourceHealth(), [10.0])


def test_a_folder_that_is_late_does_not_wait(world, tmp_path):
    source = world.source(
        SourceSettings(str(folder(tmp_path, 10, 20, 30)), rate_hz=4.0, paced=True, policy="queue")
    )
    source.on_change = lambda: setattr(world, "now", world.now + 0.4)
    source.start()
    assert world.waits == [0.0, 0.0, 0.0]


def test_the_time_of_a_repeated_folder_continues(world, tmp_path):
    source = world.source(SourceSettings(str(folder(tmp_path, 10, 20)), rate_hz=4.0, repeat=True))
    frames, _ = play(source, most=5)
    assert times(frames) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert (source.health.connections, source.health.received, source.health.state) == (
        3,
        5,
        "idle",
    )


def test_a_folder_without_images_or_with_none_that_can_be_read(world, tmp_path, monkeypatch):
    source = world.source(SourceSettings(str(tmp_path)))
    play(source)
    assert source.health.fault == (
        f"{tmp_path}: there is no image in the folder. Known endings: .jpg, .jpeg, .png, "
        ".bmp, .webp"
    )
    folder(tmp_path, None, None)
    play(source)
    assert (source.health.fault, source.health.broken) == (
        f"{tmp_path}: none of the 2 images in the folder can be read",
        2,
    )
    monkeypatch.setattr(images, "MOST_PIXELS", 23)
    folder(tmp_path, 10)
    play(source)
    assert source.health.fault == (
        f"{tmp_path}: the image 0.png is 6 x 4; at most 0 million pixels are taken. Make it "
        "smaller, or take it out of the folder."
    )
    assert source.health.state == "failed"


# -- images from all over


def test_samples_are_spread_over_a_folder(tmp_path):
    levels = [10, 20, 30, 40, 50, 60, 70]
    folder(tmp_path, *levels)
    (tmp_path / "3.txt").write_text("no image")
    for count, expected in (
        (1, [10]),
        (2, [10, 40]),
        (3, [10, 30, 50]),
        (4, [10, 20, 30, 40]),
        (7, levels),
        (9, levels),
    ):
        assert [int(image[0, 0, 0]) for image in sources.sampled(str(tmp_path), count)] == expected
    (tmp_path / "0.png").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((5, 6, 3), np.uint8))
    assert [int(image[0, 0, 0]) for image in sources.sampled(str(tmp_path), 7)] == [
        20,
        40,
        50,
        60,
        70,
    ]  # of one size
    cv2.imwrite(str(tmp_path / "6.png"), np.zeros((5, 6, 3), np.uint8))
    assert [int(image[0, 0, 0]) for image in sources.sampled(str(tmp_path), 7)] == [
        20,
        40,
        50,
        60,
    ]  # the first one's


def at(step, count, begin=0.0):
    """Images whose level is their place."""
    return [DecodedFrame(begin + k * step, k) for k in range(count)]


@pytest.mark.parametrize(
    ("video", "count", "taken", "sought"),
    [
        (
            Video(at(0.5, 20), duration=10_000_000),
            4,
            [0, 5, 10, 15],
            [0],
        ),  # one after the other, every 2.5 s
        (
            Video(at(0.5, 20, 3.0), duration=10_000_000, begin=3_000_000),
            4,
            [0, 5, 10, 15],
            [3_000_000],
        ),
        (
            Video(at(0.4, 25), duration=10_000_000),
            4,
            [0, 7, 13, 19],
            [0],
        ),  # the first at or after 2.5, 5 and 7.5 s
        (
            Video(at(1.0, 100), duration=100_000_000, keys=range(0, 100, 10)),
            4,
            [0, 20, 50, 70],
            [0, 25_000_000, 50_000_000, 75_000_000],
        ),
        (
            Video(at(0.5, 200), duration=100_000_000, keys=(0, 12.5, 49)),
            4,
            [0, 26, 98, 124],
            [0, 25_000_000, 50_000_000, 75_000_000],
        ),
        (
            Video(at(0.5, 200), duration=100_000_000, keys=(0,)),
            4,
            [0, 26, 100, 150],
            [0, 25_000_000],
        ),  # one whole image only
        (
            Video(at(1.0, 40), duration=40_000_000, keys=(0,)),
            4,
            [0, 10, 20, 30],
            [0],
        ),  # ten seconds are not far
        (
            Video(at(1.0, 44), duration=44_000_000, keys=(0, 9, 12, 22, 30)),
            4,
            [0, 9, 22, 30],
            [0, 11_000_000, 22_000_000 - 2_000_000 + 2_000_000, 33_000_000],
        ),
        (
            Video([DecodedFrame(None, k) for k in range(5)], duration=8_000_000),
            4,
            [0, 1, 2, 3],
            [0],
        ),
        (Video(at(1.0, 5), duration=8_000_000), 4, [0, 2, 4], [0]),  # shorter than it says
        (Video(at(1.0, 5), duration=0), 4, [], []),
        (Video(at(1.0, 5)), 4, [], []),
    ],
)
def test_samples_are_spread_over_a_file(world, video, count, taken, sought):
    world.videos = [video]
    if video.decoded[0].time is None:
        video.seek = video.sought.append
    assert [int(image[0, 0, 0]) for image in sources.sampled("a.mp4", count)] == taken
    assert video.sought == sought
    assert world.opened == [("a.mp4", {})]


def test_a_file_that_cannot_be_opened_gives_no_samples(world):
    for error in (FileNotFoundError("x"), av.error.InvalidDataError(1, "x")):
        world.videos = [error]
        assert sources.sampled("a.mp4", 3) == []


# -- images and decoders


def test_the_usual_format_is_converted_to_bgr_by_its_three_planes():
    """Red by ITU-R BT.601: Y 81, U 90, V 240."""
    for width, height in ((4, 2), (6, 6)):
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane, level in zip(frame.planes, (81, 90, 240), strict=True):
            plane.update(bytes([level]) * plane.buffer_size)
        asked = []
        image = SimpleNamespace(
            format=frame.format,
            width=width,
            height=height,
            to_ndarray=lambda frame=frame, asked=asked, **how: (
                asked.append(how) or frame.to_ndarray(**how)
            ),
        )
        image = sources.bgr_image(image)
        assert asked == [{}]  # as it is
        assert (image.shape, image.dtype) == ((height, width, 3), np.uint8)
        assert np.abs(image.astype(int) - (0, 0, 255)).max() <= 2


@pytest.mark.parametrize(
    ("width", "height", "name"),
    [(3, 2, "yuv420p"), (2, 3, "yuv420p"), (5, 5, "yuv420p"), (2, 2, "yuvj420p")],
)
def test_other_formats_and_odd_sizes_are_converted_to_bgr_by_the_decoder(width, height, name):
    assert (
        sources.bgr_image(DecodedFrame(0.0, 77, width, height, name)).tolist()
        == np.full((height, width, 3), 77).tolist()
    )


@pytest.mark.parametrize(
    ("devices", "known", "chosen"),
    [
        ((), ("cuda", "vaapi"), None), (("/dev/nvidia0",), ("cuda", "vaapi"), "cuda"),
        (("/dev/dri/renderD128",), ("cuda", "vaapi"), "vaapi"),
        (("/dev/nvidia0", "/dev/dri/renderD128"), ("cuda", "vaapi"), "cuda"),
        (("/dev/nvidia0", "/dev/dri/renderD128"), ("vaapi",), "vaapi"),
        (("/dev/nvidia0",), ("vaapi",), None),
        (("/dev/nvidia0", "/dev/dri/renderD128"), ("cuda fails", "cuda", "vaapi"), "vaapi"),
    ],
)  # fmt: skip
def test_a_hardware_decoder_is_used_where_there_is_one(monkeypatch, devices, known, chosen):
    from av.codec import hwaccel

    def make(kind, allow_software_fallback):
        assert allow_software_fallback is True
        if f"{kind} fails" in known:
            raise RuntimeError("the card is busy")
        return kind

    monkeypatch.setattr(Path, "exists", lambda self: str(self) in devices)
    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: list(known))
    monkeypatch.setattr(hwaccel, "HWAccel", make)
    assert sources.hardware_decoder() == chosen
