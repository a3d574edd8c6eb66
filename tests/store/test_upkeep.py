"""Backup, restore, retention; batches that cannot be stored."""

from __future__ import annotations

import json

import pytest

from headway.store import Intake, open_database
from headway.store.upkeep import backup, erase, new_key, read_key, restore, retain


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    database = open_database(folder)
    yield database, folder
    database.close()


def rows(database, table="simulation_record"):
    return database.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"]


def put(intake, name, at="2025-09-10T00:00:{:02d}Z"):
    intake.write("simulation_record", [(name, at.format(k), "J", "[]", 1, 1.0, 1.0, 1.0, 1.0, 1.0, 0, False) for k in range(10)])


def test_a_backup_is_encrypted_and_comes_back_whole_or_not_at_all(record):
    database, folder = record
    intake = Intake(database, folder)
    put(intake, "KEPT")
    new_key(folder / "a.key")
    new_key(folder / "b.key")
    with pytest.raises(FileExistsError):
        new_key(folder / "a.key")
    key, path = read_key(folder / "a.key"), folder / "r.backup"
    assert backup(database, path, key) == path.stat().st_size
    assert b"KEPT" not in path.read_bytes()
    assert erase(database, "KEPT") == 10
    with pytest.raises(ValueError, match="key does not fit"):
        restore(database, path, read_key(folder / "b.key"))
    torn = folder / "torn.backup"
    torn.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"fit|cut off"):
        restore(database, torn, key)
    assert rows(database) == 0
    restore(database, path, key)
    assert rows(database) == 10
    assert sorted(p.name for p in folder.iterdir() if "plain" in p.name or "draft" in p.name) == []


def test_old_records_go_and_new_ones_stay(record):
    database, folder = record
    put(Intake(database, folder), "NEW", "2999-01-01T00:00:{:02d}Z")
    retain(database, 30)
    assert [r["simulation_id"] for r in database.rows("SELECT DISTINCT simulation_id FROM simulation_record")] == ["NEW"]
    with pytest.raises(ValueError, match="days"):
        retain(database, 0)


def test_a_batch_that_the_database_refuses_does_not_hold_up_those_behind_it(record):
    database, folder = record
    intake = Intake(database, folder)
    run = intake.begin_run("poison", "cologne1", "planner", 1)
    intake.spool.put("event", [[10**9, 1, 0.0, "of a run that is gone", "", "{}"]])
    intake.spool.put("event", [[run, 1, 0.0, "good", "", "{}"]])
    assert intake.catch_up()
    assert database.rows("SELECT kind FROM event WHERE run_id = :run", run=run) == [{"kind": "good"}]
    assert intake.refused == 1
    assert json.loads((folder / "refused.jsonl").read_text())["rows"][0][3] == "of a run that is gone"
