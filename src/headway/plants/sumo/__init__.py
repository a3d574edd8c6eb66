"""The SUMO street."""

from headway.plants.sumo.plant import SumoPlant, SumoSettings

__all__ = ["SumoPlant", "SumoSettings"]
