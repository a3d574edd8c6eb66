"""The street process: runs one street, records its events, checkpoints it, takes orders; and the
engine that watches it.
"""

from __future__ import annotations

import gc
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from headway import telemetry
from headway.control.catalogue import controller
from headway.plants.sumo import SumoSettings, read_network
from headway.plants.sumo.scenarios import scenario
from headway.roads import PROFILES, work_out
from headway.runtime import (
    ErrorRecoverySystem,
    Level,
    Limits,
    Policy,
    RealTimeController,
    RealTimeMonitor,
    Rule,
    RuntimeSettings,
    Strategy,
    Supervisor,
)
from headway.runtime.streams import Subscription
from headway.runtime.supervisor import Outbox
from headway.safety import Override
from headway.settings import Settings, Watched, overridden
from headway.street import checkpoint
from headway.street.board import Board, JunctionState
from headway.street.closed_loop import Street, open_street
from headway.street.event_log import EventLog
from headway.street.messages import Done, Look, Optimise, Release, Signals, Snapshot, Switch, Task
from headway.values import Event


@dataclass
class _Run:
    """One street under way, as the real-time loop drives it."""

    street: Street
    of: Any
    log: EventLog
    folder: Path
    key: str
    tick_s: float
    interventions: list[int]
    record: Callable[[Event], None]
    look: Look = field(default_factory=lambda: Look(False, False))
    emission_s: float = -math.inf

    @property
    def time_s(self) -> float:
        return self.street.plant.time_s

    @property
    def running(self) -> bool:
        return self.street.plant.running

    def advance(self, period_s: float, shortest_s: float) -> None:
        for _ in range(max(round(period_s / self.tick_s), 1)):
            self.street.tick(self.tick_s)
        self.log.flush()

    def state(self) -> dict[str, Any]:
        """Of the whole street, and of `junctions` by name: vehicles, queue (standing vehicles),
        longest_wait_s, confidence.
        """
        seen, junctions = self.street.seen, self.street.junctions()
        near = {
            j.junction: {
                "vehicles": j.vehicles,
                "queue": j.halted,
                "longest_wait_s": j.longest_wait_s,
                "confidence": j.confidence,
            }
            for j in junctions
        }
        return {
            "time_s": self.time_s,
            "vehicles": len(seen.vehicles),
            "halted": int((seen.vehicles.speed_mps < 0.1).sum()),
            "source": self.street.gate.source.name.lower(),
            "junctions": near,
            "board": junctions,
        }

    def figures(self) -> dict[str, float]:
        v = self.street.seen.vehicles
        return {
            "vehicles": float(len(v)),
            "speed_mps": float(v.speed_mps.max(initial=0.0)),
            "longest_wait_s": float(v.waiting_s.max(initial=0.0)),
        }

    def keep(self) -> None:
        self.log.flush()
        checkpoint.save(
            self.folder / "checkpoints",
            self.key,
            self.time_s,
            self.street.plant,
            self.street.state(),
        )

    def undo(self) -> None:
        raise RuntimeError(
            "a street cannot go back by a second; its process starts anew from the last checkpoint"
        )

    restore = begin = restart = undo


LIMITS = {
    "vehicles": Limits(0.0, 1e6),
    "speed_mps": Limits(0.0, 150.0),
    "longest_wait_s": Limits(0.0, 1e6),
}
EMISSION_S = 5.0
BEGINS = ("engine.started", "engine.restored")
LEAVE_IT: tuple[tuple[type[BaseException], tuple[Strategy, ...]], ...] = (
    (Exception, (Strategy.STOP,)),
)  # to who watches this process


def rules_of(settings: Settings) -> tuple[Rule, ...]:
    """The rules of alerts. Raises ValueError for a path that no street's state has, or a name that
    occurs twice.
    """
    rules = tuple(
        Rule(
            r.name,
            r.path,
            r.condition,
            r.threshold,
            Level[r.level.upper()],
            r.hysteresis,
            r.for_s,
            r.clear_s,
        )
        for r in settings.alerts.rules
    )
    places = dict.fromkeys(("vehicles", "queue", "longest_wait_s", "confidence"))
    sample = dict.fromkeys(("time_s", "vehicles", "halted")) | {"junctions": {"any": places}}
    any_junction = [
        replace(r, path=re.sub(r"^junctions\.[^.]+", "junctions.any", r.path)) for r in rules
    ]
    RealTimeMonitor(tuple(any_junction), sample)
    return rules


