"""What was asked, row by row: each story of tests/requirements with its figures."""

from __future__ import annotations

import argparse
import operator
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from bench.stories import Story, read

TREE = Path(__file__).parents[1]
STORIES = TREE / "tests" / "requirements"
DOCUMENT = TREE / "docs" / "requirements.md"
WITHIN = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
HEAD = """# Requirements, row by row

Each row has a story in `tests/requirements` that does what the row says, as a user would, but for
those that say "Not yet". What of a row is not met stands behind "Not met". `python -m bench rows`
runs the stories and writes this page; `--only A2,D1` runs those of these rows and writes their
lines. A figure is what was measured then, on two cores, beside whatever else ran.
"""
GROUPS = {
    "A": "Real-time optimisation loop and safety systems",
    "B": "API, streaming, demo, deployment",
    "C": "Simulation runtime, and the KPP plant",
    "D": "Traffic video analysis",
    "E": "Signal analytics back end",
}


def read_rows() -> dict[str, dict[str, str]]:
    """The rows by id: asked, figure, later, unmet."""
    return tomllib.loads((STORIES / "rows.toml").read_text(encoding="utf-8"))


def rows(arguments: Sequence[str] = ()) -> None:
    """What was asked, row by row: runs the stories and writes docs/requirements.md."""
    parser = argparse.ArgumentParser("python -m bench rows")
    parser.add_argument("--only", default="", help="rows, such as A2,D1; all others stay")
    only = parser.parse_args(list(arguments)).only
    known = read_rows()
    if unknown := [name for name in only.split(",") if only and name not in known]:
        parser.error(f"no row {unknown[0]!r}. There are: {', '.join(known)}")
    stories = run_stories(only)
    text = document(known, stories, kept_lines(only))
    print(text)
    DOCUMENT.write_text(text, encoding="utf-8")


def run_stories(only: str = "", *more: str) -> dict[str, list[Story]]:
    """The stories of the rows `only` (separated by commas; all where empty), by row.

    more: further arguments of pytest.
    """
    with TemporaryDirectory() as folder:
        found = Path(folder) / "stories.json"
        plugin = ["-p", "no:cacheprovider", "-p", "bench.stories", "--stories", str(found)]
        command = [sys.executable, "-m", "pytest", *plugin, "--rows", only, *more, STORIES]
        subprocess.run(command, cwd=TREE, check=False)
        return read(found)


def kept_lines(only: str) -> dict[str, str]:
    """The page's lines of rows other than `only`, by row; none where all rows are run."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines() if only else []
    shown = {line.split("|")[1].strip(): line for line in lines if line.startswith("|")}
    return {name: line for name, line in shown.items() if name not in only.split(",")}


def document(
    rows: dict[str, dict[str, str]],
    stories: dict[str, list[Story]],
    kept: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The page in Markdown: a table a group. kept: lines that stay, by row."""
    parts = [HEAD]
    for letter, title in GROUPS.items():
        parts.append(f"## {letter}. {title}\n")
        parts.append("| row | asked | how to see it | figure asked | figures measured |")
        parts.append("| --- | --- | --- | --- | --- |")
        named = [name for name in rows if name[0] == letter]
        parts += [kept.get(name) or _row(name, rows[name], stories.get(name, [])) for name in named]
        parts.append("")
    return "\n".join(parts)


def _row(name: str, row: dict[str, str], stories: list[Story]) -> str:
    # stories that differ in a parameter alone are seen in the same way
    said = dict.fromkeys(f"{s.see}{_doubt(s)}" for s in stories)
    see = list(said) or [f"Not yet: {row.get('later', 'no story')}."]
    see += [not_met(row["unmet"])] if "unmet" in row else []
    measured = [_measured(f) for story in stories for f in story.figures]
    cells = [name, row["asked"], "<br>".join(see), row.get("figure", ""), "<br>".join(measured)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def not_met(what: str) -> str:
    """As it stands on the page."""
    return f"**Not met**: {what}"


def _doubt(story: Story) -> str:
    return "" if story.outcome == "passed" else f" **({story.outcome or 'not run'})**"


def _measured(figure: dict[str, Any]) -> str:
    value = figure["measured"]
    shown = str(value)
    if isinstance(value, int | float):
        shown = f"{value:.3g}" if abs(value) < 1e3 else f"{value:,.0f}"
    missed = "; **missed**" if is_missed(figure) else ""
    asked = f" (asked: {figure['asked']}{missed})" if figure["asked"] else ""
    return f"{figure['name']}: {shown} {figure['unit']}".rstrip() + asked


def is_missed(figure: dict[str, Any]) -> bool:
    """The figure is not within what was asked, where that is one bound ("< 10 ms", ">= 90 %")."""
    bound = re.fullmatch(r"(<=?|>=?) ([\d.,]+) ?(GB|\S*)( .*)?", figure["asked"])
    if bound is None:
        return False
    sign, number, unit, _ = bound.groups()
    scale = 1000.0 if (unit, figure["unit"]) == ("GB", "MB") else 1.0
    asked = float(number.replace(",", "")) * scale
    return not WITHIN[sign](float(figure["measured"]), asked)
