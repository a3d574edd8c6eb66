"""Background jobs in the database: who may begin what, and who may end it."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from headway.learning.jobs import MOST_DEATHS, Jobs, LostJobError, UnknownJobError
from headway.plants.sumo.allowed import ScenarioNotAllowedError
from headway.roads.network import RoadsError
from headway.store import open_database

TRAIN = {"scenario": "cologne1", "name": "own"}


@pytest.fixture(scope="module")
def database(new_record, tmp_path_factory):
    found = open_database(tmp_path_factory.mktemp("unused"), new_record())
    yield found
    found.close()


@pytest.fixture
def jobs(database):
    database.execute("TRUNCATE ml_job")
    return Jobs(database)


def train(jobs, street="north", **arguments):
    return jobs.enqueue("train", street, TRAIN | arguments, "ann")


def test_a_job_waits_goes_on_and_ends(jobs):
    number = train(jobs, episodes=3)
    job = jobs.job(number)
    assert (job.kind, job.street, job.asked_by, job.state) == ("train", "north", "ann", "waiting")
    assert job.arguments == {
        "scenario": "cologne1", "timing": "benchmark", "name": "own", "episodes": 3, "seed": 1000,
    }  # fmt: skip
    assert (job.attempt, job.begun_at, job.heartbeat_at, job.ended_at) == (0, None, None, None)
    taken = jobs.take("w1")
    assert (taken.id, taken.state, taken.attempt, taken.worker) == (number, "running", 1, "w1")
    assert jobs.take("w2") is None
    assert jobs.beat(taken, 0.5, "half") is False
    job = jobs.job(number)
    assert (job.progress, job.note) == (0.5, "half")
    assert job.heartbeat_at > taken.heartbeat_at
    jobs.finish(taken, {"stopped": 1.5})
    job = jobs.job(number)
    assert (job.state, job.progress, job.result) == ("done", 1.0, {"stopped": 1.5})
    assert job.ended_at >= job.begun_at == taken.begun_at


def test_one_a_street_goes_on_at_once_in_the_order_in_which_they_were_asked_for(jobs):
    first, second = train(jobs), train(jobs)
    other, third = train(jobs, "south"), train(jobs)
    a, b = jobs.take("w1"), jobs.take("w2")
    assert (a.id, b.id, jobs.take("w3")) == (first, other, None)
    jobs.end(a, "failed", "no")
    a = jobs.take("w1")
    assert (a.id, jobs.take("w3")) == (second, None)
    jobs.give_back(a)
    assert jobs.take("w3").id == second
    assert jobs.job(third).state == "waiting"


def test_workers_at_once_never_take_one_job_twice_or_two_of_a_street(jobs, database):
    numbers = [train(jobs, street) for street in ("a", "b", "c") for _ in range(8)]
    taken, lock, open_streets, faults = [], threading.Lock(), set(), []

    def work():
        own = Jobs(database)
        while True:
            job = own.take("w")
            if job is None:
                if len(taken) == len(numbers):
                    return
                continue
            with lock:
                if job.street in open_streets or job.id in taken:
                    faults.append(job)
                open_streets.add(job.street)
                taken.append(job.id)
            with lock:
                open_streets.discard(job.street)
                own.finish(job, {})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (faults, sorted(taken)) == ([], numbers)
    assert {jobs.job(n).state for n in numbers} == {"done"}


def test_the_database_itself_refuses_two_of_a_street(jobs, database):
    train(jobs), train(jobs)
    with pytest.raises(sa.exc.IntegrityError, match="ml_job_one_a_street"):
        database.execute("UPDATE ml_job SET state = 'running'")


def test_who_was_taken_for_dead_can_write_nothing_any_more(jobs, database):
    number = train(jobs)
    dead = jobs.take("w1")
    assert jobs.sweep(60.0) == 0
    database.execute("UPDATE ml_job SET heartbeat_at = now() - make_interval(secs => 61)")
    assert jobs.sweep(60.0) == 1
    assert (jobs.job(number).state, jobs.job(number).worker) == ("waiting", "")
    writes = (
        lambda: jobs.beat(dead, 0.9, ""), lambda: jobs.finish(dead, {"a": 1}),
        lambda: jobs.end(dead, "failed", "no"), lambda: jobs.give_back(dead),
    )  # fmt: skip
    for taken_over in (False, True):
        alive = jobs.take("w2") if taken_over else None
        for write in writes:
            with pytest.raises(LostJobError, match=f"job {number}: attempt 1 is not the last"):
                write()
    assert (alive.id, alive.attempt) == (number, 2)
    jobs.finish(alive, {"b": 2})
    for write in writes:
        with pytest.raises(LostJobError):
            write()
    assert jobs.job(number).result == {"b": 2}
    with pytest.raises(LostJobError, match="attempt 2"):
        jobs.finish(alive, {"b": 3})


def test_a_job_that_ends_its_process_each_time_fails_at_last(jobs, database):
    number = train(jobs)
    for k in range(MOST_DEATHS):
        job = jobs.take("w")
        assert job.attempt == k + 1
        if k % 2 == 0:
            jobs.give_back(job, "ended by SIGKILL")
        else:
            database.execute("UPDATE ml_job SET heartbeat_at = now() - interval '1 hour'")
            assert jobs.sweep(60.0) == 1
    job = jobs.job(number)
    assert (job.state, job.error) == ("failed", "ended by SIGKILL")
    assert job.ended_at is not None
    assert jobs.take("w") is None


def test_a_job_of_days_outlives_any_number_of_deaths_between_which_it_gets_further(jobs):
    number = train(jobs)
    for k in range(3 * MOST_DEATHS):
        job = jobs.take("w")
        jobs.beat(job, 0.0, "begins with what it has")
        jobs.beat(job, (k + 1) / 100, "further")
        jobs.give_back(job, "ended by SIGKILL")
    for _ in range(MOST_DEATHS - 1):  # where it gets no further they count
        job = jobs.take("w")
        jobs.beat(job, 3 * MOST_DEATHS / 100, "as far as before")
        jobs.give_back(job, "ended by SIGKILL")
    assert jobs.job(number).state == "failed"


def test_what_a_job_says_is_written_whatever_letters_it_has(jobs):
    number, said = train(jobs), "a\0b\ud800" + "x" * 3000
    job = jobs.take("w")
    jobs.beat(job, 0.5, said)
    assert jobs.job(number).note == "ab?" + "x" * 1996
    jobs.end(job, "failed", said)
    assert jobs.job(number).error == "ab?" + "x" * 1996


def test_stopping_workers_does_not_count_against_a_job(jobs):
    number = train(jobs)
    for _ in range(MOST_DEATHS + 2):
        jobs.give_back(jobs.take("w"))
    assert (jobs.job(number).state, jobs.job(number).attempt) == ("waiting", MOST_DEATHS + 2)


def test_a_job_that_waits_is_cancelled_at_once_and_one_that_goes_on_hears_of_it(jobs, database):
    first, second = train(jobs), train(jobs)
    job = jobs.take("w")
    assert jobs.cancel(second, "bob").state == "cancelled"
    asked = jobs.cancel(first, "bob")
    assert (asked.state, asked.cancel_by, asked.ended_at) == ("running", "bob", None)
    assert jobs.cancel(first, "eve").cancel_by == "bob"
    assert jobs.beat(job, 0.5, "") is True
    jobs.end(job, "cancelled")
    ended = jobs.cancel(first, "eve")
    assert (ended.state, ended.cancel_by) == ("cancelled", "bob")
    assert ended.ended_at is not None
    third = train(jobs)
    jobs.take("w")
    jobs.cancel(third, "bob")
    database.execute("UPDATE ml_job SET heartbeat_at = now() - interval '1 hour'")
    assert jobs.sweep(60.0) == 1
    assert jobs.job(third).state == "cancelled", "its worker died before it heard of it"
    fourth = train(jobs)
    jobs.finish(jobs.take("w"), {})
    done = jobs.cancel(fourth, "bob")
    assert (done.state, done.cancel_by) == ("done", None)


def test_jobs_are_listed_newest_first_by_street_and_state(jobs):
    numbers = [train(jobs, street) for street in ("a", "b", "a", "b")]
    jobs.end(jobs.take("w"), "failed", "no")
    assert [j.id for j in jobs.jobs()] == numbers[::-1]
    assert [j.id for j in jobs.jobs(2, after_id=numbers[3])] == numbers[1:3][::-1]
    assert [j.id for j in jobs.jobs(street="a")] == [numbers[2], numbers[0]]
    assert [j.id for j in jobs.jobs(state="failed")] == [numbers[0]]
    assert jobs.jobs(street="a\0b") == jobs.jobs(state="\ud800") == []
    for number in (0, -1, 2**63):
        with pytest.raises(UnknownJobError, match=f"no job has the id {number}"):
            jobs.job(number)
        with pytest.raises(UnknownJobError, match=f"no job has the id {number}"):
            jobs.cancel(number, "bob")


EVALUATE = {"scenario": "cologne1", "controllers": ["fixed"], "seeds": [1]}


@pytest.mark.parametrize(
    ("kind", "arguments", "why"),
    [
        ("dream", TRAIN, "kind 'dream': is none. There are: train, tune, evaluate"),
        ("train", {"name": "own"}, "train: scenario: Field required"),
        ("train", TRAIN | {"name": "My Own"}, "train: name: "),
        ("train", TRAIN | {"episodes": 0}, "train: episodes: "),
        ("train", TRAIN | {"episodes": True}, "train: episodes: "),
        ("train", TRAIN | {"episodes": "3"}, "train: episodes: "),
        ("train", TRAIN | {"speed": 3}, "train: speed: Extra inputs"),
        ("train", TRAIN | {"timing": "fast"}, "train: timing: "),
        ("tune", TRAIN | {"scale": float("nan")}, "tune: scale: "),
        ("tune", TRAIN | {"population": 3}, "tune: population: "),
        ("evaluate", EVALUATE | {"seeds": []}, "evaluate: seeds: "),
        ("evaluate", EVALUATE | {"seeds": [-1]}, "evaluate: seeds.0: "),
        ("evaluate", EVALUATE | {"controllers": []}, "evaluate: controllers: "),
        ("evaluate", EVALUATE | {"controllers": ["fixed", "magic"]}, "evaluate: controllers.1: "),
        ("evaluate", EVALUATE | {"controllers": ["own@boss"]}, "evaluate: controllers.0: "),
        ("evaluate", EVALUATE | {"controllers": ["own@0"]}, "evaluate: controllers.0: "),
        ("train", TRAIN | {"scenario": "atlantis"}, "no scenario 'atlantis'"),
        ("train", TRAIN | {"scenario": "/etc/x.sumocfg"}, "is outside of the allowed folders"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_waits(jobs, kind, arguments, why):
    with pytest.raises(ValueError, match=why):
        jobs.enqueue(kind, "north", arguments, "ann")
    assert jobs.jobs() == []


@pytest.mark.parametrize("street", ["", "a\0b", "x" * 257])
def test_a_street_has_a_name_that_can_be_printed(jobs, street):
    with pytest.raises(ValueError, match=r"street .* letters that can be printed"):
        train(jobs, street)


def test_scenarios_of_allowed_folders_may_be_used(database, jobs, tiny, tmp_path):
    folder = tiny.rpartition("/")[0]
    with pytest.raises((ScenarioNotAllowedError, RoadsError)):
        train(jobs, scenario=tiny)
    network = str(tmp_path)  # the scenario names a network in another folder
    with pytest.raises(ScenarioNotAllowedError, match="outside of the allowed folder"):
        train(Jobs(database, [folder, network]), scenario=tiny)


def test_so_many_may_wait_and_no_more(jobs, database):
    database.execute(
        "INSERT INTO ml_job (kind, street, arguments, asked_by) "
        "SELECT 'train', 's' || k, '{}', 'ann' FROM generate_series(1, 1000) k"
    )
    with pytest.raises(ValueError, match="1000 jobs wait already"):
        train(jobs)


def test_who_orders_for_one_street_alone_leaves_room_for_others(jobs, database):
    """An operator of one street, with 1,000 of them, kept all other streets from any."""
    database.execute(
        "INSERT INTO ml_job (kind, street, arguments, asked_by) "
        "SELECT 'train', 'north', '{}', 'ann' FROM generate_series(1, 99) k"
    )
    train(jobs)
    with pytest.raises(ValueError, match="100 jobs of street 'north' wait already"):
        train(jobs)
    assert train(jobs, "south") > 0
