"""Router of the monitoring: this process, the cameras' figures, their open alerts."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from headway.api.cameras import Cameras
from headway.api.dependencies import need, services_of
from headway.api.problems import responses
from headway.api.security import Role
from headway.telemetry import metrics

router = APIRouter(tags=["monitoring"], dependencies=[Depends(need(Role.VIEWER))])
OK = responses(401, 403, 503)


@router.get("/system", responses=OK)
def system(request: Request) -> dict[str, Any]:
    """Memory, processor time and disk of this process."""
    return metrics.system(services_of(request).folder)


@router.get("/performance", responses=OK)
def performance(service: Cameras) -> dict[str, Any]:
    """Of the cameras: rates, latency, drops; of the notifier: what waits and what failed."""
    states = [s.state() for s in list(service.manager.streams.values())]
    kept = (
        "id",
        "state",
        "rate_hz",
        "latency_p50_ms",
        "latency_p95_ms",
        "processed",
        "dropped",
        "tracks",
    )
    note = service.notifier
    return {
        "streams": [{k: s[k] for k in kept} for s in states],
        "rate_hz": round(sum(s["rate_hz"] for s in states), 2),
        "dropped_share": sum(s["dropped"] for s in states)
        / max(sum(s["received"] for s in states), 1),
        "notifications": {
            "waiting": note.waiting,
            "sent": note.sent,
            "failed": note.failed,
            "lost": note.lost,
        },
    }


class CameraAlert(BaseModel):
    """An alert that is open. metric, operator, threshold: the rule; value: what it is now."""

    stream: str
    metric: str
    operator: Literal[">", "<"]
    threshold: float
    value: float
    severity: Literal["info", "warning", "error", "critical"]
    detail: str


RULES: tuple[tuple[str, Literal[">", "<"], float, Literal["warning", "error", "critical"]], ...] = (
    ("latency_p95_ms", ">", 500.0, "warning"),
    ("dropped_share", ">", 0.10, "warning"),
    ("broken_share", ">", 0.05, "error"),
    ("failed", ">", 0.5, "critical"),
)


@router.get("/alerts", responses=OK)
def alerts(request: Request, service: Cameras) -> list[CameraAlert]:
    """Alerts on the cameras that are open now, and those of the streets."""
    found = []
    for state in (s.state() for s in list(service.manager.streams.values())):
        received = max(state["received"], 1)
        failed = state["state"] in ("failed", "reconnecting") or bool(
            not state["running"] and state["fault"]
        )
        value = {
            "latency_p95_ms": state["latency_p95_ms"] or 0.0,
            "dropped_share": state["dropped"] / received if received > 50 else 0.0,
            "broken_share": state["broken"] / received,
            "failed": float(failed),
        }
        for metric, operator, threshold, severity in RULES:
            if value[metric] > threshold:
                rule = {
                    "metric": metric,
                    "operator": operator,
                    "threshold": threshold,
                    "severity": severity,
                }
                found.append(
                    CameraAlert.model_validate(
                        {
                            "stream": state["id"],
                            "value": value[metric],
                            "detail": state["fault"],
                            **rule,
                        }
                    )
                )
    return found
