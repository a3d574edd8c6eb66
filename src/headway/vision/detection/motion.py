"""Detection of what moves before a background that is learned, without a network.

Merged blobs are separated by what each road user looked like alone; parts of one vehicle, with a
window like a shadow between them, are merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import supervision as sv

from headway.vision.boxes import Box
from headway.vision.detection.background import LEARNED, UPSET, Background, Mask
from headway.vision.detection.blobs import (
    Blob,
    are_parts_of_one,
    blob_within,
    covered_share,
    find_blobs,
    rest_boxes,
    touches_edge,
)
from headway.vision.detection.detectors import VEHICLE
from headway.vision.detection.templates import Match, best_match, crop
from headway.vision.frames.images import Image

# When an object is known. Counts are of frames.
KNOWN_ALONE = 5  # frames alone: what flickers is not there for as long
MOVED_SHARE = 0.5  # of its shorter side that it has moved: a lamp that changes its colour does not
LOST_AFTER = 8  # frames without a match, then it is dropped

# How an object moves, pixels of the small image
MOTION_WEIGHT = 0.4  # of the newest movement in its mean: half is forgotten in 1.4 frames
STILL_PX = 0.8  # px a frame; a trembling box moves by less
SAME_AREA_FACTOR = 1.7  # an outline that changes by more has merged or split: it has not moved

# When a blob that does not move becomes background. Counts are of frames.
HOLE_AFTER = 8  # still, for a hole to be looked for
HOLE_AFTER_KNOWN = 30  # the same, of an object that is known to have come driving
HOLE_EVERY = 5  # it is looked for in every fifth: the test costs
STILL_AFTER = 600  # still, what appeared on the spot is background: 40 s at 15 frames a second

# How a known object is looked for in a merged blob
LEAST_CORRELATION = 0.3  # below, the image does not look like it
SCALES = (1.0, 1.0 / 1.04, 1.04)  # an object that moves approaches or recedes
SCALING_PX = 0.5  # px a frame, from which other scales are tried
SCALE_ADVANTAGE = 0.01  # correlation by which another scale must be better
REACH_PX = 3  # px around the predicted place, at least
REACH_SPEED = 0.5  # of its movement in a frame, added
REACH_SIZE = 0.04  # of its longer side, added
LONGEST_REACH_PX = 14  # px; the cost grows by the square
LEAST_COVERED = 0.4  # share of an object that the blob must cover; least share of it in a rest

# How full of itself a box counts, for its confidence, where no outline is its own
MATCHED_FILL = 0.6
REST_FILL = 0.5


class FoundObject(NamedTuple):
    """box: pixels of the small image. fill: share of the box that the object fills, 0 to 1."""

    box: Box
    fill: float


@dataclass(eq=False)
class MovingObject:
    """A road user, in pixels of the small image.

    patch:         what it looked like when it was alone last.
    first_xy:      upper left corner of its first box; None where it is known to have come driving.
    movement:      px a frame, mean.
    heading:       unit vector, where it drove when it drove last; None before.
    heading_from:  its centre when the heading was determined last.
    frames_alone, frames_lost, frames_still: frames in a row.
    """

    box: Box
    patch: Image
    first_xy: tuple[float, float] | None
    movement: tuple[float, float] = (0.0, 0.0)
    heading: tuple[float, float] | None = None
    heading_from: tuple[float, float] | None = None
    frames_alone: int = 0
    frames_lost: int = 0
    frames_still: int = 0

    @property
    def known(self) -> bool:
        """Alone for long enough, and not on the spot."""
        return self.frames_alone >= KNOWN_ALONE and self._has_moved()

    def _has_moved(self) -> bool:
        if self.first_xy is None:
            return True
        moved_px = np.hypot(self.box.x - self.first_xy[0], self.box.y - self.first_xy[1])
        return bool(moved_px > MOVED_SHARE * min(self.box.width, self.box.height))

    @property
    def predicted(self) -> Box:
        """Where it should be in the next frame."""
        return self.box.moved(*self.movement)

    def outgrown_by(self, box: Box) -> bool:
        """Whether a box is much larger: it has merged with an unknown object."""
        return box.width * box.height > SAME_AREA_FACTOR * self.box.width * self.box.height

    def move_to(self, box: Box, weight: float = MOTION_WEIGHT) -> None:
        """It is at that box now; update movement and heading by its centre."""
        x, y = box.centre
        dx = x - self.box.x - self.box.width / 2
        dy = y - self.box.y - self.box.height / 2
        self.movement = (
            (1 - weight) * self.movement[0] + weight * dx,
            (1 - weight) * self.movement[1] + weight * dy,
        )
        self._update_heading(box)
        self.box = box
        self.frames_still = self.frames_still + 1 if np.hypot(dx, dy) < STILL_PX else 0

    def _update_heading(self, box: Box) -> None:
        """Determined anew whenever it has gone farther than its shorter side."""
        x, y = box.centre
        change = box.width * box.height / (self.box.width * self.box.height)
        same_outline = 1.0 / SAME_AREA_FACTOR < change < SAME_AREA_FACTOR
        if self.heading_from is None or not same_outline:
            self.heading_from = (x, y)
            return
        dx, dy = x - self.heading_from[0], y - self.heading_from[1]
        gone_px = float(np.hypot(dx, dy))
        if gone_px > min(box.width, box.height):
            self.heading = (dx / gone_px, dy / gone_px)
            self.heading_from = (x, y)


@dataclass
class StreamState:
    """One stream's background, and the objects before it."""

    background: Background
    objects: list[MovingObject] = field(default_factory=list)


