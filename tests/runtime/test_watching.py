"""What watches over the loop, each by its law: profiler, steps, stability, streams, alerts, recovery, modes."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.runtime import (
    AdaptiveTimestepper,
    DataStreamManager,
    ErrorRecoverySystem,
    Level,
    Limits,
    NumericalStabilityMonitor,
    Pacer,
    PerformanceProfiler,
    Policy,
    RealTimeMonitor,
    RealTimeOptimizer,
    Rule,
    StepBounds,
    Strategy,
)
from headway.runtime.paths import Path, flatten


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


# profiler


def test_sections_are_timed_counted_and_hold_against_their_budget():
    profiler = PerformanceProfiler(window=4)
    work = profiler.section("work", budget_s=0.002)
    for _ in range(6):
        with work:
            time.sleep(0.001)
    profiler.count("drops", 3)
    report = profiler.report()["work"]
    assert report.calls == 6
    assert len(work.window) == 4
    assert 0.001 <= report.p50_s <= report.p95_s <= report.p99_s <= report.max_s
    assert report.budget_use == pytest.approx(report.p95_s / 0.002)
    assert profiler.figures()["counter.drops"] == 3
    assert profiler.section("work") is work


def test_switched_off_nothing_is_kept():
    profiler = PerformanceProfiler(on=False)
    with profiler.section("a"):
        profiler.count("b")
    assert profiler.figures() == {}


# steps


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 100.0), min_size=1, max_size=200))
def test_steps_stay_within_their_bounds_and_a_bad_one_is_tried_again_shorter(errors):
    bounds = StepBounds(0.01, 0.5)
    stepper = AdaptiveTimestepper(bounds)
    stepper.step_s = 0.2
    for error in errors:
        tried = stepper.step_s
        stands = stepper.accept(error)
        assert bounds.shortest_s <= stepper.step_s <= bounds.longest_s
        if not stands:
            assert error > 1.0
            assert stepper.step_s < tried
    assert stepper.accepted + stepper.rejected == len(errors)


def test_the_controller_holds_a_real_integration_at_its_tolerance():
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
    with pytest.raises(ArithmeticError, match="nan"):
        stepper.accept(math.nan)


def test_pressure_lengthens_steps_and_ease_shortens_them_again():
    stepper = AdaptiveTimestepper(StepBounds(0.05, 0.2))
    for _ in range(20):
        stepper.adapt_to_load(0.1, 0.1)
    assert stepper.floor_s == 0.2
    for _ in range(40):
        stepper.adapt_to_load(0.01, 0.1)
    assert stepper.floor_s == 0.05
    assert stepper.batch == 1_000_000, "as many as are ever taken at a time"
    stepper.refine()
    assert stepper.floor_s == 0.05 / 4


@pytest.mark.parametrize("bad", [(0.2, 0.1), (0.0, 0.1), (math.nan, 0.2), (-1.0, 0.2)])
def test_bounds_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError, match="shortest_s"):
        StepBounds(*bad)


# stability


def test_each_fault_is_told_with_its_figure_and_fades():
    monitor = NumericalStabilityMonitor(
        {"v": Limits(0.0, 10.0, per_s=5.0, noise=0.1)}, ("residual", 1e-3), memory=10
    )
    quiet = {"v": 1.0, "residual": 0.0}
    assert monitor.check(0.0, quiet).score == 1.0
    assert monitor.check(1.0, {"v": 11.0, "residual": 0.0}).reasons == (
        "v 11 is outside 0 to 10",
        "v jumped from 1 to 11 in 1 s",
    )
    fading = [monitor.check(2.0 + k, quiet | {"v": 8.0}).score for k in range(12)]
    assert fading == sorted(fading)
    assert fading[-1] == 1.0
    assert monitor.check(14.1, quiet | {"v": 1.0}).reasons == ("v jumped from 8 to 1 in 1.1 s",)
    assert monitor.check(20.0, quiet | {"residual": 0.01}).reasons == (
        "residual 0.01 is above 0.001: energy is not kept",
    )
    lost = monitor.check(21.0, quiet | {"v": math.nan})
    assert (lost.score, lost.reasons) == (0.0, ("v is nan",))
    monitor.reset()
    assert monitor.check(22.0, quiet).score == 1.0


def test_ringing_at_the_steps_frequency_is_heard_and_a_slow_wave_is_not():
    def listen(values):
        monitor = NumericalStabilityMonitor({"v": Limits(noise=0.01)})
        return [r for k, v in enumerate(values) for r in monitor.check(float(k), {"v": v}).reasons]

    assert any("rings" in r for r in listen([(-1.0) ** k for k in range(20)]))
    assert not listen(np.sin(np.arange(200) / 5.0).tolist())
    assert not listen([(-1.0) ** k * 1e-4 for k in range(20)])


# streams


def test_each_subscriber_has_its_rate_its_fields_and_its_buffer():
    clock = Clock()
    streams = DataStreamManager(20.0, clock=clock)
    state = {"a": 1, "deep": {"x": 2, "y": 3}}
    fast = streams.subscribe("fast", 20.0, ("deep.*",), size=1000, sample=state)
    slow = streams.subscribe("slow", 5.0, size=3)
    last = streams.subscribe("last", 20.0, ("a",), policy=Policy.LATEST_ONLY)
    for k in range(100):
        clock.now += 0.05
        streams.publish(float(k), state | {"a": k})
    assert [m.at_s for m in fast.take()] == list(range(100))
    assert all(m.values == {"deep.x": 2, "deep.y": 3} for m in fast.take())
    kept = slow.take()
    assert len(kept) == 3
    assert kept[-1].values["a"] - kept[0].values["a"] == 8
    assert [m.values for m in last.take()] == [{"a": 99}]
    for s in (fast, slow, last):
        d = s.delivery
        assert d.offered == d.taken + d.dropped + s.waiting
    with pytest.raises(ValueError, match=r"no 'deep\.z'"):
        streams.subscribe("x", 1.0, ("deep.z",), sample=state)
    with pytest.raises(ValueError, match="already"):
        streams.subscribe("fast", 1.0)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=80),
    st.sampled_from(list(Policy)),
    st.integers(1, 4),
)
def test_the_last_value_of_a_priority_field_reaches_everyone_whatever_is_dropped(
    values, policy, size
):
    clock = Clock()
    streams = DataStreamManager(1.0, ("alarm",), clock)
    s = streams.subscribe("s", 0.5, ("other",), size=size, policy=policy, timeout_s=0.0)
    for k, value in enumerate(values):
        clock.now += 0.1
        streams.publish(float(k), {"alarm": value, "other": k})
    seen = {}
    for _ in range(200):
        for message in s.take():
            seen |= message.values
    assert seen["alarm"] == values[-1]


def test_blocked_news_wait_for_room_as_long_as_is_allowed():
    clock = Clock()
    streams = DataStreamManager(100.0, clock=clock)
    patient = streams.subscribe("patient", 100.0, size=2, policy=Policy.BLOCK, timeout_s=1e9)
    for k in range(10):
        clock.now += 0.1
        streams.publish(float(k), {"a": k})
    got = [m.values["a"] for _ in range(10) for m in patient.take()]
    assert got == list(range(10))


def test_a_raising_and_a_sleeping_subscriber_harm_nobody_else():
    streams = DataStreamManager(1000.0)
    got, release = [], threading.Event()
    streams.subscribe("bad", 1000.0, call=lambda m: 1 / 0)
    streams.subscribe("asleep", 1000.0, call=lambda m: release.wait(10), size=4)
    good = streams.subscribe("good", 1000.0, call=lambda m: got.append(m.at_s), size=1000)
    worst = 0.0
    for k in range(200):
        begun = time.perf_counter()
        streams.publish(float(k), {"a": k})
        worst = max(worst, time.perf_counter() - begun)
        time.sleep(0.002)
    deadline = time.monotonic() + 5
    while good.waiting and time.monotonic() < deadline:
        time.sleep(0.01)
    release.set()
    assert "bad" not in streams.statistics()
    assert streams.statistics()["asleep"].dropped > 0
    assert len(got) == good.delivery.offered > 100
    assert worst < 1.0
    streams.close()


def test_pressure_thins_out_and_ease_brings_back():
    clock = Clock()
    streams = DataStreamManager(10.0, clock=clock)
    s = streams.subscribe("s", 10.0, size=1000)

    def second():
        for _ in range(100):
            clock.now += 0.01
            streams.publish(clock.now, {"a": 1})
        return len(s.take())

    assert second() == 10
    streams.adapt_to_load(1.0)
    streams.adapt_to_load(1.0)
    second()
    assert second() == 2, "a quarter of the rate: one in 0.4 s"
    for _ in range(20):
        streams.adapt_to_load(0.1)
    second()
    assert second() == 10


# paths and alerts


def test_paths_match_by_parts_and_nonsense_is_refused():
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}
    assert Path("a.*").matches("a.b")
    assert not Path("a.*").matches("a.c.d")
    assert Path("*").matches("anything.at.all")
    for bad in ("", ".", "a..b", "a.", "a b", "a.**"):
        with pytest.raises(ValueError, match="no path"):
            Path(bad)


def test_an_alert_opens_after_its_time_is_told_once_and_closes_with_hysteresis():
    rule = Rule("fast", "v", ">", 3.0, Level.ERROR, hysteresis=0.5, for_s=2.0, clear_s=1.0)
    monitor = RealTimeMonitor((rule,), {"v": 0.0})
    series = [2, 4, 4, 4, 4, 2.8, 2.8, 2.4, 2.4, 2.4]
    told = [
        (k, n.change)
        for k, v in enumerate(series)
        for n in monitor.check(float(k), {"v": float(v)})
    ]
    assert told == [(3, "opened"), (8, "closed")]
    assert monitor.history[0].worst == 4.0


def test_alerts_are_acknowledged_and_told_again_only_when_much_worse():
    monitor = RealTimeMonitor(
        (Rule("r", "q.*.n", ">=", 10.0, Level.CRITICAL), Rule("i", "q.a.n", ">", 5.0, Level.INFO))
    )
    assert {n.alert.path for n in monitor.check(0.0, {"q": {"a": {"n": 12}, "b": {"n": 3}}})} == {
        "q.a.n"
    }
    assert [a.level for a in monitor.open_alerts()] == [Level.CRITICAL, Level.INFO]
    number = monitor.open_alerts()[0].number
    assert monitor.acknowledge(number, "ann").alert.acknowledged_by == "ann"
    assert monitor.check(1.0, {"q": {"a": {"n": 13}, "b": {"n": 3}}}) == []
    assert [n.change for n in monitor.check(2.0, {"q": {"a": {"n": 30}, "b": {"n": 3}}})] == [
        "worse",
        "worse",
    ]
    assert monitor.open_alerts()[0].acknowledged_by == "ann"
    with pytest.raises(KeyError):
        monitor.acknowledge(99, "ann")


def test_a_rule_that_flutters_makes_no_storm_and_says_what_it_held_back():
    monitor = RealTimeMonitor((Rule("r", "v", ">", 0.5),), most_per_minute=3)
    opened = [
        n
        for k in range(600)
        for n in monitor.check(k / 10.0, {"v": float(k % 2)})
        if n.change == "opened"
    ]
    assert len(opened) == 3
    later = [
        n
        for k in range(700, 704)
        for n in monitor.check(k / 10.0, {"v": float(k % 2)})
        if n.change == "opened"
    ]
    assert later[0].held_back == 297, "it rose 300 times, and was told thrice"


def test_a_figure_that_is_no_number_or_vanishes_raises_the_alert():
    monitor = RealTimeMonitor((Rule("r", "v", "<", -1.0),), {"v": 1.0})
    assert monitor.check(0.0, {"v": 1.0}) == []
    assert [n.change for n in monitor.check(1.0, {"v": math.nan})] == ["opened"]
    assert [n.change for n in monitor.check(2.0, {"v": 0.0})] == ["closed"]
    assert [n.change for n in monitor.check(3.0, {})] == ["opened"]


@pytest.mark.parametrize(
    "bad", [{"condition": "~"}, {"threshold": math.nan}, {"for_s": -1.0}, {"path": "a..b"}]
)
def test_rules_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError, match=r"condition|threshold|path"):
        Rule(**({"name": "r", "path": "v", "condition": ">", "threshold": 1.0} | bad))
    with pytest.raises(ValueError, match="There are: v"):
        RealTimeMonitor((Rule("r", "w", ">", 1.0),), {"v": 1.0})


# recovery


def test_answers_escalate_when_they_do_not_help_and_start_mildly_when_they_do():
    clock = Clock()
    recovery = ErrorRecoverySystem(clock=clock, settle_s=2.0)
    first = [recovery.choose(ArithmeticError("nan")) for _ in range(4)]
    assert first == [Strategy.RETRY_SMALLER, Strategy.RESTORE, Strategy.REINITIALISE, Strategy.STOP]
    recovery = ErrorRecoverySystem(clock=clock, settle_s=2.0)
    assert recovery.choose(ArithmeticError("nan")) is Strategy.RETRY_SMALLER
    clock.now += 3
    recovery.report_success()
    assert recovery.choose(ArithmeticError("nan")) is Strategy.RETRY_SMALLER
    assert recovery.success_counts()[Strategy.RETRY_SMALLER] == (1, 1)
    assert recovery.choose(OSError("full")) is Strategy.DEGRADE


@given(
    st.lists(
        st.tuples(st.sampled_from([ArithmeticError, OSError, KeyError]), st.floats(0.0, 30.0)),
        min_size=6,
        max_size=30,
    )
)
def test_whatever_fails_however_often_it_ends(faults):
    clock = Clock()
    recovery = ErrorRecoverySystem(clock=clock, most=5, window_s=1e9)
    answers = []
    for kind, after in faults:
        clock.now += after
        recovery.report_success()
        answers.append(recovery.choose(kind("x")))
    assert answers[5:] == [Strategy.STOP] * (len(answers) - 5)


def test_a_plan_that_does_not_end_is_refused():
    with pytest.raises(ValueError, match="STOP"):
        ErrorRecoverySystem(((Exception, (Strategy.RESTORE,)),))


# modes and pacing


def test_the_mode_gives_way_under_lasting_pressure_and_comes_back_but_does_not_swing():
    clock = Clock()
    optimizer = RealTimeOptimizer("accuracy", clock=clock)

    def for_s(seconds, pressure):
        for _ in range(int(seconds * 10)):
            clock.now += 0.1
            optimizer.adapt_to_load(pressure)
        return optimizer.mode.name

    assert for_s(0.5, 1.2) == "accuracy"
    assert for_s(1.0, 1.2) == "balanced"
    assert for_s(3.0, 0.7) == "balanced"
    assert for_s(3.0, 1.2) == "performance"
    assert for_s(4.0, 0.1) == "performance"
    assert for_s(2.0, 0.1) == "balanced"
    optimizer.choose("balanced")
    assert for_s(30.0, 0.1) == "balanced"
    with pytest.raises(ValueError, match="performance, balanced, accuracy"):
        optimizer.choose("turbo")


@pytest.mark.parametrize(("policy", "ends"), [("degrade", 10.0), ("skip", 10.0), ("slow", 13.0)])
def test_what_is_overrun_is_caught_up_left_out_or_shifted(policy, ends):
    clock = Clock()

    def sleep(seconds):
        clock.now += seconds

    pacer, periods = Pacer(1.0, 1.0, clock, sleep, overrun=policy), 0
    while periods < 10:
        periods += pacer.wait()
        clock.now += 4.0 if periods == 3 else 0.1
    assert clock.now - 100.0 - 0.1 == pytest.approx(ends, abs=1e-9)
    assert pacer.report().skipped == (3 if policy == "skip" else 0)
    with pytest.raises(ValueError, match="degrade, skip, slow"):
        Pacer(1.0, 1.0, overrun="panic")
