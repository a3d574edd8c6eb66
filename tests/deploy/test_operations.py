"""The runbook: a section for each alert there is, and nothing in it that there is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from headway.settings import Settings
from headway.telemetry.metrics import registry

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "docs" / "operations.md"
PAGES = (RUNBOOK, ROOT / "docs" / "deployment.md")
SHORTEST = 60  # letters of a section; a reference to another one may be shorter


def sections(text):
    """What stands under each heading of the third level, without other headings."""
    parts = re.split(r"^(#{2,3}) (.+)$", text, flags=re.MULTILINE)[1:]
    marks, names, bodies = parts[::3], parts[1::3], parts[2::3]
    return {n: b.strip() for m, n, b in zip(marks, names, bodies, strict=True) if m == "###"}


def alerts():
    """(where its rule stands, its name) of every alert."""
    found = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))
    settings = Settings()
    return [
        *(("Prometheus", rule["alert"]) for group in found["groups"] for rule in group["rules"]),
        *(("the program", rule.name) for rule in settings.alerts.system),
        *(("streets", rule.name) for rule in settings.alerts.rules),
        *(("cameras", rule.name) for rule in settings.cameras.alert_rules),
    ]


@pytest.fixture(scope="module")
def runbook():
    return RUNBOOK.read_text(encoding="utf-8")


@pytest.mark.parametrize(("place", "name"), alerts())
def test_each_alert_has_its_section(runbook, place, name):
    part = runbook.split(f"\n## Alerts of {place}\n")[1].split("\n## ")[0]
    body = sections(part)[name]
    assert len(body) >= SHORTEST or re.search(r"\]\(#\w+\)", body), body


def test_no_section_is_of_an_alert_that_there_is_not(runbook):
    assert sorted(sections(runbook)) == sorted(name for _, name in alerts())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_refers_to_is_there(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            made = {re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in heads}
            assert anchor in made, target
    for path in re.findall(r"`(deploy/[\w./-]+|docs/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metrics_events_settings_and_commands_that_a_page_names_are_there(page):
    text = page.read_text(encoding="utf-8")
    told = {name for family in registry.collect() for name in (family.name, f"{family.name}_total")}
    assert set(re.findall(r"`(headway_[a-z_]+)", text)) <= told
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "src/headway").rglob("*.py")
    )
    for kind in set(re.findall(r"`((?:engine|safety|sensing)\.[a-z_]+)`", text)):
        assert f'"{kind}"' in source, kind
    sections_of_settings = type(Settings()).model_fields
    for section, key in re.findall(r"`(\w+)\.([a-z_]+)`", text):
        if section in sections_of_settings and f"{section}.{key}" not in source:
            keys = sections_of_settings[section].annotation.model_fields
            assert key in keys, f"{section}.{key}"
    contract = (ROOT / "tests/cli/contract.txt").read_text(encoding="utf-8")
    commands = {line.removeprefix("headway ") for line in contract.splitlines() if line[0] != " "}
    for words in re.findall(r"headway ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)", text):
        first, _, _ = words.partition(" ")
        is_group = any(c.startswith(f"{first} ") for c in commands)
        if re.search(
            rf"`(?:headway )?{re.escape(words)}|^(?:\S*/)?headway {re.escape(words)}", text, re.M
        ):
            assert (words if is_group else first) in commands, words
