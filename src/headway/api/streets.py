"""Router of the streets: state, override, emergency, controller, scenario, speed factor; each order
is in the audit trail.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self, get_args

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.requests import HTTPConnection

from headway.api.dependencies import bounds_of, need, services_of
from headway.api.fields import WHOLE
from headway.api.problems import ProblemError, responses
from headway.api.security import Principal, Role
from headway.plants import PlantError
from headway.plants.sumo import RESCO, network_of, read_shapes
from headway.plants.sumo.allowed import ScenarioNotAllowedError, allowed_scenario, scenarios_in
from headway.plants.sumo.trial import try_start
from headway.roads import PROFILES, RoadsError, work_out
from headway.safety import Order, Override
from headway.service.orders import ORDERS_KEPT, OrderFilter, OrderState, PlacedOrder
from headway.service.running_street import FIXED_TIME, RunningStreet, require_changeable, rules_of
from headway.service.streets import StreetService
from headway.settings import ControllerName, RuleSettings, SpeedFactor
from headway.street.alerts import fault_of
from headway.street.external.places import Places
from headway.street.messages import (
    AtJunction,
    ChangeRule,
    Optimise,
    Release,
    Reset,
    Switch,
)

router = APIRouter(
    prefix="/api/v1", tags=["engine"], dependencies=[Depends(need(Role.VIEWER))]
)  # before anything is looked up
Name = Annotated[str, Path(max_length=64, pattern=r"^[a-z0-9-]+$", examples=["headway"])]
OK = responses(401, 403)
FOUND = responses(401, 403, 404, 422)
ORDER = responses(401, 403, 404, 409, 422, 503)
ANSWER_S = 0.15  # a street obeys between two ticks: some 10 ms; an answer has 0.2 s
POLL_S = 0.002


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class OverrideIn(_Order):
    """What a junction is to do for `lasts_s` simulated seconds: keep what it shows, show a stage
    (the number `stage`, from 0 on), flash, be released from an order, or be reset after a fault
    that is latched.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"order": {"const": "stage"}}},
            "then": {"required": ["stage"], "properties": {"stage": {"type": "integer"}}},
        }
    )

    order: Literal["hold", "stage", "flash", "release", "reset"]
    stage: Annotated[int, Field(ge=0, le=255), WHOLE] | None = None
    lasts_s: float = Field(default=60.0, gt=0.0, le=3600.0, strict=False)

    @model_validator(mode="after")
    def _has_its_stage(self) -> Self:
        if self.order == "stage" and self.stage is None:
            raise ValueError("the order stage needs the number of one: give stage, from 0 on")
        return self


class EmergencyIn(_Order):
    """The stage that serves the emergency vehicle, and for how many simulated seconds it is held.
    order: always "stage".
    """

    order: Literal["stage"] = "stage"
    stage: Annotated[int, Field(ge=0, le=255), WHOLE]
    lasts_s: float = Field(default=60.0, gt=0.0, le=3600.0, strict=False)


MOST_NOT_CONTROLLED = 50  # listed; a city may have hundreds


class ControllerIn(_Order):
    controller: ControllerName


class ScenarioIn(_Order):
    """A scenario of the catalogue, or the path of a .sumocfg below an allowed folder."""

    scenario: str = Field(min_length=1, max_length=1024, examples=["cologne1"])


class OptimisationIn(_Order):
    """enabled: the model that was champion when the optimisation was switched off, else the
    controller that an engineer ordered last (else that of the settings), or the network's own fixed
    time. cycle_s: of the optimisation cycle. speed_factor: simulated seconds per second, 0 as fast
    as possible. realtime: its old name.
    """

    model_config = ConfigDict(json_schema_extra={"not": {"required": ["speed_factor", "realtime"]}})

    enabled: bool | None = None
    cycle_s: float | None = Field(default=None, ge=5.0, le=600.0, strict=False)
    speed_factor: Annotated[SpeedFactor, Field(strict=False)] | None = None
    realtime: Annotated[SpeedFactor, Field(strict=False)] | None = Field(
        default=None, json_schema_extra={"deprecated": True}
    )

    @model_validator(mode="after")
    def _take_old_name(self) -> Self:
        if {"realtime", "speed_factor"} <= self.model_fields_set:
            raise ValueError("realtime is the old name of speed_factor. Give speed_factor alone")
        if self.realtime is not None:
            self.speed_factor, self.realtime = self.realtime, None
        return self


