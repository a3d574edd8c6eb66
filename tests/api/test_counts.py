"""What cameras count is rows of the record, read by intervals of 5 and 15 minutes over HTTP."""

from __future__ import annotations

import csv
import io
import random
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from headway.analytics import lists
from headway.service.camera_counts import CameraCounts, CountedCrossing
from headway.store import Intake
from headway.store.upkeep import vacuum
from tests.api.service import pages, serving

TEN = datetime(2026, 9, 8, 10, tzinfo=UTC).timestamp()
COUNTS = "/api/v1/counts"


@pytest.fixture(scope="module")
def raw():
    """Crossings of an hour of two cameras, the second of which sees half of it."""
    draw = random.Random(3)
    return [
        (
            camera,
            CountedCrossing(
                TEN + draw.uniform(0.0, lasts_s),
                draw.choice(["stop", "exit"]),
                "in",
                draw.choice(["car", "car", "bus"]),
                draw.choice([float("nan"), 5.0, 10.0]),
            ),
        )
        for camera, lasts_s in (("north", 3600.0), ("south", 1800.0))
        for _ in range(300)
    ]


@pytest.fixture(scope="module")
def served(tmp_path_factory, new_record, raw):
    with serving(tmp_path_factory.mktemp("counts"), url=new_record()) as running:
        rows = []
        counts = CameraCounts(rows.append)
        for camera, lasts_s in (("north", 3600), ("south", 1800)):
            crossings = sorted(one for name, one in raw if name == camera)
            for second in range(lasts_s + 1):
                now = TEN + second
                due = [one for one in crossings if now - 1 < one.at_s <= now]
                counts.add(camera, now, ["stop", "exit"], due)
        counts.flush_all()
        outcome = running.app.state.services.intake.write("camera_count", rows)
        assert (outcome.stored, outcome.duplicates) == (len(rows), 0)
        yield running


@pytest.fixture
def client(served):
    with served.client("viewer") as found:
        yield found


def expected(raw, minutes, by_class, camera=None):
    """(begin, camera, line, class) -> (n, mean speed), of the crossings themselves."""
    n, speeds = Counter(), defaultdict(list)
    for name, one in raw:
        if camera in (None, name):
            over = (one.at_s - TEN) // (60 * minutes) * minutes
            begin = datetime.fromtimestamp(TEN, UTC) + timedelta(minutes=over)
            key = (begin, name, one.line, one.kind if by_class else "")
            n[key] += 1
            if one.speed_mps == one.speed_mps:
                speeds[key].append(one.speed_mps)
    return {
        key: (count, sum(speeds[key]) / len(speeds[key]) if speeds[key] else None)
        for key, count in n.items()
    }


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("minutes", [5, 15])
def test_counts_flows_and_speeds_are_those_of_the_raw_crossings(client, raw, minutes, by_class):
    found = pages(client, COUNTS, interval_min=minutes, by_class=by_class, limit=17)
    crossed = [row for row in found if row["n"]]
    assert {row["direction"] for row in crossed} == {"in"}
    read = {
        (datetime.fromisoformat(r["begin"]), r["camera"], r["line"], r["kind"]): (
            r["n"],
            r["mean_speed_mps"] and pytest.approx(r["mean_speed_mps"]),
        )
        for r in crossed
    }
    assert read == expected(raw, minutes, by_class)
    assert len(read) == len(crossed)
    last = TEN + 3600.0  # one frame of the next interval
    for row in crossed:
        if datetime.fromisoformat(row["begin"]).timestamp() < last:
            assert row["observed_s"] == pytest.approx(60.0 * minutes)
            assert row["flow_veh_h"] == pytest.approx(row["n"] * 60 / minutes)
    if not by_class:
        still = [row for row in found if row["direction"] == "out"]
        assert {row["n"] for row in still} == {0}
        assert any(row["flow_veh_h"] == 0.0 for row in still)  # it was looked at
        assert any(row["flow_veh_h"] is None for row in still)  # for less than a second


def test_counts_are_filtered_by_camera_line_and_time(client, raw):
    window = {"begin": "2026-09-08T10:05:00Z", "end": "2026-09-08T10:30:00Z"}
    query = {"camera": "south", "line": "stop", "interval_min": 15, "by_class": True}
    found = pages(client, COUNTS, **query, **window)
    begin = datetime(2026, 9, 8, 10, 15, tzinfo=UTC)  # the only whole one that begins in it
    of_all = expected(raw, 15, by_class=True, camera="south")
    assert {row["kind"]: row["n"] for row in found} == {
        kind: n for (at, _, line, kind), (n, _) in of_all.items() if (at, line) == (begin, "stop")
    }
    assert {(row["camera"], row["line"], row["begin"]) for row in found} == {
        ("south", "stop", "2026-09-08T10:15:00Z")
    }


