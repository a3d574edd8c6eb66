"""The SUMO street."""

from headway.plants.sumo.plant import Scene, SumoPlant, SumoSettings

__all__ = ["Scene", "SumoPlant", "SumoSettings"]
