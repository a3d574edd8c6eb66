"""Commands that simulate: scenarios, demo, bench, run, train."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from headway.cli import registry
from headway.cli.live import run_to_end
from headway.cli.tables import comparison, left_to_others, not_recorded
from headway.cli.tuning import SENSING, Cluster, checked_profiles
from headway.control.catalogue import CONTROLLERS
from headway.control.models import ModelFile
from headway.control.qlearning import DEFAULT_TABLE, QLearning, network_stamp, table_path
from headway.control.qtable import QTable
from headway.experiments.benchmark import Job, Result
from headway.experiments.cluster import Run, spread
from headway.learning import training
from headway.learning.model_files import digest
from headway.learning.training import TrainingSettings
from headway.plants.sumo import network_of
from headway.plants.sumo.scenarios import RESCO, scenario, vehicles
from headway.roads import PROFILES, work_out
from headway.runtime.folder_lock import locked
from headway.settings import load, overridden
from headway.street.messages import Task

console = Console()
TIMING = f"Timing rules: {' or '.join(PROFILES)}."
COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


def scenarios() -> None:
    """List the scenarios that come with Headway: times, junctions, vehicles."""
    table = Table("scenario", "begin s", "end s", "junctions", "vehicles")
    for name in RESCO:
        chosen = scenario(name)
        table.add_row(
            name,
            f"{chosen.begin_s:.0f}",
            f"{chosen.end_s:.0f}",
            str(len(network_of(chosen).junctions)),
            str(vehicles(chosen)),
        )
    console.print(table)


def bench(
    scenario_: Annotated[
        str,
        typer.Option(
            "--scenario",
            help="Scenarios (see `headway scenarios`) or paths of .sumocfg files, separated by "
            "commas, or `all`.",
        ),
    ] = "cologne8",
    sumocfg: Annotated[
        str, typer.Option(help="Path of a SUMO configuration (.sumocfg), instead of --scenario.")
    ] = "",
    controllers: Annotated[
        str,
        typer.Option(
            "--controller",
            help=f"Controllers, separated by commas: {', '.join(CONTROLLERS)}; or models: the path "
            "of a file, NAME@VERSION, NAME@champion.",
        ),
    ] = "fixed,planner",
    seeds: Annotated[str, typer.Option(help="Seeds of the demand, such as 1-5 or 1,4.")] = "1-3",
    scale: Annotated[
        float, typer.Option(min=0.01, help="Demand as a multiple of the scenario's.")
    ] = 1.0,
    timing: Annotated[str, typer.Option(help=TIMING)] = "benchmark",
    sensing: Annotated[
        str, typer.Option(help=f"Sensing profile: {', '.join(SENSING)}.")
    ] = "connected",
    jobs: Annotated[
        int, typer.Option(min=1, help="Runs in parallel.", show_default="number of processors")
    ] = os.cpu_count() or 1,
    json_: Annotated[
        str, typer.Option("--json", help="Write the figures of each run to this file (JSON).")
    ] = "",
    keep: Annotated[
        str,
        typer.Option(help="Folder in which to keep SUMO's trip records (tripinfo) of each run."),
    ] = "",
    config: Annotated[
        str, typer.Option(help="Settings file (YAML) with the figures of the controllers.")
    ] = "",
    cluster: Cluster = "",
    data: Annotated[str, typer.Option(help="Data folder with the registry of models.")] = "data",
) -> None:
    """Benchmark: run controllers on scenarios with several seeds, and compare delay and safety."""
    asked = list(RESCO) if scenario_ == "all" else scenario_.split(",")
    names = [sumocfg] if sumocfg else list(dict.fromkeys(asked))
    chosen = judged(controllers, data)
    sensing = checked_profiles(timing, sensing)
    for name in names:
        scenario(name)
    load(config or None)
    if QLearning.name in chosen and not table_path().exists():
        raise typer.BadParameter(
            f"no Q-table at {table_path()}: the figures of {QLearning.name} would be those of its "
            "fallback. Train one: headway train."
        )
    run = spread(cluster)
    label = labels(names)
    work = [
        Job(n, c, s, timing, sensing, scale, keep, label=label[n], config=config, model=model)
        for s in parse_seeds(seeds)
        for n in names
        for c, model in chosen.items()
    ]
    results = progress(work, jobs, run)
    if json_:
        Path(json_).write_text(json.dumps([r.flat() for r in results], indent=1))
    conclude(results)


def demo(
    headless: Annotated[
        bool,
        typer.Option(
            "--headless",
            help="Without the web page: run as fast as possible and print a table at the end.",
        ),
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="TCP port of the web page; 0 for any free port.")
    ] = 8000,
    data: Annotated[str, typer.Option(help="Data folder of the demo.")] = "data/demo",
) -> None:
    """Demonstration: one hour of real demand (RESCO cologne8), fixed-time control beside Headway,
    on a web page.
    """
    if not headless:
        console.print(
            "One hour of morning traffic in Cologne, twice, ten times real time: the "
            "network's own fixed time, and Headway. Open:\n"
        )
        from headway.cli.serve import serve  # the API with all that it needs

        serve("cologne8", True, 10.0, "127.0.0.1", port, data, "", 6000, "street", True)
        return
    console.print(
        "One hour of morning traffic in Cologne (RESCO cologne8, 2,046 vehicles, 8 "
        "junctions), twice: with the network's own "
        "fixed-time programmes, and with Headway's planner. Each signal change passes the "
        "safety gate.\n"
    )
    work = [Job("cologne8", c, 1) for c in ("fixed", "planner")]
    results = progress(work, os.cpu_count() or 1, spread(""))
    conclude(results)


def train(
    scenario_: Annotated[
        str,
        typer.Option(
            "--scenario", help="Scenario (see `headway scenarios`), or path of a .sumocfg."
        ),
    ] = "cologne1",
    episodes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Training episodes, each a run of the whole scenario.",
            show_default="q_learning.episodes of the settings, 10",
        ),
    ] = None,
    timing: Annotated[str, typer.Option(help=TIMING)] = "benchmark",
    out: Annotated[
        str, typer.Option(help="File of the Q-table; training continues with an existing one.")
    ] = str(DEFAULT_TABLE),
    config: Annotated[str, typer.Option(help="Settings file (YAML): its section q_learning.")] = "",
    register: registry.Register = "",
    data: registry.Data = "data",
) -> None:
    """Train the Q-learning controller. `--controller q-learning` uses the resulting table; the
    variable HEADWAY_QTABLE selects another file.
    """
    chosen = scenario(scenario_)
    registry.require_registry(register, data)
    network = network_of(chosen)
    if timing not in PROFILES:
        raise typer.BadParameter(f"no timing {timing!r}. There are: {', '.join(PROFILES)}.")
    settings = TrainingSettings.from_settings(load(config or None).q_learning, episodes)
    path = Path(out)
    with _for_itself(path):
        most = max(len(j.stages) for j in network.junctions)
        stamp = network_stamp(network)
        table = (
            QTable.read(path)
            if path.stat().st_size
            else QTable(most, settings.rows, path, stamp, settings.sees_neighbours)
        )
        if table.network not in (0, stamp):
            raise typer.BadParameter(f"{out}: was trained for another network. Give another --out.")
        if register and not table.network:
            raise typer.BadParameter(
                f"{out}: an earlier version wrote it, without its network, so it can be no "
                "model. Give another --out."
            )
        begun_with = {"begun_with": {"sha256": digest(path)[0]}} if len(table) else {}
        with Progress(*COLUMNS, console=console) as bar:
            task = bar.add_task("episodes", total=settings.episodes)
            for episode in training.train(
                chosen, network, work_out(network, PROFILES[timing]), table, settings
            ):
                text = (
                    f"stopped {episode.stopped:.1f}, states {episode.states}, TD error "
                    f"{episode.td_error:.2f}"
                )
                bar.update(task, advance=1, description=text)
                bar.console.print(f"episode {episode.number + 1}: mean {text}")
        console.print(f"{len(table)} states in {path}")
        if register:
            registry.register(
                data,
                path,
                name=register,
                kind="q-table",
                made_from=training.made_from(scenario_, timing, settings) | begun_with,
                metrics=training.metrics(episode),
                by="headway train",
            )


@contextlib.contextmanager
def _for_itself(table: Path) -> Iterator[None]:
    """No other training changes the file meanwhile, which is empty where there was none. Raises
    typer.BadParameter.
    """
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise typer.BadParameter(
                f"{table}: another training changes it. Wait for its end, or give another --out."
            ) from error
        try:
            yield
        finally:
            if not os.fstat(stream.fileno()).st_size:  # nothing was begun
                table.unlink(missing_ok=True)


def run(
    scenario_: Annotated[
        str,
        typer.Option(
            "--scenario", help="Scenario (see `headway scenarios`), or path of a .sumocfg."
        ),
    ] = "",
    controller: Annotated[str, typer.Option(help=f"Controller: {', '.join(CONTROLLERS)}.")] = "",
    speed_factor: Annotated[
        float | None,
        typer.Option(
            "--speed-factor",
            "--realtime",
            min=0.0,
            help="Simulated seconds per second; 0 for as fast as possible. --realtime is the "
            "old name.",
            show_default="from the settings",
        ),
    ] = None,
    until: Annotated[
        float,
        typer.Option(help="Time of the simulation at which to end, seconds.", show_default="none"),
    ] = float("inf"),
    timing: Annotated[str, typer.Option(help=TIMING)] = "",
    config: Annotated[
        str,
        typer.Option(
            help=(
                "Settings file (YAML). Changes of its sections loop, control, planner, q_learning, "
                "alerts and log take effect while running."
            )
        ),
    ] = "",
    data: Annotated[str, typer.Option(help="Data folder: event log and checkpoints.")] = "",
) -> None:
    """Run a street in the terminal. After an interruption (Ctrl-C, kill) the same command resumes
    from the last checkpoint.

    An option that is not given takes its value from the settings.
    """
    street = {k: v for k, v in (("scenario", scenario_), ("timing", timing)) if v}
    changes: dict[str, dict[str, Any]] = {
        "street": street,
        "control": {"controller": controller} if controller else {},
        "recovery": {"folder": data} if data else {},
        "loop": {} if speed_factor is None else {"speed_factor": speed_factor},
    }
    if math.isnan(until):
        raise typer.BadParameter("--until nan: give seconds.")
    settings = overridden(load(config or None), changes)
    scenario(settings.street.scenario)
    warn_without_q_table([settings.control.controller])
    with locked(Path(settings.recovery.folder), "headway run"):
        run_to_end(Task(settings, until, config, changes), console)


def warn_without_q_table(controllers: Sequence[str]) -> None:
    """Without a table the Q-learning controller has no confidence, and its fallback decides."""
    path = table_path()
    if QLearning.name in controllers and not path.exists():
        Console(stderr=True, soft_wrap=True).print(
            f"No Q-table at {path}: the fallback decides in place of {QLearning.name}. Train one: "
            "headway train.",
            markup=False,
            highlight=False,
        )


def conclude(results: list[Result]) -> None:
    """Print the table, and each failure in full; status 1 if there is one."""
    console.print(comparison(results))
    for line in (*left_to_others(results), *not_recorded(results)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for failed in (r for r in results if r.error):
        Console(stderr=True, soft_wrap=True).print(
            f"{failed.scenario} {failed.controller} seed {failed.seed}: {failed.error}",
            markup=False,
        )
    if any(r.error for r in results):
        raise SystemExit(1)


def progress(work: list[Job], jobs: int, run: Run) -> list[Result]:
    """Run `work` with a progress bar; results in the order of the work."""
    done: list[Result] = []
    with Progress(*COLUMNS, console=console, transient=True) as bar:
        task = bar.add_task("runs", total=len(work))
        for result in run(work, jobs):
            done.append(result)
            bar.update(
                task,
                advance=1,
                description=f"{result.scenario} {result.controller} seed {result.seed}",
            )
    rank = {(w.name, w.controller, w.seed): i for i, w in enumerate(work)}
    return sorted(done, key=lambda r: rank.get((r.scenario, r.controller, r.seed), len(rank)))


def judged(controllers: str, data: str) -> dict[str, ModelFile | None]:
    """Controllers by what results call them; None for one of the catalogue, else the model. Raises
    typer.BadParameter.
    """
    found = dict[str, ModelFile | None]()
    for word in dict.fromkeys(controllers.split(",")):
        if word in CONTROLLERS:
            found[word] = None
            continue
        try:
            named = registry.model_named(word, data)
        except (ValueError, RuntimeError, OSError) as error:
            raise typer.BadParameter(str(error)) from error
        if named is None:
            raise typer.BadParameter(
                f"no controller {word!r}. There are: {', '.join(CONTROLLERS)}. A model is given as "
                "the path of its file, NAME@VERSION or NAME@champion."
            )
        label, model = named
        if found.get(label, model) != model or label in CONTROLLERS:
            raise typer.BadParameter(f"two of the controllers are called {label}. Rename a file.")
        found[label] = model
    return found


def labels(names: Sequence[str]) -> dict[str, str]:
    """Of files that have one name, each with as many of its folders as tell it from the others;
    empty for all other scenarios.
    """
    parts = {name: Path(name).resolve().with_suffix("").parts for name in names}
    found = {}
    for name, own in parts.items():
        others = [of for other, of in parts.items() if other != name]
        count = 1
        while count < len(own) and any(of[-count:] == own[-count:] for of in others):
            count += 1
        found[name] = "-".join(own[-count:]) if count > 1 else ""
    return found


def parse_seeds(text: str) -> list[int]:
    """ "1-3,7" to [1, 2, 3, 7]. Raises typer.BadParameter."""
    seeds: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        if not low.isdigit() or (high and not high.isdigit()):
            raise typer.BadParameter(f"seeds {text!r}: give whole numbers, such as 1-5 or 1,4.")
        seeds += range(int(low), int(high or low) + 1)
    if not seeds:
        raise typer.BadParameter(f"seeds {text!r} is empty.")
    return list(dict.fromkeys(seeds))
