"""Lanes whose detection has fallen silent, and the traffic that is presumed there.

A dead detector or camera reports what an empty lane reports. A lane counts as silent where by its
own flow SILENT_VEHICLES would have come since the last one, and where nobody has been there for
much longer than ever of late, or for half an hour. Until somebody is seen there again it is
presumed to have that flow, and its queue to pass at green: it calls and is served, as a detector on
recall is (FHWA, Traffic Signal Timing Manual, FHWA-HOP-08-024, chapter 5). See decision 26.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np

from headway.control.queue_model import Records, compiled, record_type
from headway.plants.sumo.loops import SPACING_M
from headway.roads import GO, Network
from headway.street.external.views import FIRST_M, HEADWAY_S
from headway.values import CountArray, FloatArray, Observation, Vehicles

SILENT_VEHICLES = 20.0
SILENT_GAPS = 3.0  # as long as the longest gap of late: some flows come in bursts
LEAST_SILENT_S = 300.0
LEAST_COUNTED = 20.0  # vehicles before the silence of a lane says anything
FLOW_OVER_S = 300.0  # a flow that was counted for a shorter time is taken for lower than it was
MEMORY_S = 1800.0  # the flow is that of the last half hour
MIN_COMPLETENESS = 0.5  # a junction of which less is measured is not silent but unknown
DISCHARGE_PER_S = 1.0 / HEADWAY_S  # of a queue at green: no lane has a larger flow
MOST_PRESUMED = 10  # vehicles in a lane
LONGEST_TICK_S = 10.0  # twice the longest; of more between two observations nothing is known
NO_JUNCTION = -1

# Of one lane. junction: to whose signals it leads, or NO_JUNCTION. seen_s: when somebody was there
# last; counted, span_s: vehicles up to then, and the time in which they came; gap_s: the longest
# without any, up to where it counted as silence; these fade. flow: vehicles a second, while nobody
# is seen. queue: presumed vehicles; due: that came since the observation before, and the part of
# one that is on its way; most: for which there is room. served_s: when a part of it was last green.
# silent_s: how long the silence had lasted when it began to count, or was over. is_new: it became
# silent, or not, with the last observation.
LANE = record_type(
    junction=np.int64,
    most=np.float64,
    seen_s=np.float64,
    counted=np.float64,
    span_s=np.float64,
    gap_s=np.float64,
    flow=np.float64,
    queue=np.float64,
    served_s=np.float64,
    due=np.float64,
    silent_s=np.float64,
    is_seen=np.bool_,
    is_silent=np.bool_,
    is_new=np.bool_,
)
# Of one link. counted: its vehicles so far, which say who of its lane goes where.
LINK = record_type(lane=np.int64, group=np.int64, counted=np.float64)


VehicleRow = tuple[int, int, float, float, float, float, bool]
"""One vehicle, in the order of the columns of `Vehicles`."""


class Change(NamedTuple):
    """A lane fell silent, or is heard again. flow_per_h: vehicles that it had. silent_s: how long
    nobody had been seen there.
    """

    junction: int
    lane: str
    silent: bool
    flow_per_h: float
    silent_s: float


class SilenceDetector:
    """Of all lanes of a network that lead to a signal.

    lanes: LANE (lanes,); links: LINK (links,); both changed in place.
    """

    def __init__(self, network: Network, at_s: float) -> None:
        self._network = network
        self.at_s = at_s
        self.links = np.zeros(len(network.links), LINK)
        self.lanes = np.zeros(len(network.lanes), LANE)
        self.lanes["junction"] = network.lane_junction
        self.lanes["seen_s"] = self.lanes["served_s"] = at_s
        self.lanes["most"] = [
            min(max(lane.length_m // SPACING_M, 1.0), MOST_PRESUMED) for lane in network.lanes
        ]
        for k, link in enumerate(network.links):
            self.links[k].lane = link.from_lane
            self.links[k].group = link.group

    def update(self, observation: Observation) -> list[Change]:
        """What changed with this observation, of a street whose vehicles do not report themselves:
        where they do, an empty lane is empty.
        """
        elapsed_s = observation.at_s - self.at_s
        self.at_s = observation.at_s
        if not 0.0 <= elapsed_s <= LONGEST_TICK_S:  # nobody measured, or the clock was set
            self._shift_clock(elapsed_s)
            elapsed_s = 0.0
        is_any_new = listen(
            self.at_s,
            elapsed_s,
            np.ascontiguousarray(observation.vehicles.lane, np.int32),
            np.ascontiguousarray(observation.arrived, np.int64),
            np.ascontiguousarray(observation.shown, np.int8),
            np.ascontiguousarray(observation.completeness, np.float64),
            self.lanes,
            self.links,
        )
        if not is_any_new:
            return []
        return [self._change(lane) for lane in np.flatnonzero(self.lanes["is_new"]).tolist()]

    def _shift_clock(self, by_s: float) -> None:
        """That much time is not of this detector: everything is as it was before."""
        self.lanes["seen_s"] += by_s
        self.lanes["served_s"] += by_s

    def _change(self, lane: int) -> Change:
        own = self.lanes[lane]
        return Change(
            junction=int(own["junction"]),
            lane=self._network.lanes[lane].id,
            silent=bool(own["is_silent"]),
            flow_per_h=round(float(own["flow"]) * 3600.0, 1),
            silent_s=round(float(own["silent_s"]), 1),
        )

    def filled(self, observation: Observation) -> Observation:
        """The observation with the traffic that is presumed on silent lanes, which lowers the
        completeness of their junctions by its share; as it is where no lane is silent.
        """
        silent = np.flatnonzero(self.lanes["is_silent"])
        if not len(silent):
            return observation
        rows = [row for lane in silent.tolist() for row in self._presumed(lane)]
        return replace(
            with_vehicles(observation, rows),
            arrived=observation.arrived + self._arrivals(silent.tolist()),
            completeness=observation.completeness * self._measured_share(),
        )

    def flow_veh_per_s(self) -> FloatArray:
        """(lanes,): vehicles that were seen, of late or over FLOW_OVER_S at least."""
        return np.asarray(self.lanes["counted"] / np.maximum(self.lanes["span_s"], FLOW_OVER_S))

    def _arrivals(self, silent: list[int]) -> CountArray:
        """(links,): vehicles that are presumed to have come since the observation before."""
        arrived = np.zeros(len(self.links), np.int64)
        for lane in silent:
            np.add.at(arrived, self._links_of(lane, int(self.lanes[lane]["due"])), 1)
        return arrived

    def _presumed(self, lane: int) -> list[VehicleRow]:
        """The vehicles of a silent lane, in the order of the columns of `Vehicles`."""
        own = self.lanes[lane]
        waited_s = max(self.at_s - float(own["served_s"]), 0.0)
        links = self._links_of(lane, int(min(own["queue"], own["most"])))
        return [
            (lane, link, FIRST_M + SPACING_M * i, 0.0, waited_s, SPACING_M, False)
            for i, link in enumerate(links)
        ]

    def _links_of(self, lane: int, vehicles: int) -> list[int]:
        """Where they go: as those did that were counted."""
        links = np.flatnonzero(self.links["lane"] == lane)
        share = self.links["counted"][links]
        share = share / share.sum() if share.sum() > 0.0 else np.full(len(links), 1 / len(links))
        due = np.zeros(len(links))
        found = []
        for _ in range(vehicles):
            due += share
            first = int(np.argmax(due))
            due[first] -= 1.0
            found.append(int(links[first]))
        return found

    def _measured_share(self) -> FloatArray:
        """(junctions,): the share of the flow that is on lanes which are not silent."""
        own = self.lanes[self.lanes["junction"] != NO_JUNCTION]
        flow = np.where(
            own["is_silent"], own["flow"], own["counted"] / np.maximum(own["span_s"], 1.0)
        ).clip(max=DISCHARGE_PER_S)
        total = np.bincount(own["junction"], flow, len(self._network.junctions))
        lost = np.bincount(own["junction"], flow * own["is_silent"], len(self._network.junctions))
        return 1.0 - lost / np.maximum(total, 1e-9)

    def state(self) -> dict[str, Records]:
        """What a checkpoint keeps."""
        return {"lanes": self.lanes.copy(), "links": self.links.copy()}

    def resume(self, state: dict[str, Records], at_s: float) -> None:
        """Go on from the state of another detector; one of another network is not used."""
        if all(state[name].shape == getattr(self, name).shape for name in ("lanes", "links")):
            self.lanes[:], self.links[:] = state["lanes"], state["links"]
            self.at_s = at_s


def with_vehicles(observation: Observation, rows: Sequence[VehicleRow]) -> Observation:
    """The observation with more vehicles, behind those that it has."""
    columns = zip(*rows, strict=True) if rows else [()] * len(fields(Vehicles))
    own = observation.vehicles
    joined = {
        f.name: np.append(getattr(own, f.name), np.array(column, getattr(own, f.name).dtype))
        for f, column in zip(fields(Vehicles), columns, strict=True)
    }
    return replace(observation, vehicles=Vehicles(**joined))


@compiled
def listen(now_s, elapsed_s, vehicle_lanes, arrived, shown, completeness, lanes, links):  # type: ignore[no-untyped-def]
    """Bring up to date which lanes are silent, and what is presumed there. Returns whether any
    changed. vehicle_lanes: int (vehicles,). arrived: (links,). shown: (groups,).
    """
    for lane in range(len(lanes)):
        lanes[lane].is_seen = False
    for v in range(len(vehicle_lanes)):
        if 0 <= vehicle_lanes[v] < len(lanes):
            lanes[vehicle_lanes[v]].is_seen = True
    for k in range(len(links)):
        if arrived[k] > 0:
            links[k].counted += arrived[k]
            lanes[links[k].lane].counted += arrived[k]
            lanes[links[k].lane].is_seen = True

    is_any_new = False
    for lane in range(len(lanes)):
        own = lanes[lane]
        if own.junction == NO_JUNCTION:
            continue
        own.is_new = False
        if own.is_seen:
            hear(own, now_s)
        elif not completeness[own.junction] >= MIN_COMPLETENESS:
            own.seen_s += elapsed_s  # nothing is known of it in this time
        else:
            note_silence(own, now_s)
        is_any_new |= own.is_new
    serve(now_s, elapsed_s, shown, lanes, links)
    return is_any_new


@compiled
def hear(lane, now_s):  # type: ignore[no-untyped-def]
    """Somebody is there. The time since the last one belongs to the flow, unless it was dead."""
    if lane.is_silent:
        lane.silent_s = now_s - lane.seen_s
        lane.is_silent = False
        lane.is_new = True
    else:
        gap_s = now_s - lane.seen_s
        fading = np.exp(-gap_s / MEMORY_S)
        lane.gap_s = max(lane.gap_s * fading, gap_s)
        lane.counted *= fading
        lane.span_s = lane.span_s * fading + gap_s
    lane.flow = 0.0
    lane.queue = 0.0
    lane.due = 0.0
    lane.seen_s = now_s


@compiled
def note_silence(lane, now_s):  # type: ignore[no-untyped-def]
    """Nobody is there."""
    if lane.is_silent or lane.counted < LEAST_COUNTED:
        return
    lane.flow = min(lane.counted / max(lane.span_s, 1.0), DISCHARGE_PER_S)
    silent_s = now_s - lane.seen_s
    is_missed = lane.flow * silent_s >= SILENT_VEHICLES
    if is_missed and silent_s >= min(max(SILENT_GAPS * lane.gap_s, LEAST_SILENT_S), MEMORY_S):
        lane.gap_s = silent_s  # if it is a gap after all, a longer one may be, too
        lane.silent_s = silent_s
        lane.is_silent = True
        lane.is_new = True


@compiled
def serve(now_s, elapsed_s, shown, lanes, links):  # type: ignore[no-untyped-def]
    """What is presumed comes, and passes where a part of its lane is green."""
    for k in range(len(links)):
        if links[k].group >= 0 and shown[links[k].group] >= GO:
            lanes[links[k].lane].served_s = now_s
    for lane in range(len(lanes)):
        own = lanes[lane]
        passed = DISCHARGE_PER_S * elapsed_s if own.served_s == now_s else 0.0
        own.queue = min(max(own.queue + own.flow * elapsed_s - passed, 0.0), own.most)
        own.due -= np.floor(own.due)  # those are in the observation before
        own.due += own.flow * elapsed_s if own.is_silent else 0.0
