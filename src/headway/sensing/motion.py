"""What moves before a background that is learned, without any network; who melt together are told apart by what each looked like alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import supervision as sv
from numpy.typing import NDArray

from headway.sensing.detect import VEHICLE
from headway.sensing.sources import Picture

HOLE_EDGES = 1.3
KNOWN_ALONE, LOST_AFTER, LIKE, INSIDE, AWAY, LEAST_REST, SIZES, SAME = 5, 8, 0.3, 0.7, 0.1, 0.4, 1.04, 0.01
STILL_PX, HOLE, HOLE_KNOWN, STILL, UPSET, UPSET_SHARE = 0.8, 8, 30, 600, 20, 0.6  # pixels a picture; pictures; share of the picture

FARTHEST = 14  # pixels: where it is looked for costs by the square
COARSE = 6000  # square pixels: who is larger is looked for on every second pixel
ALIKE, LEARNED = 14, 30  # levels of a colour; pictures after which a background learns slowly
DARKEST, SPREAD, FULL = 12, 0.09, 200.0  # a shadow: no level below, shares of the light so far apart by colour; the level where all light is left
Box = tuple[float, float, float, float]  # x, y, width, height


@dataclass(eq=False)
class _One:
    """A road user, in pixels of the small picture. patch: what it looked like when it was last seen alone; alone, lost, still: pictures in a row."""

    box: Box
    patch: Picture
    born: tuple[float, float]
    move: tuple[float, float] = (0.0, 0.0)
    alone: int = 0
    lost: int = 0
    still: int = 0

    @property
    def known(self) -> bool:
        """Seen alone for long enough, and moved: a lamp that changes its colour does not."""
        went = np.hypot(self.box[0] - self.born[0], self.box[1] - self.born[1])
        return self.alone >= KNOWN_ALONE and bool(went > 0.5 * min(self.box[2:]))

    @property
    def expected(self) -> Box:
        return self.box[0] + self.move[0], self.box[1] + self.move[1], self.box[2], self.box[3]

    def go(self, to: Box, weight: float = 0.4) -> None:
        """It is there now; its middle tells how it moves."""
        dx, dy = to[0] + to[2] / 2 - self.box[0] - self.box[2] / 2, to[1] + to[3] / 2 - self.box[1] - self.box[3] / 2
        self.move = (1 - weight) * self.move[0] + weight * dx, (1 - weight) * self.move[1] + weight * dy
        self.box = to
        self.still = self.still + 1 if np.hypot(dx, dy) < STILL_PX else 0


@dataclass
class _Background:
    """Of one stream: the empty street, as far as it is known, and who is on it."""

    mean: NDArray[np.float32]
    shown: Picture
    noise: float = 6.0
    seen: int = 0
    upset: int = 0
    learned: bool = False
    shade: float = 0.55
    shades: NDArray[np.float64] = field(default_factory=lambda: np.zeros(64))
    ones: list[_One] = field(default_factory=list)


@dataclass
class MotionDetector:
    """What differs from the background, which learns quickly where nothing is and hardly where something stands.

    least_px: smallest area of a box; work_width: larger pictures are made smaller first. A vehicle that was there before the camera looked
    is found when it drives off; the hole that it leaves is closed when nothing moves in it. What appears on the spot and stays belongs to the
    street after `STILL` pictures, what came driving does not. When most of the picture is another (the light, the camera), it begins anew.
    """

    least_px: int = 60
    work_width: int = 1280
    threads: int = 1
    learning: float = 0.03
    forgetting: float = 0.00002
    _known: dict[str, _Background] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="detector"))

    def begin(self, key: str, image: Picture) -> Future[sv.Detections]:
        return self._pool.submit(self._one, key, image)

    def forget(self, key: str) -> None:
        self._known.pop(key, None)

    def learn(self, key: str, images: Sequence[Picture]) -> None:
        """Begin with the empty street, from pictures of one size taken at other times: at each place what most of them show alike."""
        few = [self._small(image)[0] for image in images]
        half = [cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for image in few]
        support = np.zeros((len(half), *half[0].shape[:2]), np.uint8)
        for k, one in enumerate(half):
            for m in range(k):
                alike = _alike(one, half[m])
                support[k] += alike
                support[m] += alike
        best = cv2.resize(support.argmax(0).astype(np.uint8), few[0].shape[1::-1], interpolation=cv2.INTER_NEAREST)
        chosen = np.zeros_like(few[0])
        for k, image in enumerate(few):
            cv2.copyTo(image, np.asarray(best == k, np.uint8), chosen)
        total, count = np.zeros(chosen.shape, np.float32), np.zeros(chosen.shape[:2], np.float32)
        for image in few:
            like = _alike(image, chosen)
            cv2.accumulate(image, total, like)
            count += like
        mean = np.asarray(total / count[:, :, None], np.float32)
        self._known[key] = _Background(mean, cv2.convertScaleAbs(mean), seen=LEARNED, learned=True)

    def _small(self, image: Picture) -> tuple[Picture, float]:
        scale = min(self.work_width / image.shape[1], 1.0)
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1.0 else image
        return np.asarray(cv2.blur(small, (3, 3)), np.uint8), scale

    def _one(self, key: str, image: Picture) -> sv.Detections:
        small, scale = self._small(image)
        of = self._known.get(key)
        if of is None or of.shown.shape != small.shape:
            of = self._known[key] = _Background(small.astype(np.float32), small.copy())
        mask, changed = self._differing(of, small)
        of.upset = of.upset + 1 if of.seen > LEARNED and cv2.countNonZero(changed) > UPSET_SHARE * changed.size else 0
        if of.upset >= UPSET:
            of = self._known[key] = _Background(small.astype(np.float32), small.copy())
            mask, changed = self._differing(of, small)
        self._learn(of, small, changed)
        least, blobs = self.least_px * scale * scale, []
        for outline in cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]:
            area, box = cv2.contourArea(outline), cv2.boundingRect(outline)
            if area >= least and area >= 0.2 * box[2] * box[3]:
                blobs.append((outline, box, area))
        found = _told_apart(of, small, blobs, least)
        if not found:
            return sv.Detections.empty()
        table = np.array(found, np.float32)
        table[:, 2:4] += table[:, :2]
        sure = np.clip(0.5 + 0.5 * table[:, 4], 0.0, 1.0)
        return sv.Detections(xyxy=table[:, :4] / scale, confidence=sure, class_id=np.full(len(table), VEHICLE))

    def _differing(self, of: _Background, small: Picture) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Where something stands; and where anything differs, shadows too."""
        level = max(4.0 * of.noise, 12.0)
        colours = cv2.split(cv2.absdiff(small, of.shown))
        most = cv2.max(cv2.max(colours[0], colours[1]), colours[2])
        changed = np.asarray(cv2.threshold(most, level, 255, cv2.THRESH_BINARY)[1], np.uint8)
        mask = cv2.morphologyEx(self._lighten(of, small, changed), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
        return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)), np.uint8), changed

    def _lighten(self, of: _Background, small: Picture, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The mask without shadows: all colours darker by one and the same share, which is the same all over the picture and learned from it."""
        colours = cv2.split(cv2.divide(small, cv2.max(of.shown, DARKEST), scale=FULL))
        most, least = cv2.max(cv2.max(colours[0], colours[1]), colours[2]), cv2.min(cv2.min(colours[0], colours[1]), colours[2])
        share = cv2.addWeighted(most, 0.5, least, 0.5, 0.0)
        alike = cv2.threshold(cv2.subtract(most, least), SPREAD * FULL, 255, cv2.THRESH_BINARY_INV)[1]
        even = cv2.bitwise_and(mask, cv2.bitwise_and(alike, cv2.threshold(share, 0.9 * FULL, 255, cv2.THRESH_BINARY_INV)[1]))
        of.shades = 0.95 * of.shades + cv2.calcHist([share], [0], even, [64], [0.0, FULL]).ravel()
        smooth = np.convolve(of.shades[16:54], [1.0, 2.0, 1.0], "same")
        of.shade = (int(smooth.argmax()) + 16.5) / 64.0
        dark = cv2.inRange(share, (of.shade - 0.045) * FULL, (of.shade + 0.045) * FULL)
        return np.asarray(cv2.subtract(mask, cv2.bitwise_and(dark, even)), np.uint8)

    def _learn(self, of: _Background, small: Picture, mask: NDArray[np.uint8]) -> None:
        of.seen += 1
        if of.seen > LEARNED and of.seen % 4:
            return
        rate = max(self.learning, 1.0 / of.seen) if of.seen <= LEARNED else self.learning * 4.0
        grown = cv2.dilate(mask, np.ones((5, 5), np.uint8))
        free = cv2.bitwise_not(grown)
        cv2.accumulateWeighted(small, of.mean, rate, free)
        cv2.accumulateWeighted(small, of.mean, self.forgetting, grown)
        if of.seen <= LEARNED or of.seen % 40 == 0:
            few = cv2.absdiff(small[::7, ::7], of.shown[::7, ::7])[free[::7, ::7] > 0]
            if len(few):
                of.noise = 0.9 * of.noise + 0.1 * float(np.median(few)) * 1.48
        of.shown = cv2.convertScaleAbs(of.mean)


Blob = tuple[Any, tuple[int, int, int, int], float]  # outline, box, area


def _told_apart(of: _Background, small: Picture, blobs: list[Blob], least: float) -> list[tuple[float, ...]]:
    """Boxes (x, y, width, height) and how full each is. Who was seen alone before is looked for in the blob that it is part of now."""
    owners: list[list[_One]] = [[] for _ in blobs]
    for one in of.ones:
        k = _blob_of(one, blobs)
        if k >= 0:
            owners[k].append(one)
    of.ones, found = [], []
    for blob, inside in zip(blobs, owners, strict=True):
        known = [one for one in inside if one.known]
        if len(known) < 2:
            if seen := _alone(of, small, blob, max(inside, key=lambda one: one.alone, default=None)):
                found.append(seen)
            continue
        for one in known:
            _look_for(one, small, blob)
            if one.lost <= LOST_AFTER and _covered(one.box, blob) >= LEAST_REST:
                of.ones.append(one)
                found.append((*one.box, 0.6))
        for rest in _rest(blob, [one.box for one in known], max(least, LEAST_REST * min(one.box[2] * one.box[3] for one in known))):
            of.ones.append(_One(rest, _cut(small, rest), (np.inf, np.inf)))  # beside others who drove: no lamp
            found.append((*rest, 0.5))
    return found


def _alike(a: Picture, b: Picture) -> NDArray[np.uint8]:
    """1 where two pictures show the same colour."""
    far = cv2.split(cv2.absdiff(a, b))
    return np.asarray(cv2.threshold(cv2.max(cv2.max(far[0], far[1]), far[2]), ALIKE, 1, cv2.THRESH_BINARY_INV)[1], np.uint8)


def _alone(of: _Background, small: Picture, blob: Blob, one: _One | None) -> tuple[float, ...]:
    """A blob that is one road user: its box, about the middle of the outline, which trembles less than the outermost pixels do; () if it is none."""
    outline, (x, y, w, h), area = blob
    middle, dx, dy = cv2.moments(outline), 0.0, 0.0
    if x > 1 and y > 1 and x + w < small.shape[1] - 1 and y + h < small.shape[0] - 1:
        dx, dy = middle["m10"] / middle["m00"] - x - w / 2.0, middle["m01"] / middle["m00"] - y - h / 2.0
    box = (x + dx, y + dy, float(w), float(h))
    if one is None:
        there = of.learned and of.seen <= LEARNED + KNOWN_ALONE  # before a street known as empty: who stands there came driving
        one = _One(box, _cut(small, box), (np.inf, np.inf) if there else box[:2])
    elif (one.still >= (HOLE_KNOWN if one.known else HOLE) and one.still % 5 == 0 and _is_hole(of, small, blob)) or (
        not one.known and one.still > STILL
    ):
        _absorb(of, small, blob)
        return ()
    elif one.known and w * h > 1.7 * one.box[2] * one.box[3]:  # it has met someone who is not known
        one.go(box)
        one.alone = 0
    else:
        one.go(box)
    one.alone, one.lost, one.patch = one.alone + 1, 0, _cut(small, box)
    of.ones.append(one)
    return *box, area / (w * h)


def _is_hole(of: _Background, small: Picture, blob: Blob) -> bool:
    """Whether it is the background that shows something here, and the street does not any more: then its outline is an edge there, not here."""
    outline, (x, y, w, h), _ = blob
    x0, y0, x1, y1 = max(x - 3, 0), max(y - 3, 0), min(x + w + 3, small.shape[1]), min(y + h + 3, small.shape[0])
    rim = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.drawContours(rim, [outline], -1, 255, 3, offset=(-x0, -y0))
    edges = []
    for image in (small, of.shown):
        grey = cv2.cvtColor(image[y0:y1, x0:x1], cv2.COLOR_BGR2GRAY)
        slope = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
        edges.append(float(cv2.mean(slope, rim)[0]))
    return edges[1] >= HOLE_EDGES * edges[0]


def _absorb(of: _Background, small: Picture, blob: Blob) -> None:
    """What is seen there is the street from now on."""
    outline, (x, y, w, h), _ = blob
    x0, y0, x1, y1 = max(x - 3, 0), max(y - 3, 0), min(x + w + 3, small.shape[1]), min(y + h + 3, small.shape[0])
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.drawContours(mask, [outline], -1, 255, -1, offset=(-x0, -y0))
    mask = np.asarray(cv2.dilate(mask, np.ones((7, 7), np.uint8)), np.uint8)
    for to in (of.mean, of.shown):
        to[y0:y1, x0:x1][mask > 0] = small[y0:y1, x0:x1][mask > 0]


def _blob_of(one: _One, blobs: list[Blob]) -> int:
    """The blob in which most of it must be now; -1 for none."""
    x, y, w, h = one.expected
    best, most = -1, 0.25 * w * h
    for k, (outline, (bx, by, bw, bh), _) in enumerate(blobs):
        common = max(min(x + w, bx + bw) - max(x, bx), 0.0) * max(min(y + h, by + bh) - max(y, by), 0.0)
        if common > most and cv2.pointPolygonTest(outline, (x + w / 2, y + h / 2), True) > -0.25 * min(w, h):
            best, most = k, common
    return best


def _look_for(one: _One, small: Picture, blob: Blob) -> None:
    """Move it to where the picture looks like it, within the blob, near where it must be; where nothing does, it goes on as it went.

    Who moves may come nearer or go away: then a size more and a size less are tried.
    """
    speed = float(np.hypot(*one.move))
    best, place, patch = LIKE, one.expected, one.patch
    reach = min(3 + round(0.5 * speed + 0.04 * max(one.box[2:])), FARTHEST)
    for scale in (1.0, 1.0 / SIZES, SIZES) if speed > 0.5 else (1.0,):
        tried = one.patch if scale == 1.0 else cv2.resize(one.patch, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        score, at = _most_like(one, np.asarray(tried, np.uint8), scale, small, blob, reach)
        if score - (0.0 if scale == 1.0 else SAME) > best:
            best, place, patch = score - (0.0 if scale == 1.0 else SAME), at, np.asarray(tried, np.uint8)
    one.lost = one.lost + 1 if best == LIKE else 0
    one.patch = patch
    one.go(place)


def _most_like(one: _One, patch: Picture, scale: float, small: Picture, blob: Blob, reach: int) -> tuple[float, Box]:
    """How much the picture looks like the patch (its correlation, up to 1) at the best place within `reach` of where it must be, and that place."""
    x, y, w, h = one.expected
    x, y, w, h = x + w * (1.0 - scale) / 2.0, y + h * (1.0 - scale) / 2.0, w * scale, h * scale
    high, wide = patch.shape[:2]
    left, top = round(x) - reach, round(y) - reach
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + wide + 2 * reach, small.shape[1]), min(top + high + 2 * reach, small.shape[0])
    if x1 - x0 < wide + 2 or y1 - y0 < high + 2 or min(wide, high) < 4:
        return -1.0, one.expected
    step = 1 if wide * high < COARSE else 2
    like = cv2.matchTemplate(_every(small[y0:y1, x0:x1], step), _every(patch, step), cv2.TM_CCOEFF_NORMED)
    mask = np.zeros((y1 - y0, x1 - x0), np.float32)
    cv2.drawContours(mask, [blob[0]], -1, 1.0, -1, offset=(-x0, -y0))
    inside = cv2.boxFilter(mask, -1, (wide, high), anchor=(0, 0))[: step * like.shape[0] : step, : step * like.shape[1] : step]
    rows, columns = np.ogrid[: like.shape[0], : like.shape[1]]
    away = np.hypot(step * columns + x0 - x, step * rows + y0 - y).astype(np.float32) / reach
    good = like + INSIDE * inside - AWAY * away
    _, _, _, (cx, cy) = cv2.minMaxLoc(good)
    if inside[cy, cx] < LEAST_REST:
        return -1.0, one.expected
    return float(like[cy, cx]), (x0 + step * (cx + _between(good[cy, :], cx)), y0 + step * (cy + _between(good[:, cx], cy)), w, h)


def _every(image: Picture, step: int) -> Picture:
    """A picture of a half, or as it is."""
    if step == 1:
        return image
    high, wide = image.shape[0] // step, image.shape[1] // step
    return np.asarray(cv2.resize(image[: step * high, : step * wide], (wide, high), interpolation=cv2.INTER_AREA), np.uint8)


def _between(scores: Any, k: int) -> float:
    """Where between the pixels the scores are highest, by a parabola through three of them."""
    if not 0 < k < len(scores) - 1:
        return 0.0
    a, b, c = (float(v) for v in scores[k - 1 : k + 2])
    return 0.5 * (a - c) / (a - 2 * b + c) if a - 2 * b + c < -1e-9 else 0.0


def _covered(box: Box, blob: Blob) -> float:
    """The share of a box that the blob covers."""
    x, y, w, h = (round(v) for v in box)
    mask = np.zeros((max(h, 1), max(w, 1)), np.uint8)
    cv2.drawContours(mask, [blob[0]], -1, 1, -1, offset=(-x, -y))
    return float(mask.mean())


def _rest(blob: Blob, known: list[Box], least: float) -> list[Box]:
    """Parts of a blob outside all the boxes that are large enough to be somebody."""
    outline, (bx, by, bw, bh), _ = blob
    mask = np.zeros((bh, bw), np.uint8)
    cv2.drawContours(mask, [outline], -1, 255, -1, offset=(-bx, -by))
    for x, y, w, h in known:
        cv2.rectangle(mask, (round(x) - bx - 2, round(y) - by - 2), (round(x + w) - bx + 2, round(y + h) - by + 2), 0, -1)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)), np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    return [(float(x + bx), float(y + by), float(w), float(h)) for x, y, w, h, area in stats[1:].tolist() if area >= least]


def _cut(small: Picture, box: Box) -> Picture:
    x, y, w, h = (round(v) for v in box)
    return small[max(y, 0) : max(y, 0) + max(h, 1), max(x, 0) : max(x, 0) + max(w, 1)].copy()
