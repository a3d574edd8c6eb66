"""Each resource is under /api/v1; the short paths that the requirements name do the same."""

from __future__ import annotations

import json

import httpx
import pytest
import sqlalchemy as sa
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from headway.api.app import create_app
from headway.api.scopes import Bounds
from headway.api.security import Role
from headway.api.services import ApiSettings
from headway.store import Database
from tests.waiting import until


def untitled(value):
    """Without the names that are made from the path."""
    if isinstance(value, dict):
        return {k: untitled(v) for k, v in value.items() if k not in ("operationId", "title")}
    return [untitled(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("path", "short", "number"),
    [
        ("/api/v1/cameras", "/streams", 12), ("/api/v1/violations", "/analytics/violations", 9),
        ("/api/v1/monitoring", "/monitoring", 17),
        ("/api/v1/live/{topic}/events", "/stream/{topic}", 1),
    ],
)  # fmt: skip
def test_both_paths_of_a_resource_are_one_in_the_document(tmp_path, path, short, number):
    nowhere = sa.create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    paths = create_app(ApiSettings(tmp_path), Database(nowhere, "")).openapi()["paths"]

    def under(prefix):
        return {
            (place.removeprefix(prefix), method): untitled(what)
            for place, operations in paths.items()
            if place == prefix or place.startswith(prefix + "/")
            for method, what in operations.items()
        }

    assert len(under(path)) == number
    assert under(path) == under(short)


def test_both_paths_of_live_messages_deliver_them(service):
    for path in ("/api/v1/live/alerts", "/ws/alerts"):
        with connect(
            f"{service.url.replace('http', 'ws')}{path}?token={service.token('viewer')}"
        ) as one:
            until(lambda: service.app.state.services.hub.statistics()["alerts"]["clients"] == 1)
            service.app.state.services.hub.publish("alerts", "a", {"n": 7})
            reported = json.loads(one.recv(timeout=10))
            assert (reported["topic"], reported["street"], reported["data"]) == (
                "alerts",
                "a",
                {"n": 7},
            )
        until(lambda: not service.app.state.services.hub.statistics()["alerts"]["clients"])


def test_both_paths_answer_and_require_credentials(service):
    with service.client("viewer") as client:
        for path, short in (
            ("/api/v1/violations?device=nobody", "/analytics/violations?device=nobody"),
            ("/api/v1/cameras", "/streams"),
        ):
            assert client.get(path).json() == client.get(short).json() == []
        memory = [
            client.get(p).json()["memory_bytes"] > 0
            for p in ("/api/v1/monitoring/system", "/monitoring/system")
        ]
        assert memory == [True, True]
    with service.client(None) as nobody:
        for path in (
            "/api/v1/violations",
            "/api/v1/cameras",
            "/api/v1/monitoring/system",
            "/api/v1/live/alerts/events",
        ):
            assert nobody.get(path).status_code == 401


def test_a_topic_that_is_none_is_refused_by_name(service):
    for path in ("/api/v1/live/rumours", "/ws/rumours"):
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(f"{service.url.replace('http', 'ws')}{path}?token={service.token('viewer')}"),
        ):
            pass
        answer = refused.value.response
        reported = json.loads(answer.body)
        assert (answer.status_code, reported["detail"], reported["instance"]) == (
            404,
            "no stream 'rumours'. There are: realtime, monitoring, alerts.",
            path,
        )
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(f"{service.url.replace('http', 'ws')}{path}"),
        ):
            pass
        assert refused.value.response.status_code == 401  # before anything is looked up


def test_events_of_both_paths_are_delivered(service):
    for path in ("/api/v1/live/alerts/events", "/stream/alerts"):
        with httpx.stream(
            "GET",
            f"{service.url}{path}",
            headers={"Authorization": f"Bearer {service.token('viewer')}"},
            timeout=10,
        ) as answer:
            lines = answer.iter_lines()
            assert [next(lines), next(lines)] == ["retry: 2000", ""]


def test_the_short_path_of_models_is_judged_as_the_long_one(service):
    """By bounds, limits of bodies and the audit trail too, all of which go by paths."""
    keyring = service.app.state.services.keyring
    with service.client("viewer") as client:
        long, short = (client.get(f"{path}/health") for path in ("/api/v1/ml", "/ml"))
        assert (short.status_code, short.json()) == (200, long.json())
        assert client.get("/ml/models/0").json()["instance"] == "/api/v1/ml/models/0"
        assert client.get("/ml").status_code == client.get("/mlx/health").status_code == 404
    bounded = keyring.token("b", Role.OPERATOR, 60.0, Bounds.of(["elsewhere"], None))
    with httpx.Client(
        base_url=service.url, headers={"Authorization": f"Bearer {bounded}"}
    ) as client:
        assert client.get("/ml/models").status_code == 403
        order = {"kind": "train", "arguments": {}}
        assert client.post("/ml/train?street=headway", json=order).status_code == 403
    with service.client("operator") as client:
        assert client.post("/ml/train", content=b"x" * (64 << 10) + b"x").status_code == 413
        assert client.post("/ml/predict?street=no", content=b"x" * (1 << 20)).status_code == 404
        refused = client.post("/ml/rollback/a%2Fb%20c?street=no", json={})
        assert (refused.status_code, refused.json()["instance"]) == (
            404,
            "/api/v1/ml/rollback/a/b c",
        )
    assert httpx.get(f"{service.url}/ml/health").status_code == 401

    def trail():
        with service.client("admin") as client:
            return {entry["what"] for entry in client.get("/api/v1/admin/audit").json()}

    until(lambda: "POST /api/v1/ml/rollback/a/b c" in trail())
    assert not any(what.startswith("POST /ml") for what in trail())
