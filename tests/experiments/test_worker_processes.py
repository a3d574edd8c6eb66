"""Runs over several processes, some of which end before their run does."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from tests.experiments.runs import ABORTS, FAILS, IS_KILLED, LASTS, play
from tests.waiting import until

from headway.experiments.benchmark import Job
from headway.experiments.processes import run_all

OF = Job("well", "c", 0)


def of(*scenarios):
    return [replace(OF, scenario=name, seed=seed) for seed, name in enumerate(scenarios)]


@pytest.mark.slow
def test_a_process_makes_eight_runs_and_no_more_are_there_than_wanted():
    jobs = of(*["well"] * 19)
    found = list(run_all(jobs, 1, play))
    assert [r.seed for r in found] == list(range(19))
    assert [n for _, n in Counter(r.arrived for r in found).most_common()] == [8, 8, 3]
    both = list(run_all(of("well", "well"), 8, play))
    assert sorted(r.seed for r in both) == [0, 1]
    assert len({r.arrived for r in both}) == 2
    assert list(run_all([], 2, play)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        (IS_KILLED, "its process was ended by signal 9, as happens where memory is short. "
                    "Make fewer runs at once (--jobs)."),
        (ABORTS, "its process was ended by signal 6."),
        (FAILS, "its process ended with status 1; standard error may say why."),
    ],
)  # fmt: skip
def test_a_run_that_ends_its_process_is_a_result_with_its_error_and_the_others_are_made(
    scenario, error
):
    """A pool of `multiprocessing` waits for it for ever."""
    found = {r.seed: r for r in run_all(of("well", scenario, "well", "well"), 2, play)}
    assert found.keys() == {0, 1, 2, 3}
    lost = found.pop(1)
    assert (lost.scenario, lost.controller, lost.arrived) == (scenario, "c", 0)
    assert lost.error == error
    assert not any(r.error for r in found.values())


@pytest.mark.slow
def test_nothing_is_left_when_the_results_are_not_read_to_their_end(tmp_path):
    said = tmp_path / "said"
    first, second = of("well", LASTS)
    results = run_all([first, replace(second, keep=str(said))], 2, play)
    assert next(results).seed == 0
    until(lambda: said.exists() and said.read_text())
    pid, folder = said.read_text().split()
    assert Path(folder).is_dir()
    results.close()
    assert not Path(folder).parent.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
