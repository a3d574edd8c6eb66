"""Ingestion of records from outside: strictly checked, every fault named, duplicates left out,
through outages.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from starlette.concurrency import run_in_threadpool

from headway import telemetry
from headway.analytics.records import OWN
from headway.api.dependencies import need, services_of
from headway.api.fields import Moment
from headway.api.problems import Fault, ProblemError, responses
from headway.api.security import Principal, Role
from headway.api.services import ApiSettings, Services
from headway.store import Outcome
from headway.store.database import in_utc
from headway.store.spool import SpoolFullError

router = APIRouter(prefix="/api/v1/ingest", tags=["ingestion"])
MOST_RECORDS = 5000
MOST_SIGNALS = 16
# to find all faults takes 100 times as long as to find one, and meanwhile nobody is answered
MOST_FAULTS = 1000  # that are told of a batch; then the first one of each record
LONGEST_EXPLAINED = 32 << 10  # bytes; of a longer record the first fault alone is told
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.:\-]+$")
]
NAMES_LOGGED = 5  # simulations of one batch, those with most records


def _not_own(name: str) -> str:
    """Raises ValueError for a name under which this server's own streets answer, or that no address
    can hold (clients take `.` and `..` out of a path).
    """
    if name.startswith(OWN):
        raise ValueError(f"names that begin with {' or '.join(OWN)} are this server's own streets")
    if name in (".", ".."):
        raise ValueError("a name needs another character than dots: no address can hold it")
    return name


Count = Annotated[NonNegativeInt, Field(le=2**31 - 1)]
Amount = Annotated[float, Field(ge=0.0, le=1e9, allow_inf_nan=False)]
EXAMPLE: Any = {
    "simulation_id": "SIM_20250910_001",
    "timestamp": "2025-09-10T23:20:00Z",
    "intersection_id": "INT_001",
    "signals": [
        {
            "direction": "north",
            "vehicle_counts": {"car": 78, "bus": 0, "truck": 0, "bike": 0, "rickshaw": 0},
            "emergency_vehicle_present": False,
            "signal_status": "GREEN",
            "signal_timer": 18,
            "vehicles_crossed": 35,
            "avg_wait_time": 12.5,
            "green_time_allocated": 20,
        }
    ],
    "metrics": {
        "total_vehicles_passed": 104,
        "avg_wait_time_all_sides": 20.6,
        "throughput": 0.87,
        "avg_speed": 28.3,
        "fuel_saved": 1.2,
        "co2_saved": 3.8,
        "emergency_overrides": 0,
    },
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SignalIn(_Strict):
    """One approach of a junction. Times in seconds."""

    direction: Literal[
        "north", "south", "east", "west", "northeast", "northwest", "southeast", "southwest"
    ]
    vehicle_counts: dict[
        Annotated[
            str, StringConstraints(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9_ \-]+$")
        ],
        Count,
    ] = Field(max_length=32)
    emergency_vehicle_present: bool
    signal_status: Literal["RED", "YELLOW", "GREEN"]
    signal_timer: Amount
    vehicles_crossed: Count
    avg_wait_time: Amount
    green_time_allocated: Amount


class MetricsIn(_Strict):
    """Over the whole junction: waits in seconds, speed in km/h, fuel in litres, CO2 in kilograms,
    throughput in vehicles a second.
    """

    total_vehicles_passed: Count
    avg_wait_time_all_sides: Amount
    throughput: Amount
    avg_speed: Annotated[float, Field(ge=0.0, le=500.0, allow_inf_nan=False)]
    fuel_saved: Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
    co2_saved: Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
    emergency_overrides: Count


class RecordIn(_Strict):
    """What one junction of a simulation saw at one moment. (simulation_id, intersection_id,
    timestamp) is its key.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [EXAMPLE]}
    )
    simulation_id: Annotated[Name, AfterValidator(_not_own)]
    timestamp: Annotated[Moment, Field(strict=False)]
    intersection_id: Name
    signals: list[SignalIn] = Field(min_length=1, max_length=MOST_SIGNALS)
    metrics: MetricsIn


class Rejected(BaseModel):
    """A record of a batch that was not taken, by its place. status: 422 for what it says, 409 where
    its key is known with other content.
    """

    index: int
    faults: list[Fault]
    status: Literal[409, 422] = 422


class Taken(BaseModel):
    """stored: new records; duplicates: there already, with the same content; spooled: on this
    server's disk until the database is back; rejected: with their faults.
    """

    stored: int
    duplicates: int
    spooled: int = 0
    rejected: list[Rejected] = []


