"""What a source knows of a lane, worked out by hand: positions, queues, detectors."""

from __future__ import annotations

import numpy as np
import pytest

from headway.street.external.rows import ObservationRow, ObservedVehicle
from headway.street.external.views import LaneView, Names, Signal, parts

GREEN = Signal(10.0)
RED = Signal()


def row(**more):
    return ObservationRow(junction="A", approach="in0", at_s=100.0, **more)


def view_of(*rows_at, limit_mps=13.9):
    """A lane's view after rows, each with the second in which it was measured."""
    view = LaneView(limit_mps)
    for at_s, measured in rows_at:
        (part,) = parts(measured, 1)
        view.take(part, at_s)
    return view


def listed(view, now_s, signal=RED):
    return [tuple(round(x, 6) for x in vehicle) for vehicle in view.vehicles(now_s, signal)]


def test_vehicles_are_where_they_were_said_to_be_and_move_on_by_their_speed():
    vehicles = [ObservedVehicle(60.0, 10.0), ObservedVehicle(1.0, 0.0), ObservedVehicle(30.0, 8.0)]
    view = view_of((100.0, row(vehicles=vehicles)))
    assert listed(view, 100.0) == [(1.0, 0.0, 0.0), (30.0, 8.0, 0.0), (60.0, 10.0, 0.0)]
    # two seconds later: the first has stood for 2 s; 30 - 16 = 14; 60 - 20 = 40
    assert listed(view, 102.0) == [(1.0, 0.0, 2.0), (14.0, 8.0, 0.0), (40.0, 10.0, 0.0)]
    # nobody drives past the place that the queue leaves to them: 1, 1 + 7.5, 1 + 15
    assert [d for d, _, _ in listed(view, 110.0)] == [1.0, 8.5, 16.0]


def test_who_stands_has_stood_since_the_row_in_which_they_first_did():
    standing = [ObservedVehicle(1.0), ObservedVehicle(9.0)]
    view = view_of(
        (100.0, row(vehicles=standing[:1])),
        (104.0, row(vehicles=standing)),
        (106.0, row(vehicles=standing)),
    )
    assert [wait for *_, wait in listed(view, 106.0)] == [6.0, 2.0]
    # the first has left: who stands in front now is the second
    view.take(parts(row(vehicles=standing[:1]), 1)[0], 107.0)
    assert [wait for *_, wait in listed(view, 107.0)] == [3.0]


@pytest.mark.parametrize(
    ("measured", "places"),
    [
        (row(queue=3), [1.0, 8.5, 16.0]),
        (row(queue=0), []),
        (row(queue_m=15.0), [1.0, 8.5]),  # 15 m of queue are two vehicles of 7.5 m
        (row(vehicles=[]), []),
    ],
)
def test_a_queue_stands_from_the_stop_line_on(measured, places):
    assert listed(view_of((100.0, measured)), 100.0) == [(d, 0.0, 0.0) for d in places]


def test_a_row_of_a_road_is_shared_out_to_its_lanes():
    assert [p.queue for p in parts(row(queue=5), 3)] == [2, 2, 1]
    assert [p.count for p in parts(row(count=4, detector_m=50.0), 3)] == [2, 1, 1]
    vehicles = [ObservedVehicle(20.0, lane=1), ObservedVehicle(5.0), ObservedVehicle(9.0)]
    assert [[v[0] for v in p.vehicles] for p in parts(row(vehicles=vehicles), 2)] == [
        [5.0], [9.0, 20.0],
    ]  # fmt: skip


def test_counted_vehicles_drive_to_the_stop_line_and_queue_there():
    """Two enter at 50 m in a second, at 99.25 and 99.75 s; at 10 m/s they have 42.5 and 47.5 m left
    at 100 s, and stand at 1 and 8.5 m from 104.15 and 103.9 s on."""
    view = view_of((100.0, row(count=2, detector_m=50.0)))
    assert listed(view, 100.0) == [(42.5, 10.0, 0.0), (47.5, 10.0, 0.0)]
    assert listed(view, 106.0) == [(1.0, 0.0, 1.85), (8.5, 0.0, 2.1)]
    # the detector at the stop line counts one away
    view.take(parts(row(count=1, occupancy=1.0), 1)[0], 107.0)
    assert [d for d, *_ in listed(view, 107.0)] == [1.0]
    assert view.arrived() == 2
    assert view.arrived() == 0


