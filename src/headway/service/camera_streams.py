"""Many cameras at once: a decoder each, and one detector that they share. The camera that has
waited longest is served next; frames beyond the detector's capacity are dropped and counted.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import supervision as sv

from headway import telemetry
from headway.sensing import SensingError
from headway.sensing.output.overlay import drawn, jpeg
from headway.sensing.pipeline import (
    USUAL_RATE_HZ,
    FrameResult,
    Perception,
    track_to_json,
    unknown_site,
)
from headway.sensing.traffic.signals import SignalHistory
from headway.sensing.traffic.site import Site
from headway.telemetry.threads import keep_running
from headway.vision.detection.detectors import Detector, OnnxDetector
from headway.vision.detection.motion import MotionDetector
from headway.vision.frames.sources import Frame, FrameSource, SourceSettings

FAULTS = 20  # in a row, after which a camera is stopped
DRAW_PERIOD_S = 0.1  # of the live view, wall seconds
RECENT_S = 4.0  # of stream time; violations of it are written on the live view
RECENT_MOST = 4
FIGURES_OVER = 300  # frames over which latency and rate are reported
RATE_OVER_S = 5.0
IDLE_WAIT_S = 0.05
THREAD_ENDS_WITHIN_S = 5.0
LOST = ("ended", "failed", "reconnecting")  # states of a source from which no frame comes now
NO_PICTURE = "no picture can be read from its address (engineers see why)"
SPEED_IS_OFF = "the analysis of speeds is off for this camera"


@dataclass(frozen=True)
class StreamSettings:
    """One camera.

    detector: "motion", or an ONNX file. site: None where nothing is known of the place. blur:
        faces and plates are made unreadable in evidence. confidence: of a detection at least.
        speed, violations: which analyses are made.
    """

    id: str
    source: SourceSettings
    detector: str = "motion"
    site: Site | None = None
    blur: bool = True
    confidence: float = 0.0
    speed: bool = True
    violations: bool = True


@dataclass(eq=False)
class Stream:
    """One camera at work. Wall times are seconds of a monotonic clock unless said otherwise.

    runs_on:    what its detector runs on, see `Detector`.
    signals:    what the signals before the camera show.
    processed:  frames that went through detector and perception.
    faults:     in a row; fault: the last one.
    served_at:  when a frame was last given to the detector.
    started_at: seconds since 1970. epoch: of the last frame, see `Frame`.
    latencies:  seconds from decoded to published, of the last frames; processed_at: when.
    in_flight:  frames whose detections are awaited, in order.
    result:     of the last frame.
    viewers:    how many watch the live view; view: its number and JPEG; drawn_at: when.
    violations: the last ones.
    lock:       for all that the manager's thread changes. source_lock: while its source starts or
        ends, which may take seconds.
    """

    settings: StreamSettings
    source: FrameSource
    clock: Callable[[], float] = time.monotonic
    runs_on: str = ""
    perception: Perception | None = None
    signals: SignalHistory = field(default_factory=SignalHistory)
    processed: int = 0
    faults: int = 0
    fault: str = ""
    served_at: float = 0.0
    started_at: float = 0.0
    epoch: int = 0
    running: bool = False
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=FIGURES_OVER))
    processed_at: deque[float] = field(default_factory=lambda: deque(maxlen=FIGURES_OVER))
    in_flight: deque[tuple[Frame, Future[sv.Detections]]] = field(default_factory=deque)
    result: FrameResult | None = None
    viewers: int = 0
    view: tuple[int, bytes] = (0, b"")
    drawn_at: float = 0.0
    # (stream time, words): without their images, which would be 180 kB each
    violations: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=RECENT_MOST))
    lock: threading.RLock = field(default_factory=threading.RLock)
    source_lock: threading.RLock = field(default_factory=threading.RLock)

    def reset(self, started_at: float) -> None:
        """Start with nothing of what was observed before. started_at: seconds since 1970."""
        with self.lock:
            self.perception = None
            self.result = None
            self.fault = ""
            self.faults = 0
            self.signals = SignalHistory()
            self.in_flight.clear()
            self.latencies.clear()
            self.processed_at.clear()
            self.running = True
            self.started_at = started_at

    def state(self) -> dict[str, Any]:
        """Plain figures, without the password of the camera's address."""
        with self.lock:
            return {**self._identity(), **self._source_figures(), **self._work_figures()}

    @property
    def source_fault(self) -> str:
        """Of its source, for everybody: of an address the same words, whether nothing, nobody or
        somebody else answers there.
        """
        fault = self.source.health.fault
        return NO_PICTURE if fault and self.settings.source.live else fault

    @property
    def fault_detail(self) -> str:
        """The same, for those who set cameras up."""
        return self.fault or self.source.health.fault

    def _identity(self) -> dict[str, Any]:
        site, health = self.settings.site, self.source.health
        calibration = site.calibration if site is not None else None
        return {
            "id": self.settings.id,
            "source": self.settings.source.display_url,
            "detector": Path(self.settings.detector).name,
            "runs_on": self.runs_on,
            "running": self.running,
            "state": health.state if self.running else "stopped",
            "fault": self.fault or self.source_fault,
            "calibration_error_m": calibration.error_m if calibration is not None else None,
        }

    def _source_figures(self) -> dict[str, Any]:
        health = self.source.health
        return {
            "received": health.received,
            "dropped": health.dropped,
            "skipped": health.skipped,
            "broken": health.broken,
            "connections": health.connections,
            "source_rate_hz": round(health.rate_hz, 2),
            "size": list(health.size),
            "clock": health.clock,
        }

    def _work_figures(self) -> dict[str, Any]:
        p50_s, p95_s = np.percentile(self.latencies or [np.nan], (50, 95)).tolist()
        detector = self.perception.violation_detector if self.perception else None
        return {
            "processed": self.processed,
            "rate_hz": round(self._rate_hz(), 2),
            "latency_p50_ms": _milliseconds(p50_s),
            "latency_p95_ms": _milliseconds(p95_s),
            "tracks": len(self.result.tracks) if self.result else 0,
            "violations": detector.reported if detector else 0,
        }

    def _rate_hz(self) -> float:
        """Of frames processed, over the last RATE_OVER_S. Between one frame and the next it is as
        it was; it falls where the next is late.
        """
        now_s = self.clock()
        recent = [t for t in self.processed_at if now_s - t <= RATE_OVER_S]
        if len(recent) < 2:
            return 0.0
        rate_hz = (len(recent) - 1) / max(recent[-1] - recent[0], 1e-3)
        return min(rate_hz, len(recent) / max(now_s - recent[0], 1e-3))

    def figures(self) -> dict[str, Any]:
        """Of the traffic: the tracks of the last frame, counts, queues."""
        with self.lock:
            if self.perception is None or self.result is None:
                return {"tracks": [], "measures": None}
            return {
                "at_s": self.result.frame.at_s,
                "tracks": [track_to_json(t) for t in self.result.tracks],
                "measures": self.perception.measures.figures(),
            }

    def recent_violations(self, at_s: float) -> list[str]:
        """For the live view at stream time `at_s`."""
        return [words for then_s, words in self.violations if then_s > at_s - RECENT_S]


