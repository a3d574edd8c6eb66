"""Each resource stands beside all others under /api/v1; the short paths that the requirements name do the same."""

from __future__ import annotations

import json

import httpx
import pytest
import sqlalchemy as sa
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from headway.api import create_app
from headway.api.app import ApiSettings
from headway.store import Database


def routes(app):
    return {
        (r.path, *sorted(getattr(r, "methods", None) or ("WS",))): r
        for r in app.routes
        if hasattr(r, "endpoint")
    }


@pytest.mark.parametrize(
    ("path", "short", "number"),
    [
        ("/api/v1/cameras", "/streams", 10), ("/api/v1/violations", "/analytics/violations", 6), ("/api/v1/monitoring", "/monitoring", 3),
        ("/api/v1/live/{topic}/events", "/stream/{topic}", 1), ("/api/v1/live/{topic}", "/ws/{topic}", 1),
    ],
)  # fmt: skip
def test_both_paths_of_a_resource_are_one(tmp_path, path, short, number):
    found = routes(
        create_app(
            ApiSettings(tmp_path),
            Database(sa.create_engine("postgresql+psycopg://nobody@127.0.0.1:1/x")),
        )
    )

    def under(prefix):
        # those of live streams have no others below them
        below = "{topic}" not in prefix
        return {
            (key[0].removeprefix(prefix), *key[1:]): (
                r.endpoint,
                [d.dependency for d in getattr(r, "dependencies", ())],
            )
            for key, r in found.items()
            if key[0] == prefix or (below and key[0].startswith(prefix + "/"))
        }

    assert len(under(path)) == number
    assert {key: endpoint for key, (endpoint, _) in under(path).items()} == {
        key: endpoint for key, (endpoint, _) in under(short).items()
    }
    assert {key: len(needs) for key, (_, needs) in under(path).items()} == {
        key: len(needs) for key, (_, needs) in under(short).items()
    }


def test_both_answer_and_both_ask_for_credentials(service):
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
        told = json.loads(answer.body)
        assert (answer.status_code, told["detail"], told["instance"]) == (
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


def test_events_of_both_paths_are_told(service):
    for path in ("/api/v1/live/alerts/events", "/stream/alerts"):
        with httpx.stream(
            "GET",
            f"{service.url}{path}",
            headers={"Authorization": f"Bearer {service.token('viewer')}"},
            timeout=10,
        ) as answer:
            lines = answer.iter_lines()
            assert [next(lines), next(lines)] == ["retry: 2000", ""]
