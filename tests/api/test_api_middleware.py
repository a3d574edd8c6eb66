"""The middleware around every request, called directly:
id, time, rate limit, log line and metrics.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import types

import pytest

from headway.api import middleware as room
from headway.api.identity import FOUND, Identity
from headway.api.middleware import (
    AuditMiddleware,
    RateLimitMiddleware,
    RequestMiddleware,
    SafeHeadersMiddleware,
)
from headway.api.problems import ProblemError
from headway.api.security import NOBODY, Principal, Role
from headway.telemetry import metrics
from tests.ports import closed_port

SAFE = {
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
        "connect-src 'self' ws: wss:"
    ),
}  # fmt: skip
NOW = 1_700_000_000.0


def app(status=200, route=None):
    """Answers with `status`; says which route it was."""

    async def answer(scope, receive, send):
        if route is not None:
            scope["route"] = types.SimpleNamespace(path=route)
        await send({"type": "http.response.start", "status": status, "headers": [(b"own", b"1")]})
        await send({"type": "http.response.body", "body": b"good"})

    return answer


def ask(around, path="/x", headers=(), client=("192.0.2.1", 5000), method="GET"):
    """(status, headers, body) of one request."""
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in headers],
        "client": client,
    }
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(around(scope, None, send))
    start, body = sent
    assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
    return start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, body["body"]


class NothingRevoked:
    def is_due(self):
        return False


class Reader:
    """Knows every credential that does not begin with "bad": its holder is what stands before the
    first full stop.
    """

    def read(self, shown):
        if shown.startswith("bad"):
            raise ProblemError(401, "not valid")
        return Principal(shown.partition(".")[0], Role.VIEWER)

    def remembered(self, key):
        """Each is looked up."""


def stacked(inner, per_minute=0, redis_url=""):
    """As the application puts them together."""
    who = Identity(Reader(), Reader(), NothingRevoked())
    limited = RateLimitMiddleware(inner, who, per_minute, redis_url) if per_minute else inner
    return RequestMiddleware(SafeHeadersMiddleware(limited))


def counted(name, **labels):
    return metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def limited(monkeypatch):
    """Makes the middlewares with a limit; time stands still, `limited.now` is what it says."""
    monkeypatch.setattr("time.time", lambda: make.now)
    monkeypatch.setattr(room, "_apart_s", lambda: make.set_by_s)

    def make(per_minute, redis_url=""):
        return stacked(app(), per_minute, redis_url)

    make.now, make.set_by_s = NOW, 0.0
    return make


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("abc-1", True), ("A" * 64, True), ("A" * 65, False), ("", False), ("a b", False),
        ("---", False), ("é", False), ("a_b", False), ("7", True),
    ],
)  # fmt: skip
def test_a_valid_request_id_is_kept_and_another_is_replaced(given, kept):
    found = ask(stacked(app(), 0), headers=[("x-request-id", given)])[1]["x-request-id"]
    assert (found == given) is kept
    if not kept:
        assert len(bytes.fromhex(found)) == 8


def test_an_answer_carries_its_id_time_and_security_headers(monkeypatch):
    times = iter((10.0, 10.25, 11.5))
    monkeypatch.setattr(room, "time", types.SimpleNamespace(perf_counter=lambda: next(times)))
    seconds = counted("headway_request_seconds_sum", route="/things/{id}")
    requests = counted("headway_requests_total", method="PUT", route="/things/{id}", status="201")
    status, headers, body = ask(
        stacked(app(201, "/things/{id}"), 0), "/things/7", [("x-request-id", "me")], method="PUT"
    )
    assert (status, body) == (201, b"good")
    assert headers == {"own": "1", "x-request-id": "me", "x-process-time": "0.250000"} | SAFE
    assert counted("headway_request_seconds_sum", route="/things/{id}") - seconds == pytest.approx(
        1.5
    )
    assert (
        counted("headway_requests_total", method="PUT", route="/things/{id}", status="201")
        - requests
        == 1
    )


def test_what_is_neither_request_nor_socket_is_passed_on():
    taken = []

    async def inner(scope, receive, send):
        taken.append((scope, receive, send))

    scope = {"type": "lifespan"}
    asyncio.run(stacked(inner, 1)(scope, "receive", "send"))
    assert taken == [(scope, "receive", "send")]


@pytest.mark.parametrize(
    ("status", "event", "level"),
    [(500, "request failed", "error"), (503, "request refused", "warning")],
)
def test_a_failure_is_in_the_log_with_its_id(logged, status, event, level):
    """503 says "not now", which whoever floods can get as often as he wants."""
    ask(stacked(app(status), 0), "/y", [("x-request-id", "me")], method="POST")
    assert logged("api") == [
        {
            "event": event,
            "level": level,
            "id": "me",
            "method": "POST",
            "path": "/y",
            "status": status,
        }
    ]


def test_all_requests_are_logged_if_enabled(logged, monkeypatch):
    times = iter((10.0, 10.1, 10.1234567, 0.0, 0.0, 0.0))
    monkeypatch.setattr(room, "time", types.SimpleNamespace(perf_counter=lambda: next(times)))
    ask(stacked(app(499), 0), "/y", [("x-request-id", "me")])
    line = {
        "event": "request",
        "level": "debug",
        "id": "me",
        "method": "GET",
        "path": "/y",
        "status": 499,
        "ms": 123.46,
    }
    assert logged("api") == [line]
    logging.getLogger("headway.api").setLevel(logging.INFO)
    try:
        ask(stacked(app(), 0), "/y")
    finally:
        logging.getLogger("headway.api").setLevel(logging.NOTSET)
    assert logged("api") == [line]


def test_an_exception_counts_as_500_and_is_raised_on(logged):
    async def broken(scope, receive, send):
        raise KeyError("x")

    before = counted("headway_requests_total", method="GET", route="other", status="500")
    with pytest.raises(KeyError):
        ask(stacked(broken, 0))
    assert (
        counted("headway_requests_total", method="GET", route="other", status="500") - before == 1
    )
    assert logged("api")[0]["status"] == 500


def test_one_caller_is_one_client_by_whichever_valid_credentials(limited):
    around = limited(1)
    assert ask(around, headers=[("authorization", "Bearer anna.first")])[0] == 200
    again = [
        [("authorization", "bEarer  anna.first ")],
        [("authorization", "Bearer anna.second")],
        [("x-api-key", "anna.key")],
        [("authorization", "Bearer anna.first"), ("authorization", "Bearer berta.x")],
        [("authorization", "Bearer anna.first"), ("x-api-key", "berta.x")],
    ]
    assert [ask(around, headers=headers)[0] for headers in again] == [429] * 5
    assert ask(around, headers=[("authorization", "Bearer berta.first")])[0] == 200
    # of two headers of one name the routes take the first: Basic alone is no credential
    basic = [("authorization", "Basic x"), ("authorization", "Bearer carla.x")]
    assert [ask(around, headers=basic)[0] for _ in range(2)] == [200, 429]


def test_who_shows_credentials_that_are_not_valid_is_an_address(limited):
    """Or each made-up token would have a share of its own."""
    around = limited(2)
    for k, status in enumerate((200, 200, 429)):
        assert ask(around, headers=[("authorization", f"Bearer bad{k}")])[0] == status
    assert ask(around)[0] == 429, "of the same address"
    assert ask(around, headers=[("authorization", "Bearer good")])[0] == 200


def test_opening_sockets_counts_too(limited):
    around = limited(2)
    opened = []

    async def inner(scope, receive, send):
        opened.append(scope)

    async def send(message):
        sent.append(message)

    around = stacked(inner, 2)
    scope = {
        "type": "websocket",
        "path": "/ws",
        "headers": [],
        "query_string": b"token=anna.1",
        "client": ("192.0.2.1", 5000),
        "extensions": {"websocket.http.response": {}},
    }
    for _ in range(3):
        sent = []
        asyncio.run(around(dict(scope), None, send))
    assert len(opened) == 2
    assert sent[0]["type"] == "websocket.http.response.start"
    assert sent[0]["status"] == 429
    assert b"retry-after" in dict(sent[0]["headers"])


def test_rate_limit_headers_state_the_remaining_requests_and_the_reset(limited):
    around = limited(3)
    answers = [ask(around) for _ in range(3)]
    assert [a[0] for a in answers] == [200, 200, 200]
    assert [(a[1]["x-ratelimit-limit"], a[1]["x-ratelimit-remaining"], a[1]["x-ratelimit-reset"])
        for a in answers] == [
        ("3", "2", "61"), ("3", "1", "61"), ("3", "0", "61"),
    ]  # fmt: skip
    assert "retry-after" not in answers[2][1]
    before = counted("headway_requests_total", method="GET", route="limited", status="429")
    limited.now = NOW + 50.5
    status, headers, body = ask(around, "/a", [("x-request-id", "me")])
    assert status == 429
    assert float(headers.pop("x-process-time")) >= 0.0
    assert int(headers.pop("content-length")) == len(body)
    assert headers == {
        "x-request-id": "me", "x-ratelimit-limit": "3", "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "10", "retry-after": "10",
        "content-type": "application/problem+json", **SAFE,
    }  # fmt: skip
    assert json.loads(body) == {
        "type": "about:blank", "title": "Too Many Requests", "status": 429,
        "detail": "the limit of requests a minute is reached",
        "instance": "/a", "faults": [],
    }  # fmt: skip
    assert (
        counted("headway_requests_total", method="GET", route="limited", status="429") - before == 1
    )
    limited.now = NOW + 60.0
    assert ask(around)[1]["x-ratelimit-remaining"] == "2"


def test_a_clock_that_is_set_back_does_not_make_the_minute_longer(limited):
    """Whoever had used up a minute's requests when it was set waited until it had come so far
    again: an hour.
    """
    around = limited(2)
    assert [ask(around)[0] for _ in range(3)] == [200, 200, 429]
    limited.now, limited.set_by_s = NOW - 3600.0, -3600.0
    assert [ask(around)[0] for _ in range(3)] == [200, 200, 429]
    limited.now = NOW - 3540.0
    assert ask(around)[0] == 200


def test_the_seconds_to_the_reset_are_never_negative(limited, monkeypatch):
    around = limited(3)
    ask(around)
    monkeypatch.setattr(
        room, "time", types.SimpleNamespace(perf_counter=lambda: 0.0, time=lambda: NOW + 70.0)
    )
    assert ask(around)[1]["x-ratelimit-reset"] == "0"


@pytest.mark.parametrize(
    "path",
    ["/health", "/health/ready", "/metrics", "/static/app.js", "/docs", "/"],
)
def test_some_paths_have_no_rate_limit(limited, path):
    around = limited(1)
    for _ in range(3):
        status, headers, _ = ask(around, path)
        assert status == 200
        assert "x-ratelimit-limit" not in headers
    assert ask(around, "/x")[0] == 200
    assert ask(around, "/x")[0] == 429


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/healthy"), ("GET", "/staticfile"), ("GET", "/docs/x"), ("POST", "/health"),
        ("POST", "/static/app.js"), ("DELETE", "/metrics"), ("PUT", "/"),
    ],
)  # fmt: skip
def test_what_only_begins_like_a_probe_or_is_no_reading_is_limited(limited, method, path):
    """Orders there are on record: one viewer filled the audit trail, which nothing is taken out
    of.
    """
    around = limited(1)
    assert [ask(around, path, method=method)[0] for _ in range(2)] == [200, 429]


def test_the_openapi_document_counts(limited):
    """It has 400 kB, and anybody may ask for it."""
    around = limited(1)
    assert [ask(around, "/openapi.json")[0] for _ in range(2)] == [200, 429]


def test_without_a_limit_nothing_is_counted(limited):
    around = limited(0)
    assert {ask(around)[0] for _ in range(30)} == {200}
    assert "x-ratelimit-limit" not in ask(around)[1]


def test_clients_are_distinguished_by_credentials_else_by_address(limited):
    around = limited(1)
    one = [("authorization", "Bearer one")]
    two = [("authorization", "Bearer two")]
    key = [("x-api-key", "hw_1_x")]
    for headers in (one, two, key, []):
        assert ask(around, headers=headers)[0] == 200
        assert ask(around, headers=headers)[0] == 429
    assert (
        ask(around, headers=one, client=("192.0.2.9", 1))[0] == 429
    )  # elsewhere it is the same client
    assert ask(around, client=("192.0.2.1", 5001))[0] == 429  # of the same address
    assert ask(around, client=("192.0.2.2", 5000))[0] == 200
    assert (
        ask(around, headers=[*one, *key], client=("192.0.2.3", 1))[0] == 429
    )  # the token counts, not the key
    assert ask(around, client=None)[0] == 200
    assert ask(around, client=None)[0] == 429
    neighbours = [("2001:db8:1:2::1", 1), ("2001:db8:1:2:ffff::9", 1), ("2001:db8:1:3::1", 1)]
    assert [ask(around, client=client)[0] for client in neighbours] == [200, 429, 200]


def test_of_one_address_20_clients_are_served(limited):
    around = limited(1)
    found = [ask(around, headers=[("authorization", f"Bearer {k}")])[0] for k in range(22)]
    assert found == [200] * 20 + [429] * 2
    assert ask(around, headers=[("authorization", "Bearer new")], client=("192.0.2.2", 1))[0] == 200


def test_without_valkey_each_process_counts_for_itself_and_logs_it(limited, monkeypatch):
    metrics.degraded.labels("limits").set(0)
    with closed_port() as port:
        around = limited(2, f"redis://127.0.0.1:{port}/0")
        found = [ask(around) for _ in range(3)]
        assert [a[0] for a in found] == [200, 200, 429]
        assert [a[1]["x-ratelimit-remaining"] for a in found] == ["1", "0", "0"]
        assert counted("headway_degraded", part="limits") == 1
        crowd = [ask(around, headers=[("authorization", f"Bearer {k}")])[0] for k in range(38)]
    assert crowd == [200] * 37 + [429]  # 3 of the 2 x 20 are taken
    assert counted("headway_degraded", part="limits") == 1


def test_the_return_of_valkey_is_logged(limited, valkey):
    metrics.degraded.labels("limits").set(1)
    ask(limited(2, valkey))
    assert counted("headway_degraded", part="limits") == 0


def test_a_valkey_that_hangs_holds_up_nobody_else_and_is_not_asked_by_each(limited, monkeypatch):
    """It accepts, and never answers. While one request waits for it, others of the same loop go on;
    after it none waits for a while.
    """
    monkeypatch.setattr(room, "SHARED_WITHIN_S", 1.0)
    monkeypatch.setattr(room, "AWAY_S", 3600.0)
    metrics.degraded.labels("limits").set(0)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as hung:
        around = limited(3, f"redis://127.0.0.1:{hung.getsockname()[1]}/0")

        async def others_meanwhile():
            waits = asyncio.create_task(asyncio.to_thread(ask, around))
            direct = asyncio.create_task(around(*request_of("/x")))
            turns = 0
            while not direct.done():
                await asyncio.sleep(0.01)
                turns += 1
            await waits
            return turns

        assert asyncio.run(others_meanwhile()) > 5
        assert counted("headway_degraded", part="limits") == 1
        assert connections_to(hung) > 0
        assert [ask(around)[0] for _ in range(2)] == [200, 429]
        assert connections_to(hung) == 0


def connections_to(server):
    """How many have come that nobody has accepted yet."""
    server.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


def request_of(path):
    scope = {"type": "http", "method": "GET", "path": path, "headers": [],
             "client": ("192.0.2.1", 5000)}  # fmt: skip

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        pass

    return scope, receive, send


class Trail:
    """An audit trail that writes down what it is given, and what had been answered until then."""

    def __init__(self, sent):
        self.sent = sent
        self.entries = []
        self.is_full = False

    async def takes_entries(self):
        return not self.is_full

    async def record(self, entry):
        self.entries.append((entry.who, entry.what, entry.status, len(self.sent)))


async def empty():
    return {"type": "http.request", "body": b"", "more_body": False}


def audited(inner, method="POST", path="/things", **more):
    """(entries of the trail, what was answered)."""
    sent = []
    trail = Trail(sent)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": []} | more
    asyncio.run(AuditMiddleware(inner, trail)(scope, empty, send))
    return trail.entries, sent


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_changing_requests_are_audited_before_the_answer(method):
    who = Principal("anna", Role.ENGINEER)
    entries, sent = audited(app(403), method, state={FOUND: who})
    assert entries == [(who, f"{method} /things", 403, 0)]
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/things"), ("HEAD", "/"), ("POST", "/api/v1/ingest/batch")]
)
def test_queries_and_ingests_are_not_audited(method, path):
    entries, sent = audited(app(), method, path)
    assert (entries, len(sent)) == ([], 2)


def test_an_audited_action_is_truncated_and_has_no_null_bytes():
    entries, _ = audited(app(), path="/\x00" + "a" * 600)
    assert entries[0][:3] == (NOBODY, "POST /" + "a" * 506, 200)


def test_a_key_that_was_pasted_into_an_address_is_not_kept():
    """Its number was asked for, and the trail can never be changed."""
    entries, _ = audited(app(422), "DELETE", "/api/v1/admin/keys/hw_0a1b2c_" + "S3CRET_-" * 5)
    assert entries[0][1] == "DELETE /api/v1/admin/keys/hw_0a1b2c_***"


def test_a_request_that_raises_is_audited_as_500_once():
    async def broken(scope, receive, send):
        raise KeyError("x")

    async def broken_late(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("x")

    async def cut_off(scope, receive, send):  # as the server ends while a thread is at it
        asyncio.current_task().cancel()
        await asyncio.sleep(60.0)

    for inner, status in ((broken, 500), (broken_late, 200), (cut_off, 500)):
        trail = Trail([])

        async def send(message):
            pass

        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        with pytest.raises((KeyError, asyncio.CancelledError)):
            asyncio.run(AuditMiddleware(inner, trail)(scope, empty, send))
        assert [e[2] for e in trail.entries] == [status]
