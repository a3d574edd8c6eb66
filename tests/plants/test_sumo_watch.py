"""What is read of the vehicles near the signals, second by second,
on a street that is known by heart (`street_by_hand`).
"""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace
from types import SimpleNamespace

import numpy as np
import pytest
from tests.plants.street_by_hand import BACK, IN0, IN1, KIN, OUT, SHORT, SIDE, Sumo, network

from headway.plants.sumo.observe import (
    SLOT,
    WATCHED,
    Watcher,
    bare,
    behind,
    digest,
    note_moves,
    watch_lanes,
)
from headway.values import EmergencyVehicle

STREET = network()


def told(watch) -> dict[str, tuple]:
    """(stop lane, metres to the stop line from its start, the only link, is it a stop lane)
    by name.
    """
    rows = zip(
        watch.lane.tolist(),
        watch.to_end_m.tolist(),
        watch.only_link.tolist(),
        watch.is_stop_lane.tolist(),
        strict=True,
    )
    found = dict(zip(watch.name, rows, strict=True))
    assert len(found) == len(watch.name)
    return found


def test_the_lanes_before_a_stop_line_and_behind_it_are_watched():
    watch = watch_lanes(STREET, 200.0)
    away = (-1, math.inf, -1, False)
    assert told(watch) == {
        "in_0": (IN0, 80.0, -1, True),  # it has two links
        ":u_0_0": (IN0, 86.0, -1, False),
        "far_0": (
            -1,
            386.0,
            -1,
            False,
        ),  # to both; the shorter way counts: 300 + 6 + 80, not + 8 + 80
        "in_1": (IN1, 80.0, 4, True),
        ":u_2_0": (IN1, 84.0, -1, False),
        ":u_1_0": (IN1, 88.0, -1, False),
        "short_0": (SHORT, 30.0, -1, True),  # two links by one group
        "back_0": (BACK, 30.0, 5, True),
        "kin_0": (KIN, 100.0, 9, True),
        "side_0": away,
        "out_0": away,
        "west_0": away,
        "end_0": away,
        "west2_0": away,
        ":j_c0_0": away,
        ":j_1_0": (IN0, 0.0, 3, True),  # where the left turn waits, inside the junction
        ":k_1_0": (SHORT, 0.0, 8, True),
    }
    assert (
        watch.lane.dtype,
        watch.only_link.dtype,
        watch.to_end_m.dtype,
        watch.is_stop_lane.dtype,
    ) == (np.int32, np.int32, np.float64, np.bool_)


def with_ways(*ways: tuple[int, int]):
    """The street with unsignalised links from lane to lane besides: number 11 and on."""
    way = STREET.links[10]
    more = (replace(way, from_lane=a, to_lane=b) for a, b in ways)
    return replace(STREET, links=(*STREET.links, *more))


def test_a_stop_lane_that_leads_to_another_without_a_signal_is_that_of_its_own_line():
    """kin_0 to back_0 and short_0 to kin_0, besides their signals."""
    watch = told(watch_lanes(with_ways((KIN, BACK), (SHORT, KIN)), 200.0))
    assert watch["kin_0"] == (KIN, 100.0, -1, True)
    assert watch["short_0"] == (SHORT, 30.0, -1, True)
    assert watch["back_0"] == (BACK, 30.0, 5, True)


@pytest.mark.parametrize("range_m", [100.0, 200.0])  # in_1 leads to kin_0 within it, or not
def test_who_takes_an_unsignalised_turn_is_on_its_way_to_the_next_signal(range_m):
    r = Reading(range_m, with_ways((IN1, KIN)))
    r.put("turns", "in_1", 70.0, 5.0, ahead=[("K2", 0, 116.0)])
    r.put("waits", "in_1", 78.0, 0.0, ahead=[("J", 3, 2.0)])
    waits = (IN1, 4, 2.0, 0.0, 1.0, 7.5, False)
    turns = {0: (KIN, 9, 116.0, 5.0, 0.0, 7.5, False)} if range_m > 116.0 else {}
    assert r.read() == {1: waits} | turns
    r.put("turns", "in_1", 80.0, 5.0)
    assert r.read().get(0) == ((KIN, 9, 106.0, 5.0, 0.0, 7.5, False) if turns else None)
    r.put("turns", "kin_0", 10.0, 5.0, ahead=[("K2", 0, 90.0)])
    assert r.read()[0] == (KIN, 9, 90.0, 5.0, 0.0, 7.5, False)


