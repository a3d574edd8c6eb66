"""The search of the planner's figures, over runs whose delay is known by a formula."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from headway.experiments.benchmark import Result
from headway.learning import tuning
from headway.learning.tuning import RANGES, Tuning, TuningSettings
from headway.settings import PlannerSettings, load

BEST = {"headway_s": 2.3, "patience_s": 70.0}  # of the street that `made` stands for


def made(worth=0.5, noise=0.02, faults=()):
    """Runs on a street whose delay falls by `worth` at BEST; `runs.jobs` is what was asked for."""

    def runs(jobs, workers):
        runs.jobs += [(job.seed, tuple(sorted(planner_of(job).items()))) for job in jobs]
        for job in jobs:
            figures = planner_of(job)
            off = sum(
                ((figures[k] - best) / (RANGES[k][1] - RANGES[k][0])) ** 2
                for k, best in BEST.items()
            )
            luck = np.random.default_rng([job.seed, 7]).normal() * 0.3
            luck += (
                np.random.default_rng([job.seed, hash(tuple(figures.values())) % 2**32]).normal()
                * noise
            )
            delay_s = 40.0 * math.exp(worth * min(4.0 * off, 1.0) + luck)
            error = "SUMO failed" if job.seed in faults and figures["headway_s"] > 2.0 else ""
            yield Result(**job.identity(), delay_s=delay_s, error=error)

    runs.jobs = []
    return runs


def planner_of(job):
    return yaml.safe_load(Path(job.config).read_text())["planner"]


def search(runs, journal=None, **settings):
    found = Tuning(TuningSettings("cologne1", **settings), journal, runs)
    return found, list(found.search())


def test_the_figures_of_a_street_are_found_and_judged_on_seeds_of_their_own():
    runs = made()
    tuned, generations = search(runs, generations=25, population=12)
    searched = {seed for seed, _ in runs.jobs}
    verdict = tuned.verdict()
    assert [g.number for g in generations] == list(range(1, 26))
    assert searched <= set(range(1001, 1061))
    assert {seed for seed, _ in runs.jobs} - searched == {*range(2001, 2007), *range(3001, 3021)}
    assert verdict.is_better
    # the default is off by (0.41 / 1.2)^2 + (38 / 80)^2 = 0.34: worth 0.5 = exp(0.5) of the delay
    assert verdict.change < math.expm1(-0.2)
    low, high = verdict.change_95
    assert low < verdict.change < high < 0.0
    assert (len(verdict.delay_s), len(verdict.before_s)) == (20, 20)
    assert verdict.runs == len(runs.jobs) == len(set(runs.jobs)), "no run is made twice"
    ratios = np.log(np.array(verdict.delay_s) / np.array(verdict.before_s))
    assert verdict.change == pytest.approx(math.exp(ratios.mean()) - 1)


def test_where_nothing_is_to_be_had_nothing_is_claimed():
    claimed = 0
    for seed in range(1, 21):
        tuned, _ = search(made(worth=0.0), search_seed=seed, generations=2, population=4)
        claimed += tuned.verdict().is_better
    assert claimed <= 2, "p < 0.05, of which half is better"


def test_a_candidate_that_fails_or_breaks_a_rule_is_never_chosen():
    tuned, _ = search(made(faults=range(1001, 4000)), generations=10)
    verdict = tuned.verdict()
    assert verdict.figures["headway_s"] <= 2.0
    assert all(map(math.isfinite, verdict.delay_s))


def test_a_search_that_was_ended_goes_on_and_finds_the_same(tmp_path):
    whole = made()
    expected = search(whole, tmp_path / "whole", generations=6)[0].verdict()

    def ends_in_the_middle(jobs, workers):
        for result in first(jobs, workers):
            if len(first.jobs) > 60:
                raise KeyboardInterrupt
            yield result

    first, journal = made(), tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        search(ends_in_the_middle, journal, generations=6)
    with journal.open("a") as file:
        file.write('{"candidate": "x", "se')
    rest = made()
    assert search(rest, journal, generations=6)[0].verdict() == expected
    made_before = len(whole.jobs) - len(rest.jobs)
    assert 30 < made_before <= 60
    again = made()
    assert search(again, journal, generations=6)[0].verdict() == expected
    assert not again.jobs, "what came after the line that was cut is whole"


def test_where_no_run_goes_to_its_end_the_search_ends_and_says_why(tmp_path):
    """It went on for all generations, for days, and found nothing. The next call begins anew."""

    def fails(jobs, workers):
        for job in jobs:
            yield Result(**job.identity(), error="SumoError: no route file")

    with pytest.raises(RuntimeError, match=r"all runs failed, .* seed 1001: SumoError: no route"):
        search(fails, tmp_path / "j")
    runs = made()
    search(runs, tmp_path / "j", generations=1)
    assert len(runs.jobs) == len(set(runs.jobs)) > 0


def test_an_empty_journal_is_begun(tmp_path):
    journal = tmp_path / "j"
    journal.touch()
    search(made(), journal, generations=1)
    again = made()
    search(again, journal, generations=1)
    assert not again.jobs


def test_a_run_that_only_the_defaults_failed_counts_for_a_candidate():
    """exp(1) = 2.7 times the delay for a run that fails, the inverse where the defaults' does."""
    found = Tuning(TuningSettings("cologne1"), None, made())
    better, worse = {"a": 1.0}, {"b": 1.0}
    delays = [[math.inf, 40.0], [40.0, 40.0], [math.inf, 80.0]]
    found._delays = lambda candidates, seeds: delays
    assert found._scores([better, worse], [1, 2]) == pytest.approx(
        [(-1.0 + 0.0) / 2, (1.0 + math.log(2.0)) / 2]
    )


