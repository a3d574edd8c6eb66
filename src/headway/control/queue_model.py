"""The planner's model of one junction, compiled: lanes as first-in-first-out queues that stages
discharge.

Times are seconds from now. A *column* of a stage is a signal group, or the vehicles of one that
wait inside the junction for a gap. Costs are seconds of delay, weighted by vehicle.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, cast

import numpy as np
from numba import njit

from headway.roads import Colour
from headway.values import ColourArray, FloatArray, IntArray

# Rows of `Progress`. A literal number as argument would compile each function once more.
NOW = np.int64(0)
HELD = np.int64(1)
ROLLOUT_A = np.int64(2)
ROLLOUT_B = np.int64(3)
ROWS = 4

NO_VEHICLE = -1
NEVER_S = np.inf
LONG_AGO_S = -np.inf
# Marks a lane whose new first vehicle has no departure time yet.
NOT_WORKED_OUT_S = -np.inf

MAX_STEPS = 2000  # of one stage; more than there are vehicles and gaps, against an endless loop
INSIDE_LEAVES_S = 2.0  # who waits inside leaves in the yellow, so long after the end of green
AFTER_LAST_S = 0.1  # a stage is cleared a moment after its last vehicle, so that this one is served
PERMISSIVE_WORTH = 0.3  # of the waiting time that a protected green serves, in ranking stages


# For functions that make no arrays: without counting of references, which at each call took most of
# the time of a decision (decision 14).
compiled = njit(cache=True, _nrt=False)  # type: ignore[call-overload]
inlined = njit(cache=True, _nrt=False, inline="always")  # type: ignore[call-overload]


class Closed(IntEnum):
    """Why a green does not help a vehicle. The order counts: each is worse than the one before."""

    OPEN = 0
    NO_GAP = 1  # a permissive green does not help
    BLOCKED = 2  # no green helps
    BLOCKING = 3  # a green does harm: the vehicle would block others


class Model(NamedTuple):
    """The figures of the model; how they were found stands in docs/decisions.

    horizon_s:          the plans are compared up to here.
    headway_s:          between two vehicles of a queue.
    startup_loss_s:     from the start of green to the first vehicle.
    end_gain_s:         after the end of green, in which vehicles still enter.
    stop_cost_s:        of having to stop, on top of the wait.
    crawl_mps:          below this speed a vehicle has stopped already.
    acceleration_mps2:  of a vehicle that drives up freely.
    follow_up_s:        between the last vehicle of a stream and one that gives way to it.
    platoon_gap_s:      a platoon has ended when no vehicle arrives for so long.
    look_ahead_s:       how far the choice of the stage after next looks.
    leftover_cost_s:    of each vehicle that has not left at the horizon.
    min_room_m:         a lane with less room is closed.
    short_lane_m:       in a lane shorter than this each vehicle takes its part of the room.
    blocked_after_s:    a vehicle that stands so long on green is blocked.
    patience_s:         a vehicle that stands so long finds no gap.
    spillback_weight:   that a vehicle gains when its queue fills a lane that other roads lead into,
        the more the more vehicles are kept out behind it.
    blocking_cost:      of a second of green for a link into a short lane that is full, seconds.
    person_weight:      of a pedestrian's wait beside a vehicle's.
    """

    horizon_s: float
    headway_s: float
    startup_loss_s: float
    end_gain_s: float
    stop_cost_s: float
    crawl_mps: float
    acceleration_mps2: float
    follow_up_s: float
    platoon_gap_s: float
    look_ahead_s: float
    leftover_cost_s: float
    min_room_m: float
    short_lane_m: float
    blocked_after_s: float
    patience_s: float
    spillback_weight: float
    blocking_cost: float
    person_weight: float


def record_type(**fields: type) -> np.dtype[np.record]:
    """A type for arrays of records whose fields are read by name, compiled or not."""
    fields_of = np.dtype(list(fields.items()), align=True)
    return cast("np.dtype[np.record]", np.dtype((np.record, fields_of)))


Records = np.ndarray[tuple[int, ...], np.dtype[np.record]]

# eta_s:           earliest arrival at the stop line.
# weight:          of its delay.
# gap_s:           that it needs in the traffic that it gives way to.
# column:          its place in a stage.
# closed:          `Closed`.
# stopped:         it stands or crawls.
# may_wait_inside: the junction has room in which it may wait for a gap.
VEHICLE = record_type(
    eta_s=np.float64,
    weight=np.float64,
    gap_s=np.float64,
    column=np.int64,
    closed=np.int8,
    stopped=np.bool_,
    may_wait_inside=np.bool_,
)


class LaneQueues(NamedTuple):
    """The vehicles of one junction, lane by lane, nearest first; those who wait on foot are one
    vehicle a crossing.

    start:   int (lanes + 1,), vehicles of lane k are start[k] to start[k + 1] - 1.
    vehicle: VEHICLE (vehicles,).
    """

    start: IntArray
    vehicle: Records


class Progress(NamedTuple):
    """How far the queues have been discharged; a row is a state of the search. Discharging reads
    one row and writes another.

    gone:   int (ROWS, lanes), vehicles that have left.
    last_s: float (ROWS, lanes), when the last one did.
    try_s:  float (2 * lanes,), scratch of `discharge_together`: when the first vehicle of each lane
        may go next, then when the one that waits inside may.
    inside: int (lanes,), scratch of the same: the vehicle that waits inside, or NO_VEHICLE.
    """

    gone: IntArray
    last_s: FloatArray
    try_s: FloatArray
    inside: IntArray


class StagePeriod(NamedTuple):
    """One stage shown from `begin_s` to `end_s`.

    colours:       int8 (columns,).
    opens_after_s: float (columns,), from `begin_s` until each turns green, LONG_AGO_S if it was
        green before.
    """

    colours: ColourArray
    opens_after_s: FloatArray
    begin_s: float
    end_s: float


MODEL_RECORD = record_type(**dict.fromkeys(Model._fields, np.float64))


def as_record(model: Model) -> np.record:
    """The model as the compiled code takes it: one value, not eighteen, at each call."""
    return cast("np.record", np.array([model], MODEL_RECORD)[0])


@njit(cache=True)
def no_progress(lanes):  # type: ignore[no-untyped-def]
    """No vehicle has left in row NOW; the other rows are to be written."""
    gone = np.empty((ROWS, lanes), np.int64)
    last_s = np.empty((ROWS, lanes))
    gone[0] = 0
    last_s[0] = LONG_AGO_S
    return Progress(gone, last_s, np.empty(2 * lanes), np.empty(lanes, np.int64))


# one vehicle


@compiled
def eta_s(distance_m, speed_mps, limit_mps, acceleration_mps2):  # type: ignore[no-untyped-def]
    """Seconds to the stop line from `speed_mps`, accelerating to `limit_mps`."""
    left_m = max(distance_m, 0.0)
    speed = min(speed_mps, limit_mps)
    top = min(np.sqrt(speed * speed + 2.0 * acceleration_mps2 * left_m), limit_mps)
    accelerating_m = (top * top - speed * speed) / (2.0 * acceleration_mps2)
    return (top - speed) / acceleration_mps2 + (left_m - accelerating_m) / limit_mps


@inlined
def delay_cost(vehicle, leaves_s, model):  # type: ignore[no-untyped-def]
    """What it costs that a vehicle leaves at `leaves_s`: its wait, and a stop if it still moves."""
    wait_s = leaves_s - vehicle.eta_s
    if vehicle.stopped:
        return vehicle.weight * wait_s
    return vehicle.weight * (wait_s + min(wait_s, model.stop_cost_s))


@inlined
def may_go(vehicle, colour):  # type: ignore[no-untyped-def]
    """`colour`, that of the vehicle's column, is a green that helps it."""
    if colour == Colour.GREEN:
        return vehicle.closed <= Closed.NO_GAP
    return colour == Colour.PERMISSIVE and vehicle.closed == Closed.OPEN


