"""The database and the audit trail from the command line."""

from __future__ import annotations

import csv
import importlib
import os
import types
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headway.api.audit import Audit
from headway.api.seal import Seal
from headway.api.security import Principal, Role
from headway.runtime.folder_lock import locked
from headway.store import Intake, open_database
from headway.store.database import schemas
from headway.store.handed import handed

room = importlib.import_module("headway.cli.database")


@pytest.fixture
def filled(record):
    """Three records of simulation A and one of B, one of them two days old."""
    database = open_database(record)
    now = datetime.now(UTC)
    rows = [
        (
            name,
            (now - timedelta(days=days, seconds=k)).isoformat(),
            "J",
            "[]",
            1,
            1.0,
            1.0,
            1.0,
            1.0,
            1.0,
            0,
            False,
        )
        for k, (name, days) in enumerate((("A", 0), ("A", 0), ("A", 2), ("B", 0)))
    ]
    assert Intake(database, record).write("simulation_record", rows).stored == 4
    yield database
    database.close()


def counts(database):
    return {
        r["id"]: r["n"]
        for r in database.rows(
            "SELECT simulation_id AS id, count(*) AS n FROM simulation_record GROUP BY 1"
        )
    }


def test_the_records_of_a_simulation_are_erased(headway, filled):
    ran = headway("db", "erase", "A")
    assert (ran.status, ran.out) == (0, "3 rows\n")
    assert counts(filled) == {"B": 1}
    assert headway("db", "erase", "A").out == "0 rows\n"


def test_old_records_go(headway, filled):
    assert (
        headway("db", "retain", "3").out
        == "simulation_record: 0 rows, run: 0 rows, violation: 0 rows\n"
    )
    ran = headway("db", "retain", "1")
    assert (ran.status, ran.out) == (
        0,
        "simulation_record: 1 rows, run: 0 rows, violation: 0 rows\n",
    )
    assert counts(filled) == {"A": 2, "B": 1}
    ran = headway("db", "retain", "0")
    assert (ran.status, ran.err.startswith("headway: days: 0.0 is not allowed: above 0")) == (
        1,
        True,
    )


def test_the_tables_are_made_before_the_service_starts(headway, new_record, monkeypatch):
    monkeypatch.setenv("HEADWAY_DATABASE_URL", new_record())
    known = schemas()
    for _ in range(2):
        ran = headway("db", "migrate", "--dry-run")
        assert (ran.status, ran.err) == (0, "")
        assert ran.out == f"schema none: {', '.join(known)} (would be done)\n"
    assert headway("db", "migrate").out == f"schema none: {', '.join(known)} (done)\n"
    for words in (["--dry-run"], []):
        ran = headway("db", "migrate", *words)
        assert (ran.status, ran.out) == (0, f"schema {known[-1]}: nothing to do ({known[-1]})\n")


def test_the_tables_go_back_to_an_earlier_version(headway, new_record, monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("HEADWAY_DATABASE_URL", new_record())
    *_, earlier, last = schemas()
    assert headway("db", "migrate").status == 0
    assert headway("db", "migrate", "--back-to", last).out == f"schema {last}: back to {last}\n"
    assert (
        headway("db", "migrate", "--back-to", earlier).out == f"schema {last}: back to {earlier}\n"
    )
    assert (
        headway("db", "migrate", "--dry-run").out == f"schema {earlier}: {last} (would be done)\n"
    )
    for wrong in (last, "0", "9999"):  # which is newer now, or none
        ran = headway("db", "migrate", "--back-to", wrong)
        assert (ran.status, "is none before the present one" in ran.err) == (1, True)
    assert headway("db", "migrate", "--back-to", earlier, "--dry-run").status == 2
    entries = [row[-1] for row in handed(tmp_path / "data")]
    assert [(e["schema"], e["back_to"]) for e in entries] == [(last, last), (last, earlier)]


def test_an_earlier_version_does_not_take_a_newer_schema_back(headway, new_record, monkeypatch):
    """As after an update that failed: it ended with an error of Alembic's."""
    monkeypatch.setenv("HEADWAY_DATABASE_URL", new_record())
    assert headway("db", "migrate").status == 0
    database = open_database(Path("data"), os.environ["HEADWAY_DATABASE_URL"])
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    ran = headway("db", "migrate", "--back-to", schemas()[-1])
    assert (ran.status, "is of a newer Headway (schema 9999)" in ran.err) == (1, True)
    assert "Use that version" in ran.err


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_the_tables_of_a_newer_version_are_left_alone(headway, filled, words):
    filled.execute("UPDATE alembic_version SET version_num = '9999'")
    ran = headway("db", "migrate", *words)
    assert (ran.status, "the database is of a newer Headway (schema 9999)" in ran.err) == (1, True)


def test_a_backup_is_sealed_and_set_back(headway, filled, tmp_path):
    assert headway("db", "key", "k.key").status == 0
    assert (tmp_path / "k.key").stat().st_mode & 0o777 == 0o600
    ran = headway("db", "key", "k.key")
    assert (ran.status, "k.key" in ran.err) == (1, True)
    ran = headway("db", "backup", "[b].backup", "--key", "k.key")
    size = (tmp_path / "[b].backup").stat().st_size
    assert (ran.status, ran.out) == (0, f"{size:,} bytes in [b].backup\n")
    filled.execute("DELETE FROM simulation_record WHERE simulation_id = 'A'")
    filled.engine.dispose()  # nobody else is connected
    ran = headway("db", "restore", "[b].backup", "--key", "k.key")
    newest = filled.rows("SELECT max(at) AS at FROM simulation_record")[0]["at"]
    until = newest.isoformat(timespec="seconds")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        f"restored from [b].backup: 4 rows, 0 runs, 0 entries in the audit trail, until {until}",
        "in place of 1 rows, 0 runs, 0 entries in the audit trail, until "
        + (newest - timedelta(seconds=3)).isoformat(timespec="seconds"),
        "and an entry of this restore in the audit trail",
    ]
    assert counts(filled) == {"A": 3, "B": 1}
    assert filled.rows("SELECT who, what, data FROM audit") == [
        {
            "who": "headway db restore",
            "what": "restore",
            "data": {"file": "[b].backup", "entries_before": 0, "entries": 0},
        }
    ]
    assert Audit(filled, Seal(tmp_path / "data")).verify() == (1, "")
    headway("db", "key", "other.key")
    for words in (["backup", "x.backup"], ["restore", "[b].backup"]):
        assert headway("db", *words).status == 2  # a key is needed
        assert headway("db", *words, "--key", "none.key").status == 1
    ran = headway("db", "restore", "[b].backup", "--key", "other.key")
    assert (ran.status, "the key does not fit" in ran.err) == (1, True)
    assert counts(filled) == {"A": 3, "B": 1}


