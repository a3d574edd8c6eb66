"""Tracks and sites made by hand: 10 pixels are a metre, y grows downwards, nothing jitters."""

from __future__ import annotations

import numpy as np

from headway.sensing import Calibration, Site
from headway.sensing.tracking.tracks import Track
from headway.sensing.traffic.measures import Measures
from headway.sensing.traffic.signals import SignalHistory
from headway.sensing.traffic.violations import ViolationDetector
from headway.vision.detection.detectors import CAR, CLASSES

SIZE = (320, 240)
GREY = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)


def ten_px_a_metre(error_m=0.0):
    """Road and frame have the same axes; the root mean square error is set by hand."""
    return Calibration(np.diag([0.1, 0.1, 1.0]), error_m)


def site(calibration=None, size=SIZE, **tree):
    """A site from its parts as they stand in a file; `calibration` set by hand."""
    made = Site.from_tree({"size": list(size)} | tree)
    return Site(
        made.size, calibration, made.lines, made.zones, made.lamps, made.forbidden_turns, made.rules
    )


def road_user(number=1, kind=CAR, observations=20, **known):
    """Somebody who has not been seen yet; `known` sets further fields (mean_mps, stopped_since_s,
    ...).
    """
    track = Track(number, 0.0, observations=observations)
    track.votes[kind] = 1.0
    for name, value in known.items():
        assert hasattr(track, name)
        setattr(track, name, value)
    assert CLASSES[track.kind] == CLASSES[kind]
    return track


def observed_at(track, at_s, foot, road=None, size=(40.0, 20.0), **known):
    """One more frame of it: `foot` in pixels (the middle of the lower edge of its box),
    `road` in metres (a tenth of the pixels if not given).
    """
    x, y = (float(c) for c in foot)
    track.at_s = at_s
    track.box = np.array([x - size[0] / 2, y - size[1], x + size[0] / 2, y])
    track.times.append(at_s)
    track.ground_px.append((x, y))
    track.road_m.append((x / 10.0, y / 10.0) if road is None else road)
    track.boxes.append(track.box)
    track.fully_visible.append(True)
    for name, value in known.items():
        assert hasattr(track, name)
        setattr(track, name, value)
    return track


class Watch:
    """One stream of hand-made tracks: measures and violations, frame by frame.
    found: every violation so far.
    """

    def __init__(self, of, reported=(), device="north", **how):
        self.signals = SignalHistory()
        for at_s, group, colour in reported:
            self.signals.record(at_s, group, colour)
        self.measures = Measures(of)
        self.detector = ViolationDetector(device, of, self.measures, self.signals, **how)
        self.found = []

    def show(self, at_s, *tracks, image=GREY):
        new = self.detector.update(
            at_s, image, list(tracks), self.measures.update(at_s, list(tracks))
        )
        self.found += new
        return new

    def close(self):
        new = self.detector.close()
        self.found += new
        return new

    @property
    def rules(self):
        return [v.rule for v in self.found]
