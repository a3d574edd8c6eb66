"""What the tracks of one stream say of the traffic: counts, turns, headways, queues, occupancy,
congestion, a heat map.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from headway.sensing.detection.detectors import CLASSES, PERSON
from headway.sensing.tracking.tracks import Track
from headway.sensing.traffic.site import Line, Site, Zone

SPAN_S = 60.0
HEAT_CELLS = 64
RECOUNT_S = 5.0  # s in which a track that trembles on a line is counted once
LEVELS = ((0.7, "free"), (0.4, "dense"), (0.15, "slow"), (0.0, "jam"))  # of the speed limit


@dataclass(frozen=True, slots=True)
class Crossing:
    """A track has crossed a line. at_s: between the two frames, by where it was before and
    after.
    """

    at_s: float
    line: str
    direction: str
    track: int
    kind: str
    speed_mps: float
    speed_se_mps: float


@dataclass
class _LaneFigures:
    """speeds: time, sum of the speeds, and how many, of each picture within `SPAN_S`; total: the
    sums over them all.
    """

    occupied_s: float = 0.0
    speeds: deque[tuple[float, float, int]] = field(default_factory=deque)
    total_mps: float = 0.0
    total: int = 0
    inside: list[Track] = field(default_factory=list)

    def tell(self, at_s: float, speeds: list[float]) -> None:
        if speeds:
            self.speeds.append((at_s, sum(speeds), len(speeds)))
            self.total_mps, self.total = self.total_mps + sum(speeds), self.total + len(speeds)
        while self.speeds and self.speeds[0][0] < at_s - SPAN_S:
            _, gone_mps, gone = self.speeds.popleft()
            self.total_mps, self.total = self.total_mps - gone_mps, self.total - gone

    @property
    def mean_mps(self) -> float | None:
        return max(self.total_mps / self.total, 0.0) if self.total else None


class Measures:
    """One stream's figures. `look` once a frame; `figures` whenever they are asked for."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.counts: Counter[tuple[str, str, str]] = Counter()  # line, direction, class
        self.turns: Counter[tuple[str, str]] = Counter()  # from line, to line
        self.crossings: deque[Crossing] = deque(maxlen=2000)
        self.headways: dict[str, deque[float]] = {x.name: deque(maxlen=200) for x in site.lines}
        self._last_at: dict[str, float] = {}
        self._minutes: dict[str, deque[int]] = {
            x.name: deque(maxlen=60) for x in site.lines
        }  # crossings of each whole minute
        self._minute: Counter[str] = Counter()
        self._minute_s = np.nan
        self._lanes = {z.name: _LaneFigures() for z in site.zones if z.kind == "lane"}
        self._where: dict[int, list[str]] = {}
        self._masks = {z.name: _mask(z, site.size) for z in site.zones}
        self.heat = np.zeros((max(round(HEAT_CELLS * site.size[1] / site.size[0]), 1), HEAT_CELLS))
        self._begun_s = self._at_s = np.nan

    def zones_of(self, track: Track) -> list[str]:
        """The zones that it stood on when the last frame was taken in."""
        return self._where.get(track.id, [])

    def look(self, at_s: float, tracks: list[Track]) -> list[Crossing]:
        """Take in one frame; the lines crossed since the one before."""
        lasted = at_s - self._at_s if np.isfinite(self._at_s) else 0.0
        self._begun_s = self._begun_s if np.isfinite(self._begun_s) else at_s
        self._at_s = at_s
        self._count_minutes(at_s)
        self._where = {
            t.id: [name for name, mask in self._masks.items() if _inside(mask, t.feet[-1])]
            for t in tracks
        }
        found = []
        for track in tracks:
            if track.at_s == at_s and len(track.feet) > 1:
                found += self._crossed(track)
        for name, lane in self._lanes.items():
            lane.inside = [t for t in tracks if t.kind != PERSON and name in self._where[t.id]]
            lane.occupied_s += lasted if lane.inside else 0.0
            lane.tell(at_s, [t.speed_mps for t in lane.inside if np.isfinite(t.speed_mps)])
        height, width = self.heat.shape
        for track in tracks:
            x = int(track.feet[-1][0] / self.site.size[0] * width)
            y = int(track.feet[-1][1] / self.site.size[1] * height)
            if 0 <= x < width and 0 <= y < height:
                self.heat[y, x] += lasted
        return found

    def figures(self) -> dict[str, Any]:
        """Counts (vehicles), flows (veh/h), headways (s), queues (vehicles, m), occupancy (0 to 1),
        congestion, as plain figures.
        """
        lasted = max(self._at_s - self._begun_s, 1e-9) if np.isfinite(self._at_s) else 0.0
        lines = {}
        for line in self.site.lines:
            counts = {
                way: {
                    k: n
                    for (name, w, k), n in self.counts.items()
                    if name == line.name and w == way
                }
                for way in ("in", "out")
            }
            total = sum(sum(c.values()) for c in counts.values())
            gaps = self.headways[line.name]
            lines[line.name] = {
                **counts,
                "flow_veh_h": total / lasted * 3600.0 if lasted > 1.0 else None,
                "mean_headway_s": float(np.mean(gaps)) if gaps else None,
                "predicted_veh_h": predicted(list(self._minutes[line.name])),
            }
        lanes = {z.name: self._lane(z, lasted) for z in self.site.zones if z.kind == "lane"}
        return {
            "seconds": lasted,
            "lines": lines,
            "lanes": lanes,
            "turns": [{"from": a, "to": b, "n": n} for (a, b), n in sorted(self.turns.items())],
        }

    def _lane(self, zone: Zone, lasted: float) -> dict[str, Any]:
        lane = self._lanes[zone.name]
        queue = [t for t in lane.inside if t.standing_s > 1.0]
        mean, limit = lane.mean_mps, (zone.limit_kmh or self.site.rules.limit_kmh or 50.0) / 3.6
        level = (
            "unknown" if lane.inside else "free"
        )  # without a speed: no calibration, or nobody in the last minute
        if mean is not None:
            level = next(name for least, name in LEVELS if mean / limit >= least)
        return {
            "vehicles": len(lane.inside),
            "queue_veh": len(queue),
            "queue_m": _extent(queue),
            "longest_wait_s": max((t.standing_s for t in queue), default=0.0),
            "occupancy": lane.occupied_s / lasted if lasted > 0.0 else 0.0,
            "mean_speed_mps": mean,
            "congestion": level,
        }

    def _count_minutes(self, at_s: float) -> None:
        self._minute_s = at_s if np.isnan(self._minute_s) else self._minute_s
        while at_s >= self._minute_s + 60.0:
            for name, counts in self._minutes.items():
                counts.append(self._minute[name])
            self._minute.clear()
            self._minute_s += 60.0

    def _crossed(self, track: Track) -> list[Crossing]:
        found = []
        a, b = track.feet[-2], track.feet[-1]
        for line in self.site.lines:
            share, way = crossing(a, b, line)
            if share < 0.0:
                continue
            at = track.times[-2] + share * (track.times[-1] - track.times[-2])
            if at - track.lines_crossed.get(line.name, -np.inf) < RECOUNT_S:
                continue
            name = CLASSES[track.kind]
            self.counts[line.name, way, name] += 1
            self._minute[line.name] += 1
            if track.lines_crossed:
                _, previous = max((t, name) for name, t in track.lines_crossed.items())
                self.turns[previous, line.name] += 1
            track.lines_crossed[line.name] = at
            if line.name in self._last_at:
                self.headways[line.name].append(at - self._last_at[line.name])
            self._last_at[line.name] = at
            found.append(
                Crossing(at, line.name, way, track.id, name, track.mean_mps, track.mean_se_mps)
            )
        self.crossings.extend(found)
        return found


