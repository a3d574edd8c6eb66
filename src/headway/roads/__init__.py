"""The static world: junctions, lanes, signal groups, stages, conflicts, intergreens, scenarios."""

from headway.roads.network import Colour, Junction, Kind, Lane, Link, Network, Programme, RoadsError, SignalGroup, is_green
from headway.roads.stages import compatible_stages
from headway.roads.sumo_net import Shapes, read_network, read_shapes
from headway.roads.timing import BENCHMARK, PROFILES, STREET, Timing, TimingProfile, work_out

__all__ = [
    "BENCHMARK",
    "PROFILES",
    "STREET",
    "Colour",
    "Junction",
    "Kind",
    "Lane",
    "Link",
    "Network",
    "Programme",
    "RoadsError",
    "Shapes",
    "SignalGroup",
    "Timing",
    "TimingProfile",
    "compatible_stages",
    "is_green",
    "read_network",
    "read_shapes",
    "work_out",
]
