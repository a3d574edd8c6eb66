"""Analytics, dashboards and charts over the database; answers are cached for some seconds."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import TypeAdapter

from headway.analytics import Scope, breakdown, dashboards, event_log, records, signals
from headway.api.dependencies import (
    ASKS,
    bounds_of,
    caller_of,
    end_of_caller,
    need,
    services_of,
)
from headway.api.fields import Moment, require_order, require_order_s
from headway.api.problems import responses
from headway.api.security import Principal, Role, digest
from headway.api.streaming import Long

Viewer = Annotated[Principal, Depends(need(Role.VIEWER))]


def own_runs(request: Request, who: Viewer) -> None:
    """A dependency: raises ProblemError 403 where credentials with bounds ask for a run, or for one
    beside it, that is not of their streets.
    """
    if who.bounds.are_none or "run" not in request.path_params:
        return
    asked = [request.path_params["run"], *request.query_params.getlist("baseline")]
    # "+7" is a number too: what is written in any other way is refused
    is_plain = all(n.isascii() and n.isdigit() and len(n) <= 18 for n in asked)
    numbers = [int(n) for n in asked] if is_plain else []
    known = signals.streets_of(services_of(request).database, numbers)
    who.bounds.require_streets(known.get(number, "") for number in numbers or [0])


router = APIRouter(dependencies=[Depends(need(Role.VIEWER)), ASKS, Depends(own_runs)])
Text = Annotated[
    str, Path(max_length=128, pattern=r"^[A-Za-z0-9_.:\-]+$", examples=["SIM_20250910_001"])
]
Maybe = Annotated[str | None, Query(max_length=128, pattern=r"^[A-Za-z0-9_.:\-]+$")]
Block = Annotated[float, Query(ge=5.0, le=86_400.0, description="simulated seconds")]
VehicleType = Annotated[str | None, Query(max_length=32, pattern=r"^[A-Za-z0-9_ \-]+$")]
Direction = Literal[
    "north", "south", "east", "west", "northeast", "northwest", "southeast", "southwest"
]
When = Annotated[Moment | None, Query(examples=["2025-09-10T00:00:00Z"])]
OK = responses(401, 403, 422, 503)
FOUND = responses(401, 403, 404, 422, 503)


def scope(
    intersection_id: Maybe = None,
    begin: When = None,
    end: When = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Scope:
    """A window of the records: one junction or all, [begin, end), and which part of a list: of rows
    over time the newest `limit` of them, older ones from `offset` on. The header Link says where a
    list that was cut goes on.
    """
    require_order(begin, end)
    return Scope(None, intersection_id, begin, end, limit, offset)


Window = Annotated[Scope, Depends(scope)]


def for_simulation(window: Scope, simulation: str | None) -> Scope:
    """The same window, of one simulation only; of all where it is None."""
    return Scope(simulation, window.junction, window.begin, window.end, window.limit, window.offset)


def answered(request: Request, kind: Any, ask: Callable[[], Any]) -> Response:
    """The answer as JSON: from the cache, or asked now."""
    body = cached(request, lambda: TypeAdapter(kind).dump_json(ask()))
    return Response(body, media_type="application/json")


def listed(
    request: Request, kind: Any, ask: Callable[[Scope], list[Any]], window: Scope, newest: bool
) -> Response:
    """As `answered`, of a list that is cut at the window's limit: the header Link then says where
    it goes on. newest: the last rows are those that count, the first one too many is the oldest.
    """

    def make() -> bytes:
        rows = ask(replace(window, limit=window.limit + 1))
        kept = rows[-window.limit :] if newest else rows[: window.limit]
        is_cut = len(rows) > window.limit
        return (CUT if is_cut else WHOLE) + TypeAdapter(kind).dump_json(kept)

    answer = cached(request, make)
    headers = link_to_next(request, window) if answer.startswith(CUT) else {}
    return Response(answer[len(CUT) :], media_type="application/json", headers=headers)


def cached(request: Request, make: Callable[[], bytes]) -> bytes:
    """What `make` makes, of now or of some seconds ago; the same for all who ask the same, with the
    same bounds.
    """
    asked = f"{sorted(request.query_params.multi_items())} {bounds_of(request).claims()}"
    key = f"{request.url.path}?{digest(asked)}"  # a query may have 64 KiB
    return services_of(request).cache.get(key, make)


def cut(
    request: Request, response: Response, rows: list[Any], limit: int, offset: int
) -> list[Any]:
    """The first `limit` of the rows that were asked for, which are one more; the header Link says
    where the next ones are, if there are any.
    """
    if len(rows) > limit:
        response.headers.update(link_to_next(request, Scope(limit=limit, offset=offset)))
    return rows[:limit]


def link_to_next(request: Request, window: Scope) -> dict[str, str]:
    """The header Link (RFC 8288) to the next part of a list."""
    after = window.offset + window.limit
    asked = request.url.remove_query_params("token")  # a secret
    address = asked.include_query_params(limit=window.limit, offset=after)
    return {"Link": f'<{address.path}?{address.query}>; rel="next"'}


A = "/api/v1/analytics"
CUT, WHOLE = b"+", b"."  # first byte of a list in the cache: whether it goes on


@router.get(
    f"{A}/simulation/{{id}}/summary",
    tags=["analytics"],
    response_model=records.Summary,
    responses=FOUND,
)
def summary(request: Request, id: Text) -> Response:
    """Totals and means of one simulation."""
    return answered(
        request, records.Summary, lambda: records.summary(services_of(request).database, id)
    )


@router.get(
    f"{A}/wait-times", tags=["analytics"], response_model=list[records.Waits], responses=FOUND
)
def waits(request: Request, window: Window, simulation_id: Maybe = None) -> Response:
    """Mean, median and 95th percentile of the waits of each junction, seconds."""
    database, asked = services_of(request).database, for_simulation(window, simulation_id)
    ask = partial(records.waits, database)
    return listed(request, list[records.Waits], ask, asked, newest=False)


@router.get(f"{A}/speeds", tags=["analytics"], response_model=list[records.Speeds], responses=FOUND)
def speeds(request: Request, window: Window, simulation_id: Maybe = None) -> Response:
    """Mean, median and 15th percentile of the mean speeds of each junction, km/h."""
    database, asked = services_of(request).database, for_simulation(window, simulation_id)
    ask = partial(records.speeds, database)
    return listed(request, list[records.Speeds], ask, asked, newest=False)


@router.get(
    f"{A}/environmental-impact",
    tags=["analytics"],
    response_model=records.ReportedSavings,
    responses=FOUND,
)
def impact(
    request: Request,
    window: Window,
    simulation_id: Maybe = None,
    fuel_price_per_l: Annotated[float, Query(gt=0, le=100)] = 1.70,
    co2_kg_per_l: Annotated[float, Query(gt=0, le=10)] = 2.31,
) -> Response:
    """Fuel and CO2 saved as reported, and what the fuel is worth at the price given."""
    return answered(
        request,
        records.ReportedSavings,
        lambda: records.impact(
            services_of(request).database,
            for_simulation(window, simulation_id),
            fuel_price_per_l,
            co2_kg_per_l,
        ),
    )


@router.get(
    f"{A}/comparison/baseline-vs-ai",
    tags=["analytics"],
    response_model=records.Comparison | dashboards.StreetComparison,
    responses=FOUND,
)
def comparison(
    request: Request,
    window: Window,
    baseline: Annotated[str, Query(max_length=128, pattern=r"^[A-Za-z0-9_.:\-]+$")],
    ai: Annotated[str, Query(max_length=128, pattern=r"^[A-Za-z0-9_.:\-]+$")],
    block_s: Block = dashboards.BLOCK_S,
) -> Response:
    """Two simulations, paired by junction and by second since each one's begin: differences, 95 %
    intervals, p, effect sizes. Of two streets of this server (street:headway, or run:NUMBER), runs
    over the same demand, paired by junction and block of simulated time.
    """
    return answered(
        request,
        records.Comparison | dashboards.StreetComparison,
        lambda: dashboards.compare(services_of(request).database, baseline, ai, window, block_s),
    )


@router.get(
    f"{A}/breakdown",
    tags=["analytics"],
    response_model=list[breakdown.Breakdown],
    responses=FOUND,
)
def broken_down(
    request: Request,
    window: Window,
    simulation_id: Maybe = None,
    by: breakdown.By = "direction",
    bucket: breakdown.Bucket = "hour",
    direction: Direction | None = None,
    vehicle_type: VehicleType = None,
) -> Response:
    """Waits, throughput and counts by direction, by vehicle type or by both, of each hour, day or
    hour of the day (UTC).
    """
    database, asked = services_of(request).database, for_simulation(window, simulation_id)
    ask = partial(
        breakdown.breakdown,
        database,
        by=by,
        bucket=bucket,
        direction=direction,
        vehicle_type=vehicle_type,
    )
    newest = bucket in breakdown.OF_MOMENTS
    return listed(request, list[breakdown.Breakdown], ask, asked, newest=newest)


@router.get(
    f"{A}/emergency-report", tags=["analytics"], response_model=records.Emergencies, responses=FOUND
)
def emergencies(request: Request, window: Window, simulation_id: Maybe = None) -> Response:
    """Emergency vehicles and overrides."""
    return answered(
        request,
        records.Emergencies,
        lambda: records.emergencies(
            services_of(request).database, for_simulation(window, simulation_id)
        ),
    )


@router.get(
    f"{A}/time-series/{{id}}", tags=["analytics"], response_model=records.Series, responses=FOUND
)
def series(
    request: Request,
    id: Text,
    window: Window,
    bucket_s: Annotated[int, Query(ge=1, le=86_400)] = 60,
) -> Response:
    """Means of one simulation over time: the newest `limit` buckets, oldest first."""
    return answered(
        request,
        records.Series,
        lambda: records.series(services_of(request).database, for_simulation(window, id), bucket_s),
    )


@router.get("/api/v1/dashboard/live-metrics", tags=["dashboard"], responses=OK)
def live(request: Request) -> dict[str, Any]:
    """The newest row of each junction of each simulation: of ingested records of the last hour, and
    of this server's streets (street:NAME); totals over all of these, and for each simulation.
    """
    return answered(request, dict[str, Any], lambda: dashboards.live(services_of(request).database))  # type: ignore[return-value]


@router.get("/api/v1/dashboard/performance-comparison", tags=["dashboard"], responses=FOUND)
def performance(
    request: Request,
    window: Window,
    simulation_id: Maybe = None,
    baseline: Maybe = None,
    block_s: Block = dashboards.BLOCK_S,
) -> list[dict[str, Any]]:
    """Each simulation's means, shortest wait first, and its paired comparison with a baseline;
    streets of this server are compared with street:baseline unless another one is named.
    """
    database, asked = services_of(request).database, for_simulation(window, simulation_id)
    ask = partial(dashboards.performance, database, baseline=baseline, block_s=block_s)
    return listed(request, list[dict[str, Any]], ask, asked, newest=False)  # type: ignore[return-value]


@router.get(
    "/api/v1/charts/wait-time-trend",
    tags=["charts"],
    response_model=records.Series,
    responses=FOUND,
)
def trend(
    request: Request,
    window: Window,
    simulation_id: Maybe = None,
    bucket_s: Annotated[int, Query(ge=1, le=86_400)] = 300,
) -> Response:
    """Waits over time: the newest `limit` buckets, oldest first."""
    return answered(
        request,
        records.Series,
        lambda: records.series(
            services_of(request).database, for_simulation(window, simulation_id), bucket_s
        ),
    )


@router.get("/api/v1/charts/performance-scatter", tags=["charts"], responses=FOUND)
def scatter(request: Request, window: Window, simulation_id: Maybe = None) -> list[dict[str, Any]]:
    """Throughput beside wait, a point a record: the newest `limit`, oldest first."""
    database, asked = services_of(request).database, for_simulation(window, simulation_id)
    ask = partial(records.scatter, database)
    return listed(request, list[dict[str, Any]], ask, asked, newest=True)  # type: ignore[return-value]


@router.get("/api/v1/runs", tags=["signals"], responses=OK)
def runs(
    request: Request,
    who: Viewer,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> list[dict[str, Any]]:
    """The engine's runs, newest first."""
    database = services_of(request).database
    rows = signals.runs(database, limit + 1, offset, who.bounds.only_streets)
    return cut(request, response, rows, limit, offset)


