"""Which rows of an observation can be true; the others are dropped before anybody decides."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from numba import njit

from headway.roads import Network
from headway.values import Observation, Vehicles

# A vehicle that waits inside a junction has passed its stop line: its distance is below zero.
NEAREST_M = -20.0
FARTHEST_M = 5000.0
FASTEST_MPS = 100.0
UNKNOWN = -1  # a lane or link that the source could not tell


def drop_implausible(observation: Observation, network: Network) -> Observation:
    """The observation without rows that cannot be true: not a number, a place that does not exist,
    a speed out of range.

    The share of dropped rows lowers the completeness of all junctions. An observation without
    implausible rows is returned as it is.
    """
    v = observation.vehicles
    plausible = plausible_rows(
        v.lane,
        v.link,
        v.distance_m,
        v.speed_mps,
        v.waiting_s,
        len(network.lanes),
        len(network.links),
    )
    if plausible.all():
        return observation
    kept = Vehicles(**{f.name: getattr(v, f.name)[plausible] for f in fields(Vehicles)})
    completeness = observation.completeness * float(plausible.mean())
    return replace(observation, vehicles=kept, completeness=completeness)


@njit(cache=True)
def plausible_rows(lane, link, distance_m, speed_mps, waiting_s, lanes, links):  # type: ignore[no-untyped-def]
    """(n,) bool: the row is within the bounds of this module. lanes, links: how many there are.

    NaN fails every comparison, and so is never plausible.
    """
    out = np.zeros(len(lane), np.bool_)
    for i in range(len(lane)):
        measured = NEAREST_M < distance_m[i] < FARTHEST_M and 0.0 <= speed_mps[i] < FASTEST_MPS
        placed = UNKNOWN <= lane[i] < lanes and UNKNOWN <= link[i] < links
        out[i] = measured and waiting_s[i] >= 0.0 and placed
    return out
