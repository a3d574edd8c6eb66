"""Error rates of the drift checks, on streams without and with a shift."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.inference import autoregression
from headway.analytics.drift import drift_of_categories, drift_of_numbers, residual_drift
from headway.analytics.model_monitoring import monitor
from headway.plants.sumo import SumoSettings, network_of, scenario
from headway.roads import PROFILES, work_out
from headway.service.street_record import flow
from headway.store import Intake, open_database
from headway.street.junction_states import junction_states
from headway.street.messages import JunctionState
from headway.street.opening import open_street

Floats = np.ndarray
CHECKS = 200  # of each kind
SEED = 18
SAMPLES = 1000  # newer ones, among which a shift is to be found
SHIFT = 0.5  # standard deviations
ALLOWED = 0.05  # false alarms
ASKED = 0.95  # shifts found
FEW, MANY = 900, 3000  # rows of reference: both sides of the bound between the tests
# first-order autocorrelation; and whether the bars are asked of streams of such few independent
# values: 1,000 samples of 0.9 say as much as 53
KINDS = ((0.0, True), (0.5, True), (0.8, True), (0.9, False))


def streams(phi: float, rows: int, checks: int = CHECKS) -> tuple[Floats, Floats]:
    """(checks, rows) of reference and (checks, SAMPLES) that follow them, without a shift."""
    random = np.random.default_rng([SEED, rows, round(100 * phi)])
    both = autoregression(random, phi, (checks, rows + SAMPLES))
    return both[:, :rows], both[:, rows:]


def of_numbers(reference: Floats, current: Floats) -> bool:
    return drift_of_numbers(reference, current).drifts


def of_categories(reference: Floats, current: Floats) -> bool:
    """Four categories, by the quartiles of a normal distribution."""
    bounds = (-0.6745, 0.0, 0.6745)
    x, y = (np.digitize(v, bounds).tolist() for v in (reference, current))
    return drift_of_categories(x, y).drifts


def of_residuals(reference: Floats, current: Floats) -> bool:
    return residual_drift(reference, current).drifts


TESTS = {"numbers": of_numbers, "categories": of_categories, "residuals": of_residuals}


def rates(test: str, phi: float, rows: int, checks: int = CHECKS) -> tuple[float, float]:
    """Shares of the checks: alarms without a shift, shifts found."""
    reference, current = streams(phi, rows, checks)
    pairs = list(zip(reference, current, strict=True))
    false = [TESTS[test](x, y) for x, y in pairs]
    found = [TESTS[test](x, y + SHIFT) for x, y in pairs]
    return float(np.mean(false)), float(np.mean(found))


def drift() -> None:
    """False alarms of 200 drift checks, and shifts of half a standard deviation found."""
    print(
        f"{CHECKS} checks of each kind, seed {SEED}: {SAMPLES} samples beside a reference; a shift"
    )
    print(
        f"is {SHIFT} standard deviations. Asked: at most 5 % false alarms, 95 % of shifts found.\n"
    )
    print("check        reference   autocorrelation   false alarms, %   found, %")
    for test in TESTS:
        for rows in (FEW, MANY):
            for phi, is_asked in KINDS:
                false, found = rates(test, phi, rows)
                missed = is_asked and (false > ALLOWED or found < ASKED)
                note = "   missed" if missed else ""
                print(
                    f"{test:10s}   {rows:9d}   {phi:15.1f}   {100 * false:15.1f}   "
                    f"{100 * found:8.1f}{note}",
                    flush=True,
                )


TRAFFIC = "cologne3"
USUAL, JUMP = range(1, 11), 1.5  # seeds of runs of the same demand; and another one, of more
LOOK_S = 5.0


def run_once(job: tuple[int, float]) -> list[tuple[object, ...]]:
    """One hour of the planner: rows of the table `observation`, without their run."""
    seed, scale = job
    of = scenario(TRAFFIC)
    network = network_of(of)
    sumo = SumoSettings(of.sumocfg, seed, scale=scale)
    street = open_street(network, work_out(network, PROFILES["street"]), sumo, "planner", ignore)
    rows, before = [], dict[str, JunctionState]()
    try:
        while street.plant.time_s < of.end_s:
            street.tick()
            if street.plant.time_s % LOOK_S == 0.0:
                for j in junction_states(street):
                    passed, throughput = flow(before.get(j.junction), j)
                    before[j.junction] = j
                    speed = None if j.mean_speed_mps is None else 3.6 * j.mean_speed_mps
                    rows.append(
                        (j.at_s, j.junction, j.vehicles, j.stopped, j.longest_wait_s, j.confidence,
                         None, j.mean_wait_s, speed, passed, throughput,
                         j.factors.get("performance"))
                    )  # fmt: skip
    finally:
        street.plant.close()
    return rows


def ignore(_: object) -> None:
    """Of a street, its events."""


def traffic() -> None:
    """What is found on simulated streets: ten hours of one demand, each beside those before."""
    print(f"{TRAFFIC}, planner, an hour each; drift of inputs: found of judged of all\n")
    print("seed   demand   pieces   inputs         waits   performance   calibration error (95 %)")
    jobs = [*((seed, 1.0) for seed in USUAL), (len(USUAL) + 1, JUMP)]
    spawn = multiprocessing.get_context("spawn")
    with TemporaryDirectory() as folder, spawn.Pool(1, maxtasksperchild=1) as pool:
        Path(folder).chmod(0o755)
        database = open_database(Path(folder))
        intake = Intake(database, Path(folder))
        for (seed, scale), rows in zip(jobs, pool.imap(run_once, jobs), strict=True):
            run = intake.begin_run(f"{seed}", TRAFFIC, "planner", seed, "street", scale)
            intake.write("observation", [(run, *row) for row in rows])
            found = monitor(database, "street")
            judged = [c.drift for c in found.checks if c.drift.p is not None]
            inputs = f"{sum(d.drifts for d in judged)} of {len(judged)} of {len(found.checks)}"
            wait, performance = (
                "-" if o.drift.why else "drifts" if o.drift.drifts else "calm"
                for o in found.outcomes
            )
            c = found.calibration
            low, high = c.interval_95 or (float("nan"), float("nan"))
            print(
                f"{seed:4d}   {scale:6.2f}   {found.pieces:6d}   {inputs:12s}   {wait:6s}  "
                f"{performance:6s}        {c.error:.3f} ({low:.3f} to {high:.3f})",
                flush=True,
            )
        for b in found.calibration.bins:
            if b.n:
                print(
                    f"confidence {b.low:.1f} to {b.high:.1f}: {b.n} of which {b.true:.2f} came true"
                )
        database.close()
