"""How much one caller may have under way at once."""

from __future__ import annotations

import contextlib

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from headway.api import under_way
from tests.waiting import until

STREAM = "/stream/alerts"


@contextlib.contextmanager
def streaming(service, role):
    """(status, answer) of an event stream that stays open."""
    with service.client(role) as client, client.stream("GET", STREAM) as answer:
        yield answer


def test_one_caller_has_so_many_streams_and_others_have_theirs(service, monkeypatch):
    """A viewer had all connections of the process: nobody could ask, order or log in any more."""
    monkeypatch.setattr(under_way, "MOST_OF_CALLER", 2)
    with contextlib.ExitStack() as held:
        first = held.enter_context(contextlib.ExitStack())
        for place in (first, held):
            assert place.enter_context(streaming(service, "viewer")).status_code == 200
        with service.client("viewer") as viewer:
            refused = viewer.get("/api/v1/monitoring/alerts")
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
        assert "2 requests and streams of yours are under way" in refused.json()["detail"]
        where = f"{service.url.replace('http', 'ws')}/ws/alerts?token={service.token('viewer')}"
        with pytest.raises(InvalidStatus) as told:
            connect(where)
        assert told.value.response.status_code == 429
        assert held.enter_context(streaming(service, "operator")).status_code == 200
        assert httpx.get(f"{service.url}/health").status_code == 200
        first.close()
        until(lambda: _status(service, "viewer") == 200)
        with connect(where) as socket:
            assert _status(service, "viewer") == 429, "a socket is one of them"
            socket.close()
        until(lambda: _status(service, "viewer") == 200)


def test_where_few_may_be_open_a_caller_has_a_quarter(service, monkeypatch):
    monkeypatch.setattr(under_way, "most_of_open", lambda: 2)
    with streaming(service, "viewer") as answer:
        assert answer.status_code == 200
        assert _status(service, "viewer") == 429


def _status(service, role):
    with service.client(role) as client:
        return client.get("/api/v1/monitoring/alerts").status_code
