"""How far the planner's model of each junction can be trusted, measured as the run goes on;
compiled.

Performance: the model says how many vehicles pass the stop lines in the next seconds if the signals
stay as they are. How many did is known by conservation: those that were there, and those that
arrived, less those that are there. The area between both curves is by how much the delay that came
exceeds the one that was predicted, in vehicle seconds (cumulative curves: C. Daganzo, Fundamentals
of Transportation and Traffic Operations, 1997, chapter 2).

Agreement: what the planner's stage serves, as a share of what the greedy controller's would.

Novelty: vehicles whose link is unknown, and more vehicles in a lane than the model was checked on.

Detection: lanes that had traffic many times, and where none is seen for much longer than usual.

Freshness: traffic that does not change at all, not even the time that it has waited, is an old
picture with a new time.

The figures below were found by `python -m bench confidence`, see decision 20.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from headway.control.confidence import STALE_S
from headway.control.lane_queues import (
    Observed,
    SignalTimes,
    build_queues,
    fresh_downstream,
    is_full,
    vehicle_memory,
)
from headway.control.planner_tables import NO_LANE
from headway.control.queue_model import (
    HELD,
    NEVER_S,
    NOW,
    Records,
    StagePeriod,
    compiled,
    no_progress,
    record_type,
    stage_cost,
)
from headway.roads import GO, Colour
from headway.values import ColourArray, FloatArray

WINDOW_S = 10  # of a prediction; it ends sooner where the signals of the junction change
NO_WINDOW_S = -np.inf
MEMORY = 0.95  # what the sums keep at the end of each window
LEAST_PREDICTED_S = 20.0  # vehicle seconds: beside less than this a difference says little
TOLERATED = (
    0.4  # of the predicted: beyond this performance falls; 99 % of ordinary windows are below
)
AGREEMENT_MEAN_S = 30.0  # time constant: a stage is rightly held for a while against others
AGREEMENT_POWER = 1.0 / 3.0  # the planner is there to know better than the greedy controller
NOVELTY_POWER = 0.5
LEAST_SPELLS = 5.0  # times that a lane had traffic, before its silence says anything
SILENT_GAPS = 10.0  # mean gaps without traffic after which a lane may be blind; twice that: it is
SHORTEST_GAP_S = 20.0  # gaps that are taken for shorter would be those within one platoon
CHECKED_LANE_VEHICLES = 24.0  # most that any lane of the eight scenarios had in view
MOST_GAPS = 50.0  # of which the mean gap is made; older ones count less
# of distance, speed and wait in one sum, so that a change of one does not hide that of another
SPEED_PART = 7.0
WAIT_PART = 13.0
FACTORS = ("freshness", "novelty", "detection", "agreement", "performance")


# Of one junction. since_s: when the open window began, NO_WINDOW_S without one; before: vehicles
# before the stop lines at its beginning; arrived: those that arrived since; late_s: vehicle seconds
# by which those who passed are behind; predicted_s: that were predicted to be saved by passing;
# agreement: 0..1, a mean over time; picture: a sum over all that was seen of the vehicles;
# changed_s: when it changed last. Of late_s and predicted_s, windows that are long over count less.
JUNCTION_CHECK = record_type(
    since_s=np.float64,
    before=np.float64,
    arrived=np.float64,
    late_s=np.float64,
    predicted_s=np.float64,
    agreement=np.float64,
    picture=np.float64,
    changed_s=np.float64,
)
# Of one stop lane. empty_since_s: since when nobody is there, NEVER_S where somebody is; gap_s: the
# mean of such times; spells: how often somebody came.
LANE_CHECK = record_type(empty_since_s=np.float64, gap_s=np.float64, spells=np.float64)


class ModelCheck(NamedTuple):
    """What is remembered of each junction.

    at_s:      when it was brought up to date, seconds.
    shown:     int8 (groups,), the colours then.
    junctions: JUNCTION_CHECK (junctions,).
    lanes:     LANE_CHECK (stop lanes,).
    passing:   float (junctions, WINDOW_S + 1), predicted to have passed after so many seconds of
        the open window.
    """

    at_s: float
    shown: ColourArray
    junctions: Records
    lanes: Records
    passing: FloatArray


def no_check(junctions: int, stop_lanes: int, shown: ColourArray, at_s: float) -> ModelCheck:
    """No window is open, and nothing speaks against the model."""
    of_junction = np.zeros(junctions, JUNCTION_CHECK)
    of_junction["since_s"] = NO_WINDOW_S
    of_junction["agreement"] = 1.0
    of_junction["changed_s"] = at_s
    of_lane = np.zeros(stop_lanes, LANE_CHECK)
    of_lane["empty_since_s"] = at_s
    return ModelCheck(
        at_s=float(at_s),
        shown=np.array(shown, np.int8),
        junctions=of_junction,
        lanes=of_lane,
        passing=np.zeros((junctions, WINDOW_S + 1)),
    )


@njit(cache=True)
def updated(check, at_s, tables, model, target, observed):  # type: ignore[no-untyped-def]
    """(check, factors, confidence) of this instant; factors: float (FACTORS, junctions), in the
    order of `FACTORS`.

    target: int (junctions,), the stages aimed at. observed: see `observe`.
    """
    traffic = observed.traffic
    new = ModelCheck(
        at_s,
        observed.signals.colour.copy(),
        check.junctions.copy(),
        check.lanes.copy(),
        check.passing.copy(),
    )
    elapsed_s = at_s - check.at_s
    if 0.0 <= elapsed_s <= WINDOW_S:
        add_arrivals(tables, traffic.arrived, new.junctions)
    else:  # the clock leapt: what was predicted says nothing
        for j in range(len(target)):
            new.junctions[j].since_s = NO_WINDOW_S
        elapsed_s = 0.0

    before = vehicles_before(tables, traffic, len(target))
    close_windows(new, check.shown, elapsed_s, tables, before)
    open_windows(new, tables, model, observed, before)
    update_agreement(new, elapsed_s, tables, model, target, traffic)
    vehicles, unknown = count_by_lane(tables, traffic)

    factors = np.empty((len(FACTORS), len(target)))
    fill_freshness(factors[0], new, tables, traffic)
    fill_share_known(factors[1], tables, vehicles, unknown)
    fill_detection(factors[2], new, tables, vehicles)
    for j in range(len(target)):
        factors[3, j] = new.junctions[j].agreement
        factors[4, j] = performance_of(new.junctions[j])
    confidence = factors[0] * factors[2] * factors[4]
    confidence *= factors[1] ** NOVELTY_POWER * factors[3] ** AGREEMENT_POWER
    return new, factors, confidence


# performance


@compiled
def performance_of(junction):  # type: ignore[no-untyped-def]
    """1 while vehicles pass nearly as predicted, 0 where none does."""
    share = junction.late_s / (junction.predicted_s + LEAST_PREDICTED_S)
    return min(max((1.0 - share) / (1.0 - TOLERATED), 0.0), 1.0)


@compiled
def close_windows(check, shown_before, elapsed_s, tables, before):  # type: ignore[no-untyped-def]
    """Add what passed since the last instant to the sums; windows that are over end.

    before: float (junctions,), vehicles before the stop lines.
    """
    for j in range(len(check.junctions)):
        own = check.junctions[j]
        if own.since_s == NO_WINDOW_S:
            continue
        window_s = check.at_s - own.since_s
        predicted = check.passing[j, min(int(window_s + 0.5), WINDOW_S)]
        passed = own.before + own.arrived - before[j]
        own.late_s += (predicted - passed) * elapsed_s
        own.predicted_s += predicted * elapsed_s
        if window_s >= WINDOW_S or has_changed(tables, j, shown_before, check.shown):
            own.late_s *= MEMORY
            own.predicted_s *= MEMORY
            own.since_s = NO_WINDOW_S


@njit(cache=True)
def open_windows(check, tables, model, observed, before):  # type: ignore[no-untyped-def]
    """A prediction for each junction that has none. before: see `close_windows`."""
    observed = patient(observed, model)
    memory = vehicle_memory(observed.traffic)
    for j in range(len(check.junctions)):
        own = check.junctions[j]
        if own.since_s == NO_WINDOW_S:
            own.since_s = check.at_s
            own.before = before[j]
            own.arrived = 0.0
            predict(check.passing[j], tables, model, j, observed, memory)


@njit(cache=True)
def predict(passing, tables, model, junction, observed, memory):  # type: ignore[no-untyped-def]
    """Fill `passing` with how many vehicles will have passed their stop line after 0, 1, ...
    seconds if the signals stay as they are. observed: `patient`. memory: see `build_queues`.
    """
    passing[:] = 0.0
    colours, opens_after_s, groups = colours_now(tables, junction, observed.signals)
    if (colours[:groups] < GO).all():
        return
    queues = build_queues(tables, model, junction, observed, memory)
    lanes = tables.junctions[junction + 1].first_lane - tables.junctions[junction].first_lane
    first_column = tables.junctions[junction].first_column
    yields = tables.yields[first_column : first_column + len(colours), : len(colours)]
    progress = no_progress(len(queues.start) - 1)
    for second in range(1, len(passing)):
        period = StagePeriod(colours, opens_after_s, 0.0, second - model.end_gain_s)
        stage_cost(queues, yields, period, progress, NOW, HELD, model)
        for lane in range(lanes):
            first = queues.start[lane]
            for v in range(first, first + progress.gone[HELD, lane]):
                passing[second] += queues.vehicle[v].column < groups


@njit(cache=True)
def patient(observed, model):  # type: ignore[no-untyped-def]
    """The observation as if no green had lasted long, and no vehicle had been given its room yet.

    Who does not move on green is expected to, unless the exit is full. The planner gives such a
    vehicle up; here it counts against the model.
    """
    signals = observed.signals
    shown_for_s = np.minimum(signals.shown_for_s, model.blocked_after_s)
    return Observed(
        SignalTimes(signals.colour, shown_for_s, signals.ended_for_s),
        observed.traffic,
        fresh_downstream(observed),
        observed.start,
        observed.order,
    )


@njit(cache=True)
def colours_now(tables, junction, signals):  # type: ignore[no-untyped-def]
    """(colours, opens_after_s, groups) of the columns of a junction as they are shown. Who waits
    inside goes when there is a gap.
    """
    first_group = tables.junctions[junction].first_group
    groups = tables.junctions[junction + 1].first_group - first_group
    columns = tables.junctions[junction + 1].first_column - tables.junctions[junction].first_column
    colours = np.full(columns, Colour.PERMISSIVE, np.int8)
    opens_after_s = np.full(columns, -np.inf)
    for g in range(groups):
        colours[g] = signals.colour[first_group + g]
        opens_after_s[g] = -signals.shown_for_s[first_group + g]
    return colours, opens_after_s, groups


@njit(cache=True)
def vehicles_before(tables, traffic, junctions):  # type: ignore[no-untyped-def]
    """Vehicles before the stop lines of each junction, float (junctions,)."""
    found = np.zeros(junctions)
    for v in range(len(traffic.link)):
        group = group_of(tables, traffic.link[v])
        if group >= 0 and traffic.distance_m[v] >= 0.0:
            found[junction_of(tables, group)] += 1.0
    return found


@compiled
def add_arrivals(tables, arrived, junctions):  # type: ignore[no-untyped-def]
    """Add the vehicles that arrived for each link to those of its junction."""
    for link in range(len(arrived)):
        if arrived[link] and tables.links[link].group >= 0:
            junctions[junction_of(tables, tables.links[link].group)].arrived += arrived[link]


@compiled
def has_changed(tables, junction, before, now):  # type: ignore[no-untyped-def]
    """The junction shows other colours."""
    first = tables.junctions[junction].first_group
    for g in range(first, tables.junctions[junction + 1].first_group):
        if before[g] != now[g]:
            return True
    return False


@compiled
def group_of(tables, link):  # type: ignore[no-untyped-def]
    """The signal group of a link; negative for one that is unknown, or has none."""
    return tables.links[link].group if 0 <= link < len(tables.links) else -1


@compiled
def junction_of(tables, group):  # type: ignore[no-untyped-def]
    """The junction of a signal group, by bisection."""
    low = 0
    high = len(tables.junctions) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if tables.junctions[middle].first_group <= group:
            low = middle
        else:
            high = middle
    return low


# agreement


@njit(cache=True)
def update_agreement(check, elapsed_s, tables, model, target, traffic):  # type: ignore[no-untyped-def]
    """Whose exit is full does not count: no green serves him."""
    demand = traffic.waiting_persons.astype(np.float64)
    for link in traffic.link:
        group = group_of(tables, link)
        if group >= 0 and not is_full(tables, model, tables.links[link].to_lane, traffic.room_m):
            demand[group] += 1.0
    share = 1.0 - np.exp(-elapsed_s / AGREEMENT_MEAN_S)
    for j in range(len(target)):
        own = check.junctions[j]
        own.agreement += share * (agreement(tables, j, target[j], demand) - own.agreement)


@compiled
def agreement(tables, junction, stage, demand):  # type: ignore[no-untyped-def]
    """What `stage` serves, as a share of what that stage of the programme serves that serves most;
    1 where none would serve anybody. demand: float (groups,), vehicles and persons.
    """
    first_stage = tables.junctions[junction].first_stage
    most = 0.0
    for own in range(tables.junctions[junction].own_stages):
        most = max(most, served(tables, junction, first_stage + own, demand))
    if most == 0.0:
        return 1.0
    return min(served(tables, junction, first_stage + stage, demand) / most, 1.0)


@compiled
def served(tables, junction, row, demand):  # type: ignore[no-untyped-def]
    """The demand of the groups that may go in the stage in this row."""
    first_group = tables.junctions[junction].first_group
    total = 0.0
    for g in range(first_group, tables.junctions[junction + 1].first_group):
        if tables.stages[row, g - first_group] >= Colour.PERMISSIVE:
            total += demand[g]
    return total


# novelty


@njit(cache=True)
def count_by_lane(tables, traffic):  # type: ignore[no-untyped-def]
    """(vehicles, those of them whose link is unknown), float (stop lanes,)."""
    vehicles = np.zeros(len(tables.stop_lanes))
    unknown = np.zeros(len(tables.stop_lanes))
    for v in range(len(traffic.lane)):
        lane = traffic.lane[v]
        if 0 <= lane < len(tables.lanes) and tables.lanes[lane].stop_lane != NO_LANE:
            vehicles[tables.lanes[lane].stop_lane] += 1.0
            unknown[tables.lanes[lane].stop_lane] += not 0 <= traffic.link[v] < len(tables.links)
    return vehicles, unknown


@compiled
def fill_share_known(found, tables, vehicles, unknown):  # type: ignore[no-untyped-def]
    """Fill `found`, float (junctions,), with the share of the vehicles of each junction whose link
    is known, less where a lane has more vehicles than the model was checked with.
    """
    for j in range(len(found)):
        total = 0.0
        lost = 0.0
        most = CHECKED_LANE_VEHICLES
        for a in range(tables.junctions[j].first_lane, tables.junctions[j + 1].first_lane):
            total += vehicles[a]
            lost += unknown[a]
            most = max(most, vehicles[a])
        found[j] = (1.0 - lost / total) * (CHECKED_LANE_VEHICLES / most) if total else 1.0


# detection


@compiled
def fill_detection(seeing, check, tables, vehicles):  # type: ignore[no-untyped-def]
    """Fill `seeing`, float (junctions,), with the share of the lanes in use of each junction that
    are not silent, by how often they were used.
    """
    for j in range(len(seeing)):
        used = 0.0
        alive = 0.0
        for a in range(tables.junctions[j].first_lane, tables.junctions[j + 1].first_lane):
            lane = check.lanes[a]
            silent_s = note_gap(lane, check.at_s, vehicles[a] > 0.0)
            if lane.spells >= LEAST_SPELLS:
                gaps = silent_s / max(lane.gap_s, SHORTEST_GAP_S)
                used += lane.spells
                alive += lane.spells * min(max(2.0 - gaps / SILENT_GAPS, 0.0), 1.0)
        seeing[j] = alive / used if used > 0.0 else 1.0


@compiled
def note_gap(lane, now_s, is_used):  # type: ignore[no-untyped-def]
    """How long nobody has been seen in the stop lane; a gap that ends is added to the mean."""
    was_used = lane.empty_since_s == NEVER_S
    if not is_used:
        if was_used:
            lane.empty_since_s = now_s
        return max(now_s - lane.empty_since_s, 0.0)
    if not was_used:
        gap_s = max(now_s - lane.empty_since_s, 0.0)
        lane.spells += 1.0
        lane.gap_s += (gap_s - lane.gap_s) / min(lane.spells, MOST_GAPS)
        lane.empty_since_s = NEVER_S
    return 0.0


# freshness


@njit(cache=True)
def fill_freshness(fresh, check, tables, traffic):  # type: ignore[no-untyped-def]
    """Fill `fresh`, float (junctions,), with 1 where the traffic changed a moment ago, or there is
    none; 0 where it has not for STALE_S.
    """
    picture = np.zeros(len(fresh))
    for v in range(len(traffic.link)):
        group = group_of(tables, traffic.link[v])
        if group >= 0:
            picture[junction_of(tables, group)] += (
                traffic.distance_m[v]
                + SPEED_PART * traffic.speed_mps[v]
                + WAIT_PART * traffic.waiting_s[v]
            )
    for j in range(len(fresh)):
        own = check.junctions[j]
        if picture[j] != own.picture or picture[j] == 0.0:
            own.changed_s = check.at_s
        own.picture = picture[j]
        fresh[j] = max(1.0 - max(check.at_s - own.changed_s, 0.0) / STALE_S, 0.0)
