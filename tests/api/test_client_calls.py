"""The client against servers that speak HTTP and WebSocket by hand:
what it sends, how it reads answers, when it reconnects and when not.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import inspect
import json
import threading
import types
import urllib.parse

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response
from websockets.sync.server import serve

from headway import client as room
from headway.client import AsyncHeadway, Headway, HeadwayError


@pytest.fixture(scope="module")
def route():
    """A server that writes down what it is asked, and answers with what is put into `answers`:
    (status, content type, body).
    """

    class Door(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, _, query = self.path.partition("?")
            asked.append(
                (
                    self.command,
                    path,
                    dict(urllib.parse.parse_qsl(query)),
                    json.loads(body) if body else None,
                    self.headers["Authorization"] or self.headers["X-API-Key"],
                )
            )
            status, kind, text = (
                answers.pop(0) if answers else (200, "application/json", b'{"good": 1}')
            )
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

        def log_message(self, *args):
            pass

    asked, answers = [], []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield types.SimpleNamespace(
        url=f"http://127.0.0.1:{server.server_port}", asked=asked, answers=answers
    )
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["sync", "async"])
def call(request, route):
    """Calls a method of the client of either kind by its name."""
    route.asked.clear()
    route.answers.clear()

    def sync(name, *words, **named):
        with Headway(route.url, "T") as headway:
            return getattr(headway, name)(*words, **named)

    def later(name, *words, **named):
        async def play():
            async with AsyncHeadway(route.url, "T") as headway:
                return await getattr(headway, name)(*words, **named)

        return asyncio.run(play())

    return sync if request.param == "sync" else later


ENGINE = "/api/v1/engine"
CALLS = [
    (("streets",), {}, ("GET", f"{ENGINE}/state", {}, None)),
    (("rotate_key", "0f"), {"overlap_h": 2.0},
        ("POST", "/api/v1/admin/keys/0f/rotate", {}, {"overlap_h": 2.0})),
    (("report", "a"), {}, ("GET", f"{ENGINE}/streets/a/report", {}, None)),
    (
        ("override", "a", "j1", "hold"), {},
        ("POST", f"{ENGINE}/streets/a/junctions/j1/override", {},
            {"order": "hold", "stage": None, "lasts_s": 60.0}),
    ),
    (
        ("override", "a", "j1", "stage", 2, 30.0), {},
        ("POST", f"{ENGINE}/streets/a/junctions/j1/override", {},
            {"order": "stage", "stage": 2, "lasts_s": 30.0}),
    ),
    (("controller", "a", "webster"), {},
        ("POST", f"{ENGINE}/streets/a/controller", {}, {"controller": "webster"})),
    (("orders", "a"), {"state": "refused", "limit": 2},
        ("GET", f"{ENGINE}/streets/a/orders", {"state": "refused", "limit": "2"}, None)),
    (("alerts",), {}, ("GET", "/api/v1/monitoring/alerts/open", {}, None)),
    (("acknowledge", "1-f"), {"note": "n"},
        ("POST", "/api/v1/monitoring/alerts/open/1-f/acknowledge", {}, {"note": "n"})),
    (("silences",), {}, ("GET", "/api/v1/monitoring/alerts/silences", {}, None)),
    (("silence", 60.0), {"source": "a", "reason": "w"},
        ("POST", "/api/v1/monitoring/alerts/silences", {},
            {"source": "a", "rule": "", "lasts_s": 60.0, "reason": "w"})),
    (("end_silence", "1f"), {},
        ("DELETE", "/api/v1/monitoring/alerts/silences/1f", {}, None)),
    (("undelivered", 7), {},
        ("GET", "/api/v1/monitoring/notifications/undelivered", {"limit": "7"}, None)),
    (("street_alert_rules", "a"), {}, ("GET", f"{ENGINE}/streets/a/alert-rules", {}, None)),
    (("set_street_alert_rule", "a", "long wait", {"name": "long wait"}), {},
        ("PUT", f"{ENGINE}/streets/a/alert-rules/long%20wait", {}, {"name": "long wait"})),
    (("remove_street_alert_rule", "a", "long wait"), {},
        ("DELETE", f"{ENGINE}/streets/a/alert-rules/long%20wait", {}, None)),
    (("overrides", "a"), {}, ("GET", f"{ENGINE}/streets/a/overrides", {}, None)),
    (("act", "a", "pause"), {}, ("POST", f"{ENGINE}/streets/a/pause", {}, None)),
    (("order", "a", "0f"), {}, ("GET", f"{ENGINE}/streets/a/orders/0f", {}, None)),
    (("ingest", ({"n": 1}, {"n": 2})), {},
        ("POST", "/api/v1/ingest/batch", {}, [{"n": 1}, {"n": 2}])),
    (("analytics", "wait-times"), {"simulation_id": "S", "limit": 3},
        ("GET", "/api/v1/analytics/wait-times", {"simulation_id": "S", "limit": "3"}, None)),
    (("seal", "0-1"), {}, ("GET", "/api/v1/violations/0-1/seal", {}, None)),
    (("call", "DELETE", "/x"), {}, ("DELETE", "/x", {}, None)),
    (("call", "POST", "/x", {"a": 1}, [2]), {}, ("POST", "/x", {"a": "1"}, [2])),
]  # fmt: skip


@pytest.mark.parametrize(("words", "named", "asked"), CALLS)
def test_each_method_calls_its_route(route, call, words, named, asked):
    assert call(*words, **named) == {"good": 1}
    assert route.asked == [(*asked, "Bearer T")]


@pytest.mark.parametrize(("letter", "path"), [("", "replay"), ("0f", "0f/replay")])
def test_dead_letters_are_replayed_one_by_one_or_all(route, call, letter, path):
    route.answers.append((200, "application/json", b'{"replayed": 3}'))
    assert call("replay", letter) == 3
    place = f"/api/v1/monitoring/notifications/undelivered/{path}"
    assert route.asked == [("POST", place, {}, None, "Bearer T")]


def test_both_clients_have_the_same_methods_with_the_same_defaults():
    def methods(kind):
        return {
            name: [(p.name, p.default) for p in inspect.signature(f).parameters.values()]
            for name, f in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") and name != "close"
        }

    assert methods(Headway) == methods(AsyncHeadway)
    assert [p.default for p in inspect.signature(Headway).parameters.values()][2] == 30.0
    assert [p.default for p in inspect.signature(AsyncHeadway).parameters.values()][2] == 30.0


def test_the_timeout_can_be_set(monkeypatch):
    made = []
    monkeypatch.setattr(room.httpx, "Client", lambda **how: made.append(how))
    monkeypatch.setattr(room.httpx, "AsyncClient", lambda **how: made.append(how))
    for kind in (Headway, AsyncHeadway):
        kind("http://x", "T")
        kind("http://x", "T", 5.0)
    assert [how["timeout"] for how in made] == [30.0, 5.0] * 2
    assert made[0] == {
        "base_url": "http://x",
        "headers": {"Authorization": "Bearer T"},
        "timeout": 30.0,
    }


PROBLEM = {
    "detail": "no junction",
    "faults": [{"pointer": "/a", "message": "must be b"}, {"pointer": "", "message": "is no list"}],
}


@pytest.mark.parametrize(
    ("status", "body", "said", "detail", "faults"),
    [
        (
            422,
            PROBLEM,
            "422: no junction; /a: must be b; /: is no list",
            "no junction",
            (("/a", "must be b"), ("", "is no list")),
        ),
        (400, {"detail": "no"}, "400: no", "no", ()),
        (404, {}, "404: Not Found", "Not Found", ()),
        (502, None, "502: Bad Gateway", "Bad Gateway", ()),
    ],
)
def test_a_refusal_is_an_error_with_its_faults(route, call, status, body, said, detail, faults):
    route.answers.append(
        (
            status,
            "application/problem+json",
            json.dumps(body).encode() if body is not None else b"<html>",
        )
    )
    with pytest.raises(HeadwayError) as error:
        call("streets")
    assert str(error.value) == said
    assert (error.value.status, error.value.detail, error.value.faults) == (status, detail, faults)


def test_successful_answers_are_parsed(route, call):
    route.answers.append((299, "application/json", b"[1]"))
    assert call("call", "GET", "/x") == [1]
    route.answers.append((202, "application/json", b"[2]"))
    assert call("call", "GET", "/x") == [2]


def test_names_with_characters_of_their_own_reach_the_service_whole(route, call):
    """As SUMO may have them: # begins a fragment, ? a query, / another part."""
    call("override", "headway", "-12#3/a?b c", "hold")
    assert [path for _, path, *_ in route.asked] == [
        "/api/v1/engine/streets/headway/junctions/-12%233%2Fa%3Fb%20c/override"
    ]


