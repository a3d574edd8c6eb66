"""Frames with their tracks, lines and zones drawn on them, and videos made of them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from headway.sensing import SensingError
from headway.sensing.pipeline import FrameResult
from headway.sensing.tracking.tracks import Track
from headway.sensing.traffic.evidence import draw_text
from headway.sensing.traffic.measures import Direction, Measures
from headway.sensing.traffic.site import Line, Site
from headway.vision.detection.detectors import CLASSES
from headway.vision.frames.images import Image

COLOURS = (  # by class; all colours are blue, green, red
    (80, 200, 255),
    (255, 180, 60),
    (90, 220, 90),
    (220, 120, 220),
    (60, 120, 255),
    (60, 160, 255),
    (90, 220, 90),
)
ZONES = {
    "lane": (200, 160, 60),
    "box": (60, 60, 220),
    "crossing": (220, 220, 220),
    "forbidden": (60, 60, 220),
}
RED = (0, 0, 255)
YELLOW = (0, 220, 255)
GREY = (160, 160, 160)


def drawn(result: FrameResult, site: Site, measures: Measures, recent: Sequence[str] = ()) -> Image:
    """The frame with zones, lines and their counts, boxes with class, id and speed.

    recent: texts of the last violations, drawn one below the other.
    """
    out = result.frame.image.copy()
    for zone in site.zones:
        ring = np.round(np.array(zone.px)).astype(np.int32)
        cv2.polylines(out, [ring], True, ZONES[zone.kind], 1, cv2.LINE_AA)
    for line in site.lines:
        _draw_line(out, line, measures)
    for track in result.tracks:
        _draw_track(out, track)
    for k, text in enumerate(recent):
        _draw_text(out, text, (8, 18 + 18 * k), RED)
    return out


def _draw_line(image: Image, line: Line, measures: Measures) -> None:
    """With its counts, in and out."""
    (x, y), end = (tuple(round(c) for c in point) for point in line.px)
    cv2.line(image, (x, y), end, YELLOW, 2, cv2.LINE_AA)
    entered, left = (sum(measures.count_of(line.name, way).values()) for way in Direction)
    _draw_text(image, f"{entered} / {left}", (x + 4, y - 4), YELLOW)


def _draw_track(image: Image, track: Track) -> None:
    """Grey where it is only predicted, red where a violation was reported of it."""
    x1, y1, x2, y2 = (round(float(v)) for v in track.box)
    colour = COLOURS[track.kind]
    if track.coasting:
        colour = GREY
    elif track.violations:
        colour = RED
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, 1 if track.coasting else 2)
    speed = f" {track.speed_mps * 3.6:.0f} km/h" if np.isfinite(track.speed_mps) else ""
    _draw_text(image, f"{track.id} {CLASSES[track.kind]}{speed}", (x1, y1 - 4), colour)


def heat_map(image: Image, measures: Measures) -> Image:
    """The image with the places where road users were, the longer the brighter."""
    heat = np.log1p(measures.heat)
    level = np.asarray(
        cv2.resize(
            np.uint8(255 * heat / max(float(heat.max()), 1e-9)),
            (image.shape[1], image.shape[0]),
            interpolation=cv2.INTER_CUBIC,
        )
    )
    return np.asarray(
        cv2.addWeighted(image, 0.6, cv2.applyColorMap(level, cv2.COLORMAP_INFERNO), 0.4, 0.0),
        np.uint8,
    )


def jpeg(image: Image, quality: int = 75, widest: int = 960) -> bytes:
    """As JPEG, made smaller where it is wider than `widest`."""
    if image.shape[1] > widest:
        scale = widest / image.shape[1]
        image = np.asarray(
            cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
        )
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def png(image: Image) -> bytes:
    """As PNG, in its own size."""
    return bytes(cv2.imencode(".png", image)[1])


class VideoWriter:
    """Writes a video, frame by frame, at a constant rate. Raises SensingError where it cannot be
    written.
    """

    def __init__(self, path: Path, rate_hz: float) -> None:
        self._path, self._rate = path, Fraction(rate_hz).limit_denominator(1000)
        self._stream: Any = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(path), "w")
        except (OSError, ValueError, av.error.FFmpegError) as error:
            raise SensingError(
                f"{path}: cannot be written ({error}). Use a name such as clip.mp4 in a "
                "folder of yours."
            ) from error

    def write(self, image: Image) -> None:
        if self._stream is None:
            codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
            self._stream = self._container.add_stream(
                codec,
                rate=self._rate,
                options={"crf": "24", "preset": "veryfast"} if codec == "libx264" else {},
            )
            self._stream.width = image.shape[1] // 2 * 2
            self._stream.height = image.shape[0] // 2 * 2
            self._stream.pix_fmt = "yuv420p"
        even = np.ascontiguousarray(image[: self._stream.height, : self._stream.width])
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(even, format="bgr24")))

    def close(self) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()


def _draw_text(image: Image, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    draw_text(image, text, (at[0], max(at[1], 10)), colour, 0.42)
