"""Router of the violations: newest first, trends, hotspots, evidence; erasing those of a device."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headway.analytics import violations as asked
from headway.analytics.violations import (
    Hotspot,
    Review,
    ReviewState,
    Span,
    Trend,
    ViolationSummary,
)
from headway.api.cameras import Cameras
from headway.api.dependencies import ASKS, need, require_nothing_waits, services_of
from headway.api.fields import Moment, require_order
from headway.api.problems import ProblemError, responses
from headway.api.queries import answered, cut
from headway.api.security import Principal, Role
from headway.service.evidence import SealCheck
from headway.store.upkeep import erase_violations, violations_of

router = APIRouter(tags=["violations"], dependencies=[Depends(need(Role.VIEWER)), ASKS])
Device = Annotated[str | None, Query(max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
RuleName = Annotated[str | None, Query(max_length=64, pattern=r"^[a-z_]+$")]
MOST_HOURS = 10.0 * 8766.0  # ten years
When = Annotated[Moment | None, Query(examples=["2026-11-21T00:00:00Z"])]


Hours = Annotated[float | None, Query(gt=0.0, le=MOST_HOURS, allow_inf_nan=False, examples=[24])]


def span(
    device: Device = None,
    rule: RuleName = None,
    begin: When = None,
    end: When = None,
    hours: Hours = None,
) -> Span:
    """[begin, end), of which the last `hours` before `end` (by default: now)."""
    require_order(begin, end)
    if hours is None:
        return Span(device, rule, begin, end)
    end = end or datetime.now(UTC)
    try:
        earliest = end - timedelta(hours=hours)
    except OverflowError:
        return Span(device, rule, begin, end)
    return Span(device, rule, max(earliest, begin or earliest), end)


Window = Annotated[Span, Depends(span)]
ASKED = responses(401, 403, 422, 503)


@router.get("", responses=ASKED)
def newest(
    request: Request,
    response: Response,
    window: Window,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    state: ReviewState | None = None,
) -> list[dict[str, Any]]:
    """Candidates for a person's review, newest first: none is a finding before its `state` is
    `confirmed`, and no `confidence` is above 0.9. With the times of their images (`pictures`:
    deprecated name of `images`) and the seal over all of it.
    """
    rows = asked.newest(services_of(request).database, window, limit + 1, offset, state)
    return cut(request, response, rows, limit, offset)


@router.get("/trends", response_model=Trend, responses=ASKED)
def trends(request: Request, window: Window) -> Response:
    """Candidates by hour and by hour of the day (UTC)."""
    return answered(request, Trend, lambda: asked.trends(services_of(request).database, window))


@router.get("/hotspots", response_model=list[Hotspot], responses=ASKED)
def hotspots(
    request: Request, window: Window, limit: Annotated[int, Query(ge=1, le=1000)] = 20
) -> Response:
    """Devices by their candidates, most first."""
    return answered(
        request, list[Hotspot], lambda: asked.hotspots(services_of(request).database, window, limit)
    )


@router.get("/summary", response_model=ViolationSummary, responses=ASKED)
def summary(request: Request, window: Window) -> Response:
    """Candidates in all, by rule, an hour."""
    return answered(
        request, ViolationSummary, lambda: asked.summary(services_of(request).database, window)
    )


@router.delete(
    "", responses=responses(401, 403, 404, 422, 503), dependencies=[Depends(need(Role.ADMIN))]
)
def erase(
    request: Request,
    device: Annotated[str, Query(max_length=64, pattern=r"^[A-Za-z0-9_-]+$")],
    begin: When = None,
    end: When = None,
) -> dict[str, int]:
    """Erase the violations of one device, within a time or all of them, with their images, also
    those that were put aside.
    """
    require_order(begin, end)
    services = services_of(request)
    require_nothing_waits(services.intake)
    stored = violations_of(services.database, device, begin, end)
    gone = services.intake.refused.erase_violations(device, begin, end, stored)
    gone += erase_violations(services.database, device, begin, end)
    if not gone:
        raise ProblemError(404, f"there is no violation of {device!r} in that time in the database")
    return {"rows": gone}


ViolationId = Annotated[str, Path(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


class ReviewIn(BaseModel):
    """What a person found of a candidate. note: why, in words."""

    model_config = ConfigDict(extra="forbid")

    state: ReviewState
    note: Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")] = ""


Operator = Annotated[Principal, Depends(need(Role.OPERATOR))]


@router.post("/{violation_id}/review", responses=responses(401, 403, 404, 422, 503))
def review(
    request: Request, principal: Operator, violation_id: ViolationId, body: ReviewIn
) -> Review:
    """Confirm or dismiss a candidate after looking at its images; `open` takes that back."""
    database = services_of(request).database
    found = asked.review(database, violation_id, body.state, principal.name, body.note)
    if found is None:
        raise ProblemError(404, "there is no such violation in the database")
    return found


@router.get("/{violation_id}/seal", responses=responses(401, 403, 404, 422, 503))
def seal(request: Request, service: Cameras, violation_id: ViolationId) -> SealCheck:
    """Whether all that a candidate states and shows (figures, rule, confidence, time, images) is as
    it was sealed, by this service's `evidence.key`. A review is not under the seal.
    """
    found = service.check_seal(services_of(request).database, violation_id)
    if found is None:
        raise ProblemError(404, "there is no such violation in the database")
    return found


JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
    **responses(401, 403, 404, 422, 503),
}


@router.get(
    "/{violation_id}/images/{number}",
    response_class=Response,
    responses=JPEG,
    dependencies=[Depends(need(Role.OPERATOR))],
)
@router.get(
    "/{violation_id}/pictures/{number}",  # until 0.2 (docs/deprecated.md)
    response_class=Response,
    responses=JPEG,
    dependencies=[Depends(need(Role.OPERATOR))],
    deprecated=True,
)
def evidence(
    request: Request, violation_id: ViolationId, number: Annotated[int, Path(ge=0, le=99)]
) -> Response:
    """An image of a violation, JPEG."""
    found = asked.image(services_of(request).database, violation_id, number)
    if found is None:
        raise ProblemError(404, "there is no such image in the database")
    return Response(
        found, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"}
    )
