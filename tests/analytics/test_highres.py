"""Histories and event codes, on logs of a dozen rows worked out on paper."""

from __future__ import annotations

import dataclasses
import tracemalloc
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.analytics import event_log, highres
from headway.analytics.highres import History, greens, lamps, logged
from headway.store import Intake, open_database

R, Y, P, G = 1, 2, 3, 4
KEY = ("J", 0)


def series(text, code):
    """Such as "0R 20G": times and values."""
    told = [(float(word[:-1]), code[word[-1]]) for word in text.split()]
    return np.array([t for t, _ in told]), np.array([float(v) for _, v in told])


def signal(text):
    return series(text, {"R": R, "Y": Y, "P": P, "G": G})


def detector(text):
    return series(text, {"+": 1, "-": 0})


def history(colours, actuations="", ended=None):
    return History(
        {KEY: signal(colours)},
        {KEY: detector(actuations)},
        ended={} if ended is None else {KEY: series(ended, {"g": 4, "m": 5, "f": 6})},
    )


def log_of(of, longest_s=highres.LONGEST_GREEN_S):
    """The product's log of a history."""
    tables = ((of.detectors, False), (of.colours, True))
    changes = sorted(
        (t, is_signal, *key, int(v))
        for table, is_signal in tables
        for key, (at, value) in table.items()
        if key in of.colours
        for t, v in zip(at.tolist(), value.tolist(), strict=True)
    )
    return list(event_log.log_of(changes, of.crossings, longest_s))


def log_by_groups(of):
    """The same once more, a group after the other, with all of it in memory."""
    rows = []
    ends = [at[-1:] for k in of.colours for at in (of.colours[k][0], of.detector(k)[0])]
    last_s = max((float(at[0]) for at in ends if len(at)), default=0.0)
    for key, colour in of.colours.items():
        device, phase = key[0], key[1] + 1
        at, lamp = (x.tolist() for x in lamps(colour))
        on, occupied = (x.tolist() for x in of.detector(key))
        if key in of.crossings:
            rows += [(t, device, (23, 21)[int(s)], phase) for t, s in pairs(at, lamp) if s != 2]
            rows += [(t, device, 45, phase) for t, v in pairs(on, occupied) if v]
            continue
        rows += [(t, device, (10, 1, 8)[int(s)], phase) for t, s in pairs(at, lamp)]
        rows += [(t, device, 82 if v else 81, phase) for t, v in pairs(on, occupied)]
        ended = greens(of, key)
        rows += [(e, device, int(w), phase) for e, w in pairs(ended.end_s, ended.why)]
        for begin, end, yellow in pairs(ended.begin_s, ended.end_s, ended.yellow_s):
            if lamp[-1] == 2 and at[-1] == end:  # is yellow still
                yellow = last_s - end if last_s - end > 60.0 else 0.0
            if phase <= 16:
                rows.append((end, device, 299 + phase, round(min(yellow, 60.0) + end - begin)))
    return sorted(rows)


def pairs(*columns):
    return list(zip(*columns, strict=True))


def lists(of):
    return {key: (at.tolist(), value.tolist()) for key, (at, value) in of.items()}


# lamps


@pytest.mark.parametrize(
    ("colours", "expected"),
    [
        ("", []),
        ("0R", [(0, 0)]),
        ("0Y", [(0, 2)]),
        ("5P", [(5, 1)]),
        ("0R 1R 2P 3G 4P 5Y 6Y 7R 8G", [(0, 0), (2, 1), (5, 2), (7, 0), (8, 1)]),
        ("0G 1R 2Y 3G", [(0, 1), (1, 0), (2, 2), (3, 1)]),
    ],
)
def test_a_signal_is_red_green_or_yellow_from_each_change_on(colours, expected):
    at, lamp = lamps(signal(colours))
    assert list(zip(at.tolist(), lamp.tolist(), strict=True)) == expected
    assert lamp.dtype == np.float64


def test_a_dark_signal_counts_as_red():
    assert lamps((np.array([0.0, 1.0, 2.0]), np.array([0.0, 4.0, 0.0])))[1].tolist() == [0, 1, 0]


# greens and what ended them


def ends(found):
    return list(
        zip(
            found.begin_s.tolist(),
            found.end_s.tolist(),
            found.yellow_s.tolist(),
            found.why.tolist(),
            strict=True,
        )
    )


