"""Laws of pacing, steps, streams and recovery:
over generated sequences, and over real threads and processes.
"""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.clocks import Clock
from tests.runtime.workers import work_silently
from tests.waiting import until

from headway.runtime import (
    AdaptiveTimestepper,
    DataStreamManager,
    ErrorRecoverySystem,
    Pacer,
    Policy,
    StepBounds,
    Strategy,
    Supervisor,
    WorkerError,
)


@given(st.lists(st.floats(0, 0.9), min_size=5, max_size=100))
def test_ticks_fall_on_the_grid_however_long_the_work_takes(work):
    clock = Clock(100.0)
    pacer = Pacer(1.0, 1.0, clock, clock.sleep)
    for k, seconds in enumerate(work, 1):
        pacer.wait()
        assert clock.now == pytest.approx(100.0 + k)
        clock.now += seconds
    assert pacer.report().overruns == 0


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 100.0), min_size=1, max_size=200))
def test_steps_stay_within_their_bounds_and_a_rejected_one_is_retried_shorter(errors):
    bounds = StepBounds(0.01, 0.5)
    stepper = AdaptiveTimestepper(bounds)
    stepper.step_s = 0.2
    for error in errors:
        tried = stepper.step_s
        accepted = stepper.accept(error)
        assert bounds.shortest_s <= stepper.step_s <= bounds.longest_s
        if not accepted:
            assert error > 1.0
            assert stepper.step_s < tried
    assert stepper.accepted + stepper.rejected == len(errors)


def test_the_controller_holds_a_real_integration_at_its_tolerance():
    """y' = -y^2 from 1, by Heun's method with Euler's inside it: 1/6 after 5 s."""
    stepper = AdaptiveTimestepper(StepBounds(1e-5, 1.0, 1e-5, 1e-5), order=2.0)
    y, t = 1.0, 0.0
    while t < 5.0:
        h = min(stepper.step_s, 5.0 - t)
        stepper.step_s = h
        euler, heun = y - h * y * y, y - h * (y * y + (y - h * y * y) ** 2) / 2.0
        if stepper.accept(abs(heun - euler) / 1e-5):
            y, t = heun, t + h
    assert y == pytest.approx(1.0 / 6.0, abs=1e-4)
    assert (stepper.rejected, stepper.accepted) == (0, 552)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=80),
    st.sampled_from(list(Policy)),
    st.integers(1, 4),
)
def test_the_last_value_of_a_priority_field_reaches_every_subscriber_whatever_is_dropped(
    values, policy, size
):
    clock = Clock(100.0)
    streams = DataStreamManager(1.0, ("alarm",), clock)
    s = streams.subscribe("s", 0.5, ("other",), size=size, policy=policy, timeout_s=0.0)
    for k, value in enumerate(values):
        clock.now += 0.1
        streams.publish(float(k), {"alarm": value, "other": k})
    received = {}
    for _ in range(200):
        for message in s.take():
            received |= message.values
    assert received["alarm"] == values[-1]


def test_a_raising_and_a_sleeping_subscriber_do_not_affect_others():
    clock, received, release = Clock(), [], threading.Event()
    streams = DataStreamManager(1000.0, clock=clock)
    streams.subscribe("bad", 1000.0, call=lambda m: 1 / 0)
    streams.subscribe("asleep", 1000.0, call=lambda m: release.wait(30), size=4)
    good = streams.subscribe("good", 1000.0, call=lambda m: received.append(m.at_s), size=1000)
    for k in range(200):  # it would not come to an end, if it waited for who sleeps
        clock.now += 0.01
        streams.publish(float(k), {"a": k})
    assert not release.is_set()
    until(lambda: len(received) == 200)
    until(lambda: "bad" not in streams.statistics())
    assert received == [float(k) for k in range(200)]
    assert streams.statistics()["asleep"].dropped > 0
    assert good.delivery.offered == 200
    release.set()
    streams.close()


@given(
    st.lists(
        st.tuples(st.sampled_from([ArithmeticError, OSError, KeyError]), st.floats(0.0, 30.0)),
        min_size=6,
        max_size=30,
    )
)
def test_any_sequence_of_faults_ends(faults):
    clock = Clock(100.0)
    recovery = ErrorRecoverySystem(clock=clock, most=5, window_s=1e9)
    chosen = []
    for kind, after in faults:
        clock.now += after
        recovery.report_success()
        chosen.append(recovery.choose(kind("x")))
    assert chosen[5:] == [Strategy.STOP] * (len(chosen) - 5)


@pytest.mark.slow
def test_a_silent_worker_is_abandoned_after_its_restarts():
    supervisor = Supervisor(work_silently, "", 0.3, 1, lambda message: False)
    with pytest.raises(
        WorkerError, match=r"failed 2 times in a row; the last time: silent for 0\.3 s"
    ):
        list(supervisor.messages())
