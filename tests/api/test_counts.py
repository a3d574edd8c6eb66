"""What cameras count is rows of the record, read by intervals of 5 and 15 minutes over HTTP."""

from __future__ import annotations

import csv
import io
import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from headway.service.camera_counts import CameraCounts, CountedCrossing
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