class Done(BaseModel):
    """An order that was sent to its street. id: of the order; state: what became of it so far."""

    done: bool = True
    detail: str
    id: str
    state: OrderState


class OrderOut(BaseModel):
    """An order and what became of it. junction: null where it is for the whole street. reason: why
    it was refused, has ended, or was not answered.
    """

    id: str
    street: str
    kind: str
    junction: str | None
    arguments: dict[str, Any]
    by: str
    state: OrderState
    reason: str
    at: datetime
    changed: datetime


class OverrideOut(BaseModel):
    """What a junction is kept at by an order. until_s, left_s: simulated seconds. by: who ordered
    it. kind: override or emergency, id: of the order; null for one of before the server's start.
    """

    junction: str
    order: Literal["hold", "stage", "flash"]
    stage: int | None
    until_s: float
    left_s: float
    by: str
    kind: str | None
    id: str | None


@dataclass(frozen=True, slots=True)
class OrderQuery:
    """Which orders; empty for any."""

    state: OrderState | None = None
    kind: Annotated[str | None, Query(max_length=32)] = None
    junction: Annotated[str | None, Query(max_length=256)] = None
    by: Annotated[str | None, Query(max_length=256)] = None


def service(request: Request) -> StreetService:
    found: StreetService | None = services_of(request).street_service
    if found is None:
        raise ProblemError(404, "this server runs no street")
    return found


def street_by_name(request: Request, name: Name) -> RunningStreet:
    streets = service(request).streets
    if name not in streets:
        known = ", ".join(filter(bounds_of(request).has_street, streets)) or "none"
        raise ProblemError(404, f"no street {name!r}. There are: {known}.")
    return streets[name]


def usual_street(connection: HTTPConnection) -> str:
    """Of whoever names none. Raises ProblemError 422 where it is not clear which is meant."""
    services = services_of(connection)
    if name := services.usual_street:
        return name
    streets = services.street_service.streets if services.street_service is not None else {}
    known = ", ".join(filter(bounds_of(connection).has_street, streets))
    raise ProblemError(422, f"name the street, as in ?street=NAME. There are: {known}.")


def junction_of(street: RunningStreet, junction: str) -> int:
    """Its number. Raises ProblemError 404."""
    for number, j in enumerate(street.network.junctions):
        if j.id == junction:
            return number
    raise ProblemError(404, f"street {street.name!r} has no junction {junction!r}")


def folders_of(request: Request) -> list[str]:
    """From which scenarios may be chosen, by the settings of the streets."""
    found = services_of(request).street_service
    streets = found.streets.values() if found is not None else ()
    return list({f: None for s in streets for f in s.task.settings.sumo.folders})


Street = Annotated[RunningStreet, Depends(street_by_name)]
RuleName = Annotated[
    str,
    Path(max_length=64, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_. -]*$", examples=["long wait"]),
]
OrderId = Annotated[str, Path(max_length=32, pattern=r"^[0-9a-f]+$")]
Operator = Annotated[Principal, Depends(need(Role.OPERATOR))]
Engineer = Annotated[Principal, Depends(need(Role.ENGINEER))]


def state_of(street: RunningStreet) -> dict[str, Any]:
    """The state of a street as plain figures."""
    s = street.snapshot
    base = {
        "street": street.name,
        "scenario": street.scenario,
        "controller": s.controller if s else street.task.settings.control.controller,
        "status": street.status,
        "status_by": street.status_by,
        "finished": street.finished,
        "fault": street.fault or (street.remote.away if street.remote is not None else ""),
        "run": street.run,
        "not_controlled": [
            {"signals": x.tl_ids, "link": x.place if x.place >= 0 else None, "reason": x.reason}
            for x in street.network.not_controlled[:MOST_NOT_CONTROLLED]
        ],
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
            "factors": dict(j.factors),
            "congested": list(j.congested),
            "fault": j.fault,
            "order": _order_of(j.order),
        }
        for j in s.junctions
    ]
    return base | {
        "started": True,
        "time_s": s.time_s,
        "begin_s": s.begin_s,
        "end_s": s.end_s if s.end_s < 1e17 else None,
        "vehicles": s.vehicles,
        "stopped": s.stopped,
        "halted": s.stopped,  # its old name, until 0.2 (docs/deprecated.md)
        "source": s.source,
        "interventions": s.interventions,
        "cycles": s.cycles,
        "cycle_success_rate": s.cycles_ok / s.cycles if s.cycles else None,
        "overruns": s.overruns,
        "jitter_p99_s": s.jitter_p99_s,
        "tick_ms": s.tick_ms,
        "checkpoint_s": s.checkpoint_s,
        "trouble": s.trouble or street.trouble,
        "mode": s.mode,
        "speed_factor": s.speed_factor,
        "cycle_s": s.cycle_s,
        "junctions": junctions,
    }


