"""Signal performance measures on events of one or two cycles, each figure worked out on paper."""

from __future__ import annotations

import dataclasses
import math
import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.analytics import MissingError, signals
from headway.analytics.highres import History, logged
from headway.analytics.signals import Arrivals, PedestrianDelay, Queues, Split, Terminations
from headway.store import Intake, open_database

CODE = {"R": 1, "Y": 2, "P": 3, "G": 4, "+": 1, "-": 0}
KEY = ("J", 0)
SIGNAL = "0R 20P 25G 40Y 43R 60G 80Y 83R 100G 120Y 123R 140R"  # three greens of 20 s
DETECTOR = "5+ 22- 30+ 31- 41+ 42- 50+ 90- 110+ 111-"


def told(text):
    return [(float(word[:-1]), CODE[word[-1]]) for word in text.split()]


def series(text):
    return np.array([t for t, _ in told(text)]), np.array([float(v) for _, v in told(text)])


def history(colours, actuations=""):
    return History({KEY: series(colours)}, {KEY: series(actuations)})


@pytest.fixture(scope="module")
def street(new_record, tmp_path_factory):
    """Makes runs in one record; the number of each."""
    folder = tmp_path_factory.mktemp("record")
    database = open_database(folder, new_record())
    intake, numbers = Intake(database, folder), iter(range(1000))

    def make(
        colours=None,
        actuations=None,
        crossings=(),
        demand=("cologne1", 7, 1.0),
        of_street="",
        **tables,
    ):
        scenario, seed, scale = demand
        key = f"run {next(numbers)}"
        run = intake.begin_run(key, scenario, "planner", seed, of_street, scale)
        for table, of in (("signal_state", colours), ("detector_state", actuations)):
            for (junction, group), text in (of or {}).items():
                kind = bool if table == "detector_state" else int
                intake.write(table, [(run, t, junction, group, kind(v)) for t, v in told(text)])
        intake.write("crossing", [(run, *key) for key in crossings])
        for table, rows in tables.items():
            intake.write(table, [(run, *row) for row in rows])
        return run

    yield database, make
    database.close()


# arrivals


@pytest.mark.parametrize(
    ("colours", "actuations", "expected"),
    [
        (
            SIGNAL,
            DETECTOR,
            (5, 2, 1, 2, 0.4, 12.5, 3, 1, "ok"),
        ),  # on red at 5 (waits 15) and at 50 (waits 10); the second queue stays
        (SIGNAL, "", (0, 0, 0, 0, None, None, 3, 0, "silent")),
        (SIGNAL, "5-", (0, 0, 0, 0, None, None, 3, 0, "silent")),
        (
            "10R 20G 40Y 43R",
            "9+ 9.5-",
            (0, 0, 0, 0, None, None, 0, 0, "ok"),
        ),  # before anything was shown
        ("10R 20G 40Y 43R", "10+ 11-", (1, 0, 0, 1, 0.0, 10.0, 0, 0, "ok")),
        (
            "10R 20G 40Y 43R",
            "20+ 21- 40+ 41- 43+ 44-",
            (3, 1, 1, 1, 1 / 3, None, 0, 0, "ok"),
        ),  # at the change: of what is shown from then on
        (
            "0R 10G 20R 30G 40R",
            "1+ 2- 21+ 22- 41+ 42-",
            (3, 0, 0, 3, 0.0, 9.0, 1, 0, "ok"),
        ),  # nobody knows what the last one waits
        ("0G 10R", "5+ 6-", (1, 1, 0, 0, 1.0, None, 0, 0, "ok")),
        ("0Y 3R", "1+ 2-", (1, 0, 1, 0, 0.0, None, 0, 0, "ok")),
    ],
)
def test_arrivals_are_told_by_the_colour_that_met_them(colours, actuations, expected):
    assert signals.arrivals_of(history(colours, actuations)) == [Arrivals("J", 0, *expected)]


