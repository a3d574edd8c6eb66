"""What the signal groups before a camera showed, as the controller reported it or as the lamps in
the image look.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from headway.roads.network import Colour
from headway.vision.frames.images import Image

LAMP_READINGS = 3  # frames with the same colour before a lamp is believed: reflections are shorter
STALE_S = 180.0  # a colour is unknown so long after the last report: no signal stays silent longer
KEPT_CHANGES = 400  # changes of each group kept at least: some hours, far more than any rule asks

# pixels of a lit lamp in OpenCV's HSV (0 to 179, 0 to 255, 0 to 255)
LIT_SATURATION = 100
LIT_VALUE = 130
LIT_SHARE = 0.03  # of the lamp's pixels that must be lit, or it is dark
AGREEING_SHARE = 0.6  # of the lit pixels that must have one colour


class SignalState(NamedTuple):
    """shown_s: seconds for which the group had shown the colour."""

    colour: int
    shown_s: float


@dataclass(slots=True)
class _LampReading:
    """The colour that a lamp has shown in the last `readings` frames."""

    colour: int
    since_s: float
    readings: int


class SignalHistory:
    """What each signal group showed, and since when. Late reports are put in order of time; once
    the controller has reported a group, readings of its lamp no longer count.
    """

    def __init__(self) -> None:
        self._reported: set[int] = set()
        self._last_report_s: dict[int, float] = defaultdict(lambda: -np.inf)
        self._lamps: dict[int, _LampReading] = {}
        self._times: dict[int, list[float]] = defaultdict(list)
        self._colours: dict[int, list[int]] = defaultdict(list)

    def record_lamp(self, at_s: float, group: int, colour: int) -> None:
        """What a frame shows of a lamp; believed after `LAMP_READINGS` equal readings."""
        lamp = self._lamps.get(group)
        if lamp is None or lamp.colour != colour:
            lamp = self._lamps[group] = _LampReading(colour, since_s=at_s, readings=0)
        lamp.readings += 1
        if lamp.readings >= LAMP_READINGS and group not in self._reported:
            self._add(lamp.since_s, group, colour)
            self._last_report_s[group] = at_s

    def record(self, at_s: float, group: int, colour: int) -> None:
        """What the controller reports."""
        self._reported.add(group)
        self._add(at_s, group, colour)

    def confirm(self, at_s: float) -> None:
        """The controller is still connected: what it reported last holds."""
        for group in self._reported:
            self._last_report_s[group] = max(self._last_report_s[group], at_s)

    def state_at(self, group: int, at_s: float) -> SignalState | None:
        """None where nothing is known of that time: no report yet, or none for `STALE_S`."""
        times = self._times[group]
        k = bisect.bisect_right(times, at_s) - 1
        if k < 0:
            return None
        if k == len(times) - 1 and at_s - self._last_report_s[group] > STALE_S:
            return None
        return SignalState(self._colours[group][k], at_s - times[k])

    def _add(self, at_s: float, group: int, colour: int) -> None:
        times, colours = self._times[group], self._colours[group]
        self._last_report_s[group] = max(self._last_report_s[group], at_s)
        k = bisect.bisect_right(times, at_s)
        if k > 0 and colours[k - 1] == colour:
            return
        times.insert(k, at_s)
        colours.insert(k, colour)
        if len(times) > 2 * KEPT_CHANGES:
            del times[:KEPT_CHANGES], colours[:KEPT_CHANGES]


def lamp_colour(image: Image, px: tuple[float, float, float, float]) -> Colour | None:
    """The colour of a lamp by the hue of its lit pixels; None where it is dark or they disagree.

    px: x, y, width, height of the lamp in the image.
    """
    x, y, w, h = (round(v) for v in px)
    part = image[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)]
    if part.size == 0:
        return None
    hsv = cv2.cvtColor(part, cv2.COLOR_BGR2HSV).reshape(-1, 3)
    lit = hsv[(hsv[:, 1] > LIT_SATURATION) & (hsv[:, 2] > LIT_VALUE)]
    if len(lit) < LIT_SHARE * len(hsv):
        return None
    hue = lit[:, 0].astype(np.int64)
    shares = {
        Colour.RED: ((hue < 12) | (hue > 168)).mean(),
        Colour.YELLOW: ((hue >= 14) & (hue < 36)).mean(),
        Colour.GREEN: ((hue >= 40) & (hue < 100)).mean(),
    }
    best = max(shares, key=lambda colour: float(shares[colour]))
    return best if shares[best] > AGREEING_SHARE else None
