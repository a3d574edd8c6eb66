"""The street as a plant, over a SUMO that says what it is told (`street_by_hand`):
each figure by hand, each call as it must be.
"""

from __future__ import annotations

import socket
import sys
import threading
import zlib
from dataclasses import FrozenInstanceError, replace
from types import SimpleNamespace

import numpy as np
import pytest
from tests.plants.street_by_hand import (
    BACK,
    C0,
    END,
    IN0,
    IN1,
    KIN,
    OUT,
    SHORT,
    SIDE,
    WEST,
    WEST2,
    FatalSaidError,
    SaidError,
    Sumo,
    network,
)  # fmt: skip

from headway.plants import PlantAwayError, PlantError
from headway.plants.sumo import SumoPlant, SumoSettings
from headway.plants.sumo.plant import CLASSES
from headway.plants.sumo.short_lanes import ShortLane, short_lanes
from headway.roads import Colour
from headway.values import EmergencyVehicle

INF = float("inf")
DARK, RED, YELLOW, PERMISSIVE, GREEN = list(Colour)[2:]  # the others flash
EXITS = [SHORT, BACK, SIDE, OUT, END, WEST, WEST2, C0]


@pytest.fixture
def sumo(monkeypatch) -> Sumo:
    said = Sumo()
    monkeypatch.setitem(sys.modules, "libsumo", said)
    return said


def plant_of(street=None, **settings) -> SumoPlant:
    return SumoPlant(SumoSettings("town.sumocfg", **settings), street or network())


def colours(*shown: int) -> SimpleNamespace:
    """An order: colours of the seven groups."""
    return SimpleNamespace(colours=np.array(shown, np.int8))


def test_sumo_is_started_with_all_that_makes_a_run_the_same_again():
    asked = SumoSettings("a.sumocfg").arguments()
    assert asked == [
        "sumo", "-c", "a.sumocfg", "--seed", "1", "--scale", "1.0", "--time-to-teleport", "-1",
        "--no-step-log", "true", "--save-state.rng", "true",
        "--save-state.precision", "17", "--save-state.transportables", "true", "--no-warnings",
        "true", "--duration-log.disable", "true", "--random", "false", "--remote-port", "0",
    ]  # fmt: skip
    more = SumoSettings("a.sumocfg", seed=7, scale=1.5, extra=("--end", "9")).arguments()
    assert more == [*asked[:4], "7", "--scale", "1.5", *asked[7:], "--end", "9"]
    assert SumoSettings("x") == SumoSettings("x", 1, 1.0, 200.0, "connected", (), "")


def test_a_street_of_this_process_is_libsumos(sumo):
    plant = plant_of(seed=3)
    assert sumo.said == [("start", SumoSettings("town.sumocfg", seed=3).arguments(), {})]
    plant.close()
    assert sumo.said[1:] == [("close",)]


@pytest.mark.parametrize(
    ("remote", "said"),
    [
        ("127.0.0.1:8813", ("connect", 8813, {"host": "127.0.0.1", "numRetries": 10})),
        (":99", ("connect", 99, {"host": "localhost", "numRetries": 10})),
    ],
)
def test_a_street_of_another_process_is_connected_to(remote, said, monkeypatch):
    traci = Sumo()
    monkeypatch.setitem(sys.modules, "traci", traci)
    plant_of(remote=remote)
    assert traci.said == [said]


