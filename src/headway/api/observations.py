"""Router of observations from outside: other people's cameras and detectors steer a street. The
same by HTTP and by WebSocket.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from headway.api.dependencies import need, require_known_names, services_of
from headway.api.problems import Fault, ProblemError, problem, responses
from headway.api.security import Principal, Role
from headway.api.sockets import LONG_MESSAGES
from headway.api.streets import street_by_name, usual_street
from headway.runtime import WorkerError
from headway.service.observations import NotStartedError, ObservationService, Outcome, RateError
from headway.service.running_street import RunningStreet
from headway.street.external.rows import MOST_ROWS

router = APIRouter(prefix="/api/v1/observations", tags=["observations"])
MOST_FAULTS = 1000  # in one answer
Viewer = Annotated[Principal, Depends(need(Role.VIEWER))]  # always first: before any look-up
Reporter = Annotated[Principal, Depends(need(Role.SOURCE))]
# Until the next message of a socket is read of which nothing could be taken; after one of which a
# part could not, that share of it.
FAULT_PAUSE_S = 1.0
SOCKET_BYTES = 1 << 20  # of one message on a socket; longer ones by HTTP
MOST_SOCKETS = 64  # of one holder: each may have a message of that length in memory
EXAMPLE: Any = [
    {
        "at": "2026-01-31T08:00:00.2Z",
        "junction": "247379907",
        "approach": "north",
        "quality": 0.9,
        "vehicles": [
            {"distance_m": 3.5, "speed_mps": 0.0, "class": "car"},
            {"distance_m": 41.0, "speed_mps": 11.2, "class": "bus"},
        ],
    },
    {"at": "2026-01-31T08:00:00.2Z", "junction": "247379907", "pedestrian_call": True},
]


class RefusedRow(BaseModel):
    """Row `index` of the message, and what is wrong where."""

    index: int
    pointer: str
    message: str


class ObservationsTaken(BaseModel):
    """What came of a message. taken: rows that went to the street; cut: rows over the rate of the
    holder, always the last ones; refused: rows with a fault, at most 1,000 of them.
    """

    taken: int
    cut: int
    refused: list[RefusedRow]


class SourceState(BaseModel):
    """A source. weight: 0..1, the product of its factors; taken, refused, cut: rows so far; lanes:
    that it has reported on; at_s: time of its newest row (street's seconds); last_seen: its arrival
    (seconds since 1970); latency: from arrival here until the street has it; decision: until the
    next decision, which waits for the street's tick.
    """

    source: str
    holder: str
    condition: str
    weight: float
    factors: dict[str, float]
    taken: int
    refused: int
    cut: int
    lanes: int
    at_s: float | None
    last_seen: float | None
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    decision_p50_ms: float | None
    decision_p99_ms: float | None


class ApproachPlaces(BaseModel):
    """A road that ends at a junction. comes_from: its direction; lanes: the rightmost first."""

    road: str
    comes_from: str
    lanes: list[str]


class JunctionPlaces(BaseModel):
    """What rows may speak of. crossings: numbers of signal groups at the junction."""

    junction: str
    approaches: list[ApproachPlaces]
    crossings: list[int]


def service_of(request: Request) -> ObservationService:
    found = services_of(request).observations
    if found is None:
        raise ProblemError(404, "this server runs no street")
    return found


def street_of(
    request: Request, street: Annotated[str | None, Query(max_length=64)] = None
) -> RunningStreet:
    return street_by_name(request, usual_street(request) if street is None else street)


Street = Annotated[RunningStreet, Depends(street_of)]
Observations = Annotated[ObservationService, Depends(service_of)]
SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "array",
                    "items": {"$ref": "#/components/schemas/ObservationRow"},
                    "minItems": 1,
                    "maxItems": MOST_ROWS,
                },
                "example": EXAMPLE,
            }
        },
    }
}


@router.post(
    "",
    status_code=202,
    response_model=ObservationsTaken,
    openapi_extra=SCHEMA,
    responses={
        207: {"model": ObservationsTaken},
        **responses(401, 403, 404, 413, 422, 429, 503),
    },
)
async def post(who: Reporter, request: Request, street: Street, service: Observations) -> Any:
    """Take up to 5,000 rows. 202: the street has all for its next decision; 207: some were refused,
    each with its place; 422: none could be taken; 429: all were over the rate of their source.
    """
    spent_s = time.perf_counter() - request.state.begun_s  # by the middleware, before credentials
    received_ns = time.monotonic_ns() - int(spent_s * 1e9)
    body = await request.body()
    try:
        outcome = await run_in_threadpool(service.take, street, who.name, body, received_ns)
    except ValueError as error:
        raise ProblemError(422, str(error), [Fault(pointer="", message=str(error))]) from error
    except RateError as error:
        raise ProblemError(429, str(error), headers={"Retry-After": "1"}) from error
    except NotStartedError as error:
        raise ProblemError(503, str(error), headers={"Retry-After": "2"}) from error
    if not outcome.taken:
        raise _nothing_taken(outcome)
    return JSONResponse(_plain(outcome), 207 if outcome.refused or outcome.cut else 202)


def _nothing_taken(outcome: Outcome) -> ProblemError:
    faults = [
        Fault(pointer=f"/{f.number}{f.fault.place}", message=f.fault.message)
        for f in outcome.refused[:MOST_FAULTS]
    ]
    if outcome.cut and not outcome.refused:
        detail = f"{outcome.cut} row(s) over the rate of their source; none was taken"
        return ProblemError(429, detail, headers={"Retry-After": "1"})
    return ProblemError(422, f"none of {len(outcome.refused)} row(s) can be taken", faults)


def _plain(outcome: Outcome) -> dict[str, Any]:
    refused = [
        {"index": f.number, "pointer": f.fault.place, "message": f.fault.message}
        for f in outcome.refused[:MOST_FAULTS]
    ]
    return {"taken": outcome.taken, "cut": outcome.cut, "refused": refused}


@router.websocket("")
async def socket(socket: WebSocket) -> None:
    """?token=, street=. Each message is a list of rows, or one row, and is answered by what came of
    it (`taken`, `cut`, `refused`), or by `error` where none of it could be read. One of more than
    SOCKET_BYTES closes the socket (1009). A holder has MOST_SOCKETS at once.
    """
    services = services_of(socket)
    try:
        who = await services.identity.require(socket.scope, Role.SOURCE)
        streets = services.street_service.streets if services.street_service is not None else {}
        asked = socket.query_params.get("street")
        name = usual_street(socket) if asked is None else asked
        if services.observations is None or name not in streets:
            known = ", ".join(filter(who.bounds.has_street, streets)) or "none"
            raise ProblemError(404, f"no street {name!r}. There are: {known}.")
        require_known_names(socket, {"street"})
        open_sockets = services.observation_sockets
        if open_sockets[who.name] >= MOST_SOCKETS:
            detail = f"{MOST_SOCKETS} sockets of yours are open: send by these"
            raise ProblemError(429, detail, headers={"Retry-After": "5"})
    except ProblemError as error:
        await socket.send_denial_response(
            problem(socket, error.status, error.detail, error.faults, error.headers)
        )
        return
    open_sockets[who.name] += 1
    watching = asyncio.create_task(services.identity.close_at_end(socket, who))
    try:
        if allow := socket.scope.get("extensions", {}).get(LONG_MESSAGES):
            allow(SOCKET_BYTES)
        await socket.accept()
        while (text := await _received(socket)) is not None:
            received_ns = time.monotonic_ns()
            street = streets[name]
            answer = await asyncio.to_thread(
                _answer, services.observations, street, who.name, text, received_ns
            )
            if not await _is_sent(socket, answer):
                return
            await asyncio.sleep(_pause_s(answer))
    finally:
        watching.cancel()
        open_sockets[who.name] -= 1
        if not open_sockets[who.name]:
            del open_sockets[who.name]


async def _received(socket: WebSocket) -> str | bytes | None:
    """The next message; None where the client has gone."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        return None
    text: str | bytes = message.get("text") or message.get("bytes") or b""
    return text


async def _is_sent(socket: WebSocket, answer: dict[str, Any]) -> bool:
    """False where the client has gone."""
    try:
        await socket.send_text(msgspec.json.encode(answer).decode())
    except (WebSocketDisconnect, RuntimeError):
        return False
    return True


def _pause_s(answer: dict[str, Any]) -> float:
    """Who floods, or sends what cannot be used, is read more slowly, and nobody else; one bad row
    among many good ones delays nothing that could be felt.
    """
    wrong = int(answer.get("cut", 0)) + len(answer.get("refused", ())) + ("error" in answer)
    return FAULT_PAUSE_S * wrong / max(wrong + int(answer.get("taken", 0)), 1)


def _answer(
    service: ObservationService,
    street: RunningStreet,
    holder: str,
    text: bytes | str,
    received_ns: int,
) -> dict[str, Any]:
    try:
        return _plain(service.take(street, holder, text, received_ns))
    except (ValueError, NotStartedError, RateError, WorkerError) as error:
        return {"error": str(error)}


@router.get("/sources", responses=responses(401, 403, 404, 422))
def sources(_: Viewer, street: Street, service: Observations) -> list[SourceState]:
    """The sources of a street: weight, what it is made of, rows taken and refused, when last
    seen.
    """
    return [SourceState.model_validate(s) for s in service.sources(street)]


@router.get("/places", responses=responses(401, 403, 404, 422))
def places(_: Viewer, street: Street, service: Observations) -> list[JunctionPlaces]:
    """What rows may speak of: junctions, with their approaches and crossings."""
    found = service.places(street)
    return [
        JunctionPlaces(
            junction=j.id,
            approaches=[
                ApproachPlaces(
                    road=road,
                    comes_from=found.directions[number].get(road, ""),
                    lanes=[found.network.lanes[lane].id for lane in lanes],
                )
                for road, lanes in found.roads[number].items()
            ],
            crossings=[group - j.first for group in found.crossings[number]],
        )
        for number, j in enumerate(found.network.junctions)
    ]
