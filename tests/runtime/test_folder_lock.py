"""A data folder is one process's; who is refused is told whose; a killed one bars nobody."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

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
def folder(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def holding(folder):
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_refused_with_the_name_of_the_first(folder, holding):
    with pytest.raises(FolderLockedError) as refused, locked(folder, "headway run"):
        pass
    found = re.fullmatch(
        re.escape(f"{folder}: in use by 'headway serve' at http://127.0.0.1:8000 (process ")
        + rf"{holding.pid}, since (.*)\). Stop it first, or give another folder by --data\.",
        str(refused.value),
    )
    age_s = (datetime.now(UTC) - datetime.fromisoformat(found[1])).total_seconds()
    assert 0.0 <= age_s < 60.0


def test_a_lock_ends_with_its_process_however_that_ends(folder, holding):
    os.kill(holding.pid, signal.SIGKILL)
    holding.wait()
    assert (folder / "headway.lock").read_text() != "", "it could not tidy up"
    with locked(folder, "headway serve"):
        pass
    with locked(folder, "headway serve"):  # and once more after one that ended well
        assert f'"pid": {os.getpid()}' in (folder / "headway.lock").read_text()
    assert (folder / "headway.lock").read_text() == ""


def test_a_child_does_not_hold_the_lock_of_its_parent(folder):
    """PostgreSQL and the streets may outlive a server that was killed."""
    with locked(folder, "one"):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with locked(folder, "other"):
        pass
    child.communicate(b"\n")


def test_an_older_lock_file_or_a_broken_one_is_no_holder(folder, holding):
    (folder / "headway.lock").write_text("nonsense")
    with (
        pytest.raises(FolderLockedError, match=rf"in use by process {holding.pid}\. Stop"),
        locked(folder, "headway run"),
    ):
        pass


def test_a_folder_is_held_though_somebody_deletes_the_file_of_the_lock(folder, holding):
    (folder / "headway.lock").unlink()
    for _ in range(2):
        with (
            pytest.raises(FolderLockedError, match=rf"in use by process {holding.pid}\. Stop"),
            locked(folder, "headway run"),
        ):
            pass
    os.kill(holding.pid, signal.SIGKILL)
    holding.wait()
    with locked(folder, "headway run"):
        pass


@pytest.mark.parametrize("takes_away", [shutil.rmtree, lambda folder: folder.rename("away")])
def test_a_folder_that_is_taken_away_is_held_where_it_was(
    folder, holding, takes_away, tmp_path, monkeypatch
):
    """Whoever works with it makes it anew, and goes on to write there."""
    monkeypatch.chdir(tmp_path)
    takes_away(folder)
    link = tmp_path / "link"
    link.symlink_to(folder)
    for name in (folder, link, Path("data"), folder):
        with (
            pytest.raises(FolderLockedError, match=rf"in use by process {holding.pid}\. Stop"),
            locked(name, "headway run"),
        ):
            pass
    with locked(tmp_path / "other" / "data", "headway run"):  # of the same name
        pass
    holding.kill()
    holding.wait()
    with locked(folder, "headway run"):
        pass


def test_a_socket_of_somebody_else_bars_nobody(folder, holding, monkeypatch):
    """Names of sockets are free to all; the folder is not."""
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with (
        pytest.raises(FolderLockedError, match="in use by 'headway serve' at"),
        locked(folder, "headway run"),
    ):
        pass
    shutil.rmtree(folder)
    with locked(folder, "headway run"):
        pass


def test_where_sockets_have_no_such_names_the_folder_alone_is_held(folder, holding, monkeypatch):
    class Socket(socket.socket):
        def bind(self, name):
            raise OSError("no such names")

        connect = bind

    monkeypatch.setattr(socket, "socket", Socket)
    (folder / "headway.lock").write_text("nonsense")
    with (
        pytest.raises(FolderLockedError, match="in use by another process"),
        locked(folder, "headway run"),
    ):
        pass
    holding.kill()
    holding.wait()
    with locked(folder, "headway run"):
        pass