@pytest.mark.parametrize(
    ("colours", "actuations", "greens", "failures"),
    [
        ("0R 10G 20Y 23R 28R", "5+", 1, 1),  # five seconds of the red were seen, just
        ("0R 10G 20Y 23R 27.5R", "5+", 0, 0),
        ("0G 100Y 103R 108R", "5+", 1, 1),
        ("0G 100Y 103R", "0+", 0, 0),
        ("0G 100Y", "0+", 0, 0),
        ("0R 10G 110Y 113R 118R", "10+ 89- 100+", 1, 1),  # 89 of 100 s, all of the red
        ("0R 10G 110Y 113R 118R", "31+", 1, 0),  # 79 of 100 s: not more than 79 %
        ("0R 10G 110Y 113R 118R", "30+", 1, 1),
        ("0R 10G 110Y 113R 118R", "5+ 90- 113+", 1, 1),  # 80 of 100 s at its beginning
        ("0R 10G 110Y 113R 118R", "5+ 89- 113+", 1, 0),
        ("0R 10G 110Y 113R 130R", "5+ 117-", 1, 1),  # 4 of 5 s of the red
        ("0R 10G 110Y 113R 130R", "5+ 116.9-", 1, 0),
        ("0R 10G 110Y 113R 130R", "5+ 111- 114+ 118-", 1, 1),
        ("0R 10G 110Y 113R 130R", "5+ 111- 114.1+ 120-", 1, 0),
        ("0R 10G 110R 150G 155R", "5+ 114-", 1, 1),  # no yellow: the red from 110 on
        ("0R 10G 110R 150G 154R", "5+ 114-", 1, 1),
        ("0R 10G 110R 114R", "5+ 114-", 0, 0),  # four seconds of the red were seen
        ("0R 10G 110R 150G 155R", "5+ 110-", 1, 0),  # and not the green again
        ("0R 10G 110Y 113R 150G 250Y 253R 260R", "5+", 2, 2),
        ("0R 10G 110Y 113R 150G 250Y 253R 260R", "5+ 130- 150+ 251-", 2, 1),
        ("0R 10G 110Y 113R 150G 250Y 253R 260R", "5+ 100- 150+", 2, 1),
        ("0R 10G 110Y 113R 118R", "0+ 1- 2+ 3- 200+ 300-", 1, 0),  # before and after it
    ],
)
def test_a_split_failed_where_the_queue_fills_the_green_and_the_red_after_it(
    colours, actuations, greens, failures
):
    found = signals.arrivals_of(history(colours, actuations))[0]
    assert (found.greens, found.failures) == (greens, failures)


def test_a_green_of_no_length_serves_and_fails_nobody():
    """A controller's clock has tenths of a second: green and yellow may bear the same one."""
    rows = [
        (0.0, "J", 10, 1),
        (9.0, "J", 82, 1),
        (10.0, "J", 1, 1),
        (10.0, "J", 8, 1),
        (13.0, "J", 10, 1),
        (18.0, "J", 1, 1),
    ]
    found = signals.arrivals_of(logged(rows, {("J", 1): 1}))[0]
    assert (found.greens, found.failures) == (1, 0)


@pytest.mark.parametrize(
    ("actuations", "health"),
    [
        ("0+ 900-", "stuck"),
        ("0+ 899.5-", "ok"),
        ("0+ 500- 600+ 1000-", "ok"),
        ("100+", "stuck"),  # until the signal is heard of last, at 1000 s
        ("101+", "ok"),
        ("0+ 10- 1901+", "ok"),
        ("0+ 10- 1001+ 1901-", "stuck"),
        ("0+ 1- 950-", "ok"),  # free for long
    ],
)
def test_a_detector_that_is_occupied_for_fifteen_minutes_is_stuck(actuations, health):
    assert signals.arrivals_of(history("0R 1000G", actuations))[0].health == health


def test_arrivals_are_of_groups_for_vehicles_in_order():
    of = History(
        {(j, g): series("0R 10G") for j, g in (("K", 0), ("J", 2), ("J", 10), ("J", 1))},
        {("J", 2): series("3+ 4-")},
        frozenset({("J", 1)}),
    )
    assert [(a.junction, a.signal_group, a.n) for a in signals.arrivals_of(of)] == [
        ("J", 2, 1),
        ("J", 10, 0),
        ("K", 0, 0),
    ]


