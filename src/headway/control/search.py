"""The search for the plan of least cost at one junction, compiled.

Times are seconds from now.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from headway.control.queue_model import (
    HELD,
    NOW,
    ROLLOUT_A,
    ROLLOUT_B,
    Phase,
    best_next,
    clear_time_s,
    compiled,
    cost_left,
    cost_so_far,
    no_progress,
    stage_cost,
)

LENGTH_MARGIN_S = 1.0  # a length so close to the one that clears the queues is not tried too
MAX_STAGES_AHEAD = 12  # of a roll-out; two minutes of shortest greens, beyond every horizon
EPS_S = 1e-6


@njit(cache=True)
def search(queues, candidates, holds_s, lengths_s, model):  # type: ignore[no-untyped-def]
    """The stage to aim at now: 0, the stage of now, unless the least-cost plan leaves it at once.

    Plans that leave at once come first; then one that holds longer and costs less settles it: to
    hold is decided anew each second, so how long need not be known.
    """
    progress = no_progress(len(queues.start) - 1)

    # hold to the horizon
    best = hold_cost(queues, candidates, progress, model.horizon_s, model)
    blocked = candidates.blocking_cost[0] * model.horizon_s
    best += cost_left(queues, progress, HELD, model) + blocked

    # leave at once
    cost = hold_cost(queues, candidates, progress, 0.0, model)
    if cost + cost_so_far(queues, progress, HELD, 0.0) >= best:
        return 0
    chosen = 0
    for stage in range(1, len(candidates.colours)):
        opens_after_s = candidates.opens_now_s[stage]
        best_yet = least_plan_cost(
            queues,
            candidates,
            progress,
            stage,
            opens_after_s,
            0.0,
            cost,
            best,
            lengths_s,
            False,
            model,
        )
        if best_yet < best:
            chosen = stage
            best = best_yet

    if chosen == 0 or is_cheaper_held(
        queues, candidates, progress, best, holds_s, lengths_s, model
    ):
        return 0
    return chosen


@compiled
def is_cheaper_held(queues, candidates, progress, bound, holds_s, lengths_s, model):  # type: ignore[no-untyped-def]
    """A plan that holds the stage of now for a time costs less than `bound`."""
    for held_s in holds_s[1:]:
        cost = hold_cost(queues, candidates, progress, held_s, model)
        cost += candidates.blocking_cost[0] * held_s
        if cost + cost_so_far(queues, progress, HELD, held_s) >= bound:
            return False
        for stage in range(1, len(candidates.colours)):
            if candidates.leaves_s[stage] > held_s + EPS_S:
                continue
            least = least_plan_cost(
                queues,
                candidates,
                progress,
                stage,
                candidates.opens_after_s[0, stage],
                held_s,
                cost,
                bound,
                lengths_s,
                True,
                model,
            )
            if least < bound:
                return True
    return False


@compiled
def hold_cost(queues, candidates, progress, until_s, model):  # type: ignore[no-untyped-def]
    """Discharge the stage of now from NOW to HELD; returns the cost of the vehicles that leave."""
    held = Phase(candidates.colours[0], candidates.opens_now_s[0], 0.0, until_s)
    return stage_cost(queues, candidates.yields, held, progress, NOW, HELD, model)


@compiled
def least_plan_cost(  # type: ignore[no-untyped-def]
    queues,
    candidates,
    progress,
    stage,
    opens_after_s,
    begin_s,
    cost,
    bound,
    lengths_s,
    any_will_do,
    model,
):
    """The least cost of the plans that show `stage` from `begin_s` on, each for another length;
    `bound` where none costs less.

    cost: of the plan up to then. any_will_do: the first plan that costs less is enough.
    """
    phase = Phase(candidates.colours[stage], opens_after_s, begin_s, begin_s)
    clear_s = clear_time_s(queues, progress, HELD, phase, candidates.min_green_s, model)
    least = bound
    for i in range(-1, len(lengths_s)):
        end_s = clear_s if i < 0 else begin_s + lengths_s[i]
        if i >= 0 and end_s >= clear_s - LENGTH_MARGIN_S:
            break
        phase = Phase(candidates.colours[stage], opens_after_s, begin_s, end_s)
        blocked = candidates.blocking_cost[stage] * (end_s - begin_s)
        least = min(
            least,
            rollout(queues, candidates, progress, stage, phase, cost + blocked, least, model),
        )
        if any_will_do and least < bound:
            break
    return least


@compiled
def rollout(queues, candidates, progress, stage, first, cost, bound, model):  # type: ignore[no-untyped-def]
    """Cost up to the horizon if `stage` is shown as in the phase `first`, after row HELD, and each
    stage then lasts until its queues are gone; infinite where it is not under `bound`.

    cost: of the plan up to then.
    """
    opens_after_s = first.opens_after_s
    begin_s = first.begin_s
    end_s = min(first.end_s, model.horizon_s)
    row = HELD
    for _ in range(MAX_STAGES_AHEAD):
        phase = Phase(candidates.colours[stage], opens_after_s, begin_s, end_s)
        after = ROLLOUT_B if row == ROLLOUT_A else ROLLOUT_A
        cost += stage_cost(queues, candidates.yields, phase, progress, row, after, model)
        row = after
        if end_s >= model.horizon_s:
            break
        if cost + cost_so_far(queues, progress, row, end_s) >= bound:
            return np.inf

        # the stage that follows lasts until its queues are gone
        follow = best_next(queues, progress, row, stage, candidates.colours, end_s, model)
        opens_after_s = candidates.opens_after_s[stage, follow]
        stage = follow
        begin_s = end_s
        phase = Phase(candidates.colours[stage], opens_after_s, begin_s, end_s)
        clear_s = clear_time_s(queues, progress, row, phase, candidates.min_green_s, model)
        end_s = min(clear_s, model.horizon_s)
    return cost + cost_left(queues, progress, row, model)
