"""Detections followed over time: ids by ByteTrack, classes by vote, positions on the road, speeds with their standard error."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import supervision as sv
from trackers import ByteTrackTracker

from headway.sensing.detect import BICYCLE, BUS, CAR, CLASSES, MOTORCYCLE, PERSON, TRUCK, VEHICLE
from headway.sensing.site import Calibration
from headway.values import FloatArray

SURE, OVERLAP, CONFIRMED = 0.32, 0.25, 3  # docs/decisions/0008-vision.md
SPEED_SPAN_S, LEAST_SPAN_S, LEAST_POINTS, CUBIC_POINTS, ROUNDS = 1.0, 0.35, 5, 8, 3
LAG_S, STANDING_MPS, MOVING_MPS, COAST_S, KEPT_S, BORDER_PX = 0.1, 0.5, 1.0, 0.4, 20.0, 3.0
HEIGHT_M = {PERSON: 1.7, BICYCLE: 1.6, CAR: 1.5, MOTORCYCLE: 1.5, BUS: 3.0, TRUCK: 3.0, VEHICLE: 1.5}


@dataclass(eq=False)
class Track:
    """One road user. `feet`: where it meets the road, pixels; `road`: the same in metres (nan without calibration); newest last, `KEPT_S` of them."""

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
    mean_mps: float = np.nan  # over the last second, with its standard error: what a violation rests on
    mean_se_mps: float = np.nan
    velocity: tuple[float, float] = (np.nan, np.nan)
    standing_since_s: float = np.nan
    marks: dict[str, float] = field(default_factory=dict)  # what happened to it, and when: lines crossed, zones entered, rules told

    @property
    def kind(self) -> int:
        return int(self.votes.argmax())

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

    def __init__(self, calibration: Calibration | None, rate_hz: float, size: tuple[int, int]) -> None:
        self._calibration, self._size = calibration, size
        self._byte = ByteTrackTracker(
            lost_track_buffer=45, frame_rate=max(rate_hz, 1.0), track_activation_threshold=SURE, minimum_consecutive_frames=1,
            minimum_iou_threshold=OVERLAP, high_conf_det_threshold=SURE,
        )  # fmt: skip
        self.tracks: dict[int, Track] = {}
        self.ended = 0

    def follow(self, at_s: float, found: sv.Detections) -> list[Track]:
        """The tracks in view that were seen `CONFIRMED` times; those that are only guessed at (`coasting`) included."""
        tracked = self._byte.update(found)
        ids = np.asarray(tracked.tracker_id if tracked.tracker_id is not None else np.zeros(0), np.int64)
        for row in np.flatnonzero(ids >= 0).tolist():
            number = int(ids[row])
            track = self.tracks.get(number)
            if track is None:
                track = self.tracks[number] = Track(number, at_s)
            confidence = float(tracked.confidence[row]) if tracked.confidence is not None else 1.0
            kind = int(tracked.class_id[row]) if tracked.class_id is not None else VEHICLE
            self._add(track, at_s, np.asarray(tracked.xyxy[row], np.float64), confidence, kind)
        for one in self._byte.tracks:  # lost for a moment: where it should be by now
            track = self.tracks.get(one.tracker_id)
            if track is not None and track.at_s < at_s and at_s - track.at_s <= COAST_S:
                track.box, track.coasting = np.asarray(one.get_state_bbox(), np.float64), True
        for number in [n for n, t in self.tracks.items() if at_s - t.at_s > 3.0]:
            del self.tracks[number]
            self.ended += 1
        return [t for t in self.tracks.values() if at_s - t.at_s <= COAST_S and t.seen >= CONFIRMED]

    def _add(self, track: Track, at_s: float, box: FloatArray, confidence: float, kind: int) -> None:
        track.at_s, track.box, track.confidence, track.coasting = at_s, box, confidence, False
        track.seen += 1
        foot, road = self._place(track, box)
        width, height = self._size
        track.times.append(at_s)
        track.feet.append(foot)
        track.road.append(road)
        track.boxes.append(box)
        track.whole.append(bool(box[0] > BORDER_PX and box[1] > BORDER_PX and box[2] < width - BORDER_PX and box[3] < height - BORDER_PX))
        while track.times and track.times[0] < at_s - KEPT_S:
            for history in (track.times, track.feet, track.road, track.whole, track.boxes):
                history.popleft()
        self._measure(track)
        track.votes[self._kind(track, kind)] += confidence
        speed = track.speed_mps
        if np.isnan(speed):
            speed = self._still(track)
        if speed < STANDING_MPS:
            track.standing_since_s = track.standing_since_s if np.isfinite(track.standing_since_s) else at_s
        elif not speed <= MOVING_MPS:
            track.standing_since_s = np.nan

    def _place(self, track: Track, box: FloatArray) -> tuple[tuple[float, float], tuple[float, float]]:
        """The point of the road below its middle where the camera's place is known; else the middle of the lower edge."""
        of = self._calibration
        if of is not None and of.camera_m is not None:
            middle = np.array([[(box[0] + box[2]) / 2.0, (box[1] + box[3]) / 2.0]])
            road = of.road(middle, HEIGHT_M[track.kind if track.seen else CAR] / 2.0)
            foot = of.picture(road)[0] if np.isfinite(road).all() else np.array([(box[0] + box[2]) / 2.0, box[3]])  # above the horizon
            return (float(foot[0]), float(foot[1])), (float(road[0, 0]), float(road[0, 1]))
        foot = np.array([(box[0] + box[2]) / 2.0, box[3]])
        road = of.road(foot[None]) if of is not None else np.full((1, 2), np.nan)
        return (float(foot[0]), float(foot[1])), (float(road[0, 0]), float(road[0, 1]))

    def _measure(self, track: Track) -> None:
        """The speed `LAG_S` ago and the mean over the last second, of the points where the whole of it was in the picture."""
        if self._calibration is None:
            return
        if np.isnan(track.length_m) or track.seen % 5 == 0:
            corners = self._calibration.road(track.box.reshape(2, 2), HEIGHT_M[CAR] / 2.0)
            length = float(np.hypot(*(corners[1] - corners[0])))
            track.length_m = length if np.isnan(track.length_m) else 0.8 * track.length_m + 0.2 * length
        first = track.back(SPEED_SPAN_S)
        rows = [k for k in range(first, len(track.times)) if track.whole[k]]
        if len(rows) < LEAST_POINTS or track.times[rows[-1]] - track.times[rows[0]] < LEAST_SPAN_S or rows[-1] != len(track.times) - 1:
            track.speed_mps = track.mean_mps = track.mean_se_mps = np.nan
            return
        t = np.array([track.times[k] for k in rows])
        of = fitted(t - track.at_s, np.array([track.road[k] for k in rows]))
        track.velocity, track.speed_mps = of.velocity, float(np.hypot(*of.velocity))
        track.mean_mps, track.mean_se_mps = of.mean_mps, of.mean_se_mps

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
        return PERSON if length < 1.3 else MOTORCYCLE if length < 3.0 else CAR if length < 8.5 else TRUCK


