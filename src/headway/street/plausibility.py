"""Which rows of an observation can be true; the others are dropped before anybody decides."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from numba import njit

from headway.roads import Network
from headway.values import BoolArray, FloatArray, IntArray, Observation, Vehicles

# A vehicle that waits inside a junction has passed its stop line: its distance is below zero.
NEAREST_M = -20.0
FARTHEST_M = 5000.0
FASTEST_MPS = 100.0
NOWHERE = -1  # no junction
UNKNOWN = -1  # a lane or link that the source could not tell


def drop_implausible(observation: Observation, network: Network) -> Observation:
    """The observation without rows that cannot be true: not a number, a place that does not exist,
    a speed out of range.

    The share of dropped rows lowers the completeness of their junction, or of all, where a row is
    of no lane before a signal. An observation without implausible rows is returned as it is.
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
    completeness = observation.completeness * _share_kept(v.lane, plausible, network)
    return replace(observation, vehicles=kept, completeness=completeness)


def _share_kept(lane: IntArray, plausible: BoolArray, network: Network) -> FloatArray:
    """(junctions,): of the rows of each junction, times the share of all that is left without those
    of nowhere. lane, plausible: (n,), n at least 1.
    """
    junctions = len(network.junctions)
    is_known = (lane >= 0) & (lane < len(network.lanes))
    junction = np.where(is_known, network.lane_junction[lane * is_known], NOWHERE)
    is_placed = junction != NOWHERE
    rows = np.bincount(junction[is_placed], minlength=junctions)
    dropped = np.bincount(junction[is_placed & ~plausible], minlength=junctions)
    of_nowhere = float((~is_placed & ~plausible).mean())
    return (1.0 - dropped / np.maximum(rows, 1)) * (1.0 - of_nowhere)


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
