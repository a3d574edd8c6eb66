"""What a camera makes of vehicles that are known exactly."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.plants.street_by_hand import IN0, IN1, KIN, SHORT, network

from headway.plants.sumo.loops import Loops
from headway.plants.sumo.profiles import Camera, Connected, profile, take
from headway.roads import likely_links
from headway.values import EmergencyVehicle, Vehicles

STREET = network()


def cars(*rows: tuple[int, float], speed: float = 3.0) -> Vehicles:
    """(lane, metres to the stop line) of each; the other columns differ by row."""
    n = len(rows)
    return Vehicles(
        np.array([r[0] for r in rows], np.int32), np.full(n, -1, np.int32),
        np.array([r[1] for r in rows], float), speed + np.arange(n),
        10.0 + np.arange(n), 7.5 + np.arange(n), np.arange(n) % 2 == 1,
    )  # fmt: skip


def numbers(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def columns(v: Vehicles) -> list[list]:
    return [
        x.tolist()
        for x in (v.lane, v.link, v.distance_m, v.speed_mps, v.waiting_s, v.length_m, v.emergency)
    ]


def same(a: Vehicles, b: Vehicles) -> bool:
    return columns(a) == columns(b)


def test_the_likely_way_is_straight_on_then_the_slight_turns_then_right_then_left_then_back():
    assert likely_links(STREET).tolist() == [
        -1,
        2,
        4,
        7,
        5,
        9,
        -1,
        -1,
        -1,
        -1,
        -1,
        -1,
        6,
        -1,
        -1,
        -1,
    ]
    # in_0's two links with other directions; the first of two alike
    for straight, left, expected in (
        ("s", "l", 2), ("l", "s", 3), ("l", "R", 3), ("R", "L", 2), ("L", "R", 2), ("r", "L", 3),
        ("l", "r", 3), ("t", "l", 3), ("t", "?", 2),
        ("?", "t", 3), ("r", "s", 3), ("R", "s", 3), ("L", "s", 3), ("L", "r", 2), ("R", "r", 2),
    ):  # fmt: skip
        links = list(STREET.links)
        links[2] = replace(links[2], direction=straight)
        links[3] = replace(links[3], direction=left)
        assert likely_links(replace(STREET, links=tuple(links)))[IN0] == expected, (straight, left)


def test_a_link_without_a_signal_is_no_likely_way():
    links = list(STREET.links)
    links[2] = replace(links[2], group=-1)
    assert likely_links(replace(STREET, links=tuple(links)))[IN0] == 3
    assert likely_links(STREET).dtype == np.int32


def test_rows_are_taken_with_all_their_columns():
    there = replace(cars((IN0, 5.0), (IN1, 6.0), (SHORT, 7.0)), link=np.array([2, 4, 7], np.int32))
    taken = take(there, np.array([2, 0]))
    assert columns(taken) == [
        [SHORT, IN0],
        [7, 2],
        [7.0, 5.0],
        [5.0, 3.0],
        [12.0, 10.0],
        [9.5, 7.5],
        [False, False],
    ]


def test_connected_vehicles_are_told_as_they_are():
    there = cars((IN0, 5.0), (-1, 150.0))
    assert Connected().see(0.0, there, numbers(0, 1)) is there


def test_profiles_are_known_by_name():
    assert isinstance(profile("connected", STREET, 1), Connected)
    assert isinstance(profile("camera", STREET, 1), Camera)
    assert isinstance(profile("loops", STREET, 1), Loops)
    with pytest.raises(
        ValueError,
        match=r"^no sensing profile 'radar'\. There are: connected, camera, "
        r"loops \(rendered cameras are a plant of their own\)\.$",
    ):
        profile("radar", STREET, 1)


def missed(number: int) -> bool:
    """One in twenty by a multiplicative hash of its number (Knuth's 2654435761),
    thousandths below 50.
    """
    return number * 2654435761 % 1000 < 50


def test_a_camera_tells_place_and_lane_with_its_noise_and_the_likely_way():
    there = cars(
        (IN0, 50.0),
        (IN1, 119.0),
        (IN0, 0.5),
        (KIN, 121.0),
        (-1, 20.0),
        (IN0, -0.1),
        (IN0, 0.0),
        (SHORT, 60.0),
    )
    there.link[5] = 3
    who = numbers(1, 2, 3, 5, 6, 7, 8, 9)
    assert [missed(int(k)) for k in who] == [False] * 8
    for seed in (4, 9):
        noise = np.random.default_rng(seed).normal(0.0, 2.0, 8)
        noisy = there.distance_m + noise
        rows = [i for i in range(8) if noisy[i] <= 120.0 and i != 4]  # which is of no lane
        seen = Camera(STREET, seed).see(7.0, there, who)
        assert seen.lane.tolist() == [there.lane[i] for i in rows]
        assert seen.link.tolist() == [
            3 if i == 5 else {IN0: 2, IN1: 4, KIN: 9, SHORT: 7}[int(there.lane[i])] for i in rows
        ], "of the one inside the junction it sees where it goes"
        assert seen.distance_m.tolist() == [
            min(noisy[i], -0.1) if i == 5 else max(noisy[i], 0.0) for i in rows
        ]
        assert columns(seen)[3:] == [[x[i] for i in rows] for x in columns(there)[3:]]
        assert 6 in rows
        assert noisy[6] < 0.0 or seed == 9  # one that is told beyond the line is told at it


def test_a_camera_goes_on_with_its_noise_from_second_to_second():
    camera, random = Camera(STREET, 3), np.random.default_rng(3)
    there = cars((IN0, 50.0), (IN1, 60.0))
    for _ in range(3):
        expected = there.distance_m + random.normal(0.0, 2.0, 2)
        assert camera.see(0.0, there, numbers(1, 2)).distance_m.tolist() == expected.tolist()


def test_a_camera_sees_exactly_to_its_range():
    noise = float(np.random.default_rng(5).normal(0.0, 2.0, 1)[0])
    at = 120.0 - noise
    while at + noise > 120.0:
        at = math.nextafter(at, 0.0)
    assert len(Camera(STREET, 5).see(0.0, cars((KIN, at)), numbers(1))) == 1
    assert len(Camera(STREET, 5).see(0.0, cars((KIN, at + 1e-9)), numbers(1))) == 0


def test_the_first_lane_is_a_lane_like_others():
    """Number 0, from which no link with a signal leads in this street."""
    assert Camera(STREET, 5).see(0.0, cars((0, 50.0)), numbers(1)).link.tolist() == [-1]


def test_an_occluded_vehicle_stays_occluded_and_one_in_twenty_is():
    there = cars(*[(IN0, 50.0)] * 1000)
    who = np.arange(1000, dtype=np.int32)
    hidden = [k for k in range(1000) if missed(k)]
    assert len(hidden) == 50
    camera = Camera(STREET, 1)
    for second in range(3):
        seen = camera.see(float(second), there, who)
        assert seen.speed_mps.tolist() == [3.0 + k for k in range(1000) if k not in hidden]
    assert 0 in hidden
    assert max(2654435761 * k % 1000 for k in hidden) == 49


def test_a_camera_knows_the_emergency_vehicles_in_view_by_their_lane():
    camera = Camera(STREET, 3)
    way = (EmergencyVehicle("fire", 9.0, ((0, 300.0), (5, 400.0))),)
    assert camera.emergencies(way) == ()
    # every second one is an emergency vehicle: the third is out of view, the fifth without signal
    there = cars((IN0, 40.0), (IN0, 60.0), (IN1, 20.0), (IN1, 300.0), (IN0, 80.0), (0, 50.0))
    seen = camera.see(0.0, there, numbers(11, 12, 13, 14, 15, 16))
    (found,) = camera.emergencies(way)
    row = int(np.flatnonzero(seen.emergency & (seen.lane == IN0))[0])
    groups = sorted({STREET.links[k].group for k in STREET.links_from(IN0)} - {-1})
    assert (found.id, found.speed_mps) == ("seen 12", 4.0)
    assert found.ahead == tuple((group, seen.distance_m[row]) for group in groups)
    assert len(groups) > 0
    camera.see(1.0, cars((IN0, 40.0)), numbers(11))
    assert camera.emergencies(way) == ()


def test_those_connected_report_their_way_and_detectors_tell_nothing():
    way = (EmergencyVehicle("fire", 9.0, ((0, 300.0), (5, 400.0))),)
    assert Connected().emergencies(way) == way
    loops = Loops(STREET)
    loops.see(0.0, cars((IN0, 40.0), (IN0, 45.0)), numbers(1, 2))
    assert loops.emergencies(way) == ()
