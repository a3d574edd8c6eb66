"""The planner's search, compiled. See `headway.control.planner` for what it means."""

from __future__ import annotations

import numpy as np
from numba import njit

MAX_LANES, DEPTH = 64, 4
(
    HEADWAY,
    STARTUP,
    PERMISSIVE,
    STOP,
    LATE,
    REST,
    ACCEL,
    STILL,
    ROOM,
    GAP,
    VIRTUAL,
    HORIZON,
    RECHECK,
    ACROSS,
    BEFORE,
    AFTER,
    WINDOW,
    OVER,
    LOCK,
    BREADTH,
    CHANGE,
    FAIR,
    PATIENCE,
    STUCK,
    SHORT,
    SPILL,
    GIVEUP,
) = range(27)


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
def run(lane, src, dst, ptr, last, v0, v1, eta, group, still, weight, closed, colours, begin, end, opens, par):  # type: ignore[no-untyped-def]
    """Discharge one lane during one stage; returns the delay of those who leave, seconds.

    opens: (groups,) when each group turns green in this stage, or -1 if it was green before.
    """
    headway, startup, permissive, stop = par[HEADWAY], par[STARTUP], par[PERMISSIVE], par[STOP]
    latest = end + par[LATE]
    v, t_last, cost = v0 + ptr[src, lane], last[src, lane], 0.0
    while v < v1:
        g = group[v]
        c = colours[g]
        if c - closed[v] < 3:
            break
        gap = headway if c == 4 else headway / permissive
        t = max(eta[v], t_last + gap, begin)
        if opens[g] >= 0.0:
            t = max(t, opens[g] + startup + gap - headway)
        if t > latest:
            break
        wait = t - eta[v]
        cost += weight[v] * (wait if still[v] else wait + min(wait, stop))
        t_last = t
        v += 1
    ptr[dst, lane] = v - v0
    last[dst, lane] = t_last
    return cost


@njit(cache=True)  # type: ignore[untyped-decorator]
def mixed(src, dst, lanes, lane0, vptr, ptr, last, eta, group, still, weight, closed, pocket, gap_before, colours, yields, begin, end, opens, par):  # type: ignore[no-untyped-def]  # fmt: skip
    """Discharge all lanes together during a stage with permissive greens, in order of time; returns the delay of those who leave.

    A vehicle on a permissive green waits for a gap in the traffic that it gives way to; where the junction has room for
    one that waits inside, it does not hold up those behind it, and leaves at the end of the green at the latest.
    """
    headway, startup, stop, after = par[HEADWAY], par[STARTUP], par[STOP], par[AFTER]
    latest = end + par[LATE]
    cost = 0.0
    at = np.empty(2 * lanes)
    not_before = np.full(2 * lanes, -1e9)
    inside = np.full(lanes, -1, np.int64)
    for k in range(lanes):
        ptr[dst, k], last[dst, k] = ptr[src, k], last[src, k]
        at[k], at[lanes + k] = -1.0, 1e18
    for _ in range(2000):
        pick, soonest = -1, 1e17
        for k in range(lanes):
            if at[k] < 0.0:
                v = vptr[lane0 + k] + ptr[dst, k]
                at[k] = 1e18
                if v < vptr[lane0 + k + 1] and colours[group[v]] - closed[v] >= 3:
                    t = max(eta[v], last[dst, k] + headway, begin, not_before[k])
                    if opens[group[v]] >= 0.0:
                        t = max(t, opens[group[v]] + startup)
                    at[k] = t
            if at[k] < soonest:
                pick, soonest = k, at[k]
            if at[lanes + k] < soonest:
                pick, soonest = lanes + k, at[lanes + k]
        if pick < 0 or soonest > latest:
            break
        k = pick % lanes
        v = vptr[lane0 + k] + ptr[dst, k] if pick < lanes else inside[k]
        g = group[v]
        if colours[g] == 3:
            wait_for = -1e9
            for o in range(lanes):
                if o == k:
                    continue
                u = vptr[lane0 + o] + ptr[dst, o]
                if at[o] < soonest + gap_before[v] and u < vptr[lane0 + o + 1] and yields[g, group[u]] and colours[group[u]] == 4:
                    wait_for = max(wait_for, at[o] + after)
                if ptr[dst, o] > ptr[src, o] and yields[g, group[u - 1]] and last[dst, o] + after > soonest + 1e-9:
                    wait_for = max(wait_for, last[dst, o] + after)
            if wait_for > soonest:
                if pick < lanes and pocket[v] and inside[k] < 0:
                    inside[k] = v
                    at[lanes + k] = wait_for
                    ptr[dst, k] += 1
                    last[dst, k] = soonest
                    at[k] = -1.0
                else:
                    at[pick] = wait_for
                    if pick < lanes:
                        not_before[k] = wait_for
                continue
        wait = soonest - eta[v]
        cost += weight[v] * (wait if still[v] else wait + min(wait, stop))
        if pick < lanes:
            ptr[dst, k] += 1
            last[dst, k] = soonest
            not_before[k] = -1e9
            at[k] = -1.0
        else:
            inside[k] = -1
            at[pick] = 1e18
    for k in range(lanes):
        if inside[k] >= 0:
            v = inside[k]
            wait = end + 2.0 - eta[v]
            cost += weight[v] * (wait if still[v] else wait + min(wait, stop))
    return cost


