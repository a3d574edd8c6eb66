"""Figures of the parts of the program, from a /proc made by hand and from the real one."""

from __future__ import annotations

import os

import pytest

from headway.telemetry.proc import PAGE_BYTES, TICKS_HZ
from headway.telemetry.processes import Processes


def put(proc, pid, parent, ticks=0, threads=1, pages=1, started=5, name="a (b) c"):
    fields = ["S", parent, *[0] * 9, ticks, 0, 0, 0, 0, 0, threads, 0, started, 0, pages, 0]
    folder = proc / str(pid)
    folder.mkdir(exist_ok=True)
    (folder / "stat").write_text(f"{pid} ({name}) {' '.join(map(str, fields))}\n")


def test_children_count_to_their_part_down_to_the_next_part(tmp_path):
    for pid, parent, pages in ((10, 1, 100), (11, 10, 20), (12, 11, 3), (20, 10, 7), (30, 1, 9)):
        put(tmp_path, pid, parent, pages=pages, threads=2)
    (tmp_path / "self").mkdir()
    (tmp_path / "40").mkdir()  # it has just ended
    named = {"server": 10, "street": 20, "gone": 99}
    server, street = Processes(lambda: named, tmp_path).figures()
    assert (server.name, server.pid, server.processes, server.threads) == ("server", 10, 3, 6)
    assert server.memory_bytes == 123 * PAGE_BYTES
    assert (street.name, street.memory_bytes, street.cpu_share) == ("street", 7 * PAGE_BYTES, None)


def test_the_share_of_a_processor_is_of_the_time_since_the_reading_before(tmp_path):
    now = [0.0]
    processes = Processes(lambda: {"server": 10}, tmp_path, lambda: now[0])
    shares = []
    for at_s, seconds, started in ((1.0, 4.0, 5), (3.0, 5.0, 5), (3.1, 9.0, 5), (5.0, 0.5, 6)):
        now[0] = at_s
        put(tmp_path, 10, 1, ticks=int(seconds * TICKS_HZ), started=started)
        shares.append(processes.figures()[0].cpu_share)
    assert shares == [None, 0.5, 0.5, 0.25], "too soon: as before; a new process: from nought"


def test_this_process_is_read():
    (own,) = Processes(lambda: {"tests": os.getpid()}).figures()
    assert own.memory_bytes > 10e6
    assert own.cpu_seconds > 0.0


@pytest.mark.parametrize("there", [False, True])
def test_without_proc_or_processes_there_is_nothing(tmp_path, there):
    proc = tmp_path if there else tmp_path / "none"
    assert Processes(lambda: {"server": 10}, proc).figures() == []
