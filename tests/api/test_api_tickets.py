"""Credentials that end: tickets, tokens and keys that are revoked or expire, and the streams that
they opened.
"""

from __future__ import annotations

import secrets
import time

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from headway.api import identity, keys
from headway.api.scopes import Bounds
from headway.api.security import Role
from tests.waiting import until


def address(service, **query):
    return f"{service.url.replace('http', 'ws')}/ws/alerts?{httpx.QueryParams(query)}"


def close_of(socket, within_s=20.0):
    """(code, reason) with which the server closes."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            socket.recv(timeout=max(deadline - time.monotonic(), 0.01))
        except ConnectionClosed as closed:
            return closed.rcvd.code, closed.rcvd.reason


@pytest.fixture
def soon(monkeypatch):
    """What the database says is asked again at once."""
    monkeypatch.setattr(identity, "LOOK_AGAIN_S", 0.1)
    monkeypatch.setattr(keys, "FRESH_S", 0.05)


def test_a_ticket_opens_one_stream_and_nothing_else(service):
    with service.client("viewer") as viewer:
        answer = viewer.post("/api/v1/tickets")
        assert (answer.status_code, answer.json()["expires_in_s"]) == (201, 30.0)
        ticket = answer.json()["ticket"]
    with connect(address(service, ticket=ticket)):
        pass
    with pytest.raises(InvalidStatus) as again, connect(address(service, ticket=ticket)):
        pass
    assert again.value.response.status_code == 401
    with service.client("viewer") as viewer:
        ticket = viewer.post("/api/v1/tickets").json()["ticket"]
        for shown in (
            {"headers": {"Authorization": f"Bearer {ticket}"}},
            {"params": {"ticket": ticket}, "headers": {"Authorization": ""}},
        ):
            assert httpx.get(f"{service.url}/api/v1/runs", **shown).status_code == 401
    assert httpx.post(f"{service.url}/api/v1/tickets").status_code == 401


def ticket_for(service, names):
    """The answer for a viewer of these streets."""
    token = service.app.state.services.keyring.token(
        "bounded", Role.VIEWER, 60.0, Bounds.of(names, None)
    )
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.post(f"{service.url}/api/v1/tickets", headers=headers)


def test_a_ticket_for_a_hundred_streets_with_long_names_fits_into_an_address(service):
    """It was refused with 400 when it was shown."""
    names = [
        f"district-{k:03d}-junctions-of-main-street-and-fifth-avenue-north" for k in range(100)
    ]
    assert len(names[0]) > 55
    answer = ticket_for(service, names)
    assert answer.status_code == 201
    with connect(address(service, ticket=answer.json()["ticket"])) as link:
        pass
    assert link.close_code == 1000


def test_a_ticket_that_fits_into_no_address_is_refused_with_what_to_do(service):
    names = [secrets.token_hex(60) for _ in range(100)]
    answer = ticket_for(service, names)
    assert answer.status_code == 422
    assert "Ask with some that name fewer" in answer.json()["detail"]


def test_a_ticket_ends_after_thirty_seconds(service, monkeypatch):
    ring = service.app.state.services.keyring
    now_s = time.time()
    monkeypatch.setattr("headway.api.security.time.time", lambda: now_s - 31.0)
    ticket = ring.ticket(ring.read(service.token("viewer", 3600.0)))
    monkeypatch.undo()
    with pytest.raises(InvalidStatus) as late, connect(address(service, ticket=ticket)):
        pass
    assert late.value.response.status_code == 401


def test_asking_for_tickets_is_not_in_the_audit_trail(service):
    database = service.app.state.services.database
    before = database.rows("SELECT count(*) AS n FROM audit")
    with service.client("viewer") as viewer:
        viewer.post("/api/v1/tickets")
    assert database.rows("SELECT count(*) AS n FROM audit") == before


@pytest.mark.parametrize("by_ticket", [False, True])
def test_a_socket_ends_with_the_token_that_opened_it(service, soon, by_ticket):
    token = service.token("viewer", 2.0)
    shown = {"token": token}
    if by_ticket:
        answer = httpx.post(
            f"{service.url}/api/v1/tickets", headers={"Authorization": f"Bearer {token}"}
        )
        shown = {"ticket": answer.json()["ticket"]}
    with connect(address(service, **shown)) as socket:
        assert close_of(socket) == (4401, "the credentials have expired")


def test_a_revoked_token_and_its_streams_end(service, soon):
    token, other = service.token("viewer"), service.token("viewer")
    headers = {"Authorization": f"Bearer {token}"}
    with service.client() as admin, connect(address(service, token=token)) as socket:
        with httpx.stream("GET", f"{service.url}/stream/alerts", headers=headers) as events:
            assert admin.post("/api/v1/admin/tokens/revoke", json={"token": token}).json() == {
                "done": True
            }
            assert close_of(socket) == (4401, "the credentials were revoked")
            assert "the credentials were revoked" in events.read().decode()
        answer = httpx.get(f"{service.url}/api/v1/runs", headers=headers)
        assert (answer.status_code, answer.json()["detail"]) == (401, "the token was revoked")
        still = {"Authorization": f"Bearer {other}"}
        assert httpx.get(f"{service.url}/api/v1/runs", headers=still).status_code == 200
        bad = admin.post("/api/v1/admin/tokens/revoke", json={"token": "x"})
        assert bad.status_code == 404
    with service.client("engineer") as engineer:
        answer = engineer.post("/api/v1/admin/tokens/revoke", json={"token": other})
        assert answer.status_code == 403


def test_streams_end_when_the_secret_that_signed_their_token_is_dropped(service, soon):
    """Also of a token that nobody knows of, so that nobody can revoke it."""
    token = service.token("viewer")
    answer = httpx.post(
        f"{service.url}/api/v1/tickets", headers={"Authorization": f"Bearer {token}"}
    )
    keyring = service.app.state.services.keyring
    with (
        connect(address(service, token=token)) as by_token,
        connect(address(service, ticket=answer.json()["ticket"])) as by_ticket,
    ):
        keyring.rotate(keep=2)
        with connect(address(service, token=service.token("viewer"))) as of_the_new:
            keyring.rotate(keep=2)
            for ended in (by_token, by_ticket):
                assert close_of(ended) == (4401, "the credentials were revoked")
            of_the_new.ping().wait(10.0)
            assert of_the_new.close_code is None


def test_a_token_that_another_process_revokes_ends_within_seconds(service, soon):
    token = service.token("viewer")
    services = service.app.state.services
    there = keys.RevokedTokens(services.database)
    there.add(services.keyring.read(token).token, time.time() + 60.0)
    headers = {"Authorization": f"Bearer {token}"}
    until(lambda: httpx.get(f"{service.url}/api/v1/runs", headers=headers).status_code == 401)


def test_revoked_tokens_are_forgotten_a_year_after_their_end(service):
    services = service.app.state.services
    services.revoked.add("old", time.time() - 367 * 86_400.0)
    services.revoked.add("new", time.time() + 60.0)
    rows = services.database.rows("SELECT id FROM revoked_token")
    assert "old" not in {row["id"] for row in rows} >= {"new"}


def test_keys_are_listed_with_their_use_and_end(service):
    with service.client() as admin:
        made = admin.post(
            "/api/v1/admin/keys", json={"name": "loader", "role": "source", "days": 2.0}
        )
        key = made.json()["key"]
        number = key.split("_")[1]
        found = {row["id"]: row for row in admin.get("/api/v1/admin/keys").json()}[number]
        assert (found["name"], found["role"], found["used_at"]) == ("loader", "source", None)
        assert "hash" not in found
        assert found["expires_at"] > found["made_at"]
        assert httpx.get(f"{service.url}/api/v1/runs", headers={"X-API-Key": key}).is_success
        found = {row["id"]: row for row in admin.get("/api/v1/admin/keys").json()}[number]
        assert found["used_at"] is not None
        assert found["revoked_at"] is None
        admin.delete(f"/api/v1/admin/keys/{number}")
        found = {row["id"]: row for row in admin.get("/api/v1/admin/keys").json()}[number]
        assert found["revoked_at"] is not None
    with service.client("engineer") as engineer:
        assert engineer.get("/api/v1/admin/keys").status_code == 403


def test_a_key_ends_at_its_time_and_its_sockets_with_it(service, soon):
    made = service.app.state.services.keys
    key = made.make("short", Role.VIEWER, 2.0 / 86400.0)
    headers = {"X-API-Key": key}
    with connect(address(service), additional_headers=headers) as socket:
        assert close_of(socket) == (4401, "the credentials have expired")
    assert httpx.get(f"{service.url}/api/v1/runs", headers=headers).status_code == 401


def test_the_sockets_of_a_key_end_when_it_is_revoked(service, soon):
    made = service.app.state.services.keys
    key = made.make("gone", Role.VIEWER)
    with connect(address(service), additional_headers={"X-API-Key": key}) as socket:
        assert made.revoke(key.split("_")[1])
        assert close_of(socket) == (4401, "the credentials were revoked")
