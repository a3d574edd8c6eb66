"""What a run saved beside a baseline over the same demand: fuel, CO2, time and money, and what that
returns on an investment.

The factors of `settings.BusinessSettings` are stated with their sources in docs/monitoring.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headway.analytics.comparison import paired
from headway.analytics.records import MissingError
from headway.analytics.signals import PETROL_KG_PER_L, emission_samples, need_same_demand
from headway.settings import BusinessSettings
from headway.store import Database
from headway.values import FloatArray

BLOCK_S = 300.0  # simulated, as in `dashboards`
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
    """Of two runs over the hours that both cover, in blocks of 300 simulated seconds.

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


def business(database: Database, run: int, baseline: int, factors: BusinessSettings) -> Business:
    """Raises MissingError for a run that is not there, runs over different demands, or without a
    whole block in common.
    """
    need_same_demand(database, run, baseline)
    return savings(
        emission_samples(database, run),
        emission_samples(database, baseline),
        factors,
        run,
        baseline,
    )


def savings(
    run_samples: FloatArray,
    baseline_samples: FloatArray,
    factors: BusinessSettings,
    run: int = 0,
    baseline: int = 0,
) -> Business:
    """Of samples (n, 4): time s, vehicles, fuel mg/s, CO2 mg/s, each until the next one. Raises
    MissingError as `business`.
    """
    begin, end = _whole_blocks(run_samples, baseline_samples)
    a, b = (_blocks(x, begin, end) for x in (run_samples, baseline_samples))
    saved = b - a  # (blocks, 3): vehicle seconds, fuel mg, CO2 mg
    time_h = saved[:, 0] / 3600.0
    fuel_l = saved[:, 1] / 1e6 / PETROL_KG_PER_L
    co2_kg = saved[:, 2] / 1e6
    fuel_money = fuel_l * factors.fuel_price_per_l
    co2_money = co2_kg / 1000.0 * factors.co2_price_per_t
    time_money = time_h * factors.occupancy * factors.time_value_per_h
    hours = (end - begin) / 3600.0
    yearly = factors.hours_a_day * DAYS_A_YEAR / hours
    money = _saving(fuel_money + co2_money + time_money, yearly)
    return Business(
        run=run,
        baseline=baseline,
        hours=hours,
        blocks=len(saved),
        factors=factors,
        fuel_l=_saving(fuel_l, yearly),
        co2_kg=_saving(co2_kg, yearly),
        time_h=_saving(time_h, yearly),
        fuel_money=_saving(fuel_money, yearly),
        co2_money=_saving(co2_money, yearly),
        time_money=_saving(time_money, yearly),
        money=money,
        returns=_returns(money, factors),
    )


def _whole_blocks(a: FloatArray, b: FloatArray) -> tuple[float, float]:
    """[begin, end) of the whole blocks that both samples cover. Raises MissingError."""
    if not (len(a) and len(b)):
        raise MissingError("one of the runs has no emissions in the record")
    begin = max(-(-float(x[0, 0]) // BLOCK_S) * BLOCK_S for x in (a, b))
    end = min(float(x[-1, 0]) // BLOCK_S * BLOCK_S for x in (a, b))
    if end <= begin:
        raise MissingError(
            f"the runs have no whole block of {BLOCK_S:g} simulated seconds in common yet. Ask "
            "again later"
        )
    return begin, end


def _blocks(samples: FloatArray, begin: float, end: float) -> FloatArray:
    """(blocks, 3): vehicle seconds, mg of fuel, mg of CO2 in each block."""
    at = samples[:, 0]
    edges = np.arange(begin, end + BLOCK_S / 2, BLOCK_S)
    lasted = np.diff(at)
    sums = np.vstack([np.zeros(3), np.cumsum(samples[:-1, 1:] * lasted[:, None], axis=0)])
    at_edges = np.stack([np.interp(edges, at, sums[:, k]) for k in range(3)], axis=1)
    found: FloatArray = np.diff(at_edges, axis=0)
    return found


def _saving(saved: FloatArray, yearly: float) -> Saving:
    n = len(saved)
    test = paired(np.zeros(n), saved, np.arange(n, dtype=np.float64) * BLOCK_S)
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
