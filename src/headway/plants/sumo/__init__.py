"""The SUMO street: its network, its scenarios, and the simulation as a plant."""

from headway.plants.sumo.network import Shapes, read_network, read_shapes
from headway.plants.sumo.plant import Scene, SumoPlant, SumoSettings, UnobservedPlant
from headway.plants.sumo.scenarios import RESCO, Scenario, network_of, scenario

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
