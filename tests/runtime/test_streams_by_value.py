"""Buffers, order, priority and rates of the streams, message by message, on a clock set by hand."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import FrozenInstanceError, astuple

import pytest
from tests.runtime.clocks import Clock
from tests.waiting import until

from headway.runtime import DataStreamManager, Policy
from headway.runtime.streams import DeliveryCounts, Message


def opened(clock=None, rate_hz=1000.0, priority=(), **more):
    """A stream and one subscriber of it at that rate, by default to everything."""
    streams = DataStreamManager(1000.0, priority, clock or Clock())
    return streams, streams.subscribe("s", rate_hz, **more)


def put(subscription, *messages, clock=None):
    """Put messages (number, urgent) whose one field carries the number,
    or that have the fields given.
    """
    for number, urgent, *fields in messages:
        if clock is not None:
            clock.now = float(number)
        subscription.put(
            Message(float(number), fields[0] if fields else {"n": number}, urgent), float(number)
        )


def counts(subscription):
    """offered, taken, dropped, skipped, merged."""
    d = subscription.delivery
    assert d.offered == d.taken + d.dropped + subscription.waiting
    return astuple(d)[:5]


# buffers


def test_counts_start_at_zero_and_messages_are_not_urgent_by_default():
    assert astuple(DeliveryCounts()) == (0, 0, 0, 0, 0, 0, 0.0)
    assert Message(1.0, {}).urgent is False
    with pytest.raises(FrozenInstanceError):
        Message(1.0, {}).urgent = True
    _, s = opened()
    assert (s.take(), s.waiting, counts(s)) == ([], 0, (0, 0, 0, 0, 0))
    assert (s.name, s.rate_hz, s.fields, s.size, s.policy, s.timeout_s, s.detached) == (
        "s",
        1000.0,
        ("*",),
        1000,
        Policy.DROP_OLDEST,
        1.0,
        "",
    )


def test_waiting_messages_are_taken_in_order_and_at_once():
    _, s = opened(size=3)
    put(s, (1, False), (2, False), (3, False))
    assert s.waiting == 3
    assert [(m.at_s, m.values, m.urgent) for m in s.take()] == [
        (1.0, {"n": 1}, False),
        (2.0, {"n": 2}, False),
        (3.0, {"n": 3}, False),
    ]
    assert (s.take(), s.waiting, counts(s)) == ([], 0, (3, 3, 0, 0, 0))


def test_a_full_buffer_drops_the_oldest():
    _, s = opened(size=2)
    put(s, *[(k, False) for k in range(5)])
    assert counts(s) == (5, 0, 3, 0, 0)
    assert [m.at_s for m in s.take()] == [3.0, 4.0]
    assert counts(s) == (5, 2, 3, 0, 0)


def test_urgent_fields_of_a_dropped_message_are_merged_into_the_next():
    _, s = opened(size=2)
    put(s, (1, True, {"a": 1, "b": 1}), (2, False, {"b": 2}), (3, False, {"c": 3}))
    assert counts(s) == (3, 0, 1, 0, 1)
    assert s.take() == [Message(2.0, {"a": 1, "b": 2}, True), Message(3.0, {"c": 3}, False)]
    put(s, (4, True, {"a": 4}), (5, False, {}), (6, False, {}), (7, False, {}))
    assert s.take() == [Message(6.0, {"a": 4}, True), Message(7.0, {}, False)]
    assert counts(s) == (7, 4, 3, 0, 3)


def test_a_single_urgent_message_is_kept_beside_the_new_one():
    _, s = opened(size=1)
    put(s, (1, True, {"a": 1}), (2, False, {"b": 2}))
    assert (s.waiting, counts(s)) == (2, (2, 0, 0, 0, 0))
    put(s, (3, False, {"c": 3}))
    assert counts(s) == (3, 0, 1, 0, 1)
    assert s.take() == [Message(2.0, {"a": 1, "b": 2}, True), Message(3.0, {"c": 3}, False)]
    put(s, (4, False), (5, False))
    assert [m.at_s for m in s.take()] == [5.0]


def test_latest_only_keeps_one_message_with_the_urgent_fields():
    _, s = opened(policy=Policy.LATEST_ONLY)
    put(s, (1, False, {"a": 1}), (2, False, {"b": 2}))
    assert (s.waiting, counts(s)) == (1, (2, 0, 1, 0, 0))
    assert s.take() == [Message(2.0, {"b": 2}, False)]
    put(s, (3, True, {"a": 3, "b": 3}), (4, False, {"b": 4}))
    assert counts(s) == (4, 1, 2, 0, 1)
    assert s.take() == [Message(4.0, {"a": 3, "b": 4}, True)]


def test_blocked_messages_overflow_in_order_up_to_sixteen_times_the_size():
    _, s = opened(size=2, policy=Policy.BLOCK, timeout_s=1e9)
    put(s, *[(k, False) for k in range(40)])
    assert (s.waiting, counts(s)) == (34, (40, 0, 6, 0, 0))
    assert [[m.at_s for m in s.take()] for _ in range(3)] == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    put(s, (50, False))
    rest = [m.at_s for _ in range(15) for m in s.take()]
    assert rest == [float(k) for k in range(6, 34)] + [50.0]
    assert (s.waiting, counts(s)) == (0, (41, 35, 6, 0, 0))


def test_a_blocked_message_that_finds_room_does_not_overflow():
    _, s = opened(size=2, policy=Policy.BLOCK)
    put(s, (1, False))
    assert [m.at_s for m in s.take()] == [1.0]
    put(s, (2, False), (3, False))
    assert [m.at_s for m in s.take()] == [2.0, 3.0]


def test_an_expired_overflow_message_makes_room_for_a_new_one():
    clock = Clock()
    _, s = opened(clock, size=1, policy=Policy.BLOCK, timeout_s=2.0)
    put(s, *[(0, False)] * 17, (9, False), clock=clock)
    assert (s.waiting, counts(s)) == (2, (18, 0, 16, 0, 0))
    assert [m.at_s for _ in range(2) for m in s.take()] == [0.0, 9.0]


def test_an_urgent_message_without_room_is_merged_into_the_last_waiting_one():
    _, s = opened(size=1, policy=Policy.BLOCK, timeout_s=1e9)
    put(s, *[(k, False, {"n": k, "m": k}) for k in range(17)], (17, True, {"n": 17}), (18, False))
    assert (s.waiting, counts(s)) == (17, (19, 0, 2, 0, 1))
    assert [m for _ in range(17) for m in s.take()][-2:] == [
        Message(15.0, {"n": 15, "m": 15}),
        Message(17.0, {"n": 17, "m": 16}, True),
    ]


def test_overflow_messages_expire_but_their_urgent_fields_do_not():
    clock = Clock()
    _, s = opened(clock, size=1, policy=Policy.BLOCK, timeout_s=2.0)
    put(s, (0, False), (1, False), (2, False), (3, False), clock=clock)
    assert [m.at_s for m in s.take()] == [0.0]  # at 3 s: the one of 1 s waits just two seconds
    assert (s.waiting, counts(s)) == (3, (4, 1, 0, 0, 0))
    clock.now = 5.5
    assert [m.at_s for m in s.take()] == [1.0]
    assert counts(s) == (4, 2, 2, 0, 0)  # those of 2 and 3 s are gone
    put(s, (10, False), (11, True), (12, False), (13, False), clock=clock)
    clock.now = 20.0
    assert [m.at_s for m in s.take()] == [10.0]
    assert [m.at_s for m in s.take()] == [11.0]
    assert counts(s) == (8, 4, 4, 0, 0)


def test_overflow_messages_expire_after_a_second_by_default():
    clock = Clock()
    for waited, left in ((1.0, 1), (1.125, 0)):
        _, s = opened(clock, size=1, policy=Policy.BLOCK)
        clock.now = 0.0
        put(s, (0, False), (0, False))
        clock.now = waited
        s.take()
        assert s.waiting == left


def test_the_longest_wait_is_that_of_the_oldest_taken():
    clock = Clock()
    _, s = opened(clock)
    put(s, (1, False), (4, False))
    clock.now = 6.0
    s.take()
    assert s.delivery.longest_wait_s == 5.0
    put(s, (8, False))
    clock.now = 9.0
    s.take()
    clock.now = 50.0
    s.take()
    assert s.delivery.longest_wait_s == 5.0


def test_take_waits_for_the_first_message_up_to_its_timeout():
    _, s = opened()
    begun = time.monotonic()
    assert s.take() == []
    assert time.monotonic() - begun < 0.9
    begun = time.monotonic()
    assert s.take(0.03) == []
    assert time.monotonic() - begun >= 0.03
    put(s, (1, False))
    assert len(s.take(0.03)) == 1
    begun = time.monotonic()
    assert s.take(0.03) == []
    assert time.monotonic() - begun >= 0.03, "what was told of before is not told again"
    late = threading.Timer(0.03, put, (s, (2, False)))
    late.start()
    begun = time.monotonic()
    assert [m.at_s for m in s.take(8.0)] == [2.0]
    assert time.monotonic() - begun < 6.0
    late.join()


# rates and fields


def published(streams, clock, times, state=None):
    for clock.now in times:
        streams.publish(clock.now, state or {"a": 1})


def test_a_subscriber_gets_its_first_message_at_once_and_then_at_its_rate():
    clock = Clock()
    streams, s = opened(clock, 2.0)
    assert streams.is_due()
    published(streams, clock, [k / 8.0 for k in range(17)])
    assert [m.at_s for m in s.take()] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert counts(s) == (5, 5, 0, 12, 0)


@pytest.mark.parametrize(
    ("own_hz", "most_hz", "times"),
    [(4.0, 2.0, [0.0, 0.5, 1.0]), (1.0, 2.0, [0.0, 1.0]), (4.0, 4.0, [0.0, 0.25, 0.5, 0.75, 1.0])],
)
def test_the_lower_of_the_subscribers_and_the_modes_rate_counts(own_hz, most_hz, times):
    clock = Clock()
    streams = DataStreamManager(most_hz, clock=clock)
    s = streams.subscribe("s", own_hz)
    published(streams, clock, [k / 8.0 for k in range(9)])
    assert [m.at_s for m in s.take()] == times


def test_ten_messages_a_second_by_default_and_no_thinning():
    streams = DataStreamManager()
    assert (streams.rate_hz, streams.thinning) == (10.0, 1.0)


def test_a_rate_is_kept_on_average_although_publications_do_not_coincide():
    clock = Clock()
    streams, s = opened(clock, 1.0)
    published(streams, clock, [0.375 * k for k in range(20)])
    # due at 0, then 1, 2, 3, ... : the first publication at or after each
    assert [m.at_s for m in s.take()] == [0.0, 1.125, 2.25, 3.0, 4.125, 5.25, 6.0, 7.125]


def test_after_a_pause_two_are_caught_up_and_no_more():
    clock = Clock()
    streams, s = opened(clock, 1.0)
    published(streams, clock, [0.0, 0.5, 10.0, 10.125, 10.25, 10.375, 10.5, 11.0, 11.125])
    assert [m.at_s for m in s.take()] == [
        0.0,
        10.0,
        10.125,
        10.25,
        11.0,
    ]  # due again from 9, 10 and 11 s on


def test_a_subscriber_that_asks_for_nothing_gets_the_base_rate_and_buffer():
    s = DataStreamManager(20.0).subscribe("s")
    assert (s.rate_hz, s.size) == (10.0, 1000)
    s = DataStreamManager(20.0, base_hz=2.0, buffer=7).subscribe("s")
    assert (s.rate_hz, s.size) == (2.0, 7)
    for bad, said in (
        ({"rate_hz": math.nan}, "rate_hz: nan is not allowed: a finite number above 0"),
        ({"base_hz": 0.0}, "base_hz: 0.0"),
        ({"buffer": 0}, "buffer: 0 is not allowed: a whole number of messages from 1"),
    ):
        with pytest.raises(ValueError, match=said):
            DataStreamManager(**bad)


def test_a_thousand_messages_wait_for_who_never_reads_and_no_more():
    clock = Clock()
    streams = DataStreamManager(10.0, ("v",), clock)
    s = streams.subscribe("s")
    published(streams, clock, [0.125 * k for k in range(3000)], {"v": 1, "w": 2})
    assert (s.waiting, counts(s)[0]) == (1000, 3000)


@pytest.mark.parametrize("thinning", [0, 3])
def test_priority_fields_come_at_the_modes_rate_however_high_the_load(thinning):
    """Under load all other fields come one in eight; those of priority at each publication."""
    clock = Clock()
    streams = DataStreamManager(8.0, ("v",), clock)
    s = streams.subscribe("s", 8.0)
    for _ in range(thinning):
        streams.adapt_to_load(1.0)
    for k in range(65):
        clock.now = k / 8.0
        if streams.is_due():
            streams.publish(clock.now, {"v": k, "w": k})
    received = s.take()
    assert [m.values["v"] for m in received] == list(range(65))
    assert sum("w" in m.values for m in received) == (9 if thinning else 65)


def test_a_publication_is_due_only_when_a_subscriber_would_get_it():
    clock = Clock()
    streams = DataStreamManager(1000.0, clock=clock)
    assert not streams.is_due()
    streams.subscribe("s", 2.0)
    published(streams, clock, [0.0])
    due = []
    for clock.now in (0.0, 0.375, 0.5, 0.75):
        due.append(streams.is_due())
    assert due == [False, False, True, True]


def test_each_subscriber_gets_its_selected_fields():
    streams = DataStreamManager(1000.0, clock=Clock())
    subs = {
        f: streams.subscribe(str(f), 1000.0, f)
        for f in (("*",), ("a",), ("b.*", "a"), ("b.x",), ("a", "*"), ("c",), ())
    }
    streams.publish(3.0, {"a": 1, "b": {"x": 2, "y": 3}})
    flat = {"a": 1, "b.x": 2, "b.y": 3}
    assert {f: s.take() for f, s in subs.items()} == {
        f: [Message(3.0, values)]
        for f, values in {
            ("*",): flat,
            ("a",): {"a": 1},
            ("b.*", "a"): flat,
            ("b.x",): {"b.x": 2},
            ("a", "*"): flat,
            ("c",): {},
            (): {},
        }.items()
    }


def test_changed_priority_fields_reach_every_subscriber_at_once_and_each_value_once():
    clock = Clock()
    streams, s = opened(clock, 1.0, ("alarm.*",), fields=("a",))
    for at_s, alarm in ((0.0, 0), (0.25, 0), (0.5, 1), (0.75, 1), (1.0, 1), (1.25, 2), (2.0, 3)):
        published(streams, clock, [at_s], {"a": at_s, "alarm": {"x": alarm, "y": 7}})
    assert s.take() == [
        Message(0.0, {"a": 0.0, "alarm.x": 0, "alarm.y": 7}, True),
        Message(0.5, {"alarm.x": 1}, True),
        Message(1.0, {"a": 1.0}, False),
        Message(1.25, {"alarm.x": 2}, True),
        Message(2.0, {"a": 2.0, "alarm.x": 3}, True),
    ]
    assert counts(s) == (5, 5, 0, 2, 0)


def test_under_pressure_the_rate_is_halved_down_to_an_eighth_and_restored():
    streams = DataStreamManager()
    found = []
    for pressure in (0.9, 0.9375, 5.0, 1.0, 1.0, 0.75, 0.6, 0.59375, 0.0):
        streams.adapt_to_load(pressure)
        found.append(streams.thinning)
    assert found == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 6.4, 5.12]
    for _ in range(8):
        streams.adapt_to_load(0.0)
    assert streams.thinning == 1.0
    clock = Clock()
    streams, s = opened(clock, 2.0)
    streams.adapt_to_load(1.0)
    published(streams, clock, [k / 8.0 for k in range(17)])
    assert [m.at_s for m in s.take()] == [0.0, 1.0, 2.0]


# subscribing


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"rate_hz": 0.0}, "rate_hz: 0.0"), ({"rate_hz": -1.0}, "rate_hz: -1.0"),
        ({"rate_hz": math.nan}, "rate_hz: nan"), ({"rate_hz": math.inf}, "rate_hz: inf"),
        ({"size": 0}, "size: 0"), ({"size": 2.5}, "size: 2.5"), ({"size": True}, "size: True"),
        ({"timeout_s": -0.5}, "timeout_s: -0.5"), ({"timeout_s": math.nan}, "timeout_s: nan"),
    ],
)  # fmt: skip
def test_invalid_subscriptions_are_refused_by_name(bad, said):
    streams = DataStreamManager()
    with pytest.raises(
        ValueError,
        match=rf"^s: {said} is not allowed: ",
    ):
        streams.subscribe("s", **({"rate_hz": 0.5, "size": 1, "timeout_s": 0.0} | bad))
    assert streams.statistics() == {}


def test_fields_are_checked_against_a_sample_and_names_are_unique():
    streams = DataStreamManager()
    with pytest.raises(ValueError, match=r"no 'b' in the state. There are: a"):
        streams.subscribe("s", 0.5, ("a", "b"), size=1, timeout_s=0.0, sample={"a": 1})
    with pytest.raises(ValueError, match="is no path"):
        streams.subscribe("s", 0.5, ("a..b",))
    made = streams.subscribe("s", 0.5, ("a",), size=1, timeout_s=0.0, sample={"a": 1})
    with pytest.raises(
        ValueError, match=r"there is a subscriber 's' already. Unsubscribe it first"
    ):
        streams.subscribe("s", 0.5)
    assert streams.statistics() == {"s": made.delivery}
    assert streams.statistics()["s"] is made.delivery


def test_equal_subscriptions_are_distinct():
    streams = DataStreamManager()
    assert len({streams.subscribe(name, 1.0) for name in "abc"}) == 3


def test_unsubscribing_ends_delivery_and_gives_the_reason():
    clock = Clock()
    streams, s = opened(clock)
    other = streams.subscribe("t", 1000.0)
    streams.unsubscribe("s")
    streams.unsubscribe("s")
    published(streams, clock, [1.0])
    assert (s.detached, s.take(), len(other.take())) == ("unsubscribed", [], 1)
    streams.unsubscribe("t", "for a reason")
    assert other.detached == "for a reason"
    assert streams.statistics() == {}


def test_a_waiting_subscriber_is_woken_when_it_is_unsubscribed():
    streams, s = opened()
    late = threading.Timer(0.03, streams.unsubscribe, ("s",))
    late.start()
    begun = time.monotonic()
    assert s.take(8.0) == []
    assert time.monotonic() - begun < 6.0
    late.join()


# calls in threads of their own


def threads():
    return {t.name: t for t in threading.enumerate() if t.name.startswith("stream ")}


def test_each_message_is_delivered_once_and_in_order_by_a_thread_with_the_subscribers_name():
    clock, got = Clock(), []
    streams = DataStreamManager(1000.0, clock=clock)
    streams.subscribe(
        "caller", 1000.0, call=lambda m: got.append((m.at_s, threading.current_thread().name))
    )
    assert threads()["stream caller"].daemon
    published(streams, clock, [1.0, 2.0, 3.0])
    until(lambda: len(got) == 3)
    assert got == [(1.0, "stream caller"), (2.0, "stream caller"), (3.0, "stream caller")]
    streams.close()
    assert threads() == {}


def test_ten_errors_in_a_row_unsubscribe_and_a_success_resets_the_count():
    clock, calls = Clock(), []

    def call(message):
        calls.append(message.at_s)
        if message.at_s != 9.0:
            raise KeyError(f"message {message.at_s:g}")

    streams = DataStreamManager(1000.0, clock=clock)
    s = streams.subscribe("bad", 1000.0, call=call)
    for k in range(19):
        published(streams, clock, [float(k)])
        until(lambda k=k: len(calls) == k + 1)
    assert (s.detached, s.delivery.errors) == ("", 18)
    published(streams, clock, [19.0, 20.0])
    until(lambda: s.detached and not threads())
    assert s.detached == "raised 10 times in a row, the last time KeyError('message 19')"
    assert (s.delivery.errors, calls[-1]) == (19, 19.0)
    assert streams.statistics() == {}
    streams.close()


def test_closing_detaches_all_waits_a_little_for_their_threads_and_not_for_one_that_hangs():
    streams = DataStreamManager(1000.0, clock=Clock())
    begun, release = threading.Semaphore(0), threading.Event()
    made = []

    def slow(message):
        begun.release()
        until(lambda: made[0].detached)
        time.sleep(0.02)

    def hangs(message):
        begun.release()
        release.wait(20.0)

    made += [
        streams.subscribe("slow", 1000.0, call=slow),
        streams.subscribe("hangs", 1000.0, call=hangs),
        streams.subscribe("quiet", 1000.0),
    ]
    streams.publish(1.0, {"a": 1})
    assert begun.acquire(timeout=10.0)
    assert begun.acquire(timeout=10.0)
    at_s = time.monotonic()
    streams.close()
    assert time.monotonic() - at_s < 1.0
    assert set(threads()) == {"stream hangs"}
    assert [s.detached for s in made] == ["closed"] * 3
    assert streams.statistics() == {}
    release.set()
    until(lambda: not threads())


def test_a_subscriber_may_close_the_stream_itself():
    streams, done = DataStreamManager(1000.0, clock=Clock()), threading.Event()

    def call(message):
        streams.close()
        done.set()

    s = streams.subscribe("closer", 1000.0, call=call)
    streams.publish(1.0, {"a": 1})
    assert done.wait(10.0)
    assert (s.detached, s.delivery.errors) == ("closed", 0)
    until(lambda: not threads())