def predicted(minutes: list[int]) -> float | None:
    """Flow (veh/h) of the next five minutes, from the crossings of each minute so far, by
    exponential smoothing with a damped trend (Gardner and McKenzie, Management Science 31, 1985;
    level 0.3, trend 0.1, damping 0.9); None before three whole minutes."""
    if len(minutes) < 3:
        return None
    level, trend = float(np.mean(minutes[:3])), 0.0
    for count in minutes[3:]:
        before = level
        level = 0.3 * count + 0.7 * (level + 0.9 * trend)
        trend = 0.1 * (level - before) + 0.9 * 0.9 * trend
    ahead = [level + trend * sum(0.9**k for k in range(1, step + 1)) for step in range(1, 6)]
    return max(float(np.mean(ahead)) * 60.0, 0.0)


def crossing(a: tuple[float, float], b: tuple[float, float], line: Line) -> tuple[float, str]:
    """Where between `a` (0) and `b` (1) the way crosses the line, and `in` or `out`; (-1, "") if it
    does not.
    """
    (px, py), (qx, qy) = line.px
    dx = b[0] - a[0]
    dy = b[1] - a[1]
    ex = qx - px
    ey = qy - py
    cross = dx * ey - dy * ex
    if abs(cross) < 1e-12:
        return -1.0, ""
    along = ((px - a[0]) * ey - (py - a[1]) * ex) / cross
    on = ((px - a[0]) * dy - (py - a[1]) * dx) / cross
    if not (0.0 <= along < 1.0 and 0.0 <= on <= 1.0):
        return -1.0, ""
    return along, "in" if cross > 0.0 else "out"


def _mask(zone: Zone, size: tuple[int, int]) -> NDArray[np.uint8]:
    mask = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillPoly(mask, [np.round(np.array(zone.px)).astype(np.int32)], 1)
    return mask


def _inside(mask: NDArray[np.uint8], at: tuple[float, float]) -> bool:
    x, y = int(at[0]), int(at[1])
    return 0 <= x < mask.shape[1] and 0 <= y < mask.shape[0] and bool(mask[y, x])


def _extent(queue: list[Track]) -> float | None:
    """Metres from the first to the last of those who stand, with their lengths; None without a
    calibration.
    """
    if not queue:
        return 0.0
    at = np.array([t.road[-1] for t in queue])
    if np.isnan(at).any():
        return None
    apart = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1)).max()
    lengths = [
        t.length_m for t in queue if np.isfinite(t.length_m)
    ]  # unknown where its top is above the horizon
    return float(apart + (np.mean(lengths) if lengths else 0.0))
