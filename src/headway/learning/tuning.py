"""Figures of the planner for one street: CMA-ES over runs of the benchmark, races between the
candidates of a generation, and a verdict on seeds that nothing was searched or chosen with. Needs
the extra `learning`.

CMA-ES: N. Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772, by the package `cmaes`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import numpy as np
import yaml

from headway import __version__
from headway.experiments.benchmark import Job, Result
from headway.experiments.processes import run_all
from headway.experiments.statistics import Interval, interval, paired_p
from headway.plants.sumo.scenarios import demand_of, scenario
from headway.settings import PlannerSettings
from headway.values import FloatArray

# where each figure is searched: inside of what the settings allow, around what the field reports
RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "horizon_s": (30.0, 120.0),
        "headway_s": (1.4, 2.6),
        "startup_loss_s": (0.0, 3.0),
        "end_gain_s": (0.0, 2.0),
        "stop_cost_s": (0.0, 6.0),
        "crawl_mps": (1.0, 8.0),
        "acceleration_mps2": (1.5, 6.0),
        "follow_up_s": (0.3, 2.0),
        "platoon_gap_s": (1.0, 5.0),
        "look_ahead_s": (0.0, 20.0),
        "leftover_cost_s": (0.0, 10.0),
        "min_room_m": (7.0, 30.0),
        "short_lane_m": (30.0, 120.0),
        "blocked_after_s": (3.0, 20.0),
        "patience_s": (10.0, 90.0),
        "spillback_weight": (0.0, 2.0),
        "blocking_cost": (0.0, 4.0),
    }
)
FAILED = 1.0  # the score of a run that failed or broke a rule: as bad as 2.7 times the delay
FIRST_STEP = 0.15  # of the search, as a share of each range
RACED = 2  # one in so many candidates goes on after the first seed of a generation
FINALISTS = 3
SIGNIFICANT = 0.05

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class TuningSettings:
    """seeds: for the search, of which each generation has the next `seeds_each`; choosing: for the
    choice between the finalists; confirming: for the verdict. No seed may stand in two of them.

    search_seed: of CMA-ES. jobs: runs at once.
    """

    scenario: str
    timing: str = "benchmark"
    sensing: str = "connected"
    scale: float = 1.0
    generations: int = 15
    population: int = 10
    seeds: Sequence[int] = range(1001, 1061)
    seeds_each: int = 3
    choosing: Sequence[int] = range(2001, 2007)
    confirming: Sequence[int] = range(3001, 3021)
    search_seed: int = 1
    jobs: int = 1

    def __post_init__(self) -> None:
        groups = [set(self.seeds), set(self.choosing), set(self.confirming)]
        if len(set.union(*groups)) < sum(map(len, groups)):
            raise ValueError("a seed is in two of: seeds, choosing, confirming. Each has its own.")
        if min(map(len, groups)) < 2 or self.seeds_each > len(self.seeds):
            raise ValueError("at least two seeds are needed for each part, and for a generation")
        if self.generations < 1 or self.population < 4:
            raise ValueError("at least one generation of four candidates is needed")

    def made_from(self) -> dict[str, Any]:
        """What a model that was found so is made from, for the registry."""
        seeds = ("seeds", "choosing", "confirming")
        given = {k: v for k, v in asdict(self).items() if k not in (*seeds, "jobs")}
        return given | {k: list(getattr(self, k)) for k in seeds}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. figures: the planner's; delay_s, before_s: on the confirming seeds, with them
    and with the default ones; change: of the delay, as a share (-0.05: 5 % less), geometric, with
    its 95 % interval; p: two-sided, paired by seed.
    """

    figures: Figures
    delay_s: tuple[float, ...]
    before_s: tuple[float, ...]
    change: float
    change_95: tuple[float, float]
    p: float
    runs: int

    @property
    def is_better(self) -> bool:
        return self.change < 0.0 and self.p < SIGNIFICANT

    def metrics(self) -> dict[str, Any]:
        """The figures of the verdict, for the registry."""
        return {
            "delay_s": float(np.mean(self.delay_s)),
            "delay_before_s": float(np.mean(self.before_s)),
            "change": self.change,
            "change_95": list(self.change_95),
            "p": self.p,
            "seeds": len(self.delay_s),
            "runs": self.runs,
        }