def _loop(
    run: _Run, settings: Settings, before: RealTimeController | None = None
) -> tuple[RealTimeController, Subscription]:
    """The real-time loop of a street, and the stream of what is told outside. before: the loop
    whose work it goes on with.
    """
    rules = rules_of(settings)
    runtime = RuntimeSettings(
        settings.loop.tick_s,
        settings.loop.realtime,
        settings.loop.overrun,
        settings.loop.mode,
        gather=False,
        checkpoint_s=settings.recovery.checkpoint_s,
        limits=LIMITS,
        rules=rules,
    )
    tell = partial(_tell, run)
    loop = RealTimeController(run, runtime, tell, ErrorRecoverySystem(LEAVE_IT))
    if before is not None:
        loop.go_on_from(before)
    return loop, loop.streams.subscribe("outside", 10.0, policy=Policy.LATEST_ONLY)


def _tell(run: _Run, at_s: float, kind: str, data: Mapping[str, Any]) -> None:
    run.record(Event(at_s, kind, "", data))


def work(outbox: Outbox, inbox: Connection, task: Task) -> None:
    """The body of the street process: from the last checkpoint of the same run, or from the
    beginning.
    """
    watched = Watched(task.path, task.changes) if task.path else None
    task = replace(task, settings=watched.current) if watched else task
    settings = task.settings
    _set_up_logs(settings)
    run = _open(outbox, _switched(task, _orders(task)))
    loop, outside = _loop(run, settings)
    end_s = min(task.until_s, run.of.end_s)
    gc.freeze()  # docs/decisions/0012-pauses.md
    try:
        while run.time_s < end_s - 1e-6 and (np.isfinite(end_s) or run.running):
            while inbox.poll():
                order = inbox.recv()
                _hand_out_signals(outbox, run, settings.loop.realtime)
                if order is None:
                    loop.keep()
                    outbox.put(Done(run.time_s, False), keep=True)
                    return
                if isinstance(order, Optimise):
                    settings = _optimise(run, settings, order)
                    loop, outside = _loop(run, settings, loop)
                    continue
                before, run = run, _obey(outbox, run, order, replace(task, settings=settings))
                if run is not before:
                    loop, outside = _loop(run, settings)
                    end_s = min(task.until_s, run.of.end_s)
            loop.tick(end_s)
            for message in outside.take():
                _hand_out_signals(outbox, run, settings.loop.realtime)
                outbox.put(_snapshot(run, loop, message.values["board"]))
                if watched and _follow(run, watched, settings, task):
                    settings = watched.current
                    run.tick_s = settings.loop.tick_s
                    loop, outside = _loop(run, settings, loop)
        _hand_out_signals(outbox, run, settings.loop.realtime)
        outbox.put(_snapshot(run, loop, run.street.junctions()), keep=True)
        outbox.put(Done(run.street.plant.time_s, True), keep=True)
        checkpoint.clear(run.folder / "checkpoints")
        _orders_file(task).unlink(missing_ok=True)
    finally:
        run.log.close()
        run.street.plant.close()


def _hand_out_signals(outbox: Outbox, run: _Run, pace: float) -> None:
    street = run.street
    if street.changes or street.actuations:
        outbox.put(Signals(pace, tuple(street.changes), tuple(street.actuations)), keep=True)
        street.changes, street.actuations = [], []


def _set_up_logs(settings: Settings) -> None:
    telemetry.set_up(settings.log.level, settings.log.json_lines, settings.log.folder)


def _follow(run: _Run, watched: Watched, before: Settings, task: Task) -> bool:
    """Put what changed in the settings' file in force; whether anything did. What is refused there
    is recorded, and changes nothing.
    """
    fault, now = watched.fault, run.street.plant.time_s
    changed = watched.refresh()
    if watched.fault and watched.fault != fault:
        run.record(Event(now, "engine.settings_refused", "", {"fault": watched.fault}))
    if not changed:
        return False
    new, street = watched.current, run.street
    _set_up_logs(new)
    street.cycle_s, street.confidence = new.loop.cycle_s, new.control.confidence
    if new.control.fallback != before.control.fallback:
        street.stand_in(controller(new.control.fallback, street.network, street.gate.timing))
    if new.control.controller != before.control.controller:
        street.put_in_charge(controller(new.control.controller, street.network, street.gate.timing))
        if "controller" in (
            orders := _orders(task)
        ):  # the last word is the file's, for a process to come as well
            _keep_orders(task, {k: v for k, v in orders.items() if k != "controller"})
    run.record(
        Event(
            now,
            "engine.settings",
            "",
            {"changed": list(changed), "controller": street.controller.name},
        )
    )
    return True


