"""The registry of models."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import sqlalchemy as sa

from headway.learning.registry import INSERT, Registry, signing_key
from headway.store import open_database


def registry(versions: int = 10_000, asked: int = 200) -> None:
    """Lists of a registry of 10,000 versions, signatures checked; to reach: below 50 ms."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        database = open_database(folder)
        try:
            found = Registry(database, folder, signing_key(folder))
            _fill(found, versions)
            database.execute("ANALYZE model_version")
            pages = {
                "newest 100": lambda: found.list(100),
                "100 in the middle": lambda: found.list(100, after_id=versions // 2),
                "100 of one model": lambda: found.list(100, name="model-7"),
                "all": lambda: found.list(versions),
            }
            for what, ask in pages.items():
                times = []
                for _ in range(asked if what != "all" else 5):
                    begun = time.perf_counter()
                    assert not any(version.fault for version in ask())
                    times.append((time.perf_counter() - begun) * 1e3)
                p50, p99 = np.percentile(times, (50, 99))
                print(
                    f"registry of {versions:,} versions, {what}: p50 {p50:.1f} ms, {p99:.1f} ms p99"
                )
        finally:
            database.close()


def _fill(found: Registry, versions: int) -> None:
    """Rows as `Registry.add` writes them, without their files."""
    rows = []
    for k in range(versions):
        row = {
            "id": k + 1,
            "name": f"model-{k % 50}",
            "version": k // 50 + 1,
            "kind": "planner",
            "sha256": f"{k:064x}",
            "size": 400,
            "code_version": "0",
            "made_from": '{"scenario": "cologne8", "seeds": [1, 2, 3, 4, 5, 6, 7, 8]}',
            "metrics": '{"change": -0.05, "change_95": [-0.07, -0.03], "p": 0.01}',
            "parent": None,
            "created_by": "bench",
            "created_at": datetime.now(UTC),
        }
        rows.append(row | found._signed("version", row))
    with found._database.engine.begin() as held:
        held.execute(sa.text(INSERT), rows)
