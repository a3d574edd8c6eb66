"""Pictures with what was found on them, and films made of them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from headway.sensing import SensingError
from headway.sensing.detection.detectors import CLASSES
from headway.sensing.frames.sources import Picture
from headway.sensing.pipeline import FrameResult
from headway.sensing.traffic.measures import Measures
from headway.sensing.traffic.site import Site

COLOURS = (
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
FONT = cv2.FONT_HERSHEY_SIMPLEX
RED = (0, 0, 255)
YELLOW = (0, 220, 255)
BLACK = (0, 0, 0)


def drawn(seen: FrameResult, site: Site, measures: Measures, told: Sequence[str] = ()) -> Picture:
    """The frame with zones, lines and their counts, boxes with class, id and speed, and the last
    violations.
    """
    out = seen.frame.image.copy()
    for zone in site.zones:
        cv2.polylines(
            out,
            [np.round(np.array(zone.px)).astype(np.int32)],
            True,
            ZONES[zone.kind],
            1,
            cv2.LINE_AA,
        )
    for line in site.lines:
        a, b = (tuple(round(c) for c in p) for p in line.px)
        cv2.line(out, a, b, YELLOW, 2, cv2.LINE_AA)
        n = {
            way: sum(
                k for (name, w, _), k in measures.counts.items() if name == line.name and w == way
            )
            for way in ("in", "out")
        }
        _text(out, f"{n['in']} / {n['out']}", (a[0] + 4, a[1] - 4), YELLOW)
    for track in seen.tracks:
        x1, y1, x2, y2 = (round(float(v)) for v in track.box)
        colour = (
            (160, 160, 160) if track.coasting else RED if track.violations else COLOURS[track.kind]
        )
        cv2.rectangle(out, (x1, y1), (x2, y2), colour, 1 if track.coasting else 2)
        speed = f" {track.speed_mps * 3.6:.0f} km/h" if np.isfinite(track.speed_mps) else ""
        _text(out, f"{track.id} {CLASSES[track.kind]}{speed}", (x1, y1 - 4), colour)
    for k, text in enumerate(told):
        _text(out, text, (8, 18 + 18 * k), RED)
    return out


def heat_map(image: Picture, measures: Measures) -> Picture:
    """The picture with the places where road users were, the longer the redder."""
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


def jpeg(image: Picture, quality: int = 75, widest: int = 960) -> bytes:
    """As JPEG, made smaller where it is wider than `widest`."""
    if image.shape[1] > widest:
        scale = widest / image.shape[1]
        image = np.asarray(
            cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
        )
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


class VideoWriter:
    """Writes a video, picture by picture, at a constant rate. Raises SensingError where it cannot
    be written.
    """

    def __init__(self, path: Path, rate_hz: float) -> None:
        self._path, self._rate = path, Fraction(rate_hz).limit_denominator(1000)
        self._stream: Any = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._box = av.open(str(path), "w")
        except (OSError, ValueError, av.error.FFmpegError) as error:
            raise SensingError(
                f"{path}: cannot be written ({error}). Use a name such as clip.mp4 in a "
                "folder of yours."
            ) from error

    def write(self, image: Picture) -> None:
        if self._stream is None:
            codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
            self._stream = self._box.add_stream(
                codec,
                rate=self._rate,
                options={"crf": "24", "preset": "veryfast"} if codec == "libx264" else {},
            )
            self._stream.width = image.shape[1] // 2 * 2
            self._stream.height = image.shape[0] // 2 * 2
            self._stream.pix_fmt = "yuv420p"
        even = np.ascontiguousarray(image[: self._stream.height, : self._stream.width])
        self._box.mux(self._stream.encode(av.VideoFrame.from_ndarray(even, format="bgr24")))

    def close(self) -> None:
        if self._stream is not None:
            self._box.mux(self._stream.encode())
        self._box.close()


def _text(image: Picture, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    at = (at[0], max(at[1], 10))
    cv2.putText(image, text, at, FONT, 0.42, BLACK, 3, cv2.LINE_AA)
    cv2.putText(image, text, at, FONT, 0.42, colour, 1, cv2.LINE_AA)