@dataclass
class MotionDetector:
    """What differs from a background that learns quickly where nothing is and hardly where
    something is.

    least_px:   smallest area of a blob, square pixels of the frame.
    work_width: wider frames are made smaller first, pixels.

    A vehicle that was there before the camera started is found when it drives off; the hole that it
    leaves is closed when nothing moves in it. What appears on the spot and stays becomes background
    after `STILL_AFTER` frames, what came driving does not. When most of the image has changed (the
    light, the camera), detection begins anew.
    """

    least_px: int = 60
    work_width: int = 1280
    threads: int = 1
    runs_on: str = "processor"
    _streams: dict[str, StreamState] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="detector")
    )

    def begin(self, key: str, image: Image) -> Future[sv.Detections]:
        return self._pool.submit(self._detect, key, image)

    def forget(self, key: str) -> None:
        self._streams.pop(key, None)

    def learn(self, key: str, images: Sequence[Image]) -> None:
        """Begin with the empty street, from images of one size taken at other times, as `reduced`
        gives them: at each place what most of them show.
        """
        self._streams[key] = StreamState(Background.from_images(images))

    def reduced(self, image: Image) -> Image:
        """The image as it is worked on."""
        return self._small(image)[0]

    def _detect(self, key: str, image: Image) -> sv.Detections:
        small, scale = self._small(image)
        state = self._state(key, small)
        foreground, changed = state.background.compare(small)
        state.background.learn(small, changed)
        least_px = self.least_px * scale * scale
        blobs = find_blobs(foreground, least_px)
        return _detections(find_objects(state, small, blobs, changed, least_px), scale)

    def _small(self, image: Image) -> tuple[Image, float]:
        """The image as it is worked on, without its finest noise, and its scale."""
        scale = min(self.work_width / image.shape[1], 1.0)
        if scale < 1.0:
            image = np.asarray(
                cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
            )
        return np.asarray(cv2.blur(image, (3, 3)), np.uint8), scale

    def _state(self, key: str, small: Image) -> StreamState:
        """The stream's state; a new one at its begin, for another size, and after an upset."""
        state = self._streams.get(key)
        if (
            state is None
            or state.background.shown.shape != small.shape
            or state.background.upset >= UPSET
        ):
            state = self._streams[key] = StreamState(Background.from_first_image(small))
        return state


