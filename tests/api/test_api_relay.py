"""Live messages over Valkey: published by one process, received by the clients of all others once;
nothing is relayed in circles.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time

import pytest
import redis

from headway.api import relay as room
from headway.api.hub import Client, Hub
from headway.api.relay import Relay
from headway.telemetry import metrics
from tests.ports import closed_port
from tests.waiting import until


@contextlib.contextmanager
def processes(url, number=2):
    """So many hubs with their relays, each with a client of all topics' alerts;
    their event loop runs in a thread.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    hubs, relays, clients = [], [], []
    for _ in range(number):
        hub, client = Hub(), Client("alerts")
        relay = Relay(url, hub)
        hub.begin(loop)
        hub.join(client)
        relay.begin()
        hubs.append(hub)
        relays.append(relay)
        clients.append(client)
    try:
        yield hubs, clients
    finally:
        for relay in relays:
            relay.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def heard(client):
    return [(m["street"], m["data"]["n"]) for m in map(json.loads, (x.text for x in client.buffer))]


def degraded():
    return metrics.registry.get_sample_value("headway_degraded", {"part": "relay"})


def test_messages_of_one_process_reach_all_others_once_and_in_order(valkey):
    with redis.Redis.from_url(valkey) as link, processes(valkey, 3) as (hubs, clients):
        link.flushall()
        until(lambda: link.info("clients")["blocked_clients"] == 3)  # all listen
        for n in range(3):
            hubs[0].publish("alerts", "a", {"n": n})
        until(lambda: all(len(c.buffer) == 3 for c in clients))
        hubs[1].publish("alerts", "b", {"n": 9})
        until(lambda: all(len(c.buffer) == 4 for c in clients))
        assert [heard(c) for c in clients] == [[("a", 0), ("a", 1), ("a", 2), ("b", 9)]] * 3
        assert link.xlen("headway:live") == 4  # nobody passed on what it had heard
        assert json.loads(link.xrange("headway:live")[3][1][b"news"]) == ["alerts", "b", {"n": 9}]
        assert degraded() == 0


def test_a_client_that_comes_back_to_another_process_is_told_and_gets_what_that_one_has(valkey):
    """Behind a balancer: the two have the same messages, each in its own order."""
    with redis.Redis.from_url(valkey) as link, processes(valkey, 2) as (hubs, clients):
        link.flushall()
        until(lambda: link.info("clients")["blocked_clients"] == 2)
        for n in range(6):
            hubs[n % 2].publish("alerts", "ab"[n % 2], {"n": n})
        until(lambda: all(len(c.buffer) == 6 for c in clients))
        for here, there in ((0, 1), (1, 0)):
            first, last = (json.loads(clients[here].buffer[k].text)["id"] for k in (0, 5))
            back = hubs[here].since(Client("alerts"), int(first))
            assert [json.loads(m.text)["data"]["n"] for m in back] == [
                n for _, n in heard(clients[here])[1:]
            ]
            told, *rest = map(
                json.loads, (m.text for m in hubs[there].since(Client("alerts"), int(last)))
            )
            assert (told["topic"], told["data"]["after"], told["data"]["missed"]) == (
                "gap",
                last,
                None,
            )
            assert sorted(m["data"]["n"] for m in rest) == list(range(6))
            assert hubs[there].since(Client("alerts"), int(rest[-1]["id"])) == []


def test_what_got_lost_while_valkey_was_away_is_told_to_the_clients_of_others(valkey, monkeypatch):
    def away(self):
        lost.append(1)
        raise redis.ConnectionError("away")

    lost = []
    with redis.Redis.from_url(valkey) as link, processes(valkey, 2) as (hubs, clients):
        link.flushall()
        until(lambda: link.info("clients")["blocked_clients"] == 2)
        hubs[0].publish("alerts", "a", {"n": 1})
        until(lambda: clients[1].buffer)
        with monkeypatch.context() as patch:
            patch.setattr(redis.client.Pipeline, "execute", away)
            for n in (2, 3):
                hubs[0].publish("alerts", "a", {"n": n})
                until(lambda n=n: len(lost) == n - 1)
        hubs[0].publish("realtime", "a", {"n": 9})  # of another topic nothing is gone
        hubs[0].publish("alerts", "a", {"n": 4})
        until(lambda: len(clients[1].buffer) == 3)
        first, gap, last = (json.loads(m.text) for m in clients[1].buffer)
        assert (gap["topic"], gap["data"]["stream"], gap["data"]["missed"]) == ("gap", "alerts", 2)
        assert gap["data"]["after"] == first["id"]
        assert int(first["id"]) < int(gap["id"]) < int(last["id"])
        narrow = Client("alerts", street="another", kinds=("x",))
        again = hubs[1].since(narrow, int(first["id"]))
        assert [json.loads(m.text) for m in again] == [gap], "whose they were nobody knows"
        assert hubs[1].since(narrow, int(gap["id"])) == []
        assert [json.loads(m.text)["topic"] for m in hubs[1].since(Client("realtime"), 0)] == [
            "realtime"
        ]
        assert heard(clients[0]) == [("a", n) for n in (1, 2, 3, 4)]


