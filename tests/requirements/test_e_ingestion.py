"""Row E1: ingestion of the documents' record."""

from __future__ import annotations

import json

import pytest

# as it stands in the requirement
RECORD = json.loads("""
{"simulation_id": "SIM_20250910_001", "timestamp": "2025-09-10T23:20:00Z",
 "intersection_id": "INT_001",
 "signals": [{"direction": "north",
   "vehicle_counts": {"car": 78, "bus": 0, "truck": 0, "bike": 0, "rickshaw": 0},
   "emergency_vehicle_present": false, "signal_status": "GREEN", "signal_timer": 18,
   "vehicles_crossed": 35, "avg_wait_time": 12.5, "green_time_allocated": 20}],
 "metrics": {"total_vehicles_passed": 104, "avg_wait_time_all_sides": 20.6, "throughput": 0.87,
   "avg_speed": 28.3, "fuel_saved": 1.2, "co2_saved": 3.8, "emergency_overrides": 0}}
""")
SECOND = RECORD | {"timestamp": "2025-09-10T23:20:30Z"}
BROKEN = RECORD | {"timestamp": "2025-09-10T23:21:00Z", "metrics": {}}


@pytest.mark.row("E1")
def test_e1_records_one_by_one_and_in_batches(product):
    """`POST /api/v1/ingest/simulation` and `/batch` with the documents' record; what was taken is
    in the summary of its simulation, what was not is named.
    """
    with product.http() as client:
        assert client.post("/api/v1/ingest/simulation", json=RECORD).status_code == 201
        assert client.post("/api/v1/ingest/simulation", json=RECORD).status_code == 200, "known"
        answer = client.post("/api/v1/ingest/batch", json=[RECORD, SECOND, BROKEN])
        assert answer.status_code == 207
        taken = answer.json()
        assert (taken["stored"], taken["duplicates"]) == (1, 1)
        assert [(r["index"], r["faults"][0]["pointer"][:10]) for r in taken["rejected"]] == [
            (2, "/2/metrics")
        ]
        path = f"/api/v1/analytics/simulation/{RECORD['simulation_id']}/summary"
        summary = client.get(path).json()
        assert (summary["records"], summary["vehicles"]) == (2, 208)
        assert summary["mean_wait_s"] == pytest.approx(20.6)
