"""Streets kept running for those who watch and operate them: an engine each, in a thread of this
process; what they report goes to the database and to listeners.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from headway import telemetry
from headway.plants.sumo import network_of, read_network
from headway.plants.sumo.scenarios import demand_of, scenario
from headway.runtime import WorkerError
from headway.runtime.supervisor import Restarted
from headway.service.orders import OrderBook, PlacedOrder
from headway.service.running_street import (
    FIXED_TIME,
    Action,
    ColourAt,
    HistoryRow,
    NetworkFiles,
    Remote,
    RunningStreet,
    StreetStateError,
    Unconfirmed,
    refuse_stopped,
)
from headway.service.stops import Stop, keep_stop, stop_of
from headway.service.street_record import StreetRecord
from headway.store import Intake
from headway.street.engine import START_EVENTS, Engine, StreetOrder
from headway.street.messages import (
    Deploy,
    Identified,
    Pause,
    PlainOrder,
    Reporting,
    Rollback,
    RunEnded,
    SignalChanges,
    Snapshot,
    Switch,
    Task,
)
from headway.telemetry.bursts import Burst
from headway.telemetry.threads import FIRST_PAUSE_S, LONGEST_PAUSE_S, tell_failure
from headway.values import Event

HISTORY_PERIOD_S = 5.0  # simulated
STOP_WITHIN_S = 10.0
TURN_WITHIN_S = 0.5  # an order to stop or start waits so long for the one before
URGENT = (
    "alert.",
    "engine.canary_withdrawn",
    "safety.cycle_exceeded",
    "safety.emergency",
    "safety.source",
    "traffic.",
    "runtime.",
    "engine.restored",
)

Listener = Callable[[str, str, Any], None]
"""Called with topic ("realtime", "alerts", "monitoring"), street and message."""
SignalListener = Callable[[str, list[ColourAt]], None]
"""Called with the street and its changes of colour."""


class StreetService:
    """Runs streets by name ("headway", "baseline").

    publish:    called with what streets report, from their threads.
    intake:     the database; None to record nothing.
    on_signals: called with each change of colour, if set.
    keeps_runs: a street that goes on from a checkpoint of an earlier process goes on in its run.
    make_engine, clock_ns (wall clock), sleep: given by tests.
    """

    def __init__(
        self,
        publish: Listener | None = None,
        intake: Intake | None = None,
        make_engine: Callable[[Task], Engine] = Engine,
        clock_ns: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], None] = time.sleep,
        keeps_runs: bool = False,
    ) -> None:
        self._publish = publish or _ignore
        self._make_engine = make_engine
        self._clock_ns = clock_ns
        self._sleep = sleep
        self.record = StreetRecord(intake, keeps_runs, clock_ns)
        self.streets: dict[str, RunningStreet] = {}
        self.on_signals: SignalListener | None = None
        self._lock = threading.Lock()
        self._stopping = False
        self._unhandled = Burst()
        self._log = telemetry.log("engine")
        self.orders = OrderBook(partial(self._publish, "monitoring"), self._now)

    # --- for operators ---

    def start(self, name: str, task: Task, repeat: bool = False) -> RunningStreet:
        """Start a street; one that was stopped stays so (`start_again`). Raises ValueError for an
        unknown scenario, or if a street of that name is running.
        """
        of_scenario = scenario(task.settings.street.scenario)
        task = replace(task, name=name, repeats=repeat)
        stop = stop_of(task)
        with self._lock:
            known = self.streets.get(name)
            if known is not None and (known.remote is not None or not known.finished):
                raise ValueError(f"street {name!r} is running already. Stop it first.")
            street = self.streets[name] = RunningStreet(
                name=name,
                task=task,
                engine=self._make_engine(task),
                network=network_of(of_scenario),
                repeat=repeat,
                scenario=of_scenario.name,
                demand=demand_of(of_scenario),
                stop=stop,
                finished=stop is not None,
                ended=stop is not None,
                run_over=stop is not None,
            )
        self.record.find_kept_run(street)
        if stop is not None:
            self._log.info("stays stopped", street=name, by=stop.by)
            return street
        if street.kept is None:
            self.record.begin_run(street)
        self._start_thread(street)
        return street

    def _start_thread(self, street: RunningStreet, is_new: bool = False) -> None:
        street.thread = threading.Thread(
            target=self._follow, args=(street, is_new), daemon=True, name=f"street {street.name}"
        )
        street.thread.start()

    def order(self, name: str, order: StreetOrder) -> None:
        """Send an order to a street. Raises KeyError for an unknown street, ValueError for an
        unknown scenario, WorkerError if the street takes no orders now.
        """
        street = self.streets[name]
        switch = _switch_in(order)
        if switch is not None:
            _require_scenario(switch)
        engine, process = street.engine, street.engine.pid
        engine.order(order)
        if switch is not None and isinstance(order, Switch | Identified):
            street.unconfirmed = Unconfirmed(order, engine, process)
        if switch is not None and switch.controller not in ("", FIXED_TIME):
            street.controller_ordered = switch.controller

    def place(self, order: PlacedOrder, *orders: PlainOrder) -> PlacedOrder:
        """Send orders to a street, on record as one; what becomes of it is in `orders`. Raises as
        `order`, and is refused on record then; StreetStateError for a street that was stopped.
        """
        street = self.streets[order.street]
        refuse_stopped(street)
        if street.remote is not None:
            if (switch := next((o for o in orders if isinstance(o, Switch)), None)) is not None:
                _require_scenario(switch)
            return self._send(street.remote, "place", order, orders)
        placed = self.orders.add(replace(order, process=street.engine.pid))
        try:
            self.order(order.street, Identified(placed.id, orders))
        except (ValueError, OSError, WorkerError) as error:
            self.orders.refuse(order.street, placed.id, str(error))
            raise
        return placed

    def _send(
        self,
        remote: Remote,
        action: Action,
        order: PlacedOrder,
        orders: tuple[PlainOrder, ...] = (),
    ) -> PlacedOrder:
        """To the process of a street, which tells everybody what becomes of it, also that it was
        accepted. Raises WorkerError.
        """
        placed = self.orders.add(order, say=False)
        try:
            remote.send(action, placed, orders)
        except WorkerError as error:
            self.orders.refuse(order.street, placed.id, str(error))
            raise
        return placed

    def change_models(self, order: PlacedOrder, change: Deploy | Rollback) -> PlacedOrder:
        """Deploy a model, or roll one back; in force from the street's next tick on. Raises as
        `place`; ValueError for junctions that it has not.
        """
        known = {junction.id for junction in self.streets[order.street].network.junctions}
        if unknown := [name for name in change.junctions if name not in known]:
            raise ValueError(f"no junction {', '.join(unknown)[:200]} on street {order.street!r}")
        return self.place(order, change)

    def pause(self, order: PlacedOrder, on: bool) -> PlacedOrder:
        """Let the time of a street stand, or go on. Raises as `place`; StreetStateError where it
        cannot stand.
        """
        street = self.streets[order.street]
        if on and street.task.settings.street.sensing == "external":
            raise StreetStateError(
                f"street {street.name!r} is observed from outside (street.sensing: external), "
                "where the traffic does not wait. Stop it, or let its junctions flash."
            )
        return self.place(order, Pause(order.by if on else ""))

    def stop_one(self, order: PlacedOrder) -> PlacedOrder:
        """Ask a street to write a checkpoint and end, until it is started again, also by another
        process of this server. Raises OSError where that cannot be kept, StreetStateError while
        somebody else starts it.
        """
        street = self.streets[order.street]
        if street.remote is not None:
            return self._send(street.remote, "stop", order)
        with _turn(street):
            placed = self.orders.add(order)
            if street.stop is not None:
                with self._lock:
                    is_under_way = bool(street.stop_orders)
                    street.stop_orders += (placed.id,) if is_under_way else ()
                if not is_under_way:
                    self.orders.apply(street.name, placed.id)
                return placed
            stop = Stop(order.by, self._now())
            try:
                keep_stop(street.task, stop)
            except OSError as error:
                self.orders.refuse(street.name, placed.id, str(error))
                raise
            with self._lock:
                street.stop_orders, street.stop = (placed.id,), stop
                has_ended = street.ended
            street.engine.stop()
            if has_ended:
                self._confirm_stop(street)
        return placed

    def start_again(self, order: PlacedOrder) -> PlacedOrder:
        """Start a street that was stopped from where it was, or one that was given up or is
        finished. Raises WorkerError where its last process has not ended yet, OSError where it
        cannot be kept that it runs, StreetStateError while somebody else starts it.
        """
        street = self.streets[order.street]
        if street.remote is not None:
            return self._send(street.remote, "start", order)
        with _turn(street):
            placed = self.orders.add(order)
            if street.stop is None and not (street.finished or street.fault):
                self.orders.apply(street.name, placed.id)
                return placed
            try:
                if street.thread is not None:
                    street.thread.join(STOP_WITHIN_S)
                    if street.thread.is_alive():
                        raise WorkerError(f"street {street.name!r} has not ended yet; ask again")
                keep_stop(street.task, None)
            except (OSError, WorkerError) as error:
                self.orders.refuse(street.name, placed.id, str(error))
                raise
            street.start_order, street.stop = placed.id, None
            street.fault, street.snapshot = "", None
            street.finished = street.ended = False
            self._start_thread(street, is_new=True)
        return placed

    def _confirm_stop(self, street: RunningStreet) -> None:
        """Its last process has ended, as somebody ordered."""
        with self._lock:
            ordered, street.stop_orders = street.stop_orders, ()
        if street.stop is None or not ordered:
            return
        street.fault, street.finished = "", True
        at_s = street.snapshot.time_s if street.snapshot else 0.0
        self._log.info("stopped", street=street.name, by=street.stop.by)
        street.alerts.clear()
        street.colours.clear()  # nobody knows what its signals show any more
        event = Event(at_s, "engine.stopped", "", {"by": street.stop.by})
        if street.run:
            self._record_event(street, event)
        self._publish_event(street, event)
        for order_id in ordered:
            self.orders.apply(street.name, order_id)

    def request_stop(self) -> None:
        """Ask all streets to write a checkpoint and end, and start none anew."""
        self._stopping = True
        for street in list(self.streets.values()):
            street.engine.stop()

    def stop(self) -> None:
        """End all streets, their state kept, and write what is left to the database."""
        self.request_stop()
        for street in list(self.streets.values()):
            if street.thread is not None:
                street.thread.join(STOP_WITHIN_S)
        self.record.close()

    # --- what a street reports, in its own thread ---

    def _is_ending(self, street: RunningStreet) -> bool:
        return self._stopping or street.stop is not None

    def _follow(self, street: RunningStreet, is_new: bool = False) -> None:
        """The thread of a street: its engines, until the end. An error of this process, not of the
        street's, ends the engine; another one goes on from its checkpoint after a pause. is_new:
        the first one is to be made.
        """
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                self._follow_engines(street, is_new)
            except WorkerError as error:
                self._give_up(street, error)
            except Exception as error:
                self._tell_failure(street, error)
                self._sleep(pause_s)
                pause_s, is_new = min(2.0 * pause_s, LONGEST_PAUSE_S), True
                if not self._is_ending(street):
                    continue
            break
        with self._lock:
            street.finished = street.ended = True
        self._confirm_stop(street)

    def _follow_engines(self, street: RunningStreet, is_new: bool) -> None:
        """The engine that there is, or a new one for the same run; and the next ones of a street
        that repeats.
        """
        if is_new:
            self._use_new_engine(street)
            if street.run_over:
                self.record.begin_run(street)
        self._handle_messages(street)
        while street.repeat and not self._is_ending(street):
            self._use_new_engine(street)
            self.record.begin_run(street)
            self._handle_messages(street)

    def _use_new_engine(self, street: RunningStreet) -> None:
        """Whoever ends streets meanwhile ends it."""
        street.engine = self._make_engine(street.task)
        if self._is_ending(street):
            street.engine.stop()

    def _tell_failure(self, street: RunningStreet, error: Exception) -> None:
        tell_failure(f"street {street.name}", error)
        at_s = street.snapshot.time_s if street.snapshot else 0.0
        alert = {"kind": "engine.not_followed", "error": repr(error), "at_s": at_s}
        with contextlib.suppress(Exception):  # it may be the listener that failed
            self._publish("alerts", street.name, alert)

    def _handle_messages(self, street: RunningStreet) -> None:
        """A message that cannot be handled must not cost the street its process."""
        street.finished = False
        for message in street.engine.messages():
            try:
                self._handle(street, message)
            except Exception as error:
                if count := self._unhandled.add():
                    self._log.error(
                        "messages of a street could not be handled",
                        street=street.name,
                        messages=count,
                        kind=type(message).__name__,
                        exc_info=error,
                    )

    def _give_up(self, street: RunningStreet, error: WorkerError) -> None:
        street.fault = str(error)
        street.unconfirmed = None
        self.orders.refuse(street.name, street.start_order, street.fault)
        street.start_order = ""
        self._forget_process(street, street.fault, None)
        at_s = street.snapshot.time_s if street.snapshot else 0.0
        alert = {"kind": "engine.given_up", "error": str(error), "at_s": at_s}
        self._log.error("given up", street=street.name, error=str(error))
        with contextlib.suppress(Exception):  # of the listener: the street has ended all the same
            self._publish("alerts", street.name, alert)

    def _handle(self, street: RunningStreet, message: Any) -> None:
        match message:
            case Snapshot():
                self._handle_snapshot(street, message)
            case SignalChanges():
                self._handle_signal_changes(street, message)
            case Event():
                self._handle_event(street, message)
            case Restarted(why=why, recovery_s=recovery_s):
                self._forget_process(street, why, street.engine.pid)
                alert = {"kind": "engine.restarted", "why": why, "recovery_s": recovery_s}
                self._publish("alerts", street.name, alert)
            case RunEnded(finished=finished):
                street.finished, street.run_over = True, finished
                self._forget_process(street, "the run ended", None)
                if finished:
                    self.record.end_run(street)
                    self.orders.end_overrides(street.name, "the run is finished")

    def _forget_process(self, street: RunningStreet, why: str, runs_now: int | None) -> None:
        """What it was ordered is not answered any more, but for what the next one is ordered."""
        order = street.unconfirmed.order if street.unconfirmed is not None else None
        again = order.id if isinstance(order, Identified) else ""
        self.orders.process_ended(street.name, why, runs_now, (again, *street.lifecycle))

    # --- what the process of a street elsewhere says

    def add_followed(self, street: RunningStreet) -> None:
        """Whoever looks at `streets` meanwhile sees those of before."""
        with self._lock:
            self.streets = {**self.streets, street.name: street}

    def take_snapshot(self, street: RunningStreet, snapshot: Snapshot, say: bool = True) -> None:
        """The newest of a street. say: to whom it is published, else it is only known here."""
        self._use_snapshot(street, snapshot)
        if say:
            self._publish("realtime", street.name, snapshot)

    def take_colours(self, street: RunningStreet, changes: list[ColourAt]) -> None:
        street.colours |= {group: (at, colour) for at, group, colour in changes}
        if self.on_signals is not None:
            self.on_signals(street.name, changes)

    def take_news(
        self,
        street: RunningStreet,
        topic: str,
        news: Mapping[str, Any],
        event: Event | None,
        say: bool = True,
    ) -> None:
        """event: that the news are of, if they are of one that is new."""
        if event is not None:
            if event.kind.startswith("alert."):
                _update_alerts(street, event)
            if event.kind in (*START_EVENTS, "engine.stopped"):
                street.alerts.clear()
                street.colours.clear()
            street.events.append(event)
            street.events_recorded += 1
        if say:
            self._publish(topic, street.name, news)

    # ---

    def _handle_snapshot(self, street: RunningStreet, snapshot: Snapshot) -> None:
        self.record.correct_number(street)
        self._use_snapshot(street, snapshot)
        if snapshot.emission is not None:
            self.record.add_emission(street, snapshot.time_s, snapshot.emission)
        self._publish("realtime", street.name, snapshot)

    def _use_snapshot(self, street: RunningStreet, snapshot: Snapshot) -> None:
        street.snapshot = snapshot
        if street.has_begun:
            street.has_begun = False
            for junction in snapshot.junctions:
                if junction.order is not None:
                    self.orders.find_in_force(street.name, junction.junction, junction.order)
        if snapshot.report is not None:
            street.report = snapshot.report
        is_model = bool(snapshot.models.get("champion"))
        if snapshot.controller not in ("", FIXED_TIME) and not is_model:
            street.controller_ordered = snapshot.controller  # also one ordered before a restart
        if len(street.colours) < len(snapshot.shown):  # groups that have not changed yet
            now = self._now()
            first = {group: (now, colour) for group, colour in enumerate(snapshot.shown)}
            street.colours = first | street.colours
        since_s = snapshot.time_s - street.history_s
        if since_s >= HISTORY_PERIOD_S or since_s < 0.0:  # or the clock is of another run
            self._add_history(street, snapshot)

    def _add_history(self, street: RunningStreet, snapshot: Snapshot) -> None:
        street.history_s = snapshot.time_s
        waits = [j.longest_wait_s for j in snapshot.junctions]
        street.history.append(
            HistoryRow(
                time_s=snapshot.time_s,
                wait_s=sum(waits) / max(len(waits), 1),
                vehicles=snapshot.vehicles,
                stopped=snapshot.stopped,
            )
        )
        for j in snapshot.junctions:
            self.record.add_observation(street, snapshot.time_s, j)

    def _handle_signal_changes(self, street: RunningStreet, message: SignalChanges) -> None:
        if message.changes:
            self._publish_colours(street, message)
        self.record.add_changes(street, message)

    def _publish_colours(self, street: RunningStreet, message: SignalChanges) -> None:
        """By the time of day: the newest change is of now, the others are as long before as the
        speed factor says.
        """
        now, newest_s, speed = self._now(), message.changes[-1][0], message.speed_factor
        changes = [
            (now - (newest_s - at_s) / speed if speed > 0.0 else now, group, colour)
            for at_s, group, colour in message.changes
        ]
        street.colours |= {group: (at, colour) for at, group, colour in changes}
        if self.on_signals is not None:
            self.on_signals(street.name, changes)

    def _handle_event(self, street: RunningStreet, event: Event) -> None:
        if event.kind in START_EVENTS:
            self._handle_start(street, event)
            self.orders.apply(street.name, street.start_order)
            street.start_order = ""
        if event.kind == "engine.scenario":
            street.scenario_ordered = True
        if event.kind in ("engine.controller", "engine.scenario", "engine.order_refused"):
            street.unconfirmed = None
        if event.kind.startswith("alert."):
            _update_alerts(street, event)
        self._follow_orders(street, event)
        self._record_event(street, event)
        self._publish_event(street, event)
        if event.kind in (*START_EVENTS, "engine.scenario"):
            with contextlib.suppress(WorkerError):  # it has died since: asked again when it starts
                street.engine.order(Reporting(scene=True, record=True))
                _repeat_order(street)

    def _follow_orders(self, street: RunningStreet, event: Event) -> None:
        """What an event says of orders that were placed."""
        data = event.data
        match event.kind:
            case "engine.order_applied":
                self.orders.apply(street.name, str(data["id"]))
            case "engine.order_refused" if "id" in data:
                self.orders.refuse(street.name, str(data["id"]), str(data["why"]))
            case "safety.override_expired":
                self.orders.end_overrides(street.name, "its time has passed", event.junction)
            case "safety.override_released":
                why = f"released by {data['by']}"
                self.orders.end_overrides(street.name, why, event.junction)
            case "engine.scenario":
                self.orders.end_overrides(street.name, "another scenario began")

    def _handle_start(self, street: RunningStreet, start: Event) -> None:
        """It is another run if the scenario is another one, or was ordered to start from its
        beginning, or does not go on from where an earlier process was.
        """
        kept, street.kept = street.kept, None
        restarted = street.scenario_ordered and start.kind == "engine.started"
        name = str(start.data["scenario"])
        demand = str(start.data.get("demand", street.demand))
        is_kept = kept is not None and start.kind == "engine.restored"
        goes_on = kept is not None and is_kept and (kept.scenario, kept.demand) == (name, demand)
        if restarted or (name, demand) != (street.scenario, street.demand):
            street.scenario, street.demand = name, demand
            additional = tuple(map(str, start.data.get("additional", ())))
            street.files = NetworkFiles(str(start.data["net"]), additional, start.at_s)
            street.network = read_network(*street.files)
            if not goes_on:
                self.record.begin_run(street, str(start.data.get("controller", "")))
            street.colours.clear()
        elif kept is not None and not goes_on:
            self.record.begin_run(street, str(start.data.get("controller", "")))
        self.record.correct_controller(street, str(start.data.get("controller", "")))
        self.record.rewind(street, start.at_s)
        street.alerts.clear()  # a street that starts numbers its alerts from 1 again
        street.scenario_ordered, street.has_begun = False, True

    def _record_event(self, street: RunningStreet, event: Event) -> None:
        street.events.append(event)
        self.record.add_event(street, event)

    def _publish_event(self, street: RunningStreet, event: Event) -> None:
        data = {
            "at_s": event.at_s,
            "kind": event.kind,
            "junction": event.junction,
            "data": dict(event.data),
        }
        if event.kind.startswith(URGENT):
            self._publish("alerts", street.name, data)
        self._publish("monitoring", street.name, data)

    def _now(self) -> float:
        """Seconds since 1970."""
        return self._clock_ns() / 1e9


@contextlib.contextmanager
def _turn(street: RunningStreet) -> Iterator[None]:
    """To stop or start it. Who waits for its process to end waits for long: others do not wait for
    them. Raises StreetStateError.
    """
    if not street.turn.acquire(timeout=TURN_WITHIN_S):
        raise StreetStateError(
            f"street {street.name!r} is being started: its last process has not ended yet. Ask "
            "again later."
        )
    try:
        yield
    finally:
        street.turn.release()


def _require_scenario(switch: Switch) -> None:
    """Raises ValueError for one that there is not."""
    if switch.scenario:
        network_of(scenario(switch.scenario))


def _switch_in(order: StreetOrder) -> Switch | None:
    """The switch that an order is, or holds."""
    orders = order.orders if isinstance(order, Identified) else (order,)
    return next((o for o in orders if isinstance(o, Switch)), None)


def _repeat_order(street: RunningStreet) -> None:
    """What was ordered while the run before was ending, or its process had hung, is ordered again:
    nobody has obeyed it.
    """
    if (sent := street.unconfirmed) is None or sent.is_sent_to(street.engine):
        return
    street.unconfirmed = Unconfirmed(sent.order, street.engine, street.engine.pid)
    street.engine.order(sent.order)


def _update_alerts(street: RunningStreet, event: Event) -> None:
    number = int(event.data.get("number", 0))
    if event.kind == "alert.closed":
        street.alerts.pop(number, None)
    else:
        street.alerts[number] = {"at_s": event.at_s, **event.data}


def _ignore(topic: str, street: str, message: Any) -> None:
    pass
