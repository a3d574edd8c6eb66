"""Detections followed over time: ids by ByteTrack, classes by vote, positions on the road, speeds
with their standard error.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import supervision as sv

from headway.sensing.detection.detectors import (
    BICYCLE,
    BUS,
    CAR,
    CLASSES,
    MOTORCYCLE,
    PERSON,
    TRUCK,
    VEHICLE,
)
from headway.sensing.tracking.association import Association, Sight
from headway.sensing.tracking.speed import motions
from headway.sensing.traffic.site import Calibration
from headway.values import FloatArray

CONFIRMED = 3
SPEED_SPAN_S = 1.0
LEAST_SPAN_S = 0.35
LEAST_POINTS = 5
MEASURE_EVERY_S = 0.06
STANDING_MPS = 0.5
MOVING_MPS = 1.0
COAST_S = 0.4
KEPT_S = 20.0
BORDER_PX = 3.0
HEIGHT_M = {
    PERSON: 1.7,
    BICYCLE: 1.6,
    CAR: 1.5,
    MOTORCYCLE: 1.5,
    BUS: 3.0,
    TRUCK: 3.0,
    VEHICLE: 1.5,
}


@dataclass(eq=False)
class Track:
    """One road user. `feet`: where it meets the road, pixels; `road`: the same in metres (nan
    without calibration); newest last, `KEPT_S` of them.
    """

    id: int
    begun_s: float
    at_s: float = 0.0
    box: FloatArray = field(default_factory=lambda: np.zeros(4))
    confidence: float = 0.0
    seen: int = 0
    coasting: bool = False
    votes: FloatArray = field(default_factory=lambda: np.zeros(len(CLASSES)))
    times: deque[float] = field(default_factory=deque)
    feet: deque[tuple[float, float]] = field(default_factory=deque)
    road: deque[tuple[float, float]] = field(default_factory=deque)
    whole: deque[bool] = field(default_factory=deque)
    boxes: deque[FloatArray] = field(default_factory=deque)
    length_m: float = np.nan
    speed_mps: float = np.nan
    mean_mps: float = (
        np.nan
    )  # over the last second, with its standard error: what a violation rests on
    mean_se_mps: float = np.nan
    velocity: tuple[float, float] = (np.nan, np.nan)
    standing_since_s: float = np.nan
    lines_crossed: dict[str, float] = field(default_factory=dict)  # line: when last, s
    violations: set[str] = field(default_factory=set)  # decisions of rules reported of it

    @property
    def kind(self) -> int:
        return int(self.votes.argmax())

    @property
    def height_px(self) -> float:
        """Of its box."""
        return float(self.box[3] - self.box[1])

    @property
    def standing_s(self) -> float:
        """Seconds that it has stood; 0 while it moves."""
        return self.at_s - self.standing_since_s if np.isfinite(self.standing_since_s) else 0.0

    def back(self, seconds: float) -> int:
        """Index into the histories, of the newest point at least `seconds` ago (or the oldest)."""
        for k in range(len(self.times) - 1, -1, -1):
            if self.times[k] <= self.at_s - seconds:
                return k
        return 0


class Follower:
    """The tracks of one stream. rate_hz: frames a second, about."""

    def __init__(
        self, calibration: Calibration | None, rate_hz: float, size: tuple[int, int]
    ) -> None:
        self._calibration, self._size = calibration, size
        self._names = Association(rate_hz)
        self.tracks: dict[int, Track] = {}
        self.ended, self._measured_s = 0, -np.inf

    def follow(self, at_s: float, found: sv.Detections) -> list[Track]:
        """The tracks in view that were seen `CONFIRMED` times; those that are only guessed at
        (`coasting`) included.
        """
        sights = self._names.match(at_s, found)
        met = []
        for sight in sights:
            if sight.track not in self.tracks:
                self.tracks[sight.track] = self._begun(sight, at_s)
            met.append(self.tracks[sight.track])
        boxes = np.array([s.box for s in sights]).reshape(-1, 4)
        heights = np.array([HEIGHT_M[t.kind if t.votes.any() else CAR] for t in met])
        for track, sight, foot, road, length_m in zip(
            met, sights, *self._places(boxes, heights), strict=True
        ):
            if np.isfinite(length_m):
                track.length_m = (
                    length_m
                    if np.isnan(track.length_m)
                    else 0.95 * track.length_m + 0.05 * length_m
                )
            self._add(track, at_s, sight.box, tuple(foot.tolist()), tuple(road.tolist()))
            track.confidence = sight.confidence
            track.votes[self._kind(track, sight.kind)] += sight.confidence
        if at_s - self._measured_s >= MEASURE_EVERY_S or at_s < self._measured_s:
            self._measured_s = at_s
            self._measure(met)
        for track in met:
            self._stands(track)
        for number, box in self._names.expected(at_s, COAST_S).items():
            if number in self.tracks:
                self.tracks[number].box, self.tracks[number].coasting = box, True
        for number in [n for n, t in self.tracks.items() if at_s - t.at_s > 3.0]:
            del self.tracks[number]
            self.ended += 1
        return [t for t in self.tracks.values() if at_s - t.at_s <= COAST_S and t.seen >= CONFIRMED]

    def _begun(self, sight: Sight, at_s: float) -> Track:
        """A new one, with what was seen of it before it was sure."""
        track = Track(sight.track, sight.before[0][0] if sight.before else at_s)
        boxes = np.array([box for _, box in sight.before]).reshape(-1, 4)
        feet, roads, _ = self._places(boxes, np.full(len(boxes), HEIGHT_M[CAR]))
        for (then_s, box), foot, road in zip(sight.before, feet, roads, strict=True):
            self._add(track, then_s, box, tuple(foot.tolist()), tuple(road.tolist()))
        return track

    def _add(
        self,
        track: Track,
        at_s: float,
        box: FloatArray,
        foot: tuple[float, float],
        road: tuple[float, float],
    ) -> None:
        track.at_s = at_s
        track.box = box
        track.coasting = False
        track.seen += 1
        width, height = self._size
        track.times.append(at_s)
        track.feet.append(foot)
        track.road.append(road)
        track.boxes.append(box)
        track.whole.append(
            bool(
                box[0] > BORDER_PX
                and box[1] > BORDER_PX
                and box[2] < width - BORDER_PX
                and box[3] < height - BORDER_PX
            )
        )
        while track.times and track.times[0] < at_s - KEPT_S:
            for history in (track.times, track.feet, track.road, track.whole, track.boxes):
                history.popleft()

    def _places(
        self, boxes: FloatArray, heights_m: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Where each meets the road: pixels (m, 2), metres (m, 2); and its length, metres (m,).

        That is the point of the road below its middle where the camera's place is known; else the
        middle of the lower edge.
        """
        of, middle = self._calibration, (boxes[:, :2] + boxes[:, 2:]) / 2.0
        feet = np.c_[middle[:, 0], boxes[:, 3]]
        if of is None:
            return feet, np.full_like(feet, np.nan), np.full(len(feet), np.nan)
        corners = of.road(boxes.reshape(-1, 2), HEIGHT_M[CAR] / 2.0).reshape(-1, 2, 2)
        length = np.hypot(*(corners[:, 1] - corners[:, 0]).T)
        if of.camera_m is None:
            return feet, of.road(feet), length
        road = of.road(middle, heights_m / 2.0)
        seen = of.picture(road)
        return (
            np.where(np.isfinite(seen), seen, feet),
            road,
            length,
        )  # above the horizon there is no road

    def _measure(self, tracks: list[Track]) -> None:
        """The speed a moment ago and the mean over the last second, of the points where the whole
        of it was in the picture.
        """
        if self._calibration is None:
            return
        ways = []
        for track in tracks:
            first = track.back(SPEED_SPAN_S)
            kept = [
                k
                for k in range(first, len(track.times))
                if track.whole[k] and np.isfinite(track.road[k][0])
            ]  # above the horizon there is no place
            if (
                len(kept) >= LEAST_POINTS
                and kept[-1] == len(track.times) - 1
                and track.at_s - track.times[kept[0]] >= LEAST_SPAN_S
            ):
                ways.append((track, kept))
            else:
                track.speed_mps = track.mean_mps = track.mean_se_mps = np.nan
        if not ways:
            return
        count = np.array([len(kept) for _, kept in ways])
        t, xy = np.zeros((len(ways), count.max())), np.zeros((len(ways), count.max(), 2))
        for k, (track, kept) in enumerate(ways):
            t[k, : len(kept)] = [track.times[i] - track.at_s for i in kept]
            xy[k, : len(kept)] = [track.road[i] for i in kept]
        of = motions(t, xy, count)
        for (track, _), (x, y), mean, error in zip(
            ways, of.velocity.tolist(), of.mean_mps.tolist(), of.mean_se_mps.tolist(), strict=True
        ):
            track.velocity = (x, y)
            track.speed_mps = float(np.hypot(x, y))
            track.mean_mps = mean
            track.mean_se_mps = error

    def _stands(self, track: Track) -> None:
        speed = self._still(track) if np.isnan(track.speed_mps) else track.speed_mps
        if speed < STANDING_MPS:
            track.standing_since_s = (
                track.standing_since_s if np.isfinite(track.standing_since_s) else track.at_s
            )
        elif not speed <= MOVING_MPS:
            track.standing_since_s = np.nan

    def _still(self, track: Track) -> float:
        """Without a calibration: a tenth of its own size a second counts as 1 m/s."""
        k = track.back(SPEED_SPAN_S)
        lasted = track.at_s - track.times[k]
        if lasted < LEAST_SPAN_S:
            return np.inf
        moved = np.hypot(track.feet[-1][0] - track.feet[k][0], track.feet[-1][1] - track.feet[k][1])
        return float(moved / max(track.box[3] - track.box[1], 1.0) * 10.0 / lasted)

    def _kind(self, track: Track, kind: int) -> int:
        """What only moves gets its class from its length on the road."""
        if kind != VEHICLE or np.isnan(track.length_m):
            return kind
        length = track.length_m
        return (
            PERSON
            if length < 1.3
            else MOTORCYCLE
            if length < 3.0
            else CAR
            if length < 8.5
            else TRUCK
        )
