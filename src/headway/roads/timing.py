"""Timing profiles and the intergreen matrix.

Yellow: ITE's kinematic formula t + v / (2a + 2 g G) (Institute of Transportation Engineers,
    Guidelines for Determining
Traffic Signal Change and Clearance Intervals, 2020) with t = 1 s, a = 3.05 m/s2, bounded to 3..6 s.
Red clearance: (W + L) / v. Pedestrian clearance: crossing length at 1.07 m/s (MUTCD, 3.5 ft/s).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from headway.roads.network import FloatArray, Kind, Network

REACTION_S = 1.0
DECELERATION_MPS2 = 3.05
VEHICLE_LENGTH_M = 6.0
WALKING_MPS = 1.07
SHORTEST_YELLOW_S = 3.0
LONGEST_YELLOW_S = 6.0
LONGEST_RED_CLEARANCE_S = 4.0


@dataclass(frozen=True, slots=True)
class TimingProfile:
    """The rules of time, in seconds; None for a fixed value means that it is computed from the
    geometry.

    pedestrian_s: walk and clearance together, at least. max_red_s: a group red for so long is
        served next.
    min_cycle_s:  from one start of green to the next of the same group, at least.
    """

    name: str
    min_green_s: float
    max_green_s: float
    max_red_s: float
    min_cycle_s: float
    yellow_s: float | None
    red_clearance_s: float | None
    walk_s: float = 7.0
    pedestrian_s: float = 20.0

    def __post_init__(self) -> None:
        if (
            not 0 < self.min_green_s <= self.max_green_s
            or self.max_red_s <= self.min_green_s
            or self.min_cycle_s < 0
        ):
            raise ValueError(
                f"timing {self.name!r}: needs 0 < min_green_s <= max_green_s and min_green_s "
                f"< max_red_s, is {self}"
            )
        if self.yellow_s is not None and self.yellow_s < 2.7:
            raise ValueError(
                f"timing {self.name!r}: yellow_s {self.yellow_s} is under the 2.7 s of NEMA TS 2"
            )
        if self.walk_s < 4.0:
            raise ValueError(f"timing {self.name!r}: walk_s {self.walk_s} is under 4 s")


BENCHMARK = TimingProfile("benchmark", 5.0, 120.0, 150.0, 0.0, 3.0, 0.0, 7.0, 7.0)
STREET = TimingProfile("street", 10.0, 90.0, 110.0, 40.0, None, None)
PROFILES = {p.name: p for p in (BENCHMARK, STREET)}


def yellow_s(speed_mps: float, grade: float = 0.0) -> float:
    """Yellow change interval for an approach, seconds. grade: rise over run, positive uphill."""
    value = REACTION_S + speed_mps / (2.0 * DECELERATION_MPS2 + 2.0 * 9.81 * grade)
    return min(max(value, SHORTEST_YELLOW_S), LONGEST_YELLOW_S)


def red_clearance_s(width_m: float, speed_mps: float) -> float:
    """Time to leave a junction `width_m` wide after entering at the end of yellow, seconds."""
    return min((width_m + VEHICLE_LENGTH_M) / max(speed_mps, 1.0), LONGEST_RED_CLEARANCE_S)


@dataclass(frozen=True, slots=True)
class Timing:
    """One profile worked out for one network; arrays over groups, seconds.

    yellow_s, min_green_s, max_green_s, max_red_s: float (groups,).
    clearance_s: float (groups,), from the end of yellow until a conflicting green; with yellow it
                 is the intergreen, which in this model depends on the group that ends (whoever
                 clears the junction last decides).
    Times are rounded up to whole tenths.
    """

    profile: TimingProfile
    yellow_s: FloatArray
    clearance_s: FloatArray
    min_green_s: FloatArray
    max_green_s: FloatArray

    def intergreen_s(self, network: Network, junction: int) -> FloatArray:
        """Matrix (n, n) of a junction: end of green of row until start of green of column; 0 where
        no conflict.
        """
        j = network.junctions[junction]
        own = slice(j.first, j.end)
        return np.asarray((self.yellow_s[own] + self.clearance_s[own])[:, None] * j.conflicts)


def work_out(network: Network, profile: TimingProfile) -> Timing:
    """The timing of every signal group of `network` under `profile`."""
    n = len(network.groups)
    yellow = np.zeros(n)
    clearance = np.zeros(n)
    least = np.full(n, profile.min_green_s)
    most = np.full(n, profile.max_green_s)
    for i, group in enumerate(network.groups):
        links = [network.links[k] for k in group.links]
        if group.kind == Kind.PEDESTRIAN:
            clearance[i] = _up(max(x.length_m for x in links) / WALKING_MPS)
            least[i] = _up(max(profile.walk_s, profile.pedestrian_s - clearance[i]))
            most[i] = max(profile.max_green_s, least[i])
            continue
        approach = max(network.lanes[x.from_lane].speed_mps for x in links)
        yellow[i] = profile.yellow_s if profile.yellow_s is not None else _up(yellow_s(approach))
        clearance[i] = (
            profile.red_clearance_s
            if profile.red_clearance_s is not None
            else _up(
                max(
                    red_clearance_s(x.length_m, network.lanes[x.from_lane].speed_mps) for x in links
                )
            )
        )
    return Timing(profile, yellow, clearance, least, most)


def _up(value_s: float) -> float:
    return math.ceil(round(value_s * 10.0, 6)) / 10.0
