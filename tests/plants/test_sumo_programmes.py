"""Of several programmes of a traffic light the one that SUMO runs; signals that are none of
Headway's; and of each of them what SUMO itself says.
"""

from __future__ import annotations

import gzip
import os
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import libsumo
import numpy as np
import pytest
from tests.plants.networks_by_hand import read, two_ways
from tests.roads.builders import connection, edge, internal, junction, lane, programme

from headway.plants.sumo import SumoPlant, SumoSettings, network_of, read_network
from headway.plants.sumo.network import COLOUR_OF
from headway.plants.sumo.programmes import stages_of_rings
from headway.plants.sumo.scenarios import read_sumocfg
from headway.plants.sumo.signal_record import read_states
from headway.roads import PROFILES, Colour, RoadsError, work_out
from headway.roads.upstream import feeders
from headway.safety.audit import audit
from headway.street.opening import open_street

TOWNS = Path(os.environ.get("HEADWAY_DATA", "../shared/data")) / "streets"
# configuration, junctions that are controlled, signals that are left alone
RUNS = {
    "bologna/acosta/run.sumocfg": (7, 0),
    "bologna/pasubio/run.sumocfg": (8, 0),
    "bologna/joined/run.sumocfg": (13, 0),
    "TAVF-Hamburg/run_simulation.sumocfg": (43, 0),
    "Doerpfeldstr/all_modes.sumocfg": (9, 3),
}
OWN, OTHER, THIRD = (30, "Gr"), (20, "rG"), (10, "gr")


def states(network) -> list[list[int]]:
    return network.junctions[0].programme.colours.tolist()


def additional(tmp_path, text: str, name: str = "more.add.xml") -> str:
    path = tmp_path / name
    data = f"<additional>{text}</additional>".encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(path)


def test_durations_and_offsets_may_be_in_hours_minutes_and_seconds(tmp_path):
    """As SUMO takes them."""
    plan = programme("T", ("00:01:30", "Gr"), ("0:0:12.5", "rG"), offset="1:00:00:05")
    programme_of_t = read(tmp_path, *two_ways(plan=plan)).junctions[0].programme
    assert programme_of_t.duration_s.tolist() == [90.0, 12.5]
    assert programme_of_t.offset_s == 86405.0


NEMA = (
    '<tlLogic id="T" type="NEMA" programID="0" offset="0">{}'
    '<param key="ring1" value="{}"/><param key="ring2" value="{}"/>'
    '<param key="barrierPhases" value="4,8"/><param key="{}" value="2,6"/></tlLogic>'
)
EIGHT = "".join(
    f'<phase duration="90" name="{name}" maxDur="{most}" state="{state}"/>'
    for name, most, state in (
        ("1", 15, "Grrrrrrr"), ("2", 40, "rGgrrrrr"), ("3", 12, "rrrGrrrr"), ("4", 30, "rrrrGrrr"),
        ("5", 20, "rrrrrGrr"), ("6", 35, "rrGrrrrr"), ("7", 12, "rrrrrrGr"), ("8", 30, "rrrrrrgG"),
    )
)  # fmt: skip


@pytest.mark.parametrize("barrier", ["barrier2Phases", "coordinatePhases"])
def test_phases_of_two_rings_are_shown_in_pairs_up_to_each_barrier(barrier):
    """One after the other the eight took 12 minutes, which was the network's own fixed time, and
    no two opposing streams had green together.
    """
    logic = ET.fromstring(NEMA.format(EIGHT, "1,2,3,4", "5,6,7,8", barrier))
    assert stages_of_rings(logic) == [
        ("GrrrrGrr", 20.0),
        ("rGGrrrrr", 40.0),
        ("rrrGrrGr", 12.0),
        ("rrrrGrgG", 30.0),
    ]


