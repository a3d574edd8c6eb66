"""Router of the cameras: set-up, live view, site, signals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from headway.api.dependencies import bounds_of, need, services_of
from headway.api.fields import WHOLE
from headway.api.problems import Fault, ProblemError, responses
from headway.api.security import Principal, Role
from headway.api.streaming import Endless
from headway.sensing import CalibrationError, SensingError
from headway.service.cameras import OPTIONS, CameraService
from headway.settings import FrameRate

router = APIRouter(tags=["cameras"], dependencies=[Depends(need(Role.VIEWER))])
Engineer = Depends(need(Role.ENGINEER))
Viewer = Annotated[Principal, Depends(need(Role.VIEWER))]
Name = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9_-]+$", examples=["north"])]
OK = responses(401, 403, 503)
FOUND = responses(401, 403, 404, 422, 503)
CHANGE = responses(401, 403, 404, 409, 422, 503)
MOST_AHEAD_S = 5.0  # s; clocks that are farther apart would judge by colours of another time
ADDRESS = r"^((rtsp|rtsps|http|https)://[^\s]+|[A-Za-z0-9_][A-Za-z0-9_./ -]*)$"


class StreamOptions(BaseModel):
    """How a camera is read and what is made of it; null for the value of the settings.

    attempts: connections in a row that may fail, 0 for any number; delay_s: before the second, then
    doubled. buffer: frames that wait, the oldest is dropped. rate_hz: frames a second at most, 0
    for all. confidence: of a detection at least, 0 for the detector's own. speed, violations: which
    analyses are made.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    attempts: Annotated[int, Field(ge=0, le=10_000), WHOLE] | None = None
    delay_s: float | None = Field(default=None, ge=0.1, le=300.0)
    buffer: Annotated[int, Field(ge=1, le=64), WHOLE] | None = None
    rate_hz: FrameRate | None = None
    confidence: float | None = Field(default=None, ge=0.0, le=0.99)
    speed: bool | None = None
    violations: bool | None = None


