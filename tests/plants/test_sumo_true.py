"""The street over the real SUMO: each second of some minutes,
all that is told of it is what SUMO itself says, asked without any cleverness.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import libsumo
import numpy as np
import pytest
from tests.ports import free_port

from headway.plants.sumo import SumoPlant, SumoSettings, read_network
from headway.plants.sumo.scenarios import scenario
from headway.roads import Kind, Network

LETTER = {0: "O", 1: "r", 2: "y", 3: "g", 4: "G"}
INF = float("inf")


class Naive:
    """What SUMO says now, in the words of an observation;
    `look` once a second, after the plant has looked.
    """

    def __init__(self, network: Network, range_m: float, period_s: float = 1.0) -> None:
        self.network, self.range_m, self.period_s = network, range_m, period_s
        self.wait: Counter[str] = Counter()
        self.known: dict[str, int] = {}
        self.down: set[tuple[str, str]] = set()
        self.group = {(g.tl_id, g.index): i for i, g in enumerate(network.groups)}
        self.inside = {
            link.via[0]: i
            for i, link in enumerate(network.links)
            if link.group >= 0 and len(link.via) > 1
        }
        self.before: dict[str, set[int]] = {}
        self.between = {
            via: link.to_lane for link in network.links if link.group < 0 for via in link.via
        }
        self.stops = {link.from_lane for link in network.links if link.group >= 0}
        self.exits = sorted({link.to_lane for link in network.links if link.group >= 0})
        self.crossing = {
            network.lanes[x.to_lane].edge: i
            for i, g in enumerate(network.groups)
            if g.kind == Kind.PEDESTRIAN
            for k in g.links
            for x in [network.links[k]]
        }

    def link_of(self, vehicle: str, lane: int) -> int:
        """The link that it will take from its lane;
        of those that it cannot take from here, one for the same street, or the first.
        """
        network, (tl, place, *_) = self.network, libsumo.vehicle.getNextTLS(vehicle)[0]
        links = network.groups[self.group[tl, place]].links
        if len({network.lanes[network.links[i].to_lane].edge for i in links}) > 1:
            plan = [ahead[0].rpartition("_")[0] for ahead in libsumo.vehicle.getNextLinks(vehicle)]
            links = [i for i in links if network.lanes[network.links[i].to_lane].edge in plan]
        own = [i for i, link in enumerate(network.links) if link.from_lane == lane]
        streets = {network.lanes[network.links[i].to_lane].edge for i in links}
        return [
            *[i for i in own if i in links],
            *[i for i in own if network.lanes[network.links[i].to_lane].edge in streets],
            *links,
        ][0]

    def ahead(self, lane: int) -> set[int]:
        """Stop lanes that traffic of this lane comes to without a signal between, not further than
        the range from its end (but for the way inside).
        """
        if lane in self.stops:
            return {lane}
        return {
            stop
            for link in self.network.links
            if link.from_lane == lane and link.group < 0
            for stop in self.onward(link.to_lane, 0.0)
        }

    def onward(self, lane: int, gone_m: float) -> set[int]:
        if gone_m + self.network.lanes[lane].length_m >= self.range_m:
            return set()
        if lane in self.stops:
            return {lane}
        links = [x for x in self.network.links if x.from_lane == lane and x.group < 0]
        return {
            stop
            for x in links
            for stop in self.onward(
                x.to_lane, gone_m + self.network.lanes[lane].length_m + x.length_m
            )
        }

    def look(self) -> SimpleNamespace:
        network, v = self.network, libsumo.vehicle
        found = SimpleNamespace(
            rows={}, room=np.full(len(network.lanes), INF), count=Counter(), arrived=Counter()
        )
        for name in v.getIDList():
            at, speed = v.getLaneID(name), v.getSpeed(name)
            lane = network.lane_index.get(at, -1)
            stops = self.stops_before(at, lane)
            if stops or at in self.inside or lane in self.exits:
                self.wait[name] = self.wait[name] + self.period_s if speed < 0.1 else 0.0
            self.add_row(found, name, at, lane)
            if lane in self.exits:
                self.add_exit(found, name, at, lane)
        self.on = {name: v.getLaneID(name) for name in v.getIDList()}
        found.near = set(v.getIDList())
        found.waiting = Counter(
            self.crossing[libsumo.person.getNextEdge(p)]
            for p in libsumo.person.getIDList()
            if "_w" in libsumo.person.getRoadID(p)
            and libsumo.person.getNextEdge(p) in self.crossing
        )
        return found

    def stops_before(self, at: str, lane: int) -> set:
        """The stop lines to which this lane leads."""
        if at not in self.before:
            if lane >= 0:
                self.before[at] = self.ahead(lane)
            elif at in self.between:
                self.before[at] = self.onward(self.between[at], 0.0)
            else:
                self.before[at] = set()
        return self.before[at]

    def add_row(self, found: SimpleNamespace, name: str, at: str, lane: int) -> None:
        """The vehicle, if it is before a signal or inside a junction, and whether it has arrived
        there just now.
        """
        v, stops, known = libsumo.vehicle, self.before[at], self.known.get(name)
        link, stop, distance = self.place_of(name, at, lane)
        if link >= 0:
            found.arrived[link] += known != link
            self.known[name] = link
            if distance <= self.range_m:
                found.rows[name] = (
                    stop,
                    link,
                    distance,
                    v.getSpeed(name),
                    self.wait[name],
                    v.getLength(name) + v.getMinGap(name),
                    v.getVehicleClass(name) == "emergency",
                )
        elif lane in self.exits and not stops:  # it leads away
            self.known.pop(name, None)

    def place_of(self, name: str, at: str, lane: int) -> tuple[int, int, float]:
        """Link, lane of the stop line, and metres to it; -1, -1 and infinity before no signal."""
        network, v, stops = self.network, libsumo.vehicle, self.before[at]
        if at in self.inside:
            link = self.inside[at]
            return link, network.links[link].from_lane, -v.getLanePosition(name)
        if not (stops and v.getNextTLS(name)):
            return -1, -1, INF
        only = []
        if lane in self.stops:
            only = [i for i, x in enumerate(network.links) if x.from_lane == lane]
        if len(only) == 1:
            link = only[0]
        else:
            link = self.link_of(name, next(iter(stops)) if len(stops) == 1 else -1)
        if name in self.known and self.on.get(name) == at:
            link = self.known[name]  # as it was when it came onto the lane
        if lane in self.stops:
            return link, lane, network.lanes[lane].length_m - v.getLanePosition(name)
        return link, network.links[link].from_lane, v.getNextTLS(name)[0][2]

    def add_exit(self, found: SimpleNamespace, name: str, at: str, lane: int) -> None:
        """Count the vehicle behind the junction, and the room that it leaves."""
        v = libsumo.vehicle
        found.count[lane] += 1
        rear = v.getLanePosition(name) - v.getLength(name)
        if (name, at) not in self.down:
            found.room[lane] = min(found.room[lane], rear + 4.0 * v.getSpeed(name))
        far = 30.0 if self.network.lanes[lane].length_m > 60.0 else 60.0
        if not self.before[at] and rear > far:
            self.down.add((name, at))

    on: dict[str, str] = {}  # noqa: RUF012


def fixed_time(network: Network, second: int) -> np.ndarray:
    """The colours of each junction's own programme."""
    shown = np.ones(len(network.groups), np.int8)
    for j in network.junctions:
        shown[j.first : j.end] = j.programme.colours[j.programme.phase_at(float(second))]
    return shown


