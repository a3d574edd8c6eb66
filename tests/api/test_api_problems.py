"""Errors as problem details: each class of error, its status, its body, its headers."""

from __future__ import annotations

import asyncio
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Query
from psycopg import errors as postgres
from sqlalchemy.exc import DataError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from headway.analytics import MissingError
from headway.api.problems import Fault, Problem, ProblemError, install, responses
from headway.runtime import WorkerError

FAULT = Fault(pointer="/a", message="must be b")


class Client:
    """Asks an app in this process."""

    def __init__(self, app):
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def get(self, path):
        async def ask():
            async with httpx.AsyncClient(
                transport=self._transport, base_url="http://test"
            ) as client:
                return await client.get(path)

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def client():
    app = FastAPI()
    errors = {
        "problem": ProblemError(418, "no coffee", [FAULT], {"X-More": "1"}),
        "plain": ProblemError(409, "there already"),
        "http": HTTPException(405, "so not", {"Allow": "GET"}),
        "missing": MissingError("no simulation 'x'"),
        "worker": WorkerError("street is away"),
        "database": OperationalError("SELECT 1", {}, Exception("secret")),
        "late": OperationalError("SELECT 1", {}, postgres.QueryCanceled("secret")),
        "locked": OperationalError("SELECT 1", {}, postgres.LockNotAvailable("secret")),
        "busy": NoConnectionError("secret"),
        "read only": InternalError("SELECT 1", {}, postgres.ReadOnlySqlTransaction("secret")),
        "torn": InternalError("SELECT 1", {}, postgres.IndexCorrupted("secret")),
        "data": DataError("SELECT 1", {}, Exception("secret")),
        "other": ZeroDivisionError("secret"),
    }
    install(app)

    @app.get("/raise/{which}")
    def fail(which: str) -> None:
        raise errors[which]

    router = APIRouter()

    @router.post("/asked")
    @router.put("/asked")
    def told() -> None: ...

    app.include_router(router)

    @app.get("/asked")
    def asked(n: Annotated[int, Query(ge=1)], m: Annotated[int, Query(ge=1)] = 1) -> int:
        return n + m

    return Client(app)


@pytest.mark.parametrize(
    ("which", "status", "title", "detail", "faults", "headers"),
    [
        ("problem", 418, "I'm a Teapot", "no coffee", [FAULT.model_dump()], {"x-more": "1"}),
        ("plain", 409, "Conflict", "there already", [], {}),
        ("http", 405, "Method Not Allowed", "so not", [], {"allow": "GET"}),
        ("missing", 404, "Not Found", "no simulation 'x'", [], {}),
        ("worker", 503, "Service Unavailable", "street is away", [], {"retry-after": "5"}),
        (
            "late",
            503,
            "Service Unavailable",
            "the answer takes longer than the database may (database.answer_within_s); ask for "
            "less of it: a window of time, one junction or one simulation",
            [],
            {"retry-after": "5"},
        ),
        (
            "locked",
            503,
            "Service Unavailable",
            "somebody has locked what was asked for; try again later",
            [],
            {"retry-after": "5"},
        ),
        (
            "busy",
            503,
            "Service Unavailable",
            "all connections to the database are in use (database.pool_size); try again later",
            [],
            {"retry-after": "5"},
        ),
        (
            "read only",
            503,
            "Service Unavailable",
            "the database takes no changes now: it is read-only",
            [],
            {"retry-after": "5"},
        ),
        (
            "torn",
            500,
            "Internal Server Error",
            "something failed that should not; the log has it under this request's id",
            [],
            {},
        ),
        (
            "database",
            503,
            "Service Unavailable",
            "the database cannot be reached now",
            [],
            {"retry-after": "5"},
        ),
        (
            "data",
            422,
            "Unprocessable Content",
            "a value is beyond what the database can hold",
            [],
            {},
        ),
        (
            "other",
            500,
            "Internal Server Error",
            "something failed that should not; the log has it under this request's id",
            [],
            {},
        ),
    ],
)
def test_each_error_is_a_problem(client, which, status, title, detail, faults, headers):
    answer = client.get(f"/raise/{which}?x=1")
    body = answer.json()
    body["title"] = body["title"].replace(
        "Unprocessable Entity", "Unprocessable Content"
    )  # as it was called before Python 3.13
    assert answer.status_code == status
    expected = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": f"/raise/{which}",
        "faults": faults,
    }
    assert body == expected
    assert {
        k: v for k, v in answer.headers.items() if k not in ("content-length", "content-type")
    } == headers
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("query", "detail", "pointers"),
    [
        ("", "1 fault in the request", ["/query/n"]),
        ("?n=0&m=x", "2 faults in the request", ["/query/n", "/query/m"]),
    ],
)
def test_each_error_of_a_request_is_listed(client, query, detail, pointers):
    answer = client.get(f"/asked{query}")
    assert (answer.status_code, answer.json()["detail"]) == (422, detail)
    assert [f["pointer"] for f in answer.json()["faults"]] == pointers
    assert answer.json()["faults"][0]["message"] in (
        "Field required",
        "Input should be greater than or equal to 1",
    )
    assert client.get("/asked?n=2").json() == 3


def test_an_unknown_path_is_a_problem_that_says_where_to_look(client):
    assert client.get("/nowhere").json() == {
        "type": "about:blank", "title": "Not Found", "status": 404,
        "detail": "there is nothing at this path. /openapi.json lists all routes",
        "instance": "/nowhere", "faults": [],
    }  # fmt: skip


def test_routes_document_their_errors_and_the_rate_limit():
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert responses(503, 404) == {
        404: {"description": "Not Found", "content": content},
        429: {"description": "Too Many Requests", "content": content},
        503: {"description": "Service Unavailable", "content": content},
    }
    assert list(responses(503, 404)) == [404, 429, 503]


def test_the_example_problem_is_valid():
    shown = {
        name: field.get("examples", [None])[0]
        for name, field in Problem.model_json_schema()["properties"].items()
    }
    assert shown == {
        "type": None, "title": "Not Found", "status": 404,
        "detail": "there is no simulation 'SIM_1' in the database",
        "instance": "/api/v1/analytics/simulation/SIM_1/summary", "faults": None,
    }  # fmt: skip


def test_a_method_that_a_path_does_not_take_is_answered_with_all_that_it_takes(client):
    async def ask():
        async with httpx.AsyncClient(transport=client._transport, base_url="http://test") as asking:
            return await asking.request("DELETE", "/asked")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST, PUT")
