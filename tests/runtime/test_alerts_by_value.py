"""Alert rules and their paths: each condition at both sides of its threshold,
each time to the second.
"""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, astuple

import pytest

from headway.runtime import Alert, AlertRule, Level, RealTimeMonitor
from headway.runtime.monitor import CONDITIONS, AlertUpdate
from headway.runtime.paths import Path, flatten

# paths


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        ("a", "a", True), ("a", "b", False), ("a", "a.b", False), ("a", "ab", False),
        ("a.b", "a.b", True), ("a.b", "axb", False),
        ("a.*", "a.b", True), ("a.*", "a.b.c", False), ("a.*", "a", False), ("*.b", "a.b", True),
        ("*.b", "a.c", False), ("*.*", "a.b", True),
        ("*.*", "a.b.c", False), ("a.*.c", "a.b.c", True), ("a.*.c", "a.b.d", False),
        ("*", "a", True), ("*", "a.b.c", True),
        ("a.*.c", r"a.b\.d.c", True), (r"a.b\.d.c", r"a.b\.d.c", True), (r"a.b\.d", "a.b.d", False),
        ("a+", "a+", True), ("a+", "aa", False), ("*.a.*", "x.a.y", True),
    ],
)  # fmt: skip
def test_a_star_matches_one_part_and_alone_everything(pattern, path, found):
    assert Path(pattern).matches(path) is found
    assert Path(pattern).text == pattern


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "a b", "a.**", "**", "a*", "*a", "a.*b", "* ", "a.b*.c"]
)
def test_malformed_paths_are_refused(text):
    with pytest.raises(ValueError, match=r"is no path: names with dots in between"):
        Path(text)


def test_a_path_missing_from_a_sample_is_refused_with_those_that_exist():
    Path("a.*").check(None)
    Path("a.*").check({"a": {"b": 1}, "c": 2})
    with pytest.raises(ValueError, match=r"^there is no 'x' in the state. There are: c, a\.b\.$"):
        Path("x").check({"c": 2, "a": {"b": 1}})
    names = [f"n{k:02}" for k in range(41)]
    with pytest.raises(ValueError, match=r"There are: n00, .*, n39\.$"):
        Path("x").check(dict.fromkeys(names[:40], 0))
    with pytest.raises(ValueError, match=r"There are: n00, .*, n39, \.\.\.\.$"):
        Path("x").check(dict.fromkeys(names, 0))
    near_first = {"a": {"speed": 1}, "b": 2, "speeds": 3, "c": {"d": 4}}
    with pytest.raises(ValueError, match=r"There are: speeds, a\.speed, b, c\.d\.$"):
        Path("sped").check(near_first)


def test_paths_select_from_a_flat_state():
    flat = {"a.x": 1, "a.y": 2, "b": 3, "a.x.z": 4}
    assert Path("b").find(flat) == [("b", 3)]
    assert Path("c").find(flat) == []
    assert Path("a.*").find(flat) == [("a.x", 1), ("a.y", 2)]
    assert Path("*").find(flat) == list(flat.items())
    assert Path("c.*").find(flat) == []


def test_a_state_is_flattened_to_its_leaves():
    assert flatten({"a": {"b": 1, "c": {"d": [2], "e": {}}}, "f": None}) == {
        "a.b": 1,
        "a.c.d": [2],
        "f": None,
    }
    assert flatten({"b": 1}, "a.") == {"a.b": 1}
    assert flatten({"a.b": {"c": 1}}) == {r"a\.b.c": 1}


def test_a_rule_on_all_junctions_holds_for_those_with_a_dot_in_their_name_too():
    monitor = RealTimeMonitor((AlertRule("long", "junctions.*.queue", ">", 1.0),))
    state = {"junctions": {"A.1": {"queue": 5}, "B": {"queue": 5}}}
    assert [u.alert.path for u in monitor.check(0.0, state)] == [
        r"junctions.A\.1.queue", "junctions.B.queue",
    ]  # fmt: skip


# rules


