"""Traffic measures from the tracks of one stream: counts, turns, headways, queues, occupancy,
congestion, a heat map.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from headway.sensing.tracking.tracks import Track
from headway.sensing.traffic.site import Line, Site, Zone
from headway.vision.detection.detectors import CLASSES, PERSON

LANE_SPEED_WINDOW_S = 60.0  # s over which a lane's mean speed is taken
RECOUNT_S = 5.0  # s in which a track that trembles on a line is counted once
QUEUED_AFTER_S = 1.0  # s stopped, then a vehicle is in the queue
SHORTEST_FLOW_S = 1.0  # s; a flow over less says nothing
USUAL_LIMIT_KMH = 50.0  # km/h where the site has none, for the level of congestion
HEAT_CELLS = 64  # of the heat map, along the width

KEPT_CROSSINGS = 2000
KEPT_HEADWAYS = 200  # of each line
KEPT_MINUTES = 60  # of each line, for the prediction
MINUTE_S = 60.0

# Exponential smoothing with a damped trend, per minute
LEVEL_GAIN = 0.3
TREND_GAIN = 0.1
DAMPING = 0.9
LEAST_MINUTES = 3  # whole minutes that a prediction needs
PREDICTED_MINUTES = 5

PARALLEL = 1e-12  # square pixels; below, two ways do not cross

# from this share of the speed limit: level of congestion
CONGESTION = ((0.7, "free"), (0.4, "dense"), (0.15, "slow"), (0.0, "jam"))


class Direction(StrEnum):
    """Looking from a line's first point to its second, `in` is from right to left."""

    IN = "in"
    OUT = "out"


class Intersection(NamedTuple):
    """share: where on the step, 0 (its begin) to 1."""

    share: float
    direction: Direction


@dataclass(frozen=True, slots=True)
class Crossing:
    """A track has crossed a line. at_s: between two frames, by where it was before and after."""

    at_s: float
    line: str
    direction: str
    track: int
    kind: str
    speed_mps: float
    speed_se_mps: float


class _FrameSpeeds(NamedTuple):
    """Speeds of one frame."""

    at_s: float
    total_mps: float
    vehicles: int


@dataclass
class _Lane:
    """total_mps, count: sum and number of the speeds of the last `LANE_SPEED_WINDOW_S`."""

    occupied_s: float = 0.0
    speeds: deque[_FrameSpeeds] = field(default_factory=deque)
    total_mps: float = 0.0
    count: int = 0
    inside: list[Track] = field(default_factory=list)

    def add_speeds(self, at_s: float, speeds_mps: list[float]) -> None:
        if speeds_mps:
            new = _FrameSpeeds(at_s, sum(speeds_mps), len(speeds_mps))
            self.speeds.append(new)
            self.total_mps += new.total_mps
            self.count += new.vehicles
        while self.speeds and self.speeds[0].at_s < at_s - LANE_SPEED_WINDOW_S:
            old = self.speeds.popleft()
            self.total_mps -= old.total_mps
            self.count -= old.vehicles

    @property
    def mean_mps(self) -> float | None:
        return max(self.total_mps / self.count, 0.0) if self.count else None

    @property
    def queue(self) -> list[Track]:
        return [track for track in self.inside if track.stopped_s > QUEUED_AFTER_S]


