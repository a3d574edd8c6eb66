"""The routes of live streams on a real server: credentials, filters and forms;
heartbeats, resumption, disconnection.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket as socket_of_system
import threading
import time
import zlib
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from headway.api import hub as rooms
from headway.api import live, sockets
from headway.api.security import Role
from tests.waiting import until


def clients(service, topic):
    return service.app.state.services.hub.statistics()[topic]["clients"]


@contextlib.contextmanager
def socket(service, topic="alerts", compression=None, **query):
    """An open socket that the hub knows of."""
    before = clients(service, topic)
    words = httpx.QueryParams({"token": service.token("viewer")} | query)
    with connect(
        f"{service.url.replace('http', 'ws')}/ws/{topic}?{words}", compression=compression
    ) as found:
        until(lambda: clients(service, topic) == before + 1)
        yield found
    until(lambda: clients(service, topic) == before)


def closed(service, topic="alerts", headers=None, **query):
    """Of a socket that is not let in: (status, why) of the answer, or (close code, reason)."""
    words = httpx.QueryParams(query)
    try:
        with connect(
            f"{service.url.replace('http', 'ws')}/ws/{topic}?{words}", additional_headers=headers
        ) as found:
            found.recv(timeout=5)
    except ConnectionClosed as error:
        return error.rcvd.code, error.rcvd.reason
    except Exception as error:
        if (answer := getattr(error, "response", None)) is None:
            return repr(error)
        assert answer.headers["content-type"] == "application/problem+json"
        reported = json.loads(answer.body)
        assert (reported["status"], reported["instance"]) == (answer.status_code, f"/ws/{topic}")
        return answer.status_code, [
            (f["pointer"], f["message"]) for f in reported["faults"]
        ] or reported["detail"]
    return "open"


def take(one, n=1):
    return [json.loads(one.recv(timeout=10)) for _ in range(n)]


def numbers(messages):
    return [m["data"]["n"] for m in messages]


@pytest.fixture
def joined(service, monkeypatch):
    """The clients that have joined the hub since, in order."""
    hub, found = service.app.state.services.hub, []
    join = hub.join
    monkeypatch.setattr(
        hub, "join", lambda client, last_id=0: found.append(client) or join(client, last_id)
    )
    return found


@pytest.mark.parametrize("topic", ["realtime", "monitoring", "alerts"])
def test_each_topic_has_its_route(service, topic):
    others = [t for t in ("realtime", "monitoring", "alerts") if t != topic]
    with socket(service, topic) as one:
        for other in others:
            service.app.state.services.hub.publish(other, "a", {"n": 0})
        service.app.state.services.hub.publish(topic, "a", {"n": 1})
        (message,) = take(one)
    assert message == {"id": message["id"], "topic": topic, "street": "a", "data": {"n": 1}}


@pytest.mark.parametrize(
    "headers",
    [
        lambda s: {"Authorization": f"Bearer {s.token('viewer')}"},
        lambda s: {"X-API-Key": s.app.state.services.keys.make("n", s.role)},
    ],
)
def test_credentials_may_come_in_headers(service, headers):
    service.role = Role.VIEWER
    with connect(
        f"{service.url.replace('http', 'ws')}/ws/alerts", additional_headers=headers(service)
    ) as one:
        until(lambda: clients(service, "alerts") == 1)
        service.app.state.services.hub.publish("alerts", "a", {"n": 1})
        assert numbers(take(one)) == [1]
    until(lambda: clients(service, "alerts") == 0)


def test_unknown_clients_and_invalid_queries_are_rejected(service, caplog):
    token = service.token("viewer")
    assert closed(service) == (
        401,
        "credentials are needed: a bearer token, or an API key in X-API-Key",
    )
    assert closed(service, token="x") == (401, "the token is not valid (Not enough segments)")
    assert closed(service, headers={"X-API-Key": "hw_1_x"}) == (401, "the API key is not valid")
    form = ("/format", "must be one of dashboard, chart, table")
    number = ("/last_id", "must be a whole number of 19 digits at most")
    assert closed(service, token=token, format="xml") == (422, [form])
    for last in ("x", "-1", "1" * 20, "²"):
        assert closed(service, token=token, last_id=last) == (422, [number])
    assert closed(service, token=token, format="", last_id="") == (422, [form, number])
    large = "at most 32 kinds; no name longer than 64 characters"
    for words in ({"kinds": "a," * 33}, {"kinds": "a" * 65}, {"street": "a" * 65}):
        assert closed(service, token=token, **words) == (422, large)
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == []
    assert clients(service, "alerts") == 0
    for good in (
        {"last_id": "1" * 19},
        {"format": "dashboard"},
        {"format": "chart"},
        {"format": "table"},
    ):
        with socket(service, **good):
            pass


def test_filters_are_those_of_the_query(service):
    hub = service.app.state.services.hub
    with (
        socket(service, street="b") as street,
        socket(service, kinds="safety.,alert.,,") as kinds,
        socket(service, format="chart") as chart,
        socket(service, format="table") as table,
        socket(service, compress=1) as packed,
        socket(service, compress=0) as plain,
    ):
        text = "z" * 600
        for n, (where, kind) in enumerate((("a", "safety.x"), ("b", "engine.y"), ("b", "alert.z"))):
            hub.publish("alerts", where, {"kind": kind, "n": n, "text": text})
        assert numbers(take(street, 2)) == [1, 2]
        assert numbers(take(kinds, 2)) == [0, 2]
        assert take(chart)[0]["data"] == {"x": None, "y": {"n": 0}}
        assert take(table)[0]["data"] == {
            "columns": ["kind", "n", "text"],
            "rows": [["safety.x", 0, text]],
        }
        (message,) = take(packed)
        assert message["encoding"] == "zlib+base64"
        assert json.loads(zlib.decompress(base64.b64decode(message["data"])))["n"] == 0
        assert take(plain)[0]["data"]["text"] == text


def test_filters_change_while_connected_and_an_invalid_request_changes_nothing(
    service, monkeypatch
):
    monkeypatch.setattr(live, "FAULT_PAUSE_S", 0.01)
    hub = service.app.state.services.hub
    wrong = "street is a name, kinds a list of names"
    large = "at most 32 kinds; no name longer than 64 characters"

    def tell_all():
        for n, (where, kind) in enumerate(
            (("a", "safety.x"), ("b", "engine.y"), ("b", "safety.z"))
        ):
            hub.publish("alerts", where, {"kind": kind, "n": n})
        hub.publish("alerts", "b", {"kind": "engine.last", "n": 9})

    with socket(service, street="b", kinds="engine.") as one:
        for payload, detail in (
            ({"street": 7}, wrong), ({"kinds": "safety."}, wrong), ({"kinds": [1]}, wrong),
            ({"kinds": None}, wrong), ({"kinds": ["a"] * 33}, large),
            ({"kinds": ["a" * 65]}, large),
            ([], 'send {"street": a name, "kinds": a list of names}, or one of both'),
        ):  # fmt: skip
            one.send(json.dumps(payload))
            assert take(one) == [{"topic": "error", "detail": detail}]
        one.send("nonsense")
        (error,) = take(one)
        assert error["topic"] == "error"
        assert error["detail"].startswith("Expecting value")
        one.send("[" * 4000)
        assert take(one)[0]["topic"] == "error"
        tell_all()
        assert numbers(take(one, 2)) == [1, 9]
        for payload, expected in (
            ({"kinds": []}, [1, 2, 9]),
            ({"kinds": ["safety.", "engine.last"]}, [2, 9]),
            ({"street": ""}, [0, 2, 9]),
        ):
            one.send(json.dumps(payload))
            one.send("7")  # its answer tells that the wish is in force
            assert take(one)[0]["topic"] == "error"
            tell_all()
            assert numbers(take(one, len(expected))) == expected


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_who_sends_more_than_a_change_of_filters_is_closed_and_nobody_else(service, compression):
    """Decompressed it counts: 4 MiB of one letter are 4 kB on the wire."""
    with socket(service, "realtime") as other, socket(service, compression=compression) as one:
        one.send('{"street": ""}' + " " * (4096 - 14))
        service.app.state.services.hub.publish("alerts", "a", {"n": 1})
        assert numbers(take(one)) == [1]
        one.send(" " * ((4 << 20) if compression else 4097))
        with pytest.raises(ConnectionClosed) as end:
            one.recv(timeout=10)
        assert end.value.rcvd.code == 1009
        service.app.state.services.hub.publish("realtime", "a", {"n": 2})
        assert numbers(take(other)) == [2]


@pytest.mark.parametrize("parts", [[b'{"street": "\xff"}'], [b'{"street": "\xc3', b'"}']])
def test_who_sends_what_is_no_utf_8_is_closed_and_no_error_is_logged(service, caplog, parts):
    """uvicorn logged a traceback for each: a viewer could have the alert `errors` opened."""
    with socket(service, "realtime") as other, socket(service) as one:
        one.send(parts[0] if len(parts) == 1 else iter(parts), text=True)
        with pytest.raises(ConnectionClosed) as end:
            one.recv(timeout=10)
        assert end.value.rcvd.code == 1007
        service.app.state.services.hub.publish("realtime", "a", {"n": 2})
        assert numbers(take(other)) == [2]
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == []


def test_after_a_fault_a_socket_is_read_no_further_for_a_while(service, monkeypatch):
    monkeypatch.setattr(live, "FAULT_PAUSE_S", 2.0)
    with socket(service) as one:
        one.send("[")
        one.send("[")
        assert take(one)[0]["topic"] == "error"
        service.app.state.services.hub.publish("alerts", "a", {"n": 1})
        assert numbers(take(one)) == [1], "what it came for still comes"
        with pytest.raises(TimeoutError):
            one.recv(timeout=0.3)


def test_a_quiet_socket_gets_a_heartbeat(service, monkeypatch):
    monkeypatch.setattr(rooms, "HEARTBEAT_S", 0.05)
    with socket(service) as one:
        assert one.recv(timeout=5) == '{"topic":"heartbeat"}'


def test_a_reconnected_socket_resumes_after_its_last_message(service):
    hub = service.app.state.services.hub
    with socket(service) as one:
        for n in range(3):
            hub.publish("alerts", "a", {"n": n})
        sent = take(one, 3)
    with socket(service, last_id=sent[0]["id"]) as again:
        assert take(again, 2) == sent[1:]
        hub.publish("alerts", "a", {"n": 3})
        assert numbers(take(again)) == [3]


def test_a_disconnected_socket_gets_the_reason(service, joined):
    hub = service.app.state.services.hub
    with connect(
        f"{service.url.replace('http', 'ws')}/ws/monitoring?token={service.token('viewer')}"
    ) as one:
        until(lambda: clients(service, "monitoring") == 1)
        (client,) = joined
        client.ended = "too slow: " + "x" * 200
        client.to_send.set()
        hub.publish("monitoring", "b", {"n": 1})  # wakes the loop
        with pytest.raises(ConnectionClosed) as end:
            while True:
                one.recv(timeout=10)
    assert (end.value.rcvd.code, end.value.rcvd.reason) == (4408, ("too slow: " + "x" * 200)[:120])
    until(lambda: clients(service, "monitoring") == 0)


def test_frames_are_compressed_each_by_itself(service):
    hub = service.app.state.services.hub
    with socket(service, "realtime", compression="deflate") as one:
        offered = one.response.headers["Sec-WebSocket-Extensions"]
        assert {w.strip() for w in offered.split(";")} == {
            "permessage-deflate",
            "server_no_context_takeover",
            "server_max_window_bits=12",
            "client_max_window_bits=12",
        }
        for n in range(3):
            hub.publish("realtime", "a", {"n": n, "text": "x" * 5000})
        assert numbers(take(one, 3)) == [0, 1, 2]
    with socket(service, "realtime") as one:
        assert "Sec-WebSocket-Extensions" not in one.response.headers
        hub.publish("realtime", "a", {"n": 3})
        assert numbers(take(one)) == [3]


def test_broadcasts_are_written_without_waiting(service, joined):
    hub = service.app.state.services.hub
    with socket(service, "realtime") as one:
        (client,) = joined
        for n in range(200):
            hub.publish("realtime", "a", {"n": n})
        assert numbers(take(one, 200)) == list(range(200))
        until(lambda: hub.statistics()["realtime"]["sent"] >= 200)  # counted once it is on its way
        assert hub.statistics()["realtime"] == {
            "clients": 1,
            "sent": 200,
            "dropped": 0,
            "waiting": 0,
        }
    message = rooms.LiveMessage(1, b"{}")
    assert client.deliver(message) is False  # the connection is gone


@contextlib.contextmanager
def events(service, topic="alerts", headers=None, **query):
    """The answer and an iterator of the lines of an event stream."""
    before = clients(service, topic) if topic in rooms.TOPICS else 0
    words = {"Authorization": f"Bearer {service.token('viewer')}"} | (headers or {})
    with httpx.stream(
        "GET", f"{service.url}/stream/{topic}", params=query, headers=words, timeout=10
    ) as answer:
        lines = answer.iter_lines()
        if answer.status_code == 200:
            assert [next(lines), next(lines)] == ["retry: 2000", ""]
            until(lambda: clients(service, topic) == before + 1)
        yield answer, lines
    if topic in rooms.TOPICS:
        until(lambda: clients(service, topic) == before)


def event(lines):
    """(id, message) of the next event."""
    number, data, end = next(lines), next(lines), next(lines)
    assert (number[:4], data[:6], end) == ("id: ", "data: ", "")
    return int(number[4:]), json.loads(data[6:])


@pytest.mark.parametrize("topic", ["realtime", "monitoring", "alerts"])
def test_events_are_sent_as_they_come(service, topic):
    with events(service, topic) as (answer, lines):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"
        service.app.state.services.hub.publish(topic, "a", {"n": 1})
        number, message = event(lines)
    assert message == {"id": str(number), "topic": topic, "street": "a", "data": {"n": 1}}


def test_server_sent_events_take_the_same_query(service):
    hub = service.app.state.services.hub
    with (
        events(service, street="b") as (_, street),
        events(service, kinds="alert.,engine.") as (_, kinds),
        events(service, format="chart", compress="true") as (_, chart),
    ):
        hub.publish("alerts", "a", {"kind": "alert.x", "n": 1} | {f"v{k}": k for k in range(100)})
        hub.publish("alerts", "b", {"kind": "other", "n": 2})
        assert event(street)[1]["data"]["n"] == 2
        assert event(kinds)[1]["data"]["n"] == 1
        packed = event(chart)[1]
        assert packed["encoding"] == "zlib+base64"
        assert json.loads(zlib.decompress(base64.b64decode(packed["data"])))["y"]["v99"] == 99


def test_a_quiet_event_stream_sends_a_heartbeat(service, monkeypatch):
    monkeypatch.setattr(rooms, "HEARTBEAT_S", 0.05)
    with events(service) as (_, lines):
        assert [next(lines), next(lines)] == [": still here", ""]


def test_server_sent_events_resume_after_the_last_id_of_header_or_query(service):
    hub = service.app.state.services.hub
    with events(service) as (_, lines):
        sent = []
        for n in range(100):
            hub.publish("alerts", "a", {"n": n})
            sent.append(event(lines))
    first, tenth = sent[0][0], sent[9][0]
    with events(service, headers={"Last-Event-ID": str(first)}, last_id=tenth) as (_, lines):
        assert [event(lines) for _ in range(99)] == sent[
            1:
        ]  # more than may wait of a slow client: all of it comes
    for useless in ("x", "1" * 20, "", b"\xb2"):
        with events(service, headers={"Last-Event-ID": useless}, last_id=tenth) as (_, lines):
            assert event(lines) == sent[10]
    with events(service, headers={"Last-Event-ID": "9" * 19}, last_id=tenth) as (_, lines):
        number, gap = event(lines)  # of no message that there was: told, and all that is kept
        assert gap["topic"] == "gap"
        assert gap["data"] | {"detail": ""} == {
            "stream": "alerts",
            "after": "9" * 19,
            "missed": None,
            "detail": "",
        }
        assert number == int(gap["id"])


def test_a_disconnected_event_stream_states_the_reason(service, joined):
    with events(service) as (_, lines):
        (client,) = joined
        client.ended = "too slow"
        client.to_send.set()
        service.app.state.services.hub.publish("alerts", "a", {"n": 1})
        found = list(lines)
    assert found[-3:] == ["event: dropped", "data: too slow", ""]


def test_a_topic_that_is_none_is_a_problem(service):
    with events(service, "weather") as (answer, _):
        answer.read()
        assert (answer.status_code, answer.json()["detail"]) == (
            404,
            "no stream 'weather'. There are: realtime, monitoring, alerts.",
        )


def history(service, topic="alerts", role="viewer", **query):
    with service.client(role) as http:
        return http.get(f"/api/v1/live/{topic}/history", params=query)


def test_history_is_read_in_parts_by_last_id_and_says_what_is_gone(service):
    hub = service.app.state.services.hub
    begin = history(service, "realtime", limit=512).json()["last_id"]
    for n in range(520):
        hub.publish("realtime", "ab"[n % 2], {"kind": f"k{n % 3}", "n": n})
    until(lambda: len(history(service, "realtime", limit=512).json()["messages"]) == 512)
    found, last, parts = [], begin, 0
    while part := history(service, "realtime", last_id=last, limit=100).json()["messages"]:
        found += part
        last = part[-1]["id"]
        parts += 1
    assert parts == 6
    assert (found[0]["topic"], found[0]["data"]["missed"]) == ("gap", 8)
    assert [m["data"]["n"] for m in found[1:]] == list(range(8, 520))
    whole = history(service, "realtime", street="b", kinds="k1,k2", limit=512, format="chart")
    assert [m["data"]["y"]["n"] for m in whole.json()["messages"]] == [
        n for n in range(8, 520) if n % 2 and n % 3
    ]
    assert whole.json()["last_id"] == last  # also past what the filter leaves out
    assert whole.headers["cache-control"] == "no-store"


def test_history_waits_for_the_next_message(service):
    hub = service.app.state.services.hub
    last = history(service, limit=512).json()["last_id"]
    answers = []
    asking = threading.Thread(
        target=lambda: answers.append(history(service, last_id=last, wait_s=15, street="z").json())
    )
    asking.start()
    until(lambda: clients(service, "alerts") == 1)
    hub.publish("alerts", "a", {"n": -1})
    hub.publish("alerts", "z", {"n": -2})
    asking.join(20)
    until(lambda: clients(service, "alerts") == 0)
    assert [m["data"]["n"] for m in answers[0]["messages"]] == [-2]
    assert answers[0]["messages"][0]["id"] == answers[0]["last_id"]
    quiet = history(service, last_id=answers[0]["last_id"], wait_s=0.05)
    assert (quiet.status_code, quiet.json()) == (
        200,
        {"messages": [], "last_id": answers[0]["last_id"]},
    )
    assert clients(service, "alerts") == 0


def test_history_is_for_viewers_and_its_query_is_checked(service):
    assert history(service, role=None).status_code == 401
    assert history(service, "weather").status_code == 404
    for words in ({"wait_s": 16}, {"limit": 513}, {"last_id": -1}, {"kinds": "a," * 33}):
        assert history(service, **words).status_code == 422


@contextlib.contextmanager
def unread_socket(service, lasts_s=3600.0):
    """A socket whose client reads nothing, once it takes no more; the link, and of the hub."""
    hub = service.app.state.services.hub
    at = urlsplit(service.url)
    key = base64.b64encode(bytes(16)).decode()
    with socket_of_system.socket() as link:
        link.setsockopt(socket_of_system.SOL_SOCKET, socket_of_system.SO_RCVBUF, 4096)
        link.connect((at.hostname, at.port))
        link.sendall(
            f"GET /ws/monitoring?token={service.token('viewer', lasts_s)} HTTP/1.1\r\nHost: x\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        until(lambda: clients(service, "monitoring") == 1)
        (found,) = hub._clients["monitoring"]
        while found.direct.writable.is_set():
            hub.publish("monitoring", "a", {"kind": "x", "text": "z" * 200_000})
            time.sleep(0.01)
        yield link, found


def ping_is_not_answered(hub, link, found):
    hub._loop.call_soon_threadsafe(found.direct.keepalive_timeout)


def client_closes(hub, link, found):
    link.sendall(bytes([0x88, 0x82, 0, 0, 0, 0, 3, 0xE8]))


@pytest.mark.parametrize("end", [ping_is_not_answered, client_closes])
def test_a_socket_whose_client_reads_nothing_is_let_go_of_when_it_ends(service, monkeypatch, end):
    """It stayed for ever: what was written before the close frame waited for its reader."""
    monkeypatch.setattr(sockets, "CLOSED_WITHIN_S", 0.3)
    with unread_socket(service) as (link, found):
        end(service.app.state.services.hub, link, found)
        until(lambda: clients(service, "monitoring") == 0)


def test_a_socket_whose_client_reads_nothing_ends_with_its_credentials(service, monkeypatch):
    """Its end could not be written, and so it did not end."""
    monkeypatch.setattr(sockets, "CLOSED_WITHIN_S", 0.3)
    with unread_socket(service, lasts_s=3.0):
        until(lambda: clients(service, "monitoring") == 0)
