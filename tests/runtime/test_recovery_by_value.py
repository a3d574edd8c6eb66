"""Recovery strategies, and the stability checks that raise faults:
order, budgets, time windows, scores, all by value.
"""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, astuple

import pytest
from tests.runtime.clocks import Clock

from headway.runtime import ErrorRecoverySystem, FigureLimits, NumericalStabilityMonitor, Strategy
from headway.runtime.recovery import DEFAULT_PLANS, Attempt
from headway.runtime.stability import Stability

RETRY, RESTORE, ANEW, RESTART, DEGRADE, STOP = Strategy
FAULT = ArithmeticError("nan")
ONE = ((Exception, (RETRY, STOP)),)


def answers(recovery, clock, *times, error=FAULT):
    """What is answered to a fault at each time."""
    found = []
    for clock.now in times:
        found.append(recovery.choose(error))
    return found


def test_the_strategies_of_each_class_of_error_from_the_mildest_to_the_last():
    assert (RETRY, RESTORE, ANEW, RESTART, DEGRADE, STOP) == (
        Strategy.RETRY_SMALLER, Strategy.RESTORE, Strategy.REINITIALISE, Strategy.RESTART,
        Strategy.DEGRADE, Strategy.STOP,
    )  # fmt: skip
    for error, plan in (
        (ZeroDivisionError("x"), [RETRY, RESTORE, ANEW, STOP]),
        (FileNotFoundError("x"), [DEGRADE, STOP]),
        (KeyError("x"), [RETRY, RESTORE, RESTART, ANEW, DEGRADE, STOP]),
        (KeyboardInterrupt(), [STOP]),
    ):
        clock = Clock()
        assert answers(
            ErrorRecoverySystem(clock=clock), clock, *[0.0] * (len(plan) + 1), error=error
        ) == [*plan, STOP]
    assert [kind for kind, _ in DEFAULT_PLANS] == [ArithmeticError, OSError, Exception]


def test_a_fault_within_the_settling_time_takes_the_next_strategy_and_one_at_its_end_restarts():
    clock = Clock()
    recovery = ErrorRecoverySystem(clock=clock)
    assert answers(recovery, clock, 10.0, 11.875, 13.75, 15.75, 17.0) == [
        RETRY,
        RESTORE,
        ANEW,
        RETRY,
        RESTORE,
    ]
    assert [a.worked for a in recovery.history] == [False, False, True, False, None]
    assert recovery.success_counts() == {RETRY: (0, 2), RESTORE: (0, 1), ANEW: (1, 1)}


def test_a_fault_of_another_class_escalates_if_its_plan_has_the_strategy_or_starts_at_the_first():
    clock = Clock()
    recovery = ErrorRecoverySystem(clock=clock)
    assert recovery.choose(FAULT) is RETRY
    assert recovery.choose(KeyError("x")) is RESTORE
    assert recovery.choose(KeyError("x")) is RESTART
    assert recovery.choose(FAULT) is RETRY  # a plan without restart
    assert recovery.choose(OSError("disk")) is DEGRADE
    assert recovery.choose(OSError("disk")) is STOP


def test_a_strategy_that_held_for_the_settling_time_counts_as_successful_once():
    clock = Clock(10.0)
    recovery = ErrorRecoverySystem(clock=clock)
    recovery.report_success()
    assert recovery.success_counts() == {}
    recovery.choose(FAULT)
    clock.now = 11.875
    recovery.report_success()
    assert (recovery.success_counts(), recovery.history[-1].worked) == ({}, None)
    clock.now = 12.0
    recovery.report_success()
    recovery.report_success()
    assert (recovery.success_counts(), recovery.history[-1].worked) == ({RETRY: (1, 1)}, True)
    assert recovery.choose(FAULT) is RETRY
    assert astuple(recovery.history[0]) == (10.0, repr(FAULT), RETRY, True)
    assert recovery.history[1] == Attempt(12.0, repr(FAULT), RETRY)
    with pytest.raises(FrozenInstanceError):
        recovery.history[0].worked = None


