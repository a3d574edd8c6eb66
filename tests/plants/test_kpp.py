"""The power plant against closed forms, against SciPy on the same equations, and against the first law."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from headway.plants import PlantError
from headway.plants.kpp import KppOrder, KppPlant, KppSettings, kernel
from headway.plants.kpp.kernel import AIR, S, V, W
from headway.plants.kpp.settings import GAS_J_KGK, GRAVITY_MPS2, HEAT_CAPACITY_J_KGK, WATER_KGPM3, compression_work_j_kg
from headway.runtime import StepBounds

FINE = StepBounds(1e-6, 0.05, 1e-8, 1e-10)
BARE = KppSettings(
    gear_friction_n=0.0, gear_viscous_nspm=0.0, flywheel_viscous_nms=0.0, generator_torque_nm=(0.0,) * 5, heat_rate_ps=0.0, prefilled=False
)


def with_air(plant, floater, kg, kelvin):
    """Put air into one floater by hand; the ledger starts from there."""
    n = plant.settings.floaters
    plant._y[AIR + floater], plant._y[AIR + n + floater] = kg, kg * kelvin
    plant._begun_j = float(kernel.stored(plant._y, plant._c))


def placed(settings, height_m):
    """A plant whose floater 0 stands `height_m` above the foot of the straight way up."""
    plant = KppPlant(settings, FINE)
    at = plant._c.x_in + height_m
    plant._y[S] = at
    plant._d[kernel.NEXT_IN] = plant._d[kernel.NEXT_OUT] = 1e9
    return plant


@pytest.mark.parametrize(("h1", "h2", "h3", "fill"), [*product((False, True), (False, True), (False, True), (1.0,)), (False, True, False, 1.6)])
def test_the_ledger_closes_and_no_mode_gives_more_than_it_takes(h1, h2, h3, fill):
    plant = KppPlant(KppSettings(h1=h1, h2=h2, h3=h3, fill=fill))
    for _ in range(12):
        plant.advance(10.0)
        assert plant.observe().ledger_residual < 1e-3
    m = plant.observe()
    assert m.ledger_residual < 1e-5
    assert 0.0 < m.efficiency < 1.0
    first, done = m.energy_j, 60.0
    plant.advance(done)
    second = plant.observe().energy_j
    cycle = {k: second[k] - first[k] for k in first}
    assert cycle["electrical"] < cycle["compressor"] + cycle["bubbles"]
    assert min(cycle[k] for k in ("electrical", "generator", "drag", "gear", "windage", "expelled", "intake", "clutch", "rejected")) >= -1e-3


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 60).map(lambda n: 2 * n), st.floats(4.0, 40.0), st.floats(0.05, 1.0), st.floats(0.3, 1.9), st.floats(0.0, 5.0), st.floats(0.2, 2.0)
)
def test_the_ledger_closes_for_plants_of_all_sizes(floaters, depth, volume, fill, heat, drag):
    plant = KppPlant(KppSettings(floaters=floaters, depth_m=depth, volume_m3=volume, fill=fill, heat_rate_ps=heat, drag_coefficient=drag))
    plant.advance(30.0)
    m = plant.observe()
    assert m.ledger_residual < 1e-3
    assert m.efficiency < 1.0
    assert np.isfinite(m.v_chain)


def test_one_floater_in_deep_water_comes_to_the_speed_at_which_drag_is_its_buoyancy():
    settings = replace(BARE, depth_m=400.0, floaters=2, chain_kg=0.0, heat_rate_ps=50.0, drag_coefficient=20.0)
    plant = placed(settings, 150.0)
    with_air(plant, 0, 0.5, settings.water_k)
    plant._d[kernel.ENGAGED] = plant._d[kernel.MAY_ENGAGE] = 0.0  # the chain alone
    for _ in range(12):
        plant.advance(1.0)
    m = plant.observe()
    buoyancy = WATER_KGPM3 * GRAVITY_MPS2 * m.volume_m3[0]
    drag = 2 * 0.5 * WATER_KGPM3 * settings.drag_coefficient * settings.frontal_area_m2  # both floaters move
    assert m.v_chain == pytest.approx(np.sqrt(buoyancy / drag), rel=0.002)


@pytest.mark.parametrize("rate", [0.0, 1e3])
def test_air_that_rises_does_the_work_of_adiabatic_and_of_isothermal_expansion(rate):
    settings = replace(BARE, floaters=2, volume_m3=5.0, heat_rate_ps=rate)
    plant = placed(settings, 0.0)
    kg, kelvin = 0.5, settings.water_k
    with_air(plant, 0, kg, kelvin)
    plant._y[V] = 0.5
    before = plant._y.copy()
    while plant._y[S] - plant._c.x_in < 8.0:
        plant.advance(0.1)
    moved = plant._y[S] - plant._c.x_in
    p1, p2 = settings.pressure_in_pa, settings.pressure_in_pa - WATER_KGPM3 * GRAVITY_MPS2 * moved
    e, e0 = plant._y, before
    theta = e[AIR + 2]
    work = e[kernel.HEAT] - e0[kernel.HEAT] - HEAT_CAPACITY_J_KGK * (theta - kg * kelvin)  # first law of what rose
    if rate:
        assert work == pytest.approx(kg * GAS_J_KGK * kelvin * np.log(p1 / p2), rel=2e-3)
        assert theta / kg == pytest.approx(kelvin, rel=1e-3)
    else:
        colder = kelvin * (p2 / p1) ** (GAS_J_KGK / HEAT_CAPACITY_J_KGK)
        assert theta / kg == pytest.approx(colder, rel=1e-6)
        assert work == pytest.approx(kg * HEAT_CAPACITY_J_KGK * (kelvin - colder), rel=1e-5)


def test_compression_is_dearest_without_cooling_and_cheapest_at_constant_temperature():
    ratio, kelvin = 2.2, 288.15
    works = [compression_work_j_kg(ratio, n, kelvin) for n in (1.0, 1.2, 1.4)]
    assert works == sorted(works)
    assert works[0] == pytest.approx(GAS_J_KGK * kelvin * np.log(ratio))
    assert works[2] == pytest.approx(1.4 / 0.4 * GAS_J_KGK * kelvin * (ratio ** (0.4 / 1.4) - 1.0))
    assert compression_work_j_kg(ratio, 1.0 + 1e-7, kelvin) == pytest.approx(works[0], rel=1e-6)


def test_the_flywheel_alone_runs_down_exponentially():
    settings = replace(BARE, flywheel_viscous_nms=0.05, generator_torque_nm=(0.0,) * 5)
    plant = KppPlant(settings, FINE)
    plant._y[W] = 100.0
    plant._d[kernel.ENGAGED] = 0.0
    plant._begun_j = float(kernel.stored(plant._y, plant._c))
    plant.apply(KppOrder(load=0.0, air=False))
    plant.advance(20.0)
    m = plant.observe()
    assert m.flywheel_radps == pytest.approx(100.0 * np.exp(-0.05 * 20.0 / settings.flywheel_kgm2), rel=1e-7)
    assert m.energy_j["windage"] == pytest.approx(0.5 * settings.flywheel_kgm2 * (100.0**2 - m.flywheel_radps**2), rel=1e-6)


def test_what_vents_slows_the_chain_by_the_water_that_it_takes_in():
    plant = KppPlant(KppSettings(), FINE)
    plant.advance(5.0)
    y, c, d = plant._y.copy(), plant._c, plant._d.copy()
    which = int(np.argmax(np.where(kernel.volumes(y, c) > 0, (y[S] + np.arange(c.n) * c.spacing - c.x_in) % c.loop, -1)))
    y[S] += c.x_out - c.x_in - (y[S] + which * c.spacing - c.x_in) % c.loop  # it stands at the head now
    inertia, before = c.inertia - WATER_KGPM3 * kernel.volumes(y, c).sum(), y[V]
    kernel.happen(kernel.HEAD, which, y, d, plant._valve.copy(), plant._full.copy(), c)
    after = c.inertia - WATER_KGPM3 * kernel.volumes(y, c).sum()
    assert after > inertia
    assert inertia * before == pytest.approx(after * y[V], rel=1e-9)


def test_the_steps_agree_with_scipy_on_the_same_equations():
    plant = KppPlant(KppSettings(h2=True), StepBounds(1e-9, 0.02, 1e-11, 1e-13))
    plant.advance(3.0)
    t, most = plant.time_s, 0.0
    while most < 0.02:  # a stretch without events
        plant.advance(1e-3)
        c = plant._c
        most = min(plant._d[kernel.NEXT_IN], plant._d[kernel.NEXT_OUT]) - plant._y[S] if not plant._valve.any() and plant._d[kernel.ENGAGED] else 0.0
    y0, d, valve, full = plant._y.copy(), plant._d.copy(), plant._valve.copy(), plant._full.copy()
    span = 0.8 * most / max(y0[V], 0.1)

    def slope(t, y):
        out = np.zeros_like(y)
        kernel.rhs(y, out, d, valve, full, c, plant._speeds, plant._torques)
        return out

    theirs = solve_ivp(slope, (0.0, span), y0, method="DOP853", rtol=1e-10, atol=1e-10).y[:, -1]
    plant.advance(span)
    assert plant._y[[S, V, W]] == pytest.approx(theirs[[S, V, W]], rel=1e-9)
    assert plant._y[AIR:] == pytest.approx(theirs[AIR:], rel=1e-8, abs=1e-9)
    assert plant.time_s > t


def test_the_same_plant_by_coarse_and_by_fine_steps_goes_the_same_way():
    coarse, fine = KppPlant(KppSettings(h3=True)), KppPlant(KppSettings(h3=True), FINE)
    coarse.advance(30.0)
    fine.advance(30.0)
    assert coarse.observe().v_chain == pytest.approx(fine.observe().v_chain, rel=2e-3)
    assert coarse.observe().energy_j["electrical"] == pytest.approx(fine.observe().energy_j["electrical"], rel=2e-3)


def test_events_are_met_not_stepped_over():
    plant = KppPlant(KppSettings(), FINE)
    plant.advance(20.0)
    c, y = plant._c, plant._y
    x = (y[S] + np.arange(c.n) * c.spacing - c.x_in) % c.loop
    volumes = kernel.volumes(y, c)
    assert (volumes[(x > c.x_out - c.x_in + 1e-6)] == 0).all()
    up = (x > 1.0) & (x < c.x_out - c.x_in - 1e-6)
    assert y[AIR : AIR + c.n][up] == pytest.approx(c.air, abs=1e-12)


def test_a_checkpoint_gives_the_same_future_and_another_plant_refuses_it(tmp_path):
    one, other = KppPlant(KppSettings()), KppPlant(KppSettings())
    one.advance(7.0)
    one.checkpoint(tmp_path / "a.npz")
    other.restore(tmp_path / "a.npz")
    one.advance(5.0)
    other.advance(5.0)
    assert np.array_equal(one._y, other._y)
    with pytest.raises(PlantError, match="other settings"):
        KppPlant(KppSettings(h1=True)).restore(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"no")
    with pytest.raises(PlantError, match="no checkpoint"):
        other.restore(tmp_path / "b.npz")


def test_a_state_that_is_no_number_is_told_and_the_time_stays():
    plant = KppPlant(KppSettings())
    plant.advance(1.0)
    plant._y[V] = np.nan
    with pytest.raises(PlantError, match="no number"):
        plant.advance(1.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"floaters": 65}, "even"),
        ({"floaters": 0}, "even"),
        ({"volume_m3": -0.4}, "volume_m3"),
        ({"depth_m": float("nan")}, "depth_m"),
        ({"compression_index": 1.7}, "compression_index"),
        ({"sprocket_radius_m": 6.0}, "straight"),
        ({"generator_speed_radps": (0.0, 0.0)}, "rising"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_runs(change, said):
    with pytest.raises(ValueError, match=said):
        KppSettings(**change)
    with pytest.raises(ValueError, match="load"):
        KppOrder(load=1.5)
