"""A pytest plugin: writes what each passed test took, with its set-up, to the file of `--times`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PASSED: dict[str, float] = {}
OTHER: set[str] = set()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--times", default="")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.outcome != "passed":
        OTHER.add(report.nodeid)
    elif report.when != "teardown":
        PASSED[report.nodeid] = PASSED.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        Path(session.config.getoption("--times")).write_text(json.dumps({k: round(v, 3) for k, v in PASSED.items() if k not in OTHER}))
