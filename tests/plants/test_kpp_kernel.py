"""The power plant's equations, steps and events, one by one, against `kpp_by_hand`,
SciPy and figures worked out by hand.
"""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import RK45
from scipy.optimize import brentq
from tests.plants import kpp_by_hand as hand

from headway.plants.kpp import KppSettings, kernel
from headway.plants.kpp.kernel import AIR, S, V, W

GAS, CP, RHO = 287.05, 1004.7, 998.2
# All settings differ, so that none can stand for another; H1 on, so that bubbles and sinking shells
# count.
ODD = KppSettings(
    floaters=4, depth_m=9.0, sprocket_radius_m=0.6, volume_m3=0.3, mass_kg=21.0,
    drag_coefficient=0.8, frontal_area_m2=0.45, added_mass_share=0.35,
    chain_kg=310.0, gear_ratio=9.0, gear_friction_n=120.0, gear_viscous_nspm=77.0,
    flywheel_kgm2=1.7, flywheel_viscous_nms=0.03,
    generator_speed_radps=(5.0, 20.0, 50.0), generator_torque_nm=(1.0, 40.0, 60.0),
    generator_efficiency=0.9, compressor_efficiency=0.65,
    compression_index=1.3, overpressure_pa=15_000.0, air_flow_kgps=2.5, fill=1.2, water_k=291.0,
    heat_rate_ps=0.4, bubble_share=0.1,
    bubble_rise_mps=0.3, shaft_area_m2=1.2, pulse_s=2.5, coast_s=0.75, h1=True,
)  # fmt: skip


def rhs(m, y=None) -> tuple[np.ndarray, float]:
    y = m.y if y is None else y
    dy = np.full(len(y), 7.0)  # what was there before does not matter
    torque = kernel.rhs(y, dy, hand.compiled(m))
    return dy, torque


def some_state(seed: int, full: bool = False):
    """A plant in the middle of things: floaters anywhere, air of any warmth in some,
    clutch open or closed.
    """
    rng = np.random.default_rng(seed)
    m = hand.machine(ODD)
    m.y[S], m.y[V], m.y[W] = rng.uniform(0.0, 50.0), rng.uniform(-1.0, 3.0), rng.uniform(0.0, 60.0)
    for i in range(m.n):
        if rng.random() < 0.6:
            hand.place(m, i, rng.uniform(0.05, 0.6), rng.uniform(250.0, 340.0))
            m.full[i] = float(full and rng.random() < 0.5)
        m.valve[i] = float(not m.full[i] and rng.random() < 0.4)
    m.d[kernel.ENGAGED], m.d[kernel.LOAD] = float(rng.random() < 0.5), rng.random()
    return m


def test_the_generators_torque_is_linear_between_the_points_of_its_curve():
    speeds, torques = np.array([5.0, 20.0, 50.0]), np.array([1.0, 40.0, 60.0])

    def at(speed):
        return kernel.torque_at(speed, speeds, torques)

    assert [at(x) for x in (-3.0, 5.0, 12.5, 20.0, 35.0, 50.0, 80.0)] == [
        *(1.0, 1.0, 20.5, 40.0, 50.0, 60.0, 60.0)
    ]
    assert math.isnan(at(math.nan)), "what is no number is not hidden"
    for speed in np.random.default_rng(1).uniform(0.0, 60.0, 200):
        assert at(speed) == pytest.approx(np.interp(speed, speeds, torques), rel=1e-12)


@pytest.mark.parametrize("seed", range(16))
def test_the_slopes_are_those_of_the_equations_written_a_second_time(seed):
    m = some_state(seed, full=seed % 2 == 1)
    dy, torque = rhs(m)
    expected, carried = hand.slopes(m, m.y)
    assert dy == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert torque == pytest.approx(carried, rel=1e-9, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_no_energy_comes_from_nowhere_at_any_instant(seed, full):
    """What flows in less what flows out is the change of what is stored, along the slopes."""
    m = some_state(seed, full)
    if m.d[kernel.ENGAGED]:
        m.y[W] = m.c.ratio * m.y[V]
    dy, _ = rhs(m)
    rate = dict(zip(hand.LEDGER, dy[3:AIR], strict=True))
    h = 1e-6
    after, before = hand.energy_j(m.c, m.y + h * dy), hand.energy_j(m.c, m.y - h * dy)
    assert [kernel.stored(m.y + h * dy, m.c), kernel.stored(m.y - h * dy, m.c)] == pytest.approx(
        [after, before], rel=1e-12, abs=1e-9
    )
    heights = [hand.height_m(m.c, m.y[S], i) for i in range(m.n) if m.y[AIR + i] > 0 or m.valve[i]]
    if all(
        0.01 < x < m.c.x_out - m.c.x_in for x in heights
    ):  # air is nowhere else, and no floater passes a mark meanwhile
        gained = rate["compressor"] + rate["bubbles"] + rate["heat"]
        lost = sum(
            rate[name] for name in hand.LEDGER if name not in ("compressor", "bubbles", "heat")
        )
        scale = sum(map(abs, rate.values())) + 1.0
        assert (after - before) / (2 * h) == pytest.approx(gained - lost, abs=1e-4 * scale)


def test_a_floater_of_air_lifts_the_chain_by_the_weight_of_its_water():
    """One kilogram at 290 K 2 m above the foot of a plant at rest:
    V = m R T / p, force = rho g V, and the clutch open.
    """
    m = hand.machine(replace(ODD, h1=False))
    m.y[S] = m.c.x_in + 2.0
    hand.place(m, 0, 1.0, 290.0)
    p = 101_325.0 + 998.2 * 9.80665 * (9.0 - 0.6 - 2.0)
    volume = 287.05 * 290.0 / p
    dy, torque = rhs(m)
    assert kernel.pressure(m.y, 0, m.c) == pytest.approx(p, rel=1e-12)
    assert kernel.volume_of(m.y, 0, m.c) == pytest.approx(volume, rel=1e-12)
    assert kernel.volumes(m.y, m.c) == pytest.approx([volume, 0.0, 0.0, 0.0])
    assert kernel.fill(m.y, 0, m.c) == pytest.approx(volume - 0.3, rel=1e-12)
    assert kernel.moved_kg(m.y, m.c) == pytest.approx(
        4 * 21.0 + 1.35 * 0.3 * 998.2 * 4 + 310.0 - 998.2 * volume, rel=1e-12
    )
    heat = 0.4 * (291.0 - 290.0)
    # the water warms the air: it grows by R theta' / p, and at rest that takes no motion along
    assert dy[AIR + m.n] == pytest.approx(heat, rel=1e-9)
    assert dy[kernel.HEAT] == pytest.approx(1004.7 * heat, rel=1e-9)
    assert dy[V] == pytest.approx(998.2 * 9.80665 * volume / kernel.moved_kg(m.y, m.c), rel=1e-12)
    assert (dy[S], dy[W], torque) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("speed", "torque"),
    [(0.0, 1.0), (5.0, 1.0), (12.5, 20.5), (20.0, 40.0), (35.0, 50.0), (50.0, 60.0), (90.0, 60.0)],
)
def test_the_generator_takes_the_torque_of_its_map_times_the_load(speed, torque):
    m = hand.machine(replace(ODD, h1=False))
    m.y[W], m.d[kernel.LOAD] = speed, 0.5
    dy, carried = rhs(m)
    assert carried == pytest.approx(
        0.0, abs=1e-12
    )  # the clutch is open: the generator slows the wheel alone
    assert dy[W] == pytest.approx(-(0.5 * torque + 0.03 * speed) / 1.7, rel=1e-12)
    assert dy[kernel.ELECTRICAL] == pytest.approx(0.9 * 0.5 * torque * speed, rel=1e-12)
    assert dy[kernel.GENERATOR] == pytest.approx(0.1 * 0.5 * torque * speed, rel=1e-12)
    assert dy[kernel.WINDAGE] == pytest.approx(0.03 * speed**2, rel=1e-12)


