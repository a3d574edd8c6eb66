"""One source watched from its begin to its end, and what is kept of it: figures, tracks, an
annotated film, pictures of violations.
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
from headway.sensing.detection.detectors import CLASSES, Detector, OnnxDetector
from headway.sensing.detection.motion import MotionDetector
from headway.sensing.frames.sources import Picture, Source, SourceSettings, sampled
from headway.sensing.output.overlay import Film, drawn, heat_map, jpeg
from headway.sensing.pipeline import FrameResult, Perception, unknown_site
from headway.sensing.pipeline import watch as look_on
from headway.sensing.tracking.tracks import SPEED_SPAN_S, Track
from headway.sensing.traffic.evidence import Violation
from headway.sensing.traffic.signals import SignalHistory
from headway.sensing.traffic.site import Site

SAMPLES = 45
LEAST_SAMPLES = 5


@dataclass
class Report:
    """What is kept. tracks, violations: how many; told: the last violations."""

    out: Path | None = None
    evidence: Path | None = None
    keep_tracks: bool = False
    frames: int = 0
    tracks: int = 0
    violations: int = 0
    told: deque[Violation] = field(default_factory=lambda: deque(maxlen=1000))
    perception: Any = None
    _met: dict[int, dict[str, Any]] = field(default_factory=dict)
    _film: Film | None = None
    _last: Picture | None = None

    def take(self, seen: FrameResult, rate_hz: float) -> None:
        self.frames += 1
        self._last = seen.frame.image
        for track in seen.tracks:
            if track.id not in self._met:
                self.tracks += 1
                path = (
                    [
                        [*_row(t, b), None]
                        for t, b in list(zip(track.times, track.boxes, strict=True))[:-1]
                    ]
                    if self.keep_tracks
                    else []
                )
                self._met[track.id] = {
                    "id": track.id,
                    "begun_s": round(track.started_s, 3),
                    "path": path,
                }
            if self.keep_tracks:
                self._add(track, seen.frame.at_s)
        self.keep(seen.violations)
        if self.out is not None:
            self._film = self._film or Film(self.out, rate_hz)
            recent = [
                f"{v.rule} #{v.data['track']}" for v in self.told if v.at_s > seen.frame.at_s - 4.0
            ]
            self._film.add(drawn(seen, self.perception.site, self.perception.measures, recent[-5:]))

    def keep(self, violations: list[Violation]) -> None:
        for v in violations:
            self.violations += 1
            self.told.append(v)
            if self.evidence is not None:
                self.evidence.mkdir(parents=True, exist_ok=True)
                for k, (_, picture) in enumerate(v.pictures):
                    (self.evidence / f"{v.id}-{k}.jpg").write_bytes(picture)
                (self.evidence / f"{v.id}.json").write_text(
                    json.dumps(as_json(v), indent=1), encoding="utf-8"
                )

    def close(self) -> None:
        if self.perception is not None:
            self.keep(self.perception.violation_detector.close())
        if self._film is not None:
            self._film.close()

    def whole(self, source: str) -> dict[str, Any]:
        """All of it, plain JSON."""
        site = self.perception.site
        speeds = (
            {"error_m": site.calibration.error_m}
            if site.calibration is not None
            else {"refused": site.uncalibrated}
        )
        return {
            "source": source,
            "frames": self.frames,
            "calibration": speeds,
            "figures": self.perception.measures.figures(),
            "tracks": list(self._met.values()) if self.keep_tracks else [],
            "violations": [as_json(v) for v in self.told],
            "crossings": [
                {
                    "at_s": c.at_s,
                    "line": c.line,
                    "direction": c.direction,
                    "track": c.track,
                    "class": c.kind,
                    "speed_kmh": _kmh(c.speed_mps),
                    "standard_error_kmh": _kmh(c.speed_se_mps),
                }
                for c in self.perception.measures.crossings
            ],
        }

    def save_heat(self, path: Path) -> None:
        if self._last is not None:
            path.write_bytes(jpeg(heat_map(self._last, self.perception.measures), 85))

    def _add(self, track: Track, at_s: float) -> None:
        row = self._met[track.id]
        row["class"] = CLASSES[track.kind]
        row["ended_s"] = round(at_s, 3)
        row["seen"] = track.observations
        path = row["path"]
        path.append([*_row(at_s, track.box), _kmh(track.speed_mps)])
        if (
            np.isfinite(track.mean_mps) and at_s - track.times[0] >= SPEED_SPAN_S
        ):  # the mean of a second is the best that is known of its middle
            middle = (
                bisect.bisect_right(path, at_s - SPEED_SPAN_S / 2.0 + 1e-3, key=lambda at: at[0])
                - 1
            )
            path[middle][5] = _kmh(track.mean_mps)


def as_json(v: Violation) -> dict[str, Any]:
    return {
        "id": v.id,
        "at_s": v.at_s,
        "device": v.device,
        "rule": v.rule,
        "confidence": v.confidence,
        "data": v.data,
        "seal": v.seal,
        "pictures": [at for at, _ in v.pictures],
    }


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
    """Every frame, and how many there will be (0 where nobody knows). Raises SensingError; what was
    found before is in the report.
    """
    detector: Detector = (
        OnnxDetector(model, threads=threads) if model is not None else MotionDetector()
    )
    if (
        isinstance(detector, MotionDetector)
        and not SourceSettings(source).live
        and len(few := sampled(source, SAMPLES)) >= LEAST_SAMPLES
    ):
        detector.learn(source, few)
    told = read_signals(signals) if signals is not None else SignalHistory()
    camera = Source(SourceSettings(source, policy="queue", attempts=5))
    perception: Perception | None = None
    begun: float | None = None
    try:
        if site is not None:
            perception = report.perception = Perception(source, site, 15.0, blur=blur, signals=told)
        for seen in look_on(camera, detector, perception, source):
            width, height = seen.frame.image.shape[1], seen.frame.image.shape[0]
            if perception is None:
                report.perception = seen.perception
            elif perception.site.size != (width, height):
                raise SensingError(
                    f"{source}: its pictures are {width} x {height}, its site is of "
                    f"{perception.site.size[0]} x {perception.site.size[1]}."
                )
            report.take(seen, camera.nominal_hz or 15.0)
            yield seen, camera.health.length
            begun = seen.frame.at_s if begun is None else begun
            if seconds and seen.frame.at_s - begun >= seconds:
                return
    finally:
        report.close()


def read_signals(path: Path) -> SignalHistory:
    """JSON lines of {"at_s": ..., "shown": [colour of each group]}. Raises SensingError for
    anything else.
    """
    signals = SignalHistory()
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            try:
                row = json.loads(line)
                for group, colour in enumerate(row["shown"]):
                    signals.record(float(row["at_s"]), group, int(colour))
            except (ValueError, KeyError, TypeError) as error:
                raise SensingError(
                    f"{path}, line {number}: "
                    f'give {{"at_s": seconds, "shown": [colours]}} ({error}).'
                ) from error
    return signals


def _row(at_s: float, box: Any) -> list[float]:
    x1, y1, x2, y2 = (round(float(v), 1) for v in box)
    return [round(at_s, 3), x1, y1, round(x2 - x1, 1), round(y2 - y1, 1)]


def _kmh(speed_mps: float) -> float | None:
    return round(float(speed_mps) * 3.6, 2) if np.isfinite(speed_mps) else None


__all__ = ["Report", "as_json", "read_signals", "unknown_site", "watch_source"]
