"""Association of detections with tracks: ByteTrack, and what it does not do. Tracks begin with
detections that are faint but steady, and keep their number when ByteTrack breaks them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import supervision as sv
from trackers import ByteTrackTracker

from headway.values import FloatArray
from headway.vision.boxes import overlaps
from headway.vision.detection.detectors import PERSON, VEHICLE

# ByteTrack, docs/decisions/0008-vision.md
SURE = 0.32  # confidence from which a detection begins a track
LEAST_IOU = 0.25  # of a detection with where its track is predicted
LOST_BUFFER = 45  # frames at 30 Hz for which a lost track is predicted: 1.5 s

# The others: docs/decisions/0010-association.md. Overlaps are 0 to 1.

# Faint candidates
FAINT = 0.15  # confidence from which a detection may be a faint one
STEADY = 5  # frames in one place, then it is sure enough
SAME_PLACE_IOU = 0.5  # of a faint detection with its last
FORGOTTEN_AFTER = 3  # frames without it
JUST_SURE = 0.01  # above `SURE`, what a steady one is given

# A track that broke is taken up again where it was lost
RESUMED_IOU = 0.3  # from which two boxes are one road user; a faint one so close is none of its own
RESUMED_INSIDE = 0.7  # the same, by the share of the smaller box inside the other
RESUMED_WITHIN_S = 1.0  # s; later it is another
FORGOTTEN_AFTER_S = 3.0  # s without a detection, then the track has ended

# A second box on a road user that has one
DOUBLE_IOU = 0.45
DOUBLE_INSIDE = 0.8

PastBox = tuple[float, FloatArray]  # time s; left, top, right, bottom


@dataclass(frozen=True, slots=True)
class TrackedDetection:
    """A detection and the number of its track.

    box:     (4,), left, top, right, bottom, pixels.
    earlier: of a new track, where it was while it was too faint to be sure.
    """

    track: int
    box: FloatArray
    confidence: float
    kind: int
    earlier: tuple[PastBox, ...] = ()


@dataclass(eq=False)
class _FaintCandidate:
    """A faint detection that may be a road user. age: frames since the last detection."""

    box: FloatArray
    path: tuple[PastBox, ...] = ()
    age: int = 0


@dataclass(eq=False)
class _LastDetection:
    at_s: float
    box: FloatArray
    person: bool


@dataclass
class Association:
    """The tracks' numbers of one stream. rate_hz: frames a second, about."""

    rate_hz: float
    _numbers: dict[int, int] = field(default_factory=dict)  # ByteTrack's to ours
    _last: dict[int, _LastDetection] = field(default_factory=dict)
    _faint: list[_FaintCandidate] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._byte_track = ByteTrackTracker(
            lost_track_buffer=LOST_BUFFER,
            frame_rate=max(self.rate_hz, 1.0),
            track_activation_threshold=SURE,
            minimum_consecutive_frames=1,
            minimum_iou_threshold=LEAST_IOU,
            high_conf_det_threshold=SURE,
        )

    def match(self, at_s: float, found: sv.Detections) -> list[TrackedDetection]:
        """One frame's detections with their tracks; those that belong to none are left out."""
        if found.confidence is not None:
            found = self._with_steady_faint_ones(at_s, found)
        tracked = self._byte_track.update(found)
        boxes = np.asarray(tracked.xyxy, np.float64)
        n = len(boxes)
        kinds = tracked.class_id.tolist() if tracked.class_id is not None else [VEHICLE] * n
        sure = tracked.confidence.tolist() if tracked.confidence is not None else [1.0] * n

        matched = []
        for track, row in self._rows(at_s, tracked, boxes, kinds).items():
            box, kind = boxes[row], int(kinds[row])
            matched.append(
                TrackedDetection(
                    track=track,
                    box=box,
                    confidence=float(sure[row]),
                    kind=kind,
                    earlier=() if track in self._last else self._faint_path(box),
                )
            )
            self._last[track] = _LastDetection(at_s, box, person=kind == PERSON)
        self._forget(at_s)
        return matched

    def predicted(self, at_s: float, longest_s: float) -> dict[int, FloatArray]:
        """Boxes of the tracks that were lost `longest_s` ago at most: where they should be."""
        found = {}
        for one in self._byte_track.tracks:
            track = self._numbers.get(one.tracker_id)
            last = self._last.get(track) if track is not None else None
            if track is not None and last is not None and 0.0 < at_s - last.at_s <= longest_s:
                found[track] = last.box = np.asarray(one.get_state_bbox(), np.float64)
        return found

    def _rows(
        self, at_s: float, tracked: sv.Detections, boxes: FloatArray, kinds: list[int]
    ) -> dict[int, int]:
        """The row of each track's detection."""
        ids = np.asarray(tracked.tracker_id, np.int64).tolist()
        rows: dict[int, int] = {}
        for row, number in enumerate(ids):
            if number in self._numbers:
                self._take(rows, self._numbers[number], row, boxes)
        for row, number in enumerate(ids):
            if number < 0 or number in self._numbers:
                continue
            # moving objects have one box each: one inside another's is another road user
            track = None
            if kinds[row] != VEHICLE:
                track = self._resumed(at_s, boxes[row], kinds[row] == PERSON, rows)
            if track is None:
                track = number
            elif track in rows:  # a second box on the same road user
                continue
            self._numbers[number] = track
            rows[track] = row
        return rows

    def _take(self, rows: dict[int, int], track: int, row: int, boxes: FloatArray) -> None:
        """Two of ByteTrack's may have become one track: the box that fits better counts."""
        if track in rows and track in self._last:
            last = self._last[track].box
            present, other = overlaps(last[None], boxes[[rows[track], row]]).iou.ravel()
            if present >= other:
                return
        rows[track] = row

    def _resumed(
        self, at_s: float, box: FloatArray, person: bool, rows: dict[int, int]
    ) -> int | None:
        """The track that was lost here, or that has a detection here already; None for a new
        one.
        """
        tracks = [
            track
            for track, last in self._last.items()
            if at_s - last.at_s <= RESUMED_WITHIN_S and last.person == person
        ]
        if not tracks:
            return None
        others = np.array([self._last[track].box for track in tracks])
        iou, inside = (share.ravel() for share in overlaps(box[None], others))
        within = np.maximum(inside, overlaps(others, box[None]).inside.ravel())
        detected = np.array([track in rows for track in tracks])
        fits = (iou >= np.where(detected, DOUBLE_IOU, RESUMED_IOU)) | (
            within >= np.where(detected, DOUBLE_INSIDE, RESUMED_INSIDE)
        )
        return tracks[int(np.where(fits, iou + within, -np.inf).argmax())] if fits.any() else None

    def _with_steady_faint_ones(self, at_s: float, found: sv.Detections) -> sv.Detections:
        """Detections that were in one place for `STEADY` frames, if only faintly, are made sure
        enough to begin a track.
        """
        boxes, sure = np.asarray(found.xyxy, np.float64), np.array(found.confidence, np.float32)
        for one in self._faint:
            one.age += 1
        live = [one.get_state_bbox() for one in self._byte_track.tracks if one.tracker_id >= 0]
        near = overlaps(boxes, np.array(live).reshape(-1, 4)).iou.max(1, initial=0.0)
        faint = (sure >= FAINT) & (sure < SURE) & (near <= RESUMED_IOU)
        for row in np.flatnonzero(faint).tolist():
            if len(self._candidate(at_s, boxes[row]).path) >= STEADY:
                sure[row] = SURE + JUST_SURE
        self._faint = [one for one in self._faint if one.age < FORGOTTEN_AFTER]
        return sv.Detections(xyxy=found.xyxy, confidence=sure, class_id=found.class_id)

    def _candidate(self, at_s: float, box: FloatArray) -> _FaintCandidate:
        """The candidate that a faint detection belongs to, with it; one detection a frame."""
        fitting = [one for one in self._faint if _same_place(box, one.box)]
        if not fitting:
            fitting = [_FaintCandidate(box)]
            self._faint += fitting
        candidate = max(fitting, key=lambda one: len(one.path))
        if candidate.age or not candidate.path:
            candidate.box = box
            candidate.path = (*candidate.path, (at_s, box))
            candidate.age = 0
        return candidate

    def _faint_path(self, box: FloatArray) -> tuple[PastBox, ...]:
        """Where a new track was while it was faint, without this frame."""
        for one in self._faint:
            if _same_place(box, one.box):
                return one.path if one.age else one.path[:-1]
        return ()

    def _forget(self, at_s: float) -> None:
        ended = [n for n, last in self._last.items() if at_s - last.at_s > FORGOTTEN_AFTER_S]
        for track in ended:
            del self._last[track]
        alive = {one.tracker_id for one in self._byte_track.tracks}
        self._numbers = {theirs: ours for theirs, ours in self._numbers.items() if theirs in alive}


def _same_place(a: FloatArray, b: FloatArray) -> bool:
    return bool(overlaps(a[None], b[None]).iou.item() > SAME_PLACE_IOU)
