"""The maximum cycle, compiled: who has to be served now, so that nobody's cycle grows too long.

Control has no fixed cycle, so each signal group has its own: from its start of green to its next
one. It grows no longer than its maximum; but a call always has half of that, however late it comes,
and a green that keeps nobody waiting counts from when it does.

The gate compares two courses: to let the controller have this tick and then to serve all groups in
turn, or to serve them in turn from now on. In turn means: by the stage of the group whose cycle
ends first, then of those left. The controller is free as long as that makes nobody later. Where
there are more groups than fit, they are so served as soon as possible.
"""

from __future__ import annotations

from math import ceil, inf
from typing import NamedTuple

from headway.roads import Colour
from headway.safety.arrays import NO_GROUP, NO_STAGE
from headway.safety.kernel import (
    CALL_MEMORY_S,
    EPS_S,
    cleared_s,
    compiled,
    has_had_min_green,
    is_asking,
)
from headway.values import BoolArray, FloatArray, IntArray

LATE_CALL_SHARE = 0.5  # of the maximum cycle that is left to a call, however late it comes


class Cycles(NamedTuple):
    """What is remembered of the cycles; changed in place.

    since_s:   float (groups,), when the cycle began: the start of green, or later where a late call
        or a green that keeps nobody waiting has moved it.
    is_late:   bool (groups,), it has lasted longer than its maximum, and the group is not green.
    late_now:  bool (groups,), since this second.
    serving:   int (junctions,), the group whose service was begun last because of its cycle.
    service_s: float (junctions,), see `headway.safety.tables.service_times`.
    """

    since_s: FloatArray
    is_late: BoolArray
    late_now: BoolArray
    serving: IntArray
    service_s: FloatArray


class Course(NamedTuple):
    """The course that is being worked out; overwritten each time.

    left:    bool (groups,), called, and not served yet.
    lit:     bool (groups,), green.
    end_s:   float (groups,), when the green of a lit group may end.
    clear_s: float (groups,), when yellow and clearance of another are over.
    """

    left: BoolArray
    lit: BoolArray
    end_s: FloatArray
    clear_s: FloatArray


@compiled
def update_cycles(now_s, cycles, signals, calls, limits):  # type: ignore[no-untyped-def]
    """Bring up to date when cycles began and which are late. Returns whether any is since now."""
    any_new = False
    for g in range(len(signals.colour)):
        is_green = signals.colour[g] >= Colour.PERMISSIVE
        if is_green:
            cycles.since_s[g] = calls.conflicting_since_s[g]
        elif not is_asking(g, now_s, calls, signals):
            half_s = LATE_CALL_SHARE * limits.max_cycle_s[g]
            cycles.since_s[g] = max(cycles.since_s[g], now_s - half_s)
        is_late = not is_green and now_s - cycles.since_s[g] > limits.max_cycle_s[g] + EPS_S
        cycles.late_now[g] = is_late and not cycles.is_late[g]
        cycles.is_late[g] = is_late
        any_new |= cycles.late_now[g]
    return any_new


@compiled
def serve_due(now_s, period_s, wanted, state, tables, cycles, course):  # type: ignore[no-untyped-def]
    """Where the controller would make somebody late, write the group to be served next into
    `state.orders.forced`.

    period_s: of the ticks; changes happen at whole ones.
    """
    forced, limits = state.orders.forced, tables.limits
    for j in range(len(forced)):
        is_serving = forced[j] != NO_GROUP
        if state.orders.off_cycle[j] or (
            is_serving and not has_had_min_green(forced[j], now_s, state.signals, limits)
        ):
            continue
        # most seconds end here: even the longest way round would be in time
        left_s = first_end_s(j, cycles, tables.junctions, limits) - now_s
        if left_s > cycles.service_s[j] + period_s:
            continue

        begin_course(now_s, period_s, j, state, tables, course)
        first = next_in_turn(j, tables.junctions, limits, cycles, course)
        if first == NO_GROUP:
            continue
        at_once_s = lateness_s(now_s, period_s, j, state.signals, tables, cycles, course)
        begin_course(now_s, period_s, j, state, tables, course)
        let_controller(now_s, period_s, j, wanted, state.signals, tables, course)
        next_s = now_s + period_s
        later_s = lateness_s(next_s, period_s, j, state.signals, tables, cycles, course)
        if later_s > at_once_s + EPS_S:
            forced[j] = cycles.serving[j] = first


@compiled
def first_end_s(junction, cycles, junctions, limits):  # type: ignore[no-untyped-def]
    """When the first cycle of the junction has to end."""
    first = inf
    for g in range(junctions.first_group[junction], junctions.first_group[junction + 1]):
        first = min(first, cycles.since_s[g] + limits.max_cycle_s[g])
    return first


@compiled
def begin_course(now_s, period_s, junction, state, tables, course):  # type: ignore[no-untyped-def]
    """From the signals and calls of now."""
    signals, junctions, limits = state.signals, tables.junctions, tables.limits
    for g in range(junctions.first_group[junction], junctions.first_group[junction + 1]):
        is_called = now_s - state.calls.last_s[g] <= CALL_MEMORY_S
        course.left[g] = is_called and junctions.serving_stage[g] != NO_STAGE
        course.end_s[g] = signals.since_s[g] + limits.min_green_s[g]
        if signals.colour[g] == Colour.RED:
            course.clear_s[g] = cleared_s(g, signals, limits)
        else:
            end_green_of(g, signals.green_end_s[g], period_s, limits, course)
        course.lit[g] = signals.colour[g] >= Colour.PERMISSIVE