def test_without_a_detector_at_the_stop_line_green_lets_one_go_every_two_seconds():
    """Four are there; green begins at 110 s, its first 2 s are lost, then one leaves each 2 s."""
    view = view_of((100.0, row(count=4, detector_m=50.0)))
    left = {t: len(listed(view, t, Signal(t - 110.0))) for t in (110.0, 112.5, 113.9, 114.1, 118.5)}
    assert left == {110.0: 4, 112.5: 3, 113.9: 3, 114.1: 2, 118.5: 0}


def test_an_empty_stop_line_proves_that_nobody_waits_behind_it():
    """One is counted in at 100 s, and changes lanes: from 105 s on it should stand on the detector
    that reports nobody. After 4 s of that it is dropped."""
    empty = parts(row(count=0, occupancy=0.0), 1)[0]
    view = view_of((100.0, row(count=1, detector_m=50.0)))
    for second in (105, 106, 107, 108):
        view.take(empty, float(second))
        assert len(listed(view, float(second))) == 1
    view.take(empty, 109.0)
    assert listed(view, 109.0) == []


def test_an_occupied_stop_line_is_a_vehicle_that_nobody_counted():
    assert listed(view_of((100.0, row(occupancy=1.0))), 100.0) == [(1.0, 0.0, 0.1)]
    assert listed(view_of((100.0, row(occupancy=0.4))), 100.0) == []


def test_a_queue_that_stands_on_the_advance_detector_reaches_to_it():
    """One was counted, but the detector 50 m before the line is occupied all the time: there are
    (50 - 1) / 7.5 + 1 = 7 vehicles."""
    view = view_of((100.0, row(count=1, occupancy=1.0, detector_m=50.0)))
    assert len(listed(view, 110.0)) == 7


def test_an_occupancy_alone_is_a_density():
    """0.26 of the time occupied, by vehicles of 4.5 m over a detector of 2 m: 0.04 vehicles a
    metre, 2 in 50 m; on green they are on their way, on red they stand."""
    view = view_of((100.0, row(occupancy=0.26, detector_m=50.0)))
    assert listed(view, 100.0, GREEN) == [(12.5, 10.0, 0.0), (37.5, 10.0, 0.0)]
    assert listed(view, 100.0, RED) == [(1.0, 0.0, 0.0), (8.5, 0.0, 0.0)]


def test_a_row_that_comes_late_does_not_replace_a_newer_one():
    view = view_of((100.0, row(queue=3)), (99.0, row(queue=9)))
    assert len(listed(view, 100.0)) == 3
    assert view.at_s == 100.0


def test_arrivals_are_new_names_or_larger_numbers():
    named = [ObservedVehicle(30.0, 8.0, id="a"), ObservedVehicle(40.0, 8.0, id="b")]
    view = view_of((100.0, row(vehicles=named)))
    assert view.arrived() == 2
    third = ObservedVehicle(50.0, 8.0, id="c")
    view.take(parts(row(vehicles=[named[1], third]), 1)[0], 101.0)  # a has left, c has come
    assert view.arrived() == 1
    assert view_of((100.0, row(queue=2)), (101.0, row(queue=5))).arrived() == 5


@pytest.mark.parametrize(
    "name",
    [lambda k, s: f"{k}", lambda k, s: f"{k} {s}"],
    ids=["a quarter of them missed", "and each named anew every second"],
)
def test_a_tracker_that_loses_and_renames_standing_vehicles_counts_each_once(name):
    """Eight in a queue for ten minutes; 1,204 and 3,600 were counted."""
    view = LaneView(13.9)
    for second in range(600):
        there = [k for k in range(8) if (second + k) % 4]
        queue = [ObservedVehicle(1.0 + 7.5 * k, id=name(k, second)) for k in there]
        view.take(parts(row(vehicles=queue), 1)[0], float(second))
    assert view.arrived() == 8


def unnamed(*metres, mps=0.0):
    return row(vehicles=[ObservedVehicle(m, mps) for m in metres])


