"""What was observed before one junction as queues for the planner's search, compiled.

Times are seconds from now.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from headway.control.planner_tables import NO_COLUMN, NO_LANE
from headway.control.queue_model import VEHICLE, Closed, LaneQueues, compiled, eta_s, inlined
from headway.roads import Colour
from headway.values import ColourArray, CountArray, FloatArray, IntArray

VEHICLE_SPACE_M = 7.5  # a vehicle in a queue, with the gap to the next one
STANDS_MPS = 1.0  # who goes slower inside a junction is stopped by somebody there
WAITED_FOR_S = 20.0  # who stands there for longer does not go with more time
QUEUED_MPS = 2.0  # a slower vehicle belongs to the queue that fills its lane
AT_STOP_LINE_M = 15.0  # the first two places of a queue: further back, something else is in the way
SETTLING_S = 3.0  # from the start of green until the first vehicle should have moved off
MIN_ROOM_SHARE = 0.6  # of its length, in a lane too short to have the room that a lane needs


class Traffic(NamedTuple):
    """What was observed. Vehicles as in `headway.values.Vehicles`; room_m: float (lanes,);
    waiting_persons: int (groups,), all of those at a crossing go at once; arrived: int (links,);
    unseen: float (groups,), vehicles that are expected to wait though nobody saw them.
    """

    lane: IntArray
    link: IntArray
    distance_m: FloatArray
    speed_mps: FloatArray
    waiting_s: FloatArray
    room_m: FloatArray
    waiting_persons: IntArray
    arrived: CountArray
    unseen: FloatArray


class SignalTimes(NamedTuple):
    """By group: the colour shown, for how long, and how long ago the last green ended."""

    colour: ColourArray
    shown_for_s: FloatArray
    ended_for_s: FloatArray


class Downstream(NamedTuple):
    """Behind the junctions, by lane.

    room_m:    float (lanes,), what is left; changed in place as vehicles are given their part.
    arriving:  float (lanes,), vehicles on their way over a junction to this lane.
    to_street: float (lanes,), at the first lane of each street: to all its lanes.
    """

    room_m: FloatArray
    arriving: FloatArray
    to_street: FloatArray


class Observed(NamedTuple):
    """The observation of one second. start, order: see `sort_by_lane`."""

    signals: SignalTimes
    traffic: Traffic
    downstream: Downstream
    start: IntArray
    order: IntArray


# the traffic of all junctions


@njit(cache=True)
def observe(tables, signals, traffic):  # type: ignore[no-untyped-def]
    """The observation, with its vehicles in the order of their lanes."""
    start, order = sort_by_lane(tables, traffic)
    arriving, to_street = count_arriving(tables, traffic.link)
    downstream = Downstream(traffic.room_m.copy(), arriving, to_street)
    return Observed(signals, traffic, downstream, start, order)


@njit(cache=True)
def fresh_downstream(observed):  # type: ignore[no-untyped-def]
    """The room behind the junctions before any vehicle was given its part."""
    downstream = observed.downstream
    room_m = observed.traffic.room_m.copy()
    return Downstream(room_m, downstream.arriving, downstream.to_street)


@njit(cache=True)
def vehicle_memory(traffic):  # type: ignore[no-untyped-def]
    """Room for the vehicles of any one junction, and those who wait: see `build_queues`."""
    return np.empty(len(traffic.lane) + 2 * len(traffic.waiting_persons), VEHICLE)


@njit(cache=True)
def sort_by_lane(tables, traffic):  # type: ignore[no-untyped-def]
    """(start, order): the vehicles of stop lane a, nearest first, are order[start[a]:start[a + 1]].

    Vehicles that do not go to a stop lane under a signal are left out; and, as the columns of one
    junction are none of another's, those whose link is not of their lane's junction.
    """
    vehicles = len(traffic.lane)
    lanes = len(tables.stop_lanes)
    place = np.full(vehicles, NO_LANE, np.int64)
    start = np.zeros(lanes + 1, np.int64)
    for v in range(vehicles):
        lane = traffic.lane[v]
        link = traffic.link[v]
        is_known = 0 <= lane < len(tables.lanes) and 0 <= link < len(tables.links)
        if not is_known or tables.links[link].group < 0:
            continue
        a = tables.lanes[lane].stop_lane
        if a != NO_LANE and tables.stop_lanes[a].junction == tables.links[link].junction:
            place[v] = a
            start[a + 1] += 1
    for a in range(lanes):
        start[a + 1] += start[a]

    # insertion sort: a lane has few vehicles, and those of equal distance stay in order
    end = start[:-1].copy()
    order = np.empty(vehicles, np.int64)
    for v in range(vehicles):
        a = place[v]
        if a == NO_LANE:
            continue
        k = end[a]
        while k > start[a] and traffic.distance_m[order[k - 1]] > traffic.distance_m[v]:
            order[k] = order[k - 1]
            k -= 1
        order[k] = v
        end[a] += 1
    return start, order


@njit(cache=True)
def count_arriving(tables, vehicle_links):  # type: ignore[no-untyped-def]
    """(arriving, to_street) of `Downstream`."""
    arriving = np.zeros(len(tables.lanes))
    to_street = np.zeros(len(tables.lanes))
    for link in vehicle_links:
        if 0 <= link < len(tables.links):
            lane = tables.links[link].to_lane
            arriving[lane] += 1.0
            to_street[tables.lanes[lane].street] += 1.0
    return arriving, to_street


# the queues of one junction


@njit(cache=True)
def build_queues(tables, model, junction, observed, memory):  # type: ignore[no-untyped-def]
    """The queues before one junction, lane by lane, then a lane for each crossing with waiting
    pedestrians, and one for each group at which vehicles are expected that nobody saw.

    memory: see `vehicle_memory`.
    """
    first_lane = np.int64(tables.junctions[junction].first_lane)
    end_lane = np.int64(tables.junctions[junction + 1].first_lane)
    first_group = tables.junctions[junction].first_group
    groups = tables.junctions[junction + 1].first_group - first_group
    lane_start = np.zeros(end_lane - first_lane + 2 * groups + 1, np.int64)
    lanes = end_lane - first_lane
    end = np.int64(0)

    for a in range(first_lane, end_lane):
        end = fill_lane(memory, end, tables, model, a, observed)
        lane_start[a - first_lane + 1] = end

    for g in range(first_group, first_group + groups):
        if observed.signals.colour[g] >= Colour.PERMISSIVE:
            continue
        persons = observed.traffic.waiting_persons[g]
        for weight in (model.person_weight * persons, observed.traffic.unseen[g]):
            if weight > 0.0:
                put_waiting(memory[end], weight, g - first_group)
                end += 1
                lanes += 1
                lane_start[lanes] = end

    return LaneQueues(lane_start[: lanes + 1], memory)


@compiled
def fill_lane(memory, end, tables, model, stop_lane, observed):  # type: ignore[no-untyped-def]
    """Put the vehicles of one stop lane, nearest first, into the records `memory` from place `end`
    on. Returns the new end.

    Takes their part of the room in short lanes behind the junction.
    """
    vehicles = observed.order[observed.start[stop_lane] : observed.start[stop_lane + 1]]
    if len(vehicles) == 0:
        return end
    traffic = observed.traffic
    weight = lane_weight(tables, model, stop_lane, vehicles, observed)
    for i in range(len(vehicles)):
        v = vehicles[i]
        link = tables.links[traffic.link[v]]
        if traffic.distance_m[v] < 0.0:
            is_waiting = traffic.speed_mps[v] < model.crawl_mps
            if is_waiting and link.inside_column != NO_COLUMN:
                put_inside(memory[end], tables, model, stop_lane, v, observed)
                end += 1
            continue

        limit_mps = tables.stop_lanes[stop_lane].limit_mps
        vehicle = memory[end]
        vehicle.eta_s = eta_s(
            traffic.distance_m[v], traffic.speed_mps[v], limit_mps, model.acceleration_mps2
        )
        vehicle.weight = weight
        vehicle.gap_s = link.crossing_s
        vehicle.column = link.column
        vehicle.closed = why_closed(tables, model, v, i == 0, observed)
        vehicle.stopped = traffic.speed_mps[v] < model.crawl_mps
        vehicle.may_wait_inside = link.inside_column != NO_COLUMN
        take_room(tables, model, link.to_lane, observed.downstream.room_m)
        end += 1
    return end


@inlined
def lane_weight(tables, model, stop_lane, vehicles, observed):  # type: ignore[no-untyped-def]
    """The weight of each vehicle of a lane: more from where its queue fills half of the lane, and
    the more, the more vehicles are kept out behind it. Not on the roads into the network: whom
    they keep out stands in the way of no junction (decision 38).
    """
    if not tables.stop_lanes[stop_lane].has_road_in:
        return 1.0
    tail_m = 0.0
    for v in vehicles:
        if observed.traffic.speed_mps[v] < QUEUED_MPS:
            tail_m = observed.traffic.distance_m[v] + VEHICLE_SPACE_M
    share = tail_m / tables.stop_lanes[stop_lane].length_m
    full = max(0.0, min(1.0, share * 2.0 - 1.0))
    arriving = observed.downstream.arriving[tables.stop_lanes[stop_lane].lane]
    return 1.0 + model.spillback_weight * full * (1.0 + arriving / len(vehicles))


@inlined
def put_inside(vehicle, tables, model, stop_lane, v, observed):  # type: ignore[no-untyped-def]
    """Fill the record of a vehicle v that waits inside the junction for a gap.

    It weighs more where the lane behind it is short.
    """
    traffic = observed.traffic
    link = tables.links[traffic.link[v]]
    lane = tables.stop_lanes[stop_lane]
    to_street = observed.downstream.to_street[tables.lanes[lane.lane].street]
    is_short = lane.length_m < model.short_lane_m
    kept_out = model.spillback_weight * (1.0 + to_street)
    impatience = traffic.waiting_s[v] / model.patience_s
    no_gap = traffic.waiting_s[v] > model.blocked_after_s
    vehicle.eta_s = 0.0
    vehicle.weight = 1.0 + (kept_out + impatience) * is_short
    vehicle.gap_s = link.crossing_s
    vehicle.column = link.inside_column
    vehicle.closed = Closed.NO_GAP if no_gap else Closed.OPEN
    vehicle.stopped = True
    vehicle.may_wait_inside = False


@inlined
def put_waiting(vehicle, weight, column):  # type: ignore[no-untyped-def]
    """Fill the record of those who wait at a signal, and go at once when it is green."""
    vehicle.eta_s = 0.0
    vehicle.weight = weight
    vehicle.gap_s = 0.0
    vehicle.column = column
    vehicle.closed = Closed.OPEN
    vehicle.stopped = True
    vehicle.may_wait_inside = False


@inlined
def why_closed(tables, model, v, is_first, observed):  # type: ignore[no-untyped-def]
    """Whether a green helps vehicle v: not one that is blocked, nor one whose exit is full."""
    traffic = observed.traffic
    signals = observed.signals
    link = traffic.link[v]
    group = tables.links[link].group
    exit_lane = tables.links[link].to_lane
    if is_full(tables, model, exit_lane, observed.downstream.room_m):
        is_short = tables.lanes[exit_lane].length_m < model.short_lane_m
        return Closed.BLOCKING if is_short else Closed.BLOCKED
    if not is_first or traffic.distance_m[v] >= AT_STOP_LINE_M:
        return Closed.OPEN

    # green, and yet it does not move: what blocks it is not the signal
    had_time = signals.shown_for_s[group] > model.blocked_after_s + SETTLING_S
    stands = traffic.waiting_s[v] > model.blocked_after_s
    if stands and had_time and signals.colour[group] == Colour.GREEN:
        return Closed.BLOCKED
    return Closed.NO_GAP if traffic.waiting_s[v] > model.patience_s else Closed.OPEN


@inlined
def is_full(tables, model, lane, room_m):  # type: ignore[no-untyped-def]
    """A lane behind a junction has no room for a vehicle."""
    return room_m[lane] < min(model.min_room_m, MIN_ROOM_SHARE * tables.lanes[lane].length_m)


@inlined
def take_room(tables, model, lane, room_m):  # type: ignore[no-untyped-def]
    """A vehicle takes its part of the room of a short lane, unless it is empty."""
    length_m = tables.lanes[lane].length_m
    if length_m < model.short_lane_m and room_m[lane] < length_m:
        room_m[lane] -= VEHICLE_SPACE_M


# whom no green may let in


@njit(cache=True)
def would_block(tables, model, observed):  # type: ignore[no-untyped-def]
    """bool (groups,): the first vehicle of each lane that waits for the group has a short lane
    ahead that is full. It would stop inside the junction, in the way of others.
    """
    traffic = observed.traffic
    blocks = np.zeros(len(tables.groups), np.bool_)
    if not is_any_short_lane_full(tables, model, traffic.room_m):
        return blocks  # as in most seconds
    may_pass = np.zeros(len(tables.groups), np.bool_)
    for a in range(len(tables.stop_lanes)):
        for i in range(observed.start[a], observed.start[a + 1]):
            v = observed.order[i]
            if traffic.distance_m[v] < 0.0:
                continue  # waits inside, and has a column of its own
            link = tables.links[traffic.link[v]]
            if is_short_and_full(tables, model, link.to_lane, traffic.room_m):
                blocks[link.group] = True
                break  # nobody behind it can pass
            may_pass[link.group] = True
    return blocks & ~may_pass


@njit(cache=True)
def bar_foes_of_those_inside(tables, observed, barred):  # type: ignore[no-untyped-def]
    """Set barred, bool (groups,), where a vehicle whose own green is over stands inside the
    junction in the way of the group. Traffic that meets it there can stop for good: each waits for
    the other (decision 34).
    """
    traffic = observed.traffic
    for j in range(len(tables.junctions) - 1):
        first, end = tables.junctions[j].first_group, tables.junctions[j + 1].first_group
        for a in range(tables.junctions[j].first_lane, tables.junctions[j + 1].first_lane):
            for i in range(observed.start[a], observed.start[a + 1]):
                v = observed.order[i]
                if traffic.distance_m[v] >= 0.0:
                    break  # nearest first
                stands = traffic.speed_mps[v] < STANDS_MPS
                link = tables.links[traffic.link[v]]
                is_over = observed.signals.colour[link.group] < Colour.PERMISSIVE
                if stands and is_over and traffic.waiting_s[v] < WAITED_FOR_S:
                    for g in range(first, end):
                        barred[g] |= tables.intergreen_s[g, link.column] > 0.0


@compiled
def is_any_short_lane_full(tables, model, room_m):  # type: ignore[no-untyped-def]
    is_any = False
    for lane in range(len(tables.lanes)):
        is_any |= is_short_and_full(tables, model, lane, room_m)
    return is_any


@compiled
def is_short_and_full(tables, model, lane, room_m):  # type: ignore[no-untyped-def]
    is_short = tables.lanes[lane].length_m < model.short_lane_m
    return is_short and is_full(tables, model, lane, room_m)
