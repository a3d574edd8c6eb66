"""Settings: refused with path, value and what is allowed; reloaded while running."""

import os

import pytest

from headway.config import Settings, SettingsError, Watched, load
from headway.engine.worker import rules_of


def write(path, text):
    path.write_text(text)
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1_000_000))


def test_defaults_are_valid_and_the_environment_stands_over_the_file(tmp_path, monkeypatch):
    file = tmp_path / "h.yaml"
    file.write_text("loop: {cycle_s: 60}\ncontrol: {controller: webster}\n")
    monkeypatch.setenv("HEADWAY_LOOP__CYCLE_S", "45")
    settings = load(file)
    assert (settings.loop.cycle_s, settings.control.controller, settings.street.timing) == (45.0, "webster", "street")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("loop: {cycel_s: 3}", ["loop.cycel_s", "unknown key", "cycle_s"]),
        ("loop: {tick_s: 99}", ["loop.tick_s", "99", "less than or equal to 5"]),
        ("control: {controller: magic}", ["control.controller", "'magic'", "'planner'"]),
        ("[1, 2]", ["mapping"]),
        ("a: [", ["no YAML"]),
    ],
)
def test_a_fault_names_place_value_and_what_is_allowed(tmp_path, text, said):
    file = tmp_path / "h.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as fault:
        load(file)
    assert all(s in str(fault.value) for s in [str(file), *said])


def test_a_change_of_the_file_takes_effect_and_a_faulty_one_changes_nothing(tmp_path):
    file = tmp_path / "h.yaml"
    file.write_text("loop: {cycle_s: 60}\n")
    watched = Watched(file)
    assert watched.refresh() == ()
    write(file, "loop: {cycle_s: 20}\n")
    assert watched.refresh() == ()  # it may still be being written
    assert watched.refresh() == ("loop",)
    assert watched.current.loop.cycle_s == 20
    write(file, "loop: {cycle_s: no}\n")
    assert watched.refresh() == watched.refresh() == ()
    assert watched.current.loop.cycle_s == 20
    assert "loop.cycle_s" in watched.fault
    write(file, "loop: {cycle_s: 25}\nstreet: {seed: 9}\n")
    assert watched.refresh() == ()  # it may still be being written
    assert watched.refresh() == ("loop",)
    assert watched.current.street.seed == 1
    assert "street" in watched.fault


def test_an_alert_on_a_figure_that_no_street_has_is_refused_before_anything_starts():
    rule = {"name": "r", "threshold": 1.0}
    for path in ("junctions.*.queue", "junctions.A1.longest_wait_s", "vehicles"):
        rules_of(Settings(alerts={"rules": (rule | {"path": path},)}))
    with pytest.raises(ValueError, match="queues"):
        rules_of(Settings(alerts={"rules": (rule | {"path": "junctions.*.queues"},)}))
    with pytest.raises(ValueError, match="already"):
        rules_of(Settings(alerts={"rules": (rule | {"path": "vehicles"}, rule | {"path": "halted"})}))
