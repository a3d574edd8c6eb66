"""Tracks of road users: class by vote, position on the road, speed with its standard error."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import supervision as sv

from headway.sensing.tracking.association import Association, TrackedDetection
from headway.sensing.tracking.speed import has_leap, motions
from headway.sensing.traffic.calibration import Calibration
from headway.values import FloatArray
from headway.vision.boxes import centres, lower_edges
from headway.vision.detection.detectors import (
    BICYCLE,
    BUS,
    CAR,
    CLASSES,
    MOTORCYCLE,
    PERSON,
    TRUCK,
    VEHICLE,
)

CONFIRMED = 3  # detections from which a track is shown: noise does not last as long
COAST_S = 0.4  # s for which a lost track is shown where it is predicted
ENDED_AFTER_S = 3.0  # s without a detection, then a track has ended
KEPT_S = 20.0  # s of history
BORDER_PX = 3.0  # px; a box nearer to the image's edge may be cut off

# Speed
SPEED_FIT_S = 1.0  # s of points that it is fitted to
LEAST_SPAN_S = 0.35  # s; fewer have no usable standard error
LEAST_POINTS = 5  # the fewest for a parabola with an error
MEASURE_EVERY_S = 0.06  # s; at higher rates a new fit each frame costs and says nothing new

# Stopping, with hysteresis
TRACK_STOPPED_MPS = 0.5  # m/s below which a road user stops
TRACK_MOVING_MPS = 1.0  # m/s above which it moves again
HEIGHTS_MPS = 10.0  # m/s assumed for one box height a second, without a calibration

# Lengths
LENGTH_MEMORY = 0.95  # of the known length, kept with each new one
LENGTH_GAIN = 0.05  # of the new one
LONGEST_M = {PERSON: 1.3, MOTORCYCLE: 3.0, CAR: 8.5}  # m, by which what only moves gets its class
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
    """One road user.

    at_s:         time of its last detection. box: (4,), left, top, right, bottom, pixels.
    observations: detections so far. coasting: lost a moment ago, its box is predicted.
    votes:        (classes,), sum of confidences.

    Histories, newest last, `KEPT_S` of them, as long as each other:
    times; ground_px: where it meets the road; road_m: the same on the road (nan without a
    calibration); fully_visible: not cut off by the image's edge; boxes.

    speed_mps:    a moment ago. mean_mps: over the last second, with its standard error: what a
                  violation rests on. nan where not known.
    """

    id: int
    started_s: float
    at_s: float = 0.0
    box: FloatArray = field(default_factory=lambda: np.zeros(4))
    confidence: float = 0.0
    observations: int = 0
    coasting: bool = False
    votes: FloatArray = field(default_factory=lambda: np.zeros(len(CLASSES)))
    times: deque[float] = field(default_factory=deque)
    ground_px: deque[tuple[float, float]] = field(default_factory=deque)
    road_m: deque[tuple[float, float]] = field(default_factory=deque)
    fully_visible: deque[bool] = field(default_factory=deque)
    boxes: deque[FloatArray] = field(default_factory=deque)
    length_m: float = np.nan
    speed_mps: float = np.nan
    mean_mps: float = np.nan
    mean_se_mps: float = np.nan
    velocity_mps: tuple[float, float] = (np.nan, np.nan)
    stopped_since_s: float = np.nan
    lines_crossed: dict[str, float] = field(default_factory=dict)  # line: when last, s
    violations: set[str] = field(default_factory=set)  # decisions of rules reported of it

    @property
    def kind(self) -> int:
        """Its class, as an index into `CLASSES`."""
        return int(self.votes.argmax())

    @property
    def height_px(self) -> float:
        """Of its box."""
        _, top, _, bottom = self.box
        return float(bottom - top)

    @property
    def stopped_s(self) -> float:
        """Seconds for which it has been stopped; 0 while it moves."""
        return self.at_s - self.stopped_since_s if np.isfinite(self.stopped_since_s) else 0.0

    def index_before(self, seconds: float) -> int:
        """Index into the histories of the newest point at least `seconds` before the last
        detection; the oldest where none is.
        """
        for k in range(len(self.times) - 1, -1, -1):
            if self.times[k] <= self.at_s - seconds:
                return k
        return 0

    def drop_before(self, at_s: float) -> None:
        """Shorten the histories."""
        while self.times and self.times[0] < at_s:
            self.times.popleft()
            self.ground_px.popleft()
            self.road_m.popleft()
            self.fully_visible.popleft()
            self.boxes.popleft()


@dataclass(frozen=True, slots=True)
class _Positions:
    """Of m boxes. ground_px, road_m: (m, 2), where each meets the road (road: nan without a
    calibration); length_m: (m,).
    """

    ground_px: FloatArray
    road_m: FloatArray
    length_m: FloatArray


class Tracker:
    """The tracks of one stream. rate_hz: frames a second, about. size: of a frame, width and
    height, pixels. ended: tracks that have ended so far.
    """

    def __init__(
        self, calibration: Calibration | None, rate_hz: float, size: tuple[int, int]
    ) -> None:
        self._calibration = calibration
        self._size = size
        self._association = Association(rate_hz)
        self._measured_s = -np.inf
        self.tracks: dict[int, Track] = {}
        self.ended = 0

    def update(self, at_s: float, found: sv.Detections) -> list[Track]:
        """Take in one frame's detections: the confirmed tracks in view, with those that are only
        predicted (`coasting`).
        """
        matched = self._association.match(at_s, found)
        detected = [self._track(one, at_s) for one in matched]
        self._add_detections(at_s, detected, matched)
        if at_s - self._measured_s >= MEASURE_EVERY_S or at_s < self._measured_s:
            self._measured_s = at_s
            self._measure_speeds(detected)
        for track in detected:
            _update_stopped(track)

        for number, box in self._association.predicted(at_s, COAST_S).items():
            if number in self.tracks:
                self.tracks[number].box = box
                self.tracks[number].coasting = True
        self._end_lost(at_s)
        return [
            track
            for track in self.tracks.values()
            if at_s - track.at_s <= COAST_S and track.observations >= CONFIRMED
        ]

    def _track(self, one: TrackedDetection, at_s: float) -> Track:
        """Its track; a new one with where it was before it was sure."""
        if one.track in self.tracks:
            return self.tracks[one.track]
        track = Track(one.track, started_s=one.earlier[0][0] if one.earlier else at_s)
        boxes = np.array([box for _, box in one.earlier]).reshape(-1, 4)
        positions = self._positions(boxes, np.full(len(boxes), HEIGHT_M[CAR]))
        for row, (then_s, box) in enumerate(one.earlier):
            self._add(track, then_s, box, positions, row)
        self.tracks[one.track] = track
        return track

    def _add_detections(
        self, at_s: float, tracks: Sequence[Track], matched: Sequence[TrackedDetection]
    ) -> None:
        boxes = np.array([one.box for one in matched]).reshape(-1, 4)
        heights_m = np.array([HEIGHT_M[t.kind if t.votes.any() else CAR] for t in tracks])
        positions = self._positions(boxes, heights_m)
        for row, (track, one) in enumerate(zip(tracks, matched, strict=True)):
            _update_length(track, positions.length_m.item(row))
            self._add(track, at_s, one.box, positions, row)
            track.confidence = one.confidence
            track.votes[_kind(track, one.kind)] += one.confidence

    def _add(
        self, track: Track, at_s: float, box: FloatArray, positions: _Positions, row: int
    ) -> None:
        """One detection to the track's histories."""
        track.at_s = at_s
        track.box = box
        track.coasting = False
        track.observations += 1
        track.times.append(at_s)
        track.ground_px.append(tuple(positions.ground_px[row].tolist()))
        track.road_m.append(tuple(positions.road_m[row].tolist()))
        track.fully_visible.append(self._is_fully_visible(box))
        track.boxes.append(box)
        track.drop_before(at_s - KEPT_S)

    def _is_fully_visible(self, box: FloatArray) -> bool:
        left, top, right, bottom = box
        width, height = self._size
        return bool(
            left > BORDER_PX
            and top > BORDER_PX
            and right < width - BORDER_PX
            and bottom < height - BORDER_PX
        )

    def _positions(self, boxes: FloatArray, heights_m: FloatArray) -> _Positions:
        """Where road users of these heights meet the road: the point of the road below the middle
        of the box where the camera's place is known, else the middle of the box's lower edge.
        """
        calibration, middle = self._calibration, centres(boxes)
        lower_edge = lower_edges(boxes)
        if calibration is None:
            unknown = np.full_like(lower_edge, np.nan)
            return _Positions(lower_edge, unknown, np.full(len(boxes), np.nan))

        corners = calibration.to_road(boxes.reshape(-1, 2), HEIGHT_M[CAR] / 2.0).reshape(-1, 2, 2)
        length_m = np.hypot(*(corners[:, 1] - corners[:, 0]).T)
        if calibration.camera_m is None:
            return _Positions(lower_edge, calibration.to_road(lower_edge), length_m)

        road_m = calibration.to_road(middle, heights_m / 2.0)
        below = calibration.to_image(road_m)
        # above the horizon there is no road
        return _Positions(np.where(np.isfinite(below), below, lower_edge), road_m, length_m)

    def _measure_speeds(self, tracks: Sequence[Track]) -> None:
        """The speed a moment ago and the mean over the last second, by the points at which the
        whole road user was in the image.
        """
        if self._calibration is None:
            return
        measurable = []
        for track in tracks:
            points = _usable_points(track)
            if points:
                measurable.append((track, points))
            else:
                track.speed_mps = track.mean_mps = track.mean_se_mps = np.nan
        if measurable:
            _fit_speeds(measurable)

    def _end_lost(self, at_s: float) -> None:
        for number in [n for n, t in self.tracks.items() if at_s - t.at_s > ENDED_AFTER_S]:
            del self.tracks[number]
            self.ended += 1


