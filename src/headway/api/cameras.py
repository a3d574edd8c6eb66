"""Cameras' doors: streams, their live view and site, their monitoring; violations with their evidence, trends and hotspots."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from headway.analytics import violations as asked
from headway.analytics.violations import Hotspot, Span, Trend, ViolationSummary
from headway.api.problems import ProblemError, responses
from headway.api.questions import answered
from headway.api.security import Role, need
from headway.api.streaming import Endless
from headway.sensing import CalibrationError, SensingError
from headway.service.cameras import CameraService
from headway.store.upkeep import erase_violations
from headway.telemetry import metrics

router = APIRouter(tags=["cameras"], dependencies=[Depends(need(Role.VIEWER))])
Engineer = Depends(need(Role.ENGINEER))
Name = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9_-]+$", examples=["north"])]
Device = Annotated[str | None, Query(max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Rule = Annotated[str | None, Query(max_length=64, pattern=r"^[a-z_]+$")]
When = Annotated[AwareDatetime | None, Query(examples=["2026-11-21T00:00:00Z"])]
OK, FOUND, CHANGE = responses(401, 403, 503), responses(401, 403, 404, 422, 503), responses(401, 403, 404, 409, 422, 503)
ADDRESS = r"^((rtsp|rtsps|http|https)://[^\s]+|[A-Za-z0-9_][A-Za-z0-9_./ -]*)$"


class StreamIn(BaseModel):
    """A camera. source: an address, or a file in the data folder's `media`. detector: motion, or a model in its `models`.

    site: calibration, lines, zones and rules, as `headway watch --calibration` takes them. paced: a file comes in its own time.
    street: a street that runs here and whose signals the camera sees; then the site's groups are numbered as that street's signal groups.
    """

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$", examples=["north"])
    source: str = Field(min_length=1, max_length=2048, pattern=ADDRESS, examples=["rtsp://192.0.2.7/stream"])
    detector: str = Field(default="motion", max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
    rate_hz: float = Field(default=0.0, ge=0.0, le=120.0)
    site: dict[str, Any] | None = None
    paced: bool = True
    repeat: bool = False
    blur: bool = True
    street: str = Field(default="", max_length=64, pattern=r"^[A-Za-z0-9_-]*$", examples=["headway"])
    start: bool = True


class ColourIn(BaseModel):
    """What a signal group shows from a moment on (seconds since 1970 for a live camera, else of the stream): 1 red, 2 yellow, 3 or 4 green."""

    model_config = ConfigDict(extra="forbid")

    at_s: float = Field(ge=0.0, le=1e11, allow_inf_nan=False)
    group: int = Field(ge=0, le=1000)
    colour: int = Field(ge=0, le=4)


class DoneOut(BaseModel):
    done: bool = True
    detail: str


def cameras(request: Request) -> CameraService:
    """Made when first needed. Raises ProblemError 503 where the extra `vision` is missing."""
    with request.app.state.cameras_lock:
        if request.app.state.cameras is None:
            try:
                request.app.state.cameras = request.app.state.make_cameras()
            except SensingError as error:
                raise ProblemError(503, str(error)) from error
        found: CameraService = request.app.state.cameras
        return found


Cameras = Annotated[CameraService, Depends(cameras)]


def stream(service: Cameras, stream_id: Name) -> Any:
    if stream_id not in service.manager.streams:
        raise ProblemError(404, f"no stream {stream_id!r}. There are: {', '.join(service.manager.streams) or 'none'}.")
    return service.manager.streams[stream_id]


Stream = Annotated[Any, Depends(stream)]


@router.get("/streams", responses=OK)
def streams(service: Cameras) -> list[dict[str, Any]]:
    """All cameras: state, rates, drops, latency."""
    return [s.state() for s in list(service.manager.streams.values())]


@router.post("/streams", status_code=201, responses=CHANGE, dependencies=[Engineer])
def add(request: Request, service: Cameras, wish: StreamIn) -> dict[str, Any]:
    """A new camera."""
    streets = list(request.app.state.service.streets) if request.app.state.service is not None else []
    if wish.street and wish.street not in streets:
        raise ProblemError(422, f"street: there is no street {wish.street!r} here. There are: {', '.join(streets) or 'none'}.")
    if wish.id in service.manager.streams:
        raise ProblemError(409, f"stream {wish.id!r} is there already. Delete it first, or take another id.")
    try:
        found: dict[str, Any] = service.add(wish.id, wish.model_dump(exclude={"id", "start"}), wish.start).state()
        return found
    except (SensingError, CalibrationError) as error:
        raise ProblemError(422, str(error)) from error


@router.get("/streams/{stream_id}", responses=FOUND)
def one(of: Stream) -> dict[str, Any]:
    """One camera, with what it sees now."""
    return {**of.state(), **of.figures()}


@router.delete("/streams/{stream_id}", responses=CHANGE, dependencies=[Engineer])
def remove(service: Cameras, of: Stream) -> DoneOut:
    """End a camera and forget it; its violations stay in the record."""
    service.remove(of.settings.id)
    return DoneOut(detail="removed")


@router.post("/streams/{stream_id}/start", responses=CHANGE, dependencies=[Engineer])
def start(service: Cameras, of: Stream) -> DoneOut:
    """Start a camera that was stopped, or that failed."""
    service.start(of.settings.id)
    return DoneOut(detail="started")


@router.post("/streams/{stream_id}/stop", responses=CHANGE, dependencies=[Engineer])
def stop(service: Cameras, of: Stream) -> DoneOut:
    """Stop a camera; it can be started again."""
    service.stop(of.settings.id)
    return DoneOut(detail="stopped")


@router.get("/streams/{stream_id}/site", responses=FOUND)
def site(service: Cameras, of: Stream) -> dict[str, Any]:
    """Calibration, lines, zones and rules, as they were given; of a camera without any, its picture's size."""
    return service.site(of.settings.id) or {"size": list(of.source.health.size)}


