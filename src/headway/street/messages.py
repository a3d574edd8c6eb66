"""What passes between a street's process and the process that watches it: task, orders, reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headway.plants.sumo import Scene
from headway.safety import Override
from headway.settings import RuleSettings, Settings
from headway.street.signal_log import Actuation, ColourChange


@dataclass(frozen=True, slots=True)
class JunctionState:
    """One junction at one moment.

    at_s:       simulated seconds.
    vehicles:   on their way to a signal of the junction.
    stopped:    of these, slower than 0.1 m/s.
    longest_wait_s: of these.
    green:      signal groups of the junction that show green, by their place in it.
    confidence: how far the controller's last proposal is trusted, 0..1; factors: what it is made
        of, by name, 0..1 each.
    mean_wait_s: seconds since each last moved, the mean; 0 where there are no vehicles.
    mean_speed_mps: of these; None where there are none.
    congested:  names of its approaches that are congested.
    arrived:    vehicles first detected for a signal of the junction since the process started.
    fault:      why it shows red to all until it is reset: "lamps" or "rules"; empty where nothing
        is latched.
    order:      of an operator, in force; None where there is none.
    """

    junction: str
    at_s: float
    vehicles: int
    stopped: int
    longest_wait_s: float
    green: tuple[int, ...]
    confidence: float
    mean_wait_s: float = 0.0
    mean_speed_mps: float | None = None
    arrived: int = 0
    factors: Mapping[str, float] = field(default_factory=dict)
    congested: tuple[str, ...] = ()
    fault: str = ""
    order: Override | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The street at one moment. Times are simulated seconds unless said otherwise.

    stopped:       vehicles slower than 0.1 m/s.
    source:        who the gate follows: controller, fallback, fixed_time or all_red.
    interventions: safety events since the process started.
    cycles:        optimisation cycles since the run began; cycles_ok: those that succeeded.
    overruns:      ticks that began a whole period late.
    jitter_p99_s:  99th percentile of how late ticks begin, wall seconds.
    tick_ms:       mean work of a tick, wall milliseconds; budget_ms: what it may take, 0 for any.
    checkpoint_s:  time of the last checkpoint, of the start before the first.
    trouble:       why events cannot be written to disk now, and what was lost; empty where all is
        well.
    shown:         colour of each signal group, one byte each.
    scene:         every vehicle, where `Reporting` asks for it.
    profile:       the loop's own figures, by dotted name.
    report:        the real-time loop's status report, as values of JSON; every REPORT_PERIOD_S of
        wall time, None in between.
    emission:      vehicles, fuel mg/s and CO2 mg/s, every EMISSION_PERIOD_S where `Reporting` asks
        for records.
    speed_factor:  simulated seconds per wall second; 0 as fast as possible.
    cycle_s:       period of the optimisation cycle.
    sources:       figures of each source of observations from outside.
    paused_by:     the operator by whose order time stands; empty while it goes on.
    rules:         the alert rules on it.
    """

    time_s: float
    begin_s: float
    end_s: float
    vehicles: int
    stopped: int
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
    emission: tuple[int, float, float] | None = None
    report: Mapping[str, Any] | None = None
    speed_factor: float = 0.0
    cycle_s: float = 30.0
    sources: tuple[Mapping[str, Any], ...] = ()
    cycles_ok: int = 0
    budget_ms: float = 0.0
    paused_by: str = ""
    rules: tuple[KnownRule, ...] = ()


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The process ends: the run is finished, or was asked to stop and left a checkpoint.

    lost_s: simulated seconds since the newest checkpoint, where no new one could be written.
    """

    time_s: float
    finished: bool
    lost_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """The next tick is not due for a while; the process lives."""

    time_s: float


@dataclass(frozen=True, slots=True)
class SignalChanges:
    """Colours that changed and stop lines that were reached or left, each in order of time.

    speed_factor: simulated seconds per wall second; 0 as fast as possible.
    """

    speed_factor: float
    changes: tuple[ColourChange, ...]
    actuations: tuple[Actuation, ...] = ()


@dataclass(frozen=True, slots=True)
class Reporting:
    """An order: what the street reports from now on. scene: every vehicle in each snapshot; record:
    what only the database needs, signal changes and emissions.
    """

    scene: bool = True
    record: bool = True


@dataclass(frozen=True, slots=True)
class Release:
    """An order: the operator's override of a junction ends. by: the operator."""

    junction: int
    by: str


@dataclass(frozen=True, slots=True)
class Reset:
    """An order: a junction whose fault was latched may show green again. by: the operator."""

    junction: int
    by: str


@dataclass(frozen=True, slots=True)
class AtJunction:
    """An order for a junction by its name, from now on for `lasts_s`: when it is obeyed, another
    scenario may have begun, where the number in `order` is another junction's, and its time is of
    another clock.
    """

    order: Override | Release | Reset
    junction: str
    lasts_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Optimise:
    """An order: seconds between optimisation cycles (0: unchanged), and simulated seconds per wall
    second (below 0: unchanged; 0 as fast as possible).
    """

    cycle_s: float = 0.0
    speed_factor: float = -1.0

    def changes(self) -> dict[str, float]:
        """What is to be changed, by key of the settings' section `loop`."""
        changed = {}
        if self.cycle_s > 0.0:
            changed["cycle_s"] = self.cycle_s
        if self.speed_factor >= 0.0:
            changed["speed_factor"] = self.speed_factor
        return changed


@dataclass(frozen=True, slots=True)
class Switch:
    """An order: another controller at once, or another scenario from its beginning. Empty:
    unchanged.
    """

    controller: str = ""
    scenario: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """An order: the time of the street stands, with the signals as they are. by: the operator;
    empty: it goes on.
    """

    by: str


@dataclass(frozen=True, slots=True)
class ChangeRule:
    """An order: an alert rule beside those of the settings, from now on and for the next processes,
    in place of one of that name that was ordered before; None: there is none of that name any more.
    """

    name: str
    rule: RuleSettings | None


@dataclass(frozen=True, slots=True)
class KnownRule:
    """An alert rule of a street. ordered: beside the settings. fault: why it can never hold there;
    empty where it can.
    """

    rule: RuleSettings
    ordered: bool
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Identified:
    """Orders that are answered under one id, by the event `engine.order_applied` or
    `engine.order_refused`. They are carried out one after the other, until one is refused.
    """

    id: str
    orders: tuple[AtJunction | Optimise | Switch | Pause | ChangeRule, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """What the street process is to do.

    until_s: simulated end; inf for the scenario's own.
    path:    settings file that is followed while running, with `changes` over it; empty for none.
    changes: by section and key; defaults: the same, what stands under the file.
    name:    of the street, for its logs; empty where there is one alone.
    repeats: what was ordered holds for the next run too, when this one is finished.
    """

    settings: Settings
    until_s: float = float("inf")
    path: str = ""
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    name: str = ""
    repeats: bool = False

    def key(self) -> str:
        """Identifies the run: only checkpoints and orders with the same key are resumed."""
        s = self.settings.street
        name = s.scenario  # the same path from another working folder is another file
        if name.endswith(".sumocfg"):
            name = str(Path(name).resolve())
        return (
            f"{name} seed {s.seed} scale {s.scale} timing {s.timing} sensing {s.sensing} "
            f"controller {self.settings.control.controller}"
        )