Run = Annotated[int, Path(ge=1, le=2**62)]


@dataclass(frozen=True, slots=True)
class Part:
    """Of one run: a junction or all, [begin_s, end_s) of the street's own time."""

    run: int
    junction: str | None
    begin_s: float
    end_s: float


def part(
    run: Run,
    junction: Annotated[str | None, Query(max_length=256)] = None,
    begin_s: Annotated[float, Query(ge=0, le=1e12)] = 0.0,
    end_s: Annotated[float, Query(ge=0, le=1e12)] = 1e12,
) -> Part:
    require_order_s(begin_s, end_s)
    return Part(run, _text(junction), begin_s, end_s)


PartOf = Annotated[Part, Depends(part)]


def measured(request: Request, kind: Any, measure: Callable[..., Any], run_part: Part) -> Response:
    database, p = services_of(request).database, run_part

    def ask() -> Any:
        records.need_run(database, p.run)
        return measure(database, p.run, p.junction, p.begin_s, p.end_s)

    return answered(request, kind, ask)


@router.get(
    "/api/v1/runs/{run}/splits",
    tags=["signals"],
    response_model=list[signals.Split],
    responses=FOUND,
)
def splits(request: Request, run_part: PartOf) -> Response:
    """Greens of each signal group: how many, how long, what share of the time."""
    return measured(request, list[signals.Split], signals.splits, run_part)