def walking(net: Path, folder: Path) -> str:
    """Demand on the small grid: cars, a bus, a fire engine, pedestrians."""
    (folder / "w.rou.xml").write_text(
        """<routes><vType id="bus" vClass="bus"/><vType id="fire" vClass="emergency"/>
        <flow id="a" begin="0" end="400" vehsPerHour="700" from="left0A0" to="B0right0"/>
        <flow id="b" begin="0" end="400" vehsPerHour="500" from="bottom0A0" to="A1top0"/>
        <flow id="c" begin="0" end="400" vehsPerHour="500" from="left1A1" to="B1B0"
            departLane="best"/>
        <flow id="d" begin="0" end="400" vehsPerHour="400" from="B1B0" to="A1left1"/>
        <personFlow id="p" begin="0" end="400" personsPerHour="300">
            <walk from="left0A0" to="A1top0" departPos="120"/></personFlow>
        <personFlow id="q" begin="0" end="400" personsPerHour="300">
            <walk from="B0right0" to="left1A1"/></personFlow>
        <trip id="bus0" type="bus" depart="20" from="left0A0" to="B1right1"/>
        <trip id="fire0" type="fire" depart="60" from="left0A0" to="B0right0"/></routes>"""
    )
    config = folder / "w.sumocfg"
    config.write_text(
        f'<configuration><input><net-file value="{net}"/><route-files '
        f'value="{folder}/w.rou.xml"/></input></configuration>'
    )
    return str(config)