@pytest.mark.parametrize(
    ("height_m", "share"),
    [
        (0.0, None),
        (-0.9e-9, None),
        (-2e-9, 0.9),
        (3.0, None),
        (7.8, None),
        (8.0, None),
        (9.0, 0.9),
        (15.0, 0.9),
    ],
)
def test_pressure_falls_to_the_head_and_stays_at_nine_tenths_of_it_beyond(height_m, share):
    m = hand.machine(ODD)
    m.y[S] = m.c.x_in + height_m
    at_head = 101_325.0 + 998.2 * 9.80665 * 0.6
    expected = (
        share * at_head if share else 101_325.0 + 998.2 * 9.80665 * (8.4 - max(height_m, 0.0))
    )
    assert kernel.pressure(m.y, 0, m.c) == pytest.approx(expected, rel=1e-7)
    m.y[S] -= m.c.spacing  # the next floater stands there
    assert kernel.pressure(m.y, 1, m.c) == pytest.approx(expected, rel=1e-7)


def test_a_small_amount_of_air_counts_too():
    m = hand.machine(ODD)
    m.y[S] = m.c.x_in
    hand.place(m, 0, 0.001, 290.0)
    assert kernel.volumes(m.y, m.c)[0] == pytest.approx(GAS * 0.29 / m.c.p_in, rel=1e-12)
    assert kernel.stored(m.y, m.c) == pytest.approx(CP * 0.001 * (290.0 - 291.0), rel=1e-9)


def test_what_is_stored_is_motion_of_chain_and_wheel_and_warmth():
    m = hand.machine(ODD)
    m.y[S], m.y[V], m.y[W] = m.c.x_in, 1.5, 8.0
    hand.place(m, 0, 0.2, 300.0)
    volume = GAS * 60.0 / m.c.p_in
    assert kernel.stored(m.y, m.c) == pytest.approx(
        0.5 * (m.c.inertia - RHO * volume) * 2.25 + 0.5 * 1.7 * 64.0 + CP * 0.2 * (300.0 - 291.0),
        rel=1e-12,
    )


def one_step(m, h):
    dy, _ = rhs(m)
    m.k[0] = dy
    return kernel.step(m.y, h, m.k, m.new, hand.compiled(m))


@pytest.mark.parametrize("seed", [4, 8])
def test_a_step_is_one_of_scipys_with_its_error_and_its_interpolant(seed):
    m, h = some_state(seed), 0.01
    torque = one_step(m, h)
    theirs = RK45(
        lambda t, y: hand.slopes(m, y)[0],
        0.0,
        m.y,
        1.0,
        first_step=h,
        max_step=h,
        rtol=1.0,
        atol=1e12,
    )
    theirs.step()
    assert theirs.t == h
    assert m.new == pytest.approx(theirs.y, rel=1e-9, abs=1e-12)
    assert m.k[:7] == pytest.approx(theirs.K, rel=1e-7, abs=1e-9)
    assert torque == pytest.approx(hand.slopes(m, theirs.y)[1], rel=1e-7, abs=1e-9)
    for part in (0.0, 0.3, 0.75, 1.0):
        kernel.within(m.y, m.k, h, part, m.mid)
        assert m.mid == pytest.approx(theirs.dense_output()(part * h), rel=1e-9, abs=1e-12)
        assert [kernel.reach(m.y, m.k, h, S, m.mid[S])] == pytest.approx([part], abs=1e-7)
    e = h * (np.asarray(RK45.E) @ theirs.K)
    rtol, atol = 1e-5, 1e-8
    scale = (
        atol,
        atol + rtol * max(abs(m.y[V]), abs(m.new[V])),
        atol * m.c.ratio + rtol * max(abs(m.y[W]), abs(m.new[W])),
    )
    squares = sum((e[i] / scale[i]) ** 2 for i in range(3)) + sum(
        (e[AIR + m.n :] / ((atol + rtol) * m.c.air * m.c.water)) ** 2
    )
    assert kernel.local_error(m.y, m.new, h, m.k, m.c, rtol, atol) == pytest.approx(
        math.sqrt(squares / (3 + m.n / 2)), rel=1e-5
    )


@pytest.mark.parametrize("at", [S, V, W, AIR + 4, AIR + 7])
@pytest.mark.parametrize("row", range(7))
def test_the_error_of_each_part_is_measured_by_its_own_tolerance(at, row):
    """One slope of 2 in row j makes an error h * 2 * E[j]; the greater of both ends sets the scale;
    places stand for themselves.
    """
    m = hand.machine(ODD)
    m.y[[S, V, W]], m.new[[S, V, W]] = (50.0, -3.0, 8.0), (51.0, 2.0, -9.0)
    m.k[row, at] = 2.0
    scale = {S: 1e-3, V: 1e-3 + 0.1 * 3.0, W: 1e-3 * m.c.ratio + 0.1 * 9.0}.get(
        at, (1e-3 + 0.1) * m.c.air * m.c.water
    )
    error = kernel.local_error(m.y, m.new, 0.5, m.k, m.c, 0.1, 1e-3)
    assert error == pytest.approx(
        abs(0.5 * 2.0 * RK45.E[row]) / scale / math.sqrt(5.0), rel=1e-12, abs=1e-15
    )


