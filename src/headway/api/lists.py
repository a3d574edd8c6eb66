"""Ingested simulations, junctions and records, read back by id and as lists, and corrected; what
cameras have counted.

A list answers in pages: `items`, the `total` of the whole list, and `next`, the cursor of the next
page. Each answer has an ETag; who has it already (`If-None-Match`) gets 304 without a body.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headway.analytics import lists
from headway.analytics.lists import CountFilter, Key, Listing, Page, RecordFilter
from headway.api.dependencies import ASKS, need, services_of
from headway.api.fields import WHOLE, Moment, require_order
from headway.api.ingest import MOST_SIGNALS, MetricsIn, SignalIn, row_of
from headway.api.problems import Fault, ProblemError, responses
from headway.api.queries import Maybe, Text, When, cached
from headway.api.security import Principal, Role
from headway.store.corrections import NewerVersionError, correct
from headway.store.database import in_utc

Viewer = Annotated[Principal, Depends(need(Role.VIEWER))]
router = APIRouter(tags=["records"], dependencies=[Depends(need(Role.VIEWER)), ASKS])
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[
    str,
    Query(max_length=512, pattern=r"^[A-Za-z0-9_\-]*$", description="`next` of the page before"),
]
At = Annotated[Moment, Path(examples=["2025-09-10T23:20:00Z"])]
NOT_MODIFIED: dict[int | str, Any] = {304: {"description": "Not Modified"}}
LIST = responses(401, 403, 422, 503) | NOT_MODIFIED
ONE = responses(401, 403, 404, 422, 503) | NOT_MODIFIED


class SimulationOut(BaseModel):
    """An ingested simulation. begin, end: times of its first and last record."""

    simulation_id: str
    records: int
    junctions: int
    begin: datetime
    end: datetime


class JunctionOut(BaseModel):
    """A junction of which records were ingested. begin, end: times of the first and last one."""

    intersection_id: str
    records: int
    simulations: int
    begin: datetime
    end: datetime


class RecordOut(BaseModel):
    """A record as it was sent, or corrected. version: 1, and one more with each correction."""

    simulation_id: str
    timestamp: datetime
    intersection_id: str
    signals: list[SignalIn]
    metrics: MetricsIn
    version: int


class RecordVersion(RecordOut):
    """One version of a record: when, by whom and why it was replaced; null of the present one."""

    replaced_at: datetime | None
    replaced_by: str | None
    reason: str | None


class SimulationPage(BaseModel):
    """total: of the whole list; next: the cursor of the next page, null at the end."""

    items: list[SimulationOut]
    total: int
    next: str | None


class JunctionPage(BaseModel):
    """total: of the whole list; next: the cursor of the next page, null at the end."""

    items: list[JunctionOut]
    total: int
    next: str | None


class RecordPage(BaseModel):
    """total: of the whole list; next: the cursor of the next page, null at the end."""

    items: list[RecordOut]
    total: int
    next: str | None


class CountOut(BaseModel):
    """Crossings of a camera's line in one direction, of one class (empty: of all), in an interval.
    observed_s: how long the camera saw the line in it; the flow is of that time, null below a
    second; the speed is null where none is known.
    """

    begin: datetime
    camera: str
    line: str
    direction: Literal["in", "out"]
    kind: str
    n: int
    observed_s: float
    flow_veh_h: float | None
    mean_speed_mps: float | None


class CountPage(BaseModel):
    """total: of the whole list; next: the cursor of the next page, null at the end."""

    items: list[CountOut]
    total: int
    next: str | None


class CorrectionIn(BaseModel):
    """What a record is to say from now on, and why. version: the one that is corrected; without it
    the newest, whoever has corrected that meanwhile.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    signals: list[SignalIn] = Field(min_length=1, max_length=MOST_SIGNALS)
    metrics: MetricsIn
    reason: str = Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")
    version: Annotated[int, Field(ge=1, le=2**31 - 1), WHOLE] | None = None


def record_filter(
    who: Viewer,
    simulation_id: Maybe = None,
    intersection_id: Maybe = None,
    begin: When = None,
    end: When = None,
) -> RecordFilter:
    """Records of one simulation, of one junction, in [begin, end); of the caller's bounds."""
    require_order(begin, end)
    return RecordFilter(simulation_id, intersection_id, begin, end, who.bounds.only_streets)


Records = Annotated[RecordFilter, Depends(record_filter)]


def count_filter(
    who: Viewer,
    interval_min: Annotated[Literal["5", "15"], Query()] = "15",
    by_class: bool = False,
    camera: Annotated[str | None, Query(max_length=64, pattern=r"^[A-Za-z0-9_\-]+$")] = None,
    line: Annotated[str | None, Query(max_length=128, pattern=r"^[^\x00]+$")] = None,
    begin: When = None,
    end: When = None,
) -> CountFilter:
    """Intervals that begin in [begin, end), of one camera, of one line, or of all; of the caller's
    bounds.
    """
    require_order(begin, end)
    among = who.bounds.only_cameras
    return CountFilter(60 * int(interval_min), by_class, camera, line, begin, end, among)


Counts = Annotated[CountFilter, Depends(count_filter)]


@router.get("/api/v1/counts", response_model=CountPage, responses=LIST)
def counts(request: Request, only: Counts, limit: Limit = 100, cursor: Cursor = "") -> Response:
    """What crossed the lines of cameras, by intervals of 5 or 15 minutes: counts, flows, speeds."""
    found = lists.counts(services_of(request).database, only)
    return paged(request, found, timed_and_named(cursor), limit)


