"""The benchmark: one SUMO run for each scenario, controller and seed, judged by SUMO's own trip
records.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np

from headway.plants.sumo import SumoSettings, read_network
from headway.plants.sumo.scenarios import Scenario, scenario
from headway.plants.sumo.signal_record import read_states
from headway.roads import PROFILES, work_out
from headway.safety.audit import audit
from headway.street.closed_loop import open_street
from headway.values import Event


@dataclass(frozen=True, slots=True)
class Job:
    """One run to be made. scenario: a name of the catalogue, or the path of a .sumocfg. step_s: of
    the simulation.
    """

    scenario: str
    controller: str
    seed: int
    timing: str = "benchmark"
    sensing: str = "connected"
    scale: float = 1.0
    keep: str = ""
    step_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Result:
    """What one run came to; times in seconds, means over vehicles. error is empty where the run
    went to its end.
    """

    scenario: str
    controller: str
    seed: int
    timing: str
    sensing: str
    scale: float
    delay_s: float = float("nan")
    waiting_s: float = float("nan")
    duration_s: float = float("nan")
    person_waiting_s: float = float("nan")
    arrived: int = 0
    unfinished: int = 0
    never_entered: int = 0
    stops: float = float("nan")
    fuel_g: float = float("nan")
    co2_g: float = float("nan")
    safety_violations: int = 0
    interventions: int = 0
    wall_s: float = float("nan")
    decision_ms_p99: float = float("nan")
    error: str = ""

    def flat(self) -> dict[str, object]:
        return asdict(self)


def run_all(jobs: list[Job], workers: int) -> Iterator[Result]:
    """Run `jobs` over `workers` processes; results come as they are ready. A run that fails is a
    Result with an error.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(workers, len(jobs)), maxtasksperchild=8) as pool:
        yield from pool.imap_unordered(run_guarded, jobs)


def run_guarded(job: Job) -> Result:
    try:
        return run(job)
    except (ValueError, RuntimeError, OSError) as error:
        return Result(
            job.scenario,
            job.controller,
            job.seed,
            job.timing,
            job.sensing,
            job.scale,
            error=f"{type(error).__name__}: {error}",
        )


def run(job: Job) -> Result:
    """One run, from the scenario's begin to its end."""
    of = scenario(job.scenario)
    network = read_network(of.net)
    timing = work_out(network, PROFILES[job.timing])
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        trips, states = Path(folder) / "tripinfo.xml", Path(folder) / "tls.xml"
        additional = Path(folder) / "audit.add.xml"
        events = "".join(
            f'<timedEvent type="SaveTLSStates" source="{tl}" dest="{states}"/>'
            for j in network.junctions
            for tl in j.tl_ids
        )
        additional.write_text(f"<additional>{events}</additional>")
        extra = (
            *(("--step-length", f"{job.step_s:g}") if job.step_s != 1.0 else ()),
            "--tripinfo-output",
            str(trips),
            "--tripinfo-output.write-unfinished",
            "true",
            "--device.emissions.probability",
            "1",
            "--additional-files",
            str(additional),
        )
        interventions = [0]

        def count(event: Event) -> None:
            interventions[0] += event.kind.startswith("safety.")

        street = open_street(
            network,
            timing,
            SumoSettings(of.sumocfg, job.seed, job.scale, sensing=job.sensing, extra=extra),
            job.controller,
            count,
        )
        begun = time.perf_counter()
        try:
            while street.plant.time_s < of.end_s and (
                np.isfinite(of.end_s) or street.plant.running
            ):
                street.tick()
            wall = time.perf_counter() - begun
            pending = street.plant.pending()
        finally:
            street.plant.close()
        violations = audit(network, timing, read_states(states), grace_s=10.0)
        if job.keep:
            Path(job.keep).mkdir(parents=True, exist_ok=True)
            copyfile(trips, Path(job.keep) / f"{of.name}-{job.controller}-{job.seed}.tripinfo.xml")
        decisions = street.durations.table()[:, 1] * 1e3 / len(network.junctions)
        return Result(
            of.name,
            job.controller,
            job.seed,
            job.timing,
            job.sensing,
            job.scale,
            **judge(trips, pending, of),
            safety_violations=len(violations),
            interventions=interventions[0],
            wall_s=wall,
            decision_ms_p99=float(np.percentile(decisions, 99)),
        )


def judge(trips: Path, pending: dict[str, float], of: Scenario) -> dict[str, Any]:
    """The figures of merit, from SUMO's tripinfo and the vehicles that never entered (with their
    delay so far, s).
    """
    rows = []
    persons = []
    fuel = 0.0
    co2 = 0.0
    arrived = 0
    for _, item in ET.iterparse(trips):
        if item.tag == "tripinfo":
            rows.append(
                [
                    float(item.get(k, "0"))
                    for k in ("timeLoss", "departDelay", "waitingTime", "duration", "waitingCount")
                ]
            )
            arrived += float(item.get("arrival", "-1")) >= 0
            emissions = item.find("emissions")
            if emissions is not None:
                fuel += float(emissions.get("fuel_abs", "0")) / 1e3
                co2 += float(emissions.get("CO2_abs", "0")) / 1e3
            item.clear()
        elif item.tag == "personinfo":
            persons.append(sum(float(walk.get("timeLoss", "0")) for walk in item.findall("walk")))
            item.clear()
    table = np.array(rows).reshape(-1, 5)
    n = len(table) + len(pending)
    if not n:
        raise ValueError(
            f"{of.sumocfg}: no vehicle departed between {of.begin_s} and {of.end_s} s. Check "
            "begin, end and the routes."
        )
    return {
        "delay_s": float((table[:, 0].sum() + table[:, 1].sum() + sum(pending.values())) / n),
        "waiting_s": float(table[:, 2].mean()) if len(table) else float("nan"),
        "duration_s": float(table[:, 3].mean()) if len(table) else float("nan"),
        "person_waiting_s": float(np.mean(persons)) if persons else float("nan"),
        "arrived": arrived,
        "unfinished": len(table) - arrived,
        "never_entered": len(pending),
        "stops": float(table[:, 4].mean()) if len(table) else float("nan"),
        "fuel_g": fuel / max(len(table), 1),
        "co2_g": co2 / max(len(table), 1),
    }
