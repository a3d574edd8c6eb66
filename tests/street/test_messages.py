"""What passes between the street process and its parent:
values by default, and that they cannot change.
"""

from __future__ import annotations

import pytest

from headway.experiments import benchmark
from headway.settings import Settings
from headway.street import checkpoint
from headway.street.messages import (
    AtJunction,
    JunctionState,
    Optimise,
    Release,
    Reporting,
    Reset,
    RunEnded,
    SignalChanges,
    Snapshot,
    Switch,
    Task,
)


@pytest.fixture(autouse=True)
def in_use(tmp_path):
    """Of each module whose values are looked at here."""
    assert Task(Settings()).key()
    assert benchmark.Result("s", "c", 1, "", "", 1.0).flat()
    assert checkpoint.latest(tmp_path, "run") is None


def test_default_orders_are_empty():
    assert (Reporting().scene, Reporting().record) == (True, True)
    assert (Optimise().cycle_s, Optimise().speed_factor) == (0.0, -1.0)
    assert (Switch().controller, Switch().scenario) == ("", "")
    assert SignalChanges(1.0, ()).actuations == ()
    task = Task(Settings())
    assert (task.until_s, task.path, task.changes) == (float("inf"), "", {})


def test_a_snapshot_without_a_report_carries_no_scene_and_no_emissions():
    bare = Snapshot(1.0, 0.0, 9.0, 3, 1, "controller", 0, 0, 0, 0.0, 1.0, 0.0, "", ())
    assert (bare.mode, bare.controller, bare.shown, bare.scene, bare.profile, bare.emission) == (
        "balanced",
        "",
        b"",
        None,
        {},
        None,
    )


def test_a_run_is_identified_by_street_seed_scale_timing_sensing_and_controller(
    tmp_path, monkeypatch
):
    """A path by the file that it means: in another working folder it is another one."""
    monkeypatch.chdir(tmp_path)
    street = {
        "scenario": "x.sumocfg",
        "seed": 7,
        "scale": 1.5,
        "timing": "benchmark",
        "sensing": "loops",
    }
    task = Task(Settings.model_validate({"street": street}))
    assert task.key() == (
        f"{tmp_path}/x.sumocfg seed 7 scale 1.5 timing benchmark sensing loops controller planner"
    )
    others = [
        {"scenario": "y.sumocfg"},
        {"seed": 8},
        {"scale": 1.0},
        {"timing": "street"},
        {"sensing": "camera"},
    ]
    keys = {Task(Settings.model_validate({"street": street | other})).key() for other in others}
    fixed = {"street": street, "control": {"controller": "fixed"}}
    keys |= {task.key(), Task(Settings.model_validate(fixed)).key()}
    assert len(keys) == 7


KINDS = [
    AtJunction,
    Snapshot,
    RunEnded,
    SignalChanges,
    Reporting,
    Release,
    Reset,
    Optimise,
    Switch,
    Task,
    JunctionState,
    checkpoint.Checkpoint,
    benchmark.Job,
    benchmark.Result,
]


@pytest.mark.parametrize("kind", KINDS)
def test_messages_are_immutable_and_have_no_other_attributes(kind):
    value = object.__new__(kind)
    for name in (next(iter(kind.__dataclass_fields__)), "another"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(value, name, None)
    assert not hasattr(value, "__dict__")


def test_equal_messages_are_equal():
    assert RunEnded(5.0, True) == RunEnded(5.0, True)
    assert Release(1, "Ann") != Release(1, "Bob")
    shown = "Switch(controller='a', scenario='b', optimise=None)"
    assert repr(Switch("a", "b")) == shown