@pytest.fixture(scope="module")
def of_days(database, tmp_path_factory):
    """Rows of two cameras over a night and the end of summer time in Europe, some in two parts."""
    draw = random.Random(5)
    begin = datetime(2026, 10, 24, 21, 50, tzinfo=UTC)
    rows = [
        (camera, at.isoformat(), (at + timedelta(seconds=part)).isoformat(), "l", "in", kind, *sums)
        for at in (begin + timedelta(minutes=5 * k) for k in range(60))
        for camera in ("north", "south")
        for part in range(draw.choice([0, 1, 1, 2]))
        for kind, sums in [
            ("", (0, draw.uniform(0.0, 150.0), 0, 0.0)),
            *((kind, (draw.randint(1, 9), 0.0, 1, 8.0)) for kind in ("bus", "car")),
        ]
    ]
    assert Intake(database, tmp_path_factory.mktemp("i")).write("camera_count", rows).stored
    return rows


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("minutes", [5, 15])
@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_pages_over_days_are_the_sums_of_their_rows(
    database, of_days, monkeypatch, minutes, by_class, limit
):
    """Few rows are looked at ahead, so that it takes several times as many."""
    monkeypatch.setattr(lists, "ROWS_AHEAD", 1)
    n, observed_s = Counter(), Counter()
    for camera, at, _, _, _, kind, count, seconds, _, _ in of_days:
        over = datetime.fromisoformat(at).timestamp() // (60 * minutes) * 60 * minutes
        begin = datetime.fromtimestamp(over, UTC)
        n[begin, camera, kind if by_class else ""] += count
        observed_s[begin, camera] += seconds
    listing = lists.counts(database, lists.CountFilter(60 * minutes, by_class))
    found, after = [], ()
    while after is not None:
        page = listing.page(after, limit)
        found += page.items
        after = page.after
    assert page.total == len(found)
    read = [(row["begin"], row["camera"], row["kind"]) for row in found]
    assert read == sorted(key for key in n if key[2] or not by_class)
    for key, row in zip(read, found, strict=True):
        assert (row["n"], row["observed_s"]) == (n[key], pytest.approx(observed_s[key[:2]]))


def test_a_page_of_counts_sums_what_it_gives_and_not_all_that_follow(
    database, of_days, monkeypatch
):
    ask, read = database.rows, []

    def explained(query, **values):
        (plan,) = ask(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", **values)
        read.extend(re.findall(r"'Node Type': '[^']*Scan'.*?'Actual Rows': (\d+)", str(plan)))
        return ask(query, **values)

    vacuum(database)
    monkeypatch.setattr(database, "rows", explained)
    listing = lists.counts(database, lists.CountFilter(300))
    first = listing.fetch((), 1)
    assert listing.fetch((first[0]["begin"], "north", "l", "in", ""), 1)
    assert max(map(int, read)) <= 25


def test_counts_are_exported_and_what_is_no_query_is_refused(client, served, raw):
    answer = client.get("/api/v1/export/counts?interval_min=5&by_class=true")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert sum(int(row["n"]) for row in rows) == len(raw)
    for words in ({"interval_min": 7}, {"camera": "a b"}, {"begin": "now"}, {"cursor": "x"}):
        assert client.get(COUNTS, params=words).status_code == 422
    far = {"begin": "9999-12-31T23:59:59Z", "end": "9999-12-31T23:59:59.9Z"}
    assert client.get(COUNTS, params=far).json()["total"] == 0
    with served.client(None) as nobody:
        assert nobody.get(COUNTS).status_code == 401


def test_pages_go_on_after_a_line_with_a_long_name_in_any_script(tmp_path, new_record):
    """The cursor was longer than a cursor may be: the second page was refused (422)."""
    at, camera = datetime.fromtimestamp(TEN, UTC).isoformat(), "c" * 64
    names = [letter + "路" * 63 for letter in "ab"]
    rows = [(camera, at, at, name, "in", "car", 1, 5.0, 1, 300.0) for name in names]
    with serving(tmp_path, url=new_record()) as running, running.client("viewer") as client:
        running.app.state.services.intake.write("camera_count", rows)
        assert [one["line"] for one in pages(client, COUNTS, limit=1)] == names
