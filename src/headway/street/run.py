"""One run of a street: the closed loop with its event log and its checkpoints, as the real-time
loop drives it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from headway.plants import PlantError
from headway.plants.sumo import SumoSettings, network_of
from headway.plants.sumo.scenarios import Scenario, demand_of, fitting_step_s, scenario
from headway.roads import Network
from headway.runtime import FigureLimits, RealTimeController
from headway.runtime.pacing import Schedule
from headway.runtime.supervisor import Outbox
from headway.settings import Settings
from headway.street import checkpoint, load_tries
from headway.street.closed_loop import TIME_TOLERANCE_S, Street, stopped_vehicles
from headway.street.deployed import Deployed
from headway.street.event_lines import SAFETY, EventLines
from headway.street.event_log import EventLog
from headway.street.external.rows import AgeLimits
from headway.street.guard import name_of
from headway.street.junction_states import junction_states
from headway.street.limits import timing_of, without_unknown_junctions
from headway.street.messages import JunctionState, Reporting, Snapshot, Task
from headway.street.opening import open_street
from headway.street.state_file import StateError
from headway.street.step_mark import hung, open_mark
from headway.values import Event

LIMITS = {
    "vehicles": FigureLimits(0.0, 1e6),
    "speed_mps": FigureLimits(0.0, 150.0),
    "longest_wait_s": FigureLimits(0.0, 1e6),
}
EMISSION_PERIOD_S = 5.0
REPORT_PERIOD_S = 1.0  # wall time
MOST_NOT_CONTROLLED = 50  # events at a start; a city may have hundreds
TICK_MEAN_OVER = 100  # ticks whose mean work a snapshot reports


class EventRecorder:
    """Takes each event of a street to the event log, to the watching process and to the component's
    log. interventions: safety events so far.
    """

    def __init__(self, log: EventLog, outbox: Outbox) -> None:
        self.log = log
        self.interventions = 0
        self._outbox = outbox
        self._lines = EventLines()

    def record(self, event: Event) -> None:
        self.interventions += event.kind.startswith(SAFETY)
        self.log.append(event)
        self._outbox.put(event, keep=True)
        self._lines.write(event)

    @property
    def trouble(self) -> str:
        """Why events are not on disk, and what was lost on its way; empty where all is well."""
        found = [self.log.trouble]
        if self.log.lost:
            found.append(f"{self.log.lost} events lost: the disk took none for too long")
        if self._outbox.lost:
            found.append(f"{self._outbox.lost} messages lost: nobody read them for too long")
        return "; ".join(filter(None, found))


@dataclass
class StreetRun:
    """A street under way. The real-time loop sees it as `headway.runtime.Driven`.

    checkpoints: folder of this run's checkpoints, by its `key` below the folder of all.
    tick_s:      simulated seconds of one tick of the street.
    reporting:   what snapshots carry.
    emission_reported_s: simulated time at which emissions were last reported.
    report_schedule: of the loop's status report, by `clock` (wall seconds).
    """

    street: Street
    scenario: Scenario
    recorder: EventRecorder
    checkpoints: Path
    key: str
    tick_s: float
    reporting: Reporting = field(default_factory=lambda: Reporting(scene=False, record=False))
    emission_reported_s: float = -math.inf
    report_schedule: Schedule = field(default_factory=Schedule)
    clock: Callable[[], float] = time.monotonic

    @property
    def time_s(self) -> float:
        """Simulated time."""
        return self.street.plant.time_s

    @property
    def running(self) -> bool:
        """The simulation still has vehicles under way or to come."""
        return self.street.plant.running

    def record(self, kind: str, data: Mapping[str, Any], at_s: float | None = None) -> None:
        """Record an event of the whole street, of now unless `at_s` says otherwise."""
        self.recorder.record(Event(self.time_s if at_s is None else at_s, kind, "", data))

    def advance(self, period_s: float, shortest_s: float) -> None:
        """As many ticks as the period holds, at least one; then events are on disk. Raises
        PlantError if the plant's time does not go on.
        """
        for _ in range(max(round(period_s / self.tick_s), 1)):
            begun_s = self.time_s
            self.street.tick(self.tick_s)
            if not self.time_s > begun_s:
                raise PlantError(f"the plant's time stands still at {begun_s:g} s")
        self.recorder.log.flush()

    def state(self) -> dict[str, Any]:
        """Figures of the whole street, and of `junctions` by name: vehicles, queue (stopped
        vehicles), longest_wait_s, confidence, congested (approaches). `states`: the same as values.
        """
        states = junction_states(self.street)
        junctions = {
            j.junction: {
                "vehicles": j.vehicles,
                "queue": j.stopped,
                "longest_wait_s": j.longest_wait_s,
                "confidence": j.confidence,
                "congested": len(j.congested),
            }
            for j in states
        }
        vehicles = self.street.observation.vehicles
        stopped = stopped_vehicles(vehicles)
        return {
            "time_s": self.time_s,
            "vehicles": len(vehicles),
            "stopped": stopped,
            "halted": stopped,  # its old name, until 0.2 (docs/deprecated.md)
            "source": self.street.gate.source.name.lower(),
            "junctions": junctions,
            "states": states,
        }

    def figures(self) -> dict[str, float]:
        """What LIMITS bound: vehicles, highest speed (m/s), longest wait (s)."""
        v = self.street.observation.vehicles
        return {
            "vehicles": float(len(v)),
            "speed_mps": float(v.speed_mps.max(initial=0.0)),
            "longest_wait_s": float(v.waiting_s.max(initial=0.0)),
        }

    def checkpoint(self) -> None:
        """Write a checkpoint; every event before it is on disk first. Raises OSError."""
        self.recorder.log.flush()
        street = self.street
        checkpoint.save(
            folder=self.checkpoints,
            key=self.key,
            time_s=self.time_s,
            plant=street.plant,
            state=street.state(),
            classes=street.state_classes(),
        )

    def move_checkpoints(self, key: str) -> None:
        """From now on the run has another key: a checkpoint is written under it, and those under
        the old one are deleted. Raises OSError, with nothing changed.
        """
        before = self.checkpoints, self.key
        self.checkpoints, self.key = checkpoint.folder_of(self.checkpoints.parent, key), key
        try:
            self.checkpoint()
        except OSError:
            self.checkpoints, self.key = before
            raise
        checkpoint.clear(before[0])

    def roll_back(self) -> None:
        """Always raises RuntimeError: libsumo cannot be trusted after a fault."""
        raise RuntimeError(
            "a street cannot go back by a second; its process starts anew from the last checkpoint"
        )

    restore = reinitialise = restart = roll_back

    def snapshot(self, loop: RealTimeController, junctions: tuple[JunctionState, ...]) -> Snapshot:
        """The street as it is now. junctions: at the last tick."""
        street, pacing = self.street, loop.pacer.report()
        speed = loop.settings.speed_factor
        vehicles = street.observation.vehicles
        recent = list(street.durations.rows)[-TICK_MEAN_OVER:]
        tick_ms = 1e3 * sum(map(sum, recent)) / max(len(recent), 1)
        return Snapshot(
            time_s=self.time_s,
            begin_s=self.scenario.begin_s,
            end_s=self.scenario.end_s,
            vehicles=len(vehicles),
            stopped=stopped_vehicles(vehicles),
            source=street.gate.source.name.lower(),
            interventions=self.recorder.interventions,
            cycles=street.loop_state.cycles,
            cycles_ok=street.loop_state.cycles_ok,
            budget_ms=1e3 * self.tick_s / speed if speed else 0.0,
            overruns=pacing.overruns,
            jitter_p99_s=pacing.jitter_p99_s,
            tick_ms=tick_ms,
            checkpoint_s=loop.last_checkpoint_s,
            trouble=self.recorder.trouble,
            junctions=junctions,
            mode=loop.optimizer.mode.name,
            controller=name_of(street.controller),
            shown=street.plant.shown.tobytes(),
            scene=street.plant.scene() if self.reporting.scene else None,
            profile=loop.profiler.figures(),
            emission=self._emission(),
            report=self._report(loop),
            speed_factor=loop.settings.speed_factor,
            cycle_s=street.cycle_s,
            sources=street.external.states(self.time_s),
            models=street.rollout.report(name_of(street.controller), tick_ms),
        )

    def _emission(self) -> tuple[int, float, float] | None:
        """Vehicles, fuel mg/s, CO2 mg/s; None between two reports."""
        due_s = self.emission_reported_s + EMISSION_PERIOD_S
        if not self.reporting.record or self.time_s < due_s:
            return None
        self.emission_reported_s = self.time_s
        return self.street.plant.emissions()

    def _report(self, loop: RealTimeController) -> dict[str, Any] | None:
        """The loop's status report; None between two of them."""
        now = self.clock()
        if not self.report_schedule.is_due(now):
            return None
        self.report_schedule.advance(now, REPORT_PERIOD_S)
        return loop.report(with_plant=False).as_json()

    def close(self) -> None:
        """Write what events are left, and end the simulation."""
        self.recorder.log.close()
        self.street.plant.close()


