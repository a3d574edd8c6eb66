"""Counts, turns, headways, queues, occupancy, congestion, prediction and heat,
each worked out by hand on a few hand-made tracks.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sensing.hand_made import observed_at, road_user, site

from headway.sensing import Site
from headway.sensing.traffic.measures import Crossing, Measures, intersection, predicted_flow
from headway.sensing.traffic.site import Line
from headway.vision.detection.detectors import BUS, CAR, PERSON

GATE = {"name": "gate", "px": [[160, 80], [160, 140]]}
EXIT = {"name": "exit", "px": [[220, 80], [220, 140]]}
LANE = {"name": "lane", "px": [[100, 80], [220, 80], [220, 140], [100, 140]]}


def line(a, b):
    return Line(name="l", px=(a, b))


# -- crossing a line


@pytest.mark.parametrize(
    ("a", "b", "px", "share"),
    [
        ((0, 0), (10, 0), ((4, -5), (4, 5)), 0.4),
        ((0, 0), (8, 4), ((4, -5), (4, 5)), 0.5),
        ((3.99, 0), (4.01, 0), ((4, -5), (4, 5)), 0.5),  # a small step is one too
        ((1, 2), (5, 10), ((0, 5), (9, 2)), None),  # worked out below
        ((4, 0), (10, 0), ((4, -5), (4, 5)), 0.0),  # it begins on the line
        ((0, 0), (4, 0), ((4, -5), (4, 5)), -1.0),  # it ends on it: the next step counts
        ((0, 0), (3.9, 0), ((4, -5), (4, 5)), -1.0),
        ((4.1, 0), (10, 0), ((4, -5), (4, 5)), -1.0),
        ((0, -5), (10, -5), ((4, -5), (4, 5)), 0.4),  # through its first point
        ((0, 5), (10, 5), ((4, -5), (4, 5)), 0.4),  # through its last
        ((0, -5.1), (10, -5.1), ((4, -5), (4, 5)), -1.0),
        ((0, 5.1), (10, 5.1), ((4, -5), (4, 5)), -1.0),
        ((4, -3), (4, 3), ((4, -5), (4, 5)), -1.0),  # along the line itself
        ((5, 5), (5, 5), ((4, -5), (4, 5)), -1.0),  # nobody moves
    ],
)
def test_where_a_step_crosses_a_line(a, b, px, share):
    if (
        share is None
    ):  # (1 + 4 s, 2 + 8 s) on y = 5 - x / 3: 2 + 8 s = 5 - (1 + 4 s) / 3, so s = 8 / 28
        share = 2.0 / 7.0
    for (p, q), ways in ((px, ("in", "out")), (px[::-1], ("out", "in"))):
        found = intersection(a, b, line(p, q))
        assert (found is None) == (share < 0.0)
        if found is not None:
            assert found.share == pytest.approx(share)
            to_the_right = (b[0] - a[0]) * (px[1][1] - px[0][1]) - (b[1] - a[1]) * (
                px[1][0] - px[0][0]
            ) > 0.0
            assert found[1] == ways[0 if to_the_right else 1]


def test_in_is_from_the_right_of_a_line_to_its_left():
    """Who looks from (4, 5) up the frame to (4, -5) has the larger x on the right."""
    assert intersection((8, 0), (0, 0), line((4, 5), (4, -5))) == (0.5, "in")
    assert intersection((0, 0), (8, 0), line((4, 5), (4, -5))) == (0.5, "out")


@given(*[st.integers(-50, 50)] * 8)
def test_a_step_crosses_when_each_has_its_ends_on_both_sides_of_the_other(
    ax, ay, bx, by, px, py, qx, qy
):
    def side(o, p, q):
        return (p[0] - o[0]) * (q[1] - o[1]) - (p[1] - o[1]) * (q[0] - o[0])

    a, b, p, q = (ax, ay), (bx, by), (px, py), (qx, qy)
    sides = (side(p, q, a), side(p, q, b)), (side(a, b, p), side(a, b, q))
    found = intersection(a, b, line(p, q))
    if all(u * v < 0 for u, v in sides):
        assert found.share == pytest.approx(sides[0][0] / (sides[0][0] - sides[0][1]))
        assert found.direction == ("in" if sides[0][1] < 0 else "out")
    elif sides[0][0] * sides[0][1] > 0 or sides[1][0] * sides[1][1] > 0:
        assert found is None


# -- counting


def drive(measures, track, places, begin_s=10.0, step_s=0.5, others=()):
    found = []
    for k, place in enumerate(places):
        t = begin_s + k * step_s
        found += measures.update(t, [observed_at(track, t, place), *others])
    return found


def test_a_crossing_is_reported_with_its_instant_direction_class_and_speed():
    measures = Measures(site(lines=[GATE, EXIT]))
    found = drive(
        measures,
        road_user(7, BUS, mean_mps=9.5, mean_se_mps=0.25),
        [(140, 110), (155, 110), (175, 110), (190, 110)],
    )
    assert found == [
        Crossing(10.625, "gate", "in", 7, "bus", 9.5, 0.25)
    ]  # a quarter of the step from 10.5 s to 11 s
    assert list(measures.crossings) == found
    assert dict(measures.counts) == {("gate", "in", "bus"): 1}
    with pytest.raises(AttributeError):
        found[0].at_s = 1.0


def test_counts_are_by_line_direction_and_class():
    measures = Measures(site(lines=[GATE, EXIT]))
    right, left = [(150, 110), (170, 110), (230, 110)], [(230, 110), (170, 110), (150, 110)]
    for number, (kind, way) in enumerate(
        [(CAR, right), (CAR, right), (PERSON, left), (CAR, left), (BUS, right[:2])]
    ):
        drive(measures, road_user(number, kind), way, 10.0 + 20.0 * number)
    lines = measures.figures()["lines"]
    assert (lines["gate"]["in"], lines["gate"]["out"]) == (
        {"car": 2, "bus": 1},
        {"person": 1, "car": 1},
    )
    assert (lines["exit"]["in"], lines["exit"]["out"]) == ({"car": 2}, {"person": 1, "car": 1})
    assert measures.figures()["turns"] == [
        {"from": "exit", "to": "gate", "n": 2},
        {"from": "gate", "to": "exit", "n": 2},
    ]


def test_a_track_that_jitters_on_a_line_is_counted_once_in_five_seconds():
    left, right = (150.0, 110.0), (170.0, 110.0)
    measures, car = Measures(site(lines=[GATE])), road_user()
    for t, place, n in (
        (0.0, left, 0),
        (1.0, right, 1),
        (2.0, left, 1),
        (4.0, right, 1),
        (5.0, left, 1),
        (5.5, right, 1),
        (6.0, left, 2),
    ):
        measures.update(t, [observed_at(car, t, place)])
        assert (
            sum(measures.counts.values()) == n
        )  # at 0.5 s the first; the one at 5.75 s is 5.25 s after
    measures, car = Measures(site(lines=[GATE])), road_user()
    for t, place in (
        (0.0, left),
        (1.0, right),
        (5.0, right),
        (6.0, left),
    ):  # 0.5 and 5.5: five seconds sharp
        measures.update(t, [observed_at(car, t, place)])
    assert dict(measures.counts) == {("gate", "in", "car"): 1, ("gate", "out", "car"): 1}
    measures, car = Measures(site(lines=[GATE])), road_user()
    for t, place in ((0.0, left), (1.0, right), (4.99, right), (6.0, left)):
        measures.update(t, [observed_at(car, t, place)])
    assert sum(measures.counts.values()) == 1


def test_a_turn_is_from_the_line_crossed_last():
    lines = [
        {"name": n, "px": [[x, 80], [x, 140]]} for n, x in (("c", 120), ("b", 160), ("a", 200))
    ]
    measures = Measures(site(lines=lines))
    drive(measures, road_user(), [(110, 110), (130, 110), (170, 110), (210, 110)])
    assert dict(measures.turns) == {("c", "b"): 1, ("b", "a"): 1}
    assert measures.figures()["turns"] == [
        {"from": "b", "to": "a", "n": 1},
        {"from": "c", "to": "b", "n": 1},
    ]
    both = Measures(site(lines=lines))
    found = drive(
        both, road_user(), [(110, 110), (210, 110)]
    )  # three in one step: each at its own instant
    assert [c.at_s for c in found] == pytest.approx([10.05, 10.25, 10.45])
    assert dict(both.turns) == {("c", "b"): 1, ("b", "a"): 1}


def test_a_predicted_or_new_track_crosses_no_line():
    measures, car = Measures(site(lines=[GATE])), road_user()
    assert measures.update(10.0, [observed_at(car, 10.0, (170, 110))]) == []
    other = road_user(2)
    observed_at(other, 9.5, (150, 110))
    observed_at(other, 10.0, (170, 110))
    assert measures.update(10.5, [other]) == []  # its last sight is half a second old
    assert [c.track for c in measures.update(10.0, [other])] == [2]


def test_headways_are_the_times_between_crossings_of_a_line():
    measures = Measures(site(lines=[GATE, EXIT]))
    assert measures.figures()["lines"]["gate"]["mean_headway_s"] is None
    for number, begin_s in enumerate((10.0, 12.0, 15.0)):
        drive(measures, road_user(number), [(150, 110), (170, 110)], begin_s)
        assert list(measures.headways["gate"]) == [2.0, 3.0][:number]
    assert measures.figures()["lines"]["gate"]["mean_headway_s"] == 2.5
    assert measures.figures()["lines"]["exit"]["mean_headway_s"] is None


def test_flow_is_vehicles_an_hour_since_the_first_frame():
    measures = Measures(site(lines=[GATE]))
    assert measures.figures()["seconds"] == 0.0
    drive(measures, road_user(1), [(150, 110), (170, 110)], 10.0)
    assert measures.figures()["lines"]["gate"]["flow_veh_h"] is None  # half a second tells nothing
    measures.update(11.0, [])
    assert measures.figures()["lines"]["gate"]["flow_veh_h"] is None
    measures.update(11.25, [])
    assert measures.figures()["lines"]["gate"]["flow_veh_h"] == 2880.0  # 1 in 1.25 s
    drive(measures, road_user(2), [(170, 110), (150, 110)], 89.5)
    figures = measures.figures()
    assert (figures["seconds"], figures["lines"]["gate"]["flow_veh_h"]) == (
        80.0,
        90.0,
    )  # both directions: 2 in 80 s


def test_flow_over_a_single_frame_is_zero():
    measures = Measures(site(lines=[GATE], zones=[LANE]))
    measures.update(10.0, [observed_at(road_user(), 10.0, (150, 110))])
    figures = measures.figures()
    assert 0.0 < figures["seconds"] < 1e-8
    assert figures["lanes"]["lane"]["occupancy"] == 0.0
    assert figures["lanes"]["lane"]["vehicles"] == 1


def test_stored_crossings_and_headways_are_limited():
    measures = Measures(site(lines=[GATE]))
    assert (measures.crossings.maxlen, measures.headways["gate"].maxlen) == (2000, 200)


# -- prediction


@pytest.mark.parametrize(
    ("minutes", "flow"),
    [
        ([], None),
        ([10, 10], None),
        ([10, 10, 10], 600.0),
        ([4, 6, 8], 360.0),
        # level 0.3 x 10 + 0.7 x 6 = 7.2, trend 0.1 x 1.2 = 0.12, ahead on average 0.12 x (0.9 +
        # 1.71 + 2.439 + 3.0951 + 3.68559) / 5
        ([4, 6, 8, 10], 60.0 * (7.2 + 0.12 * 2.365938)),
        # level 0.3 x 12 + 0.7 x (7.2 + 0.9 x 0.12) = 8.7156, trend 0.1 x 1.5156 + 0.81 x 0.12 =
        # 0.24876
        ([4, 6, 8, 10, 12], 60.0 * (8.7156 + 0.24876 * 2.365938)),
        ([9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0.0),  # never below nought
    ],
)
def test_flow_is_predicted_by_exponential_smoothing_with_a_damped_trend(minutes, flow):
    assert predicted_flow(minutes) == (None if flow is None else pytest.approx(flow))


def minutes_of(counts):
    """Measures of whole minutes with so many crossings each."""
    measures, number = Measures(site(lines=[GATE, EXIT])), 0
    for minute, count in enumerate([*counts, 0]):
        users = [road_user(number + k) for k in range(count)]
        number += count
        for t, x in ((60.0 * minute, 150), (60.0 * minute + 59.0, 170)):
            measures.update(1000.0 + t, [observed_at(u, 1000.0 + t, (x, 110)) for u in users])
    return measures


def test_only_whole_minutes_count_for_the_prediction_of_each_line():
    lines = minutes_of([1, 5, 3]).figures()["lines"]
    assert (lines["gate"]["predicted_veh_h"], lines["exit"]["predicted_veh_h"]) == (180.0, 0.0)
    assert minutes_of([1, 5]).figures()["lines"]["gate"]["predicted_veh_h"] is None
    assert minutes_of([1, 5, 3, 7]).figures()["lines"]["gate"]["predicted_veh_h"] == pytest.approx(
        predicted_flow([1, 5, 3, 7])
    )
    gap = minutes_of([2, 2, 2])
    gap.update(1000.0 + 359.9, [])  # nobody looked for two minutes: they had no crossing
    assert gap.figures()["lines"]["gate"]["predicted_veh_h"] == pytest.approx(
        predicted_flow([2, 2, 2, 0, 0])
    )
    gap.update(1000.0 + 360.0, [])
    assert gap.figures()["lines"]["gate"]["predicted_veh_h"] == pytest.approx(
        predicted_flow([2, 2, 2, 0, 0, 0])
    )


def test_the_last_hour_counts_for_the_prediction():
    counts = [300, 200, *[5] * 59]
    of = [predicted_flow(counts[k:]) for k in range(3)]
    assert len(set(of)) == 3  # what was an hour ago can still be seen, if only in the tenth digit
    assert minutes_of(counts[:60]).figures()["lines"]["gate"]["predicted_veh_h"] == predicted_flow(
        counts[:60]
    )
    assert minutes_of(counts).figures()["lines"]["gate"]["predicted_veh_h"] == of[1]


# -- zones


@pytest.mark.parametrize(
    ("foot", "inside"),
    [
        ((100, 80), True), ((220, 140), True), ((220.9, 140.9), True), ((221, 110), False),
        ((160, 141), False), ((99.9, 110), False), ((160, 79.9), False),
        ((-5, 110), False), ((160, -5), False), ((400, 110), False), ((160, 300), False),
    ],
)  # fmt: skip
def test_a_zone_is_all_the_pixels_within_its_corners(foot, inside):
    measures = Measures(site(zones=[LANE, {"name": "far", "px": [[0, 0], [50, 0], [0, 50]]}]))
    car = road_user()
    measures.update(10.0, [observed_at(car, 10.0, foot)])
    assert measures.zones_of(car) == (["lane"] if inside else [])


def test_zones_reach_to_the_edges_of_the_frame_and_corners_are_rounded():
    corners = {"name": "all", "px": [[0, 0], [320, 0], [320, 240], [0, 240]]}
    measures = Measures(
        site(
            zones=[
                corners,
                {"name": "part", "px": [[9.6, 9.6], [20.4, 9.6], [20.4, 20.4], [9.6, 20.4]]},
            ]
        )
    )
    for foot, names in (
        ((0, 0), ["all"]), ((319.9, 239.9), ["all"]), ((320, 100), []), ((100, 240), []),
        ((10, 10), ["all", "part"]), ((20.9, 20.9), ["all", "part"]),
        ((9.9, 15), ["all"]), ((21, 15), ["all"]),
    ):  # fmt: skip
        track = observed_at(road_user(), 10.0, foot)
        measures.update(10.0, [track])
        assert measures.zones_of(track) == names
    assert measures.zones_of(road_user(99)) == []


# -- lanes


def lane_of(measures):
    return measures.figures()["lanes"]["lane"]


def test_occupancy_is_the_share_of_the_time_with_a_vehicle_in_the_lane():
    measures = Measures(site(zones=[LANE]))
    car, walker = road_user(1), road_user(2, PERSON)
    measures.update(10.0, [observed_at(car, 10.0, (150, 110))])  # no time has passed yet
    measures.update(
        11.0, [observed_at(car, 11.0, (160, 110)), observed_at(walker, 11.0, (150, 110))]
    )
    assert (lane_of(measures)["vehicles"], lane_of(measures)["occupancy"]) == (1, 1.0)
    measures.update(
        13.0, [observed_at(car, 13.0, (300, 110)), observed_at(walker, 13.0, (150, 110))]
    )  # people do not count
    assert (lane_of(measures)["vehicles"], lane_of(measures)["occupancy"]) == (
        0,
        pytest.approx(1.0 / 3.0),
    )
    measures.update(
        14.0, [observed_at(car, 14.0, (150, 110)), observed_at(road_user(3), 14.0, (160, 110))]
    )
    assert (lane_of(measures)["vehicles"], lane_of(measures)["occupancy"]) == (2, 0.5)


def test_vehicles_stopped_for_more_than_a_second_are_in_the_queue():
    """Feet at x = 11, 15 and 20 m; the two who count are 9 m apart, with lengths of 4 and 5 m."""
    measures = Measures(site(zones=[LANE]))
    assert lane_of(measures) == {
        "vehicles": 0, "queue_veh": 0, "queue_m": 0.0, "longest_wait_s": 0.0, "occupancy": 0.0,
        "mean_speed_mps": None, "congestion": "free",
    }  # fmt: skip
    users = [
        road_user(1, length_m=4.0, stopped_since_s=7.0),
        road_user(2, length_m=9.0, stopped_since_s=9.0),
        road_user(3, length_m=5.0, stopped_since_s=8.9),
    ]
    outside, walker = road_user(4, stopped_since_s=1.0), road_user(5, PERSON, stopped_since_s=1.0)
    measures.update(10.0, [
        *(observed_at(u, 10.0, (x, 110)) for u, x in zip(users, (110, 150, 200), strict=True)),
        observed_at(outside, 10.0, (50, 110)), observed_at(walker, 10.0, (120, 110)),
    ])  # fmt: skip
    figures = lane_of(measures)
    assert (
        figures["vehicles"],
        figures["queue_veh"],
        figures["queue_m"],
        figures["longest_wait_s"],
    ) == (3, 2, pytest.approx(13.5), 3.0)


def test_where_no_speed_is_known_the_congestion_of_a_lane_with_vehicles_is_unknown():
    measures = Measures(site(zones=[LANE]))
    one = road_user(1, stopped_since_s=0.0)
    measures.update(10.0, [observed_at(one, 10.0, (150, 110), speed_mps=np.nan)])
    assert (
        lane_of(measures)["mean_speed_mps"],
        lane_of(measures)["queue_veh"],
        lane_of(measures)["congestion"],
    ) == (None, 1, "unknown")
    measures.update(11.0, [])
    assert lane_of(measures)["congestion"] == "free"


def test_the_length_of_a_queue_is_between_its_vehicles_farthest_apart():
    measures = Measures(site(zones=[LANE]))
    users = [
        road_user(k, length_m=length, stopped_since_s=0.0)
        for k, length in enumerate((4.0, np.nan, 6.0))
    ]
    for u, road in zip(users, ((0.0, 0.0), (3.0, 4.0), (-1.0, 1.0)), strict=True):
        observed_at(u, 10.0, (150, 110), road)
    measures.update(10.0, users)
    assert lane_of(measures)["queue_m"] == pytest.approx(
        5.0 + 5.0
    )  # (3, 4) to (-1, 1); lengths that are known: 4 and 6
    measures.update(10.5, users[1:2])
    assert lane_of(measures)["queue_m"] == 0.0  # nothing is known of its length
    users[2].road_m[-1] = (np.nan, np.nan)
    measures.update(11.0, users)
    assert (lane_of(measures)["queue_veh"], lane_of(measures)["queue_m"]) == (
        3,
        None,
    )  # without a calibration there are no metres


def test_the_speed_of_a_lane_is_the_mean_of_all_observed_in_it_within_a_minute():
    measures = Measures(
        site(zones=[LANE, LANE | {"name": "empty", "px": [[0, 0], [50, 0], [0, 50]]}])
    )
    users = [road_user(k) for k in range(4)]

    def show(at_s, *speeds):
        measures.update(
            at_s,
            [
                observed_at(u, at_s, (150, 110), speed_mps=v)
                for u, v in zip(users, speeds, strict=False)
            ],
        )
        return lane_of(measures)["mean_speed_mps"]

    assert show(0.0, np.nan) is None
    assert show(1.0, 10.0, 20.0, np.nan) == 15.0
    assert show(2.0, 6.0) == 12.0
    assert show(3.0) == 12.0  # nobody there
    assert show(61.0, 0.0) == 9.0  # those of a minute ago still count
    assert show(61.5) == 3.0  # those of 1 s do not any more
    assert show(62.0, 4.0) == pytest.approx(10.0 / 3.0)
    assert show(200.0) is None
    assert measures.figures()["lanes"]["empty"]["mean_speed_mps"] is None


def test_a_stopped_lane_has_speed_zero_and_no_sum_falls_below_it():
    """0.3 + 0.9 - 0.3 - 0.9 is a little less than nought in binary fractions."""
    assert ((0.3 + 0.9) - 0.3) - 0.9 < 0.0
    measures = Measures(site(zones=[LANE]))
    for at_s, speed in ((0.0, 0.3), (1.0, 0.9), (30.0, 0.0)):
        measures.update(at_s, [observed_at(road_user(), at_s, (150, 110), speed_mps=speed)])
    assert lane_of(measures)["mean_speed_mps"] == pytest.approx(0.4)
    measures.update(61.5, [])
    assert (lane_of(measures)["mean_speed_mps"], lane_of(measures)["congestion"]) == (0.0, "jam")


@pytest.mark.parametrize(
    ("speed", "level"),
    [
        (9.8, "free"),
        (9.7, "dense"),
        (5.6, "dense"),
        (5.5, "slow"),
        (2.1, "slow"),
        (2.0, "jam"),
        (0.0, "jam"),
        (30.0, "free"),
        (np.nan, "unknown"),
    ],
)
def test_congestion_is_by_the_speed_beside_the_limit(speed, level):
    """Of 50 km/h (13.89 m/s): 70 % are 9.72, 40 % 5.56, 15 % 2.08 m/s."""
    for of in (
        site(zones=[LANE]),
        site(zones=[LANE], rules={"limit_kmh": 50.0}),
        site(zones=[LANE | {"limit_kmh": 50.0}], rules={"limit_kmh": 130.0}),
    ):
        measures = Measures(of)
        measures.update(0.0, [observed_at(road_user(), 0.0, (150, 110), speed_mps=speed)])
        assert lane_of(measures)["congestion"] == level


def test_congestion_at_the_very_edge_is_the_better_of_the_two():
    measures = Measures(site(zones=[LANE | {"limit_kmh": 36.0}]))  # 10 m/s
    for at_s, (speed, level) in enumerate([(7.0, "free"), (4.0, "dense"), (1.5, "slow")]):
        measures.update(
            100.0 * at_s, [observed_at(road_user(), 100.0 * at_s, (150, 110), speed_mps=speed)]
        )
        assert lane_of(measures)["congestion"] == level


def test_only_lane_zones_have_lane_measures():
    measures = Measures(
        site(
            zones=[
                LANE,
                LANE | {"name": "box", "kind": "box"},
                LANE | {"name": "zebra", "kind": "crossing"},
            ]
        )
    )
    assert list(measures.figures()["lanes"]) == ["lane"]


# -- heat


def test_the_heat_map_adds_the_seconds_of_presence_in_each_cell():
    """64 x 48 cells of 5 x 5 pixels."""
    measures, car, walker = Measures(site()), road_user(1), road_user(2, PERSON)
    assert measures.heat.shape == (48, 64)
    for t, foot in (
        (10.0, (3, 4)),
        (10.5, (4.9, 4.9)),
        (11.5, (5, 4)),
        (11.75, (319.9, 239.9)),
        (12.0, (320, 100)),
        (12.25, (100, 240)),
        (12.5, (-6, 100)),
        (12.75, (100, -6)),
    ):
        measures.update(t, [observed_at(car, t, foot), observed_at(walker, t, (151, 203))])
    want = np.zeros((48, 64))
    want[0, 0], want[0, 1], want[47, 63], want[40, 30] = 0.5, 1.0, 0.25, 2.75
    assert np.array_equal(measures.heat, want)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((1920, 1080), (36, 64)),
        ((16, 16), (64, 64)),
        ((16384, 16), (1, 64)),
        ((100, 16), (10, 64)),
        ((64, 300), (300, 64)),
    ],
)
def test_the_cells_of_the_heat_map_are_about_square(size, shape):
    assert Measures(Site(size)).heat.shape == shape
