"""Records of a clock that is wrong are refused one by one; the others of their batch are taken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from headway.api import ingest
from tests.api.service import record, serving

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


def at(moment, simulation="TIMES", junction="INT_1"):
    return record(simulation, junction=junction) | {"timestamp": moment.isoformat()}


@pytest.fixture
def clock(monkeypatch):
    """The server's clock stands at NOW."""

    class Clock:
        @staticmethod
        def time():
            return NOW.timestamp()

    monkeypatch.setattr(ingest, "time", Clock)


@pytest.mark.parametrize(
    ("moment", "status"),
    [
        (NOW + timedelta(seconds=300), 201),
        (NOW + timedelta(seconds=300.001), 422),
        (NOW - timedelta(days=3653), 201),
        (NOW - timedelta(days=3653, seconds=0.001), 422),
        # the same moment by another offset
        ((NOW + timedelta(seconds=299)).astimezone(timezone(timedelta(hours=14))), 201),
        ((NOW + timedelta(seconds=301)).astimezone(timezone(timedelta(hours=-20))), 422),
        (datetime(2099, 1, 1, tzinfo=UTC), 422),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), 422),
        (datetime(1, 1, 2, tzinfo=UTC), 422),
    ],
)
def test_a_record_s_time_is_between_its_bounds(service, clock, moment, status):
    with service.client("operator") as client:
        answer = client.post("/api/v1/ingest/simulation", json=at(moment))
    assert answer.status_code == status, answer.text
    if status == 422:
        (fault,) = answer.json()["faults"]
        assert fault["pointer"] == "/timestamp"
        assert "3653 days (api.oldest_days)" in fault["message"]
        assert "300 s ahead" in fault["message"]


def test_in_a_batch_each_wrong_time_is_named_and_the_others_are_stored(service, clock):
    rows = [at(NOW - timedelta(seconds=k), "MIXED") for k in range(6)]
    rows[1] = at(datetime(2099, 1, 1, tzinfo=UTC), "MIXED")
    rows[3]["metrics"]["avg_speed"] = -1.0
    rows[4] = at(datetime(1900, 1, 1, tzinfo=UTC), "MIXED")
    with service.client("operator") as client:
        answer = client.post("/api/v1/ingest/batch", json=rows)
    assert answer.status_code == 207
    told = answer.json()
    assert (told["stored"], [r["index"] for r in told["rejected"]]) == (3, [1, 3, 4])
    assert told["rejected"][2]["faults"][0]["pointer"] == "/4/timestamp"
    with service.client("operator") as client:
        none = client.post("/api/v1/ingest/batch", json=[rows[1], rows[4]])
    assert none.status_code == 422
    assert [f["pointer"] for f in none.json()["faults"]] == ["/0/timestamp", "/1/timestamp"]


def test_the_bounds_are_settings(tmp_path, new_record, clock):
    with (
        serving(tmp_path, url=new_record(), oldest_days=1.0, ahead_s=0.0) as running,
        running.client("operator") as client,
    ):
        for seconds, status in ((0, 201), (1, 422), (-86400, 201), (-86401, 422)):
            row = at(NOW + timedelta(seconds=seconds))
            assert client.post("/api/v1/ingest/simulation", json=row).status_code == status
