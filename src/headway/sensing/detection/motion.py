"""What moves before a background that is learned, without any network; who melt together are told
apart by what each looked like alone, and parts of one, with a window like a shadow between, are put
together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import supervision as sv

from headway.sensing.detection.background import LEARNED, UPSET, Background, Mask
from headway.sensing.detection.detectors import VEHICLE
from headway.sensing.frames.sources import Picture

KNOWN_ALONE = 5
LOST_AFTER = 8
LIKE = 0.3
INSIDE = 0.7
AWAY = 0.1
LEAST_REST = 0.4
SIZES = 1.04
SAME = 0.01
# pixels a picture; pictures
STILL_PX = 0.8
HOLE = 8
HOLE_KNOWN = 30
STILL = 600
GROWN = 1.7  # times its area
# shares: of the width three times, of the length, of what lies between
WINDOW = 0.45
SHORT = 1.2
FACING = 0.6
BESIDE = 0.5
DARK = 0.5
FARTHEST = 14  # pixels: where it is looked for costs by the square
COARSE = 6000  # square pixels: who is larger is looked for on every second pixel
Box = tuple[float, float, float, float]  # x, y, width, height


@dataclass(eq=False)
class _One:
    """A road user, in pixels of the small picture. patch: what it looked like when it was last seen
    alone; alone, lost, still: pictures in a row;
    heading: a unit vector, where it drove when it last drove; was: its middle, before it went that
        way."""

    box: Box
    patch: Picture
    born: tuple[float, float]
    move: tuple[float, float] = (0.0, 0.0)
    heading: tuple[float, float] | None = None
    was: tuple[float, float] | None = None
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
        x, y = to[0] + to[2] / 2, to[1] + to[3] / 2
        dx, dy = x - self.box[0] - self.box[2] / 2, y - self.box[1] - self.box[3] / 2
        self.move = (
            (1 - weight) * self.move[0] + weight * dx,
            (1 - weight) * self.move[1] + weight * dy,
        )
        same = 1.0 / GROWN < to[2] * to[3] / (self.box[2] * self.box[3]) < GROWN
        went = (x - self.was[0], y - self.was[1]) if self.was is not None and same else (0.0, 0.0)
        if (far := float(np.hypot(*went))) > min(to[2:]):
            self.heading, self.was = (went[0] / far, went[1] / far), (x, y)
        elif self.was is None or not same:  # another outline is no way
            self.was = (x, y)
        self.box = to
        self.still = self.still + 1 if np.hypot(dx, dy) < STILL_PX else 0


@dataclass
class _Stream:
    """One stream's street, and who is on it."""

    street: Background
    ones: list[_One] = field(default_factory=list)


@dataclass
class MotionDetector:
    """What differs from the background, which learns quickly where nothing is and hardly where
    something stands.

    least_px: smallest area of a box; work_width: larger pictures are made smaller first. A vehicle
        that was there before the camera looked
    is found when it drives off; the hole that it leaves is closed when nothing moves in it. What
    appears on the spot and stays belongs to the street after `STILL` pictures, what came driving
    does not. When most of the picture is another (the light, the camera), it begins anew.
    """

    least_px: int = 60
    work_width: int = 1280
    threads: int = 1
    _known: dict[str, _Stream] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="detector")
    )

    def begin(self, key: str, image: Picture) -> Future[sv.Detections]:
        return self._pool.submit(self._one, key, image)

    def forget(self, key: str) -> None:
        self._known.pop(key, None)

    def learn(self, key: str, images: Sequence[Picture]) -> None:
        """Begin with the empty street, from pictures of one size taken at other times: at each
        place what most of them show alike.
        """
        self._known[key] = _Stream(Background.of([self._small(image)[0] for image in images]))

    def _small(self, image: Picture) -> tuple[Picture, float]:
        scale = min(self.work_width / image.shape[1], 1.0)
        small = (
            cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            if scale < 1.0
            else image
        )
        return np.asarray(cv2.blur(small, (3, 3)), np.uint8), scale

    def _one(self, key: str, image: Picture) -> sv.Detections:
        small, scale = self._small(image)
        of = self._known.get(key)
        if of is None or of.street.shown.shape != small.shape or of.street.upset >= UPSET:
            of = self._known[key] = _Stream(Background.begun(small))
        mask, changed = of.street.differing(small)
        of.street.take_in(small, changed)
        least, blobs = self.least_px * scale * scale, []
        for outline in cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]:
            area, box = cv2.contourArea(outline), cv2.boundingRect(outline)
            if area >= least and area >= 0.2 * box[2] * box[3]:
                blobs.append((outline, box, area))
        found = told_apart(of, small, blobs, changed, least)
        if not found:
            return sv.Detections.empty()
        table = np.array(found, np.float32)
        table[:, 2:4] += table[:, :2]
        return sv.Detections(
            xyxy=table[:, :4] / scale,
            confidence=0.5 + 0.5 * table[:, 4],
            class_id=np.full(len(table), VEHICLE),
        )


