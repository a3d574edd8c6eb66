"""Pacing, modes and the profiler, on a clock set by hand."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, astuple

import pytest
from tests.runtime.clocks import Clock

from headway.runtime import MODES, Pacer, Pacing, PerformanceProfiler, RealTimeOptimizer
from headway.runtime.modes import mode_by_name
from headway.runtime.profiler import SectionReport

# pacing


def paced(work, period_s=1.0, speed_factor=1.0, **more):
    """Ticks with so much work after each: (time of each tick, what it stands for),
    and the pacer.
    """
    clock = Clock(100.0)
    pacer = Pacer(period_s, speed_factor, clock, clock.sleep, **more)
    ticks = []
    for seconds in work:
        stands_for = pacer.wait()
        ticks.append((clock.now, stands_for))
        clock.now += seconds
    assert all(s > 0.0 for s in clock.slept)
    return ticks, pacer


def test_a_tick_is_due_at_each_multiple_of_the_period_after_the_start():
    ticks, pacer = paced([0.25, 0.5, 1.0, 0.0])
    assert ticks == [(101.0, 1), (102.0, 1), (103.0, 1), (104.0, 1)]
    assert pacer.report() == Pacing(4, 0, 0.0, 0.0, 0, 0.0)


def test_half_real_time_takes_twice_as_long_and_the_wall_time_granted_says_so():
    ticks, pacer = paced([0.0, 0.0], period_s=0.25, speed_factor=0.5)
    assert ticks == [(100.5, 1), (101.0, 1)]
    assert (pacer.granted_s, pacer.period_s) == (0.5, 0.25)


def test_a_sleep_that_ends_too_soon_is_repeated():
    clock = Clock(0.0)

    def sleep(seconds):
        clock.sleep(min(seconds, 0.375))

    Pacer(1.0, 1.0, clock, sleep).wait()
    assert clock.now == 1.0
    assert clock.slept == [0.375, 0.375, 0.25]


def test_a_pacer_says_how_long_it_is_until_the_next_tick_and_never_less_than_nothing():
    clock = Clock(100.0)
    pacer = Pacer(2.0, 1.0, clock, clock.sleep)
    clock.now = 100.5
    assert pacer.due_in_s == 1.5
    pacer.wait()
    assert (clock.now, pacer.due_in_s) == (102.0, 2.0)
    clock.now = 104.25
    assert pacer.due_in_s == 0.0
    assert Pacer(2.0, 0.0, clock, clock.sleep).due_in_s == 0.0


@pytest.mark.parametrize(
    ("old", "new", "due_s"),
    [
        ((1.0, 1.0), (1.0, 1.0), 101.0),  # in 0.5 s
        ((1.0, 1.0), (4.0, 1.0), 101.0),
        ((4.0, 1.0), (1.0, 1.0), 101.5),  # a second from now: sooner than the 104 of before
        ((1.0, 0.0), (1.0, 1.0), 101.5),  # the one before did not wait
        ((0.25, 1.0), (1.0, 1.0), 100.5),  # it was late: now
    ],
)
def test_a_pacer_that_continues_another_is_due_no_later_than_that_one(old, new, due_s):
    clock = Clock(100.0)
    before = Pacer(*old, clock, clock.sleep)
    clock.now = 100.5
    after = Pacer(*new, clock, clock.sleep)
    after.continue_from(before)
    after.wait()
    assert clock.now == due_s
    after.wait()
    assert clock.now == due_s + new[0] / new[1], "the grid goes on from there"


def test_another_period_begins_at_the_last_tick():
    clock = Clock(100.0)
    pacer = Pacer(1.0, 1.0, clock, clock.sleep)
    pacer.wait()
    clock.now = 101.25
    pacer.change_period(0.5)
    assert (pacer.granted_s, pacer.period_s, pacer.due_in_s) == (0.5, 0.5, 0.25)
    pacer.wait()
    pacer.wait()
    assert clock.now == 102.0
    fast = Pacer(1.0, 0.0, clock, clock.sleep)
    fast.change_period(0.5)
    assert (fast.granted_s, fast.period_s) == (0.0, 0.5)


def test_an_unpaced_clock_never_waits_and_is_never_late():
    clock = Clock(5.0)
    pacer = Pacer(0.25, 0.0, clock, clock.sleep)
    assert [pacer.wait() for _ in range(3)] == [1, 1, 1]
    clock.now += 100.0
    pacer.wait()
    assert pacer.granted_s == 0.0
    assert clock.slept == []
    assert pacer.report() == Pacing(4, 0, 0.0, 0.0, 0, 0.0)


def test_a_tick_late_by_a_whole_period_is_an_overrun_and_by_less_is_not():
    ticks, pacer = paced([1.75, 1.25, 0.0, 0.0])  # the second begins 0.75 late, the third 1.0
    assert ticks == [(101.0, 1), (102.75, 1), (104.0, 1), (104.0, 1)]
    report = pacer.report()
    assert (report.ticks, report.overruns, report.skipped, report.drift_s) == (4, 1, 0, 0.0)
    assert report.jitter_p50_s == 0.375  # of 0, 0, 0.75, 1.0
    assert report.jitter_p99_s == pytest.approx(1.0 - 0.03 * 0.25)


def test_overruns_are_caught_up_by_immediate_ticks():
    ticks, pacer = paced([3.5, 0.0, 0.0, 0.25, 0.0])
    assert ticks == [(101.0, 1), (104.5, 1), (104.5, 1), (104.5, 1), (105.0, 1)]
    assert (
        pacer.report().overruns == 2
    )  # due at 102 and 103, late by 2.5 and 1.5; that of 104 by 0.5
    assert pacer.report().drift_s == 0.0


def test_skipping_drops_missed_ticks_and_stays_on_the_grid():
    ticks, pacer = paced([3.5, 0.0, 2.0, 0.0], overrun="skip")
    assert ticks == [(101.0, 1), (104.5, 3), (105.0, 1), (107.0, 2)]
    report = pacer.report()
    assert (report.ticks, report.overruns, report.skipped, report.drift_s) == (4, 2, 3, 0.0)
    ticks, pacer = paced(
        [1.125, 0.0], period_s=1.0, speed_factor=4.0, overrun="skip"
    )  # a tick each quarter of a second of wall time
    assert ticks == [(100.25, 1), (101.375, 4)]
    assert pacer.report().skipped == 3


def test_slowing_moves_the_whole_schedule_and_counts_the_drift():
    ticks, pacer = paced([3.5, 0.0, 2.0, 0.0], overrun="slow")
    assert ticks == [(101.0, 1), (104.5, 1), (105.5, 1), (107.5, 1)]
    report = pacer.report()
    assert (report.ticks, report.overruns, report.skipped, report.drift_s) == (4, 2, 0, 3.5)


def test_a_lag_of_twenty_periods_is_caught_up_and_a_longer_one_restarts_the_schedule():
    ticks, pacer = paced([21.0, 0.0, 0.0])  # the second is due at 102
    assert [t for t, _ in ticks] == [101.0, 122.0, 122.0]
    assert pacer.report().drift_s == 0.0
    ticks, pacer = paced([21.5, 0.0, 0.0, 21.5, 0.0])
    assert [t for t, _ in ticks] == [101.0, 122.5, 123.5, 124.5, 146.0]
    assert pacer.report().drift_s == 20.5 + 20.5


def test_the_longest_lag_can_be_set():
    assert [t for t, _ in paced([4.0, 0.0, 0.0], longest_lag=2)[0]] == [101.0, 105.0, 106.0]
    assert [t for t, _ in paced([4.0, 0.0, 0.0], longest_lag=3)[0]] == [101.0, 105.0, 105.0]
    # in wall time: of a quarter of a second each
    assert [t for t, _ in paced([0.875, 0.0], speed_factor=4.0, longest_lag=2)[0]] == [
        100.25,
        101.125,
    ]
    assert paced([0.875, 0.0], speed_factor=4.0, longest_lag=2)[1].report().drift_s == 0.625
    assert paced([0.75, 0.0], speed_factor=4.0, longest_lag=2)[1].report().drift_s == 0.0


def test_jitter_is_of_the_last_4096_ticks():
    clock = Clock(0.0)
    pacer = Pacer(1.0, 1.0, clock, clock.sleep)
    for k in range(2049 + 2048):
        clock.now = k + (1.5 if k < 2049 else 1.0)
        pacer.wait()
    assert (
        pacer.report().jitter_p50_s == 0.25
    )  # 2048 ticks half a second late, 2048 on time; the first of all is forgotten


def test_an_invalid_pacer_is_refused():
    for period_s, speed_factor in ((0.0, 1.0), (-1.0, 1.0), (1.0, -0.5)):
        with pytest.raises(ValueError, match=f"are {period_s} and {speed_factor}"):
            Pacer(period_s, speed_factor)
    assert Pacer(0.5, 0.0).ticks == 0
    assert Pacer(0.5, 0.5).granted_s == 1.0
    with pytest.raises(ValueError, match=r"'panic' is not allowed. There are: degrade, skip, slow"):
        Pacer(1.0, 1.0, overrun="panic")


def test_a_default_tick_report_has_no_skips_and_is_immutable():
    assert astuple(Pacing(1, 0, 0.0, 0.0)) == (1, 0, 0.0, 0.0, 0, 0.0)
    with pytest.raises(FrozenInstanceError):
        Pacing(1, 0, 0.0, 0.0).ticks = 2


# modes


def test_what_each_mode_means():
    assert {name: astuple(mode) for name, mode in MODES.items()} == {
        "performance": ("performance", 5.0, 5.0, False),
        "balanced": ("balanced", 10.0, 15.0, True),
        "accuracy": ("accuracy", 20.0, math.inf, True),
    }
    assert mode_by_name("accuracy") is MODES["accuracy"]
    with pytest.raises(
        ValueError, match=r"no mode 'turbo'. There are: performance, balanced, accuracy."
    ):
        mode_by_name("turbo")
    with pytest.raises(FrozenInstanceError):
        MODES["balanced"].check_hz = 1.0


def pressed(optimizer, clock, *presses):
    """The mode after each (time, pressure)."""
    names = []
    for at_s, pressure in presses:
        clock.now = at_s
        before = optimizer.mode
        assert optimizer.adapt_to_load(pressure) is (optimizer.mode is not before)
        names.append(optimizer.mode.name)
    return names


def test_a_second_above_nine_tenths_takes_one_step_down_and_another_second_the_next():
    clock = Clock()
    optimizer = RealTimeOptimizer("accuracy", clock=clock)
    names = pressed(
        optimizer,
        clock,
        (10.0, 0.95),
        (10.75, 2.0),
        (11.0, 0.95),
        (11.75, 0.95),
        (12.0, 0.95),
        (20.0, 0.95),
    )
    assert names == ["accuracy", "accuracy", "balanced", "balanced", "performance", "performance"]
    assert optimizer.switches == 2
    assert optimizer.chosen.name == "accuracy"


def test_five_seconds_below_a_half_take_one_step_back_but_not_beyond_what_was_chosen():
    clock = Clock()
    optimizer = RealTimeOptimizer("balanced", clock=clock)
    assert optimizer.mode.name == RealTimeOptimizer().mode.name == "balanced"
    pressed(optimizer, clock, (0.0, 1.0), (1.0, 1.0))
    assert pressed(optimizer, clock, (2.0, 0.25), (6.75, 0.25), (7.0, 0.25), (30.0, 0.25)) == [
        "performance",
        "performance",
        "balanced",
        "balanced",
    ]
    assert optimizer.switches == 2
    optimizer = RealTimeOptimizer("accuracy", clock=clock)
    pressed(optimizer, clock, (40.0, 1.0), (41.0, 1.0), (42.0, 1.0))
    assert pressed(optimizer, clock, (50.0, 0.0), (55.0, 0.0), (59.75, 0.0), (60.0, 0.0)) == [
        "performance",
        "balanced",
        "balanced",
        "accuracy",
    ]


@pytest.mark.parametrize("between", [0.9, 0.75, 0.5])
def test_pressure_between_or_at_the_thresholds_restarts_both_timers(between):
    clock = Clock()
    optimizer = RealTimeOptimizer("balanced", clock=clock)
    assert (
        pressed(optimizer, clock, (0.0, 1.0), (0.75, between), (1.5, 1.0), (2.25, 1.0))[-1]
        == "balanced"
    )
    assert pressed(optimizer, clock, (2.5, 1.0))[-1] == "performance"
    assert (
        pressed(optimizer, clock, (3.0, 0.25), (7.0, between), (9.0, 0.25), (13.75, 0.25))[-1]
        == "performance"
    )
    assert pressed(optimizer, clock, (14.0, 0.25))[-1] == "balanced"


def test_thresholds_and_times_of_modes_can_be_set():
    clock = Clock()
    optimizer = RealTimeOptimizer("balanced", high=0.5, low=0.25, down_s=4.0, up_s=2.0, clock=clock)
    assert pressed(optimizer, clock, (0.0, 0.625), (3.75, 0.625), (4.0, 0.625)) == [
        "balanced",
        "balanced",
        "performance",
    ]
    assert pressed(optimizer, clock, (5.0, 0.125), (6.75, 0.125), (7.0, 0.125)) == [
        "performance",
        "performance",
        "balanced",
    ]


def test_a_manual_choice_applies_at_once_and_restarts_the_timers():
    clock = Clock()
    optimizer = RealTimeOptimizer("balanced", clock=clock)
    pressed(optimizer, clock, (0.0, 1.0), (0.75, 1.0))
    optimizer.choose("accuracy")
    assert (optimizer.mode.name, optimizer.chosen.name, optimizer.switches) == (
        "accuracy",
        "accuracy",
        0,
    )
    assert pressed(optimizer, clock, (1.0, 1.0), (1.75, 1.0), (2.0, 1.0)) == [
        "accuracy",
        "accuracy",
        "balanced",
    ]
    pressed(optimizer, clock, (3.0, 0.0), (7.0, 0.0))
    optimizer.choose("performance")
    assert pressed(optimizer, clock, (8.0, 0.0), (30.0, 0.0)) == ["performance", "performance"]
    with pytest.raises(ValueError, match="no mode 'turbo'"):
        optimizer.choose("turbo")
    with pytest.raises(ValueError, match="no mode 'turbo'"):
        RealTimeOptimizer("turbo")


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.5), (-0.25, 0.5), (0.5, 0.5), (0.75, 0.5)])
def test_thresholds_that_are_not_apart_are_refused(low, high):
    with pytest.raises(ValueError, match=f"low {low} and high {high}"):
        RealTimeOptimizer(low=low, high=high)


# profiler


def timed(profiler, clock, name, *seconds, **more):
    section = profiler.section(name, **more)
    for s in seconds:
        with section:
            clock.now += s
    return section


def test_the_figures_of_a_section_are_seconds_over_its_window():
    clock = Clock(7.0)
    profiler = PerformanceProfiler(clock=clock)
    section = timed(profiler, clock, "work", 4.0, 1.0, 2.0, 3.0, 0.0, budget_s=2.0)
    assert profiler.section("work") is section
    # of 0, 1, 2, 3, 4: the 95th percentile is 3.8, the 99th 3.96
    report = profiler.report()["work"]
    assert astuple(report) == pytest.approx((5, 2.0, 2.0, 3.8, 3.96, 4.0, 1.9))
    assert list(section.window) == [4.0, 1.0, 2.0, 3.0, 0.0]
    with pytest.raises(FrozenInstanceError):
        report.calls = 0


def test_the_window_forgets_the_oldest_and_the_calls_are_those_since_the_start():
    clock = Clock()
    profiler = PerformanceProfiler(window=2, clock=clock)
    timed(profiler, clock, "work", 8.0, 1.0, 3.0)
    assert astuple(profiler.report()["work"]) == pytest.approx((3, 2.0, 2.0, 2.9, 2.98, 3.0, 0.0))
    assert PerformanceProfiler().section("x").window.maxlen == 1024
    assert PerformanceProfiler(window=1).section("x").window.maxlen == 1
    with pytest.raises(ValueError, match="window: 0 is not allowed: at least 1"):
        PerformanceProfiler(window=0)


def test_an_unused_section_is_all_zero_and_one_that_raises_is_timed():
    clock = Clock()
    profiler = PerformanceProfiler(clock=clock)
    section = profiler.section("idle", budget_s=0.5)
    assert profiler.report() == {"idle": SectionReport(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)}
    with pytest.raises(KeyError), section:
        clock.now += 3.0
        raise KeyError("x")
    assert astuple(profiler.report()["idle"]) == (1, 3.0, 3.0, 3.0, 3.0, 3.0, 6.0)


def test_counters_and_sections_are_flat_figures_by_name():
    clock = Clock()
    profiler = PerformanceProfiler(clock=clock)
    profiler.count("drops")
    profiler.count("drops", 2.5)
    profiler.count("late", -1.0)
    timed(profiler, clock, "a", 2.0, budget_s=4.0)
    assert profiler.figures() == {
        "counter.drops": 3.5, "counter.late": -1.0, "section.a.calls": 1.0, "section.a.mean_s": 2.0,
        "section.a.p50_s": 2.0, "section.a.p95_s": 2.0,
        "section.a.p99_s": 2.0, "section.a.max_s": 2.0, "section.a.budget_use": 0.5,
    }  # fmt: skip


def test_switched_off_the_profiler_hands_out_one_section_that_does_nothing():
    profiler = PerformanceProfiler(on=False)
    assert profiler.section("a") is profiler.section("b")
    with profiler.section("a"):
        profiler.count("c")
    assert profiler.report() == {}
    assert profiler.figures() == {}
    assert PerformanceProfiler().on is True
