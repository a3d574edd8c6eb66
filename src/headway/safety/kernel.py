"""One second of the gate, compiled: from the colours wanted to the colours shown.

The rules stand here in the order in which they are applied; `tests/safety/rules.py` states them a
second time, naively. What they read and write is in `headway.safety.arrays`.
"""

from __future__ import annotations

from enum import IntEnum

from numba import njit

from headway.roads import Colour
from headway.roads.timing import LONGEST_YELLOW_S
from headway.safety.arrays import NO_GROUP, NO_STAGE

CALL_MEMORY_S = 10.0  # bridges a detector that loses a waiting vehicle for a moment
EPS_S = 1e-6  # times that differ by less are equal: sums of float seconds are not exact
MIN_COMPLETENESS = 0.5  # a junction of which less is measured serves every group

# No counting of references: the caller holds every array, and to count them at each call took nine
# tenths of the time of `apply_rules` (decision 14).
compiled = njit(cache=True, _nrt=False)  # type: ignore[call-overload]


class Rule(IntEnum):
    """Why the gate showed something else than was wanted. MAXIMUM_CYCLE is reported where the
    service that MAXIMUM_RED notes was begun by `headway.safety.cycle`.
    """

    NONE = 0
    COLOUR = 1
    CONFLICT = 2
    MINIMUM_GREEN = 3
    MAXIMUM_GREEN = 4
    MINIMUM_CYCLE = 5
    MAXIMUM_RED = 6
    MAXIMUM_CYCLE = 7


# calls


@compiled
def detect_calls(  # type: ignore[no-untyped-def]
    vehicle_lanes, vehicle_links, links_known, ways, waiting_persons, completeness, junctions, calls
):
    """Fill `calls.present`: a vehicle or a pedestrian is there for the group, or its junction is
    measured too incompletely to know. A vehicle whose link is not known, or only guessed, calls
    every group that its lane leads to.

    vehicle_lanes, vehicle_links: int (vehicles,). links_known: bool. waiting_persons: int
        (groups,). completeness: float (junctions,) 0..1.
    """
    first = junctions.first_group
    for j in range(len(first) - 1):
        # written so that a completeness that is not a number counts as too little
        unknown = not completeness[j] >= MIN_COMPLETENESS
        for g in range(first[j], first[j + 1]):
            calls.present[g] = unknown or waiting_persons[g] > 0

    lanes = len(ways.lane_start) - 1
    for v in range(len(vehicle_links)):
        link, lane = vehicle_links[v], vehicle_lanes[v]
        is_known = 0 <= link < len(ways.link_group)
        if is_known and ways.link_group[link] >= 0:
            calls.present[ways.link_group[link]] = True
        if 0 <= lane < lanes and not (links_known and is_known):
            for k in range(ways.lane_start[lane], ways.lane_start[lane + 1]):
                calls.present[ways.lane_group[k]] = True


@compiled
def update_call_times(now_s, calls, signals, conflicts):  # type: ignore[no-untyped-def]
    """Bring up to date how long groups have asked, and how long greens have kept others waiting."""
    for g in range(len(signals.colour)):
        if calls.present[g]:
            calls.last_s[g] = now_s
    for g in range(len(signals.colour)):
        asks = is_asking(g, now_s, calls, signals)
        calls.since_s[g] = min(calls.since_s[g], now_s) if asks else now_s
        waits = is_kept_waiting(g, now_s, calls, signals, conflicts)
        calls.conflicting_since_s[g] = min(calls.conflicting_since_s[g], now_s) if waits else now_s


@compiled
def is_asking(group, now_s, calls, signals):  # type: ignore[no-untyped-def]
    """The group is not green, and traffic for it was there within CALL_MEMORY_S."""
    if signals.colour[group] >= Colour.PERMISSIVE:
        return False
    return now_s - calls.last_s[group] <= CALL_MEMORY_S


@compiled
def is_kept_waiting(green, now_s, calls, signals, conflicts):  # type: ignore[no-untyped-def]
    """The group `green` shows green, and a group in conflict with it asks."""
    if signals.colour[green] < Colour.PERMISSIVE:
        return False
    for k in range(conflicts.start[green], conflicts.start[green + 1]):
        if is_asking(conflicts.group[k], now_s, calls, signals):
            return True
    return False


