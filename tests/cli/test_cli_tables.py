"""The table of a benchmark: means over seeds, their intervals,
the ratio to fixed time and its significance, all worked out by hand.
"""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console
from scipy import stats

from headway.cli.tables import comparison, left_to_others, not_recorded
from headway.experiments.benchmark import Result


def result(
    scenario,
    controller,
    seed,
    delay=float("nan"),
    wait=float("nan"),
    arrived=0,
    out=0,
    bad=0,
    error="",
):
    return Result(
        scenario,
        controller,
        seed,
        "street",
        "connected",
        1.0,
        delay,
        wait,
        arrived=arrived,
        never_entered=out,
        safety_violations=bad,
        error=error,
    )


def cells(results):
    """The rows of the table as they are read, without styles."""
    columns = comparison(results).columns
    texts = [[cell.replace("[red]", "") for cell in column.cells] for column in columns]
    return [list(row) for row in zip(*texts, strict=True)]


def half(values):
    """Half of Student's 95 % interval of a mean."""
    n, mean = len(values), sum(values) / len(values)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return stats.t.ppf(0.975, n - 1) * deviation / math.sqrt(n)


def test_the_columns_are_these():
    table = comparison([])
    assert [(c.header, c.justify, c.no_wrap) for c in table.columns] == [
        ("scenario", "left", False), ("controller", "left", False), ("delay s", "right", True),
        ("of fixed", "right", True), ("p", "right", True),
        ("wait s", "right", True), ("done", "right", True), ("out", "right", True),
        ("bad", "right", True),
    ]  # fmt: skip
    assert "seconds per vehicle; done: arrived; out: not entered; bad: safety violations" in str(
        table.title
    )
    assert table.row_count == 0


def test_one_seed_has_a_mean_and_a_ratio_but_no_interval():
    found = cells(
        [
            result("a", "fixed", 1, 40.0, 10.0, 100, 3, 1),
            result("a", "planner", 1, 30.0, 5.0, 103, 0, 0),
        ]
    )
    assert found == [
        ["a", "fixed", "40.0", "", "", "10.0", "100", "3", "1"],
        ["a", "planner", "30.0", "0.75", "", "5.0", "103", "0", "0"],
    ]


def test_seeds_are_averaged_and_paired():
    """Delays 40, 44 and 30, 22: means 42 and 26;
    the logarithms of 30/40 and 22/44 are what the t-test is of.
    """
    found = cells([
        result("a", "fixed", 1, 40.0, 10.0, 100, 3, 1),
        result("a", "planner", 1, 30.0, 5.0, 103, 0, 0),
        result("a", "fixed", 2, 44.0, 14.0, 101, 4, 2),
        result("a", "planner", 2, 22.0, 9.0, 104, 1, 5),
    ])  # fmt: skip
    p = stats.ttest_1samp([math.log(30 / 40), math.log(22 / 44)], 0.0).pvalue
    assert found == [
        [
            "a",
            "fixed",
            f"42.0 ± {half([40, 44]):.1f}",
            "",
            "",
            f"12.0 ± {half([10, 14]):.1f}",
            "100",
            "4",
            "3",
        ],
        [
            "a",
            "planner",
            f"26.0 ± {half([30, 22]):.1f}",
            f"{26 / 42:.2f}",
            f"{p:.3g}",
            f"7.0 ± {half([5, 9]):.1f}",
            "104",
            "0",
            "5",
        ],
    ]


def test_a_ratio_is_over_the_seeds_that_both_have():
    found = cells([
        result("a", "fixed", 1, 40.0, 1.0), result("a", "fixed", 2, 400.0, 1.0),
        result("a", "planner", 1, 30.0, 1.0),
        result("a", "planner", 3, 3.0, 1.0),
    ])  # fmt: skip
    assert [row[3:5] for row in found] == [["", ""], ["0.75", ""]]
    alone = cells([result("a", "planner", 1, 30.0, 1.0), result("a", "greedy", 1, 20.0, 1.0)])
    assert [row[3:5] for row in alone] == [["", ""], ["", ""]]


