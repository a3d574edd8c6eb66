"""How fast, as ratios in one run beside the bare thing."""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from tempfile import TemporaryDirectory

import numpy as np
from tests.safety.copies import many

from headway.control.catalogue import controller as controller_by_name
from headway.control.qtable import QTable
from headway.plants.sumo import SumoSettings, network_of
from headway.plants.sumo.scenarios import scenario
from headway.roads import BENCHMARK, Network, Timing, work_out
from headway.safety import SafetyGate
from headway.street.opening import open_street
from headway.values import Observation, Proposal

WARM_TICKS = 60  # left out: caches and the branch predictor are cold, and the network is empty

BARE = """
import sys, time, libsumo
from headway.plants.sumo import SumoSettings
from headway.plants.sumo.scenarios import scenario
of = scenario(sys.argv[1])
libsumo.start(SumoSettings(of.sumocfg).arguments())
begun = time.perf_counter()
while libsumo.simulation.getTime() < of.end_s:
    libsumo.simulationStep()
print(time.perf_counter() - begun)
"""
LOOP = """
import sys, time, numpy as np
from pathlib import Path
from headway.street.event_log import EventLog
from headway.street.opening import open_street
from headway.plants.sumo import SumoSettings
from headway.roads import BENCHMARK, work_out
from headway.plants.sumo import network_of
from headway.plants.sumo.scenarios import scenario
of = scenario(sys.argv[1])
network = network_of(of)
log = EventLog(Path(sys.argv[2]) / "events.jsonl")
timing, settings = work_out(network, BENCHMARK), SumoSettings(of.sumocfg)
street = open_street(network, timing, settings, "planner", log.append)
begun = time.perf_counter()
while street.plant.time_s < of.end_s:
    street.tick()
    log.flush()
wall = time.perf_counter() - begun
parts = street.durations.table()
print(wall, np.percentile(parts[:, 1], 99) * 1e3, *parts.sum(axis=0))
"""


def loop() -> None:
    """Wall time of bare libsumo stepping / wall time of the whole loop (observe, plan, gate,
    record, apply, advance); to reach: 0.40.
    """
    with TemporaryDirectory() as folder:
        for name in ("cologne8", "ingolstadt21"):
            pairs = []
            for _ in range(3):
                bare = float(
                    subprocess.run(
                        [sys.executable, "-c", BARE, name],
                        capture_output=True,
                        text=True,
                        check=True,
                    ).stdout
                )
                whole = subprocess.run(
                    [sys.executable, "-c", LOOP, name, folder],
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout.split()
                pairs.append((bare, *map(float, whole)))
            best = sorted(pairs, key=lambda p: p[0] / p[1])[1]
            parts = ", ".join(
                f"{n} {s:.2f}"
                for n, s in zip(
                    ("observe", "decide", "gate", "apply", "advance"), best[3:], strict=True
                )
            )
            print(
                f"{name:13s} ratio {best[0] / best[1]:.2f} (median of 3; bare {best[0]:.2f} s, "
                f"loop {best[1]:.2f} s: {parts}); "
                  f"decision of all junctions p99 {best[2]:.2f} ms")  # fmt: skip


def qtable() -> None:
    """Batch look-ups in the Q-table / a bare NumPy gather of the same size, of other keys and rows
    each time; to reach: at most 4.
    """
    random = np.random.default_rng(1)
    table = QTable(8, 1 << 20)
    keys = random.integers(1, 2**63, 200_000).astype(np.uint64)
    table.add(keys, random.integers(0, 8, len(keys)), np.ones(len(keys), np.float32))
    bare = np.ones((1 << 20, 8), np.float32)
    batches = [keys[random.integers(0, len(keys), 10_000)] for _ in range(20)]
    rows = [random.integers(0, 1 << 20, 10_000) for _ in range(20)]
    table.get(batches[0])  # compiled
    ours = min(seconds(lambda wanted=wanted: table.get(wanted)) for wanted in batches)
    theirs = min(seconds(lambda places=places: bare[places]) for places in rows)
    print(
        f"10,000 look-ups: {ours * 1e3:.3f} ms, gather {theirs * 1e3:.3f} ms, "
        f"ratio {ours / theirs:.2f}"
    )
    one = keys[:1]

    def set_and_get() -> None:
        for _ in range(10_000):
            table.add(one, np.zeros(1, np.int64), np.ones(1, np.float32))
            table.get(one)

    print(f"10,000 set and get, one by one: {best_of(set_and_get, 1):.3f} s")


def gate() -> None:
    """1,000 junctions through the gate in one tick; to reach: 50 ms."""
    network = many(network_of(scenario("cologne1")), 1000)
    timing = work_out(network, BENCHMARK)
    shield = SafetyGate(network, timing, 0.0)
    random, sure = np.random.default_rng(1), np.ones(1000)
    durations = []
    for second in range(60):
        wanted = np.concatenate(
            [j.stages[random.integers(len(j.stages))] for j in network.junctions]
        )
        begun = time.perf_counter()
        shield.admit(Proposal(float(second), "bench", wanted, sure), float(second))
        durations.append(time.perf_counter() - begun)
    print(
        f"{len(network.groups)} signal groups: median {np.median(durations[5:]) * 1e3:.2f} "
        f"ms, p99 {np.percentile(durations[5:], 99) * 1e3:.2f} ms a tick"
    )


def kernels() -> None:
    """Microseconds of the planner and of the gate a tick, on recorded observations (3 scenarios).

    The first 600 s of each, all junctions; median and 95th percentile.
    """
    for name in ("cologne8", "ingolstadt21", "grid4x4"):
        network = network_of(scenario(name))
        timing = work_out(network, BENCHMARK)
        observations = recorded(name, network, timing)
        planner = controller_by_name("planner", network, timing)
        shield = SafetyGate(network, timing, observations[0].at_s)
        state = planner.start(observations[0])
        spent = []
        for now, then in pairwise(observations):
            begun = time.perf_counter()
            proposal, state = planner.step(now, state)
            decided = time.perf_counter()
            command = shield.admit(proposal, now.at_s, now)
            spent.append((decided - begun, time.perf_counter() - decided))
            assert (command.colours == then.shown).all(), f"{name}: {now.at_s}: not as recorded"
        parts = np.array(spent[WARM_TICKS:]).T * 1e6
        print(
            f"{name:13s} {len(network.groups):4d} signal groups, {parts.shape[1]} ticks:"
            + ";".join(
                f" {part} {np.median(took):.0f} us, p95 {np.percentile(took, 95):.0f} us"
                for part, took in zip(("planner", "gate"), parts, strict=True)
            )
        )


def recorded(name: str, network: Network, timing: Timing, ticks: int = 600) -> list[Observation]:
    """What the planner got in the first ticks of a scenario, seed 1."""
    settings = SumoSettings(scenario(name).sumocfg)
    street = open_street(network, timing, settings, "planner", record=lambda event: None)
    found = []
    try:
        for _ in range(ticks):
            street.tick()
            found.append(copy.deepcopy(street.observation))
    finally:
        street.plant.close()
    return found


def seconds(work: Callable[[], object]) -> float:
    """Wall time of `work`, once."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def best_of(work: Callable[[], object], times: int = 20) -> float:
    """Shortest wall time of `work`, seconds, after a first call."""
    work()
    return min(seconds(work) for _ in range(times))
