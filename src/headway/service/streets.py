"""Streets kept running for those who look and operate: engines in threads of this process, their
record, their newest state.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from headway import telemetry
from headway.plants.sumo import read_network
from headway.plants.sumo.scenarios import scenario
from headway.roads import Network
from headway.roads.network import Kind
from headway.runtime import WorkerError
from headway.runtime.supervisor import Restarted
from headway.safety import Override
from headway.store import Intake, Recorder
from headway.street.engine import START_EVENTS, Engine
from headway.street.messages import (
    Done,
    Optimise,
    Release,
    Reporting,
    SignalChanges,
    Snapshot,
    Switch,
    Task,
)
from headway.values import Event

Listener = Callable[[str, str, Any], None]
SignalListener = Callable[[str, list[tuple[float, int, int]]], None]


@dataclass
class Live:
    """One street under way, as seen from this process."""

    name: str
    task: Task
    engine: Engine
    network: Network
    repeat: bool = False
    run: int = 0
    scenario: str = ""
    snapshot: Snapshot | None = None
    fault: str = ""
    finished: bool = False
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=500))
    history: deque[tuple[float, float, int, int]] = field(
        default_factory=lambda: deque(maxlen=7200)
    )
    alerts: dict[int, dict[str, Any]] = field(default_factory=dict)
    numbers: int = 0
    kept_s: float = math.inf
    switched: bool = False  # a scenario was ordered; it may be the same anew
    thread: Any = None
    colours: dict[int, tuple[float, int]] = field(
        default_factory=dict
    )  # of each signal group what it shows, and since when (seconds since 1970)


class StreetService:
    """Runs streets by name ("headway", "baseline"). tell(topic, street, message): called from their
    threads, for whoever listens.
    """

    def __init__(self, tell: Listener | None = None, intake: Intake | None = None) -> None:
        self._tell, self._intake = tell or _nobody, intake
        self.recorder = Recorder(intake) if intake is not None else None
        self.streets: dict[str, Live] = {}
        self.on_signals: SignalListener | None = (
            None  # told of each change of colour: (seconds since 1970, signal group, colour)
        )
        self._lock, self._stopping = threading.Lock(), False
        self._log = telemetry.log("engine")

    def start(self, name: str, task: Task, repeat: bool = False) -> Live:
        """repeat: begin anew when the demand has ended. Raises ValueError if the scenario is none,
        or one of that name is running.
        """
        of = scenario(task.settings.street.scenario)
        with self._lock:
            if name in self.streets and not self.streets[name].finished:
                raise ValueError(f"street {name!r} is running already. Stop it first.")
            live = self.streets[name] = Live(
                name, task, Engine(task), read_network(of.net), repeat, scenario=of.name
            )
        live.run = self._begin_run(live)
        live.thread = threading.Thread(
            target=self._listen, args=(live,), daemon=True, name=f"street {name}"
        )
        live.thread.start()
        return live

    def order(self, name: str, order: Override | Release | Optimise | Reporting | Switch) -> None:
        """Raises KeyError for an unknown street, WorkerError if it takes no orders now."""
        live = self.streets[name]
        if isinstance(order, Switch) and order.scenario:
            read_network(scenario(order.scenario).net)
        live.engine.order(order)

    def stop(self) -> None:
        """End all streets, their state kept, and write what is left to the record."""
        self._stopping = True
        for live in list(self.streets.values()):
            live.engine.stop()
        for live in list(self.streets.values()):
            live.thread.join(10.0)
        if self.recorder is not None:
            self.recorder.close()

    def _begin_run(self, live: Live) -> int:
        s = live.task.settings
        if self._intake is None:
            return 0
        run = self._intake.begin_run(
            f"{live.name} {live.task.key()} {time.time_ns()}",
            live.scenario,
            s.control.controller,
            s.street.seed,
        )
        for junction in live.network.junctions:
            for group in junction.groups:
                if live.network.groups[group].kind == Kind.PEDESTRIAN:
                    self._keep("crossing", (run, junction.id, group - junction.first))
        return run

    def _next_run(self, live: Live) -> None:
        """Without its number nothing of the new run could be kept: wait for the record, if it is
        away.
        """
        while not self._stopping:
            try:
                live.run = self._begin_run(live)
                return
            except SQLAlchemyError as error:
                self._log.error(
                    "the record is away; the next run waits for it",
                    street=live.name,
                    error=str(error),
                )
                time.sleep(2.0)

    def _listen(self, live: Live) -> None:
        try:
            while True:
                live.finished = False
                for message in live.engine.messages():
                    self._take(live, message)
                if not live.repeat or self._stopping:
                    break
                live.engine = Engine(live.task)
                self._next_run(live)
                live.history.clear()
        except WorkerError as error:
            live.fault = str(error)
            self._tell(
                "alerts",
                live.name,
                {
                    "kind": "engine.given_up",
                    "error": str(error),
                    "at_s": live.snapshot.time_s if live.snapshot else 0.0,
                },
            )
            self._log.error("given up", street=live.name, error=str(error))
        live.finished = True

    def _take(self, live: Live, message: Any) -> None:
        if isinstance(message, Snapshot):
            self._see(live, message)
        elif isinstance(message, SignalChanges):
            self._tell_signals(live, message)
            for at_s, group, colour in message.changes:
                junction = live.network.junctions[live.network.group_junction[group]]
                self._keep(
                    "signal_state", (live.run, at_s, junction.id, group - junction.first, colour)
                )
            for at_s, group, there in message.actuations:
                junction = live.network.junctions[live.network.group_junction[group]]
                self._keep(
                    "detector_state", (live.run, at_s, junction.id, group - junction.first, there)
                )
        elif isinstance(message, Event):
            if message.kind in START_EVENTS:
                self._another_street(live, message)
            live.switched |= message.kind == "engine.scenario"
            live.events.append(message)
            live.numbers += 1
            self._keep(
                "event",
                (
                    live.run,
                    live.numbers,
                    message.at_s,
                    message.kind,
                    message.junction,
                    _json(message.data),
                ),
            )
            data = {
                "at_s": message.at_s,
                "kind": message.kind,
                "junction": message.junction,
                "data": dict(message.data),
            }
            if message.kind.startswith("alert."):
                self._alert(live, message)
            if message.kind.startswith(
                ("alert.", "safety.emergency", "safety.source", "runtime.", "engine.restored")
            ):
                self._tell("alerts", live.name, data)
            self._tell("monitoring", live.name, data)
            if message.kind in (*START_EVENTS, "engine.scenario"):
                with contextlib.suppress(
                    WorkerError
                ):  # it died meanwhile: it is told again when it is back
                    live.engine.order(Reporting(True, True))
        elif isinstance(message, Restarted):
            self._tell(
                "alerts",
                live.name,
                {"kind": "engine.restarted", "why": message.why, "recovery_s": message.recovery_s},
            )
        elif isinstance(message, Done):
            live.finished = True

    def _another_street(self, live: Live, begins: Event) -> None:
        """Another run from here on, if it is another scenario, or the same from its beginning by
        order.
        """
        if begins.data["scenario"] != live.scenario or (
            live.switched and begins.kind == "engine.started"
        ):
            live.scenario = str(begins.data["scenario"])
            live.network = read_network(str(begins.data["net"]))
            self._next_run(live)
            live.history.clear()
            live.colours.clear()
        live.alerts.clear()  # a street that begins, or begins anew, numbers its alerts from 1 again
        live.switched = False

    def _tell_signals(self, live: Live, message: SignalChanges) -> None:
        """Simulated time becomes the time of day by the newest of both, and the pace."""
        if not message.changes:
            return
        pace = message.speed_factor
        newest = message.changes[-1][0]
        now = time.time()
        told = [
            (now - (newest - at_s) / pace if pace > 0.0 else now, group, colour)
            for at_s, group, colour in message.changes
        ]
        live.colours |= {group: (at, colour) for at, group, colour in told}
        if self.on_signals is not None:
            self.on_signals(live.name, told)

    def _see(self, live: Live, snapshot: Snapshot) -> None:
        live.snapshot = snapshot
        if len(live.colours) < len(snapshot.shown):  # those that have not changed yet
            now = time.time()
            live.colours = {
                g: (now, colour) for g, colour in enumerate(snapshot.shown)
            } | live.colours
        if snapshot.time_s - live.kept_s >= 5.0 or snapshot.time_s < live.kept_s:
            live.kept_s = snapshot.time_s
            wait = sum(j.longest_wait_s for j in snapshot.junctions) / max(
                len(snapshot.junctions), 1
            )
            live.history.append((snapshot.time_s, wait, snapshot.vehicles, snapshot.stopped))
            for j in snapshot.junctions:
                self._keep(
                    "observation",
                    (
                        live.run,
                        snapshot.time_s,
                        j.junction,
                        j.vehicles,
                        j.stopped,
                        j.longest_wait_s,
                        j.confidence,
                    ),
                )
        if snapshot.emission is not None:
            self._keep("emission", (live.run, snapshot.time_s, *snapshot.emission))
        self._tell("realtime", live.name, snapshot)

    def _alert(self, live: Live, event: Event) -> None:
        number = int(event.data.get("number", 0))
        if event.kind == "alert.closed":
            live.alerts.pop(number, None)
        else:
            live.alerts[number] = {"at_s": event.at_s, **event.data}

    def _keep(self, table: str, row: tuple[Any, ...]) -> None:
        if self.recorder is not None:
            self.recorder.put(table, row)


def _nobody(topic: str, street: str, message: Any) -> None:
    pass


def _json(data: Any) -> str:
    """As JSON, where what is no number (an alert on something that is not there) is null."""
    return json.dumps(_finite(dict(data)))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value
