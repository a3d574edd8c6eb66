"""The planner's search, compiled. See `headway.control.planner` for what it means."""

from __future__ import annotations

import numpy as np
from numba import njit

MAX_LANES, DEPTH = 64, 5


@njit(cache=True)  # type: ignore[untyped-decorator]
def eta_s(distance, speed, limit, accel):  # type: ignore[no-untyped-def]
    """Seconds to the stop line from `speed`, accelerating to `limit`."""
    if distance <= 0.0:
        return 0.0
    v = min(speed, limit)
    ramp = (limit * limit - v * v) / (2.0 * accel)
    if ramp >= distance:
        return (np.sqrt(v * v + 2.0 * accel * distance) - v) / accel
    return (limit - v) / accel + (distance - ramp) / limit


@njit(cache=True)  # type: ignore[untyped-decorator]
def run(lane, depth, ptr, last, v0, v1, eta, group, still, closed, colours, begin, end, opens, par):  # type: ignore[no-untyped-def]
    """Discharge one lane during one stage; returns the delay of those who leave, seconds.

    opens: (groups,) when each group turns green in this stage, or -1 if it was green before.
    """
    headway, startup, permissive, stop, late = par[0], par[1], par[2], par[3], par[4]
    p, t_last, cost = ptr[depth, lane], last[depth, lane], 0.0
    while v0 + p < v1:
        v = v0 + p
        g = group[v]
        c = colours[g]
        if c < 3 or closed[v]:
            break
        gap = headway if c == 4 else headway / permissive
        t = max(eta[v], t_last + gap)
        if opens[g] >= 0.0 and t < opens[g] + startup + (gap - headway):
            t = opens[g] + startup + (gap - headway) + (0.0)
        if t < begin:
            t = begin
        if t > end + late:
            break
        wait = t - eta[v]
        cost += wait
        if not still[v]:
            cost += min(wait, stop)
        t_last = t
        p += 1
    ptr[depth + 1, lane] = p
    last[depth + 1, lane] = t_last
    return cost


@njit(cache=True)  # type: ignore[untyped-decorator]
def rest(lane, depth, ptr, v0, v1, eta, still, horizon, extra, stop):  # type: ignore[no-untyped-def]
    """Delay up to `horizon`, and `extra` after it, of those who have not left."""
    cost = 0.0
    for v in range(v0 + ptr[depth, lane], v1):
        wait = horizon - eta[v]
        if wait > 0.0:
            cost += wait + extra
            if not still[v]:
                cost += min(wait, stop)
    return cost


@njit(cache=True)  # type: ignore[untyped-decorator]
def stage_cost(depth, lanes, lane0, vptr, ptr, last, eta, group, still, closed, colours, begin, end, opens, par):  # type: ignore[no-untyped-def]
    cost = 0.0
    for k in range(lanes):
        lane = lane0 + k
        if vptr[lane] + ptr[depth, k] >= vptr[lane + 1]:
            ptr[depth + 1, k] = ptr[depth, k]
            last[depth + 1, k] = last[depth, k]
            continue
        cost += run(k, depth, ptr, last, vptr[lane], vptr[lane + 1], eta, group, still, closed, colours, begin, end, opens, par)
    return cost


@njit(cache=True)  # type: ignore[untyped-decorator]
def rest_cost(depth, lanes, lane0, vptr, ptr, eta, still, horizon, extra, stop):  # type: ignore[no-untyped-def]
    cost = 0.0
    for k in range(lanes):
        cost += rest(k, depth, ptr, vptr[lane0 + k], vptr[lane0 + k + 1], eta, still, horizon, extra, stop)
    return cost


@njit(cache=True)  # type: ignore[untyped-decorator]
def search(now_stage, stages, trans, n_groups, avail, earliest, lanes, lane0, vptr, eta, group, still, closed, holds, lengths, least, horizon, par):  # type: ignore[no-untyped-def]  # fmt: skip
    """Least-delay plan of one junction: (next stage, seconds until it begins, cost). The stage now is held if they are equal.

    stages: (S, groups) colours. trans: (S, S, groups) seconds from a change of stage to green, -1 where it goes on.
    avail: (groups,) seconds until green in the stage now. earliest: (S,) seconds until a change to each is allowed.
    """
    count = len(stages)
    ptr = np.zeros((DEPTH, MAX_LANES), np.int64)
    last = np.full((DEPTH, MAX_LANES), -100.0)
    opens = np.full(n_groups, -1.0)
    extra, stop = par[5], par[3]
    for g in range(n_groups):
        opens[g] = avail[g] if avail[g] > 0.0 else -1.0
    opens1, opens2 = np.empty(n_groups), np.empty(n_groups)
    best_stage, best_hold = now_stage, horizon
    best = stage_cost(0, lanes, lane0, vptr, ptr, last, eta, group, still, closed, stages[now_stage], 0.0, horizon, opens, par)
    best += rest_cost(1, lanes, lane0, vptr, ptr, eta, still, horizon, extra, stop)
    for hi in range(len(holds)):
        h = holds[hi]
        base = stage_cost(0, lanes, lane0, vptr, ptr, last, eta, group, still, closed, stages[now_stage], 0.0, h, opens, par)
        if base >= best:
            break
        if base + rest_cost(1, lanes, lane0, vptr, ptr, eta, still, h, 0.0, 0.0) >= best:
            break
        for s in range(count):
            if s == now_stage or (earliest[s] > h + 1e-6 and hi > 0):
                continue
            start = max(h, earliest[s])
            if start > h + 1e-6:
                if hi > 0:
                    continue
                base_s = stage_cost(0, lanes, lane0, vptr, ptr, last, eta, group, still, closed, stages[now_stage], 0.0, start, opens, par)
            else:
                base_s = base
                if start != h or hi == 0:
                    base_s = stage_cost(0, lanes, lane0, vptr, ptr, last, eta, group, still, closed, stages[now_stage], 0.0, start, opens, par)
            for g in range(n_groups):
                d = trans[now_stage, s, g]
                opens1[g] = start + d if d >= 0.0 else -1.0
            # to the end in this stage
            cost = base_s + stage_cost(1, lanes, lane0, vptr, ptr, last, eta, group, still, closed, stages[s], start, horizon, opens1, par)
            cost += rest_cost(2, lanes, lane0, vptr, ptr, eta, still, horizon, extra, stop)
            if cost < best:
                best, best_stage, best_hold = cost, s, start
            for li in range(len(lengths)):
                end = start + lengths[li]
                if end >= horizon:
                    break
                cost1 = base_s + stage_cost(1, lanes, lane0, vptr, ptr, last, eta, group, still, closed, stages[s], start, end, opens1, par)
                if cost1 + rest_cost(2, lanes, lane0, vptr, ptr, eta, still, end, 0.0, 0.0) >= best:
                    break
                for s2 in range(count):
                    if s2 == s:
                        continue
                    for g in range(n_groups):
                        d = trans[s, s2, g]
                        opens2[g] = end + d if d >= 0.0 else -1.0
                    cost = cost1 + stage_cost(2, lanes, lane0, vptr, ptr, last, eta, group, still, closed, stages[s2], end, horizon, opens2, par)
                    if cost >= best:
                        continue
                    cost += rest_cost(3, lanes, lane0, vptr, ptr, eta, still, horizon, extra, stop)
                    if cost < best:
                        best, best_stage, best_hold = cost, s, start
    return best_stage, best_hold, best


