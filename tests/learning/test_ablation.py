"""`python -m bench ablation`: what it trains and judges, and its table by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.ablation import IN_USE, VARIANTS, Judged, Training, ablation, table, train_and_judge

from headway.experiments.benchmark import Result


def judged(variant, number, delay_s, share=0.5, unsafe=0, error=""):
    return Judged(
        *("here", variant, number, "benchmark", "connected", 1.0),
        delay_s=delay_s,
        with_fallback_s=delay_s + 1.0,
        decided_share=share,
        safety_violations=unsafe,
        error=error,
    )


def test_variants_are_paired_by_training_with_the_one_in_use():
    # ratios 2 and 8: the mean logarithm is that of 4; Student's t with one degree of freedom is
    # 12.7062, the standard error of the logarithms ln 2; p = 1 - 2 / pi x arctan(2)
    found = [
        judged("3 steps", 2, 80.0, share=1.0),  # in whatever order they come
        judged("in use", 1, 20.0),
        judged("3 steps", 1, 40.0),
        judged("in use", 2, 10.0, unsafe=2),
        judged("no longest wait", 1, float("nan"), error="ValueError: no route"),
    ]
    planner = Result(*("here", "planner", 1, "benchmark", "connected", 1.0), delay_s=9.0)
    lines = table("here", found, [planner])
    assert lines[2:] == [
        "| in use | 15.0 ± 63.5 |  |  | 16.0 ± 63.5 (decides 50%) | 2, 2 unsafe |",
        f"| 3 steps | 60.0 ± 254.1 | +300% (-100% to {4 * 2**12.7062047362 - 1:+.0%}) | 0.30 | "
        "61.0 ± 254.1 (decides 75%) | 2 |",
        "| no longest wait | none | | | | 0 |",
        "| fixed | none | | | | 0 |",
        "| webster | none | | | | 0 |",
        "| actuated | none | | | | 0 |",
        "| greedy | none | | | | 0 |",
        "| planner | 9.0 |  |  |  | 1 |",
        "FAILED here no longest wait 1: ValueError: no route",
    ]


def test_each_variant_changes_one_part():
    assert VARIANTS["in use"] == IN_USE
    reward = dict.fromkeys(("longest", "change", "neighbours"), 0.0)
    changed = [
        {"steps": 3},
        {"steps": 10, "trace_decay": 0.8},
        *({"reward": replace(IN_USE.reward, **{f: 0.0})} for f in reward),
        {"sees_neighbours": True},
    ]
    assert list(VARIANTS.values())[1:] == [replace(IN_USE, **c) for c in changed]


def test_a_variant_that_is_none_is_refused_with_those_that_there_are(capsys):
    with pytest.raises(SystemExit) as ended:
        ablation(["--variants", "4 steps"])
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "no variant '4 steps'. There are: in use; 3 steps" in said


def test_a_table_is_trained_and_judged_alone_and_with_the_fallback(two_crossings):
    settings = replace(IN_USE, episodes=1, rows=1 << 10, batch=8, sees_neighbours=True, steps=3)
    job = Training(two_crossings.sumocfg, "seen", 4, settings=settings, judged_on=(1, 2))
    found = train_and_judge(job)
    assert (found.controller, found.seed, found.error) == ("seen", 4, "")
    assert 0.0 < found.delay_s < 60.0
    assert 0.0 < found.with_fallback_s < 60.0
    assert found.decided_share < 0.5  # after an episode of a minute and a half

    unlearnt = replace(job, settings=replace(settings, batch=1000))
    assert "knows no state. Train it" in train_and_judge(unlearnt).error
