"""Cameras at work: what they observe goes to the database and to listeners; what is urgent, by
webhook and e-mail as well.
"""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headway import telemetry
from headway.files import write_whole
from headway.sensing import SensingError, Site, need_vision
from headway.service.camera_counts import CameraCounts, CountedCrossing
from headway.service.camera_health import CameraView
from headway.service.evidence import (
    SealCheck,
    check_seal,
    data_of_row,
    dated,
    evidence_key,
)
from headway.service.running_street import ColourAt
from headway.service.streets import StreetService
from headway.settings import CameraSettings, NotifySettings
from headway.store import Database, Intake, Recorder
from headway.vision.frames.addresses import networks, require_allowed_url

if TYPE_CHECKING:
    from headway.sensing.pipeline import FrameResult
    from headway.sensing.traffic.evidence import Violation
    from headway.service.camera_streams import Stream, StreamSettings
    from headway.service.notification import Notifier
    from headway.vision.frames.sources import SourceSettings

PUBLISH_PERIOD_S = 0.2  # of a camera's figures, wall seconds
MOST_WAITING = 2_000  # rows for a database that is away; violations carry images
NOTIFIER_ENDS_WITHIN_S = 2.0
Severity = Literal["info", "warning", "error", "critical"]
# of the rules that endanger others; of all others: warning
SEVERITY: Mapping[str, Severity] = {
    "red_light": "critical",
    "wrong_way": "critical",
    "pedestrian_crossing": "error",
}
OPEN = "open"  # the state of a candidate that nobody has reviewed
Listener = Callable[[str, str, Any], None]
"""Called with topic ("realtime", "alerts", "monitoring"), camera and message."""
CameraConfig = Mapping[str, Any]
"""source, detector ("motion", or a model's name in the folder `models`), site, paced, repeat, blur,
street, and OPTIONS; all but the source may be missing. `started` where it is kept.
"""
OPTIONS = ("attempts", "delay_s", "buffer", "rate_hz", "confidence", "speed", "violations")
"""What a camera takes from the settings where it has none of its own (missing, or None)."""