class Measures:
    """One stream's measures. `update` once a frame; `figures` whenever they are asked for.

    counts:    crossings by line, direction and class. turns: by line and line.
    crossings: the last ones. headways: of each line the last ones, s.
    heat:      seconds that road users were in each cell of the image.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.turns: Counter[tuple[str, str]] = Counter()
        self.crossings: deque[Crossing] = deque(maxlen=KEPT_CROSSINGS)
        self.headways: dict[str, deque[float]] = {
            line.name: deque(maxlen=KEPT_HEADWAYS) for line in site.lines
        }
        width, height = site.size
        self.heat = np.zeros((max(round(HEAT_CELLS * height / width), 1), HEAT_CELLS))

        self._last_crossing_s: dict[str, float] = {}
        self._whole_minutes: dict[str, deque[int]] = {
            line.name: deque(maxlen=KEPT_MINUTES) for line in site.lines
        }
        self._this_minute: Counter[str] = Counter()
        self._minute_began_s: float | None = None
        self._lanes = {zone.name: _Lane() for zone in site.zones if zone.kind == "lane"}
        self._masks = {zone.name: _mask(zone, site.size) for zone in site.zones}
        self._zones_of: dict[int, list[str]] = {}
        self._began_s: float | None = None
        self._at_s: float | None = None

    def zones_of(self, track: Track) -> list[str]:
        """Names of the zones that a track was on in the last frame."""
        return self._zones_of.get(track.id, [])

    def update(self, at_s: float, tracks: list[Track]) -> list[Crossing]:
        """Take in one frame; the lines crossed since the one before."""
        lasted_s = at_s - self._at_s if self._at_s is not None else 0.0
        self._began_s = at_s if self._began_s is None else self._began_s
        self._at_s = at_s
        self._count_minutes(at_s)

        self._zones_of = {track.id: self._zones_at(track.ground_px[-1]) for track in tracks}
        crossings = []
        for track in tracks:
            if track.at_s == at_s and len(track.ground_px) > 1:
                crossings += self._crossings(track)
        self.crossings.extend(crossings)

        for name, lane in self._lanes.items():
            self._update_lane(name, lane, at_s, lasted_s, tracks)
        for track in tracks:
            self._add_heat(track.ground_px[-1], lasted_s)
        return crossings

    def figures(self) -> dict[str, Any]:
        """Counts (vehicles), flows (veh/h), headways (s), queues (vehicles, m), occupancy (0 to 1),
        congestion, as plain figures.
        """
        lasted_s = 0.0
        if self._at_s is not None and self._began_s is not None:
            lasted_s = max(self._at_s - self._began_s, 1e-9)
        lanes = [zone for zone in self.site.zones if zone.kind == "lane"]
        return {
            "seconds": lasted_s,
            "lines": {line.name: self._line_figures(line, lasted_s) for line in self.site.lines},
            "lanes": {zone.name: self._lane_figures(zone, lasted_s) for zone in lanes},
            "turns": [{"from": a, "to": b, "n": n} for (a, b), n in sorted(self.turns.items())],
        }

    def count_of(self, line: str, direction: Direction) -> dict[str, int]:
        """Crossings of a line in a direction, by class."""
        return {
            kind: count
            for (name, way, kind), count in self.counts.items()
            if name == line and way == direction
        }

    def _line_figures(self, line: Line, lasted_s: float) -> dict[str, Any]:
        counts = {way.value: self.count_of(line.name, way) for way in Direction}
        total = sum(sum(by_class.values()) for by_class in counts.values())
        headways = self.headways[line.name]
        return {
            **counts,
            "flow_veh_h": total / lasted_s * 3600.0 if lasted_s > SHORTEST_FLOW_S else None,
            "mean_headway_s": float(np.mean(headways)) if headways else None,
            "predicted_veh_h": predicted_flow(list(self._whole_minutes[line.name])),
        }

    def _lane_figures(self, zone: Zone, lasted_s: float) -> dict[str, Any]:
        lane = self._lanes[zone.name]
        queue = lane.queue
        return {
            "vehicles": len(lane.inside),
            "queue_veh": len(queue),
            "queue_m": _queue_length_m(queue),
            "longest_wait_s": max((track.stopped_s for track in queue), default=0.0),
            "occupancy": lane.occupied_s / lasted_s if lasted_s > 0.0 else 0.0,
            "mean_speed_mps": lane.mean_mps,
            "congestion": self._congestion(zone, lane),
        }

    def _congestion(self, zone: Zone, lane: _Lane) -> str:
        """By the mean speed of the last minute; without one, by whether a vehicle is there."""
        if lane.mean_mps is None:
            return "unknown" if lane.inside else "free"
        limit_kmh = zone.limit_kmh or self.site.rules.limit_kmh or USUAL_LIMIT_KMH
        share = lane.mean_mps / (limit_kmh / 3.6)
        return next(level for least, level in CONGESTION if share >= least)

    def _update_lane(
        self, name: str, lane: _Lane, at_s: float, lasted_s: float, tracks: list[Track]
    ) -> None:
        lane.inside = [t for t in tracks if t.kind != PERSON and name in self._zones_of[t.id]]
        lane.occupied_s += lasted_s if lane.inside else 0.0
        speeds_mps = [t.speed_mps for t in lane.inside if np.isfinite(t.speed_mps)]
        lane.add_speeds(at_s, speeds_mps)

    def _zones_at(self, ground_px: tuple[float, float]) -> list[str]:
        return [name for name, mask in self._masks.items() if _is_set(mask, ground_px)]

    def _add_heat(self, ground_px: tuple[float, float], lasted_s: float) -> None:
        rows, columns = self.heat.shape
        column = int(ground_px[0] / self.site.size[0] * columns)
        row = int(ground_px[1] / self.site.size[1] * rows)
        if 0 <= column < columns and 0 <= row < rows:
            self.heat[row, column] += lasted_s

    def _count_minutes(self, at_s: float) -> None:
        if self._minute_began_s is None:
            self._minute_began_s = at_s
        while at_s >= self._minute_began_s + MINUTE_S:
            for name, counts in self._whole_minutes.items():
                counts.append(self._this_minute[name])
            self._this_minute.clear()
            self._minute_began_s += MINUTE_S

    def _crossings(self, track: Track) -> list[Crossing]:
        """The lines that a track crossed with its last step."""
        found = []
        for line in self.site.lines:
            at = intersection(track.ground_px[-2], track.ground_px[-1], line)
            if at is None:
                continue
            at_s = track.times[-2] + at.share * (track.times[-1] - track.times[-2])
            if at_s - track.lines_crossed.get(line.name, -np.inf) >= RECOUNT_S:
                found.append(self._count(track, line, at.direction, at_s))
        return found

    def _count(self, track: Track, line: Line, direction: Direction, at_s: float) -> Crossing:
        kind = CLASSES[track.kind]
        self.counts[line.name, direction.value, kind] += 1
        self._this_minute[line.name] += 1
        if track.lines_crossed:
            _, previous = max((then_s, name) for name, then_s in track.lines_crossed.items())
            self.turns[previous, line.name] += 1
        track.lines_crossed[line.name] = at_s
        if line.name in self._last_crossing_s:
            self.headways[line.name].append(at_s - self._last_crossing_s[line.name])
        self._last_crossing_s[line.name] = at_s
        return Crossing(
            at_s=at_s,
            line=line.name,
            direction=direction.value,
            track=track.id,
            kind=kind,
            speed_mps=track.mean_mps,
            speed_se_mps=track.mean_se_mps,
        )


def predicted_flow(minutes: list[int]) -> float | None:
    """Mean flow (veh/h) of the next five minutes, from the crossings of each minute so far; None
    before three whole minutes.

    Exponential smoothing with a damped trend (Gardner and McKenzie, Management Science 31, 1985).
    """
    if len(minutes) < LEAST_MINUTES:
        return None
    level, trend = float(np.mean(minutes[:LEAST_MINUTES])), 0.0
    for count in minutes[LEAST_MINUTES:]:
        before = level
        level = LEVEL_GAIN * count + (1.0 - LEVEL_GAIN) * (level + DAMPING * trend)
        trend = TREND_GAIN * (level - before) + (1.0 - TREND_GAIN) * DAMPING * trend
    ahead = [
        level + trend * sum(DAMPING**k for k in range(1, minute + 1))
        for minute in range(1, PREDICTED_MINUTES + 1)
    ]
    return max(float(np.mean(ahead)) * 60.0, 0.0)


def intersection(
    begin: tuple[float, float], end: tuple[float, float], line: Line
) -> Intersection | None:
    """Where a step from `begin` to `end` crosses a line; None where it does not. A step that ends
    on the line does not cross it: the next one does.
    """
    (px, py), (qx, qy) = line.px
    dx, dy = end[0] - begin[0], end[1] - begin[1]
    ex, ey = qx - px, qy - py
    cross = dx * ey - dy * ex
    if abs(cross) < PARALLEL:
        return None
    on_step = ((px - begin[0]) * ey - (py - begin[1]) * ex) / cross
    on_line = ((px - begin[0]) * dy - (py - begin[1]) * dx) / cross
    if not (0.0 <= on_step < 1.0 and 0.0 <= on_line <= 1.0):
        return None
    return Intersection(on_step, Direction.IN if cross > 0.0 else Direction.OUT)


def _mask(zone: Zone, size: tuple[int, int]) -> NDArray[np.uint8]:
    """1 in the zone."""
    mask = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillPoly(mask, [np.round(np.array(zone.px)).astype(np.int32)], 1)
    return mask


def _is_set(mask: NDArray[np.uint8], at: tuple[float, float]) -> bool:
    x, y = int(at[0]), int(at[1])
    return 0 <= x < mask.shape[1] and 0 <= y < mask.shape[0] and bool(mask[y, x])


def _queue_length_m(queue: list[Track]) -> float | None:
    """From the first to the last vehicle, with their lengths; None without a calibration."""
    if not queue:
        return 0.0
    at = np.array([track.road_m[-1] for track in queue])
    if np.isnan(at).any():
        return None
    apart = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1)).max()
    # unknown where its top is above the horizon
    lengths = [track.length_m for track in queue if np.isfinite(track.length_m)]
    return float(apart + (np.mean(lengths) if lengths else 0.0))
