"""Changes of colour and stop-line actuations of a street, collected for the database."""

from __future__ import annotations

import numpy as np

from headway.roads import Network
from headway.values import BoolArray, ColourArray, FloatArray, IntArray, Observation

DETECTOR_M = 6.0  # length of the virtual detector before each stop line
MOST_WAITING = 100_000  # rows kept until they are taken

ColourChange = tuple[float, int, int]
"""Time (s), signal group, colour."""
Actuation = tuple[float, int, bool]
"""Time (s), signal group, whether a vehicle is at its stop line or a person waits to cross."""


class SignalLog:
    """What changed since it was last taken. Nothing is collected unless `enabled`."""

    def __init__(self, network: Network) -> None:
        self.enabled = False
        self.changes: list[ColourChange] = []
        self.actuations: list[Actuation] = []
        self._group_of_link = np.array([link.group for link in network.links], np.int32)
        self._occupied = np.zeros(len(network.groups), np.bool_)

    def add(self, observation: Observation, shown: ColourArray, next_shown: ColourArray) -> None:
        """Collect the changes of one tick. shown, next_shown: (groups,), colours before it and from
        now on.
        """
        if not self.enabled:
            return
        at_s, v = observation.at_s, observation.vehicles
        occupied = occupied_groups(
            v.link, v.distance_m, self._group_of_link, len(self._occupied)
        ) | (observation.waiting_persons > 0)
        if len(self.changes) + len(self.actuations) < MOST_WAITING:
            changed = np.flatnonzero(next_shown != shown).tolist()
            self.changes += [(at_s, g, int(next_shown[g])) for g in changed]
            actuated = np.flatnonzero(occupied != self._occupied).tolist()
            self.actuations += [(at_s, g, bool(occupied[g])) for g in actuated]
        self._occupied = occupied

    def take(self) -> tuple[tuple[ColourChange, ...], tuple[Actuation, ...]]:
        """All that was collected, oldest first; it is then no longer kept here."""
        taken = tuple(self.changes), tuple(self.actuations)
        self.changes, self.actuations = [], []
        return taken


def occupied_groups(
    link: IntArray, distance_m: FloatArray, group_of_link: IntArray, groups: int
) -> BoolArray:
    """(groups,): a vehicle of the group is within DETECTOR_M of its stop line. link, distance_m:
    (vehicles,); group_of_link: (links,).
    """
    out = np.zeros(groups, np.bool_)
    found = group_of_link[link[(link >= 0) & (distance_m >= 0.0) & (distance_m <= DETECTOR_M)]]
    out[found[found >= 0]] = True
    return out
