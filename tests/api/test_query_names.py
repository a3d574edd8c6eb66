"""What stands in a query is known to the route, or refused; windows end after they begin."""

from __future__ import annotations

import json
import re

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.api.service import record


@pytest.fixture(scope="module")
def client(service):
    with service.client() as found:
        yield found


def asked_with(client, path, method, **query):
    """What a route of the document says to a query."""
    return client.request(method, re.sub(r"\{[^}]*\}", "1", path), params=query)


def operations(client):
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            if "security" in operation:
                yield path, method, operation


def test_each_route_refuses_a_name_that_it_does_not_know_and_says_which_it_does(client):
    tried = list(operations(client))
    assert len(tried) > 100
    for path, method, operation in tried:
        answer = asked_with(client, path, method, no_such_name="1")
        assert answer.status_code == 422, (path, method)
        assert "422" in operation["responses"], (path, method)
        (fault,) = answer.json()["faults"]
        assert fault["pointer"] == "/query/no_such_name"
        known = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
        listed = ", ".join(sorted(known))
        expected = f"there is no such name here, but: {listed}" if known else (
            "nothing is asked for here"
        )  # fmt: skip
        assert fault["message"] == expected, (path, method)


@pytest.mark.parametrize(
    ("query", "pointer", "message"),
    [
        (
            "kind=safety.",
            "/query/kind",
            "there is no such name here, but: compress, format, kinds, last_id, street",
        ),
        ("compress=perhaps", "/compress", "must be true or false"),
        ("format=pie", "/format", "must be one of dashboard, chart, table"),
    ],
)
def test_a_socket_refuses_what_the_routes_refuse(service, query, pointer, message):
    """`kind=` in place of `kinds=` gave the messages of all kinds."""
    at = f"{service.url.replace('http', 'ws')}/ws/alerts?token={service.token('viewer')}&{query}"
    with pytest.raises(InvalidStatus) as refused:
        connect(at)
    answer = refused.value.response
    assert answer.status_code == 422
    assert json.loads(answer.body)["faults"] == [{"pointer": pointer, "message": message}]


@pytest.mark.parametrize("written", ["1", "true", "0", "false"])
def test_a_socket_takes_truth_as_the_routes_do(service, written):
    at = f"{service.url.replace('http', 'ws')}/ws/alerts?token={service.token('viewer')}"
    with connect(f"{at}&compress={written}&street=a&kinds=b&format=chart&last_id=1") as found:
        assert found.protocol.state.name == "OPEN"


def test_a_name_of_the_bounds_that_is_misspelled_erases_nothing(service, client):
    given = {"device": "c1", "start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}
    answer = client.delete("/api/v1/violations", params=given)
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "1 unknown name in the query: there is no such name here, but: begin, device, end",
    )


def test_credentials_come_first_and_in_a_query_name_nobody(service, client):
    with service.client(None) as nobody:
        assert nobody.get("/api/v1/runs", params={"x": "1"}).status_code == 401
    with service.client("viewer") as viewer:
        assert viewer.get("/api/v1/admin/keys", params={"x": "1"}).status_code == 403
        assert viewer.get("/api/v1/runs", params={"token": "x"}).status_code == 200
    assert client.get("/health", params={"t": "1"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/analytics/wait-times",
        "/api/v1/analytics/breakdown",
        "/api/v1/charts/wait-time-trend",
        "/api/v1/records",
        "/api/v1/counts",
        "/api/v1/export/records",
        "/api/v1/violations",
        "/api/v1/violations/trends",
        "/api/v1/admin/audit",
    ],
)
def test_a_window_that_ends_before_it_begins_is_refused(client, path):
    begin, end = "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"
    answer = client.get(path, params={"begin": begin, "end": end})
    assert (answer.status_code, answer.json()["detail"]) == (422, "begin is after end")
    assert answer.json()["faults"] == [
        {"pointer": "/query/begin", "message": "must not be after end"}
    ]
    assert client.get(path, params={"begin": begin, "end": begin}).status_code == 200


def test_nothing_is_erased_of_a_window_that_ends_before_it_begins(client):
    given = {"device": "c1", "begin": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}
    answer = client.delete("/api/v1/violations", params=given)
    assert (answer.status_code, answer.json()["detail"]) == (422, "begin is after end")


@pytest.mark.parametrize(
    "of", ["splits", "queues", "environmental-impact", "coordination?junction=a&signal_group=0"]
)
def test_so_is_one_of_a_run(client, of):
    name, _, more = of.partition("?")
    answer = client.get(f"/api/v1/runs/1/{name}?begin_s=2&end_s=1&{more}")
    assert (answer.status_code, answer.json()["detail"]) == (422, "begin_s is after end_s")


def test_what_is_known_is_answered_as_before(client):
    client.post("/api/v1/ingest/simulation", json=record("NAMES")).raise_for_status()
    asked = {"simulation_id": "NAMES", "begin": "2025-09-10T00:00:00Z", "limit": "5"}
    assert len(client.get("/api/v1/analytics/wait-times", params=asked).json()) == 1
