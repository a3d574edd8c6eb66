"""Timing profiles and the intergreen matrix.

Yellow: ITE's kinematic formula t + v / (2a + 2 g G) (Institute of Transportation Engineers,
    Guidelines for Determining
Traffic Signal Change and Clearance Intervals, 2020) with t = 1 s, a = 3.05 m/s2, bounded to 3..6 s.
Red clearance: (W + L) / v. Pedestrian clearance: crossing length at 1.07 m/s (MUTCD, 3.5 ft/s).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from headway.roads.network import FloatArray, Kind, Link, Network

REACTION_S = 1.0
DECELERATION_MPS2 = 3.05
VEHICLE_LENGTH_M = 6.0
WALKING_MPS = 1.07
SHORTEST_YELLOW_S = 3.0
LONGEST_YELLOW_S = 6.0
LONGEST_RED_CLEARANCE_S = 4.0
TIMES = 7  # arrays of a `Timing`


@dataclass(frozen=True, slots=True)
class TimingProfile:
    """The rules of time, in seconds; None for a fixed value means that it is computed from the
    geometry.

    pedestrian_s: walk and clearance together, at least. max_red_s: a group red for so long is
        served next.
    min_cycle_s, max_cycle_s: from one start of green to the next of the same group, while it has
        calls (docs/glossary.md: cycle). A start for an emergency vehicle need not wait for the
        minimum.
    least_yellow_s, least_red_clearance_s: no less than this where it is computed.
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
    max_cycle_s: float = math.inf
    least_yellow_s: float = 0.0
    least_red_clearance_s: float = 0.0

    def __post_init__(self) -> None:
        if not (self.min_green_s > 0 and self.min_cycle_s >= 0):
            raise ValueError(
                f"timing {self.name!r}: min_green_s {self.min_green_s:g} must be above 0, "
                f"min_cycle_s {self.min_cycle_s:g} not below"
            )
        if not self.min_green_s <= self.max_green_s:
            raise self._contradiction("min_green_s", "above", "max_green_s")
        for lower, upper in (
            ("min_green_s", "max_red_s"),
            ("min_cycle_s", "max_cycle_s"),
            ("min_green_s", "max_cycle_s"),
        ):
            if not getattr(self, lower) < getattr(self, upper):
                raise self._contradiction(lower, "not below", upper)
        if self.yellow_s is not None and self.yellow_s < 2.7:
            raise ValueError(
                f"timing {self.name!r}: yellow_s {self.yellow_s} is under the 2.7 s of NEMA TS 2"
            )
        if self.walk_s < 4.0:
            raise ValueError(f"timing {self.name!r}: walk_s {self.walk_s} is under 4 s")

    def _contradiction(self, lower: str, relation: str, upper: str) -> ValueError:
        """Each that is not given is that of the profile."""
        return ValueError(
            f"timing {self.name!r}: {lower} ({getattr(self, lower):g} s) is {relation} {upper} "
            f"({getattr(self, upper):g} s). Change one of the two"
        )


BENCHMARK = TimingProfile("benchmark", 5.0, 120.0, 150.0, 0.0, 3.0, 0.0, 7.0, 7.0)
STREET = TimingProfile("street", 10.0, 90.0, 110.0, 40.0, None, None, max_cycle_s=120.0)
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
    """A profile worked out for one network; arrays over groups, seconds.

    profile: of all junctions that have none of their own.
    yellow_s, min_green_s, max_green_s, max_red_s, min_cycle_s, max_cycle_s: float (groups,).
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
    max_red_s: FloatArray
    min_cycle_s: FloatArray
    max_cycle_s: FloatArray

    def intergreen_s(self, network: Network, junction: int) -> FloatArray:
        """Matrix (n, n) of a junction: end of green of row until start of green of column; 0 where
        no conflict.
        """
        j = network.junctions[junction]
        own = slice(j.first, j.end)
        return np.asarray((self.yellow_s[own] + self.clearance_s[own])[:, None] * j.conflicts)


def work_out(
    network: Network,
    profile: TimingProfile,
    own: Mapping[str, TimingProfile] | None = None,
) -> Timing:
    """The timing of every signal group of `network` under `profile`.

    own: other profiles, by name of the junction that has them. Raises ValueError for a junction
        that the network does not have.
    """
    own = own or {}
    names = [junction.id for junction in network.junctions]
    rules = {j: own[name] for j, name in enumerate(names) if name in own}
    if unknown := sorted(own.keys() - set(names)):
        raise ValueError(f"no junction {unknown[0]!r}. There are: {', '.join(names)}.")
    rows = []
    for group in network.groups:
        rule = rules.get(group.junction, profile)
        of_kind = _of_crossing if group.kind == Kind.PEDESTRIAN else _of_vehicles
        cycle = (rule.max_red_s, rule.min_cycle_s, rule.max_cycle_s)
        rows.append((*of_kind(network, [network.links[k] for k in group.links], rule), *cycle))
    return Timing(profile, *np.array(rows, np.float64).reshape(-1, TIMES).T.copy())


def _of_crossing(_: Network, links: list[Link], rule: TimingProfile) -> tuple[float, ...]:
    """(yellow, clearance, minimum green, maximum green) of a pedestrian crossing, seconds."""
    clearance = _up(max(x.length_m for x in links) / WALKING_MPS)
    least = _up(max(rule.walk_s, rule.pedestrian_s - clearance))
    return 0.0, clearance, least, max(rule.max_green_s, least)


def _of_vehicles(network: Network, links: list[Link], rule: TimingProfile) -> tuple[float, ...]:
    """(yellow, clearance, minimum green, maximum green) of vehicles, seconds."""
    speeds = [network.lanes[x.from_lane].speed_mps for x in links]
    yellow, clearance = rule.yellow_s, rule.red_clearance_s
    if yellow is None:
        yellow = max(_up(yellow_s(max(speeds))), rule.least_yellow_s)
    if clearance is None:
        longest = max(red_clearance_s(x.length_m, v) for x, v in zip(links, speeds, strict=True))
        clearance = max(_up(longest), rule.least_red_clearance_s)
    return yellow, clearance, rule.min_green_s, rule.max_green_s


def _up(value_s: float) -> float:
    return math.ceil(round(value_s * 10.0, 6)) / 10.0