def _order_of(order: Override | None) -> dict[str, Any] | None:
    """An operator's order that is in force: what, until when in simulated seconds, and by whom."""
    if order is None:
        return None
    stage = order.stage if order.order is Order.STAGE else None
    return {"order": order.order.value, "stage": stage, "until_s": order.until_s, "by": order.by}


@router.get("/engine/state", responses=responses(401, 403, 404))
def state(
    request: Request, who: Annotated[Principal, Depends(need(Role.VIEWER))]
) -> list[dict[str, Any]]:
    """All streets. `halted` is the deprecated name of `stopped`."""
    streets = service(request).streets.values()
    return [state_of(street) for street in streets if who.bounds.has_street(street.name)]


@router.get("/engine/streets/{name}", responses=FOUND)
def one(street: Street) -> dict[str, Any]:
    """One street. `halted` is the deprecated name of `stopped`."""
    return state_of(street)


@router.get("/engine/streets/{name}/history", responses=FOUND)
def history(street: Street) -> dict[str, Any]:
    """Every 5 s of its time: mean over the junctions of the longest wait (s), vehicles, stopped
    ones (`halted`: deprecated name of `stopped`).
    """
    rows = list(street.history)
    return {
        "n": len(rows),
        "time_s": [r[0] for r in rows],
        "wait_s": [r[1] for r in rows],
        "vehicles": [r[2] for r in rows],
        "stopped": [r[3] for r in rows],
        "halted": [r[3] for r in rows],  # its old name, until 0.2 (docs/deprecated.md)
    }


@router.get("/engine/streets/{name}/alerts", responses=FOUND)
def alerts(street: Street) -> list[dict[str, Any]]:
    """Alerts that are open."""
    return list(street.alerts.values())


class StreetRule(RuleSettings):
    """An alert rule. fixed: it stands in the settings, and is changed there. fault: why it can
    never hold on the street of the moment; empty where it can.
    """

    fixed: bool
    fault: str


@router.get("/engine/streets/{name}/alert-rules", responses=FOUND)
def alert_rules(street: Street) -> list[StreetRule]:
    """The alert rules on a street: those of the settings, then those that were set here."""
    return [
        StreetRule(**known.rule.model_dump(), fixed=not known.ordered, fault=known.fault)
        for known in rules_of(street)
    ]


@router.put("/engine/streets/{name}/alert-rules/{rule}", responses=ORDER)
def set_alert_rule(
    request: Request, who: Engineer, street: Street, rule: RuleName, body: RuleSettings
) -> Done:
    """An alert rule beside those of the settings, in place of the one of that name that was set
    before; it outlives the street's process and the server. path: of a figure of the street, as
    `junctions.*.queue` or `loop.load`, with the street's own junctions. The order is on record.
    """
    if body.name != rule:
        raise ProblemError(422, f"name: the path says {rule!r}, the rule {body.name!r}")
    if fault := fault_of(body, [junction.id for junction in street.network.junctions]):
        raise ProblemError(422, fault)
    require_changeable(street, rule)
    order = _for_street(street, "alert_rule", who, body)
    return _place(request, order, ChangeRule(rule, body), detail=f"alert rule {rule!r} is set")


