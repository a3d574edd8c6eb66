"""What a run saved beside a baseline, each figure by hand."""

from __future__ import annotations

import numpy as np
import pytest

from headway.analytics import MissingError
from headway.analytics.business import Blocks, _blocks, business, savings
from headway.analytics.comparison import paired
from headway.settings import BusinessSettings
from headway.store import Intake, open_database

near = pytest.approx
PLAIN = BusinessSettings(
    fuel_price_per_l=2.0,
    co2_price_per_t=100.0,
    time_value_per_h=10.0,
    occupancy=1.5,
    hours_a_day=2.0,
    investment=30_000.0,
    running_cost_per_year=1_000.0,
)


def samples(rates):
    """A look every 10 s; the rates of each block of 60 s: vehicles, litres and kg CO2 a block."""
    rows, at = [], 0.0
    for vehicles, litres, kg in rates:
        for _ in range(6):
            rows.append((at, vehicles, litres * 745_000 / 60, kg * 1e6 / 60))
            at += 10.0
    return np.array([*rows, (at, 0, 0, 0)], np.float64)


def blocks(looks):
    """Second by second: what was looked at last, of blocks with a look of their own."""
    at, numbers, sums = looks[:, 0], [], []
    for k in range(int(at[0] // 60), int(at[-1] // 60)):
        seconds = np.arange(60 * k, 60 * (k + 1))
        if at[0] <= seconds[0] and np.isin(seconds, at).any():
            numbers.append(k)
            sums.append(looks[np.searchsorted(at, seconds, "right") - 1, 1:].sum(axis=0))
    return Blocks(np.array(numbers, np.int64), np.array(sums).reshape(-1, 3))


LOOKS, LOOKS_OF_RUN = samples([(24, 3.0, 4.0)] * 60), samples([(12, 2.0, 1.5)] * 60)
BASELINE, RUN = blocks(LOOKS), blocks(LOOKS_OF_RUN)


def test_an_hour_by_hand():
    """Each block saves 12 vehicles x 60 s = 0.2 h, 1 l and 2.5 kg; there are 60."""
    found = savings(RUN, BASELINE, PLAIN)
    assert (found.hours, found.blocks) == (1.0, 60)
    assert found.fuel_l.total == near(60.0)
    assert found.co2_kg.total == near(150.0)
    assert found.time_h.total == near(12.0)
    assert found.fuel_money.total == near(120.0)  # 60 l at 2
    assert found.co2_money.total == near(15.0)  # 0.15 t at 100
    assert found.time_money.total == near(180.0)  # 12 h of 1.5 persons at 10
    assert found.money.total == near(315.0)
    assert found.money.per_year == near(315.0 * 730)  # two hours a day
    assert found.fuel_l.interval_95 == (near(60.0), near(60.0))  # each block the same
    assert (found.money.p, found.money.why) == (0.0, "")


def test_the_return_by_hand():
    """A year saves 229,950 less 1,000: of 30,000 more than seven times; earned in 0.13 years."""
    found = savings(RUN, BASELINE, PLAIN).returns
    assert found.net_per_year == near(228_950.0)
    assert found.percent_per_year == near(763.1667, rel=1e-5)
    assert found.payback_years == near(0.131033, rel=1e-5)
    assert found.payback_years_95 == (near(0.131033, rel=1e-5), near(0.131033, rel=1e-5))


def test_what_costs_more_than_it_saves_never_pays_back():
    worse = savings(BASELINE, RUN, PLAIN)
    assert (worse.money.total, worse.fuel_l.total) == (near(-315.0), near(-60.0))
    assert worse.returns.payback_years is None
    assert worse.returns.percent_per_year == near(100 * (-229_950 - 1_000) / 30_000)
    free = savings(RUN, BASELINE, PLAIN.model_copy(update={"investment": 0.0})).returns
    assert (free.percent_per_year, free.payback_years, free.payback_years_95) == (None, None, None)
    assert free.net_per_year == near(228_950.0)


def test_intervals_are_of_the_blocks_and_those_of_money_of_their_sum():
    """What a block saves of one goes with what it saves of the others: the interval of the sum is
    not the sum of the intervals.
    """
    random = np.random.default_rng(1)
    noise = random.normal(size=24)
    rates = [(24 + 6 * e, 3.0 + e, 4.0 - 10 * e) for e in noise]
    found = savings(blocks(samples([(12, 2.0, 1.5)] * 24)), blocks(samples(rates)), PLAIN)
    litres = 1.0 + noise
    money = litres * 2.0 + (2.5 - 10 * noise) * 0.1 + (12 + 6 * noise) / 60 * 15.0
    for saving, saved in ((found.fuel_l, litres), (found.money, money)):
        test = paired(np.zeros(24), saved, 60.0 * np.arange(24))
        assert saving.total == near(saved.sum())
        assert saving.interval_95 == tuple(near(24 * v) for v in test.interval_95)
        assert saving.p == near(test.p)
        assert saving.per_year_95 == tuple(near(24 * v * 730 / 0.4) for v in test.interval_95)
    low, high = found.money.per_year_95
    assert found.returns.payback_years_95 == (
        near(30_000 / (high - 1_000)), near(30_000 / (low - 1_000))
    )  # fmt: skip


def test_a_payback_that_may_never_come_has_an_open_interval():
    random = np.random.default_rng(2)
    rates = [(12, 2.0 + 0.2 + e, 1.5) for e in random.normal(size=24)]
    found = savings(blocks(samples([(12, 2.0, 1.5)] * 24)), blocks(samples(rates)), PLAIN).returns
    low, high = found.payback_years_95
    assert (low > 0.0, high) == (True, None)


def test_whole_blocks_of_both_alone_count():
    """The run was looked at from second 100 on: its first block is not whole."""
    late = savings(blocks(LOOKS_OF_RUN[10:]), BASELINE, PLAIN)
    assert (late.blocks, late.hours, late.fuel_l.total) == (58, near(58 / 60), near(58.0))


def test_of_an_hour_that_was_not_looked_at_nothing_is_known():
    """The first look of each hour of three holds until the next one in the record: what it found
    would count for the hour. One of the runs has no looks from the second hour's begin on.
    """
    rates = [(12, 2.0, 1.5)] * 60 + [(24, 3.0, 4.0)] * 60 + [(12, 2.0, 1.5)] * 60
    looks = samples(rates)
    gap = (looks[:, 0] >= 3600) & (looks[:, 0] < 7200)
    found = savings(blocks(looks[~gap]), blocks(samples([(24, 3.0, 4.0)] * 180)), PLAIN)
    assert (found.blocks, found.hours, found.fuel_l.total) == (120, 2.0, near(120.0))


def test_too_few_blocks_have_no_interval_and_say_why():
    few = savings(blocks(LOOKS_OF_RUN[:19]), BASELINE, PLAIN)
    assert (few.blocks, few.money.interval_95, few.money.per_year_95) == (3, None, None)
    assert "3 different times are too few" in few.money.why
    assert few.returns.payback_years_95 is None


def test_nothing_in_common_is_refused():
    nothing = Blocks(np.zeros(0, np.int64), np.zeros((0, 3)))
    for run in (blocks(LOOKS_OF_RUN[:4]), nothing):
        with pytest.raises(MissingError, match="no whole block"):
            savings(run, BASELINE, PLAIN)


def test_the_interval_is_about_that_of_a_bootstrap():
    """A second way, where blocks are independent: total of as many blocks, drawn anew."""
    random = np.random.default_rng(5)
    rates = [(24, 3.0 + e, 4.0) for e in random.normal(size=48)]
    found = savings(blocks(samples([(12, 2.0, 1.5)] * 48)), blocks(samples(rates)), PLAIN)
    litres = np.array([rate[1] - 2.0 for rate in rates])
    drawn = random.choice(litres, (4000, 48)).sum(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    assert found.fuel_l.interval_95[1] - found.fuel_l.interval_95[0] == near(high - low, rel=0.25)
    assert sum(found.fuel_l.interval_95) / 2 == near(litres.sum())


def test_two_runs_of_the_record(new_record, tmp_path):
    """The same hour from the database, and looks at odd times with a gap of 22 minutes; runs over
    another demand, and a run beside itself, are refused.
    """
    database = open_database(tmp_path, new_record())
    intake = Intake(database, tmp_path)
    numbers = [
        intake.begin_run(f"{name} {seed}", "cologne1", name, seed, name, 1.0)
        for name, seed in (("fixed", 1), ("planner", 1), ("planner", 2))
    ]
    random, day = np.random.default_rng(6), np.arange(600.0, 6000.0)
    odd = random.choice(day[(day < 2000) | (day > 3300)], 89, replace=False)
    odd = np.sort([*odd, 3300.0])  # until then the one before the gap holds: a whole block
    odd = np.column_stack([odd, *random.integers(1, 1000, (3, 90))]).astype(np.float64)
    for number, rows in zip(numbers, (LOOKS, LOOKS_OF_RUN, odd), strict=True):
        intake.write("emission", [(number, t, int(v), f, c) for t, v, f, c in rows.tolist()])
    found = business(database, numbers[1], numbers[0], PLAIN)
    assert (found.run, found.baseline) == (numbers[1], numbers[0])
    assert found.money.total == near(315.0)
    known, expected = _blocks(database, numbers[2]), blocks(odd)
    assert known.number.tolist() == expected.number.tolist()
    assert len(expected.number) < 5400 / 60 - 2  # first, last and the gap are not known
    assert known.sums == near(expected.sums)
    with pytest.raises(MissingError, match="the baseline itself"):
        business(database, numbers[0], numbers[0], PLAIN)
    with pytest.raises(MissingError, match="cannot be said"):
        business(database, numbers[2], numbers[0], PLAIN)
    with pytest.raises(MissingError, match="no run 99"):
        business(database, 99, numbers[0], PLAIN)
    database.close()
