"""Router of the models: jobs that make them, their versions, and which of them decide where."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from headway.analytics import MissingError
from headway.analytics.business import Business, business
from headway.analytics.model_monitoring import Latency, Monitoring
from headway.api.dependencies import ASKS, PREDICTS, need, services_of
from headway.api.problems import ProblemError, responses
from headway.api.security import Principal, Role
from headway.api.services import Services
from headway.api.streets import Done, folders_of, junction_of, street_by_name, usual_street
from headway.api.streets import service as street_service
from headway.control.models import KINDS, ModelFile
from headway.learning.jobs import STATES, Backlog, Jobs, LearningJob, UnknownJobError
from headway.learning.registry import (
    ModelAlias,
    ModelFaultError,
    ModelVersion,
    Registry,
    UnknownModelError,
)
from headway.learning.shared_files import StorageAwayError
from headway.plants.sumo.allowed import ScenarioNotAllowedError
from headway.service.orders import OrderState, PlacedOrder
from headway.service.predictions import NotReadyError
from headway.service.running_street import FIXED_TIME, RunningStreet
from headway.settings import BusinessSettings
from headway.street.messages import (
    LONGEST_TURN_S,
    SHORTEST_TURN_S,
    CanaryBounds,
    Deploy,
    Rollback,
)

if TYPE_CHECKING:
    from headway.control.predict import Prediction, SeenJunction

router = APIRouter(prefix="/api/v1/ml", tags=["models"], dependencies=[Depends(need(Role.VIEWER))])
OK = responses(401, 403, 503)
LIST = responses(401, 403, 422, 503)
FOUND = responses(401, 403, 404, 409, 422, 503)
MOST_PARENTS = 100
MOST_HISTORY = 100
ANSWER_WITHIN_S = 5.0  # a street reads the model's file between two ticks
POLL_S = 0.005
SAVINGS = TypeAdapter(Business)
KNOWN_NAME = r"^[a-z0-9-]+$"
Viewer = Annotated[Principal, Depends(need(Role.VIEWER))]
Operator = Annotated[Principal, Depends(need(Role.OPERATOR))]
Engineer = Annotated[Principal, Depends(need(Role.ENGINEER))]
StreetName = Annotated[str | None, Query(max_length=64, pattern=KNOWN_NAME)]
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
    confidence: of its decisions, with its factors, null before the street tells it. models: the
    street's champion, and the canary and shadow that are at this junction, with their figures.
    champion, challenger, shadow: as the registry has entered them for the junction, else for the
    whole street, null for none. history: of these, the newest first; what was altered, or signed
    with another key, has its fault and is not in force.
    """

    street: str
    junction: str
    controller: str
    confidence: float | None
    factors: dict[str, float]
    models: dict[str, Any]
    champion: ModelAlias | None = None
    challenger: ModelAlias | None = None
    shadow: ModelAlias | None = None
    history: list[ModelAlias]


class DeployIn(BaseModel):
    """How a model comes in force. junctions: of a canary or a shadow; none for all of them. Of a
    canary: `hours` of the day (from, to) in which it decides, none for all; turn_s: seconds for
    which it and the champion take turns; worse_by: share of delay by which it may be worse;
    false_alarms: share of the trials of a good one that end it all the same.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    mode: Literal["all", "canary", "shadow"]
    junctions: list[Annotated[str, Field(max_length=256)]] = Field(default=[], max_length=1000)
    hours: list[Annotated[list[float], Field(min_length=2, max_length=2)]] = Field(
        default=[], max_length=24
    )
    turn_s: float = Field(default=240.0, ge=SHORTEST_TURN_S, le=LONGEST_TURN_S)
    worse_by: float = Field(default=0.05, ge=0.0, le=1.0)
    false_alarms: float = Field(default=0.02, ge=0.0001, le=0.2)

    def order(self, model: ModelFile, by: str) -> Deploy:
        """Raises ValueError for what cannot be."""
        if self.hours and self.mode != "canary":
            raise ValueError(
                f"hours: those of a canary; mode {self.mode!r} would decide at all hours. Leave "
                "them out, or deploy the model as a canary"
            )
        hours = tuple((begin, end) for begin, end in self.hours)
        bounds = CanaryBounds(hours, self.turn_s, self.worse_by, self.false_alarms)
        return Deploy(self.mode, model, tuple(self.junctions), bounds, by)


class RollbackIn(BaseModel):
    """What ends. deploy: the champion, which decides on the whole street; the one before it decides
    again. canary, shadow: at this junction alone, or on all that it has. model: its label, as
    `own@2`: where another has its place by now, as after a roll-back by somebody else, nothing
    changes (409); whoever it is where none is given.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    what: Literal["deploy", "canary", "shadow"] = "deploy"
    everywhere: bool = False
    model: str = Field(default="", max_length=128)


