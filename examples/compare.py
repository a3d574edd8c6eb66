"""Controllers side by side on one scenario, or on your own .sumocfg: mean delay by SUMO's own trip
records, and the safety audit.

python examples/compare.py [SCENARIO or FILE.sumocfg] [CONTROLLER ...]
"""

from __future__ import annotations

import sys

from headway.experiments.benchmark import Job
from headway.experiments.processes import run_all


def main(name: str = "ingolstadt1", *controllers: str) -> None:
    jobs = [Job(name, c, seed=1) for c in controllers or ("fixed", "planner")]
    for result in run_all(jobs, 1):
        unsafe = f"{result.safety_violations} unsafe {result.error}"
        delays = f"delay {result.delay_s:6.1f} s, waiting {result.waiting_s:6.1f} s"
        print(f"{result.controller:13s} {delays}, {unsafe}")


if __name__ == "__main__":
    main(*sys.argv[1:])
