"""Errors as problem details (RFC 9457), and how each class of error becomes one."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from psycopg import errors as postgres
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.routing import Match

from headway.analytics import MissingError
from headway.roads import RoadsError
from headway.runtime import WorkerError
from headway.service.running_street import StreetStateError

UNREADABLE = (UnicodeDecodeError, RecursionError)  # of a body that is JSON at first sight
# what is kept in files cannot be written or read; all else is nobody's disk
OF_DISK = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.EISDIR,
)  # fmt: skip
METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
MOST_FAULTS = 100  # that are told of one request
REMEDIES = {  # of what no route of ours refuses
    404: "there is nothing at this path. /openapi.json lists all routes",
    405: "this path does not take the method. /openapi.json lists all routes",
}


class Fault(BaseModel):
    """One thing that is wrong in a request. pointer: where, as a JSON pointer (RFC 6901)."""

    pointer: str = Field(examples=["/signals/0/signal_status"])
    message: str = Field(examples=["must be one of RED, YELLOW, GREEN"])


class Problem(BaseModel):
    """Problem details."""

    type: str = "about:blank"
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["there is no simulation 'SIM_1' in the database"])
    instance: str = Field(examples=["/api/v1/analytics/simulation/SIM_1/summary"])
    faults: list[Fault] = []


class ProblemError(Exception):
    """Raised in a route, answered as a problem."""

    def __init__(
        self,
        status: int,
        detail: str,
        faults: list[Fault] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.faults = faults or []
        self.headers = headers or {}


def problem(
    request: HTTPConnection,
    status: int,
    detail: str,
    faults: list[Fault] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        faults=faults or [],
    )
    return JSONResponse(body.model_dump(), status, headers, media_type="application/problem+json")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer besides its success, for the OpenAPI document."""
    schema = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        s: {"description": HTTPStatus(s).phrase, "content": schema}
        for s in sorted({*statuses, 429})
    }


def _message(error: Mapping[str, Any]) -> str:
    """What is wrong; of a body that was not read as JSON (curl's `-d` says that it is a form) what
    to do.
    """
    if tuple(error["loc"]) == ("body",) and isinstance(error["input"], bytes):
        return "Send it as JSON, with the header Content-Type: application/json"
    return str(error["msg"])


def _of_database(error: OperationalError) -> str:
    """Why the database did not answer, for who asked: nothing of its address."""
    if isinstance(error.orig, postgres.QueryCanceled):
        return (
            "the answer takes longer than the database may (database.answer_within_s); ask for "
            "less of it: a window of time, one junction or one simulation"
        )
    if isinstance(error.orig, postgres.LockNotAvailable):
        return "somebody has locked what was asked for; try again later"
    return "the database cannot be reached now"


def _methods_at(request: Request) -> list[str]:
    """All that some route takes at the request's path; Starlette names those of the first alone."""
    routes = request.app.routes
    return [
        method
        for method in METHODS
        if any(r.matches({**request.scope, "method": method})[0] == Match.FULL for r in routes)
    ]


def install(app: FastAPI) -> None:
    """Answer all errors of `app` as problems; an unexpected error is a 500 without its inner
    life.
    """

    @app.exception_handler(ProblemError)
    async def _problem(request: Request, error: ProblemError) -> JSONResponse:
        return problem(request, error.status, error.detail, error.faults, error.headers)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, UNREADABLE):  # FastAPI's own 400 does not say what of
            fault = Fault(pointer="/body", message=str(error.__cause__))
            return problem(request, 422, "the body is no JSON that can be read", [fault])
        detail = str(error.detail)
        if detail == HTTPStatus(error.status_code).phrase:
            detail = REMEDIES.get(error.status_code, detail)
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_methods_at(request)) or headers.get("Allow", "")
        return problem(request, error.status_code, detail, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = error.errors()
        faults = [
            Fault(pointer="/" + "/".join(str(p) for p in e["loc"]), message=_message(e))
            for e in errors[:MOST_FAULTS]
        ]
        return problem(
            request,
            422,
            f"{len(errors)} fault{'s' if len(errors) > 1 else ''} in the request",
            faults,
        )

    @app.exception_handler(ClientDisconnect)
    async def _gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        """For the log and the metrics alone."""
        return problem(request, 400, "the client has gone before its body was whole")

    @app.exception_handler(MissingError)
    async def _missing(request: Request, error: MissingError) -> JSONResponse:
        return problem(request, 404, str(error))

    @app.exception_handler(RoadsError)
    async def _roads(request: Request, error: RoadsError) -> JSONResponse:
        """Of a street whose network has been moved away since it started."""
        return problem(request, 404, str(error))

    @app.exception_handler(StreetStateError)
    async def _state(request: Request, error: StreetStateError) -> JSONResponse:
        return problem(request, 409, str(error))

    @app.exception_handler(WorkerError)
    async def _worker(request: Request, error: WorkerError) -> JSONResponse:
        return problem(request, 503, str(error), headers={"Retry-After": "5"})

    @app.exception_handler(OperationalError)
    async def _database(request: Request, error: OperationalError) -> JSONResponse:
        detail = _of_database(error)
        return problem(request, 503, detail, headers={"Retry-After": "5"})

    @app.exception_handler(NoConnectionError)
    async def _no_connection(request: Request, error: NoConnectionError) -> JSONResponse:
        detail = "all connections to the database are in use (database.pool_size); try again later"
        return problem(request, 503, detail, headers={"Retry-After": "5"})

    @app.exception_handler(InternalError)
    async def _read_only(request: Request, error: InternalError) -> JSONResponse:
        if not isinstance(error.orig, postgres.ReadOnlySqlTransaction):
            raise error
        detail = "the database takes no changes now: it is read-only"
        return problem(request, 503, detail, headers={"Retry-After": "5"})

    @app.exception_handler(DataError)
    async def _data(request: Request, error: DataError) -> JSONResponse:
        return problem(request, 422, "a value is beyond what the database can hold")

    @app.exception_handler(OSError)
    async def _disk(request: Request, error: OSError) -> JSONResponse:
        if error.errno not in OF_DISK:
            raise error
        detail = f"the disk of this server fails ({error.strerror}): nothing was changed by this"
        return problem(request, 503, detail, headers={"Retry-After": "5"})

    @app.exception_handler(Exception)
    async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
        return problem(
            request, 500, "something failed that should not; the log has it under this request's id"
        )
