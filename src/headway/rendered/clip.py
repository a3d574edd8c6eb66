"""A clip of a simulated junction, with its site and its truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.plants.sumo import SumoSettings, read_network, read_shapes
from headway.plants.sumo.scenarios import scenario
from headway.rendered.film import FilmedPlant
from headway.rendered.painter import Painter, truth_line
from headway.rendered.site import site_file
from headway.rendered.view import view_of
from headway.sensing.frames.sources import Picture
from headway.sensing.output.overlay import Film
from headway.values import ColourArray


@dataclass(frozen=True, slots=True)
class Shooting:
    """What is filmed, how: lengths in seconds and metres, angles in degrees; see `headway
    camera`.
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


def shoot(how: Shooting, progress: Callable[[int], None]) -> dict[str, Path]:
    """Write video, site (JSON) and truth (JSON lines; at_s from the clip's begin); where they
    are.
    """
    of = scenario(how.scenario)
    network = read_network(of.net)
    shapes = read_shapes(network)
    junction = network.junction(how.junction) if how.junction else 0
    painter = Painter(
        view_of(network, shapes, junction, how.height_m, how.tilt_deg, how.reach_m),
        network,
        shapes,
        how.seed,
        how.night,
        how.rain,
    )
    files = {
        "video": how.out,
        "site": how.out.with_suffix(".site.json"),
        "truth": how.out.with_suffix(".truth.jsonl"),
    }
    film = Film(how.out, how.rate_hz)
    files["site"].write_text(json.dumps(site_file(painter, junction), indent=1), encoding="utf-8")
    shots = [0]
    with files["truth"].open("w", encoding="utf-8") as truth:

        def shot(
            _: float, image: Picture, vehicles: list[dict[str, Any]], shown: ColourArray
        ) -> None:
            film.add(image)
            truth.write(truth_line(shots[0] / how.rate_hz, vehicles, shown) + "\n")
            shots[0] += 1
            progress(shots[0])

        plant = FilmedPlant(
            SumoSettings(of.sumocfg, how.seed),
            network,
            [(painter, shot)],
            how.rate_hz,
            how.violators,
        )
        try:
            plant.run_up(how.begin_s)
            plant.advance(how.seconds)
        finally:
            plant.close()
            film.close()
    return files
