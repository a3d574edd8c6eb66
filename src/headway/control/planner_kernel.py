"""The planner's search, compiled. See `headway.control.planner` for what it means."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from headway.control.queue_model import (
    ACCEL,
    BEFORE,
    CLOSED,
    COLUMN,
    CRAWL,
    ETA,
    GIVE_UP,
    GREEN,
    HARM,
    HORIZON,
    INSIDE,
    PERMISSIVE,
    PERSON,
    ROOM,
    ROWS,
    SHORT,
    SPILL,
    STILL,
    STUCK,
    WEIGHT,
    best_next,
    clear_time,
    cost_left,
    cost_so_far,
    eta_s,
    stage_cost,
)
from headway.roads import Colour
from headway.values import BoolArray, ColourArray, FloatArray, IntArray

INSIDE_CLEARS_S = 1.0  # who waits inside goes so long after those have stopped to whom it gives way
VEHICLE_SPACE_M = 7.5  # a vehicle in a queue, with the gap to the next one
QUEUED_MPS = 2.0  # a slower vehicle belongs to the queue that fills its lane
AT_STOP_LINE_M = 15.0  # the first two places of a queue: further back, something else is in the way
SETTLING_S = 3.0  # from the start of green until whoever is first should have moved off
MIN_ROOM_SHARE = 0.6  # of its length, in a lane too short to have the room that a lane needs
LENGTH_MARGIN_S = 1.0  # a length so close to the one that clears the queues is not tried too
MAX_STAGES_AHEAD = 12  # of a roll-out: two minutes of shortest greens, beyond every horizon
EPS_S = 1e-6  # times that differ by less are equal: sums of float seconds are not exact
NO_COLUMN = -1
NO_LANE = -1

WordArray = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]


class Tables(NamedTuple):
    """What does not change: the network and its timing, flat.

    first: (junctions + 1,) groups; col_ptr: the same with, after the groups of each junction, one
        column more for each of them
    whose traffic may wait inside the junction for a gap. stage_ptr: (junctions + 1,) rows of stages
    (rows, widest) and of lit and green (rows, words): the columns that may go, and those protected,
    as bits. intergreen: (groups, widest) seconds, of the column's end before the row's start.
    lane_ptr: (junctions + 1,) stop lanes; approach: (lanes,) place among them. lane_length,
    lane_street: (lanes,), the latter the first lane of the same street. own: (junctions,) how many
        of the stages, the
    first ones, are the programme's. link_*: by link; its column, and that of those who wait inside,
    -1 where there is no place to wait.
    """

    first: IntArray
    col_ptr: IntArray
    stage_ptr: IntArray
    own: IntArray
    stages: ColourArray
    lit: WordArray
    green: WordArray
    intergreen: FloatArray
    yields: BoolArray
    least: FloatArray
    yellow: FloatArray
    lane_ptr: IntArray
    lane_limit: FloatArray
    lane_own: FloatArray
    lane_id: IntArray
    lane_street: IntArray
    approach: IntArray
    link_group: IntArray
    link_column: IntArray
    link_inside: IntArray
    link_to: IntArray
    link_before: FloatArray
    lane_length: FloatArray
    holds: FloatArray
    lengths: FloatArray


@njit(cache=True)
def rollout(  # type: ignore[no-untyped-def]
    q,
    vptr,
    lanes,
    ptr,
    last,
    stage,
    src,
    begin,
    cost,
    bound,
    stages,
    yields,
    trans,
    opens,
    least,
    m,
    fixed_end,
):
    """Cost up to the horizon if `stage` is begun at `begin` and each stage then lasts until its
    queues are gone.

    fixed_end: the end of the first stage. The rows after `src` of ptr and last are its scratch.
    """
    now = begin
    row = src
    end = fixed_end
    for turn in range(MAX_STAGES_AHEAD):
        if turn > 0:
            end = clear_time(q, vptr, lanes, row, ptr, last, stages[stage], now, opens, least, m)
        end = min(end, m[HORIZON])
        nxt = 3 if row == 2 else 2
        cost += stage_cost(
            q, vptr, lanes, row, nxt, ptr, last, stages[stage], yields, now, end, opens, m
        )
        row = nxt
        if end >= m[HORIZON]:
            break
        if cost + cost_so_far(q, vptr, lanes, row, ptr, end) >= bound:
            return np.inf
        follow = best_next(q, vptr, lanes, row, ptr, stage, stages, end, m)
        opens[:] = end + trans[stage, follow]
        stage, now = follow, end
    return cost + cost_left(q, vptr, lanes, row, ptr, m)


@njit(cache=True)
def search(q, vptr, lanes, stages, yields, trans, soon, earliest, harm, holds, lengths, least, m):  # type: ignore[no-untyped-def]
    """The stage to aim at now: 0, the stage of now, unless the least-cost plan leaves it at once.

    stages: (S, groups) colours. soon: (S, groups) seconds until green in each stage from the
        signals as they stand, -inf where
    it is green. trans: see `changes`. earliest: (S,) seconds until it may be left for each of them.
    harm: (S,) what a second of each costs by what it blocks. Plans that leave at once come first;
    then one that holds longer and costs less settles it: to hold is decided anew each second, so
    how long need not be known.
    """
    ptr, last = np.empty((ROWS + 1, lanes), np.int64), np.empty((ROWS + 1, 2 * lanes))
    ptr[0], last[0] = 0, -np.inf
    # rows; for a literal all that takes them would be compiled once more
    now = np.int64(0)
    then = np.int64(1)
    opens, entry = np.empty(soon.shape[1]), np.empty(soon.shape[1])
    chosen = 0
    best = stage_cost(
        q, vptr, lanes, now, then, ptr, last, stages[0], yields, 0.0, m[HORIZON], soon[0], m
    )
    best += cost_left(q, vptr, lanes, then, ptr, m) + harm[0] * m[HORIZON]
    for hi in range(len(holds)):
        start = holds[hi]
        base = (
            stage_cost(
                q, vptr, lanes, now, then, ptr, last, stages[0], yields, 0.0, start, soon[0], m
            )
            + harm[0] * start
        )
        if base + cost_so_far(q, vptr, lanes, then, ptr, start) >= best:
            break
        for s in range(1, len(stages)):
            if hi > 0 and earliest[s] > start + EPS_S:
                continue
            entry[:] = soon[s] if hi == 0 else start + trans[0, s]
            clear = clear_time(q, vptr, lanes, then, ptr, last, stages[s], start, entry, least, m)
            for li in range(-1, len(lengths)):
                end = start + lengths[li] if li >= 0 else clear
                if li >= 0 and end >= clear - LENGTH_MARGIN_S:
                    break
                opens[:] = entry
                cost = rollout(
                    q,
                    vptr,
                    lanes,
                    ptr,
                    last,
                    s,
                    then,
                    start,
                    base + harm[s] * (end - start),
                    best,
                    stages,
                    yields,
                    trans,
                    opens,
                    least,
                    m,
                    end,
                )
                if cost < best:
                    if hi > 0:
                        return 0
                    chosen, best = s, cost
        if hi == 0 and chosen == 0:
            return 0
    return chosen


@njit(cache=True)
def sort_by_lane(t, v_lane, v_link, v_distance):  # type: ignore[no-untyped-def]
    """(ptr, order): the vehicles of stop lane a, nearest first, are order[ptr[a]:ptr[a + 1]]."""
    n, lanes = len(v_lane), len(t.lane_limit)
    ptr = np.zeros(lanes + 1, np.int64)
    place = np.full(n, NO_LANE, np.int64)
    for v in range(n):
        if v_lane[v] >= 0 and v_link[v] >= 0 and t.link_group[v_link[v]] >= 0:
            place[v] = t.approach[v_lane[v]]
        if place[v] >= 0:
            ptr[place[v] + 1] += 1
    for a in range(lanes):
        ptr[a + 1] += ptr[a]
    fill, order = ptr[:-1].copy(), np.empty(n, np.int64)
    for v in range(n):
        a = place[v]
        if a >= 0:
            k = fill[a]
            while k > ptr[a] and v_distance[order[k - 1]] > v_distance[v]:
                order[k] = order[k - 1]
                k -= 1
            order[k] = v
            fill[a] += 1
    return ptr, order


@njit(cache=True)
def on_their_way(t, v_link):  # type: ignore[no-untyped-def]
    """(behind, street): vehicles on their way over a junction to each lane; and, at the first lane
    of each street, to all of it. (lanes,) each.
    """
    behind, street = np.zeros(len(t.lane_length)), np.zeros(len(t.lane_length))
    for link in v_link:
        if link >= 0:
            behind[t.link_to[link]] += 1.0
            street[t.lane_street[t.link_to[link]]] += 1.0
    return behind, street


@njit(cache=True)
def fill_lane(  # type: ignore[no-untyped-def]
    q,
    t,
    m,
    a,
    at,
    rows,
    v_distance,
    v_speed,
    v_wait,
    v_link,
    shown,
    shown_for,
    room,
    behind,
    street,
):
    """Put the vehicles `rows` of stop lane a into the queue from place `at` on; takes room in short
    lanes behind. Returns the end.

    behind, street: vehicles on their way to this lane from the junction before, and to all lanes of
        its street.
    """
    tail = 0.0
    for v in rows:
        if v_speed[v] < QUEUED_MPS:
            tail = v_distance[v] + VEHICLE_SPACE_M
    full = max(0.0, min(1.0, tail / t.lane_own[a] * 2.0 - 1.0))
    for i in range(len(rows)):
        v = rows[i]
        link = v_link[v]
        g, to = t.link_group[link], t.link_to[link]
        if v_distance[v] < 0.0:
            if v_speed[v] < m[CRAWL] and t.link_inside[link] != NO_COLUMN:
                q[COLUMN, at] = t.link_inside[link]
                q[ETA, at] = 0.0
                q[STILL, at] = 1.0
                q[INSIDE, at] = 0.0
                q[WEIGHT, at] = 1.0 + (m[SPILL] * (1.0 + street) + v_wait[v] / m[GIVE_UP]) * (
                    t.lane_own[a] < m[SHORT]
                )
                q[BEFORE, at], q[CLOSED, at] = t.link_before[link], v_wait[v] > m[STUCK]
                at += 1
            continue
        q[COLUMN, at] = t.link_column[link]
        q[ETA, at] = eta_s(v_distance[v], v_speed[v], t.lane_limit[a], m[ACCEL])
        q[STILL, at] = v_speed[v] < m[CRAWL]
        q[WEIGHT, at] = 1.0 + m[SPILL] * full * (1.0 + behind / len(rows))
        q[INSIDE, at], q[BEFORE, at] = t.link_inside[link] != NO_COLUMN, t.link_before[link]
        q[CLOSED, at] = 0
        if i == 0 and v_distance[v] < AT_STOP_LINE_M:
            if v_wait[v] > m[STUCK] and shown[g] == GREEN and shown_for[g] > m[STUCK] + SETTLING_S:
                q[CLOSED, at] = (
                    2  # green, and yet it does not move: what blocks it is not the signal
                )
            elif v_wait[v] > m[GIVE_UP]:
                q[CLOSED, at] = 1
        if room[to] < min(m[ROOM], MIN_ROOM_SHARE * t.lane_length[to]):
            q[CLOSED, at] = 3 if t.lane_length[to] < m[SHORT] else 2
        if t.lane_length[to] < m[SHORT] and room[to] < t.lane_length[to]:
            room[to] -= VEHICLE_SPACE_M
        at += 1
    return at


@njit(cache=True)
def look_ahead(t, j, picks, shown, shown_for, ended_for):  # type: ignore[no-untyped-def]
    """(soon, earliest, bound) of `search` for the stages `picks` of junction j from its signals as
    they stand.

    bound: no stage other than the first can begin yet.
    """
    f, width = t.first[j], t.first[j + 1] - t.first[j]
    s0 = t.stage_ptr[j]
    count = len(picks)
    cols = t.col_ptr[j + 1] - t.col_ptr[j]
    soon = np.full((count, cols), -np.inf)
    earliest = np.zeros(count)
    bound = True
    for s in range(count):
        stage = t.stages[s0 + picks[s]]
        for g in range(width):
            if stage[g] < PERMISSIVE:
                if shown[f + g] >= PERMISSIVE and s > 0:
                    earliest[s] = max(earliest[s], t.least[f + g] - shown_for[f + g])
            elif shown[f + g] < PERMISSIVE:
                wait = (
                    max(0.0, t.yellow[f + g] - shown_for[f + g])
                    if shown[f + g] == Colour.YELLOW
                    else 0.0
                )
                for h in range(width):
                    clear = t.intergreen[f + g, h]
                    if clear > 0.0 and shown[f + h] < PERMISSIVE:
                        wait = max(wait, clear - ended_for[f + h])
                    elif clear > 0.0 and stage[h] < PERMISSIVE:
                        wait = max(wait, max(0.0, t.least[f + h] - shown_for[f + h]) + clear)
                soon[s, g] = wait
        for g in range(width, cols):
            if stage[g] == GREEN and t.stages[s0 + picks[0], g] != GREEN:
                soon[s, g] = INSIDE_CLEARS_S
        if s > 0 and earliest[s] <= 0.0:
            bound = False
    now = t.stages[s0 + picks[0]]
    for s in range(1, count):  # with the greens of the stage now that are still to come
        for g in range(width):
            if now[g] >= PERMISSIVE and t.stages[s0 + picks[s], g] < PERMISSIVE:
                earliest[s] = max(earliest[s], soon[0, g] + t.least[f + g])
    return soon, earliest, bound


@njit(cache=True)
def settled(t, j, s0, count, stage, shown, shown_for):  # type: ignore[no-untyped-def]
    """No stage of junction j other than `stage` can begin yet: each would end a green that has not
    had its least.
    """
    young = np.zeros(t.lit.shape[1], np.uint64)
    for g in range(t.first[j], t.first[j + 1]):
        if shown[g] >= PERMISSIVE and shown_for[g] < t.least[g]:
            mark(young, g - t.first[j])
    for s in range(count):
        ends = s == stage
        for w in range(len(young)):
            ends |= (young[w] & ~t.lit[s0 + s, w]) != 0
        if not ends:
            return False
    return True


@njit(cache=True)
def worth_trying(lit, green, stage, need, shut, shown):  # type: ignore[no-untyped-def]
    """The stages to search, `stage` first: those that serve traffic that no other serves as well.

    lit, green: (S, words) of the junction. need: (words,) columns with traffic that a green helps;
        shut: where a green does harm. shown:
    (words,) groups lit now; of stages that serve the same, the one with least harm, then the one
    that keeps most of these, is taken.
    """
    kept, n = np.empty(len(lit), np.int64), 1
    kept[0] = stage
    for s in range(len(lit)):
        drop = s == stage
        i = 0
        while i < n and not drop:
            k = kept[i]
            under, over = True, True
            for w in range(len(need)):
                under &= (lit[s, w] & need[w] & ~lit[k, w]) == 0 and (
                    green[s, w] & need[w] & ~green[k, w]
                ) == 0
                over &= (lit[k, w] & need[w] & ~lit[s, w]) == 0 and (
                    green[k, w] & need[w] & ~green[s, w]
                ) == 0
            worse = overlap(lit[s], shut) - overlap(lit[k], shut)
            if (
                under
                and over
                and i > 0
                and (worse < 0 or (worse == 0 and overlap(lit[s], shown) > overlap(lit[k], shown)))
            ):
                kept[i], drop = s, True
            elif under and worse >= 0:
                drop = True
            elif over and worse <= 0 and i > 0:
                kept[i] = kept[n - 1]
                n -= 1
                continue
            i += 1
        if not drop:
            kept[n] = s
            n += 1
    return kept[:n]


@njit(cache=True)
def changes(stages, width, intergreen):  # type: ignore[no-untyped-def]
    """(S, S, columns): seconds from a change of stage to the green of each column that it begins,
    -inf for the others.

    stages: (S, columns), of which the first `width` are groups. intergreen: (width, ...), of the
        column's end before the row's start.
    """
    count, cols = stages.shape
    out = np.full((count, count, cols), -np.inf)
    for x in range(count):
        for y in range(count):
            for g in range(width):
                if stages[y, g] >= PERMISSIVE and stages[x, g] < PERMISSIVE:
                    clear = 0.0
                    for h in range(width):
                        if stages[x, h] >= PERMISSIVE and stages[y, h] < PERMISSIVE:
                            clear = max(clear, intergreen[g, h])
                    out[x, y, g] = clear
            for g in range(width, cols):
                if stages[y, g] == GREEN and stages[x, g] != GREEN:
                    out[x, y, g] = INSIDE_CLEARS_S
    return out


@njit(cache=True)
def mark(words, column):  # type: ignore[no-untyped-def]
    """Set the bit of `column` in `words`."""
    words[column // 64] |= np.uint64(1) << np.uint64(column % 64)


@njit(cache=True)
def overlap(lit, shown):  # type: ignore[no-untyped-def]
    """Groups lit in both."""
    count = 0
    for w in range(len(lit)):
        x = lit[w] & shown[w]
        while x != 0:
            x &= x - np.uint64(1)
            count += 1
    return count


@njit(cache=True)
def note_changes(at_s, shown, shown_for, lit, began, ended):  # type: ignore[no-untyped-def]
    """(lit, began, ended) brought up to date with the signals as they are shown; new arrays."""
    lit = lit.copy()
    began = began.copy()
    ended = ended.copy()
    for g in range(len(shown)):
        if (shown[g] >= PERMISSIVE) != lit[g]:
            lit[g] = not lit[g]
            (began if lit[g] else ended)[g] = at_s - shown_for[g]
    return lit, began, ended


@njit(cache=True)
def plan(  # type: ignore[no-untyped-def]
    t,
    m,
    at_s,
    target,
    shown,
    shown_for,
    ended,
    v_lane,
    v_link,
    v_distance,
    v_speed,
    v_wait,
    room,
    persons,
    known,
):
    """Decide all junctions: the stages (junctions,) to aim at from now on.

    target: those up to now. ended: (groups,) when a green did. persons: (groups,) who wait at a
        crossing; all of them go at once. known: the
    links of vehicles are told; where they are guessed, the programme's stages alone are tried,
    which serve the whole of a lane.
    """
    out, ended_for = np.empty_like(target), at_s - ended
    ptr, order = sort_by_lane(t, v_lane, v_link, v_distance)
    room, (behind, street) = room.copy(), on_their_way(t, v_link)
    q = np.empty((7, len(v_lane) + len(persons)))
    need = np.zeros(t.lit.shape[1], np.uint64)
    shut = np.zeros(t.lit.shape[1], np.uint64)
    lit = np.zeros(t.lit.shape[1], np.uint64)
    for j in range(len(t.first) - 1):
        f, width = t.first[j], t.first[j + 1] - t.first[j]
        s0, count = t.stage_ptr[j], t.stage_ptr[j + 1] - t.stage_ptr[j] if known else t.own[j]
        stage, cols = target[j] if target[j] < count else 0, t.col_ptr[j + 1] - t.col_ptr[j]
        out[j] = stage
        if settled(t, j, s0, count, stage, shown, shown_for):
            continue
        a0, a1 = np.int64(t.lane_ptr[j]), np.int64(t.lane_ptr[j + 1])
        vptr = np.zeros(a1 - a0 + width + 1, np.int64)
        end = np.int64(0)
        for a in range(a0, a1):
            rows = order[ptr[a] : ptr[a + 1]]
            end = fill_lane(
                q,
                t,
                m,
                a,
                end,
                rows,
                v_distance,
                v_speed,
                v_wait,
                v_link,
                shown,
                shown_for,
                room,
                behind[t.lane_id[a]],
                street[t.lane_street[t.lane_id[a]]],
            )
            vptr[a - a0 + 1] = end
        lanes = a1 - a0
        for g in range(width):  # a crossing where somebody waits is one more lane
            if persons[f + g] > 0 and shown[f + g] < PERMISSIVE:
                q[:, end] = 0.0
                q[COLUMN, end] = g
                q[STILL, end] = 1.0
                q[WEIGHT, end] = m[PERSON] * persons[f + g]
                end += 1
                lanes += 1
                vptr[lanes] = end
        need[:] = 0
        shut[:] = 0
        lit[:] = 0
        for i in range(end):
            mark(shut if q[CLOSED, i] > 2.0 else need, int(q[COLUMN, i]))
        asked = False
        for w in range(len(need)):
            shut[w] &= ~need[w]
            asked |= (need[w] & ~t.green[s0 + stage, w]) | (shut[w] & t.lit[s0 + stage, w]) != 0
        if not asked:
            continue
        for g in range(width):
            if shown[f + g] >= PERMISSIVE:
                mark(lit, g)
        picks = worth_trying(
            t.lit[s0 : s0 + count], t.green[s0 : s0 + count], stage, need, shut, lit
        )
        soon, earliest, bound = look_ahead(t, j, picks, shown, shown_for, ended_for)
        if bound:
            continue
        harm = np.zeros(len(picks))
        for x in range(len(picks)):
            harm[x] = overlap(t.lit[s0 + picks[x]], shut) * m[HARM]
        stages, least = np.empty((len(picks), cols), np.int8), np.zeros(cols)
        least[:width] = t.least[f : f + width]
        for x in range(len(picks)):
            stages[x] = t.stages[s0 + picks[x], :cols]
        trans = changes(stages, width, t.intergreen[f : f + width])
        yields = t.yields[t.col_ptr[j] : t.col_ptr[j + 1], :cols]
        out[j] = picks[
            search(
                q,
                vptr,
                lanes,
                stages,
                yields,
                trans,
                soon,
                earliest,
                harm,
                t.holds,
                t.lengths,
                least,
                m,
            )
        ]
    return out