@pytest.mark.parametrize(
    ("colours", "expected"),
    [
        ("0R 20P 25G 40Y 43R", [(20, 40, 3, 4)]),
        ("0R 20G 40Y 43R 60G 80Y 84R", [(20, 40, 3, 4), (60, 80, 4, 4)]),
        (
            "0G 10Y 13R 20G 30R 40R",
            [(20, 30, 0, 4)],
        ),  # the first green began before; no yellow after the second
        ("0R 20G 40Y", [(20, 40, 0, 4)]),  # how long the yellow was is not known
        ("0R 20G 40Y 42G", [(20, 40, 2, 4)]),
        ("0R 20G 40R 45Y 50R", [(20, 40, 0, 4)]),  # a yellow, but of another time
        ("0R 20G 40R", [(20, 40, 0, 4)]),
        ("0R 20G", []),  # has not ended
        ("0R", []),
        ("", []),
    ],
)
def test_only_greens_that_began_and_ended_count(colours, expected):
    assert ends(greens(history(colours), KEY)) == expected


@pytest.mark.parametrize(
    ("length", "longest", "why"),
    [(89.5, None, 6), (90.0, None, 5), (90.5, None, 5), (19.5, 20.0, 6), (20.0, 20.0, 5)],
)
def test_a_green_of_the_longest_length_maxed_out(length, longest, why):
    of = history(f"0R 10G {10 + length}Y {14 + length}R", "5+")
    assert ends(greens(of, KEY) if longest is None else greens(of, KEY, longest)) == [
        (10, 10 + length, 4, why)
    ]


@pytest.mark.parametrize(
    ("actuations", "why"),
    [
        ("", 4),  # nobody ever
        ("5+ 30-", 4),
        ("5+ 37-", 4),  # 3 s before the end: as long as a green is extended
        ("5+ 37.5-", 6),
        ("5+", 6),  # still there
        ("5+ 10- 38+ 39-", 6),
        ("5+ 10- 40+", 6),  # comes at that very instant
        ("5+ 10- 40.5+", 4),
        ("5+ 40-", 6),
        ("41+", 4),
        ("10- 36+", 6),
    ],
)
def test_without_a_controllers_word_a_green_gaps_out_where_nobody_came_for_three_seconds(
    actuations, why
):
    assert ends(greens(history("0R 20G 40Y 43R", actuations), KEY)) == [(20, 40, 3, why)]


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("40g", [4, 0]),
        ("39m", [5, 0]),
        ("20f", [0, 0]),  # at its begin: of the one before
        ("20.5f", [6, 0]),
        ("40.5f", [0, 0]),
        ("80f", [0, 6]),
        ("61g 79m", [0, 5]),  # the last word counts
        ("40g 80m", [4, 5]),
        ("10g 100m", [0, 0]),
    ],
)
def test_a_controllers_word_is_taken_from_after_the_begin_to_the_end(told, why):
    found = greens(history("0R 20G 40Y 43R 60G 80Y 83R", "5+", told), KEY, 20.0)
    assert found.why.tolist() == why


def test_where_a_controller_tells_of_others_it_has_told_nothing_of_this_one():
    of = History({KEY: signal("0R 20G 40Y 43R")}, {}, ended={("J", 1): series("40g", {"g": 4})})
    assert greens(of, KEY).why.tolist() == [0]


# a controller's log


LOG = [
    (3.0, "A", 82, 7),  # detector 7 of phase 2
    (0.0, "A", 10, 2), (10.0, "A", 1, 2), (20.0, "A", 8, 2), (24.0, "A", 10, 2),
    (5.0, "A", 82, 8), (6.0, "A", 81, 7), (8.0, "A", 81, 8),
    (20.0, "A", 4, 2), (21.0, "A", 5, 2), (22.0, "A", 6, 1),
    (9.0, "A", 82, 9),  # heard by nobody
    (9.5, "B", 82, 7), (9.6, "B", 81, 7), (11.0, "B", 1, 1), (12.0, "B", 81, 7),
    (13.0, "A", 43, 2), (14.0, "A", 2, 2), (15.0, "A", 9, 2), (16.0, "A", 7, 2),
    (17.0, "A", 300, 2), (18.0, "A", 3, 2), (19.0, "A", 11, 2),
]  # fmt: skip
PHASES = {("A", 7): 2, ("A", 8): 2, ("B", 7): 1}


