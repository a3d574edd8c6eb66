"""What lies before a stop line: the lanes from which traffic comes to it, up to the signal
before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headway.roads.network import Kind, Network


@dataclass(frozen=True, slots=True)
class Feeder:
    """One lane (or lane inside an unsignalised junction) before a stop line. to_stop_m: from its
    start to the stop line.
    """

    name: str
    to_stop_m: float
    is_stop_lane: bool


def stop_lanes(network: Network) -> list[int]:
    """Lanes that end at a signal for vehicles, ascending."""
    return sorted(
        {
            link.from_lane
            for link in network.links
            if link.group >= 0 and link.kind != Kind.PEDESTRIAN
        }
    )


def feeders(network: Network, stop_lane: int, range_m: float) -> list[Feeder]:
    """Lanes that lead to `stop_lane` without passing a signal (other than of rails), those that
    begin beyond `range_m` not followed further.
    """
    found: dict[str, Feeder] = {}
    front = [(stop_lane, 0.0)]
    reached: dict[int, float] = {}

    while front:
        lane, offset = front.pop()
        if reached.get(lane, np.inf) <= offset:
            continue
        reached[lane] = offset
        name, to_stop = network.lanes[lane].id, offset + network.lanes[lane].length_m
        found[name] = Feeder(
            name, to_stop, lane == stop_lane
        )  # a lane comes again only if by a shorter way
        if to_stop >= range_m:
            continue
        for i in network.links_to(lane):
            link = network.links[i]
            if link.group >= 0 or link.left_alone:
                continue
            inside = to_stop
            for via in reversed(link.via):
                inside += link.length_m / len(link.via)
                found[via] = Feeder(via, inside, False)
            front.append((link.from_lane, inside))
    return list(found.values())
