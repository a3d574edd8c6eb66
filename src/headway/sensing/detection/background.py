"""The street without anybody on it, learned from pictures of a camera that does not move; and where
a picture differs from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from headway.sensing.frames.sources import Picture

# ratio of slopes; pictures; share of the picture
HOLE_EDGES = 1.3
UPSET = 20
UPSET_SHARE = 0.6
# pictures until it learns slowly; then from each fourth
LEARNED = 30
EVERY = 4
# shares of such a picture that are learned where nothing is, and where something is
LEARNING = 0.12
FORGETTING = 0.00002
ALIKE = 14  # levels of a colour
# a shadow: no level below, shares of the light so far apart by colour; the level where all light is
# left
DARKEST = 12
SPREAD = 0.09
FULL = 192.0
Mask = NDArray[np.uint8]


@dataclass
class Background:
    """Of one stream. mean, shown: as it is known now, (height, width, 3); learned: from pictures
    all over a clip, before its first.
    """

    mean: NDArray[np.float32]
    shown: Picture
    noise: float = 6.0
    seen: int = 0
    upset: int = 0
    learned: bool = False
    shade: float = 0.55
    shades: NDArray[np.float64] = field(default_factory=lambda: np.zeros(64))

    @classmethod
    def begun(cls, image: Picture) -> Background:
        return cls(image.astype(np.float32), image.copy())

    @classmethod
    def of(cls, images: Sequence[Picture]) -> Background:
        """From pictures taken at other times: at each place what most of them show alike."""
        half = [
            np.asarray(
                cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8
            )
            for image in images
        ]
        support = np.zeros((len(half), *half[0].shape[:2]), np.min_scalar_type(len(half)))
        for k, one in enumerate(half):
            for m in range(k):
                alike = _alike(one, half[m])
                support[k] += alike
                support[m] += alike
        chosen = np.take_along_axis(np.array(half), support.argmax(0)[None, :, :, None], 0).squeeze(
            0
        )
        total = np.zeros(images[0].shape, np.float32)
        count = np.zeros(images[0].shape[:2], np.float32)
        for image, one in zip(images, half, strict=True):
            like = np.asarray(
                cv2.resize(_alike(one, chosen), count.shape[::-1], interpolation=cv2.INTER_NEAREST),
                np.uint8,
            )
            cv2.accumulate(image, total, like)
            count += like
        mean = np.asarray(
            total / count[:, :, None], np.float32
        )  # each place is alike in the picture that it was chosen from
        return cls(mean, cv2.convertScaleAbs(mean), seen=LEARNED, learned=True)

    def differing(self, image: Picture) -> tuple[Mask, Mask]:
        """Where something stands; and where anything differs, shadows too."""
        level = max(4.0 * self.noise, 12.0)
        colours = cv2.split(cv2.absdiff(image, self.shown))
        most = cv2.max(cv2.max(colours[0], colours[1]), colours[2])
        changed = np.asarray(cv2.threshold(most, level, 255, cv2.THRESH_BINARY)[1], np.uint8)
        mask = cv2.morphologyEx(
            self._lighten(image, changed), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)
        )
        self.upset = (
            self.upset + 1
            if self.seen > LEARNED and cv2.countNonZero(changed) > UPSET_SHARE * changed.size
            else 0
        )
        return np.asarray(
            cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)), np.uint8
        ), changed

    def take_in(self, image: Picture, changed: Mask) -> None:
        """Learn from a picture: quickly where nothing differs, hardly where something does."""
        self.seen += 1
        if self.seen > LEARNED and self.seen % EVERY:
            return
        rate = 1.0 / self.seen if self.seen <= LEARNED else LEARNING
        grown = cv2.dilate(changed, np.ones((5, 5), np.uint8))
        free = cv2.bitwise_not(grown)
        cv2.accumulateWeighted(image, self.mean, rate, free)
        cv2.accumulateWeighted(image, self.mean, FORGETTING, grown)
        if self.seen <= LEARNED or self.seen % 40 == 0:
            few = cv2.absdiff(image[::7, ::7], self.shown[::7, ::7])[free[::7, ::7] > 0]
            if len(few):
                self.noise = 0.9 * self.noise + 0.1 * float(np.median(few)) * 1.48
        self.shown = cv2.convertScaleAbs(self.mean)

    def is_hole(self, image: Picture, outline: Any) -> bool:
        """Whether it is the background that shows something here, and the street does not any more:
        then its outline is an edge there, not here.
        """
        return _slope(self.shown, outline) >= HOLE_EDGES * _slope(image, outline)

    def absorb(self, image: Picture, outline: Any) -> None:
        """What is seen there is the street from now on."""
        x0, y0, x1, y1 = _around(outline, image)
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.drawContours(mask, [outline], 0, 255, cv2.FILLED, offset=(-x0, -y0))
        mask = np.asarray(cv2.dilate(mask, np.ones((7, 7), np.uint8)), np.uint8)
        for to in (self.mean, self.shown):
            to[y0:y1, x0:x1][mask > 0] = image[y0:y1, x0:x1][mask > 0]

    def _lighten(self, image: Picture, mask: Mask) -> Mask:
        """The mask without shadows: all colours darker by one and the same share, which is the same
        all over the picture and learned from it.
        """
        colours = cv2.split(cv2.divide(image, np.maximum(self.shown, DARKEST), scale=FULL))
        most = cv2.max(cv2.max(colours[0], colours[1]), colours[2])
        least = cv2.min(cv2.min(colours[0], colours[1]), colours[2])
        share = cv2.addWeighted(
            cv2.addWeighted(colours[0], 0.5, colours[1], 0.5, 0.0),
            2.0 / 3.0,
            colours[2],
            1.0 / 3.0,
            0.0,
        )
        alike = cv2.threshold(cv2.subtract(most, least), SPREAD * FULL, 255, cv2.THRESH_BINARY_INV)[
            1
        ]
        even = cv2.bitwise_and(
            mask,
            cv2.bitwise_and(alike, cv2.threshold(share, 0.9 * FULL, 255, cv2.THRESH_BINARY_INV)[1]),
        )
        self.shades = (
            0.95 * self.shades + cv2.calcHist([share], [0], even, [64], [0.0, FULL]).ravel()
        )
        smooth = np.convolve(self.shades[16:54], [1.0, 2.0, 1.0], "same")
        self.shade = (int(smooth.argmax()) + 16.5) / 64.0
        dark = cv2.inRange(share, (self.shade - 0.045) * FULL, (self.shade + 0.045) * FULL)
        return np.asarray(cv2.subtract(mask, cv2.bitwise_and(dark, even)), np.uint8)


def _alike(a: Picture, b: Picture) -> Mask:
    """1 where two pictures show the same colour."""
    far = cv2.split(cv2.absdiff(a, b))
    return np.asarray(
        cv2.threshold(cv2.max(cv2.max(far[0], far[1]), far[2]), ALIKE, 1, cv2.THRESH_BINARY_INV)[1],
        np.uint8,
    )


def _slope(image: Picture, outline: Any) -> float:
    """How much of an edge a picture has along an outline."""
    x0, y0, x1, y1 = _around(outline, image)
    rim = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.drawContours(rim, [outline], 0, 255, 3, offset=(-x0, -y0))
    grey = cv2.cvtColor(image[y0:y1, x0:x1], cv2.COLOR_BGR2GRAY)
    return float(
        cv2.mean(
            cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)), rim
        )[0]
    )


def _around(outline: Any, image: Picture) -> tuple[int, int, int, int]:
    """Three pixels more than the outline to each side: left, top, right, bottom."""
    x, y, w, h = cv2.boundingRect(outline)
    return (
        max(x - 3, 0),
        max(y - 3, 0),
        min(x + w + 3, image.shape[1]),
        min(y + h + 3, image.shape[0]),
    )
