"""Step sizes, batches and floors of the adaptive stepper, each figure worked out beside it."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, astuple

import pytest

from headway.runtime import AdaptiveTimestepper, StepBounds
from headway.runtime.timestep import pi_factor

BOUNDS = StepBounds(0.5, 2.0, 1e-4, 1e-6)


@pytest.mark.parametrize(
    ("error", "before", "order", "factor"),
    [
        (1.0, 1.0, 5.0, 0.9),
        (0.5, 1.0, 5.0, 0.9 * 2.0**0.14),  # error^(-0.7/5)
        (0.5, 0.25, 5.0, 0.9 * 2.0**0.14 * 0.25**0.08),  # before^(0.4/5)
        (1.0, 0.25, 5.0, 0.9 * 0.25**0.08),  # an error of just the tolerance is a good one
        (
            1.0,
            256.0,
            4.0,
            0.9 * 256.0**0.1,
        ),  # and may still be followed by a longer step: 0.9 x 1.74
        (0.25, 1.0, 2.0, 0.9 * 4.0**0.35),
        (2.0, 1.0, 5.0, 0.9 * 2.0**-0.2),  # error^(-1/5), whatever was before
        (2.0, 1e-4, 5.0, 0.9 * 2.0**-0.2),
        (32.0, 1.0, 5.0, 0.45),
        (1e9, 1.0, 5.0, 0.2),
        (1e-9, 1.0, 2.0, 5.0),
        (0.0, 1.0, 100.0, 0.9 * 1e10**0.007),  # no error at all counts as 1e-10
        (0.5, 1e-9, 4.0, 0.9 * 2.0**0.175 * 1e-4**0.1),  # and the one before as 1e-4 at least
    ],
)
def test_the_factor_of_the_next_step(error, before, order, factor):
    assert pi_factor(error, before, order) == pytest.approx(factor, rel=1e-12)


ORDER = {"rtol": 14, "atol": 16}  # of the least tolerance


def test_default_bounds_of_steps_and_invalid_ones():
    assert astuple(StepBounds()) == (0.05, 0.2, 1e-4, 1e-6)
    for name in ("shortest_s", "longest_s", "rtol", "atol"):
        least, most = ("1e-06", "3600") if name.endswith("_s") else (f"1e-{ORDER[name]}", "1")
        for bad in (0.0, -0.5, math.inf, math.nan, "1", None, 1e-300, 5e-324, 1e-17, 1e300):
            said = f"^{name}: {bad!r} is not allowed: a number from {least} to {most}\\."
            with pytest.raises(ValueError, match=said.replace("+", r"\+")):
                StepBounds(
                    **{"shortest_s": 0.1, "longest_s": 0.2, "rtol": 1.0, "atol": 1.0, name: bad}
                )
        assert (
            astuple(
                StepBounds(
                    **{"shortest_s": 0.5, "longest_s": 0.5, "rtol": 0.5, "atol": 0.5, name: 0.5}
                )
            )
            == (0.5,) * 4
        )
    assert StepBounds(1, 2).longest_s == 2
    with pytest.raises(ValueError, match=r"shortest_s: 0\.3 is above longest_s: 0\.2"):
        StepBounds(0.3, 0.2)
    with pytest.raises(FrozenInstanceError):
        BOUNDS.rtol = 1.0


def test_a_stepper_begins_with_its_shortest_step_and_single_ticks():
    stepper = AdaptiveTimestepper(BOUNDS)
    assert (stepper.step_s, stepper.floor_s, stepper.batch) == (0.5, 0.5, 1)
    assert (stepper.accepted, stepper.rejected, stepper.forced) == (0, 0, 0)
    assert stepper.bounds is BOUNDS


def test_steps_follow_the_errors_of_this_step_and_of_the_last_good_one():
    stepper = AdaptiveTimestepper(StepBounds(1e-3, 1e3))
    stepper.step_s = 1.0
    assert stepper.accept(0.25)
    step_s = 0.9 * 0.25**-0.14  # the error before counts as 1 at the start
    assert stepper.step_s == pytest.approx(step_s)
    assert not stepper.accept(2.0)
    step_s *= 0.9 * 2.0**-0.2
    assert stepper.step_s == pytest.approx(step_s)
    assert stepper.accept(0.5)
    step_s *= (
        0.9 * 0.5**-0.14 * 0.25**0.08
    )  # the good one before was 0.25; the bad one does not count
    assert stepper.step_s == pytest.approx(step_s)
    assert stepper.accept(1.0)
    assert stepper.step_s == pytest.approx(step_s * 0.9 * 0.5**0.08)
    assert (stepper.accepted, stepper.rejected, stepper.forced) == (3, 1, 0)


def test_the_order_of_the_method_is_the_root_of_the_error():
    stepper = AdaptiveTimestepper(StepBounds(1e-3, 1e3), order=2.0)
    stepper.step_s = 1.0
    assert not stepper.accept(4.0)
    assert stepper.step_s == pytest.approx(0.45)


def test_at_the_lower_bound_every_finite_error_is_accepted_and_counted():
    for step_s, stands in (
        (0.5, True),
        (0.5 * (1.0 + 1e-9), True),
        (0.5 * (1.0 + 2e-9), False),
        (0.75, False),
    ):
        stepper = AdaptiveTimestepper(BOUNDS)
        stepper.step_s = step_s
        assert stepper.accept(3.0) is stands
        assert (stepper.accepted, stepper.rejected, stepper.forced) == (
            (1, 0, 1) if stands else (0, 1, 0)
        )
        assert stepper.step_s >= 0.5
    stepper = AdaptiveTimestepper(BOUNDS)
    assert stepper.accept(1.0)
    assert stepper.forced == 0
    assert AdaptiveTimestepper(BOUNDS).accept(1e300)


def test_a_step_never_leaves_its_bounds():
    stepper = AdaptiveTimestepper(BOUNDS)
    for _ in range(9):
        stepper.accept(1e-9)
    assert stepper.step_s == 2.0
    for _ in range(9):
        stepper.accept(1e9)
    assert stepper.step_s == 0.5


@pytest.mark.parametrize("error", [math.nan, math.inf, -math.inf])
def test_an_error_that_is_not_finite_is_raised_with_the_step(error):
    stepper = AdaptiveTimestepper(BOUNDS)
    with pytest.raises(ArithmeticError, match=rf"a step of 0\.5 s is {error}: the state is lost"):
        stepper.accept(error)
    assert (stepper.accepted, stepper.rejected) == (0, 0)


@pytest.mark.parametrize(
    ("pressure", "floor_s"),
    [
        (1.0, 1.25),
        (0.9375, 1.25),
        (0.9, 1.0),
        (0.75, 1.0),
        (0.6, 1.0),
        (0.5, 1.0 / 1.1),
        (0.0, 1.0 / 1.1),
        (7.0, 1.25),
    ],
)
def test_the_floor_rises_above_nine_tenths_and_sinks_below_six(pressure, floor_s):
    stepper = AdaptiveTimestepper(StepBounds(0.8, 1.6))
    stepper.adapt_to_load(1.0, 1.0)
    assert stepper.floor_s == 1.0
    assert stepper.adapt_to_load(pressure * 10.0, 10.0) == pressure
    assert stepper.floor_s == pytest.approx(floor_s, rel=1e-12)


def test_the_floor_ends_at_its_bounds_and_does_not_rise_without_real_time():
    stepper = AdaptiveTimestepper(BOUNDS)
    stepper.adapt_to_load(1.0, 1.0, on_time=False)
    assert stepper.floor_s == 0.5
    for _ in range(7):
        stepper.adapt_to_load(1.0, 1.0)
    assert stepper.floor_s == 2.0  # 0.5 x 1.25^7 = 2.38
    stepper.adapt_to_load(0.1, 1.0, on_time=False)
    assert stepper.floor_s == 2.0 / 1.1
    for _ in range(15):
        stepper.adapt_to_load(0.1, 1.0)
    assert stepper.floor_s == 0.5


def test_after_a_fault_steps_are_a_quarter_as_short_and_grow_back_whatever_the_pressure():
    stepper = AdaptiveTimestepper(BOUNDS)
    for _ in range(5):
        stepper.adapt_to_load(0.1, 1.0)
    assert stepper.batch == 32
    stepper.refine()
    assert (stepper.floor_s, stepper.step_s, stepper.batch) == (0.125, 0.125, 1)
    for k in range(1, 15):
        stepper.adapt_to_load(5.0, 1.0)
        assert stepper.floor_s == pytest.approx(0.125 * 1.1**k)  # 1.1^14 = 3.80
    stepper.adapt_to_load(0.75, 1.0)
    assert stepper.floor_s == 0.5  # 1.1^15 = 4.18 is above 4: the bound
    stepper.adapt_to_load(0.75, 1.0)
    assert stepper.floor_s == 0.5
    stepper.adapt_to_load(1.0, 1.0)
    assert stepper.floor_s == 0.625


def test_without_granted_time_the_pressure_is_unbounded():
    stepper = AdaptiveTimestepper(BOUNDS)
    assert stepper.adapt_to_load(0.1, 0.0) == math.inf
    assert stepper.adapt_to_load(0.1, 0.5) == 0.2


@pytest.mark.parametrize(
    ("batch", "pressure", "then"),
    [
        (8, 0.5, 8), (8, 0.25, 16), (8, 0.01, 16), (8, 0.0, 16), (10, 0.625, 8), (8, 1.0, 4),
        (8, 2.0, 2), (8, 64.0, 2),
        (3, 1.0, 1), (1, 9.0, 1), (600, 0.25, 1000), (1000, 0.4, 1000),
    ],
)  # fmt: skip
def test_a_batch_fills_half_of_the_granted_time_between_a_quarter_and_twice_the_last(
    batch, pressure, then
):
    stepper = AdaptiveTimestepper(BOUNDS, largest_batch=1000)
    stepper.batch = batch
    stepper.adapt_to_load(pressure, 1.0)
    assert stepper.batch == then


def test_a_batch_has_a_million_ticks_at_most():
    stepper = AdaptiveTimestepper(BOUNDS)
    for _ in range(25):
        stepper.adapt_to_load(0.0, 1.0)
    assert stepper.batch == 1_000_000
