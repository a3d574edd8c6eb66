"""What is drawn on a frame, pixel by pixel against the same lines drawn by hand;
heat, JPEG and film.
"""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from tests.sensing.hand_made import GREY, observed_at, road_user, site

from headway.sensing import SensingError, Site
from headway.sensing.output.overlay import VideoWriter, drawn, heat_map, jpeg
from headway.sensing.pipeline import FrameResult
from headway.sensing.traffic.measures import Measures
from headway.vision.detection.detectors import (
    BICYCLE,
    BUS,
    CAR,
    MOTORCYCLE,
    PERSON,
    TRUCK,
    VEHICLE,
)
from headway.vision.frames.sources import Frame

PARTS = {
    "zones": [
        {"name": "a", "kind": "lane", "px": [[10.4, 20.6], [60, 20], [60, 60]]},
        {"name": "b", "kind": "box", "px": [[80, 20], [130, 20], [130, 60]]},
        {"name": "c", "kind": "crossing", "px": [[150, 20], [200, 20], [200, 60]]},
        {"name": "d", "kind": "forbidden", "px": [[220, 20], [270, 20], [270, 60]]},
    ],
    "lines": [{"name": "gate", "px": [[20, 100.4], [120, 160]]},
        {"name": "exit", "px": [[200, 3], [300, 80]]}],
}  # fmt: skip


def text(image, words, at, colour):
    """Black at each of the eight pixels around, then the colour."""
    x, y = at
    for left, down in [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b] + [(0, 0)]:
        shade = (0, 0, 0) if left or down else colour
        place = (x + left, y + down)
        cv2.putText(image, words, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, shade, 1, cv2.LINE_AA)


def observed(*tracks, image=GREY):
    return FrameResult(Frame(1.0, 1, image), len(tracks), list(tracks), [], [], None)


def drawing(*tracks, of=None, reported=(), measures=None):
    of = of or Site((320, 240))
    return drawn(observed(*tracks), of, measures or Measures(of), reported)


def test_zones_and_lines_with_their_counts():
    of = site(**PARTS)
    measures = Measures(of)
    measures.counts.update(
        {
            ("gate", "in", "car"): 3,
            ("gate", "in", "bus"): 2,
            ("gate", "out", "car"): 7,
            ("exit", "out", "person"): 1,
        }
    )
    want = GREY.copy()
    for corners, colour in (
        ([(10, 21), (60, 20), (60, 60)], (200, 160, 60)),
        ([(80, 20), (130, 20), (130, 60)], (60, 60, 220)),
        ([(150, 20), (200, 20), (200, 60)], (220, 220, 220)),
        ([(220, 20), (270, 20), (270, 60)], (60, 60, 220)),
    ):  # fmt: skip
        cv2.polylines(want, [np.array(corners, np.int32)], True, colour, 1, cv2.LINE_AA)
    cv2.line(want, (20, 100), (120, 160), (0, 220, 255), 2, cv2.LINE_AA)
    text(want, "5 / 7", (24, 96), (0, 220, 255))
    cv2.line(want, (200, 3), (300, 80), (0, 220, 255), 2, cv2.LINE_AA)
    text(want, "0 / 1", (204, 10), (0, 220, 255))  # no text above the frame
    assert np.array_equal(drawing(of=of, measures=measures), want)
    assert (GREY == 90).all()  # the frame itself is left as it is


@pytest.mark.parametrize(
    ("kind", "known", "colour", "thick", "words"),
    [
        (PERSON, {}, (80, 200, 255), 2, "7 person"),
        (BICYCLE, {}, (255, 180, 60), 2, "7 bicycle"),
        (CAR, {}, (90, 220, 90), 2, "7 car"),
        (MOTORCYCLE, {}, (220, 120, 220), 2, "7 motorcycle"),
        (BUS, {}, (60, 120, 255), 2, "7 bus"),
        (TRUCK, {}, (60, 160, 255), 2, "7 truck"),
        (VEHICLE, {}, (90, 220, 90), 2, "7 vehicle"),
        (CAR, {"speed_mps": 10.2}, (90, 220, 90), 2, "7 car 37 km/h"),  # 36.72
        (CAR, {"speed_mps": 0.0}, (90, 220, 90), 2, "7 car 0 km/h"),
        (CAR, {"violations": {"speeding"}}, (0, 0, 255), 2, "7 car"),
        (CAR, {"lines_crossed": {"gate": 1.0}}, (90, 220, 90), 2, "7 car"),
        (CAR, {"coasting": True}, (160, 160, 160), 1, "7 car"),
        (CAR, {"coasting": True, "violations": {"speeding"}}, (160, 160, 160), 1, "7 car"),
    ],
)
def test_a_road_user_has_its_box_colour_name_and_speed(kind, known, colour, thick, words):
    want = GREY.copy()
    cv2.rectangle(want, (101, 80), (141, 110), colour, thick)
    text(want, words, (101, 76), colour)
    assert np.array_equal(
        drawing(observed_at(road_user(7, kind), 1.0, (120.6, 110.3), size=(40.0, 30.0), **known)),
        want,
    )


def test_labels_stay_on_the_frame_and_recent_violations_are_drawn_line_by_line():
    want = GREY.copy()
    cv2.rectangle(want, (40, 5), (80, 25), (90, 220, 90), 2)
    text(want, "7 car", (40, 10), (90, 220, 90))
    for words, y in (("speeding #7", 18), ("red_light #9", 36), ("wrong_way #1", 54)):
        text(want, words, (8, y), (0, 0, 255))
    track = observed_at(road_user(7), 1.0, (60, 25))
    assert np.array_equal(
        drawing(track, reported=["speeding #7", "red_light #9", "wrong_way #1"]), want
    )


