"""The power plant on the loop: its load control by hand, and what the run tells its plant."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from headway.plants import PlantError
from headway.plants.kpp import KppMeasured, KppOrder, KppPlant, KppSettings
from headway.plants.kpp import run as kpp
from headway.plants.kpp.run import (
    DEFAULT_RULES,
    DRIFT,
    LIMITS,
    PERIOD_S,
    KppRun,
    LoadControl,
    runtime_settings,
)
from headway.runtime import NumericalStabilityMonitor, StepBounds
from headway.runtime.monitor import AlertRule, Level


def loads(control, *speeds, period_s=0.5):
    return [control.step(v, period_s).load for v in speeds]


def test_without_a_target_the_load_is_full_and_nothing_adds_up():
    control = LoadControl()
    assert (control.target_mps, control.gain, control.reset_s, control.sum_s) == (
        0.0,
        0.5,
        5.0,
        0.0,
    )
    assert [control.step(v, 1.0) for v in (0.0, 5.0)] == [KppOrder(1.0), KppOrder(1.0)]
    assert control.sum_s == 0.0


def test_the_load_rises_with_the_speed_and_with_what_has_added_up():
    """Half the torque at the target; half a share more for each m/s too fast;
    0.5 x 0.2 m/s x 0.5 s / 5 s = 0.01 is kept of each step.
    """
    control = LoadControl(2.0)
    assert loads(control, 2.0, 2.2, 2.2, 1.8) == pytest.approx([0.5, 0.6, 0.61, 0.42])
    assert control.sum_s == pytest.approx(0.01)
    other = LoadControl(2.0, gain=0.25, reset_s=2.0)
    assert loads(other, 2.4, 2.4, period_s=1.0) == pytest.approx([0.6, 0.65])


@pytest.mark.parametrize(("v_chain", "load"), [(4.0, 1.0), (0.0, 0.0), (3.0, 1.0), (1.0, 0.0)])
def test_beyond_all_or_nothing_nothing_adds_up(v_chain, load):
    control = LoadControl(2.0)
    assert loads(control, v_chain) == [load]
    assert control.sum_s == 0.0


@pytest.mark.parametrize("target", [-0.001, math.inf, math.nan])
def test_a_target_is_a_speed(target):
    with pytest.raises(
        ValueError, match=f"target_mps: {target!r} is not allowed: a speed, or 0 for full load."
    ):
        LoadControl(target)


# --- the run, with a plant that writes down -----------------------------------------------------


class Plant:
    """Goes on in time, a little faster with each part, and writes down what it is told."""

    def __init__(self, settings, bounds):
        self.settings = settings
        self.bounds = bounds
        self.time_s = 0.0
        self.told = []
        self.shortest_s = None
        self.v_chain = 2.0
        self.counts = {"steps": 7}

    def observe(self):
        energy = {"compressor": 11.0, "electrical": 12.0}
        return KppMeasured(
            1.5,
            2.5,
            3.5,
            4.5,
            5.5,
            6.5,
            0.75,
            8.5,
            True,
            np.array([0.0, 0.5, 0.25, 0.0]),
            energy,
            9.5,
            -10.5,
        )

    def apply(self, order):
        self.told.append(("load", round(order.load, 9), order.air))

    def advance(self, period_s):
        self.told.append(("advance", round(period_s, 9), self.shortest_s))
        self.time_s += period_s
        self.v_chain += 0.1

    def state(self):
        return {"at": self.time_s}

    def resume(self, state):
        self.told.append(("resume", state["at"]))
        self.time_s = state["at"]

    def begin(self):
        self.told.append(("begin",))
        self.time_s = 0.0

    def checkpoint(self, path):
        self.told.append(("checkpoint", path.name))
        path.write_text(str(self.time_s))

    def restore(self, path):
        self.time_s = float(path.read_text())


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(kpp, "KppPlant", Plant)
    return lambda *a, **k: KppRun("settings", "bounds", *a, **k)


def test_a_run_begins_with_its_plant_at_full_load_without_a_place_to_keep_it(run, tmp_path):
    made = run()
    assert (made.plant.settings, made.plant.bounds, made.control) == (
        "settings",
        "bounds",
        LoadControl(),
    )
    assert (made.running, made.rate, made.time_s) == (True, 0.0, 0.0)
    made.checkpoint()
    made.forget()
    assert made.plant.told == []
    assert not made.take_up()
    with pytest.raises(PlantError, match="there is no checkpoint to go back to; begin anew"):
        made.restore()
    control = LoadControl(1.0)
    assert run(control).control is control


def test_at_full_load_a_period_is_one_step_of_the_plant(run):
    made = run()
    made.advance(0.25, 1e-3)
    assert made.plant.told == [("advance", 0.25, 1e-3)]
    made.roll_back()
    assert made.plant.told[1:] == [("resume", 0.0)]


def test_with_a_target_the_load_is_set_anew_every_fifteenth_of_a_second(run):
    """2.0 m/s is the target: 0.5; then 0.1 m/s faster with each part.
    0.15 s is two fifteenths and 1/60 s.
    """
    made = run(LoadControl(2.0))
    made.advance(0.15, 2e-3)
    first, rest = round(1 / 15, 9), round(0.15 - 2 / 15, 9)
    added = 0.5 * 0.1 / 15 / 5
    assert made.plant.told == [
        ("load", 0.5, True), ("advance", first, 2e-3), ("load", 0.55, True),
        ("advance", first, 2e-3),
        ("load", round(0.6 + added, 9), True), ("advance", rest, 2e-3),
    ]  # fmt: skip
    assert made.time_s == pytest.approx(0.15)
    assert made.control.sum_s == pytest.approx(added + 0.5 * 0.2 * rest / 5)
    made.roll_back()
    assert (made.time_s, made.control.sum_s) == (0.0, 0.0)


def test_what_the_control_has_added_up_comes_back_with_the_checkpoint_and_not_with_another(
    run, tmp_path
):
    made = run(LoadControl(2.0), tmp_path)
    made.advance(0.15, 0.0)
    kept = made.control.sum_s
    assert kept > 0.0
    made.checkpoint()
    made.advance(0.15, 0.0)
    assert made.control.sum_s > kept
    made.roll_back()
    assert made.control.sum_s == kept
    made.advance(0.15, 0.0)
    made.restore()
    assert made.control.sum_s == kept
    made.roll_back()
    assert made.control.sum_s == kept
    heir = run(LoadControl(2.0), tmp_path)
    assert heir.take_up()
    assert heir.control.sum_s == kept
    heir.reinitialise()
    assert heir.control.sum_s == 0.0
    sums = tmp_path / "kpp.json"
    for text in (
        '{"time_s": 0.1, "sum_s": 3.0}',
        f'{{"time_s": {made.time_s}, "sum_s": NaN}}',
        "[]",
        "{",
        '{"time_s": 0.15}',
        "\xff",
    ):
        sums.write_bytes(text.encode("latin-1"))
        made.restore()
        assert made.control.sum_s == 0.0
    made.forget()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("period_s", "parts"),
    [(1 / 15, 1), (2 / 15, 2), (1 / 30, 1), (1 / 15 + 1e-10, 1), (1 / 15 + 1e-8, 2), (1.0, 15)],
)
def test_what_is_left_of_a_period_is_a_part_of_its_own_but_for_a_billionth_of_a_second(
    run, period_s, parts
):
    made = run(LoadControl(2.0))
    made.advance(period_s, 0.0)
    assert [what for what, *_ in made.plant.told] == ["load", "advance"] * parts


def test_undo_goes_back_by_one_period_and_not_beyond_what_was_restored_or_begun(run, tmp_path):
    made = run(folder=tmp_path)
    made.advance(1.0, 0.0)
    made.advance(1.0, 0.0)
    made.roll_back()
    assert made.time_s == 1.0
    made.checkpoint()
    made.advance(5.0, 0.0)
    made.restore()
    assert made.time_s == 1.0
    made.roll_back()
    assert made.time_s == 1.0
    made.advance(5.0, 0.0)
    made.restart()
    assert made.plant.told[-1] == ("begin",)
    made.roll_back()
    assert made.time_s == 0.0


def test_a_checkpoint_takes_its_place_in_one_move_and_goes_with_the_end_of_the_run(run, tmp_path):
    folder = tmp_path / "deep" / "data"
    made = run(folder=folder)
    made.forget()
    with pytest.raises(PlantError, match="no checkpoint"):
        made.restore()
    made.advance(1.0, 0.0)
    made.checkpoint()
    made.advance(1.0, 0.0)
    made.checkpoint()
    assert sorted(p.name for p in folder.iterdir()) == ["kpp.json", "kpp.npz"]
    assert (folder / "kpp.npz").read_text() == "2.0"
    assert made.plant.told[-1] == ("checkpoint", "kpp.draft")
    made.forget()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("until_s", "taken"), [(math.inf, True), (7.0, True), (6.0, False), (5.0, False)]
)
def test_an_earlier_run_is_gone_on_with_if_it_is_from_before_the_end(run, tmp_path, until_s, taken):
    before = run(folder=tmp_path)
    before.advance(6.0, 0.0)
    before.checkpoint()
    made = run(folder=tmp_path)
    assert made.take_up(until_s) is taken
    assert made.time_s == (6.0 if taken else 0.0)
    assert (("begin",) in made.plant.told) is not taken
    assert run(folder=tmp_path).take_up(), "without a time, always"
    made.roll_back()
    assert made.time_s == (6.0 if taken else 0.0)


def test_what_is_told_is_what_was_measured(run):
    made = run()
    assert made.state() == {
        "time_s": 1.5, "v_chain": 2.5, "power_output": 4.5, "power_input": 5.5, "efficiency": 0.75,
        "flywheel_radps": 3.5, "torque_nm": 6.5,
        "engaged": True, "ledger_residual": 8.5, "stored_j": 9.5,
        "acceleration_mps2": 10.5, "steps": {"steps": 7},
        "energy_j": {"compressor": 11.0, "electrical": 12.0},
        "floaters": {"v_chain": 2.5, "filled": 2, "air_m3": 0.75},
    }  # fmt: skip
    assert made.figures() == {"v_chain": 2.5, "flywheel_radps": 3.5, "ledger_residual": 8.5}


# --- the loop's settings ------------------------------------------------------------------------


def test_the_loop_is_told_fifteen_times_a_second_with_the_plants_limits_and_ledger():
    bounds, rule = StepBounds(), AlertRule("r", "v_chain", ">", 3.0, Level.WARNING)
    made = runtime_settings(2.0, "accuracy", 30.0, bounds, rules=(rule,), overrun="skip")
    assert (made.period_s, made.target_hz, made.base_hz, made.buffer) == (None, 15.0, 10.0, 1000)
    assert (made.speed_factor, made.mode, made.checkpoint_s, made.bounds) == (
        2.0,
        "accuracy",
        30.0,
        bounds,
    )
    assert (made.limits, made.drift, made.priority, made.rules, made.overrun) == (
        LIMITS,
        DRIFT,
        ("v_chain", "power_output", "efficiency", "engaged"),
        (rule,),
        "skip",
    )
    assert PERIOD_S == 1 / 15
    rules = {r.name: (r.path, r.condition, r.threshold) for r in DEFAULT_RULES}
    assert rules == {
        "velocity": ("v_chain", ">", 8.0),
        "acceleration": ("acceleration_mps2", ">", 40.0),
        "efficiency": ("efficiency", "<", 0.3),
        "fps": ("loop.fps", "<", 5.0),
        "stability": ("loop.stability", "<", 0.5),
    }
    assert runtime_settings(1.0, "accuracy", 0.0, bounds).rules == DEFAULT_RULES
    assert runtime_settings(1.0, "accuracy", 0.0, bounds, priority=("x",)).priority == ("x",)


@pytest.fixture(autouse=True)
def monitor():
    """Makes monitors of what the loop of a KPP is told to look at."""
    made = runtime_settings(1.0, "balanced", 0.0, StepBounds())
    return lambda: NumericalStabilityMonitor(made.limits, made.drift)


STILL = {"v_chain": 1.0, "flywheel_radps": 1.0, "ledger_residual": 0.0}


@pytest.mark.parametrize(
    ("figure", "value", "sound"),
    [
        ("v_chain", -1.0, True), ("v_chain", -1.01, False), ("v_chain", 20.0, True),
        ("v_chain", 20.01, False),
        ("flywheel_radps", -1.0, True), ("flywheel_radps", -1.01, False),
        ("flywheel_radps", 2000.0, True), ("flywheel_radps", 2000.5, False),
        ("ledger_residual", -0.001, False), ("ledger_residual", 0.001, True),
        ("ledger_residual", 0.00101, False),
    ],
)  # fmt: skip
def test_figures_beyond_belief_are_told(monitor, figure, value, sound):
    one = monitor()
    assert (one.check(0.0, STILL | {figure: value}).reasons == ()) is sound


def test_energy_may_not_be_lost_by_more_than_all_of_it(monitor):
    told = [
        len(monitor().check(0.0, STILL | {"ledger_residual": share}).reasons)
        for share in (0.5, 1.0, 1.01)
    ]
    assert told == [1, 1, 2], "above a thousandth; and out of bounds"


@pytest.mark.parametrize(("figure", "most"), [("v_chain", 5.0), ("flywheel_radps", 500.0)])
def test_a_jump_within_a_tenth_of_a_second_is_told(monitor, figure, most):
    for change, sound in ((most - 0.01, True), (most + 0.01, False)):
        one = monitor()
        one.check(0.0, STILL)
        assert (one.check(0.1, STILL | {figure: 1.0 + change}).reasons == ()) is sound


@pytest.mark.parametrize(("figure", "noise"), [("v_chain", 0.05), ("flywheel_radps", 5.0)])
def test_ringing_beyond_the_noise_is_told(monitor, figure, noise):
    for swing, sound in ((0.98 * noise, True), (1.02 * noise, False)):
        one = monitor()
        told = [
            one.check(float(k), STILL | {figure: 1.0 + swing * (k % 2)}).reasons for k in range(12)
        ]
        assert all(reasons == () for reasons in told) is sound


def test_the_acceleration_is_how_the_chains_speed_changes():
    plant = KppPlant(KppSettings(floaters=4))
    plant.advance(0.05)
    a, v = plant.observe().a_chain, plant.v_chain
    plant.advance(0.001)
    assert (plant.v_chain - v) / 0.001 == pytest.approx(a, rel=0.01)
    assert a > 0.0


# --- the real plant -----------------------------------------------------------------------------


def test_the_real_plant_goes_on_from_its_checkpoint_as_if_it_had_never_ended(tmp_path):
    settings = KppSettings(floaters=4)
    run = KppRun(settings, StepBounds(), LoadControl(0.5), tmp_path)
    run.advance(0.2, run.plant.bounds.shortest_s)
    run.checkpoint()
    again = KppRun(settings, StepBounds(), LoadControl(0.5), tmp_path)
    assert again.take_up()
    for one in (run, again):
        one.advance(0.1, one.plant.bounds.shortest_s)
    assert again.state() == run.state()
    assert again.time_s == pytest.approx(0.3)
    other = KppRun(KppSettings(floaters=6), StepBounds(), None, tmp_path)
    assert not other.take_up()
    assert isinstance(other.plant, KppPlant)
    assert sorted(p.name for p in Path(tmp_path).iterdir()) == ["kpp.json", "kpp.npz"]
