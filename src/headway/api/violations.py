"""Router of the violations: newest first, trends, hotspots, evidence; erasing those of a device."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AwareDatetime

from headway.analytics import violations as asked
from headway.analytics.violations import Hotspot, Span, Trend, ViolationSummary
from headway.api.dependencies import need, services_of
from headway.api.problems import ProblemError, responses
from headway.api.queries import answered
from headway.api.security import Role
from headway.store.upkeep import erase_violations

router = APIRouter(tags=["violations"], dependencies=[Depends(need(Role.VIEWER))])
Device = Annotated[str | None, Query(max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
RuleName = Annotated[str | None, Query(max_length=64, pattern=r"^[a-z_]+$")]
When = Annotated[AwareDatetime | None, Query(examples=["2026-11-21T00:00:00Z"])]


def span(
    device: Device = None, rule: RuleName = None, begin: When = None, end: When = None
) -> Span:
    return Span(device, rule, begin, end)


Window = Annotated[Span, Depends(span)]
ASKED = responses(401, 403, 422, 503)


@router.get("", responses=ASKED)
def newest(
    request: Request,
    window: Window,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> list[dict[str, Any]]:
    """Violations, newest first, with the times of their images (`pictures`: deprecated name of
    `images`) and the seal over all of it.
    """
    return asked.newest(services_of(request).database, window, limit, offset)


@router.get("/trends", response_model=Trend, responses=ASKED)
def trends(request: Request, window: Window) -> Response:
    """Violations by hour and by hour of the day (UTC)."""
    return answered(request, Trend, lambda: asked.trends(services_of(request).database, window))


@router.get("/hotspots", response_model=list[Hotspot], responses=ASKED)
def hotspots(
    request: Request, window: Window, limit: Annotated[int, Query(ge=1, le=1000)] = 20
) -> Response:
    """Devices by their violations, most first."""
    return answered(
        request, list[Hotspot], lambda: asked.hotspots(services_of(request).database, window, limit)
    )


@router.get("/summary", response_model=ViolationSummary, responses=ASKED)
def summary(request: Request, window: Window) -> Response:
    """Violations in all, by rule, an hour."""
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
    """Erase the violations of one device, within a time or all of them, with their images."""
    gone = erase_violations(services_of(request).database, device, begin, end)
    if not gone:
        raise ProblemError(404, f"there is no violation of {device!r} in that time in the database")
    return {"rows": gone}


ViolationId = Annotated[str, Path(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


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
