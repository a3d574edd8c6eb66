"""What a run saved beside a baseline over the same demand: fuel, CO2, time and money, and what that
returns on an investment.

The factors of `settings.BusinessSettings` are stated with their sources in docs/monitoring.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headway.analytics.comparison import paired
from headway.analytics.records import MissingError
from headway.analytics.signals import PETROL_KG_PER_L, need_same_demand
from headway.settings import BusinessSettings
from headway.store import Database
from headway.values import CountArray, FloatArray

BLOCK_S = 60.0  # simulated, as in `dashboards`
DAYS_A_YEAR = 365.0


@dataclass(frozen=True, slots=True)
class Saving:
    """The baseline's less the run's, over the time compared; above nought is better than it.

    interval_95: by `comparison.paired` over the blocks; None where these are too few, and `why`
        says so. per_year: of so many hours a day as the settings say, over 365 days, with its
        interval.
    """

    total: float
    interval_95: tuple[float, float] | None
    p: float | None
    per_year: float
    per_year_95: tuple[float, float] | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Return:
    """On the investment of the settings. net_per_year: saved less running costs; percent_per_year:
    of the investment, None without one; payback_years: until it is earned, None where it never is,
    each with the interval that follows from that of the money saved (its bounds may be None: never
    within it).
    """

    net_per_year: float
    net_per_year_95: tuple[float, float] | None
    percent_per_year: float | None
    percent_per_year_95: tuple[float, float] | None
    payback_years: float | None
    payback_years_95: tuple[float | None, float | None] | None


@dataclass(frozen=True, slots=True)
class Business:
    """Of two runs over the hours that both cover, in blocks of 60 simulated seconds. Blocks in
    which one of them was not looked at do not count.

    fuel_l: petrol at 0.745 kg/l, by SUMO's emission model; co2_kg; time_h: hours of vehicles on the
    street; of money: fuel, CO2, time (of its persons), and their sum.
    """

    run: int
    baseline: int
    hours: float
    blocks: int
    factors: BusinessSettings
    fuel_l: Saving
    co2_kg: Saving
    time_h: Saving
    fuel_money: Saving
    co2_money: Saving
    time_money: Saving
    money: Saving
    returns: Return


# a look at the street holds until the next one. Of blocks without a look of their own nothing is
# known; of a look that holds for long, the first and the last block alone are made
BLOCKS = """
    WITH look AS (
        SELECT at_s, vehicles, fuel_mg_s, co2_mg_s, lead(at_s) OVER (ORDER BY at_s) AS until_s
        FROM emission WHERE run_id = :run
    ),
    part AS (
        SELECT
            block,
            at_s >= block * :block_s AS is_own,
            least(until_s, (block + 1) * :block_s) - greatest(at_s, block * :block_s) AS lasted_s,
            vehicles, fuel_mg_s, co2_mg_s
        FROM (
            SELECT *,
                CAST(floor(at_s / :block_s) AS bigint) AS first,
                CAST(ceil(until_s / :block_s) AS bigint) - 1 AS last
            FROM look WHERE until_s IS NOT NULL
        ) spans
        CROSS JOIN LATERAL generate_series(first, last, greatest(last - first, 1)) AS block
    )
    SELECT
        block,
        sum(vehicles * lasted_s) AS vehicle_s,
        sum(fuel_mg_s * lasted_s) AS fuel_mg,
        sum(co2_mg_s * lasted_s) AS co2_mg
    FROM part
    GROUP BY block
    HAVING bool_or(is_own) AND sum(lasted_s) > :block_s - 0.001
    ORDER BY block
"""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Of a run, the whole blocks of 60 s that are known. number: int (n,), ascending, simulated
    time over 60 s; sums: float (n, 3), vehicle seconds, mg of fuel, mg of CO2.
    """

    number: CountArray
    sums: FloatArray