def test_a_closed_client_makes_no_requests(route):
    headway = Headway(route.url, "T")
    headway.close()
    with pytest.raises(RuntimeError, match="closed"):
        headway.streets()
    with Headway(route.url, "T") as again:
        assert again.streets() == {"good": 1}
    with pytest.raises(RuntimeError, match="closed"):
        again.streets()

    async def play():
        async with AsyncHeadway(route.url, "T") as later:
            assert await later.streets() == {"good": 1}
        with pytest.raises(RuntimeError, match="closed"):
            await later.streets()

    asyncio.run(play())


@contextlib.contextmanager
def streams(*acts):
    """A WebSocket server that plays an act for each connection:
    a list of messages and then a close code, or the HTTP status it refuses with, alone or with a
    problem document.

    After the last act nothing more is served. Yields (url, the paths that were asked for).
    """
    asked, left = [], list(acts)

    def before(connection, request):
        asked.append(request.path)
        if isinstance(left[0], int):
            return Response(left.pop(0), "refused", Headers(), b"")
        if isinstance(left[0], tuple):
            status, problem = left.pop(0)
            kind = Headers({"Content-Type": "application/problem+json"})
            return Response(status, "refused", kind, json.dumps(problem).encode())
        return None

    def play(connection):
        *messages, code = left.pop(0)
        for message in messages:
            connection.send(json.dumps(message))
        connection.close(code, "end")

    with serve(play, "127.0.0.1", 0, process_request=before) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}", asked
        server.shutdown()
        thread.join()


