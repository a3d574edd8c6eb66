"""Crossings by intervals of the clock, against the raw crossings themselves."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, defaultdict
from datetime import UTC, datetime

import pytest

from headway.service.camera_counts import CameraCounts, CountedCrossing

TEN = 1_788_861_600.0  # 2026-09-08 10:00:00 UTC
LINES = ["stop", "exit"]


@pytest.fixture
def rows():
    return []


@pytest.fixture
def counts(rows):
    return CameraCounts(rows.append)


def crossing(at_s, line="stop", direction="in", kind="car", speed_mps=10.0):
    return CountedCrossing(at_s, line, direction, kind, speed_mps)


def interval_of(row):
    return datetime.fromisoformat(row[1]).strftime("%H:%M")


def counted(rows):
    """Rows with a class: (interval, line, direction, class) -> n."""
    found = Counter()
    for row in rows:
        if row[5]:
            found[interval_of(row), *row[3:6]] += row[6]
    return found


def test_an_interval_is_told_once_it_has_ended_and_late_crossings_can_come_no_more(rows, counts):
    counts.add("north", TEN + 299.0, LINES, [crossing(TEN + 298.9)])
    counts.add("north", TEN + 301.0, LINES, [crossing(TEN + 299.9), crossing(TEN + 300.0)])
    assert not rows
    counts.add("north", TEN + 309.9, LINES, [])
    assert not rows
    counts.add("north", TEN + 310.0, LINES, [])
    assert counted(rows) == {("10:00", "stop", "in", "car"): 2}
    counts.flush("north")
    assert counted(rows)["10:05", "stop", "in", "car"] == 1


def test_each_line_and_direction_says_how_long_it_was_observed_also_where_nothing_crossed(
    rows, counts
):
    for at_s in (280.0, 284.0, 299.0, 302.0, 303.5):  # 15 s without a frame are not observed
        counts.add("north", TEN + at_s, LINES, [])
    counts.flush("north")
    observed = {(interval_of(row), row[3], row[4]): row[7] for row in rows}
    assert observed == {
        (interval, line, direction): seconds
        for interval, seconds in (("10:00", 5.0), ("10:05", 3.5))
        for line in LINES
        for direction in ("in", "out")
    }
    assert all(row[5:7] == ("", 0) for row in rows)


def test_a_class_has_the_sum_of_the_speeds_that_are_known(rows, counts):
    speeds = (10.0, math.nan, 14.0, math.inf)
    counts.add("north", TEN, LINES, [crossing(TEN, speed_mps=speed) for speed in speeds])
    counts.flush("north")
    (row,) = (row for row in rows if row[5] == "car")
    assert row[6:] == (4, 0.0, 2, 24.0)


def test_parts_of_an_interval_have_keys_of_their_own_and_their_sum_is_the_interval(rows, counts):
    counts.add("north", TEN + 1, LINES, [crossing(TEN + 1)])
    counts.flush("north")
    counts.flush("north")  # nothing more
    counts.add("north", TEN + 2, LINES, [crossing(TEN + 2)])
    counts.add("north", TEN + 320, LINES, [])
    counts.add("north", TEN + 321, LINES, [crossing(TEN + 299)])  # later than may be
    counts.add("north", TEN + 5, LINES, [crossing(TEN + 5)])  # its clock was set back
    counts.add("south", TEN + 3, ["stop"], [crossing(TEN + 3)])
    counts.flush_all()
    assert len({row[:6] for row in rows}) == len(rows)
    of = Counter(row[0] for row in rows for _ in range(row[6]))
    assert of == {"north": 4, "south": 1}
    assert counted([row for row in rows if row[0] == "north"]) == {
        ("10:00", "stop", "in", "car"): 4
    }


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_the_raw_crossings(rows, counts, seed):
    draw = random.Random(seed)
    raw, frames = [], []
    now = TEN + draw.uniform(0.0, 300.0)
    for _ in range(3000):
        now += draw.choice([0.2, 0.2, 0.3, 1.0, 4.0, draw.uniform(0.0, 12.0)])
        found = [
            crossing(
                now - draw.uniform(0.0, 12.0),
                draw.choice(LINES),
                draw.choice(["in", "out"]),
                draw.choice(["car", "bus", "bicycle"]),
                draw.choice([math.nan, draw.uniform(0.0, 30.0)]),
            )
            for _ in range(draw.choice([0, 0, 0, 1, 2]))
        ]
        raw += found
        frames.append(now)
        counts.add("north", now, LINES, found)
        if draw.random() < 0.003:
            counts.flush("north")
            frames.append(None)
    counts.flush_all()

    assert len({row[:6] for row in rows}) == len(rows)
    expected = Counter()
    speeds = defaultdict(list)
    for one in raw:
        minute = datetime.fromtimestamp(one.at_s, UTC)
        begin = f"{minute:%H}:{minute.minute - minute.minute % 5:02d}"
        key = (begin, one.line, one.direction, one.kind)
        expected[key] += 1
        if not math.isnan(one.speed_mps):
            speeds[key].append(one.speed_mps)
    assert counted(rows) == expected
    totals = defaultdict(float)
    for row in rows:
        if row[8]:
            totals[interval_of(row), *row[3:6]] += row[9]
    assert totals == pytest.approx({key: sum(of) for key, of in speeds.items()})
    observed = sum(row[7] for row in rows if row[3:5] == ("stop", "in"))
    steps = [
        b - a
        for a, b in itertools.pairwise(frames)
        if a is not None and b is not None and b - a <= 5.0
    ]
    assert observed == pytest.approx(sum(steps))
