"""Observations over HTTP and WebSocket: statuses, faults, roles, and what the street receives."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from headway.api import observations as door
from headway.client import Headway
from headway.runtime import WorkerError
from headway.service.observations import RateError
from tests.api.service import serving
from tests.api.streets import SNAPSHOT, standing
from tests.waiting import until

PATH = "/api/v1/observations"
STATE = {
    "source": "a-source", "holder": "a-source", "condition": "trusted", "weight": 0.5,
    "factors": {"agreement": 0.5}, "taken": 7, "refused": 1, "cut": 0, "lanes": 2, "at_s": 25299.0,
    "last_seen": 1.7e9, "latency_p50_ms": 1.5, "latency_p99_ms": 4.5,
    "decision_p50_ms": 480.5, "decision_p99_ms": 990.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory, new_record):
    folder = tmp_path_factory.mktemp("observations")
    with serving(
        folder, lambda tell, intake: standing("headway", tell=tell), new_record()
    ) as found:
        yield found


@pytest.fixture
def street(running):
    found = running.app.state.services.street_service.streets["headway"]
    found.snapshot, found.engine.fault = replace(SNAPSHOT, sources=(STATE,)), None
    found.engine.orders.clear()
    return found


@pytest.fixture(scope="module")
def source(running):
    with running.client("source") as client:
        yield client


@pytest.fixture(scope="module")
def row(running):
    """A good row of the street's first approach, at its second 25,300."""
    with running.client("viewer") as client:
        place = client.get(f"{PATH}/places").json()[0]
    approach = place["approaches"][0]
    return {
        "junction": place["junction"], "approach": approach["road"], "at_s": 25300.0, "queue": 3,
    }  # fmt: skip


def test_the_street_gets_what_was_sent(street, source, row):
    answer = source.post(PATH, json=[row, row | {"source": "a-source:2", "queue": 1}])
    assert (answer.status_code, answer.json()) == (202, {"taken": 2, "cut": 0, "refused": []})
    until(lambda: street.engine.orders)
    (order,) = street.engine.orders
    assert {own.source: own.rows[0].queue for own in order.sources} == {
        "a-source": 3, "a-source:2": 1,
    }  # fmt: skip
    assert order.received_ns > 0


def test_one_bad_row_is_named_and_its_neighbour_taken(street, source, row):
    answer = source.post(PATH, json=[row | {"junction": "nowhere"}, row])
    assert answer.status_code == 207
    found = answer.json()
    assert (found["taken"], found["refused"][0]["index"]) == (1, 0)
    assert found["refused"][0]["pointer"] == "/junction"
    assert "no junction 'nowhere'. There are: " in found["refused"][0]["message"]


@pytest.mark.parametrize("text", [b"", b"[]", b"no", b"\xff", b"[" * 10_000, b"7"])
def test_a_body_that_is_no_message_is_refused(street, source, text):
    answer = source.post(PATH, content=text)
    assert (answer.status_code, answer.json()["title"]) == (422, "Unprocessable Entity")


def test_a_body_of_which_nothing_can_be_taken_lists_its_faults(street, source, row):
    answer = source.post(PATH, json=[row | {"at_s": 1.0}, row | {"quality": 2.0}])
    assert answer.status_code == 422
    assert [f["pointer"] for f in answer.json()["faults"]] == ["/0/at_s", "/1/quality"]


def test_a_body_that_is_too_long_is_not_read_to_its_end(street, source):
    assert source.post(PATH, content=b" " * (8 << 20) + b"[]").status_code == 413


def test_a_flood_is_cut_and_then_refused(street, source, row):
    rows = [row | {"source": "a-source:flood"}] * 3000
    answer = source.post(PATH, json=rows)
    assert answer.status_code == 207
    assert answer.json()["taken"] + answer.json()["cut"] == 3000
    assert answer.json()["cut"] > 0
    answer = source.post(PATH, json=rows[:1] * 5000)
    if answer.status_code != 207:  # a few were earned again meanwhile
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert source.post(PATH, json=[row]).status_code == 202, "another source is not cut"


