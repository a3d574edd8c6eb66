"""The application: what it holds, what stands around it, its routers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool

from headway import __version__, telemetry, web
from headway.api import (
    cameras,
    ingest,
    live,
    monitoring,
    operate,
    problems,
    questions,
    system,
    violations,
)
from headway.api.cache import Cache
from headway.api.hub import Hub
from headway.api.middleware import Around
from headway.api.relay import Relay
from headway.api.security import NOBODY, Audit, Keyring, Keys
from headway.sensing import MISSING
from headway.service.cameras import CameraService
from headway.service.streets import StreetService
from headway.settings import NotifySettings
from headway.store import Database, Intake
from headway.street.messages import Snapshot
from headway.telemetry import metrics

CHANGING = {"POST", "PUT", "PATCH", "DELETE"}
RESOURCES = (  # router, its path, its second path: those that the requirements name
    (cameras.router, "/api/v1/cameras", "/streams"),
    (monitoring.router, "/api/v1/monitoring", "/monitoring"),
    (violations.router, "/api/v1/violations", "/analytics/violations"),
    (live.router, "/api/v1/live"),
)


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """per_minute: requests of one client, 0 for no limit. origins: of pages elsewhere that may ask.
    redis_url: Valkey or Redis; empty for none.
    """

    folder: Path
    per_minute: int = 100
    origins: tuple[str, ...] = ()
    redis_url: str = ""
    cache_s: float = 5.0
    notify: NotifySettings = field(default_factory=NotifySettings)


def create_app(
    settings: ApiSettings,
    database: Database,
    service: Callable[[Any, Intake], StreetService] | None = None,
) -> FastAPI:
    """service: makes the street service from (whom to tell, where to record); None for a server
    without streets.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.hub.begin(asyncio.get_running_loop())
        if app.state.relay is not None:
            app.state.relay.begin()
        if service is not None:
            app.state.service = await run_in_threadpool(
                service, lambda *news: tell(app, *news), app.state.intake
            )
        if (settings.folder / "cameras.json").exists() and not MISSING:
            state.cameras = await run_in_threadpool(state.make_cameras)
        stop = threading.Event()
        catching = threading.Thread(
            target=_catch_up, args=(app.state.intake, stop), daemon=True, name="spool"
        )
        catching.start()
        yield
        stop.set()
        if app.state.cameras is not None:
            await run_in_threadpool(app.state.cameras.close)
        if app.state.service is not None:
            await run_in_threadpool(app.state.service.stop)
        if app.state.relay is not None:
            await run_in_threadpool(app.state.relay.close)

    app = FastAPI(
        title="Headway",
        version=__version__,
        lifespan=lifespan,
        redoc_url=None,
        description=(
            "Real-time traffic signals: live state, orders, the record and its analytics. Errors "
            "are problem details (RFC 9457)."
        ),
    )
    state = app.state
    state.folder = settings.folder
    state.database = database
    state.service = None
    state.intake, state.hub = Intake(database, settings.folder), Hub()
    state.keyring = Keyring(settings.folder / "keys.json")
    state.keys = Keys(database)
    state.audit = Audit(database)
    state.cache = Cache(settings.redis_url, settings.cache_s)
    state.relay = Relay(settings.redis_url, state.hub) if settings.redis_url else None
    state.cameras, state.cameras_lock = None, threading.Lock()
    state.make_cameras = lambda: CameraService(
        settings.folder, state.hub.tell, state.intake, settings.notify, state.service
    )
    app.middleware("http")(_audited)
    app.add_middleware(Around, per_minute=settings.per_minute, redis_url=settings.redis_url)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "X-API-Key"],
        )
    problems.install(app)
    for part in (system, ingest, questions, operate):
        app.include_router(part.router)
    for router, *paths in RESOURCES:
        for path in paths:
            app.include_router(router, prefix=path)
    app.include_router(live.aliases)
    app.mount("/static", StaticFiles(directory=web.STATIC), name="static")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(web.STATIC / "index.html")

    _document(app)
    return app


def tell(app: FastAPI, topic: str, street: str, message: Any) -> None:
    """From the streets' threads to the hub, as plain figures; and the metrics."""
    if isinstance(message, Snapshot):
        metrics.street_time_s.labels(street).set(message.time_s)
        metrics.vehicles.labels(street).set(message.vehicles)
        metrics.halted.labels(street).set(message.halted)
        metrics.tick_s.labels(street).set(message.tick_ms / 1e3)
        metrics.overruns.labels(street).set(message.overruns)
        metrics.cycles.labels(street).set(message.cycles)
        metrics.jitter_s.labels(street).set(message.jitter_p99_s)
        metrics.interventions.labels(street).set(message.interventions)
        for figure, value in message.profile.items():
            metrics.sections.labels(street, figure).set(value)
        service = app.state.service
        if service is None or street not in service.streets:
            return
        news = operate.told(service.streets[street]) | {
            "shown": np.frombuffer(message.shown, np.int8).tolist()
        }
        if message.scene is not None:
            s = message.scene
            news["scene"] = {
                "id": s.number.tolist(),
                "at": np.round(s.at_m, 1).ravel().tolist(),
                "angle": np.round(s.angle_deg).astype(int).tolist(),
                "speed": np.round(s.speed_mps, 1).tolist(),
                "length": np.round(s.length_m, 1).tolist(),
                "kind": s.kind.tolist(),
            }
    else:
        news = dict(message)
        metrics.events.labels(street, str(news.get("kind", ""))).inc()
        if news.get("kind") == "engine.restarted":
            metrics.restarts.labels(street).inc()
    app.state.hub.tell(topic, street, news)


async def _audited(
    request: Request, following: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Whatever may change something is in the audit trail, also when it was refused; ingestion is
    not, it has the record itself.
    """
    response = await following(request)
    if request.method in CHANGING and not request.url.path.startswith("/api/v1/ingest"):
        who = getattr(request.state, "who", NOBODY)
        try:
            await run_in_threadpool(
                request.app.state.audit.add,
                who,
                f"{request.method} {request.url.path}".replace("\x00", "")[:512],
                response.status_code,
                {},
            )
        except Exception as error:  # the order stands; that it could not be written down is told
            telemetry.log("api").error(
                "audit not written", error=str(error), who=who.name, what=request.url.path
            )
            metrics.degraded.labels("audit").set(1)
    return response


def _catch_up(intake: Intake, stop: threading.Event) -> None:
    while not stop.wait(2.0):
        try:
            if intake.spool.waiting:
                intake.catch_up()
        except Exception as error:
            telemetry.log("store").error("spool not replayed", error=str(error))


def _document(app: FastAPI) -> None:
    """The schemas that routes refer to by name."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = made()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for model in (problems.Problem, ingest.RecordIn):
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas |= schema.pop("$defs", {})
                schemas[model.__name__] = schema
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
