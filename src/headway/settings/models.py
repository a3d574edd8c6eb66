"""The sections on models: how they are watched, and what their savings are worth."""

from __future__ import annotations

from typing import Annotated, Any

from headway.settings.base import Section, figure, zero_or_from


class ModelWatchSettings(Section):
    """Drift, data and confidence of each street. every_s: between two looks, 0 for none.
    window_h: newest hours that are compared with the same time of day before, simulated.
    """

    every_s: Annotated[float, zero_or_from(1.0, "none")] = figure(300.0, 0.0, 86_400.0)
    window_h: float = figure(6.0, 0.5, 24.0)


def _money(default: float) -> Any:
    return figure(default, 0.0, 1e12)


class BusinessSettings(Section):
    """What savings are worth, all in one currency; where the defaults are from, in EUR, stands in
    docs/monitoring.md.

    time_value_per_h: of an hour of one person; occupancy: persons in a vehicle. hours_a_day: how
    many hours of each day are like those compared. investment: what was paid once;
    running_cost_per_year: what is paid each year.
    """

    fuel_price_per_l: float = _money(1.70)
    co2_price_per_t: float = _money(140.0)
    time_value_per_h: float = _money(15.6)
    occupancy: float = figure(1.67, 1.0, 100.0)
    hours_a_day: float = figure(2.0, 0.0, 24.0)
    investment: float = _money(0.0)
    running_cost_per_year: float = _money(0.0)
