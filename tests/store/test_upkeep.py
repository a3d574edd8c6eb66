"""Upkeep: what retention and erasure delete and keep, to the second;
backups that are restored whole, or change nothing.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import fcntl
import json
import math
import os
import resource
import secrets
import signal
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.waiting import until

from headway.store import Database, DatabaseError, Intake, Spool, open_database, upkeep
from headway.store.corrections import CORRECT, KEEP, LOCK, correct
from headway.store.embedded import package
from headway.store.refused import RefusedRows
from headway.store.upkeep import (
    BEGIN_RESTORE,
    backup,
    drill,
    erase,
    erase_violations,
    new_key,
    read_key,
    refuse_waiting,
    restore,
    retain,
    row_counts,
    rows_in,
    runs_perhaps_under_way,
    vacuum,
)

OF_A_RUN = ("event", "signal_state", "detector_state", "observation", "crossing", "emission")
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def database(new_record, tmp_path_factory):
    found = open_database(tmp_path_factory.mktemp("unused"), new_record())
    yield found
    found.close()


@pytest.fixture(autouse=True)
def empty(database):
    database.execute(
        "TRUNCATE simulation_record, record_version, run, violation, violation_picture, api_key "
        "CASCADE"
    )
    for table in (
        "violation_hour",
        "violation_day",
        "violation_rule_hour",
        "violation_device_hour",
    ):
        database.execute(f"TRUNCATE {table}")


@pytest.fixture
def intake(database, tmp_path):
    return Intake(database, tmp_path)


def count(database, table):
    return database.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"]


def at(age):
    return (datetime.now(UTC) - age).isoformat()


def records(intake, name, *times):
    intake.write(
        "simulation_record",
        [(name, t, "J", "[]", 1, 1.0, 1.0, 1.0, 1.0, 1.0, 0, False) for t in times],
    )


def violations(intake, *reported):
    """(number, device, time): each with two pictures."""
    ids = {number: f"00000000-0000-0000-0000-{number:012d}" for number, _, _ in reported}
    intake.write(
        "violation_picture", [(ids[n], k, 0.5, "\\x00") for n, _, _ in reported for k in (0, 1)]
    )
    intake.write(
        "violation", [(ids[n], t, device, "speeding", 0.9, "{}", "s") for n, device, t in reported]
    )


def run_of(intake, key):
    """A run with two rows in each table of its own."""
    run = intake.begin_run(key, "cologne1", "planner", 1)
    for k in (1, 2):
        intake.write("event", [(run, k, 0.0, "k", "J", "{}")])
        intake.write("signal_state", [(run, float(k), "J", 0, 1)])
        intake.write("detector_state", [(run, float(k), "J", 0, True)])
        intake.write("observation", [(run, float(k), "J", 1, 1, 1.0, 1.0)])
        intake.write("crossing", [(run, "J", k)])
        intake.write("emission", [(run, float(k), 1, 1.0, 1.0)])
    return run


YOUNGER, OLDER = timedelta(days=2) - timedelta(minutes=3), timedelta(days=2) + timedelta(minutes=3)


def test_records_older_than_the_retention_are_deleted_and_younger_ones_kept(database, intake):
    records(intake, "R", at(YOUNGER), at(OLDER), at(OLDER * 2), at(-OLDER), "1999-01-01T00:00:00Z")
    swept = retain(database, 2)
    assert swept.rows == {"simulation_record": 3, "run": 0, "violation": 0}
    with pytest.raises(dataclasses.FrozenInstanceError):
        swept.rows = {}
    assert count(database, "simulation_record") == 2
    assert retain(database, 2.0).rows == {"simulation_record": 0, "run": 0, "violation": 0}


@pytest.mark.parametrize("days", [-365, 365])
def test_of_two_clocks_that_differ_the_one_behind_says_what_is_old(database, intake, days):
    """Of the database, which may be another machine, and of whoever asks it."""
    records(intake, "R", at(YOUNGER), at(OLDER))
    now = datetime.now(UTC) + timedelta(days=days)
    assert retain(database, 2, now=now).rows["simulation_record"] == (1 if days > 0 else 0)


def test_counts_of_cameras_older_than_the_retention_are_deleted(database, intake):
    for moment in (at(YOUNGER), at(OLDER)):
        intake.write("camera_count", [("c", moment, moment, "stop", "in", "car", 1, 0.0, 0, 0.0)])
    assert retain(database, 2).rows["camera_count"] == 1
    assert "camera_count" not in retain(database, 2).rows
    assert count(database, "camera_count") == 1
    database.execute("DELETE FROM camera_count")


def test_versions_of_a_record_go_with_it(database, intake):
    for name, moment in (("NEW", at(YOUNGER)), ("OLD", at(OLDER)), ("GONE", at(YOUNGER))):
        row = (name, moment, "J", "[]", 1, 2.0, 3.0, 4.0, 5.0, 6.0, 7, True, "[]")
        intake.write("simulation_record", [row])
        assert correct(database, (*row[:4], 2, *row[5:]), "me", "miscounted") == 2
    retain(database, 2)
    assert erase(database, "GONE") == 1
    assert [row["simulation_id"] for row in database.rows("SELECT * FROM record_version")] == [
        "NEW"
    ]


def test_violations_older_than_the_retention_are_deleted_with_their_images_and_sums(
    database, intake
):
    violations(intake, (1, "a", at(YOUNGER)), (2, "a", at(OLDER)), (3, "b", at(OLDER)))
    assert retain(database, 2).rows == {"simulation_record": 0, "run": 0, "violation": 2}
    assert [r["id"].int for r in database.rows("SELECT id FROM violation")] == [1]
    assert [
        (r["violation_id"].int, r["number"])
        for r in database.rows("SELECT * FROM violation_picture ORDER BY number")
    ] == [(1, 0), (1, 1)]
    for table in ("violation_hour", "violation_day", "violation_device_hour"):
        assert [(r["device"], r["n"]) for r in database.rows(f"SELECT device, n FROM {table}")] == [
            ("a", 1)
        ]
    assert database.rows("SELECT rule, n FROM violation_rule_hour") == [
        {"rule": "speeding", "n": 1}
    ]


def test_runs_older_than_the_retention_are_deleted_with_all_their_rows(database, intake):
    young, old = run_of(intake, "young"), run_of(intake, "old")
    for run, age in ((young, YOUNGER), (old, OLDER)):
        assert (
            database.execute("UPDATE run SET begun_at = :at WHERE id = :id", at=at(age), id=run)
            == 1
        )
    assert retain(database, 2).rows == {"simulation_record": 0, "run": 1, "violation": 0}
    assert [r["id"] for r in database.rows("SELECT id FROM run")] == [young]
    for table in OF_A_RUN:
        assert [r["run_id"] for r in database.rows(f"SELECT run_id FROM {table}")] == [
            young,
            young,
        ], table


def test_a_run_that_still_goes_on_stays_and_takes_rows_only_what_is_old_of_it_goes(
    database, intake
):
    """Begun three days ago; seconds 50 and 100 are two days old and more, second 200 is of now."""
    run = intake.begin_run("goes on", "cologne1", "planner", 1, "headway")
    database.execute("UPDATE run SET begun_at = now() - interval '3 days' WHERE id = :r", r=run)
    now = datetime.now(UTC)
    for at_s, age in ((50.0, 2.5), (100.0, 2), (200.0, 0)):
        at = (now - timedelta(days=age)).isoformat()
        row = (run, at_s, "J", 1, 1, 1.0, 1.0, at, 1.0, 1.0, 1, 1.0)
        intake.write("observation", [row])
        intake.write("emission", [(run, at_s, 1, 1.0, 1.0)])
    assert retain(database, 1).rows == {
        "simulation_record": 0, "run": 0, "violation": 0, "emission": 2, "observation": 2,
    }  # fmt: skip
    for table in ("observation", "emission"):
        kept = database.rows(f"SELECT at_s FROM {table} WHERE run_id = :run", run=run)
        assert kept == [{"at_s": 200.0}]
    assert intake.write_sound("emission", [(run, 205.0, 1, 1.0, 1.0)]).stored == 1


def test_retention_counts_parts_of_a_day_and_keeps_keys_and_audit_trail(database, intake):
    database.execute(
        "INSERT INTO api_key (id, hash, name, role, made_at) VALUES ('k', 'h', 'n', 'r', "
        "'1999-01-01')"
    )
    database.execute("INSERT INTO audit SELECT 1, '1999-01-01', 'w', 'r', 'x', 200, '{}', '', 'h'")
    records(intake, "R", at(timedelta(hours=11, minutes=59)), at(timedelta(hours=12, minutes=1)))
    assert retain(database, 0.5).rows["simulation_record"] == 1
    records(intake, "S", at(timedelta(seconds=-60)))
    assert retain(database, 1e-5).rows["simulation_record"] == 1
    assert [
        r["simulation_id"] for r in database.rows("SELECT simulation_id FROM simulation_record")
    ] == ["S"]
    assert (count(database, "api_key"), count(database, "audit")) == (1, 1)


@pytest.mark.parametrize("days", [0, 0.0, -0.0, -1, -1e-9, 100_001, math.inf, -math.inf, math.nan])
def test_an_invalid_number_of_days_is_refused_and_deletes_nothing(database, intake, days):
    records(intake, "R", "1999-01-01T00:00:00Z")
    with pytest.raises(
        ValueError, match=rf"^days: {days!r} is not allowed: above 0, at most 100000.$"
    ):
        retain(database, days)
    assert count(database, "simulation_record") == 1


def test_a_day_has_86400_seconds_however_many_they_are(database, intake):
    days = timedelta(days=50_000)
    records(intake, "R", at(days - timedelta(hours=6)), at(days + timedelta(hours=6)))
    assert retain(database, 100_000).rows["simulation_record"] == 0
    assert retain(database, 50_000).rows["simulation_record"] == 1


@pytest.mark.parametrize("tidy", [vacuum, lambda database: retain(database, 1)])
def test_the_query_planner_has_fresh_statistics(database, tidy):
    database.execute(
        "INSERT INTO api_key (id, hash, name, role) SELECT k, 'h', 'n', "
        "'r' FROM generate_series(1, 5) k"
    )
    tidy(database)
    known = "SELECT reltuples::int AS n FROM pg_class WHERE relname = 'api_key'"
    assert database.rows(known) == [{"n": 5}]
    database.execute("DELETE FROM api_key WHERE id > '2'")
    tidy(database)
    assert database.rows(known) == [{"n": 2}]


def test_one_simulation_is_erased_and_no_other(database, intake):
    for name, n in (("A", 3), ("AB", 2), ("a", 1)):
        records(intake, name, *(f"2025-0{k}-01T00:00:00Z" for k in range(1, n + 1)))
    assert erase(database, "A") == 3
    assert sorted(
        r["simulation_id"] for r in database.rows("SELECT simulation_id FROM simulation_record")
    ) == ["AB", "AB", "a"]
    assert (erase(database, "A"), erase(database, "%"), erase(database, "AB")) == (0, 0, 2)


def put_aside(intake, table, *rows):
    intake.put_aside(table, rows, ValueError("no"))


def left_aside(folder):
    lines = (folder / "refused.jsonl").read_text().splitlines()
    return [(found["table"], row[0]) for found in map(json.loads, lines) for row in found["rows"]]


def test_what_was_put_aside_of_a_simulation_is_erased_with_it(intake, tmp_path):
    put_aside(intake, "simulation_record", ["GONE", "t"], ["KEPT", "t"], ["GONE", "u"])
    put_aside(intake, "event", ["GONE", 1])
    put_aside(intake, "simulation_record", ["GONE", "v"])
    with (tmp_path / "refused.jsonl").open("a") as stream:
        stream.write("damaged\n")
    assert intake.refused.erase_simulation("GONE") == 3
    assert intake.refused.erase_simulation("GON") == 0
    text = (tmp_path / "refused.jsonl").read_text()
    assert text.splitlines()[-1] == "damaged"
    (tmp_path / "refused.jsonl").write_text(text.replace("damaged\n", ""))
    assert left_aside(tmp_path) == [("simulation_record", "KEPT"), ("event", "GONE")]
    assert intake.refused.erase_simulation("GONE") == 0
    put_aside(intake, "simulation_record", ["LATER", "t"])
    assert left_aside(tmp_path)[-1] == ("simulation_record", "LATER")


def test_what_was_put_aside_of_a_device_is_erased_with_its_images(intake, tmp_path):
    first, second, third = ("2026-01-01T00:00:00Z", "2026-01-02 00:00:00+00:00", "no time")
    put_aside(intake, "violation_picture", ["v1", 0], ["v2", 0], ["stored", 0], ["other", 0])
    put_aside(intake, "violation", ["v1", first, "a"], ["v2", second, "a"], ["v3", third, "a"])
    put_aside(intake, "violation", ["v4", first, "b"])
    until_second = datetime(2026, 1, 2, tzinfo=UTC)
    assert intake.refused.erase_violations("a", None, until_second, ["stored"]) == 4
    assert left_aside(tmp_path) == [
        ("violation_picture", "v2"),
        ("violation_picture", "other"),
        ("violation", "v2"),
        ("violation", "v4"),
    ]


def test_what_was_damaged_while_it_waited_is_erased_by_the_name_that_is_in_it(database, tmp_path):
    """It stayed for ever: who asked to be erased was still there, photographs included."""
    lines = [
        b'{"kind":"simulation_record","rows":[["G\\u00f6NE","2026-01',
        b'{"kind":"simulation_record","rows":[["KEPT","2026-01',
        b'{"kind":"violation","rows":[["v1","2026-01-01","cam-1", \xff\xfe',
        b'{"kind":"violation_picture","rows":[["v2",0,"AAAA',
        b'{"kind":"violation_picture","rows":[["v3",0,"AAAA',
    ]
    (tmp_path / "spool.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    intake = Intake(database, tmp_path)  # at its start they are put aside
    aside = tmp_path / "spool.unreadable"
    assert aside.read_bytes().splitlines() == lines
    (tmp_path / "refused.jsonl").write_bytes(
        b'{"table": "simulation_record", "rows": [["G\\u00f6NE"\n'
    )
    assert intake.refused.erase_simulation("GöNE") == 2
    assert intake.refused.erase_violations("cam-1", None, None, ["v2"]) == 2
    assert aside.read_bytes().splitlines() == [lines[1], lines[4]]
    assert (tmp_path / "refused.jsonl").read_bytes() == b""


def test_what_was_put_aside_is_forgotten_in_time(intake, tmp_path):
    """`refused.jsonl` kept rows for ever that had gone from the database after a year."""
    put_aside(intake, "simulation_record", ["NEW", "t"])
    file, damaged = tmp_path / "refused.jsonl", tmp_path / "spool.unreadable"
    new = file.read_text()
    old = new.replace("NEW", "OLD").replace(json.loads(new)["at"], "2020-01-01T00:00:00+00:00")
    timeless = '{"table": "event", "rows": [[1]], "why": "of an earlier version"}\n'
    file.write_text(old + timeless + "damaged\n" + new)
    damaged.write_text("damaged, too\n")
    assert intake.refused.retain(365) == 1
    assert file.read_text() == timeless + "damaged\n" + new
    assert damaged.read_text() == "damaged, too\n"
    year_ago = time.time() - 366 * 86_400
    for path in (file, damaged):
        os.utime(path, (year_ago, year_ago))
    assert intake.refused.retain(365) == 3
    assert (file.read_text(), damaged.read_text()) == (new, "")


def test_rows_that_wait_for_a_full_disk_are_erased_too(intake, tmp_path):
    (tmp_path / "refused.jsonl").mkdir()
    put_aside(intake, "simulation_record", ["GONE", "t"])
    put_aside(intake, "simulation_record", ["KEPT", "t"])
    (tmp_path / "refused.jsonl").rmdir()
    assert intake.refused.erase_simulation("GONE") == 1
    intake.refused.write()
    assert left_aside(tmp_path) == [("simulation_record", "KEPT")]


def test_another_process_erases_while_rows_are_put_aside(intake, tmp_path):
    """Those of the one that serves are lost to none: it opens the file anew after each erasure."""
    beside = RefusedRows(tmp_path / "refused.jsonl")

    def put_all():
        for n in range(200):
            put_aside(intake, "simulation_record", ["GONE", n])
            put_aside(intake, "simulation_record", ["KEPT", n])

    writing = threading.Thread(target=put_all)
    writing.start()
    gone = 0
    while writing.is_alive():
        gone += beside.erase_simulation("GONE")
    writing.join()
    gone += beside.erase_simulation("GONE")
    assert (gone, len(left_aside(tmp_path))) == (200, 200)


@pytest.mark.parametrize(
    "take_away",
    [
        lambda database: erase(database, "R"),
        lambda database: retain(database, 2).rows["simulation_record"],
    ],
)
def test_a_correction_under_way_leaves_no_version_of_a_record_that_is_gone(
    database, intake, take_away
):
    records(intake, "R", at(OLDER))
    (known,) = database.rows("SELECT * FROM simulation_record")
    values = {**known, "signals": "[]", "vehicle_types": "[]", "vehicles": 2}
    values |= {"at": known["at"], "who": "an engineer", "reason": "a clock"}
    deleting, gone = threading.Thread(target=lambda: gone.append(take_away(database))), []
    with database.engine.begin() as correcting:
        for statement in (LOCK, KEEP, CORRECT):
            correcting.execute(sa.text(statement), values)
        deleting.start()
        until(lambda: database.rows("SELECT FROM pg_locks WHERE NOT granted"))
    deleting.join(30)
    assert gone == [1]
    assert (count(database, "simulation_record"), count(database, "record_version")) == (0, 0)


def hour(h):
    return datetime(2026, 3, 1, h, tzinfo=UTC)


@pytest.mark.parametrize(
    ("begin", "end", "left"),
    [
        (None, None, []),
        (hour(2), None, [1]),
        (None, hour(2), [2, 3]),
        (hour(2), hour(3), [1, 3]),
        (hour(1), hour(1), [1, 2, 3]),
        (hour(4), None, [1, 2, 3]),
        (None, hour(1), [1, 2, 3]),
    ],
)
def test_the_violations_of_one_device_are_erased_from_a_time_to_before_another(
    database, intake, begin, end, left
):
    reported = [(h, "a", hour(h).isoformat()) for h in (1, 2, 3)]
    violations(intake, *reported, (9, "b", hour(2).isoformat()))
    assert erase_violations(database, "a", begin, end) == 3 - len(left)
    assert [r["id"].int for r in database.rows("SELECT id FROM violation ORDER BY id")] == [
        *left,
        9,
    ]
    assert count(database, "violation_picture") == 2 * (len(left) + 1)
    assert {
        r["device"]: r["n"]
        for r in database.rows("SELECT device, sum(n)::int AS n FROM violation_day GROUP BY 1")
    } == ({"a": len(left), "b": 1} if left else {"b": 1})


def test_a_key_file_is_made_once_and_private_to_its_owner(tmp_path):
    path = tmp_path / "a.key"
    new_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_bytes()
    assert (len(text), text[-1:]) == (45, b"\n")  # 32 bytes as base64, and a line's end
    assert read_key(path) == base64.b64decode(text)
    assert len(read_key(path)) == 32
    with pytest.raises(FileExistsError):
        new_key(path)
    assert path.read_bytes() == text
    new_key(tmp_path / "b.key")
    assert read_key(tmp_path / "b.key") != read_key(path)


def test_a_full_disk_leaves_no_key_file_that_holds_none(tmp_path):
    """An empty one stayed, and no backup could be made any more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            new_key(tmp_path / "a.key")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    new_key(tmp_path / "a.key")
    assert len(read_key(tmp_path / "a.key")) == 32