@inlined
def opening_s(period, column):  # type: ignore[no-untyped-def]
    """When `column` turns green in `period`; LONG_AGO_S if it was green before."""
    return period.begin_s + period.opens_after_s[column]


@inlined
def earliest_s(vehicle, last_s, period, model):  # type: ignore[no-untyped-def]
    """When a vehicle may enter: it is there, a headway behind the one before, and its column has
    been green for long enough.
    """
    return max(
        vehicle.eta_s,
        last_s + model.headway_s,
        period.begin_s,
        opening_s(period, vehicle.column) + model.startup_loss_s,
    )


# one stage


@compiled
def stage_cost(queues, yields, period, progress, source, target, model):  # type: ignore[no-untyped-def]
    """Discharge all lanes during `period`, from row `source` to row `target`; returns the cost of
    the vehicles that leave.

    yields: bool (columns, columns), the row gives way to the column.
    """
    if has_permissive_traffic(queues, period, progress, source):
        return discharge_together(queues, yields, period, progress, source, target, model)
    cost = 0.0
    for lane in range(len(queues.start) - 1):
        cost += discharge_lane(queues, lane, period, progress, source, target, model)
    return cost


@inlined
def has_permissive_traffic(queues, period, progress, source):  # type: ignore[no-untyped-def]
    """A vehicle that is reached in `period` has a permissive green."""
    for lane in range(len(queues.start) - 1):
        for v in range(queues.start[lane] + progress.gone[source, lane], queues.start[lane + 1]):
            vehicle = queues.vehicle[v]
            colour = period.colours[vehicle.column]
            if colour < Colour.PERMISSIVE or vehicle.eta_s > period.end_s:
                break
            if colour == Colour.PERMISSIVE:
                return True
    return False