def by_half_seconds(colours, actuations):
    """The same once more, instant by instant: (n, on green, on yellow, on red, waits, greens,
    failures). Colours and actuations: half-seconds to values.
    """
    first, last = min(colours), max(colours)
    shown, occupied, colour, there = {}, {}, None, 0
    for t in range(-10, 200):
        colour, there = colours.get(t, colour), actuations.get(t, there)
        shown[t] = {None: None, 1: "red", 2: "yellow", 3: "green", 4: "green"}[colour]
        occupied[t] = there
    met = [(t, shown[t]) for t in sorted(actuations) if actuations[t] and t >= first]
    waits = []
    for t, stage in met:
        if stage == "red":
            waits += [(u - t) / 2 for u in range(t, last + 1) if shown[u] == "green"][:1]
    turns = [t for t in range(first, last + 1) if shown[t] != shown[t - 1]]
    greens = failures = 0
    for k, t in enumerate(turns):
        if shown[t] != "green" or not turns[k + 1 : k + 2]:
            continue
        for begin in turns[k + 2 : k + 3] if shown[turns[k + 1]] == "yellow" else [turns[k + 1]]:
            if begin + 10 > last:
                continue
            green = [occupied[u] for u in range(t, turns[k + 1])]
            red = [occupied[u] for u in range(begin, begin + 10)]
            greens += 1
            failures += 100 * sum(green) > 79 * len(green) and sum(red) >= 8
    counts = [sum(stage == s for _, stage in met) for s in ("green", "yellow", "red")]
    return len(met), *counts, waits, greens, failures


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(st.integers(0, 150), st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=14),
    st.lists(st.integers(-10, 160), unique=True, max_size=14).map(
        lambda times: {t: (k + 1) % 2 for k, t in enumerate(sorted(times))}
    ),
)
def test_arrivals_are_what_a_look_each_half_second_finds(colours, actuations):
    def of(values):
        return np.array(sorted(values), np.float64) / 2, np.array(
            [values[t] for t in sorted(values)], np.float64
        )

    found = signals.arrivals_of(History({KEY: of(colours)}, {KEY: of(actuations)}))[0]
    n, on_green, on_yellow, on_red, waits, greens, failures = by_half_seconds(colours, actuations)
    assert (found.n, found.on_green, found.on_yellow, found.on_red) == (
        n,
        on_green,
        on_yellow,
        on_red,
    )
    assert found.delay_s == (pytest.approx(sum(waits) / len(waits)) if waits else None)
    assert (found.greens, found.failures) == (greens, failures)
    assert found.health == ("ok" if any(actuations.values()) else "silent")


# what ended the greens


def test_terminations_are_counted_by_their_reason():
    assert signals.terminations_of(history(SIGNAL, DETECTOR)) == [
        Terminations("J", 0, 3, 2, 0, 1, 23.0)
    ]
    assert signals.terminations_of(history(SIGNAL, DETECTOR), 20.0) == [
        Terminations("J", 0, 3, 0, 3, 0, 23.0)
    ]
    assert signals.terminations_of(history("0R 10G 20Y 23R 30G 45Y 49R")) == [
        Terminations("J", 0, 2, 2, 0, 0, 16.0)
    ]  # 13 and 19 s
    assert signals.terminations_of(history("0R 10G 100Y 103R")) == [
        Terminations("J", 0, 1, 0, 1, 0, 93.0)
    ]
    assert signals.terminations_of(history("0R 10G 99Y 103R")) == [
        Terminations("J", 0, 1, 1, 0, 0, 93.0)
    ]
    assert signals.terminations_of(history("0R 10G")) == [Terminations("J", 0, 0, 0, 0, 0, None)]


def test_what_a_controller_does_not_tell_is_not_counted():
    of = History(
        {KEY: series(SIGNAL)}, {}, ended={KEY: (np.array([40.0, 80.0]), np.array([4.0, 6.0]))}
    )
    assert signals.terminations_of(of) == [Terminations("J", 0, 3, 1, 0, 1, 23.0)]


