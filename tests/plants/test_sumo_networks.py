"""Reading networks: real ones against SUMO's own reader;
what is right is read, what is broken is refused with place and remedy.
"""

from __future__ import annotations

import gzip
from itertools import pairwise, permutations, product

import numpy as np
import pytest
import sumolib
from tests.plants.networks_by_hand import read, two_ways
from tests.roads.builders import (
    connection,
    crossroads,
    edge,
    internal,
    junction,
    lane,
    net,
    programme,
)

from headway.plants.sumo import read_network, read_shapes
from headway.plants.sumo.scenarios import RESCO, scenario
from headway.roads import Colour, Kind, Link, RoadsError, compatible_stages
from headway.roads.stages import is_compatible, maximal_stages


def refused(path) -> str:
    with pytest.raises(RoadsError) as fault:
        read_network(path)
    return str(fault.value)


# Real networks


@pytest.mark.parametrize("name", RESCO)
def test_every_stage_of_every_real_junction_is_compatible_and_every_group_is_served(name):
    network = read_network(scenario(name).net)
    for j in network.junctions:
        stages = compatible_stages(j.stages, j.conflicts, j.yields)
        assert all(is_compatible(stage, j.conflicts, j.yields) for stage in stages)
        assert (j.stages >= Colour.PERMISSIVE).any(axis=0).all()
        assert (j.conflicts == j.conflicts.T).all()
        assert not j.conflicts.diagonal().any()
        assert not (j.yields & ~j.conflicts).any()
    assert [g for j in network.junctions for g in j.groups] == list(range(len(network.groups)))


@pytest.mark.slow
def test_only_the_programmes_that_show_conflicting_greens_are_warned_of():
    lowered = "are lowered to what right of way allows"
    warnings = {name: read_network(scenario(name).net).warnings for name in RESCO}
    assert {name: len(w) for name, w in warnings.items() if w} == {
        "ingolstadt7": 1,
        "ingolstadt21": 1,
    }
    assert warnings["ingolstadt7"] == (
        f"junction 'gneJ210': phase 4 shows conflicting greens; links [6, 7] {lowered}",
    )


def sumo_connections(path):
    """(SUMO's own reader, each signalised connection by its lanes)."""
    own = sumolib.net.readNet(str(path), withInternal=True, withPedestrianConnections=True)
    lanes = [x for e in own.getEdges() for x in e.getLanes()]
    found = {
        (c.getFromLane().getID(), c.getToLane().getID()): c
        for x in lanes
        for c in x.getOutgoing()
        if c.getTLSID()
    }
    return own, found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["walking", "cologne1", "ingolstadt7"])
def test_links_conflicts_and_give_way_are_those_that_sumo_reads(name, crossing_network):
    path = crossing_network if name == "walking" else scenario(name).net
    network = read_network(path)
    own, connections = sumo_connections(path)
    by_group = {}
    for (start, end), c in connections.items():
        (i,) = (
            k
            for k in network.links_from(network.lane_index[start])
            if network.links[k].to_lane == network.lane_index[end]
        )
        link = network.links[i]
        group = network.groups[link.group]
        by_group.setdefault(link.group, []).append(c)
        assert (group.tl_id, group.index) == (c.getTLSID(), c.getTLLinkIndex())
        node = c.getJunction()
        assert (link.node, link.request) == (node.getID(), node.getLinkIndex(c))
        if link.kind == Kind.PEDESTRIAN:
            assert (link.direction, link.via, link.length_m) == (
                "c",
                (),
                own.getLane(end).getLength(),
            )
            continue
        inside, length, speeds = [], 0.0, [own.getLane(end).getSpeed()]
        at = c
        while at.getViaLaneID():
            inside.append(own.getLane(at.getViaLaneID()))
            (at,) = inside[-1].getOutgoing()
        length = sum(x.getLength() for x in inside)
        speeds = [*speeds, *(x.getSpeed() for x in inside)]
        assert (link.direction, link.via) == (c.getDirection(), tuple(x.getID() for x in inside))
        assert link.length_m == pytest.approx(length)
        assert link.speed_mps == min(speeds)
    assert sorted(by_group) == list(range(len(network.groups)))
    assert sum(link.group >= 0 for link in network.links) == len(connections)

    def foes(one, other) -> bool:
        node = one.getJunction()
        if node != other.getJunction() or one.getFromLane() == other.getFromLane():
            return False
        a, b = node.getLinkIndex(one), node.getLinkIndex(other)
        return bool(node.areFoes(a, b) or node.areFoes(b, a))

    for j in network.junctions:
        expected = np.zeros_like(j.conflicts)
        gives_way = np.zeros_like(j.conflicts)
        for a, b in permutations(range(j.end - j.first), 2):
            pairs = [
                (x, y)
                for x, y in product(by_group[j.first + a], by_group[j.first + b])
                if foes(x, y)
            ]
            expected[a, b] = bool(pairs)
            gives_way[a, b] = bool(pairs) and all(x.getJunction().forbids(y, x) for x, y in pairs)
        neither = expected & ~gives_way & ~gives_way.T
        assert (j.conflicts == expected).all()
        assert (j.yields == gives_way | neither).all()


