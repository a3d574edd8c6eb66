"""Emergency priority by pairs: the same vehicle on the same route at the same second, once with its
claim and once as an ordinary vehicle.

Both start from one saved state of the street. Nothing else differs: class, type and random numbers
are the same, SUMO's own blue-light device is off in both, and the claim is taken out of what the
ordinary vehicle's street observes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from headway.plants.sumo import SumoSettings, network_of, scenario
from headway.plants.sumo.scenarios import Scenario
from headway.plants.sumo.signal_record import read_states
from headway.roads import PROFILES, Network, Timing, work_out
from headway.safety import SafetyGate
from headway.safety.audit import audit, services
from headway.street.closed_loop import Street
from headway.street.opening import open_street
from headway.street.state_file import decode, encode
from headway.values import EmergencyVehicle, Event, Observation, Vehicles

SCENARIOS = ("cologne8", "ingolstadt21", "grid4x4")
NAME = "bench-emergency"
KIND = "bench-emergency-type"
LEAST_SIGNALS = 2
WARM_S = (600.0, 2400.0)  # when it departs, after the scenario's begin
AFTERWARDS_S = 300.0  # others are followed for so long after it has arrived
LONGEST_TRIP_S = 1500.0
GRACE_S = 10.0  # before the gate's first command, as in the benchmark
ROUTE_SEED = 20260


@dataclass(frozen=True, slots=True)
class Start:
    """One departure: from which saved state, when, along which edges."""

    scenario: str
    seed: int
    route: int
    at_s: float
    edges: tuple[str, ...]
    folder: str


@dataclass(frozen=True, slots=True)
class Trip:
    """What one run came to, seconds. others_s: time lost by all others together."""

    waiting_s: float
    loss_s: float
    others_s: float
    others: int
    ended_s: float
    arrived: bool
    violations: int


@dataclass(frozen=True, slots=True)
class Pair:
    """The two runs of one departure."""

    scenario: str
    seed: int
    route: int
    at_s: float
    ordinary: Trip
    emergency: Trip

    @property
    def worse_s(self) -> float:
        """By how much the emergency vehicle waited longer than as an ordinary one."""
        return self.emergency.waiting_s - self.ordinary.waiting_s


class WithoutClaims:
    """A plant whose observations show no emergency vehicle as one."""

    def __init__(self, plant: Any) -> None:
        self._plant = plant

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plant, name)

    def observe(self) -> Observation:
        """The observation without claims."""
        observed: Observation = self._plant.observe()
        nobody = np.zeros(len(observed.vehicles), np.bool_)
        vehicles = replace(observed.vehicles, emergency=nobody)
        return replace(observed, vehicles=vehicles, emergencies=())


@dataclass(frozen=True, slots=True)
class Setting:
    """What all runs of a benchmark share."""

    timing: str
    sensing: str
    controller: str


def site_of(name: str, setting: Setting) -> tuple[Scenario, Network, Timing]:
    """The scenario, its network, and the times of its signals."""
    site = scenario(name)
    network = network_of(site)
    return site, network, work_out(network, PROFILES[setting.timing])


def random_routes(network: Network, count: int) -> list[tuple[str, ...]]:
    """Shortest ways between edges drawn by chance that pass at least LEAST_SIGNALS junctions with
    signals; a SUMO of the network must be running.
    """
    import libsumo

    junction_between = {
        (network.lanes[x.from_lane].edge, network.lanes[x.to_lane].edge): network.groups[
            x.group
        ].junction
        for x in network.links
        if x.group >= 0
    }
    edges = [
        edge
        for edge in libsumo.edge.getIDList()
        if not edge.startswith(":") and _takes_cars(libsumo, edge)
    ]
    random = np.random.default_rng(ROUTE_SEED)
    routes: list[tuple[str, ...]] = []
    while len(routes) < count:
        first, last = random.choice(edges, 2, replace=False)
        way = libsumo.simulation.findRoute(str(first), str(last), "DEFAULT_VEHTYPE").edges
        passed = {junction_between.get(step) for step in pairwise(way)} - {None}
        if len(passed) >= LEAST_SIGNALS:
            routes.append(tuple(way))
    return routes


def _takes_cars(libsumo: Any, edge: str) -> bool:
    for number in range(libsumo.edge.getLaneNumber(edge)):
        lane = f"{edge}_{number}"
        allowed = libsumo.lane.getAllowed(lane)
        if "passenger" not in libsumo.lane.getDisallowed(lane) and (
            not allowed or "passenger" in allowed
        ):
            return True
    return False


def warm_up(
    name: str, seed: int, routes: Sequence[int], setting: Setting, folder: Path
) -> list[Start]:
    """Run the street once, and save it at the second in which each vehicle departs."""
    site, network, timing = site_of(name, setting)
    sumo = SumoSettings(site.sumocfg, seed, sensing=setting.sensing)
    street = open_street(network, timing, sumo, setting.controller, _ignore)
    try:
        times = {route: site.begin_s + _departure_s(seed, route) for route in routes}
        for route in sorted(routes, key=lambda r: times[r]):
            while street.plant.time_s < times[route]:
                street.tick()
            own = folder / f"{name}-{seed}-{route}"
            own.mkdir()
            street.plant.checkpoint(own / "plant.xml.gz")
            state = encode(street.state(), street.state_classes())
            (own / "street.msgpack").write_bytes(state)
        # last, since SUMO draws random numbers to find a way
        ways = random_routes(network, max(routes) + 1)
    finally:
        street.plant.close()
    return [
        Start(name, seed, r, times[r], ways[r], str(folder / f"{name}-{seed}-{r}")) for r in routes
    ]


def _departure_s(seed: int, route: int) -> float:
    """Whole seconds after the scenario's begin."""
    random = np.random.default_rng((ROUTE_SEED, seed, route))
    return float(np.round(random.uniform(*WARM_S)))


