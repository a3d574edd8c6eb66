"""Feeds a street with somebody else's detectors."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.markup import escape

from headway.plants.sumo.scenarios import scenario
from headway.service.feeding import Equipment, Feed
from headway.settings import BASELINE

console = Console()


def feed(
    url: Annotated[str, typer.Argument(help="The service, such as http://127.0.0.1:8000.")],
    token: Annotated[
        str,
        typer.Option(envvar="HEADWAY_TOKEN", help="Access token of the role source."),
    ],
    street: Annotated[
        str, typer.Option(help="Street to be fed.", show_default="the only one beside `baseline`")
    ] = "",
    equipment: Annotated[
        str, typer.Option(help=f"What observes: {' or '.join(get_args(Equipment))}.")
    ] = "loops",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulation.")] = 1,
    until: Annotated[
        float, typer.Option(help="Second of the street at which to end; 0 for its end.")
    ] = 0.0,
) -> None:
    """Report the detectors of a second SUMO to a street with `sensing: external`: the same scenario
    under the street's own signals. Ctrl-C ends.
    """
    if equipment not in get_args(Equipment):
        raise typer.BadParameter(f"no equipment {equipment!r}. There are: loops, camera.")
    try:
        import httpx

        from headway.client import Headway
    except ImportError as error:
        raise RuntimeError(f"{error}. Install it: pip install httpx") from error
    try:
        with Headway(url, token) as service, TemporaryDirectory() as folder:
            name, of_scenario = street_to_feed(service, street)
            kind: Equipment = "camera" if equipment == "camera" else "loops"
            source = Feed(scenario(of_scenario), Path(folder), kind, seed)
            follow(source, service, name, until or math.inf)
    except httpx.TransportError as error:
        raise OSError(f"{url}: no answer ({error})") from error
    console.print(f"{source.taken} rows taken, {source.refused} refused, up to {source.time_s} s")
    if source.refusal:
        console.print(f"the first refusal: {escape(source.refusal)}")


def street_to_feed(service: Any, street: str) -> tuple[str, str]:
    """Its name, and the scenario that it runs now; an empty `street` for the only one of the
    service. Raises ValueError for an unknown street, or where there are several.
    """
    scenarios = {s["street"]: s["scenario"] for s in service.streets()}
    own = [name for name in scenarios if name != BASELINE]
    if not street and len(own) == 1:
        street = own[0]
    if street not in scenarios:
        fault = f"no street {street!r}" if street else "give one of the streets (--street)"
        raise ValueError(f"{fault}. There are: {', '.join(scenarios) or 'none'}.")
    return street, scenarios[street]


def follow(source: Feed, service: Any, street: str, until_s: float) -> None:
    """Until then, or Ctrl-C."""
    try:
        source.follow(service, street, until_s)
    except KeyboardInterrupt:
        pass
    finally:
        source.close()
