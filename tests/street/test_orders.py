"""Orders that survive the street process: what is stored for which task,
and how it stands over the settings.
"""

from __future__ import annotations

import json
import shutil

import pytest

from headway.settings import Settings
from headway.street.messages import Optimise, Switch
from headway.street.orders import OrderStore, with_orders


@pytest.fixture
def path(tmp_path):
    return tmp_path / "orders.json"


def test_orders_are_stored_for_their_task_alone(path):
    store = OrderStore(path, "one")
    assert store.load() == {}
    store.save({"controller": "greedy"})
    assert store.load() == OrderStore(path, "one").load() == {"controller": "greedy"}
    assert OrderStore(path, "another").load() == {}
    assert json.loads(path.read_text()) == {"task": "one", "orders": {"controller": "greedy"}}
    assert [p.name for p in path.parent.iterdir()] == ["orders.json"], "no draft is left"
    store.clear()
    assert (store.load(), path.exists()) == ({}, False)
    store.clear()


def test_orders_are_stored_though_their_folder_was_deleted_meanwhile(tmp_path):
    store = OrderStore(tmp_path / "data" / "orders.json", "one")
    store.save({"controller": "greedy"})
    shutil.rmtree(tmp_path / "data")
    store.add(Optimise(cycle_s=40.0))
    assert store.load() == {"cycle_s": 40.0}


@pytest.mark.parametrize(
    ("switch", "orders"),
    [
        (Switch(), {"controller": "greedy", "scenario": "cologne1"}),
        (Switch(controller="fixed"), {"controller": "fixed", "scenario": "cologne1"}),
        (Switch(scenario="cologne3"), {"controller": "greedy", "scenario": "cologne3"}),
        (Switch("fixed", "cologne3"), {"controller": "fixed", "scenario": "cologne3"}),
    ],
)
def test_a_switch_replaces_only_the_named_values_and_is_not_saved_by_itself(path, switch, orders):
    store = OrderStore(path, "one")
    before = {"controller": "greedy", "scenario": "cologne1"}
    store.save(before)
    assert store.with_switch(switch) == orders
    assert store.load() == before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"controller": "greedy", "scenario": "cologne1"}, {"scenario": "cologne1"}),
        ({"scenario": "cologne1"}, {"scenario": "cologne1"}),
        ({"controller": "greedy"}, {}),
    ],
)
def test_a_controller_that_was_ordered_is_dropped_and_the_scenario_stays(path, before, after):
    store = OrderStore(path, "one")
    store.save(before)
    store.drop("controller")
    assert store.load() == after


def test_without_an_ordered_controller_nothing_is_written(path):
    OrderStore(path, "one").drop("controller", "cycle_s")
    assert not path.exists()


def test_orders_take_precedence_over_the_settings_and_must_be_allowed():
    settings = Settings()
    ordered = with_orders(settings, {"controller": "fixed", "scenario": "cologne3"})
    assert (ordered.control.controller, ordered.street.scenario) == ("fixed", "cologne3")
    assert with_orders(settings, {}) == settings
    with pytest.raises(ValueError, match="magic"):
        with_orders(settings, {"controller": "magic"})
