"""Evidence of a violation: the images before, at and after it, with faces and number plates
made unrecognisable, and the seal over it all.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np

from headway.sensing.tracking.tracks import Track
from headway.sensing.traffic.site import Site
from headway.values import FloatArray
from headway.vision.frames.images import Image

BgrColour = tuple[int, int, int]  # as OpenCV has it: blue, green, red
RED: BgrColour = (0, 0, 255)
WHITE: BgrColour = (255, 255, 255)
BLACK: BgrColour = (0, 0, 0)
LEAST_EXPONENT = 10**16  # from here on Python writes a float with an exponent, a database does not


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    every_s: float = 0.25  # s between kept frames: what shows the course of a violation
    kept_s: float = 2.5  # s of frames kept, where no violation waits for them
    before_s: float = 1.0  # s from the first image to the violation, and from it to the last
    margin_s: float = 0.2  # s kept before that: the nearest frame may be earlier
    width_px: int = 960  # wider frames are made smaller
    jpeg_quality: int = 80  # of 100: about 60 kB an image
    kept_quality: int = 92  # of 100, until then: little is lost by compressing it twice


@dataclass(frozen=True, slots=True)
class Violation:
    """data: figures, track and signal state, plain JSON types. images: (time s, JPEG), oldest
    first. seal: HMAC-SHA256 (SHA-256 without a key).
    """

    id: str
    at_s: float
    device: str
    rule: str
    confidence: float
    data: dict[str, Any]
    images: tuple[tuple[float, bytes], ...] = ()
    seal: str = ""


def seal_of(violation: Violation, key: bytes) -> str:
    """The seal over all that a violation states and shows, hexadecimal; not over its own seal."""
    body = {
        "id": violation.id,
        "at_s": violation.at_s,
        "device": violation.device,
        "rule": violation.rule,
        "confidence": violation.confidence,
        "data": violation.data,
        "pictures": [[at_s, hashlib.sha256(jpeg).hexdigest()] for at_s, jpeg in violation.images],
    }
    text = json.dumps(_by_value(body), sort_keys=True).encode()
    return hmac.new(key, text, "sha256").hexdigest() if key else hashlib.sha256(text).hexdigest()


def seal_is_right(violation: Violation, key: bytes) -> bool:
    """Whether its seal is the one over all that it states and shows."""
    return hmac.compare_digest(violation.seal.encode(), seal_of(violation, key).encode())


def _by_value(part: Any) -> Any:
    """Plain JSON as a database gives it back: numbers by their value, so that -0.0 is 0.0, and
    10000000000000000 is 1e+16.
    """
    if isinstance(part, dict):
        return {name: _by_value(value) for name, value in part.items()}
    if isinstance(part, list | tuple):
        return [_by_value(value) for value in part]
    if isinstance(part, float) or (type(part) is int and abs(part) >= LEAST_EXPONENT):
        return float(part) + 0.0  # -0.0 + 0.0 is 0.0
    return part


class EvidenceFrame(NamedTuple):
    """A frame kept for evidence. jpeg: a tenth of the memory of its pixels. boxes: x1, y1, x2, y2
    by track, pixels of the original frame.
    """

    at_s: float
    jpeg: bytes
    boxes: Mapping[int, tuple[float, ...]]


@dataclass
class EvidenceRecorder:
    """The frames of the last seconds of one stream. blur: make faces and number plates
    unrecognisable.
    """

    site: Site
    blur: bool = True
    settings: EvidenceSettings = EvidenceSettings()
    frames: deque[EvidenceFrame] = field(default_factory=deque)

    def record(
        self, at_s: float, image: Image, tracks: Iterable[Track], oldest_violation_s: float
    ) -> None:
        """Keep a frame where one is due, and drop those that no violation needs any more."""
        settings = self.settings
        if self.frames and at_s - self.frames[-1].at_s < settings.every_s:
            return
        boxes = {track.id: tuple(track.box) for track in tracks}
        self.frames.append(EvidenceFrame(at_s, self._compact(image), boxes))
        needed_s = oldest_violation_s - (settings.before_s + settings.margin_s)
        while self.frames and self.frames[0].at_s < min(at_s - settings.kept_s, needed_s):
            self.frames.popleft()

    def images(self, violation: Violation) -> tuple[tuple[float, bytes], ...]:
        """The frames nearest to a second before, the instant, and a second after: (time s, JPEG),
        oldest first; fewer where one frame is the nearest to several.
        """
        times = np.array([frame.at_s for frame in self.frames])
        before_s = self.settings.before_s
        instants = [violation.at_s + shift for shift in (-before_s, 0.0, before_s)]
        nearest = sorted({int(np.abs(times - at_s).argmin()) for at_s in instants})
        chosen = [self.frames[k] for k in nearest]
        return tuple((frame.at_s, self._jpeg(frame, violation)) for frame in chosen)

    def _compact(self, image: Image) -> bytes:
        """The image made smaller, as `EvidenceFrame` keeps it."""
        if image.shape[1] > self.settings.width_px:
            scale = self.settings.width_px / image.shape[1]
            image = np.asarray(
                cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
            )
        return _encoded(image, self.settings.kept_quality)

    def _jpeg(self, frame: EvidenceFrame, violation: Violation) -> bytes:
        encoded = np.frombuffer(frame.jpeg, np.uint8)
        image = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
        scale = image.shape[1] / self.site.size[0]
        boxes = {track: np.array(box) * scale for track, box in frame.boxes.items()}
        out = blurred(image, boxes.values()) if self.blur else image.copy()
        self._mark(out, boxes.get(violation.data["track"]), violation.data.get("line"), scale)
        shift_s = frame.at_s - violation.at_s
        text = f"{violation.device} {violation.rule} {frame.at_s:.2f} s ({shift_s:+.2f})"
        _draw_caption(out, text)
        return _encoded(out, self.settings.jpeg_quality)

    def _mark(self, image: Image, box: FloatArray | None, line: str | None, scale: float) -> None:
        """Draw the violator's box and the line that it crossed, both where there is one."""
        if box is not None:
            x1, y1, x2, y2 = (round(float(v)) for v in box)
            cv2.rectangle(image, (x1, y1), (x2, y2), RED, 2)
        for one in self.site.lines:
            if one.name == line:
                begin, end = (tuple(round(c * scale) for c in point) for point in one.px)
                cv2.line(image, begin, end, RED, 2)


