"""The traffic rules: each looks at one vehicle in one frame and decides. In doubt it decides for
the driver.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np

from headway.roads.network import Colour
from headway.sensing.tracking.tracks import Track
from headway.sensing.traffic.measures import Crossing, Direction
from headway.sensing.traffic.signals import SignalHistory
from headway.sensing.traffic.site import Line, Site, Zone
from headway.values import FloatArray

# Until the rules have stood trial on real roads, what they find is a candidate for a person's
# review. No rule claims more than this, however sure its figures are.
HIGHEST_CONFIDENCE = 0.9
JUMP_STEPS = 10  # before the last one, with which it is compared
JUMP_RATIO = 3.0  # no vehicle that moves is so much quicker a frame later
SMALLEST_STEP_PX = 1e-9  # a box that has not moved is at its later place


class RuleDecision(StrEnum):
    """What a rule decides. The value of a violation is the name of its rule."""

    NO_VIOLATION = "no_violation"
    UNDECIDED = "undecided"  # what the vehicle does in the next seconds will decide it
    RED_LIGHT = "red_light"
    STOP_LINE = "stop_line"
    SPEEDING = "speeding"
    WRONG_WAY = "wrong_way"
    ILLEGAL_TURN = "illegal_turn"
    BLOCKED_BOX = "blocked_box"
    FORBIDDEN_ZONE = "forbidden_zone"
    PEDESTRIAN_CROSSING = "pedestrian_crossing"


@dataclass(frozen=True, slots=True)
class Assessment:
    """A decision and what it rests on.

    confidence: 0 to `HIGHEST_CONFIDENCE`, of the rule alone; how long the vehicle was observed is
        not in it.
    figures:    plain JSON types, as they stand in the evidence.
    """

    decision: RuleDecision
    confidence: float = 0.0
    figures: Mapping[str, Any] = field(default_factory=dict)


NO_VIOLATION = Assessment(RuleDecision.NO_VIOLATION)


@dataclass(frozen=True, slots=True)
class Situation:
    """One vehicle at one instant.

    at_s:        time of the frame, or of the crossing.
    zones:       names of the zones that the vehicle is on.
    pedestrians: tracks of the people on each zone that has any, by the zone's name.
    crossing:    the line that it crosses at this instant, for rules of lines.
    """

    at_s: float
    track: Track
    zones: Collection[str] = ()
    pedestrians: Mapping[str, list[int]] = field(default_factory=dict)
    crossing: Crossing | None = None


class TrafficRule(Protocol):
    """A traffic rule."""

    def assess(self, situation: Situation) -> Assessment:
        """Decide about one vehicle; called for every frame in which it was detected, in order."""


class HoldTimers:
    """For how long each condition has held for each track without a break."""

    def __init__(self) -> None:
        self._since_s: dict[tuple[str, int], float] = {}

    def held_s(self, condition: str, track: Track, holds: bool, at_s: float) -> float:
        """Seconds up to `at_s`; 0 in the first frame of a period, and where it does not hold."""
        if not holds:
            self._since_s.pop((condition, track.id), None)
            return 0.0
        return at_s - self._since_s.setdefault((condition, track.id), at_s)

    def forget_absent(self, present: Collection[int]) -> None:
        """Forget the tracks that are not present any more; one that returns starts at zero."""
        for key in [key for key in self._since_s if key[1] not in present]:
            del self._since_s[key]


# -- rules of lines


@dataclass(frozen=True, slots=True)
class RedLightThresholds:
    base_confidence: float = 0.7  # at the end of the grace period
    confidence_gain: float = 0.2  # added while red gets longer: a late start is less likely then
    gain_over_s: float = 2.0  # s after the grace period in which it is added
    passed_m: float = 6.0  # m beyond the line: more than a car's length, it drives on
    stopped_s: float = 1.5  # s stopped beyond the line: it waits there
    undecided_s: float = 6.0  # s after the crossing in which it is decided, or dropped
    box_height_m: float = 3.0  # m assumed for the height of a box, without a calibration
    hidden_s: float = 0.5  # s between two frames; in longer ones the front may have gone at once


@dataclass(frozen=True)
class RedLight:
    """Crossing a stop line on red, front first, in the line's own direction. Undecided at first:
    while the same red lasts, the vehicle may drive on (`red_light`) or stop beyond the line
    (`stop_line`). Whatever it does after the red accuses nobody: a queue starts on green.
    """

    site: Site
    signals: SignalHistory
    thresholds: RedLightThresholds = RedLightThresholds()

    def assess(self, situation: Situation) -> Assessment:
        crossing = situation.crossing
        if crossing is None or crossing.direction != Direction.IN:
            return NO_VIOLATION
        line = self._line(crossing.line)
        hidden_s = self.thresholds.hidden_s
        front_s = _front_over_line_s(line, situation.track, crossing.at_s, hidden_s)
        if _is_jump(situation.track):
            return NO_VIOLATION
        if front_s is None or not self._on_red(line, front_s, crossing.at_s):
            return NO_VIOLATION
        red_for_s = self._red_for_s(line, front_s) or 0.0
        return Assessment(
            RuleDecision.UNDECIDED,
            self._confidence(red_for_s),
            {
                "line": line.name,
                "signal_groups": list(line.groups),
                "front_over_line_s": front_s,
                "red_for_s": red_for_s,
                "speed_kmh": _rounded(crossing.speed_mps * 3.6),
            },
        )

    def follow_up(
        self, track: Track, figures: Mapping[str, Any], crossed_s: float, at_s: float
    ) -> RuleDecision:
        """What became of a vehicle that crossed on red at `crossed_s`, as known at `at_s`.

        figures: those of its `Assessment`.
        """
        limits, line = self.thresholds, self._line(figures["line"])
        on_red = [
            k
            for k, t in enumerate(track.times)
            if t >= crossed_s and self._on_red(line, figures["front_over_line_s"], t)
        ]
        if on_red and _is_beyond(line, track.boxes[on_red[-1]]):
            moved_m = self._moved_m(track, on_red[0], on_red[-1])
            if moved_m >= limits.passed_m:
                return RuleDecision.RED_LIGHT
            is_red_now = on_red[-1] == len(track.times) - 1
            is_stopped = is_red_now and track.stopped_s >= limits.stopped_s
            if is_stopped and moved_m >= self.site.rules.stop_m:
                return RuleDecision.STOP_LINE
        is_early = at_s < crossed_s + limits.undecided_s
        if is_early and self._on_red(line, figures["front_over_line_s"], at_s):
            return RuleDecision.UNDECIDED
        return RuleDecision.NO_VIOLATION

    def stands(self, figures: Mapping[str, Any], crossed_s: float) -> bool:
        """Whether the crossing is still one on red, by what has been reported since: a report of
        the signals may come after the frame.
        """
        return self._on_red(self._line(figures["line"]), figures["front_over_line_s"], crossed_s)

    def _line(self, name: str) -> Line:
        return next(line for line in self.site.lines if line.name == name)

    def _on_red(self, line: Line, front_s: float, at_s: float) -> bool:
        """Whether at `at_s` there is the red that had lasted for the grace period when the front
        crossed, at `front_s`.
        """
        red_for_s = self._red_for_s(line, at_s)
        return red_for_s is not None and at_s - red_for_s + self.site.rules.grace_s <= front_s

    def _red_for_s(self, line: Line, at_s: float) -> float | None:
        """Seconds since the last of the line's groups turned red; None unless all certainly show
        red, or where it is no stop line.
        """
        if not line.stop or not line.groups:
            return None
        states = [self.signals.state_at(group, at_s) for group in line.groups]
        red = [s.shown_s for s in states if s is not None and s.colour == Colour.RED]
        return min(red) if len(red) == len(states) else None

    def _confidence(self, red_for_s: float) -> float:
        limits = self.thresholds
        share = min((red_for_s - self.site.rules.grace_s) / limits.gain_over_s, 1.0)
        return limits.base_confidence + limits.confidence_gain * share

    def _moved_m(self, track: Track, first: int, last: int) -> float:
        """Straight distance between two points of a track; estimated by the height of its box
        where the camera is not calibrated.
        """
        if self.site.calibration is not None:
            return float(np.hypot(*np.subtract(track.road_m[last], track.road_m[first])))
        moved_px = float(np.hypot(*np.subtract(track.ground_px[last], track.ground_px[first])))
        return moved_px / max(track.height_px, 1.0) * self.thresholds.box_height_m


def _is_jump(track: Track) -> bool:
    """Whether its last step is none that a vehicle makes: out of its own box, and several times as
    quick as any step before. Then two vehicles have changed their names.
    """
    (left, top, right, bottom), (x1, y1, x2, y2) = track.boxes[-2], track.boxes[-1]
    if left < x2 and x1 < right and top < y2 and y1 < bottom:
        return False
    recent = list(track.ground_px)[-(JUMP_STEPS + 2) :]
    lasted_s = np.diff(list(track.times)[-(JUMP_STEPS + 2) :])
    px_s = np.hypot(*np.diff(recent, axis=0).T) / lasted_s
    return len(px_s) > 1 and bool(px_s[-1] > JUMP_RATIO * px_s[:-1].max())


def _front_over_line_s(line: Line, track: Track, crossed_s: float, hidden_s: float) -> float | None:
    """When the vehicle's front went over the line, at the latest at `crossed_s`: the first part of
    its box, so that a tall or long vehicle is taken to be early. Where it was not seen for longer
    than `hidden_s`, as early as can be. None where it was never observed wholly before the line.
    """
    later: tuple[float, float] | None = None
    for at_s, box in zip(reversed(track.times), reversed(track.boxes), strict=True):
        left, top, right, bottom = box
        corners = ((left, top), (right, top), (left, bottom), (right, bottom))
        beyond_px = max(_beyond_px(line, corner) for corner in corners)
        if at_s <= crossed_s and beyond_px < 0.0:
            if later is None:
                return at_s
            later_s, later_px = later
            if later_s - at_s > hidden_s:
                return at_s
            share = -beyond_px / max(later_px - beyond_px, SMALLEST_STEP_PX)
            return min(at_s + share * (later_s - at_s), crossed_s)
        later = (at_s, beyond_px)
    return None


def _is_beyond(line: Line, box: FloatArray) -> bool:
    """Whether the middle of the box's lower edge is beyond the line: that part stands on the road,
    however tall the vehicle is.
    """
    left, _, right, bottom = box
    return _beyond_px(line, ((left + right) / 2.0, bottom)) > 0.0


def _beyond_px(line: Line, at: tuple[float, float]) -> float:
    """How far a pixel is beyond a line, in its direction `in`; negative before it."""
    (px, py), (qx, qy) = line.px
    ex, ey = qx - px, qy - py
    return float(((at[0] - px) * ey - (at[1] - py) * ex) / np.hypot(ex, ey))


@dataclass(frozen=True, slots=True)
class IllegalTurn:
    """Crossing one line after another where the site forbids that turn."""

    from_line: str
    to_line: str
    confidence: float = HIGHEST_CONFIDENCE  # that it is one vehicle is almost certain

    def assess(self, situation: Situation) -> Assessment:
        crossing = situation.crossing
        if crossing is None or crossing.line != self.to_line:
            return NO_VIOLATION
        from_s = situation.track.lines_crossed.get(self.from_line, np.inf)
        if from_s >= crossing.at_s:  # not crossed, or later within the same step
            return NO_VIOLATION
        figures = {"from": self.from_line, "to": self.to_line}
        return Assessment(RuleDecision.ILLEGAL_TURN, self.confidence, figures)


# -- rules of places


@dataclass(frozen=True, slots=True)
class SpeedingThresholds:
    lasting_s: float = 0.4  # s above the limit without a break: a single bad fit does not last
    standard_errors: float = 3.0  # one-sided 99.87 % of a normal distribution
    path_s: float = 1.0  # s over which the mean speed and the calibration's error are taken
    shortest_path_m: float = 1.0  # m; the calibration's error counts over at least this path
    systematic_share: float = 0.01  # of a speed: assumed heights, boxes that err in common
    least_error_mps: float = 0.05  # m/s, for the confidence: no measurement is better
    highest_confidence: float = HIGHEST_CONFIDENCE


@dataclass(frozen=True)
class Speeding:
    """A mean speed above limit, margin and three standard errors."""

    site: Site
    timers: HoldTimers
    thresholds: SpeedingThresholds = SpeedingThresholds()

    def assess(self, situation: Situation) -> Assessment:
        track, calibration = situation.track, self.site.calibration
        limit_kmh = self._limit_kmh(situation.zones)
        if limit_kmh is None or calibration is None:
            return NO_VIOLATION

        allowed_mps = self._allowed_kmh(limit_kmh) / 3.6
        error_mps = self._error_mps(track, calibration.error_m)
        least_mps = track.mean_mps - self.thresholds.standard_errors * error_mps
        over = bool(np.isfinite(error_mps) and least_mps > allowed_mps)
        held_s = self.timers.held_s("speeding", track, over, situation.at_s)
        if held_s < self.thresholds.lasting_s:
            return NO_VIOLATION
        return Assessment(
            RuleDecision.SPEEDING,
            self._confidence(track.mean_mps - allowed_mps, error_mps),
            {
                "speed_kmh": track.mean_mps * 3.6,
                "standard_error_kmh": error_mps * 3.6,
                "limit_kmh": limit_kmh,
                "allowed_kmh": allowed_mps * 3.6,
            },
        )

    def _limit_kmh(self, zones: Collection[str]) -> float | None:
        """The highest limit of the zones that the vehicle is on; the site's where none has one."""
        limits = [
            zone.limit_kmh
            for zone in self.site.zones
            if zone.name in zones and zone.limit_kmh is not None
        ]
        return max(limits, default=self.site.rules.limit_kmh)

    def _allowed_kmh(self, limit_kmh: float) -> float:
        rules = self.site.rules
        return max(limit_kmh + rules.margin_kmh, limit_kmh * (1.0 + rules.margin_share))

    def _error_mps(self, track: Track, calibration_error_m: float) -> float:
        """Standard error of the mean speed: of the fit, of the calibration over the last second's
        path, and the systematic share.
        """
        first = track.index_before(self.thresholds.path_s)
        (x, y), (first_x, first_y) = track.road_m[-1], track.road_m[first]
        path_m = max(float(np.hypot(x - first_x, y - first_y)), self.thresholds.shortest_path_m)
        relative = float(np.hypot(calibration_error_m / path_m, self.thresholds.systematic_share))
        return float(np.hypot(track.mean_se_mps, track.mean_mps * relative))

    def _confidence(self, excess_mps: float, error_mps: float) -> float:
        sigma_mps = max(error_mps, self.thresholds.least_error_mps)
        return min(NormalDist().cdf(excess_mps / sigma_mps), self.thresholds.highest_confidence)