def test_an_invalid_backup_key_is_refused_with_a_remedy(tmp_path):
    path = tmp_path / "k"
    path.write_bytes(b" \n" + base64.b64encode(KEY) + b"\n\n")
    assert read_key(path) == KEY
    for text in (b"not base64!", b"a", "ä".encode()):
        path.write_bytes(text)
        with pytest.raises(
            ValueError, match=rf"^{path}: is no key file. Make one: headway db key {path}$"
        ):
            read_key(path)
    for length in (0, 31, 33):
        path.write_bytes(base64.b64encode(bytes(length)))
        with pytest.raises(
            ValueError,
            match=rf"^{path}: holds {length} bytes, a key has 32. Make one: headway db key {path}$",
        ):
            read_key(path)


def opened(path, key):
    """The file read by its definition: a title, 4 bytes of nonce, then (length, sealed)
    parts numbered from 0, the last one of the dump marked so; after it the rows of each table.
    """
    data = path.read_bytes()
    assert data[:17] == b"HEADWAY-BACKUP-1\n"
    start, place, parts, marks = data[17:21], 21, [], []
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        sealed, place = data[place + 4 : place + 4 + length], place + 4 + length
        nonce = start + len(parts).to_bytes(8, "big")
        for mark in (b"more", b"last", b"rows"):
            with contextlib.suppress(InvalidTag):
                parts.append(AESGCM(key).decrypt(nonce, sealed, mark))
                marks.append(mark)
                break
    dump = marks[:-1] if marks[-1] == b"rows" else marks
    assert dump == [b"more"] * (len(dump) - 1) + [b"last"]
    return parts[: len(dump)]