def test_a_task_of_the_upkeep_is_done_as_the_schedule_does_it(headway, filled, tmp_path):
    (tmp_path / "s.yaml").write_text(f"upkeep: {{folder: {tmp_path / 'b'}, keep: 1}}")
    words = ("--config", "s.yaml")
    (tmp_path / "b").mkdir()
    old = tmp_path / "b" / "headway-20200101T000000Z.backup"
    old.write_text("old")
    ran = headway("db", "upkeep", "backup", *words)
    (path,) = (tmp_path / "b").iterdir()  # the oldest has gone
    assert (ran.status, f"file: {path.name}" in ran.out, old.name in ran.out) == (0, True, True)
    assert "simulation_record': 4" in headway("db", "upkeep", "drill", *words).out
    path.write_bytes(path.read_bytes()[:-100])
    ran = headway("db", "upkeep", "drill", *words)
    assert (ran.status, "the drill failed: " in ran.err) == (1, True)
    ran = headway("db", "upkeep", "retention", *words)
    assert (ran.status, "upkeep.retention_days is 0" in ran.err) == (1, True)
    assert filled.rows("SELECT task, ok FROM upkeep_run ORDER BY id") == [
        {"task": task, "ok": ok}
        for task, ok in (("backup", True), ("drill", True), ("drill", False), ("retention", False))
    ]
    ran = headway("db", "upkeep", "tidy")
    assert (ran.status, "There are: backup, retention, drill" in ran.err) == (2, True)


def test_a_backup_replaces_no_file_unless_it_is_forced(headway, filled, tmp_path):
    headway("db", "key", "k.key")
    (tmp_path / "b").write_text("mine")
    ran = headway("db", "backup", "b", "--key", "k.key")
    assert (ran.status, ran.err) == (
        1,
        "headway: b: is there already. Give another file, or --force.\n",
    )
    assert (tmp_path / "b").read_text() == "mine"
    assert headway("db", "backup", "b", "--key", "k.key", "--force").status == 0
    assert (tmp_path / "b").read_bytes().startswith(b"HEADWAY-BACKUP-1")


def test_nothing_is_restored_under_others_unless_it_is_forced(headway, filled, tmp_path):
    """Who is connected, or holds the data folder, is named."""
    headway("db", "key", "k.key")
    headway("db", "backup", "b", "--key", "k.key")
    assert headway("db", "erase", "A").out == "3 rows\n"
    assert counts(filled) == {"B": 1}  # its connection stays in the pool
    ran = headway("db", "restore", "b", "--key", "k.key")
    assert (ran.status, ran.out) == (1, "")
    assert f"1 connections of others to the database: headway {os.getpid()} (process" in ran.err
    assert "Stop the service first" in ran.err
    assert counts(filled) == {"B": 1}
    filled.engine.dispose()
    with locked(tmp_path / "data", "headway serve", "http://here:1"):
        ran = headway("db", "restore", "b", "--key", "k.key")
        said = f"data: in use by 'headway serve' at http://here:1 (process {os.getpid()}, since 20"
        assert (ran.status, ran.out, said in ran.err) == (1, "", True)
        assert counts(filled) == {"B": 1}
        ran = headway("db", "restore", "b", "--key", "k.key", "--force")
        assert (ran.status, "Start the service anew" in ran.out) == (0, True)
        assert counts(filled) == {"B": 1}, "what was erased stays so"
        ran = headway("db", "restore", "b", "--key", "k.key", "--force", "--with-erased")
        assert ran.status == 0
    assert counts(filled) == {"A": 3, "B": 1}


