"""A street that is filmed while it runs."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headway.plants.sumo import SumoPlant, SumoSettings
from headway.plants.sumo.plant import Scene
from headway.rendered.painter import Painter
from headway.roads import Network
from headway.sensing import SensingError
from headway.sensing.frames.sources import Picture
from headway.values import ColourArray, FloatArray

LANE_CHANGE_S = 2.0
JUMP_M = (1.5, 8.0)
# of SUMO's speed modes: only its own limits count
SPEEDER_FACTOR = 1.6
IGNORES_RED = 7
COLOUR_OF = {"r": 1, "s": 1, "u": 1, "y": 2, "g": 3, "G": 4, "O": 0, "o": 0}
Shot = Callable[[float, Picture, list[dict[str, Any]], ColourArray], None]


def filmed(settings: SumoSettings, rate_hz: float) -> SumoSettings:
    """The settings with a step for each picture. Raises SensingError for a rate that has no whole
    milliseconds.
    """
    step_ms = 1000.0 / rate_hz
    if not 1.0 <= rate_hz <= 50.0 or abs(step_ms - round(step_ms)) > 1e-9:
        raise SensingError(
            f"rate {rate_hz:g}: a picture must last whole milliseconds. Possible: 4, 5, 8, "
            "10, 12.5, 20, 25, 40."
        )
    return replace(settings, extra=(*settings.extra, "--step-length", f"{step_ms / 1000.0:g}"))


@dataclass
class Drift:
    """In the simulation a vehicle is in the next lane from one step to the next; before a camera it
    takes `LANE_CHANGE_S` over it, as drivers do.
    """

    step_s: float
    _at: dict[int, FloatArray] = field(default_factory=dict)
    _off: dict[int, tuple[FloatArray, float]] = field(
        default_factory=dict
    )  # how far it still is to the side, m, when it began; seconds left

    def smooth(self, scene: Scene) -> Scene:
        """The same scene, with who changes lanes on the way there. One call a step."""
        at = scene.at_m.astype(np.float64)
        angle = np.radians(scene.angle_deg.astype(np.float64))
        left = np.c_[-np.cos(angle), np.sin(angle)]
        before, self._at = self._at, dict(zip(scene.number.tolist(), at, strict=True))
        self._off = {
            n: (off, s - self.step_s)
            for n, (off, s) in self._off.items()
            if s > self.step_s and n in self._at
        }
        for k, number in enumerate(scene.number.tolist()):
            if number in before:
                aside = float((at[k] - before[number]) @ left[k])
                if JUMP_M[0] < abs(aside) < JUMP_M[1]:
                    self._off[number] = (self._still_off(number) - aside * left[k], LANE_CHANGE_S)
        shown = np.array(
            [at[k] + self._still_off(n) for k, n in enumerate(scene.number.tolist())], np.float32
        ).reshape(-1, 2)
        return replace(scene, at_m=shown)

    def _still_off(self, number: int) -> FloatArray:
        off, seconds = self._off.get(number, (np.zeros(2), 0.0))
        share = seconds / LANE_CHANGE_S
        return off * share * share * (3.0 - 2.0 * share)


class FilmedPlant(SumoPlant):
    """A street with cameras over it. cameras: of each its painter, and who takes its pictures, with
    the truth.

    violators: share of the vehicles that drive too fast, and the same share of those that do not
        heed red.
    """

    def __init__(
        self,
        settings: SumoSettings,
        network: Network,
        cameras: Sequence[tuple[Painter, Shot]],
        rate_hz: float,
        violators: float = 0.0,
    ) -> None:
        super().__init__(filmed(settings, rate_hz), network)
        self._cameras, self._violators = tuple(cameras), violators
        self._drift = Drift(1.0 / rate_hz)

    def advance(self, period_s: float) -> None:
        for _ in range(max(round(period_s / self._step_s), 1)):
            super().advance(self._step_s)
            if self._violators:
                self._spoil()
            shown = self.shown if self._started else self.programme_colours()
            scene = self._drift.smooth(self.scene())
            for painter, shot in self._cameras:
                shot(self.time_s, *painter.shoot(scene, shown), shown)

    def run_up(self, seconds: float) -> None:
        """Go on without the camera."""
        for _ in range(round(seconds / self._step_s)):
            super().advance(self._step_s)
            if self._violators:
                self._spoil()

    def programme_colours(self) -> ColourArray:
        """What SUMO itself shows, (groups,), where nobody steers it."""
        state = {
            tl: self._sumo.trafficlight.getRedYellowGreenState(tl)
            for tl in {g.tl_id for g in self._network.groups}
        }
        return np.array(
            [COLOUR_OF.get(state[g.tl_id][g.index], 1) for g in self._network.groups], np.int8
        )

    def _spoil(self) -> None:
        vehicle = self._sumo.vehicle
        for name in self._sumo.simulation.getDepartedIDList():
            draw = np.random.default_rng((self._settings.seed, zlib.crc32(name.encode()))).random()
            if draw < self._violators:
                vehicle.setSpeedFactor(name, SPEEDER_FACTOR)
            elif draw < 2.0 * self._violators:
                vehicle.setSpeedMode(name, IGNORES_RED)