@router.get(
    "/api/v1/runs/{run}/arrivals",
    tags=["signals"],
    response_model=list[signals.Arrivals],
    responses=FOUND,
)
def arrivals(request: Request, run_part: PartOf) -> Response:
    """Arrivals on green, yellow and red, approach delay, split failures and detector health of each
    signal group.
    """
    return measured(request, list[signals.Arrivals], signals.arrivals, run_part)


@router.get(
    "/api/v1/runs/{run}/terminations",
    tags=["signals"],
    response_model=list[signals.Terminations],
    responses=FOUND,
)
def terminations(request: Request, run_part: PartOf) -> Response:
    """What ended the greens of each signal group (gap-out, max-out, force-off), and its mean
    split.
    """
    return measured(request, list[signals.Terminations], signals.terminations, run_part)


@router.get(
    "/api/v1/runs/{run}/pedestrian-delay",
    tags=["signals"],
    response_model=list[signals.PedestrianDelay],
    responses=FOUND,
)
def pedestrian_delay(request: Request, run_part: PartOf) -> Response:
    """Seconds from a pedestrian's call to the walk signal, for each crossing."""
    return measured(request, list[signals.PedestrianDelay], signals.pedestrian_delay, run_part)


@router.get(
    "/api/v1/runs/{run}/environmental-impact",
    tags=["signals"],
    response_model=signals.EmissionComparison,
    responses=FOUND,
)
def run_impact(
    request: Request,
    run: Run,
    baseline: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    fuel_price_per_l: Annotated[float, Query(gt=0, le=100)] = 1.70,
    begin_s: Annotated[float, Query(ge=0, le=1e12)] = 0.0,
    end_s: Annotated[float, Query(ge=0, le=1e12)] = 1e12,
) -> Response:
    """Fuel, CO2 and cost of a run by SUMO's emission model, and what it saved beside a baseline
    run.
    """
    require_order_s(begin_s, end_s)
    return answered(
        request,
        signals.EmissionComparison,
        lambda: signals.impact(
            services_of(request).database, run, baseline, fuel_price_per_l, begin_s, end_s
        ),
    )


