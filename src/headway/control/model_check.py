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
from headway.control.lane_queues import Observed, SignalTimes, build_queues, observe
from headway.control.planner_tables import NO_LANE
from headway.control.queue_model import (
    HELD,
    NEVER_S,
    NOW,
    VEHICLE,
    StagePeriod,
    no_progress,
    stage_cost,
)
from headway.control.stages import GO
from headway.roads import Colour
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
PLACE = 1e-3  # told apart by place too: vehicles that change places are a change
FACTORS = ("freshness", "novelty", "detection", "agreement", "performance")


class ModelCheck(NamedTuple):
    """What is remembered of each junction.

    at_s:      float (1,), when it was brought up to date, seconds.
    shown:     int8 (groups,), the colours then.
    since_s:   float (junctions,), when the open window began; NO_WINDOW_S without one.
    before:    float (junctions,), vehicles before the stop lines at its beginning.
    arrived:   float (junctions,), vehicles that arrived since.
    passing:   float (junctions, WINDOW_S + 1), predicted to have passed after so many seconds.
    late_s:    float (junctions,), vehicle seconds by which those who passed are behind.
    predicted_s: float (junctions,), vehicle seconds that were predicted to be saved by passing.
    agreement: float (junctions,), 0..1, a mean over time.
    picture:   float (junctions,), a sum over all that was seen of the vehicles; changed_s: when it
        changed last.
    empty_since_s: float (stop lanes,), since when nobody is there, NEVER_S where somebody is;
        gap_s: mean of such times; spells: how often somebody came.

    Of late_s and predicted_s, windows that are long over count less.
    """

    at_s: FloatArray
    shown: ColourArray
    since_s: FloatArray
    before: FloatArray
    arrived: FloatArray
    passing: FloatArray
    late_s: FloatArray
    predicted_s: FloatArray
    agreement: FloatArray
    picture: FloatArray
    changed_s: FloatArray
    empty_since_s: FloatArray
    gap_s: FloatArray
    spells: FloatArray


def no_check(junctions: int, stop_lanes: int, shown: ColourArray, at_s: float) -> ModelCheck:
    """No window is open, and nothing speaks against the model."""
    return ModelCheck(
        at_s=np.array([at_s]),
        shown=np.array(shown, np.int8),
        since_s=np.full(junctions, NO_WINDOW_S),
        before=np.zeros(junctions),
        arrived=np.zeros(junctions),
        passing=np.zeros((junctions, WINDOW_S + 1)),
        late_s=np.zeros(junctions),
        predicted_s=np.zeros(junctions),
        agreement=np.ones(junctions),
        picture=np.zeros(junctions),
        changed_s=np.full(junctions, at_s),
        empty_since_s=np.full(stop_lanes, at_s),
        gap_s=np.zeros(stop_lanes),
        spells=np.zeros(stop_lanes),
    )


@njit(cache=True)
def updated(check, at_s, tables, model, target, signals, traffic, arrived):  # type: ignore[no-untyped-def]
    """(check, factors, confidence) of this instant; factors: float (FACTORS, junctions), in the
    order of `FACTORS`.

    target: int (junctions,), the stages aimed at. arrived: int (links,), as in
        `headway.values.Observation`.
    """
    new = copy_of(check)
    elapsed_s = at_s - check.at_s[0]
    new.at_s[0] = at_s
    new.shown[:] = signals.colour
    if 0.0 <= elapsed_s <= WINDOW_S:
        add_arrivals(tables, arrived, new.arrived)
    else:  # the clock leapt: what was predicted says nothing
        new.since_s[:] = NO_WINDOW_S
        elapsed_s = 0.0

    close_windows(new, check.shown, elapsed_s, tables, signals, traffic)
    open_windows(new, tables, model, signals, traffic)
    update_agreement(new, elapsed_s, tables, target, traffic)
    vehicles, unknown = count_by_lane(tables, traffic)

    factors = np.empty((len(FACTORS), len(target)))
    factors[0] = freshness_of(new, tables, traffic)
    factors[1] = share_known(tables, vehicles, unknown, len(target))
    factors[2] = detection(new, tables, vehicles)
    factors[3] = new.agreement
    factors[4] = performance_of(new.late_s, new.predicted_s)
    confidence = factors[0] * factors[2] * factors[4]
    confidence *= factors[1] ** NOVELTY_POWER * factors[3] ** AGREEMENT_POWER
    return new, factors, confidence