def sealed(path, parts, key=KEY, start=b"abcd", marks=None):
    """A file of our own by the same definition."""
    marks = marks or [b"more"] * (len(parts) - 1) + [b"last"]
    lines = [
        AESGCM(key).encrypt(start + k.to_bytes(8, "big"), part, mark)
        for k, (part, mark) in enumerate(zip(parts, marks, strict=True))
    ]
    path.write_bytes(
        b"HEADWAY-BACKUP-1\n" + start + b"".join(len(x).to_bytes(4, "big") + x for x in lines)
    )


@pytest.fixture
def flushed(monkeypatch):
    """Sizes of files when they were flushed to the disk."""
    sizes, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda d: (sizes.append(os.fstat(d).st_size), fsync(d))[1])
    return sizes


def test_a_backup_is_sealed_in_parts_of_a_mebibyte_and_flushed_to_the_disk(
    database, tmp_path, flushed
):
    insert = (
        "INSERT INTO violation_picture SELECT gen_random_uuid(), k, 0, "
        "string_agg(sha256((random()::text || k)::bytea), '') FROM generate_series(1, 3) k, "
        "generate_series(1, 22000) GROUP BY k"
    )
    database.execute(insert)
    database.execute("INSERT INTO api_key (id, hash, name, role) VALUES ('SECRET', 'h', 'n', 'r')")
    path = tmp_path / "deep.backup"
    assert backup(database, path, KEY) == path.stat().st_size
    assert flushed == [path.stat().st_size]
    assert [p.name for p in tmp_path.iterdir()] == ["deep.backup"]
    parts = opened(path, KEY)
    assert [len(p) for p in parts[:-1]] == [2**20, 2**20]
    assert 0 < len(parts[-1]) < 2**20
    assert parts[0][:5] == b"PGDMP"
    assert b"PGDMP" not in path.read_bytes()
    again = tmp_path / "again.backup"
    backup(database, again, KEY)
    assert again.read_bytes()[17:21] != path.read_bytes()[17:21]  # one nonce is never used twice
    before = database.rows("SELECT number, sha256(jpeg) AS h FROM violation_picture ORDER BY 1")
    database.execute("TRUNCATE violation_picture")
    restore(database, path, KEY)
    assert (
        database.rows("SELECT number, sha256(jpeg) AS h FROM violation_picture ORDER BY 1")
        == before
    )


