"""Only the safety gate makes a command."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import pickle
import pkgutil

import numpy as np
import pytest

import headway.safety
from headway.roads import BENCHMARK, work_out
from headway.safety import Command, SafetyGate
from headway.safety.command import sealed
from headway.values import Event
from tests.safety.builders import NETWORK

COLOURS = np.array([4, 1], np.int8)


def test_a_command_cannot_be_made_without_the_seal():
    for seal in (None, object(), True):
        with pytest.raises(PermissionError) as refused:
            Command(1.0, COLOURS, (), seal)
        assert str(refused.value) == (
            "A Command is made by the safety gate alone. Hand a Proposal to "
            "headway.safety.SafetyGate.admit."
        )


def test_a_command_holds_what_the_gate_decided_and_cannot_be_changed():
    interventions = (Event(4.0, "safety.minimum_green"),)
    command = sealed(5.0, COLOURS, interventions)
    assert (command.at_s, command.interventions) == (5.0, interventions)
    assert command.colours is COLOURS
    with pytest.raises(dataclasses.FrozenInstanceError):
        command.colours = COLOURS
    assert not hasattr(command, "__dict__"), "which could be written to"


def test_a_command_cannot_be_made_of_another():
    command = sealed(5.0, COLOURS, ())
    with pytest.raises(ValueError, match="seal"):
        dataclasses.replace(command, colours=np.array([4, 4], np.int8))
    with pytest.raises(PermissionError):
        dataclasses.replace(command, seal=None)


def test_the_colours_of_the_gates_command_cannot_be_written_to():
    gate = SafetyGate(NETWORK, work_out(NETWORK, BENCHMARK), 0.0)
    command = gate.admit(None, 0.0)
    for colours in (command.colours, gate.shown):
        with pytest.raises(ValueError, match="read-only"):
            colours[0] = 4
        with pytest.raises(ValueError, match="WRITEABLE"):
            colours.setflags(write=True)


def test_copies_of_a_command_have_no_colours_that_can_be_written_to():
    command = SafetyGate(NETWORK, work_out(NETWORK, BENCHMARK), 0.0).admit(None, 0.0)
    assert copy.deepcopy(command) is command
    for leave in (copy.copy, pickle.dumps):
        with pytest.raises(PermissionError):
            leave(command)


def test_the_seal_is_not_shown_and_does_not_make_commands_differ():
    command = sealed(5.0, (4, 1), ())
    assert repr(command) == "Command(at_s=5.0, colours=(4, 1), interventions=())"
    assert command == sealed(5.0, (4, 1), ())
    assert command != sealed(6.0, (4, 1), ())
    assert [f.name for f in dataclasses.fields(command) if f.compare] == [
        "at_s",
        "colours",
        "interventions",
    ]


def test_what_the_gate_hands_out_cannot_be_changed_but_what_it_remembers_is():
    found = {}
    for module in pkgutil.iter_modules(headway.safety.__path__, "headway.safety."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if dataclasses.is_dataclass(value) and value.__module__.startswith("headway.safety"):
                found[name] = value.__dataclass_params__.frozen
    assert len(found) > 5
    assert {name for name, is_frozen in found.items() if not is_frozen} == {"Memory", "Service"}