class JunctionsIn(BaseModel):
    """Several junctions of a street."""

    model_config = ConfigDict(extra="forbid", strict=True)
    intersections: list[Annotated[str, Field(max_length=256)]] = Field(min_length=1, max_length=100)


class Performance(BaseModel):
    """How a junction and those who decide there do now. vehicles, stopped, longest_wait_s: at the
    junction, null before the street tells it; tick_ms: of the street. latency: of the decisions in
    the hours that were looked at last, null before the first look. savings: of the street's run
    beside the one of `baseline`, over the same demand, null where `why` says so.
    """

    street: str
    junction: str
    controller: str
    vehicles: int | None
    stopped: int | None
    longest_wait_s: float | None
    tick_ms: float | None
    latency: Latency | None
    savings: Business | None
    why: str


class StreetModels(BaseModel):
    """models: champion, canary and shadow with their figures, as the street tells them."""

    street: str
    controller: str
    status: str
    models: dict[str, Any]


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
    except (NotReadyError, StorageAwayError) as error:
        raise ProblemError(503, str(error), headers={"Retry-After": "5"}) from error
    except ValueError as error:
        raise ProblemError(422, str(error)) from error


def registry_of(request: Request) -> Registry:
    try:
        return services_of(request).registry
    except ValueError as error:  # its key on disk is damaged
        raise ProblemError(503, str(error)) from error


def jobs_of(request: Request) -> Jobs:
    return Jobs(services_of(request).database, folders_of(request))


async def body_of(request: Request) -> bytes:
    return await request.body()


def _json(schema: str, many: bool = False) -> dict[str, Any]:
    """A body that msgspec reads, for the OpenAPI document."""
    of: dict[str, Any] = {"$ref": f"#/components/schemas/{schema}"}
    if many:
        of = {"type": "array", "items": of, "minItems": 1, "maxItems": 1000}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": of}}}}


def street_of(request: Request, street: StreetName = None) -> RunningStreet:
    return street_by_name(request, usual_street(request) if street is None else street)


Body = Annotated[bytes, Depends(body_of)]
ModelId = Annotated[int | None, Query(ge=1, lt=1 << 63)]
PREDICTION = {"$ref": "#/components/schemas/Prediction"}
FAULT = {"type": "object", "required": ["fault"], "properties": {"fault": {"type": "string"}}}
PREDICTED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"schema": PREDICTION}}},
    **FOUND,
}
PREDICTED_MANY: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/json": {
                "schema": {"type": "array", "items": {"anyOf": [PREDICTION, FAULT]}}
            }
        }
    },
    **FOUND,
}
Models = Annotated[Registry, Depends(registry_of)]
AllJobs = Annotated[Jobs, Depends(jobs_of)]
Street = Annotated[RunningStreet, Depends(street_of)]


@router.post("/train", status_code=202, responses=FOUND, dependencies=[ASKS])
def train(
    request: Request, who: Operator, jobs: AllJobs, body: JobIn, street: StreetName = None
) -> LearningJob:
    """Train, tune or evaluate, as a job that `headway worker` does; one a street at a time. Who is
    bounded to streets makes versions of names that are theirs alone, or new.
    """
    of = usual_street(request) if street is None else street
    name = str(body.arguments.get("name", ""))
    if not all(map(who.bounds.has_street, jobs.streets_of_model(name))):
        raise ProblemError(
            403, f"model {name!r} is of other streets than yours. Give another name."
        )
    with refusing():
        return jobs.job(jobs.enqueue(body.kind, of, body.arguments, who.name))


@router.get("/jobs", responses=LIST, dependencies=[ASKS])
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


@router.get("/jobs/{id}", responses=FOUND, dependencies=[ASKS])
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


@router.delete("/jobs/{id}", responses=FOUND, dependencies=[ASKS])
def cancel(who: Operator, jobs: AllJobs, id: Id) -> LearningJob:
    """End a job: at once where it waits, within seconds where it goes on."""
    job(who, jobs, id)
    with refusing():
        return jobs.cancel(id, who.name)


@router.get("/models", responses=LIST, dependencies=[ASKS])
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