@inlined
def discharge_lane(queues, lane, period, progress, source, target, model):  # type: ignore[no-untyped-def]
    """Discharge one lane whose greens are all protected; returns the cost of those who leave."""
    v = queues.start[lane] + progress.gone[source, lane]
    last_s = progress.last_s[source, lane]
    cost = 0.0
    while v < queues.start[lane + 1]:
        vehicle = queues.vehicle[v]
        if not may_go(vehicle, period.colours[vehicle.column]):
            break
        leaves_s = earliest_s(vehicle, last_s, period, model)
        if leaves_s > period.end_s + model.end_gain_s:
            break
        cost += delay_cost(vehicle, leaves_s, model)
        last_s = leaves_s
        v += 1
    progress.gone[target, lane] = v - queues.start[lane]
    progress.last_s[target, lane] = last_s
    return cost


@inlined
def discharge_together(queues, yields, period, progress, source, target, model):  # type: ignore[no-untyped-def]
    """Discharge all lanes in order of time, where some green is permissive.

    A vehicle with a permissive green waits for a gap in the traffic that it gives way to. Where the
    junction has room for one that waits inside, it does not hold up those behind it, and leaves at
    the end of the green at the latest.
    """
    lanes = len(queues.start) - 1
    copy_progress(progress, source, target)
    cost = 0.0
    for _ in range(MAX_STEPS):
        # the vehicle that may go soonest, at a stop line or inside
        work_out_tries(queues, period, progress, target, model)
        place = np.argmin(progress.try_s)
        now_s = progress.try_s[place]
        if now_s > period.end_s + model.end_gain_s:
            break
        lane = place % lanes
        is_inside = place >= lanes
        first = queues.start[lane] + progress.gone[target, lane]
        v = progress.inside[lane] if is_inside else first

        gap_at_s = now_s
        if period.colours[queues.vehicle[v].column] == Colour.PERMISSIVE:
            gap_at_s = next_gap_s(
                queues, v, lane, now_s, yields, period, progress, source, target, model
            )
        if gap_at_s > now_s:
            # it waits where it is, or moves up into the junction
            may_move_up = queues.vehicle[v].may_wait_inside and progress.inside[lane] == NO_VEHICLE
            if may_move_up:
                progress.inside[lane] = v
                leave_stop_line(progress, target, lane, now_s)
            progress.try_s[lanes + lane if may_move_up else place] = gap_at_s
            continue

        # it leaves
        cost += delay_cost(queues.vehicle[v], now_s, model)
        if is_inside:
            progress.inside[lane] = NO_VEHICLE
            progress.try_s[place] = NEVER_S
        else:
            leave_stop_line(progress, target, lane, now_s)

    for v in progress.inside:
        if v != NO_VEHICLE:
            cost += delay_cost(queues.vehicle[v], period.end_s + INSIDE_LEAVES_S, model)
    return cost


