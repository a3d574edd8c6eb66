"""Records in and queries out, over HTTP, on a real database."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from tests.api.service import EXAMPLE, record


@pytest.fixture
def client(service):
    with service.client("admin") as found:
        yield found


def test_a_record_is_stored_once_however_often_it_is_sent(client):
    first, again = (client.post("/api/v1/ingest/simulation", json=record("ONCE")) for _ in range(2))
    assert (first.status_code, first.json()["stored"]) == (201, 1)
    assert (again.status_code, again.json()["duplicates"]) == (200, 1)
    assert client.get("/api/v1/analytics/simulation/ONCE/summary").json()["records"] == 1


@pytest.mark.parametrize("offset", ["+23:34", "-23:59", "+15:59"])
def test_a_time_with_any_offset_is_stored_as_the_moment_that_it_is(client, offset):
    """PostgreSQL itself refuses offsets of 16 hours and more."""
    name = f"OFFSET{offset[1:3]}{offset[4:]}"
    sent = record(name, timestamp=f"2025-09-01T12:00:00{offset}")
    assert client.post("/api/v1/ingest/simulation", json=sent).status_code == 201
    moment = datetime.fromisoformat(sent["timestamp"])

    def found(begin):
        ends = {"begin": begin.isoformat(), "end": (begin + timedelta(seconds=1)).isoformat()}
        return client.get("/api/v1/analytics/wait-times", params={"simulation_id": name, **ends})

    assert len(found(moment).json()) == 1
    assert found(moment - timedelta(seconds=1)).json() == []


def test_a_time_beyond_the_calendar_is_a_fault_of_its_record(client):
    answer = client.post(
        "/api/v1/ingest/simulation", json=record("FIRST", timestamp="0001-01-01T00:00:00+01:00")
    )
    assert answer.status_code == 422
    assert [f["pointer"] for f in answer.json()["faults"]] == ["/timestamp"]


def test_every_error_is_listed_with_its_place(client):
    bad = record("BAD", timestamp="yesterday", colour="blue")
    bad["signals"] = [EXAMPLE["signals"][0] | {"signal_status": "BLUE", "vehicles_crossed": -1}]
    answer = client.post("/api/v1/ingest/simulation", json=bad)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    pointers = {f["pointer"] for f in answer.json()["faults"]}
    assert pointers == {
        "/timestamp",
        "/colour",
        "/signals/0/signal_status",
        "/signals/0/vehicles_crossed",
    }


def test_names_that_the_database_rejects_are_a_client_error(client):
    bad = record("NUL")
    bad["signals"] = [EXAMPLE["signals"][0] | {"vehicle_counts": {"a\x00b": 1}}]
    answer = client.post("/api/v1/ingest/simulation", json=bad)
    assert answer.status_code == 422
    assert client.post("/api/v1/ingest/simulation%00", json=bad).status_code == 404


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"nul", b"\xff\xfe", b"[" * 5000, json.dumps([EXAMPLE] * 5001).encode()],
)
def test_malformed_batches_are_refused(client, body):
    answer = client.post("/api/v1/ingest/batch", content=body)
    assert answer.status_code == 422
    assert answer.json()["faults"]


def test_an_endless_body_is_cut_off(client):
    assert client.post("/api/v1/ingest/batch", content=b"[" + b" " * (9 << 20)).status_code == 413


def test_what_is_wrong_all_over_is_told_in_part(client):
    """Half a million faults, of a viewer or of a batch, stopped the service for 10 to 18 s."""
    wrong = {f"k{n}": n for n in range(4000)}
    told = client.post("/api/v1/admin/keys", json={"name": "a", "role": "viewer", **wrong})
    assert (told.status_code, told.json()["detail"]) == (422, "4000 faults in the request")
    assert len(told.json()["faults"]) == 100

    missing = 5  # of a record without any field
    rows = [record("SOUND"), *({} for _ in range(998)), wrong]
    body = client.post("/api/v1/ingest/batch", json=rows).json()
    assert (body["stored"], [r["index"] for r in body["rejected"]]) == (1, [*range(1, 1000)])
    counts = [len(r["faults"]) for r in body["rejected"]]
    assert counts == [missing] * (1000 // missing) + [1] * (999 - 1000 // missing)
    assert {f["pointer"] for f in body["rejected"][-1]["faults"]} == {"/999"}
    assert "k0" in body["rejected"][-1]["faults"][0]["message"]
    (long,) = client.post("/api/v1/ingest/simulation", json=wrong).json()["faults"]
    assert "k0" in long["message"]
    told = client.post("/api/v1/ingest/batch", json=rows[1:]).json()
    assert len(told["faults"]) == 1000


def test_a_batch_is_reported_row_by_row(client):
    rows = [
        record("PART", 1),
        record("PART", 2, colour="x"),
        record("PART", 1),
        record("PART", 3),
        7,
    ]
    answer = client.post("/api/v1/ingest/batch", json=rows)
    assert answer.status_code == 207
    body = answer.json()
    assert (body["stored"], body["duplicates"]) == (2, 1)
    assert [r["index"] for r in body["rejected"]] == [1, 4]
    assert body["rejected"][0]["faults"][0]["pointer"] == "/1/colour"
    assert client.post("/api/v1/ingest/batch", json=[7]).status_code == 422


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("timestamp", "2025-09-10T23:20:00"),
        ("simulation_id", "a b"),
        ("simulation_id", ""),
        ("signals", []),
        ("intersection_id", "x" * 200),
        ("simulation_id", "a\n"),
        ("simulation_id", "."),
        ("simulation_id", ".."),
    ],
)
def test_both_validators_of_a_record_refuse_the_same(client, place, value):
    answer = client.post("/api/v1/ingest/simulation", json=record("SAME") | {place: value})
    assert answer.status_code == 422
    assert answer.json()["faults"][0]["pointer"] in (f"/{place}", "")


def test_the_figures_are_those_of_the_records(client):
    rows = [
        record("F", s, j, wait=w)
        for s, j, w in [(0, "A", 10.0), (60, "A", 20.0), (0, "B", 40.0), (60, "B", 30.0)]
    ]
    rows[0]["signals"] = [EXAMPLE["signals"][0] | {"emergency_vehicle_present": True}]
    assert client.post("/api/v1/ingest/batch", json=rows).json()["stored"] == 4

    def get(path, **query):
        return client.get(f"/api/v1/{path}", params=query).json()

    summary = get("analytics/simulation/F/summary")
    assert (
        summary["records"],
        summary["junctions"],
        summary["mean_wait_s"],
        summary["vehicles"],
    ) == (4, 2, 25.0, 416)
    assert summary["co2_saved_kg"] == pytest.approx(4 * 3.8)
    waits = get("analytics/wait-times", simulation_id="F")
    assert [(w["intersection_id"], w["mean_s"], w["median_s"], w["n"]) for w in waits] == [
        ("A", 15.0, 15.0, 2),
        ("B", 35.0, 35.0, 2),
    ]
    assert len(get("analytics/wait-times", simulation_id="F", limit=1, offset=1)) == 1
    assert get("analytics/speeds", simulation_id="F", intersection_id="A")[0][
        "mean_kmh"
    ] == pytest.approx(28.3)
    impact = get("analytics/environmental-impact", simulation_id="F", fuel_price_per_l=2.0)
    assert impact["money_saved"] == pytest.approx(4 * 1.2 * 2.0)
    assert impact["n"] == 4
    report = get("analytics/emergency-report", simulation_id="F")
    assert (report["with_vehicle"], report["mean_wait_with_s"]) == (1, 10.0)
    series = get("analytics/time-series/F", bucket_s=60)
    assert [(p["n"], p["wait_s"]) for p in series["points"]] == [(2, 25.0), (2, 25.0)]
    window = get(
        "analytics/wait-times",
        simulation_id="F",
        begin="2025-09-10T00:00:30Z",
        end="2025-09-10T00:02:00Z",
    )
    assert [w["mean_s"] for w in window] == [20.0, 30.0]
    assert get("dashboard/live-metrics")["n"] >= 2
    assert "F" in {r["simulation_id"] for r in get("dashboard/performance-comparison")}
    assert len(get("charts/performance-scatter", simulation_id="F")) == 4
    assert client.get("/api/v1/analytics/simulation/NONE/summary").status_code == 404


def test_a_comparison_is_paired_and_states_its_confidence(client):
    rows = [
        record(s, k, wait=w + k % 7) for s, w in (("BASE", 30.0), ("AI", 20.0)) for k in range(60)
    ]
    client.post("/api/v1/ingest/batch", json=[*rows, record("AI", 100)])
    found = client.get(
        "/api/v1/analytics/comparison/baseline-vs-ai", params={"baseline": "BASE", "ai": "AI"}
    ).json()
    wait = found["wait_s"]
    assert (wait["n"], wait["mean_difference"], found["unpaired"]) == (60, pytest.approx(-10.0), 1)
    assert (wait["p"], wait["why"], wait["times"]) == (0.0, "", 60)
    assert wait["method"] == "equal-weighted cosine t-test"
    assert (wait["correlation_s"], wait["effective_n"]) == (0.0, 60.0)
    assert wait["degrees_of_freedom"] > 0
    assert wait["effect_size"] == pytest.approx(-1.0)
    assert wait["interval_95"][0] <= -10.0 + 1e-9 <= wait["interval_95"][1] + 2e-9
    assert (
        client.get(
            "/api/v1/analytics/comparison/baseline-vs-ai", params={"baseline": "BASE", "ai": "NO"}
        ).status_code
        == 404
    )
