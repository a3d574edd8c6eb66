"""The power plant over minutes: against closed forms and against the first law.
Its parts: test_kpp_settings, _kernel, _plant.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.plants.kpp import KppOrder, KppPlant, KppSettings, kernel
from headway.plants.kpp.kernel import AIR, S, V, W
from headway.plants.kpp.settings import (
    GAS_J_KGK,
    GRAVITY_MPS2,
    HEAT_CAPACITY_J_KGK,
    WATER_KGPM3,
    compression_work_j_kg,
)
from headway.runtime import StepBounds

pytestmark = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="minutes of 66 floaters are for the compiled code"
)
FINE = StepBounds(1e-6, 0.05, 1e-8, 1e-10)
BARE = KppSettings(
    gear_friction_n=0.0,
    gear_viscous_nspm=0.0,
    flywheel_viscous_nms=0.0,
    generator_torque_nm=(0.0,) * 5,
    heat_rate_ps=0.0,
    prefilled=False,
)


def begun(settings, height_m=None, air=(), v=0.0, w=0.0, engaged=True):
    """A plant set to begin by hand: floater 0 at `height_m` above the foot, past all marks; air:
    (floater, kg, K); the ledger starts from there.
    """
    plant = KppPlant(settings, FINE)
    state, c, n = plant.state(), settings.constants(), settings.floaters
    y, d = state["_y"], state["_d"]
    if height_m is not None:
        y[S] = c.x_in + height_m
        d[kernel.NEXT_IN] = d[kernel.NEXT_OUT] = 1e9
    for floater, kg, kelvin in air:
        y[AIR + floater], y[AIR + n + floater] = kg, kg * kelvin
    y[V], y[W] = v, w
    if not engaged:
        d[kernel.ENGAGED] = d[kernel.MAY_ENGAGE] = 0.0
    plant.resume(state)
    plant.resume(plant.state() | {"_begun_j": plant.observe().stored_j})
    return plant


@pytest.mark.parametrize(
    ("h1", "h2", "h3", "fill"),
    [*product((False, True), (False, True), (False, True), (1.0,)), (False, True, False, 1.6)],
)
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
    assert (
        min(
            cycle[k]
            for k in (
                "electrical",
                "generator",
                "drag",
                "gear",
                "windage",
                "expelled",
                "intake",
                "clutch",
                "rejected",
            )
        )
        >= -1e-3
    )


@pytest.mark.parametrize(
    ("modes", "efficiency"),
    [({}, 0.26), ({"h2": True}, 0.27), ({"h1": True, "h2": True, "h3": True}, 0.21)],
)
def test_the_usual_plant_gives_what_the_document_says(modes, efficiency):
    plant = KppPlant(KppSettings(**modes))
    plant.advance(600.0)
    assert plant.observe().efficiency == pytest.approx(efficiency, abs=0.005)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 60).map(lambda n: 2 * n),
    st.floats(4.0, 40.0),
    st.floats(0.05, 1.0),
    st.floats(0.3, 1.9),
    st.floats(0.0, 5.0),
    st.floats(0.2, 2.0),
)
def test_the_ledger_closes_for_plants_of_all_sizes(floaters, depth, volume, fill, heat, drag):
    plant = KppPlant(
        KppSettings(
            floaters=floaters,
            depth_m=depth,
            volume_m3=volume,
            fill=fill,
            heat_rate_ps=heat,
            drag_coefficient=drag,
        )
    )
    plant.advance(30.0)
    m = plant.observe()
    assert m.ledger_residual < 1e-3
    assert m.efficiency < 1.0
    assert np.isfinite(m.v_chain)


def test_one_floater_in_deep_water_comes_to_the_speed_at_which_drag_is_its_buoyancy():
    settings = replace(
        BARE, depth_m=400.0, floaters=2, chain_kg=0.0, heat_rate_ps=50.0, drag_coefficient=20.0
    )
    plant = begun(settings, 150.0, [(0, 0.5, settings.water_k)], engaged=False)  # the chain alone
    for _ in range(12):
        plant.advance(1.0)
    m = plant.observe()
    buoyancy = WATER_KGPM3 * GRAVITY_MPS2 * m.volume_m3[0]
    drag = (
        2 * 0.5 * WATER_KGPM3 * settings.drag_coefficient * settings.frontal_area_m2
    )  # both floaters move
    assert m.v_chain == pytest.approx(np.sqrt(buoyancy / drag), rel=0.002)


@pytest.mark.parametrize("rate", [0.0, 1e3])
def test_air_that_rises_does_the_work_of_adiabatic_and_of_isothermal_expansion(rate):
    settings = replace(BARE, floaters=2, volume_m3=5.0, heat_rate_ps=rate)
    kg, kelvin = 0.5, settings.water_k
    plant = begun(settings, 0.0, [(0, kg, kelvin)], v=0.5)
    foot = settings.constants().x_in
    while plant.state()["_y"][S] - foot < 8.0:
        plant.advance(0.1)
    y, m = plant.state()["_y"], plant.observe()
    p1 = settings.pressure_in_pa
    p2 = settings.pressure_in_pa - WATER_KGPM3 * GRAVITY_MPS2 * (y[S] - foot)
    theta = y[AIR + 2]
    work = m.energy_j["heat"] - HEAT_CAPACITY_J_KGK * (
        theta - kg * kelvin
    )  # first law of what rose
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
    plant = begun(settings, w=100.0, engaged=False)
    plant.apply(KppOrder(load=0.0, air=False))
    plant.advance(20.0)
    m = plant.observe()
    assert m.flywheel_radps == pytest.approx(
        100.0 * np.exp(-0.05 * 20.0 / settings.flywheel_kgm2), rel=1e-7
    )
    assert m.energy_j["windage"] == pytest.approx(
        0.5 * settings.flywheel_kgm2 * (100.0**2 - m.flywheel_radps**2), rel=1e-6
    )


def test_the_same_plant_by_coarse_and_by_fine_steps_goes_the_same_way():
    coarse, fine = KppPlant(KppSettings(h3=True)), KppPlant(KppSettings(h3=True), FINE)
    coarse.advance(30.0)
    fine.advance(30.0)
    assert coarse.observe().v_chain == pytest.approx(fine.observe().v_chain, rel=2e-3)
    assert coarse.observe().energy_j["electrical"] == pytest.approx(
        fine.observe().energy_j["electrical"], rel=2e-3
    )


def test_events_are_met_not_stepped_over():
    plant = KppPlant(KppSettings(), FINE)
    plant.advance(20.0)
    c, y, volumes = plant.settings.constants(), plant.state()["_y"], plant.observe().volume_m3
    x = (y[S] + np.arange(c.n) * c.spacing - c.x_in) % c.loop
    assert (volumes[(x > c.x_out - c.x_in + 1e-6)] == 0).all()
    up = (x > 1.0) & (x < c.x_out - c.x_in - 1e-6)
    assert up.sum() > 10
    assert y[AIR : AIR + c.n][up] == pytest.approx(c.air, abs=1e-12)
