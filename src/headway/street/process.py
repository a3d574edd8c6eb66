"""The body of the street process: runs one street, records its events, checkpoints it, obeys
orders and follows its settings file.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from headway import telemetry
from headway.compiled_code import is_compiled, is_kept, while_compiling
from headway.control import Controller
from headway.control.catalogue import controller
from headway.control.models import model_controller
from headway.control.planner import Planner
from headway.plants import PlantAwayError, PlantError
from headway.plants.sumo import network_of
from headway.plants.sumo.scenarios import Scenario, demand_of, is_of_catalogue, scenario
from headway.runtime import (
    AlertRule,
    ErrorRecoverySystem,
    Policy,
    RealTimeController,
    RuntimeSettings,
    Strategy,
)
from headway.runtime.streams import Subscription
from headway.runtime.supervisor import Compiling, Inbox, Opening, Outbox
from headway.safety import Override
from headway.settings import Settings, Watched, log_level, overridden
from headway.street import checkpoint
from headway.street.alerts import OrderedRules, alert_rules, rules_on
from headway.street.closed_loop import TIME_TOLERANCE_S, Street
from headway.street.deployed import Deployed
from headway.street.external.merge import Reported
from headway.street.guard import CONTROLLER, FALLBACK, RELIEF, name_of
from headway.street.junction_states import junction_states
from headway.street.messages import (
    AtJunction,
    ChangeRule,
    Deploy,
    Identified,
    JunctionState,
    KnownRule,
    Optimise,
    Pause,
    Release,
    Reporting,
    Reset,
    Rollback,
    RunEnded,
    SignalChanges,
    Switch,
    Task,
    Waiting,
)
from headway.street.opening import open_street
from headway.street.orders import AppliedSettings, Orders, OrderStore, with_orders
from headway.street.permit import Permit
from headway.street.rollout import ROLES, Change
from headway.street.run import LIMITS, StreetRun, open_run, relief_of
from headway.street.step_mark import forget, hung, set_hung

SNAPSHOT_HZ = 10.0  # of wall time, at most
BEATS_SHARE = 0.25  # of recovery.silent_s: a process that waits for its tick says so as often
PAUSED = "paused"  # in the stored orders: by whom
NAMES_ORDERED = ("scenario", "controller")  # what is given up for a street that does not start
WAKE_BEFORE_TICK_S = 0.003  # waiting for orders ends up to 1 ms late; the pacer waits the rest
PERMIT_CHECK_S = 0.05
ORDERS_PER_TICK = 100  # obeyed once a tick is due, so that no flood of them holds it up
ROWS_AS_AN_ORDER = 10  # of observations: 0.3 ms, with ten vehicles each
# libsumo cannot be trusted after a fault: the supervisor starts the process anew
STOP_ON_ANY_FAULT: tuple[tuple[type[BaseException], tuple[Strategy, ...]], ...] = (
    (Exception, (Strategy.STOP,)),
)


def work(outbox: Outbox, inbox: Inbox, task: Task) -> None:
    """The body of the street process, as `headway.runtime.Supervisor` calls it."""
    process = StreetProcess(outbox, inbox, task)
    with while_compiling(lambda: outbox.put(Compiling(), keep=True)):
        process.open()
        gc.freeze()  # docs/decisions/0012-garbage-collection.md
        process.run_to_end()


class ProcessState(Enum):
    """Of a street process."""

    OPENING = "no street yet"
    RUNNING = "a street is under way"
    STOPPED = "asked to end before the run was finished; a checkpoint is left"
    FINISHED = "the run is finished; nothing is left to resume"


class StreetProcess:
    """One street from its last checkpoint, or from its beginning, to its end.

    `open` it once, then `run_to_end`. Each turn obeys orders until the tick is due, ticks,
    publishes a snapshot when one is due and then looks whether the settings file changed.

    settings:  in force now: the task's, or those of the file that is followed. What operators
        ordered is kept apart, in `orders.json`, and takes precedence when a street is opened.
    run, loop: the street of the moment and the real-time loop that drives it; another scenario
        replaces both, other settings the loop.
    make_loop, open_street: given by tests.
    """

    run: StreetRun
    loop: RealTimeController

    def __init__(
        self,
        outbox: Outbox,
        inbox: Inbox,
        task: Task,
        make_loop: Callable[..., RealTimeController] = RealTimeController,
        open_street: Callable[..., Street] = open_street,
    ) -> None:
        self._outbox = outbox
        self._inbox = inbox
        self._task = task
        self._make_loop = make_loop
        self._open_street = open_street
        self._applied = AppliedSettings(Path(task.settings.recovery.folder))
        self._watched = (
            Watched(
                task.path,
                task.changes,
                task.defaults,
                alert_rules,
                instead=self._applied.over(task.settings),
            )
            if task.path
            else None
        )
        self.settings = self._watched.current if self._watched else task.settings
        self.state = ProcessState.OPENING
        self._end_s = math.inf
        self._snapshots: Subscription
        self._files = ""  # of the scenario as it was opened, see `_files_of`
        self._paused_by = ""  # the operator by whose order time stands

        folder = Path(self.settings.recovery.folder)
        self._folder = folder
        self._permit = Permit(folder) if task.needs_permit else None
        self._orders = OrderStore(folder / "orders.json", self._current_task().key())
        self._ordered_rules = OrderedRules(folder)
        self._known_rules: tuple[KnownRule, ...] = ()

    # --- phases ---

    def open(self) -> None:
        """Start the street and its loop. Raises ValueError or OSError if the scenario cannot be
        started.
        """
        self._set_up_logs()
        if not is_compiled():
            telemetry.log("street").info("compiling: the first start takes a minute or two")
        self._use_run(self._open_first_run())
        if not is_kept("control", "alternatives"):
            self._compile_alternatives()
        if paused_by := str(self._orders.load().get(PAUSED, "")):
            self._paused_by = paused_by
            self.run.record("engine.paused", {"by": paused_by})
        if self._watched is not None:
            self._applied.store(self.settings)
            if self._watched.fault:
                self.run.record("engine.settings_refused", {"fault": self._watched.fault})
        if fault := self._ordered_rules.fault:
            self.run.record("engine.orders_unreadable", {"why": fault})
        self.state = ProcessState.RUNNING

    def _compile_alternatives(self) -> None:
        """What a shadow is compared by: now, and not once it is deployed, when signals would wait
        for the compiler.
        """
        street = self.run.street
        for who in (street.controller, street.relief):
            if isinstance(who, Planner):
                who.predicted_delay_s(street.observation, who.start(street.observation), 0)
                return

    def _open_first_run(self) -> StreetRun:
        """By the orders; without a scenario or controller that was ordered before and cannot be had
        any more, and without an order that is not allowed.
        """
        unreadable, left = self._orders.put_aside_unreadable(), self._orders.of_another_task()
        not_stored = list[str]()
        refused = self._drop_orders_not_allowed(not_stored)
        while True:
            ordered = with_orders(self.settings, self._orders.load())
            self.settings = _with_loop(self.settings, ordered)
            try:
                run = self._open_run(ordered, resume=True)
                break
            except PlantAwayError:  # whatever was ordered is not the reason
                raise
            except (ValueError, OSError, PlantError) as error:
                orders = self._orders.load()
                name = next((name for name in NAMES_ORDERED if name in orders), "")
                if not name:
                    raise
                self._give_up(name, not_stored)
                refused.append({"order": f"{name} {orders[name]}", "why": str(error)})
        self._keep_deployed(refused, run)
        if unreadable:
            about = {"why": unreadable, "kept_as": str(self._orders.aside)}
            run.record("engine.orders_unreadable", about)
        if left is not None:
            run.record("engine.orders_left", left)
        for about in refused:
            run.record("engine.order_refused", about)
        for why in not_stored:
            run.record("engine.order_not_stored", {"error": why})
        self._take_up_overrides(run)
        return run

    def _keep_deployed(self, refused: list[dict[str, str]], run: StreetRun) -> None:
        """The models that could be had; the others are refused."""
        refused += run.street.rollout.refused
        if run.street.rollout.refused:
            with self._disk_may_fail(run):
                self._orders.store_deployed(run.street.rollout.deployed)

    def _give_up(self, order: str, not_stored: list[str]) -> None:
        """No longer in force; why the disk took no note of it goes into `not_stored`."""
        try:
            self._orders.give_up(order)
        except OSError as error:
            not_stored.append(str(error))

    def _drop_orders_not_allowed(self, not_stored: list[str]) -> list[dict[str, str]]:
        """Each with the reason: one that cannot be taken does not take the others along."""
        refused = []
        for name, value in self._orders.load().items():
            try:
                with_orders(self.settings, {name: value})
            except ValueError as error:
                self._give_up(name, not_stored)
                refused.append({"order": f"{name} {value}", "why": str(error)})
        return refused

    def _take_up_overrides(self, run: StreetRun) -> None:
        """Operators' orders at junctions as they were when the process before this one ended: those
        of the checkpoint are as old as it is.
        """
        if (known := self._orders.overrides(run.key, run.street.network)) is None:
            return
        gate, now_s = run.street.gate, run.time_s
        for junction in range(len(run.street.network.junctions)):
            override = known.get(junction)
            try:
                if override is None:
                    gate.release(junction, "restart", now_s)
                elif override.until_s > now_s and override != gate.overrides.get(junction):
                    gate.order(override, now_s)
            except ValueError as error:
                run.record("engine.order_refused", {"order": repr(override), "why": str(error)})
        run.street.record_gate_events()

    def run_to_end(self) -> None:
        """Until the run is finished or a stop is requested; the street is closed, however it
        ends. Raises StoppedError after a fault, PermitError where it may not drive any more.
        """
        try:
            while self.state is ProcessState.RUNNING:
                self._turn()
        finally:
            self.run.close()

    def _turn(self) -> None:
        if self._at_end():
            self._finish()
            return
        if self._paused_by:
            self._stand()
            return
        self._obey_until_tick()
        if self.state is ProcessState.RUNNING and not self._paused_by:
            if self._permit is not None and not self._permit.is_due():
                self._wait_for_permit()
                return
            self.loop.tick(self._end_s)
            self._publish()

    def _wait_for_permit(self) -> None:
        """Whoever drove before may do so for a moment yet."""
        self._outbox.put(Waiting(self.run.time_s))
        time.sleep(PERMIT_CHECK_S)

    def _stand(self) -> None:
        """Until time goes on again: orders are obeyed and the settings file is followed, but no
        tick begins.
        """
        self._put_snapshot(junction_states(self.run.street), keep=True)
        beat_s = BEATS_SHARE * self.settings.recovery.silent_s
        while self.state is ProcessState.RUNNING and self._paused_by:
            if self._inbox.poll(beat_s):
                order = self._next_order()
                self._obey(order)
                if self.state is ProcessState.RUNNING and not isinstance(order, Reported):
                    self._put_snapshot(junction_states(self.run.street), keep=True)
            if self.state is ProcessState.RUNNING:
                self._outbox.put(Waiting(self.run.time_s))
                self._follow_settings()

    def _obey_until_tick(self) -> None:
        """Obey each order as it comes until the next tick is due, then those that wait."""
        overdue = 0
        beat_s = BEATS_SHARE * self.settings.recovery.silent_s
        while self.state is ProcessState.RUNNING and overdue < ORDERS_PER_TICK:
            wait_s = max(self.loop.pacer.due_in_s - WAKE_BEFORE_TICK_S, 0.0)
            if self._inbox.poll(min(wait_s, beat_s)):
                order = self._next_order()
                self._obey(order)
                if not wait_s:
                    rows = order.row_count if isinstance(order, Reported) else 0
                    overdue += 1 + rows // ROWS_AS_AN_ORDER
            elif wait_s <= beat_s:
                return
            else:
                self._outbox.put(Waiting(self.run.time_s))
                self._follow_settings()  # they may end the wait

    def _next_order(self) -> Any:
        """None, to stop and keep the state, where the parent was killed."""
        try:
            return self._inbox.recv()
        except EOFError:
            return None

    def _at_end(self) -> bool:
        """A scenario without an end ends with its last vehicle."""
        if math.isfinite(self._end_s):
            return self.run.time_s >= self._end_s - TIME_TOLERANCE_S
        return not self.run.running

    def _finish(self) -> None:
        """Nothing of a finished run is resumed."""
        self._put_snapshot(junction_states(self.run.street), keep=True)
        self._outbox.put(RunEnded(self.run.time_s, finished=True), keep=True)
        checkpoint.clear(self.run.checkpoints)
        with self._disk_may_fail():
            forget(self._folder)
            self._applied.clear()
            self._orders.forget_overrides()
            if not self._task.repeats:
                self._orders.clear()
        self.state = ProcessState.FINISHED

    def _stop(self) -> None:
        self.loop.checkpoint()
        time_s = self.run.time_s
        lost_s = time_s - self.loop.last_checkpoint_s
        self._outbox.put(RunEnded(time_s, finished=False, lost_s=lost_s), keep=True)
        self.state = ProcessState.STOPPED

    # --- what is reported ---

    def _publish(self) -> None:
        """A snapshot, if the loop's stream has one; the settings file is looked at as often. A
        canary that has ended by itself has ended for the next process too.
        """
        if self.run.street.rollout.take_end():
            with self._disk_may_fail():
                self._orders.end_canary()
                self._orders.store_deployed(self.run.street.rollout.deployed)
        for message in self._snapshots.take():
            self._put_snapshot(message.values["states"])
            self._follow_settings()

    def _put_snapshot(self, junctions: tuple[JunctionState, ...], keep: bool = False) -> None:
        self._put_signal_changes()
        snapshot = self.run.snapshot(self.loop, junctions)
        snapshot = replace(
            snapshot,
            paused_by=self._paused_by,
            rules=self._known_rules,
            settings_fault=self._watched.fault if self._watched is not None else "",
        )
        self._outbox.put(snapshot, keep=keep)

    def _put_signal_changes(self) -> None:
        """What was collected, with the speed factor at which it was collected."""
        changes, actuations = self.run.street.signal_log.take()
        if changes or actuations:
            message = SignalChanges(self.settings.loop.speed_factor, changes, actuations)
            self._outbox.put(message, keep=True)

    # --- settings that are followed ---

    def _follow_settings(self) -> None:
        """Put what changed in the settings file in force. What is refused there is recorded, and
        changes nothing.
        """
        if self._watched is None:
            return
        known_fault, waited = self._watched.fault, self._watched.waiting
        of_file = self._watched.current
        changed = self._watched.refresh()
        fault = self._watched.fault
        if fault and fault != known_fault:
            self.run.record("engine.settings_refused", {"fault": fault})
        if (waiting := self._watched.waiting) != waited:
            self.run.record("engine.settings_waiting", {"sections": list(waiting)})
        if changed:
            before, self.settings = self.settings, self._watched.current
            orders = self._orders.load()
            if "loop" in changed:  # the file spoke last
                orders = {k: v for k, v in orders.items() if k not in ("cycle_s", "speed_factor")}
            try:
                self.settings = _with_loop(self.settings, with_orders(self.settings, orders))
                self._refuse_new_rules(before)
                self._apply_settings(before)
                if "loop" in changed:
                    self._drop_orders("cycle_s", "speed_factor")
            except (ValueError, OSError, PlantError) as error:  # they do not fit this street
                self.settings = before
                self._watched.refuse(of_file, str(error))
                if str(error) != known_fault:
                    self.run.record("engine.settings_refused", {"fault": str(error)})
                return
            self._applied.store(self.settings)
            by = name_of(self.run.street.controller)
            self.run.record("engine.settings", {"changed": list(changed), "controller": by})
            self._use_new_loop()

    def _rules(self, settings: Settings) -> tuple[tuple[AlertRule, ...], tuple[str, ...]]:
        """See `alerts.rules_on`: of the street of the moment, those that were ordered too."""
        return rules_on(self._ordered_rules.beside(settings), self._junctions())

    def _junctions(self) -> list[str]:
        return [junction.id for junction in self.run.street.network.junctions]

    def _refuse_new_rules(self, before: Settings) -> None:
        """Raises ValueError for an alert rule that can never hold on this street and that was not
        there before: one that was is of another scenario.
        """
        known = self._rules(before)[1]
        new = [fault for fault in self._rules(self.settings)[1] if fault not in known]
        if new:
            raise ValueError(new[0])

    def _apply_settings(self, before: Settings) -> None:
        """Logs, street and controllers; the loop is made anew afterwards. Raises ValueError,
        OSError or PlantError, with nothing changed, for a controller that cannot be had for this
        street, or a tick that does not fit its simulation.
        """
        new, street = self.settings, self.run.street
        street.plant.steps_in(new.loop.tick_s)
        relief_name = relief_of(new)
        is_another = new.control.controller != before.control.controller
        # whoever cannot be had is found out before anything is changed
        fallback = self._anew(street.fallback, new.control.fallback, before)
        relief = self._anew(street.relief, relief_name, before) if relief_name else None
        decides = (
            self._controller(new.control.controller)
            if is_another
            else self._anew(street.controller, name_of(street.controller), before)
        )

        self._set_up_logs()
        self.run.tick_s = new.loop.tick_s
        street.cycle_s = new.loop.cycle_s
        street.trust.threshold = new.control.confidence
        for guard in street.guards.values():
            guard.within_s = new.control.step_within_s
        if fallback is not None:
            street.set_fallback(fallback)
            self._is_well(FALLBACK)
        if relief is not None or (street.relief is not None and not relief_name):
            street.set_relief(relief)
            self._is_well(RELIEF)
        if decides is not None:
            street.set_controller(decides)
            self._is_well(CONTROLLER)
        if is_another:
            self._drop_orders("controller")  # the file spoke last, for the next process too
            self._end_champions(new.control.controller)
            self._move_run()

    def _anew(self, present: Controller | None, name: str, before: Settings) -> Controller | None:
        """The controller `name` in place of `present`, by the settings in force; None where that
        has this name, and its figures are as `before`. Raises ValueError if it cannot be had.
        """
        if present is None or name_of(present) != name:
            return self._controller(name)
        if not _figures_changed(present, before, self.settings):
            return None
        street = self.run.street
        champion = street.rollout.deployed.champion
        if champion is None or champion.label != name:
            return self._controller(name)
        found = model_controller(champion, street.network, street.gate.timing, self.settings)
        street.rehearse(found)
        return found

    def _move_run(self) -> None:
        """The settings' controller is part of the run's key: the run goes on under the new one."""
        ordered = with_orders(self.settings, self._orders.load())
        with self._disk_may_fail():
            self._orders.rename(self._current_task().key())
        try:
            self.run.move_checkpoints(self._key_of(ordered))
        except OSError as error:
            self.run.record("runtime.checkpoint_failed", {"error": str(error)})

    def _is_well(self, role: str) -> None:
        """Who has this role now is another one than the one that hung, if one did."""
        with self._disk_may_fail():
            set_hung(self._folder, set(hung(self._folder)) - {role})

    def _drop_orders(self, *names: str) -> None:
        with self._disk_may_fail():
            self._orders.drop(*names)

    @contextlib.contextmanager
    def _disk_may_fail(self, run: StreetRun | None = None) -> Iterator[None]:
        """What has been done holds in this process even if it cannot be kept for the next one,
        which is recorded. run: instead of the present one.
        """
        try:
            yield
        except OSError as error:
            (run or self.run).record("engine.order_not_stored", {"error": str(error)})

    # --- orders ---

    def _obey(self, order: Any) -> None:
        """Obey between two ticks; None asks to stop. The event says at which simulated time an
        order came into force, or why it was refused.
        """
        self._put_signal_changes()
        if order is None:
            self._stop()
            return
        if isinstance(order, Identified):
            self._obey_all(order.orders, {"id": order.id})
        else:
            self._obey_all((order,), {})
        self.run.recorder.log.flush()

    def _obey_all(self, orders: tuple[Any, ...], about: Mapping[str, str]) -> None:
        """Until one is refused. about: what the event says of them; nothing where nobody waits for
        an answer.
        """
        for order in orders:
            try:
                self._carry_out(order)
            except (ValueError, OSError) as error:
                refused = {"order": repr(order), "why": str(error), **about}
                self.run.record("engine.order_refused", refused)
                return
        if about:
            self.run.record("engine.order_applied", about)

    def _carry_out(self, order: Any) -> None:
        """Raises ValueError or OSError for an order that cannot be obeyed; nothing has changed
        then.
        """
        gate, now_s = self.run.street.gate, self.run.time_s
        match order:
            case AtJunction():
                self._carry_out(self._by_number(order))
            case Override():
                gate.order(order, now_s)
                self._store_overrides()
            case Release():
                gate.release(order.junction, order.by, now_s)
                self._store_overrides()
            case Reset():
                gate.reset(order.junction, order.by, now_s)
                self.run.street.record_gate_events()
            case Reported():
                if self.run.street.external.take(order, now_s):
                    self.run.street.serve_claims()
            case Reporting():
                self.run.reporting = order
                self.run.street.signal_log.enabled = order.record
            case Optimise():
                self._optimise(order)
            case Switch():
                self._switch(order)
            case Pause():
                self._pause(order)
            case ChangeRule():
                self._change_rule(order)
            case Deploy():
                self._deploy(order)
            case Rollback():
                self._roll_back(order)
            case _:
                raise ValueError(
                    f"no order of the kind {type(order).__name__}. There are: Override, Release, "
                    "Reset, Optimise, Reported, Reporting, Switch, Pause, ChangeRule, Deploy, "
                    "Rollback."
                )

    def _by_number(self, order: AtJunction) -> Override | Release | Reset:
        """The same order by the street's own numbers and clock. Raises ValueError."""
        names = self._junctions()
        if order.junction not in names:
            raise ValueError(f"no junction {order.junction!r} in {self.run.scenario.name}")
        number, of = names.index(order.junction), order.order
        if isinstance(of, Override):
            return replace(of, junction=number, until_s=self.run.time_s + order.lasts_s)
        return replace(of, junction=number)

    def _store_overrides(self) -> None:
        """For the next process, whatever its checkpoint knows; the order holds in this one even if
        the disk fails, which is recorded.
        """
        street = self.run.street
        street.record_gate_events()
        with self._disk_may_fail():
            self._orders.store_overrides(self.run.key, street.network, street.gate.overrides)

    def _optimise(self, order: Optimise) -> None:
        """Another optimisation cycle or speed factor from now on."""
        changes = order.changes()
        settings = overridden(self.settings, {"loop": changes})
        self._orders.add(order)
        self.settings = settings
        self.run.street.cycle_s = self.settings.loop.cycle_s
        self.run.record("engine.settings", {"changed": list(changes), **changes})
        self._use_new_loop()

    def _change_rule(self, order: ChangeRule) -> None:
        """One alert rule; the alerts of the others stay as they are."""
        if order.name in {rule.name for rule in self.settings.alerts.rules}:
            raise ValueError(
                f"the alert rule {order.name!r} stands in the settings: change it there"
            )
        if order.rule is None:
            self._ordered_rules.remove(order.name)
        else:
            self._ordered_rules.put(order.rule, self._junctions())
        self.run.record("engine.settings", {"changed": ["alerts"], "rule": order.name})
        self._use_new_loop()

    def _pause(self, order: Pause) -> None:
        """Time stands, or goes on; the next process does the same."""
        if bool(order.by) == bool(self._paused_by):
            return
        if order.by:
            self._orders.save(self._orders.load() | {PAUSED: order.by})
            self.loop.checkpoint()
            self.run.record("engine.paused", {"by": order.by})
        else:
            self._orders.drop(PAUSED)
            self.run.record("engine.resumed", {"paused_by": self._paused_by})
            self._use_new_loop()  # ticks fall due from now on, none from meanwhile
        self._paused_by = order.by

    def _switch(self, order: Switch) -> None:
        """Another controller at once, or another scenario from its beginning. What cannot be is
        refused before anything is given up.
        """
        before, orders = self._orders.load(), self._orders.with_switch(order)
        settings = with_orders(self.settings, orders)
        deployed = self.run.street.rollout.deployed
        if order.optimise and (deployed.champions or deployed.resting):
            self._optimise_by_model(deployed, orders)
            return
        if order.scenario:
            of_scenario = scenario(order.scenario)
            self._outbox.put(Opening(), keep=True)  # of a large network, from here on
            self.loop.checkpoint()  # if the other one does not start, this one goes on from here
            network_of(of_scenario)
        after = deployed.without_champions(they_rest=order.optimise is False)
        is_of_street = bool(order.controller) and not order.scenario
        self._orders.save(orders, after if is_of_street else None)
        if order.scenario:
            self._switch_scenario(order.scenario, settings, before)
        elif order.controller:
            self.run.street.set_controller(self._controller(order.controller))
            self._is_well(CONTROLLER)
            self.run.record("engine.controller", {"controller": order.controller})
            self._end_champions(order.controller, after)

    def _optimise_by_model(self, deployed: Deployed, orders: Orders) -> None:
        """The optimisation is on: by the champion, or by the one that rests. Raises OSError."""
        street, after, lost = self.run.street, deployed, dict[str, str]()
        if not deployed.champions:
            settings = with_orders(self.settings, orders)
            champion, after, lost = self._champion_of(deployed.with_resting(), settings)
            self._orders.save(orders, after)
            street.set_controller(champion)
            self._is_well(CONTROLLER)
        about = {"controller": name_of(street.controller)} | ({"lost": lost} if lost else {})
        self.run.record("engine.controller", about)
        if after != deployed:
            self._end_champions(name_of(street.controller), after)
            if after.champion is not None:
                self._record_deployed(Deploy("all", after.champion))

    def _switch_scenario(self, name: str, settings: Settings, before: Orders) -> None:
        """Raises RuntimeError if it does not start: there is no street left, so the next process
        goes on with what ran before, by the orders of `before`.
        """
        self.run.record("engine.scenario", {"scenario": name})
        with self._disk_may_fail():
            self._orders.forget_overrides()
        self.run.close()
        self._outbox.put(Opening(), keep=True)
        try:
            run = self._open_run(settings, resume=False)
        except Exception as error:
            self._orders.save(before)  # or every process to come would try it again
            raise RuntimeError(f"scenario {name!r} does not start: {error}") from error
        for left in (self.run.checkpoints, run.checkpoints):  # given up, or of an earlier run
            checkpoint.clear(left)
        self._use_run(run)
        with self._disk_may_fail():
            self._orders.store_deployed(Deployed())  # they were of the street before

    # --- models

    def _deploy(self, order: Deploy) -> None:
        """Raises ValueError, with nothing changed, for a model that cannot decide here."""
        street = self.run.street
        change = street.rollout.prepared(order, street.gate.timing, self.settings, street.fault_of)
        self._use_models(change)
        if order.mode == "all":
            assert change.controller is not None
            street.set_controller(change.controller)
        self._is_well(ROLES[order.mode])
        self._record_deployed(order)

    def _record_deployed(self, order: Deploy) -> None:
        data: dict[str, Any] = {
            "mode": order.mode,
            "model": order.model.label,
            "kind": order.model.kind,
            "sha256": order.model.sha256,
            "junctions": list(order.junctions),
            "by": order.by,
        }
        if order.mode == "all":
            data["controller"] = order.model.label
        self.run.record("engine.model_deployed", data)

    def _roll_back(self, order: Rollback) -> None:
        """Raises ValueError where there is nothing to roll back; nothing has changed then."""
        street, before = self.run.street, self.run.street.rollout.deployed
        street.rollout.check(order)
        after = before.with_rollback(order)
        data: dict[str, Any] = {"what": order.what, "junctions": list(order.junctions)}
        data["by"] = order.by
        if order.what != "deploy":
            ended = before.canary if order.what == "canary" else before.shadow
            assert ended is not None
            self._use_models(Change(after))
            self.run.record("engine.model_rolled_back", data | {"model": ended.model.label})
            return
        assert before.champion is not None
        settings = with_orders(self.settings, self._orders.load())
        champion, after, lost = self._champion_of(after, settings)
        self._use_models(Change(after))
        street.set_controller(champion)
        self._is_well(CONTROLLER)
        data |= {"model": before.champion.label, "controller": name_of(champion)}
        self.run.record("engine.model_rolled_back", data | ({"lost": lost} if lost else {}))

    def _champion_of(
        self, deployed: Deployed, settings: Settings
    ) -> tuple[Controller, Deployed, dict[str, str]]:
        """(the newest champion that can be had, else the controller of `settings`; what is deployed
        then; of those that cannot be had, why).
        """
        street, lost = self.run.street, dict[str, str]()
        while (model := deployed.champion) is not None:
            try:
                timing = street.gate.timing
                champion = model_controller(model, street.network, timing, self.settings)
                if fault := street.fault_of(champion, CONTROLLER):
                    raise ValueError(fault)
                return champion, deployed, lost
            except ValueError as error:
                lost[model.label] = str(error)
                deployed = replace(deployed, champions=deployed.champions[:-1])
        return self._controller(settings.control.controller), deployed, lost

    def _end_champions(self, controller: str, after: Deployed | None = None) -> None:
        """A controller of the catalogue was ordered, or the settings' is another one: it decides
        everywhere. after: what is deployed then.
        """
        before = self.run.street.rollout.deployed
        after = before.without_champions() if after is None else after
        if after == before:
            return
        with self._disk_may_fail():
            self._orders.store_deployed(after)
        self._use_models(Change(after), store=False)
        for what, ended in (("deploy", before.champion), ("canary", before.canary)):
            model = ended.model if isinstance(ended, Deploy) else ended
            if model is not None:
                data = {"what": what, "model": model.label, "junctions": [], "by": ""}
                self.run.record("engine.model_rolled_back", data | {"controller": controller})

    def _use_models(self, change: Change, store: bool = True) -> None:
        """From the next tick on, and for the next process. Raises OSError, with nothing changed."""
        street = self.run.street
        if store:
            self._orders.store_deployed(change.deployed)
        street.rollout.use(change, street.observation, street.gate.faults)

    # --- the street of the moment ---

    def _set_up_logs(self) -> None:
        """Each street has a folder of its own below that of the settings. One that cannot be made
        does not end the street: its lines go to standard error alone.
        """
        log, level = self.settings.log, log_level(self.settings)
        folder = str(Path(log.folder) / self._task.name) if log.folder else ""
        try:
            telemetry.set_up(level, log.json_lines, folder)
        except OSError as error:
            telemetry.set_up(level, log.json_lines)
            telemetry.log("street").error("no log files", folder=folder, error=str(error))

    def _current_task(self) -> Task:
        return replace(self._task, settings=self.settings)

    def _controller(self, name: str) -> Controller:
        """Compiled before it decides: within a tick that would count as a slow step."""
        street = self.run.street
        found = controller(name, street.network, street.gate.timing, self.settings)
        street.rehearse(found)
        return found

    def _open_run(self, settings: Settings, resume: bool) -> StreetRun:
        self._files = _files_of(scenario(settings.street.scenario))
        deployed = self._orders.deployed() if resume else Deployed()
        return open_run(
            task=replace(self._task, settings=settings),
            key=self._key_of(settings),
            outbox=self._outbox,
            resume=resume,
            open_street=self._open_street,
            deployed=deployed if deployed != Deployed() else None,
        )

    def _key_of(self, ordered: Settings) -> str:
        """Of a run by these settings. A controller that was ordered is no other run; one's own
        network or routes that have changed since make another, which SUMO's state does not fit.
        """
        settings = ordered.model_copy(update={"control": self.settings.control})
        name = scenario(ordered.street.scenario).name
        key = f"{name} {replace(self._task, settings=settings).key()}"
        return checkpoint.key_with_files(key, self._files)

    def _use_run(self, run: StreetRun) -> None:
        self.run = run
        self._end_s = min(self._task.until_s, run.scenario.end_s)
        for fault in self._rules(self.settings)[1]:
            run.record("engine.settings_refused", {"fault": fault})
        self._use_loop(self._loop_of_run())

    def _use_new_loop(self) -> None:
        """The settings changed: a loop by the new ones, which continues the work of the one
        before.
        """
        loop = self._loop_of_run()
        loop.continue_from(self.loop)
        self._use_loop(loop)

    def _use_loop(self, loop: RealTimeController) -> None:
        self.loop = loop
        self._known_rules = self._ordered_rules.known(self.settings, self._junctions())
        self.run.street.external.speed_factor = self.settings.loop.speed_factor
        self._snapshots = loop.streams.subscribe(
            "snapshots", SNAPSHOT_HZ, policy=Policy.LATEST_ONLY
        )

    def _loop_of_run(self) -> RealTimeController:
        s = self.settings
        runtime = RuntimeSettings(
            period_s=s.loop.tick_s,
            speed_factor=s.loop.speed_factor,
            overrun=s.loop.overrun,
            mode=s.loop.mode,
            gather=False,
            checkpoint_s=s.recovery.checkpoint_s,
            limits=LIMITS,
            rules=self._rules(s)[0],
        )
        report = partial(_record_of_loop, self.run)
        recovery = ErrorRecoverySystem(STOP_ON_ANY_FAULT)
        return self._make_loop(self.run, runtime, report, recovery)


def _record_of_loop(run: StreetRun, at_s: float, kind: str, data: Mapping[str, Any]) -> None:
    """What the real-time loop reports is recorded as an event of the street."""
    run.record(kind, data, at_s)


def _files_of(of: Scenario) -> str:
    """A digest of one's own files; empty for a scenario of the catalogue."""
    return "" if is_of_catalogue(of) else demand_of(of).rpartition("@")[2]


def _with_loop(settings: Settings, ordered: Settings) -> Settings:
    """`settings` with the section `loop` as it was ordered."""
    return settings.model_copy(update={"loop": ordered.loop})


def _figures_changed(controller: Controller, before: Settings, new: Settings) -> bool:
    """Of a controller that has figures in the settings; a planner knows the tick too."""
    section = name_of(controller).replace("-", "_")
    is_other_tick = isinstance(controller, Planner) and before.loop.tick_s != new.loop.tick_s
    return is_other_tick or getattr(before, section, None) != getattr(new, section, None)
