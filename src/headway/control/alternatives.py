"""What the planner's search compares at one junction, told: the expected delay of each stage that
could be aimed at now, compiled.

The search itself (`headway.control.search`) stops looking as soon as a decision is clear; here
each alternative is worked out, which takes longer and is not for the tick.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from headway.control.candidates import (
    MOST_TRIED,
    asks_for_change,
    candidate_stages,
    demand_bits,
    is_settled,
    look_ahead,
    most_useful,
    usable_stages,
    worth_trying,
)
from headway.control.cycles import cycle_times
from headway.control.lane_queues import build_queues, observe, vehicle_memory
from headway.control.parts import NumberedStages
from headway.control.queue_model import (
    HELD,
    StagePeriod,
    compiled,
    cost_so_far,
    no_progress,
    served_now_s,
)
from headway.control.search import (
    EPS_S,
    FIRST,
    LENGTH_MARGIN_S,
    SearchProblem,
    clears_s,
    fill_starts,
    hold_cost,
    left_cost,
    no_starts,
    rollout,
)
from headway.values import FloatArray, IntArray

LATER_S = 5.0  # how much later the chosen stage is also begun, to tell what it costs to wait


class Alternatives(NamedTuple):
    """The stages of a junction that are worth aiming at now; the first is the one aimed at so far.

    stages:     int (n,), numbers of the stages of the junction; of several parts Python's own, as
        they may have more than 64 bits.
    delay_s:    float (n,), what a plan costs that begins so, the best one for the others, the best
        that was found for the first: vehicle seconds of delay of the vehicles in view up to the
        planner's horizon, stops and weights counted.
    lasts_s:    float (n,), how long that plan shows the stage from now on, changes of signals
        included; the horizon where it has no reason to end.
    is_bound:   nothing else can begin now, or nobody asks for it: the first is kept.
    chosen:     place of the stage that the planner aims at.
    """

    stages: IntArray
    delay_s: FloatArray
    lasts_s: FloatArray
    is_bound: bool
    chosen: int


def put_together(of_parts: Sequence[Alternatives], stages: NumberedStages) -> Alternatives:
    """Of a junction, from those of its parts: beside what the other parts aim at from now on, each
    alternative of a part.
    """
    if len(of_parts) == 1:
        return of_parts[0]
    chosen = tuple(part.chosen for part in of_parts)
    places = [tuple(0 for _ in of_parts), chosen]
    for k, part in enumerate(of_parts):
        if not part.is_bound:
            others = range(len(part.stages))
            places += [(*chosen[:k], other, *chosen[k + 1 :]) for other in others]
    places = list(dict.fromkeys(places))
    rows = [list(zip(of_parts, own, strict=True)) for own in places]
    numbers = [stages.number([int(x.stages[i]) for x, i in row]) for row in rows]
    return Alternatives(
        stages=np.array(numbers, object),
        delay_s=np.array([sum(x.delay_s[i] for x, i in row) for row in rows]),
        lasts_s=np.array([min(x.lasts_s[i] for x, i in row) for row in rows]),
        is_bound=all(part.is_bound for part in of_parts),
        chosen=places.index(chosen),
    )


@njit(cache=True)
def alternatives(  # type: ignore[no-untyped-def]
    tables,
    model,
    at_s,
    junction,
    stage,
    began_s,
    cycles,
    signals,
    traffic,
    links_known,
    inside_seen,
):
    """(stages, delay_s, lasts_s, is_bound, chosen) of `Alternatives`. stage: the one aimed at.
    Other arguments: see `planner_kernel.decide`.
    """
    observed = observe(tables, signals, traffic)
    cycles, times = cycle_times(tables, at_s, began_s, cycles, observed)
    first_stage = tables.junctions[junction].first_stage
    usable = usable_stages(tables, junction, links_known, inside_seen)
    count = len(usable)
    if stage >= count or not usable[stage]:
        stage = 0

    queues = build_queues(tables, model, junction, observed, vehicle_memory(traffic))
    demand = demand_bits(tables, junction, signals, queues)
    is_bound = is_settled(tables, junction, count, stage, signals)
    is_bound |= not asks_for_change(tables, junction, stage, demand)
    rows = slice(first_stage, first_stage + count)
    picks = worth_trying(tables.lit[rows], tables.green[rows], usable, stage, demand)
    if len(picks) > MOST_TRIED:
        served_s = served_now_s(queues, tables.stages[rows][picks], model)
        picks = most_useful(picks, served_s, tables.lit[rows], tables.green[rows], demand.need)
    opens_now_s, leaves_s, none_can_begin = look_ahead(
        tables, junction, picks, signals, times.barred_s
    )
    is_bound |= none_can_begin
    candidates = candidate_stages(
        tables, model, junction, picks, demand, opens_now_s, leaves_s, times
    )
    problem = SearchProblem(
        queues,
        candidates,
        no_progress(len(queues.start) - 1),
        no_starts(candidates.colours.shape[1]),
        tables.holds_s,
        tables.lengths_s,
        model,
    )
    delay_s, lasts_s, chosen = plan_costs(problem)
    return picks, delay_s, lasts_s, is_bound, 0 if is_bound else chosen


@njit(cache=True)
def plan_costs(problem):  # type: ignore[no-untyped-def]
    """(delay_s, lasts_s, chosen) of `Alternatives`, for the candidates of a search; `chosen` is the
    one that `search` chooses.
    """
    candidates = problem.candidates
    count = len(candidates.colours)
    delay_s = np.empty(count)
    lasts_s = np.empty(count)

    # leave the stage of now at once; of plans that cost the same, the first
    horizon_s = problem.model.horizon_s
    cost = hold_cost(problem, horizon_s) + candidates.blocking_cost[0] * horizon_s
    delay_s[0], lasts_s[0] = cost + left_cost(problem, HELD), horizon_s
    cost = hold_cost(problem, 0.0)
    chosen = 0
    for stage in range(1, count):
        opens_s = candidates.opens_now_s[stage]
        delay_s[stage], lasts_s[stage] = least_plan(problem, stage, opens_s, 0.0, cost, np.inf)
        if delay_s[stage] < delay_s[chosen]:
            chosen = stage
    if chosen == 0:
        return delay_s, lasts_s, 0

    # hold it for a time: to find one cheaper plan is enough
    found_s, held_s = cheaper_held(problem, delay_s[chosen])
    if found_s < delay_s[chosen]:
        delay_s[0], lasts_s[0] = found_s, held_s
        return delay_s, lasts_s, 0

    # none is: what it costs to begin the chosen one later
    for held_s in problem.holds_s[1:]:
        if candidates.leaves_s[chosen] > held_s + EPS_S:
            continue
        cost = hold_cost(problem, held_s) + candidates.blocking_cost[0] * held_s
        opens_s = candidates.opens_after_s[0, chosen]
        found_s, _ = least_plan(problem, chosen, opens_s, held_s, cost, delay_s[0])
        if found_s < delay_s[0]:
            delay_s[0], lasts_s[0] = found_s, held_s
        if held_s >= LATER_S:
            break
    return delay_s, lasts_s, chosen


@compiled
def cheaper_held(problem, bound):  # type: ignore[no-untyped-def]
    """(cost, seconds held) of the first plan that holds the stage of now for a time and costs less
    than `bound`; (`bound`, 0) where none does. The same as `search.is_cheaper_held`.
    """
    candidates = problem.candidates
    for held_s in problem.holds_s[1:]:
        cost = hold_cost(problem, held_s) + candidates.blocking_cost[0] * held_s
        if cost + cost_so_far(problem.queues, problem.progress, HELD, held_s) >= bound:
            break
        for stage in range(1, len(candidates.colours)):
            if candidates.leaves_s[stage] > held_s + EPS_S:
                continue
            opens_s = candidates.opens_after_s[0, stage]
            found_s, _ = least_plan(problem, stage, opens_s, held_s, cost, bound)
            if found_s < bound:
                return found_s, held_s
    return bound, 0.0


@compiled
def least_plan(problem, stage, opens_after_s, begin_s, cost, bound):  # type: ignore[no-untyped-def]
    """(cost, seconds that the stage lasts) of the best plan of `search.least_plan_cost`."""
    colours = problem.candidates.colours[stage]
    fill_starts(problem, opens_after_s, begin_s, FIRST)
    opens_after_s = problem.starts.times_s[FIRST]
    clear_s = clears_s(problem, HELD, StagePeriod(colours, opens_after_s, begin_s, begin_s))
    least = bound
    lasts_s = 0.0
    for i in range(-1, len(problem.lengths_s)):
        end_s = clear_s if i < 0 else begin_s + problem.lengths_s[i]
        if i >= 0 and end_s >= clear_s - LENGTH_MARGIN_S:
            break
        period = StagePeriod(colours, opens_after_s, begin_s, end_s)
        blocked = problem.candidates.blocking_cost[stage] * (end_s - begin_s)
        found = rollout(problem, stage, period, cost + blocked, least)
        if found < least:
            least, lasts_s = found, end_s - begin_s
    return least, lasts_s