def open_run(
    task: Task,
    key: str,
    outbox: Outbox,
    resume: bool = True,
    open_street: Callable[..., Street] = open_street,
    deployed: Deployed | None = None,
) -> StreetRun:
    """The run of `task`, which `key` identifies: from its newest checkpoint that can be loaded if
    there is one and `resume`, else from its beginning. deployed: models that were ordered. Raises
    ValueError, OSError or PlantError if the scenario cannot be started.
    """
    s = task.settings
    of_scenario = scenario(s.street.scenario)
    network = network_of(of_scenario)
    folder = Path(s.recovery.folder)
    own = checkpoint.folder_of(folder / load_tries.FOLDER, key)

    limited, unknown = without_unknown_junctions(s, network)
    recorder = EventRecorder(EventLog(folder / "events.jsonl"), outbox)
    opener = partial(
        open_street,
        network=network,
        timing=timing_of(limited, network),
        controller=s.control.controller,
        record=recorder.record,
        fallback=s.control.fallback,
        cycle_s=s.loop.cycle_s,
        confidence_threshold=s.control.confidence,
        settings=s,
        relief=relief_of(s),
        step_within_s=s.control.step_within_s,
        mark=open_mark(folder),
        hung=hung(folder),
        **({} if deployed is None else {"deployed": deployed}),
    )
    usable, refused = checkpoint.found(own, key) if resume else ([], [])
    street, found = _newest_street(opener, sumo_settings(s, of_scenario), usable, refused)
    street.external.limits = AgeLimits(s.external.oldest_s, s.external.ahead_s)
    run = StreetRun(
        street=street,
        scenario=of_scenario,
        recorder=recorder,
        checkpoints=own,
        key=key,
        tick_s=s.loop.tick_s,
    )
    if found is None and resume:
        refused += checkpoint.of_earlier_versions(folder / load_tries.FOLDER)
        refused += checkpoint.of_other_files(folder / load_tries.FOLDER, key)
    _record_start(run, task, found, refused)
    _record_not_controlled(run, network)
    if unknown:
        known = ", ".join(junction.id for junction in network.junctions)
        fault = f"safety.junctions: no junction {', '.join(unknown)} here. There are: {known}."
        run.record("engine.settings_refused", {"fault": fault})
    return run