def everything(database):
    names = [
        r["t"]
        for r in database.rows(
            "SELECT tablename AS t FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        )
    ]
    return {
        t: database.rows(f"SELECT * FROM {t} ORDER BY 1, 2")
        if t != "alembic_version"
        else database.rows(f"SELECT * FROM {t}")
        for t in names
    }


def test_a_backup_can_be_restored_repeatedly_row_by_row(database, intake, tmp_path):
    run = run_of(intake, "kept")
    intake.write(
        "event", [(run, 9, 0.0, "\nCREATE SCHEMA public;\n", "CREATE SCHEMA public;", "{}")]
    )
    records(intake, "KEPT", "2025-09-10T00:00:00Z", "1999-01-01T00:00:00Z")
    violations(intake, (1, "a", hour(1).isoformat()))
    path = tmp_path / "r.backup"
    for _ in range(2):
        before = everything(database)
        backup(database, path, KEY)
        database.execute("DELETE FROM simulation_record")
        database.execute("DELETE FROM run")
        intake.write(
            "violation",
            [
                (
                    "00000000-0000-0000-0000-000000000002",
                    hour(2).isoformat(),
                    "b",
                    "speeding",
                    0.9,
                    "{}",
                    "s",
                )
            ],
        )
        pids = {
            r["pid"]
            for r in database.rows(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            )
        }
        restore(database, path, KEY)
        assert database.rows("SELECT pg_backend_pid() AS pid")[0]["pid"] not in pids
        assert everything(database) == before
    assert intake.begin_run("next", "s", "c", 1) == run + 1  # numbers go on where they were
    erase_violations(database, "a")
    assert count(database, "violation_hour") == 0  # triggers work on


def test_a_damaged_backup_or_another_key_changes_nothing(database, intake, tmp_path):
    records(intake, "KEPT", "2025-09-10T00:00:00Z")
    path, other = tmp_path / "r.backup", tmp_path / "o.backup"
    backup(database, path, KEY)
    whole, parts = path.read_bytes(), opened(path, KEY)
    records(intake, "NEW", "2025-09-11T00:00:00Z")
    fits = rf"^{other}: the key does not fit, or the file was changed.$"
    cut = rf"^{other}: is cut off.$"

    def refused(match, key=KEY):
        with pytest.raises(ValueError, match=match):
            restore(database, other, key)

    for data in (b"", b"HEADWAY", b"HEADWAY-BACKUP-2\n" + whole[17:]):
        other.write_bytes(data)
        refused(rf"^{other}: is no backup of Headway's.$")
    other.write_bytes(whole)
    refused(fits, bytes(32))
    for data in (whole[:17], whole[:21]):
        other.write_bytes(data)
        refused(cut)
    for data in (
        whole[:23],
        whole[:25],
        whole[:26],
        whole[:-1],
        whole + b"\0",
        whole[:17] + b"abcd" + whole[21:],
        whole[:40] + bytes(1) + whole[41:],
    ):
        other.write_bytes(data)
        refused(fits)
    middle = len(parts[0]) // 2
    halves = [parts[0][:middle], parts[0][middle:]]
    sealed(other, halves)
    assert opened(other, KEY) == halves
    data = other.read_bytes()
    one, two = data[21 : 21 + 20 + middle], data[21 + 20 + middle :]
    for changed, match in (
        (data[:21] + one, cut),
        (data[:21] + two, fits),
        (data[:21] + two + one, fits),
        (data[:21] + one + one, fits),
    ):
        other.write_bytes(changed)
        refused(match)
    sealed(other, halves, marks=[b"more", b"more"])
    refused(cut)
    assert count(database, "simulation_record") == 2
    other.write_bytes(data)
    restore(database, other, KEY)
    assert count(database, "simulation_record") == 1


def test_a_sealed_file_that_is_no_dump_changes_nothing(database, intake, tmp_path):
    records(intake, "KEPT", "2025-09-10T00:00:00Z")
    path = tmp_path / "r.backup"
    sealed(path, [b"PGDMP", b"nonsense"])
    with pytest.raises(
        DatabaseError, match=rf"^{path}: cannot be read: pg_restore: error: .*[^\n]$"
    ):
        restore(database, path, KEY)
    assert count(database, "simulation_record") == 1


def test_a_backup_of_a_newer_version_is_not_restored(database, intake, tmp_path):
    """The database that it would leave could not be opened any more."""
    newer = "UPDATE alembic_version SET version_num = :v"
    (before,) = database.rows("SELECT version_num AS v FROM alembic_version")
    database.execute(newer, v="0099")
    backup(database, tmp_path / "newer", KEY)
    database.execute(newer, v=before["v"])
    with pytest.raises(DatabaseError, match=r"nothing was changed.*newer Headway \(schema 0099\)"):
        restore(database, tmp_path / "newer", KEY)
    assert database.rows("SELECT version_num AS v FROM alembic_version") == [before]


def test_a_restore_that_fails_midway_changes_nothing(database, intake, tmp_path, monkeypatch):
    records(intake, "KEPT", "2025-09-10T00:00:00Z")
    path = tmp_path / "r.backup"
    backup(database, path, KEY)
    records(intake, "NEW", "2025-09-11T00:00:00Z")
    monkeypatch.setenv("PGOPTIONS", "-c lock_timeout=20ms")
    with database.engine.begin() as held:
        held.execute(sa.text("SELECT 1 FROM simulation_record"))
        with pytest.raises(
            DatabaseError,
            match=rf"^{path}: was not restored, nothing was changed: ERROR: .*lock timeout[^\n]*$",
        ):
            restore(database, path, KEY)
    assert count(database, "simulation_record") == 2


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """PostgreSQL's tools as the machine has them, not as they come with us:
    scripts in a folder of the PATH.
    """
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setattr(package(), "__file__", str(tmp_path / "elsewhere" / "__init__.py"))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("PGPASSWORD", raising=False)

    def tool(name, script):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return tool


TELL = 'echo "$@, password ${PGPASSWORD-none}" >&2; exit 3'


@pytest.mark.parametrize(("password", "reported"), [(":s3cret", "s3cret"), ("", "none")])
def test_the_tools_get_the_password_where_other_users_cannot_read_it(
    database, tmp_path, tools, password, reported
):
    away = Database(
        database.engine,
        f"postgresql+psycopg://me{password}@host:5433/record",
    )
    tools("pg_dump", TELL)
    with pytest.raises(
        DatabaseError,
        match=r"^the backup failed: --format=custom --no-owner --snapshot=[0-9A-F-]+ "
        rf"postgresql://me@host:5433/record, password {reported}$",
    ):
        backup(away, tmp_path / "r.backup", KEY)
    sealed(tmp_path / "r.backup", [b"dump"])
    tools("pg_restore", 'echo "$@: $(cat)"')
    lines = BEGIN_RESTORE.count(b"\n") + 1
    tools("psql", f'echo "$(head -n {lines})," >&2; {TELL}')
    with pytest.raises(DatabaseError) as error:
        restore(away, tmp_path / "r.backup", KEY)
    assert str(error.value) == (
        f"{tmp_path / 'r.backup'}: was not restored, nothing was changed: "
        f"{BEGIN_RESTORE.decode().lstrip()}--no-owner --file=-: dump,\n"
        "--quiet --no-psqlrc --set=ON_ERROR_STOP=1 "
        f"postgresql://me@host:5433/record, password {reported}"
    )


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 1", "pg_dump gave no reason"),
        ("echo part; echo ' broken off ' >&2; exit 1", "broken off"),
    ],
)
def test_a_failed_dump_leaves_the_previous_backup(database, tmp_path, tools, script, why):
    path = tmp_path / "r.backup"
    path.write_bytes(b"of before")
    tools("pg_dump", script)
    with pytest.raises(DatabaseError, match=f"^the backup failed: {why}$"):
        backup(database, path, KEY)
    assert path.read_bytes() == b"of before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.backup", "tools"]


