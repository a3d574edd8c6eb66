"""Controllers on two nodes 30 m apart whose lights netconvert joined into one programme."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import sumo

from headway.experiments.benchmark import Job
from headway.experiments.processes import run_all

SEEDS = (1, 2, 3)
SCALES = (0.6, 0.8, 1.0, 1.2)
CONTROLLERS = ("fixed", "webster", "actuated", "max-pressure", "planner")
SUMO = Path(sumo.__file__).parent
GRID = "--grid --grid.x-number 2 --grid.y-number 1 --grid.x-length 30 --grid.attach-length 250"
JOINED = "--tls.join --tls.join-dist 50 --tls.rebuild"
# a vehicle each 1.6 s for 20 minutes, from edge to edge
TRIPS = "-b 0 -e 1200 -p 1.6 --fringe-factor max --seed 7 --validate"
CONFIGURATION = """<configuration>
    <input><net-file value="street.net.xml"/><route-files value="street.rou.xml"/></input>
    <time><begin value="0"/><end value="1800"/></time>
</configuration>
"""


def joined() -> None:
    """Mean delay, seconds a vehicle, seeds 1-3, benchmark timing, by demand (decision 40)."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(street(Path(folder)))
        compare(
            "demand",
            [
                Job(path, controller, seed, scale=scale, label=f"{scale:g}")
                for scale in SCALES
                for controller in CONTROLLERS
                for seed in SEEDS
            ],
        )


def compare(head: str, jobs: list[Job]) -> None:
    """Print the mean delay of each controller, a line for each label of the jobs."""
    delays = defaultdict(list)
    unsafe = 0
    for result in run_all(jobs, multiprocessing.cpu_count()):
        delays[result.scenario, result.controller].append(result.delay_s)
        unsafe += result.safety_violations
    print(f"{head:14s}" + "".join(f"{name:>14s}" for name in CONTROLLERS))
    for label in dict.fromkeys(job.label for job in jobs):
        means = (float(np.mean(delays[label, name])) for name in CONTROLLERS)
        print(f"{label:14s}" + "".join(f"{mean:14.1f}" for mean in means))
    print(f"violations of safety rules: {unsafe}")


def street(folder: Path) -> Path:
    """The .sumocfg of network and demand, made in that folder."""
    configuration = folder / "street.sumocfg"
    if not configuration.exists():
        programs = Path(sys.executable).parent
        lights = ["--no-turnarounds", "--tls.set", "A0,B0", "-o", "grid.net.xml"]
        call([str(programs / "netgenerate"), *GRID.split(), *lights], folder)
        ways = ["-s", "grid.net.xml", *JOINED.split(), "-o", "street.net.xml"]
        call([str(programs / "netconvert"), *ways], folder)
        files = ["-n", "street.net.xml", "-r", "street.rou.xml", "-o", "street.trips.xml"]
        tool = str(SUMO / "tools" / "randomTrips.py")
        call([sys.executable, tool, *files, *TRIPS.split()], folder)
        configuration.write_text(CONFIGURATION)
    return configuration


def call(words: list[str], folder: Path) -> None:
    variables = os.environ | {"SUMO_HOME": str(SUMO)}
    subprocess.run(words, cwd=folder, env=variables, check=True, capture_output=True)