Blob = tuple[Any, tuple[int, int, int, int], float]  # outline, box, area


def told_apart(
    of: _Stream, small: Picture, blobs: list[Blob], changed: Mask, least: float
) -> list[tuple[float, ...]]:
    """Boxes (x, y, width, height) and how full each is. Who was seen alone before is looked for in
    the blob that it is part of now.
    """
    owners: list[list[_One]] = [[] for _ in blobs]
    for one in of.ones:
        k = blob_of(one, blobs)
        if k >= 0:
            owners[k].append(one)
    put_together(blobs, owners, changed)
    of.ones, found = [], []
    for blob, inside in zip(blobs, owners, strict=True):
        known = [one for one in inside if one.known]
        if len(known) < 2:
            if seen := alone(of, small, blob, max(inside, key=lambda one: one.alone, default=None)):
                found.append(seen)
            continue
        for one in known:
            look_for(one, small, blob)
            if one.lost <= LOST_AFTER and covered(one.box, blob) >= LEAST_REST:
                of.ones.append(one)
                found.append((*one.box, 0.6))
        for rest in rests(
            blob,
            [one.box for one in known],
            max(least, LEAST_REST * min(one.box[2] * one.box[3] for one in known)),
        ):
            of.ones.append(
                _One(rest, cut(small, rest), (np.inf, np.inf))
            )  # beside others who drove: no lamp
            found.append((*rest, 0.5))
    return found


def put_together(blobs: list[Blob], owners: list[list[_One]], changed: Mask) -> None:
    """Blobs one behind the other that are parts of one vehicle become one, with the owner that was
    known longest.
    """
    k = 0
    while k < len(blobs):
        known = [one for one in owners[k] if one.known and one.heading is not None]
        part = next(
            (
                m
                for m in range(len(blobs))
                if m != k and known and of_one(blobs[k], blobs[m], known[0].heading, changed)
            ),
            -1,
        )
        if part < 0:
            k += 1
            continue
        outline = cv2.convexHull(np.vstack([blobs[k][0], blobs[part][0]]))
        x, y, w, h = cv2.boundingRect(outline)
        blobs[k] = outline, (x, y, w, h), cv2.contourArea(outline)
        one = max(owners[k] + owners[part], key=lambda one: one.alone)
        if w * h > GROWN * one.box[2] * one.box[3]:  # it has met nobody, and did not leap
            one.box = (x - one.move[0], y - one.move[1], float(w), float(h))
        owners[k] = [one]
        del blobs[part], owners[part]
        k = 0


def of_one(a: Blob, b: Blob, heading: Any, changed: Mask) -> bool:
    """Whether two blobs, one of them too short to be a vehicle, face one another along the heading
    over most of their width, with nothing but a narrow dark strip between."""
    (ax, ay, aw, ah) = a[1]
    (bx, by, bw, bh) = b[1]
    reach = WINDOW * max(min(a[1][2:]), min(b[1][2:]))
    if max(ax - bx - bw, bx - ax - aw) > reach or max(ay - by - bh, by - ay - ah) > reach:
        return False
    along = np.array([heading, (-heading[1], heading[0])])
    places = [np.asarray(blob[0][:, 0], np.float64) @ along.T for blob in (a, b)]
    (low_a, high_a), (low_b, high_b) = [(at.min(0), at.max(0)) for at in places]
    size_a, size_b = high_a - low_a, high_b - low_b
    length, width = np.minimum(size_a, size_b)
    if all(
        size[0] > SHORT * size[1] or at_edge(blob, changed)
        for blob, size in ((a, size_a), (b, size_b))
    ):  # both may be whole
        return False
    low, high = np.maximum(low_a, low_b), np.minimum(high_a, high_b)  # common part
    gap, facing = low[0] - high[0], high[1] - low[1]
    if (
        gap > WINDOW * width
        or -gap > BESIDE * length
        or facing < FACING * max(size_a[1], size_b[1])
    ):
        return False
    steps = np.linspace(min(low[0], high[0]), max(low[0], high[0]), max(round(abs(gap)), 2))
    between = np.round(np.c_[steps, np.full(len(steps), (low[1] + high[1]) / 2.0)] @ along).astype(
        np.int64
    )
    rows = np.clip(between[:, 1], 0, changed.shape[0] - 1)
    columns = np.clip(between[:, 0], 0, changed.shape[1] - 1)
    return bool((changed[rows, columns] > 0).mean() >= DARK)