def test_a_log_gives_colours_ends_and_detectors_that_count_as_one():
    found = logged(LOG, PHASES)
    assert lists(found.colours) == {
        ("A", 1): ([0, 10, 20, 24], [R, G, Y, R]),
        ("B", 0): ([11], [G]),
    }
    assert lists(found.ended) == {("A", 0): ([22], [6]), ("A", 1): ([20, 21], [4, 5])}
    assert lists(found.detectors) == {("A", 1): ([3, 8], [1, 0]), ("B", 0): ([9.5, 9.6], [1, 0])}
    assert found.crossings == frozenset()
    assert [x.tolist() for x in found.detector(("A", 1))] == [[3, 8], [1, 0]]
    assert [x.tolist() for x in found.detector(("A", 0))] == [[], []]


def test_each_actuation_can_be_counted_by_itself():
    found = logged(LOG, PHASES, each=True)
    assert lists(found.detectors) == {
        ("A", 1): ([3, 3, 5, 5], [1, 0, 1, 0]),
        ("B", 0): ([9.5, 9.5], [1, 0]),
    }


def test_a_detector_that_says_the_same_twice_is_heard_once():
    rows = [
        (1.0, "A", 82, 7),
        (2.0, "A", 82, 7),
        (3.0, "A", 81, 7),
        (4.0, "A", 81, 7),
        (5.0, "A", 81, 8),
    ]
    assert lists(logged(rows, PHASES).detectors) == {("A", 1): ([1, 3], [1, 0])}


def test_nothing_comes_of_an_empty_log():
    assert logged([], PHASES) == History({}, {})


# the log that a controller would have written


def test_the_log_of_a_street_by_hand():
    """Group 0 is a phase, group 1 a crossing, group 16 is beyond the splits that have a code."""
    of = History(
        {
            KEY: signal("0R 20P 25G 40Y 43R 60G"),
            ("J", 1): signal("0R 30G 40Y 42R"),
            ("J", 15): signal("0R 5G 8R"),
            ("J", 16): signal("0R 5G 8Y 10R"),
        },
        {KEY: detector("5+ 22- 39+"), ("J", 1): detector("10+ 31- 50+"), ("J", 7): detector("1+")},
        frozenset({("J", 1)}),
    )
    assert log_of(of) == [
        (0, "J", 10, 1), (0, "J", 10, 16), (0, "J", 10, 17), (0, "J", 23, 2),
        (5, "J", 1, 16), (5, "J", 1, 17), (5, "J", 82, 1),
        (8, "J", 4, 16), (8, "J", 4, 17), (8, "J", 8, 17), (8, "J", 10, 16), (8, "J", 315, 3),
        (10, "J", 10, 17), (10, "J", 45, 2),
        (20, "J", 1, 1), (22, "J", 81, 1),
        (30, "J", 21, 2),
        (39, "J", 82, 1),
        (40, "J", 6, 1), (40, "J", 8, 1), (40, "J", 300, 23),
        (42, "J", 23, 2), (43, "J", 10, 1), (50, "J", 45, 2), (60, "J", 1, 1),
    ]  # fmt: skip
    assert [row for row in log_of(of, 20.0) if 4 <= row[2] <= 6] == [
        (8, "J", 4, 16),
        (8, "J", 4, 17),
        (40, "J", 5, 1),
    ]
    assert (40, "J", 6, 1) in log_of(history("0R 1G 40Y 43R", "39+"))
    assert (91, "J", 5, 1) in log_of(history("0R 1G 91Y 94R", "39+"))  # 90 s, unless told otherwise


@pytest.mark.parametrize(("end", "told"), [(22.25, 5), (22.75, 6), (29.0, 12)])
def test_a_split_is_told_in_whole_seconds_of_green_and_yellow(end, told):
    log = log_of(history(f"0R 20G {end}Y {end + 3}R"))
    assert [(row[0], row[3]) for row in log if row[2] == 300] == [(end, told)]


times = st.lists(st.integers(0, 4000), unique=True, min_size=1, max_size=30).map(sorted)


