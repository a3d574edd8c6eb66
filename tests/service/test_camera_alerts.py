"""Alert rules on cameras and machine: when they open and close, and how they are kept."""

from __future__ import annotations

import json
import stat

import pytest
from pydantic import ValidationError

from headway.service.camera_alerts import CameraAlerts, RuleBook, RuleError
from headway.settings import CAMERA_METRICS, CameraRule


def rule(name="r", metric="fps", operator="<", threshold=10.0, clear_s=0.0, **more):
    return CameraRule(
        name=name, metric=metric, operator=operator, threshold=threshold, clear_s=clear_s, **more
    )


def changes(alerts, at_s, cameras, machine=None):
    return [
        ("opened" if c.opened else "closed", c.alert.rule.name, c.alert.camera, c.alert.value)
        for c in alerts.check(at_s, cameras, machine or {})
    ]


def test_an_alert_opens_when_its_figure_has_been_beyond_for_so_long(tmp_path):
    alerts = CameraAlerts(RuleBook(tmp_path / "r.json", [rule(for_s=5.0)]))
    assert changes(alerts, 0.0, {"a": {"fps": 9.0}, "b": {"fps": 12.0}}) == []
    assert changes(alerts, 4.0, {"a": {"fps": 8.0}, "b": {"fps": 9.0}}) == []
    assert changes(alerts, 5.0, {"a": {"fps": 7.0}, "b": {"fps": 11.0}}) == [
        ("opened", "r", "a", 7.0)
    ]
    assert changes(alerts, 6.0, {"a": {"fps": 6.0}, "b": {"fps": 9.0}}) == []
    (found,) = alerts.open_alerts()
    assert (found.camera, found.value, found.since_s) == ("a", 6.0, 5.0)
    assert changes(alerts, 7.0, {"a": {"fps": 10.0}, "b": {"fps": 9.0}}) == [
        ("closed", "r", "a", 6.0)
    ]
    assert changes(alerts, 11.0, {"a": {"fps": 10.0}, "b": {"fps": 9.0}}) == [
        ("opened", "r", "b", 9.0)
    ]


def test_a_figure_that_trembles_about_its_threshold_is_told_once(tmp_path):
    """It must be back for ten seconds, unless the rule says otherwise, and by the hysteresis."""
    usual = CameraRule(name="r", metric="fps", operator="<", threshold=10.0)
    for one, closed_s in (
        (usual, 29.0), (rule(clear_s=0.0), 1.0), (rule(clear_s=5.0), 24.0),
        (rule(hysteresis=1.0), 21.0), (rule(hysteresis=2.0, clear_s=5.0), 26.0),
    ):  # fmt: skip
        alerts, told = CameraAlerts(RuleBook(tmp_path / "r.json", [one])), []
        for second in range(60):
            fps = 9.9 + 0.2 * (second % 2) if second < 20 else 10.5 if second == 20 else 13.0
            told += [(c[0], float(second)) for c in changes(alerts, second, {"a": {"fps": fps}})]
        assert told[0] == ("opened", 0.0)
        assert told[1] == ("closed", closed_s)
        assert len(told) == (20 if closed_s == 1.0 else 2)


def test_an_alert_whose_rule_is_changed_is_closed_at_once_if_the_new_one_does_not_hold(tmp_path):
    book = RuleBook(tmp_path / "r.json")
    book.add(rule(clear_s=60.0))
    alerts = CameraAlerts(book)
    assert len(changes(alerts, 0.0, {"a": {"fps": 9.0}})) == 1
    book.put(rule(clear_s=60.0, threshold=5.0))
    assert changes(alerts, 1.0, {"a": {"fps": 9.0}}) == [("closed", "r", "a", 9.0)]


@pytest.mark.parametrize(
    ("operator", "still", "back"),
    [(">", 4.01, 4.0), (">=", 4.0, 3.99), ("<", 5.99, 6.0), ("<=", 6.0, 6.01), ("==", 5.0, 5.1)],
)
def test_the_hysteresis_of_each_operator(tmp_path, operator, still, back):
    alerts = CameraAlerts(
        RuleBook(tmp_path / "r.json", [rule(operator=operator, threshold=5.0, hysteresis=1.0)])
    )
    begin = {">": 5.1, "<": 4.9}.get(operator, 5.0)
    assert changes(alerts, 0.0, {"a": {"fps": still}}) == [] or operator == "=="
    assert len(changes(alerts, 1.0, {"a": {"fps": begin}})) == (operator != "==")
    assert changes(alerts, 2.0, {"a": {"fps": still}}) == []
    assert changes(alerts, 3.0, {"a": {"fps": back}})[0][0] == "closed"