def test_a_ring_that_has_fewer_phases_up_to_a_barrier_shows_its_last_one_on():
    logic = ET.fromstring(NEMA.format(EIGHT, "1,2,0,4", "0,6,0,0", "barrier2Phases"))
    assert stages_of_rings(logic) == [("GrGrrrrr", 35.0), ("rGGrrrrr", 40.0), ("rrrrGrrr", 30.0)]


def test_rings_of_phases_that_are_not_there_are_none():
    for rings in (("1,9", "5"), ("", "")):
        assert stages_of_rings(ET.fromstring(NEMA.format(EIGHT, *rings, "x"))) == []
    static = NEMA.format(EIGHT, "1,2,3,4", "5,6,7,8", "x").replace("NEMA", "static")
    assert stages_of_rings(ET.fromstring(static)) == []


def test_of_several_programmes_the_last_one_that_is_read_runs(tmp_path):
    both = programme("T", OWN, OTHER, programID="0") + programme("T", OTHER, OWN, programID="1")
    first = read(tmp_path, *two_ways(plan=both))
    assert states(first) == [[1, 4], [4, 1]]

    more = additional(tmp_path, programme("T", OWN, THIRD, OTHER, programID="2"), "more.add.xml.gz")
    network = read_network(first.path, [more])
    assert states(network) == [[4, 1], [3, 1], [1, 4]]
    around = additional(tmp_path, '<include href="more.add.xml.gz"/>', "around.add.xml")
    assert states(read_network(first.path, [around])) == states(network)


def test_a_programme_without_phases_moves_the_one_of_its_name(tmp_path):
    own = read(tmp_path, *two_ways(plan=programme("T", OWN, OTHER, programID="0")))
    moved = additional(tmp_path, '<tlLogic id="T" programID="0" offset="12"/>')
    assert own.junctions[0].programme.offset_s == 0.0
    assert read_network(own.path, [moved]).junctions[0].programme.offset_s == 12.0


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    own = read(tmp_path, *two_ways())
    broken = tmp_path / "broken.add.xml"
    for text in ("<additional>", "", "<a>\x00</a>"):
        broken.write_text(text)
        with pytest.raises(RoadsError, match=r"broken\.add\.xml: not a readable additional file"):
            read_network(own.path, [str(broken)])


def test_a_waut_says_which_programme_runs_at_the_begin(tmp_path):
    own = read(tmp_path, *two_ways(plan=programme("T", OWN, OTHER, programID="0")))
    later = programme("T", OTHER, OWN, programID="x") + (
        '<WAUT id="w" startProg="0"><wautSwitch time="5" to="x"/></WAUT>'
        '<wautJunction wautID="w" junctionID="T"/>'
    )
    files = [additional(tmp_path, later)]
    assert states(read_network(own.path, files)) == [[4, 1], [1, 4]]
    assert states(read_network(own.path, files, begin_s=5.0)) == [[1, 4], [4, 1]]


def test_a_light_that_is_switched_off_is_left_alone(tmp_path):
    own = read(tmp_path, *two_ways())
    off = additional(tmp_path, '<tlLogic id="T" type="static" programID="off"/>')
    with pytest.raises(RoadsError, match="the programme of traffic light 'T' has no phase"):
        read_network(own.path, [off])


def rails(node_type: str) -> tuple[str, ...]:
    """A track r over node R, which is no traffic light, to the road a before T."""
    return (
        internal(lane(":R_0_0", length=5, speed=10)),
        edge("r", lane("r_0", length=70, speed=10)),
        junction("R", ":R_0_0", [((), ())], type=node_type),
        connection("r_0", "a_0", via=":R_0_0", tl="R", linkIndex=0, dir="s"),
    )