@router.put("/streams/{stream_id}/site", responses=CHANGE, dependencies=[Engineer])
def set_site(service: Cameras, of: Stream, site: dict[str, Any]) -> DoneOut:
    """Another calibration, other lines, zones or rules; counts begin anew."""
    try:
        service.set_site(of.settings.id, site)
    except (SensingError, CalibrationError) as error:
        raise ProblemError(422, str(error)) from error
    return DoneOut(detail="in force")


@router.post("/streams/{stream_id}/signals", responses=CHANGE, dependencies=[Depends(need(Role.OPERATOR))])
def signals(of: Stream, told: Annotated[list[ColourIn], Field(max_length=1000)]) -> DoneOut:
    """What the signals before this camera show, so that who drives on red is known."""
    with of.lock:
        for change in sorted(told, key=lambda c: c.at_s):
            of.signals.put(change.at_s, change.group, change.colour)
    return DoneOut(detail=f"{len(told)} taken")


@router.get(
    "/streams/{stream_id}/view", response_class=StreamingResponse,
    responses={200: {"content": {"multipart/x-mixed-replace": {"schema": {"type": "string"}}}}, **FOUND},
)  # fmt: skip
async def view(request: Request, of: Stream, frames: Annotated[int, Query(ge=0, le=100_000)] = 0) -> Endless:
    """The live picture with what was found on it, as MJPEG; `frames`: how many, 0 for ever."""
    return Endless(pictures(of, frames), "multipart/x-mixed-replace; boundary=frame", {"Cache-Control": "no-store"})


async def pictures(of: Any, frames: int) -> AsyncGenerator[bytes, None]:
    of.viewers += 1
    sent, last, silent_since = 0, 0, time.monotonic()
    try:
        while not frames or sent < frames:
            number, picture = of.view
            if number != last and picture:
                last, sent, silent_since = number, sent + 1, time.monotonic()
                yield b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture) + picture + b"\r\n"
            elif time.monotonic() - silent_since > 10.0:
                return
            await asyncio.sleep(0.04)
    finally:
        of.viewers -= 1


@router.get("/monitoring/system", tags=["monitoring"], responses=OK)
def monitoring_system(request: Request) -> dict[str, Any]:
    """Memory, processor time and disk of this process."""
    return metrics.system(request.app.state.folder)


@router.get("/monitoring/performance", tags=["monitoring"], responses=OK)
def monitoring_performance(service: Cameras) -> dict[str, Any]:
    """Of the cameras: rates, latency, drops; of the notifier: what waits and what failed."""
    states = [s.state() for s in list(service.manager.streams.values())]
    kept = ("id", "state", "rate_hz", "latency_p50_ms", "latency_p95_ms", "processed", "dropped", "tracks")
    note = service.notifier
    return {
        "streams": [{k: s[k] for k in kept} for s in states], "rate_hz": round(sum(s["rate_hz"] for s in states), 2),
        "dropped_share": sum(s["dropped"] for s in states) / max(sum(s["received"] for s in states), 1),
        "notifications": {"waiting": note.waiting, "sent": note.sent, "failed": note.failed, "lost": note.lost},
    }  # fmt: skip


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
    ("latency_p95_ms", ">", 500.0, "warning"), ("dropped_share", ">", 0.10, "warning"), ("broken_share", ">", 0.05, "error"),
    ("failed", ">", 0.5, "critical"),
)  # fmt: skip


