"""Every traffic rule with a violation and its nearest permitted cases, on tracks made by hand:
time, vehicle, confidence, evidence.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from tests.sensing.hand_made import GREY, Watch, observed_at, road_user, site, ten_px_a_metre

from headway.sensing import Site
from headway.vision.detection.detectors import BICYCLE, PERSON, TRUCK

RED, YELLOW, GREEN = 1, 2, 4
STOP = {"name": "stop", "px": [[160, 80], [160, 140]], "stop": True, "group": 0}
SPAN = [[100, 80], [220, 80], [220, 140], [100, 140]]


def steady(t):
    """8 m/s to the right: at x = 150 at 10.75 s and 170 at 11 s, so over the stop line (x = 160)
    at 10.875 s.
    """
    return 90.0 + 80.0 * (t - 10.0), 110.0


def drive(
    watch, place, until_s, car=None, begin_s=10.0, step_s=0.25, stood_from=None, others=(), **known
):
    """One road user shown every `step_s`, at place(t) pixels.
    stood_from: since when it stands, from that time on.
    """
    car = car or road_user(mean_mps=8.0, mean_se_mps=0.1, speed_mps=8.0)
    for k in range(round((until_s - begin_s) / step_s) + 1):
        t = begin_s + k * step_s
        stands = {
            "stopped_since_s": stood_from if stood_from is not None and t >= stood_from else np.nan
        }
        observed_at(car, t, place(t), **stands, **known)
        watch.show(t, car, *others)
    return car


def stops_at(x, at_s=11.0):
    """As `steady`, but from `at_s` on it stands at x."""
    return lambda t: steady(t) if t < at_s else (x, 110.0)


# -- red light and stop line


def test_a_red_light_violation_states_instant_signal_speed_and_path():
    watch = Watch(site(ten_px_a_metre(), lines=[STOP]), [(0.0, 0, GREEN), (9.875, 0, RED)])
    drive(watch, steady, 11.75)
    assert watch.found == []  # the frame of a second after is still to come
    drive(watch, steady, 12.0, car=watch.detector.pending[0].track, begin_s=12.0)
    (one,) = watch.found
    assert (one.rule, one.device, one.at_s) == ("red_light", "north", 10.875)
    # its front, 2 m ahead, was over the line at 10.625 s, after 0.75 s of red:
    # 0.7 + 0.2 x (0.75 - 0.5 of grace) / 2
    assert one.confidence == 0.725
    assert uuid.UUID(one.id).version == 4
    assert one.data == {
        "track": 1, "class": "car", "line": "stop", "signal_groups": [0],
        "front_over_line_s": 10.625, "red_for_s": 0.75,
        "speed_kmh": 28.8, "box": [150.0, 90.0, 190.0, 110.0],
        "path": [[10.0, 90.0, 110.0], [10.75, 150.0, 110.0]],
    }  # fmt: skip
    assert (watch.detector.reported, watch.detector.pending) == (1, [])
    assert watch.close() == []


@pytest.mark.parametrize(
    ("shown", "line", "kind", "rules"),
    [
        ([(9.0, 0, RED)], {}, None, ["red_light"]),
        ([(9.0, 0, GREEN)], {}, None, []),
        ([(9.0, 0, YELLOW)], {}, None, []),
        ([], {}, None, []),  # nobody knows the signal
        ([(9.0, 1, RED)], {}, None, []),  # that is another group
        ([(9.0, 0, RED), (10.8125, 0, GREEN)], {}, None, []),  # green just before it crosses
        ([(9.0, 0, RED), (10.9375, 0, GREEN)], {}, None, []),  # it drives on on green
        ([(9.0, 0, RED), (11.75, 0, GREEN)], {}, None, []),
        ([(9.0, 0, RED), (11.76, 0, GREEN)], {}, None, ["red_light"]),  # 6 m beyond on red
        (
            [(9.0, 0, GREEN), (10.125, 0, RED)],
            {},
            None,
            ["red_light"],
        ),  # red for half a second when its front crossed: the grace is over
        ([(9.0, 0, GREEN), (10.126, 0, RED)], {}, None, []),  # a little less
        ([(9.0, 0, RED)], {"stop": False}, None, []),
        ([(9.0, 0, RED)], {"group": None}, None, []),
        ([(9.0, 0, RED)], {"px": [[160, 140], [160, 80]]}, None, []),  # crossed the other way
        ([(9.0, 0, RED)], {"px": [[160, 111], [160, 140]]}, None, []),  # it passes beside the line
        ([(9.0, 0, RED)], {}, PERSON, []),
        ([(9.0, 0, RED)], {}, BICYCLE, ["red_light"]),
        ([(9.0, 0, RED), (9.0, 1, RED)], {"group": [0, 1]}, None, ["red_light"]),
        (
            [(9.0, 0, RED), (9.0, 1, GREEN)],
            {"group": [0, 1]},
            None,
            [],
        ),  # one of its groups is green
        ([(9.0, 0, RED)], {"group": [0, 1]}, None, []),  # of one of them nothing is known
    ],
)
def test_a_crossing_is_a_violation_only_when_the_signal_certainly_was_red(shown, line, kind, rules):
    watch = Watch(site(ten_px_a_metre(), lines=[STOP | line]), shown)
    car = road_user(kind=kind) if kind is not None else None
    drive(watch, steady, 12.5, car)
    assert watch.rules == rules


def test_of_several_groups_the_one_that_turned_red_last_counts_and_the_speed_may_be_unknown():
    for speed_mps, speed_kmh in ((np.nan, None), (8.1234, 29.24)):
        watch = Watch(
            site(ten_px_a_metre(), lines=[STOP | {"group": [3, 5]}]),
            [(8.875, 3, RED), (9.375, 5, RED)],
        )
        drive(watch, steady, 12.0, mean_mps=speed_mps)
        (one,) = watch.found
        assert (one.data["signal_groups"], one.data["red_for_s"], one.data["speed_kmh"]) == (
            [3, 5],
            1.25,
            speed_kmh,
        )
        assert one.confidence == 0.775  # 0.7 + 0.2 x 0.75 / 2


@pytest.mark.parametrize(("red_from_s", "observed", "confidence"), [
    (10.125, 20, 0.7), (8.125, 20, 0.9), (3.0, 20, 0.9), (9.875, 4, 0.5075), (9.875, 8, 0.6525),
    (9.875, 10, 0.725),
])  # fmt: skip
def test_longer_red_and_more_observations_raise_the_confidence(red_from_s, observed, confidence):
    """0.7 at the end of the grace, 0.9 two seconds later and for ever;
    times 0.5 + sights / 20, at most 1.
    """
    watch = Watch(site(ten_px_a_metre(), lines=[STOP]), [(0.0, 0, GREEN), (red_from_s, 0, RED)])
    drive(watch, steady, 12.0, road_user(observations=observed))
    assert watch.found[0].confidence == confidence


def test_a_queue_that_waits_on_the_line_and_starts_on_green_is_not_accused():
    """The middle of its box trembles over the line on red; 6 m beyond it gets on green alone."""
    for green_s, rules in ((13.0, []), (20.0, ["red_light"])):
        watch = Watch(site(ten_px_a_metre(), lines=[STOP]), [(9.0, 0, RED), (green_s, 0, GREEN)])
        car = drive(watch, stops_at(162.0, 11.0), 12.75)
        drive(watch, lambda t: (162.0 + 80.0 * (t - 13.0), 110.0), 16.0, car, begin_s=13.0)
        watch.close()
        assert watch.rules == rules


def test_a_stop_on_the_line_on_red_that_ends_on_green_is_decided_on_red_alone():
    for green_s, rules in ((12.5, []), (13.5, ["stop_line"])):
        watch = Watch(site(ten_px_a_metre(), lines=[STOP]), [(9.0, 0, RED), (green_s, 0, GREEN)])
        drive(watch, stops_at(190.0, 11.25), 20.0, stood_from=11.25)
        assert watch.rules == rules, green_s


@pytest.mark.parametrize(
    ("length_px", "rules"), [(40.0, ["red_light"]), (60.0, ["red_light"]), (62.0, []), (160.0, [])]
)
def test_the_front_of_a_long_vehicle_must_cross_on_red(length_px, rules):
    """Its middle crosses at 10.875 s, a second and a half of red; at 80 px/s the front of 60 px is
    there 0.375 s before, at 10.5 s: 0.5 s after red began.
    """
    watch = Watch(site(ten_px_a_metre(), lines=[STOP]), [(0.0, 0, GREEN), (10.0, 0, RED)])
    drive(watch, steady, 12.5, size=(length_px, 20.0), step_s=0.125)
    assert watch.rules == rules


def test_a_vehicle_first_observed_on_the_line_is_not_accused():
    watch = Watch(site(ten_px_a_metre(), lines=[STOP]), [(0.0, 0, RED)])
    drive(watch, steady, 12.5, begin_s=10.75)  # its front is a metre beyond by then
    assert watch.found == []


def test_a_tall_van_whose_box_reaches_over_the_line_stands_before_it():
    """Where the camera's place is known its middle is projected; it crosses, its lower edge not."""
    watch = Watch(
        site(ten_px_a_metre(), lines=[STOP | {"px": [[100, 110], [220, 110]]}]), [(0.0, 0, RED)]
    )
    van = road_user(mean_mps=8.0)
    for k in range(40):
        t, y = 10.0 + k / 4.0, max(170.0 - 20.0 * k, 125.0)
        observed_at(
            van, t, (160.0, y), size=(40.0, 80.0), stopped_since_s=11.0 if k > 4 else np.nan
        )
        van.ground_px[-1] = (160.0, y - 20.0)  # 2 m farther than it is
        watch.show(t, van)
    assert watch.measures.crossings[0].direction == "in"
    assert watch.found == []


