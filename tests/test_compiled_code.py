"""Compiled functions on disk are dropped where a file that they are made of has changed since."""

from __future__ import annotations

import os
import time

import pytest

from headway.compiled_code import ROOT, USED, drop_stale


@pytest.fixture
def tree(tmp_path):
    """Each package with a module of an hour ago, and a function compiled half an hour ago."""
    now = time.time()
    for package in ("roads", *USED):
        folder = tmp_path / package / "__pycache__"
        folder.mkdir(parents=True)
        touch(tmp_path / package / "module.py", now - 3600.0)
        touch(folder / "module.function-1.py311.nbi", now - 1800.0)
    touch(tmp_path / "values.py", now - 3600.0)
    return tmp_path


def touch(path, at_s):
    path.touch()
    os.utime(path, (at_s, at_s))


def packages(root, dropped):
    return {str(path.relative_to(root).parent.parent) for path in dropped}


def test_what_is_newer_than_its_sources_is_kept(tree):
    assert drop_stale(tree) == []
    assert len(list(tree.rglob("*.nbi"))) == 1 + len(USED)


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
def test_a_change_drops_what_may_contain_it(tree, changed, dropped):
    (tree / changed).touch()
    assert packages(tree, drop_stale(tree)) == dropped
    assert drop_stale(tree) == [], "once"


def test_a_time_in_the_future_does_not_keep_everything_from_being_kept(tree):
    touch(tree / "values.py", time.time() + 3600.0)
    assert drop_stale(tree) == []


def test_every_package_with_compiled_functions_is_known():
    """`runtime` has one, which uses nothing of another file."""
    files = [file for file in ROOT.rglob("*.py") if "from numba import" in file.read_text()]
    assert {str(file.relative_to(ROOT).parent) for file in files} == {*USED, "runtime"}
