"""Whether the planner's confidence falls where the planner is worse than its fallback.

From a quarter of an hour into each run on, the street sees what a fault of the equipment leaves of
the traffic. Lanes go blind under `camera`, since vehicles that report themselves (`connected`) have
no detector that could. Who decides: always the planner, always its fallback, or the one that the
confidence says ("chosen").
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from headway.experiments.benchmark import judge
from headway.plants.sumo import SumoSettings, network_of, scenario
from headway.roads import PROFILES, Network, work_out
from headway.street.closed_loop import Street
from headway.street.opening import open_street
from headway.values import Observation, Vehicles

SCENARIOS = ("cologne1", "ingolstadt1", "cologne3")
THRESHOLD = 0.4  # as `control.confidence` has by default
PHANTOMS_M = (1.0, 8.5, 16.0)
BEGINS_AFTER = 900  # ticks, seconds
BANDS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
Distortion = Callable[[Observation], Observation]


# what goes wrong, and how badly


def phantoms(network: Network, share: float) -> Distortion:
    """Three vehicles that stand for ever before `share` of the stop lines."""
    lanes = stop_lanes(network, share)
    links = {link.from_lane: i for i, link in enumerate(network.links) if link.group >= 0}
    lane = np.repeat(np.array(lanes, np.int32), len(PHANTOMS_M))
    n = len(lane)
    link = np.array([links[i] for i in lane.tolist()], np.int32)

    def distort(seen: Observation) -> Observation:
        v = seen.vehicles
        extra = Vehicles(
            lane=lane,
            link=link,
            distance_m=np.tile(PHANTOMS_M, len(lanes)),
            speed_mps=np.zeros(n),
            waiting_s=np.full(n, 60.0),
            length_m=np.full(n, 7.5),
            emergency=np.zeros(n, np.bool_),
        )
        return replace(seen, vehicles=joined(v, extra))

    return distort


def blind(network: Network, share: float) -> Distortion:
    """Nobody is seen in `share` of the lanes that lead to a signal."""
    lost = stop_lanes(network, share)
    is_lost = np.array([link.from_lane in lost for link in network.links])

    def distort(seen: Observation) -> Observation:
        vehicles = rows_of(seen.vehicles, ~np.isin(seen.vehicles.lane, lost))
        return replace(seen, vehicles=vehicles, arrived=np.where(is_lost, 0, seen.arrived))

    return distort


def without_links(network: Network, share: float) -> Distortion:
    """The link of `share` of the vehicles is unknown."""
    random = np.random.default_rng(1)

    def distort(seen: Observation) -> Observation:
        lost = random.random(len(seen.vehicles)) < share
        link = np.where(lost, -1, seen.vehicles.link).astype(np.int32)
        return replace(seen, vehicles=replace(seen.vehicles, link=link))

    return distort


def late(network: Network, share: float) -> Distortion:
    """The vehicles of up to 40 s ago, stamped as new."""
    past: deque[Vehicles] = deque(maxlen=1 + round(40 * share))

    def distort(seen: Observation) -> Observation:
        past.append(seen.vehicles)
        return replace(seen, vehicles=past[0])

    return distort


def frozen(network: Network, share: float) -> Distortion:
    """The same vehicles for `share` of every ten minutes."""
    kept: list[Vehicles] = []

    def distort(seen: Observation) -> Observation:
        if seen.at_s % 600.0 >= 600.0 * share or not kept:
            kept[:] = [seen.vehicles]
            return seen
        return replace(seen, vehicles=kept[0], arrived=np.zeros_like(seen.arrived))

    return distort


def stop_lanes(network: Network, share: float) -> list[int]:
    lanes = sorted({link.from_lane for link in network.links if link.group >= 0})
    picked = np.random.default_rng(1).permutation(len(lanes))[: round(share * len(lanes))]
    return [lanes[i] for i in picked]


def rows_of(vehicles: Vehicles, rows: Any) -> Vehicles:
    return Vehicles(*(getattr(vehicles, name)[rows] for name in Vehicles.__slots__))


def joined(a: Vehicles, b: Vehicles) -> Vehicles:
    columns = ((getattr(a, name), getattr(b, name)) for name in Vehicles.__slots__)
    return Vehicles(*(np.concatenate(pair).astype(pair[0].dtype) for pair in columns))


FAULTS = {f.__name__: f for f in (phantoms, blind, without_links, late, frozen)}
SHARES = (0.25, 0.5, 1.0)


# the runs


@dataclass(frozen=True)
class Run:
    """decides: "planner" (always), "fallback" (always) or "confidence"."""

    scenario: str
    fault: str
    share: float
    decides: str


@dataclass(frozen=True)
class Outcome:
    run: Run
    delay_s: float
    confidence: float
    low_share: float


def outcome(run: Run) -> Outcome:
    """Of an hour of the scenario, seed 1."""
    site = scenario(run.scenario)
    network = network_of(site)
    timing = work_out(network, PROFILES["benchmark"])
    with TemporaryDirectory() as folder:
        trips = Path(folder) / "trips.xml"
        extra = ("--tripinfo-output", str(trips), "--tripinfo-output.write-unfinished", "true")
        emissions = ("--device.emissions.probability", "1")
        sensing = "camera" if run.fault == blind.__name__ else "connected"
        sumo = SumoSettings(
            sumocfg=site.sumocfg, seed=1, extra=(*extra, *emissions), sensing=sensing
        )
        controller = "webster" if run.decides == "fallback" else "planner"
        threshold = THRESHOLD if run.decides == "confidence" else 0.0
        street = open_street(
            network, timing, sumo, controller, lambda _: None, confidence_threshold=threshold
        )
        if run.fault:
            mislead(street, FAULTS[run.fault](network, run.share))
        confidence = []
        try:
            while street.plant.time_s < site.end_s:
                street.tick()
                confidence.append(street.trust.of_junction)
            pending = street.plant.pending()
        finally:
            street.plant.close()
        table = np.array(confidence)[BEGINS_AFTER:]
        delay_s = judge(trips, pending, site)["delay_s"]
        return Outcome(run, delay_s, float(table.mean()), float((table < THRESHOLD).mean()))


def mislead(street: Street, distort: Distortion) -> None:
    """What the plant of `street` observes is distorted from the tick BEGINS_AFTER on."""
    observe, ticks = street.plant.observe, count()

    def distorted() -> Observation:
        return distort(observe()) if next(ticks) >= BEGINS_AFTER else observe()

    street.plant.observe = distorted  # type: ignore[method-assign]


def runs() -> Iterator[Run]:
    for name in SCENARIOS:
        for fault, share in [("", 0.0), *((f, s) for f in FAULTS for s in SHARES)]:
            for decides in ("planner", "fallback", "confidence"):
                yield Run(name, fault, share, decides)


def confidence() -> None:
    """Whether the planner's confidence falls where the planner is worse than its fallback."""
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=8) as pool:
        found = {o.run: o for o in pool.imap_unordered(outcome, runs())}
    heads = (
        "scenario",
        "fault",
        "share",
        "confidence",
        "below 0.4",
        "planner",
        "fallback",
        "chosen",
    )
    print("{:13} {:14} {:>5}  {:>10}  {:>9}  {:>8}  {:>8}  {:>8}".format(*heads))
    points = []
    for run in runs():
        if run.decides != "planner":
            continue
        planner, fallback, chosen = (
            found[replace(run, decides=d)] for d in ("planner", "fallback", "confidence")
        )
        points.append((planner.confidence, planner.delay_s < fallback.delay_s))
        print(
            f"{run.scenario:13} {run.fault or '-':14} {run.share:5.2f}  {planner.confidence:10.2f}"
            f"  {planner.low_share:9.0%}  {planner.delay_s:8.1f}  {fallback.delay_s:8.1f}"
            f"  {chosen.delay_s:8.1f}"
        )
    print_calibration(points)


def print_calibration(points: list[tuple[float, bool]]) -> None:
    """How often the planner was better than the fallback, by its mean confidence."""
    for low, high in pairwise(BANDS):
        own = [better for score, better in points if low <= score < high or score == high == 1.0]
        if own:
            print(f"confidence {low:.1f} to {high:.1f}: better in {sum(own)} of {len(own)} runs")