def test_a_street_that_starts_does_not_read_or_is_not_there(street, source, row):
    street.engine.fault = WorkerError("the worker takes no orders now")
    until(lambda: source.post(PATH, json=[row]).status_code == 503)
    street.engine.fault = None
    until(lambda: source.post(PATH, json=[row]).status_code == 202)
    street.snapshot = None
    answer = source.post(PATH, json=[row])
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert source.post(f"{PATH}?street=nowhere", json=[row]).status_code == 404


def test_who_may(running, street, source, row):
    assert source.get("/api/v1/engine/state").status_code == 200
    order = {"order": "hold"}
    path = f"/api/v1/engine/streets/headway/junctions/{row['junction']}/override"
    assert source.post(path, json=order).status_code == 403
    with running.client("viewer") as viewer, running.client("") as nobody:
        assert viewer.post(PATH, json=[row]).status_code == 403
        assert nobody.post(PATH, json=[row]).status_code == 401
        assert viewer.get(f"{PATH}/sources").status_code == 200
        assert nobody.get(f"{PATH}/sources").status_code == 401


def test_the_sources_and_places_are_listed(running, street, source):
    with Headway(running.url, running.token("viewer")) as headway:
        assert headway.sources() == [STATE]
        found = headway.places()
    assert [place["junction"] for place in found] == [j.id for j in street.network.junctions]
    ways = {a["comes_from"] for place in found for a in place["approaches"]}
    assert ways <= {
        "north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest",
    }  # fmt: skip
    assert len(ways) > 1


def test_an_approach_may_be_named_by_its_direction(street, source, row):
    place = source.get(f"{PATH}/places").json()[0]
    ways = [a["comes_from"] for a in place["approaches"]]
    approach = next(a for a in place["approaches"] if ways.count(a["comes_from"]) == 1)
    assert source.post(PATH, json=[row | {"approach": approach["comes_from"]}]).status_code == 202
    until(lambda: street.engine.orders)
    assert street.engine.orders[-1].sources[0].rows[0].approach == approach["road"]
    other = next(w for w in ("north", "south", "northwest", "southeast") if w not in ways)
    answer = source.post(PATH, json=[row | {"approach": other}])
    assert f"no roads come from the {other}" in answer.json()["faults"][0]["message"]


def test_observations_are_in_the_metrics_and_not_in_the_audit_trail(running, street, source, row):
    with running.client() as admin:
        before = admin.get("/api/v1/admin/audit/verify").json()
        source.post(PATH, json=[row])
        assert admin.get("/api/v1/admin/audit/verify").json() == before
        text = admin.get("/metrics").text
    assert 'headway_observations_total{outcome="taken",street="headway"}' in text


def address(running, token, query=""):
    return f"{running.url.replace('http', 'ws')}{PATH}?token={token}{query}"


def test_the_socket_answers_each_message(running, street, row):
    with connect(address(running, running.token("source"))) as link:

        def ask(message):
            link.send(message)
            return json.loads(link.recv())

        assert ask(json.dumps([row])) == {"taken": 1, "cut": 0, "refused": []}
        assert ask(json.dumps(row).encode())["taken"] == 1
        assert (
            ask(json.dumps([row | {"junction": "Z"}, row]))["refused"][0]["pointer"] == "/junction"
        )
        assert "no JSON" in ask("no")["error"]
        street.snapshot = None
        assert ask(json.dumps([row])) == {"error": "street 'headway' is starting"}
    until(lambda: len(street.engine.orders) >= 3)


def test_long_messages_are_not_taken_compressed(running, street, row):
    """1 MiB of one letter would be 1 kB on the wire. Whoever asks for the same route in another
    spelling gets compression, and short messages alone."""
    with connect(address(running, running.token("source")), compression="deflate") as link:
        assert "Sec-WebSocket-Extensions" not in link.response.headers
    other = address(running, running.token("source")).replace("observations", "observ%61tions")
    with connect(other, compression="deflate") as link:
        link.send(json.dumps([row]))
        assert json.loads(link.recv())["taken"] == 1
        link.send(json.dumps([row]) + " " * 5000)
        with pytest.raises(ConnectionClosed) as end:
            link.recv(timeout=10)
        assert end.value.rcvd.code == 1009


def test_a_message_of_more_than_a_mebibyte_closes_its_socket(running, street, row):
    with connect(address(running, running.token("source"))) as link:
        link.send(json.dumps([row]) + " " * ((1 << 20) - 1000))
        assert json.loads(link.recv())["taken"] == 1
        with pytest.raises(ConnectionClosed) as end:
            link.send(" " * (1 << 20) + "[]")
            link.recv(timeout=10)
        # it may be closed while the rest is still being sent: then no close frame is seen
        assert end.value.rcvd is None or end.value.rcvd.code == 1009