def _usable_points(track: Track) -> list[int]:
    """Indices of the points that its speed can be fitted to; none where they are too few, too
    short, or the last is not among them.
    """
    points = [
        k
        for k in range(track.index_before(SPEED_FIT_S), len(track.times))
        if track.fully_visible[k] and np.isfinite(track.road_m[k][0])  # not above the horizon
    ]
    if len(points) < LEAST_POINTS or points[-1] != len(track.times) - 1:
        return []
    return points if track.at_s - track.times[points[0]] >= LEAST_SPAN_S else []


def _fit_speeds(measurable: Sequence[tuple[Track, list[int]]]) -> None:
    """All tracks of a frame at once, each by its points; unknown for one that leaps."""
    count = np.array([len(points) for _, points in measurable])
    times_s = np.zeros((len(measurable), count.max()))
    road_m = np.zeros((len(measurable), count.max(), 2))
    for row, (track, points) in enumerate(measurable):
        times_s[row, : len(points)] = [track.times[k] - track.at_s for k in points]
        road_m[row, : len(points)] = [track.road_m[k] for k in points]
    fitted, leaps = motions(times_s, road_m, count), has_leap(times_s, road_m, count)
    for row, (track, _) in enumerate(measurable):
        if leaps[row]:
            track.speed_mps = track.mean_mps = track.mean_se_mps = np.nan
            track.velocity_mps = (np.nan, np.nan)
            continue
        x, y = fitted.velocity_mps[row].tolist()
        track.velocity_mps = (x, y)
        track.speed_mps = float(np.hypot(x, y))
        track.mean_mps = fitted.mean_mps.item(row)
        track.mean_se_mps = fitted.mean_se_mps.item(row)


