"""A clip of a simulated junction, with its site and its ground truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from headway.plants.sumo import SumoSettings, network_of, read_shapes
from headway.plants.sumo.scenarios import scenario
from headway.rendered.film import FilmedPlant
from headway.rendered.painter import Painter, ground_truth_line
from headway.rendered.site import site_file
from headway.rendered.view import view_of
from headway.roads import Network
from headway.sensing.output.overlay import VideoWriter
from headway.values import ColourArray
from headway.vision.frames.images import Image


@dataclass(frozen=True, slots=True)
class ClipSettings:
    """What is rendered, and how; angles in degrees from straight down. See `headway camera`.

    begin_s:   of the simulation, before the clip. rate_hz: frames a second.
    violators: share of the vehicles that drive too fast, and of those that ignore red.
    """

    scenario: str
    junction: str
    out: Path
    seconds: float
    begin_s: float
    rate_hz: float
    seed: int = 1
    height_m: float = 90.0
    tilt_deg: float = 10.0
    reach_m: float = 60.0
    violators: float = 0.0
    night: bool = False
    rain: bool = False


@dataclass
class _ClipWriter:
    """Video and ground truth, frame by frame; at_s from the clip's begin."""

    video: VideoWriter
    ground_truth: TextIO
    rate_hz: float
    progress: Callable[[int], None]
    frames: int = 0

    def write(
        self, _: float, image: Image, vehicles: list[dict[str, Any]], shown: ColourArray
    ) -> None:
        self.video.write(image)
        line = ground_truth_line(self.frames / self.rate_hz, vehicles, shown)
        self.ground_truth.write(line + "\n")
        self.frames += 1
        self.progress(self.frames)


def render_clip(settings: ClipSettings, progress: Callable[[int], None]) -> dict[str, Path]:
    """Write video, site (JSON) and ground truth (JSON lines; at_s from the clip's begin); where
    they are. progress: called with the number of frames so far.
    """
    source = scenario(settings.scenario)
    network = network_of(source)
    junction = network.junction(settings.junction) if settings.junction else 0
    painter = _painter(settings, network, junction)
    files = {
        "video": settings.out,
        "site": settings.out.with_suffix(".site.json"),
        "ground_truth": settings.out.with_suffix(".ground_truth.jsonl"),
    }
    video = VideoWriter(settings.out, settings.rate_hz)
    files["site"].write_text(json.dumps(site_file(painter, junction), indent=1), encoding="utf-8")
    with files["ground_truth"].open("w", encoding="utf-8") as ground_truth:
        writer = _ClipWriter(video, ground_truth, settings.rate_hz, progress)
        plant = FilmedPlant(
            SumoSettings(source.sumocfg, settings.seed),
            network,
            [(painter, writer.write)],
            settings.rate_hz,
            settings.violators,
        )
        try:
            plant.warm_up(settings.begin_s)
            plant.advance(settings.seconds)
        finally:
            plant.close()
            video.close()
    return files


def _painter(settings: ClipSettings, network: Network, junction: int) -> Painter:
    shapes = read_shapes(network)
    view = view_of(
        network, shapes, junction, settings.height_m, settings.tilt_deg, settings.reach_m
    )
    return Painter(view, network, shapes, settings.seed, settings.night, settings.rain)