def test_a_full_disk_leaves_the_previous_backup_and_nothing_else(database, tmp_path):
    path = tmp_path / "r.backup"
    path.write_bytes(b"of before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            backup(database, path, KEY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"of before"
    assert [p.name for p in tmp_path.iterdir()] == ["r.backup"]


def test_what_a_killed_backup_left_goes_with_the_next_into_the_same_file(database, tmp_path):
    killed, written, other = (
        tmp_path / name
        for name in ("b[1].backup.7.draft", "b[1].backup.8.draft", "b1.backup.7.draft")
    )
    for draft in (killed, written, other):
        draft.touch()
    with written.open("ab") as another_process:
        fcntl.flock(another_process, fcntl.LOCK_EX)
        backup(database, tmp_path / "b[1].backup", KEY)
    left = {"b[1].backup", "b[1].backup.8.draft", "b1.backup.7.draft"}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_a_small_backup_reaches_the_disk_to_its_last_byte(database, tmp_path, tools, flushed):
    tools("pg_dump", "printf dump")
    counts = 20 + len(json.dumps({"rows": row_counts(database)}))
    assert backup(database, tmp_path / "r.backup", KEY) == 21 + 4 + 4 + 16 + counts
    assert flushed == [45 + counts]
    assert opened(tmp_path / "r.backup", KEY) == [b"dump"]


def test_long_messages_of_pg_dump_do_not_block_it(database, tmp_path, tools):
    tools("pg_dump", "head -c 300000 /dev/zero | tr '\\0' x >&2; head -c 3000000 /dev/zero")
    counts = 20 + len(json.dumps({"rows": row_counts(database)}))
    assert backup(database, tmp_path / "r.backup", KEY) == 21 + 3_000_000 + 3 * 20 + counts
    assert b"".join(opened(tmp_path / "r.backup", KEY)) == bytes(3_000_000)


def scratch_databases(database):
    names = database.rows(
        "SELECT datname AS n FROM pg_database WHERE datname LIKE 'headway_drill%'"
    )
    return [row["n"] for row in names]


def test_a_drill_restores_into_a_database_of_its_own_counts_and_drops_it(
    database, intake, tmp_path
):
    records(intake, "OLD", "2025-09-10T00:00:00Z", "2025-08-10T00:00:00Z")
    path = tmp_path / "r.backup"
    backup(database, path, KEY)
    records(intake, "NEW", "2025-09-11T00:00:00Z")  # what came since is no fault of the backup
    found = drill(database, path, KEY)
    assert (found.differences, found.fault) == ({}, "")
    assert (found.rows, found.rows["simulation_record"]) == (found.expected, 2)
    assert {"audit", "run", "violation", "alembic_version"} <= set(found.rows)
    assert "simulation_record_2025_09" not in found.rows
    assert scratch_databases(database) == []
    assert count(database, "simulation_record") == 3


def test_rows_that_a_backup_lost_are_found_by_the_drill(database, intake, tmp_path):
    """The counts say 3 records, the dump holds 2: as if one were lost on the way."""
    records(intake, "A", "2025-09-10T00:00:00Z", "2025-09-10T00:00:01Z")
    path = tmp_path / "r.backup"
    backup(database, path, KEY)
    told = rows_in(path, KEY) | {"simulation_record": 3, "gone": 1}
    dump = opened(path, KEY)
    counts = json.dumps({"rows": told}).encode()
    sealed(path, [*dump, counts], marks=[*[b"more"] * (len(dump) - 1), b"last", b"rows"])
    found = drill(database, path, KEY)
    assert found.differences == {"gone": (1, None), "simulation_record": (3, 2)}


def test_a_backup_that_does_not_say_how_many_rows_it_has_passes_no_drill(
    database, intake, tmp_path
):
    """One of an earlier version, or cut off before its last part."""
    records(intake, "A", "2025-09-10T00:00:00Z")
    path = tmp_path / "r.backup"
    backup(database, path, KEY)
    sealed(path, opened(path, KEY))
    found = drill(database, path, KEY)
    assert (found.expected, found.differences, found.rows["simulation_record"]) == (None, {}, 1)
    assert found.fault.startswith("it does not say how many rows it has: it was cut off there, or")


@pytest.mark.parametrize("marks", [[b"more", b"rows"], [b"rows", b"last"], [b"last", b"last"]])
def test_parts_in_another_order_are_refused(database, tmp_path, marks):
    path = tmp_path / "r.backup"
    sealed(path, [b"a", b"b"], marks=marks)
    for read in (lambda: rows_in(path, KEY), lambda: restore(database, path, KEY)):
        with pytest.raises(ValueError, match="the key does not fit, or the file was changed"):
            read()


def test_what_a_drill_that_was_killed_has_left_is_dropped_by_one_of_another_day(database, tmp_path):
    now_s = int(time.time())
    names = {age: f"headway_drill_{now_s - age}_{os.getpid():x}" for age in (100_000, 1_000)}
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as held:
        for name in names.values():
            held.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0")
        backup(database, tmp_path / "b", KEY)
        drill(database, tmp_path / "b", KEY)
        found = {row["datname"] for row in database.rows("SELECT datname FROM pg_database")} & set(
            names.values()
        )
        held.exec_driver_sql(f"DROP DATABASE {names[1_000]}")
    assert found == {names[1_000]}  # that of another process that is at it


def test_a_drill_that_fails_leaves_no_database_behind(database, tmp_path):
    path = tmp_path / "r.backup"
    sealed(path, [b"PGDMP", b"nonsense"])
    with pytest.raises(DatabaseError, match="cannot be read"):
        drill(database, path, KEY)
    with pytest.raises(ValueError, match="the key does not fit"):
        drill(database, path, bytes(32))
    assert scratch_databases(database) == []


def test_a_drill_needs_the_right_to_make_databases(database, intake, tmp_path):
    path = tmp_path / "r.backup"
    backup(database, path, KEY)
    database.execute("DROP ROLE IF EXISTS plain")
    database.execute("CREATE ROLE plain")
    engine = sa.create_engine(
        sa.make_url(database.url).set(drivername="postgresql+psycopg"),
        connect_args={"options": "-c role=plain"},
    )
    with pytest.raises(DatabaseError, match=r"ALTER ROLE \.\.\. CREATEDB"):
        drill(Database(engine, database.url), path, KEY)
    engine.dispose()
    database.execute("DROP ROLE plain")


def test_a_restore_revives_neither_revoked_keys_nor_revoked_tokens(database, tmp_path):
    """Revoked, or given an earlier end, after the backup was made; one was revoked before it."""
    database.execute(
        "INSERT INTO api_key (id, hash, name, role, expires_at, revoked_at) VALUES "
        "('gone', 'h', 'n', 'viewer', NULL, NULL), ('ends', 'h', 'n', 'viewer', NULL, NULL), "
        "('kept', 'h', 'n', 'viewer', NULL, NULL), ('was', 'h', 'n', 'viewer', NULL, now())"
    )
    path = tmp_path / "r.backup"
    backup(database, path, KEY)
    database.execute("UPDATE api_key SET revoked_at = now() WHERE id = 'gone'")
    database.execute("UPDATE api_key SET expires_at = '2026-01-02Z' WHERE id = 'ends'")
    database.execute("INSERT INTO revoked_token (id, expires_at) VALUES ('t', '2099-01-01Z')")
    restore(database, path, KEY)
    rows = database.rows("SELECT id, revoked_at, expires_at FROM api_key")
    found = {r["id"]: (r["revoked_at"] is not None, r["expires_at"]) for r in rows}
    assert found == {
        "gone": (True, None), "kept": (False, None), "was": (True, None),
        "ends": (False, datetime(2026, 1, 2, tzinfo=UTC)),
    }  # fmt: skip
    assert database.rows("SELECT id FROM revoked_token") == [{"id": "t"}]
    database.execute("DELETE FROM revoked_token")


def test_a_restore_prints_nothing_of_its_own(database, intake, tmp_path, capfd):
    path = tmp_path / "r.backup"
    backup(database, path, KEY)
    restore(database, path, KEY)
    assert capfd.readouterr().out == ""


def test_a_backup_is_restored_in_parts_and_never_held_whole(database, intake, tmp_path):
    """Twenty rows of 2 MB each: the restore itself needs less than a quarter of them."""
    run = run_of(intake, "large")
    row = json.dumps({"text": secrets.token_hex(1_000_000)})
    for number in range(20):
        intake.write("event", [(run, 1000 + number, 0.0, "k", "J", row)])
    path = tmp_path / "large.backup"
    backup(database, path, KEY)
    tracemalloc.start()
    try:
        restore(database, path, KEY)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert database.rows("SELECT count(*) AS n FROM event WHERE number >= 1000") == [{"n": 20}]


def test_a_backup_that_is_damaged_while_it_is_restored_changes_nothing(
    database, intake, tmp_path, monkeypatch
):
    records(intake, "KEPT", "2025-09-10T00:00:00Z")
    path = tmp_path / "r.backup"
    backup(database, path, KEY)
    records(intake, "NEW", "2025-09-11T00:00:00Z")
    checked = rows_in(path, KEY)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr("headway.store.upkeep.rows_in", lambda *_: checked)
    with pytest.raises(DatabaseError, match=r"cannot be read|was not restored"):
        restore(database, path, KEY)
    assert count(database, "simulation_record") == 2


KILLED = """
import os, sys
from pathlib import Path
from headway.store import open_database, upkeep

class Lines(tuple):
    seen = 0

    def __contains__(self, line):  # asked of each line that goes to psql
        self.seen += line.startswith(b"KEPT")
        if self.seen == 900:
            os.kill(os.getpid(), 9)
        return super().__contains__(line)

upkeep.LEFT_OUT = Lines(upkeep.LEFT_OUT)
upkeep.restore(open_database(Path("."), sys.argv[1]), Path(sys.argv[2]), bytes(range(32)))
"""


def test_a_restore_that_is_killed_changes_nothing(database, intake, tmp_path):
    """psql committed what it had got, a part of the tables, when whoever wrote to it was gone."""
    begin = datetime(2025, 9, 10, tzinfo=UTC)
    records(intake, "KEPT", *((begin + timedelta(seconds=k)).isoformat() for k in range(1000)))
    path = tmp_path / "r.backup"
    backup(database, path, KEY)
    records(intake, "NEW", "2025-09-11T00:00:00Z")
    words = [sys.executable, "-c", KILLED, database.url, str(path)]
    assert subprocess.run(words, cwd=tmp_path, timeout=300).returncode == -signal.SIGKILL
    tool = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND "
        "application_name = 'psql'"
    )
    until(lambda: not database.rows(tool))
    names = "SELECT simulation_id AS name, count(*) AS n FROM simulation_record GROUP BY 1"
    found = {row["name"]: row["n"] for row in database.rows(names)}
    assert found == {"KEPT": 1000, "NEW": 1}


