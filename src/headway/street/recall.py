"""Signals that are red for long are called although nobody is seen there.

A camera misses vehicles, a loop loses counts, and a detector may be dead from the start. Who is not
seen calls nobody: while those who are seen keep another green, he stands for as long as they come.
So a group that has been red for RECALL_S is presumed to have one vehicle at its stop line, as a
controller does by recall where it cannot rely on a detector (FHWA, Traffic Signal Timing Manual,
FHWA-HOP-08-024, chapter 5). At a start all are called once, as after a power-up: nobody knows for
how long they have been red. See decision 33.

Long before that, where equipment is known to miss a share of all vehicles, so many of those that
came while a group was red are expected to wait there unseen. They call nobody: the planner weighs
them beside those that are seen. See decision 36.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headway.roads import Colour, Kind, Network
from headway.street.external.views import FIRST_M
from headway.street.silence import with_vehicles
from headway.values import FloatArray, Observation

RECALL_S = 180.0  # of red: more often costs others more than it spares whom nobody sees
LENGTH_M = 5.0


class Recall:
    """Of all signal groups of a network that vehicles obey."""

    def __init__(self, network: Network) -> None:
        self._links = np.full(len(network.groups), -1)  # the first one of each, -1 for pedestrians
        for g, group in enumerate(network.groups):
            if group.kind != Kind.PEDESTRIAN and group.links:
                self._links[g] = group.links[0]
        self._lanes = np.array([link.from_lane for link in network.links], np.int64)
        # (ways, 2): a group, and a lane whose flow goes by it; a like part by each of its groups
        ways = {
            (link.group, link.from_lane)
            for link in network.links
            if link.group >= 0 and self._links[link.group] >= 0
        }
        self._way = np.array(sorted(ways), np.int64).reshape(-1, 2)
        group_count = np.bincount(self._way[:, 1], minlength=len(network.lanes))
        self._part = 1.0 / group_count[self._way[:, 1]]

    def with_calls(self, observation: Observation, flow_veh_per_s: FloatArray) -> Observation:
        """The observation with a vehicle before each group that has been red for RECALL_S, and with
        those that are expected to wait unseen. flow_veh_per_s: float (lanes,), that is seen.
        """
        return self._with_late(self._with_unseen(observation, flow_veh_per_s))

    def _with_unseen(self, observation: Observation, flow_veh_per_s: FloatArray) -> Observation:
        missed = observation.missed_share
        if missed <= 0.0:
            return observation
        red_s = np.where(observation.shown == Colour.RED, observation.shown_for_s, 0.0)
        group, lane = self._way.T
        flow = np.bincount(group, flow_veh_per_s[lane] * self._part, minlength=len(red_s))
        came = np.asarray(flow * red_s, np.float64)
        return replace(observation, unseen=came * missed / (1.0 - missed))

    def _with_late(self, observation: Observation) -> Observation:
        is_late = (observation.shown == Colour.RED) & (observation.shown_for_s >= RECALL_S)
        late = np.flatnonzero(is_late & (self._links >= 0)).tolist()
        if not late:
            return observation
        rows = [
            (
                int(self._lanes[self._links[group]]),
                int(self._links[group]),
                FIRST_M,
                0.0,
                float(observation.shown_for_s[group]),
                LENGTH_M,
                False,
            )
            for group in late
        ]
        return replace(with_vehicles(observation, rows), recalled=len(rows))
