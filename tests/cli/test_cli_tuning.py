"""`headway tune`, over runs whose delay is known by a formula."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml

from headway.cli import tuning
from headway.experiments.benchmark import Result
from headway.settings import PlannerSettings, load

WORDS = ("tune", "--scenario", "cologne1", "--generations", "6", "--population", "6")


@pytest.fixture
def street(monkeypatch):
    """Runs in place of SUMO's: `slope` is by how much the logarithm of the delay falls for each
    second of `headway_s`; seeds in `failing` fail; `jobs` are those that were made.
    """

    def runs(jobs, workers):
        for job in jobs:
            runs.jobs.append(job)
            headway_s = yaml.safe_load(Path(job.config).read_text())["planner"]["headway_s"]
            luck = 0.001 * ((job.seed * 7 + int(1e4 * headway_s)) % 11)
            error = "SUMO failed" if job.seed in runs.failing else ""
            delay_s = 50.0 * math.exp(luck - runs.slope * headway_s)
            yield Result(**job.identity(), delay_s=delay_s, error=error)

    runs.jobs, runs.slope, runs.failing = [], 0.5, ()
    monkeypatch.setattr(tuning, "spread", lambda *_: runs)
    return runs


def test_better_figures_are_written_as_a_settings_file(headway, street, tmp_path):
    ran = headway(*WORDS)
    assert ran.status == 0, ran.err
    assert "generation 1 of 6: best " in ran.out
    assert "generation 6 of 6: best -" in ran.out
    assert "cologne1, 20 seeds: delay " in ran.out
    found = load("tuned.yaml").planner
    assert found.headway_s > PlannerSettings().headway_s
    rows = (tmp_path / "tuned.journal").read_text().splitlines()
    assert len(rows) == 1 + len(street.jobs), "a head, then a line a run"
    of = {(job.seed, job.timing, job.sensing, job.scale) for job in street.jobs}
    assert of == {
        (seed, "benchmark", "connected", 1.0)
        for seed in (*range(1001, 1019), *range(2001, 2007), *range(3001, 3021))
    }


def test_the_same_call_makes_no_run_twice(headway, street):
    headway(*WORDS)
    first = load("tuned.yaml")
    street.jobs.clear()
    assert headway(*WORDS).status == 0
    assert not street.jobs
    assert load("tuned.yaml") == first


def test_where_nothing_better_is_found_the_defaults_stay(headway, street, tmp_path):
    street.slope = 0.0
    ran = headway(*WORDS, "--search-seed", "2")
    assert ran.status == 1
    assert "the defaults stay. Search longer" in ran.err
    assert not (tmp_path / "tuned.yaml").exists()


def test_a_verdict_over_runs_that_failed_is_none_and_says_how_many(headway, street, tmp_path):
    street.failing = (3005, 3006)
    ran = headway(*WORDS)
    assert ran.status == 1
    assert (
        "of the 20 runs of the verdict 2 failed with the figures that were found, and 2 with"
        in (ran.err)
    )
    assert not (tmp_path / "tuned.yaml").exists()


def test_what_is_asked_reaches_the_runs(headway, street):
    others = ("--timing", "street", "--sensing", "loops", "--scale", "0.7", "--confirm", "3")
    headway(*WORDS, *others)
    of = {(job.timing, job.sensing, job.scale) for job in street.jobs}
    assert of == {("street", "loops", 0.7)}
    assert {job.seed for job in street.jobs if job.seed > 3000} == {3001, 3002, 3003}


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--scenario", "nowhere"), 1, "no scenario 'nowhere'"),
        (("--scenario", "cologne1", "--timing", "quick"), 2, "no timing 'quick'. There are: "),
        (("--scenario", "cologne1", "--sensing", "eyes"), 2, "no sensing 'eyes'. There are: "),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_written(
    headway, street, tmp_path, words, status, said
):
    ran = headway("tune", *words)
    assert ran.status == status
    assert said in ran.err
    assert not list(tmp_path.iterdir())
    assert not street.jobs


def test_a_journal_of_another_planner_is_refused_and_kept(headway, street, tmp_path):
    headway(*WORDS)
    journal = tmp_path / "tuned.journal"
    head, *rows = journal.read_text().splitlines()
    other = "\n".join([json.dumps({**json.loads(head), "default": "0" * 16}), *rows])
    journal.write_text(other)
    ran = headway(*WORDS)
    assert ran.status == 1
    assert "tuned.journal: is of another search" in ran.err
    assert journal.read_text() == other
