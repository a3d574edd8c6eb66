"""`headway tune`, on a real street."""

from __future__ import annotations

import pytest

from headway.settings import PlannerSettings, load


@pytest.mark.slow
def test_the_command_searches_on_a_real_street_and_says_what_it_found(headway, tmp_path):
    words = ("--scenario", "cologne1", "--generations", "1", "--population", "4")
    ran = headway(
        "tune", *words, "--confirm", "2", "--scale", "0.3", "--out", str(tmp_path / "t.yaml")
    )
    assert "generation 1 of 1: best " in ran.out
    assert "cologne1, 2 seeds: delay " in ran.out
    written = (tmp_path / "t.yaml").exists()
    assert (ran.status, "the defaults stay" in ran.err) in ((0, False), (1, True))
    assert written == (ran.status == 0)
    assert (tmp_path / "t.journal").read_text().count("\n") > 20
    if written:
        assert load("t.yaml").planner != PlannerSettings()


def test_a_scenario_that_is_not_there_is_refused_before_anything_is_written(headway, tmp_path):
    ran = headway("tune", "--scenario", "nowhere")
    assert ran.status == 1
    assert "no scenario 'nowhere'" in ran.err
    assert not list(tmp_path.glob("*.journal"))
