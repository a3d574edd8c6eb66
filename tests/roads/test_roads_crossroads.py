"""The crossroads of `builders`, read: every lane, link, group, conflict, stage and time by value,
worked out by hand from its drawing.
"""

from __future__ import annotations

import dataclasses
import gzip

import numpy as np
import pytest

from headway.plants.sumo import read_network, read_shapes
from headway.roads import (
    BENCHMARK,
    STREET,
    Colour,
    Junction,
    Kind,
    Lane,
    Link,
    NotControlled,
    Programme,
    RoadsError,
    SignalGroup,
    compatible_stages,
    is_green,
    work_out,
)
from headway.roads.upstream import Feeder, feeders, stop_lanes
from tests.roads.builders import crossroads, programme

CAR, WALK = Kind.VEHICLE, Kind.PEDESTRIAN
RED, GREEN = int(Colour.RED), int(Colour.GREEN)
CROSSING, FROM_WALK, TO_WALK, U, W0, W1, E, S0, S1, OE, OW0, OW1, ON, X, NN = range(15)
LANES = (
    Lane(":C_c0_0", ":C_c0", 12.84, 2.78, WALK, (-12.0, 8.0)),
    Lane(":C_w0_0", ":C_w0", 3.0, 2.78, WALK, (-12.0, -8.0)),
    Lane(":C_w1_0", ":C_w1", 4.0, 2.78, WALK, (-12.0, 11.0)),
    Lane("u_0", "u", 60.0, 13.0, CAR, (-215.0, 0.0)),
    Lane("w_0", "w", 200.0, 20.0, CAR, (-10.0, -2.0)),
    Lane("w_1", "w", 200.0, 20.0, CAR, (-10.0, 2.0)),
    Lane("e_0", "e", 150.0, 13.0, CAR, (14.0, 6.0)),
    Lane("s_0", "s", 80.0, 8.0, CAR, (2.0, -10.0)),
    Lane("s_1", "s", 80.0, 16.0, CAR, (5.0, -10.0)),
    Lane("oe_0", "oe", 100.0, 18.0, CAR, (114.0, -2.0)),
    Lane("ow_0", "ow", 90.0, 12.0, CAR, (-102.0, 6.0)),
    Lane("ow_1", "ow", 90.0, 12.0, CAR, (-102.0, 9.0)),
    Lane("on_0", "on", 100.0, 10.0, CAR, (1.0, 112.0)),
    Lane("x_0", "x", 40.0, 9.0, CAR, (9.0, 117.0)),
    Lane("nn_0", "nn", 70.0, 10.0, CAR, (1.0, 193.0)),
)
# node, request, from, to, group, direction, length, speed (the least of the way inside and the lane
# after it), kind, way inside
LINKS = (
    Link("U", 0, U, W0, -1, "s", 5.0, 13.0, CAR, (":U_0_0",)),
    Link("U", 1, U, W1, -1, "L", 7.0, 12.0, CAR, (":U_1_0",)),
    Link("C", 0, W0, OE, 0, "s", 24.0, 18.0, CAR, (":C_0_0",)),
    Link("C", 1, W1, ON, 1, "l", 17.0, 5.0, CAR, (":C_1_0", ":C_7_0")),
    Link("C", 2, E, OW0, 2, "s", 26.0, 12.0, CAR, (":C_2_0",)),
    Link("C", 3, S0, OW0, 3, "l", 18.0, 7.0, CAR, (":C_3_0",)),
    Link("C", 4, S1, OW1, 3, "l", 20.0, 7.5, CAR, (":C_4_0",)),
    Link("C", 5, S0, OE, 4, "r", 8.0, 4.0, CAR, (":C_5_0",)),
    Link("C", 6, FROM_WALK, CROSSING, 5, "c", 12.84, 1.0, WALK, ()),
    Link("N", 0, ON, NN, 6, "s", 11.0, 10.0, CAR, (":N_0_0",)),
    Link("N", 1, X, NN, 7, "R", 12.0, 9.0, CAR, (":N_1_0",)),
)
GROUPS = (
    SignalGroup("T", 0, 0, CAR, (2,), False),
    SignalGroup("T", 1, 0, CAR, (3,), False),
    SignalGroup("T", 2, 0, CAR, (4,), False),
    SignalGroup("T", 3, 0, CAR, (5, 6), False),
    SignalGroup("T", 4, 0, CAR, (7,), True),
    SignalGroup("T", 5, 0, WALK, (8,), False),
    SignalGroup("B", 0, 1, CAR, (9,), False),
    SignalGroup("B", 1, 1, CAR, (10,), False),
)
CONFLICTS = [
    [0, 0, 0, 1, 1, 1],
    [0, 0, 1, 1, 0, 1],
    [0, 1, 0, 1, 0, 1],
    [1, 1, 1, 0, 0, 1],
    [1, 0, 0, 0, 0, 0],
    [1, 1, 1, 1, 0, 0],
]
# row gives way to column. 2 and 3: one of the two lanes of 3 does not give way, so neither is
# first, and each gives way; likewise 1 and 5
YIELDS = [
    [0, 0, 0, 0, 0, 0],
    [0, 0, 1, 0, 0, 1],
    [0, 0, 0, 1, 0, 0],
    [1, 1, 1, 0, 0, 1],
    [1, 0, 0, 0, 0, 0],
    [1, 1, 1, 0, 0, 0],
]


