"""The planner's model of one junction, compiled: lanes as first-in-first-out queues that stages
discharge.

Times are seconds from now. A state of the search is a row of `ptr` (vehicles gone, by lane) and
`last` (when the last one left): discharging reads the row `src` and writes the row `dst`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from headway.roads import Colour

ROWS = 4
GREEN = int(Colour.GREEN)
PERMISSIVE = int(Colour.PERMISSIVE)
NOBODY = -1
NEVER_S = np.inf
# A lane whose next try is so has another first vehicle, whose time is not worked out yet.
NOT_WORKED_OUT_S = -np.inf
MAX_STEPS = 2000  # of one stage: more than there are vehicles and gaps, against an endless loop
INSIDE_LEAVES_S = 2.0  # who waits inside leaves in the yellow, so long after the end of green
AFTER_LAST_S = 0.1  # a stage is cleared a moment after its last vehicle, so that this one is served
PERMISSIVE_SHARE = 0.3  # of the waiting time that a protected green serves, in ranking stages


class Model(NamedTuple):
    """The figures of the model, in the order in which the compiled code finds them; seconds,
    metres, metres a second.

    headway, startup: between two vehicles of a queue; lost at its start. late: how long after the
        end of green one still goes.
    stop:             cost of having to stop, on top of the wait. crawl: below this speed a vehicle
        has stopped already.
    accel:            of a vehicle that drives up freely, m/s2.
    after:            between the last vehicle of a stream and one that gives way to it.
    gap:              a stream is taken to have ended when nobody comes for so long. ahead: how far
        the choice of the next stage looks.
    rest:             cost of each vehicle left over at the horizon.
    room, short:      a lane with less room is closed; in a lane shorter than this each vehicle
        takes its part of the room.
    stuck, give_up:   who stands so long on green is blocked; who stands so long finds no gap.
    spill:            weight that a vehicle gains when its queue fills the lane, the more the more
        are kept out behind it.
    harm:             cost of a second of green for a link into a short lane that is full.
    person:           weight of a pedestrian's wait beside a vehicle's.
    """

    horizon: float
    headway: float
    startup: float
    late: float
    stop: float
    crawl: float
    accel: float
    after: float
    gap: float
    ahead: float
    rest: float
    room: float
    short: float
    stuck: float
    give_up: float
    spill: float
    harm: float
    person: float


(
    HORIZON,
    HEADWAY,
    STARTUP,
    LATE,
    STOP,
    CRAWL,
    ACCEL,
    AFTER,
    GAP,
    AHEAD,
    REST,
    ROOM,
    SHORT,
    STUCK,
    GIVE_UP,
    SPILL,
    HARM,
    PERSON,
) = range(len(Model._fields))

# The vehicles of one junction, lane by lane, nearest first: columns vptr[k] to vptr[k + 1] - 1 of q
# are those of lane k. Rows of q:
# earliest arrival at the stop line; column of the stages (signal group, or place inside); 1 if it
# stands or crawls; weight of its delay;
# 1 if a permissive green does not help it, 2 if none does, 3 if it does harm; 1 if it may wait
# within the junction for a gap; the gap that it needs.
ETA, COLUMN, STILL, WEIGHT, CLOSED, INSIDE, BEFORE = range(7)


@njit(cache=True)
def eta_s(distance, speed, limit, accel):  # type: ignore[no-untyped-def]
    """Seconds to the stop line from `speed`, accelerating to `limit`."""
    left, v = max(distance, 0.0), min(speed, limit)
    top = min(np.sqrt(v * v + 2.0 * accel * left), limit)
    return (top - v) / accel + (left - (top * top - v * v) / (2.0 * accel)) / limit


@njit(cache=True)
def cost_of(q, v, t, m):  # type: ignore[no-untyped-def]
    """What it costs that vehicle v leaves at t."""
    wait = t - q[ETA, v]
    return q[WEIGHT, v] * (wait if q[STILL, v] > 0.0 else wait + min(wait, m[STOP]))


@njit(cache=True)
def discharge(q, vptr, k, src, dst, ptr, last, colours, begin, end, opens, m):  # type: ignore[no-untyped-def]
    """Discharge lane k, whose greens are all protected, from `begin` to `end`; returns the cost of
    those who leave.

    opens: (groups,) when each group turns green, -inf if it was green before.
    """
    v = vptr[k] + ptr[src, k]
    t_last = last[src, k]
    cost = 0.0
    while v < vptr[k + 1]:
        g = int(q[COLUMN, v])
        if colours[g] - q[CLOSED, v] < PERMISSIVE:
            break
        t = max(q[ETA, v], t_last + m[HEADWAY], begin, opens[g] + m[STARTUP])
        if t > end + m[LATE]:
            break
        cost += cost_of(q, v, t, m)
        t_last = t
        v += 1
    ptr[dst, k] = v - vptr[k]
    last[dst, k] = t_last
    return cost


@njit(cache=True)
def discharge_together(q, vptr, lanes, src, dst, ptr, last, colours, yields, begin, end, opens, m):  # type: ignore[no-untyped-def]
    """The same for all lanes in order of time, where some green is permissive.

    Who has a permissive green waits for a gap in the traffic that it gives way to; where the
    junction has room for one that waits inside, it does not hold up those behind it, and leaves at
    the end of the green at the latest. The rows of ptr and last from ROWS on are scratch.
    """
    cost = 0.0
    at, inside = last[ROWS], ptr[ROWS]
    for k in range(lanes):
        ptr[dst, k], last[dst, k] = ptr[src, k], last[src, k]
        at[k] = NOT_WORKED_OUT_S
        at[lanes + k] = NEVER_S
        inside[k] = NOBODY
    for _ in range(MAX_STEPS):
        for k in range(lanes):
            if at[k] == NOT_WORKED_OUT_S:
                at[k] = NEVER_S
                v = vptr[k] + ptr[dst, k]
                if v < vptr[k + 1] and colours[int(q[COLUMN, v])] - q[CLOSED, v] >= PERMISSIVE:
                    at[k] = max(
                        q[ETA, v],
                        last[dst, k] + m[HEADWAY],
                        begin,
                        opens[int(q[COLUMN, v])] + m[STARTUP],
                    )
        pick = np.argmin(at)
        soonest = at[pick]
        if soonest > end + m[LATE]:
            break
        k = pick % lanes
        v = vptr[k] + ptr[dst, k] if pick < lanes else inside[k]
        if colours[int(q[COLUMN, v])] == PERMISSIVE:
            until = gap_from(
                q, vptr, v, k, lanes, soonest, at, src, dst, ptr, last, colours, yields, m
            )
            if until > soonest:
                if q[INSIDE, v] > 0.0 and inside[k] == NOBODY:
                    inside[k], at[lanes + k] = v, until
                    ptr[dst, k] += 1
                    last[dst, k] = soonest
                    at[k] = NOT_WORKED_OUT_S
                else:
                    at[pick] = until
                continue
        cost += cost_of(q, v, soonest, m)
        if pick < lanes:
            ptr[dst, k] += 1
            last[dst, k] = soonest
            at[k] = NOT_WORKED_OUT_S
        else:
            inside[k], at[pick] = NOBODY, NEVER_S
    for k in range(lanes):
        if inside[k] != NOBODY:
            cost += cost_of(q, inside[k], end + INSIDE_LEAVES_S, m)
    return cost


@njit(cache=True)
def gap_from(q, vptr, v, lane, lanes, now, at, src, dst, ptr, last, colours, yields, m):  # type: ignore[no-untyped-def]
    """When the traffic that vehicle v of `lane` gives way to next leaves it alone; not after `now`
    if it may go at once.
    """
    until = -np.inf
    for k in range(lanes):
        if k == lane:
            continue
        u = vptr[k] + ptr[dst, k]
        if (
            u < vptr[k + 1]
            and q[CLOSED, u] > 1.0
            and yields[int(q[COLUMN, v]), int(q[COLUMN, u])]
            and colours[int(q[COLUMN, u])] == GREEN
        ):
            return NEVER_S  # it stands on green, blocked, but it has right of way
        if (
            at[k] < now + q[BEFORE, v]
            and yields[int(q[COLUMN, v]), int(q[COLUMN, u])]
            and colours[int(q[COLUMN, u])] == GREEN
        ):
            until = max(until, at[k] + m[AFTER])
        if ptr[dst, k] > ptr[src, k] and yields[int(q[COLUMN, v]), int(q[COLUMN, u - 1])]:
            until = max(until, last[dst, k] + m[AFTER])
    return until


@njit(cache=True)
def stage_cost(q, vptr, lanes, src, dst, ptr, last, colours, yields, begin, end, opens, m):  # type: ignore[no-untyped-def]
    """Discharge all lanes during one stage; returns the cost of those who leave."""
    for k in range(lanes):
        for v in range(vptr[k] + ptr[src, k], vptr[k + 1]):
            c = colours[int(q[COLUMN, v])]
            if c < PERMISSIVE or q[ETA, v] > end:
                break
            if c == PERMISSIVE:
                return discharge_together(
                    q, vptr, lanes, src, dst, ptr, last, colours, yields, begin, end, opens, m
                )
    cost = 0.0
    for k in range(lanes):
        cost += discharge(q, vptr, k, src, dst, ptr, last, colours, begin, end, opens, m)
    return cost


@njit(cache=True)
def cost_so_far(q, vptr, lanes, row, ptr, at):  # type: ignore[no-untyped-def]
    """A lower bound of what those who have not left cost, by their wait up to `at`."""
    cost = 0.0
    for k in range(lanes):
        for v in range(vptr[k] + ptr[row, k], vptr[k + 1]):
            if q[ETA, v] >= at:
                break
            cost += q[WEIGHT, v] * (at - q[ETA, v])
    return cost


@njit(cache=True)
def cost_left(q, vptr, lanes, row, ptr, m):  # type: ignore[no-untyped-def]
    """What those cost who have not left at the horizon."""
    cost = 0.0
    for k in range(lanes):
        for v in range(vptr[k] + ptr[row, k], vptr[k + 1]):
            if q[ETA, v] >= m[HORIZON]:
                break
            cost += cost_of(q, v, m[HORIZON], m) + q[WEIGHT, v] * m[REST]
    return cost


@njit(cache=True)
def clear_time(q, vptr, lanes, row, ptr, last, colours, begin, opens, least, m):  # type: ignore[no-untyped-def]
    """When the queues and platoons of a stage that began at `begin` have passed, not before its
    shortest green.
    """
    until = begin
    for g in range(len(opens)):
        if colours[g] >= PERMISSIVE:
            until = max(until, opens[g] + least[g])
    for k in range(lanes):
        t_last, served = last[row, k], False
        for v in range(vptr[k] + ptr[row, k], vptr[k + 1]):
            g = int(q[COLUMN, v])
            if colours[g] != GREEN or q[CLOSED, v] > 1:
                break
            t = max(q[ETA, v], t_last + m[HEADWAY], begin, opens[g] + m[STARTUP])
            ready = max(t_last, begin) if served else until
            if q[ETA, v] > ready + m[GAP] or t > m[HORIZON]:
                break
            t_last, served = t, True
        if served:
            until = max(until, t_last + AFTER_LAST_S)
    return until


@njit(cache=True)
def best_next(q, vptr, lanes, row, ptr, stage, stages, at, m):  # type: ignore[no-untyped-def]
    """The stage other than `stage` that would serve most waiting time at `at`."""
    best, found = -np.inf, stage
    for s in range(len(stages)):
        if s == stage:
            continue
        score = 0.0
        for k in range(lanes):
            v = vptr[k] + ptr[row, k]
            while v < vptr[k + 1] and q[ETA, v] < at + m[AHEAD]:
                c = stages[s, int(q[COLUMN, v])]
                if c - q[CLOSED, v] < PERMISSIVE:
                    break
                score += (at + m[AHEAD] - q[ETA, v]) * (1.0 if c == GREEN else PERMISSIVE_SHARE)
                v += 1
        if score > best:
            best, found = score, s
    return found
