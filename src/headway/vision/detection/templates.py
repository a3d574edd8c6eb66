"""Template matching: where in a blob an image looks most like a known patch."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from headway.values import FloatArray
from headway.vision.boxes import Box
from headway.vision.detection.blobs import Blob
from headway.vision.frames.images import Image

# What a place scores, beside its correlation of -1 to 1
INSIDE_WEIGHT = 0.7  # for lying within the blob
AWAY_WEIGHT = 0.1  # against lying away from the predicted place
LEAST_COVERED = 0.4  # share of the place that the blob must cover

LEAST_SIDE_PX = 4  # a smaller patch shows nothing that could be recognised
COARSE_PX = 6000  # square pixels; a larger patch is compared on every second pixel, for speed
FLAT = 1e-9  # curvature below which a parabola has no peak


class Match(NamedTuple):
    """score: correlation, up to 1."""

    score: float
    box: Box


def best_match(
    predicted: Box, patch: Image, image: Image, blob: Blob, reach_px: int
) -> Match | None:
    """The best place for a patch within `reach_px` of the predicted box; None where there is no
    room for it, or the blob does not cover it.
    """
    high, wide = patch.shape[:2]
    left, top = round(predicted.x) - reach_px, round(predicted.y) - reach_px
    x0, y0 = max(left, 0), max(top, 0)
    x1 = min(left + wide + 2 * reach_px, image.shape[1])
    y1 = min(top + high + 2 * reach_px, image.shape[0])
    if x1 - x0 < wide + 2 or y1 - y0 < high + 2 or min(wide, high) < LEAST_SIDE_PX:
        return None

    # row r and column c stand for the place (x0 + step * c, y0 + step * r)
    step = 1 if wide * high < COARSE_PX else 2
    window = image[y0:y1, x0:x1]
    correlation = cv2.matchTemplate(
        subsampled(window, step), subsampled(patch, step), cv2.TM_CCOEFF_NORMED
    )
    rows, columns = correlation.shape
    mask = np.zeros(window.shape[:2], np.float32)
    cv2.drawContours(mask, [blob.outline], 0, 1.0, cv2.FILLED, offset=(-x0, -y0))
    inside = cv2.boxFilter(mask, -1, (wide, high), anchor=(0, 0))
    inside = inside[: step * rows : step, : step * columns : step]

    r, c = np.ogrid[:rows, :columns]
    away_px = np.hypot(step * c + x0 - predicted.x, step * r + y0 - predicted.y)
    away = away_px.astype(np.float32) / reach_px
    score = correlation + INSIDE_WEIGHT * inside - AWAY_WEIGHT * away
    _, _, _, (column, row) = cv2.minMaxLoc(score)
    if inside[row, column] < LEAST_COVERED:
        return None
    place = predicted._replace(
        x=x0 + step * (column + subpixel_peak(score[row, :], column)),
        y=y0 + step * (row + subpixel_peak(score[:, column], row)),
    )
    return Match(float(correlation[row, column]), place)


def subsampled(image: Image, step: int) -> Image:
    """Each `step` by `step` pixels as their mean; what is left over at the edge is dropped."""
    if step == 1:
        return image
    high, wide = image.shape[0] // step, image.shape[1] // step
    whole = image[: step * high, : step * wide]
    return np.asarray(cv2.resize(whole, (wide, high), interpolation=cv2.INTER_AREA), np.uint8)


def subpixel_peak(scores: FloatArray, k: int) -> float:
    """How far beside place k, -1 to 1, the scores peak: by a parabola through it and its two
    neighbours; 0 at either end.
    """
    if not 0 < k < len(scores) - 1:
        return 0.0
    before, at, after = (float(v) for v in scores[k - 1 : k + 2])
    curvature = before - 2 * at + after
    return 0.5 * (before - after) / curvature if curvature < -FLAT else 0.0


def crop(image: Image, box: Box) -> Image:
    """A copy of what a box shows, as far as the image goes; one pixel at least each way."""
    x, y, width, height = box.rounded()
    x, y = max(x, 0), max(y, 0)
    return image[y : y + max(height, 1), x : x + max(width, 1)].copy()