def _newest_street(
    opener: Callable[..., Street],
    start: SumoSettings,
    usable: list[checkpoint.Checkpoint],
    refused: list[checkpoint.Refused],
) -> tuple[Street, checkpoint.Checkpoint | None]:
    """The street from the first of `usable` that can be loaded; those before it are added to
    `refused`. From the beginning where there is none.
    """
    if start.is_elsewhere:
        return _street_elsewhere(opener, start, usable, refused)
    for found in usable:
        try:
            load_tries.begin(found.folder)
            street = _loaded(opener, start, found)
            load_tries.end(found.folder)
            return street, found
        except (PlantError, ValueError, OSError) as error:
            refused.append(checkpoint.Refused(found.folder.name, str(error)))
    return opener(sumo=start), None


def _street_elsewhere(
    opener: Callable[..., Street],
    start: SumoSettings,
    usable: list[checkpoint.Checkpoint],
    refused: list[checkpoint.Refused],
) -> tuple[Street, checkpoint.Checkpoint | None]:
    """As `_newest_street`, of a SUMO that somebody else has started: it ends with its connection,
    so it is asked once, and where it stands says which state was loaded there.
    """
    street = opener(sumo=start)
    try:
        at_s = street.plant.time_s
        for found in usable:
            why = (
                f"the SUMO at {start.remote} stands at {at_s:g} s. To go on from here, start it "
                f"with --load-state {found.plant}"
            )
            try:
                if abs(at_s - found.time_s) <= TIME_TOLERANCE_S:
                    street.resume(found.street(street.state_classes()))
                    return street, found
            except (ValueError, OSError) as error:
                why = str(error)
            refused.append(checkpoint.Refused(found.folder.name, why))
    except BaseException:
        street.plant.close()
        raise
    return street, None