def _encoded(image: Image, quality: int) -> bytes:
    """As JPEG."""
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


# -- what cannot be recognised any more

UPRIGHT_RATIO = 1.3  # height over width from which a box is a person's or a rider's
BLOCK_PX = 10  # side of the blocks: no letter of a plate is legible in them
LEAST_PX = 3  # smaller parts show nothing


def blurred(image: Image, boxes: Iterable[FloatArray]) -> Image:
    """A copy in which faces and number plates cannot be recognised: in blocks the upper third of an
    upright box, the lower half of a wide one.

    boxes: x1, y1, x2, y2, pixels; they may reach beyond the image.
    """
    out = image.copy()
    height, width = image.shape[:2]
    for box in boxes:
        x1, y1, x2, y2 = _identifying_part(*(int(v) for v in box))
        x1, x2 = (min(max(x, 0), width) for x in (x1, x2))
        y1, y2 = (min(max(y, 0), height) for y in (y1, y2))
        if x2 - x1 > LEAST_PX and y2 - y1 > LEAST_PX:
            out[y1:y2, x1:x2] = _in_blocks(out[y1:y2, x1:x2])
    return out


def _identifying_part(x1: int, y1: int, x2: int, y2: int) -> tuple[int, int, int, int]:
    """Where a face or a plate is. By the shape of the whole box: what the image's edge cuts off is
    no person.
    """
    if y2 - y1 > UPRIGHT_RATIO * (x2 - x1):
        return x1, y1, x2, y1 + (y2 - y1) // 3
    return x1, y1 + (y2 - y1) // 2, x2, y2


def _in_blocks(part: Image) -> Image:
    height, width = part.shape[:2]
    blocks = (max(width // BLOCK_PX, 1), max(height // BLOCK_PX, 1))
    coarse = cv2.resize(part, blocks, interpolation=cv2.INTER_AREA)
    return np.asarray(
        cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8
    )


def _draw_caption(image: Image, text: str) -> None:
    """White with a black rim, at the lower left."""
    draw_text(image, text, (8, image.shape[0] - 10), WHITE, 0.5)


def draw_text(
    image: Image, text: str, at: tuple[int, int], colour: BgrColour, scale: float
) -> None:
    """With a black rim: drawn a pixel to each side, since a thicker stroke has wider letters.

    at: lower left corner, pixels. scale: of OpenCV's font.
    """
    shifts = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if (x, y) != (0, 0)]
    for (x, y), one in [*((shift, BLACK) for shift in shifts), ((0, 0), colour)]:
        place = (at[0] + x, at[1] + y)
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, one, 1, cv2.LINE_AA)
