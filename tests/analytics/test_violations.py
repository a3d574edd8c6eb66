"""Sums of violations against the violations themselves, over any window, through batches and erasure."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.analytics import violations as asked
from headway.analytics.violations import Span
from headway.store import Intake, open_database

BEGIN = datetime(2026, 3, 1, 5, 30, tzinfo=UTC)
ROWS = [
    (str(uuid.UUID(int=k)), BEGIN + timedelta(minutes=37 * k), f"d{k % 3}", ("speeding", "red_light")[k % 5 == 0], 0.9, "{}", "s") for k in range(400)
]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("violations")
    database = open_database(folder)
    intake = Intake(database, folder)
    for k in range(0, len(ROWS), 70):
        intake.write("violation", [(r[0], r[1].isoformat(), *r[2:]) for r in ROWS[k : k + 70]])
    intake.write("violation", [(r[0], r[1].isoformat(), *r[2:]) for r in ROWS[:50]])  # told twice
    yield database
    database.close()


hours = st.none() | st.integers(-10, 270).map(lambda h: BEGIN.replace(minute=0) + timedelta(hours=h))


@settings(deadline=None, max_examples=60)
@given(begin=hours, end=hours, device=st.sampled_from([None, "d1"]), rule=st.sampled_from([None, "red_light"]))
def test_every_window_adds_up(record, begin, end, device, rule):
    def within(row):
        hour = row[1].replace(minute=0)
        return (begin is None or hour >= begin) and (end is None or hour < end) and device in (None, row[2]) and rule in (None, row[3])

    chosen = [r for r in ROWS if within(r)]
    span = Span(device, rule, begin, end)
    assert asked.trends(record, span).n == len(chosen)
    summary = asked.summary(record, span)
    assert (summary.n, summary.devices) == (len(chosen), len({r[2] for r in chosen}))
    assert summary.rules == Counter(r[3] for r in chosen)
    assert {s.device: s.n for s in asked.hotspots(record, span)} == Counter(r[2] for r in chosen)
    assert sum(asked.trends(record, span).by_hour_of_day) == len(chosen)


def test_what_is_taken_away_is_not_counted_any_more(tmp_path):
    database = open_database(tmp_path)
    intake = Intake(database, tmp_path)
    intake.write("violation", [(r[0], r[1].isoformat(), *r[2:]) for r in ROWS])
    intake.write("violation_picture", [(ROWS[0][0], 0, 1.0, "\\x00ff")])
    assert asked.picture(database, ROWS[0][0], 0) == b"\x00\xff"
    database.execute("DELETE FROM violation WHERE device = 'd0'")
    assert asked.picture(database, ROWS[0][0], 0) is None
    left = [r for r in ROWS if r[2] != "d0"]
    assert asked.summary(database, Span()).n == asked.trends(database, Span()).n == len(left)
    assert {s.device for s in asked.hotspots(database, Span())} == {"d1", "d2"}
    assert [v["id"] for v in asked.newest(database, Span(), 2)] == [r[0] for r in sorted(left, key=lambda r: r[1], reverse=True)[:2]]
    database.execute("DELETE FROM violation")
    assert database.rows("SELECT * FROM violation_hour") == database.rows("SELECT * FROM violation_day") == []
    database.close()