@dataclass(frozen=True, slots=True)
class Generation:
    """number: from 1; best: the lowest score in it, the logarithm of a ratio of delays."""

    number: int
    best: float
    runs: int


Run = Callable[[list[Job], int], Iterator[Result]]


class Tuning:
    """One search. Iterate over `search` to its end, then ask for the `verdict`. Both raise
    RuntimeError where no run at all goes to its end.

    journal: a file that keeps each run, so that a search that was ended goes on where it was; None
        for none. Raises ValueError where it is of other settings, or of another planner.
    """

    def __init__(
        self, settings: TuningSettings, journal: Path | None = None, run: Run = run_all
    ) -> None:
        self.settings = settings
        self._run = run
        self._default = default_figures()
        self._journal = _Journal(journal, journal_head(settings))
        self._fault = ""  # of the last run that failed
        self._found: list[tuple[float, Figures]] = []
        self._mean = self._default

    @property
    def runs(self) -> int:
        """Runs so far, those of the journal with them."""
        return len(self._journal.delay_s)

    def search(self) -> Iterator[Generation]:
        from cmaes import CMA

        cma = CMA(
            mean=_place(self._default),
            sigma=FIRST_STEP,
            bounds=np.array([[0.0, 1.0]] * len(RANGES)),
            population_size=self.settings.population,
            seed=self.settings.search_seed,
        )
        for number in range(self.settings.generations):
            seeds = _next(self.settings.seeds, number, self.settings.seeds_each)
            places = [cma.ask() for _ in range(cma.population_size)]
            candidates = [_figures(place) for place in places]
            scores = self._race(candidates, seeds)
            cma.tell(list(zip(places, scores, strict=True)))
            self._found.append(min(zip(scores, candidates, strict=True), key=lambda x: x[0]))
            self._mean = _figures(np.clip(cma.mean, 0.0, 1.0))
            yield Generation(number + 1, min(scores), self.runs)

    def _race(self, candidates: list[Figures], seeds: Sequence[int]) -> list[float]:
        """Scores of a generation: all on the first seed, the better ones on the others too. The
        rest come after them, in the order of the first seed.
        """
        first = self._scores(candidates, seeds[:1])
        order = np.argsort(first, kind="stable")
        ahead = order[: math.ceil(len(order) / RACED)].tolist()
        scores = np.array(first)
        scores[ahead] = self._scores([candidates[i] for i in ahead], seeds)
        behind = order[len(ahead) :]
        scores[behind] = np.maximum(scores[behind], 0.0) + max(scores[ahead])
        return [float(x) for x in scores]

    def verdict(self) -> Verdict:
        """On the confirming seeds, of whichever finalist is best on those for the choice."""
        finalists = [figures for _, figures in sorted(self._found, key=lambda x: x[0])[:FINALISTS]]
        finalists.append(self._mean)
        scores = self._scores(finalists, self.settings.choosing)
        chosen = finalists[int(np.argmin(scores))]
        after, before = self._delays([chosen, self._default], self.settings.confirming)
        if not (np.isfinite(after).all() and np.isfinite(before).all()):
            return Verdict(
                chosen, tuple(after), tuple(before), math.inf, (math.inf,) * 2, 1.0, self.runs
            )
        of: Interval = interval([math.log(a / b) for a, b in zip(after, before, strict=True)])
        low, high = of.mean - of.half_width, of.mean + of.half_width
        return Verdict(
            figures=chosen,
            delay_s=tuple(after),
            before_s=tuple(before),
            change=math.expm1(of.mean),
            change_95=(math.expm1(low), math.expm1(high)),
            p=paired_p(after, before),
            runs=self.runs,
        )

    def _scores(self, candidates: list[Figures], seeds: Sequence[int]) -> list[float]:
        """Of each, the mean logarithm of its delay / the delay with the default figures. A run that
        failed counts FAILED; where the default's failed, one that did not counts -FAILED.
        """
        before, *delays = self._delays([self._default, *candidates], seeds)
        after = np.array(delays)
        sound, measured = np.isfinite(after), np.isfinite(before)
        if not sound.any() and not measured.any():
            raise RuntimeError(
                f"all runs failed, with the default figures too, the last with: {self._fault}"
            )
        ratios = np.log(np.where(sound, after, 1.0) / np.where(measured, before, 1.0))
        ratios = np.where(measured, ratios, -FAILED)
        return [float(x) for x in np.where(sound, ratios, FAILED).mean(axis=1)]

    def _delays(self, candidates: list[Figures], seeds: Sequence[int]) -> list[list[float]]:
        """The delay of each on each seed; inf where a run failed or broke a rule."""
        wanted = [(_name(c), s) for c in candidates for s in seeds]
        by_name = {_name(c): c for c in candidates}
        with TemporaryDirectory(prefix="headway-tune-") as folder:
            jobs = {}
            for name, seed in dict.fromkeys(wanted):
                if (name, seed) not in self._journal.delay_s:
                    path = Path(folder) / f"{name}.yaml"
                    path.write_text(as_settings(by_name[name]))
                    jobs[name, seed] = self._job(path, seed)
            for result in self._run(list(jobs.values()), self.settings.jobs):
                sound = not result.error and not result.safety_violations and result.delay_s > 0.0
                delay_s = result.delay_s if sound else math.inf
                if not sound:
                    broken = f"{result.safety_violations} rules broken, or nobody served"
                    self._fault = f"seed {result.seed}: {result.error or broken}"
                self._journal.add(Path(result.config).stem, result.seed, delay_s)
        found = self._journal.delay_s
        return [[found[_name(c), s] for s in seeds] for c in candidates]

    def _job(self, path: Path, seed: int) -> Job:
        of = self.settings
        return Job(of.scenario, "planner", seed, of.timing, of.sensing, of.scale, config=str(path))


