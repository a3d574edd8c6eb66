"""A street under way, as a process that shows and operates it knows it."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from headway.roads import Network
from headway.service.kept_run import KeptRun
from headway.service.orders import PlacedOrder
from headway.service.stops import Stop
from headway.settings import ControlSettings
from headway.store.spool import Backlog
from headway.street.alerts import MOST_ORDERED
from headway.street.engine import Engine
from headway.street.messages import (
    Identified,
    JunctionState,
    KnownRule,
    PlainOrder,
    Snapshot,
    Switch,
    Task,
)
from headway.values import Event

FIXED_TIME = "fixed"  # the controller while the optimisation is off
EVENTS_KEPT = 500
HISTORY_KEPT = 7200  # rows; ten hours

ColourAt = tuple[float, int, int]
"""Seconds since 1970, signal group, colour."""
Action = Literal["place", "stop", "start"]


class StreetStateError(RuntimeError):
    """A street cannot do what is ordered in the state that it is in; the message says what can."""


class Remote(Protocol):
    """The process of a street that is not below this one. away: why it takes no orders now; empty
    where it does. is_changing: it ended in order, and the next one has time left to begin.
    """

    is_changing: bool

    @property
    def away(self) -> str: ...

    def send(self, action: Action, order: PlacedOrder, orders: tuple[PlainOrder, ...]) -> None:
        """Raises WorkerError."""


class HistoryRow(NamedTuple):
    """A street at one simulated second. wait_s: mean over the junctions of the longest wait."""

    time_s: float
    wait_s: float
    vehicles: int
    stopped: int


class NetworkFiles(NamedTuple):
    """From which a street's network was read, where a start of its engine said so."""

    net: str = ""
    additional: tuple[str, ...] = ()
    begin_s: float = 0.0


class Unconfirmed(NamedTuple):
    """An order that may have to be given again. process: number of the one that it was sent to."""

    order: Switch | Identified
    engine: Engine
    process: int | None

    def is_sent_to(self, engine: Engine) -> bool:
        """To the process that runs now, which may not have said anything yet."""
        return self.engine is engine and self.process == engine.pid