def test_lanes_are_those_of_roads_and_walkways_in_the_order_of_the_file(crossroads_network):
    assert crossroads_network.lanes == LANES
    assert crossroads_network.lane_index == {lane.id: i for i, lane in enumerate(LANES)}


def test_links_are_the_ways_over_each_junction(crossroads_network):
    assert crossroads_network.links == LINKS


def test_links_are_found_by_the_lane_from_which_and_to_which_they_lead(crossroads_network):
    for lane in range(len(LANES)):
        assert crossroads_network.links_from(lane) == [
            i for i, x in enumerate(LINKS) if x.from_lane == lane
        ]
        assert crossroads_network.links_to(lane) == [
            i for i, x in enumerate(LINKS) if x.to_lane == lane
        ]
    assert (
        crossroads_network.links_from(S0),
        crossroads_network.links_to(OE),
        crossroads_network.links_to(U),
    ) == ([5, 7], [2, 7], [])


def test_groups_are_the_lamps_of_the_programmes(crossroads_network):
    assert crossroads_network.groups == GROUPS
    assert crossroads_network.group_junction.tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert crossroads_network.group_junction.dtype == np.int32


def test_junctions_hold_the_groups_of_their_programme(crossroads_network):
    one, other = crossroads_network.junctions
    assert (one.id, one.tl_ids, one.first, one.end, one.groups) == ("T", ("T",), 0, 6, range(6))
    assert (other.id, other.tl_ids, other.first, other.end, other.groups) == (
        "B",
        ("B",),
        6,
        8,
        range(6, 8),
    )
    assert [crossroads_network.junction(name) for name in ("T", "B")] == [0, 1]
    assert crossroads_network.warnings == ()


def test_conflicts_are_foes_of_either_side_that_come_from_different_lanes(crossroads_network):
    assert crossroads_network.junctions[0].conflicts.astype(int).tolist() == CONFLICTS
    assert crossroads_network.junctions[1].conflicts.astype(int).tolist() == [[0, 1], [1, 0]]


def test_a_group_gives_way_where_all_its_links_do_and_foes_of_whom_neither_is_first_to_each_other(
    crossroads_network,
):
    assert crossroads_network.junctions[0].yields.astype(int).tolist() == YIELDS
    assert crossroads_network.junctions[1].yields.astype(int).tolist() == [[0, 0], [1, 0]]