@dataclass(frozen=True, slots=True)
class Motion:
    """velocity: `LAG_S` before the last point, m/s; mean_mps: length of the way over the time of all points, with its standard error."""

    velocity: tuple[float, float]
    mean_mps: float
    mean_se_mps: float


def fitted(t: FloatArray, xy: FloatArray) -> Motion:
    """A track's motion, from times (n,) up to 0 and places (n, 2), metres: polynomials by least squares, points that lie off (Huber) weighing less.

    A parabola tells the velocity now: a cubic trembles at its end. A cubic tells the way: a parabola cuts turns short, by some 4 %.
    """
    terms = 4 if len(t) >= CUBIC_POINTS else 3
    middle, weights = t - (t[0] + t[-1]) / 2.0, np.ones(len(t))
    powers = middle[:, None] ** np.arange(terms)
    for _ in range(ROUNDS):
        by = powers.T * weights
        normal, right = by @ powers, by @ xy
        curve = np.linalg.solve(normal, right)
        rest = xy - powers @ curve
        off = np.sqrt(np.einsum("ij,ij->i", rest, rest))
        weights = np.minimum(1.0, 2.2 * (float(np.partition(off, len(off) // 2)[len(off) // 2]) + 1e-3) / np.maximum(off, 1e-9))
    bend = np.linalg.solve(normal[:3, :3], right[:3])
    velocity = bend[1] + 2.0 * (middle[-1] - LAG_S) * bend[2]
    span = middle[-1] - middle[0]
    at = np.linspace(middle[0], middle[-1], 11)
    steps = (at[:, None] ** np.arange(terms - 1) * np.arange(1, terms)) @ curve[1:]
    ends = powers[-1] - powers[0]
    moved = ends @ curve
    along = moved / max(float(np.hypot(*moved)), 1e-6)
    variance = float(np.square(rest @ along).sum()) / max(len(t) - terms, 1) * float(ends @ np.linalg.solve(normal, ends)) / span**2
    mean = float(np.sqrt(np.einsum("ij,ij->i", steps, steps)).mean())
    return Motion((float(velocity[0]), float(velocity[1])), mean, float(np.sqrt(variance)))
