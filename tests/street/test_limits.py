"""The limits of the settings, for the street and for single junctions, as the gate has them."""

from __future__ import annotations

import pytest

from headway.plants.sumo import read_network
from headway.plants.sumo.scenarios import scenario
from headway.roads import PROFILES, Kind, work_out
from headway.settings import Settings
from headway.street.engine import Engine
from headway.street.limits import timing_of, without_unknown_junctions
from headway.street.messages import Task

TIMES = (
    "yellow_s",
    "clearance_s",
    "min_green_s",
    "max_green_s",
    "max_red_s",
    "min_cycle_s",
    "max_cycle_s",
)


@pytest.fixture(scope="module")
def network():
    return read_network(scenario("cologne8").net)


def settings(limits=None, junctions=None, timing="street"):
    safety = {"limits": limits or {}, "junctions": junctions or {}}
    street = {"scenario": "cologne8", "timing": timing}
    return Settings.model_validate({"safety": safety, "street": street})


@pytest.mark.parametrize("timing", ["street", "benchmark"])
def test_without_limits_the_timing_is_that_of_the_profile(network, timing):
    mine, plain = timing_of(settings(timing=timing), network), work_out(network, PROFILES[timing])
    for name in TIMES:
        assert getattr(mine, name).tolist() == getattr(plain, name).tolist()


def test_limits_of_the_street_hold_everywhere_and_those_of_a_junction_there_alone(network):
    one, two = network.junctions[:2]
    mine = timing_of(
        settings(
            {"min_green_s": 12.0, "max_cycle_s": 100.0},
            {one.id: {"min_green_s": 15.0, "max_red_s": 80.0, "min_cycle_s": 50.0}},
        ),
        network,
    )
    assert set(mine.min_green_s[one.first : one.end]) == {15.0}
    assert set(mine.min_green_s[two.first : two.end]) == {12.0}
    assert set(mine.max_red_s[one.first : one.end]) == {80.0}
    assert set(mine.max_red_s[two.first :]) == {110.0}
    assert set(mine.min_cycle_s[one.first : one.end]) == {50.0}
    assert set(mine.max_cycle_s) == {100.0}
    assert set(mine.max_green_s) == {90.0}


def test_yellow_and_clearance_become_longer_and_never_shorter(network):
    plain = timing_of(settings(), network)
    vehicles = [g for g, group in enumerate(network.groups) if group.kind != Kind.PEDESTRIAN]
    for limits, name in (
        ({"yellow_s": 3.0}, "yellow_s"),
        ({"red_clearance_s": 0.0}, "clearance_s"),
    ):
        mine = timing_of(settings(limits), network)
        assert getattr(mine, name).tolist() == getattr(plain, name).tolist()
    longer = timing_of(settings({"yellow_s": 6.0, "red_clearance_s": 5.5}), network)
    assert {float(longer.yellow_s[g]) for g in vehicles} == {6.0}
    assert {float(longer.clearance_s[g]) for g in vehicles} == {5.5}
    fixed = timing_of(settings({"yellow_s": 4.0}, timing="benchmark"), network)
    assert {float(fixed.yellow_s[g]) for g in vehicles} == {4.0}


@pytest.mark.parametrize(
    ("limits", "junctions", "said"),
    [
        (
            {"min_green_s": 40.0, "max_green_s": 30.0},
            {},
            "safety.limits: timing 'street': min_green_s (40 s) is above max_green_s (30 s).",
        ),
        (
            {"max_cycle_s": 40.0},
            {},
            "safety.limits: timing 'street': min_cycle_s (40 s) is not below max_cycle_s (40 s). ",
        ),
        ({}, {"252017285": {"max_cycle_s": 35.0}}, "safety.junctions.252017285: timing"),
        ({}, {"nowhere": {}}, "safety.junctions: no junction 'nowhere'. There are: 247379907, "),
    ],
)
def test_what_contradicts_itself_or_names_no_junction_is_refused_before_anything_starts(
    limits, junctions, said
):
    with pytest.raises(ValueError, match="settings: ") as refused:
        Engine(Task(settings(limits, junctions)))
    assert str(refused.value).startswith(f"settings: {said}")


def test_on_another_scenario_the_limits_of_junctions_that_it_lacks_are_left_out(network):
    mine = settings({"min_green_s": 12.0}, {"252017285": {"min_green_s": 15.0}, "x": {}, "a": {}})
    kept, unknown = without_unknown_junctions(mine, network)
    assert (unknown, list(kept.safety.junctions)) == (["a", "x"], ["252017285"])
    assert kept.safety.limits.min_green_s == 12.0
