"""Vehicles with flashing blue lights: emergency vehicles on duty.

A light is a few pixels of saturated blue that come and go. Blue paint does not flash, and is less
saturated; a lamp that shows without a break is none either.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from headway.sensing.tracking.tracks import Track
from headway.values import FloatArray
from headway.vision.frames.images import Image

# A pixel is of a light if blue stands out by so many levels of 255, and by this share of itself.
LEAST_LEVELS = 60
LEAST_SHARE = 0.65
LEAST_PX = 3
WITHIN_S = (
    2.0  # in which it goes on and off LEAST_CHANGES times: blue lights flash 2 to 4 times a s
)
LEAST_CHANGES = 3
# recognised, until so long after its light was seen last: something may hide it
REMEMBERED_S = 5.0


@dataclass
class _Light:
    """What was seen of one vehicle: (time s, lit) of its last frames, and until when it counts."""

    seen: deque[tuple[float, bool]] = field(default_factory=deque)
    until_s: float = -np.inf


class BlueLights:
    """Follows the lights of the tracks of one stream."""

    def __init__(self) -> None:
        self._lights: dict[int, _Light] = {}

    def update(self, at_s: float, image: Image, tracks: Sequence[Track]) -> set[int]:
        """The ids of the tracks that flash blue. image: BGR, of `at_s`."""
        self._lights = {t.id: self._lights.get(t.id, _Light()) for t in tracks}
        for track in tracks:
            if not track.coasting:
                self._look(self._lights[track.id], at_s, shows_blue(image, track.box))
        return {number for number, light in self._lights.items() if at_s <= light.until_s}

    def _look(self, light: _Light, at_s: float, lit: bool) -> None:
        light.seen.append((at_s, lit))
        while at_s - light.seen[0][0] > WITHIN_S:
            light.seen.popleft()
        changes = sum(a[1] != b[1] for a, b in pairwise(light.seen))
        if changes >= LEAST_CHANGES:
            light.until_s = at_s + REMEMBERED_S


def shows_blue(image: Image, box: FloatArray) -> bool:
    """A light is lit within a box: (4,), left, top, right, bottom, pixels."""
    height, width = image.shape[:2]
    left, right = np.clip([box[0], box[2]], 0, width).astype(int)
    top, bottom = np.clip([box[1], box[3]], 0, height).astype(int)
    part = image[top:bottom, left:right].astype(np.int16)
    above = part[..., 0] - part[..., 1:].max(axis=-1, initial=0)
    is_light = (above >= LEAST_LEVELS) & (above >= LEAST_SHARE * part[..., 0])
    return int(is_light.sum()) >= LEAST_PX