@router.get("/models/{model_id}", responses=FOUND, dependencies=[ASKS])
def model(registry: Models, model_id: Id) -> ModelOut:
    """One version, with what it was made of."""
    with refusing():
        found = of = registry.get(model_id)
        lineage = list[ModelVersion]()
        while of.parent is not None and len(lineage) < MOST_PARENTS:
            of = registry.look_at(of.parent)
            lineage.append(of)
    return ModelOut(label=found.label, model=found, lineage=lineage)


@router.get("/status/{intersection_id:path}", responses=FOUND, dependencies=[ASKS])
def status(registry: Models, street: Street, intersection_id: Junction) -> JunctionModels:
    """Who decides at a junction, and who has been champion, challenger or shadow there."""
    number, snapshot = junction_of(street, intersection_id), street.snapshot
    with refusing():
        history, in_force = registry.at_junction(street.name, intersection_id, MOST_HISTORY)
    # those of the whole street first
    now = {entry.alias: entry for entry in sorted(in_force, key=lambda e: e.junction)}
    seen = snapshot.junctions[number] if snapshot is not None else None
    return JunctionModels(
        street=street.name,
        junction=intersection_id,
        controller=street.controller,
        confidence=None if seen is None else seen.confidence,
        factors={} if seen is None else dict(seen.factors),
        models={
            name: said
            for name, said in street.models.items()
            if name not in ("canary", "shadow") or (said and intersection_id in said["junctions"])
        },
        history=list(history),
        **now,
    )


@router.post(
    "/predict",
    response_model=None,
    openapi_extra=_json("SeenJunction"),
    responses=PREDICTED,
    dependencies=[PREDICTS],
)
def predict(request: Request, street: Street, body: Body, model_id: ModelId = None) -> Response:
    """What would be decided at one junction for an observation: stage, seconds, confidence with its
    factors, alternatives with their expected delay, and why. By who decides on the street now, or
    by the model `model_id`. Nothing is remembered, and nothing reaches the street.
    """
    from headway.control.predict import read_one

    with refusing():
        (found,) = _predicted(request, street, model_id, [read_one(body)])
        if isinstance(found, str):
            raise ValueError(found)
    return Response(msgspec.json.encode(found), media_type="application/json")


@router.post(
    "/predict/batch",
    response_model=None,
    openapi_extra=_json("SeenJunction", many=True),
    responses=PREDICTED_MANY,
    dependencies=[PREDICTS],
)
def predict_many(
    request: Request, street: Street, body: Body, model_id: ModelId = None
) -> Response:
    """The same for up to 1,000 observations: for each of them, in order, its prediction, or `fault`
    with what is wrong with it.
    """
    from headway.control.predict import read_many

    with refusing():
        found = _predicted(request, street, model_id, read_many(body))
    answers = [{"fault": one} if isinstance(one, str) else one for one in found]
    return Response(msgspec.json.encode(answers), media_type="application/json")


def _predicted(
    request: Request, street: RunningStreet, model_id: int | None, seen: Sequence[SeenJunction]
) -> list[Prediction | str]:
    services = services_of(request)
    champion = street.models.get("champion")
    label = street.controller if model_id is None else f"number {model_id}"

    def chosen() -> str | ModelFile:
        """Asked for where it is not known yet: then database and file are read."""
        if model_id is None and not champion:
            return label
        registry = registry_of(request)
        version = registry.find(label) if model_id is None else registry.get(model_id)
        return registry.file(version)

    return services.predictions.predict(street, label, chosen, seen)


@router.post("/deploy/{model_id}", responses=FOUND, dependencies=[ASKS])
def deploy(
    request: Request, who: Engineer, registry: Models, street: Street, model_id: Id, body: DeployIn
) -> Done:
    """A model decides on a street from its next tick on: everywhere (all), in turns with the
    champion (canary), or beside it, where nothing follows it (shadow). 409: the street refuses it,
    as a model of another network, and nothing has changed.
    """
    with refusing():
        found = registry.file(registry.get(model_id))
        order = body.order(found, who.name)
    arguments = {"model": found.label, **body.model_dump(exclude_unset=True)}
    return _change(
        request, street, PlacedOrder(street.name, "deploy", who.name, "", arguments), order
    )


