"""Signal performance measures from the engine's own record of a run."""

from __future__ import annotations

from collections.abc import Sequence
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
    Key,
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


@dataclass(frozen=True, slots=True)
class Split:
    """Of one signal group: n greens that began and ended in the window and their lengths (s; None
    where n is 0), and the share of the window, as far as the run's record goes, that it was green
    (None where that has no length).
    """

    junction: str
    signal_group: int
    n: int
    mean_green_s: float | None
    p85_green_s: float | None
    longest_green_s: float | None
    green_share: float | None


def splits(
    database: Database,
    run: int,
    junction: str | None = None,
    begin_s: float = -inf,
    end_s: float = inf,
) -> list[Split]:
    """Of run number `run`, of each signal group that showed something in the window."""
    return splits_of(recorded(database, run, junction, begin_s, end_s))


def splits_of(history: History) -> list[Split]:
    return [_split(history, key) for key in history.shown()]


def _split(history: History, key: Key) -> Split:
    at, lamp = lamps(history.colours[key])
    until = history.until(key)
    begin = max(history.begin_s, min(history.first_s, float(at[0])))
    end = min(history.end_s, until)
    is_green = lamp == Lamp.GREEN
    green_s = np.diff(np.clip(np.append(at, max(until, at[-1])), begin, max(begin, end)))[is_green]
    ended = np.append(at[1:], inf)
    whole = is_green & (at >= history.begin_s) & (ended < history.end_s)
    lengths = (ended - at)[whole]
    n = len(lengths)
    return Split(
        *key,
        n=n,
        mean_green_s=float(lengths.mean()) if n else None,
        p85_green_s=float(np.percentile(lengths, 85)) if n else None,
        longest_green_s=float(lengths.max()) if n else None,
        green_share=float(green_s.sum()) / (end - begin) if end > begin else None,
    )


# controllers: what decided from an event on, the start of the street's process, an order, changed
# settings. Left out: a run that never started, since its street went on with another scenario
RUNS = """
    SELECT
        id, key, street, scenario, controller, seed, scale, begun_at,
        (
            SELECT json_agg(json_build_object('at_s', at_s, 'controller', data ->> 'controller')
                ORDER BY number)
            FROM event
            WHERE run_id = run.id
                AND kind IN (
                    'engine.started', 'engine.restored', 'engine.controller', 'engine.settings',
                    'engine.model_deployed', 'engine.model_rolled_back')
                AND data ->> 'controller' <> ''
        ) AS controllers
    FROM run
    WHERE (
            street = ''
            OR EXISTS (SELECT FROM event WHERE run_id = run.id)
            OR NOT EXISTS (
                SELECT FROM run newer WHERE newer.street = run.street AND newer.id > run.id
            )
        )
        AND (CAST(:streets AS text[]) IS NULL OR street = ANY(:streets))
    ORDER BY id DESC
    LIMIT :limit OFFSET :offset
"""