def _loaded(
    opener: Callable[..., Street], start: SumoSettings, found: checkpoint.Checkpoint
) -> Street:
    """Raises PlantError, ValueError or OSError; no simulation is left then.

    A state is loaded at SUMO's start: a simulation under way would let vehicles that have already
    arrived depart again.
    """
    load = ("--load-state", str(found.plant))
    street = opener(sumo=replace(start, extra=(*start.extra, *load)))
    try:
        if abs(street.plant.time_s - found.time_s) > TIME_TOLERANCE_S:
            raise StateError(f"the plant's state is of {street.plant.time_s:g} s")
        street.resume(found.street(street.state_classes()))
    except BaseException:
        street.plant.close()
        raise
    return street


def sumo_settings(settings: Settings, of_scenario: Scenario) -> SumoSettings:
    """How SUMO starts with a scenario, by the settings."""
    street, sumo = settings.street, settings.sumo
    options = [(f"--{name}", _option(value)) for name, value in sumo.options.items()]
    return SumoSettings(
        of_scenario.sumocfg,
        street.seed,
        street.scale,
        range_m=sumo.range_m,
        sensing=street.sensing,
        extra=tuple(part for option in options for part in option),
        remote=sumo.remote,
        binary=sumo.binary,
        step_s=_step_s(settings, of_scenario),
        teleport_s=sumo.teleport_s,
    )


def _step_s(settings: Settings, of_scenario: Scenario) -> float | None:
    """Of the simulation, so that a tick has whole steps; None for the scenario's own. Raises
    ValueError where the settings give both, and they do not fit.
    """
    tick_s, given_s = settings.loop.tick_s, settings.sumo.step_s
    if settings.street.sensing == "rendered":  # a step is a frame of the cameras
        return given_s
    step_s = fitting_step_s(tick_s, given_s or of_scenario.step_s)
    if given_s is None:
        return None if step_s == of_scenario.step_s else step_s
    if step_s != given_s:
        raise ValueError(
            f"settings: loop.tick_s: {tick_s:g} s is no multiple of sumo.step_s, {given_s:g} s. "
            "Change one of them."
        )
    return given_s


def _option(value: object) -> str:
    """As SUMO's command line takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def relief_of(settings: Settings) -> str:
    """Name of the controller for congested junctions; empty for none."""
    name = settings.control.on_congestion
    return "" if name == "none" else name


def _record_not_controlled(run: StreetRun, network: Network) -> None:
    """An event for each junction or link that is left alone, the first MOST_NOT_CONTROLLED."""
    for left in network.not_controlled[:MOST_NOT_CONTROLLED]:
        run.record("engine.not_controlled", {"signals": list(left.tl_ids), "reason": left.reason})
    more = len(network.not_controlled) - MOST_NOT_CONTROLLED
    if more > 0:
        run.record("engine.not_controlled", {"signals": [], "reason": f"{more} more"})


def _record_start(
    run: StreetRun,
    task: Task,
    found: checkpoint.Checkpoint | None,
    refused: list[checkpoint.Refused],
) -> None:
    """Record how the run starts, and which checkpoints it was not resumed from."""
    s = task.settings
    about: dict[str, Any] = {
        "scenario": run.scenario.name,
        "demand": demand_of(run.scenario),
        "net": run.scenario.net,
        "controller": s.control.controller,
    }
    if models := run.street.rollout.deployed.in_force():
        about["models"] = models
        about["controller"] = models.get("champion", {}).get("model", about["controller"])
    if run.scenario.additional:
        about["additional"] = list(run.scenario.additional)
    at_s = run.scenario.begin_s if found is None else found.time_s
    if found is None:
        run.record("engine.started", {**about, "run": run.key}, at_s)
    else:
        lost = {"checkpoint_s": found.time_s, "lost_up_to_s": s.recovery.checkpoint_s}
        run.record("engine.restored", {**about, **lost}, at_s)
    for name, why in refused:
        run.record("engine.checkpoint_refused", {"checkpoint": name, "why": why}, at_s)
    run.recorder.log.flush()