@router.delete("/engine/streets/{name}/alert-rules/{rule}", responses=ORDER)
def remove_alert_rule(request: Request, who: Engineer, street: Street, rule: RuleName) -> Done:
    """Forget an alert rule that was set here; its alerts are closed."""
    names = [known.rule.name for known in rules_of(street)]
    if rule not in names:
        known = ", ".join(names) or "none"
        raise ProblemError(404, f"no alert rule {rule!r} on {street.name!r}. There are: {known}.")
    require_changeable(street, rule)
    order = PlacedOrder(street.name, "alert_rule", who.name, arguments={"removed": rule})
    return _place(request, order, ChangeRule(rule, None), detail=f"alert rule {rule!r} is removed")


@router.get("/engine/streets/{name}/report", responses=FOUND)
def report(street: Street) -> dict[str, Any]:
    """One status report: the street, and its real-time loop (rates, time steps, stability, sections
    of the profile, streams, alerts, recovery), at most a second old; null before it starts.
    """
    return {"street": state_of(street), "loop": street.report}


@router.get("/engine/streets/{name}/map", responses=FOUND)
def shapes(street: Street) -> dict[str, Any]:
    """What a map is drawn from: lanes (width m, points), junctions' outlines, signal heads (x, y,
    direction, junction number); names of the junctions, with who has green in each stage
    (`serves`).
    """
    found, network = read_shapes(street.network), street.network
    places = Places(network)
    number = network.group_junction.tolist()
    return {
        "street": street.name,
        "lanes": [[w, p] for name, w, p in found.lanes],
        "junctions": found.junctions,
        "signals": [[*s, number[g]] for g, s in enumerate(found.signals)],
        "names": [
            {
                "id": j.id,
                "stages": len(j.stages),
                "serves": places.served(k),
                "first": j.first,
                "end": j.end,
            }
            for k, j in enumerate(network.junctions)
        ],
    }


@router.get("/engine/scenarios", responses=OK)
def scenarios(request: Request) -> list[str]:
    """What can be switched to: scenarios of the catalogue, and `.sumocfg` files by their path below
    an allowed folder (settings: `sumo.folders`).
    """
    return [*RESCO, *scenarios_in(folders_of(request))]


@router.get("/engine/controllers", responses=OK)
def controllers() -> list[ControllerName]:
    """Names of the controllers that can be switched to."""
    return list(get_args(ControllerName))


@router.post("/engine/streets/{name}/junctions/{junction:path}/override", responses=ORDER)
def override(
    request: Request, principal: Operator, street: Street, junction: str, body: OverrideIn
) -> Done:
    """An operator's order for one junction; the safety gate finds the way there."""
    return _override(request, principal, street, junction, body, "override")


def _override(
    request: Request,
    principal: Principal,
    street: RunningStreet,
    junction: str,
    body: OverrideIn,
    kind: str,
) -> Done:
    number = junction_of(street, junction)
    name = street.network.junctions[number].id
    arguments = body.model_dump(exclude_none=True)
    placed = PlacedOrder(street.name, kind, principal.name, name, arguments)
    if body.order == "release":
        released = AtJunction(Release(number, principal.name), name)
        return _place(request, placed, released, detail=f"{junction} is released")
    if body.order == "reset":
        reset = AtJunction(Reset(number, principal.name), name)
        return _place(request, placed, reset, detail=f"{junction} is reset if its lamps obey")
    stage = -1 if body.stage is None or body.order != "stage" else body.stage
    if stage >= len(street.network.junctions[number].stages):
        raise ProblemError(
            422,
            (
                f"junction {junction!r} has {len(street.network.junctions[number].stages)} stages; "
                f"there is no stage {stage}"
            ),
        )
    order = Override(
        junction=number,
        order=Order(body.order),
        until_s=body.lasts_s,  # from when it is obeyed
        by=principal.name,
        stage=stage,
    )
    before = street.events_recorded
    done = _place(
        request,
        placed,
        AtJunction(order, name, body.lasts_s),
        detail=f"{junction}: {body.order} for {body.lasts_s:g} s",
    )
    if order.order is Order.HOLD:
        done.detail += _held_stage(street, name, order.by, before)
        done.state = _state_now(request, placed.street, done.id)
    return done