@pytest.mark.parametrize(
    ("seen", "lost"),
    [
        (row(queue=5), row(queue=0)), (row(queue=5), row(queue=4)),
        (row(queue_m=40.0), row(queue=0)),
        (unnamed(3.0, 10.0, 17.0), unnamed()), (unnamed(3.0, 10.0, 17.0), unnamed(10.0)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("gap", [1, 4])
def test_a_source_that_flickers_counts_each_of_its_unnamed_vehicles_once(seen, lost, gap):
    """A camera that sees the queue and does not see it in turn, for ten minutes: 1,500 were counted
    of five."""
    view = LaneView(13.9)
    there = len(view_of((0.0, seen)).vehicles(0.0, RED))
    for second in range(600):
        view.take(parts(lost if (second // gap) % 2 else seen, 1)[0], float(second))
    assert view.arrived() == there


def test_unnamed_vehicles_that_join_a_queue_are_each_a_new_one():
    """One every 3 s, at 100 m and 10 m/s, until it stands behind the one before."""
    view = LaneView(13.9)
    for second in range(30):
        there = []
        for k in range(second // 3 + 1):
            way_m = 100.0 - 10.0 * (second - 3 * k)
            place_m = 1.0 + 7.5 * k
            there.append(ObservedVehicle(max(way_m, place_m), 10.0 if way_m > place_m else 0.0))
        view.take(parts(row(vehicles=there), 1)[0], float(second))
    assert view.arrived() == 10


@pytest.mark.parametrize("period_s", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("headway_s", [1.8, 2.5, 6.0])
def test_unnamed_vehicles_that_drive_through_are_each_a_new_one(headway_s, period_s):
    """At 12 m/s through a view of 100 m, as many as leave it; of 96 in four minutes some ten were
    counted. Who was never in view at a row cannot be: each is, for 8.3 s.
    """
    view = LaneView(13.9)
    vehicles = int(240.0 / headway_s)
    for k in range(int(260.0 / period_s)):
        ways_m = [100.0 - 12.0 * (k * period_s - headway_s * v) for v in range(vehicles)]
        seen = unnamed(*(way_m for way_m in ways_m if 0.0 <= way_m <= 100.0), mps=12.0)
        view.take(parts(seen, 1)[0], k * period_s)
    assert view.arrived() == pytest.approx(vehicles, rel=0.05)


def test_an_unnamed_vehicle_that_brakes_before_the_stop_line_stays_one():
    """At 10 m with 12 m/s it should be gone after a second; it stands at 2 m after two."""
    view = LaneView(13.9)
    rows = [(22.0, 12.0), (10.0, 12.0), (3.0, 4.0), (2.0, 0.0), (2.0, 0.0)]
    for second, (metres, mps) in enumerate(rows):
        view.take(parts(unnamed(metres, mps=mps), 1)[0], float(second))
    assert view.arrived() == 1


def test_a_queue_that_grows_again_after_it_was_served_is_new():
    """Three are served and gone for longer than a camera loses its view for a moment."""
    rows = [(0.0, row(queue=3)), (10.0, row(queue=0)), (12.0, row(queue=2)), (13.0, row(queue=4))]
    assert view_of(*rows).arrived() == 3 + 4


def test_a_flood_of_unnamed_vehicles_is_not_kept():
    view = LaneView(13.9)
    for k in range(500):
        view.take(parts(unnamed(*(0.01 * k + 1.0 * v for v in range(200))), 1)[0], 0.001 * k)
    assert view.arrived() <= 201


@pytest.mark.parametrize(("metres", "mps"), [((12.0, 4.0), 8.0), ((1.0,), 4.0)])
def test_vehicles_that_pass_one_after_the_other_are_each_a_new_one(metres, mps):
    """The next one comes to where one was that has passed its stop line by then."""
    view = LaneView(13.9)
    for second in range(300):
        k, age = divmod(second, len(metres))
        seen = [ObservedVehicle(metres[age], mps, id=f"{k}")]
        view.take(parts(row(vehicles=seen), 1)[0], float(second))
    assert view.arrived() == 300 / len(metres)


def test_a_flood_of_names_is_not_kept():
    names = Names()
    counted = [
        names.count_new({f"{k} {v}": (1.0 * v, 0.0) for v in range(200)}, 100.0 + 0.001 * k)
        for k in range(500)
    ]
    assert sum(counted) == 200
    assert len(names) == 400, "those of the newest row, and as many more"


def test_no_number_of_counts_fills_the_memory():
    rows = [(100.0 + k, row(count=1000, detector_m=50.0)) for k in range(50)]
    view = view_of(*rows)
    assert len(view.vehicles(149.0, RED)) <= 200
    assert np.isfinite(view.vehicles(149.0, RED)).all()
