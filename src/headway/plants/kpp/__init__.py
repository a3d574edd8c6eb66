"""The buoyancy-chain power plant ("KPP"), simulated with an energy ledger that closes."""

from headway.plants.kpp.plant import KppMeasured, KppOrder, KppPlant
from headway.plants.kpp.settings import KppSettings

__all__ = ["KppMeasured", "KppOrder", "KppPlant", "KppSettings"]
