"""Router of the monitoring: the machine, the cameras' figures, alerts and their rules."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from headway.api.cameras import DoneOut
from headway.api.dependencies import need, services_of
from headway.api.problems import ProblemError, responses
from headway.api.security import Principal, Role
from headway.service.camera_alerts import RuleError
from headway.service.dead_letters import Letter
from headway.service.monitoring import MonitoringService
from headway.service.notification import Notifier, RecipientError
from headway.service.open_alerts import open_alerts as alerts_of
from headway.service.silences import (
    LONGEST_S,
    LONGEST_TEXT,
    Silence,
    SilenceError,
)
from headway.settings import CAMERA_METRICS, CameraRule

router = APIRouter(tags=["monitoring"], dependencies=[Depends(need(Role.VIEWER))])
OK = responses(401, 403, 503)
ASKED = responses(401, 403, 422, 503)
FOUND = responses(401, 403, 404, 422, 503)
CHANGE = responses(401, 403, 404, 409, 422, 503)
Engineer = Depends(need(Role.ENGINEER))
Admin = Depends(need(Role.ADMIN))
MOST_LETTERS = 500
Operator = Annotated[Principal, Depends(need(Role.OPERATOR))]
AlertId = Annotated[str, Path(max_length=36, pattern=r"^[0-9a-f-]+$")]
RuleName = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9_. -]+$", examples=["slow"])]


def monitoring(request: Request) -> MonitoringService:
    found = services_of(request).monitoring
    if found is None:
        raise ProblemError(503, "the service is just starting, or ending")
    return found


def notifications(request: Request) -> Notifier:
    found = services_of(request).notifier
    if found is None:
        raise ProblemError(503, "the service is just starting, or ending")
    return found


Monitoring = Annotated[MonitoringService, Depends(monitoring)]
Notifications = Annotated[Notifier, Depends(notifications)]


@router.get("/system", responses=OK)
def system(service: Monitoring) -> dict[str, Any]:
    """The machine: processor time, memory, load, disk; `headway_...`: this program's processes
    together; `process`: this one alone. Shares are 0 to 1; null is not known.

    Some seconds old: `processes`, each by name (server, streets, embedded database); `streets`,
    their performance; `models`, drift and data of each; `errors_per_minute`, as logged; `open`:
    alerts on the program and streets.
    """
    return service.system()


@router.get("/performance", responses=OK)
def performance(request: Request, service: Monitoring) -> dict[str, Any]:
    """Of the cameras: rates, latency, drops; of the notifier: what waits and what failed."""
    note = services_of(request).notifier
    names = ("waiting", "sent", "failed", "lost")
    return {
        **service.performance(),
        "notifications": {name: getattr(note, name) for name in names},
    }


class CameraAlert(BaseModel):
    """An alert that is open. stream: empty for the machine. metric, operator, threshold: of its
    rule; value: what it is now. since: when it opened.
    """

    id: str
    rule: str
    stream: str
    metric: str
    operator: str
    threshold: float
    value: float
    severity: Literal["info", "warning", "error", "critical"]
    since: datetime
    detail: str


@router.get("/alerts", responses=OK)
def alerts(service: Monitoring) -> list[CameraAlert]:
    """Alerts on cameras and machine that are open now, the oldest first."""
    return [CameraAlert.model_validate(alert) for alert in service.open_alerts()]


class AcknowledgementOut(BaseModel):
    by: str
    at: datetime
    note: str


class OpenAlert(BaseModel):
    """An alert that is open, of whatever kind. source: a street, a camera, "system" (the program)
    or "machine". rule: its name, "dead" for a camera that is dead. acknowledged: who looks after
    it; null for nobody. silenced_until: nobody gets webhooks or e-mails of it until then; null
    where it is not silenced. data: what else is known.
    """

    id: str
    source: str
    rule: str
    severity: str
    since: datetime
    value: float | None
    acknowledged: AcknowledgementOut | None
    silenced_until: datetime | None
    data: dict[str, Any]


class AcknowledgeIn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    note: str = Field(default="", max_length=LONGEST_TEXT)


class SilenceIn(BaseModel):
    """Which alerts are silenced, by source (a street, a camera, "system", "machine") or rule (its
    name; "dead" for a camera that is dead) or both, and for how many seconds.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    source: str = Field(default="", max_length=64)
    rule: str = Field(default="", max_length=128)
    lasts_s: float = Field(ge=1.0, le=LONGEST_S, strict=False)
    reason: str = Field(default="", max_length=LONGEST_TEXT)