@pytest.fixture(params=["grid", "cologne1", "cologne8", "ingolstadt21"])
def street(request, crossing_network, tmp_path):
    """(plant, network) of a small grid with pedestrians,
    and of one real junction, of eight at the morning peak, and of a street where lamps stand for
    links to several streets.
    """
    if request.param == "grid":
        net, config = str(crossing_network), walking(crossing_network, tmp_path)
    else:
        net, config = scenario(request.param).net, scenario(request.param).sumocfg
    network = read_network(net)
    plant = SumoPlant(SumoSettings(config, seed=4), network)
    yield plant, network
    plant.close()


@pytest.mark.slow
def test_all_that_is_told_is_what_sumo_says_second_by_second(street):
    plant, network = street
    naive = Naive(network, 200.0)
    since = np.full(len(network.groups), -1000.0)
    shown = np.ones(len(network.groups))
    told = Counter()
    begin = plant.time_s
    for second in range(240):
        seen, true = plant.observe(), naive.look()
        assert seen.at_s == libsumo.simulation.getTime() == begin + second
        v = seen.vehicles
        rows = sorted(
            zip(
                v.lane.tolist(),
                v.link.tolist(),
                v.distance_m.tolist(),
                v.speed_mps.tolist(),
                v.waiting_s.tolist(),
                v.length_m.tolist(),
                v.emergency.tolist(),
                strict=True,
            )
        )
        assert np.array(rows).reshape(-1, 7) == pytest.approx(
            np.array(sorted(true.rows.values())).reshape(-1, 7), abs=1e-6
        ), second
        assert {
            int(i): int(seen.arrived[i]) for i in np.flatnonzero(seen.arrived)
        } == +true.arrived, second
        assert {int(i): int(seen.count[i]) for i in np.flatnonzero(seen.count)} == true.count
        assert {
            int(i): int(seen.waiting_persons[i]) for i in np.flatnonzero(seen.waiting_persons)
        } == true.waiting
        long = [
            i for i in naive.exits if network.lanes[i].length_m >= 60.0
        ]  # the short ones: test_sumo_street.py
        assert seen.room_m[long] == pytest.approx(true.room[long])
        assert np.isinf(np.delete(seen.room_m, naive.exits)).all()
        assert {e.id for e in seen.emergencies} == {
            n
            for n in true.near
            if libsumo.vehicle.getVehicleClass(n) == "emergency" and libsumo.vehicle.getNextTLS(n)
        }
        for e in seen.emergencies:
            assert e.speed_mps == libsumo.vehicle.getSpeed(e.id)
            assert e.ahead == tuple(
                (naive.group[tl, place], metres)
                for tl, place, metres, _ in libsumo.vehicle.getNextTLS(e.id)
            )
        assert seen.shown_for_s.tolist() == (second - since).tolist()
        told.update(
            rows=len(rows),
            arrived=int(seen.arrived.sum()),
            walking=int(seen.waiting_persons.sum()),
            urgent=len(seen.emergencies),
            stood=int((v.waiting_s > 5).sum()),
        )
        wanted = fixed_time(network, second)
        since[(wanted != shown) & ~((wanted > 2) & (shown > 2))] = second
        shown = wanted
        plant.apply(SimpleNamespace(colours=wanted))
        for i, g in enumerate(network.groups):
            letter = "s" if g.turn_on_red and wanted[i] == 1 else LETTER[int(wanted[i])]
            assert libsumo.trafficlight.getRedYellowGreenState(g.tl_id)[g.index] == letter
        plant.advance(1.0)
    assert told["rows"] > 3000
    assert told["arrived"] > 50
    assert told["stood"] > 100
    if any(g.kind == Kind.PEDESTRIAN for g in network.groups):
        assert told["walking"] > 100
        assert told["urgent"] > 10


