"""Drift, calibration, data and latency of a street, from a record made by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from bench.inference import autoregression

from headway.analytics import MissingError, model_monitoring
from headway.analytics.model_monitoring import BIN_S, DAY_S, monitor
from headway.store import Intake, open_database
from headway.street.alerts import MODEL_FIGURES

near = pytest.approx
MINUTES = 240
JUNCTIONS = ("J1", "J2")


class Record:
    """Writes runs: a row each minute of each junction."""

    def __init__(self, folder, url):
        self.database = open_database(folder, url)
        self.intake = Intake(self.database, folder)
        self.keys = {}  # of each run: its street, and how many of that there were before

    def run(self, street, controller="planner", scenario="cologne1"):
        key = (street, sum(name == street for name, _ in self.keys.values()))
        run = self.intake.begin_run(f"{key}", scenario, controller, 1, street, 1.0)
        self.keys[run] = key
        return run

    def observe(
        self, run, begin_s=0.0, minutes=MINUTES, mean=40.0, missing=(), age_s=0.0, more=None,
        confidence=0.9, performance=1.0,
    ):  # fmt: skip
        """vehicles are `mean` (a function of the minute, or a figure) and noise; the others follow.
        more: by junction and column, added. missing: minutes. age_s: of the newest row.
        """
        rows, now = [], datetime.now(UTC)
        street, number = self.keys[run]
        for name in JUNCTIONS:
            noise = autoregression(
                np.random.default_rng([*f"{street} {name}".encode(), number, int(begin_s)]),
                0.5,
                (4, minutes),
            )
            for k in range(minutes):
                if k in missing:
                    continue
                usual = mean(k) if callable(mean) else mean
                figures = dict(
                    zip(("vehicles", "halted", "wait_s", "flow"), noise[:, k], strict=True)
                )
                for column, by in (more or {}).get(name, {}).items():
                    figures[column] += by
                at = now - timedelta(seconds=age_s + BIN_S * (minutes - 1 - k))
                true = performance(k) if callable(performance) else performance
                rows.append(
                    (
                        run,
                        begin_s + BIN_S * k,
                        name,
                        round(usual + 10 * figures["vehicles"]),
                        round(100 + 10 * figures["halted"]),
                        99.0,
                        confidence(k) if callable(confidence) else confidence,
                        at.isoformat(),
                        20 + figures["wait_s"],
                        36.0,
                        2,
                        1 + 0.1 * figures["flow"],
                        true,
                    )
                )
        self.intake.write("observation", rows)
        return run

    def greens(self, run, groups, begin_s=0.0):
        """The junction J1 serves these groups one after the other, 10 s each."""
        rows = []
        for k, group in enumerate(groups):
            rows += [
                (run, begin_s + 10 * k, "J1", group, 4), (run, begin_s + 10 * k + 8, "J1", group, 1)
            ]  # fmt: skip
        self.intake.write("signal_state", rows)


@pytest.fixture(scope="module")
def record(new_record, tmp_path_factory):
    found = Record(tmp_path_factory.mktemp("record"), new_record())
    yield found
    found.database.close()


def drifting(found):
    return [(c.junction, c.figure) for c in found.checks if c.drift.drifts]


def test_a_first_run_has_no_reference_and_says_so(record):
    record.observe(record.run("first"))
    found = monitor(record.database, "first")
    assert (found.pieces, drifting(found)) == (0, [])
    assert found.why.startswith("neither an earlier day of run ")
    assert found.figures()["drifting"] is None
    with pytest.raises(MissingError, match="nothing of street 'unknown'"):
        monitor(record.database, "unknown")
    record.run("not observed")
    with pytest.raises(MissingError, match="nothing of street 'not observed'"):
        monitor(record.database, "not observed")


def test_the_newest_run_is_compared_with_earlier_ones_of_its_scenario_and_controller(record):
    """Half as many vehicles again at J2: that, and nothing else, drifts."""
    for _ in range(5):
        record.observe(record.run("street"))
    record.observe(record.run("street", controller="fixed"), mean=400.0)
    record.observe(record.run("street", scenario="cologne8"), mean=400.0)
    record.observe(record.run("elsewhere"), mean=400.0)
    same = record.run("street")
    record.observe(same)
    calm = monitor(record.database, "street")
    assert (calm.run, calm.pieces, calm.why, drifting(calm)) == (same, 5, "", [])
    assert [o.drift.drifts for o in calm.outcomes] == [False, False]
    record.observe(record.run("street"), more={"J2": {"vehicles": 2.0}})
    found = monitor(record.database, "street")
    assert drifting(found) == [("J2", "vehicles")]
    assert (found.pieces, found.profile, found.begin_s, found.end_s) == (6, True, 0.0, 14_400.0)
    (check,) = [c for c in found.checks if c.drift.drifts]
    assert (check.mean, check.reference_mean) == (near(60.0, abs=2.5), near(40.0, abs=1.5))
    assert found.figures()["drifting"] == 1.0
    assert found.figures()["drift_share"] == near(1 / 8)


def test_what_each_day_has_at_this_time_is_no_drift_and_what_it_has_not_is(record):
    """The traffic of a morning that grows by ten standard deviations; earlier days of one run. In
    the afternoon before it is what it is on no morning.
    """
    run = record.run("days")
    morning = 7 * 3600.0
    for day in range(6):
        begin_s = day * DAY_S + morning
        record.observe(run, begin_s, mean=lambda k: 40 + 100 * k / MINUTES)
        record.observe(run, begin_s + 8 * 3600.0, mean=400.0)
    record.observe(run, 6 * DAY_S + morning, mean=lambda k: 40 + 100 * k / MINUTES)
    found = monitor(record.database, "days", MINUTES * BIN_S)
    assert (found.pieces, found.profile, drifting(found)) == (6, True, [])
    vehicles = next(c.drift for c in found.checks if (c.junction, c.figure) == ("J1", "vehicles"))
    assert (vehicles.why, vehicles.test, vehicles.n_reference) == ("", "wasserstein", 5 * MINUTES)
    record.observe(run, 7 * DAY_S + morning, mean=lambda k: 140 - 100 * k / MINUTES)
    turned = monitor(record.database, "days", MINUTES * BIN_S)
    assert drifting(turned) == [("J1", "vehicles"), ("J2", "vehicles")]


def test_what_is_always_the_same_is_no_drift_by_its_last_digit():
    """0.1 less the mean of fourteen times 0.1 is not nought, that of fifteen times is."""
    slot, piece = np.tile(np.arange(60) // 15, 5), np.repeat(np.arange(5), 60)
    always = np.full(300, 0.1)
    kept = np.arange(300) % 59 != 58
    reference = model_monitoring._Series(always[kept], slot[kept], piece[kept])
    current = model_monitoring._Series(always[:60], slot[:60], np.zeros(60, np.int64))
    then, now, _ = model_monitoring._without_usual(reference, current, profile=True)
    assert (set(then.tolist()), set(now.tolist())) == ({0.0}, {0.0})


def test_waits_that_grow_are_a_drift_of_the_outcome(record):
    for _ in range(3):
        record.observe(record.run("slower"))
    record.observe(record.run("slower"), more={n: {"wait_s": 2.0} for n in JUNCTIONS})
    found = monitor(record.database, "slower")
    assert {o.figure: o.drift.drifts for o in found.outcomes} == {
        "wait_s": True, "performance": False
    }  # fmt: skip
    wait = found.outcomes[0].drift
    assert (wait.before, found.figures()["outcome_drift"]) == (near(20.0, abs=0.3), 1.0)


def test_which_groups_get_green_is_compared_too(record):
    for groups in ([1, 2, 3, 4] * 60, [1, 2, 3, 4] * 60, [1, 2, 1, 2] * 60):
        run = record.observe(record.run("signals"))
        record.greens(run, groups)
    found = monitor(record.database, "signals")
    assert drifting(found) == [("J1", "green")]
    check = found.checks[-1].drift
    assert (check.test, check.n_reference, check.n_current) == ("chi-squared", 480, 240)


def test_what_a_confidence_said_is_held_against_what_came_ten_minutes_later(record):
    """0.9, but for the first hour 0.5: what was predicted comes true but for ten minutes to an hour
    and ten. So all of 0.9 come true, and none of 0.5.
    """
    record.observe(
        record.run("calibrated"),
        confidence=lambda k: 0.5 if k < 60 else 0.9,
        performance=lambda k: 0.7 if 10 <= k < 70 else 1.0,
    )
    found = monitor(record.database, "calibrated").calibration
    assert found.n == 2 * (MINUTES - 10)
    assert [(b.low, b.n, b.true) for b in found.bins if b.n] == [(0.5, 120, 0.0), (0.9, 340, 1.0)]
    assert found.error == near((120 * 0.5 + 340 * 0.1) / 460)
    assert found.interval_95 is not None
    figures = monitor(record.database, "calibrated").figures()
    assert figures["calibration_error"] == found.error
    assert figures["confidence_excess"] == near((120 * 0.5 + 340 * 0.9 - 340) / 460)


def test_short_runs_are_held_against_what_came_together(record):
    """Of 30 minutes, 20 have an outcome: one run has two blocks, and five have ten."""
    for _ in range(5):
        record.observe(record.run("short"), minutes=30)
    found = monitor(record.database, "short")
    assert (found.calibration.n, found.calibration.blocks) == (2 * 5 * 20, 10)
    assert found.calibration.interval_95 is not None
    recent = monitor(record.database, "short", 3600.0)
    assert (recent.calibration.n, recent.calibration.blocks) == (2 * 2 * 20, 4)


def test_a_controller_that_predicts_nothing_has_no_calibration(record):
    record.observe(record.run("silent"), performance=None)
    found = monitor(record.database, "silent")
    assert (found.calibration.n, found.figures()["calibration_error"]) == (0, None)
    assert "nothing was predicted" in found.calibration.why


def test_rows_that_are_missing_old_or_of_silent_lanes_are_told_by_junction(record):
    run = record.run("gaps")
    record.observe(run, missing=range(24, 48), age_s=500.0)
    events = [
        (run, 1, 5.0, "traffic.silent", "J2", {"lane": "in_0", "silent_s": 400.0}),
        (run, 2, 6.0, "traffic.silent", "J2", {"lane": "in_1", "silent_s": 400.0}),
        (run, 3, 7.0, "traffic.silent_ended", "J2", {"lane": "in_0", "silent_s": 400.0}),
    ]
    record.intake.write("event", [(*e[:5], json.dumps(e[5])) for e in events])
    found = monitor(record.database, "gaps")
    first, second = found.quality
    assert (first.junction, first.completeness, first.silent_lanes) == ("J1", near(0.9), ())
    assert (second.junction, second.silent_lanes) == ("J2", ("in_1",))
    assert 500.0 <= first.freshness_s < 800.0
    figures = found.figures()
    assert (figures["completeness"], figures["silent_lanes"]) == (near(0.9), 1.0)
    assert figures["freshness_s"] >= 500.0


def test_data_are_not_fresh_because_the_clock_was_ahead_before(record):
    """It was set back by an hour: rows of before are of a time to come, those since are old."""
    run = record.run("clock")
    record.observe(run, minutes=30, age_s=-3600.0)
    record.observe(run, begin_s=1800.0, minutes=30, age_s=500.0)
    assert 500.0 <= monitor(record.database, "clock").figures()["freshness_s"] < 800.0


def test_how_long_decisions_take_is_told_by_quantiles(record):
    """1 to 100 ms: half below 50.5; and of the cycles one in four failed."""
    run = record.observe(record.run("latency"))
    cycles = [{"decide_ms": k, "processing_ms": 2 * k, "ok": k % 4 > 0} for k in range(1, 101)]
    record.intake.write(
        "event",
        [(run, k, 30.0 * k, "engine.cycle", "", json.dumps(c)) for k, c in enumerate(cycles)],
    )
    found = monitor(record.database, "latency").latency
    assert (found.n, found.succeeded) == (100, 0.75)
    decide = found.decide_ms
    assert (decide.p50, decide.p95, decide.p99, decide.largest) == (
        near(50.5), near(95.05), near(99.01), 100.0,
    )  # fmt: skip
    assert found.processing_ms.p50 == near(101.0)


def test_one_junction_alone(record):
    record.observe(record.run("one"))
    record.observe(record.run("one"), more={"J2": {"vehicles": 3.0}})
    found = monitor(record.database, "one")
    of_one = found.of_junction("J2")
    assert {c.junction for c in of_one.checks} == {"J2"}
    assert [q.junction for q in of_one.quality] == ["J2"]
    assert list(of_one.calibration_of) == ["J2"]
    assert of_one.figures()["drifting"] == 1.0
    assert found.of_junction("J1").figures()["drifting"] == 0.0
    with pytest.raises(MissingError, match="junction 'J9' of 'one'"):
        found.of_junction("J9")


def test_rules_may_name_each_figure(record):
    record.observe(record.run("figures"))
    assert tuple(monitor(record.database, "figures").figures()) == MODEL_FIGURES


def test_runs_that_failed_soon_do_not_take_the_place_of_the_reference(record):
    """Five runs, then twenty starts of three minutes, which say nothing of the hours after."""
    for _ in range(5):
        record.observe(record.run("failing"))
    for _ in range(20):
        record.observe(record.run("failing"), minutes=3)
    record.observe(record.run("failing"), more={"J2": {"vehicles": 4.0}})
    found = monitor(record.database, "failing")
    assert (found.pieces, found.why) == (5, "")
    assert drifting(found) == [("J2", "vehicles")]


def test_no_more_is_read_than_the_window_and_its_reference(record, monkeypatch):
    """At most fourteen pieces, of as many runs or days as there are."""
    monkeypatch.setattr(model_monitoring, "PIECES", 3)
    for _ in range(6):
        record.observe(record.run("many"), minutes=30)
    asked, rows = [], record.database.rows
    monkeypatch.setattr(
        type(record.database),
        "rows",
        lambda _self, query, **v: asked.append(query) or rows(query, **v),
    )
    assert monitor(record.database, "many").pieces == 3
    assert asked.count(model_monitoring.BINS) == 4