@pytest.mark.parametrize("node_type", ["rail_signal", "rail_crossing"])
def test_rail_signals_are_left_to_sumo_and_traffic_is_seen_through_them(tmp_path, node_type):
    network = read(tmp_path, *two_ways(more=rails(node_type)))
    assert [(j.id, len(j.groups)) for j in network.junctions] == [("T", 2)]
    assert network.not_controlled == ()
    assert [link.group for link in network.links] == [0, 1, -1]
    seen = {feeder.name for feeder in feeders(network, network.lane_index["a_0"], 200.0)}
    assert seen == {"a_0", ":R_0_0", "r_0"}
    own = programme("R", (1, "G"), type=node_type)
    assert len(read(tmp_path, *two_ways(more=(*rails(node_type), own))).junctions) == 1


def test_no_traffic_is_seen_through_a_light_that_is_left_alone(tmp_path):
    more = (*rails("traffic_light"), programme("R", (30, "r")))
    network = read(tmp_path, *two_ways(more=more))
    assert [(x.tl_ids, x.place) for x in network.not_controlled] == [(("R",), -1)]
    assert [link.left_alone for link in network.links] == [False, False, True]
    assert [x.name for x in feeders(network, network.lane_index["a_0"], 200.0)] == ["a_0"]


def test_without_internal_lanes_right_of_way_is_that_of_the_order_of_connections(tmp_path):
    """As netconvert --no-internal-links leaves them: lanes in the node's order, of each lane its
    connections in the order of the file."""
    requests = [((1,), ()), ((0,), (0,))]
    pieces = [p.replace(' via=":C_0_0"', "").replace(' via=":C_1_0"', "") for p in two_ways()]
    node = junction("C", "", requests, incLanes="b_0 a_0")
    network = read(tmp_path, *(node if p.startswith("<junction") else p for p in pieces))
    own = network.junctions[0]
    assert [link.request for link in network.links] == [1, 0]
    assert own.conflicts.tolist() == [[False, True], [True, False]]
    assert own.yields.tolist() == [[False, True], [False, False]], "a gives way to b"
    assert network.not_controlled == ()

    few = junction("C", "", requests, incLanes="b_0")  # not those that the requests are of
    with pytest.raises(RoadsError, match="connection a_0 -> z_0 of traffic light 'T' has no int"):
        read(tmp_path, *(few if p.startswith("<junction") else p for p in pieces))


@pytest.fixture
def with_odd_lamps(crossing_network, tmp_path):
    """The network, at whose first traffic light lamp 0 is always off and lamp 1 always red; at the
    second all are red."""
    tree = ET.parse(crossing_network)
    for head, light in zip(("or", None), tree.getroot().findall("tlLogic"), strict=False):
        for phase in light.findall("phase"):
            state = phase.get("state", "")
            phase.set("state", "r" * len(state) if head is None else head + state[2:])
    path = tmp_path / "odd.net.xml"
    tree.write(path)
    return path


