"""Router of the monitoring: the machine, the cameras' figures, alerts and their rules."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel

from headway.api.cameras import DoneOut
from headway.api.dependencies import need, services_of
from headway.api.problems import ProblemError, responses
from headway.api.security import Role
from headway.service.camera_alerts import RuleError
from headway.service.monitoring import MonitoringService
from headway.settings import CAMERA_METRICS, CameraRule

router = APIRouter(tags=["monitoring"], dependencies=[Depends(need(Role.VIEWER))])
OK = responses(401, 403, 503)
FOUND = responses(401, 403, 404, 422, 503)
CHANGE = responses(401, 403, 404, 409, 422, 503)
Engineer = Depends(need(Role.ENGINEER))
RuleName = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9_. -]+$", examples=["slow"])]


def monitoring(request: Request) -> MonitoringService:
    found = services_of(request).monitoring
    if found is None:
        raise ProblemError(503, "the service is just starting, or ending")
    return found


Monitoring = Annotated[MonitoringService, Depends(monitoring)]


@router.get("/system", responses=OK)
def system(service: Monitoring) -> dict[str, Any]:
    """The machine: processor time, memory, load, disk; `headway_...`: this program's processes
    together; `process`: this one alone. Shares are 0 to 1; null is not known.

    Some seconds old: `processes`, each by name (server, streets, embedded database); `streets`,
    their performance; `errors_per_minute`, as logged; `open`: alerts on the program and streets.
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
