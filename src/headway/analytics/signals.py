"""Signal performance measures from the engine's own record of a run."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from headway.analytics.highres import (
    FORCE_OFF,
    GAP_OUT,
    LONGEST_GREEN_S,
    MAX_OUT,
    NOTHING,
    History,
    Lamp,
    Series,
    greens,
    lamps,
    recorded,
)
from headway.analytics.records import MissingError
from headway.store import Database
from headway.values import FloatArray

PETROL_KG_PER_L = 0.745  # as HBEFA, whose factors SUMO uses, has it
# of a split failure: the stop line occupied for more than this share of the green and of so much of
# the red
QUEUE_SHARE = 0.79
QUEUE_RED_S = 5.0
STUCK_S = 900.0  # a detector occupied for so long is taken to be stuck


# what each group showed as the window began counts from there, and its last colour until the end
SPLITS = """
    WITH
        r AS (
            SELECT junction, signal_group, at_s, colour >= 3 AS lit
            FROM signal_state
            WHERE run_id = :run
                AND (CAST(:junction AS text) IS NULL OR junction = :junction)
        ),
        t AS (
            SELECT
                greatest(min(at_s), :begin) AS begin_s,
                least(max(at_s), :end) AS end_s
            FROM r
        ),
        c AS (
            SELECT *, lag(lit) OVER (PARTITION BY junction, signal_group ORDER BY at_s) AS was
            FROM r
        ),
        s AS (
            SELECT
                junction,
                signal_group,
                lit,
                at_s,
                lead(at_s) OVER (PARTITION BY junction, signal_group ORDER BY at_s) AS until_s
            FROM c
            WHERE lit IS DISTINCT FROM was
        ),
        g AS (
            SELECT
                junction,
                signal_group,
                begin_s,
                end_s,
                least(coalesce(until_s, end_s), end_s) - greatest(at_s, begin_s) AS shown_s,
                CASE WHEN at_s >= begin_s AND until_s < :end THEN until_s - at_s END AS lasted_s
            FROM s, t
            WHERE lit AND at_s < end_s AND coalesce(until_s, end_s) > begin_s
        )
    SELECT
        junction,
        signal_group,
        count(lasted_s) AS n,
        avg(lasted_s) AS mean_green_s,
        max(lasted_s) AS longest_green_s,
        percentile_cont(0.85) WITHIN GROUP (ORDER BY lasted_s) AS p85_green_s,
        sum(shown_s) / max(end_s - begin_s) AS green_share
    FROM g
    GROUP BY 1, 2
    ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Split:
    """Of one signal group: n greens that began and ended in the window and their lengths (s; None
    where n is 0), and the share of its time that it was green.
    """

    junction: str
    signal_group: int
    n: int
    mean_green_s: float | None
    p85_green_s: float | None
    longest_green_s: float | None
    green_share: float


def splits(
    database: Database,
    run: int,
    junction: str | None = None,
    begin_s: float = -inf,
    end_s: float = inf,
) -> list[Split]:
    """Of run number `run`, of each signal group that was green. The lengths are of the greens that
    began and ended in the window; `green_share` counts all that were shown in it, as far as the
    record (of this junction, if one is asked for) goes.
    """
    rows = database.rows(
        SPLITS,
        run=run,
        junction=junction,
        begin=begin_s,
        end=end_s,
    )
    return [Split(**row) for row in rows]


def runs(database: Database, limit: int = 100, offset: int = 0) -> list[dict[str, Any]]:
    """The engine's runs, newest first; scenario, seed and scale are the demand."""
    return database.rows(
        """
        SELECT id, key, street, scenario, controller, seed, scale, begun_at
        FROM run
        ORDER BY id DESC
        LIMIT :limit OFFSET :offset
        """,
        limit=limit,
        offset=offset,
    )


def need_run(database: Database, run: int) -> None:
    """Raises MissingError if there is no such run."""
    if not database.rows("SELECT id FROM run WHERE id = :run", run=run):
        raise MissingError(f"there is no run {run} in the database; GET /api/v1/runs lists them")


def events(
    database: Database, run: int, kind: str = "", limit: int = 1000, offset: int = 0
) -> list[dict[str, Any]]:
    """Events of a run whose kind begins with `kind`, in order."""
    return database.rows(
        (
            "SELECT number, at_s, kind, junction, data FROM event WHERE run_id = :run AND kind "
            "LIKE :kind ORDER BY number LIMIT :limit OFFSET :offset"
        ),
        run=run,
        kind=kind.replace("%", "").replace("_", r"\_") + "%",
        limit=limit,
        offset=offset,
    )