def test_an_alert_of_a_camera_that_is_gone_or_unknown_is_closed(tmp_path):
    alerts = CameraAlerts(RuleBook(tmp_path / "r.json", [rule()]))
    both = {"a": {"fps": 1.0}, "b": {"fps": 1.0}}
    assert len(changes(alerts, 0.0, both)) == 2
    assert sorted(changes(alerts, 1.0, {"a": {"fps": None}})) == [
        ("closed", "r", "a", 1.0), ("closed", "r", "b", 1.0)
    ]  # fmt: skip
    assert alerts.open_alerts() == []


def test_rules_of_one_camera_and_of_the_machine(tmp_path):
    rules = [
        rule("one", camera="a"),
        rule("busy", "cpu_share", ">=", 0.5),
        rule("equal", "headway_processes", "==", 3.0),
    ]
    alerts = CameraAlerts(RuleBook(tmp_path / "r.json", rules))
    cameras, machine = (
        {"a": {"fps": 1.0}, "b": {"fps": 1.0}},
        {"cpu_share": 0.5, "headway_processes": 3.0},
    )
    assert changes(alerts, 0.0, cameras, machine) == [
        ("opened", "one", "a", 1.0), ("opened", "busy", "", 0.5), ("opened", "equal", "", 3.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("operator", "holds"),
    [(">", [3]), (">=", [2, 3]), ("<", [1]), ("<=", [1, 2]), ("==", [2]), ("!=", [1, 3])],
)
def test_each_operator(tmp_path, operator, holds):
    for value in (1, 2, 3):
        alerts = CameraAlerts(RuleBook(tmp_path / "r.json", [rule(operator=operator, threshold=2)]))
        assert bool(changes(alerts, 0.0, {"a": {"fps": value}})) == (value in holds)


def test_rules_are_added_changed_removed_and_kept(tmp_path):
    path = tmp_path / "rules.json"
    book = RuleBook(path, [rule("fixed")])
    book.add(rule("mine"))
    book.put(rule("mine", threshold=3.0))
    for act, name, error in (
        (book.add, "mine", RuleError), (book.add, "fixed", RuleError),
        (book.put, "fixed", RuleError), (book.put, "none", KeyError),
    ):  # fmt: skip
        with pytest.raises(error):
            act(rule(name))
    with pytest.raises(RuleError, match="stands in the settings"):
        book.remove("fixed")
    again = RuleBook(path, [rule("fixed")])
    assert [(r.name, r.threshold) for r in again.all()] == [("fixed", 10.0), ("mine", 3.0)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again.remove("mine")
    assert json.loads(path.read_text()) == []
    with pytest.raises(KeyError):
        again.remove("mine")


@pytest.mark.parametrize("text", ["", "{}", "[1]", "no json", '[{"name": "x", "metric": "no"}]'])
def test_a_file_that_is_no_list_of_rules_is_set_aside(tmp_path, text):
    path = tmp_path / "rules.json"
    path.write_text(text)
    book = RuleBook(path, [rule("fixed")])
    assert [r.name for r in book.all()] == ["fixed"]
    if text != "{}":  # an empty mapping has no rule in it
        assert "is no list of alert rules" in book.fault
        assert (tmp_path / "rules.refused").read_text() == text


def test_there_is_an_end_to_rules(tmp_path):
    book = RuleBook(tmp_path / "r.json", [rule(str(k)) for k in range(200)])
    with pytest.raises(RuleError, match="200 rules already"):
        book.add(rule("one more"))


def test_an_unknown_figure_is_refused_with_the_known_ones():
    with pytest.raises(ValidationError) as caught:
        rule(metric="speed")
    (fault,) = caught.value.errors()
    assert fault["msg"] == f"there is no such figure. Known: {', '.join(CAMERA_METRICS)}"
    with pytest.raises(ValidationError, match="a figure of the machine has no camera"):
        rule(metric="cpu_share", camera="a")
    for bad in (float("nan"), float("inf")):
        for name in ("threshold", "hysteresis", "clear_s"):
            with pytest.raises(ValidationError):
                rule(**{name: bad})
