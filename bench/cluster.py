"""What a second processor is worth: runs over processes, and over a Ray cluster where Ray is."""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence

from headway.experiments.benchmark import Job, Result
from headway.experiments.cluster import run_on_cluster
from headway.experiments.processes import run_all


def cluster(arguments: Sequence[str] = ()) -> None:
    """Efficiency of two processors: time with one / (2 x time with two), of equal runs."""
    parser = argparse.ArgumentParser(prog="python -m bench cluster")
    parser.add_argument("--scenario", default="cologne1")
    parser.add_argument("--runs", type=int, default=16)
    asked = parser.parse_args(list(arguments))
    jobs = [Job(asked.scenario, "planner", seed) for seed in range(1, asked.runs + 1)]
    report("processes", lambda workers: took_s(run_all(jobs, workers)))
    if importlib.util.find_spec("ray"):
        report("Ray, one machine", lambda workers: over_ray_s(jobs, workers))
    else:
        print("Ray is not installed.")


def report(name: str, seconds_with: Callable[[int], float]) -> None:
    seconds_with(2)  # compiled kernels are read from the disk, networks from their cache
    one, two = seconds_with(1), seconds_with(2)
    print(f"{name}: {one:.1f} s with one, {two:.1f} s with two: efficiency {one / two / 2:.2f}")


def took_s(results: Iterator[Result]) -> float:
    begun = time.perf_counter()
    if failed := [r.error for r in results if r.error]:
        raise RuntimeError(failed[0])
    return time.perf_counter() - begun


def over_ray_s(jobs: list[Job], processors: int) -> float:
    """Without the start of Ray itself."""
    import ray

    ray.init(num_cpus=processors, include_dashboard=False, log_to_driver=False)
    try:
        return took_s(run_on_cluster("auto", jobs))
    finally:
        ray.shutdown()
