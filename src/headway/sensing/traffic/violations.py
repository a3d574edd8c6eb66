"""Violations: each with its rule, what it rests on, a confidence, and pictures before, at and
after; doubt is the driver's.
"""

from __future__ import annotations

import bisect
import hashlib
import hmac
import json
import uuid
from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

import cv2
import numpy as np

from headway.sensing.detection.detectors import CLASSES, PERSON
from headway.sensing.frames.sources import Picture
from headway.sensing.tracking.tracks import Track
from headway.sensing.traffic.measures import Crossing, Measures
from headway.sensing.traffic.site import Site, Zone

# as `headway.roads` numbers the colours
RED = 1
YELLOW = 2
GREEN = 4
SYSTEMATIC = 0.01  # of a speed: heights that are assumed, boxes that tremble together
SPEEDING_S = 0.4
WRONG_S = 1.0
WRONG_MPS = 2.0
PASSED_M = 6.0
STOPPED_S = 1.5
YIELD_MPS = 1.5
LAMP_LOOKS = 3
KEPT_CHANGES = 400
UNDECIDED_S = 6.0
STALE_S = 180.0
# as OpenCV has it: blue, green, red
RED_INK = (0, 0, 255)
WHITE = (255, 255, 255)
BLACK = (0, 0, 0)
EVIDENCE_S = 2.5
EVIDENCE_EVERY_S = 0.25
EVIDENCE_WIDTH = 960
JPEG_QUALITY = 80


class Signals:
    """What each signal group showed, and since when. Late news go where they belong; what a
    controller tells counts, not what a lamp looks like.
    """

    def __init__(self) -> None:
        self._told: set[int] = set()
        self._heard: dict[int, float] = defaultdict(lambda: -np.inf)
        self._looked: dict[int, tuple[int, float, int]] = {}
        self._times: dict[int, list[float]] = defaultdict(list)
        self._colours: dict[int, list[int]] = defaultdict(list)

    def look(self, at_s: float, group: int, colour: int) -> None:
        """What a picture shows of a lamp; believed when it was the same `LAMP_LOOKS` times."""
        before = self._looked.get(group)
        since, looks = (before[1], before[2] + 1) if before and before[0] == colour else (at_s, 1)
        self._looked[group] = colour, since, looks
        if looks >= LAMP_LOOKS and group not in self._told:
            self._add(since, group, colour)
            self._heard[group] = at_s

    def put(self, at_s: float, group: int, colour: int) -> None:
        """What the controller says."""
        self._told.add(group)
        self._add(at_s, group, colour)

    def confirm(self, at_s: float) -> None:
        """The controller speaks still: what it told holds."""
        for group in self._told:
            self._heard[group] = max(self._heard[group], at_s)

    def _add(self, at_s: float, group: int, colour: int) -> None:
        self._heard[group] = max(self._heard[group], at_s)
        k = bisect.bisect_right(self._times[group], at_s)  # what comes late goes where it belongs
        if k == 0 or self._colours[group][k - 1] != colour:
            self._times[group].insert(k, at_s)
            self._colours[group].insert(k, colour)
            if len(self._times[group]) > 2 * KEPT_CHANGES:
                del self._times[group][:KEPT_CHANGES], self._colours[group][:KEPT_CHANGES]

    def at(self, group: int, at_s: float) -> tuple[int, float] | None:
        """(colour, seconds that it had shown it), or None where nothing is known of that time:
        nothing yet, or nothing for `STALE_S`.
        """
        k = bisect.bisect_right(self._times[group], at_s) - 1
        if k < 0 or (k == len(self._times[group]) - 1 and at_s - self._heard[group] > STALE_S):
            return None
        return self._colours[group][k], at_s - self._times[group][k]


@dataclass(frozen=True, slots=True)
class Violation:
    """data: figures, track and signal state, plain JSON types. pictures: (time s, JPEG), oldest
    first. seal: HMAC-SHA256 (SHA-256 without a key).
    """

    id: str
    at_s: float
    device: str
    rule: str
    confidence: float
    data: dict[str, Any]
    pictures: tuple[tuple[float, bytes], ...] = ()
    seal: str = ""


def sealed(violation: Violation, key: bytes) -> str:
    """The seal over all that it says and shows."""
    body = {
        "id": violation.id,
        "at_s": violation.at_s,
        "device": violation.device,
        "rule": violation.rule,
        "confidence": violation.confidence,
    }
    shown = [[at, hashlib.sha256(jpeg).hexdigest()] for at, jpeg in violation.pictures]
    text = json.dumps(body | {"data": violation.data, "pictures": shown}, sort_keys=True).encode()
    return hmac.new(key, text, "sha256").hexdigest() if key else hashlib.sha256(text).hexdigest()


