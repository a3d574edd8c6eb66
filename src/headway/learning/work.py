"""What a job does, in its process: training, tuning, evaluation, each from where the last
attempt left it.

An attempt writes into a folder of its own and reads those of the attempts before it: one that was
taken for dead, and is not, can spoil nothing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headway import __version__
from headway.control.models import ModelFile
from headway.control.qlearning import network_stamp
from headway.control.qtable import QTable
from headway.experiments.benchmark import Job, Result
from headway.experiments.cluster import spread
from headway.experiments.statistics import interval, paired_p
from headway.learning import training
from headway.learning.jobs import EvaluateArguments, TrainArguments, TuneArguments
from headway.learning.process import MODELS, Done, Tell
from headway.learning.training import Memory, TrainingSettings
from headway.learning.tuning import (
    Generation,
    Tuning,
    TuningSettings,
    as_settings,
    journal_head,
)
from headway.plants.sumo import network_of
from headway.plants.sumo.scenarios import demand_of, scenario
from headway.roads import PROFILES, work_out

KEPT = 2  # checkpoints of a training; the older one, should the disk have spoilt the newest
RUNS_AT_ONCE = max(1, (os.cpu_count() or 2) - 1)  # one processor is left to the streets


def do_job(kind: str, arguments: Mapping[str, Any], folder: Path, tell: Tell) -> Done:
    """folder: of this attempt; those of the attempts before stand beside it. Of an evaluation, the
    arguments have MODELS: ModelFile by what a controller is called there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "train":
        return _train(TrainArguments.model_validate(arguments), folder, tell)
    if kind == "tune":
        return _tune(TuneArguments.model_validate(arguments), folder, tell)
    rest = {k: v for k, v in arguments.items() if k != MODELS}
    models = arguments.get(MODELS, {})
    return _evaluate(EvaluateArguments.model_validate(rest), models, folder, tell)


def _train(of: TrainArguments, folder: Path, tell: Tell) -> Done:
    site = scenario(of.scenario)
    network = network_of(site)
    settings = TrainingSettings(episodes=of.episodes)
    path = folder / "q.table"
    demand = demand_of(site)
    memory, metrics = _resumed(path, demand)
    if memory is None:
        memory = Memory.fresh(of.seed)
        most = max(len(j.stages) for j in network.junctions)
        table = QTable(most, settings.rows, path, network_stamp(network))
    else:
        table = QTable.read(path)
    timing = work_out(network, PROFILES[of.timing])
    tell(memory.done / of.episodes, f"episode {memory.done + 1} of {of.episodes}")
    for episode in training.train(site, network, timing, table, settings, of.seed, memory):
        metrics = training.metrics(episode)
        _keep_checkpoint(folder, path, memory, {"demand": demand, "metrics": metrics})
        tell(
            memory.done / of.episodes,
            f"episode {memory.done} of {of.episodes}: {episode.stopped:.1f} stopped",
        )
    made_from = training.made_from(of.scenario, of.timing, settings, of.seed)
    return Done(metrics, str(path), "q-table", of.name, made_from)


