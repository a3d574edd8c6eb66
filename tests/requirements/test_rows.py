"""The rows themselves, and the page that is made of them."""

from __future__ import annotations

import pytest
from bench.rows import (
    DOCUMENT,
    document,
    is_missed,
    kept_lines,
    not_met,
    read_rows,
    run_stories,
)
from bench.stories import Story


def test_every_row_is_on_the_page_in_order():
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    shown = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert [name for name in shown if name not in ("row", "---")] == list(read_rows())


def cells_of(line):
    """The cells of a line of the page, as they were before `|` was escaped."""
    cells = line.replace("\\|", "\0")[2:-2].split(" | ")
    return [cell.replace("\0", "|").strip() for cell in cells]


@pytest.fixture(scope="module")
def stories():
    """All stories by row, as pytest finds them: also where this file is run alone."""
    return run_stories("", "--collect-only", "--quiet")


def test_the_page_says_what_was_asked_and_how_to_see_it_as_the_stories_do(stories):
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    page = {line.split("|")[1].strip(): cells_of(line) for line in lines if line[:2] == "| "}
    for name, row in read_rows().items():
        assert (page[name][1], page[name][3]) == (row["asked"], row.get("figure", "")), name
        if "later" in row:
            assert page[name][2] == f"Not yet: {row['later']}.", name
        assert ("**Not met**" in page[name][2]) == ("unmet" in row), name
        assert page[name][2].endswith(not_met(row["unmet"]) if "unmet" in row else ""), name
    for name, told in stories.items():
        for story in told:
            assert story.see in page[name][2], f"{name}: run `python -m bench rows --only {name}`"


def test_a_row_that_is_run_alone_leaves_the_other_lines_as_they_are():
    kept = kept_lines("A2")
    assert "A2" not in kept
    assert "A1" in kept
    again = document(read_rows(), {"A2": [Story("look", "passed"), Story("look", "passed")]}, kept)
    before = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if "|" in line]
    after = [line for line in again.splitlines() if "|" in line]
    changed = [b for a, b in zip(before, after, strict=True) if a != b]
    assert [cells_of(line)[::2][:2] for line in changed] == [["A2", "look"]]


def test_a_row_without_a_story_says_what_it_waits_for(stories):
    rows = read_rows()
    assert stories.keys() <= rows.keys()
    assert {name for name, row in rows.items() if "later" not in row} <= stories.keys()


@pytest.mark.parametrize(
    ("measured", "unit", "asked", "missed"),
    [
        (4.9, "s", "< 5 s", False),
        (5.0, "s", "< 5 s", True),
        (90.0, "%", ">= 90 %", False),
        (89.9, "%", ">= 90 %", True),
        (900.0, "MB", "< 1 GB for 10 junctions", False),
        (1100.0, "MB", "< 1 GB for 10 junctions", True),
        (3.0, "", "stable", False),
        (0.2, "s", "0.05 to 0.2 s", False),
    ],
)
def test_a_figure_that_is_not_within_its_bound_is_missed(measured, unit, asked, missed):
    figure = {"name": "f", "measured": measured, "unit": unit, "asked": asked}
    assert is_missed(figure) == missed
    story = Story("run it", "passed", [figure])
    page = document({"A1": {"asked": "x"}}, {"A1": [story]})
    assert ("; **missed**)" in page) == missed


def test_the_page_shows_each_figure_and_each_story_that_failed():
    rows = {
        "A1": {"asked": "x | y", "figure": "< 5 s"},
        "A2": {"asked": "z", "later": "roads"},
        "A3": {"asked": "v", "unmet": "rails."},
    }
    figure = {"name": "time", "measured": 0.01234, "unit": "s", "asked": "< 5 s"}
    words = {"name": "defaults", "measured": "8 and 40", "unit": "", "asked": ""}
    many = {"name": "steps", "measured": 58_900.4, "unit": "1/s", "asked": ""}
    stories = {
        "A1": [Story("run it", "passed", [figure, words, many]), Story("again", "failed")],
        "A3": [Story("drive", "passed")],
    }
    assert document(rows, stories).splitlines()[9:14] == [
        "| row | asked | how to see it | figure asked | figures measured |",
        "| --- | --- | --- | --- | --- |",
        "| A1 | x \\| y | run it<br>again **(failed)** | < 5 s | time: 0.0123 s (asked: < 5 s)"
        "<br>defaults: 8 and 40<br>steps: 58,900 1/s |",
        "| A2 | z | Not yet: roads. |  |  |",
        "| A3 | v | drive<br>**Not met**: rails. |  |  |",
    ]