def test_what_is_watched_cannot_be_changed_by_mistake():
    with pytest.raises(FrozenInstanceError):
        watch_lanes(STREET, 200.0).lane = None


def test_what_is_beyond_the_range_is_not_watched():
    assert not {"far_0", ":u_0_0", ":u_1_0", ":u_2_0"} & set(watch_lanes(STREET, 80.0).name)
    assert told(watch_lanes(STREET, 80.1))["far_0"][1] == 386.0


def test_the_getter_behind_the_wrapper_is_taken_where_there_is_one():
    quick = SimpleNamespace(vehicle_getSpeed=lambda v: f"quick {v}")
    slow = SimpleNamespace(getSpeed=lambda v: f"slow {v}", getAngle=lambda v: f"angle {v}")
    assert (
        bare(
            SimpleNamespace(vehicle=slow, libsumo=SimpleNamespace(_libsumo=quick)),
            "vehicle",
            "getSpeed",
        )("a")
        == "quick a"
    )
    assert (
        bare(
            SimpleNamespace(vehicle=slow, libsumo=SimpleNamespace(_libsumo=quick)),
            "vehicle",
            "getAngle",
        )("a")
        == "angle a"
    )
    assert (
        bare(SimpleNamespace(vehicle=slow, libsumo=SimpleNamespace()), "vehicle", "getSpeed")("a")
        == "slow a"
    )
    assert bare(SimpleNamespace(vehicle=slow), "vehicle", "getSpeed")("a") == "slow a"


class Reading:
    """A watcher, the SUMO that it reads, and a clock."""

    def __init__(self, range_m: float = 200.0, street=STREET) -> None:
        self.sumo, self.at_s = Sumo(), 100.0
        self.watcher = Watcher(self.sumo, street, range_m)
        self.put, self.gone = self.sumo.vehicle.put, self.sumo.vehicle.gone

    def read(self, period_s: float = 1.0) -> dict[int, tuple]:
        """By number: (lane, link, metres, speed, wait, length, emergency)."""
        self.at_s += period_s
        v, number = self.watcher.read(self.at_s, period_s)
        assert number.dtype == v.lane.dtype == v.link.dtype == np.int32
        assert v.emergency.dtype == np.bool_
        rows = [
            x.tolist()
            for x in (
                v.lane,
                v.link,
                v.distance_m,
                v.speed_mps,
                v.waiting_s,
                v.length_m,
                v.emergency,
            )
        ]
        return dict(zip(number.tolist(), zip(*rows, strict=True), strict=True))

    def lanes(self) -> dict[str, tuple[float, int]]:
        """(room, count) of the watched lanes that have anybody."""
        rows = zip(
            self.watcher.watch.name,
            self.watcher.lanes["room"].tolist(),
            self.watcher.lanes["count"].tolist(),
            strict=True,
        )
        return {name: (room, count) for name, room, count in rows if count or room < math.inf}

    def arrived(self) -> dict[int, int]:
        counts = self.watcher.take_arrived()
        assert counts.dtype == np.int32
        assert len(counts) == len(self.watcher.arrived)
        return {int(i): int(counts[i]) for i in np.flatnonzero(counts)}


def test_an_empty_street_is_read_as_empty():
    r = Reading()
    assert r.read() == {}
    assert r.lanes() == {}
    assert r.arrived() == {}
    assert r.watcher.present == {}
    assert r.watcher.emergencies() == ()


