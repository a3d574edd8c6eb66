"""The stages that the planner's search compares at one junction, compiled.

Times are seconds from now; sets of columns are bits in 64-bit words.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from headway.control.planner_tables import WordArray
from headway.control.queue_model import (
    LONG_AGO_S,
    NEVER_S,
    Closed,
    Records,
    compiled,
    inlined,
    record_type,
)
from headway.roads import Colour
from headway.values import BoolArray, ColourArray, FloatArray

INSIDE_CLEARS_S = 1.0  # from the end of the opposing green until waiting turners clear
# Stages that are searched; the time of a search grows by their square. The scenarios of the
# benchmark and the towns of the tests have up to 34 worth trying, a jammed junction of eight
# streets 353, which took two seconds.
MOST_TRIED = 48


class Demand(NamedTuple):
    """Columns of a junction as bits, (words,) each.

    need: traffic that a green helps. blocking: traffic for which a green does harm, and no other.
    lit:  groups that are green now.
    """

    need: WordArray
    blocking: WordArray
    lit: WordArray


# Of one column. is_lit: green now; barred_s: until its shortest cycle is over, LONG_AGO_S if it has
# none; due_s: until it has to begin, NEVER_S if nobody waits.
LIMIT = record_type(min_green_s=np.float64, barred_s=np.float64, due_s=np.float64, is_lit=np.bool_)


class Candidates(NamedTuple):
    """The stages that are searched at one junction; the first is the stage of now.

    colours:       int8 (stages, columns).
    yields:        bool (columns, columns), row to column.
    opens_now_s:   float (stages, columns), until green as the signals stand, LONG_AGO_S if green.
    opens_after_s: float (stages, stages, columns), from a change of stage; see `change_times`.
    leaves_s:      float (stages,), until the stage of now may be left for each of them.
    blocking_cost: float (stages,), of a second of each, by what it blocks.
    limits:        LIMIT (columns,).
    is_any_barred: the shortest cycle of some column is not over.
    is_any_due:    some column has to begin.
    """

    colours: ColourArray
    yields: BoolArray
    opens_now_s: FloatArray
    opens_after_s: FloatArray
    leaves_s: FloatArray
    blocking_cost: FloatArray
    limits: Records
    is_any_barred: bool
    is_any_due: bool


# what is asked for


@njit(cache=True)
def is_settled(tables, junction, count, stage, signals):  # type: ignore[no-untyped-def]
    """No stage other than `stage` can begin yet: each would end a green short of its minimum."""
    lit = tables.lit
    first_stage = tables.junctions[junction].first_stage
    first_group = tables.junctions[junction].first_group
    young = np.zeros(lit.shape[1], np.uint64)
    for g in range(first_group, tables.junctions[junction + 1].first_group):
        is_green = signals.colour[g] >= Colour.PERMISSIVE
        if is_green and signals.shown_for_s[g] < tables.groups[g].min_green_s:
            mark(young, g - first_group)

    for s in range(count):
        ends_one = s == stage
        for w in range(len(young)):
            ends_one |= (young[w] & ~lit[first_stage + s, w]) != 0
        if not ends_one:
            return False
    return True


@njit(cache=True)
def demand_bits(tables, junction, signals, queues):  # type: ignore[no-untyped-def]
    """What the queues ask for, and what is lit."""
    words = tables.lit.shape[1]
    need = np.zeros(words, np.uint64)
    blocking = np.zeros(words, np.uint64)
    lit = np.zeros(words, np.uint64)
    for v in range(queues.start[-1]):
        vehicle = queues.vehicle[v]
        does_harm = vehicle.closed == Closed.BLOCKING
        mark(blocking if does_harm else need, vehicle.column)
    for w in range(words):
        blocking[w] &= ~need[w]

    first_group = tables.junctions[junction].first_group
    for g in range(first_group, tables.junctions[junction + 1].first_group):
        if signals.colour[g] >= Colour.PERMISSIVE:
            mark(lit, g - first_group)
    return Demand(need, blocking, lit)


@compiled
def asks_for_change(tables, junction, stage, demand):  # type: ignore[no-untyped-def]
    """Somebody needs a green that `stage` does not protect, or one of its greens does harm."""
    row = tables.junctions[junction].first_stage + stage
    asked = False
    for w in range(len(demand.need)):
        unserved = demand.need[w] & ~tables.green[row, w]
        harmful = demand.blocking[w] & tables.lit[row, w]
        asked |= (unserved | harmful) != 0
    return asked


# the stages worth trying


@njit(cache=True)
def usable_stages(tables, junction, links_known, inside_seen):  # type: ignore[no-untyped-def]
    """bool (stages,), which of a junction may be tried. links_known: the links of vehicles are
    measured; where they are guessed, only the programme's, and those that serve whole lanes.
    inside_seen: so are those inside the junction; where they are not, only the programme's: who
    waits inside unseen would wait for as long as the green that keeps it there.
    """
    first_stage = tables.junctions[junction].first_stage
    count = tables.junctions[junction + 1].first_stage - first_stage
    usable = np.ones(count, np.bool_)
    if not links_known:
        own = tables.junctions[junction].own_stages
        usable[own:] = False
        if inside_seen:
            usable[own:] = tables.whole[first_stage + own : first_stage + count]
    return usable


@njit(cache=True)
def worth_trying(lit, green, usable, stage, demand):  # type: ignore[no-untyped-def]
    """The stages to search, `stage` first: those that serve traffic that no other serves as well.

    lit, green: (stages, words) of the junction. usable: bool (stages,), of the others.
    Of stages that serve the same, the one is taken that does least harm, then the one that keeps
    most of the groups lit now.
    """
    kept = np.empty(len(lit), np.int64)
    kept[0] = stage
    count = 1
    for s in range(len(lit)):
        drop = s == stage or not usable[s]
        i = 0
        while i < count and not drop:
            k = kept[i]
            no_better = serves_no_more(lit, green, s, k, demand.need)
            no_worse = serves_no_more(lit, green, k, s, demand.need)
            harm = overlap(lit[s], demand.blocking) - overlap(lit[k], demand.blocking)
            is_other = i > 0  # the stage of now stays, whatever is better
            if (no_better and no_worse and is_other) and (
                harm < 0
                or (harm == 0 and overlap(lit[s], demand.lit) > overlap(lit[k], demand.lit))
            ):
                kept[i] = s
                drop = True
            elif no_better and harm >= 0:
                drop = True
            elif no_worse and harm <= 0 and is_other:
                count -= 1
                kept[i] = kept[count]
            else:
                i += 1
        if not drop:
            kept[count] = s
            count += 1
    return kept[:count]


@njit(cache=True)
def most_useful(picks, served_s, lit, green, need):  # type: ignore[no-untyped-def]
    """Of the stages `picks`, MOST_TRIED where there are more: the first, those that serve most, and
    one, be it one more, for each column that is asked for.

    served_s: float (picks,), what each serves. lit, green, need: as in `worth_trying`.
    """
    kept = np.zeros(len(picks), np.bool_)
    kept[0] = True
    lit_by_kept = lit[picks[0]] & need
    green_by_kept = green[picks[0]] & need
    order = np.argsort(-served_s, kind="mergesort")
    for i in order:
        more_lit = lit[picks[i]] & need & ~lit_by_kept
        more_green = green[picks[i]] & need & ~green_by_kept
        if (more_lit | more_green).any():
            kept[i] = True
            lit_by_kept |= more_lit
            green_by_kept |= more_green

    left = MOST_TRIED - kept.sum()
    for i in order:
        if left > 0 and not kept[i]:
            kept[i] = True
            left -= 1
    return picks[kept]


@inlined
def serves_no_more(lit, green, a, b, need):  # type: ignore[no-untyped-def]
    """Stage a serves none of the columns `need` that stage b does not serve as well."""
    no_more = True
    for w in range(len(need)):
        no_more &= (lit[a, w] & need[w] & ~lit[b, w]) == 0
        no_more &= (green[a, w] & need[w] & ~green[b, w]) == 0
    return no_more


@njit(cache=True)
def candidate_stages(tables, model, junction, picks, demand, opens_now_s, leaves_s, cycles):  # type: ignore[no-untyped-def]
    """All that the search has to know of the stages `picks`. cycles: `CycleTimes`."""
    first_group = tables.junctions[junction].first_group
    end_group = tables.junctions[junction + 1].first_group
    groups = end_group - first_group
    first_column = tables.junctions[junction].first_column
    end_column = tables.junctions[junction + 1].first_column
    columns = end_column - first_column
    first_stage = tables.junctions[junction].first_stage

    colours = np.empty((len(picks), columns), np.int8)
    blocking_cost = np.zeros(len(picks))
    for s in range(len(picks)):
        row = first_stage + picks[s]
        colours[s] = tables.stages[row, :columns]
        harmed = overlap(tables.lit[row], demand.blocking)
        blocking_cost[s] = harmed * model.blocking_cost

    limits = np.empty(columns, LIMIT)
    is_any_barred = is_any_due = False
    for column in range(columns):
        limit = limits[column]
        limit.min_green_s, limit.barred_s, limit.due_s = 0.0, LONG_AGO_S, NEVER_S
        limit.is_lit = False
        if column < groups:
            g = first_group + column
            limit.min_green_s = tables.groups[g].min_green_s
            limit.barred_s, limit.due_s = cycles.barred_s[g], cycles.due_s[g]
            limit.is_lit = is_marked(demand.lit, column)
        is_any_barred |= limit.barred_s > 0.0
        is_any_due |= limit.due_s < model.horizon_s
    intergreen_s = tables.intergreen_s[first_group:end_group]
    return Candidates(
        colours,
        tables.yields[first_column:end_column, :columns],
        opens_now_s,
        change_times(colours, groups, intergreen_s),
        leaves_s,
        blocking_cost,
        limits,
        is_any_barred,
        is_any_due,
    )


# when their greens begin


@njit(cache=True)
def look_ahead(tables, junction, picks, signals, barred_s):  # type: ignore[no-untyped-def]
    """(opens_now_s, leaves_s) of `Candidates` for the stages `picks`, and whether the first is
    bound to stay: no other stage can begin yet. barred_s: float (groups,), see `CycleTimes`.
    """
    first_stage = tables.junctions[junction].first_stage
    first_column = tables.junctions[junction].first_column
    columns = tables.junctions[junction + 1].first_column - first_column
    opens_now_s = np.full((len(picks), columns), LONG_AGO_S)
    leaves_s = np.zeros(len(picks))
    now = tables.stages[first_stage + picks[0]]

    is_bound = True
    for s in range(len(picks)):
        stage = tables.stages[first_stage + picks[s]]
        fill_opening_times(opens_now_s[s], tables, junction, stage, now, signals)
        if s > 0:
            leaves_s[s] = min_greens_over_s(tables, junction, stage, signals)
            if leaves_s[s] <= 0.0:
                is_bound = False

    # the greens of the stage of now that are still to come have their minimum, too, but for those
    # whose shortest cycle keeps them from coming: the stage need not wait for them
    first_group = tables.junctions[junction].first_group
    groups = tables.junctions[junction + 1].first_group - first_group
    for s in range(1, len(picks)):
        stage = tables.stages[first_stage + picks[s]]
        for g in range(groups):
            ends = now[g] >= Colour.PERMISSIVE and stage[g] < Colour.PERMISSIVE
            if ends and barred_s[first_group + g] <= opens_now_s[0, g]:
                green_s = tables.groups[first_group + g].min_green_s
                leaves_s[s] = max(leaves_s[s], opens_now_s[0, g] + green_s)
    return opens_now_s, leaves_s, is_bound


@compiled
def fill_opening_times(opens_s, tables, junction, stage, now, signals):  # type: ignore[no-untyped-def]
    """opens_s: (columns,), seconds until each column is green if `stage` follows the signals as
    they stand; not touched where it is green, or stays red.
    """
    first_group = tables.junctions[junction].first_group
    groups = tables.junctions[junction + 1].first_group - first_group
    for g in range(groups):
        is_green = signals.colour[first_group + g] >= Colour.PERMISSIVE
        if stage[g] >= Colour.PERMISSIVE and not is_green:
            opens_s[g] = opening_time_s(tables, junction, g, stage, signals)
    for column in range(groups, len(opens_s)):
        if stage[column] == Colour.GREEN and now[column] != Colour.GREEN:
            opens_s[column] = INSIDE_CLEARS_S


@compiled
def opening_time_s(tables, junction, g, stage, signals):  # type: ignore[no-untyped-def]
    """Seconds until group g of the junction can be green: after its own yellow, and the intergreen
    to each group that has ended or has to end for `stage`.
    """
    first = tables.junctions[junction].first_group
    own = first + g
    wait_s = 0.0
    if signals.colour[own] == Colour.YELLOW:
        wait_s = max(0.0, tables.groups[own].yellow_s - signals.shown_for_s[own])
    for h in range(tables.junctions[junction + 1].first_group - first):
        other = first + h
        intergreen_s = tables.intergreen_s[own, h]
        if intergreen_s <= 0.0:
            continue
        if signals.colour[other] < Colour.PERMISSIVE:
            wait_s = max(wait_s, intergreen_s - signals.ended_for_s[other])
        elif stage[h] < Colour.PERMISSIVE:
            rest_s = tables.groups[other].min_green_s - signals.shown_for_s[other]
            wait_s = max(wait_s, max(0.0, rest_s) + intergreen_s)
    return wait_s


@compiled
def min_greens_over_s(tables, junction, stage, signals):  # type: ignore[no-untyped-def]
    """Seconds until each green that `stage` ends has had its minimum."""
    first_group = tables.junctions[junction].first_group
    until_s = 0.0
    for g in range(first_group, tables.junctions[junction + 1].first_group):
        ends = stage[g - first_group] < Colour.PERMISSIVE
        if ends and signals.colour[g] >= Colour.PERMISSIVE:
            rest_s = tables.groups[g].min_green_s - signals.shown_for_s[g]
            until_s = max(until_s, rest_s)
    return until_s


@njit(cache=True)
def change_times(stages, groups, intergreen_s):  # type: ignore[no-untyped-def]
    """(stages, stages, columns): seconds from a change of stage to the green of each column that it
    begins, LONG_AGO_S for the others.

    stages: int8 (stages, columns), of which the first `groups` are groups. intergreen_s: (groups,
        ...), from the end of the column's green to the start of the row's.
    """
    count, columns = stages.shape
    opens_s = np.full((count, count, columns), LONG_AGO_S)
    for x in range(count):
        for y in range(count):
            for g in range(groups):
                if stages[y, g] >= Colour.PERMISSIVE and stages[x, g] < Colour.PERMISSIVE:
                    opens_s[x, y, g] = longest_intergreen_s(
                        stages[x], stages[y], groups, intergreen_s[g]
                    )
            for column in range(groups, columns):
                if stages[y, column] == Colour.GREEN and stages[x, column] != Colour.GREEN:
                    opens_s[x, y, column] = INSIDE_CLEARS_S
    return opens_s


@compiled
def longest_intergreen_s(before, after, groups, intergreen_s):  # type: ignore[no-untyped-def]
    """Of the groups that are green in `before` and not in `after`; intergreen_s: (groups, ...)."""
    longest_s = 0.0
    for h in range(groups):
        if before[h] >= Colour.PERMISSIVE and after[h] < Colour.PERMISSIVE:
            longest_s = max(longest_s, intergreen_s[h])
    return longest_s


# sets of columns


@compiled
def mark(words, column):  # type: ignore[no-untyped-def]
    """Set the bit of `column` in `words`."""
    words[column // 64] |= np.uint64(1) << np.uint64(column % 64)


@compiled
def is_marked(words, column):  # type: ignore[no-untyped-def]
    """The bit of `column` is set in `words`."""
    return (words[column // 64] >> np.uint64(column % 64)) & np.uint64(1) != 0


@compiled
def overlap(a, b):  # type: ignore[no-untyped-def]
    """Columns that are in both; a, b: (words,)."""
    count = 0
    for w in range(len(a)):
        both = a[w] & b[w]
        while both != 0:
            both &= both - np.uint64(1)  # clears the lowest bit
            count += 1
    return count