class StreamIn(StreamOptions):
    """A camera. source: an address, or a file in the data folder's `media`. detector: motion, or a
    model in its `models`.

    site: calibration, lines, zones and rules, as `headway watch --calibration` takes them. paced: a
        file comes in its own time.
    street: a street that runs here and whose signals the camera sees; then the site's groups are
        numbered as that street's signal groups.
    """

    id: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$", examples=["north"])
    source: str = Field(
        min_length=1, max_length=2048, pattern=ADDRESS, examples=["rtsp://192.0.2.7/stream"]
    )
    detector: str = Field(default="motion", max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
    site: dict[str, Any] | None = None
    paced: bool = True
    repeat: bool = False
    blur: bool = True
    street: str = Field(
        default="", max_length=64, pattern=r"^[A-Za-z0-9_-]*$", examples=["headway"]
    )
    start: bool = True


class ColourIn(BaseModel):
    """What a signal group shows from a moment on (seconds since 1970 for a live camera, else of the
    stream): 1 red, 2 yellow, 3 or 4 green.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    at_s: float = Field(ge=0.0, le=1e11, allow_inf_nan=False)
    group: Annotated[int, Field(ge=0, le=1000), WHOLE]
    colour: Annotated[int, Field(ge=0, le=4), WHOLE]


class DoneOut(BaseModel):
    done: bool = True
    detail: str


def cameras(request: Request) -> CameraService:
    """Made when first needed. Raises ProblemError 503 where the extra `vision` is missing."""
    try:
        return services_of(request).need_camera_service()
    except SensingError as error:
        raise ProblemError(503, str(error)) from error


Cameras = Annotated[CameraService, Depends(cameras)]


def stream(request: Request, service: Cameras, stream_id: Name) -> Any:
    if stream_id in service.refused:
        raise ProblemError(
            404,
            f"stream {stream_id!r} could not be started again: {service.refused[stream_id]} Mend "
            "that and start the service anew, add the stream again, or delete it.",
        )
    if stream_id not in service.manager.streams:
        known = ", ".join(filter(bounds_of(request).has_camera, service.manager.streams)) or "none"
        raise ProblemError(404, f"no stream {stream_id!r}. There are: {known}.")
    return service.manager.streams[stream_id]


Stream = Annotated[Any, Depends(stream)]


@router.get("", responses=OK)
def streams(service: Cameras, who: Viewer) -> list[dict[str, Any]]:
    """All cameras: state, rates, drops, latency. Why one cannot be read is for engineers."""
    streams = list(service.manager.streams.items())
    return [_state(s, who) for name, s in streams if who.bounds.has_camera(name)]


def _state(camera: Any, who: Principal) -> dict[str, Any]:
    """What an engineer sees of faults says what answers at an address, others do not."""
    state: dict[str, Any] = camera.state()
    return state | {"fault": camera.fault_detail} if who.role >= Role.ENGINEER else state


@router.post("", status_code=201, responses=CHANGE, dependencies=[Engineer])
def add(request: Request, service: Cameras, body: StreamIn) -> dict[str, Any]:
    """A new camera."""
    running = services_of(request).street_service
    streets = list(running.streets) if running is not None else []
    if body.street and body.street not in streets:
        raise ProblemError(
            422,
            (
                f"street: there is no street {body.street!r} here. There are: "
                f"{', '.join(streets) or 'none'}."
            ),
        )
    if body.id in service.manager.streams:
        raise ProblemError(
            409, f"stream {body.id!r} is there already. Delete it first, or take another id."
        )
    try:
        found: dict[str, Any] = service.add(body.id, _configured(body), body.start).state()
        return found
    except (SensingError, CalibrationError) as error:
        raise _refused(error, "/body/site") from error


def _refused(error: Exception, site: str) -> ProblemError:
    """site: pointer to the site in the request."""
    places = error.faults if isinstance(error, CalibrationError) else ()
    faults = [
        Fault(pointer="/".join([site, *map(_pointer_part, place)]), message=message)
        for place, message in places
    ]
    return ProblemError(422, str(error), faults)


def _pointer_part(part: str | int) -> str:
    """RFC 6901, 3."""
    return str(part).replace("~", "~0").replace("/", "~1")


def _configured(body: StreamIn) -> dict[str, Any]:
    """What is kept of it; options that are not given stay those of the settings."""
    given = body.model_dump(exclude={"id", "start"})
    return {k: v for k, v in given.items() if v is not None or k not in OPTIONS}


@router.get("/{stream_id}", responses=FOUND)
def one(camera: Stream, who: Viewer) -> dict[str, Any]:
    """One camera, with what it sees now. Why it cannot be read is for engineers."""
    return {**_state(camera, who), **camera.figures()}


@router.delete("/{stream_id}", responses=CHANGE, dependencies=[Engineer])
def remove(request: Request, service: Cameras, stream_id: Name) -> DoneOut:
    """End a camera and forget it; its violations stay in the database."""
    if stream_id not in service.refused:
        stream(request, service, stream_id)
    service.remove(stream_id)
    return DoneOut(detail="removed")


@router.post("/{stream_id}/start", responses=CHANGE, dependencies=[Engineer])
def start(service: Cameras, camera: Stream) -> DoneOut:
    """Start a camera that was stopped, or that failed."""
    try:
        service.start(camera.settings.id)
    except SensingError as error:
        raise ProblemError(409, f"{error}. It is ending: try again in some seconds.") from error
    return DoneOut(detail="started")


@router.post("/{stream_id}/stop", responses=CHANGE, dependencies=[Engineer])
def stop(service: Cameras, camera: Stream) -> DoneOut:
    """Stop a camera; it can be started again."""
    service.stop(camera.settings.id)
    return DoneOut(detail="stopped")


@router.get("/{stream_id}/site", responses=FOUND)
def site(service: Cameras, camera: Stream) -> dict[str, Any]:
    """Calibration, lines, zones and rules, as they were given; of a camera without any, its
    picture's size.
    """
    return service.site(camera.settings.id) or {"size": list(camera.source.health.size)}


@router.put("/{stream_id}/site", responses=CHANGE, dependencies=[Engineer])
def set_site(service: Cameras, camera: Stream, site: dict[str, Any]) -> DoneOut:
    """Another calibration, other lines, zones or rules; counts start again from zero."""
    try:
        service.set_site(camera.settings.id, site)
    except (SensingError, CalibrationError) as error:
        raise _refused(error, "/body") from error
    return DoneOut(detail="in force")


@router.get("/{stream_id}/settings", responses=FOUND)
def settings(service: Cameras, camera: Stream) -> StreamOptions:
    """How a camera is read and what is made of it, as in force."""
    return StreamOptions(**service.options(camera.settings.id))


@router.put("/{stream_id}/settings", responses=CHANGE, dependencies=[Engineer])
def set_settings(service: Cameras, camera: Stream, body: StreamOptions) -> StreamOptions:
    """Change those that are given, null for the settings' own; counts start again from zero."""
    try:
        service.set_options(camera.settings.id, body.model_dump(exclude_unset=True))
    except SensingError as error:
        raise ProblemError(422, str(error)) from error
    return StreamOptions(**service.options(camera.settings.id))


@router.post("/{stream_id}/signals", responses=CHANGE, dependencies=[Depends(need(Role.OPERATOR))])
def signals(camera: Stream, changes: Annotated[list[ColourIn], Field(max_length=1000)]) -> DoneOut:
    """What the signals before this camera show, so that red-light running can be detected. Of a
    live camera, a report that is ahead of this server's clock is refused.
    """
    ahead_s = max((c.at_s for c in changes), default=0.0) - time.time()
    if camera.settings.source.live and ahead_s > MOST_AHEAD_S:
        raise ProblemError(
            422,
            f"at_s: a report is {ahead_s:.1f} s ahead of this server's clock. Give seconds since "
            "1970 (not milliseconds), and set the clocks of both machines (NTP).",
        )
    with camera.lock:
        for change in sorted(changes, key=lambda c: c.at_s):
            camera.signals.record(change.at_s, change.group, change.colour)
    return DoneOut(detail=f"{len(changes)} taken")


@router.get(
    "/{stream_id}/view",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"multipart/x-mixed-replace": {"schema": {"type": "string"}}}},
        **FOUND,
    },
)
async def view(
    request: Request,
    who: Viewer,
    camera: Stream,
    frames: Annotated[int, Query(ge=0, le=100_000)] = 0,
) -> Endless:
    """The live picture with what was found on it, as MJPEG; `frames`: how many, 0 for ever."""
    return Endless(
        images(camera, frames, partial(services_of(request).identity.end_of, who)),
        "multipart/x-mixed-replace; boundary=frame",
        {"Cache-Control": "no-store"},
    )


async def images(
    camera: Any, frames: int, ends: Callable[[], Coroutine[Any, Any, str]]
) -> AsyncGenerator[bytes, None]:
    """ends: waits until the view is to end."""
    camera.viewers += 1
    ending = asyncio.create_task(ends())
    sent = 0
    last = 0
    silent_since = time.monotonic()
    try:
        while (not frames or sent < frames) and not ending.done():
            number, picture = camera.view
            if number != last and picture:
                last = number
                sent = sent + 1
                silent_since = time.monotonic()
                yield (
                    b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                    % len(picture)
                    + picture
                    + b"\r\n"
                )
            elif time.monotonic() - silent_since > 10.0:
                return
            await asyncio.sleep(0.04)
    finally:
        camera.viewers -= 1
        ending.cancel()