@pytest.fixture
def pauses(monkeypatch):
    """How long the clients paused; they do not really."""
    found = []

    async def sleep(seconds):
        found.append(seconds)

    monkeypatch.setattr(room, "time", types.SimpleNamespace(sleep=found.append))
    monkeypatch.setattr(room, "asyncio", types.SimpleNamespace(sleep=sleep))
    return found


@pytest.fixture(params=["sync", "async"])
def listen(request):
    """Listens with either kind of client until `n` messages have come, or the service refuses."""

    def sync(url, n, topic="alerts", **query):
        found = []
        with (
            Headway(url, "T") as headway,
            contextlib.closing(headway.listen(topic, **query)) as messages,
        ):
            for message in messages:
                found.append(message)
                if len(found) == n:
                    break
        return found

    def later(url, n, topic="alerts", **query):
        async def play():
            found = []
            async with (
                AsyncHeadway(url, "T") as headway,
                contextlib.aclosing(headway.listen(topic, **query)) as messages,
            ):
                async for message in messages:
                    found.append(message)
                    if len(found) == n:
                        break
            return found

        return asyncio.run(play())

    return sync if request.param == "sync" else later


def message(n):
    return {"id": str(n), "topic": "alerts", "street": "a", "data": {"n": n}}


def test_a_stream_resumes_after_the_last_message_whatever_failed(listen, pauses):
    beat = {"topic": "heartbeat"}
    acts = [message(1), beat, message(2), 1011], 503, [4408], [message(3), 1000], [message(4), 1000]
    with streams(*acts) as (url, asked):
        assert listen(f"{url}/", 4, street="a", kinds="", compress=1) == [
            message(n) for n in (1, 2, 3, 4)
        ]
    assert asked == [
        "/api/v1/live/alerts?street=a&compress=1",
        *["/api/v1/live/alerts?street=a&compress=1&last_id=2"] * 3,
        "/api/v1/live/alerts?street=a&compress=1&last_id=3",
    ]  # fmt: skip
    assert pauses == [
        0.2,
        0.4,
        0.2,
        0.2,
    ]  # twice as long after each failure; from the begin again after each connection


