"""Threads that fail are started anew and reported; bursts are told once a while."""

from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs

from headway import telemetry
from headway.telemetry import bursts, metrics
from headway.telemetry.bursts import Burst
from headway.telemetry.threads import failed_within, keep_running


def failures(name):
    return metrics.registry.get_sample_value("headway_thread_failures_total", {"thread": name})


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Other tests ask for the health of their process."""
    yield
    metrics.thread_failed_at.clear()


class Pauses:
    """Stands for the event that ends a thread: says how long it waited."""

    def __init__(self, most):
        self.waited = []
        self._most = most

    def wait(self, seconds):
        self.waited.append(seconds)
        return len(self.waited) == self._most


def test_a_thread_that_fails_is_started_anew_with_doubling_pauses_and_says_so():
    stop = Pauses(9)
    with capture_logs() as logs:
        keep_running("failing", lambda: 1 / 0, stop).join(10.0)
    assert stop.waited == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert failures("failing") == 9
    assert [(line["thread"], line["error"]) for line in logs][:1] == [
        ("failing", "ZeroDivisionError('division by zero')")
    ]
    found = metrics.registry.get_sample_value(
        "headway_thread_last_failure_timestamp_seconds", {"thread": "failing"}
    )
    assert found > 1.7e9
    assert "failing" in failed_within(60.0)
    assert failed_within(-60.0) == []


def test_after_a_long_time_of_work_the_pause_is_short_again():
    times, stop = iter([0.0, 1.0, 10.0, 100.0, 200.0, 201.0]), Pauses(3)
    thread = keep_running("at times", lambda: 1 / 0, stop, clock=lambda: next(times))
    thread.join(10.0)
    assert stop.waited == [1.0, 1.0, 2.0]  # 90 s of work before the second failure


def test_a_thread_that_ends_well_is_not_started_again():
    calls = []
    thread = keep_running("ending", lambda: calls.append(1), threading.Event())
    thread.join(10.0)
    assert (calls, thread.daemon, failures("ending")) == ([1], True, None)


def test_a_burst_is_told_at_its_begin_and_then_once_a_minute_with_what_came_meanwhile():
    now = [100.0]
    burst = Burst(lambda: now[0])
    assert (burst.count, burst.is_recent) == (0, False)
    assert [burst.add(2), burst.add(), burst.add(4)] == [2, 0, 0]
    now[0] += bursts.TOLD_EVERY_S
    assert burst.add() == 6
    assert (burst.count, burst.is_recent) == (8, True)
    now[0] += bursts.LATELY_S
    assert not burst.is_recent


def test_a_thread_of_any_kind_does_not_end_in_silence(monkeypatch):
    monkeypatch.setattr(threading, "excepthook", telemetry.log_end_of_thread)
    with capture_logs() as logs:
        thread = threading.Thread(target=lambda: 1 / 0, name="of a plug-in")
        thread.start()
        thread.join(10.0)
    assert [(line["event"], line["thread"], line["error"]) for line in logs] == [
        ("a thread ended", "of a plug-in", "ZeroDivisionError('division by zero')")
    ]


def test_the_logs_of_a_process_are_set_up_with_that(monkeypatch):
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    telemetry.set_up()
    assert threading.excepthook is telemetry.log_end_of_thread
