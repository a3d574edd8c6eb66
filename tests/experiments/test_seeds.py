"""`python -m bench seeds`: what a mean over few runs hides."""

from __future__ import annotations

import pytest
from bench.seeds import seeds, summary

from headway.experiments.benchmark import Result


def run(seed, delay_s=float("nan"), unsafe=0, error=""):
    return Result(
        *("here", "planner", seed, "benchmark", "connected", 1.0),
        delay_s=delay_s,
        safety_violations=unsafe,
        error=error,
    )


def test_the_runs_above_the_bound_and_the_extremes_are_named():
    found = [run(3, 60.0), run(1, 106.3), run(2, 40.0, unsafe=2)]
    assert summary(found, 60.0) == (
        "mean 68.8 s, least 40.0 s (seed 2), most 106.3 s (seed 1), 1 of 3 above 60 s, 2 unsafe"
    )


def test_a_run_that_failed_is_no_delay_and_is_said():
    found = [run(1, 50.0), run(2, error="ValueError: no route")]
    assert summary(found, 45.5) == (
        "mean 50.0 s, least 50.0 s (seed 1), most 50.0 s (seed 1), "
        "1 of 1 above 45.5 s, 0 unsafe; 1 FAILED"
    )
    assert summary(found[1:], 60.0) == "no run; 1 FAILED"


def test_seeds_that_are_none_are_refused_with_the_remedy(capsys):
    with pytest.raises(SystemExit) as ended:
        seeds(["--seeds", "1-x"])
    assert ended.value.code == 2
    assert "give whole numbers, such as 1-5 or 1,4" in capsys.readouterr().err
