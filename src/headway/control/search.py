"""The search for the plan of least cost at one junction, compiled.

Times are seconds from now.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from headway.control.candidates import Candidates
from headway.control.queue_model import (
    HELD,
    LONG_AGO_S,
    NEVER_S,
    NOW,
    ROLLOUT_A,
    ROLLOUT_B,
    ROWS,
    LaneQueues,
    Progress,
    StagePeriod,
    best_next,
    clear_time_s,
    compiled,
    cost_left,
    cost_so_far,
    no_progress,
    opening_s,
    stage_cost,
)
from headway.roads import Colour
from headway.values import BoolArray, FloatArray

LENGTH_MARGIN_S = 1.0  # a length so close to the one that clears the queues is not tried too
MAX_STAGES_AHEAD = 12  # of a roll-out; two minutes of shortest greens, beyond every horizon
EPS_S = 1e-6
# Of each second that a called group begins after its time: as if so many vehicles waited. The gate
# then serves it by a stage of its own, which keeps all others waiting (decision 27).
LATE_COST = 2.0
# Rows of `Starts.times_s`.
FIRST = np.int64(0)
FOLLOWING = np.int64(1)
LEAST = np.int64(2)


class Starts(NamedTuple):
    """Scratch of the search: what the cycles of the columns allow.

    begun:   bool (ROWS, columns), turned green since now; rows as in `Progress`.
    times_s: float (3, columns), `StagePeriod.opens_after_s` of a stage that begins, not before the
        shortest cycle is over, in FIRST and FOLLOWING; in LEAST the minimum greens that it waits
        for.
    """

    begun: BoolArray
    times_s: FloatArray


class SearchProblem(NamedTuple):
    """What is searched at one junction.

    holds_s, lengths_s: see `planner_tables.Tables`. model: a record of `queue_model.Model`.
    """

    queues: LaneQueues
    candidates: Candidates
    progress: Progress
    starts: Starts
    holds_s: FloatArray
    lengths_s: FloatArray
    model: np.record


@njit(cache=True)
def search(queues, candidates, holds_s, lengths_s, model):  # type: ignore[no-untyped-def]
    """The stage to aim at now: 0, the stage of now, unless the least-cost plan leaves it at once.

    Plans that leave at once come first; then one that holds longer and costs less settles it: to
    hold is decided anew each second, so how long need not be known.
    """
    progress = no_progress(len(queues.start) - 1)
    starts = no_starts(candidates.colours.shape[1])
    problem = SearchProblem(queues, candidates, progress, starts, holds_s, lengths_s, model)

    # hold to the horizon
    best = hold_cost(problem, model.horizon_s)
    blocked = candidates.blocking_cost[0] * model.horizon_s
    best += left_cost(problem, HELD) + blocked

    # leave at once
    cost = hold_cost(problem, 0.0)
    if cost + cost_so_far(queues, progress, HELD, 0.0) >= best:
        return 0
    chosen = 0
    for stage in range(1, len(candidates.colours)):
        opens_s = candidates.opens_now_s[stage]
        least = least_plan_cost(problem, stage, opens_s, 0.0, cost, best, False)
        if least < best:
            chosen = stage
            best = least

    if chosen == 0 or is_cheaper_held(problem, best):
        return 0
    return chosen


@compiled
def is_cheaper_held(problem, bound):  # type: ignore[no-untyped-def]
    """A plan that holds the stage of now for a time costs less than `bound`."""
    candidates = problem.candidates
    for held_s in problem.holds_s[1:]:
        cost = hold_cost(problem, held_s) + candidates.blocking_cost[0] * held_s
        if cost + cost_so_far(problem.queues, problem.progress, HELD, held_s) >= bound:
            return False
        for stage in range(1, len(candidates.colours)):
            if candidates.leaves_s[stage] > held_s + EPS_S:
                continue
            opens_s = candidates.opens_after_s[0, stage]
            if least_plan_cost(problem, stage, opens_s, held_s, cost, bound, True) < bound:
                return True
    return False


@compiled
def hold_cost(problem, until_s):  # type: ignore[no-untyped-def]
    """Discharge the stage of now from NOW to HELD; returns the cost of the vehicles that leave."""
    candidates = problem.candidates
    fill_starts(problem, candidates.opens_now_s[0], 0.0, FIRST)
    held = StagePeriod(candidates.colours[0], problem.starts.times_s[FIRST], 0.0, until_s)
    return discharge(problem, held, NOW, HELD)


@compiled
def discharge(problem, period, source, target):  # type: ignore[no-untyped-def]
    """Discharge a period from one row of the progress to another; returns the cost, as above, and
    of the groups that begin late.
    """
    yields = problem.candidates.yields
    cost = stage_cost(
        problem.queues, yields, period, problem.progress, source, target, problem.model
    )
    return cost + late_cost(problem, period, source, target)


@compiled
def clears_s(problem, row, period):  # type: ignore[no-untyped-def]
    """When the queues of a period that begins from `row` have passed. Its starts are those that
    `fill_starts` filled in last.
    """
    least_s = problem.starts.times_s[LEAST]
    until_s = clear_time_s(problem.queues, problem.progress, row, period, least_s, problem.model)
    if not problem.candidates.is_any_barred:
        return until_s
    # who is barred is not waited for; but a green that has begun by then has its minimum
    limits = problem.candidates.limits
    cleared_s = until_s
    for column in range(len(least_s)):
        if period.colours[column] >= Colour.PERMISSIVE and least_s[column] == LONG_AGO_S:
            begins_s = opening_s(period, column)
            if begins_s < cleared_s:
                until_s = max(until_s, begins_s + limits[column].min_green_s)
    return until_s


@compiled
def least_plan_cost(problem, stage, opens_after_s, begin_s, cost, bound, any_will_do):  # type: ignore[no-untyped-def]
    """The least cost of the plans that show `stage` from `begin_s` on, each for another length;
    `bound` where none costs less.

    opens_after_s: see `StagePeriod`. cost: of the plan up to then. any_will_do: the first plan that
        costs less is enough.
    """
    colours = problem.candidates.colours[stage]
    fill_starts(problem, opens_after_s, begin_s, FIRST)
    opens_after_s = problem.starts.times_s[FIRST]
    clear_s = clears_s(problem, HELD, StagePeriod(colours, opens_after_s, begin_s, begin_s))
    least = bound
    for i in range(-1, len(problem.lengths_s)):
        end_s = clear_s if i < 0 else begin_s + problem.lengths_s[i]
        if i >= 0 and end_s >= clear_s - LENGTH_MARGIN_S:
            break
        period = StagePeriod(colours, opens_after_s, begin_s, end_s)
        blocked = problem.candidates.blocking_cost[stage] * (end_s - begin_s)
        least = min(least, rollout(problem, stage, period, cost + blocked, least))
        if any_will_do and least < bound:
            break
    return least


@compiled
def rollout(problem, stage, first, cost, bound):  # type: ignore[no-untyped-def]
    """Cost up to the horizon if `stage` is shown as in the period `first`, after row HELD, and each
    stage then lasts until its queues are gone; infinite where it is not under `bound`.

    cost: of the plan up to then.
    """
    candidates = problem.candidates
    horizon_s = problem.model.horizon_s
    period = StagePeriod(
        first.colours, first.opens_after_s, first.begin_s, min(first.end_s, horizon_s)
    )
    row = HELD
    for _ in range(MAX_STAGES_AHEAD):
        after = ROLLOUT_B if row == ROLLOUT_A else ROLLOUT_A
        cost += discharge(problem, period, row, after)
        row = after
        end_s = period.end_s
        if end_s >= horizon_s:
            break
        if cost + cost_so_far(problem.queues, problem.progress, row, end_s) >= bound:
            return np.inf

        # the stage that follows lasts until its queues are gone
        follow = best_next(
            problem.queues, problem.progress, row, stage, candidates.colours, end_s, problem.model
        )
        colours = candidates.colours[follow]
        fill_starts(problem, candidates.opens_after_s[stage, follow], end_s, FOLLOWING)
        opens_s = problem.starts.times_s[FOLLOWING]
        clear_s = clears_s(problem, row, StagePeriod(colours, opens_s, end_s, end_s))
        period = StagePeriod(colours, opens_s, end_s, min(clear_s, horizon_s))
        stage = follow
    return cost + left_cost(problem, row)


# cycles


@njit(cache=True)
def no_starts(columns):  # type: ignore[no-untyped-def]
    """No column has turned green yet."""
    begun = np.zeros((ROWS, columns), np.bool_)
    return Starts(begun, np.empty((3, columns)))


@compiled
def fill_starts(problem, opens_after_s, begin_s, row):  # type: ignore[no-untyped-def]
    """Fill row `row` of `Starts.times_s`, and LEAST, for a stage that begins at `begin_s`.

    opens_after_s: float (columns,), as the intergreens alone have it.
    """
    times_s, limits = problem.starts.times_s, problem.candidates.limits
    for column in range(len(opens_after_s)):
        times_s[row, column] = opens_after_s[column]
        times_s[LEAST, column] = limits[column].min_green_s
    if not problem.candidates.is_any_barred:
        return
    for column in range(len(opens_after_s)):
        # one that is green now is barred from its next start on
        begins = opens_after_s[column] != LONG_AGO_S or not limits[column].is_lit
        barred_s = limits[column].barred_s - begin_s
        if begins and barred_s > max(opens_after_s[column], 0.0):
            times_s[row, column] = barred_s
            times_s[LEAST, column] = LONG_AGO_S


@compiled
def late_cost(problem, period, source, target):  # type: ignore[no-untyped-def]
    """What it costs that groups begin late in `period`; notes who has begun in row `target`."""
    if not problem.candidates.is_any_due:
        return 0.0
    limits, begun = problem.candidates.limits, problem.starts.begun
    cost = 0.0
    for column in range(len(limits)):
        begun[target, column] = begun[source, column]
        due_s = limits[column].due_s
        if due_s == NEVER_S or begun[source, column]:
            continue
        begins_s = max(opening_s(period, column), period.begin_s)
        if period.colours[column] >= Colour.PERMISSIVE and begins_s < period.end_s:
            begun[target, column] = True
            cost += LATE_COST * max(begins_s - due_s, 0.0)
    return cost


@compiled
def left_cost(problem, row):  # type: ignore[no-untyped-def]
    """What those cost that have not left at the horizon, and groups that are late by then."""
    cost = cost_left(problem.queues, problem.progress, row, problem.model)
    if problem.candidates.is_any_due:
        limits, begun = problem.candidates.limits, problem.starts.begun
        for column in range(len(limits)):
            if not begun[row, column]:
                late_s = problem.model.horizon_s - limits[column].due_s
                cost += LATE_COST * max(late_s, 0.0)
    return cost
