"""A data folder is one process's; who is refused is told whose; a killed one bars nobody."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from headway.runtime.folder_lock import FolderLockedError, locked

HOLD = """
import sys
from pathlib import Path
from headway.runtime.folder_lock import locked
with locked(Path(sys.argv[1]), "headway serve", "http://127.0.0.1:8000"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holding(tmp_path):
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_refused_with_the_name_of_the_first(tmp_path, holding):
    with pytest.raises(FolderLockedError) as refused, locked(tmp_path, "headway run"):
        pass
    found = re.fullmatch(
        re.escape(f"{tmp_path}: in use by 'headway serve' at http://127.0.0.1:8000 (process ")
        + rf"{holding.pid}, since (.*)\). Stop it first, or give another folder by --data\.",
        str(refused.value),
    )
    age_s = (datetime.now(UTC) - datetime.fromisoformat(found[1])).total_seconds()
    assert 0.0 <= age_s < 60.0


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path, holding):
    os.kill(holding.pid, signal.SIGKILL)
    holding.wait()
    assert (tmp_path / "headway.lock").read_text() != "", "it could not tidy up"
    with locked(tmp_path, "headway serve"):
        pass
    with locked(tmp_path, "headway serve"):  # and once more after one that ended well
        assert f'"pid": {os.getpid()}' in (tmp_path / "headway.lock").read_text()
    assert (tmp_path / "headway.lock").read_text() == ""


def test_a_child_does_not_hold_the_lock_of_its_parent(tmp_path):
    """PostgreSQL and the streets may outlive a server that was killed."""
    with locked(tmp_path, "one"):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with locked(tmp_path, "other"):
        pass
    child.communicate(b"\n")


def test_an_older_lock_file_or_a_broken_one_is_no_holder(tmp_path, holding):
    (tmp_path / "headway.lock").write_text("nonsense")
    with (
        pytest.raises(FolderLockedError, match="in use by another process"),
        locked(tmp_path, "headway run"),
    ):
        pass


def test_a_folder_is_held_though_somebody_deletes_the_file_of_the_lock(tmp_path, holding):
    (tmp_path / "headway.lock").unlink()
    for _ in range(2):
        with (
            pytest.raises(FolderLockedError, match="in use by another process"),
            locked(tmp_path, "headway run"),
        ):
            pass
    os.kill(holding.pid, signal.SIGKILL)
    holding.wait()
    with locked(tmp_path, "headway run"):
        pass