@dataclass(frozen=True, slots=True)
class Arrivals:
    """At one signal group's stop line: n actuations, and how many of them on green, yellow and red.
    delay_s: mean wait of those on red for the next green; failures: of n greens those whose queue
    was not served (stop line occupied for more than 79 % of the green and of the first 5 s of red,
    as the Utah signal performance measures have it). health: ok; silent (no actuation); stuck
    (occupied for 15 minutes)."""

    junction: str
    signal_group: int
    n: int
    on_green: int
    on_yellow: int
    on_red: int
    green_share: float | None
    delay_s: float | None
    greens: int
    failures: int
    health: str


def arrivals(
    database: Database,
    run: int,
    junction: str | None = None,
    begin_s: float = -inf,
    end_s: float = inf,
) -> list[Arrivals]:
    """Of each signal group that showed something in the window."""
    return arrivals_of(recorded(database, run, junction, begin_s, end_s))


def arrivals_of(history: History) -> list[Arrivals]:
    """Of each signal group for vehicles."""
    return [
        _arrivals(*key, history.colours[key], *history.detector(key))
        for key in sorted(history.colours)
        if key not in history.crossings
    ]


@dataclass(frozen=True, slots=True)
class Coordination:
    """Purdue coordination diagram of one signal group, a point an arrival: at_s, and seconds since
    the red before it began (into_cycle_s); beside it, for each cycle, when its green and yellow
    began (seconds into it); None in a cycle without."""

    at_s: list[float]
    into_cycle_s: list[float]
    cycle_at_s: list[float]
    green_s: list[float | None]
    yellow_s: list[float | None]


def coordination(
    database: Database,
    run: int,
    junction: str,
    group: int,
    begin_s: float = -inf,
    end_s: float = inf,
) -> Coordination:
    history = recorded(database, run, junction, begin_s, end_s)
    at, lamp = lamps(history.colours.get((junction, group), NOTHING))
    on, occupied = history.detector((junction, group))
    red, green, yellow = (at[lamp == one] for one in (Lamp.RED, Lamp.GREEN, Lamp.YELLOW))
    arrived = on[occupied > 0]
    cycle = np.searchsorted(red, arrived, "right") - 1
    arrived, cycle = arrived[cycle >= 0], cycle[cycle >= 0]
    into = arrived - red[cycle]

    def after(begins: FloatArray) -> list[float | None]:
        first = np.append(begins, inf)[np.searchsorted(begins, red)]
        return [
            float(s - r) if s < end else None
            for s, r, end in zip(first, red, [*red[1:], inf], strict=False)
        ]

    return Coordination(arrived.tolist(), into.tolist(), red.tolist(), after(green), after(yellow))


@dataclass(frozen=True, slots=True)
class Queues:
    """Stopped vehicles near one junction, over n samples 5 s apart; longest wait in seconds."""

    junction: str
    n: int
    mean_veh: float
    p95_veh: float
    longest_veh: int
    longest_wait_s: float


def queues(
    database: Database,
    run: int,
    junction: str | None = None,
    begin_s: float = -inf,
    end_s: float = inf,
) -> list[Queues]:
    rows = database.rows(
        """
        SELECT
            junction,
            count(*) AS n,
            avg(halted) AS mean_veh,
            percentile_cont(0.95) WITHIN GROUP (ORDER BY halted) AS p95_veh,
            max(halted) AS longest_veh,
            max(longest_wait_s) AS longest_wait_s
        FROM observation
        WHERE run_id = :run
            AND (CAST(:junction AS text) IS NULL OR junction = :junction)
            AND at_s >= :begin
            AND at_s < :end
        GROUP BY junction
        ORDER BY junction
        """,
        run=run,
        junction=junction,
        begin=begin_s,
        end=end_s,
    )
    return [Queues(**{**row, "mean_veh": float(row["mean_veh"])}) for row in rows]


@dataclass(frozen=True, slots=True)
class Terminations:
    """What ended the n greens of one signal group: gap out (no more traffic), its longest length,
    or others' turn. Fewer than n where a controller's log does not tell of all. mean_split_s: green
    and yellow."""

    junction: str
    signal_group: int
    n: int
    gap_out: int
    max_out: int
    force_off: int
    mean_split_s: float | None