def test_those_on_foot_conflict_with_the_traffic_that_drives_over_their_crossing(crossing_network):
    network = read_network(crossing_network)
    walking = [i for i, g in enumerate(network.groups) if g.kind == Kind.PEDESTRIAN]
    assert len(walking) == 16, "four junctions of four arms"
    for g in walking:
        junction = network.junctions[network.groups[g].junction]
        foes = np.flatnonzero(junction.conflicts[g - junction.first]) + junction.first
        assert len(foes) >= 3
        assert Kind.PEDESTRIAN not in {network.groups[f].kind for f in foes}


def test_maximal_stages_of_a_real_junction_cannot_be_extended():
    junction = read_network(scenario("cologne1").net).junctions[0]
    stages = maximal_stages(junction.conflicts)
    for stage in stages:
        lit = stage == Colour.GREEN
        assert not (junction.conflicts & np.outer(lit, lit)).any()
        assert (junction.conflicts[~lit][:, lit].any(axis=1)).all()
    assert (stages == Colour.GREEN).any(axis=0).all()


# Small networks by hand


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({}, Kind.VEHICLE),
        ({"allow": ""}, Kind.VEHICLE),
        ({"allow": "passenger"}, Kind.VEHICLE),
        ({"allow": "bus bicycle"}, Kind.VEHICLE),
        ({"allow": "pedestrian"}, Kind.PEDESTRIAN),
        ({"allow": "wheelchair"}, Kind.PEDESTRIAN),
        ({"allow": "wheelchair pedestrian"}, Kind.PEDESTRIAN),
        ({"allow": "bicycle"}, Kind.BICYCLE),
        ({"allow": "pedestrian bicycle"}, Kind.BICYCLE),
        ({"allow": "scooter"}, Kind.BICYCLE),
        ({"allow": "pedestrian wheelchair bicycle scooter"}, Kind.BICYCLE),
        ({"allow": "tram"}, Kind.TRAM),
        ({"allow": "tram rail_urban rail rail_electric rail_fast subway cable_car"}, Kind.TRAM),
        ({"allow": "subway"}, Kind.TRAM),
        ({"allow": "cable_car"}, Kind.TRAM),
        ({"allow": "tram bus"}, Kind.VEHICLE),
        ({"disallow": "pedestrian tram"}, Kind.VEHICLE),
        ({"disallow": "all"}, Kind.PEDESTRIAN),
    ],
)
def test_the_kind_of_a_lane_is_the_narrowest_class_that_may_use_it(tmp_path, attributes, kind):
    network = read(tmp_path, *two_ways(a=lane("a_0", length=50, speed=10, **attributes)))
    assert network.lanes[0].kind == kind
    assert network.lanes[2].kind == Kind.VEHICLE


def test_the_kind_of_a_link_is_the_narrower_of_its_two_lanes_and_of_a_group_that_of_its_links(
    tmp_path,
):
    cycle, tram = (
        lane(f"{name}_0", length=50, speed=10, allow=who)
        for name, who in (("a", "bicycle"), ("z", "tram"))
    )
    network = read(
        tmp_path,
        *two_ways(
            a=cycle, index=(0, 0), requests=[((), ()), ((), ())], plan=programme("T", (30, "G"))
        ),
    )
    assert [x.kind for x in network.links] == [Kind.BICYCLE, Kind.VEHICLE]
    assert [(g.links, g.kind) for g in network.groups] == [((0, 1), Kind.BICYCLE)]
    network = read(tmp_path, *two_ways(a=cycle, z=tram))
    assert [x.kind for x in network.links] == [Kind.TRAM, Kind.TRAM]


def test_what_a_lane_leaves_out_is_as_sumo_has_it(tmp_path):
    """No length, 13.9 m/s, no place on the map;
    a link of which neither its way inside nor its lane has a speed has the same.
    """
    bare = {name: lane(f"{name}_0") for name in "abz"}
    pieces = [p.replace(' length="5" speed="10"', "") for p in two_ways(**bare)]
    network = read(tmp_path, *pieces)
    assert [(x.length_m, x.speed_mps, x.end_xy) for x in network.lanes] == [
        (0.0, 13.9, (0.0, 0.0))
    ] * 3
    assert [(x.length_m, x.speed_mps) for x in network.links] == [(0.0, 13.9)] * 2
    shapes = read_shapes(network)
    assert (shapes.lanes, shapes.junctions, shapes.signals) == (
        [],
        [],
        [(0.0, 0.0, 0.0), (0.0, 0.0, 0.0)],
    )