def _orders_file(task: Task) -> Path:
    return Path(task.settings.recovery.folder) / "orders.json"


def _orders(task: Task) -> dict[str, str]:
    """The switches of scenario and controller in force for this task, which outlive the process."""
    try:
        found = json.loads(_orders_file(task).read_text(encoding="utf-8"))
        return dict(found["orders"]) if found["task"] == task.key() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _keep_orders(task: Task, orders: Mapping[str, str]) -> None:
    draft = _orders_file(task).with_suffix(".draft")
    draft.write_text(json.dumps({"task": task.key(), "orders": orders}), encoding="utf-8")
    draft.replace(_orders_file(task))


def _switched(task: Task, orders: Mapping[str, str]) -> Task:
    changes = {"street": {"scenario": orders["scenario"]}} if "scenario" in orders else {}
    by = {"control": {"controller": orders["controller"]}} if "controller" in orders else {}
    return replace(task, settings=overridden(task.settings, changes | by))


def _open(outbox: Outbox, task: Task, anew: bool = False) -> _Run:
    """The street of `task`: from its last checkpoint, if there is one; `anew` from its
    beginning.
    """
    s = task.settings
    of = scenario(s.street.scenario)
    network = read_network(of.net)
    folder = Path(s.recovery.folder)
    log = EventLog(folder / "events.jsonl")
    counted = [0]

    def record(event: Event) -> None:
        counted[0] += event.kind.startswith("safety.")
        log.append(event)
        outbox.put(event, keep=True)
        room = "safety" if event.kind.startswith("safety.") else "street"
        telemetry.log(room).debug(
            event.kind, at_s=event.at_s, junction=event.junction, **event.data
        )

    key = f"{of.name} {task.key()}"
    found = None if anew else checkpoint.latest(folder / "checkpoints", key)
    state = (
        ("--load-state", str(found.plant)) if found is not None else ()
    )  # at the start: a SUMO under way would let those who arrived depart anew
    sumo = SumoSettings(
        of.sumocfg, s.street.seed, s.street.scale, sensing=s.street.sensing, extra=state
    )
    timing = work_out(network, PROFILES[s.street.timing])
    street = open_street(
        network,
        timing,
        sumo,
        s.control.controller,
        record,
        s.control.fallback,
        s.loop.cycle_s,
        s.control.confidence,
    )
    about = {"scenario": of.name, "net": of.net, "controller": s.control.controller}
    if found is not None:
        street.resume(found.street())
        record(
            Event(
                found.time_s,
                "engine.restored",
                "",
                about | {"checkpoint_s": found.time_s, "lost_up_to_s": s.recovery.checkpoint_s},
            )
        )
    else:
        record(Event(of.begin_s, "engine.started", "", about | {"run": key}))
    log.flush()
    return _Run(street, of, log, folder, key, s.loop.tick_s, counted, record)


def _optimise(run: _Run, settings: Settings, order: Optimise) -> Settings:
    """Another cycle or pace from now on; what is not allowed is recorded and changes nothing."""
    wish = {
        k: v
        for k, v in (("cycle_s", order.cycle_s), ("realtime", order.realtime))
        if v > 0.0 or (k == "realtime" and v == 0.0)
    }
    try:
        settings = overridden(settings, {"loop": wish})
    except ValueError as error:
        run.record(
            Event(run.time_s, "engine.order_refused", "", {"order": repr(order), "why": str(error)})
        )
        return settings
    run.street.cycle_s = settings.loop.cycle_s
    run.record(Event(run.time_s, "engine.settings", "", {"changed": list(wish), **wish}))
    return settings


def _obey(outbox: Outbox, run: _Run, order: Any, task: Task) -> _Run:
    """Orders are taken between two ticks; the event says at which simulated time one came into
    force, or why it was refused.
    """
    now = run.street.plant.time_s
    try:
        if isinstance(order, Override):
            run.street.gate.order(order, now)
        elif isinstance(order, Release):
            run.street.gate.release(order.junction, order.by, now)
        elif isinstance(order, Look):
            run.look, run.street.recording = order, order.record
        elif isinstance(order, Switch):
            return _switch(outbox, run, order, task)
        else:
            raise ValueError(
                f"no order of the kind {type(order).__name__}. There are: Override, Release, "
                "Optimise, Look, Switch."
            )
    except (ValueError, OSError) as error:
        run.record(
            Event(now, "engine.order_refused", "", {"order": repr(order), "why": str(error)})
        )
    return run


