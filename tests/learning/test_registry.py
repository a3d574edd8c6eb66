"""The registry of models: what is registered can be had back as it was, and nothing else can."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import math
import os
import stat
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from headway import __version__
from headway.control.qtable import QTable
from headway.learning import model_files
from headway.learning.aliases import enter
from headway.learning.jobs import Jobs
from headway.learning.registry import (
    ModelFaultError,
    Registry,
    UnknownModelError,
    signing_key,
)
from headway.store import open_database
from headway.store.upkeep import backup, restore

PLANNER = b"planner:\n  headway_s: 2.1\n"
KEY = bytes(range(32))
MADE_FROM = {"scenario": "cologne1", "seeds": [1, 2, 3], "rate": 0.30000000000000004}
METRICS = {"delay_s": 31.5, "delay_95_s": [30.25, 1e22]}


@pytest.fixture(scope="module")
def database(new_record, tmp_path_factory):
    found = open_database(tmp_path_factory.mktemp("unused"), new_record())
    yield found
    found.close()


@pytest.fixture
def forget(database):
    """Takes away what protects the tables, and puts it back."""

    def change(statement, **values):
        for table in ("model_version", "model_alias"):
            database.execute(f"ALTER TABLE {table} DISABLE TRIGGER {table}_is_kept")
        try:
            database.execute(statement, **values)
        finally:
            for table in ("model_version", "model_alias"):
                database.execute(f"ALTER TABLE {table} ENABLE TRIGGER {table}_is_kept")

    return change


@pytest.fixture
def registry(database, forget, tmp_path):
    forget("TRUNCATE model_version CASCADE")
    return Registry(database, tmp_path, KEY)


def add(registry, content=PLANNER, name="own", **changes):
    what = {"kind": "planner", "made_from": MADE_FROM, "metrics": METRICS, "by": "ann"}
    return registry.add(content, name=name, **what | changes)


def test_drafts_that_a_kill_has_left_are_taken_away_a_day_later(tmp_path):
    """One that is a minute old may be of a process that goes on."""
    old, young = tmp_path / ".00.draft", tmp_path / ".11.draft"
    for draft, age_s in ((old, 86_500), (young, 60)):
        draft.touch()
        os.utime(draft, (time.time() - age_s,) * 2)
    sha256, size = model_files.ModelFiles(tmp_path).keep(PLANNER, "planner")
    assert (old.exists(), young.exists(), size) == (False, True, len(PLANNER))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".11.draft", sha256[:2]]


def test_a_version_comes_back_as_it_was_registered(registry, tmp_path):
    path = tmp_path / "tuned.yaml"
    path.write_bytes(PLANNER)
    first = add(registry, path)
    second = add(registry, b"planner:\n  headway_s: 2.2\n", parent=first.id)
    assert (first.label, second.label) == ("own@1", "own@2")
    assert registry.get(first.id) == first
    assert first.made_from == MADE_FROM
    assert first.metrics == METRICS
    assert (first.sha256, first.size) == (hashlib.sha256(PLANNER).hexdigest(), len(PLANNER))
    assert (first.kind, first.parent, first.created_by, first.code_version, first.fault) == (
        "planner", None, "ann", __version__, "",
    )  # fmt: skip
    assert second.parent == first.id
    assert first.created_at <= second.created_at


def test_files_are_stored_by_their_content_for_this_user_alone(registry, tmp_path):
    version, again = add(registry), add(registry, name="other")
    sha256 = hashlib.sha256(PLANNER).hexdigest()
    path = tmp_path / "models" / sha256[:2] / sha256
    assert version.sha256 == again.sha256 == sha256
    assert [p for p in (tmp_path / "models").rglob("*") if p.is_file()] == [path]
    assert path.read_bytes() == PLANNER
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file = registry.file(again)
    assert (file.name, file.version, file.kind) == ("other", 1, "planner")
    assert (file.sha256, file.path) == (sha256, str(path))


def test_a_name_is_its_newest_version_and_at_a_number_that_one(registry):
    for content in (b"planner: {headway_s: 2.1}", b"planner: {headway_s: 2.2}"):
        add(registry, content)
    add(registry, name="other")
    assert registry.find("own").label == "own@2"
    assert registry.find("own@1").label == "own@1"
    for unknown in ("none", "own@3", "own@0", "own@", "own@latest", "own@champion", "own@-1"):
        if unknown == "own@":
            assert registry.find(unknown).label == "own@2"
            continue
        with pytest.raises(UnknownModelError, match=unknown):
            registry.find(unknown)
    for number in (99, 0, -1, 2**63):
        with pytest.raises(UnknownModelError, match=f"no model has the id {number}"):
            registry.get(number)


@pytest.mark.parametrize("letters", ["a\0b", "\ud800", "a\n"])
def test_letters_that_the_database_refuses_are_of_nothing(registry, letters):
    version = add(registry)
    registry.set_alias("north", "", "champion", version.id, "ann")
    for reference in (letters, f"{letters}@1", f"own@{letters}"):
        with pytest.raises(UnknownModelError):
            registry.find(reference)
    with pytest.raises(UnknownModelError, match="no such street"):
        registry.find("own@champion", letters)
    assert registry.list(name=letters) == registry.list(kind=letters) == []
    assert registry.aliases(letters) == registry.history(letters) == []
    assert registry.history("north", letters) == []
    assert registry.at_junction("north", letters, 9) == ([], [])


def test_a_list_has_the_newest_first_and_goes_on_where_it_ended(registry, tmp_path):
    for k in range(5):
        add(registry, name="even" if k % 2 == 0 else "odd")
    QTable(3, 8, tmp_path / "q.table").flush()
    add(registry, tmp_path / "q.table", kind="q-table", name="odd")
    labels = ["odd@3", "even@3", "odd@2", "even@2", "odd@1", "even@1"]
    assert [v.label for v in registry.list()] == labels
    first = registry.list(limit=4)
    assert [v.label for v in first] == labels[:4]
    assert [v.label for v in registry.list(4, after_id=first[-1].id)] == labels[4:]
    assert [v.label for v in registry.list(name="odd")] == ["odd@3", "odd@2", "odd@1"]
    assert [v.label for v in registry.list(kind="q-table")] == ["odd@3"]


def test_an_altered_file_is_refused_and_registering_it_anew_repairs_it(registry):
    version = add(registry)
    path = Path(registry.file(version).path)
    path.write_bytes(PLANNER.replace(b"2.1", b"9.9"))
    with pytest.raises(ModelFaultError, match=f"own@1: its file {path} was altered. Put it back"):
        registry.file(version)
    assert [(v.label, "was altered" in fault) for v, fault in registry.verify()] == [
        ("own@1", True)
    ]
    path.unlink()
    with pytest.raises(ModelFaultError, match="is missing"):
        registry.file(version)
    add(registry)
    assert [fault for _, fault in registry.verify()] == ["", ""]


@pytest.mark.parametrize(
    "change",
    [
        "name = 'another'", "version = 9", "kind = 'q-table'", "sha256 = repeat('a', 64)",
        "size = 1", "code_version = '9'", "made_from = '{}'", "metrics = '{\"delay_s\": 1}'",
        "parent = 1", "created_by = 'eve'", "created_at = created_at + interval '1 microsecond'",
        "signature = repeat('0', 64)",
    ],
)  # fmt: skip
def test_a_row_that_was_altered_is_refused_whatever_of_it(registry, forget, change):
    add(registry)
    version = add(registry)
    forget(f"UPDATE model_version SET {change} WHERE id = :id", id=version.id)
    with pytest.raises(ModelFaultError, match="was altered in the database: restore"):
        registry.get(version.id)
    with pytest.raises(ModelFaultError, match="was altered"):
        registry.file(version)
    newest, first = registry.list()
    assert "was altered" in newest.fault
    assert first.fault == ""


def test_two_rows_that_changed_places_are_refused(registry, forget):
    add(registry), add(registry, name="other")
    forget("UPDATE model_version SET id = 10 + id")
    forget("UPDATE model_version SET id = 13 - id")
    for number in (1, 2):
        with pytest.raises(ModelFaultError, match="was altered"):
            registry.get(number)


def test_a_row_of_another_installation_is_refused(registry, database, tmp_path):
    foreign = Registry(database, tmp_path, signing_key(tmp_path / "elsewhere"))
    version = add(foreign)
    assert foreign.get(version.id) == version
    for ask in (registry.get, foreign.get):
        if ask == foreign.get:
            assert ask(version.id).fault == ""
            continue
        with pytest.raises(ModelFaultError, match=r"own@1 was signed by another installation"):
            ask(version.id)
    with pytest.raises(ModelFaultError, match="another installation"):
        registry.set_alias("headway", "", "champion", version.id, "ann")


def test_who_knows_the_database_alone_cannot_sign(registry, database):
    """The signature is keyed: its text and the plain hash of it are no signature."""
    version = add(registry)
    (row,) = database.rows("SELECT key, signature FROM model_version")
    assert row["key"] == hashlib.sha256(b"name of " + KEY).hexdigest()[:8]
    text = {
        "id": version.id, "name": "own", "version": 1, "kind": "planner",
        "sha256": version.sha256, "size": version.size, "code_version": __version__,
        "made_from": json.dumps(MADE_FROM, sort_keys=True),
        "metrics": json.dumps(METRICS, sort_keys=True), "parent": None, "created_by": "ann",
        "created_at": version.created_at.isoformat(),
    }  # fmt: skip
    said = json.dumps(["version", text], sort_keys=True).encode()
    assert row["signature"] == hmac.digest(KEY, said, "sha256").hex()


def test_the_key_is_of_the_secret_or_of_a_file_for_this_user_alone(tmp_path):
    secret = signing_key(tmp_path, "a secret of the service")
    assert secret == hmac.digest(b"a secret of the service", b"headway model registry", "sha256")
    assert not (tmp_path / "models.key").exists()
    made = signing_key(tmp_path)
    path = tmp_path / "models.key"
    assert (len(made), stat.S_IMODE(path.stat().st_mode)) == (32, 0o600)
    assert signing_key(tmp_path) == made
    assert signing_key(tmp_path / "other") != made
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["models.key"]
    path.write_text("dead")
    with pytest.raises(ValueError, match=r"models.key: is damaged. Put it back"):
        signing_key(tmp_path)


def test_processes_that_start_at_once_have_one_key(tmp_path):
    for k in range(20):
        at_once, found = threading.Barrier(4), []

        def ask(folder=tmp_path / str(k), at_once=at_once, found=found):
            at_once.wait()
            found.append(signing_key(folder))

        together(ask, 4)
        assert len(set(found)) == 1


def together(what, count):
    threads = [threading.Thread(target=what) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_writers_at_once_give_one_version_each(registry, database, tmp_path):
    at_once, made = threading.Barrier(4), []

    def write():
        own = Registry(database, tmp_path, KEY)
        at_once.wait()
        for _ in range(5):
            made.append(add(own))

    together(write, 4)
    assert sorted(v.version for v in made) == list(range(1, 21))
    assert len({v.id for v in made}) == 20
    assert [v.version for v in registry.list()] == list(range(20, 0, -1))
    assert {fault for _, fault in registry.verify()} == {""}


def test_what_ends_between_file_and_row_leaves_nothing_that_lists(registry, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "_numbering", killed)
        with pytest.raises(Killed):
            add(registry)
    assert registry.list() == []
    (file,) = (p for p in (tmp_path / "models").rglob("*") if p.is_file())
    assert file.read_bytes() == PLANNER
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(Killed):
            add(registry, b"planner: {headway_s: 2.5}")
    assert registry.list() == []
    assert add(registry).label == "own@1"
    assert [fault for _, fault in registry.verify()] == [""]
    assert [p for p in (tmp_path / "models").rglob("*") if p.is_file()] == [file]


def test_nothing_of_the_registry_can_be_changed_or_taken_away(registry, database):
    version = add(registry)
    registry.set_alias("headway", "", "champion", version.id, "ann")
    for table, change in itertools.product(
        ("model_version", "model_alias"),
        ("UPDATE {} SET key = key", "DELETE FROM {}", "TRUNCATE {} CASCADE"),
    ):
        with pytest.raises(sa.exc.DBAPIError, match="only ever added to"):
            database.execute(change.format(table))
    assert registry.find("own@champion") == version


def test_an_alias_is_what_was_set_last_and_its_history_keeps_all(registry):
    one, two = add(registry), add(registry)
    registry.set_alias("north", "", "champion", one.id, "ann")
    registry.set_alias("north", "J1", "champion", two.id, "ann")
    registry.set_alias("north", "", "shadow", two.id, "bob")
    registry.set_alias("north", "", "champion", two.id, "bob")
    registry.set_alias("south", "", "champion", one.id, "ann")
    registry.set_alias("north", "", "shadow", None, "ann")

    def said(entries):
        return [(e.junction, e.alias, e.label, e.set_by) for e in entries]

    assert said(registry.aliases("north")) == [
        ("J1", "champion", "own@2", "ann"),
        ("", "champion", "own@2", "bob"),
    ]
    assert said(registry.history("north", "")) == [
        ("", "shadow", "", "ann"),
        ("", "champion", "own@2", "bob"),
        ("", "shadow", "own@2", "bob"),
        ("", "champion", "own@1", "ann"),
    ]
    assert len(registry.history("north")) == 5
    assert registry.aliases("west") == []
    numbers = [e.number for e in registry.history("north")]
    assert numbers == sorted(numbers, reverse=True)


def test_a_junction_s_history_is_read_without_those_of_others(registry):
    """A street of 1,000 junctions has hundreds of thousands of entries after some canaries: each
    question for one junction read and checked them all (20 s).
    """
    one, two = add(registry), add(registry)
    rows = [("", "champion", one.id), ("J1", "champion", two.id), ("J2", "champion", one.id),
            ("", "shadow", one.id), ("J1", "shadow", one.id), ("J1", "shadow", None),
            ("J2", "shadow", two.id), ("", "champion", two.id)]  # fmt: skip
    for junction, alias, version in rows:
        registry.set_alias("north", junction, alias, version, "ann")
    registry.set_alias("south", "J1", "champion", one.id, "ann")
    asked = []
    for junction in ("J1", "J2", "J3"):
        of_it = [e for e in registry.history("north") if e.junction in ("", junction)]
        in_force = [e for e in registry.aliases("north") if e.junction in ("", junction)]
        history, now = registry.at_junction("north", junction, 100)
        assert (history, now) == (of_it, in_force)
        assert registry.at_junction("north", junction, 2) == (of_it[:2], in_force)
        asked.append(len(history))
    assert asked == [6, 5, 3]


def test_a_model_at_an_alias_is_what_is_in_force(registry):
    one, two = add(registry), add(registry)
    other = add(registry, name="other")
    registry.set_alias("north", "", "champion", one.id, "ann")
    assert registry.find("own@champion") == one
    assert registry.find("own@champion", "north") == one
    registry.set_alias("south", "", "champion", two.id, "ann")
    assert registry.find("own@champion", "south") == two
    with pytest.raises(UnknownModelError, match=r"is several: own@1 \(north\), own@2 \(south\)"):
        registry.find("own@champion")
    registry.set_alias("north", "", "champion", other.id, "ann")
    assert registry.find("own@champion") == two
    assert registry.find("other@champion") == other
    with pytest.raises(UnknownModelError, match=r"no version of 'own' is champion on the street"):
        registry.find("own@champion", "north")
    registry.set_alias("south", "", "champion", None, "ann")
    with pytest.raises(UnknownModelError, match="no version of 'own' is champion"):
        registry.find("own@champion")


def test_an_alias_that_was_altered_or_copied_is_refused(registry, forget, database):
    one, two = add(registry), add(registry)
    registry.set_alias("north", "", "champion", one.id, "ann")
    registry.set_alias("north", "", "champion", two.id, "ann")
    forget("INSERT INTO model_alias SELECT 3, at, street, junction, alias, version_id, set_by, "
           "key, signature FROM model_alias WHERE number = 1")  # fmt: skip
    for street in ("north", None):
        with pytest.raises(ModelFaultError, match="entry 3 of the aliases was altered"):
            registry.find("own@champion", street)
    assert registry.aliases("north") == [], "nor is what was in force before"
    faults = [entry.fault for entry in registry.history("north")]
    assert ("was altered" in faults[0], faults[1:]) == (True, ["", ""])


def test_after_a_change_of_the_secret_models_are_registered_and_deployed_anew(
    registry, database, tmp_path
):
    """An entry that the key of before has signed barred all aliases, of all streets, for good."""
    old = add(registry)
    for street in ("north", "south"):
        registry.set_alias(street, "", "champion", old.id, "ann")
    now = Registry(database, tmp_path, bytes(32))
    with pytest.raises(ModelFaultError, match="signed by another installation") as told:
        now.get(old.id)
    assert now.look_at(old.id).fault in str(told.value)
    file = str(told.value).split("headway registry add ")[1].rstrip(".")
    new = add(now, Path(file))
    deployed = {"kind": "engine.model_deployed", "data": {"mode": "all", "model": new.label}}
    enter(now, "north", deployed)
    assert now.find("own@champion") == now.find("own@champion", "north") == new
    assert [e.label for e in now.aliases("north")] == ["own@2"]
    assert [(e.label, bool(e.fault)) for e in now.history("north")] == [
        ("own@2", False), ("own@1", True),
    ]  # fmt: skip
    with pytest.raises(ModelFaultError, match=r"entry 2 .* Give the version, or deploy it anew"):
        now.find("own@champion", "south")


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ({"street": ""}, "street ''"),
        ({"street": "a\0b"}, "street 'a"),
        ({"junction": "j\n"}, "junction 'j"),
        ({"junction": "j" * 257}, "junction 'jjj"),
        ({"alias": "boss"}, "alias 'boss': is none. There are: champion, challenger, shadow"),
        ({"version_id": 99}, "id 99"),
    ],
)
def test_an_alias_that_cannot_be_is_refused_and_nothing_changes(registry, what, why):
    version = add(registry)
    given = {"street": "north", "junction": "", "alias": "champion", "version_id": version.id}
    with pytest.raises(ValueError, match=why):
        registry.set_alias(**given | what, by="ann")
    assert registry.history("north") == []


@pytest.mark.parametrize(
    ("content", "what", "why"),
    [
        (PLANNER, {"name": "Own"}, "name 'Own': give 1 to 64 of a-z"),
        (PLANNER, {"name": "a@1"}, "name 'a@1'"),
        (PLANNER, {"name": "../x"}, "name"),
        (PLANNER, {"name": ""}, "name ''"),
        (PLANNER, {"name": "x" * 65}, "name 'x"),
        (PLANNER, {"kind": "oracle"}, "kind 'oracle': is none. There are: planner, q-table"),
        (PLANNER, {"metrics": {"p": math.nan}}, "metrics: cannot be written as JSON"),
        (PLANNER, {"made_from": {"at": object()}}, "made_from: cannot be written as JSON"),
        (PLANNER, {"made_from": {"x": "y" * (1 << 20)}}, "made_from: is larger than 1 MiB"),
        (PLANNER, {"parent": 99}, "no model has the id 99"),
        (b"", {}, "kind planner: it is empty"),
        (PLANNER, {"kind": "q-table"}, "kind q-table: it is no Q-table"),
        (model_files.Q_TABLE_BEGIN, {}, "kind planner: "),
        (b"planner: [", {}, "kind planner: is no YAML"),
        (b"api: {}", {}, "must hold the section `planner`"),
        (b"planner: {}\nsafety: {}", {}, "must hold the section `planner`"),
        (b"planner: {headway_s: .nan}", {}, "planner.headway_s: "),
        (b"planner: {speed: 1.0}", {}, "planner.speed: Extra inputs"),
        (b"planner: {}\nplanner: {headway_s: 2.0}", {}, "'planner' is given twice"),
        pytest.param(b"planner: {}\n#" + b"x" * (1 << 16), {}, "is too large", id="large"),
    ],
)
def test_what_cannot_be_registered_is_refused_and_leaves_nothing(
    registry, tmp_path, content, what, why
):
    with pytest.raises(ValueError, match=why):
        add(registry, content, **what)
    assert registry.list() == []
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("network", [0, 77])
def test_a_q_table_that_was_cut_off_or_has_more_is_refused(registry, tmp_path, network):
    """It was registered, and refused by the street, when its training was long gone."""
    QTable(3, 8, tmp_path / "q.table", network).flush()
    whole = (tmp_path / "q.table").read_bytes()
    for content in (whole[:-1], whole + b"\0", whole[:20], whole[:8]):
        with pytest.raises(ValueError, match="a Q-table that was cut off or changed"):
            add(registry, content, kind="q-table")
    assert add(registry, whole, kind="q-table").size == len(whole)


def test_a_file_beyond_the_bound_is_refused_before_it_fills_the_disk(
    registry, tmp_path, monkeypatch
):
    monkeypatch.setattr(model_files, "LARGEST_BYTES", 2 << 20)
    path = tmp_path / "large"
    path.write_bytes(model_files.Q_TABLE_BEGIN + bytes(2 << 20))
    with pytest.raises(ValueError, match=r"large: is larger than 2 MiB"):
        add(registry, path, kind="q-table")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


@pytest.mark.slow
def test_a_backup_has_the_registry_with_its_signatures(registry, database, tmp_path):
    version = add(registry)
    registry.set_alias("north", "", "champion", version.id, "ann")
    backup(database, tmp_path / "b", KEY)
    database.execute("DROP TABLE ml_job, model_alias, model_version")
    restore(database, tmp_path / "b", KEY)
    assert list(registry.list()) == [version]
    assert [e.label for e in registry.aliases("north")] == ["own@1"]
    assert [fault for _, fault in registry.verify()] == [""]


@pytest.mark.slow
def test_after_a_restore_no_model_has_the_name_of_another_one_that_may_run(
    registry, database, tmp_path
):
    """A street went on with `own@2`, and the next one that was made was called so, too."""
    first = add(registry)
    backup(database, tmp_path / "b", KEY)
    second = add(registry, b"planner:\n  headway_s: 2.2\n", parent=first.id)
    registry.set_alias("north", "", "champion", second.id, "ann")
    restore(database, tmp_path / "b", KEY)
    third = add(registry, b"planner:\n  headway_s: 2.3\n")
    assert (registry.find("own@2"), third.label, third.id) == (second, "own@3", 3)
    assert registry.find("own@champion") == second
    with database.engine.begin() as held, pytest.raises(sa.exc.DBAPIError):
        held.exec_driver_sql("DELETE FROM model_version")


@pytest.mark.slow
def test_a_backup_of_another_registry_replaces_this_one(registry, database, forget, tmp_path):
    add(registry, b"planner:\n  headway_s: 2.2\n")
    backup(database, tmp_path / "b", KEY)
    forget("TRUNCATE model_version CASCADE")
    add(registry)
    add(registry)
    restore(database, tmp_path / "b", KEY)
    assert [version.label for version in registry.list()] == ["own@1"]
    assert registry.file(registry.find("own@1"))


@pytest.mark.slow
def test_jobs_that_ended_after_a_backup_are_not_done_again(registry, database, tmp_path):
    """Neither what was cancelled, nor what was done; and no job has the number of another one."""
    database.execute("TRUNCATE ml_job RESTART IDENTITY")
    jobs = Jobs(database)
    asked = {"scenario": "cologne1", "name": "own"}
    done, cancelled, runs, waits = (jobs.enqueue("train", "north", asked, "ann") for _ in range(4))
    assert jobs.take("w").id == done
    backup(database, tmp_path / "b", KEY)
    jobs.finish(jobs.job(done), {"delay_s": 1.0}, add(registry).id)
    jobs.cancel(cancelled, "ann")
    assert jobs.take("w").id == runs
    later = jobs.enqueue("train", "north", asked, "ann")
    restore(database, tmp_path / "b", KEY)
    states = {job.id: job.state for job in jobs.jobs()}
    assert states == {done: "done", cancelled: "cancelled", runs: "running", waits: "waiting"}
    assert jobs.job(done).result == {"delay_s": 1.0}
    assert jobs.enqueue("train", "north", asked, "ann") == later + 1
    database.execute("TRUNCATE ml_job")