@pytest.mark.parametrize(
    ("condition", "below", "at", "above"),
    [
        (">", 0, 0, 1),
        (">=", 0, 1, 1),
        ("<", 1, 0, 0),
        ("<=", 1, 1, 0),
        ("==", 0, 1, 0),
        ("!=", 1, 0, 1),
    ],
)
@pytest.mark.parametrize(("already", "back"), [(False, 0.0), (True, 0.5)])
def test_each_condition_below_at_and_above_its_threshold(
    condition, below, at, above, already, back
):
    rule = AlertRule("r", "v", condition, 3.0, hysteresis=0.5)
    turn = (
        3.0 - back if condition in (">", ">=") else 3.0 + back if condition in ("<", "<=") else 3.0
    )
    for value, holds in ((turn - 0.25, below), (turn, at), (turn + 0.25, above)):
        assert rule.holds(value, already) is bool(holds)
    assert rule.holds(math.nan, already) is True
    assert set(CONDITIONS) == {">", ">=", "<", "<=", "==", "!="}


def test_integers_are_compared_as_well():
    assert AlertRule("r", "v", ">", 3.0).holds(4, False)
    assert not AlertRule("r", "v", ">", 3.0).holds(3, False)


def test_a_rule_by_default_warns_at_once_without_hysteresis():
    assert astuple(AlertRule("r", "v", ">", 1.5)) == (
        "r",
        "v",
        ">",
        1.5,
        Level.WARNING,
        0.0,
        0.0,
        0.0,
    )
    assert [(level.name, int(level)) for level in Level] == [
        ("INFO", 0),
        ("WARNING", 1),
        ("ERROR", 2),
        ("CRITICAL", 3),
    ]
    with pytest.raises(FrozenInstanceError):
        AlertRule("r", "v", ">", 1.5).threshold = 0.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"condition": "~"}, "rule 'r': no condition '~'. There are: >, >=, <, <=, ==, !="),
        ({"threshold": math.nan}, "must be a finite number"),
        ({"threshold": math.inf}, "must be a finite number"), ({"hysteresis": -0.5}, "not below 0"),
        ({"for_s": -0.5}, "not below 0"),
        ({"clear_s": -0.5}, "not below 0"), ({"path": "a..b"}, "is no path"),
    ],
)  # fmt: skip
def test_invalid_rules_are_refused_with_the_reason(change, said):
    with pytest.raises(ValueError, match=said):
        AlertRule(
            **(
                {
                    "name": "r",
                    "path": "v",
                    "condition": ">",
                    "threshold": 1.0,
                    "hysteresis": 0.5,
                    "for_s": 0.5,
                    "clear_s": 0.5,
                }
                | change
            )
        )


def test_rules_of_a_monitor_have_unique_names_and_existing_paths():
    monitor = RealTimeMonitor((AlertRule("r", "v", ">", 1.0),), {"v": 0.0})
    with pytest.raises(ValueError, match="there is a rule 'r' already"):
        monitor.add(AlertRule("r", "v", ">", 2.0))
    with pytest.raises(ValueError, match=r"no 'w' in the state. There are: v"):
        monitor.add(AlertRule("s", "w", ">", 2.0), {"v": 0.0})
    monitor.add(AlertRule("s", "w", ">", 2.0))
    assert [n.alert.rule for n in monitor.check(0.0, {"v": 5.0, "w": 5.0})] == ["r", "s"]


# alerts


def reported(monitor, *series, state=lambda v: {"v": v}):
    """(time, what, value, worst) of all news of a series of (time, value)."""
    return [
        (n.alert and at_s, n.change, n.alert.value, n.alert.worst)
        for at_s, value in series
        for n in monitor.check(at_s, state(value))
    ]