def terminations(
    database: Database,
    run: int,
    junction: str | None = None,
    begin_s: float = -inf,
    end_s: float = inf,
    longest_green_s: float = LONGEST_GREEN_S,
) -> list[Terminations]:
    """Of each signal group for vehicles that showed something in the window."""
    return terminations_of(recorded(database, run, junction, begin_s, end_s), longest_green_s)


def terminations_of(
    history: History, longest_green_s: float = LONGEST_GREEN_S
) -> list[Terminations]:
    found = []
    for key in sorted(history.colours.keys() - history.crossings):
        ended = greens(history, key, longest_green_s)
        mean = (
            float((ended.end_s + ended.yellow_s - ended.begin_s).mean()) if len(ended.why) else None
        )
        gap, most, force = (int((ended.why == why).sum()) for why in (GAP_OUT, MAX_OUT, FORCE_OFF))
        found.append(Terminations(*key, len(ended.why), gap, most, force, mean))
    return found


@dataclass(frozen=True, slots=True)
class PedestrianDelay:
    """At one crossing: n calls (a pedestrian begins to wait) that were answered, and the seconds
    from the call to the walk signal.
    """

    junction: str
    signal_group: int
    n: int
    mean_s: float | None
    p95_s: float | None
    longest_s: float | None


def pedestrian_delay(
    database: Database,
    run: int,
    junction: str | None = None,
    begin_s: float = -inf,
    end_s: float = inf,
) -> list[PedestrianDelay]:
    """Of each crossing."""
    history = recorded(database, run, junction, begin_s, end_s)
    found = []
    for key in sorted(history.crossings & history.colours.keys()):
        delays = _waits(lamps(history.colours[key]), history.detector(key))
        figures = (
            (float(delays.mean()), float(np.percentile(delays, 95)), float(delays.max()))
            if len(delays)
            else (None, None, None)
        )
        found.append(PedestrianDelay(*key, len(delays), *figures))
    return found


def _waits(signal: Series, detector: Series) -> FloatArray:
    """From each call to the next green; 0 for one that comes while it is green."""
    at, lamp = signal
    green = at[lamp == Lamp.GREEN]
    delays = []
    for call in detector[0][detector[1] > 0]:
        shown, after = np.searchsorted(at, call, "right") - 1, np.searchsorted(green, call)
        if shown >= 0 and lamp[shown] == Lamp.GREEN:
            delays.append(0.0)
        elif after < len(green):
            delays.append(green[after] - call)
    return np.array(delays, np.float64)


@dataclass(frozen=True, slots=True)
class Emissions:
    """Of a run, from SUMO's own emission model (HBEFA) over n looks; rates between two looks are
    taken as they were at the first.

    vehicle_h: vehicle-hours on the street. Petrol at 0.745 kg/l.
    """

    run: int
    n: int
    hours: float
    vehicle_h: float
    fuel_l: float
    co2_kg: float
    cost: float


@dataclass(frozen=True, slots=True)
class EmissionComparison:
    """A run beside a baseline, over the simulated time that both cover; saved is the baseline's
    less the run's. n: pairs of samples.
    """

    run: Emissions
    baseline: Emissions | None
    n: int
    fuel_price_per_l: float
    fuel_saved_l: float | None
    co2_saved_kg: float | None
    money_saved: float | None
    vehicle_h_saved: float | None


def impact(
    database: Database,
    run: int,
    baseline: int | None = None,
    fuel_price_per_l: float = 1.70,
    begin_s: float = -inf,
    end_s: float = inf,
) -> EmissionComparison:
    """What a run burnt, and what it saved beside another over the same demand. Raises MissingError
    for a run that is not there, or a baseline with another demand.
    """
    _need_same_demand(database, run, baseline)
    run_samples = _samples(database, run, begin_s, end_s)
    if baseline is None:
        return EmissionComparison(
            _emitted(run, run_samples, fuel_price_per_l),
            None,
            0,
            fuel_price_per_l,
            None,
            None,
            None,
            None,
        )
    baseline_samples = _samples(database, baseline, begin_s, end_s)
    first = max(x[:, 0].min(initial=inf) for x in (run_samples, baseline_samples))
    last = min(x[:, 0].max(initial=-inf) for x in (run_samples, baseline_samples))
    one, two = (x[(x[:, 0] >= first) & (x[:, 0] <= last)] for x in (run_samples, baseline_samples))
    a, b = _emitted(run, one, fuel_price_per_l), _emitted(baseline, two, fuel_price_per_l)
    n = min(a.n, b.n)
    if n < 2:
        return EmissionComparison(a, b, 0, fuel_price_per_l, None, None, None, None)
    return EmissionComparison(
        a,
        b,
        n,
        fuel_price_per_l,
        b.fuel_l - a.fuel_l,
        b.co2_kg - a.co2_kg,
        b.cost - a.cost,
        b.vehicle_h - a.vehicle_h,
    )


