"""From a stream's frames to tracks, traffic measures and violations: one `Perception` a stream, and
`frame_results`, which runs one source to its end.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import supervision as sv

from headway.sensing.tracking.tracks import Track, Tracker
from headway.sensing.traffic.evidence import Violation
from headway.sensing.traffic.measures import Crossing, Measures
from headway.sensing.traffic.signals import SignalHistory
from headway.sensing.traffic.site import Site
from headway.sensing.traffic.violations import ViolationDetector
from headway.vision.boxes import centres, sizes
from headway.vision.detection.detectors import CLASSES, Detector
from headway.vision.frames.sources import Frame, FrameSource

AHEAD = 2  # frames in flight beyond one a thread, so that none waits for the next
USUAL_RATE_HZ = 15.0  # where a stream does not state its own
LAMP_SCALE = 2.5  # a detection smaller than so many lamps, on a lamp, is the lamp


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What one frame gave. detections: how many. tracks: live objects, valid until the next
    frame. perception: whose it is.
    """

    frame: Frame
    detections: int
    tracks: list[Track]
    crossings: list[Crossing]
    violations: list[Violation]
    perception: Perception


class Perception:
    """All that is known of one stream. signals: filled by the owner of the stream with what the
    controller reports. violations: whether any are looked for.
    """

    def __init__(
        self,
        device: str,
        site: Site,
        rate_hz: float,
        key: bytes = b"",
        blur: bool = True,
        signals: SignalHistory | None = None,
        violations: bool = True,
    ) -> None:
        self.site = site
        self._finds_violations = violations
        self.signals = signals or SignalHistory()
        self.tracker = Tracker(site.calibration, rate_hz, site.size)
        self.measures = Measures(site)
        self.violation_detector = ViolationDetector(
            device=device,
            site=site,
            measures=self.measures,
            signals=self.signals,
            key=key,
            blur=blur,
        )

    def process(self, frame: Frame, found: sv.Detections) -> FrameResult:
        """Take in one frame and what was detected in it; frames come in order."""
        tracks = self.tracker.update(frame.at_s, self._without_lamps(found))
        crossings = self.measures.update(frame.at_s, tracks)
        violations = []
        if self._finds_violations:
            violations = self.violation_detector.update(frame.at_s, frame.image, tracks, crossings)
        return FrameResult(
            frame=frame,
            detections=len(found),
            tracks=tracks,
            crossings=crossings,
            violations=violations,
            perception=self,
        )

    def _without_lamps(self, found: sv.Detections) -> sv.Detections:
        """A lamp that changes its colour is no road user."""
        if not len(found) or not self.site.lamps:
            return found
        lamps = np.array([lamp.px for lamp in self.site.lamps])
        lamp_sizes = lamps[:, 2:]
        lamp_centres = lamps[:, :2] + lamp_sizes / 2.0
        away = np.abs(centres(found.xyxy)[:, None] - lamp_centres)
        on_lamp = (away < lamp_sizes).all(2)
        small = (sizes(found.xyxy)[:, None] < LAMP_SCALE * lamp_sizes).all(2)
        is_lamp = np.any(on_lamp & small, axis=1)
        return found[~is_lamp]


def track_to_json(track: Track) -> dict[str, Any]:
    """A track as plain figures; speeds in km/h, None where none is known."""
    return {
        "id": track.id,
        "class": CLASSES[track.kind],
        "confidence": round(track.confidence, 3),
        "box": [round(float(v), 1) for v in track.box],
        "speed_kmh": _kmh(track.speed_mps),
        "stopped_s": round(track.stopped_s, 1),
        "standing_s": round(track.stopped_s, 1),  # its old name, until 0.2 (docs/deprecated.md)
        "standard_error_kmh": _kmh(track.mean_se_mps),
        "coasting": track.coasting,
    }


def _kmh(speed_mps: float) -> float | None:
    return None if np.isnan(speed_mps) else round(speed_mps * 3.6, 2)


def unknown_site(size: tuple[int, int]) -> Site:
    """A place of which nothing is known. size: of a frame, width and height, pixels."""
    return Site(size)


def frame_results(
    source: FrameSource,
    detector: Detector,
    perception: Perception | None = None,
    device: str = "camera",
) -> Iterator[FrameResult]:
    """Every frame of a source, in order; as many are detected side by side as the detector has
    threads for.

    Raises SensingError if the source fails, after the results of all frames before.
    """
    ahead: deque[tuple[Frame, Future[sv.Detections]]] = deque()
    frames = source.frames()
    try:
        while True:
            for frame in itertools.islice(frames, max(detector.threads + AHEAD - len(ahead), 0)):
                ahead.append((frame, detector.begin(device, frame.image)))
            if not ahead:
                return
            frame, found = ahead.popleft()
            if perception is None:
                size = (frame.image.shape[1], frame.image.shape[0])
                rate_hz = source.nominal_hz or USUAL_RATE_HZ
                perception = Perception(device, unknown_site(size), rate_hz)
            yield perception.process(frame, found.result())
    finally:
        detector.forget(device)
