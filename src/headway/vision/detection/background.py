"""The empty street, learned from images of a camera that does not move; and where
an image differs from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from headway.vision.frames.images import Image

Mask = NDArray[np.uint8]  # (height, width), 0 or 255

# What counts as a difference. Levels are of a colour channel, 0 to 255.
NOISE_FACTOR = 4.0  # times the noise: a pixel in 16,000 of normal noise
LEAST_DIFFERENCE = 12.0  # levels; compression alone makes fewer
FIRST_NOISE = 6.0  # levels, before any noise is measured
ALIKE = 14  # levels; images that are taken at other times and closer than that show the same

# When the whole image has changed
UPSET = 20  # images in a row of which most differs, then detection begins anew: more than a flash
UPSET_SHARE = 0.6  # of the image that differs

# How fast it learns
LEARNED = 30  # images that count alike; from then on it learns slowly
EVERY = 4  # from then on it learns from every fourth image only: quick enough, and cheaper
LEARNING_RATE = 0.12  # of such an image, where nothing is
OCCUPIED_RATE = 0.00002  # the same, where something is: a vehicle in a queue must not fade in
NOISE_EVERY = 40  # images between measurements of the noise, once it has learned
NOISE_STEP = 7  # px; the noise is measured on every seventh pixel each way
NOISE_RATE = 0.1  # of the newest measurement
MAD_TO_SIGMA = 1.48  # standard deviation over median absolute deviation, of a normal distribution

# Shadows. Light is what an image has of the background's, `FULL_LIGHT` where it has all.
FULL_LIGHT = 192.0  # levels: leaves room above for what is lighter than the background
DARKEST = 12  # levels; a darker background is all noise, and is taken as this light
COLOUR_SPREAD = 0.09  # share of the light by which a shadow's colours may differ
LEAST_SHADOW = 0.9  # share of the light above which nothing is a shadow
SHADE_BINS = 64  # bins of the histogram of shadows
SHADE_RANGE = slice(16, 54)  # bins that may be the shadows' light: a quarter to five sixths
SHADE_MEMORY = 0.95  # of the histogram that is kept from image to image
SHADE_HALF_WIDTH = 0.045  # share of the light to each side of the shadows' that is a shadow, too
FIRST_SHADE = 0.55  # share of the light in a shadow, before any is observed

# Outlines
HOLE_EDGES = 1.3  # ratio of slopes from which an edge is the background's
RIM_PX = 3  # px, thickness of an outline, and room around it


@dataclass
class Background:
    """Of one stream.

    mean:    (height, width, 3), float: the background as it is known now.
    shown:   the same as an image.
    noise:   standard deviation of an image where nothing is, levels.
    images:  how many it has learned from.
    upset:   images in a row that differed over most of their area.
    learned: whether it is known from images all over a clip, before its first.
    shade:   share of the light in a shadow; shades: histogram of what looked like shadows.
    """

    mean: NDArray[np.float32]
    shown: Image
    noise: float = FIRST_NOISE
    images: int = 0
    upset: int = 0
    learned: bool = False
    shade: float = FIRST_SHADE
    shades: NDArray[np.float64] = field(default_factory=lambda: np.zeros(SHADE_BINS))

    @classmethod
    def from_first_image(cls, image: Image) -> Background:
        """As if the first image showed an empty street."""
        return cls(image.astype(np.float32), image.copy())

    @classmethod
    def from_images(cls, images: Sequence[Image]) -> Background:
        """From images of one size taken at other times: at each place the mean of what most show.

        What most show is determined at half the size.
        """
        halves = [_resized(image, 0.5) for image in images]
        typical = _most_supported(halves)

        total = np.zeros(images[0].shape, np.float32)
        count = np.zeros(images[0].shape[:2], np.float32)
        for image, half in zip(images, halves, strict=True):
            alike = cv2.resize(
                _alike(half, typical), count.shape[::-1], interpolation=cv2.INTER_NEAREST
            )
            cv2.accumulate(image, total, np.asarray(alike, np.uint8))
            count += alike
        # count > 0: at each place the image that it was chosen from is alike
        mean = np.asarray(total / count[:, :, None], np.float32)
        return cls(mean, cv2.convertScaleAbs(mean), images=LEARNED, learned=True)

    def compare(self, image: Image) -> tuple[Mask, Mask]:
        """Where something is (the foreground); and where anything differs, shadows too."""
        level = max(NOISE_FACTOR * self.noise, LEAST_DIFFERENCE)
        difference = _brightest(cv2.split(cv2.absdiff(image, self.shown)))
        changed = np.asarray(cv2.threshold(difference, level, 255, cv2.THRESH_BINARY)[1], np.uint8)
        self._count_upset(changed)

        mask = self._without_shadows(image, changed)
        mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _square(3)), np.uint8)
        return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, _square(5)), np.uint8), changed

    def _count_upset(self, changed: Mask) -> None:
        most = cv2.countNonZero(changed) > UPSET_SHARE * changed.size
        self.upset = self.upset + 1 if self.images > LEARNED and most else 0

    def learn(self, image: Image, changed: Mask) -> None:
        """Learn from an image: quickly where nothing differs, hardly where something does."""
        self.images += 1
        if self.images > LEARNED and self.images % EVERY:
            return
        rate = 1.0 / self.images if self.images <= LEARNED else LEARNING_RATE
        occupied = np.asarray(cv2.dilate(changed, _square(5)), np.uint8)
        free = np.asarray(cv2.bitwise_not(occupied), np.uint8)
        cv2.accumulateWeighted(image, self.mean, rate, free)
        cv2.accumulateWeighted(image, self.mean, OCCUPIED_RATE, occupied)
        if self.images <= LEARNED or self.images % NOISE_EVERY == 0:
            self._measure_noise(image, free)
        self.shown = cv2.convertScaleAbs(self.mean)

    def _measure_noise(self, image: Image, free: Mask) -> None:
        grid = (slice(None, None, NOISE_STEP), slice(None, None, NOISE_STEP))
        differences = cv2.absdiff(image[grid], self.shown[grid])[free[grid] > 0]
        if len(differences):
            measured = NOISE_RATE * float(np.median(differences)) * MAD_TO_SIGMA
            self.noise = (1.0 - NOISE_RATE) * self.noise + measured

    def is_hole(self, image: Image, outline: Any) -> bool:
        """Whether it is the background that shows something here, and the street does not any more:
        then its outline is an edge there, not here.
        """
        return edge_slope(self.shown, outline) >= HOLE_EDGES * edge_slope(image, outline)

    def absorb(self, image: Image, outline: Any) -> None:
        """What the image shows within the outline is background from now on."""
        x0, y0, x1, y1 = surroundings(outline, image)
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.drawContours(mask, [outline], 0, 255, cv2.FILLED, offset=(-x0, -y0))
        inside = np.asarray(cv2.dilate(mask, _square(2 * RIM_PX + 1)), np.uint8) > 0
        for known in (self.mean, self.shown):
            known[y0:y1, x0:x1][inside] = image[y0:y1, x0:x1][inside]

    def _without_shadows(self, image: Image, mask: Mask) -> Mask:
        """The mask without what is darker in all colours by one and the same share, which is the
        same all over the image and learned from it.
        """
        light, alike = self.light(image)
        dark = cv2.threshold(light, LEAST_SHADOW * FULL_LIGHT, 255, cv2.THRESH_BINARY_INV)[1]
        even = np.asarray(cv2.bitwise_and(mask, cv2.bitwise_and(alike, dark)), np.uint8)
        self.learn_shade(light, even)
        low = (self.shade - SHADE_HALF_WIDTH) * FULL_LIGHT
        high = (self.shade + SHADE_HALF_WIDTH) * FULL_LIGHT
        shadow = cv2.bitwise_and(cv2.inRange(light, low, high), even)
        return np.asarray(cv2.subtract(mask, shadow), np.uint8)

    def light(self, image: Image) -> tuple[NDArray[np.uint8], Mask]:
        """How much of the background's light each pixel has (`FULL_LIGHT`: all), the mean of its
        colours; and where all colours have about the same.
        """
        colours = cv2.split(cv2.divide(image, np.maximum(self.shown, DARKEST), scale=FULL_LIGHT))
        spread = cv2.subtract(_brightest(colours), _darkest(colours))
        alike = cv2.threshold(spread, COLOUR_SPREAD * FULL_LIGHT, 255, cv2.THRESH_BINARY_INV)[1]
        blue_green = cv2.addWeighted(colours[0], 0.5, colours[1], 0.5, 0.0)
        mean = cv2.addWeighted(blue_green, 2.0 / 3.0, colours[2], 1.0 / 3.0, 0.0)
        return np.asarray(mean, np.uint8), np.asarray(alike, np.uint8)

    def learn_shade(self, light: NDArray[np.uint8], mask: Mask) -> None:
        """Shadows have the light that is most frequent in the mask, in this image and of late."""
        counts = cv2.calcHist([light], [0], mask, [SHADE_BINS], [0.0, FULL_LIGHT]).ravel()
        self.shades = SHADE_MEMORY * self.shades + counts
        smooth = np.convolve(self.shades[SHADE_RANGE], [1.0, 2.0, 1.0], "same")
        self.shade = (int(smooth.argmax()) + SHADE_RANGE.start + 0.5) / SHADE_BINS


def edge_slope(image: Image, outline: Any) -> float:
    """How much of an edge an image has along an outline: mean magnitude of its gradient there
    (Sobel, 3 by 3).
    """
    x0, y0, x1, y1 = surroundings(outline, image)
    rim = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.drawContours(rim, [outline], 0, 255, RIM_PX, offset=(-x0, -y0))
    grey = cv2.cvtColor(image[y0:y1, x0:x1], cv2.COLOR_BGR2GRAY)
    slope = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return float(cv2.mean(slope, rim)[0])


def surroundings(outline: Any, image: Image) -> tuple[int, int, int, int]:
    """The outline's box with `RIM_PX` more to each side, within the image: left, top, right,
    bottom.
    """
    x, y, width, height = cv2.boundingRect(outline)
    return (
        max(x - RIM_PX, 0),
        max(y - RIM_PX, 0),
        min(x + width + RIM_PX, image.shape[1]),
        min(y + height + RIM_PX, image.shape[0]),
    )


def _most_supported(images: Sequence[Image]) -> Image:
    """At each place the image that most others are like."""
    support = np.zeros((len(images), *images[0].shape[:2]), np.min_scalar_type(len(images)))
    for k, image in enumerate(images):
        for other in range(k):
            alike = _alike(image, images[other])
            support[k] += alike
            support[other] += alike
    best = support.argmax(0)[None, :, :, None]
    return np.asarray(np.take_along_axis(np.array(images), best, 0).squeeze(0), np.uint8)


def _alike(a: Image, b: Image) -> Mask:
    """1 where two images show the same colour."""
    difference = _brightest(cv2.split(cv2.absdiff(a, b)))
    return np.asarray(cv2.threshold(difference, ALIKE, 1, cv2.THRESH_BINARY_INV)[1], np.uint8)


def _brightest(colours: Sequence[Any]) -> Any:
    return cv2.max(cv2.max(colours[0], colours[1]), colours[2])


def _darkest(colours: Sequence[Any]) -> Any:
    return cv2.min(cv2.min(colours[0], colours[1]), colours[2])


def _resized(image: Image, scale: float) -> Image:
    return np.asarray(
        cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
    )


def _square(side: int) -> Mask:
    return np.ones((side, side), np.uint8)
