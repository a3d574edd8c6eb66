"""Alerts on the program and its streets: each is told once when it opens, once when it passed."""

from __future__ import annotations

import logging
import math

import pytest

from headway.service.alert_desk import SYSTEM, AlertDesk, ErrorCount
from headway.service.selfwatch import Rate
from headway.settings import AlertSettings
from headway.street.alerts import system_rules


def settings(*rules, notify_from="warning"):
    return AlertSettings.model_validate({"system": rules, "notify_from": notify_from})


def rule(path="machine.cpu_share", threshold=0.9, **more):
    return {"name": "r", "path": path, "threshold": threshold} | more


class Told:
    """What was published and notified, and the time."""

    def __init__(self, alerts):
        self.now, self.published, self.notes = 0.0, [], []
        self.desk = AlertDesk(
            alerts,
            lambda topic, street, event: self.published.append((topic, street, event["kind"])),
            lambda kind, number, body, critical, about: self.notes.append(
                (kind, number, body, critical, about)
            ),
            lambda: self.now,
        )

    def kinds(self):
        return [(note[0], note[4]) for note in self.notes]


def state(cpu=0.5, **streets):
    return {"machine": {"cpu_share": cpu}, "processes": {}, "streets": streets}


def test_it_opens_once_and_passes_once_with_one_id():
    told = Told(settings(rule()))
    for cpu in (0.5, 0.95, 0.96, 0.97, 0.5, 0.5):
        told.desk.check(state(cpu))
    about = "system r machine.cpu_share"
    assert told.kinds() == [("alert.opened", about), ("alert.closed", about)]
    (_, first, opened, critical, _), (_, second, closed, _, _) = told.notes
    assert (opened["street"], opened["value"], opened["threshold"]) == (SYSTEM, 0.95, 0.9)
    assert (closed["value"], critical) == (0.5, True)
    assert first.removesuffix("-opened") == second.removesuffix("-closed")
    assert told.desk.open_alerts() == []
    assert [p for p in told.published if p[0] == "alerts"] == [
        ("alerts", SYSTEM, "alert.opened"), ("alerts", SYSTEM, "alert.closed")
    ]  # fmt: skip


def test_below_the_level_that_is_sent_only_the_live_streams_are_told():
    told = Told(settings(rule(level="warning"), notify_from="error"))
    told.desk.check(state(1.0))
    assert (told.notes, len(told.published)) == ([], 2)
    assert [a["rule"] for a in told.desk.open_alerts()] == ["r"]


def test_each_street_has_an_alert_of_its_own():
    told = Told(settings(rule("streets.*.cycle_success_rate", 0.9, condition="<")))
    slow, fast = {"cycle_success_rate": 0.5}, {"cycle_success_rate": 1.0}
    told.desk.check(state(a=slow, b=fast))
    told.desk.check(state(a=slow, b=slow))
    assert [a["path"] for a in told.desk.open_alerts()] == [
        "streets.a.cycle_success_rate", "streets.b.cycle_success_rate"
    ]  # fmt: skip


def test_a_figure_that_is_not_known_yet_raises_no_alert():
    told = Told(settings(rule("streets.*.cycle_success_rate", 0.9, condition="<")))
    told.desk.check(state(a={"cycle_success_rate": None}))
    assert told.desk.open_alerts() == []


def test_rules_that_change_close_what_they_had_opened():
    told = Told(settings(rule()))
    told.desk.check(state(1.0))
    told.desk.use(settings(rule(threshold=2.0)))
    told.desk.check(state(1.0))
    assert [kind for kind, _ in told.kinds()] == ["alert.opened", "alert.closed"]
    assert told.notes[1][2]["why"] == "the rules were changed"


def street_alert(kind, number=1, value=50.0):
    data = {"rule": "long queue", "path": "junctions.A.queue", "level": "error", "value": value}
    return {"kind": kind, "at_s": 1.0, "data": data | {"threshold": 40.0, "number": number}}


def test_a_streets_own_alert_is_told_once_even_if_its_process_opens_it_anew():
    told = Told(settings())
    for event in (
        street_alert("alert.opened"), street_alert("alert.worse"), street_alert("alert.opened", 7),
        street_alert("alert.closed", 7, math.nan),
    ):  # fmt: skip
        told.desk.take("headway", event)
    about = "headway long queue junctions.A.queue"
    assert told.kinds() == [("alert.opened", about), ("alert.closed", about)]
    assert told.notes[1][2]["value"] is None, "JSON has no NaN"
    assert told.published == [], "the street has published it itself"


def test_a_street_that_is_given_up_is_critical_until_it_starts_anew():
    told = Told(settings(notify_from="critical"))
    told.desk.take("headway", {"kind": "engine.given_up", "error": "it failed", "at_s": 1.0})
    told.desk.take("headway", street_alert("alert.opened"))
    assert [n[2]["rule"] for n in told.notes] == ["given up"]
    told.desk.take("headway", {"kind": "engine.started", "data": {}})
    assert [n[0] for n in told.notes] == ["alert.opened", "alert.closed"]
    assert told.desk.open_alerts() == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("cpu", "there is no 'cpu' in the state. There are: "),
        ("streets.headway.speed", "there is no 'streets.headway.speed' in the state"),
        ("machine.*.x", "there is no 'machine.*.x' in the state"),
    ],
)
def test_a_rule_on_what_is_not_reported_is_refused_by_its_name(path, said):
    with pytest.raises(ValueError, match=r"^alert rule 'r': ") as refused:
        system_rules(settings(rule(path)))
    assert said in str(refused.value)


def test_a_rule_may_name_one_street_or_process():
    assert system_rules(settings(rule("processes.database.memory_bytes")))[0].level.name == (
        "WARNING"
    )


def test_errors_of_the_last_minute_are_counted():
    now = [0.0]
    count = ErrorCount(lambda: now[0])
    logger = logging.getLogger("headway.test-of-errors")
    logger.addHandler(count)
    try:
        for at_s, level in (
            (0.0, logging.ERROR),
            (30.0, logging.WARNING),
            (50.0, logging.CRITICAL),
        ):
            now[0] = at_s
            logger.log(level, "x")
        assert count.in_last_minute() == 2
        now[0] = 60.5
        assert count.in_last_minute() == 1
    finally:
        logger.removeHandler(count)


def test_a_rate_is_the_growth_within_a_minute_and_begins_anew_with_its_count():
    rate = Rate()
    assert [rate.per_minute(t, c) for t, c in ((0, 5), (30, 8), (61, 9), (62, 2), (63, 4))] == [
        0, 3, 1, 0, 2
    ]  # fmt: skip
