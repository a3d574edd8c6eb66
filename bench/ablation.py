"""What each part of Q-learning is worth: trained without it, or with another one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.seeds import seeds_of
from headway.control.models import Q_TABLE, ModelFile
from headway.control.qlearning import network_stamp
from headway.control.qtable import QTable
from headway.experiments.benchmark import Job, Result, run_guarded
from headway.experiments.processes import run_all
from headway.experiments.statistics import interval, paired_p
from headway.learning.model_files import digest
from headway.learning.training import Reward, TrainingSettings, train
from headway.plants.sumo import network_of
from headway.plants.sumo.scenarios import scenario
from headway.roads import BENCHMARK, work_out

IN_USE = TrainingSettings()
VARIANTS = {
    "in use": IN_USE,
    "3 steps": replace(IN_USE, steps=3),
    "10 steps, decay 0.8": replace(IN_USE, steps=10, trace_decay=0.8),
    "no longest wait": replace(IN_USE, reward=Reward(longest=0.0)),
    "no change of stage": replace(IN_USE, reward=Reward(change=0.0)),
    "no neighbours' reward": replace(IN_USE, reward=Reward(neighbours=0.0)),
    "neighbours' states": replace(IN_USE, sees_neighbours=True),
}
COORDINATOR = ("no neighbours' reward", "neighbours' states")  # nothing, at a single junction
BESIDE = ("fixed", "webster", "actuated", "greedy", "planner")
TRAINING_SEED = 1000  # the first; each training has its own thousand


@dataclass(frozen=True, slots=True)
class Training(Job):
    """A table to be trained, and judged on `judged_on`; `seed` is the number of the training."""

    settings: TrainingSettings = IN_USE
    judged_on: tuple[int, ...] = field(default=(1, 2))


@dataclass(frozen=True, slots=True)
class Judged(Result):
    """delay_s: of the table alone. with_fallback_s: the delay where the fallback decides while
    confidence is low, as on a street; decided_share is of then.
    """

    with_fallback_s: float = float("nan")


def ablation(arguments: Sequence[str] = ()) -> None:
    """Q-learning with one part changed at a time: mean delay after training, paired by the seeds of
    the training with the variant in use, beside other controllers on the same seeds.
    """
    parser = argparse.ArgumentParser("python -m bench ablation")
    parser.add_argument("--scenarios", default="cologne1,cologne3")
    parser.add_argument("--variants", default="", help="; between them; all where none is named")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--trainings", type=int, default=4, help="of each variant")
    parser.add_argument("--seeds", type=seeds_of, default="1-2", help="that tables are judged on")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", default="", help="write all runs to this file")
    options = parser.parse_args(list(arguments))

    asked = [name.strip() for name in options.variants.split(";") if name.strip()]
    if unknown := [name for name in asked if name not in VARIANTS]:
        parser.error(f"no variant {unknown[0]!r}. There are: {'; '.join(VARIANTS)}")
    chosen = ["in use", *(name for name in asked or VARIANTS if name != "in use")]
    kept = list[Result]()
    for name in options.scenarios.split(","):
        is_alone = len(network_of(scenario(name)).junctions) == 1
        variants = [v for v in chosen if not (is_alone and v in COORDINATOR)]
        jobs = [
            Training(
                scenario=name,
                controller=variant,
                seed=number,
                settings=replace(VARIANTS[variant], episodes=options.episodes),
                judged_on=tuple(options.seeds),
            )
            for number in range(1, options.trainings + 1)
            for variant in variants
        ]
        found = list(run_all(list[Job](jobs), options.workers, make=train_and_judge))
        beside = [Job(name, c, seed) for c in BESIDE for seed in options.seeds]
        judged = list(run_all(beside, options.workers))
        print("\n".join(table(name, found, judged)), flush=True)
        kept += found + judged
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(run) for run in kept], indent=1))


def train_and_judge(job: Job) -> Result:
    """One training, then a run for each of its seeds: their mean delay, all violations."""
    assert isinstance(job, Training)
    site = scenario(job.scenario)
    network = network_of(site)
    of = job.settings
    with TemporaryDirectory() as folder:
        path = Path(folder) / "q.table"
        most = max(len(j.stages) for j in network.junctions)
        q = QTable(most, of.rows, path, network_stamp(network), of.sees_neighbours)
        begin = TRAINING_SEED * job.seed
        for _ in train(site, network, work_out(network, BENCHMARK), q, of, begin):
            pass
        q.flush()
        model = ModelFile("q-learning", 1, Q_TABLE, digest(path)[0], str(path))
        alone = Path(folder) / "alone.yaml"
        alone.write_text("control: {confidence: 0.0}")
        runs = {
            config: [
                run_guarded(Job(job.scenario, "q-learning", seed, config=config, model=model))
                for seed in job.judged_on
            ]
            for config in ("", str(alone))
        }
    whole = [run for by_seed in runs.values() for run in by_seed]
    return Judged(
        **job.identity(),
        delay_s=float(np.mean([run.delay_s for run in runs[str(alone)]])),
        with_fallback_s=float(np.mean([run.delay_s for run in runs[""]])),
        decided_share=float(np.mean([run.decided_share for run in runs[""]])),
        safety_violations=sum(run.safety_violations for run in whole),
        error=next((run.error for run in whole if run.error), ""),
    )


def table(name: str, found: Sequence[Result], beside: Sequence[Result]) -> list[str]:
    """Lines of a table in Markdown: variants, paired with "in use", then other controllers."""
    lines = [
        f"| {name} | delay, s | beside the one in use | p | with fallback, s | runs |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    runs = dict[str, dict[int, Result]]()
    for run in sorted(found, key=lambda run: run.seed):
        of = runs.setdefault(run.controller, {})
        if not run.error:
            of[run.seed] = run
    base = runs["in use"]
    for variant in VARIANTS:
        if variant not in runs:
            continue
        own = runs[variant]
        both = [seed for seed in own if seed in base]
        delays = [own[seed].delay_s for seed in both], [base[seed].delay_s for seed in both]
        is_compared = variant != "in use" and len(both) > 1
        p = f"{paired_p(*delays):.2f}" if is_compared else ""
        beside_it = ratio(*delays) if is_compared else ""
        lines.append(line(variant, list(own.values()), beside_it, p))
    for controller in BESIDE:
        own = [run for run in beside if run.controller == controller and not run.error]
        lines.append(line(controller, own))
    for run in (*found, *beside):
        if run.error:
            lines.append(f"FAILED {name} {run.controller} {run.seed}: {run.error}")
    return lines


def line(name: str, runs: Sequence[Result], beside: str = "", p: str = "") -> str:
    """A row: mean delay with its 95 % interval; of tables, the delay with the fallback too, and in
    how much of the time the table then decided.
    """
    if not runs:
        return f"| {name} | none | | | | 0 |"
    both = [run.with_fallback_s for run in runs if isinstance(run, Judged)]
    share = np.mean([run.decided_share for run in runs])
    with_fallback = f"{mean(both)} (decides {share:.0%})" if both else ""
    broken = sum(run.safety_violations for run in runs)
    unsafe = f", {broken} unsafe" if broken else ""
    delay = mean([run.delay_s for run in runs])
    return f"| {name} | {delay} | {beside} | {p} | {with_fallback} | {len(runs)}{unsafe} |"


def mean(values: Sequence[float]) -> str:
    found = interval(values)
    return f"{found.mean:.1f}" + (f" ± {found.half_width:.1f}" if found.n > 1 else "")


def ratio(delays_s: Sequence[float], base_s: Sequence[float]) -> str:
    """Of pairs: by how much the delay is more, with its 95 % interval, of the logarithms."""
    found = interval(np.log(np.asarray(delays_s) / np.asarray(base_s)).tolist())
    least, middle, most = np.expm1(found.mean + found.half_width * np.array([-1.0, 0.0, 1.0]))
    return f"{middle:+.0%} ({least:+.0%} to {most:+.0%})"