class CameraStore:
    """The configuration of each camera, in a JSON file that only this user may read, since sources
    hold passwords. fault: why the file could not be read; then it is set aside, and there are none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._configs: dict[str, CameraConfig] = {}
        self.fault = ""
        try:
            # all of them at once, before the file is written again
            self._configs = self._read()
        except FileNotFoundError:
            pass
        except ValueError as error:
            aside = path.with_suffix(".refused")
            self.fault = (
                f"{path}: is no list of cameras ({error}). It is set aside as {aside.name}: mend "
                "it and put it back, or add its cameras again."
            )
            path.replace(aside)

    def __getitem__(self, name: str) -> CameraConfig:
        return self._configs[name]

    def all(self) -> list[tuple[str, CameraConfig]]:
        """Name and configuration of each camera."""
        return list(self._configs.items())

    def put(self, name: str, config: CameraConfig) -> None:
        """Keep a configuration. Raises OSError; then the one before is in force."""
        with self._lock:
            self._write({**self._configs, name: config})

    def remove(self, name: str) -> None:
        """Forget a configuration; an unknown name is ignored. Raises OSError."""
        with self._lock:
            self._write({n: c for n, c in self._configs.items() if n != name})

    def _read(self) -> dict[str, CameraConfig]:
        """Raises ValueError, OSError."""
        found = json.loads(self._path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not all(isinstance(c, dict) for c in found.values()):
            raise ValueError("it is no object of objects")
        return found

    def _write(self, configs: dict[str, CameraConfig]) -> None:
        """Completely or not at all; in force once it is written."""
        write_whole(self._path, json.dumps(configs))
        self._configs = configs


class CameraService:
    """Cameras by id, kept in `cameras.json` of the folder and started again with the service.

    refused: why a camera of the service before could not be started again, by its id.
    publish: called from the cameras' thread with each message. streets: whose signals a live camera
        may use. clock, wall_clock: given by tests. notifier: whose owner closes it; None for one of
        its own. defaults: for the OPTIONS of cameras that have none of their own.
    Raises SensingError where the extra `vision` is missing.
    """

    def __init__(
        self,
        folder: Path,
        publish: Listener,
        intake: Intake,
        notify: NotifySettings | None = None,
        streets: StreetService | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        notifier: Notifier | None = None,
        defaults: CameraSettings | None = None,
    ) -> None:
        need_vision()
        from headway.service.camera_streams import StreamManager
        from headway.service.notification import Notifier, recipients

        self._folder = folder
        self._defaults = defaults or CameraSettings()
        self._networks = networks(self._defaults.allowed_networks)
        self._publish = publish
        self._clock = clock
        self._wall_clock = wall_clock
        self._published_at: dict[str, float] = {}
        self._log = telemetry.log("sensing")
        self._recorder = Recorder(intake, MOST_WAITING)
        self._counts = CameraCounts(lambda row: self._recorder.put("camera_count", row))
        notify = notify or NotifySettings()
        self._public_url = notify.public_url.rstrip("/")
        self._has_own_notifier = notifier is None
        self.notifier = notifier or Notifier(*recipients(notify), folder / "undelivered.jsonl")
        self._key = evidence_key(folder / "evidence.key")
        self.manager = StreamManager(self._handle_result, self._key)
        self._store = CameraStore(folder / "cameras.json")
        self.refused: dict[str, str] = {}
        if self._store.fault:
            self._log.error("the cameras were refused", error=self._store.fault)
        self._streets = streets
        if streets is not None:
            streets.on_signals = self._forward_signals
        self._restart_cameras()
        gc.freeze()  # docs/decisions/0012-garbage-collection.md

    # --- for operators ---

    def add(self, name: str, config: CameraConfig, start: bool = True) -> Stream:
        """A new camera. Raises SensingError for an id that is taken, or a configuration that is not
        allowed.
        """
        settings = self._stream_settings(name, config)
        if config.get("street") and not settings.source.live:
            raise SensingError(
                f"stream {name}, street: only a live camera (rtsp://, http://) sees the "
                "signals of a street that runs now."
            )
        stream = self.manager.add(settings)
        try:
            self._store.put(name, {**config, "started": start})
        except OSError:
            self.manager.remove(name)
            raise
        self.refused.pop(name, None)
        if start:
            self._start(name)
        return stream

    def start(self, name: str) -> None:
        """Raises KeyError for an unknown camera."""
        self._start(name)
        self._store.put(name, {**self._store[name], "started": True})

    def stop(self, name: str) -> None:
        """Raises KeyError for an unknown camera."""
        self.manager.stop(name)
        self._counts.flush(name)
        self._store.put(name, {**self._store[name], "started": False})

    def remove(self, name: str) -> None:
        """Stop a camera and forget it, also one that was refused. Raises KeyError for an unknown
        one.
        """
        if self.refused.pop(name, None) is None:
            self.manager.remove(name)
            self._counts.flush(name)
        self._store.remove(name)

    def site(self, name: str) -> dict[str, Any] | None:
        """As it was given; None if none was. Raises KeyError for an unknown camera."""
        found = self._store[name].get("site")
        return dict(found) if found else None

    def set_site(self, name: str, site: dict[str, Any]) -> None:
        """Another site from now on; the camera starts anew with it. Raises SensingError or
        KeyError, or OSError where it cannot be kept; then nothing has changed.
        """
        made = Site.from_tree(site, f"stream {name}, site")
        self._store.put(name, {**self._store[name], "site": site})
        self.manager.set_site(name, made)
        if self.manager.streams[name].running:
            self._start(name)

    def options(self, name: str) -> dict[str, Any]:
        """The OPTIONS in force. Raises KeyError for an unknown camera."""
        return self._options(self._store[name])

    def set_options(self, name: str, given: Mapping[str, Any]) -> None:
        """Other OPTIONS from now on; None is the settings' value. A camera that runs starts anew.
        Raises KeyError, SensingError, or OSError where they cannot be kept; then nothing has
        changed.
        """
        before, config = self._store[name], {**self._store[name], **given}
        settings = self._stream_settings(name, config)
        self._store.put(name, config)
        try:
            self.manager.configure(settings)
        except SensingError:  # its model is gone
            self._store.put(name, before)
            raise
        if self.manager.streams[name].running:
            self._start(name)

    def close(self) -> None:
        """Stop all cameras; what they observed is recorded."""
        if self._streets is not None:
            self._streets.on_signals = None
        self.manager.close()
        self._counts.flush_all()
        self._recorder.close()
        if self._has_own_notifier:
            self.notifier.close(NOTIFIER_ENDS_WITHIN_S)

    def check_seal(self, database: Database, violation: str) -> SealCheck | None:
        """Whether a violation in the database is as it was sealed; None for an unknown id."""
        return check_seal(database, violation, self._key)

    # --- for those who watch over them ---

    def states(self) -> list[dict[str, Any]]:
        """Plain figures of each camera, see `Stream.state`."""
        return [stream.state() for stream in list(self.manager.streams.values())]

    def views(self) -> list[CameraView]:
        """Each camera as it is now, for `CameraHealth`; those that should run and were refused,
        too.
        """
        known = [_view(name, stream) for name, stream in list(self.manager.streams.items())]
        missing = [
            CameraView(
                name=name,
                expected=True,
                live=True,
                state="failed",
                received=0,
                stopped_fault=fault,
            )
            for name, fault in list(self.refused.items())
            if self._store[name].get("started", True)
        ]
        return [*known, *missing]

    # --- configuration ---

    def _restart_cameras(self) -> None:
        """Those of the service before; one that cannot be started again stays in the file."""
        for name, config in self._store.all():
            try:
                self.add(name, config, config.get("started", True))
            except Exception as error:  # whatever the file holds: the other cameras start
                self.refused[name] = str(error) or repr(error)
                self._log.error("a camera was not restarted", stream=name, error=str(error))

    def _stream_settings(self, name: str, config: CameraConfig) -> StreamSettings:
        from headway.service.camera_streams import StreamSettings

        source = self._source_settings(config)
        detector = config.get("detector", "motion")
        if detector != "motion":
            detector = str(self._folder / "models" / f"{detector}.onnx")
        site, options = config.get("site"), self._options(config)
        return StreamSettings(
            id=name,
            source=source,
            detector=detector,
            site=Site.from_tree(site, f"stream {name}, site") if site else None,
            blur=config.get("blur", True),
            confidence=options["confidence"],
            speed=options["speed"],
            violations=options["violations"],
        )

    def _options(self, config: CameraConfig) -> dict[str, Any]:
        given = {name: config.get(name) for name in OPTIONS}
        return {
            name: getattr(self._defaults, name) if value is None else value
            for name, value in given.items()
        }

    def _source_settings(self, config: CameraConfig) -> SourceSettings:
        from headway.vision.frames.sources import SourceSettings

        options = self._options(config)
        buffer, paced = options["buffer"], config.get("paced", True)
        made = SourceSettings(
            self._source_url(config["source"]),
            rate_hz=options["rate_hz"],
            paced=paced,
            repeat=config.get("repeat", False),
            attempts=options["attempts"],
            delay_s=options["delay_s"],
            networks=self._networks,
        )
        if buffer == 1:  # the newest frame alone; a file that waits for its reader reads ahead
            return made
        return replace(made, buffer=buffer, policy="recent" if made.live or paced else "queue")

    def _source_url(self, source: str) -> str:
        """An address, or a file in the folder `media`: no other file of this machine can be
        asked for.
        """
        if "://" in source:
            require_allowed_url(source, self._networks)
            return source
        media = (self._folder / "media").resolve()
        path = (media / source).resolve()
        if not path.is_relative_to(media) or not (path.is_file() or path.is_dir()):
            raise SensingError(
                f"source {source!r}: give rtsp://, rtsps://, http://, https://, or a file in "
                f"{media}."
            )
        return str(path)

    # --- signals of the streets ---

    def _start(self, name: str) -> None:
        """Start a camera, with what the signals of its street show now."""
        self.manager.start(name)
        street = self._store[name].get("street")
        if street and self._streets is not None and street in self._streets.streets:
            colours = self._streets.streets[street].colours.copy()
            self._forward_signals(street, sorted((at, g, c) for g, (at, c) in colours.items()))

    def _forward_signals(self, street: str, changes: list[ColourAt]) -> None:
        """Changes of colour, to each camera that observes the signals of that street."""
        for name, config in self._store.all():
            stream = self.manager.streams.get(name)
            if config.get("street") == street and stream is not None:
                with stream.lock:
                    for at, group, colour in changes:
                        stream.signals.record(at, group, colour)
                    stream.signals.confirm(self._wall_clock())

    # --- what the cameras observe, in their thread ---

    def _handle_result(self, stream: Stream, result: FrameResult) -> None:
        name, now = stream.settings.id, self._clock()
        self._count(stream, result)
        for violation in result.violations:
            self._report_violation(name, violation, self._time_of_day(stream, violation.at_s))
        last = self._published_at.get(name)
        if last is None or now - last >= PUBLISH_PERIOD_S:
            self._published_at[name] = now
            self._publish("realtime", name, {"kind": "camera.frame", **stream.figures()})

    def _count(self, stream: Stream, result: FrameResult) -> None:
        offset_s = self._offset_s(stream, result.frame.at_s)
        crossings = [
            CountedCrossing(offset_s + c.at_s, c.line, c.direction, c.kind, c.speed_mps)
            for c in result.crossings
        ]
        lines = [line.name for line in result.perception.site.lines]
        self._counts.add(stream.settings.id, offset_s + result.frame.at_s, lines, crossings)

    def _time_of_day(self, stream: Stream, at_s: float) -> datetime:
        return datetime.fromtimestamp(self._offset_s(stream, at_s) + at_s, UTC)

    def _offset_s(self, stream: Stream, at_s: float) -> float:
        """A live camera's time is that of the day already; a film's is counted from its start. One
        that is played more quickly than it was taken is of now, not of the future.
        """
        if stream.settings.source.live:
            return 0.0
        return min(stream.started_at, self._wall_clock() - at_s)

    def _report_violation(self, camera: str, violation: Violation, at: datetime) -> None:
        """To the database, to listeners and to the notifier: a candidate for review."""
        v, kind = violation, f"violation.{violation.rule}"
        severity = SEVERITY.get(v.rule, "warning")
        self._record_violation(camera, v, at)
        data = {
            "kind": kind,
            "id": v.id,
            "at": at.isoformat(),
            "at_s": v.at_s,
            "device": camera,
            "severity": severity,
            "state": OPEN,
            "confidence": v.confidence,
            "image_url": self._image_url(v),
            "data": v.data,
        }
        self._publish("alerts", camera, data)
        self._publish("monitoring", camera, data)
        self.notifier.notify(kind, v.id, data, severity == "critical", camera)

    def _image_url(self, v: Violation) -> str | None:
        """Of the image nearest to the violation; None where it has none."""
        if not v.images:
            return None
        number = min(range(len(v.images)), key=lambda k: abs(v.images[k][0] - v.at_s))
        return f"{self._public_url}/api/v1/violations/{v.id}/images/{number}"

    def _record_violation(self, camera: str, violation: Violation, at: datetime) -> None:
        v = dated(violation, at, self._key)
        data = json.dumps(data_of_row(v))
        row = (v.id, at.isoformat(), camera, v.rule, v.confidence, data, v.seal)
        images = [(v.id, k, at_s, jpeg) for k, (at_s, jpeg) in enumerate(v.images)]
        self._recorder.put("violation", row)
        for image in images:
            self._recorder.put("violation_picture", image)


def _view(name: str, stream: Stream) -> CameraView:
    """One with a fault that does not run was stopped by the service, not by its operator."""
    with stream.lock:
        health, result = stream.source.health, stream.result
        return CameraView(
            name=name,
            expected=stream.running or bool(stream.fault),
            live=stream.settings.source.live,
            state=health.state,
            received=health.received,
            fault=stream.source_fault,
            stopped_fault="" if stream.running else stream.fault,
            frame=(result.frame.number, result.frame.image) if result is not None else None,
        )
