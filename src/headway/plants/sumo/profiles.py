"""Sensing profiles: what a given kind of equipment would see of the vehicles that are there.

connected: each vehicle within range, with its next link; emergency vehicles report their way.
camera:    vehicles within 120 m, by lane only, and those inside the junction, where their way is
    seen; 5 % missed for as long as they are in view, 2 m of noise on the position. An emergency
    vehicle is recognised while it is in view.
loops:     a detector at each stop line and one 50 m before it; where vehicles are in between is
    worked out from what both counted (`headway.plants.sumo.loops`). A detector does not tell an
    emergency vehicle from others: claims come from outside alone (`POST /api/v1/observations`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headway.plants.sumo.loops import Loops
from headway.roads import Network, likely_links
from headway.values import EmergencyVehicle, IntArray, Vehicles

CAMERA_RANGE_M = 120.0
CAMERA_MISSED = 0.05
CAMERA_NOISE_M = 2.0
JUST_INSIDE_M = -0.1  # beyond the stop line: a camera tells this side from that


class Profile(Protocol):
    """From the vehicles that are there, with a number that stays with each, to those that are
    detected.

    missed_share: of those that are there within its view.
    """

    missed_share: float

    def see(self, at_s: float, there: Vehicles, number: IntArray) -> Vehicles:
        """`number`: int (n,), the same for one vehicle as long as it is near."""

    def emergencies(self, reported: tuple[EmergencyVehicle, ...]) -> tuple[EmergencyVehicle, ...]:
        """The emergency vehicles that are known, after `see`. reported: those that are there, with
        their way.
        """


class Connected:
    """Vehicles report everything themselves."""

    missed_share = 0.0

    def see(self, at_s: float, there: Vehicles, number: IntArray) -> Vehicles:
        return there

    def emergencies(self, reported: tuple[EmergencyVehicle, ...]) -> tuple[EmergencyVehicle, ...]:
        return reported


class Camera:
    """A camera above the junction: lanes, not intentions; of those inside it, where they go."""

    missed_share = CAMERA_MISSED

    def __init__(self, network: Network, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._network = network
        self._link = likely_links(network)
        self._emergencies: tuple[EmergencyVehicle, ...] = ()

    def see(self, at_s: float, there: Vehicles, number: IntArray) -> Vehicles:
        noisy = there.distance_m + self._random.normal(0.0, CAMERA_NOISE_M, len(there))
        # whether one is missed depends on its number, not on the second: an occluded vehicle stays
        # occluded
        missed = (number.astype(np.uint64) * np.uint64(2654435761) % np.uint64(1000)) < np.uint64(
            1000 * CAMERA_MISSED
        )
        seen = np.flatnonzero((noisy <= CAMERA_RANGE_M) & ~missed & (there.lane >= 0))
        picked = take(there, seen)
        inside = picked.distance_m < 0.0
        found = replace(
            picked,
            distance_m=np.where(
                inside, np.minimum(noisy[seen], JUST_INSIDE_M), np.maximum(noisy[seen], 0.0)
            ),
            link=np.where(inside, picked.link, self._link[picked.lane]),
        )
        self._emergencies = recognised(found, number[seen].tolist(), self._network)
        return found

    def emergencies(self, reported: tuple[EmergencyVehicle, ...]) -> tuple[EmergencyVehicle, ...]:
        return self._emergencies


def recognised(
    seen: Vehicles, names: Sequence[object], network: Network
) -> tuple[EmergencyVehicle, ...]:
    """The emergency vehicles among those that a camera sees: on their lane, with every group that
    it leads to. names: of each, the same as long as it is in view.
    """
    found = []
    for row in np.flatnonzero(seen.emergency & (seen.lane >= 0)).tolist():
        groups = {network.links[k].group for k in network.links_from(int(seen.lane[row]))} - {-1}
        ahead = tuple((group, float(seen.distance_m[row])) for group in sorted(groups))
        if ahead:
            name = f"seen {names[row]}"
            found.append(EmergencyVehicle(name, float(seen.speed_mps[row]), ahead))
    return tuple(found)


def take(of: Vehicles, rows: NDArray[np.int64]) -> Vehicles:
    """The rows of a table of vehicles."""
    return Vehicles(
        lane=of.lane[rows],
        link=of.link[rows],
        distance_m=of.distance_m[rows],
        speed_mps=of.speed_mps[rows],
        waiting_s=of.waiting_s[rows],
        length_m=of.length_m[rows],
        emergency=of.emergency[rows],
    )


def profile(name: str, network: Network, seed: int) -> Profile:
    """The sensing profile called `name`. Raises ValueError for an unknown one."""
    if name == "connected":
        return Connected()
    if name == "camera":
        return Camera(network, seed)
    if name == "loops":
        return Loops(network)
    raise ValueError(
        f"no sensing profile {name!r}. There are: connected, camera, loops (rendered cameras are a "
        "plant of their own)."
    )
