"""Which detection is whom: ByteTrack, and what it does not do: begin with who is seen faintly but
steadily, and keep a name when a track breaks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import supervision as sv
from trackers import ByteTrackTracker

from headway.sensing.boxes import overlaps
from headway.sensing.detection.detectors import PERSON, VEHICLE
from headway.values import FloatArray

# docs/decisions/0008-vision.md; the others: docs/decisions/0010-association.md
SURE = 0.32
OVERLAP = 0.25
FAINT = 0.15
STEADY = 5
SAME_PLACE = 0.5
FORGOTTEN = 3
TAKEN_UP = 0.3
TAKEN_UP_WITHIN = 0.7
DOUBLE = 0.45
DOUBLE_WITHIN = 0.8
GAP_S = 1.0


@dataclass(frozen=True, slots=True)
class Sight:
    """A road user on one picture. before: (time s, box) of a new one while it was still too faint
    to be told.
    """

    track: int
    box: FloatArray
    confidence: float
    kind: int
    before: tuple[tuple[float, FloatArray], ...] = ()


@dataclass(eq=False)
class _Faint:
    """Somebody who may be there. age: pictures since it was seen last."""

    box: FloatArray
    way: tuple[tuple[float, FloatArray], ...]
    age: int = 0


@dataclass(eq=False)
class _Last:
    at_s: float
    box: FloatArray
    person: bool


@dataclass
class Association:
    """The names of one stream's road users. rate_hz: frames a second, about."""

    rate_hz: float
    _names: dict[int, int] = field(default_factory=dict)  # ByteTrack's to ours
    _last: dict[int, _Last] = field(default_factory=dict)
    _faint: list[_Faint] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._byte = ByteTrackTracker(
            lost_track_buffer=45,
            frame_rate=max(self.rate_hz, 1.0),
            track_activation_threshold=SURE,
            minimum_consecutive_frames=1,
            minimum_iou_threshold=OVERLAP,
            high_conf_det_threshold=SURE,
        )

    def match(self, at_s: float, found: sv.Detections) -> list[Sight]:
        """One picture's detections with their names; detections that belong to nobody are left
        out.
        """
        if found.confidence is not None:
            found = self._encouraged(at_s, found)
        tracked = self._byte.update(found)
        ids = np.asarray(tracked.tracker_id, np.int64).tolist()
        boxes = np.asarray(tracked.xyxy, np.float64)
        kinds = tracked.class_id.tolist() if tracked.class_id is not None else [VEHICLE] * len(ids)
        sure = tracked.confidence.tolist() if tracked.confidence is not None else [1.0] * len(ids)
        owner: dict[int, int] = {}  # our name: the row
        for row, number in enumerate(ids):
            if number in self._names:
                self._take(owner, self._names[number], row, boxes)
        for row, number in enumerate(ids):
            if number >= 0 and number not in self._names:
                # what only moves has one box each: one inside another's is somebody else
                name = (
                    None
                    if kinds[row] == VEHICLE
                    else self._known_as(at_s, boxes[row], kinds[row] == PERSON, owner)
                )
                if name is None:
                    name = number
                elif name in owner:  # a second box on somebody who has one
                    continue
                self._names[number] = name
                owner[name] = row
        sights = []
        for name, row in owner.items():
            before = () if name in self._last else self._way_of(boxes[row])
            sights.append(Sight(name, boxes[row], float(sure[row]), int(kinds[row]), before))
            self._last[name] = _Last(at_s, boxes[row], kinds[row] == PERSON)
        self._forget(at_s)
        return sights

    def expected(self, at_s: float, longest_s: float) -> dict[int, FloatArray]:
        """Boxes of those who were lost a moment ago: where they should be."""
        found = {}
        for one in self._byte.tracks:
            name = self._names.get(one.tracker_id, -1)
            last = self._last.get(name)
            if last is not None and 0.0 < at_s - last.at_s <= longest_s:
                found[name] = last.box = np.asarray(one.get_state_bbox(), np.float64)
        return found

    def _take(self, owner: dict[int, int], name: int, row: int, boxes: FloatArray) -> None:
        """Two tracks may have come to one name: the box that fits better counts."""
        if name in owner and name in self._last:
            has, new = overlaps(self._last[name].box[None], boxes[[owner[name], row]])[0].ravel()
            if has >= new:
                return
        owner[name] = row

    def _known_as(
        self, at_s: float, box: FloatArray, person: bool, owner: dict[int, int]
    ) -> int | None:
        """The name of who was lost here, or of who is here already; None for a new one."""
        names = [
            n
            for n, last in self._last.items()
            if at_s - last.at_s <= GAP_S and last.person == person
        ]
        if not names:
            return None
        others = np.array([self._last[n].box for n in names])
        alike, inside = (share.ravel() for share in overlaps(box[None], others))
        within = np.maximum(inside, overlaps(others, box[None])[1].ravel())
        here = np.array([n in owner for n in names])
        fits = (alike >= np.where(here, DOUBLE, TAKEN_UP)) | (
            within >= np.where(here, DOUBLE_WITHIN, TAKEN_UP_WITHIN)
        )
        return names[int(np.where(fits, alike + within, -np.inf).argmax())] if fits.any() else None

    def _encouraged(self, at_s: float, found: sv.Detections) -> sv.Detections:
        """Who was seen in one place `STEADY` times, if only faintly, is sure enough to be
        followed.
        """
        boxes, sure = np.asarray(found.xyxy, np.float64), np.array(found.confidence, np.float32)
        for one in self._faint:
            one.age += 1
        live = np.array(
            [t.get_state_bbox() for t in self._byte.tracks if t.tracker_id >= 0]
        ).reshape(-1, 4)
        near = overlaps(boxes, live)[0].max(1, initial=0.0)
        for row in np.flatnonzero((sure >= FAINT) & (sure < SURE) & (near <= TAKEN_UP)).tolist():
            fits = [one for one in self._faint if _same_place(boxes[row], one.box)]
            one = max(fits, key=lambda one: len(one.way), default=_Faint(boxes[row], ()))
            if not fits:
                self._faint.append(one)
            if one.age or not one.way:
                one.box = boxes[row]
                one.way = (*one.way, (at_s, boxes[row]))
                one.age = 0
            if len(one.way) >= STEADY:
                sure[row] = SURE + 0.01
        self._faint = [one for one in self._faint if one.age < FORGOTTEN]
        return sv.Detections(xyxy=found.xyxy, confidence=sure, class_id=found.class_id)

    def _way_of(self, box: FloatArray) -> tuple[tuple[float, FloatArray], ...]:
        """How a new one came, while it was faint."""
        for one in self._faint:
            if _same_place(box, one.box):
                return one.way if one.age else one.way[:-1]
        return ()

    def _forget(self, at_s: float) -> None:
        for name in [n for n, last in self._last.items() if at_s - last.at_s > 3.0]:
            del self._last[name]
        alive = {t.tracker_id for t in self._byte.tracks}
        self._names = {number: name for number, name in self._names.items() if number in alive}


def _same_place(a: FloatArray, b: FloatArray) -> bool:
    return bool(overlaps(a[None], b[None])[0].item() > SAME_PLACE)