def test_of_senders_that_have_no_numbers_and_of_old_ones_nothing_is_missing(valkey, monkeypatch):
    monkeypatch.setattr(room, "MOST_SENDERS", 2)
    with redis.Redis.from_url(valkey) as link, processes(valkey, 1) as (_, clients):
        link.flushall()
        until(lambda: link.info("clients")["blocked_clients"] == 1)
        numbered = [(b"x", 5), (b"x", 6), (b"old", None), (b"y", 1), (b"z", 1), (b"x", 9)]
        for sender, n in numbered:
            entry = {"from": sender, "news": json.dumps(["alerts", "a", {"n": 0}])}
            link.xadd("headway:live", entry if n is None else entry | {"n": n})
        until(lambda: len(clients[0].buffer) == len(numbered))
        assert {json.loads(m.text)["topic"] for m in clients[0].buffer} == {"alerts"}


def test_a_stream_that_was_begun_anew_by_an_earlier_clock_is_heard(valkey):
    """Whoever had heard one of the clock that was ahead heard no other until it was so late."""
    with redis.Redis.from_url(valkey) as link, processes(valkey, 2) as (hubs, clients):
        link.flushall()
        until(lambda: link.info("clients")["blocked_clients"] == 2)
        late = json.dumps(["alerts", "late", {"n": 0}])
        link.xadd("headway:live", {"from": "x", "news": late}, id="9999999999999-0")
        until(lambda: all(len(c.buffer) == 1 for c in clients))
        link.delete("headway:live")
        hubs[0].publish("alerts", "a", {"n": 1})
        until(lambda: all(len(c.buffer) == 2 for c in clients))
        assert [heard(c) for c in clients] == [[("late", 0), ("a", 1)]] * 2


def test_earlier_messages_are_not_delivered(valkey):
    with redis.Redis.from_url(valkey) as link:
        link.xadd("headway:live", {"from": "x", "news": json.dumps(["alerts", "a", {"n": 1}])})
        with processes(valkey, 1) as (_, clients):
            until(lambda: link.info("clients")["blocked_clients"] == 1)
            link.xadd("headway:live", {"from": "x", "news": json.dumps(["alerts", "a", {"n": 2}])})
            until(lambda: clients[0].buffer)
            assert heard(clients[0]) == [("a", 2)]


def test_messages_between_two_reads_are_delivered(monkeypatch):
    """The stream is empty at first, and each look finds what came since the newest that was known,
    not since the look began.
    """
    looks = []

    class Between:
        def xrevrange(self, stream, count):
            return []

        def xread(self, streams, block):
            looks.append(streams["headway:live"])
            time.sleep(0.01)
            return (
                [
                    [
                        b"headway:live",
                        [(b"8-0", {b"from": b"x", b"news": b'["alerts", "a", {"n": 3}]'})],
                    ]
                ]
                if len(looks) == 2
                else []
            )

    monkeypatch.setattr(room.redis.Redis, "from_url", lambda url, **how: Between())
    hub = Hub()
    heard = []
    hub.publish_relayed = lambda *news: heard.append(news)
    relay = Relay("redis://x", hub)
    relay.begin()
    until(lambda: len(looks) > 2)
    relay.close()
    assert looks[:3] == [b"0-0", b"0-0", b"8-0"]
    assert heard == [("alerts", "a", {"n": 3})]


def test_malformed_messages_are_skipped_and_logged_and_the_rest_delivered(valkey, logged):
    with redis.Redis.from_url(valkey) as link, processes(valkey, 1) as (_, clients):
        until(lambda: link.info("clients")["blocked_clients"] == 1)
        bad = [{"a": "b"}, {"from": "x", "news": "no JSON"}, {"from": "x", "news": b"\xff"},
            {"from": "x", "news": '["alerts", "a"]'},
               {"from": "x", "news": '["alerts", "a", 3]'},
               {"from": "x", "news": '["other", "a", {}]'}]  # fmt: skip
        entries = [link.xadd("headway:live", fields).decode() for fields in bad]
        link.xadd("headway:live", {"from": "x", "news": json.dumps(["alerts", "a", {"n": 2}])})
        until(lambda: clients[0].buffer)
        assert heard(clients[0]) == [("a", 2)]
        reported = logged("api")
        assert [(line["event"], line["stream"], line["entry"]) for line in reported] == [
            ("news of others left out", "headway:live", e) for e in entries
        ]
        assert reported[-1]["why"] == "no topic 'other'"