def test_a_late_report_of_green_acquits():
    watch = Watch(site(ten_px_a_metre(), lines=[STOP]), [(9.0, 0, RED)])
    car = drive(watch, steady, 11.75)
    assert [p.decision for p in watch.detector.pending] == ["red_light"]
    watch.signals.record(10.5, 0, GREEN)
    drive(watch, steady, 14.0, car, begin_s=12.0)
    assert (watch.found, watch.detector.pending, watch.detector.reported) == ([], [], 0)


def test_the_grace_period_is_set_by_the_site():
    strict = Watch(
        site(ten_px_a_metre(), lines=[STOP], rules={"grace_s": 0.0}),
        [(0.0, 0, GREEN), (10.5, 0, RED)],
    )
    drive(strict, steady, 12.0)
    assert strict.rules == ["red_light"]
    assert strict.found[0].confidence == 0.7125  # 0.7 + 0.2 x 0.125 / 2
    mild = Watch(
        site(ten_px_a_metre(), lines=[STOP], rules={"grace_s": 2.0}),
        [(0.0, 0, GREEN), (9.0, 0, RED)],
    )
    drive(mild, steady, 12.0)
    assert mild.rules == []


@pytest.mark.parametrize(
    ("x", "rules"), [(230.0, ["red_light"]), (229.5, []), (180.0, []), (150.0, [])]
)
def test_six_metres_beyond_the_line_is_a_red_light_violation(x, rules):
    """The first frame beyond the line has it at x = 170; it rolls, and never counts as standing."""
    watch = Watch(site(ten_px_a_metre(), lines=[STOP]), [(0.0, 0, RED)])
    drive(watch, stops_at(x, 11.25), 20.0)
    assert watch.rules == rules