@njit(cache=True)
def copy_of(check):  # type: ignore[no-untyped-def]
    return ModelCheck(
        check.at_s.copy(),
        check.shown.copy(),
        check.since_s.copy(),
        check.before.copy(),
        check.arrived.copy(),
        check.passing.copy(),
        check.late_s.copy(),
        check.predicted_s.copy(),
        check.agreement.copy(),
        check.picture.copy(),
        check.changed_s.copy(),
        check.empty_since_s.copy(),
        check.gap_s.copy(),
        check.spells.copy(),
    )


# performance


@njit(cache=True)
def performance_of(late_s, predicted_s):  # type: ignore[no-untyped-def]
    """1 while vehicles pass nearly as predicted, 0 where none does."""
    share = late_s / (predicted_s + LEAST_PREDICTED_S)
    return np.minimum(np.maximum((1.0 - share) / (1.0 - TOLERATED), 0.0), 1.0)


@njit(cache=True)
def close_windows(check, shown_before, elapsed_s, tables, signals, traffic):  # type: ignore[no-untyped-def]
    """Add what passed since the last instant to the sums; windows that are over end."""
    before = vehicles_before(tables, traffic, len(check.since_s))
    for j in range(len(check.since_s)):
        if check.since_s[j] == NO_WINDOW_S:
            continue
        window_s = check.at_s[0] - check.since_s[j]
        predicted = check.passing[j, min(int(window_s + 0.5), WINDOW_S)]
        passed = check.before[j] + check.arrived[j] - before[j]
        check.late_s[j] += (predicted - passed) * elapsed_s
        check.predicted_s[j] += predicted * elapsed_s
        if window_s >= WINDOW_S or has_changed(tables, j, shown_before, signals.colour):
            check.late_s[j] *= MEMORY
            check.predicted_s[j] *= MEMORY
            check.since_s[j] = NO_WINDOW_S


@njit(cache=True)
def open_windows(check, tables, model, signals, traffic):  # type: ignore[no-untyped-def]
    """A prediction for each junction that has none."""
    before = vehicles_before(tables, traffic, len(check.since_s))
    observed = observe(tables, signals, traffic)
    memory = np.empty(len(traffic.lane) + len(traffic.waiting_persons), VEHICLE)
    for j in range(len(check.since_s)):
        if check.since_s[j] == NO_WINDOW_S:
            check.since_s[j] = check.at_s[0]
            check.before[j] = before[j]
            check.arrived[j] = 0.0
            predict(check.passing[j], tables, model, j, observed, memory)


@njit(cache=True)
def predict(passing, tables, model, junction, observed, memory):  # type: ignore[no-untyped-def]
    """Fill `passing` with how many vehicles will have passed their stop line after 0, 1, ...
    seconds if the signals stay as they are. memory: see `build_queues`.
    """
    passing[:] = 0.0
    colours, opens_after_s, groups = colours_now(tables, junction, observed.signals)
    if (colours[:groups] < GO).all():
        return
    queues = build_queues(tables, model, junction, patient(observed, model), memory)
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
    """The observation as if no green had lasted long: who does not move on green is expected to,
    unless the exit is full. The planner gives such a vehicle up; here it counts against the model.
    """
    signals = observed.signals
    shown_for_s = np.minimum(signals.shown_for_s, model.blocked_after_s)
    signals = SignalTimes(signals.colour, shown_for_s, signals.ended_for_s)
    return Observed(signals, observed.traffic, observed.downstream, observed.start, observed.order)


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


@njit(cache=True)
def add_arrivals(tables, arrived, found):  # type: ignore[no-untyped-def]
    """Add the vehicles that arrived for each link to those of its junction, `found`."""
    for link in range(len(arrived)):
        if arrived[link] and tables.links[link].group >= 0:
            found[junction_of(tables, tables.links[link].group)] += arrived[link]


@njit(cache=True)
def has_changed(tables, junction, before, now):  # type: ignore[no-untyped-def]
    """The junction shows other colours."""
    first = tables.junctions[junction].first_group
    end = tables.junctions[junction + 1].first_group
    return (before[first:end] != now[first:end]).any()