@njit(cache=True)  # type: ignore[untyped-decorator]
def stage_cost(src, dst, lanes, lane0, vptr, ptr, last, eta, group, still, weight, closed, pocket, gap_before, colours, yields, begin, end, opens, par):  # type: ignore[no-untyped-def]  # fmt: skip
    for k in range(lanes):
        for v in range(vptr[lane0 + k] + ptr[src, k], vptr[lane0 + k + 1]):
            c = colours[group[v]]
            if c < 3 or eta[v] > end:
                break
            if c == 3:
                return mixed(
                    src,
                    dst,
                    lanes,
                    lane0,
                    vptr,
                    ptr,
                    last,
                    eta,
                    group,
                    still,
                    weight,
                    closed,
                    pocket,
                    gap_before,
                    colours,
                    yields,
                    begin,
                    end,
                    opens,
                    par,
                )
    cost = 0.0
    for k in range(lanes):
        lane = lane0 + k
        if vptr[lane] + ptr[src, k] >= vptr[lane + 1]:
            ptr[dst, k] = ptr[src, k]
            last[dst, k] = last[src, k]
            continue
        cost += run(k, src, dst, ptr, last, vptr[lane], vptr[lane + 1], eta, group, still, weight, closed, colours, begin, end, opens, par)
    return cost


@njit(cache=True)  # type: ignore[untyped-decorator]
def rest_cost(depth, lanes, lane0, vptr, ptr, eta, still, weight, at, extra, stop):  # type: ignore[no-untyped-def]
    """Delay up to `at`, and `extra` after it, of those who have not left."""
    cost = 0.0
    for k in range(lanes):
        for v in range(vptr[lane0 + k] + ptr[depth, k], vptr[lane0 + k + 1]):
            wait = at - eta[v]
            if wait <= 0.0:
                break
            cost += weight[v] * (wait + extra if still[v] else wait + extra + min(wait, stop))
    return cost


@njit(cache=True)  # type: ignore[untyped-decorator]
def clear_time(depth, lanes, lane0, vptr, ptr, last, eta, group, closed, colours, begin, opens, least, horizon, par):  # type: ignore[no-untyped-def]
    """When the queues and the platoons of a stage that began at `begin` have passed, not before its shortest green."""
    headway, startup, gap_out = par[HEADWAY], par[STARTUP], par[GAP]
    until = begin
    for g in range(len(opens)):
        if opens[g] >= 0.0 and colours[g] >= 3:
            until = max(until, opens[g] + least[g])
    for k in range(lanes):
        t_last = last[depth, k]
        served = False
        for v in range(vptr[lane0 + k] + ptr[depth, k], vptr[lane0 + k + 1]):
            g = group[v]
            if colours[g] != 4 or closed[v] > 1:
                break
            t = max(eta[v], t_last + headway, begin)
            if opens[g] >= 0.0:
                t = max(t, opens[g] + startup)
            ready = max(t_last, begin) if served else max(begin, until)
            if t > ready + gap_out and eta[v] > ready + gap_out or t > horizon:
                break
            t_last = t
            served = True
        if served:
            until = max(until, t_last + 0.1)
    return until