@dataclass(frozen=True, slots=True)
class WrongWayThresholds:
    lasting_s: float = 1.0  # s without a break: turning and parking take less
    moving_mps: float = 2.0  # m/s; slower is parking
    path_s: float = 0.8  # s over which the direction is taken
    least_path_heights: float = 0.5  # of the box: a shorter path may be a trembling box
    opposite_cosine: float = -0.7  # of the angle to the heading: within about 45 degrees of against
    confidence: float = HIGHEST_CONFIDENCE


@dataclass(frozen=True)
class WrongWay:
    """Driving against the heading of a lane."""

    zone: Zone
    heading: tuple[tuple[float, float], tuple[float, float]]
    timers: HoldTimers
    thresholds: WrongWayThresholds = WrongWayThresholds()

    def assess(self, situation: Situation) -> Assessment:
        track, limits = situation.track, self.thresholds
        slow = track.speed_mps < limits.moving_mps  # False where the speed is not known (nan)
        holds = self.zone.name in situation.zones and not slow and self._is_against(track)
        condition = f"wrong_way {self.zone.name}"
        if self.timers.held_s(condition, track, holds, situation.at_s) < limits.lasting_s:
            return NO_VIOLATION
        return Assessment(RuleDecision.WRONG_WAY, limits.confidence, {"zone": self.zone.name})

    def _is_against(self, track: Track) -> bool:
        limits = self.thresholds
        moved_px = np.subtract(
            track.ground_px[-1], track.ground_px[track.index_before(limits.path_s)]
        )
        heading_px = np.subtract(self.heading[1], self.heading[0])
        path_px = float(np.hypot(*moved_px))
        if path_px <= limits.least_path_heights * track.height_px:
            return False
        opposite = limits.opposite_cosine * path_px * float(np.hypot(*heading_px))
        return float(moved_px @ heading_px) < opposite