@njit(cache=True)
def group_of(tables, link):  # type: ignore[no-untyped-def]
    """The signal group of a link; negative for one that is unknown, or has none."""
    return tables.links[link].group if 0 <= link < len(tables.links) else -1


@njit(cache=True)
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
def update_agreement(check, elapsed_s, tables, target, traffic):  # type: ignore[no-untyped-def]
    demand = traffic.waiting_persons.astype(np.float64)
    for link in traffic.link:
        group = group_of(tables, link)
        if group >= 0:
            demand[group] += 1.0
    share = 1.0 - np.exp(-elapsed_s / AGREEMENT_MEAN_S)
    for j in range(len(target)):
        check.agreement[j] += share * (agreement(tables, j, target[j], demand) - check.agreement[j])


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
def share_known(tables, vehicles, unknown, junctions):  # type: ignore[no-untyped-def]
    """The share of the vehicles of each junction whose link is known, less where a lane has more
    vehicles than the model was checked with; float (junctions,).
    """
    found = np.ones(junctions)
    for j in range(junctions):
        own = slice(tables.junctions[j].first_lane, tables.junctions[j + 1].first_lane)
        total = vehicles[own].sum()
        if total:
            crowd = CHECKED_LANE_VEHICLES / max(vehicles[own].max(), CHECKED_LANE_VEHICLES)
            found[j] = (1.0 - unknown[own].sum() / total) * crowd
    return found


# detection


@njit(cache=True)
def detection(check, tables, vehicles):  # type: ignore[no-untyped-def]
    """The share of the lanes in use of each junction that are not silent, by how often they were
    used; float (junctions,).
    """
    seeing = np.ones(len(check.agreement))
    for j in range(len(seeing)):
        used = 0.0
        alive = 0.0
        for a in range(tables.junctions[j].first_lane, tables.junctions[j + 1].first_lane):
            silent_s = note_gap(check, a, vehicles[a] > 0.0)
            if check.spells[a] >= LEAST_SPELLS:
                gaps = silent_s / max(check.gap_s[a], SHORTEST_GAP_S)
                used += check.spells[a]
                alive += check.spells[a] * min(max(2.0 - gaps / SILENT_GAPS, 0.0), 1.0)
        if used > 0.0:
            seeing[j] = alive / used
    return seeing


@njit(cache=True)
def note_gap(check, lane, is_used):  # type: ignore[no-untyped-def]
    """How long nobody has been seen in the stop lane; a gap that ends is added to the mean."""
    now_s = check.at_s[0]
    was_used = check.empty_since_s[lane] == NEVER_S
    if not is_used:
        if was_used:
            check.empty_since_s[lane] = now_s
        return max(now_s - check.empty_since_s[lane], 0.0)
    if not was_used:
        gap_s = max(now_s - check.empty_since_s[lane], 0.0)
        check.spells[lane] += 1.0
        check.gap_s[lane] += (gap_s - check.gap_s[lane]) / min(check.spells[lane], MOST_GAPS)
        check.empty_since_s[lane] = NEVER_S
    return 0.0


# freshness


@njit(cache=True)
def freshness_of(check, tables, traffic):  # type: ignore[no-untyped-def]
    """1 where the traffic changed a moment ago, or there is none; 0 where it has not for STALE_S.

    Returns float (junctions,).
    """
    now_s = check.at_s[0]
    picture = np.zeros(len(check.picture))
    for v in range(len(traffic.link)):
        group = group_of(tables, traffic.link[v])
        if group >= 0:
            row = traffic.distance_m[v] + 7.0 * traffic.speed_mps[v] + 13.0 * traffic.waiting_s[v]
            picture[junction_of(tables, group)] += row + PLACE * (v + 1)
    fresh = np.ones(len(picture))
    for j in range(len(picture)):
        if picture[j] != check.picture[j] or picture[j] == 0.0:
            check.changed_s[j] = now_s
        check.picture[j] = picture[j]
        fresh[j] = max(1.0 - max(now_s - check.changed_s[j], 0.0) / STALE_S, 0.0)
    return fresh