@njit(cache=True)  # type: ignore[untyped-decorator]
def best_next(stage, depth, lanes, lane0, vptr, ptr, eta, group, closed, stages, at, ahead):  # type: ignore[no-untyped-def]
    """The stage other than `stage` that would serve most waiting time at `at`."""
    best, found = -1.0, -1
    for s in range(len(stages)):
        if s == stage:
            continue
        score = 0.0
        for k in range(lanes):
            v = vptr[lane0 + k] + ptr[depth, k]
            end = vptr[lane0 + k + 1]
            while v < end and eta[v] < at + ahead:
                c = stages[s, group[v]]
                if c - closed[v] < 3:
                    break
                score += (at + ahead - eta[v]) * (1.0 if c == 4 else 0.3)
                v += 1
        if score > best:
            best, found = score, s
    return found


@njit(cache=True)  # type: ignore[untyped-decorator]
def rollout(stage, src, begin, cost, bound, lanes, lane0, vptr, ptr, last, eta, group, still, weight, closed, pocket, gap_before, stages, yields, trans, opens, least, horizon, par, fixed_end, second, change):  # type: ignore[no-untyped-def]  # fmt: skip
    """Cost up to the horizon if `stage` is begun at `begin` and each stage then lasts until its queues are gone.

    fixed_end: the end of the first stage, or -1 to let it clear. Rows `src`, 2 and 3 of ptr and last are its scratch.
    """
    extra, stop = par[REST], par[STOP]
    now, row = begin, src
    for _ in range(12):
        end = fixed_end
        if end < 0.0:
            end = clear_time(row, lanes, lane0, vptr, ptr, last, eta, group, closed, stages[stage], now, opens, least, horizon, par)
        fixed_end = -1.0
        if end >= horizon:
            end = horizon
        nxt = 3 if row == 2 else 2
        cost += stage_cost(
            row,
            nxt,
            lanes,
            lane0,
            vptr,
            ptr,
            last,
            eta,
            group,
            still,
            weight,
            closed,
            pocket,
            gap_before,
            stages[stage],
            yields,
            now,
            end,
            opens,
            par,
        )
        row = nxt
        if end >= horizon:
            break
        if cost + rest_cost(row, lanes, lane0, vptr, ptr, eta, still, weight, end, 0.0, 0.0) >= bound:
            return 1e18
        follow = second
        if follow < 0:
            follow = best_next(stage, row, lanes, lane0, vptr, ptr, eta, group, closed, stages, end, par[ACROSS])
        second = -1
        cost += change
        for g in range(len(opens)):
            d = trans[stage, follow, g]
            opens[g] = end + d if d >= 0.0 else -1.0
        stage, now = follow, end
    return cost + rest_cost(row, lanes, lane0, vptr, ptr, eta, still, weight, horizon, extra, stop)


@njit(cache=True)  # type: ignore[untyped-decorator]
def entry(opens, soon, trans, at_once, start):  # type: ignore[no-untyped-def]
    """When the greens of a stage come: from the signals as they stand, or after the stage before it."""
    for g in range(len(opens)):
        opens[g] = soon[g] if at_once else start + trans[g] if trans[g] >= 0.0 else -1.0