def test_a_restore_whose_psql_is_killed_does_not_blame_the_backup(
    database, intake, tmp_path, monkeypatch
):
    """pg_restore ends too, with nobody to write to: "cannot be read", and no reason at all."""
    begin = datetime(2025, 9, 10, tzinfo=UTC)
    records(intake, "R", *((begin + timedelta(seconds=k)).isoformat() for k in range(5000)))
    path, psql, tool = tmp_path / "r.backup", tmp_path / "psql", upkeep._tool
    backup(database, path, KEY)
    psql.write_text("#!/bin/sh\nhead -c 100 > /dev/null\nkill -9 $$\n")
    psql.chmod(0o755)
    monkeypatch.setattr(upkeep, "_tool", lambda name: str(psql) if name == "psql" else tool(name))
    with pytest.raises(DatabaseError, match=r"nothing was changed: psql was killed \(signal 9\)"):
        restore(database, path, KEY)


def test_a_restore_does_not_bring_back_what_was_erased_since(database, intake, tmp_path):
    """What has come again under that name before the backup was made is there afterwards."""
    database.execute("TRUNCATE erased")
    for name in ("ERASED", "KEPT", "AGAIN"):
        records(intake, name, "2025-09-10T00:00:00Z")
    erase(database, "AGAIN")
    records(intake, "AGAIN", "2025-09-12T00:00:00Z")
    violations(intake, (1, "a", hour(1).isoformat()), (2, "a", hour(5).isoformat()),
               (3, "b", hour(1).isoformat()))  # fmt: skip
    path = tmp_path / "r.backup"
    backup(database, path, KEY)
    erase(database, "ERASED")
    erase_violations(database, "a", None, hour(2))
    for _ in range(2):
        restore(database, path, KEY)
        names = database.rows("SELECT simulation_id AS name FROM simulation_record ORDER BY 1")
        assert names == [{"name": "AGAIN"}, {"name": "KEPT"}]
        left = database.rows("SELECT device, at FROM violation ORDER BY 1")
        assert left == [{"device": "a", "at": hour(5)}, {"device": "b", "at": hour(1)}]
        sums = database.rows("SELECT device, sum(n) AS n FROM violation_hour GROUP BY 1 ORDER BY 1")
        assert [(row["device"], row["n"]) for row in sums if row["n"]] == [("a", 1), ("b", 1)]