def test_a_vehicle_is_followed_from_the_first_watched_lane_over_the_junction():
    r = Reading(range_m=400.0)
    r.put("a", "far_0", 0.0, 10.0, ahead=[("J", 1, 386.0), ("K", 1, 500.0)], length=4.0, gap=2.0)
    assert r.read() == {0: (IN0, 3, 386.0, 10.0, 0.0, 6.0, False)}
    assert r.arrived() == {3: 1}
    assert r.arrived() == {}
    assert r.watcher.present == {"far_0": 1}
    r.put("a", "far_0", 250.0, 8.0)
    assert r.read() == {0: (IN0, 3, 136.0, 8.0, 0.0, 6.0, False)}
    assert r.lanes() == {"far_0": (250.0 - 4.0 + 32.0, 1)}
    r.put("a", ":u_0_0", 2.0, 8.0, ahead=[("J", 1, 84.0), ("K", 1, 198.0)])
    assert r.read() == {0: (IN0, 3, 84.0, 8.0, 0.0, 6.0, False)}
    r.put("a", "in_0", 30.0, 0.0)
    assert r.read() == {0: (IN0, 3, 50.0, 0.0, 1.0, 6.0, False)}
    assert r.watcher.present == {"in_0": 1}
    assert r.lanes() == {"in_0": (26.0, 1)}
    assert r.arrived() == {}, "counted once"
    r.put("a", ":j_1_0", 1.5, 0.05)
    assert r.read(0.5) == {0: (IN0, 3, -1.5, 0.05, 1.5, 6.0, False)}  # it waits inside for a gap
    r.put("a", ":j_5_0", 1.5, 5.0)
    assert r.read() == {}
    assert r.lanes() == {}
    assert r.watcher.present == {":j_5_0": 1}
    r.put("a", "side_0", 2.0, 9.0)
    assert r.read() == {}, "it leads away"
    assert r.lanes() == {"side_0": (2.0 - 4.0 + 36.0, 1)}
    r.gone("a")
    assert r.read() == {}
    assert r.lanes() == {}
    assert r.watcher.present == {}
    assert r.arrived() == {}


def test_what_does_not_change_is_asked_once():
    r = Reading()
    r.put("a", "in_0", 10.0, 1.0, ahead=[("J", 0, 70.0)])
    for _ in range(3):
        r.read()
    asked = [what for what, _ in r.sumo.vehicle.asked]
    assert {what: asked.count(what) for what in asked} == {
        "getLaneID": 3, "getLanePosition": 3, "getSpeed": 3, "getLength": 1, "getMinGap": 1,
        "getVehicleClass": 1, "getNextTLS": 1, "getWaitingTime": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lane", "ahead", "expected"),
    [
        ("in_0", ("J", 0), (IN0, 2)),
        ("in_0", ("J", 1), (IN0, 3)),
        (
            "in_0",
            ("J", 3),
            (IN0, 4),
        ),  # it must change lanes: the link is another lane's, but it stands here
        ("in_1", ("J", 0), (IN1, 4)),  # a lane of one link needs no asking
        ("in_0", ("J", 9), None),  # unknown
        ("in_0", ("X", 0), None),
        ("short_0", ("K", 1), (SHORT, 7)),  # two links by one lamp: the first that leaves this lane
        (":u_0_0", ("J", 0), (IN0, 2)),
        ("far_0", ("J", 3), (IN1, 4)),  # may become either lane: that of its link
        ("far_0", ("K", 1), (SHORT, 7)),
        ("kin_0", ("J", 0), (KIN, 9)),
    ],
)
def test_the_next_link_is_the_one_that_leaves_the_lane_it_is_on(lane, ahead, expected):
    r = Reading(range_m=1000.0)
    at = {
        "in_0": 80.0,
        "in_1": 80.0,
        "short_0": 30.0,
        ":u_0_0": 86.0,
        "far_0": 386.0,
        "kin_0": 100.0,
    }[lane]
    r.put("a", lane, 1.0, 5.0, ahead=[(*ahead, at - 1.0)])
    rows = r.read()
    if expected is None:
        assert rows == {}
        assert r.arrived() == {}
    else:
        assert rows == {0: (*expected, at - 1.0, 5.0, 0.0, 7.5, False)}
        assert r.arrived() == {expected[1]: 1}