@router.get("/api/v1/simulations", response_model=SimulationPage, responses=LIST)
def simulations(request: Request, who: Viewer, limit: Limit = 100, cursor: Cursor = "") -> Response:
    """The ingested simulations, by name."""
    found = lists.simulations(services_of(request).database, who.bounds.only_streets)
    return paged(request, found, named(cursor), limit)


@router.get("/api/v1/simulations/{id}", response_model=SimulationOut, responses=ONE)
def simulation(request: Request, id: Text) -> Response:
    """One ingested simulation."""
    return conditional(request, encoded(lists.simulation(services_of(request).database, id)))


@router.get("/api/v1/junctions", response_model=JunctionPage, responses=LIST)
def junctions(
    request: Request,
    who: Viewer,
    simulation_id: Maybe = None,
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Response:
    """The junctions of which records were ingested, by name; of one simulation, or of all."""
    among = who.bounds.only_streets
    found = lists.junctions(services_of(request).database, simulation_id, among)
    return paged(request, found, named(cursor), limit)


@router.get("/api/v1/junctions/{id}", response_model=JunctionOut, responses=ONE)
def junction(request: Request, id: Text) -> Response:
    """One junction, over all simulations."""
    return conditional(request, encoded(lists.junction(services_of(request).database, id)))


@router.get("/api/v1/records", response_model=RecordPage, responses=LIST)
def records(request: Request, only: Records, limit: Limit = 100, cursor: Cursor = "") -> Response:
    """Ingested records, by simulation, junction and time."""
    found = lists.records(services_of(request).database, only)
    return paged(request, found, named_and_timed(cursor), limit)


RECORD = "/api/v1/records/{simulation_id}/{intersection_id}/{timestamp}"


@router.get(RECORD, response_model=RecordOut, responses=ONE)
def record(request: Request, simulation_id: Text, intersection_id: Text, timestamp: At) -> Response:
    """One record: its newest version."""
    database = services_of(request).database
    found = lists.record(database, simulation_id, intersection_id, timestamp)
    return conditional(request, encoded(found))


@router.get(f"{RECORD}/versions", response_model=list[RecordVersion], responses=ONE)
def versions(
    request: Request, simulation_id: Text, intersection_id: Text, timestamp: At
) -> Response:
    """All versions of a record, the newest first."""
    database = services_of(request).database
    found = lists.versions(database, simulation_id, intersection_id, timestamp)
    return conditional(request, encoded(found))


@router.put(RECORD, response_model=RecordOut, responses=responses(401, 403, 404, 409, 422, 503))
def correct_record(
    request: Request,
    simulation_id: Text,
    intersection_id: Text,
    timestamp: At,
    body: CorrectionIn,
    who: Annotated[Principal, Depends(need(Role.ENGINEER))],
) -> Response:
    """Correct a record: a new version takes its place, and the old one is kept. 409: it is not the
    `version` given any more, and says something else.
    """
    services = services_of(request)
    content = body.model_dump(include={"signals", "metrics"})
    key = {
        "simulation_id": simulation_id,
        "intersection_id": intersection_id,
        "timestamp": timestamp.isoformat(),
    }
    try:
        correct(services.database, row_of(key | content), who.name, body.reason, body.version)
    except NewerVersionError as error:
        raise ProblemError(409, f"{error}; read it, and correct that one") from error
    services.cache.clear()
    found = lists.record(services.database, simulation_id, intersection_id, timestamp)
    return Response(encoded(found), media_type="application/json")


def encoded(found: Any) -> bytes:
    return msgspec.json.encode(found)


def paged(request: Request, listing: Listing, after: Key, limit: int) -> Response:
    """A page of a list; the header Link (RFC 8288) has the address of the next one."""

    def make() -> bytes:
        page = listing.page(after, limit)
        following = cursor_of(page)
        body = {"items": page.items, "total": page.total, "next": following}
        return f"{following or ''}\n".encode() + encoded(body)

    following, _, body = cached(request, make).partition(b"\n")
    headers = {}
    if following:
        asked = request.url.remove_query_params(["token", "ticket"])  # secrets
        address = asked.include_query_params(cursor=following.decode())
        headers = {"Link": f'<{address.path}?{address.query}>; rel="next"'}
    return conditional(request, body, headers)


def conditional(request: Request, body: bytes, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer with its ETag (RFC 9110, 8.8.3); 304 for who has it."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", **(headers or {})}
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or tag in [t.strip().removeprefix("W/") for t in known.split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def cursor_of(page: Page) -> str | None:
    """The key of the last item as text; None at the end of a list."""
    if page.after is None:
        return None
    values = [v.isoformat() if isinstance(v, datetime) else v for v in page.after]
    text = json.dumps(values, ensure_ascii=False)  # else six characters for each of a Chinese name
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def named(cursor: str) -> Key:
    """The key in a cursor of a list that is sorted by a name. Raises ProblemError 422."""
    return _key(cursor, str)


def named_and_timed(cursor: str) -> Key:
    """The same of a list of records. Raises ProblemError 422."""
    return _key(cursor, str, str, _moment)


def timed_and_named(cursor: str) -> Key:
    """The same of a list of counts. Raises ProblemError 422."""
    return _key(cursor, _moment, str, str, str, str)


def _moment(text: str) -> datetime:
    return in_utc(datetime.fromisoformat(text))


def _key(cursor: str, *kinds: Callable[[str], Any]) -> Key:
    if not cursor:
        return ()
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise ValueError("no list of names")
        if b"\x00" in "".join(values).encode():  # half of a surrogate pair has no bytes
            raise ValueError("a name holds no NUL")
        return tuple(kind(value) for kind, value in zip(kinds, values, strict=True))
    except ValueError as error:
        fault = Fault(pointer="/query/cursor", message="give `next` of the page before, unchanged")
        raise ProblemError(422, "the cursor is none of this list", [fault]) from error