def test_terminations_are_of_groups_for_vehicles_in_order():
    of = History(
        {(j, g): series("0R") for j, g in (("K", 0), ("J", 2), ("J", 1))}, {}, frozenset({("J", 1)})
    )
    assert [(t.junction, t.signal_group) for t in signals.terminations_of(of)] == [
        ("J", 2),
        ("K", 0),
    ]


# from the database


def test_measures_of_a_run_in_a_window(street):
    database, make = street
    run = make({KEY: SIGNAL, ("K", 3): SIGNAL, ("P", 0): "0R 10G"}, {KEY: DETECTOR}, [("P", 0)])
    make({("other", 0): SIGNAL}, {KEY: "1+ 2-", ("other", 0): "1+ 2-"})
    whole = [
        Arrivals("J", 0, 5, 2, 1, 2, 0.4, 12.5, 3, 1, "ok"),
        Arrivals("K", 3, 0, 0, 0, 0, None, None, 3, 0, "silent"),
    ]
    assert signals.arrivals(database, run) == whole
    assert signals.arrivals(database, run, "K") == whole[1:]
    assert signals.arrivals(database, run, "J", 43.0, 100.0) == [
        Arrivals("J", 0, 1, 0, 0, 1, 0.0, 10.0, 1, 1, "ok")
    ]
    ended = [Terminations("J", 0, 3, 2, 0, 1, 23.0), Terminations("K", 3, 3, 3, 0, 0, 23.0)]
    assert signals.terminations(database, run) == ended
    assert signals.terminations(database, run, "J") == ended[:1]
    assert signals.terminations(database, run, "J", 43.0, 100.0) == [
        Terminations("J", 0, 1, 0, 0, 1, 23.0)
    ]
    assert signals.terminations(database, run, "J", longest_green_s=20.0) == [
        Terminations("J", 0, 3, 0, 3, 0, 23.0)
    ]
    shares = [
        Split("J", 0, 3, 20.0, 20.0, 20.0, 60 / 140),
        Split("K", 3, 3, 20.0, 20.0, 20.0, 60 / 140),
        Split("P", 0, 0, None, None, None, 130 / 140),  # a green that has not ended
    ]
    assert signals.splits(database, run) == shares
    assert signals.splits(database, run, "J") == shares[:1]
    assert signals.splits(database, run, "J", 43.0, 100.0) == [
        Split("J", 0, 1, 20.0, 20.0, 20.0, 20 / 57)
    ]
    assert (
        signals.splits(database, run, "none")
        == signals.arrivals(database, run, "none")
        == signals.terminations(database, run, "none")
        == []
    )


def test_greens_of_two_levels_are_one_green_and_their_lengths_are_ranked(street):
    """Greens of 10, 20 and 50 s in 200 s: the 85th percentile lies 0.7 of the way from 20 to 50.
    The last one has not ended.
    """
    database, make = street
    run = make({KEY: "0Y 10P 15G 20Y 60G 70P 80R 100G 150Y 200P"})
    found = signals.splits(database, run)
    assert found == [
        Split("J", 0, 3, pytest.approx(80 / 3), pytest.approx(41.0), 50.0, pytest.approx(0.4))
    ]
    assert signals.splits(database, make({KEY: "0G 7R"})) == [Split("J", 0, 1, 7.0, 7.0, 7.0, 1.0)]
    never = Split("J", 0, 0, None, None, None, 0.0)
    assert signals.splits(database, make({KEY: "0R 7R"})) == [never]
    moment = Split("J", 0, 0, None, None, None, None)
    assert signals.splits(database, make({KEY: "7G"})) == [moment]