def _ignore(event: Event) -> None:
    pass


def drive(start: Start, setting: Setting, claims: bool, until_s: float = 0.0) -> Trip:
    """One run from the saved state, until AFTERWARDS_S after its arrival or until `until_s`."""
    import libsumo

    site, network, timing = site_of(start.scenario, setting)
    events: list[Event] = []
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        outputs = Path(folder)
        street = open_street(
            network=network,
            timing=timing,
            sumo=_resumed(start, site, network, setting, outputs),
            controller=setting.controller,
            record=events.append,
        )
        try:
            if not claims:
                street.plant = WithoutClaims(street.plant)  # type: ignore[assignment]
            state = (Path(start.folder) / "street.msgpack").read_bytes()
            street.resume(decode(state, street.state_classes()))
            _insert(libsumo, start)
            ended_s, arrived = _follow(libsumo, street, start, until_s)
            pending = street.plant.pending()
        finally:
            street.plant.close()
        lines = read_states(outputs / "tls.xml")
        violations = audit(network, timing, lines, grace_s=GRACE_S, served=services(events))
        return _trip(outputs / "trips.xml", pending, ended_s, arrived, len(violations))


def _resumed(
    start: Start, site: Scenario, network: Network, setting: Setting, outputs: Path
) -> SumoSettings:
    states = "".join(
        f'<timedEvent type="SaveTLSStates" source="{tl}" dest="{outputs / "tls.xml"}"/>'
        for junction in network.junctions
        for tl in junction.tl_ids
    )
    (outputs / "audit.add.xml").write_text(f"<additional>{states}</additional>")
    files = ("--tripinfo-output", str(outputs / "trips.xml"))
    extra = (
        *("--load-state", f"{start.folder}/plant.xml.gz"),
        *(*files, "--tripinfo-output.write-unfinished", "true"),
    )
    return SumoSettings(
        sumocfg=site.sumocfg,
        seed=start.seed,
        sensing=setting.sensing,
        extra=extra,
        additional=(str(outputs / "audit.add.xml"),),
    )


def _insert(libsumo: Any, start: Start) -> None:
    libsumo.vehicletype.copy("DEFAULT_VEHTYPE", KIND)
    libsumo.vehicletype.setVehicleClass(KIND, "emergency")
    libsumo.vehicletype.setSpeedDeviation(KIND, 0.0)
    libsumo.route.add(NAME, start.edges)
    libsumo.vehicle.add(NAME, NAME, typeID=KIND, departLane="best", departSpeed="max")


def _follow(libsumo: Any, street: Street, start: Start, until_s: float) -> tuple[float, bool]:
    """(when the run ended, whether the vehicle arrived)."""
    end_s = max(until_s, start.at_s + AFTERWARDS_S)
    arrived = False
    while street.plant.time_s < end_s or (
        not arrived and street.plant.time_s < start.at_s + LONGEST_TRIP_S
    ):
        street.tick()
        if not arrived and NAME in libsumo.simulation.getArrivedIDList():
            arrived = True
            end_s = until_s or street.plant.time_s + AFTERWARDS_S
    return street.plant.time_s, arrived


def _trip(
    trips: Path, pending: dict[str, float], ended_s: float, arrived: bool, violations: int
) -> Trip:
    others_s = sum(pending.values())
    others = len(pending)
    waiting_s = loss_s = pending.get(NAME, np.nan)
    for _, item in ET.iterparse(trips):
        if item.tag != "tripinfo":
            continue
        lost_s = float(item.attrib["timeLoss"]) + float(item.attrib["departDelay"])
        if item.get("id") == NAME:
            waiting_s, loss_s = float(item.attrib["waitingTime"]), lost_s
        else:
            others_s += lost_s
            others += 1
        item.clear()
    return Trip(waiting_s, loss_s, others_s, others, ended_s, arrived, violations)


def pair(job: tuple[Start, Setting]) -> Pair:
    """The two runs of one departure, to the same second."""
    start, setting = job
    ordinary = drive(start, setting, claims=False)
    emergency = drive(start, setting, claims=True, until_s=ordinary.ended_s)
    return Pair(start.scenario, start.seed, start.route, start.at_s, ordinary, emergency)