def _detections(found: list[FoundObject], scale: float) -> sv.Detections:
    """In pixels of the frame. A box that an object fills is surer."""
    if not found:
        return sv.Detections.empty()
    boxes = np.array([one.box for one in found], np.float32)
    boxes[:, 2:] += boxes[:, :2]
    fill = np.array([one.fill for one in found], np.float32)
    return sv.Detections(
        xyxy=boxes / scale,
        confidence=0.5 + 0.5 * fill,
        class_id=np.full(len(found), VEHICLE),
    )


def find_objects(
    state: StreamState, image: Image, blobs: list[Blob], changed: Mask, least_px: float
) -> list[FoundObject]:
    """The objects of a frame; `state` has those that are followed on."""
    owners: list[list[MovingObject]] = [[] for _ in blobs]
    for one in state.objects:
        k = blob_index(one, blobs)
        if k is not None:
            owners[k].append(one)
    merge_parts(blobs, owners, changed)

    state.objects, found = [], []
    for blob, inside in zip(blobs, owners, strict=True):
        known = [one for one in inside if one.known]
        if len(known) >= 2:
            found += _merged_objects(state, image, blob, known, least_px)
            continue
        longest = max(inside, key=lambda one: one.frames_alone, default=None)
        single = single_object(state, image, blob, longest)
        if single is not None:
            found.append(single)
    return found


def _merged_objects(
    state: StreamState, image: Image, blob: Blob, known: list[MovingObject], least_px: float
) -> list[FoundObject]:
    """Known objects in one blob, each where the image looks like it, and what is left of the
    blob.
    """
    found = []
    for one in known:
        follow_in_blob(one, image, blob)
        if one.frames_lost <= LOST_AFTER and covered_share(one.box, blob) >= LEAST_COVERED:
            state.objects.append(one)
            found.append(FoundObject(one.box, MATCHED_FILL))

    smallest_px = min(one.box.width * one.box.height for one in known)
    for rest in rest_boxes(
        blob, [one.box for one in known], max(least_px, LEAST_COVERED * smallest_px)
    ):
        # beside others that drove: no lamp
        state.objects.append(MovingObject(rest, crop(image, rest), first_xy=None))
        found.append(FoundObject(rest, REST_FILL))
    return found


def merge_parts(blobs: list[Blob], owners: list[list[MovingObject]], changed: Mask) -> None:
    """Merge, in place, blobs one behind the other that are parts of one vehicle; the object that
    was alone for longest owns the whole.
    """
    k = 0
    while k < len(blobs):
        part = _other_part(k, blobs, owners, changed)
        if part is None:
            k += 1
            continue
        hull = cv2.convexHull(np.vstack([blobs[k].outline, blobs[part].outline]))
        blobs[k] = blob_within(np.asarray(hull, np.int32))
        owner = max(owners[k] + owners[part], key=lambda one: one.frames_alone)
        if owner.outgrown_by(blobs[k].box):  # it merged with no other object, and did not leap
            before = blobs[k].box.moved(-owner.movement[0], -owner.movement[1])
            owner.box = Box(*(float(v) for v in before))
        owners[k] = [owner]
        del blobs[part], owners[part]
        k = 0  # with the whole there may be more


def _other_part(
    k: int, blobs: list[Blob], owners: list[list[MovingObject]], changed: Mask
) -> int | None:
    """Another part of the vehicle that blob k is a part of."""
    heading = next((o.heading for o in owners[k] if o.known and o.heading is not None), None)
    if heading is None:
        return None
    for other in range(len(blobs)):
        if other != k and are_parts_of_one(blobs[k], blobs[other], heading, changed):
            return other
    return None


