"""Observations on their way to a street: who may say what, how much, and by which door."""

from __future__ import annotations

import json
import socket
import struct
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import structlog
from tests.street.builders import two_junctions
from tests.waiting import until

from headway.runtime import WorkerError
from headway.service.mqtt import MqttListener
from headway.service.observations import (
    NotStartedError,
    ObservationService,
    RateError,
    StreetOutbox,
    _Holder,
)
from headway.settings import ExternalSettings, MqttSettings
from headway.street.external.merge import Reported
from headway.street.messages import Snapshot
from headway.telemetry import metrics

NOON = 1_769_860_800.0
ROW = {"junction": "A", "approach": "in0", "at_s": 100.0, "queue": 2}


class AtOnce:
    """Sends within the call, so that a test sees what was sent."""

    def __init__(self, send, name):
        self.put = send


def own_name():
    """Of the street that is meant where none is named."""
    return "headway"


class World:
    """A street at its second 100, and what was sent to it. `now_s`: of both clocks."""

    def __init__(self, make_outbox=AtOnce, **settings):
        self.now_s, self.sent, self.deaf = 0.0, [], False
        self.awake = threading.Event()
        self.awake.set()
        snapshot = Snapshot(
            100.0, 0.0, 1e3, 0, 0, "controller", 0, 0, 0, 0.0, 0.0, 0.0, "", (), speed_factor=1.0
        )
        self.street = SimpleNamespace(name="headway", network=two_junctions(), snapshot=snapshot)
        self.streets = {"headway": self.street}
        self.service = ObservationService(
            self,
            ExternalSettings(**settings),
            wall=lambda: NOON + self.now_s,
            monotonic_ns=lambda: int(self.now_s * 1e9),
            make_outbox=make_outbox,
        )

    def order(self, street, message):
        self.awake.wait()
        if self.deaf:
            raise WorkerError("the worker takes no orders now")
        self.sent.append((street, message))

    @property
    def reports(self):
        """(holder, what it sent for one of its sources), in order."""
        return [(m.holder, own) for _, m in self.sent for own in m.sources]

    def take(self, *rows, holder="acme"):
        text = json.dumps([ROW | row for row in rows])
        return self.service.take(self.street, holder, text)


def said(outcome):
    return [(f.number, f.fault.place) for f in outcome.refused]


def test_rows_go_to_the_street_in_one_message_by_source():
    world = World(sources=({"name": "acme", "holder": "acme", "weight": 0.5},))
    found = world.take({}, {"source": "acme:north", "queue": 1}, {"approach": "in2"})
    assert (found.taken, found.cut, found.refused) == (3, 0, ())
    ((_, message),) = world.sent
    assert (message.holder, message.wall, message.row_count) == ("acme", NOON, 3)
    acme, north = message.sources
    assert (acme.source, acme.weight, acme.is_listed) == ("acme", 0.5, True)
    assert [row.approach for row in acme.rows] == ["in0", "in2"]
    assert (north.source, north.weight, north.is_listed) == ("acme:north", 1.0, False)
    assert [row.queue for row in north.rows] == [1]


def test_nobody_speaks_for_another():
    world = World(sources=({"name": "north", "holder": "acme"}, {"name": "bob", "holder": "carl"}))
    rows = [{"source": s} for s in ("north", "acme:x", "acmes", "other", "acme", "bob")]
    found = world.take(*rows)
    assert said(found) == [(2, "/source"), (3, "/source"), (5, "/source")]
    assert "'acme' may not speak for 'other'" in found.refused[1].fault.message
    assert said(world.take({"source": "bob"}, {}, holder="bob")) == [(0, "/source"), (1, "/source")]
    assert world.take({"source": "bob"}, holder="carl").taken == 1
    # refusals are put to the account of who spoke, not of who was named
    refused = {own.source: own.refused for holder, own in world.reports if holder == "acme"}
    assert refused == {"north": 0, "acme:x": 0, "acme": 3}
    assert [own.refused for _, own in world.reports if own.source == "bob"] == [0]
    assert [own.refused for _, own in world.reports if own.source == "bob:nameless"] == [2]


def test_a_source_of_some_junctions_speaks_of_no_others():
    world = World(sources=({"name": "acme", "holder": "acme", "junctions": ("B",)},))
    found = world.take({}, {"junction": "B", "approach": "in3"})
    assert (found.taken, said(found)) == (1, [(0, "/junction")])


def test_a_source_without_emergencies_claims_no_priority():
    world = World(sources=({"name": "acme", "holder": "acme", "emergencies": False},))
    vehicles = [{"distance_m": 9.0, "class": "emergency"}]
    found = world.take(
        {"queue": None, "emergency": {"distance_m": 90.0}}, {"queue": None, "vehicles": vehicles}
    )
    assert said(found) == [(0, "/emergency")]
    assert world.reports[0][1].rows[0].vehicles[0].kind == "car"