def test_without_a_settling_time_only_a_fault_before_the_next_good_tick_is_a_failure():
    clock = Clock()
    recovery = ErrorRecoverySystem(settle_s=0.0, clock=clock)
    assert answers(recovery, clock, 0.0, 1.0, 100.0) == [RETRY, RESTORE, ANEW]
    recovery.report_success()
    assert answers(recovery, clock, 100.0) == [RETRY]
    assert recovery.success_counts() == {RETRY: (0, 1), RESTORE: (0, 1), ANEW: (1, 1)}


def test_a_short_settling_time_applies():
    clock = Clock()
    recovery = ErrorRecoverySystem(settle_s=0.5, clock=clock)
    assert answers(recovery, clock, 0.0, 0.25, 0.75) == [RETRY, RESTORE, RETRY]


def test_a_strategy_is_tried_five_times_in_a_minute_and_then_the_next_one():
    clock = Clock()
    recovery = ErrorRecoverySystem(clock=clock)
    assert answers(recovery, clock, *[10.0 * k for k in range(7)]) == [RETRY] * 5 + [RESTORE] * 2
    # at 60 s the first is just a minute old and still counts; at 70 s only those from 10 s on do
    assert answers(recovery, clock, 70.0, 90.0) == [RETRY, RETRY]


def test_budget_and_window_can_be_set_and_an_exhausted_strategy_is_skipped():
    clock = Clock()
    recovery = ErrorRecoverySystem(budget=1, window_s=8.0, settle_s=1.0, clock=clock)
    assert answers(recovery, clock, 0.0, 2.0, 4.0, 6.0, 8.0, 9.5) == [
        RETRY,
        RESTORE,
        ANEW,
        STOP,
        STOP,
        RETRY,
    ]


def test_after_twenty_attempts_in_the_window_recovery_stops():
    clock = Clock()
    recovery = ErrorRecoverySystem(ONE, budget=1000, settle_s=1.0, clock=clock)
    assert answers(recovery, clock, *[2.0 * k for k in range(22)]) == [RETRY] * 20 + [STOP] * 2
    assert answers(recovery, clock, 102.0) == [RETRY]  # since 42 s: none
    recovery = ErrorRecoverySystem(
        ONE, budget=1000, most=2, window_s=4.0, settle_s=1.0, clock=clock
    )
    assert answers(recovery, clock, 200.0, 202.0, 204.0, 206.5) == [RETRY, RETRY, STOP, RETRY]


def test_the_plan_of_the_most_specific_class_is_used():
    clock = Clock()
    plans = ((OSError, (RESTART, STOP)), (FileNotFoundError, (DEGRADE, STOP)))
    recovery = ErrorRecoverySystem(plans, clock=clock)
    assert recovery.choose(FileNotFoundError("x")) is DEGRADE
    clock.now = 10.0
    assert recovery.choose(PermissionError("x")) is RESTART
    assert ErrorRecoverySystem(plans, clock=clock).choose(KeyError("x")) is STOP


@pytest.mark.parametrize(
    "bad", [{"budget": 0}, {"most": 0}, {"window_s": 0.0}, {"window_s": -1.0}, {"settle_s": -0.5}]
)
def test_invalid_budgets_are_refused(bad):
    with pytest.raises(ValueError, match=r"budget -?\d+ and most \d+ must be at least 1"):
        ErrorRecoverySystem(**bad)


@pytest.mark.parametrize("plan", [(), (RESTORE,), (STOP, RETRY)])
def test_a_plan_without_an_end_is_refused(plan):
    with pytest.raises(ValueError, match="the plan for OSError must end with STOP"):
        ErrorRecoverySystem(((Exception, (STOP,)), (OSError, plan)))


def test_the_least_budgets_are_accepted_and_a_thousand_attempts_kept():
    recovery = ErrorRecoverySystem(ONE, budget=1, most=1, window_s=0.5, settle_s=0.0)
    assert recovery.history.maxlen == 1000
    assert Attempt(0.0, "x", STOP).worked is None


