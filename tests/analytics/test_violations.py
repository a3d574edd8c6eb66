"""Sums of violations against the violations themselves, over any window,
through batches and erasure.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.analytics import violations as asked
from headway.analytics.violations import Span
from headway.store import Intake, open_database

BEGIN = datetime(2026, 3, 1, 5, 30, tzinfo=UTC)
ROWS = [
    (
        str(uuid.UUID(int=k)),
        BEGIN + timedelta(minutes=37 * k),
        f"d{k % 3}",
        ("speeding", "red_light")[k % 5 == 0],
        0.9,
        "{}",
        "s",
    )
    for k in range(400)
]


@pytest.fixture(scope="module")
def new(new_record, tmp_path_factory):
    """Makes records that hold some violations.
    Their server's clock is India's, half an hour off any hour of UTC.
    """
    opened = []

    def make(rows, batch=1000):
        address, folder = new_record(), tmp_path_factory.mktemp("violations")
        with psycopg.connect(address, autocommit=True) as held:
            held.execute(f"ALTER DATABASE {held.info.dbname} SET timezone = 'Asia/Kolkata'")
        opened.append(open_database(folder, address))
        intake = Intake(opened[-1], folder)
        for k in range(0, len(rows), batch):
            intake.write(
                "violation", [(r[0], r[1].isoformat(), *r[2:]) for r in rows[k : k + batch]]
            )
        return opened[-1], intake

    yield make
    for database in opened:
        database.close()


@pytest.fixture(scope="module")
def record(new):
    database, intake = new(ROWS, 70)
    intake.write("violation", [(r[0], r[1].isoformat(), *r[2:]) for r in ROWS[:50]])  # told twice
    return database


times = st.none() | st.integers(-1200, 16200).map(
    lambda minutes: BEGIN.replace(minute=0) + timedelta(minutes=minutes)
)


@settings(deadline=None, max_examples=40)
@given(
    begin=times,
    end=times,
    device=st.sampled_from([None, "d1"]),
    rule=st.sampled_from([None, "red_light"]),
)
def test_every_window_adds_up(record, begin, end, device, rule):
    def within(row):
        return (
            (begin is None or row[1] >= begin)
            and (end is None or row[1] < end)
            and device in (None, row[2])
            and rule in (None, row[3])
        )

    chosen = [r for r in ROWS if within(r)]
    span = Span(device, rule, begin, end)
    assert asked.trends(record, span).n == len(chosen)
    summary = asked.summary(record, span)
    assert (summary.n, summary.devices) == (len(chosen), len({r[2] for r in chosen}))
    assert summary.rules == Counter(r[3] for r in chosen)
    if begin is not None and end is not None:
        hours = max((end - begin).total_seconds() / 3600, 1 / 60)
        assert summary.per_hour == pytest.approx(len(chosen) / hours)
    assert {s.device: s.n for s in asked.hotspots(record, span)} == Counter(r[2] for r in chosen)
    assert sum(asked.trends(record, span).by_hour_of_day) == len(chosen)


def test_what_is_taken_away_is_not_counted_any_more(new):
    database, intake = new(ROWS)
    intake.write("violation_picture", [(ROWS[0][0], 0, 1.0, "\\x00ff")])
    assert asked.image(database, ROWS[0][0], 0) == b"\x00\xff"
    database.execute("DELETE FROM violation WHERE device = 'd0'")
    assert asked.image(database, ROWS[0][0], 0) is None
    left = [r for r in ROWS if r[2] != "d0"]
    assert asked.summary(database, Span()).n == asked.trends(database, Span()).n == len(left)
    assert {s.device for s in asked.hotspots(database, Span())} == {"d1", "d2"}
    assert [v["id"] for v in asked.newest(database, Span(), 2)] == [
        r[0] for r in sorted(left, key=lambda r: r[1], reverse=True)[:2]
    ]
    database.execute("DELETE FROM violation")
    assert (
        database.rows("SELECT * FROM violation_hour")
        == database.rows("SELECT * FROM violation_day")
        == []
    )
    assert asked.trends(database, Span()) == asked.Trend(0, [], [0] * 24)
    assert asked.hotspots(database, Span()) == asked.newest(database, Span()) == []
    assert asked.summary(database, Span()) == asked.ViolationSummary(0, 0, {}, None, None, None)


def at(day, hour, minute=0):
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


def violation(number, when, device, rule="speeding"):
    return (
        str(uuid.UUID(int=number)),
        when,
        device,
        rule,
        0.5 + number / 100,
        f'{{"n": {number}}}',
        f"seal {number}",
    )


HAND = [
    violation(1, at(1, 23, 59), "b", "red_light"),
    violation(2, at(2, 0, 0), "b"),
    violation(3, at(2, 0, 59), "b"),
    violation(4, at(2, 0, 30), "a"),
    violation(5, at(2, 7, 15), "a", "red_light"),
    violation(6, at(3, 7, 15), "b"),
    violation(7, at(3, 7, 45), "c"),
    violation(8, at(3, 9, 0), "c"),
]


@pytest.fixture(scope="module")
def hand(new):
    database, intake = new(HAND)
    intake.write(
        "violation_picture",
        [(HAND[4][0], k, at_s, f"\\x0{k}") for k, at_s in ((2, 1.5), (0, -1.0), (1, 0.25))],
    )
    return database


def test_trends_by_hour_and_by_hour_of_the_day(hand):
    found = asked.trends(hand, Span())
    assert found.hours == [
        {"hour": at(1, 23), "n": 1, "rules": {"red_light": 1}},
        {"hour": at(2, 0), "n": 3, "rules": {"speeding": 3}},
        {"hour": at(2, 7), "n": 1, "rules": {"red_light": 1}},
        {"hour": at(3, 7), "n": 2, "rules": {"speeding": 2}},
        {"hour": at(3, 9), "n": 1, "rules": {"speeding": 1}},
    ]
    assert (found.n, found.by_hour_of_day) == (8, [3, 0, 0, 0, 0, 0, 0, 3, 0, 1, *[0] * 13, 1])
    found = asked.trends(hand, Span("b"))
    assert [(h["hour"], h["n"], h["rules"]) for h in found.hours] == [
        (at(1, 23), 1, {"red_light": 1}), (at(2, 0), 2, {"speeding": 2}),
        (at(3, 7), 1, {"speeding": 1}),
    ]  # fmt: skip
    assert asked.trends(hand, Span(rule="red_light")).n == 2
    assert [h["hour"] for h in asked.trends(hand, Span(begin=at(2, 0), end=at(3, 7))).hours] == [
        at(2, 0),
        at(2, 7),
    ]
    found = asked.trends(hand, Span(begin=at(2, 0, 1), end=at(3, 7, 16)))  # to the minute
    assert [(h["hour"], h["n"]) for h in found.hours] == [
        (at(2, 0), 2),
        (at(2, 7), 1),
        (at(3, 7), 1),
    ]


def test_a_window_within_an_hour(hand):
    """30 minutes with two violations are four an hour; before, they were none."""
    half = Span(begin=at(2, 0, 30), end=at(2, 1))
    assert asked.trends(hand, half).n == 2
    assert asked.summary(hand, half) == asked.ViolationSummary(
        2, 2, {"speeding": 2}, at(2, 0), at(2, 0), 4.0
    )
    assert [(s.device, s.n) for s in asked.hotspots(hand, half)] == [("a", 1), ("b", 1)]
    assert asked.summary(hand, Span("b", begin=at(2, 0, 58))).n == 2
    for empty in (Span(begin=at(2, 0, 31), end=at(2, 0, 59)), Span(begin=at(2, 1), end=at(2, 0))):
        assert (asked.trends(hand, empty).n, asked.summary(hand, empty).n) == (0, 0)


def test_a_window_at_the_ends_of_time(hand):
    far = Span(begin=datetime.min.replace(tzinfo=UTC), end=datetime.max.replace(tzinfo=UTC))
    assert asked.trends(hand, far).n == asked.summary(hand, far).n == 8


def test_one_hour_with_two_rules(new):
    database, _ = new(
        [violation(k, at(1, 5, k), "a", rule) for k, rule in enumerate(("x", "y", "x"), 1)]
    )
    assert (
        asked.trends(database, Span()).hours
        == asked.trends(database, Span("a")).hours
        == [{"hour": at(1, 5), "n": 3, "rules": {"x": 2, "y": 1}}]
    )


def test_hotspots_are_told_most_violations_first(hand):
    """b has 2 in hour 0 and 1 in 7 and 23; a 1 in 0 and in 7, the earlier counts;
    c 1 in 7 and in 9.
    """
    whole = [
        asked.Hotspot("b", 4, 0.5, {"red_light": 1, "speeding": 3}, 0),
        asked.Hotspot("a", 2, 0.25, {"red_light": 1, "speeding": 1}, 0),
        asked.Hotspot("c", 2, 0.25, {"speeding": 2}, 7),
    ]
    assert asked.hotspots(hand, Span()) == whole
    assert asked.hotspots(hand, Span(), 2) == whole[:2]
    assert asked.hotspots(hand, Span("b", "red_light")) == [
        asked.Hotspot("b", 1, 1.0, {"red_light": 1}, 23)
    ]
    day = asked.hotspots(
        hand, Span(begin=at(3, 0), end=at(4, 0))
    )  # the busiest hour is of all time
    assert day == [
        asked.Hotspot("c", 2, 2 / 3, {"speeding": 2}, 7),
        asked.Hotspot("b", 1, 1 / 3, {"speeding": 1}, 0),
    ]


def test_a_device_whose_first_violation_comes_meanwhile_is_a_hotspot_next_time(hand, monkeypatch):
    """Between the two questions that hotspots are made of."""
    count, known = asked._counted, asked.hotspots(hand, Span())
    since = {"device": "new", "rule": "red_light", "n": 7}
    monkeypatch.setattr(asked, "_counted", lambda *of: [*count(*of), since])
    assert asked.hotspots(hand, Span()) == known


def test_twenty_hotspots_are_told_and_a_hundred_violations(new):
    database, _ = new(
        [violation(k, at(1, 0) + timedelta(minutes=k), f"d{k % 21:02d}") for k in range(101)]
    )
    assert [s.device for s in asked.hotspots(database, Span())] == [f"d{k:02d}" for k in range(20)]
    assert [v["data"]["n"] for v in asked.newest(database, Span())] == list(range(100, 0, -1))


def test_a_summary_by_hand(hand):
    """8 violations from 23 h on the 1st to 9 h on the 3rd: 35 hours."""
    rules = {"red_light": 2, "speeding": 6}
    assert asked.summary(hand, Span()) == asked.ViolationSummary(
        8, 3, rules, at(1, 23), at(3, 9), pytest.approx(8 / 35)
    )
    assert list(asked.summary(hand, Span()).rules) == ["red_light", "speeding"]
    assert asked.summary(hand, Span("a")) == asked.ViolationSummary(
        2, 1, {"red_light": 1, "speeding": 1}, at(2, 0), at(2, 7), 0.25
    )
    assert asked.summary(hand, Span(begin=at(2, 0), end=at(2, 1))) == asked.ViolationSummary(
        3, 2, {"speeding": 3}, at(2, 0), at(2, 0), 3.0
    )


def test_violations_are_told_newest_first_with_the_times_of_their_images(hand):
    found = asked.newest(hand, Span())
    assert [v["data"]["n"] for v in found] == [8, 7, 6, 5, 3, 4, 2, 1]
    assert found[3] == {
        "id": HAND[4][0], "at": at(2, 7, 15), "device": "a", "rule": "red_light",
        "confidence": 0.55, "data": {"n": 5}, "seal": "seal 5",
        "state": "open", "reviewed_by": None, "reviewed_at": None, "note": "",
        "images": [-1.0, 0.25, 1.5], "pictures": [-1.0, 0.25, 1.5],
    }  # fmt: skip
    assert found[0]["images"] == found[0]["pictures"] == []

    def numbers(*how):
        return [v["data"]["n"] for v in asked.newest(hand, *how)]

    assert (numbers(Span(), 2), numbers(Span(), 2, 3), numbers(Span("b"))) == (
        [8, 7],
        [5, 3],
        [6, 3, 2, 1],
    )
    assert numbers(Span(rule="speeding", begin=at(2, 0), end=at(3, 7, 45))) == [6, 3, 4, 2]
    assert numbers(Span(begin=at(2, 0, 1), end=at(3, 7, 46))) == [7, 6, 5, 3, 4]


def test_those_of_one_instant_are_told_in_the_order_of_their_numbers(new):
    database, _ = new([violation(k, at(1, 5), "a") for k in (3, 1, 2)])
    assert [v["data"]["n"] for v in asked.newest(database, Span())] == [1, 2, 3]


def test_a_picture_is_asked_for_by_its_number(hand):
    assert [asked.image(hand, HAND[4][0], k) for k in range(4)] == [b"\0", b"\1", b"\2", None]
    assert asked.image(hand, HAND[5][0], 0) is None


def test_an_answer_is_not_changed_nor_a_question(hand):
    whole = Span()
    for value in (
        whole,
        asked.trends(hand, whole),
        asked.hotspots(hand, whole)[0],
        asked.summary(hand, whole),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, None)


def test_a_candidate_is_confirmed_dismissed_and_opened_again(new):
    database, intake = new(HAND[:3])
    number = HAND[1][0]
    found = asked.review(database, number, "dismissed", "anna", "it was a shadow")
    assert (found.id, found.state, found.reviewed_by, found.note) == (
        number, "dismissed", "anna", "it was a shadow"
    )  # fmt: skip
    intake.write("violation", [(r[0], r[1].isoformat(), *r[2:]) for r in HAND[:3]])  # sent again
    assert {v["data"]["n"]: v["state"] for v in asked.newest(database, Span())} == {
        1: "open", 2: "dismissed", 3: "open",
    }  # fmt: skip
    assert [v["data"]["n"] for v in asked.newest(database, Span(), state="open")] == [3, 1]
    assert asked.review(database, number, "open", "bert").reviewed_by == "bert"
    assert asked.review(database, str(uuid.UUID(int=77)), "confirmed", "anna") is None


def test_no_candidate_is_surer_than_nine_tenths(new):
    database, _ = new([(*violation(1, at(1, 5), "a")[:4], 0.999, "{}", "of before")])
    assert asked.newest(database, Span())[0]["confidence"] == 0.9