@pytest.mark.parametrize(("x", "stood_from", "rules"), [
    (180.0, 11.25, ["stop_line"]),  # one metre beyond
    (179.5, 11.25, []),
    (160.0, 11.25, []),  # a metre back: it is no longer beyond the line
    (229.0, 11.25, ["stop_line"]),
    (230.0, 11.25, ["red_light"]),  # six metres: it has passed
])  # fmt: skip
def test_a_stop_beyond_the_line_is_a_stop_line_violation(x, stood_from, rules):
    watch = Watch(site(ten_px_a_metre(), lines=[STOP]), [(0.0, 0, RED)])
    drive(watch, stops_at(x, 11.25), 20.0, stood_from=stood_from)
    assert watch.rules == rules
    assert all((v.at_s, v.data["line"]) == (10.875, "stop") for v in watch.found)


def test_one_and_a_half_seconds_of_standstill_count_as_stopped():
    watch = Watch(site(ten_px_a_metre(), lines=[STOP]), [(0.0, 0, RED)])
    car = drive(watch, stops_at(190.0, 11.25), 12.5, stood_from=11.25)
    assert watch.found == []
    drive(watch, stops_at(190.0, 11.25), 12.75, car, begin_s=12.75, stood_from=11.25)
    assert watch.rules == ["stop_line"]


def test_a_vehicle_that_passed_and_returns_has_passed():
    watch = Watch(site(ten_px_a_metre(), lines=[STOP]), [(0.0, 0, RED)])
    drive(
        watch, lambda t: (steady(t)[0] if t <= 11.0 else 240.0 if t < 11.6 else 200.0, 110.0), 13.0
    )
    assert watch.rules == ["red_light"]


def test_the_distance_beyond_the_line_is_set_by_the_site():
    for least_m, rules in ((2.5, ["stop_line"]), (2.6, [])):
        watch = Watch(
            site(ten_px_a_metre(), lines=[STOP], rules={"stop_m": least_m}), [(0.0, 0, RED)]
        )
        drive(watch, stops_at(195.0, 11.25), 20.0, stood_from=11.25)
        assert watch.rules == rules


@pytest.mark.parametrize(
    ("passes_at", "rules"), [(16.75, ["red_light"]), (16.875, ["red_light"]), (17.0, [])]
)
def test_it_is_decided_within_six_seconds_of_the_crossing(passes_at, rules):
    """Crossed at 10.875 s; it creeps at x = 175 and goes on at once at `passes_at`."""
    watch = Watch(site(ten_px_a_metre(), lines=[STOP]), [(0.0, 0, RED)])
    car = drive(watch, steady, 11.0)
    for t in (12.0, 13.0, 14.0, 15.0, 16.0, 16.5, 16.75, 16.875, 17.0, 18.0):
        watch.show(t, observed_at(car, t, (175.0 if t < passes_at else 240.0, 110.0)))
    assert watch.rules == rules


def test_a_track_lost_at_the_line_is_no_violation():
    watch = Watch(site(ten_px_a_metre(), lines=[STOP]), [(0.0, 0, RED)])
    drive(watch, steady, 11.0)
    watch.show(16.5)
    assert len(watch.detector.pending) == 1
    watch.show(16.875)
    assert watch.detector.pending == []
    assert watch.close() == []


def test_at_the_end_of_the_stream_decided_violations_are_reported_and_undecided_ones_dropped():
    for until_s, rules in ((11.75, ["red_light"]), (11.5, [])):
        watch = Watch(site(ten_px_a_metre(), lines=[STOP]), [(0.0, 0, RED)])
        drive(watch, steady, until_s)
        assert watch.found == []
        watch.close()
        assert (watch.rules, watch.detector.reported) == (rules, len(rules))


@pytest.mark.parametrize(
    ("height", "way", "rules"),
    [
        (20.0, 40.0, ["red_light"]),
        (20.0, 39.5, []),
        (60.0, 120.0, ["red_light"]),
        (60.0, 119.5, []),
        (1.5, 3.0, ["red_light"]),
        (0.5, 1.0, []),
    ],
)
def test_without_calibration_the_height_of_a_box_counts_as_three_metres(height, way, rules):
    """6 m are twice the height of its box; boxes lower than a pixel count as one pixel high."""
    watch = Watch(site(lines=[STOP]), [(0.0, 0, RED)])
    drive(watch, stops_at(170.0 + way, 11.25), 20.0, size=(40.0, height))
    assert watch.rules == rules


def test_without_calibration_the_path_is_measured_in_pixels():
    watch = Watch(site(lines=[STOP]), [(0.0, 0, RED)])
    drive(
        watch, stops_at(190.0, 11.25), 20.0, road=(0.0, 0.0), stood_from=11.25
    )  # 20 px / 20 px x 3 = 3 m
    assert watch.rules == ["stop_line"]


def test_each_rule_is_reported_once_of_a_road_user():
    lines = [STOP, STOP | {"name": "second", "px": [[200, 80], [200, 140]]}]
    watch = Watch(site(ten_px_a_metre(), lines=lines), [(0.0, 0, RED)])
    drive(watch, steady, 13.0)
    assert [(v.rule, v.data["line"]) for v in watch.found] == [("red_light", "stop")]


# -- turns

TURN_LINES = [
    {"name": "from", "px": [[120, 80], [120, 140]]},
    {"name": "to", "px": [[200, 80], [200, 140]]},
]