def test_stages_are_the_phases_with_green_and_without_yellow(crossroads_network):
    assert crossroads_network.junctions[0].stages.tolist() == [
        [4, 3, 4, 1, 1, 1],
        [1, 1, 1, 4, 4, 1],
        [1, 1, 1, 1, 1, 4],
    ]
    assert crossroads_network.junctions[1].stages.tolist() == [[4, 1], [1, 4]]
    assert crossroads_network.junctions[0].stages.dtype == np.int8


def test_all_compatible_stages_are_those_and_every_maximal_set_with_the_permissive_left(
    crossroads_network,
):
    """Sets without conflict, but for 1 with 2, which the programme shows together: {0 1 2}, {1 2
    4}, {3 4}, {4 5}; and without that: {0 1}, {0 2}, {1 4}, {2 4}.
    """
    junction = crossroads_network.junctions[0]
    found = compatible_stages(junction.stages, junction.conflicts, junction.yields).tolist()
    assert found[:3] == junction.stages.tolist()
    assert len(found) == 9
    assert {tuple(s) for s in found[3:]} == {
        (1, 3, 4, 1, 4, 1), (1, 1, 1, 1, 4, 4), (4, 4, 1, 1, 1, 1), (4, 1, 4, 1, 1, 1),
        (1, 4, 1, 1, 4, 1), (1, 1, 4, 1, 4, 1),
    }  # fmt: skip


def test_the_programme_keeps_its_phases_yellow_turn_on_red_and_offset(crossroads_network):
    plan = crossroads_network.junctions[0].programme
    assert plan.colours.tolist() == [
        [4, 3, 4, 1, 1, 1], [2, 2, 2, 1, 1, 1], [1, 1, 1, 4, 4, 1], [1, 1, 1, 2, 2, 1],
        [1, 1, 1, 1, 1, 4], [1, 1, 1, 1, 1, 1],
    ]  # fmt: skip
    assert (plan.duration_s.tolist(), plan.offset_s, plan.cycle_s) == (
        [40.0, 4.0, 25.0, 3.0, 15.0, 5.0],
        7.5,
        92.0,
    )
    assert plan.duration_s.dtype == np.float64
    other = crossroads_network.junctions[1].programme
    assert (other.duration_s.tolist(), other.offset_s) == ([30.0, 3.0, 20.0, 3.0], 0.0), (
        "the first programme of two with one name"
    )


@pytest.mark.parametrize(
    ("at_s", "phase"),
    [
        # one cycle, from 7.5 s
        (7.5, 0), (47.499, 0), (47.5, 1), (51.4, 1), (51.5, 2), (76.5, 3), (79.5, 4), (94.5, 5),
        (99.4, 5), (99.5, 0),
        (0.0, 4), (2.4, 4), (2.5, 5), (7.4, 5), (7.5 + 92e6 + 60, 2), (-84.5, 0),
        (np.nextafter(7.5, 0.0), 5), (7.5 - 1e-16, 0),
    ],
)  # fmt: skip
def test_the_phase_in_force_starts_late_by_the_offset(crossroads_network, at_s, phase):
    assert crossroads_network.junctions[0].programme.phase_at(at_s) == phase


def test_the_last_phase_is_in_force_where_time_is_rounded_up_to_the_whole_cycle():
    """-1e-20 % 60 is 60.0 in floating point."""
    plan = Programme(np.array([[4], [1]], np.int8), np.array([20.0, 40.0]), 0.0)
    assert plan.phase_at(-1e-20) == 1


# Timing. Yellow 1 + v / 6.1 for v = 20, 20, 13, 16, 8: 4.279, 4.279, 3.131, 3.623, 2.311 (3 at
# least). Clearance (W + 6) / v: 30/20, 23/20, 32/13, max(24/8, 26/16), 14/8. On foot: 12.84 / 1.07.
STREET_YELLOW = [4.3, 4.3, 3.2, 3.7, 3.0, 0.0, 3.0, 3.0]
STREET_CLEARANCE = [1.5, 1.2, 2.5, 3.0, 1.8, 12.0, 1.7, 2.0]