@pytest.mark.parametrize("at", [3, AIR - 1, AIR, AIR + 3])
def test_the_ledger_and_the_mass_of_air_make_no_error(at):
    m = hand.machine(ODD)
    m.k[:, at] = np.arange(8.0)
    assert kernel.local_error(m.y, m.new, 0.5, m.k, m.c, 0.1, 1e-3) == 0.0


def slopes_of(coefficients) -> np.ndarray:
    """Seven slopes whose interpolant is c0 x + c1 x^2 + c2 x^3 + c3 x^4
    of the part x of the step.
    """
    return np.linalg.pinv(np.asarray(RK45.P).T) @ np.array(coefficients, float)


@pytest.mark.parametrize(
    ("coefficients", "goal"),
    [
        ((1.0, 0.0, 0.0, 0.0), 0.3),
        ((0.0, 1.0, 0.0, 0.0), 0.04),
        ((0.0, 0.0, 1.0, 0.0), 0.3),
        ((0.0, 0.0, 0.0, 1.0), 0.9),
        ((0.1, 0.2, 0.3, 0.4), 0.5),
        ((3.0, -3.0, 1.0, 0.0), 0.9),  # fast, then slow
        ((0.27, -0.9, 1.0, 0.0), 0.3),  # level at 0.3, on the way
        ((2.0, 0.0, 0.0, -1.2), 0.7),
        ((0.01, 0.0, 0.0, 1.0), 0.001),
    ],
)
def test_a_mark_is_found_where_the_interpolant_reaches_it(coefficients, goal):
    m, h = hand.machine(ODD), 0.25
    m.k[:7, V] = slopes_of(coefficients)
    m.y[V] = 2.0

    def gone(x):
        return sum(c * x ** (i + 1) for i, c in enumerate(coefficients))

    if goal > gone(1.0):
        goal *= gone(1.0)
    expected = brentq(lambda x: gone(x) - goal, 0.0, 1.0, xtol=1e-15)
    assert kernel.reach(m.y, m.k, h, V, 2.0 + h * goal) == pytest.approx(expected, abs=1e-9)
    assert np.allclose(m.y, [0.0, 2.0, *np.zeros(len(m.y) - 2)]), "nothing is moved"


def test_a_mark_is_found_from_a_level_start_though_the_step_ends_below_it():
    """From rest up and down again, 6 x^2 - 7 x^3:
    no slope at the start, from where Newton's method would go anywhere.
    """
    m = hand.machine(ODD)
    m.k[:7, S] = slopes_of((0.0, 6.0, -7.0, 0.0))
    m.k[:7, S] -= m.k[
        0, S
    ]  # the interpolant's slope at the start is the first of the slopes, to the last bit
    m.k[1, S] = 0.0
    p = np.asarray(RK45.P).T @ m.k[:7, S]
    assert p[0] == 0.0
    gone = np.polynomial.Polynomial([0.0, *p])
    part = kernel.reach(m.y, m.k, 1.0, S, 0.3)
    assert 0.0 < part < 1.0
    assert gone(part) == pytest.approx(0.3, abs=1e-9)


def straight(m, h, **rates):
    """A step of length h along which everything goes straight on, at these rates;
    `floater_theta` by floater.
    """
    slope = np.zeros(len(m.y))
    for name, rate in rates.items():
        if name.startswith("theta"):
            slope[AIR + m.n + int(name[5:])] = rate
        else:
            slope[{"s": S, "v": V, "w": W}[name]] = rate
    m.k[:7] = slope
    m.new[:] = m.y + h * slope
    return h


def event(m, h, torque=1.0):
    kind, part, which = kernel.first_event(m.y, h, torque, hand.compiled(m), hand.scratch(m))
    return int(kind), pytest.approx(part, abs=1e-9), int(which)


@pytest.mark.parametrize(
    ("next_in", "next_out", "expected"),
    [
        (10.0, 10.0, ("NONE", 1.0, -1)),
        (0.5, 10.0, ("FOOT", 0.25, 2)),
        (10.0, 0.5, ("HEAD", 0.25, 3)),
        (0.5, 1.5, ("FOOT", 0.25, 2)),
        (1.5, 0.5, ("HEAD", 0.25, 3)),
        (1.0, 1.0, ("FOOT", 0.5, 2)),  # both at once: the foot first, the head at the next look
        (2.0, 10.0, ("FOOT", 1.0, 2)),  # at the very end of the step
        (10.0, 2.0, ("HEAD", 1.0, 3)),
        (2.0, 2.0, ("FOOT", 1.0, 2)),
        (2.001, 2.001, ("NONE", 1.0, -1)),
    ],
)
def test_the_floater_that_comes_to_its_mark_first_comes_first(next_in, next_out, expected):
    m = hand.machine(ODD)
    m.d[[kernel.NEXT_IN, kernel.WHICH_IN, kernel.NEXT_OUT, kernel.WHICH_OUT]] = (
        next_in,
        2,
        next_out,
        3,
    )
    h = straight(m, 0.5, s=4.0)  # 2 m in half a second
    kind, part, which = event(m, h)
    assert (kind, part, which) == (getattr(kernel, expected[0]), expected[1], expected[2])


@pytest.mark.parametrize(
    ("engaged", "may", "wheel", "foot", "expected"),
    [
        (0, 1, 20.0, 10.0, ("ENGAGE", None)),  # the gear starts at 15 rad/s and comes to 30
        (0, 1, 30.0, 10.0, ("ENGAGE", 1.0)),  # caught at the very end
        (0, 1, 30.001, 10.0, ("NONE", 1.0)),
        (0, 0, 20.0, 10.0, ("NONE", 1.0)),  # held open
        (1, 1, 20.0, 10.0, ("NONE", 1.0)),  # is closed
        (0, 1, 20.0, 0.5, ("ENGAGE", None)),  # 0.33 of the step, before the foot at 0.5
        (0, 1, 20.0, 0.25, ("FOOT", 0.25)),
        (0, 1, 10.0, 10.0, ("ENGAGE", 0.0)),  # it is faster from the start
    ],
)
def test_the_clutch_catches_where_the_gear_is_as_fast_as_the_wheel(
    engaged, may, wheel, foot, expected
):
    m = hand.machine(ODD)
    assert m.c.ratio == pytest.approx(15.0)
    m.y[V], m.y[W] = 1.0, wheel
    m.d[[kernel.ENGAGED, kernel.MAY_ENGAGE, kernel.NEXT_IN, kernel.WHICH_IN]] = (
        engaged,
        may,
        foot,
        1,
    )
    assert kernel.slip(m.y, m.c) == pytest.approx(15.0 - wheel)
    h = straight(m, 2.0, v=0.5, s=0.5)
    part = expected[1] if expected[1] is not None else (wheel - 15.0) / 15.0
    assert event(m, h) == (getattr(kernel, expected[0]), part, 1 if expected[0] == "FOOT" else -1)