@pytest.mark.parametrize(
    ("turns", "place", "kind", "rules"),
    [
        ([("from", "to")], steady, None, ["illegal_turn"]),
        (
            [("to", "from")],
            steady,
            None,
            [],
        ),  # the same way backwards is forbidden, this one is not
        ([], steady, None, []),
        (
            [("from", "to")],
            lambda t: (steady(t)[0], 110.0 if t > 10.5 else 60.0),
            None,
            [],
        ),  # it did not come over the first line
        (
            [("from", "to")],
            lambda t: (steady(t)[0], 110.0 if t < 11.0 else 60.0),
            None,
            [],
        ),  # it does not go over the second
        ([("from", "to")], steady, PERSON, []),
        ([("from", "to")], steady, BICYCLE, ["illegal_turn"]),
    ],
)
def test_a_forbidden_turn_is_from_one_line_to_the_other(turns, place, kind, rules):
    of = site(lines=TURN_LINES, forbidden_turns=[{"from_line": a, "to_line": b} for a, b in turns])
    watch = Watch(of)
    drive(watch, place, 14.0, road_user(kind=kind) if kind is not None else None)
    assert watch.rules == rules
    for one in watch.found:
        assert one.at_s == 11.375  # x = 200
        assert one.confidence == 0.9
        assert (one.data["from"], one.data["to"]) == ("from", "to")


# -- speeding


def least_guilty(limit_kmh, standard_error, relative):
    """The speed at which mean - 3 x sqrt(error^2 + (relative x mean)^2) is what is allowed:
    the root of a quadratic equation, m/s.
    """
    a = max(limit_kmh + 3.0, limit_kmh * 1.03) / 3.6
    return (a + math.sqrt(a * a - (1 - 9 * relative**2) * (a * a - 9 * standard_error**2))) / (
        1 - 9 * relative**2
    )


def speeding(of, mean_mps, error_mps=0.2, way_px=15.0, seconds=2.0, kind=None, y=110.0):
    """A road user of that mean speed; its last second was `way_px` / 10 metres long by its
    places.
    """
    watch = Watch(of)
    user = road_user(
        **({} if kind is None else {"kind": kind}),
        mean_mps=mean_mps,
        mean_se_mps=error_mps,
        speed_mps=mean_mps,
    )
    drive(watch, lambda t: (20.0 + way_px * (t - 10.0), y), 10.0 + seconds, user)
    watch.close()
    return watch.found


@pytest.mark.parametrize("limit_kmh", [30.0, 100.0, 120.0])
@pytest.mark.parametrize(
    ("error_m", "way_px"), [(0.0, 150.0), (0.3, 150.0), (0.3, 15.0), (0.05, 5.0)]
)
def test_a_speed_counts_above_limit_margin_and_three_errors(limit_kmh, error_m, way_px):
    """The error: of the fit, 1 % of the speed,
    and that of the calibration over the way of the last second (at least a metre).
    """
    of = site(ten_px_a_metre(error_m), rules={"limit_kmh": limit_kmh})
    edge = least_guilty(limit_kmh, 0.2, math.hypot(error_m / max(way_px / 10.0, 1.0), 0.01))
    assert speeding(of, edge * 0.9999, way_px=way_px) == []
    # in the beginning there is no way of a second yet: the error is larger then, and it is told
    # once the second is full
    (one,) = speeding(of, edge * 1.0001, way_px=way_px, seconds=3.0)
    assert one.rule == "speeding"
    assert one.at_s == (10.5 if way_px == 5.0 or error_m == 0.0 else 11.5)


def test_speeding_states_its_figures_and_confidence():
    of = site(ten_px_a_metre(0.3), rules={"limit_kmh": 50.0})
    (one,) = speeding(of, 18.0, error_mps=0.1, way_px=150.0, seconds=3.0)
    error = math.sqrt(0.1**2 + (18.0 * 0.02) ** 2 + (18.0 * 0.01) ** 2)  # 0.3 m in 15 m are 2 %
    assert {k: one.data[k]
        for k in ("speed_kmh", "standard_error_kmh", "limit_kmh", "allowed_kmh")} == {
        "speed_kmh": pytest.approx(64.8), "standard_error_kmh": pytest.approx(3.6 * error),
        "limit_kmh": 50.0, "allowed_kmh": pytest.approx(53.0),
    }  # fmt: skip
    assert (one.data["track"], one.data["class"]) == (1, "car")
    assert NormalDist().cdf((18.0 - 53.0 / 3.6) / error) > 0.999
    assert one.confidence == 0.9


def test_the_standard_error_of_a_speed_counts_as_at_least_a_twentieth_of_a_metre_a_second():
    of = site(ten_px_a_metre(), rules={"limit_kmh": 1.0, "margin_kmh": 0.08})
    # allowed: 1.08 km/h = 0.3 m/s. 0.35 m/s: an error of 0.0035 (1 %), three of which are 0.0105,
    # but counted as 0.05 when it comes to how sure
    (one,) = speeding(of, 0.35, error_mps=0.0)
    assert one.confidence == round(NormalDist().cdf(0.05 / 0.05), 4) == 0.8413


@pytest.mark.parametrize(("rules", "allowed"), [
    ({"limit_kmh": 50.0}, 53.0), ({"limit_kmh": 100.0}, 103.0), ({"limit_kmh": 120.0}, 123.6),
    ({"limit_kmh": 50.0, "margin_kmh": 7.0}, 57.0),
    ({"limit_kmh": 50.0, "margin_share": 0.1}, 55.0),
    ({"limit_kmh": 50.0, "margin_kmh": 0.0, "margin_share": 0.0}, 50.0),
])  # fmt: skip
def test_the_margin_is_the_larger_of_share_and_speed(rules, allowed):
    (one,) = speeding(site(ten_px_a_metre(), rules=rules), 60.0)
    assert one.data["allowed_kmh"] == pytest.approx(allowed)


