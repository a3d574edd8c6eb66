"""Error rates of the drift checks, on streams without and with a shift."""

from __future__ import annotations

import numpy as np

from bench.inference import autoregression
from headway.analytics.drift import drift_of_categories, drift_of_numbers, residual_drift

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
