"""The power plant as a plant: how it begins, what is measured of it, how it goes on,
is saved and set back; every figure by hand.
"""

from __future__ import annotations

import math
import os
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from tests.plants import kpp_by_hand as hand

from headway.plants import PlantError
from headway.plants.kpp import KppOrder, KppPlant, KppSettings, kernel
from headway.plants.kpp import plant as module
from headway.plants.kpp.kernel import AIR, S, V, W
from headway.runtime import StepBounds

FINE = StepBounds(1e-6, 0.05, 1e-8, 1e-10)
SMALL = KppSettings(
    floaters=6, depth_m=6.0, sprocket_radius_m=0.4, volume_m3=0.2, chain_kg=60.0,
    gear_friction_n=20.0, gear_viscous_nspm=20.0, gear_ratio=8.0,
    flywheel_kgm2=0.5, air_flow_kgps=0.8, heat_rate_ps=0.5,
    generator_speed_radps=(0.0, 10.0, 30.0, 60.0),
    generator_torque_nm=(0.0, 0.0, 20.0, 25.0),
)  # fmt: skip
# Straight way, half turn and spacing fit: floater 1 stands at the foot, 2 half way up, 3 at the
# head, 0 half a quarter turn below.
FITTED = KppSettings(floaters=8, depth_m=math.pi + 2.0, sprocket_radius_m=1.0)


def by_hand(plant: KppPlant):
    """The same plant in the same state, for the equations written a second time."""
    m, state = hand.machine(plant.settings), plant.state()
    m.y[:] = state["_y"]
    m.d[:] = state["_d"]
    m.valve[:] = state["_valve"]
    m.full[:] = state["_full"]
    return m


def changed(plant: KppPlant, **places: float) -> None:
    """Set places of the state by hand."""
    state = plant.state()
    for name, value in places.items():
        state["_y"][getattr(kernel, name)] = value
    plant.resume(state)


def test_floaters_on_their_way_up_begin_with_their_air_and_its_compression_is_in_the_ledger():
    plant = KppPlant(SMALL)
    s, y, d = SMALL, plant.state()["_y"], plant.state()["_d"]
    foot, straight, spacing = 0.2 * math.pi, 6.0 - 0.8, (2 * 5.2 + 0.8 * math.pi) / 6
    places = [i * spacing for i in range(6)]
    assert [foot < x < foot + straight for x in places] == [False, True, True, False, False, False]
    assert y[AIR : AIR + 6] == pytest.approx([0.0, s.air_kg, s.air_kg, 0.0, 0.0, 0.0], rel=1e-12)
    assert y[AIR + 6 :] == pytest.approx(
        [0.0, s.air_kg * 288.15, s.air_kg * 288.15, 0.0, 0.0, 0.0], rel=1e-12
    )
    paid = 2 * s.air_kg * s.compression_j_kg
    assert y[:AIR] == pytest.approx(
        [0.0] * 3 + [paid if name in ("compressor", "rejected") else 0.0 for name in hand.LEDGER],
        rel=1e-12,
    )
    assert d[[kernel.NEXT_IN, kernel.WHICH_IN]] == pytest.approx([foot, 0.0])
    assert d[[kernel.NEXT_OUT, kernel.WHICH_OUT]] == pytest.approx(
        [foot + straight - 2 * spacing, 2.0]
    )
    assert d[[kernel.ENGAGED, kernel.MAY_ENGAGE, kernel.LOAD, kernel.AIR_ON]].tolist() == [1.0] * 4
    assert (plant.time_s, plant.v_chain, plant.steps) == (0.0, 0.0, 0)
    m = plant.observe()
    assert m.stored_j == pytest.approx(0.0, abs=1e-6)  # at rest, as warm as the water
    assert m.ledger_residual == pytest.approx(0.0, abs=1e-15)
    assert m.efficiency == 0.0