def test_a_run_under_way_stays_however_long_nothing_was_observed_of_it(database, intake):
    """Its street is paused: begun and last observed long ago."""
    runs = [run_of(intake, name) for name in ("paused", "over")]
    for run in runs:
        database.execute("UPDATE run SET begun_at = now() - interval '9 days' WHERE id = :r", r=run)
        database.execute("UPDATE observation SET at = now() - interval '8 days'")
    assert retain(database, 1, under_way={runs[0]}).rows["run"] == 1
    assert database.rows("SELECT id FROM run") == [{"id": runs[0]}]
    assert intake.write_sound("emission", [(runs[0], 1e6, 1, 1.0, 1.0)]).stored == 1


def test_a_command_beside_a_service_leaves_the_newest_run_of_each_street(new_record, tmp_path):
    """It is not told which runs go on; alone, it knows that none does."""
    # a database of its own: others may be connected to the one that tests share
    with contextlib.closing(open_database(tmp_path / "own", new_record())) as database:
        intake = Intake(database, tmp_path)
        runs = [intake.begin_run(f"r{k}", "s", "c", 1, "ab"[k % 2]) for k in range(4)]
        own = intake.begin_run("of no street", "s", "c", 1)
        database.execute("UPDATE run SET begun_at = now() - interval '9 days'")
        with contextlib.closing(open_database(tmp_path / "service", database.url)) as service:
            assert service.alive()
            kept = runs_perhaps_under_way(database)
            assert kept == set(runs[2:])
            assert retain(database, 1, kept).rows["run"] == 3
        assert own not in {row["id"] for row in database.rows("SELECT id FROM run")}
        until(lambda: not runs_perhaps_under_way(database))
        assert retain(database, 1, runs_perhaps_under_way(database)).rows["run"] == 2