@dataclass(frozen=True)
class BlockedBox:
    """Being stopped in a box junction for longer than the site allows."""

    zone: Zone
    longest_s: float
    confidence: float = HIGHEST_CONFIDENCE  # a vehicle that is stopped is measured well

    def assess(self, situation: Situation) -> Assessment:
        stopped_s = situation.track.stopped_s
        if self.zone.name not in situation.zones or stopped_s < self.longest_s:
            return NO_VIOLATION
        # standing_s: the old name of stopped_s, until 0.2 (docs/deprecated.md)
        figures = {"zone": self.zone.name, "stopped_s": stopped_s, "standing_s": stopped_s}
        return Assessment(RuleDecision.BLOCKED_BOX, self.confidence, figures)


@dataclass(frozen=True)
class ForbiddenZone:
    """Driving in a forbidden zone."""

    zone: Zone
    timers: HoldTimers
    lasting_s: float = 0.5  # s: a box that touches the zone's edge for a few frames is no entry
    confidence: float = 0.85

    def assess(self, situation: Situation) -> Assessment:
        holds = self.zone.name in situation.zones
        condition = f"forbidden {self.zone.name}"
        held_s = self.timers.held_s(condition, situation.track, holds, situation.at_s)
        if held_s <= self.lasting_s:
            return NO_VIOLATION
        return Assessment(RuleDecision.FORBIDDEN_ZONE, self.confidence, {"zone": self.zone.name})


