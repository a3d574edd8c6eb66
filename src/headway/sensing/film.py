"""A street that is filmed while it runs: for clips with their truth, and for engines that see through a camera alone."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headway.plants.sumo import SumoPlant, SumoSettings
from headway.plants.sumo.plant import Scene
from headway.plants.sumo.profiles import likely_links
from headway.roads import Network, read_shapes
from headway.sensing import SensingError, need_vision
from headway.sensing.detect import Detector
from headway.sensing.motion import MotionDetector
from headway.sensing.pipeline import Perception
from headway.sensing.rendered import Painter, site_file, view_of
from headway.sensing.site import Site
from headway.sensing.sources import Frame, Picture
from headway.sensing.tracks import Track
from headway.values import ColourArray, FloatArray, Observation, Vehicles

LANE_CHANGE_S, JUMP_M = 2.0, (1.5, 8.0)
SPEEDER_FACTOR, IGNORES_RED = 1.6, 7  # of SUMO's speed modes: only its own limits count
COLOUR_OF = {"r": 1, "s": 1, "u": 1, "y": 2, "g": 3, "G": 4, "O": 0, "o": 0}
Shot = Callable[[float, Picture, list[dict[str, Any]], ColourArray], None]


def filmed(settings: SumoSettings, rate_hz: float) -> SumoSettings:
    """The settings with a step for each picture. Raises SensingError for a rate that has no whole milliseconds."""
    step_ms = 1000.0 / rate_hz
    if not 1.0 <= rate_hz <= 50.0 or abs(step_ms - round(step_ms)) > 1e-9:
        raise SensingError(f"rate {rate_hz:g}: a picture must last whole milliseconds. Possible: 4, 5, 8, 10, 12.5, 20, 25, 40.")
    return replace(settings, extra=(*settings.extra, "--step-length", f"{step_ms / 1000.0:g}"))


@dataclass
class Drift:
    """In the simulation a vehicle is in the next lane from one step to the next; before a camera it takes `LANE_CHANGE_S` over it, as drivers do."""

    step_s: float
    _at: dict[int, FloatArray] = field(default_factory=dict)
    _off: dict[int, tuple[FloatArray, float]] = field(default_factory=dict)  # how far it still is to the side, m, when it began; seconds left

    def smooth(self, scene: Scene) -> Scene:
        """The same scene, with who changes lanes on the way there. One call a step."""
        at = scene.at_m.astype(np.float64)
        angle = np.radians(scene.angle_deg.astype(np.float64))
        left = np.c_[-np.cos(angle), np.sin(angle)]
        before, self._at = self._at, dict(zip(scene.number.tolist(), at, strict=True))
        self._off = {n: (off, s - self.step_s) for n, (off, s) in self._off.items() if s > self.step_s and n in self._at}
        for k, number in enumerate(scene.number.tolist()):
            if number in before:
                aside = float((at[k] - before[number]) @ left[k])
                if JUMP_M[0] < abs(aside) < JUMP_M[1]:
                    self._off[number] = (self._still_off(number) - aside * left[k], LANE_CHANGE_S)
        shown = np.array([at[k] + self._still_off(n) for k, n in enumerate(scene.number.tolist())], np.float32).reshape(-1, 2)
        return replace(scene, at_m=shown)

    def _still_off(self, number: int) -> FloatArray:
        off, seconds = self._off.get(number, (np.zeros(2), 0.0))
        share = seconds / LANE_CHANGE_S
        return off * share * share * (3.0 - 2.0 * share)


class FilmedPlant(SumoPlant):
    """A street with a camera over one junction. shot: takes each picture, with the truth.

    violators: share of the vehicles that drive too fast, and the same share of those that do not heed red.
    """

    def __init__(self, settings: SumoSettings, network: Network, painter: Painter, rate_hz: float, shot: Shot, violators: float = 0.0) -> None:
        super().__init__(filmed(settings, rate_hz), network)
        self.painter, self._shot, self._violators = painter, shot, violators
        self._drift = Drift(1.0 / rate_hz)

    def advance(self, period_s: float) -> None:
        for _ in range(max(round(period_s / self._step_s), 1)):
            super().advance(self._step_s)
            if self._violators:
                self._spoil()
            shown = self.shown if self._started else self.programme_colours()
            image, truth = self.painter.shoot(self._drift.smooth(self.scene()), shown)
            self._shot(self.time_s, image, truth, shown)

    def run_up(self, seconds: float) -> None:
        """Go on without the camera."""
        for _ in range(round(seconds / self._step_s)):
            super().advance(self._step_s)
            if self._violators:
                self._spoil()

    def programme_colours(self) -> ColourArray:
        """What SUMO itself shows, (groups,), where nobody steers it."""
        state = {tl: self._sumo.trafficlight.getRedYellowGreenState(tl) for tl in {g.tl_id for g in self._network.groups}}
        return np.array([COLOUR_OF.get(state[g.tl_id][g.index], 1) for g in self._network.groups], np.int8)

    def _spoil(self) -> None:
        vehicle = self._sumo.vehicle
        for name in self._sumo.simulation.getDepartedIDList():
            draw = np.random.default_rng((self._settings.seed, zlib.crc32(name.encode()))).random()
            if draw < self._violators:
                vehicle.setSpeedFactor(name, SPEEDER_FACTOR)
            elif draw < 2.0 * self._violators:
                vehicle.setSpeedMode(name, IGNORES_RED)


class SeeingPlant(FilmedPlant):
    """A street of which the engine knows only what a camera over each of its junctions shows: no shortcut to the simulation."""

    def __init__(self, settings: SumoSettings, network: Network, rate_hz: float = 5.0, detector: Detector | None = None) -> None:
        need_vision()
        if len(network.junctions) != 1:
            raise SensingError(f"sensing through pictures is for streets of one junction; this one has {len(network.junctions)}.")
        shapes = read_shapes(network)
        painter = Painter(view_of(network, shapes, 0, reach_m=80.0, height_m=90.0), network, shapes, settings.seed)
        super().__init__(replace(settings, sensing="connected"), network, painter, rate_hz, self._look)
        self._detector = detector or MotionDetector(work_width=1280)
        self.site = Site.of(site_file(painter, 0))
        self._perception = Perception("camera", self.site, rate_hz)
        self._tracks: list[Track] = []
        self._lanes = _Lanes(network, shapes, painter)
        self._likely, self._met = likely_links(network), set[int]()

    def _look(self, at_s: float, image: Picture, truth: list[dict[str, Any]], shown: ColourArray) -> None:
        frame = Frame(at_s, 0, image)
        self._tracks = self._perception.look(frame, self._detector.begin("camera", image).result()).tracks

    def observe(self) -> Observation:
        plain = super().observe()  # for the signals, the pedestrians' buttons and the clock; not one vehicle of it is used
        rows = [(t, *self._lanes.place(t)) for t in self._tracks if not t.coasting]
        rows = [r for r in rows if r[1] >= 0 and r[2] > -3.0]
        tracks = [r[0] for r in rows]
        lane = np.array([r[1] for r in rows], np.int32)
        link = self._likely[lane] if len(rows) else np.zeros(0, np.int32)
        arrived, count = np.zeros_like(plain.arrived), np.zeros_like(plain.count)
        for t, of, at in zip(tracks, link.tolist(), lane.tolist(), strict=True):
            count[at] += 1
            if t.id not in self._met and of >= 0:
                self._met.add(t.id)
                arrived[of] += 1
        self._met.intersection_update(self._perception.follower.tracks)
        speed = np.array([0.0 if np.isnan(t.speed_mps) else t.speed_mps for t in tracks])
        vehicles = Vehicles(
            lane, link, np.maximum(np.array([r[2] for r in rows], np.float64), 0.0), speed, np.array([t.standing_s for t in tracks], np.float64),
            np.array([float(np.nan_to_num(t.length_m, nan=4.5)) + 2.5 for t in tracks]), np.zeros(len(rows), np.bool_),
        )  # fmt: skip
        return replace(
            plain,
            vehicles=vehicles,
            room_m=np.full_like(plain.room_m, np.inf),
            count=count,
            arrived=arrived,
            emergencies=(),
            source="camera",
            links_known=False,
        )


class _Lanes:
    """The approach lanes in the picture, to find a track's lane and its way to the stop line."""

    def __init__(self, network: Network, shapes: Any, painter: Painter) -> None:
        signalled = {x.from_lane for x in network.links if x.group >= 0}
        self._shapes = [
            (network.lane_index[name], wide, np.array(points)) for name, wide, points in shapes.lanes if network.lane_index.get(name) in signalled
        ]

    def place(self, track: Track) -> tuple[int, float]:
        """(lane, metres from its front to the stop line), or (-1, 0)."""
        at = np.array(track.road[-1])
        best, found = 2.2, (-1, 0.0)
        for lane, _, shape in self._shapes:
            apart, left, ahead = _along(shape, at)
            moving = np.isfinite(track.speed_mps) and track.speed_mps > 1.5
            if moving and float(np.dot(track.velocity, ahead)) < 0.3 * track.speed_mps:
                continue
            if apart < best:
                best, found = apart, (lane, left - float(np.nan_to_num(track.length_m, nan=4.5)) / 2.0)
        return found


def _along(shape: FloatArray, at: FloatArray) -> tuple[float, float, FloatArray]:
    """(distance from a line, metres left along it, direction there)."""
    a, b = shape[:-1], shape[1:]
    way = b - a
    length = np.maximum(np.linalg.norm(way, axis=1), 1e-9)
    share = np.clip(np.einsum("ij,ij->i", at - a, way) / length**2, 0.0, 1.0)
    apart = np.linalg.norm(a + way * share[:, None] - at, axis=1)
    k = int(apart.argmin())
    left = float(length[k] * (1.0 - share[k]) + length[k + 1 :].sum())
    beyond = float((at - shape[-1]) @ way[-1] / length[-1])
    return float(apart[k]), -beyond if beyond > 0.0 else left, way[k] / length[k]