def test_nothing_is_deleted_by_a_command_while_rows_wait_on_disk(tmp_path):
    refuse_waiting(tmp_path)
    spool = Spool(tmp_path / "spool.jsonl")
    spool.put("event", [[1, 1, 0.0, "k", "J", "{}"]])
    with pytest.raises(DatabaseError, match=r"spool.jsonl: rows wait .* Start the service"):
        refuse_waiting(tmp_path)
    spool.replay(lambda *_: None)
    refuse_waiting(tmp_path)


def test_a_run_after_a_restore_has_no_number_of_one_whose_rows_wait_on_disk(
    database, intake, tmp_path, monkeypatch
):
    """The backup is older than these runs: the database would give their numbers once more."""
    intake.begin_run("kept", "s", "c", 1)
    path = tmp_path / "r.backup"
    backup(database, path, KEY)
    lost = [intake.begin_run(f"lost {k}", "s", "c", 1) for k in range(15)][-1]
    nowhere = sa.create_engine("postgresql+psycopg://127.0.0.1:9/x")
    for part in (intake, intake._runs):
        monkeypatch.setattr(part, "_database", Database(nowhere, ""))
    waits = intake.begin_run("waits", "s", "c", 1)
    for run in (lost, waits):
        intake.write("event", [(run, 1, 0.0, "k", "J", "{}")])
    restore(database, path, KEY)
    started = Intake(database, tmp_path)
    new = [started.begin_run(f"new {k}", "s", "c", 1) for k in range(15)]
    assert started.catch_up()
    assert min(new) > lost
    assert database.rows("SELECT run_id FROM event") == [{"run_id": started.run_number(waits)}]
    assert database.rows("SELECT count(*) AS n FROM run WHERE key = 'waits'") == [{"n": 1}]