def test_speeding_must_last_four_tenths_of_a_second_without_a_break():
    of = site(ten_px_a_metre(), rules={"limit_kmh": 50.0})
    for speeds, told_at in (
        ([20.0, 20.0, 20.0, 20.0], 10.5),  # 0.375 s are too short
        ([20.0, 20.0, 20.0, 10.0, 20.0, 20.0, 20.0, 20.0], 11.0),
        ([20.0, 20.0, 20.0, np.nan, 20.0, 20.0, 20.0, 20.0], 11.0),
        ([20.0, 20.0, 20.0, 10.0, 20.0, 20.0, 20.0, 10.0], None),
    ):
        watch, car = Watch(of), road_user(mean_se_mps=0.1)
        for k in range(12):
            speed = speeds[k] if k < len(speeds) else 20.0 if told_at is not None else 10.0
            watch.show(
                10.0 + 0.125 * k,
                observed_at(car, 10.0 + 0.125 * k, (20.0 + 25.0 * k, 110.0), mean_mps=speed),
            )
        watch.close()
        assert [v.at_s for v in watch.found] == ([] if told_at is None else [told_at])


def test_speeding_for_exactly_four_tenths_of_a_second_is_enough():
    watch = Watch(site(ten_px_a_metre(), rules={"limit_kmh": 50.0}))
    car = road_user(mean_mps=20.0, mean_se_mps=0.1)
    for t in (0.0, 0.2, 0.4):
        watch.show(t, observed_at(car, t, (20.0 + 200.0 * t, 110.0)))
    watch.close()
    assert [v.at_s for v in watch.found] == [0.4]


def zone(kind, name="zone", px=SPAN, **more):
    return {"name": name, "kind": kind, "px": px} | more


def test_the_limit_of_a_zone_counts_in_it_and_of_two_the_higher():
    slow = zone("lane", "slow", limit_kmh=30.0)
    fast = zone("lane", "fast", [[150, 80], [300, 80], [300, 140], [150, 140]], limit_kmh=70.0)
    of = site(
        ten_px_a_metre(), zones=[slow, fast, zone("lane", "plain")], rules={"limit_kmh": 50.0}
    )
    for x, limit in ((60.0, 50.0), (120.0, 30.0), (180.0, 70.0), (250.0, 70.0)):
        watch, car = Watch(of), road_user(mean_mps=40.0, mean_se_mps=0.1)
        for k in range(6):
            watch.show(10.0 + 0.25 * k, observed_at(car, 10.0 + 0.25 * k, (x + k, 110.0)))
        watch.close()
        assert [v.data["limit_kmh"] for v in watch.found] == [limit]


def test_no_speeding_without_a_limit_a_calibration_an_error_or_a_vehicle():
    limited = site(ten_px_a_metre(), rules={"limit_kmh": 30.0})
    assert [v.rule for v in speeding(limited, 30.0)] == ["speeding"]
    assert speeding(site(ten_px_a_metre()), 30.0) == []
    assert speeding(site(rules={"limit_kmh": 30.0}), 30.0) == []
    assert speeding(limited, 30.0, error_mps=np.nan) == []
    assert speeding(limited, 30.0, error_mps=np.inf) == []
    assert speeding(limited, np.nan) == []
    assert speeding(limited, 30.0, kind=PERSON) == []
    assert [v.rule for v in speeding(limited, 30.0, kind=TRUCK)] == ["speeding"]


def test_a_lost_track_restarts_its_timers_and_one_not_detected_in_this_frame_is_not_assessed():
    watch = Watch(site(ten_px_a_metre(), rules={"limit_kmh": 50.0}))
    car = road_user(mean_mps=30.0, mean_se_mps=0.1)
    watch.show(10.0, observed_at(car, 10.0, (20.0, 110.0)))
    watch.show(10.25, car)  # guessed at
    watch.show(10.5, car)
    watch.close()
    assert watch.rules == []
    watch.show(10.75)  # gone
    watch.show(11.0, observed_at(car, 11.0, (50.0, 110.0)))
    watch.show(11.25, observed_at(car, 11.25, (80.0, 110.0)))
    watch.close()
    assert watch.rules == []
    watch.show(11.5, observed_at(car, 11.5, (110.0, 110.0)))
    assert [v.at_s for v in watch.close()] == [11.5]


# -- the wrong way

AGAINST = zone(
    "lane", heading=[[220, 110], [100, 110]]
)  # to the left; `steady` drives to the right


@pytest.mark.parametrize(
    ("lane", "known", "rules"),
    [
        (AGAINST, {}, ["wrong_way"]),
        (zone("lane", heading=[[100, 110], [220, 110]]), {}, []),  # its own direction
        (zone("lane", heading=[[160, 80], [160, 140]]), {}, []),  # across
        (zone("lane"), {}, []),  # no direction is given
        (AGAINST | {"kind": "box"}, {}, []),
        (
            AGAINST | {"px": [[100, 112], [220, 112], [220, 140], [100, 140]]},
            {},
            [],
        ),  # beside the lane
        (AGAINST, {"speed_mps": 2.0}, ["wrong_way"]),
        (AGAINST, {"speed_mps": 1.99}, []),  # so slow is who parks
        (
            AGAINST,
            {"speed_mps": np.nan},
            ["wrong_way"],
        ),  # moves by its pixels; without a calibration no speed is known
    ],
)
def test_the_wrong_way_is_against_the_heading_of_the_lane(lane, known, rules):
    watch = Watch(site(zones=[lane]))
    # in the zone from 10.125 s (first seen there at 10.25 s) to 11.625 s; from 10.25 s on it has
    # moved at least 20 px
    drive(watch, steady, 14.0, **known)
    assert watch.rules == rules
    for one in watch.found:
        assert (one.at_s, one.confidence, one.data["zone"]) == (
            11.25,
            0.9,
            "zone",
        )  # a second of it