def test_street_timing_comes_from_speed_and_width(crossroads_network):
    timing = work_out(crossroads_network, STREET)
    assert timing.profile is STREET
    assert timing.yellow_s.tolist() == STREET_YELLOW
    assert timing.clearance_s.tolist() == STREET_CLEARANCE
    assert timing.min_green_s.tolist() == [10.0, 10.0, 10.0, 10.0, 10.0, 8.0, 10.0, 10.0], (
        "on foot 20 s less the 12 s of clearance"
    )
    assert timing.max_green_s.tolist() == [90.0] * 8


def test_benchmark_timing_is_the_same_for_all_but_those_on_foot(crossroads_network):
    timing = work_out(crossroads_network, BENCHMARK)
    assert timing.yellow_s.tolist() == [3.0, 3.0, 3.0, 3.0, 3.0, 0.0, 3.0, 3.0]
    assert timing.clearance_s.tolist() == [0.0, 0.0, 0.0, 0.0, 0.0, 12.0, 0.0, 0.0]
    assert timing.min_green_s.tolist() == [5.0, 5.0, 5.0, 5.0, 5.0, 7.0, 5.0, 5.0]
    assert timing.max_green_s.tolist() == [120.0] * 8


def test_the_intergreen_is_of_the_row_that_ends_to_the_column_that_starts(crossroads_network):
    """Yellow + clearance of the row: 5.8, 5.5, 5.7, 6.7, 4.8, 12.0; and of B: 4.7, 5.0."""
    timing = work_out(crossroads_network, STREET)
    assert timing.intergreen_s(crossroads_network, 0) == pytest.approx(
        np.array(
            [
                [0.0, 0.0, 0.0, 5.8, 5.8, 5.8],
                [0.0, 0.0, 5.5, 5.5, 0.0, 5.5],
                [0.0, 5.7, 0.0, 5.7, 0.0, 5.7],
                [6.7, 6.7, 6.7, 0.0, 0.0, 6.7],
                [4.8, 0.0, 0.0, 0.0, 0.0, 0.0],
                [12.0, 12.0, 12.0, 12.0, 0.0, 0.0],
            ]
        )
    )
    assert timing.intergreen_s(crossroads_network, 1) == pytest.approx(
        np.array([[0.0, 4.7], [5.0, 0.0]])
    )


@pytest.mark.parametrize(
    ("profile", "least", "most"),
    [
        (dataclasses.replace(STREET, walk_s=8.5), 8.5, 90.0),
        (dataclasses.replace(STREET, pedestrian_s=21.04), 9.1, 90.0),  # 21.04 - 12, in whole tenths
        (
            dataclasses.replace(STREET, pedestrian_s=112.0),
            100.0,
            100.0,
        ),  # never longest before least
    ],
)
def test_those_on_foot_have_time_to_walk_and_to_clear(crossroads_network, profile, least, most):
    timing = work_out(crossroads_network, profile)
    assert (timing.min_green_s[5], timing.max_green_s[5], timing.clearance_s[5]) == (
        least,
        most,
        12.0,
    )
    assert (timing.min_green_s[0], timing.max_green_s[0]) == (10.0, 90.0)


# Upstream


def test_stop_lanes_are_those_before_a_signal_for_vehicles(crossroads_network):
    assert stop_lanes(crossroads_network) == [W0, W1, E, S0, S1, ON, X]


def test_feeders_go_back_to_the_signal_before_or_as_far_as_the_range(crossroads_network):
    own = Feeder("w_1", 200.0, True)
    assert feeders(crossroads_network, W1, 200.0) == [own]
    assert feeders(crossroads_network, W1, 200.1) == [
        own,
        Feeder(":U_1_0", 207.0, False),
        Feeder("u_0", 267.0, False),
    ]
    assert feeders(crossroads_network, ON, 1000.0) == [Feeder("on_0", 100.0, True)], (
        "behind it stands a signal"
    )


# The map