def business(database: Database, run: int, baseline: int, factors: BusinessSettings) -> Business:
    """Raises MissingError for a run that is not there, beside itself, runs over different demands,
    or without a whole block in common.
    """
    if run == baseline:
        raise MissingError(f"run {run} is the baseline itself: name another one")
    need_same_demand(database, run, baseline)
    both = _blocks(database, run), _blocks(database, baseline)
    return savings(*both, factors, run, baseline)


def _blocks(database: Database, run: int) -> Blocks:
    """Made by the database: a fortnight of a street has 240,000 looks."""
    rows = database.rows(BLOCKS, run=run, block_s=BLOCK_S)
    sums = [(row["vehicle_s"], row["fuel_mg"], row["co2_mg"]) for row in rows]
    return Blocks(
        np.array([row["block"] for row in rows], np.int64),
        np.array(sums, np.float64).reshape(len(rows), 3),
    )


def savings(
    of_run: Blocks, of_baseline: Blocks, factors: BusinessSettings, run: int = 0, baseline: int = 0
) -> Business:
    """Over the blocks that both have. Raises MissingError as `business`."""
    number, a, b = np.intersect1d(of_run.number, of_baseline.number, return_indices=True)
    if not len(number):
        raise MissingError(
            f"the runs have no whole block of {BLOCK_S:g} simulated seconds in common yet. Ask "
            "again later"
        )
    saved = of_baseline.sums[b] - of_run.sums[a]  # (blocks, 3)
    time_h = saved[:, 0] / 3600.0
    fuel_l = saved[:, 1] / 1e6 / PETROL_KG_PER_L
    co2_kg = saved[:, 2] / 1e6
    fuel_money = fuel_l * factors.fuel_price_per_l
    co2_money = co2_kg / 1000.0 * factors.co2_price_per_t
    time_money = time_h * factors.occupancy * factors.time_value_per_h
    hours = len(saved) * BLOCK_S / 3600.0
    yearly = factors.hours_a_day * DAYS_A_YEAR / hours
    at_s = number.astype(np.float64) * BLOCK_S
    money = _saving(fuel_money + co2_money + time_money, at_s, yearly)
    return Business(
        run=run,
        baseline=baseline,
        hours=hours,
        blocks=len(saved),
        factors=factors,
        fuel_l=_saving(fuel_l, at_s, yearly),
        co2_kg=_saving(co2_kg, at_s, yearly),
        time_h=_saving(time_h, at_s, yearly),
        fuel_money=_saving(fuel_money, at_s, yearly),
        co2_money=_saving(co2_money, at_s, yearly),
        time_money=_saving(time_money, at_s, yearly),
        money=money,
        returns=_returns(money, factors),
    )


def _saving(saved: FloatArray, at_s: FloatArray, yearly: float) -> Saving:
    n = len(saved)
    test = paired(np.zeros(n), saved, at_s)
    total = float(saved.sum())
    interval = test.interval_95 and (n * test.interval_95[0], n * test.interval_95[1])
    return Saving(
        total=total,
        interval_95=interval,
        p=test.p,
        per_year=total * yearly,
        per_year_95=interval and (interval[0] * yearly, interval[1] * yearly),
        why=test.why,
    )


def _returns(money: Saving, factors: BusinessSettings) -> Return:
    def net(saved: float) -> float:
        return saved - factors.running_cost_per_year

    def percent(saved: float) -> float:
        return 100.0 * net(saved) / factors.investment

    def payback(saved: float) -> float | None:
        return factors.investment / net(saved) if net(saved) > 0.0 else None

    low_high = money.per_year_95
    has_investment = factors.investment > 0.0
    return Return(
        net_per_year=net(money.per_year),
        net_per_year_95=low_high and (net(low_high[0]), net(low_high[1])),
        percent_per_year=percent(money.per_year) if has_investment else None,
        percent_per_year_95=(percent(low_high[0]), percent(low_high[1]))
        if has_investment and low_high
        else None,
        payback_years=payback(money.per_year) if has_investment else None,
        payback_years_95=(payback(low_high[1]), payback(low_high[0]))
        if has_investment and low_high
        else None,
    )
