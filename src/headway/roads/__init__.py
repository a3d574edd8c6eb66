"""The static world: junctions, lanes, signal groups, stages, conflicts, intergreens."""

from headway.roads.network import (
    GO,
    Colour,
    Junction,
    Kind,
    Lane,
    Link,
    Network,
    NotControlled,
    Programme,
    RoadsError,
    SignalGroup,
    is_green,
    likely_links,
)
from headway.roads.stages import compatible_stages
from headway.roads.timing import BENCHMARK, PROFILES, STREET, Timing, TimingProfile, work_out

__all__ = [
    "BENCHMARK",
    "GO",
    "PROFILES",
    "STREET",
    "Colour",
    "Junction",
    "Kind",
    "Lane",
    "Link",
    "Network",
    "NotControlled",
    "Programme",
    "RoadsError",
    "SignalGroup",
    "Timing",
    "TimingProfile",
    "compatible_stages",
    "is_green",
    "likely_links",
    "work_out",
]
