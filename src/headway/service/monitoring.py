"""Monitoring of cameras and machine: figures for the live streams, alerts by rules, and who learns
that a camera is dead.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from headway import telemetry
from headway.service.camera_alerts import AlertChange, CameraAlerts, OpenAlert, RuleBook
from headway.service.camera_figures import RecentFrames, rate_hz
from headway.service.camera_health import CameraHealth, CameraView, HealthChange, Outage
from headway.service.notification import Notify
from headway.settings import CAMERA_METRICS, CameraSettings
from headway.telemetry import metrics
from headway.telemetry.machine import Machine
from headway.telemetry.threads import keep_running

CHECK_PERIOD_S = 1.0
PUBLISH_PERIOD_S = 2.0  # of the figures on the live stream `monitoring`
AT_WORK = ("starting", "running")  # states in which latency and shares of frames are of now
THREAD_ENDS_WITHIN_S = 5.0
LISTED = (
    "id",
    "state",
    "rate_hz",
    "latency_p50_ms",
    "latency_p95_ms",
    "processed",
    "dropped",
    "tracks",
)
Publish = Callable[[str, str, Any], None]


class Cameras(Protocol):
    """What is monitored of the camera service."""

    def states(self) -> list[dict[str, Any]]:
        """See `Stream.state`."""

    def views(self) -> list[CameraView]:
        """Each camera at this instant."""


class MonitoringService:
    """publish: called with topic, camera and message. notify: sends to webhooks and e-mail.
    cameras: None while there are none.

    background: check in a thread of its own; without it the caller calls `check`.
    """

    def __init__(
        self,
        folder: Path,
        publish: Publish,
        notify: Notify,
        cameras: Callable[[], Cameras | None],
        settings: CameraSettings | None = None,
        program: Callable[[], Mapping[str, Any]] = dict,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        background: bool = True,
    ) -> None:
        settings = settings or CameraSettings()
        self.rules = RuleBook(folder / "alert_rules.json", settings.alert_rules)
        self._folder = folder
        self._publish = publish
        self._notify = notify
        self._cameras = cameras
        self._program = program
        self._clock = clock
        self._wall_clock = wall_clock
        self._machine = Machine(folder)
        self._health = CameraHealth(settings.dead_after_s, settings.still_after_s)
        self._alerts = CameraAlerts(self.rules)
        self._recent: dict[str, RecentFrames] = {}
        self._lock = threading.Lock()  # of all that `check` changes
        self._stop = threading.Event()
        self._log = telemetry.log("sensing")
        if self.rules.fault:
            self._log.error("alert rules were refused", error=self.rules.fault)
        self._thread = keep_running("monitoring", self._work, self._stop, start=False)
        if background:
            self._thread.start()

    def close(self) -> None:
        """End the thread, and close all alerts: nobody will look any more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(THREAD_ENDS_WITHIN_S)
        with self._lock:
            for alert in self._alerts.close():
                self._report_alert(AlertChange(False, alert), self._clock(), "the server ended")

    def system(self) -> dict[str, Any]:
        """The machine's figures, see `Machine.figures`; `process`: of this process alone; and those
        of `program`.
        """
        with self._lock:
            figures = self._machine.figures()
        return {**figures, "process": metrics.system(self._folder), **self._program()}

    def performance(self) -> dict[str, Any]:
        """Rates, latency and drops of the cameras."""
        cameras = self._cameras()
        states = cameras.states() if cameras is not None else []
        received = sum(s["received"] for s in states)
        return {
            "streams": [{k: s[k] for k in LISTED} for s in states],
            "rate_hz": round(sum(s["rate_hz"] for s in states), 2),
            "dropped_share": sum(s["dropped"] for s in states) / max(received, 1),
        }

    def open_alerts(self) -> list[dict[str, Any]]:
        """Those that are open now, oldest first."""
        self.check()
        with self._lock:
            now_s = self._clock()
            return [self._plain(alert, now_s) for alert in self._alerts.open_alerts()]

    def dead_cameras(self) -> list[dict[str, Any]]:
        """Those that are dead now, as `camera.dead` says it."""
        with self._lock:
            now_s = self._clock()
            return [self._outage(o, now_s) for o in self._health.outages().values()]

    def check(self) -> None:
        """One look at all cameras and the machine; what has changed goes to listeners, log,
        webhooks and e-mail.
        """
        with self._lock:
            now_s, cameras = self._clock(), self._cameras()
            views = cameras.views() if cameras is not None else []
            states = {s["id"]: s for s in cameras.states()} if cameras is not None else {}
            for change in self._health.check(now_s, views):
                self._report_health(change, now_s)
            self._recent = {n: recent for n, recent in self._recent.items() if n in states}
            figures = {
                view.name: self._figures(view, states[view.name], now_s)
                for view in views
                if view.name in states
            }
            for alert in self._alerts.check(now_s, figures, self._machine_figures()):
                self._report_alert(alert, now_s)

    def _machine_figures(self) -> dict[str, float | None]:
        """Read only where a rule asks for them: they cost more than all cameras' together."""
        metrics_asked = {rule.metric for rule in self.rules.all()}
        if all(CAMERA_METRICS[metric].of_camera for metric in metrics_asked):
            return {}
        return self._machine.figures()

    def _figures(
        self, view: CameraView, state: Mapping[str, Any], now_s: float
    ) -> dict[str, float | None]:
        """Of one camera, by the names of CAMERA_METRICS."""
        name, silent_s = view.name, self._health.silent_s(view.name, now_s)
        is_due = view.expected and state["state"] != "ended"  # a file that has ended owes nothing
        is_failed = view.expected and (
            state["state"] in ("failed", "reconnecting") or bool(view.stopped_fault)
        )
        recent = self._recent.setdefault(name, RecentFrames()).shares(now_s, state)
        recent |= {key: state[key] for key in ("latency_p50_ms", "latency_p95_ms")}
        is_at_work = state["state"] in AT_WORK
        return {
            "fps": rate_hz(state, silent_s or 0.0) if is_at_work or is_due else None,
            **(recent if is_at_work else dict.fromkeys(recent)),
            "silent_s": silent_s if is_due else None,
            "failed": float(is_failed),
            "dead": float(name in self._health.outages()),
        }

    # --- who is told ---

    def _report_health(self, change: HealthChange, now_s: float) -> None:
        outage, camera = change.outage, change.outage.camera
        body = {
            "kind": "camera.dead" if change.dead else "camera.recovered",
            **self._outage(outage, now_s),
            "at": self._time_of_day(now_s, now_s),
        }
        if not change.dead:
            body |= {"id": str(uuid.uuid4()), "severity": "info"}
        known = {key: body[key] for key in ("reason", "since")}
        if change.dead:
            self._log.error("a camera is dead", stream=camera, **known)
        else:
            body["lasted_s"] = round(now_s - outage.since_s, 1)
            body |= {"why": change.why} if change.why else {}
            said = "a dead camera was stopped" if change.why else "a camera is back"
            self._log.warning(said, stream=camera, **known)
        self._tell(body, camera, by_mail=True, number=body["id"])

    def _outage(self, outage: Outage, now_s: float) -> dict[str, Any]:
        return {
            "id": outage.id,
            "outage": outage.id,
            "camera": outage.camera,
            "severity": "critical",
            "reason": outage.reason,
            "since": self._time_of_day(outage.since_s, now_s),
        }

    def _report_alert(self, change: AlertChange, now_s: float, why: str = "") -> None:
        alert, state = change.alert, "opened" if change.opened else "closed"
        kind = f"{'camera' if alert.camera else 'machine'}.alert.{state}"
        body = {"kind": kind, **self._plain(alert, now_s), "at": self._time_of_day(now_s, now_s)}
        body |= {"why": why} if why else {}
        level = self._log.warning if change.opened else self._log.info
        level(kind, stream=alert.camera, rule=alert.rule.name, value=alert.value)
        if alert.rule.notify:
            by_mail = change.opened and alert.rule.severity == "critical"
            self._tell(body, alert.camera, by_mail, number=f"{alert.id}-{state}")
        else:
            self._publish("alerts", alert.camera, body)

    def _tell(self, body: dict[str, Any], camera: str, by_mail: bool, number: str) -> None:
        self._publish("alerts", camera, body)
        about = f"{camera} {body.get('rule', '')}"
        self._notify(body["kind"], number, body, by_mail, about)

    def _plain(self, alert: OpenAlert, now_s: float) -> dict[str, Any]:
        rule, cameras = alert.rule, self._cameras()
        states = cameras.states() if cameras is not None and alert.camera else []
        detail = next((s["fault"] for s in states if s["id"] == alert.camera), "")
        return {
            "id": alert.id,
            "rule": rule.name,
            "stream": alert.camera,
            "metric": rule.metric,
            "operator": rule.operator,
            "threshold": rule.threshold,
            "value": alert.value,
            "severity": rule.severity,
            "since": self._time_of_day(alert.since_s, now_s),
            "detail": detail,
        }

    def _time_of_day(self, at_s: float, now_s: float) -> str:
        return datetime.fromtimestamp(self._wall_clock() - (now_s - at_s), UTC).isoformat()

    # --- the thread ---

    def _work(self) -> None:
        published_s = self._clock()
        while not self._stop.wait(CHECK_PERIOD_S):
            try:
                self.check()
                if self._clock() - published_s >= PUBLISH_PERIOD_S:
                    published_s = self._clock()
                    self._publish_figures()
            except Exception as error:  # whoever watches must not end with what it watches
                self._log.error("monitoring failed", error=repr(error))

    def _publish_figures(self) -> None:
        at = self._time_of_day(self._clock(), self._clock())
        for kind, figures in (("system", self.system()), ("performance", self.performance())):
            self._publish("monitoring", "", {"kind": f"monitoring.{kind}", "at": at, **figures})
