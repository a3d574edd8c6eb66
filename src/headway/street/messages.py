"""What passes between a street's process and who watches it: tasks, orders, snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headway.plants.sumo import Scene
from headway.settings import Settings
from headway.street.board import JunctionState


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The street at one moment, for those who look. Times in seconds of the simulation, but for
    wall times.
    """

    time_s: float
    begin_s: float
    end_s: float
    vehicles: int
    halted: int
    source: str
    interventions: int
    cycles: int
    overruns: int
    jitter_p99_s: float
    tick_ms: float
    checkpoint_s: float
    trouble: str
    junctions: tuple[JunctionState, ...]
    mode: str = "balanced"
    controller: str = ""
    shown: bytes = b""
    scene: Scene | None = None
    profile: Mapping[str, float] = field(default_factory=dict)
    emission: tuple[int, float, float] | None = (
        None  # vehicles, fuel mg/s, CO2 mg/s; every `EMISSION_S` where somebody keeps it
    )


@dataclass(frozen=True, slots=True)
class Done:
    """The run came to its end, or was asked to stop (its state is then kept)."""

    time_s: float
    finished: bool


@dataclass(frozen=True, slots=True)
class Signals:
    """Colours that changed: (time s, signal group, colour), in order; and stop lines that were
    reached or left.

    pace: simulated seconds a second of wall time; 0 as fast as possible.
    """

    pace: float
    changes: tuple[tuple[float, int, int], ...]
    actuations: tuple[tuple[float, int, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """An order: whether snapshots carry the scene, with every vehicle; `record`: whether changes of
    colour are handed out.
    """

    scene: bool = True
    record: bool = True


@dataclass(frozen=True, slots=True)
class Release:
    """An order: an operator's override of a junction ends."""

    junction: int
    by: str


@dataclass(frozen=True, slots=True)
class Optimise:
    """An order: how often the optimisation cycle runs, seconds; how fast time goes, times real time
    (below 0: as it is).
    """

    cycle_s: float = 0.0
    realtime: float = -1.0


@dataclass(frozen=True, slots=True)
class Switch:
    """An order: go on with another controller, or another scenario from its beginning."""

    controller: str = ""
    scenario: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """What the street process is to do.

    until_s: simulated end, inf for the scenario's own. path: file whose changes are followed while
        running, with `changes` over it.
    """

    settings: Settings
    until_s: float = float("inf")
    path: str = ""
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def key(self) -> str:
        s = self.settings.street
        return f"{s.scenario} seed {s.seed} scale {s.scale} timing {s.timing} sensing {s.sensing}"
