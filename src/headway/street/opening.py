"""How a street is started: its plant, its controllers by name, and all that is compiled before the
first tick.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, MutableSequence
from dataclasses import replace

from headway.control import Controller
from headway.control.catalogue import controller as controller_by_name
from headway.control.models import ModelFile
from headway.plants.sumo import SumoPlant, SumoSettings, UnobservedPlant
from headway.roads import Network, Timing
from headway.safety import SafetyGate
from headway.settings import Settings
from headway.street.closed_loop import Street
from headway.street.deployed import Deployed
from headway.street.guard import CANARY, CONTROLLER, FALLBACK, RELIEF, SHADOW, STEP_WITHIN_S
from headway.values import Event

NOTHING_DEPLOYED = Deployed()


def open_street(
    network: Network,
    timing: Timing,
    sumo: SumoSettings,
    controller: str | ModelFile,
    record: Callable[[Event], None],
    fallback: str = "webster",
    cycle_s: float = 30.0,
    confidence_threshold: float = 0.4,
    clock: Callable[[], float] = time.perf_counter,
    settings: Settings | None = None,
    relief: str = "",
    step_within_s: float = STEP_WITHIN_S,
    mark: MutableSequence[int] | None = None,
    hung: Collection[str] = (),
    deployed: Deployed = NOTHING_DEPLOYED,
) -> Street:
    """Start SUMO, with the controllers of these names on it; compiled parts are ready before the
    first tick. controller: its name, or the model that decides in its place. settings: the
    controllers' figures. deployed: models that were ordered; one that cannot be had any more is
    left out (`Rollout.refused`). Other arguments: see `Street`.

    Raises ValueError for an unknown controller. SUMO is closed if anything fails.
    """
    plant = _start_plant(sumo, network)
    try:
        champion, champions, refused = _champion(deployed.champions, network, timing, settings)
        if refused:  # who hung is not the one that decides in its place
            hung = set(hung) - {CONTROLLER}
        street = Street(
            network=network,
            timing=timing,
            plant=plant,
            controller=champion or controller_by_name(controller, network, timing, settings),
            fallback=controller_by_name(fallback, network, timing, settings),
            record=record,
            cycle_s=cycle_s,
            confidence_threshold=confidence_threshold,
            clock=clock,
            relief=controller_by_name(relief, network, timing, settings) if relief else None,
            step_within_s=step_within_s,
            mark=mark,
            hung=hung,
        )
        street.rollout.refused += refused
        if deployed != NOTHING_DEPLOYED:
            found = replace(deployed, champions=champions)
            street.rollout.take_up(found, timing, settings or Settings(), street.observation, hung)
        _rehearse(street, timing)
    except BaseException:
        plant.close()
        raise
    return street


def _champion(
    champions: tuple[ModelFile, ...], network: Network, timing: Timing, settings: Settings | None
) -> tuple[Controller | None, tuple[ModelFile, ...], list[dict[str, str]]]:
    """The newest champion that can be had, with those before it, and why others cannot."""
    refused = list[dict[str, str]]()
    while champions:
        try:
            found = controller_by_name(champions[-1], network, timing, settings)
            return found, champions, refused
        except ValueError as error:
            refused.append({"order": f"all {champions[-1].label}", "why": str(error)})
            champions = champions[:-1]
    return None, champions, refused


def _start_plant(sumo: SumoSettings, network: Network) -> SumoPlant:
    if sumo.sensing == "external":
        return UnobservedPlant(sumo, network)
    if sumo.sensing != "rendered":
        return SumoPlant(sumo, network)
    from headway.rendered.plant import CameraPlant  # needs the extra `vision`

    return CameraPlant(sumo, network)


def _rehearse(street: Street, timing: Timing) -> None:
    """Compile what the controllers and the gate need, on a gate that is thrown away: a step that
    is compiled within a tick would count as slow.
    """
    canary, shadow = street.rollout.canary, street.rollout.shadow
    roles = {
        CONTROLLER: street.controller,
        FALLBACK: street.fallback,
        RELIEF: street.relief,
        CANARY: None if canary is None else canary.controller,
        SHADOW: None if shadow is None else shadow.controller,
    }
    for role, controller in roles.items():
        guard = street.guards[role]
        if controller is None or guard.down_until_s == math.inf:
            continue
        proposal = street.rehearse(controller, role, guard.mark)
        if role == CONTROLLER:
            gate = SafetyGate(street.network, timing, street.plant.time_s)
            gate.admit(proposal, street.observation.at_s, street.observation)