@njit(cache=True)  # type: ignore[untyped-decorator]
def search(now_stage, stages, yields, trans, n_groups, soon, earliest, lanes, lane0, vptr, eta, group, still, weight, closed, pocket, gap_before, holds, lengths, least, horizon, change, par):  # type: ignore[no-untyped-def]  # fmt: skip
    """Least-delay plan of one junction: (next stage, seconds until it begins, cost). The stage now is held if they are equal.

    stages: (S, groups) colours. trans: (S, S, groups) seconds from a change of stage to green, -1 where it goes on.
    soon: (S, groups) seconds until green in each stage from the signals as they stand, -1 where green. earliest: (S,) seconds until a change to each is allowed.
    """
    count = len(stages)
    ptr = np.zeros((DEPTH, MAX_LANES), np.int64)
    last = np.full((DEPTH, MAX_LANES), -100.0)
    opens0, opens = np.empty(n_groups), np.empty(n_groups)
    for g in range(n_groups):
        opens0[g] = soon[now_stage, g]
    opens[:] = opens0
    best_stage, best_hold = now_stage, horizon
    best = stage_cost(
        0,
        1,
        lanes,
        lane0,
        vptr,
        ptr,
        last,
        eta,
        group,
        still,
        weight,
        closed,
        pocket,
        gap_before,
        stages[now_stage],
        yields,
        0.0,
        horizon,
        opens,
        par,
    )
    best += rest_cost(1, lanes, lane0, vptr, ptr, eta, still, weight, horizon, par[REST], par[STOP])
    for hi in range(len(holds)):
        h = holds[hi]
        base = stage_cost(
            0, 1, lanes, lane0, vptr, ptr, last, eta, group, still, weight, closed, pocket, gap_before, stages[now_stage], yields, 0.0, h, opens0, par
        )
        if base + rest_cost(1, lanes, lane0, vptr, ptr, eta, still, weight, h, 0.0, 0.0) >= best:
            break
        for s in range(count):
            if s == now_stage:
                continue
            start, cost0 = h, base + change
            if hi > 0 and earliest[s] > h + 1e-6:
                continue
            first = 1e9
            over = 0
            for li in range(-1, len(lengths)):
                if li < 0:
                    entry(opens, soon[s], trans[now_stage, s], hi == 0, start)
                    first = clear_time(1, lanes, lane0, vptr, ptr, last, eta, group, closed, stages[s], start, opens, least, horizon, par)
                    fixed_end = min(first, horizon)
                else:
                    fixed_end = start + lengths[li]
                    if fixed_end >= first - 1.0:
                        if par[OVER] <= 0.0 or first >= horizon or over >= 2:
                            break
                        over += 1
                        fixed_end = first + over * par[OVER]
                for second in range(-1, count if par[BREADTH] > 0.0 else 0):
                    if second == s:
                        continue
                    entry(opens, soon[s], trans[now_stage, s], hi == 0, start)
                    cost = rollout(s, 1, start, cost0, best, lanes, lane0, vptr, ptr, last, eta, group, still, weight, closed, pocket, gap_before, stages, yields, trans, opens, least, horizon, par, fixed_end, second, change)  # fmt: skip
                    if cost < best:
                        best, best_stage, best_hold = cost, s, start
    return best_stage, best_hold, best


@njit(cache=True)  # type: ignore[untyped-decorator]
def fill_lane(at, v0, v1, order, v_distance, v_speed, v_wait, v_link, shown, shown_for, room, lane_length, link_to, link_group, first, limit, links, rates, visible, stop_length, link_pocket, link_before, red_for, eta, group, still, weight, closed, pocket, gap_before, par):  # type: ignore[no-untyped-def]  # fmt: skip
    """Put the vehicles of one lane, and those expected after them, at `at`..; returns the end."""
    end = at
    tail = 0.0
    for i in range(v0, v1):
        if v_speed[order[i]] < 2.0:
            tail = v_distance[order[i]] + 7.5
    full = max(0.0, min(1.0, tail / stop_length * 2.0 - 1.0))
    for i in range(v0, v1):
        v = order[i]
        group[end] = link_group[v_link[v]] - first
        eta[end] = eta_s(v_distance[v], v_speed[v], limit, par[ACCEL])
        still[end] = v_speed[v] < par[STILL]
        to = link_to[v_link[v]]
        weight[end] = 1.0 + par[SPILL] * full + par[FAIR] * max(0.0, red_for[link_group[v_link[v]]] - par[PATIENCE]) / 60.0
        pocket[end] = link_pocket[v_link[v]]
        gap_before[end] = link_before[v_link[v]]
        g = group[end] + first
        closed[end] = 0
        if i == v0 and v_distance[v] < 15.0:
            if v_wait[v] > par[STUCK] and shown[g] == 4 and shown_for[g] > par[STUCK] + 3.0:
                closed[end] = 2  # green, and yet it does not move: what blocks it is not the signal
            elif v_wait[v] > par[GIVEUP]:
                closed[end] = 1  # has found no gap
        if room[to] < min(par[ROOM], 0.6 * lane_length[to]):
            closed[end] = 2
        if lane_length[to] < par[SHORT] and room[to] < lane_length[to]:
            room[to] -= 7.5
        end += 1
    total = 0.0
    for i in links:
        total += rates[i] * par[VIRTUAL]
    if par[VIRTUAL] > 0.0 and total > 1e-4:
        t = visible / limit + 0.5 / total
        used = np.zeros(len(links))
        n = 0
        while t < par[WINDOW] and end < len(eta):
            pick, most = 0, -1e9
            for q in range(len(links)):
                used[q] += rates[links[q]] * par[VIRTUAL] / total
                if used[q] > most:
                    most, pick = used[q], q
            used[pick] -= 1.0
            group[end] = link_group[links[pick]] - first
            eta[end] = t
            still[end] = False
            closed[end] = 0
            weight[end] = 1.0
            pocket[end] = link_pocket[links[pick]]
            gap_before[end] = link_before[links[pick]]
            end += 1
            n += 1
            t += 1.0 / total
    return end


