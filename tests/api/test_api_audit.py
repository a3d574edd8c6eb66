"""Audit entries while the database is away, locked or behind: no order waits for long, no entry is
lost, and none stands there twice.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
import time

import psycopg
import pytest
import sqlalchemy as sa

from headway.api import audit as room
from headway.api.arguments import arguments_of
from headway.api.audit import Audit, AuditEntry, AuditRecorder
from headway.api.seal import Seal
from headway.api.security import Principal, Role
from headway.store import Intake
from headway.store.handed import hand, handed
from headway.store.spool import SpoolFullError
from headway.telemetry import metrics
from tests.api.service import serving
from tests.waiting import until

ANNA = Principal("anna", Role.OPERATOR)


class Trail(Audit):
    """Writes when `free` is set; raises `fault`, if there is one."""

    def __init__(self, database, folder):
        super().__init__(database, Seal(folder))
        self.free, self.fault = threading.Event(), None
        self.free.set()

    def add(self, *words, **named):
        self.free.wait()
        if self.fault is not None:
            raise self.fault
        super().add(*words, **named)


@pytest.fixture
def trail(database, tmp_path):
    database.execute("ALTER TABLE audit DISABLE TRIGGER audit_is_kept")
    database.execute("DELETE FROM audit")
    found = Trail(database, tmp_path)
    yield found
    found.free.set()


@pytest.fixture
def recorder(trail, database, tmp_path):
    return AuditRecorder(trail, Intake(database, tmp_path), tmp_path)


def entry(number):
    data = {"body": f'{{"n":{number}}}'}
    return AuditEntry(1_700_000_000.25 + number, ANNA, f"POST /{number}", 200, data)


def record(recorder, *numbers):
    async def all_at_once():
        await asyncio.gather(*(recorder.record(entry(n)) for n in numbers))

    asyncio.run(all_at_once())


def written(database):
    rows = database.rows(
        "SELECT what, who, role, status, extract(epoch FROM at) AS at, data FROM audit "
        "ORDER BY number"
    )
    assert {(r["who"], r["role"], r["status"]) for r in rows} <= {("anna", "operator", 200)}
    assert all(float(r["at"]) == 1_700_000_000.25 + int(r["what"][6:]) for r in rows)
    assert all(r["data"] == {"body": f'{{"n":{r["what"][6:]}}}'} for r in rows)
    return [r["what"] for r in rows]


def degraded():
    return metrics.registry.get_sample_value("headway_degraded", {"part": "audit"})


def test_an_entry_is_in_the_database_when_its_order_is_answered(recorder, database, tmp_path):
    record(recorder, 1)
    assert (written(database), recorder.spool.waiting, degraded()) == (["POST /1"], 0, 0)
    assert not (tmp_path / "audit.jsonl").exists()


def test_behind_one_that_hangs_others_go_to_disk_and_none_is_lost_or_doubled(
    recorder, trail, database, monkeypatch
):
    monkeypatch.setattr(room, "ENTRY_WITHIN_S", 0.1)
    trail.free.clear()
    record(recorder, 1, 2, 3)  # returns although nothing is written
    assert (recorder.spool.waiting, written(database), degraded()) == (2, [], 1)
    record(recorder, 4)  # waits for nothing more
    assert recorder.spool.waiting == 3
    trail.free.set()
    until(lambda: written(database) == ["POST /1"])
    recorder.catch_up()
    assert written(database) == [f"POST /{n}" for n in (1, 2, 3, 4)]
    assert (recorder.spool.waiting, degraded(), trail.verify()) == (0, 0, (4, ""))


def test_entries_wait_on_disk_through_an_outage_and_a_new_start(
    recorder, trail, database, tmp_path
):
    trail.fault = sa.exc.OperationalError("x", {}, psycopg.OperationalError("away"))
    record(recorder, 1)
    record(recorder, 2)
    with pytest.raises(sa.exc.OperationalError):
        recorder.catch_up()
    assert (recorder.spool.waiting, written(database)) == (2, [])
    again = AuditRecorder(Audit(database, Seal(tmp_path)), Intake(database, tmp_path), tmp_path)
    assert again.spool.waiting == 2
    again.catch_up()
    assert (again.spool.waiting, written(database)) == (0, ["POST /1", "POST /2"])


def test_an_entry_that_is_there_already_is_not_written_again(recorder, trail, database):
    record(recorder, 1, 2)
    trail.fault = sa.exc.OperationalError("x", {}, psycopg.OperationalError("lost at the commit"))
    record(recorder, 3)
    trail.fault = None
    trail.add(ANNA, "POST /3", 200, entry(3).data, entry(3).at)  # the database had it after all
    recorder.catch_up()
    assert written(database) == ["POST /1", "POST /2", "POST /3"]


def test_after_a_long_replay_that_was_killed_no_entry_is_there_twice(
    recorder, trail, database, tmp_path, monkeypatch
):
    """The first ones were given again, and looked for among the newest alone."""
    monkeypatch.setattr(room, "LOOKED_BACK", 3)
    monkeypatch.setattr("headway.store.spool.AT_ONCE", 2, raising=False)
    trail.fault = sa.exc.OperationalError("x", {}, psycopg.OperationalError("away"))
    record(recorder, 1)
    record(recorder, 2, 3, 4, 5, 6)
    trail.fault, add, left = None, trail.add, []

    def noted(who, what, *words, **named):
        add(who, what, *words, **named)
        left.append((what, (tmp_path / "audit.jsonl").read_bytes()))

    monkeypatch.setattr(trail, "add", noted)
    recorder.catch_up()
    last, as_it_was = left[4]
    database.execute("DELETE FROM audit WHERE what = :what", what=left[5][0])
    (tmp_path / "audit.jsonl").write_bytes(as_it_was)  # killed after the fifth
    again = AuditRecorder(Audit(database, Seal(tmp_path)), Intake(database, tmp_path), tmp_path)
    again.catch_up()
    assert sorted(written(database)) == [f"POST /{n}" for n in range(1, 7)], last


@pytest.mark.parametrize("back", ["disk", "database"])
def test_what_neither_took_is_kept_once_one_of_them_takes_entries(
    recorder, trail, database, monkeypatch, back
):
    def full(*_):
        raise OSError(28, "no space left")

    takes = lambda: asyncio.run(recorder.takes_entries())  # noqa: E731
    away = sa.exc.OperationalError("x", {}, psycopg.OperationalError("away"))
    assert takes()
    trail.fault = away
    with monkeypatch.context() as patch:
        patch.setattr(recorder.spool, "put", full)
        for number in (1, 2):  # two that were under way
            with pytest.raises(OSError, match="no space"):
                record(recorder, number)
        assert not takes()
        with recorder._keeping:  # another one tries, and the database hangs
            assert not takes()
        if back == "database":
            trail.fault = None
            assert takes()
    assert takes()
    trail.fault = None
    recorder.catch_up()
    assert (written(database), degraded()) == (["POST /1", "POST /2"], 0)


def test_while_the_disk_has_no_room_for_one_entry_more_none_is_promised(recorder, trail):
    trail.fault = sa.exc.OperationalError("x", {}, psycopg.OperationalError("away"))
    record(recorder, 1)
    held = recorder.spool._path.stat().st_size
    recorder.spool._most = held + room.LARGEST_ENTRY_BYTES
    assert asyncio.run(recorder.takes_entries())
    recorder.spool._most -= 1
    assert not asyncio.run(recorder.takes_entries())
    trail.fault = None
    recorder.catch_up()
    assert asyncio.run(recorder.takes_entries())


def test_who_may_do_nothing_takes_no_room_from_who_does_something(recorder, trail):
    """A viewer's orders are refused, and on record; they must not stop those of operators."""
    trail.fault = sa.exc.OperationalError("x", {}, psycopg.OperationalError("away"))
    record(recorder, 1)
    held = recorder.spool._path.stat().st_size
    recorder.spool._most = held + room.RESERVED_BYTES - 1
    refusal = AuditEntry(1.7e9, Principal("eve", Role.VIEWER), "POST /x", 403, {})
    with pytest.raises(SpoolFullError, match="what was refused"):
        asyncio.run(recorder.record(refusal))
    assert asyncio.run(recorder.takes_entries())
    record(recorder, 2)
    assert recorder.spool.waiting == 2