def test_an_alert_that_opens_has_its_figures():
    monitor = RealTimeMonitor((AlertRule("fast", "v.*", ">", 3.0, Level.ERROR),))
    (news,) = monitor.check(7.0, {"v": {"a": 4, "b": 3.0, "c": "5"}})
    assert astuple(news.alert)[:-1] == (1, "fast", "v.a", Level.ERROR, 7.0, 4.0, 4.0, 3.0, "")
    assert (news.change, news.held_back) == ("opened", 0)
    assert news.alert.is_open is True
    (closed,) = monitor.check(9.0, {"v": {"a": 2.0}})
    assert astuple(closed.alert) == (1, "fast", "v.a", Level.ERROR, 7.0, 2.0, 4.0, 3.0, "", 9.0)
    assert (closed.change, closed.held_back) == ("closed", 0)
    assert closed.alert.is_open is False
    assert list(monitor.history) == [closed.alert]
    assert monitor.check(10.0, {"v": {"b": 4.0}})[0].alert.number == 2
    with pytest.raises(FrozenInstanceError):
        closed.alert.value = 0.0
    with pytest.raises(FrozenInstanceError):
        closed.change = ""
    assert AlertUpdate("opened", closed.alert).held_back == 0


def test_an_alert_opens_after_its_condition_held_for_its_time_without_a_break():
    monitor = RealTimeMonitor((AlertRule("r", "v", ">", 3.0, for_s=2.0),))
    series = [(0.0, 4.0), (1.75, 4.0), (1.875, 2.0), (2.0, 4.0), (3.875, 4.0), (4.0, 5.0)]
    assert reported(monitor, *series) == [(4.0, "opened", 5.0, 5.0)]
    assert reported(RealTimeMonitor((AlertRule("r", "v", ">", 3.0),)), (0.0, 4.0)) == [
        (0.0, "opened", 4.0, 4.0)
    ]


def test_an_alert_closes_after_its_condition_was_clear_for_its_time_without_a_break():
    monitor = RealTimeMonitor((AlertRule("r", "v", ">", 3.0, clear_s=2.0),))
    series = [
        (0.0, 4.0),
        (1.0, 2.0),
        (2.875, 2.0),
        (2.9375, 4.0),
        (3.0, 2.0),
        (4.875, 2.0),
        (5.0, 1.0),
    ]
    assert reported(monitor, *series) == [(0.0, "opened", 4.0, 4.0), (5.0, "closed", 1.0, 4.0)]


@pytest.mark.parametrize(
    ("condition", "sign"), [(">", 1.0), (">=", 1.0), ("<", -1.0), ("<=", -1.0)]
)
def test_within_its_hysteresis_an_alert_stays_open_but_is_not_worse(condition, sign):
    monitor = RealTimeMonitor((AlertRule("r", "v", condition, 0.0, hysteresis=8.0),))
    series = [
        (0.0, sign),
        (1.0, -7.0 * sign),
        (2.0, -7.875 * sign),
        (3.0, 2.0 * sign),
        (4.0, -8.5 * sign),
    ]
    assert reported(monitor, *series[:2]) == [(0.0, "opened", sign, sign)]
    assert monitor.open_alerts()[0].value == -7.0 * sign
    assert monitor.open_alerts()[0].worst == sign
    assert reported(monitor, *series[2:]) == [(4.0, "closed", -8.5 * sign, 2.0 * sign)]


def test_an_alert_is_reported_again_when_more_than_twice_as_far_beyond_its_threshold():
    monitor = RealTimeMonitor((AlertRule("r", "v", ">", 10.0),))
    series = [
        (0.0, 11.0),
        (1.0, 12.0),
        (2.0, 12.5),
        (3.0, 15.0),
        (4.0, 11.0),
        (5.0, 15.5),
        (6.0, 9.0),
    ]
    assert reported(monitor, *series) == [
        (0.0, "opened", 11.0, 11.0),
        (2.0, "worse", 12.5, 12.5),
        (5.0, "worse", 15.5, 15.5),
        (6.0, "closed", 9.0, 15.5),
    ]
    monitor = RealTimeMonitor((AlertRule("r", "v", "<=", 10.0),))
    assert reported(monitor, (0.0, 10.0), (1.0, 9.5), (2.0, 9.0), (3.0, 8.5)) == [
        (0.0, "opened", 10.0, 10.0), (1.0, "worse", 9.5, 9.5), (3.0, "worse", 8.5, 8.5),
    ]  # fmt: skip