@pytest.mark.parametrize(
    ("route", "index", "link"),
    [
        (("in", "short", "end"), 1, 7),
        (("in", "short", "west2"), 1, 8),
        (("short", "west2"), 0, 8),
        (("short", "end", "far", "in", "short", "west2"), 0, 7),  # it comes by again later
        (("short", "end", "far", "in", "short", "west2"), 2, 8),
        (("far", "in", "short", "west2"), -1, 8),  # SUMO has no place on the route yet
        (("in", "side"), 0, 7),  # its route leads elsewhere: the first
        ((), 0, 7),
    ],
)
@pytest.mark.parametrize("lane", ["short_0", "far_0"])
def test_of_the_links_of_one_lamp_it_takes_the_one_on_its_route(lane, route, index, link):
    """short_0 leads straight to end_0 (7) and left to west2_0 (8) by one lamp."""
    r = Reading(range_m=1000.0)
    r.put("a", lane, 1.0, 5.0, ahead=[("K", 1, 20.0)], route=route, route_index=index)
    r.put("b", lane, 0.0, 5.0, ahead=[("K", 1, 21.0)], route=("short", "end"))
    rows = r.read()
    assert (rows[0][:2], rows[1][:2]) == ((SHORT, link), (SHORT, 7))


def test_without_a_signal_ahead_a_vehicle_has_no_link_but_counts_on_its_lane():
    r = Reading()
    r.put("a", "in_0", 10.0, 1.0)
    assert r.read() == {}
    assert r.arrived() == {}
    assert r.lanes() == {"in_0": (9.0, 1)}


def parallel():
    """in_0 and in_1 both lead straight on to one street:
    short_0, and its neighbour short_1 in the place of out_0.
    """
    lanes, links = list(STREET.lanes), list(STREET.links)
    lanes[OUT] = replace(lanes[OUT], id="short_1", edge="short")
    links[3] = replace(links[3], to_lane=OUT)
    links[4] = replace(links[4], to_lane=SHORT)
    return replace(STREET, lanes=tuple(lanes), links=tuple(links))


def test_who_must_reach_the_same_street_takes_the_link_of_its_own_lane_for_it():
    street = parallel()
    groups = list(street.groups)
    groups[0], groups[2] = replace(groups[0], links=()), replace(groups[2], links=(4,))
    r = Reading(street=replace(street, groups=tuple(groups)))
    r.put(
        "a", "in_0", 10.0, 1.0, ahead=[("J", 3, 70.0)]
    )  # SUMO thinks of in_1's link to short_0; in_0's own link 2 leads there
    assert r.read() == {0: (IN0, 2, 70.0, 1.0, 0.0, 7.5, False)}
    r.put("b", "in_0", 30.0, 1.0, ahead=[("J", 0, 50.0)])
    assert r.read().keys() == {0}, "a lamp without links says nothing"


def test_links_of_the_very_lamp_come_before_those_for_the_same_street():
    r = Reading(street=parallel())
    r.put(
        "a", "in_0", 10.0, 1.0, ahead=[("J", 1, 70.0)]
    )  # link 3; link 2 leads to the same street, and comes first among the lane's own
    assert r.read()[0][:2] == (IN0, 3)


def test_links_are_alike_whatever_their_number():
    """in_1's link is number 0; by the 8 m path it is 100 + 8 + 80 m to the stop line."""
    links, groups = list(STREET.links), list(STREET.groups)
    links[0], links[4] = links[4], links[0]
    groups[2] = replace(groups[2], links=(0,))
    r = Reading(range_m=400.0, street=replace(STREET, links=tuple(links), groups=tuple(groups)))
    r.put("a", "far_0", 200.0, 10.0, ahead=[("J", 3, 188.0)])
    assert r.read() == {0: (IN1, 0, 188.0, 10.0, 0.0, 7.5, False)}
    assert r.arrived() == {0: 1}


def test_a_longer_way_than_the_shortest_is_added_until_the_stop_lane():
    r = Reading(range_m=400.0)
    r.put("a", "far_0", 200.0, 10.0, ahead=[("J", 3, 188.0)])  # by the 8 m path: 100 + 8 + 80
    assert r.read() == {0: (IN1, 4, 188.0, 10.0, 0.0, 7.5, False)}
    r.put("a", "far_0", 290.0, 10.0)
    assert r.read()[0][2] == 98.0
    r.put("a", "in_1", 5.0, 10.0)
    assert r.read()[0][2] == 75.0