def runs(
    database: Database, limit: int = 100, offset: int = 0, streets: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """The engine's runs, newest first; scenario, seed and scale are the demand, which a run has one
    of: another scenario begins another run. `controller` decided at its begin; `controllers` lists
    that one and each that followed, with the street's time from which on it decided (at_s; None
    where no event tells it). streets: of these alone; None for all.
    """
    rows = database.rows(RUNS, limit=limit, offset=offset, streets=streets)
    return [row | {"controllers": _controllers(row)} for row in rows]


def streets_of(database: Database, runs: Sequence[int]) -> dict[int, str]:
    """The street of each of these runs that there is."""
    rows = database.rows("SELECT id, street FROM run WHERE id = ANY(:runs)", runs=runs)
    return {row["id"]: row["street"] for row in rows}


def _controllers(run: dict[str, Any]) -> list[dict[str, Any]]:
    found = list(run["controllers"] or ())
    if not found or found[0]["controller"] != run["controller"]:
        found.insert(0, {"at_s": None, "controller": run["controller"]})
    return [
        one
        for k, one in enumerate(found)
        if k == 0 or one["controller"] != found[k - 1]["controller"]
    ]


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
    delay_s: mean wait of those on red for the next green, also where that began after the window;
    failures: of the greens that began and ended in the window those whose queue was not served
    (stop line occupied for more than 79 % of the green and of the first 5 s of red, as the Utah
    signal performance measures have it). health: ok; silent (never occupied); stuck (occupied for
    15 minutes)."""

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
    return [_arrivals(history, key) for key in history.shown() if key not in history.crossings]


@dataclass(frozen=True, slots=True)
class Coordination:
    """Purdue coordination diagram of one signal group, a point an arrival: at_s, and seconds since
    the red before it began (into_cycle_s); beside it, for each cycle that began in the window or
    was under way at its begin, when its green and yellow began (seconds into it); None in a cycle
    without."""

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
    arrived = on[(occupied > 0) & history.within(on)]
    cycle = np.searchsorted(red, arrived, "right") - 1
    arrived, cycle = arrived[cycle >= 0], cycle[cycle >= 0]
    into = arrived - red[cycle]

    def after(begins: FloatArray) -> list[float | None]:
        first = np.append(begins, inf)[np.searchsorted(begins, red)]
        return [
            float(s - r) if s < end else None
            for s, r, end in zip(first, red, [*red[1:], inf], strict=False)
        ]

    asked = (np.append(red[1:], inf) > begin_s) & (red < end_s)
    return Coordination(
        at_s=arrived.tolist(),
        into_cycle_s=into.tolist(),
        cycle_at_s=red[asked].tolist(),
        green_s=[s for s, is_asked in zip(after(green), asked, strict=True) if is_asked],
        yellow_s=[s for s, is_asked in zip(after(yellow), asked, strict=True) if is_asked],
    )


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
    for key in history.shown():
        if key in history.crossings:
            continue
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
    for key in history.shown():
        if key not in history.crossings:
            continue
        called, waiting = history.detector(key)
        delays = _waits(lamps(history.colours[key]), called[(waiting > 0) & history.within(called)])
        figures = (
            (float(delays.mean()), float(np.percentile(delays, 95)), float(delays.max()))
            if len(delays)
            else (None, None, None)
        )
        found.append(PedestrianDelay(*key, len(delays), *figures))
    return found


def _waits(signal: Series, calls: FloatArray) -> FloatArray:
    """From each call to the next green; 0 for one that comes while it is green."""
    at, lamp = signal
    if not len(at):
        return np.zeros(0)
    green = at[lamp == Lamp.GREEN]
    shown, after = np.searchsorted(at, calls, "right") - 1, np.searchsorted(green, calls)
    is_green = (shown >= 0) & (lamp[shown] == Lamp.GREEN)
    delays = np.where(is_green, 0.0, np.append(green, inf)[after] - calls)
    answered: FloatArray = delays[is_green | (after < len(green))]
    return answered


@dataclass(frozen=True, slots=True)
class Emissions:
    """Of a run, from SUMO's own emission model (HBEFA) with n looks in the window; rates between
    two looks are taken as they were at the first, also where that is before the window.

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
    less the run's, None where there is no such time. n: looks of both in it.
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
    need_same_demand(database, run, baseline)
    run_samples = emission_samples(database, run)
    if baseline is None:
        emitted = _emitted(run, run_samples, fuel_price_per_l, begin_s, end_s)
        return EmissionComparison(emitted, None, 0, fuel_price_per_l, None, None, None, None)
    baseline_samples = emission_samples(database, baseline)
    both = (run_samples, baseline_samples)
    begin_s = max(begin_s, *(x[:, 0].min(initial=inf) for x in both))
    last_s = min(x[:, 0].max(initial=-inf) for x in both)
    a = _emitted(run, run_samples, fuel_price_per_l, begin_s, end_s, last_s)
    b = _emitted(baseline, baseline_samples, fuel_price_per_l, begin_s, end_s, last_s)
    n = min(a.n, b.n)
    if not a.hours:
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


def need_same_demand(database: Database, run: int, baseline: int | None) -> None:
    """Raises MissingError for a run that is not there, or where the demands differ."""
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


def emission_samples(database: Database, run: int) -> FloatArray:
    """(n, 4) of a run: time s, vehicles, fuel mg/s, CO2 mg/s, in order of time."""
    (row,) = database.rows(
        """
        SELECT
            array_agg(at_s ORDER BY at_s) AS at_s,
            array_agg(vehicles ORDER BY at_s) AS vehicles,
            array_agg(fuel_mg_s ORDER BY at_s) AS fuel_mg_s,
            array_agg(co2_mg_s ORDER BY at_s) AS co2_mg_s
        FROM emission
        WHERE run_id = :run
        """,
        run=run,
    )
    if row["at_s"] is None:
        return np.zeros((0, 4))
    return np.array(list(row.values()), np.float64).T


def _emitted(
    run: int,
    samples: FloatArray,
    price: float,
    begin_s: float,
    end_s: float,
    last_s: float = inf,
) -> Emissions:
    """Of [begin_s, end_s), from the first look to the last one, or to last_s."""
    at = samples[:, 0]
    until = np.minimum(at[1:], min(end_s, last_s))
    lasted = np.maximum(until - np.maximum(at[:-1], begin_s), 0.0)
    vehicle_s, fuel_mg, co2_mg = (float((samples[:-1, k] * lasted).sum()) for k in (1, 2, 3))
    litres = fuel_mg / 1e6 / PETROL_KG_PER_L
    return Emissions(
        run,
        int(((at >= begin_s) & (at < end_s) & (at <= last_s)).sum()),
        float(lasted.sum()) / 3600.0,
        vehicle_s / 3600.0,
        litres,
        co2_mg / 1e6,
        litres * price,
    )


def _arrivals(history: History, key: Key) -> Arrivals:
    at, lamp = lamps(history.colours[key])
    on, occupied = history.detector(key)
    last = history.until(key)
    arrived = on[(occupied > 0) & history.within(on)]
    place = np.searchsorted(at, arrived, "right") - 1
    known, shown = arrived[place >= 0], lamp[place[place >= 0]]
    n = len(known)
    on_green, on_yellow, on_red = (
        int((shown == one).sum()) for one in (Lamp.GREEN, Lamp.YELLOW, Lamp.RED)
    )
    waits = _waits((at, lamp), known[shown == Lamp.RED])
    failures = whole = 0
    for k in np.flatnonzero(lamp == Lamp.GREEN).tolist():
        if at[k] < history.begin_s or k + 1 >= len(at) or at[k + 1] >= history.end_s:
            continue
        reds = at[k + 2 : k + 3] if lamp[k + 1] == Lamp.YELLOW else at[k + 1 : k + 2]
        if len(reds) and reds[0] + QUEUE_RED_S <= last:
            whole += 1
            failures += _fills(on, occupied, at[k], at[k + 1]) and _fills(
                on, occupied, reds[0], reds[0] + QUEUE_RED_S
            )
    return Arrivals(
        *key,
        n=n,
        on_green=on_green,
        on_yellow=on_yellow,
        on_red=on_red,
        green_share=on_green / n if n else None,
        delay_s=float(waits.mean()) if len(waits) else None,
        greens=whole,
        failures=int(failures),
        health=_health(history, (on, occupied), last, n),
    )


def _health(history: History, detector: Series, last: float, n: int) -> str:
    """n: its actuations in the window. Its last report holds until `last`."""
    on, occupied = detector
    until = np.append(on, max(last, on.max(initial=last)))[1:]
    stood = (occupied > 0) & (on < history.end_s) & (until > history.begin_s)
    if stood.size and last == history.begin_s:  # its last report holds then, too
        stood[-1] = occupied[-1] > 0 and on[-1] < history.end_s
    if ((until - on)[stood] >= STUCK_S).any():
        return "stuck"
    return "ok" if n or stood.any() else "silent"


def _fills(on: FloatArray, occupied: FloatArray, begin: float, end: float) -> bool:
    """Whether the detector is occupied for more than QUEUE_SHARE of the time."""
    first, last = max(np.searchsorted(on, begin, "right") - 1, 0), np.searchsorted(on, end)
    changes = np.clip(np.append(on[first:last], inf), begin, end)
    occupied_s = (np.diff(changes) * occupied[first:last]).sum()
    return bool(occupied_s > QUEUE_SHARE * (end - begin))
