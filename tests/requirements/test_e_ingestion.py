"""Row E1: ingestion of the documents' record."""

from __future__ import annotations

import pytest
from tests.requirements.documented import RECORD

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