# stability

OPEN = FigureLimits()


def test_limits_are_open_by_default_and_invalid_ones_are_refused():
    assert astuple(OPEN) == (-math.inf, math.inf, math.inf, math.inf)
    assert FigureLimits(1.0, 1.0, 0.5, 0.0).noise == 0.0
    for bad in (
        {"lowest": 1.0, "highest": 0.5},
        {"per_s": 0.0},
        {"per_s": -1.0},
        {"noise": -0.5},
        {"lowest": math.nan},
        {"noise": math.nan},
    ):
        with pytest.raises(
            ValueError,
            match="lowest must not be above highest, per_s must be above 0, noise not below",
        ):
            FigureLimits(**bad)
    with pytest.raises(FrozenInstanceError):
        OPEN.per_s = 1.0
    with pytest.raises(FrozenInstanceError):
        Stability(1.0, ()).score = 0.0


@pytest.mark.parametrize(
    ("value", "score"), [(1.0, 1.0), (4.0, 1.0), (0.9375, 0.3), (4.0625, 0.3), (-5.0, 0.3)]
)
def test_a_figure_out_of_bounds_costs_seven_tenths_of_stability(value, score):
    found = NumericalStabilityMonitor({"v": FigureLimits(1.0, 4.0)}).check(0.0, {"v": value})
    assert found.score == pytest.approx(score)
    assert found.reasons == (() if score == 1.0 else (f"v {value:.6g} is outside 1 to 4",))


def test_a_fault_decays_by_a_fiftieth_a_sample_or_as_configured():
    monitor = NumericalStabilityMonitor({"v": FigureLimits(highest=1.0)})
    scores = [monitor.check(float(k), {"v": 9.0 if k == 0 else 0.0}).score for k in range(40)]
    assert scores == pytest.approx([min(0.3 + 0.02 * k, 1.0) for k in range(40)])
    monitor = NumericalStabilityMonitor({"v": FigureLimits(highest=1.0)}, memory=4)
    assert [
        monitor.check(float(k), {"v": 9.0 if k == 0 else 0.0}).score for k in range(5)
    ] == pytest.approx([0.3, 0.55, 0.8, 1.0, 1.0])


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_not_a_number_costs_all_stability_and_the_others_are_still_checked(lost):
    monitor = NumericalStabilityMonitor({"v": FigureLimits(0.0, 1.0), "w": FigureLimits(0.0, 1.0)})
    found = monitor.check(0.0, {"v": lost, "w": 2.0, "x": 0.0, "y": lost})
    assert found == Stability(0.0, (f"v is {lost}", f"y is {lost}", "w 2 is outside 0 to 1"))


def jumps(*series, per_s=4.0, enhanced=True):
    """The looks (score, reasons) at a series of (time, value)."""
    monitor = NumericalStabilityMonitor({"v": FigureLimits(per_s=per_s)}, memory=1)
    return [
        (found.score, found.reasons)
        for at_s, v in series
        for found in [monitor.check(at_s, {"v": v}, enhanced)]
    ]


def test_an_implausibly_fast_change_costs_half_of_stability():
    sound = (1.0, ())
    assert jumps((10.0, 100.0), (10.5, 102.0), (11.0, 100.0)) == [sound] * 3  # just 4 a second
    assert jumps((10.0, 1.0), (10.5, 3.5), (11.0, 3.0)) == [
        sound,
        (0.5, ("v jumped from 1 to 3.5 in 0.5 s",)),
        sound,
    ]
    assert jumps((10.0, 3.5), (10.5, 1.0))[1] == (0.5, ("v jumped from 3.5 to 1 in 0.5 s",))
    assert (
        jumps((0.0, 0.0), (1.0, 3.0), (2.0, 6.0), (3.0, 9.5)) == [sound] * 4
    )  # against the last one, not the first
    assert (
        jumps((0.0, 0.0), (0.0, 9.0), (-1.0, 0.0)) == [sound] * 3
    )  # time that stands or goes back tells no speed
    assert jumps((10.0, 1.0), (10.5, 3.5), enhanced=False) == [sound] * 2