@pytest.mark.parametrize(
    ("engaged", "said", "foot", "expected"),
    [
        (1, -1.0, 10.0, "OVERRUN"),
        (1, 0.0, 10.0, "NONE"),
        (0, -1.0, 10.0, "NONE"),
        (1, -1.0, 0.1, "FOOT"),
        (1, -1.0, 0.95, "OVERRUN"),
    ],
)
def test_the_clutch_overruns_where_it_would_have_to_hold_the_wheel_back(
    engaged, said, foot, expected
):
    """The chain goes faster and faster against drag, without air:
    on the way the clutch's torque falls through nought.
    """
    m = hand.machine(replace(ODD, h1=False, gear_friction_n=0.0, flywheel_viscous_nms=2.0))
    m.d[[kernel.ENGAGED, kernel.NEXT_IN, kernel.WHICH_IN]] = engaged, foot, 1
    hand.place(m, 0, 0.2, 291.0)
    m.y[[S, V, W]] = 0.0, 0.1, 1.5
    m.d[kernel.NEXT_IN] = foot
    h = straight(m, 1.0, v=1.9, s=1.0)

    def carried(part):
        return hand.slopes(m, m.y + part * (m.new - m.y))[1]

    if engaged:
        assert carried(0.0) > 0.0 > carried(1.0)
        root = brentq(carried, 0.0, 1.0)
        assert 0.1 < root < 0.95
    part = {"OVERRUN": root if engaged else 0.0, "FOOT": foot, "NONE": 1.0}[expected]
    assert event(m, h, torque=said) == (
        getattr(kernel, expected),
        part,
        1 if expected == "FOOT" else -1,
    )


def shells(*grows: float, fill: float = 1.2):
    """Floaters 2 m apart on the way up, at rest, each 1 % short of its full shell;
    each grows by these shares of the shell in the step.
    """
    m = hand.machine(replace(ODD, depth_m=20.0, floaters=8, fill=fill))
    m.c = m.c._replace(spacing=2.0)
    m.y[S] = m.c.x_in + 3.0
    rates = {}
    for i, grow in enumerate(grows):
        theta = m.c.volume * kernel.pressure(m.y, i, m.c) / GAS
        m.y[AIR + m.n + i], m.y[AIR + i] = 0.99 * theta, 0.99 * theta / m.c.water
        rates[f"theta{i}"] = grow * theta
    return m, straight(m, 1.0, **rates)


@pytest.mark.parametrize(
    ("grows", "expected"),
    [
        ((0.02, 0.0, 0.0), ("SHELL", 0.5, 0)),
        ((0.0, 0.0, 0.04), ("SHELL", 0.25, 2)),
        ((0.009, 0.0, 0.0), ("NONE", 1.0, -1)),
        ((0.02, 0.04, 0.0125), ("SHELL", 0.25, 1)),
        ((0.04, 0.02, 0.05), ("SHELL", 0.2, 2)),
    ],
)
def test_a_floater_spills_from_where_its_air_fills_the_shell(grows, expected):
    m, h = shells(*grows)
    assert event(m, h) == (getattr(kernel, expected[0]), expected[1], expected[2])


def test_a_full_shell_is_not_found_full_again_and_an_open_valve_keeps_none_from_being_full():
    m, h = shells(0.02, 0.04, 0.0)
    m.full[1] = 1.0
    assert event(m, h) == (kernel.SHELL, 0.5, 0)
    m.valve[0] = 1.0
    assert event(m, h) == (kernel.SHELL, 0.5, 0)
    m.full[0] = 1.0
    assert event(m, h)[0] == kernel.NONE


@pytest.mark.parametrize(("foot", "expected"), [(0.4, ("FOOT", 0.4, 5)), (0.6, ("SHELL", 0.5, 0))])
def test_a_full_shell_waits_for_what_comes_before_it(foot, expected):
    m, h = shells(0.02)
    m.k[:7, S] = 1e-9  # it creeps: heights stay what they are
    m.new[S] = m.y[S] + 1e-9
    m.d[kernel.NEXT_IN], m.d[kernel.WHICH_IN] = m.y[S] + foot * 1e-9, 5
    kind, part, which = kernel.first_event(m.y, h, 1.0, hand.compiled(m), hand.scratch(m))
    assert (int(kind), int(which)) == (getattr(kernel, expected[0]), expected[2])
    assert part == pytest.approx(expected[1], abs=1e-6)


@pytest.mark.parametrize(("fill", "kind"), [(1.0 + 1e-6, "SHELL"), (1.0, "NONE"), (0.9, "NONE")])
def test_who_takes_no_more_air_than_the_shell_holds_at_the_head_never_spills(fill, kind):
    """Rounding apart, air as warm as the water then fills the shell at the head at most."""
    m, h = shells(0.02, fill=fill)
    assert event(m, h)[0] == getattr(kernel, kind)


def test_air_is_let_into_the_empty_floater_at_the_foot_and_the_one_behind_it_is_next():
    m = hand.machine(ODD)
    for on, kg, which, opens in (
        (1.0, 0.0, 2, 1.0),
        (0.0, 0.0, 2, 0.0),
        (1.0, 0.3, 2, 0.0),
        (1.0, 0.0, 0, 1.0),
    ):
        m.valve[:], m.y[AIR + which] = 0.0, kg
        m.d[[kernel.AIR_ON, kernel.NEXT_IN, kernel.WHICH_IN, kernel.NEXT_OUT, kernel.WHICH_OUT]] = (
            on,
            100.0,
            which,
            50.0,
            1,
        )
        before = m.y.copy()
        kernel.happen(kernel.FOOT, which, m.y, hand.compiled(m))
        assert m.valve.tolist() == [opens if i == which else 0.0 for i in range(4)]
        assert m.d[kernel.NEXT_IN] == 100.0 + m.c.spacing
        assert m.d[kernel.WHICH_IN] == (1 if which == 2 else 3)
        assert (m.d[kernel.NEXT_OUT], m.d[kernel.WHICH_OUT]) == (50.0, 1)
        assert np.array_equal(m.y, before)


