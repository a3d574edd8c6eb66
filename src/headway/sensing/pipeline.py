"""From a stream's pictures to tracks, figures and violations: one `Perception` a stream, and
`watch`, which runs one to its end.
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

from headway.sensing.detection.detectors import CLASSES, Detector
from headway.sensing.frames.sources import Frame, Source
from headway.sensing.tracking.tracks import Follower, Track
from headway.sensing.traffic.evidence import Violation
from headway.sensing.traffic.measures import Crossing, Measures
from headway.sensing.traffic.signals import SignalHistory
from headway.sensing.traffic.site import Site
from headway.sensing.traffic.violations import ViolationDetector

AHEAD = 2  # pictures in flight beyond one a thread, so that none waits for the next


@dataclass(frozen=True, slots=True)
class Seen:
    """What one frame told. tracks: live objects, good until the next frame."""

    frame: Frame
    detections: int
    tracks: list[Track]
    crossings: list[Crossing]
    violations: list[Violation]
    by: Perception


class Perception:
    """All that is known of one stream. signals: filled by whoever knows what the lamps show."""

    def __init__(
        self,
        device: str,
        site: Site,
        rate_hz: float,
        key: bytes = b"",
        blur: bool = True,
        signals: SignalHistory | None = None,
    ) -> None:
        self.site, self.signals = site, signals or SignalHistory()
        self.follower = Follower(site.calibration, rate_hz, site.size)
        self.measures = Measures(site)
        self.violation_detector = ViolationDetector(
            device=device,
            site=site,
            measures=self.measures,
            signals=self.signals,
            key=key,
            blur=blur,
        )

    def look(self, frame: Frame, found: sv.Detections) -> Seen:
        tracks = self.follower.follow(frame.at_s, self._off_lamps(found))
        crossings = self.measures.look(frame.at_s, tracks)
        violations = self.violation_detector.update(frame.at_s, frame.image, tracks, crossings)
        return Seen(frame, len(found), tracks, crossings, violations, self)

    def _off_lamps(self, found: sv.Detections) -> sv.Detections:
        """A lamp that changes its colour is no road user."""
        if not len(found) or not self.site.lamps:
            return found
        middle = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2.0
        size = found.xyxy[:, 2:] - found.xyxy[:, :2]
        lamps = np.array([lamp.px for lamp in self.site.lamps])
        inside = (np.abs(middle[:, None] - (lamps[:, :2] + lamps[:, 2:] / 2.0)) < lamps[:, 2:]).all(
            2
        )
        small = (size[:, None] < 2.5 * lamps[:, 2:]).all(2)
        return found[~(inside & small).any(1)]


def plain(track: Track) -> dict[str, Any]:
    """A track as plain figures; speeds in km/h, None where none is known."""
    speed = track.speed_mps
    return {
        "id": track.id,
        "class": CLASSES[track.kind],
        "confidence": round(track.confidence, 3),
        "box": [round(float(v), 1) for v in track.box],
        "speed_kmh": round(speed * 3.6, 2) if speed == speed else None,
        "standing_s": round(track.standing_s, 1),
        "standard_error_kmh": round(track.mean_se_mps * 3.6, 2)
        if track.mean_se_mps == track.mean_se_mps
        else None,
        "coasting": track.coasting,
    }


def site_of(size: tuple[int, int]) -> Site:
    """A place of which nothing is known."""
    return Site(size)


def watch(
    source: Source, detector: Detector, perception: Perception | None = None, device: str = "camera"
) -> Iterator[Seen]:
    """Every frame of a source, in order; pictures are looked at side by side, as many as the
    detector has threads for.

    Raises SensingError if the source fails; what was seen before has been given.
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
                perception = Perception(
                    device,
                    site_of((frame.image.shape[1], frame.image.shape[0])),
                    source.nominal_hz or 15.0,
                )
            yield perception.look(frame, found.result())
    finally:
        detector.forget(device)
