"""The values that pass between packages: Observation, Proposal, Event. Frozen, columnar, SI units.
(The fourth, Command, is made by `headway.safety` alone.)

Indices (lane, link, group, junction) are those of the `headway.roads.Network` in force.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]
CountArray = NDArray[np.int64]
ColourArray = NDArray[np.int8]
BoolArray = NDArray[np.bool_]

HALTING_MPS = 0.1  # a slower vehicle waits: SUMO's bound for halting numbers and waiting time


@dataclass(frozen=True, slots=True)
class Vehicles:
    """Vehicles near the signals, in no order; n of them.

    lane:       int (n,), the stop-line lane that each will use, or -1 where unknown.
    link:       int (n,), the link that each will take, or -1 where unknown.
    distance_m: float (n,), metres to the stop line; below zero for one that waits inside the
        junction.
    speed_mps:  float (n,).
    waiting_s:  float (n,), seconds since it was last no slower than HALTING_MPS.
    length_m:   float (n,), with the gap to the next one.
    emergency:  bool (n,), it claims priority.
    """

    lane: IntArray
    link: IntArray
    distance_m: FloatArray
    speed_mps: FloatArray
    waiting_s: FloatArray
    length_m: FloatArray
    emergency: BoolArray

    def __len__(self) -> int:
        return len(self.lane)


@dataclass(frozen=True, slots=True)
class EmergencyVehicle:
    """A vehicle that claims priority. ahead: (group, metres to its stop line) of the signals on its
    way, nearest first. Several groups of one junction, equally far, say that it will take one of
    them: its source knows the lane, not the turn.
    """

    id: str
    speed_mps: float
    ahead: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Observation:
    """What was measured at one instant.

    at_s:         seconds, simulated or wall, of the measurement.
    shown:        int8 (groups,), the colour that each signal group shows.
    shown_for_s:  float (groups,), seconds since that colour began (permissive and protected green
        count as one).
    room_m:       float (lanes,), free length at the start of each lane next to a signal, metres;
        inf where it is not measured, or no vehicle is near.
    count:        int (lanes,), vehicles on each lane next to a signal.
    arrived:      int (links,), vehicles first detected for each link since the previous
        observation.
    waiting_persons: int (groups,), pedestrians waiting at each crossing.
    completeness: float (junctions,) 0..1, share of the sources that delivered.
    emergencies:  vehicles that claim priority, with their way.
    source:       name of the source.
    links_known:  the link of each vehicle is reported by it, not guessed from its lane.
    inside_seen:  vehicles inside the junctions are reported too, as those beyond their stop line.
    recalled:     the last so many of `vehicles` were seen by nobody: they call signals that are red
        for long (`headway.street.recall`), and say nothing of what is measured.
    missed_share: 0..1, of the vehicles that are there the equipment does not see so many.
    unseen:       float (groups,), vehicles that are expected to wait though nobody has seen them;
        None where that is not known (`headway.street.recall`).
    """

    at_s: float
    vehicles: Vehicles
    shown: ColourArray
    shown_for_s: FloatArray
    room_m: FloatArray
    count: IntArray
    arrived: IntArray
    waiting_persons: IntArray
    completeness: FloatArray
    emergencies: tuple[EmergencyVehicle, ...] = ()
    source: str = "plant"
    links_known: bool = True
    inside_seen: bool = True
    recalled: int = 0
    missed_share: float = 0.0
    unseen: FloatArray | None = None

    @property
    def measured_vehicles(self) -> Vehicles:
        """`vehicles` without those that are recalled."""
        if not self.recalled:
            return self.vehicles
        count = len(self.vehicles) - self.recalled
        return Vehicles(*(getattr(self.vehicles, f.name)[:count] for f in fields(Vehicles)))


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a controller wants shown.

    at_s:       time of the observation that it rests on.
    controller: its name.
    wanted:     int8 (groups,), colour wanted; a change of stage is proposed as its end, the gate
        makes the way there.
    confidence: float (junctions,) 0..1.
    why:        the factors that the confidence is made of, float (junctions,) 0..1 each, by name;
        empty where there are none.
    """

    at_s: float
    controller: str
    wanted: ColourArray
    confidence: FloatArray
    why: Mapping[str, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; the event log and the database are made of these.

    kind: dotted name, such as "safety.minimum_green" or "engine.restored". data: figures, plain
        JSON types.
    """

    at_s: float
    kind: str
    junction: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def described(value: object, most: int = 80) -> str:
    """Text for a value that nobody has checked, at most `most` characters: its `repr`, or its type
    where that raises (Python refuses integers of more than 4300 digits).
    """
    try:
        return repr(value)[:most]
    except Exception:  # also that is the value's own
        return f"{type(value).__name__} that cannot be shown"[:most]