def at_head(which=2, engaged=1.0, wheel=None):
    m = hand.machine(ODD)
    m.y[S] = m.c.x_out - which * m.c.spacing
    m.y[V] = 2.0
    m.y[W] = m.c.ratio * 2.0 if wheel is None else wheel
    hand.place(m, which, 0.3, 280.0)
    m.full[which] = m.valve[which] = m.full[1] = m.valve[0] = 1.0
    m.d[[kernel.ENGAGED, kernel.NEXT_OUT, kernel.WHICH_OUT, kernel.NEXT_IN, kernel.WHICH_IN]] = (
        engaged,
        m.y[S],
        which,
        77.0,
        3,
    )
    return m


def test_at_the_head_the_air_leaves_and_water_takes_its_place():
    """Momentum stays while 998.2 V more kilograms are carried along;
    what motion that costs is `intake`; the air's cold is `vented`.
    """
    m = at_head()
    volume = GAS * 0.3 * 280.0 / (101_325.0 + 998.2 * 9.80665 * 0.6)
    light = m.c.inertia - RHO * volume
    after = 2.0 * light / m.c.inertia
    kernel.happen(kernel.HEAD, 2, m.y, hand.compiled(m))
    assert m.y[[AIR + 2, AIR + 6]].tolist() == [0.0, 0.0]
    assert m.y[V] == pytest.approx(after, rel=1e-12)
    assert m.y[W] == m.c.ratio * 2.0
    assert m.y[kernel.VENTED] == pytest.approx(CP * 0.3 * (280.0 - 291.0), rel=1e-12)
    assert m.y[kernel.INTAKE] == pytest.approx(
        0.5 * light * 4.0 - 0.5 * m.c.inertia * after**2, rel=1e-9
    )
    assert m.full.tolist() == [0.0, 1.0, 0.0, 0.0]
    assert m.valve.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert m.d[kernel.ENGAGED] == 0.0, "the chain is slower than the wheel now"
    assert (m.d[kernel.NEXT_OUT], m.d[kernel.WHICH_OUT]) == (
        pytest.approx(m.y[S] + m.c.spacing),
        1.0,
    )
    assert (m.d[kernel.NEXT_IN], m.d[kernel.WHICH_IN]) == (77.0, 3.0)


def test_the_ledger_of_the_head_adds_up_over_several_floaters():
    m = at_head()
    m.y[[kernel.VENTED, kernel.INTAKE]] = 100.0, 200.0
    kernel.happen(kernel.HEAD, 2, m.y, hand.compiled(m))
    fresh = at_head()
    kernel.happen(kernel.HEAD, 2, fresh.y, hand.compiled(fresh))
    assert m.y[[kernel.VENTED, kernel.INTAKE]] == pytest.approx(
        fresh.y[[kernel.VENTED, kernel.INTAKE]] + [100.0, 200.0], rel=1e-12
    )


@pytest.mark.parametrize(("wheel", "closed"), [(29.9, 0.0), (1.0, 1.0)])
def test_a_clutch_stays_closed_at_the_head_only_if_the_chain_is_still_as_fast(wheel, closed):
    m = at_head(wheel=wheel)
    kernel.happen(kernel.HEAD, 2, m.y, hand.compiled(m))
    assert m.d[kernel.ENGAGED] == closed


def test_an_empty_floater_at_the_head_changes_nothing_but_who_is_next():
    m = at_head(which=0)
    hand.place(m, 0, 0.0, 0.0)
    before = m.y.copy()
    kernel.happen(kernel.HEAD, 0, m.y, hand.compiled(m))
    assert np.array_equal(m.y, before)
    assert (m.d[kernel.ENGAGED], m.d[kernel.WHICH_OUT]) == (1.0, 3.0)


def test_a_full_shell_spills_from_then_on_and_takes_no_more_air():
    m = hand.machine(ODD)
    m.valve[:] = 1.0
    before, d = m.y.copy(), m.d.copy()
    kernel.happen(kernel.SHELL, 3, m.y, hand.compiled(m))
    assert m.full.tolist() == [0.0, 0.0, 0.0, 1.0]
    assert m.valve.tolist() == [1.0, 1.0, 1.0, 0.0]
    assert np.array_equal(m.y, before)
    assert np.array_equal(m.d, d)


def test_the_clutch_closes_with_an_impact_and_opens_without():
    m = hand.machine(ODD)
    m.y[[V, W, kernel.CLUTCH]] = 2.0, 12.0, 5.0
    # no air: all of the inertia; the wheel is as heavy as J ratio^2
    kg = m.c.inertia
    wheel_kg = 1.7 * 15.0**2
    v = (kg * 2.0 + wheel_kg * 0.8) / (kg + wheel_kg)
    kernel.happen(kernel.ENGAGE, -1, m.y, hand.compiled(m))
    assert m.y[V] == pytest.approx(v, rel=1e-12)
    assert m.y[W] == pytest.approx(15.0 * v, rel=1e-12)
    assert m.d[kernel.ENGAGED] == 1.0
    lost = 0.5 * kg * wheel_kg / (kg + wheel_kg) * 1.2**2  # of two bodies that go on together
    assert m.y[kernel.CLUTCH] == pytest.approx(5.0 + lost, rel=1e-9)
    kernel.happen(kernel.OVERRUN, -1, m.y, hand.compiled(m))
    assert m.d[kernel.ENGAGED] == 0.0
    assert m.y[V] == pytest.approx(v, rel=1e-12)


def test_air_makes_the_chain_lighter_where_the_clutch_closes():
    m = hand.machine(ODD)
    m.y[[S, V, W]] = m.c.x_in, 2.0, 12.0
    hand.place(m, 0, 0.3, 291.0)
    kg, wheel_kg = m.c.inertia - RHO * GAS * 0.3 * 291.0 / m.c.p_in, 1.7 * 15.0**2
    kernel.engage(m.y, m.d, m.c)
    assert m.y[V] == pytest.approx((kg * 2.0 + wheel_kg * 0.8) / (kg + wheel_kg), rel=1e-12)
    assert m.y[kernel.CLUTCH] == pytest.approx(
        0.5 * kg * wheel_kg / (kg + wheel_kg) * 1.44, rel=1e-9
    )