@pytest.mark.parametrize(
    ("other", "shapes", "said"),
    [
        (
            {"K": [[], [("short_0", "end_0", "")]]}, {},
            "link 1 of traffic light 'K' leads short_0 -> end_0, here short_0 -> end_0, "
            "short_0 -> west2_0",
        ),
        ({"J": []}, {}, "link 0 of traffic light 'J' leads nowhere, here in_0 -> short_0"),
        ({"K2": SaidError("Traffic light 'K2' is not known")}, {},
            "Traffic light 'K2' is not known"),
        ({}, {"kin_0": ((0.0, 0.0), (0.0, 3.2, 1.5))}, "lane 'kin_0' ends at (0.0, 3.2), here"),
    ],
    ids=["fewer links", "none", "no such light", "the other side of the road"],
)  # fmt: skip
def test_a_sumo_of_another_process_with_another_network_is_refused(
    other, shapes, said, monkeypatch
):
    """A network of the same names with other links was driven to its end."""
    traci = Sumo()
    traci.other_links, traci.shapes = other, shapes
    monkeypatch.setitem(sys.modules, "traci", traci)
    with pytest.raises(PlantError) as error:
        plant_of(remote="host:8813")
    start, _, end = str(error.value).partition(said)
    assert start == "sumo.remote: the SUMO there does not run by hand: "
    assert end.endswith("Start it with the scenario of the street.")
    assert traci.said[-1] == ("close",)


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 400 Bad\r\n\r\n", b"\0\0\0\2", b"\0\0\0\x20" + bytes(range(28))],
    ids=["nothing", "a web server", "too short", "rubbish"],
)
def test_what_answers_as_no_sumo_does_is_away_and_no_other_network(answer):
    """Orders are kept while SUMO is away; of another network they were given up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        place = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(PlantAwayError, match=f"sumo.remote: no SUMO answers at {place} "):
            SumoPlant(SumoSettings("x.sumocfg", remote=place), network())
        thread.join()


def test_a_graphical_street_is_started_and_each_has_its_own_name(monkeypatch):
    traci = Sumo()
    monkeypatch.setitem(sys.modules, "traci", traci)
    plant_of(remote="gui", seed=5)
    plant_of(remote="gui")
    (what, arguments, named), got, again, _ = traci.said
    label = named["label"]
    assert (what, arguments) == (
        "start",
        [
            "sumo-gui",
            "--start",
            "--quit-on-end",
            *SumoSettings("town.sumocfg", seed=5, remote="gui").arguments()[1:],
        ],
    )
    assert got == ("getConnection", label)
    number = int(label.removeprefix("headway-"))
    assert again[2] == {"label": f"headway-{number + 1}"}


@pytest.mark.parametrize("remote", ["somewhere", "host:", "host:x1", "host:0", "host:65536"])
def test_a_place_that_is_none_is_refused(remote, monkeypatch):
    monkeypatch.setitem(sys.modules, "traci", Sumo())
    with pytest.raises(PlantError) as error:
        plant_of(remote=remote)
    assert str(error.value) == f"remote {remote!r}: give gui, or host:port."


@pytest.mark.parametrize(
    "fault", [SaidError("no route"), FatalSaidError("no route"), ConnectionRefusedError("no route")]
)
@pytest.mark.parametrize(
    ("remote", "says"),
    [
        (
            "",
            "town.sumocfg: SUMO does not start: no route. Check that the routes fit the network.",
        ),
        (
            "gui",
            "town.sumocfg: SUMO does not start: no route. Check that sumo-gui is there, and that "
            "the routes fit the network.",
        ),
        (
            "localhost:1",
            "sumo.remote: no SUMO answers at localhost:1 (no route). Start one there with "
            "--remote-port 1, anew for each start of the street.",
        ),
    ],
)
def test_a_sumo_that_does_not_start_is_a_clear_error(fault, remote, says, sumo, monkeypatch):
    monkeypatch.setitem(sys.modules, "traci", sumo)
    sumo.fails = fault
    with pytest.raises(PlantError) as error:
        plant_of(remote=remote)
    assert str(error.value) == says


def test_a_fault_of_the_start_that_nobody_foresaw_is_not_hidden(sumo):
    sumo.fails = ZeroDivisionError("ours")
    with pytest.raises(ZeroDivisionError):
        plant_of()


def test_nothing_is_seen_of_an_empty_street(sumo):
    plant = plant_of()
    seen = plant.observe()
    assert (seen.at_s, len(seen.vehicles), seen.emergencies, seen.source, seen.links_known) == (
        100.0,
        0,
        (),
        "plant",
        True,
    )
    assert seen.shown.tolist() == [RED] * 7
    assert seen.shown_for_s.tolist() == [1000.0] * 7, "long enough for every rule"
    assert seen.room_m.tolist() == [INF] * 16
    assert seen.count.tolist() == [0] * 16
    assert seen.arrived.tolist() == [0] * 11
    assert seen.waiting_persons.tolist() == [0] * 7
    assert seen.completeness.tolist() == [1.0, 1.0]
    assert (seen.waiting_persons.dtype, seen.count.dtype, seen.shown.dtype) == (
        np.int32,
        np.int32,
        np.int8,
    )
    assert plant.running is True
    sumo.expected = 0
    assert plant.running is False


def test_the_vehicles_are_those_that_are_near_with_the_seconds_since_the_look_before(sumo):
    plant = plant_of()
    sumo.vehicle.put("a", "in_0", 30.0, 0.0, ahead=[("J", 1, 50.0)])
    plant.advance(2.0)
    seen = plant.observe()
    v = seen.vehicles
    assert (seen.at_s, v.lane.tolist(), v.link.tolist(), v.distance_m.tolist()) == (
        102.0,
        [IN0],
        [3],
        [50.0],
    )
    assert v.waiting_s.tolist() == [2.0]
    assert seen.arrived.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    plant.advance(1.0)
    seen = plant.observe()
    assert seen.vehicles.waiting_s.tolist() == [3.0]
    assert not seen.arrived.any()


@pytest.mark.parametrize("sensing", ["camera", "loops"])
def test_equipment_that_tells_no_links_tells_arrivals_of_the_likely_one(sensing, sumo):
    plant = plant_of(sensing=sensing)
    sumo.vehicle.put("a", "in_0", 30.0, 0.0, ahead=[("J", 1, 50.0)])
    sumo.vehicle.put("b", "in_0", 40.0, 0.0, ahead=[("J", 0, 40.0)])
    sumo.vehicle.put("c", "short_0", 4.0, 0.0, ahead=[("K", 1, 26.0)])
    sumo.vehicle.put("d", "in_1", 45.0, 0.0)
    seen = plant.observe()
    assert (seen.links_known, seen.inside_seen) == (False, sensing == "camera")
    assert seen.arrived.tolist() == [0, 0, 2, 0, 1, 0, 0, 1, 0, 0, 0]
    assert seen.arrived.dtype == np.int32
    assert set(seen.vehicles.link.tolist()) <= {2, 4, 7}
    assert not plant.observe().arrived.any()


def test_the_likely_link_may_be_any_of_a_lane(sumo):
    street = network()
    links = list(street.links)
    links[2], links[3] = replace(links[2], direction="l"), replace(links[3], direction="s")
    plant = plant_of(replace(street, links=tuple(links)), sensing="loops")
    sumo.vehicle.put("a", "in_0", 30.0, 0.0, ahead=[("J", 1, 50.0)])
    sumo.vehicle.put("b", "in_0", 40.0, 0.0, ahead=[("J", 0, 40.0)])
    assert plant.observe().arrived.tolist() == [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]


def test_a_camera_of_a_plant_has_the_plants_seed(sumo):
    sumo.vehicle.put("a", "in_0", 30.0, 0.0, ahead=[("J", 1, 50.0)])
    sumo.vehicle.put(
        "b", "in_0", 20.0, 0.0, ahead=[("J", 1, 60.0)]
    )  # number 1; number 0 is among the missed
    seen = plant_of(sensing="camera", seed=11).observe().vehicles
    assert seen.distance_m.tolist() == [60.0 + np.random.default_rng(11).normal(0.0, 2.0, 2)[1]]


def test_the_range_is_the_plants(sumo):
    sumo.vehicle.put("a", "kin_0", 30.0, 0.0)
    assert len(plant_of(range_m=70.0).observe().vehicles) == 1
    assert len(plant_of(range_m=69.0).observe().vehicles) == 0


def test_an_emergency_vehicle_is_told(sumo):
    plant = plant_of()
    sumo.vehicle.put(
        "fire", "in_0", 30.0, 9.0, ahead=[("J", 0, 50.0), ("K", 1, 92.0)], kind="emergency"
    )
    seen = plant.observe()
    assert seen.emergencies == (EmergencyVehicle("fire", 9.0, ((0, 50.0), (5, 92.0))),)
    assert seen.vehicles.emergency.tolist() == [True]


def test_pedestrians_before_each_crossing_are_counted_from_either_side(sumo):
    sumo.walking = {":j_w0": ("p", "q", "r"), ":j_w1": ("s", "t"), ":k_w0": ("u",)}
    sumo.next_edge = {"p": ":j_c0", "q": "side", "r": ":j_c0", "s": ":j_c0", "t": "", "u": ":j_c0"}
    assert plant_of().observe().waiting_persons.tolist() == [0, 0, 0, 0, 3, 0, 0]


def test_a_street_without_crossings_asks_for_no_pedestrians(sumo):
    street = network()
    groups = list(street.groups)
    groups[4] = replace(groups[4], kind=groups[0].kind)
    sumo.walking = {":j_w0": ("p",)}
    assert not plant_of(replace(street, groups=tuple(groups))).observe().waiting_persons.any()


def test_short_lanes_behind_signals_are_known_with_what_stands_about_them():
    behind = sorted(EXITS)
    street = network()
    length_m = {i: lane.length_m for i, lane in enumerate(street.lanes)}
    assert short_lanes(street, behind) == [
        ShortLane(
            lane=SHORT,
            length_m=length_m[SHORT],
            beside=(SHORT,),
            exits=(5,),
            before=(":j_0_0",),
            after=(":k_1_0",),
            against=(),  # back_0 leads straight on alone: nobody there crosses who reaches back
            entering=(),
            near=frozenset({"short_0", ":j_0_0", ":k_1_0"}),
        ),
        ShortLane(
            lane=BACK,
            length_m=length_m[BACK],
            beside=(BACK,),
            exits=(3,),
            before=(":k_2_0",),
            after=(),
            against=(SHORT,),  # it leads left, too
            entering=(":j_0_0", ":k_1_0"),  # who comes, and who waits for a gap
            near=frozenset({"short_0", "back_0", ":j_0_0", ":k_1_0", ":k_2_0"}),
        ),
        ShortLane(
            lane=C0,
            length_m=length_m[C0],
            beside=(C0,),
            exits=(),
            before=(),
            after=(),
            against=(),
            entering=(),
            near=frozenset({":j_c0_0"}),
        ),
    ]
    nearly_long = short_lanes(network(side_0=59.9), behind)
    assert [s.lane for s in nearly_long] == [SHORT, BACK, SIDE, C0]
    assert nearly_long[2] == ShortLane(
        lane=SIDE,
        length_m=59.9,
        beside=(SIDE,),
        exits=(),
        before=(":j_1_0", ":j_5_0"),
        after=(),
        against=(),
        entering=(),
        near=frozenset({"side_0", ":j_1_0", ":j_5_0"}),
    )


def two_lanes():
    """short_0 has a neighbour, short_1 (in the place of out_0), with a signal of its own,
    group 2's at k.
    """
    street = network(short_1=30.0, out_0=30.0)
    lanes, links, groups = list(street.lanes), list(street.links), list(street.groups)
    lanes[OUT] = replace(lanes[OUT], id="short_1", edge="short")
    links[3] = replace(
        links[3], node="k", from_lane=OUT, to_lane=END
    )  # a turn from short_1 at k, group 1
    links[8] = replace(links[8], node="k")
    return replace(
        street,
        lanes=tuple(lanes[:16]),
        links=tuple(links),
        groups=tuple(groups),
        lane_index={x.id: i for i, x in enumerate(lanes[:16])},
    )


def test_lanes_beside_each_other_share_their_exits():
    found = {s.lane: s for s in short_lanes(two_lanes(), [SHORT, BACK, OUT, END])}
    assert found[SHORT].beside == found[OUT].beside == (SHORT, OUT)
    assert found[SHORT].exits == found[OUT].exits == (1, 5)
    assert found[SHORT].after == found[OUT].after == (":k_1_0", ":j_1_0")
    assert (found[SHORT].before, found[OUT].before) == ((":j_0_0",), (":j_2_0",))


def rooms(plant: SumoPlant) -> dict[int, float]:
    seen = plant.observe()
    return {int(i): float(seen.room_m[i]) for i in np.flatnonzero(seen.room_m < INF)}


def counts(plant: SumoPlant) -> dict[int, int]:
    seen = plant.observe()
    return {int(i): int(seen.count[i]) for i in np.flatnonzero(seen.count)}


def test_room_is_what_the_last_vehicle_leaves_with_its_way_of_four_seconds(sumo):
    plant = plant_of()
    sumo.vehicle.put("a", "side_0", 30.0, 2.0)
    sumo.vehicle.put("b", "west_0", 20.0, 0.0)
    sumo.vehicle.put("c", "kin_0", 20.0, 0.0)  # leads to a signal, from none
    assert rooms(plant) == {SIDE: 33.0, WEST: 15.0}
    assert counts(plant) == {SIDE: 1, WEST: 1}


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (GREEN, 20.0 - 5.0 + 40.0),  # it will drive on
        (PERMISSIVE, 30.0 - 7.5),  # it may stop
        (YELLOW, 30.0 - 7.5),
        (RED, 30.0 - 7.5),
    ],
)
def test_on_a_short_lane_no_room_is_gained_by_speed_where_the_signal_may_stop_it(
    shown, expected, sumo
):
    plant = plant_of()
    plant.apply(colours(RED, RED, RED, RED, RED, shown, RED))
    sumo.vehicle.put("a", "short_0", 20.0, 10.0, ahead=[("K", 1, 10.0)])
    assert rooms(plant) == {SHORT: expected, BACK: 30.0}


@pytest.mark.parametrize(
    ("cars", "expected"),
    [
        ([("short_0", 29.0, 0.0)], 22.5),
        ([("short_0", 12.0, 0.0)], 7.0),  # less than by counting: what it leaves is true
        ([("short_0", 29.0, 0.0), ("short_0", 21.0, 0.0)], 15.0),
        (
            [(":k_1_0", 2.0, 0.0)],
            22.5,
        ),  # one that waits inside the junction ahead may be pushed back
        ([(":k_1_0", 2.0, 0.0), ("short_0", 29.0, 0.0)], 15.0),
        ([(":k_5_0", 2.0, 0.0)], None),  # on its way out
        ([("back_0", 5.0, 0.0)], None),  # the other way, straight on
        ([(":k_2_0", 5.0, 0.0)], None),
        ([(":k_0_0", 5.0, 0.0)], None),
        ([("in_0", 5.0, 0.0)], None),
    ],
)
def test_on_a_short_lane_each_vehicle_takes_seven_and_a_half_metres(cars, expected, sumo):
    plant = plant_of()
    for i, (lane, at, speed) in enumerate(cars):
        sumo.vehicle.put(f"v{i}", lane, at, speed)
    assert rooms(plant).get(SHORT) == expected


def turning_back(direction: str, via: tuple[str, ...], **lengths: float):
    """The street where back_0 leads to west_0 so."""
    street = network(**lengths)
    links = list(street.links)
    links[5] = replace(links[5], direction=direction, via=via)
    return replace(street, links=tuple(links))


LEFT_OVER_A_WAITING_PLACE = ("l", (":j_3_0", ":j_6_0"))


@pytest.mark.parametrize(
    ("lane", "length", "turn", "expected"),
    [
        # somebody comes the other way, and turns: a car's length is spared
        ("back_0", 19.9, LEFT_OVER_A_WAITING_PLACE, 12.4),
        ("back_0", 19.9, ("l", (":j_3_0",)), 12.4),
        ("back_0", 19.9, ("r", (":j_3_0",)), 12.4),
        (":k_2_0", 19.9, LEFT_OVER_A_WAITING_PLACE, 12.4),  # it is about to come
        (":j_3_0", 19.9, LEFT_OVER_A_WAITING_PLACE, 12.4),  # it waits for a gap
        (":j_6_0", 19.9, LEFT_OVER_A_WAITING_PLACE, None),  # it is past that: nobody is near
        ("back_0", 20.0, LEFT_OVER_A_WAITING_PLACE, 20.0),
        (":k_2_0", 20.0, LEFT_OVER_A_WAITING_PLACE, 20.0),
        (":j_0_0", 19.9, LEFT_OVER_A_WAITING_PLACE, 19.9),  # it comes this way
        # who drives straight on crosses nobody who reaches back into the junction
        ("back_0", 19.9, ("s", (":j_3_0",)), None),
        (":k_2_0", 19.9, ("s", (":j_3_0",)), None),
    ],
)
def test_on_a_tight_lane_a_cars_length_is_spared_where_somebody_comes_the_other_way_and_turns(
    lane, length, turn, expected, sumo
):
    plant = plant_of(turning_back(*turn, short_0=length))
    sumo.vehicle.put("a", lane, 5.0, 3.0)
    assert rooms(plant).get(SHORT) == (None if expected is None else pytest.approx(expected))


def test_beside_each_other_vehicles_share_the_room(sumo):
    """Three on two lanes take two places of each;
    two that happen to be on one lane take two of that.
    """
    sumo.vehicle.put("a", "short_0", 29.0, 0.0)
    sumo.vehicle.put("b", "short_1", 29.0, 0.0)
    plant = plant_of(two_lanes())
    assert {k: v for k, v in rooms(plant).items() if k in (SHORT, OUT)} == {SHORT: 22.5, OUT: 22.5}
    sumo.vehicle.put("c", "short_0", 21.0, 0.0)
    assert {k: v for k, v in rooms(plant).items() if k in (SHORT, OUT)} == {SHORT: 15.0, OUT: 15.0}
    sumo.vehicle.gone("b")
    assert {k: v for k, v in rooms(plant).items() if k in (SHORT, OUT)} == {SHORT: 15.0, OUT: 22.5}
    plant.apply(colours(RED, GREEN, RED, RED, RED, GREEN, RED))  # both exits are green
    assert {k: v for k, v in rooms(plant).items() if k in (SHORT, OUT)} == {SHORT: 16.0}
    plant.apply(colours(RED, RED, RED, RED, RED, GREEN, RED))  # one of them is not
    assert {k: v for k, v in rooms(plant).items() if k in (SHORT, OUT)} == {SHORT: 15.0, OUT: 22.5}


@pytest.mark.parametrize(
    ("shown", "standing", "expected"),
    [
        (
            GREEN,
            {":j_0_0": 2},
            15.0,
        ),  # two who stand inside the junction before it will take their places
        (GREEN, {":j_0_0": 0}, None),
        (GREEN, {":j_1_0": 2}, None),  # they go elsewhere
        (RED, {":j_0_0": 2}, 15.0),
        (RED, {":j_0_0": 0}, 30.0),
    ],
)
def test_those_who_stand_inside_the_junction_before_a_short_lane_take_room_of_it(
    shown, standing, expected, sumo
):
    plant = plant_of()
    plant.apply(colours(RED, RED, RED, RED, RED, shown, RED))
    sumo.halting = standing
    sumo.vehicle.put("a", ":j_0_0", 3.0, 0.0)
    sumo.vehicle.put("b", ":j_1_0", 3.0, 0.0)
    assert rooms(plant).get(SHORT) == expected


def test_each_short_lane_is_looked_at_though_nobody_is_near_the_ones_before(sumo):
    plant = plant_of(network(side_0=50.0))
    sumo.halting = {":j_5_0": 1}
    sumo.vehicle.put("a", ":j_5_0", 3.0, 0.0)
    assert rooms(plant) == {SIDE: 42.5}


def test_those_who_stand_inside_are_taken_from_the_room_that_is_left(sumo):
    plant = plant_of()
    plant.apply(colours(RED, RED, RED, RED, RED, GREEN, RED))
    sumo.halting = {":j_0_0": 1}
    sumo.vehicle.put("a", ":j_0_0", 3.0, 0.0)
    sumo.vehicle.put("b", "short_0", 25.0, 0.0)
    assert rooms(plant)[SHORT] == 12.5
    sumo.vehicle.put("b", "short_0", 25.0, 9.0)
    assert rooms(plant)[SHORT] == 22.5, "no more than the lane holds"


def test_lanes_inside_a_junction_that_nobody_is_on_are_not_asked(sumo):
    plant = plant_of()
    sumo.halting = {":j_0_0": 2}  # as SUMO would never say
    sumo.vehicle.put("b", "short_0", 25.0, 0.0)
    assert rooms(plant)[SHORT] == 20.0


def shows(sumo: Sumo) -> list[tuple[str, str]]:
    said = [what[1:] for what in sumo.said if what[0] == "show"]
    sumo.said.clear()
    return said


def test_all_signals_are_shown_at_first_and_then_those_that_change(sumo):
    plant = plant_of()
    plant.apply(colours(RED, RED, RED, RED, RED, RED, RED))
    assert shows(sumo) == [("J", "rrrsrr"), ("K", "rr"), ("K2", "r")]  # place 3 may turn on red
    plant.apply(colours(RED, RED, RED, RED, RED, RED, RED))
    assert shows(sumo) == []
    plant.apply(colours(GREEN, PERMISSIVE, YELLOW, DARK, RED, RED, RED))
    assert shows(sumo) == [("J", "GgryOr")]
    plant.apply(colours(GREEN, PERMISSIVE, YELLOW, DARK, RED, RED, GREEN))
    assert shows(sumo) == [("K2", "G")]
    plant.apply(colours(RED, RED, GREEN, RED, RED, YELLOW, RED))
    assert shows(sumo) == [("J", "rrrGrr"), ("K", "ry"), ("K2", "r")]
    assert plant.shown.tolist() == [RED, RED, GREEN, RED, RED, YELLOW, RED]


def test_what_the_signals_show_is_read_back_and_sent_again_where_it_is_something_else(sumo):
    plant = plant_of()
    order = colours(GREEN, RED, RED, RED, RED, RED, RED)
    plant.apply(order)
    plant.advance(1.0)
    assert plant.observe().shown is plant.observe().shown, "the same array while nothing changes"
    shows(sumo)
    sumo.lamps = {"J": "yGgsuO", "K": "r", "K2": "?"}
    plant.advance(1.0)
    assert plant.observe().shown.tolist() == plant.shown.tolist()
    assert plant.shown.tolist() == [YELLOW, GREEN, RED, DARK, DARK, DARK, DARK]
    plant.apply(order)
    assert shows(sumo) == [("J", "Grrsrr"), ("K", "rr"), ("K2", "r")]
    assert plant.shown.tolist() == order.colours.tolist()


def test_what_a_reader_writes_into_an_observation_is_not_commanded(sumo):
    plant = plant_of()
    order = colours(GREEN, RED, RED, RED, RED, RED, RED)
    plant.apply(order)
    plant.advance(1.0)
    plant.observe().shown[:] = GREEN
    plant.advance(1.0)
    assert plant.observe().shown.tolist() == order.colours.tolist()
    shows(sumo)
    plant.apply(colours(GREEN, RED, RED, RED, RED, RED, GREEN))
    assert shows(sumo) == [("K2", "G")]


def test_a_first_order_of_other_colours_is_shown_everywhere_too(sumo):
    plant = plant_of()
    plant.apply(colours(GREEN, RED, RED, RED, RED, RED, RED))
    assert shows(sumo) == [("J", "Grrsrr"), ("K", "rr"), ("K2", "r")]


def test_the_age_of_a_colour_counts_from_its_beginning_and_all_greens_are_one(sumo):
    plant = plant_of()
    ages = []
    for shown in (
        (RED, RED, RED, GREEN, PERMISSIVE, YELLOW, DARK),
        (RED, GREEN, YELLOW, PERMISSIVE, GREEN, RED, GREEN),
        (RED, GREEN, YELLOW, GREEN, YELLOW, RED, GREEN),
        (RED, RED, RED, GREEN, RED, GREEN, GREEN),
    ):
        plant.apply(colours(*shown))
        plant.advance(1.0)
        ages.append(plant.observe().shown_for_s.tolist())
    assert ages == [
        [1001.0, 1001.0, 1001.0, 1.0, 1.0, 1.0, 1.0],
        [1002.0, 1.0, 1.0, 2.0, 2.0, 1.0, 1.0],
        [1003.0, 2.0, 2.0, 3.0, 1.0, 2.0, 2.0],
        [1004.0, 1.0, 1.0, 4.0, 1.0, 1.0, 3.0],
    ]


def test_an_order_is_kept_as_it_was_given(sumo):
    plant, order = plant_of(), colours(RED, GREEN, RED, RED, RED, RED, RED)
    plant.apply(order)
    order.colours[0] = GREEN
    assert plant.shown.tolist() == [RED, GREEN, RED, RED, RED, RED, RED]


def test_after_a_restore_the_signals_are_set_as_they_were_with_their_ages(sumo):
    plant = plant_of()
    plant.apply(colours(*[RED] * 7))
    shows(sumo)
    was = np.array([GREEN, RED, YELLOW, RED, RED, RED, GREEN], np.int8)
    since = np.array([90.0, 80.0, 99.0, 70.0, 60.0, 50.0, 40.0])
    plant.show(was, since)
    assert shows(sumo) == [("J", "Grryrr"), ("K", "rr"), ("K2", "G")]
    was[1], since[0] = GREEN, 0.0
    seen = plant.observe()
    assert seen.shown.tolist() == [GREEN, RED, YELLOW, RED, RED, RED, GREEN]
    assert seen.shown_for_s.tolist() == [10.0, 20.0, 1.0, 30.0, 40.0, 50.0, 60.0]
    plant.apply(colours(GREEN, RED, YELLOW, RED, RED, RED, RED))
    assert shows(sumo) == [("K2", "r")]


@pytest.mark.parametrize(
    ("step_s", "period_s", "steps"),
    [(1.0, 1.0, 1), (0.5, 1.0, 2), (0.1, 1.0, 10), (1.0, 3.0, 3), (0.1, 0.3, 3)],
)
def test_time_goes_on_by_as_many_steps_as_the_period_has(step_s, period_s, steps, sumo):
    sumo.step_s = step_s
    plant = plant_of()
    plant.advance(period_s)
    assert sumo.said[1:] == [("step",)] * steps
    assert plant.time_s == pytest.approx(100.0 + period_s)


@pytest.mark.parametrize(("step_s", "period_s"), [(1.0, 0.5), (1.0, 1.5), (0.4, 1.0), (0.3, 1.0)])
def test_a_period_of_no_whole_steps_is_refused_and_time_stands(step_s, period_s, sumo):
    sumo.step_s = step_s
    plant = plant_of()
    with pytest.raises(PlantError, match=f"a tick of {period_s:g} s is no whole number of steps"):
        plant.advance(period_s)
    assert plant.time_s == 100.0


@pytest.mark.parametrize("fault", [SaidError("lost"), FatalSaidError("lost")])
def test_a_failing_sumo_is_told_with_the_time_of_the_last_look(fault, sumo):
    plant = plant_of()
    plant.advance(1.0)
    plant.observe()
    sumo.fails = fault
    with pytest.raises(PlantError) as error:
        plant.advance(1.0)
    assert str(error.value) == "SUMO failed at 101.0 s: lost"


@pytest.mark.parametrize("leap_s", [4096.0, -63.0, 0.25, float("nan")])
def test_a_clock_that_does_not_go_on_by_the_period_ends_no_run(leap_s, sumo):
    """Time past its end would finish it, and its checkpoints and orders would be deleted."""
    plant = plant_of()
    sumo.now_s += leap_s
    with pytest.raises(PlantError, match=r"SUMO's clock shows .* s, 1 s after 100\.0 s"):
        plant.advance(1.0)
    assert plant.time_s == 100.0


def test_a_scene_has_place_heading_speed_length_and_class_of_each(sumo):
    plant = plant_of()
    empty = plant.scene()
    assert empty.at_m.shape == (0, 2)
    for i, (name, kind) in enumerate(
        [("a", "passenger"), ("b", "bus"), ("c", "pedicab"), ("d", "emergency")]
    ):
        sumo.vehicle.put(
            name,
            "elsewhere_0",
            0.0,
            2.0 + i,
            kind=kind,
            xy=(10.0 * i, 20.0 * i + 1.0),
            angle=90.0 + i,
            length=4.0 + i,
        )
    scene = plant.scene()
    assert scene.number.tolist() == [zlib.crc32(name.encode()) for name in "abcd"]
    assert scene.at_m.tolist() == [[0.0, 1.0], [10.0, 21.0], [20.0, 41.0], [30.0, 61.0]]
    assert scene.angle_deg.tolist() == [90.0, 91.0, 92.0, 93.0]
    assert scene.speed_mps.tolist() == [2.0, 3.0, 4.0, 5.0]
    assert scene.length_m.tolist() == [4.0, 5.0, 6.0, 7.0]
    assert scene.kind.tolist() == [0, 1, 0, 5]
    dtypes = [
        x.dtype
        for x in (
            scene.number,
            scene.at_m,
            scene.angle_deg,
            scene.speed_mps,
            scene.length_m,
            scene.kind,
        )
    ]
    assert dtypes == [np.uint32, np.float32, np.float32, np.float32, np.float32, np.uint8]


def test_the_classes_of_a_scene_are_as_viewers_know_them():
    assert CLASSES == {
        "passenger": 0, "bus": 1, "coach": 1, "truck": 2, "trailer": 2, "delivery": 2, "bicycle": 3,
        "tram": 4, "emergency": 5
    }  # fmt: skip


def test_emissions_are_summed_over_all_vehicles(sumo):
    plant = plant_of()
    assert plant.emissions() == (0, 0.0, 0.0)
    sumo.vehicle.put("a", "in_0", 0.0, fuel=200.0, co2=600.0)
    sumo.vehicle.put("b", "elsewhere_0", 0.0, fuel=50.5, co2=100.25)
    assert plant.emissions() == (2, 250.5, 700.25)


def test_vehicles_that_could_not_enter_yet_are_told_with_their_delay(sumo):
    sumo.vehicle.put("a", "", 0.0, delay=12.0)
    sumo.vehicle.put("b", "", 0.0, delay=3.5)
    sumo.vehicle.put("c", "in_0", 0.0)
    sumo.waiting = ("a", "b")
    assert plant_of().pending() == {"a": 12.0, "b": 3.5}


def test_a_checkpoint_is_sumos_own_and_after_a_restore_everything_is_seen_anew(sumo, tmp_path):
    plant = plant_of(sensing="camera", seed=2)
    sumo.vehicle.put("x", "elsewhere_0", 0.0)
    for i in range(3):
        sumo.vehicle.put(f"v{i}", "in_1", 10.0 * i, 0.0)
    first = plant.observe()
    plant.checkpoint(tmp_path / "s.xml.gz")
    assert sumo.said[-1][0] == "saveState"
    plant.advance(5.0)
    plant.restore(tmp_path / "s.xml.gz")
    anew = SumoSettings("town.sumocfg", sensing="camera", seed=2).arguments()[1:]
    assert sumo.said[-1] == ("load", [*anew, "--load-state", str(tmp_path / "s.xml.gz")])
    again = plant.observe()
    assert again.vehicles.distance_m.tolist() == first.vehicles.distance_m.tolist(), (
        "the same noise, the same numbers"
    )
    assert again.arrived.tolist() == first.arrived.tolist()
    assert again.vehicles.waiting_s.tolist() == [0.0] * 2, "no time has passed since"
    plant.advance(2.0)
    assert plant.observe().vehicles.waiting_s.tolist() == [2.0] * 2


def test_who_stands_at_the_first_look_has_waited_as_long_as_sumo_says(sumo):
    """It goes on from a state that was loaded. Who comes later has not waited yet."""
    plant = plant_of()
    sumo.vehicle.put("a", "in_1", 10.0, 0.0, waited_s=40.0)
    sumo.vehicle.put("b", "in_1", 30.0, 5.0, waited_s=0.0)
    assert sorted(plant.observe().vehicles.waiting_s.tolist()) == [0.0, 40.0]
    sumo.vehicle.put("c", "in_1", 0.0, 0.0, waited_s=7.0)
    plant.advance(1.0)
    assert sorted(plant.observe().vehicles.waiting_s.tolist()) == [0.0, 1.0, 41.0]


def test_a_restored_street_is_read_within_the_range_of_before(sumo, tmp_path):
    plant = plant_of(range_m=70.0)
    plant.restore(tmp_path / "s.xml.gz")
    sumo.vehicle.put("a", "kin_0", 30.0)
    sumo.vehicle.put("b", "kin_0", 29.0)
    assert plant.observe().vehicles.distance_m.tolist() == [70.0]


def test_a_state_that_does_not_fit_is_refused_with_its_name(sumo, tmp_path):
    plant = plant_of()
    for fault in (SaidError("bad"), FatalSaidError("bad")):
        sumo.fails = fault
        with pytest.raises(PlantError) as error:
            plant.restore(tmp_path / "s.xml.gz")
        assert str(error.value) == (
            f"{tmp_path / 's.xml.gz'}: SUMO does not take this state (bad). "
            "A state fits only the SUMO version and the network that wrote it."
        )


def test_kin_and_in_1_lead_to_signals():
    """The figures above rest on these."""
    street = network()
    assert street.links_from(KIN) == [9]
    assert street.links_from(IN1) == [4]
    assert sorted({x.to_lane for x in street.links if x.group >= 0}) == sorted(EXITS)


def test_settings_scenes_and_short_lanes_cannot_be_changed_by_mistake(sumo):
    for value, name in (
        (SumoSettings("x"), "seed"),
        (plant_of().scene(), "at_m"),
        (short_lanes(network(), EXITS)[0], "lane"),
    ):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, 1)
