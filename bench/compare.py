"""How good: Headway beside its peers on the eight scenarios, judged by SUMO's own trip records."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections import defaultdict
from pathlib import Path

import libsumo
import numpy as np

from headway.control.qlearning import TABLE
from headway.control.qtable import QTable
from headway.experiments.benchmark import Job, judge
from headway.experiments.processes import run_all
from headway.learning.training import TrainingSettings, train
from headway.plants.sumo import SumoSettings, network_of
from headway.plants.sumo.scenarios import RESCO, scenario
from headway.roads import BENCHMARK, work_out

NO_RIGHT_OF_WAY = (
    1 + 2 + 4 + 32
)  # SUMO: safe speed and its accelerations, but neither right of way nor foes within a junction
SEEDS = (1, 2, 3)
MUST = dict(zip(RESCO, (13.6, 15.5, 12.8, 10.7, 18.0, 50.0, 15.9, 640.0), strict=True))
AIM = dict(zip(RESCO, (12.0, 13.5, 11.5, 10.0, 16.0, 40.0, 14.5, 450.0), strict=True))


def peer(job: tuple[str, str, int]) -> tuple[str, str, int, float]:
    """A run without Headway: `floor` (all green, conflicts ignored: what no control can undercut)
    or SUMO's own actuated control.
    """
    name, kind, seed = job
    of = scenario(name)
    network = network_of(of)
    with tempfile.TemporaryDirectory() as folder:
        trips, more = Path(folder) / "trips.xml", Path(folder) / "add.xml"
        more.write_text(
            "<additional>"
            + ("".join(actuated(of.net)) if kind == "sumo-actuated" else "")
            + "</additional>"
        )
        extra = (
            "--tripinfo-output",
            str(trips),
            "--tripinfo-output.write-unfinished",
            "true",
            "--collision.action",
            "none",
        )
        libsumo.start(
            SumoSettings(of.sumocfg, seed, extra=extra, additional=(str(more),)).arguments()
        )
        if kind == "floor":
            for tl in (t for j in network.junctions for t in j.tl_ids):
                libsumo.trafficlight.setRedYellowGreenState(
                    tl, "G" * len(libsumo.trafficlight.getRedYellowGreenState(tl))
                )
        while libsumo.simulation.getTime() < of.end_s:
            libsumo.simulationStep()
            if kind == "floor":
                for vehicle in libsumo.simulation.getDepartedIDList():
                    libsumo.vehicle.setSpeedMode(vehicle, NO_RIGHT_OF_WAY)
        pending = {
            v: float(libsumo.vehicle.getDepartDelay(v))
            for v in libsumo.simulation.getPendingVehicles()
        }
        libsumo.close()
        return name, kind, seed, judge(trips, pending, of)["delay_s"]


def actuated(net: str) -> list[str]:
    """The network's programmes again, as SUMO's gap-based actuated ones, greens from 5 to 50 s."""
    import xml.etree.ElementTree as ET

    out = []
    for logic in ET.parse(net).getroot().iter("tlLogic"):
        phases = []
        for phase in logic.findall("phase"):
            state, green = phase.get("state", ""), "y" not in phase.get("state", "")
            bounds = ' minDur="5" maxDur="50"' if green else ""
            phases.append(f'<phase duration="{phase.get("duration")}" state="{state}"{bounds}/>')
        out.append(
            f'<tlLogic id="{logic.get("id")}" type="actuated" programID="gap" '
            f'offset="0">{"".join(phases)}</tlLogic>'
        )
    return out


def runs(controllers: tuple[str, ...], **kwargs: object) -> dict[tuple[str, str], list]:  # type: ignore[type-arg]
    found = defaultdict(list)
    jobs = [Job(n, c, s, **kwargs) for s in SEEDS for n in RESCO for c in controllers]  # type: ignore[arg-type]
    for result in run_all(jobs, multiprocessing.cpu_count()):
        found[result.scenario, result.controller].append(result)
        if result.error:
            print(f"  FAILED {result.scenario} {result.controller} {result.seed}: {result.error}")
    return found


def table() -> None:
    """Mean delay, seconds a vehicle, seeds 1-3, benchmark timing, connected sensing."""
    names = ("fixed", "webster", "actuated", "greedy", "max-pressure", "planner")
    mine = runs(names)
    peers = defaultdict(list)
    jobs = [
        (n, k, s)
        for n in RESCO
        for k, seeds in (("floor", (1,)), ("sumo-actuated", SEEDS))
        for s in seeds
    ]
    with multiprocessing.get_context("spawn").Pool(maxtasksperchild=4) as pool:
        for name, kind, _, delay in pool.imap_unordered(peer, jobs):
            peers[name, kind].append(delay)
    print(f"{'scenario':13s}{'floor':>7s}{'fixed':>8s}{'SUMO act.':>10s}"
          f"{'webster':>9s}{'actuated':>9s}{'greedy':>8s}{'max-pr.':>8s}"
          f"{'PLANNER':>9s}{'of fixed':>9s}{'must':>7s}{'aim':>7s}  seeds  unsafe")  # fmt: skip
    for name in RESCO:
        mean = {c: np.mean([r.delay_s for r in mine[name, c]]) for c in names}
        own = sorted(mine[name, "planner"], key=lambda r: r.seed)
        unsafe = sum(r.safety_violations for c in names for r in mine[name, c])
        print(f"{name:13s}{np.mean(peers[name, 'floor']):7.1f}{mean['fixed']:8.1f}"
              f"{np.mean(peers[name, 'sumo-actuated']):10.1f}{mean['webster']:9.1f}"
              f"{mean['actuated']:9.1f}{mean['greedy']:8.1f}{mean['max-pressure']:8.1f}"
              f"{mean['planner']:9.2f}{mean['planner'] / mean['fixed']:9.2f}"
              f"{MUST[name]:7.1f}{AIM[name]:7.1f}  "
              f"{' '.join(f'{r.delay_s:.1f}' for r in own)}  {unsafe}")  # fmt: skip


def street() -> None:
    """Street timing: mean wait of the planner, as a ratio to the network's own fixed programme (to
    reach: 0.55; arterial4x4 0.70).
    """
    found = runs(("fixed", "planner"), timing="street")
    for name in RESCO:
        fixed, planner = ([r.waiting_s for r in found[name, c]] for c in ("fixed", "planner"))
        unsafe = sum(r.safety_violations for c in ("fixed", "planner") for r in found[name, c])
        print(
            f"{name:13s} fixed {np.mean(fixed):7.1f} s   planner {np.mean(planner):7.1f} s "
            f"  ratio {np.mean(planner) / np.mean(fixed):.2f}   unsafe {unsafe}"
        )


def sensing() -> None:
    """What is left of the gain with lesser equipment: mean delay of the planner, benchmark
    timing.
    """
    found = {s: runs(("planner",), sensing=s) for s in ("connected", "camera", "loops")}
    base = runs(("fixed",))
    for name in RESCO:
        fixed = np.mean([r.delay_s for r in base[name, "fixed"]])
        row = {s: np.mean([r.delay_s for r in found[s][name, "planner"]]) for s in found}
        text = "   ".join(f"{s} {d:7.1f} s ({d / fixed:.2f})" for s, d in row.items())
        print(f"{name:13s} fixed {fixed:7.1f} s   {text}")


def learning(episodes: int = 40) -> None:
    """Q-learning after training of 40 episodes a scenario (on other seeds than those reported),
    beside what it falls back to and the planner.
    """
    for name in ("cologne1", "cologne3", "ingolstadt1"):
        of = scenario(name)
        network = network_of(of)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "q.table"
            settings = TrainingSettings(episodes=episodes)
            table = QTable(max(len(j.stages) for j in network.junctions), settings.rows, path)
            told = list(train(of, network, work_out(network, BENCHMARK), table, settings))
            os.environ[TABLE] = str(path)
            found = defaultdict(list)
            jobs = [
                Job(name, c, s)
                for s in SEEDS
                for c in ("webster", "greedy", "q-learning", "planner")
            ]
            for result in run_all(jobs, multiprocessing.cpu_count()):
                found[result.controller].append(result.delay_s)
            del os.environ[TABLE]
        row = "   ".join(f"{c} {np.mean(d):.1f} s" for c, d in sorted(found.items()))
        print(
            f"{name:13s} {row}   (stopped in training {told[0].stopped:.1f} to "
            f"{told[-1].stopped:.1f}, {told[-1].states} states)"
        )