def test_lamps_that_are_left_alone_show_in_sumo_what_they_always_show(with_odd_lamps, tmp_path):
    network = read_network(with_odd_lamps)
    first, second = [x.get("id") for x in ET.parse(with_odd_lamps).getroot().findall("tlLogic")][:2]
    assert [(x.tl_ids, x.place, x.shows) for x in network.not_controlled] == [
        ((first,), 0, "o"),
        ((first,), 1, "r"),
        ((second,), -1, ""),
    ]
    site = tmp_path / "odd.sumocfg"
    site.write_text(f'<c><input><net-file value="{with_odd_lamps}"/></input></c>')
    events = []
    timing = work_out(network, PROFILES["street"])
    street = open_street(network, timing, SumoSettings(str(site)), "fixed", events.append)
    shown = {first: set(), second: set()}
    try:
        for _ in range(120):
            street.tick()
            for tl, states in shown.items():
                states.add(libsumo.trafficlight.getRedYellowGreenState(tl))
        assert libsumo.trafficlight.getProgram(second) == "0", "SUMO goes on with its programme"
    finally:
        street.plant.close()
    assert {state[:2] for state in shown[first]} == {"or"}
    assert len(shown[first]) > 3, "the others are controlled"
    assert {*"".join(shown[second])} == {"r"}
    assert not [e for e in events if e.kind == "safety.colour"]


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_light_that_its_network_switches_off_by_the_clock_shows_what_was_sent(
    crossing, tmp_path, is_loaded
):
    """At night, say: SUMO showed `o` at all lamps for a step, over the command."""
    clock = tmp_path / "night.add.xml"
    clock.write_text(
        '<a><WAUT id="w" refTime="0" startProg="0"><wautSwitch time="5" to="off"/></WAUT>'
        '<wautJunction wautID="w" junctionID="C"/></a>'
    )
    site = tmp_path / "night.sumocfg"
    site.write_text(
        f'<c><input><net-file value="{crossing}"/><additional-files value="{clock}"/></input></c>'
    )
    network = read_network(crossing)
    plant = SumoPlant(SumoSettings(str(site)), network)
    try:
        red = np.full(len(network.groups), Colour.RED, np.int8)
        plant.show(red, np.zeros(len(red)))
        if is_loaded:
            plant.checkpoint(tmp_path / "state.xml.gz")
            plant.restore(tmp_path / "state.xml.gz")
            plant.show(red, np.zeros(len(red)))
        shown = set()
        for _ in range(10):
            plant.advance(1.0)
            shown.add(libsumo.trafficlight.getRedYellowGreenState("C"))
        assert (shown, plant.time_s) == ({"rrrr"}, 10.0)
    finally:
        plant.close()


# Towns


@pytest.fixture
def town(request, tmp_path):
    """A copy of the town: SUMO writes beside its configuration."""
    if not TOWNS.is_dir():
        pytest.skip(f"no folder {TOWNS} (HEADWAY_DATA)")
    folder = Path(request.param).parent
    shutil.copytree(TOWNS / folder, tmp_path / folder)
    for path in (tmp_path / folder).rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (tmp_path / folder).chmod(0o755)
    return read_sumocfg(tmp_path / request.param, folder.name), RUNS[request.param]


@pytest.mark.slow
@pytest.mark.parametrize("town", RUNS, indirect=True, ids=[Path(x).parent.name for x in RUNS])
def test_a_town_runs_as_it_stands_with_all_its_files(town, tmp_path):
    """For five minutes; the programmes are those that SUMO has in force at the start, and its own
    record of the signals keeps the rules.
    """
    site, (junctions, left) = town
    network = network_of(site)
    assert (len(network.junctions), len(network.not_controlled)) == (junctions, left)
    for own in network.junctions:
        assert (own.stages >= 3).any(axis=0).all(), own.id
    timing = work_out(network, PROFILES["street"])
    lights = [tl for own in network.junctions for tl in own.tl_ids]
    states = tmp_path / "states.xml"
    record = additional(
        tmp_path,
        "".join(f'<timedEvent type="SaveTLSStates" source="{t}" dest="{states}"/>' for t in lights),
    )
    sumo = SumoSettings(site.sumocfg, additional=(record,))
    street = open_street(network, timing, sumo, "planner", lambda event: None)
    try:
        for tl in lights:
            (logic,) = (
                x
                for x in libsumo.trafficlight.getAllProgramLogics(tl)
                if x.programID == libsumo.trafficlight.getProgram(tl)
            )
            own = network.junctions[network.junction(tl)]
            if len(own.tl_ids) == 1:
                groups = [network.groups[g] for g in own.groups]
                assert own.programme.duration_s.tolist() == [p.duration for p in logic.phases], tl
                wanted = [[int(COLOUR_OF[p.state[g.index]]) for g in groups] for p in logic.phases]
                assert ((own.programme.colours >= 3) == [[c >= 3 for c in w] for w in wanted]).all()
        seen = 0
        for _ in range(300):
            street.tick()
            seen = max(seen, len(street.observation.vehicles))
    finally:
        street.plant.close()
    assert seen > 10
    assert audit(network, timing, read_states(states), grace_s=1.0) == []
