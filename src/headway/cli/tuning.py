"""The command that searches the planner's figures for a street."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console

from headway.cli import registry
from headway.experiments.cluster import ADDRESS, spread
from headway.learning.tuning import Tuning, TuningSettings, as_settings
from headway.plants.sumo.scenarios import scenario
from headway.roads import PROFILES
from headway.settings import OLD_SENSING, StreetSettings

console = Console()
Cluster = Annotated[
    str,
    typer.Option(
        envvar=ADDRESS,
        help="Ray cluster that makes the runs, as many at once as it has processors: HOST:PORT, "
        "`auto` for the one of this machine, `local` for one that is started. Needs "
        "headway\\[cluster].",
    ),
]
SENSING = get_args(StreetSettings.model_fields["sensing"].annotation)


def checked_profiles(timing: str, sensing: str) -> str:
    """The sensing profile by its name of today. Raises typer.BadParameter for one that is none."""
    if timing not in PROFILES:
        raise typer.BadParameter(f"no timing {timing!r}. There are: {', '.join(PROFILES)}.")
    sensing = OLD_SENSING.get(sensing, sensing)
    if sensing not in SENSING:
        raise typer.BadParameter(f"no sensing {sensing!r}. There are: {', '.join(SENSING)}.")
    return sensing


def tune(
    scenario_: Annotated[
        str,
        typer.Option(
            "--scenario", help="Scenario (see `headway scenarios`), or path of a .sumocfg."
        ),
    ],
    out: Annotated[
        str, typer.Option(help="Settings file to write, with the section planner.")
    ] = "tuned.yaml",
    generations: Annotated[int, typer.Option(min=1, help="Generations of the search.")] = 15,
    population: Annotated[int, typer.Option(min=4, help="Candidates of a generation.")] = 10,
    confirm: Annotated[
        int, typer.Option(min=2, max=1000, help="Seeds for the verdict, from 3001 on.")
    ] = 20,
    timing: Annotated[
        str, typer.Option(help=f"Timing rules: {', '.join(PROFILES)}.")
    ] = "benchmark",
    sensing: Annotated[
        str, typer.Option(help=f"Sensing profile: {', '.join(SENSING)}.")
    ] = "connected",
    scale: Annotated[
        float, typer.Option(min=0.01, help="Demand as a multiple of the scenario's.")
    ] = 1.0,
    search_seed: Annotated[int, typer.Option(min=1, help="Seed of the search itself.")] = 1,
    jobs: Annotated[
        int, typer.Option(min=1, help="Runs in parallel.", show_default="number of processors")
    ] = os.cpu_count() or 1,
    journal: Annotated[
        str,
        typer.Option(
            help="File that keeps each run; the same call goes on where it was ended.",
            show_default="OUT with the ending .journal",
        ),
    ] = "",
    cluster: Cluster = "",
    register: registry.Register = "",
    data: registry.Data = "data",
) -> None:
    """Search the planner's figures for a street, and judge them on seeds that were not searched
    with. The file is written only where they are better with p < 0.05; else the status is 1.
    """
    sensing = checked_profiles(timing, sensing)
    scenario(scenario_)
    run = spread(cluster)
    registry.require_registry(register, data)
    settings = TuningSettings(
        scenario=scenario_,
        timing=timing,
        sensing=sensing,
        scale=scale,
        generations=generations,
        population=population,
        confirming=range(3001, 3001 + confirm),
        search_seed=search_seed,
        jobs=jobs,
    )
    path = Path(out)
    kept = Path(journal) if journal else path.with_suffix(".journal")
    tuning = Tuning(settings, kept, run)
    for generation in tuning.search():
        change = math.expm1(generation.best)
        console.print(
            f"generation {generation.number} of {generations}: best {change:+.1%}, "
            f"{generation.runs} runs"
        )
    found = tuning.verdict()
    failed = [sum(map(math.isinf, of)) for of in (found.delay_s, found.before_s)]
    if any(failed):
        raise RuntimeError(
            f"of the {confirm} runs of the verdict {failed[0]} failed with the figures that were "
            f"found, and {failed[1]} with the defaults: the defaults stay. `headway bench "
            f"--scenario {scenario_}` says why a run fails."
        )
    before = sum(found.before_s) / len(found.before_s)
    after = sum(found.delay_s) / len(found.delay_s)
    low, high = found.change_95
    console.print(
        f"{scenario_}, {confirm} seeds: delay {before:.1f} s -> {after:.1f} s, {found.change:+.1%} "
        f"({low:+.1%} to {high:+.1%}), p {found.p:.2g}"
    )
    if not found.is_better:
        raise RuntimeError(
            "no figures were found that are better with p < 0.05: the defaults stay. Search longer "
            "(--generations), or from another --search-seed."
        )
    path.write_text(as_settings(found.figures))
    console.print(f"The figures are in {out}; `bench`, `run` and `serve` take it with --config.")
    if register:
        registry.register(
            data,
            path,
            name=register,
            kind="planner",
            made_from=settings.made_from(),
            metrics=found.metrics(),
            by="headway tune",
        )