def test_the_largest_entry_has_the_room_that_is_kept_for_it(recorder, trail):
    """Of a body and a query of control characters, which JSON escapes, twice."""
    trail.fault = sa.exc.OperationalError("x", {}, psycopg.OperationalError("away"))
    body = json.dumps("\u0001" * 680).encode() + b" " * 8
    data = arguments_of(b"\\" * 9000, body)
    principal = Principal("\u0001" * 205, Role.OPERATOR)
    asyncio.run(recorder.record(AuditEntry(1.7e9, principal, "\\" * 512, 200, data)))
    assert 8192 < recorder.spool._path.stat().st_size < room.LARGEST_ENTRY_BYTES


def test_an_entry_that_the_database_refuses_holds_up_no_other(recorder, trail, database, tmp_path):
    trail.fault = sa.exc.DataError("x", {}, psycopg.errors.UntranslatableCharacter("NUL"))
    record(recorder, 1)
    recorder.catch_up()
    trail.fault = None
    assert recorder.spool.waiting == 0
    assert "POST /1" in (tmp_path / "refused.jsonl").read_text()
    record(recorder, 2)
    assert written(database) == ["POST /2"]


@pytest.mark.slow
def test_while_the_trail_is_locked_each_order_is_answered_in_time(tmp_path, new_record):
    """Twelve at once: in turn, each would wait 2 s for the lock and for all before it."""
    url = new_record()
    with (
        serving(tmp_path, url=url) as running,
        running.client("admin") as client,
        psycopg.connect(url) as other,
    ):
        database = running.app.state.services.database
        client.post("/api/v1/admin/clear-cache")
        other.execute("SELECT pg_advisory_xact_lock(%s)", (room.AUDIT_LOCK,))
        took = []

        def order():
            begun = time.monotonic()
            assert client.post("/api/v1/admin/clear-cache").status_code == 200
            took.append(time.monotonic() - begun)

        threads = [threading.Thread(target=order) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(took) == 12
        assert max(took) < 2.0 * room.ENTRY_WITHIN_S  # in turn it would be 24 s
        other.rollback()
        count = "SELECT count(*) AS n FROM audit"
        until(lambda: database.rows(count) == [{"n": 13}])
        assert running.app.state.services.audit.verify() == (13, "")


def test_entries_that_an_older_version_left_on_disk_are_taken(recorder, database):
    recorder.spool.put("audit", [[1_700_000_001.25, "anna", "OPERATOR", "POST /1", 200]])
    recorder.catch_up()
    assert database.rows("SELECT what, data FROM audit") == [{"what": "POST /1", "data": {}}]


def test_what_commands_have_done_is_taken_into_the_trail_once(recorder, trail, database, tmp_path):
    """They may not write to the spool of a server that runs."""
    for number in (1, 2):
        hand(
            tmp_path, [1e9 + number, "headway token", "ADMIN", "token", 200, {"name": f"a{number}"}]
        )
    (tmp_path / "handed" / "0.json").write_text('{"cut')
    recorder.catch_up()
    recorder.catch_up()
    rows = database.rows("SELECT who, role, what, data FROM audit ORDER BY number")
    assert [(r["who"], r["role"], r["what"], r["data"]) for r in rows] == [
        ("headway token", "admin", "token", {"name": "a1"}),
        ("headway token", "admin", "token", {"name": "a2"}),
    ]
    assert [p.name for p in (tmp_path / "handed").iterdir()] == ["0.unreadable"]
    assert trail.verify() == (2, "")


def test_what_root_leaves_is_the_server_s(tmp_path):
    if os.geteuid():
        pytest.skip("root alone gives files to others")
    os.chown(tmp_path, 12345, 12346)
    hand(tmp_path, [1])
    (left,) = (tmp_path / "handed").iterdir()
    for path in (left, left.parent):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)