@pytest.mark.parametrize(
    ("begin_s", "end_s", "expected"),
    [  # greens 20 to 40, 60 to 80, 100 to 120; the record goes from 0 to 140
        (65.0, 110.0, Split("J", 0, 0, None, None, None, pytest.approx(25 / 45))),
        (30.0, 35.0, Split("J", 0, 0, None, None, None, 1.0)),
        (30.0, 110.0, Split("J", 0, 1, 20.0, 20.0, 20.0, pytest.approx(40 / 80))),
        (100.0, 1e12, Split("J", 0, 1, 20.0, 20.0, 20.0, pytest.approx(20 / 40))),
        (0.0, 130.0, Split("J", 0, 3, 20.0, 20.0, 20.0, pytest.approx(60 / 130))),
        (41.0, 59.0, Split("J", 0, 0, None, None, None, 0.0)),
        (200.0, 300.0, None),
    ],
)
def test_the_share_of_green_of_a_window_counts_greens_that_its_edges_cut(
    street, begin_s, end_s, expected
):
    database, make = street
    run = make({KEY: SIGNAL})
    assert signals.splits(database, run, "J", begin_s, end_s) == ([expected] if expected else [])


def test_the_coordination_diagram_counts_from_the_red_before(street):
    database, make = street
    run = make(
        {KEY: "10R 20P 25G 40Y 43R 60G 80Y 83R 100G"},
        {KEY: "9+ 9.5- 10+ 11- 22+ 23- 43+ 44- 82.5+ 82.6- 83+ 90- 200+"},
    )
    found = signals.coordination(database, run, "J", 0)
    assert found.at_s == [10, 22, 43, 82.5, 83, 200]
    assert found.into_cycle_s == [0, 12, 0, 39.5, 0, 117]
    assert (found.cycle_at_s, found.green_s, found.yellow_s) == (
        [10, 43, 83],
        [10, 17, 17],
        [30, 37, None],
    )
    abrupt = signals.coordination(database, make({KEY: "0R 10G 20R 30G 40Y 43R"}), "J", 0)
    assert (abrupt.cycle_at_s, abrupt.green_s, abrupt.yellow_s) == (
        [0, 20, 43],
        [10, 10, None],
        [None, 20, None],
    )
    part = signals.coordination(database, run, "J", 0, 43.0, 83.0)
    assert (part.at_s, part.into_cycle_s, part.cycle_at_s, part.green_s, part.yellow_s) == (
        [43, 82.5],
        [0, 39.5],
        [43],
        [17],
        [37],
    )
    empty = signals.Coordination([], [], [], [], [])
    assert (
        signals.coordination(database, run, "J", 1)
        == signals.coordination(database, run, "K", 0)
        == empty
    )
    never_red = make({KEY: "0G 10Y"}, {KEY: "5+ 6-"})
    assert signals.coordination(database, never_red, "J", 0) == empty


def test_queues_of_each_junction(street):
    """0, 1, 2, ... 9 standing vehicles: the 95th percentile lies 0.55 of the way from 8 to 9."""
    database, make = street
    looks = [(5.0 * k, "J", 40 - k, k, 3.0 * k, 1.0) for k in range(10)]
    run = make(observation=[*looks, (0.0, "B", 1, 7, 2.5, 1.0)])
    make(observation=[(0.0, "J", 1, 99, 99.0, 1.0)])
    found = [Queues("B", 1, 7.0, 7.0, 7, 2.5), Queues("J", 10, 4.5, pytest.approx(8.55), 9, 27.0)]
    assert signals.queues(database, run) == found
    assert signals.queues(database, run, "J") == found[1:]
    assert signals.queues(database, run, "J", 5.0, 15.0) == [
        Queues("J", 2, 1.5, pytest.approx(1.95), 2, 6.0)
    ]
    assert isinstance(signals.queues(database, run)[0].mean_veh, float)


