"""Sources against real servers and real files:
RTSP killed and restarted, MJPEG over HTTP, folders, broken files.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import time

import cv2
import numpy as np
import pytest
from tests.ports import closed_port, free_port
from tests.sensing.scenes import along, camera, film, scene_frames
from tests.vision.rtsp import HAS_RTSP, rtsp, stop
from tests.waiting import until

from headway.sensing import SensingError
from headway.vision.frames import images, sources
from headway.vision.frames.sources import FrameSource, SourceSettings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return film(tmp_path_factory.mktemp("clip") / "clip.mp4", along(), 3.0)


@pytest.mark.skipif(
    not HAS_RTSP,
    reason="NO RTSP SERVER: install Debian's gir1.2-gst-rtsp-server-1.0, "
    "python3-gi and gstreamer1.0-plugins-ugly",
)
def test_an_rtsp_camera_reconnects():
    port = free_port()
    server = rtsp(port)
    camera = FrameSource(
        SourceSettings(
            f"rtsp://user:secret@127.0.0.1:{port}/ball",
            delay_s=0.2,
            longest_delay_s=1.0,
            silent_s=3.0,
        )
    )
    assert "secret" not in camera.settings.display_url
    camera.start()
    try:
        frames = [camera.take(10.0) for _ in range(30)]
        assert all(f is not None and f.image.shape == (240, 320, 3) for f in frames)
        gaps = [b.at_s - a.at_s for a, b in itertools.pairwise(frames)]
        assert all(g > 0 for g in gaps)
        assert abs(frames[-1].at_s - time.time()) < 2.0  # on the wall's clock, by the stream's own
        assert (
            sum(abs(g * 15.0 - round(g * 15.0)) < 0.05 for g in gaps) > 25
        )  # whole frame times, however they arrived
        stop(server)
        until(lambda: camera.health.state == "reconnecting")
        assert camera.health.fault
        before = camera.health.received
        server = rtsp(port)
        until(lambda: camera.health.received > before + 10)
        assert camera.health.connections == 2
    finally:
        camera.stop()
        stop(server)
    assert camera.health.state == "idle"


def test_http_mjpeg():
    with camera(scene_frames(along(), 2.0), repeat=True) as address:
        source = FrameSource(SourceSettings(address, delay_s=0.1, policy="queue"))
        source.start()
        try:
            assert all(source.take(10.0) is not None for _ in range(20))
        finally:
            source.stop()


def test_a_file_gives_all_frames_with_its_own_time(clip):
    frames = list(FrameSource(SourceSettings(str(clip))).frames())
    assert len(frames) == 45
    assert [round(f.at_s * 15) for f in frames] == list(range(45))


def test_a_repeated_file_continues_in_time(clip):
    camera = FrameSource(SourceSettings(str(clip), repeat=True))
    times = []
    for frame in camera.frames():
        times.append(frame.at_s)
        if len(times) == 100:
            break
    assert times == sorted(times)
    assert times[99] == pytest.approx(99 / 15, abs=0.01)


def test_a_slow_reader_gets_the_newest_frames_and_dropped_ones_are_counted(clip):
    camera = FrameSource(SourceSettings(str(clip), paced=True, policy="latest"))
    camera.start()
    time.sleep(1.5)
    frame = camera.take(1.0)
    camera.stop()
    assert frame.number > 10
    assert camera.health.dropped >= frame.number - 1


def test_a_folder_of_images(tmp_path):
    for k, frame in enumerate(scene_frames(along(), 1.0)):
        cv2.imwrite(str(tmp_path / f"{k:03d}.png"), frame.image)
    (tmp_path / "004.png").write_bytes(b"no image")
    camera = FrameSource(SourceSettings(str(tmp_path), rate_hz=5.0))
    frames = list(camera.frames())
    assert len(frames) == 14
    assert frames[1].at_s == pytest.approx(0.2)
    assert camera.health.broken == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p / "nowhere.mp4", "no such file"),
        (
            lambda p: ((p / "empty.mp4").write_bytes(b"") and None) or p / "empty.mp4",
            "no video that can be decoded",
        ),
        (
            lambda p: (p / "text.mp4").write_text("not a video " * 100) and p / "text.mp4",
            "no video that can be decoded",
        ),
        (lambda p: (p / "dir").mkdir() or p / "dir", "no image in the folder"),
    ],
)
def test_an_unreadable_source_is_refused_with_the_reason(tmp_path, make, says):
    with pytest.raises(SensingError, match=says):
        list(FrameSource(SourceSettings(str(make(tmp_path)))).frames())


def test_a_truncated_file_gives_what_it_has_and_says_so(tmp_path):
    whole = film(tmp_path / "whole.mkv", along(), 20.0)
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    camera, frames = FrameSource(SourceSettings(str(tmp_path / "cut.mkv"))), []
    with pytest.raises(
        SensingError, match=r"cut\.mkv: it is cut short: 1\d\.\d of (19\.9|20\.0) s could be read"
    ):
        frames.extend(camera.frames())
    assert [f.at_s for f in frames[:2]] == [0.0, 0.067]
    assert 100 < len(frames) < 300


def test_an_unreachable_server_is_tried_as_often_as_requested():
    with closed_port() as port, pytest.raises(SensingError, match="3 attempts"):
        camera = FrameSource(
            SourceSettings(f"rtsp://127.0.0.1:{port}/x", attempts=3, delay_s=0.05, silent_s=1.0)
        )
        list(camera.frames())


def test_frames_beyond_the_rate_are_skipped_and_counted(clip):
    source = FrameSource(SourceSettings(str(clip), rate_hz=5.0))
    taken = len(list(source.frames()))
    assert taken == 15
    assert (source.health.received, source.health.skipped, source.health.dropped) == (45, 30, 0)


def test_oversized_images_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MOST_PIXELS", 320 * 200)
    film(tmp_path / "large.mp4", along(), 2.0)
    with pytest.raises(SensingError, match="320 x 240"):
        list(FrameSource(SourceSettings(str(tmp_path / "large.mp4"))).frames())


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_an_image_that_is_too_large_is_refused_by_its_header(tmp_path, monkeypatch, suffix):
    """Before it is decoded: an image of 16,384 pixels square takes a gigabyte."""
    cv2.imwrite(str(tmp_path / f"a{suffix}"), np.zeros((240, 320, 3), np.uint8))
    monkeypatch.setattr(images, "MOST_PIXELS", 320 * 240 - 1)
    monkeypatch.setattr(images.cv2, "imread", lambda path: pytest.fail("it was decoded"))
    with pytest.raises(SensingError, match=f"the image a{suffix} is 320 x 240; at most 0 million"):
        list(FrameSource(SourceSettings(str(tmp_path))).frames())
    assert sources.sampled(str(tmp_path), 9) == []
    monkeypatch.setattr(images.PIL.Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow's own, far above ours
    with pytest.raises(SensingError, match=f"the image a{suffix} is far larger; at most"):
        list(FrameSource(SourceSettings(str(tmp_path))).frames())


def test_an_image_whose_header_lies_is_refused_once_it_is_decoded(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((24, 32, 3), np.uint8))
    monkeypatch.setattr(images, "MOST_PIXELS", 32 * 24)
    monkeypatch.setattr(images.cv2, "imread", lambda path: np.zeros((25, 32, 3), np.uint8))
    with pytest.raises(SensingError, match=r"the image a\.png is 32 x 25"):
        list(FrameSource(SourceSettings(str(tmp_path))).frames())


def test_a_pipe_is_read_once_and_no_sample_is_taken_of_it(clip, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    pipe = str(tmp_path / "pipe")
    assert sources.sampled(pipe, 9) == []  # at once: nobody writes
    film(tmp_path / "clip.ts", along(), 2.0)
    with subprocess.Popen(["cp", str(tmp_path / "clip.ts"), pipe]):
        assert len(list(FrameSource(SourceSettings(pipe)).frames())) == 30


def test_no_background_is_learned_from_a_film_that_is_too_large(clip, monkeypatch):
    monkeypatch.setattr(images, "MOST_PIXELS", 320 * 200)
    monkeypatch.setattr(sources, "bgr_image", lambda frame: pytest.fail("it was decoded"))
    assert sources.sampled(str(clip), 9) == []


def test_samples_are_spread_over_a_clip(clip, tmp_path):
    few = sources.sampled(str(clip), 9)
    assert len(few) == 9
    assert {image.shape for image in few} == {(240, 320, 3)}
    assert (
        len({image.tobytes() for image in few}) == 9
    )  # not one whole image of the stream nine times
    (tmp_path / "empty.mp4").write_bytes(b"")
    assert (
        sources.sampled(str(tmp_path / "empty.mp4"), 9)
        == sources.sampled(str(tmp_path / "none.mp4"), 9)
        == []
    )
    for k, image in enumerate(few):
        cv2.imwrite(str(tmp_path / f"{k}.png"), image)
    assert len(sources.sampled(str(tmp_path), 4)) == 4
