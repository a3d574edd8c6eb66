"""A camera that looks at a simulated street: what it sees, picture by picture, and the truth beside
it.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from headway.plants.sumo.network import Shapes
from headway.plants.sumo.plant import Scene
from headway.rendered.view import View, ribbon
from headway.roads import Network
from headway.roads.network import Kind
from headway.sensing.frames.sources import Picture
from headway.values import ColourArray, FloatArray

# by the kinds of a Scene
WIDTH_M = (1.8, 2.5, 2.4, 0.7, 2.6, 2.2)
HEIGHT_M = (1.5, 3.2, 3.2, 1.7, 3.4, 2.4)
TRUTH_CLASS = ("car", "bus", "truck", "bicycle", "bus", "truck")
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
ASPHALT = (92, 94, 96)
GRASS = (70, 104, 84)
PAVEMENT = (128, 132, 136)
PAINT = (205, 208, 210)
SUN = np.array([0.45, 0.3, 0.84])
IN_SHADOW = (np.arange(256) * 0.55).astype(np.uint8)  # of a value in the sun
LAMPS = {0: (30, 30, 30), 1: (40, 40, 255), 2: (40, 200, 255), 3: (90, 220, 60), 4: (90, 220, 60)}
LAMP_M = 0.35
LAMP_HEIGHT_M = 5.5
SUBPIXEL = 4


@dataclass
class Painter:
    """Draws the street. night, rain: how it looks then. seed: of the noise."""

    view: View
    network: Network
    shapes: Shapes
    seed: int = 0
    night: bool = False
    rain: bool = False
    noise: float = 4.0
    _empty: Picture = field(init=False)
    _grain: list[NDArray[np.int16]] = field(init=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        self._empty = self._street(random)
        self._grain = _grain(self.view.size, self.noise)
        self._shots = 0
        lamps = []
        for (x, y, angle), group in zip(self.shapes.signals, self.network.groups, strict=True):
            a = np.radians(90.0 - angle)
            lamps.append(
                (
                    x + 1.5 * np.cos(a) + 1.9 * np.sin(a),
                    y + 1.5 * np.sin(a) - 1.9 * np.cos(a),
                    LAMP_HEIGHT_M if group.kind != Kind.PEDESTRIAN else 2.5,
                )
            )
        self.lamps_px = self.view.project(np.array(lamps))
        depth = np.linalg.norm(np.array(lamps) - np.array(self.view.at_m), axis=1)
        self.lamp_px = np.maximum(LAMP_M * self.view.focal_px / depth, 1.5)

    def render(self, scene: Scene, shown: ColourArray) -> tuple[Picture, list[dict[str, Any]]]:
        """The picture, BGR, and of each vehicle in it: number, class, box, seen (the share that is
        not hidden), x, y, speed_mps.
        """
        image, scene = self._empty.copy(), self._about(scene)
        boxes = [self._corners(scene, k) for k in range(len(scene.number))]
        seen = [k for k in range(len(boxes)) if self._near(boxes[k])]
        if not self.night:
            dark = np.zeros(image.shape[:2], np.uint8)
            for k in seen:
                self._fill(
                    dark, cv2.convexHull(self._shadow(boxes[k]).astype(np.float32))[:, 0], 255
                )
            cv2.copyTo(cv2.LUT(image, IN_SHADOW), dark, image)
        ids = np.zeros(image.shape[:2], np.float32)
        camera = np.array(self.view.at_m)
        for k in sorted(seen, key=lambda k: -float(np.linalg.norm(boxes[k].mean(0) - camera))):
            self._vehicle(image, boxes[k], scene, k)
            self._fill(ids, self._hull(boxes[k]), float(k + 1))
        for group, (x, y) in enumerate(self.lamps_px):
            if np.isfinite(x) and -50 < x < image.shape[1] + 50 and -50 < y < image.shape[0] + 50:
                self._lamp(image, (x, y), float(self.lamp_px[group]), int(shown[group]))
        return self._weather(image), self._truth(scene, boxes, seen, ids)

    def _about(self, scene: Scene) -> Scene:
        """Those that may be in the picture."""
        px, room = self.view.ground(scene.at_m.astype(np.float64)), np.array(self.view.size) / 2.0
        rows = np.flatnonzero(
            ~(np.abs(px - room) > 3.0 * room).any(1)
        )  # who is just behind the camera (nan) may reach into it
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

    def _near(self, box: FloatArray) -> bool:
        px = self.view.project(box)
        return bool(
            np.isfinite(px).all() and (px.max(0) > 0).all() and (px.min(0) < self.view.size).all()
        )

    def _shadow(self, box: FloatArray) -> FloatArray:
        top = box[4:, :2] - SUN[:2] / SUN[2] * box[4:, 2:]
        return self.view.ground(np.r_[box[:4, :2], top])

    def _hull(self, box: FloatArray) -> NDArray[np.float32]:
        return np.asarray(cv2.convexHull(self.view.project(box).astype(np.float32))[:, 0])

    def _vehicle(self, image: Picture, box: FloatArray, scene: Scene, k: int) -> None:
        kind, number = int(scene.kind[k]), int(scene.number[k])
        paint = PAINTS[number % len(PAINTS)] if kind != 1 else np.array((40.0, 60.0, 200.0))
        px, camera = self.view.project(box), np.array(self.view.at_m)
        for face, (a, b) in enumerate(((0, 1), (1, 2), (2, 3), (3, 0))):
            side = box[b] - box[a]
            normal = np.array(
                [side[1], -side[0], 0.0]
            )  # outwards: its corners go around against the clock
            if normal @ (camera - box[a]) > 0:
                light = 0.45 + 0.35 * max(
                    float(normal @ SUN) / max(float(np.linalg.norm(normal)), 1e-9), 0.0
                )
                self._fill(image, px[[a, b, b + 4, a + 4]], tuple(paint * light))
                if kind != 3:
                    self._face(
                        image,
                        box[[a, b]],
                        float(box[4, 2]),
                        ["front", "side", "rear", "side"][face],
                    )
        self._fill(image, px[4:], tuple(paint))
        if kind in (0, 5):  # the windows, front and back
            for begin, end in ((0.22, 0.38), (0.82, 0.92)):
                share = np.array([begin, begin, end, end])[:, None]
                glass = box[[4, 5, 5, 4]] * (1 - share) + box[[7, 6, 6, 7]] * share
                self._fill(image, self.view.project(glass), (60, 50, 45))
        if self.night:
            for corner in (0, 1):
                place = box[corner : corner + 1] + np.array([0.0, 0.0, 0.6])
                at = self.view.project(place)[0]
                wide = (
                    0.2
                    * self.view.focal_px
                    / float(np.linalg.norm(place[0] - np.array(self.view.at_m)))
                )
                cv2.circle(
                    image,
                    (round(float(at[0])), round(float(at[1]))),
                    max(round(wide), 1),
                    (255, 255, 255),
                    -1,
                    cv2.LINE_AA,
                )

    def _face(self, image: Picture, base: FloatArray, high_m: float, which: str) -> None:
        """What an upright face has on it: windows, lamps before and behind, a dark strip below.
        base: (2, 3), its lower corners.
        """
        parts = [(0.0, 1.0, 0.0, 0.18, (28, 28, 28)), (0.1, 0.9, 0.58, 0.9, (60, 50, 45))]
        if which != "side":
            lamp = (60, 60, 215) if which == "rear" else (235, 245, 245)
            parts += [(0.03, 0.25, 0.36, 0.52, lamp), (0.75, 0.97, 0.36, 0.52, lamp)]
        for left, right, low, high, colour in parts:
            ends = base[0] + np.array([[left], [right], [right], [left]]) * (base[1] - base[0])
            ends[:, 2] += np.array([low, low, high, high]) * high_m
            self._fill(image, self.view.project(ends), colour)

    def _lamp(self, image: Picture, at: tuple[float, float], radius: float, colour: int) -> None:
        middle = (round(at[0] * 2**SUBPIXEL), round(at[1] * 2**SUBPIXEL))
        cv2.circle(
            image,
            middle,
            round(radius * 1.4 * 2**SUBPIXEL),
            (25, 25, 25),
            -1,
            cv2.LINE_AA,
            SUBPIXEL,
        )
        cv2.circle(
            image, middle, round(radius * 2**SUBPIXEL), LAMPS[colour], -1, cv2.LINE_AA, SUBPIXEL
        )

    def _weather(self, image: Picture) -> Picture:
        self._shots += 1
        if self.night:
            image = np.asarray(cv2.convertScaleAbs(image, alpha=0.45), np.uint8)
        if self.rain:
            random = np.random.default_rng((self.seed, self._shots))
            image = np.asarray(
                cv2.addWeighted(image, 0.75, np.full_like(image, 120), 0.25, 0.0), np.uint8
            )
            for x, y in random.integers(0, self.view.size, (150, 2)).tolist():
                cv2.line(image, (x, y), (x + 2, y + 9), (170, 170, 170), 1, cv2.LINE_AA)
        return np.asarray(
            cv2.add(image, self._grain[self._shots % len(self._grain)], dtype=cv2.CV_8U), np.uint8
        )

    def _truth(
        self, scene: Scene, boxes: list[FloatArray], seen: list[int], ids: NDArray[np.float32]
    ) -> list[dict[str, Any]]:
        found = []
        for k in seen:
            hull = self._hull(boxes[k])
            whole = float(cv2.contourArea(hull))
            low = np.clip(hull.min(0), 0, self.view.size)
            high = np.clip(hull.max(0), 0, self.view.size)
            # two more: an outline is drawn to the nearest pixel
            part = ids[int(low[1]) : int(high[1]) + 2, int(low[0]) : int(high[0]) + 2]
            shown = float((part == k + 1).sum()) / max(whole, 1.0)
            middle = boxes[k][:4, :2].mean(0)
            found.append(
                {
                    "number": int(scene.number[k]),
                    "class": TRUTH_CLASS[int(scene.kind[k])],
                    "box": [round(float(v), 2) for v in (*low, *high)],
                    "seen": round(min(shown, 1.0), 3),
                    "x": round(float(middle[0]), 3),
                    "y": round(float(middle[1]), 3),
                    "speed_mps": round(float(scene.speed_mps[k]), 3),
                }
            )
        return found

    def _street(self, random: np.random.Generator) -> Picture:
        width, height = self.view.size
        image = np.empty((height, width, 3), np.uint8)
        image[:] = GRASS
        for ring in self.shapes.junctions:
            self._area(image, np.array(ring), ASPHALT)
        for name, lane_m, points in self.shapes.lanes:
            i = self.network.lane_index.get(name)
            foot = i is not None and self.network.lanes[i].kind == Kind.PEDESTRIAN
            self._area(image, ribbon(np.array(points), lane_m), PAVEMENT if foot else ASPHALT)
        for name, lane_m, points in self.shapes.lanes:
            if not name.startswith(":"):
                edge = ribbon(np.array(points), lane_m - 0.1)
                for a, b in itertools.pairwise(edge):
                    px = self.view.area(np.array([a, b, b]))
                    if len(px):
                        cv2.polylines(
                            image, [_fixed(px)], False, (150, 152, 154), 1, cv2.LINE_AA, SUBPIXEL
                        )
        for group, (x, y, angle) in zip(self.network.groups, self.shapes.signals, strict=True):
            if group.kind != Kind.PEDESTRIAN:
                a = np.radians(90.0 - angle)
                ahead, left = np.array([np.cos(a), np.sin(a)]), np.array([-np.sin(a), np.cos(a)])
                end = np.array([x, y])
                self._area(
                    image,
                    np.array(
                        [
                            end - left * 1.5,
                            end + left * 1.5,
                            end + left * 1.5 - ahead * 0.4,
                            end - left * 1.5 - ahead * 0.4,
                        ]
                    ),
                    PAINT,
                )
        rough = cv2.GaussianBlur(
            random.normal(0.0, 9.0, image.shape).astype(np.float32), (0, 0), 1.5
        )
        return np.clip(image + rough, 0, 255).astype(np.uint8)

    def _area(self, image: Picture, ring: FloatArray, colour: tuple[int, int, int]) -> None:
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
    """What a sensor adds: a few pictures of noise, the same for all cameras of a kind."""
    random = np.random.default_rng(0)
    return [random.normal(0.0, noise, (size[1], size[0], 3)).astype(np.int16) for _ in range(5)]


def _fixed(px: FloatArray) -> NDArray[np.int32]:
    return np.asarray(np.round(np.clip(px, -1e5, 1e5) * 2**SUBPIXEL), np.int32).reshape(-1, 1, 2)


def ground_truth_line(at_s: float, vehicles: list[dict[str, Any]], shown: ColourArray) -> str:
    """One line of the truth beside a clip."""
    return json.dumps(
        {"at_s": round(at_s, 3), "shown": [int(c) for c in shown], "vehicles": vehicles},
        separators=(",", ":"),
    )
