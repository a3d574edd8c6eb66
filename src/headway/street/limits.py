"""The limits of the safety gate, of the settings: for the street, and for single junctions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headway.roads import PROFILES, Network, Timing, TimingProfile, work_out
from headway.settings import LimitSettings, Settings

# A time that is computed from the geometry, or fixed by the profile, is made longer, never shorter.
LEAST = {"yellow_s": "least_yellow_s", "red_clearance_s": "least_red_clearance_s"}


def timing_of(settings: Settings, network: Network) -> Timing:
    """The times that the gate enforces: those of the timing profile, with the settings' limits over
    them, and a junction's own limits over these.

    Raises ValueError, with the place in the settings, for limits that contradict each other, and
    for a junction that the network does not have.
    """
    safety = settings.safety
    profile = _changed(PROFILES[settings.street.timing], safety.limits, "safety.limits")
    own = {
        name: _changed(profile, limits, f"safety.junctions.{name}")
        for name, limits in safety.junctions.items()
    }
    try:
        return work_out(network, profile, own)
    except ValueError as error:
        raise ValueError(f"settings: safety.junctions: {error}") from error


def _changed(profile: TimingProfile, limits: LimitSettings, where: str) -> TimingProfile:
    changes: dict[str, Any] = {}
    for name, value_s in limits.model_dump(exclude_none=True).items():
        fixed_s = getattr(profile, name)
        if name in LEAST and fixed_s is None:
            changes[LEAST[name]] = value_s
        else:
            changes[name] = max(value_s, fixed_s) if name in LEAST else value_s
    try:
        return replace(profile, **changes)
    except ValueError as error:
        raise ValueError(f"settings: {where}: {error}") from error


def without_unknown_junctions(settings: Settings, network: Network) -> tuple[Settings, list[str]]:
    """The settings without the limits of junctions that the network does not have, as after a
    switch to another scenario; and the names of these.
    """
    known = {junction.id for junction in network.junctions}
    junctions = settings.safety.junctions
    unknown = sorted(junctions.keys() - known)
    kept = {name: limits for name, limits in junctions.items() if name in known}
    safety = settings.safety.model_copy(update={"junctions": kept})
    return settings.model_copy(update={"safety": safety}), unknown