@pytest.mark.parametrize(
    ("row", "place", "message"),
    [
        ({"junction": "Z"}, "/junction", "no junction 'Z'. There are: A, B"),
        ({"approach": "in3"}, "/approach", "There are the roads: in0, in1, in2"),
        ({"pedestrian_call": True}, "/pedestrian_call", "has no pedestrian crossing"),
        (
            {"junction": "B", "approach": "in3", "pedestrian_call": True, "crossing": 1},
            "/crossing", "There are: 2",
        ),
        ({"queue": 31}, "/queue", "does not fit: 155 m of vehicles on 150 m of lanes"),
        ({"queue_m": 151.0}, "/queue_m", "does not fit: 151 m"),
        ({"count": 999, "interval_s": 0.1, "detector_m": 80.0}, "/count", "999 vehicles in 0.1 s"),
        ({"count": 3, "interval_s": 1.0}, "/count", "at most 1 a second and lane can pass"),
        ({"count": 1, "detector_m": 151.0}, "/detector_m", "are 150 m long"),
        ({"at_s": 89.0}, "/at_s", "11.0 s old"), ({"at_s": 104.0}, "/at_s", "ahead"),
        ({"at_s": None, "at": "2026-01-31T11:59:40Z"}, "/at", "20.0 s old"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_is_refused_and_its_neighbour_taken(row, place, message):
    found = World().take(row, {})
    assert (found.taken, said(found)) == (1, [(0, place)])
    assert message in found.refused[0].fault.message


@pytest.mark.parametrize(
    "row",
    [
        {"count": 2, "interval_s": 1.0}, {"count": 1, "interval_s": 0.1},
        {"count": 450, "interval_s": 900.0, "detector_m": 150.0},
    ],
)  # fmt: skip
def test_what_detectors_count_in_dense_traffic_is_taken(row):
    """450 in 15 minutes are saturation flow half of the time."""
    assert World().take({"queue": None} | row).taken == 1


def test_a_holder_with_the_name_of_another_s_source_may_say_nothing():
    with pytest.raises(ValueError, match="a name with ':' is that of a part of 'acme'"):
        World().take({}, holder="acme:north")
    listed = World(sources=({"name": "n", "holder": "acme:north"},))
    assert listed.take({"source": "n"}, holder="acme:north").taken == 1


def test_a_user_of_the_provider_may_report_and_nobody_else_for_them():
    """Their names begin with `oidc:`, and hold no other colon (tests/api/test_oidc.py)."""
    user = "oidc:u-7"
    world = World()
    assert world.take({}, holder=user).taken == 1
    assert world.take({"source": f"{user}:north"}, holder=user).taken == 1
    for holder in ("oidc", f"{user}:north", "oidc:a:b"):
        with pytest.raises(ValueError, match="no message is taken from"):
            World().take({}, holder=holder)
    assert world.take({"source": user}, holder="oidc:u-8").taken == 0


def test_a_flood_is_cut_for_its_holder_alone_and_comes_back_with_time():
    """Names cost nothing: all sources of a holder share its rate, 5 s of it at once."""
    world = World(rows_per_s=10.0)
    flood = [{"source": f"acme:{k % 4}"} for k in range(80)]
    found = world.take(*flood)
    assert (found.taken, found.cut) == (50, 30)
    assert found.refused == ()
    sent = {own.source: (len(own.rows), own.cut) for _, own in world.reports}
    assert sent == {
        "acme:0": (13, 7), "acme:1": (13, 7), "acme:2": (12, 8), "acme:3": (12, 8),
    }  # fmt: skip
    assert world.take({}, holder="other").taken == 1
    world.now_s += 2.0
    assert world.take(*flood).taken == 20


def test_bytes_are_charged_to_their_holder_before_anything_is_read():
    """8 MiB at once, and 2,000 bytes a second for each row of the rate; a message costs 4,096 more
    than it holds."""
    world = World(rows_per_s=100.0)

    def junk(mib, holder="mallory"):
        try:
            world.service.take(world.street, holder, b"[" + b"{}," * ((mib << 20) // 3))
        except (ValueError, RateError) as error:
            return type(error)

    assert [junk(4), junk(3), junk(1)] == [ValueError, ValueError, RateError]
    assert junk(1, "honest") is ValueError, "another holder is not cut"
    world.now_s += 5.0
    assert junk(1) is ValueError, "5 s of 200,000 bytes, and what was left"
    assert junk(1) is RateError
    world.now_s += 1000.0
    assert [junk(4), junk(3), junk(1)] == [ValueError, ValueError, RateError], "no more than 8 MiB"


def test_many_holders_do_not_make_the_service_forget_who_has_sent_too_much():
    """A thousand are remembered; beyond that those that may send all again are left out."""
    world = World(rows_per_s=10.0)
    with pytest.raises(ValueError, match="no JSON"):
        world.service.take(world.street, "mallory", b" " * (8 << 20))
    for k in range(1200):
        world.take({"at_s": None, "at": "2026-01-31T12:00:00Z"}, holder=f"h{k}")
        world.now_s += 0.001
    with pytest.raises(RateError, match="more than 20000 bytes a second"):
        world.service.take(world.street, "mallory", b" " * (1 << 20))


def test_a_flood_of_names_costs_little_each(monkeypatch):
    """Each was as dear as there were names (a broker may let anybody publish under any)."""
    world, looks = World(), []
    really = _Holder.is_whole
    monkeypatch.setattr(_Holder, "is_whole", lambda *of: looks.append(1) or really(*of))
    for k in range(3000):
        world.take({}, holder=f"h{k}")
    assert len(looks) < 3000


def test_refusals_alone_are_told_to_the_street_once_a_second():
    world = World()
    for _ in range(10):
        world.take({"junction": "Z"})
        world.now_s += 0.1
    assert [own.refused for _, own in world.reports] == [1]
    world.now_s += 0.1
    world.take({"junction": "Z"})
    assert [own.refused for _, own in world.reports] == [1, 10]


def test_a_holder_has_so_many_sources_and_no_more():
    world = World()
    found = world.take(*({"source": f"acme:{k}"} for k in range(70)))
    assert (found.taken, said(found)) == (64, [(k, "/source") for k in range(64, 70)])
    assert world.take({"source": "other"}, holder="other").taken == 1
    world.now_s += 3601.0
    world.street.snapshot = replace(world.street.snapshot, time_s=100.0)
    assert world.take({"source": "acme:new"}).taken == 1, "names that are silent make room"


def test_a_street_that_starts_or_is_gone_takes_nothing():
    world = World()
    world.deaf = True
    with pytest.raises(WorkerError):
        world.take({})
    world.street.snapshot = None
    with pytest.raises(NotStartedError):
        world.take({})


def test_a_street_that_does_not_read_holds_up_nobody():
    """One message is being sent, 64 of its holder wait; the next one is refused at once. Another
    holder still has its place, and its turn comes second. Then all arrive."""
    world = World(make_outbox=StreetOutbox)
    world.awake.clear()
    world.take({})
    taken = 1
    with pytest.raises(WorkerError, match="64 messages of 'acme' wait"):
        while taken < 100:
            taken += world.take({}).taken
    assert taken in (64, 65)
    assert world.take({}, holder="other").taken == 1
    world.awake.set()
    until(lambda: len(world.sent) == taken + 1)
    assert [m.holder for _, m in world.sent].index("other") <= 2


def test_a_message_that_could_not_be_sent_is_said_to_its_holder_at_the_next_one():
    gone, sent = [True], []

    def send(message):
        if gone:
            raise WorkerError("the worker takes no orders now")
        sent.append(message)

    def put(holder, number=0):
        try:
            outbox.put(Reported(holder, (), wall=float(number)))
        except WorkerError as error:
            return str(error)
        return ""

    outbox = StreetOutbox(send, "headway")
    assert put("unlucky", 1) == ""
    until(lambda: "the worker takes no orders now" in put("unlucky", 2))
    gone.clear()
    assert put("unlucky", 3) == "the worker takes no orders now"
    assert put("other", 4) == "", "it is not told of another's"
    until(lambda: sent)
    until(lambda: put("unlucky", 5) == "")
    until(lambda: len(sent) > 1)
    assert {(m.holder, m.wall) for m in sent} == {("other", 4.0), ("unlucky", 5.0)}


def test_vehicles_count_for_the_rate_too():
    world = World(rows_per_s=10.0)
    vehicles = [{"distance_m": 4.0 * k} for k in range(30)]
    found = world.take(*[{"queue": None, "vehicles": vehicles}] * 20)  # 3 rows each, of 50
    assert (found.taken, found.cut) == (16, 4)


def test_another_scenario_has_other_places():
    world = World()
    assert world.take({}).taken == 1
    network = two_junctions()
    object.__setattr__(network, "junctions", network.junctions[1:])
    world.street.network = network
    assert said(world.take({})) == [(0, "/junction")]


class Broker:
    """Speaks MQTT 3.1.1 with one client, as far as a subscription needs: CONNECT, SUBSCRIBE, and
    PUBLISH at QoS 0. refuse: how it answers CONNECT; granted: and SUBSCRIBE."""

    def __init__(self, refuse=0, granted=0):
        self.refuse, self.granted = refuse, granted
        self.link, self.topic, self.connected = None, "", b""
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def packet(self, link):
        kind, size, shift = link.recv(1)[0], 0, 0
        while True:
            byte = link.recv(1)[0]
            size |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                return kind, link.recv(size) if size else b""

    def serve(self):
        try:
            while True:
                link, _ = self.listening.accept()
                _, self.connected = self.packet(link)
                link.sendall(bytes((0x20, 2, 0, self.refuse)))
                kind, body = self.packet(link)
                if kind & 0xF0 == 0x80:
                    (length,) = struct.unpack("!H", body[2:4])
                    self.topic = body[4 : 4 + length].decode()
                    link.sendall(bytes((0x90, 3)) + body[:2] + bytes((self.granted,)))
                    self.link = link
        except (OSError, IndexError):
            pass

    def publish(self, topic, payload):
        name = topic.encode()
        body = struct.pack("!H", len(name)) + name + payload
        size, n = b"", len(body)
        while True:
            n, digit = divmod(n, 128)
            size += bytes((digit | (128 if n else 0),))
            if not n:
                break
        self.link.sendall(b"\x30" + size + body)

    def close(self):
        for one in (self.link, self.listening):
            if one is not None:
                one.close()
        self.thread.join(5)


@pytest.fixture
def broker():
    made = Broker()
    yield made
    made.close()


def test_messages_of_a_broker_come_from_the_holder_that_their_topic_names(broker):
    world = World()
    settings = MqttSettings(
        host="127.0.0.1", port=broker.port, tls=False, user="headway", password="secret"
    )
    listener = MqttListener(settings, world.service, world, own_name)
    listener.start()
    try:
        until(lambda: broker.link)
        assert broker.topic == "headway/observations/+"
        assert b"headway" in broker.connected
        assert b"secret" in broker.connected
        broker.publish("headway/observations/acme", b"no rows")
        broker.publish(
            "headway/observations/acme", json.dumps([ROW, ROW | {"source": "bob"}]).encode()
        )
        broker.publish("headway/observations/bob", json.dumps(ROW).encode())
        until(lambda: len(world.sent) == 2)
        assert [(holder, own.source, len(own.rows)) for holder, own in world.reports] == [
            ("acme", "acme", 1), ("bob", "bob", 1),
        ]  # fmt: skip
    finally:
        listener.stop()


def test_a_subscription_that_the_broker_refuses_is_told():
    """It is connected, and says nothing: before, all seemed well."""
    broker, world = Broker(granted=0x80), World()
    settings = MqttSettings(host="127.0.0.1", port=broker.port, tls=False)
    with structlog.testing.capture_logs() as lines:
        listener = MqttListener(settings, world.service, world, own_name)
        listener.start()
        try:
            until(lambda: lines)
            until(lambda: broker.link)
        finally:
            listener.stop()
            broker.close()
    (line,) = lines
    assert (line["event"], line["topic"]) == (
        "the MQTT broker refuses the subscription", "headway/observations/+",
    )  # fmt: skip
    assert degraded("mqtt") == 1.0


def degraded(part):
    (metric,) = metrics.degraded.collect()
    return next(s.value for s in metric.samples if s.labels == {"part": part})


def test_a_flood_of_names_and_a_long_one_do_not_fill_the_log(monkeypatch):
    world, now_s = World(), [50.0]
    monkeypatch.setattr("headway.service.mqtt.time.monotonic", lambda: now_s[0])
    listener = MqttListener(
        MqttSettings(host="h", tls=False), world.service, world, lambda: "headway"
    )

    def publish(holder):
        topic = f"headway/observations/{holder}"
        listener._on_message(None, None, SimpleNamespace(topic=topic, payload=b"no rows"))

    with structlog.testing.capture_logs() as lines:
        publish("x" * 60_000)
        for k in range(1000):
            publish(f"h{k}")
            publish("h0")
        assert [line["holder"] for line in lines[:2]] == ["x" * 200 + "...", "h0"]
        assert len(lines) == 20
        now_s[0] += 10.0
        publish("h0")
    assert [(line["event"], line.get("messages")) for line in lines[20:]] == [
        ("more MQTT messages were refused", 1981), ("an MQTT message was refused", None),
    ]  # fmt: skip
    assert max(len(str(line)) for line in lines) < 600
    assert not world.sent


def test_a_broker_is_asked_for_by_tls_unless_told_otherwise():
    world = World()
    with pytest.raises((OSError, ValueError)):
        MqttListener(
            MqttSettings(host="h", ca_file="/nowhere.pem"), world.service, world, lambda: "headway"
        )
