"""Congestion, found in the loop: queues that fill the approach they stand on.

The measure is the queue storage ratio (Highway Capacity Manual, 6th edition, chapter 31): length of
the queue over the length that there is for it, here of the fullest lane of an approach. Near 1 the
queue spills back over the junction upstream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from headway.roads import Network
from headway.values import BoolArray, FloatArray, IntArray, Observation

# Slower than this a vehicle belongs to the queue: 5 mph, as in the Highway Capacity Manual.
QUEUED_BELOW_MPS = 2.2
EPS_S = 1e-6  # of simulated times that are sums of ticks
GAP_M = 2.5  # in front of a queued vehicle; SUMO's minGap


class CongestionLimits(NamedTuple):
    """begin, end: storage ratios at which congestion begins, and below which it ends. for_s,
    clear_s: how long each has to last, seconds; the second is about a cycle, as short approaches
    empty and fill within each.
    """

    begin: float = 0.9
    end: float = 0.6
    for_s: float = 10.0
    clear_s: float = 60.0


class Change(NamedTuple):
    """Congestion of an approach began or ended. storage: its ratio now. lasted_s: how long there
    was congestion, or none.
    """

    junction: int
    approach: str
    began: bool
    storage: float
    lasted_s: float


class Approaches(NamedTuple):
    """What is known of the approaches; changed in place.

    storage:    float (approaches,), ratio of the fullest lane.
    since_s:    float (approaches,), since when the ratio is beyond the limit that it has to pass
        for a change; infinite while it is not.
    congested:  bool (approaches,).
    changed_s:  float (approaches,), when that changed last.
    lasted_s:   float (approaches,), from the change before to that one.
    is_new:     bool (approaches,), it changed with the last observation.
    """

    storage: FloatArray
    since_s: FloatArray
    congested: BoolArray
    changed_s: FloatArray
    lasted_s: FloatArray
    is_new: BoolArray


class CongestionDetector:
    """Of all junctions of a network. An approach is an edge that leads to a signal of a junction.

    junction: int (approaches,); names: of the approaches; approach: int (lanes,), -1 for a lane of
        none.
    """

    def __init__(self, network: Network, limits: CongestionLimits | None = None) -> None:
        self.limits = limits or CongestionLimits()
        groups = network.group_junction
        found: dict[tuple[int, str], int] = {}
        self.approach = np.full(len(network.lanes), -1, np.int32)
        for link in network.links:
            if link.group >= 0:
                key = (int(groups[link.group]), network.lanes[link.from_lane].edge)
                self.approach[link.from_lane] = found.setdefault(key, len(found))
        self.junction: IntArray = np.array([j for j, _ in found], np.int32)
        self.names = tuple(edge for _, edge in found)
        self._lane_length_m = np.array([lane.length_m for lane in network.lanes], np.float64)
        self._junctions = len(network.junctions)
        n = len(found)
        self.approaches = Approaches(
            storage=np.zeros(n),
            since_s=np.full(n, np.inf),
            congested=np.zeros(n, np.bool_),
            changed_s=np.zeros(n),
            lasted_s=np.zeros(n),
            is_new=np.zeros(n, np.bool_),
        )

    def update(self, observation: Observation) -> list[Change]:
        """What began and ended with this observation."""
        v = observation.vehicles
        fill_storage(
            np.ascontiguousarray(v.lane, np.int32),
            np.ascontiguousarray(v.distance_m, np.float64),
            np.ascontiguousarray(v.length_m, np.float64),
            np.ascontiguousarray(v.speed_mps, np.float64),
            self.approach,
            self._lane_length_m,
            self.approaches.storage,
        )
        if not find_changes(observation.at_s, self.approaches, self.limits):
            return []
        a = self.approaches
        return [
            Change(
                junction=int(self.junction[k]),
                approach=self.names[k],
                began=bool(a.congested[k]),
                storage=float(a.storage[k]),
                lasted_s=float(a.lasted_s[k]),
            )
            for k in np.flatnonzero(a.is_new).tolist()
        ]

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {name: array.copy() for name, array in self.approaches._asdict().items()}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of another detector; one of another network is not used."""
        if state["storage"].shape == self.approaches.storage.shape:
            for name, array in self.approaches._asdict().items():
                array[:] = state[name]

    def junctions(self) -> BoolArray:
        """(junctions,): some approach is congested."""
        found = np.zeros(self._junctions, np.bool_)
        found[self.junction[self.approaches.congested]] = True
        return found

    def of_junction(self, junction: int) -> tuple[str, ...]:
        """Names of its approaches that are congested now."""
        found = np.flatnonzero(self.approaches.congested & (self.junction == junction))
        return tuple(self.names[k] for k in found.tolist())


@njit(cache=True)
def fill_storage(lane, distance_m, length_m, speed_mps, approach, lane_length_m, storage):  # type: ignore[no-untyped-def]
    """Storage ratio of each approach, from its queued vehicles: (vehicles,) arrays, then (lanes,)
    ones.
    """
    storage[:] = 0.0
    for i in range(len(lane)):
        if lane[i] < 0 or not speed_mps[i] < QUEUED_BELOW_MPS:
            continue
        k = approach[lane[i]]
        if k >= 0:
            back_m = distance_m[i] + length_m[i] + GAP_M
            storage[k] = max(storage[k], min(back_m / lane_length_m[lane[i]], 1.0))


@njit(cache=True)
def find_changes(at_s, approaches, limits):  # type: ignore[no-untyped-def]
    """Bring up to date which approaches are congested. Returns whether any changed."""
    any_new = False
    for k in range(len(approaches.storage)):
        if approaches.congested[k]:
            beyond = approaches.storage[k] < limits.end
            lasts_s = limits.clear_s
        else:
            beyond = approaches.storage[k] >= limits.begin
            lasts_s = limits.for_s
        if not beyond:
            approaches.since_s[k] = np.inf
            approaches.is_new[k] = False
            continue
        approaches.since_s[k] = min(approaches.since_s[k], at_s)
        is_new = at_s - approaches.since_s[k] >= lasts_s - EPS_S
        approaches.is_new[k] = is_new
        if is_new:
            approaches.congested[k] = not approaches.congested[k]
            approaches.lasted_s[k] = at_s - approaches.changed_s[k]
            approaches.changed_s[k] = at_s
            approaches.since_s[k] = np.inf
            any_new = True
    return any_new