def test_an_alert_opened_at_its_threshold_is_worse_from_two_billionths_beyond():
    monitor = RealTimeMonitor((AlertRule("r", "v", ">=", 0.0),))
    assert [t for t, *_ in reported(monitor, (1.0, 0.0), (2.0, 1e-9), (3.0, 3e-9))] == [1.0, 3.0]


def test_the_worst_is_the_farthest_beyond_and_no_number_is_worse_than_any():
    monitor = RealTimeMonitor((AlertRule("r", "v", "<", 0.0),))
    reported(monitor, (0.0, -3.0), (1.0, -4.0), (2.0, -2.0))
    assert [(a.value, a.worst) for a in monitor.open_alerts()] == [(-2.0, -4.0)]
    reported(monitor, (3.0, math.nan), (4.0, -9.0))
    assert math.isnan(monitor.open_alerts()[0].worst)
    monitor = RealTimeMonitor((AlertRule("r", "v", "!=", 1.0),))
    assert reported(monitor, (0.0, 2.0), (1.0, -1.5)) == [
        (0.0, "opened", 2.0, 2.0),
        (1.0, "worse", -1.5, -1.5),
    ]


def test_a_missing_figure_raises_its_alert_but_not_one_of_many():
    monitor = RealTimeMonitor((AlertRule("one", "v", ">", 3.0), AlertRule("many", "w.*", ">", 3.0)))
    assert monitor.check(0.0, {"v": 1.0, "w": {"a": 1.0}}) == []
    (news,) = monitor.check(1.0, {})
    assert (news.change, news.alert.rule, news.alert.path) == ("opened", "one", "v")
    assert math.isnan(news.alert.value)
    assert monitor.check(2.0, {"v": "text"}) == []  # neither a figure nor gone
    assert [n.change for n in monitor.check(3.0, {"v": 0})] == ["closed"]
    assert monitor.check(4.0, {"v": True}) == []


def test_a_rule_opens_a_limited_number_of_alerts_a_minute_and_reports_the_suppressed():
    monitor = RealTimeMonitor(
        (AlertRule("r", "v", ">", 0.0), AlertRule("other", "v", ">", 0.5)), most_per_minute=2
    )

    def opened(at_s):
        news = [n for n in monitor.check(at_s, {"v": 1.0}) if n.change == "opened"]
        monitor.check(at_s + 0.5, {"v": 0.0})
        return [(n.alert.rule, n.held_back) for n in news]

    assert opened(0.0) == [("r", 0), ("other", 0)]
    monitor.remove("other")
    assert opened(30.0) == [("r", 0)]
    assert opened(40.0) == []
    assert opened(60.0) == []  # the first was opened just sixty seconds ago
    assert opened(61.0) == [("r", 2)]
    assert opened(62.0) == []
    assert opened(91.0) == [("r", 1)]
    assert opened(300.0) == [("r", 0)]
    assert [a.number for a in monitor.history] == [1, 2, 3, 4, 5, 6]


def test_a_suppressed_alert_waits_its_time_again():
    monitor = RealTimeMonitor((AlertRule("r", "v.*", ">", 0.0, for_s=4.0),), most_per_minute=1)
    both = {"v": {"a": 1.0, "b": 1.0}}
    assert monitor.check(0.0, both) == []
    assert [n.alert.path for n in monitor.check(4.0, both)] == ["v.a"]
    assert monitor.check(63.0, both) == []  # held back at 4
    assert monitor.check(66.875, both) == []
    assert [(n.alert.path, n.held_back) for n in monitor.check(67.0, both)] == [("v.b", 2)]


def test_ten_alerts_a_minute_and_a_thousand_kept_by_default():
    monitor = RealTimeMonitor((AlertRule("r", "v", ">", 0.0),))
    opened = sum(
        n.change == "opened"
        for k in range(50)
        for n in monitor.check(float(k), {"v": float(k % 2)})
    )
    assert opened == 10
    assert monitor.history.maxlen == 1000
    assert RealTimeMonitor(keep=3).history.maxlen == 3