@router.get("/monitoring/alerts", tags=["monitoring"], responses=OK)
def monitoring_alerts(request: Request, service: Cameras) -> list[CameraAlert]:
    """Alerts on the cameras that are open now, and those of the streets."""
    found = []
    for state in (s.state() for s in list(service.manager.streams.values())):
        received = max(state["received"], 1)
        failed = state["state"] in ("failed", "reconnecting") or bool(not state["running"] and state["fault"])
        value = {
            "latency_p95_ms": state["latency_p95_ms"] or 0.0, "dropped_share": state["dropped"] / received if received > 50 else 0.0,
            "broken_share": state["broken"] / received, "failed": float(failed),
        }  # fmt: skip
        for metric, operator, threshold, severity in RULES:
            if value[metric] > threshold:
                rule = {"metric": metric, "operator": operator, "threshold": threshold, "severity": severity}
                found.append(CameraAlert.model_validate({"stream": state["id"], "value": value[metric], "detail": state["fault"], **rule}))
    return found


def span(device: Device = None, rule: Rule = None, begin: When = None, end: When = None) -> Span:
    return Span(device, rule, begin, end)


Window = Annotated[Span, Depends(span)]
ASKED = responses(401, 403, 422, 503)


def _asked(request: Request, kind: Any, ask: Callable[[], Any]) -> Response:
    return answered(request, kind, ask)


@router.get("/analytics/violations", tags=["violations"], responses=ASKED)
def newest(
    request: Request, of: Window, limit: Annotated[int, Query(ge=1, le=1000)] = 100, offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0
) -> list[dict[str, Any]]:
    """Violations, newest first, with the times of their pictures and the seal over all of it."""
    return asked.newest(request.app.state.database, of, limit, offset)


@router.get("/analytics/violations/trends", tags=["violations"], response_model=Trend, responses=ASKED)
def trends(request: Request, of: Window) -> Response:
    """Violations by hour and by hour of the day (UTC)."""
    return _asked(request, Trend, lambda: asked.trends(request.app.state.database, of))


@router.get("/analytics/violations/hotspots", tags=["violations"], response_model=list[Hotspot], responses=ASKED)
def hotspots(request: Request, of: Window, limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> Response:
    """Devices by their violations, most first."""
    return _asked(request, list[Hotspot], lambda: asked.hotspots(request.app.state.database, of, limit))


@router.get("/analytics/violations/summary", tags=["violations"], response_model=ViolationSummary, responses=ASKED)
def summary(request: Request, of: Window) -> Response:
    """Violations in all, by rule, an hour."""
    return _asked(request, ViolationSummary, lambda: asked.summary(request.app.state.database, of))


@router.delete("/analytics/violations", tags=["violations"], responses=responses(401, 403, 404, 422, 503), dependencies=[Depends(need(Role.ADMIN))])
def erase(
    request: Request, device: Annotated[str, Query(max_length=64, pattern=r"^[A-Za-z0-9_-]+$")], begin: When = None, end: When = None
) -> dict[str, int]:
    """Erase the violations of one device, within a time or all of them, with their pictures."""
    gone = erase_violations(request.app.state.database, device, begin, end)
    if not gone:
        raise ProblemError(404, f"there is no violation of {device!r} in that time in the record")
    return {"rows": gone}


Violation = Annotated[str, Path(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


@router.get(
    "/analytics/violations/{violation_id}/pictures/{number}", tags=["violations"], response_class=Response,
    responses={200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}, **responses(401, 403, 404, 422, 503)},
    dependencies=[Depends(need(Role.OPERATOR))],
)  # fmt: skip
def evidence(request: Request, violation_id: Violation, number: Annotated[int, Path(ge=0, le=99)]) -> Response:
    """A picture of a violation, JPEG."""
    found = asked.picture(request.app.state.database, violation_id, number)
    if found is None:
        raise ProblemError(404, "there is no such picture in the record")
    return Response(found, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})