@pytest.mark.parametrize(
    ("colours", "calls", "delays"),
    [
        ("0R 30G 40R 70G", "10+ 31- 35+ 36- 50+ 71- 80+", [20, 0, 20, 0]),
        (
            "0R 30G 40R",
            "30+ 31- 40+ 41-",
            [0],
        ),  # called in time; nobody knows what the second one waits
        ("0R 30G 40R", "0+ 29.5-", [30]),
        (
            "5G 10R 20G",
            "4+ 4.5- 5+ 6- 12+ 13-",
            [1, 0, 8],
        ),  # the first one came before anything was shown
        ("5R 10G", "4+", [6]),
        ("5G", "6+ 7-", [0]),
        ("0R 30G 40Y 43R 60G", "41+ 42- 45+", [19, 15]),
        ("0R", "1+ 2-", []),
        ("0R 10G", "", []),
        ("0R 10G", "1- 3-", []),
    ],
)
def test_pedestrians_wait_from_their_call_to_the_walk(street, colours, calls, delays):
    database, make = street
    run = make(
        {("P", 4): colours, KEY: colours}, {("P", 4): calls, KEY: "1+"}, [("P", 4), ("unseen", 0)]
    )
    figures = (
        (sum(delays) / len(delays), pytest.approx(percentile(delays, 0.95)), max(delays))
        if delays
        else (None, None, None)
    )
    assert signals.pedestrian_delay(database, run) == [
        PedestrianDelay("P", 4, len(delays), *figures)
    ]


def percentile(values, q):
    """By linear interpolation between order statistics."""
    values, place = sorted(values), (len(values) - 1) * q
    low = math.floor(place)
    return values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def test_crossings_are_told_in_order_and_in_a_window(street):
    database, make = street
    run = make(
        {("P", 1): "0R 30G", ("P", 0): "0R 20G", ("B", 0): "0R 10G"},
        {("P", 1): "5+ 6- 28+", ("B", 0): "1+"},
        [("P", 1), ("P", 0), ("B", 0)],
    )
    found = signals.pedestrian_delay(database, run)
    assert [(p.junction, p.signal_group, p.n) for p in found] == [
        ("B", 0, 1),
        ("P", 0, 0),
        ("P", 1, 2),
    ]
    assert signals.pedestrian_delay(database, run, "B") == [
        PedestrianDelay("B", 0, 1, 9.0, 9.0, 9.0)
    ]
    assert signals.pedestrian_delay(database, run, "P", 6.0, 31.0)[-1] == PedestrianDelay(
        "P", 1, 1, 2.0, 2.0, 2.0
    )


# emissions


def near(value):
    return pytest.approx(value, rel=1e-9)


def test_what_a_run_burnt_by_hand(street):
    """10 vehicles for 360 s, then 30 for 720 s, at 74.5 and 149 mg/s of petrol of 0.745 kg/l:
    0.036 and 0.144 l.
    """
    database, make = street
    run = make(
        emission=[(1080.0, 99, 99.0, 99.0), (0.0, 10, 74.5, 1000.0), (360.0, 30, 149.0, 2000.0)]
    )
    found = signals.impact(database, run)
    assert found == signals.EmissionComparison(
        signals.Emissions(run, 3, near(0.3), near(7.0), near(0.18), near(1.8), near(0.306)),
        None, 0, 1.70, None, None, None, None,
    )  # fmt: skip
    assert signals.impact(database, run, fuel_price_per_l=2.0).run.cost == near(0.36)
    part = signals.impact(database, run, begin_s=360.0, end_s=1080.0).run
    assert (part.n, part.hours, part.fuel_l) == (1, near(0.2), near(0.144))
    assert signals.impact(database, run, end_s=1080.0).run.hours == near(0.3)
    between = signals.impact(database, run, begin_s=400.0, end_s=436.0).run
    assert (between.n, between.hours, between.vehicle_h) == (0, near(0.01), near(0.3))
    nothing = signals.impact(database, make())
    assert (nothing.run.n, nothing.run.hours, nothing.run.fuel_l, nothing.run.cost) == (
        0,
        0.0,
        0.0,
        0.0,
    )


def looks(*times, vehicles=10, fuel=745.0, co2=2310.0):
    return [(float(t), vehicles, fuel, co2) for t in times]


