"""The engine's doors: state, override, emergency, controller, scenario, pace; each order in the
audit trail.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from headway.api.dependencies import need, services_of
from headway.api.problems import ProblemError, responses
from headway.api.security import Principal, Role
from headway.plants.sumo import read_network, read_shapes
from headway.plants.sumo.scenarios import RESCO, scenario
from headway.roads import RoadsError
from headway.safety import Order, Override
from headway.service.streets import RunningStreet, StreetService
from headway.street.messages import Optimise, Release, Switch

router = APIRouter(
    prefix="/api/v1", tags=["engine"], dependencies=[Depends(need(Role.VIEWER))]
)  # before anything is looked up
Name = Annotated[str, Path(max_length=64, pattern=r"^[a-z0-9-]+$", examples=["headway"])]
Controller = Literal[
    "fixed", "webster", "actuated", "greedy", "max-pressure", "planner", "q-learning"
]
OK = responses(401, 403)
FOUND = responses(401, 403, 404, 422)
ORDER = responses(401, 403, 404, 422, 503)


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class OverrideIn(_Order):
    """What a junction is to do until `lasts_s` seconds from now: keep what it shows, show a stage,
    flash, or be released.
    """

    order: Literal["hold", "stage", "flash", "release"]
    stage: int = Field(default=0, ge=0, le=255)
    lasts_s: float = Field(default=60.0, gt=0.0, le=3600.0, strict=False)


class ControllerIn(_Order):
    controller: Controller


class ScenarioIn(_Order):
    scenario: str = Field(
        min_length=1, max_length=64, pattern=r"^[a-z0-9]+$", examples=["cologne1"]
    )


class OptimisationIn(_Order):
    """enabled: Headway's planner, or the network's own fixed time. cycle_s: of the optimisation
    cycle. realtime: pace, 0 as fast as possible.
    """

    enabled: bool | None = None
    cycle_s: float | None = Field(default=None, ge=5.0, le=600.0, strict=False)
    realtime: float | None = Field(default=None, ge=0.0, le=1000.0, strict=False)


class Done(BaseModel):
    done: bool = True
    detail: str


def service(request: Request) -> StreetService:
    found: StreetService | None = services_of(request).street_service
    if found is None:
        raise ProblemError(404, "this server runs no street")
    return found


def street(request: Request, name: Name) -> RunningStreet:
    streets = service(request).streets
    if name not in streets:
        raise ProblemError(404, f"no street {name!r}. There are: {', '.join(streets) or 'none'}.")
    return streets[name]


def junction_of(live: RunningStreet, junction: str) -> int:
    """Its number. Raises ProblemError 404."""
    for number, j in enumerate(live.network.junctions):
        if j.id == junction:
            return number
    raise ProblemError(404, f"street {live.name!r} has no junction {junction!r}")


Street = Annotated[RunningStreet, Depends(street)]
Operator = Annotated[Principal, Depends(need(Role.OPERATOR))]
Engineer = Annotated[Principal, Depends(need(Role.ENGINEER))]


def told(live: RunningStreet) -> dict[str, Any]:
    """The state of a street as plain figures."""
    s = live.snapshot
    base = {
        "street": live.name,
        "scenario": live.scenario,
        "controller": s.controller if s else live.task.settings.control.controller,
        "finished": live.finished,
        "fault": live.fault,
        "run": live.run,
    }
    if s is None:
        return base | {"started": False}
    junctions = [
        {
            "id": j.junction,
            "vehicles": j.vehicles,
            "queue": j.stopped,
            "longest_wait_s": round(j.longest_wait_s, 1),
            "confidence": round(j.confidence, 3),
        }
        for j in s.junctions
    ]
    return base | {
        "started": True,
        "time_s": s.time_s,
        "begin_s": s.begin_s,
        "end_s": s.end_s if s.end_s < 1e17 else None,
        "vehicles": s.vehicles,
        "halted": s.stopped,
        "source": s.source,
        "interventions": s.interventions,
        "cycles": s.cycles,
        "overruns": s.overruns,
        "jitter_p99_s": s.jitter_p99_s,
        "tick_ms": s.tick_ms,
        "checkpoint_s": s.checkpoint_s,
        "trouble": s.trouble,
        "mode": s.mode,
        "junctions": junctions,
    }


@router.get("/engine/state", responses=responses(401, 403, 404))
def state(request: Request) -> list[dict[str, Any]]:
    """All streets."""
    return [told(live) for live in service(request).streets.values()]


@router.get("/engine/streets/{name}", responses=FOUND)
def one(live: Street) -> dict[str, Any]:
    """One street."""
    return told(live)


@router.get("/engine/streets/{name}/history", responses=FOUND)
def history(live: Street) -> dict[str, Any]:
    """Every 5 s of its time: mean over the junctions of the longest wait (s), vehicles, standing
    ones.
    """
    rows = list(live.history)
    return {
        "n": len(rows),
        "time_s": [r[0] for r in rows],
        "wait_s": [r[1] for r in rows],
        "vehicles": [r[2] for r in rows],
        "halted": [r[3] for r in rows],
    }


@router.get("/engine/streets/{name}/alerts", responses=FOUND)
def alerts(live: Street) -> list[dict[str, Any]]:
    """Alerts that are open."""
    return list(live.alerts.values())


@router.get("/engine/streets/{name}/map", responses=FOUND)
def shapes(live: Street) -> dict[str, Any]:
    """What a map is drawn from: lanes (width m, points), junctions' outlines, signal heads (x, y,
    direction, junction number).
    """
    found, network = read_shapes(live.network), live.network
    number = network.group_junction.tolist()
    return {
        "street": live.name,
        "lanes": [[w, p] for name, w, p in found.lanes],
        "junctions": found.junctions,
        "signals": [[*s, number[g]] for g, s in enumerate(found.signals)],
        "names": [
            {"id": j.id, "stages": len(j.stages), "first": j.first, "end": j.end}
            for j in network.junctions
        ],
    }


@router.get("/engine/scenarios", responses=OK)
def scenarios() -> list[str]:
    """Names of the scenarios that can be switched to."""
    return list(RESCO)


@router.post("/engine/streets/{name}/junctions/{junction:path}/override", responses=ORDER)
def override(
    request: Request, who: Operator, live: Street, junction: str, wish: OverrideIn
) -> Done:
    """An operator's order for one junction; the safety gate makes the way there."""
    number = junction_of(live, junction)
    if wish.order == "release":
        service(request).order(live.name, Release(number, who.name))
        return Done(detail=f"{junction} is released")
    if wish.order == "stage" and wish.stage >= len(live.network.junctions[number].stages):
        raise ProblemError(
            422,
            (
                f"junction {junction!r} has {len(live.network.junctions[number].stages)} stages; "
                f"there is no stage {wish.stage}"
            ),
        )
    until = (live.snapshot.time_s if live.snapshot else 0.0) + wish.lasts_s
    service(request).order(
        live.name,
        Override(
            number, Order(wish.order), until, who.name, wish.stage if wish.order == "stage" else -1
        ),
    )
    return Done(detail=f"{junction}: {wish.order} for {wish.lasts_s:g} s")


