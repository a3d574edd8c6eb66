"""The SUMO street: its network, its scenarios, and the simulation as a plant."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from headway.plants.sumo.network import Shapes, read_network, read_shapes
from headway.plants.sumo.scenarios import RESCO, Scenario, network_of, scenario
from headway.plants.sumo.scene import Scene

if TYPE_CHECKING:
    from headway.plants.sumo.plant import SumoPlant, SumoSettings, UnobservedPlant

__all__ = [
    "RESCO",
    "Scenario",
    "Scene",
    "Shapes",
    "SumoPlant",
    "SumoSettings",
    "UnobservedPlant",
    "network_of",
    "read_network",
    "read_shapes",
    "scenario",
]


def __getattr__(name: str) -> Any:
    """The simulation is loaded when it is first asked for: with it comes the compiler of the fast
    parts, 65 MB that a service, whose streets are processes of their own, does without.
    """
    if name in __all__:
        return getattr(importlib.import_module("headway.plants.sumo.plant"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