def test_what_a_run_saved_over_the_time_that_both_ran(street):
    database, make = street
    run = make(emission=looks(0, 100, 200, 300, 400))
    other = make(emission=looks(100, 200, 300, 400, 500, vehicles=30, fuel=2235.0, co2=4620.0))
    found = signals.impact(database, run, other, 2.0)
    assert found.run == signals.Emissions(
        run, 4, 300 / 3600, near(3000 / 3600), near(0.3), near(0.693), near(0.6)
    )
    assert found.baseline == signals.Emissions(
        other, 4, 300 / 3600, near(2.5), near(0.9), near(1.386), near(1.8)
    )
    assert (found.n, found.fuel_price_per_l) == (4, 2.0)
    saved = (found.fuel_saved_l, found.co2_saved_kg, found.money_saved, found.vehicle_h_saved)
    assert saved == near((0.6, 0.693, 1.2, 2.5 - 3000 / 3600))
    back = signals.impact(database, other, run, 2.0)
    assert (back.n, back.fuel_saved_l) == (4, near(-0.6))
    part = signals.impact(database, run, other, 2.0, 200.0, 400.0)
    assert (part.n, part.run.hours, part.fuel_saved_l) == (2, 200 / 3600, near(0.4))


@pytest.mark.parametrize(
    ("times", "n", "kept"),
    [
        ((400, 500), 0, (1, 1)),
        ((350, 450), 1, (1, 1)),
        ((300, 350, 400), 2, (2, 3)),
        ((500, 600), 0, (0, 0)),
        ((), 0, (0, 0)),
        ((-9, 0), 0, (1, 1)),
    ],
)
def test_without_time_that_both_were_looked_at_nothing_is_claimed(street, times, n, kept):
    database, make = street
    run = make(emission=looks(0, 100, 200, 300, 400))
    other = make(emission=looks(*times, fuel=1490.0))
    for one, two, counts in ((run, other, kept), (other, run, kept[::-1])):
        found = signals.impact(database, one, two)
        assert (found.n, found.run.n, found.baseline.n) == (n, *counts)
        saved = (found.fuel_saved_l, found.co2_saved_kg, found.money_saved, found.vehicle_h_saved)
        assert [x is None for x in saved] == [n == 0] * 4


@pytest.mark.parametrize(
    ("demand", "said"),
    [
        (("grid4x4", 7, 1.0), r"grid4x4 \(seed 7, scale 1\)"),
        (("cologne1", 8, 1.0), r"cologne1 \(seed 8, scale 1\)"),
        (("cologne1", 7, 0.5), r"cologne1 \(seed 7, scale 0.5\)"),
    ],
)
def test_nothing_is_said_to_be_saved_beside_a_run_with_another_demand(street, demand, said):
    database, make = street
    run = make(emission=looks(0, 100, 200))
    other = make(emission=looks(0, 100, 200, fuel=2235.0), demand=demand)
    with pytest.raises(
        MissingError, match=rf"cologne1 \(seed 7, scale 1\) and run {other}.*{said}"
    ):
        signals.impact(database, run, other)
    for one, two in ((999_999, run), (run, 999_999), (999_999, None)):
        with pytest.raises(MissingError, match="there is no run 999999"):
            signals.impact(database, one, two)


# lists


def test_runs_are_told_newest_first_a_hundred_of_them(street):
    database, make = street
    numbers = [make() for _ in range(101)]
    found = signals.runs(database)
    assert [r["id"] for r in found] == numbers[:0:-1]
    assert [r["id"] for r in signals.runs(database, 3)] == numbers[:-4:-1]
    row = found[0]
    assert (row.pop("begun_at").tzinfo is not None, row.pop("key")[:4]) == (True, "run ")
    demand = {"scenario": "cologne1", "seed": 7, "scale": 1.0}
    assert row.pop("controllers") == [{"at_s": None, "controller": "planner"}]
    assert row == {"id": numbers[-1], "street": "", "controller": "planner"} | demand
    assert [r["id"] for r in signals.runs(database, 3, 2)] == numbers[:-6:-1][2:]


def test_a_run_that_never_started_is_not_told(street):
    """Of a street whose settings name cologne1, but an order of before cologne8."""
    database, make = street
    started = [(1, 0.0, "engine.started", "", '{"controller": "planner"}')]
    of = {"of_street": "main"}
    first = make(event=started, **of)
    never = make(**of)
    second = make(demand=("cologne8", 7, 1.0), event=started, **of)
    newest = make(**of)  # its events are on their way
    assert [run["id"] for run in signals.runs(database, 3)] == [newest, second, first]
    assert never not in {run["id"] for run in signals.runs(database, 1000)}