def pairs(
    name: str, seeds: Sequence[int], routes: Sequence[int], setting: Setting, workers: int
) -> Iterator[Pair]:
    """All pairs of a scenario, as they are ready."""
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="headway-priority-") as folder,
        context.Pool(workers) as pool,
    ):
        jobs = [(name, seed, routes, setting, Path(folder)) for seed in seeds]
        starts = [start for made in pool.starmap(warm_up, jobs) for start in made]
        yield from pool.imap_unordered(pair, [(start, setting) for start in starts])


def summary(found: Sequence[Pair]) -> str:
    """The line of the table."""
    ordinary = np.array([p.ordinary.waiting_s for p in found])
    emergency = np.array([p.emergency.waiting_s for p in found])
    loss = np.array([(p.ordinary.loss_s, p.emergency.loss_s) for p in found]).mean(axis=0)
    worse = np.array([p.worse_s for p in found])
    others = sum(p.emergency.others_s for p in found) / sum(p.ordinary.others_s for p in found)
    violations = sum(p.emergency.violations + p.ordinary.violations for p in found)
    return (
        f"{len(found):4d} pairs: waits {emergency.mean():6.1f} s with priority, "
        f"{ordinary.mean():6.1f} s "
        f"without: ratio {emergency.mean() / ordinary.mean():.2f}; loses {loss[1]:.1f} s, "
        f"{loss[0]:.1f} s; "
        f"worst {worse.max():+.0f} s, {int((worse > 5.0).sum())} worse by more than 5 s; "
        f"others' delay {100.0 * (others - 1.0):+.1f} %; "
        f"{sum(not p.emergency.arrived for p in found)} not arrived; {violations} violations"
    )


def span(text: str) -> list[int]:
    """Numbers as 1-5 or 3."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def priority(arguments: Sequence[str] = ()) -> None:
    """An emergency vehicle with priority, and the same one as an ordinary vehicle,
    on random routes.
    """
    parser = argparse.ArgumentParser("python -m bench priority")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--routes", default="0-5", help="numbers of the routes, as 0-29")
    parser.add_argument("--seeds", default="1", help="as 1-5")
    parser.add_argument("--timing", default="street", choices=list(PROFILES))
    parser.add_argument("--sensing", default="connected")
    parser.add_argument("--controller", default="planner")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", default="", help="write the pairs to this file")
    options = parser.parse_args(list(arguments))
    setting = Setting(options.timing, options.sensing, options.controller)
    everything = []
    for name in options.scenarios.split(","):
        found = list(
            pairs(name, span(options.seeds), span(options.routes), setting, options.workers)
        )
        everything += found
        print(f"{name:13s} {summary(found)}", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(p) for p in everything], indent=1))


def claims() -> None:
    """One second of the gate while vehicles claim priority (ingolstadt21, 600 vehicles before its
    signals); to reach: 500 ms from a claim to the command.
    """
    network = network_of(scenario("ingolstadt21"))
    timing = work_out(network, PROFILES["street"])
    random = np.random.default_rng(1)
    for number in (1, 10, 10_000):
        gate = SafetyGate(network, timing, 0.0)
        took_s = []
        for second in range(20):
            observation = _claimed(network, gate, float(second), number, random)
            begun = time.perf_counter()
            gate.admit(None, float(second), observation)
            took_s.append(time.perf_counter() - begun)
        print(
            f"{number:6d} claims: median {1e3 * np.median(took_s[2:]):.1f} ms, "
            f"worst {1e3 * max(took_s[2:]):.1f} ms a tick"
        )


def _claimed(
    network: Network, gate: SafetyGate, at_s: float, number: int, random: np.random.Generator
) -> Observation:
    """Vehicles by chance before all signals, and `number` that claim three groups each."""
    signalised = [k for k, link in enumerate(network.links) if link.group >= 0]
    links = random.choice(signalised, 600).astype(np.int32)
    n, groups = len(links), len(network.groups)
    return Observation(
        at_s=at_s,
        vehicles=Vehicles(
            lane=np.array([network.links[k].from_lane for k in links], np.int32),
            link=links,
            distance_m=random.uniform(0.0, 150.0, n),
            speed_mps=np.zeros(n),
            waiting_s=np.zeros(n),
            length_m=np.full(n, 7.5),
            emergency=np.zeros(n, np.bool_),
        ),
        shown=gate.shown.copy(),
        shown_for_s=np.zeros(groups),
        room_m=np.full(len(network.lanes), np.inf),
        count=np.zeros(len(network.lanes), np.int32),
        arrived=np.zeros(len(network.links), np.int32),
        waiting_persons=np.zeros(groups, np.int32),
        completeness=np.ones(len(network.junctions)),
        emergencies=tuple(
            EmergencyVehicle(
                f"e{i}", 14.0, tuple((int(g), 50.0) for g in random.integers(0, groups, 3))
            )
            for i in range(number)
        ),
    )