def test_shapes_are_all_lanes_with_their_width_and_the_outlines_of_junctions(crossroads_network):
    shapes = read_shapes(crossroads_network)
    names = [name for name, _, _ in shapes.lanes]
    assert len(names) == 11 + 15
    assert names[:3] == [":U_0_0", ":U_1_0", ":C_0_0"]
    drawn = {name: (width, points) for name, width, points in shapes.lanes}
    assert drawn["w_0"] == (3.5, [(-210.0, -2.0), (-110.0, -12.0), (-10.0, -2.0)])
    assert drawn["w_1"] == (3.2, [(-210.0, 2.0), (-10.0, 2.0)])
    assert shapes.junctions == [
        [(-12.0, -10.0), (14.0, -10.0), (14.0, 12.0), (-12.0, 12.0)],
        [(-1.0, 112.0), (9.0, 112.0), (9.0, 123.0)],
    ], "neither U, which has no shape, nor the inner one, nor the end of a road, of two points"


def test_each_signal_stands_at_the_end_of_its_lane_and_looks_along_it(crossroads_network):
    """Degrees clockwise from north. w_0 ends going 100 east, 10 north: atan2(100, 10) = 84.289.
    The way on foot starts from the walkway.
    """
    signals = read_shapes(crossroads_network).signals
    assert [s[:2] for s in signals] == [
        (-10.0, -2.0),
        (-10.0, 2.0),
        (14.0, 6.0),
        (2.0, -10.0),
        (2.0, -10.0),
        (-12.0, -8.0),
        (1.0, 112.0),
        (9.0, 117.0),
    ]
    assert [s[2] for s in signals] == pytest.approx(
        [84.28940686, 90.0, -90.0, 0.0, 0.0, -153.43494882, 0.0, -90.0]
    )


def test_a_network_is_read_compressed_too(tmp_path, crossroads_network):
    path = tmp_path / "c.net.xml.gz"
    path.write_bytes(gzip.compress(crossroads().encode()))
    network = read_network(str(path))
    assert (network.path, network.lanes, network.links) == (str(path), LANES, LINKS)
    assert read_shapes(network) == read_shapes(crossroads_network)


# Programmes that need a hand


def changed(tmp_path, *changes: tuple[str, str]):
    text = crossroads()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = tmp_path / "changed.net.xml"
    path.write_text(text)
    return read_network(path)


def test_conflicting_greens_are_lowered_to_what_right_of_way_allows_and_warned_of(tmp_path):
    """The left turn at 1 is shown protected beside its foe 2, and in phase 2 the crossing beside 3,
    which gives way to it.
    """
    network = changed(tmp_path, ("GgGrsr", "GGGrsr"), ("rrrGGr", "rrrGGG"))
    junction = network.junctions[0]
    assert junction.programme.colours.tolist()[0] == [4, 3, 4, 1, 1, 1]
    assert junction.programme.colours.tolist()[2] == [1, 1, 1, 3, 4, 4]
    assert junction.stages.tolist() == [[4, 3, 4, 1, 1, 1], [1, 1, 1, 3, 4, 4], [1, 1, 1, 1, 1, 4]]
    assert network.warnings == (
        (
            "junction 'T': phase 0 shows conflicting greens; links [1] are lowered to what "
            "right of way allows"
        ),
        (
            "junction 'T': phase 2 shows conflicting greens; links [3] are lowered to what "
            "right of way allows"
        ),
    )
    assert len(network.junctions[1].stages) == 2


def test_signals_that_are_off_are_dark_and_get_all_maximal_stages(tmp_path):
    text = crossroads().replace(
        programme("B", (30, "Gr"), (3, "yr"), (20, "rG"), (3, "ry")),
        programme("B", (30, "oO"), offset="begin"),
    )
    path = tmp_path / "off.net.xml"
    path.write_text(text)
    junction = read_network(path).junctions[1]
    assert junction.programme.colours.tolist() == [[Colour.DARK, Colour.DARK]]
    assert sorted(junction.stages.tolist()) == [[1, 4], [4, 1]]
    assert junction.programme.offset_s == 0.0