def test_the_pauses_double_up_to_eight_seconds(listen, pauses):
    with streams([1000], *[500] * 8, [message(1), 1000]) as (url, _):
        assert listen(url, 1, "monitoring") == [message(1)]
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 8.0, 8.0, 8.0]


@pytest.mark.parametrize(
    ("act", "status", "said"),
    [
        (401, 401, "401: the stream is refused"),
        (403, 403, "403: the stream is refused"),
        ([4400], 401, "401: end"),
        ([4401], 401, "401: end"),
        ((401, {"detail": "the token is not valid"}), 401, "401: the token is not valid"),
        ((404, {"detail": "no stream 'alarms'"}), 404, "404: no stream 'alarms'"),
        (
            (422, {"detail": "bad", "faults": [{"pointer": "/format", "message": "must be one"}]}),
            422,
            "422: bad; /format: must be one",
        ),
    ],
)
def test_a_refusal_is_raised_with_its_reason_and_not_retried(listen, pauses, act, status, said):
    with streams(act) as (url, asked), pytest.raises(HeadwayError) as error:
        listen(url, 1)
    assert (error.value.status, str(error.value)) == (status, said)
    assert (len(asked), pauses) == (1, [])


@pytest.mark.parametrize(
    "act",
    [400, 404, 500, [4399], [4402], [4408], [1001], (503, {"detail": "starting"}), (429, {})],
)
def test_other_failures_are_retried(listen, pauses, act):
    with streams(act, [message(1), 1000]) as (url, _):
        assert listen(url, 1) == [message(1)]
    assert pauses == [0.2]


def test_an_unreachable_server_is_retried(pauses, monkeypatch):
    tries = []

    def nobody(*words, **how):
        tries.append((words, how))
        if len(tries) == 3:
            raise KeyError("enough")
        raise ConnectionRefusedError

    monkeypatch.setattr(room, "connect", nobody)
    with Headway("https://http.example:1", "T") as headway, pytest.raises(KeyError):
        headway.listen("realtime")
    assert pauses == [0.2, 0.4]
    assert tries[0] == (("wss://http.example:1/api/v1/live/realtime",), {
        "max_size": None, "additional_headers": {"Authorization": "Bearer T"},
    })  # fmt: skip


def test_a_large_message_comes_whole(listen):
    """A scene of many vehicles is larger than the 1 MiB that the library takes by default."""
    large = message(1) | {"data": "x" * (1 << 21)}
    with streams([large, 1000]) as (url, _):
        assert listen(url, 1) == [large]


def test_a_stream_listens_from_the_call_on(pauses):
    with streams([message(1), 1000]) as (url, asked), Headway(url, "T") as headway:
        messages = headway.listen("alerts")
        assert asked == ["/api/v1/live/alerts"]
        assert next(messages) == message(1)
        messages.close()


def test_an_api_key_is_sent_as_one_and_names_are_quoted(route):
    route.asked.clear()
    with Headway(route.url, "hw_1_secret") as headway:
        headway.call("GET", "/x")
        headway.seal("a b#1?x/..")
    assert [(path, shown) for _, path, _, _, shown in route.asked] == [
        ("/x", "hw_1_secret"),
        ("/api/v1/violations/a%20b%231%3Fx%2F../seal", "hw_1_secret"),
    ]