def test_what_another_user_left_holds_up_nothing(tmp_path, monkeypatch):
    for number in range(3):
        hand(tmp_path, [number])
    first = min((tmp_path / "handed").iterdir())
    read = type(first).read_bytes

    def refused(path):
        if path == first:
            raise PermissionError(13, "not yours", str(path))
        return read(path)

    monkeypatch.setattr(type(first), "read_bytes", refused)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)  # nothing can be taken away
        assert list(handed(tmp_path)) == []
    assert list(handed(tmp_path)) == [[1], [2]]
    assert list((tmp_path / "handed").iterdir()) == [first]


def test_an_entry_that_nothing_takes_is_told_once_to_whoever_waits_for_it(
    recorder, trail, monkeypatch
):
    """Not once more by asyncio, when its future is thrown away."""
    trail.fault = sa.exc.OperationalError("INSERT", {}, Exception("away"))
    complaints = []

    def full(*_, **__):
        raise OSError("no disk")

    async def write():
        asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
        with pytest.raises(OSError, match="no disk"):
            await recorder.record(entry(1))

    with monkeypatch.context() as patch:
        patch.setattr("headway.store.spool.Spool.put", full)
        asyncio.run(write())
    trail.fault = None
    record(recorder, 2)  # until then the thread that writes holds what failed
    gc.collect()
    assert complaints == []
