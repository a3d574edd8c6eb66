"""Checkpoints: written completely or not at all, the last two kept,
the newest intact one of the same run resumed.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import stat
from pathlib import Path

import pytest

from headway.street import checkpoint


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
    assert pickle.loads((folder / "street.pickle").read_bytes()) == {"street at": 12.3456}
    digests = {
        n: hashlib.sha256((folder / n).read_bytes()).hexdigest()
        for n in ("plant.xml.gz", "street.pickle")
    }
    assert json.loads((folder / "about.json").read_text()) == {
        "format": 5,
        "time_s": 12.3456,
        "key": "run",
        "sha256": digests,
    }
    assert names(folder) == ["about.json", "plant.xml.gz", "street.pickle"]
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
    assert names(save(tmp_path, 7.0).folder) == ["about.json", "plant.xml.gz", "street.pickle"]
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
    assert flushed == [("plant.xml.gz", False), ("street.pickle", False), ("about.json", False)]


@pytest.mark.parametrize("name", ["plant.xml.gz", "street.pickle", "about.json"])
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
        '{"format": 5, "key": "run"}',
        '{"format": 5, "key": "run", "sha256": {}, "time_s": "late"}',
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


def test_a_checkpoint_of_an_earlier_version_is_skipped(tmp_path):
    """Its classes may have moved: it cannot be read."""
    old = save(tmp_path, 1.0)
    about = json.loads((save(tmp_path, 2.0).folder / "about.json").read_text())
    (tmp_path / "00000000002.000" / "about.json").write_text(json.dumps(about | {"format": 1}))
    assert checkpoint.latest(tmp_path, "run") == old
    assert checkpoint.other_formats(tmp_path, "run") == [1], "said when the run starts"
    assert checkpoint.other_formats(tmp_path, "another run") == []
    del about["format"]
    (tmp_path / "00000000002.000" / "about.json").write_text(json.dumps(about))
    assert checkpoint.latest(tmp_path, "run") == old


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert checkpoint.latest(tmp_path, "run") is None
    assert checkpoint.latest(tmp_path / "nowhere", "run") is None
    (tmp_path / "file").write_text("x")
    assert checkpoint.latest(tmp_path / "file", "run") is None


def test_a_checkpoint_of_another_run_is_not_resumed_and_is_deleted_first(tmp_path):
    """A run that was stopped late in the day must not push out the checkpoints of one
    that begins in the morning.
    """
    save(tmp_path, 500.0, "evening")
    save(tmp_path, 600.0, "evening")
    morning = save(tmp_path, 100.0, "morning")
    assert checkpoint.latest(tmp_path, "morning") == morning
    assert names(tmp_path) == ["00000000100.000", "00000000600.000"]
    assert checkpoint.latest(tmp_path, "evening").time_s == 600.0
    save(tmp_path, 110.0, "morning")
    assert names(tmp_path) == ["00000000100.000", "00000000110.000"]
    assert checkpoint.latest(tmp_path, "evening") is None


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
    root = tmp_path / "checkpoints"
    save(root, 5.0)
    checkpoint.clear(root)
    assert not root.exists()
    assert tmp_path.exists()
    checkpoint.clear(root)  # twice is once