@pytest.mark.parametrize("kind", [PERSON, BICYCLE])
def test_people_may_walk_either_way_and_bicycles_may_not(kind):
    watch = Watch(site(zones=[AGAINST]))
    drive(watch, steady, 14.0, road_user(kind=kind))
    assert watch.rules == ([] if kind == PERSON else ["wrong_way"])


def run_of(places, of, step_s=0.25, size=(40.0, 20.0)):
    """Rules told of one that is at these places one after another."""
    watch, car = Watch(of), road_user()
    for k, place in enumerate(places):
        watch.show(10.0 + step_s * k, observed_at(car, 10.0 + step_s * k, place, size=size))
    watch.close()
    return [(v.rule, v.at_s) for v in watch.found]


def test_wrong_way_needs_a_movement_of_more_than_half_its_height_in_eight_tenths_of_a_second():
    """Its box is 20 px high. The newest point at least 0.8 s ago is that of a second ago,
    four frames back.
    """
    assert (
        run_of([(110.0 + 2.5 * k, 110.0) for k in range(16)], site(zones=[AGAINST])) == []
    )  # 10 px a second
    # 10.4 px a second: from the fourth frame on, and then for a second
    assert run_of([(110.0 + 2.6 * k, 110.0) for k in range(16)], site(zones=[AGAINST])) == [
        ("wrong_way", 12.0)
    ]


def test_wrong_way_is_within_about_45_degrees_of_the_opposite_direction():
    """The cosine of 134.4 degrees is -0.7. (-7, sqrt 51) is 10 long:
    exactly at the edge, and innocent.
    """
    edge = (7.0, math.sqrt(51.0))
    assert math.hypot(*edge) == 10.0
    lane = zone(
        "lane", px=[[0, 0], [319, 0], [319, 239], [0, 239]], heading=[[101, 110], [100, 110]]
    )

    def along(dx, dy):  # a step every second, of which each is looked at alone
        return run_of(
            [(50.0 + dx * k, 50.0 + dy * k) for k in range(6)],
            site(zones=[lane]),
            1.0,
            size=(40.0, 10.0),
        )

    assert along(*edge) == []
    assert along(edge[0] + 0.01, edge[1]) == [("wrong_way", 12.0)]
    assert along(edge[0], edge[1] + 0.01) == []
    assert along(0.0, 10.0) == []
    longer = zone(
        "lane", px=lane["px"], heading=[[200, 110], [100, 110]]
    )  # the length of the arrow means nothing
    assert run_of(
        [(50.0 + 7.2 * k, 50.0 + edge[1] * k) for k in range(6)], site(zones=[longer]), 1.0
    ) == [("wrong_way", 12.0)]
    assert (
        run_of([(50.0 + 6.8 * k, 50.0 + edge[1] * k) for k in range(6)], site(zones=[longer]), 1.0)
        == []
    )


def test_the_wrong_way_must_last_a_second_without_a_break_in_the_lane():
    x = [110.0, 130.0, 150.0, 170.0, 190.0, 210.0]
    assert run_of([(a, 110.0) for a in x], site(zones=[AGAINST])) == [("wrong_way", 11.25)]
    assert run_of([(a, 110.0) for a in x[:5]], site(zones=[AGAINST])) == []  # 0.75 s
    away = [(a, 110.0 if k != 3 else 60.0) for k, a in enumerate(x)]  # out of the lane for a frame
    assert run_of(away, site(zones=[AGAINST])) == []


def test_wrong_way_names_only_the_lane_that_it_was_against():
    other = zone("lane", "right", heading=[[100, 110], [220, 110]])
    watch = Watch(site(zones=[other, AGAINST]))
    drive(watch, steady, 14.0)
    assert [(v.rule, v.data["zone"]) for v in watch.found] == [("wrong_way", "zone")]


# -- standing in a box, forbidden zones


@pytest.mark.parametrize(
    ("place", "kind", "rules", "reports"),
    [
        ((160.0, 110.0), "box", {}, [16.0]),  # stands from 11 s on
        ((160.0, 110.0), "box", {"blocked_s": 2.0}, [13.0]),
        ((160.0, 110.0), "box", {"blocked_s": 2.01}, [13.25]),
        ((160.0, 110.0), "box", {"blocked_s": 9.01}, []),
        ((160.0, 60.0), "box", {}, []),  # above it
        ((160.0, 110.0), "lane", {}, []),
        ((160.0, 110.0), "crossing", {}, []),
    ],
)
def test_a_vehicle_stopped_in_a_box_too_long_blocks_it(place, kind, rules, reports):
    watch = Watch(site(zones=[zone(kind)], rules=rules))
    drive(watch, lambda t: place, 20.0, stood_from=11.0)
    watch.close()
    assert [(v.rule, v.at_s) for v in watch.found] == [("blocked_box", at_s) for at_s in reports]
    for one in watch.found:
        assert (one.confidence, one.data["zone"], one.data["stopped_s"]) == (
            0.9,
            "zone",
            reports[0] - 11.0,
        )
        assert one.data["standing_s"] == one.data["stopped_s"]  # its old name


def test_a_vehicle_that_drives_through_a_box_does_not_block_it():
    watch = Watch(site(zones=[zone("box")]))
    drive(watch, steady, 14.0)
    assert watch.rules == []


