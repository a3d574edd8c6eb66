"""Compiled functions on disk are dropped where a file that they are made of has changed since."""

from __future__ import annotations

import os
import shutil
import stat
import threading
import time
from pathlib import Path
from threading import Semaphore

import numba
import pytest
from numba.core import event

from headway.compiled_code import (
    ROOT,
    STAMP,
    USED,
    drop_stale,
    find_room,
    is_compiled,
    is_kept,
    while_compiling,
)


@pytest.fixture
def tree(tmp_path):
    """Each package with a module and a compiled function, both known to be of one another."""
    for package in ("roads", *USED):
        folder = tmp_path / package / "__pycache__"
        folder.mkdir(parents=True)
        (tmp_path / package / "module.py").write_text("one = 1")
    (tmp_path / "values.py").touch()
    drop_stale(tmp_path)
    compile_all(tmp_path)
    return tmp_path


def compile_all(root):
    for package in USED:
        (root / package / "__pycache__" / "module.function-1.py311.nbi").touch()


def packages(root, dropped):
    return {str(path.relative_to(root).parent.parent) for path in dropped}


def test_whether_a_module_was_compiled_before_is_told_by_its_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    cache = tmp_path / "control" / "__pycache__"
    cache.mkdir(parents=True)
    assert not is_kept("control", "search", tmp_path)
    (cache / "searches.f-1.py311.nbi").touch()
    assert not is_kept("control", "search", tmp_path)
    (cache / "search.f-1.py311.nbi").touch()
    assert is_kept("control", "search", tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "elsewhere")
    assert is_kept("control", "other", tmp_path), "nobody knows"


def test_whether_a_street_has_to_be_compiled_first(tree, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert is_compiled(tree)
    (tree / "safety" / "__pycache__" / "module.function-1.py311.nbi").unlink()
    assert not is_compiled(tree)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "elsewhere")
    assert is_compiled(tree)


@pytest.fixture
def shut(monkeypatch):
    """A list of folders below which nothing can be written, as on a read-only disk: root may write
    into any folder that only forbids it.
    """
    folders, really = [], os.access

    def access(path, mode):
        return really(path, mode) and not any(Path(path).is_relative_to(f) for f in folders)

    monkeypatch.setattr(os, "access", access)
    return folders


def test_compiled_code_has_a_private_place_where_neither_package_nor_home_can_be_written(
    tree, shut, tmp_path_factory
):
    home, temporary = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("tmp")
    of_home = {"XDG_CACHE_HOME": str(home / "not" / "yet")}

    def place(variables):
        found = dict(variables)
        find_room(tree, found, str(temporary))
        return found.get("NUMBA_CACHE_DIR")

    assert place(of_home) is None, "beside the code"
    shut.append(tree / "street")
    assert place(of_home) is None, "numba takes the user's cache"
    shut.append(home)
    assert place(of_home | {"NUMBA_CACHE_DIR": "mine"}) == "mine"
    folder = Path(place(of_home))
    assert folder == temporary / f"headway-compiled-{os.getuid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert place(of_home) == str(folder), "the same again: nothing is compiled twice"

    # somebody else could have put code there
    for spoil in (lambda: folder.chmod(0o777), lambda: become_link(folder, home)):
        spoil()
        other = Path(place(of_home))
        assert other != folder
        assert other.parent == temporary
        assert stat.S_IMODE(other.stat().st_mode) == 0o700


def become_link(folder, to):
    folder.rmdir()
    folder.symlink_to(to)


def test_what_was_made_of_the_files_as_they_are_is_kept(tree):
    assert drop_stale(tree) == []
    assert len(list(tree.rglob("*.nbi"))) == len(USED)