def test_the_usual_plant_begins_with_air_in_the_28_floaters_between_the_marks():
    """Every (18 + pi) / 66 = 0.3203 m one: the fourth is the first past the foot at 0.785 m,
    the 31st the last before the head at 9.785 m.
    """
    state = KppPlant(KppSettings()).state()
    assert np.flatnonzero(state["_y"][AIR : AIR + 66]).tolist() == list(range(3, 31))
    assert state["_d"][[kernel.WHICH_IN, kernel.WHICH_OUT]].tolist() == [2.0, 30.0]
    assert state["_count"].tolist() == [0.0, 0.0, 0.0, 0.0, 1.0, 0.05, 0.0], (
        "nothing counted; the first step the shortest, as if the last had been just right"
    )


def test_near_the_head_a_floater_begins_with_no_more_than_its_shell_holds_there():
    plant = KppPlant(replace(SMALL, fill=1.3))
    c, y = plant.settings.constants(), plant.state()["_y"]
    spacing = (2 * 5.2 + 0.8 * math.pi) / 6
    heights = [spacing - 0.2 * math.pi, 2 * spacing - 0.2 * math.pi]
    held = [(c.p_in - 998.2 * 9.80665 * x) * 0.2 / (287.05 * 288.15) for x in heights]
    assert held[1] < plant.settings.air_kg < held[0]
    assert y[[AIR + 1, AIR + 2]] == pytest.approx([plant.settings.air_kg, held[1]], rel=1e-12)
    assert plant.observe().volume_m3[2] == pytest.approx(0.2, rel=1e-12)
    assert y[kernel.COMPRESSOR] == pytest.approx(
        (plant.settings.air_kg + held[1]) * plant.settings.compression_j_kg, rel=1e-12
    )


def test_who_stands_at_a_mark_has_passed_it_and_has_no_air():
    state = KppPlant(FITTED).state()
    assert state["_d"][[kernel.NEXT_IN, kernel.WHICH_IN]] == pytest.approx([math.pi / 2, 0.0])
    assert state["_d"][[kernel.NEXT_OUT, kernel.WHICH_OUT]] == pytest.approx([math.pi / 2, 2.0])
    assert np.flatnonzero(state["_y"][AIR : AIR + 8]).tolist() == [2]
    assert np.flatnonzero(state["_y"][AIR + 8 :]).tolist() == [2]


def test_a_plant_that_is_not_prefilled_begins_with_nothing():
    plant = KppPlant(replace(SMALL, prefilled=False))
    assert not plant.state()["_y"].any()
    m = plant.observe()
    assert (m.efficiency, m.ledger_residual, m.stored_j, m.power_input) == (0.0, 0.0, 0.0, 0.0)
    changed(plant, DRAG=2e-12)
    assert plant.observe().ledger_residual == pytest.approx(
        2e-3
    )  # nothing went in: as a share of a billionth of a joule


@pytest.mark.parametrize("changes", [{}, {"h1": True, "h2": True}])
def test_what_is_measured_is_what_the_equations_say_of_the_state(changes):
    plant = KppPlant(replace(SMALL, **changes), FINE)
    begun = plant.observe().stored_j
    plant.apply(KppOrder(load=0.7))
    plant.advance(1.3)
    m, same = plant.observe(), by_hand(plant)
    y = same.y
    slopes, torque = hand.slopes(same, y)
    assert (
        (m.time_s, m.v_chain, m.flywheel_radps)
        == (1.3, y[V], y[W])
        == (plant.time_s, plant.v_chain, y[W])
    )
    assert m.power_output == pytest.approx(slopes[kernel.ELECTRICAL], rel=1e-9)
    assert m.power_input == pytest.approx(
        slopes[kernel.COMPRESSOR] + slopes[kernel.BUBBLES], rel=1e-9
    )
    assert m.torque_nm == pytest.approx(torque, rel=1e-9)
    assert m.energy_j == dict(zip(hand.LEDGER, y[3:AIR], strict=True))
    assert m.efficiency == pytest.approx(
        m.energy_j["electrical"] / (m.energy_j["compressor"] + m.energy_j["bubbles"]), rel=1e-12
    )
    assert m.efficiency > 0.0
    assert m.volume_m3 == pytest.approx([hand.air_m3(same.c, y, i) for i in range(6)], rel=1e-9)
    assert m.stored_j == pytest.approx(hand.energy_j(same.c, y), rel=1e-9)
    assert m.engaged is bool(same.d[kernel.ENGAGED])
    went_in = m.energy_j["compressor"] + m.energy_j["bubbles"] + m.energy_j["heat"]
    changed(plant, DRAG=y[kernel.DRAG] + 5000.0)
    assert plant.observe().ledger_residual == pytest.approx(5000.0 / went_in, rel=1e-3)
    changed(plant, DRAG=y[kernel.DRAG], HEAT=y[kernel.HEAT] + 5000.0)
    assert plant.observe().ledger_residual == pytest.approx(5000.0 / (went_in + 5000.0), rel=1e-3)
    assert begun == pytest.approx(0.0, abs=1e-6)


