"""Who decides on each street is watched, and alert rules are checked on what is found."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import sqlalchemy as sa

from headway.analytics import MissingError
from headway.analytics.calibration import reliability
from headway.analytics.model_monitoring import Latency, Monitoring, Quality
from headway.service import model_watch
from headway.service.alert_desk import AlertDesk
from headway.service.model_watch import ANSWER_WITHIN_S, ModelWatch
from headway.service.selfwatch import SelfWatch
from headway.settings import AlertSettings, DatabaseSettings, ModelWatchSettings
from headway.store import Database
from headway.street.alerts import MACHINE_FIGURES
from headway.telemetry import metrics


def found(street, completeness=1.0, freshness_s=3.0, age_s=0.0):
    nothing = reliability(np.zeros(0), np.zeros(0, bool), np.zeros(0, np.int64))
    return Monitoring(
        run=1,
        street=street,
        scenario="cologne1",
        controller="planner",
        begin_s=0.0,
        end_s=60.0,
        pieces=0,
        profile=False,
        checks=(),
        outcomes=(),
        calibration=nothing,
        calibration_of={f"J of {street}": nothing},
        quality=(Quality(f"J of {street}", completeness, freshness_s, ()),),
        latency=Latency(0, None, None, None),
        looked_at=datetime.now(UTC) - timedelta(seconds=age_s),
    )


def street(name, **more):
    usual = {"finished": False, "fault": "", "status": "running", "stop": None, "snapshot": None}
    return SimpleNamespace(name=name, **usual | {"is_missed": False} | more)


class Watch:
    """What is found of each street: `answers`; an error is raised."""

    def __init__(self, monkeypatch, *streets, every_s=300.0):
        self.streets = {s.name: s for s in streets}
        self.answers = {s.name: found(s.name) for s in streets}
        self.asked = []
        service = SimpleNamespace(streets=self.streets)
        monkeypatch.setattr(model_watch, "monitor", self.monitor)
        database = Database(None, "", pool_settings=DatabaseSettings(answer_within_s=60.0))
        self.watch = ModelWatch(database, lambda: service, ModelWatchSettings(every_s=every_s))

    def monitor(self, database, name, window_s):
        self.asked.append((name, database.pool_settings.answer_within_s, window_s))
        if isinstance(self.answers[name], Exception):
            raise self.answers[name]
        return self.answers[name]


def test_streets_that_run_are_looked_at_with_little_time_for_each_question(monkeypatch):
    told = Watch(
        monkeypatch,
        street("a"), street("over", finished=True), street("broken", fault="x"),
        street("stopped", stop=object()),
    )  # fmt: skip
    told.watch.look()
    assert told.asked == [("a", ANSWER_WITHIN_S, 6 * 3600.0)]
    assert list(told.watch.figures()) == ["a"]
    told.streets["a"].stop = object()
    assert told.watch.figures() == {}


def test_one_street_that_cannot_be_looked_at_keeps_none_from_it(monkeypatch):
    """What was found of it last still counts: an alert on it must not pass, and open anew, because
    the database was slow. Its data grow older meanwhile, so that the alert on that opens.
    """
    told = Watch(monkeypatch, street("a"), street("b"), street("c"), street("d"))
    told.answers["b"] = found("b", completeness=0.5, age_s=700.0)
    told.watch.look()
    told.answers |= {
        "a": MissingError("nothing"),
        "b": sa.exc.OperationalError("", None, Exception()),
        "d": ZeroDivisionError(),
    }
    told.watch.look()
    assert sorted(told.watch.newest) == ["b", "c", "d"]
    figures = told.watch.figures()
    assert figures["b"]["completeness"] == 0.5
    assert 403.0 <= figures["b"]["freshness_s"] < 700.0
    assert 3.0 <= figures["c"]["freshness_s"] < 300.0


def test_data_are_not_stale_because_the_next_look_is_minutes_away(monkeypatch):
    """A street that was in order had an alert every five minutes, just before each look."""
    told = Watch(monkeypatch, street("a"))
    told.answers["a"] = found("a", freshness_s=3.0, age_s=301.0)
    told.watch.look()
    assert 3.0 <= told.watch.figures()["a"]["freshness_s"] < 200.0


def test_a_junction_is_found_in_the_street_that_has_it(monkeypatch):
    told = Watch(monkeypatch, street("a"), street("b"))
    told.watch.look()
    assert told.watch.of_junction("J of b").street == "b"
    assert told.watch.of_junction("J of b", "b").street == "b"
    with pytest.raises(MissingError, match="junction 'J of b' of street 'a'"):
        told.watch.of_junction("J of b", "a")
    with pytest.raises(MissingError, match="looked at every 300 s"):
        told.watch.of_junction("J9")


def test_nothing_is_stale_while_time_stands_by_order(monkeypatch):
    paused = SimpleNamespace(paused_by="ann")
    told = Watch(monkeypatch, street("a", snapshot=paused), street("b"))
    told.watch.look()
    figures = told.watch.figures()
    assert figures["a"]["freshness_s"] is None
    assert 3.0 <= figures["b"]["freshness_s"] < 300.0


def test_without_a_period_nobody_looks(monkeypatch):
    told = Watch(monkeypatch, street("a"), every_s=0.0)
    told.watch.begin()
    told.watch.close()
    assert told.asked == []
    with pytest.raises(MissingError, match=r"never: model_watch.every_s is 0"):
        told.watch.of_junction("J of a")


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        ("inputs drift", {"drifting": 1.0}, {"drifting": 0.0}),
        ("outcome drifts", {"outcome_drift": 1.0}, {"outcome_drift": 0.0}),
        ("confidence not calibrated", {"calibration_error": 0.3}, {"calibration_error": 0.1}),
        ("data incomplete", {"completeness": 0.8}, {"completeness": 1.0}),
        ("data stale", {"freshness_s": 400.0}, {"freshness_s": 5.0}),
        ("silent detectors", {"silent_lanes": 2.0}, {"silent_lanes": 0.0}),
        ("slow decisions", {"decide_p99_ms": 150.0}, {"decide_p99_ms": 5.0}),
    ],
)  # fmt: skip
def test_each_rule_that_comes_with_headway_opens_and_closes(rule, bad, good):
    """Also where a figure is not known: that opens nothing, and what was open has passed: nobody
    could ever close an alert of a figure that has no reference any more.
    """
    now, told = [0.0], []
    machine = dict.fromkeys(MACHINE_FIGURES, 0.0)
    calm = {"machine": machine, "database": {"alive": 1.0}, "errors_per_minute": 0.0}
    desk = AlertDesk(AlertSettings(), lambda *event: told.append(event), clock=lambda: now[0])

    def check(figures):
        for _ in range(4):
            now[0] += 200.0
            desk.check(calm | {"models": {"a": figures}})
        return [alert["rule"] for alert in desk.open_alerts()]

    unknown = dict.fromkeys(bad)
    assert [check(good), check(bad), check(good), check(unknown)] == [[], [rule], [], []]
    assert [check(bad), check(unknown)] == [[rule], []]


def test_one_look_that_finds_no_drift_ends_no_alert():
    """A drift at the edge of what is one: two looks in three find it. Told once, not each time."""
    now, told = [0.0], []
    desk = AlertDesk(AlertSettings(), lambda *event: told.append(event[2]), clock=lambda: now[0])
    machine = dict.fromkeys(MACHINE_FIGURES, 0.0)
    calm = {"machine": machine, "database": {"alive": 1.0}, "errors_per_minute": 0.0}
    for look in [1.0, 1.0, 0.0] * 8 + [0.0] * 2:
        for _ in range(30):
            now[0] += 10.0
            desk.check(calm | {"models": {"a": {"drifting": look, "outcome_drift": look}}})
    kinds = [(event["kind"], event["data"]["rule"]) for event in told[::2]]  # to two streams each
    assert sorted(kinds) == [
        ("alert.closed", "inputs drift"), ("alert.closed", "outcome drifts"),
        ("alert.opened", "inputs drift"), ("alert.opened", "outcome drifts"),
    ]  # fmt: skip


class Alive(Database):
    def alive(self):
        return True


def test_the_program_sees_what_was_found_with_its_own_figures(monkeypatch, tmp_path):
    """Rules are checked on it, `GET monitoring/system` shows it, and so does Prometheus."""
    seen = street("seen", engine=SimpleNamespace(pid=None, is_restarting=False))
    told = Watch(monkeypatch, seen)
    told.answers["seen"] = found("seen", freshness_s=400.0)
    watch = SelfWatch(
        tmp_path,
        Alive(None, ""),
        SimpleNamespace(spool=SimpleNamespace(waiting=0)),
        lambda: SimpleNamespace(streets=told.streets),
        AlertSettings(),
        lambda *event: None,
    )
    assert watch.look()["models"] == {}
    watch.models.look()
    assert 400.0 <= watch.look()["models"]["seen"]["freshness_s"] < 700.0
    shown = watch.figures()
    assert shown["models"]["seen"]["completeness"] == 1.0
    assert ("data stale", "models.seen.freshness_s") in [
        (a["rule"], a["path"]) for a in shown["open"]
    ]
    labels = {"street": "seen", "figure": "completeness"}
    assert metrics.registry.get_sample_value("headway_model", labels) == 1.0
    unknown = metrics.registry.get_sample_value("headway_model", labels | {"figure": "drifting"})
    assert math.isnan(unknown)