def test_a_run_tells_each_controller_from_when_on_it_decided(street):
    """Begun by the planner; restored after a crash, switched by an order, restored again, switched
    by the settings and to what decides already; other events name controllers, too.
    """
    database, make = street
    told_of = [
        (1, 600.0, "engine.started", "planner"),
        (2, 610.0, "engine.order_refused", "greedy"),
        (3, 650.0, "engine.restored", "planner"),
        (4, 700.0, "engine.controller", "greedy"),
        (5, 710.0, "engine.restored", "greedy"),
        (6, 705.0, "engine.settings", ""),
        (7, 800.0, "engine.settings", "fixed"),
        (8, 900.0, "engine.controller", "fixed"),
        (9, 950.0, "engine.controller", "planner"),
    ]
    make(event=[(n, t, kind, "", f'{{"controller": "{c}"}}') for n, t, kind, c in told_of[::-1]])
    make(event=[(1, 0.0, "engine.controller", "", '{"controller": "greedy"}')])
    make(event=[(1, 0.0, "engine.started", "", '{"scenario": "cologne1"}')])
    decided = [
        [(c["at_s"], c["controller"]) for c in run["controllers"]]
        for run in signals.runs(database, 3)
    ]
    assert decided == [
        [(None, "planner")],
        [(None, "planner"), (0.0, "greedy")],
        [(600.0, "planner"), (700.0, "greedy"), (800.0, "fixed"), (950.0, "planner")],
    ]


def test_events_are_told_in_order_by_what_their_kind_begins_with(street):
    database, make = street
    kinds = ["engine.start", "gate_a.x", "gate.y", "gateXa.z", "gate_a", "engine%x", "engine"]
    rows = [(k, 0.5 * k, kind, "J", '{"k": 1}') for k, kind in enumerate(kinds)]
    run = make(event=random.Random(3).sample(rows, len(rows)))
    make(event=rows[:2])

    def numbers(*how):
        return [e["number"] for e in signals.events(database, run, *how)]

    assert signals.events(database, run)[1] == {
        "number": 1,
        "at_s": 0.5,
        "kind": "gate_a.x",
        "junction": "J",
        "data": {"k": 1},
    }
    assert numbers() == [0, 1, 2, 3, 4, 5, 6]
    assert (numbers("engine"), numbers("gate_a"), numbers("gate."), numbers("ate")) == (
        [0, 5, 6],
        [1, 4],
        [2],
        [],
    )
    assert numbers("engine%x") == []
    assert (numbers("", 2), numbers("", 2, 3), numbers("gate", 10, 1)) == (
        [0, 1],
        [3, 4],
        [2, 3, 4],
    )
    many = make(event=[(k, 0.0, "k", "J", "{}") for k in range(1001)])
    assert [e["number"] for e in signals.events(database, many)] == list(range(1000))


def test_an_answer_is_not_changed(street):
    database, make = street
    run = make(
        {KEY: SIGNAL, ("P", 0): "0R 10G"},
        {KEY: DETECTOR},
        [("P", 0)],
        observation=[(0.0, "J", 1, 1, 1.0, 1.0)],
    )
    lists = (
        signals.arrivals,
        signals.terminations,
        signals.splits,
        signals.queues,
        signals.pedestrian_delay,
    )
    impact = signals.impact(database, run)
    for value in [
        *(ask(database, run)[0] for ask in lists),
        signals.coordination(database, run, "J", 0),
        impact,
        impact.run,
    ]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, None)


def test_a_green_is_looked_at_and_not_the_whole_day_for_each():
    """A million changes of a detector, each half a second after the one before."""
    on = np.arange(1_000_000) / 2.0
    occupied, always = np.arange(1_000_000) % 2.0, np.ones(1_000_000)
    tracemalloc.start()
    try:
        held = [
            signals._fills(on, occupied, begin, begin + 10.0) for begin in (0.0, 4e5, 499_995.0)
        ]
        held.append(signals._fills(on, always, 4e5, 4e5 + 10.0))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held == [False, False, False, True]  # half of the time, and all of it
    assert most < 100_000  # bytes
