"""Feeders: which lanes lead to a stop line, and how far from it they begin."""

from __future__ import annotations

import pytest

from headway.roads import Kind, Lane, Link, Network, SignalGroup
from headway.roads.upstream import Feeder, feeders, stop_lanes


def street(
    lengths: dict[str, float],
    *links: tuple[str, str, float, tuple[str, ...], int],
    kind: Kind = Kind.VEHICLE,
) -> Network:
    """Lanes by name and length, and links (from, to, length, way inside, group)."""
    place = {name: i for i, name in enumerate(lengths)}
    lanes = tuple(
        Lane(name, name, length, 10.0, kind, (0.0, 0.0)) for name, length in lengths.items()
    )
    ways = tuple(
        Link("n", i, place[a], place[b], group, "s", m, 10.0, kind, via)
        for i, (a, b, m, via, group) in enumerate(links)
    )
    groups = tuple(
        SignalGroup("T", 0, 0, kind, (i,), False) for i, x in enumerate(ways) if x.group >= 0
    )
    return Network("none", lanes, ways, groups, (), place)


CHAIN = street(
    {"stop": 50.0, "a": 30.0, "b": 20.0, "out": 9.0},
    ("a", "stop", 6.0, (":1", ":2", ":3"), -1),
    ("b", "a", 4.0, (":4",), -1),
    ("stop", "out", 8.0, (":5",), 0),
)


def test_ways_inside_a_junction_are_told_part_by_part_from_the_stop_line_back():
    assert feeders(CHAIN, 0, 1000.0) == [
        Feeder("stop", 50.0, True),
        Feeder(":3", 52.0, False),
        Feeder(":2", 54.0, False),
        Feeder(":1", 56.0, False),
        Feeder("a", 86.0, False),
        Feeder(":4", 90.0, False),
        Feeder("b", 110.0, False),
    ]


@pytest.mark.parametrize(
    ("range_m", "found"), [(0.0, 1), (50.0, 1), (50.1, 5), (86.0, 5), (86.1, 7)]
)
def test_lanes_that_begin_at_the_range_or_beyond_are_the_last(range_m, found):
    assert len(feeders(CHAIN, 0, range_m)) == found


def test_a_link_without_a_way_inside_adds_nothing():
    network = street({"stop": 50.0, "a": 30.0}, ("a", "stop", 0.0, (), -1))
    assert feeders(network, 0, 1000.0) == [Feeder("stop", 50.0, True), Feeder("a", 80.0, False)]


def test_of_two_ways_the_shorter_counts_whichever_is_found_first():
    """From a by the bypass (10 + 40) or straight (10):
    and what lies before a is told by the shorter way too.
    """
    lengths = {"stop": 50.0, "a": 30.0, "bypass": 40.0, "before": 5.0}
    straight = ("a", "stop", 2.0, (":s",), -1)
    bypass = [("a", "bypass", 1.0, (":in",), -1), ("bypass", "stop", 1.0, (":out",), -1)]
    before = ("before", "a", 0.0, (), -1)
    for links in (
        [straight, *bypass, before],
        [*bypass, straight, before],
        [before, *bypass, straight],
    ):
        found = {f.name: f.to_stop_m for f in feeders(street(lengths, *links), 0, 1000.0)}
        assert found == {
            "stop": 50.0,
            ":s": 52.0,
            "a": 82.0,
            ":out": 51.0,
            "bypass": 91.0,
            ":in": 92.0,
            "before": 87.0,
        }


def test_a_ring_ends():
    network = street(
        {"stop": 50.0, "a": 30.0}, ("a", "stop", 1.0, (":1",), -1), ("stop", "a", 1.0, (":2",), -1)
    )
    assert feeders(network, 0, 1e9) == [
        Feeder("stop", 50.0, True),
        Feeder(":1", 51.0, False),
        Feeder("a", 81.0, False),
        Feeder(":2", 82.0, False),
    ]


def test_a_ring_without_length_ends():
    network = street({"stop": 50.0, "a": 0.0}, ("a", "stop", 0.0, (), -1), ("a", "a", 0.0, (), -1))
    assert feeders(network, 0, 1000.0) == [Feeder("stop", 50.0, True), Feeder("a", 50.0, False)]


@pytest.mark.parametrize("turned", [False, True])
def test_a_way_that_ends_does_not_end_the_others(turned):
    """Beside the way a, c stand b that is too long to go on, d that is behind a signal,
    and e that is reached a second time by a longer way.
    """
    lengths = {
        "stop": 50.0,
        "a": 30.0,
        "b": 900.0,
        "c": 20.0,
        "d": 5.0,
        "e": 7.0,
        "f": 3.0,
        "g": 4.0,
    }
    links = [
        ("b", "stop", 1.0, (":b",), -1), ("d", "stop", 1.0, (":d",), 0),
        ("e", "stop", 1.0, (":e",), -1), ("a", "stop", 1.0, (":a",), -1),
        ("c", "a", 1.0, (":c",), -1), ("f", "e", 1.0, (":f",), -1), ("e", "c", 1.0, (":ec",), -1),
        ("f", "b", 1.0, (":fb",), -1),
        ("g", "c", 1.0, (":g",), -1),
    ]  # fmt: skip
    found = {
        f.name: f.to_stop_m
        for f in feeders(street(lengths, *(links[::-1] if turned else links)), 0, 500.0)
    }
    assert found == {
        "stop": 50.0, ":b": 51.0, "b": 951.0, ":e": 51.0, "e": 58.0, ":a": 51.0, "a": 81.0,
        ":c": 82.0, "c": 102.0,
        ":f": 59.0, "f": 62.0, ":ec": 103.0, ":g": 103.0, "g": 107.0,
    }  # fmt: skip


def test_a_signal_bars_the_way_back():
    """Group 0 is a signal as any other."""
    for group, names in ((0, ["stop"]), (1, ["stop"]), (-1, ["stop", ":1", "a"])):
        network = street({"stop": 50.0, "a": 30.0}, ("a", "stop", 1.0, (":1",), group))
        assert [f.name for f in feeders(network, 0, 1000.0)] == names


def test_stop_lanes_are_told_once_in_order_and_not_for_those_on_foot():
    lengths = {"a": 1.0, "b": 1.0, "c": 1.0, "out": 1.0}
    links = [
        ("c", "out", 1.0, (), 0),
        ("b", "out", 1.0, (), -1),
        ("a", "out", 1.0, (), 1),
        ("a", "c", 1.0, (), 2),
    ]
    assert stop_lanes(street(lengths, *links)) == [0, 2]
    assert stop_lanes(street(lengths, *links, kind=Kind.TRAM)) == [0, 2]
    assert stop_lanes(street(lengths, *links, kind=Kind.PEDESTRIAN)) == []
