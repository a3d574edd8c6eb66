"""A street of which the controller sees only what cameras over it see: the loop is closed through
images.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from headway.plants.sumo import SumoSettings, read_shapes
from headway.plants.sumo.network import Shapes
from headway.plants.sumo.profiles import recognised
from headway.rendered.film import FilmedPlant
from headway.rendered.painter import Painter
from headway.rendered.site import site_file
from headway.rendered.view import view_of
from headway.roads import Network, likely_links
from headway.sensing import need_vision
from headway.sensing.pipeline import Perception
from headway.sensing.tracking.tracks import Track
from headway.sensing.traffic.blue_lights import BlueLights
from headway.sensing.traffic.site import Site
from headway.values import ColourArray, FloatArray, IntArray, Observation, Vehicles
from headway.vision.detection.detectors import Detector
from headway.vision.detection.motion import MotionDetector
from headway.vision.frames.images import Image
from headway.vision.frames.sources import Frame

CAMERA_HEIGHT_M = 90.0  # m above the road: vehicles hide one another hardly
CAMERA_REACH_M = 80.0  # m to either side: some 5 s of driving before a stop line
USUAL_LENGTH_M = 4.5  # m, of a vehicle whose length is not known yet
GAP_M = 2.5  # m from a vehicle in a queue to the next, as SUMO's minGap
BEYOND_LINE_M = 3.0  # m; a vehicle farther beyond the stop line has left its lane
LANE_REACH_M = 2.2  # m to the side: little more than half a lane, for a vehicle at its edge
DIRECTION_FROM_MPS = 1.5  # m/s from which the direction of a velocity counts
DEAD_AFTER_S = 2.0  # s without a live image: two ticks
LEAST_COSINE = 0.3  # of the angle between velocity and lane: within about 70 degrees


class LanePlace(NamedTuple):
    """Where a track is on its lane. left_m: from its front to the stop line, below 0 beyond it."""

    lane: int
    left_m: float


class Approach(NamedTuple):
    """A road user before a stop line. new: not reported there in an earlier observation.
    emergency: it flashes blue.
    """

    track: Track
    lane: int
    left_m: float
    new: bool
    emergency: bool = False


class CameraPlant(FilmedPlant):
    """A street of which the controller knows only what a camera over each of its junctions shows:
    no shortcut to the simulation.
    """

    def __init__(
        self,
        settings: SumoSettings,
        network: Network,
        rate_hz: float = 5.0,
        detector: Detector | None = None,
    ) -> None:
        need_vision()
        shapes = read_shapes(network)
        detector = detector or MotionDetector()
        self.cameras = [
            JunctionCamera(network, shapes, junction, settings.seed, rate_hz, detector)
            for junction in range(len(network.junctions))
        ]
        super().__init__(
            replace(settings, sensing="connected"),
            network,
            [(camera.painter, camera.process) for camera in self.cameras],
            rate_hz,
        )
        self._likely_links = likely_links(network)

    def observe(self) -> Observation:
        # for the signals, the pedestrians' buttons and the clock; not one vehicle of it is used
        simulated = super().observe()
        by_camera = [camera.approaches() for camera in self.cameras]
        approaches = [one for seen in by_camera for one in seen]
        names = [f"{k}/{one.track.id}" for k, seen in enumerate(by_camera) for one in seen]
        lane = np.array([one.lane for one in approaches], np.int32)
        link = self._likely_links[lane] if approaches else np.zeros(0, np.int32)
        new = np.array([one.new for one in approaches], np.bool_)
        vehicles = _vehicles(approaches, lane, link)
        return replace(
            simulated,
            vehicles=vehicles,
            room_m=np.full_like(simulated.room_m, np.inf),
            count=_counted(lane, simulated.count),
            arrived=_counted(link[new & (link >= 0)], simulated.arrived),
            emergencies=recognised(vehicles, names, self._network),
            source="camera",
            completeness=self._completeness(simulated.at_s),
            links_known=False,
            inside_seen=False,
        )

    def take_rerouted(self) -> IntArray:
        return np.zeros_like(super().take_rerouted())  # a track keeps its lane's link

    def _completeness(self, now_s: float) -> FloatArray:
        """(junctions,), by whether the camera over each delivers."""
        return np.array([camera.liveness.completeness(now_s) for camera in self.cameras])


def _vehicles(approaches: Sequence[Approach], lane: IntArray, link: IntArray) -> Vehicles:
    tracks = [one.track for one in approaches]
    left_m = np.array([one.left_m for one in approaches], np.float64)
    return Vehicles(
        lane=lane,
        link=link,
        distance_m=np.maximum(left_m, 0.0),
        speed_mps=np.array([0.0 if np.isnan(t.speed_mps) else t.speed_mps for t in tracks]),
        waiting_s=np.array([track.stopped_s for track in tracks], np.float64),
        length_m=np.array([_length_m(track) + GAP_M for track in tracks]),
        emergency=np.array([one.emergency for one in approaches], np.bool_),
    )


def _counted(indices: IntArray, like: IntArray) -> IntArray:
    """How often each index occurs, in an array like another."""
    counts = np.zeros_like(like)
    np.add.at(counts, indices, 1)
    return counts


def _length_m(track: Track) -> float:
    return float(np.nan_to_num(track.length_m, nan=USUAL_LENGTH_M))


class Liveness:
    """Whether a camera still shows its junction: its images come, and change. A dead camera is not
    an empty road.
    """

    def __init__(self) -> None:
        self._live_at_s: float | None = None  # of the newest image that was live
        self._digest = 0  # of the newest image

    def is_live(self, at_s: float, image: Image) -> bool:
        """The image of `at_s` is not the one before: no two are equal, for the noise of the
        sensor. One that stands still is not, nor are black ones after the first.
        """
        digest = zlib.crc32(np.ascontiguousarray(image))
        live = digest != self._digest
        self._digest = digest
        if live:
            self._live_at_s = at_s
        return live

    def completeness(self, now_s: float) -> float:
        """1 while images are live, 0 from DEAD_AFTER_S without one on; counted from the first
        call.
        """
        if self._live_at_s is None:
            self._live_at_s = now_s
        return float(now_s - self._live_at_s <= DEAD_AFTER_S)


class JunctionCamera:
    """The camera over one junction, and what it knows."""

    def __init__(
        self,
        network: Network,
        shapes: Shapes,
        junction: int,
        seed: int,
        rate_hz: float,
        detector: Detector,
    ) -> None:
        view = view_of(network, shapes, junction, height_m=CAMERA_HEIGHT_M, reach_m=CAMERA_REACH_M)
        self.painter = Painter(view, network, shapes, seed)
        self._key = f"junction {junction}"
        self._detector = detector
        site = Site.from_tree(site_file(self.painter, junction))
        self._perception = Perception(self._key, site, rate_hz)
        self._lanes = ApproachLanes(network, shapes, junction)
        self._tracks: list[Track] = []
        self._blue_lights = BlueLights()
        self._flashing: set[int] = set()
        self._seen_before: set[int] = set()
        self.liveness = Liveness()

    def process(
        self, at_s: float, image: Image, ground_truth: list[dict[str, Any]], shown: ColourArray
    ) -> None:
        """Process one frame; the ground truth is not used. On one that is not live nobody is
        seen.
        """
        if not self.liveness.is_live(at_s, image):
            self._tracks = []
            return
        found = self._detector.begin(self._key, image).result()
        self._tracks = self._perception.process(Frame(at_s, 0, image), found).tracks
        self._flashing = self._blue_lights.update(at_s, image, self._tracks)

    def approaches(self) -> list[Approach]:
        """The road users before a stop line now."""
        found = []
        for track in self._tracks:
            place = self._lanes.place(track) if not track.coasting else None
            if place is not None and place.left_m > -BEYOND_LINE_M:
                new = track.id not in self._seen_before
                urgent = track.id in self._flashing
                found.append(Approach(track, place.lane, place.left_m, new, urgent))
                self._seen_before.add(track.id)
        self._seen_before.intersection_update(self._perception.tracker.tracks)
        return found


class ApproachLanes:
    """The approach lanes of a junction, to find a track's lane and its way to the stop line."""

    def __init__(self, network: Network, shapes: Shapes, junction: int) -> None:
        own = {
            network.links[link].from_lane
            for group in network.junctions[junction].groups
            for link in network.groups[group].links
        }
        self._shapes = [
            (network.lane_index[name], np.array(points))
            for name, _, points in shapes.lanes
            if network.lane_index.get(name) in own
        ]

    def place(self, track: Track) -> LanePlace | None:
        """On the nearest lane of its direction; None where it is on none."""
        at = np.array(track.road_m[-1])
        nearest_m, found = LANE_REACH_M, None
        for lane, shape in self._shapes:
            on_lane = project(at, shape)
            if on_lane.apart_m < nearest_m and not _drives_otherwise(track, on_lane.direction):
                nearest_m = on_lane.apart_m
                found = LanePlace(lane, on_lane.left_m - _length_m(track) / 2.0)
        return found