@inlined
def copy_progress(progress, source, target):  # type: ignore[no-untyped-def]
    """Row `target` begins as row `source`, with no vehicle inside and no time worked out."""
    lanes = len(progress.inside)
    for lane in range(lanes):
        progress.gone[target, lane] = progress.gone[source, lane]
        progress.last_s[target, lane] = progress.last_s[source, lane]
        progress.try_s[lane] = NOT_WORKED_OUT_S
        progress.try_s[lanes + lane] = NEVER_S
        progress.inside[lane] = NO_VEHICLE


@inlined
def leave_stop_line(progress, row, lane, now_s):  # type: ignore[no-untyped-def]
    """The first vehicle of a lane drives on; the next one's try is not worked out yet."""
    progress.gone[row, lane] += 1
    progress.last_s[row, lane] = now_s
    progress.try_s[lane] = NOT_WORKED_OUT_S


@inlined
def work_out_tries(queues, period, progress, row, model):  # type: ignore[no-untyped-def]
    """Fill in when the first vehicle of each lane may go, where that has not been worked out."""
    for lane in range(len(queues.start) - 1):
        if progress.try_s[lane] != NOT_WORKED_OUT_S:
            continue
        progress.try_s[lane] = NEVER_S
        v = queues.start[lane] + progress.gone[row, lane]
        if v == queues.start[lane + 1]:
            continue
        vehicle = queues.vehicle[v]
        if may_go(vehicle, period.colours[vehicle.column]):
            last_s = progress.last_s[row, lane]
            progress.try_s[lane] = earliest_s(vehicle, last_s, period, model)


@inlined
def next_gap_s(queues, v, own_lane, now_s, yields, period, progress, source, target, model):  # type: ignore[no-untyped-def]
    """When the traffic that vehicle v of `own_lane` gives way to next leaves it a gap; not after
    `now_s` if it may go at once.
    """
    vehicle = queues.vehicle[v]
    gives_way_to = yields[vehicle.column]
    gap_at_s = LONG_AGO_S
    for lane in range(len(queues.start) - 1):
        if lane == own_lane:
            continue
        first = queues.start[lane] + progress.gone[target, lane]
        if first < queues.start[lane + 1]:
            other = queues.vehicle[first]
            protected = period.colours[other.column] == Colour.GREEN
            if protected and gives_way_to[other.column]:
                # a vehicle that is blocked on green still has right of way
                if other.closed >= Closed.BLOCKED:
                    return NEVER_S
                if progress.try_s[lane] < now_s + vehicle.gap_s:
                    gap_at_s = max(gap_at_s, progress.try_s[lane] + model.follow_up_s)
        has_left = progress.gone[target, lane] > progress.gone[source, lane]
        if has_left and gives_way_to[queues.vehicle[first - 1].column]:
            gap_at_s = max(gap_at_s, progress.last_s[target, lane] + model.follow_up_s)
    return gap_at_s


# what is left