@router.post("/engine/streets/{name}/emergency/{junction:path}", responses=ORDER)
def emergency(
    request: Request, who: Operator, live: Street, junction: str, wish: OverrideIn
) -> Done:
    """Clear a junction for an emergency vehicle by hand: the stage that it needs, at once that the
    rules allow it.
    """
    return override(
        request,
        who,
        live,
        junction,
        OverrideIn(order="stage", stage=wish.stage, lasts_s=wish.lasts_s),
    )


@router.post("/engine/streets/{name}/controller", responses=ORDER)
def controller(request: Request, _: Engineer, live: Street, wish: ControllerIn) -> Done:
    """Another controller, from the next tick on."""
    service(request).order(live.name, Switch(controller=wish.controller))
    return Done(detail=f"{wish.controller} takes over")


@router.post("/engine/streets/{name}/scenario", responses=ORDER)
def switch(request: Request, _: Engineer, live: Street, wish: ScenarioIn) -> Done:
    """Another scenario, from its beginning."""
    try:
        read_network(scenario(wish.scenario).net)
    except (RoadsError, ValueError, OSError) as error:
        raise ProblemError(422, str(error)) from error
    service(request).order(live.name, Switch(scenario=wish.scenario))
    return Done(detail=f"{wish.scenario} begins")


@router.post("/engine/streets/{name}/optimisation", responses=ORDER)
def optimisation(request: Request, _: Operator, live: Street, wish: OptimisationIn) -> Done:
    """Optimisation on or off, its cycle, the pace of the simulation."""
    if wish.enabled is not None:
        service(request).order(live.name, Switch(controller="planner" if wish.enabled else "fixed"))
    if wish.cycle_s is not None or wish.realtime is not None:
        service(request).order(
            live.name,
            Optimise(wish.cycle_s or 0.0, wish.realtime if wish.realtime is not None else -1.0),
        )
    return Done(detail=wish.model_dump_json(exclude_none=True))