@dataclass
class RunningStreet:
    """One street under way, as seen from this process.

    repeat:   start it anew when the demand has ended.
    run:      number of its run in the database; negative until that knows it.
    demand:   of the scenario, see `demand_of`; the run is recorded by it.
    fault:    why it was given up; empty while it was not.
    finished: no engine runs now.
    history:  a row every HISTORY_PERIOD_S.
    alerts:   those that are open, by number.
    events_recorded: of all runs; numbers the rows of the database.
    history_s: simulated time of the last row of the history.
    scenario_ordered: an operator ordered a scenario, perhaps the same one again; the engine has not
        started it yet.
    colours:  of each signal group since when (seconds since 1970) it shows what.
    report:   of its real-time loop, the newest; None before the first.
    controller_ordered: the last one that was ordered, fixed time aside; empty for none.
    flows:    of each junction what it was when its last row was recorded.
    recorded_controller: of the run, until its engine says who decides; then empty.
    unconfirmed: a controller or scenario that was ordered, until it is in force: a run that ends
        meanwhile, or hangs, does not obey any more.
    stop:     who stopped it, until it is started again; None while nobody did.
    run_over: its next engine begins another run.
    ended:    its thread has done its work: no engine follows the one before.
    stop_orders, start_order: ids of the orders to stop and to start that are under way.
    has_begun: its process has started, and has not told its state yet.
    turn:     held by who stops or starts it.
    remote:   its process, where that is not below this one: it records, and answers orders.
    kept:     the run that it was in before this process, until its engine says how it starts.
    events_kept: numbers of events up to which the run is kept.
    trouble:  of a process of its own: why its rows do not reach the database.
    backlog:  of a process of its own: of the rows that wait on its disk, where it says so.
    files:    of its network, once another scenario than the first has begun.
    """

    name: str
    task: Task
    engine: Engine
    network: Network
    repeat: bool = False
    run: int = 0
    scenario: str = ""
    demand: str = ""
    snapshot: Snapshot | None = None
    fault: str = ""
    finished: bool = False
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    history: deque[HistoryRow] = field(default_factory=lambda: deque(maxlen=HISTORY_KEPT))
    alerts: dict[int, dict[str, Any]] = field(default_factory=dict)
    events_recorded: int = 0
    history_s: float = math.inf
    scenario_ordered: bool = False
    thread: threading.Thread | None = None
    colours: dict[int, tuple[float, int]] = field(default_factory=dict)
    controller_ordered: str = ""
    unconfirmed: Unconfirmed | None = None
    report: Mapping[str, Any] | None = None
    recorded_controller: str = ""
    flows: dict[str, JunctionState] = field(default_factory=dict)
    stop: Stop | None = None
    run_over: bool = False
    ended: bool = False
    stop_orders: tuple[str, ...] = ()
    start_order: str = ""
    has_begun: bool = False
    turn: threading.Lock = field(default_factory=threading.Lock, repr=False)
    remote: Remote | None = None
    kept: KeptRun | None = None
    run_key: str = ""
    events_kept: int = 0
    trouble: str = ""
    backlog: Backlog | None = None
    files: NetworkFiles = field(default_factory=NetworkFiles)

    @property
    def lifecycle(self) -> tuple[str, ...]:
        """Ids of the orders to stop and to start that are under way."""
        return *self.stop_orders, self.start_order

    @property
    def status(self) -> str:
        """away, given up, stopping, stopped, finished, starting, paused or running."""
        if self.remote is not None and self.remote.away:
            return "away"
        if self.fault:
            return "given up"
        if self.stop is not None:
            return "stopped" if self.ended else "stopping"
        if self.finished:
            return "finished"
        if self.snapshot is None or self.engine.is_restarting:
            return "starting"
        return "paused" if self.snapshot.paused_by else "running"

    @property
    def is_missed(self) -> bool:
        """Away, and not only while one process of it follows another in order."""
        return self.status == "away" and not (self.remote is not None and self.remote.is_changing)

    @property
    def status_by(self) -> str:
        """Who stopped or paused it; empty where nobody did."""
        if self.stop is not None:
            return self.stop.by
        return self.snapshot.paused_by if self.snapshot is not None else ""

    @property
    def optimiser(self) -> str:
        """The controller that decides while the optimisation is on: the last one that was ordered,
        else that of the settings, else the default.
        """
        from_settings = self.task.settings.control.controller
        if from_settings == FIXED_TIME:
            from_settings = ControlSettings().controller
        return self.controller_ordered or from_settings

    @property
    def models(self) -> Mapping[str, Any]:
        """Who is champion, canary and shadow where, with their figures, as was said last: see
        `headway.street.rollout.Rollout.report`. Empty before that.
        """
        return self.snapshot.models if self.snapshot is not None else {}

    @property
    def controller(self) -> str:
        """Who decides, as was said last; by the settings before that."""
        said = self.snapshot.controller if self.snapshot is not None else ""
        return said or self.task.settings.control.controller

    def place(self, group: int) -> tuple[str, int]:
        """A signal group as the database names it: its junction, and its number there."""
        junction = self.network.junctions[self.network.group_junction[group]]
        return junction.id, group - junction.first


def rules_of(street: RunningStreet) -> tuple[KnownRule, ...]:
    """The alert rules on it, as it says; of one that has said nothing yet, the settings' alone."""
    if street.snapshot is not None:
        return street.snapshot.rules
    return tuple(KnownRule(rule, ordered=False) for rule in street.task.settings.alerts.rules)


def require_changeable(street: RunningStreet, rule: str) -> None:
    """Raises StreetStateError for the name of an alert rule that cannot be set or removed."""
    is_ordered = {known.rule.name: known.ordered for known in rules_of(street)}
    if not is_ordered.get(rule, True):
        raise StreetStateError(f"the rule {rule!r} stands in the settings. Change it there.")
    if rule not in is_ordered and sum(is_ordered.values()) >= MOST_ORDERED:
        raise StreetStateError(f"there are {MOST_ORDERED} alert rules already. Remove one first.")


def refuse_stopped(street: RunningStreet) -> None:
    """Raises StreetStateError."""
    if street.stop is not None:
        raise StreetStateError(
            f"street {street.name!r} was stopped by {street.stop.by}. Start it first."
        )
