"""Rows A: the real-time optimisation loop and its safety systems."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from tests.requirements.event_logs import events_of
from tests.requirements.own_processes import family, resident_kb
from tests.waiting import until
from websockets.sync.client import connect

from headway.control.fixed import FixedTime
from headway.control.qtable import QTable, mix
from headway.control.webster import CycleBounds, splits, webster_cycle
from headway.plants.sumo import SumoSettings, read_network
from headway.plants.sumo.scenarios import scenario
from headway.roads import STREET, work_out
from headway.service.streets import StreetService
from headway.settings import Settings
from headway.street.messages import JunctionState, Snapshot, Task
from headway.street.opening import open_street

STREET_PATH = "/api/v1/engine/streets/headway"


def state_of(client):
    """The state of the street "headway"; it may take a while to be known."""
    state = {}

    def is_known():
        state.update(client.get(STREET_PATH).raise_for_status().json())
        return state.get("junctions")

    until(is_known, 120.0)
    return state


@contextlib.contextmanager
def live(product, topic, **query):
    """The messages of a live stream that have data (heartbeats have none); 60 s each at most."""
    words = httpx.QueryParams({"token": product.token, "street": "headway"} | query)
    with connect(f"{product.url.replace('http', 'ws')}/ws/{topic}?{words}") as socket:
        messages = map(json.loads, iter(lambda: socket.recv(timeout=60.0), ""))
        yield (message for message in messages if "data" in message)


def worker_of(product):
    """The process of the one street."""
    return next(p for p in family(product.process.pid) if has_sumo(p))


def has_sumo(pid):
    with contextlib.suppress(OSError):
        return "libsumo" in Path(f"/proc/{pid}/maps").read_text()
    return False


@pytest.mark.row("A1")
def test_a1_the_optimisation_cycle_keeps_its_period(headway, tmp_path, figures):
    """`headway run --config FILE` with `loop: {cycle_s: 30}`: an event `engine.cycle` each cycle,
    with `processing_ms`.
    """
    config = tmp_path / "settings.yaml"
    config.write_text("loop: {cycle_s: 20}\n")
    for name, arguments in {"default": (), "configured": ("--config", str(config))}.items():
        street = (
            "run",
            "--scenario",
            "cologne8",
            "--until",
            "25441",
            "--data",
            str(tmp_path / name),
        )
        done = headway(*street, *arguments)
        assert done.returncode == 0, done.stderr
    default, configured = (
        events_of(tmp_path / n, "engine.cycle") for n in ("default", "configured")
    )
    assert [e["at_s"] - 25200 for e in default] == list(range(30, 241, 30))
    assert [e["at_s"] - 25200 for e in configured] == list(range(20, 241, 20))
    longest = max(e["data"]["processing_ms"] for e in default)
    figures.add("processing of a cycle, 8 junctions", longest / 1e3, "s", "< 25 s")


@pytest.mark.row("A1")
def test_a1_no_drift_and_jitter_and_overruns_are_reported(serve, figures):
    """`GET /api/v1/engine/streets/NAME` at real time: `time_s` goes with the wall clock, beside
    `jitter_p99_s` and `overruns`.
    """
    options = ("--scenario", "cologne1", "--no-baseline", "--speed-factor", "1")
    with serve(*options, "--per-minute", "0") as product, product.http() as client:
        begun, began_s = state_of(client), time.monotonic()
        time.sleep(20.0)
        now, passed_s = state_of(client), time.monotonic() - began_s
    drift_s = now["time_s"] - begun["time_s"] - passed_s
    # a tick is a second: the first and the last one read may be up to one old each
    assert abs(drift_s) < 2.1 + now["overruns"]
    assert now["jitter_p99_s"] > 0.0
    figures.add("drift over 20 s, read to a second", drift_s, "s", "no drift")
    figures.add("jitter of the tick, p99", 1e3 * now["jitter_p99_s"], "ms", "measured")
    figures.add("overruns in 20 s", now["overruns"], "", "measured")


@pytest.mark.row("A2")
def test_a2_junctions_updated_at_once(figures):
    """`GET /api/v1/engine/streets/NAME` of several streets: each one's thread puts its newest state
    in place whole. Here ten streets report 1,000 states of ten junctions each, in place of SUMO,
    all at once, while four readers look a thousand times a second.
    """
    at_once = threading.Barrier(11)
    service = StreetService(make_engine=lambda task: Reports(task, at_once))
    task = Task(Settings.model_validate({"street": {"scenario": "cologne8"}}))
    stop, torn, reads = threading.Event(), [], []

    def read():
        while not stop.is_set():
            for street in list(service.streets.values()):
                if (seen := street.snapshot) is not None:
                    reads.append(seen.time_s)
                    times = {state.at_s for state in seen.junctions} | {seen.time_s}
                    torn.extend([times] if len(times) > 1 else [])
            time.sleep(0.001)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    streets = [service.start(f"street {k}", task) for k in range(10)]
    at_once.wait(60.0)
    begun = time.perf_counter()
    for street in streets:
        street.thread.join()
    took_s = time.perf_counter() - begun
    stop.set()
    for reader in readers:
        reader.join()
    assert [street.snapshot.time_s for street in streets] == [999.0] * 10
    assert reads
    assert torn == []
    figures.add("10,000 states of 10 streets beside four readers", took_s, "s", "< 2 s")


class Reports:
    """An engine that reports 1,000 states of ten junctions, once the others are there too."""

    def __init__(self, task, at_once):
        self.task, self.at_once, self.is_restarting = task, at_once, False

    def messages(self):
        self.at_once.wait(60.0)
        for k in range(1000):
            junctions = tuple(
                JunctionState(f"J{j}", float(k), k, 0, 0.0, (), 1.0) for j in range(10)
            )
            yield Snapshot(
                time_s=float(k),
                begin_s=0.0,
                end_s=1000.0,
                vehicles=k,
                stopped=0,
                source="controller",
                interventions=0,
                cycles=0,
                overruns=0,
                jitter_p99_s=0.0,
                tick_ms=0.0,
                checkpoint_s=0.0,
                trouble="",
                junctions=junctions,
            )

    def stop(self):
        pass


class Unsure(FixedTime):
    """Trusts itself until 60 s into the run, but then not at the second junction any more."""

    def step(self, observation, state):
        proposal, state = super().step(observation, state)
        confidence = np.ones(3)
        confidence[1] = 0.3 if observation.at_s >= 25260.0 else 1.0
        return replace(proposal, confidence=confidence), state


class Stuck:
    """A detector that shows the same picture for ever, from 60 s into the run on."""

    def __init__(self, observe):
        self._observe, self._kept = observe, None

    def __call__(self):
        seen = self._observe()
        if self._kept is None and seen.at_s >= 25260.0:
            self._kept = seen.vehicles
        return replace(seen, vehicles=self._kept or seen.vehicles)


@pytest.mark.row("A4")
def test_a4_a_confidence_with_its_factors(product, figures):
    """`GET /api/v1/engine/streets/{name}`: of each junction `confidence` and its `factors`, also in
    the page's table of junctions and in the event `engine.fallback`. `python -m bench confidence`
    shows that it falls where the planner is worse than its fallback.
    """
    with product.http() as client:
        junction = state_of(client)["junctions"][0]
    names = {"completeness", "freshness", "novelty", "detection", "agreement", "performance"}
    assert junction["factors"].keys() == names
    assert 0.4 < junction["confidence"] <= 1.0

    network = read_network(scenario("cologne1").net)
    sumo = SumoSettings(scenario("cologne1").sumocfg)
    events = []
    street = open_street(network, work_out(network, STREET), sumo, "planner", events.append)
    street.plant.observe = Stuck(street.plant.observe)
    try:
        while street.observation.at_s < 25270.0:
            street.tick()
    finally:
        street.plant.close()
    left = next(e for e in events if e.kind == "engine.fallback")
    assert (left.data["freshness"], left.data["completeness"]) == (0.4, 1.0)
    assert left.data["confidence"] < 0.4, "freshness, and what the others take off"
    figures.add("a picture that stands still: seconds to the fallback", left.at_s - 25260.0, "s")


@pytest.mark.row("A5")
def test_a5_the_fallback_takes_over_the_junction_that_is_unsure(figures):
    """Setting `control.confidence`: below it, the event `engine.fallback` names the junction, its
    confidence and what decides instead; `engine.fallback_ended` when it is over.
    """
    network = read_network(scenario("cologne3").net)
    timing = work_out(network, STREET)
    events = []
    sumo = SumoSettings(scenario("cologne3").sumocfg)
    street = open_street(network, timing, sumo, "fixed", events.append)
    street.controller = Unsure(network, timing)
    try:
        while street.observation.at_s < 25262.0:
            street.tick()
    finally:
        street.plant.close()
    left = [(e.at_s, e.junction, e.data["fallback"]) for e in events if e.kind == "engine.fallback"]
    assert left == [(25260.0, network.junctions[1].id, "webster")]
    tick_s = float(street.durations.table()[60].sum())
    figures.add(
        "from low confidence to the fallback's colours: the same tick", tick_s, "s", "< 1 s"
    )


@pytest.mark.row("A6")
def test_a6_webster_by_the_book(headway, tmp_path):
    """`headway run --controller webster`, or as the fallback of any other: cycle and splits by
    Webster's formula from the flows that were measured.
    """
    # C = (1.5 * 10 + 5) / (1 - 0.6), and the splits of C - 10 s in proportion to the flow ratios
    ratios, bounds = np.array([0.4, 0.2]), CycleBounds(40.0, 120.0)
    assert webster_cycle(ratios, 10.0, bounds) == pytest.approx(50.0)
    assert splits(ratios, 50.0, 10.0, np.zeros(2)) == pytest.approx([26.667, 13.333], abs=1e-3)
    assert webster_cycle(ratios * 1.7, 10.0, bounds) == 120.0, "Y = 1.02: the longest cycle"
    assert webster_cycle(ratios * 0.1, 10.0, bounds) == 40.0, "next to no traffic: the shortest"
    street = ("--scenario", "cologne1", "--controller", "webster", "--until", "25800")
    done = headway("run", *street, "--data", str(tmp_path))
    assert done.returncode == 0, done.stderr


@pytest.mark.row("A9")
def test_a9_a_street_that_dies_comes_back_with_its_order(serve, figures):
    """Kill the process of a street: `engine.restarted` on `/ws/alerts` with its reason, and the run
    goes on from its last checkpoint, with the operator's order still in force.
    """
    settings = ("--scenario", "cologne1", "--no-baseline", "--speed-factor", "10")
    with serve(*settings, "--per-minute", "0") as product, product.http() as client:
        until(lambda: state_of(client)["time_s"] > 25230.0)
        junction = state_of(client)["junctions"][0]["id"]
        order = {"order": "hold", "lasts_s": 3600.0}
        client.post(f"{STREET_PATH}/junctions/{junction}/override", json=order).raise_for_status()
        until(lambda: events_of(product.folder / "headway", "safety.override"))
        until(lambda: state_of(client)["checkpoint_s"] > 25230.0)
        with live(product, "alerts") as alerts:
            os.kill(worker_of(product), signal.SIGKILL)
            killed_at = time.monotonic()
            told = next(a for a in alerts if a["data"]["kind"] == "engine.restarted")
            restarted_s = time.monotonic() - killed_at
        reached_s = state_of(client)["time_s"]
        until(lambda: state_of(client)["time_s"] > reached_s)
        (resumed,) = events_of(product.folder / "headway", "engine.restored")
        assert resumed["at_s"] >= 25230.0
        assert "SIGKILL" in told["data"]["why"]
        client.post(
            f"{STREET_PATH}/junctions/{junction}/override", json={"order": "release"}
        ).raise_for_status()
        until(lambda: events_of(product.folder / "headway", "safety.override_released"))
    figures.add("from the death of a street's process to its restart", restarted_s, "s", "< 5 s")


@pytest.mark.row("A10")
def test_a10_safety_live(product):
    """`/ws/monitoring` with `kinds=safety`: each event of the gate; `interventions` in the state of
    the street; `headway_safety_events` at `/metrics`.
    """
    with product.http() as client, live(product, "monitoring", kinds="safety") as events:
        junction = state_of(client)["junctions"][0]["id"]
        order = {"order": "flash", "lasts_s": 30.0}
        client.post(f"{STREET_PATH}/junctions/{junction}/override", json=order).raise_for_status()
        event = next(e for e in events if e["data"]["kind"] == "safety.override")
        assert (event["data"]["junction"], event["data"]["data"]["order"]) == (junction, "flash")
        until(lambda: state_of(client)["interventions"] > 0)
        lines = client.get("/metrics").text.splitlines()
        assert [v for v in lines if v.startswith('headway_safety_events{street="headway"}')]


@pytest.mark.row("A11")
def test_a11_q_table(tmp_path, figures):
    """Python: `headway.control.qtable.QTable(actions, rows, path)`; with a path it is a mapped file
    that survives its process. `python -m bench qtable`.
    """
    keys = mix(np.arange(10_000)[:, None])
    table = QTable(actions=4, rows=1 << 16, path=tmp_path / "q.table")
    action, step = np.array([2]), np.array([0.5], np.float32)
    table.add(keys[:0], action[:0], step[:0])  # compiled
    table.get(keys[:1])
    begun = time.perf_counter()
    for k in range(10_000):
        table.add(keys[k : k + 1], action, step)
        table.get(keys[k : k + 1])
    took_s = time.perf_counter() - begun
    begun = time.perf_counter()
    for k in range(1000):
        table.get(keys[k : k + 1])
    look_up_s = (time.perf_counter() - begun) / 1000
    table.flush()
    values, visits = QTable(actions=4, rows=1 << 16, path=tmp_path / "q.table").get(keys)
    assert (values == [0.0, 0.0, np.float32(0.5), 0.0]).all()
    assert (visits == [0, 0, 1, 0]).all()
    figures.add("10,000 values set and read, one by one", took_s, "s", "< 1 s")
    figures.add("one look-up", look_up_s * 1e3, "ms", "< 1 ms")


@pytest.mark.row("A12")
def test_a12_memory(tmp_path, figures):
    """`headway run`: the memory of all its processes; `python -m bench memory` for a day."""
    command = [sys.executable, "-m", "headway", "run", "--scenario", "grid4x4"]
    arguments = ["--until", "1200", "--data", str(tmp_path)]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL) as process:
        peak = [0, 0]  # kB, in the first and in the second half
        while process.poll() is None:
            log = tmp_path / "events.jsonl"
            half = int(log.exists() and len(events_of(tmp_path, "engine.cycle")) >= 20)
            peak[half] = max(peak[half], sum(map(resident_kb, family(process.pid))))
            time.sleep(0.2)
    assert process.returncode == 0
    assert peak[1] < 1_000_000, "kB"
    figures.add("16 junctions, all processes, peak", peak[1] / 1e3, "MB", "< 1 GB for 10 junctions")
    figures.add("second 10 minutes against the first", peak[1] / peak[0], "", "stable")