def test_messages_that_come_in_parts_of_4_kib_are_no_flood(running, street, row):
    """As Go's clients send them: ten messages of 50 kB a second closed their socket."""
    message = json.dumps([row]).ljust(120_000)
    parts = [message[begin : begin + 4096] for begin in range(0, len(message), 4096)]
    with connect(address(running, running.token("source"))) as link:
        for _ in range(20):  # 600 parts
            link.send(parts)
            assert json.loads(link.recv(timeout=10))["taken"] == 1


def test_a_flood_of_small_parts_closes_the_socket_of_a_source_too(running, street, row):
    with connect(address(running, running.token("source"))) as link:
        with pytest.raises(ConnectionClosed) as end:
            link.send([" "] * 3000)
            link.recv(timeout=10)
        assert end.value.rcvd is None or end.value.rcvd.code == 1008


@pytest.mark.parametrize(
    ("more", "is_paused"), [("no", True), ({"junction": "Z"}, True), ({"queue": 1}, False)]
)
def test_after_a_message_that_could_not_be_used_a_socket_is_read_more_slowly(
    running, street, row, monkeypatch, more, is_paused
):
    monkeypatch.setattr(door, "FAULT_PAUSE_S", 2.0)
    with connect(address(running, running.token("source"))) as link:
        for _ in range(2):
            link.send(more if isinstance(more, str) else json.dumps([row | more]))
        assert json.loads(link.recv())
        if is_paused:
            with pytest.raises(TimeoutError):
                link.recv(timeout=0.3)
        else:
            assert json.loads(link.recv(timeout=10))["taken"] == 1


def test_a_holder_who_sends_too_many_bytes_gets_429(running, street, source, row, monkeypatch):
    service = running.app.state.services.observations
    monkeypatch.setattr(service, "take", _too_much)
    answer = source.post(PATH, json=[row])
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert answer.json()["detail"] == "too much"
    with connect(address(running, running.token("source"))) as link:
        link.send("[]")
        assert json.loads(link.recv()) == {"error": "too much"}


def _too_much(*_):
    raise RateError("too much")


def test_a_fault_of_the_service_closes_the_socket_and_is_logged(
    running, street, row, monkeypatch, caplog
):
    def fail(*_):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(running.app.state.services.observations, "take", fail)
    with connect(address(running, running.token("source"))) as link:
        link.send(json.dumps([row]))
        with pytest.raises(ConnectionClosed):
            link.recv(timeout=10)
    assert any("a fault of ours" in (r.exc_text or "") for r in caplog.records)


@pytest.mark.parametrize(
    ("role", "query", "status"),
    [
        ("viewer", "", 403),
        ("source", "&street=nowhere", 404),
        ("source", "&stret=headway", 422),
    ],
)
def test_the_socket_is_refused_to_who_may_not(running, street, role, query, status):
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(address(running, running.token(role), query)),
    ):
        pass
    assert refused.value.response.status_code == status
    if status == 422:
        (fault,) = json.loads(refused.value.response.body)["faults"]
        assert fault["message"] == "there is no such name here, but: street"


def test_one_holder_has_so_many_sockets_and_others_theirs(running, street, row, monkeypatch):
    """Each may have a message of 1 MiB in memory, begun and never ended: 2,048 held 2 GB."""
    monkeypatch.setattr(door, "MOST_SOCKETS", 2)
    at = address(running, running.token("source"))
    until(lambda: not running.app.state.services.observation_sockets)  # of the tests before
    with connect(at), connect(at) as second:
        with pytest.raises(InvalidStatus) as refused:
            connect(at)
        assert refused.value.response.status_code == 429
        with connect(address(running, running.token("admin"))) as other:
            other.send(json.dumps([row]))
            assert json.loads(other.recv())["taken"] == 1
        second.close()
        until(lambda: running.app.state.services.observation_sockets["a-source"] == 1)
        with connect(at) as third:
            third.send(json.dumps([row]))
            assert json.loads(third.recv())["taken"] == 1
    until(lambda: not running.app.state.services.observation_sockets)