def at_edge(blob: Blob, of: Picture) -> bool:
    x, y, w, h = blob[1]
    return x <= 1 or y <= 1 or x + w >= of.shape[1] - 1 or y + h >= of.shape[0] - 1


def alone(of: _Stream, small: Picture, blob: Blob, one: _One | None) -> tuple[float, ...]:
    """A blob that is one road user: its box, about the middle of the outline, which trembles less
    than the outermost pixels do; () if it is none.
    """
    outline, (x, y, w, h), area = blob
    middle = cv2.moments(outline)
    dx = 0.0
    dy = 0.0
    if not at_edge(blob, small):
        dx = middle["m10"] / middle["m00"] - x - w / 2.0
        dy = middle["m01"] / middle["m00"] - y - h / 2.0
    box = (x + dx, y + dy, float(w), float(h))
    if one is None:
        there = (
            of.street.learned and of.street.seen <= LEARNED + KNOWN_ALONE
        )  # before a street known as empty: who stands there came driving
        one = _One(box, cut(small, box), (np.inf, np.inf) if there else box[:2])
    elif (
        one.still >= (HOLE_KNOWN if one.known and one.heading is not None else HOLE)
        and one.still % 5 == 0
        and of.street.is_hole(small, outline)
    ) or (not one.known and one.still > STILL):
        of.street.absorb(small, outline)
        return ()
    elif (
        one.known and w * h > GROWN * one.box[2] * one.box[3]
    ):  # it has met someone who is not known
        one.go(box)
        one.alone = 0
    else:
        one.go(box)
    one.alone = one.alone + 1
    one.lost = 0
    one.patch = cut(small, box)
    of.ones.append(one)
    return *box, area / (w * h)


def blob_of(one: _One, blobs: list[Blob]) -> int:
    """The blob in which most of it must be now; -1 for none."""
    x, y, w, h = one.expected
    best, most = -1, 0.25 * w * h
    for k, (outline, (bx, by, bw, bh), _) in enumerate(blobs):
        common = max(min(x + w, bx + bw) - max(x, bx), 0.0) * max(
            min(y + h, by + bh) - max(y, by), 0.0
        )
        if common > most and cv2.pointPolygonTest(
            outline, (x + w / 2, y + h / 2), True
        ) > -0.25 * min(w, h):
            best, most = k, common
    return best