def test_what_was_stored_at_the_start_is_not_missed_in_the_ledger():
    plant = KppPlant(SMALL, FINE)
    state = plant.state()
    state["_y"][W] = 40.0
    plant.resume(state | {"_begun_j": state["_begun_j"] + 0.5 * 0.5 * 1600.0})
    assert plant.observe().ledger_residual == pytest.approx(0.0, abs=1e-12)
    plant.resume(state)  # without it the wheel's motion comes from nowhere
    assert plant.observe().ledger_residual == pytest.approx(
        400.0 / state["_y"][kernel.COMPRESSOR], rel=1e-9
    )


def test_the_clutch_is_reported():
    plant = KppPlant(SMALL)
    assert plant.observe().engaged is True
    state = plant.state()
    state["_d"][kernel.ENGAGED] = 0.0
    plant.resume(state)
    assert plant.observe().engaged is False


@pytest.mark.parametrize(
    ("changes", "orders", "meets"),
    [
        ({}, [(2.5, KppOrder())], {"foot", "head", "closed", "engaged"}),
        ({"h3": True, "pulse_s": 0.7, "coast_s": 0.4}, [(2.5, KppOrder())], {"pulse", "coast"}),
        ({"fill": 1.4, "h2": True}, [(2.5, KppOrder())], {"shell"}),
        ({"h1": True}, [(1.2, KppOrder(0.0)), (2.5, KppOrder(0.5, air=False))], {"foot"}),
    ],
)
def test_a_plant_goes_its_way_as_scipy_says(changes, orders, meets):
    plant = KppPlant(replace(SMALL, **changes), FINE)
    theirs, met, t = by_hand(plant), {}, 0.0
    for until, order in orders:
        theirs.d[kernel.LOAD], theirs.d[kernel.AIR_ON] = order.load, float(order.air)
        for kind, times in hand.simulate(theirs, until, t).items():
            met[kind] = met.get(kind, 0) + times
        plant.apply(order)
        plant.advance(until - t)
        t = until
    assert meets <= {kind for kind, times in met.items() if times}
    ours = plant.state()
    assert plant.time_s == pytest.approx(2.5)
    assert ours["_y"] == pytest.approx(theirs.y, rel=1e-5, abs=1e-4)
    assert ours["_d"] == pytest.approx(theirs.d, rel=1e-12)
    assert plant.counts["events"] == sum(met.values())
    assert plant.observe().ledger_residual < 1e-9


def test_pulses_begin_at_the_start_and_never_without_h3():
    assert KppPlant(replace(SMALL, h3=True, pulse_s=0.7)).state()["_d"][kernel.SWITCH] == 0.7
    assert KppPlant(replace(SMALL, pulse_s=0.7)).state()["_d"][kernel.SWITCH] == 1e18


