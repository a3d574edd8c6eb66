"""Figures of the machine against a /proc made by hand, and against this one by other ways."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headway.telemetry.machine import Machine


def write_proc(folder, cpu, processes):
    """cpu: user, nice, system, idle, iowait, irq, softirq, steal in ticks. processes: pid to
    (name, parent, user and system ticks, start, resident kB).
    """
    folder.mkdir(exist_ok=True)
    (folder / "stat").write_text("cpu  " + " ".join(map(str, cpu)) + " 7 7\ncpu0 1 2 3\n")
    (folder / "meminfo").write_text("MemTotal: 8000 kB\nMemFree: 1 kB\nMemAvailable: 6000 kB\n")
    for pid, (name, parent, used, started, kb) in processes.items():
        (folder / str(pid)).mkdir(exist_ok=True)
        fields = ["S", parent, *[0] * 9, used, used, *[0] * 6, started, *[0] * 20]
        (folder / str(pid) / "stat").write_text(f"{pid} ({name}) " + " ".join(map(str, fields)))
        (folder / str(pid) / "smaps_rollup").write_text(f"0-1 ---p\nRss: 999 kB\nPss: {kb} kB\n")


def test_figures_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    ticks, now = os.sysconf("SC_CLK_TCK"), [100.0]
    proc, of = (
        tmp_path / "proc",
        (("a) b (", 1, 0, 5, 300), ("x", 10, 0, 6, 200), ("other", 1, 0, 7, 5000)),
    )
    write_proc(proc, (0,) * 8, dict(zip((10, 11, 12), of, strict=True)))
    machine = Machine(tmp_path, proc, 10, lambda: now[0])
    first = machine.figures()
    assert (first["cpu_share"], first["headway_cpu_share"]) == (None, None)
    # in 2 s of 4 processors: 8 s, of them 2 s busy; our two processes 0.4 s and 0.8 s
    now[0] = 102.0
    cpu = tuple(round(v * ticks) for v in (1.0, 0.25, 0.25, 5.0, 1.0, 0.25, 0.1, 0.15))
    used = {10: 0.2, 11: 0.4, 12: 0.5}
    again = {
        p: (n, parent, round(used[p] * ticks), s, kb)
        for p, (n, parent, _, s, kb) in zip((10, 11, 12), of, strict=True)
    }
    write_proc(proc, cpu, again)
    found = machine.figures()
    assert found["cpu_share"] == pytest.approx(2.0 / 8.0)
    assert found["headway_cpu_share"] == pytest.approx(1.2 / 8.0)
    assert found["memory_share"] == 0.25
    assert (found["memory_bytes"], found["memory_total_bytes"]) == (2000 * 1024, 8000 * 1024)
    assert (found["headway_processes"], found["headway_memory_bytes"]) == (2, 500 * 1024)
    now[0] = 102.1  # too soon for another share
    assert machine.figures()["cpu_share"] == found["cpu_share"]


def test_a_machine_without_proc_knows_less_and_fails_not(tmp_path):
    found = Machine(tmp_path, tmp_path / "none").figures()
    unknown = {k for k, v in found.items() if v is None}
    assert unknown >= {"cpu_share", "memory_bytes", "memory_share", "headway_memory_bytes"}
    assert found["disk_free_bytes"] > 0


def own_share_bytes(pid):
    """Resident memory, shared pages by their share, as the kernel sums it up."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return int(rollup.split("\nPss:")[1].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_a_child_at_work_is_counted(tmp_path):
    machine = Machine(tmp_path)
    before = machine.figures()
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(1.0)
        found = machine.figures()
        both = own_share_bytes("self") + own_share_bytes(child.pid)
    finally:
        child.kill()
        child.wait()
    assert found["headway_processes"] == before["headway_processes"] + 1
    # others of this test's family may have ended since `before`; these two have not, but what they
    # share with others changes from one look to the next
    assert found["headway_memory_bytes"] >= 0.8 * both
    assert 0.0 < found["headway_cpu_share"] <= found["cpu_share"] + 0.1
