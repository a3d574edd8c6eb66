"""The recorder: rows wait for the database, callers do not;
a rejected row does not delay the others.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import psycopg
import pytest
from structlog.testing import capture_logs
from tests.store.intakes import Intake
from tests.waiting import until

from headway import store
from headway.store import Recorder, open_database
from headway.store import recorder as room
from headway.store.intake import REWOUND
from headway.telemetry import metrics


@pytest.fixture
def intake():
    return Intake()


@pytest.fixture
def recorder(intake, monkeypatch):
    """Writes when it is told to, and when it is closed."""
    monkeypatch.setattr(room, "FLUSH_S", 1e6)
    made = []

    def make(**more):
        made.append(Recorder(intake, **more))
        intake.recorder = made[-1]
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_rows_are_written_a_batch_a_table_in_their_order(recorder, intake):
    one = recorder()
    for row in (("a", (1,)), ("b", (2,)), ("a", (3,))):
        one.put(*row)
    assert intake.written == []
    one.flush()
    assert intake.written == [("a", [(1,), (3,)]), ("b", [(2,)])]
    one.flush()
    assert (len(intake.written), intake.caught_up) == (2, 2), (
        "what an outage has left is seen to each time, also where there is always something new"
    )
    assert (one.lost, one.trouble) == (0, "")


def test_what_comes_after_a_rewind_is_written_after_it(recorder, intake):
    one = recorder()
    for row in (("a", (1,)), ("b", (2,)), (REWOUND, (7, 1.5)), ("b", (3,)), ("a", (4,))):
        one.put(*row)
    one.flush()
    assert intake.written == [
        ("a", [(1,)]), ("b", [(2,)]), (REWOUND, [(7, 1.5)]), ("b", [(3,)]), ("a", [(4,)])
    ]  # fmt: skip


def test_rows_not_written_wait_in_order_before_later_ones(recorder, intake):
    one = recorder()
    for row in (("a", (1,)), ("b", (2,)), ("a", (3,))):
        one.put(*row)
    intake.away, intake.during = {"a"}, [("a", (4,))]
    one.flush()
    assert (intake.written, one.trouble, intake.caught_up) == ([("b", [(2,)])], "a is away", 0)
    intake.away, intake.during = set(), []
    one.flush()
    assert intake.written[1:] == [("a", [(1,), (3,), (4,)])]
    assert one.trouble == ""


def test_the_oldest_rows_are_dropped_when_the_buffer_is_full_and_counted(recorder, intake):
    one = recorder(most=2)
    for k in range(5):
        one.put("a", (k,))
    assert one.lost == 3
    one.flush()
    assert intake.rows("a") == [(3,), (4,)]


def test_what_the_spool_raises_ends_no_thread_and_is_said(recorder, intake, monkeypatch):
    """A line of the spool that is damaged, say."""
    one = recorder()
    monkeypatch.setattr(intake, "catch_up", lambda: 1 / 0)
    one.flush_safely()
    assert one.trouble == "division by zero"
    one.put("a", (1,))
    one.flush_safely()
    assert (intake.rows("a"), one.trouble) == ([(1,)], "division by zero")
    monkeypatch.setattr(intake, "catch_up", lambda: True)
    one.flush_safely()
    assert one.trouble == ""


def test_lost_rows_are_counted_for_the_metrics_and_told_once_a_burst(recorder, intake):
    before = metrics.registry.get_sample_value("headway_rows_lost_total")
    with capture_logs() as logs:
        one = recorder(most=2)
        for k in range(5):
            one.put("a", (k,))
    assert metrics.registry.get_sample_value("headway_rows_lost_total") == before + 3
    assert (intake.losses.count, intake.losses.is_recent) == (3, True)
    assert [(line["log_level"], line["event"], line["rows"]) for line in logs] == [
        ("error", "rows for the database were lost", 1)
    ]


def test_rows_are_kept_and_retried_while_the_database_fails(recorder, intake, monkeypatch):
    """A table that is not there, or a right that is missing, is no fault of a row."""

    def refuse(table, rows):
        raise psycopg.ProgrammingError("permission denied")

    one = recorder()
    one.put("a", (1,))
    with monkeypatch.context() as patch:
        patch.setattr(intake, "write", refuse)
        one.flush()
        assert one.trouble == "permission denied"
    one.flush()
    assert (intake.rows("a"), one.trouble) == ([(1,)], "")


def test_two_hundred_thousand_rows_may_wait(recorder):
    one = recorder()
    for k in range(200_000):
        one.put("a", (k,))
    assert one.lost == 0
    one.put("a", (0,))
    assert one.lost == 1


def test_closing_writes_waiting_rows_and_ends_the_threads(recorder, intake):
    before = set(threading.enumerate())
    one = recorder()
    threads = set(threading.enumerate()) - before
    assert {thread.name for thread in threads} == {"recorder", "recorder to disk"}
    assert all(thread.daemon for thread in threads), "they must not hold up the process' end"
    one.put("a", (1,))
    one.close()
    assert intake.written == [("a", [(1,)])]
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.slow
def test_what_nobody_takes_at_the_end_is_told_as_lost(recorder, intake):
    one = recorder()
    one.put("a", (1,))
    one.put("a", (2,))
    intake.away = {"a"}
    with capture_logs() as lines:
        one.close()
    assert one.lost == 2
    assert {
        "event": "rows for the database were lost at the end",
        "log_level": "error",
        "rows": 2,
        "why": "a is away",
    } in lines
    intake.away = set()


def test_rows_are_written_within_a_second(intake):
    assert room.FLUSH_S == 1.0
    one, begun = Recorder(intake), time.monotonic()
    one.put("a", (1,))
    while not intake.written and time.monotonic() - begun < 20.0:
        time.sleep(0.01)
    took_s = time.monotonic() - begun
    assert intake.written == [("a", [(1,)])]
    assert took_s >= 0.5, "not at once: rows are gathered"
    one.close()
    assert intake.written == [("a", [(1,)])]


@pytest.mark.database
def test_rows_of_a_database_that_hangs_are_on_disk_within_seconds_and_stored_once(
    new_record, tmp_path
):
    """Those under way, too: a process that is killed meanwhile has lost neither."""
    database = open_database(tmp_path, new_record())
    intake = store.Intake(database, tmp_path)
    run = intake.begin_run("a", "cologne1", "planner", 1)
    one = Recorder(intake)

    def put(number):
        one.put("event", (run, number, 0.5, "k", "J", "{}"))

    def numbers_on_disk():
        path = tmp_path / "spool.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [row[1] for line in lines for row in json.loads(line)["rows"]]

    put(1)
    until(lambda: intake.stored == 1, 10.0)
    backends = [
        row["pid"]
        for row in database.rows(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name LIKE 'headway %'"
        )
    ]
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        put(2)
        time.sleep(1.2)
        put(3)
        until(lambda: numbers_on_disk() == [2, 3], 4.0)
    finally:
        for pid in backends:
            os.kill(pid, signal.SIGCONT)
    put(4)

    def stored():
        return [row["number"] for row in database.rows("SELECT number FROM event ORDER BY number")]

    until(lambda: stored() == [1, 2, 3, 4] and not intake.spool.waiting, 30.0)
    one.close()
    database.close()


def test_what_the_disk_does_not_take_either_waits_in_its_order(recorder, intake, monkeypatch):
    monkeypatch.setattr(room, "TO_DISK_AFTER_S", 0.1)
    one = recorder()
    intake.hanging.clear()
    intake.is_disk_full = True
    one.put("a", (1,))
    flushing = threading.Thread(target=one.flush)
    flushing.start()
    time.sleep(0.1)
    one.put("a", (2,))
    one.put("a", (3,))
    time.sleep(1.0)
    assert intake.on_disk == []
    intake.is_disk_full = False
    until(lambda: intake.on_disk, 5.0)
    intake.hanging.set()
    flushing.join(10.0)
    assert intake.on_disk == [("a", [(2,), (3,)])]
    assert intake.written == [("a", [(1,)])]
    assert one.lost == 0