def test_nothing_takes_place_where_there_is_no_event():
    m = at_head()
    before = [m.y.copy(), m.d.copy(), m.valve.copy(), m.full.copy()]
    kernel.happen(kernel.NONE, 2, m.y, hand.compiled(m))
    assert all(
        np.array_equal(a, b) for a, b in zip(before, (m.y, m.d, m.valve, m.full), strict=True)
    )


@pytest.mark.parametrize(
    ("may", "v", "engaged", "expected"),
    [
        (1.0, 1.0, 1.0, (0.0, 0.0, 10.75)),  # coast: held open for 0.75 s
        (1.0, 1.0, 0.0, (0.0, 0.0, 10.75)),
        (
            0.0,
            1.0,
            0.0,
            (1.0, 1.0, 12.5),
        ),  # pulse: the gear is as fast as the wheel: it catches at once
        (0.0, 2.0, 0.0, (1.0, 1.0, 12.5)),
        (0.0, 0.9, 0.0, (1.0, 0.0, 12.5)),  # the wheel is faster
    ],
)
def test_pulse_and_coast_take_turns(may, v, engaged, expected):
    m = hand.machine(replace(ODD, h3=True))
    m.y[V], m.y[W] = v, m.c.ratio
    m.d[[kernel.MAY_ENGAGE, kernel.ENGAGED]] = may, engaged
    kernel.switch(10.0, m.y, m.d, m.c)
    assert m.d[[kernel.MAY_ENGAGE, kernel.ENGAGED, kernel.SWITCH]].tolist() == list(expected)
    if v == 2.0:
        assert m.y[W] == pytest.approx(m.c.ratio * m.y[V])
        assert m.y[V] < 2.0


def run(m, t, end, rtol=1e-4, atol=1e-6, shortest=0.01, longest=0.1, most=1e6):
    return kernel.run(
        t,
        end,
        m.y,
        hand.compiled(m),
        (rtol, atol, shortest, longest, float(most)),
        m.count,
        hand.scratch(m),
    )


def rising(**changes):
    """One floater with air, 1 m above the foot, the clutch open: 2 s without an event."""
    m = hand.machine(replace(ODD, fill=0.9, **changes))
    m.y[S], m.y[V], m.y[W] = m.c.x_in + 1.0, 0.3, 40.0
    hand.place(m, 0, 0.3, 285.0)
    m.d[kernel.LOAD] = 0.6
    m.count[kernel.STEP], m.count[kernel.ERROR] = 0.02, 1.0
    return m


def test_the_tables_are_those_of_dormand_and_prince():
    """As SciPy has them, to the last bit."""
    names = ("A21", "A31 A32", "A41 A42 A43", "A51 A52 A53 A54", "A61 A62 A63 A64 A65")
    rows = [[getattr(kernel, name) for name in row.split()] for row in names]
    assert rows == [RK45.A[i, :i].tolist() for i in range(1, 6)]
    assert [kernel.B1, 0.0, *(getattr(kernel, f"B{i}") for i in range(3, 7))] == RK45.B.tolist()
    assert [kernel.E1, 0.0, *(getattr(kernel, f"E{i}") for i in range(3, 8))] == RK45.E.tolist()
    assert kernel.P.tolist() == RK45.P.tolist()


def steps_by_hand(m, t, end, rtol, atol, shortest, longest):
    """The control of the step's length written a second time:
    (y, steps, rejected, forced, next step, last error).
    """
    A, B, E = np.asarray(RK45.A), np.asarray(RK45.B), np.asarray(RK45.E)
    y, count = m.y.copy(), SimpleNamespace(steps=0, rejected=0, forced=0)
    h, before = min(max(m.count[kernel.STEP], shortest), longest), m.count[kernel.ERROR]
    while t < end:
        last = t + h >= end - 1e-12  # rounding apart
        trial = end - t if last else h
        K = []
        for row in range(6):
            K.append(
                hand.slopes(
                    m, y + trial * sum((A[row, j] * K[j] for j in range(row)), np.zeros(len(y)))
                )[0]
            )
        new = y + trial * sum(b * k for b, k in zip(B, K, strict=True))
        K.append(hand.slopes(m, new)[0])
        e = trial * sum(x * k for x, k in zip(E, K, strict=True))
        scale = (
            atol,
            atol + rtol * max(abs(y[V]), abs(new[V])),
            atol * m.c.ratio + rtol * max(abs(y[W]), abs(new[W])),
        )
        air = sum((e[AIR + m.n :] / ((atol + rtol) * m.c.air * m.c.water)) ** 2)
        error = math.sqrt((sum((e[i] / scale[i]) ** 2 for i in range(3)) + air) / (3 + m.n / 2))
        if error <= 1.0:
            factor = min(
                max(0.9 * max(error, 1e-10) ** -0.14 * max(before, 1e-4) ** 0.08, 0.2), 5.0
            )
        else:
            factor = min(max(0.9 * error**-0.2, 0.2), 1.0)
        if error > 1.0 and trial > shortest * 1.000001:
            h, count.rejected = max(trial * factor, shortest), count.rejected + 1
            continue
        count.steps, count.forced = count.steps + 1, count.forced + (error > 1.0)
        if not last:
            h, before = min(max(trial * factor, shortest), longest), max(error, 1e-4)
        y, t = new, end if last else t + trial
    return y, count, h, before


