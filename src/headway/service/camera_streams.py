"""Many cameras at once: each with a decoder of its own, one detector shared, whoever waited longest
next; what is too much is dropped and told.
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
from typing import Any

import numpy as np
import supervision as sv

from headway import telemetry
from headway.sensing import SensingError
from headway.sensing.detection.detectors import Detector, OnnxDetector
from headway.sensing.detection.motion import MotionDetector
from headway.sensing.frames.sources import Frame, Source, SourceSettings
from headway.sensing.output.overlay import drawn, jpeg
from headway.sensing.pipeline import FrameResult, Perception, track_to_json, unknown_site
from headway.sensing.traffic.evidence import Violation
from headway.sensing.traffic.signals import SignalHistory
from headway.sensing.traffic.site import Site

FAULTS = 20
VIEW_EVERY_S = 0.1
LATENCIES = 300


@dataclass(frozen=True)
class StreamSettings:
    """One camera. detector: motion, or an ONNX file. site: None where nothing is known of the
    place.
    """

    id: str
    source: SourceSettings
    detector: str = "motion"
    site: Site | None = None
    blur: bool = True


@dataclass(eq=False)
class Stream:
    """One camera at work. processed: frames looked at; latency: seconds from decoded to told."""

    settings: StreamSettings
    source: Source
    perception: Perception | None = None
    signals: SignalHistory = field(default_factory=SignalHistory)
    processed: int = 0
    faults: int = 0
    fault: str = ""
    served: float = 0.0
    begun_wall_s: float = 0.0
    running: bool = False
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))
    times: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))
    ahead: deque[tuple[Frame, Future[sv.Detections]]] = field(default_factory=deque)
    seen: FrameResult | None = None
    viewers: int = 0
    view: tuple[int, bytes] = (0, b"")
    told: deque[Violation] = field(default_factory=lambda: deque(maxlen=100))
    lock: threading.RLock = field(
        default_factory=threading.RLock
    )  # of all that the perception's thread changes
    _viewed: float = 0.0

    def state(self) -> dict[str, Any]:
        """Plain figures, without the password of its address."""
        with self.lock:
            return self._state()

    def _state(self) -> dict[str, Any]:
        health = self.source.health
        late = np.percentile(self.latencies or [np.nan], (50, 95)).tolist()
        recent = [t for t in self.times if self.times[-1] - t <= 5.0]
        rate = (len(recent) - 1) / max(recent[-1] - recent[0], 1e-3) if len(recent) > 1 else 0.0
        calibration = self.settings.site.calibration if self.settings.site is not None else None
        return {
            "id": self.settings.id,
            "source": self.settings.source.shown,
            "detector": Path(self.settings.detector).name,
            "running": self.running,
            "state": health.state if self.running else "stopped",
            "fault": self.fault or health.fault,
            "received": health.received,
            "processed": self.processed,
            "dropped": health.dropped,
            "skipped": health.skipped,
            "broken": health.broken,
            "connections": health.connections,
            "source_rate_hz": round(health.rate_hz, 2),
            "rate_hz": round(rate, 2),
            "latency_p50_ms": _ms(late[0]),
            "latency_p95_ms": _ms(late[1]),
            "size": list(health.size),
            "tracks": len(self.seen.tracks) if self.seen else 0,
            "violations": self.perception.violation_detector.reported if self.perception else 0,
            "calibration_error_m": calibration.error_m if calibration is not None else None,
            "clock": health.clock,
        }

    def figures(self) -> dict[str, Any]:
        """Of the traffic: tracks now, counts, queues."""
        with self.lock:
            return self._figures()

    def _figures(self) -> dict[str, Any]:
        if self.perception is None or self.seen is None:
            return {"tracks": [], "measures": None}
        return {
            "at_s": self.seen.frame.at_s,
            "tracks": [track_to_json(t) for t in self.seen.tracks],
            "measures": self.perception.measures.figures(),
        }


Listener = Callable[[Stream, FrameResult], None]


class StreamManager:
    """Cameras by id. tell: called for each frame that was looked at, from the manager's own
    thread.
    """

    def __init__(self, tell: Listener | None = None, key: bytes = b"", threads: int = 0) -> None:
        self.streams: dict[str, Stream] = {}
        self._tell = tell
        self._key = key
        self._threads = threads
        self._detectors: dict[str, Detector] = {}
        self._lock = threading.RLock()
        self._news = threading.Event()
        self._stop = threading.Event()
        self._log = telemetry.log("sensing")
        self._thread = threading.Thread(target=self._work, daemon=True, name="perception")
        self._thread.start()

    def add(self, settings: StreamSettings) -> Stream:
        """Raises SensingError for an id that is taken, or a model that is none."""
        with self._lock:
            if settings.id in self.streams:
                raise SensingError(
                    f"stream {settings.id!r} is there already. Delete it first, or take another id."
                )
            self._detector(settings.detector)
            source = settings.source
            if source.policy == "auto" and (source.live or source.paced):
                source = replace(source, policy="latest")
            self.streams[settings.id] = Stream(settings, Source(source))
            return self.streams[settings.id]

    def start(self, name: str) -> None:
        """Raises KeyError for an unknown stream; one that runs already goes on."""
        with self._lock:
            stream = self.streams[name]
            if stream.running:
                return
            stream.source.told = self._news.set
            with stream.lock:
                stream.perception = None
                stream.seen = None
                stream.fault = ""
                stream.faults = 0
                stream.signals = SignalHistory()
                stream.running, stream.begun_wall_s = True, time.time()
            stream.source.start()

    def stop(self, name: str) -> None:
        with self._lock:
            stream = self.streams[name]
            stream.running = False
        stream.source.stop()
        self._detector(stream.settings.detector).forget(name)
        with stream.lock:
            stream.ahead.clear()
            if stream.perception is not None and stream.seen is not None:
                self._hand_out(
                    stream,
                    replace(
                        stream.seen,
                        crossings=[],
                        violations=stream.perception.violation_detector.close(),
                    ),
                )

    def set_site(self, name: str, site: Site) -> None:
        """Another site; a camera that runs begins anew with it. Raises KeyError."""
        stream = self.streams[name]
        running = stream.running
        self.stop(name)
        stream.settings = replace(stream.settings, site=site)
        if running:
            self.start(name)

    def remove(self, name: str) -> None:
        self.stop(name)
        with self._lock:
            del self.streams[name]

    def close(self) -> None:
        """Stop all, and the thread."""
        for name in list(self.streams):
            with contextlib.suppress(KeyError):
                self.stop(name)
        self._stop.set()
        self._news.set()
        self._thread.join(5.0)

    def _detector(self, name: str) -> Detector:
        if name not in self._detectors:
            self._detectors[name] = (
                MotionDetector()
                if name == "motion"
                else OnnxDetector(Path(name), threads=self._threads)
            )
        return self._detectors[name]

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                running = sorted(
                    (s for s in self.streams.values() if s.running), key=lambda s: s.served
                )
            moved = False
            for stream in running:
                moved |= self._finish(stream)
            for stream in running:
                moved |= self._begin(stream, running)
            if not moved:
                self._news.wait(0.05)
                self._news.clear()

    def _begin(self, stream: Stream, running: list[Stream]) -> bool:
        detector = self._detector(stream.settings.detector)
        busy = sum(len(s.ahead) for s in running if s.settings.detector == stream.settings.detector)
        if (
            busy >= detector.threads + 1
            or len(stream.ahead) >= detector.threads
            or not stream.source.waiting
        ):
            return False
        frame = stream.source.take(0.0)
        if frame is None:
            return False
        future = detector.begin(stream.settings.id, frame.image)
        stream.served = time.monotonic()
        stream.ahead.append((frame, future))
        future.add_done_callback(lambda _: self._news.set())
        return True

    def _finish(self, stream: Stream) -> bool:
        with stream.lock:
            return (
                stream.running
                and bool(stream.ahead)
                and stream.ahead[0][1].done()
                and self._look(stream)
            )

    def _look(self, stream: Stream) -> bool:
        frame, future = stream.ahead.popleft()
        try:
            found = future.result()
            size = (frame.image.shape[1], frame.image.shape[0])
            if (
                stream.perception is None or stream.perception.site.size != size
            ):  # begun, or the camera sends others now
                site = stream.settings.site or unknown_site(size)
                if site.size != size:
                    raise SensingError(f"its pictures are {size}, its site is of {site.size}")
                rate = stream.source.nominal_hz or 15.0
                stream.perception = Perception(
                    stream.settings.id, site, rate, self._key, stream.settings.blur, stream.signals
                )
            seen = stream.perception.process(frame, found)
        except Exception as error:  # this camera's trouble: the others go on
            stream.faults += 1
            stream.fault = str(error)
            self._log.error(
                "a picture could not be looked at", stream=stream.settings.id, error=repr(error)
            )
            if stream.faults >= FAULTS or isinstance(error, SensingError):
                stream.running = False
                threading.Thread(target=stream.source.stop, daemon=True).start()
            return True
        stream.faults = 0
        stream.processed = stream.processed + 1
        stream.seen = seen
        stream.latencies.append(time.monotonic() - frame.came_s)
        stream.times.append(time.monotonic())
        self._hand_out(stream, seen)
        return True

    def _hand_out(self, stream: Stream, seen: FrameResult) -> None:
        stream.told.extend(seen.violations)
        now = time.monotonic()
        if (
            stream.viewers
            and stream.perception is not None
            and now - stream._viewed >= VIEW_EVERY_S
        ):
            stream._viewed = now
            recent = [
                f"{v.rule} #{v.data['track']}"
                for v in stream.told
                if v.at_s > seen.frame.at_s - 4.0
            ][-4:]
            stream.view = (
                stream.view[0] + 1,
                jpeg(drawn(seen, stream.perception.site, stream.perception.measures, recent)),
            )
        if self._tell is not None:
            try:
                self._tell(stream, seen)
            except Exception as error:  # who listens must not stop the cameras
                self._log.error(
                    "what was seen could not be told", stream=stream.settings.id, error=repr(error)
                )


def _ms(seconds: float) -> float | None:
    return round(seconds * 1e3, 1) if np.isfinite(seconds) else None