def _drives_otherwise(track: Track, direction: FloatArray) -> bool:
    """Whether a track certainly moves in another direction."""
    if not np.isfinite(track.speed_mps) or track.speed_mps <= DIRECTION_FROM_MPS:
        return False
    return float(np.dot(track.velocity_mps, direction)) < LEAST_COSINE * track.speed_mps


class Projection(NamedTuple):
    """A point beside a line.

    apart_m:   distance from the line.
    left_m:    along the line to its end, below 0 beyond it.
    direction: (2,), unit vector of the line there.
    """

    apart_m: float
    left_m: float
    direction: FloatArray


def project(at: FloatArray, line: FloatArray) -> Projection:
    """The nearest place on a line, (n, 2) metres, to a point, (2,)."""
    steps = line[1:] - line[:-1]
    lengths = np.maximum(np.linalg.norm(steps, axis=1), 1e-9)  # two points may be the same
    share = np.clip(np.einsum("ij,ij->i", at - line[:-1], steps) / lengths**2, 0.0, 1.0)
    apart = np.linalg.norm(line[:-1] + steps * share[:, None] - at, axis=1)
    k = int(apart.argmin())
    left = float(lengths[k] * (1.0 - share[k]) + lengths[k + 1 :].sum())
    beyond = float((at - line[-1]) @ steps[-1] / lengths[-1])
    return Projection(
        apart_m=float(apart[k]),
        left_m=-beyond if beyond > 0.0 else left,
        direction=steps[k] / lengths[k],
    )