def test_the_way_is_asked_anew_on_each_lane_and_the_vehicle_counted_once():
    r = Reading(range_m=400.0)
    r.put("a", "far_0", 200.0, 10.0, ahead=[("J", 0, 186.0)])
    r.read()
    r.put("a", ":u_0_0", 0.0, 10.0, ahead=[("J", 0, 86.0)])
    r.read()
    r.put("a", "in_0", 0.0, 10.0, ahead=[("J", 0, 80.0)])
    r.read()
    assert [what for what, _ in r.sumo.vehicle.asked].count("getNextTLS") == 3, (
        "asked on each lane: SUMO's answer may depend on it"
    )
    assert r.arrived() == {2: 1}, "but it arrived once"


def test_who_changes_its_mind_arrives_for_the_new_link_too():
    r = Reading(range_m=400.0)
    r.put("a", "far_0", 200.0, 10.0, ahead=[("J", 0, 186.0)])
    r.read()
    r.put("a", "in_0", 0.0, 10.0, ahead=[("J", 1, 80.0)])
    r.put("b", "in_0", 20.0, 10.0, ahead=[("J", 1, 60.0)])
    assert {row[1] for row in r.read().values()} == {3}
    assert r.arrived() == {2: 1, 3: 2}


def test_who_comes_to_the_next_signal_arrives_again():
    r = Reading()
    r.put("a", "in_0", 70.0, 10.0, ahead=[("J", 0, 10.0)])
    r.read()
    r.put("a", "short_0", 1.0, 10.0, ahead=[("K", 1, 29.0)])
    assert r.read() == {0: (SHORT, 7, 29.0, 10.0, 0.0, 7.5, False)}
    assert r.arrived() == {2: 1, 7: 1}


@pytest.mark.parametrize("place", [0, 1, 4])
def test_who_passes_the_same_signal_again_arrives_again(place):
    """Whatever the number of the link is: in_1's takes the place of another."""
    links, groups = list(STREET.links), list(STREET.groups)
    links[place], links[4] = links[4], links[place]
    groups[2] = replace(groups[2], links=(place,))
    r = Reading(street=replace(STREET, links=tuple(links), groups=tuple(groups)))
    r.put("a", "in_1", 70.0, 10.0)
    assert r.read() == {0: (IN1, place, 10.0, 10.0, 0.0, 7.5, False)}
    assert r.arrived() == {place: 1}
    r.put("a", "out_0", 5.0, 10.0)
    r.read()
    r.put("a", "in_1", 0.0, 10.0)
    r.read()
    assert r.arrived() == {place: 1}


@pytest.mark.parametrize(("range_m", "seen"), [(50.0, True), (49.9, False)])
def test_who_is_within_range_is_seen(range_m, seen):
    r = Reading(range_m=range_m)
    r.put("a", "in_0", 30.0, 10.0, ahead=[("J", 0, 50.0)])
    assert (0 in r.read()) == seen
    assert r.lanes() == {"in_0": (25.0 + 40.0, 1)}


def test_the_wait_counts_the_seconds_below_a_tenth_of_a_metre_per_second():
    r = Reading()
    waits = []
    for speed, period in (
        (0.0, 1.0),
        (0.0999, 2.0),
        (0.05, 0.5),
        (0.1, 1.0),
        (0.0, 1.0),
        (5.0, 1.0),
    ):
        r.put("a", "in_0", 30.0, speed, ahead=[("J", 0, 50.0)])
        waits.append(r.read(period)[0][4])
    assert waits == [1.0, 3.0, 3.5, 0.0, 1.0, 0.0]


def test_the_last_vehicle_of_a_lane_leaves_the_room_that_is_there():
    r = Reading()
    r.put("a", "side_0", 40.0, 0.0)
    r.put("b", "side_0", 30.0, 1.0, length=7.0)
    r.put("c", "side_0", 26.0, 3.0)
    r.read()
    assert r.lanes() == {"side_0": (27.0, 3)}  # min(35, 30 - 7 + 4, 26 - 5 + 12)
    r.gone("b")
    r.read()
    assert r.lanes() == {"side_0": (33.0, 2)}


