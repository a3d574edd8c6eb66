"""The command that runs one street as a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headway import __version__, telemetry
from headway.cli.environment import refuse_unsafe
from headway.cli.tasks import DEFAULTS, Changes, require_valkey, task_of
from headway.learning.model_files import ModelFiles
from headway.plants.sumo.scenarios import scenario
from headway.roads import PROFILES
from headway.runtime.folder_lock import FolderLockedError, locked
from headway.service.hosting import StreetHost
from headway.service.lease import (
    LEASE_S,
    RENEW_S,
    InPostgres,
    InValkey,
    Lease,
    LeaseError,
    own_name,
)
from headway.service.streets import StreetService
from headway.service.wire import STREET_NAME
from headway.settings import FOLDERS, load, log_level, overridden
from headway.store import Database, Intake, open_database
from headway.street.alerts import alert_rules
from headway.street.messages import Task
from headway.street.permit import Permit
from headway.telemetry.life import SignsOfLife
from headway.telemetry.threads import keep_running

ASK_EVERY_S = 0.5
LOOK_EVERY_S = 0.2
REPLAY_EVERY_S = 2.0  # how often rows that wait on disk are offered to the database again
# a holder that was killed is forgotten by then, and one that lives has renewed its lease
WAIT_S = LEASE_S + 2.0
console = Console()


def street(
    name: Annotated[
        str, typer.Argument(help="Name of the street: small letters, digits and dashes.")
    ],
    scenario_: Annotated[
        str | None,
        typer.Option(
            "--scenario",
            help="Scenario (see `headway scenarios`), or path of a .sumocfg.",
            show_default="street.scenario of the settings, cologne8",
        ),
    ] = None,
    controller: Annotated[
        str, typer.Option(help="Controller.", show_default="control.controller of the settings")
    ] = "",
    speed_factor: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Simulated seconds per second; 0 for as fast as possible.",
            show_default="loop.speed_factor of the settings file, 10",
        ),
    ] = None,
    timing: Annotated[
        str,
        typer.Option(
            help=f"Timing rules: {' or '.join(PROFILES)}.",
            show_default="street.timing of the settings, street",
        ),
    ] = "",
    repeat: Annotated[
        bool, typer.Option(help="Restart the scenario when its demand has ended.")
    ] = True,
    standby: Annotated[
        bool,
        typer.Option(
            "--standby",
            help="Wait while another process runs the street, and take over when it has ended or "
            "is not heard any more.",
        ),
    ] = False,
    config: Annotated[
        str,
        typer.Option(help="Settings file (YAML), followed while running as by `headway run`."),
    ] = "",
    data: Annotated[
        str,
        typer.Option(help="Data folder.", show_default="recovery.folder of the settings, data"),
    ] = "",
) -> None:
    """Run one street as a process of its own, recorded in the database, and found over Valkey by
    every `headway serve --follow`. Ctrl-C or SIGTERM keeps its state; the same command goes on.
    """
    if not STREET_NAME.fullmatch(name):
        raise typer.BadParameter(
            f"no street may be named {name!r}: 1 to 64 small letters, digits and dashes."
        )
    if name in FOLDERS:
        raise typer.BadParameter(f"{name!r} is a folder of its own below the data folder.")
    url = require_valkey("headway street")
    chosen = {"scenario": scenario_ or "", "timing": timing}
    changes: Changes = {
        "street": {key: value for key, value in chosen.items() if value},
        "control": {"controller": controller} if controller else {},
        "loop": {} if speed_factor is None else {"speed_factor": speed_factor},
    }
    settings = overridden(load(config or None, DEFAULTS), changes)
    folder = Path(data or settings.recovery.folder)
    refuse_unsafe(settings, folder, os.environ, has_port=False)
    alert_rules(settings)
    scenario(settings.street.scenario)
    telemetry.set_up(log_level(settings), settings.log.json_lines, settings.log.folder)
    own = folder / name
    task = replace(task_of(config, changes, own), needs_permit=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    database = open_database(folder, pool=settings.database)
    try:
        runner = _Runner(name, url, task, repeat, database, own, ModelFiles(folder / "models"))
        telemetry.log("street").info(
            "a street", street=name, scenario=settings.street.scenario, data=str(folder),
            settings=config, environment=settings.environment, version=__version__,
        )  # fmt: skip
        while not stop.is_set():
            runner.run_as_holder(stop, standby)
    finally:
        database.close()


class _Runner:
    """Takes the lease of the street and runs it while the lease is held."""

    def __init__(
        self,
        name: str,
        url: str,
        task: Task,
        repeat: bool,
        database: Database,
        folder: Path,
        models: ModelFiles,
    ) -> None:
        self._name = name
        self._url = url
        self._task = task
        self._repeat = repeat
        self._database = database
        self._folder = folder
        self._models = models
        self._holder = own_name()
        self._permit: Permit | None = None
        self._signs = SignsOfLife(folder / "street.alive")
        self._log = telemetry.log("street")

    def run_as_holder(self, stop: threading.Event, standby: bool) -> None:
        """Until a stop is requested, or the lease is lost. Raises LeaseError where another process
        runs the street, or it was lost, unless `standby`.
        """
        lease = Lease(
            InValkey(self._url, self._name, self._holder),
            InPostgres(self._database.url, self._name),
            lambda: self._extend(lease),
        )
        if not self._take(lease, stop, standby):
            return
        try:
            with locked(self._folder, f"headway street {self._name}"):
                self._permit = Permit(self._folder, is_new=True)
                self._run(lease, stop, standby)
        except FolderLockedError as error:
            if not standby:
                raise
            self._log.warning("waits for the data folder", street=self._name, why=str(error))
            stop.wait(LEASE_S)
        finally:
            if self._permit is not None:
                self._permit.extend(0.0, 0.0)
            self._permit = None
            is_lost = lease.is_lost
            lease.free()
        if is_lost and not stop.is_set():
            self._log.error("the lease was lost; the street does not drive any more")
            if not standby:
                raise LeaseError(
                    f"the lease of street {self._name!r} was lost: {lease.loss}. The same command "
                    "goes on from the last checkpoint."
                )

    def _extend(self, lease: Lease) -> None:
        if (permit := self._permit) is not None:
            permit.extend(lease.from_s, lease.until_s)

    def _take(self, lease: Lease, stop: threading.Event, standby: bool) -> bool:
        """False where a stop was requested. Raises LeaseError."""
        give_up_s, left_s, is_told = time.monotonic() + WAIT_S, 0.0, False
        while not stop.is_set():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._signs.give()
            if lease.take():
                return True
            is_alive = left_s > 0.0 and lease.left_s > left_s + RENEW_S / 4  # it has renewed it
            left_s = lease.left_s
            if not standby and (is_alive or time.monotonic() > give_up_s):
                raise LeaseError(
                    f"street {self._name!r} cannot begin: {lease.refusal()}. With --standby it "
                    "waits, and begins when it can."
                )
            if standby and not is_told:
                is_told = True
                self._log.info("stands by", street=self._name, why=lease.refusal())
            stop.wait(ASK_EVERY_S)
        return False

    def _run(self, lease: Lease, stop: threading.Event, standby: bool) -> None:
        self._extend(lease)
        host = StreetHost(
            self._url,
            self._name,
            lease.token,
            self._holder,
            lambda: lease.is_valid,
            self._file_here,
        )
        intake = Intake(self._database, self._folder, self._task.settings.spool)
        service = StreetService(host.hear, intake, keeps_runs=True)
        service.on_signals = host.hear_colours
        host.begin(service)
        self._log.info("runs the street", street=self._name, token=lease.token, holder=self._holder)
        ended = threading.Event()
        with contextlib.ExitStack() as at_end:
            at_end.callback(host.close)
            at_end.callback(service.stop)
            at_end.callback(ended.set)
            keep_running("replay spool", partial(_replay, intake, ended), ended)
            service.start(self._name, self._task, self._repeat)
            while not lease.is_lost and not stop.wait(LOOK_EVERY_S):
                self._signs.give()
            if stop.is_set() or not standby:  # or systemd would kill what goes on and waits
                self._signs.end()

    def _file_here(self, sha256: str) -> Path:
        self._models.bring(sha256)
        return self._models.path(sha256)


def _replay(intake: Intake, ended: threading.Event) -> None:
    """Nobody else asks a database that had hung: who writes does not wait for it again."""
    while not ended.wait(REPLAY_EVERY_S):
        intake.catch_up()
