"""The application: its services, its middleware, its routers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import Any

import msgspec
import numpy as np
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

from headway import __version__, web
from headway.api import (
    cameras,
    export,
    ingest,
    lists,
    live,
    models,
    monitoring,
    observations,
    problems,
    queries,
    streets,
    system,
    violations,
)
from headway.api.bodies import CHANGING, BodyMiddleware
from headway.api.idempotency import IdempotencyMiddleware, parameter, takes_key_at
from headway.api.middleware import (
    AuditMiddleware,
    RateLimitMiddleware,
    RequestMiddleware,
    SafeHeadersMiddleware,
    SecondPathMiddleware,
)
from headway.api.services import ApiSettings, Services
from headway.api.under_way import UnderWayMiddleware
from headway.plants.sumo import Scene
from headway.service.streets import StreetService
from headway.store import Database, Intake
from headway.store.begun import BegunBook
from headway.street.external.rows import ObservationRow
from headway.street.messages import Snapshot
from headway.telemetry import metrics

Publish = Callable[[str, str, Any], None]  # topic, street, message

EXPOSED = (  # headers that pages of other origins may read
    "X-Request-ID",
    "X-Process-Time",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "Retry-After",
    "Link",
    "Idempotent-Replayed",
    "ETag",
)
OF_KEYS = {str(status): of for status, of in problems.responses(409, 422).items()}
OF_QUERIES = {str(status): of for status, of in problems.responses(422).items()}
OF_BODIES = {str(status): of for status, of in problems.responses(408, 413).items()}
PAGES = {"/": "index.html", "/docs": "docs.html", "/redoc": "redoc.html"}
RESOURCES = (  # router, its path, its second path: those that the requirements name
    (cameras.router, "/api/v1/cameras", "/streams"),
    (monitoring.router, "/api/v1/monitoring", "/monitoring"),
    (violations.router, "/api/v1/violations", "/analytics/violations"),
    (live.router, "/api/v1/live"),
)
SECOND_PATHS = {"/ml": "/api/v1/ml"}  # the same, of a router whose paths are judged in many places


def create_app(
    settings: ApiSettings,
    database: Database,
    service: Callable[[Publish, Intake], StreetService] | None = None,
) -> FastAPI:
    """service: makes the street service from (how to publish, where to record); None for a server
    without streets.
    """
    services = Services.create(settings, database)

    def publish_from(topic: str, street: str, message: Any) -> None:
        publish(services, topic, street, message)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await services.start(None if service is None else partial(service, publish_from))
        yield
        await services.stop()

    app = FastAPI(
        title="Headway",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # pages of our own, which need neither internet nor inline scripts
        redoc_url=None,
        openapi_url=None,  # see `_add_document`
        description=(
            "Real-time traffic signals: live state, orders, database and analytics. Errors "
            "are problem details (RFC 9457)."
        ),
    )
    app.state.services = services
    _add_middleware(app, settings, services)
    problems.install(app)
    _add_routes(app)
    _add_schemas(app)
    _add_document(app)
    return app


def _add_middleware(app: FastAPI, settings: ApiSettings, services: Services) -> None:
    """From the innermost to the outermost."""
    book = BegunBook(settings.folder / "begun.jsonl")
    app.add_middleware(IdempotencyMiddleware, identity=services.identity, book=book)
    app.add_middleware(AuditMiddleware, recorder=services.recorder)
    app.add_middleware(BodyMiddleware, identity=services.identity)
    app.add_middleware(UnderWayMiddleware, identity=services.identity)
    if settings.per_minute:
        app.add_middleware(
            RateLimitMiddleware,
            identity=services.identity,
            per_minute=settings.per_minute,
            redis_url=settings.redis_url,
        )
    app.add_middleware(SafeHeadersMiddleware)
    app.add_middleware(RequestMiddleware)
    app.add_middleware(SecondPathMiddleware, first=SECOND_PATHS)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=[
                "Authorization",
                "X-API-Key",
                "X-Request-ID",
                "Last-Event-ID",
                "Idempotency-Key",
                "If-None-Match",
            ],
            expose_headers=EXPOSED,
        )


def _add_routes(app: FastAPI) -> None:
    for part in (system, ingest, lists, export, observations, queries, streets, models):
        app.include_router(part.router)
    for router, *paths in RESOURCES:
        for path in paths:
            app.include_router(router, prefix=path)
    app.include_router(live.aliases)
    app.mount("/static", PageFiles(directory=web.STATIC), name="static")

    for path, name in PAGES.items():
        app.add_api_route(path, partial(_page, name), include_in_schema=False)


class PageFiles(StaticFiles):
    """Large scripts are kept packed (`NAME.gz`), and sent so: all browsers unpack them."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        full_path, found = super().lookup_path(path)
        return (full_path, found) if found else super().lookup_path(f"{path}.gz")

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        answer = super().file_response(full_path, stat_result, scope, status_code)
        if str(full_path).endswith(".gz"):
            answer.headers["content-encoding"] = "gzip"
            answer.headers["content-type"] = "text/javascript; charset=utf-8"
        return answer


