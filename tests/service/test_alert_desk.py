"""Alerts on the program and its streets: each is told once when it opens, once when it passed."""

from __future__ import annotations

import logging
import math
import sys
import threading

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

    def __init__(self, alerts, book=None, speaks_for=None):
        self.now, self.published, self.notes = 0.0, [], []
        self.desk = AlertDesk(
            alerts,
            lambda topic, street, event: self.published.append((topic, street, event["kind"])),
            lambda kind, number, body, critical, about: self.notes.append(
                (kind, number, body, critical, about)
            ),
            lambda: self.now,
            book,
            speaks_for,
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


def test_rules_that_stay_keep_their_alerts_when_others_change():
    told = Told(settings(rule(), rule("errors_per_minute", 3.0, name="e")))
    seen = state(1.0) | {"errors_per_minute": 9.0}
    told.desk.check(seen)
    told.desk.use(settings(rule(threshold=0.99), rule("errors_per_minute", 3.0, name="e")))
    told.desk.check(seen)
    told.desk.check(state(0.0) | {"errors_per_minute": 0.0})
    assert [(kind, body["rule"], body["threshold"]) for kind, _, body, _, _ in told.notes] == [
        ("alert.opened", "r", 0.9), ("alert.opened", "e", 3.0), ("alert.closed", "r", 0.9),
        ("alert.opened", "r", 0.99), ("alert.closed", "r", 0.99), ("alert.closed", "e", 3.0),
    ]  # fmt: skip
    assert len({number for _, number, _, _, _ in told.notes}) == 6


@pytest.mark.parametrize(("first", "then", "sent"), [("info", "error", 2), ("error", "info", 0)])
def test_who_was_told_that_it_opened_is_told_that_it_passed_and_nobody_else(first, then, sent):
    told = Told(settings(rule(level="warning"), notify_from=first))
    told.desk.check(state(1.0))
    told.desk.use(settings(rule(level="warning"), notify_from=then))
    told.desk.check(state(0.0))
    assert len(told.notes) == sent


def test_an_alert_of_what_is_gone_is_closed():
    told = Told(settings(rule("streets.*.tick_share", 0.8)))
    told.desk.check(state(a={"tick_share": 1.0}, b={"tick_share": 1.0}))
    told.desk.check(state(b={"tick_share": 1.0}))
    assert [(n[0], n[2]["path"], n[2].get("why")) for n in told.notes[2:]] == [
        ("alert.closed", "streets.a.tick_share", "the figure is gone")
    ]


def test_an_orderly_end_closes_what_is_open_and_a_crash_is_made_up_for(tmp_path):
    book = tmp_path / "open_alerts.json"
    told = Told(settings(), book)
    told.desk.take("headway", street_alert("alert.opened"))
    told.desk.take("baseline", street_alert("alert.opened"))
    told.desk.take("baseline", street_alert("alert.closed"))
    crashed = Told(settings(), book)
    for _ in range(2):
        crashed.desk.close_left_over()
    ((kind, number, body, _, _),) = crashed.notes
    assert (kind, body["street"], body["why"]) == (
        "alert.closed", "headway", "the server was started anew",
    )  # fmt: skip
    assert number == told.notes[0][1].replace("-opened", "-closed")
    crashed.desk.take("headway", street_alert("alert.opened"))
    crashed.desk.close()
    assert [(n[0], n[2].get("why")) for n in crashed.notes[1:]] == [
        ("alert.opened", None), ("alert.closed", "the server ended"),
    ]  # fmt: skip
    crashed.desk.take("headway", street_alert("alert.opened"))
    assert len(crashed.notes) == 3
    after = Told(settings(), book)
    after.desk.close_left_over()
    assert after.notes == []


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '[{"id": 1, "key": [1], "data": {}}]', "[" * 9999]
)
def test_a_book_that_cannot_be_read_is_left_out(text, tmp_path):
    book = tmp_path / "open_alerts.json"
    book.write_text(text)
    told = Told(settings(), book)
    told.desk.close_left_over()
    assert (told.notes, book.read_text()) == ([], "[]")


def test_streets_start_anew_while_others_report_alerts():
    """A street's thread ended with "dictionary changed size during iteration"."""
    told, faults, stop = Told(settings(notify_from="critical")), [], threading.Event()

    def alert(path, kind):
        return street_alert(kind) | {
            "data": street_alert(kind)["data"] | {"path": f"junctions.{path}.queue"}
        }

    def begin():
        try:
            while not stop.is_set():
                told.desk.take("other", {"kind": "engine.started", "data": {}})
        except RuntimeError as error:
            faults.append(error)

    for path in range(1000):
        told.desk.take("headway", alert(path, "alert.opened"))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=begin)
    thread.start()
    try:
        for path in range(1000, 1300):
            told.desk.take("headway", alert(path, "alert.opened"))
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(before)
    assert faults == []


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


def test_a_street_that_is_away_is_critical_until_it_is_heard_again():
    told = Told(settings(notify_from="critical"))
    away = {"kind": "engine.away", "data": {"why": "its process has ended"}}
    told.desk.take("main", away)
    told.desk.take("main", away)
    assert [(n[2]["rule"], n[2]["error"]) for n in told.notes] == [
        ("away", "its process has ended")
    ]
    told.desk.take("main", {"kind": "engine.heard", "data": {}})
    assert [n[0] for n in told.notes] == ["alert.opened", "alert.closed"]
    assert told.desk.open_alerts() == []


def test_of_a_street_that_another_process_speaks_for_people_hear_nothing_from_here():
    told = Told(settings(notify_from="critical"), speaks_for=lambda street: street != "main")
    told.desk.take("main", {"kind": "engine.given_up", "error": "it failed", "at_s": 1.0})
    assert [alert["rule"] for alert in told.desk.open_alerts()] == ["given up"], "it is shown"
    told.desk.take("main", {"kind": "engine.started", "data": {}})
    assert told.notes == []
    told.desk.take("own", {"kind": "engine.given_up", "error": "it failed", "at_s": 1.0})
    assert len(told.notes) == 1


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


def test_a_failed_backup_is_told_once_and_passes_with_the_next_that_succeeds():
    told = Told(settings(rule()))
    told.desk.take_upkeep("backup", True, {})
    for _ in range(3):
        told.desk.take_upkeep("backup", False, {"error": "the disk is full"})
    told.desk.take_upkeep("drill", True, {})
    assert told.kinds() == [("alert.opened", "system backup failed ")]
    body = told.notes[0][2]
    assert (body["rule"], body["level"], body["error"]) == (
        "backup failed", "critical", "the disk is full",
    )  # fmt: skip
    told.desk.take_upkeep("backup", True, {})
    assert [kind for kind, _ in told.kinds()] == ["alert.opened", "alert.closed"]
    assert told.desk.open_alerts() == []
