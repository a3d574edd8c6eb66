"""Boxes around road users in an image: one as a named value, many as the rows of an array."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headway.values import FloatArray


class Box(NamedTuple):
    """One box, pixels. x, y: its upper left corner; x grows to the right, y downwards."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def area(self) -> float:
        return self.width * self.height

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2

    def moved(self, dx: float, dy: float) -> Box:
        return self._replace(x=self.x + dx, y=self.y + dy)

    def scaled(self, scale: float) -> Box:
        """About its centre."""
        return Box(
            x=self.x + self.width * (1.0 - scale) / 2.0,
            y=self.y + self.height * (1.0 - scale) / 2.0,
            width=self.width * scale,
            height=self.height * scale,
        )

    def rounded(self) -> tuple[int, int, int, int]:
        """x, y, width, height, whole pixels."""
        return round(self.x), round(self.y), round(self.width), round(self.height)


# Many boxes: (n, 4), columns left, top, right, bottom, as in `supervision.Detections.xyxy`.


def upper_left(boxes: FloatArray) -> FloatArray:
    """(n, 2), x and y."""
    return boxes[:, :2]


def lower_right(boxes: FloatArray) -> FloatArray:
    """(n, 2), x and y."""
    return boxes[:, 2:]


def centres(boxes: FloatArray) -> FloatArray:
    """(n, 2), x and y."""
    return (upper_left(boxes) + lower_right(boxes)) / 2.0


def lower_edges(boxes: FloatArray) -> FloatArray:
    """(n, 2), x and y of the middles of the lower edges."""
    return np.c_[centres(boxes)[:, 0], boxes[:, 3]]


def sizes(boxes: FloatArray) -> FloatArray:
    """(n, 2), width and height."""
    return lower_right(boxes) - upper_left(boxes)


class Overlaps(NamedTuple):
    """Of boxes a (n, 4) with boxes b (m, 4); both (n, m), 0 to 1.

    iou:    intersection over union.
    inside: share of each of a inside each of b.
    """

    iou: FloatArray
    inside: FloatArray


LEAST_AREA_PX = 1e-9  # a box of no area overlaps nothing


def overlaps(a: FloatArray, b: FloatArray) -> Overlaps:
    """How much each box of a (n, 4) has in common with each of b (m, 4)."""
    low = np.maximum(upper_left(a)[:, None], upper_left(b)[None])
    high = np.minimum(lower_right(a)[:, None], lower_right(b)[None])
    both = np.clip(high - low, 0.0, None).prod(2)
    area_a, area_b = sizes(a).prod(1)[:, None], sizes(b).prod(1)[None]
    union = np.maximum(area_a + area_b - both, LEAST_AREA_PX)
    return Overlaps(both / union, both / np.maximum(area_a, LEAST_AREA_PX))