def test_a_forbidden_zone_is_entered_when_it_lasts_more_than_half_a_second():
    of = site(zones=[zone("forbidden")])
    inside, outside = (160.0, 110.0), (160.0, 60.0)
    assert run_of([inside] * 4, of) == [("forbidden_zone", 10.75)]
    assert run_of([inside] * 3, of) == []  # half a second
    assert run_of([outside] * 9, of) == []
    assert (
        run_of([inside, inside, inside, outside, inside, inside, inside], of) == []
    )  # it has been out of it in between
    assert run_of([inside] * 4, site(zones=[zone("lane"), zone("box", "other")])) == []
    watch = Watch(of)
    drive(watch, lambda t: inside, 14.0, road_user(kind=PERSON))
    assert watch.rules == []
    drive(watch, lambda t: inside, 14.0, road_user(7, kind=TRUCK, observations=0))
    (one,) = watch.found
    assert (one.confidence, one.data["zone"], one.data["track"], one.data["class"]) == (
        0.425,
        "zone",
        7,
        "truck",
    )


# -- people who cross


@pytest.mark.parametrize(
    ("person_at", "car_at", "speed", "error", "rules"),
    [
        ((180.0, 100.0), (120.0, 110.0), 3.0, 0.0, ["pedestrian_crossing"]),
        ((180.0, 60.0), (120.0, 110.0), 3.0, 0.0, []),  # nobody on the crossing
        ((180.0, 100.0), (60.0, 110.0), 3.0, 0.0, []),  # the vehicle is not on it
        ((180.0, 100.0), (120.0, 110.0), 1.5, 0.0, []),  # it rolls at a walking pace
        ((180.0, 100.0), (120.0, 110.0), 1.51, 0.0, ["pedestrian_crossing"]),
        ((180.0, 100.0), (120.0, 110.0), 1.8, 0.1, []),  # 1.8 - 3 x 0.1
        ((180.0, 100.0), (120.0, 110.0), 1.81, 0.1, ["pedestrian_crossing"]),
        ((180.0, 100.0), (120.0, 110.0), np.nan, 0.0, []),
    ],
)
def test_driving_over_a_crossing_in_use_is_a_violation(person_at, car_at, speed, error, rules):
    watch = Watch(site(zones=[zone("crossing")]))
    person = road_user(5, PERSON)
    car = road_user(2, mean_mps=speed, mean_se_mps=error)
    for k in range(5):
        t = 10.0 + 0.25 * k
        watch.show(t, observed_at(person, t, person_at), observed_at(car, t, car_at))
    watch.close()
    assert watch.rules == rules
    for one in watch.found:
        assert (
            one.at_s,
            one.confidence,
            one.data["zone"],
            one.data["pedestrians"],
            one.data["track"],
        ) == (10.5, 0.85, "zone", [5], 2)


def test_driving_over_a_crossing_in_use_must_last_three_tenths_of_a_second_at_each_crossing():
    near = zone("crossing", "near")
    far = zone("crossing", "far", [[230, 80], [300, 80], [300, 140], [230, 140]])
    for times, reports in (((0.0, 0.3, 0.31), [0.31]), ((0.0, 0.3), [])):
        watch = Watch(site(zones=[near]))
        walker = road_user(5, PERSON)
        car = road_user(2, mean_mps=5.0, mean_se_mps=0.0)
        for t in times:
            watch.show(
                t, observed_at(walker, t, (180.0, 100.0)), observed_at(car, t, (120.0, 110.0))
            )
        watch.close()
        assert [v.at_s for v in watch.found] == reports
    watch = Watch(site(zones=[near, far]))
    walker = road_user(5, PERSON)
    car = road_user(2, mean_mps=5.0, mean_se_mps=0.0)
    for t in (0.0, 0.5, 1.0):
        watch.show(t, observed_at(walker, t, (250.0, 100.0)), observed_at(car, t, (120.0, 110.0)))
    watch.close()
    assert watch.rules == []


def test_a_vehicle_that_yields_and_drives_on_restarts_the_timer():
    watch = Watch(site(zones=[zone("crossing")]))
    walker = road_user(5, PERSON)
    car = road_user(2, mean_se_mps=0.0)
    for t, speed in ((0.0, 5.0), (0.25, 5.0), (0.5, 1.0), (0.75, 5.0), (1.0, 5.0)):
        watch.show(
            t,
            observed_at(walker, t, (180.0, 100.0)),
            observed_at(car, t, (120.0, 110.0), mean_mps=speed),
        )
    watch.close()
    assert watch.rules == []


def test_all_pedestrians_on_the_crossing_are_listed():
    watch, car = Watch(site(zones=[zone("crossing")])), road_user(2, mean_mps=5.0, mean_se_mps=0.0)
    walkers = [road_user(n, PERSON) for n in (8, 9, 11)]
    for t in (0.0, 0.5):
        there = [
            observed_at(w, t, (180.0, y))
            for w, y in zip(walkers, (100.0, 30.0, 120.0), strict=True)
        ]
        watch.show(t, *there, observed_at(car, t, (120.0, 110.0)))
    (one,) = watch.close()
    assert one.data["pedestrians"] == [8, 11]


# -- what is told of any of them


def test_the_path_is_every_third_point_of_the_last_three_seconds():
    watch, car = Watch(site(zones=[zone("box")], rules={"blocked_s": 1.0})), road_user()
    for k in range(41):
        t = 10.00041 + k / 8.0
        observed_at(car, t, (100.126 + k, 110.124), stopped_since_s=14.0)
        watch.show(t, car)
    watch.close()
    (one,) = watch.found
    assert one.at_s == 15.00041
    # from 12 s on: points 16, 19, ..., 40
    assert one.data["path"] == [
        [10.0 + k / 8.0, round(100.126 + k, 2), 110.12] for k in range(16, 41, 3)
    ]
    assert one.data["box"] == [120.1, 90.1, 160.1, 110.1]