@pytest.mark.parametrize(
    ("lane", "at", "asked"),
    [
        ("west_0", 35.0, True),
        ("west_0", 35.1, False),
        ("out_0", 35.1, False),
        ("side_0", 60.0, True),
        ("in_0", 79.0, True),
        ("side_0", 65.1, False),
    ],
)
def test_who_is_well_down_a_lane_that_leads_away_is_not_asked_again(lane, at, asked):
    """Its rear beyond 30 m, or 60 m where the lane is not longer than that."""
    r = Reading()
    r.put("a", lane, at, 10.0)
    r.put("b", "end_0", 1.0, 10.0)
    r.read()
    assert r.lanes()[lane] == (at - 5.0 + 40.0, 1)
    before = len(r.sumo.vehicle.asked)
    r.read()
    again = [
        ("getLaneID", "a"),
        ("getLaneID", "b"),
        *([("getLanePosition", "a")] if asked else []),
        ("getLanePosition", "b"),
    ]
    again += [*([("getSpeed", "a")] if asked else []), ("getSpeed", "b")]
    assert r.sumo.vehicle.asked[before:] == again
    assert r.lanes() == {"end_0": (36.0, 1), lane: (at - 5.0 + 40.0 if asked else math.inf, 1)}, (
        "it still counts"
    )
    r.gone("a")
    r.read()
    assert r.lanes() == {"end_0": (36.0, 1)}
    assert r.watcher.present == {"end_0": 1}


def test_who_was_not_asked_any_more_is_asked_on_its_next_lane():
    r = Reading()
    r.put("a", "west_0", 50.0, 10.0)
    r.put("b", "west_0", 60.0, 10.0)
    r.read()
    r.put("a", "in_1", 3.0, 10.0)
    r.put("b", "kin_0", 4.0, 9.0)
    assert r.read() == {
        0: (IN1, 4, 77.0, 10.0, 0.0, 7.5, False),
        1: (KIN, 9, 96.0, 9.0, 0.0, 7.5, False),
    }


def test_vehicles_keep_their_number_and_each_has_its_own():
    r = Reading()
    for i in range(5):
        r.put(f"v{i}", "in_1", 10.0 * i, 1.0)
    first = r.read()
    assert {n: row[2] for n, row in first.items()} == {i: 80.0 - 10.0 * i for i in range(5)}
    r.gone("v1", "v2")
    r.put("w", "in_1", 55.0, 2.0)
    again = r.read()
    assert {n: row[2] for n, row in again.items()} == {0: 80.0, 3: 50.0, 4: 40.0, 5: 25.0}
    assert r.watcher.present == {"in_1": 4}


def test_one_comes_as_another_goes():
    """As many as before, of other names: who is gone is noticed all the same."""
    r = Reading()
    r.put("a", "in_1", 1.0, 1.0)
    r.put("b", "in_1", 2.0, 1.0)
    r.read()
    r.gone("a")
    r.put("c", "west_0", 3.0, 1.0)
    assert r.read() == {1: (IN1, 4, 78.0, 1.0, 0.0, 7.5, False)}
    assert r.watcher.present == {"in_1": 1, "west_0": 1}
    r.gone("b")
    r.put("c", "in_1", 5.0, 1.0)
    assert r.read() == {2: (IN1, 4, 75.0, 1.0, 0.0, 7.5, False)}
    assert r.watcher.present == {"in_1": 1}
    assert r.lanes() == {"in_1": (4.0, 1)}


def test_the_memory_grows_with_the_vehicles():
    r = Reading()
    for i in range(2500):
        r.put(f"v{i}", "in_1", 0.01 * i, 0.0, length=4.0 + 0.001 * i)
    for second in range(2):
        rows = r.read()
        assert len(rows) == 2500
        assert all(
            row[2] == pytest.approx(80.0 - 0.01 * n) and row[4] == second + 1.0
            for n, row in rows.items()
        )
        assert all(row[5] == pytest.approx(6.5 + 0.001 * n) for n, row in rows.items())
    assert r.lanes()["in_1"][1] == 2500
    assert r.arrived() == {4: 2500}


def crowd(r: Reading, name: str, count: int) -> list[str]:
    names = [f"{name}{i}" for i in range(count)]
    for i, one in enumerate(names):
        r.put(one, "in_1", 0.1 * i, 0.0)
    return names