def test_steps_stay_within_the_bounds_and_are_counted():
    plant = KppPlant(replace(SMALL, prefilled=False), StepBounds(0.01, 0.25, 1e-3, 1e-3))
    plant.advance(
        1.0
        # at rest: no error at all; 0.01, then five times as long at most, then the longest: 0.01,
        # 0.05, 0.25 ...
    )
    assert plant.counts == {"steps": 6, "rejected": 0, "events": 0, "forced": 0}
    assert plant.steps == 6


def test_the_shortest_step_can_be_moved_up_to_the_longest():
    plant = KppPlant(replace(SMALL, prefilled=False), StepBounds(0.01, 0.25, 1e-3, 1e-3))
    plant.shortest_s = 0.5
    plant.advance(1.0)
    assert plant.steps == 4
    assert KppPlant(SMALL).shortest_s == 0.05


def test_forced_and_rejected_steps_are_told_apart():
    tight = StepBounds(0.1, 0.1, 1e-12, 1e-14)
    plant = KppPlant(SMALL, tight)
    plant.advance(0.1)
    assert plant.counts == {"steps": 1, "rejected": 0, "events": 0, "forced": 1}
    plant = KppPlant(SMALL, replace(tight, shortest_s=1e-3))
    plant.shortest_s = 0.1
    plant.advance(0.1)
    plant.shortest_s = 1e-3
    plant.advance(0.1)
    assert plant.counts["rejected"] > 0
    assert plant.counts["forced"] == 1


def test_the_bounds_are_those_that_were_given_or_the_usual():
    assert KppPlant(SMALL).bounds == StepBounds()
    assert KppPlant(SMALL, FINE).bounds is FINE


def test_to_begin_again_is_to_begin():
    plant, fresh = KppPlant(SMALL), KppPlant(SMALL).state()
    plant.apply(KppOrder(0.3, air=False))
    plant.advance(2.0)
    plant.begin()
    again = plant.state()
    assert again.keys() == fresh.keys()
    assert all(np.array_equal(again[name], fresh[name]) for name in fresh)


def test_a_state_is_a_copy_and_gives_the_same_future():
    plant, other = KppPlant(SMALL), KppPlant(SMALL)
    plant.advance(1.0)
    state = plant.state()
    kept = {name: np.copy(value) for name, value in state.items() if name != "settings"}
    plant.advance(1.0)
    assert all(np.array_equal(state[name], kept[name]) for name in kept)
    other.resume(state)
    assert other.time_s == 1.0
    other.advance(1.0)
    assert all(np.array_equal(other.state()[name], plant.state()[name]) for name in kept)
    assert other.observe().ledger_residual == plant.observe().ledger_residual


def test_a_state_of_another_plant_or_another_version_is_refused():
    plant = KppPlant(SMALL)
    before = plant.state()
    with pytest.raises(
        PlantError,
        match=r"^the state is of a KPP with other settings; start that one, or begin anew\.$",
    ):
        plant.resume(KppPlant(replace(SMALL, h1=True)).state())
    for name in ("_y", "_d", "_valve", "_full", "_count"):
        with pytest.raises(
            PlantError, match=r"^the state is of another version of the KPP; begin anew\.$"
        ):
            plant.resume(before | {name: np.zeros(len(before[name]) + 1)})
    assert np.array_equal(plant.state()["_y"], before["_y"])


def test_a_checkpoint_is_set_back_whole(tmp_path):
    plant, other = KppPlant(replace(SMALL, h3=True)), KppPlant(replace(SMALL, h3=True))
    plant.advance(1.7)
    plant.checkpoint(tmp_path / "a.npz")
    other.restore(tmp_path / "a.npz")
    state, theirs = plant.state(), other.state()
    assert all(np.array_equal(state[name], theirs[name]) for name in state)
    assert (type(theirs["_t"]), type(theirs["_begun_j"])) == (float, float)
    assert theirs["settings"] == plant.settings


