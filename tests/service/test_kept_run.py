"""A street's run of the record over the processes that run it."""

from __future__ import annotations

import json
import queue
from dataclasses import replace

import pytest
from structlog.testing import capture_logs
from tests.api.streets import SNAPSHOT
from tests.store.intakes import Intake
from tests.waiting import until

from headway.plants.sumo.scenarios import demand_of, scenario
from headway.service.kept_run import FILE, NUMBERS_AHEAD, KeptRun, keep_run, kept_run
from headway.service.streets import StreetService
from headway.settings import Settings, overridden
from headway.street.messages import RunEnded, Task
from headway.values import Event


@pytest.fixture
def task(tmp_path):
    tree = {"street": {"scenario": "cologne3"}, "recovery": {"folder": str(tmp_path / "main")}}
    return Task(Settings.model_validate(tree))


class Engine:
    """Says what the test puts in; None ends its process."""

    pid, is_restarting = None, False

    def __init__(self, task):
        self.says = queue.Queue()

    def messages(self):
        while (message := self.says.get()) is not None:
            yield message

    def order(self, order):
        pass

    def stop(self):
        self.says.put(None)


class Process:
    """One after the other, on one record."""

    # the record, which outlives them: runs by key, and the newest event of each
    numbers_of, newest = {}, {}

    def __init__(self, task, repeat=False):
        self.engines, self.intake = [], Intake()
        self.intake.begin_run = self._begin
        self.intake.newest_event = lambda run: Process.newest.get(run, 0)
        self.service = StreetService(None, self.intake, self._engine, keeps_runs=True)
        self.street = self.service.start("main", task, repeat)

    def _begin(self, key, *about):
        return Process.numbers_of.setdefault(key, len(Process.numbers_of) + 1)

    def _engine(self, task):
        self.engines.append(Engine(task))
        return self.engines[-1]

    def says(self, *messages):
        for message in messages:
            self.engines[-1].says.put(message)
        return self

    def starts(self, kind, of="cologne3"):
        found = scenario(of)
        data = {"scenario": of, "demand": demand_of(found), "net": found.net}
        self.says(Event(25200.0, f"engine.{kind}", "", data), replace(SNAPSHOT, controller=""))
        until(lambda: self.street.snapshot is not None)
        return self

    def numbers(self):
        self.service.record.recorder.flush()
        found = [(row[0], row[1]) for row in self.intake.rows("event")]
        for run, number in found:
            Process.newest[run] = max(number, Process.newest.get(run, 0))
        return found

    def end(self):
        self.service.stop()


@pytest.fixture(autouse=True)
def first():
    Process.numbers_of, Process.newest = {}, {}


def test_a_process_that_goes_on_from_a_checkpoint_goes_on_in_the_run(task):
    one = Process(task).starts("started")
    assert (one.street.run, one.numbers()) == (1, [(1, 1)])
    one.end()
    two = Process(task).starts("restored")
    assert (two.street.run, len(Process.numbers_of)) == (1, 1)
    assert two.numbers() == [(1, NUMBERS_AHEAD + 1)], "no number twice, whatever was not written"
    two.end()


def test_a_database_that_does_not_know_the_run_is_given_it(task):
    """As one that was restored from before: rows of a run that is not there would be refused."""
    Process(task).starts("started").end()
    (key,) = Process.numbers_of
    Process.numbers_of = {"of somebody else": 1}
    two = Process(task).starts("restored")
    assert Process.numbers_of == {"of somebody else": 1, key: 2}
    assert two.street.run == 2
    assert {run for run, _ in two.numbers()} == {2}
    two.end()


def test_a_folder_that_is_older_than_the_record_begins_a_run(task, tmp_path):
    """Restored from a copy, or on a machine that ran the street before: its numbers of events were
    given since, and the record would drop what comes under them.
    """
    Process(task).starts("started").end()
    copy = (tmp_path / "main" / FILE).read_bytes()
    two = Process(task).starts("restored")
    assert two.numbers() == [(1, NUMBERS_AHEAD + 1)]
    two.end()
    (tmp_path / "main" / FILE).write_bytes(copy)
    with capture_logs() as lines:
        three = Process(task).starts("restored")
    assert three.street.run == 2
    assert {run for run, _ in three.numbers()} == {2}
    assert "older than the record" in lines[0]["event"]
    three.end()
    four = Process(task).starts("restored")
    assert four.street.run == 2, "which is gone on with"
    four.end()


def test_one_that_begins_anew_begins_a_run(task):
    Process(task).starts("started").end()
    two = Process(task).starts("started")
    assert two.street.run == 2
    two.end()
    three = Process(task).starts("restored")
    assert three.street.run == 2
    three.end()


def test_numbers_of_events_are_kept_ahead_of_those_that_are_given(task):
    one = Process(task).starts("started")
    event = Event(25201.0, "engine.cycle", "", {})
    one.says(*[event] * (NUMBERS_AHEAD + 5))
    until(lambda: one.street.events_recorded > NUMBERS_AHEAD + 4)
    assert kept_run(one.street.task).events > one.street.events_recorded
    one.end()


def test_a_scenario_that_was_ordered_is_gone_on_with_in_its_run(task):
    one = Process(task).starts("started")
    one.says(Event(25300.0, "engine.scenario", "", {"scenario": "cologne1"}))
    one.starts("started", "cologne1")
    until(lambda: one.street.run == 2)
    one.end()
    two = Process(task).starts("restored", "cologne1")
    until(lambda: two.street.scenario == "cologne1")
    assert (two.street.run, len(Process.numbers_of)) == (2, 2)
    assert two.street.files.net == scenario("cologne1").net
    two.end()


def test_a_run_that_is_finished_is_not_gone_on_with(task):
    one = Process(task).starts("started").says(RunEnded(28800.0, finished=True), None)
    one.street.thread.join(20.0)
    one.end()
    two = Process(task)
    assert two.street.run == 2
    two.end()


def test_of_other_settings_and_of_a_damaged_file_there_is_none(task, tmp_path):
    kept = KeptRun("a run", task.key(), "cologne3", "cologne3", 1000)
    keep_run(task, kept)
    assert kept_run(task) == kept
    other = overridden(task.settings, {"street": {"seed": 2}})
    assert kept_run(replace(task, settings=other)) is None
    for text in ("", "[]", json.dumps({"run_key": "x"})):
        (tmp_path / "main" / FILE).write_text(text)
        assert kept_run(task) is None
    keep_run(task, None)
    keep_run(task, None)
    assert not (tmp_path / "main" / FILE).exists()


def test_a_disk_that_takes_nothing_costs_the_run_alone(task, tmp_path):
    (tmp_path / "main").write_text("no folder")
    keep_run(task, KeptRun("a run", task.key(), "cologne3", "cologne3", 1000))
    assert kept_run(task) is None
