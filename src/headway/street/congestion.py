"""Congestion, found in the loop: queues that fill the approach they stand on.

The measure is the queue storage ratio (Highway Capacity Manual, 6th edition, chapter 31): length of
the queue over the length that there is for it, here of the fullest lane of an approach. Near 1 the
queue spills back over the junction upstream.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headway.control.queue_model import Records, compiled, record_type
from headway.roads import Network
from headway.values import BoolArray, IntArray, Observation

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


# Of one approach. storage: ratio of its fullest lane; since_s: since when the ratio is beyond the
# limit that it has to pass for a change, infinite while it is not; congested; changed_s: when that
# changed last; lasted_s: from the change before to that one; is_new: it changed with the last
# observation.
APPROACH = record_type(
    storage=np.float64,
    since_s=np.float64,
    changed_s=np.float64,
    lasted_s=np.float64,
    congested=np.bool_,
    is_new=np.bool_,
)
# Of one lane. approach: its index, -1 for a lane of none.
LANE = record_type(approach=np.int64, length_m=np.float64)


class CongestionDetector:
    """Of all junctions of a network. An approach is an edge that leads to a signal of a junction.

    junction:   int (approaches,); names: of the approaches.
    approaches: APPROACH (approaches,), what is known of them; changed in place.
    lanes:      LANE (lanes,).
    """

    def __init__(self, network: Network, limits: CongestionLimits | None = None) -> None:
        self.limits = limits or CongestionLimits()
        groups = network.group_junction
        found: dict[tuple[int, str], int] = {}
        self.lanes = np.zeros(len(network.lanes), LANE)
        self.lanes["approach"] = -1
        self.lanes["length_m"] = [lane.length_m for lane in network.lanes]
        for link in network.links:
            if link.group >= 0:
                key = (int(groups[link.group]), network.lanes[link.from_lane].edge)
                self.lanes[link.from_lane].approach = found.setdefault(key, len(found))
        self.junction: IntArray = np.array([j for j, _ in found], np.int32)
        self.names = tuple(edge for _, edge in found)
        self._junctions = len(network.junctions)
        self.approaches = np.zeros(len(found), APPROACH)
        self.approaches["since_s"] = np.inf

    def update(self, observation: Observation) -> list[Change]:
        """What began and ended with this observation."""
        v = observation.vehicles
        is_any_new = find_changes(
            observation.at_s,
            np.ascontiguousarray(v.lane, np.int32),
            np.ascontiguousarray(v.distance_m, np.float64),
            np.ascontiguousarray(v.length_m, np.float64),
            np.ascontiguousarray(v.speed_mps, np.float64),
            self.lanes,
            self.approaches,
            self.limits,
        )
        if not is_any_new:
            return []
        return [
            Change(
                junction=int(self.junction[k]),
                approach=self.names[k],
                began=bool(self.approaches[k].congested),
                storage=float(self.approaches[k].storage),
                lasted_s=float(self.approaches[k].lasted_s),
            )
            for k in np.flatnonzero(self.approaches["is_new"]).tolist()
        ]

    def state(self) -> Records:
        """What a checkpoint keeps: `approaches`."""
        return self.approaches.copy()

    def resume(self, state: Records) -> None:
        """Go on from the state of another detector; one of another network is not used."""
        if state.shape == self.approaches.shape:
            self.approaches[:] = state

    def junctions(self) -> BoolArray:
        """(junctions,): some approach is congested."""
        found = np.zeros(self._junctions, np.bool_)
        found[self.junction[self.approaches["congested"]]] = True
        return found

    def of_junction(self, junction: int) -> tuple[str, ...]:
        """Names of its approaches that are congested now."""
        found = np.flatnonzero(self.approaches["congested"] & (self.junction == junction))
        return tuple(self.names[k] for k in found.tolist())


@compiled
def find_changes(at_s, lane, distance_m, length_m, speed_mps, lanes, approaches, limits):  # type: ignore[no-untyped-def]
    """Bring up to date which approaches are congested, from (vehicles,) arrays. Returns whether any
    changed.
    """
    fill_storage(lane, distance_m, length_m, speed_mps, lanes, approaches)
    is_any_new = False
    for k in range(len(approaches)):
        if is_changed(at_s, approaches[k], limits):
            is_any_new = True
    return is_any_new


@compiled
def fill_storage(lane, distance_m, length_m, speed_mps, lanes, approaches):  # type: ignore[no-untyped-def]
    """Storage ratio of each approach, from its queued vehicles."""
    for k in range(len(approaches)):
        approaches[k].storage = 0.0
    for i in range(len(lane)):
        if lane[i] < 0 or not speed_mps[i] < QUEUED_BELOW_MPS:
            continue
        own = lanes[lane[i]]
        if own.approach >= 0:
            ratio = min((distance_m[i] + length_m[i] + GAP_M) / own.length_m, 1.0)
            approach = approaches[own.approach]
            approach.storage = max(approach.storage, ratio)


@compiled
def is_changed(at_s, approach, limits):  # type: ignore[no-untyped-def]
    """Congestion of the approach begins or ends now."""
    if approach.congested:
        beyond = approach.storage < limits.end
        lasts_s = limits.clear_s
    else:
        beyond = approach.storage >= limits.begin
        lasts_s = limits.for_s
    approach.since_s = min(approach.since_s, at_s) if beyond else np.inf
    approach.is_new = beyond and at_s - approach.since_s >= lasts_s - EPS_S
    if approach.is_new:
        approach.congested = not approach.congested
        approach.lasted_s = at_s - approach.changed_s
        approach.changed_s = at_s
        approach.since_s = np.inf
    return approach.is_new