@compiled
def let_controller(now_s, period_s, junction, wanted, signals, tables, course):  # type: ignore[no-untyped-def]
    """One tick as it is wanted: greens end whose minimum is over, and others start."""
    limits = tables.limits
    begin = tables.junctions.first_group[junction]
    end = tables.junctions.first_group[junction + 1]
    for g in range(begin, end):
        is_ending = wanted[g] < Colour.PERMISSIVE and course.end_s[g] <= now_s + EPS_S
        if course.lit[g] and is_ending:
            end_green_of(g, now_s, period_s, limits, course)
    for g in range(begin, end):
        may_start = (
            wanted[g] >= Colour.PERMISSIVE
            and signals.colour[g] == Colour.RED
            and now_s - signals.green_start_s[g] + EPS_S >= limits.min_cycle_s[g]
        )
        if may_start and is_free(g, now_s, wanted, tables.conflicts, course):
            course.lit[g] = True
            course.left[g] = False
            course.end_s[g] = now_s + limits.min_green_s[g]


@compiled
def is_free(group, now_s, wanted, conflicts, course):  # type: ignore[no-untyped-def]
    """No group in conflict is lit, unless one of the two gives way, or being cleared."""
    for k in range(conflicts.start[group], conflicts.start[group + 1]):
        other = conflicts.group[k]
        gives_way = wanted[group] == Colour.PERMISSIVE and conflicts.gives_way_to[k]
        it_gives_way = wanted[other] == Colour.PERMISSIVE and conflicts.it_gives_way[k]
        if course.lit[other]:
            if not gives_way and not it_gives_way:
                return False
        elif course.clear_s[other] > now_s + EPS_S:
            return False
    return True


@compiled
def end_green_of(group, at_s, period_s, limits, course):  # type: ignore[no-untyped-def]
    """Its yellow lasts whole ticks, and its clearance begins with its red."""
    course.lit[group] = False
    red_s = at_s + whole_ticks(limits.yellow_s[group], period_s)
    course.clear_s[group] = red_s + limits.clearance_s[group]


@compiled
def next_in_turn(junction, junctions, limits, cycles, course):  # type: ignore[no-untyped-def]
    """Of the groups that are left and not lit, the one whose cycle ends first; NO_GROUP if there is
    none. One that is lit now comes once its green has ended.
    """
    found = NO_GROUP
    first_s = inf
    for g in range(junctions.first_group[junction], junctions.first_group[junction + 1]):
        end_s = cycles.since_s[g] + limits.max_cycle_s[g]
        if course.left[g] and not course.lit[g] and end_s < first_s:
            first_s = end_s
            found = g
    return found


@compiled
def lateness_s(at_s, period_s, junction, signals, tables, cycles, course):  # type: ignore[no-untyped-def]
    """By how much groups start after the ends of their cycles, in all, if from `at_s` on all are
    served in turn, each stage until the group for which it is shown has had its minimum green.
    """
    junctions, limits = tables.junctions, tables.limits
    begin = junctions.first_group[junction]
    end = junctions.first_group[junction + 1]
    total_s = 0.0
    for _ in range(end - begin):
        first = next_in_turn(junction, junctions, limits, cycles, course)
        if first == NO_GROUP:
            break
        stage = junctions.stages[junctions.first_stage[junction] + junctions.serving_stage[first]]
        for g in range(begin, end):
            if course.lit[g] and stage[g - begin] < Colour.PERMISSIVE:
                end_green_of(g, max(at_s, course.end_s[g]), period_s, limits, course)
        for g in range(begin, end):
            if course.lit[g] or stage[g - begin] < Colour.PERMISSIVE:
                continue
            wait_s = earliest_start_s(g, begin, stage, signals, tables, course) - at_s
            start_s = at_s + whole_ticks(max(wait_s, 0.0), period_s)
            course.lit[g] = True
            course.end_s[g] = start_s + whole_ticks(limits.min_green_s[g], period_s)
            if course.left[g]:
                course.left[g] = False
                total_s += max(start_s - cycles.since_s[g] - limits.max_cycle_s[g], 0.0)
        at_s = max(at_s, course.end_s[first])
    return total_s


@compiled
def earliest_start_s(group, begin, stage, signals, tables, course):  # type: ignore[no-untyped-def]
    """When the groups in conflict that are not in `stage` are cleared, and the minimum cycle is
    over.
    """
    conflicts = tables.conflicts
    earliest_s = signals.green_start_s[group] + tables.limits.min_cycle_s[group]
    for k in range(conflicts.start[group], conflicts.start[group + 1]):
        other = conflicts.group[k]
        if stage[other - begin] < Colour.PERMISSIVE:
            earliest_s = max(earliest_s, course.clear_s[other])
    return earliest_s


@compiled
def whole_ticks(duration_s, period_s):  # type: ignore[no-untyped-def]
    """A duration, rounded up to whole ticks."""
    return period_s * ceil((duration_s - EPS_S) / period_s)
