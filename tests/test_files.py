"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from headway.files import write_whole


@pytest.fixture
def disk(monkeypatch):
    """What a power cut would leave: the contents that were flushed, by the inode of each file, and
    the names in each folder as they were when it was flushed last.
    """
    flushed = {}

    def fsync(handle):
        about = os.fstat(handle)
        if stat.S_ISDIR(about.st_mode):
            flushed["names"] = {entry.name for entry in os.scandir(handle)}
        else:
            flushed[about.st_ino] = Path(f"/proc/self/fd/{handle}").read_bytes()

    monkeypatch.setattr(os, "fsync", fsync)
    return flushed


@pytest.fixture(autouse=True)
def no_rights(monkeypatch):
    before = os.umask(0)
    yield
    os.umask(before)


def test_what_was_written_outlasts_a_power_cut_under_its_name(tmp_path, disk):
    path = tmp_path / "new" / "orders.json"
    write_whole(path, "{ä}")
    assert path.read_bytes() == disk[path.stat().st_ino] == "{ä}".encode()
    assert disk["names"] == {"orders.json"}
    write_whole(path, b"\x00")
    assert path.read_bytes() == disk[path.stat().st_ino] == b"\x00"


def test_nobody_else_may_read_it_though_a_draft_was_left_that_all_may(tmp_path):
    path = tmp_path / "keys.json"
    draft = tmp_path / "keys.json.draft"
    draft.write_text("left")
    draft.chmod(0o666)
    write_whole(path, "secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "secret"


def test_a_disk_that_is_full_leaves_what_stood_there(tmp_path, monkeypatch):
    path = tmp_path / "orders.json"
    write_whole(path, "before")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "after")
    assert path.read_text() == "before"


def test_a_file_system_that_flushes_no_folders_does_not_matter(tmp_path, monkeypatch):
    """Some network file systems refuse it; the file is there all the same."""
    flush = os.fsync

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")
        flush(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(tmp_path / "a", "x")
    assert (tmp_path / "a").read_text() == "x"