class _Journal:
    """delay_s: by candidate and seed."""

    def __init__(self, path: Path | None, head: Mapping[str, Any]) -> None:
        self.delay_s: dict[tuple[str, int], float] = {}
        self._path = path
        if path is None:
            return
        text = path.read_text() if path.exists() else ""
        if not text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(head) + "\n")
            return
        first, *lines = text.splitlines()
        if _read(first) != head:
            raise ValueError(f"{path}: is of another search, {first[:200]}. Name another journal.")
        if not text.endswith("\n"):  # the last line was cut short, by what ended the search
            with path.open("a") as file:
                file.write("\n")
        for line in lines:
            row = _read(line)
            is_run = isinstance(row, dict) and row.keys() == {"candidate", "seed", "delay_s"}
            # a run that failed is made again: it may have been for want of memory
            if is_run and row["delay_s"] is not None:
                self.delay_s[row["candidate"], row["seed"]] = float(row["delay_s"])

    def add(self, candidate: str, seed: int, delay_s: float) -> None:
        self.delay_s[candidate, seed] = delay_s
        if self._path is not None:
            said = delay_s if math.isfinite(delay_s) else None
            row = {"candidate": candidate, "seed": seed, "delay_s": said}
            with self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")


def default_figures() -> Figures:
    """Those of the settings, where the search begins."""
    return {name: float(getattr(PlannerSettings(), name)) for name in RANGES}


def journal_head(settings: TuningSettings) -> dict[str, Any]:
    """What the runs of a journal have in common. Other default figures, or another version of
    Headway, are another planner; files of the scenario that were changed are another demand.
    """
    of = {name: getattr(settings, name) for name in ("scenario", "timing", "sensing", "scale")}
    demand = demand_of(scenario(settings.scenario))
    return of | {"demand": demand, "headway": __version__, "default": _name(default_figures())}


def _read(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def as_settings(figures: Figures) -> str:
    """A settings file (YAML) with these figures of the planner."""
    return yaml.safe_dump({"planner": figures}, sort_keys=False)


def _name(figures: Figures) -> str:
    """The same for the same figures."""
    return hashlib.sha256(json.dumps(figures, sort_keys=True).encode()).hexdigest()[:16]


def _place(figures: Figures) -> FloatArray:
    """Where the figures are in their ranges, 0..1."""
    return np.array([(figures[k] - low) / (high - low) for k, (low, high) in RANGES.items()])


def _figures(place: FloatArray) -> Figures:
    """The figures there, to four digits."""
    return {
        name: float(f"{low + (high - low) * x:.4g}")
        for x, (name, (low, high)) in zip(place.tolist(), RANGES.items(), strict=True)
    }


def _next(seeds: Sequence[int], number: int, each: int) -> list[int]:
    """Those of generation `number`; from the first on again after the last."""
    return [seeds[(number * each + i) % len(seeds)] for i in range(each)]
