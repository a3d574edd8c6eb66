"""Whether a SUMO that somebody else has started runs the network that was read here: tables of one
network over another would show conflicting greens, and nothing would tell.
"""

from __future__ import annotations

import math
from typing import Any

from headway.plants import PlantError
from headway.roads import Kind, Network

TOLERANCE_M = 0.1  # of coordinates, which SUMO writes with two decimals


def require_same_network(sumo: Any, network: Network, errors: tuple[type[Exception], ...]) -> None:
    """Compare what each signal controls, and where its lanes end. sumo: its interface; errors: that
    this raises. Raises PlantError with the first difference.
    """
    try:
        fault = _difference(sumo, network)
    except errors as error:
        fault = str(error)
    if fault:
        raise PlantError(
            f"sumo.remote: the SUMO there does not run {network.path}: {fault}. Start it with the "
            "scenario of the street."
        )


def _difference(sumo: Any, network: Network) -> str:
    """The first one; empty where there is none."""
    controlled = {
        tl: sumo.trafficlight.getControlledLinks(tl)
        for junction in network.junctions
        for tl in junction.tl_ids
    }
    for group in network.groups:
        if group.kind == Kind.PEDESTRIAN:  # SUMO names other lanes for crossings
            continue
        links = [network.links[k] for k in group.links]
        own = {(network.lanes[x.from_lane].id, network.lanes[x.to_lane].id) for x in links}
        there = {(a, b) for a, b, _ in _at(controlled[group.tl_id], group.index)}
        if own != there:
            return (
                f"link {group.index} of traffic light {group.tl_id!r} leads {_named(there)}, "
                f"here {_named(own)}"
            )
        for lane in {network.lanes[x.from_lane] for x in links}:
            end = sumo.lane.getShape(lane.id)[-1]
            if math.dist(end[:2], lane.end_xy) > TOLERANCE_M:
                return f"lane {lane.id!r} ends at {tuple(end[:2])}, here at {lane.end_xy}"
    return ""


def _at(links: Any, index: int) -> Any:
    return links[index] if index < len(links) else ()


def _named(ways: set[tuple[str, str]]) -> str:
    return ", ".join(f"{a} -> {b}" for a, b in sorted(ways)) or "nowhere"