def test_the_stream_holds_about_4096_messages(valkey, monkeypatch):
    asked = []
    add = redis.client.Pipeline.xadd
    monkeypatch.setattr(
        redis.client.Pipeline,
        "xadd",
        lambda self, *words, **how: asked.append((words[0], how)) or add(self, *words, **how),
    )
    with processes(valkey, 1) as (hubs, _):
        hubs[0].publish("alerts", "a", {"n": 1})
        until(lambda: asked)
    assert asked == [("headway:live", {"maxlen": 4096})]


def test_4096_messages_wait_while_sending_fails(monkeypatch):
    may = threading.Event()
    sent = []

    class Slow:
        """A Valkey whose first answer takes long."""

        def pipeline(self, transaction):
            assert transaction is False
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def xadd(self, stream, fields, maxlen):
            sent.append(json.loads(fields["news"])[2]["n"])

        def execute(self):
            assert may.wait(10)

        def xrevrange(self, stream, count):
            return []

        def xread(self, streams, block):
            time.sleep(0.05)
            return []

    asked = []
    monkeypatch.setattr(
        room.redis.Redis, "from_url", lambda url, **how: asked.append((url, how)) or Slow()
    )
    hub = Hub()
    relay = Relay("redis://x", hub)
    relay.begin()
    hub.broadcast("alerts", "a", {"n": -1})
    until(lambda: sent == [-1])
    for n in range(4097):
        hub.broadcast("alerts", "a", {"n": n})
    may.set()
    until(lambda: len(sent) >= 4097)
    hub.broadcast("alerts", "a", {"n": 5000})  # there is room again
    until(lambda: len(sent) == 4098)
    relay.close()
    assert sent == [-1, *range(4096), 5000]
    assert asked == [("redis://x", {"socket_timeout": 5.0, "socket_connect_timeout": 1.0})] * 2


def test_without_valkey_each_process_publishes_to_its_own_clients_and_logs_it():
    metrics.degraded.labels("relay").set(0)
    with closed_port() as port, processes(f"redis://127.0.0.1:{port}/0", 1) as (hubs, clients):
        until(lambda: degraded() == 1)  # also with nothing to send
        metrics.degraded.labels("relay").set(0)
        hubs[0].publish("alerts", "a", {"n": 1})
        until(lambda: clients[0].buffer)
        until(lambda: degraded() == 1)
        assert heard(clients[0]) == [("a", 1)]


@pytest.mark.slow
def test_the_threads_end_when_it_is_closed(valkey):
    def working():
        return {t.name for t in threading.enumerate() if t.name.startswith("relay ")}

    assert not working()
    hub = Hub()
    relay = Relay(valkey, hub)
    relay.begin()
    assert working() == {"relay send", "relay receive"}
    assert all(t.daemon for t in threading.enumerate() if t.name.startswith("relay "))
    relay.close()
    assert not working()


def test_an_unexpected_answer_is_logged_and_ends_nothing(monkeypatch, logged):
    class Odd:
        def xrevrange(self, stream, count):
            return []

        def xread(self, streams, block):
            return 3

    monkeypatch.setattr(room.redis.Redis, "from_url", lambda url, **how: Odd())
    relay = Relay("redis://x", Hub())
    relay.begin()
    until(lambda: logged("api"))
    relay.close()
    assert [(line["event"], line["error"]) for line in logged("api")] == [
        ("the relay failed", "TypeError(\"'int' object is not iterable\")")
    ]
    assert degraded() == 1


def test_a_failing_valkey_is_retried_after_a_pause(monkeypatch):
    asked = []

    class Away:
        def xrevrange(self, stream, count):
            return [(b"7-0", {})]

        def xread(self, streams, block):
            asked.append((streams, block))
            raise redis.ConnectionError("away")

    monkeypatch.setattr(room.redis.Redis, "from_url", lambda url, **how: Away())
    relay = Relay("redis://x", Hub())
    relay.begin()
    time.sleep(0.3)
    relay.close()
    assert asked == [({"headway:live": b"7-0"}, 1000)]