def _need_same_demand(database: Database, run: int, baseline: int | None) -> None:
    """Raises MissingError."""
    rows = database.rows(
        "SELECT id, scenario, seed, scale FROM run WHERE id IN (:run, :baseline)",
        run=run,
        baseline=baseline,
    )
    demands = {row.pop("id"): row for row in rows}
    for number in (run, baseline):
        if number is not None and number not in demands:
            raise MissingError(f"there is no run {number} in the database")
    if baseline is not None and demands[run] != demands[baseline]:
        ran = " and ".join(
            f"run {n} had {d['scenario']} (seed {d['seed']}, scale {d['scale']:g})"
            for n, d in sorted(demands.items())
        )
        raise MissingError(f"{ran}: what one saved beside the other cannot be said")


def _samples(database: Database, run: int, begin_s: float, end_s: float) -> FloatArray:
    """(n, 4): time s, vehicles, fuel mg/s, CO2 mg/s."""
    rows = database.rows(
        (
            "SELECT at_s, vehicles, fuel_mg_s, co2_mg_s FROM emission WHERE run_id = :run AND "
            "at_s >= :begin AND at_s < :end ORDER BY at_s"
        ),
        run=run,
        begin=begin_s,
        end=end_s,
    )
    return np.array([tuple(r.values()) for r in rows], np.float64).reshape(len(rows), 4)


def _emitted(run: int, samples: FloatArray, price: float) -> Emissions:
    lasted = np.diff(samples[:, 0])
    vehicle_s, fuel_mg, co2_mg = (float((samples[:-1, k] * lasted).sum()) for k in (1, 2, 3))
    litres = fuel_mg / 1e6 / PETROL_KG_PER_L
    return Emissions(
        run,
        len(samples),
        float(lasted.sum()) / 3600.0,
        vehicle_s / 3600.0,
        litres,
        co2_mg / 1e6,
        litres * price,
    )


def _arrivals(
    junction: str, group: int, colour: Series, on: FloatArray, occupied: FloatArray
) -> Arrivals:
    last = colour[0][-1]
    at, lamp = lamps(colour)
    arrived = on[occupied > 0]
    place = np.searchsorted(at, arrived, "right") - 1
    known, shown = arrived[place >= 0], lamp[place[place >= 0]]
    green = at[lamp == Lamp.GREEN]
    stopped = known[shown == Lamp.RED]
    after = np.searchsorted(green, stopped)
    waits = green[after[after < len(green)]] - stopped[after < len(green)]
    failures = whole = 0
    for k in np.flatnonzero(lamp == Lamp.GREEN).tolist():
        if k + 2 < len(at) and at[k + 2] + QUEUE_RED_S <= last:
            whole += 1
            red = at[k + 2] if lamp[k + 1] == Lamp.YELLOW else at[k + 1]
            failures += _fills(on, occupied, at[k], at[k + 1]) and _fills(
                on, occupied, red, red + QUEUE_RED_S
            )
    n = len(known)
    held = np.diff(
        np.append(on, on.max(initial=last))
    )  # how long it reported the same; its last report holds until the end
    health = "silent" if n == 0 else "stuck" if (held[occupied > 0] >= STUCK_S).any() else "ok"
    on_green, on_yellow, on_red = (
        int((shown == one).sum()) for one in (Lamp.GREEN, Lamp.YELLOW, Lamp.RED)
    )
    mean = float(waits.mean()) if len(waits) else None
    return Arrivals(
        junction,
        group,
        n,
        on_green,
        on_yellow,
        on_red,
        on_green / n if n else None,
        mean,
        whole,
        int(failures),
        health,
    )


def _fills(on: FloatArray, occupied: FloatArray, begin: float, end: float) -> bool:
    """Whether the detector is occupied for more than QUEUE_SHARE of the time."""
    changes = np.clip(np.append(on, inf), begin, end)
    return bool((np.diff(changes) * occupied).sum() > QUEUE_SHARE * (end - begin))