# -- heat


def test_the_heat_map_is_redder_where_road_users_were_longer():
    """ln(1 + s): of 7, 1 and 0 s the levels are 255, 85 and 0; the frame keeps 60 %."""
    measures = Measures(Site((64, 64)))
    measures.heat[10:30, 10:30], measures.heat[40:60, 40:60] = 7.0, 1.0
    image = np.full((64, 64, 3), 100, np.uint8)
    out = heat_map(image, measures)
    assert (out.dtype, out.shape) == (np.uint8, (64, 64, 3))
    shades = cv2.applyColorMap(np.uint8([[255, 85, 0]]), cv2.COLORMAP_INFERNO)[0].astype(float)
    for place, shade in (((20, 20), shades[0]), ((50, 50), shades[1]), ((20, 50), shades[2])):
        assert out[place].tolist() == pytest.approx(0.6 * 100 + 0.4 * shade, abs=1.0)
    assert (image == 100).all()


def test_a_heat_map_has_the_size_of_the_frame_and_is_cold_where_no_road_user_was():
    out = heat_map(np.full((90, 160, 3), 50, np.uint8), Measures(Site((320, 180))))
    assert out.shape == (90, 160, 3)
    cold = cv2.applyColorMap(np.uint8([[0]]), cv2.COLORMAP_INFERNO)[0, 0].astype(float)
    assert np.abs(out - (30.0 + 0.4 * cold)).max() <= 1.0
    short = Measures(Site((64, 64)))
    short.heat[:] = 0.01  # the longest is the reddest, however short it was
    hot = cv2.applyColorMap(np.uint8([[255]]), cv2.COLORMAP_INFERNO)[0, 0].astype(float)
    assert np.abs(heat_map(np.zeros((64, 64, 3), np.uint8), short) - 0.4 * hot).max() <= 1.0


# -- JPEG and film


def quality_of(frame):
    """The largest entry of the luminance table, 121 at full strength:
    60.5 % of it at quality 70, 50 % at 75, 30 % at 85.
    """
    k = frame.index(b"\xff\xdb")
    return max(frame[k + 5 : k + 5 + 64])


@pytest.mark.parametrize(("size", "more", "shape"), [
    ((960, 540), {}, (540, 960)), ((962, 541), {}, (540, 960)), ((1920, 1080), {}, (540, 960)),
    ((320, 240), {}, (240, 320)),
    ((320, 240), {"widest": 160}, (120, 160)), ((320, 240), {"widest": 320}, (240, 320)),
])  # fmt: skip
def test_a_jpeg_is_made_smaller_where_it_is_too_wide(size, more, shape):
    image = np.full((size[1], size[0], 3), (30, 90, 200), np.uint8)
    out = cv2.imdecode(np.frombuffer(jpeg(image, **more), np.uint8), cv2.IMREAD_COLOR)
    assert out.shape[:2] == shape
    assert out[shape[0] // 2, shape[1] // 2].tolist() == pytest.approx([30, 90, 200], abs=4)


def test_the_quality_of_a_jpeg():
    """121 x (200 - 2 q) / 100, rounded: 61 for the usual 75, 36 for 85."""
    assert quality_of(jpeg(GREY)) == 61
    assert quality_of(jpeg(GREY, 85)) == 36


@pytest.mark.parametrize(
    ("rate", "fraction"),
    [
        (10.0, Fraction(10)),
        (12.5, Fraction(25, 2)),
        (29.97, Fraction(2997, 100)),
        (7.001, Fraction(7001, 1000)),
    ],
)
def test_a_video_has_every_frame_at_its_rate_with_even_sides(tmp_path, rate, fraction):
    path = tmp_path / "new" / "folder" / "film.mp4"
    film = VideoWriter(path, rate)
    for k in range(6):
        image = np.full((61, 83, 3), 40 * k, np.uint8)
        image[-1], image[:, -1] = 255, 255  # what does not fit falls off below and on the right
        film.write(image)
    film.close()
    with av.open(str(path)) as box:
        stream = box.streams.video[0]
        assert (stream.width, stream.height, stream.codec_context.name) == (82, 60, "h264")
        assert float(stream.average_rate) == pytest.approx(float(fraction), rel=1e-4)
        frames = [f.to_ndarray(format="bgr24") for f in box.decode(stream)]
    assert [int(f.mean().round()) for f in frames] == pytest.approx(
        [40 * k for k in range(6)], abs=3
    )
    assert all(f.std() < 8.0 for f in frames)


def test_a_video_keeps_its_colours_and_one_without_frames_can_be_closed(tmp_path):
    film = VideoWriter(tmp_path / "film.mp4", 10.0)
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32], image[:, 32:] = (200, 60, 30), (30, 60, 200)
    film.write(image[:, ::-1])  # not one block of memory
    film.close()
    with av.open(str(tmp_path / "film.mp4")) as box:
        (frame,) = [f.to_ndarray(format="bgr24") for f in box.decode(video=0)]
    assert frame[24, 10].tolist() == pytest.approx([30, 60, 200], abs=8)
    assert frame[24, 50].tolist() == pytest.approx([200, 60, 30], abs=8)
    VideoWriter(tmp_path / "none.mp4", 10.0).close()


def test_a_video_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "film.mp4", tmp_path / "film.nothing"):
        with pytest.raises(SensingError) as caught:
            VideoWriter(path, 10.0)
        assert str(caught.value).startswith(f"{path}: cannot be written (")
        assert str(caught.value).endswith("). Use a name such as clip.mp4 in a folder of yours.")
