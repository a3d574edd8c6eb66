"""Models on a street that runs, and decisions for observations that are given."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np

from headway.control.models import ModelFile
from headway.control.planner import Planner
from headway.control.predict import Predictor, SeenJunction, SeenVehicle, read_many
from headway.plants.sumo import network_of
from headway.plants.sumo.plant import SumoSettings
from headway.plants.sumo.scenarios import scenario
from headway.roads import PROFILES, Colour, Network, work_out
from headway.settings import Settings
from headway.street.closed_loop import Street
from headway.street.messages import Deploy, Rollback
from headway.street.opening import open_street
from headway.street.rollout import Change

SCENARIO = "cologne8"
TICKS = 1800  # of the scenario's hour, from its begin on
WARM_UP = 300
REPEATS = 50  # of an order
BATCH = 1000
LETTERS = {Colour.RED: "r", Colour.YELLOW: "y", Colour.PERMISSIVE: "g", Colour.GREEN: "G"}


def models() -> None:
    """A shadow's share of the tick (< 25 %), deploy and rollback (< 1 tick), and `predict`: p99 at
    the largest junction (< 10 ms), batches of 1000 (< 1 s, >= 2000 a second), on cologne8.
    """
    with TemporaryDirectory() as folder, _street() as street:
        _shadow(street, Path(folder))
        given = list(_observations(street))
        _orders(street, Path(folder))
    _predictions(street.network, given)


@contextlib.contextmanager
def _street() -> Iterator[Street]:
    of = scenario(SCENARIO)
    network = network_of(of)
    street = open_street(
        network=network,
        timing=work_out(network, PROFILES["street"]),
        sumo=SumoSettings(of.sumocfg, 1),
        controller="planner",
        record=lambda event: None,
        settings=Settings(),
    )
    try:
        for _ in range(WARM_UP):
            street.tick()
        yield street
    finally:
        street.plant.close()


def _model(folder: Path, horizon_s: float) -> ModelFile:
    path = folder / f"{horizon_s:g}.yaml"
    path.write_text(f"planner: {{horizon_s: {horizon_s}}}\n")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return ModelFile("bench", 1, "planner", sha256, str(path))


def _order(street: Street, order: Deploy | Rollback) -> None:
    """As the street's process does, but for its file of orders."""
    rollout = street.rollout
    if isinstance(order, Deploy):
        change = rollout.prepared(order, street.gate.timing, Settings(), street.fault_of)
    else:
        change = Change(rollout.deployed.with_rollback(order))
    rollout.use(change, street.observation, street.gate.faults)
    if isinstance(order, Deploy) and order.mode == "all":
        assert change.controller is not None
        street.set_controller(change.controller)
    elif isinstance(order, Rollback):
        street.set_controller(Planner(street.network, street.gate.timing))


def _shadow(street: Street, folder: Path) -> None:
    _order(street, Deploy("shadow", _model(folder, 90.0)))
    shares = []
    for _ in range(TICKS):
        street.tick()
        rows = list(street.durations.rows)[-100:]
        tick_ms = 1e3 * sum(map(sum, rows)) / len(rows)
        shadow = street.rollout.report("planner", tick_ms)["shadow"]
        shares.append(shadow["share_of_tick"])
    found = np.array(shares[100::100])
    print(
        f"shadow (planner beside planner, {SCENARIO}, {TICKS} ticks): {found.mean():.1%} of the "
        f"tick's work, at most {found.max():.1%} of any 100 ticks; {shadow['ms']:.2f} ms a tick; "
        f"wanted another green in {shadow['disagreement']:.1%}"
    )
    _order(street, Rollback("shadow"))


def _orders(street: Street, folder: Path) -> None:
    for name, orders in {
        "deploy, all, and rollback": (Deploy("all", _model(folder, 60.0)), Rollback()),
        "deploy, canary, and rollback": (
            Deploy("canary", _model(folder, 60.0)),
            Rollback("canary"),
        ),
    }.items():
        took_ms = []
        for _ in range(REPEATS):
            for order in orders:
                begun = time.perf_counter()
                _order(street, order)
                took_ms.append(1e3 * (time.perf_counter() - begun))
        print(
            f"{name}: median {np.median(took_ms):.0f} ms, at most {max(took_ms):.0f} ms "
            "(a tick is 1000 ms)"
        )


def _observations(street: Street) -> Iterator[SeenJunction]:
    """What is observed of each junction, every tenth second."""
    for second in range(1000):
        street.tick()
        if second % 10 == 0:
            yield from (_seen(street, j) for j in range(len(street.network.junctions)))


def _seen(street: Street, junction: int) -> SeenJunction:
    network, observed = street.network, street.observation
    of, v = network.junctions[junction], observed.vehicles
    group = np.where(v.link >= 0, network.link_group[v.link], -1)
    own = np.flatnonzero((group >= of.first) & (group < of.end))
    return SeenJunction(
        of.id,
        [
            SeenVehicle(
                lane=network.lanes[network.links[v.link[i]].from_lane].id,
                distance_m=float(v.distance_m[i]),
                speed_mps=float(v.speed_mps[i]),
                waited_s=float(v.waiting_s[i]),
                group=int(group[i] - of.first),
            )
            for i in own.tolist()
        ],
        "".join(LETTERS[Colour(c)] for c in observed.shown[of.first : of.end]),
        [float(s) for s in np.minimum(observed.shown_for_s[of.first : of.end], 1000.0)],
    )


def _predictions(network: Network, given: list[SeenJunction]) -> None:
    timing = work_out(network, PROFILES["street"])
    predictor = Predictor(Planner(network, timing), network, timing)
    largest = max(network.junctions, key=lambda of: (of.end - of.first, len(of.stages))).id
    busiest = [one for one in given if one.junction == largest]
    predictor.predict(busiest[0])
    took_ms = []
    for one in busiest * 5:
        begun = time.perf_counter()
        predictor.predict(one)
        took_ms.append(1e3 * (time.perf_counter() - begun))
    vehicles = np.mean([len(one.vehicles) for one in busiest])
    print(
        f"predict at {largest} ({vehicles:.0f} vehicles): median {np.median(took_ms):.2f} ms, "
        f"p99 {np.percentile(took_ms, 99):.2f} ms, at most {max(took_ms):.2f} ms"
    )
    body = msgspec.json.encode((given * 2)[:BATCH])
    took_s = []
    for _ in range(5):
        begun = time.perf_counter()
        answers = predictor.batch(read_many(body))
        msgspec.json.encode(answers)
        took_s.append(time.perf_counter() - begun)
    mean = len(body) / BATCH / 1024
    print(
        f"predict, batch of {BATCH} ({mean:.1f} KiB each): {np.median(took_s):.2f} s, "
        f"{BATCH / np.median(took_s):.0f} a second"
    )
