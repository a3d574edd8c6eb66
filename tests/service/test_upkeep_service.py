"""Backups and retention on a schedule: when they are due, on a clock by hand; what they leave."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from headway.service import upkeep as room
from headway.service.upkeep import UpkeepError, UpkeepService
from headway.settings import UpkeepSettings
from headway.store import Database, Intake, open_database
from headway.store.upkeep import MAGIC
from headway.telemetry import metrics

START = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def database(new_record, tmp_path_factory):
    found = open_database(tmp_path_factory.mktemp("unused"), new_record())
    yield found
    found.close()


@pytest.fixture
def of(database, tmp_path):
    """Makes a service at START. `of.told`: what it published; `of.go(h)`: the clock goes on."""
    database.execute("TRUNCATE upkeep_run, simulation_record")

    class Of:
        now, told = START.timestamp(), []

        def __call__(self, **settings):
            return UpkeepService(
                database,
                tmp_path,
                UpkeepSettings(**settings),
                lambda *words: self.told.append(words),
                lambda: self.now,
            )

        def go(self, hours):
            self.now += 3600.0 * hours

    found = Of()
    found.told = []
    return found


def names(service):
    return [path.name for path in service.files()]


@pytest.mark.parametrize(
    ("at", "every_h", "last", "following"),
    [
        ("03:00", 24.0, "2026-03-10T03:00", "2026-03-11T03:00"),
        ("12:00", 24.0, "2026-03-10T12:00", "2026-03-11T12:00"),
        ("12:01", 24.0, "2026-03-09T12:01", "2026-03-10T12:01"),
        ("03:30", 6.0, "2026-03-10T09:30", "2026-03-10T15:30"),
        ("00:00", 0.5, "2026-03-10T12:00", "2026-03-10T12:30"),
    ],
)
def test_the_times_of_a_schedule(of, at, every_h, last, following):
    service = of(at=at, backup_every_h=every_h)
    assert service.last_due("backup") == datetime.fromisoformat(f"{last}Z")
    assert service.next_due("backup") == datetime.fromisoformat(f"{following}Z")


def told_of(task):
    value = metrics.registry.get_sample_value
    labels = {"task": task}
    return (
        value("headway_upkeep_failed", labels),
        value("headway_upkeep_last_success_timestamp_seconds", labels),
    )


def test_the_metrics_tell_of_runs_that_another_process_made(of, database):
    def ran(task, ok, hours):
        database.execute(
            "INSERT INTO upkeep_run (task, begun_at, took_s, ok, data) "
            "VALUES (:task, :at, 1.0, :ok, '{}')",
            task=task,
            at=START + timedelta(hours=hours),
            ok=ok,
        )

    service = of()
    ran("drill", True, -3)
    service.tell()
    assert told_of("drill") == (0.0, (START - timedelta(hours=3)).timestamp())
    ran("drill", False, -1)
    service.tell()
    assert told_of("drill") == (1.0, (START - timedelta(hours=3)).timestamp())


def test_what_is_not_scheduled_is_never_due(of):
    service = of(backup_every_h=0.0)
    for task in ("backup", "retention", "drill"):
        assert (service.next_due(task), service.is_due(task)) == (None, False)
    assert service.run_due() == []


def test_a_backup_a_day_from_the_next_hour_on(of):
    """It begins at noon: nothing is due before 03:00; then once, and again a day later."""
    service = of()
    assert service.run_due() == []
    of.go(14.99)
    assert service.run_due() == []
    of.go(0.02)
    assert [r.task for r in service.run_due()] == ["backup"]
    assert service.run_due() == []
    assert names(service) == ["headway-20260311T030036Z.backup"]
    assert service.backups.stat().st_mode & 0o777 == 0o700
    again = of()  # the server was started anew: what is done is done
    assert again.run_due() == []
    of.go(24.0)
    assert len(again.run_due()) == 1


def test_a_run_that_was_missed_is_made_up_for(of):
    """The server was down at 03:00, and had a backup of before."""
    of().run("backup")
    of.go(24.0)
    assert [r.task for r in of().run_due()] == ["backup"]


def test_the_newest_backups_are_kept_and_other_files_left_alone(of):
    service = of(keep=2)
    service.backups.mkdir(mode=0o700)
    (service.backups / "mine.backup").touch()
    (service.backups / "headway-20200101T000000Z.backup.draft").touch()
    for _ in range(3):
        run = service.run("backup")
        of.go(1.0)
    assert names(service) == ["headway-20260310T130000Z.backup", "headway-20260310T140000Z.backup"]
    assert run.data == {
        "file": "headway-20260310T140000Z.backup",
        "bytes": service.newest().stat().st_size,
        "removed": ["headway-20260310T120000Z.backup"],
    }
    assert len(list(service.backups.iterdir())) == 4
    assert service.key.stat().st_mode & 0o777 == 0o600


def test_a_clock_that_was_ahead_once_does_not_end_the_backups(of):
    of.go(24.0 * 3650)
    of().run("backup")
    of.go(-24.0 * 3650)
    service = of()
    of.go(24.0)
    assert [r.task for r in service.run_due()] == ["backup"]


def test_backups_of_a_clock_that_was_ahead_are_no_reason_to_remove_those_of_now(of):
    """Each new one was the oldest by its name, and gone as soon as it was made."""
    service = of(keep=2)
    of.go(24.0 * 3650)
    for _ in range(2):
        service.run("backup")
        of.go(1.0)
    of.go(-24.0 * 3650)
    for _ in range(3):
        made = service.run("backup").data["file"]
        assert service.newest().name == made
        of.go(1.0)
    assert names(service) == ["headway-20260310T150000Z.backup", "headway-20260310T160000Z.backup"]


def test_what_a_backup_that_was_killed_has_left_is_removed_a_day_later(of):
    service = of()
    service.backups.mkdir(mode=0o700)
    drafts = [service.backups / f"headway-20260310T0{k}0000Z.backup.{k}.draft" for k in (1, 2)]
    for draft, age_s in zip(drafts, (90_000.0, 3_600.0), strict=True):
        draft.touch()
        os.utime(draft, (of.now - age_s, of.now - age_s))
    service.run("backup")
    assert [draft.exists() for draft in drafts] == [False, True]  # another process may be at it


def test_each_process_forgets_what_it_put_aside_after_a_retention_of_whichever(of, tmp_path):
    file = tmp_path / "refused.jsonl"
    old = '{"at": "2020-01-01T00:00:00+00:00", "table": "event", "rows": [[1]], "why": ""}\n'
    file.write_text(old)
    service, beside = of(retention_days=30.0), of(retention_days=30.0)
    service.tell()
    assert file.read_text() == old, "no retention was made yet"
    beside.run("retention")
    service.tell()
    assert file.read_text() == ""
    file.write_text(old)
    service.tell()
    assert file.read_text() == old, "nobody rewrites the file each minute"
    of.go(24.0)
    beside.run("retention")
    service.tell()
    assert file.read_text() == ""
    assert of(retention_days=0.0).tell() is None


def test_each_run_is_recorded_logged_and_published(of, database, logged):
    service = of(retention_days=30.0)
    old = (START - timedelta(days=400)).isoformat()
    rows = [("S", at, "J", "[]", 1, 1.0, 1.0, 1.0, 1.0, 1.0, 0, False) for at in (old,)]
    Intake(database, service.backups.parent).write("simulation_record", rows)
    run = service.run("retention")
    assert (run.ok, run.begun_at, run.data["deleted"]["simulation_record"]) == (True, START, 1)
    assert service.runs() == [run]
    topic, street, event = of.told[0]
    assert (topic, street, event["kind"]) == ("monitoring", "", "upkeep.retention")
    assert event["data"] == {"level": "info", "took_s": run.took_s, "deleted": run.data["deleted"]}
    (line,) = [x for x in logged("store") if x["event"] == "upkeep: retention"]
    assert (line["ok"], line["took_s"], line["deleted"]) == (True, run.took_s, run.data["deleted"])
    assert value("headway_upkeep_failed", "retention") == 0.0
    done_at = "headway_upkeep_last_success_timestamp_seconds"
    assert value(done_at, "retention") == START.timestamp()
    json.dumps(event)


def value(name, task):
    return metrics.registry.get_sample_value(name, {"task": task})


def test_a_run_that_fails_is_an_alert_and_tried_again_after_a_quarter_of_an_hour(
    of, monkeypatch, logged
):
    service = of()
    of.go(15.0)
    with monkeypatch.context() as patch:
        patch.setattr(room, "backup", lambda *_: 1 / 0)
        assert service.run_due() == []
    (run,) = service.runs()
    assert (run.ok, run.data) == (False, {"error": "division by zero"})
    assert [(topic, e["kind"], e["data"]["level"]) for topic, _, e in of.told] == [
        ("monitoring", "upkeep.backup_failed", "critical"),
        ("alerts", "upkeep.backup_failed", "critical"),
    ]
    assert value("headway_upkeep_failed", "backup") == 1.0
    assert logged("store")[-1]["level"] == "error"
    of.go(0.24)
    assert service.run_due() == []
    assert len(service.runs()) == 1
    of.go(0.02)
    assert [r.ok for r in service.run_due()] == [True]
    assert value("headway_upkeep_failed", "backup") == 0.0


def test_a_full_disk_is_refused_before_it_is_full(of, monkeypatch):
    service = of()
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: type("U", (), {"free": 1000}))
    with pytest.raises(UpkeepError, match=r"1000 bytes are free, the database has \d+"):
        service.run("backup")
    assert names(service) == []


def without_last_part(whole):
    """A backup whose writing ended right before its row counts."""
    at = last = len(MAGIC) + 4  # of the nonce
    while at < len(whole):
        last, at = at, at + 4 + int.from_bytes(whole[at : at + 4], "big")
    return whole[:last]


def test_a_drill_takes_the_newest_backup_and_fails_without_one(of, database):
    service = of()
    with pytest.raises(UpkeepError, match=r"the drill failed: .*holds no backup yet"):
        service.run("drill")
    service.run("backup")
    run = service.run("drill")
    assert run.data["rows"] == run.data["expected"]
    assert run.data["rows"]["upkeep_run"] == 1  # the failed drill; the backup ended after its dump
    assert [r.task for r in service.runs()] == ["drill", "backup", "drill"]
    assert [r.task for r in service.runs("backup")] == ["backup"]
    whole = service.newest().read_bytes()
    service.newest().write_bytes(without_last_part(whole))
    with pytest.raises(UpkeepError, match=r"the drill failed: .*does not say how many rows"):
        service.run("drill")
    service.newest().write_bytes(b"broken")
    with pytest.raises(UpkeepError, match="is no backup of Headway's"):
        service.run("drill")


def test_retention_without_days_deletes_nothing(of):
    with pytest.raises(UpkeepError, match=r"upkeep\.retention_days is 0"):
        of().run("retention")


@pytest.fixture
def kept(of, database, tmp_path):
    """The days of which there are records, of a service that retains 30 days: `kept.days()` goes on
    to the retention of the next day, and says which are left, by their distance from START.
    """

    class Kept:
        service = of(retention_days=30.0, backup_every_h=0.0)

        def record(self, *days):
            at = [(START + timedelta(days=day)).isoformat() for day in days]
            rows = [("S", t, "J", "[]", 1, 1.0, 1.0, 1.0, 1.0, 1.0, 0, False) for t in at]
            Intake(database, tmp_path).write("simulation_record", rows)

        def days(self, hours=24.0):
            of.go(hours)
            assert [run.ok for run in self.service.run_due()] == [True]
            rows = database.rows("SELECT at FROM simulation_record ORDER BY at")
            return [(row["at"] - START).days for row in rows]

    return Kept()


def test_a_clock_that_was_ahead_for_days_deletes_nothing_that_is_not_old(of, kept):
    """It was a year ahead: an hour later all records of the year were gone, for good."""
    for _ in range(10):
        kept.days()
    kept.record(-31, -3, 0, 5)
    year = 365 * 24.0
    assert kept.days(24.0 + year) == [-31, -3, 0, 5]
    assert "the clock may have leapt" in kept.service.runs()[0].data["waits"]
    for _ in range(2):
        assert kept.days() == [-31, -3, 0, 5]
    of.go(-year)
    assert kept.days() == [-3, 0, 5], "it is right again"


def test_a_clock_that_leaps_at_each_start_deletes_nothing_either(of, kept):
    for _ in range(10):
        kept.days()
    kept.record(5)
    for _ in range(4):
        kept.days()
        of.go(365 * 24.0)
        assert kept.days(1.0) == [5]
        of.go(-365 * 24.0)


def test_what_is_old_goes_a_week_after_a_service_was_off_for_weeks(kept):
    for _ in range(10):
        kept.days()
    kept.record(5)
    assert kept.days(50 * 24.0) == [5]
    for _ in range(6):
        assert kept.days() == [5]
    assert kept.days() == []


def test_a_service_that_is_off_at_weekends_deletes_what_is_old(kept):
    for _ in range(3):
        for hours in (24.0, 24.0, 24.0, 24.0, 72.0):
            kept.days(hours)
    kept.record(-20)
    assert kept.days() == []


def test_what_an_administrator_asks_for_does_not_wait(kept):
    kept.record(-31, -3)
    assert kept.service.run("retention").data["deleted"]["simulation_record"] == 1


def test_what_was_put_aside_waits_with_the_record(of, kept, tmp_path):
    file = tmp_path / "refused.jsonl"
    file.write_text('{"at": "2020-01-01T00:00:00+00:00", "table": "event", "rows": [[1]]}\n')
    kept.days()
    kept.service.tell()
    assert file.read_text()
    kept.service.run("retention")
    kept.service.tell()
    assert not file.read_text()


def test_a_database_that_is_away_is_told_once_and_not_at_each_look(of, database, logged):
    service, there = of(), database
    service._database = Database(sa.create_engine("postgresql+psycopg://127.0.0.1:9/x"), "")
    for _ in range(3):
        assert service.run_due() == []
        service.tell()
    assert [line["event"] for line in logged("store")] == ["upkeep: the database is away"]
    service._database = there
    service.tell()
    service._database = Database(sa.create_engine("postgresql+psycopg://127.0.0.1:9/x"), "")
    service.tell()
    assert len(logged("store")) == 2, "the next time it is told again"


def test_one_process_at_a_time(of, database):
    service = of()
    of.go(15.0)
    with database.engine.begin() as held:
        held.exec_driver_sql(f"SELECT pg_advisory_xact_lock({room.RUN_LOCK})")
        assert service.run_due() == []
    assert len(service.run_due()) == 1


def test_whoever_alerts_people_learns_how_each_run_went_also_after_a_start(of, tmp_path):
    first, second, told = of(), of(), []
    (tmp_path / "backup.key").write_text("no key")
    first.newest_run = lambda *run: told.append(run)
    with pytest.raises(UpkeepError):
        first.run("backup")
    second.newest_run = first.newest_run
    second.tell()
    assert [(task, ok) for task, ok, _ in told] == [("backup", False)] * 2
    assert "is no key file" in told[0][2]["error"]
    (tmp_path / "backup.key").unlink()
    of.go(1)
    first.run("backup")
    second.tell()
    assert [(task, ok) for task, ok, _ in told[2:]] == [("backup", True)] * 2
