"""A street whose engine sees through cameras alone: the loop closed through pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from headway.plants.sumo import SumoSettings, read_shapes
from headway.plants.sumo.network import Shapes
from headway.plants.sumo.profiles import likely_links
from headway.rendered.film import FilmedPlant
from headway.rendered.painter import Painter
from headway.rendered.site import site_file
from headway.rendered.view import view_of
from headway.roads import Network
from headway.sensing import need_vision
from headway.sensing.detection.detectors import Detector
from headway.sensing.detection.motion import MotionDetector
from headway.sensing.frames.sources import Frame, Picture
from headway.sensing.pipeline import Perception
from headway.sensing.tracking.tracks import Track
from headway.sensing.traffic.site import Site
from headway.values import ColourArray, FloatArray, Observation, Vehicles


class SeeingPlant(FilmedPlant):
    """A street of which the engine knows only what a camera over each of its junctions shows: no
    shortcut to the simulation.
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
        self.eyes = [
            _Eye(network, shapes, junction, settings.seed, rate_hz, detector)
            for junction in range(len(network.junctions))
        ]
        super().__init__(
            replace(settings, sensing="connected"),
            network,
            [(eye.painter, eye.look) for eye in self.eyes],
            rate_hz,
        )
        self._likely = likely_links(network)

    def observe(self) -> Observation:
        plain = (
            super().observe()
        )  # for the signals, the pedestrians' buttons and the clock; not one vehicle of it is used
        rows = [row for eye in self.eyes for row in eye.rows()]
        tracks = [r[0] for r in rows]
        lane = np.array([r[1] for r in rows], np.int32)
        link = self._likely[lane] if len(rows) else np.zeros(0, np.int32)
        arrived, count = np.zeros_like(plain.arrived), np.zeros_like(plain.count)
        np.add.at(count, lane, 1)
        np.add.at(
            arrived,
            link[np.array([r[3] for r in rows], np.bool_) & (link >= 0)] if len(rows) else link,
            1,
        )
        speed = np.array([0.0 if np.isnan(t.speed_mps) else t.speed_mps for t in tracks])
        vehicles = Vehicles(
            lane,
            link,
            np.maximum(np.array([r[2] for r in rows], np.float64), 0.0),
            speed,
            np.array([t.stopped_s for t in tracks], np.float64),
            np.array([float(np.nan_to_num(t.length_m, nan=4.5)) + 2.5 for t in tracks]),
            np.zeros(len(rows), np.bool_),
        )
        return replace(
            plain,
            vehicles=vehicles,
            room_m=np.full_like(plain.room_m, np.inf),
            count=count,
            arrived=arrived,
            emergencies=(),
            source="camera",
            links_known=False,
        )


class _Eye:
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
        self.painter = Painter(
            view_of(network, shapes, junction, height_m=90.0, reach_m=80.0), network, shapes, seed
        )
        self._key, self._detector = f"junction {junction}", detector
        self._perception = Perception(
            self._key, Site.of(site_file(self.painter, junction)), rate_hz
        )
        self._tracks: list[Track] = []
        self._lanes, self._met = _Lanes(network, shapes, junction), set[int]()

    def look(
        self, at_s: float, image: Picture, truth: list[dict[str, Any]], shown: ColourArray
    ) -> None:
        self._tracks = self._perception.process(
            Frame(at_s, 0, image), self._detector.begin(self._key, image).result()
        ).tracks

    def rows(self) -> list[tuple[Track, int, float, bool]]:
        """Of each road user before a stop line: lane, metres to the line, and whether it is new."""
        found = []
        for track in self._tracks:
            lane, left_m = self._lanes.place(track) if not track.coasting else (-1, 0.0)
            if lane >= 0 and left_m > -3.0:
                found.append((track, lane, left_m, track.id not in self._met))
                self._met.add(track.id)
        self._met.intersection_update(self._perception.tracker.tracks)
        return found


class _Lanes:
    """The approach lanes of a junction, to find a track's lane and its way to the stop line."""

    def __init__(self, network: Network, shapes: Shapes, junction: int) -> None:
        own = {
            network.links[k].from_lane
            for group in network.junctions[junction].groups
            for k in network.groups[group].links
        }
        self._shapes = [
            (network.lane_index[name], np.array(points))
            for name, _, points in shapes.lanes
            if network.lane_index.get(name) in own
        ]

    def place(self, track: Track) -> tuple[int, float]:
        """(lane, metres from its front to the stop line), or (-1, 0)."""
        at = np.array(track.road_m[-1])
        best, found = 2.2, (-1, 0.0)
        for lane, shape in self._shapes:
            apart, left, ahead = _along(shape, at)
            moving = np.isfinite(track.speed_mps) and track.speed_mps > 1.5
            if moving and float(np.dot(track.velocity_mps, ahead)) < 0.3 * track.speed_mps:
                continue
            if apart < best:
                best = apart
                found = (lane, left - float(np.nan_to_num(track.length_m, nan=4.5)) / 2.0)
        return found


def _along(shape: FloatArray, at: FloatArray) -> tuple[float, float, FloatArray]:
    """(distance from a line, metres left along it, direction there)."""
    a, b = shape[:-1], shape[1:]
    way = b - a
    length = np.maximum(np.linalg.norm(way, axis=1), 1e-9)
    share = np.clip(np.einsum("ij,ij->i", at - a, way) / length**2, 0.0, 1.0)
    apart = np.linalg.norm(a + way * share[:, None] - at, axis=1)
    k = int(apart.argmin())
    left = float(length[k] * (1.0 - share[k]) + length[k + 1 :].sum())
    beyond = float((at - shape[-1]) @ way[-1] / length[-1])
    return float(apart[k]), -beyond if beyond > 0.0 else left, way[k] / length[k]