def test_each_letter_of_a_programme_has_its_colour(tmp_path):
    network = changed(tmp_path, ("rrrrrr", "ruYOsr"))
    assert network.junctions[0].programme.colours[5].tolist() == [
        Colour.RED,
        Colour.RED,
        Colour.YELLOW,
        Colour.DARK,
        Colour.RED,
        Colour.RED,
    ]


def test_one_lamp_that_may_turn_on_red_in_any_phase_is_marked(tmp_path):
    network = changed(tmp_path, ("GgGrsr", "GgGrrr"), ("rrrrrr", "srrrrr"))
    assert [g.turn_on_red for g in network.groups] == [
        True,
        False,
        False,
        False,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([("rrrGGr", "rrrrGr")],
            (
                "junction 'T' has no stage that serves link 3 of traffic light 'T' (direction "
                "'l'). Give the programme a green phase for it, "
                "or take the signal off the link."
            )),
        ([("rrryyr", "rrry")],
            "traffic light 'T', phase 3: the state 'rrry' has 4 places, "
            "but its connections use 6."),
        ([("rrryyr", "rrrxzr")],
            "traffic light 'T', phase 3: unknown colours ['x', 'z'] in 'rrrxzr'."),
        ([('linkIndex="1" dir="R"', 'linkIndex="2" dir="R"')],
            "traffic light 'B', phase 0: the state 'Gr' has 2 places, but its connections use 3."),
        ([('tl="B" linkIndex="0"', 'tl="D" linkIndex="0"')],
            "a connection names traffic light 'D', which has no programme (<tlLogic>)."),
        (
            [('via=":N_1_0"', "")],
            "connection x_0 -> nn_0 of traffic light 'B' has no internal lane, "
            "so its right of way is unknown. "
            "Rebuild the network with netconvert without --no-internal-links.",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_controlled_is_left_to_its_programme_and_the_rest_is_controlled(
    tmp_path, changes, said
):
    network = changed(tmp_path, *changes)
    assert [x.reason for x in network.not_controlled] == [said]
    (left,) = network.not_controlled
    alone = [link for link in network.links if link.left_alone]
    names = [junction.id for junction in network.junctions]
    if left.place >= 0:
        assert (left, names, len(alone)) == (
            NotControlled(("T",), said, 3, "r"),
            ["T", "B"],
            2,  # lamp 3 is that of two links
        )
        assert [g.index for g in network.groups] == [0, 1, 2, 4, 5, 0, 1]
        assert [link.group for link in alone] == [-1, -1]
    else:
        assert len(names) == 1
        assert left.shows == ""
        assert not set(left.tl_ids) & {g.tl_id for g in network.groups}
        assert all(link.group >= 0 for link in network.links if link.node == "CN"[names == ["B"]])


def test_a_lamp_that_is_off_all_day_stays_off(tmp_path):
    """Lamp 0 is off in every phase, its traffic drives by right of way; lamp 3 is never green."""
    states = [
        ("GgGrsr", "OgGrsr"),
        ("yyyrsr", "Oyyrsr"),
        ("rrrGGr", "OrrrGr"),
        ("rrryyr", "Orryyr"),
        ("rrrrrG", "OrrrrG"),
        ("rrrrrr", "Orrrrr"),
    ]
    both = changed(tmp_path, *states).not_controlled
    assert [(x.tl_ids, x.place, x.shows) for x in both] == [(("T",), 0, "O"), (("T",), 3, "r")]
    network = changed(tmp_path, *states[:2], ("rrrGGr", "OrrGGr"), *states[3:])
    (left,) = network.not_controlled
    assert left == NotControlled(
        ("T",),
        "junction 'T': link 0 of traffic light 'T' is off in every phase. Give the programme a "
        "green phase for it, or take the signal off the link.",
        0,
        "O",
    )
    assert [g.index for g in network.groups[:5]] == [1, 2, 3, 4, 5]
    yielding = changed(tmp_path, *((old, new.replace("O", "o")) for old, new in states))
    assert yielding.not_controlled[0].shows == "o"


def test_off_in_some_phases_and_red_in_the_others_is_green_in_the_former(tmp_path):
    """`o` after all others, `O` before them."""
    for off, green in (("o", Colour.PERMISSIVE), ("O", Colour.GREEN)):
        network = changed(tmp_path, ("rrrGGr", f"rrr{off}Gr"))
        assert network.not_controlled == ()
        assert network.junctions[0].programme.colours[:, 3].tolist() == [1, 1, green, 2, 1, 1]


def test_a_green_only_beside_yellow_is_a_stage_with_red_for_the_yellow(tmp_path):
    network = changed(tmp_path, ("rrrGGr", "rrrrGr"), ("rrryyr", "rrrGyr"))
    assert [RED, RED, RED, GREEN, RED, RED] in network.junctions[0].stages.tolist()
    assert network.not_controlled == ()


def test_a_programme_without_length_is_left_alone(tmp_path):
    for text in (
        '<tlLogic id="B"></tlLogic>',
        '<tlLogic id="B"><phase state="Gr"/><phase duration="0" state="rG"/></tlLogic>',
    ):
        path = tmp_path / "empty.net.xml"
        path.write_text(
            crossroads().replace(programme("B", (30, "Gr"), (3, "yr"), (20, "rG"), (3, "ry")), text)
        )
        network = read_network(path)
        assert [junction.id for junction in network.junctions] == ["T"]
        assert network.not_controlled == (
            NotControlled(
                ("B",),
                "the programme of traffic light 'B' has no phase of any length. "
                "Give it at least one green phase.",
            ),
        )


# Values


def test_nothing_of_a_network_can_be_changed(crossroads_network):
    junction = crossroads_network.junctions[0]
    own = [
        *(
            x[0]
            for x in (crossroads_network.lanes, crossroads_network.links, crossroads_network.groups)
        ),
        junction,
        junction.programme,
    ]
    for value in (
        *own,
        crossroads_network,
        work_out(crossroads_network, STREET),
        read_shapes(crossroads_network),
        STREET,
        Feeder("a", 1.0, True),
    ):
        for field in dataclasses.fields(value):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, field.name, None)


def test_a_junction_is_found_by_its_own_name_or_that_of_a_programme_in_it(crossroads_network):
    with pytest.raises(RoadsError) as refused:
        crossroads_network.junction("Z")
    assert str(refused.value) == f"{crossroads_network.path}: no junction 'Z'. Known: T, B"
    first = crossroads_network.junctions[0]
    many = [dataclasses.replace(first, id=f"J{k}", tl_ids=(f"J{k}", f"K{k}")) for k in range(9)]
    eight, nine = (
        dataclasses.replace(crossroads_network, junctions=tuple(many[:n])) for n in (8, 9)
    )
    assert [nine.junction(name) for name in ("J0", "J8", "K3")] == [0, 8, 3]
    for network, tail in ((eight, "J6, J7"), (nine, "J6, J7, ...")):
        with pytest.raises(RoadsError) as refused:
            network.junction("Z")
        assert str(refused.value).endswith(
            f"no junction 'Z'. Known: J0, J1, J2, J3, J4, J5, {tail}"
        )


def test_what_is_green():
    assert is_green(np.array(list(Colour), np.int8)).tolist() == [False] * 5 + [True, True]
    assert [(c.name, c.value) for c in Colour] == [
        ("FLASHING_YELLOW", -2),
        ("FLASHING_RED", -1),
        ("DARK", 0),
        ("RED", 1),
        ("YELLOW", 2),
        ("PERMISSIVE", 3),
        ("GREEN", 4),
    ]
    assert [(k.name, k.value) for k in Kind] == [
        ("VEHICLE", 0),
        ("BICYCLE", 1),
        ("TRAM", 2),
        ("PEDESTRIAN", 3),
    ]


def test_a_network_is_printed_without_its_index(crossroads_network):
    assert "lane_index" not in repr(crossroads_network)
    assert isinstance(crossroads_network.junctions[0], Junction)
