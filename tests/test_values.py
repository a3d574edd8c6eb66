"""The values: frozen, with their defaults."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from headway.values import EmergencyVehicle, Event, Observation, Proposal, Vehicles

NONE = np.zeros(0)
VEHICLES = Vehicles(
    np.array([3, 1]),
    np.array([7, -1]),
    np.array([10.0, -2.0]),
    NONE,
    NONE,
    NONE,
    np.array([False, True]),
)


def observation(**more) -> Observation:
    return Observation(2.0, VEHICLES, NONE, NONE, NONE, NONE, NONE, NONE, NONE, **more)


def test_vehicles_are_counted_by_their_columns():
    assert len(VEHICLES) == 2
    assert len(Vehicles(NONE, NONE, NONE, NONE, NONE, NONE, NONE)) == 0


def test_an_observation_is_of_a_plant_with_known_links_and_no_emergency_unless_said():
    observed = observation()
    assert (observed.emergencies, observed.source, observed.links_known) == ((), "plant", True)
    assert observed.inside_seen
    ambulance = EmergencyVehicle("a", 14.0, ((2, 80.0),))
    observed = observation(emergencies=(ambulance,), source="loops", links_known=False)
    assert (observed.emergencies, observed.source, observed.links_known) == (
        (ambulance,),
        "loops",
        False,
    )


def test_a_proposal_has_no_reasons_and_an_event_no_place_and_figures_unless_given():
    assert Proposal(1.0, "planner", NONE, NONE).why == {}
    assert Event(1.0, "engine.restored") == Event(1.0, "engine.restored", "", {})
    assert Event(1.0, "a").data is not Event(1.0, "a").data
    assert Proposal(1.0, "a", NONE, NONE).why is not Proposal(1.0, "a", NONE, NONE).why


@pytest.mark.parametrize(
    "value",
    [
        VEHICLES,
        EmergencyVehicle("a", 1.0, ()),
        observation(),
        Proposal(1.0, "a", NONE, NONE),
        Event(1.0, "a"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_no_value_can_be_changed(value):
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)