def _place(
    request: Request,
    order: PlacedOrder,
    *orders: AtJunction | Optimise | Switch | ChangeRule,
    detail: str,
) -> Done:
    """Send orders to a street, on record as one. detail: what is done, in words."""
    return _done(request, service(request).place(order, *orders), detail)


def _done(request: Request, placed: PlacedOrder, detail: str) -> Done:
    state = _state_now(request, placed.street, placed.id)
    return Done(detail=detail, id=placed.id, state=state)


def _state_now(request: Request, street: str, order_id: str) -> OrderState:
    found = service(request).orders.find(street, order_id)
    return found.state if found is not None else OrderState.ACCEPTED


def _held_stage(street: RunningStreet, junction: str, by: str, before: int) -> str:
    """What the street's gate says about a hold that was ordered when the street had recorded
    `before` events: the stage that it keeps, by its number if it has one. Empty if it does not say
    so within ANSWER_S; the event comes all the same.
    """
    give_up_s = time.monotonic() + ANSWER_S
    while time.monotonic() < give_up_s:
        new = street.events_recorded - before
        for event in tuple(street.events)[-new:] if new else ():
            said = (event.kind, event.junction, event.data.get("order"), event.data.get("by"))
            if said == ("safety.override", junction, "hold", by):
                number = event.data["stage"]
                name = f"stage {number}" if number >= 0 else "a stage without a number"
                return f"; {name} is kept, green at {event.data['green']}"
        time.sleep(POLL_S)
    return ""


@router.post("/engine/streets/{name}/emergency/{junction:path}", responses=ORDER)
def emergency(
    request: Request, principal: Operator, street: Street, junction: str, body: EmergencyIn
) -> Done:
    """Clear a junction for an emergency vehicle by hand: the stage given is shown as soon as the
    rules allow it.
    """
    order = OverrideIn(order="stage", stage=body.stage, lasts_s=body.lasts_s)
    return _override(request, principal, street, junction, order, "emergency")


@router.post("/engine/streets/{name}/controller", responses=ORDER)
def controller(request: Request, who: Engineer, street: Street, body: ControllerIn) -> Done:
    """Another controller, from the next tick on."""
    order = _for_street(street, "controller", who, body)
    switched = Switch(controller=body.controller)
    return _place(request, order, switched, detail=f"{body.controller} takes over")


@router.get("/engine/streets/{name}/overrides", responses=FOUND)
def overrides(request: Request, street: Street) -> list[OverrideOut]:
    """Overrides that are in force, by junction. The order `release` ends one before its time."""
    if (now := street.snapshot) is None:
        return []
    placed = service(request).orders.in_force(street.name)
    found = []
    for junction in now.junctions:
        if (order := _order_of(junction.order)) is not None:
            known = placed.get(junction.junction)
            found.append(
                OverrideOut(
                    junction=junction.junction,
                    **order,
                    left_s=max(order["until_s"] - now.time_s, 0.0),
                    kind=known.kind if known is not None else None,
                    id=known.id if known is not None else None,
                )
            )
    return found


def _for_street(street: RunningStreet, kind: str, who: Principal, body: BaseModel) -> PlacedOrder:
    arguments = body.model_dump(exclude_none=True)
    return PlacedOrder(street.name, kind, who.name, arguments=arguments)


@router.post("/engine/streets/{name}/scenario", responses=ORDER)
def switch(request: Request, who: Engineer, street: Street, body: ScenarioIn) -> Done:
    """Another scenario, from its beginning: of the catalogue, or a `.sumocfg` of an allowed folder
    (403 for another place). SUMO is first tried with it, beside the street that runs.
    """
    switched = Switch(scenario=_startable(street, body.scenario))
    order = _for_street(street, "scenario", who, body)
    return _place(request, order, switched, detail=f"{body.scenario} begins")


def _startable(street: RunningStreet, name: str) -> str:
    """The scenario as the street's process takes it. Raises ProblemError 403 or 422."""
    from headway.street.run import sumo_settings  # with the compiler: see `headway.plants.sumo`

    settings = street.task.settings
    try:
        found = allowed_scenario(name, settings.sumo.folders)
        work_out(network_of(found), PROFILES[settings.street.timing])
        if name in RESCO:
            return name
        try_start(sumo_settings(settings, found))
    except ScenarioNotAllowedError as error:
        raise ProblemError(403, str(error)) from error
    except (RoadsError, PlantError, ValueError, OSError) as error:
        raise ProblemError(422, str(error)) from error
    return found.sumocfg