@pytest.mark.parametrize(
    ("changed", "dropped"),
    [
        ("control/another.py", {"control"}),  # a caller may have its code in itself
        ("values.py", {"control", "safety", "plants/sumo", "street"}),
        ("roads/module.py", {"control", "safety", "plants/sumo", "street"}),
        ("plants/kpp/module.py", {"plants/kpp"}),
        ("README.md", set()),
    ],
)
@pytest.mark.parametrize("hours", [-1.0, 1.0], ids=["an older file", "a newer file"])
def test_a_change_drops_what_may_contain_it(tree, changed, dropped, hours):
    """Also where the new file is older, as a copy that keeps the times may be."""
    (tree / changed).touch()
    at_s = time.time() + hours * 3600.0
    os.utime(tree / changed, (at_s, at_s))
    assert packages(tree, drop_stale(tree)) == dropped
    assert {package for package in USED if not [*(tree / package).rglob("*.nbi")]} == dropped
    compile_all(tree)
    assert drop_stale(tree) == [], "once"


def test_a_change_of_the_size_alone_counts(tree):
    file = tree / "safety" / "module.py"
    at_ns = file.stat().st_mtime_ns
    file.write_text("one = 10")
    os.utime(file, ns=(at_ns, at_ns))
    assert packages(tree, drop_stale(tree)) == {"safety"}


def test_what_the_first_process_of_all_compiled_is_kept(tmp_path):
    """It finds no `__pycache__`, as after a checkout, or where Python writes no bytecode."""
    for package in USED:
        (tmp_path / package).mkdir(parents=True)
    assert drop_stale(tmp_path) == []
    for package in USED:
        (tmp_path / package / "__pycache__").mkdir(exist_ok=True)  # as numba does
    compile_all(tmp_path)
    assert drop_stale(tmp_path) == []
    assert len(list(tmp_path.rglob("*.nbi"))) == len(USED)


def test_what_was_compiled_before_there_were_stamps_is_dropped(tree):
    for stamp in tree.rglob(STAMP):
        stamp.unlink()
    assert packages(tree, drop_stale(tree)) == set(USED)


def test_a_missing_file_or_folder_does_not_stop_the_import(tree):
    (tree / "values.py").unlink()
    shutil.rmtree(tree / "street")
    assert packages(tree, drop_stale(tree)) == {"control", "safety", "plants/sumo"}


def test_every_package_with_compiled_functions_is_known():
    files = [file for file in ROOT.rglob("*.py") if "from numba import" in file.read_text()]
    assert {str(file.relative_to(ROOT).parent) for file in files} == set(USED)


def test_whoever_compiles_says_so_from_time_to_time_and_nobody_else_does():
    def compiled(told, every_s):
        with while_compiling(lambda: told.append(1), every_s):
            told.append("begun")
            numba.njit(lambda x: x + 1.5)(2.0)
            told.append("compiled")
            (1.0).hex()

    each, few = [], []
    compiled(each, 0.0)
    compiled(few, 3600.0)
    assert len(each) > 5
    assert (each[0], each[-1]) == ("begun", "compiled")
    assert few == ["begun", 1, "compiled"]
    numba.njit(lambda x: x + 2.5)(2.0)
    assert few == ["begun", 1, "compiled"]


def test_a_long_step_of_the_compiler_is_told_again_and_again_but_not_for_ever():
    """One step of the largest function took 5 s on a machine with two sessions, in silence: with
    three, a street that was being compiled was killed as one that has hung.
    """
    told, now = Semaphore(0), [0.0]

    def clock():
        now[0] += 1.0  # so that each look is due
        return now[0]

    with while_compiling(told.release, every_s=0.01, longest_s=1e6, clock=clock):
        assert not told.acquire(timeout=0.2), "nothing is compiled"
        with event.trigger_event("numba:run_pass", {}):
            for _ in range(4):
                assert told.acquire(timeout=60.0)
            now[0] += 2e6  # it has hung
            looks = now[0]
            until = time.monotonic() + 60.0
            while now[0] < looks + 10.0:
                assert time.monotonic() < until
                time.sleep(0.01)
            while told.acquire(blocking=False):
                pass
            assert not told.acquire(timeout=0.2)
    assert not [thread for thread in threading.enumerate() if thread.name == "compiling"]