# The same once more for speed: msgspec decodes and checks a valid record in microseconds. What it
# refuses, pydantic explains (`faults_of`); what pydantic does not refuse has msgspec's own message.
_Kind = Annotated[str, msgspec.Meta(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9_ \-]+\Z")]


class _Signal(msgspec.Struct, forbid_unknown_fields=True):
    direction: Literal[
        "north", "south", "east", "west", "northeast", "northwest", "southeast", "southwest"
    ]
    vehicle_counts: Annotated[
        dict[_Kind, Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]], msgspec.Meta(max_length=32)
    ]
    emergency_vehicle_present: bool
    signal_status: Literal["RED", "YELLOW", "GREEN"]
    signal_timer: Annotated[float, msgspec.Meta(ge=0.0, le=1e9)]
    vehicles_crossed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    avg_wait_time: Annotated[float, msgspec.Meta(ge=0.0, le=1e9)]
    green_time_allocated: Annotated[float, msgspec.Meta(ge=0.0, le=1e9)]


class _Metrics(msgspec.Struct, forbid_unknown_fields=True):
    total_vehicles_passed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    avg_wait_time_all_sides: Annotated[float, msgspec.Meta(ge=0.0, le=1e9)]
    throughput: Annotated[float, msgspec.Meta(ge=0.0, le=1e9)]
    avg_speed: Annotated[float, msgspec.Meta(ge=0.0, le=500.0)]
    fuel_saved: Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
    co2_saved: Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
    emergency_overrides: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    simulation_id: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=128,
            pattern=rf"^(?!{'|'.join(OWN)}|\.{{1,2}}\Z)[A-Za-z0-9_.:\-]+\Z",
        ),
    ]
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    intersection_id: Annotated[
        str, msgspec.Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.:\-]+\Z")
    ]
    signals: Annotated[list[_Signal], msgspec.Meta(min_length=1, max_length=MOST_SIGNALS)]
    metrics: _Metrics

    def __post_init__(self) -> None:
        self.timestamp = in_utc(self.timestamp)


# bytes that are no UTF-8 are a fault of their own for msgspec
NO_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
record_decoder = msgspec.json.Decoder(_Record)
batch_decoder = msgspec.json.Decoder(list[_Record])
_encode = msgspec.json.Encoder().encode
_explain = TypeAdapter(RecordIn)


def row(record: _Record) -> tuple[Any, ...]:
    """A record as a row of the table `simulation_record`, in the order of `COLUMNS`."""
    m = record.metrics
    return (
        record.simulation_id,
        record.timestamp.isoformat(),
        record.intersection_id,
        _encode(record.signals).decode(),
        m.total_vehicles_passed,
        m.avg_wait_time_all_sides,
        m.throughput,
        m.avg_speed,
        m.fuel_saved,
        m.co2_saved,
        m.emergency_overrides,
        any(s.emergency_vehicle_present for s in record.signals),
        _encode(_types(record)).decode(),
    )


def row_of(record: dict[str, Any]) -> tuple[Any, ...]:
    """The same of a record as plain values, that was checked before."""
    return row(msgspec.convert(record, _Record))


def _types(record: _Record) -> list[str]:
    """Vehicle types that the record counted at least once."""
    return list({kind: None for s in record.signals for kind, n in s.vehicle_counts.items() if n})


def time_fault(record: _Record, settings: ApiSettings, prefix: str = "") -> Fault | None:
    """What is wrong with a record's time: one that was long ago, or is still to come, is of a clock
    that is wrong, and would hide those of today.
    """
    age_s = time.time() - record.timestamp.timestamp()
    if -settings.ahead_s <= age_s <= settings.oldest_days * 86400.0:
        return None
    message = (
        f"must be within the last {settings.oldest_days:g} days (api.oldest_days), and no more "
        f"than {settings.ahead_s:g} s ahead of this server's clock (api.ahead_s)"
    )
    return Fault(pointer=f"{prefix}/timestamp", message=message)


def faults_of(record: Any, prefix: str = "") -> list[Fault]:
    """The faults of one decoded record, by pydantic; pointers begin with `prefix`. None of a record
    that is longer than any that is sound.
    """
    text = msgspec.json.encode(record)
    if len(text) > LONGEST_EXPLAINED:
        return []
    try:
        _explain.validate_json(text)
    except ValidationError as error:
        return [
            Fault(pointer=prefix + "".join(f"/{p}" for p in e["loc"]), message=e["msg"])
            for e in error.errors()[:MOST_FAULTS]
        ]
    return []


def decoded(body: bytes) -> Any:
    """The body as JSON. Raises ProblemError 422."""
    try:
        return msgspec.json.decode(body)
    except NO_JSON as error:
        raise ProblemError(
            422, f"the body is no JSON: {error}", [Fault(pointer="", message=str(error))]
        ) from error


async def _write(services: Services, rows: list[tuple[Any, ...]]) -> Outcome:
    try:
        async with services.ingest_turns:
            return await run_in_threadpool(services.intake.write, "simulation_record", rows)
    except (SpoolFullError, OSError) as error:
        raise ProblemError(
            503,
            f"neither the database nor the spool takes records now: {error}",
            headers={"Retry-After": "30"},
        ) from error


def _taken(outcome: Outcome, rejected: list[Rejected]) -> Taken:
    return Taken(
        stored=outcome.stored,
        duplicates=outcome.duplicates,
        spooled=outcome.spooled,
        rejected=sorted(rejected, key=lambda one: one.index),
    )


SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/RecordIn"}}},
    }
}
BATCH = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "array",
                    "items": {"$ref": "#/components/schemas/RecordIn"},
                    "minItems": 1,
                    "maxItems": MOST_RECORDS,
                }
            }
        },
    }
}


@router.post(
    "/simulation",
    status_code=201,
    response_model=Taken,
    openapi_extra=SCHEMA,
    responses={200: {"model": Taken}, 202: {"model": Taken}, **responses(401, 403, 409, 422, 503)},
)
async def one(request: Request, who: Principal = Depends(need(Role.OPERATOR))) -> Any:
    """Take one record: 201 stored, 200 it was there already, 202 kept on disk until the database is
    back; 409: there is another one under its key (simulation, junction, time).
    """
    body = await request.body()
    try:
        record = record_decoder.decode(body)
    except NO_JSON as error:
        found = faults_of(decoded(body)) or [Fault(pointer="", message=str(error))]
        raise ProblemError(422, f"{len(found)} fault(s) in the record", found) from error
    who.bounds.require_streets([record.simulation_id])
    services = services_of(request)
    if fault := time_fault(record, services.settings):
        raise ProblemError(422, "1 fault(s) in the record", [fault])
    _log([record])
    outcome = await _write(services, [row(record)])
    if outcome.conflicts:
        raise ProblemError(409, "the record was not taken", [_conflict(record, "")])
    taken = _taken(outcome, [])
    return _answer(taken, 201 if taken.stored else 202 if taken.spooled else 200)


@router.post(
    "/batch",
    status_code=201,
    response_model=Taken,
    openapi_extra=BATCH,
    responses={202: {"model": Taken}, 207: {"model": Taken}, **responses(401, 403, 422, 503)},
)
async def batch(request: Request, who: Principal = Depends(need(Role.OPERATOR))) -> Any:
    """Take up to 5,000 records. 201: all were taken (new or known); 207: some were not, each
    reported by its place (as 409 where its key is known with other content); 422: none was sound.
    """
    body = await request.body()
    services = services_of(request)
    rejected: list[Rejected] = []
    explained = 0
    placed: list[tuple[int, _Record]] = []
    try:
        placed = list(enumerate(batch_decoder.decode(body)))
    except NO_JSON as error:
        things = decoded(body)
        if not isinstance(things, list):
            raise ProblemError(
                422, "a batch is a list of records", [Fault(pointer="", message="must be a list")]
            ) from error
        for index, thing in enumerate(things[: MOST_RECORDS + 1]):
            try:
                placed.append((index, msgspec.convert(thing, _Record)))
            except msgspec.ValidationError as fault:
                found = faults_of(thing, f"/{index}") if explained < MOST_FAULTS else []
                explained += len(found)
                found = found or [Fault(pointer=f"/{index}", message=str(fault))]
                rejected.append(Rejected(index=index, faults=found))
    if not 0 < len(placed) + len(rejected) <= MOST_RECORDS:
        raise ProblemError(
            422,
            f"a batch holds 1 to {MOST_RECORDS} records",
            [Fault(pointer="", message=f"1 to {MOST_RECORDS} records")],
        )
    who.bounds.require_streets(record.simulation_id for _, record in placed)
    sound = []
    for index, record in placed:
        if late := time_fault(record, services.settings, f"/{index}"):
            rejected.append(Rejected(index=index, faults=[late]))
        else:
            sound.append((index, record))
    if not sound:
        faults = [f for one in sorted(rejected, key=lambda one: one.index) for f in one.faults]
        detail = f"none of {len(rejected)} records can be taken"
        raise ProblemError(422, detail, faults[:MOST_FAULTS])
    _log([record for _, record in sound])
    outcome = await _write(services, [row(record) for _, record in sound])
    for place in outcome.conflicts:
        index, record = sound[place]
        conflict = _conflict(record, f"/{index}")
        rejected.append(Rejected(index=index, faults=[conflict], status=409))
    taken = _taken(outcome, rejected)
    return _answer(taken, 207 if rejected else 202 if taken.spooled else 201)


def _conflict(record: _Record, pointer: str) -> Fault:
    at = record.timestamp.isoformat().replace("+00:00", "Z")
    address = f"/api/v1/records/{record.simulation_id}/{record.intersection_id}/{at}"
    message = f"another record has this key and says something else; PUT {address} corrects it"
    return Fault(pointer=pointer, message=message)


def _log(records: Sequence[_Record]) -> None:
    """One line a request: its simulation, and of how many records; of a batch of several
    simulations the largest.
    """
    counts = Counter(record.simulation_id for record in records)
    names = [name for name, _ in counts.most_common(NAMES_LOGGED)]
    of_more = {"simulations": len(counts)} if len(counts) > NAMES_LOGGED else {}
    telemetry.log("api").info(
        "processing simulation data",
        simulation_id=names[0] if len(counts) == 1 else names,
        records=len(records),
        **of_more,
    )


def _answer(taken: Taken, status: int) -> Any:
    return JSONResponse(taken.model_dump(), status)