def single_object(
    state: StreamState, image: Image, blob: Blob, one: MovingObject | None
) -> FoundObject | None:
    """A blob that is one object, known (`one`) or new; None where it is background."""
    box = _centred_box(blob, image)
    if one is None:
        one = MovingObject(box, crop(image, box), first_xy=_first_xy(state.background, box))
    elif _is_background(state.background, image, blob, one):
        state.background.absorb(image, blob.outline)
        return None
    elif one.known and one.outgrown_by(box):
        one.move_to(box)
        one.frames_alone = 0
    else:
        one.move_to(box)
    one.frames_alone += 1
    one.frames_lost = 0
    one.patch = crop(image, box)
    state.objects.append(one)
    return FoundObject(box, blob.area_px / (blob.box.width * blob.box.height))


def _centred_box(blob: Blob, image: Image) -> Box:
    """The box about the centroid of the outline, which trembles less than the outermost pixels do;
    at the edge of the image, which may cut it off, as it is.
    """
    x, y, width, height = blob.box
    dx = dy = 0.0
    if not touches_edge(blob, image):
        moments = cv2.moments(blob.outline)
        dx = moments["m10"] / moments["m00"] - x - width / 2.0
        dy = moments["m01"] / moments["m00"] - y - height / 2.0
    return Box(x + dx, y + dy, float(width), float(height))


def _first_xy(background: Background, box: Box) -> tuple[float, float] | None:
    """None, as for what came driving, at the start before a background learned in advance."""
    if background.learned and background.images <= LEARNED + KNOWN_ALONE:
        return None
    return box.x, box.y


def _is_background(background: Background, image: Image, blob: Blob, one: MovingObject) -> bool:
    """A hole that a vehicle left, or something that appeared on the spot and stays."""
    came_driving = one.known and one.heading is not None
    hole_after = HOLE_AFTER_KNOWN if came_driving else HOLE_AFTER
    due = one.frames_still >= hole_after and one.frames_still % HOLE_EVERY == 0
    if due and background.is_hole(image, blob.outline):
        return True
    return not one.known and one.frames_still > STILL_AFTER


def blob_index(one: MovingObject, blobs: list[Blob]) -> int | None:
    """The blob that has most of the object now; None where none has a quarter of it."""
    at = one.predicted
    best, most = None, 0.25 * at.width * at.height
    for k, blob in enumerate(blobs):
        common = max(min(at.right, blob.box.right) - max(at.x, blob.box.x), 0.0) * max(
            min(at.bottom, blob.box.bottom) - max(at.y, blob.box.y), 0.0
        )
        if common > most and _is_near(blob, at):
            best, most = k, common
    return best


def _is_near(blob: Blob, box: Box) -> bool:
    """Whether a box's centre is in the outline, or within a quarter of its shorter side of it."""
    inside_px = cv2.pointPolygonTest(blob.outline, box.centre, True)
    return inside_px > -0.25 * min(box.width, box.height)


def follow_in_blob(one: MovingObject, image: Image, blob: Blob) -> None:
    """Move an object to where the image looks like it, within the blob, near the predicted place;
    where nothing does, to the predicted place.
    """
    speed_px = float(np.hypot(*one.movement))
    size_px = max(one.box.width, one.box.height)
    reach_px = min(
        REACH_PX + round(REACH_SPEED * speed_px + REACH_SIZE * size_px), LONGEST_REACH_PX
    )
    best = Match(LEAST_CORRELATION, one.predicted)
    best_patch = one.patch
    found = False
    for scale in SCALES if speed_px > SCALING_PX else (1.0,):
        patch = _scaled(one.patch, scale)
        match = best_match(one.predicted.scaled(scale), patch, image, blob, reach_px)
        if match is None:
            continue
        score = match.score - (0.0 if scale == 1.0 else SCALE_ADVANTAGE)
        if score > best.score:
            best, best_patch, found = match._replace(score=score), patch, True
    one.frames_lost = 0 if found else one.frames_lost + 1
    one.patch = best_patch
    one.move_to(best.box)


def _scaled(patch: Image, scale: float) -> Image:
    if scale == 1.0:
        return patch
    return np.asarray(
        cv2.resize(patch, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
    )