def test_a_point_with_a_height_is_a_place_on_the_map_as_any_other(tmp_path):
    network = read(
        tmp_path, *two_ways(a=lane("a_0", shape="3,4,100 6,8,200"), b=lane("b_0", shape="1,2"))
    )
    assert [x.end_xy for x in network.lanes] == [(6.0, 8.0), (1.0, 2.0), (0.0, 0.0)]
    assert read_shapes(network).lanes == [("a_0", 3.2, [(3.0, 4.0), (6.0, 8.0)])], (
        "a point alone is no lane on a map"
    )


def test_a_lamp_for_two_roads_that_cross_each_other_is_left_to_the_network(tmp_path):
    """Each green of it is two greens in conflict, of which a table of groups says nothing."""
    plan = programme("T", (30, "G"))
    with pytest.raises(RoadsError) as refused:
        read(tmp_path, *two_ways(index=(0, 0), plan=plan))
    assert str(refused.value).endswith(
        "link 0 of traffic light 'T' is one lamp for streams that cross each other, from a and b. "
        "Give each a linkIndex of its own."
    )
    peaceful = two_ways(index=(0, 0), plan=plan, requests=(((), ()), ((), ())))
    assert read(tmp_path, *peaceful).junctions[0].conflicts.tolist() == [[False]]


def test_lanes_of_one_road_that_merge_under_one_lamp_are_no_conflict_of_the_lamp(tmp_path):
    pieces = [
        piece.replace('"b"', '"a"').replace("b_0", "a_1")
        for piece in two_ways(index=(0, 0), plan=programme("T", (30, "G")))
    ]
    pieces = [
        piece.replace(
            'from="a" to="z" fromLane="0" toLane="0" via=":C_1_0"',
            'from="a" to="z" fromLane="1" toLane="0" via=":C_1_0"',
        )
        for piece in pieces
    ]
    network = read(tmp_path, *pieces)
    assert [network.lanes[x.from_lane].id for x in network.links] == ["a_0", "a_1"]
    assert network.junctions[0].conflicts.tolist() == [[False]]
    assert network.junctions[0].yields.tolist() == [[False]]


@pytest.mark.parametrize(
    ("requests", "conflict", "yields"),
    [
        ([((), ()), ((), ())], False, [[0, 0], [0, 0]]),
        ([((1,), ()), ((0,), ())], True, [[0, 1], [1, 0]]),
        ([((1,), ()), ((), ())], True, [[0, 1], [1, 0]]),
        ([((), ()), ((0,), ())], True, [[0, 1], [1, 0]]),
        ([((1,), (1,)), ((0,), ())], True, [[0, 1], [0, 0]]),
        ([((1,), (1,)), ((0,), (0,))], True, [[0, 1], [1, 0]]),
        (
            [((), (1,)), ((), (0,))],
            False,
            [[0, 0], [0, 0]],
        ),  # who gives way to whom says nothing without a conflict
        ([], False, [[0, 0], [0, 0]]),  # no request at all
    ],
)
def test_conflict_and_give_way_of_two_links(tmp_path, requests, conflict, yields):
    junction = read(tmp_path, *two_ways(requests=requests)).junctions[0]
    assert junction.conflicts.tolist() == [[False, conflict], [conflict, False]]
    assert junction.yields.astype(int).tolist() == yields


def test_the_colours_of_two_lamps_shown_by_a_programme_for_more_are_those_of_their_places(tmp_path):
    plan = programme("T", (30, "ruGyr"), (30, "yrrGG"))
    network = read(tmp_path, *two_ways(index=(4, 2), plan=plan))
    junction = network.junctions[0]
    assert [(g.index, g.links) for g in network.groups] == [(2, (1,)), (4, (0,))]
    assert junction.programme.colours.tolist() == [
        [Colour.GREEN, Colour.RED],
        [Colour.RED, Colour.GREEN],
    ]
    assert junction.stages.tolist() == junction.programme.colours.tolist(), (
        "yellow that nobody sees is none"
    )