def tables(plant: SumoPlant, network: Network, seconds: int) -> list[list]:
    """All columns of what is observed, second by second, under the junctions' own programmes."""
    out = []
    for second in range(seconds):
        o = plant.observe()
        v = o.vehicles
        columns = (
            v.lane,
            v.link,
            v.distance_m,
            v.speed_mps,
            v.waiting_s,
            v.length_m,
            v.emergency,
            o.shown,
            o.shown_for_s,
            o.room_m,
            o.count,
            o.arrived,
        )
        out.append([o.at_s, *(x.tolist() for x in columns)])
        plant.apply(SimpleNamespace(colours=fixed_time(network, second)))
        plant.advance(1.0)
    return out


@pytest.mark.slow
def test_a_sumo_of_its_own_process_is_seen_and_driven_as_that_of_this_one():
    of = scenario("cologne1")
    network = read_network(of.net)
    here = SumoPlant(SumoSettings(of.sumocfg), network)
    ours = tables(here, network, 60)
    scene, emissions = here.scene(), here.emissions()
    here.close()
    port = free_port()
    remote = SumoSettings(of.sumocfg, remote=f"127.0.0.1:{port}")
    options = [*remote.arguments()[1:], "--remote-port", str(port)]
    sumo = subprocess.Popen(
        [Path(sys.executable).parent / "sumo", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        there = SumoPlant(remote, network)
        assert there.time_s == of.begin_s == 25200.0
        theirs = tables(there, network, 60)
        far = there.scene()
        assert there.time_s == 25260.0
        assert theirs == ours
        assert len(theirs[-1][1]) > 3
        for name in ("number", "at_m", "angle_deg", "speed_mps", "length_m", "kind"):
            assert np.array_equal(getattr(far, name), getattr(scene, name)), name
        assert there.emissions() == pytest.approx(emissions)
        there.close()
        assert sumo.wait(30) == 0
    finally:
        sumo.kill()
        sumo.wait()


@pytest.fixture
def one():
    of = scenario("cologne1")
    network = read_network(of.net)
    plant = SumoPlant(SumoSettings(of.sumocfg, seed=4, scale=1.5), network)
    yield plant, network
    plant.close()


def test_a_scene_emissions_and_what_waits_to_enter_are_sumos_figures(one):
    plant, network = one
    tables(plant, network, 120)
    v, scene = libsumo.vehicle, plant.scene()
    names = v.getIDList()
    assert len(names) > 10
    assert scene.at_m == pytest.approx(np.array([v.getPosition(n) for n in names]), rel=1e-6)
    assert scene.angle_deg == pytest.approx([v.getAngle(n) for n in names], rel=1e-6)
    assert scene.speed_mps == pytest.approx([v.getSpeed(n) for n in names], rel=1e-6)
    assert scene.length_m == pytest.approx([v.getLength(n) for n in names], rel=1e-6)
    count, fuel, co2 = plant.emissions()
    assert count == len(names)
    assert fuel == pytest.approx(sum(v.getFuelConsumption(n) for n in names))
    assert co2 == pytest.approx(sum(v.getCO2Emission(n) for n in names))
    assert co2 > fuel > 0.0
    assert plant.pending() == {
        n: v.getDepartDelay(n) for n in libsumo.simulation.getPendingVehicles()
    }
    assert plant.running


def test_a_restored_street_stands_as_it_stood_but_for_the_signals_which_are_shown_again(
    one, tmp_path
):
    plant, network = one
    tables(plant, network, 60)
    plant.checkpoint(tmp_path / "s.xml.gz")
    scene, seen = plant.scene(), plant.observe()
    tables(plant, network, 30)
    assert len(plant.scene().number) != len(scene.number)
    plant.restore(tmp_path / "s.xml.gz")
    again = plant.scene()
    assert plant.time_s == seen.at_s == 25260.0
    assert again.number.tolist() == scene.number.tolist()
    assert again.at_m == pytest.approx(scene.at_m, abs=0.01)  # SUMO writes centimetres
    wanted = fixed_time(network, 59)
    plant.show(wanted, np.full(len(network.groups), 25_250.0))
    for i, g in enumerate(network.groups):
        assert libsumo.trafficlight.getRedYellowGreenState(g.tl_id)[g.index] == (
            "s" if g.turn_on_red and wanted[i] == 1 else LETTER[int(wanted[i])]
        )
    same = plant.observe()
    assert same.shown_for_s.tolist() == [10.0] * len(network.groups)
    assert sorted(same.vehicles.distance_m) == pytest.approx(
        sorted(seen.vehicles.distance_m), abs=0.01
    )
    assert same.count.tolist() == seen.count.tolist()
    assert max(seen.vehicles.waiting_s) >= 5.0
    assert sorted(same.vehicles.waiting_s) == sorted(seen.vehicles.waiting_s)
    plant.advance(1.0)
    assert libsumo.simulation.getTime() == 25261.0


def test_a_full_disk_ends_no_simulation(tmp_path):
    """SUMO itself would end the process, which is why this is one of its own."""
    full = tmp_path / "full.py"
    full.write_text(
        "from pathlib import Path\nfrom headway.plants.sumo import SumoPlant, SumoSettings, "
        "read_network\nfrom headway.plants.sumo.scenarios import scenario\n"
        "of = scenario('cologne1')\nplant = SumoPlant(SumoSettings(of.sumocfg), "
        "read_network(of.net))\n"
        "try:\n    plant.checkpoint(Path('/dev/full'))\nexcept OSError as error:\n    "
        "print(error.strerror)\nplant.advance(1.0)\nprint(plant.time_s)\n"
    )
    done = subprocess.run(
        [sys.executable, full], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == ["No space left on device", "25201.0"]


def test_a_state_that_a_limit_on_files_has_cut_is_no_checkpoint(tmp_path):
    """SUMO says nothing of it; the limit is that of a whole process, so this is one of its own."""
    limited = tmp_path / "limited.py"
    limited.write_text(
        "import resource\nfrom pathlib import Path\nfrom headway.plants.sumo import SumoPlant, "
        "SumoSettings, read_network\n"
        "from headway.plants.sumo.scenarios import scenario\n"
        "of = scenario('cologne1')\nplant = SumoPlant(SumoSettings(of.sumocfg), "
        "read_network(of.net))\nplant.advance(60.0)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try:\n    plant.checkpoint(Path('state.xml.gz'))\nexcept OSError as error:\n    "
        "print(error)\nplant.advance(1.0)\nprint(plant.time_s, Path('state.xml.gz').exists())\n"
    )
    done = subprocess.run(
        [sys.executable, limited],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.splitlines() == [
        "SUMO's state is cut after 10000 bytes. A limit on the size of files (ulimit -f) does so.",
        "25261.0 False",
    ]


@pytest.mark.slow
def test_a_state_of_another_network_is_refused(one, tmp_path):
    plant, network = one
    tables(plant, network, 20)
    plant.checkpoint(tmp_path / "s.xml.gz")
    other = tmp_path / "other.py"
    other.write_text(
        "import sys\nfrom pathlib import Path\nfrom headway.plants.sumo import SumoPlant, "
        "SumoSettings, read_network\n"
        "from headway.plants.sumo.scenarios import scenario\nof = "
        "scenario('cologne3')\nplant = SumoPlant(SumoSettings(of.sumocfg), "
        "read_network(of.net))\n"
        "try:\n    plant.restore(Path(sys.argv[1]))\nexcept RuntimeError as error:\n    "
        "print(type(error).__name__, error)\n"
    )  # libsumo holds one simulation a process
    done = subprocess.run(
        [sys.executable, other, tmp_path / "s.xml.gz"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.startswith(
        f"PlantError {tmp_path / 's.xml.gz'}: SUMO does not take this state ("
    )
    assert "Unknown lane" in done.stderr


@pytest.mark.slow
def test_who_changes_lanes_before_a_junction_arrives_there_once():
    """At most as many as SUMO says have its signals on their way, at least as many as have passed
    them; arrivals by link are more than both.
    """
    of = scenario("cologne1")
    plant = SumoPlant(SumoSettings(of.sumocfg, seed=1), read_network(of.net))
    try:
        arrived, again, on_the_way, passed = 0, 0, set(), set()
        for _ in range(600):
            arrived += int(plant.observe().arrived.sum())
            again += int(plant.take_rerouted().sum())
            vehicle = plant.interface.vehicle
            ahead = {name for name in vehicle.getIDList() if vehicle.getNextTLS(name)}
            passed |= on_the_way - ahead
            on_the_way |= ahead
            plant.advance(1.0)
    finally:
        plant.close()
    assert len(passed) <= arrived - again <= len(on_the_way) < arrived