def test_a_restore_that_cannot_be_makes_no_data_folder(headway, filled, tmp_path, monkeypatch):
    for name in ("k.key", "other.key"):
        headway("db", "key", name)
    headway("db", "backup", "b", "--key", "k.key")
    (tmp_path / "cut").write_bytes((tmp_path / "b").read_bytes()[:-9])
    monkeypatch.delenv("HEADWAY_DATABASE_URL")
    for words in (["b", "--key", "other.key"], ["cut", "--key", "k.key"], ["no", "--key", "k.key"]):
        assert headway("db", "restore", *words, "--data", "new").status == 1
        assert not (tmp_path / "new").exists()


def test_events_of_a_run_are_written_as_atspm_reads_them(headway, record, tmp_path):
    database = open_database(record)
    try:
        intake = Intake(database, record)
        run = intake.begin_run("r", "cologne1", "planner", 1)
        intake.write(
            "signal_state",
            [(run, t, "J", 0, c) for t, c in ((0.0, 1), (10.0, 3), (30.5, 2), (33.0, 1))],
        )
        intake.write("detector_state", [(run, 12.0, "J", 0, True), (run, 13.0, "J", 0, False)])
    finally:
        database.close()
    ran = headway("db", "events", run)
    with (tmp_path / "events.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["TimeStamp", "DeviceId", "EventId", "Parameter"]
    assert (ran.status, ran.out) == (
        0,
        f"{len(rows) - 1:,} events in events.csv, detectors in detectors.csv\n",
    )
    assert [(r[0][11:], r[1], r[2], r[3]) for r in rows[1:3]] == [
        ("00:00:00.000", "J", "10", "1"),
        ("00:00:10.000", "J", "1", "1"),
    ]
    with (tmp_path / "detectors.csv").open() as stream:
        assert next(csv.reader(stream)) == ["DeviceId", "Phase", "Parameter", "Function"]
    ran = headway("db", "events", run, "--out", "[e].csv", "--detectors", "[d].csv")
    assert "[e].csv, detectors in [d].csv" in ran.out
    ran = headway("db", "events", run + 1)
    assert (ran.status, ran.err) == (
        1,
        f"headway: run {run + 1} has no signal states in the database\n",
    )
    assert headway("db", "events", "x").status == 2


def test_the_audit_trail_is_verified(headway, record):
    assert headway("audit", "verify").out == "0 entries, whole\n"
    database = open_database(record)
    try:
        for k in range(2):
            Audit(database, Seal(record)).add(Principal("a", Role.ADMIN), f"POST /{k}", 200, {})
        ran = headway("audit", "verify")
        assert (ran.status, ran.out) == (0, "2 entries, whole\n")
        database.execute("ALTER TABLE audit DISABLE TRIGGER audit_is_kept")
        database.execute("UPDATE audit SET who = 'x' WHERE number = 2")
    finally:
        database.close()
    ran = headway("audit", "verify")
    assert (ran.status, ran.out, ran.err) == (1, "2 entries, entry 2 was changed\n", "")


def test_a_folder_without_a_database_is_refused_and_left_as_it_is(headway, tmp_path, monkeypatch):
    monkeypatch.delenv("HEADWAY_DATABASE_URL", raising=False)
    (tmp_path / "empty").mkdir()
    ran = headway("audit", "verify", "--data", tmp_path / "empty")
    assert (ran.status, ran.err) == (
        1,
        f"headway: {tmp_path / 'empty'}: no database here. Give the data folder of the server by "
        "--data.\n",
    )
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["db", "erase", "A"],
        ["db", "retain", "1"],
        ["db", "events", "1"],
        ["audit", "verify"],
        ["db", "backup", "x", "--key", "k"],
        ["db", "restore", "x", "--key", "k"],
    ],
)
def test_each_command_looks_in_the_folder_asked_for_and_closes_the_record(
    headway, monkeypatch, tmp_path, words
):
    """The record breaks at the first question; it is closed all the same."""
    opened, closed = [], []

    def fail(*_, **__):
        raise RuntimeError("it broke")

    def opening(folder, create=True):
        opened.append(str(folder))
        assert create == ("restore" in words), "a mistyped folder is not made"
        engine = types.SimpleNamespace(connect=fail, begin=fail, dispose=fail)
        database = types.SimpleNamespace(
            rows=fail,
            execute=fail,
            engine=engine,
            url="postgresql://x",
            close=lambda: closed.append(1),
        )
        database.unhurried = database
        return database

    monkeypatch.setattr(room, "open_database", opening)
    monkeypatch.setattr(room, "read_key", lambda path: str(path).encode())
    monkeypatch.setattr(room, "rows_in", lambda path, key: None)
    monkeypatch.setattr(room, "back_up", fail)
    monkeypatch.setattr(room, "set_back", fail)
    for more, folder in (([], "data"), (["--data", "there"], "there")):
        ran = headway(*words, *more)
        assert (ran.status, ran.err) == (1, "headway: it broke\n")
        assert opened.pop() == folder
    assert closed == [1, 1]