@dataclass(frozen=True, slots=True)
class PedestrianCrossingThresholds:
    lasting_s: float = 0.3  # s without a break: longer than a track changes place by mistake
    walking_mps: float = 1.5  # m/s; up to it a vehicle gives way, rolling
    standard_errors: float = 3.0  # one-sided 99.87 % of a normal distribution
    confidence: float = 0.85  # whose turn it was is not measured


@dataclass(frozen=True)
class PedestrianCrossing:
    """Driving over a crossing while a pedestrian is on it."""

    zone: Zone
    timers: HoldTimers
    thresholds: PedestrianCrossingThresholds = PedestrianCrossingThresholds()

    def assess(self, situation: Situation) -> Assessment:
        track, limits = situation.track, self.thresholds
        pedestrians = situation.pedestrians.get(self.zone.name, [])
        least_mps = track.mean_mps - limits.standard_errors * track.mean_se_mps
        driving = bool(least_mps > limits.walking_mps)
        holds = self.zone.name in situation.zones and bool(pedestrians) and driving
        condition = f"pedestrian_crossing {self.zone.name}"
        if self.timers.held_s(condition, track, holds, situation.at_s) <= limits.lasting_s:
            return NO_VIOLATION
        figures = {"zone": self.zone.name, "pedestrians": list(pedestrians)}
        return Assessment(RuleDecision.PEDESTRIAN_CROSSING, limits.confidence, figures)


def rules_of_places(site: Site, timers: HoldTimers) -> list[TrafficRule]:
    """Speeding, and the rule of each zone, in the site's order."""
    return [Speeding(site, timers), *_rules_of_zones(site, timers)]


def _rules_of_zones(site: Site, timers: HoldTimers) -> Iterator[TrafficRule]:
    for zone in site.zones:
        if zone.kind == "lane" and zone.heading is not None:
            yield WrongWay(zone, zone.heading, timers)
        elif zone.kind == "box":
            yield BlockedBox(zone, site.rules.blocked_s)
        elif zone.kind == "forbidden":
            yield ForbiddenZone(zone, timers)
        elif zone.kind == "crossing":
            yield PedestrianCrossing(zone, timers)


def _rounded(value: float) -> float | None:
    return round(float(value), 2) if np.isfinite(value) else None