def _switch(outbox: Outbox, run: _Run, order: Switch, task: Task) -> _Run:
    """Another controller at once, or another scenario from its beginning. Raises ValueError before
    anything is given up.
    """
    now = run.street.plant.time_s
    orders = _orders(task) | {k: v for k, v in asdict(order).items() if v}
    switched = _switched(task, orders)
    if order.scenario:
        read_network(scenario(order.scenario).net)
    _keep_orders(task, orders)
    if order.controller and not order.scenario:
        run.street.put_in_charge(
            controller(order.controller, run.street.network, run.street.gate.timing)
        )
        run.record(Event(now, "engine.controller", "", {"controller": order.controller}))
    if order.scenario:
        run.record(Event(now, "engine.scenario", "", {"scenario": order.scenario}))
        run.log.close()
        run.street.plant.close()
        try:
            run = _open(outbox, switched, anew=True)
        except Exception as error:
            # the process starts anew, on what ran before: a switch that fails must not be tried
            # for ever
            _orders_file(task).unlink(missing_ok=True)
            raise RuntimeError(f"scenario {order.scenario!r} does not start: {error}") from error
        checkpoint.clear(run.folder / "checkpoints")  # of what ran before
    return run


def _snapshot(
    run: _Run, loop: RealTimeController, junctions: tuple[JunctionState, ...]
) -> Snapshot:
    street, pacing = run.street, loop.pacer.report()
    recent = list(street.durations.rows)[-100:]
    return Snapshot(
        street.plant.time_s,
        run.of.begin_s,
        run.of.end_s,
        len(street.seen.vehicles),
        int((street.seen.vehicles.speed_mps < 0.1).sum()),
        street.gate.source.name.lower(),
        run.interventions[0],
        street.outlook.cycles,
        pacing.overruns,
        pacing.jitter_p99_s,
        1e3 * sum(map(sum, recent)) / max(len(recent), 1),
        loop.kept_s,
        run.log.trouble,
        junctions,
        loop.optimizer.mode.name,
        street.controller.name,
        street.plant.shown.tobytes(),
        street.plant.scene() if run.look.scene else None,
        loop.profiler.figures(),
        _emission(run),
    )


def _emission(run: _Run) -> tuple[int, float, float] | None:
    if not run.look.record or run.time_s < run.emission_s + EMISSION_S:
        return None
    run.emission_s = run.time_s
    return run.street.plant.emissions()


class Engine:
    """The supervised street process, as seen from outside: start, messages, orders, stop. board:
    the junctions, for any thread.
    """

    def __init__(self, task: Task) -> None:
        recovery = task.settings.recovery
        rules_of(task.settings)
        self._last_kept: float | None = None
        self.board = Board()
        self._supervisor = Supervisor(
            work, task, recovery.silent_s, recovery.restarts, self._progressed
        )

    def _progressed(self, message: Any) -> bool:
        """A checkpoint since the last message: the restarts before it are forgiven. Where the
        street begins does not count as one.
        """
        if isinstance(message, Event) and message.kind in BEGINS:
            self._last_kept = None
        elif isinstance(message, Snapshot) and (
            self._last_kept is None or message.checkpoint_s > self._last_kept
        ):
            forgiven, self._last_kept = self._last_kept is not None, message.checkpoint_s
            return forgiven
        return False

    def messages(self) -> Iterator[Any]:
        """Snapshot, Event, Restarted, and Done at the end. Raises WorkerError when the process is
        given up.
        """
        for message in self._supervisor.messages():
            if isinstance(message, Event) and message.kind in BEGINS:
                self.board.forget()
            elif isinstance(message, Snapshot):
                self.board.put(message.junctions)
            yield message

    def order(self, order: Override | Release | Optimise | Look | Switch) -> None:
        """Hand an order to the street; it is taken before the next tick. Raises WorkerError if
        there is no street now.
        """
        self._supervisor.send(order)

    def stop(self) -> None:
        """Checkpoint and end."""
        self._supervisor.stop()

    @property
    def pid(self) -> int | None:
        return self._supervisor.pid
