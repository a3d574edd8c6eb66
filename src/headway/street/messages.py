"""What passes between a street's process and the process that watches it: task, orders, reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from headway.control.models import ModelFile
from headway.plants.sumo import Scene
from headway.safety import Override
from headway.settings import RuleSettings, Settings
from headway.street.signal_log import Actuation, ColourChange

SHORTEST_TURN_S, LONGEST_TURN_S = 60.0, 3600.0  # of a canary


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
    settings_fault: why it does not use its settings file as it is now; empty where it does.
    models:        who decides where beside or instead of the controllers of the catalogue; see
        `rollout.Rollout.report`.
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
    models: Mapping[str, Any] = field(default_factory=dict)
    settings_fault: str = ""


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
    unchanged. optimise: the optimisation is switched on or off by it: a model that was champion
    when it was switched off is champion again, and one that is stays.
    """

    controller: str = ""
    scenario: str = ""
    optimise: bool | None = None


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
class CanaryBounds:
    """When a canary decides, and from when on it is worse than the champion; see `canary.Trial`.

    hours:        (from, to) of the day, 0..24, by the street's clock; empty for all of it.
    turn_s:       seconds for which it and the champion take turns.
    worse_by:     share of delay by which it may be worse.
    false_alarms: share of the trials of a canary no worse than that which end it all the same.

    Raises ValueError for what cannot be.
    """

    hours: tuple[tuple[float, float], ...] = ()
    turn_s: float = 240.0
    worse_by: float = 0.05
    false_alarms: float = 0.02

    def __post_init__(self) -> None:
        if not all(0.0 <= begin < end <= 24.0 for begin, end in self.hours):
            raise ValueError(f"canary: hours: {self.hours!r:.80} are no parts of a day of 24 hours")
        if not SHORTEST_TURN_S <= self.turn_s <= LONGEST_TURN_S:
            raise ValueError(
                f"canary: turn_s: {self.turn_s:g} is not within {SHORTEST_TURN_S:g} to "
                f"{LONGEST_TURN_S:g} s"
            )
        if not 0.0 <= self.worse_by <= 1.0:
            raise ValueError(f"canary: worse_by: {self.worse_by:g} is not within 0 to 1")
        if not 0.0001 <= self.false_alarms <= 0.2:
            raise ValueError(f"canary: false_alarms: {self.false_alarms:g} is not 0.0001 to 0.2")


@dataclass(frozen=True, slots=True)
class Deploy:
    """An order: a model in force from the next tick on.

    mode:      all: it is the champion, which decides on the whole street. canary: it takes turns
        with the champion on `junctions`, within `canary`. shadow: it decides beside the champion,
        and nothing follows it.
    junctions: of a canary or a shadow; empty for all of them.
    by:        the operator.

    Raises ValueError for another mode, and for junctions of a champion.
    """

    mode: Literal["all", "canary", "shadow"]
    model: ModelFile
    junctions: tuple[str, ...] = ()
    canary: CanaryBounds = CanaryBounds()
    by: str = ""

    def __post_init__(self) -> None:
        if self.mode not in ("all", "canary", "shadow"):
            raise ValueError(f"no mode {self.mode!r:.40}. There are: all, canary, shadow.")
        if self.mode == "all" and self.junctions:
            raise ValueError(
                "a champion decides on the whole street: leave out the junctions, or deploy the "
                "model as a canary there"
            )
        if len(set(self.junctions)) < len(self.junctions):
            raise ValueError("a junction is given twice. Give it once.")


@dataclass(frozen=True, slots=True)
class Rollback:
    """An order: a model does not decide any more.

    what:      deploy: the champion before decides again, or the controller of the settings and
        orders where there is none. canary, shadow: it ends, or leaves `junctions`.
    by:        the operator.
    model:     label of the one that is meant: where another has its place by now, as after the
        same order of somebody else, nothing changes. Empty for whoever it is.

    Raises ValueError for another kind, and for junctions of a champion.
    """

    what: Literal["deploy", "canary", "shadow"] = "deploy"
    junctions: tuple[str, ...] = ()
    by: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        if self.what not in ("deploy", "canary", "shadow"):
            raise ValueError(f"no {self.what!r:.40}. There are: deploy, canary, shadow.")
        if self.what == "deploy" and self.junctions:
            raise ValueError(
                "a champion decides on the whole street: roll it back without junctions"
            )


@dataclass(frozen=True, slots=True)
class Identified:
    """Orders that are answered under one id, by the event `engine.order_applied` or
    `engine.order_refused`. They are carried out one after the other, until one is refused.
    """

    id: str
    orders: tuple[PlainOrder, ...]


PlainOrder = AtJunction | Optimise | Switch | Pause | ChangeRule | Deploy | Rollback


@dataclass(frozen=True, slots=True)
class Task:
    """What the street process is to do.

    until_s: simulated end; inf for the scenario's own.
    path:    settings file that is followed while running, with `changes` over it; empty for none.
    changes: by section and key; defaults: the same, what stands under the file.
    name:    of the street, for its logs; empty where there is one alone.
    repeats: what was ordered holds for the next run too, when this one is finished.
    needs_permit: it drives as long as the permit in its folder is valid, see `street.permit`.
    """

    settings: Settings
    until_s: float = float("inf")
    path: str = ""
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    name: str = ""
    repeats: bool = False
    needs_permit: bool = False

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
