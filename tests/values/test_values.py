"""The four values: frozen, with their defaults; and nobody but the safety gate makes a command."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest

from headway import values
from headway.values import Command, EmergencyVehicle, Event, Observation, Proposal, Vehicles, claim_seal

NONE = np.zeros(0)
VEHICLES = Vehicles(np.array([3, 1]), np.array([7, -1]), np.array([10.0, -2.0]), NONE, NONE, NONE, np.array([False, True]))


def observation(**more) -> Observation:
    return Observation(2.0, VEHICLES, NONE, NONE, NONE, NONE, NONE, NONE, NONE, **more)


@pytest.fixture
def fresh() -> ModuleType:
    """The module anew, its right not yet claimed."""
    spec = importlib.util.spec_from_file_location("values_anew", values.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["values_anew"] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules["values_anew"]


def test_vehicles_are_counted_by_their_columns():
    assert len(VEHICLES) == 2
    assert len(Vehicles(NONE, NONE, NONE, NONE, NONE, NONE, NONE)) == 0


def test_an_observation_is_of_a_plant_with_known_links_and_no_emergency_unless_said():
    seen = observation()
    assert (seen.emergencies, seen.source, seen.links_known) == ((), "plant", True)
    ambulance = EmergencyVehicle("a", 14.0, ((2, 80.0),))
    seen = observation(emergencies=(ambulance,), source="loops", links_known=False)
    assert (seen.emergencies, seen.source, seen.links_known) == ((ambulance,), "loops", False)


def test_a_proposal_has_no_reasons_and_an_event_no_place_and_figures_unless_given():
    assert Proposal(1.0, "planner", NONE, NONE).why == {}
    assert Event(1.0, "engine.restored") == Event(1.0, "engine.restored", "", {})
    assert Event(1.0, "a").data is not Event(1.0, "a").data
    assert Proposal(1.0, "a", NONE, NONE).why is not Proposal(1.0, "a", NONE, NONE).why


@pytest.mark.parametrize(
    "value",
    [VEHICLES, EmergencyVehicle("a", 1.0, ()), observation(), Proposal(1.0, "a", NONE, NONE), Event(1.0, "a")],
    ids=lambda v: type(v).__name__,
)
def test_no_value_can_be_changed(value):
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)


def test_a_command_cannot_be_made_without_the_seal():
    for seal in (None, object(), True):
        with pytest.raises(PermissionError) as refused:
            Command(1.0, NONE, (), seal)
        assert str(refused.value) == "A Command is made by the safety gate alone. Hand a Proposal to headway.safety.SafetyGate.admit."


def test_the_right_is_with_the_gate_once_it_is_imported():
    importlib.import_module("headway.safety.gate")
    for owner in ("headway.safety.priority", "headway.control.planner", ""):
        with pytest.raises(PermissionError) as refused:
            claim_seal(owner)
        assert str(refused.value) == f"{owner} may not make Commands; that right is with headway.safety.gate."


def test_nobody_outside_the_safety_room_can_claim_the_right_even_before_the_gate(fresh):
    for owner in ("headway.control.planner", "headway.safety", "headway.safetyx.gate", "my.headway.safety.gate"):
        with pytest.raises(PermissionError) as refused:
            fresh.claim_seal(owner)
        assert str(refused.value) == f"{owner} may not make Commands; that right is with headway.safety."


def test_the_maker_makes_commands_of_what_it_is_given_and_its_owner_may_claim_it_again(fresh):
    happened = (fresh.Event(4.0, "safety.minimum_green"),)
    colours = np.array([4, 1], np.int8)
    for _ in range(2):
        command = fresh.claim_seal("headway.safety.gate")(5.0, colours, happened)
        assert (command.at_s, command.interventions) == (5.0, happened)
        assert command.colours is colours
    with pytest.raises(PermissionError, match=r"^headway\.safety\.other may not make Commands; that right is with headway\.safety\.gate\.$"):
        fresh.claim_seal("headway.safety.other")
    with pytest.raises(dataclasses.FrozenInstanceError):
        command.colours = colours


def test_the_seal_is_not_shown_and_does_not_make_commands_differ(fresh):
    make = fresh.claim_seal("headway.safety.gate")
    command = make(5.0, (4, 1), ())
    assert repr(command) == "Command(at_s=5.0, colours=(4, 1), interventions=())"
    assert command == make(5.0, (4, 1), ())
    assert command != make(6.0, (4, 1), ())
    assert [f.name for f in dataclasses.fields(command) if f.compare] == ["at_s", "colours", "interventions"]
