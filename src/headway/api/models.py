"""Router of the models: jobs that make them, their versions, and which of them decide where."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headway.api.dependencies import ASKS, need, services_of
from headway.api.problems import ProblemError, responses
from headway.api.security import Principal, Role
from headway.api.streets import folders_of, junction_of, street_by_name
from headway.control.models import KINDS
from headway.learning.jobs import STATES, Backlog, Jobs, LearningJob, UnknownJobError
from headway.learning.registry import (
    ModelAlias,
    ModelFaultError,
    ModelVersion,
    Registry,
    UnknownModelError,
)
from headway.plants.sumo.allowed import ScenarioNotAllowedError
from headway.service.streets import RunningStreet

router = APIRouter(
    prefix="/api/v1/ml", tags=["models"], dependencies=[Depends(need(Role.VIEWER)), ASKS]
)
OK = responses(401, 403, 503)
LIST = responses(401, 403, 422, 503)
FOUND = responses(401, 403, 404, 409, 422, 503)
MOST_PARENTS = 100
MOST_HISTORY = 100
KNOWN_NAME = r"^[a-z0-9-]+$"
Viewer = Annotated[Principal, Depends(need(Role.VIEWER))]
Operator = Annotated[Principal, Depends(need(Role.OPERATOR))]
StreetName = Annotated[str, Query(max_length=64, pattern=KNOWN_NAME)]
Junction = Annotated[str, Path(max_length=256, examples=["360082"])]
Id = Annotated[int, Path(ge=1, lt=1 << 63)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str, Query(max_length=18, pattern=r"^[0-9]*$")]


class JobIn(BaseModel):
    """A job. arguments: see docs/api.md; of `train` and `tune` a scenario and the name of the model
    to be made, of `evaluate` a scenario, controllers and seeds.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    kind: Literal["train", "tune", "evaluate"]
    arguments: dict[str, Any] = Field(
        examples=[{"scenario": "cologne1", "name": "own", "episodes": 50}]
    )


class JobPage(BaseModel):
    """next: the cursor of the next page, null at the end."""

    items: list[LearningJob]
    next: str | None


class ModelPage(BaseModel):
    """next: the cursor of the next page, null at the end."""

    items: list[ModelVersion]
    next: str | None


class ModelOut(BaseModel):
    """A version of a model. label: its name and number; lineage: what it was made of, its parent
    first.
    """

    label: str
    model: ModelVersion
    lineage: list[ModelVersion]


class JunctionModels(BaseModel):
    """Who decides at a junction. controller: its name, that of a model with its version;
    confidence: of its decisions, with its factors, null before the street tells it. champion,
    challenger, shadow: as the registry has them for the junction, else for the whole street, null
    for none. history: of these, the newest first.
    """

    street: str
    junction: str
    controller: str
    confidence: float | None
    factors: dict[str, float]
    champion: ModelAlias | None = None
    challenger: ModelAlias | None = None
    shadow: ModelAlias | None = None
    history: list[ModelAlias]


class StreetModels(BaseModel):
    street: str
    controller: str
    status: str


class ModelHealth(BaseModel):
    """status: degraded while a worker that has a job is silent, or none takes what waits. models:
    how many versions are registered; jobs: that have not ended; streets: that run here.
    """

    status: Literal["ok", "degraded"]
    models: int
    jobs: Backlog
    streets: list[StreetModels]


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """What registry and jobs refuse, as problems."""
    try:
        yield
    except (UnknownModelError, UnknownJobError) as error:
        raise ProblemError(404, str(error)) from error
    except ModelFaultError as error:
        raise ProblemError(409, str(error)) from error
    except ScenarioNotAllowedError as error:
        raise ProblemError(403, str(error)) from error
    except ValueError as error:
        raise ProblemError(422, str(error)) from error


def registry_of(request: Request) -> Registry:
    try:
        return services_of(request).registry
    except ValueError as error:  # its key on disk is damaged
        raise ProblemError(503, str(error)) from error


def jobs_of(request: Request) -> Jobs:
    return Jobs(services_of(request).database, folders_of(request))


def street_of(request: Request, street: StreetName = "headway") -> RunningStreet:
    return street_by_name(request, street)


Models = Annotated[Registry, Depends(registry_of)]
AllJobs = Annotated[Jobs, Depends(jobs_of)]
Street = Annotated[RunningStreet, Depends(street_of)]


@router.post("/train", status_code=202, responses=FOUND)
def train(who: Operator, jobs: AllJobs, body: JobIn, street: StreetName = "headway") -> LearningJob:
    """Train, tune or evaluate, as a job that `headway worker` does; one a street at a time."""
    with refusing():
        return jobs.job(jobs.enqueue(body.kind, street, body.arguments, who.name))