def test_violations_are_reported_a_second_later_in_order_of_time():
    watch = Watch(site(zones=[zone("box")], rules={"blocked_s": 1.0}))
    first, second = road_user(1), road_user(2)
    came = []
    for k in range(17):
        t = 10.0 + k / 4.0
        observed_at(first, t, (150.0, 110.0), stopped_since_s=9.5)
        observed_at(second, t, (200.0, 110.0), stopped_since_s=9.75)
        came += [(t, v.data["track"], v.at_s) for v in watch.show(t, first, second)]
    assert came == [(11.5, 1, 10.5), (11.75, 2, 10.75)]
    assert watch.detector.reported == 2


def test_an_undecided_violation_does_not_delay_the_others():
    of = site(ten_px_a_metre(), lines=[STOP], zones=[zone("box")], rules={"blocked_s": 1.0})
    watch = Watch(of, [(0.0, 0, RED)])
    drive(watch, stops_at(172.0, 11.25), 13.0)
    assert len(watch.detector.pending) == 1
    stands = road_user(2)
    for k in range(8):
        observed_at(stands, 13.0 + k / 4.0, (150.0, 110.0), stopped_since_s=11.0)
        watch.show(13.0 + k / 4.0, stands)
    assert [(v.rule, v.at_s) for v in watch.found] == [("blocked_box", 13.0)]


def test_the_lamps_in_the_image_are_read():
    """Red is believed after three frames and holds from the first of them: 10 s;
    the crossing is at 10.875 s.
    """
    red, dark = GREY.copy(), GREY.copy()
    red[10:20, 10:20], dark[10:20, 10:20] = (0, 0, 255), (0, 0, 40)
    of = site(
        ten_px_a_metre(),
        lines=[STOP],
        lamps=[{"group": 0, "px": [10, 10, 10, 10]}, {"group": 1, "px": [30, 10, 10, 10]}],
    )
    watch, car = Watch(of), road_user()
    for k in range(12):
        t = 10.0 + k / 4.0
        watch.show(
            t, observed_at(car, t, steady(t)), image=dark if k == 1 else red
        )  # between two looks it blinks: what is dark says nothing
    assert watch.rules == ["red_light"]
    assert watch.found[0].data["red_for_s"] == 0.625  # of the front, at 10.625 s
    assert watch.signals.state_at(0, 12.0) == (RED, 2.0)
    assert watch.signals.state_at(1, 12.0) is None


def test_sites_and_violations_are_values():
    watch = Watch(site(ten_px_a_metre(), lines=[STOP]), [(0.0, 0, RED)])
    drive(watch, steady, 12.0)
    one = watch.found[0]
    assert replace(one) == one != replace(one, rule="speeding")
    with pytest.raises(AttributeError):
        one.rule = "speeding"
    assert Site((16, 16)) == Site((16, 16)) != Site((16, 17))


def shown(watch, place, times):
    car = road_user(mean_mps=8.0, mean_se_mps=0.1, speed_mps=8.0)
    for t in times:
        observed_at(car, t, place(t))
        watch.show(t, car)
    watch.close()
    return watch.rules


@pytest.mark.parametrize(("calibration", "jump_s"), [(10, 0.1), (None, 0.1), (10, 0.04)])
def test_a_vehicle_that_waits_is_not_accused_under_the_name_of_one_that_clears(calibration, jump_s):
    """It stands 1 m before the line; its track goes on with a vehicle 6.5 m ahead, which went over
    the line before the red.
    """
    made = ten_px_a_metre() if calibration else None
    watch = Watch(site(made, lines=[STOP]), [(0.0, 0, GREEN), (9.0, 0, RED)])
    times = [*np.arange(10.0, 12.0, jump_s), *np.arange(12.0, 15.0, jump_s)]
    assert (
        shown(watch, lambda t: (130.0 if t < 12.0 else 195.0 + 40.0 * (t - 12.0), 110.0), times)
        == []
    )


@pytest.mark.parametrize(("red_s", "rules"), [(10.61, []), (10.05, ["red_light"])])
def test_a_vehicle_that_was_hidden_at_the_line_crossed_as_early_as_can_be(red_s, rules):
    """Seen 1.6 m before the line at 10.6 s at 4 m/s, and again from 13 s on."""
    watch = Watch(site(ten_px_a_metre(), lines=[STOP]), [(0.0, 0, GREEN), (red_s, 0, RED)])
    times = [*np.arange(10.0, 10.65, 0.1), *np.arange(13.0, 18.0, 0.1)]
    rest = lambda t: 100.0 + 40.0 * (t - 10.0) if t < 11.0 else 195.0 + 40.0 * (t - 13.0)  # noqa: E731
    assert shown(watch, lambda t: (rest(t), 110.0), times) == rules


@pytest.mark.parametrize(("way", "rules"), [(("a", "b"), []), (("b", "a"), ["illegal_turn"])])
def test_of_two_lines_in_one_step_the_order_counts(way, rules):
    """It drives over b, then a, between two frames."""
    lines = [
        {"name": "a", "px": [[180, 80], [180, 140]]},
        {"name": "b", "px": [[160, 80], [160, 140]]},
    ]
    turn = {"from_line": way[0], "to_line": way[1]}
    watch = Watch(site(ten_px_a_metre(), lines=lines, forbidden_turns=[turn]))
    assert (
        shown(watch, lambda t: (100.0 if t < 12 else 200.0, 110.0), np.arange(10, 14, 0.5)) == rules
    )