def test_open_alerts_are_listed_gravest_first_and_then_oldest_first():
    rules = (
        AlertRule("i", "i", ">", 0.0, Level.INFO),
        AlertRule("c", "c", ">", 0.0, Level.CRITICAL),
        AlertRule("w", "w.*", ">", 0.0),
    )
    monitor = RealTimeMonitor(rules)
    monitor.check(0.0, {"i": 1.0, "c": 0.0, "w": {"a": 0.0, "b": 1.0}})
    monitor.check(1.0, {"i": 1.0, "c": 1.0, "w": {"a": 1.0, "b": 1.0}})
    assert [(a.path, a.opened_s) for a in monitor.open_alerts()] == [
        ("c", 1.0),
        ("w.b", 0.0),
        ("w.a", 1.0),
        ("i", 0.0),
    ]


def test_an_alert_stays_acknowledged():
    monitor = RealTimeMonitor((AlertRule("r", "v.*", ">", 0.0),))
    monitor.check(0.0, {"v": {"a": 1.0, "b": 2.0}})
    news = monitor.acknowledge(2, "ann")
    assert (news.change, news.alert.path, news.alert.acknowledged_by) == (
        "acknowledged",
        "v.b",
        "ann",
    )
    monitor.check(1.0, {"v": {"a": 1.0, "b": 9.0}})
    assert [(a.number, a.acknowledged_by) for a in monitor.open_alerts()] == [(1, ""), (2, "ann")]
    (closed,) = monitor.check(2.0, {"v": {"a": 1.0, "b": 0.0}})
    assert closed.alert.acknowledged_by == "ann"
    for number in (2, 3, 0):
        with pytest.raises(KeyError, match=f"no open alert has the number {number}"):
            monitor.acknowledge(number, "ann")


def test_removing_a_rule_removes_its_alerts():
    monitor = RealTimeMonitor((AlertRule("a", "v", ">", 0.0), AlertRule("v", "w", ">", 0.0)))
    monitor.check(0.0, {"v": 1.0, "w": 1.0})
    monitor.remove("a")
    assert [a.rule for a in monitor.open_alerts()] == ["v"]
    assert monitor.check(1.0, {"v": 5.0, "w": 1.0}) == []
    monitor.add(AlertRule("a", "v", ">", 0.0))
    assert [(n.change, n.alert.rule) for n in monitor.check(2.0, {"v": 1.0, "w": 1.0})] == [
        ("opened", "a")
    ]
    monitor.remove("nobody")


def test_an_alert_is_open_until_it_has_an_end_time():
    alert = Alert(1, "r", "v", Level.INFO, 0.0, 1.0, 1.0, 0.5)
    assert alert.is_open is True
    assert alert.acknowledged_by == ""
    assert math.isnan(alert.closed_s)


def test_a_monitor_that_continues_another_keeps_the_budgets_of_rules_that_stay():
    rule = AlertRule("r", "a.*", ">", 1.0)
    before = RealTimeMonitor((rule,), most_per_minute=1)
    assert len(before.check(0.0, {"a": {"x": 2}})) == 1
    after = RealTimeMonitor((rule, AlertRule("n", "b", ">", 1.0)), most_per_minute=1)
    assert after.continue_from(before, 1.0) == []
    assert after.check(1.0, {"a": {"x": 2, "y": 2}, "b": 0}) == []
    assert [a.path for a in after.open_alerts()] == ["a.x"]


def test_an_alert_is_closed_once_its_figure_is_gone_and_a_condition_is_forgotten():
    monitor = RealTimeMonitor((AlertRule("r", "a.*", ">", 1.0, for_s=2.0),))
    monitor.check(0.0, {"a": {"x": 2, "y": 2}})
    monitor.check(1.0, {"a": {"x": 2}})
    assert [u.alert.path for u in monitor.check(2.0, {"a": {"x": 2, "y": 2}})] == ["a.x"]
    (gone,) = monitor.check(3.0, {"a": {"y": 2}})
    assert (gone.change, gone.alert.path, gone.why) == ("closed", "a.x", "the figure is gone")
    assert [u.alert.path for u in monitor.check(4.0, {"a": {"y": 2}})] == ["a.y"]