# the rules


@compiled
def apply_rules(now_s, wanted, state, tables, decision):  # type: ignore[no-untyped-def]
    """Fill `decision` with the colours to show, and the rule at each group where one was applied.

    wanted: int8 (groups,), changed in place.
    """
    for g in range(len(wanted)):
        decision.rule[g] = Rule.NONE
    orders = state.orders
    for j in range(len(orders.forced)):
        if orders.held[j]:
            serve_kept_waiting(j, now_s, wanted, state, tables)
    serve_starving(now_s, wanted, state, tables, decision)
    reject_unknown_colours(wanted, decision)
    for g in range(len(wanted)):
        end_green(g, now_s, wanted, state, tables.limits, decision)
    # one by one: each start is checked against all that is shown by then or still being cleared
    first = tables.junctions.first_group
    for j in range(len(first) - 1):
        for g in range(first[j], first[j + 1]):
            start_green(g, now_s, wanted, state.signals, orders.preempted[j], tables, decision)


# maximum red


@compiled
def serve_starving(now_s, wanted, state, tables, decision):  # type: ignore[no-untyped-def]
    """Where a group has waited for the maximum red, request its stage until its minimum green is
    over. Whom a junction serves is kept in `state.orders.forced`, and written there by
    `headway.safety.cycle` too.

    wanted: int8 (groups,), changed in place.
    """
    forced = state.orders.forced
    for j in range(len(forced)):
        if state.orders.exempt[j]:
            forced[j] = NO_GROUP
            count_max_green_anew(j, now_s, state.calls, tables.junctions)
            continue
        served = forced[j]
        if served == NO_GROUP or has_had_min_green(served, now_s, state.signals, tables.limits):
            forced[j] = longest_starving(j, now_s, state, tables)
        if forced[j] != NO_GROUP:
            want_stage_of(forced[j], j, wanted, tables.junctions, decision)


@compiled
def count_max_green_anew(junction, now_s, calls, junctions):  # type: ignore[no-untyped-def]
    """An order or an emergency stands over the maximum green, which counts from its end."""
    for g in range(junctions.first_group[junction], junctions.first_group[junction + 1]):
        calls.conflicting_since_s[g] = now_s


@compiled
def has_had_min_green(group, now_s, signals, limits):  # type: ignore[no-untyped-def]
    if signals.colour[group] < Colour.PERMISSIVE:
        return False
    return now_s - signals.since_s[group] + EPS_S >= limits.min_green_s[group]


@compiled
def longest_starving(junction, now_s, state, tables):  # type: ignore[no-untyped-def]
    """The group that has asked longest, at least the maximum red; NO_GROUP where there is none."""
    found = NO_GROUP
    longest_s = 0.0
    first_group, serving_stage = tables.junctions.first_group, tables.junctions.serving_stage
    for g in range(first_group[junction], first_group[junction + 1]):
        if state.signals.colour[g] >= Colour.PERMISSIVE or serving_stage[g] == NO_STAGE:
            continue
        red_s = now_s - state.calls.since_s[g]
        if red_s >= tables.limits.max_red_s[g] - EPS_S and red_s >= longest_s:
            longest_s = red_s
            found = g
    return found


@compiled
def serve_kept_waiting(junction, now_s, wanted, state, tables):  # type: ignore[no-untyped-def]
    """Under a hold: where a green ends by its maximum, write the group that has waited longest for
    it into `state.orders.forced`, so that it is served before the hold goes on.
    """
    if state.orders.forced[junction] != NO_GROUP:
        return
    longest_s = -1.0
    first_group = tables.junctions.first_group
    for g in range(first_group[junction], first_group[junction + 1]):
        is_wanted = wanted[g] >= Colour.PERMISSIVE
        if not (is_wanted and state.signals.colour[g] >= Colour.PERMISSIVE):
            continue
        kept_waiting_s = now_s - state.calls.conflicting_since_s[g]
        if kept_waiting_s + EPS_S < tables.limits.max_green_s[g]:
            continue
        for k in range(tables.conflicts.start[g], tables.conflicts.start[g + 1]):
            other = tables.conflicts.group[k]
            waited_s = now_s - state.calls.since_s[other]
            is_served = tables.junctions.serving_stage[other] != NO_STAGE
            asks = is_asking(other, now_s, state.calls, state.signals)
            if is_served and asks and waited_s > longest_s:
                longest_s = waited_s
                state.orders.forced[junction] = other