class SilenceOut(BaseModel):
    id: str
    source: str
    rule: str
    by: str
    reason: str
    at: datetime
    until: datetime


@router.get("/alerts/open", responses=OK)
def open_alerts(request: Request, service: Monitoring) -> list[OpenAlert]:
    """Alerts that are open on streets, program, cameras and machine, the oldest first."""
    return _open_alerts(request, service)


@router.post("/alerts/open/{alert}/acknowledge", responses=FOUND)
def acknowledge(
    request: Request, service: Monitoring, who: Operator, alert: AlertId, body: AcknowledgeIn
) -> OpenAlert:
    """Say that somebody looks after an alert; that holds until it is closed. The live stream
    `alerts` has it as `alert.acknowledged`.
    """
    services = services_of(request)
    if not any(found.id == alert for found in _open_alerts(request, service)):
        raise ProblemError(404, f"no alert {alert!r} is open; it may have passed")
    services.silences.acknowledge(alert, who.name, body.note)
    found = next((a for a in _open_alerts(request, service) if a.id == alert), None)
    if found is None:
        raise ProblemError(404, f"the alert {alert!r} has just passed")
    message = {"kind": "alert.acknowledged", "data": found.model_dump(mode="json")}
    services.hub.publish("alerts", found.source, message)
    return found


@router.get("/alerts/silences", responses=OK)
def silences(request: Request) -> list[SilenceOut]:
    """Silences in force, the first to end first."""
    return [_silence(found) for found in services_of(request).silences.in_force()]


@router.post("/alerts/silences", status_code=201, responses=CHANGE)
def add_silence(request: Request, who: Operator, body: SilenceIn) -> SilenceOut:
    """No webhooks and e-mails of some alerts for a time; log, live streams and lists have them all
    the same. What opens meanwhile and is still open at the end is sent then.
    """
    services = services_of(request)
    now_s = time.time()
    silence = Silence(body.source, body.rule, now_s + body.lasts_s, who.name, body.reason, now_s)
    try:
        services.silences.add(silence)
    except SilenceError as error:
        raise ProblemError(422, str(error)) from error
    except OSError as error:
        raise ProblemError(503, f"the silence cannot be kept on disk: {error}") from error
    _publish_silence(request, "alert.silenced", silence)
    return _silence(silence)


@router.delete("/alerts/silences/{silence}", responses=CHANGE)
def remove_silence(request: Request, who: Operator, silence: AlertId) -> DoneOut:
    """A silence ends now; what it held back, and is still open, is sent."""
    try:
        removed = services_of(request).silences.remove(silence)
    except KeyError:
        raise ProblemError(404, f"no silence {silence!r} is in force") from None
    except OSError as error:
        raise ProblemError(503, f"this cannot be kept on disk: {error}") from error
    _publish_silence(request, "alert.silence_ended", removed)
    return DoneOut(detail="ended")


def _publish_silence(request: Request, kind: str, silence: Silence) -> None:
    message = {"kind": kind, "data": _silence(silence).model_dump(mode="json")}
    services_of(request).hub.publish("alerts", silence.source, message)


def _silence(silence: Silence) -> SilenceOut:
    return SilenceOut(
        id=silence.id,
        source=silence.source,
        rule=silence.rule,
        by=silence.by,
        reason=silence.reason,
        at=datetime.fromtimestamp(silence.at_s, UTC),
        until=datetime.fromtimestamp(silence.until_s, UTC),
    )


def _open_alerts(request: Request, service: MonitoringService) -> list[OpenAlert]:
    services = services_of(request)
    found = alerts_of(services.selfwatch.desk, service, services.silences)
    return [OpenAlert.model_validate(alert) for alert in found]


class LetterOut(BaseModel):
    """A notification that could not be delivered. to: host of the webhook, or the addresses of the
    e-mail; why: it was given up. event: its id, the same for the recipient; at: when it was.
    """

    id: str
    to: str
    why: str
    kind: str
    event: str
    at: datetime | None
    data: dict[str, Any]


class Replayed(BaseModel):
    """replayed: letters that are under way again."""

    replayed: int


@router.get("/notifications/undelivered", responses=ASKED, dependencies=[Admin])
def undelivered(
    service: Notifications, limit: Annotated[int, Query(ge=1, le=MOST_LETTERS)] = 100
) -> list[LetterOut]:
    """Notifications that could not be delivered (dead letters), newest first."""
    try:
        return [_letter(letter) for letter in service.undelivered(limit)]
    except OSError as error:
        raise _unreadable(error) from error