@settings(deadline=None, max_examples=60)
@given(times, times, st.integers(0, 2), st.integers(1, 15))
def test_a_log_that_is_read_back_tells_the_same(changes, actuations, first, group):
    """Red, green, yellow in turn, from any of them on."""
    key, at = ("J", group), np.array(changes) / 10.0
    colours = np.array([(R, G, Y)[(first + k) % 3] for k in range(len(at))], np.float64)
    on = np.array(actuations) / 10.0
    of = History({key: (at, colours)}, {key: (on, np.array([1.0, 0.0] * len(on))[: len(on)])})
    back = logged(log_of(of), {("J", group + 1): group + 1})
    assert lists(back.colours) == lists(of.colours)
    assert lists(back.detectors) == lists(of.detectors)
    if back.ended:
        assert ends(greens(back, key)) == ends(greens(of, key))


changes = st.lists(st.tuples(st.integers(0, 300), st.sampled_from([R, Y, P, G])), max_size=25).map(
    lambda rows: sorted(dict(rows).items())
)


@settings(deadline=None, max_examples=150)
@given(st.lists(changes, min_size=4, max_size=4), st.lists(changes, min_size=3, max_size=3))
def test_a_log_in_order_of_time_is_that_of_its_groups_one_after_the_other(colours, actuations):
    """Of two phases, a crossing and a group beyond the phases; also a yellow of minutes."""
    keys = [("J", 0), ("K", 3), ("J", 1), ("J", 16)]

    def table(rows, of=float):
        at, value = np.array(rows, np.float64).reshape(-1, 2).T
        return at / 2.0, np.array([of(v) for v in value])

    of = History(
        {key: table(rows) for key, rows in zip(keys, colours, strict=True) if rows},
        {key: table(rows, lambda v: v % 2) for key, rows in zip(keys, actuations, strict=False)},
        frozenset({("J", 1)}),
    )
    assert log_of(of) == log_by_groups(of)


def test_what_is_held_of_a_log_does_not_grow_with_it():
    """Of fifty groups, one of which stays yellow for good; ten times as many events."""

    def run(cycles):
        for k in range(cycles):
            for g in range(50):
                yield (10.0 * k, False, "J", g, k % 2)
            for g in range(50):
                yield (10.0 * k, True, "J", g, (R, G, Y, R)[min(k, 2) if g == 0 else (k + g) % 4])

    def held(cycles):
        tracemalloc.start()
        try:
            count = sum(1 for _ in event_log.log_of(run(cycles), frozenset()))
            return count, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, most_of_few = held(60)
    many, most_of_many = held(600)
    assert many > 9 * few > 30_000
    assert most_of_many < 1.2 * most_of_few


# from the database


@pytest.fixture(scope="module")
def record(new_record, tmp_path_factory):
    folder = tmp_path_factory.mktemp("record")
    database = open_database(folder, new_record())
    intake = Intake(database, folder)
    runs = [intake.begin_run(key, "cologne1", "planner", 1) for key in ("one", "two")]
    one, two = runs
    intake.write("signal_state", [(one, t, j, g, c) for t, j, g, c in [
        (43.5, "J", 0, R), (0.0, "J", 0, R), (20.0, "J", 0, G), (40.0, "J", 0, Y), (0.0, "J", 1, P),
        (5.0, "K", 0, Y), (-1.0, "J", 1, R)]])  # fmt: skip
    intake.write("signal_state", [(two, 7.0, "J", 0, G)])
    intake.write(
        "detector_state",
        [
            (one, 22.0, "J", 0, False),
            (one, 5.0, "J", 0, True),
            (one, 6.0, "K", 0, True),
            (two, 9.0, "J", 0, True),
        ],
    )
    intake.write("crossing", [(one, "K", 0), (two, "J", 0)])
    database.execute("UPDATE run SET begun_at = '2026-03-01T17:30:00Z' WHERE id = :id", id=one)
    yield database, one, two
    database.close()


def test_a_recorded_run_is_read_in_order(record):
    database, one, two = record
    found = highres.recorded(database, one)
    assert lists(found.colours) == {
        ("J", 0): ([0, 20, 40, 43.5], [R, G, Y, R]),
        ("J", 1): ([-1, 0], [R, P]),
        ("K", 0): ([5], [Y]),
    }
    assert lists(found.detectors) == {("J", 0): ([5, 22], [1, 0]), ("K", 0): ([6], [1])}
    assert (found.crossings, found.ended) == ({("K", 0)}, {})
    assert all(
        x.dtype == np.float64
        for of in (found.colours, found.detectors)
        for pair in of.values()
        for x in pair
    )
    assert lists(highres.recorded(database, two).colours) == {("J", 0): ([7], [G])}
    assert highres.recorded(database, two + 1) == History({}, {})


