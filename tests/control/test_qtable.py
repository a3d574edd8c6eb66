"""The Q-table: what is added is found, the least used gives way, a file survives the death of its writer."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from headway.control.qtable import WAYS, QTable, mix


def keys(n, seed=0):
    return np.random.default_rng(seed).integers(1, 2**63, n).astype(np.uint64)


def test_what_is_added_is_found_and_visits_are_counted():
    table = QTable(3, 1 << 14)
    k = keys(1000)
    for _ in range(2):
        table.add(k, np.arange(1000) % 3, np.ones(1000, np.float32))
    values, visits = table.get(k)
    assert (values[np.arange(1000), np.arange(1000) % 3] == 2).all()
    assert visits.sum() == 2000
    assert table.get(keys(10, 1))[0].sum() == 0


def test_a_full_set_gives_up_the_row_that_was_used_longest_ago():
    table = QTable(1, WAYS)
    k = np.arange(1, WAYS + 2, dtype=np.uint64)
    for key in k[:WAYS]:
        table.add(np.array([key]), np.array([0]), np.ones(1, np.float32))
    table.get(k[:1])
    table.add(k[WAYS:], np.array([0]), np.ones(1, np.float32))
    assert table.get(k[:1])[0][0, 0] == 1, "used lately, kept"
    assert table.get(k[1:2])[0][0, 0] == 0, "used longest ago, replaced"
    assert len(table) == WAYS


def test_a_file_survives_kill_9(tmp_path):
    path = tmp_path / "q.table"
    code = (
        "import numpy as np, os, signal; from pathlib import Path; from headway.control.qtable import QTable\n"
        f"t = QTable(2, 64, Path({str(path)!r})); t.add(np.array([7], np.uint64), np.array([1]), np.array([2.5], np.float32))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    table = QTable.read(path)
    assert table.get(np.array([7], np.uint64))[0].tolist() == [[0.0, 2.5]]


def test_a_file_of_another_kind_or_size_is_refused(tmp_path):
    path = tmp_path / "q.table"
    QTable(2, 64, path)
    with pytest.raises(ValueError, match="no Q-table of 3 actions"):
        QTable(3, 64, path)
    path.write_bytes(b"something else, but long enough to hold a header")
    with pytest.raises(ValueError, match="is no Q-table"):
        QTable.read(path)
    with pytest.raises(ValueError, match="headway train"):
        QTable.read(tmp_path / "none")


def test_keys_depend_on_every_column_and_are_never_nought():
    rows = np.array([[a, b] for a in range(50) for b in range(50)])
    found = mix(rows)
    assert len(np.unique(found)) == len(rows)
    assert (found != 0).all()