@njit(cache=True)  # type: ignore[untyped-decorator]
def plan(now, target, target_since, shown, shown_for, ended_for, first, lane_ptr, lane_limit, approach_of, stage_ptr, stages, trans, intergreen, least, link_group, link_to, v_lane, v_link, v_distance, v_speed, v_wait, room, lane_length, holds, lengths, horizon, par, out_target, out_hold):  # type: ignore[no-untyped-def]  # fmt: skip
    """Decide all junctions: fill `out_target` (junctions,), the stage to aim at from now, and `out_hold`, seconds until the change."""
    n, lanes_all = len(v_lane), len(lane_limit)
    vptr = np.zeros(lanes_all + 1, np.int64)
    for v in range(n):
        if v_lane[v] >= 0 and approach_of[v_lane[v]] >= 0 and v_link[v] >= 0:
            vptr[approach_of[v_lane[v]] + 1] += 1
    for a in range(lanes_all):
        vptr[a + 1] += vptr[a]
    fill = vptr[:-1].copy()
    order = np.empty(max(n, 1), np.int64)
    for v in range(n):
        if v_lane[v] < 0 or v_link[v] < 0:
            continue
        a = approach_of[v_lane[v]]
        if a >= 0:
            k = fill[a]
            while k > vptr[a] and v_distance[order[k - 1]] > v_distance[v]:
                order[k] = order[k - 1]
                k -= 1
            order[k] = v
            fill[a] += 1
    m = vptr[lanes_all]
    eta, group, still, closed = np.empty(m), np.empty(m, np.int64), np.empty(m, np.bool_), np.empty(m, np.bool_)
    for j in range(len(first) - 1):
        f, width = first[j], first[j + 1] - first[j]
        s0, count = stage_ptr[j], stage_ptr[j + 1] - stage_ptr[j]
        now_stage = target[j]
        out_target[j], out_hold[j] = now_stage, 0.0
        colours = stages[s0 : s0 + count, :width]
        # until when the stage now cannot be left, and when each of its greens comes
        avail = np.zeros(width)
        for g in range(width):
            if colours[now_stage, g] >= 3 and shown[f + g] < 3:
                wait = 0.0
                for h in range(width):
                    if trans[s0 + now_stage, 0, h] < -1.5:
                        continue
                    if intergreen[f + g, h] > 0.0:
                        if shown[f + h] >= 3 and colours[now_stage, h] < 3:
                            wait = max(wait, least[f + h] - shown_for[f + h] + intergreen[f + g, h])
                        else:
                            wait = max(wait, intergreen[f + g, h] - ended_for[f + h])
                avail[g] = max(wait, 0.0)
        earliest = np.zeros(count)
        soonest = 1e9
        for s in range(count):
            t = 0.0
            for g in range(width):
                if colours[now_stage, g] >= 3 and colours[s, g] < 3:
                    age = shown_for[f + g] if shown[f + g] >= 3 else -avail[g]
                    t = max(t, least[f + g] - age)
            earliest[s] = t
            if s != now_stage:
                soonest = min(soonest, t)
        if count < 2 or soonest > par[6]:
            continue
        a0, a1 = lane_ptr[j], lane_ptr[j + 1]
        red = False
        for a in range(a0, a1):
            for i in range(vptr[a], vptr[a + 1]):
                v = order[i]
                g = link_group[v_link[v]] - f
                group[i] = g
                eta[i] = eta_s(v_distance[v], v_speed[v], lane_limit[a], par[7])
                still[i] = v_speed[v] < par[8]
                closed[i] = room[link_to[v_link[v]]] < min(par[9], 0.6 * lane_length[link_to[v_link[v]]])
                if colours[now_stage, g] < 4:
                    red = True
        if not red:
            continue
        s, hold, _ = search(now_stage, colours, trans[s0 : s0 + count, :count, :width], width, avail, earliest, a1 - a0, a0, vptr, eta, group, still, closed, holds, lengths, least, horizon, par)  # fmt: skip
        out_target[j], out_hold[j] = s, hold
