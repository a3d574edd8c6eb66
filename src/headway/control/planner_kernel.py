"""The planner's decision, compiled: each junction in turn. See `headway.control.planner` for what
it means.
"""

from __future__ import annotations

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
from headway.control.lane_queues import (
    Traffic,
    bar_foes_of_those_inside,
    build_queues,
    observe,
    vehicle_memory,
    would_block,
)
from headway.control.model_check import updated
from headway.control.queue_model import served_now_s
from headway.control.search import search
from headway.control.stages import EPS_S
from headway.roads import Colour


@njit(cache=True)
def decide(  # type: ignore[no-untyped-def]
    tables,
    model,
    at_s,
    target,
    check,
    began_s,
    cycles,
    signals,
    traffic,
    recalled,
    links_known,
    inside_seen,
):
    """(target, barred, is_any_barred, cycles, check, factors, confidence) from now on: see `plan`,
    `barred_groups`, `cycle_times` and `updated`. One call, as each array that is handed over takes
    about a microsecond.

    at_s: seconds. target, check, cycles: those up to now. began_s: see `cycle_times`. recalled:
        the last so many vehicles were seen by nobody; the model is checked without them.
    """
    observed = observe(tables, signals, traffic)
    cycles, times = cycle_times(tables, at_s, began_s, cycles, observed)
    decided = plan(tables, model, target, observed, times, links_known, inside_seen)
    seen = observed
    if recalled > 0 or traffic.unseen.any():
        seen = observe(tables, signals, only_measured(traffic, recalled))
    check, factors, confidence = updated(check, at_s, tables, model, decided, seen)
    barred, is_any_barred = barred_groups(tables, model, times, observed, links_known)
    return decided, barred, is_any_barred, cycles, check, factors, confidence


@njit(cache=True)
def only_measured(traffic, recalled):  # type: ignore[no-untyped-def]
    """The traffic without its last `recalled` vehicles, and without those whom nobody saw."""
    left = max(len(traffic.link) - recalled, 0)
    return Traffic(
        traffic.lane[:left],
        traffic.link[:left],
        traffic.distance_m[:left],
        traffic.speed_mps[:left],
        traffic.waiting_s[:left],
        traffic.room_m,
        traffic.waiting_persons,
        traffic.arrived,
        np.zeros_like(traffic.unseen),
    )


@njit(cache=True)
def barred_groups(tables, model, cycles, observed, links_known):  # type: ignore[no-untyped-def]
    """(barred, is_any_barred): bool (groups,), who may not begin now, whatever the stage: its
    shortest cycle is not over, its traffic would block others, or somebody stands in its way.
    cycles: `CycleTimes`.
    """
    barred = np.zeros(len(tables.groups), np.bool_)
    if links_known:  # a guess would keep the wrong traffic waiting
        barred = would_block(tables, model, observed)
    bar_foes_of_those_inside(tables, observed, barred)
    is_any_barred = False
    for g in range(len(barred)):
        is_lit = observed.signals.colour[g] >= Colour.PERMISSIVE
        barred[g] = not is_lit and (barred[g] or cycles.barred_s[g] > EPS_S)
        is_any_barred |= barred[g]
    return barred, is_any_barred


@njit(cache=True)
def plan(tables, model, target, observed, cycles, links_known, inside_seen):  # type: ignore[no-untyped-def]
    """Decide all junctions: the stages (junctions,) to aim at from now on.

    target: int (junctions,), those up to now. cycles: `CycleTimes`. links_known,
        inside_seen: see `usable_stages`.
    """
    decided = np.empty_like(target)
    memory = vehicle_memory(observed.traffic)

    for junction in range(len(target)):
        usable = usable_stages(tables, junction, links_known, inside_seen)
        stage = target[junction]
        if stage >= len(usable) or not usable[stage]:
            stage = 0
        decided[junction] = plan_junction(
            tables, model, junction, stage, usable, observed, cycles, memory
        )
    return decided


@njit(cache=True)
def plan_junction(tables, model, junction, stage, usable, observed, cycles, memory):  # type: ignore[no-untyped-def]
    """The stage to aim at, of those of the junction that are `usable`; `stage` unless another is
    better.

    memory: see `build_queues`; used anew for each junction.
    """
    signals = observed.signals
    count = len(usable)
    if is_settled(tables, junction, count, stage, signals):
        return stage

    # the traffic, and what it asks for
    queues = build_queues(tables, model, junction, observed, memory)
    demand = demand_bits(tables, junction, signals, queues)
    if not asks_for_change(tables, junction, stage, demand):
        return stage

    # the stages that answer it
    first_stage = tables.junctions[junction].first_stage
    rows = slice(first_stage, first_stage + count)
    picks = worth_trying(tables.lit[rows], tables.green[rows], usable, stage, demand)
    if len(picks) > MOST_TRIED:
        served_s = served_now_s(queues, tables.stages[rows][picks], model)
        picks = most_useful(picks, served_s, tables.lit[rows], tables.green[rows], demand.need)
    opens_now_s, leaves_s, is_bound = look_ahead(tables, junction, picks, signals, cycles.barred_s)
    if is_bound:
        return stage

    candidates = candidate_stages(
        tables, model, junction, picks, demand, opens_now_s, leaves_s, cycles
    )
    chosen = search(queues, candidates, tables.holds_s, tables.lengths_s, model)
    return picks[chosen]


@njit(cache=True)
def note_changes(at_s, shown, shown_for_s, lit, began_s, ended_s):  # type: ignore[no-untyped-def]
    """(lit, began_s, ended_s) brought up to date with the signals as they are shown; new arrays."""
    lit = lit.copy()
    began_s = began_s.copy()
    ended_s = ended_s.copy()
    for g in range(len(shown)):
        is_lit = shown[g] >= Colour.PERMISSIVE
        if is_lit != lit[g]:
            lit[g] = is_lit
            changed_s = began_s if is_lit else ended_s
            changed_s[g] = at_s - shown_for_s[g]
    return lit, began_s, ended_s