@router.get("/jobs", responses=LIST)
def job_list(
    request: Request,
    response: Response,
    jobs: AllJobs,
    street: Annotated[str | None, Query(max_length=64, pattern=KNOWN_NAME)] = None,
    state: Annotated[str | None, Query(pattern=f"^({'|'.join(STATES)})$")] = None,
    limit: Limit = 100,
    cursor: Cursor = "",
) -> JobPage:
    """Jobs, the newest first, with their progress."""
    items = jobs.jobs(limit, int(cursor) if cursor else None, street, state)
    return JobPage(items=items, next=_next(request, response, items, limit))


@router.get("/jobs/{id}", responses=FOUND)
def job(who: Viewer, jobs: AllJobs, id: Id) -> LearningJob:
    """One job: its state, progress, and what came of it."""
    with refusing():
        try:
            found = jobs.job(id)
        except UnknownJobError:
            who.bounds.require_streets([""])  # who has bounds hears the same of any other job
            raise
    who.bounds.require_streets([found.street])
    return found


@router.delete("/jobs/{id}", responses=FOUND)
def cancel(who: Operator, jobs: AllJobs, id: Id) -> LearningJob:
    """End a job: at once where it waits, within seconds where it goes on."""
    job(who, jobs, id)
    with refusing():
        return jobs.cancel(id, who.name)


@router.get("/models", responses=LIST)
def models(
    request: Request,
    response: Response,
    registry: Models,
    name: Annotated[str | None, Query(max_length=64, pattern=r"^[a-z0-9._-]+$")] = None,
    kind: Annotated[str | None, Query(pattern=f"^({'|'.join(KINDS)})$")] = None,
    limit: Limit = 100,
    cursor: Cursor = "",
) -> ModelPage:
    """Versions of models, the newest first: what each was made from, its metrics; `fault` says of
    a row that was altered. Not for credentials that are bounded to streets: models are of none.
    """
    items = registry.list(limit, int(cursor) if cursor else None, name, kind)
    return ModelPage(items=list(items), next=_next(request, response, items, limit))


@router.get("/models/{model_id}", responses=FOUND)
def model(registry: Models, model_id: Id) -> ModelOut:
    """One version, with what it was made of."""
    with refusing():
        found = of = registry.get(model_id)
        lineage = list[ModelVersion]()
        while of.parent is not None and len(lineage) < MOST_PARENTS:
            of = registry.get(of.parent)
            lineage.append(of)
    return ModelOut(label=found.label, model=found, lineage=lineage)


@router.get("/status/{intersection_id:path}", responses=FOUND)
def status(registry: Models, street: Street, intersection_id: Junction) -> JunctionModels:
    """Who decides at a junction, and who has been champion, challenger or shadow there."""
    number, snapshot = junction_of(street, intersection_id), street.snapshot
    with refusing():
        history = [e for e in registry.history(street.name) if e.junction in ("", intersection_id)]
    now: dict[str, ModelAlias] = {}
    for entry in sorted(history, key=lambda e: (e.junction != "", e.number)):
        now[entry.alias] = entry  # of the junction, if there is one, else of the street
    seen = snapshot.junctions[number] if snapshot is not None else None
    return JunctionModels(
        street=street.name,
        junction=intersection_id,
        controller=street.controller,
        confidence=None if seen is None else seen.confidence,
        factors={} if seen is None else dict(seen.factors),
        history=history[:MOST_HISTORY],
        **{alias: e for alias, e in now.items() if e.label},
    )


@router.get("/health", responses=OK)
def health(request: Request, who: Viewer, registry: Models, jobs: AllJobs) -> ModelHealth:
    """Whether jobs are done, and who decides on the streets that run here."""
    service, backlog = services_of(request).street_service, jobs.backlog()
    streets = list(service.streets.values()) if service is not None else []
    return ModelHealth(
        status="degraded" if backlog.is_left_lying else "ok",
        models=next((newest.id for newest in registry.list(1)), 0),  # numbered without gaps
        jobs=backlog,
        streets=[
            StreetModels(street=s.name, controller=s.controller, status=s.status)
            for s in streets
            if who.bounds.has_street(s.name)
        ],
    )


def _next(
    request: Request, response: Response, items: Sequence[ModelVersion | LearningJob], limit: int
) -> str | None:
    """The cursor of the page after these; the header Link (RFC 8288) has its address."""
    if len(items) < limit:
        return None
    following = str(items[-1].id)
    asked = request.url.remove_query_params(["token", "ticket"])  # secrets
    address = asked.include_query_params(cursor=following)
    response.headers["Link"] = f'<{address.path}?{address.query}>; rel="next"'
    return following
