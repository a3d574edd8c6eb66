"""Cameras at work: what they see goes to the record, to whoever listens, and, where it is urgent,
to others by webhook and e-mail.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headway import telemetry
from headway.sensing import SensingError, Site, need_vision
from headway.service.streets import StreetService
from headway.settings import NotifySettings
from headway.store import Intake, Recorder

TELL_EVERY_S = 0.2
MOST_WAITING = 2_000
CRITICAL = ("red_light", "wrong_way")
Listener = Callable[[str, str, Any], None]


class CameraService:
    """Cameras by id, kept in `cameras.json` of the folder (they hold passwords: only this user may
    read it) and started again with the service.

    tell(topic, source, message): for whoever listens, from the cameras' thread. streets: whose
    signals a camera may see. Raises SensingError where the extra `vision` is missing.
    """

    def __init__(
        self,
        folder: Path,
        tell: Listener,
        intake: Intake,
        notify: NotifySettings | None = None,
        streets: StreetService | None = None,
    ) -> None:
        need_vision()
        from headway.service.camera_streams import StreamManager
        from headway.service.notification import Mail, Notifier, Webhook

        notify = notify or NotifySettings()
        self._folder = folder
        self._tell = tell
        self._recorder = Recorder(intake, MOST_WAITING)
        self._file = folder / "cameras.json"
        self._told = dict[str, float]()
        self._lock = threading.Lock()
        self._wanted: dict[str, dict[str, Any]] = {}
        self._log = telemetry.log("sensing")
        hooks = tuple(Webhook(h.url, h.secret, h.attempts) for h in notify.webhooks)
        mail = Mail(**notify.mail.model_dump()) if notify.mail is not None else None
        self.notifier = Notifier(hooks, mail, folder / "undelivered.jsonl")
        self.manager = StreamManager(self._seen, _key(folder / "evidence.key"))
        self._streets = streets
        if streets is not None:
            streets.on_signals = self._hear
        self._begin_again()
        gc.freeze()  # docs/decisions/0012-pauses.md

    def add(self, name: str, wish: dict[str, Any], start: bool = True) -> Any:
        """wish: source, detector (motion, or a model's name in the folder `models`), rate_hz, site,
        paced, repeat, blur, street.

        Raises SensingError.
        """
        from headway.sensing.frames.sources import SourceSettings
        from headway.service.camera_streams import StreamSettings

        how = {k: wish[k] for k in ("rate_hz", "repeat") if k in wish}
        source = SourceSettings(self._place(wish["source"]), paced=wish.get("paced", True), **how)
        detector = wish.get("detector", "motion")
        if detector != "motion":
            detector = str(self._folder / "models" / f"{detector}.onnx")
        if wish.get("street") and not source.live:
            raise SensingError(
                f"stream {name}, street: only a live camera (rtsp://, http://) sees the "
                "signals of a street that runs now."
            )
        site = Site.of(wish["site"], f"stream {name}, site") if wish.get("site") else None
        stream = self.manager.add(
            StreamSettings(name, source, detector, site, wish.get("blur", True))
        )
        self._keep(name, wish | {"started": start})
        if start:
            self._begin(name)
        return stream

    def start(self, name: str) -> None:
        """Raises KeyError for an unknown one, as the next two."""
        self._begin(name)
        self._keep(name, self._wanted[name] | {"started": True})

    def stop(self, name: str) -> None:
        self.manager.stop(name)
        self._keep(name, self._wanted[name] | {"started": False})

    def remove(self, name: str) -> None:
        self.manager.remove(name)
        self._keep(name, None)

    def site(self, name: str) -> dict[str, Any] | None:
        """As it was given."""
        found = self._wanted[name].get("site")
        return dict(found) if found else None

    def set_site(self, name: str, site: dict[str, Any]) -> None:
        """Another site from now on; the camera begins anew with it. Raises SensingError, KeyError;
        then nothing has changed.
        """
        self.manager.set_site(name, Site.of(site, f"stream {name}, site"))
        if self.manager.streams[name].running:
            self._begin(name)
        self._keep(name, self._wanted[name] | {"site": site})

    def close(self) -> None:
        """End all; what was seen is recorded."""
        if self._streets is not None:
            self._streets.on_signals = None
        self.manager.close()
        self._recorder.close()
        self.notifier.close(2.0)

    def _begin(self, name: str) -> None:
        self.manager.start(name)
        street = self._wanted[name].get("street")
        if street and self._streets is not None and street in self._streets.streets:
            told = [
                (at, group, colour)
                for group, (at, colour) in self._streets.streets[street].colours.copy().items()
            ]
            self._hear(street, sorted(told))

    def _hear(self, street: str, told: list[tuple[float, int, int]]) -> None:
        """What the signals of a street show now, to each camera that sees them."""
        for name, wish in list(self._wanted.items()):
            stream = self.manager.streams.get(name)
            if wish.get("street") == street and stream is not None:
                with stream.lock:
                    for change in told:
                        stream.signals.record(*change)
                    stream.signals.confirm(time.time())

    def _place(self, source: str) -> str:
        """An address, or a file in the folder `media`: no other file of this machine can be asked
        for.
        """
        if "://" in source:
            return source
        media = (self._folder / "media").resolve()
        path = (media / source).resolve()
        if not path.is_relative_to(media) or not path.exists():
            raise SensingError(
                f"source {source!r}: give rtsp://, rtsps://, http://, https://, or a file in "
                f"{media}."
            )
        return str(path)

    def _keep(self, name: str, wish: dict[str, Any] | None) -> None:
        with self._lock:
            if wish is None:
                self._wanted.pop(name, None)
            else:
                self._wanted[name] = wish
            draft = self._file.with_suffix(".draft")
            with os.fdopen(
                os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
            ) as stream:
                json.dump(self._wanted, stream)
            draft.replace(self._file)

    def _begin_again(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._wanted = dict(
                json.loads(self._file.read_text(encoding="utf-8"))
            )  # all of them, before the file is written again
        for name, wish in list(self._wanted.items()):
            try:
                self.add(name, wish, wish.get("started", True))
            except (SensingError, ValueError, KeyError, TypeError) as error:
                self._log.error("a camera does not begin again", stream=name, error=str(error))

    def _seen(self, stream: Any, seen: Any) -> None:
        name, now = stream.settings.id, time.monotonic()
        live = stream.settings.source.live
        for v in seen.violations:
            at = v.at_s if live else stream.begun_wall_s + v.at_s
            self._violation(name, v, datetime.fromtimestamp(at, UTC))
        if now - self._told.get(name, -1.0) >= TELL_EVERY_S:
            self._told[name] = now
            self._tell("realtime", name, {"kind": "camera.seen", **stream.figures()})

    def _violation(self, name: str, v: Any, at: datetime) -> None:
        row = (
            v.id,
            at.isoformat(),
            name,
            v.rule,
            v.confidence,
            json.dumps({**v.data, "at_s": v.at_s}),
            v.seal,
        )
        pictures = [
            (v.id, k, shot, "\\x" + picture.hex()) for k, (shot, picture) in enumerate(v.pictures)
        ]
        self._recorder.put("violation", row)
        for shown in pictures:
            self._recorder.put("violation_picture", shown)
        told = {
            "at": at.isoformat(),
            "at_s": v.at_s,
            "device": name,
            "confidence": v.confidence,
            "data": v.data,
        }
        news = {"kind": f"violation.{v.rule}", "id": v.id, **told}
        self._tell("alerts", name, news)
        self._tell("monitoring", name, news)
        self.notifier.tell(f"violation.{v.rule}", v.id, news, v.rule in CRITICAL)


def _key(path: Path) -> bytes:
    """The key that evidence is sealed with; made once, readable by this user alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(secrets.token_bytes(32))
    except FileExistsError:
        pass
    return path.read_bytes()
