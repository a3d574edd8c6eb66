"""The supervised street process, as seen from the process that watches it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from headway.plants.sumo import network_of
from headway.plants.sumo.scenarios import scenario
from headway.runtime import Supervisor
from headway.runtime.supervisor import STOPPED
from headway.safety import Override
from headway.settings import SafetySettings, Settings
from headway.street import load_tries
from headway.street.alerts import alert_rules, rules_on
from headway.street.external.merge import Reported
from headway.street.limits import timing_of
from headway.street.messages import (
    AtJunction,
    ChangeRule,
    Deploy,
    Identified,
    Optimise,
    Pause,
    Release,
    Reporting,
    Reset,
    Rollback,
    RunEnded,
    Snapshot,
    Switch,
    Task,
    Waiting,
)
from headway.street.step_mark import asked_last, hung, set_hung
from headway.values import Event

KILLED = "SIGKILL"  # by somebody, or by the system, which had no memory left
FROM_OUTSIDE = (KILLED, "SIGTERM", STOPPED)  # nothing within the process has ended it
KILLS_BLAMED = 2  # in a row, without a checkpoint in between, while the same one was asked
START_EVENTS = ("engine.started", "engine.restored")
StreetOrder = (
    AtJunction
    | Override
    | Release
    | Reset
    | Optimise
    | Reporting
    | Switch
    | Reported
    | Pause
    | ChangeRule
    | Deploy
    | Rollback
    | Identified
)


def work(*arguments: Any) -> None:
    """What the street's process runs; loaded there, not in the process that watches it."""
    from headway.street.process import work as run_street

    run_street(*arguments)


def _check_alert_rules(settings: Settings) -> None:
    """Raises ValueError for a rule that can never hold on the street. The network is read where a
    rule names a junction.
    """
    rules = alert_rules(settings)
    if any(re.match(r"junctions\.[^*]", rule.path) for rule in rules):
        network = network_of(scenario(settings.street.scenario))
        _, refused = rules_on(settings, [junction.id for junction in network.junctions])
        if refused:
            raise ValueError(f"settings: alerts.rules: {refused[0]}")


class Engine:
    """One street in a process of its own: start, messages, orders, stop. It is started anew from
    the last checkpoint when it dies or hangs.

    is_restarting: its process has ended, and the next one has not started the street yet.

    Raises ValueError for alert rules that no street can fulfil, and for limits that contradict each
    other or are of an unknown junction.
    """

    def __init__(self, task: Task, supervise: Callable[..., Supervisor] = Supervisor) -> None:
        _check_alert_rules(task.settings)
        if task.settings.safety != SafetySettings():
            timing_of(task.settings, network_of(scenario(task.settings.street.scenario)))
        recovery = task.settings.recovery
        self._last_checkpoint_s: float | None = None
        self._folder = Path(recovery.folder)
        self._killed: list[str] = []  # who was asked each time, since the last checkpoint
        self._time_s: float | None = None  # of the newest snapshot
        self.is_restarting = False
        set_hung(self._folder, ())  # whoever hung has another chance
        self._supervisor = supervise(
            work,
            task,
            recovery.silent_s,
            recovery.restarts,
            self._made_progress,
            lives=self._lives,
            on_failure=self._note_failure,
        )

    def _lives(self, message: Any) -> bool:
        """Time goes on, or is not to yet: a street that only talks has hung."""
        if isinstance(message, Event):
            if message.kind in START_EVENTS:
                self.is_restarting = False
            return message.kind in START_EVENTS
        if isinstance(message, Snapshot):
            before, self._time_s = self._time_s, message.time_s
            return message.time_s != before
        return isinstance(message, Waiting | RunEnded)

    def _note_failure(self, why: str) -> None:
        """A process that ended while it asked somebody, by itself, was ended by this step: whoever
        it was is not asked again. So is one that was killed again and again in the same step, as
        happens to a controller that takes all memory. The same of a checkpoint that was being
        loaded.
        """
        self.is_restarting = True
        if not why.endswith(STOPPED):
            load_tries.note_failure(self._folder / load_tries.FOLDER)
        role = asked_last(self._folder)
        self._killed = [*self._killed, role] if why.endswith(KILLED) else []
        is_blamed = self._killed[-KILLS_BLAMED:] == [role] * KILLS_BLAMED
        if role and (is_blamed or not why.endswith(FROM_OUTSIDE)):
            with contextlib.suppress(OSError):  # the next process will hang once more
                set_hung(self._folder, {role, *hung(self._folder)})

    def _made_progress(self, message: Any) -> bool:
        """A checkpoint was written since the last message, so earlier restarts do not count any
        more. The time at which a street starts is not one.
        """
        if isinstance(message, Event) and message.kind in START_EVENTS:
            self._last_checkpoint_s = None
        if not isinstance(message, Snapshot):
            return False
        last_s = self._last_checkpoint_s
        if last_s is not None and message.checkpoint_s <= last_s:
            return False
        self._last_checkpoint_s = message.checkpoint_s
        if last_s is None:
            return False
        self._killed.clear()
        return True

    def messages(self) -> Iterator[Any]:
        """Snapshot, SignalChanges, Event and Restarted as they come; RunEnded at the end. Raises
        WorkerError when the process has failed too often.
        """
        yield from self._supervisor.messages()

    def order(self, order: StreetOrder) -> None:
        """Send an order to the street, which obeys it as soon as it comes, between two ticks.
        Raises WorkerError if no process runs.
        """
        if isinstance(order, Reported):
            self._supervisor.send_data(order)  # a flood of them is not to delay an operator
        else:
            self._supervisor.send(order)

    def stop(self) -> None:
        """Ask the street to write a checkpoint and end."""
        self._supervisor.stop()

    @property
    def pid(self) -> int | None:
        """Process number of the street; None before the start."""
        return self._supervisor.pid