@pytest.mark.parametrize(
    ("rtol", "atol", "shortest", "longest", "meets"),
    [
        (1e-4, 1e-6, 0.001, 0.1, {}),
        (1e-7, 1e-9, 0.001, 0.5, {"rejected"}),
        (1e-9, 1e-11, 0.3, 0.5, {"forced"}),
        (1e-9, 1e-11, 0.05, 0.5, {"forced", "rejected"}),
        (1e-10, 1e-12, 0.015, 0.5, {"forced", "rejected"}),
        (1e-2, 1e-2, 0.001, 0.07, {}),
        (1e-6, 1e-6, 0.03, 0.06, {}),
    ],
)
def test_steps_are_as_long_as_their_error_allows_within_the_bounds(
    rtol, atol, shortest, longest, meets
):
    m, end = rising(heat_rate_ps=10.0), 1.0
    m.count[kernel.STEP] = 0.3 if meets else 0.02
    y, count, h, before = steps_by_hand(m, 0.25, end, rtol, atol, shortest, longest)
    assert {name for name in ("rejected", "forced") if getattr(count, name)} == set(meets)
    assert run(m, 0.25, end, rtol, atol, shortest, longest) == end
    assert m.count[[kernel.STEPS, kernel.REJECTED_STEPS, kernel.FORCED]].tolist() == [
        count.steps,
        count.rejected,
        count.forced,
    ]
    assert m.count[kernel.EVENTS] == m.count[kernel.STATUS] == 0
    assert m.count[kernel.STEP] == pytest.approx(h, rel=1e-4)
    assert m.count[kernel.ERROR] == pytest.approx(before, rel=1e-3)
    assert m.y == pytest.approx(y, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("share", "stands"), [(0.99, True), (1.01, False), (1.9, False)])
def test_a_step_of_more_than_its_tolerance_is_tried_again_shorter_unless_it_is_the_shortest(
    share, stands
):
    m = rising(heat_rate_ps=10.0)
    one_step(m, 0.3)
    scale = (
        kernel.local_error(m.y, m.new, 0.3, m.k, m.c, 1e-6, 1e-8) / share
    )  # with tolerances so many times as wide the error is `share`
    for shortest in (0.01, 0.3):
        m = rising(heat_rate_ps=10.0)
        m.count[kernel.STEP] = 0.3
        run(m, 0.0, 1.0, 1e-6 * scale, 1e-8 * scale, shortest, 0.5, 1.0)
        forced = shortest == 0.3 and not stands
        assert m.count[kernel.REJECTED_STEPS] == (0 if stands or forced else 1)
        assert (m.count[kernel.FORCED] > 0) == forced


def test_a_run_goes_on_with_the_step_that_the_last_one_proposed():
    m = rising()
    run(m, 0.0, 0.4)
    first = m.count.copy()
    y, count, h, _ = steps_by_hand(m, 0.4, 0.9, 1e-4, 1e-6, 0.01, 0.1)
    run(m, 0.4, 0.9)
    assert m.count[kernel.STEPS] == first[kernel.STEPS] + count.steps
    assert m.count[kernel.STEP] == pytest.approx(h, rel=1e-4)
    assert m.y == pytest.approx(y, rel=1e-9, abs=1e-9)


def test_a_run_of_no_time_does_nothing():
    m = rising()
    before = m.y.copy()
    m.d[kernel.SWITCH] = 3.0
    assert run(m, 3.0, 3.0) == 3.0
    assert np.array_equal(m.y, before)
    assert m.count.tolist() == [0.0, 0.0, 0.0, 0.0, 1.0, 0.02, 0.0]
    assert m.d[kernel.SWITCH] == 3.0


def test_a_state_that_is_no_number_is_not_run():
    m = rising()
    m.y[AIR + 2] = math.nan
    m.count[kernel.STATUS] = 0.0
    assert run(m, 1.0, 2.0) == 1.0
    assert m.count[kernel.STATUS] == 1.0
    assert m.count[kernel.STEPS] == 0


def test_trouble_of_before_is_forgotten_by_a_sound_run():
    m = rising()
    m.count[kernel.STATUS] = 1.0
    assert run(m, 1.0, 1.01) == 1.01
    assert m.count[kernel.STATUS] == 0.0


def test_a_step_that_gives_no_number_is_not_taken():
    m = rising()
    m.c = m.c._replace(windage=math.nan)  # the wheel's speed alone
    before = m.y.copy()
    assert run(m, 1.0, 2.0) == 1.0
    assert m.count[kernel.STATUS] == 1.0
    assert np.array_equal(m.y, before)


def test_more_steps_than_are_allowed_end_the_run_with_the_last_that_stands():
    m, short = rising(), rising()
    m.count[[kernel.STEPS, kernel.REJECTED_STEPS]] = 10.0, 20.0  # of runs before
    assert run(m, 0.0, 1.0, shortest=0.05, longest=0.05, most=3) == pytest.approx(0.15)
    assert m.count[kernel.STATUS] == 2.0
    run(short, 0.0, 0.15, shortest=0.05, longest=0.05, most=3)
    assert short.count[kernel.STATUS] == 0.0
    assert short.count[kernel.STEPS] == 3
    assert m.y == pytest.approx(short.y, rel=1e-12)


def test_rejected_steps_count_among_those_that_are_allowed():
    m = rising()
    m.count[kernel.STEP] = 0.5
    end = run(m, 0.0, 1.0, rtol=1e-9, atol=1e-11, shortest=1e-4, longest=0.5, most=2)
    assert m.count[kernel.STATUS] == 2.0
    assert m.count[kernel.REJECTED_STEPS] >= 2
    assert end == 0.0


@pytest.mark.parametrize("end", [0.3, 0.5])
def test_a_valve_closes_when_the_floater_has_its_air_to_the_last_gram(end):
    m = rising()
    m.y[AIR : AIR + 4], m.y[AIR + 4 :] = 0.0, 0.0
    m.y[S] = m.c.x_in + 0.1
    m.y[V] = 0.0
    m.valve[[0, 3]] = 1.0  # two at once, the other one on the far side; it has more already
    m.c = m.c._replace(flow=m.c.air / 0.4)
    hand.place(m, 3, 0.5 * m.c.air, 291.0)
    assert run(m, 0.0, end) == end
    if end == 0.3:  # 3 has its air since 0.2 s, 0 has three quarters of it
        assert m.y[AIR + 3] == m.c.air
        assert m.y[AIR] == pytest.approx(0.75 * m.c.air, rel=1e-9)
        assert m.valve.tolist() == [1.0, 0.0, 0.0, 0.0]
        assert m.count[kernel.EVENTS] == 1
    else:
        assert m.y[[AIR, AIR + 3]].tolist() == [m.c.air, m.c.air]
        assert m.valve.tolist() == [0.0] * 4
        assert m.count[kernel.EVENTS] == 2
    assert m.y[kernel.COMPRESSOR] == pytest.approx(
        m.c.compression * m.c.air * (1.25 if end == 0.3 else 1.5), rel=1e-9
    )