async def _page(name: str) -> FileResponse:
    return FileResponse(web.STATIC / name)


def _add_schemas(app: FastAPI) -> None:
    """The schemas that routes refer to by name."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for model in (problems.Problem, ingest.RecordIn):
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas |= schema.pop("$defs", {})
                schemas[model.__name__] = schema
            from headway.control.predict import Prediction, SeenJunction  # with the compiler

            _, rows = msgspec.json.schema_components(
                [ObservationRow, SeenJunction, Prediction],
                ref_template="#/components/schemas/{name}",
            )
            schemas |= rows
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    if "security" in operation:
                        _add_answers(operation, OF_QUERIES)  # see `need`
                for method in CHANGING:
                    if operation := operations.get(method.lower()):
                        _add_answers(operation, OF_BODIES)  # of any body: see `BodyMiddleware`
                if (operation := operations.get("post")) and takes_key_at(path):
                    _add_answers(operation, OF_KEYS)
                    operation.setdefault("parameters", []).append(parameter())
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def _add_document(app: FastAPI) -> None:
    """Written once: it takes 20 ms of the event loop, and anybody may ask for it."""
    written = cache(lambda: bytes(JSONResponse(app.openapi()).body))

    async def document() -> Response:
        return Response(written(), media_type="application/json")

    app.add_api_route("/openapi.json", document, include_in_schema=False)


def _add_answers(operation: dict[str, Any], more: dict[str, Any]) -> None:
    """To those that the route itself gives."""
    operation["responses"] = dict(sorted((more | operation["responses"]).items()))


def publish(services: Services, topic: str, street: str, message: Any) -> None:
    """From the streets' threads to the hub, as plain figures, and into the metrics. What a process
    of its own says, every process that follows it hears by itself.
    """
    to_clients = services.hub.publish
    if services.is_followed(street):
        to_clients = services.hub.publish_relayed
    if not isinstance(message, Snapshot):
        event = dict(message)
        if topic == "monitoring" and services.speaks_for(street):  # it has all events, each once
            services.aliases.take(street, event)
        if services.selfwatch.take(topic, street, event):
            metrics.events.labels(street, str(event.get("kind", ""))).inc()
            if event.get("kind") == "engine.restarted":
                metrics.restarts.labels(street).inc()
        to_clients(topic, street, event)
        return
    _measure(street, message)
    if services.street_service is not None and street in services.street_service.streets:
        state = streets.state_of(services.street_service.streets[street])
        state["colours"] = np.frombuffer(message.shown, np.int8).tolist()
        state["shown"] = state["colours"]  # its old name, until 0.2 (docs/deprecated.md)
        if message.scene is not None:
            state["scene"] = _scene(message.scene)
        to_clients(topic, street, state)


def _measure(street: str, snapshot: Snapshot) -> None:
    """Into the metrics for Prometheus."""
    metrics.street_time_s.labels(street).set(snapshot.time_s)
    metrics.vehicles.labels(street).set(snapshot.vehicles)
    metrics.stopped.labels(street).set(snapshot.stopped)
    metrics.standing.labels(street).set(snapshot.stopped)
    metrics.tick_s.labels(street).set(snapshot.tick_ms / 1e3)
    metrics.overruns.labels(street).set(snapshot.overruns)
    metrics.cycles.labels(street).set(snapshot.cycles)
    metrics.jitter_s.labels(street).set(snapshot.jitter_p99_s)
    metrics.interventions.labels(street).set(snapshot.interventions)
    metrics.congested.labels(street).set(sum(len(j.congested) for j in snapshot.junctions))
    for source in snapshot.sources:
        metrics.source_weight.labels(street, source["source"]).set(source["weight"])
    for figure, value in snapshot.profile.items():
        metrics.sections.labels(street, figure).set(value)


def _scene(scene: Scene) -> dict[str, list[Any]]:
    """Every vehicle, column by column; places as x, y, x, y, ... in metres."""
    return {
        "id": scene.number.tolist(),
        "at": np.round(scene.at_m, 1).ravel().tolist(),
        "angle": np.round(scene.angle_deg).astype(int).tolist(),
        "speed": np.round(scene.speed_mps, 1).tolist(),
        "length": np.round(scene.length_m, 1).tolist(),
        "kind": scene.kind.tolist(),
    }