@router.post("/engine/streets/{name}/optimisation", responses=ORDER)
def optimisation(request: Request, who: Operator, street: Street, body: OptimisationIn) -> Done:
    """Optimisation on or off, its cycle, the speed factor of the simulation."""
    orders = list[Switch | Optimise]()
    if body.enabled is not None:
        controller = street.optimiser if body.enabled else FIXED_TIME
        orders.append(Switch(controller=controller, optimise=body.enabled))
    if body.cycle_s is not None or body.speed_factor is not None:
        speed_factor = -1.0 if body.speed_factor is None else body.speed_factor
        orders.append(Optimise(body.cycle_s or 0.0, speed_factor))
    order = _for_street(street, "optimisation", who, body)
    return _place(request, order, *orders, detail=body.model_dump_json(exclude_none=True))


@router.post("/engine/streets/{name}/pause", responses=ORDER)
def pause(request: Request, who: Engineer, street: Street) -> Done:
    """The simulated time of a street stands until it is resumed: its signals keep what they show,
    orders are taken, and what they end is counted in its own time. Refused (409) for a street that
    is observed from outside, where the traffic does not wait.
    """
    placed = service(request).pause(PlacedOrder(street.name, "pause", who.name), on=True)
    return _done(request, placed, f"{street.name}: time stands")


@router.post("/engine/streets/{name}/resume", responses=ORDER)
def resume(request: Request, who: Engineer, street: Street) -> Done:
    """The time of a street that was paused goes on."""
    placed = service(request).pause(PlacedOrder(street.name, "resume", who.name), on=False)
    return _done(request, placed, f"{street.name}: time goes on")


@router.post("/engine/streets/{name}/stop", responses=ORDER)
def stop(request: Request, who: Engineer, street: Street) -> Done:
    """A street writes a checkpoint and ends; it stays stopped until it is started, also over a
    start of the server.
    """
    placed = _or_unavailable(service(request).stop_one, PlacedOrder(street.name, "stop", who.name))
    return _done(request, placed, f"{street.name} is stopped")


@router.post("/engine/streets/{name}/start", responses=ORDER)
def start(request: Request, who: Engineer, street: Street) -> Done:
    """A street that was stopped goes on from where it was; one that was given up from its last
    checkpoint, one that is finished from its beginning.
    """
    order = PlacedOrder(street.name, "start", who.name)
    placed = _or_unavailable(service(request).start_again, order)
    return _done(request, placed, f"{street.name} is started")


def _or_unavailable(act: Callable[[PlacedOrder], PlacedOrder], order: PlacedOrder) -> PlacedOrder:
    """Raises ProblemError 503 where the disk does not keep it."""
    try:
        return act(order)
    except OSError as error:
        raise ProblemError(503, f"it cannot be kept on disk: {error}") from error


@router.get("/engine/streets/{name}/orders", responses=FOUND)
def orders(
    request: Request,
    street: Street,
    where: Annotated[OrderQuery, Depends()],
    limit: Annotated[int, Query(ge=1, le=ORDERS_KEPT)] = 100,
) -> list[OrderOut]:
    """Orders that were placed here, newest first. The last 500 of a street are kept, until the
    server ends; `order.accepted`, `order.applied`, `order.refused`, `order.ended` and
    `order.unanswered` tell them on the live stream `monitoring`.
    """
    found = service(request).orders.newest(street.name, OrderFilter(**asdict(where)), limit)
    return [OrderOut.model_validate(order.plain()) for order in found]


@router.get("/engine/streets/{name}/orders/{order_id}", responses=FOUND)
def order(request: Request, street: Street, order_id: OrderId) -> OrderOut:
    """One order: whether the street has acknowledged it (`applied`) or refused it, and why."""
    found = service(request).orders.find(street.name, order_id)
    if found is None:
        detail = (
            f"street {street.name!r} has no order {order_id!r} on record. The last {ORDERS_KEPT} "
            "since the start of the server are kept."
        )
        raise ProblemError(404, detail)
    return OrderOut.model_validate(found.plain())