@pytest.mark.parametrize("more", [0.0, 0.01])
def test_a_valve_whose_floater_has_its_air_already_closes_before_any_step(more):
    m, same = rising(), rising()
    for x in (m, same):
        hand.place(x, 0, x.c.air, 285.0)
    m.y[AIR] += more
    m.valve[0] = 1.0
    assert run(m, 0.0, 0.3) == 0.3
    run(same, 0.0, 0.3)
    assert m.valve[0] == 0.0
    assert (m.count[kernel.EVENTS], m.count[kernel.STEPS]) == (1, same.count[kernel.STEPS])
    assert m.y == pytest.approx(same.y, rel=1e-12)


def test_the_clutch_is_let_go_and_held_open_at_the_second():
    m = rising(h3=True)
    m.d[[kernel.MAY_ENGAGE, kernel.SWITCH]] = 1.0, 0.5
    run(m, 0.0, 0.5 - 1e-6)
    assert m.d[kernel.MAY_ENGAGE] == 1.0
    run(m, 0.5 - 1e-6, 0.5)
    assert (m.d[kernel.MAY_ENGAGE], m.d[kernel.SWITCH]) == (0.0, 1.25)
    run(m, 0.5, 1.3)
    assert (m.d[kernel.MAY_ENGAGE], m.d[kernel.SWITCH]) == (1.0, 1.25 + 2.5)
    assert m.count[kernel.EVENTS] == 2


def drive(m, until, t=0.0, **bounds):
    assert (
        run(
            m,
            t,
            until,
            **({"rtol": 1e-8, "atol": 1e-10, "shortest": 1e-6, "longest": 0.05} | bounds),
        )
        == until
    )


SMALL = KppSettings(
    floaters=6, depth_m=6.0, sprocket_radius_m=0.4, volume_m3=0.2, chain_kg=60.0,
    gear_friction_n=20.0, gear_viscous_nspm=20.0, gear_ratio=8.0,
    flywheel_kgm2=0.5, air_flow_kgps=0.8, heat_rate_ps=0.5,
    generator_speed_radps=(0.0, 10.0, 30.0, 60.0),
    generator_torque_nm=(0.0, 0.0, 20.0, 25.0),
)  # fmt: skip


def going(settings, height_m=1.0, v=1.5, engaged=1.0):
    """The plant on its way at speed v: floaters between the marks have their air,
    the next ones are known.
    """
    m = hand.machine(settings)
    c = m.c
    m.y[S], m.y[V], m.y[W] = c.x_in + height_m, v, c.ratio * v
    x = [hand.height_m(c, m.y[S], i) for i in range(m.n)]
    way = c.x_out - c.x_in
    for i in range(m.n):
        if x[i] < way:
            hand.place(
                m,
                i,
                min(c.air, 0.99 * (c.p_in - c.weight * x[i]) * c.volume / (GAS * 288.15)),
                285.0,
            )
    to_foot = min((c.loop - h, i) for i, h in enumerate(x))
    to_head = min((way - h, i) for i, h in enumerate(x) if h < way)
    m.d[[kernel.NEXT_IN, kernel.WHICH_IN]] = m.y[S] + to_foot[0], to_foot[1]
    m.d[[kernel.NEXT_OUT, kernel.WHICH_OUT]] = m.y[S] + to_head[0], to_head[1]
    m.d[[kernel.ENGAGED, kernel.MAY_ENGAGE, kernel.LOAD, kernel.AIR_ON]] = engaged, 1.0, 1.0, 1.0
    m.count[kernel.STEP], m.count[kernel.ERROR] = 1e-3, 1.0
    return m


@pytest.mark.parametrize(
    ("changes", "until", "meets"),
    [
        ({}, 1.6, {"foot", "head", "closed", "engaged"}),
        ({"h1": True, "h2": True, "air_flow_kgps": 0.3}, 1.6, {"foot", "head", "closed"}),
        (
            {"h3": True, "pulse_s": 0.5, "coast_s": 0.3},
            1.6,
            {"foot", "head", "closed", "pulse", "coast"},
        ),
        ({"fill": 1.3, "h2": True}, 1.6, {"foot", "head", "closed", "shell"}),
        ({"fill": 2.0, "h2": True, "air_flow_kgps": 0.3}, 1.6, {"foot", "head", "shell"}),
    ],
)
def test_a_plant_runs_through_its_events_as_scipy_says(changes, until, meets):
    settings = replace(SMALL, **changes)
    ours, theirs = going(settings), going(settings)
    if settings.h3:
        ours.d[kernel.SWITCH] = theirs.d[kernel.SWITCH] = 0.2
    met = hand.simulate(theirs, until)
    assert meets <= {kind for kind, times in met.items() if times}
    drive(ours, until)
    assert ours.count[kernel.EVENTS] == sum(met.values())
    assert ours.y == pytest.approx(theirs.y, rel=1e-5, abs=1e-4)
    assert ours.d == pytest.approx(theirs.d, rel=1e-12)
    assert (ours.valve.tolist(), ours.full.tolist()) == (
        theirs.valve.tolist(),
        theirs.full.tolist(),
    )


def test_air_that_cools_lets_the_clutch_overrun_as_scipy_says():
    """Hot air drives at first; the water cools it, the chain loses its lift, and the wheel,
    with no load on it, goes on by itself.
    """
    ours, theirs = (
        going(replace(SMALL, heat_rate_ps=4.0, gear_viscous_nspm=1500.0), height_m=0.3, v=0.3)
        for _ in range(2)
    )
    for m in (ours, theirs):
        m.y[AIR:] = 0.0
        hand.place(m, 0, 0.1, 900.0)
        m.d[kernel.LOAD] = 0.0
        m.d[[kernel.NEXT_IN, kernel.NEXT_OUT]] = 1e9
    assert hand.slopes(ours, ours.y)[1] > 0.0
    met = hand.simulate(theirs, 1.0)
    assert (met["overrun"], sum(met.values())) == (1, 1)
    drive(ours, 1.0)
    assert ours.count[kernel.EVENTS] == 1
    assert ours.d[kernel.ENGAGED] == 0.0
    assert ours.y == pytest.approx(theirs.y, rel=1e-5, abs=1e-4)
    assert kernel.slip(ours.y, ours.c) < 0.0


def test_no_floater_ever_holds_more_than_its_shell():
    m = going(replace(SMALL, fill=2.0, h2=True, air_flow_kgps=0.3))
    for step in range(20):
        drive(m, 0.1 * (step + 1), 0.1 * step)
        assert kernel.volumes(m.y, m.c).max() <= SMALL.volume_m3 * (1 + 1e-6)
    assert m.full.any()
