"""Checkpoints: written completely or not at all, the last two kept,
the newest intact one of the same run resumed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import stat
from pathlib import Path

import pytest

from headway.street import checkpoint, load_tries
from headway.street.state_file import decode


class Plant:
    def __init__(self, says="plant"):
        self.says = says

    def checkpoint(self, path):
        path.write_text(self.says)


class Broken:
    def checkpoint(self, path):
        path.write_text("half")
        raise OSError("no space left")


def names(root):
    return sorted(p.name for p in root.iterdir())


def save(root, time_s, key="run"):
    return checkpoint.save(root, key, time_s, Plant(f"plant at {time_s}"), {"street at": time_s})


def test_a_checkpoint_holds_the_plant_the_street_and_its_run(tmp_path):
    root = tmp_path / "deep" / "checkpoints"
    saved = save(root, 12.3456)
    folder = root / "00000000012.346"
    assert saved == checkpoint.Checkpoint(folder, 12.3456, "run")
    assert saved.plant == folder / "plant.xml.gz"
    assert saved.plant.read_text() == "plant at 12.3456"
    assert saved.street() == {"street at": 12.3456}
    assert decode((folder / "street.msgpack").read_bytes()) == {"street at": 12.3456}
    digests = {
        n: hashlib.sha256((folder / n).read_bytes()).hexdigest()
        for n in ("plant.xml.gz", "street.msgpack")
    }
    assert json.loads((folder / "about.json").read_text()) == {
        "format": 9,
        "time_s": 12.3456,
        "key": "run",
        "sha256": digests,
    }
    assert names(folder) == ["about.json", "plant.xml.gz", "street.msgpack"]
    assert names(root) == ["00000000012.346"]
    assert checkpoint.latest(root, "run") == saved


def test_the_folders_are_private_to_the_user(tmp_path):
    root = tmp_path / "checkpoints"
    folder = save(root, 1.0).folder
    assert [stat.S_IMODE(p.stat().st_mode) for p in (root, folder)] == [0o700, 0o700]


def test_the_last_two_checkpoints_are_kept_and_the_newest_is_resumed(tmp_path):
    for second in (9.0, 10.0, 100.0, 1000.0):
        saved = save(tmp_path, second)
        assert checkpoint.latest(tmp_path, "run") == saved
    assert names(tmp_path) == ["00000000100.000", "00000001000.000"]
    assert checkpoint.latest(tmp_path, "run").street() == {"street at": 1000.0}


def test_a_checkpoint_of_the_same_second_replaces_the_one_before(tmp_path):
    save(tmp_path, 5.0)
    checkpoint.save(tmp_path, "run", 5.0, Plant("anew"), {})
    assert names(tmp_path) == ["00000000005.000"]
    assert checkpoint.latest(tmp_path, "run").plant.read_text() == "anew"


def test_a_failed_checkpoint_leaves_the_previous_one_valid_and_does_not_affect_the_next(tmp_path):
    save(tmp_path, 5.0)
    with pytest.raises(OSError, match="no space left"):
        checkpoint.save(tmp_path, "run", 6.0, Broken(), {})
    assert checkpoint.latest(tmp_path, "run").time_s == 5.0
    (tmp_path / ".draft" / "left over").write_text("x")
    assert names(save(tmp_path, 7.0).folder) == ["about.json", "plant.xml.gz", "street.msgpack"]
    assert names(tmp_path) == ["00000000005.000", "00000000007.000"]


def test_a_checkpoint_counts_only_when_it_is_completely_on_the_disk(tmp_path, monkeypatch):
    flushed = []

    def fsync(number):
        flushed.append(
            (
                Path(f"/proc/self/fd/{number}").readlink().name,
                (tmp_path / "00000000005.000").exists(),
            )
        )

    monkeypatch.setattr(checkpoint.os, "fsync", fsync)
    save(tmp_path, 5.0)
    assert flushed == [("plant.xml.gz", False), ("street.msgpack", False), ("about.json", False)]


@pytest.mark.parametrize("name", ["plant.xml.gz", "street.msgpack", "about.json"])
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(tmp_path, name, how):
    save(tmp_path, 10.0)
    damaged = save(tmp_path, 20.0).folder / name
    damaged.unlink() if how == "gone" else damaged.write_text("damaged")
    found = checkpoint.latest(tmp_path, "run")
    assert (found.time_s, found.street()) == (10.0, {"street at": 10.0})


@pytest.mark.parametrize(
    "about",
    [
        "[1]",
        '{"format": 3}',
        '{"format": 9, "key": "run"}',
        '{"format": 9, "key": "run", "sha256": {}, "time_s": "late"}',
        "",
        "null",
    ],
)
def test_a_checkpoint_with_invalid_metadata_is_skipped(tmp_path, about):
    save(tmp_path, 10.0)
    (save(tmp_path, 20.0).folder / "about.json").write_text(about)
    assert checkpoint.latest(tmp_path, "run").time_s == 10.0
    assert checkpoint.latest(tmp_path, "another") is None
    save(tmp_path, 30.0)
    assert names(tmp_path) == ["00000000010.000", "00000000030.000"], "the damaged one goes first"


def test_a_checkpoint_of_another_version_is_passed_over_with_the_reason(tmp_path):
    """Its state may have other parts: it is refused, not guessed at."""
    old = save(tmp_path, 1.0)
    about = json.loads((save(tmp_path, 2.0).folder / "about.json").read_text())
    (tmp_path / "00000000002.000" / "about.json").write_text(json.dumps(about | {"format": 10}))
    assert checkpoint.latest(tmp_path, "run") == old
    assert checkpoint.found(tmp_path, "run")[1] == [
        ("00000000002.000", "it has format 10, of another version; this one reads 9")
    ]
    del about["format"]
    (tmp_path / "00000000002.000" / "about.json").write_text(json.dumps(about))
    assert checkpoint.latest(tmp_path, "run") == old


def test_those_that_earlier_versions_put_into_the_folder_of_all_runs_are_named(tmp_path):
    (tmp_path / "00000000002.000").mkdir()
    (tmp_path / "00000000002.000" / "about.json").write_text('{"format": 5, "key": "run"}')
    (tmp_path / "00000000002.000" / "street.pickle").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    save(checkpoint.folder_of(tmp_path, "run"), 3.0)
    assert checkpoint.of_earlier_versions(tmp_path) == [
        ("00000000002.000", "it has format 5, of another version; this one reads 9")
    ]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda f: (f / "street.msgpack").write_bytes(b"x"), "street.msgpack is damaged"),
        (lambda f: (f / "plant.xml.gz").write_bytes(b"x"), "plant.xml.gz is damaged"),
        (lambda f: (f / "plant.xml.gz").unlink(), "it is damaged (FileNotFoundError"),
        (lambda f: (f / "about.json").write_text("{"), "it is damaged (JSONDecodeError"),
        (
            lambda f: (f / "tries").write_text("2 2 False"),
            "the process ended each time it was loaded",
        ),
    ],
)
def test_one_that_is_passed_over_says_why(tmp_path, spoil, why):
    good, bad = save(tmp_path, 10.0), save(tmp_path, 20.0)
    spoil(bad.folder)
    usable, ((name, said),) = checkpoint.found(tmp_path, "run")
    assert (usable, name) == ([good], "00000000020.000")
    assert said.startswith(why)


def test_a_folder_that_cannot_be_read_says_why(tmp_path, monkeypatch):
    """Of another user; or no folder stands there."""
    own = tmp_path / "run"
    own.write_text("")
    refusal = ("run", "its folder cannot be read (Not a directory)")
    assert checkpoint.found(own, "run") == ([], [refusal])

    def refuse(folder):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    refusal = ("run", "its folder cannot be read (Permission denied)")
    assert checkpoint.found(own, "run") == ([], [refusal])


def test_one_whose_loading_ends_the_process_is_tried_twice(tmp_path):
    saved = save(tmp_path / "run", 10.0)
    for _ in range(2):
        assert checkpoint.latest(tmp_path / "run", "run") == saved
        load_tries.begin(saved.folder)
        load_tries.note_failure(tmp_path)
        load_tries.note_failure(tmp_path)  # of a process that had not begun to load
    assert checkpoint.latest(tmp_path / "run", "run") is None
    load_tries.end(saved.folder)
    assert checkpoint.latest(tmp_path / "run", "run") == saved


def test_a_program_that_is_killed_while_it_loads_gives_its_checkpoint_up_only_after_many(tmp_path):
    """A container that is stopped in each of its first minutes, which are spent on compiling."""
    saved = save(tmp_path / "run", 10.0)
    for _ in range(19):
        load_tries.begin(saved.folder)
        assert checkpoint.latest(tmp_path / "run", "run") == saved
    load_tries.begin(saved.folder)
    assert checkpoint.latest(tmp_path / "run", "run") is None


def test_a_state_that_cannot_be_written_leaves_the_previous_checkpoint(tmp_path):
    saved = save(tmp_path, 10.0)
    with pytest.raises(OSError, match=r"state.plant: .*Plant cannot be written"):
        checkpoint.save(tmp_path, "run", 20.0, Plant(), {"plant": Plant()})
    circle = []
    circle.append(circle)
    for value in (1 << 70, "\ud800", circle):
        with pytest.raises(OSError, match="the state cannot be written"):
            checkpoint.save(tmp_path, "run", 20.0, Plant(), {"plant": value})
    assert checkpoint.latest(tmp_path, "run") == saved


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert checkpoint.latest(tmp_path, "run") is None
    assert checkpoint.latest(tmp_path / "nowhere", "run") is None
    (tmp_path / "file").write_text("x")
    assert checkpoint.latest(tmp_path / "file", "run") is None


def test_each_run_has_a_folder_of_its_own_and_deletes_nothing_of_another(tmp_path):
    runs = [
        f"{scenario} seed {seed} controller {controller}"
        for scenario in ("a", "a b", "a-b", "../a", "")
        for seed in (1, 11)
        for controller in ("fixed", "planner")
    ]
    folders = {run: checkpoint.folder_of(tmp_path, run) for run in runs}
    assert len(set(folders.values())) == len(runs)
    assert {folder.parent for folder in folders.values()} == {tmp_path}
    for second in (500.0, 10.0, 20.0, 600.0):
        for run, folder in folders.items():
            save(folder, second, run)
    for run, folder in folders.items():
        assert checkpoint.latest(folder, run).time_s == 600.0
        assert names(folder) == ["00000000020.000", "00000000600.000"]
    checkpoint.clear(folders[runs[0]])
    assert sum(folder.exists() for folder in folders.values()) == len(runs) - 1


def test_later_damaged_checkpoints_do_not_displace_those_of_a_restarted_run(tmp_path):
    """Both of a run are damaged: it begins anew, and what it keeps then is kept."""
    for second in (500.0, 600.0):
        (save(tmp_path, second).folder / "plant.xml.gz").write_text("damaged")
    assert checkpoint.latest(tmp_path, "run") is None
    for second in (100.0, 110.0):
        saved = save(tmp_path, second)
        assert checkpoint.latest(tmp_path, "run") == saved
    assert names(tmp_path) == ["00000000100.000", "00000000110.000"]


def test_all_checkpoints_are_deleted_at_the_end_of_the_run(tmp_path):
    root = tmp_path / "checkpoints" / "run"
    save(root, 5.0)
    checkpoint.clear(root)
    assert not root.exists()
    checkpoint.clear(root)  # twice is once
