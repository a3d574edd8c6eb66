"""One controller on many seeds: the runs that a mean over a few would hide."""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import typer

from headway.cli.simulation import parse_seeds
from headway.experiments.benchmark import Job, Result
from headway.experiments.processes import run_all
from headway.roads import PROFILES


def seeds(arguments: Sequence[str] = ()) -> None:
    """Delay of each of many seeds, mean, least, most, and how many are above a bound.

    To reach on ingolstadt21: a mean of at most 46 s, none above 60 s (decision 21).
    """
    parser = argparse.ArgumentParser("python -m bench seeds")
    parser.add_argument("--scenario", default="ingolstadt21")
    parser.add_argument("--seeds", type=seeds_of, default="101-140", help="as 1-5 or 1,4")
    parser.add_argument("--controller", default="planner")
    parser.add_argument("--timing", default="benchmark", choices=list(PROFILES))
    parser.add_argument("--above", type=float, default=60.0, help="the bound, seconds")
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--json", default="", help="write the runs to this file")
    options = parser.parse_args(list(arguments))

    jobs = [
        Job(options.scenario, options.controller, seed, timing=options.timing)
        for seed in options.seeds
    ]
    found = list[Result]()
    for result in run_all(jobs, options.workers):
        found.append(result)
        print(f"seed {result.seed}: {result.error or f'{result.delay_s:.1f} s'}", flush=True)
    print(f"{options.scenario}, {options.controller}: {summary(found, options.above)}")
    if options.json:
        found.sort(key=lambda run: run.seed)
        Path(options.json).write_text(json.dumps([asdict(run) for run in found], indent=1))


def seeds_of(text: str) -> list[int]:
    """ "1-3,7" to [1, 2, 3, 7]. Raises argparse.ArgumentTypeError."""
    try:
        return parse_seeds(text)
    except typer.BadParameter as error:
        raise argparse.ArgumentTypeError(error.message) from error


def summary(found: Sequence[Result], above_s: float) -> str:
    """Of the runs that went to their end: mean, least and most delay, how many above `above_s`."""
    ended = sorted((run for run in found if not run.error), key=lambda run: run.delay_s)
    failed = len(found) - len(ended)
    failures = f"; {failed} FAILED" if failed else ""
    if not ended:
        return f"no run{failures}"
    delay_s = np.array([run.delay_s for run in ended])
    return (
        f"mean {delay_s.mean():.1f} s, least {delay_s[0]:.1f} s (seed {ended[0].seed}), "
        f"most {delay_s[-1]:.1f} s (seed {ended[-1].seed}), "
        f"{(delay_s > above_s).sum()} of {len(ended)} above {above_s:g} s, "
        f"{sum(run.safety_violations for run in ended)} unsafe{failures}"
    )