@dataclass
class _Pending:
    """Told, and waiting for its pictures. unsure_until: the time by which it is decided which rule
    it is (a crossing on red).
    """

    violation: Violation
    track: Track
    unsure_until: float


@dataclass
class Judge:
    """The rules of one stream. `judge` once a frame; violations come with their pictures, a second
    or two after.
    """

    device: str
    site: Site
    measures: Measures
    signals: Signals
    key: bytes = b""
    blur: bool = True
    recent: deque[tuple[float, Picture, dict[int, tuple[float, ...]]]] = field(
        default_factory=deque
    )
    pending: list[_Pending] = field(default_factory=list)
    told: int = 0
    _since: dict[tuple[str, int], float] = field(default_factory=dict)

    def judge(
        self, at_s: float, image: Picture, tracks: list[Track], crossings: list[Crossing]
    ) -> list[Violation]:
        self._keep(at_s, image, tracks)
        by_id = {t.id: t for t in tracks}
        for lamp in self.site.lamps:
            colour = lamp_colour(image, lamp.px)
            if colour:
                self.signals.look(at_s, lamp.group, colour)
        for crossed in crossings:
            self._crossed(crossed, by_id[crossed.track])
        people = [(t, self.measures.zones_of(t)) for t in tracks if t.kind == PERSON]
        for track in tracks:
            if track.kind != PERSON and track.at_s == at_s:
                self._drives(at_s, track, people)
        for key in [k for k, since in self._since.items() if k[1] not in by_id]:
            del self._since[key]
        return self._ready(at_s)

    def close(self) -> list[Violation]:
        """Those that still wait, with the pictures that there are."""
        return self._ready(np.inf)

    def _drives(self, at_s: float, track: Track, people: list[tuple[Track, list[str]]]) -> None:
        where = self.measures.zones_of(track)
        self._speed(at_s, track, [z for z in self.site.zones if z.name in where])
        for zone in self.site.zones:
            inside = zone.name in where  # who has left a zone begins anew when it comes back
            if zone.kind == "lane" and zone.heading is not None:
                self._wrong_way(at_s, track, zone, inside)
            elif zone.kind == "box" and inside and track.standing_s >= self.site.rules.blocked_s:
                self._tell(
                    "blocked_box",
                    at_s,
                    track,
                    0.95,
                    {"zone": zone.name, "standing_s": track.standing_s},
                )
            elif (
                zone.kind == "forbidden"
                and self._lasts(("forbidden " + zone.name, track.id), inside, at_s) > 0.5
            ):
                self._tell("forbidden_zone", at_s, track, 0.9, {"zone": zone.name})
            elif zone.kind == "crossing":
                waits = [p.id for p, there in people if zone.name in there]
                driving = (
                    inside and bool(waits) and track.mean_mps - 3.0 * track.mean_se_mps > YIELD_MPS
                )
                if self._lasts(("yield " + zone.name, track.id), driving, at_s) > 0.3:
                    self._tell(
                        "pedestrian_crossing",
                        at_s,
                        track,
                        0.85,
                        {"zone": zone.name, "pedestrians": waits},
                    )

    def _speed(self, at_s: float, track: Track, zones: list[Zone]) -> None:
        limit = max(
            (z.limit_kmh for z in zones if z.limit_kmh is not None),
            default=self.site.rules.limit_kmh,
        )
        if limit is None or self.site.calibration is None:
            return
        allowed = (
            max(limit + self.site.rules.margin_kmh, limit * (1.0 + self.site.rules.margin_share))
            / 3.6
        )
        first = track.back(1.0)
        way = float(
            np.hypot(
                track.road[-1][0] - track.road[first][0], track.road[-1][1] - track.road[first][1]
            )
        )
        relative = float(np.hypot(self.site.calibration.error_m / max(way, 1.0), SYSTEMATIC))
        error = float(np.hypot(track.mean_se_mps, track.mean_mps * relative))
        over = np.isfinite(error) and track.mean_mps - 3.0 * error > allowed
        if self._lasts(("speeding", track.id), bool(over), at_s) >= SPEEDING_S:
            sure = NormalDist().cdf((track.mean_mps - allowed) / max(error, 0.05))
            figures = {
                "speed_kmh": track.mean_mps * 3.6,
                "standard_error_kmh": error * 3.6,
                "limit_kmh": limit,
                "allowed_kmh": allowed * 3.6,
            }
            self._tell("speeding", at_s, track, min(sure, 0.999), figures)

    def _wrong_way(self, at_s: float, track: Track, zone: Zone, inside: bool) -> None:
        assert zone.heading is not None
        k = track.back(0.8)
        moved = np.subtract(track.feet[-1], track.feet[k])
        along = np.subtract(zone.heading[1], zone.heading[0])
        length = float(np.hypot(*moved))
        against = length > 0.5 * (track.box[3] - track.box[1]) and float(
            moved @ along
        ) < -0.7 * length * float(np.hypot(*along))
        moving = not track.speed_mps < WRONG_MPS
        if (
            self._lasts(
                ("wrong_way " + zone.name, track.id), bool(inside and against and moving), at_s
            )
            >= WRONG_S
        ):
            self._tell("wrong_way", at_s, track, 0.95, {"zone": zone.name})

    def _crossed(self, crossed: Crossing, track: Track) -> None:
        if track.kind == PERSON:
            return
        for turn in self.site.forbidden_turns:
            if turn.to_line == crossed.line and f"line {turn.from_line}" in track.marks:
                self._tell(
                    "illegal_turn",
                    crossed.at_s,
                    track,
                    0.95,
                    {"from": turn.from_line, "to": turn.to_line},
                )
        line = next(x for x in self.site.lines if x.name == crossed.line)
        if not line.stop or not line.groups or crossed.direction != "in":
            return
        shown = [self.signals.at(group, crossed.at_s) for group in line.groups]
        if any(s is None or s[0] != RED for s in shown):
            return
        red_for_s = min(s[1] for s in shown if s is not None)
        if red_for_s < self.site.rules.grace_s:
            return
        figures = {
            "line": line.name,
            "signal_groups": list(line.groups),
            "red_for_s": red_for_s,
            "speed_kmh": _finite(crossed.speed_mps * 3.6),
        }
        sure = min(0.999, 0.9 + 0.1 * min((red_for_s - self.site.rules.grace_s) / 2.0, 1.0))
        self._tell("red_light", crossed.at_s, track, sure, figures, UNDECIDED_S)

    def _tell(
        self,
        rule: str,
        at_s: float,
        track: Track,
        confidence: float,
        figures: dict[str, Any],
        unsure_s: float = 0.0,
    ) -> None:
        if f"told {rule}" in track.marks:
            return
        track.marks[f"told {rule}"] = at_s
        first = track.back(3.0)
        data = {
            "track": track.id,
            "class": CLASSES[track.kind],
            **figures,
            "box": [round(float(v), 1) for v in track.box],
            "path": [
                [round(t, 3), *(round(v, 2) for v in f)]
                for t, f in list(zip(track.times, track.feet, strict=True))[first::3]
            ],
        }
        new = Violation(
            str(uuid.uuid4()),
            at_s,
            self.device,
            rule,
            round(confidence * min(1.0, 0.5 + track.seen / 20.0), 4),
            data,
        )
        self.pending.append(_Pending(new, track, at_s + unsure_s if unsure_s else 0.0))

    def _lasts(self, key: tuple[str, int], holds: bool, at_s: float) -> float:
        """Seconds that something has held without a break; -inf where it does not."""
        if not holds:
            self._since.pop(key, None)
            return -np.inf
        return at_s - self._since.setdefault(key, at_s)

    def _ready(self, at_s: float) -> list[Violation]:
        out, kept = [], []
        for one in self.pending:
            v = one.violation
            if one.unsure_until:
                decided = self._decided(one, at_s)
                if decided == "wait":
                    kept.append(one)
                    continue
                one.unsure_until = 0.0
                if not decided:
                    continue
                v = one.violation = replace(v, rule=decided)
            if at_s < v.at_s + 1.0:
                kept.append(one)
                continue
            whole = replace(v, pictures=self._pictures(v))
            out.append(replace(whole, seal=sealed(whole, self.key)))
        self.pending = kept
        self.told += len(out)
        return out

    def _decided(self, one: _Pending, at_s: float) -> str:
        """red_light if it drove on; stop_line if it stopped beyond the line; nothing if it was lost
        at the line; wait.
        """
        track, crossed = one.track, one.violation.at_s
        after = [k for k, t in enumerate(track.times) if t >= crossed]
        if after:
            first, last = after[0], after[-1]
            if self.site.calibration is not None:
                moved = float(np.hypot(*np.subtract(track.road[last], track.road[first])))
            else:
                moved = (
                    float(np.hypot(*np.subtract(track.feet[last], track.feet[first])))
                    / max(track.box[3] - track.box[1], 1.0)
                    * 3.0
                )
            if moved >= PASSED_M:
                return "red_light"
            if track.standing_s >= STOPPED_S and moved >= self.site.rules.stop_m:
                return "stop_line"
        return "wait" if at_s < one.unsure_until else ""

    def _keep(self, at_s: float, image: Picture, tracks: list[Track]) -> None:
        if self.recent and at_s - self.recent[-1][0] < EVIDENCE_EVERY_S:
            return
        if image.shape[1] > EVIDENCE_WIDTH:
            scale = EVIDENCE_WIDTH / image.shape[1]
            image = np.asarray(
                cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
            )
        if (
            image.shape[0] % 2 == 0 and image.shape[1] % 2 == 0
        ):  # half the memory, and all that a JPEG keeps
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), np.uint8)
        self.recent.append((at_s, image, {t.id: tuple(t.box) for t in tracks}))
        oldest = min([p.violation.at_s for p in self.pending], default=at_s)
        while self.recent and self.recent[0][0] < min(at_s - EVIDENCE_S, oldest - 1.2):
            self.recent.popleft()

    def _pictures(self, v: Violation) -> tuple[tuple[float, bytes], ...]:
        times = np.array([t for t, _, _ in self.recent])
        rows = sorted(
            {int(np.abs(times - (v.at_s + shift)).argmin()) for shift in (-1.0, 0.0, 1.0)}
        )
        return tuple((self.recent[k][0], self._drawn(self.recent[k], v)) for k in rows)

    def _drawn(
        self, shot: tuple[float, Picture, dict[int, tuple[float, ...]]], v: Violation
    ) -> bytes:
        at_s, image, boxes = shot
        if image.ndim == 2:
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_YUV2BGR_I420), np.uint8)
        scale = image.shape[1] / self.site.size[0]
        out = (
            blurred(image, [np.array(b) * scale for b in boxes.values()])
            if self.blur
            else image.copy()
        )
        if v.data["track"] in boxes:
            x1, y1, x2, y2 = (round(float(c) * scale) for c in boxes[v.data["track"]])
            cv2.rectangle(out, (x1, y1), (x2, y2), RED_INK, 2)
        for line in self.site.lines:
            if line.name == v.data.get("line"):
                a, b = (tuple(round(c * scale) for c in p) for p in line.px)
                cv2.line(out, a, b, RED_INK, 2)
        text = f"{v.device} {v.rule} {at_s:.2f} s ({at_s - v.at_s:+.2f})"
        cv2.putText(
            out, text, (8, out.shape[0] - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.5, BLACK, 3, cv2.LINE_AA
        )
        cv2.putText(
            out, text, (8, out.shape[0] - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.5, WHITE, 1, cv2.LINE_AA
        )
        return bytes(cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])


def blurred(image: Picture, boxes: list[Any]) -> Picture:
    """Faces and number plates cannot be read any more: the upper third of what is upright, the
    lower half of what is wide, made coarse.
    """
    out = image.copy()
    for box in boxes:
        x1, y1, x2, y2 = (int(v) for v in box)
        upright = (y2 - y1) > 1.3 * (
            x2 - x1
        )  # of the whole box: what the picture's edge cuts is no person
        y1, y2 = (y1, y1 + (y2 - y1) // 3) if upright else (y1 + (y2 - y1) // 2, y2)
        x1, y1, x2, y2 = np.clip([x1, y1, x2, y2], 0, [image.shape[1], image.shape[0]] * 2).tolist()
        if x2 - x1 > 3 and y2 - y1 > 3:
            part = out[y1:y2, x1:x2]
            few = cv2.resize(
                part,
                (max((x2 - x1) // 10, 1), max((y2 - y1) // 10, 1)),
                interpolation=cv2.INTER_AREA,
            )
            out[y1:y2, x1:x2] = cv2.resize(few, (x2 - x1, y2 - y1), interpolation=cv2.INTER_NEAREST)
    return out


def lamp_colour(image: Picture, px: tuple[float, float, float, float]) -> int:
    """RED, YELLOW or GREEN, by the hue of what shines most in the lamp's picture; 0 where nothing
    does.
    """
    x, y, w, h = (round(v) for v in px)
    part = image[max(y, 0) : y + h, max(x, 0) : x + w]
    if part.size == 0:
        return 0
    hsv = cv2.cvtColor(part, cv2.COLOR_BGR2HSV).reshape(-1, 3)
    lit = hsv[(hsv[:, 1] > 100) & (hsv[:, 2] > 130)]
    if len(lit) < 0.03 * len(hsv):
        return 0
    hue = lit[:, 0].astype(np.int64)
    shares = [
        ((hue < 12) | (hue > 168)).mean(),
        ((hue >= 14) & (hue < 36)).mean(),
        ((hue >= 40) & (hue < 100)).mean(),
    ]
    best = int(np.argmax(shares))
    return (RED, YELLOW, GREEN)[best] if shares[best] > 0.6 else 0


def _finite(value: float) -> float | None:
    return round(float(value), 2) if np.isfinite(value) else None
