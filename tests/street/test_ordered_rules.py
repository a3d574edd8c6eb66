"""Alert rules that are ordered for a street, beside those of its settings."""

from __future__ import annotations

import json

import pytest

from headway.settings import RuleSettings, Settings, overridden
from headway.street import alerts
from headway.street.alerts import OrderedRules, rules_on

JUNCTIONS = ["A", "B"]
FIXED = overridden(
    Settings(), {"alerts": {"rules": [{"name": "x", "path": "time_s", "threshold": 1}]}}
)


def rule(name="full", path="junctions.A.queue", threshold=9.0):
    return RuleSettings(name=name, path=path, threshold=threshold)


def names(rules, settings=FIXED):
    return [r.name for r in rules_on(rules.beside(settings), JUNCTIONS)[0]]


def test_ordered_rules_stand_beside_those_of_the_settings_and_outlive_the_process(tmp_path):
    rules = OrderedRules(tmp_path)
    rules.put(rule(), JUNCTIONS)
    rules.put(rule("late", "time_s"), JUNCTIONS)
    rules.put(rule(threshold=11.0), JUNCTIONS)
    again = OrderedRules(tmp_path)
    assert names(rules) == names(again) == ["x", "full", "late"]
    found = again.known(FIXED, JUNCTIONS)
    assert [(k.rule.name, k.ordered, k.fault) for k in found] == [
        ("x", False, ""), ("full", True, ""), ("late", True, ""),
    ]  # fmt: skip
    assert found[1].rule.threshold == 11.0
    again.remove("full")
    assert names(OrderedRules(tmp_path)) == ["x", "late"]
    with pytest.raises(ValueError, match="no alert rule 'full'"):
        again.remove("full")


def test_of_two_rules_of_one_name_that_of_the_settings_counts(tmp_path):
    rules = OrderedRules(tmp_path)
    rules.put(rule("x"), JUNCTIONS)
    (known,) = rules.known(FIXED, JUNCTIONS)
    assert (known.rule.path, known.ordered) == ("time_s", False)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("junctions.C.queue", "there is no 'junctions.C.queue'"),
        ("junctions.*.cars", "there is no"),
        ("nothing", "there is no 'nothing'"),
        ("..", "alert rule 'full'"),
    ],
)
def test_a_rule_that_can_never_hold_on_the_street_is_refused(tmp_path, path, why):
    rules = OrderedRules(tmp_path)
    with pytest.raises(ValueError, match=why):
        rules.put(rule(path=path), JUNCTIONS)
    assert names(rules) == ["x"]
    assert not list(tmp_path.iterdir())


def test_a_rule_of_another_network_is_kept_and_says_why_it_does_not_hold(tmp_path):
    rules = OrderedRules(tmp_path)
    rules.put(rule(), JUNCTIONS)
    _, known = rules.known(FIXED, ["C"])
    assert known.fault.startswith("alert rule 'full': there is no 'junctions.A.queue'")
    assert len(rules_on(rules.beside(FIXED), ["C"])[1]) == 1


@pytest.mark.parametrize(
    "content",
    ["{", "[1]", '[{"name": "a"}]', "[" * 100_000,
     json.dumps([{"name": "a", "path": "nothing", "threshold": 1}])],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_set_aside_and_the_street_runs(tmp_path, content):
    path = tmp_path / "alert_rules.json"
    path.write_text(content)
    rules = OrderedRules(tmp_path)
    assert rules.fault.startswith("alert_rules.json is no list of alert rules")
    assert names(rules) == ["x"]
    assert (path.with_suffix(".refused").read_text(), path.exists()) == (content, False)


def test_the_number_of_rules_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(alerts, "MOST_ORDERED", 1)
    rules = OrderedRules(tmp_path)
    rules.put(rule(), JUNCTIONS)
    rules.put(rule(threshold=10.0), JUNCTIONS)
    with pytest.raises(ValueError, match="Remove one first"):
        rules.put(rule("more"), JUNCTIONS)


def test_a_rule_that_cannot_be_kept_is_not_in_force(tmp_path):
    (tmp_path / "alert_rules.json.draft").mkdir()
    rules = OrderedRules(tmp_path)
    with pytest.raises(OSError, match="alert_rules"):
        rules.put(rule(), JUNCTIONS)
    assert names(rules) == ["x"]


def test_a_file_that_is_none_on_a_disk_that_is_read_only_does_not_keep_a_street_from_starting(
    tmp_path, monkeypatch
):
    path = tmp_path / "alert_rules.json"
    path.write_text("{")

    def fails(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(type(path), "replace", fails)
    found = OrderedRules(tmp_path)
    assert found.fault.startswith("alert_rules.json is no list of alert rules")
    assert found.known(Settings(), ["J"]) == OrderedRules(tmp_path / "none").known(
        Settings(), ["J"]
    )
