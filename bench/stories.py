"""A pytest plugin: writes the stories of the rows, with their figures, to the file of `--stories`;
of `--rows` alone, where some are named.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Story:
    """see: how a user sees it; outcome: "passed", "failed", "skipped", "missed" (an expected
    failure) or empty; figures: each with name, measured, unit and asked.
    """

    see: str
    outcome: str = ""
    figures: list[dict[str, Any]] = field(default_factory=list)


def row_of(item: pytest.Function) -> str:
    """The row that a test is the story of; empty for other tests."""
    marker = item.get_closest_marker("row")
    return marker.args[0] if marker else ""


def see_of(item: pytest.Function) -> str:
    """How a user sees it: the story's docstring in one line."""
    return " ".join((item.function.__doc__ or "").split())


class Collector:
    """stories: by row, in order. rows: those that are run, all where empty."""

    def __init__(self, rows: frozenset[str] = frozenset()) -> None:
        self.rows = rows
        self.stories: dict[str, list[Story]] = {}
        self._by_test: dict[str, Story] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        if self.rows:
            items[:] = [item for item in items if row_of(item) in self.rows]
        for item in items:
            if row := row_of(item):
                story = self._by_test[item.nodeid] = Story(see_of(item))
                self.stories.setdefault(row, []).append(story)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        story = self._by_test.get(report.nodeid)
        if story is None or (report.when != "call" and report.passed):
            return
        story.outcome = "missed" if hasattr(report, "wasxfail") else report.outcome
        story.figures += [value for name, value in report.user_properties if name == "figure"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stories", default="")
    parser.addoption("--rows", default="")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--stories"):
        rows = frozenset(filter(None, config.getoption("--rows").split(",")))
        config.pluginmanager.register(Collector(rows), "stories")


def pytest_sessionfinish(session: pytest.Session) -> None:
    collector = session.config.pluginmanager.get_plugin("stories")
    if isinstance(collector, Collector):
        found = {row: [asdict(s) for s in stories] for row, stories in collector.stories.items()}
        Path(session.config.getoption("--stories")).write_text(json.dumps(found), encoding="utf-8")


def read(path: Path) -> dict[str, list[Story]]:
    """The stories that a run of pytest wrote, by row."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return {row: [Story(**story) for story in stories] for row, stories in found.items()}
