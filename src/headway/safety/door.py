"""What is let in: lengths, types and ranges of an observation are checked before compiled code,
which checks nothing, reads it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from headway.roads import Network
from headway.safety.arrivals import MOST_PLACES
from headway.safety.clock import NUMBERS, seconds
from headway.values import EmergencyVehicle, Observation, Vehicles, described

LARGEST = 2**63  # of an int that is read as a float
WHOLE, REAL, TRUTH = "iu", "fiu", "b"  # kinds of NumPy types
VEHICLES = (
    ("lane", WHOLE),
    ("link", WHOLE),
    ("distance_m", REAL),
    ("speed_mps", REAL),
    ("waiting_s", REAL),
    ("length_m", REAL),
    ("emergency", TRUTH),
)


class ObservationCheck:
    """Checks observations of one network."""

    def __init__(self, network: Network) -> None:
        groups, junctions = (len(network.groups),), (len(network.junctions),)
        lanes, links = (len(network.lanes),), (len(network.links),)
        self._columns = (
            ("shown_for_s", groups, REAL),
            ("room_m", lanes, REAL),
            ("count", lanes, WHOLE),
            ("arrived", links, WHOLE),
            ("waiting_persons", groups, WHOLE),
            ("completeness", junctions, REAL),
        )

    def fault(self, observation: Any) -> str:
        """Why an observation cannot be used; empty where it can. What it says of the lamps is the
        business of the conflict monitor.
        """
        if not isinstance(observation, Observation):
            return f"{type(observation).__name__} is no Observation"
        if seconds(observation.at_s) is None:
            return f"at_s: {described(observation.at_s, 40)} is no time; give seconds"
        for name in ("links_known", "inside_seen"):
            value: Any = getattr(observation, name)
            if not isinstance(value, (bool, np.bool_)):
                return f"{name}: {_described(value)}; give True or False"
        recalled: Any = observation.recalled
        if type(recalled) is not int or recalled < 0:
            return f"recalled: {described(recalled, 40)}; give a number of vehicles"
        if not _is_share(observation.missed_share):
            missed = described(observation.missed_share, 40)
            return f"missed_share: {missed}; give a share from 0 up to, but not, 1"
        for name, shape, kinds in self._columns:
            column = getattr(observation, name)
            if not _is_column(column, shape, kinds):
                return f"{name}: {_described(column)}; give {shape} of kind {kinds}"
        shape = self._columns[0][1]
        if observation.unseen is not None and not _is_column(observation.unseen, shape, REAL):
            return f"unseen: {_described(observation.unseen)}; give {shape} of kind {REAL}, or None"
        return _fault_of_vehicles(observation.vehicles) or _fault_of_claims(observation.emergencies)


def _is_share(value: Any) -> bool:
    return isinstance(value, float) and 0.0 <= value < 1.0


def field_of(fault: str) -> str:
    """The field that a `fault` is about; empty where there is none."""
    field, colon, _ = fault.partition(":")
    return field if colon or not fault else "observation"


def _fault_of_vehicles(vehicles: Any) -> str:
    if not isinstance(vehicles, Vehicles):
        return f"vehicles: {type(vehicles).__name__} is no Vehicles"
    shape: tuple[int, ...] = getattr(vehicles.lane, "shape", ())
    if len(shape) != 1:
        return f"vehicles.lane: {_described(vehicles.lane)}; give one value a vehicle"
    for name, kinds in VEHICLES:
        column = getattr(vehicles, name)
        if not _is_column(column, shape, kinds):
            return f"vehicles.{name}: {_described(column)}; give {shape} of kind {kinds}"
    return ""


def _fault_of_claims(emergencies: Any) -> str:
    """Of their types alone: which claims are served is decided one by one."""
    if not isinstance(emergencies, tuple):
        return f"emergencies: {type(emergencies).__name__} is no tuple"
    for vehicle in emergencies:
        if not isinstance(vehicle, EmergencyVehicle) or not (
            isinstance(vehicle.id, str)
            and _is_number(vehicle.speed_mps)
            and isinstance(vehicle.ahead, tuple)
            and all(_is_place(place) for place in vehicle.ahead[:MOST_PLACES])
        ):
            return f"emergencies: {_described_claim(vehicle)} has no name, speed or way"
    return ""


def _described_claim(vehicle: Any) -> str:
    """Its first places alone: a long way takes long to write."""
    if isinstance(vehicle, EmergencyVehicle) and isinstance(vehicle.ahead, tuple):
        vehicle = replace(vehicle, ahead=vehicle.ahead[:2])
    return described(vehicle)


def _is_place(place: Any) -> bool:
    """A group, and the metres to its stop line."""
    return (
        isinstance(place, (tuple, list))
        and len(place) == 2
        and isinstance(place[0], (int, np.integer))
        and _is_number(place[1])
    )


def _is_number(value: Any) -> bool:
    """Also NaN and the infinite; but no int beyond all floats, which would end the tick later."""
    return isinstance(value, NUMBERS) and (not isinstance(value, int) or abs(value) < LARGEST)


def _is_column(column: Any, shape: tuple[int, ...], kinds: str) -> bool:
    return isinstance(column, np.ndarray) and column.shape == shape and column.dtype.kind in kinds


def _described(column: Any) -> str:
    if isinstance(column, np.ndarray):
        return f"{column.dtype} {column.shape}"
    return type(column).__name__
