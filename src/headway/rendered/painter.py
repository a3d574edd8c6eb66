"""A camera over a simulated street: its image, frame by frame, and the ground truth."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from headway.plants.sumo import Scene
from headway.plants.sumo.network import Shapes
from headway.rendered.view import View, ribbon
from headway.roads import Network
from headway.roads.network import Kind
from headway.values import ColourArray, FloatArray
from headway.vision.frames.images import Image

# By the kinds of a Scene: car, bus, truck, bicycle, tram, emergency vehicle
CAR, BUS, BICYCLE, EMERGENCY = 0, 1, 3, 5
WIDTH_M = (1.8, 2.5, 2.4, 0.7, 2.6, 2.2)
HEIGHT_M = (1.5, 3.2, 3.2, 1.7, 3.4, 2.4)
GROUND_TRUTH_CLASS = ("car", "bus", "truck", "bicycle", "bus", "truck")

# Colours: blue, green, red
BgrColour = tuple[int, int, int]
PAINTS = np.array(
    [
        (235, 235, 235),
        (190, 192, 195),
        (60, 58, 56),
        (45, 45, 170),
        (150, 70, 35),
        (120, 125, 130),
        (40, 90, 40),
        (60, 150, 200),
    ],
    np.float64,
)
BUS_PAINT = np.array((40.0, 60.0, 200.0))
ASPHALT = (92, 94, 96)
GRASS = (70, 104, 84)
PAVEMENT = (128, 132, 136)
STOP_LINE = (205, 208, 210)
LANE_EDGE = (150, 152, 154)
GLASS = (60, 50, 45)
SKIRT = (28, 28, 28)
HEADLAMP = (235, 245, 245)
REAR_LAMP = (60, 60, 215)
WHITE = (255, 255, 255)
LAMP_HOUSING = (25, 25, 25)
BLUE_LIGHT = (255, 40, 0)
RAIN = (170, 170, 170)
LAMPS = {0: (30, 30, 30), 1: (40, 40, 255), 2: (40, 200, 255), 3: (90, 220, 60), 4: (90, 220, 60)}
LAMPS |= {-1: LAMPS[1], -2: LAMPS[2]}  # flashing ones, while they are lit

# Light
SUN = np.array([0.45, 0.3, 0.84])  # unit vector towards it
IN_SHADOW = (np.arange(256) * 0.55).astype(np.uint8)  # of a level in the sun
LEAST_LIGHT = 0.45  # on a side in shadow, of the paint
SUN_LIGHT = 0.35  # more on a side that faces the sun
NIGHT_LIGHT = 0.45
RAIN_STREAKS = 150  # in a frame

LAMP_M = 0.35  # diameter of a signal's lamp, with its glow
LAMP_HEIGHT_M = 5.5  # over the road
PEDESTRIAN_LAMP_HEIGHT_M = 2.5
LAMP_AHEAD_M = 1.5  # beyond the stop line
LAMP_ASIDE_M = 1.9  # to the right of the lane's middle
LEAST_LAMP_PX = 1.5
HEADLIGHT_HEIGHT_M = 0.6
HEADLIGHT_M = 0.2
STOP_LINE_M = 0.4  # its thickness
STOP_LINE_HALF_M = 1.5  # half its length

# A box's faces by its corners (see `_corners`), and what is on them, as shares of width and height:
# left, right, low, high, colour
FACES = (("front", 0, 1), ("side", 1, 2), ("rear", 2, 3), ("side", 3, 0))
SKIRT_AND_WINDOWS = ((0.0, 1.0, 0.0, 0.18, SKIRT), (0.1, 0.9, 0.58, 0.9, GLASS))
LAMP_PARTS = ((0.03, 0.25, 0.36, 0.52), (0.75, 0.97, 0.36, 0.52))
LIGHT_BAR = (0.3, 0.42)  # of an ambulance, with its blue lights
ROOF_WINDOWS = ((0.22, 0.38), (0.82, 0.92))  # of a car or an ambulance, shares of its length

SUBPIXEL = 4  # bits of a pixel's fraction in what is drawn


@dataclass
class Painter:
    """Draws the street. night, rain: how it looks then. seed: of road and rain. noise: of the
    sensor, levels.

    lamps_px: (groups, 2), where each signal's lamp is. lamp_px: (groups,), its radius, pixels.
    """

    view: View
    network: Network
    shapes: Shapes
    seed: int = 0
    night: bool = False
    rain: bool = False
    noise: float = 4.0
    _empty: Image = field(init=False)
    _grain: list[NDArray[np.int16]] = field(init=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        self._empty = self._street(random)
        self._grain = _grain(self.view.size, self.noise)
        self._shots = 0
        lamps_m = np.array(self._lamps_m())
        self.lamps_px = self.view.project(lamps_m)
        away_m = np.linalg.norm(lamps_m - np.array(self.view.at_m), axis=1)
        self.lamp_px = np.maximum(LAMP_M * self.view.focal_px / away_m, LEAST_LAMP_PX)

    def _lamps_m(self) -> list[tuple[float, float, float]]:
        """Beyond each stop line, to its right, above the road."""
        lamps = []
        for (x, y, angle), group in zip(self.shapes.signals, self.network.groups, strict=True):
            a = np.radians(90.0 - angle)
            pedestrian = group.kind == Kind.PEDESTRIAN
            lamps.append(
                (
                    x + LAMP_AHEAD_M * np.cos(a) + LAMP_ASIDE_M * np.sin(a),
                    y + LAMP_AHEAD_M * np.sin(a) - LAMP_ASIDE_M * np.cos(a),
                    PEDESTRIAN_LAMP_HEIGHT_M if pedestrian else LAMP_HEIGHT_M,
                )
            )
        return lamps

    def render(self, scene: Scene, shown: ColourArray) -> tuple[Image, list[dict[str, Any]]]:
        """The image, BGR, and the ground truth of each vehicle in it: number, class, box,
        visible_share (not hidden), x, y, speed_mps. shown: (groups,), the signals' colours.
        """
        image, scene = self._empty.copy(), self._about(scene)
        boxes = [self._corners(scene, k) for k in range(len(scene.number))]
        visible = [k for k in range(len(boxes)) if self._is_visible(boxes[k])]
        if not self.night:
            self._shadows(image, [boxes[k] for k in visible])

        # the farthest first; ids: the row of the vehicle that each pixel shows, from 1
        ids = np.zeros(image.shape[:2], np.float32)
        camera = np.array(self.view.at_m)
        for k in sorted(visible, key=lambda k: -float(np.linalg.norm(boxes[k].mean(0) - camera))):
            self._vehicle(image, boxes[k], scene, k)
            self._fill(ids, self._hull(boxes[k]), float(k + 1))

        for group, (x, y) in enumerate(self.lamps_px):
            if np.isfinite(x) and -50 < x < image.shape[1] + 50 and -50 < y < image.shape[0] + 50:
                self._lamp(image, (x, y), float(self.lamp_px[group]), int(shown[group]))
        return self._weather(image), self._ground_truth(scene, boxes, visible, ids)

    def _shadows(self, image: Image, boxes: list[FloatArray]) -> None:
        dark = np.zeros(image.shape[:2], np.uint8)
        for box in boxes:
            outline = cv2.convexHull(self._shadow(box).astype(np.float32))[:, 0]
            self._fill(dark, outline, 255)
        cv2.copyTo(cv2.LUT(image, IN_SHADOW), dark, image)

    def _about(self, scene: Scene) -> Scene:
        """The vehicles that may be in the image."""
        px, room = self.view.ground(scene.at_m.astype(np.float64)), np.array(self.view.size) / 2.0
        # one that is just behind the camera (nan) may reach into it
        rows = np.flatnonzero(~(np.abs(px - room) > 3.0 * room).any(1))
        return Scene(*(getattr(scene, f.name)[rows] for f in fields(Scene)))

    def _corners(self, scene: Scene, k: int) -> FloatArray:
        """(8, 3): front right, front left, rear left, rear right, on the road and above."""
        a, kind = np.radians(float(scene.angle_deg[k])), int(scene.kind[k])
        ahead, left = np.array([np.sin(a), np.cos(a)]), np.array([-np.cos(a), np.sin(a)])
        half = WIDTH_M[kind] / 2.0
        front = scene.at_m[k].astype(np.float64)
        rear = front - ahead * float(scene.length_m[k])
        base = np.array(
            [front - left * half, front + left * half, rear + left * half, rear - left * half]
        )
        return np.r_[np.c_[base, np.zeros(4)], np.c_[base, np.full(4, HEIGHT_M[kind])]]

    def _is_visible(self, box: FloatArray) -> bool:
        px = self.view.project(box)
        return bool(
            np.isfinite(px).all() and (px.max(0) > 0).all() and (px.min(0) < self.view.size).all()
        )

    def _shadow(self, box: FloatArray) -> FloatArray:
        top = box[4:, :2] - SUN[:2] / SUN[2] * box[4:, 2:]
        return self.view.ground(np.r_[box[:4, :2], top])

    def _hull(self, box: FloatArray) -> NDArray[np.float32]:
        return np.asarray(cv2.convexHull(self.view.project(box).astype(np.float32))[:, 0])

    def _vehicle(self, image: Image, box: FloatArray, scene: Scene, k: int) -> None:
        kind, number = int(scene.kind[k]), int(scene.number[k])
        paint = BUS_PAINT if kind == BUS else PAINTS[number % len(PAINTS)]
        px = self.view.project(box)
        for name, a, b in FACES:
            side = box[b] - box[a]
            outwards = np.array([side[1], -side[0], 0.0])  # its corners go against the clock
            if outwards @ (np.array(self.view.at_m) - box[a]) > 0:
                self._fill(image, px[[a, b, b + 4, a + 4]], tuple(paint * _light(outwards)))
                if kind != BICYCLE:
                    self._face(image, box[[a, b]], float(box[4, 2]), name)
        self._fill(image, px[4:], tuple(paint))
        if kind in (CAR, EMERGENCY):
            self._roof_windows(image, box)
        if kind == EMERGENCY and self._shots % 2 == 0:  # the lights flash
            self._roof_part(image, box, LIGHT_BAR, BLUE_LIGHT)
        if self.night:
            self._headlights(image, box)

    def _roof_windows(self, image: Image, box: FloatArray) -> None:
        for part in ROOF_WINDOWS:
            self._roof_part(image, box, part, GLASS)

    def _roof_part(
        self, image: Image, box: FloatArray, part: tuple[float, float], colour: BgrColour
    ) -> None:
        """A strip across the roof. part: where it begins and ends, shares of the length."""
        share = np.array([part[0], part[0], part[1], part[1]])[:, None]
        strip = box[[4, 5, 5, 4]] * (1 - share) + box[[7, 6, 6, 7]] * share
        self._fill(image, self.view.project(strip), colour)

    def _headlights(self, image: Image, box: FloatArray) -> None:
        for corner in (0, 1):
            place = box[corner : corner + 1] + np.array([0.0, 0.0, HEADLIGHT_HEIGHT_M])
            x, y = self.view.project(place)[0]
            away_m = float(np.linalg.norm(place[0] - np.array(self.view.at_m)))
            radius_px = max(round(HEADLIGHT_M * self.view.focal_px / away_m), 1)
            cv2.circle(image, (round(float(x)), round(float(y))), radius_px, WHITE, -1, cv2.LINE_AA)

    def _face(self, image: Image, base: FloatArray, high_m: float, which: str) -> None:
        """What an upright face has on it: windows, lamps at the front and the rear, a dark strip
        below. base: (2, 3), its lower corners.
        """
        parts = [*SKIRT_AND_WINDOWS]
        if which != "side":
            lamp = REAR_LAMP if which == "rear" else HEADLAMP
            parts += [(*part, lamp) for part in LAMP_PARTS]
        for left, right, low, high, colour in parts:
            ends = base[0] + np.array([[left], [right], [right], [left]]) * (base[1] - base[0])
            ends[:, 2] += np.array([low, low, high, high]) * high_m
            self._fill(image, self.view.project(ends), colour)

    def _lamp(self, image: Image, at: tuple[float, float], radius: float, colour: int) -> None:
        """A lamp in its housing."""
        one_px = 2**SUBPIXEL
        middle = (round(at[0] * one_px), round(at[1] * one_px))
        for size, paint in ((radius * 1.4, LAMP_HOUSING), (radius, LAMPS[colour])):
            cv2.circle(image, middle, round(size * one_px), paint, -1, cv2.LINE_AA, SUBPIXEL)

    def _weather(self, image: Image) -> Image:
        self._shots += 1
        if self.night:
            image = np.asarray(cv2.convertScaleAbs(image, alpha=NIGHT_LIGHT), np.uint8)
        if self.rain:
            random = np.random.default_rng((self.seed, self._shots))
            image = np.asarray(
                cv2.addWeighted(image, 0.75, np.full_like(image, 120), 0.25, 0.0), np.uint8
            )
            for x, y in random.integers(0, self.view.size, (RAIN_STREAKS, 2)).tolist():
                cv2.line(image, (x, y), (x + 2, y + 9), RAIN, 1, cv2.LINE_AA)
        return np.asarray(
            cv2.add(image, self._grain[self._shots % len(self._grain)], dtype=cv2.CV_8U), np.uint8
        )

    def _ground_truth(
        self, scene: Scene, boxes: list[FloatArray], visible: list[int], ids: NDArray[np.float32]
    ) -> list[dict[str, Any]]:
        found = []
        for k in visible:
            hull = self._hull(boxes[k])
            low = np.clip(hull.min(0), 0, self.view.size)
            high = np.clip(hull.max(0), 0, self.view.size)
            # two more: an outline is drawn to the nearest pixel
            part = ids[int(low[1]) : int(high[1]) + 2, int(low[0]) : int(high[0]) + 2]
            shown = float((part == k + 1).sum()) / max(float(cv2.contourArea(hull)), 1.0)
            middle = boxes[k][:4, :2].mean(0)
            found.append(
                {
                    "number": int(scene.number[k]),
                    "class": GROUND_TRUTH_CLASS[int(scene.kind[k])],
                    "box": [round(float(v), 2) for v in (*low, *high)],
                    "visible_share": round(min(shown, 1.0), 3),
                    "x": round(float(middle[0]), 3),
                    "y": round(float(middle[1]), 3),
                    "speed_mps": round(float(scene.speed_mps[k]), 3),
                }
            )
        return found

    def _street(self, random: np.random.Generator) -> Image:
        """The street without anybody on it."""
        width, height = self.view.size
        image = np.empty((height, width, 3), np.uint8)
        image[:] = GRASS
        for ring in self.shapes.junctions:
            self._area(image, np.array(ring), ASPHALT)
        self._lanes(image)
        self._lane_edges(image)
        self._stop_lines(image)
        rough = cv2.GaussianBlur(
            random.normal(0.0, 9.0, image.shape).astype(np.float32), (0, 0), 1.5
        )
        return np.clip(image + rough, 0, 255).astype(np.uint8)

    def _lanes(self, image: Image) -> None:
        for name, width_m, points in self.shapes.lanes:
            i = self.network.lane_index.get(name)
            foot = i is not None and self.network.lanes[i].kind == Kind.PEDESTRIAN
            self._area(image, ribbon(np.array(points), width_m), PAVEMENT if foot else ASPHALT)

    def _lane_edges(self, image: Image) -> None:
        """Not within junctions, whose lanes begin with a colon."""
        for name, width_m, points in self.shapes.lanes:
            if name.startswith(":"):
                continue
            for a, b in itertools.pairwise(ribbon(np.array(points), width_m - 0.1)):
                px = self.view.area(np.array([a, b, b]))
                if len(px):
                    cv2.polylines(image, [_fixed(px)], False, LANE_EDGE, 1, cv2.LINE_AA, SUBPIXEL)

    def _stop_lines(self, image: Image) -> None:
        for group, (x, y, angle) in zip(self.network.groups, self.shapes.signals, strict=True):
            if group.kind == Kind.PEDESTRIAN:
                continue
            a = np.radians(90.0 - angle)
            ahead, left = np.array([np.cos(a), np.sin(a)]), np.array([-np.sin(a), np.cos(a)])
            aside, end = left * STOP_LINE_HALF_M, np.array([x, y])
            back = ahead * STOP_LINE_M
            ring = [end - aside, end + aside, end + aside - back, end - aside - back]
            self._area(image, np.array(ring), STOP_LINE)

    def _area(self, image: Image, ring: FloatArray, colour: BgrColour) -> None:
        px = self.view.area(ring)
        if len(px):
            cv2.fillPoly(image, [_fixed(px)], colour, cv2.LINE_AA, SUBPIXEL)

    def _fill(self, image: Any, px: Any, colour: Any) -> None:
        if image.ndim == 3:
            cv2.fillConvexPoly(image, _fixed(px), colour, cv2.LINE_AA, SUBPIXEL)
        else:
            cv2.fillConvexPoly(image, _fixed(px), colour, cv2.LINE_8, SUBPIXEL)


@lru_cache(4)
def _grain(size: tuple[int, int], noise: float) -> list[NDArray[np.int16]]:
    """What a sensor adds: a few images of noise, the same for all cameras of a kind."""
    random = np.random.default_rng(0)
    return [random.normal(0.0, noise, (size[1], size[0], 3)).astype(np.int16) for _ in range(5)]


def _light(outwards: FloatArray) -> float:
    """On a face, as a share of its paint's level."""
    towards_sun = float(outwards @ SUN) / max(float(np.linalg.norm(outwards)), 1e-9)
    return LEAST_LIGHT + SUN_LIGHT * max(towards_sun, 0.0)


def _fixed(px: FloatArray) -> NDArray[np.int32]:
    """Pixels as OpenCV takes them with `SUBPIXEL` bits of fraction; (n, 1, 2)."""
    return np.asarray(np.round(np.clip(px, -1e5, 1e5) * 2**SUBPIXEL), np.int32).reshape(-1, 1, 2)


def ground_truth_line(at_s: float, vehicles: list[dict[str, Any]], shown: ColourArray) -> str:
    """One line of the ground truth beside a clip."""
    return json.dumps(
        {"at_s": round(at_s, 3), "colours": [int(c) for c in shown], "vehicles": vehicles},
        separators=(",", ":"),
    )
