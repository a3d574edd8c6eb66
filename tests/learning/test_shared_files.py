"""Files of models in a storage that several machines reach."""

from __future__ import annotations

import sys
from pathlib import Path

import fsspec
import pytest

from headway.learning.registry import ModelFaultError, Registry
from headway.learning.shared_files import VARIABLE, StorageAwayError
from headway.store import open_database

BUCKET = "memory://bucket/models"
KEY = bytes(range(32))
PLANNER = b"planner:\n  headway_s: 2.1\n"


def add(registry, content=PLANNER):
    return registry.add(content, name="own", kind="planner", made_from={}, metrics={}, by="ann")


@pytest.fixture
def database(new_record, tmp_path):
    found = open_database(tmp_path / "unused", new_record())
    yield found
    found.close()


@pytest.fixture
def machines(database, tmp_path, monkeypatch):
    """The registries of two machines with one database and one storage."""
    monkeypatch.setenv(VARIABLE, BUCKET)
    fsspec.filesystem("memory").store.clear()
    return [Registry(database, tmp_path / name, KEY) for name in ("one", "other")]


def stored():
    """The files of the bucket, by name."""
    return dict(fsspec.filesystem("memory").store)


def test_what_one_machine_registers_another_has(machines):
    one, other = machines
    version = add(one)
    sha256 = version.sha256
    assert [*stored()] == [f"/bucket/models/{sha256[:2]}/{sha256}"]
    file = other.file(other.get(version.id))
    assert Path(file.path).read_bytes() == PLANNER
    assert Path(file.path).stat().st_mode & 0o777 == 0o600
    assert "other" in Path(file.path).parts, "in its own data folder"
    assert [fault for _, fault in other.verify()] == [""]


def test_a_file_that_was_altered_here_is_brought_back(machines):
    one, _ = machines
    version = add(one)
    path = Path(one.file(version).path)
    path.write_bytes(b"planner: {headway_s: 9.9}\n")
    assert Path(one.file(version).path).read_bytes() == PLANNER


@pytest.mark.parametrize(
    ("content", "said"),
    [(PLANNER[:-1], "its copy was altered"), (None, "cannot be brought back")],
    ids=["altered", "missing"],
)
def test_one_that_was_altered_or_is_missing_there_is_refused(machines, content, said):
    one, other = machines
    version = add(one)
    ((name, held),) = stored().items()
    if content is None:
        del fsspec.filesystem("memory").store[name]
    else:
        held.seek(0)
        held.truncate()
        held.write(content)
    with pytest.raises(ModelFaultError, match=said):
        other.file(other.get(version.id))
    assert [p for p in Path(one.file(version).path).parents[1].rglob("*") if p.is_file()] == [
        Path(one.file(version).path)
    ], "the machine that has it goes on with it"
    folder = Path(one.file(version).path).parents[3] / "other" / "models"
    assert [p for p in folder.rglob("*") if p.is_file()] == [], "nothing half-done is left"


def test_one_that_is_larger_than_any_model_is_not_had(machines, monkeypatch):
    one, other = machines
    version = add(one)
    monkeypatch.setattr("headway.learning.model_files.LARGEST_BYTES", len(PLANNER) - 1)
    with pytest.raises(ModelFaultError, match="is larger than 0 MiB"):
        other.file(other.get(version.id))


def test_where_the_storage_is_away_nothing_is_registered_and_what_is_here_goes_on(
    machines, monkeypatch
):
    one, _ = machines
    before = add(one)

    def away(*_, **__):
        raise RuntimeError("no route to the bucket")

    for name in ("put_file", "get_file", "size"):
        monkeypatch.setattr(type(fsspec.filesystem("memory")), name, away)
    with pytest.raises(OSError, match="bucket/models: the file cannot be kept there: no route"):
        add(one, b"planner:\n  headway_s: 2.2\n")
    assert [found.id for found in one.list()] == [before.id]
    assert one.file(before).sha256 == before.sha256
    with pytest.raises(StorageAwayError, match="the file cannot be had: no route"):
        machines[1].file(before)  # no fault of the model: another time it may be had


def test_a_password_in_its_address_is_not_told(database, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "nonsense://ann:geheim1@bucket?key=geheim2")
    with pytest.raises(ValueError, match="nonsense://") as told:
        Registry(database, tmp_path, KEY)
    assert "geheim" not in str(told.value)


def test_a_storage_that_there_is_not_is_said(database, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "nonsense://bucket")
    with pytest.raises(ValueError, match=f"^{VARIABLE} is nonsense://bucket"):
        Registry(database, tmp_path, KEY)


def test_without_the_extra_it_says_so(database, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, BUCKET)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ValueError, match="needs the extra `storage`"):
        Registry(database, tmp_path, KEY)
