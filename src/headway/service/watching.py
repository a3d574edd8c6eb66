"""One source watched from its start to its end, and the report of it: figures, tracks, an annotated
film, images of violations.
"""

from __future__ import annotations

import bisect
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headway.sensing import SensingError
from headway.sensing.output.overlay import VideoWriter, drawn, heat_map, jpeg, png
from headway.sensing.pipeline import USUAL_RATE_HZ, FrameResult, Perception, frame_results
from headway.sensing.tracking.tracks import SPEED_FIT_S, Track
from headway.sensing.traffic.evidence import Violation
from headway.sensing.traffic.measures import Crossing
from headway.sensing.traffic.signals import SignalHistory
from headway.sensing.traffic.site import Site
from headway.vision.detection.detectors import CLASSES, Detector, OnnxDetector
from headway.vision.detection.motion import MotionDetector
from headway.vision.frames.images import Image
from headway.vision.frames.sources import Frame, FrameSource, SourceSettings, sampled

SAMPLES = 45  # frames of a clip from which its background is learned before it is watched
LEAST_SAMPLES = 5  # fewer say nothing about the background
ATTEMPTS = 5  # to connect to a source
VIOLATIONS_KEPT = 1000
RECENT_S = 4.0  # violations of the last seconds are written on the film
RECENT_MOST = 5
HEAT_JPEG_QUALITY = 85
TIME_TOLERANCE_S = 1e-3
SPEED_COLUMN = 5  # of a row of a path, see `Report.to_json`


@dataclass
class Report:
    """What came of watching one source.

    out:         file of an annotated film; None for none.
    evidence:    folder for the images of violations; None for none.
    keep_tracks: with the path of each track.
    runs_on:     what the detector ran on, see `Detector`.
    frames, tracks, violations: how many.
    last_violations: VIOLATIONS_KEPT at most.
    perception:  None before the first frame of a source without a site.
    """

    out: Path | None = None
    evidence: Path | None = None
    keep_tracks: bool = False
    runs_on: str = ""
    frames: int = 0
    tracks: int = 0
    violations: int = 0
    last_violations: deque[Violation] = field(default_factory=lambda: deque(maxlen=VIOLATIONS_KEPT))
    perception: Any = None
    _rows: dict[int, dict[str, Any]] = field(default_factory=dict)  # of tracks, by id
    _film: VideoWriter | None = None
    _last_image: Image | None = None

    def add_frame(self, result: FrameResult, rate_hz: float) -> None:
        """Count and keep one frame. rate_hz: of the film."""
        self.frames += 1
        self._last_image = result.frame.image
        for track in result.tracks:
            self._add_track(track, result.frame.at_s)
        self.add_violations(result.violations)
        if self.out is not None:
            self._film = self._film or VideoWriter(self.out, rate_hz)
            self._film.write(self._annotated(result))

    def add_violations(self, violations: list[Violation]) -> None:
        """Count and keep violations, and write their evidence."""
        for violation in violations:
            self.violations += 1
            self.last_violations.append(violation)
            if self.evidence is not None:
                _write_evidence(self.evidence, violation)

    def close(self) -> None:
        """Add the violations that were not complete yet, and end the film."""
        if self.perception is not None:
            self.add_violations(self.perception.violation_detector.close())
        if self._film is not None:
            self._film.close()

    def to_json(self, source: str) -> dict[str, Any]:
        """All of it as plain values. A row of a track's path: time (s), x, y, width and height
        (px), speed (km/h, or None). source: as it was given; its secrets are left out.
        """
        measures = self.perception.measures
        return {
            "source": SourceSettings(source).display_url,
            "frames": self.frames,
            "runs_on": self.runs_on,
            "calibration": _calibration_to_json(self.perception.site),
            "figures": measures.figures(),
            "tracks": list(self._rows.values()) if self.keep_tracks else [],
            "violations": [violation_to_json(v) for v in self.last_violations],
            "crossings": [_crossing_to_json(c) for c in measures.crossings],
        }

    def save_heat_map(self, path: Path) -> None:
        """Where road users were, on the last frame; nothing before the first. PNG or JPEG, as the
        path ends.
        """
        if self._last_image is not None:
            image = heat_map(self._last_image, self.perception.measures)
            is_png = path.suffix.lower() == ".png"
            path.write_bytes(png(image) if is_png else jpeg(image, HEAT_JPEG_QUALITY))

    def _annotated(self, result: FrameResult) -> Image:
        since_s = result.frame.at_s - RECENT_S
        recent = [v for v in self.last_violations if v.at_s > since_s][-RECENT_MOST:]
        lines = [f"{v.rule} #{v.data['track']}" for v in recent]
        return drawn(result, self.perception.site, self.perception.measures, lines)

    def _add_track(self, track: Track, at_s: float) -> None:
        row = self._rows.get(track.id)
        if row is None:
            self.tracks += 1
            row = self._rows[track.id] = {
                "id": track.id,
                "begun_s": round(track.started_s, 3),
                "path": _path_before(track) if self.keep_tracks else [],
            }
        if self.keep_tracks:
            _extend_row(row, track, at_s)


def _path_before(track: Track) -> list[list[Any]]:
    """The positions of a track before it was first reported; their speeds are unknown."""
    positions = list(zip(track.times, track.boxes, strict=True))[:-1]
    return [[*_path_row(at_s, box), None] for at_s, box in positions]


