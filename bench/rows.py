"""What was asked, row by row: each story of tests/requirements with its figures."""

from __future__ import annotations

import operator
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.stories import Story, read

TREE = Path(__file__).parents[1]
STORIES = TREE / "tests" / "requirements"
DOCUMENT = TREE / "docs" / "requirements.md"
WITHIN = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
HEAD = """# Requirements, row by row

Each row has a story in `tests/requirements` that does what the row says, as a user would.
`python -m bench rows` runs them and writes this page, with the figures of that run. A figure is
what was measured on two cores, beside whatever else ran.
"""
GROUPS = {
    "A": "Real-time optimisation loop and safety systems",
    "B": "API, streaming, demo, deployment",
    "C": "Simulation runtime, and the KPP plant",
    "D": "Traffic video analysis",
    "E": "Signal analytics back end",
}


def read_rows() -> dict[str, dict[str, str]]:
    """The rows by id: asked, figure, later."""
    return tomllib.loads((STORIES / "rows.toml").read_text(encoding="utf-8"))


def rows() -> None:
    """What was asked, row by row: runs the stories and writes docs/requirements.md."""
    with TemporaryDirectory() as folder:
        found = Path(folder) / "stories.json"
        plugin = ["-p", "no:cacheprovider", "-p", "bench.stories", "--stories", str(found)]
        subprocess.run([sys.executable, "-m", "pytest", *plugin, STORIES], cwd=TREE, check=False)
        text = document(read_rows(), read(found))
    print(text)
    DOCUMENT.write_text(text, encoding="utf-8")


def document(rows: dict[str, dict[str, str]], stories: dict[str, list[Story]]) -> str:
    """The page in Markdown: a table a group."""
    parts = [HEAD]
    for letter, title in GROUPS.items():
        parts.append(f"## {letter}. {title}\n")
        parts.append("| row | asked | how to see it | figure asked | figures measured |")
        parts.append("| --- | --- | --- | --- | --- |")
        parts += [_row(n, r, stories.get(n, [])) for n, r in rows.items() if n[0] == letter]
        parts.append("")
    return "\n".join(parts)


def _row(name: str, row: dict[str, str], stories: list[Story]) -> str:
    # stories that differ in a parameter alone are seen in the same way
    see = list(dict.fromkeys(f"{s.see}{_doubt(s)}" for s in stories)) or [
        f"Not yet: {row.get('later', 'no story')}."
    ]
    measured = [_measured(f) for story in stories for f in story.figures]
    cells = [name, row["asked"], "<br>".join(see), row.get("figure", ""), "<br>".join(measured)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


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
