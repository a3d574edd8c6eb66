"""The worker: each job is done once, whoever dies meanwhile."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
import yaml
from fsspec.implementations.local import LocalFileSystem
from tests.learning import working
from tests.waiting import until

from headway.control.qtable import QTable
from headway.experiments.benchmark import Result
from headway.learning import work
from headway.learning import worker as room
from headway.learning.jobs import Jobs
from headway.learning.model_files import ModelFiles
from headway.learning.process import Child
from headway.learning.registry import Registry, signing_key
from headway.learning.shared_files import VARIABLE, SharedFiles
from headway.learning.worker import Worker
from headway.plants.sumo.scenarios import demand_of
from headway.store import open_database
from headway.telemetry.life import SignsOfLife

KEY = bytes(range(32))
TRAIN = {"scenario": "cologne1", "name": "own"}

pytestmark = pytest.mark.slow


@pytest.fixture
def database(new_record, tmp_path):
    found = open_database(tmp_path, new_record())
    yield found
    found.close()


@pytest.fixture
def jobs(database):
    return Jobs(database)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name in ("BEAT_S", "IDLE_S", "STORAGE_EVERY_S"):
        monkeypatch.setattr(room, name, 0.05)


@pytest.fixture
def registry(database, tmp_path):
    return Registry(database, tmp_path, KEY)


@contextmanager
def working_on(database, folder, do, stale_s=0.5):
    """A worker in a thread."""
    found = Worker(database, folder, KEY, stale_s=stale_s, do=do)
    thread = threading.Thread(target=found.run)
    thread.start()
    try:
        yield found
    finally:
        found.stop()
        thread.join()


class CountedSigns(SignsOfLife):
    given = 0

    def give(self):
        self.given += 1


def place_of(job):
    """What the folder of a job is called."""
    return f"{job.id}-{job.asked_at:%Y%m%dT%H%M%S%f}"


def test_a_worker_gives_signs_of_life_while_it_looks_and_while_it_works(
    database, jobs, tmp_path, monkeypatch
):
    monkeypatch.setattr(room, "BEAT_S", 0.05)
    signs = SignsOfLife(tmp_path / "worker.alive", {})
    given = []
    monkeypatch.setattr(signs, "give", lambda: given.append([j.state for j in jobs.jobs()]))
    worker = Worker(database, tmp_path, KEY, do=working.makes, signs=signs)
    worker.run(until_idle=True)
    assert [] in given
    jobs.enqueue("train", "north", TRAIN, "ann")
    worker.run(until_idle=True)
    assert ["waiting"] in given
    assert ["running"] in given


def states(jobs):
    return [j.state for j in jobs.jobs()]


def test_jobs_are_done_in_turn_and_what_they_made_is_registered(database, jobs, registry, tmp_path):
    numbers = [jobs.enqueue("train", "north", TRAIN | {"episodes": k}, "ann") for k in (1, 2)]
    Worker(database, tmp_path, KEY, do=working.makes).run(until_idle=True)
    assert working.said(tmp_path) == ["made:1", "made:2"]
    assert os.nice(0) == 0, "it is the jobs that give way"
    for number, version in zip(numbers, reversed(registry.list()), strict=True):
        job = jobs.job(number)
        assert (job.state, job.result, job.version_id) == ("done", {"stopped": 1.0}, version.id)
        made_from = {"job": number, "niceness": 10}
        assert (version.created_by, version.made_from) == ("ann", made_from)
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["said"]
    assert [v.label for v in registry.list()] == ["own@2", "own@1"]


def test_a_data_folder_that_is_named_from_here_is_the_same_for_what_runs_elsewhere(
    database, jobs, tmp_path, monkeypatch
):
    """SUMO takes a relative path from where its own file is: every run of a job failed."""
    monkeypatch.chdir(tmp_path)
    number = jobs.enqueue("train", "north", TRAIN, "ann")
    Worker(database, Path("data"), KEY, do=working.says_where).run(until_idle=True)
    for place in jobs.job(number).result.values():
        assert place.startswith(str(tmp_path / "data" / "jobs")), place


def test_a_job_that_cannot_be_done_says_why_and_the_next_one_begins(
    database, jobs, registry, tmp_path
):
    number = jobs.enqueue("train", "north", TRAIN, "ann")
    Worker(database, tmp_path, KEY, do=working.fails).run(until_idle=True)
    job = jobs.job(number)
    assert (job.state, job.error) == ("failed", "ValueError: the network has no junctions")
    assert registry.list() == []


def test_a_machine_that_is_short_of_handles_costs_a_job_nothing_but_time(
    database, jobs, tmp_path, monkeypatch
):
    """The worker ended, and the job waited for a minute for somebody to find it dead."""
    short = iter([OSError(errno.EMFILE, "Too many open files")] * 7)

    def begin(*words):
        if error := next(short, None):
            raise error
        return Child(*words)

    def clear_ended(worker):
        if error := next(folders, None):
            raise error
        cleared.append(worker)

    folders, cleared = iter([OSError(errno.EMFILE, "Too many open files")]), []
    monkeypatch.setattr(room, "Child", begin)
    monkeypatch.setattr(Worker, "_clear_ended", clear_ended)
    number = jobs.enqueue("train", "north", TRAIN | {"episodes": 1}, "ann")
    worker = Worker(database, tmp_path, KEY, do=working.makes)
    worker.run(until_idle=True)
    assert (jobs.job(number).state, jobs.job(number).attempt) == ("done", 8)
    assert working.said(tmp_path) == ["made:1"]
    assert cleared == [worker]


def test_an_evaluation_is_given_the_models_that_it_names(database, jobs, registry, tmp_path):
    arguments = {"scenario": "cologne1", "controllers": ["fixed", "own@champion"], "seeds": [1]}
    unknown = jobs.enqueue("evaluate", "north", arguments, "ann")
    Worker(database, tmp_path, KEY, do=working.evaluates).run(until_idle=True)
    job = jobs.job(unknown)
    assert (job.state, "no version of 'own' is champion" in job.error) == ("failed", True)
    text = "planner: {headway_s: 2.1}"
    version = registry.add(
        text.encode(), name="own", kind="planner", made_from={}, metrics={}, by="ann"
    )
    registry.set_alias("north", "", "champion", version.id, "ann")
    known = jobs.enqueue("evaluate", "north", arguments, "ann")
    altered = jobs.enqueue("evaluate", "north", arguments, "ann")
    worker = Worker(database, tmp_path, KEY, do=working.evaluates)
    worker._work_on(jobs.take("w"))
    assert jobs.job(known).result == {
        "files": {"own@champion": text}, "labels": {"own@champion": "own@1"},
    }  # fmt: skip
    Path(registry.file(version).path).write_text("planner: {}")
    worker.run(until_idle=True)
    job = jobs.job(altered)
    assert (job.state, "was altered" in job.error) == ("failed", True)


def test_a_job_whose_process_is_killed_is_begun_anew(database, jobs, registry, tmp_path):
    number = jobs.enqueue("train", "north", TRAIN, "ann")
    Worker(database, tmp_path, KEY, do=working.dies).run(until_idle=True)
    assert working.said(tmp_path) == ["began:1", "began:2", "began:3", "made:10"]
    assert (jobs.job(number).state, jobs.job(number).attempt) == ("done", 3)
    assert [v.label for v in registry.list()] == ["own@1"]


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """It is full while this file is there."""
    full = tmp_path / "jobs" / "full"
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0 if full.exists() else 1 << 40))
    return full


def test_a_job_waits_while_the_disk_is_full_and_goes_on_with_what_it_has(
    database, jobs, registry, tmp_path, disk
):
    """It failed at once, and all that it had was deleted; so did the jobs that came after it."""
    number = jobs.enqueue("train", "north", TRAIN, "ann")
    with working_on(database, tmp_path, working.fills_the_disk):
        for _ in range(6):
            until(lambda: disk.exists() and states(jobs) == ["waiting"])
            assert "No space left on device" in jobs.job(number).note
            disk.unlink()
        until(lambda: states(jobs) == ["done"])
    found = [f"found:{k}" for k in range(7)]
    assert working.said(tmp_path) == [*found, "made:10"]
    assert [v.label for v in registry.list()] == ["own@1"]


def test_a_model_that_the_disk_does_not_take_is_registered_once_it_does(
    database, jobs, registry, tmp_path, disk, monkeypatch
):
    keep, refused = ModelFiles.keep, []

    def keeps(self, *what):
        if not refused:
            refused.append(what)
            raise OSError(errno.ENOSPC, "No space left on device")
        return keep(self, *what)

    monkeypatch.setattr(ModelFiles, "keep", keeps)
    number = jobs.enqueue("train", "north", TRAIN, "ann")
    Worker(database, tmp_path, KEY, do=working.makes).run(until_idle=True)
    assert (jobs.job(number).state, jobs.job(number).attempt) == ("done", 2)
    assert [v.label for v in registry.list()] == ["own@1"]


@pytest.fixture
def storage(monkeypatch, tmp_path):
    """One for several machines, which the test can take away; `asked`: how often it was."""

    class Storage:
        is_away, asked, folder = False, 0, tmp_path / "bucket"

    Storage.folder.mkdir()
    monkeypatch.setenv(VARIABLE, f"file://{Storage.folder}")

    def guarded(do):
        def does(*given, **named):
            Storage.asked += 1
            if Storage.is_away:
                raise RuntimeError("no route to the bucket")
            return do(*given, **named)

        return does

    for name in ("put_file", "get_file", "size"):
        monkeypatch.setattr(LocalFileSystem, name, guarded(getattr(LocalFileSystem, name)))
    return Storage


def test_a_model_waits_for_a_shared_storage_that_is_away(database, jobs, storage, tmp_path):
    """Each try counted as a death: after the fifth, half a minute later, a training of days was
    put down as failed, and what it had was deleted.
    """
    storage.is_away = True
    number = jobs.enqueue("train", "north", TRAIN, "ann")
    with working_on(database, tmp_path, working.makes):
        until(lambda: storage.asked > 20)
        job = jobs.job(number)
        assert (job.state, job.attempt, "no route to the bucket" in job.note) == (
            "running", 1, True,
        )  # fmt: skip
        storage.is_away = False
        until(lambda: states(jobs) == ["done"])
    assert [p.is_file() for p in storage.folder.glob("??/*")] == [True]
    assert working.said(tmp_path) == ["made:10"]


@pytest.mark.parametrize("end", ["cancelled", "stopped"])
def test_a_job_whose_model_waits_can_be_cancelled_and_left(database, jobs, storage, tmp_path, end):
    storage.is_away = True
    number = jobs.enqueue("train", "north", TRAIN, "ann")
    with working_on(database, tmp_path, working.makes):
        until(lambda: storage.asked > 2)
        if end == "cancelled":
            jobs.cancel(number, "bob")
            until(lambda: states(jobs) == ["cancelled"])
    assert states(jobs) == ["cancelled" if end == "cancelled" else "waiting"]


def test_an_evaluation_waits_for_the_models_in_a_shared_storage_that_is_away(
    database, jobs, storage, tmp_path
):
    """It failed at once."""
    found = Registry(database, tmp_path / "other", KEY).add(
        working.PLANNER.encode(), name="own", kind="planner", made_from={}, metrics={}, by="ann"
    )
    storage.is_away = True
    jobs.enqueue(
        "evaluate", "north", {"scenario": "cologne1", "controllers": [found.label], "seeds": [1]},
        "ann",
    )  # fmt: skip
    with working_on(database, tmp_path, working.evaluates):
        until(lambda: storage.asked > 8)
        assert states(jobs) == ["running"]
        storage.is_away = False
        until(lambda: states(jobs) == ["done"])


def test_a_worker_lives_while_a_shared_storage_is_slow(
    database, jobs, storage, tmp_path, monkeypatch
):
    """A table of a gigabyte takes minutes: the job was given to another worker, and systemd ended
    this one.
    """
    put, begun, going = SharedFiles.put, threading.Event(), threading.Event()

    def slow(*given):
        begun.set()
        going.wait(60.0)
        put(*given)

    monkeypatch.setattr(SharedFiles, "put", slow)
    number = jobs.enqueue("train", "north", TRAIN, "ann")
    signs = CountedSigns()
    found = Worker(database, tmp_path, KEY, stale_s=0.3, do=working.makes, signs=signs)
    thread = threading.Thread(target=found.run)
    thread.start()
    try:
        until(begun.is_set)
        before, beat = signs.given, jobs.job(number).heartbeat_at
        until(lambda: signs.given > before + 5 and jobs.job(number).heartbeat_at > beat)
        going.set()
        until(lambda: states(jobs) == ["done"])
    finally:
        going.set()
        found.stop()
        thread.join()
    assert jobs.job(number).attempt == 1


def test_a_job_that_ends_while_it_says_that_it_goes_on_is_not_lost(
    database, jobs, tmp_path, monkeypatch
):
    beat = Jobs.beat

    def late(self, job, progress, note):
        until(lambda: self.job(job.id).state == "done", 2.0) if progress < 1.0 else None
        return beat(self, job, progress, note)

    found = Worker(database, tmp_path, KEY, do=working.makes)
    number = jobs.enqueue("train", "north", TRAIN, "ann")
    job = jobs.take(found.name)
    monkeypatch.setattr(Jobs, "beat", late)

    def finish():
        threading.Event().wait(0.3)  # until it is said that the job goes on
        jobs.finish(job, {})
        return True

    assert found._with_storage(job, finish) is True
    assert jobs.job(number).state == "done"


def test_a_job_that_goes_on_is_cancelled_within_a_beat(database, jobs, registry, tmp_path):
    number = jobs.enqueue("train", "north", TRAIN, "ann")
    with working_on(database, tmp_path, working.waits):
        until(lambda: jobs.job(number).progress == 0.25)
        jobs.cancel(number, "bob")
        until(lambda: jobs.job(number).state == "cancelled")
        (tmp_path / "jobs" / "go").touch()
        following = jobs.enqueue("train", "north", TRAIN | {"episodes": 2}, "ann")
        until(lambda: jobs.job(following).state == "done")
    assert working.said(tmp_path) == ["began:1", "began:1", "made:2"]
    assert [v.made_from["job"] for v in registry.list()] == [following]


def test_a_worker_that_is_stopped_leaves_its_job_to_the_next(database, jobs, tmp_path):
    number = jobs.enqueue("train", "north", TRAIN, "ann")
    with working_on(database, tmp_path, working.waits):
        until(lambda: jobs.job(number).progress == 0.25)
    assert jobs.job(number).state == "waiting"
    cancelled = jobs.enqueue("train", "north", TRAIN, "ann")
    jobs.cancel(cancelled, "bob")
    names = [place_of(jobs.job(cancelled)), f"{10**6}-20261123T101500000000", "²-x"]
    left_over = [tmp_path / "jobs" / name / "1" for name in names]
    for folder in left_over:
        folder.mkdir(parents=True)
    (tmp_path / "jobs" / "go").touch()
    Worker(database, tmp_path, KEY, do=working.waits).run(until_idle=True)
    assert working.said(tmp_path) == ["began:1", "began:2", "made:10"]
    own = tmp_path / "jobs" / place_of(jobs.job(number))
    kept = [folder.exists() for folder in (own, *left_over)]
    assert kept == [False, False, True, True], "who is not known may be of another database"


def test_a_number_that_comes_again_after_a_restore_finds_nothing_of_the_job_before(
    database, jobs, tmp_path
):
    """Its checkpoints would be of another street: a training registered that one's table, and an
    evaluation told that one's delays.
    """
    first = jobs.enqueue("train", "north", TRAIN, "ann")
    with working_on(database, tmp_path, working.waits):
        until(lambda: jobs.job(first).progress == 0.25)
    (attempt,) = (tmp_path / "jobs").glob("*/1")
    (attempt / "checkpoint").touch()
    database.execute("DELETE FROM ml_job")
    database.execute("ALTER TABLE ml_job ALTER COLUMN id RESTART")
    assert jobs.enqueue("train", "south", TRAIN, "bob") == first
    Worker(database, tmp_path, KEY, do=working.looks_around).run(until_idle=True)
    assert jobs.job(first).result == {"files": []}


def test_who_stood_still_and_goes_on_ends_its_attempt_and_changes_nothing(
    database, jobs, registry, tmp_path, monkeypatch
):
    """As if stopped (SIGSTOP) for longer than a worker may be silent."""
    number = jobs.enqueue("train", "north", TRAIN, "ann")
    stood_still, beat = threading.Event(), Jobs.beat

    def beats(self, job, *said):
        if job.attempt == 1 and threading.current_thread().name == "first":
            stood_still.wait()
        return beat(self, job, *said)

    monkeypatch.setattr(Jobs, "beat", beats)
    first = Worker(database, tmp_path, KEY, do=working.waits)
    thread = threading.Thread(target=first.run, name="first")
    thread.start()
    try:
        until(lambda: working.said(tmp_path) == ["began:1"])
        with working_on(database, tmp_path, working.waits):
            until(lambda: working.said(tmp_path) == ["began:1", "began:2"])
            stood_still.set()
            first.stop()
            thread.join()
            assert jobs.job(number).attempt == 2
            assert jobs.job(number).state == "running"
            (tmp_path / "jobs" / "go").touch()
            until(lambda: jobs.job(number).state == "done")
    finally:
        stood_still.set()
        first.stop()
        thread.join()
    assert [v.label for v in registry.list()] == ["own@1"]


def test_through_an_outage_of_the_database_the_job_goes_on_and_counts_once(
    database, jobs, registry, tmp_path
):
    """Its end falls into the outage; another worker, that is there after it, takes nobody for dead
    because of it.
    """
    number = jobs.enqueue("train", "north", TRAIN, "ann")
    address = sa.make_url(database.url)
    name = address.database
    server = address.set(database="postgres").render_as_string(hide_password=False)
    with (
        psycopg.connect(server, autocommit=True) as beside,
        working_on(database, tmp_path, working.waits, stale_s=600.0) as worker,
    ):
        until(lambda: jobs.job(number).progress == 0.25)
        beside.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        try:
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            beside.execute(ended, [name])
            until(lambda: worker._reached_since is None)
            (tmp_path / "jobs" / "go").touch()
            until(lambda: "made:10" in working.said(tmp_path))
        finally:
            beside.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
        until(lambda: jobs.job(number).state == "done")
    assert working.said(tmp_path) == ["began:1", "made:10"]
    assert (jobs.job(number).attempt, jobs.job(number).version_id) == (1, registry.list()[0].id)
    assert [v.label for v in registry.list()] == ["own@1"]


def test_an_end_that_was_written_though_its_answer_got_lost_counts_once(
    database, jobs, registry, tmp_path, monkeypatch
):
    number = jobs.enqueue("train", "north", TRAIN, "ann")
    add, lost = Registry.add, []

    def adds(self, *what, **named):
        found = add(self, *what, **named)
        if not lost:
            lost.append(found)
            raise sa.exc.OperationalError("COMMIT", {}, Exception("the connection is closed"))
        return found

    monkeypatch.setattr(Registry, "add", adds)
    Worker(database, tmp_path, KEY, do=working.makes).run(until_idle=True)
    assert len(lost) == 1
    assert jobs.job(number).state == "done"
    assert [v.label for v in registry.list()] == ["own@1"]
    assert working.said(tmp_path) == ["made:10"]


def test_a_worker_alone_takes_nobody_for_dead_before_it_has_looked_for_so_long(
    database, jobs, tmp_path
):
    """A service and its workers that come back after a day find all signs of life a day old."""
    jobs.enqueue("train", "north", TRAIN, "ann")
    jobs.take("away")
    database.execute("UPDATE ml_job SET heartbeat_at = now() - interval '1 day'")
    now = [1000.0]
    found = Worker(database, tmp_path, KEY, stale_s=60.0, clock=lambda: now[0])
    for at_s, expected in ((1000.0, None), (1059.0, None), (1061.0, 1)):
        now[0] = at_s
        job = found._reached(found._next)
        assert (job and job.id) == expected


def test_a_training_goes_on_after_a_kill_as_if_there_had_been_none(two_crossings, tmp_path):
    """The table is the same to the bit, with the memory of the episodes before."""
    arguments = {"scenario": two_crossings.sumocfg, "name": "own", "episodes": 4}

    class Killed(BaseException):
        pass

    def killed_at(progress):
        def tell(now, _note):
            told.append(now)
            if now == progress:
                raise Killed

        return tell

    told = []
    whole = work.do_job("train", arguments, tmp_path / "whole" / "1", killed_at(None))
    assert told == [0.0, 0.25, 0.5, 0.75, 1.0]
    told = []
    for attempt, progress in ((1, 0.5), (2, 0.75)):
        with pytest.raises(Killed):
            work.do_job("train", arguments, tmp_path / "cut" / str(attempt), killed_at(progress))
    # the newest checkpoint was spoilt by the disk: the one before is taken
    spoilt = tmp_path / "cut" / "2" / "episodes" / "3"
    for name, change in SPOILT:
        before = (spoilt / name).read_bytes()
        (spoilt / name).write_bytes(change(before))
        demand = demand_of(two_crossings)
        assert work._resumed(tmp_path / "cut" / "2" / "q.table", demand)[0].done == 2, name
        (spoilt / name).write_bytes(before)
    (spoilt / "replay.npz").write_bytes(b"")
    again = work.do_job("train", arguments, tmp_path / "cut" / "3", killed_at(None))
    assert told == [0.0, 0.25, 0.5, 0.5, 0.75, 0.5, 0.75, 1.0]
    tables = [(tmp_path / run).read_bytes() for run in ("whole/1/q.table", "cut/3/q.table")]
    assert tables[0] == tables[1]
    assert again.result == whole.result
    assert again.made_from == whole.made_from
    assert whole.result["episodes"] == 4
    last = work.do_job("train", arguments, tmp_path / "cut" / "4", killed_at(None))
    assert (last.result, told[-1]) == (whole.result, 1.0), "nothing is left to do but the end"


def cut(content):
    return content[: len(content) // 2]


SPOILT = [
    ("replay.npz", cut), ("replay.npz", lambda b: bytes(len(b))), ("memory.json", cut),
    ("memory.json", lambda _: b"null"), ("memory.json", lambda _: b"{}"),
    ("memory.json", lambda b: b"\xff" + b), ("head.json", cut), ("q.table", cut),
    ("head.json", lambda _: b"null"), ("head.json", lambda _: b"{}"),
    ("q.table", lambda b: bytes(len(b))),
]  # fmt: skip


def test_an_evaluation_goes_on_where_it_was_and_compares_by_seed(tmp_path, monkeypatch):
    arguments = {"scenario": "cologne1", "controllers": ["fixed", "webster"], "seeds": [1, 2]}
    delays_s = {("fixed", 1): 30.0, ("fixed", 2): 34.0, ("webster", 1): 20.0}
    made = []

    def runs(jobs, workers):
        for job in jobs:
            made.append((job.controller, job.seed))
            delay_s = delays_s.get(made[-1], math.nan)
            error = "" if made[-1] in delays_s else "SUMO failed"
            yield Result(**job.identity(), delay_s=delay_s, error=error, safety_violations=1)

    monkeypatch.setattr(work, "spread", lambda *_: runs)

    class Killed(BaseException):
        pass

    def tell(progress, _note):
        if progress == 0.75 and not (tmp_path / "2").exists():
            raise Killed

    with pytest.raises(Killed):
        work.do_job("evaluate", arguments, tmp_path / "1", tell)
    with (tmp_path / "1" / "results").open("ab") as file:
        file.write(b'\0\0\xff\n{"scenario": "cologne1", "field": 1}\n{"scenario": "ti')
    found = work.do_job("evaluate", arguments, tmp_path / "2", tell).result["controllers"]
    assert len(made) == len(set(made)) == 4, "no run is made twice"
    # half widths: t(0.975, 1) = 12.706 times the deviation of 30 and 34, 2 * sqrt(2), / sqrt(2)
    assert found["fixed"] == {
        "delay_s": 32.0, "delay_95_s": pytest.approx(12.706 * 2.0, rel=1e-4), "p": 1.0, "seeds": 2,
        "safety_violations": 2, "errors": [],
    }  # fmt: skip
    assert found["webster"] == {
        "delay_s": 20.0, "delay_95_s": None, "p": None, "seeds": 1, "safety_violations": 2,
        "errors": ["seed 2: SUMO failed"],
    }  # fmt: skip
    json.dumps(found, allow_nan=False)


def test_a_run_that_failed_is_made_again_and_an_evaluation_without_any_fails(tmp_path, monkeypatch):
    """It may have failed for want of memory, or because its scenario was not there."""
    arguments = {"scenario": "cologne1", "controllers": ["fixed"], "seeds": [1, 2]}
    errors = ["no memory", "no memory"]

    def runs(jobs, workers):
        for job, error in zip(jobs, errors, strict=True):
            yield Result(**job.identity(), delay_s=math.nan if error else 30.0, error=error)

    monkeypatch.setattr(work, "spread", lambda *_: runs)
    with pytest.raises(RuntimeError, match="all 2 runs failed, the first with: no memory"):
        work.do_job("evaluate", arguments, tmp_path / "1", lambda *_: None)
    errors[:] = ["", ""]
    found = work.do_job("evaluate", arguments, tmp_path / "2", lambda *_: None)
    assert found.result["controllers"]["fixed"]["seeds"] == 2


def test_what_was_run_before_the_scenario_s_files_were_changed_is_run_again(
    two_crossings, tmp_path, monkeypatch
):
    """An evaluation that was killed compared the old street with the new one."""
    place = tmp_path / "street"
    shutil.copytree(Path(two_crossings.sumocfg).parent, place)
    own = str(place / Path(two_crossings.sumocfg).name)
    arguments = {"scenario": own, "controllers": ["fixed"], "seeds": [1]}
    made = []

    def runs(jobs, workers):
        for job in jobs:
            made.append(job.seed)
            yield Result(**job.identity(), delay_s=30.0)

    monkeypatch.setattr(work, "spread", lambda *_: runs)
    for attempt in ("1", "2"):
        work.do_job("evaluate", arguments, tmp_path / attempt, lambda *_: None)
    assert made == [1]
    with (place / Path(two_crossings.routes[0]).name).open("a") as routes:
        routes.write("<!-- twice as much -->")
    work.do_job("evaluate", arguments, tmp_path / "3", lambda *_: None)
    assert made == [1, 1]


def test_a_training_begins_anew_once_the_scenario_s_files_were_changed(two_crossings, tmp_path):
    """A table was half of the old demand, and said to be made from the new one."""
    place = tmp_path / "street"
    shutil.copytree(Path(two_crossings.sumocfg).parent, place)
    own = str(place / Path(two_crossings.sumocfg).name)
    arguments = {"scenario": own, "name": "own", "episodes": 2}
    told = []

    def killed_after_one(progress, _note):
        told.append(progress)
        if progress == 0.5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        work.do_job("train", arguments, tmp_path / "1", killed_after_one)
    with (place / Path(two_crossings.routes[0]).name).open("a") as routes:
        routes.write("<!-- another day -->")
    with pytest.raises(InterruptedError):
        work.do_job("train", arguments, tmp_path / "2", killed_after_one)
    assert told == [0.0, 0.5, 0.0, 0.5], "its first episode once more"
    work.do_job("train", arguments, tmp_path / "3", lambda progress, _: told.append(progress))
    assert told[4:] == [0.5, 1.0], "goes on with the one of the same files"


@pytest.mark.parametrize("kind", ["evaluate", "tune"])
def test_what_another_version_has_run_is_run_again(tmp_path, monkeypatch, kind):
    """After an upgrade a job that was under way failed for good, or mixed both versions."""
    arguments = {
        "evaluate": {"scenario": "cologne1", "controllers": ["fixed"], "seeds": [1]},
        "tune": {"scenario": "cologne1", "name": "own", "generations": 1, "population": 4},
    }[kind]
    made = []

    def runs(jobs, workers):
        for job in jobs:
            made.append(job.seed)
            yield Result(**job.identity(), delay_s=30.0)

    monkeypatch.setattr(work, "spread", lambda *_: runs)
    monkeypatch.setattr(work, "__version__", "0.0.9")
    monkeypatch.setattr("headway.learning.tuning.__version__", "0.0.9")
    work.do_job(kind, arguments, tmp_path / "1", lambda *_: None)
    at_once = len(made)
    monkeypatch.undo()
    monkeypatch.setattr(work, "spread", lambda *_: runs)
    for attempt in ("2", "3"):
        work.do_job(kind, arguments, tmp_path / attempt, lambda *_: None)
        assert len(made) == 2 * at_once, "by both versions once"


def test_a_tuning_goes_on_where_it_was_and_makes_a_model_where_it_is_better(tmp_path, monkeypatch):
    """On a street whose delay is known by a formula: less by `worth` at a longer headway."""
    arguments = {"scenario": "cologne1", "name": "own", "generations": 3, "population": 4}
    made, worth = [], [0.5]

    def runs(jobs, workers):
        for job in jobs:
            figures = yaml.safe_load(Path(job.config).read_text())["planner"]
            made.append((Path(job.config).stem, job.seed))
            luck = 1.0 + worth[0] / 50.0 * math.sin(1000.0 * job.seed * figures["stop_cost_s"])
            delay_s = 40.0 * luck * math.exp(-worth[0] * figures["headway_s"])
            yield Result(**job.identity(), delay_s=delay_s)

    monkeypatch.setattr(work, "spread", lambda *_: runs)

    class Killed(BaseException):
        pass

    def tell(progress, _note):
        told.append(progress)
        if progress == 0.5 and not (tmp_path / "2").exists():
            raise Killed

    told = []
    with pytest.raises(Killed):
        work.do_job("tune", arguments, tmp_path / "1", tell)
    done = work.do_job("tune", arguments, tmp_path / "2", tell)
    assert told == [0.0, 0.25, 0.5, 0.0, 0.25, 0.5, 0.75]
    assert len(made) == len(set(made)), "no run is made twice"
    assert (done.kind, done.name, done.result["is_better"]) == ("planner", "own", True)
    assert done.result["change"] < 0.0
    assert done.made_from["confirming"] == list(range(3001, 3021))
    assert yaml.safe_load(Path(done.file).read_text())["planner"]["headway_s"] > 1.89
    worth[0] = 0.0
    done = work.do_job("tune", arguments, tmp_path / "other" / "1", lambda *_: None)
    assert (done.result["is_better"], done.file, done.kind) == (False, "", "")
    json.dumps(done.result, allow_nan=False)


def test_a_killed_worker_leaves_its_job_to_another_one_which_goes_on_where_it_was(
    database, jobs, registry, two_crossings, tmp_path, monkeypatch
):
    """The commands themselves, ended by SIGKILL after the first episode."""
    monkeypatch.setattr("headway.learning.jobs.allowed_scenario", lambda *_: two_crossings)
    arguments = {"scenario": two_crossings.sumocfg, "name": "own", "episodes": 8}
    number = jobs.enqueue("train", "north", arguments, "ann")
    words = [sys.executable, "-m", "headway", "worker", "--data", str(tmp_path)]
    words += ["--stale-after", "2"]
    environment = os.environ | {"HEADWAY_DATABASE_URL": database.url}
    workers = [subprocess.Popen(words, env=environment)]
    try:
        place = tmp_path / "jobs" / place_of(jobs.job(number))
        until((place / "1" / "episodes" / "1").exists)
        workers[0].kill()
        workers[0].wait()
        assert jobs.job(number).state == "running"
        workers.append(subprocess.Popen(words, env=environment))
        until(lambda: jobs.job(number).state in ("done", "failed"))
        workers[1].send_signal(signal.SIGTERM)
        assert workers[1].wait(60) == 0
    finally:
        for process in workers:
            process.kill()
            process.wait()
    job = jobs.job(number)
    assert (job.state, job.error, job.attempt) == ("done", "", 2)
    own = Registry(database, tmp_path, signing_key(tmp_path))
    (version,) = own.list()
    assert (version.label, version.made_from["job"]) == ("own@1", number)
    assert (version.metrics, version.metrics["episodes"]) == (job.result, 8)
    assert QTable.read(Path(own.file(version).path)).network != 0
