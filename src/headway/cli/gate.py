"""The command that tries out the safety gate of this installation."""

from __future__ import annotations

from typing import Annotated

import typer

from headway.plants.sumo import network_of
from headway.plants.sumo.scenarios import scenario
from headway.safety.trial import trial
from headway.settings import load, overridden
from headway.street.limits import timing_of, without_unknown_junctions


def try_gate(
    scenario_: Annotated[
        str,
        typer.Option(
            "--scenario",
            help="Scenario (see `headway scenarios`), or path of a .sumocfg.",
            show_default="street.scenario of the settings",
        ),
    ] = "",
    config: Annotated[str, typer.Option(help="Settings file (YAML): street and limits.")] = "",
    seconds: Annotated[
        int, typer.Option(min=1, max=86_400, help="Seconds of the gate's clock.")
    ] = 600,
) -> None:
    """Propose conflicting greens to the safety gate, and audit what it shows: whether it holds the
    rules of a street here, as it is installed. Touches no street and no database.
    """
    street = {"street": {"scenario": scenario_}} if scenario_ else {}
    settings = overridden(load(config or None), street)
    network = network_of(scenario(settings.street.scenario))
    settings, _ = without_unknown_junctions(settings, network)
    found = trial(network, timing_of(settings, network), seconds)
    if found:
        first = found[0]
        raise RuntimeError(
            f"the safety gate broke {len(found)} rules; first {first.rule!r} at {first.tl_id} "
            f"after {first.at_s:g} s. Let no street be driven by this installation."
        )
    typer.echo(
        f"the safety gate held all rules: {seconds} s of {settings.street.scenario}, "
        f"{len(network.groups)} signal groups"
    )
