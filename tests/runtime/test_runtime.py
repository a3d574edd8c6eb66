"""Pacing without drift on a clock of the test's own; supervision of real processes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.workers import work_once_then_well, work_silently

from headway.runtime import Pacer, Supervisor, WorkerError
from headway.runtime.supervisor import Restarted


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@given(st.lists(st.floats(0, 0.9), min_size=5, max_size=100))
def test_ticks_fall_on_the_grid_however_long_the_work_takes(work):
    clock = Clock()
    pacer = Pacer(1.0, 1.0, clock, clock.sleep)
    for k, seconds in enumerate(work, 1):
        pacer.wait()
        assert clock.now == pytest.approx(100.0 + k)
        clock.now += seconds
    assert pacer.report().overruns == 0


def test_overruns_are_counted_and_caught_up_and_a_jump_is_not_chased():
    clock = Clock()
    pacer = Pacer(1.0, 1.0, clock, clock.sleep)
    pacer.wait()
    clock.now += 3.5
    pacer.wait()
    assert pacer.report().overruns == 1
    for _ in range(3):
        pacer.wait()
    assert clock.now == pytest.approx(105.0)
    clock.now += 1000
    pacer.wait()
    pacer.wait()
    assert clock.now == pytest.approx(1106.0)


def test_faster_than_real_time_waits_less_and_nought_never_waits():
    clock = Clock()
    fast = Pacer(1.0, 50.0, clock, clock.sleep)
    for _ in range(50):
        fast.wait()
    assert clock.now == pytest.approx(101.0)
    free = Pacer(1.0, 0.0, clock, lambda _: pytest.fail("must not wait"))
    free.wait()
    with pytest.raises(ValueError, match="above 0"):
        Pacer(0.0, 1.0)


@pytest.mark.slow
def test_a_worker_that_ends_badly_is_started_again_and_the_reason_told(tmp_path):
    watched = Supervisor(work_once_then_well, str(tmp_path / "mark"), 5.0, 2, lambda m: False)
    messages = list(watched.messages())
    assert messages[0] == "begun"
    assert messages[-1] == "done"
    told = next(m for m in messages if isinstance(m, Restarted))
    assert told.why == "ended with status 7"


@pytest.mark.slow
def test_a_worker_that_stays_silent_is_given_up_after_its_restarts(tmp_path):
    watched = Supervisor(work_silently, "", 0.3, 1, lambda m: False)
    begun = time.monotonic()
    with pytest.raises(
        WorkerError, match=r"failed 2 times in a row; the last time: silent for 0\.3 s"
    ):
        list(watched.messages())
    assert time.monotonic() - begun < 60