@router.get(
    "/api/v1/runs/{run}/queues",
    tags=["signals"],
    response_model=list[signals.Queues],
    responses=FOUND,
)
def queues(request: Request, run_part: PartOf) -> Response:
    """Stopped vehicles and longest waits of each junction."""
    return measured(request, list[signals.Queues], signals.queues, run_part)


@router.get(
    "/api/v1/runs/{run}/coordination",
    tags=["signals"],
    response_model=signals.Coordination,
    responses=FOUND,
)
def coordination(
    request: Request,
    run: Run,
    junction: Annotated[str, Query(max_length=256)],
    signal_group: Annotated[int, Query(ge=0, le=1000)],
    begin_s: Annotated[float, Query(ge=0, le=1e12)] = 0.0,
    end_s: Annotated[float, Query(ge=0, le=1e12)] = 1e12,
) -> Response:
    """Data of the Purdue coordination diagram of one signal group."""
    require_order_s(begin_s, end_s)
    database = services_of(request).database

    def ask() -> signals.Coordination:
        records.need_run(database, run)
        place = _text(junction) or "", signal_group
        return signals.coordination(database, run, *place, begin_s, end_s)

    return answered(request, signals.Coordination, ask)


@router.get("/api/v1/runs/{run}/events", tags=["signals"], responses=FOUND)
def events(
    request: Request,
    response: Response,
    run: Run,
    kind: Annotated[str, Query(max_length=64, pattern=r"^[a-z_.]*$")] = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> list[dict[str, Any]]:
    """Events of a run, in order."""
    database = services_of(request).database
    records.need_run(database, run)
    rows = signals.events(database, run, kind, limit + 1, offset)
    return cut(request, response, rows, limit, offset)


PART = 5000  # rows of an answer that is streamed, held at a time


@router.get(
    "/api/v1/runs/{run}/high-resolution",
    tags=["signals"],
    response_model=list[dict[str, Any]],
    responses=FOUND,
)
def high_resolution(
    request: Request,
    run: Run,
    limit: Annotated[int, Query(ge=1, le=1_000_000)] = 100_000,
    offset: Annotated[int, Query(ge=0, le=100_000_000)] = 0,
) -> Response:
    """Signals and detectors as Indiana high-resolution event codes (1 begin of green, 8 of yellow,
    10 of red; 4 gap-out, 5 max-out, 6 force-off; 82 detector on, 81 off; 21 walk, 45 call of a
    pedestrian; 300 and on the splits). The answer is streamed.
    """
    database = services_of(request).database
    records.need_run(database, run)
    rows = event_log.high_resolution(database, run, offset)
    first = list(islice(rows, min(PART, limit + 1)))
    if len(first) < PART or limit < PART:
        is_cut = len(first) > limit
    else:  # read twice, held never
        rest = event_log.high_resolution(database, run, offset + limit)
        is_cut = next(rest, None) is not None
    headers = link_to_next(request, Scope(limit=limit, offset=offset)) if is_cut else {}
    parts = _parts_of(request, first[:limit], islice(rows, max(limit - len(first), 0)))
    return Long(parts, "application/json", headers, end_of_caller(request))


async def _parts_of(
    request: Request, first: list[dict[str, Any]], rows: Iterator[dict[str, Any]]
) -> AsyncIterator[bytes]:
    """A JSON list. Each part after the first has a turn of its own to ask the database: who reads
    slowly holds none meanwhile.
    """
    part, opening = first, b"["
    while part:
        yield opening + b",".join(json.dumps(row, default=_iso).encode() for row in part)
        opening = b","
        async with services_of(request).turns.one(caller_of(request)):
            part = await run_in_threadpool(lambda: list(islice(rows, PART)))
    yield b"]" if opening == b"," else b"[]"


def _iso(at: datetime) -> str:
    return at.isoformat()


def _text(value: str | None) -> str | None:
    return value.replace("\x00", "") if value is not None else None
