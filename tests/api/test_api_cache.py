"""Cached answers: how long, how many, shared by whom; and without Valkey."""

from __future__ import annotations

import threading
import time
import types

import pytest
import redis

from headway.api import cache as room
from headway.api.cache import Cache
from headway.telemetry import metrics
from tests.ports import closed_port
from tests.waiting import until


@pytest.fixture
def clock(monkeypatch):
    """The cache's clock, by hand: seconds in `now[0]`."""
    now = [1000.0]
    monkeypatch.setattr(room, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
def link(valkey):
    with redis.Redis.from_url(valkey) as found:
        found.flushall()
        yield found


@pytest.fixture
def nowhere():
    """Nobody listens there."""
    with closed_port() as port:
        yield f"redis://127.0.0.1:{port}/0"


class Makes:
    """Makes another answer each time: b"1", b"2"."""

    def __init__(self):
        self.n = 0

    def __call__(self):
        self.n += 1
        return str(self.n).encode()


def counted(result):
    return metrics.registry.get_sample_value("headway_cache_total", {"result": result}) or 0.0


def degraded():
    return metrics.registry.get_sample_value("headway_degraded", {"part": "cache"})


def test_an_answer_is_cached_for_5_s(clock):
    cache, make = Cache(), Makes()
    hits, misses = counted("hit"), counted("miss")
    assert cache.ttl_s == 5.0
    assert [cache.get("a", make), cache.get("a", make), cache.get("b", make)] == [b"1", b"1", b"2"]
    clock[0] += 4.999
    assert cache.get("a", make) == b"1"
    clock[0] += 0.001
    assert cache.get("a", make) == b"3"
    assert (counted("hit") - hits, counted("miss") - misses) == (2, 3)


def test_the_newest_2048_answers_are_cached(clock):
    cache, make = Cache(), Makes()
    for k in range(2049):
        cache.get(str(k), make)
    assert cache.get("1", make) == b"2"  # the oldest that is kept
    assert cache.get("0", make) == b"2050"
    few = Cache(most=2)
    assert [few.get(k, make) for k in "abc"] == [b"2051", b"2052", b"2053"]
    assert [few.get(k, make) for k in "cba"] == [b"2053", b"2052", b"2054"]


def test_the_newest_answers_are_cached_as_far_as_there_is_room(clock, monkeypatch):
    monkeypatch.setattr(room, "MOST_BYTES", 100)
    cache, made = Cache(), []

    def get(key, size):
        return cache.get(key, lambda: made.append(key) or bytes(size))

    for key, size in (("a", 40), ("b", 40), ("a", 40), ("c", 30), ("b", 40), ("c", 30), ("a", 40)):
        assert len(get(key, size)) == size
    assert made == ["a", "b", "c", "a"]  # c takes the room of a, and then a that of b
    clock[0] += 5.0
    get("c", 60)  # another answer of the same: it counts once
    get("a", 40)
    assert made[4:] == ["c", "a"]
    assert (len(get("c", 60)), len(get("a", 40)), len(made)) == (60, 40, 6)
    assert len(get("huge", 101)) == 101
    cache.clear()
    get("d", 100)
    get("d", 100)
    assert made[6:] == ["huge", "d"]


def test_a_cleared_answer_is_computed_again(clock):
    cache, make = Cache(), Makes()
    assert [cache.get("a", make), cache.get("b", make)] == [b"1", b"2"]
    cache.clear()
    assert [cache.get("a", make), cache.get("b", make)] == [b"3", b"4"]


@pytest.mark.parametrize("url", ["", "valkey"])
def test_an_answer_of_before_it_was_cleared_is_not_kept(valkey, link, url):
    """A record is corrected while somebody reads it."""
    cache = Cache(valkey if url else "")

    def corrected_meanwhile():
        cache.clear()
        return b"old"

    assert cache.get("k", corrected_meanwhile) == b"old"
    assert cache.get("k", lambda: b"new") == b"new"
    assert cache.get("k", lambda: b"newer") == b"new"


def test_concurrent_requests_share_one_answer():
    cache = Cache(ttl_s=60.0)
    make = Makes()
    begun = threading.Event()
    may = threading.Event()
    got = []
    hits = counted("hit")

    def slowly():
        begun.set()
        assert may.wait(10)
        return make()

    first = threading.Thread(target=lambda: got.append(cache.get("k", slowly)))
    first.start()
    assert begun.wait(10)
    second = threading.Thread(target=lambda: got.append(cache.get("k", make)))
    second.start()
    assert cache.get("other", lambda: b"o") == b"o"  # another question waits for nobody
    time.sleep(0.1)  # the second is at the door by now; were it not, it would still find the answer
    assert not got
    may.set()
    first.join(10)
    second.join(10)
    assert (got, make.n, counted("hit") - hits) == ([b"1", b"1"], 1, 1)


def test_a_failed_answer_is_not_cached():
    cache = Cache()
    with pytest.raises(LookupError):
        cache.get("k", {}.popitem)
    assert cache.get("k", lambda: b"good") == b"good"


def test_failed_keys_leave_nothing_behind():
    cache = Cache()

    def size():
        return sum(len(held) for held in vars(cache).values() if isinstance(held, dict))

    before = size()
    for k in range(100):
        with pytest.raises(LookupError):
            cache.get(f"no {k}", {}.popitem)
    assert size() == before


def test_valkey_keeps_answers_for_all_processes(link, valkey):
    one, two, make = Cache(valkey, 3600.0), Cache(valkey, 3600.0), Makes()
    assert [one.get("a", make), two.get("a", make)] == [b"1", b"1"]
    assert link.keys() == [b"headway:cache:a"]
    assert 3_599_000 < link.pttl("headway:cache:a") <= 3_600_000
    assert degraded() == 0
    link.set("another's", "x")
    two.get("b", make)
    one.clear()
    assert link.keys() == [b"another's"]
    assert two.get("a", make) == b"3"


def test_without_valkey_each_process_caches_for_itself_and_logs_it(clock, nowhere):
    cache, make = Cache(nowhere, 60.0), Makes()
    metrics.degraded.labels("cache").set(0)
    assert [cache.get("a", make), cache.get("a", make)] == [b"1", b"1"]
    assert degraded() == 1
    cache.clear()
    assert cache.get("a", make) == b"2"


def test_an_unreachable_valkey_is_not_tried_again_for_5_s(clock, valkey, link, monkeypatch):
    cache, make = Cache(valkey, 60.0), Makes()
    metrics.degraded.labels("cache").set(0)

    def broken(*_, **__):
        raise redis.ConnectionError("away")

    for fault in ("get", "set", "scan_iter"):  # whichever call it is that finds out
        clock[0] += 100.0
        link.flushall()
        with monkeypatch.context() as patch:
            patch.setattr(redis.Redis, fault, broken)
            if fault == "scan_iter":
                cache.clear()
            else:
                own = cache.get("a", make)
        assert degraded() == 1
        link.set("headway:cache:a", "theirs")
        clock[0] += 4.999
        if fault != "scan_iter":
            assert cache.get("a", make) == own
        cache.clear()
        assert link.get("headway:cache:a") == b"theirs"
        cache.get("b", make)
        assert link.get("headway:cache:b") is None
        assert degraded() == 1
        clock[0] += 0.001
        assert cache.get("a", make) == b"theirs"
        assert degraded() == 0
        cache.get("c", make)
        assert link.get("headway:cache:c") is not None
        cache.clear()
        assert link.keys() == []


def test_a_valkey_that_does_not_answer_is_waited_for_half_a_second(monkeypatch, valkey):
    asked = []
    monkeypatch.setattr(redis.Redis, "from_url", lambda url, **how: asked.append((url, how)))
    Cache("redis://somewhere")
    assert asked == [("redis://somewhere", {"socket_timeout": 0.5, "socket_connect_timeout": 0.5})]
    Cache("")
    assert len(asked) == 1


def test_a_client_a_second_never_waits_and_gets_nothing_older_than_half_as_long_again(clock):
    """For ten minutes: the first request waits for its answer, all others are given one at once."""
    cache = Cache(ttl_s=10.0, stale_s=5.0)
    made, hits, misses = [], counted("hit"), counted("miss")

    def make():
        made.append(clock[0])
        return str(clock[0]).encode()

    ages = []
    for _ in range(600):
        ages.append(clock[0] - float(cache.get("k", make)))
        until(lambda: not cache.refreshing)
        clock[0] += 1.0
    assert (counted("hit") - hits, counted("miss") - misses) == (599, 1)
    assert (max(ages), len(made)) == (10.0, 60)


def test_an_answer_that_nobody_asked_for_in_time_is_waited_for(clock):
    cache, make = Cache(ttl_s=10.0, stale_s=5.0), Makes()
    assert cache.get("k", make) == b"1"
    clock[0] += 15.0
    assert cache.get("k", make) == b"2"
    clock[0] += 14.999
    assert cache.get("k", make) == b"2"  # and a new one is made
    until(lambda: not cache.refreshing)
    assert cache.get("k", make) == b"3"


def test_a_refresh_that_fails_keeps_the_answer_for_its_time(clock):
    cache = Cache(ttl_s=10.0, stale_s=5.0)
    assert cache.get("k", lambda: b"1") == b"1"
    clock[0] += 12.0
    assert cache.get("k", {}.popitem) == b"1"
    until(lambda: not cache.refreshing)
    assert cache.get("k", {}.popitem) == b"1"
    until(lambda: not cache.refreshing)
    clock[0] += 3.0
    with pytest.raises(KeyError):
        cache.get("k", {}.popitem)


def test_four_answers_at_most_are_refreshed_at_once(clock):
    cache, may, begun = Cache(ttl_s=10.0, stale_s=5.0), threading.Event(), []

    def slowly():
        begun.append(1)
        assert may.wait(10)
        return b"new"

    for k in range(6):
        cache.get(str(k), lambda: b"old")
    clock[0] += 11.0
    assert [cache.get(str(k), slowly) for k in range(6)] == [b"old"] * 6
    until(lambda: len(begun) == 4)
    assert cache.refreshing == 4
    may.set()
    until(lambda: not cache.refreshing)
    assert [cache.get(str(k), slowly) for k in range(6)] == [b"new"] * 4 + [b"old"] * 2
    until(lambda: not cache.refreshing)


def test_a_shared_answer_is_refreshed_for_all(valkey, link):
    one = Cache(valkey, ttl_s=0.2, stale_s=60.0)
    other = Cache(valkey, ttl_s=0.2, stale_s=60.0)
    make = Makes()
    assert one.get("shared", make) == b"1"
    assert 60_000 < link.pttl("headway:cache:shared") <= 60_200
    time.sleep(0.25)
    assert other.get("shared", make) == b"1"
    until(lambda: not other.refreshing)
    assert one.get("shared", make) == b"2"