@router.post("/rollback/{intersection_id:path}", responses=FOUND)
def rollback(
    request: Request, who: Operator, street: Street, intersection_id: Junction, body: RollbackIn
) -> Done:
    """A model does not decide any more, from the street's next tick on. 409: there is none."""
    junction_of(street, intersection_id)
    is_street = body.what == "deploy" or body.everywhere
    where = () if is_street else (intersection_id,)
    order = Rollback(body.what, where, who.name, body.model)
    placed = PlacedOrder(
        street.name, "rollback", who.name, "" if is_street else intersection_id, body.model_dump()
    )
    return _change(request, street, placed, order)


def _change(
    request: Request, street: RunningStreet, placed: PlacedOrder, order: Deploy | Rollback
) -> Done:
    """Waits until the street has obeyed or refused, ANSWER_WITHIN_S at most."""
    streets = street_service(request)
    with refusing():
        streets.change_models(placed, order)
    give_up_s = time.monotonic() + ANSWER_WITHIN_S
    while (found := streets.orders.find(street.name, placed.id)) is not None:
        if found.state is OrderState.REFUSED:
            raise ProblemError(409, f"{street.name}: {found.reason}")
        if found.state is not OrderState.ACCEPTED or time.monotonic() > give_up_s:
            break
        time.sleep(POLL_S)
    state = found.state if found is not None else OrderState.ACCEPTED
    what = order.model.label if isinstance(order, Deploy) else order.what
    return Done(detail=f"{street.name}: {placed.kind} {what}", id=placed.id, state=state)


@router.get("/metrics/{intersection_id:path}", responses=FOUND)
def metrics(request: Request, street: Street, intersection_id: Junction) -> Monitoring:
    """What the record says of who decides at a junction, as it was looked at last: drift of what
    is observed and of what comes of it, calibration of the confidence, quality of the data.
    """
    return services_of(request).selfwatch.models.of_junction(intersection_id, street.name)


@router.post("/metrics", responses=FOUND)
def metrics_of_many(request: Request, street: Street, body: JunctionsIn) -> list[Monitoring]:
    """The same of several junctions of a street, in the order in which they are named."""
    return [metrics(request, street, junction) for junction in body.intersections]


@router.get("/performance/{intersection_id:path}", responses=FOUND, dependencies=[ASKS])
def performance(
    request: Request, who: Viewer, street: Street, intersection_id: Junction
) -> Performance:
    """How a junction does now, how long decisions take, and what the street saves beside the
    network's own fixed time.
    """
    number, snapshot = junction_of(street, intersection_id), street.snapshot
    seen = snapshot.junctions[number] if snapshot is not None else None
    services, savings, why = services_of(request), None, "the street `baseline` does not run here"
    looked = services.selfwatch.models.newest.get(street.name)
    beside = street_service(request).streets.get("baseline")
    if beside is None or not who.bounds.has_street("baseline"):
        pass
    elif beside.controller != FIXED_TIME:
        why = f"the street `baseline` is controlled by {beside.controller}, not by fixed time"
    else:
        factors = street.task.settings.business
        try:
            savings, why = _savings(services, street.run, beside.run, factors), ""
        except MissingError as error:
            why = f"beside the street `baseline`: {error}"
    return Performance(
        street=street.name,
        junction=intersection_id,
        controller=street.controller,
        vehicles=seen.vehicles if seen is not None else None,
        stopped=seen.stopped if seen is not None else None,
        longest_wait_s=seen.longest_wait_s if seen is not None else None,
        tick_ms=snapshot.tick_ms if snapshot is not None else None,
        latency=looked.latency if looked is not None else None,
        savings=savings,
        why=why,
    )


def _savings(services: Services, run: int, baseline: int, factors: BusinessSettings) -> Business:
    """For all junctions at once: runs of weeks take a second. Raises MissingError."""

    def make() -> bytes:
        return SAVINGS.dump_json(business(services.database, run, baseline, factors))

    return SAVINGS.validate_json(services.cache.get(f"{run} {baseline} {factors!r}", make))


@router.get("/health", responses=OK, dependencies=[ASKS])
def health(request: Request, who: Viewer, registry: Models, jobs: AllJobs) -> ModelHealth:
    """Whether jobs are done, and who decides on the streets that run here."""
    service, backlog = services_of(request).street_service, jobs.backlog()
    streets = list(service.streets.values()) if service is not None else []
    return ModelHealth(
        status="degraded" if backlog.is_left_lying else "ok",
        models=next((newest.id for newest in registry.list(1)), 0),  # numbered without gaps
        jobs=backlog,
        streets=[
            StreetModels(
                street=s.name, controller=s.controller, status=s.status, models=dict(s.models)
            )
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
