"""A street that is filmed while it runs."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headway.plants.sumo import Scene, SumoPlant, SumoSettings
from headway.rendered.painter import Painter
from headway.roads import Network
from headway.roads.network import Colour
from headway.sensing import SensingError
from headway.values import ColourArray, FloatArray
from headway.vision.frames.images import Image

LANE_CHANGE_S = 2.0  # s that a driver takes for a change of lanes
# m to the side in one step: less is within the lane, more is another street
LEAST_JUMP_M = 1.5
LARGEST_JUMP_M = 8.0
SPEEDER_FACTOR = 1.6  # times the speed limit
IGNORES_RED = 7  # SUMO's speed mode in which only safe speed and its limits of acceleration count
LEAST_RATE_HZ = 1.0
HIGHEST_RATE_HZ = 50.0
COLOUR_OF = {
    "r": Colour.RED,
    "s": Colour.RED,
    "u": Colour.RED,
    "y": Colour.YELLOW,
    "g": Colour.PERMISSIVE,
    "G": Colour.GREEN,
    "O": Colour.DARK,
    "o": Colour.DARK,
}
# called with time (s), image, ground truth and the colours shown
FrameListener = Callable[[float, Image, list[dict[str, Any]], ColourArray], None]


def with_frame_steps(settings: SumoSettings, rate_hz: float) -> SumoSettings:
    """The settings with a step for each frame. Raises SensingError for a rate that has no whole
    milliseconds.
    """
    step_ms = 1000.0 / rate_hz
    if not LEAST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ or abs(step_ms - round(step_ms)) > 1e-9:
        raise SensingError(
            f"rate {rate_hz:g}: a frame must last whole milliseconds. Possible: 4, 5, 8, "
            "10, 12.5, 20, 25, 40."
        )
    return replace(settings, extra=(*settings.extra, "--step-length", f"{step_ms / 1000.0:g}"))


@dataclass
class LaneChangeSmoother:
    """In the simulation a vehicle is in the next lane from one step to the next; before a camera it
    takes `LANE_CHANGE_S` over it, as drivers do.
    """

    step_s: float
    _places: dict[int, FloatArray] = field(default_factory=dict)
    # by vehicle: how far to the side it still was when it began, m; seconds left
    _changes: dict[int, tuple[FloatArray, float]] = field(default_factory=dict)

    def smooth(self, scene: Scene) -> Scene:
        """The same scene, with vehicles that change lanes on the way there. One call a step."""
        numbers = scene.number.tolist()
        places = scene.at_m.astype(np.float64)
        before, self._places = self._places, dict(zip(numbers, places, strict=True))
        self._changes = {
            number: (offset_m, left_s - self.step_s)
            for number, (offset_m, left_s) in self._changes.items()
            if left_s > self.step_s and number in self._places
        }

        angle = np.radians(scene.angle_deg.astype(np.float64))
        left = np.c_[-np.cos(angle), np.sin(angle)]
        for k, number in enumerate(numbers):
            if number in before:
                aside_m = float((places[k] - before[number]) @ left[k])
                if LEAST_JUMP_M < abs(aside_m) < LARGEST_JUMP_M:
                    offset_m = self._offset_m(number) - aside_m * left[k]
                    self._changes[number] = (offset_m, LANE_CHANGE_S)
        shown = [places[k] + self._offset_m(number) for k, number in enumerate(numbers)]
        return replace(scene, at_m=np.array(shown, np.float32).reshape(-1, 2))

    def _offset_m(self, number: int) -> FloatArray:
        """(2,), from its place in the simulation: smooth at both ends of the change."""
        offset_m, left_s = self._changes.get(number, (np.zeros(2), 0.0))
        share = left_s / LANE_CHANGE_S
        return offset_m * share * share * (3.0 - 2.0 * share)


class FilmedPlant(SumoPlant):
    """A street with cameras over it.

    cameras:   of each its painter, and the listener for its frames and their ground truth.
    violators: share of the vehicles that drive too fast, and the same share of those that do not
        heed red.
    """

    def __init__(
        self,
        settings: SumoSettings,
        network: Network,
        cameras: Sequence[tuple[Painter, FrameListener]],
        rate_hz: float,
        violators: float = 0.0,
    ) -> None:
        super().__init__(with_frame_steps(settings, rate_hz), network)
        self._cameras = tuple(cameras)
        self._violators = violators
        self._smoother = LaneChangeSmoother(1.0 / rate_hz)

    def advance(self, period_s: float) -> None:
        for _ in range(max(round(period_s / self._step_s), 1)):
            self._step()
            shown = self.shown if self._started else self.programme_colours()
            scene = self._smoother.smooth(self.scene())
            for painter, listener in self._cameras:
                image, ground_truth = painter.render(scene, shown)
                listener(self.time_s, image, ground_truth, shown)

    def warm_up(self, seconds: float) -> None:
        """Go on without the cameras."""
        for _ in range(round(seconds / self._step_s)):
            self._step()

    def _step(self) -> None:
        """One frame's time."""
        super().advance(self._step_s)
        if self._violators:
            self._make_violators()

    def programme_colours(self) -> ColourArray:
        """What SUMO itself shows, (groups,), without external control."""
        state = {
            tl: self._sumo.trafficlight.getRedYellowGreenState(tl)
            for tl in {g.tl_id for g in self._network.groups}
        }
        return np.array(
            [COLOUR_OF.get(state[g.tl_id][g.index], Colour.RED) for g in self._network.groups],
            np.int8,
        )

    def _make_violators(self) -> None:
        """Of the vehicles that have just departed; by their names, so that runs repeat."""
        vehicle = self._sumo.vehicle
        for name in self._sumo.simulation.getDepartedIDList():
            draw = np.random.default_rng((self._settings.seed, zlib.crc32(name.encode()))).random()
            if draw < self._violators:
                vehicle.setSpeedFactor(name, SPEEDER_FACTOR)
            elif draw < 2.0 * self._violators:
                vehicle.setSpeedMode(name, IGNORES_RED)