def look_for(one: _One, small: Picture, blob: Blob) -> None:
    """Move it to where the picture looks like it, within the blob, near where it must be; where
    nothing does, it goes on as it went.

    Who moves may come nearer or go away: then a size more and a size less are tried.
    """
    speed = float(np.hypot(*one.move))
    best = LIKE
    place = one.expected
    patch = one.patch
    reach = min(3 + round(0.5 * speed + 0.04 * max(one.box[2:])), FARTHEST)
    for scale in (1.0, 1.0 / SIZES, SIZES) if speed > 0.5 else (1.0,):
        tried = (
            one.patch
            if scale == 1.0
            else cv2.resize(one.patch, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        )
        score, at = most_like(one, np.asarray(tried, np.uint8), scale, small, blob, reach)
        if score - (0.0 if scale == 1.0 else SAME) > best:
            best = score - (0.0 if scale == 1.0 else SAME)
            place = at
            patch = np.asarray(tried, np.uint8)
    one.lost = one.lost + 1 if best == LIKE else 0
    one.patch = patch
    one.go(place)


def most_like(
    one: _One, patch: Picture, scale: float, small: Picture, blob: Blob, reach: int
) -> tuple[float, Box]:
    """How much the picture looks like the patch (its correlation, up to 1) at the best place within
    `reach` of where it must be, and that place.
    """
    x, y, w, h = one.expected
    x = x + w * (1.0 - scale) / 2.0
    y = y + h * (1.0 - scale) / 2.0
    w = w * scale
    h = h * scale
    high, wide = patch.shape[:2]
    left, top = round(x) - reach, round(y) - reach
    x0 = max(left, 0)
    y0 = max(top, 0)
    x1 = min(left + wide + 2 * reach, small.shape[1])
    y1 = min(top + high + 2 * reach, small.shape[0])
    if x1 - x0 < wide + 2 or y1 - y0 < high + 2 or min(wide, high) < 4:
        return -1.0, one.expected
    step = 1 if wide * high < COARSE else 2
    like = cv2.matchTemplate(
        every(small[y0:y1, x0:x1], step), every(patch, step), cv2.TM_CCOEFF_NORMED
    )
    mask = np.zeros((y1 - y0, x1 - x0), np.float32)
    cv2.drawContours(mask, [blob[0]], 0, 1.0, cv2.FILLED, offset=(-x0, -y0))
    inside = cv2.boxFilter(mask, -1, (wide, high), anchor=(0, 0))[
        : step * like.shape[0] : step, : step * like.shape[1] : step
    ]
    rows, columns = np.ogrid[: like.shape[0], : like.shape[1]]
    away = np.hypot(step * columns + x0 - x, step * rows + y0 - y).astype(np.float32) / reach
    good = like + INSIDE * inside - AWAY * away
    _, _, _, (cx, cy) = cv2.minMaxLoc(good)
    if inside[cy, cx] < LEAST_REST:
        return -1.0, one.expected
    return float(like[cy, cx]), (
        x0 + step * (cx + refined(good[cy, :], cx)),
        y0 + step * (cy + refined(good[:, cx], cy)),
        w,
        h,
    )


def every(image: Picture, step: int) -> Picture:
    """A picture of a half, or as it is."""
    if step == 1:
        return image
    high, wide = image.shape[0] // step, image.shape[1] // step
    return np.asarray(
        cv2.resize(image[: step * high, : step * wide], (wide, high), interpolation=cv2.INTER_AREA),
        np.uint8,
    )


def refined(scores: Any, k: int) -> float:
    """Where between the pixels the scores are highest, by a parabola through three of them."""
    if not 0 < k < len(scores) - 1:
        return 0.0
    a, b, c = (float(v) for v in scores[k - 1 : k + 2])
    return 0.5 * (a - c) / (a - 2 * b + c) if a - 2 * b + c < -1e-9 else 0.0


def covered(box: Box, blob: Blob) -> float:
    """The share of a box that the blob covers."""
    x, y, w, h = (round(v) for v in box)
    mask = np.zeros((max(h, 1), max(w, 1)), np.uint8)
    cv2.drawContours(mask, [blob[0]], 0, 1, cv2.FILLED, offset=(-x, -y))
    return float(mask.mean())


def rests(blob: Blob, known: list[Box], least: float) -> list[Box]:
    """Parts of a blob outside all the boxes that are large enough to be somebody."""
    outline, (bx, by, bw, bh), _ = blob
    mask = np.zeros((bh, bw), np.uint8)
    cv2.drawContours(mask, [outline], 0, 255, cv2.FILLED, offset=(-bx, -by))
    for x, y, w, h in known:
        cv2.rectangle(
            mask,
            (round(x) - bx - 2, round(y) - by - 2),
            (round(x + w) - bx + 2, round(y + h) - by + 2),
            0,
            -1,
        )
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)), np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    return [
        (float(x + bx), float(y + by), float(w), float(h))
        for x, y, w, h, area in stats[1:].tolist()
        if area >= least
    ]


def cut(small: Picture, box: Box) -> Picture:
    x, y, w, h = (round(v) for v in box)
    return small[max(y, 0) : max(y, 0) + max(h, 1), max(x, 0) : max(x, 0) + max(w, 1)].copy()
