"""The junctions of a street as a snapshot tells them."""

from __future__ import annotations

from typing import Any

import numpy as np

from headway.roads import GO
from headway.street.closed_loop import Street
from headway.street.messages import JunctionState
from headway.values import HALTING_MPS


def junction_states(street: Street) -> tuple[JunctionState, ...]:
    """Each junction as it was at the last tick."""
    junctions, v = street.network.junctions, street.observation.vehicles
    n = len(junctions)

    # only vehicles on the way to a signal count: of known link, whose link has a signal group
    group = np.where(v.link >= 0, street.network.link_group[v.link], -1)
    signalised = group >= 0
    junction = street.network.group_junction[group[signalised]]
    stopped = v.speed_mps[signalised] < HALTING_MPS

    count = np.bincount(junction, minlength=n)
    queue = np.bincount(junction[stopped], minlength=n)
    longest_wait_s = np.zeros(n)
    np.maximum.at(longest_wait_s, junction, v.waiting_s[signalised])
    present = np.maximum(count, 1)
    mean_wait_s = np.bincount(junction, v.waiting_s[signalised], n) / present
    mean_speed_mps = np.bincount(junction, v.speed_mps[signalised], n) / present
    arrived = arrived_by_junction(street)
    lit = street.gate.shown >= GO
    confidence = street.trust.of_junction
    faults = street.gate.faults
    return tuple(
        JunctionState(
            junction=j.id,
            at_s=street.observation.at_s,
            vehicles=int(count[i]),
            stopped=int(queue[i]),
            longest_wait_s=float(longest_wait_s[i]),
            green=tuple(np.flatnonzero(lit[j.first : j.end]).tolist()),
            confidence=float(confidence[i]) if confidence is not None else 0.0,
            factors=street.trust.factors_of(i),
            mean_wait_s=float(mean_wait_s[i]),
            mean_speed_mps=float(mean_speed_mps[i]) if count[i] else None,
            arrived=int(arrived[i]),
            congested=street.congestion.of_junction(i),
            fault=faults[i].value if i in faults else "",
            order=street.gate.overrides.get(i),
        )
        for i, j in enumerate(junctions)
    )


def arrived_by_junction(street: Street) -> np.ndarray[Any, Any]:
    """(junctions,): vehicles first detected for links with a signal, since this start."""
    group = street.network.link_group
    junction = street.network.group_junction[group[group >= 0]]
    return np.bincount(junction, street.arrived[group >= 0], len(street.network.junctions))