@router.post("/notifications/undelivered/replay", responses=OK, dependencies=[Admin])
def replay_all(service: Notifications) -> Replayed:
    """Send all dead letters anew, the oldest 1,000 at once, with the ids of their events; one that
    fails again is a dead letter again. Those whose recipient is not in the settings any more stay.
    """
    try:
        return Replayed(replayed=service.replay_all())
    except OSError as error:
        raise _unreadable(error) from error


@router.post("/notifications/undelivered/{letter}/replay", responses=CHANGE, dependencies=[Admin])
def replay(service: Notifications, letter: AlertId) -> Replayed:
    """Send one dead letter anew."""
    try:
        service.replay(letter)
    except KeyError:
        raise ProblemError(404, f"no dead letter {letter!r}; it may have been sent") from None
    except RecipientError as error:
        raise ProblemError(409, str(error)) from error
    except OSError as error:
        raise _unreadable(error) from error
    return Replayed(replayed=1)


def _letter(letter: Letter) -> LetterOut:
    at_s, data = letter.note.get("at"), letter.note.get("data")
    return LetterOut(
        id=letter.id,
        to=letter.to,
        why=letter.why,
        kind=letter.note["kind"],
        event=str(letter.note.get("id", "")),
        at=datetime.fromtimestamp(at_s, UTC) if isinstance(at_s, int | float) else None,
        data=data if isinstance(data, dict) else {},
    )


def _unreadable(error: OSError) -> ProblemError:
    return ProblemError(503, f"the dead letters cannot be read or written: {error}")


class RuleOut(CameraRule):
    """A rule. fixed: it stands in the settings, and is changed there."""

    fixed: bool


class MetricOut(BaseModel):
    """A figure that rules may name. per_camera: each camera has one; else the machine."""

    metric: str
    text: str
    per_camera: bool


@router.get("/alerts/metrics", responses=OK)
def known_metrics() -> list[MetricOut]:
    """The figures that rules may name."""
    return [
        MetricOut(metric=name, text=info.text, per_camera=info.of_camera)
        for name, info in CAMERA_METRICS.items()
    ]


@router.get("/alerts/rules", responses=OK)
def rules(service: Monitoring) -> list[RuleOut]:
    """The alert rules: those of the settings, then those that were added here."""
    return [_out(service, rule) for rule in service.rules.all()]


@router.post("/alerts/rules", status_code=201, responses=CHANGE, dependencies=[Engineer])
def add_rule(service: Monitoring, body: CameraRule) -> RuleOut:
    """A new rule, in force at once."""
    try:
        service.rules.add(body)
    except RuleError as error:
        raise ProblemError(409, str(error)) from error
    return _out(service, body)


@router.get("/alerts/rules/{name}", responses=FOUND)
def rule(service: Monitoring, name: RuleName) -> RuleOut:
    """One rule."""
    found = next((r for r in service.rules.all() if r.name == name), None)
    if found is None:
        raise _unknown(service, name)
    return _out(service, found)


@router.put("/alerts/rules/{name}", responses=CHANGE, dependencies=[Engineer])
def change_rule(service: Monitoring, name: RuleName, body: CameraRule) -> RuleOut:
    """Another rule of the same name."""
    if body.name != name:
        raise ProblemError(422, f"name: the path says {name!r}, the rule {body.name!r}")
    try:
        service.rules.put(body)
    except KeyError:
        raise _unknown(service, name) from None
    except RuleError as error:
        raise ProblemError(409, str(error)) from error
    return _out(service, body)


@router.delete("/alerts/rules/{name}", responses=CHANGE, dependencies=[Engineer])
def remove_rule(service: Monitoring, name: RuleName) -> DoneOut:
    """Forget a rule; its alerts are closed."""
    try:
        service.rules.remove(name)
    except KeyError:
        raise _unknown(service, name) from None
    except RuleError as error:
        raise ProblemError(409, str(error)) from error
    return DoneOut(detail="removed")


def _out(service: MonitoringService, rule: CameraRule) -> RuleOut:
    return RuleOut(**rule.model_dump(), fixed=service.rules.is_fixed(rule.name))


def _unknown(service: MonitoringService, name: str) -> ProblemError:
    known = ", ".join(rule.name for rule in service.rules.all()) or "none"
    return ProblemError(404, f"no alert rule {name!r}. There are: {known}.")
