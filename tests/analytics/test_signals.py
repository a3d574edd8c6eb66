"""Signal performance measures and paired statistics against figures worked out by hand and by SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from headway.analytics import highres, signals
from headway.analytics.comparison import paired
from headway.store import Intake, open_database

R, Y, P, G = 1, 2, 3, 4


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("record")
    database = open_database(folder)
    intake = Intake(database, folder)
    run = intake.begin_run("hand", "cologne1", "planner", 1)
    colours = [(0, R), (20, P), (25, G), (40, Y), (43, R), (60, G), (80, Y), (83, R), (100, G), (120, Y), (123, R), (140, R)]
    intake.write("signal_state", [(run, float(t), "J", 0, c) for t, c in colours])
    actuations = [(5, True), (22, False), (30, True), (31, False), (41, True), (42, False), (50, True), (90, False), (110, True), (111, False)]
    intake.write("detector_state", [(run, float(t), "J", 0, there) for t, there in actuations])
    intake.write("observation", [(run, float(t), "J", t, t // 10, float(t), 1.0) for t in range(0, 100, 5)])
    intake.write("crossing", [(run, "P", 0)])
    intake.write("signal_state", [(run, float(t), "P", 0, c) for t, c in [(0, R), (30, G), (40, R), (70, G)]])
    calls = [(10, True), (31, False), (35, True), (36, False), (50, True), (71, False), (80, True)]
    intake.write("detector_state", [(run, float(t), "P", 0, there) for t, there in calls])
    other = intake.begin_run("hand, fixed", "cologne1", "fixed", 1)
    intake.write("emission", [(run, float(t), 10, 7450.0, 23_100.0) for t in range(0, 101, 5)])
    intake.write("emission", [(other, float(t), 20, 14_900.0, 46_200.0) for t in range(0, 201, 5)])
    yield database, run
    database.close()


def test_greens_of_two_levels_are_one_green(record):
    split = signals.splits(*record)[0]
    assert (split.n, split.mean_green_s, split.longest_green_s) == (3, 20.0, 20.0)
    assert split.green_share == pytest.approx(60 / 140)


def test_arrivals_are_told_by_the_colour_that_met_them(record):
    found = signals.arrivals(*record)[0]
    assert (found.n, found.on_green, found.on_yellow, found.on_red) == (5, 2, 1, 2)
    assert found.green_share == pytest.approx(0.4)
    assert found.delay_s == pytest.approx((15 + 10) / 2)  # from 5 to 20, from 50 to 60
    assert found.health == "ok"
    assert (found.greens, found.failures) == (3, 1)  # occupied through the second green and on into its red


def test_what_ended_each_green(record):
    found = signals.terminations(*record, "J")[0]
    assert (found.n, found.gap_out, found.max_out, found.force_off, found.mean_split_s) == (3, 2, 0, 1, 23.0)
    assert signals.terminations(*record, "J", longest_green_s=20.0)[0].max_out == 3


def test_pedestrians_wait_from_their_call_to_the_walk(record):
    found = signals.pedestrian_delay(*record)[0]
    assert (found.n, found.mean_s, found.longest_s) == (4, (20 + 0 + 20 + 0) / 4, 20.0)
    assert [a.junction for a in signals.arrivals(*record)] == ["J"]


def test_what_a_run_burnt_and_saved_over_the_time_that_both_ran(record):
    database, run = record
    found = signals.impact(database, run, run + 1, fuel_price_per_l=2.0)
    assert (found.n, found.run.hours, found.run.vehicle_h) == (21, 100 / 3600, 1000 / 3600)
    assert found.run.fuel_l == pytest.approx(1.0)
    assert found.run.co2_kg == pytest.approx(2.31)
    assert (found.fuel_saved_l, found.money_saved) == (pytest.approx(1.0), pytest.approx(2.0))
    alone = signals.impact(database, run)
    assert (alone.baseline, alone.n, alone.fuel_saved_l) == (None, 0, None)


def test_the_coordination_diagram_counts_from_the_red_before(record):
    found = signals.coordination(*record, "J", 0)
    assert found.at_s == [5, 30, 41, 50, 110]
    assert found.into_cycle_s == [5, 30, 41, 7, 27]
    assert found.green_s[:2] == [20, 17]


def test_queues_and_event_codes(record):
    queue = signals.queues(*record)[0]
    assert (queue.n, queue.longest_veh, queue.longest_wait_s) == (20, 9, 95.0)
    log = highres.high_resolution(*record)
    assert [(r["at_s"], r["event"]) for r in log if r["device"] == "J"][:5] == [(0, 10), (5, 82), (20, 1), (22, 81), (30, 82)]
    assert all(r["parameter"] == 1 for r in log if r["device"] == "J" and r["event"] < 300)
    assert [(r["at_s"], r["event"], r["parameter"]) for r in log if 4 <= r["event"] <= 6 or r["event"] >= 300] == [
        (40, 4, 1), (40, 300, 23), (80, 6, 1), (80, 300, 23), (120, 4, 1), (120, 300, 23),
    ]  # fmt: skip
    assert [(r["at_s"], r["event"]) for r in log if r["device"] == "P"] == [
        (0, 23),
        (10, 45),
        (30, 21),
        (35, 45),
        (40, 23),
        (50, 45),
        (70, 21),
        (80, 45),
    ]
    assert log[2]["timestamp"].second == 5


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-20, 20)), min_size=6, max_size=60))
def test_paired_statistics_agree_with_scipy(pairs):
    a = np.array([x for x, _ in pairs])
    b = a + np.array([y for _, y in pairs])
    found = paired(a, b)
    d = b - a
    assert found.mean_difference == pytest.approx(d.mean(), abs=1e-9)
    low, high = found.interval_95
    assert low <= high
    if (d != 0).any():
        assert found.p == pytest.approx(stats.wilcoxon(d[d != 0]).pvalue)
        assert -1.0 <= found.effect_size <= 1.0
        back = paired(b, a)
        assert back.effect_size == pytest.approx(-found.effect_size)
    else:
        assert (found.p, found.effect_size) == (1.0, 0.0)


def test_too_few_pairs_claim_nothing():
    one = paired(np.array([3.0]), np.array([2.0]))
    assert (one.n, one.p, one.interval_95, one.effect_size) == (1, None, None, None)
    with pytest.raises(ValueError, match="pairs"):
        paired(np.array([1.0]), np.array([]))
