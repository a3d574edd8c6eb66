"""The hub: messages reach the clients of their topic, in their form, in order; after a reconnect;
slow clients get the newest and are disconnected.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
import types
import zlib

import pytest

from headway.api import hub as rooms
from headway.api.hub import (
    BUFFER,
    HISTORY,
    Client,
    Hub,
    LiveMessage,
    chart,
    encode,
    sent_to,
    table,
    written,
)
from headway.telemetry import metrics


def numbers(found):
    """The field n of the messages, in order; "gap" for what is gone."""
    read = [json.loads(m.text) for m in found]
    return ["gap" if m["topic"] == "gap" else m["data"]["n"] for m in read]


def gap(message):
    """What is gone, as a message says: (after, how many, the id to go on from)."""
    found = json.loads(message.text)
    assert found["topic"] == "gap"
    assert found["data"]["detail"]
    return int(found["data"]["after"]), found["data"]["missed"], int(found["id"])


def first_of(client):
    """What a client gets first, as it is sent."""
    return [sent_to(client, past) for past in client.missed]


async def drained(hub, client):
    """What waits for a client now, as its own task would send it."""
    found = []
    async for message in hub.messages(client):
        assert message is not None
        found.append(message)
        if not (client.missed or client.buffer):
            break
    return found


def waiting(hub, client):
    return asyncio.run(drained(hub, client))


@pytest.fixture
def clock(monkeypatch):
    """The hub's clock, by hand: seconds in `now[0]`."""
    now = [1000.0]
    monkeypatch.setattr(
        rooms, "time", types.SimpleNamespace(monotonic=lambda: now[0], time=time.time)
    )
    return now


@pytest.mark.parametrize(
    ("news", "expected"),
    [
        (
            {"time_s": 5.0, "at_s": 9.0, "n": 1},
            {"x": 5.0, "y": {"time_s": 5.0, "at_s": 9.0, "n": 1}},
        ),
        ({"at_s": 9.0}, {"x": 9.0, "y": {"at_s": 9.0}}),
        ({"kind": "k", "well": True, "rows": [1], "more": {"a": 1}}, {"x": None, "y": {}}),
    ],
)
def test_a_chart_holds_the_numbers_over_time(news, expected):
    assert chart(news) == expected


@pytest.mark.parametrize(
    ("news", "expected"),
    [
        (
            {"n": 1, "junctions": [{"id": "a", "queue": 2}, {"id": "b", "queue": 3}]},
            {"columns": ["id", "queue"], "rows": [["a", 2], ["b", 3]]},
        ),
        ({"n": 1, "junctions": []}, {"columns": ["n"], "rows": [[1]]}),
        (
            {"n": 1, "junctions": 2, "data": {"a": 1}, "list": [1]},
            {"columns": ["n", "junctions"], "rows": [[1, 2]]},
        ),
        ({"n": 1}, {"columns": ["n"], "rows": [[1]]}),
    ],
)
def test_a_table_has_a_row_a_junction_or_one_of_its_own(news, expected):
    assert table(news) == expected