def chain(shared: tuple[tuple[str, str], ...], names: str) -> tuple[str, ...]:
    """Nodes 0, 1, 2...; at each a road from one lane to one lane for each of the programmes
    `shared` there, all foes of each other.
    """
    pieces: list[str] = [programme(name, (30, "GG")) for name in names]
    used = dict.fromkeys(names, 0)
    for n, owners in enumerate(shared):
        requests = []
        for k, tl in enumerate(owners):
            start, end = f"f{n}{k}_0", f"t{n}{k}_0"
            pieces += [
                internal(lane(f":{n}_{k}_0", length=5, speed=10)),
                edge(start[:-2], lane(start)),
                edge(end[:-2], lane(end)),
            ]
            pieces.append(
                connection(start, end, via=f":{n}_{k}_0", tl=tl, linkIndex=used[tl], dir="s")
            )
            used[tl] += 1
            requests.append((tuple(i for i in range(len(owners)) if i != k), tuple(range(k))))
        pieces.append(
            junction(str(n), " ".join(f":{n}_{k}_0" for k in range(len(owners))), requests)
        )
    return tuple(pieces)


def test_programmes_that_meet_at_a_node_are_one_junction(tmp_path):
    """P and S alone; Q meets R at node 1 and R meets T at node 2: one junction, though Q and T
    never meet. Its groups are its own, in a row.
    """
    network = read(tmp_path, *chain((("P",), ("Q", "R"), ("R", "T"), ("S",)), "PQSRT"))
    assert [(j.id, j.tl_ids, j.first, j.end) for j in network.junctions] == [
        ("P", ("P",), 0, 1),
        ("Q", ("Q", "R", "T"), 1, 5),
        ("S", ("S",), 5, 6),
    ]
    assert [(g.tl_id, g.index, g.junction) for g in network.groups] == [
        ("P", 0, 0), ("Q", 0, 1), ("R", 0, 1), ("R", 1, 1), ("T", 0, 1), ("S", 0, 2),
    ]  # fmt: skip
    assert [network.junction(name) for name in "PQRST"] == [0, 1, 1, 2, 1]
    conflicts = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    yields = [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert network.junctions[1].conflicts.astype(int).tolist() == conflicts, (
        "none between links of different nodes"
    )
    assert network.junctions[1].yields.astype(int).tolist() == yields
    assert network.junctions[1].programme.colours.tolist() == [[4, 3, 4, 3]]
    assert network.warnings == (
        (
            "junction 'Q': phase 0 shows conflicting greens; links [0, "
            "0] are lowered to what right of way allows"
        ),
    )
    assert [link.group for link in network.links] == [0, 1, 2, 3, 4, 5]


def test_a_link_without_signal_and_way_inside_is_a_link_of_no_node(tmp_path):
    """As networks have it that were made without ways inside;
    so is a crossing that no node lists.
    """
    walk = edge(":C_w0", lane(":C_w0_0", allow="pedestrian"), function="walkingarea")
    crossing = edge(":C_c0", lane(":C_c0_0", length=9, allow="pedestrian"), function="crossing")
    more = (walk, crossing, connection("z_0", "a_0", dir="t"), connection(":C_w0_0", ":C_c0_0"))
    network = read(tmp_path, *two_ways(more=more))
    assert network.links[2] == Link("", -1, 2, 0, -1, "t", 0.0, 10.0, Kind.VEHICLE)
    assert network.links[3] == Link("", -1, 3, 4, -1, "c", 9.0, 1.0, Kind.PEDESTRIAN)
    with pytest.raises(RoadsError) as fault:
        read(
            tmp_path,
            *two_ways(more=(*more[:3], connection(":C_w0_0", ":C_c0_0", tl="T", linkIndex=0))),
        )
    assert "connection :C_w0_0 -> :C_c0_0 of traffic light 'T' has no internal lane" in str(
        fault.value
    )


def test_a_programme_of_a_second_is_a_programme(tmp_path):
    network = read(tmp_path, *two_ways(plan=programme("T", (0.5, "Gr"), (0.5, "rG"))))
    assert network.junctions[0].programme.cycle_s == 1.0


def test_a_programme_without_any_link_is_no_junction(tmp_path):
    network = read(tmp_path, *two_ways(more=(programme("idle", (30, "G")),)))
    assert [j.id for j in network.junctions] == ["T"]


# What is refused


def test_a_network_in_which_no_link_is_controlled_is_refused(tmp_path):
    with pytest.raises(RoadsError) as fault:
        read(tmp_path, *(p.replace('tl="T"', "") for p in two_ways()))
    path = tmp_path / "own.net.xml"
    assert str(fault.value) == (
        f"{path}: no connection is controlled by any of the 1 traffic lights. "
        "Assign links to them (tl, linkIndex)."
    )


def test_a_network_without_traffic_lights_is_refused(tmp_path):
    path = tmp_path / "own.net.xml"
    path.write_text(net(*two_ways(plan="<!-- none -->")))
    assert refused(path) == (
        f"{path}: the network has no traffic light. Headway needs at least one signalised "
        "junction (netconvert --tls.set)."
    )


@pytest.mark.parametrize(
    ("piece", "strange"),
    [
        ('length="5" speed="10"', 'length="nan" speed="10"'),
        ('length="50" speed="10"', 'length="50" speed="inf"'),
        ('length="50" speed="10"', 'length="-3" speed="10"'),
        ('linkIndex="0"', 'linkIndex="abc"'),
        ('index="0" response', 'index="?" response'),
        ('duration="30"', 'duration="x"'),
    ],
)
def test_a_network_with_strange_figures_is_refused_by_name(tmp_path, piece, strange):
    path = tmp_path / "own.net.xml"
    text = net(*two_ways())
    assert piece in text
    path.write_text(text.replace(piece, strange, 1))
    assert refused(path).startswith(f"{path}: ")


def test_a_file_that_is_no_network_is_refused(tmp_path):
    path = tmp_path / "own.net.xml"
    assert (
        refused(path)
        == f"{path}: no such network file. Check the path, or the net-file entry of the .sumocfg."
    )
    path.write_text("<routes></routes>")
    assert (
        refused(path)
        == f"{path}: the root element is <routes>, not <net>: this is no SUMO network."
    )
    path.write_text(crossroads()[:300])
    assert refused(path).startswith(f"{path}: not a readable SUMO network (")
    assert refused(path).endswith("). Rebuild it with netconvert.")


@pytest.mark.parametrize("fault", ["not compressed", "cut short", "a byte changed"])
def test_a_compressed_file_that_is_broken_is_refused_for_the_network_and_for_its_map(
    tmp_path, fault
):
    path = tmp_path / "own.net.xml.gz"
    whole = gzip.compress(crossroads().encode())
    path.write_bytes(whole)
    network = read_network(path)
    path.write_bytes(
        {
            "not compressed": crossroads().encode(),
            "cut short": whole[:-30],
            "a byte changed": whole[:50] + b"\xff\xff" + whole[52:],
        }[fault]
    )
    assert refused(path).startswith(f"{path}: not a readable SUMO network (")
    with pytest.raises(RoadsError) as unreadable:
        read_shapes(network)
    assert str(unreadable.value).startswith(f"{path}: cannot be read (")


def test_a_map_whose_file_is_gone_or_broken_is_refused(tmp_path):
    network = read(tmp_path, *two_ways())
    path = tmp_path / "own.net.xml"
    path.write_text("<net>")
    with pytest.raises(RoadsError) as unreadable:
        read_shapes(network)
    assert str(unreadable.value) == f"{path}: cannot be read (no element found: line 1, column 5)."
    path.unlink()
    with pytest.raises(RoadsError) as unreadable:
        read_shapes(network)
    assert (
        str(unreadable.value)
        == f"{path}: cannot be read ([Errno 2] No such file or directory: '{path}')."
    )


def test_a_network_whose_entities_grow_without_end_is_refused(tmp_path):
    """Seven levels of ten each: 100 bytes of text would become 100 MB."""
    names = "abcdefg"
    entities = "".join(f'<!ENTITY {name} "{f"&{below};" * 10}">' for below, name in pairwise(names))
    path = tmp_path / "grown.net.xml"
    path.write_text(
        f'<!DOCTYPE net [<!ENTITY a "{"a" * 100}">{entities}]><net><edge id="&g;"/></net>'
    )
    assert "amplification" in refused(path)


def test_a_network_takes_nothing_in_from_other_files(tmp_path):
    (tmp_path / "secret").write_text("a secret")
    path = tmp_path / "taking.net.xml"
    path.write_text(
        f'<!DOCTYPE net [<!ENTITY a SYSTEM "{(tmp_path / "secret").as_uri()}">]>'
        "<net><edge>&a;</edge></net>"
    )
    assert "undefined entity &a;" in refused(path)


def test_internal_lanes_that_lead_in_a_circle_are_an_unknown_right_of_way(tmp_path):
    """The network was read for ever, with ever more memory."""
    circle = (
        internal(lane(":C_9_0", length=7, speed=10)),
        connection("b_0", "z_0", via=":C_9_0", tl="T", linkIndex=1, dir="s"),
        connection(":C_9_0", "z_0", via=":C_9_0", dir="s"),
    )
    with pytest.raises(RoadsError, match="connection b_0 -> z_0 of traffic light 'T' has no"):
        read(tmp_path, *two_ways(more=circle))