@compiled
def want_stage_of(group, junction, wanted, junctions, decision):  # type: ignore[no-untyped-def]
    """Want the stage that serves `group`; the rule is noted at `group` if that changes anything."""
    first = junctions.first_group[junction]
    row = junctions.first_stage[junction] + junctions.serving_stage[group]
    for g in range(first, junctions.first_group[junction + 1]):
        colour = junctions.stages[row, g - first]
        if wanted[g] != colour:
            wanted[g] = colour
            decision.rule[group] = Rule.MAXIMUM_RED


# the colours of the second


@compiled
def reject_unknown_colours(wanted, decision):  # type: ignore[no-untyped-def]
    """What is no colour counts as red."""
    for g in range(len(wanted)):
        if wanted[g] < Colour.RED or wanted[g] > Colour.GREEN:
            wanted[g] = Colour.RED
            decision.rule[g] = Rule.COLOUR


@compiled
def end_green(group, now_s, wanted, state, limits, decision):  # type: ignore[no-untyped-def]
    """The colour of `group` if it starts nothing: green for as long as it is wanted and allowed,
    then yellow, then red.
    """
    shown = state.signals.colour[group]
    if shown < Colour.PERMISSIVE:
        is_yellow = shown == Colour.YELLOW
        yellow = is_yellow and stays_yellow(group, now_s, wanted, state.signals, limits)
    elif stays_green(group, now_s, wanted, state, limits, decision):
        # green may fall to permissive at once; its rise to protected is a start
        falls = wanted[group] == Colour.PERMISSIVE
        decision.colours[group] = wanted[group] if falls else shown
        return
    else:
        yellow = limits.yellow_s[group] > 0.0
    decision.colours[group] = Colour.YELLOW if yellow else Colour.RED


@compiled
def stays_green(group, now_s, wanted, state, limits, decision):  # type: ignore[no-untyped-def]
    """A green is kept while it is wanted, up to its maximum since the first conflicting call (as in
    NEMA controllers), and up to its minimum where it is not.
    """
    if wanted[group] >= Colour.PERMISSIVE:
        kept_waiting_s = now_s - state.calls.conflicting_since_s[group]
        if kept_waiting_s + EPS_S >= limits.max_green_s[group]:
            decision.rule[group] = Rule.MAXIMUM_GREEN
            return False
        return True
    if now_s - state.signals.since_s[group] + EPS_S < limits.min_green_s[group]:
        decision.rule[group] = Rule.MINIMUM_GREEN
        return True
    return False


@compiled
def stays_yellow(group, now_s, wanted, signals, limits):  # type: ignore[no-untyped-def]
    """A yellow lasts its time, and longer where that is wanted, up to LONGEST_YELLOW_S."""
    age_s = now_s - signals.since_s[group] + EPS_S
    if age_s < limits.yellow_s[group]:
        return True
    return wanted[group] == Colour.YELLOW and age_s < LONGEST_YELLOW_S


@compiled
def start_green(  # type: ignore[no-untyped-def]
    group, now_s, wanted, signals, preempted, tables, decision
):
    """Start the green that is wanted, or raise a permissive one to protected, if the rules allow.

    A group starts from red only, not in the second in which its green or yellow has ended.

    preempted: its junction serves an emergency vehicle, which does not wait for a minimum cycle.
    """
    decided = decision.colours[group]
    starts = (
        decided == Colour.RED
        and signals.colour[group] == Colour.RED
        and wanted[group] >= Colour.PERMISSIVE
    )
    rises = decided == Colour.PERMISSIVE and wanted[group] == Colour.GREEN
    since_start_s = now_s - signals.green_start_s[group]
    is_soon = since_start_s + EPS_S < tables.limits.min_cycle_s[group]
    if starts and is_soon and not preempted:
        decision.rule[group] = Rule.MINIMUM_CYCLE
    elif (starts or rises) and is_clear_of_conflicting_groups(
        group, now_s, wanted, signals, tables, decision
    ):
        decision.colours[group] = wanted[group]