def test_a_checkpoint_is_on_the_disk_when_it_is_said_to_be(tmp_path, monkeypatch):
    synced = []

    def fsync(number):
        synced.append(os.fstat(number).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    KppPlant(SMALL).checkpoint(tmp_path / "a.npz")
    assert synced == [(tmp_path / "a.npz").stat().st_size]


@pytest.mark.parametrize("what", ["missing", "text", "cut", "array", "fewer", "empty"])
def test_what_is_no_checkpoint_is_refused_with_its_name(what, tmp_path):
    path, plant = tmp_path / "a.npz", KppPlant(SMALL)
    plant.checkpoint(path)
    whole = path.read_bytes()
    if what == "missing":
        path = tmp_path / "b.npz"
    elif what == "array":
        with path.open("wb") as stream:
            np.save(stream, np.zeros(3))
    elif what == "fewer":
        np.savez(path, _y=np.zeros(3), settings=np.array(repr(SMALL)))
    else:
        path.write_bytes({"text": b"no", "cut": whole[: len(whole) // 2], "empty": b""}[what])
    with pytest.raises(PlantError) as error:
        plant.restore(path)
    assert str(error.value).startswith(f"{path}: is no checkpoint of a KPP (")


def test_a_checkpoint_of_other_settings_is_refused_with_its_name(tmp_path):
    KppPlant(replace(SMALL, fill=0.9)).checkpoint(tmp_path / "a.npz")
    with pytest.raises(PlantError) as error:
        KppPlant(SMALL).restore(tmp_path / "a.npz")
    assert (
        str(error.value)
        == f"{tmp_path / 'a.npz'}: is of a KPP with other settings; start that one, or begin anew."
    )


def test_a_fault_says_when_and_what_to_do():
    plant = KppPlant(SMALL)
    plant.advance(1.0)
    changed(plant, V=math.nan)
    with pytest.raises(PlantError) as error:
        plant.advance(1.0)
    assert str(error.value) == (
        "the KPP failed at 1.000000 s: the state is no number any more. "
        "Restore a checkpoint, or go on with shorter steps."
    )
    assert plant.time_s == 1.0


def test_too_many_steps_are_a_fault(monkeypatch):
    assert module.MOST_STEPS == 10_000_000
    monkeypatch.setattr(module, "MOST_STEPS", 1234)
    plant = KppPlant(replace(SMALL, prefilled=False), StepBounds(1e-5, 1e-5))
    with pytest.raises(PlantError) as error:
        plant.advance(1.0)
    assert str(error.value) == (
        "the KPP failed at 0.012340 s: more than 1,234 steps in one period. "
        "Restore a checkpoint, or go on with shorter steps."
    )
    assert plant.time_s == pytest.approx(0.01234)


def test_nothing_is_held_that_would_have_to_be_closed():
    plant = KppPlant(SMALL)
    plant.close()
    assert plant.state()["_y"][S] == 0.0


def test_settings_orders_and_measurements_cannot_be_changed_by_mistake():
    for value, name in (
        (SMALL, "fill"),
        (KppOrder(), "load"),
        (KppPlant(SMALL).observe(), "time_s"),
    ):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, 0.5)


@pytest.mark.parametrize("name", ["heat_rate_ps", "isothermal_rate_ps"])
def test_air_that_takes_on_the_waters_temperature_fast_asks_for_shorter_steps(name):
    """The steps of 0.05 s that are never refused let its temperature swing beyond all bounds: from
    a rate of 66 a second on, the plant failed within a second.
    """
    bounds = StepBounds(shortest_s=0.05, longest_s=0.2)
    speeds = []
    for rate in (60.0, 300.0):
        plant = KppPlant(KppSettings(h2=name == "isothermal_rate_ps", **{name: rate}), bounds)
        plant.advance(3.0)
        speeds.append(plant.v_chain)
        assert plant.observe().ledger_residual < 1e-4
    assert speeds[1] == pytest.approx(speeds[0], rel=0.01)
    with pytest.raises(ValueError, match=f"{name}: 1001.0 is not allowed: a number .* to 1000"):
        KppSettings(**{name: 1001.0})
