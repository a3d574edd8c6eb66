"""A pytest plugin: writes the stories of the rows, with their figures,
to the file of `--stories`.
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


class Collector:
    """stories: by row, in order."""

    def __init__(self) -> None:
        self.stories: dict[str, list[Story]] = {}
        self._by_test: dict[str, Story] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        for item in items:
            if marker := item.get_closest_marker("row"):
                story = Story(" ".join((item.function.__doc__ or "").split()))
                self._by_test[item.nodeid] = story
                self.stories.setdefault(marker.args[0], []).append(story)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        story = self._by_test.get(report.nodeid)
        if story is None or (report.when != "call" and report.passed):
            return
        story.outcome = "missed" if hasattr(report, "wasxfail") else report.outcome
        story.figures += [value for name, value in report.user_properties if name == "figure"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stories", default="")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--stories"):
        config.pluginmanager.register(Collector(), "stories")


def pytest_sessionfinish(session: pytest.Session) -> None:
    collector = session.config.pluginmanager.get_plugin("stories")
    if isinstance(collector, Collector):
        found = {row: [asdict(s) for s in stories] for row, stories in collector.stories.items()}
        Path(session.config.getoption("--stories")).write_text(json.dumps(found), encoding="utf-8")


def read(path: Path) -> dict[str, list[Story]]:
    """The stories that a run of pytest wrote, by row."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return {row: [Story(**story) for story in stories] for row, stories in found.items()}
