"""A pytest plugin: writes what each passed test took, with its set-up, and whether that was the
whole suite, to the file of `--times`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bench.mutants.reach import state_of

STATE = pytest.StashKey[str]()
PASSED: dict[str, float] = {}
OTHER: set[str] = set()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--times", default="")


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--times"):
        return
    os.environ["HEADWAY_TREE"] = str(config.rootpath)
    os.environ["COVERAGE_PROCESS_START"] = str(
        config.rootpath / "pyproject.toml"
    )  # processes that a test starts are measured too
    if not hasattr(config, "workerinput"):
        config.stash[STATE] = state_of(config.rootpath)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.outcome != "passed":
        OTHER.add(report.nodeid)
    elif report.when != "teardown":
        PASSED[report.nodeid] = PASSED.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if not config.getoption("--times") or hasattr(config, "workerinput"):
        return
    less = (
        "keyword",
        "markexpr",
        "maxfail",
        "lf",
        "failedfirst",
        "deselect",
        "ignore",
        "ignore_glob",
    )
    narrowed = (
        exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        or config.args_source.name != "TESTPATHS"
        or any(config.getoption(name, None) for name in less)
    )
    seconds = {k: round(v, 3) for k, v in PASSED.items() if k not in OTHER}
    Path(config.getoption("--times")).write_text(
        json.dumps({"state": config.stash[STATE], "whole": not narrowed, "seconds": seconds})
    )