@compiled
def is_clear_of_conflicting_groups(  # type: ignore[no-untyped-def]
    group, now_s, wanted, signals, tables, decision
):
    """No group in conflict with `group` is green (unless one of the two is permissive and gives
    way) or still being cleared.
    """
    clear = True
    conflicts = tables.conflicts
    for k in range(conflicts.start[group], conflicts.start[group + 1]):
        other = conflicts.group[k]
        other_colour = decision.colours[other]
        if other_colour >= Colour.PERMISSIVE:
            gives_way = wanted[group] == Colour.PERMISSIVE and conflicts.gives_way_to[k]
            it_gives_way = other_colour == Colour.PERMISSIVE and conflicts.it_gives_way[k]
            if gives_way or it_gives_way:
                continue
            clear = False
            # where the other is not wanted either, the group only waits for its minimum green
            if wanted[other] >= Colour.PERMISSIVE:
                decision.rule[group] = Rule.CONFLICT
        elif is_being_cleared(other, now_s, signals, tables.limits, decision):
            clear = False
    return clear


@compiled
def is_being_cleared(group, now_s, signals, limits, decision):  # type: ignore[no-untyped-def]
    """The green of `group` ends in this second, or its yellow and clearance are not over."""
    if decision.colours[group] == Colour.YELLOW or signals.colour[group] >= Colour.PERMISSIVE:
        return True
    if signals.colour[group] == Colour.YELLOW:
        # a lamp that showed green meanwhile has moved the end of its green
        yellow_end_s = signals.green_end_s[group] + limits.yellow_s[group]
        return limits.clearance_s[group] > EPS_S or now_s + EPS_S < yellow_end_s
    return now_s + EPS_S < cleared_s(group, signals, limits)


@compiled
def cleared_s(group, signals, limits):  # type: ignore[no-untyped-def]
    """When a group that shows red has cleared the junction: its clearance begins with its red,
    however long its yellow was; before its first green, with the yellow that it may have shown.
    """
    red_s = max(signals.since_s[group], signals.green_end_s[group] + limits.yellow_s[group])
    return red_s + limits.clearance_s[group]


@compiled
def put_in_force(now_s, colours, signals):  # type: ignore[no-untyped-def]
    """Show `colours` from now on, and bring the times of each group up to date."""
    for g in range(len(colours)):
        green = colours[g] >= Colour.PERMISSIVE
        was_green = signals.colour[g] >= Colour.PERMISSIVE
        if green and not was_green:
            signals.green_start_s[g] = now_s
        if was_green and not green:
            signals.green_end_s[g] = now_s
        if colours[g] != signals.colour[g] and not (green and was_green):
            signals.since_s[g] = now_s
        signals.colour[g] = colours[g]


# checks


@compiled
def is_equal(a, b):  # type: ignore[no-untyped-def]
    """Two arrays are of one length and hold the same; faster than NumPy's on a few values."""
    equal = len(a) == len(b)
    for g in range(min(len(a), len(b))):
        equal &= a[g] == b[g]
    return equal


@compiled
def is_safe(colours, conflicts):  # type: ignore[no-untyped-def]
    """The last check, written apart from the rules above: known colours only, and no two
    conflicting greens of which none is permissive and gives way.
    """
    for g in range(len(colours)):
        if colours[g] < Colour.RED or colours[g] > Colour.GREEN:
            return False
        if colours[g] < Colour.PERMISSIVE:
            continue
        for k in range(conflicts.start[g], conflicts.start[g + 1]):
            other = conflicts.group[k]
            if colours[other] >= Colour.PERMISSIVE and not (
                (colours[g] == Colour.PERMISSIVE and conflicts.gives_way_to[k])
                or (colours[other] == Colour.PERMISSIVE and conflicts.it_gives_way[k])
            ):
                return False
    return True
