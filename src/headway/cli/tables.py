"""Tables for the terminal."""

from __future__ import annotations

import numpy as np
from rich.markup import escape
from rich.table import Table

from headway.experiments.benchmark import Result
from headway.experiments.statistics import Interval, interval, paired_p

ALL_BY_ITSELF = 0.9995  # of the time, as printed


def comparison(results: list[Result]) -> Table:
    """One row a scenario and controller: means over seeds with 95 % intervals, ratio to fixed time,
    significance.
    """
    table = Table(
        title="Means over seeds with 95 % confidence intervals; ratio and paired t-test against "
        "fixed time.\n"
        "delay and wait: seconds per vehicle; done: arrived; out: not entered; bad: safety "
        "violations",
        title_justify="left",
    )
    for name in (
        "scenario",
        "controller",
        "delay s",
        "of fixed",
        "p",
        "wait s",
        "done",
        "out",
        "bad",
    ):
        is_name = name in ("scenario", "controller")  # may take lines, so that figures have room
        table.add_column(
            name, justify="left" if is_name else "right", overflow="fold", no_wrap=not is_name
        )
    for scenario in dict.fromkeys(r.scenario for r in results):
        own = [r for r in results if r.scenario == scenario]
        name = escape(scenario)
        base = {r.seed: r.delay_s for r in own if r.controller == "fixed" and not r.error}
        for controller in dict.fromkeys(r.controller for r in own):
            runs = [r for r in own if r.controller == controller]
            for failed in (r for r in runs if r.error):
                seed = f"[red]seed {failed.seed} FAILED"
                table.add_row(name, escape(controller), seed, *[""] * 6)
            good = [r for r in runs if not r.error]
            if good:
                table.add_row(name, escape(controller), *_row(good, base))
        table.add_section()
    return table


def left_to_others(results: list[Result]) -> list[str]:
    """A line for each controller that did not decide all by itself: the figures are of others
    too.
    """
    shares = dict[tuple[str, str], list[float]]()
    for r in results:
        if not r.error and np.isfinite(r.decided_share):
            shares.setdefault((r.scenario, r.controller), []).append(r.decided_share)
    return [
        f"{scenario}: {controller} decided {100.0 * np.mean(own):.1f} % of the junctions' time, "
        "its fallback the rest."
        for (scenario, controller), own in shares.items()
        if np.mean(own) < ALL_BY_ITSELF
    ]


def not_recorded(results: list[Result]) -> list[str]:
    """A line for each scenario with vehicles that no figure counts."""
    most = dict[str, int]()
    for r in results:
        most[r.scenario] = max(most.get(r.scenario, 0), r.unrecorded)
    return [
        f"{scenario}: up to {count} vehicles of a run are in no figure, since SUMO keeps no record "
        "of them. Take the parameter has.tripinfo.device out of their type."
        for scenario, count in most.items()
        if count
    ]


def _row(good: list[Result], base: dict[int, float]) -> list[str]:
    pairs = [(r.delay_s, base[r.seed]) for r in good if r.seed in base]
    is_base = good[0].controller == "fixed"
    ratio = (
        f"{np.mean([a for a, _ in pairs]) / np.mean([b for _, b in pairs]):.2f}"
        if pairs and not is_base
        else ""
    )
    p = (
        paired_p([a for a, _ in pairs], [b for _, b in pairs])
        if len(pairs) > 1 and not is_base
        else float("nan")
    )
    return [
        _text(interval([r.delay_s for r in good])),
        ratio,
        f"{p:.3g}" if np.isfinite(p) else "",
        _text(interval([r.waiting_s for r in good])),
        f"{np.mean([r.arrived for r in good]):.0f}",
        f"{np.mean([r.never_entered for r in good]):.0f}",
        f"{sum(r.safety_violations for r in good)}",
    ]


def _text(value: Interval) -> str:
    return f"{value.mean:.1f}" + (
        f" ± {value.half_width:.1f}" if np.isfinite(value.half_width) else ""
    )