def test_a_journal_of_another_search_is_refused(tmp_path):
    search(made(), tmp_path / "j", generations=1)
    with pytest.raises(ValueError, match="is of another search"):
        search(made(), tmp_path / "j", generations=1, timing="street")


def test_a_journal_of_a_scenario_whose_files_were_changed_is_refused(two_crossings, tmp_path):
    """Its runs are of another demand: they would be mixed with the new ones, or be all of them."""
    place = tmp_path / "street"
    shutil.copytree(Path(two_crossings.sumocfg).parent, place)
    settings = TuningSettings(str(place / Path(two_crossings.sumocfg).name), generations=1)
    list(Tuning(settings, tmp_path / "j", made()).search())
    again = made()
    list(Tuning(settings, tmp_path / "j", again).search())
    assert not again.jobs
    with (place / Path(two_crossings.routes[0]).name).open("a") as routes:
        routes.write("<!-- twice as much -->")
    with pytest.raises(ValueError, match="is of another search"):
        Tuning(settings, tmp_path / "j", again)


def test_of_a_generation_only_the_better_half_goes_on():
    runs = made()
    search(runs, generations=1, population=10)
    by_seed = [sum(seed == s for seed, _ in runs.jobs) for s in (1001, 1002, 1003)]
    assert by_seed == [11, 6, 6], "with the default figures each"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"confirming": range(1010, 1030)}, "a seed is in two of"),
        ({"choosing": [2001]}, "at least two seeds"),
        ({"seeds_each": 61}, "at least two seeds"),
        ({"population": 3}, "four candidates"),
        ({"generations": 0}, "one generation"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        TuningSettings("cologne1", **settings)


def test_all_that_can_be_searched_is_allowed_by_the_settings(tmp_path):
    assert set(PlannerSettings.model_fields) - set(RANGES) == {"person_weight"}
    for place in (0.0, 1.0):
        path = tmp_path / f"{place}.yaml"
        figures = tuning._figures(np.full(len(RANGES), place))
        path.write_text(tuning.as_settings(figures))
        assert {k: getattr(load(str(path)).planner, k) for k in RANGES} == figures
    np.testing.assert_allclose(
        tuning._place(tuning._figures(np.full(len(RANGES), 0.25))), 0.25, atol=1e-3
    )