def _extend_row(row: dict[str, Any], track: Track, at_s: float) -> None:
    """The track as it is now."""
    row["class"] = CLASSES[track.kind]
    row["ended_s"] = round(at_s, 3)
    row["observations"] = track.observations
    row["seen"] = track.observations  # its old name, until 0.2 (docs/deprecated.md)
    path = row["path"]
    path.append([*_path_row(at_s, track.box), _kmh(track.speed_mps)])
    if np.isfinite(track.mean_mps) and at_s - track.times[0] >= SPEED_FIT_S:
        # the mean over a span is the best estimate at its middle
        middle_s = at_s - SPEED_FIT_S / 2.0 + TIME_TOLERANCE_S
        middle = bisect.bisect_right(path, middle_s, key=lambda position: position[0]) - 1
        path[middle][SPEED_COLUMN] = _kmh(track.mean_mps)


def _path_row(at_s: float, box: Any) -> list[float]:
    x1, y1, x2, y2 = (round(float(v), 1) for v in box)
    return [round(at_s, 3), x1, y1, round(x2 - x1, 1), round(y2 - y1, 1)]


def _kmh(speed_mps: float) -> float | None:
    return round(float(speed_mps) * 3.6, 2) if np.isfinite(speed_mps) else None


def _calibration_to_json(site: Site) -> dict[str, Any]:
    if site.calibration is None:
        return {"refused": site.uncalibrated}
    return {"error_m": site.calibration.error_m}


def _crossing_to_json(crossing: Crossing) -> dict[str, Any]:
    return {
        "at_s": crossing.at_s,
        "line": crossing.line,
        "direction": crossing.direction,
        "track": crossing.track,
        "class": crossing.kind,
        "speed_kmh": _kmh(crossing.speed_mps),
        "standard_error_kmh": _kmh(crossing.speed_se_mps),
    }


def violation_to_json(violation: Violation) -> dict[str, Any]:
    """A violation as plain values, to be reviewed by a person; of its images only the times."""
    return {
        "id": violation.id,
        "state": "open",
        "at_s": violation.at_s,
        "device": violation.device,
        "rule": violation.rule,
        "confidence": violation.confidence,
        "data": violation.data,
        "seal": violation.seal,
        "images": [at_s for at_s, _ in violation.images],
        "pictures": [at_s for at_s, _ in violation.images],  # its old name, until 0.2
    }


def _write_evidence(folder: Path, violation: Violation) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, (_, image) in enumerate(violation.images):
        (folder / f"{violation.id}-{k}.jpg").write_bytes(image)
    text = json.dumps(violation_to_json(violation), indent=1)
    (folder / f"{violation.id}.json").write_text(text, encoding="utf-8")


def watch_source(
    source: str,
    model: Path | None,
    site: Site | None,
    signals: Path | None,
    report: Report,
    seconds: float,
    blur: bool,
    threads: int,
) -> Iterator[tuple[FrameResult, int]]:
    """Every frame, with the number of frames of the source (0 where it is unknown).

    model:   ONNX file of a detector; None for motion.
    site:    None where nothing is known of the place.
    signals: file of what the signals show, see `read_signals`.
    seconds: of the stream, after which it ends; 0 for its own end.
    blur:    faces and plates are made unreadable in evidence.
    threads: of the detector; 0 for as many as there are processors.
    Raises SensingError; what was found before is in the report.
    """
    detector = _detector(source, model, threads)
    report.runs_on = detector.runs_on
    history = read_signals(signals) if signals is not None else SignalHistory()
    camera = FrameSource(SourceSettings(source, policy="queue", attempts=ATTEMPTS))
    begun_s: float | None = None
    try:
        if site is not None:
            report.perception = Perception(source, site, USUAL_RATE_HZ, blur=blur, signals=history)
        for result in frame_results(camera, detector, report.perception, source):
            _check_size(source, result.perception.site, result.frame, is_known=site is not None)
            report.perception = result.perception
            report.add_frame(result, camera.nominal_hz or USUAL_RATE_HZ)
            yield result, camera.health.length
            begun_s = result.frame.at_s if begun_s is None else begun_s
            if seconds and result.frame.at_s - begun_s >= seconds:
                return
    finally:
        report.close()


def _detector(source: str, model: Path | None, threads: int) -> Detector:
    """Motion in a file is found against a background that is learned from the whole of it first."""
    if model is not None:
        return OnnxDetector(model, threads=threads)
    detector = MotionDetector()
    if not SourceSettings(source).live:
        samples = sampled(source, SAMPLES, detector.reduced)
        if len(samples) >= LEAST_SAMPLES:
            detector.learn(source, samples)
    return detector


def _check_size(source: str, site: Site, frame: Frame, is_known: bool) -> None:
    """Raises SensingError if the frames are not of the site's size. is_known: it was given; else it
    is of the first frame's size.
    """
    width, height = frame.image.shape[1], frame.image.shape[0]
    if site.size != (width, height):
        other = "its site is of" if is_known else "others before of"
        remedy = "" if is_known else " Give frames of one size."
        raise SensingError(
            f"{source}: its frames are {width} x {height}, {other} "
            f"{site.size[0]} x {site.size[1]}.{remedy}"
        )


def read_signals(path: Path) -> SignalHistory:
    """JSON lines of {"at_s": ..., "colours": [colour of each group]}; before 0.2 also "shown" for
    "colours". Raises SensingError for anything else.
    """
    signals = SignalHistory()
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            try:
                row = json.loads(line)
                colours = row["colours"] if "colours" in row else row["shown"]
                for group, colour in enumerate(colours):
                    signals.record(float(row["at_s"]), group, int(colour))
            except (ValueError, KeyError, TypeError) as error:
                raise SensingError(
                    f"{path}, line {number}: "
                    f'give {{"at_s": seconds, "colours": [colours]}} ({error}).'
                ) from error
    return signals