def returns(r: Reading, name: str) -> bool:
    """Whether a vehicle that left the watched lanes and comes back on its way counts as a new
    arrival: it has been forgotten.
    """
    r.arrived()
    r.put(name, "in_1", 1.0, 1.0)
    r.read(0.0)
    return r.arrived() == {4: 1}


@pytest.mark.parametrize(
    ("unseen_s", "more", "forgotten"),
    [(10.5, 57, True), (10.0, 57, False), (10.5, 56, False)],  # 256 may be known
)
def test_who_has_not_been_asked_for_ten_seconds_is_forgotten_once_there_are_many(
    unseen_s, more, forgotten
):
    r = Reading()
    crowd(r, "old", 200)
    r.read()
    for i in range(200):
        r.put(f"old{i}", "elsewhere_0", 0.0, 1.0)
    crowd(r, "new", more)
    r.read(unseen_s)
    assert returns(r, "old7") == forgotten
    assert not returns(r, "new7")


@pytest.mark.parametrize(("more", "forgotten"), [(313, False), (314, True)])
def test_after_that_twice_as_many_more_may_be_known_as_there_were(more, forgotten):
    r = Reading()
    old = crowd(r, "old", 200)
    r.read()
    for one in old:
        r.put(one, "elsewhere_0", 0.0, 1.0)
    mid = crowd(r, "mid", 57)
    r.read(
        10.5
    )  # 257 known; 57 are left: 256 + 2 * 57 = 370 may be known before it is looked again
    for one in mid:
        r.put(one, "elsewhere_0", 0.0, 1.0)
    crowd(r, "new", more)
    r.read(10.5)
    assert returns(r, "mid7") == forgotten


def test_numbers_of_the_forgotten_are_given_to_others_in_the_end():
    r = Reading()
    old = crowd(r, "old", 300)
    r.read()
    r.gone(*old)
    for _ in range(30):  # 30 times 300 vehicles, 11 s apart
        names = crowd(r, "new", 300)
        numbers = r.read(11.0)
        assert len(numbers) == 300
        r.gone(*names)
        r.read(11.0)
    assert max(numbers) < 1024


def test_an_emergency_vehicle_is_told_with_the_signals_within_600_m_until_it_has_left_the_street():
    r = Reading()
    fire = {"kind": "emergency"}
    r.put("z", "elsewhere_0", 0.0, 20.0, ahead=[("J", 0, 300.0)], **fire)
    r.read()
    assert r.watcher.urgent == set(), "not near any signal yet"
    r.put(
        "z",
        "in_0",
        10.0,
        12.0,
        ahead=[("J", 0, 70.0), ("Y", 3, 90.0), ("K", 1, 112.0), ("K2", 0, 600.0), ("J", 3, 600.1)],
        **fire,
    )
    r.put("b", "in_0", 30.0, 11.0, ahead=[("J", 1, 50.0)], **fire)
    r.put("c", "in_0", 40.0, 11.0, ahead=[("J", 1, 40.0)])
    rows = r.read()
    assert {row[2]: row[6] for row in rows.values()} == {70.0: True, 50.0: True, 40.0: False}
    assert r.watcher.emergencies() == (
        EmergencyVehicle("b", 11.0, ((1, 50.0),)),
        EmergencyVehicle("z", 12.0, ((0, 70.0), (5, 112.0), (6, 600.0))),
    )
    r.gone("b")
    r.put("z", ":j_0_0", 1.0, 13.0, ahead=[("K", 1, 31.0)], **fire)  # no watched lane
    r.read()
    assert r.watcher.emergencies() == (EmergencyVehicle("z", 13.0, ((5, 31.0),)),)
    r.put("z", "short_0", 5.0, 12.5, ahead=[("K", 1, 25.0)])
    assert r.read()[0][6] is True
    assert r.watcher.emergencies() == (EmergencyVehicle("z", 12.5, ((5, 25.0),)),), (
        "its claim at the second junction"
    )
    r.put("z", "end_0", 5.0, 12.5, ahead=[])
    r.read()
    assert r.watcher.emergencies() == (), "nothing ahead that it could claim"
    r.gone("z")
    r.read()
    assert r.watcher.emergencies() == ()
    assert r.watcher.urgent == set()


