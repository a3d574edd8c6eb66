"""Violations: their rule, what it rests on, a confidence, and images before, at and after."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headway.sensing.tracking.tracks import Track
from headway.sensing.traffic.evidence import EvidenceRecorder, Violation, seal_of
from headway.sensing.traffic.measures import Crossing, Measures
from headway.sensing.traffic.rules import (
    HIGHEST_CONFIDENCE,
    Assessment,
    HoldTimers,
    IllegalTurn,
    RedLight,
    RuleDecision,
    Situation,
    TrafficRule,
    rules_of_places,
)
from headway.sensing.traffic.signals import SignalHistory, lamp_colour
from headway.sensing.traffic.site import Site
from headway.vision.detection.detectors import CLASSES, PERSON
from headway.vision.frames.images import Image

PATH_S = 3.0  # s of the track's path that stand in the evidence
PATH_STEP = 3  # every so many points of it: enough to draw the path
LEAST_TRUST = 0.5  # share of a confidence that counts for a track just begun
OBSERVATIONS_PER_TRUST = 20.0  # that add 1 to the trust: full from ten on


@dataclass
class PendingViolation:
    """Waiting for its images. decision: may still be open (a crossing on red)."""

    violation: Violation
    track: Track
    decision: RuleDecision


@dataclass
class ViolationDetector:
    """The traffic rules of one stream. `update` once a frame; violations come out a second or two
    after they happened, with their images.

    key: of the seal. blur: make faces and number plates unrecognisable in the images.
    reported: violations so far.
    """

    device: str
    site: Site
    measures: Measures
    signals: SignalHistory
    key: bytes = b""
    blur: bool = True
    pending: list[PendingViolation] = field(default_factory=list)
    reported: int = 0

    def __post_init__(self) -> None:
        self.evidence = EvidenceRecorder(self.site, self.blur)
        self._timers = HoldTimers()
        self._red_light = RedLight(self.site, self.signals)
        turns = [IllegalTurn(t.from_line, t.to_line) for t in self.site.forbidden_turns]
        self._line_rules: list[TrafficRule] = [*turns, self._red_light]
        self._place_rules = rules_of_places(self.site, self._timers)
        # images are kept only where there may be something to show
        self._may_find = _may_find(self.site)

    def update(
        self, at_s: float, image: Image, tracks: list[Track], crossings: list[Crossing]
    ) -> list[Violation]:
        """Take in one frame; the violations that are complete now."""
        if self._may_find:
            oldest_s = min((p.violation.at_s for p in self.pending), default=at_s)
            self.evidence.record(at_s, image, tracks, oldest_s)
        self._read_lamps(at_s, image)

        by_id = {track.id: track for track in tracks}
        for crossing in crossings:
            track = by_id[crossing.track]
            if track.kind != PERSON:
                self._assess(self._line_rules, Situation(crossing.at_s, track, crossing=crossing))

        pedestrians = self._pedestrians(tracks)
        for track in tracks:
            if track.kind != PERSON and track.at_s == at_s:  # not one that is only predicted
                zones = self.measures.zones_of(track)
                self._assess(self._place_rules, Situation(at_s, track, zones, pedestrians))

        self._timers.forget_absent(by_id)
        return self._complete(at_s)

    def close(self) -> list[Violation]:
        """The end of the stream: those that still wait, with the images that there are."""
        return self._complete(np.inf)

    def _read_lamps(self, at_s: float, image: Image) -> None:
        for lamp in self.site.lamps:
            colour = lamp_colour(image, lamp.px)
            if colour is not None:
                self.signals.record_lamp(at_s, lamp.group, colour)

    def _pedestrians(self, tracks: list[Track]) -> dict[str, list[int]]:
        """Tracks of the people on each zone that has any."""
        found: dict[str, list[int]] = {}
        for track in tracks:
            if track.kind == PERSON:
                for zone in self.measures.zones_of(track):
                    found.setdefault(zone, []).append(track.id)
        return found

    def _assess(self, rules: list[TrafficRule], situation: Situation) -> None:
        """Each rule is reported once of a track; a crossing on red is followed up once, too."""
        track = situation.track
        for rule in rules:
            found = rule.assess(situation)
            if found.decision == RuleDecision.NO_VIOLATION or found.decision in track.violations:
                continue
            track.violations.add(found.decision)
            violation = self._violation(found, situation)
            self.pending.append(PendingViolation(violation, track, found.decision))

    def _violation(self, found: Assessment, situation: Situation) -> Violation:
        """Without images and seal."""
        track = situation.track
        trust = min(1.0, LEAST_TRUST + track.observations / OBSERVATIONS_PER_TRUST)
        return Violation(
            id=str(uuid.uuid4()),
            at_s=situation.at_s,
            device=self.device,
            rule=found.decision.value,
            confidence=round(min(found.confidence, HIGHEST_CONFIDENCE) * trust, 4),
            data=_track_data(track, found),
        )

    def _complete(self, at_s: float) -> list[Violation]:
        """Those that are decided and have their images, sealed; the others go on waiting."""
        complete, waiting = [], []
        for one in self.pending:
            if one.decision == RuleDecision.UNDECIDED:
                crossed_s, figures = one.violation.at_s, one.violation.data
                one.decision = self._red_light.follow_up(one.track, figures, crossed_s, at_s)
                one.violation = replace(one.violation, rule=one.decision.value)
            if one.decision == RuleDecision.NO_VIOLATION:
                continue
            last_image_s = one.violation.at_s + self.evidence.settings.before_s
            if one.decision == RuleDecision.UNDECIDED or at_s < last_image_s:
                waiting.append(one)
            elif self._stands(one):
                complete.append(self._sealed(one.violation))
        self.pending = waiting
        self.reported += len(complete)
        return complete

    def _stands(self, one: PendingViolation) -> bool:
        """Whether later reports of the signals leave it as it was decided."""
        if one.decision not in (RuleDecision.RED_LIGHT, RuleDecision.STOP_LINE):
            return True
        return self._red_light.stands(one.violation.data, one.violation.at_s)

    def _sealed(self, violation: Violation) -> Violation:
        with_images = replace(violation, images=self.evidence.images(violation))
        return replace(with_images, seal=seal_of(with_images, self.key))


def _may_find(site: Site) -> bool:
    """Whether any rule can find something at this site."""
    has_limit = site.rules.limit_kmh is not None and site.calibration is not None
    stop_lines = [line for line in site.lines if line.stop and line.groups]
    return bool(has_limit or stop_lines or site.forbidden_turns or site.zones)


def _track_data(track: Track, found: Assessment) -> dict[str, Any]:
    points = list(zip(track.times, track.ground_px, strict=True))[
        track.index_before(PATH_S) :: PATH_STEP
    ]
    return {
        "track": track.id,
        "class": CLASSES[track.kind],
        **found.figures,
        "box": [round(float(v), 1) for v in track.box],
        "path": [[round(at_s, 3), round(x, 2), round(y, 2)] for at_s, (x, y) in points],
    }