def test_a_part_of_a_recorded_run_has_an_hour_around_it_and_what_was_before(record, monkeypatch):
    """Here of 2 s: from 18 s on, and the last rows before."""
    database, one, _ = record
    monkeypatch.setattr(highres, "CONTEXT_S", 2.0)
    found = highres.recorded(database, one, "J", 20.0, 38.5)
    assert lists(found.colours) == {("J", 0): ([0, 20, 40], [R, G, Y]), ("J", 1): ([0], [P])}
    assert lists(found.detectors) == {("J", 0): ([5, 22], [1, 0])}
    assert (found.begin_s, found.end_s, found.first_s, found.last_s) == (20.0, 38.5, -1.0, 43.5)
    assert found.shown() == [("J", 0), ("J", 1)]
    assert found.within(np.array([19.0, 20.0, 38.0, 38.5])).tolist() == [False, True, True, False]
    assert highres.recorded(database, one, "J", 50.0, 60.0).shown() == []
    assert highres.recorded(database, one, "J", -9.0, -1.0).shown() == []


def test_the_log_of_a_run_has_the_streets_clock_on_the_day_of_the_run(record):
    database, one, two = record
    day = datetime(2026, 3, 1, tzinfo=UTC)
    log = list(event_log.high_resolution(database, one))
    whole = log_by_groups(highres.recorded(database, one))
    assert [(r["at_s"], r["device"], r["event"], r["parameter"]) for r in log] == whole
    assert [r["timestamp"] for r in log] == [day + timedelta(seconds=r["at_s"]) for r in log]
    assert log[-1] == {
        "timestamp": day + timedelta(seconds=43.5),
        "at_s": 43.5,
        "device": "J",
        "event": 10,
        "parameter": 1,
    }
    assert list(event_log.high_resolution(database, one, 3)) == log[3:]
    assert list(event_log.high_resolution(database, two + 1)) == []


def test_a_run_is_read_in_parts_that_are_bounded(record, monkeypatch):
    database, one, _ = record
    whole, held = list(event_log.changes_of(database, one)), []
    assert [c[0] for c in whole] == [-1.0, 0.0, 0.0, 5.0, 5.0, 6.0, 20.0, 22.0, 40.0, 43.5]
    monkeypatch.setattr(event_log, "MOST_READ", 3)
    ask = type(database).rows

    def counted(self, query, **values):
        found = ask(self, query, **values)
        held.append(len(found))
        return found

    monkeypatch.setattr(type(database), "rows", counted)
    assert list(event_log.changes_of(database, one)) == whole
    assert max(held) == 3  # of those one is too many: asked again for less
    assert len(held) > 5


def test_a_run_is_exported_as_two_tables(record, tmp_path):
    database, one, two = record
    events, detectors = tmp_path / "e.csv", tmp_path / "d.csv"
    assert event_log.export(database, one, events, detectors) == 11
    lines = events.read_bytes().decode().split("\r\n")
    assert lines == [
        "TimeStamp,DeviceId,EventId,Parameter", "2026-02-28 23:59:59.000,J,10,2",
        "2026-03-01 00:00:00.000,J,1,2", "2026-03-01 00:00:00.000,J,10,1",
        "2026-03-01 00:00:05.000,J,82,1", "2026-03-01 00:00:06.000,K,45,1",
        "2026-03-01 00:00:20.000,J,1,1", "2026-03-01 00:00:22.000,J,81,1",
        "2026-03-01 00:00:40.000,J,4,1", "2026-03-01 00:00:40.000,J,8,1",
        "2026-03-01 00:00:40.000,J,300,24", "2026-03-01 00:00:43.500,J,10,1", "",
    ]  # fmt: skip
    assert detectors.read_text().split() == [
        "DeviceId,Phase,Parameter,Function",
        "J,1,1,Presence",
        "J,1,1,Advance",
        "J,1,1,Yellow_Red",
    ]
    assert event_log.export(database, two + 1, events, detectors) == 0
    assert events.read_text() == "TimeStamp,DeviceId,EventId,Parameter\n"


def test_a_history_is_not_changed_nor_what_was_found_in_it():
    of = history("0R 20G 40Y 43R")
    for value, name in ((of, "colours"), (greens(of, KEY), "why")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, {})
