"""Rows A7 and A8: limits, congestion, and orders that do not wait for the tick."""

from __future__ import annotations

import contextlib
import queue
import statistics
import threading
import time

import pytest
from tests.waiting import until

from headway.client import Headway

ROUNDS = 7  # of three orders
# spread over the second of a tick
PAUSES_S = (0.03, 0.2, 0.37)


@pytest.fixture(scope="module")
def at_real_time(serve):
    """A service at the pace of real time, without the fixed-time street."""
    with serve(
        "--scenario", "cologne1", "--speed-factor", "1", "--no-baseline", "--per-minute", "0"
    ) as product:
        yield product


@contextlib.contextmanager
def listening(client, topic="monitoring"):
    """A queue of (time of arrival s, message), from now on."""
    heard = queue.SimpleQueue()
    messages = client.listen(topic)

    def hear():
        for message in messages:
            heard.put((time.perf_counter(), message))

    threading.Thread(target=hear, daemon=True).start()
    yield heard


def time_of(heard, kind):
    """When the next event of the kind arrived. Raises queue.Empty after ten seconds."""
    while True:
        at_s, message = heard.get(timeout=10.0)
        if message["data"].get("kind") == kind:
            return at_s


@pytest.mark.row("A8")
def test_a8_an_order_is_obeyed_at_once_at_the_pace_of_real_time(at_real_time, figures):
    """`POST streets/{name}/junctions/{junction}/override` at speed factor 1: the event
    `safety.override` is on the live socket within milliseconds, whatever is left of the tick.
    """
    with Headway(at_real_time.url, at_real_time.token) as client, listening(client) as heard:
        until(lambda: client.streets()[0]["started"], 120.0)
        junction = client.streets()[0]["junctions"][0]["id"]
        orders = {
            "safety.override": lambda k: client.override("headway", junction, "hold", lasts_s=9),
            "safety.override_released": lambda k: client.override("headway", junction, "release"),
            "engine.controller": lambda k: client.controller(
                "headway", "webster" if k % 2 else "actuated"
            ),
        }
        answer_s, event_s = [], []
        for k in range(ROUNDS):
            for kind, order in orders.items():
                time.sleep(PAUSES_S[k % len(PAUSES_S)])
                begun_s = time.perf_counter()
                order(k)
                answer_s.append(time.perf_counter() - begun_s)
                event_s.append(time_of(heard, kind) - begun_s)
        client.controller("headway", "planner")
    figures.add("order to its answer, worst of 21", 1e3 * max(answer_s), "ms", "< 200 ms")
    figures.add("order to its event, median", 1e3 * statistics.median(event_s), "ms", "< 500 ms")
    figures.add("order to its event, worst of 21", 1e3 * max(event_s), "ms", "< 500 ms")