def test_each_scenario_has_its_own_fixed_time_and_its_section():
    results = [
        result(s, c, 1, d, 1.0)
        for s, c, d in (
            ("b", "fixed", 10.0),
            ("a", "planner", 30.0),
            ("b", "planner", 5.0),
            ("a", "fixed", 60.0),
        )
    ]
    assert [row[:2] + row[3:4] for row in cells(results)] == [
        ["b", "fixed", ""],
        ["b", "planner", "0.50"],
        ["a", "planner", "0.50"],
        ["a", "fixed", ""],
    ]
    assert [row.end_section for row in comparison(results).rows] == [False, True, False, True]


def test_a_run_that_failed_is_told_and_left_out_of_the_means():
    found = cells([
        result("a", "fixed", 1, 40.0, 1.0, 5), result("a", "fixed", 2, error="no net"),
        result("a", "planner", 1, error="no net"),
        result("a", "planner", 2, 20.0, 1.0, 7), result("a", "greedy", 1, error="x"),
    ])  # fmt: skip
    assert found == [
        ["a", "fixed", "seed 2 FAILED", *[""] * 6],
        ["a", "fixed", "40.0", "", "", "1.0", "5", "0", "0"],
        ["a", "planner", "seed 1 FAILED", *[""] * 6],
        ["a", "planner", "20.0", "", "", "1.0", "7", "0", "0"],
        ["a", "greedy", "seed 1 FAILED", *[""] * 6],
    ]  # fmt: skip


@pytest.mark.parametrize(("delay", "p"), [(40.0, "1"), (20.0, "0")])
def test_without_any_spread_it_is_certain(delay, p):
    results = [
        result("a", c, s, d, 1.0) for s in (1, 2) for c, d in (("fixed", 40.0), ("planner", delay))
    ]
    assert cells(results)[1][4] == p


def test_it_is_printed_with_its_title_at_the_left():
    out = io.StringIO()
    Console(file=out, width=120).print(comparison([result("a", "fixed", 1, 40.0, 10.0, 100, 3, 1)]))
    assert out.getvalue().startswith("Means over seeds with 95 % confidence intervals;")


def test_a_controller_that_left_junctions_to_its_fallback_is_named_with_its_share():
    def decided(controller, seed, share, error=""):
        return replace(result("town", controller, seed, 1.0, error=error), decided_share=share)

    lines = left_to_others(
        [
            decided("q-learning", 1, 0.5),
            decided("q-learning", 2, 0.25),
            decided("planner", 1, 0.9996),
            decided("fixed", 1, 1.0),
            decided("greedy", 1, float("nan")),
            decided("webster", 1, 0.1, error="ValueError"),
        ]
    )
    assert lines == [
        "town: q-learning decided 37.5 % of the junctions' time, its fallback the rest."
    ]


def test_vehicles_that_no_figure_counts_are_told_for_each_scenario():
    runs = [
        replace(result(name, "planner", seed, 1.0), unrecorded=count)
        for name, seed, count in (("town", 1, 7), ("town", 2, 9), ("city", 1, 0))
    ]
    assert not_recorded(runs) == [
        "town: up to 9 vehicles of a run are in no figure, since SUMO keeps no record of them. "
        "Take the parameter has.tripinfo.device out of their type."
    ]


def test_a_long_name_leaves_room_for_the_figures_and_is_no_markup():
    name = "[red]a-scenario-with-a-name-that-fills-a-terminal-of-eighty-columns-by-itself"
    runs = [result(name, "planner", seed, 12.3 + seed, 45.6, 78, 9, 3) for seed in (1, 2)]
    written = io.StringIO()
    Console(file=written, width=80).print(comparison(runs))
    text = written.getvalue()
    for figure in ("13.8 ± 6.4", "45.6 ± 0.0", "78", "9", "6", "planner", "bad", "[red]"):
        assert figure in text
    assert all(len(line) <= 80 for line in text.splitlines())
