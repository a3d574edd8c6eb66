"""What streets report, as rows of the database: their runs, and what happened in each."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from headway import telemetry
from headway.roads.network import Kind
from headway.service.kept_run import NUMBERS_AHEAD, KeptRun, keep_run, kept_run
from headway.service.running_street import RunningStreet
from headway.store import Intake, Recorder
from headway.store.intake import CONTROLLER, REWOUND
from headway.store.spool import Backlog
from headway.street.messages import JunctionState, SignalChanges
from headway.telemetry.plain import plain
from headway.values import Event

KMH_PER_MPS = 3.6


class StreetRecord:
    """Of the streets of one process; a street that is a process of its own has its own.

    intake:     the database; None to record nothing.
    keeps_runs: a street that goes on from a checkpoint of an earlier process goes on in its run.
    clock_ns:   wall clock.
    """

    def __init__(
        self, intake: Intake | None, keeps_runs: bool, clock_ns: Callable[[], int]
    ) -> None:
        self._intake = intake
        self._keeps_runs = keeps_runs
        self._clock_ns = clock_ns
        self.recorder = Recorder(intake) if intake is not None else None
        self._log = telemetry.log("engine")

    def close(self) -> None:
        """Write what is left to the database."""
        if self.recorder is not None:
            self.recorder.close()

    @property
    def trouble(self) -> str:
        """Why rows do not reach the database; empty where they do."""
        if self._intake is None or self.recorder is None:
            return ""
        return self.recorder.trouble or self._intake.trouble

    @property
    def backlog(self) -> Backlog:
        """Rows that wait on disk for the database."""
        return Backlog() if self._intake is None else self._intake.spool.backlog()

    # --- runs

    def begin_run(self, street: RunningStreet, controller: str = "") -> None:
        """A new run, with its pedestrian crossings. controller: who decides at its begin; empty for
        who decides now.
        """
        street.history.clear()
        street.flows.clear()
        street.run, street.run_over = 0, False
        street.recorded_controller = controller or street.controller
        if self._intake is None:
            return
        # of many machines, whose clocks may begin at the same second: chance tells them apart
        unique = f"{self._clock_ns()} {secrets.token_hex(4)}"
        street.run_key = f"{street.name} {street.task.key()} {unique}"
        street.run = self._number_of(street, street.demand, street.recorded_controller)
        for group, signal_group in enumerate(street.network.groups):
            if signal_group.kind == Kind.PEDESTRIAN:
                self._record(street, "crossing", (street.run, *street.place(group)))
        self._keep_run(street)

    def find_kept_run(self, street: RunningStreet) -> None:
        """The run that the process before was in, if one is kept; it is `street.kept` then. None is
        where the record has events of it that the folder does not know: another folder has gone on
        in it, and what is added under their numbers would be dropped.
        """
        if not self._keeps_runs or (kept := kept_run(street.task)) is None:
            return
        street.run_key = kept.run_key
        number = self._number_of(street, kept.demand, street.controller)
        if self._intake is not None and self._intake.newest_event(number) >= kept.events:
            self._log.warning(
                "the data folder is older than the record; a new run begins",
                street=street.name,
                run=number,
            )
            return
        street.kept, street.run, street.run_over = kept, number, False
        street.events_recorded = street.events_kept = kept.events

    def end_run(self, street: RunningStreet) -> None:
        """The next process does not go on in it."""
        if self._keeps_runs:
            keep_run(street.task, None)

    def correct_number(self, street: RunningStreet) -> None:
        """Of a run that began while the database was away, once that knows it."""
        if street.run < 0 and self._intake is not None:
            street.run = self._intake.run_number(street.run)

    def correct_controller(self, street: RunningStreet, controller: str) -> None:
        """A run is recorded before its engine says who decides: an order of before may be in force
        again. The first start of a run counts, not what is ordered later.
        """
        before, street.recorded_controller = street.recorded_controller, ""
        if before and controller not in ("", before):
            self._record(street, CONTROLLER, (street.run, controller))

    def rewind(self, street: RunningStreet, at_s: float) -> None:
        """Its process begins, or goes on, at `at_s`: what was recorded of signals, detectors and
        figures from then on is not what has happened in this run. Events stay, by their numbers.
        """
        self._record(street, REWOUND, (street.run, at_s))

    def _number_of(self, street: RunningStreet, demand: str, controller: str) -> int:
        """Of the run with the street's `run_key`; a database that does not know it, as after a
        restore, is given it. 0 without a database.
        """
        if self._intake is None:
            return 0
        s = street.task.settings.street
        return self._intake.begin_run(
            street.run_key, demand, controller, s.seed, street.name, s.scale
        )

    def _keep_run(self, street: RunningStreet) -> None:
        """For the next process."""
        if not self._keeps_runs or not street.run_key:
            return
        street.events_kept = street.events_recorded + NUMBERS_AHEAD
        kept = KeptRun(
            street.run_key, street.task.key(), street.scenario, street.demand, street.events_kept
        )
        keep_run(street.task, kept)

    # --- rows

    def _record(self, street: RunningStreet, table: str, row: tuple[Any, ...]) -> None:
        if self.recorder is not None and street.remote is None:
            self.recorder.put(table, row)

    def add_event(self, street: RunningStreet, event: Event) -> None:
        """With the street's next number."""
        street.events_recorded += 1
        if self._keeps_runs and street.events_recorded >= street.events_kept:
            self._keep_run(street)
        row = (street.run, street.events_recorded, event.at_s, event.kind, event.junction)
        self._record(street, "event", (*row, json.dumps(plain(event.data))))

    def add_emission(self, street: RunningStreet, time_s: float, row: tuple[Any, ...]) -> None:
        self._record(street, "emission", (street.run, time_s, *row))

    def add_changes(self, street: RunningStreet, message: SignalChanges) -> None:
        """Of signals and of detectors."""
        for table, changes in (
            ("signal_state", message.changes),
            ("detector_state", message.actuations),
        ):
            for at_s, group, state in changes:
                self._record(street, table, (street.run, at_s, *street.place(group), state))

    def add_observation(self, street: RunningStreet, time_s: float, now: JunctionState) -> None:
        """Of one junction; its flow is since the observation before."""
        passed, throughput = flow(street.flows.get(now.junction), now)
        street.flows[now.junction] = now
        row = (
            street.run,
            time_s,
            now.junction,
            now.vehicles,
            now.stopped,
            now.longest_wait_s,
            now.confidence,
            datetime.fromtimestamp(self._clock_ns() / 1e9, UTC).isoformat(),
            now.mean_wait_s,
            None if now.mean_speed_mps is None else now.mean_speed_mps * KMH_PER_MPS,
            passed,
            throughput,
            now.factors.get("performance"),
        )
        self._record(street, "observation", row)


def flow(before: JunctionState | None, now: JunctionState) -> tuple[int | None, float | None]:
    """Vehicles that passed a junction between two of its states, and the same a second: those that
    arrived, less those by which the vehicles on their way became more. None and None where it
    cannot be known: before the second state, and after the street's process has started anew.
    """
    if before is None or now.at_s <= before.at_s or now.arrived < before.arrived:
        return None, None
    passed = max(0, now.arrived - before.arrived - (now.vehicles - before.vehicles))
    return passed, passed / (now.at_s - before.at_s)