@pytest.mark.parametrize(
    ("n", "head"),
    [
        (0, b"\x81\x00"), (125, b"\x81\x7d"), (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)  # fmt: skip
def test_a_frame_has_its_length_as_rfc_6455_has_it(n, head):
    message = LiveMessage(1, b"x" * n)
    assert message.frame() == head + b"x" * n
    assert message.frame() is message.frame(0)  # made once


@pytest.mark.parametrize("bits", [9, 12, 15])
def test_a_deflated_frame_stands_by_itself_as_rfc_7692_has_it(bits):
    text = b'{"junctions": [' + b'{"id": "a", "queue": 12}, ' * 5 + b"]}"
    frame = LiveMessage(1, text).frame(bits)
    deflate = zlib.compressobj(1, zlib.DEFLATED, -bits)  # fastest
    body = deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH)
    assert body.endswith(b"\x00\x00\xff\xff")  # 7.2.1: the tail that is left out
    assert len(body) < 126
    assert frame == bytes((0xC1, len(body) - 4)) + body[:-4]  # final, compressed, text
    assert zlib.decompressobj(-bits).decompress(frame[2:] + b"\x00\x00\xff\xff") == text


@pytest.mark.parametrize(
    ("street", "kinds", "of", "kind", "wanted"),
    [
        ("", (), "a", "safety.x", True),
        ("a", (), "a", "", True),
        ("a", (), "b", "", False),
        ("", ("safety.", "alert."), "a", "alert.opened", True),
        ("", ("safety.",), "a", "alert.opened", False),
        ("", ("safety.",), "a", "unsafety.", False),
        ("a", ("safety.",), "b", "safety.x", False),
        ("a", ("safety.",), "a", "safety.x", True),
        ("", ("camera.frame",), "a", "camera.frame", True),
        ("", ("camera.seen",), "a", "camera.frame", True),
        ("", ("camera.seen",), "a", "camera.seen", True),
        ("", ("camera.f",), "a", "camera.seen", False),
        ("a", ("camera.seen",), "b", "camera.frame", False),
    ],
)
def test_a_filter_is_a_street_and_prefixes_of_kinds(street, kinds, of, kind, wanted):
    assert Client("alerts", street, kinds).wants(of, kind) is wanted


def test_a_message_is_its_number_topic_street_and_data():
    news = {"kind": "k", "n": 1}
    assert json.loads(written(7, "alerts", "a", news, "dashboard", False)) == {
        "id": "7",
        "topic": "alerts",
        "street": "a",
        "data": news,
    }
    assert json.loads(written(7, "alerts", "a", news, "chart", False))["data"] == {
        "x": None,
        "y": {"n": 1},
    }
    assert json.loads(written(7, "alerts", "a", news, "table", False))["data"] == {
        "columns": ["kind", "n"],
        "rows": [["k", 1]],
    }


@pytest.mark.parametrize(("size", "packed"), [(512, False), (513, True)])
def test_only_large_messages_are_compressed(size, packed):
    news = {"n": "x" * (size - len(encode({"n": ""})))}
    assert len(encode(news)) == size
    plain, found = (
        json.loads(written(7, "alerts", "a", news, "dashboard", how)) for how in (False, True)
    )
    assert plain["data"] == news
    if not packed:
        assert found == plain
        return
    assert found["encoding"] == "zlib+base64"
    assert base64.b64decode(found["data"]) == zlib.compress(encode(news), 1)


def test_ids_rise_over_messages_and_restarts_and_fit_into_63_bits(monkeypatch):
    found = []
    for now in (0.0, 1_700_000_000.0, 1_800_000_000.0, 1_800_000_001.0, 3_900_000_000.0):
        monkeypatch.setattr(rooms.time, "time", lambda now=now: now)
        hub, client = Hub(), Client("alerts")
        hub.join(client)
        hub.broadcast("alerts", "a", {"n": 1})
        hub.broadcast("monitoring", "a", {"n": 9})
        hub.broadcast("alerts", "a", {"n": 2})
        one, two = waiting(hub, client)
        assert [json.loads(m.text)["id"] for m in (one, two)] == [str(one.number), str(two.number)]
        assert 0 < one.number < two.number == hub.newest("alerts") < 2**63
        found.append((one.number, two.number))
    later = found[1:]  # of clocks before 2026 nothing is promised
    assert all(before[1] < after[0] for before, after in itertools.pairwise(later))


def test_each_topic_has_its_own_clients_filters_and_forms():
    hub = Hub()
    every, other, safety, rows, packed = clients = [
        Client("monitoring"), Client("monitoring", "b"), Client("monitoring", kinds=("safety.",)),
        Client("monitoring", form="table"),
        Client("monitoring", packed=True),
    ]  # fmt: skip
    elsewhere = Client("alerts")
    for client in (*clients, elsewhere):
        hub.join(client)
    hub.broadcast("monitoring", "a", {"kind": "safety.x", "n": 1})
    hub.broadcast("monitoring", "b", {"n": 2})
    assert [numbers(waiting(hub, c)) for c in (every, other, safety)] == [[1, 2], [2], [1]]
    assert [json.loads(m.text)["data"]["rows"] for m in waiting(hub, rows)] == [
        [["safety.x", 1]],
        [[2]],
    ]
    assert numbers(waiting(hub, packed)) == [1, 2]
    assert not elsewhere.buffer
    hub.leave(every)
    hub.broadcast("monitoring", "b", {"n": 3})
    assert not every.buffer
    assert numbers(waiting(hub, other)) == [3]


def test_clients_of_one_form_get_one_and_the_same_message():
    hub = Hub()
    clients = [
        Client("alerts"),
        Client("alerts"),
        Client("alerts", packed=True),
        Client("alerts", form="chart"),
    ]
    for client in clients:
        hub.join(client)
    hub.broadcast("alerts", "a", {"n": 1})
    one, two, packed, other = (c.buffer[0] for c in clients)
    assert one is two
    assert len({id(m) for m in (one, packed, other)}) == 3


def test_clients_are_counted_by_topic():
    def shown():
        return metrics.registry.get_sample_value("headway_stream_clients", {"topic": "alerts"})

    hub, one, two = Hub(), Client("alerts"), Client("alerts")
    hub.join(one)
    hub.join(two)
    assert shown() == 2
    hub.leave(one)
    hub.leave(one)
    assert shown() == 1
    hub.broadcast("alerts", "a", {"n": 1})
    hub.broadcast("alerts", "a", {"n": 2})
    assert hub.statistics() == {
        "realtime": {"clients": 0, "sent": 0, "dropped": 0, "waiting": 0},
        "monitoring": {"clients": 0, "sent": 0, "dropped": 0, "waiting": 0},
        "alerts": {"clients": 1, "sent": 0, "dropped": 0, "waiting": 2},
    }
    two.sent, two.dropped = 5, 3
    again = Client("alerts")
    hub.join(again, 1)
    assert hub.statistics()["alerts"] == {
        "clients": 2,
        "sent": 5,
        "dropped": 3,
        "waiting": 5,
    }  # two of `two`; a gap and two missed of `again`


def test_what_was_missed_is_written_when_it_is_sent(monkeypatch):
    """Streams that are opened from the first message on and never read hold no texts."""
    texts = []

    def counted(*words):
        texts.append(written(*words))
        return texts[-1]

    hub, slow = Hub(), Client("realtime", packed=True)
    for n in range(HISTORY):
        hub.broadcast("realtime", "a", {"n": n, "scene": [n] * 300})
    monkeypatch.setattr(rooms, "written", counted)
    hub.join(slow, 1)
    assert (texts, len(slow.missed)) == ([], HISTORY + 1)  # a gap before them

    async def some():
        reading = hub.messages(slow)
        found = [await anext(reading) for _ in range(4)]
        await reading.aclose()
        return found

    assert [m.text for m in asyncio.run(some())[1:]] == texts
    assert (len(texts), len(slow.missed)) == (3, HISTORY - 3)


def test_after_a_reconnect_missed_messages_come_first_and_once():
    hub, first = Hub(), Client("alerts")
    begin = hub.newest("alerts")
    hub.join(first)
    for n in range(4):
        hub.broadcast("alerts", "ab"[n % 2], {"kind": ("safety.x", "engine.y")[n // 2], "n": n})
    sent = waiting(hub, first)
    for last, expected in (
        (sent[1].number, [2, 3]),
        (sent[3].number, []),
        (begin, [0, 1, 2, 3]),
        (0, []),
    ):
        again = Client("alerts")
        hub.join(again, last)
        assert numbers(first_of(again)) == expected
        hub.leave(again)
    picky = Client("alerts", "b", ("safety.",), "chart")
    hub.join(picky, begin)
    assert [json.loads(m.text)["data"]["y"]["n"] for m in first_of(picky)] == [1]


@pytest.mark.parametrize("gone", [0, 1, 100])
def test_resume_gives_the_last_512_messages_in_order_and_says_how_many_are_gone(gone):
    hub, again = Hub(), Client("alerts")
    assert (HISTORY, rooms.PATIENCE_S, rooms.HEARTBEAT_S) == (512, 30.0, 15.0)
    begin = hub.newest("alerts")
    for n in range(512 + gone):
        hub.broadcast("alerts", "a", {"n": n})
        hub.broadcast("monitoring", "a", {"n": n})  # another topic takes nothing of its place
    hub.join(again, begin)
    found = waiting(hub, again)
    if gone:
        first = found.pop(0)
        after, missed, number = gap(first)
        assert (after, missed) == (begin, gone)
        once_more = Client("alerts")  # who goes on from the gap misses nothing more
        hub.join(once_more, number)
        assert numbers(first_of(once_more)) == list(range(gone, 512 + gone))
    assert numbers(found) == list(range(gone, 512 + gone))
    assert (again.dropped, again.ended) == (0, "")


def test_an_id_of_another_process_start_or_topic_is_told_as_a_gap_and_never_mixed(monkeypatch):
    now = time.time()
    monkeypatch.setattr(rooms.time, "time", lambda: now)  # both begin in the same moment
    here, there, client = Hub(), Hub(), Client("alerts")
    for n in range(3):
        here.broadcast("alerts", "a", {"n": n})
        there.broadcast("alerts", "a", {"n": 10 + n})
        here.broadcast("monitoring", "a", {"n": 20 + n})
    foreign = [m.number for m in there.since(client, 0)]
    own = [m.number for m in here.since(client, 0)]
    other_topic = [m.number for m in here.since(Client("monitoring"), 0)]
    not_yet = own[-1] + (own[-1] - own[-2])
    for last in (*foreign, *other_topic, not_yet, own[0] - 1, own[1] + 1, 1, 2**63 - 1):
        first, *rest = here.since(client, last)
        after, missed, number = gap(first)
        assert (after, missed) == (last, None)
        assert numbers(rest) == [0, 1, 2]
        assert numbers(here.since(client, number)) == [0, 1, 2]  # without a gap
    assert numbers(here.since(client, own[0])) == [1, 2]
    assert gap(Hub().since(client, own[0])[0])[:2] == (own[0], None)  # also where nothing is


def test_64_waiting_messages_are_kept_and_of_65_only_the_newest(clock):
    hub, client = Hub(), Client("alerts")
    assert BUFFER == 64
    hub.join(client)
    for n in range(64):
        hub.broadcast("alerts", "a", {"n": n})
    assert (len(client.buffer), client.dropped) == (64, 0)
    was = (
        metrics.registry.get_sample_value(
            "headway_stream_messages_total", {"topic": "alerts", "what": "dropped"}
        )
        or 0.0
    )
    hub.broadcast("alerts", "a", {"n": 64})
    assert (
        metrics.registry.get_sample_value(
            "headway_stream_messages_total", {"topic": "alerts", "what": "dropped"}
        )
        == was + 64
    )
    assert (numbers(client.buffer), client.dropped, client.ended, client.full_since) == (
        [64],
        64,
        "",
        1000.0,
    )
    assert numbers(waiting(hub, client)) == ["gap", 64]


def test_a_slow_client_is_told_what_was_left_out_of_its_stream():
    hub, client = Hub(), Client("alerts")
    hub.join(client)
    for n in range(150):
        hub.broadcast("alerts", "a", {"n": n})
    sent = {json.loads(m.text)["data"]["n"]: m.number for m in hub.since(Client("alerts"), 0)}
    first, *rest = waiting(hub, client)
    assert gap(first) == (sent[0], 128, sent[127])
    assert numbers(rest) == list(range(128, 150))
    hub.broadcast("alerts", "a", {"n": 150})
    assert numbers(waiting(hub, client)) == [150]  # told once
    again = Client("alerts")
    hub.join(again, first.number)
    assert numbers(first_of(again)) == list(range(128, 151))


@pytest.mark.parametrize(
    ("later_s", "ended"), [(30.0, ""), (30.5, "too slow: 128 messages were left out in 30 s")]
)
def test_a_client_too_slow_for_more_than_30_s_is_disconnected(clock, later_s, ended):
    hub, client = Hub(), Client("alerts")
    hub.join(client)
    for _ in range(65):
        hub.broadcast("alerts", "a", {"n": 1})
    clock[0] += later_s
    for _ in range(64):
        hub.broadcast("alerts", "a", {"n": 2})
    assert (client.dropped, client.ended) == (128, ended)


def test_a_client_that_catches_up_is_not_disconnected(clock):
    hub, client = Hub(), Client("alerts")
    hub.join(client)

    async def play():
        for _ in range(65):
            hub.broadcast("alerts", "a", {"n": 1})
        reading = hub.messages(client)
        await anext(reading)  # what was left out
        await anext(reading)
        waits = asyncio.create_task(anext(reading))  # asks for more than there is
        await asyncio.sleep(0)
        assert client.full_since == 0.0
        clock[0] += 100.0
        for _ in range(66):
            hub.broadcast("alerts", "a", {"n": 2})
        assert client.ended == ""
        assert client.full_since == 1100.0
        await waits

    asyncio.run(play())


def test_a_disconnected_client_gets_only_the_message_in_flight():
    hub, client = Hub(), Client("alerts")
    hub.join(client)
    hub.broadcast("alerts", "a", {"n": 1})
    client.ended = "gone"
    assert waiting(hub, client) == []


def test_a_quiet_stream_has_a_heartbeat_and_a_busy_one_none(monkeypatch):
    monkeypatch.setattr(rooms, "HEARTBEAT_S", 0.02)
    hub, client, taken = Hub(), Client("alerts"), []
    hub.join(client)

    async def play():
        reading = hub.messages(client)
        assert await anext(reading) is None
        assert await anext(reading) is None
        client.deliver = lambda message: taken.append(message) or True
        asking = asyncio.create_task(anext(reading))
        for _ in range(5):  # written at once: it needs no heartbeat
            await asyncio.sleep(0.01)
            hub.broadcast("alerts", "a", {"n": 1})
        assert not asking.done()
        assert (client.sent, len(taken)) == (5, 5)
        client.deliver = lambda message: False
        hub.broadcast("alerts", "a", {"n": 2})
        assert numbers([await asking]) == [2]
        await reading.aclose()

    asyncio.run(play())
    assert client.sent == 5  # the one asked for last was not sent to its end


def test_direct_writes_never_overtake_waiting_messages():
    hub, client, written_now = Hub(), Client("alerts"), []
    begin = hub.newest("alerts")
    hub.broadcast("alerts", "a", {"n": 0})
    client.deliver = lambda message: written_now.append(message) or True

    async def play():
        hub.join(client, begin)
        hub.broadcast("alerts", "a", {"n": 1})  # 0 was missed and waits
        reading, found = hub.messages(client), []
        found.append(await anext(reading))
        assert client.sending
        hub.broadcast("alerts", "a", {"n": 2})  # 0 is being sent
        found += [await anext(reading), await anext(reading)]
        asking = asyncio.create_task(anext(reading))
        await asyncio.sleep(0)
        assert (client.sent, client.sending) == (3, False)
        assert numbers(found) == [0, 1, 2]
        assert not written_now
        hub.broadcast("alerts", "a", {"n": 3})
        assert numbers(written_now) == [3]
        assert client.sent == 4
        asking.cancel()

    asyncio.run(play())


def test_publishing_needs_a_running_loop_and_messages_of_other_processes_are_not_relayed_again():
    hub, client, relayed = Hub(), Client("alerts"), []
    hub.join(client)
    hub.publish("alerts", "a", {"n": 0})
    hub.publish_relayed("alerts", "a", {"n": 0})
    hub.relay = lambda *news: relayed.append(news)

    async def play():
        hub.begin(asyncio.get_running_loop())
        hub.publish("alerts", "a", {"n": 1})
        hub.publish_relayed("alerts", "b", {"n": 2})
        assert not client.buffer  # it is the loop's to do
        await asyncio.sleep(0.01)

    asyncio.run(play())
    assert numbers(client.buffer) == [1, 2]
    assert relayed == [("alerts", "a", {"n": 1})]
    hub.publish("alerts", "a", {"n": 3})  # the loop is closed
    hub.publish_relayed("alerts", "a", {"n": 3})
    assert numbers(client.buffer) == [1, 2]


def test_no_more_is_written_than_is_asked_for(monkeypatch):
    """Each message may be large, and the event loop waits meanwhile."""
    hub, made, write = Hub(), [], rooms.written
    for n in range(100):
        hub.broadcast("alerts", "ab"[n % 2], {"n": n})
    monkeypatch.setattr(rooms, "written", lambda *words: made.append(words) or write(*words))
    assert numbers(hub.since(Client("alerts", "b"), 0, 3)) == [1, 3, 5]
    assert numbers(hub.since(Client("alerts"), 1, 3)) == ["gap", 0, 1]
    assert len(made) == 5
