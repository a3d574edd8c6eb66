"""`headway registry`, and models that training and tuning register."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headway.cli import worker
from headway.control.qtable import QTable
from headway.learning.jobs import Jobs
from headway.learning.registry import Registry, signing_key
from headway.store import open_database

PLANNER = "planner:\n  headway_s: 2.1\n"


@pytest.fixture
def registry(record):
    database = open_database(record)
    yield Registry(database, record, signing_key(record))
    database.close()


@pytest.fixture
def quiet(monkeypatch):
    """Logs stay as the tests have them."""
    monkeypatch.setattr(worker.telemetry, "set_up", lambda *_: None)


def test_a_file_is_registered_listed_shown_and_verified(headway, registry, tmp_path):
    (tmp_path / "tuned.yaml").write_text(PLANNER)
    words = ("add", "tuned.yaml", "--name", "own", "--kind", "planner")
    assert headway("registry", *words).rows == ["own@1"]
    assert headway("registry", *words, "--parent", "own@1").rows == ["own@2"]
    listed = headway("registry", "list").rows
    assert [line.split()[0] for line in listed] == ["model", "own@2", "own@1"]
    assert "planner" in listed[1]
    assert headway("registry", "list", "--kind", "q-table").rows[1:] == []
    shown = headway("registry", "show", "own").out
    version = registry.find("own@2")
    assert "model: own@2\nkind: planner\n" in shown
    assert f"file: {registry.file(version).path}\nsha256: {version.sha256}\nparent: own@1" in shown
    assert '"file": "tuned.yaml"' in shown
    assert headway("registry", "verify").rows == ["2 versions, all whole"]


def test_what_is_not_as_it_was_registered_is_an_exit_status(headway, registry, tmp_path):
    version = registry.add(
        PLANNER.encode(), name="own", kind="planner", made_from={}, metrics={}, by="ann"
    )
    path = Path(registry.file(version).path)
    path.write_text("planner: {}")
    ran = headway("registry", "verify")
    assert ran.status == 1
    assert f"own@1: its file {path} was altered" in ran.out
    assert "1 versions, 1 with faults" in ran.out
    for words, why in (
        (("show", "own"), "was altered"),
        (("show", "none"), "none: no such model is registered"),
        (("add", "none.yaml", "--name", "a", "--kind", "planner"), "none.yaml: no such file"),
        (("add", str(path), "--name", "a", "--kind", "oracle"), "kind 'oracle': is none"),
        (("list", "--data", "elsewhere"), ""),
    ):
        ran = headway("registry", *words)
        assert (ran.status, why in ran.err) == (0 if words[0] == "list" else 1, True)


def test_without_a_database_nothing_is_made(headway, tmp_path):
    ran = headway("registry", "list")
    assert (ran.status, "no database here" in ran.err) == (1, True)
    for words in (("train", "--scenario", "cologne1"), ("tune", "--scenario", "cologne1")):
        ran = headway(*words, "--register", "own")
        assert (ran.status, "no database here" in ran.err) == (1, True)
    ran = headway("train", "--register", "My Model")
    assert (ran.status, "name 'My Model'" in ran.err) == (1, True)
    assert [p.name for p in tmp_path.iterdir()] == []


@pytest.mark.slow
def test_a_table_that_was_trained_is_registered_with_what_it_was_made_from(
    headway, registry, little
):
    Path("own.yaml").write_text("q_learning: {batch: 8}")
    words = ("train", "--scenario", little, "--config", "own.yaml", "--register", "own")
    ran = headway(*words, "--episodes", 2)
    assert (ran.status, "registered as own@1" in ran.out) == (0, True)
    version = registry.find("own")
    assert (version.kind, version.created_by) == ("q-table", "headway train")
    made_from = version.made_from
    assert (made_from["scenario"], made_from["timing"]) == (str(little), "benchmark")
    assert (made_from["seeds"], made_from["reward"]["stopped"]) == ([1000, 1001], 1.0)
    assert version.metrics["episodes"] == 2
    assert "begun_with" not in made_from
    assert Path(registry.file(version).path).read_bytes() == Path("data/q.table").read_bytes()
    json.dumps(made_from)

    # the same table, trained further: it is not made from the last seeds alone
    assert headway(*words, "--episodes", 1).status == 0
    assert registry.find("own").made_from["begun_with"] == {"sha256": version.sha256}


def test_a_worker_does_what_waits_and_ends_where_it_is_told_to(headway, registry, record, quiet):
    database = open_database(record)
    jobs = Jobs(database)
    arguments = {"scenario": "cologne1", "controllers": ["own@1"], "seeds": [1]}
    number = jobs.enqueue("evaluate", "north", arguments, "ann")
    ran = headway("worker", "--until-idle", "--stale-after", 600)
    assert (ran.status, ran.err) == (0, "")
    job = jobs.job(number)
    assert (job.state, job.error) == ("failed", "own@1: no such model is registered.")
    database.close()
    ran = headway("worker", "--data", "elsewhere", "--stale-after", 1)
    assert (ran.status, "--stale-after" in ran.err) == (2, True)


def test_a_table_of_an_earlier_version_is_not_trained_to_be_a_model(
    headway, registry, little, quiet, tmp_path
):
    """It was, for hours, and then no street took it: train it anew, into the same file."""
    QTable(4, 8, tmp_path / "old.table")
    ran = headway("train", "--scenario", little, "--out", "old.table", "--register", "own")
    assert (ran.status, "Give another --out" in " ".join(ran.err.split())) == (2, True)
    assert list(registry.list()) == []


def test_a_worker_without_the_services_secret_says_so(
    headway, registry, quiet, monkeypatch, tmp_path
):
    """What it made, after days, was refused by the service."""
    registry.add(
        PLANNER.encode(), name="own", kind="planner", made_from={}, metrics={}, by="service"
    )
    told = "the newest model is not this worker's: own@1 was signed by another installation"
    for secret, is_told in (("", False), ("s" * 32, True)):
        monkeypatch.setenv("HEADWAY_SECRET_KEY", secret)
        ran = headway("worker", "--until-idle")
        assert (ran.status, told in " ".join(ran.err.split())) == (0, is_told)


def test_a_worker_without_a_database_says_so(headway, quiet):
    ran = headway("worker", "--data", "elsewhere")
    assert (ran.status, "elsewhere: no database here" in ran.err) == (1, True)