def rings(values, noise=1.0, enhanced=True):
    monitor = NumericalStabilityMonitor({"v": FigureLimits(noise=noise)}, memory=1)
    looks = [monitor.check(float(k), {"v": v}, enhanced) for k, v in enumerate(values)]
    return [(k, round(1.0 - x.score, 9), *x.reasons) for k, x in enumerate(looks) if x.reasons]


def test_eight_alternating_changes_are_an_oscillation():
    swing = [0.0, 2.0] * 6
    assert rings(swing[:8]) == []
    assert rings(swing[:9]) == [(8, 0.3, "v rings from step to step by 2")]
    assert [k for k, *_ in rings(swing)] == [8, 9, 10, 11]
    assert rings([0.0, *swing[:9]]) == [
        (9, 0.3, "v rings from step to step by 2")
    ]  # nine samples that swing, after one that stands
    assert rings([1.0, 1.0, *swing[2:9]]) == []
    assert rings([*swing[:4], *[3.0, 4.0], *swing[4:10]]) == []
    assert rings(swing, noise=2.0) == []
    assert rings(swing, noise=1.875) != []
    assert rings(swing, noise=math.inf) == []
    assert rings(swing, enhanced=False) == []
    assert (
        rings([0.0, 1.5, 0.0, 1.5, 0.0, 1.5, 0.0, 0.5, 0.0, 1.5]) == []
    )  # two changes are within the noise
    assert rings([float(k) for k in range(20)]) == []


def test_energy_that_is_not_conserved_costs_half_of_stability():
    monitor = NumericalStabilityMonitor({}, ("share", 0.25), memory=1)
    assert monitor.check(0.0, {"share": 0.25}) == Stability(1.0, ())
    assert monitor.check(1.0, {"share": 0.5}) == Stability(
        0.5, ("share 0.5 is above 0.25: energy is not kept",)
    )
    assert monitor.check(2.0, {"share": 0.5}, enhanced=False) == Stability(1.0, ())
    assert NumericalStabilityMonitor({}).check(0.0, {"share": 9.0}) == Stability(1.0, ())


def test_the_most_severe_fault_of_a_check_counts_and_all_are_reported():
    monitor = NumericalStabilityMonitor(
        {"a": FigureLimits(highest=1.0), "b": FigureLimits(per_s=1.0)}, ("e", 0.25), memory=1
    )
    monitor.check(0.0, {"a": 0.0, "b": 0.0, "e": 0.0})
    found = monitor.check(1.0, {"a": 2.0, "b": 5.0, "e": 1.0})
    assert found.score == pytest.approx(0.3)
    assert [r.split()[0] for r in found.reasons] == ["a", "b", "e"]
    swings = NumericalStabilityMonitor(
        {"a": FigureLimits(noise=0.5), "b": FigureLimits(highest=0.0)}, ("e", 0.25), memory=1
    )
    looks = [
        swings.check(float(k), {"a": float(k % 2), "b": float(k == 9), "e": float(k == 10)}).score
        for k in range(11)
    ]
    assert looks == pytest.approx([1.0] * 8 + [0.7, 0.3, 0.5])
    both = NumericalStabilityMonitor({"a": FigureLimits(per_s=0.5, noise=0.5)}, memory=1)
    assert [both.check(float(k), {"a": float(k % 2)}).score for k in range(9)] == pytest.approx(
        [1.0] + [0.5] * 8
    )


def test_a_restore_resets_the_stability_history():
    monitor = NumericalStabilityMonitor({"v": FigureLimits(highest=50.0, per_s=1.0, noise=0.5)})
    for k in range(8):
        monitor.check(float(k), {"v": float(k % 2)})
    assert monitor.check(7.5, {"v": 99.0}).score == pytest.approx(0.3)
    monitor.reset()
    assert monitor.check(8.0, {"v": 0.0}) == Stability(1.0, ())
    assert monitor.check(9.0, {"v": 1.0}) == Stability(1.0, ())