def _keep_checkpoint(folder: Path, table: Path, memory: Memory, head: Mapping[str, Any]) -> None:
    """Whole or not at all, under the number of episodes. head: `demand` of the scenario that it
    was trained on, and `metrics`.
    """
    places = folder / "episodes"
    draft = places / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    shutil.copyfile(table, draft / "q.table")
    memory.save(draft)
    (draft / "head.json").write_text(json.dumps(head))
    for path in draft.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    draft.rename(places / str(memory.done))
    for old in _checkpoints(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def _checkpoints(folder: Path) -> list[Path]:
    """Of one attempt, the newest first."""
    found = (p for p in (folder / "episodes").glob("*") if p.name.isdigit())
    return sorted(found, key=lambda p: int(p.name), reverse=True)


def _resumed(table: Path, demand: str) -> tuple[Memory | None, dict[str, Any]]:
    """(memory, metrics) of the newest checkpoint of any attempt that can be read and was trained on
    this demand, its table at `table`; None for none.
    """
    job = table.parent.parent
    found = [p for attempt in job.iterdir() for p in _checkpoints(attempt)]
    for place in sorted(found, key=lambda p: int(p.name), reverse=True):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            memory = Memory.load(place)
            head = json.loads((place / "head.json").read_text())
            if head["demand"] != demand:  # the scenario's files were changed since
                continue
            shutil.copyfile(place / "q.table", table)
            QTable.read(table)
            return memory, dict(head["metrics"])
    table.unlink(missing_ok=True)
    return None, {}


def _tune(of: TuneArguments, folder: Path, tell: Tell) -> Done:
    if importlib.util.find_spec("cmaes") is None:
        raise RuntimeError('tuning needs the extra `learning`: pip install -e ".[learning]"')
    settings = TuningSettings(
        scenario=of.scenario,
        timing=of.timing,
        sensing=of.sensing,
        scale=of.scale,
        generations=of.generations,
        population=of.population,
        confirming=range(3001, 3001 + of.confirm),
        search_seed=of.search_seed,
        jobs=RUNS_AT_ONCE,
    )
    journal = folder / "journal"
    _go_on_with(journal, journal_head(settings))
    tuning = Tuning(settings, journal, spread())
    tell(0.0, f"generation 1 of {of.generations}")

    def said(generation: Generation) -> str:
        change = math.expm1(generation.best)
        return f"generation {generation.number} of {of.generations}: best {change:+.1%}"

    for generation in tuning.search():
        tell(generation.number / (of.generations + 1), said(generation))
    verdict = tuning.verdict()
    result = verdict.metrics() | {"is_better": verdict.is_better}
    if not verdict.is_better:
        return Done({k: v if _is_finite(v) else None for k, v in result.items()})
    path = folder / "tuned.yaml"
    path.write_text(as_settings(verdict.figures))
    return Done(result, str(path), "planner", of.name, settings.made_from())


def _go_on_with(journal: Path, head: Mapping[str, Any]) -> None:
    """The longest journal of any attempt that begins with `head`, its whole lines; else one that
    has no more than that. So what another version of Headway has run counts for nothing.
    """
    first = json.dumps(head)
    found = [first + "\n"]
    for path in journal.parent.parent.glob(f"*/{journal.name}"):
        text = path.read_text(errors="replace")
        if text.startswith(first + "\n"):
            found.append(text[: text.rfind("\n") + 1])
    journal.write_text(max(found, key=len))


def _evaluate(
    of: EvaluateArguments, models: Mapping[str, ModelFile], folder: Path, tell: Tell
) -> Done:
    journal = folder / "results"
    demand = demand_of(scenario(of.scenario))
    head = {"headway": __version__, "arguments": of.model_dump(), "demand": demand}
    _go_on_with(journal, head)
    done = {(r.controller, r.seed): r for r in _results(journal)}
    judged = {models[c].label if c in models else c: models.get(c) for c in of.controllers}
    wanted = [(c, s) for s in dict.fromkeys(of.seeds) for c in judged]
    work = [
        Job(of.scenario, c, s, of.timing, of.sensing, of.scale, model=judged[c])
        for c, s in wanted
        if (c, s) not in done
    ]
    tell(len(done) / len(wanted), f"{len(done)} of {len(wanted)} runs")
    with journal.open("a") as file:
        for result in spread()(work, RUNS_AT_ONCE):
            file.write(json.dumps(result.flat()) + "\n")
            file.flush()
            done[result.controller, result.seed] = result
            tell(len(done) / len(wanted), f"{len(done)} of {len(wanted)} runs")
    found = [done[place] for place in wanted]
    if all(result.error for result in found):
        raise RuntimeError(f"all {len(found)} runs failed, the first with: {found[0].error}")
    return Done(compared(found))


def _results(journal: Path) -> Iterator[Result]:
    """Of the runs that went to their end: one that failed, as for want of memory, is made again."""
    for line in journal.read_text().splitlines()[1:]:
        with contextlib.suppress(ValueError, TypeError):  # a line that the disk has spoilt
            result = Result(**json.loads(line))
            if not result.error:
                yield result


def compared(results: list[Result]) -> dict[str, Any]:
    """Of each controller: delay with its 95 % interval (s), the difference to the first one paired
    by seed, what broke a rule, what failed. None stands for what is not known.
    """
    by_name: dict[str, dict[int, Result]] = {}
    for result in results:
        by_name.setdefault(result.controller, {})[result.seed] = result
    first = next(iter(by_name.values()))
    found = {}
    for name, runs in by_name.items():
        whole = [r.delay_s for r in runs.values() if not r.error]
        both = [s for s in runs if not runs[s].error and s in first and not first[s].error]
        pairs = [r[s].delay_s for r in (runs, first) for s in both]
        delay = interval(whole) if whole else None
        p = paired_p(pairs[: len(both)], pairs[len(both) :])
        found[name] = {
            "delay_s": delay.mean if delay else None,
            "delay_95_s": delay.half_width if delay and _is_finite(delay.half_width) else None,
            "p": p if _is_finite(p) else None,
            "seeds": len(whole),
            "safety_violations": sum(r.safety_violations for r in runs.values()),
            "errors": [f"seed {s}: {r.error}"[:500] for s, r in runs.items() if r.error][:10],
        }
    return {"controllers": found}


def _is_finite(value: Any) -> bool:
    """Whether JSON can hold it."""
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