@njit(cache=True)  # type: ignore[untyped-decorator]
def plan(target, hold_left, shown, shown_for, ended_for, first, lane_ptr, lane_limit, lane_visible, lane_own, lane_links_ptr, lane_links, approach_of, stage_ptr, stages, trans, intergreen, least, link_group, link_to, link_pocket, link_before, yields_of, own_yellow, v_lane, v_link, v_distance, v_speed, v_wait, room, lane_length, rates, holds, lengths, par, out_target, out_hold):  # type: ignore[no-untyped-def]  # fmt: skip
    """Decide all junctions: fill `out_target` (junctions,), the stage to aim at from now, and `out_hold`, seconds until the change."""
    n, lanes_all = len(v_lane), len(lane_limit)
    room = room.copy()
    horizon = par[HORIZON]
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
    most = 4096
    eta, group, still, weight, closed = np.empty(most), np.empty(most, np.int64), np.empty(most, np.bool_), np.empty(most), np.empty(most, np.int64)
    pocket, gap_before = np.empty(most, np.bool_), np.empty(most)
    for j in range(len(first) - 1):
        f, width = first[j], first[j + 1] - first[j]
        s0, count = stage_ptr[j], stage_ptr[j + 1] - stage_ptr[j]
        now_stage = target[j]
        out_target[j], out_hold[j] = now_stage, 0.0
        colours = stages[s0 : s0 + count, :width]
        if count < 2 or hold_left[j] > par[RECHECK]:
            out_hold[j] = hold_left[j] - 1.0
            continue
        # when each green of each stage would come, if it were wanted from now on; -1 where it is there
        soon = np.full((count, width), -1.0)
        earliest = np.zeros(count)
        moving = True
        for s in range(count):
            for g in range(width):
                if colours[s, g] < 3:
                    if shown[f + g] >= 3 and s != now_stage:
                        earliest[s] = max(earliest[s], least[f + g] - shown_for[f + g])
                elif shown[f + g] < 3:
                    wait = 0.0
                    if shown[f + g] == 2:
                        wait = max(0.0, own_yellow[f + g] - shown_for[f + g])
                    for h in range(width):
                        if intergreen[f + g, h] > 0.0:
                            if shown[f + h] >= 3:
                                if colours[s, h] < 3:
                                    wait = max(wait, max(0.0, least[f + h] - shown_for[f + h]) + intergreen[f + g, h])
                            else:
                                wait = max(wait, intergreen[f + g, h] - ended_for[f + h])
                    soon[s, g] = max(wait, 0.0)
            if s != now_stage and earliest[s] <= par[LOCK]:
                moving = False
        if moving:
            continue
        for s in range(count):  # with the greens of the stage now that are still to come
            if s != now_stage:
                for g in range(width):
                    if colours[now_stage, g] >= 3 and colours[s, g] < 3 and soon[now_stage, g] >= 0.0:
                        earliest[s] = max(earliest[s], soon[now_stage, g] + least[f + g])
        a0, a1 = lane_ptr[j], lane_ptr[j + 1]
        red = False
        for a in range(a0, a1):
            for i in range(vptr[a], vptr[a + 1]):
                if colours[now_stage, link_group[v_link[order[i]]] - f] < 4:
                    red = True
        if not red:
            continue
        jptr = np.zeros(a1 - a0 + 1, np.int64)
        end = 0
        for a in range(a0, a1):
            end = fill_lane(end, vptr[a], vptr[a + 1], order, v_distance, v_speed, v_wait, v_link, shown, shown_for, room, lane_length, link_to, link_group, f, lane_limit[a], lane_links[lane_links_ptr[a] : lane_links_ptr[a + 1]], rates, lane_visible[a], lane_own[a], link_pocket, link_before, ended_for, eta, group, still, weight, closed, pocket, gap_before, par)  # fmt: skip
            jptr[a - a0 + 1] = end
        change = 0.0
        for i in range(lane_links_ptr[a0], lane_links_ptr[a1]):
            change += par[CHANGE] * rates[lane_links[i]]
        s, hold, _ = search(now_stage, colours, yields_of[f : f + width, :width], trans[s0 : s0 + count, :count, :width], width, soon, earliest, a1 - a0, 0, jptr, eta, group, still, weight, closed, pocket, gap_before, holds, lengths, least[f : f + width], horizon, change, par)  # fmt: skip
        out_target[j], out_hold[j] = s, hold
