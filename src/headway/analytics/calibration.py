"""Whether a confidence is one: of what is predicted with 0.8, eight in ten should come true."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from headway.values import BoolArray, CountArray, FloatArray

BINS = 10
LEAST_BLOCKS = 8  # fewer say nothing of how far a figure varies
DRAWS = 1000  # of the bootstrap
SEED = 20
NORMAL_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions whose confidence is in [low, high), of the last bin in [low, 1].

    n: of them; confidence: their mean; true: share that came true, None where n is 0, with its 95 %
    interval (E. Wilson, JASA 1927), in which a block counts as one independent value.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    true: float | None
    interval_95: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """A reliability table of n predictions.

    error: expected calibration error, the mean of |confidence - share that came true| over the
        bins, weighed by their n (M. Naeini, G. Cooper and M. Hauskrecht, AAAI 2015); None for none.
    interval_95: of the error, by a bootstrap of blocks; None where these are too few.
    confidence, true: means of all; excess: the one less the other.
    resolution: standard deviation of the confidence; where it is nought, the confidence tells no
        prediction from another.
    why: why something is None; "" where nothing is.
    """

    n: int
    blocks: int
    error: float | None
    interval_95: tuple[float, float] | None
    confidence: float | None
    true: float | None
    excess: float | None
    resolution: float | None
    bins: tuple[Bin, ...]
    why: str = ""


def reliability(confidence: FloatArray, true: BoolArray, block: CountArray) -> Calibration:
    """confidence: (n,) 0 to 1; true: (n,), what came true; block: (n,), those with one number are
    not independent of each other, such as those of ten minutes. Raises ValueError for a confidence
    that is not within 0 to 1, and where lengths differ.
    """
    p, t, block = np.asarray(confidence, np.float64), np.asarray(true, bool), np.asarray(block)
    if not len(p) == len(t) == len(block):
        raise ValueError(f"{len(p)} confidences, {len(t)} outcomes and {len(block)} blocks")
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError("a confidence is not within 0 to 1")
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    names, of_block = np.unique(block, return_inverse=True)
    sums = np.zeros((len(names), BINS, 3))  # predictions, confidence, came true
    for k, values in enumerate((np.ones(len(p)), p, t)):
        np.add.at(sums[:, :, k], (of_block, place), values)
    bins = tuple(_bin(k, sums[:, k]) for k in range(BINS))
    if not len(p):
        why = "nothing was predicted yet whose outcome is known"
        return Calibration(0, 0, None, None, None, None, None, None, bins, why)
    interval, why = None, ""
    if len(names) >= LEAST_BLOCKS:
        random = np.random.default_rng(SEED)
        weights = random.multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
        drawn = np.einsum("db,bkc->dkc", weights.astype(np.float64), sums)
        low, high = np.percentile([_error(one) for one in drawn], (2.5, 97.5))
        interval = (float(low), float(high))
    else:
        why = f"{len(names)} blocks of time are too few for an interval: {LEAST_BLOCKS} are needed"
    return Calibration(
        n=len(p),
        blocks=len(names),
        error=_error(sums.sum(axis=0)),
        interval_95=interval,
        confidence=float(p.mean()),
        true=float(t.mean()),
        excess=float(p.mean() - t.mean()),
        resolution=float(p.std()) if np.ptp(p) else 0.0,  # of equal values it is rounded
        bins=bins,
        why=why,
    )


def _error(sums: FloatArray) -> float:
    """sums: (bins, 3), see `reliability`."""
    return float(np.abs(sums[:, 1] - sums[:, 2]).sum() / sums[:, 0].sum())


def _bin(k: int, sums: FloatArray) -> Bin:
    """sums: (blocks, 3) of this bin."""
    n, confidence, true = sums.sum(axis=0).tolist()
    low, high = k / BINS, (k + 1) / BINS
    if not n:
        return Bin(low, high, 0, None, None, None)
    interval = wilson(true / n, float((sums[:, 0] > 0).sum()))
    return Bin(low, high, int(n), confidence / n, true / n, interval)


def wilson(share: float, n: float) -> tuple[float, float]:
    """95 % interval of a share of n independent values."""
    z = NORMAL_95
    centre = (share + z**2 / (2.0 * n)) / (1.0 + z**2 / n)
    half = z / (1.0 + z**2 / n) * sqrt(share * (1.0 - share) / n + z**2 / (4.0 * n**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)
