"""Blobs: connected parts of the foreground, each with its outline."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from headway.vision.boxes import Box
from headway.vision.detection.background import Mask

LEAST_FILL = 0.2  # share of its box that a blob fills at least: thin slanting lines are no vehicles

# Two parts of one vehicle, as shares of a length
LARGEST_GAP = 0.45  # of the narrower part's width: a windscreen that looks like a shadow
SHORT = 1.2  # a blob shorter than so many widths is no whole vehicle
FACING = 0.6  # of the wider part's width that faces the other
LARGEST_OVERLAP = 0.5  # of the shorter part's length: more overlap are side by side
DARK_GAP = 0.5  # of the places between that differ from the street

REST_MARGIN_PX = 2  # around known boxes: the rim of a blob is not another object

IntPoints = NDArray[np.int32]
FloatPoints = NDArray[np.float64]


class Blob(NamedTuple):
    """outline: (n, 1, 2) pixels, as OpenCV's contours. box: whole pixels. area_px: square pixels
    within the outline.
    """

    outline: IntPoints
    box: Box
    area_px: float


def blob_within(outline: IntPoints) -> Blob:
    """The blob of an outline."""
    return Blob(outline, Box(*cv2.boundingRect(outline)), cv2.contourArea(outline))


def find_blobs(mask: Mask, least_px: float) -> list[Blob]:
    """Connected parts of a mask that are large and compact enough to be a road user."""
    outlines = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    blobs = [blob_within(np.asarray(outline, np.int32)) for outline in outlines]
    return [
        b
        for b in blobs
        if b.area_px >= least_px and b.area_px >= LEAST_FILL * b.box.width * b.box.height
    ]


def touches_edge(blob: Blob, image: NDArray[np.uint8]) -> bool:
    """Whether it comes within a pixel of the image's edge, which may cut it off."""
    height, width = image.shape[:2]
    x, y = blob.box.x, blob.box.y
    return bool(x <= 1 or y <= 1 or blob.box.right >= width - 1 or blob.box.bottom >= height - 1)


def are_parts_of_one(a: Blob, b: Blob, heading: tuple[float, float], changed: Mask) -> bool:
    """Whether two blobs, one of them too short to be a vehicle, face one another along the heading
    over most of their width, with nothing but a narrow dark strip between.

    heading: unit vector. changed: where the image differs from the street, shadows too.
    """
    if _boxes_too_far(a.box, b.box):
        return False

    # columns of what follows: along the heading, across it
    axes = np.array([heading, (-heading[1], heading[0])])
    (low_a, high_a), (low_b, high_b) = (_extent(blob, axes) for blob in (a, b))
    size_a, size_b = high_a - low_a, high_b - low_b
    length, width = np.minimum(size_a, size_b)
    if _may_be_whole(a, size_a, changed) and _may_be_whole(b, size_b, changed):
        return False

    low, high = np.maximum(low_a, low_b), np.minimum(high_a, high_b)  # the common part
    gap, facing = low[0] - high[0], high[1] - low[1]
    if gap > LARGEST_GAP * width or -gap > LARGEST_OVERLAP * length:
        return False
    if facing < FACING * max(size_a[1], size_b[1]):
        return False
    between = _places_between(low, high, axes)
    return _share_set(changed, between) >= DARK_GAP


def _boxes_too_far(a: Box, b: Box) -> bool:
    """Before all that costs more: farther apart than the widest gap in x or y."""
    reach = LARGEST_GAP * max(min(a.width, a.height), min(b.width, b.height))
    return (
        max(a.x - b.x - b.width, b.x - a.x - a.width) > reach
        or max(a.y - b.y - b.height, b.y - a.y - a.height) > reach
    )


def _extent(blob: Blob, axes: FloatPoints) -> tuple[FloatPoints, FloatPoints]:
    """Lowest and highest coordinates of a blob's outline along two axes."""
    places = np.asarray(blob.outline[:, 0], np.float64) @ axes.T
    return places.min(0), places.max(0)


def _may_be_whole(blob: Blob, size: FloatPoints, changed: Mask) -> bool:
    return bool(size[0] > SHORT * size[1]) or touches_edge(blob, changed)


def _places_between(low: FloatPoints, high: FloatPoints, axes: FloatPoints) -> NDArray[np.int64]:
    """Pixels on the line between two parts, in the middle of where they face one another."""
    count = max(round(abs(low[0] - high[0])), 2)
    along = np.linspace(min(low[0], high[0]), max(low[0], high[0]), count)
    across = np.full(len(along), (low[1] + high[1]) / 2.0)
    return np.round(np.c_[along, across] @ axes).astype(np.int64)


def _share_set(mask: Mask, places: NDArray[np.int64]) -> float:
    """Of pixels (n, 2); those beyond the image count as its nearest pixel."""
    rows = np.clip(places[:, 1], 0, mask.shape[0] - 1)
    columns = np.clip(places[:, 0], 0, mask.shape[1] - 1)
    return float((mask[rows, columns] > 0).mean())


def covered_share(box: Box, blob: Blob) -> float:
    """The share of a box that the blob covers."""
    x, y, width, height = box.rounded()
    mask = np.zeros((max(height, 1), max(width, 1)), np.uint8)
    cv2.drawContours(mask, [blob.outline], 0, 1, cv2.FILLED, offset=(-x, -y))
    return float(mask.mean())


def rest_boxes(blob: Blob, known: list[Box], least_px: float) -> list[Box]:
    """Boxes of the parts of a blob outside all known boxes, of `least_px` square pixels or more."""
    left, top, width, height = blob.box.rounded()
    mask = np.zeros((height, width), np.uint8)
    cv2.drawContours(mask, [blob.outline], 0, 255, cv2.FILLED, offset=(-left, -top))
    for box in known:
        low = (round(box.x) - left - REST_MARGIN_PX, round(box.y) - top - REST_MARGIN_PX)
        high = (round(box.right) - left + REST_MARGIN_PX, round(box.bottom) - top + REST_MARGIN_PX)
        cv2.rectangle(mask, low, high, 0, -1)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)), np.uint8)
    _, _, parts, _ = cv2.connectedComponentsWithStats(mask)
    return [
        Box(float(x + left), float(y + top), float(w), float(h))
        for x, y, w, h, area_px in parts[1:].tolist()
        if area_px >= least_px
    ]