@inlined
def cost_so_far(queues, progress, row, at_s):  # type: ignore[no-untyped-def]
    """A lower bound of what the vehicles that have not left cost, by their wait up to `at_s`."""
    cost = 0.0
    for lane in range(len(queues.start) - 1):
        for v in range(queues.start[lane] + progress.gone[row, lane], queues.start[lane + 1]):
            vehicle = queues.vehicle[v]
            if vehicle.eta_s >= at_s:
                break
            cost += vehicle.weight * (at_s - vehicle.eta_s)
    return cost


@inlined
def cost_left(queues, progress, row, model):  # type: ignore[no-untyped-def]
    """What the vehicles cost that have not left at the horizon."""
    cost = 0.0
    for lane in range(len(queues.start) - 1):
        for v in range(queues.start[lane] + progress.gone[row, lane], queues.start[lane + 1]):
            vehicle = queues.vehicle[v]
            if vehicle.eta_s >= model.horizon_s:
                break
            leftover = vehicle.weight * model.leftover_cost_s
            cost += delay_cost(vehicle, model.horizon_s, model) + leftover
    return cost


@inlined
def clear_time_s(queues, progress, row, period, min_green_s, model):  # type: ignore[no-untyped-def]
    """When the queues and platoons of a stage have passed, not before its minimum green; the end of
    `period` does not count.
    """
    until_s = period.begin_s
    for column in range(len(period.colours)):
        if period.colours[column] >= Colour.PERMISSIVE:
            until_s = max(until_s, opening_s(period, column) + min_green_s[column])

    for lane in range(len(queues.start) - 1):
        last_s = progress.last_s[row, lane]
        is_served = False
        for v in range(queues.start[lane] + progress.gone[row, lane], queues.start[lane + 1]):
            vehicle = queues.vehicle[v]
            protected = period.colours[vehicle.column] == Colour.GREEN
            if not protected or vehicle.closed >= Closed.BLOCKED:
                break
            leaves_s = earliest_s(vehicle, last_s, period, model)
            platoon_end_s = last_s if is_served else until_s
            if vehicle.eta_s > platoon_end_s + model.platoon_gap_s or leaves_s > model.horizon_s:
                break
            last_s = leaves_s
            is_served = True
        if is_served:
            until_s = max(until_s, last_s + AFTER_LAST_S)
    return until_s


@inlined
def best_next(queues, progress, row, stage, stages, at_s, model):  # type: ignore[no-untyped-def]
    """The stage other than `stage` that would serve most waiting time at `at_s`.

    stages: int8 (stages, columns).
    """
    found = stage
    most_s = -np.inf
    for s in range(len(stages)):
        if s == stage:
            continue
        served_s = waiting_served_s(queues, progress, row, stages[s], at_s, model)
        if served_s > most_s:
            most_s = served_s
            found = s
    return found


@inlined
def waiting_served_s(queues, progress, row, colours, at_s, model):  # type: ignore[no-untyped-def]
    """Weightless waiting time, up to a little after `at_s`, of the vehicles that may go."""
    until_s = at_s + model.look_ahead_s
    served_s = 0.0
    for lane in range(len(queues.start) - 1):
        for v in range(queues.start[lane] + progress.gone[row, lane], queues.start[lane + 1]):
            vehicle = queues.vehicle[v]
            colour = colours[vehicle.column]
            if vehicle.eta_s >= until_s or not may_go(vehicle, colour):
                break
            share = 1.0 if colour == Colour.GREEN else PERMISSIVE_WORTH
            served_s += (until_s - vehicle.eta_s) * share
    return served_s


@njit(cache=True)
def served_now_s(queues, stages, model):  # type: ignore[no-untyped-def]
    """(stages,): what `best_next` compares, of each of the stages (stages, columns) now."""
    progress = no_progress(len(queues.start) - 1)
    served_s = np.empty(len(stages))
    for s in range(len(stages)):
        served_s[s] = waiting_served_s(queues, progress, NOW, stages[s], 0.0, model)
    return served_s