def test_arrivals_that_were_taken_cannot_be_changed_by_mistake():
    r = Reading()
    with pytest.raises(ValueError, match="read-only"):
        r.watcher.take_arrived()[0] = 1


def test_moves_bring_the_columns_and_the_counts_up_to_date():
    slot, lanes = np.zeros(3, SLOT), np.zeros(2, WATCHED)
    lanes["count"] = [5, 7]
    note_moves(
        slot,
        lanes,
        np.array([[2, 1, 4, 9, 1.5], [-1, 0, 0, 0, 0], [0, 0, -1, -1, 0.0], [-1, 0, 0, 0, 0]]),
    )
    assert lanes["count"].tolist() == [4, 8]
    assert slot[2][["on", "link", "lane", "detour"]].tolist() == (1, 4, 9, 1.5)
    assert slot[0][["on", "link", "lane", "detour"]].tolist() == (0, -1, -1, 0.0)
    assert slot[1].tolist() == np.zeros(1, SLOT)[0].tolist()


def test_a_digest_of_five_vehicles():
    """0 near the line, 1 beyond range; 3, 4, 5 on a lane that leads away, two of them well down it;
    2 is not asked. Of lane 2 nobody is read: inf.
    """
    slot, lanes = np.zeros(6, SLOT), np.zeros(3, WATCHED)
    lanes["to_end"] = [100.0, math.inf, 50.0]
    lanes["passed"] = [30.0, 30.0, 30.0]
    lanes["room"] = 1.0
    slot["on"] = [0, 0, 9, 1, 1, 1]
    slot["link"] = [6, 7, 9, -1, -1, -1]
    slot["lane"] = [2, 3, 9, -1, -1, -1]
    slot["length"] = [7.0, 8.0, 9.0, 6.0, 6.0, 6.0]
    slot["bare"] = [5.0, 6.0, 9.0, 4.0, 4.0, 4.0]
    slot["detour"] = [3.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    slot["wait"], slot["urgent"] = 4.0, [1, 0, 0, 0, 0, 0]
    which, how, passed = digest(
        50.0, 0.5, 60.0, np.array([3, 0, 4, 1, 5], np.int32),
        np.array([34.5, 43.0, 34.0, 39.9, 60.0]), np.array([2.0, 0.05, 9.0, 0.1, 3.0]), slot, lanes
    )  # fmt: skip
    assert which.tolist() == [[2], [6], [0], [1]]
    assert how.tolist() == [[60.0], [0.05], [4.5], [7.0]]
    assert passed.tolist() == [0, 4]
    assert (which.dtype, how.dtype, passed.dtype) == (np.int32, np.float64, np.int32)
    assert lanes["room"].tolist() == [
        pytest.approx(min(43.0 - 5.0 + 0.2, 39.9 - 6.0 + 0.4)),
        34.5 - 4.0 + 8.0,
        math.inf,
    ]
    assert slot["wait"].tolist() == [4.5, 0.0, 4.0, 0.0, 0.0, 0.0]
    assert slot["seen"].tolist() == [50.0, 50.0, 0.0, 50.0, 50.0, 50.0]


def test_room_and_count_are_told_for_the_lanes_behind_signals_and_for_no_other():
    lanes = np.zeros(4, WATCHED)
    lanes["room"], lanes["count"] = [1.0, 2.5, 3.0, math.inf], [10, 20, 30, 40]
    room, count = behind(lanes, np.array([5, 0, 2]), np.array([1, 3, 0]), 7)
    assert room.tolist() == [math.inf, math.inf, 1.0, math.inf, math.inf, 2.5, math.inf]
    assert count.tolist() == [40, 0, 10, 0, 0, 20, 0]
    assert (room.dtype, count.dtype) == (np.float64, np.int32)


def test_side_and_out_differ_in_what_is_well_down_them():
    watcher = Reading().watcher
    passed = dict(zip(watcher.watch.name, watcher.lanes["passed"].tolist(), strict=True))
    assert (passed["side_0"], passed["out_0"], passed["in_0"], passed[":j_1_0"]) == (
        60.0,
        30.0,
        30.0,
        60.0,
    )
    assert STREET.lanes[SIDE].length_m == 60.0
