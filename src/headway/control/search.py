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
    NOW,
    ROLLOUT_A,
    ROLLOUT_B,
    LaneQueues,
    Progress,
    StagePeriod,
    best_next,
    clear_time_s,
    compiled,
    cost_left,
    cost_so_far,
    no_progress,
    stage_cost,
)
from headway.values import FloatArray

LENGTH_MARGIN_S = 1.0  # a length so close to the one that clears the queues is not tried too
MAX_STAGES_AHEAD = 12  # of a roll-out; two minutes of shortest greens, beyond every horizon
EPS_S = 1e-6


class SearchProblem(NamedTuple):
    """What is searched at one junction.

    holds_s, lengths_s: see `planner_tables.Tables`. model: a record of `queue_model.Model`.
    """

    queues: LaneQueues
    candidates: Candidates
    progress: Progress
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
    problem = SearchProblem(queues, candidates, progress, holds_s, lengths_s, model)

    # hold to the horizon
    best = hold_cost(problem, model.horizon_s)
    blocked = candidates.blocking_cost[0] * model.horizon_s
    best += cost_left(queues, progress, HELD, model) + blocked

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
    held = StagePeriod(candidates.colours[0], candidates.opens_now_s[0], 0.0, until_s)
    return discharge(problem, held, NOW, HELD)


@compiled
def discharge(problem, period, source, target):  # type: ignore[no-untyped-def]
    """Discharge a period from one row of the progress to another; returns the cost, as above."""
    yields = problem.candidates.yields
    return stage_cost(
        problem.queues, yields, period, problem.progress, source, target, problem.model
    )


@compiled
def clears_s(problem, row, period):  # type: ignore[no-untyped-def]
    """When the queues of a period that begins from `row` have passed."""
    min_green_s = problem.candidates.min_green_s
    return clear_time_s(problem.queues, problem.progress, row, period, min_green_s, problem.model)


@compiled
def least_plan_cost(problem, stage, opens_after_s, begin_s, cost, bound, any_will_do):  # type: ignore[no-untyped-def]
    """The least cost of the plans that show `stage` from `begin_s` on, each for another length;
    `bound` where none costs less.

    opens_after_s: see `StagePeriod`. cost: of the plan up to then. any_will_do: the first plan that
        costs less is enough.
    """
    colours = problem.candidates.colours[stage]
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
        opens_s = candidates.opens_after_s[stage, follow]
        clear_s = clears_s(problem, row, StagePeriod(colours, opens_s, end_s, end_s))
        period = StagePeriod(colours, opens_s, end_s, min(clear_s, horizon_s))
        stage = follow
    return cost + cost_left(problem.queues, problem.progress, row, problem.model)