ResultListener = Callable[[Stream, FrameResult], None]


@dataclass(frozen=True)
class Makers:
    """What streams are made of, and their clocks; tests give others."""

    source: Callable[[SourceSettings], FrameSource] = FrameSource
    perception: Callable[..., Perception] = Perception
    motion_detector: Callable[[], Detector] = MotionDetector
    onnx_detector: Callable[..., Detector] = OnnxDetector
    draw: Callable[..., Any] = drawn
    encode: Callable[[Any], bytes] = jpeg
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time


class StreamManager:
    """Cameras by id.

    publish: called with each frame's result, from the manager's thread.
    key:     evidence is sealed with it.
    threads: of an ONNX detector; 0 for as many as there are processors.
    background: work in a thread of its own; without it the caller calls `step`.
    """

    def __init__(
        self,
        publish: ResultListener | None = None,
        key: bytes = b"",
        threads: int = 0,
        makers: Makers | None = None,
        background: bool = True,
    ) -> None:
        self.streams: dict[str, Stream] = {}
        self._publish = publish
        self._key = key
        self._threads = threads
        self._makers = makers or Makers()
        self._detectors: dict[str, Detector] = {}
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._log = telemetry.log("sensing")
        self._thread = keep_running("perception", self._work, self._stop, start=False)
        if background:
            self._thread.start()

    # --- for operators ---

    def add(self, settings: StreamSettings) -> Stream:
        """Raises SensingError for an id that is taken, or a model that cannot be loaded."""
        with self._lock:
            if settings.id in self.streams:
                raise SensingError(
                    f"stream {settings.id!r} is there already. Delete it first, or take another id."
                )
            runs_on = self._detector(settings.detector).runs_on
            stream = self.streams[settings.id] = Stream(
                settings, self._source(settings.source), self._makers.clock, runs_on
            )
            return stream

    def _source(self, source: SourceSettings) -> FrameSource:
        if source.policy == "auto" and (source.live or source.paced):
            source = replace(source, policy="latest")
        return self._makers.source(source)

    def configure(self, settings: StreamSettings) -> None:
        """Other settings of a camera; one that runs starts anew with them, from a fresh source: the
        one before may not have ended. Raises KeyError, or SensingError for a model that cannot be
        loaded; then nothing has changed.
        """
        stream = self.streams[settings.id]
        runs_on = self._detector(settings.detector).runs_on
        was_running = stream.running
        self.stop(settings.id)
        with stream.source_lock, stream.lock:
            stream.settings = settings
            stream.runs_on = runs_on
            stream.source = self._source(settings.source)
            stream.processed = 0
        if was_running:
            self.start(settings.id)

    def start(self, name: str) -> None:
        """Raises KeyError for an unknown stream; one that runs already goes on. One that is being
        stopped is waited for; SensingError where its source does not end.
        """
        stream = self.streams[name]
        with stream.source_lock:
            if stream.running:
                return
            stream.source.on_change = self._wake.set
            stream.source.start()
            stream.reset(self._makers.wall_clock())

    def stop(self, name: str) -> None:
        """Violations that were not complete yet are published. Raises KeyError."""
        stream = self.streams[name]
        with stream.source_lock:
            stream.running = False
            stream.fault = ""  # it is stopped on purpose now
            stream.source.stop()
        self._detector(stream.settings.detector).forget(name)
        with stream.lock:
            stream.in_flight.clear()
            self._publish_pending(stream)

    def set_site(self, name: str, site: Site) -> None:
        """Another site; a camera that runs starts anew with it. Raises KeyError."""
        self.configure(replace(self.streams[name].settings, site=site))

    def remove(self, name: str) -> None:
        """Stop a camera and forget it. Raises KeyError."""
        self.stop(name)
        with self._lock:
            self.streams.pop(name, None)  # two may remove it at once

    def close(self) -> None:
        """Stop all cameras, and the thread."""
        for name in list(self.streams):
            with contextlib.suppress(KeyError):  # removed meanwhile
                self.stop(name)
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(THREAD_ENDS_WITHIN_S)

    def _detector(self, name: str) -> Detector:
        if name not in self._detectors:
            self._detectors[name] = (
                self._makers.motion_detector()
                if name == "motion"
                else self._makers.onnx_detector(Path(name), threads=self._threads)
            )
        return self._detectors[name]

    # --- the work ---

    def _work(self) -> None:
        """The manager's thread."""
        while not self._stop.is_set():
            if not self.step():
                self._wake.wait(IDLE_WAIT_S)
                self._wake.clear()

    def step(self) -> bool:
        """Publish finished detections, and give the detectors new frames; whether there was
        anything to do.
        """
        with self._lock:
            running = [s for s in self.streams.values() if s.running]
        running.sort(key=lambda s: s.served_at)
        published = [self._publish_detected(stream) for stream in running]
        for stream in running:
            self._publish_if_lost(stream)
        begun = [self._start_safely(stream, running) for stream in running]
        return any(published) or any(begun)

    def _start_safely(self, stream: Stream, running: list[Stream]) -> bool:
        """As `_start_detection`: what fails there is this camera's trouble."""
        try:
            return self._start_detection(stream, running)
        except Exception as error:
            self._record_fault(stream, error)
            return True

    def _start_detection(self, stream: Stream, running: list[Stream]) -> bool:
        """Give the camera's next frame to its detector, if there is one and there is room."""
        name = stream.settings.detector
        detector = self._detector(name)
        busy = sum(len(s.in_flight) for s in running if s.settings.detector == name)
        is_full = busy >= detector.threads + 1 or len(stream.in_flight) >= detector.threads
        if is_full or not stream.source.waiting:
            return False
        frame = stream.source.take(0.0)
        if frame is None:
            return False
        detections = detector.begin(stream.settings.id, frame.image)
        stream.served_at = self._makers.clock()
        stream.in_flight.append((frame, detections))
        detections.add_done_callback(lambda _: self._wake.set())
        return True

    def _publish_detected(self, stream: Stream) -> bool:
        """Publish the oldest frame in flight, if its detections are there."""
        with stream.lock:
            if not (stream.running and stream.in_flight and stream.in_flight[0][1].done()):
                return False
            frame, detections = stream.in_flight.popleft()
            try:
                found = _sure_enough(detections.result(), stream.settings.confidence)
                result = self._process(stream, frame, found)
            except Exception as error:  # this camera's trouble: the others go on
                self._record_fault(stream, error)
                return True
            now = self._makers.clock()
            stream.faults = 0
            stream.processed += 1
            stream.result = result
            stream.latencies.append(now - frame.decoded_s)
            stream.processed_at.append(now)
            self._publish_result(stream, result)
            return True

    def _process(self, stream: Stream, frame: Frame, detections: sv.Detections) -> FrameResult:
        """Raises SensingError if the frame is not of the site's size."""
        size = (frame.image.shape[1], frame.image.shape[0])
        before = stream.perception
        if before is not None and before.site.size == size and stream.epoch == frame.epoch:
            return before.process(frame, detections)
        if stream.epoch != frame.epoch:  # the clock was set: reports by the old time mislead
            stream.signals, stream.epoch = SignalHistory(), frame.epoch
        perception = stream.perception = self._new_perception(stream, size)
        last = before.violation_detector.close() if before is not None else []
        result = perception.process(frame, detections)
        return replace(result, violations=[*last, *result.violations])

    def _new_perception(self, stream: Stream, size: tuple[int, int]) -> Perception:
        """At the first frame, and when the camera has changed its size, or the clock was set."""
        site = stream.settings.site or unknown_site(size)
        if site.size != size:
            raise SensingError(f"its frames are {size}, its site is of {site.size}")
        if not stream.settings.speed:
            site = replace(site, calibration=None, uncalibrated=SPEED_IS_OFF)
        return self._makers.perception(
            device=stream.settings.id,
            site=site,
            rate_hz=stream.source.nominal_hz or USUAL_RATE_HZ,
            key=self._key,
            blur=stream.settings.blur,
            signals=stream.signals,
            violations=stream.settings.violations,
        )

    def _record_fault(self, stream: Stream, error: Exception) -> None:
        """A camera with too many faults, or with one that will not pass, is stopped."""
        name = stream.settings.id
        stream.faults += 1
        stream.fault = str(error)
        self._log.error("a frame could not be processed", stream=name, error=repr(error))
        if stream.faults >= FAULTS or isinstance(error, SensingError):
            stream.running = False
            self._publish_pending(stream)
            # it waits for the decoder, which the other cameras must not
            threading.Thread(target=_end_source, args=(stream,), daemon=True).start()

    def _publish_if_lost(self, stream: Stream) -> None:
        """Where the source has ended, or is lost, no images come for what waits for them."""
        with stream.lock:
            is_lost = stream.source.health.state in LOST and not stream.source.waiting
            if stream.running and is_lost and not stream.in_flight:
                self._publish_pending(stream)

    def _publish_pending(self, stream: Stream) -> None:
        """Violations that are decided, with the images that there are."""
        if stream.perception is None or stream.result is None:
            return
        if last := stream.perception.violation_detector.close():
            self._publish_result(stream, replace(stream.result, crossings=[], violations=last))

    def _publish_result(self, stream: Stream, result: FrameResult) -> None:
        stream.violations.extend(
            (v.at_s, f"{v.rule} #{v.data['track']}") for v in result.violations
        )
        try:
            if self._publish is not None:
                self._publish(stream, result)
            if stream.viewers and stream.perception is not None:
                self._draw(stream, stream.perception, result)
        except Exception as error:  # a listener or viewer must not stop the cameras
            name = stream.settings.id
            self._log.error("a result was not published", stream=name, error=repr(error))

    def _draw(self, stream: Stream, perception: Perception, result: FrameResult) -> None:
        """The live view, every DRAW_PERIOD_S at most."""
        now = self._makers.clock()
        if now - stream.drawn_at < DRAW_PERIOD_S:
            return
        stream.drawn_at = now
        recent = stream.recent_violations(result.frame.at_s)
        image = self._makers.draw(result, perception.site, perception.measures, recent)
        number, _ = stream.view
        stream.view = (number + 1, self._makers.encode(image))


def _end_source(stream: Stream) -> None:
    with stream.source_lock:
        if not stream.running:  # nobody has started it again meanwhile
            stream.source.stop()


def _sure_enough(found: sv.Detections, confidence: float) -> sv.Detections:
    if not confidence or found.confidence is None or not len(found):
        return found
    return cast(sv.Detections, found[found.confidence >= confidence])


def _milliseconds(seconds: float) -> float | None:
    return round(seconds * 1e3, 1) if np.isfinite(seconds) else None