def _update_stopped(track: Track) -> None:
    speed_mps = track.speed_mps
    if np.isnan(speed_mps):
        speed_mps = _speed_by_height(track)
    if speed_mps < TRACK_STOPPED_MPS:
        if np.isnan(track.stopped_since_s):
            track.stopped_since_s = track.at_s
    elif not speed_mps <= TRACK_MOVING_MPS:
        track.stopped_since_s = np.nan


def _speed_by_height(track: Track) -> float:
    """m/s, roughly, without a calibration: by the height of its box. Infinite before the track is
    long enough: a new one counts as moving.
    """
    k = track.index_before(SPEED_FIT_S)
    lasted_s = track.at_s - track.times[k]
    if lasted_s < LEAST_SPAN_S:
        return np.inf
    (x, y), (then_x, then_y) = track.ground_px[-1], track.ground_px[k]
    moved_px = np.hypot(x - then_x, y - then_y)
    return float(moved_px / max(track.height_px, 1.0) * HEIGHTS_MPS / lasted_s)


def _update_length(track: Track, length_m: float) -> None:
    """Slowly: boxes tremble. Not finite where its top is above the horizon."""
    if not np.isfinite(length_m):
        return
    if np.isnan(track.length_m):
        track.length_m = length_m
    else:
        track.length_m = LENGTH_MEMORY * track.length_m + LENGTH_GAIN * length_m


def _kind(track: Track, kind: int) -> int:
    """What only moves gets its class from its length on the road."""
    if kind != VEHICLE or np.isnan(track.length_m):
        return kind
    for one, longest_m in LONGEST_M.items():
        if track.length_m < longest_m:
            return one
    return TRUCK
